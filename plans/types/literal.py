"""Values against schemas: what in a value does not fit, told to the place.

JSON Schema is validated by jsonschema-rs, on the schema as it stands alone; here its findings become faults that say what was
expected and what was found. Of alternatives, the one that a value comes closest to is explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ..faults import Fault
from ..nearest import did_you_mean, listing, nearest
from ..paths import path_of
from ..values import Json, NotJson, canonical
from .contained import self_contained
from .reading import read_schema
from .types import ListType, ObjectType, Property, Type, members
from .validators import find_validator
from .violations import SHOWN_MAX, TOLD, fault_at, found_text, kind_word, not_listed, options_of
from .wording import shown

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

FAULTS_MAX = 100
"""Faults told of one value; more help nobody."""

BRANCHES_MAX = 8
"""Alternatives within alternatives that are followed to a fault's own place."""

_NO_TYPES: Mapping[str, Json] = {}


def literal_faults(
    value: Json, schema: Mapping[str, Json], types: Mapping[str, Json] = _NO_TYPES
) -> list[Fault]:
    """Return what in a value does not fit a schema, one `bad-literal` fault for each violation, in the value's order.

    Numbers count as JSON Schema counts them: `4.0` is an integer, `true` is no number. A schema with faults of its own, of
    which `read_schema` tells, accepts anything.
    """
    try:
        validator = find_validator(canonical(self_contained(schema, types)))
        if validator is None or validator.is_valid(value):
            return []
        telling = _Telling(read_schema(schema, types)[0])
        errors = list(validator.iter_errors(value))
        found = dict.fromkeys(fault for error in errors for fault in telling.faults(error))
        if not found:  # nothing but fields that only one part of a composition knows
            found = dict.fromkeys(fault_at(error, error.message) for error in errors)
    except NotJson as fault:
        return [Fault("bad-literal", f"expected JSON, found what is not: {fault}")]
    except ValueError as error:  # the validator's own bound on depth
        return [
            Fault("bad-literal", f"expected a value of bounded depth, found one that is too deep ({error})")
        ]
    return list(found)[:FAULTS_MAX]


class _Telling:
    """Findings of one value in words, with the type that it should have: that knows the fields of every place."""

    def __init__(self, wanted: Type) -> None:
        self.wanted = wanted

    def faults(self, error: ValidationError, room: int = BRANCHES_MAX) -> Iterable[Fault]:
        """Yield the faults of one finding: of alternatives, those of the closest."""
        kind = error.kind
        context: Sequence[Sequence[ValidationError]] = getattr(kind, "context", ())
        if kind.name in {"anyOf", "oneOf"} and room > 0 and context and all(context):
            yield from self.alternatives(error, context, room)
        elif kind.name in {"additionalProperties", "unevaluatedProperties"}:
            yield from self.unknown(error)
        elif kind.name == "required":
            yield self.missing(error)
        else:
            tell = TOLD.get(kind.name)
            yield fault_at(error, error.message) if tell is None else tell(error)

    def alternatives(
        self, error: ValidationError, context: Sequence[Sequence[ValidationError]], room: int
    ) -> Iterable[Fault]:
        """Yield the faults of a value that fits none of several schemas."""
        best = _closest(error, context)
        tags = [
            inner for branch in context for inner in branch if _tells_apart(inner, len(error.instance_path))
        ]
        if best is None:
            yield fault_at(error, f"expected {_alternatives(context)}, found {found_text(error.instance)}")
        elif len(tags) >= len(context) and len({tuple(tag.instance_path) for tag in tags}) == 1:
            yield not_listed(tags[0], [option for tag in tags for option in options_of(tag)])
        else:
            for inner in best:
                yield from self.faults(inner, room - 1)

    def fields(self, path: Sequence[str | int]) -> dict[str, Property]:
        """Return the fields that the wanted type knows at a place, of all its alternatives."""
        here = [self.wanted]
        for part in path:
            here = [inner for one in here for inner in _inside(one, part)][:BRANCHES_MAX]
        objects = [member for one in here for member in members(one) if isinstance(member, ObjectType)]
        return {name: known for one in objects for name, known in one.fields.items()}

    def unknown(self, error: ValidationError) -> Iterable[Fault]:
        found = error.instance if isinstance(error.instance, dict) else {}
        fields = self.fields(error.instance_path)
        for name in cast("list[str]", getattr(error.kind, "unexpected", [])):
            if name not in fields or error.kind.name == "additionalProperties":
                free = [known for known in fields if known not in found]
                listed = (
                    f"expected no other fields than {listing(fields)}"
                    if fields
                    else "expected no fields here"
                )
                yield Fault(
                    "bad-literal",
                    f"{listed}, found '{name[:SHOWN_MAX]}'",
                    did_you_mean(name, free, "leave it out"),
                    path_of([*error.instance_path, name], ""),
                )

    def missing(self, error: ValidationError) -> Fault:
        name = str(getattr(error.kind, "property", ""))
        found = error.instance if isinstance(error.instance, dict) else {}
        fields = self.fields(error.instance_path)
        wanted = f" ({shown(fields[name].type)})" if name in fields else ""
        listed = "{" + listing(found) + "}" if found else "an empty object"
        strangers = [other for other in found if other not in fields]
        close = nearest(name, strangers)
        hint = f"add '{name}'" if close is None else f"is '{close}' meant to be '{name}'?"
        return fault_at(error, f"expected the field '{name}'{wanted}, found {listed}", hint)


def _inside(of: Type, part: str | int) -> Iterable[Type]:
    """Yield what a type's alternatives hold under a key or index."""
    for member in members(of):
        if isinstance(member, ListType) and isinstance(part, int):
            yield member.item
        elif isinstance(member, ObjectType) and isinstance(part, str):
            known = member.fields.get(part)
            if known is not None:
                yield known.type
            elif member.extra is not None:
                yield member.extra


def _closest(
    error: ValidationError, context: Sequence[Sequence[ValidationError]]
) -> Sequence[ValidationError] | None:
    """Return the findings of the alternative that a value comes closest to, or `None` if it is of none's kind."""
    here = len(error.instance_path)
    fitting = [branch for branch in context if not any(_refuses(inner, here) for inner in branch)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        only = [branch for branch in context if not _is_of_null(branch)]
        return only[0] if len(only) == 1 else None
    return min(fitting, key=lambda branch: (any(_tells_apart(inner, here) for inner in branch), len(branch)))


def _refuses(error: ValidationError, here: int) -> bool:
    """Whether a finding says that the value as a whole is another kind of thing."""
    return len(error.instance_path) == here and error.kind.name in {"type", "const", "enum", "falseSchema"}


def _tells_apart(error: ValidationError, here: int) -> bool:
    """Whether a finding is about a field that names the alternative: `{"kind": "circle", ..}`."""
    return len(error.instance_path) == here + 1 and error.kind.name in {"const", "enum"}


def _is_of_null(branch: Sequence[ValidationError]) -> bool:
    return len(branch) == 1 and list(getattr(branch[0].kind, "types", ())) == ["null"]


def _alternatives(context: Sequence[Sequence[ValidationError]]) -> str:
    """Return what each alternative wants at the value's own place."""
    wishes: dict[str, None] = {}
    for branch in context:
        for error in branch:
            kind = error.kind
            if kind.name == "type":
                wishes.update(dict.fromkeys(map(kind_word, cast("list[str]", getattr(kind, "types", [])))))
            elif kind.name in {"enum", "const"}:
                wishes.update(dict.fromkeys(map(found_text, options_of(error))))
            elif kind.name in {"anyOf", "oneOf"}:
                wishes[_alternatives(getattr(kind, "context", ()))] = None
    return " or ".join(wishes) or "another value"
