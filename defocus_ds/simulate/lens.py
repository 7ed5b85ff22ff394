"""The lens: every depth plane warped, blurred and occluded on its own, in linear light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.errors import OpticsError
from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp, blur_disk
from defocus_ds.simulate.scene import HEADROOM, SceneLayers

__all__ = ["PlaneView", "margin_px", "view"]

_TILE = 512  # pixels of the output per side of a tile
_NODE = 16  # the inverse map is exact at every 16th pixel and linear between: error < 1e-4 px
_TAPS = 8
_PHASES = 4096  # sub-pixel positions: 1/8192 px at most from the wanted one


@dataclass(frozen=True, slots=True)
class PlaneView:
    """How one depth plane appears in a capture.

    ``warp`` maps the sharp frame to the capture's, ``blur_radius_px`` is the radius of the
    disk in pixels of the capture.
    """

    warp: Warp
    blur_radius_px: float


def margin_px(views: Sequence[PlaneView]) -> int:
    """Pixels that a scene must extend beyond the sharp frame for these views to be filled.

    Args:
        views: of every capture and plane.

    Returns:
        The margin in pixels, a multiple of 8.
    """
    needed = 0.0
    for each in views:
        width, height = each.warp.size
        x = np.linspace(0, width - 1, 33)
        y = np.linspace(0, height - 1, 33)
        border = np.concatenate(
            [np.stack(np.broadcast_arrays(x, v), -1) for v in (0.0, height - 1.0)]
            + [np.stack(np.broadcast_arrays(v, y), -1) for v in (0.0, width - 1.0)]
        )
        source = each.warp.unmap_points(border)
        outside = np.maximum(-source, source - (width - 1, height - 1)).max()
        needed = max(needed, float(outside) + 1.1 * each.blur_radius_px)
    return int(np.ceil((needed + _TAPS + 4) / 8)) * 8


def view(scene: SceneLayers, views: Sequence[PlaneView]) -> FloatImage:
    """The light that falls on the sensor: planes composited from the farthest to the nearest.

    Each plane is blurred premultiplied with its own coverage, so that light from behind comes
    through the blurred edges of what stands before it, as it does through a real aperture.

    Args:
        scene: depth planes in linear light.
        views: one a plane, in the same order.

    Returns:
        ``(height, width, 3)`` float32 linear light of the capture.

    Raises:
        OpticsError: not one view a plane, or the scene's margin is too narrow for them.
    """
    if len(views) != len(scene.planes):
        raise OpticsError(f"{len(views)} views of {len(scene.planes)} depth planes; give one each.")
    needed = margin_px(views)
    if scene.margin < needed:
        raise OpticsError(
            f"the scene extends {scene.margin} px beyond the frame, these views need {needed} px."
        )
    width, height = views[0].warp.size
    out = np.empty((height, width, 3), np.float32)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            box = (left, top, min(left + _TILE, width), min(top + _TILE, height))
            out[box[1] : box[3], box[0] : box[2]] = _tile(scene, views, box)
    return out


def _tile(
    scene: SceneLayers, views: Sequence[PlaneView], box: tuple[int, int, int, int]
) -> FloatImage:
    left, top, right, bottom = box
    light = np.zeros((bottom - top, right - left, 3), np.float32)
    for plane, each in zip(scene.planes, views, strict=True):
        nodes = _source_nodes(each.warp, box) + scene.margin
        pad = int(np.ceil(1.1 * each.blur_radius_px)) + _TAPS
        low = np.maximum(np.floor(nodes.min(axis=(0, 1))).astype(int) - pad, 0)
        high = np.ceil(nodes.max(axis=(0, 1))).astype(int) + pad + 1
        patch = plane[low[1] : high[1], low[0] : high[0]]
        if not patch[..., 3].any():
            continue
        seen = np.empty((bottom - top, right - left, 4), np.float32)
        if each == PlaneView(Warp.identity(each.warp.size), 0.0):
            inner = np.array([left, top]) + scene.margin - low
            seen[:] = patch[inner[1] :, inner[0] :][: bottom - top, : right - left]
            _add(light, seen)
            continue
        # the disk is one of the capture's pixels: seen from the scene it is smaller by the scale
        scale = float(np.sqrt(np.linalg.det(np.asarray(each.warp.matrix)[:, :2])))
        blurred = blur_disk(patch.astype(np.float32), each.blur_radius_px / scale)
        _kernel()(blurred, nodes - low, _tap_table(), seen)
        _add(light, seen)
    return np.maximum(light, np.float32(0), out=light)


def _add(light: FloatImage, seen: FloatImage) -> None:
    """Put a nearer plane over the light from behind it (Porter & Duff 1984, "over")."""
    seen /= np.float32(65535)
    light *= 1 - seen[..., 3:]
    light += seen[..., :3] * np.float32(HEADROOM)


def _source_nodes(warp: Warp, box: tuple[int, int, int, int]) -> npt.NDArray[np.float64]:
    """Sharp-frame points of every `_NODE`-th pixel of the capture, (rows, columns, 2)."""
    left, top, right, bottom = box
    x = np.arange(left, right + _NODE, _NODE, dtype=np.float64)
    y = np.arange(top, bottom + _NODE, _NODE, dtype=np.float64)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    return np.asarray(warp.unmap_points(grid.reshape(-1, 2)).reshape(grid.shape))


@cache
def _tap_table() -> FloatImage:
    """Lagrange weights of eight taps for every phase, (phases + 1, 8), each row sums to 1.

    They are exact for polynomials of degree 7, so blurred light is moved without a bias; a
    Lanczos window of this length moves it up to 0.006 px too far.
    """
    at = np.arange(_TAPS) - (_TAPS // 2 - 1)
    phase = np.arange(_PHASES + 1) / _PHASES
    weights = np.ones((_PHASES + 1, _TAPS))
    for i in range(_TAPS):
        for j in range(_TAPS):
            if i != j:
                weights[:, i] *= (phase - at[j]) / (at[i] - at[j])
    return weights.astype(np.float32)


@cache
def _kernel() -> Callable[..., None]:
    import numba

    compiled: Callable[..., None] = numba.njit(cache=True, nogil=True)(_sample)
    return compiled


def _sample(image: Any, nodes: Any, taps: Any, out: Any) -> None:
    """Interpolate four channels at points given on a coarse grid of nodes."""
    phases = taps.shape[0] - 1
    count = taps.shape[1]
    last_y, last_x = image.shape[0] - count, image.shape[1] - count
    for y in range(out.shape[0]):
        j, fy = y // _NODE, (y % _NODE) / _NODE
        for x in range(out.shape[1]):
            i, fx = x // _NODE, (x % _NODE) / _NODE
            w00, w01 = (1 - fy) * (1 - fx), (1 - fy) * fx
            w10, w11 = fy * (1 - fx), fy * fx
            sx = (
                w00 * nodes[j, i, 0]
                + w01 * nodes[j, i + 1, 0]
                + w10 * nodes[j + 1, i, 0]
                + w11 * nodes[j + 1, i + 1, 0]
            )
            sy = (
                w00 * nodes[j, i, 1]
                + w01 * nodes[j, i + 1, 1]
                + w10 * nodes[j + 1, i, 1]
                + w11 * nodes[j + 1, i + 1, 1]
            )
            ix, iy = int(np.floor(sx)), int(np.floor(sy))
            px, py = int((sx - ix) * phases + 0.5), int((sy - iy) * phases + 0.5)
            ix = min(max(ix - (count // 2 - 1), 0), last_x)
            iy = min(max(iy - (count // 2 - 1), 0), last_y)
            a = b = c = d = np.float32(0)
            for v in range(count):
                ra = rb = rc = rd = np.float32(0)
                for u in range(count):
                    weight = taps[px, u]
                    ra += weight * image[iy + v, ix + u, 0]
                    rb += weight * image[iy + v, ix + u, 1]
                    rc += weight * image[iy + v, ix + u, 2]
                    rd += weight * image[iy + v, ix + u, 3]
                weight = taps[py, v]
                a += weight * ra
                b += weight * rb
                c += weight * rc
                d += weight * rd
            out[y, x, 0] = a
            out[y, x, 1] = b
            out[y, x, 2] = c
            out[y, x, 3] = d
