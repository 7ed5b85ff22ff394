"""The dataset card (README.md) and the citation of a release, from its facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from defocus_ds.dataset.licence import find_licence

__all__ = ["card", "citation"]

_SIZES = (1_000, 10_000, 100_000, 1_000_000)


def card(facts: Mapping[str, Any]) -> str:
    """README.md with the YAML header that dataset hubs read.

    Args:
        facts: from `defocus_ds.dataset.release_facts.release_facts`.
    """
    return "\n".join([*_header(facts), *_body(facts)]) + "\n"


def citation(facts: Mapping[str, Any]) -> str:
    """CITATION.cff, Citation File Format 1.2.0."""
    licence = find_licence(facts["licence"], facts["licence_url"])
    lines = [
        "cff-version: 1.2.0",
        "message: If you use this dataset, please cite it as below.",
        "type: dataset",
        f"title: {_quoted(facts['name'])}",
        f"version: {_quoted(facts['version'])}",
        f"license: {_quoted(licence.name)}"
        if licence.citable
        else f"license-url: {_quoted(licence.url)}",
        "authors:",
    ]
    for author in facts["authors"]:
        family, comma, given = (part.strip() for part in author.partition(","))
        if comma and given:
            lines += [f"- family-names: {_quoted(family)}", f"  given-names: {_quoted(given)}"]
        else:
            lines.append(f"- name: {_quoted(author)}")
    if facts["date"]:
        lines.append(f"date-released: {_quoted(facts['date'])}")
    if facts["url"]:
        lines.append(f"url: {_quoted(facts['url'])}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML scalar: JSON is YAML."""
    return json.dumps(text, ensure_ascii=False)


def _header(facts: Mapping[str, Any]) -> Iterator[str]:
    total = sum(sum(counts.values()) for counts in facts["crops"].values())
    yield "---"
    yield f"pretty_name: {_quoted(facts['name'])}"
    licence = find_licence(facts["licence"], facts["licence_url"])
    yield f"license: {_quoted(licence.hub)}"
    if licence.hub == "other":
        yield f"license_name: {_quoted(licence.slug)}"
        yield f"license_link: {_quoted(licence.url)}"
    yield "task_categories:\n- image-to-image"
    yield "tags:\n- deblurring\n- defocus\n- image-restoration"
    yield f"size_categories:\n- {_size_category(total)}"
    yield "configs:"
    for level, counts in facts["crops"].items():
        yield f"- config_name: {level}"
        yield "  data_files:"
        for split in counts:
            # datasets calls it so, and reads no other name as it
            name = {"val": "validation"}.get(split, split)
            yield f"  - split: {name}"
            yield f"    path: crops/{level}/{split}-*.parquet"
    yield "---"


def _size_category(total: int) -> str:
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M")
    for limit, name in zip(_SIZES, names, strict=True):
        if total < limit:
            return name
    return "1M<n<10M"


def _body(facts: Mapping[str, Any]) -> Iterator[str]:
    levels = facts["levels"]
    yield f"\n# {facts['name']}\n"
    yield (
        "Pairs of a sharp and a defocused photograph of the same scene, aligned and matched in "
        "colour, cut into luma crops. The defocused captures were taken with "
        "the focus ring turned by "
        + _listed(
            f"{' or '.join(map(str, entry['offsets']))} marks ({level})"
            for level, entry in levels.items()
        )
        + "."
    )
    if facts["cameras"]:
        yield f"Camera: {_listed(facts['cameras'])}."
    if facts["lenses"]:
        yield f"Lens: {_listed(facts['lenses'])}."
    yield "\n## Crops\n"
    splits = [s for s in ("train", "val", "test") if s in facts["scenes"]]
    yield "| level | " + " | ".join(splits) + " |"
    yield "|---|" + "---:|" * len(splits)
    for level, counts in facts["crops"].items():
        yield f"| {level} | " + " | ".join(str(counts.get(s, 0)) for s in splits) + " |"
    yield "| scenes | " + " | ".join(str(facts["scenes"].get(s, 0)) for s in splits) + " |"
    yield (
        "\nA scene belongs to one split at every level, and so do scenes that show the same place "
        f"(found by their features: {facts['decisions']['near_duplicates']}). "
        "`splits.csv` has the split of every scene."
    )
    yield "\n## Quality\n"
    yield "| level | pairs | residual px | blur radius px | ΔE before | ΔE after |"
    yield "|---|---:|---:|---:|---:|---:|"
    for level, entry in levels.items():
        cells = (
            _figure(entry[key], digits)
            for key, digits in (
                ("residual_px", 3),
                ("blur_radius_px", 2),
                ("ciede2000_before", 2),
                ("ciede2000_after", 2),
            )
        )
        yield f"| {level} | {entry['pairs']} | " + " | ".join(cells) + " |"
    yield (
        "\nMedian over the pairs, least to most in brackets. *Residual* is the expected distance "
        "between the map that aligned a pair and the truth, estimated from the pair itself; every "
        "crop has its own in the column `residual_px`. *ΔE* is the mean CIEDE2000 between the "
        "blur-matched captures, locally averaged, before and after colour matching; what depth "
        "and displacement leave is in it."
    )
    if count := facts["decisions"]["left_out"]:
        were = "scene or pair was" if count == 1 else "scenes or pairs were"
        yield f"\n{count} {were} left out; `decisions.json` says why."
    yield from _loading(facts)
    yield "\n## How it was made\n"
    yield (
        f"With defocus-ds, preset `{facts['preset']}`: "
        + ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
        + ". The whole configuration is in `release.json`. `SHA256SUMS` covers every file, and "
        "every crop's row has the SHA-256 of its pixels."
    )
    yield f"\nLicence: [{facts['licence']}]({facts['licence_url']}). To cite it see `CITATION.cff`."


def _loading(facts: Mapping[str, Any]) -> Iterator[str]:
    level = next(iter(facts["crops"]))
    split = next(iter(facts["crops"][level]))
    yield "\n## Loading\n"
    yield (
        "```python\nimport defocus_ds\n\n"
        f'crops = defocus_ds.load_crops("path/to/release", level="{level}", split="{split}")\n'
        "crops[0].sharp, crops[0].blurred  # uint8 luma\n```\n"
    )
    yield (
        "```python\nfrom datasets import load_dataset\n\n"
        f'load_dataset("path/to/release", "{level}")\n```\n'
    )
    yield "`sha256sum --check SHA256SUMS` or `defocus-ds verify path/to/release` check the files."


def _listed(parts: Any) -> str:
    texts = list(parts)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _figure(spread: Mapping[str, float] | None, digits: int) -> str:
    if spread is None:
        return "not measured"
    median, least, most = (f"{spread[key]:.{digits}f}" for key in ("median", "least", "most"))
    return f"{median} ({least} to {most})"
