"""The commands that look back at runs: explain, compare and verify them, search where they changed, and keep them as tests."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import InputRejected
from ...plans.reports.visible import visible
from .. import screen
from ..command import STORE, TOOLS_AND_STORE, AnyRun, CommandGroup, RunId
from ..completion import complete_steps
from ..failure import Exit

if TYPE_CHECKING:
    from ..invocation import Invocation

commands = CommandGroup()
BUNDLE = ".bundle"


class DiffFormat(StrEnum):
    """How a comparison is rendered."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="Exit with 1 if there is a difference; default: always with 0.")
]


@commands.command(uses=TOOLS_AND_STORE, at_server=True, example="run_be40097b6b473dae --tools tools.py")
async def verify(invocation: Invocation, run_id: RunId) -> int:
    """Call a run's pure steps again, in fresh processes. The answer names tools that are not deterministic (exit code 3)."""
    from ..invocation import NO_TOOLS

    async with invocation.reach() as engine:
        found = await engine.verify(run_id)
    invocation.answer(found)
    if found.tools and invocation.server is None and not len(invocation.toolset):
        screen.note(NO_TOOLS)
        return Exit.WRONG
    return Exit.OK if found.ok else Exit.DIVERGED


@commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae price")
async def explain(
    invocation: Invocation,
    run_id: RunId,
    step: Annotated[str | None, typer.Argument(autocompletion=complete_steps)] = None,
) -> None:
    """Say why a step ran or was reused. The answer names the part that differs from the nearest earlier call.

    Args:
        step (STEP): The step's path; without it, every step.
    """
    async with invocation.reach() as engine:
        if step is not None:
            invocation.answer(await engine.explain(run_id, step))
            return
        found = await engine.explain_all(run_id)
    document = {"run": run_id, "steps": [each.to_dict() for each in found]}
    invocation.answer(document, "\n".join(str(each) for each in found))


@commands.command(
    uses=STORE,
    at_server=True,
    example="run_be40097b6b473dae run_d2a00be355d318f9 --format html --output diff.html",
)
async def diff(
    invocation: Invocation,
    a: AnyRun,
    b: AnyRun,
    form: Annotated[DiffFormat, typer.Option("--format", "-f")] = DiffFormat.TEXT,
    output: Annotated[Path | None, typer.Option("-o")] = None,
) -> None:
    """Compare two runs step by step. The answer has the differences, their reasons, and the first step that differs.

    Args:
        a (A): A run's id.
        b (B): The id of the run to compare it with.
        form: Form of the answer; html is one page that loads nothing.
        output (FILE): Write it there, not to stdout.
    """
    async with invocation.reach() as engine:
        found = await engine.diff(a, b)
    if form is DiffFormat.TEXT:
        text = str(found)
    elif form is DiffFormat.HTML:
        text = found.to_html().rstrip("\n")
    else:
        text = screen.value_text(found.to_dict())
    if output is not None:
        from ...tools.private_file import write_private

        try:
            write_private(output, f"{visible(text)}\n".encode())
        except OSError as error:
            raise InputRejected(f"--output {output}: cannot be written: {error.strerror or error}") from error
        screen.note(f"written to {output}")
    if invocation.as_json or (form is DiffFormat.JSON and output is None):
        screen.document(found.to_dict())
    elif output is None:
        screen.answer(text, is_data=form is not DiffFormat.TEXT)


@commands.command(
    uses=TOOLS_AND_STORE,
    loads_tools=False,
    example="run_be40097b6b473dae --output tests/golden/rome.bundle --plan plan.yaml",
)
async def record(
    invocation: Invocation,
    run_id: RunId,
    output: Annotated[Path, typer.Option("-o")],
    plan: Path | None = None,
) -> None:
    """Keep a run as a test for `pytest --firmplan`. The test runs offline, and calls only pure tools.

    Args:
        output (FILE): Where it goes: tests/golden/NAME.bundle.
        plan (PLAN): A plan's file, which the test compares with this run.
    """
    from ...plans import Plan

    if output.suffix != BUNDLE:
        raise InputRejected(
            f"--output: expected a name that ends in {BUNDLE}, by which pytest finds it, found '{output.name}'"
        )
    if plan is not None:
        Plan.load(plan)
    async with invocation.look() as engine:
        await engine.get(run_id)
        output.parent.mkdir(parents=True, exist_ok=True)
        written = await engine.export(run_id, output)
    case = None if plan is None else _write_case(written, plan, invocation.settings.tools)
    files = " and ".join(str(each) for each in (written, case) if each is not None)
    invocation.answer(
        {"run": run_id, "bundle": str(written), "case": str(case) if case else None},
        f"run {run_id} is recorded in {files}\nhold tools and plans to it with\n"
        f"  pytest --firmplan {shlex.quote(str(written.parent))}",
    )


def _write_case(bundle: Path, plan: Path, tools: Sequence[str]) -> Path:
    """Write the case beside the bundle, with paths relative to it. An existing case is left as it is."""
    import yaml

    case = bundle.with_name(f"{bundle.stem}.golden.yaml")
    if case.exists():
        return case

    def relative(file: Path) -> str:
        return Path(os.path.relpath(file.resolve(), case.resolve().parent)).as_posix()

    document: dict[str, object] = {"plan": relative(plan), "recording": bundle.name}
    if tools:
        document["tools"] = [relative(Path(each)) if Path(each).exists() else each for each in tools]
    case.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return case


@commands.command(uses=STORE, example="run_be40097b6b473dae run_d2a00be355d318f9 --output items[0].price")
async def bisect(
    invocation: Invocation,
    run_ids: list[str],
    output: str = "",
    step: str | None = None,
    exit_code: ExitCode = False,
) -> int:
    """Find where an output changed in a line of runs. The answer names the two runs, the first step that differs, and why.

    Args:
        run_ids (RUN...): At least two runs, in the order of comparing.
        output (PATH): A place in the value, such as items[0].price.
        step (STEP): Look at this step's value, not the run's.
    """
    async with invocation.look() as engine:
        found = await engine.bisect(run_ids, step=step, output=output)
    invocation.answer(found)
    return Exit.FAILED if exit_code and found else Exit.OK


@commands.command(uses=TOOLS_AND_STORE, example="run_be40097b6b473dae --model gpt-5-mini --tools tools.py")
async def shadow(
    invocation: Invocation,
    run_id: RunId,
    model: str | None = None,
    base_url: str | None = None,
    plan: Path | None = None,
    exit_code: ExitCode = False,
) -> int:
    """Say what another model would have changed in a run. Its model steps are asked again; of other tools only pure ones are called.

    Args:
        model (NAME): The new model: its name, or an alias of firmplan.toml.
        base_url (URL): The new model's endpoint; default: the usual one.
        plan (PLAN): An edited plan, such as one with another prompt.
    """
    from ...plans import Plan
    from ...tools import Model

    edited = None if plan is None else Plan.load(plan)
    async with invocation.look() as engine:
        spec = model if base_url is None else Model(model, base_url=base_url)
        found = await engine.shadow(run_id, model=spec, plan=edited)
    invocation.answer(found)
    return Exit.FAILED if exit_code and found else Exit.OK
