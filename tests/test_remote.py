"""Crops and tars behind a URL are those of the folder; what is missing there is named."""

from __future__ import annotations

import gzip
import http.server
import json
import pickle
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from built_dataset import make_dataset
from torch.utils.data import DataLoader

import defocus_ds
from defocus_ds.dataset import shards
from defocus_ds.dataset.crop import crop
from defocus_ds.dataset.export import export, webdataset
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
    """A static server that sends parts of files, as web servers and object stores do.

    ``broken`` is the suffix of files that it fails to send, ``cut`` that of files of which it
    sends half; with ``ranges`` off it sends whole files only, and ``deaf`` to requests for parts it
    sends whole files in their place, as Python's own server does.
    """

    root: Path
    broken = cut = "none"
    ranges = True
    deaf = False

    def do_HEAD(self) -> None:
        self._send(body=False)

    def do_GET(self) -> None:
        self._send(body=True)

    def _send(self, *, body: bool) -> None:
        path = self.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        if path.suffix == self.broken:
            self.send_error(503)
            return
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        parts = "" if self.deaf else self.headers.get("Range", "")
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", parts)
        if asked and not self.ranges:
            self.send_error(501)
            return
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
        self.send_response(206 if asked else 200)
        if not self.deaf:
            self.send_header("Accept-Ranges", "bytes" if self.ranges else "none")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if body:
            sent = data[first : last + 1]
            self.wfile.write(sent[: len(sent) // 2] if path.suffix == self.cut else sent)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(root: Path, **options: Any) -> Iterator[str]:
    handler = type("Handler", (_Ranges,), {"root": root, **options})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_crops_of_a_web_server(dataset: Path) -> None:
    with served(dataset) as url:
        found = defocus_ds.load_crops(url, level="low", split="train", check=True)
        assert_same(found, defocus_ds.load_crops(dataset, level="low", split="train"))
        with pytest.raises(DatasetError, match=r"SHA256SUMS: cannot be read"):
            defocus_ds.load_crops(f"{url}/elsewhere", level="low", split="train")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"broken": ".parquet"}, "the server answers 503 Service Unavailable"),
        ({"ranges": False}, r"its server sends no parts of files .*`wget -r -np -R"),
        ({"deaf": True}, r"its server sends no parts of files .*`wget -r -np -R"),
    ],
)
def test_a_server_that_fails_names_the_shard_once(
    dataset: Path, options: dict[str, Any], reason: str
) -> None:
    with served(dataset, **options) as url, pytest.raises(DatasetError) as caught:
        list(defocus_ds.load_crops(url, level="low", split="train"))
    shard = rf"{url}/crops/low/train-00000-of-\d+\.parquet: cannot be read: "
    assert re.match(shard + reason, str(caught.value))
    assert str(caught.value).count(url) == 1


def test_a_server_that_is_not_there_is_said(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(dataset) as url:
        with pytest.raises(DatasetError) as caught:
            defocus_ds.load_crops(f"{url}/elsewhere", level="low", split="train")
        assert str(caught.value) == (
            f"{url}/elsewhere/SHA256SUMS: cannot be read: the server answers 404 Not Found. A "
            "dataset or release has this file at its root; the tars of an export are read by "
            "`as_webdataset`."
        )
        crops = defocus_ds.load_crops(url, level="low", split="train")
    fsspec.filesystem("http").clear_instance_cache()
    with pytest.raises(DatasetError) as caught:
        crops[0]
    assert re.fullmatch(
        rf"{url}/crops/low/train-00000-of-\d+\.parquet: cannot be read: Connection refused\.",
        str(caught.value),
    )
    with pytest.raises(DatasetError) as caught:
        defocus_ds.load_crops(url, level="low", split="train")
    assert str(caught.value) == f"{url}/SHA256SUMS: cannot be read: Connection refused."

    def late(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(url) from TimeoutError()

    monkeypatch.setattr("fsspec.implementations.http.HTTPFileSystem.open", late)
    with pytest.raises(DatasetError, match=r"SHA256SUMS: .* the server does not answer in time\."):
        defocus_ds.load_crops(url, level="low", split="train")


@pytest.fixture(scope="module")
def tars(dataset: Path) -> Path:
    """An export of the dataset, of several training tars."""
    out = dataset.parent / "tars"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webdataset, "TAR_CROPS", 5)
        export(dataset, out, to="webdataset")
    assert len(list((out / "low").glob("train-*.tar"))) >= 3
    return out


def stream(root: Path | str) -> Any:
    return defocus_ds.as_webdataset(root, level="low", split="train", dtype="uint8", check=True)


def assert_streams_the_same(url: str, tars: Path) -> None:
    wanted, found = list(stream(tars)), list(stream(url))
    assert len(found) == len(wanted) > 8
    for one, other in zip(found, wanted, strict=True):
        assert one["__key__"] == other["__key__"]
        assert one["row"] == other["row"]
        assert np.array_equal(one["sharp"], other["sharp"])
        assert np.array_equal(one["blurred"], other["blurred"])


def test_tars_in_another_file_system(tars: Path) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tars), "/tars", recursive=True)
    try:
        assert_streams_the_same("memory://tars/", tars)
        filesystem.rm("/tars/low/train-00001.tar")
        pipeline = iter(stream("memory://tars"))
        with pytest.raises(DatasetError, match=r"^memory://tars/low/train-00001.tar: cannot be"):
            list(pipeline)
    finally:
        filesystem.rm("/tars", recursive=True)


@pytest.mark.parametrize("ranges", [True, False])
def test_tars_of_a_web_server_need_no_ranges(tars: Path, ranges: bool) -> None:
    with served(tars, ranges=ranges) as url:
        assert_streams_the_same(url, tars)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_share_the_tars_of_a_web_server(tars: Path) -> None:
    with served(tars) as url:
        pipeline = pickle.loads(pickle.dumps(stream(url)))
        list(pipeline)  # the parent has connections
        loader = DataLoader(
            pipeline, batch_size=None, num_workers=2, multiprocessing_context="fork"
        )
        assert sorted(item["__key__"] for item in loader) == [
            item["__key__"] for item in stream(tars)
        ]


@pytest.mark.parametrize("fault", ["broken", "cut"])
def test_a_server_that_fails_names_the_tar(tars: Path, fault: str) -> None:
    with (
        served(tars, **{fault: ".tar"}) as url,
        pytest.raises(DatasetError, match=rf"^{url}/low/train-00000\.tar: "),
    ):
        list(stream(url))


def sparse(length: int) -> bytes:
    """A tar of this length whose only file says that it is 2 GB of holes."""
    member = tarfile.TarInfo("0.sparse")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**31
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header).ljust(length, b"\0")


def test_a_tar_of_another_length_is_named(tars: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tars, tmp_path / "copy"))
    tar = copy / "low" / "train-00001.tar"
    whole = tar.read_bytes()
    for data, message in (
        (whole[:-20_000], rf"{len(whole) - 20_000} bytes, export.json says {len(whole)}"),
        (whole[:300], f"300 bytes, export.json says {len(whole)}"),
        (whole[:-1024] + whole, f"more than {len(whole)} bytes"),
        (gzip.compress(whole), "not a plain tar"),
        (b"", "0 bytes"),
        (sparse(len(whole)), "'0.sparse' is no plain file of at most"),
    ):
        tar.write_bytes(data)
        with (
            served(copy) as url,
            pytest.raises(DatasetError, match=rf"{url}/low/train-00001\.tar: {message}"),
        ):
            list(stream(url))


@pytest.mark.parametrize(
    "name",
    [
        "../train-00000.tar",
        "/low/train-00000.tar",
        "low/../train-00000.tar",
        "low/train-00000.tar::file:///etc/passwd",
        "low/train-00000.tar?x=1",
        "memory://low/train-00000.tar",
    ],
)
def test_a_record_cannot_lead_to_another_url(tars: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(tars, tmp_path / "copy"))
    record = json.loads((copy / "export.json").read_text())
    record["streams"][0]["tars"][0]["file"] = name
    (copy / "export.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match="is no tar of an export"):
        defocus_ds.as_webdataset(f"file://{copy}", level="low", split="train")


def test_what_is_no_export_behind_a_url_is_said(dataset: Path, tars: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"file://.*/export.json: cannot be read"):
        stream(f"file://{dataset}")
    with pytest.raises(DatasetError, match="no crops of low val; there: low train, low test"):
        defocus_ds.as_webdataset(f"file://{tars}", level="low", split="val")
    (tmp_path / "export.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"file://.*/export.json: cannot be read as JSON"):
        stream(f"file://{tmp_path}")
