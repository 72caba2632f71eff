"""Values that come as words of the command line: inputs, budgets, JSON.

An input is read by its declared type, not by its looks: where the plan wants a string, `7` is the string "7"; where
it wants an integer, `seven` is a mistake that is told with the input's name, what it takes, and what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputRejected
from ..plans import Json, NotJson, Plan, parse, value_problems
from ..plans.errors import LocalProblem
from ..plans.nearest import did_you_mean
from ..plans.types.read import read_schema
from ..plans.types.show import type_text
from ..plans.types.types import Scalar, Type, members

SHAPE_KEYS = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")


def read_inputs(words: Sequence[str], plan: Plan | None) -> dict[str, Json]:
    """Return the inputs written as `name=value`.

    Args:
        words: What stood behind each `--input`.
        plan: The plan that declares the inputs; for a task there is none yet, and what reads as JSON is JSON.

    Raises:
        InputRejected: A word is no `name=value`, a name is given twice or not declared, or a value does not fit.
    """
    pairs = _pairs("--input", words)
    if plan is None:
        return {name: _guess(text) for name, text in pairs.items()}
    for name in pairs:
        if name not in plan.inputs:
            known = ", ".join(plan.inputs) or "none"
            hint = did_you_mean(name, list(plan.inputs))
            raise InputRejected(
                f"--input {name}: the plan has no such input; it takes {known}"
                + (f"; {hint}" if hint else "")
            )
    return {name: _read(name, text, plan.inputs[name], plan.types) for name, text in pairs.items()}


def name_of(word: str) -> str:
    """Return the name in `name=value`."""
    return word.partition("=")[0]


def read_budget(words: Sequence[str]) -> dict[str, float] | None:
    """Return the budget written as `name=amount`, or `None` where nothing was written; the engine knows the names.

    Raises:
        InputRejected: An amount is no number.
    """
    return {name: _read_amount(name, text) for name, text in _pairs("--budget", words).items()} or None


def read_step_values(words: Sequence[str]) -> dict[str, Json]:
    """Return the values written as `step=json`.

    Raises:
        InputRejected: A word is no `step=json`, or a step is given twice.
    """
    pairs = _pairs("--set", words, "STEP=JSON")
    return {path: read_json(f"--set {path}", text) for path, text in pairs.items()}


def _read_amount(name: str, text: str) -> float:
    try:
        amount = parse(text)
    except NotJson:
        amount = None
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise InputRejected(f"--budget {name}: expected a number, found {text!r}")
    return amount


def read_json(where: str, text: str) -> Json:
    """Return the value of JSON text.

    Raises:
        InputRejected: The text is not JSON; a bare word gets the hint that text needs quotes.
    """
    try:
        return parse(text)
    except NotJson as error:
        raise InputRejected(
            f"{where}: expected JSON, found {text!r}; text needs quotes: {json.dumps(text, ensure_ascii=False)}"
        ) from error


def _pairs(option: str, words: Sequence[str], form: str = "NAME=VALUE") -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise InputRejected(f"{option}: expected {form}, found {word!r}")
        if name in pairs:
            raise InputRejected(f"{option} {name}: given twice")
        pairs[name] = text
    return pairs


def _read(name: str, text: str, schema: Mapping[str, Any], types: Mapping[str, Any]) -> Json:
    """Return an input's value: the text itself if that fits its type, else what it is as JSON."""
    if not any(key in schema for key in SHAPE_KEYS):
        return _guess(text)
    of_text = value_problems(text, schema, types)
    if not of_text:
        return text
    wanted = read_schema(schema, types)[0]
    try:
        value = parse(text)
        faults = value_problems(value, schema, types)
        if not faults:
            return value
    except NotJson as fault:
        if not _takes_text(wanted):
            why = "which is not JSON" if "not JSON: " in str(fault) else str(fault).removeprefix("$: ")
            raise InputRejected(
                f"--input {name}: expected {type_text(wanted)}, found {text!r}, {why}"
            ) from fault
        faults = of_text
    told = of_text if _takes_text(wanted) else faults
    raise InputRejected(f"--input {name}: {'; '.join(map(_told, told))}")


def _told(fault: LocalProblem) -> str:
    where = f" (at ${fault.inner})" if fault.inner else ""
    return f"{fault.message}{where}{f'; {fault.hint}' if fault.hint else ''}"


def _takes_text(wanted: Type) -> bool:
    return any(isinstance(member, Scalar) and member.kind == "string" for member in members(wanted))


def _guess(text: str) -> Json:
    try:
        return parse(text)
    except NotJson:
        return text
