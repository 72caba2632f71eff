"""Guards of an `ask` step, checked as they are written: they are data, and what is wrong with them is known before a run.

A guard is an object of wishes about the answer, or about one field of it; what each means when an answer comes is for whoever asks
the model. Faults have paths inside the list, such as `[0].regex`: `bad-shape` where it is no guard, `bad-literal` where a wish is
none that can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, cast

from ..errors import LocalProblem
from ..format.shape import describe
from ..nearest import did_you_mean, listing
from ..types.keywords import is_pattern
from ..types.types import ListType, ObjectType, Type, Unknown, members
from ..values import Json, into


def guard_faults(guards: Sequence[object], answer: Type | None = None) -> Iterator[LocalProblem]:
    """Yield what is wrong with guards.

    Args:
        guards: As they are written.
        answer: The type of what they guard, if it is known: a `field` must be one of its fields.
    """
    for index, guard in enumerate(guards):
        inner = f"[{index}]"
        found = describe(guard)
        wishes: Mapping[str, Json] = {}
        if isinstance(guard, Mapping):
            wishes = cast("Mapping[str, Json]", guard)
        if wishes:
            yield from _faults_of(wishes, inner, answer)
        else:
            yield LocalProblem(
                "bad-shape", f"expected an object with {listing(KEYS)}, found {found}", "", inner
            )


def _faults_of(guard: Mapping[str, Json], inner: str, answer: Type | None) -> Iterator[LocalProblem]:
    for key, wish in guard.items():
        at = into(inner, str(key))
        if key not in KEYS:
            hint = did_you_mean(str(key), KEYS, "leave it out")
            yield LocalProblem("bad-shape", f"expected {listing(KEYS)}, found '{key}'", hint, at)
            continue
        is_wish, expected = _WISHES[key]
        if not is_wish(wish):
            yield LocalProblem("bad-literal", f"{key}: expected {expected}, found {describe(wish)}", "", at)
    others = [key for key in guard if key not in ("judge", "model")]
    if "judge" in guard and others:
        hint = "make it a guard of its own"
        yield LocalProblem(
            "bad-shape", f"judge: expected nothing beside it but 'model', found '{others[0]}'", hint, inner
        )
    if "model" in guard and "judge" not in guard:
        hint = "name a 'judge', or leave it out"
        yield LocalProblem(
            "bad-shape", "model: expected 'judge' beside it, found none", hint, into(inner, "model")
        )
    if isinstance(field := guard.get("field"), str) and answer is not None:
        yield from _field_faults(field, answer, into(inner, "field"))


def _is_length(wish: Json) -> bool:
    return isinstance(wish, int) and not isinstance(wish, bool) and wish >= 0


def _is_text(wish: Json) -> bool:
    return isinstance(wish, str) and bool(wish.strip())


_WISHES: Final[Mapping[str, tuple[Callable[[Json], bool], str]]] = {
    "max_length": (_is_length, "a number of characters, 0 or more"),
    "min_length": (_is_length, "a number of characters, 0 or more"),
    "regex": (is_pattern, "a regular expression (ECMA 262)"),
    "quotes": (lambda wish: isinstance(wish, bool), "true or false"),
    "field": (_is_text, "the name of a field"),
    "judge": (_is_text, "a condition in words"),
    "model": (_is_text, "the alias of a model that judges"),
}
KEYS: Final = tuple(_WISHES)


def _field_faults(field: str, answer: Type, at: str) -> Iterator[LocalProblem]:
    """Yield that an answer has no such field: a guard on it would hold whatever is said."""
    known: list[str] = []
    for member in _things(answer):
        match member:
            case Unknown():
                return
            case ObjectType() if member.extra is not None or field in member.fields:
                return
            case ObjectType():
                known += member.fields
            case _:
                pass  # it has no fields
    expected = (
        f"one of the answer's fields {listing(known)}" if known else "no field, since the answer has none"
    )
    message = f"field: expected {expected}, found '{field}'"
    yield LocalProblem("bad-literal", message, did_you_mean(field, known), at)


def _things(answer: Type) -> Iterator[Type]:
    """Yield what a guard with a field looks at: the answer, or every item of a list."""
    for member in members(answer):
        if isinstance(member, ListType):
            yield from _things(member.item)
        else:
            yield member
