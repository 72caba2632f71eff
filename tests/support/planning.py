"""The messages that ask for a plan, of tools alone or with what else a test gives."""

from __future__ import annotations

from firmplan import Toolset
from firmplan.planner.drafting.prompt import planning_messages
from firmplan.planner.request import PlanRequest


def asked(tools=(), task="x", *, inputs=None, examples=(), others=()):
    """Return the request for a plan that is shown these tools; `others` are not shown."""
    request = PlanRequest(task, Toolset([*tools, *others]), inputs or {})
    return planning_messages(request, list(tools), examples)
