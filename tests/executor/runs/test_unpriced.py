"""A model without a price costs `None`, never 0; a budget in dollars over one is refused before anything is asked."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, InputRejected, Model, Planner, agent, tool
from firmplan.testing import HttpError, ScriptedModel
from firmplan.tools import Models

ASK = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "One"}}], "output": "${a}"}
PURE = {"firmplan": 1, "steps": [{"id": "a", "tool": "one"}], "output": "${a}"}


@tool(effect="pure")
def one() -> int:
    """Return 1."""
    return 1


@tool(effect="read", guard=[{"judge": "It is a number"}])
def judged() -> int:
    """Return 1, judged."""
    return 1


@agent(model="fast")
def classify(text: str) -> str:
    """Classify ${text}."""


def priced(*names):
    return {"prices": 1, "models": [{"model": name, "input": 1.0, "output": 4.0} for name in names]}


def story(act, *, prices=None, replies=lambda _: "yes", planner=None, **specs):
    """Run `act(engine)` against a scripted model; return what it returns, or its error, and the number of requests."""

    async def main():
        async with ScriptedModel(replies) as model:
            made = {alias: spec(model.base_url) for alias, spec in specs.items()}
            made.setdefault("default", Model("m", model.base_url))
            options = {} if planner is None else {"planner": Planner(planner, base_url=model.base_url)}
            async with Engine(
                [one, judged, classify], store="memory:", models=Models(made, prices=prices), **options
            ) as engine:
                try:
                    found = await act(engine)
                except InputRejected as refused:
                    found = refused
                return found, len(model.requests)

    return asyncio.run(main())


def run_of(plan, **options):
    async def act(engine):
        return await engine.run(plan, budget={"usd": 1.0}, **options)

    return act


@pytest.mark.parametrize(
    ("plan", "who"),
    [
        (ASK, "step 'a'"),
        (
            {**ASK, "steps": [{"id": "b", "agent": {"goal": "g", "tools": ["one"]}}], "output": None},
            "step 'b'",
        ),
        ({**PURE, "steps": [{"id": "a", "tool": "judged"}]}, "step 'a'"),
        ({**PURE, "steps": [{"id": "a", "tool": "classify", "args": {"text": "x"}}]}, "step 'a'"),
        (
            {
                "firmplan": 1,
                "plans": {"inner": {"steps": [{"id": "deep", "ask": {"prompt": "x"}}], "output": "${deep}"}},
                "steps": [{"id": "a", "plan": "inner"}],
            },
            "step 'deep'",
        ),
    ],
)
def test_a_budget_in_dollars_over_an_unpriced_model_is_refused(plan, who):
    """For prompts, agents, judges, `@agent` tools and inner plans; the message names the model and what to write; nothing is asked."""
    specs = {"fast": lambda url: Model("small", url)}
    refused, asked = story(run_of(plan), **specs)
    assert isinstance(refused, InputRejected)
    assert (refused.code, asked) == ("unpriced-model", 0)
    assert who in str(refused)
    assert "FIRMPLAN_PRICES" in str(refused)


def test_an_unpriced_fallback_is_refused_too():
    """It may be the one that answers."""
    specs = {"default": lambda url: [Model("m", url), Model("other", url)]}
    refused, asked = story(run_of(ASK), prices=priced("m"), **specs)
    assert (refused.code, asked) == ("unpriced-model", 0)
    assert "'other'" in str(refused)
    done, asked = story(run_of(ASK), prices=priced("m", "other"), **specs)
    assert (done.status, asked) == ("succeeded", 1)
    assert done.usage["usd"] > 0


def test_a_plan_that_asks_no_model_runs_with_any_budget():
    """Nothing in it can cost."""
    done, asked = story(run_of(PURE))
    assert (done.status, done.usage["usd"], asked) == ("succeeded", 0.0, 0)


def test_the_price_zero_is_a_price():
    """A model of one's own is free if its owner says so."""
    free = {"prices": 1, "models": [{"model": "m", "input": 0, "output": 0}]}
    done, _ = story(run_of(ASK), prices=free)
    assert (done.status, done.usage["usd"]) == ("succeeded", 0.0)


def test_an_unpriced_model_costs_none():
    """In the run, in the step, and also where another call of the run has a price."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "a", "ask": {"prompt": "One"}},
            {"id": "b", "ask": {"prompt": "Two", "model": "fast"}},
        ],
    }

    async def act(engine):
        return await engine.run(plan)

    done, _ = story(act, prices=priced("m"), fast=lambda url: Model("small", url))
    assert done.usage["usd"] is None
    assert done.steps["a"].cost > 0
    assert done.steps["b"].cost is None


def test_a_task_within_dollars_needs_a_priced_planner():
    """The planner is a model too; the engine's own prices count for it."""
    refused, asked = story(run_of("Return one"), replies=lambda _: PURE, planner="m")
    assert (refused.code, asked) == ("unpriced-model", 0)
    assert "the planner" in str(refused)
    done, asked = story(run_of("Return one"), replies=lambda _: PURE, planner="m", prices=priced("m"))
    assert (done.status, asked) == ("succeeded", 1)
    assert done.usage["planning"]["usd"] > 0


def test_a_planner_that_would_patch_needs_a_price():
    """With `replan` it may be asked after the run has begun, so it is looked at before."""
    refused, asked = story(run_of(PURE, replan=1), planner="m")
    assert (refused.code, asked) == ("unpriced-model", 0)


def test_a_default_budget_is_refused_like_a_given_one():
    """Also the ceilings of an engine."""

    async def main():
        async with ScriptedModel([HttpError(500)]) as model:
            models = {"default": Model("m", model.base_url)}
            async with Engine([], store="memory:", models=models, budget_max={"usd": 5}) as engine:
                with pytest.raises(InputRejected, match="'m'"):
                    await engine.run(ASK)
                assert model.requests == []

    asyncio.run(main())
