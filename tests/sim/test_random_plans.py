"""Random plans in random trouble, all of it from one seed: the whole engine on a clock that nobody waits for.

Calls take their time, fail for a while and get lost; people approve, deny and cancel; processes stop in order and go on. Whatever
happens, the end is that of the same plan without trouble. `make sweep` tries all seeds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from firmplan.errors import OutcomeUnknown, ToolError
from firmplan.plans import Plan
from firmplan.testing import FakeClock, MemoryStore
from firmplan.tools import Context, Tool
from rig import Rig, statuses
from seeds import seeds
from small_plans import PARAMETERS, TOOLS, answer, small_plan

TROUBLES_MAX = 3  # of one step: fewer than the retries, and than the times that a lost write is called again
BEGUN = ("CallStarted ", "CallMade ")
SESSIONS_MAX = 500  # processes that a run may need: beyond it it goes round in circles
PLAIN = {"put_b"}  # not idempotent, nothing to ask: it may be lost only by a stop, and then a person decides
OPTIONS = {
    "put_a": {"idempotent": True},
    "put_b": {"approval": "always"},
}


class KeptStore(MemoryStore):
    """A store in memory that outlives those who open and close it, as a file does."""

    async def close(self) -> None:
        """Leave it as it is."""

    async def end(self) -> None:
        """Close it for good."""
        await super().close()


class World:
    """What the tools change, and the trouble on the way there.

    Attributes:
        done: (tool, step, idempotency key) of each effect, in order.
        started: The steps whose calls started, in order, as far as their tools are told the step: the pure ones are not, so that
            some of their calls never wait, nor may tell more, and are one record in the journal.
    """

    def __init__(self, seed: int | None) -> None:
        self.random = Random(seed)
        self.is_calm = seed is None
        self.met: Counter[str] = Counter()
        self.started: list[str] = []
        self.done: list[tuple[str, str, str]] = []
        self.tools = [self._tool(name, effect, resource) for name, (effect, resource) in TOOLS.items()]

    def _tool(self, name: str, effect: str, resource: str) -> Tool:
        async def told(x: int, ctx: Context) -> int:
            return await self.act(name, x, ctx)

        async def untold(x: int) -> int:
            return await self.act(name, x, None)

        asked = {"reconcile": self.reconcile} if name == "put" else {}
        options = {"effect": effect, "resource": resource, "version": 1, "retries": 9}
        returns = {"type": "integer"}
        return Tool.from_callable(
            untold if effect == "pure" else told,
            name=name,
            parameters=PARAMETERS,
            returns=returns,
            **options,
            **OPTIONS.get(name, {}),
            **asked,
        )

    async def act(self, name: str, x: int, ctx: Context | None) -> int:
        """Answer, sooner or later, unless trouble comes before, or after."""
        step = ctx.step if ctx is not None else f"{name} {x}"
        if ctx is not None:
            self.started.append(step)
        for _ in range(0 if self.is_calm else self.random.randrange(5)):
            await asyncio.sleep(0)
        self.meet(step, ToolError("busy", temporary=True))
        if name not in PLAIN:
            self.meet(step, TimeoutError("late"), ConnectionResetError("cut"))
        value = answer(name, x)
        self.done.append((name, step, (ctx.idempotency_key if ctx is not None else None) or ""))
        if TOOLS[name][0] == "write" and name not in PLAIN:
            self.meet(step, TimeoutError("late"), OutcomeUnknown("lost"))
        return value

    def meet(self, step: str, *troubles: BaseException) -> None:
        """Raise one of the troubles, perhaps."""
        if not self.is_calm and self.met[step] < TROUBLES_MAX and self.random.random() < 0.3:
            self.met[step] += 1
            raise self.random.choice(troubles)

    def reconcile(self, key: str, args: dict) -> int | None:
        """Say whether a write took place."""
        return answer("put", args["x"]) if any(key == found for _, _, found in self.done) else None

    def answered(self, step: str, tool: str, x: int) -> int | None:
        """Return what a call came to, as a person sees who looks at the world; `None`: it did not take place."""
        return answer(tool, x) if any(step == found for _, found, _ in self.done) else None


class Life:
    """One run, driven by one process after another until it has ended."""

    def __init__(self, seed: int, *, is_calm: bool, is_cancelled: bool = False) -> None:
        self.seed = seed
        self.random = Random(f"life {seed}")
        self.is_calm = is_calm
        self.cancels_at = self.random.randrange(4) if is_cancelled else None
        self.world = World(None if is_calm else seed)
        self.plan = Plan.model_validate(small_plan(Random(f"plan {seed}")))
        self.n = Random(f"n {seed}").randrange(10)
        self.is_cancelled = False
        self.events: list[str] = []

    async def run(self):
        """Return the run at its end."""
        store = KeptStore()
        try:
            return await self._sessions(store)
        finally:
            await store.end()

    async def _sessions(self, store: KeptStore):
        for session in range(SESSIONS_MAX):
            places = 1 if self.is_calm else self.random.choice([1, 3, 64])
            async with Rig(self.world.tools, store, clock=FakeClock(), places=places) as rig:
                if (run := await self._session(rig, session)) is not None:
                    replayed = await rig.execution.replays.replay("r", keep=False)
                    assert (replayed.digest, replayed.steps) == (run.digest, run.steps)
                    self.events = await rig.event_types("r")
                    return run
        raise AssertionError(f"seed {self.seed}: the run does not end")

    async def _session(self, rig: Rig, session: int):
        if await rig.store.find_run("r") is None:
            await rig.submit(self.plan, "r", inputs={"n": self.n}, reuse="off")
        await rig.execution.resume("r")
        waiting = asyncio.create_task(rig.execution.wait("r"))
        await self._some_time(waiting, session)
        if session == self.cancels_at:
            await rig.decisions.cancel("r")
            self.is_cancelled = True
        if not waiting.done() and not self.is_calm and not self.is_cancelled:
            waiting.cancel()
            await asyncio.wait([waiting])
            return None
        await waiting
        run = await rig.resume("r")
        if run.status in ("waiting", "indeterminate"):
            await self._decide(rig, run)
            return None
        return run if run.status in ("succeeded", "failed", "cancelled") else None

    async def _some_time(self, waiting: asyncio.Task, session: int) -> None:
        """Let the run go on for a while: longer in later sessions, so that on a slow machine it ends too."""
        for _ in range(self.random.randrange(80 + 4 * session)):
            await asyncio.wait([waiting], timeout=0)
            await asyncio.sleep(0)

    async def _decide(self, rig: Rig, run) -> None:
        """Decide as the same person would each time, who looks at the world where an outcome is unknown."""
        for step in [path for path, view in run.steps.items() if view.args is not None]:
            view = run.steps[step]
            if view.status == "indeterminate":
                found = self.world.answered(step, "put_b", view.args["x"])
                if found is None:
                    run = await rig.decisions.resolve_retry("r", step)
                else:
                    run = await rig.decisions.resolve_done("r", step, found)
            elif view.status == "waiting":  # an earlier decision may have ended it
                if Random(f"{self.seed} {step}").random() < 0.8:
                    run = await rig.decisions.approve("r", step, by="me", edit=None)
                else:
                    run = await rig.decisions.deny("r", step, by="me", reason="no")


def assert_each_write_once(world: World) -> None:
    """A write has one effect, or under one key several; what failed for good had none."""
    for name in ("put", "put_b"):
        effects = Counter(step for found, step, _ in world.done if found == name)
        assert all(count == 1 for count in effects.values()), effects
    keys: dict[str, set[str]] = {}
    for name, step, key in world.done:
        if name == "put_a":
            keys.setdefault(step, set()).add(key)
    assert all(len(found) == 1 for found in keys.values()), keys


def begun(life: Life) -> Counter[str]:
    """Return how often the calls of each step started, as the journal says."""
    return Counter(event.split(" ", 1)[1] for event in life.events if event.startswith(BEGUN))


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(10_000, sampled=20))
def test_a_random_plan_in_trouble_ends_as_a_calm_one(seed):
    """Any order of completion, failures for a while, lost writes, stops, decisions: one digest, and no write twice."""

    async def main():
        calm = Life(seed, is_calm=True)
        run = await calm.run()
        assert max(begun(calm).values(), default=1) == 1, "a step ran twice"
        life = Life(seed, is_calm=False)
        troubled = await life.run()
        assert statuses(troubled) == statuses(run)
        assert (troubled.output, troubled.digest) == (run.output, run.digest)
        assert troubled.errors == run.errors
        assert_each_write_once(life.world)

    asyncio.run(main())


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(10_000, sampled=20))
def test_nothing_starts_after_a_cancel(seed):
    """Cancelled at any moment, a run starts no further call, ends, and has done no write twice."""

    async def main():
        life = Life(seed, is_calm=False, is_cancelled=True)
        run = await life.run()
        assert run.status in ("succeeded", "failed", "cancelled")
        after = life.events[life.events.index("CancelAsked") :] if "CancelAsked" in life.events else []
        assert not [event for event in after if event.startswith(BEGUN)], "a call started after the cancel"
        assert not Counter(life.world.started) - begun(life), "a call of which the journal knows nothing"
        assert_each_write_once(life.world)

    asyncio.run(main())
