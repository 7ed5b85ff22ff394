"""Photos to restore: any file the product reads, its luma, and the PNG that comes back."""

from __future__ import annotations

import io
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
from defocus_ds.stages.ingest.header import Header, read_header
from defocus_ds.stages.tile import luma

__all__ = ["Photo", "encode_png", "read_photo"]

_BAND = 256  # rows recoloured at a time: bounds the float copies
_LARGEST_PROFILE = 4 * 2**20
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-T T.871, as Pillow's luma


@dataclass(frozen=True, slots=True)
class Photo:
    """Pixels as stored in the file, and what a viewer needs beside them.

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
    data = path.read_bytes()
    grey, profile, notes = _describe(path, data)
    pixels = _decode(path, data, header.info.bits)
    if pixels.shape[:2] != (header.info.height, header.info.width):
        raise CaptureUnreadable(
            f"{path.name}: decodes to {pixels.shape[1]}x{pixels.shape[0]}, but its header says "
            f"{header.info.width}x{header.info.height}. The file is damaged; copy it again."
        )
    if grey and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 0])
    return Photo(pixels, header.orientation, profile, (*header.remarks, *notes))


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


def _describe(path: Path, data: bytes) -> tuple[bool, bytes | None, tuple[str, ...]]:
    """Whether it is grey, its colour profile, and notes; its header was checked before."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the size was checked against our own limit
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
            grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
            profile = image.info.get("icc_profile")
    except (OSError, SyntaxError, ValueError) as error:
        raise CaptureUnreadable(
            f"{path.name}: its header cannot be read ({error}). Copy it again."
        ) from error
    if not isinstance(profile, bytes) or not profile:
        return grey, None, ()
    if profile[16:20] != (b"GRAY" if grey else b"RGB ") or len(profile) > _LARGEST_PROFILE:
        return grey, None, ("its colour profile does not fit the result and is left out",)
    return grey, profile, ()


def _decode(path: Path, data: bytes, bits: int) -> npt.NDArray[Any]:
    if bits == 8:
        from defocus_ds.stages.decode_image import decode_image

        return decode_image(path, data)
    import cv2

    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise CaptureUnreadable(
            f"{path.name}: its 16-bit pixels cannot be decoded; the file is damaged. Copy it again."
        )
    if decoded.ndim == 3 and decoded.shape[2] < 3:
        return np.ascontiguousarray(decoded[..., 0])
    return decoded if decoded.ndim == 2 else np.ascontiguousarray(decoded[..., 2::-1])


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
