"""The checks before every route, in this order: origin, key, rate; and the limit of the body, which holds while a route reads it.

A request that fails a check reaches no handler. Time arrives as data. This module knows no routes, except the paths that need no
key: the page and the schema, which hold no data, and the two health checks.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..executor.lru_cache import LruCache
from .problems import Refusal, problem_response

OPEN_PATHS = frozenset({"/", "/openapi.json", "/healthz", "/readyz"})
OPEN_FOLDER = "/page/"
"""The files of the page."""
CLIENT = "firmplan.client"
"""Key of the ASGI scope that holds the client's name: the digest of its API key, empty if no keys are set."""
IDENTITY = "firmplan.identity"
"""Key of the ASGI scope that holds the name of the client's key; `None` for keys without a name, and where no keys are set."""
DROPPED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of a refused request that are read and dropped before the answer; past that the connection is cut."""
DROPPED_S_MAX: Final = 5.0
"""Seconds that this may take."""
CLIENTS_MAX = 10_000
"""Clients whose rate is remembered. Forgetting the least recently seen client favours that client."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of one server.

    Attributes:
        body_bytes: Largest request body; a larger one is a 413.
        queue: Most runs queued or running; a further run is a 429.
        rate_per_s: Sustained requests per second and client; more is a 429.
        burst: Requests that a client may make in a burst before the rate counts.
    """

    body_bytes: int = 16 * 1024 * 1024
    queue: int = 1_000
    rate_per_s: float = 50.0
    burst: int = 200


class Guard:
    """ASGI middleware that passes on the requests that pass every check, and refuses the others.

    Args:
        app: The application behind it.
        api_keys: Accepted bearer keys without a name; with no keys at all, every client is accepted.
        named_keys: Name of a person or program -> its bearer key.
        hosts: Accepted names in the `Host` header; with none, all. A server on loopback accepts its own names only, so
            that a web page whose own name resolves to this machine gets nothing.
        limits: Body size and rate.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_keys: Sequence[str] = (),
        named_keys: Mapping[str, str] | None = None,
        hosts: Sequence[str] = (),
        limits: ServerLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        # A key that has a name and is also among those without one is the key of that name: the name restricts its rights.
        named = [(key.encode(), name) for name, key in (named_keys or {}).items()]
        self._keys: tuple[tuple[bytes, str | None], ...] = (
            *named,
            *((key.encode(), None) for key in api_keys),
        )
        self._hosts = frozenset(hosts)
        self._limits = limits
        self._buckets = Buckets(limits.rate_per_s, limits.burst, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        incoming = Incoming(receive, headers, self._limits.body_bytes)
        try:
            self._check_origin(headers, scope["method"])
            if scope["path"] not in OPEN_PATHS and not scope["path"].startswith(OPEN_FOLDER):
                scope[CLIENT], scope[IDENTITY] = self._identify(headers)
                self._check_rate(scope[CLIENT] or _address(scope))
        except Refusal as refusal:
            await incoming.drop()
            answer = problem_response(
                refusal.status_code, refusal.code, refusal.detail, headers=refusal.headers
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, incoming.receive, send)

    def _check_origin(self, headers: Headers, method: str) -> None:
        """Refuse foreign host names, and requests of other sites' pages that would change something."""
        host = headers.get("host", "")
        if self._hosts and urlsplit(f"//{host}").hostname not in self._hosts:
            raise Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "wrong-host",
                f"this server answers to {', '.join(sorted(self._hosts))}, not to {host!r}",
            )
        origin = headers.get("origin")
        if method not in ("GET", "HEAD", "OPTIONS") and origin and urlsplit(origin).netloc != host:
            raise Refusal(
                HTTPStatus.FORBIDDEN, "wrong-origin", f"a page of {origin!r} may not change anything here"
            )

    def _identify(self, headers: Headers) -> tuple[str, str | None]:
        """Return the digest of the client's key, and its name; empty and `None` where no keys are set."""
        if not self._keys:
            return "", None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip().encode("utf-8", "surrogateescape")
        # Every key is compared, so that the time taken does not tell which key is similar.
        matches = [hmac.compare_digest(key, known) for known, _ in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise Refusal(
                HTTPStatus.UNAUTHORIZED,
                "unauthorized",
                "expected the header 'Authorization: Bearer KEY' with a key of this server",
                {"WWW-Authenticate": "Bearer"},
            )
        return hashlib.sha256(key).hexdigest(), self._keys[matches.index(True)][1]

    def _check_rate(self, client: str) -> None:
        wait_s = self._buckets.take(client)
        if wait_s > 0:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate-limited",
                f"more than {self._limits.rate_per_s:g} requests a second; try again in {wait_s:.1f} s",
                {"Retry-After": str(math.ceil(wait_s))},
            )


class Buckets:
    """Token buckets, one a client: `burst` tokens at first, `rate_per_s` more each second, one a request."""

    def __init__(self, rate_per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        self._levels: LruCache[str, tuple[float, float]] = LruCache(CLIENTS_MAX, weight_min=1)

    def take(self, client: str) -> float:
        """Take one token and return 0, or return the seconds until there is one."""
        now = self._clock()
        level, since = self._levels.find(client) or (self._burst, now)
        # The bucket is filled when it is looked at: no timer runs for clients that do not come back.
        level = min(self._burst, level + (now - since) * self._rate)
        enough = level >= 1
        self._levels.keep(client, (level - 1 if enough else level, now))
        return 0.0 if enough else (1 - level) / self._rate


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


class Incoming:
    """The body of one request, as it comes, up to the limit.

    Args:
        receive: The server's function that returns the next message.
        headers: Of the request.
        bytes_max: The limit.
    """

    def __init__(self, receive: Receive, headers: Headers, bytes_max: int) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._size = 0
        self._has_more = True
        declared = headers.get("content-length", "0")
        self._is_declared_too_large = declared.isdecimal() and int(declared) > bytes_max
        self._waits_for_answer = "expect" in headers

    async def receive(self) -> Message:
        """Return the next message, for the application. Raises: Refusal: 413, the body is or will be larger than the limit."""
        # A body that is declared too large is refused before its first byte is kept.
        if not self._is_declared_too_large:
            message = await self._read()
            if self._size <= self._bytes_max:
                return message
        await self.drop()
        raise Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"a body may have at most {self._bytes_max:,} bytes",
        )

    async def drop(self) -> None:
        """Read and drop the rest of the body, within bounds: many clients read no answer before they have sent the complete body.

        A client that asked first whether it may send (`Expect`) gets its answer immediately.
        """
        if self._waits_for_answer:
            return
        dropped_max = self._size + DROPPED_BYTES_MAX
        with suppress(TimeoutError):
            async with asyncio.timeout(DROPPED_S_MAX):
                while self._has_more and self._size < dropped_max:
                    await self._read()

    async def _read(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._has_more = message["type"] == "http.request" and message.get("more_body", False)
        return message
