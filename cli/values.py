"""Values that come as words of the command line: inputs, budgets, JSON.

An input is read by its declared type, not by its looks: where the plan wants a string, `7` is the string "7"; where
it wants an integer, `seven` is a mistake that is told with the input's name, what it takes, and what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputRejected
from ..plans import Json, NotJson, Plan, literal_faults, parse
from ..plans.nearest import did_you_mean

TEXT_PROBES = ("", "a")
"""Texts to find out whether a type takes text at all; one of them passes nearly every length and format rule."""
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
    if not any(key in schema for key in SHAPE_KEYS):
        return _guess(text)
    expected = {key: part for key, part in schema.items() if key not in ("default", "description", "title")}
    takes_text = not literal_faults(text, schema, types) or any(
        not literal_faults(probe, schema, types) for probe in TEXT_PROBES
    )
    if takes_text:
        value: Json = text
    else:
        try:
            value = parse(text)
        except NotJson:
            raise _unfit(name, expected, f"{text!r}, which is not JSON") from None
    if faults := literal_faults(value, schema, types):
        fault = faults[0]
        raise _unfit(
            name, expected, f"{text!r}: {fault.message}" + (f" (at ${fault.inner})" if fault.inner else "")
        )
    return value


def _unfit(name: str, expected: Mapping[str, Any], found: str) -> InputRejected:
    return InputRejected(
        f"--input {name}: expected {json.dumps(expected, ensure_ascii=False)}, found {found}"
    )


def _guess(text: str) -> Json:
    try:
        return parse(text)
    except NotJson:
        return text
