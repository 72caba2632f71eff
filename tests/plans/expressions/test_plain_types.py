"""The quick way to the types of plain expressions says what the careful one says."""

from __future__ import annotations

from firmplan.plans.expressions.infer import _Inference, plain_type
from firmplan.plans.expressions.template import read_expression
from firmplan.plans.types.types import (
    BOOLEAN,
    INTEGER,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Property,
    Scalar,
    union,
)
from hypothesis import given
from hypothesis import strategies as st
from seeds import examples

FIELDS = {
    "i": INTEGER, "n": NUMBER, "t": TEXT, "b": BOOLEAN, "u": UNKNOWN, "l": ListType(INTEGER), "one": Scalar("integer", (1,)),
    "m": union(INTEGER, NULL), "v": union(INTEGER, TEXT),
}  # fmt: skip
RECORD = ObjectType(
    {**{name: Property(of) for name, of in FIELDS.items()}, "o": Property(INTEGER, required=False)}
)
SCOPE = {**FIELDS, "r": RECORD, "rr": ObjectType({"r": Property(RECORD)}), "inputs": RECORD, "prev": INTEGER}

names = st.sampled_from(
    [
        *FIELDS,
        "r.i",
        "r.n",
        "r.t",
        "r.o",
        "r.nosuch",
        "rr.r.i",
        "rr.r.m",
        "inputs.i",
        "inputs.no",
        "prev",
        "gone",
        "3",
        "2.5",
        "'x'",
        "None",
        "True",
    ]
)
operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", "in", "and"])
texts = st.recursive(
    names,
    lambda inner: st.tuples(inner, operators, inner).map(lambda three: f"({' '.join(three)})"),
    max_leaves=4,
)


@examples(500)
@given(texts)
def test_plain_types_are_those_of_the_careful_way(text):
    """Wherever it answers, nothing is wrong or doubtful, and the type is the same."""
    node = read_expression(text).folded
    quick = plain_type(node, SCOPE)
    if quick is not None:
        inference = _Inference(SCOPE)
        inference.findings.text = text
        assert inference.type(node) == quick
        assert inference.findings.problems == []
