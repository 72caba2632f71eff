"""`plan`, `check` and `plans save`: make a plan from words, find its faults, keep it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputRejected
from ..planner import Planner
from ..plans import CheckReport, Plan
from ..plans.values import canonical
from ..tools import Toolset
from . import screen
from .config import Settings
from .failure import Exit
from .session import NO_TOOLS, drive, load_toolset, look, open_engine, settings_of
from .suggesting import MOVING, flags_of
from .target import checked, expect_plan_file, find_file, find_plan, nearest_name, report_on
from .values import read_inputs


def plan_command(
    task: str,
    inputs: tuple[str, ...],
    output: Path | None,
    flags: Mapping[str, object],
    *,
    as_json: bool,
) -> int:
    """Plan a task; the plan goes to the file, or to stdout where none is named."""
    expect_plan_file(output)
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        async with open_engine(settings, toolset) as engine:
            plan = await engine.plan(task, inputs=read_inputs(inputs, None) or None)
        if output is not None:
            plan.save(output)
        _tell_plan(plan, toolset, output, settings, as_json=as_json)
        return Exit.OK

    return drive(work)


def preview_command(task: str, inputs: tuple[str, ...], flags: Mapping[str, object], *, as_json: bool) -> int:
    """Show what a planner would be sent for a task, and about how many tokens that is; nothing is sent."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        async with look(settings, toolset) as engine:
            saved = await engine.list_plans()
        planner = Planner(settings.model, base_url=settings.base_url, **settings.planner)
        preview = planner.preview(task, toolset, inputs=read_inputs(inputs, None) or None, saved=saved)
        if as_json:
            screen.document(preview.to_dict())
            return Exit.OK
        for request, purpose in (
            (preview.filling, "to fill in a saved plan"),
            (preview.choice, "to choose tools"),
        ):
            for message in () if request is None else request.messages:
                screen.answer(f"--- {message.role}, {purpose}\n{message.content}\n")
            if request is not None:
                screen.answer(f"--- schema\n{canonical(request.schema).decode()}\n")
        for message in preview.messages:
            screen.answer(f"--- {message.role}\n{message.content}\n")
        screen.answer(f"--- schema ({preview.form})\n{canonical(preview.schema).decode()}")
        sent = f"about {preview.prompt_tokens} tokens of messages and {preview.schema_tokens} of schema"
        screen.note(f"{sent}, to {preview.model or 'no model: none is configured'}; nothing was sent")
        if preview.choice is not None:
            screen.note(
                f"before it about {preview.choice.tokens} tokens to choose tools; shown above are those by words"
            )
        if preview.filling is not None:
            screen.note(f"and first about {preview.filling.tokens} tokens to ask whether a saved plan fits")
        if preview.answered_by is not None:
            screen.note(f"nothing would be: the task is answered by {preview.answered_by}")
        return Exit.OK

    return drive(work)


def check_command(what: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Show every fault of a plan."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        async with look(settings, toolset) as engine:
            report = await report_on(engine, await find_plan(engine, what))
        if as_json:
            screen.document(report.to_dict())
        else:
            screen.answer(report_text(report))
            if not settings.tools and any(problem.code == "unknown-tool" for problem in report.problems):
                screen.note(NO_TOOLS)
        return Exit.OK if report.ok else Exit.WRONG

    return drive(work)


def save_command(name: str, file: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Check a plan and save it under a name."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        target = find_file(file)
        if target is None:
            near = nearest_name(file, (), "name the file that holds the plan")
            raise InputRejected(f"expected a plan's file, found no file {file!r}; {near}")
        async with open_engine(settings, toolset) as engine:
            plan, _ = await checked(engine, target)
            saved = await engine.save_plan(name, plan)
        if as_json:
            screen.document({"name": saved.name, "digest": saved.plan.digest})
        else:
            screen.answer(f"saved as {saved.name}\n{saved.plan.digest}")
        return Exit.OK

    return drive(work)


def report_text(report: CheckReport) -> str:
    """Return the report with the bounds of a plan that may run."""
    if not report.ok:
        return str(report)
    bounds = report.bounds
    calls = (
        "as many calls as its data asks for"
        if bounds.calls_max is None
        else f"at most {screen.plural(bounds.calls_max, 'call')}"
    )
    models = "" if not bounds.model_calls_max else f", {bounds.model_calls_max} of them to a model"
    path = " -> ".join(bounds.critical_path)
    return f"{report}\n{calls}{models}" + (f"\nlongest chain: {path}" if path else "")


def _tell_plan(
    plan: Plan, toolset: Toolset, output: Path | None, settings: Settings, *, as_json: bool
) -> None:
    """Show the plan: as a document where one is asked for or wanted by a pipe, as a picture beside it."""
    if as_json:
        screen.document(plan.to_dict())
    elif output is None:
        screen.note(plan.render("text", toolset, width=screen.picture_width(sys.stderr)))
        screen.answer(plan.to_json())
    else:
        screen.answer(plan.render("text", toolset, width=screen.picture_width()))
        screen.note(f"written to {output}; run it with `firmplan run {output}{flags_of(settings, MOVING)}`")
