"""Develop: one recipe for a whole bracket, decoded in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from defocus_ds.config import DevelopConfig, LimitsConfig
from defocus_ds.errors import DevelopFailed
from defocus_ds.frames import Bracket, Capture
from defocus_ds.optics import Transfer
from defocus_ds.stages.bit_depth import few_bits
from defocus_ds.stages.decoding import Decoder, run_decoder
from defocus_ds.stages.ingest.header import read_header
from defocus_ds.store import atomic_path

__all__ = ["DevelopRecord", "Development", "check_bit_depth", "develop", "plan_development"]

# raw levels LibRaw uses for a camera whose masked pixels must agree with them: black, white
_KNOWN_LEVELS = {"Canon EOS 5D Mark III": (2048, 15488)}


@dataclass(frozen=True, slots=True)
class Development:
    """How every capture of one bracket becomes 8-bit RGB.

    Attributes:
        kind: "raw" or "image".
        recipe: "fixed", "libraw-defaults", or "stored" for images.
        demosaic: LibRaw's name; None for images.
        white_balance: (R, G, B) multipliers of the sharp frame, G = 1; None when not fixed.
        black_levels: raw levels of R, G, B, G2 that become 0; None when not fixed.
        white: raw level that becomes 255, of images with 16 bits the sample; None when not fixed.
        transfer: curve the 8-bit values are encoded with.
    """

    kind: str
    recipe: str
    demosaic: str | None
    white_balance: tuple[float, float, float] | None
    black_levels: tuple[int, int, int, int] | None
    white: int | None
    transfer: Transfer

    @property
    def black(self) -> int | None:
        return None if self.black_levels is None else min(self.black_levels)

    def to_record(self) -> dict[str, Any]:
        """JSON values, for receipts and the manifest."""
        return asdict(self) | {"black": self.black, "transfer": str(self.transfer)}


@dataclass(frozen=True, slots=True)
class DevelopRecord:
    """What was developed and from what.

    Attributes:
        width, height: of the developed image in pixels.
        source_sha256, pixels_sha256: of the file, and of the developed pixels.
        demosaic: LibRaw's name; None for images, as the next four.
        transfer: curve the 8-bit values are encoded with.
        black_measured: raw levels of R, G, B, G2, from the masked pixels of a camera whose levels
            are known, else as LibRaw reports them.
        white_balance_read, white_level: what LibRaw read of this frame, whether the recipe used
            them or not.
        libraw: its version.
        colour_space: what an image was converted to sRGB from; None: nothing was.
        highest: largest stored sample of an image of 16 bits.
    """

    width: int
    height: int
    source_sha256: str
    pixels_sha256: str
    demosaic: str | None
    transfer: str
    black_measured: tuple[int, ...] | None = None
    white_balance_read: tuple[float, ...] | None = None
    white_level: int | None = None
    libraw: str | None = None
    colour_space: str | None = None
    highest: int | None = None

    def to_record(self) -> dict[str, Any]:
        """JSON values, for receipts and the manifest."""
        return asdict(self)


def plan_development(
    bracket: Bracket, config: DevelopConfig, *, limits: LimitsConfig | None = None
) -> Development:
    """Decide how a bracket is developed, from its sharp capture.

    Raws of a camera whose levels are known (the EOS 5D Mark III) are planned from the header
    alone; for others LibRaw reads the levels of the sharp capture, in a process of its own.

    Args:
        bracket: the captures of one scene.
        config: recipe and demosaic algorithm.
        limits: of that process; default `LimitsConfig()`.

    Raises:
        DevelopFailed: the sharp capture has no usable white balance.
        CaptureUnreadable: LibRaw cannot read it.
        WorkerDied: a limit was hit.
    """
    info = bracket.sharp.info
    if info.kind == "image":
        white = config.white or None
        return Development("image", "stored", None, None, None, white, Transfer.SRGB)
    if config.recipe != "fixed":
        return Development("raw", config.recipe, config.demosaic, None, None, None, Transfer.BT709)
    balance = info.white_balance
    levels = _KNOWN_LEVELS.get(info.model or "")
    if levels is not None:
        blacks, white = (levels[0], levels[0], levels[0], levels[0]), levels[1]
    else:
        found = run_decoder(
            "inspect", bracket.sharp.path, limits=limits or LimitsConfig(), levels=True
        )
        blacks, white = tuple(found["black_levels"]), found["white"]
        if balance is None and found["white_balance"] is not None:
            balance = tuple(found["white_balance"])
    if balance is None or not min(balance) > 0:
        raise DevelopFailed(
            f"{bracket.sharp.path.name}: the sharp capture of {bracket.scene} has the white "
            f"balance {balance} (all of R, G, B must be above 0). Use --set "
            "develop.recipe=libraw-defaults, or leave the scene out."
        )
    return Development("raw", "fixed", config.demosaic, balance, blacks, white, Transfer.BT709)


def develop(
    capture: Capture,
    *,
    development: Development,
    limits: LimitsConfig,
    target: Path,
    decoder: Decoder | None = None,
) -> DevelopRecord:
    """Decode one capture to an array on disk.

    Args:
        capture: the file; its header is checked again before LibRaw sees it.
        development: from `plan_development` of its bracket.
        limits: memory (MB) and time (s) of the decoding process, and the largest picture.
        target: ``.npy`` file that appears whole or not at all: (H, W, 3) uint8 RGB in
            [0, 255], pixels as stored, EXIF orientation not applied.
        decoder: the process to use, for several captures; None: one for this capture alone.

    Returns:
        Size, SHA-256 of the file and of the pixels, and what LibRaw read.

    Raises:
        CaptureUnreadable: damaged, or its sizes contradict its header.
        DevelopFailed: black level or white balance cannot be right.
        WorkerDied: the process hit a limit or was killed.
    """
    header = read_header(capture.path, limits=limits)
    known = _KNOWN_LEVELS.get(header.info.model or "")
    own = Decoder(limits) if decoder is None else nullcontext(decoder)
    with atomic_path(target) as temporary, own as process:
        result = process.run(
            "develop",
            capture.path,
            kind=development.kind,
            size=(capture.info.width, capture.info.height),
            raw_size=header.raw_size,
            expected_black=known[0] if known else None,
            development=development.to_record(),
            target=str(temporary.absolute()),
        )
    return DevelopRecord(
        demosaic=development.demosaic,
        transfer=str(development.transfer),
        colour_space=header.info.colour_space,
        **_frozen(result),
    )


def check_bit_depth(records: Sequence[DevelopRecord], *, config: DevelopConfig) -> None:
    """Refuse captures of one scene that hold fewer bits than the 16 they are stored in.

    Raises:
        DevelopFailed: they do, and ``develop.white`` says nothing of it.
    """
    declared = any(record.colour_space for record in records)
    found = few_bits([r.highest for r in records], white=config.white, declared=declared)
    if found is not None and found.certain:
        raise DevelopFailed(str(found))


def _frozen(result: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in result.items()}
