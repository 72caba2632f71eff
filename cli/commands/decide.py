"""The commands that record what a person decided about a run.

A decision is recorded and nothing more: the process that drives the run continues it, or `resume` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputRejected
from .. import screen
from ..command import STORE, TOOLS_AND_STORE, CommandGroup, LoginName, RunId, StepPath, login_name
from ..failure import Exit

if TYPE_CHECKING:
    from ...executor import Run
    from ..invocation import Invocation
    from ..remote import AnyEngine

commands = CommandGroup()
_decision = partial(commands.command, uses=TOOLS_AND_STORE, loads_tools=False, at_server=True)

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


@_decision(example="run_be40097b6b473dae paid --by ann")
async def approve(
    invocation: Invocation,
    run_id: RunId,
    step: StepPath,
    by: By = None,
    edit: str | None = None,
    attempt: Attempt = None,
) -> int:
    """Allow a call that waits for a person. The call is printed, and made with exactly the arguments shown.

    Args:
        edit (JSON): Arguments to use instead of those shown.
    """
    from ..arguments import read_json

    args = None if edit is None else read_json("--edit", edit)
    if args is not None and not isinstance(args, dict):
        raise InputRejected(f"--edit: expected a JSON object with the call's arguments, found {edit}")
    return await _record_seen(
        invocation,
        "approved",
        (run_id, step, attempt),
        lambda engine, seen: engine.approve(run_id, step, by=by or _login(), edit=args, attempt=seen),
    )


@_decision(example="run_be40097b6b473dae who '\"ann\"' --by joe")
async def answer(
    invocation: Invocation, run_id: RunId, step: StepPath, value: str, by: By = None, attempt: Attempt = None
) -> int:
    """Answer a question of a step, or of the planner (`-`).

    The question of an `ask_person` step is printed.

    Args:
        value (JSON): The answer.
    """
    from ..arguments import read_json

    given = read_json("VALUE", value)
    if step == "-":
        return await _record(
            invocation, "answered", lambda engine: engine.answer(run_id, None, given, by=by or _login())
        )
    return await _record_seen(
        invocation,
        "answered",
        (run_id, step, attempt),
        lambda engine, seen: engine.answer(run_id, step, given, by=by or _login(), attempt=seen),
    )


@_decision(example="run_be40097b6b473dae paid --by ann --reason 'paid last week'")
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
    return await _record_seen(
        invocation,
        "denied",
        (run_id, step, attempt),
        lambda engine, seen: engine.deny(run_id, step, by=by or _login(), reason=reason, attempt=seen),
    )


@_decision(
    example='run_be40097b6b473dae \'paid[0]=approve\' \'paid[1]={"deny": true, "reason": "paid last week"}\' --by ann'
)
async def decide(invocation: Invocation, run_id: RunId, decisions: list[str], by: By = None) -> int:
    """Decide about several calls together, all or none. Items of a list may be decided together.

    Args:
        decisions (STEP=DECISION..): approve, deny, retry, or a JSON object. A step stands for all its waiting parts.
    """
    from ...executor.fork import is_within
    from ..arguments import read_json

    read: dict[str, Any] = {}
    for each in decisions:
        step, equals, decision = each.partition("=")
        if not equals or step in read:
            why = "the step occurs twice" if equals else "it has no '='"
            raise InputRejected(
                f"expected STEP=DECISION for each step once, such as pay[0]=approve, found {each!r}: {why}"
            )
        read[step] = read_json(step, decision) if decision.startswith("{") else decision
    async with invocation.reach() as engine:
        waiting = await engine.waiting(run_id)
        run = await engine.decide(run_id, read, by=by or _login())
    about = [call for call in waiting.calls if any(is_within(call.step, step) for step in read)]
    texts = [call.text(screen.picture_width()) for call in about]
    return _answer(
        invocation,
        "decided",
        run,
        "\n\n".join([waiting.head(screen.picture_width()), *texts, ""]) if texts else "",
    )


@_decision(example="run_be40097b6b473dae paid --done '{\"receipt\": 17}'")
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
    from ..arguments import read_json

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


@commands.command(uses=STORE, at_server=True, example="run_be40097b6b473dae")
async def cancel(invocation: Invocation, run_id: RunId) -> int:
    """Stop a run: no further calls start."""
    return await _record(invocation, "cancelled", lambda engine: engine.cancel(run_id))


async def _record_seen(
    invocation: Invocation,
    decision: str,
    about: tuple[str, str, int | None],
    decide: Callable[[AnyEngine, int | None], Awaitable[Run]],
) -> int:
    """Make a decision about one call, and print the call first: the decision is about the printed attempt, and no other.

    Args:
        invocation: How the command answers.
        decision: The decision in words.
        about: Run, step, and the attempt that the command names.
        decide: Makes the decision about an attempt.
    """
    run_id, step, attempt = about
    async with invocation.reach() as engine:
        waiting = await engine.waiting(run_id)
        call = waiting.find(step)
        seen = attempt if attempt is not None or call is None else call.attempt
        run = await decide(engine, seen)
    text = ""
    if call is not None and call.attempt == seen:
        width = screen.picture_width()
        text = f"{waiting.head(width)}\n{call.text(width)}\n\n"
    return _answer(invocation, decision, run, text)


async def _record(
    invocation: Invocation, decision: str, decide: Callable[[AnyEngine], Awaitable[Run]]
) -> int:
    """Make a decision; print that it is recorded, and who continues the run."""
    async with invocation.reach() as engine:
        run = await decide(engine)
    return _answer(invocation, decision, run, "")


def _answer(invocation: Invocation, decision: str, run: Run, seen: str) -> int:
    """Print that a decision is recorded, after the text of the call that was decided."""
    from ...executor.states import UNDER_WAY
    from ..report import advice, continues_elsewhere, resume_line, watch_line

    is_cancel = decision == "cancelled"
    if is_cancel and run.status in ("succeeded", "failed"):
        text = f"nothing to cancel: run {run.id} has {run.status}"
    elif run.status in ("succeeded", "failed", "cancelled"):
        text = f"{decision}; run {run.id} {'was' if run.status == 'cancelled' else 'has'} {run.status}"
    elif is_cancel and run.status == "indeterminate":
        text = (
            f"no further calls start; the outcome of one call is unknown\n{advice(run, invocation.settings)}"
        )
    elif (other := continues_elsewhere(invocation.settings)) is not None:
        line = watch_line(run.id, invocation.settings)
        text = f"{decision}; {other} continues run {run.id}; watch it with\n  {line}"
    elif run.status in UNDER_WAY and not run.abandoned:
        text = f"{decision}; the process that drives run {run.id} continues it"
    else:
        line = resume_line(run.id, invocation.settings)
        text = f"{decision}; unless a server drives run {run.id}, continue it with\n  {line}"
    if seen and not invocation.as_json:
        screen.page(seen + text)
    else:
        invocation.answer(run, text)
    return Exit.OK


def _login() -> LoginName:
    """Return the name of the login. Raises: InputRejected: it has none."""
    if name := login_name():
        return name
    raise InputRejected("expected --by NAME, because this login has no name")
