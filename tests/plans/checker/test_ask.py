"""Guards and examples of an `ask` step are data: what is wrong with them is a fault of the check, and not of the run."""

from __future__ import annotations

import pytest
from firmplan import check

THING = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "tags"],
}


def found(**ask):
    """Return the faults of a plan whose second step asks so: code, place in the ask, message and hint."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "s", "set": 3}, {"id": "a", "ask": {"prompt": "Say ${s}", **ask}}],
        "output": "${a}",
    }
    report = check(plan, [])
    return [
        (each.code, each.path.removeprefix("$.steps[1].ask"), f"{each.message}; {each.hint}")
        for each in report.problems
    ]


@pytest.mark.parametrize(
    ("guard", "code", "path", "words"),
    [
        (3, "bad-shape", ".guard[0]", "found the integer 3"),
        ({}, "bad-shape", ".guard[0]", "found an empty object"),
        ({"max_len": 3}, "bad-shape", ".guard[0].max_len", "did you mean 'max_length'"),
        ({"max_length": "x"}, "bad-literal", ".guard[0].max_length", "a number of characters"),
        ({"min_length": -1}, "bad-literal", ".guard[0].min_length", "0 or more"),
        ({"max_length": True}, "bad-literal", ".guard[0].max_length", "found true"),
        ({"regex": "("}, "bad-literal", ".guard[0].regex", "a regular expression"),
        ({"regex": 3}, "bad-literal", ".guard[0].regex", "found the integer 3"),
        ({"quotes": "yes"}, "bad-literal", ".guard[0].quotes", "true or false"),
        ({"judge": " "}, "bad-literal", ".guard[0].judge", "a condition in words"),
        ({"judge": "x", "regex": "y"}, "bad-shape", ".guard[0]", "nothing beside it"),
        ({"model": "m"}, "bad-shape", ".guard[0].model", "expected 'judge' or 'toxicity' beside it"),
        ({"judge": "x", "model": 3}, "bad-literal", ".guard[0].model", "the alias of a model"),
        ({"field": "titel", "max_length": 3}, "bad-literal", ".guard[0].field", "did you mean 'title'"),
    ],
)
def test_what_is_no_guard_is_a_fault_where_it_stands(guard, code, path, words):
    """Expected, found, where, and what to do."""
    ((a_code, a_path, message),) = found(returns=THING, guard=[guard])
    assert (a_code, a_path) == (code, path)
    assert words in message


def test_guards_that_are_guards_pass():
    """All kinds; a field of every item of a list, and of an answer whose fields are not known."""
    guards = [
        {"max_length": 3, "min_length": 0, "regex": "^[A-Z]"},
        {"quotes": True},
        {"field": "title", "quotes": False},
        {"judge": "It is polite", "model": "small"},
    ]
    assert found(returns=THING, guard=guards) == []
    assert found(returns={"type": "array", "items": THING}, guard=[{"field": "title", "max_length": 3}]) == []
    assert found(returns={"type": "object"}, guard=[{"field": "any", "max_length": 3}]) == []
    ((code, path, _),) = found(guard=[{"max_length": 3}, {"field": "x", "max_length": 3}])
    assert (code, path) == ("bad-literal", ".guard[1].field"), "a text has no fields"


@pytest.mark.parametrize(
    "examples",
    [
        [{"input": "a", "output": {"title": "t", "tags": ["x"]}}],
        [{"in": "a", "out": {"title": "${str(s)}", "tags": []}}],
        [["a", {"title": "t", "tags": ["${str(s)}"]}]],
        [{"input": "a", "output": '{"title": "t", "tags": []}'}],
        ['${{"input": "a", "output": 7}}'],
        '${[{"input": "a"}]}',
        [],
    ],
)
def test_examples_that_are_examples_pass(examples):
    """Under each of their names, as pairs, with computed parts, and wholly computed: of these nothing is known."""
    assert found(returns=THING, examples=examples) == []


@pytest.mark.parametrize(
    ("example", "code", "path", "words"),
    [
        ("a", "bad-shape", ".examples[0]", '{"input": .., "output": ..}'),
        ({"input": "a"}, "bad-shape", ".examples[0]", "found an object"),
        ({"input": "a", "ouput": "b"}, "bad-shape", ".examples[0]", "found an object"),
        (["a"], "bad-shape", ".examples[0]", "found a list"),
        ({"input": "a", "output": "b"}, "bad-literal", ".examples[0].output", "expected"),
        (["a", '{"title": 3, "tags": []}'], "bad-literal", ".examples[0][1].title", "3"),
        (["a", {"title": 3, "tags": []}], "bad-literal", ".examples[0][1].title", "3"),
        (
            {"input": "a", "output": {"title": "${s}", "tags": []}},
            "type-mismatch",
            ".examples[0].output.title",
            "",
        ),
        (
            {"input": "a", "output": {"title": "${t}", "tags": []}},
            "unknown-ref",
            ".examples[0].output.title",
            "",
        ),
    ],
)
def test_an_example_that_teaches_another_answer_is_a_fault(example, code, path, words):
    """Its answer has to be of the type that is wanted; a part that cannot be computed is told once."""
    ((a_code, a_path, message),) = found(returns=THING, examples=[example])
    assert (a_code, a_path) == (code, path)
    assert words in message
