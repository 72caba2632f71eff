"""`HttpServer`: sends the requests of an API to one address, and says what became of them.

- A request goes to the server's own address. A redirect is followed on the same scheme, host and port only.
- What a status means for a `write` is a table (`_failure`): it did nothing, it took effect, or nobody knows.
- After `Retry-After` nothing is sent to the server until the time has passed.
- Cookies are forgotten after each call, so that no call depends on another.

Connections are shared by the calls of an engine, and closed with it. A write that is not idempotent has a connection of its own: one that
lay idle may be closed just when it is used, and then nobody would know whether the write arrived.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit
from weakref import WeakKeyDictionary

import orjson

from ...errors import ConfigError, OutcomeUnknown, ToolError
from ...plans.signature import Effect
from ...plans.values import Json
from ..failures import ResultRefused
from ..provider import SAID_CHARACTERS_MAX, plain, plain_error
from ..remote.active_trace import trace_headers
from .auth import Mask
from .request import Request, query_text

if TYPE_CHECKING:
    import httpx2

RESPONSE_BYTES_MAX: Final = 96 * 1024 * 1024  # a value of 64 MiB, and what JSON adds to it
CONNECT_S: Final = 30.0  # to reach the server; how long an answer takes is for the call's timeout
REDIRECTS_MAX: Final = 5
RETRY_AFTER_S_MAX: Final = (
    30.0  # the longest wait before a call; a longer one is for the person who reads the error
)
CONNECTIONS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered with a status of success.

    Attributes:
        url: Of the last request, without its query.
        headers: By name in small letters.
    """

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The media type in small letters, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(slots=True)
class _Held:
    client: httpx2.AsyncClient | None = None
    count: int = 0


class HttpServer:
    """One API at one address. May be used from any event loop.

    Args:
        base_url: Where it is, without a slash at the end.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._held: WeakKeyDictionary[asyncio.AbstractEventLoop, _Held] = WeakKeyDictionary()
        self._lock = threading.Lock()  # engines have loops of their own
        self._not_before = 0.0  # `time.monotonic`

    def __str__(self) -> str:
        return self.base_url

    def hold(self) -> None:
        """Keep connections of the running loop open until `release` was called as often as `hold`."""
        with self._lock:
            held = self._held.setdefault(asyncio.get_running_loop(), _Held())
            held.count += 1

    async def release(self) -> None:
        """Undo one `hold`; the last release closes the connections."""
        with self._lock:
            held = self._held.get(asyncio.get_running_loop())
            if held is None:
                return
            held.count -= 1
            if held.count > 0:
                return
            del self._held[asyncio.get_running_loop()]
        if held.client is not None:
            await held.client.aclose()

    async def send(self, request: Request, mask: Mask, *, effect: Effect, is_idempotent: bool) -> Answer:
        """Return the answer to a request.

        Args:
            request: The request, with its credentials.
            mask: Removes the credentials from messages.
            effect: Of the tool: what a failure means for a `write` is another matter.
            is_idempotent: Whether it may be sent again.

        Raises:
            ToolError: The server refused, or was not reached: nothing was done.
            ResultRefused: It was done, but the result cannot be had.
            OutcomeUnknown: The server failed, and a write may have taken effect.
            ConnectionError: The connection broke.
        """
        import httpx2  # noqa: PLC0415  # only programs with such tools need it

        await self._wait()
        ours = _is_ours.set(True)
        try:
            async with self._client(is_shared=effect is not Effect.WRITE or is_idempotent) as client:
                return await self._answer(client, request, mask, effect)
        except (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.ProxyError,
            httpx2.UnsupportedProtocol,
            httpx2.LocalProtocolError,
            httpx2.InvalidURL,
        ) as error:
            # Before a connection stood, nothing was sent.
            raise ToolError(
                f"{self} cannot be reached: {mask.text(plain_error(error))}",
                code="unreachable",
                temporary=not isinstance(
                    error, httpx2.InvalidURL | httpx2.LocalProtocolError | httpx2.UnsupportedProtocol
                ),
            ) from None
        except httpx2.HTTPError as error:
            # `from None`: the error of the client may show the request, and so a secret.
            raise ConnectionError(f"{self}: {mask.text(plain_error(error))}") from None
        finally:
            _is_ours.reset(ours)

    async def _wait(self) -> None:
        """Wait until the server takes calls again."""
        while (left := self._not_before - time.monotonic()) > 0:
            if left > RETRY_AFTER_S_MAX:
                raise ToolError(
                    f"{self} asked for a pause, of which {left:.0f} s are left; try again then",
                    code="rate-limited",
                    temporary=True,
                )
            await asyncio.sleep(left)

    @asynccontextmanager
    async def _client(self, *, is_shared: bool) -> AsyncGenerator[httpx2.AsyncClient]:
        held = self._held.get(asyncio.get_running_loop())
        if held is None or not is_shared:
            async with _new_client() as client:
                yield client
            return
        if held.client is None:
            held.client = _new_client()
        yield held.client

    async def _answer(
        self, client: httpx2.AsyncClient, request: Request, mask: Mask, effect: Effect
    ) -> Answer:
        url = request.address or self.base_url + request.path
        if _origin(url) != _origin(self.base_url):
            raise ToolError(
                f"{self} names a next page at another server, {mask.text(plain(url.partition('?')[0], 200))}, which is not asked",
                code="redirected",
            )
        if request.query:
            url += ("&" if "?" in url else "?") + query_text(request.query)
        headers = {**trace_headers(), **request.headers}
        if request.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in request.cookies)
        method, content, files, is_done = request.method, request.content, request.files, False
        where = f"{method} {url.partition('?')[0].removeprefix(self.base_url) or '/'}"
        for _ in range(REDIRECTS_MAX + 1):
            made = client.build_request(
                method, url, headers=headers, content=content, files=_parts(files), timeout=_timeout()
            )
            response = await client.send(made, stream=True, follow_redirects=False)
            try:
                # The address of the request, since one that is shown may have the secret in its query.
                answer = Answer(
                    response.status_code,
                    url.partition("?")[0],
                    {name.lower(): value for name, value in response.headers.items()},
                    await self._body(response, effect),
                )
            finally:
                await response.aclose()
            self._note_pause(answer)
            if 200 <= answer.status < 300:
                return answer
            if not (300 <= answer.status < 400 and "location" in answer.headers):
                failure = _failure(answer, where, mask, Effect.READ if is_done else effect)
                raise ResultRefused(str(failure), code="redirected") if is_done else failure
            target = self._target(url, answer, where, mask, effect)
            is_done = is_done or (effect is Effect.WRITE and answer.status == 303)
            if answer.status == 303:
                method, content, files = "GET", None, None
                headers = {name: value for name, value in headers.items() if name != "Content-Type"}
            url = target
        raise ToolError(
            f"{where}: expected an answer, found more than {REDIRECTS_MAX} redirects", code="redirected"
        )

    async def _body(self, response: httpx2.Response, effect: Effect) -> bytes:
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > RESPONSE_BYTES_MAX:
                message = f"{self}: the answer is larger than {RESPONSE_BYTES_MAX} bytes"
                if effect is Effect.WRITE and 200 <= response.status_code < 300:
                    raise ResultRefused(message, code="limit-exceeded")
                if effect is Effect.WRITE:
                    raise OutcomeUnknown(message)
                raise ToolError(message, code="limit-exceeded")
        return bytes(data)

    def _target(self, url: str, answer: Answer, where: str, mask: Mask, effect: Effect) -> str:
        """Return where a redirect leads. Raises: ToolError: to another host; ResultRefused: there is the result; OutcomeUnknown: nobody knows."""
        target = urljoin(url, answer.headers["location"])
        is_write = effect is Effect.WRITE
        shown = mask.text(plain(target.partition("?")[0], 200))
        if _origin(target) == _origin(self.base_url):
            # 307 and 308 keep the method, and 303 fetches the result. What a write did before another redirect, nobody knows.
            if not is_write or answer.status in (303, 307, 308):
                return target
            raise OutcomeUnknown(f"{where}: {answer.status}, which leads a write to {shown}")
        message = f"{where}: {answer.status}, which leads to {shown}: a redirect to another server is not followed; give that address as base_url, if it is right"
        if is_write and answer.status == 303:
            raise ResultRefused(message, code="redirected")
        if is_write and answer.status in (301, 302):
            raise OutcomeUnknown(message)
        raise ToolError(message, code="redirected")

    def _note_pause(self, answer: Answer) -> None:
        pause = retry_after_s(answer)
        if pause is not None and answer.status in (429, 503):
            self._not_before = max(self._not_before, time.monotonic() + pause)


def read_base_url(given: object) -> str:
    """Return an address without a slash at its end.

    Raises:
        ConfigError: It is no address of HTTP, or has a user, a query or a fragment.
    """
    wanted = "base_url: expected an address such as https://api.example.org/v1"
    if not isinstance(given, str):
        raise ConfigError(f"{wanted}, found {type(given).__name__}")
    # Before anything else, and without the address: a message that quotes a part of it may show the password.
    if "@" in given:
        raise ConfigError(f"{wanted}, found one with a user or a password; hand it over as auth={{..}}")
    try:
        parts = urlsplit(given)
        _ = parts.port
    except ValueError as fault:
        raise ConfigError(f"{wanted}, but {fault}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{wanted}, found {given!r}")
    if parts.query or parts.fragment or any(char.isspace() or char in "{}\\" for char in given):
        raise ConfigError(f"{wanted}, found a query, a fragment, a variable or a space in {given!r}")
    return given.rstrip("/")


def retry_after_s(answer: Answer) -> float | None:
    """Return the seconds for which a server asks to be left alone, or `None`."""
    given = answer.headers.get("retry-after", "").strip()
    if given.isascii() and given.isdecimal() and len(given) <= 9:
        return float(given)
    try:
        at = parsedate_to_datetime(given)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


_is_ours: ContextVar[bool] = ContextVar("is_ours", default=False)


class _Quiet(logging.Filter):
    """Drops the lines of the HTTP client about our requests: they have the address, and so a key that is sent in its query."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  # logging's signature
        return not _is_ours.get()


@cache
def _quieten() -> None:
    logging.getLogger("httpx2").addFilter(_Quiet())


def _new_client() -> httpx2.AsyncClient:
    import httpx2  # noqa: PLC0415  # as above

    from ..remote.http_client import tls  # noqa: PLC0415  # loads httpx

    _quieten()
    client = httpx2.AsyncClient(
        verify=tls(),
        follow_redirects=False,
        timeout=_timeout(),
        limits=httpx2.Limits(max_connections=CONNECTIONS_MAX),
        headers={"User-Agent": "firmplan"},
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return client


def _timeout() -> httpx2.Timeout:
    import httpx2  # noqa: PLC0415  # as above

    return httpx2.Timeout(CONNECT_S, read=None, write=None)


def _parts(files: list[tuple[str, Any]] | None) -> list[tuple[str, Any]] | None:
    # A body without parts is still a multipart body.
    return files if files is None or files else [("", (None, b""))]


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", "", None
    return parts.scheme, (parts.hostname or "").lower(), port or {"http": 80, "https": 443}.get(parts.scheme)


# The meaning of a status.

_TRY_AGAIN: Final = frozenset({408, 425, 429})  # the server did not do it, and may do it later
_NOT_DONE: Final = frozenset({501, 505})  # the server never does it


def _failure(answer: Answer, where: str, mask: Mask, effect: Effect) -> Exception:
    """Return the exception for an answer that is none of success: a table."""
    status = answer.status
    code = "rate-limited" if status == 429 else f"http-{status}"
    pause = retry_after_s(answer)
    later = (
        f"; it asks to try again after {pause:.0f} s" if pause is not None and status in (429, 503) else ""
    )
    message = mask.text(f"{where}: {status} {_phrase(status)}{_said(answer)}") + later
    if status in _TRY_AGAIN or (status == 503 and pause is not None):
        return ToolError(message, code=code, temporary=True)
    if status < 500 or status in _NOT_DONE:
        return ToolError(message, code=code)
    if effect is Effect.WRITE:
        # The server failed somewhere on the way: the write may have taken effect before.
        return OutcomeUnknown(f"{message}; the server failed, so nobody knows what it has done")
    return ToolError(message, code=code, temporary=True)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _said(answer: Answer) -> str:
    """Return what the server says about a failure, on one line; empty: nothing."""
    text = answer.body[: SAID_CHARACTERS_MAX * 16].decode("utf-8", "replace")
    if answer.media_type == "application/json" or answer.media_type.endswith("+json"):
        with suppress(orjson.JSONDecodeError):
            text = _message_in(orjson.loads(answer.body)) or text
    elif "html" in answer.media_type:
        return ""
    said = plain(text, SAID_CHARACTERS_MAX)
    return f": {said}" if said else ""


def _message_in(value: Json, depth: int = 0) -> str:
    """Return the message in the forms that most APIs have: problem details, `message`, `error.message`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or depth > 3:
        return ""
    found = [
        text
        for key in ("title", "message", "detail", "error_description", "error")
        if (text := _message_in(value.get(key), depth + 1))
    ]
    return ": ".join(dict.fromkeys(found))
