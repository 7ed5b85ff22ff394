"""Every way to register a pair that the benchmark knows: ours, and the peers that are installed.

All peers get what their users would give them: the encoded green channel, at quarter size unless
the name says otherwise, one thread, a start from the identity through the method's own pyramid.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from isolated import Stopwatch

from defocus_ds.config import RegisterConfig
from defocus_ds.optics import Warp

__all__ = ["METHODS", "Method", "run"]

Image = npt.NDArray[Any]
Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Method:
    """``needs`` is a module, or a program if it begins with a $.

    ``slow`` ones run on the first scene's three plain pairs, ``asked`` ones with --full only.
    """

    find: Callable[[Image, Image, Stopwatch], Found]
    needs: str = ""
    slow: bool = False
    asked: bool = False

    @property
    def installed(self) -> bool:
        if self.needs.startswith("$"):
            return shutil.which(self.needs[1:]) is not None
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def run(method: str, task: dict[str, Any], watch: Stopwatch) -> Found:
    """Register the pair of ``task["sharp"]`` and ``task["blurred"]``, two .npy files.

    Returns:
        ``matrix`` and ``radial`` at full size, and whatever else the method says.
    """
    sharp, blurred = (np.load(task[name], allow_pickle=False) for name in ("sharp", "blurred"))
    if method.startswith("es "):  # the evolution strategy at an eighth of the size, by iterations
        config = RegisterConfig(
            iterations=int(method[3:]), start_scale=0.125, sampling=0.05, refine=False
        )
        return _ours("paper", config)(sharp, blurred, watch)
    return METHODS[method].find(sharp, blurred, watch)


def _ours(preset: str, config: RegisterConfig | None) -> Callable[..., Found]:
    def find(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
        from defocus_ds import register

        with watch("all"), _stages_timed(watch):
            found = register(sharp, blurred, preset=preset, config=config)
        return _record(found.warp) | {
            "residual_px": found.residual_px,
            "blur_radius_px": found.blur_radius_px,
            "verdict": "keep" if found.verdict else "; ".join(found.verdict.reasons),
        }

    return find


@contextlib.contextmanager
def _stages_timed(watch: Stopwatch) -> Iterator[None]:
    """Also count the parts of our own registration on their own.

    The refinement is that of the fit.  The one from which `find_doubts` starts anew, to see
    whether it ends elsewhere, is counted with the doubts.
    """
    from defocus_ds.stages.register import stage

    parts = {
        "rough_candidates": "start",
        "multimodal": "evolution strategy",
        "refine_coarse": "refinement",
        "refine_fine": "refinement",
        "check_locally": "checks",
        "find_doubts": "doubts",
        "measure_radii": "radius map",
    }
    kept = {name: getattr(stage, name) for name in parts}

    def timed(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with watch(parts[name]):
                return kept[name](*args, **options)

        return call

    for name in parts:
        setattr(stage, name, timed(name))
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(stage, name, function)


def _ecc(full: bool) -> Callable[..., Found]:
    def find(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
        with watch("all"):
            matrix = np.eye(2, 3, dtype=np.float32)
            criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-7)
            previous = 0
            for factor in (16, 4, 1) if full else (16, 4):
                if previous:
                    matrix = matrix.copy()
                    matrix[:, 2] *= previous / factor
                _, matrix = cv2.findTransformECC(
                    _plane(sharp, factor),
                    _plane(blurred, factor),
                    matrix,
                    cv2.MOTION_AFFINE,
                    criteria,
                    None,
                    5,
                )
                previous = factor
        return _scaled(matrix, previous, sharp)

    return find


def _sift(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
    with watch("all"):
        detector = cv2.SIFT_create(nfeatures=8000)
        points, features = zip(
            *(detector.detectAndCompute(_plane(image, 4), None) for image in (sharp, blurred)),
            strict=True,
        )
        pairs = cv2.BFMatcher().knnMatch(features[0], features[1], k=2)
        good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
        here = np.array([points[0][m.queryIdx].pt for m in good])
        there = np.array([points[1][m.trainIdx].pt for m in good])
        cv2.setRNGSeed(1)
        matrix, _ = cv2.estimateAffine2D(here, there, ransacReprojThreshold=1.0, maxIters=5000)
    return _scaled(matrix, 4, sharp)


def _regular_step(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with watch("all"):
        fixed, moving = _plane(sharp, 4, float), _plane(blurred, 4, float)
        transform = sitk.AffineTransform(2)
        transform.SetCenter(((fixed.shape[1] - 1) / 2, (fixed.shape[0] - 1) / 2))
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(50)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.05, 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 300)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2, 1, 0])
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving))
    linear = np.asarray(transform.GetMatrix()).reshape(2, 2)
    return _about(linear, transform.GetTranslation(), transform.GetCenter(), sharp)


def _stackreg(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
    from pystackreg import StackReg

    with watch("all"):
        method = StackReg(StackReg.AFFINE)
        matrix = method.register(_plane(sharp, 4, float), _plane(blurred, 4, float))
    return _scaled(matrix[:2], 4, sharp)


def _ants(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
    import ants

    with watch("all"), tempfile.TemporaryDirectory() as folder:
        fixed, moving = (
            ants.from_numpy(_plane(i, 4, float).T.copy()) for i in (sharp, blurred)
        )  # its first axis is x
        found = ants.registration(
            fixed, moving, type_of_transform="Affine", random_seed=1, outprefix=f"{folder}/a"
        )
        transform = ants.read_transform(found["fwdtransforms"][0])
    values = np.asarray(transform.parameters)
    return _about(values[:4].reshape(2, 2), values[4:], transform.fixed_parameters, sharp)


def _elastix(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
    import itk

    with watch("all"):
        fixed, moving = (itk.image_from_array(_plane(i, 4, float)) for i in (sharp, blurred))
        settings = itk.ParameterObject.New()
        table = settings.GetDefaultParameterMap("affine", 5)
        table["MaximumNumberOfIterations"] = ["1000"]
        table["WriteResultImage"] = ["false"]
        settings.AddParameterMap(table)
        _, found = itk.elastix_registration_method(
            fixed, moving, parameter_object=settings, number_of_threads=1, log_to_console=False
        )
        table = found.GetParameterMap(0)
    values = np.array([float(v) for v in table["TransformParameters"]])
    centre = [float(v) for v in table["CenterOfRotationPoint"]]
    return _about(values[:4].reshape(2, 2), values[4:], centre, sharp)


def _hugin(sharp: Image, blurred: Image, watch: Stopwatch) -> Found:
    with watch("all"), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, image in (("sharp.png", sharp), ("blurred.png", blurred)):
            small = cv2.resize(image[: image.shape[0] // 4 * 4], None, fx=0.25, fy=0.25,
                               interpolation=cv2.INTER_AREA)  # fmt: skip
            cv2.imwrite(str(folder / file), small[..., ::-1])
        command = ["align_image_stack", "-m", "-f", "40", "--align-to-first", "-p", "a.pto"]
        _program([*command, "sharp.png", "blurred.png"], folder)
        # where a grid of the sharp frame lies in the blurred one, by way of the panorama
        height, width = small.shape[:2]
        x, y = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9))
        grid = np.stack([x.ravel(), y.ravel()], axis=-1)
        there = _trafo(_trafo(grid, ["a.pto", "0"], folder), ["-r", "a.pto", "1"], folder)
    rows = np.column_stack([grid, np.ones(len(grid))])
    return _scaled(np.linalg.lstsq(rows, there, rcond=None)[0].T, 4, sharp)


def _trafo(points: Image, arguments: list[str], folder: Path) -> Image:
    text = "\n".join(f"{px:.6f} {py:.6f}" for px, py in points)
    lines = _program(["pano_trafo", *arguments], folder, given=text).split("\n")
    return np.array([[float(v) for v in line.split()] for line in lines if line.strip()])


def _program(command: list[str], folder: Path, *, given: str = "") -> str:
    done = subprocess.run(
        command, cwd=folder, input=given, capture_output=True, text=True, check=True, timeout=600
    )
    return done.stdout


def _plane(image: Image, factor: int, kind: type = np.uint8) -> Image:
    """The encoded green channel, area-averaged from the top-left corner."""
    green = image[..., 1]
    height, width = (length // factor for length in green.shape)
    if factor == 1:
        return np.ascontiguousarray(green, kind)
    crop = np.ascontiguousarray(green[: height * factor, : width * factor], np.float32)
    small = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    return small if kind is float else np.asarray(np.round(small), kind)


def _about(linear: Image, translation: Any, centre: Any, sharp: Image) -> Found:
    """ITK's form: ``linear @ (p - centre) + centre + translation``, at quarter size."""
    offset = np.asarray(translation) + centre - linear @ np.asarray(centre)
    return _scaled(np.column_stack([linear, offset]), 4, sharp)


def _scaled(matrix: Image, factor: int, sharp: Image) -> Found:
    (a, b, c), (d, e, f) = np.asarray(matrix, np.float64).tolist()
    full = (sharp.shape[1], sharp.shape[0])
    small = Warp(((a, b, c), (d, e, f)), 0.0, (full[0] // factor, full[1] // factor))
    return _record(small.at_scale(float(factor), full))


def _record(warp: Warp) -> Found:
    return {"matrix": [list(row) for row in warp.matrix], "radial": warp.radial}


METHODS = {
    "accurate": Method(_ours("accurate", None)),
    "paper, quarter size": Method(
        _ours("paper", RegisterConfig(start_scale=0.25, sampling=0.05, refine=False)), slow=True
    ),
    "paper": Method(_ours("paper", None), slow=True, asked=True),
    "OpenCV ECC, quarter": Method(_ecc(full=False)),
    "OpenCV ECC, full": Method(_ecc(full=True)),
    "SIFT + RANSAC": Method(_sift),
    "SimpleITK Mattes, gradient": Method(_regular_step),
    "pystackreg": Method(_stackreg, needs="pystackreg"),
    "ANTs": Method(_ants, needs="ants"),
    "elastix": Method(_elastix, needs="itk"),
    "hugin align_image_stack": Method(_hugin, needs="$align_image_stack"),
}
