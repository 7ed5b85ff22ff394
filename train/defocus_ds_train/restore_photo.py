"""Photos to restore: any file the product reads, its luma, and the PNG that comes back."""

from __future__ import annotations

import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.config import BuildConfig
from defocus_ds.errors import CaptureUnreadable
from defocus_ds.frames import Bracket, Capture, FloatImage, Level, UInt8Image
from defocus_ds.stages.bit_depth import few_bits
from defocus_ds.stages.decode_image import decode_stored, to_uint8_rgb
from defocus_ds.stages.ingest.colour_space import tones_like_srgb
from defocus_ds.stages.ingest.header import Header, read_header
from defocus_ds.stages.tile import luma

__all__ = ["Photo", "encode_png", "read_photo"]

_BAND = 256  # rows recoloured at a time: bounds the float copies
_LARGEST_PROFILE = 4 * 2**20
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-T T.871, as Pillow's luma


@dataclass(frozen=True, slots=True)
class Photo:
    """Pixels of a photo as they are restored, and what a viewer needs beside them.

    Attributes:
        pixels: (H, W) or (H, W, 3) RGB, uint8 or uint16.
        orientation: EXIF's 1 to 8; not applied to the pixels.
        profile: ICC profile, or None.
        notes: what was left out.
    """

    pixels: npt.NDArray[Any]
    orientation: int = 1
    profile: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> int:
        return 8 * self.pixels.itemsize

    @property
    def luma(self) -> UInt8Image | FloatImage:
        """(H, W): of 8 bits uint8, the luma that networks are trained on; of 16 bits float32 in
        [0, 1], the same weights without their rounding."""
        if self.pixels.dtype == np.uint8:
            return self.pixels if self.pixels.ndim == 2 else luma(self.pixels)
        if self.pixels.ndim == 2:
            return self.pixels.astype(np.float32) / np.float32(65535)
        values = np.empty(self.pixels.shape[:2], np.float32)
        for top in range(0, len(values), _BAND):
            band = self.pixels[top : top + _BAND]
            values[top : top + _BAND] = (band @ _WEIGHTS) / 65535
        return values

    def with_luma(self, change: FloatImage) -> npt.NDArray[Any]:
        """The pixels with another luma and the same chroma.

        Args:
            change: (H, W) float32, what is added to the luma, in units of [0, 1].  The same is
                added to R, G and B, which leaves Cb and Cr as they are.

        Returns:
            Of the pixels' shape and type, rounded; equal to them where ``change`` is 0.
        """
        white = np.float32(np.iinfo(self.pixels.dtype).max)
        result = np.empty_like(self.pixels)
        for top in range(0, len(result), _BAND):
            band = self.pixels[top : top + _BAND].astype(np.float32)
            added = change[top : top + _BAND] * white
            band += added if band.ndim == 2 else added[..., None]
            np.clip(np.rint(band, out=band), 0, white, out=band)
            result[top : top + _BAND] = band
        return result


def read_photo(path: Path, *, config: BuildConfig) -> Photo:
    """Read a JPEG, PNG or TIFF file of 8 or 16 bits, or develop a raw.

    Args:
        path: any file that `scan` takes for a capture.  A raw is developed as a scene's sharp
            capture would be, with its own white balance and fixed levels.
        config: only ``develop`` and ``limits`` are used.

    Raises:
        CaptureUnreadable: damaged, or not what its name says; the text begins with its name.
        DevelopFailed: a raw without a usable white balance.
        WorkerDied: the raw decoder hit a limit.
    """
    header = read_header(path, limits=config.limits)
    if header.info.kind == "raw":
        return Photo(_develop(path, header, config), header.orientation, None, header.remarks)
    return _stored_photo(path, config.develop.white)


def encode_png(photo: Photo, pixels: npt.NDArray[Any]) -> bytes:
    """The bytes of a PNG file with the photo's orientation and profile; no time stamp.

    Args:
        photo: whose orientation and profile it gets.
        pixels: (H, W) or (H, W, 3) RGB, uint8 or uint16.
    """
    import cv2

    # the options of `defocus_ds.store.write_png`
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY]
    options += [cv2.IMWRITE_PNG_STRATEGY_RLE]
    ordered = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(ordered), options)
    assert done
    data = encoded.tobytes()
    after_header = 8 + 12 + 13
    extra = b""
    if photo.profile is not None:
        extra += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.profile))
    if photo.orientation != 1:
        # a TIFF directory of one entry: Orientation, SHORT, one value
        entry = struct.pack("<HHIHH", 0x0112, 3, 1, photo.orientation, 0)
        extra += _chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4))
    return data[:after_header] + extra + data[after_header:]


def _develop(path: Path, header: Header, config: BuildConfig) -> UInt8Image:
    from defocus_ds.stages.develop import develop, plan_development

    capture = Capture(path, Level.SHARP, Level.SHARP.offset, header.info)
    development = plan_development(
        Bracket(path.stem, (capture,)), config.develop, limits=config.limits
    )
    with tempfile.TemporaryDirectory(prefix="defocus-ds-") as folder:
        target = Path(folder) / "developed.npy"
        develop(capture, development=development, limits=config.limits, target=target)
        pixels: UInt8Image = np.load(target, allow_pickle=False)
    return pixels


def _stored_photo(path: Path, white: int) -> Photo:
    """A photo in its own colour space where its tones are like those of sRGB, else in sRGB."""
    stored = decode_stored(path, path.read_bytes())
    found = few_bits([stored.highest], white=white, declared=stored.colour is not None)
    if found is not None and found.certain:
        raise CaptureUnreadable(f"{path.name}: {found}")
    header, space = stored.header, stored.colour
    notes = [*header.remarks, *([str(found)] if found is not None else [])]
    profile = header.profile or None
    if space is not None and not (space.embedded and tones_like_srgb(space.profile) and not white):
        notes.append(f"its colours are converted to sRGB from {space.name}")
        pixels, profile = stored.in_srgb(white=white), None
        if stored.pixels.dtype == np.uint8:
            pixels = to_uint8_rgb(pixels)
        if header.grey:
            pixels = np.ascontiguousarray(pixels[..., 0])
    elif space is not None:
        pixels = stored.pixels
    else:
        pixels = stored.in_srgb(white=white)
    if profile is not None and (
        profile[16:20] != (b"GRAY" if header.grey else b"RGB ") or len(profile) > _LARGEST_PROFILE
    ):
        notes.append("its colour profile does not fit the result and is left out")
        profile = None
    return Photo(pixels, header.exif.orientation, profile, tuple(notes))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
