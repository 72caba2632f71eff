"""What types say of schemas, held against an independent validator: contract 2, "Types"."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from firmplan.plans.reports.paths import parts_of
from firmplan.plans.types.assignable import assignability_problems
from firmplan.plans.types.constraints import as_schema
from firmplan.plans.types.read import read_schema
from firmplan.plans.types.show import schema_of
from firmplan.plans.types.standalone import self_contained
from firmplan.plans.types.types import (
    NEVER,
    NULL,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
    Unknown,
    members,
    type_of,
    union,
)
from firmplan.plans.types.validate import value_problems
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from seeds import examples

from .schema_values import VALUES, named, neighbours, schemas, with_definition


def accepted(schema: Any, types: dict[str, Any]) -> list[Any]:
    """Return the values of the pool that a schema accepts."""
    valid = jsonschema_rs.Draft202012Validator(self_contained(schema, types)).is_valid
    return [value for value in VALUES if valid(value)]


def is_member(value: Any, of: Type, *, closed: bool) -> bool:
    """Whether a type has a value; of open objects, whatever fields they have beside those that it knows."""
    return any(_is_one_of(value, member, closed=closed) for member in members(of))


def _is_one_of(value: Any, member: Scalar | ListType | ObjectType | Unknown, *, closed: bool) -> bool:
    demanded: Any = as_schema(member.constraints)
    if not jsonschema_rs.is_valid(self_contained(demanded) if closed else opened(demanded), value):
        return False
    match member:
        case Unknown():
            return True
        case Scalar(kind=kind, only=only):
            said: dict[str, Any] = {"type": kind} if only is None else {"type": kind, "enum": list(only)}
            return jsonschema_rs.is_valid(said, value)
        case ListType(item=item):
            return isinstance(value, list) and all(is_member(part, item, closed=closed) for part in value)
        case ObjectType(fields=fields, extra=extra):
            other = extra if extra is not None else UNKNOWN if not closed else NEVER
            return (
                isinstance(value, dict)
                and all(name in value or not known.required for name, known in fields.items())
                and all(
                    is_member(part, fields[name].type if name in fields else other, closed=closed)
                    for name, part in value.items()
                )
            )


def opened(schema: Any) -> Any:
    """Return a constraint with its objects open: plans close the objects of a schema that a constraint repeats."""
    match schema:
        case dict():
            closing = ("additionalProperties", "unevaluatedProperties")
            return {
                key: opened(part) for key, part in schema.items() if key not in closing or part is not False
            }
        case list():
            return [opened(part) for part in schema]
        case _:
            return schema


@given(schemas, named, st.data())
@examples(400)
def test_a_type_has_every_value_that_validation_admits(schema: Any, types: dict[str, Any], data: Any) -> None:
    """Whatever jsonschema-rs accepts of a schema as plans mean it is a member of the type that it reads as."""
    schema = with_definition(data.draw, schema)
    assume(isinstance(schema, dict))
    of, faults = read_schema(schema, types)
    known = accepted(schema, types)
    assume(not faults and known)
    event(f"kinds: {len({type(value) for value in known})}")
    assert [value for value in known if not is_member(value, of, closed=True)] == []


ONE_SCHEMA_ALONE = (
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "if",
    "not",
    "dependentSchemas",
    "unevaluated",
    "nullable",
)


@given(schemas)
@examples(400)
@example({"properties": {"a": {"type": "integer"}}})
@example({"items": {"type": "integer"}})
@example({"minimum": 1})
@example({"type": "array", "maxItems": 1, "prefixItems": [{"type": "null"}, {"pattern": "^x"}]})
@example(
    {
        "type": "object",
        "properties": {"a": {}},
        "patternProperties": {"^x": {}},
        "additionalProperties": False,
    }
)
@example(
    {"type": "object", "properties": {"a": {"properties": {"a": {"type": "string"}}}}, "required": ["a"]}
)
def test_a_type_has_every_value_that_a_tools_schema_admits(schema: Any) -> None:
    """The same of a tool's result, which is held to the schema as it stands: no `type` admits every kind, and objects are open."""
    assume(isinstance(schema, dict) and not any(key in str(schema) for key in ONE_SCHEMA_ALONE))
    of, faults = read_schema(schema)
    assume(not faults and not isinstance(schema.get("items"), list) and "'items': [" not in str(schema))
    valid = jsonschema_rs.Draft202012Validator(schema).is_valid
    assert [value for value in VALUES if valid(value) and not is_member(value, of, closed=False)] == []


@given(neighbours() | st.tuples(schemas, schemas), named)
@examples(400)
def test_what_fits_is_valid(pair: tuple[Any, Any], types: dict[str, Any]) -> None:
    """Where `assign` finds nothing, the consumer's schema accepts whatever the producer's does."""
    produced, consumed = pair
    source, faults = read_schema(produced, types)
    target, more = read_schema(consumed, types)
    fits = not faults and not more and not assignability_problems(source, target)
    event(f"fits: {fits}")
    if fits:
        wanted = jsonschema_rs.Draft202012Validator(self_contained(consumed, types)).is_valid
        assert [value for value in accepted(produced, types) if not wanted(value)] == []


def loosened(draw: st.DrawFn, value: Any) -> Type:
    """Draw a type that has a value and, of each part of it, others."""
    match value:
        case list():
            return ListType(union(*(loosened(draw, item) for item in value)))
        case dict():
            return ObjectType(
                {name: Property(loosened(draw, part), draw(st.booleans())) for name, part in value.items()}
            )
        case _:
            exact = type_of(value)
            assert isinstance(exact, Scalar)
            wide = exact if draw(st.booleans()) else Scalar(exact.kind)
            return union(wide, NULL) if draw(st.booleans()) else wide


@given(schemas, named, st.data())
@examples(300)
def test_what_has_a_value_in_common_is_no_mismatch(schema: Any, types: dict[str, Any], data: Any) -> None:
    """`type-mismatch` is said only of members that have no value which the schema accepts."""
    target, faults = read_schema(schema, types)
    known = accepted(schema, types)
    assume(known and not faults)
    value = data.draw(st.sampled_from(known))
    source = data.draw(st.composite(loosened)(value))
    assert "type-mismatch" not in [fault.code for fault in assignability_problems(source, target)]
    assert "type-mismatch" not in [fault.code for fault in assignability_problems(type_of(value), target)]


@given(schemas, named, st.sampled_from(VALUES))
@examples(300)
def test_literals_are_judged_by_the_whole_schema(schema: Any, types: dict[str, Any], value: Any) -> None:
    """A literal has a fault just if its schema refuses it, and each fault leads to a place in it."""
    assume(isinstance(schema, dict) and not read_schema(schema, types)[1])
    faults = value_problems(value, schema, types)
    assert bool(faults) is not jsonschema_rs.is_valid(self_contained(schema, types), value)
    for fault in faults:
        assert fault.code == "bad-literal"
        place = value
        for part in parts_of(fault.inner):
            place = place[part]


@given(schemas, named, st.data())
@examples(200)
def test_a_schema_stays_itself_in_every_form(schema: Any, types: dict[str, Any], data: Any) -> None:
    """Standing alone, taken along again and written as its type it accepts what it did; read again it has the same type."""
    schema = with_definition(data.draw, schema)
    assume(isinstance(schema, dict))
    of, faults = read_schema(schema, types)
    assume(not faults)
    alone = self_contained(schema, types)
    known = accepted(schema, types)
    assert accepted(alone, {}) == known
    written = jsonschema_rs.Draft202012Validator(self_contained(schema_of(of))).is_valid
    assert [value for value in known if not written(value)] == []
    again, more = read_schema(alone)
    assert more == []
    assert "type-mismatch" not in [
        fault.code for fault in (*assignability_problems(of, again), *assignability_problems(again, of))
    ]
