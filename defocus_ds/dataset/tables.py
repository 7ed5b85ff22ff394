"""Parquet files of a dataset: one way to write them to the byte, one bounded way to open them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from defocus_ds.dataset.remote import filesystem_of, is_url, why_unreachable
from defocus_ds.errors import DatasetError

__all__ = [
    "MAX_GROUPS",
    "MAX_ROWS",
    "distinct",
    "open_table",
    "read_group",
    "read_groups",
    "read_table",
    "table_writer",
    "text_limit",
    "with_metadata",
]

MAX_ROWS = 50_000_000
MAX_GROUPS = 10_000
_MAX_TABLE_BYTES = 1 << 32
_MAX_GROUP_BYTES = 1 << 30
_MAX_LIST_ITEMS = 50_000_000
_MAX_THRIFT_BYTES = 1 << 28
_MAX_THRIFT_ITEMS = 10_000_000
_FEW_ROWS, _FEW_BYTES = 64, 1 << 20
# rows decoded before their size is looked at
_BATCH_ROWS = 4096
_TEXT_BYTES = 1 << 16
# columns that came later: files from before them read as null there
_LATER = frozenset({"blur_radius_confidence", "blur_radius_spread_px"})
_LONG_BYTES = {
    "development": 1 << 22,
    "colour": 1 << 22,
    "alignment": 1 << 22,
    "bytes": 1 << 25,
}


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


def text_limit(leaf: str) -> int:
    """Bytes that one text of a column may have; ``leaf`` is the last part of the column's path."""
    return _LONG_BYTES.get(leaf, _TEXT_BYTES)


def distinct(table: Any, *columns: str) -> list[tuple[Any, ...]]:
    """The different combinations of values in these columns, sorted."""
    found = table.select(columns).group_by(list(columns)).aggregate([])
    return sorted(zip(*(found.column(name).to_pylist() for name in columns), strict=True))


def open_table(path: Path | str, schema: Any) -> Any:
    """Open a Parquet file of known schema, checking its declared sizes before any column is read.

    Args:
        path: the file, or its URL.
        schema: the Arrow schema it must have; metadata is not compared.

    Returns:
        A `pyarrow.parquet.ParquetFile` that verifies page checksums, for `read_group`: read by
        itself it gives texts as dictionaries.  Columns that the format gained later may be absent.

    Raises:
        DatasetError: missing, damaged, another schema (the column is named), or too large.
    """
    limits: dict[str, Any] = {
        "pre_buffer": False,
        "page_checksum_verification": True,
        "thrift_string_size_limit": _MAX_THRIFT_BYTES,
        "thrift_container_size_limit": _MAX_THRIFT_ITEMS,
    }
    filesystem, source = filesystem_of(str(path)) if is_url(path) else (None, path)
    limits["filesystem"] = filesystem
    try:
        with pq.ParquetFile(source, **limits) as file:
            metadata, found = file.metadata, file.schema_arrow
        _check_schema(path, found, schema)
        _check_size(path, metadata)
        leaves = map(metadata.schema.column, range(metadata.num_columns))
        # a text that is stored once for a million rows must not be copied a million times; and
        # pyarrow ends the process where it is asked of damaged metadata how a column is stored
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        return pq.ParquetFile(source, metadata=metadata, read_dictionary=texts, **limits)
    except Exception as error:
        _raise_unless_damage(error, path)
        raise DatasetError(f"{path}: not a readable Parquet file ({_one_line(error)}).") from error


def read_group(file: Any, group: int, *, path: Path | str, schema: Any) -> Any:
    """One row group of a file from `open_table`, as an Arrow table of the schema's types.

    Columns are read one at a time and a few rows at a time, and their size is measured before
    texts are spelled out: what a small file can make this allocate is bounded.

    Raises:
        DatasetError: damaged, text that is not UTF-8 or too long, more bytes than a row group may
            hold, or a null where the schema has none; the text names the file and the rows.
    """
    try:
        return _group_table(file, group, schema)
    except Exception as error:
        text = f": {error}"
        if not isinstance(error, DatasetError):
            _raise_unless_damage(error, path)
            text = f" are damaged ({_one_line(error)})."
        raise DatasetError(f"{path}: {_rows_named(file, group)}{text}") from error


def read_groups(path: Path, schema: Any, *, max_rows: int = MAX_ROWS) -> Iterator[Any]:
    """The row groups of a Parquet file of known schema, one Arrow table after another.

    Raises:
        DatasetError: as in `open_table` and `read_group`; more rows than ``max_rows``; or more
            than 4 GB when decoded, all together.
    """
    with open_table(path, schema) as file:
        if file.metadata.num_rows > max_rows:
            raise DatasetError(f"{path}: {file.metadata.num_rows} rows, limit {max_rows}.")
        size = 0
        for group in range(file.metadata.num_row_groups):
            table = read_group(file, group, path=path, schema=schema)
            size += table.nbytes
            if size > _MAX_TABLE_BYTES:
                raise DatasetError(f"{path}: more than {_MAX_TABLE_BYTES} bytes when decoded.")
            yield table
        if not file.metadata.num_row_groups:
            yield schema.with_metadata(file.schema_arrow.metadata).empty_table()


def read_table(path: Path, schema: Any, *, max_rows: int = MAX_ROWS) -> Any:
    """A whole Parquet file of known schema as an Arrow table, with the file's own metadata.

    Raises:
        DatasetError: as in `read_groups`.
    """
    return pa.concat_tables(list(read_groups(path, schema, max_rows=max_rows)))


def _group_table(file: Any, group: int, schema: Any) -> Any:
    """What `read_group` gives; its errors do not say where."""
    left = _MAX_GROUP_BYTES
    columns: list[Any] = []
    found = file.schema_arrow  # made anew at every access, as are its names
    names = frozenset(found.names)
    for field in schema:
        if field.name not in names:
            columns.append(pa.nulls(len(columns[0]), field.type))
            left -= columns[-1].nbytes
            continue
        chunks = []
        for batch in file.iter_batches(
            _BATCH_ROWS, row_groups=[group], columns=[field.name], use_threads=False
        ):
            column = batch.column(0)
            left -= _decoded_bytes(column, field.name, f"column {field.name!r}")
            if left < 0:
                raise DatasetError(f"more than {_MAX_GROUP_BYTES} bytes when decoded.")
            chunks.append(column if column.type == field.type else column.cast(field.type))
        columns.append(pa.chunked_array(chunks, field.type))
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata(found.metadata))
    table.validate(full=True)
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise DatasetError(f"column {field.name!r} holds a null.")
    return table


def _rows_named(file: Any, group: int) -> str:
    """The rows of a row group, counted from 0 in the file: ``rows 64 to 95``."""
    sizes = [file.metadata.row_group(index).num_rows for index in range(group + 1)]
    return f"rows {sum(sizes[:-1])} to {sum(sizes) - 1}"


def _raise_unless_damage(error: Exception, path: Path | str) -> None:
    """Pass on what is no damage; a server's failure, of which every kind has its own, is said."""
    if isinstance(error, DatasetError):
        raise error
    if isinstance(path, str) and is_url(path):
        if reason := why_unreachable(path, error):
            raise DatasetError(f"{path}: cannot be read: {reason}.") from error
    elif not isinstance(error, OSError | ValueError | pa.ArrowException):
        raise error


def _leaves(field: Any) -> list[str]:
    if pa.types.is_struct(field.type):
        return [f"{field.name}.{child.name}" for child in field.type]
    if pa.types.is_list(field.type):
        return [f"{field.name}.list.element"]
    return [field.name]


def _decoded_bytes(array: Any, leaf: str, where: str) -> int:
    """Bytes that an array takes once its texts are spelled out; each is held to its limit."""
    if pa.types.is_struct(array.type):
        parts = zip(array.type, array.flatten(), strict=True)
        return sum(_decoded_bytes(part, child.name, where) for child, part in parts)
    if pa.types.is_list(array.type):
        return int(array.nbytes) + _decoded_bytes(array.flatten(), leaf, where)
    texts = array.dictionary if pa.types.is_dictionary(array.type) else array
    if not pa.types.is_binary(texts.type) and not pa.types.is_string(texts.type):
        return int(array.nbytes)
    most = texts.nbytes * (len(array) if texts is not array else 1)
    if len(array) <= _FEW_ROWS and most <= _FEW_BYTES and texts.nbytes <= text_limit(leaf):
        return int(most)  # the exact sum takes longer than the texts
    import pyarrow.compute as pc  # slow to load

    lengths = pc.binary_length(texts)
    longest = pc.max(lengths).as_py() or 0
    if longest > (limit := text_limit(leaf)):
        raise DatasetError(f"{where}: a text of {longest} bytes, limit {limit}.")
    if texts is array:
        return int(array.nbytes)
    return 4 * len(array) + (pc.sum(lengths.take(array.indices)).as_py() or 0)


def _check_schema(path: Path | str, found: Any, schema: Any) -> None:
    for name in schema.names:
        if name in _LATER and name not in found.names:
            continue
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


def _check_size(path: Path | str, metadata: Any) -> None:
    if metadata.num_rows > MAX_ROWS:
        raise DatasetError(f"{path}: declares {metadata.num_rows} rows, limit {MAX_ROWS}.")
    if metadata.num_row_groups > MAX_GROUPS:
        raise DatasetError(
            f"{path}: declares {metadata.num_row_groups} row groups, limit {MAX_GROUPS}."
        )
    columns = range(metadata.num_columns)
    lists = [i for i in columns if metadata.schema.column(i).max_repetition_level]
    rows = items = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        rows += group.num_rows
        items += sum(group.column(column).num_values for column in lists)
        if group.total_byte_size > _MAX_GROUP_BYTES:
            raise DatasetError(
                f"{path}: row group {index} declares {group.total_byte_size} bytes, "
                f"limit {_MAX_GROUP_BYTES}."
            )
    if items > _MAX_LIST_ITEMS:
        raise DatasetError(f"{path}: declares {items} list entries, limit {_MAX_LIST_ITEMS}.")
    if rows != metadata.num_rows:
        raise DatasetError(f"{path}: declares {metadata.num_rows} rows, its groups hold {rows}.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
