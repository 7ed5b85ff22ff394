"""The smallest shoot that goes through every stage: two scenes, a sharp and a blurred capture."""

from __future__ import annotations

import shutil
from pathlib import Path

from defocus_ds.config import load_config

SETTINGS = ("colour.method=none", "register.iterations=50")
QUICK = load_config(settings=SETTINGS)


def make_tiny_shoot(folder: Path) -> Path:
    """A shoot of 240x160 in the folder, which is made."""
    from defocus_ds.simulate import simulate

    drawn = folder.with_name(f"{folder.name}-drawn")
    simulate(drawn, scenes=2, size=(240, 160), seed=5)
    lines = ["file,scene,level,offset"]
    for scene in ("scene01", "scene02"):
        captures = sorted((drawn / scene).glob("*.CR2"))
        (folder / scene).mkdir(parents=True)
        for path, level in zip(captures, ("sharp,0", "low,2"), strict=False):
            shutil.copy2(path, folder / scene)
            lines.append(f"{scene}/{path.name},{scene},{level}")
    (folder / "shoot.csv").write_text("\n".join(lines) + "\n")
    shutil.rmtree(drawn)
    return folder
