"""Dead leaves: occluding, textured shapes of power-law size, painted back to front.

The model has the scale invariance and the occlusion edges of photographs (Lee, Mumford & Huang
2001, "Occlusion models for natural images").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from defocus_ds.frames import FloatImage

__all__ = ["Leaves", "draw_leaves", "paint", "textures"]

# linear-light albedos of things: foliage, bark, soil, stone, brick, sky, flowers, snow
_ALBEDO = np.array(
    [
        (0.045, 0.090, 0.020),
        (0.110, 0.180, 0.040),
        (0.200, 0.240, 0.060),
        (0.060, 0.045, 0.032),
        (0.160, 0.115, 0.075),
        (0.270, 0.215, 0.150),
        (0.180, 0.180, 0.180),
        (0.400, 0.380, 0.350),
        (0.290, 0.100, 0.060),
        (0.160, 0.260, 0.450),
        (0.320, 0.420, 0.550),
        (0.550, 0.400, 0.060),
        (0.450, 0.060, 0.070),
        (0.620, 0.610, 0.590),
        (0.025, 0.025, 0.030),
        (0.130, 0.070, 0.160),
    ]
)
_TILE = 512  # side of a texture tile in pixels; tiles repeat without a seam


@dataclass(frozen=True, slots=True)
class Leaves:
    """Shapes in painting order; every array has one row a leaf.

    ``shape`` (N, 10): centre x, y in px; radius in px; aspect; cosine and sine of the rotation;
    amplitude of the outline's 2nd, 3rd and 5th harmonic; phase of the outline in rad.
    ``surface`` (N, 10): albedo r, g, b; shading along the leaf's two axes; roundness; texture
    contrast; offset of the texture in px (u, v); darkness of the shadow around it.
    ``layer`` (N,): index of the texture.
    """

    shape: npt.NDArray[np.float64]
    surface: npt.NDArray[np.float32]
    layer: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, chosen: npt.NDArray[Any]) -> Leaves:
        return Leaves(self.shape[chosen], self.surface[chosen], self.layer[chosen])


def draw_leaves(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    smallest_px: float,
    largest_px: float,
    coverage: float,
) -> Leaves:
    """Leaves whose number falls with a power of the radius, coloured like their neighbours.

    Args:
        rng: source of randomness.
        size: (width, height) of the canvas in pixels.
        smallest_px, largest_px: range of the radius in pixels.
        coverage: mean number of leaves over a pixel.

    Returns:
        Leaves in random painting order.
    """
    width, height = size
    ratio = largest_px / smallest_px
    falling = _EXPONENT - 1
    rest = 1 - ratio**-falling
    mean_square = smallest_px**2 * falling * (ratio ** (2 - falling) - 1) / ((2 - falling) * rest)
    aspect_mean = 0.725
    reach = 0.5 * largest_px  # leaves may begin outside the canvas
    area = (width + 2 * reach) * (height + 2 * reach)
    count = max(1, round(coverage * area / (np.pi * aspect_mean * mean_square)))
    radius = smallest_px * (1 - rng.random(count) * rest) ** (-1 / falling)
    angle = rng.uniform(0, 2 * np.pi, count)
    shape = np.stack(
        [
            rng.uniform(-reach, width + reach, count),
            rng.uniform(-reach, height + reach, count),
            radius,
            rng.uniform(0.45, 1.0, count),
            np.cos(angle),
            np.sin(angle),
            rng.uniform(-0.22, 0.22, count),
            rng.uniform(-0.12, 0.12, count),
            rng.uniform(-0.06, 0.06, count),
            rng.uniform(0, 2 * np.pi, count),
        ],
        axis=1,
    )
    albedo = _ALBEDO[_kinds(rng, shape[:, :2] / (width, height))]
    light = np.exp(rng.normal(0, 0.45, (count, 1)) + rng.normal(0, 0.10, (count, 3)))
    rough = np.minimum(np.exp(rng.normal(np.log(0.16), 0.8, count)), 0.45)
    surface = np.column_stack(
        [
            np.clip(albedo * light, 0.008, 0.80),
            rng.uniform(-0.35, 0.35, (count, 2)),
            rng.uniform(0.0, 0.45, count),
            rough,
            rng.uniform(0, _TILE, (count, 2)),
            rng.uniform(0.1, 0.7, count),
        ]
    ).astype(np.float32)
    return Leaves(shape, surface, rng.integers(0, _LAYERS, count))


def textures(rng: np.random.Generator) -> FloatImage:
    """Seamless surface textures.

    Args:
        rng: source of randomness.

    Returns:
        ``(L, 512, 512)`` float32, each with mean 0 and standard deviation 1, within +-3.
    """
    layers = [_coloured_noise(rng, slope) for slope in (1.6, 1.1, 0.6, 2.2)]
    layers.append(-np.abs(_coloured_noise(rng, 1.3)))  # creases
    phase = _coloured_noise(rng, 1.8)
    u, v = np.meshgrid(np.arange(_TILE), np.arange(_TILE))
    turn = 2 * np.pi / _TILE
    layers.append(np.sin(turn * (50 * u + 24 * v) + 2.5 * phase))  # fibres
    layers.append(np.sin(turn * (17 * u - 9 * v) + 3.5 * phase) + 0.8 * layers[2])  # bark
    layers.append(np.sin(turn * 31 * u + phase) * np.sin(turn * 29 * v - phase))  # weave
    assert len(layers) == _LAYERS
    stack = np.stack(layers)
    stack -= stack.mean(axis=(1, 2), keepdims=True)
    stack /= stack.std(axis=(1, 2), keepdims=True)
    return np.clip(stack, -3, 3).astype(np.float32)


def paint(
    colour: FloatImage, alpha: FloatImage | None, leaves: Leaves, texture: FloatImage
) -> None:
    """Paint leaves over a canvas, in place, the later over the earlier.

    Args:
        colour: ``(H, W, 3)`` float32 linear light, not premultiplied.
        alpha: ``(H, W)`` float32 coverage that grows with the leaves; None leaves it alone.
        leaves: in painting order.
        texture: from `textures`.
    """
    covered = np.zeros((1, 1), np.float32) if alpha is None else alpha
    _kernel()(
        colour, covered, alpha is not None, leaves.shape, leaves.surface, leaves.layer, texture
    )


_LAYERS = 8
_EXPONENT = 2.75  # 3 would make every scale equally busy; photographs have less fine clutter
_COMMON = np.array([5, 5, 4, 4, 4, 3, 5, 3, 1.5, 1, 1.5, 0.6, 0.5, 2, 3, 0.4])


def _kinds(rng: np.random.Generator, place: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index of an albedo for every leaf: mostly one of the three that are at home there."""
    share = _COMMON / _COMMON.sum()
    homes = rng.choice(len(_ALBEDO), (6, 9, 3), p=share)
    cell = place * (9, 6) + rng.normal(0, 0.35, place.shape)
    column, row = np.floor(cell).astype(np.int64).clip(0, (8, 5)).T
    local = homes[row, column, rng.integers(0, 3, len(place))]
    stray = rng.random(len(place)) < 0.12
    return np.where(stray, rng.choice(len(_ALBEDO), len(place), p=share), local)


def _coloured_noise(rng: np.random.Generator, slope: float) -> npt.NDArray[np.float64]:
    """Noise whose amplitude falls with frequency to the power ``slope``, unit deviation."""
    spectrum = np.fft.rfft2(rng.standard_normal((_TILE, _TILE)))
    fy, fx = np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None, :]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = 1
    weight = frequency**-slope
    weight[frequency < 3.5 / _TILE] = 0  # nothing that would show the repetition
    noise = np.fft.irfft2(spectrum * weight, s=(_TILE, _TILE))
    return np.asarray(noise / noise.std())


@cache
def _kernel() -> Callable[..., None]:
    import numba

    compiled: Callable[..., None] = numba.njit(cache=True, nogil=True)(_paint)
    return compiled


def _paint(
    colour: Any, alpha: Any, grow: bool, shape: Any, surface: Any, layer: Any, texture: Any
) -> None:
    height, width = colour.shape[0], colour.shape[1]
    tile = texture.shape[1]
    for n in range(shape.shape[0]):
        cx, cy, r, aspect, cosine, sine, a2, a3, a5, phase = shape[n]
        red, green, blue, sh_u, sh_v, round_, contrast, off_u, off_v, shade = surface[n]
        layer_n = layer[n]
        wave = abs(a2) + abs(a3) + abs(a5)
        band = min(2 + 0.1 * r, 14.0) if r > 5 else 0.0  # width of the shadow around it
        reach = r * (1 + wave) + band + 1.5
        per_r, per_minor = 1 / r, 1 / (r * aspect)
        farthest = (1 + wave + (band + 1.5) * per_minor) ** 2
        nearest = max(1 - wave - per_minor, 0.01) ** 2
        x0, x1 = max(0, int(cx - reach)), min(width, int(cx + reach) + 2)
        y0, y1 = max(0, int(cy - reach)), min(height, int(cy + reach) + 2)
        cp, sp = np.cos(phase), np.sin(phase)
        for y in range(y0, y1):
            for x in range(x0, x1):
                dx, dy = x - cx, y - cy
                along = cosine * dx + sine * dy
                across = cosine * dy - sine * dx
                u, v = along * per_r, across * per_minor
                square = u * u + v * v
                if square > farthest:
                    continue
                if square < nearest:
                    distance = -1.0  # well inside whatever the outline
                else:
                    q = np.sqrt(square)
                    # cosines of 2, 3 and 5 times the polar angle from its powers
                    c1, s1 = u / q, v / q
                    c2, s2 = c1 * c1 - s1 * s1, 2 * c1 * s1
                    c3, s3 = c1 * c2 - s1 * s2, s1 * c2 + c1 * s2
                    c5, s5 = c2 * c3 - s2 * s3, s2 * c3 + c2 * s3
                    edge = 1 + a2 * c2 + a3 * (c3 * cp - s3 * sp) + a5 * (c5 * cp + s5 * sp)
                    steep = np.sqrt((c1 * per_r) ** 2 + (s1 * per_minor) ** 2)
                    distance = (q - edge) / steep
                cover = np.float32(min(max(0.5 - distance, 0.0), 1.0))
                if cover <= 0:
                    if band > 0 and distance < band:
                        nearness = np.float32(1 - distance / band)
                        keep = 1 - shade * nearness * nearness
                        colour[y, x, 0] *= keep
                        colour[y, x, 1] *= keep
                        colour[y, x, 2] *= keep
                    continue
                tu, tv = along + off_u, across + off_v
                iu, iv = int(np.floor(tu)), int(np.floor(tv))
                fu, fv = np.float32(tu - iu), np.float32(tv - iv)
                iu, iv = iu % tile, iv % tile
                ju, jv = (iu + 1) % tile, (iv + 1) % tile
                grain = (1 - fv) * (
                    (1 - fu) * texture[layer_n, iv, iu] + fu * texture[layer_n, iv, ju]
                ) + fv * ((1 - fu) * texture[layer_n, jv, iu] + fu * texture[layer_n, jv, ju])
                light = np.float32(1 + sh_u * u + sh_v * v - round_ * square)
                light = max(light, np.float32(0.15)) * max(1 + contrast * grain, np.float32(0.1))
                rest = 1 - cover
                colour[y, x, 0] = rest * colour[y, x, 0] + cover * red * light
                colour[y, x, 1] = rest * colour[y, x, 1] + cover * green * light
                colour[y, x, 2] = rest * colour[y, x, 2] + cover * blue * light
                if grow:
                    alpha[y, x] += (1 - alpha[y, x]) * cover
