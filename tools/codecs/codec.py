"""`Codec`: how values of one Python type become bytes and come back, and `@codec`, which declares one.

A value that has a codec stands in plans, journals and prompts as its **description**: a JSON object with the digest, the media type, the size and
the name of its bytes, and whatever the codec tells of the value. The bytes themselves lie in the store, like those of an artifact. Equal values
should give equal bytes: the digest of the bytes decides whether a result is reused. Nothing is ever pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, Final, TypeVar, cast

import jsonschema_rs
from pydantic import BaseModel

from ...errors import ConfigError, ToolError
from ...plans.values import DEPTH_MAX, Json, NotJson, canonical, parse_canonical

T = TypeVar("T", bound=type)
Given = TypeVar("Given")

MARK: Final = "x-codec"
"""The key of JSON Schemas of descriptions that names the codec. Whoever reads the schema sees how the bytes were made."""

ARTIFACT: Final[Mapping[str, Json]] = {
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "media_type": {"type": "string"},
    "size": {"type": "integer", "minimum": 0},
    "name": {"type": "string"},
}
"""The properties that every description has; those of an `Artifact`."""


@dataclass(frozen=True)
class Encoded:
    """A value as bytes.

    Attributes:
        data: The bytes.
        facts: What the description tells of the value beside digest, media type, size and name.
    """

    data: bytes
    facts: Mapping[str, Json]


@dataclass(frozen=True)
class Codec:
    """How values of one type become bytes and come back.

    Attributes:
        kind: The type.
        mark: Names the form of the bytes, with the number of its version.
        media_type: Of the bytes.
        facts: Name -> JSON Schema of what the description tells of a value.
        encode: Makes bytes. Raises `ValueError` or `TypeError` for a value that has none.
        decode: Makes a value that is the caller's own. Raises `ValueError` or `TypeError` for bytes that are no value.
        code: What decides about bytes and values beside installed packages: for the fingerprints of tools.
    """

    kind: type
    mark: str
    media_type: str
    facts: Mapping[str, Json]
    encode: Callable[[Any], Encoded]
    decode: Callable[[bytes], Any]
    code: tuple[object, ...] = ()

    def schema(self, facts: Mapping[str, Json] | None = None) -> dict[str, Json]:
        """Return the JSON Schema of descriptions.

        Args:
            facts: The codec's facts, narrowed by what an annotation demands; `None`: as they are.
        """
        properties: dict[str, Json] = {
            **ARTIFACT,
            "media_type": {"type": "string", "const": self.media_type},
            **(self.facts if facts is None else facts),
        }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
            MARK: self.mark,
        }


# Which module makes the codecs of a library's types: (package, class) -> (module here, function in it).
_LIBRARIES: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("pandas", "DataFrame"): (".frames", "pandas_frames"),
    ("pandas", "Series"): (".frames", "pandas_series"),
    ("polars", "DataFrame"): (".frames", "polars_frames"),
    ("polars", "Series"): (".frames", "polars_series"),
    ("pyarrow", "Table"): (".frames", "arrow_tables"),
    ("pyarrow", "RecordBatch"): (".frames", "arrow_batches"),
    ("numpy", "ndarray"): (".arrays", "arrays"),
}

_INSTEAD: Final[Mapping[tuple[str, str], str]] = {
    (
        "polars",
        "LazyFrame",
    ): "a LazyFrame is a query and no data: call `.collect()`, and annotate polars.DataFrame",
    ("polars", "Expr"): "an expression is no data: select with it, and annotate polars.DataFrame",
    ("pyarrow", "Array"): "put it into a table: annotate pyarrow.Table",
    ("pyarrow", "ChunkedArray"): "put it into a table: annotate pyarrow.Table",
    (
        "pyarrow",
        "RecordBatchReader",
    ): "a reader can be read once: call `.read_all()`, and annotate pyarrow.Table",
    ("pandas", "Index"): "annotate pandas.Series, and return `index.to_series()`",
    ("pandas", "MultiIndex"): "annotate pandas.DataFrame, and return `index.to_frame()`",
    ("pandas", "Timestamp"): "annotate datetime.datetime, of which a Timestamp is one",
    ("pandas", "Timedelta"): "annotate datetime.timedelta, of which a Timedelta is one",
    ("numpy", "matrix"): "annotate numpy.ndarray, and return `numpy.asarray(..)`",
    ("numpy", "ma.MaskedArray"): "annotate numpy.ndarray, and fill the masked values",
}

_registered: dict[type, Codec] = {}
_of_libraries: dict[type, Codec] = {}


def find_codec(kind: object) -> Codec | None:
    """Return the codec of a class: a declared one, or that of a library whose types are known; `None`: it has none.

    Raises:
        ConfigError: The type is known, and a package that its codec needs is not installed.
    """
    if not isinstance(kind, type):
        return None
    if (found := _registered.get(kind) or _of_libraries.get(kind)) is not None:
        return found
    if (place := _LIBRARIES.get(_name_of(kind))) is None:
        return None
    module, function = place
    # Only now is the library's part loaded: a program that uses no frames imports nothing.
    made: Codec = getattr(import_module(module, __package__), function)(kind)
    _of_libraries[kind] = made
    return made


def advice_for(kind: object) -> str:
    """Return what to do about a class that has no codec, as the end of a message."""
    if isinstance(kind, type):
        name = _name_of(kind)
        if (known := _INSTEAD.get(name)) is not None:
            return known
        if name[0] == "numpy" and any(base.__name__ == "generic" for base in kind.__mro__):
            return "annotate int, float or bool: numpy's numbers are taken for them in results"
    return "declare a codec for it with @firmplan.codec before the tool, or return JSON; if it is a resource, its @resource has to have a name in the tool's module"


def full_name(kind: type) -> str:
    """Return the name of a class with its package, by which users know it: `pandas.DataFrame`."""
    package, name = _name_of(kind)
    return name if package in ("builtins", "__main__") else f"{package}.{name}"


def bare_in_model(kind: type, model: str | None = None) -> ConfigError:
    """Return the refusal of a pydantic model with a field that is annotated with the class itself: the model is finished before a tool names it."""
    demand = "Shape.any()" if _name_of(kind)[0] == "numpy" else "Columns()"
    return ConfigError(
        f"{'a model' if model is None else f'model {model}'}: expected a field annotated `Annotated[{full_name(kind)}, {demand}]`, found "
        f"{full_name(kind)} alone, which pydantic takes for a class without JSON; add it, and import {demand.partition('.')[0].rstrip('()')} from firmplan"
    )


def _name_of(kind: type) -> tuple[str, str]:
    """Return package and name of a class, as its users import it: `("polars", "DataFrame")`."""
    package, _, rest = kind.__module__.partition(".")
    return package, f"ma.{kind.__name__}" if rest == "ma" or rest.startswith("ma.") else kind.__name__


def codec(kind: type, *, media_type: str = "application/octet-stream") -> Callable[[T], T]:
    """Declare how values of a type travel through plans: a decorator for a class with `encode` and `decode`.

    The class has `encode(value) -> bytes` and `decode(data: bytes) -> value`. It may have `describe(value)`, a dict of JSON that plans can read
    (`${molecule.atoms}`), and then `schema`, the JSON Schema of each of its keys. Equal values should give equal bytes. The code of the class is
    part of the fingerprint of each tool that takes or returns the type.

    Args:
        kind: The type. It must have no codec yet, and must be a class that pydantic does not know.
        media_type: Of the bytes.

    Raises:
        ConfigError: The declaration is at fault.

    Example:
        ```python
        @codec(Molecule, media_type="chemical/x-mdl-molfile")
        class Molfile:
            schema = {"atoms": {"type": "integer"}}

            def encode(self, value: Molecule) -> bytes:
                return value.to_molfile().encode()

            def decode(self, data: bytes) -> Molecule:
                return Molecule.from_molfile(data.decode())

            def describe(self, value: Molecule) -> dict[str, int]:
                return {"atoms": len(value.atoms)}
        ```
    """
    where = f"@codec({getattr(kind, '__name__', kind)!s})"
    if not isinstance(cast("object", kind), type):
        raise ConfigError(
            f"{where}: expected a class whose values it encodes, found {kind!r}; write @codec(Type)"
        )
    if not isinstance(cast("object", media_type), str) or "/" not in media_type:
        raise ConfigError(f"{where}: media_type: expected one such as 'image/png', found {media_type!r}")

    def declare(declared: T) -> T:
        _registered[kind] = _declared(where, kind, media_type, declared)
        return declared

    return declare


def _declared(where: str, kind: type, media_type: str, declared: type) -> Codec:
    name = f"{declared.__module__}.{declared.__qualname__}"
    before = _registered.get(kind)
    # A module that is loaded again declares the same codec again.
    if (before is not None and before.mark != name) or _LIBRARIES.get(_name_of(kind)) is not None:
        other = "firmplan's own" if before is None else before.mark
        raise ConfigError(
            f"{where}: expected a type without a codec, found one that has {other}; keep one of the two"
        )
    made: Any = declared()
    for method, does in (("encode", "bytes of a value"), ("decode", "a value of bytes")):
        if not callable(getattr(made, method, None)):
            raise ConfigError(
                f"{where}: expected a method `{method}` that makes {does}, found none in {name}; write it"
            )
    facts: Mapping[str, Json] = getattr(made, "schema", {})
    if bool(facts) is not callable(getattr(made, "describe", None)):
        raise ConfigError(
            f"{where}: expected both `describe` and `schema` in {name}, or neither; `schema` has the JSON Schema of each key that `describe` returns"
        )
    if taken := sorted(ARTIFACT.keys() & facts.keys()):
        raise ConfigError(
            f"{where}: schema: expected keys of your own, found '{taken[0]}', which every value has; rename it"
        )
    _check_schemas(where, facts)

    def encode(value: object) -> Encoded:
        data = made.encode(value)
        if not isinstance(data, bytes):
            raise TypeError(f"{name}.encode: expected bytes, found {type(data).__name__}")
        return Encoded(data, made.describe(value) if facts else {})

    def decode(data: bytes) -> object:
        value = made.decode(data)
        if not isinstance(value, kind):
            raise TypeError(f"{name}.decode: expected a {kind.__name__}, found {type(value).__name__}")
        return value

    return Codec(kind, name, media_type, facts, encode, decode, (declared,))


def _check_schemas(where: str, facts: Mapping[str, Json]) -> None:
    for key, schema in facts.items():
        try:
            jsonschema_rs.Draft202012Validator(cast("Any", parse_canonical(canonical(schema))))
        except (NotJson, ValueError) as fault:
            raise ConfigError(
                f"{where}: schema: expected the JSON Schema of '{key}', found {schema!r}: {fault}"
            ) from fault


def encode(codec: Codec, value: object) -> Encoded:
    """Return a value as bytes. Raises: ToolError: it has none (code `bad-result`)."""
    try:
        return codec.encode(value)
    except ToolError:
        raise
    except Exception as fault:
        raise ToolError(
            f"a {full_name(codec.kind)} cannot be encoded: {_words(fault)}", code="bad-result"
        ) from fault


def decode(codec: Codec, data: bytes) -> object:
    """Return the value of bytes. Raises: ToolError: they are no value of the type (code `bad-args`)."""
    try:
        return codec.decode(data)
    except ToolError:
        raise
    except Exception as fault:
        raise ToolError(
            f"the bytes of a {full_name(codec.kind)} cannot be decoded: {_words(fault)}", code="bad-args"
        ) from fault


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


def with_slots(value: Given) -> tuple[Given, list[tuple[dict[str, Json], object]]]:
    """Return a value in which each part that has a codec is an empty object, and these objects with their parts: whoever encodes a part fills its slot.

    Looks into lists, tuples, dicts, dataclasses and pydantic models. Those that hold such a part come back as lists and dicts; anything else is
    returned as it is. A list or dict of plain JSON costs one look at its types.

    Raises:
        ConfigError: A package that a codec needs is not installed.
    """
    found: list[tuple[dict[str, Json], object]] = []
    return _with_slots(value, found, 0), found


def _with_slots(  # noqa: PLR0911  # one case for each kind of container
    value: Any,  # noqa: ANN401  # any value
    found: list[tuple[dict[str, Json], object]],
    depth: int,
) -> Any:  # noqa: ANN401  # the same
    kind = cast("type[object]", type(value))
    # Values that are too deep are refused where they are read as JSON.
    if kind in _SCALARS or depth > DEPTH_MAX:
        return value
    if isinstance(value, list | tuple):
        parts = cast("list[Any]", value)
        if set(map(type, parts)) <= _SCALARS:
            return parts
        listed = [_with_slots(each, found, depth + 1) for each in parts]
        return listed if any(new is not old for new, old in zip(listed, parts, strict=True)) else parts
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, Any]", value)
        changed = _changed(entries, found, depth)
        return {**entries, **changed} if changed else entries
    if find_codec(kind) is not None:
        slot: dict[str, Json] = {}
        found.append((slot, value))
        return slot
    if is_dataclass(value):
        parts_of = {each.name: getattr(value, each.name) for each in fields(value)}
        changed = _changed(parts_of, found, depth)
        return {**parts_of, **changed} if changed else value
    if isinstance(value, BaseModel):
        changed = _changed(dict(value), found, depth)
        if not changed:
            return value
        known = kind.model_fields if issubclass(kind, BaseModel) else {}
        names = {
            name: (known[name].serialization_alias or name) if name in known else name for name in changed
        }
        rest = value.model_dump(mode="json", by_alias=True, exclude=set(changed))
        return {**rest, **{names[name]: part for name, part in changed.items()}}
    return value


def _changed(
    entries: Mapping[Any, Any], found: list[tuple[dict[str, Json], object]], depth: int
) -> dict[Any, Any]:
    if set(map(type, entries.values())) <= _SCALARS:
        return {}
    made = {key: _with_slots(part, found, depth + 1) for key, part in entries.items()}
    return {key: part for key, part in made.items() if part is not entries[key]}


def _words(fault: Exception) -> str:
    text = str(fault)
    return text if isinstance(fault, ValueError | TypeError) and text else f"{type(fault).__name__}: {text}"
