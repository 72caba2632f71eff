"""Names of steps and inputs: which are allowed, and which allowed name is close to any other text."""

from __future__ import annotations

import keyword
import re

from ..expressions.syntax import RESERVED, ROOTS

NAME_LENGTH_MAX = 64
DERIVED_LENGTH_MAX = 60
"""Characters of a derived id, so that a number still fits behind it."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NOT_A_NAME = "expected [a-z][a-z0-9_]{0,63}"


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
        return "it is a keyword of Python"
    if name in ROOTS:
        return "it has a meaning of its own in expressions"
    return "it is the name of a function" if name in RESERVED else None


def close_name(name: str) -> str | None:
    """Return an allowed name that is close to a faulty one, or `None`."""
    made = _snake_case(name[:NAME_LENGTH_MAX]).lstrip("0123456789_")[: NAME_LENGTH_MAX - 1]
    fault = name_fault(made)
    return None if fault == _NOT_A_NAME else made if fault is None else f"{made}_"


def derived_id(name: str) -> str:
    """Return a step id made from any text, such as a tool's name: `Mail.sendNow` gives `mail_send_now`."""
    base = _snake_case(name)[:DERIVED_LENGTH_MAX].strip("_")
    if not base or not base[0].isalpha():
        base = f"step_{base}".strip("_")
    return f"{base}_step" if base in RESERVED or keyword.iskeyword(base) else base


def _snake_case(text: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")
