"""Crops behind a URL are those of the folder; what is missing there is named."""

from __future__ import annotations

import http.server
import pickle
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from built_dataset import make_dataset

import defocus_ds
from defocus_ds.dataset import shards
from defocus_ds.dataset.crop import crop
from defocus_ds.errors import DatasetError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_dataset(tmp_path_factory.mktemp("made") / "dataset", scenes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 8)
        crop(root)
    return root


@pytest.fixture
def memory(dataset: Path) -> Iterator[str]:
    """The dataset in fsspec's own file system in memory."""
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(dataset), "/dataset", recursive=True)
    yield "memory://dataset"
    filesystem.rm("/dataset", recursive=True)


def assert_same(found: Any, wanted: Any) -> None:
    assert len(found) == len(wanted) > 8
    for one, two in zip(found, wanted, strict=True):
        assert one.row == two.row
        assert np.array_equal(one.sharp, two.sharp)
        assert np.array_equal(one.blurred, two.blurred)


def test_crops_in_another_file_system(dataset: Path, memory: str) -> None:
    wanted = defocus_ds.load_crops(dataset, level="low", split="train")
    found = defocus_ds.load_crops(memory, level="low", split="train", check=True)
    assert_same(found, wanted)
    assert len(pickle.dumps(found)) < 5000
    assert_same(pickle.loads(pickle.dumps(found)), wanted)


def test_a_url_of_the_local_disk_and_of_a_crops_folder(dataset: Path, tmp_path: Path) -> None:
    wanted = defocus_ds.load_crops(dataset, level="low", split="train")
    assert_same(defocus_ds.load_crops(f"file://{dataset}/", level="low", split="train"), wanted)


def test_a_level_or_split_that_is_not_there_is_named(memory: str) -> None:
    with pytest.raises(DatasetError, match=r"no crops of level 'high'.*there: low/test, low/train"):
        defocus_ds.load_crops(memory, level="high", split="train")
    with pytest.raises(DatasetError, match=r"SHA256SUMS: cannot be read"):
        defocus_ds.load_crops("memory://nowhere", level="low", split="train")
    with pytest.raises(DatasetError, match=r"nothing://here.*cannot be opened"):
        defocus_ds.load_crops("nothing://here", level="low", split="train")


def test_a_level_with_a_dot_is_found(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    (copy / "crops" / "low").rename(copy / "crops" / "disk-2.5")
    sums = copy / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("crops/low/", "crops/disk-2.5/"))
    found = defocus_ds.load_crops(f"file://{copy}", level="disk-2.5", split="train")
    assert len(found) == len(defocus_ds.load_crops(copy, level="disk-2.5", split="train"))


def test_a_damaged_or_missing_shard_is_named(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    url = f"file://{copy}"
    broken = sorted((copy / "crops" / "low").glob("train-*.parquet"))[1]
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    with pytest.raises(DatasetError, match=f"file://.*{broken.name}"):
        list(defocus_ds.load_crops(url, level="low", split="train", check=True))
    broken.unlink()
    with pytest.raises(DatasetError, match=f"file://.*{broken.name}"):
        defocus_ds.load_crops(url, level="low", split="train")
    sums = copy / "SHA256SUMS"
    kept = [line for line in sums.read_text().splitlines() if broken.name not in line]
    sums.write_text("\n".join(kept) + "\n")
    with pytest.raises(DatasetError, match=r"\d of \d train shards are named"):
        defocus_ds.load_crops(url, level="low", split="train")


class _Ranges(http.server.BaseHTTPRequestHandler):
    """A static server that sends parts of files, as web servers and object stores do."""

    root: Path
    broken = False

    def do_HEAD(self) -> None:
        self._send(body=False)

    def do_GET(self) -> None:
        self._send(body=True)

    def _send(self, *, body: bool) -> None:
        path = self.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        if self.broken and body and path.suffix == ".parquet":
            self.send_error(503)
            return
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(dataset: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    broken = getattr(request, "param", False)
    handler = type("Handler", (_Ranges,), {"root": dataset, "broken": broken})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_crops_of_a_web_server(dataset: Path, served: str) -> None:
    found = defocus_ds.load_crops(served, level="low", split="train", check=True)
    assert_same(found, defocus_ds.load_crops(dataset, level="low", split="train"))
    with pytest.raises(DatasetError, match=r"SHA256SUMS: cannot be read"):
        defocus_ds.load_crops(f"{served}/elsewhere", level="low", split="train")


@pytest.mark.parametrize("served", [True], indirect=True)
def test_a_server_that_fails_names_the_shard(served: str) -> None:
    with pytest.raises(DatasetError, match=r"http://.*train-00000-of-\d+\.parquet"):
        list(defocus_ds.load_crops(served, level="low", split="train"))
