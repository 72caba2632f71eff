"""Tools with `isolation="process"`, most of which misbehave: what they do to a child must not reach the engine."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import subprocess
import sys
import threading
import time
from functools import wraps
from pathlib import Path

from firmplan import Artifact, Context, ToolError, tool

STATE: list[int] = []


def _harm(how: str) -> None:  # noqa: C901, PLR0912  # a table
    match how:
        case "raise":
            raise ValueError("no")
        case "tool-error":
            raise ToolError("not now", code="busy", temporary=True)
        case "exit":
            sys.exit(3)
        case "os-exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "hang":
            time.sleep(1000)
        case "spin":
            while True:
                pass
        case "memory":
            bytearray(1 << 40)
        case "recurse":
            _harm(how)
        case "close":
            os.closerange(0, 200)
        case "kill-group":
            os.killpg(0, 9)
        case "close-and-exit":
            os.fork() or time.sleep(1000)
            os._exit(5)


@tool(effect="read", isolation="process", version=1)
def harm(how: str) -> int:
    """Misbehave."""
    _harm(how)
    return 1


@tool(effect="write", isolation="process", version=1, resource="box")
def harm_write(how: str) -> int:
    """Misbehave while something may have changed."""
    _harm(how)
    return 1


@tool(effect="read", isolation="process", version=1, timeout=0.3)
def slow(how: str) -> int:
    """Take too long."""
    _harm(how)
    return 1


@tool(effect="write", isolation="process", version=1, timeout=0.3, resource="box")
def slow_write(how: str) -> int:
    """Take too long, and maybe change something."""
    _harm(how)
    return 1


@tool(effect="write", idempotent=True, isolation="process", version=1, resource="box")
def note_and_die(path: str, *, ctx: Context) -> int:
    """Note the key, and die in the first attempt."""
    with Path(path).open("a") as file:
        file.write(f"{ctx.attempt} {ctx.idempotency_key}\n")
    if ctx.attempt == 1:
        os._exit(1)
    return ctx.attempt


@tool(effect="read", isolation="process", version=1)
def where() -> dict[str, int | str | list[int] | None]:
    """Say which process this is, and what an earlier call left in it; then leave something."""
    found = {"pid": os.getpid(), "cwd": str(Path.cwd()), "left": os.environ.get("LEFT"), "state": list(STATE)}
    STATE.append(1)
    os.chdir("/")
    os.environ["LEFT"] = "behind"
    return found


@tool(effect="read", isolation="process", version=1)
def chatter(size: int) -> str:
    """Print much, in every way, and try to read."""
    print("x" * size)  # noqa: T201  # what it is for
    sys.stdout.flush()
    os.write(1, b'{"kind":"returned","parts":[1]}\n1')
    subprocess.run(["sh", "-c", "echo hello; cat"], check=True)
    return sys.stdin.read()


@tool(effect="read", isolation="process", version=1)
def large(size: int) -> str:
    """Return much text."""
    return "x" * size


@tool(effect="read", isolation="process", version=1)
def length(text: str) -> int:
    """Measure."""
    return len(text)


@tool(effect="read", isolation="process", version=1)
def fork_and_return(is_child_left: bool) -> int:
    """Fork, and go on in both processes."""
    pid = os.fork()
    if pid == 0 and is_child_left:
        time.sleep(1000)
    return pid


@tool(effect="read", isolation="process", version=1)
def start_sleeper() -> int:
    """Leave a process behind."""
    return subprocess.Popen(["sleep", "1000"]).pid


@tool(effect="read", isolation="process", version=1)
def look(name: str, *, ctx: Context) -> dict[str, str | float | None]:
    """Take from the context all that there is to take."""
    return {
        "env": ctx.env(name),
        "now": ctx.now().timestamp(),
        "uuid": str(ctx.uuid()),
        "random": ctx.random.random(),
        "step": ctx.step,
        "pid": os.getpid(),
    }


@tool(effect="read", isolation="process", version=1, resource="voice")
def whisper(*, ctx: Context) -> int:
    """Use a secret."""
    ctx.log.info("whispering")
    return len(ctx.secret("TOKEN"))


@tool(effect="read", isolation="process", version=1)
def make_bytes(size: int, *, ctx: Context) -> Artifact:
    """Make an artifact."""
    return ctx.save(random.Random(size).randbytes(size), name=f"{size}.bin")


@tool(effect="read", isolation="process", version=1)
def twice(file: Artifact, *, ctx: Context) -> Artifact:
    """Make an artifact of an artifact."""
    return ctx.save(ctx.open(file) * 2)


@tool(effect="read", version=1)
def size_of(file: Artifact, *, ctx: Context) -> int:
    """Read an artifact, in the engine's process."""
    return len(ctx.open(file))


@tool(effect="pure", isolation="process", version=1)
async def sum_slowly(xs: list[int]) -> int:
    """Add, as a coroutine."""
    return sum(xs)


@tool(effect="read", isolation="process", version=1)
def make_zeros(size: int, *, ctx: Context) -> Artifact:
    """Make an artifact of zeros."""
    return ctx.save(bytes(size))


@tool(effect="read", isolation="process", version=1, resource="voice")
def shout(key: str, *, ctx: Context) -> str:
    """Hand back a secret, log it, and fail with it at first."""
    ctx.log.warning("shouting", token=ctx.secret("TOKEN"))
    if len(key) > 1000:
        raise ValueError(key)
    return f"{key} {ctx.secret('TOKEN')}"


@tool(effect="read", isolation="process", version=1)
def tell_progress(steps: int, *, ctx: Context) -> int:
    """Say how far it is, more often than anyone reads, and draw a time in between."""
    for step in range(steps):
        ctx.progress(step / steps, f"at {step}")
        ctx.now()
    ctx.progress(1, "done")
    return steps


@tool(effect="read", isolation="process", version=1)
def leave_a_thread(*, ctx: Context) -> int:
    """Leave a thread behind that goes on asking for the time and saying how far it is."""

    def go_on() -> None:
        while True:
            ctx.now()
            ctx.uuid()
            ctx.progress(1, "still there")

    threading.Thread(target=go_on, daemon=True).start()
    return 1


def _timed(fn):
    """A decorator as many have: a plain function around whatever it is given."""

    @wraps(fn)
    def wrapper(*args, **kwargs):
        return fn(*args, **kwargs)

    return wrapper


@tool(effect="read", isolation="process", version=1)
@_timed
async def wrapped_coroutine(x: int, *, ctx: Context) -> float:
    """Wait, in a child, inside a plain function."""
    await asyncio.sleep(0)
    return x + ctx.now().timestamp()


@tool(effect="read", isolation="process", version=1)
def inherited(names: list[str], *, ctx: Context) -> dict[str, str | None]:
    """Return variables of the environment: as the process has them, and as the context answers for the first."""
    found = {name: os.environ.get(name) for name in names}
    return found | {"asked": ctx.env(names[0])}


@tool(effect="read", isolation="process", version=1)
def ask_secret(name: str, *, ctx: Context) -> int:
    """Return the length of a secret."""
    return len(ctx.secret(name))


@tool(effect="read", isolation="process", version=1)
def hide_secret(name: str, *, ctx: Context) -> str:
    """Return a secret, and deny that it was asked for."""
    found = ctx.secret(name)
    ctx.used.secrets.clear()
    return found
