"""Expressions that may give a text or a number: arithmetic, counts, changes of text, and templates of known values with words around them.

Every function yields code with its tier. Nothing here is proven: `origins.py` evaluates what is proposed. Loops over pairs of values are bounded, since a
result may be large. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, cast

from ...plans.expressions.unparse import quoted
from ...plans.values import Json, parse_canonical
from .places import Case, Place, at, gives, glue, roots, tail
from .selections import DATE, LISTS_MAX, Known, codes_of, columns_of, is_number, variable_in

NUMBERS_MAX: Final = 40
"""Numbers of which pairs are added, subtracted, multiplied and divided."""

TEMPLATE_CHARACTERS_MAX: Final = 20_000
"""Of a text in which known values are looked for."""

_COUNT: Final = re.compile(r"(?i)(count|total|number|quantity|amount|size|length|how_many|^n$)")
_SPLITS: Final = ("@", "/", ":", "#", ",", "-", " ")

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
        name = variable_in(case.scope)
        columns: list[tuple[str, list[float]]] = []
        if all(is_number(each) for each in elements):
            columns.append((source.code, cast("list[float]", list(elements))))
        fields = [(each.steps, each.values) for each in columns_of(known, elements) if each.is_numeric]
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
        if is_number(values[case.trace])
    ]
    value = cast("float", case.value)
    numbers = numbers[:NUMBERS_MAX]
    for at_, (one, left) in enumerate(numbers):
        for other_at, (other, right) in enumerate(numbers):
            # Sums and products have no order, so each pair is tried once.
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
    for code, values in known.inputs.known():
        if isinstance(text := values[case.trace], str):
            yield from ((f"{code}{change}", tier) for change, tier in _changes(text, value))
    for root in roots(case.scope):
        for steps, text in known.indexes.of(case.scope[root]).texts:
            # The way to a text is looked for only once a change of it gives the value: a result may have thousands.
            if changes := list(_changes(text, value)):
                codes = sorted(codes_of(known, Place(root, steps), [case]), key=lambda each: each[1])
                yield from ((f"{codes[0][0]}{change}", tier) for change, tier in changes)


def _changes(text: str, value: str) -> Iterator[tuple[str, int]]:
    """Yield the code of each change that makes a value of a text, with its tier."""
    if value == text or len(text) < len(value) or len(text) > TEMPLATE_CHARACTERS_MAX:
        return
    if value not in text:
        methods = ("lower", "upper", "title") if text.casefold() == value.casefold() else ()
        yield from ((f".{method}()", 3) for method in methods if getattr(text, method)() == value)
    elif text.strip() == value:
        yield ".strip()", 3
    elif len(value) == 10 and text.startswith(value) and DATE.fullmatch(text):
        yield "[:10]", 3
    elif len(value) > 2:
        for sep in _SPLITS:
            parts = text.split(sep)
            if value in parts and len(parts) <= 8:
                number = parts.index(value)
                yield f".split({quoted(sep)})[{-1 if number and number == len(parts) - 1 else number}]", 5


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
    # The longest first: `Rome` must not take a part of `Rome Central`.
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
    made, around, last = "", "", 0
    for start, end, code in spans:
        part = value[last:start]
        made += f"{glue(part)}${{{code}}}"
        around += f" {part}"
        last = end
    around += f" {value[last:]}"
    if len(spans) > 1 or spans[0][:2] != (0, len(value)):
        yield made + value[last:].replace("${", "$${"), len(re.findall(r"\w+", around))


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
            # A plain word such as `sent` stands in sentences by chance.
            if key[:1] in b"[{tfn" or (root != "item" and _PLAIN_WORD.fullmatch(key)):
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


_PLAIN_WORD: Final = re.compile(rb'"[a-z]+"')


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
        # What is the same in all traces is part of the task, and no input.
        if known.traces > 1 and all(each == values[0] for each in values):
            continue
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
