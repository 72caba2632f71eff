"""Frames of pandas and polars, and tables of pyarrow, as bytes: Arrow's IPC file format, without compression.

All of them are one kind of value, an Arrow table, so that a step that returns one library's frame fits a step that takes another's. Equal frames
give equal bytes, however they were made: chunks are joined; slots of nulls, whose content Arrow leaves open, are emptied; the order of a dictionary
that has no meaning is that of first appearance; what pandas notes of versions is left out. `pandas` and `polars` are not imported here: whoever
has a value or an annotation of theirs has imported them.
"""

# ruff: noqa: ANN401  # types of the libraries are not known to the type checkers where they are not installed
from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, cast

from ...errors import ConfigError
from ...plans.values import Json
from .codec import Codec, Encoded
from .preview import CELL_MAX, COLUMNS_MAX, ArtifactPreview, PreviewColumn, cut

MEDIA_TYPE: Final = "application/vnd.apache.arrow.file"
_SERIES: Final = b"firmplan.series"
_INDEX: Final = "__index_level_"
UNPACKED_BYTES_MAX: Final = 4 << 30
"""Bytes that the compressed buffers of a table may have when unpacked: a tool has the memory for so many, and for no bomb."""
ITEMS_MAX: Final = 10
"""Elements of a list in a cell that a preview shows."""

FACTS: Final[Mapping[str, Json]] = {
    "rows": {"type": "integer", "minimum": 0},
    "columns": {"type": "array", "items": {"type": "string"}},
    "dtypes": {"type": "object", "additionalProperties": {"type": "string"}},
}


def pandas_frames(kind: type) -> Codec:
    """Return the codec of `pandas.DataFrame`."""
    return _tables(kind, _pandas_table, _to_pandas)


def pandas_series(kind: type) -> Codec:
    """Return the codec of `pandas.Series`."""
    return _tables(kind, _pandas_series_table, _to_pandas_series, is_series=True)


def polars_frames(kind: type) -> Codec:
    """Return the codec of `polars.DataFrame`."""
    return _tables(kind, _polars_table, _to_polars)


def polars_series(kind: type) -> Codec:
    """Return the codec of `polars.Series`."""
    return _tables(
        kind,
        lambda value: _polars_table(value.to_frame()),
        lambda table: _to_polars(_single(table)).to_series(),
        is_series=True,
    )


def arrow_tables(kind: type) -> Codec:
    """Return the codec of `pyarrow.Table`."""
    return _tables(
        kind, lambda value: _with_canonical_dictionaries(value, lambda _: True), lambda table: table
    )


def arrow_batches(kind: type) -> Codec:
    """Return the codec of `pyarrow.RecordBatch`."""

    def to_table(value: Any) -> Any:
        return _with_canonical_dictionaries(_pyarrow(kind).Table.from_batches([value]), lambda _: True)

    def to_batch(table: Any) -> Any:
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else _pyarrow(kind).RecordBatch.from_pylist([], schema=table.schema)

    return _tables(kind, to_table, to_batch)


def _tables(
    kind: type, to_table: Callable[[Any], Any], to_value: Callable[[Any], Any], *, is_series: bool = False
) -> Codec:
    _pyarrow(kind)

    def encode(value: Any) -> Encoded:
        # A subclass (a GeoDataFrame) knows more than its columns, and would come back as a plain frame.
        if type(value) is not kind:
            raise TypeError(
                f"expected a {kind.__name__}, found its subclass {type(value).__name__}; declare a codec for it with @firmplan.codec"
            )
        return encoded_table(to_table(value))

    facts = dict(FACTS)
    if is_series:
        facts["columns"] = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}
    return Codec(
        kind=kind,
        mark="arrow/1",
        media_type=MEDIA_TYPE,
        facts=facts,
        encode=encode,
        decode=lambda data: to_value(read_table(data)),
    )


def _pyarrow(kind: object) -> Any:
    """Return the package. Raises: ConfigError: it is not installed."""
    try:
        return import_module("pyarrow")  # which has no types of its own
    except ImportError as fault:
        name = getattr(kind, "__name__", "frame")
        raise ConfigError(
            f"a {name} travels through plans as an Arrow table, which needs pyarrow; install it: pip install 'firmplan[frames]'"
        ) from fault


def encoded_table(table: Any) -> Encoded:
    """Return a pyarrow.Table as bytes that depend on its content alone."""
    pa = _pyarrow(cast("object", type(table)))
    names = table.column_names
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected columns with different names, found '{twice}' twice; rename one")
    whole = table.unify_dictionaries().combine_chunks()
    columns = [_plain(_joined(pa, column)) for column in whole.columns]
    fields = [
        pa.field(field.name, column.type, field.nullable, _sorted(field.metadata))
        for field, column in zip(whole.schema, columns, strict=True)
    ]
    schema = pa.schema(fields, _sorted(_without_versions(whole.schema.metadata)))
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, schema, options=pa.ipc.IpcWriteOptions(compression=None)) as writer:
        # Also without rows: the batch brings the values of dictionaries along.
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return Encoded(out.getvalue().to_pybytes(), facts_of(whole))


def read_table(data: bytes) -> Any:
    """Return the pyarrow.Table of some bytes. Raises: ValueError: they are none."""
    table = open_table(data)
    # The bytes may come from anywhere: without this, an offset outside its buffer would be read as it is.
    table.validate(full=True)
    return table


def open_table(data: bytes) -> Any:
    """Return the pyarrow.Table of some bytes, whose offsets nobody has looked at. Raises: ValueError: they are none, or a bomb."""
    pa = _pyarrow(None)
    if (size := _unpacked_size(data)) > UNPACKED_BYTES_MAX:
        raise ValueError(
            f"expected at most {UNPACKED_BYTES_MAX >> 30} GiB when unpacked, found {size:,} bytes; divide the table"
        )
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def _unpacked_size(data: bytes) -> int:
    """Return how many bytes the compressed buffers of an Arrow file say that they have when unpacked; 0: none is compressed.

    Files of other programs may be compressed, and a few kilobytes can stand for more than memory holds. Each compressed buffer begins with its size.
    pyarrow does not tell where the buffers are, so the few fields of the messages' flatbuffers that say it are read here
    (apache/arrow, format/Message.fbs and File.fbs).
    """
    if not data.startswith(b"ARROW1"):
        raise ValueError("expected an Arrow IPC file (Feather 2), which begins with ARROW1")
    total = 0
    try:
        footer_size = struct.unpack_from("<i", data, len(data) - 10)[0]
        footer = _Flat.root(data, len(data) - 10 - footer_size)
        for field in (2, 3):  # dictionaries, recordBatches
            for block in footer.structs(field, 24):
                offset, size = struct.unpack_from("<qi", data, block)
                prefix = 8 if data[offset : offset + 4] == b"\xff\xff\xff\xff" else 4
                batch = _Flat.root(data, offset + prefix).table(2)
                batch = batch if field == 3 else batch.table(1)  # a dictionary batch holds a record batch
                if not batch.has(3):  # compression
                    continue
                for buffer in batch.structs(2, 16):
                    start, length = struct.unpack_from("<qq", data, buffer)
                    total += max(struct.unpack_from("<q", data, offset + size + start)[0], 0) if length else 0
    except (struct.error, IndexError) as fault:
        raise ValueError(f"expected a whole Arrow IPC file: {fault}") from fault
    return total


class _Flat:
    """A table of a flatbuffer: https://flatbuffers.dev/internals, as far as it is needed."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - struct.unpack_from("<i", data, at)[0]
        self._fields = (struct.unpack_from("<H", data, self._vtable)[0] - 4) // 2

    @classmethod
    def root(cls, data: bytes, at: int) -> _Flat:
        return cls(data, at + struct.unpack_from("<I", data, at)[0])

    def has(self, field: int) -> bool:
        return self._place(field) != self._at

    def table(self, field: int) -> _Flat:
        return _Flat(self._data, self._target(field))

    def structs(self, field: int, size: int) -> range:
        """Return where the elements of a vector of structs begin."""
        if not self.has(field):
            return range(0)
        start = self._target(field)
        count = min(struct.unpack_from("<I", self._data, start)[0], len(self._data) // size)
        return range(start + 4, start + 4 + count * size, size)

    def _place(self, field: int) -> int:
        if field >= self._fields:
            return self._at
        return self._at + int(struct.unpack_from("<H", self._data, self._vtable + 4 + 2 * field)[0])

    def _target(self, field: int) -> int:
        place = self._place(field)
        return place + int(struct.unpack_from("<I", self._data, place)[0])


def facts_of(table: Any) -> dict[str, Json]:
    """Return what a description tells of a table. An index of pandas that has no name is not listed."""
    shown = [field for field in table.schema if not field.name.startswith(_INDEX)]
    return {
        "rows": table.num_rows,
        "columns": [field.name for field in shown],
        "dtypes": {field.name: dtype_name(field.type) for field in shown},
    }


def preview(data: bytes, rows: int, *, is_whole: bool) -> ArtifactPreview:
    """Return the columns with their types, and the first rows. An index of pandas that has no name is not shown.

    Raises:
        ValueError: The bytes are no table, or not all of them.
    """
    if not is_whole:  # where the rows are stands at the end of the file
        raise ValueError("expected all bytes of the table")
    table = open_table(data)
    shown = table.slice(0, rows)
    shown.validate(full=True)
    places = [at for at, field in enumerate(table.schema) if not field.name.startswith(_INDEX)]
    kept = places[:COLUMNS_MAX]
    columns = [[_cell(each) for each in shown.column(at)] for at in kept]
    return ArtifactPreview(
        kind="frame",
        columns=tuple(
            PreviewColumn(cut(table.schema.field(at).name), dtype_name(table.schema.field(at).type))
            for at in kept
        ),
        rows=tuple(zip(*columns, strict=True)) if columns else ((),) * shown.num_rows,
        rows_total=table.num_rows,
        columns_total=len(places),
    )


def _cell(scalar: Any) -> str | None:
    """Return a value as text; `None`: it is null. No more of a long text or list is made a Python object than is shown."""
    pa = _pyarrow(None)
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar | pa.RunEndEncodedScalar):
        return _cell(scalar.value)
    return cut(_text(pa, scalar))


def _text(pa: Any, scalar: Any) -> str:
    if isinstance(scalar, pa.StructScalar):
        return "{" + ", ".join(f"{name}: {_item(value)}" for name, value in scalar.items()) + "}"
    if isinstance(scalar, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
        values = scalar.values
        more = ", ..." if len(values) > ITEMS_MAX else ""
        return "[" + ", ".join(_item(each) for each in values[:ITEMS_MAX]) + more + "]"
    if isinstance(scalar, pa.StringScalar | pa.LargeStringScalar | pa.StringViewScalar):
        # Four bytes are the most that a character takes.
        begun = scalar.as_buffer().slice(0, min(4 * (CELL_MAX + 1), scalar.as_buffer().size))
        return str(begun.to_pybytes().decode(errors="ignore"))
    if isinstance(scalar, pa.BinaryScalar | pa.LargeBinaryScalar | pa.BinaryViewScalar):
        begun = scalar.as_buffer().slice(0, min(CELL_MAX, scalar.as_buffer().size))
        return f"{begun.to_pybytes()!r}"
    return str(scalar)


def _item(scalar: Any) -> str:
    text = _cell(scalar)
    return "null" if text is None else text


_NAMES: Final = {
    "double": "float64",
    "float": "float32",
    "halffloat": "float16",
    "large_string": "string",
    "string_view": "string",
    "large_binary": "binary",
    "binary_view": "binary",
    "date32[day]": "date",
    "date64[ms]": "date",
    "bool": "bool",
}


_PREFIXES: Final = (
    ("timestamp[", "datetime["),  # what follows stays: unit and time zone
    ("time32[", "time"),
    ("time64[", "time"),
    ("dictionary<", "category"),
    ("decimal", "decimal"),
    ("large_list", "list"),
    ("fixed_size_list", "list"),
    ("list", "list"),
    ("struct", "struct"),
)


def dtype_name(kind: Any) -> str:
    """Return the name of an Arrow type that is the same for all libraries that mean the same: `float64`, `string`, `datetime[us, UTC]`."""
    text = str(kind)
    if text in _NAMES:
        return _NAMES[text]
    for arrow, ours in _PREFIXES:
        if text.startswith(arrow):
            return ours + text[len(arrow) :].replace("tz=", "") if ours.endswith("[") else ours
    return text


# --- equal content, equal bytes


def _joined(pa: Any, column: Any) -> Any:
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    raise ValueError(
        "expected a column of less than 2 GiB of text; use the type large_string, or divide the frame"
    )


def _plain(array: Any) -> Any:  # noqa: PLR0911  # one case for each layout of Arrow: a table
    """Return an array of the same values, whose bytes depend on these alone."""
    pa, pc, kind = _pyarrow(None), import_module("pyarrow.compute"), array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _plain(array.storage))
    if pa.types.is_dictionary(kind):
        made = pa.DictionaryArray.from_arrays(
            _plain(array.indices), _plain(array.dictionary), ordered=kind.ordered
        )
        return made.cast(kind) if made.type != kind else made
    mask = array.is_null() if array.null_count else None
    if pa.types.is_struct(kind):
        # `flatten` makes the fields of null structs null.
        parts = [_plain(part) for part in array.flatten()]
        if not parts:
            return _taken(pa, array)
        return pa.StructArray.from_arrays(
            parts, fields=[kind.field(at).with_type(part.type) for at, part in enumerate(parts)], mask=mask
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        ends = pc.cumulative_sum(lengths)
        offsets = (
            pa.concat_arrays([pa.array([0], lengths.type), ends])
            if len(array)
            else pa.array([0], lengths.type)
        )
        make = pa.ListArray if pa.types.is_list(kind) else pa.LargeListArray
        values = _plain(array.flatten())
        return make.from_arrays(offsets, values, mask=mask)
    if str(kind) == "string_view":
        return _plain(array.cast(pa.large_string()))
    if str(kind) == "binary_view":
        return _plain(array.cast(pa.large_binary()))
    if array.null_count == 0 and not pa.types.is_boolean(kind) and not pa.types.is_nested(kind):
        return array
    return _taken(pa, array)


def _taken(pa: Any, array: Any) -> Any:
    """Return a copy of an array; Arrow leaves nothing in the slots of nulls when it takes values."""
    return array.take(
        pa.arange(0, len(array)) if hasattr(pa, "arange") else pa.array(range(len(array)), pa.int64())
    )


def _with_canonical_dictionaries(table: Any, is_open: Callable[[Any], bool]) -> Any:
    """Return a table whose unordered dictionaries have their values in the order of first appearance.

    Args:
        table: The table.
        is_open: Whether the values of a field's dictionary are just those that occur.
    """
    pa = _pyarrow(None)
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and not field.type.ordered and is_open(field):
            column = pa.chunked_array(
                [table.column(at).cast(field.type.value_type).combine_chunks()] if table.num_rows else [],
                field.type.value_type,
            )
            encoded = column.dictionary_encode()
            table = table.set_column(at, field.with_type(encoded.type), encoded)
    return table


def _sorted(metadata: Any) -> dict[bytes, bytes] | None:
    return {key: metadata[key] for key in sorted(metadata)} if metadata else None


def _without_versions(metadata: Any) -> dict[bytes, bytes]:
    """Return the metadata of a schema; those of pandas tell index and column types, and no versions."""
    made = dict(metadata or {})
    if b"pandas" in made:
        told = json.loads(made[b"pandas"])
        kept = {
            key: told[key]
            for key in ("index_columns", "column_indexes", "columns", "attributes")
            if key in told
        }
        made[b"pandas"] = json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()
    return made


# --- pandas

# What a column of objects may hold: what Arrow takes and pandas gets back as it was.
_OBJECTS: Final = "text, bytes, booleans, dates, times or Decimals"


def _pandas_table(frame: Any) -> Any:
    pa = _pyarrow(cast("object", type(frame)))
    for label in frame.columns:
        if not isinstance(label, str | int | tuple):
            raise TypeError(f"expected columns named by text, found {label!r}; rename the column")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"expected columns with different names, found {twice!r} twice; rename one")
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as fault:
        # Of several texts the last one names the column.
        why = str(fault.args[-1] if fault.args else fault).split("\n", 1)[0]
        raise ValueError(
            f"expected columns of one type each, which Arrow has: {why.rstrip('.')}; convert the column, as in `.astype(str)`"
        ) from fault
    for name, series in _object_columns(frame):
        found = table.schema.field(table.column_names.index(name)).type
        if not _is_lossless(pa, found):
            raise TypeError(
                f"column '{name}': expected a dtype of its own, or objects that are {_OBJECTS}, found objects that are {dtype_name(found)}; "
                f"convert it, as in `frame['{name}'].astype(..)`{'' if len(series) else ' (it is empty)'}"
            )
    return table


def _object_columns(frame: Any) -> Iterator[tuple[str, Any]]:
    for at, label in enumerate(frame.columns):
        series = frame.iloc[:, at]
        if str(series.dtype) == "object":
            yield str(label), series


def _is_lossless(pa: Any, kind: Any) -> bool:
    types = pa.types
    tests = (
        *(types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_boolean),
        *(types.is_date, types.is_time, types.is_decimal, types.is_null),
    )
    return any(test(kind) for test in tests)


def _to_pandas(table: Any) -> Any:
    # A copy: what comes without one cannot be written to.
    return table.to_pandas().copy()


def _pandas_series_table(series: Any) -> Any:
    name = series.name
    if name is not None and not isinstance(name, str | int):
        raise TypeError(f"expected a Series named by text, found the name {name!r}; rename it")
    table = _pandas_table(series.to_frame("value" if name is None else name))
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _SERIES: b"" if name is None else b"named"}
    )


def _to_pandas_series(table: Any) -> Any:
    frame = _to_pandas(_single(table))
    series = frame.iloc[:, 0]
    noted: Mapping[bytes, bytes] = table.schema.metadata or {}
    return series.rename(None) if noted.get(_SERIES) == b"" else series


def _single(table: Any) -> Any:
    shown = [name for name in table.column_names if not name.startswith(_INDEX)]
    if len(shown) != 1:
        raise ValueError(
            f"expected a frame of one column for a Series, found {len(shown)}: {', '.join(shown[:5])}; select one"
        )
    return table


# --- polars


def _polars_table(frame: Any) -> Any:
    pl = sys.modules["polars"]
    for name, kind in frame.schema.items():
        if kind == pl.Object:
            raise TypeError(
                f"column '{name}': expected a type of polars, found Python objects (pl.Object); convert it, as in `.cast(pl.String)`"
            )
    table = frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    # The values of an Enum are part of its type. Those of a Categorical stand in the order in which the process has met them.
    return _with_canonical_dictionaries(
        table, lambda field: not isinstance(frame.schema[field.name], pl.Enum)
    )


def _to_polars(table: Any) -> Any:
    pl = sys.modules["polars"]
    unnamed = [name for name in table.column_names if name.startswith(_INDEX)]
    return pl.from_arrow(table.drop_columns(unnamed) if unnamed else table)
