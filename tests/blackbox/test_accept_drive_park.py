"""The primitives of whoever hands runs out: `accept` stores a run, `drive` drives it, `park` lets go of it."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import ConfigError, Engine, InputRejected, RunDriven, RunNotFound, tool
from public import call, plan, within

CALLED: list[str] = []
GATES: dict[str, asyncio.Event] = {}


@tool(effect="pure", version="1")
async def double(x: int) -> int:
    """Double."""
    CALLED.append(f"double {x}")
    return 2 * x


@tool(effect="read", version="1")
async def hang(name: str) -> str:
    """Wait until the gate opens."""
    CALLED.append(f"hang {name}")
    GATES["begun"].set()
    await GATES[name].wait()
    return name


@tool(effect="write", resource="box", version="1")
async def put(name: str) -> str:
    """Write, once the gate opens."""
    CALLED.append(f"put {name}")
    GATES["begun"].set()
    await GATES[name].wait()
    return name


@tool(effect="write", approval="always", resource="box", version="1")
async def asked(name: str) -> str:
    """Write, if a person allows it."""
    CALLED.append(f"asked {name}")
    return name


TOOLS = [double, hang, put, asked]
SUM = plan(call("d", "double", args={"x": "${inputs.n}"}), inputs={"n": {"type": "integer"}}, output="${d}")
HANG = plan(
    call("d", "double", args={"x": 4}), call("h", "hang", args={"name": "a"}, after=["d"]), output="${h}"
)
PUT = plan(call("p", "put", args={"name": "a"}), call("d", "double", args={"x": 1}, after=["p"]))
ASKED = plan(call("a", "asked", args={"name": "x"}), output="${a}")


class Stepped:
    """A clock that stands until it is moved; pauses take their time."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        """Unix seconds."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Pass the time of a pause that a test waits for."""
        if seconds > 1:
            await asyncio.Event().wait()
        self.at += seconds


@pytest.fixture(autouse=True)
def fresh():
    """No calls yet."""
    CALLED.clear()
    GATES.clear()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    """A store that several engines use."""
    return tmp_path / "s.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


def gates(*names: str) -> None:
    """Make closed gates."""
    GATES.update({name: asyncio.Event() for name in ("begun", *names)})


def test_accept_is_durable_and_drives_nothing(store):
    """What was accepted outlives its engine and is driven by nobody, until another engine drives it."""

    async def main():
        async with Engine(TOOLS, store=store) as one:
            assert await one.accept(SUM, inputs={"n": 4}, run_id="r") == "r"
            assert await one.accept(SUM, inputs={"n": 4}, run_id="r") == "r", "the same work is left as it is"
            with pytest.raises(InputRejected, match="exists already"):
                await one.accept(SUM, inputs={"n": 5}, run_id="r")
            assert (await one.get("r")).status == "queued"
            assert await one.find_owner("r") is None
        async with Engine(TOOLS, store=store) as two:
            assert CALLED == []
            run = await two.drive("r")
            assert (run.status, run.output, CALLED) == ("succeeded", 8, ["double 4"])
            again = await two.drive("r")
            assert again.digest == run.digest, "a run that has ended is returned as it is"
            made = await two.run(SUM, inputs={"n": 4}, run_id="plain", reuse="off")
            assert made.digest == run.digest, "and is the run that `run` makes"

    within(main())


def test_a_living_owner_elsewhere_is_an_error_of_its_own(store):
    """`drive` and `park` of a run that another engine drives say who does, and change nothing."""

    async def main():
        gates("a")
        async with Engine(TOOLS, store=store) as one, Engine(TOOLS, store=store) as two:
            await one.accept(HANG, run_id="r")
            driving = asyncio.create_task(one.drive("r"))
            await GATES["begun"].wait()
            with pytest.raises(
                RunDriven, match="run r: expected a run that no living process drives"
            ) as said:
                await two.drive("r")
            assert (said.value.owner.is_here, said.value.code) == (False, "run-driven")
            with pytest.raises(RunDriven):
                await two.park("r")
            with pytest.raises(RunDriven, match=r"engine\.park") as said:
                await one.drive("r")
            assert said.value.owner.is_here
            GATES["a"].set()
            assert (await driving).output == "a"

    within(main())


def test_a_cancelled_drive_parks_the_run(store):
    """Whoever cancels `drive` gets the cancel once the run is released; another engine drives the run at once, and finished steps keep their results."""

    async def main():
        gates("a")
        async with Engine(TOOLS, store=store) as one, Engine(TOOLS, store=store) as two:
            await one.accept(HANG, run_id="r")
            driving = asyncio.create_task(one.drive("r"))
            await GATES["begun"].wait()
            driving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await driving
            assert await two.find_owner("r") is None
            GATES["a"].set()
            run = await two.drive("r")
            assert (run.status, run.output) == ("succeeded", "a")
            assert CALLED == ["double 4", "hang a", "hang a"]
            events = [event async for event in two.events("r")]
            assert not any("died" in event.data for event in events), "no death counts"

    within(main())


def test_park_waits_for_a_write(tmp_path):
    """A write in flight ends and is recorded before the run is released; nothing after it starts."""

    async def main():
        gates("a")
        store = tmp_path / "s.db"
        async with Engine(TOOLS, store=store) as one, Engine(TOOLS, store=store) as two:
            await one.accept(PUT, run_id="r")
            driving = asyncio.create_task(one.drive("r"))
            await GATES["begun"].wait()
            parking = asyncio.create_task(one.park("r"))
            await asyncio.sleep(0)
            GATES["a"].set()
            await parking
            run = await driving
            assert (run.status, run.steps["p"].status, CALLED) == ("running", "succeeded", ["put a"])
            assert (await two.drive("r")).status == "succeeded"
            assert CALLED == ["put a", "double 1"]

    within(main())


def test_park_of_a_run_that_was_submitted(tmp_path):
    """Whoever waits in this engine gets the run as it stands, and nobody goes on with it by himself."""

    async def main():
        gates("a")
        async with Engine(TOOLS, store=tmp_path / "s.db") as engine:
            running = asyncio.create_task(engine.run(HANG, run_id="r"))
            await GATES["begun"].wait()
            await engine.park("r")
            run = await running
            assert (run.status, run.abandoned) == ("running", True)
            await engine.park("r")  # nobody drives it: nothing to do
            with pytest.raises(RunNotFound):
                await engine.park("other")
            GATES["a"].set()
            assert (await engine.resume("r")).output == "a"
            await engine.park("r")

    within(main())


def test_drive_returns_where_a_person_is_waited_for(tmp_path):
    """A run that waits is returned, adds nothing to its journal when it is driven for nothing, and goes on after the decision."""

    async def main():
        store = tmp_path / "s.db"
        async with Engine(TOOLS, store=store) as one, Engine(TOOLS, store=store) as two:
            await one.accept(ASKED, run_id="r")
            run = await one.drive("r")
            assert (run.status, run.due) == ("waiting", None)
            last = run.last_event
            assert (await two.drive("r")).last_event == last
            await two.approve("r", "a", by="me")
            assert (await one.drive("r")).output == "x"

    within(main())


def test_drive_leaves_a_far_wait_and_sits_out_a_near_one(tmp_path):
    """A wait within a second is sat out; another ends the drive, `run.due` says when to come again, and no engine goes on by itself."""
    waits = plan({"id": "w", "wait": {"for": "${inputs.s}"}}, inputs={"s": {"type": "string"}})

    async def main():
        clock = Stepped()
        async with Engine(TOOLS, store=tmp_path / "s.db", clock=clock) as engine:
            near = await engine.accept(waits, inputs={"s": "1s"})
            assert (await engine.drive(near)).status == "succeeded"
            far = await engine.accept(waits, inputs={"s": "1h"})
            run = await engine.drive(far)
            assert run.status == "waiting"
            assert run.due is not None
            assert round(run.due - clock.now()) == 3600
            clock.at += 3601
            assert (await engine.get(far)).status == "waiting"
            assert (await engine.drive(far)).status == "succeeded"

    within(main())


def test_bad_arguments(tmp_path):
    """What is no run, or cannot go on here, is said so, and nobody keeps the run."""

    async def main():
        store = tmp_path / "s.db"
        async with Engine(TOOLS, store=store) as one, Engine([double], store=store) as two:
            for wrong in ("none", "", 7, None):
                with pytest.raises(RunNotFound):
                    await one.drive(wrong)
                with pytest.raises(RunNotFound):
                    await one.park(wrong)
            await one.accept(ASKED, run_id="r")
            with pytest.raises(ConfigError, match="uses the tool 'asked', which this engine has not"):
                await two.drive("r")
            assert (await one.drive("r")).status == "waiting"
            await one.run(SUM, inputs={"n": 1}, run_id="s")
            kept = await one.replay("s", keep=True)
            with pytest.raises(InputRejected, match="replay"):
                await one.drive(kept.id)

    within(main())


def test_the_twins(tmp_path):
    """Programs without an event loop have the same."""
    with Engine(TOOLS, store=tmp_path / "s.db") as engine:
        run_id = engine.accept_sync(SUM, inputs={"n": 2})
        assert engine.drive_sync(run_id).output == 4
        engine.park_sync(run_id)
