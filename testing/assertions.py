"""Assertions about runs, whose failures say what differs: between two runs, and in single steps.

    assert_same_run(before, after)                   # runs, or the paths of bundles
    assert_step(run, "total", output=42, status="succeeded")

Time, cost, attempts and reuse do not make two runs different: status, inputs, plan, and each step's status and output do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias, cast

from ..executor import Run, RunDiff, StepView
from ..executor.review.compare import compare, compare_snapshots
from ..plans.edit.differences import differences
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.values import Json
from .recorded import read_recorded

RunOrBundle: TypeAlias = "Run | str | os.PathLike[str]"

PLACES_SHOWN: Final = 5
STEP_KEYS: Final = ("status", "output", "reused", "attempts", "reason", "error")
EXPECT_KEYS: Final = ("status", "output", "steps", "calls", "errors")


def assert_same_run(a: RunOrBundle, b: RunOrBundle) -> None:
    """Check that two runs had the same plan, inputs, statuses and outputs.

    Args:
        a: A run, or the path of a bundle.
        b: Another; the difference of two bundles has its reasons.

    Raises:
        AssertionError: They differ; the message is the difference, by step.
        InputRejected: A bundle cannot be read.
    """
    __tracebackhide__ = True
    found = difference(a, b)
    if not is_same(found):
        raise AssertionError(f"the runs differ\n{found}")


def difference(a: RunOrBundle, b: RunOrBundle) -> RunDiff:
    """Return the difference of two runs, or bundles. Raises: InputRejected."""
    if not isinstance(a, Run) and not isinstance(b, Run):
        return compare(read_recorded(Path(a)).recall, read_recorded(Path(b)).recall)
    return compare_snapshots(_run_of(a), _run_of(b))


def is_same(found: RunDiff) -> bool:
    """Whether two runs are the same; prose and layout of the plan do not count."""
    return not replace(found, plan=replace(found.plan, changes=())) and found.plan.same_digest


def assert_step(run: Run, step: str, **expected: Json) -> None:
    """Check one step of a run.

    Args:
        run: The run.
        step: Its path, such as `spots[3]` or `outer/inner`.
        expected: Any of `status`, `output`, `reused`, `attempts`, `reason`, and `error` (its code).

    Raises:
        AssertionError: The step differs; the message has expected and found, by path in the value.
    """
    __tracebackhide__ = True
    if mismatches := list(step_mismatches(run, step, expected)):
        raise AssertionError("\n".join(mismatches))


def step_mismatches(run: Run, step: str, expected: Mapping[str, Json]) -> Iterator[str]:
    """Yield the differences of a step from the expectation, a line each.

    Args:
        run: The run.
        step: The path of the step.
        expected: What is expected, as of `assert_step`.
    """
    view = run.steps.get(step)
    if view is None:
        known = list(run.steps)
        yield f"the run has no step '{step}': {did_you_mean(step, known, f'it has {listing(known)}')}"
        return
    for name, wanted in expected.items():
        if name not in STEP_KEYS:
            yield f"step '{step}': expected {listing(STEP_KEYS)}, found '{name}'"
            continue
        yield from _value_mismatches(f"step '{step}': {name}", wanted, _found(view, name))
    is_expected_to_fail = expected.get("status", "failed") == "failed" and expected.get("output") is None
    if view.error is not None and not is_expected_to_fail:
        yield f"step '{step}' failed [{view.error.code}]: {view.error.message}"


def run_mismatches(run: Run, expected: Mapping[str, Json], calls: Mapping[str, int]) -> Iterator[str]:
    """Yield the differences of a run from the expectation, a line each.

    Args:
        run: The run.
        expected: Any of `status`, `output`, `errors` (codes by step), `steps` (see `assert_step`), `calls` (tool -> how many).
        calls: Tool -> how often it was called.
    """
    mismatches = list(_expectation_mismatches(run, expected, calls))
    yield from mismatches
    if "errors" not in expected and (mismatches or expected.get("status", "failed") != "failed"):
        yield from (f"step '{error.step}' failed [{error.code}]: {error.message}" for error in run.errors)


def _expectation_mismatches(
    run: Run, expected: Mapping[str, Json], calls: Mapping[str, int]
) -> Iterator[str]:
    for name, wanted in expected.items():
        match name:
            case "status":
                yield from _value_mismatches("status", wanted, run.status)
            case "output":
                yield from _value_mismatches("output", wanted, run.output)
            case "errors":
                yield from _value_mismatches(
                    "errors", wanted, {error.step: error.code for error in run.errors}
                )
            case "steps":
                for step, keys in cast("dict[str, dict[str, Json]]", wanted).items():
                    yield from step_mismatches(run, step, keys)
            case "calls":
                counted: dict[str, Json] = {
                    tool: calls.get(tool, 0) for tool in cast("dict[str, Json]", wanted)
                }
                yield from _value_mismatches("calls", wanted, counted)
            case _:
                yield f"expected {listing(EXPECT_KEYS)}, found '{name}'"


def _found(view: StepView, name: str) -> Json:
    if name == "error":
        return view.error.code if view.error is not None else None
    return cast("Json", getattr(view, name))


def _value_mismatches(what: str, expected: Json, found: Json) -> Iterator[str]:
    places = differences(expected, found)
    for place in places[:PLACES_SHOWN]:
        dot = "" if not place.path or place.path.startswith("[") else "."
        text = str(place).removeprefix(f"{place.path}: ") if place.path else str(place)
        yield f"{what}{dot}{place.path}: {text}"
    if (more := len(places) - PLACES_SHOWN) > 0:
        yield f"{what}: and {more} more places"


def _run_of(given: RunOrBundle) -> Run:
    return given if isinstance(given, Run) else read_recorded(Path(given)).run
