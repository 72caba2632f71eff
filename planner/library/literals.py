"""A literal of a plan and where it stands: replaced by a reference, and looked for.

Between the holes of a text it is a word, inside them a quoted text; as a value it is itself. Works on the plan's JSON. Pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

from ...plans.edit.renaming import PLACES
from ...plans.expressions.lexical import find_placeholder
from ...plans.values import Json

_QUOTED = re.compile(r"""(?<![\w"'])("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")
_Raw: TypeAlias = dict[str, Any]


def rewritten(raw: _Raw, value: str | float, reference: str) -> _Raw:
    """Return the plan with a value replaced by a reference, wherever a template may stand."""
    steps: list[_Raw] = []
    for step in cast("list[_Raw]", raw["steps"]):
        made: _Raw = {**step}
        for *way, last in PLACES:
            holder = made.get(way[0]) if way else made
            if isinstance(holder, dict) and last in holder:
                new = {**cast("_Raw", holder), last: _replaced(cast("_Raw", holder)[last], value, reference)}
                made = {**made, way[0]: new} if way else new
        steps.append(made)
    output = {"output": _replaced(raw["output"], value, reference)} if "output" in raw else {}
    return {**raw, "steps": steps, **output}


def _replaced(part: object, value: str | float, reference: str) -> object:
    match part:
        case dict():
            return {key: _replaced(each, value, reference) for key, each in cast("_Raw", part).items()}
        case list():
            return [_replaced(each, value, reference) for each in cast("list[object]", part)]
        case str() if isinstance(value, str):
            return _in_text(part, value, reference)
        case _ if type(part) is type(value) and part == value:
            return f"${{{reference}}}"
        case _:
            return part


def _in_text(text: str, value: str, reference: str) -> str:
    """Return a template with a text replaced: between holes as a word, inside them as a quoted literal."""

    def word(part: str) -> str:
        return word_pattern(value).sub(lambda _: f"${{{reference}}}", part)

    def quoted(found: re.Match[str]) -> str:
        return reference if _literal(found[1]) == value else found[0]

    return _by_parts(text, word, lambda code: _QUOTED.sub(quoted, code))


def _by_parts(text: str, outside: Callable[[str], str], inside: Callable[[str], str]) -> str:
    """Return a template with the text between its holes, and the code in them, each made anew."""
    made: list[str] = []
    at = 0
    while (start := text.find("${", at)) >= 0:
        if start > 0 and text[start - 1] == "$":
            made.append(outside(text[at : start + 2]))
            at = start + 2
            continue
        hole = find_placeholder(text, start + 2)
        made += [
            outside(text[at:start]),
            "${",
            inside(text[hole.start : hole.end]),
            text[hole.end : hole.end + 1],
        ]
        at = hole.end + 1
    return "".join([*made, outside(text[at:])])


def is_said(raw: _Raw, value: str | float, *, everywhere: bool = False) -> bool:
    """Whether steps, output or inner plans of a plan still name a value; `why` is for people.

    Args:
        raw: The plan.
        value: A text or a number.
        everywhere: Whether to search also the numbers in a step's settings, such as `retries`, and not only the places for templates.
    """
    steps = cast("list[_Raw]", raw["steps"])
    holders: list[Json] = [raw.get("output"), raw.get("plans"), *(_templates(step) for step in steps)]
    # Texts outside templates count too: the task may mean a tool or a step of that name.
    beside = [leaf for leaf in _leaves(raw["steps"]) if everywhere or isinstance(leaf, str)]
    return any(_says(leaf, value) for leaf in (*_leaves(holders), *beside))


def _templates(step: _Raw) -> list[Json]:
    """Return the parts of a step in which templates may stand."""
    found: list[Json] = []
    for *way, last in PLACES:
        holder = step.get(way[0]) if way else step
        if isinstance(holder, dict):
            found.append(cast("_Raw", holder).get(last))
    return found


def _leaves(part: Json) -> Iterator[str | int | float]:
    """Yield every meaningful text and number in a part of a plan."""
    parts: list[Json] = [part]
    while parts:
        match parts.pop():
            case list() as items:
                parts += items
            case dict() as fields:
                parts += [each for key, each in fields.items() if key != "why"]
            case bool() | None:
                pass
            case leaf:
                yield leaf


def _says(leaf: str | float, value: str | float) -> bool:
    """Whether a text or a number of a plan names a value: as a word of its own, or as a number of equal value."""
    if not isinstance(leaf, str):
        return leaf == value or str(leaf) == str(value)
    if place_pattern(str(value)).search(leaf) is not None:
        return True
    if isinstance(value, str):
        return word_pattern(value).search(leaf) is not None
    codes: list[str] = []

    def note(code: str) -> str:
        codes.append(code)
        return code

    _by_parts(leaf, lambda part: part, note)
    return any(float(found) == value for code in codes for found in _NUMBER.findall(code))


def _literal(code: str) -> object:
    try:
        return ast.literal_eval(code)
    except (ValueError, SyntaxError):
        return None


def word_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a text as a word of its own, not as a hole."""
    return re.compile(rf"(?<![\w{{]){re.escape(text)}(?![\w}}])")


def place_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a text in a task, as a word of its own: of `3`, not the `3` of `3.5`, `1,300` or `-3`."""
    before = r"(?<!\d[.,])(?<!(?<!\w)[-+])" if text[:1].isdigit() else ""
    after = r"(?![.,]\d)" if text[-1:].isdigit() else ""
    return re.compile(rf"(?<![\w{{]){before}{re.escape(text)}{after}(?![\w}}])")
