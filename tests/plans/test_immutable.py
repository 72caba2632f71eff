"""Classes that `immutable` makes behave like frozen dataclasses, as far as their readers see."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from functools import cached_property
from typing import ClassVar

import pytest
from firmplan.plans.immutable import frozen, immutable, immutable_with_cache, record


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


@frozen
class Frozen:
    """The same for users."""

    name: str
    number: int = 3
    parts: list[int] = field(default_factory=list[int], compare=False, repr=False)


@immutable_with_cache
class Cached:
    """The same with a cached property."""

    name: str
    number: int = 3
    parts: list[int] = field(default_factory=list[int], compare=False, repr=False)

    @cached_property
    def made(self) -> object:
        return object()


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


@pytest.mark.parametrize("kind", [Quick, Cached, Frozen, Plain])
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


def test_what_a_cached_property_keeps_is_no_part_of_the_value():
    """It is made once, and equality, hash and text leave it out."""
    one = Cached("a")
    assert one.made is one.made
    assert one == Cached("a")
    assert hash(one) == hash(Cached("a"))
    assert repr(one) == "Cached(name='a', number=3)"


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


@record
class Counter:
    """A record with all that is used."""

    name: str
    spent: int = 0
    parts: list[int] = field(default_factory=list[int])
    first: str = field(init=False, repr=False, compare=False)
    shared: int = field(default=2, init=False)

    def __post_init__(self) -> None:
        self.first = self.name[:1]


@dataclass(slots=True)
class PlainCounter:
    """The same, made by the standard library."""

    name: str
    spent: int = 0
    parts: list[int] = field(default_factory=list[int])
    first: str = field(init=False, repr=False, compare=False)
    shared: int = field(default=2, init=False)

    def __post_init__(self) -> None:
        self.first = self.name[:1]


@pytest.mark.parametrize("kind", [Counter, PlainCounter])
def test_a_record_changes(kind):
    """It is a dataclass in every other way, too."""
    one = kind("ab")
    assert (one.first, one.shared, one.parts) == ("a", 2, [])
    assert one == kind("ab")
    one.spent += 1
    one.parts.append(1)
    assert one != kind("ab")
    assert repr(one) == f"{kind.__name__}(name='ab', spent=1, parts=[1], shared=2)"
    assert replace(one, name="c").first == "c"
    assert [each.name for each in fields(one)] == ["name", "spent", "parts", "first", "shared"]
    assert kind.__match_args__ == ("name", "spent", "parts")
    assert pickle.loads(pickle.dumps(one)) == copy.copy(one) == one
    with pytest.raises(TypeError):
        hash(one)
    with pytest.raises(AttributeError):
        one.other = 1
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        kind()


def test_signatures_are_those_of_dataclasses():
    """What a reader of `help` sees; of a class inside, when it has had an instance."""
    assert Counter("a")
    assert str(inspect.signature(Counter)) == str(inspect.signature(PlainCounter))
    assert str(inspect.signature(Frozen)) == str(inspect.signature(Plain))


@pytest.mark.parametrize("kind", [Frozen, Plain])
def test_a_frozen_value_cannot_be_changed_and_can_be_inherited_from(kind):
    """A user's own class with a frozen value as its base is a frozen dataclass, too."""
    one = kind("a")
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        one.name = "b"
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
        del one.name

    @dataclass(frozen=True)
    class Longer(kind):
        last: int = 4

    longer = Longer("a", last=5)
    assert (longer.name, longer.number, longer.last) == ("a", 3, 5)
    assert longer == Longer("a", last=5) != Longer("a")
    assert longer != one
    with pytest.raises(FrozenInstanceError):
        longer.last = 6


def test_classes_with_more_than_fields_are_as_of_the_standard_library():
    """A base, a class variable, a default that all instances would share."""

    @immutable
    class Inner(Quick):
        """A class with a base."""

        kind: ClassVar[str] = "inner"
        last: int = 4

    one = Inner("a")
    assert (one.name, one.number, one.last, Inner.kind) == ("a", 3, 4, "inner")
    assert one == Inner("a") != Inner("b")
    with pytest.raises(ValueError, match="mutable default"):

        @immutable
        class Shared:
            """A class with a list that all would share."""

            parts: list[int] = []  # noqa: RUF012  # refused
