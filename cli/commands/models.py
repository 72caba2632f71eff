"""The commands about what models are asked and answer: record their traffic, answer from it, and make fine-tuning sets of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from ...errors import InputRejected
from .. import screen
from ..command import TOOLS_AND_STORE, CommandGroup

if TYPE_CHECKING:
    from ...training.export import Label
    from ..invocation import Invocation

commands = CommandGroup()
SERVER = "firmplan.testing.scripted_model"
"""The module that serves a recording. It runs in a process of its own, because the command line imports no test fake."""
REPLAYED_MODEL = "recorded"
"""The model's name where none is set: a recording answers for any."""


@commands.command(
    has_json=False,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
    },
    example="calls.jsonl run 'Compare the weather in Rome and Oslo' --tools tools.py",
)
def traffic(_invocation: Invocation, context: typer.Context, file: Path, replay: bool = False) -> int:
    """Record the requests to models and their answers. Another command sends them: `traffic calls.jsonl run "task"`.

    Args:
        file (FILE): The recording; exchanges are added to it.
        replay: Answer from the recording instead, without a network.
    """
    from ...tools.models.recorder import recording

    words = [word for word in context.args if word != "--"]
    if not words or words[0] == "traffic":
        raise InputRejected('expected a command to record, as in: traffic calls.jsonl run "task", found none')
    run: Any = context.find_root().command.main  # typer's own types leave it open
    if replay:
        with _replayed(file):
            return int(run(words, standalone_mode=False) or 0)
    with recording(file) as recorder:
        code = int(run(words, standalone_mode=False) or 0)
    if "--json" not in words:
        screen.note(f"recorded to {recorder.path}; answer from it with `firmplan traffic --replay {file} ..`")
    return code


@contextmanager
def _replayed(file: Path) -> Generator[None]:
    """Direct this process's requests to models to a server that answers from a recording."""
    import subprocess

    if not file.is_file():
        raise InputRejected(f"expected a recording, found no file at {file}: check the path")
    server = subprocess.Popen(  # noqa: S603  # this Python, a module of ours, the user's file
        [sys.executable, "-m", SERVER, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    before = {name: os.environ.get(name) for name in ("FIRMPLAN_BASE_URL", "FIRMPLAN_MODEL")}
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        base_url = server.stdout.readline().strip()
        if not base_url:
            why = server.stderr.read().strip().rpartition("\n")[2]
            raise InputRejected(f"expected a recording, found {file}: {why}")
        os.environ["FIRMPLAN_BASE_URL"] = base_url
        os.environ.setdefault("FIRMPLAN_MODEL", REPLAYED_MODEL)
        yield
    finally:
        server.terminate()
        server.communicate()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@commands.command(
    name="export-training",
    uses=TOOLS_AND_STORE,
    example="planner.jsonl --kind planner --runs all --judged verdicts.jsonl --tools tools.py",
)
async def export_training(
    invocation: Invocation,
    file: Path,
    kind: Annotated[Literal["planner", "steps"], typer.Option("--kind")],
    runs: Annotated[list[str], typer.Option("--runs")],
    judged: Annotated[Path | None, typer.Option()] = None,
    at_least: Annotated[float, typer.Option(min=0, max=1)] = 0.5,
    include: Annotated[list[str] | None, typer.Option("--include")] = None,
    card: Annotated[Path | None, typer.Option()] = None,
    licence: str = "",
) -> None:
    """Make a fine-tuning set from good runs.

    It is in the chat format and has a data card. Examples with secrets are always left out.

    Args:
        file (FILE): The file of examples, one JSON object a line.
        kind: planner: requests for plans with the accepted plans; steps: questions of steps with the accepted answers.
        runs (RUN): A run, or `all`; repeatable.
        judged (FILE): Verdicts on runs, a line each: {"run": .., "score": 0 to 1} or {"run": .., "good": true}.
        at_least: The least score of a good run.
        include (LABEL): Include data that is `untrusted` or `private`; repeatable.
        card (FILE): The data card; by default beside the examples.
        licence (TEXT): What the card says of the licence of the data.
    """
    from ...training import export_training as write_set

    chosen = None if "all" in runs else runs
    async with invocation.look() as engine:
        made = await write_set(
            engine,
            file,
            kind=kind,
            runs=chosen,
            judged=judged,
            at_least=at_least,
            include=cast("list[Label]", include or []),
            card=card,
            licence=licence,
        )
    invocation.answer(made)
