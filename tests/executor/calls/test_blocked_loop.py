"""A tool that blocks the event loop is reported, and takes no time from the limits of its neighbours."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import structlog
from firmplan import Engine, Model, tool
from firmplan.testing import ScriptedModel, Slow
from structlog.testing import capture_logs

BLOCKED_S = 0.9  # longer than what is reported, and than the limits below
LIMIT_S = 1.5  # of a prompt, whose request takes its time on a busy machine


@pytest.fixture(autouse=True)
def _logs():
    yield
    structlog.reset_defaults()


@tool(effect="read", resource="a", timeout=30)
async def blocking(n: int) -> int:
    """Block the loop, after its neighbours have begun."""
    await asyncio.sleep(0.05)
    time.sleep(BLOCKED_S)  # noqa: ASYNC251  # that is what is tested
    return n


@tool(effect="read", resource="a", timeout=0.4)
async def waiting(n: int) -> int:
    """Wait for less than its limit, on the loop."""
    await asyncio.sleep(0.15)
    await asyncio.sleep(0.1)
    return n


@tool(effect="write", resource="b", timeout=0.4)
def threaded(n: int) -> int:
    """Take less than its limit, in a thread."""
    threading.Event().wait(0.2)
    return n


@tool(effect="read", resource="a", timeout=0.4)
async def overrunning(n: int) -> int:
    """Take more than its limit, whatever the others do."""
    await asyncio.sleep(30)
    return n


def plan_of(*tools):
    return {
        "firmplan": 1,
        "steps": [{"id": f"s{at}", "tool": name, "args": {"n": at}} for at, name in enumerate(tools)],
    }


def test_one_that_blocks_is_reported_once_and_its_neighbours_keep_their_time(tmp_path):
    """In the log, and as a warning of the run, also when the run is read or replayed later. A limit still ends what overruns it."""
    with (
        capture_logs() as logs,
        Engine([blocking, waiting, threaded, overrunning], store=tmp_path / "f.db") as engine,
    ):
        run = engine.run_sync(plan_of("waiting", "threaded", "blocking", "overrunning", "blocking"))
        codes = {path: step.error.code if step.error else step.status for path, step in run.steps.items()}
        assert codes == {
            "s0": "succeeded",
            "s1": "succeeded",
            "s2": "succeeded",
            "s3": "timeout",
            "s4": "succeeded",
        }
        (warning,) = run.warnings
        assert (warning.code, warning.step) in {("loop-blocked", "s2"), ("loop-blocked", "s4")}
        assert "the tool 'blocking' kept the event loop" in warning.message
        assert "plain `def`" in warning.message
        replayed = engine.replay_sync(run.id)
        assert (replayed.digest, replayed.warnings) == (run.digest, run.warnings)
        engine.run_sync(plan_of("waiting"))
    (line,) = [each for each in logs if each["event"] == "a tool blocks the event loop"]
    assert (line["tool"], line["run"]) == ("blocking", run.id)
    with Engine([], store=tmp_path / "f.db") as engine:
        assert engine.get_sync(run.id).warnings == run.warnings


def test_the_limit_of_one_that_blocks_counts_its_own_time():
    @tool(effect="read", timeout=0.3)
    async def hog(n: int) -> int:
        """Block past its own limit, then wait."""
        time.sleep(0.4)  # noqa: ASYNC251
        await asyncio.sleep(30)
        return n

    with Engine([hog], store="memory:") as engine:
        (error,) = engine.run_sync(plan_of("hog")).errors
    assert error.code == "timeout"


def test_nobody_is_reported_who_does_not_block():
    """A plain function may take its time, in its thread; many short calls are not one long one."""

    @tool(effect="read", resource="a")
    async def short(n: int) -> int:
        time.sleep(0.01)  # noqa: ASYNC251
        return n

    @tool(effect="read", resource="a")
    def slow(n: int) -> int:
        time.sleep(0.7)
        return n

    with capture_logs() as logs, Engine([short, slow], store="memory:") as engine:
        run = engine.run_sync(plan_of("slow", *["short"] * 60))
    assert (run.status, run.warnings) == ("succeeded", ())
    assert [each for each in logs if "blocks" in each["event"]] == []


def test_a_request_to_a_model_keeps_its_time_beside_a_tool_that_blocks():
    """Its answer comes after its limit, for which the loop has stood still; and the limit still ends a model that does not answer."""

    @tool(effect="read", resource="a")
    async def hog(n: int) -> int:
        """Block for longer than the prompt beside it may take, once that has been sent."""
        await asyncio.sleep(0.1)
        time.sleep(LIMIT_S + 0.5)  # noqa: ASYNC251
        return n

    def asking(prompt):
        return {"id": "said", "ask": {"prompt": prompt}, "timeout": LIMIT_S}

    async def main():
        # The model has another event loop than the engine: it answers while the engine's stands still.
        async with ScriptedModel(["warm", Slow("here", LIMIT_S + 0.8), Slow("never", 60)]) as model:
            with Engine(
                [hog], store="memory:", models={"default": Model("m", base_url=model.base_url, retries=0)}
            ) as engine:

                def run(*steps):
                    return engine.run_sync({"firmplan": 1, "steps": list(steps), "output": "${said}"})

                await asyncio.to_thread(run, asking("Warm up"))  # the first request loads its libraries
                hogged = await asyncio.to_thread(
                    run, asking("Say where"), {"id": "h", "tool": "hog", "args": {"n": 1}}
                )
                late = await asyncio.to_thread(run, asking("Say never"))
                return hogged, late

    hogged, late = asyncio.run(main())
    assert (hogged.status, hogged.output) == ("succeeded", "here")
    assert [error.code for error in late.errors] == ["timeout"]
