"""`@resource`: what tools share and what has to be opened and closed, such as an HTTP client or a pool of connections.

    @resource
    async def client() -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient() as opened:
            yield opened

    @tool(effect="read")
    async def fetch(url: str, client: httpx.AsyncClient) -> str: ...

A parameter gets a resource by its annotation: the type that a resource in the tool's module gives, or `Annotated[T, client]`, which names one. Such a
parameter is no argument of the tool. An engine opens a resource at its first use, once, and closes it when it closes
(`executor/calls/running/resources.py`). This module knows how a resource is declared and entered, and no engine.
"""

# ruff: noqa: ANN401  # resources are any Python value
from __future__ import annotations

import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeGuard, TypeVar, cast, overload
from weakref import WeakKeyDictionary

from ..errors import ConfigError
from ..plans.reports.nearest import listing

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

RESOURCE_FAILED: Final = "resource-failed"
"""The code of a call whose resource could not be opened."""

_ASYNC_FORMS: Final = (
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterable,
    AbstractAsyncContextManager,
)
_FORMS: Final = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.Iterable,
    AbstractContextManager,
    *_ASYNC_FORMS,
)
"""Annotations of functions that yield one resource: its type is their first parameter."""


class Resource(Generic[T]):
    """One resource: how it is opened, and what it gives. A call returns a context manager, for programs without an engine.

    Args:
        fn: The function or class.
        name: Its name, for messages.
        local: The names of the function around, in which annotations are resolved.

    Attributes:
        name: The name of its function or class, for messages.
        fn: The function or class.
    """

    def __init__(self, fn: Callable[..., Any], name: str, local: Mapping[str, Any]) -> None:
        self.fn = fn
        self.name = name
        self.__wrapped__ = fn
        self.__name__ = name
        self.__qualname__ = getattr(fn, "__qualname__", name)
        self.__module__ = getattr(fn, "__module__", __name__)
        self.__doc__ = fn.__doc__
        self._local = local

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return a context manager that opens the resource, and closes it; the resources that it needs are arguments."""
        plain = inspect.unwrap(self.fn)
        if inspect.isasyncgenfunction(self.fn):
            return asynccontextmanager(self.fn)(*args, **kwargs)
        if inspect.isgeneratorfunction(self.fn):
            return contextmanager(self.fn)(*args, **kwargs)
        if inspect.iscoroutinefunction(plain):
            return _awaited(self.fn(*args, **kwargs))
        made = self.fn(*args, **kwargs)
        # Async first, as the annotation is read: a client that can do both belongs to the event loop.
        kind = cast("type[object]", type(made))
        if hasattr(kind, "__aenter__") or hasattr(kind, "__enter__"):
            return made
        return _as_it_is(made)

    @cached_property
    def gives(self) -> Any:
        """The type of what it gives. Raises: ConfigError, NameError: it is not annotated, or with what does not exist."""
        if isinstance(self.fn, type):
            return self.fn
        found = self._hints.get("return")
        if found is None or found is type(None):
            raise ConfigError(
                f"{self.where}: expected the type that it gives after `->`, such as `-> Iterator[Pool]` for a generator, found "
                f"{'none' if found is None else 'None'}"
            )
        if typing.get_origin(found) in _FORMS:
            return typing.get_args(found)[0]
        if found in _FORMS:
            raise ConfigError(f"{self.where}: expected `-> {found.__name__}[T]` with the type that it gives")
        return found

    @cached_property
    def is_async(self) -> bool:
        """Whether it is opened on the event loop, and not on a thread."""
        if self.kind in ("async generator", "async function"):
            return True
        if self.kind == "generator":
            return False
        made = self.fn if isinstance(self.fn, type) else self._hints.get("return")
        if (typing.get_origin(made) or made) in _ASYNC_FORMS:
            return True
        return hasattr(typing.get_origin(made) or made, "__aenter__")

    @property
    def kind(self) -> str:
        """How it is written, in a word or two: `async generator`, `generator`, `class`, `async function` or `function`."""
        plain = inspect.unwrap(self.fn)
        if isinstance(self.fn, type):
            return "class"
        if inspect.isasyncgenfunction(plain):
            return "async generator"
        if inspect.isgeneratorfunction(plain):
            return "generator"
        return "async function" if inspect.iscoroutinefunction(plain) else "function"

    @cached_property
    def context(self) -> str | None:
        """The parameter that takes a `Context`, for its secrets, environment and log; `None`: none does.

        Raises:
            ConfigError: More than one does.
        """
        from .types.callables import is_context  # noqa: PLC0415  # it needs this module

        hints = self._own_hints
        found = [each.name for each in self._parameters if is_context(hints.get(each.name))]
        if len(found) > 1:
            raise ConfigError(
                f"{self.where}: expected one parameter annotated Context, found {listing(found)}"
            )
        return found[0] if found else None

    @property
    def _parameters(self) -> Sequence[inspect.Parameter]:
        try:
            return tuple(inspect.signature(self.fn).parameters.values())
        except (TypeError, ValueError):  # a class without a signature takes nothing
            return ()

    @property
    def _own_hints(self) -> dict[str, Any]:
        return self._init_hints if isinstance(self.fn, type) else self._hints

    @cached_property
    def needs(self) -> Mapping[str, Resource[Any]]:
        """The resources that it needs, by parameter.

        Raises:
            ConfigError: A parameter is no resource and no `Context`, and has no default.
        """
        hints = self._own_hints
        found: dict[str, Resource[Any]] = {}
        scope = in_scope(self.fn, self._local)
        for each in self._parameters:
            if each.name == self.context:
                continue
            needed = find_resource(
                hints.get(each.name), scope, f"{self.where}: parameter '{each.name}'", each.name
            )
            if needed is not None:
                found[each.name] = needed
            elif each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                raise ConfigError(
                    f"{self.where}: parameter '{each.name}': expected a resource, a Context, or a default; found "
                    f"{spelled(hints.get(each.name))}, which no resource here gives"
                )
        return found

    @property
    def where(self) -> str:
        """Its name for messages."""
        return f"resource '{self.name}'"

    @property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(
            inspect.unwrap(self.fn), localns=names_for(self.fn, self._local), include_extras=True
        )

    @property
    def _init_hints(self) -> dict[str, Any]:
        made = cast("Any", self.fn).__init__
        return (
            typing.get_type_hints(made, localns=names_for(self.fn, self._local), include_extras=True)
            if inspect.isfunction(made)
            else {}
        )

    def __repr__(self) -> str:
        return f"Resource({self.name!r})"


@overload
def resource(fn: type[T], /) -> type[T]: ...  # type: ignore[overload-overlap]  # a class is callable, too, and the first that fits counts
@overload
def resource(
    fn: Callable[..., AsyncIterator[T]] | Callable[..., AbstractAsyncContextManager[T]], /
) -> Resource[T]: ...
@overload
def resource(fn: Callable[..., Iterator[T]] | Callable[..., AbstractContextManager[T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[..., Coroutine[Any, Any, T]], /) -> Resource[T]: ...
@overload
def resource(fn: Callable[..., T], /) -> Resource[T]: ...
@overload
def resource(fn: None = None, /, *, name: str | None = None) -> Callable[[Callable[..., Any]], Any]: ...
def resource(fn: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Declare what tools share and an engine opens once: a generator that yields it, a context manager, a class that is one, or a function that returns it.

    Asynchronous resources are opened and closed on the engine's event loop, others on a thread of their own; each in one task or thread from beginning
    to end. A parameter may be another resource. A class is returned as it is, so that it stays an annotation.

    Args:
        fn: The function or class.
        name: For messages; by default the function's.

    Raises:
        ConfigError: It is neither, or does not say what it gives.
    """
    if fn is None:
        return partial(resource, name=name) if name is not None else resource
    if not callable(fn) or isinstance(fn, Resource):
        raise ConfigError(f"@resource: expected a function or a class, found {fn!r}")
    given = cast("object", name)
    if given is not None and (not isinstance(given, str) or not given.strip()):
        raise ConfigError(f"@resource: name: expected a text that is not empty, found {name!r}")
    from .types.callables import caller_locals  # noqa: PLC0415  # it needs this module

    made: Resource[Any] = Resource(fn, name or str(getattr(fn, "__name__", repr(fn))), caller_locals())
    if isinstance(fn, type):
        _CLASSES[fn] = made
        return fn
    try:
        _ = made.gives
    except NameError:  # a class defined further down: read again at the first use
        made.__dict__.pop("gives", None)
    return made


# Not an attribute of the class: it would be part of the fingerprint of each tool that uses the class.
_CLASSES: Final[WeakKeyDictionary[type, Resource[Any]]] = WeakKeyDictionary()


def key_of(one: Resource[Any], given: Mapping[Any, object]) -> Any:
    """Return the key under which a mapping has what stands for a resource: itself, its function, or the type that it gives; `None`: none of them."""
    return next((key for key in (one, one.fn, one.gives) if key in given), None)


def is_resource(value: object) -> TypeGuard[Resource[Any]]:
    """Return whether a value is a resource itself: a proxy that claims the class of what it stands for is none."""
    return type(value) is Resource


def resource_of(wanted: object) -> Resource[Any] | None:
    """Return a resource that is named by itself or by its class; `None`: it is neither."""
    if is_resource(wanted):
        return wanted
    return _CLASSES.get(wanted) if isinstance(wanted, type) else None


def names_for(fn: Callable[..., Any], local: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names in which the annotations of a function are resolved, beside those of its module."""
    from .context import Context  # noqa: PLC0415  # it knows this module

    # A module may import `Context` only for type checkers. Its own name counts, if it has one.
    known = getattr(inspect.unwrap(fn), "__globals__", {})
    return {**({} if "Context" in known else {"Context": Context}), **local}


def in_scope(fn: Callable[..., Any], local: Mapping[str, Any]) -> tuple[Resource[Any], ...]:
    """Return the resources that a function's module, or the function around it, has names for; each once."""
    names = getattr(inspect.unwrap(fn), "__globals__", None)
    if names is None and isinstance(fn, type):
        names = getattr(sys.modules.get(fn.__module__), "__dict__", None)
    every: list[object] = [*(names or {}).values(), *local.values()]
    return tuple(dict.fromkeys(each for each in every if is_resource(each)))


def find_resource(
    annotation: Any, scope: Iterable[Resource[Any]], where: str, name: str = ""
) -> Resource[Any] | None:
    """Return the resource that an annotation asks for; `None`: it is the type of data.

    Args:
        annotation: Resolved, with its extras.
        scope: The resources that may be meant by their type.
        where: For messages.
        name: The parameter; of several resources of one type the one of this name is meant.

    Raises:
        ConfigError: Several resources give the type, and none has the name.
    """
    if typing.get_origin(annotation) is typing.Annotated:
        for extra in annotation.__metadata__:
            if (named := resource_of(extra)) is not None:
                return named
        return find_resource(annotation.__origin__, scope, where, name)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        return find_resource(parts[0], scope, where, name) if len(parts) == 1 else None
    if annotation is None:
        return None
    if (named := resource_of(annotation)) is not None:
        return named
    found = [each for each in scope if _gives(each, annotation)]
    found = [each for each in found if each.name == name] or found
    if len(found) > 1:
        type_name, first = spelled(annotation), found[0].name
        raise ConfigError(
            f"{where}: expected one resource that gives {type_name}, found {listing([each.name for each in found])}; name the one that is "
            f"meant: Annotated[{type_name}, {first}]"
        )
    return found[0] if found else None


def mentioned_in(fn: Callable[..., Any], scope: Iterable[Resource[Any]]) -> tuple[Resource[Any], ...]:
    """Return the resources whose name, or whose type's name, stands in the code of a function."""
    plain = inspect.unwrap(fn)
    code = getattr(plain, "__code__", None)
    if code is None:
        return ()
    names: set[str] = set()
    waiting = [code]
    while waiting:
        one = waiting.pop()
        names.update(one.co_names, one.co_freevars)
        waiting += [each for each in one.co_consts if isinstance(each, types.CodeType)]
    known = getattr(plain, "__globals__", {})
    named = [known[name] for name in sorted(names) if name in known]
    named += [_content(cell) for cell in getattr(plain, "__closure__", None) or ()]
    every = list(scope)
    found = [resource_of(each) for each in named if isinstance(each, type) or is_resource(each)]
    found += [one for each in named if isinstance(each, type) for one in every if _gives(one, each)]
    return tuple(dict.fromkeys(each for each in found if each is not None))


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet
        return None


def with_needs(resources: Iterable[Resource[Any]]) -> tuple[Resource[Any], ...]:
    """Return resources and all that they need, what is needed first; each once.

    Raises:
        ConfigError: Resources need each other in a circle.
    """
    found: dict[Resource[Any], None] = {}

    def add(one: Resource[Any], above: tuple[Resource[Any], ...]) -> None:
        if one in above:
            names = " -> ".join(each.name for each in (*above[above.index(one) :], one))
            raise ConfigError(f"resources need each other in a circle: {names}")
        for needed in one.needs.values():
            if needed not in found:
                add(needed, (*above, one))
        found[one] = None

    for each in resources:
        add(each, ())
    return tuple(found)


def _gives(one: Resource[Any], annotation: Any) -> bool:
    try:
        return bool(one.gives == annotation)
    except NameError:
        return False


def spelled(annotation: Any) -> str:
    """Return an annotation as messages write it."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


@asynccontextmanager
async def _awaited(made: Coroutine[Any, Any, T]) -> AsyncGenerator[Any]:
    value = await made
    if hasattr(type(value), "__aenter__"):
        async with cast("AbstractAsyncContextManager[Any]", value) as entered:
            yield entered
    elif hasattr(type(value), "__enter__"):
        with cast("AbstractContextManager[Any]", value) as entered:
            yield entered
    else:
        yield value


@contextmanager
def _as_it_is(value: T) -> Generator[T]:
    yield value
