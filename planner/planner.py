"""`Planner`: from a task in words to a checked plan.

    planner = Planner(model="gpt-5-mini", library="plans/")
    planned = await planner.plan("Compare the weather in Rome and Oslo", toolset)

Saved plans are asked first: one whose task is a pattern of the task answers it, and no model is needed. Where none fits, a model
is asked whether the nearest does, and only then for a plan. What is not set comes from the environment, read when a plan is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ..errors import ConfigError
from ..plans import SavedPlans
from ..plans.inputs import fit_inputs
from ..plans.plan import Plan
from ..plans.values import Json
from ..tools.models.clients import Clients
from ..tools.models.completion import Usage
from ..tools.models.endpoint import Endpoint, Model
from ..tools.tool import Tool
from ..tools.toolset import Toolset
from .drafting.adapting import adapt
from .drafting.attempt import Attempt
from .drafting.choosing import CHOOSE_OVER
from .drafting.conversation import Conversation, Spending
from .drafting.drafting import Drafting
from .drafting.ear import Ear, Heard
from .drafting.failure import no_model
from .drafting.incident import ErrorLike, Incident, StepLike
from .drafting.mending import Mended, Mending
from .drafting.preview import Preview, preview_of
from .given import given_faults, is_missing, with_defaults
from .library.library import Entry, Library, fits, nearest_tasks
from .library.uses import Use, Used
from .order import Judge, Order, inputs_of, task_of
from .reuse import PlanCache, planning_key
from .saved import SavedPlan

REUSED = "reused"
"""The source of a plan that a model wrote before, for the same task."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that passed its check, and where it came from.

    Attributes:
        inputs: Values for the plan's inputs: those given, and those that a saved plan's pattern found in the words.
        attempts: What was tried, the last of them this plan.
        usage: What the model calls cost in all.
        source: `"model"`, `"saved:<name>"`, `"adapted:<name>"`: a saved plan to whose inputs a model gave other defaults, or
            `"reused"`: a model wrote it, or filled it in, before.
    """

    plan: Plan
    inputs: dict[str, Json]
    attempts: tuple[Attempt, ...]
    usage: Usage
    source: str

    @property
    def runnable(self) -> Plan:
        """The plan with `inputs` as the defaults of its inputs, so that it runs as it is."""
        if not self.inputs:
            return self.plan
        return with_defaults(self.plan, self.inputs)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The further arguments of a request for a plan; see `Planner.plan`."""

    cache: PlanCache | None
    heard: Heard | None
    used: Used
    spending: Spending


class Planner:
    """Makes plans of tasks.

    Args:
        model: The model's name; by default `FIRMPLAN_MODEL`.
        base_url: An OpenAI-compatible endpoint, with its `/v1`; by default `FIRMPLAN_BASE_URL`, else OpenAI's.
        api_key: By default `OPENAI_API_KEY`; an endpoint on this machine needs none.
        mode: How structure is asked for: `tools`, `json_schema`, `json` or `md_json`; by default what works.
        max_repairs: How often a draft's faults are sent back.
        library: A folder of saved plans, or a list of files, plans and `SavedPlan`s.
        timeout: Seconds a request; a planning ends after 12 requests or ten times this.
        small_model: Who is asked small questions beside the plan (which saved plan, which tools): a name at the same endpoint, or
            a `Model`; by default `FIRMPLAN_SMALL_MODEL`, else the same model.
        adapt: Whether a model is asked to fill the inputs of the nearest saved plan where no pattern answers a task.
        choose_over: Of a toolset of more tools than this, a small prompt chooses first; `None`: the task's words alone do.

    Raises:
        ConfigError: A setting is none of these.
    """

    def __init__(  # noqa: PLR0913  # the contract's settings, and how tools are chosen
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        mode: str | Enum | None = None,
        max_repairs: int = 3,
        library: Entry | Iterable[Entry] | None = None,
        timeout: float = 60,
        small_model: str | Model | None = None,
        adapt: bool = True,
        choose_over: int | None = CHOOSE_OVER,
    ) -> None:
        self._model = Model(model, base_url, api_key, mode)
        self._max_repairs = _count("max_repairs", max_repairs)
        self._timeout_s = _seconds(timeout)
        self._small = _small(small_model)
        self._adapts = adapt
        self._choose_over = None if choose_over is None else _count("choose_over", choose_over)
        self._library = Library(library)
        self._clients = Clients()

    @property
    def endpoint(self) -> Model | None:
        """What was said of the model, for the engine's other model calls to fall back to; `None`: nothing was."""
        said = (self._model.name, self._model.base_url, self._model.api_key, self._model.mode)
        return None if all(part is None for part in said) else self._model

    @property
    def library(self) -> tuple[SavedPlan, ...]:
        """The saved plans of the library, as they are now. Raises: ConfigError: a file holds no plan."""
        return tuple(self._library.plans())

    async def plan(  # noqa: PLR0913  # the contract's, and what an engine adds
        self,
        task: str,
        tools: Toolset | Iterable[Tool] = (),
        *,
        inputs: Mapping[str, Json] | None = None,
        saved: Sequence[SavedPlan] = (),
        plans: SavedPlans | None = None,
        judge: Judge | None = None,
        complete: bool = False,
        cache: PlanCache | None = None,
        heard: Heard | None = None,
        used: Used | None = None,
        budget: Mapping[str, float] | None = None,
        spent: Callable[[Usage], None] | None = None,
    ) -> Planned:
        """Return a plan for a task, checked against the tools.

        Args:
            task: What is wanted, in words.
            tools: What the plan may use.
            inputs: Values that are given beside the words; a model is told their names and types.
            saved: Saved plans to ask beside the library.
            plans: Finds the saved plan that a `plan` step names.
            judge: Has the last word on what a check found: an engine may take some faults for warnings.
            complete: Whether the plan is to run with just these inputs: a draft that needs another is sent back.
            cache: Where plans that models wrote are kept, for the same task to be planned once.
            heard: Is handed each longer beginning of a draft that passes its check, while the model writes: steps
                of it may be started. A later draft may say otherwise; the plan that is returned holds.
            used: Is told of each saved plan that was thought to answer the task, and whether it does (`uses.py`).
            budget: Most `model_calls`, `tokens`, `usd` and `seconds` that the planning may use. A saved plan needs none.
            spent: Is told what each answered request used, also of a planning that fails.

        Raises:
            PlanningFailed: No plan came; the message says why and what to do, `attempts` holds what was tried, and `limit` is the limit
                of the budget that it would have passed.
            InputRejected: The task is empty or too long, or an input is not JSON.
            ConfigError: A file of the library holds no plan.
        """
        every = (*saved, *self.library)
        order = Order(task_of(task), Toolset.of(tools), inputs_of(inputs), every, plans, judge, complete)
        attempts: list[Attempt] = []
        found = _from_saved(order, attempts, used or _nobody)
        if found is not None:
            return found
        asked = _Asked(cache, heard, used or _nobody, Spending(budget or {}, spent))
        return await self._from_model(order, attempts, asked)

    def preview(
        self,
        task: str,
        tools: Toolset | Iterable[Tool] = (),
        *,
        inputs: Mapping[str, Json] | None = None,
        saved: Sequence[SavedPlan] = (),
        complete: bool = False,
    ) -> Preview:
        """Return what `plan` would send first for a task; nothing is sent.

        Args:
            task: The words.
            tools: What plans may call.
            inputs: Values that are given beside the words.
            saved: Saved plans that may answer the task, or be adapted to it.
            complete: Whether the plan is to run with just these inputs.

        Raises:
            InputRejected: The task is empty or too long, or an input is not JSON.
            ConfigError: A file of the library holds no plan.
        """
        every = (*saved, *self.library)
        order = Order(task_of(task), Toolset.of(tools), inputs_of(inputs), every, None, None, complete)
        found = _from_saved(order, [], _nobody)
        try:
            endpoint = self._model.resolve()
        except ConfigError:
            model = None
        else:
            model = f"{endpoint.name} at {endpoint.base_url}"
        source = None if found is None else found.source
        return preview_of(order, source, model, adapts=self._adapts, choose_over=self._choose_over)

    async def repair_run(  # noqa: PLR0913  # what `plan` takes, and the run
        self,
        plan: Plan,
        steps: Mapping[str, StepLike],
        tools: Toolset | Iterable[Tool] = (),
        *,
        task: str | None = None,
        plans: SavedPlans | None = None,
        judge: Judge | None = None,
        output_error: ErrorLike | None = None,
        budget: Mapping[str, float] | None = None,
        spent: Callable[[Usage], None] | None = None,
    ) -> Mended:
        """Return a checked patch for the rest of a plan whose run went wrong.

        Args:
            plan: The plan that ran.
            steps: Path -> where it stands: `Run.steps`. Only statuses, reasons and firmplan's own error codes are looked at.
            tools: What the patched plan may use.
            task: What was asked for; by default the plan's own task.
            plans: Finds the saved plan that a `plan` step names.
            judge: Has the last word on what a check found.
            output_error: Why the plan's output could not be computed, if that is what failed: the error of `Run.errors` that has no
                step. Only its code is looked at.
            budget: Most `model_calls`, `tokens`, `usd` and `seconds` that this may use.
            spent: Is told what each answered request used, also where no patch comes.

        Raises:
            PlanningFailed: No patch came, or the model sees no way; `attempts` holds what was tried.
            ConfigError: No model is configured.
        """
        words = task or plan.task or "Do what the plan does."
        order = Order(task_of(words), Toolset.of(tools), {}, (), plans, judge)
        incident = Incident.of(
            plan.model_copy(update={"task": words}), steps, order.check(plan).types, output_error
        )
        endpoint = self._model.resolve()
        conversation = Conversation(
            order,
            endpoint,
            self._clients,
            self._timeout_s,
            approach="patch",
            spending=Spending(budget or {}, spent),
        )
        return await conversation.within(Mending(incident, conversation, self._max_repairs).run())

    async def aclose(self) -> None:
        """Let go of what the planner holds: nothing lives longer than a call, so this returns at once."""

    async def _from_model(
        self,
        order: Order,
        attempts: list[Attempt],
        asked: _Asked,
    ) -> Planned:
        """Return a plan that a model wrote or filled in, now or before. Raises: PlanningFailed."""
        try:
            endpoint: Endpoint = self._model.resolve()
        except ConfigError as missing:
            nearest = nearest_tasks(order.task, order.saved)
            raise no_model(order.task, missing, nearest, attempts) from missing
        small = self._small_of(endpoint)
        cache = asked.cache
        key = "" if cache is None else planning_key(order, endpoint, small)
        if cache is not None and (kept := await cache.find(key)) is not None:
            attempt = _reused(order, kept, len(attempts) + 1)
            attempts.append(attempt)
            if attempt.ok:
                return Planned(kept, dict(order.inputs), tuple(attempts), Usage(), REUSED)
        conversation = Conversation(
            order, endpoint, self._clients, self._timeout_s, attempts, small=small, spending=asked.spending
        )
        planned = await conversation.within(self._asked(conversation, asked.heard, asked.used))
        if cache is not None:
            await cache.keep(key, planned.plan)
        return planned

    def _small_of(self, endpoint: Endpoint) -> Endpoint:
        """Return who is asked small questions. Raises: ConfigError: a `Model` leaves open what nobody says."""
        if isinstance(self._small, Model):
            return self._small.resolve()
        name = self._small or os.environ.get("FIRMPLAN_SMALL_MODEL")
        return replace(endpoint, name=name) if name else endpoint

    async def _asked(self, conversation: Conversation, heard: Heard | None, used: Used) -> Planned:
        """Return what a model makes of a task: a saved plan that it filled in, else one that it wrote. Raises: PlanningFailed."""
        order, attempts = conversation.order, conversation.attempts
        listener = None if heard is None else Ear(order, heard)
        adapted = await adapt(conversation, listener) if self._adapts else None
        if adapted is not None and adapted.declined:
            used(Use.of(adapted.saved, "model"))
        if adapted is not None and adapted.filled is not None:
            used(Use.of(adapted.saved, "answered"))
            source = f"adapted:{adapted.saved.name}"
            return Planned(adapted.filled, dict(order.inputs), tuple(attempts), _sum(attempts), source)
        first = None if adapted is None else adapted.draft
        drafting = Drafting(
            conversation, self._max_repairs, first=first, choose_over=self._choose_over, heard=heard
        )
        plan = await drafting.run()
        return Planned(plan, dict(order.inputs), tuple(attempts), _sum(attempts), "model")


def _nobody(_: Use) -> None:
    """Hear of a use where nobody keeps them."""


def _from_saved(order: Order, attempts: list[Attempt], used: Used) -> Planned | None:
    """Return the most specific saved plan that fits without doubt and passes its check; the others are noted in `attempts`.

    One that lacks an input comes after those that lack none, and before a model: whoever runs it is told which.
    """
    lacking: list[tuple[SavedPlan, Planned]] = []
    for fit in fits(order.task, order.saved, order.inputs):
        plan, source = fit.saved.plan, f"saved:{fit.saved.name}"
        if fit.doubt is not None:
            attempts.append(Attempt(len(attempts) + 1, error=fit.doubt, source=source))
            continue
        inputs, problems = fit_inputs(plan, fit.inputs)
        missing = [each for each in problems if is_missing(each, fit.inputs)]
        found = [each for each in problems if each not in missing]
        report = order.check(plan)
        attempt = Attempt(len(attempts) + 1, plan.to_json(), plan, (*found, *report.problems), source=source)
        if attempt.ok:
            planned = Planned(plan, inputs, (*attempts, attempt), Usage(), source)
            if not missing:
                used(Use.of(fit.saved, "answered"))
                return planned
            lacking.append((fit.saved, planned))
        else:
            attempts.append(attempt)
            used(Use.of(fit.saved, "check"))
    for saved, planned in lacking[:1]:
        used(Use.of(saved, "answered"))
        return planned
    return None


def _reused(order: Order, plan: Plan, number: int) -> Attempt:
    """Return a plan that a model wrote before as an attempt: it is checked like a new one."""
    report = order.check(plan)
    faults = given_faults(plan, order.inputs, complete=order.complete)
    return Attempt(number, plan.to_json(), plan, (*faults, *report.problems), source=REUSED)


def _small(given: object) -> str | Model | None:
    """Return who is asked small questions. Raises: ConfigError."""
    if given is None or isinstance(given, Model) or (isinstance(given, str) and given.strip()):
        return given
    raise ConfigError(f"small_model: expected a model's name or a Model, found {given!r}")


def _count(name: str, given: object) -> int:
    """Return a number of something. Raises: ConfigError."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise ConfigError(f"{name}: expected an integer of at least 0, found {given!r}")


def _seconds(given: object) -> float:
    """Return a timeout. Raises: ConfigError."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < float("inf"):
        return float(given)
    raise ConfigError(f"timeout: expected seconds above 0, found {given!r}")


def _sum(attempts: Sequence[Attempt]) -> Usage:
    total = Usage()
    for attempt in attempts:
        total += attempt.usage
    return total
