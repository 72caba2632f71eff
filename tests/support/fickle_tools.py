"""Pure tools that another process can find: one that is, and some that are not."""

from __future__ import annotations

import os
import time

from firmplan import Artifact, Context, tool

_COUNT: list[int] = []
_REPEATS: list[int] = []


@tool(effect="pure")
def steady(n: int) -> dict[str, int]:
    """Square a number."""
    return {"square": n * n}


@tool(effect="pure", version="1")
def by_set(words: list[str]) -> list[str]:
    """Return each word once, in the order of a set."""
    return list(set(words))


@tool(effect="pure", version="1")
def by_process(n: int) -> dict[str, dict[str, int]]:
    """Say which process this is."""
    return {"of": {"process": os.getpid(), "n": n}}


@tool(effect="pure", version="1")
def by_order(n: int) -> int:
    """Count how often it was called."""
    _COUNT.append(n)
    return len(_COUNT)


@tool(effect="pure", version="1")
def first_only(n: int, ctx: Context) -> int:
    """Fail wherever a variable is set."""
    if os.environ.get("FIRMPLAN_WORKER"):
        raise ValueError("not here")
    return n


@tool(effect="pure")
def saved(text: str, ctx: Context) -> Artifact:
    """Keep some bytes."""
    return ctx.save(text.encode(), media_type="text/plain")


@tool(effect="pure")
def opened(what: Artifact, ctx: Context) -> str:
    """Read them again."""
    return ctx.open(what).decode()


@tool(effect="pure")
def deadly(n: int) -> int:
    """End the process, where it is a worker."""
    if os.environ.get("FIRMPLAN_WORKER"):
        os._exit(3)
    return n


@tool(effect="pure", version="1")
def by_repeat(n: int) -> int:
    """Count how often it was called with this."""
    _REPEATS.append(n)
    return _REPEATS.count(n)


@tool(effect="pure", version="1")
def by_pair(n: int) -> str:
    """Return the first of a set of two."""
    return next(iter({"one", "two"}))


@tool(effect="pure", version="1", timeout=0.05)
def slow_there(n: int) -> int:
    """Hang, where it is a worker."""
    if os.environ.get("FIRMPLAN_WORKER"):
        time.sleep(60)
    return n


@tool(effect="pure")
def keyed(key: str) -> int:
    """Use a secret."""
    return len(key)


@tool(effect="pure")
def refusing(n: int) -> int:
    """Fail."""
    raise ValueError("never")


@tool(effect="pure", version="1")
async def at_once(words: list[str]) -> list[str]:
    """Return each word once, in the order of a set, without ever waiting."""
    return list(set(words))
