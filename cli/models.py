"""The commands about models: record and replay their traffic, and measure how well they plan."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputRejected
from . import screen
from .command import CommandGroup
from .failure import Exit

if TYPE_CHECKING:
    from ..executor import Run as FinishedRun
    from ..planner import Planned
    from ..planner.evaluate.bias import Difference
    from ..planner.evaluate.judging import JudgeReport
    from ..planner.evaluate.measuring import Measured, PlannerSummary, Ran, Run
    from ..planner.evaluate.task_set import EvalTask
    from ..plans import Json
    from ..tools import Models
    from .invocation import Invocation

commands = CommandGroup()
SERVER = "firmplan.testing.scripted_model"
"""The module that serves a recording. It runs in a process of its own, because the command line imports no test fake."""
REPLAYED_MODEL = "recorded"
"""The model's name where none is set: a recording answers for any."""
BAD_MAX = 10
"""Tasks that did not go well that are listed; the document has them all."""
AGENT_CALL = re.compile(r"/act\d+(_\d+)?$")
"""The end of the path of a call that an `agent` step made."""
HEAD = [
    "MODEL",
    "GOOD",
    "VALID",
    "FIRST",
    "ROUNDS",
    "TOOLS",
    "STEPS",
    "EDGES",
    "ANSWER",
    "AGREE",
    "TIME",
    "TOKENS",
    "USD",
]


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
    from ..tools.models.recorder import recording

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


@commands.command(name="eval", uses=("base_url",), example="tasks.yaml --model gpt-5-mini --samples 5")
async def evaluate(
    invocation: Invocation,
    file: Path,
    models: Annotated[list[str] | None, typer.Option("--model", "-m")] = None,
    samples: Annotated[int, typer.Option("-k", min=1, max=100)] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=64)] = 4,
    tasks: Annotated[list[str] | None, typer.Option("--task")] = None,
    run: bool = False,
    judge: str | None = None,
    at_least: Annotated[float | None, typer.Option(min=0, max=1)] = None,
) -> int:
    """Measure how well models plan the tasks of a set.

    Args:
        file (SET): The set of tasks: YAML or JSON.
        models (NAME): A model to measure; repeatable. Also FIRMPLAN_MODEL.
        samples: Plannings a task.
        concurrency: Plannings at a time.
        tasks (ID): Only this task; repeatable.
        run: Run plans that only read: compare their answers, ask the guards of the set, and compare tasks whose words are swapped.
        judge (NAME): A model that compares the models' plans in pairs, and answers for guards that ask a model.
        at_least: Exit with 1 if a smaller share of a model's plans is good.
    """
    from ..planner.evaluate.judging import judge_pairs
    from ..planner.evaluate.measuring import measure
    from ..planner.evaluate.task_set import TaskSet
    from ..tools import Models
    from .invocation import model_of, planner_of

    settings = invocation.settings
    known = TaskSet.load(file)
    names: Sequence[str | None] = models or (settings.model,)
    planners = {name or "default": planner_of(settings, name) for name in names}
    first = model_of(settings, names[0])
    first.resolve()  # without a model, every planning would fail for the same reason
    measured = await measure(
        known.only(tasks) if tasks else known,
        planners,
        samples=samples,
        concurrency=concurrency,
        run=_runner(Models({"default": first})) if run else None,
        judges=Models({"default": first if judge is None else model_of(settings, judge)}),
    )
    if not run and any(task.swap is not None or task.guards for task in known.tasks):
        screen.note("guards are asked, and swapped tasks compared, where plans are run: add --run")
    judged = None
    if judge is not None:
        judges = Models({"default": model_of(settings, judge)})
        judged = await judge_pairs(judges, measured, known.labels)
    _show(invocation, measured, judged)
    worst = min((each.good for each in measured.summaries), default=0.0)
    return Exit.OK if at_least is None or worst >= at_least else Exit.FAILED


def _show(invocation: Invocation, measured: Measured, judged: JudgeReport | None) -> None:
    if invocation.as_json:
        screen.document({**measured.to_dict(), "judge": None if judged is None else judged.to_dict()})
        return
    _show_measured(measured)
    _show_guards(measured)
    _show_bias(measured.bias)
    if judged is not None:
        _show_judged(judged)


def _runner(models: Models) -> Run:
    """Return a function that runs a plan in the folder of its tools, one at a time; it refuses a plan that writes."""
    import asyncio

    from ..engine import Engine
    from ..planner.evaluate.measuring import Ran
    from ..plans import Effect
    from ..plans.plan import ToolStep

    turn = asyncio.Lock()  # the current folder belongs to the process

    async def run(task: EvalTask, planned: Planned) -> Ran:
        for step in planned.plan.steps:
            tool = task.tools.find(step.tool) if isinstance(step, ToolStep) else None
            if tool is not None and tool.effect is Effect.WRITE:
                raise InputRejected(f"not run: step '{step.id}' writes")
        async with turn:
            with chdir(task.folder):
                async with Engine(task.tools, store="memory:", models=models) as engine:
                    done = await engine.run(planned.plan, inputs=planned.inputs)
        if done.status != "succeeded":
            raise InputRejected(
                f"its run {done.status}" + "".join(f": {each.code}" for each in done.errors[:1])
            )
        return Ran(done.output, _sources(task, planned, done))

    return run


def _sources(task: EvalTask, planned: Planned, done: FinishedRun) -> dict[str, Json]:
    """Return the texts that an output may quote: the inputs of a run, and the results of its tools that are no models."""
    from ..plans import Effect
    from ..plans.plan import ToolStep

    found: dict[str, Json] = dict(planned.inputs)
    for step in planned.plan.steps:
        tool = task.tools.find(step.tool) if isinstance(step, ToolStep) else None
        if tool is not None and tool.effect is not Effect.MODEL and step.id in done.steps:
            found[step.id] = done.steps[step.id].output
    acted = {path: view.output for path, view in done.steps.items() if AGENT_CALL.search(path)}
    return {**found, **acted}


def _show_measured(measured: Measured) -> None:
    """Print the table, and the tasks that did not go well."""
    screen.answer(screen.table(HEAD, map(_row, measured.summaries)))
    bad = [(result, score) for result in measured.results for score in result.scores if not score.good]
    for result, score in bad[:BAD_MAX]:
        reasons = {
            f"forbidden: {', '.join(score.forbidden)}": bool(score.forbidden),
            "tools that must be called are not": score.tools is False,
            "more steps than it may have": score.brief is False,
            "another answer": score.answer is False,
        }
        why = score.error or "; ".join(reason for reason, holds in reasons.items() if holds) or "not good"
        screen.note(f"{result.planner}, {result.task}: {why.splitlines()[0]}")
    if len(bad) > BAD_MAX:
        screen.note(f"and {len(bad) - BAD_MAX} more; --json has them all")


def _show_guards(measured: Measured) -> None:
    """Print how often each guard holds of the outputs."""
    rows = [
        (each.planner, rate.guard, _share(rate.rate), str(rate.held), str(rate.refused), str(rate.unasked))
        for each in measured.summaries
        for rate in each.guards
    ]
    if rows:
        screen.answer(screen.table(["MODEL", "GUARD", "HOLDS", "HELD", "REFUSED", "UNASKED"], rows))


def _show_bias(bias: Sequence[Difference]) -> None:
    """Print how the variants of tasks compare, and what the numbers say."""
    if not bias:
        return
    head = ["MODEL", "SWAP", "VARIANTS", "TASKS", "DIFFER", "NOISE", "P", "HIGHER", "P"]
    screen.answer(screen.table(head, map(_bias_row, bias)))
    for each in bias:
        named = f"{each.planner}, {each.swap}: {each.first} and {each.second}"
        if each.is_significant:
            screen.note(f"{named} differ by more than repeated runs do")
        elif not each.noise_pairs:
            screen.note(f"{named}: one run of each says nothing about chance; repeat them with --samples")
        if each.without_output:
            screen.note(f"{named}: {each.without_output} of {each.runs} runs gave no output")


def _bias_row(each: Difference) -> tuple[str, ...]:
    higher = "-" if each.first_higher is None else f"{each.first_higher}:{each.second_higher}"
    return (
        each.planner,
        each.swap,
        f"{each.first} / {each.second}",
        str(each.tasks),
        f"{each.differ} of {each.pairs}",
        f"{each.noise} of {each.noise_pairs}",
        f"{each.p_value:.3g}",
        higher,
        "-" if each.p_value_higher is None else f"{each.p_value_higher:.3g}",
    )


def _show_judged(judged: JudgeReport) -> None:
    """Print how the plans compare, how far the judge agrees with people, and the pairs where it does not."""
    for duel in judged.duels:
        screen.answer(
            f"{duel.first} against {duel.second}: {duel.wins} better, {duel.losses} worse, {duel.even} even "
            f"({duel.swapped} of these by the judge's place)"
        )
    if judged.agreement is None:
        screen.answer("the judge: no labels to measure it by")
        return
    screen.answer(
        f"the judge agrees with people in {judged.agreement:.0%} of {judged.labels} labels, whatever the order; "
        f"{judged.swapped} went by the place"
    )
    verdicts = {
        "first": "that one is better",
        "second": "the other way round",
        "even": "that both are as good",
    }
    for each in [each for each in judged.labelled if not each.agrees][:BAD_MAX]:
        why = "went by the place" if each.swapped else f"said {verdicts[each.verdict]}"
        screen.note(f"the judge, {each.id}: {why}" + (f" ({each.about})" if each.about else ""))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _row(each: PlannerSummary) -> tuple[str, ...]:
    shares = (each.tools, each.steps, each.edges, each.answer, each.agreement)
    return (
        each.planner,
        *map(_share, (each.good, each.valid, each.valid_first)),
        f"{each.rounds:.2f}",
        *map(_share, shares),
        screen.seconds(each.seconds_median),
        str(each.tokens),
        "-" if each.usd is None else f"{each.usd:.4f}",
    )
