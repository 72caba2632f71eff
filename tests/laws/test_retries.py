"""A retry ends as the run would have ended if nothing had gone wrong, and does nothing twice, whatever the plan."""

from __future__ import annotations

from random import Random

import pytest
from firmplan import Context, Engine, Tool, ToolError
from public import within
from seeds import seeds
from small_plans import PARAMETERS, TOOLS, answer, small_plan


class World:
    """Tools of which some calls fail for sure, as long as the world is broken; what they did is noted by step.

    Attributes:
        done: (tool, step) of each call that returned.
        called: The same of each call.
    """

    def __init__(self, seed: int, *, is_broken: bool) -> None:
        self.seed, self.is_broken = seed, is_broken
        self.done: list[tuple[str, str]] = []
        self.called: list[tuple[str, str]] = []
        self.tools = [self._tool(name, effect, resource) for name, (effect, resource) in TOOLS.items()]

    def _tool(self, name: str, effect: str, resource: str) -> Tool:
        def called(x: int, ctx: Context) -> int:
            self.called.append((name, ctx.step))
            if self.is_broken and Random(f"{self.seed} {name} {ctx.step}").random() < 0.3:
                raise ToolError("out of order")
            value = answer(name, x)
            self.done.append((name, ctx.step))
            return value

        options = {"effect": effect, "resource": resource, "version": 1}
        return Tool.from_callable(
            called, name=name, parameters=PARAMETERS, returns={"type": "integer"}, **options
        )


def plan_of(seed: int, *, handles: bool) -> dict:
    """Return a random plan, with its `on_error` or without."""
    plan = small_plan(Random(f"plan {seed}"))
    for part in [plan, *plan.get("plans", {}).values()]:
        for step in part["steps"]:
            if not handles:
                step.pop("on_error", None)
    return plan


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(1_000, sampled=8))
@pytest.mark.parametrize("handles", [False, True], ids=["plain", "on_error"])
def test_a_retry_ends_as_a_calm_run_and_does_nothing_twice(seed, handles):
    """Nothing that returned is called again, no write has its effect twice; without `on_error` the end is the calm run's, to the digest."""
    plan, inputs = plan_of(seed, handles=handles), {"n": seed % 7}
    calm, world = World(seed, is_broken=False), World(seed, is_broken=True)

    async def main():
        async with Engine(calm.tools, store="memory:") as engine:
            wanted = await engine.run(plan, inputs=inputs)
        async with Engine(world.tools, store="memory:") as engine:
            run = await engine.run(plan, inputs=inputs, run_id="one")
            if run.status != "failed":
                return wanted, None, None, set(), run
            returned = set(world.done)
            world.called.clear()
            world.is_broken = False
            again = await engine.retry("one")
            assert (await engine.get("one")) == run
            return wanted, again, await engine.replay(again.id), returned, run

    wanted, again, replayed, returned, run = within(main())
    writes = [each for each in world.done if TOOLS[each[0]][0] == "write"]
    assert len(writes) == len(set(writes))
    if again is None:
        assert handles or run.digest == wanted.digest
        return
    assert not returned & set(world.called)
    assert replayed.digest == again.digest
    assert again.status in ("succeeded", "failed")
    if not handles:
        assert (again.digest, again.output) == (wanted.digest, wanted.output)
