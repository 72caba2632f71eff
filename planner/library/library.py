"""The library: saved plans, from a folder, from files, or handed over, and which of them answers a task.

A folder is read anew for each task, so that a plan put there is found. A file's name without its ending is its plan's
name. Finding compares words only; whether a plan that fits may run is asked by the planner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from os import PathLike
from pathlib import Path
from typing import TypeAlias, cast

from ...errors import ConfigError, InputRejected, PlanRejected
from ...plans.plan import Plan
from ...plans.values import Json
from ..saved import SavedPlan
from .pattern import TaskPattern, plain

SUFFIXES = (".json", ".yaml", ".yml")
FILES_MAX = 2_000
"""Files of a folder that are read: each costs about a millisecond, for every task."""

Entry: TypeAlias = "str | PathLike[str] | Plan | SavedPlan"


@dataclass(frozen=True, slots=True)
class Fit:
    """A saved plan whose pattern a task matches, with the inputs from the task's words and from the caller.

    Attributes:
        doubt: Why the words may mean something else; `None`: they do not.
    """

    saved: SavedPlan
    inputs: dict[str, Json]
    doubt: str | None = None


class Library:
    """Saved plans.

    Args:
        source: A folder, a file, or a list of files, folders, plans and saved plans; `None`: an empty library.

    Raises:
        ConfigError: Something in it is none of these, or is not there.
    """

    def __init__(self, source: Entry | Iterable[Entry] | None = None) -> None:
        self._entries = [_entry(entry) for entry in _listed(source)]

    def plans(self) -> list[SavedPlan]:
        """Return the saved plans, files in the order of their names.

        Raises:
            ConfigError: A file holds no plan; the message names it.
        """
        found: list[SavedPlan] = []
        for entry in self._entries:
            match entry:
                case SavedPlan():
                    found.append(entry)
                case Plan():
                    found.append(SavedPlan(entry.task or entry.digest, entry))
                case _:
                    found += [_load(file) for file in _files(entry)]
        return found


def fits(task: str, saved: Sequence[SavedPlan], given: Mapping[str, Json]) -> list[Fit]:
    """Return the saved plans that a task fits, the most specific first, then by name.

    What the caller gives as an input goes before what the words say.
    """
    found: list[tuple[tuple[int, int], str, Fit]] = []
    for each in saved:
        pattern = TaskPattern.of(each.plan)
        reading = None if pattern is None else pattern.reading(task)
        if pattern is not None and reading is not None:
            fit = Fit(each, {**reading.inputs, **given}, reading.doubt)
            found.append((pattern.rank, each.name, fit))
    return [fit for *_, fit in sorted(found, key=lambda entry: entry[:2])]


def nearest_tasks(task: str, saved: Sequence[SavedPlan], most: int = 3) -> list[SavedPlan]:
    """Return the saved plans whose tasks read most like this one."""
    wanted = plain(task).casefold()[:500]

    def likeness(each: SavedPlan) -> float:
        return SequenceMatcher(None, wanted, plain(each.plan.task or "").casefold()[:500]).ratio()

    asked = [each for each in saved[:FILES_MAX] if each.plan.task]
    return sorted(asked, key=lambda each: (-likeness(each), each.name))[:most]


def _listed(source: object) -> list[object]:
    """Return what a library is made of, one entry or many, as a list."""
    if source is None:
        return []
    is_one = isinstance(source, str | PathLike | Plan | SavedPlan) or not isinstance(source, Iterable)
    return [source] if is_one else list(cast("Iterable[object]", source))


def _entry(entry: object) -> Path | Plan | SavedPlan:
    if isinstance(entry, Plan | SavedPlan):
        return entry
    if isinstance(entry, str | PathLike):
        path = Path(cast("str", entry)).expanduser()
        if path.exists():
            return path
        raise ConfigError(f"library: expected a folder of plans or a plan file, found nothing at {path}")
    raise ConfigError(f"library: expected a folder, or a list of files and plans, found {entry!r}")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())[
        :FILES_MAX
    ]


def _load(file: Path) -> SavedPlan:
    try:
        return SavedPlan(file.stem, Plan.load(file))
    except (InputRejected, PlanRejected) as fault:
        raise ConfigError(f"library: {file} holds no plan: {fault}") from fault
