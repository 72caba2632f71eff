"""`verify`, `explain` and `diff`: what looks back at runs, in words or as a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from ..errors import InputRejected
from ..executor import RunDiff
from . import screen
from .failure import Exit
from .review_commands import DiffFormat
from .session import NO_TOOLS, drive, load_toolset, look, settings_of


def explain_command(run_id: str, step: str | None, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Say why a step, or each step, ran or was reused."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            found = await engine.explain_all(run_id) if step is None else [await engine.explain(run_id, step)]
        if as_json:
            documents = [each.to_dict() for each in found]
            screen.document(documents[0] if step is not None else {"run": run_id, "steps": documents})
        else:
            screen.answer("\n".join(str(each) for each in found))
        return Exit.OK

    return drive(work)


def diff_command(
    a: str, b: str, flags: Mapping[str, object], form: DiffFormat, output: Path | None, *, as_json: bool
) -> int:
    """Show what differs between two runs, or write it to a file; that they differ is an answer, not a failure."""
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            found = await engine.diff(a, b)
        if output is not None:
            _write(output, _spelled(found, form) + "\n")
            screen.note(f"written to {output}")
        if as_json or (form is DiffFormat.JSON and output is None):
            screen.document(found.to_dict())
        elif output is None:
            screen.answer(_spelled(found, form))
        return Exit.OK

    return drive(work)


def _spelled(found: RunDiff, form: DiffFormat) -> str:
    match form:
        case DiffFormat.TEXT:
            return str(found)
        case DiffFormat.JSON:
            return json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
        case DiffFormat.HTML:
            return found.to_html().rstrip("\n")
        case _:
            assert_never(form)


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise InputRejected(f"--output {output}: cannot be written: {fault.strerror or fault}") from fault


def verify_command(run_id: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Call a run's pure steps again; a tool that came out differently has diverged."""
    settings = settings_of(flags)
    toolset = load_toolset(settings)

    async def work() -> int:
        async with look(settings, toolset) as engine:
            found = await engine.verify(run_id)
        if as_json:
            screen.document(found.to_dict())
        else:
            screen.answer(str(found))
        if found.tools and not len(toolset):
            screen.note(NO_TOOLS)
            return Exit.WRONG
        return Exit.OK if found.ok else Exit.DIVERGED

    return drive(work)
