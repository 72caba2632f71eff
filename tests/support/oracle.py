"""A naive interpreter of plans: one step after another, in program order, in memory. What a run must agree with.

It shares the expression language with firmplan, and nothing else: no machine, no items, no turns, no events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.reports.errors import SKIPPED, EvaluationError, RefersToSkipped

BAD = ("failed", "skipped:dependency-failed", "skipped:blocked")
KEYS = ("args", "set", "for_each", "when")


class Failed(Exception):  # noqa: N818  # a word of the domain
    """A step failed; nothing handled it."""


@dataclass
class Oracle:
    """Interprets plans with `tools`: name -> (function of arguments, `pure`/`read`/`write`, resource).

    `model` answers `ask` steps: a function of the prompt and of the schema of the answer. `mind` takes an agent's next decision:
    a function of its goal, of the step's `agent`, and of what came of its calls so far.
    """

    tools: Mapping[str, tuple[Callable[..., Any], str, str]]
    model: Callable[[str, Any], Any] | None = None
    mind: Callable[[str, Any, list[Any]], Mapping[str, Any]] | None = None
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)

    def interpret(
        self,
        steps: list[dict[str, Any]],
        inputs: Mapping[str, Any],
        plans: Mapping[str, Any],
        prefix: str = "",
    ) -> dict[str, Any]:
        """Run the steps; return the scope that is left, and fill `calls` and `status`."""
        scope: dict[str, Any] = {"inputs": dict(inputs)}
        done: list[dict[str, Any]] = []
        for step in in_program_order(steps):
            status, value = self.step(step, scope, done, plans, prefix)
            self.status[prefix + step["id"]] = status
            scope[step["id"]] = value
            done.append(step)
        return scope

    def step(  # noqa: C901, PLR0911  # the rules of ending, one after another
        self,
        step: dict[str, Any],
        scope: dict[str, Any],
        done: list[dict[str, Any]],
        plans: Mapping[str, Any],
        prefix: str,
    ) -> tuple[str, Any]:
        """Return the step's status and value."""

        def status_of(name: str) -> str:
            return self.status[prefix + name]

        formulas = formulas_of(step)
        when = formulas.get("when")
        is_switch = when is not None and not when.names & {"item", "index"}
        if is_switch:
            if (early := _verdict([when], scope, status_of)) is not None:
                return early, SKIPPED
            try:
                if not when.evaluate(scope):
                    return "skipped:when", SKIPPED
            except RefersToSkipped:  # a `first` with nothing left
                return "skipped:skipped-reference", SKIPPED
        verdict = _verdict(list(formulas.values()), scope, status_of)
        if verdict == "skipped:dependency-failed":
            return verdict, SKIPPED
        if any(status_of(name) in BAD for name in step.get("after", ())):
            return "skipped:blocked", SKIPPED
        if verdict is not None:
            return verdict, SKIPPED
        writes = [resource for resource, is_write in self.effects(step, plans) if is_write]
        for other in done:
            touched = [resource for resource, _ in self.effects(other, plans)]
            if status_of(other["id"]) in BAD and any(_conflict(a, b) for a in writes for b in touched):
                return "skipped:blocked", SKIPPED
        try:
            return self.act(
                step, formulas, scope, plans, prefix, is_filter=when is not None and not is_switch
            )
        except RefersToSkipped:
            return "skipped:skipped-reference", SKIPPED
        except (Failed, EvaluationError):
            return "failed", SKIPPED

    def act(
        self,
        step: dict[str, Any],
        formulas: dict[str, Any],
        scope: dict[str, Any],
        plans: Mapping[str, Any],
        prefix: str,
        *,
        is_filter: bool,
    ) -> tuple[str, Any]:
        """Run the step's action, for each item if it has items."""
        path = prefix + step["id"]
        if "for_each" not in step:
            outcome = self.item(step, formulas, scope, plans, path)
            return ("skipped:on-error", SKIPPED) if outcome is SKIPPED else ("succeeded", outcome)
        values, failed, is_gone = [], False, False
        is_ordered = any(is_write for _, is_write in self.effects(step, plans))
        for index, item in enumerate(formulas["for_each"].evaluate(scope)):
            inner = {**scope, "item": item, "index": index}
            if is_filter and not formulas["when"].evaluate(inner):
                continue
            try:
                outcome = self.item(step, formulas, inner, plans, f"{path}[{index}]")
            except RefersToSkipped:
                is_gone = True
                continue
            except (Failed, EvaluationError):
                failed = True
                if is_ordered:
                    break
                continue
            if outcome is not SKIPPED:
                values.append(outcome)
        if failed:
            raise Failed
        return ("skipped:skipped-reference", SKIPPED) if is_gone else ("succeeded", values)

    def item(
        self,
        step: dict[str, Any],
        formulas: dict[str, Any],
        scope: dict[str, Any],
        plans: Mapping[str, Any],
        path: str,
    ) -> Any:
        """Return what one item gives, `SKIPPED` if a failure leaves it out. Raises: Failed."""
        try:
            if "repeat" in step:
                return self.repeated(step, formulas, scope, plans, path)
            return self.once(step, formulas, scope, plans, path)
        except (Failed, EvaluationError):
            on_error = step.get("on_error", "fail")
            if on_error == "fail":
                raise
            return SKIPPED if on_error == "skip" else on_error["value"]

    def repeated(
        self,
        step: dict[str, Any],
        formulas: dict[str, Any],
        scope: dict[str, Any],
        plans: Mapping[str, Any],
        path: str,
    ) -> Any:
        """Return the value for which `until` holds. Raises: Failed."""
        until = parse_formula(step["repeat"]["until"])[0]
        inner = dict(scope)
        for round_ in range(step["repeat"]["max"]):
            value = self.once(step, formulas, inner, plans, f"{path}#{round_}")
            if until.evaluate({**inner, step["id"]: value}):
                return value
            inner = {**scope, "prev": value}
        raise Failed

    def once(
        self,
        step: dict[str, Any],
        formulas: dict[str, Any],
        scope: dict[str, Any],
        plans: Mapping[str, Any],
        path: str,
    ) -> Any:
        """Return what one call of the action gives. Raises: Failed."""
        if "set" in step:
            return formulas["set"].evaluate(scope)
        if "ask" in step:
            assert self.model is not None
            return self.model(formulas["ask"].evaluate(scope), step["ask"].get("returns", {"type": "string"}))
        if "agent" in step:
            return self.agent(step["agent"], formulas["agent"].evaluate(scope), path)
        args = formulas["args"].evaluate(scope)
        if "plan" not in step:
            self.calls.append((step["tool"], path, args))
            return self.tools[step["tool"]][0](**args)
        inner = plans[step["plan"]]
        defaults = {name: given["default"] for name, given in inner["inputs"].items() if "default" in given}
        left = self.interpret(inner["steps"], {**defaults, **args}, plans, f"{path}/")
        if any(self.status[f"{path}/{each['id']}"] == "failed" for each in inner["steps"]):
            raise Failed
        output = parse_formula(inner["output"])[0]
        return None if any(left[name] is SKIPPED for name in output.strict) else output.evaluate(left)

    def agent(self, agent: Mapping[str, Any], goal: str, path: str) -> Any:
        """Let an agent decide and call, turn after turn; return its answer. Raises: Failed: it gave none."""
        assert self.mind is not None
        results: list[Any] = []
        for turn in range(agent["max_steps"]):
            said = self.mind(goal, agent, results)
            self.status[f"{path}/think{turn}"] = "succeeded"
            if "answer" in said:
                return said["answer"]
            if "call" in said:
                tool, args = said["call"]["tool"], said["call"]["args"]
                self.calls.append((tool, f"{path}/act{turn}", args))
                self.status[f"{path}/act{turn}"] = "succeeded"
                try:
                    results.append(self.tools[tool][0](**args))
                except (Failed, TypeError):  # the tool's, or an argument is missing
                    self.status[f"{path}/act{turn}"] = "failed"
                    results.append("failed")
        raise Failed

    def effects(self, step: dict[str, Any], plans: Mapping[str, Any]) -> list[tuple[str, bool]]:
        """Return what the step may touch, as (resource, whether it writes)."""
        if "plan" in step:
            return [found for inner in plans[step["plan"]]["steps"] for found in self.effects(inner, plans)]
        names = step["agent"]["tools"] if "agent" in step else [step["tool"]] if "tool" in step else []
        touched = [self.tools[name][1:] for name in names]
        return [(resource, effect == "write") for effect, resource in touched if effect != "pure"]


def _conflict(one: str, other: str) -> bool:
    return one == other or "world" in (one, other)


def _verdict(formulas: list[Any], scope: Mapping[str, Any], status_of: Callable[[str], str]) -> str | None:
    strict = {name for formula in formulas for name in formula.strict}
    lenient = {name for formula in formulas for name in formula.lenient}
    if any(status_of(name) in BAD for name in strict | lenient):
        return "skipped:dependency-failed"
    if any(scope[name] is SKIPPED for name in strict):
        return "skipped:skipped-reference"
    return None


def formulas_of(step: dict[str, Any]) -> dict[str, Any]:
    """Return the step's templates by key, `until` and fallbacks left out; of `ask` its prompt, of `agent` its goal."""
    texts = {key: step[key] for key in KEYS if key in step}
    texts |= {"ask": step["ask"]["prompt"]} if "ask" in step else {}
    texts |= {"agent": step["agent"]["goal"]} if "agent" in step else {}
    return {key: parse_formula(text)[0] for key, text in texts.items()}


def references(step: dict[str, Any]) -> set[str]:
    """Return the ids that a step's templates refer to."""
    return {name for formula in formulas_of(step).values() for name in formula.strict | formula.lenient}


def in_program_order(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The list, each step preceded by its not yet listed dependencies: references, then `after`, in list order."""
    by_id = {step["id"]: step for step in steps}
    order: dict[str, dict[str, Any]] = {}

    def visit(name: str) -> None:
        if name in order:
            return
        step, refs = by_id[name], references(by_id[name])
        for group in (refs, set(step.get("after", ()))):
            for other in by_id:
                if other in group:
                    visit(other)
        order[name] = step

    for name in by_id:
        visit(name)
    return list(order.values())
