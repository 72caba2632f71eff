"""How many calls fixed runs make, compared with the committed figures: what `make bench-guard` runs.

    python benchmarks/bench_calls.py [SCENARIO ..] [--functions] [--update]

Times differ from machine to machine and from minute to minute; these counts do not, so that they show what a change adds. Counted are the
calls of firmplan's Python functions, comprehensions and lambdas included (they are calls until Python 3.11), and the calls that
firmplan's code makes of functions in C. Not counted are commits, which have threads of their own: how many records share one
depends on the disk. Each scenario runs in an engine that has run something before, so that nothing is
imported for the first time; `cold` has a process of its own. The figures stand in `calls.json`, for one minor version of Python;
under another nothing is compared. `--functions` lists where the calls of the named scenarios are. Exits with 1 where a count is more than 10 % past its figure;
`--update` (`make bench-guard UPDATE=1`) writes the figures anew.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal, TypeAlias

from firmplan import Engine
from workloads import ADD, EACH, ITEM, KINDS, PUT, SETTLED_S, WAITING, chain, for_each, layered

HERE: Final = Path(__file__).parent
ROOT: Final = str(HERE.parent)
FIGURES: Final = HERE / "calls.json"
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
GROWTH_MAX: Final = 1.10
STEPS: Final = 200
WRITES: Final = 20
ONE_STEP_CALLS_MAX: Final = 300
ONE_STEP_MODULES_MAX: Final = 40
RUNS: Final = 20  # short runs that are counted together, with what goes on in the background between them
REPEATS: Final = (2, 3)
MAIN: Final = threading.get_ident()
STEADY: Final = ("plans/", "tools/", "planner/", "run_planner.py")
"""Where calls count in every thread: plans are checked on one of their own. The rest counts on the event loop's."""
TYPED: Final = KINDS["TypedDict"]
WAIT: Final = WAITING["5 ms"]

Calls: TypeAlias = "Counter[tuple[str, str, str]]"
"""Kind, module and function -> how many."""
Figures: TypeAlias = "dict[str, int]"
"""Kind of call -> how many."""


class Counting:
    """Counts calls by module and function, in the form that `sys.setprofile` wants, in every thread that starts after it was made."""

    def __init__(self) -> None:
        self.calls: Calls = Counter()
        self._found: Calls = Counter()
        self._is_on = False
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Count one event."""
        if not self._is_on or event not in ("call", "c_call"):
            return
        file = frame.f_code.co_filename
        if not file.startswith(ROOT) or "/.venv/" in file or file.startswith(str(HERE)):
            return
        module = file[len(ROOT) + 1 :]
        if threading.get_ident() != MAIN and not module.startswith(STEADY):
            return
        if event == "c_call":
            self._found["builtin", module, getattr(arg, "__qualname__", "?")] += 1
        else:
            self._found["python", module, frame.f_code.co_name] += 1

    async def count(self, works: Iterable[Callable[[], Awaitable[object]]], times: int = 1) -> None:
        """Keep the least of the counts of some works that do the same: how many commits they share differs a little.

        Args:
            works: What is done.
            times: How many runs each of them is; the counts are of one.
        """
        self.calls = Counter()
        for work in works:
            # What the runs before leave to a thread, such as storing a program, is done by then.
            await asyncio.sleep(SETTLED_S)
            self._found = Counter()
            gc.collect()
            gc.disable()
            self._is_on = True
            await work()
            self._is_on = False
            gc.enable()
            if not self.calls or self._found.total() < self.calls.total() * times:
                self.calls = Counter({where: round(number / times) for where, number in self._found.items()})

    def figures(self) -> Figures:
        """Return the totals: firmplan's functions, and functions in C."""
        totals: Counter[str] = Counter()
        for (kind, _, _), number in self.calls.items():
            totals[kind] += number
        return {kind: totals[kind] for kind in ("python", "builtin")}

    def modules(self) -> int:
        """Return how many modules of firmplan the work passes: less than half a time, counted over many runs, is what goes on beside them."""
        return len({module for (_, module, _), number in self.calls.items() if number})

    def print_functions(self) -> None:
        """Print where the calls of firmplan's functions are, by module."""
        modules: Counter[str] = Counter()
        for (kind, module, _), number in self.calls.items():
            modules[module] += number * (kind != "builtin")
        for module, number in modules.most_common():
            print(f"{number:7}  {module}")
            for (kind, home, function), times in self.calls.most_common():
                if home == module and kind != "builtin":
                    print(f"           {times:6}  {function}")
        print(f"{self.modules()} modules")


async def ran(engine: Engine, plan: dict[str, Any], calls: int, n: int, **inputs: Any) -> str:
    """Run a plan; check what it called; return the run's id."""
    run = (await engine.run(plan, inputs={"n": n, **inputs})).raise_for_status()
    assert run.usage["calls"] == calls, run.usage
    return run.id


@asynccontextmanager
async def warm(store: str, tools: Sequence[Any] = (TYPED.tool,)) -> AsyncIterator[Engine]:
    """Yield an engine that has run something else."""
    async with Engine(tools, store=store) as engine:
        if TYPED.tool in tools:
            await ran(engine, layered(TYPED, 5, tag=7, layer=2), 5, 1)
        yield engine


async def known(counting: Counting, store: str) -> None:
    """Run a plan with other inputs."""
    plan = layered(TYPED, STEPS)
    async with warm(store) as engine:
        await ran(engine, plan, STEPS, 1_000)
        await counting.count(partial(ran, engine, plan, STEPS, 1_000 * n) for n in REPEATS)


async def new(counting: Counting, store: str) -> None:
    """Run plans that nobody has seen."""
    async with warm(store) as engine:
        await ran(engine, layered(TYPED, STEPS), STEPS, 1_000)

        async def whole(n: int) -> None:
            await ran(engine, layered(TYPED, STEPS, tag=500_000 * n), STEPS, 1)
            # The program is stored by a thread, which has begun by the end of the run or has not.
            await asyncio.sleep(SETTLED_S)

        await counting.count(partial(whole, n) for n in REPEATS)


async def reused(counting: Counting, store: str) -> None:
    """Run a plan again."""
    plan = layered(TYPED, STEPS)
    async with warm(store) as engine:
        await ran(engine, plan, STEPS, 1_000)
        await ran(engine, plan, 0, 1_000)
        await counting.count(partial(ran, engine, plan, 0, 1_000) for _ in REPEATS)


async def replay(counting: Counting, store: str) -> None:
    """Replay a run."""
    async with warm(store) as engine:
        run_id = await ran(engine, layered(TYPED, STEPS), STEPS, 1_000)
        await engine.replay(run_id)
        await counting.count(partial(engine.replay, run_id) for _ in REPEATS)


async def memory(counting: Counting, _store: str) -> None:
    """Run a plan with other inputs, in memory."""
    await known(counting, "memory:")


async def items(counting: Counting, store: str) -> None:
    """Run a list with other inputs."""
    plan, rows = for_each(), [{**ITEM, "count": number} for number in range(STEPS)]
    async with warm(store, [EACH]) as engine:
        await ran(engine, plan, STEPS, 1, rows=rows)
        await counting.count(partial(ran, engine, plan, STEPS, n, rows=rows) for n in REPEATS)


async def waits(counting: Counting, store: str) -> None:
    """Run steps that wait."""
    plan = layered(WAIT, STEPS)
    async with warm(store, [WAIT.tool]) as engine:
        await ran(engine, plan, STEPS, 1_000)
        await counting.count(partial(ran, engine, plan, STEPS, 1_000 * n) for n in REPEATS)


async def writes(counting: Counting, store: str) -> None:
    """Run a chain of writes."""
    plan = chain(PUT, WRITES)
    async with warm(store, [PUT]) as engine:
        await ran(engine, plan, WRITES, 1)
        await counting.count(partial(ran, engine, plan, WRITES, n) for n in REPEATS)


async def small(counting: Counting, store: str) -> None:
    """Run five steps with other inputs."""
    plan = layered(TYPED, 5, layer=2)
    async with warm(store) as engine:

        async def runs(first: int) -> None:
            for number in range(RUNS):
                await ran(engine, plan, 5, 1_000 * first + 10 * number)

        await runs(1)
        await counting.count((partial(runs, n) for n in REPEATS), RUNS)


ONE: Final[dict[str, Any]] = {
    "firmplan": 1,
    "steps": [{"id": "total", "tool": "add", "args": {"a": 1, "b": 2}}],
    "output": "${total}",
}


async def one_step(counting: Counting, store: str, *, reuse: Literal["off", "auto"] = "off") -> None:
    """Run a plan of one step, which has run before."""
    async with warm(store, [ADD]) as engine:

        async def runs() -> None:
            for _ in range(RUNS):
                assert (await engine.run(ONE, reuse=reuse)).output == 3

        await runs()
        await counting.count((runs for _ in REPEATS), RUNS)


async def one_step_reused(counting: Counting, store: str) -> None:
    """Reuse the result of a plan of one step."""
    await one_step(counting, store, reuse="auto")


async def cold(counting: Counting, store: str) -> None:
    """In a new process, run a plan that the store has."""
    async with warm(store) as engine:
        await counting.count([partial(ran, engine, layered(TYPED, STEPS), STEPS, 3_000)])


Scenario: TypeAlias = "Callable[[Counting, str], Awaitable[None]]"
SCENARIOS: Final[dict[str, Scenario]] = {
    "known": known,
    "new": new,
    "reused": reused,
    "replay": replay,
    "memory": memory,
    "items": items,
    "waits": waits,
    "writes": writes,
    "small": small,
    "one-step": one_step,
    "one-step-reused": one_step_reused,
    "cold": cold,
}


def counted(name: str, counting: Counting) -> Figures:
    """Return the counts of a scenario, in a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "runs.db")
        if name != "cold":
            asyncio.run(SCENARIOS[name](counting, store))
            return counting.figures()

        async def before() -> None:
            async with Engine([TYPED.tool], store=store) as engine:
                await ran(engine, layered(TYPED, STEPS), STEPS, 1_000)

        asyncio.run(before())
        words = [sys.executable, __file__, "--child", store]
        told = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
        counting.calls = Counter({(kind, module, function): n for kind, module, function, n in told})
        return counting.figures()


def compared(name: str, now: Figures, before: Figures | None) -> bool:
    """Print a scenario's counts beside the committed ones; return whether the sum is not too large."""
    total, was = sum(now.values()), sum((before or {}).values())
    change = f"was {was:7,}, {total / was - 1:+6.1%}" if was else "no figure yet"
    is_fine = total <= was * GROWTH_MAX
    parts = ", ".join(f"{number:,} {kind}" for kind, number in now.items())
    print(f"{name:<16}{total:>8,} calls ({change}): {parts}{'' if is_fine else '   TOO MANY'}", flush=True)
    return is_fine


def is_short(now: Figures, modules: int) -> bool:
    """Print how long the way of a run of one step is; return whether it is short enough to be followed by a reader."""
    print(
        f"{'':<16}{now['python']} of {ONE_STEP_CALLS_MAX} calls of firmplan's functions, {modules} of {ONE_STEP_MODULES_MAX} modules"
    )
    return now["python"] <= ONE_STEP_CALLS_MAX and modules <= ONE_STEP_MODULES_MAX


def main(words: Sequence[str]) -> int:
    """Print the counts; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--functions", action="store_true", help="list every function")
    parser.add_argument("--update", action="store_true", help="write the figures anew")
    parser.add_argument("--child", metavar="STORE", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    counting = Counting()
    if options.child:
        asyncio.run(cold(counting, options.child))
        print(json.dumps([[*where, number] for where, number in counting.calls.items()]))
        return 0
    committed = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"python": PYTHON, "calls": {}}
    if committed["python"] != PYTHON and not options.update:
        print(f"the figures are for Python {committed['python']}, this is {PYTHON}: nothing is compared")
        return 0
    names = options.scenarios or list(SCENARIOS)
    found: dict[str, Figures] = {}
    grown: list[str] = []
    for name in names:
        found[name] = counted(name, counting)
        if not compared(name, found[name], committed["calls"].get(name)):
            grown.append(name)
        if name == "one-step" and not is_short(found[name], counting.modules()):
            grown.append(name)
        if options.functions:
            counting.print_functions()
    if options.update:
        kept = committed["calls"] if committed["python"] == PYTHON else {}
        calls = {name: figures for name, figures in {**kept, **found}.items() if name in SCENARIOS}
        FIGURES.write_text(json.dumps({"python": PYTHON, "calls": calls}, indent=2) + "\n")
        print(f"written to {FIGURES.relative_to(ROOT)}")
        return 0
    if grown:
        print(
            f"\n{', '.join(dict.fromkeys(grown))}: more than {GROWTH_MAX - 1:.0%} past the figures in {FIGURES.relative_to(ROOT)}.\n"
            f"Look where the calls come from: python benchmarks/bench_calls.py {grown[0]} --functions\n"
            "If they are worth it, write the figures anew: make bench-guard UPDATE=1"
        )
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
