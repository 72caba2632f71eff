"""`doctor`: is everything in place, and what to do where it is not.

Every look is one line: what was looked at, whether it is well, and what to do. Nothing is changed, and no model is asked
(an endpoint is only named) unless a probe is wanted: one tiny question in each of the ways to ask for structure.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import FirmplanError
from ..executor.stores.location import open_location
from . import screen
from .config import Settings
from .failure import Exit
from .session import drive, is_store_there, load_toolset, open_engine, settings_of

PACKAGES = ("pydantic", "networkx", "instructor", "openai", "tenacity", "structlog")
EXTRAS = {"server": "fastapi", "postgres": "psycopg", "mcp": "mcp"}
MARKS = {True: "ok", False: "!!", None: "--"}
SQLITE_MIN = (3, 37)  # STRICT tables


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: `ok` is `None` where there is nothing to be right or wrong."""

    what: str
    ok: bool | None
    found: str
    advice: str = ""


def doctor_command(flags: Mapping[str, object], *, probe: bool, as_json: bool) -> int:
    """Print every finding; the exit code is 1 if something has to be done."""
    settings = settings_of(flags)
    looks: tuple[Callable[[Settings], list[Finding]], ...] = (_python, _packages, _tools, _store, _model)
    if probe:
        looks = (*looks, _modes)
    findings = [finding for look in looks for finding in look(settings)]
    if as_json:
        screen.document({"findings": [asdict(finding) for finding in findings]})
    else:
        rows = [(MARKS[finding.ok], finding.what, finding.found) for finding in findings]
        screen.answer(screen.table(("", "WHAT", "FOUND"), rows))
        for finding in findings:
            if finding.advice:
                screen.note(f"{finding.what}: {finding.advice}")
    return Exit.FAILED if any(finding.ok is False for finding in findings) else Exit.OK


def _python(_: Settings) -> list[Finding]:
    found = f"{sys.version.split()[0]} at {sys.executable}"
    sqlite = sqlite3.sqlite_version_info[:2] >= SQLITE_MIN
    advice = "" if sqlite else f"expected at least {'.'.join(map(str, SQLITE_MIN))}; use a newer Python"
    return [Finding("Python", True, found), Finding("SQLite", sqlite, sqlite3.sqlite_version, advice)]


def _packages(_: Settings) -> list[Finding]:
    found = [Finding("firmplan", *_version("firmplan", "pip install firmplan"))]
    found += [Finding(name, *_version(name, "pip install --force-reinstall firmplan")) for name in PACKAGES]
    for extra, name in EXTRAS.items():
        is_there, number, cure = _version(name, f"pip install 'firmplan[{extra}]'")
        told = number if is_there else f"{number}; where it is wanted: {cure}"
        found.append(Finding(f"extra {extra}", is_there or None, told))
    return found


def _version(name: str, cure: str) -> tuple[bool, str, str]:
    try:
        return True, version(name), ""
    except PackageNotFoundError:
        return False, "not installed", cure


def _tools(settings: Settings) -> list[Finding]:
    if not settings.tools:
        return [
            Finding("tools", None, "none named", "name them with --tools, FIRMPLAN_TOOLS or firmplan.toml")
        ]
    try:
        names = load_toolset(settings).names
    except FirmplanError as fault:
        return [Finding("tools", False, ", ".join(settings.tools), fault.message)]
    return [Finding("tools", True, f"{', '.join(names)} (from {settings.origin['tools']})")]


def _store(settings: Settings) -> list[Finding]:
    where = f"{settings.store_name} (from {settings.origin['store']})"

    async def look() -> int:
        if not await is_store_there(settings):
            return False
        async with open_engine(settings) as engine:
            await engine.list_runs(limit=1)
        return True

    try:
        is_made, path = drive(look), open_location(settings.store).path
    except FirmplanError as fault:
        return [Finding("store", False, where, fault.message)]
    if is_made or path is None:
        return [Finding("store", True, where if is_made else f"{where}: not made yet")]
    is_open = os.access(Path(path).resolve().parent, os.W_OK)
    advice = "" if is_open else "its folder is not there or cannot be written: name another with --store"
    return [Finding("store", is_open, f"{where}: not made yet", advice)]


def _model(settings: Settings) -> list[Finding]:
    from ..tools.models.endpoint import Model  # noqa: PLC0415  # only here

    try:
        endpoint = Model(settings.model, base_url=settings.base_url).resolve()
    except FirmplanError as fault:
        return [
            Finding("model", None, "none configured: tasks are answered by saved plans only", fault.message)
        ]
    return [Finding("model", True, f"{endpoint.name} at {endpoint.base_url}")]


def _modes(settings: Settings) -> list[Finding]:
    """Ask the model in every mode, and say which to use."""
    from ..tools.models.completion import Probe, probe  # noqa: PLC0415  # only here
    from ..tools.models.endpoint import Model  # noqa: PLC0415  # only here

    try:
        endpoint = Model(settings.model, base_url=settings.base_url).resolve()
    except FirmplanError:
        return []  # said already
    probes: list[Probe] = []

    async def work() -> int:
        probes.extend(await probe(endpoint))
        return Exit.OK

    drive(work)
    best = next((each.mode for each in probes if each.works), None)
    findings = [
        Finding(f"mode {each.mode.lower()}", True if each.works else None, each.found) for each in probes
    ]
    if best is None:
        advice = "check the address, the key and the model's name, or use another model"
        return [*findings, Finding("modes", False, "none works", advice)]
    return [
        *findings,
        Finding("modes", True, f"{best.lower()} is what a planner uses here unless told otherwise"),
    ]
