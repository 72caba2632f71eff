"""A bank with an untrusted number and resources that keep what was written, and what a law asks of the plans that run there."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from functools import cache

from firmplan import Context, Plan
from firmplan.plans.checker.flow.sources import Sources
from firmplan.plans.program.compile import compile_plan
from firmplan.plans.program.program import CallTool, RunPlan
from firmplan.tools import Tool
from rig import Rig

INTEGER = {"type": "integer"}
RESOURCES = ("a", "b", "world")
DATA, ALL = {"unsafe-flow", "judged-flow"}, {"unsafe-flow", "judged-flow", "untrusted-condition"}
NAMED = re.compile(r"of the write '(\w+)'|whether step '(\w+)' writes")


def step_of(path):
    return re.sub(r"\[\d+\]|#\d+", "", path).split("/")[-1]


def named_steps(report, codes):
    """Return the ids of the writes that problems with these codes name."""
    found = [NAMED.search(each.message) for each in report.problems if each.code in codes]
    return {name for match in found if match for name in match.groups()}


class World:
    """What two resources hold, and all that was written. It stands apart from the tools: whatever holds them is code of theirs, which a fingerprint reads."""

    def __init__(self):
        self.begin_anew()

    def begin_anew(self):
        """Forget what was written."""
        self.held = {"a": 0, "b": 0}
        self.written = {}

    def found(self, resource):
        return sum(held for name, held in self.held.items() if resource in (name, "world"))

    def get(self, resource):
        def get(n):
            return (n + self.found(resource)) % 97

        return get

    def put(self, resource):
        def put(n, *, ctx: Context):
            self.written.setdefault(step_of(ctx.step), []).append(n)
            found = self.found(resource)
            for name in self.held if resource == "world" else (resource,):
                self.held[name] = (self.held[name] * 3 + found + n + 1) % 97
            return (n + found) % 97

        return put


class Bank:
    """A world with an untrusted number, two resources, and all that was written."""

    def __init__(self, number):
        self._world = World()
        one = {"type": "object", "properties": {"n": INTEGER}, "required": ["n"]}
        options = {"returns": INTEGER, "version": 1}
        self.tools = [
            Tool.from_callable(
                lambda: number,
                name="look",
                parameters={"type": "object", "properties": {}},
                effect="read",
                resource="web",
                trust="untrusted",
                **options,
            )
        ]
        for resource in RESOURCES:
            for name, effect, function in (
                (f"get_{resource}", "read", self._world.get(resource)),
                (f"put_{resource}", "write", self._world.put(resource)),
            ):
                made = Tool.from_callable(
                    function, name=name, parameters=one, effect=effect, resource=resource, **options
                )
                self.tools.append(made)

    @property
    def written(self):
        return self._world.written

    def begin_anew(self):
        """Forget what was written."""
        self._world.begin_anew()


def banks_of(numbers, *more):
    """Return a bank for each of some numbers, all different, as banks begin, with more tools.

    Their tools are made once: to read the code of new ones takes longer than to check a plan and run it.
    """
    assert len(set(numbers)) == len(numbers), "two banks of one number would be one"
    banks = [_bank(number, more) for number in numbers]
    for bank in banks:
        bank.begin_anew()
    return banks


@cache
def _bank(number, more):
    bank = Bank(number)
    bank.tools += more
    return bank


class Runs:
    """Runs plans in banks; all runs of a bank have one engine, since to open one takes as long as a run. `with Runs() as runs: runs.run(bank, plan)`."""

    def __init__(self):
        self._loop = asyncio.Runner()
        self._open = AsyncExitStack()
        self._rigs = {}
        self._ended = None

    def __enter__(self):
        self._loop.__enter__()
        return self

    def __exit__(self, *fault):
        self._loop.run(self._open.aclose())
        self._loop.__exit__(*fault)

    def run(self, bank, plan):
        """Return the run of a plan, in which nothing of another run is reused."""
        self._loop.run(self._run(bank, plan))
        return self._ended

    async def _run(self, bank, plan):
        if bank not in self._rigs:
            self._rigs[bank] = await self._open.enter_async_context(Rig(bank.tools, flow="off"))
        # Not returned: asyncio would write the whole run as text each time, to compare signals.
        self._ended = await self._rigs[bank].run(Plan.model_validate(plan), reuse="off")


def assert_sources(plan, tools):
    """Exactly what is labelled has a source, as in `test_sources.py`."""
    sources = Sources(plan, tools)
    waiting = [((), compile_plan(plan, tools))]
    while waiting:
        prefix, program = waiting.pop()
        for code in program.steps:
            trail = (*prefix, code.position)
            if isinstance(code.action, RunPlan):
                waiting.append((trail, code.action.program))
            if isinstance(code.action, CallTool):
                found = {source.name for source in sources.of_argument(trail, "n").sources}
                assert bool(found) == ("n" in code.tainted), (sources.path(trail), plan)
                assert all(name.endswith("look") for name in found)
                assert sources.of_control(trail).sources or not code.controlled, (sources.path(trail), plan)
