"""Arrays of numpy as bytes: the format `.npy`, in C order and little-endian, so that equal arrays give equal bytes.

Arrays of Python objects have no bytes but pickled ones, so they are refused.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from .codec import Codec, Encoded

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


def preview(data: bytes, rows: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the first elements of the first axis, with their index, as text for people."""
    found = np.atleast_1d(_decode(data))
    name = f"{dtype_name(found.dtype)} {list(found.shape)}"
    shown = (np.array2string(each, threshold=8, edgeitems=3).replace("\n", "") for each in found[:rows])
    return ("index", name), [(str(at), text) for at, text in enumerate(shown)]
