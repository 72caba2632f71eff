"""`show` and `plans show`: a plan as a picture or a document, a run with its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, assert_never

from ..engine import Engine
from ..errors import InputRejected, RunNotFound
from ..executor import Run
from ..plans import Plan, to_yaml
from ..plans.nearest import did_you_mean
from ..tools import Toolset
from . import screen
from .config import Settings
from .failure import Exit
from .plan_commands import Format
from .report import STATUS_EXIT, advice, decisions_text, errors_text, steps_text, summary
from .session import drive, load_toolset, look, settings_of
from .target import LISTED, find_file, nearest_name

_PICTURES: Mapping[Format, Literal["text", "mermaid", "svg"]] = {
    Format.TEXT: "text",
    Format.MERMAID: "mermaid",
    Format.SVG: "svg",
}


def show_command(what: str, form: Format, flags: Mapping[str, object]) -> int:
    """Show the plan or the run that the word names."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)  # effects are drawn where the tools are known

    async def work() -> int:
        file = find_file(what)
        if file is not None:
            _show_plan(Plan.load(file.path), form, toolset)
            return Exit.OK
        async with look(settings) as engine:
            found = await _find(engine, what)
        if isinstance(found, Run):
            _show_run(found, form, settings, toolset)
        else:
            _show_plan(found, form, toolset)
        return Exit.OK

    return drive(work)


def show_saved_command(name: str, form: Format, flags: Mapping[str, object]) -> int:
    """Show a saved plan."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        async with look(settings) as engine:
            plan, uses = await engine.find_plan(name), (await engine.plan_uses()).get(name)
            saved = [] if plan is not None else [each.name for each in await engine.list_plans()]
        if plan is None:
            raise InputRejected(f"no plan is saved as {name!r}; {did_you_mean(name, saved, LISTED)}")
        _show_plan(plan, form, toolset)
        if form is Format.TEXT and uses is not None:
            screen.answer(f"\n{uses}")
        return Exit.OK

    return drive(work)


async def _find(engine: Engine, what: str) -> Plan | Run:
    try:
        return await engine.get(what)
    except RunNotFound as error:
        plan = await engine.find_plan(what)
        if plan is None:
            saved = [each.name for each in await engine.list_plans()]
            near = nearest_name(what, saved, "`firmplan runs` and `firmplan plans` list what there is")
            raise RunNotFound(
                f"expected a plan's file, a saved plan's name or a run's id, found none under {what!r}; {near}"
            ) from error
        return plan


def _show_plan(plan: Plan, form: Format, toolset: Toolset) -> None:
    match form:
        case Format.JSON:
            screen.document(plan.to_dict())
        case Format.YAML:
            screen.answer(to_yaml(plan).rstrip("\n"))
        case Format.TEXT | Format.MERMAID | Format.SVG:
            picture = plan.render(_PICTURES[form], toolset or None, width=screen.picture_width())
            screen.answer(picture.rstrip("\n"))
        case _:
            assert_never(form)


def _show_run(run: Run, form: Format, settings: Settings, toolset: Toolset) -> None:
    match form:
        case Format.JSON:
            screen.document(run.to_dict())
            return
        case Format.TEXT:
            pass
        case Format.MERMAID | Format.SVG | Format.YAML:
            if run.plan is None:
                raise InputRejected(f"run {run.id} has no plan yet to show as {form.value}")
            _show_plan(run.plan, form, toolset)
            return
        case _:
            assert_never(form)
    parts = [
        summary(run),
        f"task: {run.task}" if run.task else "",
        steps_text(run),
        decisions_text(run),
        errors_text(run),
    ]
    if run.status == "succeeded":
        parts.append(f"output: {screen.value_text(run.output)}")
    elif STATUS_EXIT[run.status] is Exit.WAITING:
        parts.append(advice(run, settings))
    screen.answer("\n\n".join(part for part in parts if part))
