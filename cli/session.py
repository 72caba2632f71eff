"""One command's use of an engine: opened from settings, closed whatever happens, stopped by a signal.

A first SIGINT or SIGTERM cancels the command, which closes the engine in order, so that the run can be resumed; a
second one ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine import Engine
from ..errors import ConfigError, RunNotFound, StoreError
from ..executor.stores.location import MEMORY, open_location
from ..planner import Planner
from ..tools import Model, Toolset
from . import screen
from .config import Settings, read_settings
from .failure import Exit

if TYPE_CHECKING:
    from ..executor import RunOwner
    from ..tools.models.models import Spec

SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
NO_TOOLS = "no tools are loaded: name them with --tools, FIRMPLAN_TOOLS or firmplan.toml"
STOPPING_S = 0.5
"""After this long a command that was told to stop says what it still waits for."""
STRAYS_S = 2.0
"""How long what is left at the end may tidy up."""
STOPPING = "stopping once the write under way has ended; Ctrl-C again stops at once, and then nobody knows what became of it"


def settings_of(flags: Mapping[str, object]) -> Settings:
    """Return the settings of this process: its flags, its environment, its folder."""
    return read_settings(flags, os.environ, Path.cwd())


def load_toolset(settings: Settings) -> Toolset:
    """Return the tools that the settings name; none where they name none."""
    return Toolset.load(settings.tools) if settings.tools else Toolset()


def is_model_configured(settings: Settings) -> bool:
    """Whether there is a model to ask, as far as settings say it: nothing is asked."""
    try:
        Model(settings.model, base_url=settings.base_url).resolve()
    except ConfigError:
        return False
    return True


@asynccontextmanager
async def open_engine(
    settings: Settings,
    toolset: Toolset | None = None,
    *,
    recover: bool = False,
    on_waiting: Callable[[RunOwner], None] | None = None,
) -> AsyncGenerator[Engine]:
    """Yield an open engine.

    Args:
        settings: What it is made with.
        toolset: Its tools.
        recover: As of `Engine`.
        on_waiting: As of `Engine`.

    Raises:
        ConfigError: The store cannot be opened.
    """
    engine = Engine(
        toolset or Toolset(),
        store=settings.store,
        planner=Planner(settings.model, base_url=settings.base_url, **settings.planner),
        models=_models(settings),
        max_concurrency=settings.concurrency,
        flow=settings.flow,
        recover=recover,
        park_after=settings.park_after,
        lease=settings.lease,
        on_waiting=on_waiting,
    )
    with _named_store():
        await engine.__aenter__()
    try:
        yield engine
    finally:
        await _closed(engine)


async def is_store_there(settings: Settings) -> bool:
    """Whether the store has been made already. Raises: ConfigError: the setting names no store, or none that can be looked at."""
    with _named_store():
        return await open_location(settings.store).is_there()


@contextmanager
def _named_store() -> Generator[None]:
    """Tell a store that cannot be opened as a setting's fault: the command named it, so the command has to change."""
    try:
        yield
    except StoreError as error:
        raise ConfigError(
            f"{error.message} (a store is named by --store, FIRMPLAN_STORE or firmplan.toml)"
        ) from error


@asynccontextmanager
async def look(
    settings: Settings,
    toolset: Toolset | None = None,
    *,
    on_waiting: Callable[[RunOwner], None] | None = None,
) -> AsyncGenerator[Engine]:
    """Yield an open engine for a command that makes no runs: where there is no store yet, none is made, and nothing is found.

    Args:
        settings: What it is made with.
        toolset: Its tools.
        on_waiting: As of `Engine`.

    Raises:
        RunNotFound: A run was looked for where there is no store.
        ConfigError: The store cannot be opened.
    """
    is_absent = not await is_store_there(settings)
    used = replace(settings, store=MEMORY) if is_absent else settings
    try:
        async with open_engine(used, toolset, on_waiting=on_waiting) as engine:
            yield engine
    except RunNotFound as fault:
        if not is_absent:
            raise
        what = fault.message.partition(" in the store ")[0]
        raise RunNotFound(
            f"{what}; there is no store at {settings.store_name} yet: name the one that has it with --store, FIRMPLAN_STORE or "
            "firmplan.toml"
        ) from fault


async def _closed(engine: Engine) -> None:
    """Close the engine in order, also if the command is cancelled meanwhile: runs are parked, writes in flight are waited for."""
    closing = asyncio.ensure_future(engine.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise


def drive(work: Callable[[], Awaitable[int]], *, stopped: Exit | None = None) -> int:
    """Run a command's coroutine to its exit code; a signal cancels it and, unless `stopped` is given, decides the code."""
    runner = asyncio.Runner()
    try:
        return runner.run(_until_signal(work, stopped))
    finally:
        if runner.run(_have_all_ended()):
            runner.close()
        else:  # closing would wait for them; the process ends all the same
            runner.get_loop().set_exception_handler(_say_nothing)


def _say_nothing(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Leave untold what becomes of tasks that did not heed their cancel."""


async def _have_all_ended() -> bool:
    """Cancel what is left, and return whether it heeds that: a tool may not."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    return not left or not (await asyncio.wait(left, timeout=STRAYS_S))[1]


async def _until_signal(work: Callable[[], Awaitable[int]], stopped: Exit | None) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work())
    codes: list[int] = []

    def begin() -> None:
        task.cancel()
        loop.call_later(STOPPING_S, screen.note, STOPPING)

    def stop(number: int, _: object) -> None:
        code = SIGNALS[signal.Signals(number)]
        if codes:  # whatever is under way: the journal is made for it
            os._exit(code)
        codes.append(code)
        loop.call_soon_threadsafe(begin)

    before = {}
    with suppress(ValueError):  # not the main thread: signals are somebody else's
        # Python's own handlers, not the loop's: a tool that blocks the loop must not keep a second signal from being heard.
        before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        return await task
    except asyncio.CancelledError:
        if not codes:
            raise
        return codes[0] if stopped is None else stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _models(settings: Settings) -> Mapping[str, Spec] | None:
    """Return the model aliases: those of the file, and `default` where a model was set; else the environment's."""
    aliases: dict[str, Spec] = dict(settings.models)
    if settings.model or settings.base_url:
        aliases.setdefault("default", Model(settings.model, base_url=settings.base_url))
    return aliases or None
