"""Arrays of numpy as bytes: the format `.npy`, in C order and little-endian, so that equal arrays give equal bytes.

Arrays of Python objects have no bytes but pickled ones, so they are refused.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any, cast

import numpy as np

from .codec import Codec, Encoded
from .preview import COLUMNS_MAX, ArtifactPreview, PreviewColumn, cut

MEDIA_TYPE = "application/x-npy"


def arrays(kind: type) -> Codec:
    """Return the codec of `numpy.ndarray`."""
    return Codec(
        kind=kind,
        mark="npy/1",
        media_type=MEDIA_TYPE,
        facts={
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "dtype": {"type": "string"},
        },
        encode=_encode,
        decode=_decode,
    )


def _encode(value: np.ndarray[Any, Any]) -> Encoded:
    if type(value) is not np.ndarray:
        name = type(value).__name__
        raise TypeError(f"expected a plain numpy.ndarray, found a {name}; return `numpy.asarray(..)` of it")
    if value.dtype.hasobject:
        raise TypeError(
            f"expected numbers, booleans, dates or text, found the dtype {value.dtype}, which holds any Python object; convert it, as in `.astype(str)`"
        )
    plain = np.ascontiguousarray(value).reshape(value.shape)
    if plain.dtype.names is not None:
        # The gaps between fields may hold anything.
        packed = np.zeros(plain.shape, plain.dtype)
        for name in plain.dtype.names:
            packed[name] = plain[name]
        plain = packed
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    out = BytesIO()
    np.lib.format.write_array(out, plain, allow_pickle=False)
    return Encoded(out.getvalue(), {"shape": list(plain.shape), "dtype": dtype_name(plain.dtype)})


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name of an element type: numpy's, without byte order and without the length of texts, which is that of the longest one."""
    if dtype.kind in "US":
        return "str" if dtype.kind == "U" else "bytes"
    return str(dtype.name if dtype.names is None else dtype)


def _decode(data: bytes) -> np.ndarray[Any, Any]:
    # numpy runs code of a file only to read Python objects, which are refused.
    return np.lib.format.read_array(BytesIO(data), allow_pickle=False)


def preview(data: bytes, rows: int, *, is_whole: bool) -> ArtifactPreview:
    """Return the first elements along the first axis: of two axes as a table, of a structured dtype by field, of more axes each as one text.

    Args:
        data: The bytes, or as many of them as are at hand.
        rows: Elements along the first axis.
        is_whole: Whether these are all bytes.

    Raises:
        ValueError: They are no array, or what is shown is not among them.
    """
    found, shape = (_decode(data), None) if is_whole else _beginning(data, rows)
    shape = found.shape if shape is None else shape
    shown = np.atleast_1d(found)[:rows]
    dtype = dtype_name(found.dtype)
    if shown.dtype.names is not None and shown.ndim == 1:
        names = shown.dtype.names
        heads = [PreviewColumn(cut(name), dtype_name(shown.dtype[name])) for name in names[:COLUMNS_MAX]]
        lines = [tuple(_text(each[name]) for name in names[:COLUMNS_MAX]) for each in shown]
        count = len(names)
    elif shown.ndim == 2:  # rows and columns
        count = shown.shape[1]
        heads = [PreviewColumn(str(at), dtype) for at in range(min(count, COLUMNS_MAX))]
        lines = [tuple(_text(each) for each in line) for line in shown[:, :COLUMNS_MAX]]
    else:
        count, heads = 1, [PreviewColumn("value", dtype)]
        lines = [(_text(each),) for each in shown]
    return ArtifactPreview(
        kind="array",
        columns=tuple(heads),
        rows=tuple(lines),
        rows_total=shape[0] if shape else 1,
        columns_total=count,
        shape=shape,
        dtype=dtype,
    )


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        array = cast("np.ndarray[Any, np.dtype[Any]]", value)
        return cut(np.array2string(array, threshold=8, edgeitems=3).replace("\n", ""))
    return cut(str(value))


def _beginning(data: bytes, rows: int) -> tuple[np.ndarray[Any, Any], tuple[int, ...]]:
    """Return the first elements of an array whose first bytes are at hand, and the shape of the whole array. Raises: ValueError."""
    source = BytesIO(data)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        np.lib.format.read_magic(source)
    )
    if reader is None:
        raise ValueError("expected version 1 or 2 of the format .npy in an array of this size")
    shape, is_fortran, dtype = reader(source)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"expected elements that have bytes, found the dtype {dtype}")
    axes = len(shape)
    if not axes or (is_fortran and axes > 1):
        raise ValueError("expected the order of C (row after row) in an array of this size")
    width = math.prod(shape[1:])
    count = min(rows, shape[0], (len(data) - source.tell()) // (dtype.itemsize * max(width, 1)))
    if shape[0] and not count:
        raise ValueError(f"expected rows that fit into {len(data):,} bytes, found longer ones")
    flat = np.frombuffer(data, dtype, count * width, source.tell())
    return flat.reshape((count, *shape[1:])), shape
