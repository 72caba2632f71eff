"""The tools, plans and floors that the benchmarks of runs share.

A floor does the same work without an engine: `asyncio.gather` over the same functions, layer by layer; the same with one SQLite
transaction a step; two durable transactions around a write. `cpu` and `wall` time an awaitable. This module is imported by processes of
their own too (`bench_steps.py cold`), so the tools stand at its top: their fingerprints are the same in every process.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from firmplan import Artifact, Context, Tool, tool
from peers.dag import LAYER, MODULUS, PARENTS, Item, added, parents_of
from pydantic import BaseModel

FIRST_CALL_S: Final[list[float]] = []
"""The process's CPU time at each call of `noted`."""

THREADS: Final = ThreadPoolExecutor(LAYER)

PlanDict: TypeAlias = "dict[str, Any]"
Work: TypeAlias = "Callable[[], Awaitable[Any]]"
Call: TypeAlias = "Callable[..., Coroutine[Any, Any, Any]]"


@dataclass
class Entry:
    """The same as a dataclass."""

    name: str
    count: int
    price: float


class Record(BaseModel):
    """The same as a pydantic model."""

    name: str
    count: int
    price: float


SCHEMA: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}, "price": {"type": "number"}},
    "required": ["name", "count", "price"],
    "additionalProperties": False,
}
ITEM: Final = {"name": "x", "count": 3, "price": 1.5}


async def typed(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items."""
    return added(a, b, c, n)


async def entries(a: Entry, b: Entry, c: Entry, n: int) -> Entry:
    """Add three items."""
    return Entry(a.name, (a.count + b.count + c.count + n) % MODULUS, b.price)


async def records(a: Record, b: Record, c: Record, n: int) -> Record:
    """Add three items."""
    return Record(name=a.name, count=(a.count + b.count + c.count + n) % MODULUS, price=b.price)


async def by_schema(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items."""
    return added(a, b, c, n)


async def ints(a: int, b: int, c: int, n: int) -> int:
    """Add three integers."""
    return (a + b + c + n) % MODULUS


async def context(a: Item, b: Item, c: Item, n: int, *, ctx: Context) -> Item:
    """Add three items; the call has its context."""
    return added(a, b, c, n + len(ctx.step))


async def bare_context(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items without a context."""
    return added(a, b, c, n)


async def sleeping(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items, after a wait as for an answer from afar."""
    await asyncio.sleep(0.005)
    return added(a, b, c, n)


async def far(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items, after 50 ms."""
    await asyncio.sleep(0.05)
    return added(a, b, c, n)


async def noted(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items; say when."""
    if not FIRST_CALL_S:
        FIRST_CALL_S.append(time.process_time())
    return added(a, b, c, n)


def sync(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items in a thread."""
    return added(a, b, c, n)


def blocking(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items, after 50 ms in which a thread is blocked."""
    time.sleep(0.05)
    return added(a, b, c, n)


def inline(a: Item, b: Item, c: Item, n: int) -> Item:
    """Add three items on the event loop."""
    return added(a, b, c, n)


async def put(before: int, n: int) -> int:
    """Change something."""
    return (before + n) % MODULUS


async def look(before: int, n: int) -> int:
    """Read something."""
    return (before + n) % MODULUS


async def each(item: Item, n: int) -> Item:
    """Do something with an item."""
    return added(item, item, item, n)


async def write_text(n: int, megabytes: int) -> str:
    """Write a text."""
    return f"{n % 99_999_989:08d}" * (megabytes * 1024 * 1024 // 8)


async def hand_on(text: str, n: int) -> str:
    """Return the text as it is, n times."""
    return text if n else ""


async def save_text(n: int, megabytes: int, *, ctx: Context) -> Artifact:
    """Write a text as an artifact."""
    return ctx.save(
        f"{n % 99_999_989:08d}".encode() * (megabytes * 1024 * 1024 // 8),
        media_type="text/plain",
        name="text",
    )


async def hand_on_saved(text: Artifact, n: int) -> Artifact:
    """Return the artifact as it is."""
    return text.model_copy(update={"name": f"text{n}"})


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@dataclass(frozen=True)
class Kind:
    """A tool of three items and a number, and the same function without firmplan.

    Attributes:
        tool: The tool.
        bare: The function; it takes its arguments by position.
        start: What the first layer gets, as Python has it.
        literal: The same as JSON.
    """

    tool: Tool
    bare: Call
    start: Any = None
    literal: Any = None

    @property
    def given(self) -> Any:
        """What the first layer gets."""
        return ITEM if self.start is None else self.start


def _kind(function: Callable[..., Any], bare: Call | None = None, start: Any = None, **keys: Any) -> Kind:
    keys = {"effect": "pure", "version": 1, **keys}
    return Kind(tool(function, **keys), bare or function, start, start if isinstance(start, int) else ITEM)


async def _in_thread(a: Item, b: Item, c: Item, n: int) -> Item:
    return await asyncio.get_running_loop().run_in_executor(THREADS, sync, a, b, c, n)


async def _blocking_in_thread(a: Item, b: Item, c: Item, n: int) -> Item:
    return await asyncio.get_running_loop().run_in_executor(THREADS, blocking, a, b, c, n)


async def _inline(a: Item, b: Item, c: Item, n: int) -> Item:
    return inline(a, b, c, n)


async def _in_time(a: Item, b: Item, c: Item, n: int) -> Item:
    async with asyncio.timeout(10):
        return await typed(a, b, c, n)


def _schema_kind() -> Kind:
    properties = {**dict.fromkeys("abc", SCHEMA), "n": {"type": "integer"}}
    made = Tool.from_callable(
        by_schema,
        name="by_schema",
        parameters={"type": "object", "properties": properties, "required": list("abcn")},
        returns=SCHEMA,
        effect="pure",
        version=1,
    )
    return Kind(made, by_schema, None, ITEM)


KINDS: Final = {
    "TypedDict": _kind(typed),
    "dataclass": _kind(entries, start=Entry("x", 3, 1.5)),
    "pydantic": _kind(records, start=Record(name="x", count=3, price=1.5)),
    "JSON Schema": _schema_kind(),
    "integers": _kind(ints, start=3),
}
"""What the tools take and return."""
STYLES: Final = {
    "a context": _kind(context, bare_context),
    "a timeout": _kind(typed, _in_time, name="in_time", timeout="10s"),
    "retries": _kind(typed, name="retried", retries=3),
    "a read, reuse_for": _kind(typed, name="looked", effect="read", reuse_for="1h", resource="shelf"),
    "sync, inline": _kind(inline, _inline, isolation="inline"),
    "sync, in a thread": _kind(sync, _in_thread),
}
"""How the tools are declared and called; all take TypedDicts."""
WAITING: Final = {
    "5 ms": _kind(sleeping),
    "50 ms": _kind(far),
    "50 ms, in threads": _kind(blocking, _blocking_in_thread),
}
NOTED: Final = _kind(noted)
PUT: Final = tool(put, effect="write", idempotent=True, resource="box", version=1)
LOOK: Final = tool(look, effect="read", resource="box", version=1)
EACH: Final = tool(each, effect="pure", version=1)
WRITE_TEXT: Final = tool(write_text, effect="pure", version=1)
HAND_ON: Final = tool(hand_on, effect="pure", version=1)
SAVE_TEXT: Final = tool(save_text, effect="pure", version=1)
HAND_ON_SAVED: Final = tool(hand_on_saved, effect="pure", version=1)
ADD: Final = tool(add, effect="pure", version=1)


def layered(kind: Kind, steps: int, *, tag: int = 0, layer: int = LAYER) -> PlanDict:
    """Return a plan of layers.

    Args:
        kind: The tool that every step calls.
        steps: How many.
        tag: Plans of other tags have other digests, and all of their calls are new.
        layer: How many steps stand side by side.
    """
    made: list[PlanDict] = []
    for number in range(steps):
        before: list[Any] = [f"${{s{parent}}}" for parent in parents_of(number, layer)]
        # The first layer reads the input, so that other inputs make every call a new one.
        args = {"n": number + tag if before else f"${{inputs.n + {number + tag}}}"}
        args |= dict(zip("abc", before or [kind.literal] * PARENTS, strict=True))
        made.append({"id": f"s{number}", "tool": kind.tool.name, "args": args})
    return {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": made,
        "output": f"${{s{steps - 1}}}",
    }


def chain(called: Tool, steps: int) -> PlanDict:
    """Return a plan in which every step reads the one before."""
    made: list[PlanDict] = [
        {
            "id": f"s{number}",
            "tool": called.name,
            "args": {"before": f"${{s{number - 1}}}" if number else "${inputs.n}", "n": number},
        }
        for number in range(steps)
    ]
    return {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": made,
        "output": f"${{s{steps - 1}}}",
    }


def for_each() -> PlanDict:
    """Return a plan that calls a tool for each item of a list."""
    step = {
        "id": "parts",
        "tool": EACH.name,
        "for_each": "${inputs.rows}",
        "args": {"item": "${item}", "n": "${inputs.n}"},
    }
    types = {"rows": {"type": "array", "items": SCHEMA}, "n": {"type": "integer"}}
    return {"firmplan": 1, "inputs": types, "steps": [step], "output": "${len(parts)}"}


def nested(kind: Kind, inner: int) -> PlanDict:
    """Return a plan that runs an inner plan of five steps, in layers of two, for each item of a list."""
    body = layered(kind, 5, layer=2)
    del body["firmplan"]
    step = {"id": "parts", "plan": "inner", "for_each": "${inputs.numbers}", "args": {"n": "${item}"}}
    return {
        "firmplan": 1,
        "inputs": {"numbers": {"type": "array", "items": {"type": "integer"}, "maxItems": inner}},
        "plans": {"inner": body},
        "steps": [step],
        "output": "${len(parts)}",
    }


def texts(first: Tool, later: Tool, steps: int, megabytes: int) -> PlanDict:
    """Return a plan that passes a text through steps."""
    made: list[PlanDict] = [
        {"id": "s0", "tool": first.name, "args": {"n": "${inputs.n}", "megabytes": megabytes}}
    ]
    made += [
        {"id": f"s{n}", "tool": later.name, "args": {"text": f"${{s{n - 1}}}", "n": n}}
        for n in range(1, steps)
    ]
    return {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": made,
        "output": f"${{s{steps - 1}}}",
    }


async def gathered(
    kind: Kind, steps: int, *, layer: int = LAYER, keep: Callable[[int, Any], object] | None = None
) -> None:
    """Do the work of a layered plan without an engine, layer by layer."""
    values: list[Any] = []

    async def one(number: int) -> Any:
        before = [values[parent] for parent in parents_of(number, layer)] or [kind.given] * PARENTS
        value = await kind.bare(*before, number)
        if keep is not None:
            keep(number, value)
        return value

    for first in range(0, steps, layer):
        values += await asyncio.gather(*(one(number) for number in range(first, min(first + layer, steps))))


async def gathered_items(items: Sequence[Item]) -> None:
    """Do the work of `for_each` without an engine, 64 at a time, as many as an engine has in flight."""
    for first in range(0, len(items), 64):
        await asyncio.gather(*(each(item, 1) for item in items[first : first + 64]))


def database(path: Path, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """Return a new database of results; each statement is a transaction of its own."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute("CREATE TABLE results (number INTEGER PRIMARY KEY, step INTEGER, value TEXT)")
    return db


async def committed(kind: Kind, steps: int, db: sqlite3.Connection) -> None:
    """Do what `gathered` does, with one transaction a step."""
    insert = "INSERT INTO results (step, value) VALUES (?,?)"
    await gathered(kind, steps, keep=lambda number, value: db.execute(insert, (number, str(value))))


async def written(steps: int, db: sqlite3.Connection) -> None:
    """Do the work of a chain of writes, with a durable intent and a durable outcome around each."""
    insert, value = "INSERT INTO results (step, value) VALUES (?,?)", 0
    for number in range(steps):
        db.execute(insert, (number, "intent"))
        value = await put(value, number)
        db.execute(insert, (number, str(value)))


async def chained(steps: int) -> None:
    """Do the work of a chain without an engine."""
    value = 0
    for number in range(steps):
        value = await look(value, number)


SETTLED_S: Final = 0.4
"""By then an engine has written what may wait: results for reuse and known plans, within 0.25 s."""


async def cpu(work: Work) -> tuple[float, Any]:
    """Return how much CPU time of the process, threads included, some work takes, in seconds, and its result.

    What an engine writes a moment after a run counts, too: it would otherwise count for what is measured next.
    """
    gc.collect()
    started = time.process_time()
    result = await work()
    await asyncio.sleep(SETTLED_S)
    return time.process_time() - started, result


async def wall(work: Work) -> tuple[float, Any]:
    """Return how long some work takes, in seconds, and its result."""
    gc.collect()
    started = time.perf_counter()
    result = await work()
    return time.perf_counter() - started, result
