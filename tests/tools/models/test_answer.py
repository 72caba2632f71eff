"""Reading is generous about wrapping and strict about the value; guards are conditions on it."""

from __future__ import annotations

import pytest
from firmplan.errors import ConfigError
from firmplan.tools.guards.guard import Question, check_guards, find_refusal
from firmplan.tools.models.answer import AnswerForm, InvalidAnswer, NoJson

THING = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ASKED = Question("The bill is 30 euros, due on Monday.")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        ' {"a": 1.0}\n',
        '```json\n{"a": 1}\n```',
        'You said {"a": 9}. My answer: {"a": 1}. Good?',
        'First:\n```\n{"a": 9}\n```\nThen:\n```json\n{"a": 1}\n```',
        '"{\\"a\\": 1}"',
    ],
)
def test_json_is_found_in_its_wrapping(text):
    """Fences, prose, JSON in a string; the last one counts, since earlier ones may be quoted."""
    assert AnswerForm(THING).read(text) == {"a": 1}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "integer"}, '{"answer": 3}', 3),
        ({"type": "integer"}, "3", 3),
        ({"enum": ["x", "y"]}, '"x"', "x"),
        ({"enum": ["x", "y"]}, " x\n", "x"),
        ({}, '{"answer": 3}', 3),
        ({}, "just words", "just words"),
        ({"$ref": "#/$defs/T", "$defs": {"T": THING}}, '{"a": 1}', {"a": 1}),
        ({"type": "string", "description": "any"}, " free text ", "free text"),
    ],
)
def test_values_that_are_no_objects_are_wrapped_or_bare(schema, text, value):
    """The wire wants an object, models do not always mind."""
    assert AnswerForm(schema).read(text) == value


def test_what_does_not_fit_says_why():
    """A fault of the value names it; no JSON at all is a fault of its own."""
    with pytest.raises(InvalidAnswer, match="expected the field 'a'"):
        AnswerForm(THING).read("{}")
    for text in ("", "none"):
        with pytest.raises(NoJson):
            AnswerForm(THING).read(text)


@pytest.mark.parametrize(
    ("guard", "good", "bad"),
    [
        ({"max_length": 3}, "abc", "abcd"),
        ({"min_length": 1}, "a", ""),
        ({"regex": "^[A-Z]"}, "Ab", "ab"),
        ({"quotes": True}, "30  Euros", "40 euros"),
        ({"field": "s", "max_length": 2}, {"s": ["ab", "c"]}, {"s": ["abc"]}),
        (lambda value: value == "yes", "yes", "no"),
        (lambda value: None if value else "say something", "x", ""),
        (int, "7", "seven"),
    ],
)
def test_a_guard_holds_or_complains_in_a_sentence(guard, good, bad):
    """Each guard lets the good pass and says what is wrong with the bad."""
    check_guards("here", [guard])
    assert find_refusal(good, [guard], ASKED) is None
    assert find_refusal(bad, [guard], ASKED)


@pytest.mark.parametrize("guard", [3, {}, {"max_len": 3}, {"regex": "("}, {"max_length": "x"}])
def test_what_is_no_guard_is_refused(guard):
    """Guards are checked where they are written."""
    with pytest.raises(ConfigError, match=r"here: guard\[0\]"):
        check_guards("here", [guard])
