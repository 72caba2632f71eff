"""The schemas that a plan declares: its types, and its inputs with their defaults."""

from __future__ import annotations

from collections.abc import Mapping

from ..paths import key
from ..types.validate import value_problems
from ..values import Json
from .body import Body
from .checking import Checking


def check_schemas(checking: Checking, body: Body) -> None:
    """Note what is wrong with the types and the inputs of a body."""
    plan = checking.bodies.units[body.unit].plan
    types: Mapping[str, Mapping[str, Json]] = plan.types if body.name is None else plan.plans[body.name].types
    for name, schema in types.items():
        checking.read(body, schema, f"{body.where}.types{key(name)}")
    for name, schema in body.inputs.items():
        path = f"{body.where}.inputs{key(name)}"
        before = len(checking.findings.problems)
        checking.read(body, schema, path)
        told = checking.findings.problems[before:]
        if "default" in schema and all(problem.severity == "warning" for problem in told):
            faults = value_problems(schema["default"], schema, body.types)
            checking.findings.add_faults(
                body, f"{path}.default", faults, {fault.code: "bad-input" for fault in faults}
            )
