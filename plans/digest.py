"""A plan's identity: its canonical form, and the digest over that.

The canonical form is the plan as JSON, with
- `task`, `description` and `left_out` of the top level and every step's `why` left out: prose does not change what runs;
- defaults filled in: empty `inputs`, `types`, `plans`, `args`, `after`, `guard`, `tools` and `budget`, a null `output`, `on_error`
  as `"fail"`, `returns` as `{"type": "string"}`, `max_steps` as 10;
- optional keys without a default (`for_each`, `when`, `repeat`, `retries`, `timeout`, `model`, `system`, `examples`,
  `temperature`, `max_tokens`, `returns` and `deadline` of a plan) left out where the plan leaves them out or sets them to null; an explicit null of `when` and
  `for_each`, a fault, stays;
- every template in canonical spelling.

Its canonical bytes (`values.canonical`) are what is digested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .checker.templates import template_of
from .collecting import collector_paused
from .plan import (
    AgentStep,
    AskPersonStep,
    AskStep,
    EndorseStep,
    FailStep,
    Fallback,
    Plan,
    PlanForStep,
    PlanStep,
    SetStep,
    Step,
    ToolStep,
    WaitStep,
)
from .values import Digest, Json, canonical, digest

if TYPE_CHECKING:
    from .plan import InnerPlan


def digest_of(plan: Plan) -> Digest:
    """Return the plan's digest."""
    with collector_paused():
        return digest(canonical(canonical_form(plan)))


def canonical_form(plan: Plan) -> dict[str, Json]:
    """Return the plan in canonical form."""
    inner: dict[str, Json] = {name: _body(body) for name, body in plan.plans.items()}
    return {"firmplan": plan.firmplan, **_body(plan), "plans": inner, **_given({"deadline": plan.deadline_s})}


def _body(body: Plan | InnerPlan) -> dict[str, Json]:
    steps: Sequence[Json] = [canonical_step(step) for step in body.steps]
    return {
        "inputs": dict(body.inputs),
        "types": dict(body.types),
        "steps": list(steps),
        "output": template_of(".output", body.output).canonical,
        **_given({"returns": body.returns}),
    }


def canonical_step(step: Step) -> dict[str, Json]:
    """Return a step in canonical form."""
    made: dict[str, Json] = {"id": step.id, "after": list(step.after), **_action(step)}
    for name in ("when", "for_each"):
        if name in step.templates:
            made[name] = step.templates[name].canonical
    made["on_error"] = (
        {"value": step.templates["fallback"].canonical}
        if isinstance(step.on_error, Fallback)
        else step.on_error
    )
    if step.repeat is not None:
        made["repeat"] = {"until": step.templates["until"].canonical, "max": step.repeat.max}
    if step.retries is not None:
        made["retries"] = step.retries
    if step.timeout is not None:
        made["timeout"] = step.timeout
    return made


def _given(optional: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in optional.items() if value is not None}


def _action(step: Step) -> dict[str, Json]:  # noqa: C901, PLR0911  # one return for each kind of step
    texts = step.templates
    match step:
        case ToolStep():
            return {"tool": step.tool, "args": texts["args"].canonical}
        case PlanStep():
            return {"plan": step.plan, "args": texts["args"].canonical}
        case SetStep():
            return {"set": texts["set"].canonical}
        case AskStep(ask=ask):
            spelled = {name: texts[name].canonical for name in ("system", "examples") if name in texts}
            rest = _given({"model": ask.model, "temperature": ask.temperature, "max_tokens": ask.max_tokens})
            return {
                "ask": {
                    "prompt": texts["prompt"].canonical,
                    "returns": ask.returns,
                    "guard": list(ask.guard),
                    **spelled,
                    **rest,
                }
            }
        case AskPersonStep():
            question = texts["ask_person"].canonical
            made: dict[str, Json] = {"ask_person": question, "returns": step.returns}
            return made | _given({"expires": step.expires_s})
        case WaitStep():
            return {"wait": texts["wait"].canonical}
        case FailStep():
            return {"fail": texts["fail"].canonical}
        case EndorseStep():
            return {"endorse": texts["endorse"].canonical, "returns": step.returns, "by": step.by}
        case PlanForStep():
            return {
                "plan_for": step.plan_for,
                "given": texts["given"].canonical,
                "tools": list(step.tools),
                "max_steps": step.max_steps,
                "returns": step.returns,
            }
        case AgentStep(agent=agent):
            return {
                "agent": {
                    "goal": texts["goal"].canonical,
                    "tools": list(agent.tools),
                    "returns": agent.returns,
                    "max_steps": agent.max_steps,
                    "budget": {str(name): amount for name, amount in agent.budget.items()},
                }
            }
