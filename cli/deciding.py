"""`approve`, `deny`, `decide`, `resolve` and `cancel`: record what a person decided.

A decision is recorded and nothing more: the process that drives the run goes on with it, or `resume` does.
"""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine import Engine
from ..errors import InputRejected
from ..executor import Run
from ..executor.runs.archive import UNDER_WAY
from . import screen
from .failure import Exit
from .report import advice
from .session import drive, look, settings_of
from .suggesting import resume_line
from .values import read_json

Decision = Callable[[Engine], Awaitable[Run]]


def approve_command(
    run_id: str,
    step: str,
    by: str | None,
    edit: str | None,
    flags: Mapping[str, object],
    *,
    attempt: int | None,
    as_json: bool,
) -> int:
    """Allow a call, perhaps with other arguments."""
    args = _arguments(edit)
    who = by or _login()
    return _decide(
        lambda engine: engine.approve(run_id, step, by=who, edit=args, attempt=attempt),
        "approved",
        flags,
        as_json=as_json,
    )


def deny_command(
    run_id: str,
    step: str,
    by: str | None,
    reason: str,
    flags: Mapping[str, object],
    *,
    attempt: int | None,
    as_json: bool,
) -> int:
    """Refuse a call."""
    who = by or _login()
    return _decide(
        lambda engine: engine.deny(run_id, step, by=who, reason=reason, attempt=attempt),
        "denied",
        flags,
        as_json=as_json,
    )


def decide_command(
    run_id: str, decisions: Sequence[str], by: str | None, flags: Mapping[str, object], *, as_json: bool
) -> int:
    """Decide about several calls."""
    said: dict[str, Any] = {}
    for each in decisions:
        step, is_given, what = each.partition("=")
        if not is_given or step in said:
            why = "twice the same step" if is_given else "no '='"
            raise InputRejected(
                f"expected STEP=DECISION for each step once, such as pay[0]=approve, found {each!r}: {why}"
            )
        said[step] = read_json(step, what) if what.startswith("{") else what
    who = by or _login()
    return _decide(lambda engine: engine.decide(run_id, said, by=who), "decided", flags, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was said of a call of unknown outcome, as it was typed."""

    done: str | None
    retry: bool
    fail: str | None
    by: str | None


def resolve_command(
    run_id: str,
    step: str,
    said: Resolution,
    flags: Mapping[str, object],
    *,
    attempt: int | None,
    as_json: bool,
) -> int:
    """Settle a call of unknown outcome."""
    verdicts: list[dict[str, Any]] = []
    if said.done is not None:
        verdicts.append({"done": read_json("--done", said.done)})
    if said.retry:
        verdicts.append({"retry": True})
    if said.fail is not None:
        verdicts.append({"fail": said.fail})
    if len(verdicts) != 1:
        raise InputRejected(
            f"expected exactly one of --done JSON, --retry and --fail WHY, found {len(verdicts)}"
        )
    verdict: dict[str, Any] = {**verdicts[0], "by": said.by or _login(), "attempt": attempt}
    return _decide(lambda engine: engine.resolve(run_id, step, **verdict), "resolved", flags, as_json=as_json)


def cancel_command(run_id: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Stop a run."""
    return _decide(lambda engine: engine.cancel(run_id), "cancelled", flags, as_json=as_json)


def _decide(decision: Decision, word: str, flags: Mapping[str, object], *, as_json: bool) -> int:
    settings = settings_of(flags)

    async def work() -> int:
        async with look(settings) as engine:
            run = await decision(engine)
        if as_json:
            screen.document(run.to_dict())
            return Exit.OK
        if word == "cancelled" and run.status in ("succeeded", "failed"):
            screen.answer(f"nothing to cancel: run {run.id} has {run.status}")
        elif run.status in ("succeeded", "failed", "cancelled"):
            became = "was cancelled" if run.status == "cancelled" else f"has {run.status}"
            screen.answer(f"{word}; run {run.id} {became}")
        elif word == "cancelled" and run.status == "indeterminate":
            screen.answer(f"nothing more starts; one thing is open\n{advice(run, settings)}")
        elif run.status in UNDER_WAY and not run.abandoned:
            screen.answer(f"{word}; the process that drives run {run.id} takes it from there")
        else:
            line = resume_line(run.id, settings)
            screen.answer(f"{word}; unless a server has run {run.id}, go on with\n  {line}")
        return Exit.OK

    return drive(work)


def _arguments(edit: str | None) -> dict[str, Any] | None:
    if edit is None:
        return None
    value = read_json("--edit", edit)
    if not isinstance(value, dict):
        raise InputRejected(f"--edit: expected a JSON object with the call's arguments, found {edit}")
    return value


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise InputRejected("expected --by NAME, since this login has no name") from error
