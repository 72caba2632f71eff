"""The resources that an engine has opened (`tools/resources.py`): each once, at its first use, and closed with the engine.

An asynchronous resource lives in one task on the engine's event loop, and another one on one thread: what opens it also closes it, because task
groups, cancel scopes and some database drivers insist on that. Concurrent first uses wait for one opening. An opening that fails is forgotten, so
that the next use tries again. What was opened last is closed first; what does not close in time, or fails, is logged, and the others are closed all the same.

A child process opens its own (`ProcessResources`), since nothing that is open can be sent there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ....errors import ConfigError, ToolError
from ....plans.immutable import immutable
from ....tools.context import Context, resource_context
from ....tools.failures import described, is_interruption
from ....tools.logbook import masked_text, open_log
from ....tools.resources import RESOURCE_FAILED, Resource, is_resource, with_needs
from .invoke import Failed, is_worth_retrying
from .stoppable import ThreadPool, ToolThread

if TYPE_CHECKING:
    from ....tools import Tool

NO_SECRETS: Final[Mapping[str, str]] = MappingProxyType({})
OPEN_S: Final = 30.0  # how long a resource may take to open when it is tried out
CLOSE_S: Final = 10.0  # how long one resource may take to close: a server that does not answer must not keep an engine from closing


class ResourceError(ToolError):
    """A resource could not be opened. `cause` is why."""

    code = RESOURCE_FAILED

    def __init__(
        self, resource: Resource[Any], cause: BaseException, secrets: Mapping[str, str] = NO_SECRETS
    ) -> None:
        needed = cause if isinstance(cause, ResourceError) else None
        why = f"it needs another: {needed}" if needed else masked_text(described(cause), secrets)
        is_temporary = is_interruption(cause) or (isinstance(cause, ToolError) and cause.temporary is True)
        super().__init__(
            f"the resource '{resource.name}' could not be opened: {why}",
            code=RESOURCE_FAILED,
            temporary=is_temporary,
        )
        self.cause: BaseException = needed.cause if needed else cause


class _Kept:
    """One resource that is open, or about to be."""

    def __init__(self, resource: Resource[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.resource = resource
        self.opened: asyncio.Future[Any] = loop.create_future()
        # An opening that failed after its caller had gone has nobody who looks at the error.
        self.opened.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.closing = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.context: Context | None = None
        self.closed_s: float | None = None
        self.failure = ""


class OpenResources:
    """The resources of one engine.

    Args:
        replaced: Resource or type -> what stands for it: another resource, or any value, which is used as it is.

    Attributes:
        context_for: Makes the context of a resource that takes one.
    """

    def __init__(self, replaced: Mapping[Any, object] | None = None) -> None:
        self.replaced = dict(replaced or {})
        self._kept: dict[Resource[Any], _Kept] = {}
        self._in_order: list[
            _Kept
        ] = []  # as they were opened; what needs another comes after it, and is closed before it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self.context_for: Callable[[Resource[Any]], Context] = resource_context

    def secrets_of(self, tool: Tool) -> Mapping[str, str]:
        """Return name -> value of the secrets that the open resources of a tool have read: the tool may write them into a message or a result."""
        if not self._kept:
            return NO_SECRETS
        return self._secrets_in(tool.opens)

    def _secrets_in(self, resources: Iterable[Resource[Any]]) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for each in resources:
            opened, _ = self.standing_for(each)
            kept = self._kept.get(opened) if opened is not None else None
            if kept is not None and kept.context is not None:
                found |= kept.context.secrets_read()
        return found

    async def inject(self, tool: Tool, context: Context, timeout_s: float | None) -> Failed | None:
        """Open what a tool takes as parameters, and give it to the context of a call; return the failure if one does not open.

        The tool has not been called then, so a failed write did nothing. What is still opening past the limit goes on for the next call.
        """
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                for parameter, resource in tool.injected.items():
                    context.injected[parameter] = await self.open(resource)
        except ResourceError as fault:
            return Failed(
                fault.code,
                str(fault),
                fault.temporary,
                retryable=fault.temporary or is_worth_retrying(tool, fault.cause),
            )
        except TimeoutError as fault:
            if not limit.expired():
                raise
            names = ", ".join(f"'{each.name}'" for each in tool.injected.values())
            message = f"the resource {names} was not open within {timeout_s:g} s"
            return Failed("timeout", message, temporary=True, retryable=is_worth_retrying(tool, fault))
        return None

    async def open(self, resource: Resource[Any]) -> Any:  # noqa: ANN401  # whatever the resource gives
        """Return what a resource gives; its first use opens it. Raises: ResourceError; ConfigError: the engine is closed."""
        found, standing = self.standing_for(resource)
        if found is None:
            return standing
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise ConfigError(f"the resource '{found.name}' was asked for after its engine was closed")
        self._loop = loop
        kept = self._kept.get(found)
        if kept is None:
            kept = self._kept[found] = _Kept(found, loop)
            kept.task = loop.create_task(self._keep(kept), name=f"firmplan resource {found.name}")
        # Shielded: whoever stops waiting must not take the resource from those who wait with it.
        return await asyncio.shield(kept.opened)

    def standing_for(self, resource: Resource[Any]) -> tuple[Resource[Any] | None, object]:
        """Return the resource that is opened for another, or `None` and the value that stands for it."""
        replaced = self.replaced
        if not replaced:
            return resource, None
        key = next((each for each in (resource, resource.fn, resource.gives) if _has(replaced, each)), None)
        if key is None:
            return resource, None
        standing = replaced[key]
        return (standing, None) if is_resource(standing) else (None, standing)

    def ask(self, tool: Tool, wanted: object, context: Context) -> Any:  # noqa: ANN401  # see `Context.resource`
        """Return what `Context.resource` returns: on an event loop an awaitable, on another thread the resource."""
        work = self._asked(tool, wanted, context)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is None:
                work.close()
                raise ConfigError("ctx.resource was called outside a call of the engine") from None
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        return work

    async def _asked(self, tool: Tool, wanted: object, context: Context) -> Any:  # noqa: ANN401  # whatever the resource gives
        if _has(self.replaced, wanted) and not isinstance(self.replaced[wanted], Resource):
            return self.replaced[wanted]
        resource = tool.find_resource(wanted)
        value = await self.open(resource)
        known = context.used.secrets
        known.extend(name for name in self._secrets_in(with_needs([resource])) if name not in known)
        return value

    def note_loop(self) -> None:
        """Note the event loop of the engine, which calls on other threads ask."""
        self._loop = asyncio.get_running_loop()

    async def _keep(self, kept: _Kept) -> None:
        """Open a resource, wait until it is to be closed, and close it: all in one task."""
        resource = kept.resource
        # One task for all of its life: a context manager may hold a cancel scope or a task group, which has to be left by the task that entered it.
        try:
            needs = {name: await self.open(each) for name, each in resource.needs.items()}
            if resource.context is not None:
                needs[resource.context] = kept.context = self.context_for(resource)
            async with _entered(resource, needs) as value:
                kept.opened.set_result(value)
                self._in_order.append(kept)
                await kept.closing.wait()
        except BaseException as fault:  # a resource may raise anything
            if not kept.opened.done():
                self._kept.pop(resource, None)  # the next use tries again
                if isinstance(fault, asyncio.CancelledError):
                    kept.opened.cancel()
                    raise
                kept.opened.set_exception(ResourceError(resource, fault, _read_by(kept.context)))
                return
            if isinstance(fault, asyncio.CancelledError):
                raise
            kept.failure = masked_text(described(fault), _read_by(kept.context))
            open_log().error("a resource failed to close", resource=resource.name, error=kept.failure)

    async def close(self) -> None:
        """Close what is open, the last first, and stop what is opening; nothing opens afterwards."""
        self._is_closed = True
        opening = [kept.task for kept in self._kept.values() if kept.task and not kept.opened.done()]
        for task in opening:
            task.cancel()
        if opening:
            await asyncio.wait(opening, timeout=CLOSE_S)
        while self._in_order:
            kept, began = self._in_order.pop(), time.monotonic()
            kept.closing.set()
            if kept.task is None:
                continue
            _, late = await asyncio.wait([kept.task], timeout=CLOSE_S)
            kept.closed_s = time.monotonic() - began
            if late:
                kept.task.cancel()
                kept.failure = f"it was not closed within {CLOSE_S:g} s"
                open_log().error(
                    "a resource did not close in time", resource=kept.resource.name, after_s=CLOSE_S
                )
        self._kept.clear()

    async def try_out(self, resources: Iterable[Resource[Any]]) -> list[ResourceTrial]:
        """Open resources and what they need, one after the other, then close all; return how that went. Nothing opens afterwards."""
        tried: list[tuple[Resource[Any], _Kept | None, float, str]] = []
        for each in with_needs(resources):
            began, fault = time.monotonic(), ""
            try:
                async with asyncio.timeout(OPEN_S):
                    await self.open(each)
            except ResourceError as error:
                fault = str(error)
            except TimeoutError:
                fault = f"the resource '{each.name}' was not open within {OPEN_S:g} s"
            tried.append((each, self._kept.get(each), time.monotonic() - began, fault))
        await self.close()
        return [
            ResourceTrial(each, took_s, fault)
            if fault or kept is None
            else ResourceTrial(each, took_s, kept.failure, kept.closed_s)
            for each, kept, took_s, fault in tried
        ]


@immutable
class ResourceTrial:
    """How a resource was opened and closed.

    Attributes:
        opened_s: How long opening took, in seconds, also if it failed.
        failure: Why it did not open, or did not close; empty: it did both.
        closed_s: How long closing took; `None`: it was not opened.
    """

    resource: Resource[Any]
    opened_s: float
    failure: str
    closed_s: float | None = None


def _read_by(context: Context | None) -> Mapping[str, str]:
    return NO_SECRETS if context is None else context.secrets_read()


@asynccontextmanager
async def _entered(resource: Resource[Any], needs: Mapping[str, Any]) -> AsyncGenerator[Any]:
    """Enter a resource: an asynchronous one here, another one on a thread of its own, which also closes it."""
    if resource.is_async:
        async with resource(**needs) as value:
            yield value
        return
    # Not a thread of the pool: some libraries, such as sqlite3, allow their objects only on the thread that made them.
    thread = ToolThread.started()
    pool = ThreadPool([thread])
    try:
        manager: Any = await pool.call(lambda: resource(**needs))
        value = await pool.call(manager.__enter__)
        try:
            yield value
        finally:
            await pool.call(lambda: manager.__exit__(None, None, None))
    finally:
        pool.close()


def _has(replaced: Mapping[Any, object], key: object) -> bool:
    try:
        return key in replaced
    except TypeError:  # an annotation that cannot be hashed
        return False


class ProcessResources:
    """The resources of one child process: opened and closed on the thread that calls its tools."""

    def __init__(self) -> None:
        self._open: dict[Resource[Any], Any] = {}
        self._read: dict[Resource[Any], Sequence[str]] = {}
        self._stack = ExitStack()

    def secrets_of(self, tool: Tool) -> Mapping[str, str]:  # noqa: ARG002  # as the engine's
        """Return nothing: the call itself counts as having read what its resources have read."""
        return NO_SECRETS

    def inject(self, tool: Tool, context: Context) -> None:
        """Open what a tool takes as parameters, and give it to the context of a call. Raises: ResourceError."""
        for parameter, resource in tool.injected.items():
            context.injected[parameter] = self.open(resource, context)

    def open(self, resource: Resource[Any], context: Context) -> Any:  # noqa: ANN401  # whatever the resource gives
        """Return what a resource gives; its first use opens it, with the secrets of the call that `context` is of. Raises: ResourceError."""
        if resource not in self._open:
            own = context.of_resource(resource) if resource.context is not None else None
            try:
                manager, value = self._enter(resource, context, own)
            except Exception as fault:
                raise ResourceError(resource, fault, _read_by(own)) from fault
            if own is not None:
                self._read[resource] = own.used.secrets

            def leave() -> None:
                try:
                    manager.__exit__(None, None, None)
                except Exception as fault:  # noqa: BLE001  # the others are closed all the same
                    open_log().error(
                        "a resource failed to close", resource=resource.name, error=described(fault)
                    )

            self._stack.callback(leave)
            self._open[resource] = value
        # The engine masks what a call has read.
        for each in with_needs([resource]):
            known = context.used.secrets
            known += [name for name in self._read.get(each, ()) if name not in known]
        return self._open[resource]

    def _enter(self, resource: Resource[Any], context: Context, own: Context | None) -> tuple[Any, Any]:
        if resource.is_async:
            raise ConfigError(
                "it is asynchronous, and a process for calls has no event loop that stays; write a plain generator"
            )
        needs = {name: self.open(each, context) for name, each in resource.needs.items()}
        if resource.context is not None:
            needs[resource.context] = own
        manager = resource(**needs)
        return manager, manager.__enter__()

    def ask(self, tool: Tool, wanted: object, context: Context) -> Any:  # noqa: ANN401  # see `Context.resource`
        """See `OpenResources.ask`."""
        value = self.open(tool.find_resource(wanted), context)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return value

        async def given() -> Any:  # noqa: ANN401
            return value

        return given()

    def close(self) -> None:
        """Close what is open, the last first."""
        self._open.clear()
        self._stack.close()
