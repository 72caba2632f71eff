"""Plain functions around asynchronous ones, as decorators make them: what they return is awaited."""

from __future__ import annotations

import asyncio
from functools import wraps

import pytest
from child_tools import wrapped_coroutine
from firmplan.tools import Context, tool
from rig import one_run, plan_of


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
