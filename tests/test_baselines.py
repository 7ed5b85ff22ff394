"""Classical baselines: the authors' published pixels, scikit-image, and closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor

from defocus_ds.errors import InputError
from defocus_ds_train.baselines.blur import BlurOperator, Border, average_kernel
from defocus_ds_train.baselines.defilter import (
    accelerated_landweber,
    modified_levenberg_marquardt,
    modified_richardson_lucy,
)
from defocus_ds_train.baselines.linear import richardson_lucy, wiener
from defocus_ds_train.baselines.noise import immerkaer_noise, noise_to_signal

# its transfer function is nowhere below 0.36, so that the blur can be inverted
PEAKED = np.outer([0.1, 0.8, 0.1], [0.1, 0.8, 0.1])
SLANTED = np.array([[0.0, 0.1, 0.2], [0.05, 0.3, 0.1], [0.15, 0.1, 0.0]])


def smooth(count: int = 2, side: int = 48, seed: int = 0) -> Tensor:
    """Images in [0.2, 0.8] with structure at all scales, different in every row and column."""
    noise = np.random.default_rng(seed).random((count, side, side))
    images = np.stack([cv2.GaussianBlur(image, (0, 0), 1.2) for image in noise])
    low, high = images.min(), images.max()
    return torch.tensor(0.2 + 0.6 * (images - low) / (high - low))


def gain_db(restored: Tensor, blurred: Tensor, sharp: Tensor) -> float:
    before, after = ((x - sharp).square().mean() for x in (blurred, restored))
    return float(10 * torch.log10(before / after))


def test_reflection_is_opencv_s() -> None:
    images = smooth(side=31)
    expected = [cv2.blur(image.numpy(), (5, 5)) for image in images]  # BORDER_REFLECT_101
    blurred = BlurOperator(average_kernel(5), border="reflect")(images)
    assert np.abs(blurred.numpy() - expected).max() < 1e-14


def test_circular_convolution_shifts_by_an_off_centre_kernel() -> None:
    kernel = np.zeros((5, 5))
    kernel[1, 3] = 1  # one up, one to the right of the centre
    images = smooth()
    moved = BlurOperator(kernel, border="circular")(images)
    assert (moved - images.roll((-1, 1), (-2, -1))).abs().max() < 1e-14


@pytest.mark.parametrize("border", ["circular", "reflect"])
def test_divide_inverts_the_blur_with_its_border(border: Border) -> None:
    images = smooth(side=40)
    blur = BlurOperator(PEAKED, border=border)
    # H* H x = H* y has the solution x where y = H x: nothing but rounding is left
    solved = blur.divide(blur(images), over=torch.zeros_like(images), weight=1e-12)
    assert (solved - images).abs().max() < 1e-9
    # and with everything on the other term, that term comes back
    other = smooth(side=40, seed=5)
    assert (blur.divide(images, over=1e9 * other, weight=1e9) - other).abs().max() < 1e-8


def test_kernels_and_images_that_cannot_be_are_refused() -> None:
    for kernel in (np.ones((2, 2)) / 4, np.ones((3, 5)) / 15, np.ones((3, 3))):
        with pytest.raises(InputError, match="blur"):
            BlurOperator(kernel, border="circular")
    with pytest.raises(InputError, match="not symmetric"):
        BlurOperator(SLANTED / SLANTED.sum(), border="reflect")
    with pytest.raises(InputError, match="mirror"):
        BlurOperator(average_kernel(3), border="mirror")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="more than 4"):
        BlurOperator(average_kernel(5), border="reflect")(torch.zeros(1, 4, 9))


@pytest.mark.parametrize("sigma", [0.01, 0.05])
def test_immerkaer_finds_the_noise_that_was_put_in(sigma: float) -> None:
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    ramp = (0.2 + 0.003 * x + 0.001 * y).double()[None]
    noise = torch.randn(ramp.shape, generator=torch.Generator().manual_seed(1), dtype=ramp.dtype)
    assert float(immerkaer_noise(ramp)) < 1e-6  # a plane has no noise
    assert float(immerkaer_noise(ramp + sigma * noise)) == pytest.approx(sigma, rel=0.03)


def test_immerkaer_with_a_zero_border_is_the_full_convolution() -> None:
    image = smooth(1)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = np.abs(convolve2d(image[0].numpy(), mask, mode="full")).sum()
    expected = np.sqrt(np.pi / 2) / (6 * 46 * 46) * total
    assert float(immerkaer_noise(image, zero_border=True)) == pytest.approx(expected, rel=1e-12)


def test_noise_to_signal_has_no_unit_and_is_finite_on_flat_images() -> None:
    images = smooth()
    assert noise_to_signal(images) == pytest.approx(noise_to_signal(255 * images), rel=1e-9)
    assert float(noise_to_signal(torch.full((1, 16, 16), 0.4))) == pytest.approx(0, abs=1e-4)
    with pytest.raises(InputError, match="immerkaer"):
        immerkaer_noise(torch.zeros(2, 2, 9))


def test_wiener_equals_scikit_image() -> None:
    import skimage.restoration

    images, kernel = smooth(3), SLANTED / SLANTED.sum()
    ratio = torch.tensor([0.001, 0.01, 0.1], dtype=torch.float64)
    ours = wiener(images, BlurOperator(kernel, border="circular"), noise_to_signal=ratio)
    for image, balance, mine in zip(images, ratio, ours, strict=True):
        # an impulse as regulariser: one ratio for all frequencies
        theirs = skimage.restoration.wiener(
            image.numpy(), kernel, float(balance), reg=np.ones((1, 1)), clip=False
        )
        assert np.abs(mine.numpy() - theirs).max() < 1e-12


def test_richardson_lucy_equals_scikit_image_away_from_the_border() -> None:
    import skimage.restoration

    image, kernel = smooth(1, side=64), SLANTED / SLANTED.sum()
    ours = richardson_lucy(image, BlurOperator(kernel, border="circular"), iterations=5)[0]
    theirs = skimage.restoration.richardson_lucy(image[0].numpy(), kernel, num_iter=5, clip=False)
    inside = slice(10, -10)  # each of five iterations carries the border in by two pixels
    difference = np.abs(ours.numpy() - theirs)
    assert difference[inside, inside].max() < 1e-12
    assert difference.max() > 0.01  # where scikit-image sees zeros


@pytest.mark.parametrize("border", ["circular", "reflect"])
def test_what_is_not_blurred_at_all_stays_as_it_is(border: Border) -> None:
    images = smooth()
    nothing = BlurOperator(np.ones((1, 1)), border=border)
    for restored in (
        accelerated_landweber(images, nothing, iterations=3),
        modified_richardson_lucy(images, nothing, iterations=3),
        modified_levenberg_marquardt(images, nothing, iterations=3, damping=1e-3),
        wiener(images, nothing, noise_to_signal=1e-12),
    ):
        assert (restored - images).abs().max() < 1e-9


@pytest.mark.parametrize("border", ["circular", "reflect"])
def test_black_box_methods_undo_a_slight_blur(border: Border) -> None:
    sharp = smooth()
    blur = BlurOperator(average_kernel(3), border=border)
    observed = blur(sharp)
    al = accelerated_landweber(observed, blur, iterations=100)
    mrl = modified_richardson_lucy(observed, blur, iterations=50)
    assert gain_db(al, observed, sharp) > 6
    assert gain_db(mrl, observed, sharp) > 6
    if border == "circular":
        mlm = modified_levenberg_marquardt(observed, blur, iterations=20, damping=1e-3)
        assert gain_db(mlm, observed, sharp) > 15


def test_landweber_is_the_fixed_point_of_a_linear_blur() -> None:
    """For a linear F, x gains F* (y - F x): one step from the observed image, by hand."""
    images = smooth(1)
    blur = BlurOperator(average_kernel(3), border="circular")
    once = accelerated_landweber(images, blur, iterations=1)
    assert (once - (images + blur(images - blur(images)))).abs().max() < 1e-12


def test_a_batch_gives_what_its_images_give_one_by_one() -> None:
    images = smooth(3)
    blur = BlurOperator(average_kernel(5), border="reflect")

    def run(batch: Tensor) -> list[Tensor]:
        damping = 100 * noise_to_signal(batch)
        return [
            accelerated_landweber(batch, blur, iterations=4),
            modified_richardson_lucy(batch, blur, iterations=4),
            modified_levenberg_marquardt(batch, blur, iterations=4, damping=damping),
            richardson_lucy(batch, blur, iterations=4),
            wiener(batch, blur, noise_to_signal=damping),
        ]

    together = run(images)
    for index in range(3):
        for whole, single in zip(together, run(images[index : index + 1]), strict=True):
            assert (whole[index] - single[0]).abs().max() < 1e-9


def test_black_pixels_do_not_make_modified_richardson_lucy_diverge() -> None:
    sharp = smooth(1)
    sharp[:, 8:20, 8:20] = 0
    blur = BlurOperator(average_kernel(3), border="reflect")
    observed = (blur(sharp) * 255).round() / 255
    assert (observed == 0).any()
    restored = modified_richardson_lucy(observed, blur, iterations=50)
    assert torch.isfinite(restored).all()
    far = (slice(None), slice(26, None), slice(26, None))
    assert gain_db(restored[far], observed[far], sharp[far]) > 3
