"""The losses of MMSP 2024: L1, and L1 with the differentiable sharpness Q."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from defocus_ds.errors import InputError
from defocus_ds.measure.sharpness import PATCH, coherence_threshold

__all__ = ["LossTerms", "l1_q_loss", "training_q"]

_TINY = 1e-10  # keeps flat patches, with no gradient energy at all, away from 0 / 0


@dataclass(frozen=True, slots=True)
class LossTerms:
    """``total = l1 - beta * q``; ``l1`` and ``q`` are detached, for the log."""

    total: Tensor
    l1: Tensor
    q: Tensor


def l1_q_loss(restored: Tensor, sharp: Tensor, *, beta: float = 0.0) -> LossTerms:
    """Mean absolute error minus ``beta`` times the training Q of the restored batch.

    Args:
        restored: (N, 1, H, W) float in [0, 1].
        sharp: the same shape.
        beta: weight of Q, >= 0; MMSP 2024 uses 0 in stage 1, then 0.01 (synthetic), 0.1 (real).

    Returns:
        Scalars in float32 (float64 for float64 input).

    Raises:
        InputError: the shapes differ, beta is negative, or see `training_q`.
    """
    if restored.shape != sharp.shape:
        raise InputError(
            f"l1_q_loss: restored {tuple(restored.shape)} and sharp {tuple(sharp.shape)} differ."
        )
    if not beta >= 0:
        raise InputError(f"l1_q_loss: beta = {beta}; it must be 0 or more.")
    l1 = functional.l1_loss(_at_least_float32(restored), _at_least_float32(sharp))
    if beta == 0:
        with torch.no_grad():
            q = training_q(restored).mean()
        return LossTerms(l1, l1.detach(), q)
    q = training_q(restored).mean()
    return LossTerms(l1 - beta * q, l1.detach(), q.detach())


def training_q(luma: Tensor) -> Tensor:
    """Sharpness Q of each image as the loss sees it, in closed form.

    With T the trace of G^T G, and D the difference of its eigenvalues, the larger eigenvalue is
    (T + D) / 2 and the coherence D / T: no decomposition is needed, and the gradient exists on
    flat patches.  Computed in float32 even under autocast: half precision loses the eigenvalues.

    Args:
        luma: (N, 1, H, W) float in [0, 1]; H and W are cropped to multiples of 8.

    Returns:
        (N,) float32 (float64 for float64 input), equal to ``sharpness_q(kind="training")``.

    Raises:
        InputError: another number of channels, or smaller than one 8x8 patch.

    Source:
        MMSP 2024; the eigenvalues of a symmetric 2x2 matrix.
    """
    if luma.ndim != 4 or luma.shape[1] != 1 or min(luma.shape[-2:]) < PATCH:
        raise InputError(
            f"training_q: got {tuple(luma.shape)}; give (N, 1, H, W) of at least {PATCH}x{PATCH}."
        )
    with torch.autocast(luma.device.type, enabled=False):
        gx, gy = _sobel(_patches(_at_least_float32(luma)))
        total = (gx * gx + gy * gy).sum(dim=(-2, -1))
        across = (gx * gx - gy * gy).sum(dim=(-2, -1))
        both = 2 * (gx * gy).sum(dim=(-2, -1))
        squared = across * across + both * both
        coherent = squared > (coherence_threshold("training") * (total + _TINY)) ** 2
        # the square root never sees 0, where its gradient is infinite: where() alone keeps the nan
        gap = torch.sqrt(torch.where(coherent, squared, torch.ones_like(squared)))
        score = gap * (total + gap) / (2 * (total + _TINY))
        return torch.where(coherent, score, torch.zeros_like(score)).mean(dim=1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _patches(luma: Tensor) -> Tensor:
    """(N, patches, 8, 8)."""
    rows, columns = luma.shape[-2] // PATCH, luma.shape[-1] // PATCH
    grid = luma[:, 0, : rows * PATCH, : columns * PATCH]
    grid = grid.reshape(-1, rows, PATCH, columns, PATCH).transpose(2, 3)
    return grid.reshape(-1, rows * columns, PATCH, PATCH)


def _sobel(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel / 8 inside each patch, reflected at its edges."""
    p = functional.pad(patches, (1, 1, 1, 1), mode="reflect")
    across = p[..., :-2, :] + 2 * p[..., 1:-1, :] + p[..., 2:, :]
    down = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    return (
        (across[..., 2:] - across[..., :-2]) / 8,
        (down[..., 2:, :] - down[..., :-2, :]) / 8,
    )
