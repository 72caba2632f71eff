"""`record`: a run becomes a regression test: its bundle, and with `--plan` a case that holds a plan's file to it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputRejected
from ..plans import Plan
from . import screen
from .failure import Exit
from .session import drive, look, settings_of

BUNDLE = ".bundle"


def record_command(
    run_id: str, output: Path, plan: Path | None, flags: Mapping[str, object], *, as_json: bool
) -> int:
    """Write the bundle, and the case where a plan's file is given."""
    if output.suffix != BUNDLE:
        raise InputRejected(
            f"--output: expected a name that ends in {BUNDLE}, by which pytest finds it, found '{output.name}'"
        )
    if plan is not None:
        Plan.load(plan)
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            await engine.get(run_id)
            output.parent.mkdir(parents=True, exist_ok=True)
            written = await engine.export(run_id, output)
        case = _write_case(written, plan, settings.tools) if plan is not None else None
        if as_json:
            screen.document({"run": run_id, "bundle": str(written), "case": str(case) if case else None})
        else:
            files = " and ".join(str(each) for each in (written, case) if each is not None)
            screen.answer(
                f"run {run_id} is recorded in {files}\nhold tools and plans to it with\n"
                f"  pytest --firmplan {shlex.quote(str(written.parent))}"
            )
        return Exit.OK

    return drive(work)


def _write_case(bundle: Path, plan: Path, tools: Sequence[str]) -> Path:
    """Write the case beside the bundle; paths in it are relative to it. One that is there is left as it is."""
    import yaml  # noqa: PLC0415  # only where a plan's file is given

    case = bundle.with_name(f"{bundle.stem}.golden.yaml")
    if case.exists():
        return case
    said: dict[str, object] = {"plan": _from(case, plan), "recording": bundle.name}
    if tools:
        said["tools"] = [_from(case, Path(each)) if Path(each).exists() else each for each in tools]
    case.write_text(yaml.safe_dump(said, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return case


def _from(case: Path, file: Path) -> str:
    return Path(os.path.relpath(file.resolve(), case.resolve().parent)).as_posix()
