"""Run a script in GNU Octave on arrays: plain binary files in, one array out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["run_octave"]

_READ = """
f = fopen('{path}'); {name} = reshape(fread(f, Inf, 'double'), [{shape}]); fclose(f);
"""
_WRITE = """
f = fopen('{path}', 'w'); fwrite(f, [ndims(out), size(out), out(:)'], 'double'); fclose(f);
"""


def run_octave(
    script: str, inputs: Mapping[str, npt.NDArray[Any]], *, folder: Path, work: Path
) -> npt.NDArray[np.float64]:
    """The variable ``out`` that a script leaves.

    Args:
        script: statements; the inputs are variables of type double.
        inputs: arrays by the name of their variable.
        folder: added to the path on which functions are looked for.
        work: folder for the files that carry the arrays; no quotes in its name.
    """
    if shutil.which("octave-cli") is None:
        sys.exit("octave-cli is not installed (Debian: octave-dev or octave, octave-image).")
    lines = ["pkg load image", f"addpath('{folder.resolve()}')"]
    for name, array in inputs.items():
        path = (work / f"{name}.f64").resolve()
        np.asarray(array, np.float64).ravel(order="F").tofile(path)
        shape = " ".join(str(length) for length in array.shape)
        lines.append(_READ.format(path=path, name=name, shape=shape))
    result = (work / "out.f64").resolve()
    result.unlink(missing_ok=True)
    text = "\n".join([*lines, script, _WRITE.format(path=result)])
    (work / "run.m").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["octave-cli", "--norc", "--no-history", "--quiet", str((work / "run.m").resolve())],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode or not result.is_file():
        sys.exit(f"octave-cli failed: {done.stderr.strip() or done.stdout.strip()}")
    numbers = np.fromfile(result, np.float64)
    dimensions = int(numbers[0])
    lengths = tuple(int(length) for length in numbers[1 : 1 + dimensions])
    return np.asarray(numbers[1 + dimensions :].reshape(lengths, order="F"))
