"""The plan as a value, before it is checked.

The models hold the shape of the format and nothing else: the keys, the kinds of their values, and which keys are
required. `check` judges names, types, expressions and flow. A plan is frozen and owns its data: it is
made from a private, canonical copy of its source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from typing_extensions import override

from .collecting import collector_paused
from .durations import parse_duration
from .signature import Signature, Signatures
from .values import Digest, Json, NotJson, digest_of_text, normal_in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .checker.templates import Template
    from .edit.diff import PlanDiff
    from .edit.patch import Patch

ACTIONS = ("tool", "ask", "set", "plan", "agent", "plan_for", "ask_person", "wait", "endorse", "fail")
"""The keys that name a step's action; a step has exactly one."""
_ACTIONS = frozenset(ACTIONS)

PERSON = "person"
"""Who decides about an `endorse` step, unless it names a policy."""

OWNED = "firmplan.owned"
"""Validation context key: the data is a private, canonical copy already, so the plan need not copy it."""

Schema: TypeAlias = dict[str, Any]
Value: TypeAlias = Any
"""JSON whose strings may hold `${expression}`."""
_Texts: TypeAlias = Annotated[tuple[str, ...], Field(strict=False)]
_Values: TypeAlias = Annotated[tuple[Any, ...], Field(strict=False)]
Budgeted: TypeAlias = Literal["steps", "model_calls", "tokens", "usd", "seconds"]
_Amount: TypeAlias = Annotated[int | float, Field(ge=0)]
_TEXT: Schema = {"type": "string"}


def _above_zero(found: object) -> object:
    if found is not None and parse_duration(found) <= 0:
        raise ValueError("expected a duration above zero")
    return found


_Duration: TypeAlias = Annotated[
    Any, AfterValidator(_above_zero), WithJsonSchema({"type": ["number", "string", "null"]})
]
"""Seconds, or text such as `"2h"`, above zero; `None`: no bound."""


class _Frozen(BaseModel):
    # A validator is built when it is first used: that of a plan has those of its parts in it, and nobody asks for these alone.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Repeat(_Frozen):
    """Repeat an action until `until` holds, at most `max` times."""

    until: str | bool = Field(description="A condition on the value just made, by the step's own id.")
    max: int = Field(ge=1, description="The most iterations.")


class Fallback(_Frozen):
    """The value that replaces the result of a failed step."""

    value: Value = Field(description="The value instead.")


class Ask(_Frozen):
    """One small prompt with a typed answer."""

    prompt: str = Field(description="The prompt; ${..} puts values into it.")
    returns: Schema = Field(default=_TEXT, description="JSON Schema of the answer.")
    model: str | None = Field(default=None, description="The model, or an alias of one.")
    system: str | None = Field(default=None, description="The system prompt.")
    examples: str | _Values | None = Field(
        default=None, description="Examples: a list, or an expression that gives one."
    )
    temperature: int | float | None = Field(default=None, ge=0, description="0 for the likeliest answer.")
    max_tokens: int | None = Field(default=None, ge=1, description="The most tokens of the answer.")
    guard: _Values = Field(default=(), description="Conditions on the answer.")


class Agent(_Frozen):
    """A bounded agent step."""

    goal: str = Field(description="What to achieve; ${..} puts values into it.")
    tools: _Texts = Field(default=(), description="Names of the tools it may call.")
    returns: Schema = Field(default=_TEXT, description="JSON Schema of the answer.")
    max_steps: int = Field(default=10, ge=1, description="The most model calls.")
    budget: dict[Budgeted, _Amount] = Field(
        default_factory=dict[Budgeted, _Amount], description="The most it may use."
    )


class StepKeys(_Frozen):
    """The keys that every step may have, whatever its action."""

    id: str = Field(description="The step's name, by which others refer to it.")
    for_each: Value = Field(
        default=None, description="A list: the action runs once an item, with `item` and `index` in scope."
    )
    when: Value = Field(
        default=None, description="A condition: false skips the step, or leaves the item out."
    )
    after: _Texts = Field(default=(), description="Ids of steps that must finish first.")
    on_error: Literal["fail", "skip"] | Fallback = Field(
        default="fail", description="What a failure becomes: a failed step, a skipped one, or a value."
    )
    repeat: Repeat | None = None
    retries: int | None = Field(default=None, ge=0, description="Further calls after a failed one.")
    timeout: int | float | None = Field(default=None, gt=0, description="Seconds a call.")
    why: str | None = Field(default=None, description="What the step is for, in words.")

    def has(self, name: str) -> bool:
        """Whether the key was given: an explicit null in `when` or `for_each` is a value."""
        return name in self.model_fields_set

    @property
    def may_call(self) -> tuple[str, ...]:
        """Names of the tools that the step itself calls, or may call, as its model or the planner chooses."""
        return ()

    @property
    def may_run_again(self) -> bool:
        """Whether the step may run what it runs more than once."""
        return self.repeat is not None or self.retries is not None or "for_each" in self.templates

    @cached_property
    def templates(self) -> Mapping[str, Template]:
        """The values of the step that may hold expressions, parsed once, by key."""
        return _reader_of_templates()(self)

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copied = super().model_copy(update=update, deep=deep)
        # What was read from the old fields does not hold for the new ones.
        vars(copied).pop("templates", None)
        return copied


class ToolStep(StepKeys):
    """Call a tool."""

    tool: str = Field(description="The tool's name.")
    args: dict[str, Value] = Field(default_factory=dict, description="Arguments by name.")

    @property
    @override
    def may_call(self) -> tuple[str, ...]:
        return (self.tool,)


class AskStep(StepKeys):
    """Ask a model one small thing."""

    ask: Ask


class SetStep(StepKeys):
    """Compute a value from other values."""

    set: Value = Field(description="The value.")


class PlanStep(StepKeys):
    """Run a plan as one step."""

    plan: str = Field(description="One of the plan's own `plans`, or a saved plan by name or digest.")
    args: dict[str, Value] = Field(default_factory=dict, description="Arguments by name.")


class AgentStep(StepKeys):
    """Let a model call tools, within bounds."""

    agent: Agent

    @property
    @override
    def may_call(self) -> tuple[str, ...]:
        return self.agent.tools


class PlanForStep(StepKeys):
    """Have the planner plan a part of the task from the values so far, and run that plan."""

    plan_for: str = Field(pattern=r"\S", description="What the sub-plan is to do, in words; no expressions.")
    given: dict[str, Value] = Field(
        default_factory=dict,
        description="Values for it: they are shown to the planner, and are the inputs of the sub-plan.",
    )
    tools: _Texts = Field(default=(), description="Names of the tools that its steps may call.")
    max_steps: int = Field(default=10, ge=1, description="The most steps of the sub-plan.")
    returns: Schema = Field(default=_TEXT, description="JSON Schema of its output.")

    @property
    @override
    def may_call(self) -> tuple[str, ...]:
        return self.tools


class AskPersonStep(StepKeys):
    """Ask a person one question, and wait for a typed answer."""

    ask_person: str = Field(description="The question; ${..} puts values into it.")
    returns: Schema = Field(default=_TEXT, description="JSON Schema of the answer.")
    expires: _Duration = Field(
        default=None,
        description='How long the answer is waited for, in seconds or such as "24h"; then the step fails. Without it: for ever.',
    )

    @property
    def expires_s(self) -> float | None:
        """How long the answer is waited for, in seconds; `None`: for ever."""
        return None if self.expires is None else parse_duration(self.expires)


class WaitStep(StepKeys):
    """Wait for some time, or until a time. No process is occupied meanwhile, and the wait outlives a restart."""

    wait: Annotated[
        dict[Literal["for", "until"], Value],
        Field(min_length=1, max_length=1),
        WithJsonSchema(
            {
                "type": "object",
                "properties": {
                    "for": {"description": 'How long: seconds, or such as "2h"; or an expression.'},
                    "until": {
                        "description": "Until when: a date or a time as ISO text; or an expression.",
                        "type": "string",
                    },
                },
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
            }
        ),
    ] = Field(description='`{"for": "2h"}` or `{"until": "${..}"}`.')


class FailStep(StepKeys):
    """Fail with a message. With `when` it states what must not be."""

    fail: str = Field(description="The message; ${..} puts values into it.")


class EndorseStep(StepKeys):
    """Have a person or a policy decide that a value counts as trusted from here on."""

    endorse: Value = Field(description="The value.")
    returns: Schema = Field(description="JSON Schema that the value must fit; anything else fails the step.")
    by: str = Field(
        default=PERSON, min_length=1, description="`person`, or the name of a policy of the engine."
    )


@cache
def _reader_of_templates() -> Callable[[StepKeys], Mapping[str, Template]]:
    from .checker.templates import templates_of  # noqa: PLC0415  # templates know the step models

    return templates_of


def tools_path(step: AgentStep | PlanForStep) -> str:
    """Return the place in a step of the tools that it may call."""
    return ".agent.tools" if isinstance(step, AgentStep) else ".tools"


def action_of(step: object) -> str | None:
    """Return the key that names a step's action, or `None` unless there is exactly one."""
    if isinstance(step, dict):
        # Two actions are as wrong as none: no tag is found, and the report says which keys are there.
        found = _ACTIONS.intersection(cast("dict[object, object]", step))
        return next(iter(found)) if len(found) == 1 else None
    if type(step) is ToolStep:  # as most are
        return "tool"
    return next((name for name, kind in STEPS.items() if isinstance(step, kind)), None)


STEPS: dict[str, type[StepKeys]] = {
    "tool": ToolStep,
    "ask": AskStep,
    "set": SetStep,
    "plan": PlanStep,
    "agent": AgentStep,
    "plan_for": PlanForStep,
    "ask_person": AskPersonStep,
    "wait": WaitStep,
    "endorse": EndorseStep,
    "fail": FailStep,
}
"""The model of a step, by the key that names its action."""

CALL_FREE: Final = (SetStep, AskPersonStep, WaitStep, EndorseStep, FailStep)
"""The kinds of steps that call neither a tool nor a model."""

Step: TypeAlias = (
    ToolStep
    | AskStep
    | SetStep
    | PlanStep
    | AgentStep
    | PlanForStep
    | AskPersonStep
    | WaitStep
    | EndorseStep
    | FailStep
)
# By the key that names the action, pydantic reports the faults of that kind of step, and not those of all kinds.
_AnyStep = Annotated[
    Annotated[ToolStep, Tag("tool")]
    | Annotated[AskStep, Tag("ask")]
    | Annotated[SetStep, Tag("set")]
    | Annotated[PlanStep, Tag("plan")]
    | Annotated[AgentStep, Tag("agent")]
    | Annotated[PlanForStep, Tag("plan_for")]
    | Annotated[AskPersonStep, Tag("ask_person")]
    | Annotated[WaitStep, Tag("wait")]
    | Annotated[EndorseStep, Tag("endorse")]
    | Annotated[FailStep, Tag("fail")],
    Discriminator(action_of),
]
_Steps: TypeAlias = Annotated[tuple[_AnyStep, ...], Field(strict=False)]


# The fields that a plan and an inner plan share. A base class would put them before `firmplan` and `task`, and plans are written in the order of their fields.
_INPUTS: Any = Field(
    default_factory=dict, description="The plan's inputs: a JSON Schema each, which may have a `default`."
)
_TYPES: Any = Field(
    default_factory=dict, description="Named types: `#/types/Name` in every schema of the plan."
)
_RETURNS: Any = Field(
    default=None,
    description="JSON Schema of the output. An output that cannot fit it is a fault; one that does not fit it when the plan has run fails the run.",
)


class InnerPlan(_Frozen):
    """A plan that only its outer plan can run, by name."""

    inputs: dict[str, Schema] = _INPUTS
    types: dict[str, Schema] = _TYPES
    steps: _Steps = Field(description="The steps.")
    output: Value = Field(default=None, description="What the plan gives.")
    returns: Schema | None = _RETURNS


class Plan(_Frozen):
    """A plan: typed inputs, small steps, one output.

    Plans come from `Plan.model_validate(dict)`, `Plan.load(path)` or `PlanBuilder`. Plans that are equal, or differ only in prose,
    have equal digests.

    Attributes:
        firmplan: The version of the format: 1.
        task: The task that the plan answers, in words.
        description: For people.
        left_out: What of the task the plan does not do, and why: a sentence for each part.
        inputs: Name -> JSON Schema, with a `default` where it may be left out.
        types: Name -> JSON Schema that other schemas name.
        plans: Name -> plan that steps may run.
        steps: Its steps.
        output: Its result; absent: null.
        returns: JSON Schema of the output; `None`: the check infers its type, and nothing is demanded.
        deadline: How long a run of the plan may take; `None`: as long as it likes. Where another plan runs it as a step, it does not count.
    """

    model_config = ConfigDict(defer_build=False)  # at import, when no other thread builds it, too

    firmplan: Literal[1] = Field(description="Version of the format.")
    task: str | None = Field(default=None, description="What the plan is for, in words.")
    description: str | None = Field(default=None, description="More about it.")
    left_out: _Texts = Field(
        default=(),
        description="What of the task the plan does not do, and why: a sentence for each part. Prose: it is shown, and changes nothing that runs.",
    )
    inputs: dict[str, Schema] = _INPUTS
    types: dict[str, Schema] = _TYPES
    plans: dict[str, InnerPlan] = Field(
        default_factory=dict, description="Plans that only this one runs, by name."
    )
    steps: _Steps = Field(description="The steps.")
    output: Value = Field(default=None, description="What the plan gives.")
    returns: Schema | None = _RETURNS
    deadline: _Duration = Field(
        default=None,
        description='How long a run of the plan may take, waits included, in seconds or such as "2h"; then it is cancelled.',
    )

    @property
    def deadline_s(self) -> float | None:
        """How long a run may take, in seconds; `None`: as long as it likes."""
        return None if self.deadline is None else parse_duration(self.deadline)

    @model_validator(mode="wrap")
    @classmethod
    def _own(cls, given: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Self:
        context: Mapping[str, object] = info.context or {}
        # What a caller later changes in its own object must not change the plan.
        if isinstance(given, dict) and not context.get(OWNED):
            try:
                given = normal_in_order(cast("object", given))
            except NotJson as fault:
                raise ValueError(f"not JSON at {fault.path}: {fault}") from fault
        return cast("Self", handler(given))

    @field_validator("firmplan", mode="before")
    @classmethod
    def _version(cls, found: object) -> object:
        # Literal[1] compares with ==, so true and 1.0 would pass.
        if type(found) is not int:
            raise ValueError("expected the integer 1")
        return found

    @cached_property
    def digest(self) -> Digest:
        """The plan's identity: `sha256:` and 64 hex digits over its canonical form, prose left out."""
        from .digest import digest_of  # noqa: PLC0415  # the canonical form knows the models

        return digest_of(self)

    @property
    def text_digest(self) -> Digest:
        """The digest of the plan's text with its prose and the order of its keys, which `digest` leaves out."""
        return digest_of_text(self.to_json(indent=None))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Plan:
        """Return the plan in a JSON or YAML file.

        Raises:
            InputRejected: The file does not exist or cannot be read.
            PlanRejected: Its content has not the shape of a plan.
        """
        from .format.load import load_plan  # noqa: PLC0415  # the edge that reads files

        return load_plan(path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan to a file: YAML if the name ends in `.yaml` or `.yml`, else JSON."""
        from .format.load import save_plan  # noqa: PLC0415  # the edge that writes files

        save_plan(self, path)

    def to_dict(self) -> dict[str, Json]:
        """Return the plan as JSON, with the keys that were given."""
        with collector_paused():
            return self.model_dump(mode="json", exclude_unset=True)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the plan as JSON text; `Plan.model_validate(json.loads(..))` gives an equal plan. Invisible characters are escapes."""
        import json  # noqa: PLC0415  # only for text

        from .reports.visible import visible_json  # noqa: PLC0415  # the same

        return visible_json(json.dumps(self.to_dict(), ensure_ascii=False, indent=indent))

    @classmethod
    def json_schema(cls, toolset: Signatures | Sequence[Signature] | None = None) -> dict[str, Json]:
        """Return the JSON Schema of the format; with a toolset, it lists tool names and arguments."""
        from .format.json_schema import json_schema  # noqa: PLC0415  # only for editors and models

        return json_schema(toolset)

    def diff(self, other: Plan) -> PlanDiff:
        """Return the changes from this plan to the other, by step and field."""
        from .edit.diff import diff_plans  # noqa: PLC0415  # knows the models

        return diff_plans(self, other)

    def apply(self, patch: Patch | Mapping[str, Any] | Sequence[Any]) -> Plan:
        """Return the plan with a patch's operations applied in order.

        Raises:
            PlanRejected: An operation does not fit the plan, or the result has not the shape of a plan.
        """
        from .edit.patch import apply_patch  # noqa: PLC0415  # knows the models

        return apply_patch(self, patch)

    def render(
        self,
        format: Literal["text", "mermaid", "svg"] = "text",  # noqa: A002  # the contract's word
        toolset: Signatures | Sequence[Signature] | None = None,
        *,
        width: int = 100,
    ) -> str:
        """Return a picture of the plan.

        Args:
            format: `text`, `mermaid` or `svg`.
            toolset: Tells the effects of steps apart.
            width: The most columns of a text.
        """
        from .render import render  # noqa: PLC0415  # only for people

        return render(self, format, toolset, width=width)

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copied = super().model_copy(update=update, deep=deep)
        # The same.
        vars(copied).pop("digest", None)
        return copied

    @override
    def __hash__(self) -> int:
        return hash(self.digest)
