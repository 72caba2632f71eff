"""What the argument of `run`, `check` and `show` means: a file, a saved plan, or a task in words.

An existing file is a plan. What looks like a file's name or a saved plan's and is not there is a mistake, never a task: a
model should not be asked to plan a typing error. A single word of letters that names use is such a name, unless a saved plan
answers it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from ..engine import Engine
from ..errors import InputRejected, PlanRejected, RunNotFound
from ..planner.library.library import find_matches
from ..plans import CheckReport, Plan, read_text
from ..plans.nearest import nearest

PLAN_SUFFIXES = (".json", ".yaml", ".yml")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:~/\\-]+")
LISTED: Final = "`firmplan plans` lists the saved ones"
FILES_MAX: Final = 1_000
"""Files of a folder that are looked through for the nearest name."""


@dataclass(frozen=True, slots=True)
class PlanText:
    """A plan as it stands in a file: its problems can name lines."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class SavedName:
    """A plan of the store."""

    name: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Task:
    """Words to be planned."""

    words: str


Target: TypeAlias = PlanText | SavedName | Task


async def find_target(engine: Engine, what: str) -> Target:
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
        if not find_matches(what, saved, {}):
            raise InputRejected(
                f"expected a plan's file, a saved plan's name, or a task in words, found {what!r}, which is "
                + (
                    f"a run: `firmplan resume {what}` goes on with it, `firmplan show {what}` shows it"
                    if await _is_run(engine, what)
                    else f"none of them; {nearest_name(what, [each.name for each in saved])}"
                )
            )
    return Task(what)


async def _is_run(engine: Engine, what: str) -> bool:
    try:
        await engine.get(what)
    except RunNotFound:
        return False
    return True


async def find_plan(engine: Engine, what: str) -> PlanText | SavedName:
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


async def _find_known(engine: Engine, what: str) -> PlanText | SavedName | None:
    if (file := find_file(what)) is not None:
        return file
    plan = await engine.find_plan(what)
    return None if plan is None else SavedName(what, plan)


def nearest_name(what: str, saved: Sequence[str], otherwise: str = LISTED) -> str:
    """Return what may have been meant: the nearest plan file beside the one named, or saved plan; else where they are listed."""
    named = Path(what)
    # Without their endings, which are alike.
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
    path = Path(what)
    looks_like_one = path.suffix.lower() in PLAN_SUFFIXES and "\n" not in what
    if not looks_like_one and not _is_there(path):
        return None
    if looks_like_one and not _is_there(path):
        raise InputRejected(
            f"expected a plan's file, found nothing at {path}: {nearest_name(what, (), 'check the path')}"
        )
    try:
        return PlanText(path, read_text(path).decode())
    except UnicodeDecodeError as error:
        raise InputRejected(
            f"expected a plan in UTF-8, found byte {error.start} of {path} to be none"
        ) from error


def expect_plan_file(output: Path | None) -> None:
    """Raise where a plan cannot be written under that name. Raises: InputRejected."""
    if output is not None and output.suffix.lower() not in PLAN_SUFFIXES:
        raise InputRejected(f"--output {output}: expected a name that ends in {', '.join(PLAN_SUFFIXES)}")


async def checked(engine: Engine, target: PlanText | SavedName) -> tuple[Plan, CheckReport]:
    """Return the plan and the report of its check, which may hold warnings.

    Raises:
        PlanRejected: The plan has faults.
    """
    report = await report_on(engine, target)
    if not report.ok:
        raise PlanRejected(report)
    return (target.plan if isinstance(target, SavedName) else Plan.load(target.path)), report


async def report_on(engine: Engine, target: PlanText | SavedName) -> CheckReport:
    """Return the report of the plan's check."""
    return await engine.check_plan(target.plan if isinstance(target, SavedName) else target.text)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # words can be longer than a file's name may be
        return False
