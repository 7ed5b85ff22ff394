"""defocus-ds: trustworthy defocus-deblurring datasets from focus-bracketed shoots.

The public names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from defocus_ds.dataset.adapters import as_torch, as_webdataset
    from defocus_ds.dataset.crop import crop
    from defocus_ds.dataset.loaders import load_crops
    from defocus_ds.dataset.verify import verify
    from defocus_ds.measure.sharpness import sharpness_q
    from defocus_ds.pipeline import build, status
    from defocus_ds.pipeline.pair import load_pair
    from defocus_ds.stages.colour import match_colour
    from defocus_ds.stages.ingest import scan
    from defocus_ds.stages.register import register

__all__ = [
    "as_torch",
    "as_webdataset",
    "build",
    "crop",
    "load_crops",
    "load_pair",
    "match_colour",
    "register",
    "scan",
    "sharpness_q",
    "status",
    "verify",
]

_HOMES = {
    "as_torch": "defocus_ds.dataset.adapters",
    "as_webdataset": "defocus_ds.dataset.adapters",
    "build": "defocus_ds.pipeline",
    "crop": "defocus_ds.dataset.crop",
    "load_crops": "defocus_ds.dataset.loaders",
    "load_pair": "defocus_ds.pipeline.pair",
    "match_colour": "defocus_ds.stages.colour",
    "register": "defocus_ds.stages.register",
    "scan": "defocus_ds.stages.ingest",
    "sharpness_q": "defocus_ds.measure.sharpness",
    "status": "defocus_ds.pipeline",
    "verify": "defocus_ds.dataset.verify",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("defocus-ds")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
