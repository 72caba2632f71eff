"""One body while its types are found: the names in scope, and the types found so far.

About what is broken, and because of it, nothing is said twice: it has the type that no value has (`NEVER`), which fits every
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..expressions.formula import LocalProblem
from ..expressions.infer import infer_tree
from ..types.types import NEVER, Type
from .body import Body
from .checking import Checking
from .findings import is_error
from .templates import Template


@dataclass(slots=True)
class TypedBody:
    """One body under way.

    Attributes:
        scope: The types of all names of the body; of steps not yet looked at: `NEVER`.
        skips: Which steps may be skipped without a failure.
        callers: The first step that calls a tool, by the tool's name.
    """

    checking: Checking
    body: Body
    scope: dict[str, Type]
    types: list[Type]
    skips: list[bool]
    callers: Mapping[str, str]


def value_type(steps: TypedBody, path: str, template: Template, scope: Mapping[str, Type]) -> Type:
    """Return the type of a template's value, with its faults noted; `NEVER` if it has no type."""
    findings, body = steps.checking.findings, steps.body
    findings.add_faults(body, path, template.faults)
    formula = template.formula
    inferred = infer_tree(
        formula.value, formula.tree, scope, suggestions=findings.suggests, callers=steps.callers
    )
    findings.add_inferred(body, path, inferred.problems)
    wrong = wrong_places(template, inferred.problems)
    if template.formula.secret is not None and not wrong:
        message = "expected secret(..) as the whole of an argument of a tool step, found it elsewhere"
        findings.add(
            body, "bad-expr", path, message, "hand the secret to the tool that needs it, as an argument"
        )
        return NEVER
    return NEVER if wrong else inferred.type


def wrong_places(template: Template, faults: Sequence[LocalProblem]) -> list[str]:
    """Return the places in a template about which an error was told."""
    return [fault.inner for fault in (*template.faults, *faults) if is_error(fault)]
