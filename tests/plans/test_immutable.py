"""Classes that `immutable` makes behave like frozen dataclasses, as far as their readers see."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, fields, replace

import pytest
from firmplan.plans.immutable import immutable


@immutable
class Quick:
    """A class with all that is used."""

    name: str
    number: int = 3
    parts: list[int] = field(default_factory=list[int], compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Plain:
    """The same, made by the standard library."""

    name: str
    number: int = 3
    parts: list[int] = field(default_factory=list[int], compare=False, repr=False)


@immutable
class Nothing:
    """A class without attributes."""


@immutable
class Own:
    """A class with functions of its own."""

    name: str

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "mine"


@pytest.mark.parametrize("kind", [Quick, Plain])
def test_the_law_holds_for_both(kind):
    """Equality, hash, text, copies, patterns and fields are those of a frozen dataclass."""
    one = kind("a")
    assert one == kind("a", 3, [1])
    assert one != kind("b")
    assert (one == 3, one != 3) == (False, True)
    assert hash(one) == hash(kind("a", parts=[1]))
    assert repr(one) == f"{kind.__name__}(name='a', number=3)"
    assert replace(one, number=4) == kind("a", 4)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert [each.name for each in fields(one)] == ["name", "number", "parts"]
    match one:
        case kind(name, number):
            assert (name, number) == ("a", 3)


def test_equal_attributes_of_two_classes_are_not_equal():
    """Only instances of one class are equal."""
    assert Quick("a") != Plain("a")


def test_a_class_without_attributes_has_equal_instances():
    """There is nothing to differ by."""
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert repr(Nothing()) == "Nothing()"


def test_a_class_keeps_its_own_functions():
    """What the class defines is not replaced."""
    assert Own("a") == Own("b")
    assert (hash(Own("a")), repr(Own("a"))) == (7, "mine")
