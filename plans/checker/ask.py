"""Guards and worked examples of an `ask` step: they are data, so their problems are known before a run.

A guard is an object of conditions on the answer, or on one field of it; whoever asks the model applies them. A worked example is
`{"input": .., "output": ..}` or a pair. Faults have paths inside the list, such as `[0].regex`: `bad-shape` for what is no guard or no example,
`bad-literal` for a condition that cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from ..errors import LocalProblem
from ..expressions.infer import Inferred
from ..format.shape import describe
from ..nearest import did_you_mean, listing
from ..types.types import UNKNOWN, ListType, ObjectType, Type, Unknown, members
from ..types.wellformed import is_pattern
from ..values import Json, NotJson, into, parse
from .arguments import part_problems

INPUT_KEYS: Final = ("input", "in", "prompt", "question", "args")
OUTPUT_KEYS: Final = ("output", "out", "answer", "result")


def guard_problems(guards: Sequence[object], answer: Type | None = None) -> Iterator[LocalProblem]:
    """Yield the faults of guards.

    Args:
        guards: As they are written.
        answer: The type of the guarded answer, if it is known: a `field` must be one of its fields.
    """
    for index, guard in enumerate(guards):
        inner = f"[{index}]"
        found = describe(guard)
        if isinstance(guard, Mapping) and guard:
            yield from _problems_of_guard(cast("Mapping[str, Json]", guard), inner, answer)
        else:
            message = f"expected an object with {listing(_CONDITIONS)}, found {found}"
            yield LocalProblem("bad-shape", message, "", inner)


def _problems_of_guard(guard: Mapping[str, Json], inner: str, answer: Type | None) -> Iterator[LocalProblem]:
    for key, wanted in guard.items():
        at = into(inner, str(key))
        if key not in _CONDITIONS:
            hint = did_you_mean(str(key), _CONDITIONS, "leave it out")
            yield LocalProblem("bad-shape", f"expected {listing(_CONDITIONS)}, found '{key}'", hint, at)
            continue
        is_condition, expected = _CONDITIONS[key]
        if not is_condition(wanted):
            yield LocalProblem("bad-literal", f"{key}: expected {expected}, found {describe(wanted)}", "", at)
    others = [key for key in guard if key not in ("judge", "model")]
    if "judge" in guard and others:
        message = f"judge: expected nothing beside it but 'model', found '{others[0]}'"
        yield LocalProblem("bad-shape", message, "make it a guard of its own", inner)
    if "model" in guard and "judge" not in guard:
        message = "model: expected 'judge' beside it, found none"
        yield LocalProblem("bad-shape", message, "name a 'judge', or leave it out", into(inner, "model"))
    if isinstance(field := guard.get("field"), str) and answer is not None:
        yield from _field_problems(field, answer, into(inner, "field"))


def _is_length(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and bool(value.strip())


_CONDITIONS: Final[Mapping[str, tuple[Callable[[Json], bool], str]]] = {
    "max_length": (_is_length, "a number of characters, 0 or more"),
    "min_length": (_is_length, "a number of characters, 0 or more"),
    "regex": (is_pattern, "a regular expression (ECMA 262)"),
    "quotes": (lambda value: isinstance(value, bool), "true or false"),
    "field": (_is_text, "the name of a field"),
    "judge": (_is_text, "a condition in words"),
    "model": (_is_text, "the alias of a model that judges"),
}


def _field_problems(field: str, answer: Type, at: str) -> Iterator[LocalProblem]:
    """Yield a fault if the answer has no such field: a guard on it would hold whatever the model answers."""
    known: list[str] = []
    for member in _guarded(answer):
        match member:
            case Unknown():
                return
            case ObjectType() if member.extra is not None or field in member.fields:
                return
            case ObjectType():
                known += member.fields
            case _:
                pass  # it has no fields
    fields = (
        f"one of the answer's fields {listing(known)}" if known else "no field, since the answer has none"
    )
    message = f"field: expected {fields}, found '{field}'"
    yield LocalProblem("bad-literal", message, did_you_mean(field, known), at)


def _guarded(answer: Type) -> Iterator[Type]:
    """Yield the types to which a guard with a field applies: the answer's, or those of its items if it is a list."""
    for member in members(answer):
        if isinstance(member, ListType):
            yield from _guarded(member.item)
        else:
            yield member


def read_example(example: object) -> tuple[Json, Json, str] | None:
    """Return an example's input, its output, and the output's place in the example; `None`: it is no example."""
    if isinstance(example, Mapping) and len(fields := cast("Mapping[str, Any]", example)) == 2:
        inputs = [fields[key] for key in INPUT_KEYS if key in fields]
        outputs = [key for key in OUTPUT_KEYS if key in fields]
        return (inputs[0], fields[outputs[0]], into("", outputs[0])) if inputs and outputs else None
    if isinstance(example, list | tuple) and len(pair := cast("list[Any]", example)) == 2:
        return pair[0], pair[1], "[1]"
    return None


def example_problems(examples: list[Json], answer: Type, parts: Inferred) -> Iterator[LocalProblem]:
    """Yield the faults of worked examples: those that are none, and outputs that have not the answer's type.

    Args:
        examples: As they are written.
        answer: The type of the answer.
        parts: The computed parts of the examples.
    """
    for index, example in enumerate(examples):
        inner = f"[{index}]"
        if inner in parts.leaves:
            continue
        found = read_example(example)
        if found is None:
            message = f'expected {{"input": .., "output": ..}}, found {describe(example)}'
            yield LocalProblem("bad-shape", message, "", inner)
            continue
        _, output, place = found
        at = inner + place
        faults = list(part_problems(output, at, answer, parts))
        if faults and isinstance(output, str) and at not in parts.leaves:
            # A model answers in text, so an author may write the answer's JSON as text too.
            with suppress(NotJson):
                faults = list(part_problems(parse(output), at, answer, Inferred(UNKNOWN, [])))
        yield from faults
