"""The parameters and the result of a Python callable, read from its signature and annotations.

Rules: every parameter and the result are annotated; arguments go by name, so there are no positional-only
parameters and no `*args`; a parameter annotated `Context` is handed the context and is no argument. Annotations are
resolved where the function was written, local classes included. Knows no JSON.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import Any, Final

from ...errors import ConfigError
from ...plans.immutable import immutable
from ...plans.reports.nearest import listing
from ...plans.values import Json
from ..context import Context
from ..resources import Resource, find_resource, in_scope, is_resource, names_for

_FOLDER = __name__.rpartition(".types.")[0] + "."
EMPTY: Final = inspect.Parameter.empty


@immutable
class Parameter:
    """One argument of a tool; `default` is `EMPTY` if the caller must give it."""

    name: str
    annotation: Any
    default: Any


@immutable
class Annotations:
    """A callable's annotations, resolved.

    Attributes:
        parameters: In the order of the signature, without the context and the resources.
        returns: Annotation of the result.
        context: Name of the parameter that takes the `Context`.
        resources: The resources that the engine gives, by parameter.
        local: The resources of the function around, which a type may mean.
    """

    parameters: tuple[Parameter, ...]
    returns: Any
    context: str | None
    resources: Mapping[str, Resource[Any]] = field(default_factory=dict[str, "Resource[Any]"])
    local: tuple[Resource[Any], ...] = ()


def plain_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that has the code and the annotations: inside partials, bound methods, callable objects."""
    # Partials first: a partial of a bound method is a partial, and its inside a method.
    while isinstance(fn, partial):
        fn = fn.func
    if inspect.ismethod(fn):
        inner: Callable[..., Any] = fn.__func__
        return inner
    if inspect.isroutine(fn) or isinstance(fn, type):
        return fn
    call: Callable[..., Any] = type(fn).__call__
    return call


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether a call returns an awaitable, as an `async def` says."""
    return inspect.iscoroutinefunction(plain_function(fn))


def is_method(fn: Callable[..., Any]) -> bool:
    """Whether `fn` is a method still in its class body, and so waits for an instance."""
    if not inspect.isfunction(fn):
        return False
    # While the body of a class runs, a method is a plain function. Only its qualified name, and `self`, tell.
    _, dot, _ = fn.__qualname__.rpartition(".")
    in_class = bool(dot) and not fn.__qualname__.rpartition(".")[0].endswith("<locals>")
    return in_class and next(iter(inspect.signature(fn).parameters), "") == "self"


def argument_names(fn: Callable[..., Any], where: str) -> tuple[str, ...]:
    """Return the names that `fn` takes, the context included.

    Raises:
        ConfigError: A parameter that cannot be given by name.
    """
    return tuple(found.name for found in _by_name(fn, where))


def read_annotations(fn: Callable[..., Any], where: str, local: Mapping[str, Any]) -> Annotations:
    """Return the annotations of `fn`, resolved in its module and in `local`.

    Args:
        fn: The function.
        where: The name of the tool, for messages.
        local: The local names where the function was written.

    Raises:
        ConfigError: A missing annotation, or a parameter that cannot be given by name.
        NameError: An annotation names what does not exist (yet).
    """
    hints = _hints(
        fn, local
    )  # resolved all at once: a name that does not exist yet is found before anything is made
    parameters: list[Parameter] = []
    contexts: list[str] = []
    resources: dict[str, Resource[Any]] = {}
    scope = in_scope(plain_function(fn), local)
    for found in _by_name(fn, where):
        if found.name not in hints:
            raise ConfigError(
                f"{where}: parameter '{found.name}' has no annotation; expected a type, as in "
                f"`{found.name}: str`. Annotate it, or wrap the function with Tool.from_callable and a JSON Schema"
            )
        if is_context(hints[found.name]):
            contexts.append(found.name)
        elif (
            needed := find_resource(hints[found.name], scope, _parameter(where, found.name), found.name)
        ) is not None:
            resources[found.name] = needed
        else:
            parameters.append(Parameter(found.name, hints[found.name], found.default))
    if len(contexts) > 1:
        raise ConfigError(
            f"{where}: expected one parameter annotated Context, found {', '.join(contexts)}; keep one"
        )
    if "return" not in hints:
        raise ConfigError(
            f"{where}: the result has no annotation; expected a type after `->`, such as `-> str` "
            "(`-> None` if nothing comes back, `-> Any` if its shape is unknown)"
        )
    context = next(iter(contexts), None)
    return Annotations(tuple(parameters), hints["return"], context, resources, local_resources(local))


def local_resources(local: Mapping[str, Any]) -> tuple[Resource[Any], ...]:
    """Return the resources among local names."""
    return tuple(each for each in local.values() if is_resource(each))


def find_resources(fn: Callable[..., Any], where: str, local: Mapping[str, Any]) -> dict[str, Resource[Any]]:
    """Return the resources that a callable takes, by parameter; its other annotations may be unusable.

    Raises:
        ConfigError: Several resources give the type of a parameter.
    """
    plain = plain_function(fn)
    annotations = getattr(plain, "__annotations__", {})
    scope = in_scope(plain, local)
    names = {**getattr(inspect.unwrap(plain), "__globals__", {}), **local}
    found: dict[str, Resource[Any]] = {}
    for name, given in annotations.items():
        hint = None
        # One at a time: an annotation that cannot be resolved must not hide the others, and its type is in the schema.
        with suppress(Exception):
            holder = type("holder", (), {"__annotations__": {name: given}})
            hint = typing.get_type_hints(holder, globalns=names, include_extras=True)[name]
        if (
            name != "return"
            and (needed := find_resource(hint, scope, _parameter(where, name), name)) is not None
        ):
            found[name] = needed
    return found


def _parameter(where: str, name: str) -> str:
    return f"{where}: parameter '{name}'"


def find_context(fn: Callable[..., Any]) -> str | None:
    """Return the parameter annotated `Context` of a callable whose other annotations may be unusable."""
    # The annotation may be text that nobody can resolve here, since other annotations of the function are unusable; then its spelling has to do.
    for name, hint in getattr(plain_function(fn), "__annotations__", {}).items():
        if is_context(hint) or (
            isinstance(hint, str) and hint.split("[")[-1].split(" |")[0].strip("]\"'") == "Context"
        ):
            return str(name)
    return None


def check_by_keyword(
    fn: Callable[..., Any], where: str, schema: Mapping[str, Json], injected: Iterable[str] = ()
) -> None:
    """Check that `fn` can be called by keyword with the arguments that a schema describes.

    Args:
        fn: The function.
        where: The name of the tool, for messages.
        schema: JSON Schema of an object: one property for each argument.
        injected: Parameters that the engine gives.

    Raises:
        ConfigError: The schema describes an unknown argument, or lacks one that the function needs.
    """
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return  # a builtin without a signature: the call will show
    given = (find_context(fn), *injected)
    by_name = [each for each in found if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    names = [each.name for each in by_name if each.name not in given]
    # Both ways: an argument that the function does not take would fail each call, and one that the schema lacks could never be given.
    properties = schema.get("properties")
    described = list(properties) if isinstance(properties, dict) else []
    unknown = [name for name in described if name not in names]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in found):
        raise ConfigError(
            f"{where}: parameters: expected properties that the function takes ({listing(names)}), found '{unknown[0]}'"
        )
    for each in by_name:
        if each.default is EMPTY and each.name not in (*described, *given):
            raise ConfigError(
                f"{where}: parameters: the function needs '{each.name}', which the schema does not describe; add it"
            )


def caller_locals() -> Mapping[str, Any]:
    """Return the local names of the nearest caller outside this folder, to resolve annotations of local classes."""
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as pydantic and attrs do: there is no public way to see local classes
    # The module that calls `@tool` is the first frame outside this folder, whichever of our functions the decorator passed through.
    while frame.f_back and str(frame.f_globals.get("__name__", "")).startswith(_FOLDER):
        frame = frame.f_back
    return dict(frame.f_locals)


def _by_name(fn: Callable[..., Any], where: str) -> list[inspect.Parameter]:
    """Return the parameters that a call may give, after checking that each can be given by name."""
    try:
        found = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError) as fault:
        raise ConfigError(
            f"{where}: expected a function with a signature, found {fn!r}; wrap it in a function of your own"
        ) from fault
    if is_method(fn):
        found = found[1:]  # `self`, which the instance fills in when the method is bound
    # What a partial gives is no argument of the tool: a plan could overwrite it.
    bound = fn.keywords if isinstance(fn, partial) else {}
    for parameter in found:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigError(
                f"{where}: parameter '{parameter.name}' is positional-only, and plans give arguments by name; "
                "remove the `/` from the signature"
            )
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise ConfigError(
                f"{where}: expected named parameters, found `{stars}{parameter.name}`; name each argument, or take "
                "one list or dict"
            )
    return [parameter for parameter in found if parameter.name not in bound]


def _hints(fn: Callable[..., Any], local: Mapping[str, Any]) -> dict[str, Any]:
    plain = plain_function(fn)
    return typing.get_type_hints(plain, localns=names_for(plain, local), include_extras=True)


def is_context(annotation: object) -> bool:
    """Whether an annotation is `Context`, perhaps optional or annotated."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(is_context(part) for part in typing.get_args(annotation))
    return annotation is Context
