"""Values of a plan against the types of their places: literal values, computed values, and values with parts of both kinds.

A literal part that does not fit is `bad-literal` where it stands. A computed part is judged by its inferred type; its problems are
reported at the string that computes it, even if they lie deeper inside its value, since the plan has no deeper place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ..expressions.infer import Inferred
from ..reports.codes import is_error
from ..reports.errors import LocalProblem
from ..reports.nearest import did_you_mean, listing, short
from ..reports.paths import key, parts_of, path_of
from ..signature import SecretPlaces, is_place
from ..types.assignable import assignability_problems, expression_of, for_null
from ..types.constraints import as_schema, is_plain_tuple, of_shape
from ..types.show import schema_of, type_text
from ..types.types import (
    NULL,
    TEXT,
    UNKNOWN,
    ListType,
    ObjectType,
    Type,
    members,
    type_of,
)
from ..types.validate import ValueSchema, value_problems
from ..values import Json, into
from .context import Parameters

MISSING_MAX = 50
"""Missing arguments of one step that get a problem each; more share one, since a short plan can lack any number of them."""


def without_doubts(faults: Sequence[LocalProblem], others: Sequence[LocalProblem]) -> Sequence[LocalProblem]:
    """Return faults without the doubts about a place that has an error, or about which `others` say the same.

    An expression, and the place that its value goes to, may both report that a value may be missing. The fault inside the
    expression is kept, since its place is more exact.
    """
    if not faults or not (others or any(map(is_error, faults))):
        return faults
    wrong = {fault.inner for fault in (*faults, *others) if is_error(fault)}
    exact = {fault.inner for fault in others if fault.code == "maybe-missing" and fault.end}
    return [
        fault
        for fault in faults
        if fault.code not in _DOUBTS
        or (
            fault.inner not in wrong
            and not (fault.code == "maybe-missing" and not fault.end and fault.inner in exact)
        )
    ]


_DOUBTS = frozenset({"maybe-missing", "unchecked-type"})


def argument_problems(
    args: Mapping[str, Json], parameters: Parameters, parts: Inferred, secrets: Collection[str] = ()
) -> Iterator[LocalProblem]:
    """Yield the faults of arguments, with paths such as `.city`; faults of all together only if no argument has an error.

    Args:
        args: As the plan has them.
        parameters: The arguments that the tool or the plan accepts.
        parts: The computed parts of the arguments.
        secrets: Arguments that are secrets, and so are text.
    """
    is_wrong = False
    for fault in _each_argument(args, parameters, parts, secrets):
        is_wrong = is_wrong or is_error(fault)
        yield fault
    # The object of all arguments can have conditions that no single argument has, such as `dependentRequired`. A secret's value is
    # unknown until the call, so such arguments are only checked when the tool is called.
    if parameters.together is not None and not is_wrong and not secrets:
        wanted, schema = parameters.together
        for fault in _together_problems(dict(args), wanted, schema, parts):
            yield replace(fault, message=f"the arguments of {parameters.owner}: {fault.message}")


def secret_problems(
    tool: str, arguments: Mapping[str, str], secrets: SecretPlaces, *, suggestions: bool
) -> Iterator[LocalProblem]:
    """Yield the problems of arguments that are secrets.

    Args:
        tool: The tool that is called.
        arguments: Argument -> name of the secret.
        secrets: The secrets that the plan may use.
        suggestions: Whether the nearest name is looked for.
    """
    for argument, name in arguments.items():
        if name not in secrets:
            known = (
                f"the secrets are {listing(secrets)}" if secrets else "there are none: Engine(secrets={..})"
            )
            hint = did_you_mean(name, secrets, known) if suggestions else known
            yield LocalProblem("unknown-secret", f"there is no secret '{short(name)}'", hint, key(argument))
        elif not is_place(secrets[name], tool, argument):
            message = f"the secret '{name}' is not for {tool}.{argument}"
            yield LocalProblem(
                "unknown-secret", message, f"it is for {listing(secrets[name])}", key(argument)
            )


def _together_problems(
    args: Json, wanted: Type, schema: Mapping[str, Json], parts: Inferred
) -> Iterable[LocalProblem]:
    if not parts.leaves:
        return value_problems(args, schema)
    if isinstance(wanted, ObjectType):
        return _shape_problems(args, "", wanted)
    return [fault for fault in _composed_problems(args, "", wanted, parts) if is_error(fault)]


def _each_argument(
    args: Mapping[str, Json], parameters: Parameters, parts: Inferred, secrets: Collection[str] = ()
) -> Iterator[LocalProblem]:
    for name, value in args.items():
        inner = key(name)
        wanted = parameters.types.get(name, parameters.extra)
        # Most arguments are one expression of exactly the wanted type: nothing to compare, and no message to build.
        computed = parts.leaves.get(inner)
        if computed is not None and (computed is parameters.fitting.get(name) or computed == wanted):
            parameters.fitting[name] = computed
            continue
        if wanted is None:
            yield _unknown(name, inner, parameters, args)
            continue
        for fault in (
            _computed_problems(TEXT, wanted, inner)
            if name in secrets
            else part_problems(value, inner, wanted, parts, parameters.value_schema(name))
        ):
            yield replace(fault, message=f"argument '{name}' of {parameters.owner}: {fault.message}")
    # Reported after the given arguments, since a misspelt one is the likelier reason.
    missing = [name for name in parameters.required if name not in args]
    if len(missing) > MISSING_MAX:
        message = f"{parameters.owner} needs {len(missing)} arguments that are not given: {listing(missing)}"
        yield LocalProblem("missing-arg", message, "add them to 'args'")
    else:
        for name in missing:
            message = f"{parameters.owner} needs the argument '{name}': expected {type_text(parameters.types.get(name, UNKNOWN))}, found none"
            yield LocalProblem("missing-arg", message, f"add '{name}' to 'args'", key(name))


def part_problems(
    value: Json,
    inner: str,
    wanted: Type,
    parts: Inferred,
    schema: ValueSchema | None = None,
) -> Iterable[LocalProblem]:
    """Return the faults of one value.

    Args:
        value: As the plan has it.
        inner: Its path inside the template.
        wanted: The type of its place.
        parts: The computed parts of the template.
        schema: The schema of its place, which judges a literal value more exactly than the type does.
    """
    if inner in parts.leaves:
        return _computed_problems(parts.leaves[inner], wanted, inner, value)
    if inner not in parts.branches:
        return _literal_problems(value, inner, wanted, schema)
    return _partly_computed_problems(value, inner, wanted, parts)


def _computed_problems(found: Type, wanted: Type, inner: str, text: Json = None) -> Iterator[LocalProblem]:
    for fault in assignability_problems(found, wanted):
        if fault.code == "maybe-missing" and not fault.inner:
            yield replace(fault, inner=inner, hint=for_null(expression_of(text)))
            continue
        message = (
            f"{fault.message} (in its value, at {fault.inner.lstrip('.')})" if fault.inner else fault.message
        )
        yield replace(fault, message=message, inner=inner)


def _literal_problems(
    value: Json, inner: str, wanted: Type, schema: ValueSchema | None
) -> Iterable[LocalProblem]:
    if schema is None:
        if wanted == UNKNOWN:
            return ()
        schema = ValueSchema(schema_of(wanted))
    return [replace(fault, inner=inner + fault.inner) for fault in schema.problems(value)]


def _partly_computed_problems(
    value: Json, inner: str, wanted: Type, parts: Inferred
) -> Iterator[LocalProblem]:
    """Judge the parts of a list or object that holds expressions, if its place allows one kind of list or object only."""
    others = [member for member in members(wanted) if member != NULL]
    match value, others:
        case dict(), [ObjectType() as one]:
            yield from _object_problems(value, inner, one, parts)
            yield from _shape_problems(value, inner, one)
        case list(), [ListType() as one]:
            for index, part in enumerate(value):
                yield from part_problems(part, f"{inner}[{index}]", one.item, parts)
            yield from _shape_problems(value, inner, one)
        case _:
            yield from _composed_problems(value, inner, wanted, parts)


def _shape_problems(value: Json, inner: str, wanted: ObjectType | ListType) -> Iterator[LocalProblem]:
    """Yield the faults that a list or object has whatever its computed parts will be: those of its length and its names."""
    # The number of items and the names of fields do not depend on the computed parts; all other conditions may.
    known = of_shape(wanted.constraints)
    faults = value_problems(value, as_schema(known)) if known else []
    yield from (replace(fault, inner=inner + fault.inner) for fault in faults)
    if not faults and any(one not in known and not is_plain_tuple(one, wanted) for one in wanted.constraints):
        found = "a list" if isinstance(value, list) else "an object"
        message = f"expected {type_text(wanted)} with conditions, found {found} that is computed in part: it is checked when the step runs"
        yield LocalProblem("unchecked-type", message, "", inner)


def _object_problems(
    value: Mapping[str, Json], inner: str, wanted: ObjectType, parts: Inferred
) -> Iterator[LocalProblem]:
    for name, part in value.items():
        at = into(inner, name)
        known = wanted.fields.get(name)
        target = wanted.extra if known is None else known.type
        if target is None:
            message = f"expected one of the fields {listing(wanted.fields)}, found '{name}'"
            yield LocalProblem(
                "bad-literal",
                message,
                did_you_mean(name, (each for each in wanted.fields if each not in value), "leave it out"),
                at,
            )
        else:
            yield from part_problems(part, at, target, parts)
    for name, known in wanted.fields.items():
        if known.required and name not in value:
            message = f"the field '{name}' is missing: expected {type_text(known.type)}"
            yield LocalProblem("bad-literal", message, f"add '{name}'", inner)


def _composed_problems(value: Json, inner: str, wanted: Type, parts: Inferred) -> Iterator[LocalProblem]:
    """Judge a value as one by the type that its parts give it, where its place allows several types."""
    found = parts.leaves.get(inner) or parts.branches.get(inner) or type_of(value)
    for fault in assignability_problems(found, wanted):
        at = inner + fault.inner
        # The plan has no text inside a computed part, so its problems move up to the string that computes it.
        holder = _nearest_computed(at, parts)
        if holder is not None:
            is_null = fault.code == "maybe-missing" and holder == at
            hint = for_null(expression_of(_at(value, holder, inner))) if is_null else fault.hint
            yield replace(fault, inner=holder, hint=hint)
        # A literal part has a place of its own, where its problem is `bad-literal` like any other literal's.
        elif fault.code == "type-mismatch" and fault.inner and at not in parts.branches:
            yield replace(fault, code="bad-literal", inner=at)
        elif fault.code != "unchecked-type":
            yield replace(fault, inner=at)


def _at(value: Json, place: str, inner: str) -> Json:
    """Return the part at a place inside a value whose own place is `inner`."""
    for part in parts_of(place)[len(parts_of(inner)) :]:
        value = cast("Any", value)[part]
    return value


def _nearest_computed(at: str, parts: Inferred) -> str | None:
    """Return the computed string at a path or above it."""
    steps = parts_of(at)
    for count in range(len(steps), -1, -1):
        path = path_of(steps[:count], "")
        if path in parts.leaves:
            return path
    return None


def _unknown(name: str, inner: str, parameters: Parameters, args: Mapping[str, Json]) -> LocalProblem:
    free = [known for known in parameters.types if known not in args]
    message = f"{parameters.owner} has no argument '{name}': expected one of {listing(parameters.types)}"
    return LocalProblem("unknown-arg", message, did_you_mean(name, free, "leave it out"), inner)
