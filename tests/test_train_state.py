"""The state of a run: taken over also where the run is computed in another way than it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from defocus_ds.errors import InputError
from defocus_ds_train.state import TrainingState
from defocus_ds_train.unet import UNet

CPU = torch.device("cpu")


def state(
    *, channels_last: bool = True, fused: bool = False, fp16: bool = False, filters: int = 4
) -> TrainingState:
    """After one step, so that the optimiser has moments."""
    torch.manual_seed(0)
    model = UNet((filters,))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", enabled=fp16)
    crops = torch.rand(2, 1, 16, 16)
    torch.autograd.backward(scaler.scale(model(crops).square().mean()))
    scaler.step(optimiser)
    scaler.update()
    return TrainingState(model, optimiser, scaler, steps_per_epoch=3, device=CPU)


def moments(of: TrainingState) -> list[dict[str, Any]]:
    return list(of.optimiser.state.values())


@pytest.mark.parametrize("begun", [True, False])
def test_moments_take_the_layout_of_the_parameters(begun: bool) -> None:
    """A fused optimiser computes on memory side by side, and refuses other layouts."""
    one, other = state(channels_last=begun), state(channels_last=not begun)
    other.restore(one.as_dict())
    parameters = list(other.model.parameters())
    pairs = zip(one.model.parameters(), parameters, strict=True)
    assert any(p.stride() != q.stride() for p, q in pairs)
    for parameter, mine, theirs in zip(parameters, moments(other), moments(one), strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert mine[name].stride() == parameter.stride()
            assert torch.equal(mine[name], theirs[name])


@pytest.mark.parametrize("fused", [True, False])
def test_fused_or_not_is_the_choice_of_the_session(fused: bool) -> None:
    one, other = state(fused=not fused), state(fused=fused)
    other.restore(one.as_dict())
    assert [group["fused"] for group in other.optimiser.param_groups] == [fused]
    assert [float(m["step"]) for m in moments(other)] == [1.0] * len(moments(one))
    for parameter in other.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    other.optimiser.step()
    assert {float(m["step"]) for m in moments(other)} == {2.0}


def test_a_run_may_go_on_in_fp16_and_back() -> None:
    plain, half = state(), state(fp16=True)
    half.scaler.update(512.0)
    saved = half.as_dict()
    half.restore(plain.as_dict())
    assert half.scaler.get_scale() == 512.0
    again = state(fp16=True)
    again.restore(saved)
    assert again.scaler.get_scale() == 512.0
    plain.restore(saved)
    assert not plain.scaler.is_enabled()


def test_the_state_of_another_network_or_epoch_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit this run"):
        state(filters=8).restore(state().as_dict())
    with pytest.raises(InputError, match="epochs of 7 steps"):
        state().restore({**state().as_dict(), "steps_per_epoch": 7})
