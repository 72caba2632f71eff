"""Whether values of one type may stand in a place that wants another: contract 2, "Types".

- Every alternative of the source but null has to be able to fit the target, else the problem is `type-mismatch`.
- Null, or a field that may be absent, where the target wants a value, is `maybe-missing`.
- If the value decides (number to integer, text to a choice, a value of unknown type, constraints of a schema), the problem is the warning
  `unchecked-type`, and the value is validated at run time.

Lists compare by element, objects by field. The comparison is coinductive: recursive types fit unless a difference is found. It is bounded in depth and in work;
past a bound the answer is `unchecked-type`. So "fits" is never a wrong answer, and `unchecked-type` may be given too often.

The three answers of `fitting` are those of every comparison here: yes (all values fit), no (none fits), and `None` (some may). Alternatives of the source are
joined by "all", alternatives of the target by "one is enough". To compare one alternative with one other at a time is sound but not complete: any integer is
at most 5 or at least 5, yet integers are `unchecked-type` where the target is the union of these two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

from ..immutable import immutable_with_cache
from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing
from ..reports.paths import key
from ..values import Json
from .constraints import are_apart, holds, is_met, relevant
from .show import type_text
from .types import NEVER, NULL, UNKNOWN, ListType, ObjectType, Property, Scalar, Type, Unknown, members

# --- Scalars: by kind, by known values, and by constraints


def fitting(source: Scalar, target: Scalar | Unknown) -> bool | None:
    """Return whether every value of `source` fits `target`, none does (`False`), or some may (`None`)."""
    demanded = relevant(target.constraints, source.kind)
    if isinstance(target, Scalar) and {source.kind, target.kind} not in (
        {source.kind},
        {"integer", "number"},
    ):
        return False
    # Known values are decided one by one, which no rule about constraints can do better.
    if source.only is not None:
        return _all_or_none(_fits(value, target) for value in source.only)
    if not is_met(demanded, source):
        # A source whose own constraints exclude each other has no values. Then "none fits" would be true, but of no use to anybody.
        is_apart = are_apart(source.constraints, demanded) and not are_apart(
            source.constraints, source.constraints
        )
        return False if is_apart else None
    if isinstance(target, Unknown):
        return True
    # A list of values on the right leaves it to the run, since nothing is known of the value on the left.
    return True if target.only is None and target.kind in (source.kind, "number") else None


def _fits(value: Json, target: Scalar | Unknown) -> bool | None:
    """Return whether one known value fits; an integral number is an integer, as it becomes one."""
    if isinstance(target, Scalar):
        if target.kind == "integer" and isinstance(value, float) and not value.is_integer():
            return False
        if target.only is not None and value not in target.only:
            return False
    return holds(value, target.constraints)


def _all_or_none(answers: Iterable[bool | None]) -> bool | None:
    every = set(answers)
    return every.pop() if len(every) == 1 else None


# --- Types: a comparison of all alternatives, part by part


PAIRS_MAX = 5_000
"""Pairs of types that one comparison looks at: alternatives within alternatives multiply."""

DEPTH_MAX = 60
"""Levels that one comparison goes down: two types that hold themselves can go on for long without meeting again."""

PROBLEMS_MAX = 50
"""Problems that one comparison reports."""

EVERY_ITEM = "[*]"
"""The place of a list's items, of which types do not know the number."""

_WEIGHT = {"type-mismatch": 0, "maybe-missing": 1, "unchecked-type": 2}

Alternative: TypeAlias = Scalar | ListType | ObjectType | Unknown


def assignability_problems(source: Type, target: Type) -> list[LocalProblem]:
    """Return why values of `source` do not, or may not, fit a place that wants `target`; at most one problem a place.

    `LocalProblem.inner` is the place inside the value: `.name`, `[*]` for the items of a list, empty for the value itself.
    """
    if source == target:
        return []
    return _Comparison().problems(source, target, 0)


class _Comparison:
    """One comparison: its results, the pairs that it assumes to fit, and the work that it may still do."""

    def __init__(self) -> None:
        self.pairs = PAIRS_MAX
        self.known: dict[tuple[Type, Type], list[LocalProblem]] = {}
        self.assumed: set[tuple[Type, Type]] = set()

    def problems(self, source: Type, target: Type, depth: int) -> list[LocalProblem]:
        """Return the problems of one place, with places relative to it."""
        if target == UNKNOWN or source in (NEVER, target):
            return []
        pair = (source, target)
        if pair in self.assumed:
            return []
        # Remembered by pair: alternatives within alternatives come back to the same types.
        if pair not in self.known:
            if self.pairs <= 0 or depth > DEPTH_MAX:
                return [_unchecked(source, target)]
            # Coinduction: while a pair is compared, it is assumed to fit, so that recursive types come to an end.
            # A finite difference between two recursive types is always found on some path that does not come back to a pair.
            before = len(self.known)
            self.assumed.add(pair)
            found = _one_a_place(self.compared(source, target, depth))
            self.assumed.discard(pair)
            if found:
                self.forget(before)  # the assumption failed: answers that rest on it are void
            self.known[pair] = found
        return self.known[pair]

    def forget(self, count: int) -> None:
        """Drop the pairs found to fit since `count` pairs were known: they may rest on an assumption that did not hold."""
        for pair in list(self.known)[count:]:
            if not self.known[pair]:
                del self.known[pair]

    def compared(self, source: Type, target: Type, depth: int) -> list[LocalProblem]:
        wanted = members(target)
        if UNKNOWN in wanted:
            return []  # one alternative without demands is enough
        given = members(source)
        self.pairs -= len(given) * len(wanted)
        # The other alternatives of such a source are not looked at: the value may have any type, and is validated at run time anyhow.
        if any(isinstance(member, Unknown) for member in given):
            return [_unchecked(source, target)]
        found: list[LocalProblem] = []
        for member in given:
            if member == NULL:
                if NULL not in wanted:
                    found += _null(source, target, wanted)
            else:
                found += self.best(member, wanted, _Place(source, target), depth)
        return found

    def best(
        self, member: Alternative, wanted: Sequence[Alternative], place: _Place, depth: int
    ) -> list[LocalProblem]:
        """Return the problems of one alternative of the source against the alternative of the target that suits it best."""
        tried: list[list[LocalProblem]] = []
        near: list[list[LocalProblem]] = []
        for other in wanted:
            problems = self.member(member, other, place, depth)
            if not problems:
                return []
            tried.append(problems)
            if type(other) is type(member) and not isinstance(member, Scalar):
                near.append(problems)
        # An alternative that may fit is preferred to one that cannot; only then the one of the same shape explains best what is wrong.
        possible = [problems for problems in tried if not _is_refused(problems)]
        if possible:
            return min(possible, key=len)
        if len(near) == 1:
            return near[0]
        return [place.mismatch]

    def member(
        self, source: Alternative, target: Alternative, place: _Place, depth: int
    ) -> list[LocalProblem]:
        """Return the problems of one alternative against another."""
        if isinstance(source, Scalar) and isinstance(target, Scalar | Unknown):
            fits = fitting(source, target)
            return [] if fits is True else [place.mismatch if fits is False else place.unchecked]
        if isinstance(source, ListType) and isinstance(target, ListType):
            return self.items(source, target, place, depth)
        if isinstance(source, ObjectType) and isinstance(target, ObjectType):
            return self.fields(source, target, place, depth)
        if isinstance(target, Unknown):
            return _constraints(source, target, place)
        return [place.mismatch]

    def items(self, source: ListType, target: ListType, place: _Place, depth: int) -> list[LocalProblem]:
        found = _moved(self.problems(source.item, target.item, depth + 1), EVERY_ITEM)
        return found + _constraints(source, target, place)

    def fields(self, source: ObjectType, target: ObjectType, place: _Place, depth: int) -> list[LocalProblem]:
        """Return the problems of objects: of the fields that are wanted, of those that are not, and of the unknown ones."""
        found: list[LocalProblem] = []
        lacking: list[str] = []
        for name, wanted in target.fields.items():
            given = source.fields.get(name)
            if given is None and source.extra is None:
                if wanted.required:
                    # One problem for all of them, since they have no place of their own in the value.
                    lacking.append(name)
                continue
            found += _moved(
                self.field(given or Property(source.extra or NEVER, required=False), wanted, depth), key(name)
            )
        if lacking:
            found.append(place.lacks(lacking, source))
        found += self.strangers(source, target, depth)
        if source.extra is not None:
            # The unnamed fields of the source may hold nothing, so a closed target is never a mismatch.
            if target.extra is None:
                found.append(place.unchecked)
            else:
                found += _here(self.problems(source.extra, target.extra, depth + 1), place)
        return found + _constraints(source, target, place)

    def field(self, given: Property, wanted: Property, depth: int) -> list[LocalProblem]:
        """Return the problems of one field that both know; one that may be absent can fit by being absent."""
        found = self.problems(given.type, wanted.type, depth + 1)
        if given.required:
            return found
        # A field that is absent where the target requires it is a warning only while a present one could fit.
        if wanted.required:
            refused = [problem for problem in found if problem.code == "type-mismatch"]
            return refused or [*found, _absent(given.type, wanted.type)]
        return [_unchecked(given.type, wanted.type)] if _is_refused(found) else found

    def strangers(self, source: ObjectType, target: ObjectType, depth: int) -> list[LocalProblem]:
        """Return the problems of the fields that the target has no name for."""
        found: list[LocalProblem] = []
        for name, given in source.fields.items():
            if name in target.fields or given.type == NEVER:
                continue
            if target.extra is not None:
                found += _moved(self.problems(given.type, target.extra, depth + 1), key(name))
            else:
                found.append(_stranger(name, given, source, target))
        return found


@immutable_with_cache
class _Place:
    """The types that a place wants and gets. Its problems are built on demand: most comparisons of alternatives are tried and dropped."""

    source: Type
    target: Type

    @cached_property
    def mismatch(self) -> LocalProblem:
        message = f"expected {type_text(self.target)}, found {_contrast(self.source, self.target)}"
        return LocalProblem("type-mismatch", message, for_mismatch(self.source, self.target))

    @cached_property
    def unchecked(self) -> LocalProblem:
        return _unchecked(self.source, self.target)

    def lacks(self, names: Sequence[str], source: ObjectType) -> LocalProblem:
        noun = "field" if len(names) == 1 else "fields"
        message = f"expected {type_text(self.target)}, found {type_text(source)} without the {noun} {listing(names)}"
        return LocalProblem("type-mismatch", message, for_mismatch(self.source, self.target))


def _contrast(source: Type, target: Type) -> str:
    """Return the source as text, told apart from a target that reads the same."""
    text = type_text(source)
    return text if text != type_text(target) else f"another kind of {text}"


def _unchecked(source: Type, target: Type) -> LocalProblem:
    message = f"expected {type_text(target)}, found {type_text(source)}: whether it fits is known, and checked, only at run time"
    return LocalProblem("unchecked-type", message, for_unchecked(source, target))


def _missing(source: Type, target: Type) -> LocalProblem:
    text = type_text(source)
    found = text if "null" in text else f"{text}, which may be null"
    return LocalProblem("maybe-missing", f"expected {type_text(target)}, found {found}", for_null())


def _absent(source: Type, target: Type) -> LocalProblem:
    return LocalProblem(
        "maybe-missing",
        f"expected {type_text(target)}, found {type_text(source)} that may be absent",
        for_null(),
    )


def _stranger(name: str, given: Property, source: ObjectType, target: ObjectType) -> LocalProblem:
    code = "type-mismatch" if given.required else "unchecked-type"
    may = "" if given.required else " that may be there"
    message = f"expected no other fields than {listing(target.fields)}, found the field '{name}'{may}"
    return LocalProblem(code, message, for_stranger(name, source, target), key(name))


def _null(source: Type, target: Type, wanted: Iterable[Alternative]) -> list[LocalProblem]:
    """Return the problems of null where it is not wanted by its name."""
    answers = [holds(None, relevant(one.constraints, "null")) for one in wanted if isinstance(one, Unknown)]
    if True in answers:
        return []
    return [_unchecked(source, target) if None in answers else _missing(source, target)]


def _constraints(source: Alternative, target: Alternative, place: _Place) -> list[LocalProblem]:
    demanded = relevant(target.constraints, "array" if isinstance(source, ListType) else "object")
    # All its values fit, or it has none.
    if is_met(demanded, source) or are_apart(source.constraints, source.constraints):
        return []
    return [place.mismatch if are_apart(source.constraints, demanded) else place.unchecked]


def _is_refused(problems: Iterable[LocalProblem]) -> bool:
    return any(problem.code == "type-mismatch" for problem in problems)


def _moved(problems: Iterable[LocalProblem], inner: str) -> list[LocalProblem]:
    return [replace(problem, inner=inner + problem.inner) for problem in problems]


def _here(problems: Iterable[LocalProblem], place: _Place) -> list[LocalProblem]:
    """Return the problems of fields without names as one of the object that holds them."""
    # Unnamed fields have no place in a message, and their mismatch is one of the object.
    worst = min(problems, key=lambda problem: _WEIGHT[problem.code], default=None)
    if worst is None:
        return []
    return [place.mismatch if worst.code == "type-mismatch" else replace(worst, inner="")]


def _one_a_place(problems: Sequence[LocalProblem]) -> list[LocalProblem]:
    """Return the weightiest problem of each place, in the order of the places; of very many, the weightiest first."""
    by_place: dict[str, LocalProblem] = {}
    for problem in problems:
        known = by_place.get(problem.inner)
        if known is None or _WEIGHT[problem.code] < _WEIGHT[known.code]:
            by_place[problem.inner] = problem
    kept = list(by_place.values())
    if len(kept) > PROBLEMS_MAX:
        kept = sorted(kept, key=lambda problem: _WEIGHT[problem.code])[:PROBLEMS_MAX]
    return kept


# --- Hints: how to make the value fit


EXPRESSION_SHOWN_MAX = 80  # characters of an expression in a hint
FIELDS_TRIED_MAX = 100  # fields of an object that are looked through for one that would fit

_CONVERSIONS = {"string": "str", "integer": "int", "number": "float"}


def for_null(expression: str = "", otherwise: str = "a value for that case") -> str:
    """Return the hint for a value that may be null or absent: the value of an expression, if that is known."""
    # A long expression in a hint would hide what the hint says.
    if not expression or len(expression) > EXPRESSION_SHOWN_MAX:
        return f"say what to take instead: first(value, {otherwise})"
    return f"write first({expression}, {otherwise})"


def expression_of(text: object) -> str:
    """Return the expression that is all of a template; empty if it is none, or holds more."""
    is_one = isinstance(text, str) and text.startswith("${") and text.endswith("}")
    return str(text)[2:-1].strip() if is_one else ""


def for_mismatch(source: Type, target: Type) -> str:
    """Return the hint for a value that cannot fit."""
    given, wanted = members(source), members(target)
    kinds = _kinds(target)
    if all(isinstance(member, Scalar) for member in given):
        lists = [member for member in wanted if isinstance(member, ListType)]
        if lists and not kinds:
            return "a list of one is [value]"
        return _conversion(source, kinds)
    if any(isinstance(member, ListType) for member in given):
        if any(isinstance(member, ListType) for member in wanted):
            return ""
        return "a list: take one item with [0], go through all with for_each, or make text of it with join(list, ', ')"
    objects = [member for member in given if isinstance(member, ObjectType)]
    return _field_for(objects[0], kinds) if objects and kinds else ""


def for_unchecked(source: Type, target: Type) -> str:
    """Return the hint for a value that may fit."""
    if _kinds(source) == ["number"] and _kinds(target) == ["integer"]:
        return "make it an integer with round(value) or int(value)"
    return ""


def for_stranger(name: str, source: ObjectType, target: ObjectType) -> str:
    """Return the hint for a field that the target has no name for.

    Args:
        name: The field.
        source: The object that has it.
        target: The object that is wanted.
    """
    return did_you_mean(
        name, [known for known in target.fields if known not in source.fields], "leave it out"
    )


def _kinds(of: Type) -> list[str]:
    """Return the kinds of a type's scalars but null, each once."""
    every = [member.kind for member in members(of) if isinstance(member, Scalar) and member.kind != "null"]
    return list(dict.fromkeys(every))


def _conversion(source: Type, kinds: list[str]) -> str:
    given = _kinds(source)
    if len(kinds) != 1 or kinds == given or kinds[0] not in _CONVERSIONS:
        return ""
    if kinds[0] != "string" and "boolean" in given:  # booleans are no numbers
        return ""
    return f"convert it with {_CONVERSIONS[kinds[0]]}(value)"


def _field_for(given: ObjectType, kinds: list[str]) -> str:
    """Return a hint with the fields of an object that have one of the kinds."""
    tried = list(given.fields.items())[:FIELDS_TRIED_MAX]
    fit = [name for name, known in tried if _kinds(known.type) and set(_kinds(known.type)) <= set(kinds)]
    return f"refer to one of its fields, such as .{fit[0]}" if fit else ""
