"""The command that measures how well models plan: `eval`."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...errors import InputRejected
from .. import screen
from ..command import CommandGroup
from ..failure import Exit

if TYPE_CHECKING:
    from ...engine import Engine
    from ...executor import Run as FinishedRun
    from ...planner import Planned, Planner
    from ...planner.evaluate.bias import Difference
    from ...planner.evaluate.json_lines import FakeTools
    from ...planner.evaluate.judging import JudgeReport
    from ...planner.evaluate.measuring import Measured, PlannerSummary, Ran
    from ...planner.evaluate.react import ReactRun
    from ...planner.evaluate.task_set import EvalTask
    from ...plans import Json
    from ...tools import Model, Models
    from ...tools.models.clients import Clients
    from ..invocation import Invocation

commands = CommandGroup()
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
RUNS_HEAD = [
    "MODEL",
    "RIGHT AT FIRST",
    "AFTER PATCHES",
    "PATCHED",
    "RESCUED",
    "CALLS",
    "SAVED",
    "TOKENS",
    "USD",
]
AGAINST_HEAD = ["MODEL", "BY", "RIGHT", "PROMPT", "OUTPUT", "REQUESTS", "USD", "PROMPT RATIO", "OUTPUT RATIO"]
RETRIEVAL_HEAD = ["RETRIEVAL OF", "TASKS", "AMONG", "MRR", "NDCG@5"]


@commands.command(name="eval", uses=("base_url",), example="tasks.yaml --model gpt-5-mini --samples 5")
async def evaluate(
    invocation: Invocation,
    file: Path,
    models: Annotated[list[str] | None, typer.Option("--model", "-m")] = None,
    samples: Annotated[int, typer.Option("-k", min=1, max=100)] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=64)] = 4,
    tasks: Annotated[list[str] | None, typer.Option("--task")] = None,
    run: bool = False,
    replan: Annotated[int, typer.Option(min=0)] = 0,
    against: Annotated[Literal["react"] | None, typer.Option()] = None,
    judge: str | None = None,
    at_least: Annotated[float | None, typer.Option(min=0, max=1)] = None,
) -> int:
    """Measure how well models plan the tasks of a set.

    Args:
        file (SET): The set of tasks: YAML, JSON, or JSON lines of task, tools and expected calls.
        models (NAME): A model to measure; repeatable. Also FIRMPLAN_MODEL.
        samples: Plannings a task.
        concurrency: Plannings at a time.
        tasks (ID): Only this task; repeatable.
        run: Run plans that only read, and all plans over fakes: compare their answers and calls, ask the guards of the set, and compare tasks whose words are swapped.
        replan: How often the plan of a failed run may be patched; runs plans.
        against: Solve each task also with a ReAct loop on the same tools and model, and compare tokens and answers; runs plans.
        judge (NAME): A model that compares the models' plans in pairs, and answers for guards that ask a model.
        at_least: Exit with 1 if a smaller share of a model's plans is good.
    """
    from ...planner.evaluate.judging import judge_pairs
    from ...planner.evaluate.measuring import measure
    from ...planner.evaluate.task_set import TaskSet
    from ...tools import Models
    from ..invocation import model_of, planner_of

    settings = invocation.settings
    known = TaskSet.load(file)
    names: Sequence[str | None] = models or (settings.model,)
    planners = {name or "default": planner_of(settings, name) for name in names}
    asked = {name or "default": model_of(settings, name) for name in names}
    first = next(iter(asked.values()))
    first.resolve()  # without a model, every planning would fail for the same reason
    is_run = run or replan > 0 or against is not None
    stage = _Stage()
    clients = Models(prices=settings.prices).clients
    measured = await measure(
        known.only(tasks) if tasks else known,
        planners,
        samples=samples,
        concurrency=concurrency,
        run={
            name: _PlanRunner(
                stage, planner, Models({"default": asked[name]}, prices=settings.prices), replan
            )
            for name, planner in planners.items()
        }
        if is_run
        else None,
        judges=Models({"default": first if judge is None else model_of(settings, judge)}),
        rivals=None
        if against is None
        else {name: _ReactRunner(stage, model, clients) for name, model in asked.items()},
    )
    if not is_run and any(
        task.swap is not None or task.guards or task.expected.calls is not None for task in known.tasks
    ):
        screen.note("guards are asked, calls and swapped tasks compared, where plans are run: add --run")
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
    _show_runs(measured)
    _show_against(measured)
    _show_retrieval(measured)
    _show_guards(measured)
    _show_bias(measured.bias)
    if judged is not None:
        _show_judged(judged)


# --- runs of plans, and ReAct loops, on the same tools


class _Stage:
    """Where plans are run and loops call tools: in the folder of the tools, one at a time, and over tools that change nothing in the world."""

    def __init__(self) -> None:
        import asyncio

        self._turn = asyncio.Lock()  # the current folder belongs to the process

    @asynccontextmanager
    async def enter(self, task: EvalTask) -> AsyncGenerator[FakeTools]:
        """Provide the tools of a task: fakes made anew, or those of the real ones that do not write."""
        from ...planner.evaluate.json_lines import FakeTools
        from ...plans import Effect
        from ...tools import Toolset

        async with self._turn:
            with chdir(task.folder):
                if task.fakes is not None:
                    yield task.fakes()
                    return
                # Whatever a patch or an agent step comes to, there is no tool here that writes.
                yield FakeTools(Toolset(tool for tool in task.tools if tool.effect is not Effect.WRITE))


class _PlanRunner:
    """Runs plans of one planner, with its patches.

    Args:
        stage: Where.
        planner: Patches the plans of failed runs.
        models: The models of the steps.
        replan: How often a plan may be patched.
    """

    def __init__(self, stage: _Stage, planner: Planner, models: Models, replan: int) -> None:
        self._stage = stage
        self._planner = planner
        self._models = models
        self._replan = replan

    async def __call__(self, task: EvalTask, planned: Planned) -> Ran:
        """Return the run of a plan. Raises: InputRejected: it writes, and the tools are real."""
        from ...engine import Engine
        from ...planner.evaluate.measuring import Ran
        from ...tools.models.completion import metered

        if task.fakes is None:
            _expect_no_write(task, planned)
        async with self._stage.enter(task) as fakes:
            with metered() as meter:
                async with Engine(
                    fakes.tools, store="memory:", models=self._models, planner=self._planner
                ) as engine:
                    done = await engine.run(planned.plan, inputs=planned.inputs, replan=self._replan)
                    if task.fakes is not None:
                        done = await _approved(engine, done)
                    patches = await _patches(engine, done)
        why = "".join(f": {each.code}" for each in done.errors[:1])
        return Ran(
            done.output,
            _sources(task, planned, done),
            patches,
            None if fakes.calls is None else tuple(fakes.calls),
            meter.usage,
            None if done.status == "succeeded" else f"its run {done.status}{why}",
        )


class _ReactRunner:
    """Solves tasks with a ReAct loop.

    Args:
        stage: Where its calls are made.
        model: The model.
        clients: The open clients.
    """

    def __init__(self, stage: _Stage, model: Model, clients: Clients) -> None:
        self._stage = stage
        self._model = model
        self._clients = clients

    async def __call__(self, task: EvalTask) -> ReactRun:
        """Return the loop of a task."""
        from ...engine import Engine
        from ...planner.evaluate.react import react

        endpoint = self._model.resolve()
        async with self._stage.enter(task) as fakes, Engine(fakes.tools, store="memory:") as engine:

            async def call(tool: str, args: Mapping[str, Json]) -> Json:
                return await _called(engine, tool, args, approves=task.fakes is not None)

            return await react(replace(task, tools=fakes.tools), endpoint, self._clients, call)


async def _approved(engine: Engine, run: FinishedRun) -> FinishedRun:
    """Return a run in which a person approved every call that waited: over fakes there is nothing to lose, and nobody to ask."""
    # Ends: a decided call does not wait again, and a patch is made only so often.
    while run.status == "waiting":
        calls = [each.step for each in (await engine.waiting(run.id)).calls if each.about == "call"]
        if not calls:  # a question, which only the set's author could answer
            return run
        await engine.decide(run.id, dict.fromkeys(calls, "approve"), by="eval")
        run = await engine.resume(run.id)
    return run


async def _called(engine: Engine, tool: str, args: Mapping[str, Json], *, approves: bool) -> Json:
    """Return the result of one call, made as a plan's call is: with its checks, its time limit and its retries.

    Args:
        engine: Has the tools.
        tool: The tool.
        args: Its arguments.
        approves: Whether a call that waits for a person is approved.

    Raises:
        FirmplanError: The call is refused or fails.
    """
    step = {"id": "call", "tool": tool, "args": _literal(dict(args))}
    done = await engine.run({"firmplan": 1, "steps": [step], "output": "${call}"}, reuse="off")
    if approves:
        done = await _approved(engine, done)
    if done.status != "succeeded":
        raise InputRejected(done.errors[0].message if done.errors else f"the call {done.status}")
    return done.output


def _literal(value: Json) -> Json:
    """Return a value as a plan writes it, so that nothing in its texts counts as an expression."""
    match value:
        case str():
            return value.replace("${", "$${")
        case list():
            return [_literal(each) for each in value]
        case dict():
            return {name: _literal(each) for name, each in value.items()}
        case _:
            return value


async def _patches(engine: Engine, done: FinishedRun) -> int:
    """Return how often the plan of a run was patched: each patch is a run whose parent is the run that failed."""
    count, parent = 0, done.parent
    while parent is not None:
        count, parent = count + 1, (await engine.get(parent)).parent
    return count


def _expect_no_write(task: EvalTask, planned: Planned) -> None:
    """Expect a plan that writes nothing. Raises: InputRejected."""
    from ...plans import Effect
    from ...plans.plan import ToolStep

    for step in planned.plan.steps:
        tool = task.tools.find(step.tool) if isinstance(step, ToolStep) else None
        if tool is not None and tool.effect is Effect.WRITE:
            raise InputRejected(
                f"not run: step '{step.id}' writes, and the tools are real; with `fakes: true` in its group the plan is run"
            )


def _sources(task: EvalTask, planned: Planned, done: FinishedRun) -> dict[str, Json]:
    """Return the texts that an output may quote: the inputs of a run, and the results of its tools that are no models."""
    from ...plans import Effect
    from ...plans.plan import ToolStep

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
            "tools that must be called are not called": score.tools is False,
            "more steps than it may have": score.brief is False,
            "another answer": score.answer is False,
            "other calls than expected": score.calls is False,
            "the expected saved plan does not answer it": score.saved is False,
        }
        why = score.error or "; ".join(reason for reason, holds in reasons.items() if holds) or "not good"
        screen.note(f"{result.planner}, {result.task}: {why.splitlines()[0]}")
    if len(bad) > BAD_MAX:
        screen.note(f"and {len(bad) - BAD_MAX} more; --json has them all")


def _show_runs(measured: Measured) -> None:
    """Print what runs came to, at first and after patches."""
    rows = [_runs_row(each) for each in measured.summaries]
    shown = any(
        each.patched or each.calls is not None or each.saved is not None or each.answer is not None
        for each in measured.summaries
    )
    if shown:
        screen.answer(screen.table(RUNS_HEAD, rows))


def _runs_row(each: PlannerSummary) -> tuple[str, ...]:
    return (
        each.planner,
        _share(each.answer_first),
        _share(each.answer),
        str(each.patched),
        str(each.rescued),
        _share(each.calls),
        _share(each.saved),
        str(each.run_tokens),
        _usd(each.run_usd),
    )


def _show_against(measured: Measured) -> None:
    """Print plans beside ReAct loops: what their models read and wrote."""
    from ...planner.evaluate.measuring import cost_of

    rows: list[tuple[str, ...]] = []
    for each in measured.summaries:
        if (found := each.against) is None:
            continue
        for name, usage, right in (
            ("plan", found.planned, found.planned_right),
            ("react", found.react, found.react_right),
        ):
            ratios = (found.prompt_ratio, found.output_ratio) if name == "plan" else (None, None)
            rows.append(
                (
                    each.planner,
                    name,
                    _share(right),
                    str(usage.prompt_tokens),
                    str(usage.completion_tokens),
                    str(usage.requests),
                    _usd(cost_of(usage)),
                    *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                )
            )
    if rows:
        screen.answer(screen.table(AGAINST_HEAD, rows))
    for result in measured.results:
        for score in result.scores:
            if score.react is not None and score.react.run.error is not None:
                screen.note(
                    f"{result.planner}, {result.task}, react: {score.react.run.error.splitlines()[0]}"
                )


def _show_retrieval(measured: Measured) -> None:
    """Print how well words find tools and saved plans."""
    rows = [
        (each.what, str(each.tasks), str(each.documents), f"{each.mrr:.3f}", f"{each.ndcg:.3f}")
        for each in measured.retrieval
    ]
    if rows:
        screen.answer(screen.table(RETRIEVAL_HEAD, rows))


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
        _usd(each.usd),
    )


def _usd(amount: float | None) -> str:
    """Return a price; one that is not known is none."""
    return "-" if amount is None else f"{amount:.4f}"
