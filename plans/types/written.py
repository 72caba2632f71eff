"""Types written as JSON Schema, such as a report gives them.

A closed object is written with its `properties` alone, as plans write it; only the object without any fields has to say that
there are no others. Names become `$defs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ..values import Json, canonical
from .beyond import as_schema, repeated_by
from .kinds import UNKNOWN, ListType, Named, Never, ObjectType, Scalar, Type, Union, Unknown


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
                return as_schema(of.beyond)
            case Never():
                return {"not": {}}
            case Scalar():
                return {"type": of.kind, **_values(of), **as_schema(of.beyond)}
            case ListType(item=item):
                return {"type": "array", "items": self.schema(item), **as_schema(of.beyond)}
            case ObjectType():
                return self.object(of)
            case Union():
                return self.union(of)
            case Named():
                return {"$ref": f"#/$defs/{_escaped(self.name(of))}"}

    def object(self, of: ObjectType) -> dict[str, Json]:
        """Return the schema of an object: that which it was read from, where only that says all of it."""
        said = [one for one in map(repeated_by, of.beyond) if one is not None]
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
        return {**made, **as_schema(of.beyond)}

    def union(self, of: Union) -> dict[str, Json]:
        plain = [member for member in of.members if isinstance(member, Scalar) and member.only is None]
        if len(plain) == len(of.members) and all(member.exact for member in plain):
            return {"type": [member.kind for member in plain]}
        every = {canonical(made): made for made in map(self.schema, of.members)}
        return {"anyOf": list(every.values())} if len(every) > 1 else next(iter(every.values()))

    def name(self, named: Named) -> str:
        if named not in self.names:
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


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
