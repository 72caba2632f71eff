"""Worked examples of an `ask` step: `{"input": .., "output": ..}`, or a list of the two; the keys have a few other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from ..errors import LocalProblem
from ..format.shape import describe
from ..types.types import Type
from ..values import Json, NotJson, into, parse
from .arguments import Computed, value_faults

ASKED: Final = ("input", "in", "prompt", "question", "args")
ANSWERED: Final = ("output", "out", "answer", "result")


def read_example(example: object) -> tuple[Json, Json, str] | None:
    """Return what is asked, the answer that is wanted, and where in the example that stands; `None`: it is no example."""
    if isinstance(example, Mapping) and len(fields := cast("Mapping[str, Any]", example)) == 2:
        asked = [fields[key] for key in ASKED if key in fields]
        answers = [key for key in ANSWERED if key in fields]
        return (asked[0], fields[answers[0]], into("", answers[0])) if asked and answers else None
    if isinstance(example, list | tuple) and len(pair := cast("list[Any]", example)) == 2:
        return pair[0], pair[1], "[1]"
    return None


def example_faults(examples: list[Json], answer: Type, parts: Computed) -> Iterator[LocalProblem]:
    """Yield which examples are none, and which answers of theirs are not of the type that is wanted.

    Args:
        examples: As they are written.
        answer: The type of the answer.
        parts: What is computed in them.
    """
    for index, example in enumerate(examples):
        inner = f"[{index}]"
        if inner in parts.types:
            continue
        found = read_example(example)
        if found is None:
            message = f'expected {{"input": .., "output": ..}}, found {describe(example)}'
            yield LocalProblem("bad-shape", message, "", inner)
        else:
            yield from _answer_faults(found[1], inner + found[2], answer, parts)


def _answer_faults(value: Json, inner: str, wanted: Type, parts: Computed) -> Iterator[LocalProblem]:
    """Yield what is wrong with an example's answer; one that is written as the model would write it, as JSON in text, is read."""
    faults = list(value_faults(value, inner, wanted, parts))
    if faults and isinstance(value, str) and inner not in parts.types:
        try:
            said = parse(value)
        except NotJson:
            pass
        else:
            faults = list(value_faults(said, inner, wanted, Computed({}, frozenset())))
    yield from faults
