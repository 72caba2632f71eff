"""A field of a template that was parsed with the whole object is the field parsed alone, and has the type that the whole object says."""

from __future__ import annotations

from firmplan.plans.expressions.evaluate import fold
from firmplan.plans.expressions.formula import read_formula
from firmplan.plans.expressions.infer import infer, infer_fields
from firmplan.plans.expressions.template import read_expression
from firmplan.plans.types.types import INTEGER, NULL, TEXT, ListType, ObjectType, Property, union
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

ROW = ObjectType({"i": Property(INTEGER), "o": Property(INTEGER, required=False)})
SCOPE = {
    "a": INTEGER,
    "m": union(INTEGER, NULL),
    "rows": ListType(ROW),
    "row": ROW,
    "item": TEXT,
    "inputs": ROW,
}
VALUES = {"a": 3, "m": None, "rows": [{"i": 1}], "row": {"i": 2}, "item": "x", "inputs": {"i": 4}}

PIECES = [
    "plain", "$${a}", "${a}", "${ row.i }", "${rows[0].i}", "${first(m, a)}", "${first(m, row.o, 1)}", "${inputs.i + 1}", "${inputs}", "${item}",
    "${1 / 0}", "${2 ** 3}", "${gone}", "${a +}", "${}", "{{ a }}", "${rows", '${secret("X")}',
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
values = st.recursive(
    texts | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from(["x", "y", "z", "any key"]), values, max_size=4)


@examples(500)
@given(objects)
def test_a_field_is_what_it_is_alone(value):
    """It refers to the same names, and gives the same value or the same error."""
    whole, _ = read_formula(value)
    for name, part in value.items():
        alone, _ = read_formula(part)
        found = whole.part(name)
        for said in ("value", "strict", "lenient", "names", "inputs", "secret", "constant", "canonical"):
            assert getattr(found, said) == getattr(alone, said), said
        assert [each.source for _, each in found.expressions] == [
            each.source for _, each in alone.expressions
        ]
        assert found.literal(part) == alone.literal(part)
        assert _outcome(found) == _outcome(alone)


@examples(500)
@given(objects)
def test_the_fields_have_the_types_that_they_have_in_the_whole(value):
    """Only the type of the object itself is left out: those of its parts, and all problems, are the same."""
    formula, _ = read_formula(value)
    whole, fields = infer(formula, SCOPE), infer_fields(formula, SCOPE)
    assert fields.problems == whole.problems
    assert fields.leaves == whole.leaves
    assert fields.branches == {place: found for place, found in whole.branches.items() if place}


@examples(300)
@given(texts)
def test_what_is_called_a_path_has_nothing_to_work_out(text):
    """An expression that is left out of `foldable` has no problem, costs no work, and stays as it is."""
    formula, _ = read_formula(text)
    left = [expression for _, expression in formula.foldable]
    for _, expression in formula.expressions:
        if expression not in left:
            careful = read_expression(expression.parsed.text)
            assert not careful.misread
            assert careful.node is not None
            assert careful.node == expression.parsed.node
            assert (fold(careful.node).problems, fold(careful.node).work) == ((), 0)
            assert fold(careful.node).node == careful.node


def _outcome(formula):
    try:
        return formula.evaluate(VALUES)
    except Exception as fault:  # noqa: BLE001  # whatever it is, both have it
        return type(fault), str(fault)
