"""The checks before every route, in this order: origin, key, rate; and the limits of the body, which hold while a route reads it.

A request that fails a check reaches no handler. Time arrives as data. This module knows no routes, except the paths that need no
key: the page and the schema, which hold no data, and the two health checks. What a key may do is in `callers.py`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import StoreError
from ..executor.lru_cache import LruCache
from .callers import ANYBODY, CALLER, OPEN, Caller, KeyRing
from .problems import Refusal, problem_response

OPEN_PATHS = frozenset({"/", "/openapi.json", "/healthz", "/readyz"})
OPEN_FOLDER = "/page/"
"""The files of the page."""
CLIENT = "firmplan.client"
"""Key of the ASGI scope that holds what tells clients apart (`Caller.id`)."""
IDENTITY = "firmplan.identity"
"""Key of the ASGI scope that holds the name of the client's key; `None` for keys without a name, and where no keys are set."""
HEADS: Final = "firmplan.heads"
"""Key of the ASGI scope that holds the headers, once they were read."""
DROPPED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of a refused request that are read and dropped before the answer; past that the connection is cut."""
DROPPED_S_MAX: Final = 5.0
"""Seconds that this may take."""
CLIENTS_MAX = 10_000
"""Clients whose rate is remembered. Forgetting the least recently seen client favours that client."""
WRONG_KEYS_MAX: Final = 20
"""Wrong keys that one address may send in a burst; a person who mistypes needs a few."""
WRONG_KEYS_PER_S: Final = 1 / 6
"""Further wrong keys a second."""
UPLOADS: Final = "/v1/artifacts"
"""Where bytes are posted that are kept as they come, and never held as a whole."""
BODY_S_MAX: Final = 30.0
"""Seconds that a body may take, and as many more as its bytes need at `BODY_BYTES_PER_S`."""
BODY_BYTES_PER_S: Final = 16 * 1024
"""The slowest rate of a body that is worth the wait: a client on a weak radio link sends more."""


@dataclass(frozen=True, slots=True)
class ServerBudget:
    """What all runs of the servers on a store may spend on models before no new work is taken.

    Attributes:
        usd: US dollars, as far as the prices of the models are known; `None`: no limit.
        tokens: Tokens of prompts and answers; `None`: no limit.
        per: Whether the limits are those of a day, from midnight UTC, or of all time.
    """

    usd: float | None = None
    tokens: float | None = None
    per: Literal["day", "total"] = "day"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of one server.

    Attributes:
        body_bytes: Largest request body; a larger one is a 413.
        upload_bytes: Largest body of an artifact that is posted.
        queue: Most runs queued or running; a further run is a 429.
        rate_per_s: Sustained requests per second and client; more is a 429.
        burst: Requests that a client may make in a burst before the rate counts.
        budget: What the runs may spend together; `None`: no limit.
    """

    body_bytes: int = 16 * 1024 * 1024
    upload_bytes: int = 4 * 1024 * 1024 * 1024
    queue: int = 1_000
    rate_per_s: float = 50.0
    burst: int = 200
    budget: ServerBudget | None = None


Heads: TypeAlias = Mapping[str, str]
"""The headers of a request, by their names in small letters; of several with one name, the first."""


def heads_of(scope: Scope) -> Heads:
    """Return the headers of a request, read once. The framework's own look-up goes through all of them for each name."""
    found: Heads | None = scope.get(HEADS)
    if found is None:
        found = scope[HEADS] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }
    return found


class Guard:
    """ASGI middleware that passes on the requests that pass every check, and refuses the others.

    Args:
        app: The application behind it.
        keys: The keys of the server; if it has none, every client is accepted.
        hosts: Accepted names in the `Host` header; with none, all. A server on loopback accepts its own names only, so
            that a web page whose own name resolves to this machine gets nothing.
        limits: Body size and rate.
        scope: What every client needs, beside what routes need.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        hosts: Sequence[str] = (),
        limits: ServerLimits,
        scope: str = OPEN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._scope = scope
        self._keys = keys
        self._hosts = frozenset(hosts)
        self._host: str | None = None
        self._limits = limits
        self._buckets = Buckets(limits.rate_per_s, limits.burst, clock)
        self._wrong = Buckets(WRONG_KEYS_PER_S, WRONG_KEYS_MAX, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = heads_of(scope)
        is_upload = scope["path"] == UPLOADS
        incoming = Incoming(
            receive, headers, self._limits.upload_bytes if is_upload else self._limits.body_bytes
        )
        try:
            self._check_origin(headers, scope["method"])
            if scope["path"] not in OPEN_PATHS and not scope["path"].startswith(OPEN_FOLDER):
                caller = await self._identify(headers, _address(scope))
                caller.expect(self._scope)
                scope[CALLER], scope[CLIENT], scope[IDENTITY] = caller, caller.id, caller.name
                self._check_rate(caller.id or _address(scope))
        except StoreError as fault:
            await incoming.drop()
            answer = problem_response(
                HTTPStatus.SERVICE_UNAVAILABLE, fault.code, fault.message, headers=incoming.closing
            )
            await answer(scope, receive, send)
            return
        except Refusal as refusal:
            await incoming.drop()
            answer = problem_response(
                refusal.status_code,
                refusal.code,
                refusal.detail,
                headers={**(refusal.headers or {}), **incoming.closing},
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, incoming.receive, send)

    def _check_origin(self, headers: Heads, method: str) -> None:
        """Refuse foreign host names, and requests of other sites' pages that would change something."""
        host = headers.get("host", "")
        if self._hosts and host != self._host:
            if _parts(f"//{host}").hostname not in self._hosts:
                raise Refusal(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "wrong-host",
                    f"this server answers to {', '.join(sorted(self._hosts))}, not to {host!r}",
                )
            self._host = host  # nearly all clients write the same
        origin = headers.get("origin")
        if method not in ("GET", "HEAD", "OPTIONS") and origin and _parts(origin).netloc != host:
            raise Refusal(
                HTTPStatus.FORBIDDEN,
                "wrong-origin",
                f"a page of {origin!r:.200} may not change anything here",
            )

    async def _identify(self, headers: Heads, address: str) -> Caller:
        """Return who asks.

        Raises:
            Refusal: There is no key, or a wrong one (401), or there were too many wrong ones (429).
            StoreError: The store with the keys cannot be read.
        """
        if not await self._keys.needs_key():
            return ANYBODY
        scheme, _, given = headers.get("authorization", "").partition(" ")
        text = given.strip()
        if scheme.lower() != "bearer" or not text:
            raise _unauthorized()
        if (caller := self._keys.find_given(text)) is not None:
            return caller
        # A key that is unknown here counts as wrong until the store has it. One that was accepted lately does not: others at its address, such as
        # that of a company, cannot lock it out.
        is_seen, network = self._keys.is_seen(text), _network(address)
        if not is_seen and (wait_s := self._wrong.take(network)) > 0:
            raise Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-wrong-keys",
                f"too many wrong keys came from {network}; try again in {wait_s:.1f} s",
                {"Retry-After": str(math.ceil(wait_s))},
            )
        caller = await self._keys.find(text)
        if caller is None:
            raise _unauthorized()
        if not is_seen:
            self._wrong.give_back(network)
        return caller

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

    def give_back(self, client: str) -> None:
        """Give back a token that was taken."""
        if (found := self._levels.find(client)) is not None:
            self._levels.keep(client, (min(self._burst, found[0] + 1), found[1]))


def _unauthorized() -> Refusal:
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "expected the header 'Authorization: Bearer KEY' with a key of this server",
        {"WWW-Authenticate": "Bearer"},
    )


def _parts(url: str) -> SplitResult:
    """Return the parts of a URL that a client has written; of what is none, empty ones."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _network(address: str) -> str:
    """Return what one client can send from: its address, or for IPv6 its network of 64 bits, in which it may choose any address."""
    if ":" not in address:
        return address
    with suppress(ValueError):
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    return address


class Incoming:
    """The body of one request, as it comes, up to the limit.

    Args:
        receive: The server's function that returns the next message.
        headers: Of the request.
        bytes_max: The limit.
    """

    def __init__(self, receive: Receive, headers: Heads, bytes_max: int) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._size = 0
        self._has_more = True
        self._has_body = "content-length" in headers or "transfer-encoding" in headers
        self._begun = asyncio.get_running_loop().time()
        declared = headers.get("content-length", "0")
        self._is_declared_too_large = declared.isdecimal() and int(declared) > bytes_max
        self._waits_for_answer = "expect" in headers

    @property
    def closing(self) -> dict[str, str]:
        """Headers of an answer after which the rest of the body is not waited for."""
        return {"Connection": "close"} if self._has_more and self._has_body else {}

    async def receive(self) -> Message:
        """Return the next message, for the application.

        Raises:
            Refusal: The body is or will be larger than the limit (413), or comes too slowly (408).
        """
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
            self.closing,
        )

    async def drop(self) -> None:
        """Read and drop the rest of the body, within bounds: many clients read no answer before they have sent the complete body.

        A client that asked first whether it may send (`Expect`) gets its answer immediately.
        """
        if self._waits_for_answer:
            return
        dropped_max = self._size + DROPPED_BYTES_MAX
        with suppress(TimeoutError, Refusal):
            async with asyncio.timeout(DROPPED_S_MAX):
                while self._has_more and self._size < dropped_max:
                    await self._read()

    async def _read(self) -> Message:
        """Return the next message. Raises: Refusal: 408, the rest of the body is too slow; the connection is closed after the answer."""
        if not (self._has_more and self._has_body):
            self._has_more = False  # nothing is left to wait for but that the client leaves
            return await self._receive()
        allowed_s = BODY_S_MAX + self._size / BODY_BYTES_PER_S
        try:
            async with asyncio.timeout_at(self._begun + allowed_s):
                message = await self._receive()
        except TimeoutError:
            self._has_more = False
            raise Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                "body-too-slow",
                f"expected the complete body, found {self._size:,} bytes of it after {allowed_s:.0f} s",
                {"Connection": "close"},
            ) from None
        self._size += len(message.get("body", b""))
        self._has_more = message["type"] == "http.request" and message.get("more_body", False)
        return message
