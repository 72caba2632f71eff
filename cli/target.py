"""What the argument of `run`, `check` and `show` means: a file, a saved plan, or a task in words.

An existing file is a plan. What looks like a file's name and is not there is a mistake, never a task: a model
should not be asked to plan a typing error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..engine import Engine
from ..errors import InputRejected, PlanRejected
from ..plans import CheckReport, Plan, read_text

PLAN_SUFFIXES = (".json", ".yaml", ".yml")


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
        InputRejected: It looks like a file's name, and there is no such file, or a folder.
    """
    if (file := find_file(what)) is not None:
        return file
    if (plan := await engine.find_plan(what)) is not None:
        return SavedName(what, plan)
    if not what.strip():
        raise InputRejected("expected a plan's file, a saved plan's name, or a task in words, found nothing")
    return Task(what)


async def find_plan(engine: Engine, what: str) -> PlanText | SavedName:
    """Return the plan that the argument names.

    Raises:
        InputRejected: There is none of that name.
    """
    match await find_target(engine, what):
        case Task():
            raise InputRejected(
                f"expected a plan's file or a saved plan's name, found neither under {what!r}; `firmplan plans` lists the saved ones"
            )
        case target:
            return target


def find_file(what: str) -> PlanText | None:
    """Return the plan file that the argument names, or `None` where it does not look like one.

    Raises:
        InputRejected: It looks like one, and cannot be read as text.
    """
    path = Path(what)
    looks_like_one = path.suffix.lower() in PLAN_SUFFIXES and "\n" not in what
    if not looks_like_one and not _is_there(path):
        return None
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
