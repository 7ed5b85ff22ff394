"""Accept or reject an alignment, with every reason."""

from __future__ import annotations

import numpy as np

from defocus_ds.frames import Keep, Reject, Verdict
from defocus_ds.optics import Warp
from defocus_ds.stages.register.coverage import overlap_share
from defocus_ds.stages.register.doubts import Doubts

__all__ = ["judge"]

_MIN_NCC = 0.8  # right pairs have .9 and more; what fits only in part is left to the other checks
_MIN_OVERLAP = 0.6  # share of the frame
_MIN_EXPLAINED = 0.5  # share of the textured cells
_MIN_TEXTURED = 3  # cells
# what a lens and a tripod can do, with room: focus breathing is 2 % here, the start finds 10 %
_MAX_SCALE = 0.12
_MAX_ROTATION_DEG = 5.0
_MAX_ANISOTROPY = 0.02
_MAX_RADIAL = 0.02  # of half the diagonal, at the corner
_MAX_ROLE_RATIO = 1.25
_MAX_CONTRADICTED = 0.33  # share of the textured cells
_MAX_RIVAL = 0.5
_MAX_STRETCH = 0.5  # of the blur's variance
_MAX_CLIPPED = 0.65  # share of the common frame

_NONE = Doubts()


def judge(
    warp: Warp,
    *,
    ncc: float,
    residual_px: float,
    max_residual_px: float,
    explained: float,
    textured: int,
    converged: bool,
    radius_px: float,
    max_radius_px: float,
    role_ratio: float,
    doubts: Doubts = _NONE,
) -> Verdict:
    """Compare the measured values with their limits.

    Args:
        warp: the fitted map.
        ncc: agreement of the blur-matched images.
        residual_px, max_residual_px: estimated misalignment and its limit.
        explained: share of the textured cells that agree with the map.
        textured: number of cells with texture enough to tell.
        converged: whether the refinement came to rest.
        radius_px, max_radius_px: fitted disk radius and the largest that was tried.
        role_ratio: how much better the blurred capture, blurred again, explains the sharp one.
        doubts: what may be wrong with a map that fits.

    Returns:
        `Keep`, or `Reject` with one ``"code: measured value, limit"`` a failed check.
    """
    a = np.asarray(warp.matrix)[:, :2]
    singular = np.linalg.svd(a, compute_uv=False)
    scale = float(np.sqrt(singular.prod()))
    rotation = float(np.degrees(np.arctan2(a[1, 0] - a[0, 1], a[0, 0] + a[1, 1])))
    anisotropy = float(singular[0] / max(singular[1], 1e-9) - 1)
    overlap = overlap_share(warp)
    checks = (
        (ncc < _MIN_NCC, f"ncc: {ncc:.3f}, needs {_MIN_NCC}"),
        (
            not residual_px <= max_residual_px,
            f"residual: {residual_px:.3f} px, limit {max_residual_px:g} px"
            if np.isfinite(residual_px)
            else f"residual: cannot be measured, limit {max_residual_px:g} px",
        ),
        (overlap < _MIN_OVERLAP, f"overlap: {overlap:.0%}, needs {_MIN_OVERLAP:.0%}"),
        (textured < _MIN_TEXTURED, f"texture: {textured} cells, needs {_MIN_TEXTURED}"),
        (
            textured >= _MIN_TEXTURED and explained < _MIN_EXPLAINED,
            f"unexplained: {explained:.0%} of the texture agrees, needs {_MIN_EXPLAINED:.0%}",
        ),
        (not converged, "diverged: the refinement did not come to rest"),
        (abs(scale - 1) > _MAX_SCALE, f"scale: {scale:.3f}, limit 1 +- {_MAX_SCALE}"),
        (
            abs(rotation) > _MAX_ROTATION_DEG,
            f"rotation: {rotation:.2f} deg, limit {_MAX_ROTATION_DEG:g} deg",
        ),
        (
            float(np.linalg.det(a)) <= 0,
            "mirrored: the map turns the frame over, which no camera does",
        ),
        (
            anisotropy > _MAX_ANISOTROPY,
            f"anisotropy: {anisotropy:.3f}, limit {_MAX_ANISOTROPY}",
        ),
        (
            abs(warp.radial) > _MAX_RADIAL,
            f"radial: {warp.radial:.4f}, limit {_MAX_RADIAL}",
        ),
        (
            radius_px >= max_radius_px,
            f"radius: {radius_px:.1f} px, limit {max_radius_px:.1f} px",
        ),
        (
            role_ratio > _MAX_ROLE_RATIO,
            f"roles: the sharp capture is the blurrier one ({role_ratio:.2f}, "
            f"limit {_MAX_ROLE_RATIO})",
        ),
        (
            doubts.contradicted > _MAX_CONTRADICTED,
            f"contradicted: {doubts.contradicted:.0%} of the texture shows something else or "
            f"moved by itself, limit {_MAX_CONTRADICTED:.0%}",
        ),
        (
            doubts.rival > _MAX_RIVAL,
            f"ambiguous: a map {doubts.rival_px:.0f} px away explains the pair as well "
            f"({doubts.rival:.2f}, limit {_MAX_RIVAL})",
        ),
        (
            doubts.stretch > _MAX_STRETCH,
            f"shaken: the blur is longer than wide ({doubts.stretch:.2f}, limit {_MAX_STRETCH})",
        ),
        (
            doubts.clipped > _MAX_CLIPPED,
            f"clipped: {doubts.clipped:.0%} of the frame, limit {_MAX_CLIPPED:.0%}",
        ),
    )
    reasons = tuple(text for failed, text in checks if failed)
    return Reject(reasons) if reasons else Keep()
