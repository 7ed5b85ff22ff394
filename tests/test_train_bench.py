"""The benchmark: sets, methods, tables beside the paper's, resuming, pictures, drift."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from defocus_ds.dataset.released import build_released
from defocus_ds.dataset.released_make import make_released
from defocus_ds.errors import DatasetError, InputError
from defocus_ds.measure.fidelity import peak_signal_to_noise_ratio, structural_similarity
from defocus_ds.measure.metrics import metrics
from defocus_ds.measure.sharpness import sharpness_q
from defocus_ds_cli.main import cli
from defocus_ds_train.baselines.protocol import BASELINES, PROTOCOLS, restore_classical
from defocus_ds_train.benchmark import results
from defocus_ds_train.benchmark import sets as sets_module
from defocus_ds_train.benchmark.columns import choose_metrics
from defocus_ds_train.benchmark.expect import (
    expectation_names,
    find_drift,
    load_expectations,
    save_expectations,
)
from defocus_ds_train.benchmark.methods import QUICK_METHODS, Method, parse_methods
from defocus_ds_train.benchmark.page import write_pictures
from defocus_ds_train.benchmark.published import TABLES, published_table
from defocus_ds_train.benchmark.results import BenchReport, Score, SetInfo, Times
from defocus_ds_train.benchmark.run import MEAN_OF_SETS, bench, paper_table
from defocus_ds_train.benchmark.scatter import plan_scatter, scatter_png, scatter_svg
from defocus_ds_train.benchmark.sets import (
    TestCrop,
    TestSet,
    dataset_set,
    folder_set,
    parse_blur,
    released_set,
)
from defocus_ds_train.benchmark.sheet import contact_sheet
from defocus_ds_train.benchmark.table import table_cells, table_text, tables
from defocus_ds_train.checkpoint import save_model
from defocus_ds_train.degrade import Blur, blur_crop
from defocus_ds_train.recipe import load_recipe, recipe_names
from defocus_ds_train.unet import UNet

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import training  # noqa: E402

Bytes = npt.NDArray[np.uint8]

METRICS = metrics(["psnr", "ssim", "q"])
AVERAGE = Blur("average", 5)


def texture(seed: int, height: int = 40, width: int = 48) -> Bytes:
    noise = np.random.default_rng(seed).random((height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.0)
    scaled = 255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.rint(scaled).astype(np.uint8)


def crops(count: int = 3, **size: int) -> tuple[TestCrop, ...]:
    sharp = [texture(seed, **size) for seed in range(count)]
    return tuple(
        TestCrop(f"crop{i}", image, blur_crop(image, AVERAGE)) for i, image in enumerate(sharp)
    )


def toy_set(name: str = "toy", count: int = 3, **size: int) -> TestSet:
    return TestSet(name, crops(count, **size), AVERAGE)


def weights(folder: Path, *, recipe: str = "synthetic-l1", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = UNet((4, 8)).eval()
    torch.nn.init.normal_(model.output.weight, std=0.02)
    path = folder / f"{recipe}-{seed}.safetensors"
    save_model(path, model, {"filters": [4, 8], "recipe": recipe, "epoch": 3})
    return path


def photographs(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        channels = [texture(3 * seed + i, 44, 50 + seed) for i in range(3)]
        Image.fromarray(np.stack(channels, axis=-1)).save(folder / f"{name}.png")
    return folder


def score(method: str, protocol: str = "honest", *, of: str = "toy", **means: float) -> Score:
    times = Times(0.25, 16, "cpu, 1 thread")
    return Score(of, method, f"full {method}", protocol, (method,), 24, means, times, {})


def report_of(*scores: Score, sets: Sequence[SetInfo] = ()) -> BenchReport:
    full = {metric.name: metric.full_name for metric in METRICS}
    digits = {metric.name: metric.digits for metric in METRICS}
    return BenchReport(
        tuple(sets) or (SetInfo("toy", 24, "0" * 16, None),), full, digits, scores, ()
    )


# --- sets


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    for kind in ("sharp", "blurred"):
        (tmp_path / kind).mkdir()
    for crop in crops(2):
        Image.fromarray(crop.sharp).save(tmp_path / "sharp" / f"{crop.name}.png")
        Image.fromarray(crop.blurred).save(tmp_path / "blurred" / f"{crop.name}.bmp")
    of = folder_set(tmp_path / "sharp", tmp_path / "blurred")
    assert [crop.name for crop in of.crops] == ["crop0", "crop1"]
    assert np.array_equal(of.crops[1].blurred, crops(2)[1].blurred)
    assert (of.blur, of.kernel, of.released) == (None, None, None)
    assert of.digest == dataclasses.replace(toy_set(count=2), blur=None).digest
    Image.fromarray(texture(9)).save(tmp_path / "sharp" / "lonely.png")
    with pytest.raises(InputError, match="1 images have no partner: lonely"):
        folder_set(tmp_path / "sharp", tmp_path / "blurred")
    Image.fromarray(texture(9, 20, 20)).save(tmp_path / "blurred" / "lonely.png")
    with pytest.raises(InputError, match=r"20x20 px, its sharp partner 48x40"):
        folder_set(tmp_path / "sharp", tmp_path / "blurred")


def test_a_released_split_is_the_same_set_in_memory_and_built(tmp_path: Path) -> None:
    images = photographs(tmp_path / "images", "one", "two")
    manifest = tmp_path / "mine.parquet"
    make_released("mine", images, manifest, origin="here", size=32)
    in_memory = released_set(manifest, images)
    build_released(manifest, images, tmp_path / "built")
    built = dataset_set(tmp_path / "built")
    assert [crop.name for crop in in_memory.crops] == ["one", "two"]
    assert in_memory.digest == built.digest
    assert in_memory.blur == built.blur == AVERAGE
    assert in_memory.released is built.released is None  # known to us, not to the paper
    for crop in in_memory.crops:
        assert np.array_equal(cv2.blur(crop.sharp, (5, 5)), crop.blurred)
    (images / "two.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 images of mine cannot be used: two.png"):
        released_set(manifest, images)


def test_the_same_sharp_crops_blurred_otherwise_are_no_released_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photographs(tmp_path / "images", "one", "two")
    manifest = tmp_path / "mine.parquet"
    make_released("mine", images, manifest, origin="here", size=32)
    build_released(manifest, images, tmp_path / "built")
    released = sets_module.read_released(manifest)
    monkeypatch.setattr(sets_module, "released_names", lambda: ("mine",))
    monkeypatch.setattr(sets_module, "read_released", lambda _name: released)
    assert dataset_set(tmp_path / "built").released == "mine test"
    rows = tuple({**row, "sha256_blurred": "0" * 64} for row in released.rows)
    other = dataclasses.replace(released, rows=rows)
    monkeypatch.setattr(sets_module, "read_released", lambda _name: other)
    assert dataset_set(tmp_path / "built").released is None


def test_a_set_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    of = toy_set()
    assert of.only(["crop1"]).name == "toy, 1 of them"
    assert of.only(crop.name for crop in of.crops) is of
    assert dataclasses.replace(of, released="kodak24 test").only(["crop0"]).released is None
    with pytest.raises(InputError, match="no crop 'crop9'; there: crop0; crop1; crop2"):
        of.only(["crop9"])
    with pytest.raises(InputError, match="two crops are called 'crop0'"):
        TestSet("twice", crops(1) * 2)
    with pytest.raises(InputError, match="no crop to restore"):
        TestSet("empty", ())
    with pytest.raises(DatasetError, match="is neither a dataset nor a release"):
        dataset_set(tmp_path)
    with pytest.raises(InputError, match=r"write average:5, disk:3\.5"):
        parse_blur("disk")


@pytest.mark.parametrize("text", ["average:5", "disk:2.5", "gaussian:1.2"])
def test_the_known_blur_sums_to_one(text: str) -> None:
    kernel = TestSet("toy", crops(1), parse_blur(text)).kernel
    assert kernel is not None
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert len(kernel) % 2 == 1


def test_the_first_crops_are_those_of_the_first_names() -> None:
    given = crops(4)
    of = TestSet("toy test", tuple(reversed(given)), AVERAGE, released="toy test")
    some = of.first(3)
    assert [crop.name for crop in some.crops] == ["crop0", "crop1", "crop2"]
    assert (some.name, some.released) == ("toy test, first 3", None)
    assert some.digest == TestSet("x", given[:3]).digest
    assert of.first(4) is of


# --- methods


def test_a_classical_method_is_the_function_of_that_name() -> None:
    of = toy_set()
    (method,) = parse_methods(["al"], protocols=["authors"], settings=["al.iterations=7"])
    sharp, blurred = (np.stack([getattr(c, k) for c in of.crops]) for k in ("sharp", "blurred"))
    expected = restore_classical(
        BASELINES["al"].set(iterations=7),
        sharp=sharp,
        blurred=blurred,
        protocol=PROTOCOLS["authors"],
    )
    assert np.array_equal(np.stack(method.restore(of, of.crops)), expected)
    assert method.identity["iterations"] == 7


def test_a_network_is_rounded_down_under_authors_and_to_the_nearest_under_honest(
    tmp_path: Path,
) -> None:
    of = toy_set()
    authors, honest = parse_methods([str(weights(tmp_path))], protocols=["authors", "honest"])
    down = np.stack(authors.restore(of, of.crops)).astype(int)
    nearest = np.stack(honest.restore(of, of.crops)).astype(int)
    assert (authors.name, authors.rows) == ("synthetic-l1", ("synthetic-l1", "synthetic-l1"))
    assert set(np.unique(nearest - down)) == {0, 1}
    assert not np.array_equal(down, np.stack([crop.blurred for crop in of.crops]))


def test_a_large_frame_goes_through_the_network_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = toy_set(count=2, height=75, width=90)
    (method,) = parse_methods([str(weights(tmp_path))])
    at_once = np.stack(method.restore(of, of.crops)).astype(int)
    monkeypatch.setattr("defocus_ds_train.benchmark.methods._WHOLE_PIXELS", 0)
    tiled = np.stack(method.restore(of, of.crops)).astype(int)
    assert np.abs(tiled - at_once).max() <= 1


def test_results_of_others_are_found_by_name_or_pattern(tmp_path: Path) -> None:
    of = toy_set(count=2)
    for crop in of.crops:
        Image.fromarray(255 - crop.sharp).save(tmp_path / f"{crop.name}.png")
        Image.fromarray(crop.sharp // 2).save(tmp_path / f"{crop.name}_half.png")
    folder, pattern = parse_methods([str(tmp_path), f"half={tmp_path}/{{name}}_half.png"])
    assert (folder.name, pattern.name) == (tmp_path.name, "half")
    assert np.array_equal(folder.restore(of, of.crops)[1], 255 - of.crops[1].sharp)
    assert np.array_equal(pattern.restore(of, of.crops)[1], of.crops[1].sharp // 2)
    larger = toy_set(count=2, height=60)
    with pytest.raises(InputError, match=r"crop0\.png: 48x40 px, the crop has 48x60"):
        folder.restore(larger, larger.crops)
    (tmp_path / "crop1.png").unlink()
    with pytest.raises(InputError, match=r"has no image for the crop crop1; add it, or.*--only"):
        folder.restore(of, of.crops)


@pytest.mark.parametrize(
    ("specs", "settings", "words"),
    [
        (["unet"], [], "method 'unet': neither one of blurred, sharp, al"),
        (["al", "al"], [], "'al' is given twice; name one of them: other=al"),
        (["al"], ["mlm.iterations=3"], "--set mlm...: no classical method of that name runs"),
        (["al"], ["al.steps=3"], "al: no setting 'steps'; known: iterations"),
        (["al"], ["iterations=3"], r"write METHOD.key=value"),
        (["=al"], [], "write NAME=WHAT"),
        (["a|b=al"], [], "write NAME=WHAT"),
    ],
)
def test_a_method_that_cannot_be_is_refused(
    specs: list[str], settings: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        parse_methods(specs, settings=settings)


def test_a_known_blur_is_needed_before_anything_is_computed() -> None:
    of = dataclasses.replace(toy_set(), blur=None)
    with pytest.raises(InputError, match=r"toy: its blur is not known, and al .* --blur disk"):
        bench([of], parse_methods(["blurred", "al"]), metrics=METRICS)


# --- runs


def test_rows_and_means_are_the_metrics_of_the_restored_crops(tmp_path: Path) -> None:
    of = toy_set()
    methods = parse_methods(["blurred", str(weights(tmp_path))], protocols=["authors"])
    report = bench([of], methods, metrics=METRICS, batch=2)
    assert [(row.image, row.method) for row in report.images][:4] == [
        ("crop0", "blurred"),
        ("crop1", "blurred"),
        ("crop2", "blurred"),
        ("crop0", "synthetic-l1"),
    ]
    for row, crop in zip(report.images, of.crops, strict=False):
        assert row.values["psnr"] == peak_signal_to_noise_ratio(crop.blurred, crop.sharp)
        assert row.values["ssim"] == structural_similarity(crop.blurred, crop.sharp)
        assert row.values["q"] == sharpness_q(crop.blurred)
    first, second = report.scores
    assert first.means["psnr"] == pytest.approx(
        np.mean([row.values["psnr"] for row in report.images[:3]])
    )
    assert first.times is None
    assert second.times is not None
    assert (second.times.batch, second.times.seconds > 0) == (2, True)
    assert second.times.device.startswith("cpu, ")


def counting(method: Method, calls: list[int]) -> Method:
    def restore(of: TestSet, part: Sequence[TestCrop]) -> list[Bytes]:
        calls.append(len(part))
        return method.restore(of, part)

    return dataclasses.replace(method, restore=restore)


def test_a_second_run_computes_nothing_and_writes_the_same_bytes(tmp_path: Path) -> None:
    of, calls = toy_set(), list[int]()
    methods = [counting(m, calls) for m in parse_methods(["wiener", str(weights(tmp_path))])]

    def run(folder: Path, names: Sequence[str] = ("psnr", "q")) -> dict[str, bytes]:
        report = bench([of], methods, metrics=metrics(names), output=folder, batch=2)
        write_pictures(report, folder)
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        # seconds are not the same in two runs: they have a file of their own, and stand in the page
        varying = ("times.json", "index.html")
        return {
            p.relative_to(folder).as_posix(): p.read_bytes() for p in files if p.name not in varying
        }

    first = run(tmp_path / "one")
    assert calls == [1, 2, 1] * 2  # a warm-up of one crop, then batches of two
    assert run(tmp_path / "one") == first
    assert len(calls) == 6
    assert run(tmp_path / "two") == first
    assert len(calls) == 12
    # another metric needs the images, and these are there
    more = run(tmp_path / "one", ("psnr", "q", "ssim"))
    assert len(calls) == 12
    assert more["images.parquet"] != first["images.parquet"]
    rows = pq.read_table(tmp_path / "one" / "images.parquet").to_pylist()
    assert list(rows[0]) == ["set", "image", "method", "protocol", "sha256", "psnr", "q", "ssim"]
    assert len(rows) == 6


def test_code_and_versions_are_part_of_what_stored_images_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest() -> str:
        return results.identity_digest("set", {"kind": "classical"}, "cpu")

    before = digest()
    assert digest() == before
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "__version__", "0.0")
        assert digest() != before
    baselines = results._source_files()["defocus_ds_train/baselines"]
    assert "defilter.py" in {path.name for path in baselines}
    changed = tmp_path / "defilter.py"
    changed.write_text("another method")
    files = {"defocus_ds_train/baselines": [changed]}
    results._sources_digest.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(results, "_source_files", lambda: files)
        assert digest() != before
    results._sources_digest.cache_clear()
    assert digest() == before


def test_nothing_is_taken_from_the_folder_when_it_must_not_be(tmp_path: Path) -> None:
    of, calls = toy_set(), list[int]()
    methods = [counting(m, calls) for m in parse_methods(["wiener"])]
    for reuse, expected in ((True, 2), (True, 2), (False, 4)):
        bench([of], methods, metrics=METRICS, output=tmp_path, batch=3, reuse=reuse)
        assert len(calls) == expected  # a warm-up and a batch, or nothing


@pytest.mark.parametrize(("batch", "way_out"), [(2, "--batch 1"), (1, "smaller crops")])
def test_memory_that_is_out_names_the_batch_and_the_way_out(batch: int, way_out: str) -> None:
    def restore(_of: TestSet, _part: Sequence[TestCrop]) -> list[Bytes]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    (method,) = parse_methods(["wiener"])
    full = dataclasses.replace(method, restore=restore)
    words = rf"toy, wiener: cpu is out of memory with --batch {batch}\. Give {way_out}, or"
    with pytest.raises(InputError, match=words):
        bench([toy_set()], [full], metrics=METRICS, batch=batch)


@pytest.mark.parametrize("what", ["truncated", "pixel", "setting", "crops"])
def test_what_is_damaged_or_of_another_method_is_computed_again(tmp_path: Path, what: str) -> None:
    of, calls = toy_set(), list[int]()
    bench(
        [of],
        parse_methods(["al"], settings=["al.iterations=2"]),
        metrics=METRICS,
        output=tmp_path,
        batch=4,
    )
    (path,) = (tmp_path / "restored").rglob("*.parquet")
    iterations = 3 if what == "setting" else 2
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif what == "pixel":
        table = pq.read_table(path)
        other = table.column("sha256").to_pylist()[::-1]
        pq.write_table(table.set_column(2, table.schema.field("sha256"), [other]), path)
    elif what == "crops":
        of = dataclasses.replace(of, crops=tuple(reversed(of.crops)))
    (method,) = parse_methods(["al"], settings=[f"al.iterations={iterations}"])
    report = bench([of], [counting(method, calls)], metrics=METRICS, output=tmp_path, batch=4)
    assert calls == [1, 3]
    fresh = bench([of], [method], metrics=METRICS, batch=4)
    assert report.scores[0].means == fresh.scores[0].means


def test_crops_of_two_sizes_are_restored_apart() -> None:
    first, second = crops(2), crops(1, height=64)
    mixed = TestSet("mixed", (*first, dataclasses.replace(second[0], name="tall")), AVERAGE)
    calls: list[int] = []
    methods = [counting(m, calls) for m in parse_methods(["wiener"])]
    report = bench([mixed], methods, metrics=METRICS, batch=8)
    assert calls == [1, 2, 1]
    assert len(report.images) == 3
    assert contact_sheet(report.samples).shape[0] > 40 + 40 + 64


def test_several_sets_are_averaged_each_counting_once() -> None:
    one, two = toy_set("one", 1), toy_set("two", 3)
    report = bench([one, two], parse_methods(["blurred", "wiener"]), metrics=METRICS)
    assert [s.set for s in report.scores] == ["one", "one", "two", "two", *[MEAN_OF_SETS] * 2]
    for index in (0, 1):
        mean = report.scores[4 + index]
        assert mean.method == report.scores[index].method
        halves = [report.scores[index].means["psnr"], report.scores[2 + index].means["psnr"]]
        assert mean.means["psnr"] == pytest.approx(sum(halves) / 2)
        assert mean.images == 4
    with pytest.raises(InputError, match="give each once"):
        bench([one, one], parse_methods(["blurred"]), metrics=METRICS)


# --- the paper's tables


def test_published_figures() -> None:
    row = published_table("I").row("nobody", "Synthetic-Q-0.05")
    assert row is not None
    assert (row.psnr, row.ssim, row.q, row.lpips) == (34.844, 0.945, 0.166, 0.122)
    assert [len(table.rows) for table in TABLES.values()] == [5, 9, 5]
    red = published_table("II").row("red-sd")
    assert red is not None
    assert (red.psnr, red.seconds) == (32.835, 328.259)
    # what the paper claims: Q rises with beta, and costs PSNR from 0.05 on
    rows = list(published_table("I").rows.values())
    assert [r.q for r in rows[1:]] == sorted(r.q for r in rows[1:])
    assert rows[3].psnr < rows[0].psnr
    assert published_table("III").row("U-Net+Q", "real-q") == published_table("III").row("real-q")
    assert row.value("lpips") is None  # AlexNet's is another figure than the paper's
    with pytest.raises(InputError, match="known: I, II, III"):
        published_table("IV")


def test_every_alias_names_a_recipe_or_a_baseline() -> None:
    known = {*recipe_names(), *BASELINES}
    for table in TABLES.values():
        assert set(table.aliases) <= known
        assert set(table.aliases.values()) <= set(table.rows)
    for baseline in ("al", "mlm", "mrl", "red-fp", "red-sd"):
        assert published_table("II").row(baseline) is not None


@pytest.mark.parametrize(
    ("released", "expected"),
    [
        (["kodak24 test"], "I"),
        (["bsd500 test"], None),
        (["bsd500 test", "kodak24 test"], "II"),
        (["kodak24 test", None], None),
        ([None], None),
    ],
)
def test_only_the_same_images_stand_beside_the_paper(
    released: list[str | None], expected: str | None
) -> None:
    assert paper_table(released) == expected


def test_ours_stand_beside_theirs_and_the_rest_is_not_available() -> None:
    report = report_of(
        score("synthetic-l1", "authors", psnr=34.5, ssim=0.94, q=0.15),
        score("mine", psnr=math.inf, ssim=1.0, q=0.144),
        sets=[SetInfo("toy", 24, "0" * 16, "kodak24 test")],
    )
    ((name, table),) = tables(report)
    headings, cells = table_cells(report, name, table)
    assert headings == ["method", "protocol", "psnr", "paper", "ssim", "paper", "q", "paper",
                        "s/image", "paper"]  # fmt: skip
    assert cells[0] == ["synthetic-l1", "authors", "34.500", "35.069", "0.940", "0.944", "0.150",
                        "0.153", "0.25", "n/a"]  # fmt: skip
    assert cells[1] == ["mine", "honest", "inf", "n/a", "1.000", "n/a", "0.144", "n/a", "0.25",
                        "n/a"]  # fmt: skip
    not_run = {row[0]: row for row in cells[2:]}
    assert set(not_run) == {"beta 0.001", "beta 0.01", "beta 0.05", "beta 0.1"}
    assert not_run["beta 0.1"][1:4] == ["not run", "", "33.641"]
    text = table_text(report)
    for metric in METRICS:
        assert f"{metric.name}: {metric.full_name}" in text
    assert "MMSP" in text
    assert "batches of 16" in text
    assert "35.069" in text
    assert "35.069" not in table_text(report, beside="none")
    assert "37.282" in table_text(report, beside="II")


def test_what_could_not_be_measured_has_a_column_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path))
    chosen, absent = choose_metrics()
    assert [metric.name for metric in chosen] == ["psnr", "ssim", "q"]
    assert absent == dict.fromkeys(("lpips", "lpips-vgg"), "not measured, weights absent")
    of = SetInfo("toy", 24, "0" * 16, "kodak24 test")
    mine = score("synthetic-l1", "authors", psnr=34.5, ssim=0.94, q=0.15)
    report = report_of(mine, sets=[of]).with_absent(absent)
    headings, cells = table_cells(report, "toy", published_table("I"))
    column = headings.index("lpips-vgg")
    assert cells[0][column : column + 2] == ["absent", "0.127"]
    assert "lpips-vgg: not measured, weights absent" in table_text(report)


def test_metrics_that_were_asked_for_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path))
    chosen, absent = choose_metrics(["q"])
    assert ([metric.name for metric in chosen], absent) == (["q"], {})
    with pytest.raises(InputError, match="weights are not in the cache"):
        choose_metrics(["lpips-vgg"])


def test_weights_of_alex_by_path_leave_vgg_to_the_cache(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path))
    chosen, absent = choose_metrics(lpips_weights=real_data / "lpips" / "alexnet.ckpt")
    assert [metric.name for metric in chosen] == ["psnr", "ssim", "q", "lpips"]
    assert list(absent) == ["lpips-vgg"]


# --- drift


@pytest.fixture
def stored(tmp_path: Path) -> tuple[BenchReport, Path]:
    report = bench([toy_set()], parse_methods(["sharp", "blurred", "wiener"]), metrics=METRICS)
    save_expectations(tmp_path / "stored.json", report)
    return report, tmp_path / "stored.json"


def test_the_same_results_have_not_drifted(stored: tuple[BenchReport, Path]) -> None:
    report, path = stored
    expected = load_expectations(path)
    assert find_drift(report, expected) == ()
    assert expected.methods == ("sharp", "blurred", "wiener")
    assert expected.protocols == ("honest",)
    assert expected.figures == 3 * 3 - 1  # an infinite PSNR is not stored


def test_drift_names_method_metric_measured_expected_and_tolerance(
    stored: tuple[BenchReport, Path],
) -> None:
    report, path = stored
    wiener = report.scores[2]
    worse = dataclasses.replace(wiener, means={**wiener.means, "psnr": wiener.means["psnr"] - 0.02})
    changed = dataclasses.replace(report, scores=(*report.scores[:2], worse))
    (drift,) = find_drift(changed, load_expectations(path))
    assert (drift.method, drift.metric) == ("wiener", "psnr")
    assert str(drift) == (
        f"toy, wiener (honest): psnr measured {worse.means['psnr']:.6g}, expected "
        f"{wiener.means['psnr']:.6g}, tolerance 0.005"
    )
    missing = dataclasses.replace(report, scores=report.scores[:2])
    assert {str(d).split("expected")[0] for d in find_drift(missing, load_expectations(path))} == {
        f"toy, wiener (honest): {name} not measured, " for name in ("psnr", "ssim", "q")
    }
    broken = dataclasses.replace(wiener, means={**wiener.means, "q": math.nan})
    nan = dataclasses.replace(report, scores=(*report.scores[:2], broken))
    assert [d.metric for d in find_drift(nan, load_expectations(path))] == ["q"]


def test_other_crops_and_other_settings_are_no_drift_but_an_error(
    stored: tuple[BenchReport, Path],
) -> None:
    report, path = stored
    other = bench([toy_set(count=2)], parse_methods(["wiener"]), metrics=METRICS)
    with pytest.raises(InputError, match="toy has digest .* these are other crops"):
        find_drift(other, load_expectations(path))
    set_ = parse_methods(["wiener"], settings=["wiener.noise_variance=0.01"])
    with pytest.raises(InputError, match="wiener was run there with other noise_variance"):
        find_drift(bench([toy_set()], set_, metrics=METRICS), load_expectations(path))


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', '{"format": 1, "results": [1]}'])
def test_a_file_that_holds_no_results_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bad.json: not stored results"):
        load_expectations(path)
    with pytest.raises(InputError, match="kodak24-classical"):
        load_expectations("nothing-of-that-name")


# --- pictures


def test_sharper_lies_to_the_right_and_more_faithful_above() -> None:
    truth = dataclasses.replace(score("sharp", q=0.16, ssim=1.0), identity={"kind": "sharp"})
    plan = plan_scatter([
        score("a", q=0.10, ssim=0.7),
        score("b", q=0.12, ssim=0.9),
        score("c", q=0.1201, ssim=0.9),
        truth,
    ])  # fmt: skip
    assert plan is not None
    at = {point.label: point for point in plan.points}
    a, b, c = (at[f"{name}, honest"] for name in "abc")
    assert a.x < b.x < c.x < (plan.truth or 0)
    assert a.y > b.y == c.y
    boxes = [
        (p.label_at[0], p.label_at[1] - 9, p.label_at[0] + 5.8 * len(p.label), p.label_at[1] + 2)
        for p in plan.points
    ]
    for one, other in itertools.combinations(boxes, 2):  # no label covers another
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    pixels = scatter_png(plan, scale=2)
    for point in plan.points:
        assert tuple(pixels[round(2 * point.y), round(2 * point.x)]) == (31, 111, 235)
    svg = scatter_svg(plan)
    assert svg.count("<circle") == 3
    assert "http://www.w3.org" in svg
    assert plan_scatter([score("a", psnr=1.0)]) is None
    beside = plan_scatter([score("a", q=0.15, ssim=0.9)], published_table("I"))
    assert beside is not None
    hollow = {point.label: point for point in beside.points if point.hollow}
    assert len(hollow) == 5
    assert hollow["beta 0.1"].x == max(point.x for point in beside.points)
    assert scatter_svg(beside).count('fill="none"') == 5
    assert plan_scatter([truth]) is None


def test_the_sheet_shows_the_pixels_themselves() -> None:
    of = toy_set(count=5)
    report = bench([of], parse_methods(["blurred", "sharp", "wiener"]), metrics=METRICS, samples=2)
    assert [sample.crop.name for sample in report.samples] == ["crop0", "crop2"]
    sheet = contact_sheet(report.samples)
    for sample in report.samples:
        restored = dict(sample.restored)["wiener, honest"]
        for image in (sample.crop.sharp, sample.crop.blurred, restored):
            found = cv2.matchTemplate(sheet, image, cv2.TM_SQDIFF)
            y, x = np.unravel_index(found.argmin(), found.shape)
            assert np.array_equal(sheet[y : y + 40, x : x + 48], image)


def test_the_page_needs_nothing_else_and_escapes_names(tmp_path: Path) -> None:
    of = toy_set("<b>toy")
    report = bench([of], parse_methods(["blurred", "<i>=wiener"]), metrics=METRICS)
    write_pictures(report, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "<b>toy" not in page
    assert "<i>" not in page
    assert "&lt;b&gt;toy" in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert page.count('src="') == page.count('src="data:image/png;base64,') == 1
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["crops-1.png", "index.html", "scatter-1.png"]


# --- the command


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFOCUS_DS_CACHE", str(tmp_path / "cache"))
    images = photographs(tmp_path / "images", "one", "two", "three")
    make_released("mine", images, tmp_path / "mine.parquet", origin="here", size=32)

    def run(*arguments: str, data: bool = True):  # type: ignore[no-untyped-def]
        where = ["--data", "mine.parquet", "--images", "images"] if data else []
        return CliRunner().invoke(cli, ["train", "bench", "--device", "cpu", *arguments, *where])

    return run


def test_the_command_prints_stores_compares_and_keeps(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = command("blurred", "wiener", "-o", "out", "--store", "stored.json")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0].startswith("mine test: 3 images, digest ")
    assert "lpips-vgg: not measured, weights absent; defocus-ds weights" in done.stderr
    assert "lpips-vgg: not measured, weights absent" in done.stdout
    page = (tmp_path / "out" / "index.html").read_text()
    assert "lpips-vgg: not measured, weights absent" in page
    assert (tmp_path / "out" / "index.html").is_file()
    again = command("--expect", "stored.json", "-o", "out", "--json")
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert found["drift"] == []
    assert [s["method"] for s in found["scores"]] == ["blurred", "wiener"]
    assert "All 6 figures are as in stored." in again.stderr
    stored = json.loads((tmp_path / "stored.json").read_text())
    stored["results"][1]["values"]["ssim"]["mean"] += 0.01
    (tmp_path / "stored.json").write_text(json.dumps(stored))
    drifted = command("--expect", "stored.json")
    assert drifted.exit_code == 1
    assert "drift: mine test, wiener (honest): ssim measured" in drifted.stderr


def test_a_method_that_broke_is_seen_although_the_folder_has_its_images(  # type: ignore[no-untyped-def]
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("wiener", "-o", "out", "--store", "stored.json").exit_code == 0
    wiener = BASELINES["wiener"]
    broken = dataclasses.replace(wiener, method=lambda problem, _settings: problem.observed)
    monkeypatch.setattr(
        "defocus_ds_train.benchmark.methods.BASELINES", {**BASELINES, "wiener": broken}
    )
    done = command("--expect", "stored.json", "-o", "out")
    assert done.exit_code == 1
    assert "drift: mine test, wiener (honest): psnr measured" in done.stderr


@pytest.mark.parametrize("names", [[], ["--metric", "psnr"]])
def test_weights_of_lpips_bring_their_column_or_are_refused(  # type: ignore[no-untyped-def]
    command, real_data: Path, names: list[str]
) -> None:
    file = str(real_data / "lpips" / "alexnet.ckpt")
    assert command("blurred", "--metric", "psnr", "--store", "stored.json").exit_code == 0
    done = command("--expect", "stored.json", "--json", "--lpips-weights", file, *names)
    if names:
        assert done.exit_code == 2
        assert "none of psnr takes them. Leave them out, or add --metric lpips" in done.stderr
        return
    assert done.exit_code == 0, done.output
    (score,) = json.loads(done.stdout)["scores"]
    assert list(score["means"]) == ["lpips", "psnr", "q", "ssim"]


def test_without_methods_the_quick_ones_run_and_only_some_crops(command) -> None:  # type: ignore[no-untyped-def]
    iterations = [f"--set={name}.iterations=2" for name in ("al", "mrl", "mlm", "rl")]
    done = command("--only", "two", "--json", *iterations)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    scores = found["scores"]
    assert tuple(s["method"] for s in scores) == QUICK_METHODS
    assert {s["set"] for s in scores} == {"mine test, 1 of them"}
    assert found["metrics"]["lpips"] == "not measured, weights absent"
    assert scores[0]["means"]["psnr"] is None  # JSON knows no infinity


@pytest.mark.parametrize(
    ("arguments", "data", "words"),
    [
        ([], False, "give --data NAME|DIR or --pair"),
        (["--data", "kodak24"], False, "give --images DIR"),
        (["unet"], True, "method 'unet'"),
        (["--metric", "sharpness"], True, "metric 'sharpness'"),
        (["--metric", "lpips"], True, "lpips"),
        (["--only", "four"], True, "no crop 'four'"),
        (["--expect", "none.json"], True, "none.json: cannot be read"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(  # type: ignore[no-untyped-def]
    command, arguments: list[str], data: bool, words: str
) -> None:
    done = command(*arguments, data=data)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert not done.stdout


def test_help_ends_with_an_example() -> None:
    text = CliRunner().invoke(cli, ["train", "bench", "--help"]).stdout
    example = text.strip().split("\n\n")[-1]
    assert example.strip().startswith("Example: defocus-ds train bench")
    listed = CliRunner().invoke(cli, ["train", "--help"]).stdout
    assert "bench" in listed


# --- benchmarks/training.py


def test_a_step_is_three_times_the_forward_pass_of_the_published_network() -> None:
    # 1.773 GMAC forward a crop; the first layer needs no gradient of its input
    flop = training.step_flop(load_recipe("synthetic-l1"))
    assert flop / 1e9 == pytest.approx(3 * 2 * 1.773, abs=0.01)


@pytest.mark.parametrize(
    ("psnr", "q", "cpu_s", "missed"),
    [(29.0, 0.12, 300, []), (28.4, 0.12, 300, ["dB"]), (29.0, 0.1, 300, ["Q"]),
     (29.0, 0.12, 500, ["CPU"])],
)  # fmt: skip
def test_the_toy_run_must_help(psnr: float, q: float, cpu_s: float, missed: list[str]) -> None:
    found = {
        "means": {
            "blurred": {"psnr": 25.5, "q": 0.083},
            "toy-l1": {"psnr": psnr, "q": 0.1},
            "toy-q": {"psnr": psnr, "q": q},
        },
        "costs": {"toy-l1": {"cpu_s": cpu_s, "wall_s": cpu_s, "crops": 8}},
    }
    failed = [check.name for check in training.toy_checks(found) if not check.passed]
    assert len(failed) == len(missed)
    for name, word in zip(failed, missed, strict=True):
        assert word in name


# --- real data


def test_the_authors_files_score_what_they_are_known_to(real_data: Path) -> None:
    folder = real_data / "mmsp2024" / "MMSP_Comparisons"
    of = released_set("kodak24", real_data / "kodak24").only(["kodim19"])
    specs = {"U-Net": "b_r_onlyMAE", "U-Net+Q": "b_r_QSharp", "XY-Deblur": "XYD", "their aL": "al"}
    files = [f"{name}={folder}/{{name}}_{tail}.png" for name, tail in specs.items()]
    methods = parse_methods(["blurred", *files, "al", "wiener"], protocols=["authors"])
    report = bench([of], methods, metrics=METRICS)
    known = {  # FACTS of the published files: PSNR, SSIM, Q
        "blurred": (24.52, 0.657, 0.072),
        "U-Net": (34.05, 0.932, 0.149),
        "U-Net+Q": (34.19, 0.935, 0.150),
        "XY-Deblur": (37.60, 0.964, 0.155),
        "their aL": (31.28, 0.886, 0.136),
        "al": (31.28, 0.886, 0.136),
        "wiener": (23.96, 0.736, 0.161),
    }
    for found in report.scores:
        expected = known[found.method]
        assert found.means["psnr"] == pytest.approx(expected[0], abs=0.006)
        assert found.means["ssim"] == pytest.approx(expected[1], abs=0.0006)
        assert found.means["q"] == pytest.approx(expected[2], abs=0.0006)
    rows = {row.method: row.sha256 for row in report.images}
    assert rows["al"] == rows["their aL"]  # in every pixel


# stored results, folder of the images, how many of them, rows that take no time
STORED = [
    ("kodak24-classical", "kodak24", 24, ("sharp", "blurred", "wiener", "mw")),
    ("kodak24-red", "kodak24", 24, ("sharp", "blurred")),
    ("bsd500-classical", "bsds500", 50, ("sharp", "blurred", "wiener", "mw")),
]


@pytest.mark.parametrize(("name", "folder", "count", "fast"), STORED)
def test_the_stored_results_still_hold_for_the_fast_rows(
    real_data: Path, name: str, folder: str, count: int, fast: tuple[str, ...]
) -> None:
    expected = load_expectations(name)
    some = tuple(result for result in expected.results if result.method in fast)
    assert len(some) == sum(1 if method in ("sharp", "blurred") else 2 for method in fast)
    of = released_set(name.partition("-")[0], real_data / folder).first(count)
    report = bench(
        [of], parse_methods(fast, protocols=["authors", "honest"]), metrics=METRICS, batch=8
    )
    assert find_drift(report, dataclasses.replace(expected, results=some)) == ()
    if of.released == "kodak24 test":
        blurred = next(s for s in report.scores if s.method == "blurred")
        assert blurred.means["psnr"] == pytest.approx(25.504, abs=0.0006)


def test_no_stored_results_are_without_a_test_of_their_fast_rows() -> None:
    assert set(expectation_names()) == {name for name, *_ in STORED}


@pytest.mark.slow
def test_the_stored_results_still_hold(real_data: Path, tmp_path: Path) -> None:
    arguments = ["--data", "kodak24", "--images", str(real_data / "kodak24")]
    done = CliRunner().invoke(
        cli,
        ["train", "bench", "--expect", "kodak24-classical", "--device", "cpu", *arguments,
         "-o", str(tmp_path / "out")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output


# 100007 and 100039, the first two of the 50 whose means are stored as bsd500-classical: rows of a
# run that agreed with all of these means; PSNR and SSIM of each
FIRST_TWO = {
    ("al", "authors"): ((38.4955, 0.95135), (29.4560, 0.90651)),
    ("al", "honest"): ((37.6941, 0.92669), (29.5141, 0.89980)),
    ("mrl", "authors"): ((38.7249, 0.95360), (30.5943, 0.92705)),
    ("mrl", "honest"): ((37.5643, 0.92183), (30.3641, 0.91280)),
    ("mlm", "authors"): ((49.8269, 0.99614), (38.1765, 0.97876)),
    ("mlm", "honest"): ((26.0399, 0.45635), (22.7025, 0.48514)),
    ("rl", "authors"): ((36.9455, 0.93852), (28.5683, 0.89703)),
    ("rl", "honest"): ((37.3622, 0.93620), (28.6459, 0.89584)),
}


@pytest.mark.slow
def test_slow_rows_still_have_their_figures_on_two_crops_of_bsd500(real_data: Path) -> None:
    """All 50 are what ``--expect bsd500-classical`` compares."""
    of = released_set("bsd500", real_data / "bsds500").first(2)
    names = tuple(dict.fromkeys(name for name, _ in FIRST_TWO))
    methods = parse_methods(names, protocols=["authors", "honest"])
    report = bench([of], methods, metrics=METRICS)
    assert len(report.images) == 2 * len(FIRST_TWO)
    for row in report.images:
        psnr, ssim = FIRST_TWO[row.method, row.protocol][("100007", "100039").index(row.image)]
        assert row.values["psnr"] == pytest.approx(psnr, abs=0.005)
        assert row.values["ssim"] == pytest.approx(ssim, abs=0.0005)


# of kodim19, as docs/reproducing.md has them: PSNR, SSIM, Q
RED_KODIM19 = {
    ("red-fp", "authors"): (34.09, 0.910, 0.142),
    ("red-fp", "honest"): (32.31, 0.896, 0.130),
    ("red-sd", "authors"): (33.03, 0.901, 0.142),
    ("red-sd", "honest"): (32.61, 0.898, 0.140),
}


@pytest.mark.slow
def test_red_still_has_its_figures_on_one_crop(real_data: Path) -> None:
    """All iterations on one crop; all 24 are what ``--expect kodak24-red`` compares."""
    of = released_set("kodak24", real_data / "kodak24").only(["kodim19"])
    methods = parse_methods(["red-fp", "red-sd"], protocols=["authors", "honest"])
    untimed = [dataclasses.replace(method, timed=False) for method in methods]  # no warm-up
    report = bench([of], untimed, metrics=METRICS)
    assert len(report.scores) == len(RED_KODIM19)
    for found in report.scores:
        psnr, ssim, q = RED_KODIM19[found.method, found.protocol]
        assert found.means["psnr"] == pytest.approx(psnr, abs=0.01)
        assert found.means["ssim"] == pytest.approx(ssim, abs=0.001)
        assert found.means["q"] == pytest.approx(q, abs=0.001)
