"""The law of the engine: the same plan and inputs give the same run digest, whatever ends first and however wide it runs."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from firmplan.errors import ToolError
from firmplan.executor import Header, ToolsetLock
from firmplan.executor import machine as moves
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.commands import Continue, Pause, Record, RuleApproval, StartToolCall
from firmplan.executor.events import (
    ApprovalRuled,
    CallFailed,
    CallStarted,
    CallSucceeded,
    RetryDue,
    RunFinished,
    RunResumed,
    RunStarted,
    WorkContinued,
)
from firmplan.executor.journal.header import build_machine
from firmplan.plans import Plan
from firmplan.tools import Toolset
from rig import Rig, statuses
from seeds import seeds
from small_plans import RECORDER, RECORDING_TOOLS, Recorder, answer

SEEDS = range(100)
PLAN = Plan.model_validate(
    {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "plans": {
            "pair": {
                "inputs": {"n": {"type": "integer"}},
                "steps": [
                    {"id": "left", "tool": "look_a", "args": {"x": "${inputs.n}"}},
                    {"id": "right", "tool": "double", "args": {"x": "${inputs.n + 1}"}},
                ],
                "output": "${left + right}",
            }
        },
        "steps": [
            {"id": "list", "set": "${range(inputs.n, inputs.n + 6)}"},
            {
                "id": "seen",
                "tool": "look_a",
                "for_each": "${list}",
                "args": {"x": "${item}"},
                "on_error": "skip",
            },
            {"id": "last", "tool": "put_a", "args": {"x": "${len(seen)}"}},
            {
                "id": "wide",
                "tool": "double",
                "for_each": "${list}",
                "args": {"x": "${item + 10}"},
                "on_error": {"value": 0},
            },
            {"id": "pairs", "plan": "pair", "for_each": "${list[:3]}", "args": {"n": "${item * 2}"}},
            {"id": "even", "tool": "look_b", "when": "${sum(wide) % 2 == 0}", "args": {"x": "${sum(wide)}"}},
            {"id": "odd", "tool": "look_b", "when": "${sum(wide) % 2 != 0}", "args": {"x": "${sum(wide)}"}},
            {"id": "either", "set": "${first(even, odd)}"},
            {
                "id": "rows",
                "tool": "put_b",
                "for_each": "${list}",
                "args": {"x": "${item * 10}"},
                "after": ["last"],
            },
            {"id": "bad", "tool": "look", "args": {"x": "${inputs.n * 10 + 3}"}},
            {"id": "gone", "tool": "double", "args": {"x": "${bad}"}},
            {"id": "held", "tool": "put", "args": {"x": 1}},
            {
                "id": "grown",
                "tool": "double",
                "args": {"x": "${first(prev, 1)}"},
                "repeat": {"until": "${grown > 100}", "max": 9},
            },
        ],
        "output": "${grown + sum(pairs)}",
    }
)


@pytest.fixture(autouse=True, scope="module")
def turns():
    """Whatever takes work ends a turn of the run, so that every way in which steps are put off is met."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moves, "SLICE_WORK", 0)
        yield


class Shuffler:
    """Drives a machine: commands wait in a bag, and any of them ends next."""

    def __init__(self, seed: int, width: int) -> None:
        lock = ToolsetLock.of([PLAN], Toolset(RECORDING_TOOLS))
        self.machine = build_machine(Header(PLAN, {"n": 0}, "seed", lock))
        self.random = Random(seed)
        self.width = width
        self.bag: list = []
        self.under_way: list = []
        self.finished: RunFinished | None = None

    def drive(self) -> None:
        """Hand in events in a random order until nothing is left."""
        self._take_in(RunStarted("run"))
        while self.bag or self.under_way:
            is_start = self.bag and len(self.under_way) < self.width
            if is_start and (not self.under_way or self.random.random() < 0.5):
                command = self.bag.pop(self.random.randrange(len(self.bag)) if self.width > 1 else 0)
                self._start(command)
            else:
                self._end(self.under_way.pop(self.random.randrange(len(self.under_way))))
            if self.random.random() < 0.02:
                self._crash()

    def _start(self, command) -> None:
        match command:
            case StartToolCall(step=step, args=args, attempt=attempt):
                if self.machine.is_callable(step):
                    self._take_in(CallStarted(step, attempt, args.digest))
                    self.under_way.append(command)
            case Pause(step=step):
                self._take_in(RetryDue(step))
            case RuleApproval(step=step):
                self._take_in(ApprovalRuled(step, needed=False))
            case Continue(spent=spent):
                self._take_in(WorkContinued(spent))

    def _end(self, command) -> None:
        try:
            value = answer(command.tool, command.args.value["x"])
        except ToolError as fault:
            self._take_in(CallFailed(command.step, "no", str(fault)))
        else:
            self._take_in(CallSucceeded(command.step, CanonicalValue.of(value)))

    def _crash(self) -> None:
        """Forget all calls that change nothing, and go on as after a restart."""
        if not any(command.tool.startswith("put") for command in self.under_way):
            self.bag, self.under_way = [], []
            if self.machine.status is None:
                self._take_in(RunResumed("me"))

    def _take_in(self, event) -> None:
        for command in self.machine.handle(event):
            match command:
                case Record(event=RunFinished() as finished):
                    self.finished = finished
                case Record():
                    pass
                case _:
                    self.bag.append(command)


def test_the_machine_gives_one_digest_whatever_ends_first_and_whenever_it_is_interrupted():
    """100 seeded orders of completion at widths 1, 4 and 64, with interruptions: one digest."""
    digests = []
    for seed in SEEDS:
        for width in (1, 4, 64):
            shuffler = Shuffler(seed, width)
            shuffler.drive()
            assert shuffler.finished is not None, f"seed {seed}, width {width}: the run did not end"
            digests.append(shuffler.finished.digest)
    assert len(digests) == 300
    assert set(digests) == {digests[0]}


async def run_shuffled(rig: Rig, seed: int):
    """Run with tools that wait until they are let go, one at a time in seeded order."""
    random = Random(seed)
    waiting: dict[str, asyncio.Event] = {}
    turn = asyncio.Event()

    async def pause(step):
        waiting[step] = asyncio.Event()
        turn.set()
        await waiting[step].wait()

    async def let_go():
        while True:
            await turn.wait()
            for _ in range(random.randrange(8)):
                await asyncio.sleep(0)
            step = random.choice(sorted(waiting))
            waiting.pop(step).set()
            if not waiting:
                turn.clear()

    RECORDER.set(Recorder(pause=pause))
    releasing = asyncio.create_task(let_go())
    run = await rig.run(PLAN, inputs={"n": 0}, reuse="off")
    releasing.cancel()
    return run


@pytest.mark.sweep
@pytest.mark.parametrize("width", [1, 4, 64])
def test_the_driver_gives_one_digest_whatever_ends_first(width):
    """The real driver, with calls that end in seeded orders, 100 in a sweep: one digest, one set of statuses, errors in plan order."""
    orders = seeds(len(SEEDS), sampled=25)

    async def main():
        async with Rig(RECORDING_TOOLS, places=1) as rig:
            first = await run_shuffled(rig, 0)
        async with Rig(RECORDING_TOOLS, places=width) as rig:
            return first, [await run_shuffled(rig, seed) for seed in orders]

    first, runs = asyncio.run(main())
    assert first.status == "failed"
    assert [error.step for error in first.errors] == ["pairs[1]/right", "bad"]
    assert statuses(first)["gone"] == "skipped:dependency-failed"
    assert statuses(first)["held"] == "skipped:blocked"
    for seed, run in zip(orders, runs, strict=True):
        assert run.digest == first.digest, f"seed {seed}"
        assert statuses(run) == statuses(first)
        assert run.errors == first.errors
