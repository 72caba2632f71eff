"""What was planned before helps: near plans are examples, the same planning is not done twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from firmplan import Plan, Planner, SavedPlan, tool
from firmplan.testing import ScriptedModel


@tool(effect="read")
def weather(city: str) -> float:
    """Temperature in a city."""
    return 1.0


@tool(effect="read")
def tides(port: str) -> float:
    """Height of the tide."""
    return 1.0


def plan_of(task, city="Rome", name="weather"):
    return Plan.model_validate(
        {
            "firmplan": 1,
            "task": task,
            "steps": [{"id": "w", "tool": name, "args": {"city": city}}],
            "output": "${w}",
        }
    )


GOOD = plan_of("x").to_dict()
SAVED = [
    SavedPlan("boats", plan_of("Count the boats in a harbour", "boats")),
    SavedPlan("compare", plan_of("Compare the weather in {a} and {b} by their warmth", "near")),
    SavedPlan("broken", plan_of("Compare the weather of two cities", "broken", "wether")),
    SavedPlan("tell", plan_of("Tell the weather of a city and its warmth", "third")),
]


@dataclass
class Kept:
    """A cache in memory."""

    plans: dict[str, Plan] = field(default_factory=dict)

    async def find(self, key, /):
        return self.plans.get(key)

    async def keep(self, key, plan, /):
        self.plans[key] = plan


def plannings(*orders, saved=()):
    """Return what came of plannings one after the other, and the requests."""

    async def main():
        async with ScriptedModel(lambda _: GOOD) as model:
            found = []
            for order in orders:
                options = {"model": "m", "tools": [weather], **order}
                planner = Planner(options.pop("model"), base_url=model.base_url, adapt=False)
                task = options.pop("task", "Warmth of cities")
                found.append(await planner.plan(task, options.pop("tools"), saved=saved, **options))
            return found, model.requests

    return asyncio.run(main())


def test_the_nearest_saved_plans_are_examples():
    """Two at most, by their words, in the plan's own format, and only such as pass their check."""
    _, requests = plannings({"task": "Compare the warmth and weather of cities"}, saved=SAVED)
    words = requests[0]["messages"][1]["content"]
    shown = words.partition("# Plans for other tasks")[2].partition("# Task")[0]
    assert [name for name in ("near", "third", "broken", "boats") if name in shown] == ["near", "third"]
    assert '"args":{"city":"near"}' in shown
    assert words.index("# Tools") < words.index("# Plans for other tasks") < words.index("# Task")


def test_what_does_not_help_is_not_shown():
    """No shared word, no example; and none that is long."""
    long = SavedPlan("long", plan_of("Compare cities", "x" * 10_000))
    for saved in ([SAVED[0]], [long]):
        _, requests = plannings({"task": "Compare the warmth of cities"}, saved=saved)
        assert "# Plans for other tasks" not in json.dumps(requests)


def test_the_same_planning_is_done_once():
    """The plan that a model wrote for a task is the plan of the task; it costs no request."""
    kept = Kept()
    (first, second), requests = plannings({"cache": kept}, {"cache": kept})
    assert (first.source, second.source, len(requests)) == ("model", "reused", 1)
    assert first.plan == second.plan
    assert second.usage.requests == 0
    assert [attempt.source for attempt in second.attempts] == ["reused"]


def test_another_task_toolset_or_model_is_another_planning():
    """In every part a new key."""
    kept = Kept()
    orders = [{}, {"task": "Warmth of towns"}, {"tools": [weather, tides]}, {"model": "other"}]
    found, requests = plannings(*({"cache": kept, **order} for order in orders))
    assert [each.source for each in found] == ["model"] * 4
    assert len(requests) == len(kept.plans) == 4


def test_another_prompt_is_another_planning(monkeypatch):
    """What was planned with old prompts is not what would be planned now."""
    versions = iter("ab")
    monkeypatch.setattr("firmplan.planner.drafting.prompt.prompt_version", lambda: next(versions))
    kept = Kept()
    found, _ = plannings({"cache": kept}, {"cache": kept})
    assert [each.source for each in found] == ["model", "model"]


def test_a_kept_plan_that_does_not_pass_is_planned_anew():
    """What a cache gives is checked like a draft, and replaced."""

    class Stale(Kept):
        async def find(self, key, /):
            return SAVED[2].plan

    kept = Stale()
    (found,), requests = plannings({"cache": kept})
    assert (found.source, len(requests)) == ("model", 1)
    assert [attempt.source for attempt in found.attempts] == ["reused", "model"]
    assert list(kept.plans.values()) == [found.plan]


def test_saved_plans_go_before_kept_ones():
    """Somebody chose them."""
    kept = Kept()
    (_, found), _ = plannings(
        {"cache": kept, "task": "Cities"},
        {"cache": kept},
        saved=[SavedPlan("mine", plan_of("Warmth of cities"))],
    )
    assert found.source == "saved:mine"
