"""Saved plans: a library of them, the plans whose pattern matches a task, and the record of how they fared.

A folder is read again for each task, so that a new plan is found immediately. A plan's name is its file's name without the ending.
`find_matches` compares words only; whether a plan that matches passes its check is for the planner to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal, TypeAlias, cast

from ...errors import ConfigError, InputRejected, PlanRejected
from ...plans.format.saved import template_digest
from ...plans.immutable import frozen, immutable
from ...plans.plan import Plan
from ...plans.values import Json
from .pattern import TaskPattern, own_words
from .retrieval import ranked_by_words

SUFFIXES = (".json", ".yaml", ".yml")
NEAREST_MAX = 3
"""Saved plans that a message names."""

FILES_MAX = 2_000
"""Files of a folder that are read: each costs about a millisecond, for every task."""


@frozen
class SavedPlan:
    """A plan under a name. `plan.task`, with `{input}` holes, is the pattern of the tasks that the plan answers."""

    name: str
    plan: Plan


Entry: TypeAlias = "str | PathLike[str] | Plan | SavedPlan"

UseOutcome: TypeAlias = Literal["answered", "check", "model"]
"""The outcome of a use of a saved plan.

| outcome | what happened | counted as a hit |
| --- | --- | --- |
| `answered` | the task's plan is the saved plan | yes, unless its run fails or is cancelled |
| `check` | the pattern matches, but the plan does not pass its check, or its inputs do not take the values | no |
| `model` | the plan shares words with the task, and a model turned it down or filled it in wrongly | no |

If the model could not be asked, nothing is known about the plan, and there is no use.
"""


@frozen
class Use:
    """One time that a saved plan seemed to answer a task.

    Attributes:
        digest: Of the plan and its pattern (`template_digest`): an edited plan or pattern is counted anew.
    """

    name: str
    digest: str
    outcome: UseOutcome

    @classmethod
    def of(cls, saved: SavedPlan, outcome: UseOutcome) -> Use:
        """Return a use of a saved plan."""
        return cls(saved.name, template_digest(saved.plan), outcome)


Used: TypeAlias = Callable[[Use], None]
"""A callback for each use."""


class Library:
    """Saved plans.

    Args:
        source: A folder, a file, or a list of files, folders, plans and saved plans; `None`: an empty library.

    Raises:
        ConfigError: An entry is none of these, or does not exist.
    """

    def __init__(self, source: Entry | Iterable[Entry] | None = None) -> None:
        self._entries = [_entry(entry) for entry in _listed(source)]

    def plans(self) -> list[SavedPlan]:
        """Return the saved plans, files in the order of their names.

        Raises:
            ConfigError: A file holds no plan; the message names it.
        """
        found: list[SavedPlan] = []
        # A folder is listed for each task, so that a plan that is put there is found by the next task.
        for entry in self._entries:
            match entry:
                case SavedPlan():
                    found.append(entry)
                case Plan():
                    found.append(SavedPlan(entry.task or entry.digest, entry))
                case _:
                    found += [_load(file) for file in _files(entry)]
        return found


@immutable
class LibraryMatch:
    """A saved plan whose pattern matches a task, with the inputs from the task's words and from the caller.

    Attributes:
        doubt: Why the words may mean something else; `None`: there is no doubt.
    """

    saved: SavedPlan
    inputs: dict[str, Json]
    doubt: str | None = None


def find_matches(task: str, saved: Sequence[SavedPlan], inputs: Mapping[str, Json]) -> list[LibraryMatch]:
    """Return the saved plans whose pattern matches a task, the most specific first, then by name.

    Args:
        task: The words.
        saved: The plans to look at.
        inputs: Values from the caller; they replace values that the words give.
    """
    found: list[tuple[tuple[int, int], str, LibraryMatch]] = []
    for each in saved:
        pattern = TaskPattern.of(each.plan)
        match = None if pattern is None else pattern.find_match(task)
        if pattern is not None and match is not None:
            entry = LibraryMatch(each, {**match.inputs, **inputs}, match.doubt)
            found.append((pattern.rank, each.name, entry))
    return [match for *_, match in sorted(found, key=lambda entry: entry[:2])]


def ranked_plans(task: str, saved: Sequence[SavedPlan], inputs: Mapping[str, Json]) -> list[SavedPlan]:
    """Return the saved plans that a planner looks at for a task, in its order: patterns that match, those in doubt, then plans that share words.

    Args:
        task: The words.
        saved: The plans to look at.
        inputs: As of `find_matches`.
    """
    matches = find_matches(task, saved, inputs)
    # The sort is stable, so that the order of matches stays as it is within each half.
    matched = [match.saved for match in sorted(matches, key=lambda match: match.doubt is not None)]
    near = ranked_by_words(task, saved, lambda each: own_words(each.plan), found_only=True)
    return [*matched, *(each for each in near if all(each is not known for known in matched))]


def nearest_tasks(task: str, saved: Sequence[SavedPlan]) -> list[SavedPlan]:
    """Return the saved plans whose tasks share most words with a task, for messages."""
    with_task = [each for each in saved if each.plan.task]
    return ranked_by_words(task, with_task, lambda each: each.plan.task or "")[:NEAREST_MAX]


def _listed(source: object) -> list[object]:
    """Return the entries of a library's source, which is one entry or many."""
    if source is None:
        return []
    # A string is iterable too, and stands for one file.
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
    files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
    return sorted(files)[:FILES_MAX]


def _load(file: Path) -> SavedPlan:
    try:
        return SavedPlan(file.stem, Plan.load(file))
    except (InputRejected, PlanRejected) as error:
        raise ConfigError(f"library: {file} holds no plan: {error}") from error
