"""A report's words for slips: where an expression stops being one, and what to write for a value that may be missing."""

from __future__ import annotations

from typing import Any, NotRequired

import pytest
from firmplan import check, tool
from typing_extensions import TypedDict

# expression -> what is marked in it, words of the message, words of the hint
OBJECTIONS = {
    "1 +": ("+", "it ends after '+', where a value is expected", "write what follows '+'"),
    "x ==": ("==", "it ends after '=='", "'=='"),
    "a and": ("and", "it ends after 'and'", "write what follows 'and'"),
    "a b": ("b", "expected an operator before 'b' (column 3)", "put an operator or a comma between"),
    "a.b.c d": ("d", "expected an operator before 'd' (column 7)", "text stands in quotes"),
    "[1 2]": ("1 2", "'1 2' are two values (column 2)", "put an operator or a comma between"),
    "x = 1": ("=", "found '=' where no such thing can stand (column 3)", "compare with '=='"),
    "a === b": ("===", "(column 3)", "compare with '=='"),
    "a => b": ("=>", "(column 3)", "write: >="),
    "a <> b": ("<>", "(column 3)", "write: !="),
    "x := 3": (":=", "(column 3)", "by a step of its own"),
    "x++": ("++", "it ends after '++'", "write: x + 1"),
    "a..b": ("..", "(column 2)", "one dot reaches into a value"),
    "if a then b": ("if", "(column 1)", "write: x if condition else y"),
    "for x in y": ("for", "(column 1)", "write a list: [x.field for x in xs]"),
    "import os": ("import", "(column 1)", "statements are no part of the language"),
    "a.1": (".", "(column 2)", "positions stand in brackets: x[0]"),
    "é b": ("b", "expected an operator before 'b' (column 3)", "put an operator"),
}


@pytest.mark.parametrize("text", OBJECTIONS)
def test_an_objection_shows_the_place_and_the_nearest_rule(text):
    """What is no expression is told with the word that is at fault, its column, and what to write."""
    marked, message, hint = OBJECTIONS[text]
    template = f"before ${{{text}}} after"
    report = check({"firmplan": 1, "steps": [{"id": "s", "set": template}], "output": "${s}"}, [])
    (found,) = [each for each in report.problems if each.code == "bad-expr"]
    assert template[slice(*found.at)] == marked
    assert found.message.startswith("not an expression: ")
    assert message in found.message
    assert hint in found.hint
    assert "invalid syntax" not in found.message


class Weather(TypedDict):
    """What the tool of these tests says."""

    celsius: float
    note: NotRequired[str]
    maybe: str | None


@tool(effect="read")
def weather() -> Weather:
    """Tell the weather."""
    return {"celsius": 1.0, "maybe": None}


@tool(effect="read")
def find() -> str | None:
    """Find something."""


@tool(effect="read")
def ask() -> bool | None:
    """Tell whether it is so."""


@tool(effect="read")
def listed() -> list[str] | None:
    """List something."""


@tool(effect="pure")
def say(text: str, texts: list[str] = [], by: dict[str, str] = {}) -> str:  # noqa: B006  # nothing changes them
    """Say it."""
    return text


TOOLS = [weather, find, ask, listed, say]
W, F, Q, L = ({"id": name, "tool": each.name} for name, each in zip("wfql", TOOLS, strict=False))
SKIPPED = {"id": "s", "tool": "weather", "when": "${w.celsius > 1}"}


def saying(**args: Any) -> dict[str, Any]:
    return {"id": "a", "tool": "say", "args": {"text": "x", **args}}


MISSING = {
    "null field": ([W, saying(text="${w.maybe}")], "first(w.maybe, a value for that case)"),
    "null step": ([F, saying(text="${ f }")], "first(f, a value for that case)"),
    "absent field": ([W, saying(text="${w.note}")], "first(w.note, a value for that case)"),
    "in a list": ([W, saying(texts=["${w.maybe}"])], "first(w.maybe, a value for that case)"),
    "in an object": ([F, saying(by={"q": "${f}"})], "first(f, a value for that case)"),
    "a condition": ([Q, {"id": "a", "set": 1, "when": "${q}"}], "first(q, False)"),
    "a list": ([L, {"id": "a", "set": 1, "for_each": "${l}"}], "first(l, [])"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_value_that_may_be_missing_is_named_in_its_hint(name):
    """The suggested `first(..)` is the plan's own expression, ready to be copied."""
    steps, expected = MISSING[name]
    report = check({"firmplan": 1, "steps": steps, "output": "${first(a, 1)}"}, TOOLS)
    assert [each.hint for each in report.problems if each.code == "maybe-missing"] == [f"write {expected}"]


OUTPUTS = {
    "${s.celsius}": "s.celsius",
    "${1 + s.celsius}": "s.celsius",
    '${[s["celsius"], 2]}': 's["celsius"]',
    "${first(s, s.celsius)}": "s.celsius",
    "It is ${s} now": "s",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_may_be_skipped_is_named_in_its_hint(output):
    """The widest reference to the step that may be skipped stands in the suggestion."""
    report = check({"firmplan": 1, "steps": [W, SKIPPED], "output": output}, TOOLS)
    hints = [each.hint for each in report.problems if each.code == "maybe-missing"]
    assert hints == [f"write first({OUTPUTS[output]}, a value for that case)"]
