"""`Planner`: from a task in words to a checked plan.

    planner = Planner(model="gpt-5-mini", library="plans/")
    planned = await planner.plan("Compare the weather in Rome and Oslo", toolset)

Saved plans are asked first: a plan whose pattern matches the task answers it without a model. If none does, a `PlanCache` is asked for a plan that a
model wrote before, then a model whether the nearest saved plan fits, and only then for a new plan. Settings that are not given come from
the environment, which is read when a plan is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from ..errors import ConfigError
from ..plans import SavedPlans
from ..plans.checker.flow.selection import FlowRules
from ..plans.durations import parse_count
from ..plans.immutable import immutable
from ..plans.inputs import fit_given
from ..plans.plan import Plan
from ..plans.reports.problems import CheckReport
from ..plans.signature import KnownModels, Signature
from ..plans.values import Json, canonical, digest
from ..tools.models.clients import Clients
from ..tools.models.completion import Usage
from ..tools.models.endpoint import Endpoint, KeySource, Model, key_variables, schema_first
from ..tools.models.models import Models
from ..tools.tool import Tool
from ..tools.toolset import Toolset
from .drafting.attempt import Attempt, no_model, no_model_for_part
from .library.library import Entry, Library, SavedPlan, Use, Used, find_matches, nearest_tasks
from .part import Part
from .request import (
    CHOOSE_OVER,
    Judge,
    PlanRequest,
    input_faults,
    input_schemas,
    inputs_of,
    is_missing_input,
    task_of,
    with_defaults,
)

if TYPE_CHECKING:
    from .drafting.conversation import Conversation
    from .drafting.drafting import Preview
    from .drafting.failure_report import ErrorLike, StepLike
    from .drafting.patching import Mended
    from .drafting.small import Profile
    from .drafting.streaming import PartialPlanHandler

REUSED = "reused"
"""The source of a plan that a model wrote before, for the same task."""


@immutable
class Planned:
    """A plan that passed its check, and its source.

    Attributes:
        inputs: Values for the plan's inputs: the given ones, and those that a pattern found in the task's words.
        attempts: All attempts; the last of them is this plan.
        usage: The usage of all model calls.
        source: `"model"`; `"saved:<name>"`; `"adapted:<name>"`: a saved plan to whose inputs a model gave other defaults; or
            `"reused"`: a model wrote the plan, or filled it in, before.
    """

    plan: Plan
    inputs: dict[str, Json]
    attempts: tuple[Attempt, ...]
    usage: Usage
    source: str

    @property
    def runnable(self) -> Plan:
        """The plan with `inputs` as the defaults of its inputs, so that it runs as it is."""
        return with_defaults(self.plan, self.inputs) if self.inputs else self.plan


class PlanCache(Protocol):
    """Plans that models wrote, by the key of their planning (`planning_key`)."""

    async def find(self, key: str, /) -> Plan | None:
        """Return the plan that was kept under a key; `None`: there is none."""
        ...

    async def keep(self, key: str, plan: Plan, /) -> None:
        """Keep a plan under a key; it replaces an older plan of the key."""
        ...


@immutable
class _PlanningOptions:
    """The arguments of `Planner.plan` that matter only if a model is asked."""

    cache: PlanCache | None
    handler: PartialPlanHandler | None
    used: Used
    budget: Mapping[str, float]
    spent: Callable[[Usage], None] | None


class Planner:
    """Makes plans of tasks.

    Args:
        model: The model's name, or a `Model`, whose `timeout` and `fallback` count too; by default `FIRMPLAN_MODEL`.
        base_url: An OpenAI-compatible endpoint, with its `/v1`; by default `FIRMPLAN_BASE_URL`, else OpenAI's.
        api_key: By default `OPENAI_API_KEY`; an endpoint on this machine needs none.
        mode: How structure is asked for: `tools`, `json_schema`, `json` or `md_json`; by default the first that works.
        max_repairs: How often the faults of a draft are sent back.
        library: A folder of saved plans, or a list of files, plans and `SavedPlan`s.
        timeout: Seconds for a request; a planning ends after 12 requests or ten times this.
        small_model: The model for small questions beside the plan (which saved plan, which tools): a name at the same endpoint, or
            a `Model`; by default `FIRMPLAN_SMALL_MODEL`, else the same model.
        adapt: Whether a model is asked to fill in the nearest saved plan if no pattern answers a task.
        untrusted_text: Whether a model that patches a plan is shown messages and results of untrusted tools, marked as data. What it changes
            then counts as untrusted data: a write takes it only where it takes untrusted data.
        choose_over: A small question chooses from a toolset of more tools than this, where that saves tokens; `None`: the task's words alone choose.
        profile: How much a model is told, and what it may write: `"full"`, or `"small"` for models of one to four billion parameters,
            which write calls of tools in a short form and are held to it by a schema; by default `FIRMPLAN_PROFILE`, else `"full"`.

    Raises:
        ConfigError: A setting is not valid.
    """

    def __init__(  # noqa: PLR0913  # the contract's settings, and how tools are chosen
        self,
        model: str | Model | None = None,
        *,
        base_url: str | None = None,
        api_key: KeySource = None,
        mode: str | Enum | None = None,
        max_repairs: int = 3,
        library: Entry | Iterable[Entry] | None = None,
        timeout: float = 60,
        small_model: str | Model | None = None,
        adapt: bool = True,
        choose_over: int | None = CHOOSE_OVER,
        untrusted_text: bool = False,
        profile: str | None = None,
    ) -> None:
        self._model = _model(model, base_url, api_key, mode)
        self._max_repairs = _count("max_repairs", max_repairs)
        self._timeout_s = self._model.timeout_s or _seconds(timeout)
        self._small = _small_model(small_model)
        self._adapts = adapt
        self._choose_over = None if choose_over is None else _count("choose_over", choose_over)
        self._untrusted_text = untrusted_text
        self._given_profile: Profile | None = None if profile is None else _profile("profile", profile)
        self._library = Library(library)
        self._clients = Clients()

    @property
    def endpoint(self) -> Model | None:
        """The model settings that were given, as a fallback for an engine's other model calls; `None`: none were given."""
        given = (self._model.name, self._model.base_url, self._model.api_key, self._model.mode)
        return None if all(part is None for part in given) else self._model

    @property
    def _profile(self) -> Profile:
        """The profile. Raises: ConfigError: the environment names another one."""
        return self._given_profile or _profile(
            "FIRMPLAN_PROFILE", os.environ.get("FIRMPLAN_PROFILE") or "full"
        )

    @property
    def key_variables(self) -> frozenset[str]:
        """The environment variables that hold keys of its models, beside `OPENAI_API_KEY`: no plan may use them as secrets."""
        return key_variables([self._model, *([self._small] if isinstance(self._small, Model) else [])])

    def secret_keys(self) -> dict[str, str]:
        """Return the keys of its models, as `Models.secret_keys` does."""
        models = [self._model, *([self._small] if isinstance(self._small, Model) else [])]
        return {
            f"{name}, of the planner": key for name, key in Models({"planner": models}).secret_keys().items()
        }

    @property
    def model(self) -> Model:
        """The model that writes plans; settings that it leaves open come from the environment."""
        return self._model

    def sharing(self, clients: Clients) -> Planner:
        """Return the planner with the clients of an engine: limits and prices of its models count for both together."""
        made = copy(self)
        made._clients = clients  # noqa: SLF001  # its own class
        return made

    def expect_priced(self) -> None:
        """Check that the price of each model that may be asked is known, as a budget in dollars needs.

        Raises:
            InputRejected: `unpriced-model`.
            ConfigError: No model is configured, or the table of prices cannot be read.
        """
        endpoints = self._model.resolve_all()
        asked = dict.fromkeys((*endpoints, self._small_endpoint(endpoints[0])))
        self._clients.prices.expect_all(asked, "the planner")

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
        rules: FlowRules | None = None,
        complete: bool = False,
        cache: PlanCache | None = None,
        heard: PartialPlanHandler | None = None,
        used: Used | None = None,
        budget: Mapping[str, float] | None = None,
        spent: Callable[[Usage], None] | None = None,
        answers: Iterable[tuple[str, Json]] = (),
        models: KnownModels | None = None,
        returns: Mapping[str, Json] | None = None,
    ) -> Planned:
        """Return a plan for a task, checked against the tools.

        Args:
            task: The task in words.
            tools: The tools that the plan may use.
            inputs: Values that are given beside the words; a model sees their names and types.
            saved: Saved plans to ask, besides the library.
            plans: Finds the saved plan that a `plan` step names.
            judge: Has the last word on a check's report: an engine may take some faults for warnings.
            rules: Where untrusted data may stand although its tool does not say so; `None`: the default rules.
            complete: Whether the plan is to run with just these inputs: a draft that needs another input is sent back.
            cache: Keeps plans that models wrote, so that the same task is planned once.
            heard: Is called with each longer partial plan that passes its check, while the model writes; its steps may be started. A later
                draft may differ; the plan that is returned decides.
            used: Is called for each saved plan that seemed to answer the task, with whether it does (`Use`).
            budget: Most `model_calls`, `tokens`, `usd` and `seconds` of the planning. A saved plan needs none.
            spent: Is called with the usage of each answered request, also if the planning fails.
            answers: The questions that earlier plannings of this task ended with (`Question.text`), each with its answer.
            models: The models that steps may ask; `None`: any.
            returns: JSON Schema that the plan's output has to fit; a plan that a model writes declares it. `None`: any output will do.

        Raises:
            PlanningFailed: There is no plan. The message says why and what to do, `attempts` holds all attempts, `limit` names the limit
                of the budget that the planning would have passed, and `outcome` is what the model said in the place of a plan: `Cannot` or `Question`.
            InputRejected: The task is empty or too long, an input is not JSON, or `usd` is limited and nobody knows the price of a model.
            ConfigError: A file of the library holds no plan.
        """
        every = (*saved, *self.library)
        request = PlanRequest(
            task_of(task),
            Toolset.of(tools),
            inputs_of(inputs),
            every,
            plans,
            judge,
            complete,
            rules,
            tuple(answers),
            models=models,
            returns=returns,
        )
        used = used or _ignore
        attempts: list[Attempt] = []
        found = await _found(_from_saved(request, attempts, used), request)
        if found is not None:
            return found
        options = _PlanningOptions(cache, heard, used, budget or {}, spent)
        return await self._from_model(request, attempts, options)

    async def plan_part(  # noqa: PLR0913  # what `plan` takes, and the part
        self,
        task: str,
        tools: Toolset | Iterable[Tool],
        inputs: Mapping[str, Json],
        part: Part,
        *,
        judge: Judge | None = None,
        rules: FlowRules | None = None,
        budget: Mapping[str, float] | None = None,
        spent: Callable[[Usage], None] | None = None,
        answers: Iterable[tuple[str, Json]] = (),
        models: KnownModels | None = None,
    ) -> Planned:
        """Return the plan of one part of a run, which runs with just these inputs. A model is asked each time; saved plans are not.

        Args:
            task: What the part is to do, in words.
            tools: The tools that the plan may use.
            inputs: The values of its inputs.
            part: Its bounds, and the values that the model may see; those that are untrusted only with `untrusted_text`.
            judge: Has the last word on a check's report.
            rules: Where untrusted data may stand although its tool does not say so; `None`: the default rules.
            budget: Most `model_calls`, `tokens`, `usd` and `seconds` of the planning.
            spent: Is called with the usage of each answered request, also if the planning fails.
            answers: The questions that earlier plannings of this part ended with, each with its answer.
            models: The models that steps may ask; `None`: any.

        Raises:
            PlanningFailed: There is no plan, as in `plan`.
            InputRejected: The task is empty or too long.
        """
        request = PlanRequest(
            task_of(task),
            Toolset.of(tools),
            inputs_of(inputs),
            judge=judge,
            complete=True,
            rules=rules,
            answers=tuple(answers),
            models=models,
            part=replace(part, shown={**part.shown, **part.untrusted}) if self._untrusted_text else part,
        )
        options = _PlanningOptions(None, None, _ignore, budget or {}, spent)
        return await self._from_model(request, [], options)

    def preview(
        self,
        task: str,
        tools: Toolset | Iterable[Tool] = (),
        *,
        inputs: Mapping[str, Json] | None = None,
        saved: Sequence[SavedPlan] = (),
        complete: bool = False,
    ) -> Preview:
        """Return the first requests that `plan` would send for a task; nothing is sent.

        Args:
            task: The task in words.
            tools: The tools that the plan may use.
            inputs: Values that are given beside the words.
            saved: Saved plans that may answer the task, or be adapted to it.
            complete: Whether the plan is to run with just these inputs.

        Raises:
            InputRejected: The task is empty or too long, or an input is not JSON.
            ConfigError: A file of the library holds no plan.
        """
        every = (*saved, *self.library)
        request = PlanRequest(task_of(task), Toolset.of(tools), inputs_of(inputs), every, complete=complete)
        found = _found_here(_from_saved(request, [], _ignore), request)
        try:
            endpoint = self._model.resolve()
        except ConfigError:
            # A preview without a model is still of use: it shows the messages and the schema.
            model = None
        else:
            model = f"{endpoint.name} at {endpoint.base_url}"
        source = None if found is None else found.source
        from .drafting.drafting import preview_of  # noqa: PLC0415  # most processes write no plan
        from .drafting.small import small_preview  # noqa: PLC0415  # most processes write no plan

        show = small_preview if self._profile == "small" else preview_of
        return show(request, source, model, adapts=self._adapts, choose_over=self._choose_over)

    async def repair_run(  # noqa: PLR0913  # what `plan` takes, and the run
        self,
        plan: Plan,
        steps: Mapping[str, StepLike],
        tools: Toolset | Iterable[Tool] = (),
        *,
        task: str | None = None,
        plans: SavedPlans | None = None,
        judge: Judge | None = None,
        rules: FlowRules | None = None,
        output_error: ErrorLike | None = None,
        budget: Mapping[str, float] | None = None,
        spent: Callable[[Usage], None] | None = None,
        models: KnownModels | None = None,
    ) -> Mended:
        """Return a checked patch for the rest of a plan whose run failed.

        Args:
            plan: The plan that ran.
            steps: Path -> state of a step: `Run.steps`. The model is shown messages and results of trusted tools; of untrusted ones codes and
                types, unless `untrusted_text` is set.
            tools: The tools that the patched plan may use.
            task: The task in words; by default the plan's own task.
            plans: Finds the saved plan that a `plan` step names.
            judge: Has the last word on a check's report.
            rules: Where untrusted data may stand although its tool does not say so; `None`: the default rules.
            output_error: Why the plan's output could not be computed, if that is the failure: the error of `Run.errors` that has no
                step.
            budget: Most `model_calls`, `tokens`, `usd` and `seconds` of the repair.
            spent: Is called with the usage of each answered request, also if there is no patch.
            models: The models that steps may ask; `None`: any.

        Raises:
            PlanningFailed: There is no patch, or the model sees no way; `attempts` holds all attempts.
            InputRejected: `usd` is limited, and nobody knows the price of a model.
            ConfigError: No model is configured.
        """
        from .drafting.conversation import Conversation, PlanningBudget  # noqa: PLC0415  # most processes write no plan
        from .drafting.failure_report import Disclosures, FailureReport  # noqa: PLC0415  # most processes write no plan
        from .drafting.patching import PatchDrafting  # noqa: PLC0415  # most processes write no plan

        # A plan of a builder may have no task; the steps then say what is wanted.
        words = task or plan.task or "Do what the plan does."
        request = PlanRequest(
            task_of(words), Toolset.of(tools), {}, (), plans, judge, rules=rules, models=models
        )
        endpoint, *fallbacks = self._model.resolve_all()
        disclosures = Disclosures.of(plan, request.tools, plans, endpoint.name, texts=self._untrusted_text)
        types = (await request.check(plan)).types
        report = FailureReport.of(
            plan.model_copy(update={"task": words}), steps, types, output_error, disclosures
        )
        if budget is not None and "usd" in budget:
            self.expect_priced()
        conversation = Conversation(
            request,
            endpoint,
            self._clients,
            self._timeout_s,
            approach="patch",
            budget=PlanningBudget(budget or {}, spent),
            fallbacks=tuple(fallbacks),
        )
        return await conversation.within(PatchDrafting(report, conversation, self._max_repairs).run())

    async def aclose(self) -> None:
        """Release the resources of the planner. Clients live no longer than a call, so this returns immediately."""

    async def _from_model(
        self, request: PlanRequest, attempts: list[Attempt], options: _PlanningOptions
    ) -> Planned:
        """Return a plan that a model wrote or filled in, now or before. Raises: PlanningFailed."""
        from .drafting.conversation import Conversation, PlanningBudget  # noqa: PLC0415  # most processes write no plan

        # The time of the budget begins here: a saved plan costs nothing, and its search takes no time of the planning.
        limits = PlanningBudget(options.budget, options.spent)
        try:
            endpoint, *fallbacks = self._model.resolve_all()
        except ConfigError as missing:
            if request.part is not None:
                raise no_model_for_part(request.task, missing) from missing
            # Without a model the saved plans are all there is, so the message lists those that the task may have
            # meant.
            nearest = nearest_tasks(request.task, request.saved)
            raise no_model(request.task, missing, nearest, attempts) from missing
        if self._profile == "small":
            endpoint, *fallbacks = map(schema_first, (endpoint, *fallbacks))
        small, cache = self._small_endpoint(endpoint), options.cache
        if "usd" in options.budget:
            self.expect_priced()
        key = "" if cache is None else planning_key(request, endpoint, small, profile=self._profile)
        # The cache is asked before any question to the model, the small ones included: an equal task costs
        # nothing.
        if cache is not None and (kept := await cache.find(key)) is not None:
            # The check decides as for a draft: tools of the same signature may be judged otherwise by now.
            attempt = await _reused(request, kept, len(attempts) + 1)
            attempts.append(attempt)
            if attempt.ok:
                return Planned(kept, dict(request.inputs), tuple(attempts), Usage(), REUSED)
        conversation = Conversation(
            request,
            endpoint,
            self._clients,
            self._timeout_s,
            attempts,
            small=small,
            budget=limits,
            fallbacks=tuple(fallbacks),
            # A small model's second choice of a word is seldom better than its first.
            temperature=0 if self._profile == "small" else None,
        )
        planned = await conversation.within(self._asked(conversation, options))
        if cache is not None:
            await cache.keep(key, planned.plan)
        return planned

    def _small_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint for small questions. Raises: ConfigError: a `Model` leaves open what nobody says."""
        if isinstance(self._small, Model):
            return self._small.resolve()
        name = self._small or os.environ.get("FIRMPLAN_SMALL_MODEL")
        return replace(endpoint, name=name) if name else endpoint

    async def _asked(self, conversation: Conversation, options: _PlanningOptions) -> Planned:
        """Return the plan of a model for a task: a saved plan that it filled in, else one that it wrote. Raises: PlanningFailed."""
        from .drafting.adapting import adapt  # noqa: PLC0415  # most processes write no plan
        from .drafting.drafting import Drafting  # noqa: PLC0415  # most processes write no plan
        from .drafting.small import SmallDrafting  # noqa: PLC0415  # most processes write no plan
        from .drafting.streaming import PartialPlanListener  # noqa: PLC0415  # most processes write no plan

        request, attempts, handler = conversation.request, conversation.attempts, options.handler
        listener = None if handler is None else PartialPlanListener(request, handler)
        # A question about one saved plan is far cheaper than a plan. It is asked first, and its failure costs one
        # request.
        adapted = await adapt(conversation, listener) if self._adapts else None
        if adapted is not None and adapted.declined:
            options.used(Use.of(adapted.saved, "model"))
        if adapted is not None and adapted.filled is not None:
            options.used(Use.of(adapted.saved, "answered"))
            plan, source = adapted.filled, f"adapted:{adapted.saved.name}"
        else:
            first = None if adapted is None else adapted.draft
            kind = SmallDrafting if self._profile == "small" else Drafting
            drafting = kind(
                conversation, self._max_repairs, first=first, choose_over=self._choose_over, handler=handler
            )
            plan, source = await drafting.run(), "model"
        usage = sum((attempt.usage for attempt in attempts), Usage())
        return Planned(plan, dict(request.inputs), tuple(attempts), usage, source)


def _model(
    model: str | Model | None, base_url: str | None, api_key: KeySource, mode: str | Enum | None
) -> Model:
    """Return the model of a planner; settings beside a `Model` count where it has none. Raises: ConfigError."""
    if model is not None and not isinstance(cast("object", model), str | Model):
        raise ConfigError(
            f"model: expected a model's name or a Model, found {model!r}; write Planner(model='gpt-5-mini')"
        )
    given = model if isinstance(model, Model) else Model(model)
    return replace(
        given,
        base_url=given.base_url or base_url,
        api_key=given.api_key or api_key,
        mode=given.mode or mode,
    )


def _ignore(_: Use) -> None:
    """Ignore a use of a saved plan."""


_Search: TypeAlias = "Generator[Plan, CheckReport, Planned | None]"
"""Yields each plan whose report it needs; returns what it has found."""


async def _found(search: _Search, request: PlanRequest) -> Planned | None:
    """Return what a search finds, with checks that do not keep the event loop."""
    try:
        plan = next(search)
        while True:
            plan = search.send(await request.check(plan))
    except StopIteration as end:
        return cast("Planned | None", end.value)


def _found_here(search: _Search, request: PlanRequest) -> Planned | None:
    """Return what a search finds, with checks in this thread."""
    try:
        plan = next(search)
        while True:
            plan = search.send(request.check_here(plan))
    except StopIteration as end:
        return cast("Planned | None", end.value)


def _from_saved(request: PlanRequest, attempts: list[Attempt], used: Used) -> _Search:
    """Return the most specific saved plan that matches without doubt and passes its check; the others become attempts.

    A plan that lacks an input comes after plans that lack none, and before a model: the run then names the missing input.
    """
    incomplete: tuple[SavedPlan, Planned] | None = None
    # The first match that passes its check wins: matches are in the order of how much of the task's words they
    # name.
    for match in find_matches(request.task, request.saved, request.inputs):
        plan, source = match.saved.plan, f"saved:{match.saved.name}"
        if match.doubt is not None:
            attempts.append(Attempt(len(attempts) + 1, error=match.doubt, source=source))
            continue
        inputs, problems = fit_given(plan, match.inputs)
        # A missing input is no fault of the pattern, and the caller may give the input later. A value of another
        # type means that the pattern has read the words wrongly.
        mistyped = [each for each in problems if not is_missing_input(each, match.inputs)]
        report = yield plan
        attempt = Attempt(
            len(attempts) + 1, plan.to_json(), plan, (*mistyped, *report.problems), source=source
        )
        if not attempt.ok:
            attempts.append(attempt)
            used(Use.of(match.saved, "check"))
            continue
        planned = Planned(plan, inputs, (*attempts, attempt), Usage(), source)
        if len(mistyped) == len(problems):
            used(Use.of(match.saved, "answered"))
            return planned
        incomplete = incomplete or (match.saved, planned)
    if incomplete is None:
        return None
    used(Use.of(incomplete[0], "answered"))
    return incomplete[1]


async def _reused(request: PlanRequest, plan: Plan, number: int) -> Attempt:
    """Return a plan that a model wrote before as an attempt, checked like a new draft."""
    report = await request.check(plan)
    faults = input_faults(plan, request.inputs, complete=request.complete)
    return Attempt(number, plan.to_json(), plan, (*faults, *report.problems), source=REUSED)


def planning_key(request: PlanRequest, *endpoints: Endpoint, profile: Profile = "full") -> str:
    """Return the digest of everything that decides a planning: task, tools, models, prompts, names and types of given inputs.

    Values of inputs are not part of the key, since a model does not see them. Saved plans are not part of it either, although they may be
    shown as examples: another example is no reason to plan a task again.
    """
    from .drafting.prompt import SMALL_PROMPTS, prompt_version  # noqa: PLC0415  # most processes write no plan

    parts: dict[str, Json] = {
        "task": request.task,
        "tools": [_signature_document(tool) for tool in sorted(request.tools, key=lambda tool: tool.name)],
        "models": [[endpoint.name, endpoint.base_url] for endpoint in endpoints],
        # Other prompt texts may lead to another plan, so that a plan of older texts is not taken for one of the
        # newer texts.
        "prompts": prompt_version(SMALL_PROMPTS) if profile == "small" else prompt_version(),
        "inputs": cast("Json", dict(input_schemas(request.inputs))),
        "complete": request.complete,
        **(
            {"answers": [[question, answer] for question, answer in request.answers]}
            if request.answers
            else {}
        ),
        **({"returns": dict(request.returns)} if request.returns is not None else {}),
    }
    return digest(canonical(parts))


def _signature_document(tool: Signature) -> Json:
    """Return everything of a tool that a model, or the check of its plan, looks at."""
    allowed: list[Json] = [*sorted(tool.allow_untrusted)]
    # A tool without these declarations keeps the digest that it had before they existed.
    secrecy: dict[str, Json] = {"private": [*sorted(tool.readers)]} if tool.private else {}
    if tool.egress:
        secrecy["egress"] = [*sorted(tool.egress)]
    # What results looked like is no part of it, so that an equal task is planned once; but a plan for a type that results have refuted is none for what is known now.
    learnt = tool.learnt if isinstance(tool, Tool) else None
    refuted: dict[str, Json] = {"refuted": True} if learnt is not None and learnt.unfit else {}
    if isinstance(tool, Tool) and tool.example is not None:
        refuted["example"] = tool.example
    return {
        **secrecy,
        **refuted,
        "name": tool.name,
        "description": tool.description,
        "effect": str(tool.effect),
        "parameters": dict(tool.parameters),
        "returns": None if tool.returns is None else dict(tool.returns),
        "resource": tool.resource,
        "trust": tool.trust,
        "approval": tool.asks_approval,
        "allow_untrusted": allowed,
    }


def _profile(name: str, given: object) -> Profile:
    """Return the setting of the profile. Raises: ConfigError."""
    if given not in ("full", "small"):
        raise ConfigError(f"{name}: expected 'full' or 'small', found {given!r}")
    return "small" if given == "small" else "full"


def _small_model(given: object) -> str | Model | None:
    """Return the setting of the model for small questions. Raises: ConfigError."""
    if given is None or isinstance(given, Model) or (isinstance(given, str) and given.strip()):
        return given
    raise ConfigError(f"small_model: expected a model's name or a Model, found {given!r}")


def _count(name: str, given: object) -> int:
    """Return the setting of a number. Raises: ConfigError."""
    try:
        return parse_count(given, 0)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def _seconds(given: object) -> float:
    """Return the setting of a timeout. Raises: ConfigError."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < float("inf"):
        return float(given)
    raise ConfigError(f"timeout: expected seconds above 0, found {given!r}")
