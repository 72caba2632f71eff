"""Plans that are right by construction: they check clean, keep their meaning in every form, and run as a naive interpreter says."""

from __future__ import annotations

import asyncio
import json

import hypothesis.strategies as st
from firmplan import Plan, check
from firmplan.plans.format.load import to_yaml
from firmplan.plans.format.source import parse_source
from firmplan.plans.reports.errors import SKIPPED
from firmplan.testing import ScriptedModel
from firmplan.tools import Models
from firmplan.tools.models.models import Model
from hypothesis import given
from oracle import Oracle
from rig import Rig
from seeds import examples
from typed_plans import KINDS, ORACLE_TOOLS, TYPED_TOOLS, decision, model_reply, reply, typed_plans

DOUBTS = {"maybe-missing", "unused-step", "unused-input", "unchecked-type"}


@examples(200)
@given(typed_plans())
def test_a_valid_plan_checks_clean(plan):
    """No error is told of a plan that is right, and of doubts only those that can be."""
    report = check(plan, TYPED_TOOLS)
    assert report.errors == (), str(report)
    assert {problem.code for problem in report.warnings} <= DOUBTS


@examples(100)
@given(typed_plans())
def test_a_plan_is_the_same_in_every_form(plan):
    """As JSON text, as YAML, as a dict and as a `Plan` written out: one digest, one report."""
    made = Plan.model_validate(plan)
    report = check(plan, TYPED_TOOLS)
    forms = [
        json.dumps(plan),
        json.dumps(plan, indent=1, ensure_ascii=False),
        to_yaml(made),
        made.to_json(),
        made,
    ]
    for form in forms:
        again = check(form, TYPED_TOOLS)
        assert [(one.code, one.path, one.message) for one in again.problems] == [
            (one.code, one.path, one.message) for one in report.problems
        ]
        assert again.bounds == report.bounds
    assert {Plan.model_validate(parse_source(form).value).digest for form in forms[:4]} == {made.digest}


async def run_of(plan, inputs):
    async with ScriptedModel(model_reply) as endpoint:
        models = Models({"default": Model("scripted", base_url=endpoint.base_url, api_key="none")})
        async with Rig(TYPED_TOOLS, models=models) as rig:
            return await rig.run(Plan.model_validate(plan), inputs=inputs, reuse="off")


@examples(60)
@given(plan=typed_plans(), n=st.integers(-4, 9), t=st.sampled_from(["", "tea", "x/y"]))
def test_a_run_agrees_with_the_naive_interpreter(plan, n, t):
    """Status, reason and value of every step and the output are those of one step after another."""
    run = asyncio.run(run_of(plan, {"n": n, "t": t}))
    oracle = Oracle(
        ORACLE_TOOLS,
        lambda prompt, schema: reply(prompt, KINDS[schema["type"]]),
        lambda goal, agent, results: decision(
            goal, KINDS[agent.get("returns", {"type": "string"})["type"]], agent["tools"], results
        ),
    )
    scope = oracle.interpret(plan["steps"], {"n": n, "t": t}, plan.get("plans", {}))
    found = {
        path: view.status if view.reason is None else f"{view.status}:{view.reason}"
        for path, view in run.steps.items()
        if path in oracle.status
    }
    assert found == oracle.status
    assert {step["id"]: run.steps[step["id"]].output for step in plan["steps"]} == {
        step["id"]: None if (value := scope[step["id"]]) is SKIPPED else value for step in plan["steps"]
    }
