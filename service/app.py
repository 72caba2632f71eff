"""The HTTP application: an engine behind documented routes.

`create_app` takes an engine that is open already and does not close it; `serve` (serving.py) owns both. Everything a
client can get wrong is answered as `application/problem+json`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..engine import Engine
from ..errors import FirmplanError
from . import plan_routes, run_routes, step_routes, watch_routes
from .guard import Guard, Limits
from .hosting import Hosting
from .intake import Intake
from .metrics import Counted, Metrics
from .problems import on_bad_request, on_bug, on_firmplan_error, on_http_error

DESCRIPTION = "Submit plans and tasks, follow their runs, decide what waits for a person."


def create_app(
    engine: Engine,
    *,
    api_keys: Sequence[str] = (),
    limits: Limits | None = None,
    hosts: Sequence[str] = (),
    closing: asyncio.Event | None = None,
) -> FastAPI:
    """Return the application for an open engine.

    Args:
        engine: What runs everything; opened and closed by the caller.
        api_keys: Bearer keys that are accepted; with none, every client is.
        limits: Body size, queue and rate.
        hosts: Names in the `Host` header that are answered; with none, all.
        closing: Set by the caller when the server goes down, so that open event streams end.
    """
    limits = limits or Limits()
    metrics = Metrics()
    hosting = Hosting(engine, Intake(engine, limits, metrics), metrics, closing or asyncio.Event())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        watching = asyncio.create_task(hosting.intake.watch(), name="firmplan decisions beside the server")
        yield
        hosting.closing.set()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await hosting.intake.close()

    app = FastAPI(
        title="firmplan",
        version=version("firmplan"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # The documentation pages that the framework offers load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,
    )
    app.state.hosting = hosting
    for part in (run_routes, step_routes, plan_routes, watch_routes):
        app.include_router(part.router)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(FirmplanError, on_firmplan_error)
    app.add_exception_handler(Exception, on_bug)
    # The middleware that is added last stands first.
    app.add_middleware(Guard, api_keys=api_keys, hosts=hosts, limits=limits)
    app.add_middleware(Counted, metrics=metrics)
    return app
