"""Types as text for people (`integer`, `list of text`, `{title, link}`, `text or null`), and as JSON Schema for reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

from ..values import Json, NotJson, canonical
from .constraints import as_schema, repeated_by
from .definitions import escaped
from .types import (
    NEVER,
    NULL,
    UNKNOWN,
    Constraints,
    ListType,
    Named,
    Never,
    ObjectType,
    Scalar,
    Type,
    Union,
    Unknown,
)

FIELDS_SHOWN_MAX = 8
VALUES_SHOWN_MAX = 6
MEMBERS_SHOWN_MAX = 5
NESTING_SHOWN_MAX = 3
CONSTRAINTS_SHOWN_MAX = 80  # characters: a pattern may be long
VALUE_SHOWN_MAX = 60  # characters of a found value: enough to recognise it
TEXT_SHOWN_MAX = 40  # characters of a known text: enough to recognise it

CONSTRAINT_WORDS: Mapping[str, str] = MappingProxyType(
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

_KINDS = {
    **{kind: kind for kind in ("null", "boolean", "integer", "number", "date", "datetime", "timedelta")},
    "string": "text",
}


def type_text(of: Type) -> str:
    """Return a type as short text."""
    return _shown(of, NESTING_SHOWN_MAX)


def _shown(of: Type, room: int) -> str:  # noqa: PLR0911  # one case, one line
    match of:
        case Unknown():
            return "a value with conditions" if of.constraints else "a value of unknown type"
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
        return " ".join([_KINDS[of.kind], *([_constraints(of.constraints)] if of.constraints else [])])
    texts = [_value(value) for value in of.only[:VALUES_SHOWN_MAX]]
    if len(of.only) > VALUES_SHOWN_MAX:
        texts.append("..")
    return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


def value_text(value: object) -> str:
    """Return a value as it stands in a plan, cut short."""
    try:
        text = canonical(value).decode()
    except NotJson:
        text = repr(value)
    return text if len(text) <= VALUE_SHOWN_MAX else f"{text[: VALUE_SHOWN_MAX - 2]}.."


def bounded(words: str, bound: object) -> str:
    """Return words with their bound, in the singular for one."""
    if isinstance(bound, float) and bound.is_integer():  # the validator's own spelling of 0
        bound = int(bound)
    return (words.removesuffix("s") if bound == 1 else words).format(bound)


def _constraints(demanded: Constraints) -> str:
    """Return constraints in words; where one has none of its own, only that there are some."""
    told: list[str] = []
    for one in demanded:
        for keyword, bound in cast("dict[str, object]", json.loads(one)).items():
            if keyword not in CONSTRAINT_WORDS:
                return "with conditions"
            told.append(bounded(CONSTRAINT_WORDS[keyword], bound))
    text = " and ".join(told)
    return text if len(text) <= CONSTRAINTS_SHOWN_MAX else f"{text[: CONSTRAINTS_SHOWN_MAX - 2]}.."


def _value(value: object) -> str:
    if isinstance(value, str) and len(value) > TEXT_SHOWN_MAX:
        value = value[: TEXT_SHOWN_MAX - 2] + ".."
    return json.dumps(value, ensure_ascii=False)


def _item(item: Type, room: int) -> str:
    text = _shown(item, room)
    return f"({text})" if isinstance(item, Union) else text


def _union(alternatives: tuple[Type, ...], room: int) -> str:
    others = [member for member in alternatives if member != NULL]
    # Different members may read alike, such as two objects with the same fields; null stands last, as in speech.
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


# --- Types as JSON Schema
#
# A closed object is written with its `properties` alone, as plans write it; only an object without fields needs `additionalProperties` to be closed. Named types
# become `$defs`.


def schema_of(of: Type) -> dict[str, Json]:
    """Return the JSON Schema of a type, self-contained: recursive types stand in `$defs`."""
    writing = _Writing()
    made = writing.schema(of)
    definitions = writing.definitions()
    return {**made, "$defs": cast("Json", definitions)} if definitions else made


class _Writing:
    """One schema in the making, with the names that it rests on."""

    def __init__(self) -> None:
        self.names: dict[Named, str] = {}
        self.waiting: list[Named] = []

    def definitions(self) -> dict[str, dict[str, Json]]:
        """Return the definitions of all names met, also of those met on the way."""
        made: dict[str, dict[str, Json]] = {}
        while self.waiting:
            named = self.waiting.pop(0)
            made[self.names[named]] = self.schema(named.resolved)
        return made

    def schema(self, of: Type) -> dict[str, Json]:  # noqa: PLR0911  # one case, one line
        match of:
            case Unknown():
                return as_schema(of.constraints)
            case Never():
                return {"not": {}}
            case Scalar():
                return {"type": of.kind, **_values(of), **as_schema(of.constraints)}
            case ListType(item=item):
                return {"type": "array", "items": self.schema(item), **as_schema(of.constraints)}
            case ObjectType():
                return self.object(of)
            case Union():
                return self.union(of)
            case Named():
                return {"$ref": f"#/$defs/{escaped(self.name(of))}"}

    def object(self, of: ObjectType) -> dict[str, Json]:
        """Return the schema of an object: that which it was read from, where only that says all of it."""
        # A constraint that repeats the complete schema says more than the fields, in words that the author knows.
        said = [one for one in map(repeated_by, of.constraints) if one is not None]
        if said:
            return said[0]
        made: dict[str, Json] = {"type": "object"}
        if of.fields:
            made["properties"] = {name: self.schema(known.type) for name, known in of.fields.items()}
        if required := [name for name, known in of.fields.items() if known.required]:
            made["required"] = cast("Json", required)
        if of.extra is not None and (of.fields or of.extra != UNKNOWN):
            made["additionalProperties"] = True if of.extra == UNKNOWN else self.schema(of.extra)
        elif of.extra is None and not of.fields:
            made["additionalProperties"] = False
        return {**made, **as_schema(of.constraints)}

    def union(self, of: Union) -> dict[str, Json]:
        plain = [member for member in of.members if isinstance(member, Scalar) and member.only is None]
        if len(plain) == len(of.members) and not any(member.constraints for member in plain):
            return {"type": [member.kind for member in plain]}
        # Types that differ only in constraints known by digest are written alike; one branch says it.
        every = {canonical(made): made for made in map(self.schema, of.members)}
        return {"anyOf": list(every.values())} if len(every) > 1 else next(iter(every.values()))

    def name(self, named: Named) -> str:
        if named not in self.names:
            # Names are unique within one schema; two schemas may use one name for different types.
            taken = set(self.names.values())
            name, number = named.name, 2
            while name in taken:
                name, number = f"{named.name}_{number}", number + 1
            self.names[named] = name
            self.waiting.append(named)
        return self.names[named]


def _values(of: Scalar) -> Mapping[str, Json]:
    if of.only is None:
        return {}
    return {"const": of.only[0]} if len(of.only) == 1 else {"enum": list(of.only)}
