"""The shapes of request bodies and of answers, as pydantic models; `/openapi.json` is made from them.

Bodies are validated by these models. Answers are the engine's own documents (`to_dict`). For each the models here name its fields, or are
the engine's own dataclass where that has the same fields; the tests compare both, so that the schema is true and no request pays for a
second serialisation.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..executor import RunError, RunSummary
from ..executor.states import RunStatus
from ..plans import Problem
from ..schedules.schedule import CATCH_UP_MAX, CatchUp, FireState, Overlap
from ..webhooks.outbox import DeliveryState


class RequestBody(BaseModel):
    """A JSON object with exactly the documented keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _with_example(**example: Any) -> ConfigDict:  # noqa: ANN401  # values of many types
    """Return the configuration of a body whose description has an example."""
    return ConfigDict(json_schema_extra={"examples": [example]})


def _whole(amount: object) -> object:
    return int(amount) if isinstance(amount, float) and amount.is_integer() else amount


Count = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
"""An integer by JSON Schema's rules, as in plans and inputs: `4.0` is one."""


Interval = Annotated[str, Field(min_length=1)] | Annotated[float, Field(ge=1)]
"""A duration, as text such as `1h` or in seconds."""


class Budget(RequestBody):
    """At these amounts a run stops and waits; reused steps cost nothing."""

    calls: Count | None = None
    items: Count | None = None
    steps: Count | None = None
    model_calls: Count | None = None
    tokens: Count | None = None
    usd: Annotated[float, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None

    def amounts(self) -> dict[str, Any]:
        """Return the amounts that are set."""
        return self.model_dump(exclude_none=True)


Deadline = Annotated[
    str | float | None,
    Field(
        description='How long the run may take, waits included ("2h", or seconds), or until when (ISO 8601); then it is cancelled.',
        examples=["2h"],
    ),
]
Priority = Annotated[
    int | None,
    Field(
        ge=1,
        le=5,
        description="Which runs get a place first where runs wait for one: from 1, first, to 5, last; 3 if not given. It changes no result.",
    ),
]
_RETURNS: Final = "JSON Schema that the output has to fit: a plan whose output cannot fit it is refused."


class TaskBody(RequestBody):
    """A task in words, to be planned and run; with `stream` steps start while the plan is being written."""

    task: Annotated[str, Field(min_length=1, examples=["Compare the weather in Rome and Oslo"])]
    inputs: dict[str, Any] | None = None
    budget: Budget | None = None
    deadline: Deadline = None
    priority: Priority = None
    stream: bool = False
    returns: Annotated[dict[str, Any] | None, Field(description=_RETURNS)] = None


class PlanTaskBody(RequestBody):
    """A task in words, to be planned and not run; with `stream` the answer is an event stream with each longer partial plan."""

    task: Annotated[str, Field(min_length=1, examples=["Compare the weather in Rome and Oslo"])]
    inputs: dict[str, Any] | None = None
    stream: bool = False
    returns: Annotated[dict[str, Any] | None, Field(description=_RETURNS)] = None


class RunBody(RequestBody):
    """A plan to run: as it is, or by the name or digest under which it is saved."""

    model_config = _with_example(plan_name="remind", inputs={"who": "ada"})

    plan: dict[str, Any] | None = None
    plan_name: str | None = None
    plan_digest: str | None = None
    inputs: dict[str, Any] | None = None
    budget: Budget | None = None
    deadline: Deadline = None
    priority: Priority = None
    returns: Annotated[dict[str, Any] | None, Field(description=_RETURNS)] = None

    @model_validator(mode="after")
    def _one_plan(self) -> RunBody:
        given = [name for name in ("plan", "plan_name", "plan_digest") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of plan, plan_name and plan_digest, found {' and '.join(given) or 'none of them'}"
            )
        return self


class ResumeBody(RequestBody):
    """What may change when a run goes on.

    Attributes:
        take_over: Take the run from another process that drives it and hangs.
    """

    model_config = _with_example(budget={"calls": 20})

    budget: Budget | None = None
    take_over: bool = False


class ForkBody(RequestBody):
    """What differs in the fork from its parent; without anything the fork is the parent again.

    Attributes:
        at: A step to run again, with whatever depends on it.
        set: Path of a step or item -> the value that stands in its place.
        inputs: Inputs that differ from the parent's.
        plan: An edited plan.
        allow_writes: Whether writes in the affected cone go ahead; without it each waits for approval.
        run_id_new: The new run's id: the same fork with the same id is that run, however often it is asked for.
        deadline: Of the new run; that of the parent does not count.
    """

    model_config = _with_example(at="mail", inputs={"who": "bob"})

    at: Annotated[str, Field(min_length=1)] | None = None
    set: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    allow_writes: bool = False
    run_id_new: str | None = None
    deadline: Deadline = None


class RetryBody(RequestBody):
    """How a run goes on that failed or was cancelled.

    Attributes:
        run_id_new: The new run's id: the same retry with the same id is that run, however often it is asked for.
        replan: How often, at most, the planner may patch the plan if the new run fails.
        deadline: Of the new run; that of the ended run does not count.
    """

    model_config = _with_example(replan=1)

    run_id_new: str | None = None
    replan: Count = 0
    deadline: Deadline = None


Attempt = Annotated[
    int | None,
    Field(ge=1, description="The attempt that the decision is about; null: the attempt that waits now."),
    BeforeValidator(_whole),
]


By = Annotated[
    str | None,
    Field(
        min_length=1,
        description="Who decides. A key with a name stands for its name, and needs none here; any other client has to say it.",
    ),
]


class ApproveBody(RequestBody):
    """Who allows the call; `edit` replaces its arguments."""

    model_config = _with_example(by="ada")

    by: By = None
    edit: dict[str, Any] | None = None
    attempt: Attempt = None


class TaskAnswerBody(RequestBody):
    """Who answers the planner's question, and with which value."""

    model_config = _with_example(value="blue", by="ada")

    value: Any
    by: By = None


class AnswerBody(RequestBody):
    """Who answers the question, and with which value."""

    model_config = _with_example(value="blue", by="ada")

    value: Any
    by: By = None
    attempt: Attempt = None


class DenyBody(RequestBody):
    """Who refuses the call, and why."""

    model_config = _with_example(by="ada", reason="paid already")

    by: By = None
    reason: str = ""
    attempt: Attempt = None


class DecideBody(RequestBody):
    """Who decides, and what about each call.

    Attributes:
        decisions: Path of a leaf, or of a step for all its parts that wait -> `"approve"`, `"deny"`, `"retry"`, or an object that says
            more, with one of `approve` (true; `edit`), `deny` (true; `reason`), `answer`, `done`, `retry` (true), `fail`, and `attempt`.
    """

    by: By = None
    decisions: Annotated[
        dict[str, Literal["approve", "deny", "retry"] | dict[str, Any]],
        Field(min_length=1, examples=[{"pay[0]": "approve", "pay[1]": {"deny": True, "reason": "paid"}}]),
    ]


class ResolveBody(RequestBody):
    """What a person knows of a call whose outcome is unknown: exactly one of `done`, `retry` and `fail`."""

    model_config = _with_example(retry=True, by="ada")

    done: Any = None
    retry: bool = False
    fail: Annotated[str, Field(min_length=1)] | None = None
    by: str = ""
    attempt: Attempt = None

    @model_validator(mode="after")
    def _one_answer(self) -> ResolveBody:
        given = (
            ["done"] * ("done" in self.model_fields_set)
            + ["retry"] * self.retry
            + ["fail"] * (self.fail is not None)
        )
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"expected exactly one of done, retry (true) and fail, found {found}")
        return self


# --- Answers


StepStatus = Literal[
    "pending", "running", "waiting", "indeterminate", "succeeded", "failed", "skipped", "cancelled"
]
Abandoned = Annotated[
    bool, Field(description="Queued or running, but no process drives it: `resume` continues it.")
]
UnixSeconds = Annotated[float, Field(description="Unix time in seconds.")]


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunStepView(_View):
    """One step, item or iteration."""

    status: StepStatus
    output: Any
    attempts: int
    reused: bool
    cost: Annotated[float, Field(description="US dollars.")]
    started: UnixSeconds | None
    finished: UnixSeconds | None
    error: RunError | None
    reason: str | None
    output_digest: str | None
    args: Annotated[Any, Field(description="What a person has to decide about; else null.")]
    attempt: Annotated[
        int | None,
        Field(
            description="The attempt that a person has to decide about; a decision may name it. Else null."
        ),
    ]
    decision: Annotated[
        Any, Field(description="What a person decided, with `by`, `reason` and edited `args`; else null.")
    ]
    past_write: Annotated[
        Any, Field(description="What an earlier run knows of a call that waits for a person; else null.")
    ] = None
    guards: Annotated[
        Any,
        Field(
            description="The verdicts of guards: guard -> how many answers `held` and were `refused`, and `why` the last one was; else null."
        ),
    ] = None
    until: Annotated[
        UnixSeconds | None,
        Field(
            description="When the wait of a `wait` step ends, or the time in which a person can decide; else null."
        ),
    ] = None
    asked_again: Annotated[
        str | None,
        Field(description="Why a person is asked a second time: the tool has changed since; else null."),
    ] = None


class NamedStepView(RunStepView):
    """One step with its path and its run."""

    run: str
    path: str


class RunWarningView(_View):
    """What went other than declared in a run and failed nothing."""

    step: Annotated[str, Field(description="Path of the leaf; empty: it is about the output.")]
    code: str
    message: str


class TaskQuestionView(_View):
    """What the planner asks before it plans a task."""

    text: str
    returns: Annotated[dict[str, Any], Field(description="JSON Schema of the answer.")]


class RunScheduleView(_View):
    """The schedule whose time made a run, and the time."""

    name: str
    at: UnixSeconds


class RunView(_View):
    """A run as it stands."""

    id: str
    status: RunStatus
    output: Any
    errors: list[RunError]
    digest: str
    plan: dict[str, Any] | None
    plan_digest: str | None
    inputs: dict[str, Any]
    steps: Annotated[dict[str, RunStepView], Field(description="Path -> step, in plan order.")]
    usage: dict[str, Any]
    parent: str | None
    task: str | None
    created: UnixSeconds | None
    updated: UnixSeconds | None
    last_event: Annotated[
        int, Field(description="The newest durable event; `Last-Event-ID` goes on from there.")
    ]
    abandoned: Abandoned
    left_out: Annotated[
        list[str],
        Field(
            description="What of its task the plan does not do, and why; a run that succeeded did the rest."
        ),
    ]
    output_labels: Annotated[
        dict[str, list[str]],
        Field(
            description="Place in `output` (`$`, `$.title`) -> names of the untrusted tools and inputs that it was made with; show it as data."
        ),
    ]
    warnings: Annotated[
        list[RunWarningView],
        Field(
            description="What went other than declared and failed nothing: `result-mismatch`, `absent-field`; `unfit-worker` while the run waits for a worker whose tools fit."
        ),
    ] = []
    question: TaskQuestionView | None = None
    schedule: Annotated[
        RunScheduleView | None, Field(description="The schedule whose time made the run.")
    ] = None
    request_id: Annotated[
        str | None, Field(description="`X-Request-ID` of the request that submitted the run.")
    ] = None
    deadline: Annotated[
        UnixSeconds | None, Field(description="When the run is cancelled if it has not ended.")
    ] = None
    priority: Annotated[
        int | None, Field(description="From 1, first, to 5, last; null: none was given, which is as 3.")
    ] = None


class QuoteView(_View):
    """A part of an argument that stands verbatim in a result or input from outside."""

    place: Annotated[str, Field(description="The text in the argument; empty: the argument itself.")]
    start: Annotated[int, Field(description="Its first character, from 0.")]
    end: Annotated[int, Field(description="The character after its last one.")]
    text: str
    source: Annotated[str, Field(description="Path of the call whose result has it, or the input.")]
    source_place: str
    before: str
    after: str


class OriginView(_View):
    """A call or an input from which an argument has untrusted data."""

    source: Annotated[str, Field(description="Path of the call, or `inputs.` and the input's name.")]
    tool: Annotated[str, Field(description="Empty for an input.")]
    args: Any
    via: Annotated[list[str], Field(description="The steps through which the data went, the source first.")]
    call: Annotated[str, Field(description='The call as text: `get_webpage(url="http://x")`.')]


class ShownArgumentView(_View):
    """One argument of a call that waits, complete."""

    name: str
    value: Any
    is_default: Annotated[bool, Field(description="The plan does not give it; the tool's default.")]
    secret: Annotated[str | None, Field(description="Name of the secret that is the value.")]
    is_labelled: Annotated[bool, Field(description="It holds data from untrusted tools or inputs.")]
    origins: list[OriginView]
    origins_left: Annotated[int, Field(description="Further calls that are not listed.")]
    quotes: list[QuoteView]


class DecisionView(_View):
    """A decision of a person."""

    decision: str
    at: UnixSeconds
    by: str
    reason: str
    edited: bool


class EarlierCallView(_View):
    """What the same step of the same plan did last time."""

    run: str
    at: UnixSeconds | None
    status: StepStatus
    args: Any
    decisions: list[DecisionView]
    output: Any
    error: str | None
    is_parent: Annotated[bool, Field(description="The run that waits came of that run.")]


class WaitingCallView(_View):
    """One call that waits for a person."""

    step: str
    attempt: int
    about: Annotated[
        Literal["call", "question", "outcome"],
        Field(
            description="`call`: approve or deny it. `question`: answer or deny it. `outcome`: resolve what became of it."
        ),
    ]
    tool: str
    description: str
    effect: Literal["pure", "read", "model", "write"]
    resource: str
    why: Annotated[str, Field(description="What the plan says about the step.")]
    args: list[ShownArgumentView]
    is_controlled: Annotated[
        bool, Field(description="Untrusted data decided whether, or how often, the call is made.")
    ]
    controlled_by: list[OriginView]
    past_write: Any
    asked_again: Annotated[
        str | None, Field(description="Why a person is asked a second time: the tool has changed; else null.")
    ] = None
    last_time: EarlierCallView | None
    returns: Annotated[
        dict[str, Any] | None,
        Field(description="JSON Schema of the answer to a question, or of a value to endorse."),
    ]
    parameters: Annotated[
        dict[str, Any] | None,
        Field(description="JSON Schema of the arguments, for who edits them; null: it is no call of a tool."),
    ] = None
    result: Annotated[
        dict[str, Any] | None, Field(description="JSON Schema of what the tool returns; null: anything.")
    ] = None
    expires: Annotated[UnixSeconds | None, Field(description="When a question or an approval expires.")]
    is_complete: Annotated[bool, Field(description="Every text was compared with every origin.")]
    is_labelled: bool


class WaitingView(_View):
    """The calls of a run that wait for a person."""

    run: str
    task: str | None
    plan_digest: str | None
    submitter: str | None
    calls: list[WaitingCallView]


class WaitingStepView(_View):
    """A call that waits for a person, as a line of a list."""

    step: str
    attempt: int
    about: Literal["call", "question", "outcome"]


class WaitingRunView(_View):
    """A run that waits for a person, or for a larger budget."""

    run: RunSummary
    calls: Annotated[list[WaitingStepView], Field(description="In the order of the plan's steps.")]
    question: Annotated[TaskQuestionView | None, Field(description="What the planner asks before it plans.")]


class WaitingRunsView(_View):
    """Some runs that wait, newest first; `cursor` leads to older ones, null at the end."""

    runs: list[WaitingRunView]
    cursor: str | None


class CallDetailsView(_View):
    """What a step of a run called, whether it waits, is under way or has ended."""

    run: str
    step: str
    call: Annotated[
        WaitingCallView | None,
        Field(
            description="Null: the step made no call, or stands for several. The arguments of a prompt are `prompt` and `system`."
        ),
    ]
    usage: Annotated[dict[str, Any] | None, Field(description="What the call used of a model.")]


class LogLineView(_View):
    """A line that a tool logged."""

    at: UnixSeconds
    level: str
    message: str
    attempt: int | None
    fields: dict[str, Any]


class StepLogView(_View):
    """What the calls of a step logged."""

    run: str
    step: str
    lines: list[LogLineView]


class PreviewColumnView(_View):
    """A column of a preview: its name, and the type of its values."""

    name: str
    type: str


class ArtifactPreviewView(_View):
    """The first rows of a frame, an array or a text; each cell is text of at most 500 characters, or null."""

    kind: Literal["frame", "array", "text"]
    columns: list[PreviewColumnView]
    rows: list[list[str | None]]
    rows_total: Annotated[int | None, Field(description="Null if only the beginning of a text was read.")]
    columns_total: int
    shape: list[int] | None
    dtype: str | None


class TracebacksView(_View):
    """The last frames of the failed calls of a run, each in the code of its tool."""

    run: str
    tracebacks: Annotated[
        dict[str, str], Field(description="Path of the step -> the frames, as Python prints them.")
    ]


class RunPageView(_View):
    """Some runs, newest first; `cursor` leads to the next ones, null at the end."""

    runs: list[RunSummary]
    cursor: str | None


class RefusalView(BaseModel):
    """`application/problem+json`."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    problems: list[Problem]
    request_id: Annotated[str | None, Field(description="`X-Request-ID` of the request.")] = None


class ReportView(_View):
    """What a check found."""

    ok: bool
    problems: list[Problem]
    bounds: dict[str, Any]
    types: Annotated[dict[str, Any], Field(description="Step path -> JSON Schema of its value.")]


class PlannedTaskView(_View):
    """The plan of a task, which has not run."""

    plan: dict[str, Any]
    report: ReportView


class GraphStepView(_View):
    """One step of a plan, as a node of its graph."""

    id: str
    kind: Annotated[str, Field(description="The key of its action: `tool`, `ask`, `set`, `plan` and so on.")]
    tool: str | None
    plan: Annotated[str | None, Field(description="The plan that it runs; a key of `plans`.")]
    does: Annotated[str, Field(description="The call, or the kind of action, in a few words.")]
    detail: Annotated[str, Field(description="The prompt, the goal or the expression, shortened.")]
    effect: Literal["pure", "read", "model", "write"] | None
    conditions: Annotated[list[str], Field(description="`for each ..`, `when ..` and the like.")]
    is_list: bool
    is_conditional: bool
    is_repeated: bool
    is_critical: Annotated[bool, Field(description="It is on the plan's longest chain.")]
    needs: Annotated[
        list[str], Field(description="Steps that it refers to, without those that others imply.")
    ]
    after: Annotated[list[str], Field(description="Steps that it only waits for.")]
    ordered: Annotated[list[str], Field(description="Steps that it waits for because of effects alone.")]
    why: str | None


class PlanBodyView(_View):
    """The steps of a plan that a step runs."""

    steps: list[GraphStepView]
    output_needs: list[str]


class PlanGraphView(PlanBodyView):
    """The graph of a plan."""

    title: str
    inputs: list[str]
    output: str
    left_out: list[str]
    plans: Annotated[
        dict[str, PlanBodyView],
        Field(description="The plans that steps run, by the name that the steps use."),
    ]


class SavedPlanView(_View):
    """A saved plan in a list."""

    name: str
    digest: str
    task: str | None
    inputs: Annotated[dict[str, Any], Field(description="Input name -> JSON Schema.")]
    hits: Annotated[int, Field(description="Tasks that it answered.")] = 0
    false_hits: Annotated[int, Field(description="Tasks that it only seemed to answer.")] = 0
    false_hits_by: Annotated[
        dict[str, int],
        Field(description="Of these, refused by its check, by a model, by what came of the run."),
    ] = {}


class PlanVersionView(_View):
    """One version that the name of a saved plan had."""

    version: Annotated[int, Field(description="Counts from 1.")]
    digest: Annotated[str | None, Field(description="Of the plan; null: the name was deleted then.")]
    text_digest: Annotated[
        str | None, Field(description="Of the plan's text, which also tells prose apart: its ETag.")
    ]
    saved: Annotated[float, Field(description="Unix seconds.")]
    by: Annotated[str | None, Field(description="The name of the key that saved it; null: not known.")]
    deleted: bool


class SavedPlansView(_View):
    """All saved plans, by name."""

    plans: list[SavedPlanView]


class ScheduleBody(RequestBody):
    """When a saved plan runs, and how. Exactly one of `every` and `cron` is given.

    Attributes:
        plan: The name of a saved plan, whichever stands under it at each time, or the digest of one.
        every: Seconds between two runs, or text such as `1h`.
        cron: A cron expression of five fields.
        tz: The time zone of `cron`; UTC if not given.
        deadline: How long each run may take from its start, waits included: seconds, or text such as `2h`.
        priority: Of each run.
        time_input: The input that gets the time of the schedule, as ISO 8601 text.
        catch_up: What becomes of times that no server was there for: `latest` (one run, unless a later time has come), `skip` or `all`.
        catch_up_max: Most times that `all` catches up on, the newest.
        overlap: What a time does while an earlier run has not ended: `skip` it, `allow` both, `queue` one run behind the earlier, `cancel` the earlier.
        start: No time is earlier, and intervals count from here: ISO 8601 with an offset, or Unix seconds; now if not given.
        paused: Whether times pass without runs.
    """

    model_config = _with_example(plan="report", cron="0 8 * * 1-5", tz="Europe/Berlin")

    plan: Annotated[str, Field(min_length=1)]
    every: Interval | None = None
    cron: str | None = None
    tz: str | None = None
    inputs: dict[str, Any] | None = None
    budget: Budget | None = None
    deadline: Interval | None = None
    priority: Priority = None
    time_input: str | None = None
    catch_up: CatchUp | None = None
    catch_up_max: Annotated[int, Field(ge=1, le=CATCH_UP_MAX), BeforeValidator(_whole)] | None = None
    overlap: Overlap | None = None
    start: str | float | None = None
    paused: bool = False


class TimesBody(RequestBody):
    """An interval or a cron expression, to see its times."""

    model_config = _with_example(cron="0 8 * * 1-5", tz="Europe/Berlin")

    every: Interval | None = None
    cron: str | None = None
    tz: str | None = None
    start: str | float | None = None


class TimesView(_View):
    """The next times of a schedule."""

    times: Annotated[list[float], Field(description="Unix seconds, the earliest first.")]


class FireView(_View):
    """One time of a schedule, and what became of it."""

    schedule: str
    at: UnixSeconds
    state: Annotated[
        FireState,
        Field(
            description="`due`: its run is about to start, or waits for an earlier one; `missed`: no server was there, and the schedule does not catch up on it."
        ),
    ]
    run_id: Annotated[str | None, Field(description="Its run, also while it is about to start.")]
    noted: Annotated[float, Field(description="When the state last changed, in Unix seconds.")]
    detail: Annotated[str | None, Field(description="Why it was skipped or failed.")]
    missed: Annotated[int, Field(description="Of a missed time: at least how many times were left out.")]


class ScheduleView(_View):
    """A schedule, its next times and the last ones."""

    name: str
    plan: str
    every: float | None
    cron: str | None
    tz: str
    inputs: dict[str, Any]
    budget: dict[str, Any]
    deadline: Annotated[
        float | None, Field(description="Seconds after which each run is cancelled; null: as its plan says.")
    ] = None
    priority: Annotated[
        int | None, Field(description="Of each run: from 1, first, to 5, last; null: none, which is as 3.")
    ] = None
    time_input: str | None
    catch_up: CatchUp
    catch_up_max: int
    overlap: Overlap
    start: UnixSeconds
    paused: bool
    created: UnixSeconds
    by: Annotated[str | None, Field(description="The name of the key that made or last changed it.")]
    revision: Annotated[int, Field(description="Counts the changes; its ETag.")]
    next_at: Annotated[float | None, Field(description="The next time; null while it is paused.")]
    next: Annotated[list[float], Field(description="The next times, whether it is paused or not.")]
    fires: Annotated[list[FireView], Field(description="The last times, the latest first.")]


class SchedulesView(_View):
    """All schedules, by name."""

    schedules: list[ScheduleView]


class WebhookView(_View):
    """An endpoint of the settings that is told of runs."""

    name: str
    host: Annotated[str, Field(description="Scheme and host; the rest of its URL is not shown.")]
    events: list[str]
    tenant: str | None
    outputs: bool


class WebhooksView(_View):
    """The endpoints, by name."""

    webhooks: list[WebhookView]


class DeliveryView(_View):
    """A message to an endpoint, and how it fared."""

    id: Annotated[str, Field(description="Its `webhook-id`, the same in each attempt.")]
    endpoint: str
    event: str
    run_id: str | None
    created: UnixSeconds
    state: Annotated[DeliveryState, Field(description="`failed`: given up.")]
    attempts: int
    next_at: Annotated[float | None, Field(description="When it is sent next; null if it is not.")]
    answered: Annotated[int | None, Field(description="The last HTTP status; null: there was no answer.")]
    detail: Annotated[str | None, Field(description="What went wrong last.")]
    updated: UnixSeconds


class DeliveriesView(_View):
    """Some messages, newest first; `cursor` leads to the next ones, null at the end."""

    deliveries: list[DeliveryView]
    cursor: str | None


class FiresView(_View):
    """Times of a schedule, the latest first."""

    fires: list[FireView]


class PlanHistoryView(_View):
    """The versions of a saved plan, newest first."""

    name: str
    versions: list[PlanVersionView]


class ToolView(_View):
    """One tool of this server."""

    name: str
    description: str
    effect: Literal["pure", "read", "model", "write"]
    parameters: dict[str, Any]
    returns: dict[str, Any] | None
    resource: str
    trust: Literal["trusted", "untrusted"]
    idempotent: bool
    asks_approval: bool
    fingerprint: str | None
    opens: Annotated[list[str], Field(description="The resources that its calls may open.")]


class ToolsView(_View):
    """All tools, by name."""

    tools: list[ToolView]


class MeView(_View):
    """The key of the request, and what it may do."""

    name: Annotated[
        str | None,
        Field(
            description="Who decides and submits with it; `null`: it has no name, and `by` says who decides."
        ),
    ]
    scopes: Annotated[
        list[Literal["read", "submit", "approve", "admin"]],
        Field(description="What it may do, those included that others bring."),
    ]
    tenant: Annotated[str | None, Field(description="Whose runs and plans it sees; `null`: all.")]
    may_approve_own: Annotated[bool, Field(description="It may approve calls of the runs that it submitted.")]


class KeyChangeView(_View):
    """One part of a call that differs from the nearest earlier call."""

    part: str
    name: Annotated[str, Field(description="What differs: `args.city`, `function parse_price`.")]
    text: Annotated[
        str, Field(description='The change as the end of a sentence: `args.city was "Oslo", now "Rome"`.')
    ]
    before: Any
    after: Any


class CallAddressView(_View):
    """A call of a run."""

    run: str
    step: str


class ExplanationView(_View):
    """Why a step ran or was reused."""

    run: str
    step: str
    verdict: Literal["ran", "reused", "computed", "given", "ended", "waits", "parts"]
    because: str
    sentence: str
    changes: list[KeyChangeView]
    source: Annotated[
        CallAddressView | None,
        Field(description="The nearest earlier call, or the call whose result was reused."),
    ]
    parts: Annotated[list[ExplanationView], Field(description="Of a step of several calls: one for each.")]
    decisions: list[DecisionView]
    rules: Annotated[
        dict[str, str],
        Field(description="Argument -> the rule that allowed untrusted data in it, or asked a person."),
    ]


class ExplanationsView(_View):
    """Why each step of a run ran or was reused, in the order of its steps."""

    run: str
    steps: list[ExplanationView]


class DifferenceView(_View):
    """One place in which two values differ."""

    path: Annotated[str, Field(description="`items[3].price`; empty: the value itself.")]
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


class PlanChangeView(_View):
    """One change of a plan."""

    kind: Literal["added", "removed", "changed", "renamed", "moved"]
    part: str
    name: str | None
    field: str
    before: Any
    after: Any
    plan: str | None


class StepDiffView(_View):
    """What differs in a step; of each pair the first is that of run `a`."""

    step: str
    change: Literal["same", "changed", "only_a", "only_b"]
    status: list[StepStatus | None]
    why: str
    output: list[DifferenceView]
    args: list[DifferenceView]
    reused: list[bool | None]
    cost: list[float | None]
    seconds: list[float | None]
    tokens: list[int | None]
    renamed_from: Annotated[
        str | None, Field(description="Its path in run `a`, where its step only had another id.")
    ]


class RunDiffView(_View):
    """What differs between two runs."""

    a: str
    b: str
    same: bool
    status: list[RunStatus]
    steps: list[StepDiffView]
    plan: list[PlanChangeView]
    inputs: list[DifferenceView]
    output: list[DifferenceView]
    first: Annotated[str | None, Field(description="The first step that differs, in plan order.")]
    usage: list[dict[str, Any]]


class ToolVerdictView(_View):
    """The verdict on one tool."""

    tool: str
    finding: Literal["deterministic", "differs", "changed", "unchecked"]
    calls: int
    step: str | None
    differences: list[DifferenceView]
    detail: str


class VerificationView(_View):
    """The verdicts on the pure tools of a run."""

    run: str
    ok: bool
    calls: int
    tools: list[ToolVerdictView]


class HealthView(_View):
    """Whether the server can work."""

    status: Literal["ok", "unavailable"]
