"""An error as one message for people, one document for scripts, and one exit code for the shell."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from ..errors import (
    ConfigError,
    Diverged,
    EngineBug,
    FirmplanError,
    InputRejected,
    PlanError,
    PlanningFailed,
    PlanRejected,
    RunNotFound,
)

if TYPE_CHECKING:
    from ..plans import Problem


class Exit(IntEnum):
    """The exit codes, one meaning each."""

    OK = 0
    FAILED = 1
    WRONG = 2
    DIVERGED = 3
    WAITING = 4
    INTERRUPTED = 130
    TERMINATED = 143


def exit_code(error: Exception) -> Exit:
    """Return the exit code: 2 where the plan or the command must change, else 1, and 3 for a divergence."""
    match error:
        case Diverged():
            return Exit.DIVERGED
        case PlanningFailed() if not all(attempt.source.startswith("saved:") for attempt in error.attempts):
            return Exit.FAILED  # a model was asked, and failed
        case PlanError() | InputRejected() | RunNotFound() | ConfigError():
            return Exit.WRONG
        case _:
            return Exit.FAILED


def failure_text(error: Exception) -> str:
    """Return the message for people: what is wrong, then each problem on lines of its own."""
    if not isinstance(error, FirmplanError):
        return f"error: {_bug_text(error)}"
    head, *rest = error.message.split("\n")
    if head.startswith("error["):  # the message is the list of problems itself
        head, rest = "the given values do not fit", [head, *rest]
    lines = [f"error: {head} [{error.code}]", *rest]
    lines += [f"  {problem_text(problem)}" for problem in _apart(error)]
    return "\n".join(lines)


def failure_document(error: Exception) -> dict[str, object]:
    """Return the document that programs get instead of an answer."""
    if not isinstance(error, FirmplanError):
        return {"error": {"code": EngineBug.code, "message": _bug_text(error)}}
    failure: dict[str, object] = {"code": error.code, "message": error.message}
    if isinstance(error, Diverged):
        failure |= {
            "step": error.step,
            "field": error.field,
            "expected": error.expected,
            "found": error.found,
        }
    if error.problems:
        failure["problems"] = [problem.to_dict() for problem in error.problems]
    return {"error": failure}


def _bug_text(error: Exception) -> str:
    """Return the message of an error that is none of firmplan's own classes; it counts as a bug of firmplan."""
    kind = type(error).__name__
    return f"{kind}: {error} (this is a bug in firmplan; please report it with the output of --debug)"


def problem_text(problem: Problem) -> str:
    """Render one problem on one line, with its line in the file where that is known."""
    where = problem.path if problem.line is None else f"line {problem.line}, {problem.path}"
    hint = f"; {problem.hint}" if problem.hint else ""
    return f"{problem.severity} {problem.code} at {where}: {problem.message}{hint}"


def _apart(error: FirmplanError) -> Sequence[Problem]:
    """Return the problems that the message does not list already: a rejected plan's message is its complete report."""
    if isinstance(error, PlanRejected):
        return ()
    return [problem for problem in error.problems if problem.message not in error.message]
