"""Types learnt from values that came: what results of a tool looked like, merged, with counts.

A learnt type is a JSON value, so that a store keeps it as it is: how many values came, of which kinds, which fields objects had and how often. It
holds no value, only names of fields and formats of texts. Rules:

- `merged` is associative and commutative: whoever merges, in whatever order, comes to the same type;
- a type is bounded in depth and in fields: an object with too many names is a table whose keys are data, and keeps one type for all its values;
- it is a description for people and models. The check of a plan never relies on it: that something came so far says nothing of what comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from itertools import islice
from typing import Any, Final, TypeAlias, cast

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..values import Json, canonical, parse_canonical

Shape: TypeAlias = dict[str, Any]
"""Of some values: `n`, how many; a count for each kind (`null boolean integer number text list object`); `formats`, of texts; `items`, the shape of all
elements of lists; `fields`, name -> the shape of the values under it; `values`, the shape of all values of objects whose names are data."""

DEPTH_MAX: Final = 8
FIELDS_MAX: Final = 60
"""Names of one object; one with more is a table, such as prices by product."""
NAME_CHARACTERS_MAX: Final = 100
ITEMS_MAX: Final = 50
"""Elements of one list that are looked at, from its beginning: more would say the same and take long."""
VALUES_MAX: Final = 5_000
"""Parts of one value that are looked at."""

PLAIN_NAME: Final = late_pattern(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
"""A name of a field that may stand in a prompt whoever wrote it: it is too short, and too much of a name, to be an instruction."""

_FORMATS: Final = (
    ("date", re.compile(r"\d{4}-\d\d-\d\d")),
    ("date-time", re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")),
    ("time", re.compile(r"\d\d:\d\d(:\d\d)?")),
    ("number", re.compile(r"-?\d{1,15}(\.\d{1,9})?")),
    ("uri", re.compile(r"https?://\S+")),
    ("email", re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")),
)
_FORMAT_CHARACTERS_MAX: Final = 300
_KINDS: Final = ("null", "boolean", "integer", "number", "text", "list", "object")


def shape_of(value: Json) -> Shape:
    """Return the shape of one value. O(VALUES_MAX)."""
    return _shape(value, DEPTH_MAX, [VALUES_MAX])


def _shape(value: Json, room: int, left: list[int]) -> Shape:  # noqa: PLR0911  # one case, one line
    left[0] -= 1
    match value:
        case None:
            return {"n": 1, "null": 1}
        case bool():
            return {"n": 1, "boolean": 1}
        case int():
            return {"n": 1, "integer": 1}
        case float():
            return {"n": 1, "number": 1}
        case str():
            known = _format_of(value)
            return {"n": 1, "text": 1} | ({"formats": {known: 1}} if known else {})
        case list():
            made: Shape = {"n": 1, "list": 1}
            if room > 0 and value:
                made["items"] = merged(
                    _shape(each, room - 1, left) for each in _some(value[:ITEMS_MAX], left)
                )
            return made
        case dict():
            made = {"n": 1, "object": 1}
            if room > 0 and value:
                fields = {name: _shape(value[name], room - 1, left) for name in _some(sorted(value), left)}
                made["fields"] = fields
            return _bounded(made)


def _some(parts: Iterable[Any], left: list[int]) -> Iterable[Any]:
    """Yield parts while there is room for them."""
    for part in parts:
        if left[0] <= 0:
            return
        yield part


def _format_of(text: str) -> str | None:
    if len(text) > _FORMAT_CHARACTERS_MAX:
        return None
    return next((name for name, pattern in _FORMATS if pattern.fullmatch(text)), None)


def merged(shapes: Iterable[Shape]) -> Shape:
    """Return the shape of all values of some shapes together; `{}` of none."""
    every = [shape for shape in shapes if shape]
    if len(every) < 2:
        return every[0] if every else {}
    made: Shape = _added([{name: shape[name] for name in ("n", *_KINDS) if name in shape} for shape in every])
    if formats := _added([shape.get("formats", {}) for shape in every]):
        made["formats"] = formats
    for name in ("items", "values"):
        if part := merged(shape.get(name, {}) for shape in every):
            made[name] = part
    fields: dict[str, list[Shape]] = {}
    for shape in every:
        for name, part in shape.get("fields", {}).items():
            fields.setdefault(name, []).append(part)
    if fields:
        made["fields"] = {name: merged(fields[name]) for name in sorted(fields)}
    return _bounded(made)


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counts, by name."""
    names = sorted({name for each in counts for name in each})
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def _bounded(shape: Shape) -> Shape:
    """Return the shape with the fields as values of a table if they are too many, or if one of them has no name but a text."""
    fields: Mapping[str, Shape] = shape.get("fields", {})
    is_table = "values" in shape or len(fields) > FIELDS_MAX
    if not fields or not (is_table or any(len(name) > NAME_CHARACTERS_MAX for name in fields)):
        return shape
    rest = {name: part for name, part in shape.items() if name != "fields"}
    return rest | {"values": merged([shape.get("values", {}), *fields.values()])}


def structure_of(shape: Shape) -> Json:
    """Return a shape without its counts, but for which fields may be absent: shapes with equal structures say the same of later values."""
    kept: dict[str, Json] = {"kinds": [kind for kind in _KINDS if kind in shape]}
    if only := _only_format(shape):
        kept["format"] = only
    for name in ("items", "values"):
        if name in shape:
            kept[name] = structure_of(shape[name])
    if "fields" in shape:
        kept["fields"] = {name: structure_of(part) for name, part in shape["fields"].items()}
        kept["always"] = [name for name, part in shape["fields"].items() if part["n"] == shape["object"]]
    return kept


def schema_of_shape(shape: Shape, *, plain_names: bool) -> dict[str, Json]:
    """Return the JSON Schema of values such as came.

    Args:
        shape: The shape.
        plain_names: Leave out fields whose names are not short identifiers: a stranger may have written them. An object with such a field may have others.
    """
    kinds = [_schema_of_kind(kind, shape, plain_names) for kind in _KINDS if kind in shape]
    if {"type": "number"} in kinds and {"type": "integer"} in kinds:
        kinds.remove({"type": "integer"})
    # Null last, as people write it.
    kinds.sort(key=lambda kind: kind == {"type": "null"})
    return kinds[0] if len(kinds) == 1 else {"anyOf": cast("list[Json]", kinds)} if kinds else {}


def _schema_of_kind(kind: str, shape: Shape, plain_names: bool) -> dict[str, Json]:  # noqa: FBT001  # private
    match kind:
        case "text":
            return _text_schema(shape)
        case "list":
            return _list_schema(shape, plain_names)
        case "object":
            return _object_schema(shape, plain_names)
        case _:
            return {"type": kind}


def _text_schema(shape: Shape) -> dict[str, Json]:
    only = _only_format(shape)
    made: dict[str, Json] = {"type": "string"}
    return made | {"format": only} if only else made


def _list_schema(shape: Shape, plain_names: bool) -> dict[str, Json]:  # noqa: FBT001
    made: dict[str, Json] = {"type": "array"}
    if items := shape.get("items"):
        made["items"] = schema_of_shape(items, plain_names=plain_names)
    return made


def _object_schema(shape: Shape, plain_names: bool) -> dict[str, Json]:  # noqa: FBT001
    made: dict[str, Json] = {"type": "object"}
    if "values" in shape:
        made["additionalProperties"] = schema_of_shape(shape["values"], plain_names=plain_names)
        return made
    fields: Mapping[str, Shape] = shape.get("fields", {})
    shown = {name: part for name, part in fields.items() if not plain_names or PLAIN_NAME.fullmatch(name)}
    if not shown:
        return made
    always: Sequence[str] = [name for name, part in shown.items() if part["n"] == shape["object"]]
    made["properties"] = {
        name: schema_of_shape(part, plain_names=plain_names) for name, part in shown.items()
    }
    made["required"] = list(always)
    return made


def _only_format(shape: Shape) -> str | None:
    """Return the format that all texts had; `None`: they had none, or several."""
    formats: Mapping[str, int] = shape.get("formats", {})
    (only, count), *others = [*islice(formats.items(), 2)] or [("", 0)]
    return only if count and not others and count == shape.get("text") else None


# --- what is kept of one tool


@immutable
class LearntType:
    """What results of one tool looked like.

    Attributes:
        results: How many came.
        unfit: How many of them did not fit the declared type.
        shape: What those looked like that were looked at: after enough of the same, results are only counted.
    """

    results: int = 0
    unfit: int = 0
    shape: Shape = field(default_factory=dict[str, Any])

    def __add__(self, other: LearntType) -> LearntType:
        return LearntType(
            self.results + other.results, self.unfit + other.unfit, merged([self.shape, other.shape])
        )

    def write(self) -> bytes:
        """Return it as canonical JSON."""
        return canonical({"results": self.results, "unfit": self.unfit, "shape": self.shape})

    @classmethod
    def read(cls, data: bytes) -> LearntType:
        """Read it back from `write`."""
        found = cast("dict[str, Any]", parse_canonical(data))
        return cls(found["results"], found["unfit"], found["shape"])
