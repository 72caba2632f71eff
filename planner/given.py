"""Whether a plan takes what it is given: inputs beside the words, and all that it needs to run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from ..plans.inputs import fit_inputs
from ..plans.paths import key, parts_of
from ..plans.plan import Plan
from ..plans.problems import Problem, problem
from ..plans.types.show import schema_of
from ..plans.types.types import type_of, widened
from ..plans.values import Json, canonical

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")


def given_schemas(inputs: Mapping[str, Json]) -> dict[str, str]:
    """Return the schemas of given inputs, read off their values, as text.

    An object with a key that is no name is one whose keys are data: it is told as any object.
    """
    return {
        name: canonical(_named_only(schema_of(widened(type_of(value))))).decode()
        for name, value in inputs.items()
    }


def _named_only(schema: Json) -> Json:
    """Return a schema without objects whose keys are data."""
    match schema:
        case {"properties": dict(fields)} if not all(_NAME.fullmatch(name) for name in fields):
            return {"type": "object"}
        case {"properties": dict(fields)}:
            named: Json = {name: _named_only(each) for name, each in fields.items()}
            rest = {key: part for key, part in cast("dict[str, Json]", schema).items() if key != "properties"}
            return {**rest, "properties": named}
        case dict():
            return {key: _named_only(part) for key, part in schema.items()}
        case list():
            return [_named_only(part) for part in schema]
        case _:
            return schema


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


def with_defaults(plan: Plan, values: Mapping[str, Json]) -> Plan:
    """Return a plan with values as the defaults of its inputs, so that it runs as it is."""
    declared = {
        name: {**schema, "default": values[name]} if name in values else schema
        for name, schema in plan.inputs.items()
    }
    return plan.model_copy(update={"inputs": declared})


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
