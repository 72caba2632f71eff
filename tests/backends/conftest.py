"""What any backend is tested with: engines on one store, of which some only submit, and others only work.

A backend takes part by a `Harness` in `HARNESSES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from firmplan import Engine, tool
from firmplan.backends import EmbeddedBackend
from queue_backend import QueueBackend


@dataclass
class World:
    """What the tools of all engines share: who called what, and gates at which calls wait."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    dies: bool = False

    def of(self, word: str) -> list[str]:
        """Return the engines that made a call."""
        return [engine for engine, each in self.calls if each == word]

    def tools(self, engine: str) -> list[Any]:
        """Return the tools of an engine, which note the engine's name."""

        @tool(effect="pure", version="1")
        async def say(word: str) -> str:
            """Say a word."""
            self.calls.append((engine, word))
            return word

        @tool(effect="write", version="1", resource="box", approval="always")
        async def send(word: str) -> str:
            """Send a word, if a person allows it."""
            self.calls.append((engine, word))
            return word

        @tool(effect="read", version="1")
        async def hang(word: str) -> str:
            """Wait at the gate of the word."""
            self.calls.append((engine, word))
            self.begun.set()
            await self.gates.setdefault(word, asyncio.Event()).wait()
            return word

        @tool(effect="pure", version="1")
        async def break_once(word: str) -> str:
            """Fail as long as the world is broken."""
            self.calls.append((engine, word))
            if self.dies:
                raise RuntimeError("broken")
            return word

        return [say, send, hang, break_once]


@dataclass
class Bench:
    """Engines that share a store and a backend."""

    world: World
    store: Any
    harness: Harness
    made: Callable[[], Any]
    stack: AsyncExitStack

    async def engine(self, name: str, **options: Any) -> Engine:
        """Return an engine that submits."""
        made = Engine(self.world.tools(name), store=self.store, backend=self.made(), **options)
        return await self.stack.enter_async_context(made)

    async def worker(self, name: str, *, slots: int = 2, **options: Any) -> asyncio.Task[None] | None:
        """Have an engine work; embedded there is none to be had."""
        if not self.harness.hands_out:
            return None
        working = asyncio.create_task((await self.engine(name, **options)).work(slots=slots))
        self.stack.push_async_callback(_end, working)
        return working


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True)
class Harness:
    """A backend under test.

    Attributes:
        name: Of the backend.
        hands_out: Whether workers drive the runs; else the engine that submits them.
        connect: Returns a function that makes what is an engine's `backend`, all of them of one queue, which is new. It is given a new folder, and what
            returns the value of a fixture.
        is_shared: Whether it works on stores in PostgreSQL alone.
    """

    name: str
    hands_out: bool
    connect: Callable[[Path, Callable[[str], Any]], Callable[[], Any]]
    is_shared: bool = False


HARNESSES = (
    Harness("embedded", hands_out=False, connect=lambda *_: EmbeddedBackend),
    Harness("queue", hands_out=True, connect=lambda folder, _: lambda: QueueBackend(folder / "queue.db")),
)
TEMPORAL = pytest.param(
    Harness(
        "temporal",
        hands_out=True,
        connect=lambda folder, fixture: lambda: fixture("temporal_server").url(folder.name),
        is_shared=True,
    ),
    marks=[pytest.mark.temporal, pytest.mark.postgres],
    id="temporal",
)


@pytest.fixture(params=[*(pytest.param(each, id=each.name) for each in HARNESSES), TEMPORAL])
def harness(request: pytest.FixtureRequest) -> Harness:
    """Every backend."""
    return request.param


@pytest.fixture(
    params=[*(pytest.param(each, id=each.name) for each in HARNESSES if each.hands_out), TEMPORAL]
)
def dispatching(request: pytest.FixtureRequest) -> Harness:
    """Every backend whose workers drive the runs."""
    return request.param


PLACES = [
    *(pytest.param((each, "sqlite"), id=f"{each.name}-sqlite") for each in HARNESSES),
    *(
        pytest.param((each, "postgres"), id=f"{each.name}-postgres", marks=pytest.mark.postgres)
        for each in HARNESSES
    ),
    pytest.param((*TEMPORAL.values, "postgres"), id="temporal-postgres", marks=TEMPORAL.marks),
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Harness, Any]:
    """Every backend, on each kind of store that it works on."""
    harness, kind = request.param
    return harness, tmp_path / "s.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return what opens engines for a test, and closes them after it."""

    @asynccontextmanager
    async def opened(harness: Harness, store: Any = None) -> AsyncIterator[Bench]:
        async with AsyncExitStack() as stack:
            name = "postgres_url" if harness.is_shared else ""
            where = store or (request.getfixturevalue(name) if name else tmp_path / "s.db")
            connect = harness.connect(tmp_path, request.getfixturevalue)
            yield Bench(World(), where, harness, connect, stack)
        if harness.is_shared:
            await request.getfixturevalue("temporal_server").forget_runs()

    return opened
