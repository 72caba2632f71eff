"""The picture of a plan as JSON, for programs that draw it themselves: what the page shows of a run, and of a plan before it runs.

The same picture as in the other formats, but positions are ids here, and each plan that a step runs is there once, by the name that the step uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ..plan import PlanStep, ToolStep
from .picture import Picture, PictureNode, picture_of

if TYPE_CHECKING:
    from ..plan import InnerPlan, Plan, Step
    from ..signature import Signature, Signatures
    from ..values import Json


def graph_of(
    plan: Plan,
    toolset: Signatures | Sequence[Signature] | None = None,
    saved: Mapping[str, Plan] | None = None,
) -> dict[str, Json]:
    """Return the graph of a plan as JSON: `title`, `inputs`, `output`, `left_out`, its `steps`, and the `plans` that they run. O(as `picture_of`).

    Args:
        plan: The plan.
        toolset: Tells the effects of steps apart.
        saved: The saved plans that it uses, by the name or digest that its steps use.
    """
    whole = picture_of(plan, toolset)
    plans: dict[str, Json] = {}
    for name, found in (saved or {}).items():
        of_saved = picture_of(found, toolset)
        plans[name] = _body(of_saved, found)
        # An inner plan of a saved plan is found under the name of the saved plan, so that two plans may use one name.
        plans |= {
            f"{name}/{inner}": _body(each, found.plans[inner])
            for inner, each in zip(found.plans, of_saved.inner, strict=True)
        }
    plans |= {name: _body(each, plan.plans[name]) for name, each in zip(plan.plans, whole.inner, strict=True)}
    return {
        "title": whole.title,
        "inputs": list(whole.inputs),
        "output": whole.output,
        "left_out": list(whole.left_out),
        **_body(whole, plan),
        "plans": plans,
    }


def _body(picture: Picture, plan: Plan | InnerPlan) -> dict[str, Json]:
    ids = [step.id for step in plan.steps]
    return {
        "steps": [_step(node, step, ids) for node, step in zip(picture.nodes, plan.steps, strict=True)],
        "output_needs": [ids[at] for at in picture.output_needs],
    }


def _step(node: PictureNode, step: Step, ids: Sequence[str]) -> Json:
    direct = set(node.direct)
    return {
        "id": step.id,
        "kind": node.kind,
        "tool": step.tool if isinstance(step, ToolStep) else None,
        "plan": step.plan if isinstance(step, PlanStep) else None,
        "does": node.does,
        "detail": node.detail,
        "effect": node.effect or None,
        "conditions": cast("Json", list(node.conditions)),
        "is_list": node.fans_out,
        "is_conditional": node.is_conditional,
        "is_repeated": step.repeat is not None,
        "is_critical": node.is_critical,
        "needs": [ids[at] for at in node.needs if at in direct],
        "after": [ids[at] for at in node.after if at in direct],
        "ordered": [ids[at] for at in node.ordered],
        "why": step.why,
    }
