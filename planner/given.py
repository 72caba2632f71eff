"""Whether a plan takes what it is given: inputs beside the words, and all that it needs to run."""

from __future__ import annotations

from collections.abc import Mapping

from ..plans.inputs import fit_inputs
from ..plans.paths import key, parts_of
from ..plans.plan import Plan
from ..plans.problems import Problem, problem
from ..plans.types import schema_of, type_of, widened
from ..plans.values import Json, canonical


def given_schemas(inputs: Mapping[str, Json]) -> dict[str, str]:
    """Return the schemas of given inputs, read off their values, as text."""
    return {name: canonical(schema_of(widened(type_of(value)))).decode() for name, value in inputs.items()}


def given_faults(plan: Plan, given: Mapping[str, Json], *, complete: bool) -> tuple[Problem, ...]:
    """Return what keeps given inputs from being the plan's: not declared, or of another type.

    Args:
        plan: A plan that a model wrote.
        given: Values by name.
        complete: Whether the plan is to run with just these: then an input without a value is a fault too. Otherwise
            whoever runs the plan may give it.
    """
    declared = {name: value for name, value in given.items() if name in plan.inputs}
    _, problems = fit_inputs(plan, declared)
    misfits = [each for each in problems if not is_missing(each, declared)]
    lacking = [
        _lacking(name)
        for name, schema in plan.inputs.items()
        if name not in given and "default" not in schema
    ]
    undeclared = [
        _undeclared(name, schema) for name, schema in given_schemas(given).items() if name not in declared
    ]
    return (*undeclared, *misfits, *(lacking if complete else ()))


def is_missing(fault: Problem, given: Mapping[str, Json]) -> bool:
    """Whether a fault of a plan's inputs is that one was not given."""
    match parts_of(fault.path):
        case ("inputs", str(name), *_):
            return name not in given
        case _:
            return False


def _undeclared(name: str, schema: str) -> Problem:
    message = f"expected the given input '{name}' under 'inputs', found no such input"
    return problem("bad-input", "$.inputs", message, f"declare it as {schema}, and use it")


def _lacking(name: str) -> Problem:
    message = f"expected a value for the input '{name}', found neither a default nor a given value"
    return problem(
        "bad-input", f"$.inputs{key(name)}", message, "give it a default taken from the task's words"
    )
