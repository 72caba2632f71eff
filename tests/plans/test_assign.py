"""Which values fit which places: contract 2, "Types"."""

from __future__ import annotations

import jsonschema_rs
import pytest
from firmplan.plans.assign import DEPTH_MAX, FAULTS_MAX, assign
from firmplan.plans.schema import read_schema, self_contained
from firmplan.plans.types import (
    BOOLEAN,
    INTEGER,
    NEVER,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    Type,
    schema_of,
    type_of,
    union,
)
from hypothesis import given

from .plan_values import json_values, plan_types, schemas, small_values

CHOICE = Scalar("string", ("x", "y"))
STARTS_WITH_A = Scalar("string", None, '{"pattern":"^a"}')


def record(extra: Type | None = None, /, **fields: Type) -> ObjectType:
    """Return an object type; a field whose name ends in `_` may be absent."""
    known = {name.rstrip("_"): Property(of, required=not name.endswith("_")) for name, of in fields.items()}
    return ObjectType(known, extra)


def tree(number: str) -> Type:
    """Return a type that holds itself, with numbers of one kind."""
    schema = {
        "type": "object",
        "properties": {"v": {"type": number}, "kids": {"type": "array", "items": {"$ref": "#/types/Tree"}}},
        "required": ["v"],
    }
    return read_schema({"$ref": "#/types/Tree"}, {"Tree": schema})[0]


def found(source: Type, target: Type) -> list[tuple[str, str]]:
    """Return code and place of each fault."""
    faults = assign(source, target)
    assert all("expected" in fault.message and "found" in fault.message for fault in faults)
    return [(fault.code, fault.inner) for fault in faults]


MISMATCH, MISSING, UNCHECKED = "type-mismatch", "maybe-missing", "unchecked-type"


@pytest.mark.parametrize(
    ("source", "target", "faults"),
    [
        pytest.param(INTEGER, NUMBER, [], id="integer-fits-number"),
        pytest.param(NUMBER, INTEGER, [(UNCHECKED, "")], id="number-may-be-integer"),
        pytest.param(BOOLEAN, NUMBER, [(MISMATCH, "")], id="boolean-is-no-number"),
        pytest.param(BOOLEAN, INTEGER, [(MISMATCH, "")], id="boolean-is-no-integer"),
        pytest.param(TEXT, INTEGER, [(MISMATCH, "")], id="text-is-no-integer"),
        pytest.param(type_of(4.0), INTEGER, [], id="integral-number"),
        pytest.param(type_of(4.5), INTEGER, [(MISMATCH, "")], id="fraction"),
        pytest.param(union(TEXT, NULL), TEXT, [(MISSING, "")], id="null-too-much"),
        pytest.param(union(TEXT, NULL), union(NULL, TEXT), [], id="nullable"),
        pytest.param(union(INTEGER, NULL), TEXT, [(MISMATCH, "")], id="mismatch-before-missing"),
        pytest.param(NULL, TEXT, [(MISSING, "")], id="only-null"),
        pytest.param(UNKNOWN, TEXT, [(UNCHECKED, "")], id="unknown"),
        pytest.param(TEXT, UNKNOWN, [], id="anything-goes"),
        pytest.param(NEVER, TEXT, [], id="no-value"),
        pytest.param(union(TEXT, INTEGER), TEXT, [(MISMATCH, "")], id="every-member-must-fit"),
        pytest.param(TEXT, union(INTEGER, TEXT), [], id="one-alternative-is-enough"),
        pytest.param(ListType(NEVER), ListType(TEXT), [], id="empty-list"),
        pytest.param(ListType(NEVER), TEXT, [(MISMATCH, "")], id="empty-list-is-a-list"),
        pytest.param(ListType(INTEGER), ListType(NUMBER), [], id="list-by-element"),
        pytest.param(ListType(INTEGER), ListType(TEXT), [(MISMATCH, "[*]")], id="list-of-another"),
        pytest.param(ListType(union(TEXT, NULL)), ListType(TEXT), [(MISSING, "[*]")], id="list-with-nulls"),
        pytest.param(TEXT, ListType(TEXT), [(MISMATCH, "")], id="text-is-no-list"),
        pytest.param(TEXT, CHOICE, [(UNCHECKED, "")], id="text-to-choice"),
        pytest.param(type_of("x"), CHOICE, [], id="known-choice"),
        pytest.param(type_of("z"), CHOICE, [(MISMATCH, "")], id="unknown-choice"),
        pytest.param(Scalar("string", ("x", "z")), CHOICE, [(UNCHECKED, "")], id="choices-overlap"),
        pytest.param(Scalar("string", ("y",)), CHOICE, [], id="fewer-choices"),
        pytest.param(type_of(1), Scalar("number", (1.0, 2.5)), [], id="numbers-by-value"),
        pytest.param(TEXT, STARTS_WITH_A, [(UNCHECKED, "")], id="conditions"),
        pytest.param(STARTS_WITH_A, STARTS_WITH_A, [], id="same-conditions"),
        pytest.param(STARTS_WITH_A, TEXT, [], id="conditions-of-the-source"),
        pytest.param(type_of("ab"), STARTS_WITH_A, [], id="known-value-meets-conditions"),
        pytest.param(type_of("b"), STARTS_WITH_A, [(MISMATCH, "")], id="known-value-fails-conditions"),
        pytest.param(
            ListType(TEXT), ListType(TEXT, '{"minItems":1}'), [(UNCHECKED, "")], id="list-with-conditions"
        ),
    ],
)
def test_scalars_and_lists(source: Type, target: Type, faults: list) -> None:
    """Scalars fit by kind and by value, lists by element, unions by alternative."""
    assert found(source, target) == faults


@pytest.mark.parametrize(
    ("source", "target", "faults"),
    [
        pytest.param(record(a=INTEGER), record(a=NUMBER), [], id="by-field"),
        pytest.param(record(a=TEXT), record(a=INTEGER), [(MISMATCH, ".a")], id="field-of-another-type"),
        pytest.param(record(a=TEXT), record(a=TEXT, b=TEXT), [(MISMATCH, "")], id="field-lacks"),
        pytest.param(record(a=TEXT), record(a=TEXT, b_=TEXT), [], id="optional-field-lacks"),
        pytest.param(record(a_=TEXT), record(a=TEXT), [(MISSING, ".a")], id="field-may-lack"),
        pytest.param(record(a_=INTEGER), record(a=TEXT), [(MISMATCH, ".a")], id="one-fault-a-place"),
        pytest.param(record(a_=INTEGER), record(a_=TEXT), [(UNCHECKED, ".a")], id="fits-if-absent"),
        pytest.param(record(a=TEXT, b=TEXT), record(a=TEXT), [(MISMATCH, ".b")], id="stranger"),
        pytest.param(
            record(a=TEXT, b_=TEXT), record(a=TEXT), [(UNCHECKED, ".b")], id="stranger-may-be-there"
        ),
        pytest.param(record(a=TEXT, b=TEXT), record(UNKNOWN, a=TEXT), [], id="open-target"),
        pytest.param(record(a=INTEGER), record(TEXT), [(MISMATCH, ".a")], id="target-with-typed-extras"),
        pytest.param(record(UNKNOWN), record(a=TEXT), [(MISSING, ".a"), (UNCHECKED, "")], id="open-source"),
        pytest.param(record(UNKNOWN, a=TEXT), record(a=TEXT), [(UNCHECKED, "")], id="open-source-with-field"),
        pytest.param(record(UNKNOWN), record(UNKNOWN), [], id="any-object"),
        pytest.param(record(INTEGER), record(TEXT), [(MISMATCH, "")], id="extras-of-another-type"),
        pytest.param(record(INTEGER), record(NUMBER), [], id="extras"),
        pytest.param(record(a=TEXT), TEXT, [(MISMATCH, "")], id="object-is-no-text"),
        pytest.param(
            record(a=ListType(record(b=TEXT))),
            record(a=ListType(record(b=INTEGER))),
            [(MISMATCH, ".a[*].b")],
            id="deep-place",
        ),
        pytest.param(
            record(a=TEXT), union(record(a=INTEGER), NULL), [(MISMATCH, ".a")], id="place-in-an-optional"
        ),
        pytest.param(
            record(a=TEXT),
            union(record(a=INTEGER), record(b=TEXT)),
            [(MISMATCH, "")],
            id="no-alternative-is-nearer",
        ),
        pytest.param(record(a=TEXT), union(record(a=TEXT), record(b=TEXT)), [], id="one-shape-of-two"),
    ],
)
def test_objects(source: Type, target: Type, faults: list) -> None:
    """Objects fit by field; what is absent or too much is told at its own place."""
    assert found(source, target) == faults


@pytest.mark.parametrize(
    ("source", "target", "hint"),
    [
        (TEXT, INTEGER, "convert it with int(value)"),
        (INTEGER, TEXT, "convert it with str(value)"),
        (BOOLEAN, NUMBER, ""),
        (TEXT, ListType(TEXT), "a list of one is [value]"),
        (record(name=TEXT, size=INTEGER), INTEGER, "refer to one of its fields, such as .size"),
        (record(a=TEXT, unti=TEXT), record(a=TEXT, unit_=TEXT), "did you mean 'unit'?"),
        (union(TEXT, NULL), TEXT, "say what to take instead: first(value, a value for that case)"),
        (NUMBER, INTEGER, "make it an integer with round(value) or int(value)"),
    ],
)
def test_hints(source: Type, target: Type, hint: str) -> None:
    """A fault says what to do where there is something to do."""
    assert [fault.hint for fault in assign(source, target)] == [hint]


def test_messages_name_both_types() -> None:
    """Expected and found stand in the message as a reader knows them."""
    assert assign(ListType(TEXT), TEXT)[0].message == "expected text, found list of text"
    lacks = assign(record(text=TEXT), record(text=TEXT, places=ListType(TEXT)))[0].message
    assert lacks == "expected {text, places}, found {text} without the field places"


def test_recursive_types_end() -> None:
    """Types that hold themselves are compared once around."""
    assert found(tree("integer"), tree("integer")) == []
    assert found(tree("integer"), tree("number")) == []
    assert {code for code, _ in found(tree("number"), tree("integer"))} == {UNCHECKED}
    assert found(tree("string"), tree("integer"))[0] == (MISMATCH, ".v")
    assert found(type_of({"v": 1, "kids": [{"v": 2, "kids": []}]}), tree("integer")) == []
    assert found(type_of({"v": 1, "kids": [{"v": "2"}]}), tree("integer")) == [(MISMATCH, ".kids[*].v")]


def ring(length: int) -> Type:
    """Return a type that comes back to itself after some lists and objects."""
    types = {
        f"R{number}": {
            "type": "object",
            "properties": {"next": {"$ref": f"#/types/R{(number + 1) % length}"}},
            "required": ["next"] if number else [],
        }
        for number in range(length)
    }
    return read_schema({"$ref": "#/types/R0"}, types)[0]


def test_long_recursion_is_bounded() -> None:
    """Two rings whose lengths have no common measure are compared down to a bound, not to the end of the stack."""
    assert len(assign(ring(DEPTH_MAX - 7), ring(DEPTH_MAX + 1))) < 100
    assert assign(ring(997), ring(1009)) is not None


def test_large_recursion_is_bounded() -> None:
    """Thousands of types that hold one another cost bounded work, and few faults."""
    many = 2_000

    def web(first: int, second: int) -> Type:
        types = {
            f"T{number}": {
                "properties": {
                    "a": {"$ref": f"#/types/T{(number + first) % many}"},
                    "b": {"$ref": f"#/types/T{(number * second) % many}"},
                    f"c{second}": {"type": "string"},
                }
            }
            for number in range(many)
        }
        return read_schema({"$ref": "#/types/T0"}, types)[0]

    assert len(assign(web(1, 7), web(3, 5))) <= FAULTS_MAX


def test_hostile_types_are_bounded() -> None:
    """Alternatives within alternatives multiply, and are cut off."""
    wide, other = TEXT, TEXT
    for _ in range(40):
        wide = union(*(record(**{f"f{number}": wide, "x": INTEGER}) for number in range(4)))
        other = union(*(record(**{f"f{number}": other, "x": NUMBER}) for number in range(4)))
    assert assign(wide, other) == [] or assign(wide, other)


@given(plan_types)
def test_a_type_fits_itself(of: Type) -> None:
    """`assign(t, t)` finds nothing, known values, conditions and all."""
    assert assign(of, of) == []


@given(json_values)
def test_a_value_fits_its_own_schema(value: object) -> None:
    """What a schema of a value's type says, the value fits without a warning."""
    of = type_of(value)
    target, faults = read_schema(schema_of(of))
    assert faults == []
    assert assign(of, target) == []


@given(plan_types, plan_types)
def test_a_member_fits_its_union(a: Type, b: Type) -> None:
    """Nothing that fits one alternative is refused by both."""
    assert not [fault for fault in assign(a, union(a, b)) if fault.code == MISMATCH]


@given(plan_types, plan_types)
def test_one_fault_a_place(a: Type, b: Type) -> None:
    """No place is told of twice."""
    places = [fault.inner for fault in assign(a, b)]
    assert len(places) == len(set(places))


@given(small_values, schemas)
def test_a_valid_value_has_no_type_mismatch(value: object, schema: object) -> None:
    """What JSON Schema accepts, the types accept."""
    types = {"A": {"type": "integer"}, "B": {"properties": {"a": {"type": "string"}}}}
    if isinstance(schema, dict) and jsonschema_rs.is_valid(self_contained(schema, types), value):
        target, _ = read_schema(schema, types)
        assert MISMATCH not in [fault.code for fault in assign(type_of(value), target)]
