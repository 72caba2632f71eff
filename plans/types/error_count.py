"""The number of errors that a value may have against a schema, counted before the validator is asked for them.

The validator lists the errors of every alternative, those of alternatives inside included. If two alternatives lead back to the same named schema,
each level of the value doubles their number: 300 bytes of schema and value have millions of errors, and the one call that lists them
cannot be stopped. Whether a value is valid is cheap to ask, because the validator remembers what it has looked at.

Each pair of a part and a schema is counted once, so counting takes no longer than the product of their sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from ..values import Json
from .definitions import Documents, Place, as_mapping, same_value_schemas

ERRORS_MAX: Final = 10_000
"""Errors that are listed of any value."""

ERRORS_A_PART: Final = 50
"""Further errors for each part of the value: a long list may have many wrong items, and no alternatives that multiply them."""

_OTHERS: Final = ("additionalProperties", "unevaluatedProperties")
_ITEMS: Final = ("items", "contains", "unevaluatedItems")


def has_too_many_errors(value: Json, schema: Json) -> bool:
    """Whether a value may have more errors than may be listed; `schema` stands alone."""
    count = _Count(schema)
    try:
        return count.of(value, schema) > ERRORS_MAX + ERRORS_A_PART * len(count.parts)
    except RecursionError:
        return True


class _Count:
    """Counts the comparisons of parts of a value with schemas, each of which may be an error.

    Attributes:
        parts: The parts of the value that were compared, by identity.
    """

    def __init__(self, root: Json) -> None:
        self.parts: set[int] = set()
        self._documents = Documents(as_mapping(root) or {}, {})
        self._known: dict[tuple[int, int], int] = {}

    def of(self, value: Json, schema: Json) -> int:
        """Return how often parts of the value are compared with parts of the schema."""
        if not isinstance(schema, dict):
            return 1
        # Identity is a safe key: value and schema live longer than this count.
        place = (id(value), id(schema))
        if (known := self._known.get(place)) is not None:
            return known
        self._known[place] = 1  # for a schema that leads back to itself with the same part
        self.parts.add(id(value))
        total = 1 + sum(self.of(part, inner) for part, inner in self._compared(value, schema))
        self._known[place] = total
        return total

    def _compared(self, value: Json, schema: Mapping[str, Json]) -> Iterator[tuple[Json, Json]]:
        """Yield each part of a value with each schema that it is compared with because of this schema."""
        for inner in same_value_schemas(schema):
            yield value, inner
        if isinstance(ref := schema.get("$ref"), str):
            yield value, self._documents.at(Place("", unquote(ref.removeprefix("#"))))
        if isinstance(value, dict):
            fields = schema.get("properties")
            for name, inner in fields.items() if isinstance(fields, dict) else ():
                if name in value:
                    yield value[name], inner
            inners = [schema[name] for name in _OTHERS if name in schema]
            patterns = schema.get("patternProperties")
            inners += patterns.values() if isinstance(patterns, dict) else ()
            yield from ((part, inner) for part in value.values() for inner in inners)
        elif isinstance(value, list):
            inners = [schema[name] for name in _ITEMS if name in schema]
            yield from ((part, inner) for part in value for inner in inners)
            first = schema.get("prefixItems")
            yield from zip(value, first, strict=False) if isinstance(first, list) else ()
