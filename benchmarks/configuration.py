"""The tables of docs/configuration.md, from the configuration's own defaults and limits.

python benchmarks/configuration.py docs/configuration.md

writes each section's table anew below its heading and leaves the text around it as it is.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from defocus_ds.config import RULES, BuildConfig
from defocus_ds.store import write_bytes

__all__ = ["MEANINGS", "with_tables"]

MEANINGS = {
    "preset": "which method, and the defaults of the rest",
    "seed": "of every random choice of the build",
    "develop.recipe": "`fixed`: the bracket has the sharp frame's white balance and levels; "
    "`libraw-defaults`: LibRaw adapts to each frame",
    "develop.demosaic": "LibRaw's algorithm",
    "develop.white": "sample of a 16-bit PNG or TIFF that becomes 255, e.g. 4095 for 12 bits; 0: "
    "65535, and a scene whose samples stay below 16384 is refused",
    "colour.method": "`response`: a curve a channel and a 3x4 matrix; `affine`: the matrix alone; "
    "`idt`: distribution transfer; `mkl`: Monge-Kantorovitch",
    "colour.blur_matched": "match with the sharp image blurred by the disk, not with the plain one",
    "colour.regrain": "restore the gradients after the colour map",
    "colour.iterations": "of `idt`",
    "colour.samples": "places compared",
    "colour.lut_size": "nodes an axis of the baked 3-D LUT",
    "register.iterations": "most steps of the evolution strategy at each level of the pyramid",
    "register.sampling": "share of the pixels that mutual information reads; "
    "`accurate` reads at most 500",
    "register.start_scale": "finest level of mutual information, as a share of full resolution",
    "register.refine": "blur-matched refinement; `accurate` only",
    "register.samples": "pixels that the refinement reads",
    "register.max_residual_px": "expected misalignment above which a pair is rejected: `residual`; "
    "also the tolerance within which texture agrees: `unexplained`",
    "tile.size": "side of a crop, pixels",
    "tile.stride": "from a crop to the next, pixels",
    "tile.min_std": "standard deviation of the sharp crop's luma below which it is `flat`",
    "tile.max_clipped": "share of the pixels at 0 or 255 above which it is `clipped`",
    "tile.max_residual_px": "local misalignment above which it is `misaligned`",
    "tile.max_sharpness_ratio": "gradient energy, blurred over sharp, above which it is `reversed`",
    "tile.max_unexplained": "share of the contrast that no blur explains, above which it is "
    "`unexplained`",
    "tile.test_share": "of the scenes (`crop`) or the crops (`release`) for test",
    "tile.val_share": "the same for val",
    "limits.stage_memory_mb": "what a worker may allocate in a stage (enforced on Linux)",
    "limits.decode_memory_mb": "the same for the process that decodes a capture",
    "limits.decode_timeout_s": "after which decoding a capture is given up",
    "limits.max_megapixels": "a capture whose header declares more is not decoded",
}
_HEAD = "| key | default | `paper` | allowed | meaning |\n|---|---|---|---|---|\n"


def with_tables(page: str) -> str:
    """The page with the tables of the code in the place of its own.

    Raises:
        ValueError: a section has no heading with a table below it.
    """
    sections: dict[str, list[str]] = {}
    for path, line in _lines():
        sections.setdefault(path.rpartition(".")[0], []).append(line)
    for name, lines in sections.items():
        heading = f"## `{name}`" if name else "## At the top"
        pattern = rf"(^{re.escape(heading)}\n(?:(?![|#]).*\n)*)(?:^\|.*\n)+"
        table = _HEAD + "".join(lines)
        page, found = re.subn(pattern, lambda m, t=table: m[1] + t, page, flags=re.M)
        if found != 1:
            raise ValueError(f"{heading}: {found} tables, need 1.")
    return page


def _lines() -> list[tuple[str, str]]:
    """(path, row of its table) of every key."""
    allowed = {path: message for path, message, _ in RULES}
    paper = _values(BuildConfig.from_preset("paper"))
    return [
        (
            path,
            f"| {path.rpartition('.')[2]} | {_toml(value)} "
            f"| {'' if paper[path] == value else _toml(paper[path])} "
            f"| {_range(allowed.get(path))} | {MEANINGS[path]} |\n",
        )
        for path, value in _values(BuildConfig()).items()
    ]


def _values(config: BuildConfig) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in config.as_dict().items():
        section = value if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{key}".rstrip("."): item for key, item in section.items()}
    return found


def _toml(value: object) -> str:
    return f"`{json.dumps(value)}`"


def _range(message: str | None) -> str:
    if message is None:
        return "true, false"
    return message.removeprefix("it must be one of ").removeprefix("it must lie in ")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_bytes(target, with_tables(target.read_text(encoding="utf-8")).encode())
