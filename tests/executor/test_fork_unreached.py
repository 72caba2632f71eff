"""A write that the parent never came to waits for a person in a fork, also where nothing that it rests on was changed."""

from __future__ import annotations

import asyncio

from firmplan import Engine, tool


def test_a_write_that_the_parent_never_came_to_is_held():
    """The parent was cancelled while it waited; the fork is asked for at another step, and is not allowed to write."""
    paid = []

    @tool(effect="write", version=1, resource="mail", approval="always")
    def send(x: int) -> int:
        """Send, once a person allows it."""
        return x

    @tool(effect="write", version=1, resource="till")
    def pay(x: int) -> int:
        """Pay, and ask nobody."""
        paid.append(x)
        return x

    @tool(effect="read", version=1, resource="clock")
    def look(x: int) -> int:
        """Look."""
        return x

    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "s", "tool": "send", "args": {"x": 1}},
            {"id": "p", "tool": "pay", "args": {"x": 5}, "after": ["s"]},
            {"id": "z", "tool": "look", "args": {"x": 1}},
        ],
    }

    async def main():
        async with Engine([send, pay, look], store="memory:") as engine:
            assert (await engine.run(plan, run_id="one")).status == "waiting"
            await engine.cancel("one")
            fork = await engine.fork("one", at="z")
            assert fork.status == "waiting"
            await engine.approve(fork.id, "s", by="ann")
            held = await engine.resume(fork.id)
            assert (held.status, held.steps["p"].status, paid) == ("waiting", "waiting", [])
            await engine.approve(fork.id, "p", by="ann")
            done = await engine.resume(fork.id)
            assert (done.status, paid) == ("succeeded", [5])

    asyncio.run(main())
