"""What every request gets, whatever becomes of it: an id, a line in the log, its place in the counters, and an answer.

The middleware is the outermost one, so that it sees the refusals of `auth.py` as well. It answers an exception of a handler itself: behind it the
framework would answer without the id, and the server would write the traceback in a form of its own.

A client's id is kept if it has at most 128 letters, digits and `._:@/+=-`, because it is written into logs; else the request gets a new
one. The id is in the header of the answer, in a problem, in the log lines of the request and of the work that it starts, and in the run.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..tools.logbook import RequestContext, current_request, is_enabled, open_log
from .auth import IDENTITY, Heads, heads_of
from .metrics import Metrics
from .problems import bug_response

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

HEADER: Final = b"x-request-id"
ID_LENGTH_MAX: Final = 128
"""Characters of a request id that a client may choose."""
ID: Final = re.compile(rf"[A-Za-z0-9._:@/+=-]{{1,{ID_LENGTH_MAX}}}")
TRACEPARENT: Final = re.compile(
    r"((?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?"
)
"""W3C Trace Context: version, trace, span, flags; a later version may say more after these."""
TRACESTATE_MAX: Final = 512
"""Characters of `tracestate` that are kept: as many as every vendor has to accept."""
HEALTH: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is asked every few seconds by machines: at `info` it would hide everything else."""
UNROUTED: Final = "unrouted"
"""The route of a request that no route took, or that was refused before."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Other methods count as `other`, so that a client cannot fill the table with words."""
CLOSED: Final = 499
"""The status in the log, and in no counter, of a request whose client left before the answer began."""


class RequestLog:
    """ASGI middleware that identifies, logs, counts and, if all else fails, answers each request.

    Args:
        app: The application behind it.
        metrics: The counters of this server.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        # Made once: it takes longer than the line.
        self._log = open_log() if is_enabled("info") else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _context_of(heads_of(scope))
        token = current_request.set(context)
        answer = _Answer(scope, send, self._metrics, context.id)
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            pass
        except Exception as error:  # noqa: BLE001  # a bug: the client gets an answer, the log the traceback
            open_log().exception("request failed", method=scope["method"], route=_route(scope))
            if answer.status is None:
                await bug_response(error)(scope, receive, answer.send)
        finally:
            if self._log is not None:
                answer.log_to(self._log)
            current_request.reset(token)


class _Answer:
    """The answer to one request, on its way to the client."""

    __slots__ = ("_begun", "_id", "_metrics", "_scope", "_send", "status")

    def __init__(self, scope: Scope, send: Send, metrics: Metrics, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._metrics = metrics
        self._id = request_id.encode("ascii")
        self._begun = time.perf_counter()
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on; where the answer begins, count it and add the id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (HEADER, self._id)]
            method = self._scope["method"]
            self._metrics.note_request(
                method if method in METHODS else "other",
                _route(self._scope),
                message["status"],
                time.perf_counter() - self._begun,
            )
        await self._send(message)

    def log_to(self, log: FilteringBoundLogger) -> None:
        """Write the line of the request, after the last byte of its answer."""
        scope = self._scope
        level = logging.DEBUG if scope["path"] in HEALTH and self.status in (200, None) else logging.INFO
        params: Mapping[str, object] = scope.get("path_params") or {}
        client: tuple[str, int] | None = scope.get("client")
        fields: dict[str, object] = {
            "method": scope["method"],
            "route": _route(scope),
            "status": self.status or CLOSED,
            "duration_s": round(time.perf_counter() - self._begun, 6),
            "client": scope.get(IDENTITY),
            "address": client and client[0],
            "run": params.get("run_id"),
        }
        log.log(
            level, "request", **{name: value for name, value in fields.items() if value not in (None, "")}
        )


def _route(scope: Scope) -> str:
    """Return the path of the route with its parameters' names: the number of routes is bounded, that of paths is not."""
    path: str = getattr(scope.get("route"), "path_format", None) or UNROUTED
    return path


def _context_of(headers: Heads) -> RequestContext:
    given = headers.get("x-request-id", "")
    request_id = given if given and ID.fullmatch(given) else f"req_{random.getrandbits(64):016x}"
    parent = headers.get("traceparent", "")
    trace = TRACEPARENT.fullmatch(parent.strip()) if parent else None
    if trace is None:
        return RequestContext(request_id)
    state = headers.get("tracestate", "")
    is_kept = len(state) <= TRACESTATE_MAX and state.isascii() and state.isprintable()
    return RequestContext(request_id, trace[1], state if is_kept else "")
