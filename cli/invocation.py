"""One invocation of a command: its settings, its tools, its engine, its answer, and the signals that stop it.

A first SIGINT or SIGTERM cancels the command, which closes the engine in order, so that the run can be resumed. A second signal
ends the process immediately.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..engine import Engine
from ..errors import ConfigError, RunNotFound, StoreError
from ..executor import Policy
from ..executor.calls.flow.policies import written_policy
from ..executor.stores.location import MEMORY, open_location
from ..planner import Planner
from ..telemetry.providers import set_up
from ..tools import Model, Models, Secret, Toolset
from ..tools.models.endpoint import OPENAI_URL, read_models
from . import screen
from .command import DISPATCHES
from .config import (
    COMMAND_LINE,
    SERVER_BUDGET_MAX,
    Settings,
    read_server_key,
    read_settings,
)
from .failure import Exit

if TYPE_CHECKING:
    from ..executor import RunOwner
    from ..tools.models.models import Spec
    from ..webhooks import Webhook
    from .remote import AnyEngine, RemoteEngine

RETRY_FOR_S = 30.0
"""Seconds for which a command asks a server again that does not answer."""
SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
NO_TOOLS = "no tools are loaded: name them with --tools, FIRMPLAN_TOOLS or firmplan.toml"
WORKER = "worker"
OPEN_AGAIN_S = 1.0
"""Seconds between two tries to reach servers that do not answer when a command starts."""
STOPPING_S = 0.5
"""Seconds after a signal until the command prints what it still waits for."""
STRAYS_S = 2.0
"""Seconds that tasks which are left at the end may take to clean up."""
STOPPING = "stopping once the write under way has ended; Ctrl-C again stops immediately and leaves the outcome of that write unknown"


class Documented(Protocol):
    """A value that has a JSON document, and a text for people as its `str`."""

    def to_dict(self) -> Mapping[str, Any]:
        """Return the document."""
        ...


class Invocation:
    """One call of a command.

    Args:
        flags: The shared options that the command takes; `None` where one was not given.
        as_json: Whether the answer is one JSON document.
        command: The command's words, for messages.
        at_server: Whether the command works at a server, too; `None`: it has nothing to do with one.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self,
        flags: Mapping[str, object],
        *,
        as_json: bool,
        command: str = "",
        at_server: bool | None = False,
    ) -> None:
        self.settings = read_settings(flags, os.environ, Path.cwd())
        self.as_json = as_json
        self._command = command
        self._at_server = at_server
        self._toolset: Toolset | None = None

    @property
    def server(self) -> str | None:
        """The address of the server at which this command works; `None`: it works on a store."""
        return self.settings.server if self._at_server else None

    @property
    def loaded_toolset(self) -> Toolset | None:
        """The tools, if this command has loaded them."""
        return self._toolset

    @property
    def toolset(self) -> Toolset:
        """The tools that the settings name, imported on first use; none where they name none. Raises: ConfigError."""
        if self._toolset is None:
            if self.server is not None:  # which has its own
                return Toolset()
            loaded = Toolset.load(self.settings.tools) if self.settings.tools else Toolset()
            for name, table in self.settings.openapi.items():
                with _entry_named(self.settings, "openapi", name):
                    described = Toolset.from_openapi(table.document, **table.settings())
                loaded += described
            trusting = loaded.with_default_trust(self.settings.default_trust)
            self._toolset = trusting.with_default_results(self.settings.results)
        return self._toolset

    def perform(self, work: Callable[..., Any], given: Mapping[str, Any], *, loads_tools: bool) -> int:
        """Call a command and return its exit code: 0 if it returns none.

        Args:
            work: The command; a coroutine function is run in an event loop.
            given: Its own arguments.
            loads_tools: Whether to import the tools before the loop starts.
        """
        if not gc.isenabled():  # `app.main` turned it off; what was imported counts as old, so that the next collection does not scan it
            gc.freeze()
            gc.unfreeze()
            gc.enable()
        if not inspect.iscoroutinefunction(work):
            return work(self, **given) or Exit.OK
        if loads_tools and self.server is None:
            _ = self.toolset
        return drive(lambda: work(self, **given)) or Exit.OK

    def answer(
        self, found: Documented | Mapping[str, Any], text: str | None = None, *, is_data: bool = False
    ) -> None:
        """Print the answer: the document with `--json`, else the text.

        Args:
            found: What has the document.
            text: The text; `str(found)` where it is not given.
            is_data: As of `screen.answer`.
        """
        if self.as_json:
            screen.document(found if isinstance(found, Mapping) else found.to_dict())
        else:
            screen.answer(str(found) if text is None else text, is_data=is_data)

    def note(self, text: str) -> None:
        """Print advice on stderr, except with `--json`."""
        if not self.as_json:
            screen.note(text)

    @asynccontextmanager
    async def engine(
        self,
        *,
        recover: bool = False,
        serves: bool = False,
        on_waiting: Callable[[RunOwner], None] | None = None,
        store: str | None = None,
        patience_s: float = 0.0,
    ) -> AsyncGenerator[Engine]:
        """Yield an open engine with the tools that this command has loaded.

        Args:
            recover: As of `Engine`.
            serves: Whether others hand in runs: then each run has a ceiling, also where the settings name none.
            on_waiting: As of `Engine`.
            store: A store instead of the one that the settings name.
            patience_s: How long to wait for servers of the store and the backend that do not answer.

        Raises:
            ConfigError: The store cannot be opened.
        """
        self._expect_no_server()
        settings = self.settings
        if store is None and settings.telemetry != "off":
            set_up(os.environ)
        # Not `self.toolset`: a command that needs no tools must not import a module of the user's here.
        engine = Engine(
            self._toolset or Toolset(),
            store=store or settings.store,
            backend=settings.backend if store is None and self._command in DISPATCHES else None,
            planner=planner_of(settings),
            models=models_of(settings),
            max_concurrency=settings.calls_max if self._command == WORKER else settings.concurrency,
            flow=settings.flow,
            secrets=secrets_of(settings),
            policies=_policies(settings),
            budget=settings.budget.amounts(),
            budget_max=self.budget_max(serves=serves),
            recover=recover,
            park_after=settings.park_after,
            lease=settings.lease,
            write_grace=settings.write_grace,
            rate_limits=settings.rate_limits,
            artifacts=settings.artifacts if store is None else None,
            approval_expires=settings.approval_expires,
            on_waiting=on_waiting,
            telemetry=settings.telemetry,
            webhooks=_webhooks(settings),
        )
        await _open(engine, patience_s)
        try:
            yield engine
        finally:
            await _close(engine)

    @asynccontextmanager
    async def look(self, *, on_waiting: Callable[[RunOwner], None] | None = None) -> AsyncGenerator[Engine]:
        """Yield an open engine for a command that makes no runs. A missing store is not made; it has no runs and no plans.

        Args:
            on_waiting: As of `Engine`.

        Raises:
            RunNotFound: A run was looked for where there is no store.
            ConfigError: The store cannot be opened.
        """
        self._expect_no_server()
        # A command that only looks must not leave an empty store behind, so a store in memory stands for the missing one.
        is_absent = not await self.is_store_there()
        try:
            async with self.engine(on_waiting=on_waiting, store=MEMORY if is_absent else None) as engine:
                yield engine
        except RunNotFound as error:
            if not is_absent:
                raise
            what = error.message.partition(" in the store ")[0]
            raise RunNotFound(
                f"{what}; there is no store at {self.settings.store_name} yet: name the one that has it with --store, FIRMPLAN_STORE or "
                "firmplan.toml"
            ) from error

    @asynccontextmanager
    async def reach(
        self, *, makes_runs: bool = False, on_waiting: Callable[[RunOwner], None] | None = None
    ) -> AsyncGenerator[AnyEngine]:
        """Yield what the command asks for runs and plans: an engine on the store, or the engine of a server.

        Args:
            makes_runs: Whether a missing store is made.
            on_waiting: As of `Engine`.

        Raises:
            ConfigError: The store cannot be opened, or an option is not for a server.
        """
        url = self.server
        if url is None:
            opened = self.engine(on_waiting=on_waiting) if makes_runs else self.look(on_waiting=on_waiting)
            async with opened as engine:
                yield engine
            return
        async with self.reach_server() as server:
            yield server

    @asynccontextmanager
    async def reach_server(self) -> AsyncGenerator[RemoteEngine]:
        """Yield the engine of the server that the settings name. Raises: ConfigError: an option is not for a server."""
        from .remote import RemoteEngine, RetryNote  # noqa: PLC0415  # loads an HTTP client

        url = self.server
        assert url is not None, "only commands at a server come here"
        self._refuse_engine_options(url)
        key, note = read_server_key(os.environ), RetryNote(RETRY_FOR_S)
        async with RemoteEngine(url, key=key, retry_for=RETRY_FOR_S, on_retry=note) as engine:
            yield engine

    def _refuse_engine_options(self, url: str) -> None:
        """Raise where an option of the command line is about an engine of this machine. Raises: ConfigError."""
        for name in ("tools", "model", "base_url", "concurrency"):
            if self.settings.origin(name) == COMMAND_LINE:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"{option} is for an engine of this machine: the server {url} has its own tools and models"
                )

    def _expect_no_server(self) -> None:
        """Raise where the settings name a server, and this command works on a store only. Raises: ConfigError."""
        if self.settings.server is not None and self._at_server is False:
            raise ConfigError(
                f"`firmplan {self._command}` works on a store of this machine, and {self.settings.origin('server')} names the server "
                f"{self.settings.server}: name a store with --store"
            )

    def budget_max(self, *, serves: bool) -> dict[str, float]:
        """Return the ceilings of a run's budget."""
        if not serves:
            return self.settings.budget_max.amounts()
        # A default that the settings name is meant, so that a ceiling which they do not name gives way to it.
        named = self.settings.budget.amounts()
        ceilings = {name: max(most, named.get(name, 0)) for name, most in SERVER_BUDGET_MAX.items()}
        return self.settings.budget_max.amounts(ceilings)

    async def is_store_there(self) -> bool:
        """Whether the store has been made already. Raises: ConfigError: it cannot be looked at."""
        with _store_errors():
            return await open_location(self.settings.store).is_there()


@contextmanager
def _store_errors() -> Generator[None]:
    """Turn an error of opening the store into a `ConfigError`: the command named the store, so the command has to change."""
    try:
        yield
    except StoreError as error:
        raise ConfigError(
            f"{error.message} (a store is named by --store, FIRMPLAN_STORE or firmplan.toml)",
            temporary=error.temporary,
        ) from error


async def _open(engine: Engine, patience_s: float) -> None:
    """Open an engine, and wait meanwhile for servers that do not answer. Raises: ConfigError: a setting is wrong, or the time is over."""
    began = time.monotonic()
    noted = ""
    while True:
        try:
            with _store_errors():
                await engine.__aenter__()
        except ConfigError as error:
            left_s = began + patience_s - time.monotonic()
            if not error.temporary or left_s <= 0:
                raise
            if error.message != noted:
                noted = error.message
                screen.note(f"waiting for up to {math.ceil(left_s)} s: {noted}")
            await asyncio.sleep(min(OPEN_AGAIN_S, left_s))
        else:
            return


def is_model_configured(settings: Settings) -> bool:
    """Whether the settings name a model; nothing is sent to it."""
    try:
        model_of(settings).resolve()
    except ConfigError:
        return False
    return True


async def _close(engine: Engine) -> None:
    """Close the engine, also if the command is cancelled meanwhile: runs are parked, and writes in flight are awaited."""
    # The shield lets the closing end although the command is cancelled: a run that is not released would count as lost with its process.
    closing = asyncio.ensure_future(engine.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise


def drive(
    work: Callable[[], Awaitable[int]],
    *,
    stopped: Exit | None = None,
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run a command's coroutine to its exit code; a signal cancels it.

    Args:
        work: The coroutine.
        stopped: The exit code after a signal; `None`: the signal decides it.
        new_loop: Makes the event loop; `None`: asyncio's own.
    """
    # Not `asyncio.run`, which waits without a limit for tasks that ignore their cancellation.
    runner = asyncio.Runner(loop_factory=new_loop)
    try:
        return runner.run(_until_signal(work, stopped))
    finally:
        if runner.run(_have_all_ended()):
            runner.close()
        else:  # closing would wait for them; the process ends all the same
            runner.get_loop().set_exception_handler(_say_nothing)


def _say_nothing(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Ignore errors of tasks that did not end when they were cancelled."""


async def _have_all_ended() -> bool:
    """Cancel the tasks that are left, and return whether all ended: a tool may ignore its cancellation."""
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
        # `call_soon` would not wake a loop that sleeps until its next event.
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


def model_of(settings: Settings, name: str | None = None) -> Model:
    """Return the model of a name: an alias of the file with all its settings and fallbacks, else a name at the endpoint of the settings.

    Args:
        settings: The settings.
        name: `None`: the model of the settings.

    Raises:
        ConfigError: The entry of the file is no model.
    """
    name = name or settings.model
    if name is None or name not in settings.models:
        return Model(name, base_url=settings.base_url)
    first, *others = read_models(f"models.{name} (in {settings.origin('models')})", settings.models[name])
    if not others:
        return first
    own = () if first.fallback is None else read_models("fallback", first.fallback)
    # As a fallback a bare name would be one at the endpoint of the first model; in a list of the file it is one at the usual endpoint.
    usual = os.environ.get("FIRMPLAN_BASE_URL") or OPENAI_URL
    others = [replace(each, base_url=usual) if each == Model(each.name) else each for each in others]
    return replace(first, fallback=[*own, *others])


def models_of(settings: Settings) -> Models:
    """Return the models of the settings: the aliases of the file, and `default` where a model was set; else the environment's. Raises: ConfigError."""
    aliases: dict[str, Spec] = dict(settings.models)
    if settings.model or settings.base_url:
        aliases.setdefault("default", model_of(settings))
    return Models(aliases or None, prices=settings.prices)


def planner_of(settings: Settings, name: str | None = None) -> Planner:
    """Return the planner of the settings; `name` is another model or alias. Raises: ConfigError."""
    options = settings.planner.options()
    if (small := options.get("small_model")) in settings.models:
        options["small_model"] = model_of(settings, small)
    return Planner(model_of(settings, name), **options).sharing(Models(prices=settings.prices).clients)


@contextmanager
def _entry_named(settings: Settings, setting: str, name: str = "") -> Generator[None]:
    """Name the entry of the file in the message of a `ConfigError`: what raises it knows only the value."""
    try:
        yield
    except ConfigError as fault:
        entry = f"{setting}.{name}" if name else setting
        raise ConfigError(f"{entry} (in {settings.origin(setting)}): {fault}") from fault


def _policies(settings: Settings) -> list[Policy]:
    """Return the policies of the file. Raises: ConfigError: one of them is at fault."""
    with _entry_named(settings, "policies"):
        return [written_policy(**table.model_dump()) for table in settings.policies]


def _webhooks(settings: Settings) -> list[Webhook]:
    """Return the webhooks of the file. Raises: ConfigError: one of them is not valid."""
    if not settings.webhooks:
        return []
    from ..webhooks import Webhook  # noqa: PLC0415  # only where there are webhooks

    made: list[Webhook] = []
    for name, table in settings.webhooks.items():
        old = table.previous_secret
        with _entry_named(settings, "webhooks", name):
            given: dict[str, Any] = {
                **dict(table),
                "secret": Secret(**table.secret.model_dump()),
                "previous_secret": Secret(**old.model_dump()) if old is not None else None,
            }
            made.append(Webhook(name=name, **given))
    return made


def secrets_of(settings: Settings) -> Mapping[str, Secret] | Literal["environment"]:
    """Return the secrets of the file. Raises: ConfigError: one of them has no source, or two."""
    if settings.secrets == "environment":
        return "environment"
    made: dict[str, Secret] = {}
    for name, table in settings.secrets.items():
        with _entry_named(settings, "secrets", name):
            made[name] = Secret(**table.model_dump())
    return made
