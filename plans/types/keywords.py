"""The words of JSON Schema that plans read: which kind of value each belongs to, and what each may hold.

`format`, titles and examples say nothing about which values fit (JSON Schema 2020-12 takes `format` for a remark), so they
are not constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from ..nearest import did_you_mean
from ..values import Json

KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")

SLIPS: Mapping[str, str] = MappingProxyType(
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

_NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
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

_Group = tuple[str, ...]

_OF_NUMBERS: tuple[_Group, ...] = tuple((key,) for key in _NUMERIC)
_OF_TUPLES = ("prefixItems", "items", "additionalItems")

GROUPS: Mapping[str, tuple[_Group, ...]] = MappingProxyType(
    {
        "string": (("pattern",), ("minLength",), ("maxLength",)),
        "integer": _OF_NUMBERS,
        "number": _OF_NUMBERS,
        "array": (
            _OF_TUPLES,
            ("contains", "minContains", "maxContains"),
            ("minItems",),
            ("maxItems",),
            ("uniqueItems",),
        ),
        "object": (
            ("patternProperties", "additionalProperties"),
            ("minProperties",),
            ("maxProperties",),
            ("propertyNames",),
            ("dependentRequired",),
            ("dependentSchemas",),
        ),
        "boolean": (),
        "null": (),
    }
)
"""By kind, what narrows it further than a type can say: keywords that demand something together, the one that does it first."""

_OF_ANY_KIND: tuple[_Group, ...] = (("not",), ("if", "then", "else"))
_OF_UNTYPED: tuple[_Group, ...] = (
    *GROUPS["string"],
    *GROUPS["number"],
    *GROUPS["array"],
    *GROUPS["object"],
    ("required",),
    ("additionalProperties", "patternProperties"),
)

KIND_OF_KEYWORD: Mapping[str, str] = MappingProxyType(
    {
        **{key: kind for kind, groups in GROUPS.items() for group in groups for key in group},
        "properties": "object",
        "required": "object",
    }
)
"""The kind of values that a keyword is about; what is not here is about values of every kind."""


def demands(schema: Mapping[str, Json], kind: str | None) -> Iterator[dict[str, Json]]:
    """Yield what a schema demands of values of one kind beyond their type; `None`: of all kinds, if it says no type."""
    for group in (*(_OF_UNTYPED if kind is None else GROUPS[kind]), *_OF_ANY_KIND):
        if group == _OF_TUPLES:
            starts = "prefixItems" in schema or isinstance(schema.get("items"), list)
        else:
            # Beside `properties`, the schemas of other fields mean nothing alone: `read.py` then demands the whole schema.
            starts = group[0] in schema and not (group[0] == "patternProperties" and "properties" in schema)
        if starts and not _says_nothing(group[0], schema):
            yield {key: schema[key] for key in group if key in schema}


def _says_nothing(key: str, schema: Mapping[str, Json]) -> bool:
    value = schema.get(key)
    if key == "uniqueItems":
        return value is not True
    if key in ("required", "additionalProperties"):
        return value is True or value == []
    return key.startswith("min") and value == 0 and key != "minimum"


def kinds_of(schema: Mapping[str, Json]) -> frozenset[str] | None:
    """Return the kinds that a schema's own `type`, `const` and `enum` admit; `None`: the schema has none of these."""
    given = schema.get("type")
    every = given if isinstance(given, list) else [given]
    kinds = frozenset(kind for kind in every if isinstance(kind, str) and kind in KINDS)
    if kinds:
        return kinds
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    return frozenset(map(_json_kind, options)) if isinstance(options, list) else None


def _json_kind(value: Json) -> str:
    names: dict[type, str] = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        list: "array",
        dict: "object",
    }
    return names.get(type(value), "null")


def misshapen(schema: Mapping[str, Json]) -> Iterator[tuple[str, str, str]]:
    """Yield key, expectation and finding for each keyword that holds what it cannot."""
    for key, value in schema.items():
        rule = _RULES.get(key)
        if rule is not None:
            expected, holds = rule
            if not holds(value):
                yield key, expected, _kind_of(value)


def found_value(value: Json) -> str:
    """Return what stands where a schema is wanted, for a message."""
    match value:
        case None:
            return "null"
        case str():
            return f"'{value[:40]}'"
        case list():
            return "a list"
        case _:
            return str(value)[:40]


def for_no_schema(value: Json) -> str:
    """Return the hint for what is no schema: a kind's name alone, as in other languages."""
    if isinstance(value, str):
        kind = value if value in KINDS else SLIPS.get(value)
        return f'write {{"type": "{kind}"}}' if kind else ""
    return "for any value write {}" if value is None else ""


def for_no_kind(wrong: Json) -> str:
    """Return the hint for what is no kind."""
    if not isinstance(wrong, str):
        return ""
    if wrong in SLIPS:
        return f"write '{SLIPS[wrong]}'" if SLIPS[wrong] else "leave 'type' out for any value"
    return did_you_mean(wrong, KINDS)


def _kind_of(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return f"'{value[:40]}'"
        case list():
            return "a list"
        case _:
            return "an object"


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_length(value: Json) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value >= 0
        and float(value).is_integer()
    )


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
    """Whether a value is a regular expression that can be compiled, as it is where a text is held against it."""
    if not isinstance(value, str):
        return False
    from jsonschema_rs import Draft202012Validator  # noqa: PLC0415  # only for schemas with patterns

    try:
        Draft202012Validator({"pattern": value})
    except ValueError:
        return False
    return True


def _are_patterns(value: Json) -> bool:
    return isinstance(value, Mapping) and all(map(is_pattern, value))


_Rule = tuple[str, Callable[[Json], bool]]

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
        **{key: ("a number", _is_number) for key in _NUMERIC if key != "multipleOf"},
        **dict.fromkeys(_LENGTHS, ("a whole number from 0", _is_length)),
        **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), ("a list of schemas", _are_schemas)),
        **dict.fromkeys(
            ("additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
            ("a schema", _is_schema),
        ),
    }
)
