"""The shape of the code: imports run one way, start-up is light, public names exist."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import defocus_ds
import defocus_ds_cli
import defocus_ds_train

ALLOWED = {
    "defocus_ds": {"defocus_ds"},
    "defocus_ds_train": {"defocus_ds", "defocus_ds_train"},
    "defocus_ds_cli": {"defocus_ds", "defocus_ds_train", "defocus_ds_cli"},
}
HEAVY = {"torch", "rawpy", "SimpleITK", "numpy", "cv2", "numba", "pandas", "pyarrow", "skimage"}


def modules() -> list[str]:
    names = []
    for package in (defocus_ds, defocus_ds_cli, defocus_ds_train):
        names.append(package.__name__)
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            names.append(found.name)
    return names


def _path(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@pytest.mark.parametrize("module", modules())
def test_imports_run_one_way(module: str) -> None:
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    ours = {name for name in imported if name.startswith("defocus_ds")}
    assert ours <= ALLOWED[module.split(".")[0]]


@pytest.mark.parametrize("module", modules())
def test_public_names_exist(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", []):
        assert hasattr(loaded, name), f"{module}.__all__ names {name!r}, which is not there"


def test_modules_are_small() -> None:
    long = {m: n for m in modules() if (n := len(_path(m).read_text().splitlines())) > 330}
    assert not long


@pytest.mark.parametrize(
    "code",
    [
        "import defocus_ds",
        "import sys; sys.argv = ['defocus-ds', '--help']\n"
        "from defocus_ds_cli.main import main\n"
        "try: main()\nexcept SystemExit: pass",
    ],
)
def test_start_up_imports_nothing_heavy(code: str) -> None:
    script = code + "\nimport sys; print('LOADED', *sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split("LOADED", 1)[1].split())
    assert not loaded & HEAVY
