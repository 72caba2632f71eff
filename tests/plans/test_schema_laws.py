"""What types say of schemas, held against an independent validator: contract 2, "Types"."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
from firmplan.plans.assign import assign
from firmplan.plans.literal import literal_faults
from firmplan.plans.paths import parts_of
from firmplan.plans.schema import read_schema, self_contained
from firmplan.plans.types import NULL, ListType, ObjectType, Property, Scalar, Type, schema_of, type_of, union
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from .schema_values import VALUES, named, neighbours, schemas, with_definition


def accepted(schema: Any, types: dict[str, Any]) -> list[Any]:
    """Return the values of the pool that a schema accepts."""
    valid = jsonschema_rs.Draft202012Validator(self_contained(schema, types)).is_valid
    return [value for value in VALUES if valid(value)]


@given(neighbours() | st.tuples(schemas, schemas), named)
@settings(max_examples=400)
def test_what_fits_is_valid(pair: tuple[Any, Any], types: dict[str, Any]) -> None:
    """Where `assign` finds nothing, the consumer's schema accepts whatever the producer's does."""
    produced, consumed = pair
    source, faults = read_schema(produced, types)
    target, more = read_schema(consumed, types)
    fits = not faults and not more and not assign(source, target)
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
@settings(max_examples=300)
def test_what_has_a_value_in_common_is_no_mismatch(schema: Any, types: dict[str, Any], data: Any) -> None:
    """`type-mismatch` is said only of members that have no value which the schema accepts."""
    target, faults = read_schema(schema, types)
    known = accepted(schema, types)
    assume(known and not faults)
    value = data.draw(st.sampled_from(known))
    source = data.draw(st.composite(loosened)(value))
    assert "type-mismatch" not in [fault.code for fault in assign(source, target)]
    assert "type-mismatch" not in [fault.code for fault in assign(type_of(value), target)]


@given(schemas, named, st.sampled_from(VALUES))
@settings(max_examples=300)
def test_literals_are_judged_by_the_whole_schema(schema: Any, types: dict[str, Any], value: Any) -> None:
    """A literal has a fault just if its schema refuses it, and each fault leads to a place in it."""
    assume(isinstance(schema, dict) and not read_schema(schema, types)[1])
    faults = literal_faults(value, schema, types)
    assert bool(faults) is not jsonschema_rs.is_valid(self_contained(schema, types), value)
    for fault in faults:
        assert fault.code == "bad-literal"
        place = value
        for part in parts_of(fault.inner):
            place = place[part]


@given(schemas, named, st.data())
@settings(max_examples=200)
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
    assert "type-mismatch" not in [fault.code for fault in (*assign(of, again), *assign(again, of))]
