"""The commands that record what a person decided about a run.

A decision is recorded and nothing more: the process that drives the run continues it, or `resume` does.
"""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputRejected
from .command import STORE, TOOLS_AND_STORE, CommandGroup, RunId, StepPath
from .failure import Exit

if TYPE_CHECKING:
    from ..engine import Engine
    from ..executor import Run
    from .invocation import Invocation

commands = CommandGroup()

By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides; default: your login name.")
]
Attempt = Annotated[
    int | None,
    typer.Option(
        "--attempt",
        metavar="N",
        min=1,
        help="Attempt that the decision is about; default: the attempt that waits now.",
    ),
]


@commands.command(uses=TOOLS_AND_STORE, loads_tools=False, example="run_be40097b6b473dae paid --by ann")
async def approve(
    invocation: Invocation,
    run_id: RunId,
    step: StepPath,
    by: By = None,
    edit: str | None = None,
    attempt: Attempt = None,
) -> int:
    """Allow a call that waits for a person. It is made with exactly the arguments shown.

    Args:
        edit (JSON): Arguments to use instead of those shown.
    """
    from .arguments import read_json

    args = None if edit is None else read_json("--edit", edit)
    if args is not None and not isinstance(args, dict):
        raise InputRejected(f"--edit: expected a JSON object with the call's arguments, found {edit}")
    return await _record(
        invocation,
        "approved",
        lambda engine: engine.approve(run_id, step, by=by or _login(), edit=args, attempt=attempt),
    )


@commands.command(
    uses=TOOLS_AND_STORE,
    loads_tools=False,
    example="run_be40097b6b473dae paid --by ann --reason 'paid last week'",
)
async def deny(
    invocation: Invocation,
    run_id: RunId,
    step: StepPath,
    by: By = None,
    reason: str = "",
    attempt: Attempt = None,
) -> int:
    """Refuse a call that waits for a person. Steps that depend on it are cancelled.

    Args:
        reason (TEXT): Why, for the record.
    """
    return await _record(
        invocation,
        "denied",
        lambda engine: engine.deny(run_id, step, by=by or _login(), reason=reason, attempt=attempt),
    )


@commands.command(
    uses=TOOLS_AND_STORE,
    loads_tools=False,
    example='run_be40097b6b473dae \'paid[0]=approve\' \'paid[1]={"deny": true, "reason": "paid last week"}\' --by ann',
)
async def decide(invocation: Invocation, run_id: RunId, decisions: list[str], by: By = None) -> int:
    """Decide about several calls together, all or none. Items of a list may be decided together.

    Args:
        decisions (STEP=DECISION..): approve, deny, retry, or a JSON object. A step stands for all its waiting parts.
    """
    from .arguments import read_json

    read: dict[str, Any] = {}
    for each in decisions:
        step, equals, decision = each.partition("=")
        if not equals or step in read:
            why = "the step occurs twice" if equals else "it has no '='"
            raise InputRejected(
                f"expected STEP=DECISION for each step once, such as pay[0]=approve, found {each!r}: {why}"
            )
        read[step] = read_json(step, decision) if decision.startswith("{") else decision
    return await _record(invocation, "decided", lambda engine: engine.decide(run_id, read, by=by or _login()))


@commands.command(
    uses=TOOLS_AND_STORE, loads_tools=False, example="run_be40097b6b473dae paid --done '{\"receipt\": 17}'"
)
async def resolve(
    invocation: Invocation,
    run_id: RunId,
    step: StepPath,
    done: str | None = None,
    retry: bool = False,
    fail: str | None = None,
    by: By = None,
    attempt: Attempt = None,
) -> int:
    """Settle a call whose outcome is unknown. Exactly one of --done, --retry and --fail says how.

    Args:
        done (JSON): It took effect, and returned this.
        retry: It did nothing; call it again.
        fail (WHY): It did nothing; the step fails.
    """
    from .arguments import read_json

    options = {"done": done, "retry": retry or None, "fail": fail}
    outcome: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if len(outcome) != 1:
        raise InputRejected(
            f"expected exactly one of --done JSON, --retry and --fail WHY, found {len(outcome)}"
        )
    if done is not None:
        outcome = {"done": read_json("--done", done)}
    return await _record(
        invocation,
        "resolved",
        lambda engine: engine.resolve(run_id, step, by=by or _login(), attempt=attempt, **outcome),
    )


@commands.command(uses=STORE, example="run_be40097b6b473dae")
async def cancel(invocation: Invocation, run_id: RunId) -> int:
    """Stop a run: no further calls start."""
    return await _record(invocation, "cancelled", lambda engine: engine.cancel(run_id))


async def _record(invocation: Invocation, decision: str, decide: Callable[[Engine], Awaitable[Run]]) -> int:
    """Make a decision; print that it is recorded, and who continues the run."""
    from ..executor.runs.archive import UNDER_WAY
    from .report import advice, resume_line

    async with invocation.look() as engine:
        run = await decide(engine)
    is_cancel = decision == "cancelled"
    if is_cancel and run.status in ("succeeded", "failed"):
        text = f"nothing to cancel: run {run.id} has {run.status}"
    elif run.status in ("succeeded", "failed", "cancelled"):
        text = f"{decision}; run {run.id} {'was' if run.status == 'cancelled' else 'has'} {run.status}"
    elif is_cancel and run.status == "indeterminate":
        text = (
            f"no further calls start; the outcome of one call is unknown\n{advice(run, invocation.settings)}"
        )
    elif run.status in UNDER_WAY and not run.abandoned:
        text = f"{decision}; the process that drives run {run.id} continues it"
    else:
        line = resume_line(run.id, invocation.settings)
        text = f"{decision}; unless a server drives run {run.id}, continue it with\n  {line}"
    invocation.answer(run, text)
    return Exit.OK


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise InputRejected("expected --by NAME, because this login has no name") from error
