"""Tools that draw times and ids, note what they were told, and may kill the engine: wherever they run.

What they note stands in the file `DRAWS_FILE`, one line a value: step, attempt, value. With `DRAWS_KILL=n` the engine is killed
right after the n-th value was noted: by then the value has left the process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from firmplan import Context, Tool, ToolError, tool
from firmplan.executor.calls.running.frames import WORKER_ENV
from rig import Rig, plan_of


def _draw(ctx: Context) -> str:
    kill_at = int(os.environ.get("DRAWS_KILL", "0"))
    for number, draw in enumerate((ctx.now, ctx.uuid, ctx.now), 1):
        drawn = str(draw())
        with Path(os.environ["DRAWS_FILE"]).open("a") as file:
            file.write(f"{ctx.step} {ctx.attempt} {drawn.replace(' ', 'T')}\n")
        if number == kill_at:
            is_child = WORKER_ENV in os.environ
            os.kill(os.getppid() if is_child else os.getpid(), signal.SIGKILL)
            time.sleep(60)  # a child ends with its engine
    return "paid"


@tool(effect="write", idempotent=True, isolation="inline", version=1)
def pay_inline(*, ctx: Context) -> str:
    """Pay, on the loop."""
    return _draw(ctx)


@tool(effect="write", idempotent=True, isolation="thread", version=1)
def pay_thread(*, ctx: Context) -> str:
    """Pay, in a thread."""
    return _draw(ctx)


@tool(effect="write", idempotent=True, isolation="process", version=1)
def pay_process(*, ctx: Context) -> str:
    """Pay, in a process."""
    return _draw(ctx)


@tool(effect="write", idempotent=True, version=1)
async def pay_async(*, ctx: Context) -> str:
    """Pay, asynchronously."""
    await asyncio.sleep(0)
    return _draw(ctx)


@tool(effect="read", isolation="process", retries=2, version=1)
def unsteady_process(*, ctx: Context) -> list[str]:
    """Fail twice, after three draws and after one, in a process."""
    return unsteady(ctx)


def unsteady(ctx: Context) -> list[str]:
    """Fail twice: after three draws, and after one."""
    told = [str(draw()) for draw in (ctx.now, ctx.uuid, ctx.now)[: 1 if ctx.attempt == 2 else 3]]
    with Path(os.environ["DRAWS_FILE"]).open("a") as file:
        file.write(" ".join(each.replace(" ", "T") for each in told) + "\n")
    if ctx.attempt < 3:
        raise ToolError("not yet", temporary=True)
    return told


WRITES: dict[str, Tool] = {made.name: made for made in (pay_inline, pay_thread, pay_process, pay_async)}


def plan_for(name: str):
    """Return a plan that pays once."""
    return plan_of({"id": "pay", "tool": name}, output="${pay}")


def run_child(environ: Mapping[str, str], store: str, name: str) -> None:
    """Run the plan, and die as the environment says."""
    os.environ.update(environ)

    async def main() -> None:
        async with Rig([WRITES[name]], store) as rig:
            await rig.run(plan_for(name), "r")

    asyncio.run(main())
