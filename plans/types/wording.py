"""Types as people read them in messages: `integer`, `list of text`, `{title, link}`, `text or null`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from .kinds import NEVER, NULL, Conditions, ListType, Named, Never, ObjectType, Scalar, Type, Union, Unknown

FIELDS_SHOWN_MAX = 8
VALUES_SHOWN_MAX = 6
MEMBERS_SHOWN_MAX = 5
NESTING_SHOWN_MAX = 3
CONDITIONS_SHOWN_MAX = 80  # characters: a pattern may be long
TEXT_SHOWN_MAX = 40  # characters of a known text: enough to recognise it

CONDITIONS: Mapping[str, str] = MappingProxyType(
    {
        "minimum": "of at least {}",
        "maximum": "of at most {}",
        "exclusiveMinimum": "above {}",
        "exclusiveMaximum": "below {}",
        "minLength": "of at least {} characters",
        "maxLength": "of at most {} characters",
        "pattern": "that matches {}",
    }
)
"""What a schema demands of numbers and text, after the word for their kind, with the bound for `{}`."""

_KINDS = {"null": "null", "boolean": "boolean", "integer": "integer", "number": "number", "string": "text"}


def shown(of: Type) -> str:
    """Return a type as short text."""
    return _shown(of, NESTING_SHOWN_MAX)


def _shown(of: Type, room: int) -> str:  # noqa: PLR0911  # one case, one line
    match of:
        case Unknown():
            return "a value with conditions" if of.beyond else "a value of unknown type"
        case Never():
            return "no value"
        case Scalar():
            return _scalar(of)
        case Named(name=name):
            return name
        case Union(members=alternatives):
            return _union(alternatives, room)
        case ListType(item=item):
            if item == NEVER:
                return "an empty list"
            return f"list of {_item(item, room - 1)}" if room > 0 else "list"
        case ObjectType():
            return _object(of)


def _scalar(of: Scalar) -> str:
    if of.only is None:
        return " ".join([_KINDS[of.kind], *([_conditions(of.beyond)] if of.beyond else [])])
    texts = [_value(value) for value in of.only[:VALUES_SHOWN_MAX]]
    if len(of.only) > VALUES_SHOWN_MAX:
        texts.append("..")
    return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


def bounded(words: str, bound: object) -> str:
    """Return words with their bound, in the singular for one."""
    if isinstance(bound, float) and bound.is_integer():  # the validator's own spelling of 0
        bound = int(bound)
    return (words.removesuffix("s") if bound == 1 else words).format(bound)


def _conditions(demanded: Conditions) -> str:
    """Return conditions in words; where one has none of its own, only that there are some."""
    told: list[str] = []
    for one in demanded:
        for keyword, bound in cast("dict[str, object]", json.loads(one)).items():
            if keyword not in CONDITIONS:
                return "with conditions"
            told.append(bounded(CONDITIONS[keyword], bound))
    text = " and ".join(told)
    return text if len(text) <= CONDITIONS_SHOWN_MAX else f"{text[: CONDITIONS_SHOWN_MAX - 2]}.."


def _value(value: object) -> str:
    if isinstance(value, str) and len(value) > TEXT_SHOWN_MAX:
        value = value[: TEXT_SHOWN_MAX - 2] + ".."
    return json.dumps(value, ensure_ascii=False)


def _item(item: Type, room: int) -> str:
    text = _shown(item, room)
    return f"({text})" if isinstance(item, Union) else text


def _union(alternatives: tuple[Type, ...], room: int) -> str:
    others = [member for member in alternatives if member != NULL]
    texts = list(dict.fromkeys(_shown(member, room) for member in others))
    if len(texts) > MEMBERS_SHOWN_MAX:
        texts = [*texts[:MEMBERS_SHOWN_MAX], f"{len(texts) - MEMBERS_SHOWN_MAX} more"]
    if len(others) != len(alternatives):
        texts.append("null")
    return " or ".join(texts)


def _object(of: ObjectType) -> str:
    if not of.fields:
        return "an empty object" if of.extra is None else "object"
    names = [name if known.required else f"{name}?" for name, known in of.fields.items()]
    if len(names) > FIELDS_SHOWN_MAX:
        names = [*names[:FIELDS_SHOWN_MAX], f"{len(names) - FIELDS_SHOWN_MAX} more"]
    elif of.extra is not None:
        names.append("..")
    return "{" + ", ".join(names) + "}"
