"""`eval`: planners side by side over a set of tasks, as a table or a document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from ..engine import Engine
from ..errors import InputRejected
from ..planner import Planned, Planner
from ..planner.evaluate.judging import JudgeReport, judge_pairs
from ..planner.evaluate.measuring import Measured, PlannerSummary, Run, measure
from ..planner.evaluate.task_set import EvalTask, TaskSet
from ..plans import Effect
from ..plans.plan import ToolStep
from ..plans.values import Json
from ..tools import Model, Models
from . import screen
from .failure import Exit
from .session import drive, settings_of

HEAD = (
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
)
_SAID = {"first": "that one is better", "second": "the other way round", "even": "that both are as good"}
BAD_SHOWN = 10
"""Tasks that did not go well that are listed; the document has them all."""


@dataclass(frozen=True, slots=True)
class EvalRequest:
    """What is to be measured."""

    models: tuple[str, ...]
    samples: int
    concurrency: int
    tasks: tuple[str, ...]
    judge: str | None
    at_least: float | None
    run: bool


def eval_command(file: Path, request: EvalRequest, flags: Mapping[str, object], *, as_json: bool) -> int:
    """Plan the tasks of a set with each model; exit with 1 where the share of good plans is below what is asked."""
    settings = settings_of(flags)
    tasks = TaskSet.load(file)
    chosen = tasks.only(request.tasks) if request.tasks else tasks
    names: Sequence[str | None] = request.models or (settings.model,)
    planners = {
        name or "default": Planner(name, base_url=settings.base_url, **settings.planner) for name in names
    }
    _check_model(settings.model if not request.models else request.models[0], settings.base_url)
    models = Models({"default": Model(names[0], settings.base_url)})
    run = _runner(models) if request.run else None

    async def work() -> int:
        measured = await measure(
            chosen, planners, samples=request.samples, concurrency=request.concurrency, run=run
        )
        judged = None
        if request.judge is not None:
            judge = Models({"default": Model(request.judge, settings.base_url)})
            judged = await judge_pairs(judge, measured, tasks.labels)
        if as_json:
            screen.document({**measured.to_dict(), "judge": None if judged is None else judged.to_dict()})
        else:
            _tell(measured, judged)
        worst = min((each.good for each in measured.summaries), default=0.0)
        return Exit.OK if request.at_least is None or worst >= request.at_least else Exit.FAILED

    return drive(work)


def _check_model(name: str | None, base_url: str | None) -> None:
    """Raise `ConfigError` unless there is a model to ask: a set of failures would only say so sixty times."""
    Model(name, base_url).resolve()


def _runner(models: Models) -> Run:
    """Return what runs a plan in the folder of its tools, one at a time; a plan that writes is not run."""
    turn = asyncio.Lock()

    async def run(task: EvalTask, planned: Planned) -> Json:
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
        return done.output

    return run


def _tell(measured: Measured, judged: JudgeReport | None) -> None:
    """Show the table, and the tasks that did not go well."""
    screen.answer(screen.table(HEAD, map(_row, measured.summaries)))
    bad = [(result, score) for result in measured.results for score in result.scores if not score.good]
    for result, score in bad[:BAD_SHOWN]:
        why = score.error or "; ".join(
            [
                *([f"forbidden: {', '.join(score.forbidden)}"] if score.forbidden else []),
                *(["tools that must be called are not"] if score.tools is False else []),
                *(["more steps than it may have"] if score.brief is False else []),
                *(["another answer"] if score.answer is False else []),
            ]
        )
        screen.note(f"{result.planner}, {result.task}: {why.splitlines()[0] if why else 'not good'}")
    if len(bad) > BAD_SHOWN:
        screen.note(f"and {len(bad) - BAD_SHOWN} more; --json has them all")
    if judged is not None:
        for duel in judged.duels:
            screen.answer(
                f"{duel.first} against {duel.second}: {duel.wins} better, {duel.losses} worse, {duel.even} even "
                f"({duel.swapped} of these by the judge's place)"
            )
        _tell_agreement(judged)


def _tell_agreement(judged: JudgeReport) -> None:
    """Show how far the judge agrees with people, and on which pairs it does not."""
    if judged.agreement is None:
        screen.answer("the judge: no labels to measure it by")
        return
    screen.answer(
        f"the judge agrees with people in {judged.agreement:.0%} of {judged.labels} labels, whatever the order; "
        f"{judged.swapped} went by the place"
    )
    for each in [each for each in judged.labelled if not each.agrees][:BAD_SHOWN]:
        why = "went by the place" if each.swapped else f"said {_SAID[each.verdict]}"
        screen.note(f"the judge, {each.id}: {why}" + (f" ({each.about})" if each.about else ""))


def _row(each: PlannerSummary) -> tuple[str, ...]:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.0%}"

    return (
        each.planner,
        share(each.good),
        share(each.valid),
        share(each.valid_first),
        f"{each.rounds:.2f}",
        share(each.tools),
        share(each.steps),
        share(each.edges),
        share(each.answer),
        share(each.agreement),
        screen.seconds(each.seconds_median),
        str(each.tokens),
        "-" if each.usd is None else f"{each.usd:.4f}",
    )
