"""The HTTP application: an engine behind documented routes.

`create_app` takes an open engine and does not close it. `serve` runs the application on a socket until a signal; without API keys it
serves only the loopback interface, because then every client may start runs. Errors are answered as `application/problem+json`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import version
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipResponder, IdentityResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override
from uvicorn.config import LOGGING_CONFIG

from ..engine import Engine
from ..errors import ConfigError, FirmplanError, StoreError
from ..tools.logbook import is_json, render_others_as_json
from ..tools.secret import OPEN_ENVIRONMENT
from . import connections
from .auth import Guard, ServerLimits, heads_of
from .callers import KeyRing
from .connections import BoundedProtocol
from .description import describe, operation_id
from .metrics import Metrics
from .page import page_router
from .problems import on_bad_request, on_firmplan_error, on_http_error
from .request_log import HEALTH, RequestLog
from .routes.artifacts import artifact_router
from .routes.inbox import inbox_router
from .routes.plans import plan_router
from .routes.reviews import review_router
from .routes.runs import ServedEngine, run_router, step_router, submission_router, watch_router
from .routes.schedules import drive_schedules, schedule_router
from .routes.webhooks import deliver, webhook_router
from .run_queue import RunQueue

GZIP_BYTES_MIN = 4_096
"""Bytes from which an answer is compressed for clients that take it."""
GZIP_LEVEL = 4
"""Level of the compression: higher ones save little more of JSON, and cost much more time."""
DESCRIPTION = "Submit plans and tasks, follow their runs, decide what waits for a person."


ROUTERS: Final = (
    submission_router,
    run_router,
    inbox_router,
    review_router,
    step_router,
    plan_router,
    artifact_router,
    schedule_router,
    webhook_router,
    watch_router,
    page_router,
)
"""Every route, in the order in which they are tried: submissions, of which a busy server gets most, come first."""


def create_app(  # noqa: PLR0913  # the settings of a server
    engine: Engine,
    *,
    api_keys: Sequence[str] = (),
    named_keys: Mapping[str, str] | None = None,
    limits: ServerLimits | None = None,
    hosts: Sequence[str] = (),
    closing: asyncio.Event | None = None,
    draining: asyncio.Event | None = None,
    drives_schedules: bool = True,
    needs_key: bool | None = None,
) -> FastAPI:
    """Return the application for an open engine.

    Args:
        engine: The engine, opened and closed by the caller.
        api_keys: Bearer keys without a name that are accepted; with no keys at all, every client is accepted.
        named_keys: Name of a person or program -> its bearer key. The name is recorded with its runs and decisions, and may not approve calls of its
            own runs.
        limits: Body size, queue and rate.
        hosts: Names in the `Host` header that are answered; with none, all.
        closing: Set by the caller when the server goes down, so that open event streams end.
        draining: Set by the caller when the server is about to go down, so that `/readyz` answers 503; everything else still works.
        drives_schedules: Whether this server starts the runs of schedules.
        needs_key: Whether the description says that requests need a key; `None`: if keys are given here. The store may have others.

    Raises:
        ConfigError: The engine opens the environment to plans, which here come from clients.
    """
    if engine.opens_environment:
        raise ConfigError(OPEN_ENVIRONMENT)
    limits = limits or ServerLimits()
    served = _served(engine, limits, closing or asyncio.Event(), draining or asyncio.Event())
    app = FastAPI(
        title="firmplan",
        version=version("firmplan"),
        description=DESCRIPTION,
        lifespan=_lifespan(served, drives_schedules=drives_schedules),
        # The framework's documentation pages load scripts from other sites.
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
        generate_unique_id_function=operation_id,
        # Where this process exports traces, the framework makes a span of each request, and runs continue its trace. Its spans of the steps
        # of a request would hide those of the runs, and its logs quote what clients sent.
        telemetry={
            "auto_configure": False,
            "operation_spans": False,
            "logs": False,
            "exclude": lambda scope: scope["path"] in HEALTH,
        },
    )
    app.state.served = served
    for part in ROUTERS:
        app.include_router(part)
    needs_key = bool(api_keys or named_keys) if needs_key is None else needs_key
    app.openapi = describe(app, needs_key=needs_key)  # type: ignore[method-assign]  # as the framework documents it
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(FirmplanError, on_firmplan_error)
    # The middleware that is added last gets a request first.
    app.add_middleware(Compression)
    app.add_middleware(Guard, keys=KeyRing(engine, api_keys, named_keys), hosts=hosts, limits=limits)
    app.add_middleware(RequestLog, metrics=served.metrics)
    return app


def _served(
    engine: Engine, limits: ServerLimits, closing: asyncio.Event, draining: asyncio.Event
) -> ServedEngine:
    """Return an engine with what a server has beside it: the queue of its runs, and its counters."""
    metrics = Metrics()
    engine.observe(metrics)
    return ServedEngine(engine, RunQueue(engine, limits, metrics), metrics, closing, draining)


def _lifespan(
    served: ServedEngine, *, drives_schedules: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what a server does in the background for as long as it serves: decisions, schedules, webhooks."""
    engine = served.engine

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with suppress(StoreError):  # `/readyz` says that the store cannot be read
            for saved in await engine.list_plans():
                served.metrics.name_plan(saved.plan.digest, saved.name)
        background = [asyncio.create_task(served.queue.watch(), name="firmplan decisions outside the server")]
        if drives_schedules:
            background.append(asyncio.create_task(drive_schedules(served), name="firmplan schedules"))
        background += [
            asyncio.create_task(deliver(engine, each.name), name="firmplan webhooks")
            for each in engine.webhooks
        ]
        yield
        served.closing.set()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await served.queue.close()

    return lifespan


class Compression:
    """ASGI middleware that compresses large answers, and no event streams. The framework's own looks at every answer for as long as a small one takes to be made.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        pass_on: Send | None = None

        async def compress(message: Message) -> None:
            nonlocal pass_on
            if pass_on is None:
                pass_on = send if _is_small(message) else self._compressing(scope, send)
            await pass_on(message)

        await self._app(scope, receive, compress if scope["type"] == "http" else send)

    def _compressing(self, scope: Scope, send: Send) -> Send:
        """Return what compresses an answer, as the framework's middleware would, or says that it could be compressed."""
        responder = (
            GZipResponder(self._app, GZIP_BYTES_MIN, GZIP_LEVEL)
            if "gzip" in heads_of(scope).get("accept-encoding", "")
            else IdentityResponder(self._app, GZIP_BYTES_MIN)
        )
        responder.send = send
        return responder.send_with_compression


def _is_small(message: Message) -> bool:
    """Whether an answer begins that says itself that it is too small to be compressed."""
    for name, value in message.get("headers", ()):
        if name == b"content-length":
            return int(value) < GZIP_BYTES_MIN
    return False


GRACE_S = 10
"""Seconds that open requests get to finish once the port is closed."""
DRAIN_S = 1.0
"""Seconds between SIGTERM and the end of the port, unless the caller of `serve` says otherwise."""
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class _Server(uvicorn.Server):
    """A server that says that it is about to stop before it closes its port, and ends its event streams before it waits for open requests.

    Args:
        config: As of uvicorn.
        closing: Set when the port is about to close.
        draining: Set at the signal.
        drain_s: Seconds between the two.
    """

    def __init__(
        self, config: uvicorn.Config, closing: asyncio.Event, draining: asyncio.Event, drain_s: float
    ) -> None:
        super().__init__(config)
        self._closing = closing
        self._draining = draining
        self._drain_s = drain_s

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # the second signal: immediately, whatever is under way
            os._exit(128 + sig)
        if sig == signal.SIGINT:  # a person at a terminal, and no load balancer that has to notice
            self._drain_s = 0.0
        self._draining.set()
        super().handle_exit(sig, frame)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A load balancer still sends requests until it has seen the 503 of `/readyz`; a port that is closed before that fails these requests.
        await asyncio.sleep(self._drain_s)
        # uvicorn waits for open requests, and an event stream is one that does not end by itself.
        self._closing.set()
        await super().shutdown(sockets)


async def serve(  # noqa: PLR0913  # the settings of a server
    engine: Engine,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_keys: Sequence[str] = (),
    named_keys: Mapping[str, str] | None = None,
    limits: ServerLimits | None = None,
    on_bound: Callable[[str], None] = lambda _: None,
    drain_s: float = DRAIN_S,
    drives_schedules: bool = True,
    proxies: Sequence[str] = (),
) -> None:
    """Serve an open engine until SIGINT or SIGTERM; runs under way stay resumable. A second signal ends the process at once.

    Args:
        engine: The engine, opened and closed by the caller.
        host: The interface; anything but loopback needs API keys.
        port: The port; 0 takes a free one.
        api_keys: Bearer keys without a name that are accepted.
        named_keys: As of `create_app`.
        limits: Body size, queue and rate.
        on_bound: Called with the server's URL once clients can connect.
        drain_s: Seconds after SIGTERM in which the server still answers everything, but `/readyz` with 503.
        drives_schedules: As of `create_app`.
        proxies: Addresses and networks of the proxies before this server: only their `X-Forwarded-For` says where a request comes from.

    Raises:
        ConfigError: A proxy is no address and no network, there are no keys for a public interface, or the address cannot be bound.
    """
    needs_key = bool(api_keys or named_keys or await engine.list_keys())
    check_exposure(host, has_keys=needs_key)
    check_proxies(proxies)
    closing, draining = asyncio.Event(), asyncio.Event()
    hosts = () if needs_key else (*LOOPBACK_NAMES, host)
    app = create_app(
        engine,
        api_keys=api_keys,
        named_keys=named_keys,
        limits=limits,
        hosts=hosts,
        closing=closing,
        draining=draining,
        drives_schedules=drives_schedules,
        needs_key=needs_key,
    )
    await serve_app(
        app,
        host=host,
        port=port,
        closing=closing,
        draining=draining,
        on_bound=on_bound,
        drain_s=drain_s,
        proxies=proxies,
    )


async def serve_app(  # noqa: PLR0913  # the settings of a server
    app: ASGIApp,
    *,
    host: str,
    port: int,
    closing: asyncio.Event,
    draining: asyncio.Event,
    on_bound: Callable[[str], None],
    drain_s: float = 0.0,
    proxies: Sequence[str] = (),
) -> None:
    """Serve any application until SIGINT or SIGTERM, as `serve` does.

    Args:
        app: The application, with its checks before it.
        host: The interface.
        port: The port; 0 takes a free one.
        closing: Set when the port is about to close: streams that do not end by themselves end then.
        draining: Set at the signal.
        on_bound: Called with the server's URL once clients can connect.
        drain_s: Seconds between the two.
        proxies: As of `serve`.

    Raises:
        ConfigError: The address cannot be bound.
    """
    bound = _bind(host, port)
    if as_json := is_json():
        render_others_as_json()
    config = uvicorn.Config(
        app,
        log_level="warning",
        log_config=None if as_json else LOGGING_CONFIG,
        access_log=False,  # `request_log.py` writes it
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=connections.IDLE_S_MAX,
        server_header=False,
        http=BoundedProtocol,
        # uvicorn would take the word of anybody on this machine for where a request came from.
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[str(proxy) for proxy in proxies],
    )
    with bound:
        on_bound(_url(host, bound.getsockname()[1]))
        await _Server(config, closing, draining, drain_s).serve(sockets=[bound])


def find_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop that serves fastest: uvloop's, where it is installed; `None`: asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  # there is none for Windows and PyPy
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


def check_exposure(host: str, *, has_keys: bool) -> None:
    """Refuse to serve other machines without keys.

    Raises:
        ConfigError: The host is not loopback and there are no keys.
    """
    if not has_keys and not is_loopback(host):
        raise ConfigError(
            f"host {host!r} can be reached from other machines, and no API keys are set: expected a loopback host such "
            "as 127.0.0.1, a key in the store (firmplan keys add NAME --scope read), or keys in FIRMPLAN_API_KEYS (comma separated)"
        )


def check_proxies(proxies: Sequence[str]) -> None:
    """Refuse what is no address of a proxy. Raises: ConfigError."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError as fault:
            raise ConfigError(
                f"proxies: expected an address such as 10.0.0.5 or a network such as 10.0.0.0/24, found {proxy!r}"
            ) from fault


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that a busy port is an error before anything starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol, asyncio does not see that connections are TCP, and leaves Nagle's algorithm on: a client that delays its
    # acknowledgements then gets the body of an answer 40 ms after the head.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
        bound.listen(2048)
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error}; choose another --host or --port"
        ) from error
    return bound


def _url(host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{name}:{port}"
