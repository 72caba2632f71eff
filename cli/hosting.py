"""`serve`: the HTTP API over one engine, until a signal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..engine import Engine
from ..errors import ConfigError
from ..executor.runs.archive import UNDER_WAY
from . import screen
from .config import read_keys
from .failure import Exit
from .session import drive, load_toolset, open_engine, settings_of

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """Where to listen, and how much to take."""

    host: str
    port: int
    queue: int
    rate_per_s: float
    body_mib: int


def serve_command(request: ServeRequest, flags: Mapping[str, object]) -> int:
    """Serve until SIGINT or SIGTERM; runs under way stay resumable, and those of a dead server go on here.

    Raises:
        ConfigError: The extra `server` is not installed, or the address cannot be used.
    """
    try:
        from ..service.guard import Limits  # noqa: PLC0415  # FastAPI is an extra
        from ..service.serving import serve  # noqa: PLC0415  # FastAPI is an extra
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"serving needs the package '{missing.name}', which is not installed: pip install 'firmplan[server]'"
        ) from missing
    settings = settings_of(flags)
    toolset = load_toolset(settings)
    limits = Limits(body_bytes=request.body_mib * MIB, queue=request.queue, rate_per_s=request.rate_per_s)
    keys = read_keys(os.environ)

    def announce(url: str) -> None:
        screen.note(f"firmplan serves {screen.plural(len(toolset.names), 'tool')} at {url}")
        if not keys:
            screen.note("no FIRMPLAN_API_KEYS are set: only this machine is served, and it needs no key")
        screen.note(f"store {settings.store_name} · API description {url}/openapi.json · Ctrl-C ends")

    async def work() -> int:
        async with open_engine(settings, toolset, recover=True) as engine:
            try:
                await serve(
                    engine,
                    host=request.host,
                    port=request.port,
                    api_keys=keys,
                    limits=limits,
                    on_bound=announce,
                )
                await asyncio.sleep(0)  # the signal that ended it reaches this command only now
            except asyncio.CancelledError:
                await _tell_kept(engine)
                raise
        return Exit.OK

    return drive(work, stopped=Exit.OK)


async def _tell_kept(engine: Engine) -> None:
    """Say that runs under way are kept, if there are any."""
    kept = [each for status in UNDER_WAY for each in (await engine.list_runs(status=status)).runs]
    if kept:
        count = screen.plural(len(kept), "run")
        screen.note(f"stopped; {count} under way kept: the next server goes on there, or `firmplan resume`")
