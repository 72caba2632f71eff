"""`PlanBuilder`: a plan written in Python.

    p = PlanBuilder("Compare two cities")
    a = p.input("a", str)
    wa = p.call(weather, city=a)
    p.output(wa.celsius)
    plan = p.build(toolset)

Calls of the builder add steps and return references. Attributes, indices and operators of references become expressions
(`reference.py`) wherever they are used: in arguments, inside dicts and lists, in f-strings. Text means the same as in a plan: `${..}` in it
is an expression (`p.literal` escapes it). The builder checks nothing while the plan is written; `build` checks all of it at once.

`PlanBuilder.of(plan)` extends an existing plan. Step ids come from the names of tools (`weather`, `weather_2`), or from `id=`.
"""

# ruff: noqa: ANN401  # options are the keys of `call`, and what a reference stands for may be of any type
from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict, Unpack, cast, overload

from typing_extensions import ParamSpec, TypeVar

from ...errors import ConfigError, PlanRejected
from ..checker.names import derived_id, numbered
from ..plan import PERSON, Plan
from ..reports.paths import key
from ..signature import Signature, Signatures, properties_of
from ..types.definitions import rewritten
from ..values import Json
from .reference import (
    CONDITION,
    OR,
    Functions,
    Handles,
    Known,
    Reference,
    expression,
    expression_of,
    in_plan,
    literal_text,
    operand,
    step_of,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..checker.body import SavedPlans
    from ..python_types import DataclassLike
    from ..reports.problems import CheckReport


# To type checkers a reference to a value whose fields or methods they know is that value: `page.title` is a `str` where the tool returns a model with such
# a field. Everything else is a `Reference`, whose fields they do not know: dicts, which Python indexes and plans need not, and values that may be null.
V = TypeVar(
    "V",
    bound="BaseModel | DataclassLike | str | float | Sequence[BaseModel] | Sequence[DataclassLike] | Sequence[str] | Sequence[float]",
)
W = TypeVar(
    "W",
    bound="BaseModel | DataclassLike | str | float | Sequence[BaseModel] | Sequence[DataclassLike] | Sequence[str] | Sequence[float]",
)
Out = TypeVar("Out", default=Any)
Made = TypeVar("Made")
Q = ParamSpec("Q")
ClassOf: TypeAlias = type[V]  # in the builder `type` is a method
ToolOf: TypeAlias = Callable[..., Coroutine[Any, Any, V] | V]
Callee: TypeAlias = "Signature | str"
After: TypeAlias = "object"
"""A step, its id, or a list of these."""
OnErrorOption: TypeAlias = "str | Mapping[str, object]"
RepeatRule: TypeAlias = "Mapping[str, object] | tuple[Callable[[Reference], object] | object, int]"

_UNSET: Any = object()


class _Options(TypedDict, total=False):
    """The keys that every step may have, but for `for_each`: whether that is given decides the type of the step's value."""

    id: str | None
    when: object
    after: After
    on_error: OnErrorOption | None
    repeat: RepeatRule | None
    retries: int | None
    timeout: float | None
    why: str | None


class _AskOptions(_Options, total=False):
    model: str | None
    system: object
    examples: object
    temperature: float | None
    max_tokens: int | None
    guard: Sequence[object]


class _AgentOptions(_Options, total=False):
    tools: Iterable[Callee]
    max_steps: int | None
    budget: Mapping[str, float] | None


class _PlanForOptions(_Options, total=False):
    given: Mapping[str, object] | None
    tools: Iterable[Callee]
    max_steps: int | None


class _QuestionOptions(_Options, total=False):
    expires: float | str | None


class PlanBuilder(Generic[Out]):
    """Builds a plan step by step.

    Type checkers know what references lead to: the result of a tool that returns a model has the model's fields, and `returns=` types the output.

    Attributes:
        fn: The functions of the language: `p.fn.len(places)`, `p.fn.first(a.title, "none")`, `p.fn.secret("TOKEN")`.
        item: The item of the step's `for_each`.
        index: Its position.
        prev: The value of the previous iteration of the step's `repeat`.

    Args:
        task: The words that the plan answers.
        description: For people.
        name: What a plan within a plan is called; `inner` gives it.
        returns: The type of the output, or its JSON Schema: see `output`.
        deadline: How long a run of the plan may take, waits included: seconds, or text such as `"2h"`.
    """

    def __init__(
        self,
        task: str | None = None,
        *,
        description: str | None = None,
        name: str | None = None,
        returns: type[Out] | Mapping[str, Any] | None = None,
        deadline: str | float | None = None,
    ) -> None:
        """Begin a plan; `name` is its name where another plan runs it."""
        self.task = task
        self.description = description
        self._left_out: list[str] = []
        self.deadline = deadline
        self.name = name
        self.fn = Functions()
        self.item = Reference("item")
        self.index = Reference("index")
        self.prev = Reference("prev")
        self._inputs: dict[str, Any] = {}
        self._types: dict[str, Any] = {}
        self._plans: dict[str, dict[str, Any]] = {}
        self._inner: dict[str, PlanBuilder[Any]] = {}
        self._steps: list[dict[str, Any]] = []
        self._output: Any = _UNSET
        self._returns: Any = _UNSET if returns is None else _schema_of_annotation(returns)
        self._tools: dict[str, Signature] = {}
        # The start of a problem's path -> the line of Python that built this part.
        self._sources: dict[str, str] = {}

    @classmethod
    def of(cls, plan: Plan, toolset: Sequence[Signature] = ()) -> PlanBuilder[Any]:
        """Open a plan to extend it: `p.steps.weather` and `p.inputs.city` refer to its steps and inputs.

        Args:
            plan: Stays as it is; a builder that adds nothing builds a plan with its digest.
            toolset: The tools that it calls, for completion in editors and for `build` without a toolset.
        """
        made = cls(
            plan.task, description=plan.description, deadline=cast("str | float | None", plan.deadline)
        )
        made.left_out(*plan.left_out)
        raw = cast("dict[str, Any]", deepcopy(plan.to_dict()))
        made._fill(raw, toolset)
        for name, inner in raw.get("plans", {}).items():
            made.inner(name)._fill(inner, toolset)  # noqa: SLF001  # same class
        return made

    def _fill(self, body: Mapping[str, Any], toolset: Sequence[Signature]) -> None:
        self._inputs.update(body.get("inputs", {}))
        self._types.update(body.get("types", {}))
        self._steps.extend(body["steps"])
        self._output = body.get("output", _UNSET)
        self._returns = body.get("returns", _UNSET)
        self._tools.update({tool.name: tool for tool in toolset})

    @property
    def steps(self) -> Handles:
        """References to the steps so far, by id."""
        return Handles("step", [step["id"] for step in self._steps], self._step)

    @property
    def inputs(self) -> Handles:
        """References to the inputs so far, by name."""
        return Handles("input", self._inputs, self._input)

    @overload
    def input(self, name: str, *, default: object = ..., description: str | None = None) -> str: ...
    @overload
    def input(  # type: ignore[overload-overlap]  # the most exact one counts; so it is below
        self,
        name: str,
        type: ClassOf[V],  # what it is
        *,
        default: object = ...,
        description: str | None = None,
    ) -> V: ...
    @overload
    def input(
        self,
        name: str,
        type: object,  # what it is
        *,
        default: object = ...,
        description: str | None = None,
    ) -> Reference: ...
    def input(
        self,
        name: str,
        type: object = str,  # noqa: A002  # what it is
        *,
        default: object = _UNSET,
        description: str | None = None,
    ) -> Any:
        """Declare an input.

        Args:
            name: How the plan and its caller name it.
            type: A Python type or a JSON Schema.
            default: Its value if the caller gives none; without a default the caller must give one.
            description: For people and planners.
        """
        schema = _schema_of_annotation(type)
        if description is not None:
            schema["description"] = description
        if default is not _UNSET:
            schema["default"] = in_plan(default)
        self._inputs[name] = schema
        self._sources[f".inputs{key(name)}"] = _line_of_caller()
        return self._input(name)

    def type(self, name: str, type: object) -> dict[str, Any]:  # noqa: A002  # what it is
        """Name a type; use the returned reference in `returns=`, in inputs and in other types."""
        self._types[name] = _schema_of_annotation(type)
        return {"$ref": f"#/types/{name}"}

    @overload
    def call(
        self,
        tool: ToolOf[V],
        /,
        *positional: object,
        args: Mapping[str, object] | None = None,
        id: str | None = None,
        for_each: None = None,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> V: ...
    @overload
    def call(
        self,
        tool: ToolOf[V],
        /,
        *positional: object,
        args: Mapping[str, object] | None = None,
        id: str | None = None,
        for_each: object,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> list[V]: ...
    @overload
    def call(
        self,
        tool: Callee,
        /,
        *positional: object,
        args: Mapping[str, object] | None = None,
        id: str | None = None,
        for_each: object = None,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> Reference: ...
    def call(  # noqa: PLR0913  # the keys of a step
        self,
        tool: Any,
        /,
        *positional: object,
        args: Mapping[str, object] | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        for_each: object = None,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> Any:
        """Add a call of a tool; return its result.

        Args:
            tool: A tool, or the name of one.
            positional: Arguments in the order of the tool's parameters.
            args: Arguments by name, for names that are options here.
            id: The step's id; by default it comes from the tool's name.
            for_each: A list; the step runs once an item, with `p.item` and `p.index`.
            when: A condition; false skips the step, or leaves the item out.
            after: Steps that finish first although the step uses no value of theirs.
            on_error: `"fail"`, `"skip"`, or `{"value": ..}`.
            repeat: `{"until": condition, "max": n}`; the condition may be a function of the value just made.
            retries: Further calls after a failed one.
            timeout: Seconds a call.
            why: What the step is for.
            arguments: Arguments by name.
        """
        name = self._noted(tool)
        given = {**_by_name(tool, positional), **(args or {}), **arguments}
        options = _option_keys(for_each, when, after, on_error, repeat, retries, timeout, why)
        return self._add(id, name, {"tool": name, "args": in_plan(given)}, options)

    @overload
    def set(self, value: object, /, *, for_each: object, **options: Unpack[_Options]) -> Reference: ...
    @overload
    def set(self, value: V, /, **options: Unpack[_Options]) -> V: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def set(self, value: object, /, **options: Unpack[_Options]) -> Reference: ...
    def set(self, value: object, /, *, id: str | None = None, **options: Any) -> Any:  # noqa: A002  # the plan's word; the keys of `call`
        """Add a step that computes a value.

        Args:
            value: The value; references and expressions in it are computed when the step runs.
            id: The step's id.
            options: As for `call`.
        """
        return self._add(id, "value", {"set": in_plan(value)}, _option_keys(**options))

    @overload
    def ask(
        self, prompt: object, /, *, for_each: object, returns: object = ..., **options: Unpack[_AskOptions]
    ) -> Reference: ...
    @overload
    def ask(self, prompt: object, /, *, returns: ClassOf[V], **options: Unpack[_AskOptions]) -> V: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def ask(self, prompt: object, /, *, returns: object, **options: Unpack[_AskOptions]) -> Reference: ...
    @overload
    def ask(self, prompt: object, /, **options: Unpack[_AskOptions]) -> str: ...
    def ask(  # noqa: PLR0913  # the keys of an ask
        self,
        prompt: object,
        /,
        *,
        returns: object = _UNSET,
        model: str | None = None,
        system: object = None,
        examples: object = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        guard: Sequence[object] = (),
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Any:
        """Add a prompt.

        Args:
            prompt: The words.
            returns: A Python type or a JSON Schema of the answer; text by default.
            model: An alias of `Engine(models=)`.
            system: The system prompt.
            examples: Pairs of input and output.
            temperature: Not sent if it is `None`.
            max_tokens: Most tokens of the answer.
            guard: Conditions that the answer has to meet.
            id: The step's id.
            options: As for `call`.
        """
        ask = _some(
            prompt=in_plan(prompt),
            returns=_schema_if_given(returns),
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            guard=list(guard) or None,
            system=in_plan(system),
            examples=in_plan(examples) or None,
        )
        return self._add(id, "answer", {"ask": ask}, _option_keys(**options))

    @overload
    def agent(
        self, goal: object, /, *, for_each: object, returns: object = ..., **options: Unpack[_AgentOptions]
    ) -> Reference: ...
    @overload
    def agent(self, goal: object, /, *, returns: ClassOf[V], **options: Unpack[_AgentOptions]) -> V: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def agent(
        self, goal: object, /, *, returns: object = ..., **options: Unpack[_AgentOptions]
    ) -> Reference: ...
    def agent(
        self,
        goal: object,
        /,
        *,
        tools: Iterable[Callee] = (),
        returns: object = _UNSET,
        max_steps: int | None = None,
        budget: Mapping[str, float] | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Any:
        """Add a bounded agent.

        Args:
            goal: The goal.
            tools: The tools that it may call.
            returns: A Python type or a JSON Schema; text by default.
            max_steps: Most calls.
            budget: Most `tokens`, `usd` and so on.
            id: The step's id.
            options: As for `call`.
        """
        agent = _some(
            goal=in_plan(goal),
            tools=[self._noted(tool) for tool in tools],
            returns=_schema_if_given(returns),
            max_steps=max_steps,
            budget=dict(budget) if budget else None,
        )
        return self._add(id, "agent", {"agent": agent}, _option_keys(**options))

    @overload
    def plan_for(
        self, words: str, /, *, for_each: object, returns: object = ..., **options: Unpack[_PlanForOptions]
    ) -> Reference: ...
    @overload
    def plan_for(self, words: str, /, *, returns: ClassOf[V], **options: Unpack[_PlanForOptions]) -> V: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def plan_for(
        self, words: str, /, *, returns: object = ..., **options: Unpack[_PlanForOptions]
    ) -> Reference: ...
    def plan_for(
        self,
        words: str,
        /,
        *,
        given: Mapping[str, object] | None = None,
        tools: Iterable[Callee] = (),
        returns: object = _UNSET,
        max_steps: int | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Any:
        """Add a step that is planned in the run, from the values so far.

        Args:
            words: What the sub-plan is to do.
            given: Values by name: they are shown to the planner, and are the inputs of the sub-plan.
            tools: The tools that its steps may call.
            returns: A Python type or a JSON Schema of its output; text by default.
            max_steps: Most steps of the sub-plan.
            id: The step's id.
            options: As for `call`.
        """
        step = _some(
            plan_for=words,
            tools=[self._noted(tool) for tool in tools],
            given=in_plan(given) if given else None,
            returns=_schema_if_given(returns),
            max_steps=max_steps,
        )
        return self._add(id, "planned", step, _option_keys(**options))

    @overload
    def ask_person(
        self,
        question: object,
        /,
        *,
        for_each: object,
        returns: object = ...,
        **options: Unpack[_QuestionOptions],
    ) -> Reference: ...
    @overload
    def ask_person(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, question: object, /, *, returns: ClassOf[V], **options: Unpack[_QuestionOptions]
    ) -> V: ...
    @overload
    def ask_person(
        self, question: object, /, *, returns: object = ..., **options: Unpack[_QuestionOptions]
    ) -> Reference: ...
    def ask_person(
        self,
        question: object,
        /,
        *,
        returns: object = _UNSET,
        expires: float | str | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Any:
        """Ask a person one question.

        Args:
            question: The question.
            returns: A Python type or a JSON Schema of the answer; text by default.
            expires: Seconds, or such as `"24h"`, after which the step fails; `None`: never.
            id: The step's id.
            options: As for `call`.
        """
        step = _some(ask_person=in_plan(question), returns=_schema_if_given(returns), expires=expires)
        return self._add(id, "answer", step, _option_keys(**options))

    def wait(
        self,
        duration: object = _UNSET,
        /,
        *,
        until: object = _UNSET,
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Reference:
        """Wait for some time, or until a time; `after` says which steps come before, and the `after` of others names this step.

        Args:
            duration: Seconds, text such as `"2h"`, or a `timedelta`; a value of the plan, too.
            until: A `date`, a `datetime` or ISO text; a value of the plan, too.
            id: The step's id.
            options: As for `call`.

        Raises:
            TypeError: Neither or both are given.
        """
        if (duration is _UNSET) == (until is _UNSET):
            raise TypeError('wait(..) takes a duration, as in wait("2h"), or until=, as in wait(until=day)')
        if until is _UNSET:
            given = duration.total_seconds() if isinstance(duration, timedelta) else in_plan(duration)
            step = {"wait": {"for": given}}
        else:
            step = {"wait": {"until": until.isoformat() if isinstance(until, date) else in_plan(until)}}
        return self._add(id, "waited", step, _option_keys(**options))

    def fail(
        self,
        message: object,
        /,
        *,
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Reference:
        """Fail with a message; `when` says in which case.

        Args:
            message: The message.
            id: The step's id.
            options: As for `call`.
        """
        return self._add(id, "fail", {"fail": in_plan(message)}, _option_keys(**options))

    def endorse(
        self,
        value: object,
        /,
        *,
        returns: object,
        by: str = PERSON,
        id: str | None = None,  # noqa: A002  # the plan's word
        **options: Any,  # the keys of `call`
    ) -> Reference:
        """Add a step in which a person or a policy decides that a value counts as trusted.

        Args:
            value: The value.
            returns: A Python type or a JSON Schema that it must fit.
            by: `person`, or the name of a policy of the engine.
            id: The step's id.
            options: As for `call`.
        """
        step = {"endorse": in_plan(value), "returns": _schema_of_annotation(returns), "by": by}
        return self._add(id, "endorsed", step, _option_keys(**options))

    @overload
    def plan(  # pyright: ignore[reportOverlappingOverload]
        self,
        plan: PlanBuilder[V],
        /,
        *,
        args: Mapping[str, object] | None = None,
        id: str | None = None,
        for_each: None = None,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> V: ...
    @overload
    def plan(
        self,
        plan: PlanBuilder[V],
        /,
        *,
        args: Mapping[str, object] | None = None,
        id: str | None = None,
        for_each: object,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> list[V]: ...
    @overload
    def plan(
        self,
        plan: PlanBuilder[Any] | Plan | str,
        /,
        *,
        args: Mapping[str, object] | None = None,
        id: str | None = None,
        for_each: object = None,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> Reference: ...
    def plan(  # noqa: PLR0913  # the keys of a step
        self,
        plan: PlanBuilder[Any] | Plan | str,
        /,
        *,
        args: Mapping[str, object] | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        for_each: object = None,
        when: object = None,
        after: After = (),
        on_error: OnErrorOption | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> Any:
        """Add a step that runs a plan.

        Args:
            plan: One built by `inner`, another builder or plan, or a saved plan by name or digest.
            args: Inputs by name, for names that are options here.
            id: As for `call`, like the rest.
            for_each: See `call`.
            when: See `call`.
            after: See `call`.
            on_error: See `call`.
            repeat: See `call`.
            retries: See `call`.
            timeout: See `call`.
            why: See `call`.
            arguments: Inputs by name.
        """
        name = plan if isinstance(plan, str) else self._adopted(plan)
        options = _option_keys(for_each, when, after, on_error, repeat, retries, timeout, why)
        given = in_plan({**(args or {}), **arguments})
        return self._add(
            id, "plan" if name.startswith("sha256:") else name, {"plan": name, "args": given}, options
        )

    def inner(self, name: str) -> PlanBuilder[Any]:
        """Begin an inner plan, or extend it: `city = p.inner("city")`, then `p.plan(city, name="Oslo")`."""
        return self._inner.setdefault(name, PlanBuilder[Any](name=name))

    def record(self, kind: Callable[Q, Made], /, *args: Q.args, **fields: Q.kwargs) -> Made:
        """Return an object with the fields of a model or a dataclass, of references and values; type checkers hold it to the class.

        `p.output(p.record(Report, title=page.title, score=0.5))` writes `{"title": "${page.title}", "score": 0.5}`. Fields with defaults may be left out.

        Args:
            kind: The class.
            args: Fields by position, as the class takes them.
            fields: Fields by name.

        Raises:
            TypeError: The class has no such field, or needs another one.
        """
        bound = inspect.signature(kind).bind(*args, **fields)
        return cast("Made", in_plan(bound.arguments))

    @overload
    def each(self, items: Sequence[V], body: Callable[[V], W], /, *, id: str | None = None) -> list[W]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def each(  # type: ignore[overload-overlap]
        self, items: Sequence[V], body: Callable[[V, int], W], /, *, id: str | None = None
    ) -> list[W]: ...
    @overload
    def each(self, items: object, body: Callable[..., object], /, *, id: str | None = None) -> Reference: ...
    def each(self, items: object, body: Callable[..., object], /, *, id: str | None = None) -> Any:  # noqa: A002  # the plan's word
        """Run one step for each item of a list; return the list of results.

        Args:
            items: The list.
            body: Called once, with the item and, if it takes two arguments, its index. It adds one step, or none: then what it returns is
                computed for each item. A part of the step's value is fine: `p.each(cities, lambda c: p.call(weather, city=c).celsius)`.
            id: The step's id.
        """
        before = len(self._steps)
        made = body(self.item, self.index) if _wants_index(body) else body(self.item)
        added = self._steps[before:]
        if not added:
            return self._add(id, "value", {"set": in_plan(made)}, {"for_each": in_plan(items)})
        step = _only_step(added, id)
        step["for_each"] = in_plan(items)
        return _for_every(made, step["id"])

    def expr(self, text: str) -> Reference:
        """Return an expression as written: `p.expr(f"[x.name for x in {people}]")`."""
        return Reference(expression(text), 0)

    @overload
    def either(self, condition: object, then: V, otherwise: V) -> V: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def either(self, condition: object, then: object, otherwise: object) -> Reference: ...
    def either(self, condition: object, then: object, otherwise: object) -> Any:
        """Return `then if condition else otherwise`.

        Args:
            condition: The condition.
            then: The value if it holds.
            otherwise: The value if it does not.
        """
        return Reference(
            f"{operand(then, OR)} if {operand(condition, OR)} else {operand(otherwise, CONDITION)}", CONDITION
        )

    def literal(self, value: object) -> Any:  # any JSON
        """Return a value with every `${` escaped, so that its text holds no expressions."""
        return literal_text(value)

    def output(self, value: Out, /, *, returns: object = _UNSET) -> None:
        """Set the plan's output.

        Args:
            value: The output.
            returns: A Python type or a JSON Schema that it has to fit, in the check and when the plan has run (`returns` of the plan). With
                `PlanBuilder(returns=Report)` type checkers hold the output to it, too; `record` writes such a value.
        """
        self._output = in_plan(value)
        if returns is not _UNSET:
            self._returns = _schema_of_annotation(returns)
        self._sources[".output"] = _line_of_caller()

    def left_out(self, *texts: str) -> None:
        """Say what of the task the plan does not do, and why: a sentence for each part. Runs of the plan show it."""
        self._left_out.extend(texts)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON, unchecked."""
        made = _some(
            firmplan=1,
            task=self.task,
            description=self.description,
            deadline=self.deadline,
            left_out=list(self._left_out) or None,
        )
        plans = {**self._plans, **{name: inner._body() for name, inner in self._inner.items()}}  # noqa: SLF001  # same class
        body = self._body()
        return (
            made
            | {key: body[key] for key in ("inputs", "types") if key in body}
            | ({"plans": plans} if plans else {})
            | body
        )

    def build(
        self, toolset: Signatures | Sequence[Signature] | None = None, *, plans: SavedPlans | None = None
    ) -> Plan:
        """Return the plan, checked against a toolset; without one, against the tools that were called.

        Raises:
            PlanRejected: The plan has faults: `.report`. Each problem has the line of Python that built the faulty part (`source`).
        """
        from ..checker.checker import check  # noqa: PLC0415  # building needs no checker, only this does

        raw = self.to_dict()
        report = check(raw, self._every_tool() if toolset is None else toolset, plans=plans)
        if not report.ok:
            raise PlanRejected(self._with_sources(report))
        return Plan.model_validate(raw)

    def _with_sources(self, report: CheckReport) -> CheckReport:
        """Return a report whose problems name the lines of Python that built the faulty parts."""
        sources = {f"${place}": line for place, line in self._sources.items()}
        for name, inner in self._inner.items():
            sources |= {f"$.plans{key(name)}{place}": line for place, line in inner._sources.items()}  # noqa: SLF001  # same class

        def source(path: str) -> str | None:
            ends = (end for end in range(len(path), 0, -1) if path[end:] == "" or path[end] in ".[")
            return next((sources[path[:end]] for end in ends if path[:end] in sources), None)

        problems = tuple(replace(each, source=source(each.path)) for each in report.problems)
        return replace(report, problems=problems)

    def _body(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self._inputs:
            made["inputs"] = dict(self._inputs)
        if self._types:
            made["types"] = dict(self._types)
        made["steps"] = [dict(step) for step in self._steps]
        if self._output is not _UNSET:
            made["output"] = self._output
        if self._returns is not _UNSET:
            made["returns"] = self._returns
        return made

    def _every_tool(self) -> list[Signature]:
        found = dict(self._tools)
        for inner in self._inner.values():
            found |= {tool.name: tool for tool in inner._every_tool()}  # noqa: SLF001  # same class
        return list(found.values())

    def _noted(self, tool: Callee) -> str:
        if isinstance(tool, str):
            return tool
        name = getattr(tool, "name", None)
        if not isinstance(name, str) or not hasattr(tool, "parameters"):
            raise ConfigError(
                f"expected a tool or the name of one, found {tool!r}: decorate the function with @tool"
            )
        self._tools[name] = tool
        return name

    def _adopted(self, plan: PlanBuilder[Any] | Plan) -> str:
        """Make a plan one of this plan's inner plans, and return its name."""
        if isinstance(plan, PlanBuilder):
            name = plan.name or derived_id(plan.task or "inner")
            if self._inner.setdefault(name, plan) is not plan:
                raise ConfigError(f"two inner plans are called '{name}': give one of them another name=")
            # Its own inner plans come along, since its steps refer to them by name.
            for inner_name, inner in plan._inner.items():  # noqa: SLF001  # same class
                if self._inner.setdefault(inner_name, inner) is not inner:
                    raise ConfigError(
                        f"two inner plans are called '{inner_name}': give one of them another name"
                    )
            return name
        raw = plan.to_dict()
        name = derived_id(plan.task or "inner")
        kept = {key: raw[key] for key in ("inputs", "types", "steps", "output", "returns") if key in raw}
        for each, body in {name: kept, **cast("dict[str, Any]", raw.get("plans", {}))}.items():
            if self._plans.setdefault(each, body) != body:
                raise ConfigError(f"two inner plans are called '{each}': build one with p.inner(name)")
        return name

    def _add(
        self, id_: object, derive_from: str, action: dict[str, Any], options: dict[str, Any]
    ) -> Reference:
        if id_ is not None and not isinstance(id_, str):
            raise ConfigError(
                f"expected the step's id as text, found {id_!r}: an argument that is called 'id' is given as args={{'id': ..}}"
            )
        chosen = self._free(derive_from) if id_ is None else id_
        step = {"id": chosen, **action}
        made = Reference(chosen, step=chosen, known=self._known(step | options))
        # The condition may be a function of the value just made, which is known only now.
        until = options.get("repeat", {}).get("until")
        if callable(until):
            options["repeat"]["until"] = in_plan(until(made))
        self._sources[f".steps[{len(self._steps)}]"] = _line_of_caller()
        self._steps.append(step | options)
        return made

    def _step(self, id_: str) -> Reference:
        step = next(step for step in self._steps if step["id"] == id_)
        return Reference(id_, step=id_, known=self._known(step))

    def _input(self, name: str) -> Reference:
        return Reference(f"inputs.{name}", known=Known(self._inputs[name], self._types))

    def _known(self, step: Mapping[str, Any]) -> Known | None:
        """Return the schema of a step's value, if it is known."""
        asked = step.get("ask", step.get("agent", step if "plan_for" in step else {})).get("returns")
        tool = self._tools.get(step.get("tool", ""))
        schema = asked if tool is None else tool.returns
        return None if schema is None else Known(schema, self._types, is_list="for_each" in step)

    def _free(self, wanted: str) -> str:
        return numbered(derived_id(wanted), {step["id"] for step in self._steps})


def _line_of_caller() -> str:
    """Return `file:line` of the code outside this module that is being run."""
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # `inspect.stack` reads the source of every frame, for each step of a plan
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _option_keys(  # noqa: PLR0913, PLR0917  # the keys of a step
    for_each: object = None,
    when: object = None,
    after: After = (),
    on_error: OnErrorOption | None = None,
    repeat: RepeatRule | None = None,
    retries: int | None = None,
    timeout: float | None = None,
    why: str | None = None,
) -> dict[str, Any]:
    """Return the given options as a plan holds them; an `until` that is a function stays one. The arguments are those of `PlanBuilder.call`."""
    return _some(
        for_each=in_plan(for_each),
        when=in_plan(when),
        after=_ids(after) or None,
        on_error=in_plan(on_error),
        repeat=_repeat(repeat),
        retries=retries,
        timeout=timeout,
        why=why,
    )


def _some(**keys: Any) -> dict[str, Any]:
    """Return the keys that have a value."""
    return {key: value for key, value in keys.items() if value is not None}


def _ids(after: After) -> list[str]:
    every = [after] if isinstance(after, Reference | str) else list(cast("Iterable[object]", after))
    return [each if isinstance(each, str) else _id(each) for each in every]


def _id(reference: object) -> str:
    step = step_of(reference) if isinstance(reference, Reference) else None
    if step is None:
        raise ConfigError(f"expected a step in after=, found {reference!r}: name the step itself")
    return step


def _repeat(rule: RepeatRule | None) -> dict[str, Any] | None:
    if rule is None:
        return None
    if isinstance(rule, tuple):
        until, most = rule
        rule = {"until": until, "max": most}
    until = rule.get("until")
    is_function = callable(until) and not isinstance(until, Reference)
    rest = cast("dict[str, Any]", in_plan({key: value for key, value in rule.items() if key != "until"}))
    return {"until": until if is_function else in_plan(until), **rest}


def _by_name(tool: Callee, positional: tuple[object, ...]) -> dict[str, object]:
    """Return positional arguments by the names of the tool's parameters."""
    if not positional:
        return {}
    if isinstance(tool, str):
        raise ConfigError(
            f"expected arguments of the tool '{tool}' by name: only a tool itself knows the order of its parameters"
        )
    names = list(properties_of(tool.parameters))
    if len(positional) > len(names):
        raise ConfigError(
            f"expected at most {len(names)} arguments for the tool '{tool.name}', found {len(positional)}"
        )
    return dict(zip(names, positional, strict=False))


def _wants_index(body: Callable[..., object]) -> bool:
    """Whether the body of `each` takes the index as well as the item."""
    return getattr(getattr(body, "__code__", None), "co_argcount", 1) == 2


def _only_step(added: Sequence[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    """Return the one step that the body of `each` added.

    Raises:
        ConfigError: It added several steps, one with items of its own, or one with another id than the wanted one.
    """
    if len(added) > 1 or "for_each" in added[0]:
        raise ConfigError(
            "expected one step in the body of each(..), and no for_each inside it, "
            f"found {', '.join(repr(step['id']) for step in added)}: build them with p.inner(name), and run it with p.plan(..)"
        )
    if wanted is not None and added[0]["id"] != wanted:
        raise ConfigError(f"expected the id '{wanted}' on the step itself: p.call(.., id={wanted!r})")
    return added[0]


def _for_every(made: object, id_: str) -> Reference:
    """Return the list for what the body of `each` returned for one item.

    Args:
        made: A reference to its step, or to a part of the step's value; `None`: its step.
        id_: The id of the step.
    """
    whole = Reference(id_, step=id_)
    if made is None:
        return whole
    if not isinstance(made, Reference):
        raise ConfigError(
            f"expected the body of each(..) to return its step, or a part of it, found {made!r}"
        )
    text = expression_of(made)
    if text == id_:
        return whole
    part = text.removeprefix(id_)
    # The part becomes the element of a comprehension, in which other names would mean something else.
    if step_of(made) != id_ or re.search(rf"\b(?:one|{re.escape(id_)}|item|index)\b", part):
        raise ConfigError(
            f"expected the body of each(..) to return its step '{id_}', or a part of it, found {text!r}: compute with a second each(..)"
        )
    return Reference(f"[one{part} for one in {id_}]")


def _schema_if_given(returns: object) -> dict[str, Any] | None:
    return None if returns is _UNSET else _schema_of_annotation(returns)


def _schema_of_annotation(annotation: object) -> dict[str, Any]:
    """Return the JSON Schema of a type; a mapping is a schema already.

    Raises:
        ConfigError: JSON cannot carry the type.
    """
    if isinstance(annotation, Mapping):
        return dict(cast("Mapping[str, Any]", annotation))
    from pydantic import PydanticUserError  # noqa: PLC0415  # costs more than most plans

    from ..python_types import adapter_of  # noqa: PLC0415  # the same

    if annotation is None:
        return {"type": "null"}
    try:
        schema = adapter_of(annotation).json_schema()
    except PydanticUserError as fault:
        reason = str(fault).split("\n", 1)[0]
        raise ConfigError(
            f"expected a type that JSON can carry, or a JSON Schema, found {annotation!r}: {reason}"
        ) from fault
    return cast("dict[str, Any]", rewritten(schema, _without_title))


def _without_title(schema: dict[str, Json]) -> dict[str, Json]:
    """Return a schema without the title that pydantic derives from a name."""
    return {key: part for key, part in schema.items() if key != "title"}
