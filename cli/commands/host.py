"""The commands about this machine: serve the HTTP API or MCP, show a demonstration, and diagnose the installation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import ConfigError, FirmplanError
from .. import screen
from ..command import MOVES, PLANS, CommandGroup
from ..failure import Exit

if TYPE_CHECKING:
    from ...engine import Engine
    from ...executor.calls.running.resources import ResourceTrial
    from ..invocation import Invocation

commands = CommandGroup()
PORT_MAX = 65535
MCP_WAIT_S = 45.0
"""Most MCP clients give up on a call after a minute."""


@commands.command(
    uses=(*MOVES, "backend"), has_json=False, at_server=None, example="--tools tools.py --port 8000"
)
def serve(
    invocation: Invocation,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option("-p", min=0, max=65535)] = 8000,
    queue: Annotated[int, typer.Option(min=1)] = 1000,
    rate: Annotated[float, typer.Option(min=0.1)] = 50.0,
    body_limit: Annotated[int, typer.Option(min=1)] = 16,
    schedules: bool = True,
    start_timeout: Annotated[int, typer.Option(min=0, max=86_400)] = 60,
) -> int:
    """Serve the HTTP API and the web page. Keys come from `firmplan keys` and FIRMPLAN_API_KEYS.

    Args:
        host: Interface; any but loopback needs API keys.
        port: Port; 0 takes a free one.
        queue: Most runs queued or running.
        rate: Requests per second and client.
        body_limit: Largest request body, in MiB.
        schedules: Whether this server starts the runs of schedules.
        start_timeout (SECONDS): Wait this long for a store or a backend that does not answer at the start; a wrong setting fails immediately.
    """
    import asyncio

    from ..config import read_keys
    from ..invocation import drive

    try:
        from ...service import ServerBudget, ServerLimits, find_loop
        from ...service import serve as serve_http
    except ModuleNotFoundError as missing:
        raise _missing_extra("serving", "server", missing) from missing
    toolset, store = invocation.toolset, invocation.settings.store_name
    spent = invocation.settings.server_budget
    has_budget = spent.usd is not None or spent.tokens is not None
    limits = ServerLimits(
        body_bytes=body_limit * 1024 * 1024,
        queue=queue,
        rate_per_s=rate,
        budget=ServerBudget(**dict(spent)) if has_budget else None,
    )
    keys = read_keys(os.environ)
    has_keys = bool(keys)

    def announce(url: str) -> None:
        screen.note(f"firmplan serves {screen.plural(len(toolset.names), 'tool')} at {url}")
        if not has_keys:
            screen.note(
                "no FIRMPLAN_API_KEYS are set, and no keys are in the store: only this machine is served, and it needs no key"
            )
        if ceilings := invocation.budget_max(serves=True):
            limits_text = ", ".join(f"{name}={amount:g}" for name, amount in ceilings.items())
            screen.note(f"each run waits at the latest at {limits_text}")
        if has_budget:
            amounts = ", ".join(f"{name}={amount}" for name, amount in spent if amount is not None)
            screen.note(f"no new work is taken once all runs have spent {amounts}")
        screen.note(f"store {store} · API description {url}/openapi.json · Ctrl-C ends")

    async def work() -> int:
        # With a backend, workers drive and recover.
        recovers = invocation.settings.backend is None
        async with invocation.engine(recover=recovers, serves=True, patience_s=start_timeout) as engine:
            nonlocal has_keys
            has_keys = has_keys or bool(await engine.list_keys())
            try:
                await serve_http(
                    engine,
                    host=host,
                    port=port,
                    api_keys=keys,
                    limits=limits,
                    on_bound=announce,
                    drain_s=invocation.settings.drain,
                    drives_schedules=schedules,
                    proxies=invocation.settings.proxies,
                )
                await asyncio.sleep(0)  # the signal that ended the server reaches this command only now
            except asyncio.CancelledError:
                await _note_kept(engine)
                raise
        return Exit.OK

    return drive(work, stopped=Exit.OK, new_loop=find_loop())


@commands.command(
    uses=(*MOVES, "backend", "slots"),
    has_json=False,
    at_server=None,
    example="--tools tools.py --store postgresql://db/runs --backend temporal://host:7233/default",
)
def worker(
    invocation: Invocation,
    queue: str | None = None,
    start_timeout: Annotated[int, typer.Option(min=0, max=86_400)] = 60,
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    metrics_host: str = "127.0.0.1",
) -> int:
    """Drive the runs that a backend hands to this process. SIGTERM parks them, so that other workers go on at once.

    Args:
        queue (NAME): Drive no runs, but make the calls of the tools with this queue (`@tool(queue=..)`), `slots` at a time.
        start_timeout (SECONDS): Wait this long for a store or a backend that does not answer at the start; a wrong setting fails immediately.
        metrics_port: Serve metrics for Prometheus on this port, at /metrics; 0 takes a free one.
        metrics_host: Interface of the metrics, which need no key.
    """
    from ...executor.journal.toolset_lock import digest_of_toolset
    from ...executor.stores.location import shown
    from ...plans.reports.nearest import listing
    from ..invocation import drive

    settings, tools = invocation.settings, invocation.toolset
    if (backend := settings.backend) is None:
        raise ConfigError(
            "a worker drives the runs of a backend, and none is named: expected --backend temporal://host:port/namespace, FIRMPLAN_BACKEND or "
            "`backend` in firmplan.toml. Without a backend, `firmplan serve` drives its runs itself"
        )

    async def work() -> int:
        async with invocation.engine(serves=True, patience_s=start_timeout) as engine:
            slots = screen.plural(settings.slots, "run" if queue is None else "call")
            queues: dict[str, list[str]] = {}
            for tool in tools:
                if tool.queue is not None:
                    queues.setdefault(tool.queue, []).append(tool.name)
            if queue is None:
                count = screen.plural(len(tools.names), "tool")
                screen.note(f"firmplan drives up to {slots} at a time with {count}")
            elif queue in queues:
                screen.note(f"firmplan makes up to {slots} at a time of {listing(queues[queue])}")
            screen.note(f"toolset {digest_of_toolset(tools)}")
            for name in sorted(queues) if queue is None else ():
                screen.note(f"queue {name}: {listing(queues[name])}, by `firmplan worker --queue {name}`")
            if queue is None and settings.calls_max < settings.slots:
                screen.note(
                    f"concurrency is {settings.calls_max}, less than slots: runs will wait for each other's calls"
                )
            with _metrics_of(engine, settings.slots, metrics_host, metrics_port):
                screen.note(f"backend {shown(backend)} · store {settings.store_name} · Ctrl-C ends")
                await engine.work(slots=settings.slots, queue=queue)
        return Exit.OK

    return drive(work, stopped=Exit.OK)


@contextmanager
def _metrics_of(engine: Engine, slots: int, host: str, port: int | None) -> Generator[None]:
    """Serve what a worker counts, if a port is given."""
    if port is None:
        yield
        return
    try:
        from ...service.metrics import Metrics, exposed
    except ModuleNotFoundError as missing:
        raise _missing_extra("serving metrics", "server", missing) from missing
    metrics = Metrics(slots)
    engine.observe(metrics)
    with exposed(metrics, host, port) as url:
        screen.note(f"metrics at {url}")
        yield


async def _note_kept(engine: Engine) -> None:
    """Print how many runs are under way; they are kept."""
    from ...executor.states import UNDER_WAY

    kept = [each for status in UNDER_WAY for each in (await engine.list_runs(status=status)).runs]
    if kept:
        count = screen.plural(len(kept), "run")
        screen.note(f"stopped; {count} under way kept: the next server continues there, or `firmplan resume`")


def _missing_extra(what: str, extra: str, missing: ModuleNotFoundError) -> ConfigError:
    return ConfigError(
        f"{what} needs the package '{missing.name}', which is not installed: pip install 'firmplan[{extra}]'"
    )


@commands.command(uses=("model", "base_url"), has_json=False, at_server=None, example="--folder licences")
def demo(invocation: Invocation, folder: Path | None = None) -> int:
    """Demonstrate the main job on an audit of licences. Plan, check, repair, run, reuse, replay.

    Args:
        folder (FOLDER): Where the report and the store go; default: a new folder.
    """
    from ...demo.demo import show

    return show(folder, invocation.settings)


@commands.command(uses=MOVES, has_json=False, at_server=None, example="--tools tools.py --store runs.db")
def mcp(
    invocation: Invocation,
    wait: Annotated[float, typer.Option(min=0)] = MCP_WAIT_S,
    no_elicit: bool = False,
    http: str | None = None,
) -> int:
    """Serve firmplan to MCP clients, over stdio or HTTP. They check and run plans; each saved plan is a tool.

    Args:
        wait (SECONDS): How long a call waits for a run to end.
        no_elicit: Do not ask a person through the client what a run waits for; the answer has the commands.
        http (HOST:PORT): Serve streamable HTTP there; any host but loopback needs keys in FIRMPLAN_API_KEYS. Port 0 takes a free one.
    """
    from ...tools.secret import ENVIRONMENT, OPEN_ENVIRONMENT

    if invocation.settings.secrets == ENVIRONMENT:
        raise ConfigError(OPEN_ENVIRONMENT)
    try:
        from ..mcp import serve_stdio
    except ModuleNotFoundError as missing:
        raise _missing_extra("serving MCP", "mcp", missing) from missing
    if http is None:
        return serve_stdio(invocation, wait, elicits=not no_elicit)
    return _mcp_over_http(invocation, http, wait, elicits=not no_elicit)


def _mcp_over_http(invocation: Invocation, address: str, wait_s: float, *, elicits: bool) -> int:
    from ..config import read_keys

    try:
        from ...service import ServerLimits
        from ..mcp.http_server import serve_http
    except ModuleNotFoundError as missing:
        raise _missing_extra("serving MCP over HTTP", "server", missing) from missing
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > PORT_MAX:
        raise ConfigError(f"--http: expected HOST:PORT such as 127.0.0.1:8100, found {address!r}")
    keys = read_keys(os.environ)

    def announce(url: str) -> None:
        screen.note(f"firmplan serves MCP at {url}")
        if not keys:
            screen.note("no FIRMPLAN_API_KEYS are set: only this machine is served, and it needs no key")

    return serve_http(
        invocation,
        host or "127.0.0.1",
        int(port),
        wait_s,
        api_keys=keys,
        limits=ServerLimits(),
        on_bound=announce,
        elicits=elicits,
    )


class Shell(StrEnum):
    """The shells that a script is made for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@commands.command(at_server=None, example="bash")
def completion(invocation: Invocation, shell: Shell) -> None:
    """Print the script by which a shell completes lines. It completes commands, options, runs, steps and plans.

    Args:
        shell: The shell that loads it, such as in ~/.bashrc, in ~/.zshrc after compinit, or as ~/.config/fish/completions/firmplan.fish.
    """
    from ..app import app
    from ..completion import script_of

    script = script_of(app, shell.value)
    invocation.answer({"shell": shell.value, "script": script}, script, is_data=True)


# --- doctor: each diagnosis is one line. Nothing is changed. No model is asked, unless `--probe` asks for it.

PACKAGES = ("pydantic", "networkx", "instructor", "openai", "tenacity", "structlog")
EXTRAS = {"server": "fastapi", "postgres": "psycopg", "mcp": "mcp"}
MARKS = {True: "ok", False: "!!", None: "--"}
SQLITE_MIN = (3, 37)  # STRICT tables


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, and whether it is well; `ok` is `None` where nothing can be right or wrong."""

    what: str
    ok: bool | None
    found: str
    advice: str = ""


@commands.command(uses=PLANS, at_server=None, example="--tools tools.py")
def doctor(invocation: Invocation, probe: bool = False) -> int:
    """Diagnose the installation and the settings. Where something is wrong, say what to do.

    Args:
        probe: Find out what the model's endpoint can do (modes, tool calls, streams, usage), and suggest its settings: at most eight tiny requests, and two for plans that say which profile suits it.
    """
    looks: list[Callable[[Invocation], list[Diagnosis]]] = [
        _python,
        _packages,
        _tools,
        _resources,
        _store,
        _server,
        _model,
    ]
    diagnoses = [each for look in looks for each in look(invocation)]
    probed, settings = _probe(invocation) if probe else ([], {})
    diagnoses += probed
    rows = [(MARKS[each.ok], each.what, each.found) for each in diagnoses]
    document: dict[str, Any] = {"findings": [asdict(each) for each in diagnoses]}
    if probe:
        document["settings"] = settings
    invocation.answer(document, screen.table(("", "WHAT", "FOUND"), rows))
    for each in diagnoses:
        if each.advice:
            invocation.note(f"{each.what}: {each.advice}")
    if settings:
        invocation.note(
            f'settings for firmplan.toml (name it with `model = "probed"` or --model):\n{_as_toml(settings)}'
        )
    return Exit.FAILED if any(each.ok is False for each in diagnoses) else Exit.OK


def _python(_: Invocation) -> list[Diagnosis]:
    import sqlite3

    found = f"{sys.version.split()[0]} at {sys.executable}"
    is_new = sqlite3.sqlite_version_info[:2] >= SQLITE_MIN
    advice = "" if is_new else f"expected at least {'.'.join(map(str, SQLITE_MIN))}; use a newer Python"
    return [Diagnosis("Python", True, found), Diagnosis("SQLite", is_new, sqlite3.sqlite_version, advice)]


def _packages(_: Invocation) -> list[Diagnosis]:
    cures = dict.fromkeys(PACKAGES, "pip install --force-reinstall firmplan")
    found = [
        Diagnosis(name, *_version(name, cure))
        for name, cure in {"firmplan": "pip install firmplan", **cures}.items()
    ]
    for extra, name in EXTRAS.items():
        is_there, number, cure = _version(name, f"pip install 'firmplan[{extra}]'")
        found.append(
            Diagnosis(
                f"extra {extra}", is_there or None, number if is_there else f"{number}; to add it: {cure}"
            )
        )
    return found


def _version(name: str, cure: str) -> tuple[bool, str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return True, version(name), ""
    except PackageNotFoundError:
        return False, "not installed", cure


def _tools(invocation: Invocation) -> list[Diagnosis]:
    settings = invocation.settings
    if not settings.tool_sources:
        return [
            Diagnosis("tools", None, "none named", "name them with --tools, FIRMPLAN_TOOLS or firmplan.toml")
        ]
    from ...executor.journal.toolset_lock import digest_of_toolset

    try:
        tools = invocation.toolset
    except FirmplanError as error:
        return [Diagnosis("tools", False, ", ".join(settings.tool_sources), error.message)]
    return [
        Diagnosis(
            "tools",
            True,
            f"{', '.join(tools.names)} (from {settings.origin('tools' if settings.tools else 'openapi')})",
        ),
        Diagnosis("toolset", None, digest_of_toolset(tools)),
    ]


def _resources(invocation: Invocation) -> list[Diagnosis]:
    """Open and close the resources of the tools, as an engine does."""
    from ...executor.calls.running.resources import OpenResources
    from ...tools.context import resource_context
    from ...tools.secret import Secrets
    from ..invocation import drive, secrets_of

    trials: list[ResourceTrial] = []

    async def look() -> int:
        opened, reader = OpenResources(), Secrets(secrets_of(invocation.settings)).reader()
        opened.context_for = lambda each: resource_context(
            each, env=os.environ, secrets=reader.of_tool(each.name, "")
        )
        trials.extend(await opened.try_out(resources))
        return Exit.OK

    try:
        tools = invocation.toolset if invocation.settings.tool_sources else ()
    except FirmplanError:  # told as a fault of the tools
        return []
    try:
        resources = list(dict.fromkeys(each for tool in tools for each in tool.opens))
        if not resources:
            return []
        drive(look)
    except FirmplanError as error:
        return [Diagnosis("resources", False, "not opened", error.message)]
    return [_trial(each) for each in trials]


def _trial(trial: ResourceTrial) -> Diagnosis:
    what, found = f"resource {trial.resource.name}", trial.resource.kind
    if trial.closed_s is None:
        advice = f"{trial.failure}; calls of the tools that take it fail with resource-failed"
        return Diagnosis(what, False, f"{found}, does not open ({_ms(trial.opened_s)})", advice)
    found += f", opened in {_ms(trial.opened_s)}"
    if trial.failure:
        return Diagnosis(what, False, f"{found}, does not close ({_ms(trial.closed_s)})", trial.failure)
    return Diagnosis(what, True, f"{found}, closed in {_ms(trial.closed_s)}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _store(invocation: Invocation) -> list[Diagnosis]:
    from ...executor.stores.location import open_location
    from ..invocation import drive

    settings = invocation.settings
    where = f"{settings.store_name} (from {settings.origin('store')})"

    async def look() -> int:
        if not await invocation.is_store_there():
            return False
        async with invocation.engine() as engine:
            await engine.list_runs(limit=1)
        return True

    try:
        is_made, location = drive(look), open_location(settings.store)
    except FirmplanError as error:
        return [Diagnosis("store", False, where, error.message)]
    path = location.path
    if is_made:
        return [Diagnosis("store", True, where, location.find_readers() or "")]
    if path is None:
        return [Diagnosis("store", True, f"{where}: not made yet")]
    is_open = os.access(Path(path).resolve().parent, os.W_OK)
    advice = "" if is_open else "its folder does not exist or cannot be written: name another with --store"
    return [Diagnosis("store", is_open, f"{where}: not made yet", advice)]


def _server(invocation: Invocation) -> list[Diagnosis]:
    """Look at the server that the settings name, in the place of the store."""
    from ...client import Client
    from ..config import read_server_key

    settings = invocation.settings
    if settings.server is None:
        return []
    where = f"{settings.server} (from {settings.origin('server')}), in the place of the store"
    try:
        with Client(settings.server, key=read_server_key(os.environ), retry_for=0) as client:
            client.tools()
    except FirmplanError as error:
        return [Diagnosis("server", False, where, error.message)]
    return [Diagnosis("server", True, where)]


def _model(invocation: Invocation) -> list[Diagnosis]:
    from ..invocation import model_of, models_of

    settings = invocation.settings
    found: list[Diagnosis] = []
    try:
        endpoint = model_of(settings).resolve()
    except FirmplanError as error:
        found.append(
            Diagnosis("model", None, "none configured: only saved plans answer tasks", error.message)
        )
    else:
        found.append(Diagnosis("model", True, f"{endpoint.name} at {endpoint.base_url}"))
    for alias in settings.models:
        try:
            endpoints = models_of(settings).resolve(alias)
        except FirmplanError as error:
            found.append(Diagnosis(f"model {alias}", False, f"in {settings.origin('models')}", error.message))
        else:
            names = ", then ".join(f"{each.name} at {each.base_url}" for each in endpoints)
            found.append(Diagnosis(f"model {alias}", True, names))
    return found


def _probe(invocation: Invocation) -> tuple[list[Diagnosis], dict[str, Any]]:
    """Ask the model what its endpoint can do; return the findings and the settings that they speak for."""
    from ...planner.evaluate.profiles import ProfileAdvice, advise_profile
    from ...tools.models.probing import ProbeReport, probe_endpoint
    from ..invocation import drive, model_of

    try:
        endpoint = model_of(invocation.settings).resolve()
    except FirmplanError:
        return [], {}  # `_model` has its message
    reports: list[ProbeReport] = []
    profiles: list[ProfileAdvice] = []

    async def work() -> int:
        report = await probe_endpoint(endpoint)
        reports.append(report)
        if mode := report.settings.get("mode"):
            profiles.append(await advise_profile(replace(model_of(invocation.settings), mode=str(mode))))
        return Exit.OK

    drive(work)
    report = reports[0]
    found = [
        Diagnosis(each.what, each.ok, screen.one_line(each.found), each.advice) for each in report.findings
    ]
    found += [Diagnosis("profile", None, f"{each.profile} suits it: {each.found}") for each in profiles]
    return found, dict(report.settings)


def _as_toml(settings: dict[str, Any]) -> str:
    """Return the settings of a model as an entry of `firmplan.toml`."""
    import json

    # Texts of JSON are texts of TOML, and so are its numbers and booleans.
    fields = ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    return f"[models]\nprobed = {{{fields}}}"
