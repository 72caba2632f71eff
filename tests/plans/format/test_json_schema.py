"""Laws of the format's JSON Schema: it accepts what has the shape of a plan, and nothing else."""

import copy
import json
from importlib.resources import files
from typing import Literal

import jsonschema_rs
import pytest
from firmplan import Plan, PlanBuilder, tool
from firmplan.plans.plan import Plan as Model
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from seeds import examples

FULL = {
    "firmplan": 1,
    "task": "t",
    "description": "d",
    "inputs": {"a": {"type": "string", "default": "x"}},
    "types": {"T": {"type": "object"}},
    "plans": {"p": {"inputs": {}, "types": {}, "steps": [{"id": "x", "set": None}], "output": 1}},
    "steps": [
        {"id": "w", "tool": "weather", "args": {"city": "${inputs.a}"}, "retries": 1, "timeout": 1.5, "why": "so"},
        {"id": "s", "set": {"deep": ["${w}"]}, "when": "${True}", "after": ["w"], "on_error": "skip"},
        {"id": "n", "ask": {
            "prompt": "p", "returns": {"type": "string"}, "model": "m", "system": "s", "examples": [{}], "temperature": 0,
            "max_tokens": 5, "guard": ["g"],
        }, "on_error": {"value": None}},
        {"id": "p", "plan": "p", "args": {}, "for_each": [1, 2], "repeat": {"until": "${True}", "max": 2}},
        {"id": "g", "agent": {
            "goal": "g", "tools": ["weather"], "returns": {}, "max_steps": 2, "budget": {"usd": 0.5, "steps": 3},
        }},
    ],
    "output": "${s}",
}  # fmt: skip

schema = jsonschema_rs.validator_for(Plan.json_schema())


def has_shape(raw) -> bool:
    try:
        Model.model_validate(copy.deepcopy(raw))
    except ValidationError:
        return False
    return True


def test_the_schema_is_a_schema_and_json():
    jsonschema_rs.meta.validate(Plan.json_schema())
    assert json.loads(json.dumps(Plan.json_schema())) == Plan.json_schema()


def test_a_plan_with_every_key_is_accepted():
    assert has_shape(FULL)
    assert [str(error) for error in schema.iter_errors(FULL)] == []


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*path, key))
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from places(part, (*path, index))


EVERY = list(places(FULL))
WRONG = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    0.5,
    "",
    "fail",
    "text",
    [],
    {},
    ["a"],
    [1],
    {"value": 1},
    {"max": 1},
    {"x": {}},
]
KEYS = [
    "when",
    "tool",
    "set",
    "value",
    "x",
    "after",
    "model",
    "repeat",
    "until",
    "firmplan",
    "steps",
    "plans",
    "budget",
]


def edited(draw):
    raw = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(EVERY[1:]))
        holder = raw
        try:
            for part in path[:-1]:
                holder = holder[part]
            match draw(st.sampled_from(["replace", "delete", "add"])):
                case "replace":
                    holder[path[-1]] = draw(st.sampled_from(WRONG))
                case "delete":
                    del holder[path[-1]]
                case _ if isinstance(holder, dict):
                    holder[draw(st.sampled_from(KEYS))] = draw(st.sampled_from(WRONG))
                case _:
                    holder.append(draw(st.sampled_from(WRONG)))
        except (KeyError, IndexError, TypeError, AttributeError):
            continue
    return raw


@examples(600)
@given(st.composite(edited)())
def test_it_accepts_exactly_what_has_the_shape(raw):
    """On a plan with any places replaced, removed and added, the schema and the models agree."""
    assert schema.is_valid(raw) == has_shape(raw), raw


class Place(BaseModel):
    name: str
    kind: Literal["city", "lake"] = "city"
    near: "Place | None" = None


@tool(effect="read")
def weather(city: str, days: int = 1) -> float:
    """Tell the weather."""
    raise NotImplementedError


@tool(effect="pure")
def nothing() -> str:
    """Do nothing."""
    raise NotImplementedError


typed = jsonschema_rs.validator_for(Plan.json_schema([weather, nothing]))


def with_step(**step):
    return {"firmplan": 1, "steps": [{"id": "x", **step}]}


@pytest.mark.parametrize(
    ("step", "fits"),
    [
        ({"tool": "weather", "args": {"city": "Rome"}}, True),
        ({"tool": "weather", "args": {"city": "Rome", "days": 2}}, True),
        ({"tool": "weather", "args": {"city": "${a}", "days": "${b}"}}, True),
        ({"tool": "weather", "args": {"city": "To ${a}", "days": "two"}}, False),
        ({"tool": "weather", "args": {"city": 3}}, False),
        ({"tool": "weather", "args": {}}, False),
        ({"tool": "weather"}, False),
        ({"tool": "weather", "args": {"city": "Rome", "town": 1}}, False),
        ({"tool": "wether", "args": {"city": "Rome"}}, False),
        ({"tool": "nothing"}, True),
        ({"tool": "nothing", "args": {}, "when": "${a}"}, True),
        ({"set": 1}, True),
        ({"agent": {"goal": "g", "tools": ["weather"]}}, True),
        ({"agent": {"goal": "g", "tools": ["wether"]}}, False),
    ],
)
def test_with_a_toolset_tools_and_arguments_are_spelled_out(step, fits):
    assert typed.is_valid(with_step(**step)) is fits


def test_expressions_may_stand_for_any_part_of_an_argument():
    """Also deep inside, through definitions and recursion; literal parts are checked as ever."""

    @tool(effect="read")
    def search(places: list[Place]) -> str:
        """Find places."""
        raise NotImplementedError

    validator = jsonschema_rs.validator_for(Plan.json_schema([search]))

    def fits(places):
        return validator.is_valid(with_step(tool="search", args={"places": places}))

    assert fits("${a}")
    assert fits(["${a}", {"name": "${b}", "kind": "${c}", "near": {"name": "x", "near": "${d}"}}])
    assert fits([{"name": "x", "kind": "lake", "near": None}])
    assert not fits([{"name": "x", "kind": "sea"}])
    assert not fits([{"name": "x", "near": {"nam": "y"}}])
    assert not fits("plain text")


# --- the schema as a file of the package, for editors


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
