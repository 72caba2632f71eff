"""Counters for Prometheus, in its text format; counted in this process since it started."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of this process: requests by method and status, runs by kind."""

    def __init__(self) -> None:
        self.started = time.time()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.request_seconds = 0.0
        self.accepted: Counter[str] = Counter()

    def text(self, active: Mapping[str, int]) -> str:
        """Return all counters; `active` has the number of runs in each status that is not final."""
        lines = [
            "# HELP firmplan_start_time_seconds When this process started, Unix time.",
            "# TYPE firmplan_start_time_seconds gauge",
            f"firmplan_start_time_seconds {self.started:.3f}",
            "# HELP firmplan_http_requests_total Requests answered.",
            "# TYPE firmplan_http_requests_total counter",
            *(
                f'firmplan_http_requests_total{{method="{method}",status="{status}"}} {count}'
                for (method, status), count in sorted(self.requests.items())
            ),
            "# HELP firmplan_http_request_seconds_total Time spent until the answer began.",
            "# TYPE firmplan_http_request_seconds_total counter",
            f"firmplan_http_request_seconds_total {self.request_seconds:.6f}",
            "# HELP firmplan_runs_accepted_total Runs accepted, by what was sent.",
            "# TYPE firmplan_runs_accepted_total counter",
            *(
                f'firmplan_runs_accepted_total{{kind="{kind}"}} {self.accepted[kind]}'
                for kind in ("plan", "task")
            ),
            "# HELP firmplan_runs_active Runs that have not ended, by status.",
            "# TYPE firmplan_runs_active gauge",
            *(
                f'firmplan_runs_active{{status="{status}"}} {count}'
                for status, count in sorted(active.items())
            ),
        ]
        return "\n".join(lines) + "\n"


class Counted:
    """ASGI middleware that counts every answer, including those of the checks in `auth.py`."""

    METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
    """Other methods count as `other`, so that a client cannot fill the table with words."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count its answer when the answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        method = scope["method"] if scope["method"] in self.METHODS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests[method, message["status"]] += 1
                self._metrics.request_seconds += time.monotonic() - begun
            await send(message)

        await self._app(scope, receive, counted)
