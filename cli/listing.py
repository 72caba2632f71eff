"""`runs`, `plans` and `tools`: what there is, as a table or a document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..executor import RunSummary
from ..tools import Tool
from . import screen
from .failure import Exit
from .session import drive, load_toolset, open_engine, settings_of

TIME = "%Y-%m-%d %H:%M:%S"
DIGEST_SHOWN = 19
"""Characters of a digest in a table: `sha256:` and twelve digits tell plans apart for people."""


def runs_command(
    status: str | None, limit: int, cursor: str | None, flags: Mapping[str, object], *, as_json: bool
) -> int:
    """List runs, newest first."""
    settings = settings_of(flags)

    async def work() -> int:
        async with open_engine(settings) as engine:
            page = await engine.list_runs(status=status, limit=limit, cursor=cursor)
        if as_json:
            screen.document({"runs": [run.to_dict() for run in page.runs], "cursor": page.cursor})
        elif page.runs:
            screen.answer(
                screen.table(("RUN", "STATUS", "CREATED (UTC)", "TASK OR PLAN"), map(_run_row, page.runs))
            )
            if page.cursor:
                screen.note(f"more with --cursor {page.cursor}")
        else:
            screen.note(f"no runs in {settings.store}")
        return Exit.OK

    return drive(work)


def plans_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """List the saved plans by name."""
    settings = settings_of(flags)

    async def work() -> int:
        async with open_engine(settings) as engine:
            saved = await engine.list_plans()
        rows = [
            (each.name, each.plan.digest, each.plan.task or "", tuple(each.plan.inputs)) for each in saved
        ]
        if as_json:
            keys = ("name", "digest", "task", "inputs")
            screen.document({"plans": [dict(zip(keys, row, strict=True)) for row in rows]})
        elif rows:
            shown = (
                (name, digest[:DIGEST_SHOWN], ", ".join(inputs), task) for name, digest, task, inputs in rows
            )
            screen.answer(screen.table(("NAME", "DIGEST", "INPUTS", "TASK"), shown))
        else:
            screen.note(f"no plans in {settings.store}; save one with `firmplan plans save NAME PLAN`")
        return Exit.OK

    return drive(work)


def tools_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """List the tools by name."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    if as_json:
        screen.document({"tools": [tool_document(tool) for tool in toolset]})
    elif len(toolset):
        rows = (
            (tool.name, tool.effect.value, _parameters(tool), tool.description.partition("\n")[0])
            for tool in toolset
        )
        screen.answer(screen.table(("NAME", "EFFECT", "TAKES", "DOES"), rows))
    else:
        screen.note("no tools are loaded: name them with --tools, FIRMPLAN_TOOLS or firmplan.toml")
    return Exit.OK


def tool_document(tool: Tool) -> dict[str, Any]:
    """Return a tool's signature as JSON."""
    return {
        "name": tool.name,
        "description": tool.description,
        "effect": tool.effect.value,
        "parameters": dict(tool.parameters),
        "returns": None if tool.returns is None else dict(tool.returns),
        "resource": tool.resource,
        "trust": tool.trust,
        "idempotent": tool.idempotent,
        "asks_approval": tool.asks_approval,
        "fingerprint": tool.fingerprint,
    }


def _run_row(run: RunSummary) -> tuple[str, ...]:
    created = datetime.fromtimestamp(run.created, UTC).strftime(TIME)
    return run.id, run.status, created, run.task or (run.plan_digest or "")[:DIGEST_SHOWN]


def _parameters(tool: Tool) -> str:
    properties: Any = tool.parameters.get("properties", {})
    required: Any = tool.parameters.get("required", [])
    return ", ".join(name if name in required else f"{name}?" for name in properties)
