"""Laws of written values: equal texts mean equal values of the same kind, in every process."""

import copy
import datetime as dt
import random
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from firmplan.tools.fingerprint.constants import Unseen, ValueText
from firmplan.tools.fingerprint.references import ProjectReferences
from hypothesis import given
from hypothesis import strategies as st

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.binary(max_size=4)
)
hashable = st.recursive(
    atoms, lambda part: st.tuples(part, part) | st.frozensets(part, max_size=3), max_leaves=6
)
values = st.recursive(
    hashable,
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(hashable, part, max_size=3)
        | st.sets(hashable, max_size=3)
    ),
    max_leaves=12,
)


def text(value) -> str:
    return ValueText(ProjectReferences({})).text(value)


def same(a, b) -> bool:
    """Equal with kinds kept apart and order kept where there is one: an oracle without texts."""
    if type(a) is not type(b):
        return False
    match a:
        case float():
            return repr(a) == repr(b)
        case list() | tuple():
            return len(a) == len(b) and all(map(same, a, b))
        case dict():
            return same(list(a.items()), list(b.items()))
        case set() | frozenset():
            return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
        case _:
            return a == b


@given(values, values)
def test_texts_are_equal_if_and_only_if_values_are(a, b):
    """Two values have one text exactly if they are the same to a program; `1`, `True` and `1.0` are not."""
    assert (text(a) == text(b)) == same(a, b)


@given(values)
def test_a_copy_has_the_same_text(value):
    """Nothing is written by identity."""
    assert text(copy.deepcopy(value)) == text(value)


ODD = [
    dt.date(2024, 1, 2),
    dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    dt.datetime(2024, 1, 2, tzinfo=ZoneInfo("UTC")),
    dt.timedelta(1),
    Decimal("1.0"),
    Decimal("1.00"),
    Fraction(1, 2),
    Path("a"),
    range(3),
    slice(1, None),
    deque([1]),
    [1],
    (1,),
    {1},
    frozenset({1}),
    {1: 2},
    OrderedDict({1: 2}),
    Counter({1: 2}),
    defaultdict(list, {1: 2}),
    defaultdict(int, {1: 2}),
    MappingProxyType({1: 2}),
    SimpleNamespace(a=1),
    int,
    len,
    list[int],
    int | None,
    str.upper,
    "a".join,
    object(),
    ...,
    0.0,
    -0.0,
    float("nan"),
    1j,
    10**6000,
]


def test_different_values_have_different_texts():
    """Kinds that compare equal are kept apart."""
    texts = [text(value) for value in ODD]
    assert len(set(texts)) == len(texts)


class Loop:
    def __init__(self):
        self.me = self


def test_values_that_hold_themselves_end():
    """A cycle is written as a step upwards."""
    ring = [1]
    ring.append(ring)
    assert text(ring) == "list[0x1,above(1)]"
    assert text(Loop()) == "class Loop{'me':above(1)}"


@pytest.mark.parametrize(
    "value", [iter([1]), random.Random(3), (n for n in [1]), [1].append.__self__.__iter__()]
)
def test_hidden_state_is_refused(value):
    """What cannot be read to the last part raises, with its kind."""
    with pytest.raises(Unseen, match=r"whose state cannot be seen"):
        text(value)


def test_too_deep_and_too_large_values_are_refused():
    """There is a bound on depth and size, told in words."""
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(Unseen, match="nested deeper"):
        text(deep)
    with pytest.raises(Unseen, match="more than"):
        text(list(range(1_000_001)))
