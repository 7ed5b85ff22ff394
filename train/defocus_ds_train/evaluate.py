"""Validation: the scores of a network on crops it does not train on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from defocus_ds_train.data.batches import evaluation_batches
from defocus_ds_train.data.source import CropSet
from defocus_ds_train.device import autocast
from defocus_ds_train.losses import l1_q_loss
from defocus_ds_train.processes import Group
from defocus_ds_train.records import Scores

__all__ = ["evaluate"]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    crops: CropSet,
    *,
    beta: float,
    batch: int,
    precision: str,
    group: Group,
) -> Scores:
    """Scores of a network on crops as they are, neither turned nor shuffled.

    Args:
        model: on the device of the group; left in evaluation mode.
        crops: at least one.
        beta: weight of Q in the loss.
        batch: crops computed at a time.
        precision: "fp32", "bf16" or "fp16".
        group: its processes share the work.
    """
    model.eval()
    place = group.device
    sums = torch.zeros(5, dtype=torch.float64)
    for pair in evaluation_batches(
        crops, device=place, batch=batch, rank=group.rank, world=group.world
    ):
        with autocast(place, precision):
            restored = model(pair.blurred)
        terms = l1_q_loss(restored, pair.sharp)
        values = (
            terms.l1.cpu().double() * len(restored),
            terms.q.cpu().double() * len(restored),
            _psnr_sum(restored.float().clamp(0, 1), pair.sharp),
            _psnr_sum(pair.blurred, pair.sharp),
            torch.tensor(float(len(restored)), dtype=torch.float64),
        )
        sums += torch.stack(values)
    total = group.sum(sums.to(torch.float32) if place.type == "mps" else sums.to(place)).tolist()
    l1, q, psnr_restored, psnr_blurred = (value / total[4] for value in total[:4])
    return Scores(l1 - beta * q, l1, q, psnr_restored, psnr_blurred)


def _psnr_sum(images: Tensor, sharp: Tensor) -> Tensor:
    errors = (images - sharp).square().mean(dim=(1, 2, 3)).cpu().double()
    # equal crops would be infinitely good: 8-bit values are never closer than half a level
    return (-10 * torch.log10(errors.clamp(min=(0.5 / 255) ** 2))).sum()
