"""What an annotation demands of a frame or an array, beside its type: `Annotated[pd.DataFrame, Columns(city=str, price=float)]`.

A demand narrows the JSON Schema of the value's description. So the check compares the columns that one step promises with those that
another one needs before anything runs, and a call whose columns differ is refused with the column's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ...errors import ConfigError
from ...plans.values import Json

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

_INTEGERS: Final[list[Json]] = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
_FLOATS: Final[list[Json]] = ["float16", "float32", "float64"]
_OF_TYPES: Final[Mapping[object, Json]] = {
    str: {"enum": ["string"]},
    int: {"enum": _INTEGERS},
    float: {"enum": _FLOATS},
    bool: {"enum": ["bool"]},
    bytes: {"enum": ["binary"]},
    date: {"enum": ["date"]},
    datetime: {"pattern": "^datetime"},
    time: {"enum": ["time"]},
    timedelta: {"pattern": "^duration"},
    Decimal: {"pattern": "^decimal"},
    object: {},
    Any: {},
}
_DTYPE: Final = re.compile(r"[a-z][a-z0-9]*(\[.*\])?")


class Demand(Protocol):
    """Narrows the facts of a codec's descriptions."""

    def narrow(self, facts: Mapping[str, Json], /) -> dict[str, Json]:
        """Return the JSON Schemas of the facts, narrowed. Raises: ConfigError: the codec has no such facts."""
        ...


class _InAnnotations:
    """A demand as pydantic meets it in `Annotated`: it also makes fields of models possible that pydantic has no schema for."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401  # pydantic's method
        from .typed import schema_of_annotated  # noqa: PLC0415  # loads pydantic's schemas: only for tools that have frames

        return schema_of_annotated(source, cast("Demand", self))


@dataclass(frozen=True, init=False)
class Columns(_InAnnotations):
    """The columns that a frame has at least, with their types.

    Args:
        types: A column's name and type as a dict, for names that are no keywords.
        columns: Name -> a Python type (`str`, `int`, `float`, `bool`, `date`, `datetime`, `time`, `timedelta`, `Decimal`, `bytes`; `object`: any), or
            a type's exact name as descriptions have it: `"int32"`, `"category"`, `"datetime[us]"`.

    Raises:
        ConfigError: A type is unknown.

    Example:
        ```python
        Prices = Annotated[pd.DataFrame, Columns(city=str, price=float)]
        ```
    """

    columns: Mapping[str, Mapping[str, Json]]

    def __init__(self, types: Mapping[str, object] | None = None, /, **columns: object) -> None:
        made = {name: _dtype_schema(name, kind) for name, kind in {**(types or {}), **columns}.items()}
        object.__setattr__(self, "columns", made)

    def narrow(self, facts: Mapping[str, Json], /) -> dict[str, Json]:  # noqa: D102  # as `Demand` says
        if "dtypes" not in facts:
            raise ConfigError(
                "Columns: expected the annotation of a frame, such as Annotated[pd.DataFrame, Columns(..)]"
            )
        dtypes: dict[str, Json] = {**cast("dict[str, Json]", facts["dtypes"])}
        if self.columns:
            dtypes |= cast(
                "dict[str, Json]", {"properties": dict(self.columns), "required": list(self.columns)}
            )
        return {**facts, "dtypes": dtypes}


def _dtype_schema(name: str, kind: object) -> dict[str, Json]:
    if isinstance(kind, str) and _DTYPE.fullmatch(kind):
        return {"type": "string", "const": kind}
    try:
        found = _OF_TYPES[kind]
    except (KeyError, TypeError):
        raise ConfigError(
            f"Columns: {name}: expected a type of columns (str, int, float, bool, date, datetime, time, timedelta, Decimal, bytes, object) or the "
            f"name of one such as 'int32', found {kind!r}"
        ) from None
    return {"type": "string", **cast("dict[str, Json]", found)}


@dataclass(frozen=True, init=False)
class Shape(_InAnnotations):
    """The shape of an array, and perhaps the type of its elements.

    Args:
        lengths: The length of each axis; `None`: any length.
        dtype: The element type as numpy names it (`"float32"`); `None`: as the annotation says, or any.

    Raises:
        ConfigError: A length is none.

    Example:
        ```python
        Points = Annotated[np.ndarray, Shape(None, 3, dtype="float64")]
        ```
    """

    lengths: tuple[int | None, ...] | None
    dtype: str | None

    def __init__(self, *lengths: int | None, dtype: str | None = None) -> None:
        for each in lengths:
            if each is not None and (
                not isinstance(cast("object", each), int) or isinstance(each, bool) or each < 0
            ):
                raise ConfigError(f"Shape: expected the length of an axis, or None for any, found {each!r}")
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "dtype", dtype)

    @classmethod
    def any(cls, dtype: str | None = None) -> Shape:
        """Return the demand of an element type alone, or none at all: for fields of pydantic models."""
        made = cls(dtype=dtype)
        object.__setattr__(made, "lengths", None)
        return made

    def narrow(self, facts: Mapping[str, Json], /) -> dict[str, Json]:  # noqa: D102  # as `Demand` says
        if "shape" not in facts:
            raise ConfigError(
                "Shape: expected the annotation of an array, such as Annotated[np.ndarray, Shape(None, 3)]"
            )
        made = dict(facts)
        if self.dtype is not None:
            made["dtype"] = {"type": "string", "const": self.dtype}
        if self.lengths is not None:
            count = len(self.lengths)
            axes: list[Json] = [
                {"type": "integer", "minimum": 0} if each is None else {"type": "integer", "const": each}
                for each in self.lengths
            ]
            made["shape"] = {"type": "array", "prefixItems": axes, "minItems": count, "maxItems": count}
            if not axes:
                made["shape"] = {"type": "array", "maxItems": 0}
        return made
