"""Schemas of an OpenAPI document as self-contained JSON Schemas (2020-12), for what is sent and for what comes back.

OpenAPI 3.0 has a dialect of its own (`nullable`, `exclusiveMinimum: true`, `example`); 3.1 has JSON Schema. Both become plain JSON Schema:

- references become `#/$defs/..`, recursive ones too; a definition is converted once for all operations of a document;
- a property that is `readOnly` is left out of what is sent, and one that is `writeOnly` is not expected in what comes;
- `oneOf` becomes `anyOf`: alternatives of real documents overlap, and a value that fits two of them is no mistake;
- prose is cut to one short line; examples, discriminators and extensions are left out.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Final, Literal, TypeAlias, cast

import jsonschema_rs

from ...plans.types.definitions import SINGLE, refs_in, rewritten, same_value_schemas
from ...plans.values import INTEGER_MAX, INTEGER_MIN, Json, canonical, digest
from ..provider import plain
from .document import Document, Object, as_object

Way: TypeAlias = Literal["sent", "received"]
Mark: TypeAlias = Literal["readOnly", "writeOnly"]

PROSE_CHARACTERS_MAX: Final = 300  # of the description of a parameter or a field
SCHEMA_BYTES_MAX: Final = 1024 * 1024  # of one tool: the largest objects of public documents have half of it
RESULT_BYTES_MAX: Final = 64 * 1024  # of the definitions of a result; what does not fit may be anything
DEFINITIONS: Final = "#/$defs/"

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", *_COUNTS)
_KEPT: Final = frozenset(
    {
        *("$ref", "type", "enum", "const", "format", "pattern", "default", "title", "description"),
        *("items", "prefixItems", "uniqueItems", "contains", "minContains", "maxContains"),
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "required"),
        *("dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems"),
        *("allOf", "anyOf", "not", "if", "then", "else", "readOnly", "writeOnly", "deprecated"),
        *("contentEncoding", "contentMediaType"),
        *_NUMBERS,
    }
)
_BESIDE: Final = ("title", "description", "default", "readOnly", "writeOnly", "deprecated")


@dataclass(frozen=True, slots=True)
class _Known:
    """A definition, converted.

    Attributes:
        refs: The definitions that it names.
        same: Those of them that are about the same value, not about a part of it.
        size: Bytes of its canonical form.
    """

    schema: dict[str, Json]
    refs: tuple[str, ...]
    same: tuple[str, ...]
    size: int
    digest: str


@dataclass(slots=True)
class Schemas:
    """Converts the schemas of one document."""

    document: Document
    _known: dict[tuple[str, Way], _Known] = field(default_factory=dict[tuple[str, Way], _Known])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _refs: dict[str, str] = field(default_factory=dict[str, str])

    def converted(self, schema: Json, way: Way) -> dict[str, Json]:
        """Return a schema as JSON Schema, whose references name definitions that `definitions` returns.

        Raises:
            ConfigError: A reference leads to nothing.
        """
        made = rewritten(schema, lambda one: self._plain(one, way))
        if made is False:
            return {"not": {}}
        return made if isinstance(made, dict) else {}

    def definitions(self, schema: Json, way: Way) -> dict[str, Json]:
        """Return the definitions that a converted schema rests on, by name."""
        found = self._reached(schema, way)
        kept, size = dict[str, _Known](), 0
        for name, known in found.items():
            # The nearest first. A result of Stripe rests on 500 definitions, of which a plan uses those near its root; what is farther may be anything.
            if way == "sent" or size + known.size <= RESULT_BYTES_MAX:
                kept[name], size = known, size + known.size
        named = {ref.removeprefix(DEFINITIONS) for known in kept.values() for ref in known.refs}
        named |= {ref.removeprefix(DEFINITIONS) for ref in refs_in(schema)}
        made: dict[str, Json] = {name: kept[name].schema if name in kept else {} for name in sorted(named)}
        # A definition that has to hold for a value so that it holds for the same value (a parent that lists its children, which name the
        # parent) would keep a validator busy for ever. There it says nothing.
        edges: dict[str, Sequence[str]] = {
            name: kept[name].same if name in kept else () for name in sorted(named)
        }
        while (turn := _circle(edges)) is not None:
            made[turn], edges[turn] = {}, ()
        return made

    def self_contained(self, schema: dict[str, Json], way: Way) -> dict[str, Json]:
        """Return a converted schema with the definitions that it rests on."""
        known = self.definitions(schema, way)
        return {**schema, "$defs": known} if known else schema

    def pin(self, schema: Json, way: Way) -> str:
        """Return the digest of the definitions that a converted schema rests on."""
        found = self._reached(schema, way)
        return digest(canonical({name: found[name].digest for name in sorted(found)}))

    def says(self) -> dict[str, dict[str, Json]]:
        """Return all definitions that were read, by a name that says what they are for: operations have only their digest."""
        # One definition may be part of hundreds of operations.
        return {f"schema {name} ({way})": known.schema for (name, way), known in self._known.items()}

    def size(self, schema: Json, way: Way) -> int:
        """Return the bytes of a converted schema with its definitions. Raises: NotJson: it holds what is no JSON."""
        return len(canonical(schema)) + sum(known.size for known in self._reached(schema, way).values())

    def resolved(self, schema: Json) -> Object:
        """Return a schema of the document, or the one that its reference leads to; empty where it is `true` or `false`."""
        if not isinstance(schema, Mapping):
            return {}
        return self.document.follow(schema, "a schema") if "$ref" in schema else schema

    def _reached(self, schema: Json, way: Way) -> dict[str, _Known]:
        """Return the definitions that a converted schema rests on, the nearest first."""
        found: dict[str, _Known] = {}
        waiting = deque(refs_in(schema))
        while waiting:
            name = waiting.popleft().removeprefix(DEFINITIONS)
            if name in found:
                continue
            key = (name, way)
            if key not in self._known:
                self._known[key] = self._read(self._refs[name], way)
            found[name] = self._known[key]
            waiting.extend(self._known[key].refs)
        return found

    def _read(self, ref: str, way: Way) -> _Known:
        schema = self.converted(self.document.at(ref), way)
        data = canonical(schema)
        same = refs_in(schema, same_value_schemas)
        return _Known(
            schema,
            tuple(dict.fromkeys(refs_in(schema))),
            tuple(sorted({each.removeprefix(DEFINITIONS) for each in same})),
            len(data),
            digest(data),
        )

    def _definition(self, ref: str) -> str:
        """Return the reference to a definition, whose name is made from the last part of its pointer."""
        if ref not in self._names:
            self.document.follow({"$ref": ref}, f"the reference {plain(ref, 200)!r}")  # it leads somewhere
            last = ref.rpartition("/")[2]
            name = re.sub(r"[^A-Za-z0-9_.-]", "_", last)[:64] or "Self"
            # The name depends on the reference alone: it is pinned, so the order in which operations are read must not matter.
            if not (ref.startswith("#/components/schemas/") and name == last):
                name = f"{name}_{digest(ref.encode())[7:15]}"
            self._names[ref] = name
            self._refs[name] = ref
        return DEFINITIONS + self._names[ref]

    def _plain(self, one: dict[str, Json], way: Way) -> dict[str, Json]:
        """Return one schema, whose inner schemas are plain already, without OpenAPI's own words."""
        ref = one.get("$ref")
        if isinstance(ref, str):
            made: dict[str, Json] = {"$ref": self._definition(ref)}
            if self.document.is_3_0:
                return made  # what stands beside a reference does not count there
            one = {**one, **made}
        _join_alternatives(one)
        _spell_bounds(one)
        _leave_out_broken(one)
        made = {
            key: _in_range(value) if key in ("default", "enum", "const") else value
            for key, value in one.items()
            if key in _KEPT
        }
        _spell_type(made, is_nullable=one.get("nullable") is True)
        for key in ("title", "description"):
            if key in made:
                said = made[key]
                made[key] = plain(said, PROSE_CHARACTERS_MAX) if isinstance(said, str) else ""
                if not made[key]:
                    del made[key]
        _spell_properties(self, made, way)
        parts = _list(made.get("allOf"))
        if len(parts) == 1 and isinstance(parts[0], dict) and not made.keys() - {"allOf", *_BESIDE}:
            # How documents write something beside a reference: as the reference it is a type that the check can read.
            del made["allOf"]
            made = {**parts[0], **made}
        if one.get("nullable") is True and not ("type" in made or "enum" in made) and len(made) > 0:
            prose: dict[str, Json] = {key: made.pop(key) for key in ("title", "description") if key in made}
            return {**prose, "anyOf": [made, {"type": "null"}]}
        return made

    def is_marked(self, schema: Json, mark: Mark) -> bool:
        """Whether a schema, or the one that it refers to, is marked."""
        if not isinstance(schema, Mapping):
            return False
        ref = self._refs.get(str(schema.get("$ref")).removeprefix(DEFINITIONS))
        return (
            schema.get(mark) is True
            or (ref is not None and as_object(self.document.at(ref)).get(mark) is True)
            or any(self.is_marked(part, mark) for part in _list(schema.get("allOf")))
        )


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _join_alternatives(one: dict[str, Json]) -> None:
    """Make `oneOf` `anyOf`; where a schema has both, both have to hold."""
    alternatives = _list(one.pop("oneOf", None))
    if not alternatives:
        return
    if "anyOf" in one:
        one["allOf"] = [*_list(one.get("allOf")), {"anyOf": alternatives}]
    else:
        one["anyOf"] = alternatives


def _spell_bounds(one: dict[str, Json]) -> None:
    """Write bounds as JSON Schema does, and leave out those that are none."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        # 3.0 has a flag beside the bound.
        if isinstance(one.get(exclusive), bool) and one.pop(exclusive) and bound in one:
            one[exclusive] = one.pop(bound)
    for key in _NUMBERS:
        if key in one and (number := _number(one[key], is_count=key in _COUNTS)) is not None:
            one[key] = number
        else:
            one.pop(key, None)


def _number(value: Json, *, is_count: bool) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        return int(value) if is_count and value.is_integer() else value
    return value if INTEGER_MIN <= value <= INTEGER_MAX else float(value)


def _in_range(value: Json) -> Json:
    """Return data of a schema with integers past 64 bits as numbers, which is how most readers of JSON take them."""
    if isinstance(value, dict):
        return {name: _in_range(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_in_range(each) for each in value]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return _number(value, is_count=False) if is_integer else value


def _leave_out_broken(one: dict[str, Json]) -> None:
    """Leave out the parts that are no JSON Schema: documents of others have them, and servers do not mind."""
    for key in ("allOf", "anyOf", "prefixItems", "enum"):
        if key in one and not _list(one[key]):
            del one[key]
    if isinstance(one.get("items"), list):  # a draft before 2020-12
        one["prefixItems"] = one.pop("items")
    for key in SINGLE:
        if key in one and not isinstance(one[key], dict | bool):
            del one[key]
    pattern = one.get("pattern")
    if pattern is not None and not (isinstance(pattern, str) and _is_pattern(pattern)):
        del one["pattern"]


@lru_cache(maxsize=1024)
def _is_pattern(text: str) -> bool:
    """Whether a pattern can be read here: some are of another language's regular expressions."""
    try:
        jsonschema_rs.Draft202012Validator({"pattern": text})
    except (ValueError, jsonschema_rs.ReferencingError):
        return False
    return True


def _spell_type(made: dict[str, Json], *, is_nullable: bool) -> None:
    kinds = made.get("type")
    given = kinds if isinstance(kinds, list) else [kinds]
    known = list(dict.fromkeys(kind for kind in given if isinstance(kind, str) and kind in _TYPES))
    if is_nullable and known and "null" not in known:
        known.append("null")
    if known:
        made["type"] = known[0] if len(known) == 1 else cast("Json", known)
    else:
        made.pop("type", None)
    if isinstance(options := made.get("enum"), list):
        if is_nullable and None not in options:
            options = [*options, None]
        made["enum"] = list({repr((type(each), each)): each for each in options}.values())


def _spell_properties(schemas: Schemas, made: dict[str, Json], way: Way) -> None:
    properties = made.get("properties")
    if not isinstance(properties, dict):
        made.pop("properties", None)
        properties = {}
    given = _list(made.get("required"))
    required = list(dict.fromkeys(name for name in given if isinstance(name, str)))
    mark: Mark = "readOnly" if way == "sent" else "writeOnly"
    hidden = {name for name, each in properties.items() if schemas.is_marked(each, mark)}
    # What comes may have such a property all the same; it is only not expected.
    if hidden and way == "sent":
        made["properties"] = {name: each for name, each in properties.items() if name not in hidden}
    required = [name for name in required if name not in hidden]
    if required:
        made["required"] = cast("Json", required)
    else:
        made.pop("required", None)


def _circle(edges: Mapping[str, Sequence[str]]) -> str | None:
    """Return a name from which edges lead back to itself, or `None`."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as found:
        return min(map(str, found.args[1]))
    return None
