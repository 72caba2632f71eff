"""Where two values differ: none where they are equal, and the smallest places where they are not."""

from __future__ import annotations

import pytest
from firmplan.plans.edit.differences import DIFFERENCES_MAX, SHOWN_MAX, differences, shown, shown_pair
from firmplan.plans.values import canonical
from hypothesis import given
from hypothesis import strategies as st

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(-3, 3).map(lambda x: round(x, 1))
    | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_none_exactly_where_equal(one, other):
    """Two values have no difference exactly if their canonical bytes are equal."""
    assert (differences(one, other) == ()) == (canonical(one) == canonical(other))


@given(VALUES, VALUES)
def test_the_other_way_round_is_the_mirror(one, other):
    """What was added one way was removed the other way, at the same paths."""
    mirror = {"added": "removed", "removed": "added", "changed": "changed"}
    there = sorted((each.path, each.kind) for each in differences(one, other))
    back = sorted((each.path, mirror[each.kind]) for each in differences(other, one))
    assert there == back


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (1, 1.0, ["1 -> 1.0"]),
        (1, True, ["1 -> true"]),
        ({"a": 1}, {"a": 1, "b": None}, ["b: + null"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["a.b[1]: 2 -> 3"]),
        ([1, 2, 3], [1, 9, 2, 3], ["[1]: + 9"]),
        ([1, 2, 3], [1, 3], ["[1]: - 2"]),
        ([], [1, 2], ["[0]: + 1", "[1]: + 2"]),
        ([1, 1], [1], ["[1]: - 1"]),
        ({"any key": "x"}, {"any key": "y"}, ['["any key"]: "x" -> "y"']),
    ],
)
def test_each_is_told_by_its_path(before, after, told):
    """Path, then what was there and what is there now."""
    assert [str(each) for each in differences(before, after)] == told


def test_they_are_bounded():
    """Two long lists that have nothing in common are told of as far as helps."""
    assert len(differences(list(range(5000)), list(range(1, 5001))[::-1])) == DIFFERENCES_MAX


def test_long_values_are_cut_around_the_difference():
    """A sentence shows the place where two long texts part, not their beginnings."""
    old, new = shown_pair("x" * 500 + "Oslo" + "y" * 500, "x" * 500 + "Rome" + "y" * 500)
    assert "Oslo" in old
    assert "Rome" in new
    assert max(len(old), len(new), len(shown("z" * 500))) <= SHOWN_MAX
