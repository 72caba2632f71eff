"""Asynchronous calls: awaited as by a task, and ended when nobody waits for them, whether they heed it or not."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from contextlib import suppress
from functools import wraps

import pytest
from child_tools import wrapped_coroutine
from firmplan import Engine, tool
from firmplan.executor.calls.running import stoppable as coroutines
from firmplan.executor.calls.running.stoppable import STOPPED, await_in_task, await_stoppable
from firmplan.executor.runs import driver
from firmplan.tools import Context
from public import call, plan
from rig import one_run, plan_of

NOTE = contextvars.ContextVar("NOTE", default=0)


@pytest.fixture(autouse=True)
def moment(monkeypatch):
    """A short moment to tidy up."""
    monkeypatch.setattr(coroutines, "HEED_S", 0.05)


# --- as a task does it


async def returns():
    return 1


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)
    return 2


async def sleeps():
    await asyncio.sleep(0.001)
    return await asyncio.wait_for(returns(), 1)


async def raises():
    await asyncio.sleep(0.001)
    raise ValueError("no")


async def gathers():
    return await asyncio.gather(turns(), sleeps(), raises(), return_exceptions=False)


async def groups():
    async with asyncio.TaskGroup() as group:
        group.create_task(raises())
        await asyncio.sleep(5)


async def times_out():
    async with asyncio.timeout(0.01):
        await asyncio.sleep(5)


async def bears_its_timeout():
    """Take longer to tidy up after a timeout of its own than a stopped call may."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            try:
                await asyncio.sleep(5)
            finally:
                await asyncio.sleep(0.2)
    return asyncio.current_task().cancelling()


async def yields_badly():
    class Bad:
        def __await__(self):
            yield "what"

    await Bad()


async def borrows():
    NOTE.set(NOTE.get() + 1)
    await asyncio.sleep(0)
    return NOTE.get()


async def cancels_itself():
    raise asyncio.CancelledError


async def cancels_its_task():
    asyncio.current_task().cancel()
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        return asyncio.current_task().uncancel()


async def from_a_thread():
    return await asyncio.to_thread(lambda: 7)


class Odd(BaseException):
    """An error of the kind that few catch."""


def later(do):
    """A future to which something is done in the next turn of the loop."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(do, future)
    return future


async def bears_a_failed_future():
    with suppress(OSError):
        await later(lambda future: future.set_exception(ConnectionRefusedError("no")))
    return await later(lambda future: future.set_result(3))


async def fails_with_its_future():
    await later(lambda future: future.set_exception(Odd("no")))


async def bears_a_cancelled_future():
    try:
        await later(lambda future: future.cancel("somebody's"))
    except asyncio.CancelledError as fault:
        return fault.args, asyncio.current_task().cancelling()


async def has_a_future_cancelled():
    await later(lambda future: future.cancel("somebody's"))


def ended(work):
    """What comes of a coroutine: its value, or the type and text of what it raises."""

    async def main():
        try:
            return await work
        except BaseException as fault:  # noqa: BLE001
            return type(fault), str(fault).replace("Task got", "a call got").partition(" from")[0]

    return asyncio.run(main())


@pytest.mark.parametrize(
    "made",
    [
        *(returns, turns, sleeps, raises, gathers, groups, times_out, bears_its_timeout, borrows),
        *(yields_badly, cancels_itself, cancels_its_task, from_a_thread),
        *(bears_a_failed_future, fails_with_its_future, bears_a_cancelled_future, has_a_future_cancelled),
    ],
)
def test_a_call_is_awaited_as_by_its_task(made):
    """The same value or the same error as where it is awaited without us; and the task is left as it was."""
    assert ended(await_stoppable(made())) == ended(made())


def test_a_call_that_was_stopped_before_it_began_leaves_no_trace():
    """Its limit may pass while other calls keep the loop busy."""

    async def main():
        work = asyncio.ensure_future(await_in_task(returns()))
        await asyncio.sleep(0)
        work.cancel()
        await asyncio.wait([work])
        return work.cancelled()

    assert asyncio.run(main())
    gc.collect()


def test_whatever_can_be_awaited_is_awaited():
    """A decorated tool may give a future in place of a coroutine."""

    async def main():
        return await await_stoppable(asyncio.ensure_future(sleeps()))

    assert asyncio.run(main()) == 1


# --- stopped


class Calls:
    """Tools that say how they ended."""

    def __init__(self):
        self.begun, self.ended = asyncio.Event(), []

    async def tidy(self) -> int:
        """Heed the cancel, after tidying up."""
        try:
            self.begun.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            self.ended.append("tidy")

    async def stubborn(self) -> int:
        """Swallow every cancel."""
        try:
            self.begun.set()
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
        finally:
            self.ended.append("closed")

    async def busy(self) -> int:
        """Swallow every cancel, and never wait long."""
        self.begun.set()
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def undead(self) -> int:
        """Swallow even its closing."""
        self.begun.set()
        while True:
            with suppress(BaseException):
                await asyncio.sleep(60)

    async def behind(self) -> int:
        """Wait for a task that heeds no cancel."""
        release = asyncio.Event()

        async def inner():
            while not release.is_set():
                with suppress(asyncio.CancelledError):
                    await release.wait()

        try:
            self.begun.set()
            await asyncio.create_task(inner())
        finally:
            release.set()
            self.ended.append("closed")


@pytest.mark.parametrize(
    ("name", "ending"),
    [("tidy", ["tidy"]), ("stubborn", ["closed"]), ("busy", []), ("undead", []), ("behind", ["closed"])],
)
@pytest.mark.parametrize("effect", ["pure", "read", "model"])
def test_a_cancelled_run_waits_for_no_tool(name, ending, effect, capsys):
    """Whatever an asynchronous tool without a timeout does, its run ends, its place is free again, and the log says what was ended."""

    async def main():
        calls, seen = Calls(), []
        slow = tool(getattr(calls, name), name="slow", effect=effect, version="1")

        @tool(effect=effect, max_concurrency=1, name="next", version="1")
        async def after(n: int) -> int:
            """Say that it was called."""
            seen.append(n)
            return n

        async with Engine([slow, after], store="memory:", max_concurrency=1) as engine:
            run = await engine.submit(plan(call("s", "slow"), call("t", "next", args={"n": "${s}"})))
            await asyncio.wait_for(calls.begun.wait(), 10)
            await engine.cancel(run.id)
            found = await asyncio.wait_for(engine.wait(run.id), 10)
            other = await asyncio.wait_for(engine.run(plan(call("t", "next", args={"n": 3}))), 10)
            return found, other, seen, calls.ended

    found, other, seen, how = asyncio.run(main())
    assert (found.status, found.steps["s"].status, found.steps["t"].status) == ("cancelled",) * 3
    assert (other.status, seen, how) == ("succeeded", [3], ending)
    assert ("a call was ended that did not heed its cancel" in capsys.readouterr().err) == (name != "tidy")


@pytest.mark.parametrize("kind", ["async", "thread"])
def test_an_endless_write_of_a_cancelled_run_is_of_unknown_outcome(kind, monkeypatch):
    """A write in flight may end by itself, for a while; then nobody knows what became of it, and a person decides."""
    monkeypatch.setattr(driver, "PARK_GRACE_S", 0.1)
    release = threading.Event()

    async def main():
        calls = Calls()
        loop = asyncio.get_running_loop()

        def blocks() -> int:
            """Hang."""
            loop.call_soon_threadsafe(calls.begun.set)
            release.wait(60)

        slow = tool(calls.stubborn if kind == "async" else blocks, name="slow", effect="write", version="1")
        async with Engine([slow], store="memory:") as engine:
            run = await engine.submit(plan(call("s", "slow")))
            await asyncio.wait_for(calls.begun.wait(), 10)
            await engine.cancel(run.id)
            found = await asyncio.wait_for(engine.wait(run.id), 10)
            await engine.resolve(run.id, "s", done=7)
            return found, await engine.resume(run.id)

    found, resolved = asyncio.run(main())
    release.set()
    assert (found.status, found.steps["s"].status) == ("indeterminate", "indeterminate")
    assert "had not ended 0.1 s later" in str(found.steps["s"].error)
    assert (resolved.status, resolved.steps["s"].status) == ("succeeded", "succeeded")


def test_a_write_with_a_timeout_of_its_own_is_waited_for(monkeypatch):
    """Its end is in sight: a cancel takes nothing from it."""
    monkeypatch.setattr(driver, "PARK_GRACE_S", 0.01)

    async def main():
        begun = asyncio.Event()

        @tool(effect="write", timeout=30)
        async def pay() -> int:
            """Take a while."""
            begun.set()
            await asyncio.sleep(0.2)
            return 1

        async with Engine([pay], store="memory:") as engine:
            run = await engine.submit(plan(call("s", "pay")))
            await begun.wait()
            await engine.cancel(run.id)
            return await engine.wait(run.id)

    assert asyncio.run(main()).steps["s"].status == "succeeded"


def test_a_call_past_its_timeout_is_ended():
    """Its limit counts as a stop: what heeds it tidies up, what does not is closed."""

    async def main(name):
        calls = Calls()
        slow = tool(getattr(calls, name), name="slow", effect="read", timeout=0.05, version="1")
        async with Engine([slow], store="memory:") as engine:
            run = await engine.run(plan(call("s", "slow")))
        return [each.code for each in run.errors], calls.ended

    assert asyncio.run(main("tidy")) == (["timeout"], ["tidy"])
    assert asyncio.run(main("stubborn")) == (["timeout"], ["closed"])


def test_what_returns_in_time_after_a_stop_has_returned():
    """A tool may finish what it does; that nobody wants its value is for others to say."""

    async def main():
        async def late():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            return 5

        work = asyncio.ensure_future(await_stoppable(late()))
        await asyncio.sleep(0)
        work.cancel(STOPPED)
        return await work

    assert asyncio.run(main()) == 5


# --- plain functions around coroutines, as decorators make them


def plainly(fn):
    @wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapper


async def _add(x: int, *, ctx: Context) -> float:
    """Add the time, once something was waited for."""
    await asyncio.sleep(0)
    return x + ctx.now().timestamp()


async def _hang(x: int, *, ctx: Context) -> float:
    """Never return."""
    await asyncio.sleep(1000)
    return 1.0


async def _fail(x: int, *, ctx: Context) -> float:
    """Fail once something was waited for."""
    await asyncio.sleep(0)
    raise ValueError("no")


def run_of(made):
    return one_run(plan_of({"id": "s", "tool": made.name, "args": {"x": 1}}, output="${s}"), made)


@pytest.mark.parametrize("effect", ["read", "write"])
@pytest.mark.parametrize("isolation", ["thread", "inline"])
def test_a_wrapped_coroutine_is_awaited(isolation, effect):
    run = run_of(tool(effect=effect, isolation=isolation, name="t")(plainly(_add)))
    assert run.status == "succeeded"
    assert run.output > 1


def test_a_wrapped_coroutine_is_awaited_in_a_child():
    assert run_of(wrapped_coroutine).output > 1


@pytest.mark.parametrize(
    ("fn", "code", "status"), [(_hang, "timeout", "indeterminate"), (_fail, "tool-error", "failed")]
)
def test_a_wrapped_coroutine_ends_as_any_call(fn, code, status):
    """At its timeout, or by what it raises."""
    read = run_of(tool(effect="read", timeout=0.1, name="t")(plainly(fn)))
    assert (read.status, read.errors[0].code) == ("failed", code)
    write = run_of(tool(effect="write", timeout=0.1, name="t")(plainly(fn)))
    assert write.status == status
