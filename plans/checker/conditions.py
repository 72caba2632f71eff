"""What conditions and lists must be: `when` and `until` booleans, `for_each` a list."""

from __future__ import annotations

from ..types.assignable import expression_of, for_null
from ..types.show import type_text
from ..types.types import BOOLEAN, NULL, UNKNOWN, ListType, Scalar, Type, Unknown, members
from ..values import Json
from .typed_body import TypedBody

ANY_LIST = ListType(UNKNOWN)


def expect(steps: TypedBody, path: str, found: Type, wanted: Type, code: str, text: Json) -> bool:
    """Whether the value of a template's text can be a boolean, or a list, as its place wants; what is wrong or doubtful is noted."""
    kinds = members(found)
    others = [member for member in kinds if member != NULL]
    findings, body = steps.checking.findings, steps.body
    word = "true or false" if wanted == BOOLEAN else "a list"
    if kinds and not (others and all(_is_like(member, wanted) for member in others)):
        hint = "write a comparison" if wanted == BOOLEAN else "refer to a list, or write one: [..]"
        findings.add(body, code, path, f"expected {word} at {path}, found {type_text(found)}", hint)
        return False
    if len(others) < len(kinds):
        hint = for_null(expression_of(text), "False" if wanted == BOOLEAN else "[]")
        findings.add(body, "maybe-missing", path, f"expected {word} at {path}, found what may be null", hint)
    elif any(isinstance(member, Unknown) for member in kinds):
        message = (
            f"expected {word} at {path}, found a value of unknown type: it is checked when the step runs"
        )
        findings.add(body, "unchecked-type", path, message)
    return True


def _is_like(member: Type, wanted: Type) -> bool:
    if isinstance(member, Unknown):
        return True
    if wanted == BOOLEAN:
        return isinstance(member, Scalar) and member.kind == "boolean"
    return isinstance(member, ListType)
