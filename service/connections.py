"""Connections that cost nothing while they say nothing: a request whose head does not come is given up, and the connection closed.

uvicorn waits for ever for the rest of a head, also for the first byte of a new connection; so anybody could hold open as many connections as the server
may have. The body of a request is bounded in `auth.py`, because only there an answer can say what was wrong.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from typing_extensions import override

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as HttpProtocol
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as HttpProtocol

HEAD_S_MAX: Final = 10.0
"""Seconds from a connection, or from the first byte of a request, to the end of the request's head."""
HEAD_BYTES_MAX: Final = 64 * 1024
"""Bytes of a head: as many as h11 takes, and more than any browser sends."""
IDLE_S_MAX: Final = 75
"""Seconds for which a connection without a request is kept, as nginx does. Clients and load balancers keep theirs for 5 to 60 seconds; a server that closes
first may close at the moment at which the next request comes."""


class BoundedProtocol(HttpProtocol):
    """uvicorn's protocol, whose connections have a time and a size for the head of each request."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes: int = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_S_MAX, self._give_up, HTTPStatus.REQUEST_TIMEOUT)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        has_head = self._cycle is not None and not self._cycle.response_complete
        if has_head or self.transport.is_closing():
            self._reset()
        else:
            # The beginning of a head, or the rest of a body whose request was answered without it.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and self._cycle is None:
                self._give_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._deadline is None:
                self._deadline = self.loop.call_later(HEAD_S_MAX, self._give_up, HTTPStatus.REQUEST_TIMEOUT)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._reset()
        super().connection_lost(exc)

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """The request that came last; `None`: no head was complete yet."""
        return cast("RequestResponseCycle | None", self.cycle)

    def _reset(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self, status: HTTPStatus) -> None:
        # A connection that has had an answer may be in the middle of a body: another answer would be taken for that of the next request.
        if self._head_bytes and self._cycle is None:
            line = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(line.encode("ascii"))
        self._reset()
        self.transport.close()
