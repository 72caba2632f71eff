"""What steps cost as people write them, beside floors without an engine in the same round: the table of what is asked, and where we are.

    python benchmarks/bench_steps.py [GROUP ..] [--rounds 5] [--steps 500] [--large] [--json FILE] [--profile ROW]

Groups: kinds, styles, cold, growth, waits, writes, small, plans, texts, submit, start, memory, agent, postgres; without any, all but
`postgres` where no server is installed. In each round every row and its floor are measured in turn, and a row's figure is the median over
the rounds of its own ratio to the floor of the same round, with the least and the largest: a busy machine slows both down. CPU is that of
the process, threads included. `--large` adds 100,000 steps and items, and an artifact of 100 MB. `--profile ROW` prints where the time of
one row of `kinds` goes, for the kind named first (`TypedDict`). Beside each row stand the gate and the goal of the project for it; the
script exits with 1 only where a row is past its limit, which holds today with a margin.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import platform
import pstats
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from firmplan import Engine, Run
from workloads import (
    ADD,
    EACH,
    FIRST_CALL_S,
    HAND_ON,
    HAND_ON_SAVED,
    ITEM,
    KINDS,
    LOOK,
    NOTED,
    PUT,
    SAVE_TEXT,
    SETTLED_S,
    STYLES,
    WAITING,
    WRITE_TEXT,
    Kind,
    Work,
    chain,
    chained,
    committed,
    cpu,
    database,
    for_each,
    gathered,
    gathered_items,
    layered,
    nested,
    texts,
    wall,
    written,
)

HERE: Final = Path(__file__).parent
TYPED: Final = KINDS["TypedDict"]
NUMBERS: Final = count(1)
FLOOR_REPEATS: Final = 4
"""How often the floor is measured on each side of the rows of a round: it is short, and so is noisier than they are."""


@dataclass(frozen=True)
class Aim:
    """What is asked of a row: figures at most.

    Attributes:
        gate: What the project has to reach.
        goal: What it aims at.
        limit: What holds today, with a margin: past it the script fails.
    """

    gate: float | None = None
    goal: float | None = None
    limit: float | None = None


AIMS: Final = {
    **{
        (kind, row): aim
        for kind in ("TypedDict", "pydantic")
        for row, aim in {
            "known plan": Aim(12, 8, 20),
            "new plan": Aim(25, 18, 38),
            "all reused": Aim(6, 4, 13),
            "strict replay": Aim(2.8, 2.5, 5.5),
            "memory: store": Aim(9, 5, 18),
        }.items()
    },
    ("cold", "known plan, new process"): Aim(15, 10, 30),
    **{
        ("growth", row): Aim(1.25, 1.1, 1.7)
        for row in (
            "known plan",
            "new plan",
            "all reused",
            "strict replay",
            "memory: store",
            "for_each, known plan",
            "for_each, all reused",
            "for_each, strict replay",
        )
    },
    ("waits", "a step that waits 5 ms, CPU"): Aim(2.5, 1.5, 10),
    ("waits", "200 steps of 50 ms in 20 layers, wall"): Aim(1.03, 1.01, 1.15),
    ("writes", "a write, CPU, times a read"): Aim(3, None, 9),
    ("writes", "a write, wall, times two FULL commits"): Aim(None, 2, 4),
    ("small", "5 steps, one by one"): Aim(10, 6, 28),
    ("small", "5 steps, 1,000 at once"): Aim(10, 6, 21),
    ("texts", "1 MB through 50 steps"): Aim(4, 2, 4),
    ("submit", "submit to first call, 1 step"): Aim(2, 1, 8),
    ("submit", "submit to first call, 1,000 steps, new"): Aim(50, 20, 110),
    ("start", "from firmplan import Engine, wall"): Aim(0.25, 0.15),
    ("start", "firmplan run of 5 steps, CPU"): Aim(0.4, 0.25, 2),
    ("memory", "memory of a run above its values"): Aim(2048, None, 2048),
    ("memory", "journal of a step of integers"): Aim(400, None, 400),
}
"""Group and row -> what is asked. Limits are raised by nobody: a row that got better gets a lower one."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        group: What it belongs to.
        name: What was done.
        figure: The median over the rounds.
        low: The least.
        high: The largest.
        unit: What the figures are: `x` is times the floor.
        amount: What it is in absolute numbers, with its unit; empty: the figure is absolute.
        floor: What the figure is a multiple of; empty: it is absolute.
    """

    group: str
    name: str
    figure: float
    low: float
    high: float
    unit: str
    amount: str
    floor: str

    @property
    def aim(self) -> Aim:
        """What is asked."""
        return AIMS.get((self.group, self.name), Aim())

    @property
    def verdict(self) -> str:
        """Return where the row stands."""
        aim = self.aim
        if aim.goal is not None and self.figure <= aim.goal:
            return "goal"
        if aim.gate is not None and self.figure <= aim.gate:
            return "gate"
        return "" if aim.gate is None and aim.goal is None else "not yet"


class Sheet:
    """The samples of a group's rounds.

    Args:
        group: Its name.
        floor: What its ratios are to.
        per: What an absolute figure is of, such as `step`.
    """

    def __init__(self, group: str, floor: str = "asyncio.gather", per: str = "step") -> None:
        self._group = group
        self._floor = floor
        self._per = per
        self._samples: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, name: str, seconds: float, floor: float, number: int = 1) -> None:
        """Add a sample: so many seconds for so many of them, and what the floor takes for one."""
        self._samples[name].append((seconds / number, floor))

    def rows(self) -> list[Row]:
        """Return the medians."""
        found: list[Row] = []
        for name, samples in self._samples.items():
            ratios = [seconds / floor for seconds, floor in samples]
            typical = statistics.median(seconds for seconds, _ in samples)
            amount = f"{typical * 1e6:.1f} us a {self._per}"
            if typical >= 1e-3:
                amount = f"{typical * 1e3:.2f} ms a {self._per}"
            found.append(_row(self._group, name, ratios, "x", amount, self._floor))
        return found


def _row(
    group: str, name: str, figures: Sequence[float], unit: str, amount: str = "", floor: str = ""
) -> Row:
    return Row(group, name, statistics.median(figures), min(figures), max(figures), unit, amount, floor)


@dataclass(frozen=True)
class Options:
    """What is measured."""

    rounds: int
    steps: int
    large: bool
    profile: str


class Turns:
    """Runs of one plan in one engine, one after the other.

    Args:
        engine: The engine.
        plan: The plan, known to the engine.
        calls: How many calls a run makes.
        runs: How many runs.
        inputs: Inputs besides `n`, which makes the calls of a run new.
    """

    def __init__(
        self, engine: Engine, plan: dict[str, Any], calls: int, runs: int = 1, **inputs: object
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._calls = calls
        self._runs = runs
        self._inputs = inputs
        self._last: list[tuple[Run, int]] = []

    async def known(self) -> None:
        """Make all calls."""
        self._last = []
        for _ in range(self._runs):
            given = fresh()
            run = await ran(self._engine, self._plan, self._calls, given, **self._inputs)
            self._last.append((run, given))

    async def reused(self) -> None:
        """Run it again with the same inputs."""
        for _, given in self._last:
            await ran(self._engine, self._plan, 0, given, **self._inputs)

    async def replayed(self) -> None:
        """Replay the runs."""
        for run, _ in self._last:
            assert (await self._engine.replay(run.id)).digest == run.digest


class Lane:
    """One plan on one store, with the ways of running it.

    Args:
        folder: Where the store goes.
        kind: The tool.
        steps: How many.
        store: Another store.
        runs: How many runs a row makes, one after the other.
    """

    def __init__(self, folder: Path, kind: Kind, steps: int, store: str = "", runs: int = 1) -> None:
        self._kind = kind
        self._steps = steps
        self._runs = runs
        self._store = store or str(folder / f"lane{next(NUMBERS)}.db")
        self._plan = layered(kind, steps)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[dict[str, Work]]:
        """Yield the rows of a round, in the order in which they have to go."""
        tools = [self._kind.tool]
        async with Engine(tools, store=self._store) as file, Engine(tools, store="memory:") as memory:
            await ran(file, self._plan, self._steps)
            await ran(memory, self._plan, self._steps)
            turns = Turns(file, self._plan, self._steps, self._runs)
            plans: list[dict[str, Any]] = []

            async def new() -> None:
                for plan in plans:
                    await ran(file, plan, self._steps)

            async def prepared() -> None:
                """Make the plans that nobody has seen."""
                # Sums of tag and input are no other run's input.
                plans[:] = [
                    layered(self._kind, self._steps, tag=fresh() + 500_000) for _ in range(self._runs)
                ]

            yield {
                "": prepared,
                "known plan": turns.known,
                "new plan": new,
                "all reused": turns.reused,
                "strict replay": turns.replayed,
                "memory: store": Turns(memory, self._plan, self._steps, self._runs).known,
            }


def fresh() -> int:
    """Return a number that makes the calls of a run new."""
    return next(NUMBERS) * 1_000_000


async def ran(
    engine: Engine, plan: dict[str, Any], calls: int, given: int | None = None, **inputs: Any
) -> Run:
    """Run a plan; check that it ended well, and how many calls it took."""
    run = await engine.run(plan, inputs={"n": fresh() if given is None else given, **inputs})
    run.raise_for_status()
    assert run.usage["calls"] == calls, (run.usage, calls)
    return run


async def floor_of(work: Work, number: int, repeats: int = FLOOR_REPEATS) -> float:
    """Return the CPU seconds of one step of a floor."""
    return sum([(await cpu(work))[0] for _ in range(repeats)]) / repeats / number


async def rounds_of(sheet: Sheet, lane: Lane, floor: Work, steps: int, options: Options) -> None:
    """Measure all rows of a lane, round by round, with the floor before and after."""
    async with lane.open() as rows:
        for _ in range(options.rounds):
            before = await floor_of(floor, steps)
            taken = {name: (await cpu(work))[0] for name, work in rows.items()}
            floor_s = (before + await floor_of(floor, steps)) / 2
            for name, seconds in taken.items():
                if name:
                    sheet.add(name, seconds, floor_s, steps)


async def kinds(options: Options, folder: Path) -> list[Row]:
    """Every kind of value, and the SQLite floor beside it."""
    found: list[Row] = []
    for name, kind in KINDS.items():
        sheet = Sheet(name)
        db = database(folder / f"floor{next(NUMBERS)}.db")

        async def bare(kind: Kind = kind) -> None:
            await gathered(kind, options.steps)

        async def kept(kind: Kind = kind, db: sqlite3.Connection = db) -> None:
            await committed(kind, options.steps, db)

        for _ in range(options.rounds):
            sheet.add(
                "asyncio and a commit a step",
                (await cpu(kept))[0],
                await floor_of(bare, options.steps),
                options.steps,
            )
        db.close()
        await rounds_of(sheet, Lane(folder, kind, options.steps), bare, options.steps, options)
        found += sheet.rows()
    return found


async def styles(options: Options, folder: Path) -> list[Row]:
    """How tools are declared and called: a known plan with other inputs, and the same in memory."""
    sheet = Sheet("styles", "the bare function, so called")
    for name, kind in STYLES.items():

        async def bare(kind: Kind = kind) -> None:
            await gathered(kind, options.steps)

        async with Lane(folder, kind, options.steps).open() as rows:
            for _ in range(options.rounds):
                floor = await floor_of(bare, options.steps)
                sheet.add(name, (await cpu(rows["known plan"]))[0], floor, options.steps)
                sheet.add(f"{name}, memory:", (await cpu(rows["memory: store"]))[0], floor, options.steps)
    return sheet.rows()


async def cold(options: Options, folder: Path) -> list[Row]:
    """A known plan in a new process: the store has it, the process does not."""
    sheet = Sheet("cold")
    store = str(folder / "cold.db")
    async with Engine([TYPED.tool], store=store) as engine:
        await ran(engine, layered(TYPED, options.steps), options.steps)
        await ran(engine, layered(TYPED, options.steps), options.steps)
    for _ in range(options.rounds):
        done = _apart("--child-cold", store, str(options.steps), str(fresh()))
        floor = done.pop("floor")
        for name, seconds in done.items():
            sheet.add(name, seconds, floor, options.steps)
    return sheet.rows()


async def child_cold(store: str, steps: int, given: int) -> dict[str, float]:
    """In a new process: what the floor costs, and the run of a known and of a new plan. Another plan has loaded what is loaded at first use."""
    plan, other = layered(TYPED, steps), layered(TYPED, steps, tag=given)
    floor = await floor_of(lambda: gathered(TYPED, steps), steps)
    async with Engine([TYPED.tool], store=store) as engine:
        small = layered(TYPED, 5, tag=given, layer=2)
        # No two of these, in this round or in another, add up to the same numbers.
        await ran(engine, small, 5, given + 100_000)
        await ran(engine, small, 5, given + 200_000)
        known, _ = await cpu(lambda: ran(engine, plan, steps, given + 300_000))
        new, _ = await cpu(lambda: ran(engine, other, steps, given + 400_000))
    return {"floor": floor, "known plan, new process": known, "new plan, new process": new}


def _apart(*words: str) -> dict[str, Any]:
    """Return what this script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True, cwd=HERE
    )
    return json.loads(done.stdout)


async def growth(options: Options, folder: Path) -> list[Row]:
    """How many times as much a step, or an item, of a large run costs as one of 1,000, both as multiples of their floors.

    Of the smaller sizes as many runs are made as have the steps of the largest one: a floor of a few milliseconds would be measured while the
    processor is still slow and its caches are empty, and the objects and the store of the smaller runs would be smaller, too.
    """
    sizes = (1_000, 10_000, *((100_000,) if options.large else ()))
    rounds = Options(max(2, options.rounds // 2), 0, options.large, "")
    multiples: dict[str, dict[int, float]] = defaultdict(dict)
    for size in sizes:
        sheet = Sheet("growth")
        runs = sizes[-1] // size

        async def floor(size: int = size, runs: int = runs) -> None:
            for _ in range(runs):
                await gathered(TYPED, size)

        await rounds_of(sheet, Lane(folder, TYPED, size, runs=runs), floor, size * runs, rounds)
        await _item_rounds(sheet, folder, size, runs, rounds)
        for row in sheet.rows():
            multiples[row.name][size] = row.figure
    found: list[Row] = []
    for name, by_size in multiples.items():
        first = by_size[sizes[0]]
        grown = [by_size[size] / first for size in sizes[1:]]
        amount = ", ".join(f"{by_size[size]:.1f} x at {size:,}" for size in sizes)
        found.append(_row("growth", name, [grown[-1]], "x", amount, f"a step of {sizes[0]:,}"))
    return found


async def _item_rounds(sheet: Sheet, folder: Path, size: int, runs: int, options: Options) -> None:
    """Measure `for_each` over so many items, in so many runs."""
    plan, items = for_each(), [{**ITEM, "count": number} for number in range(size)]
    store = str(folder / f"items{next(NUMBERS)}.db")
    async with Engine([EACH], store=store) as engine:
        await ran(engine, plan, 10, rows=items[:10])
        turns = Turns(engine, plan, size, runs, rows=items)

        async def floor() -> None:
            for _ in range(runs):
                await gathered_items(items)

        rows = {"known plan": turns.known, "all reused": turns.reused, "strict replay": turns.replayed}
        for _ in range(options.rounds):
            floor_s = await floor_of(floor, size * runs)
            for name, work in rows.items():
                sheet.add(f"for_each, {name}", (await cpu(work))[0], floor_s, size * runs)


async def waits(options: Options, folder: Path) -> list[Row]:
    """Steps that wait, as for an answer from afar: their CPU, and how long a run takes."""
    cpus, walls = Sheet("waits", "bare asyncio"), Sheet("waits", "bare asyncio", "run")
    steps = 200
    for (name, kind), layer in zip(WAITING.items(), (25, 10, 10), strict=True):
        plan = layered(kind, steps, layer=layer)
        async with Engine([kind.tool], store=str(folder / f"waits{name}.db")) as engine:
            await ran(engine, plan, steps)

            async def bare(kind: Kind = kind, layer: int = layer) -> None:
                await gathered(kind, steps, layer=layer)

            async def whole(plan: dict[str, Any] = plan, engine: Engine = engine) -> None:
                await ran(engine, plan, steps)

            for _ in range(options.rounds):
                if name == "5 ms":
                    floor = await floor_of(bare, steps, 2)
                    sheet_s, _ = await cpu(whole)
                    cpus.add("a step that waits 5 ms, CPU", sheet_s, floor, steps)
                else:
                    floor, _ = await wall(bare)
                    walls.add(f"200 steps of {name} in 20 layers, wall", (await wall(whole))[0], floor)
    return cpus.rows() + walls.rows()


async def writes(options: Options, folder: Path) -> list[Row]:
    """A chain of idempotent writes beside a chain of reads, and beside two durable commits a write."""
    steps = 100
    reads, floors = Sheet("writes", "a read of a chain"), Sheet("writes", "two FULL commits")
    bare = Sheet("writes", "bare asyncio")
    db = database(folder / "writes-floor.db", "FULL")
    writing, reading = chain(PUT, steps), chain(LOOK, steps)
    async with Engine([PUT, LOOK], store=str(folder / "writes.db")) as engine:
        await ran(engine, writing, steps)
        await ran(engine, reading, steps)
        for _ in range(options.rounds):
            read_s, _ = await cpu(lambda: ran(engine, reading, steps))
            write_s, _ = await cpu(lambda: ran(engine, writing, steps))
            reads.add("a write, CPU, times a read", write_s, read_s / steps, steps)
            bare.add("a read of a chain", read_s, await floor_of(lambda: chained(steps), steps), steps)
            floor_s, _ = await wall(lambda: written(steps, db))
            write_s, _ = await wall(lambda: ran(engine, writing, steps))
            floors.add("a write, wall, times two FULL commits", write_s, floor_s / steps, steps)
            floor_s, _ = await cpu(lambda: written(steps, db))
            write_s, _ = await cpu(lambda: ran(engine, writing, steps))
            floors.add("a write, CPU, times two FULL commits", write_s, floor_s / steps, steps)
    db.close()
    return bare.rows() + reads.rows() + floors.rows()


class SameRows:
    """The rows that runs have left in a store, to be written again into a new file: two transactions a run, as few as can be durable.

    Args:
        store: The file that has the runs, closed.
        runs: How many.
        folder: Where new files go.
    """

    def __init__(self, store: str, runs: int, folder: Path) -> None:
        self._runs = runs
        self._folder = folder
        db = sqlite3.connect(store)
        self._schema = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql <> ''")]
        self._schema = [sql for sql in self._schema if "sqlite_sequence" not in sql]
        names = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        self._rows: list[tuple[str, list[Any]]] = []
        for name in names:
            kept = db.execute(f"SELECT * FROM {name}").fetchall()
            if kept:
                marks = ",".join("?" * len(kept[0]))
                self._rows.append((f"INSERT INTO {name} VALUES ({marks})", kept))
        db.close()

    def count(self) -> int:
        """Return how many rows a run has."""
        return round(sum(len(rows) for _, rows in self._rows) / self._runs)

    def open(self) -> sqlite3.Connection:
        """Return a new file with the same tables."""
        db = sqlite3.connect(self._folder / f"same{next(NUMBERS)}.db", isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        for sql in self._schema:
            db.execute(sql)
        return db

    async def write(self, db: sqlite3.Connection) -> None:
        """Write all rows, run by run."""
        submitted = [each for each in self._rows if " runs " in each[0] or " headers " in each[0]]
        ended = [each for each in self._rows if each not in submitted]
        for run in range(self._runs):
            for tables in (submitted, ended):
                db.execute("BEGIN IMMEDIATE")
                for sql, rows in tables:
                    db.executemany(
                        sql,
                        rows[run * len(rows) // self._runs : (run + 1) * len(rows) // self._runs],
                    )
                db.execute("COMMIT")


async def small(options: Options, folder: Path) -> list[Row]:
    """Runs of five steps, one by one and many at once, beside SQLite alone writing the rows that they leave."""
    sheet = Sheet("small", "SQLite alone, the same rows", "run")
    bare = Sheet("small", "asyncio.gather", "run")
    plan, runs = layered(TYPED, 5, layer=2), 100
    rows: SameRows | None = None

    async def bare_runs() -> None:
        for _ in range(runs):
            await gathered(TYPED, 5, layer=2)

    for number in range(options.rounds + 1):
        store = str(folder / f"small{next(NUMBERS)}.db")
        # The floor writes what runs of the round before have left.
        floor_s = many_floor = 0.0
        if rows is not None:
            db = rows.open()
            floor_s = (await cpu(lambda rows=rows, db=db: rows.write(db)))[0] / runs
            db.close()
        async with Engine([TYPED.tool], store=store) as engine:

            async def one_by_one(engine: Engine = engine) -> None:
                for _ in range(runs):
                    await ran(engine, plan, 5)

            seconds, _ = await cpu(one_by_one)
        if number:
            sheet.add("5 steps, one by one", seconds, floor_s, runs)
            bare_s = await floor_of(bare_runs, runs)
            bare.add("5 steps, one by one, times gather", seconds, bare_s, runs)
            async with Engine([TYPED.tool], store=str(folder / f"many{number}.db")) as engine:
                await ran(engine, plan, 5)

                async def at_once(engine: Engine = engine) -> None:
                    await asyncio.gather(*(ran(engine, plan, 5) for _ in range(1_000)))

                many_s, _ = await cpu(at_once)
            many_floor = floor_s
            sheet.add("5 steps, 1,000 at once", many_s, many_floor, 1_000)
        rows = SameRows(store, runs, folder)
    return sheet.rows() + bare.rows()


async def plans(options: Options, folder: Path) -> list[Row]:
    """Inner plans, lists and forks."""
    sheet = Sheet("plans")
    inner, items = nested(TYPED, 100), [{**ITEM, "count": number} for number in range(options.steps)]
    plan, listed = layered(TYPED, options.steps), for_each()
    async with Engine([TYPED.tool, EACH], store=str(folder / "plans.db")) as engine:
        first = await ran(engine, plan, options.steps)
        for number in range(options.rounds + 1):
            floor = await floor_of(lambda: gathered(TYPED, 500, layer=2), 500)
            start = fresh()
            numbers = [start + 1_000 * item for item in range(100)]
            inputs = {"numbers": numbers}
            seconds, run = await cpu(lambda inputs=inputs: engine.run(inner, inputs=inputs))
            assert run.raise_for_status().usage["calls"] == 500, run.usage
            each_floor = await floor_of(lambda: gathered_items(items), options.steps)
            each_s, _ = await cpu(lambda: ran(engine, listed, options.steps, rows=items))
            plain = await floor_of(lambda: gathered(TYPED, options.steps), options.steps)
            fork_s, forked = await cpu(lambda: engine.fork(first.id, at=f"s{options.steps - 1}"))
            assert forked.raise_for_status().usage["calls"] == 1, forked.usage
            if number:
                sheet.add("100 inner plans of 5 steps", seconds, floor, 500)
                sheet.add(f"for_each of {options.steps:,}, known plan", each_s, each_floor, options.steps)
                sheet.add("fork, one step runs again", fork_s, plain, options.steps)
    return sheet.rows()


def stored_bytes(path: str) -> int:
    """Return the bytes of a store's file, its log included."""
    return sum(Path(path + tail).stat().st_size for tail in ("", "-wal") if Path(path + tail).exists())


async def big_texts(options: Options, folder: Path) -> list[Row]:
    """A text of 1 MB that passes through 50 steps, as a value and as an artifact, and what the store grows by."""
    steps, rounds = 50, max(3, options.rounds // 2)
    found: list[Row] = []
    for name, first, later in (("", WRITE_TEXT, HAND_ON), (", as an artifact", SAVE_TEXT, HAND_ON_SAVED)):
        taken: list[float] = []
        kept: list[float] = []
        for _ in range(rounds):
            store = str(folder / f"texts{next(NUMBERS)}.db")
            async with Engine([first, later], store=store) as engine:
                await ran(engine, texts(first, later, 3, 1), 3)
                before = stored_bytes(store)
                plan = texts(first, later, steps, 1)
                seconds, run = await cpu(lambda engine=engine, plan=plan: ran(engine, plan, steps))
                assert (
                    run.output["size"] if isinstance(run.output, dict) else len(run.output)
                ) == 1024 * 1024
                taken.append(seconds / steps * 1e3)
            kept.append((stored_bytes(store) - before) / 1024 / 1024)
        found.append(_row("texts", f"1 MB through 50 steps{name}", taken, "ms a step"))
        found.append(_row("texts", f"what the store grows by{name}", kept, "MB"))
    if options.large:
        found.append(await _artifact(folder, rounds))
    return found


async def _artifact(folder: Path, rounds: int) -> Row:
    """Save 100 MB as an artifact and read it again, as callers do whose values are too large for a result."""
    taken: list[float] = []
    data = os.urandom(1024 * 1024) * 100
    async with Engine([ADD], store=str(folder / "artifact.db")) as engine:
        for number in range(rounds):

            async def there_and_back(number: int = number) -> None:
                saved = await engine.save_artifact(data + str(number).encode())
                assert len(await engine.read_artifact(saved)) > len(data)

            taken.append((await cpu(there_and_back))[0])
    return _row("texts", "100 MB saved as an artifact and read", taken, "s")


async def submit(options: Options, folder: Path) -> list[Row]:
    """CPU from the submission of a plan that nobody has seen to the first call of a tool."""
    found: list[Row] = []
    async with Engine([NOTED.tool], store=str(folder / "submit.db")) as engine:
        await ran(engine, layered(NOTED, 50), 50)
        for name, steps in (("1 step", 1), ("1,000 steps, new", 1_000)):
            taken: list[float] = []
            for _ in range(options.rounds):
                plan = layered(NOTED, steps, tag=fresh())
                await asyncio.sleep(SETTLED_S)  # what the run before leaves is written by then
                FIRST_CALL_S.clear()
                started = time.process_time()
                await ran(engine, plan, steps)
                taken.append((FIRST_CALL_S[0] - started) * 1e3)
            found.append(_row("submit", f"submit to first call, {name}", taken, "ms CPU"))
    return found


START_TOOLS: Final = '''
from firmplan import tool


@tool(effect="pure", version=1)
def add(a: int, b: int) -> int:
    """Add."""
    return a + b
'''


def started(options: Options, folder: Path) -> list[Row]:
    """How long a new process takes for an import, and for a run of five steps with the command line."""
    steps = [
        {"id": f"s{n}", "tool": "add", "args": {"a": f"${{s{n - 1}}}" if n else 1, "b": n}} for n in range(5)
    ]
    (folder / "tools.py").write_text(START_TOOLS)
    (folder / "plan.json").write_text(json.dumps({"firmplan": 1, "steps": steps, "output": "${s4}"}))
    run = ["-m", "firmplan", "run", "plan.json", "--tools", "tools.py", "--store", "start.db"]
    cases = {
        "python itself": ["-c", "pass"],
        "from firmplan import Engine": ["-c", "from firmplan import Engine"],
        "firmplan run of 5 steps": run,
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    # Installed packages have their bytecode beside them: where the environment forbids to write it, every start would compile all modules.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for number in range(options.rounds + 1):
        for name, words in cases.items():
            used = os.times()
            seconds = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=folder, env=env)
            seconds = time.perf_counter() - seconds
            now = os.times()
            cpu_s = now.children_user + now.children_system - used.children_user - used.children_system
            if number:
                taken[name].append((seconds, cpu_s))
    found: list[Row] = []
    for name, samples in taken.items():
        for at, what in ((0, "wall"), (1, "CPU")):
            found.append(_row("start", f"{name}, {what}", [sample[at] for sample in samples], "s"))
    return found


async def memory(options: Options, folder: Path) -> list[Row]:
    """What a run holds for a step above its values, and what its journal takes for a step that does nothing."""
    figures = [_apart("--child-memory", str(folder / f"memory{number}.db")) for number in range(2)]
    found = [
        _row("memory", name, [figure[name] for figure in figures], "bytes a step") for name in figures[0]
    ]
    store, steps = str(folder / "journal.db"), options.steps
    for name, kind in (("integers", KINDS["integers"]), ("TypedDicts", TYPED)):
        async with Engine([kind.tool], store=store) as engine:
            run = await ran(engine, layered(kind, steps), steps)
        db = sqlite3.connect(store)
        (length,) = db.execute(
            "SELECT sum(length(lines)) FROM journal WHERE run_id = ?", (run.id,)
        ).fetchone()
        db.close()
        found.append(_row("memory", f"journal of a step of {name}", [length / steps], "bytes a step"))
    return found


async def child_memory(store: str) -> dict[str, float]:
    """In a new process: what a known plan's run holds at its peak, what its `Run` keeps, and what the plan and its program keep."""
    steps = 10_000
    plan = layered(TYPED, steps)
    async with Engine([TYPED.tool], store=store) as engine:
        await ran(engine, layered(TYPED, 50), 50)
        tracemalloc.start()
        await ran(engine, plan, steps)
        compiled, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        run = await ran(engine, plan, steps)
        held, peak = tracemalloc.get_traced_memory()
        values = sum(len(json.dumps(step.output)) for step in run.steps.values())
    return {
        "memory of a run above its values": (peak - compiled - values) / steps,
        "what its Run keeps": (held - compiled) / steps,
        "what the plan and its program keep": compiled / steps,
    }


@contextmanager
def scripted_model(recording: Path) -> Iterator[str]:
    """Serve a recording from a process of its own, whose CPU does not count; yield where."""
    words = [sys.executable, "-m", "firmplan.testing.scripted_model", str(recording)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate()


async def agent(options: Options, folder: Path) -> list[Row]:
    """The turns of an agent, beside bare requests to the same endpoint, which is a process of its own and answers at once."""
    turns = 10
    call = {"reasoning": "next", "calls": [{"tool": "add", "args": {"a": 1, "b": 2}}]}
    answer = {"reasoning": "done", "answer": "three"}
    script = [*[call] * (turns - 1), answer]
    bare: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "BARE"}],
    }
    exchanges: list[dict[str, Any]] = [{"match": "BARE", "text": "three", "always": True}]
    exchanges += [{"reply": reply} for reply in script * (options.rounds + 1)]
    (folder / "agent.json").write_text(json.dumps({"recording": 1, "exchanges": exchanges}))
    goal = {"goal": "Add", "tools": ["add"], "max_steps": turns}
    plan = {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "r", "agent": {**goal, "goal": "Add to ${inputs.n}"}}],
        "output": "${r}",
    }
    sheet = Sheet("agent", "a bare request of the openai client", "turn")
    import openai

    with scripted_model(folder / "agent.json") as base_url:
        models = {"default": {"name": "m", "base_url": base_url, "tool_calls": True}}
        async with (
            openai.AsyncOpenAI(base_url=base_url, api_key="none") as client,
            Engine([ADD], store=str(folder / "agent.db"), models=models) as engine,
        ):

            async def asked() -> None:
                for _ in range(turns):
                    await client.chat.completions.create(**bare)

            await asked()
            for number in range(options.rounds + 1):
                floor_s, _ = await cpu(asked)
                seconds, run = await cpu(lambda: engine.run(plan, inputs={"n": fresh()}))
                assert run.raise_for_status().output == "three"
                if number:
                    sheet.add("a turn of an agent, its call included", seconds, floor_s / turns, turns)
    return sheet.rows()


async def postgres(options: Options, folder: Path) -> list[Row]:
    """The rows of `kinds` on a store in PostgreSQL on this machine, in the same rounds as on a file; and a chain of writes."""
    sys.path.insert(0, str(HERE.parent / "tests" / "support"))
    from postgres import Cluster, find_binaries

    if find_binaries() is None:
        print("PostgreSQL's server is not installed here: nothing is measured", file=sys.stderr)
        return []
    sheet, chains = Sheet("postgres"), Sheet("postgres", "the same on a SQLite file")
    steps, number = options.steps, 50
    plan = chain(PUT, number)
    with ExitStack() as stack:
        cluster = Cluster()
        stack.callback(cluster.remove)
        lane = Lane(folder, TYPED, steps, cluster.fresh_url())
        await rounds_of(sheet, lane, lambda: gathered(TYPED, steps), steps, options)
        async with (
            Engine([PUT], store=cluster.fresh_url()) as server,
            Engine([PUT], store=str(folder / "beside.db")) as file,
        ):
            await ran(server, plan, number)
            await ran(file, plan, number)
            for _ in range(options.rounds):
                file_s, _ = await wall(lambda: ran(file, plan, number))
                server_s, _ = await wall(lambda: ran(server, plan, number))
                chains.add(
                    "a write of a chain, wall, the server without fsync", server_s, file_s / number, number
                )
    return [row for row in sheet.rows() if row.name != "memory: store"] + chains.rows()


GROUPS: Final[dict[str, Callable[[Options, Path], Awaitable[list[Row]]]]] = {
    "kinds": kinds,
    "styles": styles,
    "cold": cold,
    "growth": growth,
    "waits": waits,
    "writes": writes,
    "small": small,
    "plans": plans,
    "texts": big_texts,
    "submit": submit,
    "start": lambda options, folder: asyncio.to_thread(started, options, folder),
    "memory": memory,
    "agent": agent,
    "postgres": postgres,
}


def number_of(value: float | None) -> str:
    """Return a figure in as many digits as tell something."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def printed(rows: Iterable[Row]) -> None:
    """Print rows of one group."""
    shown = ""
    for row in rows:
        if row.group != shown:
            shown = row.group
            print(
                f"\n{shown:<42}{'median':>9} {'(least, most)':<18}{'gate':>7}{'goal':>7}{'limit':>7}",
                flush=True,
            )
        spread = f"({number_of(row.low)}, {number_of(row.high)})"
        aim = "".join(f"{number_of(value):>7}" for value in (row.aim.gate, row.aim.goal, row.aim.limit))
        rest = f"{row.amount}; x {row.floor}" if row.floor else row.unit
        over = "  PAST ITS LIMIT" if is_over(row) else ""
        print(
            f"  {row.name:<40}{number_of(row.figure):>9} {spread:<18}{aim}  {row.verdict:<8}{rest}{over}",
            flush=True,
        )


def is_over(row: Row) -> bool:
    """Return whether a row is past its limit."""
    return row.aim.limit is not None and row.figure > row.aim.limit


def machine() -> dict[str, str]:
    """Return what the figures were measured on, and how busy it was."""
    model = "an unknown processor"
    with Path("/proc/cpuinfo").open() as lines:
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": f"{os.cpu_count()} cores of {model}",
        "python": platform.python_version(),
        "system": platform.system(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


async def profiled(name: str, kind: Kind, options: Options, folder: Path) -> None:
    """Print where the time of one row of `kinds` goes."""
    async with Lane(folder, kind, options.steps).open() as rows:
        for each_name, work in rows.items():
            profiler = cProfile.Profile()
            if each_name == name:
                profiler.enable()
            await work()
            profiler.disable()
            if each_name == name:
                pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


async def measured(groups: Sequence[str], options: Options, file: Path | None) -> list[Row]:
    """Print every group as it ends, and write it to a file; return all rows."""
    found: list[Row] = []
    for group in groups:
        with tempfile.TemporaryDirectory() as folder:
            rows = await GROUPS[group](options, Path(folder))
        printed(rows)
        found += rows
        if file is not None:
            await asyncio.to_thread(write_figures, file, rows, options)
    return found


def write_figures(file: Path, rows: Sequence[Row], options: Options) -> None:
    """Put rows into a file of figures: they replace those of their groups, so that a group can be measured again alone."""
    document = json.loads(file.read_text()) if file.exists() else {"rows": []}
    names = {row.group for row in rows}
    told = [row for row in document["rows"] if row["group"] not in names]
    told += [{**asdict(row), "gate": row.aim.gate, "goal": row.aim.goal} for row in rows]
    order = [*KINDS, *GROUPS]
    told.sort(key=lambda row: order.index(row["group"]))
    file.write_text(
        json.dumps({"machine": machine(), "rounds": options.rounds, "rows": told}, indent=1) + "\n"
    )


def main(words: Sequence[str]) -> int:
    """Print the tables; return the exit code."""
    if words[:1] == ["--child-cold"]:
        print(json.dumps(asyncio.run(child_cold(words[1], int(words[2]), int(words[3])))))
        return 0
    if words[:1] == ["--child-memory"]:
        print(json.dumps(asyncio.run(child_memory(words[1]))))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", default="", metavar="ROW")
    parser.add_argument("--kind", default="TypedDict", choices=KINDS)
    given = parser.parse_args(words)
    if unknown := set(given.groups) - set(GROUPS):
        parser.error(f"unknown group {', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}")
    options = Options(given.rounds, given.steps, given.large, given.profile)
    if options.profile:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(profiled(options.profile, KINDS[given.kind], options, Path(folder)))
        return 0
    about = machine()
    print(
        f"{about['processor']}, Python {about['python']}, a load of {about['load']}, {options.rounds} rounds"
    )
    rows = asyncio.run(measured(given.groups or list(GROUPS), options, given.json))
    over = [row for row in rows if is_over(row)]
    for row in over:
        print(
            f"\n{row.group}, {row.name}: {number_of(row.figure)} is past its limit of {number_of(row.aim.limit)}"
        )
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
