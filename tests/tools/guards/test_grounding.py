"""A claim stands only with a quote that stands in its source, word for word."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import ConfigError, Engine, agent, check, tool
from firmplan.testing import ScriptedModel
from firmplan.tools import Model, Models, ask_request
from firmplan.tools.guards.guard import Question, find_refusal
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

SOURCE = (
    "The library \u201copens\u201d at 9\u00a0a.m. \u2014 also on Sundays.\n  A card costs 10.50 euros a year; "
    "children pay nothing. It was \ufb01nished in 1904, and is 1,250 m\u00b2 large. At -5 degrees it closes."
)


def refusal(quote, guard=None, source=SOURCE):
    answer = {"claims": [{"text": "x", "quote": quote}]}
    return find_refusal(answer, [guard or {"grounded": "claims"}], Question("", {"page": source}))


@pytest.mark.parametrize(
    "quote",
    [
        "A card costs 10.50 euros a year",
        "a CARD   costs\n10.50 euros",
        '"A card costs 10.50 euros"',
        'The library "opens" at 9 a.m. - also on Sundays.',
        "It was finished in 1904",
        "\u200bchildren pay nothing",
        "is 1,250 m2 large",
        "At -5 degrees it closes.",
    ],
)
def test_words_of_the_source_stand_whatever_their_typography(quote):
    """Case, white space, quotation marks, dashes, ligatures and characters without width do not count."""
    assert refusal(quote) is None


@pytest.mark.parametrize(
    ("quote", "words"),
    [
        ("A card costs 10.5", "does not stand there"),
        ("A card costs 10", "does not stand there"),
        ("50 euros a year", "does not stand there"),
        ("250 m2 large. At", "does not stand there"),
        ("5 degrees it closes", "does not stand there"),
        ("ildren pay nothing", "does not stand there"),
        ("children pay noth", "does not stand there"),
        ("A card costs ... a year", "without omissions"),
        ("A card costs 11.50 euros", "does not stand there"),
        ("a year", "at least 12 characters"),
        ("          a            ", "at least 12 characters"),
        ("", "at least 12 characters"),
        (None, "expected a quote from the source, found none"),
        (7, "expected a quote from the source, found none"),
    ],
)
def test_what_is_no_quote_is_refused(quote, words):
    """Cut numbers and words, omissions, changed words, quotes that stand anywhere, and claims without one."""
    found = refusal(quote)
    assert found is not None
    assert words in found.detail
    assert found.detail.startswith("claims[0].quote: ")
    assert not quote or str(quote) not in found.why


@pytest.mark.parametrize("answer", [{}, {"claims": None}, {"claims": {"quote": SOURCE}}, [], "x", None])
def test_an_answer_without_a_list_of_claims_is_refused(answer):
    """Else an answer could pass by leaving the list out."""
    assert find_refusal(answer, [{"grounded": "claims"}], Question(SOURCE)) is not None


def test_every_claim_is_looked_at_and_a_quote_is_from_one_source():
    """The place of the first bad claim is told; two sources are never read as one."""
    guard = {"grounded": True, "quote": "says", "source": ["a", "b"], "min_length": 4}
    question = Question("", {"a": "red and green", "b": ["blue and grey"], "c": "black"})
    good = {"says": "red and green"}
    assert find_refusal([good, {"says": "blue and"}], [guard], question) is None
    for bad in ("green blue", "black"):
        found = find_refusal([good, {"says": bad}], [guard], question)
        assert found is not None
        assert found.why.startswith("[1].says: ")


@given(st.text(min_size=1, max_size=80), st.data())
def test_whole_words_cut_from_a_source_always_stand(text, data):
    """A law: any row of words of a text is a quote of it, in capitals too."""
    words = [word for word in text.split() if word.strip("\"'")]
    if not words:
        return
    start = data.draw(st.integers(0, len(words) - 1))
    quote = " ".join(words[start : data.draw(st.integers(start + 1, len(words)))])
    source = " ".join(words)
    guard = {"grounded": "claims", "min_length": 1}
    found = refusal(quote, guard, source)
    assert found is None or "at least 1 character" in found.why


class Claim(BaseModel):
    """A claim with the words that bear it out."""

    text: str
    quote: str


class Findings(BaseModel):
    """Claims."""

    claims: list[Claim]


GUARD = {"grounded": "claims", "source": "page"}


@agent(guard=[GUARD])
def read(page: str, topic: str) -> Findings:
    """Say what the page tells about ${topic}, each claim with a quote: ${page}."""


def test_an_agent_is_asked_again_until_its_quotes_stand():
    """The words of another parameter, or of the prompt, are no source; the model is told which quote is wrong."""
    wrong = {"claims": [{"text": "x", "quote": "Say what the page tells"}]}
    topic = {"claims": [{"text": "x", "quote": "the prices of the cards"}]}
    right = {"claims": [{"text": "x", "quote": "A card costs 10.50 euros"}]}

    async def main():
        async with ScriptedModel([wrong, topic, right]) as model:
            models = Models({"default": Model("m", model.base_url)})
            request = read.request_of({"page": SOURCE, "topic": "the prices of the cards"})
            return await models.ask(request), model.requests

    reply, requests = asyncio.run(main())
    assert reply.value == right
    assert "does not stand there" in requests[1]["messages"][-1]["content"]
    assert reply.guards["grounded"]["refused"] == 2
    assert reply.guards["grounded"]["held"] == 1


def test_the_source_of_an_ask_step_is_its_prompt():
    """Not its system message and not its examples."""
    request = ask_request(
        "Quote this: the sea is salty and deep",
        system="You know that the moon is made of rock",
        returns={"type": "object"},
        guard=[{"grounded": "claims"}],
    )
    question = Question("all of it: the moon is made of rock", request.sources)
    for quote, stands in (("the sea is salty and deep", True), ("the moon is made of rock", False)):
        answer = {"claims": [{"quote": quote}]}
        assert (find_refusal(answer, request.guard, question) is None) is stands


def test_what_expressions_put_into_a_prompt_is_its_source():
    """Then the author's own words are none, and a value that is an object is quoted by its texts."""
    page = {"text": 'They said "never again" and left.', "n": 1}
    step = {
        "prompt": "Quote what was said on this page: ${inputs.page}",
        "returns": Findings.model_json_schema(),
    }
    step["guard"] = [{"grounded": "claims"}]
    plan = {
        "firmplan": 1,
        "inputs": {"page": {"type": "object"}},
        "steps": [{"id": "a", "ask": step}],
        "output": "${a}",
    }
    wrong = {"claims": [{"text": "x", "quote": "Quote what was said"}]}
    right = {"claims": [{"text": "x", "quote": 'said "never again" and'}]}

    async def main():
        async with ScriptedModel([wrong, right]) as model:
            models = {"default": Model("m", model.base_url)}
            async with Engine([], store="memory:", models=models) as engine:
                return await engine.run(plan, inputs={"page": page})

    run = asyncio.run(main())
    assert run.output == right
    assert run.steps["a"].guards["grounded"] == {
        "held": 1,
        "refused": 1,
        "why": "claims[0].quote: expected words of the source, word for word and without omissions",
    }


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ({"grounded": "facts"}, "grounded: expected one of the answer's fields claims, found 'facts'"),
        ({"grounded": False}, "the field with the list of claims"),
        ({"grounded": "claims", "source": "page"}, "the source of an `ask` step is its prompt"),
        ({"grounded": "claims", "min_length": 0}, "an empty quote stands in every source"),
        ({"grounded": "claims", "max_length": 3}, "nothing beside it but quote, min_length, source"),
        ({"quote": "says"}, "expected 'grounded' beside it"),
    ],
)
def test_what_is_no_such_guard_is_a_fault_of_the_plan(guard, words):
    """Where it stands, before a run."""
    ask = {"prompt": "Hi", "returns": Findings.model_json_schema(), "guard": [guard]}
    plan = {"firmplan": 1, "steps": [{"id": "a", "ask": ask}], "output": "${a}"}
    problems = check(plan, []).problems
    assert any(words in problem.message for problem in problems), problems


def test_a_source_is_a_parameter():
    """Of the agent and of the tool; the nearest name is told."""

    def cite(page: str) -> Findings:
        """Cite ${page}."""
        return Findings(claims=[])

    for make in (agent, tool(effect="pure", guard=[{**GUARD, "source": "pages"}])):
        with pytest.raises(ConfigError, match=r"found 'pages'; did you mean 'page'"):
            make(guard=[{**GUARD, "source": "pages"}])(cite) if make is agent else make(cite)
