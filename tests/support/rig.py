"""An executor without engine and planner, as tests drive it: tools, a store, a clock, and runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from firmplan.executor import Execution, Facilities, Header, Run, ToolsetLock, default_seed
from firmplan.executor.calls.concurrency import FairSemaphore
from firmplan.executor.runs.owner import presence_of
from firmplan.executor.stores.location import open_location
from firmplan.plans import Plan
from firmplan.plans.inputs import fit_inputs
from firmplan.testing import ScriptedTool
from firmplan.tools import Models, Tool, Toolset
from firmplan.tools.secret import Secrets

UNSET: Any = object()


def plan_of(*steps: Mapping[str, Any], output: Any = UNSET, **keys: Any) -> Plan:
    """Return a plan of some steps."""
    made = {"firmplan": 1, "steps": list(steps), **keys}
    return Plan.model_validate(made if output is UNSET else {**made, "output": output})


@dataclass(frozen=True)
class Call:
    """One call as its tool saw it."""

    tool: str
    step: str
    args: Mapping[str, Any]
    key: str = ""


class Deciding:
    """The decisions of an execution, with a method for each kind, as an engine has them."""

    def __init__(self, execution: Execution) -> None:
        self._decisions = execution.decisions
        self.decide = self._decisions.decide
        self.cancel = self._decisions.cancel
        self.raise_budget = self._decisions.raise_budget

    async def approve(self, run_id: str, step: str, *, by: str, **more: Any) -> Run:
        """Allow a call."""
        return await self._decisions.decide_one(run_id, step, {"approve": True, **more}, by=by)

    async def deny(self, run_id: str, step: str, *, by: str, **more: Any) -> Run:
        """Refuse a call."""
        return await self._decisions.decide_one(run_id, step, {"deny": True, **more}, by=by)

    async def resolve_done(self, run_id: str, step: str, output: Any, *, by: str = "", **more: Any) -> Run:
        """Say that a call took effect."""
        return await self._decisions.decide_one(run_id, step, {"done": output, **more}, by=by)

    async def resolve_retry(self, run_id: str, step: str, *, by: str = "", **more: Any) -> Run:
        """Say that a call did nothing, and may be made again."""
        return await self._decisions.decide_one(run_id, step, {"retry": True, **more}, by=by)

    async def resolve_failed(self, run_id: str, step: str, why: str, *, by: str = "", **more: Any) -> Run:
        """Say that a call did nothing, and counts as failed."""
        return await self._decisions.decide_one(run_id, step, {"fail": why, **more}, by=by)


class Rig:
    """See the module. `async with Rig(tools) as rig: run = await rig.run(plan)`."""

    def __init__(
        self, tools: Iterable[Tool], store: Any = ":memory:", *, places: int = 64, **facilities: Any
    ) -> None:
        self.tools = Toolset(list(tools))
        location = open_location(store)
        self.store = location.store
        models = facilities.pop("models", Models({}))
        facilities["secrets"] = Secrets(facilities.get("secrets"))
        self.facilities = Facilities(self.tools, models, self.store, FairSemaphore(places), **facilities)
        self.execution = Execution(self.facilities, presence_of(location))
        self.decisions = Deciding(self.execution)

    async def __aenter__(self) -> Self:
        await self.execution.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.execution.close()

    async def submit(
        self, plan: Plan, run_id: str | None = None, inputs: Mapping[str, Any] | None = None, **header: Any
    ) -> str:
        """Make a run durable; nothing of it starts."""
        fitted, faults = fit_inputs(plan, inputs or {})
        assert not faults, faults
        seed = header.pop("seed", None) or default_seed(plan, fitted)
        plans = header.pop("plans", {})
        lock = ToolsetLock.of([plan, *plans.values()], self.tools)
        made = Header(plan, fitted, seed, lock, plans, **header)
        return (await self.execution.submissions.submit(made, run_id=run_id)).id

    async def start(self, plan: Plan, run_id: str | None = None, **options: Any) -> str:
        """Submit a run and start it."""
        run_id = await self.submit(plan, run_id, **options)
        await self.execution.resume(run_id)
        return run_id

    async def run(self, plan: Plan, run_id: str | None = None, **options: Any) -> Run:
        """Run a plan until nothing goes on by itself."""
        return await self.execution.wait(await self.start(plan, run_id, **options))

    async def resume(self, run_id: str) -> Run:
        """Go on with a run."""
        await self.execution.resume(run_id)
        return await self.execution.wait(run_id)

    async def event_types(self, run_id: str) -> list[str]:
        """Return the journal's events as `Type step`."""
        return [f"{event.type} {event.step}".strip() async for event in self.execution.events(run_id)]


def one_run(plan: Plan, *tools: Tool, **options: Any) -> Run:
    """Return the run of a plan in a new store in memory."""

    async def main() -> Run:
        async with Rig(tools) as rig:
            return await rig.run(plan, **options)

    return asyncio.run(main())


async def stop_at_once(store: Any, count: Callable[[], int]) -> tuple[set[str], int]:
    """Have a hundred runs end and a hundred wait for a person at one moment.

    Args:
        store: Where the runs are.
        count: Counts the transactions of the store.

    Returns:
        The runs that wait, and how many transactions ended and released them all.
    """
    begun, opened = asyncio.Event(), asyncio.Event()

    async def wait_for_opening() -> int:
        if len(look.calls) == 200:
            begun.set()
        await opened.wait()
        return 1

    look = ScriptedTool("look", wait_for_opening, effect="read", resource="elsewhere")
    pay = ScriptedTool("pay", lambda: 1, effect="write", approval="always", resource="bank")
    ends = plan_of({"id": "a", "tool": "look"})
    waits = plan_of({"id": "a", "tool": "look"}, {"id": "b", "tool": "pay", "after": ["a"]})
    async with Rig([look, pay], store, places=200) as rig:
        runs = [await rig.start(plan) for plan in (ends, waits) for _ in range(100)]
        await begun.wait()
        before = count()
        opened.set()
        found = [(await rig.execution.wait(run_id)).status for run_id in runs]
        await rig.execution._owner.wait()
    assert found == ["succeeded"] * 100 + ["waiting"] * 100
    return set(runs[100:]), count() - before


def statuses(run: Run) -> dict[str, str]:
    """Return path -> status, or status and reason where there is one."""
    return {
        path: view.status if view.reason is None else f"{view.status}:{view.reason}"
        for path, view in run.steps.items()
    }
