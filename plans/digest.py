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
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from .checker.templates import TEMPLATE_PLACES, template_of
from .collecting import collector_paused
from .plan import AskPersonStep, Fallback, Plan, Step, StepKeys
from .values import Digest, Json, canonical, digest

if TYPE_CHECKING:
    from .checker.templates import Template
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


def _action(step: Step) -> dict[str, Json]:
    """Return the keys of a step's action."""
    made = _fields(step, step.templates)
    # A duration has many spellings, and one length.
    return made | {"expires": step.expires_s} if isinstance(step, AskPersonStep) and step.expires_s else made


def _fields(of: BaseModel, templates: Mapping[str, Template], around: str = "") -> dict[str, Json]:
    """Return a part of a step with its defaults: templates in canonical spelling; a null that is no template stands for absence, and is left out.

    Args:
        of: The step, or a part of its action.
        templates: The templates of the step.
        around: The key of the part in the step; empty for the step itself.
    """
    made: dict[str, Json] = {}
    for name, template in _keys_of(type(of), around):
        value: Any = getattr(of, name)
        if template in templates:
            made[name] = templates[template].canonical
        elif isinstance(value, BaseModel):
            made[name] = _fields(value, templates, name)
        elif value is not None:
            made[name] = list(cast("tuple[Json, ...]", value)) if isinstance(value, tuple) else value
    return made


@cache
def _keys_of(kind: type[BaseModel], around: str) -> tuple[tuple[str, str], ...]:
    """Return the keys of a model but those that every step has, each with the template that may stand there; empty: none."""
    places = {place: template for template, place in TEMPLATE_PLACES.items()}
    names = [name for name in kind.model_fields if name not in StepKeys.model_fields]
    return tuple((name, places.get((around, name) if around else (name,), "")) for name in names)
