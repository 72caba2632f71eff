"""The words of a command line that name or hold something: plans, tasks, inputs, budgets, JSON values.

An existing file is a plan, also a pipe such as bash's `<(..)`; `-` is standard input. A word that looks like a file's name or like a saved plan's name, but names neither, is a mistake and
never a task: a model should not be asked to plan a typing error. Such a word has only letters that names use; it is a task only if
a saved plan answers it.

An input is read by its declared type, not by its looks. Where the plan expects a string, `7` is the string "7"; where the plan
expects an integer, `seven` is an error that names the input, the expected type and the value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..engine import Engine
from ..errors import InputRejected, PlanRejected, RunNotFound
from ..executor.runs.request import fitted_inputs
from ..lazy_imports import late_pattern
from ..planner.library.library import SavedPlan, find_matches
from ..planner.request import is_missing_input
from ..plans import (
    CheckReport,
    Json,
    NotJson,
    Plan,
    parse,
    plan_of_text,
    read_stream,
    read_text,
    value_problems,
)
from ..plans.immutable import immutable
from ..plans.inputs import fit_given
from ..plans.reports.errors import LocalProblem
from ..plans.reports.nearest import did_you_mean, nearest
from ..plans.types.read import read_schema
from ..plans.types.show import type_text
from ..plans.types.types import Scalar, Type, members
from .config import Settings
from .invocation import is_model_configured
from .screen import note

if TYPE_CHECKING:
    from ..client import PlanEntry
    from .remote import AnyEngine

PLAN_SUFFIXES = (".json", ".yaml", ".yml")
_NAME: Final = late_pattern(r"[A-Za-z0-9_.:~/\\-]+")
STDIN: Final = "-"
"""The word for the plan on standard input."""
LISTED: Final = "`firmplan plans` lists the saved ones"
FILES_MAX: Final = 1_000
"""At most so many files of a folder are searched for the nearest name."""


@immutable
class PlanText:
    """A plan as the text of a file, so that its problems can name lines. The text is read once: a pipe has it only once."""

    path: Path
    text: str

    def plan(self) -> Plan:
        """Return the plan. Raises: PlanRejected: the text has not the shape of a plan."""
        return plan_of_text(self.text)


@immutable
class SavedName:
    """A plan of the store."""

    name: str
    plan: Plan


@immutable
class Task:
    """Words to be planned."""

    words: str


Target: TypeAlias = PlanText | SavedName | Task


async def find_target(engine: AnyEngine, what: str) -> Target:
    """Return what the argument means.

    Raises:
        InputRejected: It looks like a name, and there is no such file or plan, or a folder.
    """
    if (known := await _find_known(engine, what)) is not None:
        return known
    if not what.strip():
        raise InputRejected("expected a plan's file, a saved plan's name, or a task in words, found nothing")
    if _NAME.fullmatch(what):
        saved = await engine.list_plans()
        if not _is_matched(what, saved):
            raise InputRejected(
                f"expected a plan's file, a saved plan's name, or a task in words, found {what!r}, which is "
                + (
                    f"a run: `firmplan resume {what}` goes on with it, `firmplan show {what}` shows it"
                    if await _is_run(engine, what)
                    else f"none of them; {nearest_name(what, [each.name for each in saved])}"
                )
            )
    return Task(what)


def _is_matched(task: str, saved: Sequence[SavedPlan] | Sequence[PlanEntry]) -> bool:
    """Whether a saved plan answers a task; at a server, which knows the plans, a word without spaces is never a task."""
    known = [each for each in saved if isinstance(each, SavedPlan)]
    return bool(find_matches(task, known, {}))


async def _is_run(engine: AnyEngine, what: str) -> bool:
    try:
        await engine.get(what)
    except RunNotFound:
        return False
    return True


async def find_plan(engine: AnyEngine, what: str) -> PlanText | SavedName:
    """Return the plan that the argument names.

    Raises:
        InputRejected: There is none of that name.
    """
    if (known := await _find_known(engine, what)) is not None:
        return known
    saved = [each.name for each in await engine.list_plans()]
    raise InputRejected(
        f"expected a plan's file or a saved plan's name, found neither under {what!r}; {nearest_name(what, saved)}"
    )


async def get_saved_plan(engine: AnyEngine, name: str) -> Plan:
    """Return a saved plan by its name or digest. Raises: InputRejected: there is none, with the nearest name."""
    if (plan := await engine.find_plan(name)) is not None:
        return plan
    saved = [each.name for each in await engine.list_plans()]
    raise InputRejected(f"no plan is saved as {name!r}; {did_you_mean(name, saved, LISTED)}")


async def _find_known(engine: AnyEngine, what: str) -> PlanText | SavedName | None:
    if (file := find_file(what)) is not None:
        return file
    plan = await engine.find_plan(what)
    return None if plan is None else SavedName(what, plan)


def nearest_name(what: str, saved: Sequence[str], otherwise: str = LISTED) -> str:
    """Return a hint: the nearest file of a plan in the same folder, or the nearest saved plan; else `otherwise`."""
    named = Path(what)
    # Endings are left out, because they are alike and would make all names near.
    files = {str(each.with_suffix("")): str(each) for each in _plan_files(named.parent)}
    sought = str(named.with_suffix("")) if named.suffix.lower() in PLAN_SUFFIXES else str(named)
    near = nearest(sought, [*saved, *files])
    return otherwise if near is None else f"did you mean '{near if near in saved else files[near]}'?"


def _plan_files(folder: Path) -> list[Path]:
    try:
        found = sorted(islice(folder.iterdir(), FILES_MAX))
    except OSError:  # no such folder, or one that may not be read
        return []
    return [each for each in found if each.suffix.lower() in PLAN_SUFFIXES]


def find_file(what: str) -> PlanText | None:
    """Return the plan file that the argument names, or `None` where it does not look like one.

    Raises:
        InputRejected: It looks like one, and cannot be read as text.
    """
    if what == STDIN:
        return PlanText(Path(STDIN), _decoded(_read_stdin(), "standard input"))
    path = Path(what)
    looks_like_one = path.suffix.lower() in PLAN_SUFFIXES and "\n" not in what
    if not looks_like_one and not _is_there(path):
        return None
    if looks_like_one and not _is_there(path):
        raise InputRejected(
            f"expected a plan's file, found nothing at {path}: {nearest_name(what, (), 'check the path')}"
        )
    return PlanText(path, _decoded(read_text(path), str(path)))


def _read_stdin() -> bytes:
    """Return the plan on standard input. Raises: InputRejected: there is none."""
    if sys.stdin.isatty():
        note("reading a plan from the terminal; Ctrl-D ends it")
    try:
        text = read_stream(sys.stdin.buffer)
    except (OSError, ValueError) as error:
        raise InputRejected(f"expected a plan on standard input, which cannot be read: {error}") from error
    if not text.strip():
        raise InputRejected("expected a plan on standard input, found nothing")
    return text


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InputRejected(
            f"expected a plan in UTF-8, but byte {error.start} of {where} is not UTF-8"
        ) from error


def expect_plan_file(output: Path | None) -> None:
    """Raise where a plan cannot be written under that name. Raises: InputRejected."""
    if output is not None and output.suffix.lower() not in PLAN_SUFFIXES:
        raise InputRejected(f"--output {output}: expected a name that ends in {', '.join(PLAN_SUFFIXES)}")


async def checked(engine: AnyEngine, target: PlanText | SavedName) -> tuple[Plan, CheckReport]:
    """Return the plan and the report of its check, which may hold warnings.

    Raises:
        PlanRejected: The plan has faults.
    """
    report = await report_on(engine, target)
    if not report.ok:
        raise PlanRejected(report)
    return (target.plan if isinstance(target, SavedName) else target.plan()), report


async def report_on(engine: AnyEngine, target: PlanText | SavedName) -> CheckReport:
    """Return the report of the plan's check."""
    return await engine.check_plan(target.plan if isinstance(target, SavedName) else target.text)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # words can be longer than a file's name may be
        return False


async def read_task(
    engine: AnyEngine, task: str, words: Sequence[str], settings: Settings
) -> dict[str, Json]:
    """Return the inputs of a task, read by the types of the saved plan that answers the task, else by their looks.

    Raises:
        PlanningFailed: No saved plan answers the task, and no model is configured.
        InputRejected: The saved plan that answers it lacks an input, or an input does not fit.
    """
    if not isinstance(engine, Engine):
        return read_inputs(words, None)  # the server plans the task, and knows what fits
    # The planner would find the same problems, but in a run that is stored by then: a wrong command stores nothing.
    saved = await engine.list_plans()
    inputs = read_inputs(words, _taking([fit.saved.plan for fit in find_matches(task, saved, {})], words))
    found = find_matches(task, saved, inputs)
    problems = [fit_given(fit.saved.plan, fit.inputs)[1] for fit in found]
    if found and all(problems) and all(is_missing_input(each, found[0].inputs) for each in problems[0]):
        fitted_inputs(found[0].saved.plan, found[0].inputs)
    if not is_model_configured(settings):
        fitting = [fit.saved.plan for fit, misfits in zip(found, problems, strict=True) if not misfits]
        if not any([(await engine.check_plan(plan)).ok for plan in fitting]):
            await engine.plan(task, inputs=inputs or None)
    return inputs


def _taking(plans: Sequence[Plan], words: Sequence[str]) -> Plan | None:
    """Return the first plan that takes all inputs of these names."""
    names = [name_of(word) for word in words]
    return next((plan for plan in plans if all(name in plan.inputs for name in names)), None)


SHAPE_KEYS = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")


def read_inputs(words: Sequence[str], plan: Plan | None) -> dict[str, Json]:
    """Return the inputs written as `name=value`.

    Args:
        words: What stood behind each `--input`.
        plan: The plan that declares the inputs; for a task there is none yet, and what reads as JSON is JSON.

    Raises:
        InputRejected: A word is no `name=value`, a name is given twice or not declared, or a value does not fit.
    """
    pairs = _pairs("--input", words)
    if plan is None:
        return {name: _guess(text) for name, text in pairs.items()}
    for name in pairs:
        if name not in plan.inputs:
            known = ", ".join(plan.inputs) or "none"
            hint = did_you_mean(name, list(plan.inputs))
            raise InputRejected(
                f"--input {name}: the plan has no such input; it takes {known}"
                + (f"; {hint}" if hint else "")
            )
    return {name: _read(name, text, plan.inputs[name], plan.types) for name, text in pairs.items()}


def name_of(word: str) -> str:
    """Return the name in `name=value`."""
    return word.partition("=")[0]


def read_budget(words: Sequence[str]) -> dict[str, float] | None:
    """Return the budget written as `name=amount`, or `None` where nothing was written; the engine knows the names.

    Raises:
        InputRejected: An amount is no number.
    """
    return {name: _read_amount(name, text) for name, text in _pairs("--budget", words).items()} or None


def read_step_values(words: Sequence[str]) -> dict[str, Json]:
    """Return the values written as `step=json`.

    Raises:
        InputRejected: A word is no `step=json`, or a step is given twice.
    """
    pairs = _pairs("--set", words, "STEP=JSON")
    return {path: read_json(f"--set {path}", text) for path, text in pairs.items()}


def _read_amount(name: str, text: str) -> float:
    try:
        amount = parse(text)
    except NotJson:
        amount = None
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise InputRejected(f"--budget {name}: expected a number, found {text!r}")
    return amount


def read_json(where: str, text: str) -> Json:
    """Return the value of JSON text.

    Raises:
        InputRejected: The text is not JSON; a bare word gets the hint that text needs quotes.
    """
    try:
        return parse(text)
    except NotJson as error:
        raise InputRejected(
            f"{where}: expected JSON, found {text!r}; text needs quotes: {json.dumps(text, ensure_ascii=False)}"
        ) from error


def _pairs(option: str, words: Sequence[str], form: str = "NAME=VALUE") -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputRejected(f"{option}: expected {form}, found {word!r}")
        if name in pairs:
            raise InputRejected(f"{option} {name}: given twice")
        pairs[name] = text
    return pairs


def _read(name: str, text: str, schema: Mapping[str, Any], types: Mapping[str, Any]) -> Json:
    """Return an input's value: the text itself if that fits its type, else what it is as JSON."""
    if not any(key in schema for key in SHAPE_KEYS):
        return _guess(text)
    # Text comes first: `7` for a string, or for a string or an integer, is the text that the person typed.
    of_text = value_problems(text, schema, types)
    if not of_text:
        return text
    wanted = read_schema(schema, types)[0]
    try:
        value = parse(text)
        of_value = value_problems(value, schema, types)
        if not of_value:
            return value
    except NotJson as error:
        if not _takes_text(wanted):
            why = "which is not JSON" if "not JSON: " in str(error) else str(error).removeprefix("$: ")
            raise InputRejected(
                f"--input {name}: expected {type_text(wanted)}, found {text!r}, {why}"
            ) from error
        of_value = of_text
    found = of_text if _takes_text(wanted) else of_value
    raise InputRejected(f"--input {name}: {'; '.join(map(_problem_text, found))}")


def _problem_text(problem: LocalProblem) -> str:
    where = f" (at ${problem.inner})" if problem.inner else ""
    return f"{problem.message}{where}{f'; {problem.hint}' if problem.hint else ''}"


def _takes_text(wanted: Type) -> bool:
    return any(isinstance(member, Scalar) and member.kind == "string" for member in members(wanted))


def _guess(text: str) -> Json:
    try:
        return parse(text)
    except NotJson:
        return text
