"""What a check has found so far: problems with their places.

A body of a saved plan has no place in the plan that is checked: what is wrong there is told at the step that leads to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..codes import CODES
from ..errors import LocalProblem
from ..limits import LIMITS
from ..nearest import did_you_mean
from ..problems import Problem, problem
from .body import Body


@dataclass(slots=True)
class Findings:
    """Collects problems.

    Attributes:
        misshapen: Paths of what has not the right shape: nothing more is said of it.
        suggestions_left: Nearest names that may still be looked for: each costs time for every name.
    """

    problems: list[Problem] = field(default_factory=list[Problem])
    misshapen: tuple[str, ...] = ()
    suggestions_left: int = LIMITS.suggestions_max

    def suggestion(self, name: str, known: Iterable[str], otherwise: str = "") -> str:
        """Return `did you mean 'x'?` for the closest known name, else `otherwise`."""
        if self.suggestions_left <= 0:
            return otherwise
        self.suggestions_left -= 1
        return did_you_mean(name, known, otherwise)

    def add(
        self,
        body: Body,
        code: str,
        path: str,
        message: str,
        hint: str = "",
        at: tuple[int, int] | None = None,
    ) -> None:
        """Note a problem of a body at a path of its plan."""
        if self.misshapen and not body.unit and any(_is_at(path, told) for told in self.misshapen):
            return
        if body.unit:
            message, path, at = f"in a saved plan, at {path}: {message}", body.shown_at, None
        self.problems.append(problem(code, path, message, hint, at))

    @property
    def suggests(self) -> bool:
        """Whether nearest names are still looked for."""
        return self.suggestions_left > 0

    def add_inferred(self, body: Body, path: str, faults: Iterable[LocalProblem]) -> None:
        """Note faults of expressions, each of which may have cost a search for the nearest name."""
        found = list(faults)
        self.suggestions_left -= len(found)
        self.add_faults(body, path, found)

    def add_faults(
        self, body: Body, path: str, faults: Iterable[LocalProblem], codes: Mapping[str, str] | None = None
    ) -> None:
        """Note faults of the value at `path`; `codes` exchanges codes for those that fit the place."""
        for fault in faults:
            code = fault.code if codes is None else codes.get(fault.code, fault.code)
            at = (fault.start, fault.end) if fault.end > fault.start else None
            self.add(body, code, path + fault.inner, fault.message, fault.hint, at)


def _is_at(path: str, told: str) -> bool:
    return path.startswith(told) and path[len(told) : len(told) + 1] in ("", ".", "[")


def is_error(fault: LocalProblem) -> bool:
    """Whether a fault stops the plan."""
    return CODES[fault.code].severity == "error"
