"""The pictures of a scene: overviews, and tiles at full resolution where errors would show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import UInt8Image
from defocus_ds.optics import Transfer, Warp, blur_disk, to_encoded, to_linear
from defocus_ds.report.pairs import Area, Shift

__all__ = [
    "Tile",
    "before_of",
    "choose_tiles",
    "colours_as_shot",
    "encode_jpeg",
    "model_of",
    "overview",
]

OVERVIEW_PX = 640
TILE_PX = 384

_MAX_CONDITION = 100.0  # of a colour map; what a steeper one did cannot be taken back
_NODES = 9  # per side of a tile at which a map is inverted; it is straight between them


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the sharp frame and why it is shown."""

    x: int
    y: int
    width: int
    height: int
    why: str

    def cut(self, image: UInt8Image) -> UInt8Image:
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def choose_tiles(
    sharp: UInt8Image, *, area: Area, shifts: Sequence[Shift] = (), size_px: int = TILE_PX
) -> tuple[Tile, ...]:
    """Three places to look: the middle, a corner, and where the alignment is worst.

    Of the tiles in each region the one with the most gradient energy is taken, for a flat one
    hides every error.

    Args:
        sharp: (H, W, 3) uint8.
        area: (x0, y0, x1, y1), half-open, to stay inside of.
        shifts: residual shifts of all pairs; without any, the third tile is the next textured.
        size_px: side of a tile; at most half the area's shorter side, down to 64, so that several
            fit.

    Returns:
        One to three tiles that do not overlap; none if the area is empty.
    """
    x0, y0, x1, y1 = area
    side = min(size_px, max(64, min(x1 - x0, y1 - y0) // 2))
    width, height = min(side, x1 - x0), min(side, y1 - y0)
    if width < 1 or height < 1:
        return ()
    columns, rows = (x1 - x0) // width, (y1 - y0) // height
    xs = x0 + (x1 - x0 - columns * width) // 2 + width * np.arange(columns)
    ys = y0 + (y1 - y0 - rows * height) // 2 + height * np.arange(rows)
    corners = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    energy = np.array([_gradient_energy(sharp[y : y + height, x : x + width]) for x, y in corners])
    centres = corners + (width / 2, height / 2)
    frame = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    off_axis = np.linalg.norm((centres - frame) / ((x1 - x0) / 2, (y1 - y0) / 2), axis=1)
    worst = [_worst_shift(shifts, (int(x), int(y), width, height)) for x, y in corners]
    tiles: list[Tile] = []
    left = np.ones(len(corners), bool)
    for why, score in (
        ("middle", np.where(off_axis <= max(0.5, off_axis.min()), energy, -1.0)),
        ("corner", np.where(off_axis >= min(1.0, off_axis.max()), energy, -1.0)),
        (
            "largest residual shift" if any(worst) else "texture",
            np.array(worst) if any(worst) else energy,
        ),
    ):
        score = np.where(left, score, -1.0)
        best = int(score.argmax())
        if score[best] < 0:
            continue
        left[best] = False
        x, y = (int(v) for v in corners[best])
        tiles.append(Tile(x, y, width, height, why))
    return tuple(tiles)


def overview(image: UInt8Image, *, long_side_px: int = OVERVIEW_PX) -> UInt8Image:
    """The image reduced by area averaging; never enlarged."""
    import cv2

    factor = long_side_px / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def model_of(
    sharp: UInt8Image, tile: Tile, *, blur_radius_px: float, transfer: Transfer
) -> UInt8Image:
    """What the forward model predicts of a tile: the sharp image blurred in linear light.

    The tile is blurred with its surroundings, so its edges are right too.
    """
    margin = int(np.ceil(blur_radius_px)) + 2
    top, left = max(0, tile.y - margin), max(0, tile.x - margin)
    around = sharp[top : tile.y + tile.height + margin, left : tile.x + tile.width + margin]
    blurred = to_encoded(blur_disk(to_linear(around, transfer), blur_radius_px), transfer)
    inner = blurred[tile.y - top :, tile.x - left :][: tile.height, : tile.width]
    return np.asarray(np.rint(np.clip(inner, 0, 1) * 255), np.uint8)


def before_of(registered: UInt8Image, tile: Tile, warp: Warp) -> UInt8Image:
    """What the blurred capture shows at a tile's pixels before it is registered.

    The dataset keeps no unregistered pixels, so the registered ones are moved back.

    Args:
        registered: (H, W, 3) uint8, in the sharp frame.
        tile: where to look, in pixels of the capture.
        warp: sharp frame -> capture.

    Returns:
        (height, width, 3) uint8, recoloured as the registered image is; black where that has
        no pixel.
    """
    import cv2

    x = tile.x + np.linspace(0, tile.width - 1, _NODES)
    y = tile.y + np.linspace(0, tile.height - 1, _NODES)
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    source = warp.unmap_points(places).reshape(_NODES, _NODES, 2)
    across, down = _between(tile.width), _between(tile.height)
    maps = [(down @ source[..., axis] @ across.T).astype(np.float32) for axis in (0, 1)]
    moved = cv2.remap(registered, maps[0], maps[1], cv2.INTER_CUBIC, borderValue=(0, 0, 0))
    return np.asarray(moved, np.uint8)


def colours_as_shot(
    matched: UInt8Image, colour_map: Sequence[Sequence[float]], *, transfer: Transfer
) -> UInt8Image | None:
    """The colours that a matched image had before.

    The dataset keeps no unmatched pixels, so the nearest affine map is taken back.

    Args:
        matched: (H, W, 3) uint8.
        colour_map: (3, 4), linear light of the capture -> of the matched image.
        transfer: curve of the stored values.

    Returns:
        (H, W, 3) uint8; None if the map has no stable inverse.
    """
    matrix = np.asarray(colour_map, np.float64)
    if not np.linalg.cond(matrix[:, :3]) < _MAX_CONDITION:
        return None
    light = to_linear(matched, transfer).astype(np.float64) - matrix[:, 3]
    before = np.clip(light @ np.linalg.inv(matrix[:, :3]).T, 0, 1).astype(np.float32)
    return np.asarray(np.rint(np.clip(to_encoded(before, transfer), 0, 1) * 255), np.uint8)


def encode_jpeg(image: UInt8Image, *, quality: int = 90) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG without chroma subsampling; same pixels, same bytes."""
    import cv2

    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)
    assert done
    return bytes(data)


def _between(length: int) -> npt.NDArray[np.float64]:
    """(length, nodes) weights of linear interpolation between evenly spaced nodes."""
    at = np.linspace(0, _NODES - 1, length)[:, None]
    return np.asarray(np.maximum(1 - np.abs(at - np.arange(_NODES)), 0))


def _gradient_energy(tile: UInt8Image) -> float:
    green = tile[::2, ::2, 1].astype(np.float32)
    energy = np.square(np.diff(green, axis=0)).mean() + np.square(np.diff(green, axis=1)).mean()
    return float(np.nan_to_num(energy))


def _worst_shift(shifts: Sequence[Shift], box: tuple[int, int, int, int]) -> float:
    """Largest confident shift in px inside (x, y, width, height); 0 where none was measured."""
    x, y, width, height = box
    return max(
        (
            s.length_px
            for s in shifts
            if x <= s.x < x + width and y <= s.y < y + height and s.confidence > 0
        ),
        default=0.0,
    )
