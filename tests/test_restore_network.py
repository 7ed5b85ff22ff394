"""The folded network equals the trained one, knows how far it looks and what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from toy_network import random_network, scene_rgb

from defocus_ds.errors import InputError
from defocus_ds_train.device import has_bf16
from defocus_ds_train.restore_network import ResidualNet, receptive_radius
from defocus_ds_train.unet import UNet

needs_bf16 = pytest.mark.skipif(
    not has_bf16(torch.device("cpu")), reason="the processor does not compute in bf16"
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def image(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(scene_rgb((width, height))[..., 1].copy())[None, None]


@pytest.mark.parametrize("filters", [(4, 8, 8, 8), (3,)])
def test_equals_the_trained_network(filters: tuple[int, ...]) -> None:
    model = random_network(filters)
    blurred = image(96, 160)
    with torch.inference_mode():
        expected = model(blurred) - blurred
    found = ResidualNet(model)(blurred)
    assert expected.abs().max() > 0.2
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)  # the output reaches 2


@needs_bf16
def test_leaves_the_trained_network_as_it_was() -> None:
    model = random_network()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    ResidualNet(model, precision="bf16")(image(32, 32))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@needs_bf16
def test_bf16_is_near() -> None:
    model = random_network()
    blurred = image(96, 96)
    exact, rounded = (ResidualNet(model, precision=p)(blurred) for p in ("fp32", "bf16"))
    error = (exact - rounded).abs()
    # 8 bits are kept in each of 21 random layers; a trained network is nearer to its input
    assert 0 < error.mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_receptive_radius_is_where_the_gradient_ends(depth: int) -> None:
    model = UNet((1,) * depth).double().eval()
    for module in model.modules():  # positive everywhere: nothing cancels
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    middle = 16 * (receptive_radius(depth) // 16 + 2)
    farthest = 0
    for centre in range(middle, middle + 2**depth):
        blurred = torch.ones(1, 1, 2 * middle, 2 * middle, dtype=torch.double, requires_grad=True)
        model(blurred)[0, 0, centre, centre].backward()
        assert blurred.grad is not None
        seen = blurred.grad[0, 0].nonzero()
        farthest = max(farthest, int((seen - centre).abs().max()))
    assert receptive_radius(depth) == farthest


def test_receptive_radius_of_the_published_network() -> None:
    assert receptive_radius(4) == 245


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_needs_the_memory_it_says(precision: str) -> None:
    script = f"""
import torch
from pathlib import Path
from defocus_ds_train.device import has_bf16
from defocus_ds_train.restore_network import ResidualNet
from defocus_ds_train.unet import UNet
torch.set_num_threads(1)
def held(name):
    text = Path("/proc/self/status").read_text()
    return int(text.split(name + ":")[1].split()[0]) * 1024
network = ResidualNet(UNet((8, 16, 32, 64)).eval(), precision={precision!r})
network(torch.rand(1, 1, 64, 64))  # loads what convolutions load
before = held("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
network(torch.rand(1, 1, 2048, 2048))  # large: what is taken once counts little
print((held("VmHWM") - before) / 2048**2, network.bytes_per_pixel)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    measured, said = map(float, done.stdout.split())
    assert 0.5 * said < measured <= said


def test_refuses_statistics_that_make_no_sense() -> None:
    model = random_network()
    model.encoder[1][1].running_var[0] = -1
    with pytest.raises(InputError, match="not finite once batch normalisation is folded"):
        ResidualNet(model)


@needs_bf16
def test_refuses_weights_beyond_half_precision() -> None:
    model = random_network()
    model.output.weight.data[0, 0] = 3.4e38  # rounds up to infinity in bf16
    with pytest.raises(InputError, match=r"exceed what torch.bfloat16 holds; give fp32"):
        ResidualNet(model, precision="bf16")


def test_refuses_bf16_that_the_processor_emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defocus_ds_train.restore_network.has_bf16", lambda device: False)
    with pytest.raises(InputError, match="bf16: this processor has none; give fp32"):
        ResidualNet(random_network(), precision="bf16")


def test_refuses_fp16_on_the_cpu() -> None:
    with pytest.raises(InputError, match="fp16 needs a GPU; on the CPU give bf16 or fp32"):
        ResidualNet(random_network(), precision="fp16")
