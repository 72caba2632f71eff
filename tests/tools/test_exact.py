"""Values that are JSON as they stand go a short way: what comes of it is what the long way makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from firmplan import ToolError
from firmplan.tools.annotated import PythonTypes
from firmplan.tools.callables import EMPTY, Annotations, Parameter
from hypothesis import given
from hypothesis import strategies as st

ANNOTATIONS = (
    int,
    str,
    bool,
    float,
    None,
    list[int],
    dict[str, float],
    int | None,
    int | float,
    list[str | None] | bool,
    dict[str, list[dict[str, int]]],
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(st.characters(), max_size=3)
    | st.sampled_from(["\ud800", -0.0, 2.0, 1e300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)


def types_of(annotation: object, *, short: bool) -> PythonTypes:
    """Return the types of a function from one argument of a type to a result of that type."""
    made = PythonTypes("a tool", "f", Annotations((Parameter("x", annotation, EMPTY),), annotation, None))
    if not short:
        made._exact = made._exact_result = None  # pyright: ignore[reportPrivateUsage]  # the long way, to compare with
    return made


def outcome(work: Callable[[], Any]) -> object:
    """Return what came of it, in a form that compares; `1` and `1.0` differ."""
    try:
        return repr(work())
    except ToolError as fault:
        return fault.code, str(fault)


PAIRS = [
    (Parameter("x", annotation, EMPTY), types_of(annotation, short=True), types_of(annotation, short=False))
    for annotation in ANNOTATIONS
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: str(pair[0].annotation))
@given(value=VALUES)
def test_the_short_way_gives_what_the_long_way_gives(
    pair: tuple[Parameter, PythonTypes, PythonTypes], value: Any
) -> None:
    """Bound arguments, their values, results, and every refusal are the same."""
    _, short, long = pair
    bound = outcome(lambda: short.bind({"x": value}))
    assert bound == outcome(lambda: long.bind({"x": value}))
    assert outcome(lambda: short.seal(value)) == outcome(lambda: long.seal(value))
    if isinstance(bound, str):
        args = short.bind({"x": value})
        assert outcome(lambda: short.unpack(args)) == outcome(lambda: long.unpack(args))
