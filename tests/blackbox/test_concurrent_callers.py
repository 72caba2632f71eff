"""Contract, 3: the same run asked for by several at once: `run`, `resume` and `wait` return when it has ended, decisions count once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from firmplan import Engine, InputRejected, Run, tool
from public import call, plan, within

AT_ONCE = 4


@tool(effect="write", approval="always", resource="a")
def put(x: int) -> int:
    """Write, once a person allows it."""
    return x


@tool(effect="read")
async def look(x: int) -> int:
    """Look for a while."""
    await asyncio.sleep(0.05)
    return x


TOOLS = [put, look]
LOOK = plan(call("a", "look", args={"x": 1}), output="${a}")
PUT = plan(call("a", "put", args={"x": 1}), call("b", "look", args={"x": "${a}"}), output="${b}")


def stores(tmp_path: Path) -> dict[str, Any]:
    return {"memory": "memory:", "file": tmp_path / "s.db"}


@pytest.mark.parametrize("where", ["memory", "file"])
def test_runs_of_one_id_at_once_are_one_run(where: str, tmp_path: Path):
    """An existing `run_id` with the same plan and inputs is continued or returned; returned when it is finished."""

    async def go() -> tuple[list[Run], int]:
        async with Engine(TOOLS, store=stores(tmp_path)[where]) as engine:
            runs = await asyncio.gather(*(engine.run(LOOK, run_id="r") for _ in range(AT_ONCE)))
            return runs, len((await engine.list_runs()).runs)

    runs, count = within(go())
    assert [(run.status, run.output) for run in runs] == [("succeeded", 1)] * AT_ONCE
    assert len({run.digest for run in runs}) == count == 1


@pytest.mark.parametrize("where", ["memory", "file"])
def test_resumes_at_once_all_wait_for_the_end(where: str, tmp_path: Path):
    """`resume` of a run that this engine is driving waits for it, also where it is about to drive it."""

    async def go() -> list[Run]:
        async with Engine(TOOLS, store=stores(tmp_path)[where]) as engine:
            await engine.run(PUT, run_id="r")
            await engine.approve("r", "a", by="me")
            return await asyncio.gather(*(engine.resume("r") for _ in range(AT_ONCE)))

    assert [(run.status, run.steps["b"].attempts) for run in within(go())] == [("succeeded", 1)] * AT_ONCE


def test_a_resume_beside_a_decision_goes_on(tmp_path: Path):
    """A decision that is being noted holds the run for a moment; a resume of that moment waits and then goes on."""

    async def go() -> list[str]:
        async with Engine(TOOLS, store=tmp_path / "s.db") as engine:
            ends: list[str] = []
            for number in range(20):
                await engine.run(PUT, run_id=f"r{number}")
                deciding = asyncio.ensure_future(engine.approve(f"r{number}", "a", by="me"))
                for _ in range(number):  # at another point of it each time
                    await asyncio.sleep(0)
                resumed, _ = await engine.resume(f"r{number}"), await deciding
                ends.append(resumed.status)
            return ends

    # A resume that comes before the decision finds nothing to do; none comes back from a run that goes on.
    assert set(within(go())) <= {"succeeded", "waiting"}


def test_a_resume_goes_on_where_another_engine_stops(tmp_path: Path):
    """It returns when the run has ended, not when whoever drove it was closed."""

    async def go() -> Run:
        started, release = asyncio.Event(), asyncio.Event()

        async def wait_for_it() -> int:
            started.set()
            await release.wait()
            return 7

        made = tool(wait_for_it, effect="read", description="Wait.")
        source = plan(call("a", "wait_for_it"), output="${a}")
        async with Engine([made], store=tmp_path / "s.db") as other:
            driving = Engine([made], store=tmp_path / "s.db")
            await driving.submit(source, run_id="r")
            await started.wait()
            resumed = asyncio.ensure_future(other.resume("r"))
            await asyncio.sleep(0.05)
            assert not resumed.done()
            await driving.aclose()
            release.set()
            return await resumed

    assert within(go()).output == 7


def test_of_decisions_at_once_one_counts_and_the_others_are_told(tmp_path: Path):
    """Who denies what somebody allows at that moment does not go away believing that it was denied."""

    async def go() -> tuple[list[Any], list[str]]:
        async with Engine(TOOLS, store=tmp_path / "s.db") as engine:
            await engine.run(PUT, run_id="r")
            answers = await asyncio.gather(
                engine.approve("r", "a", by="ada"),
                engine.deny("r", "a", by="bob", reason="no"),
                engine.approve("r", "a", by="eve"),
                return_exceptions=True,
            )
            run = await engine.resume("r")
            assert run.status == "succeeded"
            assert run.steps["a"].decision == {"decision": "approved", "by": "ada"}
            return answers, [event.type async for event in engine.events("r")]

    answers, events = within(go())
    assert isinstance(answers[0], Run)
    assert [type(answer) for answer in answers[1:]] == [InputRejected, InputRejected]
    assert (events.count("Approved"), events.count("Denied")) == (1, 0)


def test_a_decision_that_is_not_taken_in_yet_stands(tmp_path: Path):
    """The owner, another process, looks for decisions from time to time; until then the step is decided all the same."""

    async def go() -> Run:
        release = asyncio.Event()

        async def hold() -> int:
            await release.wait()
            return 1

        held = tool(hold, effect="read", description="Wait.", resource="elsewhere")
        source = plan(call("h", "hold"), call("a", "put", args={"x": 1}), output="${a}")
        async with (
            Engine([put, held], store=tmp_path / "s.db") as owner,
            Engine([put, held], store=tmp_path / "s.db") as other,
        ):
            await owner.submit(source, run_id="r")
            async for event in other.events("r"):
                if event.type == "ApprovalAsked":
                    break
            await other.deny("r", "a", by="bob", reason="no")
            with pytest.raises(InputRejected, match=r"decided already|found 'a', which is cancelled"):
                await other.approve("r", "a", by="eve")
            release.set()
            return await other.wait("r")

    run = within(go())
    assert (run.status, run.steps["a"].status) == ("failed", "cancelled")
