"""Damaged files of a dataset: the same content, or one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from built_dataset import make_dataset
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import complaint, edited, edits, fuzzed, nothing_runs, with_hostile_value

from defocus_ds import load_crops
from defocus_ds.config import BuildConfig, load_config
from defocus_ds.dataset.checksums import read_sums
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export.record import read_record
from defocus_ds.dataset.frozen import read_splits, splits_csv
from defocus_ds.dataset.held_out import HeldOut, decisions, read_held_out
from defocus_ds.dataset.manifest import read_info, read_scenes
from defocus_ds.dataset.pairs import built_pairs
from defocus_ds.dataset.release_facts import About, release_facts
from defocus_ds.dataset.released_manifest import read_released, released_names
from defocus_ds.dataset.review import read_review
from defocus_ds.dataset.shards import MANIFEST_SCHEMA, REJECTED_SCHEMA, crop_record
from defocus_ds.dataset.tables import read_table, table_writer
from defocus_ds.errors import DatasetError, DefocusError
from defocus_ds.frames import Level
from defocus_ds.pipeline.journal import (
    Journal,
    read_failure,
    read_journal,
    write_failure,
    write_journal,
)
from defocus_ds.stages.colour.cube import cube_text, read_cube
from defocus_ds.stages.ingest.shoot_csv import parse_shoot_csv
from defocus_ds.store import Receipt, read_receipt, write_json, write_receipt

Edits = tuple[tuple[str, float, bytes], ...]
NESTED: Edits = (("hostile", 0.0, b"\x01" + bytes([9])),)  # a hundred thousand brackets


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it lies, how it is read to something comparable.

    ``exact``: what is read in spite of damage is what was written, for checksums cover it.
    """

    name: str
    file: str
    read: Callable[[Path], Any]
    exact: bool = False


def every_crop(path: Path) -> Any:
    crops = load_crops(path.parents[2], level="low", split="train", check=True)
    return [(c.sharp.tobytes(), c.blurred.tobytes(), c.row) for c in crops]


def table(schema: Any) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        found = read_table(path, schema)
        return found.to_pylist(), crop_record(path, found.schema.metadata)

    return read


def journal(path: Path) -> Any:
    return asdict(read_journal(path.parents[1]))


def receipt(path: Path) -> Any:
    found = read_receipt(path.parents[2], "scene00", "render")
    return None if found is None else asdict(found)


def config(path: Path) -> Any:
    return load_config(path=path).as_dict()


KINDS = [
    Kind("scenes", "scenes.parquet", lambda path: read_scenes(path)),
    Kind("info", "dataset.json", lambda path: read_info(path.parent)),
    Kind("sums", "SHA256SUMS", lambda path: read_sums(path.parent)),
    Kind("shard", "crops/low/train-00000-of-00001.parquet", every_crop),
    Kind("manifest", "crops/low/manifest.parquet", table(MANIFEST_SCHEMA)),
    Kind("rejected", "crops/low/rejected.parquet", lambda p: read_table(p, REJECTED_SCHEMA)),
    Kind("released", "released.parquet", lambda path: read_released(path).rows),
    Kind("journal", "receipts/shoot.json", journal),
    Kind("receipt", "receipts/scene00/render.json", receipt, exact=True),
    Kind(
        "failure", "receipts/scene00/failure.json", lambda p: read_failure(p.parents[2], "scene00")
    ),
    Kind("config", "build.toml", config),
    Kind("review", "review.csv", lambda path: read_review(path).decisions),
    Kind("splits", "splits.csv", lambda path: read_splits(path.parent)),
    Kind("decisions", "first/decisions.json", lambda path: read_held_out(path.parent, {})),
    Kind("export", "export.json", lambda path: read_record(path.parent)),
    Kind("cube", "colour.cube", lambda path: read_cube(path).tobytes()),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind."""
    import numpy as np

    from defocus_ds.dataset import released_manifest

    root = make_dataset(tmp_path_factory.mktemp("fuzz") / "dataset", scenes=2)
    crop(root, level="low", size=64, stride=64)
    write_journal(
        root, Journal("shoot", BuildConfig(), ("scene00", "scene01"), (), (("a", "b"),), "0" * 64)
    )
    outputs = {"images/scene00/low.png": "0" * 64}
    write_receipt(root, Receipt("render", "scene00", "0" * 16, {"numpy": "2"}, {}, outputs))
    write_failure(root, "scene00", stage="render", error="scene00: no.", basis="0" * 64)
    config = '[develop]\nrecipe = "fixed"\n[register]\niterations = 200\nsampling = 0.5\n'
    (root / "build.toml").write_text(config)
    (root / "review.csv").write_text("scene,level,decision,note\nscene00,low,reject,ghost\n")
    (root / "splits.csv").write_text(
        splits_csv({"scene00": "train", "scene01": "test"}, {"scene00": "a", "scene01": "b"})
    )
    (root / "first").mkdir()
    (root / "first/release.json").write_text("{}")
    held_out = {"scene01": HeldOut("test", "0" * 64, "1" * 64)}
    write_json(
        root / "first/decisions.json",
        decisions([], left_out={"scene02": "why"}, held_out=held_out),
    )
    stream = {"level": "low", "split": "train", "crops": 3, "rows_sha256": "0" * 64}
    stream |= {"dataset_digest": "0" * 64, "tars": [{"file": "a.tar", "crops": 3, "bytes": 9}]}
    export = {"format": 1, "to": "webdataset", "streams": [stream], "versions": {"numpy": "2"}}
    (root / "export.json").write_text(json.dumps(export))
    nodes = np.linspace(0, 1, 81, dtype=np.float32).reshape(3, 3, 3, 3)
    (root / "colour.cube").write_text(cube_text(nodes))
    name = released_names()[0]
    shutil.copy(released_manifest.read_released(name).path, root / "released.parquet")
    return root


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_is_named_or_harmless(dataset: Path, kind: Kind) -> None:
    path = dataset / kind.file
    whole = path.read_bytes()
    intact = kind.read(path)
    refused = []

    @fuzzed(25)
    @example(changes=NESTED)
    @given(changes=edits())
    def hurt(changes: Edits) -> None:
        path.write_bytes(edited(whole, changes))
        with nothing_runs():
            try:
                found = kind.read(path)
            except DefocusError as error:
                text = complaint(error)
                assert path.name in text or str(path.parent) in text
                refused.append(text)
                return
        if kind.exact:
            assert found in (intact, None)

    try:
        hurt()
    finally:
        path.write_bytes(whole)
    assert kind.read(path) == intact
    assert refused or kind.name in ("receipt", "failure")


def test_no_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    """Asked of metadata that is damaged so, pyarrow ends it instead of raising."""
    path, schema = tmp_path / "table.parquet", pa.schema([("scene", pa.string())])
    with table_writer(path, schema) as writer:
        writer.write_table(pa.table({"scene": ["a", "b"]}, schema))
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for place in range(footer, len(whole) - 8):
        for change in (0x02, 0x20, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(damaged)
            try:
                read_table(path, schema)
            except DatasetError as error:
                assert "table.parquet" in complaint(error)
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.file.endswith(".json")], ids=lambda kind: kind.name
)
def test_a_value_that_nobody_expects_is_named_or_harmless(dataset: Path, kind: Kind) -> None:
    path = dataset / kind.file
    whole = path.read_bytes()
    intact = kind.read(path)

    @fuzzed(60)
    @given(share=st.floats(0, 1, exclude_max=True), which=st.integers(0, 18))
    def hurt(share: float, which: int) -> None:
        path.write_bytes(with_hostile_value(whole, share, which))
        try:
            found = kind.read(path)
        except DefocusError as error:
            text = complaint(error)
            assert path.name in text or str(path.parent) in text
        else:
            assert found in (intact, None) or not kind.exact

    try:
        hurt()
    finally:
        path.write_bytes(whole)


ALIGNMENT = json.dumps(
    {
        "residual_grid": [[1.0, 2.0, 0.1, 0.1, 0.5], [3.0, 2.0, 0.1, None, 0.5]],
        "unexplained_grid": [[1.0, 2.0, 0.1]],
        "radius_grid": [[1.0, 2.0, 3.0, 0.1]],
        "radius_map": {
            "rows": 4,
            "columns": 5,
            "step_px": 64,
            "radius_px": [2.0] * 20,
            "deviation_px": [0.1] * 20,
            "spread_px": [0.1] * 20,
        },
    }
).encode()
COLOUR = json.dumps({"ciede2000": {"before": 2.5, "after": 0.5}, "curve": [0.0, 1.0]}).encode()


def with_records(dataset: Path, alignment: bytes, colour: bytes) -> list[dict[str, Any]]:
    """The rows of a dataset whose records of alignment and colour are these."""
    rows = read_scenes(dataset / "scenes.parquet")
    for row in rows:
        if row["alignment"] is not None:
            row |= {"alignment": alignment.decode(), "colour": colour.decode()}
    return rows


def test_a_record_that_nobody_expects_is_named_or_harmless(dataset: Path) -> None:
    about = About("name", "CC-BY-4.0", ("A. Person",))
    parts: dict[str, Any] = {"about": about, "crops": {"low": {"train": 1}}, "splits": {}}
    parts |= {"decisions": {}, "seed": 0, "review": None}
    pairs, _ = built_pairs(dataset, with_records(dataset, ALIGNMENT, COLOUR), Level.LOW)
    assert all(pair.figures().radius_map is not None for pair in pairs)

    @fuzzed(60)
    @given(share=st.floats(0, 1, exclude_max=True), which=st.integers(0, 18))
    def hurt(share: float, which: int) -> None:
        hostile = (with_hostile_value(whole, share, which) for whole in (ALIGNMENT, COLOUR))
        rows = with_records(dataset, *hostile)
        json.dumps(release_facts({}, rows, **parts), allow_nan=False)
        try:
            pairs, _ = built_pairs(dataset, rows, Level.LOW)
        except DefocusError as error:
            assert str(dataset) in complaint(error)
        else:
            assert len(pairs) == 2

    hurt()


@fuzzed(60)
@given(changes=edits())
def test_a_damaged_shoot_csv_is_complaints_with_their_lines(changes: Edits) -> None:
    text = "file,scene,level,offset\na.CR2,one,sharp,0\nb.CR2,one,low,2\nc.CR2,one,high,6\n"
    damaged = edited(text.encode(), changes).decode("utf-8", "replace")
    found = parse_shoot_csv(damaged)
    for row in found.rows:
        assert not Path(row.file).is_absolute()
        assert ".." not in Path(row.file).parts
    for said in found.complaints:
        assert said.where.startswith("shoot.csv:")
        assert "\n" not in said.message
