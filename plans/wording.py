"""Types as people read them in messages: `integer`, `list of text`, `{title, link}`, `text or null`."""

from __future__ import annotations

import json

from .kinds import NEVER, NULL, ListType, Named, Never, ObjectType, Scalar, Type, Union, Unknown

FIELDS_SHOWN_MAX = 8
VALUES_SHOWN_MAX = 6
MEMBERS_SHOWN_MAX = 5
NESTING_SHOWN_MAX = 3
TEXT_SHOWN_MAX = 40  # characters of a known text: enough to recognise it

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
        return _KINDS[of.kind] if of.exact else f"{_KINDS[of.kind]} with conditions"
    texts = [_value(value) for value in of.only[:VALUES_SHOWN_MAX]]
    if len(of.only) > VALUES_SHOWN_MAX:
        texts.append("..")
    return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


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
