"""A literal of a plan and where it stands: replaced by a reference, and looked for.

Between the holes of a text it is a word, inside them a quoted text; as a value it is itself. Works on the plan's JSON. Pure.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

from ..plans.expressions.lexical import find_hole
from ..plans.renaming import PLACES
from ..plans.values import Json

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
        hole = find_hole(text, start + 2)
        made += [
            outside(text[at:start]),
            "${",
            inside(text[hole.start : hole.end]),
            text[hole.end : hole.end + 1],
        ]
        at = hole.end + 1
    return "".join([*made, outside(text[at:])])


def texts(raw: _Raw) -> Iterator[str]:
    """Yield every text of the steps and the output that means something; `why` is for people."""
    parts: list[Json] = [raw["steps"], raw.get("output"), raw.get("plans")]
    while parts:
        match parts.pop():
            case str() as text:
                yield text
            case list() as items:
                parts += items
            case dict() as fields:
                parts += [each for key, each in fields.items() if key != "why"]
            case _:
                pass


def still_says(text: str, value: str | float) -> bool:
    """Whether a text names a value: a text as a word anywhere, a number in an expression."""
    if isinstance(value, str):
        return word_pattern(value).search(text) is not None
    codes: list[str] = []

    def note(code: str) -> str:
        codes.append(code)
        return code

    _by_parts(text, lambda part: part, note)
    return any(float(found) == value for code in codes for found in _NUMBER.findall(code))


def _literal(code: str) -> object:
    try:
        return ast.literal_eval(code)
    except (ValueError, SyntaxError):
        return None


def word_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a text as a word of its own, not as a hole."""
    return re.compile(rf"(?<![\w{{]){re.escape(text)}(?![\w}}])")
