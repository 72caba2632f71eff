"""Problems of one value of a plan (`LocalProblem`), and errors of an evaluation (`EvaluationError`).

A `LocalProblem` is a value, so that all of them can be collected; an `EvaluationError` ends one evaluation. Neither knows the plan: the
checker turns a `LocalProblem` into a `Problem` by putting the path of the template before `LocalProblem.inner`.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from ..immutable import immutable


@immutable
class LocalProblem:
    """One thing wrong with a template, to the character.

    Attributes:
        code: A code of the plan language: `bad-expr`, `unknown-field`, `maybe-missing` ..
        message: Expected, found.
        hint: What to do; empty if there is nothing useful to say.
        inner: Where the string stands inside the template's value, such as `.city` or `[0].x`; empty for itself.
        start: Where in that string the fault begins, in characters.
        end: Where it ends.
    """

    code: str
    message: str
    hint: str = ""
    inner: str = ""
    start: int = 0
    end: int = 0

    def moved(self, inner: str, by: int) -> LocalProblem:
        """Return the same fault of a string that holds this one's text `by` characters further on."""
        return replace(self, inner=inner + self.inner, start=self.start + by, end=self.end + by)


class EvaluationError(Exception):  # a word of the domain: the plan's fault, not ours
    """An evaluation that could not give a value.

    Attributes:
        code: `absent-field`, `index-out-of-range`, `null-value`, `division-by-zero`, `overflow`, `not-finite`,
            `type-error`, `bad-value`, `empty-list`, `limit-exceeded` or `bad-expr`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_missing(self) -> bool:
        """Whether something was not there, so that `first` goes on to its next argument."""
        return self.code in _MISSING

    @property
    def is_absent(self) -> bool:
        """Whether a field was asked for that is not there, or that has no fields because it is null."""
        return self.code in _ABSENT

    def __reduce__(self) -> tuple[type[EvaluationError], tuple[str, str]]:
        return type(self), (self.code, str(self))


_ABSENT = frozenset({"absent-field", "null-value"})
_MISSING = _ABSENT | {"index-out-of-range"}


class RefersToSkipped(Exception):  # not an error: the step that asks is skipped too
    """Every way to a value leads to a step that was skipped.

    Attributes:
        step: The skipped step.
    """

    def __init__(self, step: str) -> None:
        super().__init__(f"refers to the skipped step '{step}'")
        self.step = step

    def __reduce__(self) -> tuple[type[RefersToSkipped], tuple[str]]:
        return type(self), (self.step,)


class Skipped(Enum):
    """The type of `SKIPPED`."""

    SKIPPED = "skipped"


SKIPPED = Skipped.SKIPPED  # stands in a scope for the value of a step that was skipped
