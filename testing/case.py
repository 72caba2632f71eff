"""A case as a file, `NAME.golden.yaml` or `.json`: its keys, and what may stand under each. What they mean is `golden.py`'s."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from ..errors import InputRejected
from ..plans.format.shape import describe
from ..plans.format.source import SourceError, parse_source
from ..plans.nearest import did_you_mean, listing
from .assertions import EXPECT_KEYS, STEP_KEYS

KEYS: Final = ("plan", "tools", "recording", "inputs", "answers", "live", "artifacts", "expect")
_KINDS: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "plan": ((str, dict), "a file, or a plan"),
    "tools": ((str, list), "a file or module, or a list of them"),
    "recording": ((str,), "the path of a bundle"),
    "inputs": ((dict,), "values by input"),
    "answers": ((dict,), "answers by tool"),
    "live": ((list,), "a list of tools"),
    "artifacts": ((list,), "a list of files"),
    "expect": ((dict, type(None)), f"any of {listing(EXPECT_KEYS)}"),
    "expect.steps": ((dict,), "what is expected, by step"),
    "expect.calls": ((dict,), "numbers of calls, by tool"),
    "expect.errors": ((dict,), "codes, by step"),
}


def read_case(path: Path) -> dict[str, Any]:
    """Return a case's keys, each with a value of its kind; texts and numbers are told apart as in a plan. Raises: InputRejected: it is none."""
    try:
        said = parse_source(path.read_bytes()).value
    except (OSError, SourceError) as fault:
        raise InputRejected(f"{path} is no golden test: {fault}") from fault
    if not isinstance(said, dict):
        raise InputRejected(
            f"{path} is no golden test: expected an object with any of {listing(KEYS)}, found {describe(said)}"
        )
    case = cast("dict[str, Any]", said)
    if (first := next(_faults(case), None)) is not None:
        raise InputRejected(f"{path}: {first}")
    return case


def _faults(case: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong; what stands under a key is to be looked at only where its kind is right."""
    yield from _key_faults("", case, KEYS)
    yield from _expect_faults(case.get("expect"))


def _expect_faults(expect: object) -> Iterator[str]:
    """Yield what is no expectation."""
    if not isinstance(expect, dict):
        return
    said = cast("dict[str, Any]", expect)
    yield from _key_faults("expect", said, EXPECT_KEYS)
    for step, keys in cast("dict[str, Any]", said.get("steps", {})).items():
        where = f"expect.steps.{step}"
        if not isinstance(keys, dict):
            yield f"{where}: expected any of {listing(STEP_KEYS)}, found {describe(keys)}"
        else:
            yield from _key_faults(where, cast("dict[str, Any]", keys), STEP_KEYS)


def _key_faults(where: str, said: Mapping[str, object], known: Collection[str]) -> Iterator[str]:
    """Yield the keys that are not known, and those with a value of another kind."""
    head = f"{where}: " if where else ""
    for name, value in said.items():
        if name not in known:
            hint = did_you_mean(str(name), known)
            yield f"{head}expected {listing(known)}, found '{name}'" + (f"; {hint}" if hint else "")
        kinds, meant = _KINDS.get(f"{where}.{name}" if where else str(name), (None, ""))
        if kinds is not None and not _is_of(kinds, value):
            yield f"{where + '.' if where else ''}{name}: expected {meant}, found {describe(value)}"


def _is_of(kinds: tuple[type, ...], value: object) -> bool:
    """Whether a value is of one of the kinds; lists are of texts."""
    if isinstance(value, list):
        return list in kinds and all(isinstance(each, str) for each in cast("list[object]", value))
    return type(value) in kinds
