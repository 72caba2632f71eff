"""Expressions that may give a value: elements of lists by position, field or extreme, sublists, arithmetic, changes of text, and templates.

Every function yields code with its cost, cheap and specific first. Nothing here is proven: `origins.py` evaluates what is proposed. Loops over pairs of values
are bounded, since a result may be large. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, cast

from ...plans.expressions.unparse import quoted
from ...plans.values import Json, canonical, parse_canonical
from .inputs import Inputs
from .places import Case, Indexes, Place, Steps, at, gives, roots, tail

FIELDS_MAX: Final = 40
"""Fields of elements by which one is looked for."""

ELEMENTS_MAX: Final = 5_000
"""Elements of a list among which one is looked for."""

NUMBERS_MAX: Final = 40
"""Numbers of which pairs are added, subtracted, multiplied and divided."""

LISTS_MAX: Final = 60
"""Lists that are summed up, or of which fields are taken."""

TEMPLATE_CHARACTERS_MAX: Final = 20_000
"""Of a text in which known values are looked for."""

_LEAST: Final = re.compile(
    r"(?i)\b(cheapest|lowest|least|smallest|minimum|minimal|earliest|oldest|first|fewest|shortest|nearest|closest|fastest|quickest|coldest|youngest|lightest)\b"
)
_MOST: Final = re.compile(
    r"(?i)\b(highest|most|largest|biggest|greatest|maximum|maximal|latest|newest|last|best|longest|farthest|dearest|top|hottest|warmest|oldest|heaviest|recent)\b"
)
_COUNT: Final = re.compile(r"(?i)(count|total|number|quantity|amount|size|length|how_many|^n$)")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.+Z-]*)?")
_SPLITS: Final = ("@", "/", ":", "#", ",", "-", " ")
_COMPARISONS: Final = ("<", "<=", ">", ">=")
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
    """

    inputs: Inputs
    traces: int
    indexes: Indexes = field(default_factory=Indexes)


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
        elements = _list_at(case.scope, source)
        if case is cases[0]:
            found[case.trace] = Choice(case.scope, elements, [number])
            continue
        key = canonical(case.value)
        same = (at_ for at_, each in enumerate(elements[:ELEMENTS_MAX]) if _has(each, after, key))
        found[case.trace] = Choice(case.scope, elements, list(islice(same, 1)))
    return list(found.values())


def _list_at(scope: Mapping[str, Json], source: Place) -> list[Json]:
    try:
        value = at(scope[source.root], source.steps)
    except (KeyError, IndexError, TypeError):
        return []
    return value if isinstance(value, list) else []


def _has(element: Json, steps: Steps, key: bytes) -> bool:
    try:
        return canonical(at(element, steps)) == key
    except (KeyError, IndexError, TypeError):
        return False


def _element_codes(known: Known, source: Place, choices: Sequence[Choice]) -> Iterator[Proposed]:
    """Yield expressions for one element of a list."""
    first = choices[0]
    elements, number = first.elements, first.chosen[0]
    name = _variable(first.scope)
    code = source.code
    if len(elements) > 1:
        for condition, cost, why in _conditions(known, source, choices, name):
            # A constant that only one element has tells no more than its position.
            yield f"[{name} for {name} in {code} if {condition}][0]", cost if cost < 2 else cost + 3, why
        words = known.inputs.tasks[0]
        for steps, values in _fields(elements):
            if not (
                all(_is_number(each) for each in values)
                or all(isinstance(each, str) and _DATE.fullmatch(each) for each in values)
            ):
                continue
            for function, extreme, superlative in (
                ("min", min(cast("list[Any]", values)), _LEAST),
                ("max", max(cast("list[Any]", values)), _MOST),
            ):
                if values[number] == extreme and values.count(extreme) == 1:
                    yield (
                        f"{function}({code}, key=lambda {name}: {name}{tail(steps)})",
                        0 if superlative.search(words) else 3,
                        "",
                    )
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
    code, name = source.code, _variable(first.scope)
    if all(list(each.chosen) == list(range(len(each.elements))) for each in choices):
        yield code, 0, ""
        return
    if list(first.chosen) == sorted(first.chosen):
        for condition, cost, why in _conditions(known, source, choices, name):
            yield f"[{name} for {name} in {code} if {condition}]", cost, why
    counted = known.inputs.code_of([len(each.chosen) for each in choices], "count", {"type": "integer"})
    amounts = [(counted, 0)] if counted is not None else []
    words = known.inputs.tasks[0]
    for amount, cost in [*amounts, (str(count), 2)]:
        for steps, values in _fields(first.elements) if count < total or total > 1 else ():
            if (
                len({type(each) for each in values}) == 1
                and isinstance(values[0], int | float | str)
                and not isinstance(values[0], bool)
            ):
                key = f"key=lambda {name}: {name}{tail(steps)}"
                yield f"sorted({code}, {key})[:{amount}]", cost + (0 if _LEAST.search(words) else 2), ""
                yield (
                    f"sorted({code}, {key}, reverse=True)[:{amount}]",
                    cost + (0 if _MOST.search(words) else 2),
                    "",
                )
        yield f"{code}[:{amount}]", cost + 1, "they are the first elements"
        yield f"{code}[-{amount}:]", cost + 2, "they are the last elements"


def _conditions(known: Known, source: Place, choices: Sequence[Choice], name: str) -> Iterator[Proposed]:  # noqa: C901  # one case, one paragraph
    """Yield conditions that the chosen elements fulfil and the others do not."""
    first = choices[0]
    chosen = set(first.chosen)
    if len(chosen) >= len(first.elements) or not first.chosen:
        return
    numbers = list(known.inputs.numbers())[:NUMBERS_MAX]
    for steps, values in _fields(first.elements):
        part = f"{name}{tail(steps)}"
        inside = {canonical(each) for at_, each in enumerate(values) if at_ in chosen}
        outside = {canonical(each) for at_, each in enumerate(values) if at_ not in chosen}
        value = values[first.chosen[0]]
        if len(inside) == 1 and not inside & outside:
            if isinstance(value, bool):
                yield part if value else f"not {part}", 1, ""
            elif value is not None:
                yield from _equalities(known, source, choices, steps, part)
        elif len(outside) == 1 and not inside & outside:
            other = next(each for at_, each in enumerate(values) if at_ not in chosen)
            if isinstance(other, str):
                yield f"{part} != {quoted(other)}", 3, "the value stands in the results"
        if all(_is_number(each) for each in values):
            for number in numbers:
                for sign in _COMPARISONS:
                    if {
                        at_ for at_, each in enumerate(values) if _holds(cast("float", each), sign, number)
                    } == chosen:
                        code = (
                            known.inputs.code_of([number] * known.traces, steps[-1], {})
                            if known.traces == 1
                            else None
                        )
                        yield f"{part} {sign} {code or _spelled(number)}", 0, ""


def _equalities(
    known: Known, source: Place, choices: Sequence[Choice], steps: Steps, part: str
) -> Iterator[Proposed]:
    """Yield comparisons of a field with what its value in the chosen elements is elsewhere."""
    values: list[Json] = []
    for choice in choices:
        if not choice.chosen:
            return
        try:
            values.append(at(choice.elements[choice.chosen[0]], steps))
        except (KeyError, IndexError, TypeError):
            return
    value = values[0]
    if len(values) == known.traces and (code := known.inputs.code_of(values, str(steps[-1]), {})) is not None:
        yield f"{part} == {code}", 0, ""
    if isinstance(value, str) and len(value) > 1:
        for place in islice(known.indexes.find(choices[0].scope, value), NUMBERS_MAX):
            if not place.indexes and place.root != source.root:
                yield f"{part} == {place.code}", 1, ""
    # The value that one element alone has is its name, and no reason.
    is_category = len(choices[0].chosen) > 1 or (isinstance(value, str) and not re.search(r"\d", value))
    if is_category and (isinstance(value, str) or _is_number(value)):
        yield f"{part} == {_spelled(value)}", 2, "the value stands in the results, and nowhere else"


def _holds(value: float, sign: str, other: float) -> bool:
    return {"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[sign]


def _fields(elements: Sequence[Json]) -> list[tuple[tuple[str, ...], list[Json]]]:
    """Return the fields that all elements have, with the values: scalars, at most one object deep."""
    if len(elements) > ELEMENTS_MAX or not all(isinstance(each, dict) for each in elements):
        return []
    objects = cast("Sequence[dict[str, Json]]", elements)
    ways: list[tuple[str, ...]] = []
    for name, value in objects[0].items():
        ways += [(name, inner) for inner in value] if isinstance(value, dict) else [(name,)]
    found: list[tuple[tuple[str, ...], list[Json]]] = []
    for way in ways[:FIELDS_MAX]:
        try:
            values = [at(each, way) for each in objects]
        except (KeyError, TypeError, IndexError):
            continue
        if not any(isinstance(each, list | dict) for each in values):
            found.append((way, values))
    return found


def selected(known: Known, cases: Sequence[Case]) -> Iterator[Proposed]:
    """Yield expressions for a list of values: a field of all elements of another list, or of some."""
    wanted = cast("list[Json]", cases[0].value)
    if not wanted:
        return
    for source, elements in islice(known.indexes.lists(cases[0].scope), LISTS_MAX):
        name = _variable(cases[0].scope)
        for steps, values in [((), list(elements)), *_fields(elements)]:
            chosen = _numbers_of(wanted, values)
            if chosen is None or (steps == () and chosen == list(range(len(elements)))):
                continue
            choices = [Choice(cases[0].scope, elements, chosen)]
            for case in cases[1:]:
                others = _list_at(case.scope, source)
                parts = [at(each, steps) if _reaches(each, steps) else None for each in others]
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


def _reaches(element: Json, steps: Steps) -> bool:
    try:
        at(element, steps)
    except (KeyError, IndexError, TypeError):
        return False
    return True


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


def _variable(scope: Mapping[str, Json]) -> str:
    """Return a name for elements that hides no step."""
    return next(name for name in ("x", "element", "each_element", "x_") if name not in scope)


# --- Arithmetic, and changes of text


def computed(known: Known, case: Case, name: str, *, is_weak: bool) -> Iterator[tuple[str, int]]:
    """Yield expressions that compute a scalar, with their tier.

    Args:
        known: What they may refer to.
        case: The first case.
        name: The name of the argument.
        is_weak: Whether the value says little, so that a computation would give it by chance.
    """
    match case.value:
        case bool() | None:
            return
        case int() | float():
            yield from _converted(known, case)
            yield from _counted(known, case, name)
            if not is_weak:
                yield from _summed(known, case)
                yield from _combined(known, case)
        case str() if len(case.value) > 1:
            yield from _converted(known, case)
            yield from _changed(known, case)
        case _:
            pass


def _converted(known: Known, case: Case) -> Iterator[tuple[str, int]]:
    """Yield a number of a text, or the text of a number."""
    value = case.value
    if isinstance(value, str):
        if re.fullmatch(r"-?\d+(\.\d+)?", value):
            numbers: list[Json] = [float(value)] if "." in value else [int(value), float(value)]
            for number in numbers:
                for place in islice(known.indexes.find(case.scope, number), 5):
                    yield from ((f"str({code})", 3) for code, *_ in codes_of(known, place, [case]))
        return
    function = "int" if isinstance(value, int) else "float"
    for text in dict.fromkeys((str(value), f"{value:g}", f"{value:.2f}")):
        for place in islice(known.indexes.find(case.scope, text), 5):
            yield from ((f"{function}({code})", 3) for code, *_ in codes_of(known, place, [case]))


def _counted(known: Known, case: Case, name: str) -> Iterator[tuple[str, int]]:
    if not isinstance(case.value, int):
        return
    tier = 2 if _COUNT.search(name) else 5 if case.value > 20 else 7
    for source, elements in islice(known.indexes.lists(case.scope), LISTS_MAX):
        if len(elements) == case.value:
            yield f"len({source.code})", tier


def _summed(known: Known, case: Case) -> Iterator[tuple[str, int]]:
    """Yield sums, averages and extremes of lists of numbers, and of a field or a product of two fields of lists of objects."""
    value = cast("float", case.value)
    for source, elements in islice(known.indexes.lists(case.scope), LISTS_MAX):
        name = _variable(case.scope)
        columns: list[tuple[str, list[float]]] = []
        if all(_is_number(each) for each in elements):
            columns.append((source.code, cast("list[float]", list(elements))))
        fields = [
            (steps, values) for steps, values in _fields(elements) if all(_is_number(each) for each in values)
        ]
        columns += [
            (f"{name}{tail(steps)} for {name} in {source.code}", cast("list[float]", values))
            for steps, values in fields
        ]
        for at_, (one, ones) in enumerate(fields[:8]):
            for other, others in fields[at_ + 1 : 8]:
                products = [
                    float(a) * float(b)
                    for a, b in zip(cast("list[float]", ones), cast("list[float]", others), strict=True)
                ]
                columns.append(
                    (f"{name}{tail(one)} * {name}{tail(other)} for {name} in {source.code}", products)
                )
        for inner, numbers in columns:
            made = {
                "sum": math.fsum(numbers),
                "avg": math.fsum(numbers) / len(numbers),
                "min": min(numbers),
                "max": max(numbers),
            }
            for function, result in made.items():
                yield from _rounded(f"{function}({inner})", result, value, 5)


def _combined(known: Known, case: Case) -> Iterator[tuple[str, int]]:
    """Yield sums, differences, products and quotients of two known numbers."""
    numbers: list[tuple[str, float]] = []
    for root in roots(case.scope):
        index = known.indexes.of(case.scope[root])
        numbers += [
            (Place(root, steps).code, cast("float", at(index.value, steps))) for steps in index.numbers
        ]
    numbers += [
        (code, cast("float", values[case.trace]))
        for code, values in known.inputs.known()
        if _is_number(values[case.trace])
    ]
    value = cast("float", case.value)
    numbers = numbers[:NUMBERS_MAX]
    for at_, (one, left) in enumerate(numbers):
        for other_at, (other, right) in enumerate(numbers):
            if at_ < other_at:
                yield from _rounded(f"{one} + {other}", left + right, value, 5)
                yield from _rounded(f"{one} * {other}", left * right, value, 5)
            if at_ != other_at:
                yield from _rounded(f"{one} - {other}", left - right, value, 5)
                if right:
                    yield from _rounded(f"{one} / {other}", left / right, value, 6)


def _rounded(code: str, made: float, value: float, tier: int) -> Iterator[tuple[str, int]]:
    """Yield code that may give a value, as it is and rounded as prices are."""
    if math.isclose(made, value, rel_tol=1e-12, abs_tol=1e-12):
        yield code, tier
        yield f"round({code}, 2)", tier + 1
        yield f"int({code})", tier + 1
    elif isinstance(value, float) and math.isclose(round(made, 2), value, rel_tol=1e-12):
        yield f"round({code}, 2)", tier
    elif isinstance(value, int) and round(made) == value and abs(made) > 1:
        yield f"round({code})", tier + 1


def _changed(known: Known, case: Case) -> Iterator[tuple[str, int]]:
    """Yield changes of a known text: other capitals, without outer spaces, its date, a part of it."""
    value = cast("str", case.value)
    folded = value.casefold()
    for code, text in _texts(known, case):
        if value == text or len(text) > TEMPLATE_CHARACTERS_MAX:
            continue
        if text.casefold() == folded:
            yield from (
                (f"{code}.{method}()", 3)
                for method in ("lower", "upper", "title")
                if getattr(text, method)() == value
            )
        elif text.strip() == value:
            yield f"{code}.strip()", 3
        elif len(value) == 10 and text.startswith(value) and _DATE.fullmatch(text):
            yield f"{code}[:10]", 3
        elif value in text and len(value) > 2:
            for sep in _SPLITS:
                parts = text.split(sep)
                if value in parts and len(parts) <= 8:
                    number = parts.index(value)
                    yield (
                        f"{code}.split({quoted(sep)})[{-1 if number and number == len(parts) - 1 else number}]",
                        5,
                    )


def _texts(known: Known, case: Case) -> Iterator[tuple[str, str]]:
    """Yield the known texts with the expressions that give them."""
    for code, values in known.inputs.known():
        if isinstance(text := values[case.trace], str):
            yield code, text
    for root in roots(case.scope):
        for steps, text in known.indexes.of(case.scope[root]).texts:
            place = Place(root, steps)
            if place.indexes:
                code = (
                    next(
                        (
                            code
                            for code, *_ in sorted(codes_of(known, place, [case]), key=lambda each: each[1])
                        ),
                        place.code,
                    )
                    if text and text.casefold()
                    else place.code
                )
            else:
                code = place.code
            yield code, text


# --- Templates: known values with text around them


def text_templates(known: Known, cases: Sequence[Case], value: str) -> Iterator[tuple[str, int]]:
    """Yield the text as a template, with the number of words around the values; nothing if it holds no known value.

    Args:
        known: What it may refer to.
        cases: All cases.
        value: The text in the first case.
    """
    if len(value) > TEMPLATE_CHARACTERS_MAX:
        return
    spans: list[tuple[int, int, str]] = []
    found = [*_embedded(known, cases, value), *_embedded_results(known, cases[0], value)]
    for text, code in sorted(found, key=lambda each: -len(each[0])):
        pattern = re.compile(
            rf"(?<!\w){re.escape(text)}(?!\w)"
            if text[0].isalnum() and text[-1].isalnum()
            else re.escape(text)
        )
        for place in pattern.finditer(value):
            start, end = place.span()
            if all(end <= other_start or start >= other_end for other_start, other_end, _ in spans):
                spans.append((start, end, code))
    if not spans:
        return
    spans.sort()
    made, glue, last = "", "", 0
    for start, end, code in spans:
        part = value[last:start]
        made += f"{_glue(part)}${{{code}}}"
        glue += f" {part}"
        last = end
    glue += f" {value[last:]}"
    if len(spans) > 1 or spans[0][:2] != (0, len(value)):
        yield made + value[last:].replace("${", "$${"), len(re.findall(r"\w+", glue))


def _glue(text: str) -> str:
    escaped = text.replace("${", "$${")
    # `$` before a value would be an escape: it stands as a text of its own.
    return f'{escaped[:-1]}${{"$"}}' if escaped.endswith("$") else escaped


def _embedded(known: Known, cases: Sequence[Case], value: str) -> Iterator[tuple[str, str]]:
    """Yield the known values that a text holds, as they are spelled in it, with their expressions; of equal ones the first."""
    case = cases[0]
    seen: set[str] = set()
    for text, code in _embedded_inputs(known, case, value):
        if text not in seen:
            seen.add(text)
            yield text, code
    for root in roots(case.scope):
        for key, ways in known.indexes.of(case.scope[root]).places.items():
            if key[:1] in b"[{tfn":
                continue
            found = [
                each for each in _spellings(parse_canonical(key)) if each[0] in value and each[0] not in seen
            ]
            codes = (
                sorted(codes_of(known, Place(root, ways[0]), cases), key=lambda each: (each[1], len(each[0])))
                if found
                else []
            )
            for text, form in found:
                seen.add(text)
                yield text, form.format(codes[0][0])


def _embedded_results(known: Known, case: Case, value: str) -> Iterator[tuple[str, str]]:
    """Yield the numbers in a text that are sums, averages or counts of what was known, with their expressions."""
    for text in dict.fromkeys(_NUMBER_IN_TEXT.findall(value)[:NUMBERS_MAX]):
        number = float(text.replace(",", ""))
        inner = replace(case, value=number)
        for code, _ in sorted(_summed(known, inner), key=lambda each: (each[1], len(each[0]))):
            forms = ("{}", "round({})", 'format({}, ".2f")', 'format({}, ",.2f")', 'format({}, ",")')
            fitting = (
                form.format(code)
                for form in forms
                if gives(f"${{str({form.format(code)})}}", replace(case, value=text))
            )
            if (form := next(fitting, None)) is not None:
                yield text, form
                break


_NUMBER_IN_TEXT: Final = re.compile(
    r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)|(?<![\w.,])\d+\.\d+(?!\w)|(?<![\w.,])\d{3,}(?!\w)"
)
"""Numbers that are long enough not to be sums by chance."""


def _embedded_inputs(known: Known, case: Case, value: str) -> Iterator[tuple[str, str]]:
    """Yield the inputs that a text holds, as they are spelled in it; names in it that the task has become inputs."""
    if known.traces == 1:
        for part in known.inputs.names_in(value):
            known.inputs.code_of([part], "name", {})
    for code, values in known.inputs.known():
        for text, form in _spellings(values[case.trace]):
            if text in value:
                yield text, form.format(code)


def _spellings(value: Json) -> Iterator[tuple[str, str]]:
    """Yield how a text may spell a value, with the form of the expression for it. Short ones are chance."""
    match value:
        case str() if len(value) > 2 and value.strip() == value:
            yield value, "{}"
        case int() if not isinstance(value, bool) and abs(value) > 9:
            yield str(value), "{}"
            if abs(value) > 999:
                yield f"{value:,}", 'format({}, ",")'
        case float():
            yield repr(value), "{}"
            yield f"{value:.2f}", 'format({}, ".2f")'
            yield f"{value:,.2f}", 'format({}, ",.2f")'
        case _:
            pass


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spelled(value: Json) -> str:
    return quoted(value) if isinstance(value, str) else canonical(value).decode()
