"""Elements and parts of lists, as expressions: by position, by a field that equals a known value, by a comparison with a number of the task, by extreme.

Every function yields code with its cost, specific first. Nothing here is proven: `origins.py` evaluates what is proposed. All is bounded, since a result may be
large. Pure.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Final, cast

from ...plans.expressions.unparse import quoted
from ...plans.values import Json, canonical
from .inputs import Inputs
from .places import Case, Indexes, Place, Steps, at, find_at, list_at, tail
from .secrecy import holds_secret

FIELDS_MAX: Final = 40
"""Fields of elements by which one is looked for."""

ELEMENTS_MAX: Final = 20_000
"""Elements of a list among which one is looked for."""

NUMBERS_MAX: Final = 40
"""Numbers of a task, and places of a value, that are compared with."""

LISTS_MAX: Final = 60
"""Lists of which fields are taken."""

_LEAST: Final = re.compile(
    r"(?i)\b(cheapest|lowest|least|smallest|minimum|minimal|fewest|shortest|nearest|closest|fastest|quickest|coldest|youngest|lightest)\b"
)
_MOST: Final = re.compile(
    r"(?i)\b(highest|most|largest|biggest|greatest|maximum|maximal|best|longest|farthest|dearest|top|hottest|warmest|oldest|heaviest)\b"
)
_EARLIEST: Final = re.compile(r"(?i)\b(earliest|oldest|first|soonest|next)\b")
_LATEST: Final = re.compile(r"(?i)\b(latest|newest|last|recent|recently)\b")
DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.+Z-]*)?")
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NO_REASON: Final = "nothing says why it is this element; a model may have chosen it"

Proposed = tuple[str, int, str]
"""Code, cost, and what is odd about it."""


@dataclass(slots=True)
class Known:
    """What expressions may refer to.

    Attributes:
        inputs: The inputs so far.
        traces: How many traces there are.
        indexes: The places of values in results.
        columns: The fields of lists, by identity of the list.
        secrets: The secrets in the calls and their results.
    """

    inputs: Inputs
    traces: int
    indexes: Indexes = field(default_factory=Indexes)
    columns: dict[int, list[Column]] = field(default_factory=dict[int, "list[Column]"])
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """Some elements of a list of one trace.

    Attributes:
        scope: What was known.
        elements: The list.
        chosen: The numbers of the elements, in the order in which they were used.
    """

    scope: Mapping[str, Json]
    elements: Sequence[Json]
    chosen: Sequence[int]


# --- Elements and sublists


def codes_of(known: Known, place: Place, cases: Sequence[Case]) -> Iterator[Proposed]:
    """Yield expressions that give what stands at a place.

    Args:
        known: What they may refer to.
        place: The place in the first case.
        cases: All cases of the value.
    """
    if not place.indexes:
        yield place.code, 0, ""
    # One list of the way is explained at a time; the others keep their positions.
    for at_ in place.indexes[:3]:
        source, number, after = (
            Place(place.root, place.steps[:at_]),
            cast("int", place.steps[at_]),
            place.steps[at_ + 1 :],
        )
        if cases[0].scope.get("index") == number:
            yield f"{source.code}[index]{tail(after)}", 1, ""
        choices = _choices_of(source, after, number, cases)
        for code, cost, why in _element_codes(known, source, choices):
            yield f"{code}{tail(after)}", cost + len(place.indexes) - 1, why


def _choices_of(source: Place, after: Steps, number: int, cases: Sequence[Case]) -> list[Choice]:
    """Return the chosen element in each trace: that of the first case, and in the others the first that has the value at the same place."""
    found: dict[int, Choice] = {}
    for case in cases:
        if case.trace in found:
            continue
        elements = list_at(case.scope, source)
        if case is cases[0]:
            found[case.trace] = Choice(case.scope, elements, [number])
            continue
        key = canonical(case.value)
        same = (
            at_ for at_, each in enumerate(elements[:ELEMENTS_MAX]) if canonical(find_at(each, after)) == key
        )
        found[case.trace] = Choice(case.scope, elements, list(islice(same, 1)))
    return list(found.values())


def _element_codes(known: Known, source: Place, choices: Sequence[Choice]) -> Iterator[Proposed]:
    """Yield expressions for one element of a list."""
    first = choices[0]
    elements, number = first.elements, first.chosen[0]
    name = variable_in(first.scope)
    code = source.code
    if len(elements) > 1:
        for condition, cost, why in _conditions(known, source, choices, name):
            # A constant that only one element has tells no more than its position.
            yield f"[{name} for {name} in {code} if {condition}][0]", cost if cost < 2 else cost + 3, why
        words = known.inputs.tasks[0]
        for column in columns_of(known, elements):
            for function, extreme in column.extremes:
                if column.values[number] == extreme and column.values.count(extreme) == 1:
                    cost = column.cost_of(function, words)
                    yield f"{function}({code}, key=lambda {name}: {name}{tail(column.steps)})", cost, ""
    if number == 0:
        yield (
            f"{code}[0]",
            1 if len(elements) == 1 else 2,
            "" if len(elements) == 1 else "it is the first element",
        )
    elif number == len(elements) - 1:
        yield f"{code}[-1]", 3, "it is the last element"
        yield f"{code}[{number}]", 5, _NO_REASON
    else:
        yield f"{code}[{number}]", 4, _NO_REASON


def sublist_codes(known: Known, source: Place, choices: Sequence[Choice]) -> Iterator[Proposed]:
    """Yield expressions for some elements of a list: all of them, those that fulfil a condition, the first, the least or the most.

    Args:
        known: What they may refer to.
        source: The list.
        choices: The elements in each trace.
    """
    first = choices[0]
    count, total = len(first.chosen), len(first.elements)
    code, name = source.code, variable_in(first.scope)
    if all(list(each.chosen) == list(range(len(each.elements))) for each in choices):
        yield code, 0, ""
        return
    # A filter keeps the order of the list; elements in another order were sorted.
    if list(first.chosen) == sorted(first.chosen):
        for condition, cost, why in _conditions(known, source, choices, name):
            yield f"[{name} for {name} in {code} if {condition}]", cost, why
    counted = known.inputs.code_of([len(each.chosen) for each in choices], "count", {"type": "integer"})
    amounts = [(counted, 0)] if counted is not None else []
    words = known.inputs.tasks[0]
    for amount, cost in [*amounts, (str(count), 2)]:
        for column in columns_of(known, first.elements) if total > 1 else ():
            if column.has_order:
                key = f"key=lambda {name}: {name}{tail(column.steps)}"
                rising, falling = column.cost_of("min", words), column.cost_of("max", words)
                yield f"sorted({code}, {key})[:{amount}]", cost + rising, ""
                yield f"sorted({code}, {key}, reverse=True)[:{amount}]", cost + falling, ""
        yield f"{code}[:{amount}]", cost + 1, "they are the first elements"
        yield f"{code}[-{amount}:]", cost + 2, "they are the last elements"


def _conditions(known: Known, source: Place, choices: Sequence[Choice], name: str) -> Iterator[Proposed]:
    """Yield conditions that the chosen elements fulfil and the others do not, and that hold no secret."""
    for condition, cost, why in _all_conditions(known, source, choices, name):
        if not holds_secret(condition, known.secrets):
            yield condition, cost, why


def _all_conditions(known: Known, source: Place, choices: Sequence[Choice], name: str) -> Iterator[Proposed]:
    first = choices[0]
    chosen = set(first.chosen)
    if len(chosen) >= len(first.elements) or not first.chosen:
        return
    for column in columns_of(known, first.elements):
        part, values = f"{name}{tail(column.steps)}", column.values
        # A field tells the chosen elements apart if they share a value that no other element has, or if all others share one.
        inside = {key for at_, key in enumerate(column.keys) if at_ in chosen}
        outside = {key for at_, key in enumerate(column.keys) if at_ not in chosen}
        value = values[first.chosen[0]]
        if len(inside) == 1 and not inside & outside:
            if isinstance(value, bool):
                yield part if value else f"not {part}", 1, ""
            elif value is not None:
                yield from _equalities(known, source, choices, column.steps, part)
        elif len(outside) == 1 and not inside & outside:
            other = next(each for at_, each in enumerate(values) if at_ not in chosen)
            if isinstance(other, str):
                yield f"{part} != {quoted(other)}", 3, "the value stands in the results"
        if column.is_numeric:
            yield from _comparisons(known, column, chosen, part)


def _comparisons(known: Known, column: Column, chosen: set[int], part: str) -> Iterator[Proposed]:
    """Yield comparisons of a field with the numbers of the task."""
    values = cast("list[float]", column.values)
    for number in list(known.inputs.numbers())[:NUMBERS_MAX]:
        for sign, holds in _COMPARISONS.items():
            if {at_ for at_, each in enumerate(values) if holds(each, number)} == chosen:
                # Of several traces, which number of each task is meant is not known: the constant has to hold in all of them.
                code = (
                    known.inputs.code_of([number], str(column.steps[-1]), {}) if known.traces == 1 else None
                )
                yield f"{part} {sign} {code or spelled(number)}", 0, ""


def _equalities(
    known: Known, source: Place, choices: Sequence[Choice], steps: Steps, part: str
) -> Iterator[Proposed]:
    """Yield comparisons of a field with what its value in the chosen elements is elsewhere."""
    if not all(choice.chosen for choice in choices):
        return
    values = [find_at(choice.elements[choice.chosen[0]], steps) for choice in choices]
    value = values[0]
    if len(values) == known.traces and (code := known.inputs.code_of(values, str(steps[-1]), {})) is not None:
        yield f"{part} == {code}", 0, ""
    if isinstance(value, str) and len(value) > 1:
        for place in islice(known.indexes.find(choices[0].scope, value), NUMBERS_MAX):
            if not place.indexes and place.root != source.root:
                yield f"{part} == {place.code}", 1, ""
    # The value that one element alone has is its name, and no reason.
    is_category = len(choices[0].chosen) > 1 or (isinstance(value, str) and not re.search(r"\d", value))
    if is_category and (isinstance(value, str) or is_number(value)):
        yield f"{part} == {spelled(value)}", 2, "the value stands in the results, and nowhere else"


@dataclass(frozen=True)
class Column:
    """A field that all elements of a list have.

    Attributes:
        elements: The list, so that nothing else gets its identity.
        steps: The way to the field in an element.
        values: Its values.
        keys: The canonical bytes of the values.
    """

    elements: Sequence[Json]
    steps: tuple[str, ...]
    values: list[Json]
    keys: list[bytes]

    @cached_property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(is_number(each) for each in self.values)

    @cached_property
    def has_order(self) -> bool:
        """Whether the values can be sorted: all numbers, or all texts."""
        return self.is_numeric or all(isinstance(each, str) for each in self.values)

    @cached_property
    def is_dated(self) -> bool:
        """Whether all values are dates or times."""
        return all(isinstance(each, str) and DATE.fullmatch(each) for each in self.values)

    @cached_property
    def extremes(self) -> tuple[tuple[str, Json], ...]:
        """The functions for the least and the greatest value, with these; empty if the values are neither numbers nor dates."""
        if not (self.is_numeric or self.is_dated):
            return ()
        values = cast("list[Any]", self.values)
        return ("min", min(values)), ("max", max(values))

    def cost_of(self, function: str, words: str) -> int:
        """Return how well the words of a task say that the extreme is meant: `latest` is about dates, and no number of a row is a price."""
        is_named = (_LEAST if function == "min" else _MOST).search(words) is not None
        is_time = (_EARLIEST if function == "min" else _LATEST).search(words) is not None
        if not (is_named or is_time):
            return 3
        is_id = self.steps[-1].casefold().endswith(("id", "number", "index"))
        return int(self.is_dated != is_time or is_id)


def columns_of(known: Known, elements: Sequence[Json]) -> list[Column]:
    """Return the fields that all elements have: scalars, at most one object deep. Made once for each list."""
    found = known.columns.get(id(elements))
    if found is None or (found and found[0].elements is not elements):
        found = known.columns[id(elements)] = list(_found_columns(elements))
    return found


def _found_columns(elements: Sequence[Json]) -> Iterator[Column]:
    if len(elements) > ELEMENTS_MAX or not all(isinstance(each, dict) for each in elements):
        return
    objects = cast("Sequence[dict[str, Json]]", elements)
    ways: list[tuple[str, ...]] = []
    for name, value in objects[0].items() if objects else ():
        ways += [(name, inner) for inner in value] if isinstance(value, dict) else [(name,)]
    for way in ways[:FIELDS_MAX]:
        try:
            values = [at(each, way) for each in objects]
        except (KeyError, TypeError, IndexError):
            continue
        if not any(isinstance(each, list | dict) for each in values):
            yield Column(elements, way, values, [canonical(each) for each in values])


def selected(known: Known, cases: Sequence[Case]) -> Iterator[Proposed]:
    """Yield expressions for a list of values: a field of all elements of another list, or of some."""
    wanted = cast("list[Json]", cases[0].value)
    if not wanted:
        return
    for source, elements in islice(known.indexes.lists(cases[0].scope), LISTS_MAX):
        name = variable_in(cases[0].scope)
        whole: tuple[Steps, list[Json]] = ((), elements)
        for steps, values in [whole, *((each.steps, each.values) for each in columns_of(known, elements))]:
            chosen = _numbers_of(wanted, values)
            if chosen is None or (steps == () and chosen == list(range(len(elements)))):
                continue
            choices = [Choice(cases[0].scope, elements, chosen)]
            for case in cases[1:]:
                others = list_at(case.scope, source)
                parts = [find_at(each, steps) for each in others]
                choices.append(
                    Choice(case.scope, others, _numbers_of(cast("list[Json]", case.value), parts) or [])
                )
            for code, cost, why in sublist_codes(known, source, choices):
                if not steps:
                    yield code, cost, why
                elif code.startswith(f"[{name} for {name} in "):
                    yield f"[{name}{tail(steps)}{code[1 + len(name) :]}", cost, why
                else:
                    yield f"[{name}{tail(steps)} for {name} in {code}]", cost, why


def _numbers_of(wanted: Sequence[Json], values: Sequence[Json]) -> list[int] | None:
    """Return the places of some values in a list, each place once; `None`: one is not there."""
    places: dict[bytes, list[int]] = {}
    for at_, each in enumerate(values[:ELEMENTS_MAX]):
        places.setdefault(canonical(each), []).append(at_)
    found: list[int] = []
    for each in wanted:
        left = places.get(canonical(each))
        if not left:
            return None
        found.append(left.pop(0))
    return found


def variable_in(scope: Mapping[str, Json]) -> str:
    """Return a name for elements that hides no step."""
    return next(name for name in ("x", "element", "each_element", "x_") if name not in scope)


def is_number(value: Json) -> bool:
    """Whether a value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def spelled(value: Json) -> str:
    """Return a text or a number as an expression spells it."""
    return quoted(value) if isinstance(value, str) else canonical(value).decode()
