"""The types of a tool: JSON Schemas for people, planners and the checker, and the conversion of JSON to arguments and back.

`PythonTypes` (`annotated.py`) reads annotations through pydantic. `SchemaTypes` is given JSON Schemas for a function without usable
annotations. Rules of both:

- strictness is JSON Schema's: `"2"` is no integer and `true` no number; an integer fits a number, and an integral
  float where an integer is wanted becomes one; arguments nobody asked for are refused;
- arguments are normalised once, when bound: defaults filled in, numbers and texts as the types write them, so that
  equal calls have equal bytes;
- a result leaves as canonical JSON that its published schema accepts, or not at all.

Knows nothing of effects, calls or runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast

import jsonschema_rs

from ...errors import ConfigError, ToolError
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.reports.paths import path_of
from ...plans.types.definitions import rewritten
from ...plans.types.integers import Schema, has_integral, with_integers
from ...plans.values import Json, NotJson, canonical, copied, parse_canonical, shared_copy
from ..failures import described

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator
    from pydantic import ValidationError

    from ..codecs.codec import Codec
    from ..resources import Resource


class Types(Protocol):
    """What a tool takes and gives.

    Attributes:
        parameters: JSON Schema of an object, one property for each argument, self-contained.
        returns: JSON Schema of the result, self-contained; `None`: anything.
        context: The parameter that takes the `Context`, if any.
        resources: The resources that the engine gives, by parameter.
        local: The resources of the function around, which a type may mean.
        codecs: The codecs of types among arguments and result that JSON cannot carry; only `PythonTypes` has any.
    """

    @property
    def parameters(self) -> dict[str, Json]: ...  # noqa: D102  # said above; the same below
    @property
    def returns(self) -> dict[str, Json] | None: ...  # noqa: D102  # said above
    @property
    def context(self) -> str | None: ...  # noqa: D102  # said above
    @property
    def resources(self) -> Mapping[str, Resource[Any]]: ...  # noqa: D102  # said above
    @property
    def local(self) -> Sequence[Resource[Any]]: ...  # noqa: D102  # said above
    @property
    def codecs(self) -> tuple[Codec, ...]: ...  # noqa: D102  # said above

    def bind(self, args: Mapping[str, Json]) -> bytes:
        """Return the arguments, validated and normalised, as canonical JSON. Raises `ToolError` (`bad-args`)."""
        ...

    def bind_canonical(self, args: bytes, value: Json = None) -> bytes:
        """As `bind`, for arguments that are canonical JSON already."""
        ...

    def unpack(self, args: bytes, value: Json = None) -> dict[str, Any]:
        """Return fresh Python values for bound arguments."""
        ...

    def seal(self, result: object, known: bytes | None = None) -> bytes:
        """Return the result, validated, as canonical JSON; `known`: its canonical bytes, if they are known. Raises `ToolError` (`bad-result`)."""
        ...

    def accept(self, result: object, known: bytes | None = None) -> tuple[bytes, Sequence[str]]:
        """Return the result as canonical JSON, fitting or not, and one sentence for each place that does not fit. Raises `ToolError`: it is no JSON."""
        ...


def bad_args(faults: list[str]) -> ToolError:
    """Return the error for arguments that do not fit."""
    return ToolError("; ".join(faults), code="bad-args")


_UNFIT = "the tool's result does not fit its type: "


def bad_result(faults: list[str]) -> ToolError:
    """Return the error for a result that does not fit."""
    return ToolError(_UNFIT + "; ".join(faults), code="bad-result")


def faults_in(fault: ToolError) -> list[str]:
    """Return the sentences of such an error, as one."""
    return [str(fault).removeprefix(_UNFIT)]


def fault_of(name: str, fault: Exception, code: str) -> ToolError:
    """Return the error of a call whose arguments or result do not fit, or whose validator raised.

    Args:
        name: The tool.
        fault: The exception.
        code: `bad-args` or `bad-result`.
    """
    if isinstance(fault, ToolError):
        return ToolError(f"tool '{name}': {fault}", code=fault.code)
    what = "its arguments" if code == "bad-args" else "its result"
    return ToolError(f"tool '{name}': {what} cannot be read: {described(fault)}", code=code)


class Checker:
    """One self-contained JSON Schema, compiled when first asked."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    @cached_property
    def validator(self) -> Draft202012Validator:
        """The compiled schema."""
        # Not in `__init__`: of the tools of a large OpenAPI document few are ever called.
        return jsonschema_rs.Draft202012Validator(dict(self.schema))

    def accepts(self, value: Json) -> bool:
        """Whether a value passes."""
        return self.validator.is_valid(value)

    def faults(self, value: Json) -> list[str]:
        """Return one sentence for each fault of a value."""
        return schema_problems(value, self.schema)

    def with_integers(self, value: Json) -> Json:
        """Return `value` with integral floats made integers where the schema wants integers."""
        return with_integers(value, self.schema)


def is_loose(schema: Mapping[str, Json] | None) -> bool:
    """Whether a schema of results tells little of them: nothing, any object, or a list of such."""
    match schema:
        # What tells something is a schema of parts. Bounds on their number tell nothing that a plan could use.
        case {"type": "object", **rest}:
            is_told = rest.keys() & {"properties", "anyOf", "oneOf", "allOf"}
            return not is_told and rest.get("additionalProperties") in (None, True, {})
        case {"type": "array", **rest}:
            items = rest.get("items")
            return "prefixItems" not in rest and (not isinstance(items, dict) or is_loose(items))
        case None:
            return True
        case _:
            return not schema.keys() - _PROSE


_PROSE = frozenset({"title", "description", "$comment", "examples"})


def with_prose(schema: Json, change: Callable[[Json], Json]) -> Json:
    """Return a schema with the parts that only people read changed, and the same demands.

    Args:
        schema: A JSON Schema.
        change: From such a part (a title, a description, a list of examples) to another; `None` leaves it out.
    """

    # `rewritten` hands over schemas and never a map of properties, so that a property called `title` stays.
    def changed(one: dict[str, Json]) -> dict[str, Json]:
        made = {key: change(part) if key in _PROSE else part for key, part in one.items()}
        return {key: part for key, part in made.items() if part is not None or key not in _PROSE}

    return rewritten(schema, changed)


class SchemaTypes:
    """Types given as JSON Schemas.

    Raises:
        ConfigError: A schema is not valid JSON Schema, is not that of an object, or does not match the function.
    """

    def __init__(
        self,
        where: str,
        parameters: Mapping[str, Json],
        returns: Mapping[str, Json] | None,
        context: str | None,
        resources: Mapping[str, Resource[Any]] | None = None,
        local: Sequence[Resource[Any]] = (),
    ) -> None:
        self.parameters = _object_schema(where, parameters)
        self.returns = None if returns is None else _schema(where, "returns", returns)
        self.context = context
        self.resources = resources or {}
        self.local = local
        self.codecs: tuple[Codec, ...] = ()
        self._arguments = Checker(self.parameters)
        self._result = None if self.returns is None else Checker(self.returns)
        properties = cast("dict[str, Json]", self.parameters["properties"])
        self._known = tuple(properties)
        self._names = frozenset(properties)
        self._is_closed = self.parameters.get("additionalProperties") is False
        self._required = tuple(
            str(name) for name in cast("list[Json]", self.parameters.get("required") or [])
        )
        self._defaults = {
            name: schema["default"]
            for name, schema in properties.items()
            if isinstance(schema, dict) and "default" in schema
        }

    def bind(self, args: Mapping[str, Json]) -> bytes:  # noqa: D102  # as `Types` says; the same below
        # Names first: JSON Schema would report an unknown name without the nearest known one.
        known = self._known if self._is_closed else tuple(args)
        faults = argument_problems(args, known, self._required)
        if faults:
            raise bad_args(faults)
        try:
            # Defaults of the schema are filled in here, so that a call with and without them has one reuse key.
            given = {**self._defaults, **args}
            text = canonical(given)
        except NotJson as fault:
            raise bad_args([str(fault)]) from None
        parsed = _parsed(given, text)
        # Integers before validation: the validator takes `2.0` for an integer, and the tool would get a float.
        value = self._arguments.with_integers(parsed)
        if not self._arguments.accepts(value):
            raise bad_args(self._arguments.faults(value))
        return text if value is parsed else canonical(value)

    def bind_canonical(self, args: bytes, value: Json = None) -> bytes:  # noqa: D102
        given = cast("dict[str, Json]", parse_canonical(args) if value is None else value)
        # What the schema accepts is bound as it is, unless `bind` would add a default, refuse a name that a pattern of the schema
        # allows, or write an integral float as an integer.
        if (
            self._defaults.keys() <= given.keys()
            and (not self._is_closed or given.keys() <= self._names)
            and not has_integral(given)
            and self._arguments.accepts(given)
        ):
            return args
        return self.bind(given)

    def unpack(self, args: bytes, value: Json = None) -> dict[str, Any]:  # noqa: D102
        return cast("dict[str, Any]", parse_canonical(args) if value is None else copied(value))

    def seal(self, result: object, known: bytes | None = None) -> bytes:  # noqa: D102
        text, faults = self._sealed(result, known)
        if faults:
            raise bad_result(faults)
        return text

    def accept(self, result: object, known: bytes | None = None) -> tuple[bytes, Sequence[str]]:  # noqa: D102
        return self._sealed(result, known)

    def _sealed(self, result: object, known: bytes | None) -> tuple[bytes, list[str]]:
        """Return the result as canonical JSON, and one sentence for each place that does not fit. Raises: ToolError: it is no JSON."""
        # Faults are returned: whether a result that does not fit is refused is for the rule of the tool, not for its types.
        try:
            text = canonical(result) if known is None else known
        except NotJson as fault:
            raise bad_result([str(fault)]) from None
        if self._result is None:
            return text, []
        parsed = _parsed(result, text)
        value = self._result.with_integers(parsed)
        faults = [] if self._result.accepts(value) else self._result.faults(value)
        return text if value is parsed else canonical(value), faults


def _parsed(value: object, text: bytes) -> Json:
    """Return the parsed value of canonical bytes; the copy of a large value shares its texts."""
    copy = shared_copy(value, text)
    return parse_canonical(text) if copy is None else copy


def _schema(where: str, key: str, schema: object) -> dict[str, Json]:
    """Return a private copy of a schema, after checking that it is one."""
    try:
        copy = parse_canonical(canonical(schema))
    except NotJson as fault:
        raise ConfigError(
            f"{where}: {key}: expected a JSON Schema, found what is not JSON: {fault}"
        ) from fault
    if not isinstance(copy, dict):
        raise ConfigError(f"{where}: {key}: expected a JSON Schema object, found {copy!r}")
    try:
        # A reference to another address would make the check depend on the network.
        jsonschema_rs.Draft202012Validator(copy, retriever=_refuse_remote)
    except (ValueError, jsonschema_rs.ReferencingError) as fault:
        raise ConfigError(
            f"{where}: {key}: expected a valid JSON Schema, found a fault in it: {fault}"
        ) from fault
    return copy


def _refuse_remote(address: str) -> NoReturn:
    raise ValueError(f"'{address}' is outside the schema; put it under $defs")


def _object_schema(where: str, schema: object) -> dict[str, Json]:
    """Return the schema of the arguments: of an object, closed unless it says otherwise."""
    made = _schema(where, "parameters", schema)
    # Arguments go by name, so nothing but an object can describe them; an argument that nobody declared is a mistake unless the schema says otherwise.
    if made.setdefault("type", "object") != "object":
        raise ConfigError(
            f'{where}: parameters: expected {{"type": "object", "properties": {{..}}}} with a property for each '
            f"argument, found type {made['type']!r}"
        )
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    made.setdefault("properties", {})
    return made


# Messages for values that do not fit, from the errors of pydantic or of JSON Schema: where, what was expected, what was found.


DISPLAYED_MAX = 60  # characters of a found value: enough to recognise it, too few to flood a log
PROBLEMS_MAX = 8  # sentences about one value; more hide the first


def pydantic_problems(error: ValidationError) -> list[str]:
    """Return one sentence for each fault that pydantic found."""
    return _first(
        f"{path_of(fault['loc'])}: {_wish(str(fault['msg']))}, found {displayed(fault['input'])}"
        if fault["type"] != "missing"
        else f"{path_of(fault['loc'])}: expected a value, found nothing"
        for fault in error.errors(include_url=False, include_context=False)
    )


def schema_problems(value: Json, schema: Mapping[str, Json]) -> list[str]:
    """Return one sentence for each fault of a value that JSON Schema finds."""
    from ...plans.types.validate import value_problems  # noqa: PLC0415  # only once something does not fit

    found = value_problems(value, schema)
    return _first(f"${fault.inner}: {fault.message}{_hint(fault.hint)}" for fault in found)


def argument_problems(given: Iterable[str], known: Sequence[str], required: Iterable[str]) -> list[str]:
    """Return one sentence for each argument that is missing or unknown.

    Args:
        given: The names of the arguments of a call.
        known: The names that the tool knows.
        required: Those of them without a default.
    """
    given = list(given)
    missing = [
        f"argument '{name}': expected a value, found nothing" for name in required if name not in given
    ]
    free = [name for name in known if name not in given]
    extra = [
        f"argument '{name}': not a parameter; expected {listing(known)}{_hint(did_you_mean(name, free))}"
        for name in given
        if name not in known
    ]
    return missing + extra


def displayed(value: object) -> str:
    """Return a value as a message displays it, cut short."""
    # Found values come from models and servers: what a terminal would obey is shown as an escape.
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= DISPLAYED_MAX else f"{text[: DISPLAYED_MAX - 3]}..."


def _wish(message: str) -> str:
    """Turn `Input should be a valid integer` into `expected a valid integer`."""
    return (
        message.replace("Input should be ", "expected ", 1)
        if message.startswith("Input should be ")
        else message
    )


def _hint(text: str) -> str:
    return f"; {text}" if text else ""


def _first(sentences: Iterable[str]) -> list[str]:
    every = list(dict.fromkeys(sentences))  # alternatives often fail with the same sentence
    return every[:PROBLEMS_MAX] + (
        [f"and {len(every) - PROBLEMS_MAX} more"] if len(every) > PROBLEMS_MAX else []
    )
