"""The JSON Schema of the format as a file of the package, for editors."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema_rs
from firmplan import Plan, PlanBuilder


def test_the_file_is_the_schema_that_the_code_gives():
    """`make docs` writes it; it is part of the package."""
    text = files("firmplan").joinpath("plans", "plan.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == Plan.json_schema()


def test_the_file_takes_a_plan_and_marks_a_misspelt_key():
    """What an editor does with it."""
    schema = json.loads(files("firmplan").joinpath("plans", "plan.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema_rs.validator_for(schema)
    builder = PlanBuilder("Add one")
    number = builder.input("n", int)
    builder.output(builder.set(number + 1, id="more"))
    plan = builder.build([]).to_dict()
    assert validator.is_valid(plan)
    assert not validator.is_valid({**plan, "step": []})
    assert not validator.is_valid({"firmplan": 1, "steps": [{"id": "a", "sett": 1}]})
