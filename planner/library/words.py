"""Words of a task read as values of an input's schema: `three hundred` is none, `300`, `yes` and `Rome, Oslo and Bonn` are.

Strict about kinds and generous about spelling: case, surrounding quotes and thousands separators do not matter. Whether a
value fits the whole schema is the plan's check of its inputs to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...plans.values import INTEGER_MAX, Json, NotJson, parse

_INTEGER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,19})")
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?|[+-]?\.\d+")
_BETWEEN = re.compile(r"\s*[,;]\s*(?:(?:and|or)\s+)?|\s+(?:and|or|&)\s+", re.IGNORECASE)
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_QUOTES = ('""', "''", "``", "“”", "‘’", "«»")  # noqa: RUF001  # the quotes that people type
_REFERENCES_MAX = 16


class NoFit(ValueError):  # noqa: N818  # reads as what it says
    """The words stand for no value of the schema."""


def read_words(text: str, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    """Return the value that words stand for.

    Args:
        text: The words.
        schema: JSON Schema of the input.
        types: The plan's `types`, to which `$ref` may point.

    Raises:
        NoFit: There is none.
    """
    words = unquoted(text.strip())
    if not words:
        raise NoFit
    schema = _followed(schema, types)
    match schema:
        case {"const": wanted}:
            return _chosen(words, [wanted])
        case {"enum": list(options)}:
            return _chosen(words, options)
        case {"anyOf": list(branches)} | {"oneOf": list(branches)}:
            return _first(words, branches, types)
        case {"type": list(kinds)}:
            return _first(words, [{**schema, "type": kind} for kind in kinds], types)
        case _:
            return _of_kind(words, schema, types)


def unquoted(text: str) -> str:
    """Return text without a pair of quotes around all of it."""
    for pair in _QUOTES:
        if len(text) >= 2 and text[0] + text[-1] == pair and pair[0] not in text[1:-1]:
            return text[1:-1].strip()
    return text


def is_free(schema: Mapping[str, Json], types: Mapping[str, Json]) -> bool:
    """Whether any words fit: such a hole says less about a task than an integer's does."""
    schema = _followed(schema, types)
    return (
        schema.get("type", "string") == "string" and not {"enum", "const", "anyOf", "oneOf"} & schema.keys()
    )


def is_choice(schema: Mapping[str, Json], types: Mapping[str, Json]) -> bool:
    """Whether only listed values fit."""
    return not {"enum", "const"}.isdisjoint(_followed(schema, types))


def _of_kind(words: str, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    match schema.get("type", "string"):
        case "string":
            return words
        case "integer" if _INTEGER.fullmatch(words):
            return _integer(words)
        case "number" if _NUMBER.fullmatch(words):
            return _integer(words) if _INTEGER.fullmatch(words) else float(words.replace(",", ""))
        case "boolean" if words.lower() in (*_TRUE, *_FALSE):
            return words.lower() in _TRUE
        case "array":
            return _items(words, schema, types)
        case "object" if words.startswith("{"):
            return _json(words)
        case _:
            raise NoFit


def _integer(words: str) -> int:
    number = int(words.replace(",", ""))
    if abs(number) > INTEGER_MAX:
        raise NoFit
    return number


def _items(words: str, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    if words.startswith("["):
        return _json(words)
    items = schema.get("items")
    item: Mapping[str, Json] = items if isinstance(items, dict) else {"type": "string"}
    if _followed(item, types).get("type", "string") in ("array", "object"):
        raise NoFit
    return [read_words(part, item, types) for part in _BETWEEN.split(words)]


def _json(words: str) -> Json:
    try:
        return parse(words)
    except NotJson as fault:
        raise NoFit from fault


def _chosen(words: str, options: list[Json]) -> Json:
    """Return the option that the words name, whatever their case."""
    for option in options:
        spelled = (
            option
            if isinstance(option, str)
            else str(option).lower()
            if isinstance(option, bool)
            else f"{option}"
        )
        if spelled.casefold() == words.casefold():
            return option
    raise NoFit


def _first(words: str, branches: list[Json], types: Mapping[str, Json]) -> Json:
    """Return the value in the first branch that fits; text comes last, since everything is text."""
    schemas = [branch for branch in branches if isinstance(branch, dict)]
    for schema in sorted(schemas, key=lambda each: is_free(each, types)):
        try:
            return read_words(words, schema, types)
        except NoFit:
            continue
    raise NoFit


def _followed(schema: Mapping[str, Json], types: Mapping[str, Json]) -> Mapping[str, Json]:
    for _ in range(_REFERENCES_MAX):
        match schema.get("$ref"):
            case str(ref) if isinstance(target := types.get(ref.removeprefix("#/types/")), dict):
                schema = target
            case _:
                break
    return schema
