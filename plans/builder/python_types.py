"""Python annotations as JSON Schemas, for plans that are written in Python.

str                    {"type": "string"}
list[Page]             {"type": "array", "items": {"$ref": "#/$defs/Page"}, "$defs": ..}
{"type": "integer"}    itself
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ...errors import ConfigError


def schema_of_annotation(annotation: object) -> dict[str, Any]:
    """Return the JSON Schema of a type; a mapping is a schema already.

    Raises:
        ConfigError: JSON cannot carry the type.
    """
    if isinstance(annotation, Mapping):
        return dict(cast("Mapping[str, Any]", annotation))
    from pydantic import PydanticUserError, TypeAdapter  # noqa: PLC0415  # costs more than most plans
    from pydantic.errors import PydanticInvalidForJsonSchema  # noqa: PLC0415  # the same

    if annotation is None:
        return {"type": "null"}
    try:
        schema = TypeAdapter[object](annotation).json_schema()  # type: ignore[arg-type]  # any annotation
    except (PydanticUserError, PydanticInvalidForJsonSchema) as fault:
        reason = str(fault).split("\n", 1)[0]
        raise ConfigError(
            f"expected a type that JSON can carry, or a JSON Schema, found {annotation!r}: {reason}"
        ) from fault
    return cast("dict[str, Any]", _without_titles(schema))


def _without_titles(schema: object, *, is_names: bool = False) -> object:
    """Return a schema without the titles that pydantic derives from names; `is_names`: keys are names, not keywords."""
    match schema:
        case dict():
            entries = cast("dict[str, object]", schema).items()
            return {
                name: inner
                if name in ("default", "const", "enum", "examples") and not is_names
                else _without_titles(inner, is_names=not is_names and name in ("properties", "$defs"))
                for name, inner in entries
                if is_names or name != "title"
            }
        case list():
            return [_without_titles(inner) for inner in cast("list[object]", schema)]
        case _:
            return schema
