"""Types read from annotations, through pydantic.

pydantic makes the published schemas, builds typed arguments (models, dates, enums ..) and serializes results. The JSON Schema is
checked as well, since it is stricter than pydantic where the two differ (`true` is no `Literal[1]`). The titles that pydantic makes
of field names are left out: they repeat the name.
"""

# ruff: noqa: ANN401  # annotations and results are any Python value: that is what this module is for
from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import override

from ...errors import ConfigError, ToolError
from ...plans.python_types import AnswerSchemas, Schemas, adapter_of, readable
from ...plans.reports.paths import path_of
from ...plans.types.integers import with_ordered_sets
from ...plans.values import Json, NotJson, canonical, copied, parse_canonical
from ..codecs.codec import MARK, advice_for, bare_in_model, find_codec, full_name
from ..resources import spelled
from .callables import EMPTY, Annotations, Parameter
from .exact_types import exact_arguments, exact_result
from .schemas import Checker, argument_problems, bad_args, bad_result, displayed, faults_in, pydantic_problems

if TYPE_CHECKING:
    from pydantic.config import ExtraValues
    from pydantic_core import SchemaSerializer, SchemaValidator

    from ..codecs.codec import Codec
    from ..codecs.typed import Adapter, Bytes

_EXTRA: ExtraValues = "forbid"


class PythonTypes:
    """Types read from annotations.

    Raises:
        ConfigError: A type that JSON cannot carry, or a default that does not fit its type.
    """

    def __init__(self, where: str, name: str, annotations: Annotations) -> None:
        self.annotations = annotations
        self.context = annotations.context
        self.resources = annotations.resources
        self.local = annotations.local
        # pydantic refuses some names of fields, such as `schema`; the names of the arguments are aliases of ours.
        self._names = {f"argument_{at}": each.name for at, each in enumerate(annotations.parameters)}
        self._required = [each.name for each in annotations.parameters if not _has_default(each)]
        arguments, model = _arguments_model(where, name, annotations.parameters)
        self._result = _adapter(where, "the result", annotations.returns)
        self.parameters = _json_schema(where, "the parameters", arguments, "validation")
        self.parameters.pop("title", None)
        self.parameters.setdefault("properties", {})
        returns = _json_schema(where, "the result", self._result, "serialization")
        self.returns = returns or None
        self._where = where
        self._arguments = Checker(self.parameters)
        self._sealed = Checker(returns)
        # Two schemas of a result: what pydantic accepts, and what it serializes. Aliases and computed fields make
        # them differ.
        self._accepted = Checker(_json_schema(where, "the result", self._result, "validation"))
        self._sets_in = [_has_sets(self.parameters), _has_sets(returns)]
        # The methods of a model that call these two cost as much again.
        self._validator: SchemaValidator = cast("Any", arguments.validator)
        self._serializer: SchemaSerializer = cast("Any", arguments.serializer)
        # Types with codecs have no fast path: their values need the bytes of a call.
        self._exact = None if model is None else exact_arguments(model, self._names)
        self._exact_result = exact_result(self._result.core_schema)
        self.codecs = _codecs(arguments, self.parameters, self._result, returns)

    @cached_property
    def answers(self) -> dict[str, Json] | None:
        """JSON Schema of what a model is asked for: as `returns`, but fields with defaults may be left out."""
        return _json_schema(self._where, "the result", self._result, "serialization", _AnswerSchemas) or None

    def bind(self, args: Mapping[str, Json]) -> bytes:  # noqa: D102  # as `Types` says; the same below
        try:
            given = canonical(args)
        except NotJson as fault:
            raise bad_args(self._name_problems(args) or [str(fault)]) from None
        return self._bound(given, cast("dict[str, Json]", parse_canonical(given)), args)

    def bind_canonical(self, args: bytes, value: Json = None) -> bytes:  # noqa: D102  # as `Types` says
        given: Any = parse_canonical(args) if value is None else value
        exact = self._exact
        return args if exact is not None and exact.fits(given) else self._bound(args, given, given)

    def unpack(self, args: bytes, value: Json = None) -> dict[str, Any]:  # noqa: D102  # as `Types` says
        if self._exact is not None and not self._exact.has_fields:
            # Every type is JSON's own, and the bound values are of it. A `TypedDict` is not: its keys stand in the order of its class.
            given: Any = parse_canonical(args) if value is None else copied(value)  # no cast, which is a call
            own: dict[str, Any] = given
            return own
        return self.decode(args, None)

    def decode(self, args: bytes, bytes_of: Bytes | None) -> dict[str, Any]:
        """As `unpack`, for types with codecs: their values come of the bytes of the call. Raises: ToolError: they are not there, or no such value."""
        read = self._validator.validate_json(args, strict=True, context=bytes_of).__dict__
        return {name: read[field] for field, name in self._names.items()}

    def encode(self, result: object, bytes_of: Bytes) -> Json:
        """Return a result with the descriptions of values that have codecs, as JSON, and keep their bytes. Raises: ToolError: it does not fit."""
        return parse_canonical(self._sealed_slowly(result, bytes_of))

    def seal(self, result: object, known: bytes | None = None) -> bytes:  # noqa: D102  # as `Types` says
        exact = self._exact_result
        if exact is not None and exact.fits(result):
            if known is not None:
                return known
            try:
                return canonical(result if exact.to_json is None else exact.to_json(result))
            except NotJson:
                pass  # the long way says what is wrong
        return self._sealed_slowly(result, None)

    def _sealed_slowly(self, result: object, bytes_of: Bytes | None) -> bytes:
        dumped = self._dumped(self._typed(result), result, bytes_of)
        if self._sets_in[1]:
            dumped = with_ordered_sets(dumped, self._sealed.schema)
        try:
            text = canonical(dumped)
        except NotJson as fault:
            raise bad_result([str(fault)]) from None
        if not self._sealed.accepts(dumped):
            raise bad_result(self._sealed.faults(dumped))
        return text

    def accept(self, result: object, known: bytes | None = None) -> tuple[bytes, Sequence[str]]:  # noqa: D102  # as `Types` says
        try:
            return self.seal(result, known), ()
        except ToolError as fault:
            faults = faults_in(fault)
        # A result that does not fit may stand. One that JSON cannot carry may not: what is stored would be another value.
        if (found := _find_unfit(result, (), sets=False)) is not None:
            raise bad_result([f"{path_of(found[0])}: expected JSON, found {found[1]}"])
        try:
            # What does not fit its class may still be a dataclass or a model of another one.
            return canonical(to_jsonable_python(result)), faults
        except (NotJson, PydanticSerializationError, ValueError, TypeError):
            raise bad_result(faults) from None

    def _bound(self, given: bytes, value: dict[str, Json], args: Mapping[str, Json]) -> bytes:
        """Return arguments in normal form.

        Args:
            given: Their canonical bytes.
            value: The parsed bytes.
            args: The arguments with their names in the order of the call, for messages.

        Raises:
            ToolError: They do not fit.
        """
        if self._exact is not None and self._exact.fits(value):
            return given
        # JSON Schema before pydantic, since pydantic's strict mode still takes `1` for `Literal[True]`.
        if not self._arguments.accepts(value):
            # Names first: the others would report a wrong name twice, as missing and as extra, without the nearest name.
            raise bad_args(self._name_problems(args) or self._arguments.faults(value))
        try:
            model, text = self._arguments_of(given, value)
        except ValidationError as error:
            raise bad_args(pydantic_problems(error)) from None
        return self._normal(model, text)

    def _name_problems(self, args: Mapping[str, Json]) -> list[str]:
        return argument_problems(args, list(self._names.values()), self._required)

    def _arguments_of(self, text: bytes, value: Json) -> tuple[BaseModel, bytes]:
        """Return typed arguments and the text they were read from; tries integral floats as integers."""
        try:
            # `2.0` for an integer is the rare case, so the value is converted only after the first try failed.
            return self._validator.validate_json(text, strict=True), text
        except ValidationError:
            text = canonical(self._arguments.with_integers(value))
            return self._validator.validate_json(text, strict=True), text

    def _normal(self, model: BaseModel, given: bytes) -> bytes:
        """Return the arguments as their types serialize them, or as given where a type cannot parse what it serializes."""
        # The serialized form is the canonical one: defaults are filled in, and a date has one spelling, so that equal
        # calls have equal keys.
        dumped: Json = self._serializer.to_python(
            model, mode="json", by_alias=True, round_trip=True, warnings=False
        )
        if self._sets_in[0]:
            dumped = with_ordered_sets(dumped, self._arguments.schema)
        try:
            text = canonical(dumped)
            if text != given:
                self._validator.validate_json(text, strict=True)
        except (NotJson, ValidationError):
            return given
        return text

    def _typed(self, result: object) -> object:
        """Return the result as a value of its declared type.

        What is JSON already is read by JSON's rules, so that a dict may stand for a model. Other values must be
        of the type itself, except that dates and other scalars may stand in dicts and lists.
        """
        # A result that is JSON already is validated as JSON. Otherwise a dict could not stand for a model.
        if not isinstance(result, BaseModel):
            try:
                return self._from_json(canonical(result))
            except NotJson:
                if (plain := with_plain_numbers(result)) is not result:
                    return self._typed(plain)
        try:
            return self._result.validator.validate_python(result, strict=True)
        except ValidationError as error:
            try:
                return self._from_json(canonical(_with_json_scalars(result)))
            except NotJson:
                raise bad_result(pydantic_problems(error)) from None

    def _from_json(self, text: bytes) -> object:
        value = parse_canonical(text)
        if not self._accepted.accepts(value):
            raise bad_result(self._accepted.faults(value))
        try:
            return self._result.validate_json(text, strict=True)
        except ValidationError:
            text = canonical(self._accepted.with_integers(value))
        try:
            return self._result.validate_json(text, strict=True)
        except ValidationError as error:
            raise bad_result(pydantic_problems(error)) from None

    def _dumped(self, typed: object, result: object, bytes_of: Bytes | None) -> Json:
        # pydantic writes NaN as null, and a set in an order of its own, without a word.
        if (found := _find_unfit(result, (), sets=self._sets_in[1])) is not None:
            raise bad_result([f"{path_of(found[0])}: expected JSON, found {found[1]}"])
        try:
            # pydantic only warns of a value that does not fit the type to serialize; here that is an error.
            return cast(
                "Json",
                self._result.serializer.to_python(
                    typed, mode="json", by_alias=True, warnings="error", context=bytes_of
                ),
            )
        except (PydanticSerializationError, ValueError, TypeError) as fault:
            if isinstance(fault.__cause__, ToolError):  # a codec's, in words
                raise bad_result([str(fault.__cause__)]) from None
            raise bad_result(
                [f"$: expected what JSON can carry, found {_without_json(result, fault)}"]
            ) from None


class _Schemas(Schemas):
    """The schemas of arguments and results."""

    @override
    def is_instance_schema(self, schema: Any) -> Any:
        """Refuse a class of a model that allows any class."""
        if find_codec(schema["cls"]) is not None:
            raise bare_in_model(schema["cls"])
        return super().is_instance_schema(schema)


class _AnswerSchemas(AnswerSchemas, _Schemas):
    """The schemas of what models are asked for."""


def _without_json(result: object, fault: Exception) -> str:
    """Return what is said of a result that JSON cannot carry."""
    kind = type(result)
    if find_codec(kind) is not None:
        name = full_name(kind)
        return f"a {name}; annotate the result as `-> {name}`, so that its bytes are kept"
    return f"{displayed(result)} ({fault})"


def _has_default(parameter: Parameter) -> bool:
    if isinstance(parameter.default, FieldInfo):
        return not parameter.default.is_required()
    return parameter.default is not EMPTY


def _arguments_model(
    where: str, name: str, parameters: tuple[Parameter, ...]
) -> tuple[Adapter, type[BaseModel] | None]:
    """Return what reads the arguments as a pydantic model, and the model, unless some types have codecs.

    Its fields have names of our own, so that an argument may be called `schema`.
    """
    made: dict[str, Any] = {}
    for at, each in enumerate(parameters):
        hint: Any = readable(each.annotation)
        if isinstance(each.default, FieldInfo):
            hint = Annotated[hint, each.default]
            made[f"argument_{at}"] = (hint, Field(alias=each.name))
        elif each.default is EMPTY:
            made[f"argument_{at}"] = (hint, Field(alias=each.name))
        else:
            made[f"argument_{at}"] = (hint, Field(default=_checked_default(where, each), alias=each.name))
    try:
        model = create_model(name, __config__=ConfigDict(extra=_EXTRA), **made)
        return TypeAdapter(model), model
    except PydanticSchemaGenerationError as fault:
        from ..codecs import typed  # noqa: PLC0415  # only for types that pydantic does not know

        try:
            config: ConfigDict = {**typed.OPEN_CONFIG, "extra": _EXTRA}
            return typed.EncodedTypes(create_model(name, __config__=config, **made)), None
        except typed.UnknownClass:
            pass  # the parameter is named below
        except ConfigError as found:
            raise ConfigError(f"{where}: the parameters: {found}") from found
        # pydantic refuses the model as a whole. One by one, the parameter at fault has a name.
        for each in parameters:
            _adapter(where, f"parameter '{each.name}'", each.annotation)
        raise ConfigError(f"{where}: the parameters: {fault}") from fault
    except PydanticUserError as fault:
        raise ConfigError(f"{where}: the parameters: {_first_line(fault)}") from fault
    except ConfigError as fault:
        raise ConfigError(f"{where}: the parameters: {fault}") from fault


def _checked_default(where: str, parameter: Parameter) -> Any:
    """Return the default, after checking that its JSON fits the annotation."""
    # pydantic does not validate defaults, so a wrong one would only be found in a run.
    adapter = _adapter(where, f"parameter '{parameter.name}'", parameter.annotation)
    try:
        adapter.validate_json(
            canonical(adapter.dump_python(parameter.default, mode="json", warnings=False)), strict=True
        )
    except (NotJson, PydanticSerializationError, ValidationError) as fault:
        hint = "write `.. | None` in the annotation" if parameter.default is None else "change one of the two"
        raise ConfigError(
            f"{where}: parameter '{parameter.name}': expected a default that fits its annotation "
            f"{spelled(parameter.annotation)}, found {parameter.default!r}; {hint}"
        ) from fault
    return parameter.default


def _adapter(where: str, what: str, annotation: Any) -> Adapter:
    try:
        return adapter_of(annotation)
    except PydanticSchemaGenerationError as fault:
        return _encoded(where, what, annotation, fault)
    except PydanticUserError as fault:
        raise _no_json(where, what, annotation, _first_line(fault)) from fault
    except ConfigError as fault:
        raise ConfigError(f"{where}: {what}: {fault}") from fault


def _encoded(where: str, what: str, annotation: Any, fault: PydanticSchemaGenerationError) -> Adapter:
    """Return what reads and writes an annotation with types that pydantic does not know, and that have codecs."""
    from ..codecs import typed  # noqa: PLC0415  # as above

    try:
        return typed.EncodedTypes(annotation)
    except typed.UnknownClass as unknown:
        raise _no_json(
            where, what, annotation, f"{spelled(unknown.kind)}: {advice_for(unknown.kind)}"
        ) from fault
    except PydanticUserError as other:
        raise _no_json(where, what, annotation, _first_line(other)) from other
    except ConfigError as found:
        raise ConfigError(f"{where}: {what}: {found}") from found


def _no_json(where: str, what: str, annotation: Any, why: str) -> ConfigError:
    return ConfigError(
        f"{where}: {what}: expected a type that JSON can carry (text, numbers, lists, dicts, dataclasses, pydantic "
        f"models ..), a frame, an array or a type with a codec, found {spelled(annotation)}: {why}"
    )


def _codecs(arguments: Adapter, parameters: Json, result: Adapter, returns: Json) -> tuple[Codec, ...]:
    """Return the codecs of arguments and result, each once, in order."""
    if not (_has_codecs(parameters) or _has_codecs(returns)):
        return ()
    from ..codecs.typed import codecs_in  # noqa: PLC0415  # as above

    schemas: Any = [arguments.core_schema, result.core_schema]
    return tuple({each.mark + str(each.kind): each for each in codecs_in(schemas)}.values())


def _json_schema(
    where: str, what: str, adapter: Adapter, mode: Any, generator: type[Schemas] = _Schemas
) -> dict[str, Json]:
    try:
        return adapter.json_schema(mode=mode, schema_generator=generator)
    except ConfigError as fault:
        raise ConfigError(f"{where}: {what}: {fault}") from fault
    except PydanticUserError as fault:
        raise ConfigError(
            f"{where}: {what}: expected types that JSON can carry: {_first_line(fault)}"
        ) from fault


def _first_line(fault: Exception) -> str:
    return str(fault).split("\n", 1)[0]


def _has_sets(schema: Json) -> bool:
    return _any_part(schema, lambda part: part.get("uniqueItems") is True)


def _has_codecs(schema: Json) -> bool:
    return _any_part(schema, lambda part: MARK in part)


def _any_part(schema: Json, test: Callable[[dict[str, Json]], bool]) -> bool:
    """Whether a test holds for an object anywhere in a schema."""
    match schema:
        case dict():
            return test(schema) or any(_any_part(part, test) for part in schema.values())
        case list():
            return any(_any_part(part, test) for part in schema)
        case _:
            return False


def _find_unfit(
    value: Any, place: tuple[str | int, ...], *, sets: bool
) -> tuple[tuple[str | int, ...], str] | None:
    """Return the path and a description of the first part that pydantic would serialize although JSON has no such value."""
    parts: Any = ()
    whole: Any = value  # keeps the type checkers from narrowing what they cannot narrow fully
    match value:
        case float() if not math.isfinite(value):
            return place, f"{float(value)!r}"
        case AbstractSet() if not sets:
            return place, "a set, which has no order; return a sorted list"
        case dict():
            parts = whole.items()
        case list() | tuple():
            parts = enumerate(whole)
        case BaseModel():
            parts = BaseModel.__iter__(value)  # a class may iterate over something else than its fields
        case _ if is_dataclass(value) and not isinstance(value, type):
            parts = ((field.name, getattr(value, field.name)) for field in fields(value))
        case _:
            return None
    for key, part in parts:
        if type(part) in _SCALARS or (type(part) is float and math.isfinite(part)):
            continue  # most parts: the tests above cost ten times as much
        if (found := _find_unfit(part, (*place, key), sets=sets)) is not None:
            return found
    return None


_SCALARS = frozenset({str, int, bool, type(None), date, datetime, UUID})


def _with_json_scalars(value: Any) -> Any:
    """Return dicts, lists and tuples with their dates, ids, enums and the like as JSON scalars."""
    whole: Any = value
    match value:
        case dict():
            return {key: _with_json_scalars(item) for key, item in whole.items()}
        case list() | tuple():
            return [_with_json_scalars(item) for item in whole]
        case AbstractSet() | BaseModel() | bytes():
            return whole
        case _ if is_dataclass(value):
            return value
        case _:
            try:
                # Only scalars: how a class becomes a dict or a list is for its declared type to say.
                made = to_jsonable_python(value)
            except (PydanticSerializationError, ValueError, TypeError):
                return value
            return value if isinstance(made, dict | list) else made


def with_plain_numbers(value: Any) -> Any:
    """Return dicts, lists, tuples and dataclasses with numpy's numbers and booleans as Python's; the same object if there are none."""
    numpy = sys.modules.get("numpy")
    return (
        value if numpy is None else _with_plain_numbers(value, (numpy.bool_, numpy.integer, numpy.floating))
    )


def _with_plain_numbers(value: Any, kinds: tuple[type, ...]) -> Any:  # noqa: PLR0911  # one case for each kind of value
    whole: Any = value
    made: Any
    match value:
        case dict():
            made = {key: _with_plain_numbers(part, kinds) for key, part in whole.items()}
            return made if any(made[key] is not part for key, part in whole.items()) else whole
        case list() | tuple():
            # Most results hold no such number. Those come back as the same object, and are not copied.
            made = [_with_plain_numbers(part, kinds) for part in whole]
            if all(new is old for new, old in zip(made, whole, strict=True)):
                return whole
            # A named tuple takes its parts one by one.
            return (
                made
                if type(whole) is list
                else type(whole)(*made)
                if hasattr(whole, "_fields")
                else tuple(made)
            )
        case _ if isinstance(value, kinds):
            return whole.item()
        case _ if is_dataclass(value) and not isinstance(value, type):
            changed = {
                each.name: new
                for each in fields(value)
                if (new := _with_plain_numbers(old := getattr(value, each.name), kinds)) is not old
            }
            if not changed:
                return whole
            made = copy(whole)
            for name, new in changed.items():
                object.__setattr__(made, name, new)  # the class may be frozen
            return made
        case _:
            return whole
