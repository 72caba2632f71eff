"""Guards of every kind: data, code, pydantic, quotes, and a model that judges."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

import pytest
from firmplan import ConfigError
from firmplan.testing import ScriptedModel, Text
from firmplan.tools import Model, ModelError, Models, ask_request
from firmplan.tools.guards.guard import Question, check_guards, find_refusal
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter

NOTHING = Question("")


class Person(BaseModel):
    """Somebody."""

    age: int = Field(ge=0)


def even(value: int) -> int:
    if value % 2:
        raise ValueError("expected an even number")
    return value


@pytest.mark.parametrize(
    ("guard", "good", "bad", "words"),
    [
        (Person, {"age": 3}, {"age": -3}, "age: Input should be greater than or equal to 0"),
        (TypeAdapter(Annotated[int, Field(gt=1)]), 2, 0, "greater than 1"),
        (AfterValidator(even), 2, 3, "expected an even number"),
        (even, 0, 1, "expected an even number"),
    ],
)
def test_pydantic_holds_answers_to_its_word(guard, good, bad, words):
    """Models, adapters and validators accept a value or say what is wrong, without links and inputs."""
    check_guards("here", [guard])
    assert find_refusal(good, [guard], NOTHING) is None
    fault = find_refusal(bad, [guard], NOTHING).detail
    assert words in fault
    assert "http" not in fault


@pytest.mark.parametrize(
    "guard",
    [{"judge": ""}, {"judge": 3}, {"judge": "x", "regex": "y"}, {"model": "m"}, {"judge": "x", "model": 3}],
)
def test_a_judge_has_a_condition_in_words(guard):
    """And an alias at most beside it."""
    with pytest.raises(ConfigError, match=r"here: guard\[0\]: (judge|model)"):
        check_guards("here", [guard])


def ask(answers, verdicts, guard, **options):
    async def main():
        async with ScriptedModel(answers) as author, ScriptedModel(verdicts) as judge:
            models = Models({"default": Model("m", author.base_url), "strict": Model("j", judge.base_url)})
            request = ask_request("Thank Ada.", guard=guard, **options)
            try:
                reply = await models.ask(request)
            except ModelError as error:
                reply = error
            return reply, author.requests, judge.requests, models.key_parts(request)

    return asyncio.run(main())


POLITE = {"judge": "It is polite", "model": "strict"}


def test_what_a_judge_refuses_is_written_again():
    """The author is told the condition and the judge's reason; the judge sees question and answer as data."""
    no, yes = {"reason": "It shouts.", "holds": False}, {"reason": "It is kind.", "holds": True}
    reply, author, judge, parts = ask([Text("THANKS"), Text("Thank you, Ada.")], [no, yes], [POLITE])
    assert (reply.value, reply.usage.requests) == ("Thank you, Ada.", 4)
    told = author[1]["messages"][-1]["content"]
    assert "It is polite" in told
    assert "It shouts." in told
    asked = judge[0]["messages"][-1]["content"]
    assert re.search(r"<question-(\d+)>Thank Ada.</question-\1>\n\n<answer-\1>THANKS</answer-\1>", asked)
    assert any("j at " in each for each in parts["judges"])


def test_a_judge_is_asked_last_and_within_the_bound():
    """Guards that cost nothing come first, and a judge that never agrees ends with the answer's tries."""
    no = {"reason": "No.", "holds": False}
    reply, author, judge, _ = ask(
        [Text("long"), Text("ok")], [{"reason": "", "holds": True}], [POLITE, {"max_length": 3}]
    )
    assert (reply.value, len(judge)) == ("ok", 1)
    reply, author, judge, _ = ask([Text("x")] * 9, [no] * 9, [POLITE])
    assert (reply.code, len(author), len(judge)) == ("bad-output", 3, 3)


def test_a_judge_that_talks_is_no_verdict():
    """Its answers are held to the verdict's type; none at all fails the call."""
    reply, _, judge, _ = ask([Text("x")], [Text("Well, it depends.")] * 9, [POLITE])
    assert (reply.code, len(judge)) == ("bad-output", 2)


def test_a_guard_that_goes_wrong_fails_the_call():
    """What is no `ValueError` is a fault of the guard: no other answer would help, and what was spent is told."""

    def wrong(value):
        return value["nothing"]

    reply, author, _, _ = ask([Text("x")] * 9, [], [wrong])
    assert (reply.code, len(author), reply.usage.requests) == ("guard-failed", 1, 1)
    assert str(reply).startswith("the guard 'wrong' went wrong: TypeError: ")


def test_a_guard_answers_at_once():
    """An async function would never be heard: it is refused where it is given."""

    async def later(_value):
        return "no"

    with pytest.raises(ConfigError, match=r"here: guard\[0\]: .* the async function 'later'"):
        check_guards("here", [later])
