"""`report`: the page on which a person accepts or rejects the pairs of a dataset."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from defocus_ds.dataset.duplicates import Features, find_duplicates, scene_features
from defocus_ds.errors import DatasetError
from defocus_ds.frames import Level, Pair, UInt8Image
from defocus_ds.report.crop_figures import mean_q
from defocus_ds.report.edges import edge_overlay, encode_png
from defocus_ds.report.flags import flags_of
from defocus_ds.report.maps import radius_plot, unexplained_plot
from defocus_ds.report.page import render_page
from defocus_ds.report.pairs import PairView, pair_view
from defocus_ds.report.pictures import (
    Tile,
    before_of,
    choose_tiles,
    colours_as_shot,
    encode_jpeg,
    model_of,
    overview,
)
from defocus_ds.report.plots import shift_plot, trace_plot
from defocus_ds.report.scene import ScenePictures, TilePictures, overview_file, plot_file
from defocus_ds.stages.tile import luma
from defocus_ds.store import inside, read_json, write_bytes, write_json

__all__ = ["report"]

# part of every scene's digest: a change here draws all pictures again
_PICTURES_VERSION = 3


@dataclass(frozen=True, slots=True)
class _Scene:
    name: str
    sharp: str | None
    pairs: tuple[PairView, ...]
    digest: str

    @property
    def folder(self) -> str:
        """A name that is safe in any file system and URL, whatever the scene is called."""
        return f"assets/{hashlib.sha256(self.name.encode()).hexdigest()[:12]}"


def report(dataset: Path | str, *, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """Write ``report/index.html`` and its pictures; needs no server and no network.

    Pictures of scenes that have not changed since the last report are kept.

    Args:
        dataset: folder made by `defocus_ds.build`.
        progress: called with (done, total, scene).

    Returns:
        The page's path.

    Raises:
        DatasetError: not a dataset, an image that its manifest names cannot be read, a damaged
            manifest of crops, or a link in the place of a folder of the report.
    """
    from defocus_ds.dataset.manifest import SCENES_NAME, read_info, read_scenes
    from defocus_ds.dataset.stale import crop_again, stale_levels
    from defocus_ds.pipeline.journal import refuse_unfinished

    dataset = Path(dataset)
    refuse_unfinished(dataset)
    facts = read_info(dataset)
    scenes = _scenes(read_scenes(dataset / SCENES_NAME), _limit(facts))
    folder = dataset / "report"
    _refuse_links(folder)
    pictures: dict[str, ScenePictures] = {}
    for index, scene in enumerate(scenes):
        if progress:
            progress(index, len(scenes), scene.name)
        pictures[scene.name] = _draw(scene, dataset, _limit(facts))
    _remove_others(folder, {scene.folder for scene in scenes})
    page = folder / "index.html"
    stated = facts.get("digest")
    levels = stale_levels(dataset, digest=stated if isinstance(stated, str) else None)
    stale = {level: _why_stale(dataset / "crops" / level) for level in levels}
    sharpness = {pair: q for pair, q in mean_q(dataset).items() if pair.level not in stale}
    pairs = [_with_q(pair, sharpness) for scene in scenes for pair in scene.pairs]
    features = {
        scene.name: _features(folder / scene.folder / name)
        for scene in scenes
        if (name := pictures[scene.name].overviews.get(Level.SHARP))
    }
    flags = flags_of(pairs, find_duplicates(features))
    pairs = [replace(pair, flags=flags.get(pair.name, ())) for pair in pairs]
    title = dataset.resolve().name
    html = render_page(
        title,
        facts,
        pairs,
        pictures,
        limit_px=_limit(facts),
        stale=stale,
        again=[crop_again(dataset, level, named=title) for level in stale],
    )
    write_bytes(page, html.encode())
    if progress:
        progress(len(scenes), len(scenes), "index.html")
    return page


def _scenes(rows: Sequence[Mapping[str, Any]], limit_px: float | None) -> list[_Scene]:
    """The rows by scene, in the manifest's order; the maps mark what is above the limit."""
    names = list(dict.fromkeys(row["scene"] for row in rows))
    scenes = []
    for name in names:
        own = [row for row in rows if row["scene"] == name]
        sharp = next((row["image"] for row in own if row["level"] == Level.SHARP), None)
        drawn_from = ("level", "image", "image_sha256", "alignment", "colour")
        parts = [_PICTURES_VERSION, limit_px] + [[row[key] for key in drawn_from] for row in own]
        scenes.append(
            _Scene(
                name,
                sharp,
                tuple(pair_view(row) for row in own if row["level"] != Level.SHARP),
                hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
            )
        )
    return scenes


def _with_q(pair: PairView, sharpness: Mapping[Pair, tuple[float, float]]) -> PairView:
    q_sharp, q_blurred = sharpness.get(Pair(pair.scene, pair.level), (None, None))
    return replace(pair, q_sharp=q_sharp, q_blurred=q_blurred)


def _why_stale(level: Path) -> str:
    from defocus_ds.dataset.shards import MANIFEST_NAME

    if not (level / MANIFEST_NAME).is_file():
        return f"have no {MANIFEST_NAME}"
    return "were cut from an earlier build than the one shown here"


def _limit(facts: Mapping[str, Any]) -> float | None:
    """The residual shift above which crops are rejected, from the dataset's configuration."""
    try:
        return float(facts["config"]["tile"]["max_residual_px"])
    except (KeyError, TypeError, ValueError):
        return None


def _draw(scene: _Scene, dataset: Path, limit_px: float | None) -> ScenePictures:
    """Write the scene's pictures unless they are there; the stamp is written last.

    No checksum covers the stamp, and anyone can compute its digest: it is read as a stranger's.
    """
    folder = dataset / "report" / scene.folder
    stamp = folder / "stamp.json"
    try:
        known = read_json(stamp)
        if known["digest"] == scene.digest:
            return ScenePictures.from_record(known["pictures"], folder=scene.folder)
    except (DatasetError, KeyError, TypeError, RecursionError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    drawn = _draw_scene(scene, dataset, folder, limit_px)
    write_json(stamp, {"digest": scene.digest, "pictures": asdict(drawn)})
    return drawn


def _plots(pair: PairView, limit_px: float | None) -> dict[str, str]:
    """Name -> SVG, in the order to show; none for a pair that was never registered."""
    if not (pair.shifts or pair.traces):
        return {}
    place: dict[str, Any] = {"size": pair.size, "area": pair.valid_area}
    return {
        "residual shift": shift_plot(pair.shifts, limit_px=limit_px, **place),
        "blur radius": radius_plot(pair.radii, **place),
        "unexplained contrast": unexplained_plot(pair.unexplained, **place),
        "registration metric": trace_plot(pair.traces),
    }


def _draw_scene(
    scene: _Scene, dataset: Path, folder: Path, limit_px: float | None
) -> ScenePictures:
    plots: dict[str, dict[str, str]] = {}
    for pair in scene.pairs:
        plots[pair.level] = {}
        for name, document in _plots(pair, limit_px).items():
            file = plot_file(pair.level, name)
            plots[pair.level][name] = file
            write_bytes(folder / file, document.encode())
    overviews: dict[str, str] = {}
    tiles: list[Tile] = []
    drawn: dict[str, list[TilePictures]] = {}

    def save(name: str, image: UInt8Image) -> str:
        return _save(folder, name, image)

    if scene.sharp is not None:
        sharp = _read(dataset, scene.sharp)
        overviews[Level.SHARP] = save(overview_file(Level.SHARP), overview(sharp))
        tiles += choose_tiles(
            sharp,
            area=_common_area(scene, sharp),
            shifts=[s for p in scene.pairs for s in p.shifts],
        )
        for number, tile in enumerate(tiles):
            save(f"sharp-{number}.jpg", tile.cut(sharp))
    for pair in scene.pairs:
        if pair.image is None or scene.sharp is None:
            continue
        blurred = _read(dataset, pair.image)
        overviews[pair.level] = save(overview_file(pair.level), overview(blurred))
        drawn[pair.level] = [
            _draw_tile(folder, number, tile, pair, sharp=sharp, blurred=blurred)
            for number, tile in enumerate(tiles)
        ]
    return ScenePictures(scene.folder, overviews, drawn, plots)


def _draw_tile(
    folder: Path, number: int, tile: Tile, pair: PairView, *, sharp: UInt8Image, blurred: UInt8Image
) -> TilePictures:
    radius = pair.blur_radius_px or 0.0
    model = model_of(sharp, tile, blur_radius_px=radius, transfer=pair.transfer)
    own = tile.cut(blurred)
    before = None if pair.warp is None else before_of(blurred, tile, pair.warp)
    colours = None
    if pair.colour_map is not None:
        colours = colours_as_shot(own, pair.colour_map, transfer=pair.transfer)
    files = TilePictures.named(
        tile, pair.level, number, before=before is not None, colours=colours is not None
    )
    write_bytes(folder / files.edges, encode_png(edge_overlay(model, own)))
    for name, picture in (
        (files.blurred, own),
        (files.model, model),
        (files.before, before),
        (files.colours, colours),
    ):
        if name is not None and picture is not None:
            _save(folder, name, picture)
    return files


def _save(folder: Path, name: str, image: UInt8Image) -> str:
    write_bytes(folder / name, encode_jpeg(image))
    return name


def _features(overview: Path) -> Features:
    """Of the overview of a sharp image, which is as large as features need."""
    import cv2

    image = cv2.imread(str(overview), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DatasetError(f"{overview}: missing or damaged. Delete its folder, then run report.")
    return scene_features(luma(np.asarray(image, np.uint8)))


def _read(dataset: Path, name: str) -> UInt8Image:
    import cv2

    path = inside(dataset, name)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) if path.is_file() else None
    if image is None:
        raise DatasetError(
            f"{path}: the manifest names it, but it is missing or damaged. Run build again."
        )
    return np.asarray(image, np.uint8)


def _common_area(scene: _Scene, sharp: UInt8Image) -> tuple[int, int, int, int]:
    """What is valid in every pair that has an image; the whole frame if that is nothing."""
    whole = (0, 0, sharp.shape[1], sharp.shape[0])
    areas = [p.valid_area for p in scene.pairs if p.image is not None and p.valid_area] + [whole]
    x0, y0 = (max(area[i] for area in areas) for i in (0, 1))
    x1, y1 = (min(area[i] for area in areas) for i in (2, 3))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else whole


def _refuse_links(folder: Path) -> None:
    """A dataset of others must not make this write, or remove, anything outside of it."""
    for path in (folder, folder / "assets", *sorted((folder / "assets").glob("*"))):
        if path.is_symlink():
            raise DatasetError(
                f"{path}: a symbolic link, and the report writes only into its dataset. Remove it."
            )


def _remove_others(folder: Path, named: set[str]) -> None:
    """Pictures of scenes that are no longer in the dataset."""
    for path in sorted((folder / "assets").glob("*")):
        if f"assets/{path.name}" not in named and path.is_dir():
            shutil.rmtree(path)
