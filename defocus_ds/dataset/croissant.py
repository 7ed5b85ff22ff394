"""croissant.json: what machines that look for datasets read of a release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from defocus_ds.dataset.shards import CROP_SCHEMA

__all__ = ["CROISSANT_NAME", "croissant"]

CROISSANT_NAME = "croissant.json"
_PARQUET = "application/x-parquet"
# of the format, as its specification 1.0 gives it
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {
    pa.string(): "sc:Text",
    pa.int32(): "sc:Integer",
    pa.float64(): "sc:Float",
}


def croissant(
    facts: Mapping[str, Any], *, digests: Mapping[str, str], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """JSON-LD of Croissant 1.0: every shard with its SHA-256, every column with its type.

    Args:
        facts: from `defocus_ds.dataset.release_facts.release_facts`.
        digests: path of a shard in the release -> SHA-256.
        sizes: the same -> bytes.

    Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
    """
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{sizes[name]} B",
            "encodingFormat": _PARQUET,
            "sha256": digests[name],
        }
        for name in sorted(digests)
    ]
    record_sets = []
    for level in facts["crops"]:
        objects.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{level}-shards",
                "name": f"{level}-shards",
                "encodingFormat": _PARQUET,
                "includes": f"crops/{level}/*-of-*.parquet",
            }
        )
        record_sets.append(_record_set(level))
    offsets = ", ".join(
        f"{level} ({' or '.join(f'{o:+}' for o in v['offsets'])})"
        for level, v in facts["levels"].items()
    )
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts["name"],
        "description": "Aligned, colour-matched luma crops of sharp and defocused photographs of "
        f"the same scenes, at focus-ring offsets {offsets}.",
        "license": facts["licence_url"],
        "version": facts["version"],
        "creator": [{"@type": "sc:Person", "name": author} for author in facts["authors"]],
        "citeAs": f"{'; '.join(facts['authors'])}: {facts['name']}, version {facts['version']}.",
        "distribution": objects,
        "recordSet": record_sets,
    }
    if facts["url"]:
        found["url"] = facts["url"]
    if facts["date"]:
        found["datePublished"] = facts["date"]
    return found


def _record_set(level: str) -> dict[str, Any]:
    """The columns of a level's shards."""
    fields: Sequence[Any] = list(CROP_SCHEMA)
    return {
        "@type": "cr:RecordSet",
        "@id": level,
        "name": level,
        "description": f"Pairs of crops, blurred at level {level}.",
        "field": [_field(level, field) for field in fields],
    }


def _field(level: str, field: Any) -> dict[str, Any]:
    source: dict[str, Any] = {
        "fileSet": {"@id": f"{level}-shards"},
        "extract": {"column": field.name},
    }
    image = field.type not in _TYPES
    if image:
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"{level}/{field.name}",
        "name": field.name,
        "dataType": "sc:ImageObject" if image else _TYPES[field.type],
        "source": source,
    }
