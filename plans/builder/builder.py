"""`PlanBuilder`: a plan written in Python.

    p = PlanBuilder("Compare two cities")
    a = p.input("a", str)
    wa = p.call(weather, city=a)
    p.output(wa.celsius)
    plan = p.build(toolset)

Calls of the builder add steps and give references; attributes, indices and operators of references become expressions
(`reference.py`), wherever they stand: in arguments, inside dicts and lists, in f-strings. Text is what it is in a plan: `${..}` in it
is an expression (`p.literal` escapes). Nothing is checked while the plan is written; `build` checks all of it at once.

`PlanBuilder.of(plan)` goes on with a plan that is there. Step ids come from the names of tools (`weather`, `weather_2`), or from `id=`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from ...errors import ConfigError, PlanRejected
from ..plan import Plan
from ..signature import Signature, Signatures
from .derived_ids import derived_id
from .each import for_every, only_step, wants_index
from .handles import Handles
from .known import Known
from .python_types import schema_of_annotation
from .reference import CONDITION, OR, Functions, Reference, expression, in_plan, literal_text, operand
from .step_options import After, Callee, OnError, RepeatRule, by_name, option_keys

if TYPE_CHECKING:
    from ..checker.body import SavedPlans

_UNSET: Any = object()


class PlanBuilder:
    """Builds a plan step by step.

    Attributes:
        fn: The functions of the language: `p.fn.len(places)`, `p.fn.first(a.title, "none")`, `p.fn.secret("TOKEN")`.
        item: The item of the step's `for_each`.
        index: Its position.
        prev: The value of the previous iteration of the step's `repeat`.

    Args:
        task: The words that the plan answers.
        description: For people.
        name: What a plan within a plan is called; `inner` gives it.
    """

    def __init__(
        self, task: str | None = None, *, description: str | None = None, name: str | None = None
    ) -> None:
        """Begin a plan; `name` is what it is called where another plan runs it."""
        self.task = task
        self.description = description
        self.name = name
        self.fn = Functions()
        self.item = Reference("item")
        self.index = Reference("index")
        self.prev = Reference("prev")
        self._inputs: dict[str, Any] = {}
        self._types: dict[str, Any] = {}
        self._plans: dict[str, dict[str, Any]] = {}
        self._inner: dict[str, PlanBuilder] = {}
        self._steps: list[dict[str, Any]] = []
        self._output: Any = _UNSET
        self._tools: dict[str, Signature] = {}

    @classmethod
    def of(cls, plan: Plan, toolset: Sequence[Signature] = ()) -> PlanBuilder:
        """Open a plan to go on with it: `p.steps.weather` and `p.inputs.city` refer to what it has.

        Args:
            plan: Stays as it is; a builder that adds nothing builds a plan with its digest.
            toolset: The tools it calls: for completion, and for `build` without a toolset.
        """
        made = cls(plan.task, description=plan.description)
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
        self._tools.update({tool.name: tool for tool in toolset})

    @property
    def steps(self) -> Handles:
        """References to the steps so far, by id."""
        return Handles("step", [step["id"] for step in self._steps], self._step)

    @property
    def inputs(self) -> Handles:
        """References to the inputs so far, by name."""
        return Handles("input", self._inputs, self._input)

    def input(
        self,
        name: str,
        type: object = str,  # noqa: A002  # what it is
        *,
        default: object = _UNSET,
        description: str | None = None,
    ) -> Reference:
        """Declare an input.

        Args:
            name: How the plan and its caller name it.
            type: A Python type or a JSON Schema.
            default: Its value where the caller gives none; without it one has to be given.
            description: For people and planners.
        """
        schema = schema_of_annotation(type)
        if description is not None:
            schema["description"] = description
        if default is not _UNSET:
            schema["default"] = in_plan(default)
        self._inputs[name] = schema
        return self._input(name)

    def type(self, name: str, type: object) -> dict[str, Any]:  # noqa: A002  # what it is
        """Name a type; what is returned stands for it in `returns=`, in inputs and in other types."""
        self._types[name] = schema_of_annotation(type)
        return {"$ref": f"#/types/{name}"}

    def call(  # noqa: PLR0913  # the keys of a step
        self,
        tool: Callee,
        /,
        *positional: object,
        args: Mapping[str, object] | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        for_each: object = None,
        when: object = None,
        after: After = (),
        on_error: OnError | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> Reference:
        """Add a call of a tool; return its result.

        Args:
            tool: A tool, or the name of one.
            positional: Arguments in the order of the tool's parameters.
            args: Arguments by name, for those that are called like one of the options here.
            id: The step's id; by default it comes from the tool's name.
            for_each: A list; the step runs once an item, with `p.item` and `p.index`.
            when: A condition; false skips the step, or leaves the item out.
            after: Steps that finish first though nothing of them is used.
            on_error: `"fail"`, `"skip"`, or `{"value": ..}`.
            repeat: `{"until": condition, "max": n}`; the condition may be a function of the value just made.
            retries: Further calls after a failed one.
            timeout: Seconds a call.
            why: What the step is for.
            arguments: Arguments by name.
        """
        name = self._noted(tool)
        given = {**by_name(tool, positional), **(args or {}), **arguments}
        options = option_keys(for_each, when, after, on_error, repeat, retries, timeout, why)
        return self._add(id, name, {"tool": name, "args": in_plan(given)}, options)

    def set(self, value: object, /, *, id: str | None = None, **options: Any) -> Reference:  # noqa: A002, ANN401  # the plan's word; the keys of `call`
        """Add a step that computes a value.

        Args:
            value: The value; references and expressions in it are computed when the step runs.
            id: The step's id.
            options: As for `call`.
        """
        return self._add(id, "value", {"set": in_plan(value)}, option_keys(**options))

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
        **options: Any,  # noqa: ANN401  # the keys of `call`
    ) -> Reference:
        """Add a prompt.

        Args:
            prompt: The words.
            returns: A Python type or a JSON Schema of the answer; text by default.
            model: An alias of `Engine(models=)`.
            system: What the model is told first.
            examples: Pairs of input and output.
            temperature: Not sent if it is `None`.
            max_tokens: Most tokens of the answer.
            guard: Conditions that the answer has to meet.
            id: The step's id.
            options: As for `call`.
        """
        ask: dict[str, Any] = {"prompt": in_plan(prompt)}
        if returns is not _UNSET:
            ask["returns"] = schema_of_annotation(returns)
        given = {"model": model, "temperature": temperature, "max_tokens": max_tokens, "guard": list(guard)}
        given |= {"system": in_plan(system), "examples": in_plan(examples)}
        ask |= {key: value for key, value in given.items() if value not in (None, [])}
        return self._add(id, "answer", {"ask": ask}, option_keys(**options))

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
        **options: Any,  # noqa: ANN401  # the keys of `call`
    ) -> Reference:
        """Add a bounded agent.

        Args:
            goal: What it is to reach.
            tools: What it may call.
            returns: A Python type or a JSON Schema; text by default.
            max_steps: Most calls.
            budget: Most `tokens`, `usd` and so on.
            id: The step's id.
            options: As for `call`.
        """
        agent: dict[str, Any] = {"goal": in_plan(goal), "tools": [self._noted(tool) for tool in tools]}
        if returns is not _UNSET:
            agent["returns"] = schema_of_annotation(returns)
        if max_steps is not None:
            agent["max_steps"] = max_steps
        if budget:
            agent["budget"] = dict(budget)
        return self._add(id, "agent", {"agent": agent}, option_keys(**options))

    def plan(  # noqa: PLR0913  # the keys of a step
        self,
        plan: PlanBuilder | Plan | str,
        /,
        *,
        args: Mapping[str, object] | None = None,
        id: str | None = None,  # noqa: A002  # the plan's word
        for_each: object = None,
        when: object = None,
        after: After = (),
        on_error: OnError | None = None,
        repeat: RepeatRule | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        why: str | None = None,
        **arguments: object,
    ) -> Reference:
        """Add a step that runs a plan.

        Args:
            plan: One built by `inner`, another builder or plan, or a saved plan by name or digest.
            args: Inputs by name, for those that are called like one of the options here.
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
        options = option_keys(for_each, when, after, on_error, repeat, retries, timeout, why)
        given = in_plan({**(args or {}), **arguments})
        return self._add(
            id, "plan" if name.startswith("sha256:") else name, {"plan": name, "args": given}, options
        )

    def inner(self, name: str) -> PlanBuilder:
        """Begin a plan that only this plan runs, or go on with it: `city = p.inner("city")`, then `p.plan(city, name="Oslo")`."""
        return self._inner.setdefault(name, PlanBuilder(name=name))

    def each(self, items: object, body: Callable[..., object], /, *, id: str | None = None) -> Reference:  # noqa: A002  # the plan's word
        """Run one step for each item of a list; return the list of results.

        Args:
            items: The list.
            body: Called once, with the item and, if it takes two arguments, its index. It adds one step, or none: then what it returns is
                computed for each item. A part of the step's value is fine: `p.each(cities, lambda c: p.call(weather, city=c).celsius)`.
            id: The step's id.
        """
        before = len(self._steps)
        made = body(self.item, self.index) if wants_index(body) else body(self.item)
        added = self._steps[before:]
        if not added:
            return self._add(id, "value", {"set": in_plan(made)}, {"for_each": in_plan(items)})
        step = only_step(added, id)
        step["for_each"] = in_plan(items)
        return for_every(made, step["id"])

    def expr(self, text: str) -> Reference:
        """Return an expression as written: `p.expr(f"[x.name for x in {people}]")`."""
        return Reference(expression(text), 0)

    def either(self, condition: object, then: object, otherwise: object) -> Reference:
        """Return `then if condition else otherwise`.

        Args:
            condition: What decides, by Python's truth.
            then: The value where it holds.
            otherwise: The value where it does not.
        """
        return Reference(
            f"{operand(then, OR)} if {operand(condition, OR)} else {operand(otherwise, CONDITION)}", CONDITION
        )

    def literal(self, value: object) -> Any:  # noqa: ANN401  # any JSON
        """Return a value whose text is only text: `${` in it is no expression."""
        return literal_text(value)

    def output(self, value: object) -> None:
        """Say what the plan gives."""
        self._output = in_plan(value)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON, unchecked."""
        named = {"task": self.task, "description": self.description}
        made: dict[str, Any] = {"firmplan": 1} | {
            key: text for key, text in named.items() if text is not None
        }
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
            PlanRejected: The plan has faults: `.report`.
        """
        from ..checker.checker import check  # noqa: PLC0415  # building needs no checker, only this does

        raw = self.to_dict()
        report = check(raw, self._every_tool() if toolset is None else toolset, plans=plans)
        if not report.ok:
            raise PlanRejected(report)
        return Plan.model_validate(raw)

    def _body(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self._inputs:
            made["inputs"] = dict(self._inputs)
        if self._types:
            made["types"] = dict(self._types)
        made["steps"] = [dict(step) for step in self._steps]
        if self._output is not _UNSET:
            made["output"] = self._output
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

    def _adopted(self, plan: PlanBuilder | Plan) -> str:
        """Return the name of a plan that is now among this plan's own."""
        if isinstance(plan, PlanBuilder):
            name = plan.name or derived_id(plan.task or "inner")
            if self._inner.setdefault(name, plan) is not plan:
                raise ConfigError(f"two inner plans are called '{name}': give one of them another name=")
            for inner_name, inner in plan._inner.items():  # noqa: SLF001  # same class
                if self._inner.setdefault(inner_name, inner) is not inner:
                    raise ConfigError(
                        f"two inner plans are called '{inner_name}': give one of them another name"
                    )
            return name
        raw = plan.to_dict()
        name = derived_id(plan.task or "inner")
        kept = {key: raw[key] for key in ("inputs", "types", "steps", "output") if key in raw}
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
        until = options.get("repeat", {}).get("until")
        if callable(until):
            options["repeat"]["until"] = in_plan(until(made))
        self._steps.append(step | options)
        return made

    def _step(self, id_: str) -> Reference:
        step = next(step for step in self._steps if step["id"] == id_)
        return Reference(id_, step=id_, known=self._known(step))

    def _input(self, name: str) -> Reference:
        return Reference(f"inputs.{name}", known=Known(self._inputs[name], self._types))

    def _known(self, step: Mapping[str, Any]) -> Known | None:
        """Return what is known of the value of a step."""
        asked = step.get("ask", step.get("agent", {})).get("returns")
        tool = self._tools.get(step.get("tool", ""))
        schema = asked if tool is None else tool.returns
        return None if schema is None else Known(schema, self._types, is_list="for_each" in step)

    def _free(self, wanted: str) -> str:
        taken = {step["id"] for step in self._steps}
        base = derived_id(wanted)
        free, number = base, 1
        while free in taken:
            number += 1
            free = f"{base}_{number}"
        return free
