"""A run, or a check, as text for people: outcome, steps, and the exact commands that let a run go on."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import FirmplanError, InputRejected
from ..executor.budget import LIMITS
from ..executor.runs.run import ARTIFACT_KEYS, counted, steps_in
from ..lazy_imports import late_pattern
from ..plans import CheckReport, check
from ..plans.durations import time_text
from ..plans.plan import AgentStep, PlanForStep, ToolStep
from ..plans.render.width import columns
from ..plans.reports.nearest import listing
from .command import MOVES, STORE
from .config import COMMAND_LINE, Settings
from .failure import Exit
from .progress import REMEDIED, failure_line, skipped_because
from .screen import one_line, picture_width, plural, seconds, short, table, text_width, value_text
from .wrapping import COLUMN_GAP

if TYPE_CHECKING:
    from ..executor import Run, StepView, WaitingCall, WaitingCalls
    from ..plans import Bounds, Json, Plan
    from ..plans.plan import InnerPlan, Step
    from ..tools import ArtifactPreview, Toolset
    from .remote import AnyEngine

STATUS_EXIT = {
    "succeeded": Exit.OK,
    "failed": Exit.FAILED,
    "cancelled": Exit.FAILED,
    "waiting": Exit.WAITING,
    "indeterminate": Exit.WAITING,
    "over_budget": Exit.WAITING,
    "parked": Exit.WAITING,
    "queued": Exit.WAITING,
    "running": Exit.WAITING,
}


TRACED_MAX: Final = 3
"""Calls with the same last frames that are named."""

RETRIES_SHOWN_MAX: Final = 20
"""Repeated attempts of which `show` says why; the journal has them all."""

PREVIEWS_SHOWN_MAX: Final = 3
"""Tables of a run's output that `show` prints."""

CELL_WIDTH: Final = 60
"""Characters of a cell in the table of a frame."""

COLUMNS_NAMED_MAX: Final = 6
"""Columns of a frame that are named in the table of the steps."""

DRIVEN: Final = "a process drives it now; wait for it with"
HAPPENED = {"denied": "was denied", "parked": "is parked"}
"""The words for an error that is no failure of a step, by its code."""


def exit_of(run: Run) -> Exit:
    """Return the exit code that says where a run stands; a task whose inputs do not fit is a wrong command."""
    if run.plan is None and any(error.code == InputRejected.code for error in run.errors):
        return Exit.WRONG
    return STATUS_EXIT[run.status]


def summary(run: Run) -> str:
    """Return the run's outcome on one line."""
    status = f"{run.status} (abandoned)" if run.abandoned else run.status
    parts = [f"{status}: run {run.id}", counted(steps_in(run.steps))]
    if reused := run.usage.get("reused"):
        parts.append(f"{reused} reused")
    if isinstance(took := run.usage.get("seconds"), int | float):
        parts.append(seconds(took))
    if run.usage.get("tokens"):
        parts.append(_tokens(run.usage))
    if run.priority is not None:
        parts.append(f"priority {run.priority}")
    is_final = run.digest and run.status in ("succeeded", "failed")
    # What the plan does not do stands right below the status, since `succeeded` is about the plan and not about the task.
    left_out = [f"left out: {one_line(text)}" for text in run.left_out]
    lines = [", ".join(parts), *left_out, f"digest {run.digest}" if is_final else "", _planning(run)]
    return "\n".join(line for line in lines if line)


def _tokens(usage: Mapping[str, Json]) -> str:
    """Return the tokens of a usage, and how many of them an endpoint had in its cache."""
    cached = usage.get("cached_tokens")
    return f"{usage.get('tokens')} tokens" + (f" ({cached} cached)" if cached else "")


def _planning(run: Run) -> str:
    """Return the cost of the run's planning, if a model was asked."""
    planning = run.usage.get("planning")
    if (
        not isinstance(planning, dict)
        or not isinstance(calls := planning.get("model_calls"), int)
        or not calls
    ):
        return ""
    took, usd = planning.get("seconds"), planning.get("usd")
    parts = [plural(calls, "model call"), _tokens(planning)]
    parts += [f"{usd:.4g} USD"] if isinstance(usd, float) and usd else []
    parts += [seconds(took)] if isinstance(took, int | float) else []
    return f"planning took {', '.join(parts)}"


def labels_text(run: Run) -> str:
    """Return which parts of the output were made with content from untrusted tools and inputs; empty: none."""
    return "\n".join(
        f"{'the output' if place == '$' else place} was made with content from {', '.join(names)}"
        for place, names in run.output_labels.items()
    )


def errors_text(run: Run) -> str:
    """Return every failure of the run, in plan order."""
    lines: list[str] = []
    for error in run.errors:
        where = f"step '{error.step}'" if error.step else "the run"
        happened = HAPPENED.get(error.code, f"failed [{error.code}]")
        why = f": {error.message}" if error.message else ""
        is_said = error.message.startswith("denied by ")  # nobody gave a reason
        text = f"error: {where} {f'was {error.message}' if is_said else f'{happened}{why}'}"
        # A message of a tool may have lines; indented, none of them passes for a line of firmplan's own.
        lines.append(text.replace("\n", "\n  "))
    return "\n".join(lines)


def tracebacks_text(run: Run, found: Mapping[str, str]) -> str:
    """Return the last frames of each failed call in its tool's own code; calls that failed at the same place are told together.

    Args:
        run: The run.
        found: Path -> the frames of its failure.
    """
    places: dict[str, list[str]] = {}
    failures = dict[str, str]()
    for path in leaves_in(run, "failed", "indeterminate", "skipped"):
        error = run.steps[path].error
        if error is not None and (frames := found.get(path)):
            places.setdefault(frames, []).append(path)
            failures.setdefault(frames, error.message)
    lines: list[str] = []
    for frames, paths in places.items():
        lines += [f"{listing([one_line(path) for path in paths], TRACED_MAX)}:", frames]
        lines.append(f"{one_line(failures[frames])}\n")
    return (
        "\n".join(lines).rstrip() or "no call failed in the code of a tool, or its frames are not on record"
    )


async def previews_text(engine: AnyEngine, run: Run) -> str:
    """Return the first rows of the frames and arrays in the output of a run, each as a table."""
    from ..engine import Engine  # noqa: PLC0415  # a server's runs need none

    found = list(_tables_in(run.output, ""))
    parts: list[str] = []
    for place, artifact in found[:PREVIEWS_SHOWN_MAX]:
        name = one_line(f"{place or 'the output'}: {value_short(artifact)}")
        try:
            if isinstance(engine, Engine):
                shown = await engine.preview_artifact(artifact)
            else:
                shown = await engine.preview_artifact(run.id, artifact)
        except FirmplanError as error:  # the run is shown anyway
            parts.append(f"{name}\nno preview: {one_line(error.message)}")
            continue
        parts.append(f"{name}\n{preview_text(shown)}")
    more = len(found) - PREVIEWS_SHOWN_MAX
    return "\n\n".join([*parts, *([f"and {plural(more, 'more table')}"] if more > 0 else [])])


def _tables_in(value: Json, place: str) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yield where in a value frames and arrays stand, and what stands for them."""
    from ..tools.codecs.preview import is_table  # noqa: PLC0415  # most runs have no frame

    if isinstance(value, dict):
        if value.keys() >= ARTIFACT_KEYS and is_table(str(value["media_type"])):
            yield place, value
            return
        for key, each in value.items():
            yield from _tables_in(each, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _tables_in(each, f"{place}[{at}]")


def preview_text(shown: ArtifactPreview) -> str:
    """Return the first rows of an artifact as a table, and how much more there is. A terminal gets the columns that it has room for."""
    if shown.kind == "text":
        head: list[str] = ["line"]
        rows = [[each or "" for each in row] for row in shown.rows]
    else:
        head = [_fitted(f"{each.name} ({each.type})") for each in shown.columns]
        rows = [["null" if each is None else _fitted(each) for each in row] for row in shown.rows]
    width = text_width(sys.stdout)
    kept = len(head)
    if width is not None and kept > 1:
        taken = len("index") if shown.kind == "array" else -len(COLUMN_GAP)
        for kept, cells in enumerate(zip(head, *rows, strict=True)):  # how many have room
            taken += len(COLUMN_GAP) + max(map(columns, cells))
            if taken > width and kept:
                break
        else:
            kept = len(head)
    head, rows = head[:kept], [row[:kept] for row in rows]
    if shown.kind == "array":
        head = ["index", *head]
        rows = [[str(at), *row] for at, row in enumerate(rows)]
    noun = "line" if shown.kind == "text" else "row"
    if shown.rows_total is None:
        said = [f"the first {plural(len(rows), noun)}"]
    else:
        said = [f"{len(rows):,} of {plural(shown.rows_total, noun)}"]
    if shown.shape is not None:
        said.append(f"array of {one_line(shown.dtype or '')}, shape {list(shown.shape)}")
    if shown.columns_total > kept:
        said.append(f"{kept} of {plural(shown.columns_total, 'column')}")
    return f"{table(head, rows) if head else ''}\n{', '.join(said)}".lstrip()


def _fitted(text: str) -> str:
    """Return the text of a cell of a table, or its beginning."""
    line = one_line(text)
    return line if len(line) <= CELL_WIDTH else f"{line[: CELL_WIDTH - 3]}..."


def output_text(value: Json) -> str:
    """Return the output of a run for people; what stands for a frame or an array as its size and types."""
    return value_text(_with_short_tables(value))


def _with_short_tables(value: Json) -> Json:
    from ..tools.codecs.preview import is_table  # noqa: PLC0415  # most runs have no frame

    if isinstance(value, dict):
        if value.keys() >= ARTIFACT_KEYS and is_table(str(value["media_type"])):
            return value_short(value)
        return {key: _with_short_tables(each) for key, each in value.items()}
    return [_with_short_tables(each) for each in value] if isinstance(value, list) else value


def value_short(value: Json) -> str:
    """Return a value on one line; what stands for a frame or an array as its size and types."""
    match value:
        case {
            "digest": str(),
            "media_type": str(),
            "rows": int(rows),
            "columns": list(names),
            "dtypes": dict(types),
        }:
            columns = ", ".join(f"{name} {types.get(str(name), '')}" for name in names[:COLUMNS_NAMED_MAX])
            more = ", ..." if len(names) > COLUMNS_NAMED_MAX else ""
            return one_line(f"{plural(rows, 'row')} of {columns}{more}" if names else plural(rows, "row"))
        case {"digest": str(), "media_type": str(), "shape": list(shape), "dtype": str(dtype)}:
            return one_line(f"{dtype} {shape}")
        case _:
            return short(value)


def warnings_text(run: Run) -> str:
    """Return every warning of the run, one on each line."""
    lines: list[str] = []
    for warning in run.warnings:
        where = f"step '{warning.step}': " if warning.step else ""
        lines.append(f"warning: {where}{one_line(warning.message)} [{warning.code}]")
    return "\n".join(lines)


def steps_text(run: Run, *, only_failed: bool = False) -> str:
    """Return the steps as a table, in plan order, each followed by its items and inner steps.

    Args:
        run: The run.
        only_failed: Leave out what did not fail.
    """
    steps = failed_steps(run) if only_failed else run.steps
    if not steps:
        return "no step has failed" if only_failed else ""
    head = ("STEP", "STATUS", "TRIES", "TIME", "VALUE")
    return table(head, (_row(path, step) for path, step in steps.items()))


def failed_steps(run: Run) -> Mapping[str, StepView]:
    """Return the steps, items and inner steps that failed, also those whose failure `on_error` let pass."""
    return {
        path: step for path, step in run.steps.items() if step.status == "failed" or step.error is not None
    }


async def retries_text(engine: AnyEngine, run: Run) -> str:
    """Return why attempts of a run were repeated, a line for each; empty for a run that is still going on."""
    if run.status in ("queued", "running") or all(step.attempts < 2 for step in run.steps.values()):
        return ""
    why, lines = dict[str, str](), list[str]()
    async for event in engine.events(run.id):
        if event.type in REMEDIED:
            why[event.step] = failure_line(event)
        elif event.type == "RetryScheduled":
            attempt = int(str(event.data.get("attempt"))) - 1
            lines.append(f"{one_line(event.step)}: attempt {attempt} failed: {why.get(event.step, '')}")
    more = len(lines) - RETRIES_SHOWN_MAX
    return "\n".join([*lines[:RETRIES_SHOWN_MAX], *([f".. and {more} more"] if more > 0 else [])])


def decisions_text(run: Run) -> str:
    """Return what people decided about the run's calls, in plan order."""
    lines = [
        f"{path}: {_decided(step.decision)}"
        for path, step in run.steps.items()
        if isinstance(step.decision, dict)
    ]
    return "\n".join(lines)


def guards_text(run: Run) -> str:
    """Return what guards refused, in plan order: the answers that were asked for again, and the results that failed their calls."""
    lines: list[str] = []
    parents = {path[: mark.start()] for path in run.steps for mark in PART.finditer(path)}
    for path, step in run.steps.items():
        if path in parents or not isinstance(step.guards, dict):
            continue
        for name, verdict in step.guards.items():
            match verdict:
                case {"held": int(held), "refused": int(refused), **rest} if refused:
                    why = f": {one_line(str(rest['why']))}" if rest.get("why") else ""
                    lines.append(
                        f"{path}: the guard '{one_line(name)}' refused {refused} of {held + refused}{why}"
                    )
                case _:
                    pass
    return "\n".join(lines)


def _decided(decision: Mapping[str, Any]) -> str:
    words = str(decision["decision"])
    if decision.get("by"):
        words += f" by {one_line(decision['by'])}"
    if decision.get("reason"):
        words += f": {one_line(decision['reason'])}"
    return words + (f", called with {_whole(decision['args'])}" if "args" in decision else "")


PART = late_pattern(r"[\[#/]")
"""What stands between a step's path and its part's."""


async def view_of(engine: AnyEngine, run: Run) -> WaitingCalls | None:
    """Return the view of the calls that wait for a person; `None`: nothing does."""
    if all(
        step.attempt is None for step in run.steps.values()
    ):  # a look at the journal costs as much as a rebuild
        return None
    return await engine.waiting(run.id)


def _whole(value: object) -> str:
    """Return a value on one line, complete: the person who decides has to see all of it."""
    return one_line(json.dumps(value, ensure_ascii=False))


def _asked(step: StepView, call: WaitingCall | None, *, is_first: bool = True) -> str:
    """Return what a person sees of a call that waits; without its view, the arguments and what an earlier run knows of it."""
    args = "" if step.args is None else f"\n  called with {_whole(step.args)}"
    if call is not None:
        width = picture_width()
        text = call.text(width - 2, with_description=is_first)
        args = args if columns(args) + 2 <= width else ""  # longer arguments follow, each by itself
        return args + "".join(f"\n  {line}" for line in text.split("\n")[1:])
    if step.asked_again:
        args += f"\n  asked again: {one_line(step.asked_again)}"
    match step.past_write:
        case {"message": str(message), "same_key": same_key}:
            key = "; approved unchanged, it is called under the same idempotency key" if same_key else ""
            return f"{args}\n  {one_line(message)}{key}"
        case _:
            return args


def advice(run: Run, settings: Settings, waiting: WaitingCalls | None = None) -> str:
    """Return what the run waits for, and the exact commands that let it go on.

    Args:
        run: The run.
        settings: The settings of this command, which the commands repeat.
        waiting: The view of the calls that wait for a person; `None`: only their arguments are shown.
    """
    if run.is_replay:
        return f"a kept replay never continues; continue the run that it replays, {run.parent}, with\n  {resume_line(run.parent or '', settings)}"
    lines = [waiting.head(picture_width())] if waiting is not None else []

    views = {call.step: call for call in waiting.calls} if waiting is not None else {}
    view = views.get

    def typed(word: str, step: str, wants: str = "") -> str:
        return f"  {_decision_line(word, run.id, step, wants, settings)}"

    lines += _question_lines(run, settings)
    lists = lists_in(run)
    for path, step in waiting_leaves(run):
        if (items := lists.get(path)) is not None:
            lines += _list_asked(run, items, settings, view)
        elif step.status == "indeterminate":
            # If a person runs this line again later, it must not resolve a later attempt, whose outcome may be unknown too.
            bound = f"--attempt {step.attempt}"
            lines += [
                f"step '{path}', attempt {step.attempt}: it is unknown whether the call took effect{_asked(step, view(path))}",
                "Find out, then one of",
                typed("resolve", path, f"--done JSON {bound}"),
                typed("resolve", path, f"--retry {bound}"),
                typed("resolve", path, f"--fail WHY {bound}"),
            ]
        elif step.reason == "question":
            lines += [
                f"step '{path}' waits for an answer{_asked(step, view(path))}",
                typed("answer", path, "JSON"),
                typed("deny", path, "--reason WHY"),
            ]
        elif step.reason == "timer":
            lines.append(f"step '{path}' waits until {time_text(step.until or 0.0)}")
        # A list of waiting calls is one question with one command; the same lines for each of a hundred items would hide it.
        elif step.reason != "budget":  # it waits for no person: one line below is for all that do so
            lines += [
                f"step '{path}' waits: {step.reason or 'a person has to decide'}{_asked(step, view(path))}",
                typed("approve", path),
                typed("deny", path, "--reason WHY"),
            ]
    return "\n".join([*lines, *_go_on_lines(run, settings, has_to_be_done=bool(lines))])


def _go_on_lines(run: Run, settings: Settings, *, has_to_be_done: bool) -> list[str]:
    """Return the command that lets a run go on, or that shows how a server or a worker goes on with it."""
    first: list[str] = []
    raised = ""
    if run.status == "over_budget":
        first.append(f"the budget is used up (so far {_used(run)}): raise it")
        raised = " --budget NAME=AMOUNT"
    elif (other := continues_elsewhere(settings)) is not None and run.status != "parked":
        then = "then " if has_to_be_done else ""
        return [f"{then}{other} continues it; watch it with", f"  {watch_line(run.id, settings)}"]
    line = f"  {resume_line(run.id, settings)}{raised}"
    when = _when_to_resume(run, has_to_be_done or bool(first))
    taken = ["or, if that process hangs, take the run from it with", f"{line} --take-over"]
    return [*first, when, line, *(taken if when == DRIVEN else [])]


def _question_lines(run: Run, settings: Settings) -> list[str]:
    """Return what the planner of a run asks, and the command that answers."""
    if run.question is None:
        return []
    returns = json.dumps(run.question["returns"], ensure_ascii=False)
    return [
        f"the planner asks before it plans: {one_line(str(run.question['text']))}",
        f"  expected: {one_line(returns)}",
        f"  {_decision_line('answer', run.id, '-', 'JSON', settings)}",
    ]


def _when_to_resume(run: Run, has_to_be_done: bool) -> str:
    if run.status == "parked":
        return "after the cause is fixed, continue it with"
    if has_to_be_done:
        return "then continue it with"
    return "its process is gone; continue it with" if run.abandoned else DRIVEN


def lists_in(run: Run) -> Mapping[str, Sequence[str]]:
    """Return leaf -> the paths of its list of calls that wait for approval: all paths at the first leaf, none at the others."""
    found: dict[str, list[str]] = {}
    for path, step in waiting_leaves(run):
        if step.attempt is not None and step.reason == "approval" and "[" in path:
            found.setdefault(path[: path.rindex("[")], []).append(path)
    return {
        path: items if path == items[0] else []
        for items in found.values()
        if len(items) > 1
        for path in items
    }


def _list_asked(
    run: Run, items: Sequence[str], settings: Settings, view: Callable[[str], WaitingCall | None]
) -> Iterator[str]:
    """Yield the question about the items of a list, and the commands that decide about all or some items."""
    if items:
        step = items[0][: items[0].rindex("[")]
        yield f"step '{step}': {len(items)} calls wait for approval"
        for path in items:
            yield f"  {path}{_asked(run.steps[path], view(path), is_first=path == items[0]).replace(chr(10), ' ', 1)}"
        yield "Decide about all of them, or about some"
        yield f"  {_decision_line('decide', run.id, f'{step}=approve', '', settings)}"
        some = shlex.quote(f"{items[1]}=deny")
        yield f"  {_decision_line('decide', run.id, f'{items[0]}=approve', some, settings)}"


def _used(run: Run) -> str:
    """Return what a run and its planning have used, in the form that `--budget` takes."""
    planning = run.usage.get("planning")
    parts = [run.usage, planning if isinstance(planning, dict) else {}]
    sums = [
        (name, [amount for part in parts if isinstance(amount := part.get(name), int | float)])
        for name in sorted(
            LIMITS, key=lambda name: name in ("calls", "items")
        )  # what is usually limited comes first
    ]
    amounts = [(name, sum(given)) for name, given in sums if sum(given)]
    return (
        ", ".join(
            f"{name}={amount:.4g}" if isinstance(amount, float) else f"{name}={amount}"
            for name, amount in amounts
        )
        or "nothing"
    )


def waiting_leaves(run: Run) -> Iterator[tuple[str, StepView]]:
    """Yield the leaves that a person has to decide: a parent only waits because one of them does."""
    for path in leaves_in(run, "waiting", "indeterminate"):
        yield path, run.steps[path]


def leaves_in(run: Run, *statuses: str) -> Iterator[str]:
    """Yield the paths of the leaves that have one of these statuses; a parent has it because one of its parts does."""
    found = [path for path, step in run.steps.items() if step.status in statuses]
    parents = {path[: mark.start()] for path in found for mark in PART.finditer(path)}
    yield from (path for path in found if path not in parents)


def _row(path: str, step: StepView) -> tuple[str, ...]:
    took = step.finished - step.started if step.finished is not None and step.started is not None else None
    if step.status == "succeeded":
        value = value_short(step.output)
    elif step.error is not None:
        value = f"{step.error.code}: {step.error.message}"
    else:
        value = skipped_because(step.reason) if step.status == "skipped" else step.reason or ""
        if step.reason == "timer" and step.until is not None:
            value = f"until {time_text(step.until)}"
    status = "reused" if step.reused else step.status
    return path, status, str(step.attempts or ""), seconds(took) if took is not None else "", one_line(value)


# Commands to copy. They repeat the flags that this command was given; settings of the environment and of the file
# apply to the copied command anyway.


def continues_elsewhere(settings: Settings) -> str | None:
    """Return who continues runs without a command, for people; `None`: nobody, or a process that is not known."""
    if settings.server is not None:
        return "the server"
    return "a worker" if settings.backend is not None else None


def resume_line(run_id: str, settings: Settings) -> str:
    """Return the command that lets a run go on."""
    return f"firmplan resume {run_id}{flags_of(settings, MOVES)}"


def watch_line(run_id: str, settings: Settings) -> str:
    """Return the command that shows a run's progress."""
    return f"firmplan watch {run_id}{flags_of(settings)}"


def retry_line(run_id: str, settings: Settings) -> str:
    """Return the command that continues an ended run as a new run."""
    return f"firmplan retry {run_id}{flags_of(settings, MOVES)}"


def _decision_line(word: str, run_id: str, step: str, rest: str, settings: Settings) -> str:
    """Return the command that decides about a step."""
    return f"firmplan {word} {run_id} {shlex.quote(step)}{f' {rest}' if rest else ''}{flags_of(settings)}"


def flags_of(settings: Settings, names: tuple[str, ...] = STORE) -> str:
    """Return the flags of these settings that the command line gave, each after a space; those of an engine mean nothing at a server."""
    if settings.server is not None:
        return (
            f" --server {shlex.quote(settings.server)}" if settings.origin("server") == COMMAND_LINE else ""
        )
    values: dict[str, tuple[object, ...]] = {
        "tools": settings.tools,
        "store": (settings.store_name,),
        "model": (settings.model,),
        "base_url": (settings.base_url,),
        "concurrency": (settings.concurrency,),
        "artifacts": (settings.artifacts,),
    }
    return "".join(
        f" --{name.replace('_', '-')} {shlex.quote(str(each))}"
        for name in names
        if settings.origin(name) == COMMAND_LINE
        for each in values[name]
    )


def plan_text(plan: Plan, toolset: Toolset | None) -> str:
    """Return the plan that a planner made of a task, for a person who is to decide whether it runs: picture, what is left out, and the calls."""
    picture = plan.render("text", toolset, width=picture_width(sys.stderr)).rstrip("\n")
    left_out = [f"left out: {one_line(text)}" for text in plan.left_out]
    lines = [picture, *left_out]
    if toolset:
        lines.append(_calls_text(check(plan, toolset).bounds))
        lines += _writes_text(plan, toolset)
    return "\n".join(lines)


def _writes_text(plan: Plan, toolset: Toolset) -> list[str]:
    """Return which tools of a plan change the world, as a line; none: no line."""
    bodies: Sequence[Plan | InnerPlan] = [plan, *plan.plans.values()]
    used = sorted({name for body in bodies for step in body.steps for name in _tools_of(step)})
    found = [tool for name in used if (tool := toolset.find(name)) is not None and tool.effect == "write"]
    names = [f"{tool.name} (asks for approval)" if tool.approval == "always" else tool.name for tool in found]
    return [f"changes the world by {', '.join(names)}"] if names else []


def _tools_of(step: Step) -> Sequence[str]:
    match step:
        case ToolStep(tool=name):
            return (name,)
        case AgentStep() | PlanForStep():
            return step.may_call
        case _:
            return ()


def report_text(report: CheckReport) -> str:
    """Return the report of a check; a plan that may run has its bounds with it."""
    if not report.ok:
        return str(report)
    path = " -> ".join(report.bounds.critical_path)
    return f"{report}\n{_calls_text(report.bounds)}" + (f"\nlongest chain: {path}" if path else "")


def _calls_text(bounds: Bounds) -> str:
    calls = (
        "as many calls as its data asks for"
        if bounds.calls_max is None
        else f"at most {plural(bounds.calls_max, 'call')}"
    )
    models = "" if not bounds.model_calls_max else f", {bounds.model_calls_max} of them to a model"
    return f"{calls}{models}"
