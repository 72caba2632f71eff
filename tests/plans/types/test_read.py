"""JSON Schemas as plans read them: as types, standing alone, and against values."""

from __future__ import annotations

import jsonschema_rs
import pytest
from firmplan.plans.reports.paths import parts_of
from firmplan.plans.types.assignable import assignability_problems
from firmplan.plans.types.read import INLINE_SIZE_MAX, read_schema
from firmplan.plans.types.show import type_text
from firmplan.plans.types.standalone import self_contained
from firmplan.plans.types.types import (
    INTEGER,
    NEVER,
    NULL,
    TEXT,
    UNKNOWN,
    ListType,
    Named,
    ObjectType,
    Property,
    Scalar,
    Type,
    members,
    type_of,
    union,
)
from firmplan.plans.types.validate import value_problems
from hypothesis import given

from .plan_values import garbage, schemas, small_values

NOTE = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "places": {"type": "array", "items": {"type": "string"}}},
    "required": ["text", "places"],
}
TREE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/types/Tree"}}},
    "required": ["v"],
}
CIRCLE = {
    "type": "object",
    "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}},
    "required": ["kind", "r"],
}
SQUARE = {
    "type": "object",
    "properties": {"kind": {"const": "square"}, "a": {"type": "number"}},
    "required": ["kind", "a"],
}


def read(schema: object, types: dict | None = None) -> Type:
    """Return the type of a schema without faults."""
    made, faults = read_schema(schema, types or {})
    assert faults == []
    return made


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "a value of unknown type"),
        ({"type": "string", "format": "date"}, "text"),
        ({"type": ["string", "null"]}, "text or null"),
        ({"type": "integer", "nullable": True}, "integer or null"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, "integer or null"),
        ({"enum": ["a", "b"]}, 'one of "a", "b"'),
        ({"type": "string", "enum": ["a", "b", 3]}, 'one of "a", "b"'),
        ({"const": "a"}, '"a"'),
        ({"type": "string", "pattern": "^a"}, "text that matches ^a"),
        ({"type": "string", "minLength": 1}, "text of at least 1 character"),
        (
            {"type": "string", "minLength": 2, "maxLength": 3},
            "text of at most 3 characters and of at least 2 characters",
        ),
        ({"type": "integer", "minimum": 0.0}, "integer of at least 0"),
        ({"type": "number", "exclusiveMaximum": 1}, "number below 1"),
        ({"type": "number", "multipleOf": 3}, "number with conditions"),
        ({"type": "string", "not": {"const": "a"}, "minLength": 1}, "text with conditions"),
        ({"type": "string", "minLength": 0}, "text"),
        ({"type": "array"}, "list of a value of unknown type"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        ({"items": {"type": "integer"}}, "a value with conditions"),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "items": False}, "list of integer"),
        ({"type": "array", "prefixItems": [{"type": "integer"}], "maxItems": 1}, "list of integer"),
        ({"type": "object"}, "object"),
        ({"type": "object", "properties": {}}, "an empty object"),
        ({"type": "object", "properties": {"a": {}}}, "{a?}"),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, "{a}"),
        ({"properties": {"a": {}}, "required": ["a"]}, "a value with conditions"),
        ({"type": ["object", "null"], "properties": {"a": {}}}, "{a?} or null"),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, "{a?, ..}"),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, "{a?}"),
        ({"type": "object", "additionalProperties": False}, "an empty object"),
        ({"allOf": [{"type": "integer"}, {"type": "number"}]}, "integer with conditions"),
        ({"allOf": [{"type": "integer"}, {"type": "string"}]}, "no value"),
        (
            {
                "type": "object",
                "allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}, "required": ["b"]}],
            },
            "{a?, b}",
        ),
        ({"allOf": [{"type": "object"}, {"properties": {"a": {}}}]}, "{a?}"),
        ({"allOf": [{"type": ["object", "null"]}, {"properties": {"a": {}}}]}, "{a?} or null"),
        (
            {"allOf": [{"$ref": "#/$defs/N"}, {"properties": {"b": {}}}], "$defs": {"N": NOTE}},
            "{text, places, b?}",
        ),
        (
            {"type": "object", "allOf": [{"$ref": "#/$defs/U"}], "$defs": {"U": {"properties": {"a": {}}}}},
            "{a?}",
        ),
        ({"$ref": "#/$defs/U", "$defs": {"U": {"properties": {"a": {}}}}}, "a value with conditions"),
        ({"anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "null"}]}, "{a?} or null"),
        ({"anyOf": [{"properties": {"a": {}}}, {"type": "null"}]}, "a value with conditions"),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, "a value with conditions"),
        ({"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}, {}]}, "{a?}"),
        ({"type": "array", "items": {"properties": {"a": {}}}}, "list of a value with conditions"),
        ({"enum": [{"a": 1}, "x"], "properties": {"a": {}}}, '"x" or {a}'),
        ({"not": {}}, "no value"),
    ],
)
def test_what_schemas_read_as(schema: dict, text: str) -> None:
    """Each way of saying a type in JSON Schema is understood."""
    assert type_text(read(schema)) == text


def test_objects_are_closed_unless_they_say_otherwise() -> None:
    """An object is open if `additionalProperties` is given and not false, or if it has no `properties`."""
    assert read(NOTE).extra is None
    assert read({**NOTE, "additionalProperties": False}).extra is None
    assert read({**NOTE, "additionalProperties": True}).extra == UNKNOWN
    assert read({**NOTE, "additionalProperties": {"type": "integer"}}).extra == INTEGER
    assert read({"type": "object"}).extra == UNKNOWN


def test_references_are_followed() -> None:
    """`#/types/Name`, and what the schema defines itself, read as what they name."""
    types = {"Note": NOTE, "Notes": {"type": "array", "items": {"$ref": "#/types/Note"}}}
    assert read({"$ref": "#/types/Notes"}, types) == ListType(read(NOTE))
    assert read({"$ref": "#/$defs/N", "$defs": {"N": NOTE}}) == read(NOTE)
    assert read(
        {"type": "array", "items": {"$ref": "#/definitions/N"}, "definitions": {"N": NOTE}}
    ) == ListType(read(NOTE))
    assert read({"$ref": "#/types/My%20Note"}, {"My Note": NOTE}) == read(NOTE)


def test_a_type_has_its_own_definitions() -> None:
    """A type that was pasted with its `$defs` finds them in itself."""
    own = {"$ref": "#/$defs/Inner", "$defs": {"Inner": {"type": "integer"}}}
    assert read({"$ref": "#/types/Own", "$defs": {"Inner": {"type": "string"}}}, {"Own": own}) == INTEGER
    contained = self_contained({"items": {"$ref": "#/types/Own"}, "type": "array"}, {"Own": own})
    assert jsonschema_rs.Draft202012Validator(contained).is_valid([1])
    assert not jsonschema_rs.Draft202012Validator(contained).is_valid(["1"])


def test_recursion_stays_a_name() -> None:
    """A type that holds itself is read once, and holds its own name."""
    made = read({"$ref": "#/types/Tree"}, {"Tree": TREE})
    kids = made.fields["kids"].type.item
    assert isinstance(kids, Named)
    assert kids.name == "Tree"
    assert members(kids) == (made,)


def test_large_definitions_stay_names() -> None:
    """Definitions that are named many times are not written out each time."""
    wide = {
        "type": "object",
        "properties": {f"f{number}": {"type": "string"} for number in range(INLINE_SIZE_MAX)},
    }
    both = {"a": {"$ref": "#/types/W"}, "b": {"$ref": "#/types/W"}}
    made = read({"type": "object", "properties": both}, {"W": wide})
    assert made.fields["a"].type == made.fields["b"].type
    assert isinstance(made.fields["a"].type, Named)
    assert type_text(made.fields["a"].type) == "W"


@pytest.mark.parametrize(
    ("schema", "code", "inner", "hint"),
    [
        ({"$ref": "#/types/Nte"}, "unknown-type", "", "did you mean 'Note'?"),
        ({"items": {"$ref": "Note"}}, "unknown-type", ".items", "write '#/types/Note'"),
        (
            {"items": {"$ref": "https://example.org/x"}},
            "unknown-type",
            ".items",
            "define it in the plan's 'types'",
        ),
        ({"type": "str"}, "bad-shape", ".type", "write 'string'"),
        ({"type": "strng"}, "bad-shape", ".type", "did you mean 'string'?"),
        ({"type": "any"}, "bad-shape", ".type", "leave 'type' out for any value"),
        ({"type": []}, "bad-shape", ".type", ""),
        ("string", "bad-shape", "", 'write {"type": "string"}'),
        (
            {"properties": {"any key": "integer"}},
            "bad-shape",
            '.properties["any key"]',
            'write {"type": "integer"}',
        ),
        ({"properties": ["a"]}, "bad-shape", ".properties", ""),
        ({"type": "object", "required": True}, "bad-shape", ".required", ""),
        ({"type": "string", "pattern": "("}, "bad-shape", ".pattern", ""),
        ({"type": "number", "minimum": "3"}, "bad-shape", ".minimum", ""),
        ({"anyOf": [{"type": "integer"}, {"type": "int"}]}, "bad-shape", ".anyOf[1].type", "write 'integer'"),
    ],
)
def test_what_is_wrong_with_schemas(schema: object, code: str, inner: str, hint: str) -> None:
    """A fault of a schema is told to the place, with what to write instead."""
    _, faults = read_schema(schema, {"Note": NOTE})
    assert [(fault.code, fault.inner, fault.hint) for fault in faults] == [(code, inner, hint)]
    assert "expected" in faults[0].message
    assert "found" in faults[0].message


def test_every_fault_is_told() -> None:
    """All faults of a schema are found at once; those of other types are told where they are defined."""
    _, faults = read_schema(
        {"properties": {"a": {"type": "int"}, "b": {"$ref": "#/types/X"}}}, {"Y": {"type": "str"}}
    )
    assert [fault.inner for fault in faults] == [".properties.a.type", ".properties.b"]
    assert read_schema({"$ref": "#/types/Y"}, {"Y": {"type": "str"}})[1] == []


@pytest.mark.parametrize(
    ("schema", "types"),
    [
        ({"$ref": "#"}, {}),
        ({"anyOf": [{"$ref": "#"}]}, {}),
        ({"anyOf": [{"$ref": "#"}, {"type": "string"}]}, {}),
        ({"oneOf": [{"$ref": "#"}, {"type": "string"}]}, {}),
        ({"not": {"$ref": "#"}}, {}),
        (
            {"allOf": [{"$ref": "#/types/A"}, {"type": "object"}]},
            {"A": {"if": {"$ref": "#/types/A"}, "then": {}}},
        ),
        ({"$ref": "#/types/A"}, {"A": {"$ref": "#/types/A"}}),
        ({"$ref": "#/types/A"}, {"A": {"$ref": "#/types/B"}, "B": {"$ref": "#/types/A"}}),
        (
            {"$ref": "#/types/A"},
            {"A": {"$ref": "#/types/B"}, "B": {"$ref": "#/types/C"}, "C": {"$ref": "#/types/B"}},
        ),
    ],
)
def test_what_names_only_itself_is_refused(schema: dict, types: dict) -> None:
    """A reference that comes back to itself without going into a part of the value is no type."""
    made, faults = read_schema(schema, types)
    assert made == UNKNOWN
    assert {fault.code for fault in faults} == {"bad-shape"}
    assert {fault.code for fault in value_problems(3, schema, types)} <= {"bad-literal"}


def test_hostile_schemas_do_no_harm() -> None:
    """Depth, long chains of references and doubling definitions cost bounded time and no stack."""
    deep: object = {"type": "string"}
    for _ in range(3_000):
        deep = {"type": "array", "items": deep}
    _, faults = read_schema(deep)
    assert [fault.code for fault in faults] == ["limit-exceeded"]
    self_contained(deep)
    chain = {
        f"T{n}": {"type": "object", "properties": {"next": {"$ref": f"#/types/T{n + 1}"}}}
        for n in range(5_000)
    }
    made, _ = read_schema({"$ref": "#/types/T0"}, {**chain, "T5000": {"type": "string"}})
    assert isinstance(made, ObjectType)
    doubling = {
        f"D{n}": {"properties": {"l": {"$ref": f"#/types/D{n + 1}"}, "r": {"$ref": f"#/types/D{n + 1}"}}}
        for n in range(200)
    }
    assert read({"$ref": "#/types/D0"}, {**doubling, "D200": {"type": "string"}})
    unions: object = {"type": "string"}
    for _ in range(10):
        unions = {
            "allOf": [{"anyOf": [unions, {"type": "integer"}]}, {"anyOf": [unions, {"type": "boolean"}]}]
        }
    made = read(unions)  # a composition is an upper bound
    assert isinstance(made, Scalar)
    assert made.kind == "string"
    many = [{"properties": {f"p{n}": {"type": "string"}}, "required": [f"p{n}"]} for n in range(1_000)]
    assert "conditions" in type_text(read({"oneOf": many}))
    wide = [{"properties": {f"p{n}_{m}": {} for m in range(300)}} for n in range(60)]
    assert read({"properties": {"a": {}}, "anyOf": wide})
    assert read({"allOf": [{"anyOf": wide[:30]}, {"anyOf": wide[30:]}]})


@given(garbage, garbage, garbage)
def test_no_schema_is_too_bad(schema: object, type_a: object, value: object) -> None:
    """Whatever stands in the place of a schema: faults are told, nothing is raised."""
    types = {"A": type_a, "B": {"$ref": "#/types/A"}}
    made, faults = read_schema(schema, types)
    assert {fault.code for fault in faults} <= {"bad-shape", "unknown-type"}
    assert {fault.code for fault in value_problems(value, schema, types)} <= {"bad-literal"}
    assert isinstance(self_contained(schema, types), dict)
    assert type_text(made)


def test_self_contained_takes_along_what_is_named() -> None:
    """Every `#/types/Name` that is reached stands in `$defs`; the rest of `types` stays away."""
    made = self_contained({"items": {"$ref": "#/types/Tree"}, "type": "array"}, {"Tree": TREE, "Note": NOTE})
    assert list(made["$defs"]) == ["Tree"]
    validator = jsonschema_rs.Draft202012Validator(made)
    assert validator.is_valid([{"v": 1, "kids": [{"v": 2}]}])
    assert not validator.is_valid([{"v": 1, "kids": [{"v": "2"}]}])


def test_self_contained_closes_objects() -> None:
    """What the checker takes for closed is closed at run time, compositions included."""
    both = {"allOf": [{"$ref": "#/types/Note"}, {"properties": {"x": {"type": "integer"}}}]}
    validator = jsonschema_rs.Draft202012Validator(self_contained(both, {"Note": NOTE}))
    assert validator.is_valid({"text": "a", "places": [], "x": 1})
    assert not validator.is_valid({"text": "a", "places": [], "y": 1})
    assert self_contained(NOTE)["additionalProperties"] is False
    assert "additionalProperties" not in self_contained({"type": "object"})


def test_a_part_that_says_of_the_rest_what_it_wants_opens_the_composition() -> None:
    """`unevaluatedProperties` that is not false is about the fields of all parts: checker and validation both let them be."""
    part = {
        "oneOf": [{"properties": {"k": {"const": tag}}} for tag in ("x", "y")],
        "unevaluatedProperties": True,
    }
    whole = {"anyOf": [True], "$ref": "#/types/Part"}
    target, _ = read_schema(whole, {"Part": part})
    validator = jsonschema_rs.Draft202012Validator(self_contained(whole, {"Part": part}))
    for value in ({"k": "y", "a": 1}, {"k": "x"}):
        assert validator.is_valid(value)
        assert "type-mismatch" not in [fault.code for fault in assignability_problems(type_of(value), target)]
    assert not validator.is_valid({"k": "z"})


@given(schemas, small_values)
def test_standing_alone_changes_nothing_twice(schema: object, value: object) -> None:
    """A schema that stands alone, taken along again, accepts the same values."""
    if isinstance(schema, dict):
        types = {"A": {"type": "integer"}, "B": {"properties": {"a": {"type": "string"}}}}
        once = self_contained(schema, types)
        twice = self_contained(once)
        assert jsonschema_rs.is_valid(once, value) == jsonschema_rs.is_valid(twice, value)


def told(value: object, schema: dict, types: dict | None = None) -> list[tuple[str, str, str]]:
    """Return place, message and hint of each fault."""
    faults = value_problems(value, schema, types or {})
    assert {fault.code for fault in faults} <= {"bad-literal"}
    return [(fault.inner, fault.message, fault.hint) for fault in faults]


@pytest.mark.parametrize(
    ("value", "schema", "faults"),
    [
        (4.0, {"type": "integer"}, []),
        (4, {"type": "number"}, []),
        (True, {"type": "number"}, [("", "expected number, found true", "")]),
        ("5", {"type": "integer"}, [("", 'expected integer, found "5"', "write 5 without quotes")]),
        (12, {"type": "string"}, [("", "expected text, found 12", 'write "12"')]),
        (
            "5",
            {"type": ["integer", "null"]},
            [("", 'expected integer or null, found "5"', "write 5 without quotes")],
        ),
        ("a", {"type": "array", "items": {}}, [("", 'expected list, found "a"', 'write ["a"]')]),
        (
            "opn",
            {"enum": ["open", "closed"]},
            [("", 'expected one of "open", "closed", found "opn"', "did you mean 'open'?")],
        ),
        (1, {"minimum": 3}, [("", "expected a number of at least 3, found 1", "")]),
        ("", {"minLength": 1}, [("", 'expected text of at least 1 character, found ""', "")]),
        (
            1,
            {"oneOf": [{"type": "integer"}, {"type": "number"}]},
            [("", "expected a value that fits only one of several types, found 1", "")],
        ),
        (
            {"b": 1},
            {"propertyNames": {"pattern": "^a"}},
            [("", 'a name of a field: expected text that matches ^a, found "b"', "")],
        ),
        (
            [1],
            {"unevaluatedItems": False},
            [("", "expected no items that its schema has no place for, found [1]", "")],
        ),
        ([1, "b"], {"items": {"type": "string"}}, [("[0]", "expected text, found 1", 'write "1"')]),
        (
            {"any key": 1},
            {"additionalProperties": {"type": "string"}},
            [('["any key"]', "expected text, found 1", 'write "1"')],
        ),
        (
            {"text": "a", "plces": []},
            NOTE,
            [
                (
                    "",
                    "expected the field 'places' (list of text), found {text, plces}",
                    "is 'plces' meant to be 'places'?",
                ),
                (
                    ".plces",
                    "expected no other fields than text, places, found 'plces'",
                    "did you mean 'places'?",
                ),
            ],
        ),
    ],
)
def test_what_is_wrong_with_values(value: object, schema: dict, faults: list) -> None:
    """A value is told apart from what its place wants: place, expected, found, what to do."""
    assert sorted(told(value, schema)) == sorted(faults)


def test_alternatives_are_explained_by_the_closest() -> None:
    """Of several schemas, the one that the value was meant for says what is wrong."""
    shapes = {"oneOf": [CIRCLE, SQUARE]}
    assert told({"kind": "square", "a": "1"}, shapes) == [
        (".a", 'expected number, found "1"', "write 1 without quotes")
    ]
    assert told({"kind": "squre", "a": 1}, shapes) == [
        (".kind", 'expected one of "circle", "square", found "squre"', "did you mean 'square'?")
    ]
    assert told(3, {"anyOf": [NOTE, {"type": "null"}]}) == [("", "expected object, found 3", "")]
    assert told(3, {"anyOf": [NOTE, {"type": "string"}]}) == [("", "expected object or text, found 3", "")]
    assert told({"text": "a", "places": [1]}, {"anyOf": [NOTE, {"type": "null"}]}) == [
        (".places[0]", "expected text, found 1", 'write "1"')
    ]


def test_faults_in_recursive_values_have_their_place() -> None:
    """The place of a fault is spelled as paths are, however deep."""
    faults = told({"v": 1, "kids": [{"v": 2}, {"v": "x"}]}, {"$ref": "#/types/Tree"}, {"Tree": TREE})
    assert faults == [(".kids[1].v", 'expected integer, found "x"', "")]
    assert parts_of(faults[0][0]) == ("kids", 1, "v")


def test_compositions_know_the_fields_of_all_parts() -> None:
    """A fault in one part does not make the fields of that part strangers."""
    both = {"allOf": [{"$ref": "#/types/Note"}, {"properties": {"x": {"type": "integer", "minimum": 3}}}]}
    assert told({"text": "a", "places": [], "x": 1}, both, {"Note": NOTE}) == [
        (".x", "expected a number of at least 3, found 1", "")
    ]


def test_a_field_may_be_called_like_a_keyword() -> None:
    """Names of fields are names, whatever they mean elsewhere in a schema."""
    schema = {"properties": {"$ref": {"type": "string"}, "properties": {"type": "integer"}, "enum": {}}}
    assert told({"$ref": "#/types/X", "properties": 1, "enum": []}, schema) == []
    assert read({"const": {"$ref": "#/types/X"}}).fields == {
        "$ref": Property(Scalar("string", ("#/types/X",)))
    }


def test_what_is_not_json_is_a_fault() -> None:
    """Values past JSON or past the validator's depth are refused, not crashed on."""
    deep: object = 1
    for _ in range(3_000):
        deep = [deep]
    assert all(fault.code == "bad-literal" for fault in value_problems(deep, {"type": "string"}))


@given(schemas, small_values)
def test_no_faults_means_valid(schema: object, value: object) -> None:
    """`value_problems` finds something exactly if JSON Schema does, and every place it names is in the value."""
    types = {"A": {"type": "integer"}, "B": {"properties": {"a": {"type": "string"}}}}
    if not isinstance(schema, dict):
        return
    valid = jsonschema_rs.is_valid(self_contained(schema, types), value)
    faults = value_problems(value, schema, types)
    assert valid == (not faults)
    for fault in faults:
        there = value
        for part in parts_of(fault.inner):
            there = there[part]


def test_null_is_only_nullable_where_said() -> None:
    """`nullable` counts at run time as it does in types."""
    assert value_problems(None, {"type": "string", "nullable": True}) == []
    assert value_problems(None, {"type": "string"})
    assert union(TEXT, NULL) == read({"type": "string", "nullable": True})
    assert read(False) == NEVER
