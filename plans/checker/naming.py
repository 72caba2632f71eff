"""Names in a plan: what steps and inputs may be called, that no two steps share an id, and whom `after` names."""

from __future__ import annotations

import keyword
import re

from ..expressions.syntax import RESERVED, ROOTS
from ..nearest import short
from ..paths import key
from ..plan import Step
from .body import Body
from .findings import Findings

_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ID_MAX = 64


def check_names(body: Body, findings: Findings) -> None:
    """Note what is wrong with the names of a body. O(steps)."""
    for name in body.inputs:
        _check_name(body, findings, f"{body.where}.inputs{key(name)}", "input", name)
    for position, step in enumerate(body.steps):
        if position in body.broken:
            continue
        path = body.path(position)
        _check_name(body, findings, f"{path}.id", "step", step.id)
        first = body.position[step.id]
        if first != position:
            message = f"the id '{step.id}' is taken by the step at {body.path(first)}"
            findings.add(body, "duplicate-id", f"{path}.id", message, "give one of them another id")
        _check_after(body, findings, path, step)


def is_name(name: str) -> bool:
    """Whether a step or an input may have this name."""
    return _fault_of(name) is None


def _check_name(body: Body, findings: Findings, path: str, what: str, name: str) -> None:
    why = _fault_of(name)
    if why is None:
        return
    better = _better(name)
    hint = f"write '{better}'" if better else "use small letters, digits and '_', a letter first"
    findings.add(body, "bad-id", path, f"'{name[:100]}' cannot be the name of {_an(what)}: {why}", hint)


def _an(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _fault_of(name: str) -> str | None:
    if len(name) > _ID_MAX:
        return f"expected at most {_ID_MAX} characters, found {len(name)}"
    if not _ID.fullmatch(name):
        return "expected [a-z][a-z0-9_]{0,63}"
    if keyword.iskeyword(name):
        return "it is a keyword of Python"
    if name in ROOTS:
        return "it has a meaning of its own in expressions"
    return "it is the name of a function" if name in RESERVED else None


def _better(name: str) -> str | None:
    """Return a name that is allowed and close, or `None`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:_ID_MAX]).lower()
    made = re.sub(r"[^a-z0-9_]+", "_", words).strip("_").lstrip("0123456789_")[: _ID_MAX - 1]
    if _fault_of(made) == "expected [a-z][a-z0-9_]{0,63}":
        return None
    return made if _fault_of(made) is None else f"{made}_"


def _check_after(body: Body, findings: Findings, path: str, step: Step) -> None:
    for index, name in enumerate(step.after):
        if name not in body.position:
            message = f"'after' of step '{short(step.id)}' names '{name[:100]}', and there is no such step"
            hint = findings.suggestion(name, body.position, "name the id of a step of the same plan")
            findings.add(body, "unknown-ref", f"{path}.after[{index}]", message, hint)
