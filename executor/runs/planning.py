"""The planning of runs: a submitted task gets its plan, and a failed run gets a run of a patched plan.

The executor does not know planners, so the engine hands in a `RunPlanner`. What belongs to the run is here: the outcome of a planning and its
costs are recorded in the run's header, since a run without a plan has no journal, and so is the number of processes that died while they planned.

This module does not claim or drive runs (`execution.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ...errors import ConfigError, EngineBug, InputRejected, PlanError, PlanningFailed, Question
from ...plans.expressions.functions import EXPRESSION_VERSION
from ...plans.immutable import immutable
from ..budget import CACHED, PlanningCost, amount_of, amounts_in
from ..events import BudgetRaised, CancelAsked
from ..fork import root_of
from ..journal.header import Header, default_seed
from ..journal.journal import notice_of
from ..states import FINAL, RunStatus

if TYPE_CHECKING:
    from ...plans import Plan
    from ...plans.values import Json
    from ..calls.early import EarlySteps
    from ..calls.facilities import Facilities
    from ..journal.toolset_lock import ToolsetLock
    from ..stores.store import RunRow
    from .archive import Archive
    from .run import Run
    from .submission import Submissions

QUESTION: Final = "question"  # the key, in the record of a planning, of the question that waits for an answer
ANSWERS: Final = "answers"  # and of the questions that were answered: `text returns answer by at` each
DEATHS: Final = "deaths"  # the key, in the record of a planning, of the deaths that count against the task


class RunPlanner(Protocol):
    """Makes the plans of runs."""

    async def plan_run(
        self, row: RunRow, inputs: Mapping[str, Json], cost: PlanningCost, early: EarlySteps | None
    ) -> PlannedRun:
        """Return the plan of a task with everything that a run needs.

        Args:
            row: The run of the task.
            inputs: The inputs that were given with the task.
            cost: Counts the usage of the planning, and says what is left for it.
            early: Gets each partial plan, so that its calls may start; `None`: nothing starts early.

        Raises:
            PlanningFailed: There is no plan.
            PlanRejected: The plan does not pass the check.
            InputRejected: An input does not fit the plan.
        """
        ...

    async def patch_run(self, run: Run, plan: Plan, cost: PlanningCost) -> Header:
        """Return the header for the run of a failed run's patched plan.

        Args:
            run: The failed run.
            plan: Its plan.
            cost: Counts the usage of the planning, and says what is left for it.

        Raises:
            PlanningFailed: There is no patch.
            ConfigError: No model is configured.
        """
        ...


@immutable
class PlannedRun:
    """The outcome of a planning: a checked plan, the saved plans that it runs, its inputs, and the record of the planning."""

    plan: Plan
    plans: Mapping[str, Plan]
    inputs: Mapping[str, Json]
    lock: ToolsetLock
    record: Json

    def complete(self, header: Header, cost: PlanningCost | None = None) -> Header:
        """Return the header of the task with its plan, and the usage of the planning."""
        return replace(
            header,
            plan=self.plan,
            plans=self.plans,
            inputs=self.inputs,
            lock=self.lock,
            seed=header.seed or default_seed(self.plan, self.inputs),
            planning=with_cost(self.record, cost),
            language=EXPRESSION_VERSION,  # of the planner, which may be newer than the process that took the task
        )


class Planning:
    """The plannings of the runs of one store.

    Args:
        facilities: What the runs of an engine share.
        archive: Looks runs up.
        submissions: Makes the runs of patched plans.
        park_after: How many deaths of its process in a row park a task.

    Attributes:
        planner: Makes the plans; `None`: tasks stay without a plan.
    """

    def __init__(
        self, facilities: Facilities, archive: Archive, submissions: Submissions, park_after: int
    ) -> None:
        self._facilities = facilities
        self._store = facilities.store
        self._archive = archive
        self._submissions = submissions
        self._park_after = park_after
        self.planner: RunPlanner | None = None

    # --- the plan of a task

    async def count_deaths(self, row: RunRow, *, is_asked: bool) -> RunRow:
        """Return the row of a claimed task, with the deaths that count against it made durable; too many deaths park the task.

        Args:
            row: The row, as claimed.
            is_asked: Whether this is an explicit resume, so that earlier deaths do not count.
        """
        # As for runs with a journal (`deaths.py`): the count is durable before the planning goes on, or the next death would not find it.
        before = planning_deaths(row.header)
        count = 0 if is_asked else before + (row.taken_from is not None)
        if count == before and not (is_asked and row.status == RunStatus.PARKED):
            return row
        planning = {name: value for name, value in _record_of(row).items() if name != DEATHS}
        if count:
            planning[DEATHS] = count
        if count < self._park_after:
            return await self._set_record(row, planning, RunStatus.QUEUED.value)
        self._facilities.log.warning("run parked", run=row.id, deaths=count, calls="its planning")
        return await self._set_record(row, planning, RunStatus.PARKED.value)

    async def plan(self, row: RunRow, early: EarlySteps | None) -> tuple[RunRow, Header] | Exception | None:
        """Plan a claimed task and record the outcome in its header.

        Returns the row and the header with the plan; or the error that is now the failure of the run; or `None` if the run is over its budget, or waits for the
        answer to a question of the planner.

        Raises:
            StoreError: The outcome cannot be recorded.
        """
        if self.planner is None:
            raise EngineBug("a task was to be planned without a planner")
        if question_in(row.header) is not None:  # without an answer the planner would ask again
            return None
        header = Header.from_dict(row.header)
        cost = await self.cost_of(row)
        try:
            planned = await self.planner.plan_run(row, header.inputs, cost, early)
        except PlanningFailed as fault:
            return await self._no_plan(row, cost, fault)
        # These errors are the caller's business and the end of the run; any other error is one of firmplan or of the store, and is logged too.
        except (PlanError, InputRejected, ConfigError) as fault:
            await self._set_failed(row, cost, fault)
            return fault
        except Exception as bug:
            await self._set_failed(row, cost, bug)
            raise
        except asyncio.CancelledError:  # the task is planned again, within the rest of its budget
            if any(cost.used.values()):
                await self._set_record(row, _record_of(row) | {"cost": cost.to_dict()}, row.status)
            raise
        header, now = planned.complete(header, cost), self._facilities.clock.now()
        if header.deadline is None and planned.plan.deadline_s is not None:
            header = replace(header, deadline=now + planned.plan.deadline_s)
        settled = replace(row, header=header.to_dict())
        await self._store.set_header(
            row.id, settled.header, planned.plan.digest, row.epoch, RunStatus.QUEUED.value, now
        )
        return settled, header

    async def cost_of(self, row: RunRow) -> PlanningCost:
        """Return the budget for planning a task, and the usage of its earlier plannings."""
        header = Header.from_dict(row.header)
        limits = dict(header.budget)
        for decision in await self._archive.decisions(row.id):
            if isinstance(decision.event, BudgetRaised):  # the run itself takes it in once it is driven
                limits |= amounts_in(decision.event.budget)
        return _continued(
            PlanningCost(self._facilities.clock.now, limits, before=header.planning_cost), header
        )

    async def _set_failed(self, row: RunRow, cost: PlanningCost, fault: Exception) -> None:
        failed: Json = {"code": getattr(fault, "code", "error"), "message": str(fault)}
        await self._set_record(row, {"failed": failed, "cost": cost.to_dict()}, RunStatus.FAILED.value)

    async def _no_plan(self, row: RunRow, cost: PlanningCost, fault: PlanningFailed) -> PlanningFailed | None:
        """Record that there is no plan, or none yet; return the error if it is the end of the run."""
        if isinstance(fault.outcome, Question):
            await self._set_question(row, cost, fault.outcome)
            return None
        if fault.limit is None:
            await self._set_failed(row, cost, fault)
            return fault
        self._facilities.log.info("planning over budget", run=row.id, limit=fault.limit)
        record: dict[str, Json] = {"over": fault.limit, "cost": cost.to_dict()}
        await self._set_record(row, _answered(row) | record, RunStatus.OVER_BUDGET.value)
        return None

    async def _set_question(self, row: RunRow, cost: PlanningCost, question: Question) -> None:
        asked: Json = {"text": question.text, "returns": dict(question.returns)}
        record: dict[str, Json] = {QUESTION: asked, "cost": cost.to_dict()}
        await self._set_record(row, _answered(row) | record, RunStatus.WAITING.value)

    async def answer(self, row: RunRow, answer: Json, by: str) -> RunRow:
        """Record the answer to the planner's question about a claimed task, which is planned on when it is resumed.

        Args:
            row: The claimed task.
            answer: The answer, which fits the question.
            by: Who answers.

        Raises:
            StoreError: The store cannot be read or written.
        """
        record = _record_of(row)
        asked = cast("dict[str, Json]", record.pop(QUESTION))
        answers = cast("list[Json]", record.get(ANSWERS, []))
        given: Json = {**asked, "answer": answer, "by": by, "at": self._facilities.clock.now()}
        return await self._set_record(row, {**record, ANSWERS: [*answers, given]}, RunStatus.QUEUED.value)

    async def take_up(self, row: RunRow, *, is_asked: bool) -> RunRow:
        """Count deaths against a claimed task, and cancel it if that decision was left for it; return its row. Raises: StoreError."""
        row = await self.count_deaths(row, is_asked=is_asked)
        if row.status in (*FINAL, RunStatus.PARKED):
            return row
        asked = [each.event for each in await self._archive.decisions(row.id)]
        return await self.cancel(row) if any(isinstance(each, CancelAsked) for each in asked) else row

    async def cancel(self, row: RunRow) -> RunRow:
        """Record that a claimed task without a plan is cancelled; return its row. Raises: StoreError."""
        # The header stays as the planning left it, with its usage.
        cancelled = await self._settle(row, row.header, RunStatus.CANCELLED.value)
        # There is no journal that takes the decisions in.
        await self._store.drop_decisions([each.number for each in await self._archive.decisions(row.id)])
        return cancelled

    async def _set_record(self, row: RunRow, planning: Mapping[str, Json], status: str) -> RunRow:
        """Record the state of the planning of a task; return its row. Raises: StoreError."""
        header = replace(Header.from_dict(row.header), planning=dict(planning) or None).to_dict()
        return await self._settle(row, header, status)

    async def _settle(self, row: RunRow, header: Mapping[str, Any], status: str) -> RunRow:
        """Store the header and the status of a task without a plan; return its row. Raises: StoreError."""
        notice = notice_of(status) if self._facilities.tells_webhooks else ""
        now = self._facilities.clock.now()
        await self._store.set_header(row.id, header, None, row.epoch, status, now, notice)
        return replace(row, header=header, status=status)

    # --- the patched plan of a failed run

    async def patch(self, run: Run, times: int) -> str | None:
        """Return the id for the run of a failed run's patched plan, which is submitted if it does not exist; `None`: there is no patch.

        Args:
            run: The failed run.
            times: How often, at most, the plan may be patched, this patch included.
        """
        name = patch_id(run.id)
        if run.plan is None or self.planner is None:
            return None
        if await self._archive.is_known(name):
            return name
        row = await self._archive.row(run.id)
        budget = (await self._archive.machine(row)).budget
        cost = PlanningCost(self._facilities.clock.now, budget.limits, budget.own, budget.planning)
        cost = _continued(cost, Header.from_dict(row.header))
        try:
            header = await self.planner.patch_run(run, run.plan, cost)
        except (PlanningFailed, ConfigError, InputRejected) as no_patch:
            self._facilities.log.warning("no patch for the plan", run=run.id, why=no_patch.message)
            return None
        # The id is the same in every engine, so that two engines that see the failure do not make two runs.
        # The failed steps run again, even if the patch changes other steps only: an `on_error` of theirs, or what they wait for.
        failed = tuple(dict.fromkeys(root_of(error.step) for error in run.errors if error.step))
        try:
            return await self._submissions.fork(
                run.id,
                at=None,
                overrides={},
                holds="made",
                header=replace(header, replan=times - 1),
                also=failed,
                fork_id=name,
            )
        except InputRejected:
            if await self._archive.is_known(name):  # another engine has just submitted another patch
                return name
            raise


def question_in(header: Mapping[str, Any]) -> dict[str, Json] | None:
    """Return the question of the planner that waits for an answer, `text returns`; `None`: there is none."""
    asked = _planning_in(header).get(QUESTION)
    return dict(cast("Mapping[str, Json]", asked)) if isinstance(asked, Mapping) else None


def answers_in(header: Mapping[str, Any]) -> list[dict[str, Json]]:
    """Return the questions of the planner that were answered, oldest first: `text returns answer by at` each."""
    found = _planning_in(header).get(ANSWERS)
    return [dict(each) for each in cast("list[dict[str, Json]]", found or [])]


def planning_deaths(header: Mapping[str, Any]) -> int:
    """Return how many deaths count against a task without a plan, which has no journal to count them in."""
    return int(_planning_in(header).get(DEATHS, 0))


def _planning_in(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of the planning in a header as it is stored; empty: there is none."""
    planning = header.get("planning")
    return cast("Mapping[str, Any]", planning) if isinstance(planning, Mapping) else {}


def patch_id(run_id: str) -> str:
    """Return the id for the run of a failed run's patched plan: the same id in every engine, so that a plan is patched once."""
    return f"run_{hashlib.sha256(f'patch of {run_id}'.encode()).hexdigest()[:16]}"


def _continued(cost: PlanningCost, header: Header) -> PlanningCost:
    """Return the cost of a planning that goes on, with what a header says of the earlier plannings beside their amounts."""
    record = header.planning
    known = record.get("cost") if isinstance(record, dict) else None
    if isinstance(known, dict):
        cost.is_priced = known.get("usd") is not None or not known.get("model_calls")
        cost.cached = int(amount_of(known, CACHED))
    return cost


def with_cost(record: Json, cost: PlanningCost | None) -> Json:
    """Return the record of a planning, with the usage of all plannings of the run."""
    if cost is None or not isinstance(record, dict):
        return record
    return {**record, "cost": cost.to_dict()}


def _answered(row: RunRow) -> dict[str, Json]:
    """Return the part of the record of a planning that every later planning keeps: the questions that were answered."""
    return {name: value for name, value in _record_of(row).items() if name == ANSWERS}


def _record_of(row: RunRow) -> dict[str, Json]:
    """Return the record of the planning of a task without a plan."""
    planning = Header.from_dict(row.header).planning
    return dict(planning) if isinstance(planning, dict) else {}
