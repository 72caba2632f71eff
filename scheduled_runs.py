"""The runs of schedules: which run a time of a schedule has, and how a scheduler starts, looks up and stops it.

It knows the executor and how plans are accepted (`run_planner.py`). When a time has come, and what becomes of missed times, is decided in `schedules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import UNKNOWN_PLAN, InputRejected
from .executor import Submitter
from .executor.runs.archive import qualified
from .executor.runs.request import Options
from .plans.reports.nearest import short

if TYPE_CHECKING:
    from .executor import Execution, Header
    from .executor.budget import BudgetPolicy
    from .plans import Plan
    from .plans.values import Json
    from .run_planner import EnginePlanner
    from .schedules import Fire, Schedule


class ScheduledRuns:
    """The runs of the schedules of one engine; the `Runs` of a scheduler.

    Args:
        execution: Has the runs.
        plans: Accepts the plans of schedules.
        budgets: Default budget and ceilings of the runs.
    """

    def __init__(self, execution: Execution, plans: EnginePlanner, budgets: BudgetPolicy) -> None:
        self._execution = execution
        self._plans = plans
        self._budgets = budgets

    async def start(self, schedule: Schedule, fire: Fire) -> None:
        """See `Runs.start`."""
        header, options = await self._header(schedule, fire.at)
        others = {
            author
            for name, plan in _saved_in(schedule, header).items()
            if (known := str(schedule.seen.get(name, ""))) != plan.text_digest
            for author in await self._execution.archive.authors_since(qualified(name, schedule.tenant), known)
        }
        by = header.submitter or Submitter(schedule.by or schedule.name)
        if others := others - {by.name}:
            header = replace(header, submitter=replace(by, others=tuple(sorted(others))))
        row = await self._execution.submissions.submit(header, run_id=options.run_id)
        await self._execution.start(row)

    async def is_known(self, run_id: str) -> bool:
        """See `Runs.is_known`."""
        return await self._execution.archive.is_known(run_id)

    async def cancel(self, run_id: str) -> None:
        """See `Runs.cancel`."""
        await self._execution.decisions.cancel(run_id)

    async def check(self, schedule: Schedule) -> Mapping[str, Json]:
        """Return the saved plans that a run of the schedule would have now. Raises: what its submission would raise now."""
        header, _ = await self._header(schedule, schedule.next_at or schedule.start)
        return {name: plan.text_digest for name, plan in _saved_in(schedule, header).items()}

    async def _header(self, schedule: Schedule, at: float) -> tuple[Header, Options]:
        plan = await self._execution.archive.find_plan(schedule.plan, schedule.tenant)
        if plan is None:
            raise InputRejected(
                f"no plan is saved as {short(schedule.plan)!r}; `firmplan plans` lists the saved plans",
                code=UNKNOWN_PLAN,
            )
        options = Options(
            schedule.run_id_at(at),
            budget=self._budgets.for_run(schedule.budget or None),
            submitter=schedule.submitter,
            schedule={"name": schedule.name, "at": at},
            deadline=None if schedule.deadline is None else self._execution.now() + schedule.deadline,
            priority=schedule.priority,
        )
        return await self._plans.header(plan, options, schedule.inputs_at(at)), options


def _saved_in(schedule: Schedule, header: Header) -> Mapping[str, Plan]:
    """Return the saved plans of the run of a schedule, by the names or digests by which the schedule and the plans name them."""
    return {**header.plans, **({schedule.plan: header.plan} if header.plan is not None else {})}
