"""Whatever a model or its endpoint does, planning ends as the table says: with a plan, or with a failure that says why."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from firmplan import Plan, Planner, PlanningFailed, SavedPlan, check, tool
from firmplan.planner.drafting.conversation import REQUESTS_MAX
from firmplan.testing import ScriptedModel
from misbehaviours import EVERY, GOOD, SAMPLED, Misbehaviour, table
from seeds import seeds

OVERHEAD_S = 12.0
"""What a planning may take beyond waiting for its endpoint, on a busy machine."""


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


MANY = [weather, *(tool(weather.fn, effect="read", name=f"other_{number}") for number in range(24))]
NEAR = SavedPlan("near", Plan.model_validate({**GOOD, "task": "Compare two cities and a third"}))


def planning(case: Misbehaviour, heard=None, tools=(weather,), saved=()):
    """Return what came of it, the requests, and the seconds that it took."""

    async def main():
        script = [*case.script, *([GOOD] * 3 if case.then_good else ())]
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url, timeout=case.timeout_s, **case.options)
            began = time.monotonic()
            try:
                outcome = await planner.plan("Compare two cities", tools, heard=heard, saved=saved)
            except PlanningFailed as failure:
                outcome = failure
            return outcome, model.requests, time.monotonic() - began

    return asyncio.run(main())


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_each_misbehaviour_has_its_outcome(case):
    """A plan, or a failure that says why; never more requests than the bound, never longer than ten timeouts."""
    outcome, requests, seconds = planning(case)
    shown = str(outcome)[:2000] if isinstance(outcome, PlanningFailed) else "a plan"
    assert len(requests) == case.requests, shown
    assert len(requests) <= REQUESTS_MAX
    assert seconds < 10 * case.timeout_s + OVERHEAD_S
    if case.words:
        assert isinstance(outcome, PlanningFailed)
        assert outcome.attempts
        for word in case.words:
            assert word in str(outcome)
        return
    assert outcome.plan == Plan.model_validate(GOOD), shown
    again = requests[-1]["messages"][-1]["content"]
    for word in case.told:
        assert word in again


@pytest.mark.sweep
@pytest.mark.parametrize("number", seeds(len(EVERY), sampled=SAMPLED))
def test_each_misbehaviour_ends_as_well_when_it_is_listened_to(number):
    """The same plan, or the same failure, within the same bounds; what is heard before has passed its check."""
    case = EVERY[number]
    beginnings: list[Plan] = []
    outcome, requests, seconds = planning(case, beginnings.append)
    shown = str(outcome)[:2000] if isinstance(outcome, PlanningFailed) else "a plan"
    assert len(requests) <= REQUESTS_MAX
    assert seconds < 10 * case.timeout_s + OVERHEAD_S
    assert all(check(each, [weather]).ok for each in beginnings)
    if case.words:
        assert isinstance(outcome, PlanningFailed), shown
        assert all(word in str(outcome) for word in case.words), shown
    else:
        assert outcome.plan == Plan.model_validate(GOOD), shown


@pytest.mark.sweep
@pytest.mark.parametrize("number", seeds(len(EVERY), sampled=SAMPLED))
def test_each_misbehaviour_ends_as_well_where_small_questions_come_first(number):
    """With a saved plan to fill in, and tools to choose from: the same plan, or the same failure, within the same bounds."""
    case = EVERY[number]
    outcome, requests, seconds = planning(case, lambda _: None, tools=MANY, saved=[NEAR])
    assert requests[0]["messages"][0]["content"].startswith("You fill in a form")
    shown = str(outcome)[:2000] if isinstance(outcome, PlanningFailed) else "a plan"
    assert len(requests) <= REQUESTS_MAX
    assert seconds < 10 * case.timeout_s + OVERHEAD_S
    if case.words:
        assert isinstance(outcome, PlanningFailed), shown
        assert all(word in str(outcome) for word in case.words), shown
    else:
        assert outcome.plan == Plan.model_validate(GOOD), shown


def test_there_are_enough_of_them():
    """At least sixty, each with a name of its own."""
    assert len({case.name for case in EVERY}) == len(EVERY) >= 60


def test_the_page_says_what_is_tested():
    """The table in the docs is this one, word for word: `print(table())` makes it anew."""
    page = Path(__file__).parents[3] / "docs" / "MODEL_FAULTS.md"
    assert page.read_text(encoding="utf-8").endswith(table())
