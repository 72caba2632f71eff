"""Where values stand in the results that were known: paths to equal values, the lists on the way, and the code of an expression that follows a path.

An `Index` looks through one value once, up to a bound, so that a giant result costs a bounded time. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from typing import Any, Final, TypeAlias, cast

from ...plans.expressions.formula import read_formula
from ...plans.expressions.unparse import quoted
from ...plans.reports.errors import EvaluationError, RefersToSkipped
from ...plans.values import Json, NotJson, canonical

NODES_MAX: Final = 20_000
"""Parts of one result that are looked at."""

CONTAINER_PARTS_MAX: Final = 500
"""Parts of a list or an object that is looked for as a whole."""

DEPTH_MAX: Final = 30

Steps: TypeAlias = tuple[str | int, ...]
"""Fields and positions, from the outside in."""

_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a known value.

    Attributes:
        root: The step, `item`, or another name.
        steps: The way from there.
    """

    root: str
    steps: Steps = ()

    @property
    def code(self) -> str:
        """The expression that gives the value."""
        return self.root + tail(self.steps)

    @property
    def last_field(self) -> str:
        """The name of the innermost field; empty if there is none."""
        return next((each for each in reversed(self.steps) if isinstance(each, str)), "")

    @property
    def indexes(self) -> list[int]:
        """Where in `steps` the positions of lists stand."""
        return [at for at, each in enumerate(self.steps) if isinstance(each, int)]


def tail(steps: Sequence[str | int]) -> str:
    """Return the code that follows fields and positions: `.a[0]["b c"]`."""
    return "".join(f"[{each}]" if isinstance(each, int) else field_code(each) for each in steps)


def field_code(name: str) -> str:
    """Return the code of a field: `.name`, or `["any name"]`."""
    plain = _FIELD.fullmatch(name) and not iskeyword(name) and not name.startswith("__")
    return f".{name}" if plain else f"[{quoted(name)}]"


@dataclass(slots=True)
class Index:
    """The places of the parts of one value.

    Attributes:
        value: The value.
        places: Canonical bytes of a part -> the ways to it, in the order of the value.
        lists: The ways to lists with elements.
        numbers: The ways to numbers that stand in no list.
        texts: The ways to texts, with them.
        is_complete: Whether all of the value was looked at.
    """

    value: Json
    places: dict[bytes, list[Steps]] = field(default_factory=dict[bytes, list[Steps]])
    lists: list[Steps] = field(default_factory=list[Steps])
    numbers: list[Steps] = field(default_factory=list[Steps])
    texts: list[tuple[Steps, str]] = field(default_factory=list[tuple[Steps, str]])
    is_complete: bool = True

    @classmethod
    def of(cls, value: Json) -> Index:
        """Look through a value."""
        made = cls(value)
        left = NODES_MAX
        # By level, so that the bound cuts what lies deep, and not what stands last.
        level: list[tuple[Steps, Json]] = [((), value)]
        while level:
            following: list[tuple[Steps, Json]] = []
            for steps, part in level:
                left -= 1
                if left < 0 or len(steps) > DEPTH_MAX:
                    made.is_complete = False
                    return made
                made._note(steps, part)
                following += [((*steps, key), each) for key, each in _parts(part)]
            level = following
        return made

    def _note(self, steps: Steps, part: Json) -> None:
        match part:
            case list() if part:
                self.lists.append(steps)
            case bool():
                pass
            case int() | float() if not any(isinstance(each, int) for each in steps):
                self.numbers.append(steps)
            case str():
                self.texts.append((steps, part))
            case _:
                pass
        if not isinstance(part, list | dict) or (part and is_small(part)):
            self.places.setdefault(canonical(part), []).append(steps)


def _parts(value: Json) -> Iterator[tuple[str | int, Json]]:
    match value:
        case dict():
            yield from value.items()
        case list():
            yield from enumerate(value)
        case _:
            pass


def is_small(value: Json) -> bool:
    """Whether a value has few parts."""
    left, parts = CONTAINER_PARTS_MAX, [value]
    while parts:
        left -= 1
        if left < 0:
            return False
        parts += [each for _, each in _parts(parts.pop())]
    return True


@dataclass(slots=True)
class Indexes:
    """The indexes of the values of scopes, each made once."""

    _made: dict[int, Index] = field(default_factory=dict[int, Index])

    def of(self, value: Json) -> Index:
        """Return the index of a value."""
        # By identity: the index keeps the value, so that no other one gets its id.
        found = self._made.get(id(value))
        if found is None or found.value is not value:
            found = self._made[id(value)] = Index.of(value)
        return found

    def find(self, scope: Mapping[str, Json], value: Json) -> Iterator[Place]:
        """Yield the places of a value in a scope, the item of a loop first, then the steps in their order."""
        key = canonical(value)
        for root in roots(scope):
            for steps in self.of(scope[root]).places.get(key, ()):
                yield Place(root, steps)

    def lists(self, scope: Mapping[str, Json]) -> Iterator[tuple[Place, list[Json]]]:
        """Yield the lists of a scope that have elements."""
        for root in roots(scope):
            for steps in self.of(scope[root]).lists:
                yield Place(root, steps), cast("list[Json]", at(scope[root], steps))


def roots(scope: Mapping[str, Json]) -> list[str]:
    """Return the names of a scope whose values are results."""
    return [
        *(name for name in ("item",) if name in scope),
        *(name for name in scope if name not in ("item", "index", "inputs")),
    ]


def at(value: Json, steps: Sequence[str | int]) -> Json:
    """Return the part of a value at the end of a way that is there."""
    part: Any = value
    for each in steps:
        part = part[each]
    return cast("Json", part)


def find_at(value: Json, steps: Sequence[str | int]) -> Json:
    """Return the part of a value at the end of a way; `None` also if the way leads nowhere."""
    try:
        return at(value, steps)
    except (KeyError, IndexError, TypeError):
        return None


def list_at(scope: Mapping[str, Json], place: Place) -> list[Json]:
    """Return the list at a place of a scope; empty if there is no list."""
    value = find_at(scope.get(place.root), place.steps)
    return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Case:
    """A place in a trace where an expression has to give a value.

    Attributes:
        trace: The number of the trace.
        scope: What was known there, by name: results by step, `inputs`, and in a loop `item` and `index`.
        value: The value.
    """

    trace: int
    scope: Mapping[str, Json]
    value: Json

    def part(self, key: str | int) -> Case:
        """Return the case of a part of the value."""
        return replace(self, value=cast("Any", self.value)[key])


def gives(template: Json, case: Case) -> bool:
    """Whether a template gives the value of a case."""
    formula, problems = read_formula(template)
    if any(problem.code != "suspicious-text" for problem in problems):
        return False
    try:
        value = formula.evaluate(case.scope) if formula.tree is not None else formula.literal(template)
        return canonical(value) == canonical(case.value)
    except (EvaluationError, RefersToSkipped, NotJson):
        return False


def glue(text: str) -> str:
    """Return a text as it stands in a template before a reference."""
    escaped = text.replace("${", "$${")
    # `$` before a reference would be an escape: it stands as a text of its own.
    return f'{escaped[:-1]}${{"$"}}' if escaped.endswith("$") else escaped


def names_agree(name: str, place: Place) -> bool:
    """Whether the name of an argument and the place of a value say the same: `user_id` and `user.id`, `city` and `city`."""
    inner, wanted = _words(place.last_field) or _words(place.root), _words(name)
    if not inner or not wanted:
        return False
    fields = (place.root, *(each for each in place.steps if isinstance(each, str)))
    around = {word for each in fields for word in _words(each)}
    # An element has the name of its list: `invoice_id` is the `id` of an item.
    if place.root == "item" and len(place.steps) < 2 and inner[-1] == wanted[-1]:
        return True
    is_short_form = len(inner) > 1 and inner[-len(wanted) :] == wanted
    return inner == wanted or is_short_form or (inner[-1] == wanted[-1] and set(wanted) <= around)


def _words(name: str) -> list[str]:
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).casefold()
    return [word.removesuffix("s") if len(word) > 3 else word for word in re.findall(r"[a-z]+", parts)]
