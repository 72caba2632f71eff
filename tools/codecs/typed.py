"""Codecs inside pydantic's schemas: a type that has a codec may stand wherever pydantic allows a type.

pydantic reads a class that it does not know as `is-instance`, if it is told to allow such classes. Here these places get the codec instead: from JSON
they read a description, and give the value if the call brings its bytes along (`Bytes`), else a `Reference`; to JSON they write the description, and
keep the bytes. So lists, options, unions, `TypedDict`s and dataclasses need no code of their own. A pydantic model is finished before a tool names
it, so its fields say themselves what they hold, with `Annotated[pd.DataFrame, Columns()]`.
"""

# ruff: noqa: ANN401  # annotations and values are any Python value
from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, Union, cast, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator, core_schema

from ...errors import ConfigError
from ...plans.values import Json
from ..artifact import Artifact
from .codec import Codec, advice_for, bare_in_model, decode, encode, find_codec, full_name
from .demands import Demand, Shape


class Bytes(Protocol):
    """Where the bytes of one call are: its `Context`."""

    def save(self, data: bytes, *, media_type: str | None = None, name: str = "") -> Artifact:
        """Keep bytes."""
        ...

    def open(self, artifact: Artifact) -> bytes:
        """Return bytes. Raises: ToolError: they are not there."""
        ...


@dataclass(frozen=True)
class Reference:
    """A value whose bytes have not been read.

    Attributes:
        codec: Of its type.
        description: What stands for it.
    """

    codec: Codec
    description: dict[str, Json]


class UnknownClass(Exception):  # noqa: N818  # no error: the caller has its own words
    """A class has neither a schema nor a codec."""

    def __init__(self, kind: object) -> None:
        super().__init__(str(kind))
        self.kind = kind


class EncodedTypes:
    """Reads and writes values of an annotation in which some types have codecs; has the parts of `TypeAdapter` that tools use.

    Args:
        annotation: The annotation; or a model that is not built yet, and allows every class.

    Raises:
        UnknownClass: A class in it has no codec.
        ConfigError: A demand fits no codec, or a package is missing.
        PydanticUserError: pydantic cannot read it.
    """

    def __init__(self, annotation: Any) -> None:
        found = _core_schema_of(_with_dtypes(annotation))
        self.core_schema = cast("CoreSchema", _with_codecs(found, in_model=None))
        self.validator = SchemaValidator(self.core_schema)
        self.serializer = SchemaSerializer(self.core_schema)

    def json_schema(
        self, *, mode: Literal["validation", "serialization"], schema_generator: type[GenerateJsonSchema]
    ) -> dict[str, Any]:
        """As that of `TypeAdapter`."""
        return schema_generator().generate(self.core_schema, mode)

    def validate_json(self, text: bytes, *, strict: bool | None = None, context: Any = None) -> Any:
        """As that of `TypeAdapter`."""
        return self.validator.validate_json(text, strict=strict, context=context)

    def dump_python(self, value: Any, *, mode: str = "python", warnings: Any = True) -> Any:
        """As that of `TypeAdapter`."""
        return self.serializer.to_python(value, mode=mode, warnings=warnings)


Adapter: TypeAlias = "TypeAdapter[Any] | EncodedTypes"
OPEN_CONFIG: Final = ConfigDict(arbitrary_types_allowed=True, defer_build=True)
"""The configuration of a model that `EncodedTypes` reads."""


def codecs_in(schema: Any) -> Iterator[Codec]:
    """Yield the codecs in pydantic's core schema."""
    match schema:
        case dict():
            if isinstance(found := cast("dict[str, Any]", schema).get("metadata"), dict) and _CODEC in found:
                yield cast("Codec", found[_CODEC])
            for part in cast("dict[str, Any]", schema).values():
                yield from codecs_in(part)
        case list() | tuple():
            for part in cast("Iterable[Any]", cast("object", schema)):
                yield from codecs_in(part)
        case _:
            return


# --- annotations


def schema_of_annotated(source: Any, demand: Demand) -> CoreSchema:
    """Return pydantic's schema of `Annotated[source, demand]`. Raises: ConfigError: the source has no codec, or not the facts."""
    kind = get_origin(source) or source
    if (codec := find_codec(kind)) is None:
        name = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{demand!r}: expected a frame or an array, found {name}: {advice_for(kind)}")
    facts = demand.narrow(codec.facts)
    if (narrower := _dtype_of(source)) is not None and getattr(demand, "dtype", None) is None:
        facts = Shape.any(narrower).narrow(facts)
    return _schema(codec, codec.schema(facts))


def _with_dtypes(annotation: Any) -> Any:  # noqa: PLR0911  # one case for each kind of annotation
    """Return an annotation in which `NDArray[np.float64]` demands its element type."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if (dtype := _dtype_of(annotation)) is not None:
        return Annotated[origin, Shape.any(dtype)]
    if origin is Annotated:
        # A demand that stands there already reads the element type of what it annotates.
        if any(hasattr(each, "narrow") for each in parts[1:]):
            return annotation
        return Annotated[(_with_dtypes(parts[0]), *parts[1:])]
    made = tuple(_with_dtypes(part) for part in parts)
    if made == parts:
        return annotation
    if origin in (Union, types.UnionType):
        return Union[made]  # noqa: UP007  # of parts that are known at run time only
    return annotation.copy_with(made) if hasattr(annotation, "copy_with") else origin[made]


def _dtype_of(annotation: Any) -> str | None:
    """Return the element type of `numpy.ndarray[shape, numpy.dtype[numpy.float64]]`; `None`: it is something else, or any."""
    origin = get_origin(annotation)
    if not isinstance(origin, type) or (origin.__module__, origin.__name__) != ("numpy", "ndarray"):
        return None
    inner = get_args(get_args(annotation)[-1])
    scalar = inner[0] if inner else None
    if not isinstance(scalar, type):
        return None
    import numpy as np  # noqa: PLC0415  # loaded already: the annotation is numpy's; the same holds below

    from .arrays import dtype_name  # noqa: PLC0415

    try:
        return dtype_name(np.dtype(scalar))
    except TypeError:  # an abstract type, such as `numpy.floating`
        return None


# --- pydantic's core schemas

_CODEC: Final = "firmplan_codec"


def _core_schema_of(annotation: Any) -> Any:
    # In a list, since `TypeAdapter` takes no configuration for a dataclass or a `TypedDict` itself, but hands it on to them.
    whole: Any = TypeAdapter(
        cast("Any", list)[annotation], config=ConfigDict(arbitrary_types_allowed=True)
    ).core_schema
    if whole["type"] == "definitions":
        return {**whole, "schema": whole["schema"]["items_schema"]}
    return whole["items_schema"]


def _with_codecs(schema: Any, in_model: str | None) -> Any:
    match schema:
        case {"type": "is-instance", "cls": kind}:
            if (codec := find_codec(kind)) is None:
                raise UnknownClass(kind)
            if in_model is not None:
                # pydantic uses the validator of the finished model, in which the field is an instance and nothing else.
                raise bare_in_model(kind, in_model)
            return _schema(codec, codec.schema())
        case {"type": "set" | "frozenset", "items_schema": items} | {
            "type": "dict",
            "keys_schema": items,
        } if (codec := next(codecs_in(_with_codecs(items, in_model)), None)) is not None:
            raise ConfigError(
                f"expected a {full_name(codec.kind)} in a list or as a value of a dict, found it in a set or as a key"
            )
        case dict():
            inside = cast("dict[str, Any]", schema)
            if (
                inside.get("type") == "model"
                and hasattr(inside["cls"], "__pydantic_validator__")
                and inside["cls"].__pydantic_complete__
            ):
                in_model = str(inside["cls"].__name__)
            return {key: _with_codecs(part, in_model) for key, part in inside.items()}
        case list() | tuple():
            parts = cast("Iterable[Any]", cast("object", schema))
            found = [_with_codecs(part, in_model) for part in parts]
            return tuple(found) if isinstance(schema, tuple) else found
        case _:
            return schema


def _schema(codec: Codec, json_schema: dict[str, Json]) -> CoreSchema:
    reader = _Places(codec)
    return core_schema.json_or_python_schema(
        json_schema=core_schema.with_info_plain_validator_function(reader.from_json),
        python_schema=core_schema.no_info_plain_validator_function(reader.from_python),
        serialization=core_schema.plain_serializer_function_ser_schema(reader.to_json, info_arg=True),
        metadata={_CODEC: codec, "pydantic_js_functions": [_json_schema_function(json_schema)]},
    )


@dataclass(frozen=True)
class _Places:
    """The functions that pydantic calls at the places of one codec; they say no with `ValueError`, as pydantic wants it."""

    codec: Codec

    def from_json(self, value: Any, info: core_schema.ValidationInfo[Any]) -> object:
        """Return the value of a description; without bytes, a reference."""
        if isinstance(value, Reference):
            return value
        if (
            not isinstance(value, dict)
            or cast("dict[str, Json]", value).get("media_type") != self.codec.media_type
        ):
            raise ValueError(f"expected what stands for a {full_name(self.codec.kind)}")
        description = cast("dict[str, Json]", value)
        if info.context is None:
            return Reference(self.codec, description)
        named = Artifact.model_validate({key: description.get(key) for key in _ARTIFACT_KEYS})
        return decode(self.codec, cast("Bytes", info.context).open(named))

    def from_python(self, value: Any) -> object:
        """Return a value of the type as it is."""
        if not isinstance(value, self.codec.kind | Reference):
            found = full_name(cast("type[object]", type(value)))
            raise ValueError(f"expected a {full_name(self.codec.kind)}, found a {found}")  # noqa: TRY004  # as above
        return value

    def to_json(self, value: Any, info: core_schema.SerializationInfo[Any]) -> Any:
        """Return the description of a value, and keep its bytes."""
        if isinstance(value, Reference):
            return value.description
        self.from_python(value)
        if info.context is None:
            raise ValueError(
                f"a {full_name(self.codec.kind)} needs a store for its bytes, and there is none here"
            )
        made = encode(self.codec, value)
        kept = cast("Bytes", info.context).save(made.data, media_type=self.codec.media_type)
        return {**kept.model_dump(), **made.facts}


def _json_schema_function(json_schema: dict[str, Json]) -> Callable[[Any, Any], dict[str, Json]]:
    return lambda _schema, _handler: json_schema


_ARTIFACT_KEYS: Final = ("digest", "media_type", "size", "name")
