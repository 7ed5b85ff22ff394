"""Registration accepts nothing that is wrong, and says why."""

from __future__ import annotations

import json
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scenes import TruePair, true_pair

from defocus_ds.config import RegisterConfig
from defocus_ds.frames import Reject
from defocus_ds.optics import Warp
from defocus_ds.stages.register import register
from defocus_ds.stages.register.doubts import Doubts
from defocus_ds.stages.register.verdict import judge

UInt8 = npt.NDArray[np.uint8]
QUICK = RegisterConfig(iterations=50)
SIZE = (320, 240)


@cache
def pair() -> TruePair:
    return true_pair(SIZE, radius_px=3.0, scale=1.01, shift_px=(4.0, -3.0))


@cache
def other_scene() -> UInt8:
    return true_pair(SIZE, radius_px=3.0, seed=9).blurred


def test_the_pair_itself_is_accepted() -> None:
    assert register(pair().sharp, pair().blurred, config=QUICK).verdict


BAD_KINDS = (
    "another scene",
    "mirrored",
    "upside down",
    "turned by 180 degrees",
    "turned by 12 degrees",
    "noise around black",
    "noise around grey",
    "cropped to a half",
    "half replaced",
    "tripod moved by most of the frame",
    "two images through one another",
    "a negative",
)


def bad_captures() -> dict[str, UInt8]:
    blurred, other = pair().blurred, other_scene()
    width, height = SIZE
    noise = np.random.default_rng(0)
    half = blurred.copy()
    half[:, : width // 2] = other[:, : width // 2]
    crop = cv2.resize(blurred[60:180, 80:240], SIZE, interpolation=cv2.INTER_CUBIC)
    turned = cv2.getRotationMatrix2D((width / 2, height / 2), 12, 1)
    moved = np.hstack([blurred[:, 190:], other[:, :190]])
    parallax = blurred.copy()
    parallax[:, ::2] = np.roll(blurred, (14, 19), (0, 1))[:, ::2]
    return {
        "another scene": other,
        "mirrored": blurred[:, ::-1].copy(),
        "upside down": blurred[::-1].copy(),
        "turned by 180 degrees": blurred[::-1, ::-1].copy(),
        "turned by 12 degrees": cv2.warpAffine(blurred, turned, SIZE),
        "noise around black": noise.normal(4, 2, blurred.shape).clip(0, 255).astype(np.uint8),
        "noise around grey": noise.normal(120, 20, blurred.shape).clip(0, 255).astype(np.uint8),
        "cropped to a half": np.asarray(crop, np.uint8),
        "half replaced": half,
        "tripod moved by most of the frame": moved,
        "two images through one another": parallax,
        "a negative": 255 - blurred,
    }


@pytest.mark.parametrize("kind", BAD_KINDS)
def test_nothing_wrong_is_accepted(kind: str) -> None:
    captures = bad_captures()
    assert tuple(captures) == BAD_KINDS
    found = register(pair().sharp, captures[kind], config=QUICK)
    assert isinstance(found.verdict, Reject)
    assert all(": " in reason for reason in found.verdict.reasons)
    json.dumps(found.to_record(), allow_nan=False)


def test_swapped_roles_are_noticed() -> None:
    found = register(pair().blurred, pair().sharp, config=QUICK)
    assert isinstance(found.verdict, Reject)
    assert any(reason.startswith("roles: ") for reason in found.verdict.reasons)


GOOD = {
    "ncc": 0.99,
    "residual_px": 0.02,
    "max_residual_px": 1.0,
    "explained": 1.0,
    "textured": 50,
    "converged": True,
    "radius_px": 3.0,
    "max_radius_px": 48.0,
    "role_ratio": 0.2,
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ncc": 0.5}, "ncc"),
        ({"residual_px": 1.5}, "residual"),
        ({"residual_px": float("nan")}, "residual"),
        ({"explained": 0.2}, "unexplained"),
        ({"textured": 1}, "texture"),
        ({"converged": False}, "diverged"),
        ({"radius_px": 48.0}, "radius"),
        ({"role_ratio": 3.0}, "roles"),
        ({"doubts": Doubts(contradicted=0.5)}, "contradicted"),
        ({"doubts": Doubts(rival=0.9, rival_px=40.0)}, "ambiguous"),
        ({"doubts": Doubts(stretch=1.0)}, "shaken"),
        ({"doubts": Doubts(clipped=0.7)}, "clipped"),
        ({"warp": Warp.similarity((640, 480), scale=1.2)}, "scale"),
        ({"warp": Warp.similarity((640, 480), rotation_deg=7)}, "rotation"),
        ({"warp": Warp.similarity((640, 480), radial=0.03)}, "radial"),
        ({"warp": Warp.similarity((640, 480), shift_px=(400, 0))}, "overlap"),
        ({"warp": Warp(((1.04, 0, 0), (0, 1, 0)), 0.0, (640, 480))}, "anisotropy"),
        ({"warp": Warp(((-1.0, 0, 639), (0, 1, 0)), 0.0, (640, 480))}, "mirrored"),
    ],
)
def test_each_limit_has_its_code(change: dict[str, object], code: str) -> None:
    options = {"warp": Warp.identity((640, 480)), **GOOD}
    assert judge(**options)  # type: ignore[arg-type]
    verdict = judge(**(options | change))  # type: ignore[arg-type]
    assert isinstance(verdict, Reject)
    assert [reason.split(":")[0] for reason in verdict.reasons if reason.startswith(code)] == [code]
