"""`RunDiff`: what differs between two runs, by step path; for people as text, for programs as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...plans.edit.differences import Difference
from ...plans.values import Json
from .amounts import amount, counted, steps_in

if TYPE_CHECKING:
    from ...plans.edit.diff import PlanDiff

StepChange: TypeAlias = Literal["same", "changed", "only_a", "only_b"]

_USAGE: Final = ("calls", "reused", "model_calls", "tokens", "usd", "seconds")
PLACES_SHOWN: Final = 3  # differing places of one step that the text shows; `output` has all
_MARKS: Final[dict[StepChange, str]] = {"same": " ", "changed": "~", "only_a": "-", "only_b": "+"}


@dataclass(frozen=True, slots=True)
class StepDiff:
    """One step of two runs. Pairs are (in a, in b); `None` where the step is not there.

    Attributes:
        change: Same status and output, or not, or in one run only.
        output: Where the outputs differ.
        args: Where that with which it was called differs.
        why: Why it differs, as a sentence; empty: it does not.
        cost: In USD.
        seconds: From the first start to the end, where it has ended.
        tokens: Of all its model calls.
    """

    step: str
    change: StepChange
    status: tuple[str | None, str | None]
    why: str = ""
    output: tuple[Difference, ...] = ()
    args: tuple[Difference, ...] = ()
    reused: tuple[bool | None, bool | None] = (None, None)
    cost: tuple[float | None, float | None] = (None, None)
    seconds: tuple[float | None, float | None] = (None, None)
    tokens: tuple[int | None, int | None] = (None, None)

    def __str__(self) -> str:
        parts: list[str] = []
        if self.change == "changed" and self.status[0] != self.status[1]:
            parts.append(f"{self.status[0]} -> {self.status[1]}")
        parts += [_at("output", each) for each in self.output[:PLACES_SHOWN]]
        if (more := len(self.output) - PLACES_SHOWN) > 0:
            parts.append(f"and {more} more places")
        if self.tokens[0] != self.tokens[1] and None not in self.tokens:
            parts.append(f"tokens {self.tokens[0]} -> {self.tokens[1]}")
        told = "; ".join(parts)
        why = f"  [{self.why}]" if self.why else ""
        return f"{_MARKS[self.change]} {self.step}  {told}".rstrip() + why

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "step": self.step,
            "change": self.change,
            "why": self.why,
            "status": list(self.status),
            "output": [cast("Json", each.to_dict()) for each in self.output],
            "args": [cast("Json", each.to_dict()) for each in self.args],
            "reused": list(self.reused),
            "cost": list(self.cost),
            "seconds": list(self.seconds),
            "tokens": list(self.tokens),
        }


@dataclass(frozen=True, slots=True)
class RunDiff:
    """What differs between run `a` and run `b`; false if nothing does. Cost, time and reuse are told, and are no difference.

    Attributes:
        steps: Every step of either, in plan order.
        plan: What differs between the plans; false if nothing does.
        inputs: Where the inputs differ.
        output: Where the outputs differ.
        first: The first step in plan order that differs, of a step of parts its first differing part.
        usage: Of both.
    """

    a: str
    b: str
    status: tuple[str, str]
    steps: tuple[StepDiff, ...]
    plan: PlanDiff
    inputs: tuple[Difference, ...]
    output: tuple[Difference, ...]
    first: StepDiff | None
    usage: tuple[Mapping[str, Json], Mapping[str, Json]] = field(repr=False)

    def __bool__(self) -> bool:
        is_other_end = self.status[0] != self.status[1]
        return bool(self.plan or self.inputs or self.output or self.first or is_other_end)

    @property
    def changed(self) -> tuple[StepDiff, ...]:
        """The steps that differ."""
        return tuple(step for step in self.steps if step.change != "same")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if not self:
            yield f"{self.a} and {self.b} are the same: {self.counted}, same plan, inputs and output"
        else:
            yield f"{self.a} -> {self.b}: {self.counted}"
        if self.status[0] != self.status[1]:
            yield f"status: {self.status[0]} -> {self.status[1]}"
        if self.plan:
            yield str(self.plan)
        yield from (_at("inputs", each) for each in self.inputs)
        if self.first is not None:
            yield f"first divergence: step '{self.first.step}': {self.first.why}"
        yield from (str(step) for step in self.changed)
        yield from (_at("the run's output", each) for each in self.output[:PLACES_SHOWN])
        yield "; ".join(f"{name} {amount(old)} -> {amount(new)}" for name, old, new in self.used)

    @property
    def counted(self) -> str:
        """How many steps there are, and how many of them differ, each with its parts."""
        every = steps_in(step.step for step in self.steps)
        return (
            f"{steps_in(step.step for step in self.changed)} of {counted(every)} differ"
            if self
            else counted(every)
        )

    @property
    def used(self) -> tuple[tuple[str, float, float], ...]:
        """What the runs used, by name, in `a` and in `b`; what neither used is left out."""
        pairs = [(name, *(cast("Any", usage.get(name, 0)) for usage in self.usage)) for name in _USAGE]
        return tuple((name, old, new) for name, old, new in pairs if old or new)

    def to_html(self) -> str:
        """Return it as a page that stands alone: no script, nothing loaded."""
        from .run_diff_page import page_of  # noqa: PLC0415  # only who asks for a page needs it

        return page_of(self)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "same": not self,
            "status": list(self.status),
            "plan": [cast("Json", each.to_dict()) for each in self.plan.changes],
            "inputs": [cast("Json", each.to_dict()) for each in self.inputs],
            "output": [cast("Json", each.to_dict()) for each in self.output],
            "first": self.first.step if self.first is not None else None,
            "steps": [cast("Json", step.to_dict()) for step in self.steps],
            "usage": [dict(usage) for usage in self.usage],
        }


def _at(where: str, each: Difference) -> str:
    dot = "" if not each.path or each.path.startswith("[") else "."
    text = str(each).removeprefix(f"{each.path}: ") if each.path else str(each)
    return f"{where}{dot}{each.path}: {text}"
