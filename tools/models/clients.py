"""Clients of model endpoints that live as long as calls use them.

Calls that overlap share one client, and with it its connections; the last one to leave closes it. So nothing has to
be closed by hand, no socket outlives its event loop, and a fan-out over a hundred items does not shake hands a hundred
times. openai and instructor are imported here, when the first call is made: they cost a second that
`import firmplan` must not.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from ...lazy_imports import late_pattern
from ...plans.immutable import record
from .endpoint import AUTO, MODES, SCHEMA_FIRST, Endpoint, is_loopback
from .errors import ModelError
from .limits import EndpointLimits
from .prices import Prices, PricesSource
from .recorder import record_exchange

if TYPE_CHECKING:
    from instructor import AsyncInstructor
    from openai import AsyncOpenAI

    from .completion import RequestObserver
    from .tool_calls import NativeTurn

_quiet: ContextVar[bool] = ContextVar("firmplan_model_call", default=False)


@record
class _Shared:
    client: AsyncInstructor
    users: int = 0


class Clients:
    """The open clients, by event loop and endpoint.

    Args:
        prices: The prices of tokens; `None`: the table that `FIRMPLAN_PRICES` names, read with the first call, and ours.

    Attributes:
        modes: In which mode each endpoint is asked for structure.
        limits: The semaphores and rate limiters of the endpoints.
        observers: Who watches the requests.
    """

    def __init__(self, prices: PricesSource = None) -> None:
        self.modes = Modes()
        self.limits = EndpointLimits()
        self.observers: list[RequestObserver] = []
        self._prices = None if prices is None else Prices.of(prices)
        self._open: dict[tuple[int, str, str, str], _Shared] = {}

    @property
    def prices(self) -> Prices:
        """The prices of tokens. Raises: ConfigError: the table that the environment names is no table."""
        if self._prices is None:
            self._prices = Prices.of()
        return self._prices

    @asynccontextmanager
    async def lease(self, endpoint: Endpoint) -> AsyncGenerator[AsyncInstructor]:
        """Provide a client of an endpoint for one call, or for one conversation."""
        await _import_clients()
        # A client belongs to the event loop that made it: its sockets and locks cannot be used from another one.
        key = (id(asyncio.get_running_loop()), endpoint.base_url, endpoint.api_key, endpoint.mode)
        shared = self._open.get(key)
        if shared is None:
            shared = self._open[key] = _Shared(_connect(endpoint))
        shared.users += 1
        # A context variable and no flag: other users of instructor in this process keep their log.
        token = _quiet.set(True)
        try:
            yield shared.client
        finally:
            _quiet.reset(token)
            shared.users -= 1
            if not shared.users:
                del self._open[key]
                await openai_of(shared.client).close()


async def _import_clients() -> None:
    """Import the clients' libraries on a thread: the first time takes a second, which would stop the event loop."""
    if "instructor" not in sys.modules:
        await asyncio.to_thread(importlib.import_module, "instructor")


def _connect(endpoint: Endpoint) -> AsyncInstructor:
    """Open a client.

    An endpoint on this machine is never asked through a proxy. Redirects are not followed: each would be a request that
    nobody counts, and would carry the prompt to where nobody said.
    """
    import instructor  # noqa: PLC0415  # heavy: see above
    import openai  # noqa: PLC0415

    from ..remote.http_client import tls  # noqa: PLC0415  # loads httpx
    from .transport import bound_body, expect_no_page  # noqa: PLC0415  # the same

    _hush_instructor()
    http = openai.DefaultAsyncHttpxClient(
        verify=tls(),
        trust_env=not is_loopback(endpoint.base_url),
        follow_redirects=False,
        event_hooks={"response": [bound_body, record_exchange, expect_no_page]},
    )
    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, http_client=http
    )
    return instructor.from_openai(client, mode=instructor.Mode[endpoint.mode])


def openai_of(client: AsyncInstructor) -> AsyncOpenAI:
    """Return the client of openai inside one of instructor."""
    from openai import AsyncOpenAI  # noqa: PLC0415  # heavy

    assert isinstance(client.client, AsyncOpenAI)
    return client.client


@cache
def _hush_instructor() -> None:
    """Keep instructor from logging failures of our calls: they are raised as errors, without keys, and reported once."""
    logging.getLogger("instructor.v2.retry").addFilter(lambda _: not _quiet.get())


# Modes: the ways to ask for a structured answer. Where no mode is set, the modes are tried in the order of `MODES` until one works:
# an endpoint that refuses a tool call or `response_format`, or that answers without JSON, is asked in the next mode. The mode that
# worked is remembered by endpoint and model, and from then on a refusal is about the request and not about its form.


_ABOUT_FORM = late_pattern(
    r"tool|function|response_format|json_schema|json_object|grammar|jinja", re.IGNORECASE
)

_ABOUT_STREAMS = late_pattern(r"stream", re.IGNORECASE)


_ORDERS: Final[Mapping[str, tuple[str, ...]]] = {
    AUTO: MODES,
    SCHEMA_FIRST: ("JSON_SCHEMA", "TOOLS", "JSON", "MD_JSON"),
}
"""The modes that are tried where none is set."""


class Modes:
    """The modes in which the endpoints are asked. Sends nothing."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, str, str], str] = {}
        self._proven: dict[tuple[str, str, str], str] = {}
        self._unstreamed: set[tuple[str, str]] = set()
        self._without_calls: set[tuple[str, str]] = set()
        self._with_calls: set[tuple[str, str]] = set()
        self._refused: dict[tuple[str, str], frozenset[str]] = {}

    def of(self, endpoint: Endpoint) -> str:
        """Return the mode to ask in: the one that is set, else the one that worked, else the next to try."""
        order, key = _ORDERS.get(endpoint.mode), _mode_key(endpoint)
        return endpoint.mode if order is None else self._proven.get(key) or self._next.get(key, order[0])

    def prove(self, endpoint: Endpoint, mode: str) -> None:
        """Remember that an answer came in this mode."""
        # From now on a refusal is about the request: another mode would only repeat the cost.
        self._proven[_mode_key(endpoint)] = mode

    def give_up(self, endpoint: Endpoint, mode: str) -> bool:
        """Go on to the mode after `mode`; return whether there is one."""
        order, key = _ORDERS.get(endpoint.mode), _mode_key(endpoint)
        # A mode that the user has set is never changed, and a mode that worked is not given up because of one bad
        # answer.
        if order is None or key in self._proven:
            return False
        if mode == order[-1]:
            self._next.pop(key, None)  # none worked, so it was not the form: begin anew
            return False
        self._next[key] = order[order.index(mode) + 1]
        return True

    def can_stream(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint has refused no stream so far."""
        return endpoint.key not in self._unstreamed

    def give_up_streams(self, endpoint: Endpoint) -> None:
        """Remember that the endpoint refuses to stream."""
        self._unstreamed.add(endpoint.key)

    def turn_for(self, endpoint: Endpoint, turn: NativeTurn | None) -> NativeTurn | None:
        """Return the turn of an agent in the form that an endpoint has not refused; `None`: it is asked for structured output."""
        key = endpoint.key
        if turn is None or not endpoint.tool_calls or key in self._without_calls:
            return None
        refused = self._refused.get(key)
        if refused is None:
            return turn
        return replace(
            turn, is_strict="strict" not in refused, is_parallel="parallel_tool_calls" not in refused
        )

    def give_up_calls(self, endpoint: Endpoint, said: str) -> bool:
        """Go on without the option that a refusal names, else without tool calls; return whether there is anything left to try.

        Args:
            endpoint: Who refused.
            said: Its words.
        """
        key = endpoint.key
        refused = self._refused.get(key, frozenset())
        named = [
            option for option in ("parallel_tool_calls", "strict") if option in said and option not in refused
        ]
        if named:
            self._refused[key] = refused | {named[0]}
            return True
        # Once a call has come, a refusal is about the request, and another form would only repeat the cost.
        if key in self._with_calls:
            return False
        self._without_calls.add(key)
        return True

    def note_calls(self, endpoint: Endpoint, outcome: object) -> None:
        """Remember whether an endpoint has tool calls, by the outcome of a turn that was asked in this form."""
        key = endpoint.key
        value = getattr(outcome, "value", None)
        if isinstance(value, dict) and not value.keys().isdisjoint(("call", "calls")):
            self._with_calls.add(key)
        elif getattr(outcome, "has_no_json", False) and key not in self._with_calls:
            self._without_calls.add(key)  # it ignores tools


def _mode_key(endpoint: Endpoint) -> tuple[str, str, str]:
    """Return what the modes are remembered by: a mode that works in one order says nothing of a better one in another."""
    return endpoint.base_url, endpoint.name, endpoint.mode


def is_about_streams(fault: ModelError) -> bool:
    """Whether a failure may be a refusal to stream."""
    is_refusal = fault.code in ("model-rejected", "model-unavailable", "model-unknown")
    return is_refusal and not fault.broke_off and _ABOUT_STREAMS.search(str(fault)) is not None


def is_about_form(fault: ModelError) -> bool:
    """Whether a failure may be a refusal of the mode, and not of the question."""
    if fault.code == "model-rejected":
        return True
    return fault.code in ("model-unavailable", "model-unknown") and _ABOUT_FORM.search(str(fault)) is not None
