"""`runs`, `plans` and `tools`: what there is, as a table or a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..executor import RunSummary
from ..tools import Tool
from . import screen
from .failure import Exit
from .session import NO_TOOLS, drive, is_store_there, load_toolset, look, settings_of
from .suggesting import flags_of, resume_line

TIME = "%Y-%m-%d %H:%M:%S"
TASK_SHOWN = 100
"""Characters of a task in a table: it tells runs apart, and `show` has all of it."""
DIGEST_SHOWN = 19
"""Characters of a digest in a table: `sha256:` and twelve digits tell plans apart for people."""


def runs_command(
    status: str | None,
    limit: int,
    cursor: str | None,
    flags: Mapping[str, object],
    *,
    tree: bool,
    as_json: bool,
) -> int:
    """List runs, newest first; as a tree each under its parent, where that is in the list."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            page = await engine.list_runs(status=status, limit=limit, cursor=cursor)
        if as_json:
            listed = tree_document(page.runs) if tree else [run.to_dict() for run in page.runs]
            screen.document({"runs": listed, "cursor": page.cursor})
        elif page.runs:
            rows = map(_tree_row, tree_lines(page.runs)) if tree else map(_run_row, page.runs)
            screen.answer(screen.table(("RUN", "STATUS", "CREATED (UTC)", "TASK OR PLAN"), rows))
            if any(run.abandoned for run in page.runs):
                screen.note(f"abandoned: its process is gone; go on with\n  {resume_line('RUN', settings)}")
            for run in page.runs:
                if run.status == "parked":
                    line = resume_line(run.id, settings)
                    screen.note(f"parked: run {run.id}: {screen.one_line(run.reason or '')}\n  {line}")
            if page.cursor:
                screen.note(f"more with --cursor {page.cursor}")
        else:
            yet = "" if await is_store_there(settings) else ": there is no store yet"
            screen.note(f"no runs in {settings.store_name}{yet}")
        return Exit.OK

    return drive(work)


def tree_lines(runs: Sequence[RunSummary]) -> Iterator[tuple[int, RunSummary]]:
    """Yield depth and run: roots newest first, each followed by what came of it, oldest first."""
    children = _children(runs)
    waiting = [(0, run) for run in reversed(children[None])]
    while waiting:
        depth, run = waiting.pop()
        yield depth, run
        waiting += [(depth + 1, child) for child in children.get(run.id, [])]


def tree_document(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Return the runs as JSON, each with its `children`."""
    made: dict[str, dict[str, Any]] = {run.id: {**run.to_dict(), "children": []} for run in runs}
    for run in reversed(runs):
        if run.parent in made:
            made[run.parent]["children"].append(made[run.id])
    return [made[run.id] for run in runs if run.parent not in made]


def _children(runs: Sequence[RunSummary]) -> dict[str | None, list[RunSummary]]:
    """Return parent -> its children, newest first; those whose parent is not listed stand under `None`."""
    known = {run.id for run in runs}
    found: dict[str | None, list[RunSummary]] = {None: []}
    for run in runs:
        found.setdefault(run.parent if run.parent in known else None, []).append(run)
    return found


def plans_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """List the saved plans by name."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            uses, altered = await engine.plan_uses(), await engine.find_altered_plans()
            saved = await engine.list_plans()
        rows = [
            (each.name, each.plan.digest, each.plan.task or "", tuple(each.plan.inputs)) for each in saved
        ]
        if as_json:
            keys = ("name", "digest", "task", "inputs")
            plans = [{**dict(zip(keys, row, strict=True)), **uses[row[0]].to_dict()} for row in rows]
            told = [{"name": name, "message": message} for name, message in altered.items()]
            screen.document({"plans": plans} | ({"altered": told} if told else {}))
        elif rows or altered:
            shown = (
                (
                    name,
                    digest[:DIGEST_SHOWN],
                    str(uses[name].hits),
                    str(uses[name].false_hits),
                    ", ".join(inputs),
                    task,
                )
                for name, digest, task, inputs in rows
            )
            broken = ((name, "altered", "", "", "", "does not run") for name in altered)
            table = sorted([*shown, *broken])
            screen.answer(screen.table(("NAME", "DIGEST", "HITS", "FALSE", "INPUTS", "TASK"), table))
        else:
            screen.note(
                f"no plans in {settings.store_name}; save one with `firmplan plans save NAME PLAN{flags_of(settings)}`"
            )
        return Exit.OK

    return drive(work)


def tools_command(flags: Mapping[str, object], *, as_json: bool) -> int:
    """List the tools by name."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    if as_json:
        screen.document({"tools": toolset.to_list()})
    elif len(toolset):
        rows = (
            (tool.name, tool.effect.value, _parameters(tool), tool.description.partition("\n")[0])
            for tool in toolset
        )
        screen.answer(screen.table(("NAME", "EFFECT", "TAKES", "DOES"), rows))
    else:
        screen.note(NO_TOOLS)
    return Exit.OK


def _run_row(run: RunSummary) -> tuple[str, ...]:
    created = datetime.fromtimestamp(run.created, UTC).strftime(TIME)
    status = f"{run.status} (abandoned)" if run.abandoned else run.status
    task = screen.one_line(run.task or "")
    task = task if len(task) <= TASK_SHOWN else f"{task[: TASK_SHOWN - 2]}.."
    return run.id, status, created, task or (run.plan_digest or "")[:DIGEST_SHOWN]


def _tree_row(line: tuple[int, RunSummary]) -> tuple[str, ...]:
    depth, run = line
    name, *rest = _run_row(run)
    of = f" (of {run.parent})" if run.parent and not depth else ""
    return f"{'  ' * depth}{name}{of}", *rest


def _parameters(tool: Tool) -> str:
    properties: Any = tool.parameters.get("properties", {})
    required: Any = tool.parameters.get("required", [])
    return ", ".join(name if name in required else f"{name}?" for name in properties)
