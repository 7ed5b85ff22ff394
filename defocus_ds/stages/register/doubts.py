"""What can be wrong with a map that fits: other maps fit as well, or it fits only a part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage
from defocus_ds.optics import Warp
from defocus_ds.stages.register.alignment import ResidualGrid
from defocus_ds.stages.register.planes import Pyramid
from defocus_ds.stages.register.radius import Matched, clipped_there, matched
from defocus_ds.stages.register.refine import refine_coarse
from defocus_ds.stages.register.start import band_pass

__all__ = ["Doubts", "contradicted_share", "find_doubts", "rival_shift", "stretch"]

_LEAST_NCC = 0.5  # where nothing fits, there is nothing to doubt
_CLIPPED = 0.02  # share of a block of pixels
_FOREIGN = 0.5  # share of a cell's contrast that the map leaves where the content is another
_TOLERANCE = 0.5  # of the shift that is allowed in the mean
_TOLERANCE_OF_RADIUS = 0.05
_SURE = 3.0  # deviations beyond the tolerance
_COARSE_PX = 500  # longest side of the plane on which rivals are looked for
_FARTHEST = 0.25  # shifts up to this share of a side are looked at
_LOBE = 0.6  # the peak ends where the correlation has fallen to this share
_WORTH_A_LOOK = 0.75  # share of the peak that another one must reach to be fitted
_STRETCH_BLOCKS = 4  # per axis
_SAME_PX = 0.5  # of the distance: a rival that came back nearer than this is none


@dataclass(frozen=True, slots=True)
class Doubts:
    """Each is 0 for a good pair.

    ``contradicted``: share of the textured cells that plainly disagree with the map.
    ``rival``: how nearly another map explains the pair as well, 1 if they cannot be told apart;
    ``rival_px`` is how far away it lies.  ``stretch``: how much longer than wide the blur is, as
    a share of its variance.  ``clipped``: share of the common frame that is clipped in either
    capture.
    """

    contradicted: float = 0.0
    rival: float = 0.0
    rival_px: float = 0.0
    stretch: float = 0.0
    clipped: float = 0.0


def find_doubts(
    sharp: Pyramid,
    blurred: Pyramid,
    warp: Warp,
    grid: ResidualGrid,
    *,
    overlaid: Matched,
    ncc: float,
    radius_px: float,
    factor: int,
    tolerance_px: float,
    samples: int,
    seed: int,
) -> Doubts:
    """Look at a fitted pair from four sides.

    Args:
        sharp, blurred: pyramids of the same size.
        warp: the fitted map.
        grid: its local checks.
        overlaid: the fitted pair at this level.
        ncc: its agreement.
        radius_px: fitted radius of the disk, pixels of the sharp frame.
        factor: level to look at.
        tolerance_px: mean residual shift that is allowed.
        samples: of a rival's fit.
        seed: of a rival's fit.
    """
    # what moves by itself shows the less, the wider the disk
    sharpest = _TOLERANCE * tolerance_px + _TOLERANCE_OF_RADIUS * radius_px
    contradicted = contradicted_share(grid, tolerance_px=sharpest)
    coarse = factor if factor == sharp.coarsest else factor * 2
    clipped = _clipped_share(sharp, blurred, warp, coarse)
    if ncc < _LEAST_NCC:
        return Doubts(contradicted=contradicted, clipped=clipped)
    rival, distance = 0.0, 0.0
    shift = rival_shift(overlaid.model, overlaid.seen, overlaid.inside)
    if shift is not None:
        other = _shifted(warp, (shift[0] * factor, shift[1] * factor))
        fit = refine_coarse(sharp, blurred, other, samples=samples, seed=seed)
        distance = warp.mean_difference_px(fit.warp)
        if distance > _SAME_PX * float(np.hypot(*shift)) * factor:
            as_well = matched(sharp, blurred, fit.warp, fit.radius_px, factor).agreement()
            rival = min((1 - ncc) / max(1 - as_well, 1e-6), 1.0)
    light = overlaid.inside & (sharp[factor].clipped < _CLIPPED)
    light &= clipped_there(blurred, warp, factor) < _CLIPPED
    return Doubts(
        contradicted=contradicted,
        rival=rival,
        rival_px=distance if rival else 0.0,
        stretch=stretch(
            overlaid.model, overlaid.seen, light, variance_px=(radius_px / factor) ** 2 / 4
        ),
        clipped=clipped,
    )


def contradicted_share(grid: ResidualGrid, *, tolerance_px: float) -> float:
    """Share of the textured cells that are foreign, or surely displaced by more than allowed.

    Args:
        grid: local checks of a fit.
        tolerance_px: residual shift up to which a cell agrees.
    """
    textured = np.isfinite(grid.unexplained)
    if not textured.any():
        return 0.0
    foreign = grid.unexplained > _FOREIGN
    displaced = np.nan_to_num(grid.shift_px) > tolerance_px + _SURE * grid.deviation_px
    return float((textured & (foreign | displaced)).sum() / textured.sum())


def rival_shift(
    expected: FloatImage, seen: FloatImage, inside: npt.NDArray[np.bool_]
) -> tuple[float, float] | None:
    """Where else the capture looks like the blur-matched sharp image: texture that repeats.

    Args:
        expected: (h, w) blur-matched sharp image.
        seen: (h, w) the capture in the sharp frame.
        inside: (h, w) where it is known.

    Returns:
        The shift (x, y) in pixels of the plane by which the sharp frame's points would move, None
        if no other shift comes near.  Straight lines have rivals along them.
    """
    import cv2

    step = int(np.ceil(max(expected.shape) / _COARSE_PX))
    height, width = (n // step for n in expected.shape)
    planes = [band_pass(expected), band_pass(np.where(inside, seen, expected))]
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    if step > 1:
        planes = [
            np.asarray(cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA)) for p in planes
        ]
    padded = (cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width))
    one, two = (np.fft.rfft2((p - p.mean()) * window, padded) for p in planes)
    overlap = np.abs(np.fft.rfft2(window, padded)) ** 2
    reach_x, reach_y = int(_FARTHEST * width), int(_FARTHEST * height)

    def around_zero(spectrum: npt.NDArray[np.complexfloating]) -> npt.NDArray[np.float64]:
        plane = np.fft.irfft2(spectrum, padded)
        rows = np.r_[-reach_y : reach_y + 1]
        columns = np.r_[-reach_x : reach_x + 1]
        return np.asarray(plane[np.ix_(rows, columns)])

    surface = around_zero(np.conj(one) * two) / around_zero(overlap)
    peak = float(surface[reach_y, reach_x])
    if peak <= 0:
        return None
    surface = surface / peak
    y, x = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    ring = np.hypot(x, y).astype(int)
    highest = np.full(ring.max() + 1, -np.inf)
    np.maximum.at(highest, ring.ravel(), surface.ravel())
    reach = min(reach_x, reach_y)  # farther rings are not whole
    fallen = np.flatnonzero(highest[:reach] < _LOBE)
    lobe = int(fallen[0]) if len(fallen) else reach // 4
    outside = np.where(ring >= lobe, surface, -np.inf)
    at = np.unravel_index(int(outside.argmax()), outside.shape)
    if outside[at] < _WORTH_A_LOOK:
        return None
    # seen(p + d) looks like expected(p): the point p maps to where p + d mapped
    return float(x[at] * step), float(y[at] * step)


def stretch(
    expected: FloatImage,
    seen: FloatImage,
    inside: npt.NDArray[np.bool_],
    *,
    variance_px: float,
) -> float:
    """How much longer than wide the blur is, beyond the disk: the camera shook.

    A small extra blur adds half its variance times the second derivative, so the difference
    between the two images is fitted by the second derivatives along and across: in 16 blocks, of
    which the median counts.

    Args:
        expected, seen: (h, w) as in `rival_shift`.
        inside: (h, w) where both are good.
        variance_px: of the disk along one axis, square pixels of the plane.

    Returns:
        Difference of the variances along and across, over the mean variance with the disk's.
    """
    import cv2

    smooth = np.asarray(cv2.GaussianBlur(expected, (0, 0), 1.0))  # as `band_pass` smooths
    gy, gx = np.gradient(smooth)
    xx, yy = np.gradient(gx, axis=1), np.gradient(gy, axis=0)
    xy = np.gradient(gx, axis=0)
    rows = [band_pass(expected), gx, gy, xx + yy, xx - yy, xy, band_pass(seen - expected)]
    side = 2 * int(np.ceil(2 * np.sqrt(variance_px))) + 7
    core = cv2.erode(inside.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    found = []
    # a camera shakes alike all over the frame; parallax and highlights are here or there
    for block in _blocks(expected.shape):
        columns = [np.asarray(row[block][core[block]], np.float64) for row in rows]
        if len(columns[0]) >= 500 and not _is_stripes(columns[1], columns[2]):
            found.append(_fitted(np.stack(columns[:-1], axis=-1), columns[-1]))
    if not found:
        return 0.0
    middle = np.median(found, axis=0)
    apart = float(np.hypot(4 * middle[4], 2 * middle[5]))
    return apart / (variance_px + max(2 * float(middle[3]), 0.0) + 1.0)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    rows, columns = (np.linspace(0, length, _STRETCH_BLOCKS + 1).astype(int) for length in shape)
    for top, bottom in zip(rows, rows[1:], strict=False):
        for left, right in zip(columns, columns[1:], strict=False):
            yield slice(top, bottom), slice(left, right)


def _fitted(A: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares, scaled to a unit diagonal and slightly damped."""
    gram = A.T @ A
    d = 1 / np.sqrt(np.maximum(np.diag(gram), 1e-30))
    scaled = gram * np.outer(d, d) + 1e-4 * np.eye(len(d))
    return np.asarray(d * np.linalg.solve(scaled, d * (A.T @ b)))


def _is_stripes(gx: npt.NDArray[np.float64], gy: npt.NDArray[np.float64]) -> bool:
    """Whether the weaker direction has less than a twentieth of the stronger one's contrast."""
    tensor = np.array([[gx @ gx, gx @ gy], [gx @ gy, gy @ gy]])
    weak, strong = np.linalg.eigvalsh(tensor)
    return bool(weak < 0.05 * strong)


def _clipped_share(sharp: Pyramid, blurred: Pyramid, warp: Warp, factor: int) -> float:
    """Share of the common frame in which either capture is at its limit."""
    from defocus_ds.resample import covered

    theirs = clipped_there(blurred, warp, factor)
    inside = covered(warp.at_scale(1 / factor, sharp[factor].size), theirs.shape[1::-1])
    if not inside.any():
        return 0.0
    return float(np.maximum(sharp[factor].clipped, theirs)[inside].mean())


def _shifted(warp: Warp, shift_px: tuple[float, float]) -> Warp:
    """The map that sends a point where ``warp`` sends the point ``shift_px`` beside it."""
    m = np.asarray(warp.matrix)
    moved = m[:, 2] + m[:, :2] @ np.asarray(shift_px)
    return Warp(
        (
            (float(m[0, 0]), float(m[0, 1]), float(moved[0])),
            (float(m[1, 0]), float(m[1, 1]), float(moved[1])),
        ),
        warp.radial,
        warp.size,
    )
