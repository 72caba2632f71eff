"""Programs as values that can be compared."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from firmplan import Plan
from firmplan.plans.expressions.formula import Formula


def parts(value):
    """Return a program as values that can be compared: a formula by what it was read from."""
    match value:
        case Formula():
            splices = [each if isinstance(each, bytes | str) else "computed" for each in value._spliced()]
            names = value.strict, value.lenient, value.names, value.inputs
            read = (
                value.tree is None,
                len(value.leaves),
                value.has_escapes,
                len(value.foldable),
                value.constant,
            )
            return ("formula", value.value, splices, names, read, value.secret, value.canonical)
        case Plan():
            return ("plan", value.to_dict())
        case _ if is_dataclass(value):
            return (type(value).__name__, [parts(getattr(value, each.name)) for each in fields(value)])
        case tuple() | list():
            return [parts(each) for each in value]
        case dict():
            return {name: parts(each) for name, each in value.items()}
        case _:
            return value
