"""The type algebra: what types are, how they combine, how they read."""

from __future__ import annotations

import pytest
from firmplan.plans.types.read import read_schema
from firmplan.plans.types.show import schema_of, type_text
from firmplan.plans.types.types import (
    BOOLEAN,
    DEPTH_MAX,
    INTEGER,
    NEVER,
    NULL,
    NUMBER,
    SIZE_MAX,
    TEXT,
    UNKNOWN,
    ListType,
    Named,
    ObjectType,
    Property,
    Scalar,
    Type,
    Union,
    depth_of,
    is_nullable,
    members,
    size_of,
    type_of,
    union,
    widened,
    without_null,
)
from hypothesis import given

from .plan_values import json_values, plan_types

TREE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/types/Tree"}}},
    "required": ["v"],
}


def record(extra: Type | None = None, /, **fields: Type) -> ObjectType:
    """Return an object type; a field whose name ends in `_` may be absent."""
    known = {name.rstrip("_"): Property(of, required=not name.endswith("_")) for name, of in fields.items()}
    return ObjectType(known, extra)


@given(plan_types, plan_types, plan_types)
def test_union_is_associative(a: Type, b: Type, c: Type) -> None:
    """It does not matter in which order alternatives come together."""
    assert union(union(a, b), c) == union(a, union(b, c)) == union(a, b, c)


@given(plan_types, plan_types)
def test_union_is_commutative(a: Type, b: Type) -> None:
    """The order of alternatives means nothing."""
    assert union(a, b) == union(b, a)
    assert hash(union(a, b)) == hash(union(b, a))


@given(plan_types)
def test_union_is_idempotent(a: Type) -> None:
    """An alternative that is there already changes nothing; `NEVER` is none."""
    assert union(a, a) == union(a, NEVER) == a
    assert union(a, UNKNOWN) == UNKNOWN


@given(json_values, json_values)
def test_equal_values_have_equal_types(a: object, b: object) -> None:
    """Types of values are equal and hash alike whenever the values are the same JSON."""
    both = type_of(a), type_of(a)
    assert both[0] == both[1]
    assert hash(both[0]) == hash(both[1])
    assert union(type_of(a), type_of(b)) == union(type_of(b), type_of(a))


@given(plan_types)
def test_widening_twice_changes_nothing(a: Type) -> None:
    """A widened type knows no values, so widening it again is no change."""
    assert widened(widened(a)) == widened(a)


@given(plan_types)
def test_without_null_is_not_nullable(a: Type) -> None:
    """`without_null` leaves everything but null."""
    assert not is_nullable(without_null(a))
    if is_nullable(a):
        assert union(without_null(a), NULL) == a


@given(plan_types)
def test_members_make_the_type(a: Type) -> None:
    """A type is the union of its alternatives."""
    assert union(*members(a)) == a


def test_kinds_stay_apart() -> None:
    """`1`, `1.0` and `true` are different values of different types."""
    assert len({type_of(1), type_of(1.0), type_of(True)}) == 3
    assert union(type_of(1), type_of(True)) != type_of(1)


def test_what_holds_another_absorbs_it() -> None:
    """Number holds integer, text holds a known text, a list of anything holds `[]`."""
    assert union(INTEGER, NUMBER) == NUMBER
    assert union(type_of("a"), TEXT) == TEXT
    assert union(ListType(NEVER), ListType(TEXT)) == ListType(TEXT)
    assert union(type_of(True), type_of(False)) == BOOLEAN
    assert union(type_of(1), type_of(2)) == Scalar("integer", (2, 1))


def test_unions_are_flat_and_never_of_one() -> None:
    """A union has at least two alternatives, none of them a union."""
    made = union(union(TEXT, NULL), union(NULL, INTEGER))
    assert isinstance(made, Union)
    assert set(made.members) == {TEXT, NULL, INTEGER}
    assert union() == NEVER
    assert union(TEXT) == TEXT


def test_rows_of_a_table_are_one_alternative() -> None:
    """Objects that differ only in known values are joined: the type of data stays small."""
    rows = type_of([{"name": f"n{number}", "size": number} for number in range(1_000)])
    assert rows == ListType(record(name=TEXT, size=INTEGER))


def test_different_shapes_stay_alternatives() -> None:
    """Objects and lists that readers can tell apart are kept apart."""
    assert len(members(union(record(a=TEXT), record(b=TEXT)))) == 2
    assert len(members(union(ListType(TEXT), ListType(INTEGER)))) == 2


def test_order_of_fields_means_nothing_but_is_kept() -> None:
    """Equality looks at fields by name, readers see them as they were given."""
    one, other = record(a=TEXT, b=INTEGER), record(b=INTEGER, a=TEXT)
    assert one == other
    assert hash(one) == hash(other)
    assert type_text(other) == "{b, a}"


def test_too_many_alternatives_are_unknown() -> None:
    """A union that nobody can read says nothing."""
    assert union(*(record(**{f"f{number}": TEXT}) for number in range(200))) == UNKNOWN


def test_depth_is_bounded() -> None:
    """Types that nest without end hold `UNKNOWN` at the bound: no walk can exhaust the stack."""
    made: Type = INTEGER
    for _ in range(5_000):
        made = ListType(made)
    other: Type = INTEGER
    for _ in range(5_000):
        other = record(a=union(other, NULL))
    for deep in (made, other, type_of(nested(150))):
        assert depth_of(deep) <= DEPTH_MAX
        assert schema_of(widened(deep))
        assert type_text(deep)


def nested(depth: int) -> list[object]:
    """Return lists inside one another."""
    made: list[object] = []
    for _ in range(depth):
        made = [made]
    return made


def test_size_is_bounded() -> None:
    """A type that doubles from step to step stays small."""
    made: Type = INTEGER
    for _ in range(200):
        made = record(left=made, right=made)
        assert size_of(made) <= SIZE_MAX


def test_wide_objects_keep_their_fields() -> None:
    """An object with more fields than the bound on parts still knows all of them."""
    made = record(**{f"f{number}": TEXT for number in range(SIZE_MAX + 10)})
    assert made.fields[f"f{SIZE_MAX + 5}"].type == TEXT


def test_names_are_looked_up() -> None:
    """A type that holds itself is finite, and its members are what its name stands for."""
    made, faults = read_schema({"$ref": "#/types/Tree"}, {"Tree": TREE})
    assert not faults
    assert isinstance(made, ObjectType)
    kids = made.fields["kids"].type
    assert isinstance(kids, ListType)
    assert isinstance(kids.item, Named)
    assert members(kids.item) == (made,)
    assert union(kids.item, NULL) == union(NULL, kids.item)
    assert members(union(kids.item, NULL)) == (made, NULL)


@pytest.mark.parametrize(
    ("of", "text"),
    [
        pytest.param(INTEGER, "integer", id="integer"),
        pytest.param(ListType(TEXT), "list of text", id="list"),
        pytest.param(ListType(union(TEXT, INTEGER)), "list of (text or integer)", id="list-of-union"),
        pytest.param(ListType(NEVER), "an empty list", id="empty-list"),
        pytest.param(record(title=TEXT, link_=TEXT), "{title, link?}", id="object"),
        pytest.param(record(UNKNOWN, title=TEXT), "{title, ..}", id="open-object"),
        pytest.param(record(UNKNOWN), "object", id="any-object"),
        pytest.param(record(), "an empty object", id="empty-object"),
        pytest.param(union(NULL, TEXT), "text or null", id="nullable"),
        pytest.param(type_of("Rome"), '"Rome"', id="known"),
        pytest.param(Scalar("string", ("a", "b")), 'one of "a", "b"', id="choice"),
        pytest.param(UNKNOWN, "a value of unknown type", id="unknown"),
    ],
)
def test_shown(of: Type, text: str) -> None:
    """Messages name types in words that a user knows."""
    assert type_text(of) == text


def test_shown_is_short() -> None:
    """However large a type, its text stays a phrase."""
    assert len(type_text(record(**{f"a_long_field_name_{number}": TEXT for number in range(500)}))) < 250
    assert len(type_text(type_of("x" * 10_000))) < 60
    assert len(type_text(union(*(record(**{f"f{number}": TEXT}) for number in range(50))))) < 100


def test_schema_of() -> None:
    """A type is written as the schema that a plan's author would write."""
    assert schema_of(TEXT) == {"type": "string"}
    assert schema_of(union(TEXT, NULL)) == {"type": ["string", "null"]}
    assert schema_of(UNKNOWN) == {}
    assert schema_of(record(a=TEXT, b_=ListType(INTEGER))) == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
        "required": ["a"],
    }
    assert schema_of(record()) == {"type": "object", "additionalProperties": False}
    assert schema_of(record(UNKNOWN)) == {"type": "object"}
    assert schema_of(record(UNKNOWN, a_=TEXT))["additionalProperties"] is True


def test_schema_of_a_recursive_type_is_self_contained() -> None:
    """Names stand in `$defs`, and the schema reads back as the same shape."""
    made, _ = read_schema({"$ref": "#/types/Tree"}, {"Tree": TREE})
    written = schema_of(made)
    assert "$defs" in written
    again, faults = read_schema(written)
    assert not faults
    assert schema_of(again) == written


@given(plan_types)
def test_types_written_and_read_are_the_same(of: Type) -> None:
    """`read_schema` undoes `schema_of`."""
    again, faults = read_schema(schema_of(of))
    assert not faults
    assert again == of
