"""The client with and without an event loop: the constructors, and a plain function for each coroutine of `calls.py`."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

from ..errors import ConfigError, FirmplanError
from .calls import Calls
from .transport import BlockingTransport, Connection, LoopTransport, Transport, finished, iterated

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT_S: Final = 30.0
"""Seconds without a byte after which a request counts as lost."""
RETRY_FOR_S: Final = 30.0
"""Seconds for which requests are repeated: a server that is restarted is back by then."""

OnRetry = Callable[[FirmplanError, float], None]


class AsyncClient(Calls):
    """A client of `firmplan serve` in an event loop.

    Args:
        url: The server's address, such as `http://127.0.0.1:8000`; a path before `/v1` belongs to it.
        key: The bearer key; `None`: the server needs none.
        timeout: Seconds without a byte after which a request counts as lost.
        retry_for: Seconds for which a request is repeated after errors of the connection, 429 and 503; 0: it is made once.
        on_retry: Called before each pause, with the error and the seconds of the pause.

    Raises:
        ConfigError: The address or the key is none.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = TIMEOUT_S,  # of each request
        retry_for: float = RETRY_FOR_S,
        on_retry: OnRetry | None = None,
    ) -> None:
        super().__init__(_connection(LoopTransport, url, key, timeout, retry_for, on_retry))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _connection(
    transport: Callable[..., Transport],
    url: str,
    key: str | None,
    timeout_s: float,
    retry_for_s: float,
    on_retry: OnRetry | None,
) -> Connection:
    """Return a connection to a server. Raises: ConfigError: an argument is not valid."""
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise ConfigError(
            f"url: expected the address of a server, such as http://127.0.0.1:8000, found {url!r}"
        )
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise ConfigError("key: expected printable ASCII, as `FIRMPLAN_API_KEYS` of the server has it")
    for name, amount, least in (("timeout", timeout_s, "above 0"), ("retry_for", retry_for_s, "from 0 on")):
        if not (amount > 0 or (amount == 0 and name == "retry_for")):
            raise ConfigError(f"{name}: expected seconds, {least}, found {amount!r}")
    headers = {"Accept": "application/json", "User-Agent": "firmplan"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.strip()}"
    made = transport(base_url=f"{url.rstrip('/')}/", headers=headers)
    return Connection(made, url, timeout=timeout_s, retry_for=retry_for_s, on_retry=on_retry)


def _twin(
    method: Callable[Concatenate[Calls, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    """Return a coroutine method as a plain method."""

    @functools.wraps(method)
    def twin(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return finished(method(self._calls, *args, **kwargs))  # pyright: ignore[reportPrivateUsage]  # the twin is a method of Client

    return twin


def _iterating(
    method: Callable[Concatenate[Calls, P], AsyncGenerator[R]],
) -> Callable[Concatenate[Client, P], Iterator[R]]:
    """Return an asynchronous iterator as a plain one."""

    @functools.wraps(method)
    def twin(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return iterated(method(self._calls, *args, **kwargs))  # pyright: ignore[reportPrivateUsage]  # as above

    return twin


class Client:
    """A client of `firmplan serve`.

    Args:
        url: The server's address, such as `http://127.0.0.1:8000`; a path before `/v1` belongs to it.
        key: The bearer key; `None`: the server needs none.
        timeout: Seconds without a byte after which a request counts as lost.
        retry_for: Seconds for which a request is repeated after errors of the connection, 429 and 503; 0: it is made once.
        on_retry: Called before each pause, with the error and the seconds of the pause.

    Raises:
        ConfigError: The address or the key is none.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = TIMEOUT_S,
        retry_for: float = RETRY_FOR_S,
        on_retry: OnRetry | None = None,
    ) -> None:
        self._calls = Calls(_connection(BlockingTransport, url, key, timeout, retry_for, on_retry))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    submit = _twin(Calls.submit)
    wait = _twin(Calls.wait)
    run = _twin(Calls.run)
    get = _twin(Calls.get)
    events = _iterating(Calls.events)
    list_runs = _twin(Calls.list_runs)
    runs = _iterating(Calls.runs)
    delete = _twin(Calls.delete)
    waiting = _twin(Calls.waiting)
    approve = _twin(Calls.approve)
    deny = _twin(Calls.deny)
    answer = _twin(Calls.answer)
    resolve = _twin(Calls.resolve)
    decide = _twin(Calls.decide)
    cancel = _twin(Calls.cancel)
    resume = _twin(Calls.resume)
    retry = _twin(Calls.retry)
    fork = _twin(Calls.fork)
    replay = _twin(Calls.replay)
    explain = _twin(Calls.explain)
    explain_all = _twin(Calls.explain_all)
    diff = _twin(Calls.diff)
    verify = _twin(Calls.verify)
    export = _twin(Calls.export)
    artifact = _twin(Calls.artifact)
    download_artifact = _twin(Calls.download_artifact)
    save_artifact = _twin(Calls.save_artifact)
    preview_artifact = _twin(Calls.preview_artifact)
    stream_artifact = _iterating(Calls.stream_artifact)
    tracebacks = _twin(Calls.tracebacks)
    check = _twin(Calls.check)
    plans = _twin(Calls.plans)
    find_plan = _twin(Calls.find_plan)
    save_plan = _twin(Calls.save_plan)
    delete_plan = _twin(Calls.delete_plan)
    plan_history = _twin(Calls.plan_history)
    plan_version = _twin(Calls.plan_version)
    add_schedule = _twin(Calls.add_schedule)
    list_schedules = _twin(Calls.list_schedules)
    get_schedule = _twin(Calls.get_schedule)
    pause_schedule = _twin(Calls.pause_schedule)
    resume_schedule = _twin(Calls.resume_schedule)
    remove_schedule = _twin(Calls.remove_schedule)
    schedule_fires = _twin(Calls.schedule_fires)
    preview_schedule = _twin(Calls.preview_schedule)
    tools = _twin(Calls.tools)
    close = _twin(Calls.aclose)
