"""Verify a dataset: every file, row, image and crop against what the others say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from defocus_ds.dataset.checksums import SUMS_NAME, list_files, read_sums
from defocus_ds.dataset.findings import MADE_AGAIN, Finding, Findings, Kind, VerifyReport
from defocus_ds.dataset.frozen import SPLITS_NAME
from defocus_ds.dataset.importers.make import IMPORT_NAME
from defocus_ds.dataset.kinds import folder_kind, what_it_is
from defocus_ds.dataset.manifest import INFO_NAME, SCENES_NAME
from defocus_ds.dataset.release_facts import RELEASE_NAME
from defocus_ds.dataset.shards import (
    CROP_SCHEMA,
    MANIFEST_NAME,
    MANIFEST_SCHEMA,
    crop_record,
    has_crops,
    shard_files,
)
from defocus_ds.dataset.tables import open_table
from defocus_ds.dataset.verify_crops import CropChecker
from defocus_ds.dataset.verify_scenes import check_scenes
from defocus_ds.dataset.verify_splits import check_frozen, check_splits
from defocus_ds.errors import DatasetError
from defocus_ds.store import inside, sha256_file

__all__ = ["Finding", "VerifyReport", "verify"]


def verify(
    path: Path | str, *, progress: Callable[[int, int, str], None] | None = None
) -> VerifyReport:
    """Check a built dataset, a release, or a folder of crops.

    Checksums; missing and stray files; schemas and counts; image sizes and hashes; complete
    shards; no scene in two splits at any level; scenes, splits and groups as in a release's
    splits.csv; every crop's hash, and its pixels against the images it names; verdicts and ranges.
    A folder with release.json or splits.csv is a release, which has SHA256SUMS and splits.csv.
    Reads everything, executes nothing, and checks declared sizes before it allocates.

    Args:
        path: the folder.
        progress: called with (done, total, label) for each file and each shard.

    Returns:
        Findings; a damaged file is a finding, never an exception.

    Raises:
        DatasetError: the folder does not exist or holds nothing this can check.
    """
    from defocus_ds.pipeline.journal import refuse_unfinished

    root = Path(path)
    folders = _level_folders(root)
    is_dataset = _holds(root, INFO_NAME, SCENES_NAME)
    is_release = _holds(root, RELEASE_NAME, SPLITS_NAME) and not is_dataset
    if not (is_dataset or is_release or folders or (root / SUMS_NAME).exists()):
        refuse_unfinished(root)
        found = what_it_is(root, unknown="nothing that can be checked")
        raise DatasetError(
            f"{root}: neither {INFO_NAME} nor crops nor {SUMS_NAME} here; {found}. "
            "Give the folder that build, crop or release made."
        )
    kind: Kind = "dataset" if is_dataset else "release" if is_release else _made_by(root, folders)
    findings = Findings(kind=kind)
    names = list_files(root)
    shards = {folder: shard_files(folder) for folder in folders}
    total = len(names) + sum(len(s) for splits in shards.values() for s in splits.values())
    done = 0

    def step(label: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, label)

    hashes = _hash_files(root, names, findings, step)
    if is_dataset or is_release or (root / SUMS_NAME).exists():
        _check_sums(root, hashes, findings)
    rows = check_scenes(root, hashes, findings) if is_dataset else None
    checker = CropChecker(root, rows, hashes.get(SCENES_NAME), findings, step)
    for folder in folders:
        checker.check_level(folder, shards[folder])
    check_splits(checker.seen, findings)
    check_frozen(root, checker.seen, checker.described, findings)
    return VerifyReport(root, findings.all(), dict(findings.checked), kind)


def _holds(root: Path, *names: str) -> bool:
    return any((root / name).exists() for name in names)


def _made_by(root: Path, folders: list[Path]) -> Kind:
    """What made a folder, by its own records; any one that can be read says it."""
    if folder_kind(root) == "export":
        return "export"
    if _holds(root, IMPORT_NAME):
        return "import"
    for folder in folders:
        shards = [shard.path for files in shard_files(folder).values() for shard in files]
        tables = [(path, CROP_SCHEMA) for path in shards]
        for path, schema in [(folder / MANIFEST_NAME, MANIFEST_SCHEMA), *tables]:
            try:
                with open_table(path, schema) as file:
                    record = crop_record(path, file.schema_arrow.metadata)
            except DatasetError:
                continue
            if "import" in record:
                return "import"
            return "split" if "released" in record else "dataset"
    return "dataset"


def _level_folders(root: Path) -> list[Path]:
    """Folders with crops: below ``crops``, directly below, or the folder itself."""
    if not root.is_dir():
        raise DatasetError(f"{root}: not a folder.")
    for parent in (root / "crops", root):
        if parent.is_dir():
            found = [f for f in sorted(parent.iterdir()) if has_crops(f)]
            if found:
                return found
    return [root] if has_crops(root) else []


def _hash_files(
    root: Path, names: list[str], findings: Findings, step: Callable[[str], None]
) -> dict[str, str]:
    """Relative path -> SHA-256 of every file that can be read inside the root."""
    hashes = {}
    for name in names:
        try:
            path = inside(root, name)
            if path.is_file():
                hashes[name] = sha256_file(path)
            else:
                findings.add(name, "a file", "something else", "Remove it.")
        except DatasetError:
            findings.add(name, "a file of the dataset", "a link that leads outside or in a circle")
        except OSError as error:
            findings.add(name, "a readable file", str(error.strerror))
        step(f"hashed {name}")
    findings.checked["files"] = len(hashes)
    return hashes


def _check_sums(root: Path, hashes: dict[str, str], findings: Findings) -> None:
    try:
        sums = read_sums(root)
    except DatasetError as error:
        writers = "Copy it again, or run `defocus-ds crop` or `build`, which write it."
        advice = writers if findings.kind == "dataset" else None
        findings.add(SUMS_NAME, "lines '<sha256>  <path inside>'", str(error), advice)
        return
    for name, digest in sums.items():
        found = hashes.get(name)
        if found is None:
            path = inside(root, name)
            found = sha256_file(path) if path.is_file() else "no file"
        if found != digest:
            advice = findings.repair(name, missing=found == "no file")
            findings.add(name, f"SHA-256 {digest}", found, advice)
    advice = f"Remove the file, or refresh {SUMS_NAME} with `defocus-ds crop` or `build`."
    if findings.kind != "dataset":
        advice = f"Remove the file, or {MADE_AGAIN[findings.kind]}."
    for name in sorted(set(hashes) - set(sums)):
        findings.add(name, f"a line in {SUMS_NAME}", "none", advice)
