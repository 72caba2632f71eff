"""`EnginePlanner`: what needs both a planner and the executor, since these do not know each other.

It checks plans against the engine's tools, makes the headers of runs, plans the tasks of runs, and patches the plans of failed runs. It does not
start or drive runs (`executor/runs`), and it does not know how a plan is written (`planner`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .errors import ConfigError, InputRejected, PlanRejected
from .executor import EarlySteps, Header, PlannedRun, PlanningCost, Run, ToolsetLock
from .executor.calls.step_planning import StepTask
from .executor.journal.header import SHOWN_UNTRUSTED, program_of
from .executor.journal.known_plans import check_key, tools_name
from .executor.lru_cache import IdentityCache, LruCache
from .executor.machine import RULES_VERSION
from .executor.runs.archive import qualified
from .executor.runs.planning import answers_in, with_cost
from .executor.runs.request import (
    CheckedPlans,
    GivenPlan,
    Options,
    fitted_inputs,
    judged,
    values_of,
    words_of,
)
from .planner import Planned, Planner, SavedPlan, Use
from .planner.checking import INLINE_STEPS, beside, checked, is_small
from .planner.part import Part
from .planner.request import with_defaults
from .plans import CheckReport, Plan, check
from .plans.checker.checker import Checked, check_draft, output_problems
from .plans.collecting import collector_paused
from .plans.format.load import read_text
from .plans.format.saved import find_plan_in, saved_plans_of
from .plans.format.shape import Draft
from .plans.immutable import immutable
from .plans.inputs import fit_inputs, given_by_clock
from .plans.limits import LIMITS
from .plans.plan import AgentStep, AskStep, PlanForStep, Step, ToolStep
from .plans.values import Json, canonical
from .tools import Toolset
from .tools.models.judges import judges_in
from .tools.models.models import DEFAULT, Models

if TYPE_CHECKING:
    from .executor.calls.facilities import Facilities
    from .executor.journal.toolset_lock import ToolLock
    from .executor.runs.archive import Archive
    from .executor.stores.store import RunRow
    from .planner.drafting.attempt import Attempt
    from .plans.checker.survey import Survey
    from .plans.limits import Limits
    from .plans.python_types import OutputType
    from .plans.reports.problems import Problem
    from .tools.models.completion import Message, Usage
    from .tools.models.endpoint import Model
    from .tools.tool import Tool

NO_PLAN: Final = "it has no task that was planned"
OTHER_TOOLS: Final = "its tools are not what they were, so that the prompt cannot be made again"

PlanLike: TypeAlias = Plan | Mapping[str, Any] | os.PathLike[str]

LOCKS_KEPT: Final = 8


@immutable
class RecordedPlanning:
    """The planning of a run.

    Attributes:
        source: The source of the plan (`Planned.source`); empty: no planner made it.
        drafts: The attempts of the planning.
        messages: The request for the plan, made again with the present tools and prompts; without worked examples.
        answer: The accepted plan, as a model writes it.
        is_untrusted: Whether untrusted data may stand in the plan, because a planner was shown it.
        unknown: Why the request cannot be made again; `None`: it can.
    """

    source: str
    drafts: int
    messages: tuple[Message, ...] = ()
    answer: str = ""
    is_untrusted: bool = False
    unknown: str | None = None


@immutable
class EngineModels:
    """What the checks of an engine know of models; a `KnownModels`.

    Attributes:
        models: The models that steps ask.
        planner: The planner that `plan_for` steps ask.
        names_only: Whether the name of a model is enough, because the plan is only kept or shown, or may ask no model: the model may be configured later.
    """

    models: Models
    planner: Planner
    names_only: bool = False

    def find_fault(self, name: str) -> tuple[str, str] | None:
        """See `KnownModels`."""
        if self.names_only and self.models.is_named(name):
            return None
        return _fault_in(lambda: self.models.resolve(name))

    def find_planner_fault(self) -> tuple[str, str] | None:
        """See `KnownModels`."""
        # A planner of another class may need no model.
        model: Model | None = getattr(self.planner, "model", None)
        return None if self.names_only or model is None else _fault_in(model.resolve_all)

    def state(self) -> list[Json]:
        """Return what decides which names pass, as JSON."""
        known = [DEFAULT, *self.models.aliases]
        # Without aliases every name is a model at the same endpoint, and they pass or fail together.
        faults: dict[str, Json] = {name: self.find_fault(name) is None for name in (*known, _ANY_NAME)}
        return [self.names_only, faults, self.find_planner_fault() is None]


_ANY_NAME: Final = "another"


def _fault_in(resolve: Callable[[], object]) -> tuple[str, str] | None:
    """Return why a model cannot be asked, and what to do; `None`: it can."""
    try:
        resolve()
    except ConfigError as error:
        why, _, hint = str(error).partition(": ")
        return why, hint
    return None


class EnginePlanner:
    """Gives the runs of one engine their plans; a `RunPlanner` of the executor.

    Args:
        planner: Writes plans and patches.
        facilities: What the runs of the engine share: what plans are checked by, and what is known of plans and results.
        archive: Has the saved plans.
    """

    def __init__(self, planner: Planner, facilities: Facilities, archive: Archive) -> None:
        self._planner = planner
        self._facilities = facilities
        self._archive = archive
        self._tools, self._known, self._pins = facilities.tools, facilities.known, facilities.pins
        self._now = facilities.clock.now
        self._tools_name: bytes | None = None
        self._accepted, self._accepted_by_name = CheckedPlans(), CheckedPlans()
        self._askable = EngineModels(facilities.models, planner)
        self._named = replace(self._askable, names_only=True)
        self._outputs: LruCache[tuple[str, bytes], tuple[Problem, ...]] = LruCache()
        self._locks: IdentityCache[Plan, ToolsetLock] = IdentityCache(LOCKS_KEPT)

    # --- given plans

    async def check(self, plan: PlanLike | str, tenant: str = "") -> CheckReport:
        """Return every problem of a plan, which may run the saved plans of a tenant. Never raises for a bad plan."""
        given = read_text(plan) if isinstance(plan, os.PathLike) else plan
        small = is_small(given)
        found = await beside(lambda: find_plan_in(given), small=small)
        saved = await self._saved_for(found, tenant) if found is not None else {}
        return await self._report(given, saved, self._askable, small=small)

    async def _expect_ok(self, plan: Plan, tenant: str = "") -> None:
        """Check that a plan of the planner passes the check of the engine too. Raises: PlanRejected."""
        report = await self.check(plan, tenant)
        if not report.ok:
            raise PlanRejected(report)

    async def _report(
        self, plan: object, saved: Mapping[str, Plan], models: EngineModels, *, small: bool
    ) -> CheckReport:
        policies = self._facilities.policies
        return await checked(
            lambda limits: self._judge(
                check(
                    plan,
                    self._tools,
                    plans=saved,
                    secrets=self._facilities.secrets.places,
                    limits=limits,
                    rules=policies.rule_for,
                    policies=policies.names,
                    models=models,
                )
            ),
            small=small,
        )

    async def _survey(
        self, plan: Plan, saved: Mapping[str, Plan], models: EngineModels, *, small: bool
    ) -> Survey | None:
        """Check a plan, and return the survey of the check. Raises: PlanRejected."""
        found: Checked | None = None
        secrets, policies = self._facilities.secrets.places, self._facilities.policies

        def judged(limits: Limits) -> CheckReport:
            nonlocal found
            with collector_paused():
                found = check_draft(
                    Draft(plan),
                    self._tools,
                    saved,
                    limits,
                    secrets,
                    policies.rule_for,
                    policies.names,
                    models=models,
                )
                report = self._judge(CheckReport(found.problems))
                # Nobody reads the bounds of a plan that runs.
                return report if report.ok else self._judge(found.report())

        report = await checked(judged, small=small)
        if not report.ok:
            raise PlanRejected(report)
        return None if found is None else found.survey

    async def graph(self, plan: PlanLike, tenant: str = "") -> dict[str, Json]:
        """Return the graph of a plan, as `graph_of` does; it may have faults. Raises: PlanRejected: it has not the shape of a plan."""
        from .plans.render import graph_of  # noqa: PLC0415  # only for people

        given = _given(plan)
        small = is_small(given)
        found = await beside(lambda: find_plan_in(given), small=small)
        if found is None:
            raise PlanRejected(await self._report(given, {}, self._named, small=small))
        saved = await self._saved_for(found, tenant)
        return await beside(lambda: graph_of(found, self._tools, saved), small=small)

    async def accept(self, plan: PlanLike, tenant: str = "") -> tuple[Plan, dict[str, Plan]]:
        """Return a plan that passed its check, and the saved plans of a tenant that it runs; no model needs to be configured yet. Raises: PlanRejected."""
        found, saved, _ = await self._accept(plan, tenant, self._named)
        return found, saved

    async def _accept(
        self, plan: PlanLike, tenant: str, models: EngineModels
    ) -> tuple[Plan, dict[str, Plan], Survey | None]:
        """Return what `accept` does, and the survey of the check, which the compiler can use; `None`: the plan is known."""
        if not isinstance(plan, Plan | dict):
            plan = _given(plan)
        given, accepted = GivenPlan(plan), self._accepted_by_name if models.names_only else self._accepted
        if (known := accepted.find(given, self._tools)) is not None:
            return known, {}, None
        # A plan of the right shape is checked as the object that is accepted: it keeps the expressions that the check has read, and the
        # constants that it has worked out, so that compiling it does neither again.
        small = is_small(plan)
        found = await beside(given.read, small=small)
        saved = await self._saved_for(found, tenant) if found is not None else {}
        if found is None:
            raise PlanRejected(await self._report(plan, saved, models, small=small))
        survey = await self._expect_passed(found, saved, models, small=small)
        accepted.keep(given, self._tools, found)
        return found, saved, survey

    async def _expect_passed(
        self, plan: Plan, saved: Mapping[str, Plan], models: EngineModels, *, small: bool
    ) -> Survey | None:
        """Check a plan, unless the store knows that it passed this very check; return the survey of the check. Raises: PlanRejected."""
        key = await beside(lambda: self._check_key(plan, saved, models), small=small)
        if key is not None and await self._known.find_passed(key, plan):
            return None
        if (
            key is not None and models.names_only
        ):  # what passed with models that can be asked passes where their names are enough
            stricter = await beside(lambda: self._check_key(plan, saved, self._askable), small=small)
            if stricter is not None and await self._known.find_passed(stricter, plan):
                return None
        survey = await self._survey(plan, saved, models, small=small)
        if key is not None:
            self._known.note_passed(key, plan)
        return survey

    def _check_key(self, plan: Plan, saved: Mapping[str, Plan], models: EngineModels) -> str | None:
        """Return the key of the check of a plan by this engine; `None`: checking the plan costs less than looking for the key."""
        if not self._known.covers(plan):
            return None
        if self._tools_name is None:  # an engine has many tools, of which many engines check no large plan
            self._tools_name = tools_name(self._tools)
        # What a tool asks is no part of its signature, so it stands beside the models.
        asking: dict[str, Json] = {
            tool.name: list(tool.asked_models) for tool in self._tools if tool.asked_models
        }
        shared = self._facilities
        rules: Json = [shared.flow, shared.policies.places, models.state(), asking]
        return check_key(plan, saved, self._tools_name, shared.secrets.places, LIMITS, rules)

    async def expect_output(self, plan: Plan, saved: Mapping[str, Plan], wanted: OutputType[Any]) -> None:
        """Check that the output of a plan can be of a type.

        Args:
            plan: The plan, which passed its check.
            saved: The saved plans that it runs.
            wanted: The type.

        Raises:
            PlanRejected: The output cannot be of the type.
        """
        key = (plan.digest, canonical(wanted.schema))
        problems = self._outputs.find(key)
        if problems is None:
            problems = await beside(
                lambda: output_problems(plan, wanted.schema, self._tools, plans=saved), small=is_small(plan)
            )
            if not saved:  # another plan may stand under a name later
                self._outputs.keep(key, problems)
        report = CheckReport(problems)
        if not report.ok:
            raise PlanRejected(report)

    async def header(
        self,
        plan: PlanLike,
        options: Options,
        inputs: Mapping[str, Json],
        parent: Run | None = None,
        wanted: OutputType[Any] | None = None,
    ) -> Header:
        """Return the header of a run of a plan.

        Args:
            plan: The plan.
            options: How it is run.
            inputs: Values of its inputs.
            parent: The run that it differs from, whose inputs count where `inputs` has no value.
            wanted: The type that its output has to have; `None`: any.

        Raises:
            PlanRejected: The plan has problems, or its output cannot be of the type.
            InputRejected: An input does not fit, or `usd` is limited and nobody knows the price of a model.
            ConfigError: A tool is not as it was accepted.
        """
        # Answers of the parent of a fork, or of the store with reuse="only", stand without a model.
        may_not_ask = parent is not None or options.reuse == "only"
        models = self._named if may_not_ask else self._askable
        accepted, saved, survey = await self._accept(plan, options.tenant, models)
        if accepted.deadline is not None and options.deadline is None:
            options = replace(options, deadline=self._now() + (accepted.deadline_s or 0.0))
        if wanted is not None:
            await self.expect_output(accepted, saved, wanted)
        if "usd" in options.budget:
            self._expect_priced(accepted, saved, patches=options.replan > 0)
        if parent is not None:
            kept = {name: value for name, value in parent.inputs.items() if name in accepted.inputs}
            inputs = {**kept, **values_of("inputs", inputs)}
        given = fitted_inputs(accepted, inputs, self._now)
        task = accepted.task or (None if parent is None else parent.task)
        lock = self._lock(accepted, saved)
        if self._pins.has_changes:
            await self._pins.expect(lock.names)
        if (
            len(accepted.steps) <= INLINE_STEPS and not accepted.plans
        ):  # most plans: a warm run does nothing more here
            header = options.header(accepted, given, saved, lock, task=task)
            if (
                survey is not None
            ):  # whoever submits the run finds the program, which needs no second survey here
                program_of(accepted, lock, saved, header.language, surveyed=(survey, self._tools))
            return header
        header = await beside(lambda: options.header(accepted, given, saved, lock, task=task), small=False)
        # Whoever submits the run compiles its plan, and finds the program here.
        await self._known.load(header)
        surveyed = None if survey is None else (survey, self._tools)
        await beside(
            lambda: program_of(accepted, lock, saved, header.language, surveyed=surveyed), small=False
        )
        self._known.note_program(header)
        return header

    async def retry_header(self, before: Header, replan: int, deadline: float | None = None) -> Header:
        """Return the header for the retry of an ended run, which uses the present tools.

        Args:
            before: The header of the ended run.
            replan: How often a model may patch the plan.
            deadline: Of the new run, in Unix seconds.

        Raises:
            PlanRejected: The plan has problems with the tools as they are now.
            InputRejected: `usd` is limited, and nobody knows the price of a model.
        """
        # A retry is a new run: limits of the ended run count, at most the ceilings of this engine. Its deadline has most likely passed.
        budget = self._facilities.budgets.lowered(before.budget)
        header = replace(
            before,
            fork=None,
            planning=None,
            replan=replan,
            rules=RULES_VERSION,
            budget=budget,
            request="",
            deadline=deadline,
        )
        if before.plan is None:
            return header
        if deadline is None and before.plan.deadline_s is not None:
            header = replace(header, deadline=self._now() + before.plan.deadline_s)
        await self._expect_passed(before.plan, before.plans, self._named, small=is_small(before.plan))
        if "usd" in budget:
            self._expect_priced(before.plan, before.plans, patches=replan > 0)
        return replace(header, lock=self._lock(before.plan, before.plans))

    def _expect_priced(self, plan: Plan, saved: Mapping[str, Plan], *, patches: bool = False) -> None:
        """Check that the price of each model is known that a run may ask. Raises: InputRejected (`unpriced-model`)."""
        self._facilities.models.expect_priced(models_asked((plan, *saved.values()), self._tools))
        plans_in_run = any(isinstance(step, PlanForStep) for step in _steps_of((plan, *saved.values())))
        if patches or plans_in_run:
            with suppress(ConfigError):  # without a model nothing is patched
                self._planner.expect_priced()

    # --- planned tasks

    async def plan(  # noqa: PLR0913  # what a run and a caller of the engine give
        self,
        task: str,
        inputs: Mapping[str, Json] | None,
        *,
        row: RunRow | None = None,
        tenant: str = "",
        early: EarlySteps | None = None,
        heard: Callable[[Plan], None] | None = None,
        cost: PlanningCost | None = None,
        answers: Sequence[tuple[str, Json]] = (),
        returns: Mapping[str, Json] | None = None,
    ) -> Planned:
        """Return the planner's plan of a task; the store's saved plans are asked first.

        Args:
            task: The task in words.
            inputs: Values that are given beside the words.
            row: The run of the task, which has just these inputs; `None`: the plan is made for later.
            tenant: Whose saved plans are asked, and by whom the plan is made.
            early: Gets each partial plan.
            heard: Is called with each partial plan, where there is no `early`.
            cost: The budget of the planning.
            answers: The questions of earlier plannings of the task, each with its answer.
            returns: The schema that its output has to fit.

        Raises:
            PlanningFailed: There is no plan.
            PlanRejected: The plan does not pass the check of the engine.
            ConfigError: A tool is not as it was accepted.
        """
        await self._pins.expect()
        uses: list[Use] = []
        saved = dict(await self._archive.list_plans(tenant))
        try:
            found = await self._planner.plan(
                words_of(task),
                await self.learnt_tools(),
                inputs=values_of("inputs", inputs),
                saved=[SavedPlan(name, plan) for name, plan in saved.items()],
                plans=saved.get,
                judge=self._judge,
                rules=self._facilities.policies.rule_for,
                models=self._askable,
                complete=row is not None,
                cache=self._archive.planned.of_tenant(tenant),
                heard=heard if early is None else self._offering(early, inputs or {}, saved),
                used=uses.append,
                budget=None if cost is None else cost.left,
                spent=None if cost is None else _adding(cost),
                answers=answers,
                **(
                    {} if returns is None else {"returns": returns}
                ),  # a planner of another class may not know it
            )
        finally:
            run_id = None if row is None else row.id
            noted = [(qualified(use.name, tenant), use.digest, use.outcome) for use in uses]
            await self._archive.uses.note(noted, run_id)
        await self._expect_ok(found.plan, tenant)
        return found

    async def plan_run(
        self, row: RunRow, inputs: Mapping[str, Json], cost: PlanningCost, early: EarlySteps | None
    ) -> PlannedRun:
        """See `RunPlanner.plan_run`."""
        answers = [(str(each["text"]), each["answer"]) for each in answers_in(row.header)]
        found = await self.plan(
            words_of(row.task),
            inputs,
            row=row,
            tenant=row.tenant,
            early=early,
            cost=cost,
            answers=answers,
            returns=row.header.get("returns"),
        )
        plans = await self._saved_for(found.plan, row.tenant)
        if cost.limits.get("usd") is not None:
            self._expect_priced(found.plan, plans)
        record = _record(found.source, found.usage, found.attempts)
        fitted = fitted_inputs(found.plan, found.inputs, self._now)
        return PlannedRun(found.plan, plans, fitted, self._lock(found.plan, plans), record)

    async def plan_step(self, task: StepTask, cost: PlanningCost) -> Plan:
        """See `StepPlanner.plan_step`."""
        await self._pins.expect()
        known = await self.learnt_tools()
        tools = Toolset(tool for name in task.tools if (tool := known.find(name)) is not None)
        shown, untrusted = dict[str, Json](), dict[str, Json]()
        for name, value in task.given.items():
            (untrusted if name in task.hidden else shown)[name] = value
        found = await self._planner.plan_part(
            words_of(task.words),
            tools,
            task.given,
            Part(task.steps_max, task.returns, shown, untrusted),
            judge=self._judge,
            rules=self._facilities.policies.rule_for,
            models=self._askable,
            budget=cost.left,
            spent=_adding(cost),
            answers=task.answers,
        )
        await self._expect_ok(found.plan)
        if "usd" in cost.limits:
            self._expect_priced(found.plan, {})
        # The date goes into the sub-plan, and so into the journal: a replay has the same.
        today = given_by_clock(found.plan, self._now)
        return with_defaults(found.plan, {each: today[each] for each in today if each not in task.given})

    async def patch_run(self, run: Run, plan: Plan, cost: PlanningCost) -> Header:
        """See `RunPlanner.patch_run`."""
        await self._pins.expect()
        before = Header.from_dict((await self._archive.row(run.id)).header)
        saved = dict(await self._archive.list_plans(before.tenant))
        mended = await self._planner.repair_run(
            plan,
            run.steps,
            await self.learnt_tools(),
            task=run.task,
            plans=saved.get,
            judge=self._judge,
            rules=self._facilities.policies.rule_for,
            models=self._askable,
            output_error=next((error for error in run.errors if not error.step), None),
            budget=cost.left,
            spent=_adding(cost),
        )
        options = Options(
            budget=self._facilities.budgets.lowered(cost.rest),
            submitter=before.submitter,
            deadline=before.deadline,  # the caller waits for both runs as one
            priority=before.priority,
        )
        header = await self.header(mended.plan, options, {}, run)
        record = _record(f"patch of {run.id}", mended.usage, mended.attempts)
        if mended.shows_untrusted:
            record = {**record, SHOWN_UNTRUSTED: True}
        return replace(header, planning=with_cost(record, cost))

    async def recorded_planning(self, run_id: str) -> RecordedPlanning:
        """Return how a planner came to the plan of a run, with the request as it would be made today. Raises: RunNotFound."""
        row = await self._archive.row(run_id)
        header = Header.from_dict(row.header)
        record = header.planning if isinstance(header.planning, dict) else {}
        source, attempts = record.get("source"), record.get("attempts")
        drafts = len(attempts) if isinstance(attempts, list) else 0
        found = RecordedPlanning(source if isinstance(source, str) else "", drafts)
        if header.plan is None or not header.task:
            return replace(found, unknown=NO_PLAN)
        tools = await self.learnt_tools()
        if any(not _is_same(tools.find(name), locked) for name, locked in header.lock.items()):
            return replace(found, unknown=OTHER_TOOLS)
        from .planner.drafting.drafting import recorded_request  # noqa: PLC0415  # a warm run plans nothing
        from .planner.request import PlanRequest  # noqa: PLC0415

        answers = tuple((str(each["text"]), each["answer"]) for each in answers_in(row.header))
        given = _given_inputs(header.plan, header.inputs)
        request = PlanRequest(header.task, tools, given, answers=answers)
        messages, answer = recorded_request(request, header.plan)
        is_untrusted = header.is_shown_untrusted or bool(header.written or header.controlled)
        return replace(found, messages=messages, answer=answer, is_untrusted=is_untrusted)

    def _offering(
        self, early: EarlySteps, given: Mapping[str, Json], saved: Mapping[str, Plan]
    ) -> Callable[[Plan], None]:
        """Return a callback that offers partial plans for an early start, if they take the given inputs."""

        def offer(partial: Plan) -> None:
            inputs, problems = fit_inputs(partial, {**given_by_clock(partial, self._now), **given})
            if not problems:
                early.offer(partial, inputs, self._lock(partial, saved), saved.get)

        return offer

    # --- the engine's tools and saved plans

    async def learnt_tools(self) -> Toolset:
        """Return the engine's tools with what their results looked like, as planners see them."""
        found = await self._facilities.learnt.find(self._tools, self._now())
        if not found:
            return self._tools
        return Toolset(
            tool.with_learnt(found[tool.name]) if tool.name in found else tool for tool in self._tools
        )

    def _judge(self, report: CheckReport) -> CheckReport:
        return judged(report, self._facilities.flow)

    def _lock(self, plan: Plan, saved: Mapping[str, Plan]) -> ToolsetLock:
        # The plan and the tools decide the lock, and nobody changes them; a plan that was checked before is the same object again.
        if not saved:
            return self._locks.get(plan, lambda given: ToolsetLock.of((given,), self._tools))
        return ToolsetLock.of((plan, *saved.values()), self._tools)

    async def _saved_for(self, plan: Plan, tenant: str) -> dict[str, Plan]:
        return await saved_plans_of(plan, lambda name: self._archive.find_plan(name, tenant))


def _given(plan: PlanLike) -> Plan | Mapping[str, Any]:
    """Return a plan as it was given; a path is the file of one.

    Raises:
        InputRejected: The file cannot be read, or the value is a thing of firmplan's that is no plan.
        PlanRejected: The file holds no plan.
    """
    if isinstance(plan, Plan | dict):
        return plan
    if isinstance(plan, os.PathLike):
        return Plan.load(plan)
    if hasattr(plan, "build") or hasattr(plan, "fingerprint"):
        advice = (
            "build it first: builder.build(toolset)"
            if hasattr(plan, "build")
            else "a plan has steps that call tools"
        )
        raise InputRejected(
            f"a plan: expected a Plan, a dict, the Path of a plan's file, or a task in words, found a {type(plan).__name__}; {advice}"
        )
    return plan


def models_asked(plans: Iterable[Plan], tools: Toolset) -> dict[str, str]:
    """Return the aliases of the models that the steps of plans may ask, judges included, each with the step that asks it."""
    found: dict[str, str] = {}
    for step in _steps_of(plans):
        for alias in _aliases_of(step, tools):
            found.setdefault(alias, f"step '{step.id}'")
    return found


def _steps_of(plans: Iterable[Plan]) -> Iterator[Step]:
    """Yield the steps of plans, those of their inner plans included."""
    for plan in plans:
        yield from plan.steps
        for inner in plan.plans.values():
            yield from inner.steps


def _aliases_of(step: Step, tools: Toolset) -> list[str]:
    """Return the aliases of the models that a step of a plan may ask, those of an inner plan's steps left out."""
    match step:
        case AskStep():
            alias = step.ask.model or DEFAULT
            return [alias, *(judge.model or alias for judge in judges_in(step.ask.guard))]
        case AgentStep() | PlanForStep() | ToolStep():
            # What a `plan_for` step asks itself is the planner, which has models of its own.
            own = [DEFAULT] if isinstance(step, AgentStep) else []
            names = [step.tool] if isinstance(step, ToolStep) else step.may_call
            called = [tool for name in names if (tool := tools.find(name)) is not None]
            return [*own, *(alias for tool in called for alias in tool.asked_models)]
        case _:
            return []


def _is_same(now: Tool | None, locked: ToolLock) -> bool:
    """Whether a tool is, for a planner, what it was when a run began."""
    return now is not None and (now.description, now.effect, now.parameters, now.returns) == (
        locked.description,
        locked.effect,
        locked.parameters,
        locked.returns,
    )


def _given_inputs(plan: Plan, inputs: Mapping[str, Json]) -> dict[str, Json]:
    """Return the inputs of a run that its task was given: those that are not just the plan's own defaults."""
    return {
        name: value
        for name, value in inputs.items()
        if "default" not in (schema := plan.inputs.get(name, {})) or schema["default"] != value
    }


def _record(source: str, usage: Usage, attempts: Sequence[Attempt]) -> dict[str, Json]:
    """Return the record of a planning, as the header of a run has it."""
    return {
        "source": source,
        "usage": usage.to_dict(),
        "attempts": [attempt.to_dict() for attempt in attempts],
    }


def _adding(cost: PlanningCost) -> Callable[[Usage], None]:
    """Return a callback that adds the usage of a planner's requests to the cost of a run's planning."""

    def add(usage: Usage) -> None:
        tokens = usage.prompt_tokens + usage.completion_tokens
        cost.add(model_calls=usage.requests, tokens=tokens, usd=usage.usd, cached=usage.cached_tokens)

    return add
