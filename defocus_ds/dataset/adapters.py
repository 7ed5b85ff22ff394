"""Crops for training loops: as a torch Dataset, and as a WebDataset pipeline over an export."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from defocus_ds.dataset.export.stream import recorded_tars, samples
from defocus_ds.dataset.loaders import Crops, decode_crop
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.frames import Crop, UInt8Image
from defocus_ds.wording import INSTALL_EXPORT, INSTALL_TRAIN

if TYPE_CHECKING:
    from torch.utils.data import Dataset

__all__ = ["as_torch", "as_webdataset"]

_DTYPES = ("float32", "uint8")


def as_torch(crops: Crops | Sequence[Crop], *, dtype: str = "float32") -> Dataset[dict[str, Any]]:
    """A map-style ``torch.utils.data.Dataset`` of crops, for a ``DataLoader`` with any workers.

    Args:
        crops: from `defocus_ds.load_crops`.
        dtype: "float32", in [0, 1], or "uint8".

    Returns:
        Items ``{"sharp", "blurred", "row"}``: two (1, size, size) tensors, and the columns without
        pixels.  A number that a row lacks is NaN, for the default collation takes no None.

    Raises:
        TypeError: a path in the place of crops.
        InputError: another dtype, or torch is not installed.
        DatasetError: when a crop is damaged and asked for; the text names shard and row.
    """
    _check_dtype(dtype)
    if isinstance(crops, str | Path):
        raise TypeError(
            f"as_torch: crops is the path {str(crops)!r}; give what "
            "defocus_ds.load_crops(path, level=..., split=...) returns."
        )
    dataset: Dataset[dict[str, Any]] = _torch_class()(crops, dtype)
    return dataset


def as_webdataset(
    out: Path | str, *, level: str, split: str, dtype: str = "float32", check: bool = False
) -> Any:
    """A pipeline of the webdataset library over the tars of one level and split, in order.

    Add ``.shuffle(2000)``, ``.to_tuple("blurred", "sharp")`` or ``.batched(16)`` to it, or give it
    to a ``DataLoader``.  Tars are shared out among workers and among processes: with more workers
    than tars the others have nothing to do.  PNG and JSON are the only things that are decoded.

    Args:
        out: folder that ``defocus-ds export --to webdataset`` made, or its URL, which fsspec opens
            ("https://...", "s3://..."); every tar is then read in one piece, each time anew.
        level, split: as exported.
        dtype: "float32", in [0, 1], or "uint8".
        check: compare every crop's pixels with its SHA-256.

    Returns:
        The pipeline, to iterate over.  Items are those of `as_torch`, with NumPy arrays in the
        place of tensors (the default collation makes tensors of them), and ``__key__``.

    Raises:
        InputError: another dtype, or webdataset is not installed.
        DatasetError: not such an export, no such level or split, or a tar that is missing or of
            another length (behind a URL when it is read); and when a damaged crop is read: the
            text names tar and crop.
    """
    _check_dtype(dtype)
    tars = recorded_tars(out, level=level, split=split)
    try:
        import webdataset
    except ImportError as error:
        raise InputError(f"as_webdataset needs webdataset: {INSTALL_EXPORT}") from error

    pipeline = webdataset.FluidWrapper(webdataset.SimpleShardList(list(tars)))
    return pipeline.compose(
        webdataset.split_by_node,
        webdataset.split_by_worker,
        functools.partial(samples, tars=tars),
    ).map(functools.partial(_decoded, dtype=dtype, check=check))


def _check_dtype(dtype: str) -> None:
    if dtype not in _DTYPES:
        raise InputError(f"dtype {dtype!r}: one of {', '.join(_DTYPES)}.")


def _pixels(image: UInt8Image, dtype: str) -> npt.NDArray[Any]:
    """(1, H, W) of its own memory, which torch may write to."""
    pixels: npt.NDArray[Any] = np.array(image[None])
    return pixels if dtype == "uint8" else pixels.astype(np.float32) / np.float32(255)


def _collatable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in row.items()}


@functools.cache
def _torch_class() -> Any:
    try:
        import torch
        from torch.utils.data import Dataset
    except ImportError as error:
        raise InputError(f"as_torch needs torch: {INSTALL_TRAIN}") from error

    class TorchCrops(Dataset[dict[str, Any]]):
        """Crops as tensors."""

        def __init__(self, crops: Crops | Sequence[Crop], dtype: str) -> None:
            self.crops = crops
            self.dtype = dtype

        def __len__(self) -> int:
            return len(self.crops)

        def __getitem__(self, index: int) -> dict[str, Any]:
            crop = self.crops[index]
            return {
                "sharp": torch.from_numpy(_pixels(crop.sharp, self.dtype)),
                "blurred": torch.from_numpy(_pixels(crop.blurred, self.dtype)),
                "row": _collatable(crop.row),
            }

        def __reduce__(self) -> tuple[Any, ...]:
            # a class made inside a function cannot be found by name in a spawned worker
            return functools.partial(as_torch, dtype=self.dtype), (self.crops,)

    return TorchCrops


def _decoded(sample: dict[str, Any], *, dtype: str, check: bool) -> dict[str, Any]:
    """A sample's files as pixels and row."""
    where = f"{sample['__url__']}: {sample['__key__']}"
    try:
        row = json.loads(sample["json"])
        images = {kind: {"bytes": sample[f"{kind}.png"]} for kind in ("sharp", "blurred")}
        crop = decode_crop(row | images, where=where, check=check)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not a crop of an export ({error!r}).") from error
    return {
        "__key__": sample["__key__"],
        "sharp": _pixels(crop.sharp, dtype),
        "blurred": _pixels(crop.blurred, dtype),
        "row": _collatable(crop.row),
    }
