"""Python types beside JSON: the JSON Schema of a type, values of it as JSON, and JSON as values of it.

pydantic does the work. This module adds what firmplan needs everywhere: `typing.TypedDict` counts before Python 3.12, too; schemas have no made-up titles;
fields with defaults are always there in what is serialized; and only values whose JSON is plain (models, dataclasses, dates, enums, ids, decimals,
paths) become JSON, so that bytes and sets are refused where pydantic would guess.
"""

# ruff: noqa: ANN401  # annotations and values are any Python value: that is what this module is for
from __future__ import annotations

import sys
import types
import typing
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Generic, Literal, Protocol, TypeAlias, cast

import typing_extensions
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypeVar, override

from ..errors import ConfigError
from .reports.paths import path_of
from .types.integers import with_integers
from .types.validate import ValueSchema
from .values import Json, NotJson, canonical, into

if TYPE_CHECKING:
    from pydantic_core import core_schema

T = TypeVar("T", default=Any)


class DataclassLike(Protocol):
    """An instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


Inputs: TypeAlias = "Mapping[str, object] | BaseModel | DataclassLike"
"""The inputs of a plan: values by name, or an object with a field for each."""

DEPTH_MAX: Final = 200
"""Containers within containers of a value that becomes JSON; deeper ones are refused, and so are circles."""


class Schemas(GenerateJsonSchema):
    """pydantic's JSON Schemas without the titles that it makes of the names of fields.

    In `serialization` mode the fields of models and dataclasses are required also if they have defaults, since whoever serializes a value writes them.
    """

    _is_own: bool = False  # whether the class around a field writes its JSON by a function of its own

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def field_is_required(self, field: Any, total: bool) -> bool:  # pydantic's signature
        is_written = self.mode == "serialization" and field["type"] != "typed-dict-field" and not self._is_own
        if is_written:
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)

    @override
    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        with self._inside(schema):
            return super().model_schema(schema)

    @override
    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> dict[str, Any]:
        with self._inside(schema):
            return super().dataclass_schema(schema)

    @contextmanager
    def _inside(self, schema: Mapping[str, Any]) -> Generator[None]:
        # A function may leave fields out, such as those that are null.
        before, self._is_own = self._is_own, "serialization" in schema
        try:
            yield
        finally:
            self._is_own = before


class AnswerSchemas(Schemas):
    """The same for what a model is asked to write: it may leave out fields with defaults, which are filled in afterwards."""

    @override
    def field_is_required(self, field: Any, total: bool) -> bool:  # pydantic's signature
        return GenerateJsonSchema.field_is_required(self, field, total)


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter of a type. Raises: PydanticUserError: JSON cannot carry the type."""
    return TypeAdapter(readable(annotation))


def schema_of(
    adapter: TypeAdapter[Any],
    mode: Literal["validation", "serialization"],
    generator: type[GenerateJsonSchema] = Schemas,
) -> dict[str, Json]:
    """Return the JSON Schema of what an adapter reads (`validation`) or writes (`serialization`). Raises: PydanticUserError: there is none."""
    return adapter.json_schema(mode=mode, schema_generator=generator)


# --- typing.TypedDict before Python 3.12


def readable(annotation: Any) -> Any:
    """Return a type as pydantic reads it: before Python 3.12 with `typing_extensions.TypedDict` in the place of `typing.TypedDict`."""
    return annotation if sys.version_info >= (3, 12) else _with_typed_dicts(annotation, {})


def _with_typed_dicts(annotation: Any, made: dict[Any, Any]) -> Any:
    if _is_old_typed_dict(annotation):
        return made[annotation] if annotation in made else _typed_dict(annotation, made)
    args = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not args or origin is Literal:
        return annotation
    if origin is Annotated:
        inner = _with_typed_dicts(args[0], made)
        return annotation if inner is args[0] else Annotated[(inner, *args[1:])]
    # The arguments of a `Callable` are a list: JSON carries none of these.
    parts: list[Any] = [each if type(each) is list else _with_typed_dicts(each, made) for each in args]
    if all(new is old for new, old in zip(parts, args, strict=True)):
        return annotation
    if origin is types.UnionType or origin is typing.Union:
        return typing.Union[tuple(parts)]  # noqa: UP007  # made at run time
    return annotation.copy_with(tuple(parts)) if hasattr(annotation, "copy_with") else origin[tuple(parts)]


def _is_old_typed_dict(annotation: Any) -> bool:
    return typing.is_typeddict(annotation) and type(annotation).__module__ == "typing"


def _typed_dict(old: Any, made: dict[Any, Any]) -> Any:
    """Return the same `TypedDict` of `typing_extensions`, which knows which keys are required also if its annotations are text."""
    new = made[old] = cast("Any", typing_extensions.TypedDict)(old.__name__, {})  # first: it may name itself
    hints = typing_extensions.get_type_hints(old, include_extras=True)
    required: set[str] = set()
    annotations: dict[str, Any] = {}
    for name, hint in hints.items():
        marker: Any = typing.get_origin(hint)
        is_marked = marker in (typing.Required, typing.NotRequired)
        inner = typing.get_args(hint)[0] if is_marked else hint
        if marker is typing.Required or (not is_marked and name in old.__required_keys__):
            required.add(name)
        annotations[name] = _with_typed_dicts(inner, made)
    new.__annotations__ = annotations
    new.__required_keys__ = frozenset(required)
    new.__optional_keys__ = frozenset(annotations.keys() - required)
    new.__module__, new.__qualname__, new.__doc__ = old.__module__, old.__qualname__, old.__doc__
    if hasattr(old, "__pydantic_config__"):
        new.__pydantic_config__ = old.__pydantic_config__
    return new


# --- values


def to_json(value: Any) -> Json:
    """Return a value as JSON: models and dataclasses as objects, dates and the like as text.

    Raises:
        NotJson: JSON has no such value; `path` says where.
    """
    return _to_json(value, "$", 0)


def _to_json(value: Any, at: str, depth: int) -> Json:
    if depth > DEPTH_MAX:
        raise NotJson(f"more than {DEPTH_MAX} values within one another", at)
    match value:
        case Enum():
            return _to_json(value.value, at, depth + 1)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            entries = cast("Mapping[object, Any]", value).items()
            return {_key(key, at): _to_json(part, into(at, str(key)), depth + 1) for key, part in entries}
        case list() | tuple():
            parts = cast("list[Any]", value)
            return [_to_json(part, f"{at}[{index}]", depth + 1) for index, part in enumerate(parts)]
        case type() | bytes() | bytearray() | memoryview() | set() | frozenset():
            raise NotJson(_described(cast("object", value)), at)
        case _ if (plain := _plain_number(value)) is not None:
            return plain
        case _:
            return _serialized(value, at)


def _plain_number(value: Any) -> float | bool | None:
    """Return a number or a boolean of numpy as Python's; `None`: the value is none. numpy is not imported for it."""
    kind = cast("type[object]", type(value))
    if kind.__module__ != "numpy" or kind.__name__ == "ndarray" or value.dtype.kind not in "biuf":
        return None
    plain: object = value.item()
    return plain if isinstance(plain, bool | int | float) else None


def _key(key: object, at: str) -> str:
    if isinstance(key, str):
        return str(key.value) if isinstance(key, Enum) else key
    raise NotJson(f"the key {key!r:.80}: expected text", at)


def _serialized(value: Any, at: str) -> Json:
    try:
        if isinstance(value, BaseModel):
            return cast("Json", value.model_dump(mode="json", by_alias=True))
        if is_dataclass(value):
            return cast(
                "Json", adapter_of(type(value)).dump_python(cast("Any", value), mode="json", by_alias=True)
            )
        # Dates, ids, decimals, paths, addresses: pydantic knows their texts. What becomes a list or an object, such as a generator, is none of them.
        made = to_jsonable_python(value)
    except (PydanticSerializationError, PydanticUserError, ValueError, TypeError) as fault:
        raise NotJson(_described(value), at) from fault
    if isinstance(made, list | dict):
        raise NotJson(_described(value), at)
    return cast("Json", made)


def _described(value: object) -> str:
    kind, hint = type(value).__name__, ""
    if isinstance(value, set | frozenset):
        hint = "; write a sorted list"
    elif isinstance(value, bytes | bytearray):
        hint = "; keep bytes with save_artifact and hand over the Artifact"
    return f"a Python {kind}, which JSON cannot carry{hint}"


def values_in(given: Any) -> Any:
    """Return the values by name in what a caller gave for inputs: a model's or a dataclass's fields as JSON; all else as it is.

    Raises:
        NotJson: A field that JSON cannot carry.
    """
    if isinstance(given, BaseModel) or (is_dataclass(given) and not isinstance(given, type)):
        return to_json(given)
    return given


# --- outputs


class OutputType(Generic[T]):
    """The type that a caller wants of an output: a Python type, or a JSON Schema.

    Args:
        wanted: The type or the schema.

    Attributes:
        schema: Its JSON Schema, self-contained: what can be read as the type.

    Raises:
        ConfigError: JSON cannot carry the type.
    """

    __slots__ = ("_adapter", "_judge", "name", "schema")

    def __init__(self, wanted: type[T] | Mapping[str, Any]) -> None:
        self._adapter: TypeAdapter[Any] | None = None
        if isinstance(wanted, Mapping):
            self.schema = dict(cast("Mapping[str, Json]", wanted))
            self.name = "the schema"
        else:
            given: Any = wanted
            self.name = given.__name__ if isinstance(given, type) else str(given)
            if isinstance(given, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
                raise ConfigError(f"returns: expected a type or a JSON Schema, found the function {given!r}")
            try:
                self._adapter = adapter_of(wanted)
                self.schema = schema_of(self._adapter, "validation")
            except PydanticUserError as fault:
                raise ConfigError(
                    "returns: expected a type that JSON can carry (a pydantic model, a dataclass, a TypedDict, list[..], date ..), or a JSON "
                    f"Schema, found {self.name}: {_first_line(fault)}"
                ) from fault
        self._judge = ValueSchema(self.schema)

    def read(self, value: Json) -> T:
        """Return an output as a value of the type.

        Raises:
            ValueError: It does not fit; the message says where.
        """
        fitted = with_integers(value, self._judge.alone)
        if faults := self._judge.problems(fitted):
            raise ValueError("; ".join(_told(fault.inner, fault.message) for fault in faults))
        if self._adapter is None:
            return cast("T", fitted)
        try:
            return cast("T", self._adapter.validate_json(canonical(fitted), strict=True))
        except ValidationError as fault:
            errors = fault.errors(include_url=False, include_context=False)
            raise ValueError(
                "; ".join(_told(path_of(each["loc"], ""), each["msg"]) for each in errors)
            ) from fault


def _told(inner: str, message: str) -> str:
    place = inner.lstrip(".")
    return f"{place}: {message}" if place else message


def _first_line(fault: Exception) -> str:
    return str(fault).split("\n", 1)[0]
