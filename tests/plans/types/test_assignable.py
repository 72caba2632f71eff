"""Which values fit which places: contract 2, "Types"."""

from __future__ import annotations

import jsonschema_rs
import pytest
from firmplan.plans.types.assignable import DEPTH_MAX, PROBLEMS_MAX, assignability_problems
from firmplan.plans.types.read import read_schema
from firmplan.plans.types.show import schema_of
from firmplan.plans.types.standalone import self_contained
from firmplan.plans.types.types import (
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
    type_of,
    union,
)
from firmplan.plans.types.types import DEPTH_MAX as KINDS_DEEP
from hypothesis import given

from .plan_values import json_values, plan_types, schemas, small_values

CHOICE = Scalar("string", ("x", "y"))
STARTS_WITH_A = Scalar("string", None, ('{"pattern":"^a"}',))


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
    faults = assignability_problems(source, target)
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
            ListType(TEXT), ListType(TEXT, ('{"minItems":1}',)), [(UNCHECKED, "")], id="list-with-conditions"
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


CIRCLE = {
    "type": "object",
    "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
    "required": ["kind", "r"],
}
SQUARE = {
    "type": "object",
    "properties": {"kind": {"const": "square"}, "r": {"type": "number"}},
    "required": ["kind", "r"],
}
UNTAGGED = {"type": "object", "properties": {"r": {"type": "number"}}, "required": ["r"]}
DEFAULTED = [{**shape, "required": ["r"]} for shape in (CIRCLE, SQUARE)]
"""Shapes whose tag has a default, as pydantic writes them."""


@pytest.mark.parametrize(
    ("produced", "consumed", "code"),
    [
        pytest.param({}, {"oneOf": [{}, {}]}, UNCHECKED, id="one-of-that-overlaps"),
        pytest.param({"type": "integer"}, {"oneOf": [{"type": "integer"}, {"type": "number"}]}, UNCHECKED, id="integers-are-numbers"),
        pytest.param({"type": "integer"}, {"oneOf": [{"type": "integer"}, {"type": "string"}]}, None, id="one-of-kinds"),
        pytest.param(CIRCLE, {"oneOf": [CIRCLE, SQUARE]}, None, id="tagged"),
        pytest.param({"oneOf": [CIRCLE, SQUARE]}, {"oneOf": [SQUARE, CIRCLE]}, None, id="tagged-to-tagged"),
        pytest.param(UNTAGGED, {"oneOf": [CIRCLE, SQUARE]}, MISMATCH, id="without-its-tag"),
        pytest.param(CIRCLE, {"oneOf": DEFAULTED}, UNCHECKED, id="tag-with-a-default"),
        pytest.param(UNTAGGED, {"oneOf": DEFAULTED}, UNCHECKED, id="without-a-tag-that-has-a-default"),
        pytest.param({}, {"not": {"type": "string"}}, UNCHECKED, id="not"),
        pytest.param({"type": "null"}, {"not": {"type": "string"}}, None, id="not-for-null"),
        pytest.param({"const": "x"}, {"not": {"type": "string"}}, MISMATCH, id="not-for-a-known-value"),
        pytest.param({"not": {"type": "string"}}, {"not": {"type": "string"}}, None, id="the-same-not"),
        pytest.param({}, {"required": ["a"]}, UNCHECKED, id="conditions-without-a-type"),
        pytest.param({"type": "string"}, {"minLength": 1}, UNCHECKED, id="a-condition-without-a-type"),
        pytest.param({"type": "integer"}, {"minLength": 1}, None, id="a-condition-of-another-kind"),
        pytest.param({"minimum": 1, "maximum": 5, "type": "integer"}, {"type": "number", "minimum": 1}, None, id="some-of-the-conditions"),
        pytest.param({"minimum": 1, "type": "integer"}, {"minimum": 1, "maximum": 5, "type": "integer"}, UNCHECKED, id="more-conditions"),
        pytest.param({"type": "integer", "minimum": 3}, {"type": "number", "exclusiveMinimum": 2}, None, id="a-narrower-range"),
        pytest.param({"type": "integer", "minimum": 3}, {"type": "number", "exclusiveMinimum": 3}, UNCHECKED, id="a-range-with-its-end"),
        pytest.param({"type": "integer", "maximum": 3}, {"type": "number", "exclusiveMinimum": 3}, MISMATCH, id="ranges-apart"),
        pytest.param({"type": "array", "minItems": 3}, {"type": "array", "maxItems": 2}, MISMATCH, id="lengths-apart"),
        pytest.param({"type": "integer", "minimum": 3}, {"oneOf": [{"type": "integer", "minimum": 2}, {"type": "integer", "maximum": 1}]}, None, id="one-of-two-ranges"),
        pytest.param({"type": "string"}, {"enum": [f"v{number}" for number in range(100)]}, UNCHECKED, id="very-many-values"),
        pytest.param({"type": "array", "items": {"enum": ["a", "b"]}}, {"anyOf": [{"type": "array", "items": {"const": "a"}}, {"type": "array", "items": {"const": "b"}}]}, UNCHECKED, id="lists-of-one-or-the-other"),
        pytest.param({"const": [2, 1]}, {"const": [1, 2]}, UNCHECKED, id="order-of-a-constant"),
        pytest.param(
            {"prefixItems": [{"type": "integer"}], "items": {"type": ["integer", "string"]}, "type": "array"},
            {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "type": "array"},
            UNCHECKED,
            id="what-follows-a-tuple",
        ),
        pytest.param({"type": "array", "items": [{"type": "integer"}]}, {"type": "array", "items": {"type": "integer"}}, UNCHECKED, id="old-tuples-go-on"),
        pytest.param({"type": "object", "properties": {"a": {}, "z": {}}}, {"type": "object", "anyOf": [{"type": "object", "properties": {"a": {}}}]}, UNCHECKED, id="closed-beside-its-type"),
        pytest.param({"allOf": [{"contains": {"const": 1}}, {"minContains": 2}]}, {"contains": {"const": 1}, "minContains": 2}, UNCHECKED, id="words-that-belong-together"),
        pytest.param({"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": True}, {"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}}, UNCHECKED, id="closed-beside-patterns"),
        pytest.param(
            {"type": "object", "properties": {"c": {}}, "anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]},
            {"anyOf": [{"type": "object", "properties": {"a": {}, "c": {}}}, {"type": "object", "properties": {"b": {}, "c": {}}}]},
            UNCHECKED,
            id="fields-of-both-alternatives",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": {"type": "integer"}, "k": {"const": "x"}}, "required": ["a", "k"]},
            {"oneOf": [{"type": "object", "properties": {"k": {"const": "x"}}}, {"type": "object", "properties": {"a": False, "k": {"const": "x"}}}], "properties": {"a": True}},
            UNCHECKED,
            id="a-field-that-one-alternative-forbids-and-the-whole-names",
        ),
        pytest.param(
            {"type": "object", "properties": {"a": {"type": "integer"}, "k": {"const": "x"}}, "required": ["a", "k"]},
            {"anyOf": [{"type": "object", "properties": {"k": {"const": "x"}}}, {"type": "object", "properties": {"a": {"type": "string"}, "k": {"const": "x"}}}], "properties": {"a": True}},
            UNCHECKED,
            id="a-field-that-one-alternative-narrows-and-the-whole-names",
        ),
    ],
)  # fmt: skip
def test_schemas(produced: dict, consumed: dict, code: str | None) -> None:
    """What a type does not say stays a condition: values fit where they are known to meet it, else they may."""
    (source, faults), (target, more) = read_schema(produced), read_schema(consumed)
    assert faults == more == []
    assert [fault.code for fault in assignability_problems(source, target)][:1] == (
        [] if code is None else [code]
    )


def test_conditions_rest_on_definitions() -> None:
    """Equal words about definitions of one name are two conditions where the definitions differ."""
    schema = {"type": "object", "propertyNames": {"$ref": "#/$defs/N"}}
    short, long = ({**schema, "$defs": {"N": {"maxLength": most}}} for most in (2, 9))
    assert found(read_schema(short)[0], read_schema(short)[0]) == []
    assert found(read_schema(short)[0], read_schema(long)[0]) == [(UNCHECKED, "")]


def test_what_is_cut_off_never_fits() -> None:
    """Of what lies below the bounds of types nothing is known, so it is checked at run time."""
    deep: dict = {"type": "string"}
    for _ in range(KINDS_DEEP + 2):
        deep = {"type": "array", "items": deep}
    (source, faults), (target, _) = read_schema(deep), read_schema(deep)
    assert faults == []
    assert {code for code, _ in found(source, target)} == {UNCHECKED}


def test_a_comparison_rests_on_no_assumption_that_failed() -> None:
    """What fits only as long as two recursive types fit is asked again once they turn out not to."""
    types = {
        "P": {"type": "object", "properties": {"next": {"$ref": "#/types/Q"}, "n": {"type": "string"}}},
        "Q": {"type": "object", "properties": {"back": {"$ref": "#/types/P"}}},
        "R": {"type": "object", "properties": {"next": {"$ref": "#/types/S"}, "n": {"type": "integer"}}},
        "S": {"type": "object", "properties": {"back": {"$ref": "#/types/R"}}},
    }
    source, _ = read_schema(
        {"type": "object", "properties": {"p": {"$ref": "#/types/P"}, "q": {"$ref": "#/types/Q"}}}, types
    )
    target, _ = read_schema(
        {"type": "object", "properties": {"p": {"$ref": "#/types/R"}, "q": {"$ref": "#/types/S"}}}, types
    )
    assert {inner for _, inner in found(source, target)} >= {".p.n", ".q.back.n"}


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
    assert [fault.hint for fault in assignability_problems(source, target)] == [hint]


def test_messages_name_both_types() -> None:
    """Expected and found stand in the message as a reader knows them."""
    assert assignability_problems(ListType(TEXT), TEXT)[0].message == "expected text, found list of text"
    lacks = assignability_problems(record(text=TEXT), record(text=TEXT, places=ListType(TEXT)))[0].message
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
    assert len(assignability_problems(ring(DEPTH_MAX - 7), ring(DEPTH_MAX + 1))) < 100
    assert assignability_problems(ring(997), ring(1009)) is not None


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

    assert len(assignability_problems(web(1, 7), web(3, 5))) <= PROBLEMS_MAX


def test_hostile_types_are_bounded() -> None:
    """Alternatives within alternatives multiply, and are cut off."""
    wide, other = TEXT, TEXT
    for _ in range(40):
        wide = union(*(record(**{f"f{number}": wide, "x": INTEGER}) for number in range(4)))
        other = union(*(record(**{f"f{number}": other, "x": NUMBER}) for number in range(4)))
    assert assignability_problems(wide, other) == [] or assignability_problems(wide, other)


@given(plan_types)
def test_a_type_fits_itself(of: Type) -> None:
    """`assignability_problems(t, t)` finds nothing, known values, conditions and all."""
    assert assignability_problems(of, of) == []


@given(json_values)
def test_a_value_fits_its_own_schema(value: object) -> None:
    """What a schema of a value's type says, the value fits without a warning."""
    of = type_of(value)
    target, faults = read_schema(schema_of(of))
    assert faults == []
    assert assignability_problems(of, target) == []


@given(plan_types, plan_types)
def test_a_member_fits_its_union(a: Type, b: Type) -> None:
    """Nothing that fits one alternative is refused by both."""
    assert not [fault for fault in assignability_problems(a, union(a, b)) if fault.code == MISMATCH]


@given(plan_types, plan_types)
def test_one_fault_a_place(a: Type, b: Type) -> None:
    """No place is told of twice."""
    places = [fault.inner for fault in assignability_problems(a, b)]
    assert len(places) == len(set(places))


@given(small_values, schemas)
def test_a_valid_value_has_no_type_mismatch(value: object, schema: object) -> None:
    """What JSON Schema accepts, the types accept."""
    types = {"A": {"type": "integer"}, "B": {"type": "object", "properties": {"a": {"type": "string"}}}}
    if isinstance(schema, dict) and jsonschema_rs.is_valid(self_contained(schema, types), value):
        target, _ = read_schema(schema, types)
        assert MISMATCH not in [fault.code for fault in assignability_problems(type_of(value), target)]
