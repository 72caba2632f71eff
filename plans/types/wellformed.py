"""Problems of JSON Schemas that a plan holds: keywords with values that they cannot have, references that lead nowhere, schemas without `type`.

The walk only looks at the text of one schema; the types that it names are looked at where they stand. What a schema means is `read.py`'s question: that
reads any JSON, so a problem here never stops it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import cast

from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing
from ..values import Json, into
from .constraints import KIND_OF_KEYWORD, KINDS, NUMERIC
from .definitions import DEPTH_MAX, Documents, as_mapping, placed_schemas, unescaped_name
from .show import value_text

SUGGESTIONS_MAX = 20
"""Problems of one schema that get a nearest name: finding one costs time for every name."""

PARTS_MAX = 200
"""Schemas in one `allOf`: each is intersected with all before it."""

_ALONE = ("properties", "items", "prefixItems", "additionalProperties")
"""The keywords whose schemas alone say what their value is; a schema under another keyword may leave the kind to the schemas beside it."""


def schema_problems(
    schema: Mapping[str, Json], types: Mapping[str, Json]
) -> tuple[list[LocalProblem], list[LocalProblem]]:
    """Return the problems of a schema, and a warning for each of its schemas that constrains one kind of value and has no `type`.

    Args:
        schema: Any JSON.
        types: Schemas for `#/types/Name`.
    """
    walk = _Walk(Documents(schema, types))
    walk.look(cast("Json", schema), "", DEPTH_MAX, alone=True)
    return walk.problems, walk.warnings


class _Walk:
    """One walk over a schema. It does not follow references, so its depth is that of the text."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.problems: list[LocalProblem] = []
        self.warnings: list[LocalProblem] = []

    def look(self, schema: Json, path: str, room: int, *, alone: bool) -> None:
        """Note what is wrong with a schema and the schemas in it.

        Args:
            schema: What stands at `path`.
            path: Its place in the root schema.
            room: Levels that are still looked at.
            alone: Whether no other schema constrains the same value.
        """
        if isinstance(schema, bool):
            return
        known = as_mapping(schema)
        if known is None:
            message = f"expected a JSON Schema, found {value_text(schema)}"
            self.problem("bad-shape", path, message, _for_no_schema(schema))
            return
        if room <= 0:
            message = f"expected at most {DEPTH_MAX} schemas inside one another, found more"
            self.problem("limit-exceeded", path, message, "name parts of it in 'types'")
            return
        # A faulty keyword does not end the walk: all problems of a schema are reported in one check.
        for key, expected, found in _misshapen(known):
            self.problem("bad-shape", into(path, key), f"expected {expected}, found {found}")
        self.type(known, path)
        self.reference(known, path)
        every = known.get("allOf")
        if isinstance(every, list) and len(every) > PARTS_MAX:
            message = f"expected at most {PARTS_MAX} schemas in one 'allOf', found {len(every)}"
            self.problem("limit-exceeded", into(path, "allOf"), message, "write them as one schema")
        # `{"minLength": 1}` also accepts 5 and null. Under `allOf`, `not` or `if` that is common and meant; where nothing else constrains the value, it mostly is not.
        if alone and not _says_kind(known):
            self.warn(known, path)
        for parts, inner in placed_schemas(known):
            place = path
            for part in parts:
                place = into(place, part)
            self.look(inner, place, room - 1, alone=parts[0] in _ALONE)

    def type(self, schema: Mapping[str, Json], path: str) -> None:
        """Note a `type` that is no kind of JSON Schema."""
        given = schema.get("type")
        every = given if isinstance(given, list) else [given]
        if "type" not in schema or (every and all(kind in KINDS for kind in every)):
            return
        wrong = next((kind for kind in every if kind not in KINDS), None)
        message = f"expected one of {', '.join(KINDS)}, found {value_text(wrong)}"
        self.problem("bad-shape", into(path, "type"), message, _for_no_kind(wrong))

    def reference(self, schema: Mapping[str, Json], path: str) -> None:
        """Note a reference that leads nowhere."""
        ref = schema.get("$ref")
        if not isinstance(ref, str) or self.documents.place(ref, "") is not None:
            return
        known = list(self.documents.types)
        name = unescaped_name(ref)
        hint = ""
        if name in self.documents.types:
            hint = f"write '#/types/{name}'"
        elif len(self.problems) < SUGGESTIONS_MAX:
            hint = did_you_mean(name, known, "define it in the plan's 'types'")
        message = f"expected the name of a type ({listing(known)}), found '{ref[:80]}'"
        self.problem("unknown-type", path, message, hint)

    def warn(self, schema: Mapping[str, Json], path: str) -> None:
        """Note a keyword of one kind beside which no `type` excludes the other kinds: JSON Schema then lets all of these pass."""
        key = next((key for key in schema if key in KIND_OF_KEYWORD), None)
        if key is not None:
            kind = KIND_OF_KEYWORD[key]
            message = f"expected 'type' beside '{key}', found none: a value that is no {kind} fits too"
            self.warnings.append(
                LocalProblem("unchecked-type", message, f'write "type": "{kind}" beside it', path)
            )

    def problem(self, code: str, path: str, message: str, hint: str = "") -> None:
        self.problems.append(LocalProblem(code, message, hint, path))


def _says_kind(schema: Mapping[str, Json]) -> bool:
    """Whether the text of a schema says what kinds of values it admits; the schema that a reference names counts as saying it."""
    if any(key in schema for key in ("type", "const", "enum", "$ref")):
        return True
    every = _mappings(schema.get("allOf"))
    unions = [_mappings(schema.get(key)) for key in ("anyOf", "oneOf")]
    return any(map(_says_kind, every)) or any(
        branches and all(map(_says_kind, branches)) for branches in unions
    )


def _mappings(schemas: Json) -> list[Mapping[str, Json]]:
    """Return a list of schemas; a boolean, which says no kind, counts as the empty schema."""
    return [as_mapping(one) or {} for one in schemas] if isinstance(schemas, list) else []


# --- Keywords and what each may hold


_LENGTHS = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
)

_SLIPS: Mapping[str, str] = MappingProxyType(
    {
        "str": "string",
        "text": "string",
        "int": "integer",
        "float": "number",
        "double": "number",
        "bool": "boolean",
        "list": "array",
        "dict": "object",
        "map": "object",
        "none": "null",
        "None": "null",
        "any": "",
    }
)
"""Names of types in other languages, and JSON Schema's own; for `any` no `type` at all."""


def _misshapen(schema: Mapping[str, Json]) -> Iterator[tuple[str, str, str]]:
    """Yield key, expectation and finding for each keyword that holds what it cannot."""
    for key, value in schema.items():
        rule = _RULES.get(key)
        if rule is not None:
            expected, holds = rule
            if not holds(value):
                yield key, expected, value_text(value)


def _for_no_schema(value: Json) -> str:
    """Return the hint for what is no schema: a kind's name alone, as in other languages."""
    if isinstance(value, str):
        kind = value if value in KINDS else _SLIPS.get(value)
        return f'write {{"type": "{kind}"}}' if kind else ""
    return "for any value write {}" if value is None else ""


def _for_no_kind(wrong: Json) -> str:
    """Return the hint for what is no kind."""
    if not isinstance(wrong, str):
        return ""
    if wrong in _SLIPS:
        return f"write '{_SLIPS[wrong]}'" if _SLIPS[wrong] else "leave 'type' out for any value"
    return did_you_mean(wrong, KINDS)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Json) -> bool:
    return _is_number(value) and cast("float", value) > 0


def _is_length(value: Json) -> bool:
    return _is_number(value) and cast("float", value) >= 0 and float(cast("float", value)).is_integer()


def _is_object(value: Json) -> bool:
    return isinstance(value, Mapping)


def _is_schema(value: Json) -> bool:
    return isinstance(value, Mapping | bool)


def _are_names(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_names_by_name(value: Json) -> bool:
    return isinstance(value, Mapping) and all(map(_are_names, value.values()))


def _are_schemas(value: Json) -> bool:
    return isinstance(value, list) and bool(value)


def is_pattern(value: Json) -> bool:
    """Whether a value is a regular expression that the validator can compile."""
    if not isinstance(value, str):
        return False
    # Python's `re` would accept other expressions than the validator, which has the last word at run time.
    from jsonschema_rs import Draft202012Validator  # noqa: PLC0415  # only for schemas with patterns

    try:
        Draft202012Validator({"pattern": value})
    except ValueError:
        return False
    return True


def _are_patterns(value: Json) -> bool:
    return isinstance(value, Mapping) and all(map(is_pattern, value))


_Rule = tuple[str, Callable[[Json], bool]]

# JSON Schema has a schema of schemas, but that refuses what does no harm (a `title` that is no text, a name twice in `required`), and plans with such schemas
# run today.
_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "$ref": ("a reference such as '#/types/Name'", lambda value: isinstance(value, str)),
        "properties": ("an object with a schema for each field", _is_object),
        "patternProperties": ("an object with a schema for each regular expression", _are_patterns),
        "dependentSchemas": ("an object with a schema for each field", _is_object),
        "dependentRequired": ("an object with a list of names for each field", _are_names_by_name),
        "required": ("a list of field names", _are_names),
        "enum": ("a list of values", lambda value: isinstance(value, list)),
        "pattern": ("a regular expression", is_pattern),
        "multipleOf": ("a number above 0", _is_positive),
        "uniqueItems": ("true or false", lambda value: isinstance(value, bool)),
        "nullable": ("true or false", lambda value: isinstance(value, bool)),
        "items": ("a schema", lambda value: isinstance(value, Mapping | bool | list)),
        **{key: ("a number", _is_number) for key in NUMERIC if key != "multipleOf"},
        **dict.fromkeys(_LENGTHS, ("a whole number from 0", _is_length)),
        **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), ("a list of schemas", _are_schemas)),
        **dict.fromkeys(
            ("additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
            ("a schema", _is_schema),
        ),
    }
)
