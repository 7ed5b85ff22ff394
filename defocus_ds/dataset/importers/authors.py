"""Images named as the authors of MMSP 2024 name theirs: ``<object><n>_original|lbc|mbc|hbc``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from defocus_ds.dataset.importers.listing import (
    ImportOptions,
    Listing,
    PairFiles,
    image_files,
    listed,
    splits_of,
)
from defocus_ds.frames import Level

__all__ = ["list_authors"]

_CODES = {"original": Level.SHARP, "lbc": Level.LOW, "mbc": Level.MEDIUM, "hbc": Level.HIGH}
# published examples end in _crop, and write lbC
_NAME = re.compile(rf"(?P<object>.+)_(?P<code>{'|'.join(_CODES)})(?P<rest>_\w+)?", re.IGNORECASE)


def list_authors(root: Path, options: ImportOptions) -> Listing:
    """The pairs below a folder, by name: a scene is the images of one folder, object and ending.

    A scene needs its sharp image and at least one blurred one.  It is called by its object, and
    by object and ending where the folder has the object with several endings.  All scenes of an
    object, and of objects with an equal sharp file, are in one split.

    Args:
        root: searched with its subfolders.
        options: seed and shares of the splits.

    Raises:
        DatasetError: no such folder.
    """
    refused: dict[str, str] = {}
    found: dict[tuple[str, str, str], dict[Level, tuple[str, Path]]] = defaultdict(dict)
    written: dict[tuple[str, str, str], tuple[str, str]] = {}
    for name, path in image_files(root):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            refused[name] = "its name does not end in _original, _lbc, _mbc or _hbc"
            continue
        written_object, rest = match["object"], match["rest"] or ""
        key = str(path.parent), written_object.casefold(), rest.casefold()
        level = _CODES[match["code"].lower()]
        if level in found[key]:
            refused[name] = f"a second {level} image beside {found[key][level][0]}"
            continue
        found[key][level] = name, path
        written.setdefault(key, (written_object, rest))
        if level is Level.SHARP:
            written[key] = written_object, rest
    endings = Counter(key[:2] for key in found)
    shown: list[tuple[str, str, Level, Path, Path]] = []
    things: dict[str, str] = {}
    sharps: dict[str, list[Path]] = defaultdict(list)
    for key, images in found.items():
        if Level.SHARP not in images:
            for name, _ in images.values():
                refused[name] = f"no sharp image {written[key][0]}_original{written[key][1]}"
            continue
        if len(images) == 1:
            refused[images[Level.SHARP][0]] = "no blurred image of its scene"
            continue
        thing, rest = written[key]
        scene = thing + rest if endings[key[:2]] > 1 else thing
        sharp = images[Level.SHARP][1]
        # one object, in whatever case and folder: its name as written first decides the split
        things[key[1]] = min(thing, things.get(key[1], thing))
        sharps[key[1]].append(sharp)
        shown += [
            (scene, key[1], level, sharp, path)
            for level, (_, path) in images.items()
            if level is not Level.SHARP
        ]
    splits = splits_of({name: sharps[folded] for folded, name in things.items()}, options)
    pairs = [
        PairFiles(scene, splits[things[folded]], level.value, sharp, blurred)
        for scene, folded, level, sharp, blurred in shown
    ]
    return listed(root, pairs, refused)
