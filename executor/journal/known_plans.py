"""What is known of plans from before: that a plan passed its check, and the facts of its program.

A new process, another process that takes a run over, and a fork read these from the store, and neither check nor compile a plan again. Each row has
one key: a digest over everything that decides the row, the exact texts of the plan and of its saved plans included. Where any of it differs,
nothing is found, and the plan is checked and compiled as a new plan is. Only large plans are kept: a small one is checked before a row is found.

A row has a digest over its key and its data, so that a row that has decayed, or stands under another key, is noticed, named in the log, and replaced.
The digest has no key of its own: whoever can write to the store can write a row that looks right, as they can write runs and decisions
(docs/SECURITY.md). Rows hold positions, flags and names of arguments and resources, and no value and no text of a plan. They may be removed at any time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache
from hashlib import sha256
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import orjson
import pydantic

from ...errors import StoreError
from ...plans.program.stored_program import FORMAT, MisfitError, program_from_json, program_to_json
from ...plans.signature import Signature, Signatures, agent_tools_of
from ...plans.values import canonical
from ...tools.background import WorkThread
from ...tools.logbook import open_log
from ..lru_cache import LruCache
from ..stores.sql_store import SqlStore
from .header import Header, find_program, keep_program, program_key, steps_in, text_name

if TYPE_CHECKING:
    from ...plans import Plan
    from ...plans.limits import Limits
    from ...plans.values import Json
    from ..stores.sql_store import Sql
    from ..stores.store import RunRow, Store


# As values: an import of the package itself would close a circle of modules for type checkers.
_FIRMPLAN: Final = import_module("...", __package__)
_PLANS: Final = import_module("...plans", __package__)


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


STEPS_MIN: Final = 80
"""Steps of the smallest plan that is kept: to check it takes some 3 ms, and to find a row a tenth of that."""

ROWS_MAX: Final = 1_000  # of the table: two a plan
ROW_BYTES_MAX: Final = 16 * 1024 * 1024  # of one row: the largest plan has some 4 MiB
BYTES_MAX: Final = 64 * 1024 * 1024  # of all rows
WRITE_AFTER_S: Final = 0.25
"""How long rows wait to be written together: by then the first calls of their runs have begun."""
KEPT_MAX: Final = 4_096  # keys of rows of which this process knows that they are in the store

_FIND: Final = "SELECT row_digest, data FROM @known_plans WHERE key=:key"
_SHRINK: Final = """
    DELETE FROM @known_plans WHERE key IN (
        SELECT key FROM (
            SELECT key, sum(length(data)) OVER (ORDER BY kept DESC, key) AS size, row_number() OVER (ORDER BY kept DESC, key) AS place
            FROM @known_plans
        ) AS sized WHERE size > :bytes_max OR place > :rows_max)
"""
_THREAD: Final = WorkThread("firmplan-known")
_SIGNED: Final = tuple(
    name for name, each in vars(Signature).items() if isinstance(each, property) and name != "unstated_reach"
)
"""What a check reads of a tool. Where data of unstated trust comes from only words a warning."""


class KnownPlans:
    """What the store of one engine knows of plans.

    Args:
        store: Keeps it; nothing is kept by a store that is not firmplan's own, or lives in memory.
        now: What the time is, in Unix seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store if isinstance(store, SqlStore) and store.name != ":memory:" else None
        self._now = now
        self._stored: LruCache[str, bool] = LruCache(KEPT_MAX, 1)
        self._waiting: dict[str, Callable[[], Mapping[str, Any]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def covers(self, plan: Plan) -> bool:
        """Whether a plan is large enough to be kept."""
        return self._store is not None and steps_in(plan) >= STEPS_MIN and code_version() is not None

    # --- checks

    async def find_passed(self, key: str, plan: Plan) -> bool:
        """Return whether a plan passed the check of this key (`check_key`). Its digest is known then, too."""
        found = await self._find(key)
        if found is None or not isinstance(found.get("digest"), str):
            self._stored.drop(key)
            return False
        vars(plan)["digest"] = found["digest"]
        return True

    def note_passed(self, key: str, plan: Plan) -> None:
        """Keep that a plan passed the check of this key."""
        self._keep_later(key, lambda: {"digest": plan.digest})

    # --- programs

    async def load(self, header: Header) -> None:
        """Have this process know the program of a run, if the store knows it and this process does not."""
        if header.plan is None or not self.covers(header.plan):
            return
        key, plan = program_key(header), header.plan
        if find_program(key) is not None:
            return
        name = _key("program", *key)
        found = await self._find(name)
        if found is None:
            return

        def make() -> None:
            program, plan_digest = program_from_json(found, plan, header.lock, header.plans)
            vars(plan).setdefault("digest", plan_digest)
            keep_program(key, program)

        try:
            await _THREAD.run(make)
        except MisfitError as fault:  # a row that somebody wrote
            self._stored.drop(name)
            _tell(str(fault))

    async def load_of(self, row: RunRow) -> None:
        """Do what `load` does, for a run as it is stored."""
        try:
            header = Header.from_dict(row.header)
        except Exception:  # noqa: BLE001  # a header that somebody changed: whoever goes on with it says what is wrong with it
            return
        await self.load(header)

    def note_program(self, header: Header) -> None:
        """Keep the program of a run, which this process has compiled or loaded."""
        if header.plan is None or not self.covers(header.plan):
            return
        key = program_key(header)
        program = find_program(key)
        if program is not None:
            self._keep_later(_key("program", *key), lambda: program_to_json(program))

    # --- rows

    async def _find(self, key: str) -> Mapping[str, Any] | None:
        if self._store is None:
            return None
        try:
            rows = await self._store.look(lambda sql: sql.rows(_FIND, {"key": key}))
        except StoreError:  # of a server where nobody could make the table
            return None
        for row_digest, data in rows:
            if _digest_of(key, data) != bytes(row_digest):
                _tell("its digest is not that of its data")
                return None
            self._stored.keep(key, value=True)
            made = orjson.loads(data)
            return cast("Mapping[str, Any]", made) if isinstance(made, dict) else {}
        return None

    def _keep_later(self, key: str, make: Callable[[], Mapping[str, Any]]) -> None:
        if self._store is None or self._store.is_read_only or self._stored.find(key):
            return
        self._waiting[key] = make
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write_soon)

    def _write_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self.write())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def write(self) -> None:
        """Write the rows that wait. A store that cannot be written keeps nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        store, waiting, self._waiting = self._store, self._waiting, {}
        if store is None or not waiting:
            return
        made = await _THREAD.run(lambda: {key: orjson.dumps(make()) for key, make in waiting.items()})
        now = float(self._now())
        rows = [
            (key, now, _digest_of(key, data), data)
            for key, data in sorted(made.items())
            if len(data) <= ROW_BYTES_MAX
        ]

        def keep(sql: Sql) -> None:
            sql.insert("known_plans", "key, kept, row_digest, data", rows, key="key", replaces=True)
            sql.send(_SHRINK, {"bytes_max": BYTES_MAX, "rows_max": ROWS_MAX})

        try:
            await store.change(keep, outlives="process")
        except StoreError as fault:
            open_log().warning("known plans not kept", error=str(fault))
            return
        for key in made:
            self._stored.keep(key, value=True)

    async def close(self) -> None:
        """Write the rows that wait, and stop."""
        await self.write()
        if self._writing:
            await asyncio.wait(self._writing)


def check_key(  # what a plan is checked by
    plan: Plan,
    saved: Mapping[str, Plan],
    tools: bytes,
    secrets: Mapping[str, Collection[str]] | None,
    limits: Limits,
    rules: Json,
) -> str:
    """Return the key of a check.

    Args:
        plan: The plan.
        saved: The saved plans that it runs.
        tools: `tools_name` of all tools that it may call: a check may ask for any of them.
        secrets: The secrets that it may use: name -> places; `None`: any.
        limits: How large it may be.
        rules: The flow and the policies of the engine, as JSON.
    """
    return _key(
        "check",
        text_name(plan),
        tools,
        *(part for name in sorted(saved) for part in (name.encode(), text_name(saved[name]))),
        orjson.dumps(None if secrets is None else {name: sorted(secrets[name]) for name in sorted(secrets)}),
        orjson.dumps(limits),
        canonical(rules),
    )


def tools_name(tools: Signatures) -> bytes:
    """Return a name for all that a check reads of tools: other tools have another name."""
    told = sha256()
    for name in tools.names:
        tool = tools.find(name)
        said = {each: _as_json(getattr(tool, each)) for each in _SIGNED}
        if (agent := agent_tools_of(tool)) is not None:
            said["agent"] = [list(agent.tools), agent.max_steps, agent.max_calls]
        _add(told, canonical(said))
    return told.digest()


def _as_json(value: object) -> Json:
    if isinstance(value, Collection) and not isinstance(value, str | Mapping):
        return cast("Json", sorted(map(str, cast("Collection[object]", value))))
    return cast("Json", value)


def _key(kind: str, *parts: bytes) -> str:
    told = sha256()
    for part in (kind.encode(), str(FORMAT).encode(), code_version() or b"", *parts):
        _add(told, part)
    return told.hexdigest()


def _add(told: _Hash, part: bytes) -> None:
    told.update(len(part).to_bytes(8, "big"))  # so that no two lists of parts give the same bytes
    told.update(part)


@cache
def code_version() -> bytes | None:
    """Return what names the code that checks and compiles; `None`: its files cannot be seen, so nothing is kept.

    A version alone would not do: whoever works on firmplan changes its code, and the version stays.
    """
    files: list[tuple[str, int, int]] = []
    folders = [os.path.dirname(str(_PLANS.__file__))]  # noqa: PTH120  # `pathlib` takes ten times as long
    try:
        for folder in folders:  # grows while it is walked
            for each in os.scandir(folder):
                if each.is_dir():
                    folders.append(each.path)
                elif each.name.endswith(".py"):
                    seen = each.stat()
                    files.append((each.path, seen.st_size, seen.st_mtime_ns))
    except OSError:
        return None
    if not files:
        return None
    return repr((_FIRMPLAN.__version__, sys.version_info[:3], pydantic.VERSION, sorted(files))).encode()


def _digest_of(key: str, data: bytes) -> bytes:
    return sha256(key.encode() + b"\0" + data).digest()


def _tell(why: str) -> None:
    open_log().warning("a kept check or program is not used", error=why)
