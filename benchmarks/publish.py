"""From a shoot with planted faults to a published dataset, and back: does each fault show?

    python benchmarks/publish.py OUT                        # full size, about half an hour
    python benchmarks/publish.py OUT --size 1488x992        # two minutes

Six simulated scenes of raw files.  The tripod was moved before one capture, a lamp of another
colour went on before a second, and one scene was shot a second time from a step aside.  The report
must flag all three; a person rejects one more pair.  What is left is cropped, released, exported
three ways and loaded back by datasets, webdataset and a torch DataLoader with two workers, which
must agree in every pixel.  Then a byte of a shard is flipped, found, and repaired.  Exits with 1
when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from results import frame_size, note

import defocus_ds
from defocus_ds.dataset.checksums import read_sums
from defocus_ds.dataset.export import export
from defocus_ds.dataset.export.make import FORMATS
from defocus_ds.dataset.frozen import read_splits
from defocus_ds.dataset.manifest import read_scenes
from defocus_ds.dataset.pixels import pixels_sha256
from defocus_ds.dataset.release import release
from defocus_ds.dataset.release_facts import About
from defocus_ds.dataset.repair import repair_shards
from defocus_ds.frames import BLURRED_LEVELS
from defocus_ds.optics import Transfer, to_encoded
from defocus_ds.report import report
from defocus_ds.simulate import simulate
from defocus_ds.simulate.leaves import draw_leaves, paint, textures
from defocus_ds.store import sha256_file

FULL_SIZE = (5796, 3870)
TWINS = ("scene02", "scene06")
MOVED = ("scene03", "low")
TINTED = ("scene04", "medium")
REVIEWED = ("scene05", "low")

Image = npt.NDArray[np.uint8]
Step = Callable[[str, bool], None]


def main() -> None:
    given = parse()
    failed: list[str] = []

    def step(what: str, fine: bool) -> None:
        note(f"{'ok      ' if fine else 'WRONG   '}{what}")
        if not fine:
            failed.append(what)

    run(given.out, given.size, step)
    print(f"{len(failed)} wrong" if failed else "everything as it should be")
    raise SystemExit(bool(failed))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("--size", type=frame_size, default=FULL_SIZE, metavar="WxH")
    return parser.parse_args()


def run(out: Path, size: tuple[int, int], step: Step) -> None:
    """Every step; ``step`` is told what was looked at and whether it is as it should be."""
    shoot, dataset, released = out / "shoot", out / "dataset", out / "release"
    make_shoot(out, shoot, size)
    built = defocus_ds.build(shoot, dataset, jobs=os.cpu_count() or 1)
    step("every scene was built", not built.failed)
    rows = {(row["scene"], row["level"]): row for row in read_scenes(dataset / "scenes.parquet")}
    rejected = {place for place, row in rows.items() if row["verdict"] != "keep"}
    step(f"{'/'.join(MOVED)}, the moved tripod, is the only pair rejected", rejected == {MOVED})
    page = report(dataset).read_text(encoding="utf-8")
    step("the report flags the second shot of a scene", flagged(page, TWINS[1], "near-duplicate"))
    step("the report flags the tinted capture", flagged(page, "/".join(TINTED), "tinted"))
    step("and no other capture as tinted", page.count("tinted: ") == 2)  # table and scene
    review = out / "review.csv"
    with review.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("scene", "level", "decision", "note"), (*REVIEWED, "reject", "by way of trial")]
        )
    for level in BLURRED_LEVELS:
        crops = defocus_ds.crop(dataset, level=level, review=review)
        note(f"{level}: {sum(crops.kept.values())} crops")
    about = About("Planted faults", "CC0-1.0", ("defocus-ds",))
    made = release(dataset, released, about=about, test_share=0.2, review=review)
    step(
        "both shots of the scene are in one split",
        len({read_splits(released)[s] for s in TWINS}) == 1,
    )
    step(
        "the pairs left out are said",
        {"/".join(MOVED), "/".join(REVIEWED)} <= set(made.left_out),
    )
    step("the release is clean", defocus_ds.verify(released).clean)
    compare_exports(out, released, made.crops, step)
    flip_and_repair(dataset, released, step)


def flagged(page: str, name: str, flag: str) -> bool:
    """Whether the page has the flag within a part of a pair, or of any pair of a scene."""
    parts = page.split('data-pair="')[1:]
    return any(part.startswith((f'{name}"', f"{name}/")) and flag in part for part in parts)


def make_shoot(out: Path, shoot: Path, size: tuple[int, int]) -> None:
    """Six scenes; captures of a second shoot take the place of two of the first."""
    wide = (round(size[0] * 1.7), round(size[1] * 1.7))
    pictures, planted = out / "pictures", out / "planted_pictures"
    for index in range(1, 7):
        picture = dead_leaves(wide, seed=2 if index == 6 else index)
        aside = (0.03, 0.02) if index == 6 else (0.0, 0.0)
        save(pictures / f"{index}.png", window(picture, size, aside))
        if index <= 4:
            other = window(picture, size, (0.0, 0.0))
            if index == int(MOVED[0][-1]):
                other = from_the_side(other)
            if index == int(TINTED[0][-1]):
                other = np.asarray(np.clip(other * (1.0, 0.93, 0.75), 0, 255), np.uint8)
            save(planted / f"{index}.png", other)
    for folder, images, scenes in ((shoot, pictures, 6), (out / "planted", planted, 4)):
        simulate(
            folder,
            scenes=scenes,
            size=size,
            seed=1,
            images=images,
            progress=lambda done, total, what: note(f"simulate {done}/{total} {what}"),
        )
    for scene, level in (MOVED, TINTED):
        captures = sorted((out / "planted" / scene).glob("*.CR2"))
        order = ("sharp", *(known.value for known in BLURRED_LEVELS)).index(level)
        shutil.copyfile(captures[order], shoot / scene / captures[order].name)


def dead_leaves(size: tuple[int, int], *, seed: int) -> Image:
    """A picture of things of all sizes, (H, W, 3) uint8 sRGB."""
    rng = np.random.default_rng(seed)
    diagonal = float(np.hypot(*size))
    colour = np.full((size[1], size[0], 3), 0.1, np.float32)
    atlas = textures(rng)
    for smallest, coverage in ((0.05 * diagonal, 5.0), (2.0, 2.5)):
        leaves = draw_leaves(
            rng, size, smallest_px=smallest, largest_px=0.15 * diagonal, coverage=coverage
        )
        paint(colour, None, leaves, atlas)
    return np.asarray(np.round(to_encoded(colour.clip(0, 1), Transfer.SRGB) * 255), np.uint8)


def window(picture: Image, size: tuple[int, int], aside: tuple[float, float]) -> Image:
    """A part of a picture 1.3 times as large as the frame, moved by shares of the frame."""
    height, width = round(size[1] * 1.3), round(size[0] * 1.3)
    y = (picture.shape[0] - height) // 2 + round(aside[1] * size[1])
    x = (picture.shape[1] - width) // 2 + round(aside[0] * size[0])
    return picture[y : y + height, x : x + width]


def from_the_side(picture: Image) -> Image:
    """As a camera sees it that was moved aside and turned back: one side is farther away."""
    height, width = picture.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    near = np.array([(0, 0), (0, 0.12), (0, -0.12), (0, 0)], np.float32) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners + near.astype(np.float32), corners)
    moved = cv2.warpPerspective(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return np.asarray(moved, np.uint8)


def save(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))


def compare_exports(
    out: Path, released: Path, made: Mapping[str, Mapping[str, int]], step: Step
) -> None:
    """Export three ways; all that load must see the crops that the release has."""
    for to in FORMATS:
        export(released, out / to, to=to)
    for level, split in ((level, split) for level, splits in made.items() for split in splits):
        crops = defocus_ds.load_crops(released, level=level, split=split, check=True)
        wanted = sorted((pixels_sha256(item.sharp), pixels_sha256(item.blurred)) for item in crops)
        for name, pairs in (
            ("datasets", by_datasets(released, level, split, out / "cache")),
            ("webdataset", by_webdataset(out / "webdataset", level, split)),
            ("torch, 2 workers", by_torch(released, level, split)),
            ("basicsr", by_folders(out / "basicsr" / level / split, "gt", "lq")),
            ("dpdd", by_folders(out / "dpdd" / level / f"{split}_c", "target", "source")),
        ):
            found = sorted((pixels_sha256(s), pixels_sha256(b)) for s, b in pairs)
            step(f"{name} reads the {len(wanted)} {level} {split} crops", found == wanted)


def by_datasets(
    released: Path, level: str, split: str, cache: Path
) -> Iterator[tuple[Image, Image]]:
    from datasets import load_dataset

    for item in load_dataset(str(released), level, split=split, cache_dir=str(cache)):
        yield np.asarray(item["sharp"]), np.asarray(item["blurred"])


def by_webdataset(tars: Path, level: str, split: str) -> Iterator[tuple[Image, Image]]:
    for item in defocus_ds.as_webdataset(tars, level=level, split=split, dtype="uint8"):
        yield np.asarray(item["sharp"])[0], np.asarray(item["blurred"])[0]


def by_torch(released: Path, level: str, split: str) -> Iterator[tuple[Image, Image]]:
    from torch.utils.data import DataLoader

    crops = defocus_ds.load_crops(released, level=level, split=split)
    loader = DataLoader(defocus_ds.as_torch(crops, dtype="uint8"), batch_size=16, num_workers=2)
    for batch in loader:
        yield from zip(batch["sharp"].numpy()[:, 0], batch["blurred"].numpy()[:, 0], strict=True)


def by_folders(folder: Path, sharp: str, blurred: str) -> Iterator[tuple[Image, Image]]:
    for path in sorted((folder / sharp).iterdir()):
        one, two = (
            cv2.imread(str(folder / kind / path.name), cv2.IMREAD_UNCHANGED)
            for kind in (sharp, blurred)
        )
        assert one is not None
        assert two is not None
        yield np.asarray(one, np.uint8), np.asarray(two, np.uint8)


def flip_and_repair(dataset: Path, released: Path, step: Step) -> None:
    """One byte of one shard."""
    shard = sorted((released / "crops" / "low").glob("train-*.parquet"))[0]
    name = shard.relative_to(released).as_posix()
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    found = defocus_ds.verify(released)
    step("a flipped byte is found", {finding.file for finding in found.findings} == {name})
    done = repair_shards(found, images=dataset)
    step("and repaired, to the same bytes", done.repaired == (name,))
    same = sha256_file(shard) == read_sums(released)[name]
    step("the release is clean again", same and defocus_ds.verify(released).clean)


if __name__ == "__main__":
    main()
