"""One rule for integers: laws of `with_integers`, and that inputs, arguments, results and answers all go by it."""

from __future__ import annotations

import math
from typing import Any

import jsonschema_rs
import pytest
from firmplan import Engine, Plan, Tool
from firmplan.plans.inputs import fit_value
from firmplan.plans.types.integers import with_integers, with_ordered_sets
from firmplan.plans.types.read import read_schema
from firmplan.plans.types.standalone import self_contained
from firmplan.plans.types.validate import ValueSchema
from firmplan.plans.values import canonical
from firmplan.tools.models.answer import AnswerForm
from firmplan.tools.types.schemas import SchemaTypes
from hypothesis import assume, event, given
from hypothesis import strategies as st
from seeds import examples

from .schema_values import VALUES, named, schemas, with_definition

EDGES = (2.0, 3.0, -(2.0**63), 2.0**63, 2.0**53, 1e300, -0.0, 4.0, 0.5)


def _floating(draw: st.DrawFn, value: Any) -> Any:
    """Draw the same value with some of its integers as floats, and some numbers at the edges."""
    match value:
        case bool():
            return value
        case int() | float():
            return draw(st.sampled_from([value, float(value), float(value), draw(st.sampled_from(EDGES))]))
        case list():
            return [_floating(draw, item) for item in value]
        case dict():
            return {name: _floating(draw, item) for name, item in value.items()}
        case _:
            return value


floating = st.composite(_floating)
values = st.sampled_from(VALUES).flatmap(floating)


def fitting(schema: Any) -> st.SearchStrategy[Any]:
    """Return values that a schema accepts, with floats among their integers."""
    known = [value for value in VALUES if jsonschema_rs.is_valid(schema, value)]
    assume(known)
    return (
        st.sampled_from(known).flatmap(floating).filter(lambda value: jsonschema_rs.is_valid(schema, value))
    )


def spelled(value: Any) -> bytes:
    """Return the canonical bytes: 2.0 and 2 differ."""
    return canonical(value)


def are_equal(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON, by an independent validator."""
    return jsonschema_rs.is_valid({"const": one}, other)


@given(schemas, named, values, st.data())
@examples(400)
def test_the_value_stays_the_same_json_and_again_changes_nothing(
    schema: Any, types: dict[str, Any], value: Any, data: Any
) -> None:
    """Idempotent; equal as JSON; valid just if it was: by the closed schemas of plans and by the open ones of tools."""
    schema = with_definition(data.draw, schema)
    assume(isinstance(schema, dict) and not read_schema(schema, types)[1])
    alone = self_contained(schema, types)
    made = with_integers(value, alone)
    event(f"changed: {spelled(made) != spelled(value)}")
    assert spelled(with_integers(made, alone)) == spelled(made)
    assert are_equal(value, made)
    assert jsonschema_rs.is_valid(alone, made) is jsonschema_rs.is_valid(alone, value)
    assert _floats_gone_only(value, made)


def _floats_gone_only(value: Any, made: Any) -> bool:
    """Whether nothing else became of a value than integers of integral floats within 64 bits."""
    match value, made:
        case float(), int() if not isinstance(made, bool):
            return value == made and -(2**63) <= made < 2**63
        case list(), list():
            return len(value) == len(made) and all(map(_floats_gone_only, value, made))
        case dict(), dict():
            return [*value] == [*made] and all(map(_floats_gone_only, value.values(), made.values()))
        case _:
            return type(value) is type(made) and (value == made or value is made)


@given(schemas, named, st.data())
@examples(300)
def test_inputs_results_and_answers_are_the_same_bytes(schema: Any, types: dict[str, Any], data: Any) -> None:
    """A valid value becomes the same whoever holds it to the schema: as an input, a result of a tool, an answer of a model."""
    schema = with_definition(data.draw, schema)
    assume(isinstance(schema, dict) and not read_schema(schema, types)[1])
    alone = self_contained(schema, types)
    value = data.draw(fitting(alone))
    assume(not isinstance(value, str))  # an answer of words is stripped
    as_input, problems = fit_value("x", value, ValueSchema(schema, types))
    assert problems == []
    expected = spelled(as_input)
    assert SchemaTypes("t", {}, alone, None).seal(value) == expected
    arguments = {"type": "object", "properties": {"x": alone}, "required": ["x"]}
    if "$defs" not in alone and "#" not in str(alone):
        assert SchemaTypes("t", arguments, None, None).bind({"x": value}) == b'{"x":%b}' % expected
    assert spelled(AnswerForm(alone).read(spelled(value).decode())) == expected


def _rewritten(draw: st.DrawFn, schema: Any) -> Any:
    """Draw a schema that means the same, written in another way."""
    kinds, listed = schema.get("type"), schema.get("enum")
    others = {key: schema[key] for key in schema if key not in ("type", "$defs", "enum")}
    ways = [
        schema,
        {"allOf": [schema]},
        {"anyOf": [schema]},
        {"oneOf": [schema]},
        {"anyOf": [schema, schema]},
        {"$ref": "#/$defs/Whole", "$defs": {"Whole": schema}},
        {"$ref": "#/$defs/a~1~0%20%25b", "$defs": {"a/~ %b": schema}},
        {"if": schema, "then": schema, "else": False},
        {"if": {}, "then": schema},
    ]
    if isinstance(kinds, list) and listed is None:
        ways.append({"anyOf": [{**others, "type": kind} for kind in draw(st.permutations(kinds))]})
    if isinstance(listed, list) and kinds is None:
        ways.append(
            {**others, "anyOf": [{"const": each} for each in listed]} if "anyOf" not in others else schema
        )
    unions = [key for key in ("anyOf", "oneOf", "allOf") if isinstance(schema.get(key), list)]
    ways += [{**schema, union: draw(st.permutations(schema[union]))} for union in unions]
    return draw(st.sampled_from(ways))


@given(schemas, st.data())
@examples(400)
def test_schemas_that_mean_the_same_make_the_same_of_a_value(schema: Any, data: Any) -> None:
    """Neither the order of a union, nor where a part is defined or how it is wrapped, changes what becomes of a valid value."""
    assume(isinstance(schema, dict) and "#" not in str(schema) and not read_schema(schema)[1])
    schema = self_contained(schema)
    value, other = data.draw(fitting(schema)), data.draw(st.composite(_rewritten)(schema))
    assert jsonschema_rs.is_valid(other, value)
    assert spelled(with_integers(value, schema)) == spelled(with_integers(value, other))


INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
TREE = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#"}}]}


@pytest.mark.parametrize(
    ("schema", "value", "made"),
    [
        (INTEGER, 2.0, 2),
        (INTEGER, -(2.0**63), -(2**63)),
        (INTEGER, 2.0**63, 2.0**63),
        (INTEGER, 2.5, 2.5),
        (NUMBER, 2.0, 2.0),
        ({}, 2.0, 2.0),
        ({"type": ["integer", "null"]}, 2.0, 2),
        ({"type": ["integer", "number"]}, 2.0, 2.0),
        ({"anyOf": [INTEGER, NUMBER]}, 2.0, 2.0),
        ({"anyOf": [INTEGER, {"type": "string"}]}, 2.0, 2),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 2.0, 2.0),
        ({"enum": [1, 2, "x"]}, 2.0, 2),
        ({"enum": [2, 2.0]}, 2.0, 2.0),
        ({"enum": [1.0, 2.0]}, 2.0, 2.0),
        ({"const": 2}, 2.0, 2),
        ({"const": {"a": [1, 2.0, True]}}, {"a": [1.0, 2.0, True]}, {"a": [1, 2.0, True]}),
        ({"type": "number", "enum": [1, 2]}, 2.0, 2),
        ({"prefixItems": [INTEGER, NUMBER], "items": INTEGER}, [1.0, 1.0, 1.0], [1, 1.0, 1]),
        ({"type": "array", "items": INTEGER}, [1.0, 2], [1, 2]),
        ({"patternProperties": {"^n": INTEGER}, "additionalProperties": NUMBER}, {"n": 1.0, "x": 1.0}, {"n": 1, "x": 1.0}),
        ({"properties": {"a": INTEGER}, "additionalProperties": INTEGER}, {"a": 1.0, "b": 1.0}, {"a": 1, "b": 1}),
        ({"allOf": [{"properties": {"a": INTEGER}}, {"properties": {"b": INTEGER}}]}, {"a": 1.0, "b": 1.0}, {"a": 1, "b": 1}),
        ({"$ref": "#/$defs/N", "$defs": {"N": INTEGER}}, 1.0, 1),
        ({"$ref": "#/$defs/N", "minimum": 0, "$defs": {"N": INTEGER}}, 1.0, 1),
        (TREE, [1.0, [2.0, [3.0]]], [1, [2, [3]]]),
        ({"anyOf": [{"$ref": "#"}, INTEGER]}, 1.0, 1.0),
        ({"if": {"minimum": 5}, "then": NUMBER, "else": INTEGER}, 2.0, 2),
        ({"if": {"minimum": 5}, "then": NUMBER, "else": INTEGER}, 6.0, 6.0),
        ({"dependentSchemas": {"k": {"properties": {"a": INTEGER}}}}, {"a": 1.0, "k": 1.0}, {"a": 1, "k": 1.0}),
        (
            {"oneOf": [
                {"properties": {"kind": {"const": "count"}, "n": INTEGER}, "required": ["kind"]},
                {"properties": {"kind": {"const": "size"}, "n": NUMBER}, "required": ["kind"]},
            ]},
            [{"kind": "count", "n": 1.0}, {"kind": "size", "n": 1.0}],
            [{"kind": "count", "n": 1}, {"kind": "size", "n": 1.0}],
        ),
        ({"not": INTEGER}, 2.0, 2.0),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "tool.json", "anyOf": [INTEGER]}, 2.0, 2),
    ],
)  # fmt: skip
def test_table(schema: Any, value: Any, made: Any) -> None:
    """What becomes of a value; of a list beside a schema of objects, of each item."""
    if isinstance(value, list) and "oneOf" in schema:
        assert [spelled(with_integers(item, schema)) for item in value] == list(map(spelled, made))
    else:
        assert spelled(with_integers(value, schema)) == spelled(made)


def test_a_value_without_integral_floats_is_not_copied() -> None:
    """Nor are the parts of one that nothing changes in."""
    value = {"a": [1, 2.5], "b": [2.0]}
    schema = {"properties": {"a": {"items": INTEGER}, "b": {"items": INTEGER}}}
    assert with_integers({"a": value["a"]}, schema)["a"] is value["a"]
    made = with_integers(value, schema)
    assert made["a"] is value["a"]
    assert (made["b"], value["b"]) == ([2], [2.0])
    assert not math.isnan(made["b"][0])


def test_sets_are_put_in_order_and_numbers_left() -> None:
    """Wherever the schema says `uniqueItems`, also behind a reference, a pattern and the first branch that fits."""
    of = {"type": "array", "uniqueItems": True}
    schema = {"properties": {"a": {"$ref": "#/$defs/S"}, "b": {"anyOf": [{"type": "null"}, of]}}, "patternProperties": {"^c": of},
              "$defs": {"S": of}}  # fmt: skip
    made = with_ordered_sets({"a": ["y", "x"], "b": [2, 1.0], "cc": ["b", "a"], "d": ["b", "a"]}, schema)
    assert made == {"a": ["x", "y"], "b": [1.0, 2], "cc": ["a", "b"], "d": ["b", "a"]}
    assert type(made["b"][0]) is float


def test_equal_values_have_one_digest_within_a_run() -> None:
    """An input, a tool's result and a value that a fork sets, of one schema with all that the two rules of old took differently."""
    shape = {
        "type": "object",
        "properties": {
            "tuple": {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"enum": [1, 2]}],
                "items": False,
            },
            "least": {"type": "integer"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
            "const": {"const": 3},
        },
        "required": ["tuple", "least", "either", "const"],
    }
    given_value = {"tuple": [1.0, 2.0], "least": -(2.0**63), "either": 2.0, "const": 3.0}

    echo = Tool.from_callable(
        lambda x: x,
        name="echo",
        parameters={"type": "object", "properties": {"x": shape}, "required": ["x"]},
        returns=shape,
        effect="pure",
        version=1,
    )
    plan = Plan.model_validate(
        {
            "firmplan": 1,
            "inputs": {"x": shape},
            "steps": [
                {"id": "a", "set": "${inputs.x}"},
                {"id": "b", "tool": "echo", "args": {"x": "${inputs.x}"}},
                {"id": "c", "tool": "echo", "args": {"x": given_value}},
            ],
            "output": "${[a, b, c]}",
        }
    )
    with Engine([echo], store="memory:") as engine:
        run = engine.run_sync(plan, inputs={"x": given_value})
        assert run.status == "succeeded", run.errors
        digests = {run.steps[step].output_digest for step in "abc"}
        assert len(digests) == 1
        fork = engine.fork_sync(run.id, set={"b": given_value})
        assert {fork.steps[step].output_digest for step in "abc"} == digests
        assert canonical(run.output[0]) == canonical(
            {"tuple": [1, 2], "least": -(2**63), "either": 2.0, "const": 3}
        )
