"""The result of a check: problems, and the report that holds them.

A problem's message says what was expected, what was found and where; its hint says what to do. `codes.py` has the table of codes and
severities. This module does not know how problems are found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from ..immutable import frozen
from ..types.show import schema_of
from ..types.types import Type, size_of
from ..values import Json
from .codes import CODES
from .paths import parts_of

SHOWN_MAX = 50
"""Problems that the text of a report lists; `problems` has them all."""

TYPE_PARTS_MAX = 1_000_000
"""Parts of types that a report lists; a hostile plan may have 10,000 for each step."""


@frozen
class Problem:
    """One fault or warning of a plan.

    Attributes:
        code: One of `CODES`.
        path: The place in the plan, such as `$.steps[2].args.city`.
        message: Expected, found, where.
        hint: What to do; may be empty.
        severity: `error` stops the plan from running; `warning` does not.
        at: Start and end of the faulty part of the text at `path`, in characters, if the problem is about a part.
        line: Line of the plan's text, from 1, if it was given as text.
        source: Where Python code built the faulty part, as `file:line`, if a `PlanBuilder` made the plan.
    """

    code: str
    path: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    at: tuple[int, int] | None = None
    line: int | None = None
    source: str | None = None

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path} (line {self.line})"
        if self.source is not None:
            place = f"{place} (built at {self.source})"
        head = f"{self.severity}[{self.code}] at {place}\n  {self.message}"
        return f"{head}\n  hint: {self.hint}" if self.hint else head

    def to_dict(self) -> dict[str, Json]:
        """Return the problem as JSON."""
        return {
            "code": self.code,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
            "severity": self.severity,
            "at": None if self.at is None else list(self.at),
            "line": self.line,
            **({} if self.source is None else {"source": self.source}),
        }


def problem(code: str, path: str, message: str, hint: str = "", at: tuple[int, int] | None = None) -> Problem:
    """Return a problem with the severity of its code.

    Args:
        code: One of `CODES`.
        path: The place in the plan.
        message: Expected, found, where.
        hint: What to do.
        at: Start and end of the faulty part of the text at `path`.
    """
    return Problem(code, path, message, hint, CODES[code].severity, at)


@frozen
class Bounds:
    """The most that a run of the plan can cost, known before it runs.

    Attributes:
        calls_max: Tool calls and model calls, a step's own `retries` included; `None` if it depends on data.
        model_calls_max: Of these, the calls of a model; `None` if it depends on data.
        critical_path: Ids of the longest chain of steps that wait for one another, by calls and then by steps.
    """

    calls_max: int | None
    model_calls_max: int | None
    critical_path: tuple[str, ...]

    @property
    def finite(self) -> bool:
        """Whether neither number depends on data."""
        return self.calls_max is not None and self.model_calls_max is not None

    def to_dict(self) -> dict[str, Json]:
        """Return the bounds as JSON."""
        return {
            "calls_max": self.calls_max,
            "model_calls_max": self.model_calls_max,
            "critical_path": list(self.critical_path),
            "finite": self.finite,
        }


@dataclass(frozen=True)
class CheckReport:
    """The problems, bounds and types that a check found.

    Attributes:
        problems: Every fault and every warning: faults first, then in the plan's order.
        bounds: The most that a run can cost.
        inferred: The type of every step by its path; inner steps as `outer/inner`.
    """

    problems: tuple[Problem, ...] = ()
    bounds: Bounds = Bounds(0, 0, ())  # noqa: RUF009  # an instance of it is never changed
    inferred: Mapping[str, Type] = field(default_factory=dict[str, Type], repr=False)

    @property
    def ok(self) -> bool:
        """Whether the plan may run: warnings do not stop it."""
        return not self.errors

    @cached_property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that stop the plan."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that do not stop the plan."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @cached_property
    def types(self) -> dict[str, dict[str, Json]]:
        """The inferred JSON Schema of every step, by its path; equal ones are one object. Past a bound: `{}`, unknown."""
        made: dict[Type, dict[str, Json]] = {}
        found: dict[str, dict[str, Json]] = {}
        left = TYPE_PARTS_MAX
        for path, inferred in self.inferred.items():
            left -= size_of(inferred)
            if left < 0:
                found[path] = {}
                continue
            if inferred not in made:
                made[inferred] = schema_of(inferred)
            found[path] = made[inferred]
        return found

    def with_lines(self, lines: Mapping[str, int]) -> CheckReport:
        """Return the report with the line of each problem whose path is in `lines`."""
        found = (replace(problem, line=lines.get(problem.path)) for problem in self.problems)
        return replace(self, problems=tuple(found))

    def to_dict(self) -> dict[str, Json]:
        """Return the report as JSON."""
        return {
            "ok": self.ok,
            "problems": [problem.to_dict() for problem in self.problems],
            "bounds": self.bounds.to_dict(),
            "types": dict(self.types),
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def __str__(self) -> str:
        if not self.problems:
            return "the plan is ok"
        shown = [str(problem) for problem in self.problems[:SHOWN_MAX]]
        if len(self.problems) > SHOWN_MAX:
            shown.append(f"and {len(self.problems) - SHOWN_MAX} more")
        return "\n".join([f"the plan {self._verdict()}", *shown])

    def _verdict(self) -> str:
        errors, warnings = len(self.errors), len(self.warnings)
        if not errors:
            return f"is ok, with {_count(warnings, 'warning')}"
        return f"has {_count(errors, 'fault')}" + (f" and {_count(warnings, 'warning')}" if warnings else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_SECTIONS = (
    "firmplan",
    "task",
    "description",
    "left_out",
    "inputs",
    "types",
    "plans",
    "steps",
    "output",
    "returns",
    "deadline",
)
_RANK = {name: rank for rank, name in enumerate(_SECTIONS)}


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems, each once: errors first, then by their place in the plan, then as they were found."""
    return tuple(sorted(dict.fromkeys(problems), key=_place))


def _place(found: Problem) -> tuple[bool, int, str, int]:
    parts = parts_of(found.path)
    section = _RANK.get(str(parts[0]), len(_SECTIONS)) if parts else -1
    name = next((part for part in parts[1:2] if isinstance(part, str)), "")
    step = next((part for part in parts[1:4] if isinstance(part, int)), -1)
    return found.severity != "error", section, name, step
