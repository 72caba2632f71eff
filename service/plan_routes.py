"""Routes about plans and tools: check, save, look up. Nothing here runs anything."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, Body, Response

from ..plans import Plan
from .bodies import StrictRoute
from .hosting import REFUSALS, Hosted, answer
from .problems import Refusal
from .views import ReportView, SavedPlansView, SavedPlanView, ToolsView

router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["plans"], responses=REFUSALS)

PlanBody = Annotated[
    dict[str, Any],
    Body(
        description='A plan, or `{"plan": a plan}`; to be checked also `{"plan": "JSON or YAML"}`.',
        examples=[{"firmplan": 1, "steps": [{"id": "x", "set": 1}]}],
    ),
]


@router.post("/plans:check", response_model=ReportView, summary="Check a plan against this server's tools")
async def check_plan(body: PlanBody, hosted: Hosted) -> Response:
    """Answer with the report, also for a plan full of faults: that is what was asked."""
    text = body.get("plan")
    is_text = isinstance(text, str) and set(body) == {"plan"}
    report = await hosted.engine.check_plan(cast("str", text) if is_text else _plan_in(body))
    return answer(report.to_dict())


@router.put("/plans/{name}", response_model=SavedPlanView, summary="Save a plan under a name")
async def put_plan(name: str, body: PlanBody, hosted: Hosted) -> Response:
    """Save the plan, which has to pass its check; an earlier plan of that name stays reachable by its digest."""
    saved = await hosted.engine.save_plan(name, _plan_in(body))
    return answer(_summary(saved.name, saved.plan))


@router.get("/plans/{name}", response_model=dict[str, Any], summary="Get a saved plan by name or digest")
async def get_plan(name: str, hosted: Hosted) -> Response:
    """Answer with the plan itself."""
    plan = await hosted.engine.find_plan(name)
    if plan is None:
        raise Refusal(
            HTTPStatus.NOT_FOUND, "unknown-plan", f"no plan is saved as {name!r}; see GET /v1/plans"
        )
    return answer(plan.to_dict())


@router.get("/plans", response_model=SavedPlansView, summary="List saved plans")
async def list_plans(hosted: Hosted) -> Response:
    """Answer with the names, in order, and what each takes."""
    plans, uses = await hosted.engine.list_plans(), await hosted.engine.plan_uses()
    return answer(
        {"plans": [{**_summary(each.name, each.plan), **uses[each.name].to_dict()} for each in plans]}
    )


@router.get("/tools", response_model=ToolsView, summary="List this server's tools", tags=["tools"])
async def list_tools(hosted: Hosted) -> Response:
    """Answer with every tool's signature, by name."""
    return answer({"tools": hosted.engine.tools.to_list()})


def _plan_in(body: dict[str, Any]) -> dict[str, Any]:
    """Return the plan that the body is, or holds under `plan`; a plan has no such key of its own."""
    inner = body.get("plan")
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) and set(body) == {"plan"} else body


def _summary(name: str, plan: Plan) -> dict[str, Any]:
    return {"name": name, "digest": plan.digest, "task": plan.task, "inputs": dict(plan.inputs)}
