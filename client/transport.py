"""How requests reach the server: with an event loop or without one, each repeated while that may help.

`calls.py` is written once, as coroutines. With `BlockingTransport` these never wait for an event loop: each `await` returns at once, after the
request was made, so that `finished` can run a coroutine to its end in a plain function. A second set of the same calls was rejected: it
would have to be kept equal by hand.

A request is repeated after an error of its connection, after 429 and after 503, for at most `retry_for` seconds. `calls.py` sees to it that each
request may be sent twice: an answer that was lost looks like a request that never arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from ..errors import ConfigError, FirmplanError, ServerError
from .refusals import error_of, is_temporary, retry_after_of

T = TypeVar("T")

CONNECT_S: Final = 10.0
"""Seconds to connect: a server that is there answers at once."""
LONG_S: Final = 600.0
"""Seconds without a byte in answers that the server computes meanwhile, such as a replay."""
FIRST_PAUSE_S: Final = 0.2
PAUSE_S_MAX: Final = 5.0
"""Bounds of the pause before a repetition, which grows and is random, so that many clients do not come back at once."""
NOT_HELPED: Final = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.ProxyError)
"""Errors of a connection that the next attempt would meet as well."""


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        path: Below the server's address, percent-encoded.
        body: JSON text; `None`: none.
        is_long: Whether the server may compute for minutes before it answers.
        attempts: How often it was sent so far: after more than once, an earlier attempt may have taken effect.
        file: The file whose bytes are the body; `None`: none.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    is_long: bool = False
    attempts: int = 0
    file: Path | None = None


class Lines(Protocol):
    """An answer that is read line by line, as it comes."""

    status: int
    headers: Mapping[str, str]
    is_success: bool

    def lines(self) -> AsyncIterator[str]:
        """Yield the lines. Raises: httpx2.TransportError: the connection was cut."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes, in pieces of any size. Raises: httpx2.TransportError: the connection was cut."""
        ...

    async def body(self) -> bytes:
        """Return all of it."""
        ...


class Transport(Protocol):
    """What the two ways have in common."""

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer, read completely. Raises: httpx2.TransportError."""
        ...

    def open(self, request: httpx2.Request) -> AbstractAsyncContextManager[Lines]:
        """Return the answer while its body comes. Raises: httpx2.TransportError."""
        ...

    def build(self, method: str, path: str, **options: Any) -> httpx2.Request:  # noqa: ANN401  # httpx's own
        """Return a request to the server."""
        ...

    def content_of(self, file: Path) -> Any:  # noqa: ANN401  # the same
        """Return the bytes of a file as the content of a request, read as they are sent."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class LoopTransport:
    """Requests in an event loop."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # httpx's own
        self._client = httpx2.AsyncClient(**options)

    def build(self, method: str, path: str, **options: Any) -> httpx2.Request:  # noqa: ANN401  # httpx's own
        """Return a request to the server."""
        return self._client.build_request(method, path, **options)

    def content_of(self, file: Path) -> AsyncIterator[bytes]:
        """Return the bytes of a file as content."""
        return _pieces_in_loop(file)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer, read completely."""
        return await self._client.send(request)

    @asynccontextmanager
    async def open(self, request: httpx2.Request) -> AsyncGenerator[Lines]:
        """Yield the answer while its body comes."""
        response = await self._client.send(request, stream=True)
        try:
            yield _LoopLines(response)
        finally:
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class BlockingTransport:
    """Requests of a plain function; its coroutines never wait for an event loop."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # httpx's own
        self._client = httpx2.Client(**options)

    def build(self, method: str, path: str, **options: Any) -> httpx2.Request:  # noqa: ANN401  # httpx's own
        """Return a request to the server."""
        return self._client.build_request(method, path, **options)

    def content_of(self, file: Path) -> Iterator[bytes]:
        """Return the bytes of a file as content."""
        return _pieces(file)

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer, read completely."""
        return self._client.send(request)

    @asynccontextmanager
    async def open(self, request: httpx2.Request) -> AsyncGenerator[Lines]:
        """Yield the answer while its body comes."""
        response = self._client.send(request, stream=True)
        try:
            yield _BlockingLines(response)
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251  # no event loop runs this coroutine

    async def aclose(self) -> None:
        """Close the connections."""
        self._client.close()


PIECE_BYTES: Final = 1024 * 1024  # of a file that is sent


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(PIECE_BYTES):
            yield piece


async def _pieces_in_loop(file: Path) -> AsyncIterator[bytes]:
    for piece in _pieces(file):
        yield piece


class _Answered:
    """What both kinds of answers have in common."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.is_success: bool = response.is_success


class _LoopLines(_Answered):
    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_bytes():
            yield piece

    async def lines(self) -> AsyncIterator[str]:
        async for line in self._response.aiter_lines():
            yield line

    async def body(self) -> bytes:
        return await self._response.aread()


class _BlockingLines(_Answered):
    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._response.iter_bytes():
            yield piece

    async def lines(self) -> AsyncIterator[str]:
        for line in self._response.iter_lines():
            yield line

    async def body(self) -> bytes:
        return self._response.read()


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits for an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise AssertionError("a call over the blocking transport waited for an event loop")


def iterated(values: AsyncGenerator[T]) -> Iterator[T]:
    """Yield the values of an asynchronous generator that never waits for an event loop."""
    try:
        while True:
            try:
                value = finished(_next(values))
            except StopAsyncIteration:
                return
            yield value
    finally:
        finished(values.aclose())


async def _next(values: AsyncGenerator[T]) -> T:
    return await anext(values)


class _AgainError(Exception):
    """A failure after which the same request may succeed."""

    def __init__(self, error: FirmplanError, asked_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.asked_s = asked_s  # the pause that the server asks for


class Connection:
    """Requests to one server, repeated while that may help.

    Args:
        transport: The way that the requests take.
        url: The server's address, for messages.
        timeout: Seconds without a byte after which a request counts as lost.
        retry_for: Seconds for which a request is repeated; 0: it is made once.
        on_retry: Called before each pause, with the error and the seconds.
    """

    def __init__(
        self,
        transport: Transport,
        url: str,
        *,
        timeout: float,
        retry_for: float,
        on_retry: Callable[[FirmplanError, float], None] | None = None,
    ) -> None:
        self._transport = transport
        self.url = url
        self._timeout_s = timeout
        self._retry_for_s = retry_for
        self._on_retry = on_retry

    async def send(self, request: Request) -> bytes:
        """Return the body of the answer to a request that may be sent twice.

        Raises:
            FirmplanError: The server refuses it, or was not reached in time.
        """

        async def once() -> bytes:
            request.attempts += 1
            try:
                found = await self._transport.send(self._built(request))
            except httpx2.TransportError as error:
                raise self._unreached(error) from error
            if found.is_success:
                return found.content
            raise self._refused(found.status_code, found.headers, found.content)

        return await self._repeated(once)

    @asynccontextmanager
    async def open(self, request: Request, silence_s: float) -> AsyncGenerator[Lines]:
        """Yield an answer that is read as it comes; only the start of it is repeated.

        Args:
            request: The request.
            silence_s: Seconds without a byte after which the connection counts as cut.

        Raises:
            FirmplanError: The server refuses it, or was not reached in time.
            httpx2.TransportError: The connection was cut while the answer was read.
        """
        opened: list[AbstractAsyncContextManager[Lines]] = []

        async def once() -> Lines:
            waiting = self._transport.open(self._built(request, silence_s))
            try:
                found = await waiting.__aenter__()
            except httpx2.TransportError as error:
                raise self._unreached(error) from error
            if found.is_success:
                opened.append(waiting)
                return found
            try:
                body = await found.body()
            except httpx2.TransportError as error:
                raise self._unreached(error) from error
            finally:
                await waiting.__aexit__(None, None, None)
            raise self._refused(found.status, found.headers, body)

        found = await self._repeated(once)
        try:
            yield found
        finally:
            await opened[0].__aexit__(None, None, None)

    async def pause(self, seconds: float, error: Exception | None = None) -> None:
        """Wait before a stream is opened again that has ended, or was cut by an error."""
        if error is not None:
            self._note(self._unreached(error).error, seconds)
        await self._transport.sleep(seconds)

    def lost(self, error: Exception) -> FirmplanError:
        """Return the error of a connection that was cut again and again."""
        return self._unreached(error).error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    @property
    def retry_for_s(self) -> float:
        """Seconds for which a request is repeated."""
        return self._retry_for_s

    async def _repeated(self, once: Callable[[], Coroutine[Any, Any, T]]) -> T:
        retrying = AsyncRetrying(
            sleep=self._transport.sleep,
            retry=retry_if_exception_type(_AgainError),
            # Not `stop_after_delay`, which sleeps once more although the time is over.
            stop=stop_before_delay(self._retry_for_s),
            wait=_pause,
            before_sleep=self._before_sleep,
            reraise=True,
        )
        try:
            return await retrying(once)
        except _AgainError as again:
            raise again.error from again.__cause__

    def _before_sleep(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, _AgainError):
            self._note(error.error, state.upcoming_sleep)

    def _note(self, error: FirmplanError, seconds: float) -> None:
        if self._on_retry is not None:
            self._on_retry(error, seconds)

    def _built(self, request: Request, silence_s: float | None = None) -> httpx2.Request:
        silent_s = silence_s or (max(LONG_S, self._timeout_s) if request.is_long else self._timeout_s)
        headers = dict(request.headers)
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        content: Any = request.body
        if request.file is not None:
            headers |= {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(request.file.stat().st_size),
            }
            content = self._transport.content_of(request.file)
        return self._transport.build(
            request.method,
            request.path,
            params=dict(request.query) or None,
            headers=headers,
            content=content,
            timeout=httpx2.Timeout(silent_s, connect=min(CONNECT_S, silent_s)),
        )

    def _unreached(self, error: Exception) -> _AgainError:
        """Return the failure of a connection. Raises: ConfigError: no attempt would help."""
        why = str(error) or type(error).__name__
        if isinstance(error, NOT_HELPED):
            raise ConfigError(
                f"expected the address of a server, such as http://127.0.0.1:8000, found {self.url!r}: {why}"
            ) from error
        return _AgainError(
            ServerError(
                f"no answer from {self.url}: {why}; does `firmplan serve` run there?", code="unreachable"
            )
        )

    def _refused(self, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        error = error_of(status, headers, body, self.url)
        return _AgainError(error, retry_after_of(headers) or 0.0) if is_temporary(status, headers) else error


_grown = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=PAUSE_S_MAX)


def _pause(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: what the server asks for, or a growing, random time."""
    error = state.outcome.exception() if state.outcome is not None else None
    return max(error.asked_s if isinstance(error, _AgainError) else 0.0, _grown(state))
