"""Seeded trouble: calls fail for a while, get lost, processes stop and go on. The end is that of a run without trouble."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from firmplan.errors import OutcomeUnknown, ToolError
from firmplan.plans import Effect, Plan
from firmplan.testing import FakeClock
from firmplan.tools import Context, Tool
from rig import Rig, statuses
from seeds import seeds

TROUBLES_MAX = 3  # of one step: fewer than the retries, and than the times that a lost write is called again
PLAN = Plan.model_validate(
    {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "plans": {
            "move": {
                "inputs": {"n": {"type": "integer"}},
                "steps": [
                    {"id": "seen", "tool": "look", "args": {"x": "${inputs.n}"}},
                    {"id": "put", "tool": "put", "args": {"x": "${seen}"}},
                ],
                "output": "${put}",
            }
        },
        "steps": [
            {"id": "start", "tool": "work", "args": {"x": "${inputs.n}"}},
            {
                "id": "wide",
                "tool": "look",
                "for_each": "${range(start, start + 5)}",
                "args": {"x": "${item}"},
            },
            {"id": "rows", "tool": "put", "for_each": "${wide}", "args": {"x": "${item}"}},
            {"id": "moved", "plan": "move", "for_each": "${rows[:2]}", "args": {"n": "${item}"}},
            {"id": "never", "tool": "fail", "args": {"x": 0}, "on_error": {"value": -1}},
            {"id": "told", "tool": "tell", "args": {"x": "${sum(moved) + never}"}},
            {
                "id": "grown",
                "tool": "work",
                "args": {"x": "${first(prev, 1)}"},
                "repeat": {"until": "${grown > 5}", "max": 9},
            },
        ],
        "output": "${[told, grown]}",
    }
)


class Trouble:
    """Tools that do their work, sooner or later; with seed `None` at once."""

    def __init__(self, seed: int | None) -> None:
        self.random = Random(seed)
        self.is_calm = seed is None
        self.met: Counter[str] = Counter()
        self.done: list[tuple[str, str]] = []
        parameters = {"type": "object", "properties": {"x": {"type": "integer"}}}

        def make(name: str, **options) -> Tool:
            async def called(x: int, ctx: Context) -> int:
                return await self.act(name, x, ctx)

            options = {"parameters": parameters, "version": 1, "retries": 9, **options}
            return Tool.from_callable(called, name=name, **options)

        self.tools = [
            make("work", effect="pure"),
            make("look", effect="read", resource="box"),
            make("put", effect="write", resource="box", idempotent=True),
            make("tell", effect="write", resource="mail", reconcile=self.reconcile),
            make("fail", effect="read", resource="other"),
        ]

    async def act(self, name: str, x: int, ctx: Context) -> int:
        """Do the work, unless trouble comes before, or after."""
        if name == "fail":
            raise ToolError("never")
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        self.meet(
            ctx.step, ToolError("busy", temporary=True), TimeoutError("late"), ConnectionResetError("cut")
        )
        self.done.append((name, ctx.idempotency_key if ctx.effect is Effect.WRITE else ctx.step))
        if ctx.effect is Effect.WRITE:
            self.meet(ctx.step, TimeoutError("late"), OutcomeUnknown("lost"))
        return x + 1

    def meet(self, step: str, *troubles: BaseException) -> None:
        """Raise one of the troubles, perhaps."""
        if not self.is_calm and self.met[step] < TROUBLES_MAX and self.random.random() < 0.4:
            self.met[step] += 1
            raise self.random.choice(troubles)

    def reconcile(self, key: str, args: dict) -> int | None:
        """Say whether the telling took place."""
        return args["x"] + 1 if ("tell", key) in self.done else None


async def troubled(seed: int | None, store: str):
    """Run the plan, stopping and going on at seeded moments; return the run and what was done."""
    trouble, random = Trouble(seed), Random(seed)
    for session in range(1000):
        async with Rig(trouble.tools, store, clock=FakeClock(), places=random.choice([1, 3, 64])) as rig:
            if await rig.store.find_run("r") is None:
                await rig.submit(PLAN, "r", inputs={"n": 3})
            await rig.execution.resume("r")
            waiting = asyncio.create_task(rig.execution.wait("r"))
            if seed is None:
                await waiting
            for _ in range(random.randrange(60 + 4 * session)):  # ever longer, so that it ends
                await asyncio.wait([waiting], timeout=0)
                await asyncio.sleep(0)
            if waiting.done():
                replayed = await rig.execution.replays.replay("r", keep=False)
                assert replayed.digest == waiting.result().digest
                return waiting.result(), trouble
            waiting.cancel()
            await asyncio.wait([waiting])
    raise AssertionError(f"seed {seed}: the run does not end")


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The run without trouble."""
    run, _ = asyncio.run(troubled(None, str(tmp_path_factory.mktemp("calm") / "s.db")))
    assert run.status == "succeeded"
    return run


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(1_000, sampled=10))
def test_a_troubled_run_ends_as_a_calm_one(tmp_path, calm, seed):
    """Retries, lost writes, stops and resumes leave statuses, values and digest as they are."""
    run, trouble = asyncio.run(troubled(seed, str(tmp_path / "s.db")))
    assert statuses(run) == statuses(calm)
    assert (run.output, run.digest) == (calm.output, calm.digest)
    told = [key for name, key in trouble.done if name == "tell"]
    assert len(told) == 1, "a write that can be asked about is done once"
    assert len({key for name, key in trouble.done if name == "put"}) == 7, "a repeated write has the same key"
