"""The commands about one run: make it, move it on, decide for it, replay it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options

PANEL = "Runs"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (run, resume, retry, fork, replay, export, approve, deny, decide, resolve, cancel):
        app.command(rich_help_panel=PANEL)(command)


def run(
    what: Annotated[
        str,
        typer.Argument(metavar="PLAN|TASK", help="A plan's file, a saved plan's name, or a task in words."),
    ],
    tools: options.Tools = None,
    inputs: options.Inputs = None,
    store: options.Store = None,
    run_id: Annotated[
        str | None,
        typer.Option("--run-id", metavar="ID", help="Name the run; the same again goes on with it."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of `ctx.random`; else from plan and inputs.")
    ] = None,
    budget: options.Budget = None,
    reuse: Annotated[
        bool, typer.Option("--reuse/--no-reuse", help="Let earlier results stand where nothing changed.")
    ] = True,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Start steps of a task while its plan is being written; writes wait for all of it.",
        ),
    ] = False,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    concurrency: options.Concurrency = None,
    as_json: options.Json = False,
) -> int:
    """Run a plan, or plan a task and run it."""
    from .running import RunRequest, run_command

    request = RunRequest(
        what=what,
        inputs=tuple(inputs or ()),
        run_id=run_id,
        seed=seed,
        budget=tuple(budget or ()),
        reuse=reuse,
        stream=stream,
    )
    return run_command(
        request,
        {"tools": tools, "store": store, "model": model, "base_url": base_url, "concurrency": concurrency},
        as_json=as_json,
    )


def resume(
    run_id: options.RunId,
    tools: options.Tools = None,
    store: options.Store = None,
    budget: options.Budget = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Take the run from a process that drives it and hangs."),
    ] = False,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    concurrency: options.Concurrency = None,
    as_json: options.Json = False,
) -> int:
    """Go on with a run, after a crash or a decision. Also after a pause, or with a larger budget."""
    from .running import resume_command

    return resume_command(
        run_id,
        tuple(budget or ()),
        {"tools": tools, "store": store, "model": model, "base_url": base_url, "concurrency": concurrency},
        take_over=take_over,
        as_json=as_json,
    )


NewId = Annotated[
    str | None,
    typer.Option(
        "--run-id", metavar="ID", help="Id of the new run; the same command again continues that run."
    ),
]


def retry(
    run_id: options.RunId,
    new_id: NewId = None,
    replan: Annotated[
        int,
        typer.Option("--replan", metavar="N", help="Patch the plan at most N times if the run fails."),
    ] = 0,
    tools: options.Tools = None,
    store: options.Store = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    concurrency: options.Concurrency = None,
    as_json: options.Json = False,
) -> int:
    """Continue a failed or cancelled run as a new run. Calls that succeeded are not repeated; the others run."""
    from .forking import retry_command

    return retry_command(
        run_id,
        new_id,
        replan,
        {"tools": tools, "store": store, "model": model, "base_url": base_url, "concurrency": concurrency},
        as_json=as_json,
    )


def fork(
    run_id: options.RunId,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="STEP", help="Run this step again, and whatever depends on it."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STEP=JSON", help="A value that stands in a step's place; repeatable."),
    ] = None,
    inputs: options.Inputs = None,
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="PLAN", help="An edited plan: a file, or a saved plan's name."),
    ] = None,
    allow_writes: Annotated[
        bool,
        typer.Option("--allow-writes", help="Let affected writes go ahead; else each waits for approval."),
    ] = False,
    new_id: NewId = None,
    tools: options.Tools = None,
    store: options.Store = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    concurrency: options.Concurrency = None,
    as_json: options.Json = False,
) -> int:
    """Run again what a change affects, as a new run. The rest comes from the parent's journal."""
    from .forking import ForkRequest, fork_command

    request = ForkRequest(run_id, at, tuple(values or ()), tuple(inputs or ()), plan, allow_writes, new_id)
    return fork_command(
        request,
        {"tools": tools, "store": store, "model": model, "base_url": base_url, "concurrency": concurrency},
        as_json=as_json,
    )


def replay(
    what: Annotated[
        str, typer.Argument(metavar="RUN|BUNDLE", help="The run's id, or the file of an exported run.")
    ],
    keep: Annotated[bool, typer.Option("--keep", help="Keep the replay as a run of its own.")] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Replay a run from its journal. Nothing is called, and every digest must match."""
    from .running import replay_command

    return replay_command(what, {"store": store}, keep=keep, as_json=as_json)


def export(
    run_id: options.RunId,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the bundle goes.")],
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Write a run into one file. It replays on another machine, without tools and store."""
    from .running import export_command

    return export_command(run_id, output, {"store": store}, as_json=as_json)


By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides; else your login name.")]
Attempt = Annotated[
    int | None,
    typer.Option(
        "--attempt",
        metavar="N",
        min=1,
        help="Attempt that the decision is about; default: the attempt that waits now.",
    ),
]


def approve(
    run_id: options.RunId,
    step: options.StepPath,
    by: By = None,
    edit: Annotated[
        str | None, typer.Option("--edit", metavar="JSON", help="Arguments to use instead of those shown.")
    ] = None,
    attempt: Attempt = None,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Allow a call that waits for a person. It is made with exactly the arguments shown."""
    from .deciding import approve_command

    flags = {"tools": tools, "store": store}
    return approve_command(run_id, step, by, edit, flags, attempt=attempt, as_json=as_json)


def deny(
    run_id: options.RunId,
    step: options.StepPath,
    by: By = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "",
    attempt: Attempt = None,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Refuse a call that waits for a person. What depends on it is cancelled."""
    from .deciding import deny_command

    flags = {"tools": tools, "store": store}
    return deny_command(run_id, step, by, reason, flags, attempt=attempt, as_json=as_json)


def decide(
    run_id: options.RunId,
    decisions: Annotated[
        list[str],
        typer.Argument(
            metavar="STEP=DECISION..",
            help="approve, deny, retry, or a JSON object. A step stands for all its waiting parts.",
        ),
    ],
    by: By = None,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Decide about several calls at once, all or none. Items of a list may be decided together."""
    from .deciding import decide_command

    return decide_command(run_id, decisions, by, {"tools": tools, "store": store}, as_json=as_json)


def resolve(
    run_id: options.RunId,
    step: options.StepPath,
    done: Annotated[
        str | None, typer.Option("--done", metavar="JSON", help="It took effect, and returned this.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="It did nothing; call again.")] = False,
    fail: Annotated[
        str | None, typer.Option("--fail", metavar="WHY", help="It did nothing; the step fails.")
    ] = None,
    by: By = None,
    attempt: Attempt = None,
    tools: options.Tools = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> int:
    """Settle a call whose outcome is unknown. Exactly one of --done, --retry and --fail says how."""
    from .deciding import Resolution, resolve_command

    resolution = Resolution(done, retry, fail, by)
    flags = {"tools": tools, "store": store}
    return resolve_command(run_id, step, resolution, flags, attempt=attempt, as_json=as_json)


def cancel(run_id: options.RunId, store: options.Store = None, as_json: options.Json = False) -> int:
    """Stop a run: nothing new starts."""
    from .deciding import cancel_command

    return cancel_command(run_id, {"store": store}, as_json=as_json)
