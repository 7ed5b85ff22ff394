"""Registration: where each pixel of the sharp capture lies in the blurred one.

The names are loaded on first use: reading a radius map must not cost the import of a compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from defocus_ds.stages.register.alignment import Alignment, ResidualGrid
    from defocus_ds.stages.register.stage import register

__all__ = ["Alignment", "ResidualGrid", "register"]

_HOMES = {"Alignment": "alignment", "ResidualGrid": "alignment", "register": "stage"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
