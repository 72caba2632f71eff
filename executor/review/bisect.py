"""Find where an output changed in a sequence of runs: between which two runs, at which step first, and why.

A binary search would miss an output that changed and changed back. The runs are recorded, so reading all of them costs little. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

from ...errors import InputRejected
from ...plans.edit.differences import shown
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.reports.paths import parts_of, path_of
from ...plans.values import Json, canonical
from ..runs.run import report_json

if TYPE_CHECKING:
    from ..runs.run import Run
    from .run_diff import RunDiff

RUNS_MIN: Final = 2
ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class Observation:
    """The observed place in one run.

    Attributes:
        status: The status of the step or of the run; `absent`: the run has no such step.
        value: The value at the place; `None` if the place does not exist.
        is_there: Whether the place exists, since its value may be null.
        is_changed: Whether the observation differs from that of the run before.
    """

    run: str
    status: str
    value: Json
    is_there: bool
    is_changed: bool = False

    def is_like(self, other: Observation) -> bool:
        """Whether status and value are equal."""
        return (self.status, self.is_there) == (other.status, other.is_there) and canonical(
            self.value
        ) == canonical(other.value)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self, is_there="there", is_changed="changed")


@dataclass(frozen=True, slots=True)
class Bisection:
    """The changes of an output over a sequence of runs; false if there is none.

    Attributes:
        place: The observed place: `output` or `step 'wear'`, with the path in its value.
        seen: One observation for each run, in the order given.
        changes: For each change, the differences between the run before it and the run with it.
    """

    place: str
    seen: tuple[Observation, ...]
    changes: tuple[RunDiff, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        count = len(self.seen)
        if not self.changes:
            yield f"{self.place} is the same in all {count} runs: {_text(self.seen[0])}"
            return
        times = "once" if len(self.changes) == 1 else f"{len(self.changes)} times"
        yield f"{self.place} changed {times} in {count} runs"
        for at, each in enumerate(self.seen):
            mark = ">" if each.is_changed else " "
            yield f"{mark} {each.run}  {_text(each) if at == 0 or each.is_changed else '='}"
        for change in self.changes:
            yield f"between {change.a} and {change.b}:"
            yield from (f"  {line}" for line in _reasons(change))

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "place": self.place,
            "changed": bool(self),
            "runs": [each.to_dict() for each in self.seen],
            "changes": [_change_of(change) for change in self.changes],
        }


def places_of(runs: Sequence[Run], step: str | None, output: str) -> tuple[str, tuple[Observation, ...]]:
    """Return the observed place as text, and the observation of each run.

    Args:
        runs: The runs, in the order in which they are compared.
        step: Path of a step; `None`: the output of the run.
        output: A place in that value, such as `items[0].price`; empty: the complete value.

    Raises:
        InputRejected: There are fewer than two runs, no run has the step, or `output` is not a valid place.
    """
    if len(runs) < RUNS_MIN:
        raise InputRejected(f"bisect: expected at least {RUNS_MIN} runs, found {len(runs)}")
    parts = _parts(output)
    # One run with the step is enough: the step may have been added or removed on the way, which is a change to report.
    if step is not None and not any(step in run.steps for run in runs):
        known = list(dict.fromkeys(path for run in runs for path in run.steps))
        raise InputRejected(
            f"no run has a step '{step}': {did_you_mean(step, known, f'they have {listing(known)}')}"
        )
    found: list[Observation] = []
    for run in runs:
        seen = _seen(run, step, parts)
        # Compared with the run before, not with the first run: each change is reported where it happened.
        is_changed = bool(found) and not seen.is_like(found[-1])
        found.append(Observation(seen.run, seen.status, seen.value, seen.is_there, is_changed))
    head = "output" if step is None else f"step '{step}'"
    place = f"{head} at {path_of(parts, '').removeprefix('.')}" if parts else head
    return place, tuple(found)


def changed_pairs(seen: Sequence[Observation]) -> list[tuple[str, str]]:
    """Return the ids of each two neighbours between which the observation changed."""
    return [(before.run, after.run) for before, after in pairwise(seen) if after.is_changed]


def _parts(output: str) -> tuple[str | int, ...]:
    path = output if not output or output.startswith(("[", ".")) else f".{output}"
    parts = parts_of(path)
    # `parts_of` skips what it cannot read, so only a path that can be written again was read completely.
    if path_of(parts, "") != path:
        raise InputRejected(f"--output: expected a place such as items[0].price, found '{output}'")
    return parts


def _seen(run: Run, step: str | None, parts: Sequence[str | int]) -> Observation:
    value: Json = run.output
    status = run.status
    if step is not None:
        view = run.steps.get(step)
        if view is None:
            return Observation(run.id, ABSENT, None, is_there=False)
        value, status = view.output, view.status
    # A place that does not exist is an observation, not an error: the output may have lost or gained the field.
    for part in parts:
        match value:
            case dict() if isinstance(part, str) and part in value:
                value = value[part]
            case list() if isinstance(part, int) and part < len(value):
                value = value[part]
            case _:
                return Observation(run.id, status, None, is_there=False)
    return Observation(run.id, status, value, is_there=True)


def _text(seen: Observation) -> str:
    if seen.status not in (
        "succeeded",
        ABSENT,
    ):  # the output of such a step is null, and the status says more
        return seen.status
    return shown(seen.value) if seen.is_there else ABSENT


def _reasons(change: RunDiff) -> Iterator[str]:
    """Yield the reasons why two runs differ: other plans or inputs, and the first step with another result."""
    if change.plan:
        yield from (str(each) for each in change.plan.changes)
    yield from (f"inputs.{each}" for each in change.inputs)
    if change.first is not None:
        yield f"first divergence: step '{change.first.step}': {change.first.why}"
        yield str(change.first)
    elif not change.plan:
        yield "no step differs: the run itself ended differently"


def _change_of(change: RunDiff) -> Json:
    first = change.first
    return {
        "before": change.a,
        "after": change.b,
        "first": cast("Json", first.to_dict()) if first is not None else None,
        "plan": [cast("Json", each.to_dict()) for each in change.plan.changes],
        "inputs": [cast("Json", each.to_dict()) for each in change.inputs],
    }
