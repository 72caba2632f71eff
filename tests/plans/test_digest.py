"""The digest of a plan: what counts and what does not."""

from __future__ import annotations

import copy
import re

import pytest
from firmplan.plans import Plan

PLAN = {
    "firmplan": 1,
    "task": "t",
    "inputs": {"a": {"type": "integer"}},
    "steps": [
        {"id": "s", "set": "${inputs.a + 1}"},
        {"id": "n", "ask": {"prompt": "Say ${s}"}, "why": "because"},
        {"id": "w", "tool": "weather", "args": {"city": "${n}"}, "when": "${s > 2}"},
    ],
    "output": "${w.text}",
}


def digest(plan):
    return Plan.model_validate(plan).digest


def changed(**keys):
    return {**copy.deepcopy(PLAN), **keys}


def step(number, **keys):
    plan = copy.deepcopy(PLAN)
    plan["steps"][number].update(keys)
    return plan


def test_a_digest_is_a_sha256():
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest(PLAN))


@pytest.mark.parametrize(
    "plan",
    [
        changed(task="other words", description="more words"),
        step(1, why="something else"),
        step(0, set="${ inputs . a+1 }"),
        step(0, set="${(inputs.a) + (1)}"),
        step(2, args={"city": "${ n }"}, after=[], on_error="fail"),
        changed(plans={}, types={}),
        step(1, ask={"prompt": "Say ${s}", "returns": {"type": "string"}, "guard": []}),
        dict(reversed(PLAN.items())),
    ],
)
def test_prose_spelling_defaults_and_key_order_do_not_count(plan):
    assert digest(plan) == digest(PLAN)


@pytest.mark.parametrize(
    "plan",
    [
        changed(output="${w.celsius}"),
        changed(inputs={"a": {"type": "number"}}),
        step(0, set="${1 + inputs.a}"),
        step(0, set="${inputs.a + 1.0}"),
        step(0, id="z"),
        step(1, retries=0),
        step(1, ask={"prompt": "Say ${s}!"}),
        step(2, after=["n"]),
        step(2, on_error="skip"),
        changed(steps=[PLAN["steps"][1], PLAN["steps"][0], PLAN["steps"][2]]),
    ],
)
def test_what_may_change_a_run_counts(plan):
    assert digest(plan) != digest(PLAN)


def test_nothing_is_folded_or_reordered():
    """Plans that mean the same but are written differently stay different plans."""
    assert digest(step(0, set="${inputs.a + (1 + 0)}")) != digest(PLAN)


def test_an_explicit_null_is_a_value_where_null_means_something():
    assert digest(step(0, set=None)) != digest(step(0, set=0))
    assert digest(step(1, retries=None)) == digest(PLAN)


def test_equal_plans_have_equal_digests_and_hashes():
    assert hash(Plan.model_validate(PLAN)) == hash(Plan.model_validate(changed(task=None)))


def test_a_round_trip_through_json_keeps_the_digest():
    plan = Plan.model_validate(PLAN)
    assert Plan.model_validate_json(plan.to_json()).digest == plan.digest
