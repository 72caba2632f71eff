"""The named schemas that a schema rests on: finding them, their order, and taking them along.

A reference names a schema in one of two places: `#/types/Name` in the plan's `types`, anything else that starts with `#`
in the document where the reference stands, which is the schema itself or one of the `types`. Nothing is ever fetched.

Walks are loops or bounded by `DEPTH_MAX`: schemas come from strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote

from ..values import Json, canonical, digest

DEPTH_MAX = 64
"""Schemas inside one another in one definition."""

KEYS_MAX = 16
"""Named definitions of one schema that are told apart by what each rests on."""

ONE_SCHEMA = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
ONE_SCHEMA_RARE = ("unevaluatedProperties", "unevaluatedItems", "additionalItems")
MANY_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
SAME_VALUE = ("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "dependentSchemas")
NAMED_SCHEMAS = ("properties", "patternProperties", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a schema stands: in which document (`""`: the schema itself, else a name in `types`), and where in it.

    Attributes:
        document: Name of the document.
        pointer: JSON pointer, empty for the whole document.
    """

    document: str
    pointer: str

    @property
    def name(self) -> str:
        """The name that people know it by."""
        last = self.pointer.rsplit("/", 1)[-1] if self.pointer else self.document
        return last.replace("~1", "/").replace("~0", "~") or "Self"


ROOT = Place("", "")
"""The schema itself."""


@dataclass(slots=True)
class Documents:
    """A schema and the types that it may name."""

    schema: Mapping[str, Json]
    types: Mapping[str, Json]
    _found: dict[tuple[str, str], Place | None] = field(default_factory=dict[tuple[str, str], "Place | None"])

    def place(self, ref: str, document: str) -> Place | None:
        """Return where a reference that stands in a document leads, or `None` if there is nothing."""
        key = (ref, document)
        if key not in self._found:
            place = _place(ref, document)
            self._found[key] = place if place is not None and self.at(place) is not None else None
        return self._found[key]

    def at(self, place: Place) -> Json:
        """Return what stands in a place, or `None`."""
        found = cast("Json", self.schema) if not place.document else self.types.get(place.document)
        if not place.pointer:
            return found
        for part in place.pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping):
                found = found.get(key)
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found

    def reached(self, schema: Json, document: str) -> Iterator[Place]:
        """Yield the places that a schema refers to directly, each once, in order."""
        seen: dict[Place, None] = {}
        for ref in refs_in(schema):
            place = self.place(ref, document)
            if place is not None:
                seen[place] = None
        yield from seen


def _place(ref: str, document: str) -> Place | None:
    if "%" in ref:
        ref = unquote(ref)  # references are URIs: `#/types/My%20Type`
    if ref.startswith("#/types/"):
        head, slash, rest = ref.removeprefix("#/types/").partition("/")
        return Place(head.replace("~1", "/").replace("~0", "~"), slash + rest)
    if ref == "#" or ref.startswith("#/"):
        return Place(document, ref[1:])
    return None


def refs_in(
    schema: Json, inside: Callable[[Mapping[str, Json]], Iterator[Json]] | None = None
) -> Iterator[str]:
    """Yield every reference in a schema, in order; what stands in `enum`, `const`, `default` and the like is data.

    Args:
        schema: Any JSON.
        inside: Where to look; by default in all schemas that stand in a schema.
    """
    waiting: list[Json] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            ref = one.get("$ref")
            if isinstance(ref, str):
                yield ref
            waiting.extend(reversed(list((inside or inner_schemas)(one))))


def same_value_schemas(schema: Mapping[str, Json]) -> Iterator[Json]:
    """Yield the schemas in a schema that are about the same value, not about a part of it."""
    for key in SAME_VALUE:
        value = schema.get(key)
        if isinstance(value, list):
            yield from value
        elif isinstance(value, Mapping):
            yield from value.values() if key == "dependentSchemas" else [value]


def inner_schemas(schema: Mapping[str, Json]) -> Iterator[Json]:
    """Yield the schemas that stand directly in a schema, its definitions left out."""
    for key, value in schema.items():
        if isinstance(value, list) and key in {*MANY_SCHEMAS, "items"}:
            yield from value
        elif isinstance(value, Mapping):
            if key in NAMED_SCHEMAS:
                yield from value.values()
            elif key in ONE_SCHEMA or key in ONE_SCHEMA_RARE:
                yield value


@dataclass(slots=True)
class Order:
    """The places that a schema rests on, each after those that it rests on itself; which of them hold themselves.

    Attributes:
        places: In reading order.
        loops: The places where a walk comes back to one that it has not left: they have to stay names.
        edges: What each place refers to directly.
    """

    places: list[Place] = field(default_factory=list[Place])
    loops: set[Place] = field(default_factory=set[Place])
    edges: dict[Place, tuple[Place, ...]] = field(default_factory=dict[Place, tuple[Place, ...]])

    def reach(self, start: Place) -> list[Place]:
        """Return a place and all that it rests on, in order."""
        seen = {start: None}
        waiting = [start]
        while waiting:
            for place in self.edges.get(waiting.pop(), ()):
                if place not in seen:
                    seen[place] = None
                    waiting.append(place)
        return list(seen)


def order_of(documents: Documents) -> Order:
    """Return the order in which to read what a schema rests on. O(size of what is reached)."""
    made = Order()
    made.edges[ROOT] = tuple(documents.reached(cast("Json", documents.schema), ""))
    path: list[tuple[Place, Iterator[Place]]] = [(ROOT, iter(made.edges[ROOT]))]
    open_now = {ROOT}
    while path:
        place, rest = path[-1]
        for ahead in rest:
            if ahead in open_now:
                made.loops.add(ahead)
            elif ahead not in made.edges:
                made.edges[ahead] = tuple(documents.reached(documents.at(ahead), ahead.document))
                open_now.add(ahead)
                path.append((ahead, iter(made.edges[ahead])))
                break
        else:
            path.pop()
            open_now.discard(place)
            made.places.append(place)
    return made


def endless_places(documents: Documents, order: Order) -> set[Place]:
    """Return the places whose meaning rests on itself: a walk from them comes around without going into a part of the value."""
    if not order.loops:
        return set()
    rests_on: dict[Place, set[Place]] = {}
    carries: dict[Place, set[Place]] = {place: set() for place in order.places}
    for place in order.places:
        refs = refs_in(documents.at(place), same_value_schemas)
        found = (documents.place(ref, place.document) for ref in refs)
        rests_on[place] = {each for each in found if each is not None}
        for each in rests_on[place]:
            carries[each].add(place)
    grounded = [place for place, others in rests_on.items() if not others]
    for place in grounded:  # grows while it is walked
        for other in carries[place]:
            rests_on[other].discard(place)
            if not rests_on[other]:
                grounded.append(other)
    return set(rests_on) - set(grounded)


def named_parts(schema: Json, types: Mapping[str, Json], most: int) -> int:
    """Return how many parts the schemas have that a schema names, each once; counting ends past `most`."""
    documents = Documents(as_mapping(schema) or {}, types)
    seen: set[Place] = set()
    waiting: list[tuple[Json, str]] = [(schema, "")]
    count = 0
    while waiting and count <= most:
        one, document = waiting.pop()
        known = as_mapping(one)
        if known is None:
            continue
        if seen:
            count += 1 + sum([len(value) for value in known.values() if isinstance(value, list | dict)])
        ref = known.get("$ref")
        place = documents.place(ref, document) if isinstance(ref, str) else None
        if place is not None and place not in seen:
            seen.add(place)
            waiting.append((documents.at(place), place.document))
        waiting.extend((inner, document) for inner in inner_schemas(known))
    return count


class Names:
    """The names and keys of places that stay names: unique in one schema, equal for equal definitions."""

    def __init__(self, documents: Documents, order: Order) -> None:
        self.documents = documents
        self.order = order
        self._names: dict[Place, str] = {}
        self._taken: set[str] = set()
        self._keys: dict[Place, str] = {}

    def name(self, place: Place) -> str:
        """Return a place's own name, with a number if another place has it."""
        if place not in self._names:
            name, number = place.name, 2
            while name in self._taken:
                name, number = f"{place.name}_{number}", number + 1
            self._names[place] = name
            self._taken.add(name)
        return self._names[place]

    def key(self, place: Place) -> str:
        """Return the digest of what a place rests on; past `KEYS_MAX` places, of all that the schema rests on."""
        start = place if place in self._keys or len(self._keys) < KEYS_MAX else ROOT
        if start not in self._keys:
            parts: list[Json] = [
                [each.document, each.pointer, self.documents.at(each)] for each in self.order.reach(start)
            ]
            self._keys[start] = digest(canonical(parts))
        return self._keys[start]


def unescaped_name(ref: str) -> str:
    """Return the last part of a reference, as people know it."""
    return ref.rsplit("/", 1)[-1].replace("~1", "/").replace("~0", "~")


def as_mapping(value: Json) -> Mapping[str, Json] | None:
    """Return a JSON object as one, anything else as `None`."""
    return cast("Mapping[str, Json]", value) if isinstance(value, Mapping) else None
