"""Make a JSON value say its numbers and sets the way its schema does.

JSON Schema takes `2.0` for an integer, Python does not: where a schema wants an integer, an integral float becomes
one. Where it asks for unique items of a Python set, whose order means nothing, items are put in order, so that
equal sets are equal bytes. Nothing else is changed, and what fits no branch of a union is left for validation
to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from ..plans.values import Json, canonical

INTEGER_MAX = 2**63  # canonical JSON ends at 64 bits

Schema = Mapping[str, Json]
Fits = Callable[[Schema, Json], bool]


def with_integers(value: Json, schema: Schema, fits: Fits) -> Json:
    """Return `value` with an integer for each integral float that `schema` wants as an integer.

    Args:
        value: Any JSON.
        schema: A self-contained schema.
        fits: Whether a value passes a schema of the same document: chooses among the branches of a union.
    """
    return _Walk(schema, fits).integers(value, schema)


def with_ordered_sets(value: Json, schema: Schema, fits: Fits) -> Json:
    """Return `value` with the items of each array that is a set (`uniqueItems`) in canonical order."""
    return _Walk(schema, fits, order=True).integers(value, schema)


class _Walk:
    """One walk over a value and its schema, side by side."""

    def __init__(self, root: Schema, fits: Fits, *, order: bool = False) -> None:
        self.root = root
        self.fits = fits
        self.order = order

    def integers(self, value: Json, schema: Schema | Json) -> Json:
        schema = self.resolved(schema)
        if not isinstance(schema, dict):
            return value
        for part in cast("list[Json]", schema.get("allOf") or []):
            value = self.integers(value, part)
        for union in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(union), list):
                value = self.chosen(value, branches)
        match value:
            case float() if _wants_integer(schema) and value.is_integer() and abs(value) < INTEGER_MAX:
                return int(value)
            case list():
                return self.array(value, schema)
            case dict():
                return self.object(value, schema)
            case _:
                return value

    def chosen(self, value: Json, branches: list[Json]) -> Json:
        """Return `value` as the first branch that it fits would have it."""
        for branch in branches:
            if isinstance(branch, dict) and self.fits(branch, value):
                return self.integers(value, branch)
        return value

    def array(self, value: list[Json], schema: Schema) -> list[Json]:
        prefix = schema.get("prefixItems")
        heads = prefix if isinstance(prefix, list) else []
        rest = schema.get("items")
        made = [self.integers(item, heads[at] if at < len(heads) else rest) for at, item in enumerate(value)]
        if self.order and schema.get("uniqueItems") is True:
            made.sort(key=canonical)
        return made

    def object(self, value: dict[str, Json], schema: Schema) -> dict[str, Json]:
        known = schema.get("properties")
        fields = known if isinstance(known, dict) else {}
        rest = schema.get("additionalProperties")
        return {key: self.integers(item, fields.get(key, rest)) for key, item in value.items()}

    def resolved(self, schema: Schema | Json) -> Schema | Json:
        """Follow `$ref` inside the document; a reference beside other keywords counts alone."""
        seen = 0
        while (
            isinstance(schema, dict)
            and isinstance(ref := schema.get("$ref"), str)
            and seen < len(self.root) + 64
        ):
            found: Json = dict(self.root)
            for part in ref.removeprefix("#").strip("/").split("/"):
                key = part.replace("~1", "/").replace("~0", "~")
                found = found.get(key) if isinstance(found, dict) and part else found
            schema, seen = found, seen + 1
        return schema


def _wants_integer(schema: Schema) -> bool:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    return "integer" in kinds and "number" not in kinds
