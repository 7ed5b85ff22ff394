"""Parquet files of a dataset: one way to write them to the byte, one bounded way to open them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from defocus_ds.errors import DatasetError

__all__ = ["MAX_ROWS", "open_table", "read_group", "read_table", "table_writer", "with_metadata"]

MAX_ROWS = 50_000_000
_MAX_GROUP_BYTES = 1 << 30
_MAX_THRIFT_BYTES = 1 << 28
_MAX_THRIFT_ITEMS = 10_000_000


def with_metadata(schema: Any, metadata: Mapping[str, str]) -> Any:
    """The Arrow schema with this metadata, keys sorted."""
    return schema.with_metadata({key: metadata[key] for key in sorted(metadata)})


@contextmanager
def table_writer(path: Path, schema: Any, *, stored: tuple[str, ...] = ()) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` whose options are fixed: same rows, same bytes.

    Args:
        path: file to write; the caller makes it appear whole.
        schema: Arrow schema, with its metadata.
        stored: leaf columns kept as they are (already compressed); all others are zstd.
    """
    leaves = [leaf for field in schema for leaf in _leaves(field)]
    packed = [leaf for leaf in leaves if leaf not in stored]
    with pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression={leaf: "ZSTD" if leaf in packed else "NONE" for leaf in leaves},
        compression_level=dict.fromkeys(packed, 9),
        use_dictionary=[leaf for leaf in packed if leaf in ("scene", "level", "split", "reason")],
        write_statistics=packed,
        write_page_checksum=True,
    ) as writer:
        yield writer


def open_table(path: Path, schema: Any) -> Any:
    """Open a Parquet file of known schema, checking its declared sizes before any column is read.

    Args:
        path: the file.
        schema: the Arrow schema it must have; metadata is not compared.

    Returns:
        A `pyarrow.parquet.ParquetFile` that verifies page checksums.

    Raises:
        DatasetError: missing, damaged, another schema (the column is named), or too large.
    """
    try:
        file = pq.ParquetFile(
            path,
            pre_buffer=False,
            page_checksum_verification=True,
            thrift_string_size_limit=_MAX_THRIFT_BYTES,
            thrift_container_size_limit=_MAX_THRIFT_ITEMS,
        )
        found = file.schema_arrow
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: not a readable Parquet file ({_one_line(error)}).") from error
    try:
        _check_schema(path, found, schema)
        _check_size(path, file.metadata)
    except DatasetError:
        file.close()
        raise
    return file


def read_group(file: Any, group: int, *, path: Path, schema: Any) -> Any:
    """One row group of a file from `open_table`, as an Arrow table.

    Raises:
        DatasetError: damaged, text that is not UTF-8, or a null where the schema has none.
    """
    try:
        table = file.read_row_group(group, use_threads=False)
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: row group {group} is damaged ({_one_line(error)}).") from error
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise DatasetError(f"{path}: row group {group}: column {field.name!r} holds a null.")
    return table


def read_table(path: Path, schema: Any) -> Any:
    """A whole Parquet file of known schema as an Arrow table.

    Raises:
        DatasetError: as in `open_table` and `read_group`.
    """
    with open_table(path, schema) as file:
        groups = [
            read_group(file, group, path=path, schema=schema)
            for group in range(file.metadata.num_row_groups)
        ]
        if not groups:
            return file.schema_arrow.empty_table()
        return pa.concat_tables(groups)


def _leaves(field: Any) -> list[str]:
    if pa.types.is_struct(field.type):
        return [f"{field.name}.{child.name}" for child in field.type]
    if pa.types.is_list(field.type):
        return [f"{field.name}.list.element"]
    return [field.name]


def _check_schema(path: Path, found: Any, schema: Any) -> None:
    for name in schema.names:
        if found.names.count(name) != 1:
            raise DatasetError(f"{path}: column {name!r} is missing; was it written by this tool?")
        if found.field(name).type != schema.field(name).type:
            raise DatasetError(
                f"{path}: column {name!r} is {found.field(name).type}, "
                f"need {schema.field(name).type}."
            )
    for name in found.names:
        if name not in schema.names:
            raise DatasetError(f"{path}: column {name!r} is not part of the format.")


def _check_size(path: Path, metadata: Any) -> None:
    if metadata.num_rows > MAX_ROWS:
        raise DatasetError(f"{path}: declares {metadata.num_rows} rows, limit {MAX_ROWS}.")
    rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        rows += group.num_rows
        if group.total_byte_size > _MAX_GROUP_BYTES:
            raise DatasetError(
                f"{path}: row group {index} declares {group.total_byte_size} bytes, "
                f"limit {_MAX_GROUP_BYTES}."
            )
    if rows != metadata.num_rows:
        raise DatasetError(f"{path}: declares {metadata.num_rows} rows, its groups hold {rows}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
