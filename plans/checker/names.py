"""Names of steps and inputs: which are allowed, and which allowed name is close to any other text."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Mapping

from ..expressions.nodes import ROOTS
from ..expressions.syntax import RESERVED

NAME_LENGTH_MAX = 64
DERIVED_LENGTH_MAX = 60
"""Characters of a derived id, so that a number still fits behind it."""

_INSTEAD: Mapping[str, str] = {
    "abs": "size",
    "all": "every_one",
    "any": "some",
    "avg": "average",
    "bool": "flag",
    "class": "kind",
    "distinct": "unique",
    "enumerate": "numbered",
    "first": "first_one",
    "flatten": "flat_list",
    "float": "number",
    "for": "loop",
    "from": "source",
    "global": "common",
    "import": "load",
    "index": "position",
    "inputs": "given",
    "int": "whole_number",
    "item": "entry",
    "items": "entries",
    "join": "joined",
    "keys": "key_list",
    "lambda": "formula",
    "len": "count",
    "max": "largest",
    "min": "smallest",
    "pass": "passed",
    "prev": "previous",
    "range": "numbers",
    "return": "result",
    "reversed": "backwards",
    "round": "rounded",
    "secret": "credential",
    "sorted": "in_order",
    "str": "text",
    "sum": "total",
    "try": "attempt",
    "values": "value_list",
    "zip": "pairs",
}
"""Names with a meaning of their own -> a word of the same sense that a step or an input may have as its name."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NOT_A_NAME = "expected [a-z][a-z0-9_]{0,63}"
_ROOT_MEANINGS: Mapping[str, str] = {
    "inputs": "the inputs of the plan",
    "item": "the item of a for_each",
    "index": "the position of a for_each's item",
    "prev": "the value of a repeat's previous iteration",
}


def is_name(name: str) -> bool:
    """Whether a step or an input may have this name."""
    return name_fault(name) is None


def name_fault(name: str) -> str | None:
    """Return why a step or an input cannot have this name; `None`: it can."""
    if len(name) > NAME_LENGTH_MAX:
        return f"expected at most {NAME_LENGTH_MAX} characters, found {len(name)}"
    if not _NAME.fullmatch(name):
        return _NOT_A_NAME
    if keyword.iskeyword(name):
        return "it is a keyword of Python, in whose syntax expressions are written"
    if name in ROOTS:
        return f"in expressions '{name}' is {_ROOT_MEANINGS[name]}"
    if name in RESERVED:
        return f"in expressions {name}(..) is a function, so '{name}' could not refer to it"
    return None


def close_name(name: str, taken: Container[str] = ()) -> str | None:
    """Return an allowed name that is close to a faulty one, or `None`.

    Args:
        name: The faulty name.
        taken: Names that others have, which are not returned for a name with a meaning of its own.
    """
    if (instead := _INSTEAD.get(name)) is not None and instead not in taken:
        return instead
    made = _snake_case(name[:NAME_LENGTH_MAX]).lstrip("0123456789_")[: NAME_LENGTH_MAX - 1]
    fault = name_fault(made)
    return None if fault == _NOT_A_NAME else made if fault is None else f"{made}_"


def derived_id(name: str) -> str:
    """Return a step id made from any text, such as a tool's name: `Mail.sendNow` gives `mail_send_now`."""
    base = _snake_case(name)[:DERIVED_LENGTH_MAX].strip("_")
    if not base or not base[0].isalpha():
        base = f"step_{base}".strip("_")
    return f"{base}_step" if base in RESERVED or keyword.iskeyword(base) else base


def numbered(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken: this one, or this one with the first free number behind it, from 2 on."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _snake_case(text: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")
