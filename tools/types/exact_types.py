"""Values that are exactly of their type, found without asking pydantic: the fast path of `annotated.py`.

Most tools take and return texts, numbers, lists and dicts of them, `TypedDict`s, dataclasses and models with such fields. If each part
of such a value is exactly of its type, pydantic reads it without a change and writes the same JSON again, so that binding and sealing
need neither pydantic nor the JSON Schema: they are 15 to 20 of 25 microseconds a call. The fast path only says yes. A value that is not
exactly of its type (an integer for a float, a missing default, a subclass, a wrong value) takes the long way, which converts it or says
what is wrong. `tests/tools/test_exact_types.py` holds both ways to the same results.

The tests are made of pydantic's core schema, which says in data everything that pydantic does with a type: constraints, validators,
aliases, settings. A schema with a key that is not known here has no test.
"""

# ruff: noqa: ANN401  # parts of schemas and of results are any Python value: that is what this module is for
from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Final, TypeAlias, cast

from pydantic import BaseModel

from ...plans.immutable import immutable
from ...plans.values import Json

Fits: TypeAlias = Callable[[Any], bool]


@immutable
class Exact:
    """How to find that a value is exactly of one type.

    Attributes:
        fits: Whether a value is exactly of the type. Parts of type `Any` are not looked at: `canonical` decides about them.
        kind: The Python class that alone decides; `None`: there is more to test.
        to_json: The JSON of a fitting value; `None`: the value is its own JSON.
        has_fields: Whether a `TypedDict`, a dataclass or a model is in it.
        is_open: Whether it, or `Any`, is in it, so that other types may take the same values.
    """

    fits: Fits
    kind: type | None = None
    to_json: Callable[[Any], Any] | None = None
    has_fields: bool = False
    is_open: bool = False


def exact_arguments(model: type[BaseModel], names: Mapping[str, str]) -> Exact | None:
    """Return the test of arguments, as they are parsed from canonical JSON; `None`: some type has no test.

    Args:
        model: pydantic's model of the arguments.
        names: Its fields -> the names of the arguments.
    """
    reader = _Reader(cast("Any", model).__pydantic_core_schema__, is_parsed=True)
    fields = reader.resolved(reader.root).get("schema", {}).get("fields")
    if not isinstance(fields, dict):
        return None
    made: dict[str, Exact] = {}
    for field, schema in cast("dict[str, dict[str, Any]]", fields).items():
        own = {key: part for key, part in schema.items() if key not in _OWN_ALIASES}
        exact = reader.field(own, "model-field")
        if exact is None:
            return None
        made[names[field]] = exact
    return Exact(_mapping_test(made), has_fields=any(each.has_fields for each in made.values()))


def exact_result(schema: Any) -> Exact | None:
    """Return the test of what a function returned, for a core schema; `None`: the type has no test."""
    reader = _Reader(schema, is_parsed=False)
    return reader.read(reader.root)


_OWN_ALIASES: Final = frozenset({"validation_alias", "serialization_alias"})
"""Keys of the fields of the arguments' model, whose aliases are the names of the arguments."""

_SCALARS: Final[Mapping[str, type]] = {
    "int": int,
    "str": str,
    "bool": bool,
    "float": float,
    "none": NoneType,
}

# The keys of core schemas whose meaning is known here. Everything else (`ge`, `serialization`, `post_init`, `strict` ..) changes what pydantic does.
_DEFAULT: Final = frozenset({"type", "schema", "default", "default_factory", "default_factory_takes_data"})
_FIELD: Final = frozenset({"type", "schema", "metadata", "frozen", "required", "name", "init", "kw_only"})
_FIELDS: Final = frozenset(
    {"type", "fields", "computed_fields", "model_name", "dataclass_name", "collect_init_only"}
)
_CLASS: Final = frozenset(
    {
        *("type", "cls", "config", "ref", "schema", "fields", "frozen", "generic_origin"),
        *("custom_init", "root_model", "post_init", "slots", "computed_fields", "extra_behavior"),
    }
)
_CONFIG: Final = frozenset({"title", "extra_fields_behavior"})
_CLASS_CONFIG: Final = frozenset({"title", "frozen", "extra", "use_attribute_docstrings"})
_PROSE: Final = frozenset({"title", "description", "examples", "deprecated"})
_CLOSED: Final = (None, "ignore", "forbid")


class _Reader:
    """Reads one core schema.

    Args:
        schema: The schema.
        is_parsed: Whether the values are parsed from JSON, where dicts stand for models and everything is JSON.
    """

    def __init__(self, schema: Any, *, is_parsed: bool) -> None:
        self._is_parsed = is_parsed
        self._definitions: dict[str, Any] = {}
        self._active: list[str] = []
        self.root: dict[str, Any] = schema if isinstance(schema, dict) else {}  # else it waits for a class
        if self.root.get("type") == "definitions":
            self._definitions = {each["ref"]: each for each in self.root["definitions"]}
            self.root = self.root["schema"]

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema, or the schema that it refers to."""
        return self._definitions[schema["schema_ref"]] if schema.get("type") == "definition-ref" else schema

    def read(self, schema: dict[str, Any]) -> Exact | None:  # noqa: C901, PLR0911  # a table: one case for each type
        """Return the test of a schema; `None`: there is none."""
        if _is_prose(schema.get("metadata")):
            schema = {key: part for key, part in schema.items() if key != "metadata"}
        # `rest` has every key that a case does not name. A key that nobody here knows may be a constraint, so such a schema has no test.
        match schema:
            case {"type": str(name), **rest} if name in _SCALARS and not rest:
                kind = _SCALARS[name]
                return Exact(lambda value: type(value) is kind, kind)  # no `isinstance`: `True` is no integer
            case {"type": "any", **rest} if not rest:
                return _ANY
            case {"type": "literal", "expected": options, **rest} if not rest:
                return _literal(options)
            case {"type": "list", "items_schema": items, **rest} if not rest:
                return _list(self.read(items))
            case {
                "type": "dict",
                "keys_schema": {"type": "str" | "any", **more},
                "values_schema": values,
                **rest,
            }:
                return None if rest or more else _dict(self.read(values))
            case {"type": "nullable", "schema": inner, **rest} if not rest:
                return self._union([{"type": "none"}, inner])
            case {"type": "union", "choices": choices, **rest} if not rest:
                return self._union(choices)
            case {"type": "default", "schema": inner} if schema.keys() <= _DEFAULT:
                return self.read(inner)
            case {"type": "definition-ref", "schema_ref": ref, **rest} if not rest:
                # A recursive type has none.
                return None if ref in self._active else self.read(self.resolved(schema))
            case {"type": "typed-dict" | "model" | "dataclass"}:
                return self._class(schema) if _is_plain_class(schema) else None
            case _:
                return None

    def field(self, schema: Any, kind: str) -> Exact | None:
        """Return the test of a field's value."""
        if schema.get("type") != kind or not schema.keys() <= _FIELD or not _is_prose(schema.get("metadata")):
            return None
        # A field of a dataclass that is no parameter keeps its default whatever the value says.
        return self.read(schema["schema"]) if schema.get("init", True) else None

    def _union(self, choices: list[Any]) -> Exact | None:
        # A choice with a label is a pair.
        known = [None if isinstance(each, tuple) else self.read(each) for each in choices]
        made = [each for each in known if each is not None]
        if len(made) != len(choices):
            return None
        # Of several types that take a value, pydantic picks one by rules of its own. Beside scalars there is nothing to pick.
        wide = [each for each in made if each.is_open]
        if wide and (any(each is _ANY for each in made) or sum(each.kind is None for each in made) > 1):
            return None
        tests = [each.fits for each in made]
        return Exact(
            lambda value: any(test(value) for test in tests),
            to_json=_or_itself(wide[0]) if wide else None,
            has_fields=any(each.has_fields for each in made),
            is_open=bool(wide),
        )

    def _class(self, schema: dict[str, Any]) -> Exact | None:
        """Return the test of a `TypedDict`, a dataclass or a model."""
        kind, cls = schema["type"], schema["cls"]
        inner = schema if kind == "typed-dict" else schema["schema"]
        if kind != "typed-dict" and not inner.keys() <= _FIELDS:
            return None
        fields = inner["fields"]
        if kind == "dataclass":
            fields = {each["name"]: each for each in fields}
        self._active.append(schema.get("ref", ""))
        made = {name: self.field(each, f"{kind}-field") for name, each in fields.items()}
        self._active.pop()
        known = {name: each for name, each in made.items() if each is not None}
        if len(known) != len(fields):
            return None
        # A model's fields with defaults have to be there: in normal form nothing is left out. Keys of a `TypedDict` that are not required may be missing.
        required = [name for name in fields if kind != "typed-dict" or fields[name].get("required") is True]
        fits = _mapping_test(known, required)
        convert = _mapping_json(known)
        if kind == "typed-dict" or self._is_parsed:
            return Exact(fits, None, convert, has_fields=True, is_open=True)

        # `fits` has compared the keys of `__dict__` with the fields, so that nothing else is in it.
        def to_json(value: Any) -> Any:
            return value.__dict__ if convert is None else convert(value.__dict__)

        return Exact(
            lambda value: type(value) is cls and fits(value.__dict__),
            None,
            to_json,
            has_fields=True,
            is_open=True,
        )


_ANY: Final = Exact(lambda _: True, is_open=True)


def _or_itself(exact: Exact) -> Callable[[Any], Any] | None:
    """Return the `to_json` of a type and scalars; `None`: each value is its own JSON."""
    fits, to_json = exact.fits, exact.to_json
    return None if to_json is None else lambda value: to_json(value) if fits(value) else value


def _is_plain_class(schema: dict[str, Any]) -> bool:
    """Whether pydantic does nothing with a class but to read and write its fields."""
    cls = schema.get("cls")
    own: dict[str, Any] = (
        getattr(cls, "model_config", None) or getattr(cls, "__pydantic_config__", None) or {}
    )
    config = schema.get("config", {})
    return (
        isinstance(cls, type)
        and schema.keys() <= _CLASS
        and not any(schema.get(key) for key in ("custom_init", "root_model", "post_init", "slots"))
        and not schema.get("computed_fields")
        and not (schema["type"] != "typed-dict" and schema["schema"].get("computed_fields"))
        and config.keys() <= _CONFIG
        and config.get("extra_fields_behavior") in _CLOSED
        and schema.get("extra_behavior") in _CLOSED
        and own.keys() <= _CLASS_CONFIG  # `json_schema_extra` demands more than the core schema says
    )


def _is_prose(metadata: Any) -> bool:
    """Whether the metadata of a schema, from which pydantic makes the JSON Schema, add no demand."""
    known: Mapping[str, Any] = metadata or {}
    for key, part in known.items():
        if key == "pydantic_js_updates":
            if not part.keys() <= _PROSE:
                return False
        elif key != "pydantic_js_functions" or not all(map(_is_of_base_model, part)):
            return False
    return True


def _is_of_base_model(function: Any) -> bool:
    return getattr(function, "__func__", None) is cast("Any", BaseModel).__get_pydantic_json_schema__.__func__


def _literal(options: list[object]) -> Exact | None:
    if not all(type(option) in _LITERAL for option in options):
        return None
    # With its class, since `True == 1`.
    known = {(type(option), option) for option in options}
    return Exact(lambda value: type(value) in _LITERAL and (type(value), value) in known)


_LITERAL: Final = (str, int, bool, NoneType)


def _list(item: Exact | None) -> Exact | None:
    if item is None:
        return None
    fits, to_json = item.fits, item.to_json
    return Exact(
        lambda value: type(value) is list and all(map(fits, cast("list[object]", value))),
        None,
        None if to_json is None else lambda value: [to_json(part) for part in value],
        item.has_fields,
        item.is_open,
    )


def _dict(item: Exact | None) -> Exact | None:
    if item is None:
        return None
    fits, to_json = item.fits, item.to_json
    return Exact(
        lambda value: (
            type(value) is dict
            and all(
                type(key) is str and fits(part) for key, part in cast("dict[object, object]", value).items()
            )
        ),
        None,
        None if to_json is None else lambda value: {key: to_json(part) for key, part in value.items()},
        item.has_fields,
        item.is_open,
    )


def _mapping_test(fields: Mapping[str, Exact], required: list[str] | None = None) -> Fits:
    """Return the test of a dict with these keys, or with at least the required ones."""
    kinds = {name: each.kind for name, each in fields.items()}
    tests = {name: each.fits for name, each in fields.items()}
    needed = frozenset(fields if required is None else required)
    count, optional = len(fields), len(fields) - len(needed)

    def fits(value: Any) -> bool:
        given: Any = value  # no `cast`, which is a call
        if type(value) is not dict:
            return False
        try:
            for name, part in given.items():
                # Most fields are scalars: the class of the value decides, without a call.
                kind = kinds[name]
                if type(part) is not kind and (kind is not None or not tests[name](part)):
                    return False
        except KeyError:  # no field is named so
            return False
        # All keys are known by now, so their number tells whether all are there.
        return len(given) == count or (optional > 0 and needed <= given.keys())

    return fits


def _mapping_json(fields: Mapping[str, Exact]) -> Callable[[Any], Json] | None:
    made = {name: each.to_json for name, each in fields.items() if each.to_json is not None}
    if not made:
        return None

    def to_json(value: Any) -> Json:
        return {name: made[name](part) if name in made else part for name, part in value.items()}

    return to_json
