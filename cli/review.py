"""The commands that look back at runs: explain, compare and verify them, search where they changed, and keep them as tests."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputRejected
from . import screen
from .command import STORE, TOOLS_AND_STORE, RunId, command
from .failure import Exit

if TYPE_CHECKING:
    from .invocation import Invocation

app = typer.Typer()
PANEL = "Looking back"
TESTS_PANEL = "Putting to the test"
BUNDLE = ".bundle"


class DiffFormat(StrEnum):
    """How a comparison is rendered."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="Exit with 1 if there is a difference; default: always with 0.")
]


@command(app, "verify", uses=TOOLS_AND_STORE, panel=PANEL, example="run_be40097b6b473dae --tools tools.py")
async def verify(invocation: Invocation, run_id: RunId) -> int:
    """Call a run's pure steps again, in fresh processes. The answer names tools that are not deterministic (exit code 3)."""
    from .invocation import NO_TOOLS

    async with invocation.look() as engine:
        found = await engine.verify(run_id)
    invocation.answer(found)
    if found.tools and not len(invocation.toolset):
        screen.note(NO_TOOLS)
        return Exit.WRONG
    return Exit.OK if found.ok else Exit.DIVERGED


@command(app, "explain", uses=STORE, panel=PANEL, example="run_be40097b6b473dae price")
async def explain(
    invocation: Invocation,
    run_id: RunId,
    step: Annotated[
        str | None, typer.Argument(metavar="STEP", help="The step's path; without it, every step.")
    ] = None,
) -> int:
    """Say why a step ran or was reused. The answer names the part that differs from the nearest earlier call."""
    async with invocation.look() as engine:
        if step is not None:
            invocation.answer(await engine.explain(run_id, step))
            return Exit.OK
        found = await engine.explain_all(run_id)
    document = {"run": run_id, "steps": [each.to_dict() for each in found]}
    invocation.answer(document, "\n".join(str(each) for each in found))
    return Exit.OK


@command(
    app,
    "diff",
    uses=STORE,
    panel=PANEL,
    example="run_be40097b6b473dae run_d2a00be355d318f9 --format html --output diff.html",
)
async def diff(
    invocation: Invocation,
    a: Annotated[str, typer.Argument(metavar="A", help="A run's id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The id of the run to compare it with.")],
    form: Annotated[
        DiffFormat,
        typer.Option("--format", "-f", help="Form of the answer; html is one page that loads nothing."),
    ] = DiffFormat.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to stdout.")
    ] = None,
) -> int:
    """Compare two runs step by step. The answer has the differences, their reasons, and the first step that differs."""
    async with invocation.look() as engine:
        found = await engine.diff(a, b)
    if form is DiffFormat.TEXT:
        text = str(found)
    elif form is DiffFormat.HTML:
        text = found.to_html().rstrip("\n")
    else:
        text = json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
    if output is not None:
        try:
            output.write_text(text + "\n", encoding="utf-8")
        except OSError as fault:
            raise InputRejected(f"--output {output}: cannot be written: {fault.strerror or fault}") from fault
        screen.note(f"written to {output}")
    if invocation.as_json or (form is DiffFormat.JSON and output is None):
        screen.document(found.to_dict())
    elif output is None:
        screen.answer(text)
    return Exit.OK


@command(
    app,
    "record",
    uses=TOOLS_AND_STORE,
    loads_tools=False,
    panel=TESTS_PANEL,
    example="run_be40097b6b473dae --output tests/golden/rome.bundle --plan plan.yaml",
)
async def record(
    invocation: Invocation,
    run_id: RunId,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where it goes: tests/golden/NAME.bundle.")
    ],
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN", help="A plan's file, which the test compares with this run."),
    ] = None,
) -> int:
    """Keep a run as a test for `pytest --firmplan`. The test runs offline, and calls only pure tools."""
    from ..plans import Plan

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
    return Exit.OK


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


@command(
    app,
    "bisect",
    uses=STORE,
    panel=TESTS_PANEL,
    example="run_be40097b6b473dae run_d2a00be355d318f9 --output items[0].price",
)
async def bisect(
    invocation: Invocation,
    run_ids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="At least two runs, in the order of comparing.")
    ],
    output: Annotated[
        str,
        typer.Option("--output", metavar="PATH", help="A place in the value, such as items[0].price."),
    ] = "",
    step: Annotated[
        str | None, typer.Option("--step", metavar="STEP", help="Look at this step's value, not the run's.")
    ] = None,
    exit_code: ExitCode = False,
) -> int:
    """Find where an output changed in a line of runs. The answer names the two runs, the first step that differs, and why."""
    async with invocation.look() as engine:
        found = await engine.bisect(run_ids, step=step, output=output)
    invocation.answer(found)
    return Exit.FAILED if exit_code and found else Exit.OK


@command(
    app,
    "shadow",
    uses=TOOLS_AND_STORE,
    panel=TESTS_PANEL,
    example="run_be40097b6b473dae --model gpt-5-mini --tools tools.py",
)
async def shadow(
    invocation: Invocation,
    run_id: RunId,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="The new model: its name, or an alias of firmplan.toml."
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="The new model's endpoint; default: the usual one."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN", help="An edited plan, such as one with another prompt."),
    ] = None,
    exit_code: ExitCode = False,
) -> int:
    """Say what another model would have changed in a run. Its model steps are asked again; of other tools only pure ones are called."""
    from ..plans import Plan
    from ..tools import Model

    edited = None if plan is None else Plan.load(plan)
    async with invocation.look() as engine:
        spec = model if base_url is None else Model(model, base_url=base_url)
        found = await engine.shadow(run_id, model=spec, plan=edited)
    invocation.answer(found)
    return Exit.FAILED if exit_code and found else Exit.OK
