"""Laws of the scripted tool: it answers from its script, remembers its calls, and is a tool like any other."""

import asyncio
import threading

import pytest
from firmplan import Context, Tool, ToolError, Toolset
from firmplan.testing.scripted_tool import Held, ScriptedTool


async def call(fake, ctx=None, **args):
    return fake.seal(await fake.invoke(fake.bind(args), ctx or Context(step="s")))


def test_it_is_a_tool():
    """It stands in a toolset with the settings of `@tool`."""
    fake = ScriptedTool("mail", effect="write", idempotent=True, resource="mail", timeout=3)
    assert isinstance(fake, Tool)
    assert Toolset([fake]).get("mail") is fake
    assert (fake.effect, fake.idempotent, fake.resource, fake.timeout_s, fake.is_async) == (
        "write",
        True,
        "mail",
        3.0,
        True,
    )
    assert repr(fake) == "Tool('mail', effect='write')"


def test_it_answers_in_order_and_remembers():
    """Values, errors and functions of the arguments are answers; every call is on record with its place."""

    async def later(n):
        return n * 2

    fake = ScriptedTool("f", [1, ToolError("down", temporary=True), lambda n: n + 1, later, None])

    async def play():
        assert await call(fake, n=1) == b"1"
        with pytest.raises(ToolError, match="down") as raised:
            await call(fake, Context(step="s", attempt=2, idempotency_key="k"), n=1)
        assert raised.value.temporary
        assert [await call(fake, n=5), await call(fake, n=5), await call(fake)] == [b"6", b"10", b"null"]
        with pytest.raises(ToolError, match="the script has 5 answers, and this is call 6") as raised:
            await call(fake)
        assert raised.value.code == "script-ended"

    asyncio.run(play())
    assert fake.calls == [{"n": 1}, {"n": 1}, {"n": 5}, {"n": 5}, {}, {}]
    assert (fake.played[1].step, fake.played[1].attempt, fake.played[1].idempotency_key) == ("s", 2, "k")


def test_a_function_answers_every_call():
    """A script may be a function of the arguments; without a script every answer is null."""
    fake, silent = ScriptedTool("f", lambda city: {"city": city}), ScriptedTool("g")

    async def play():
        assert await call(fake, city="Rome") == b'{"city":"Rome"}'
        assert await call(silent, anything=[1]) == b"null"

    asyncio.run(play())


def test_types_are_checked_as_for_any_tool():
    """With schemas, arguments and results are held to them."""
    fake = ScriptedTool(
        "f",
        ["text"],
        parameters={"properties": {"n": {"type": "integer"}}, "required": ["n"]},
        returns={"type": "integer"},
    )

    async def play():
        with pytest.raises(ToolError, match="argument 'n'"):
            await call(fake)
        with pytest.raises(ToolError, match='expected integer, found "text"'):
            await call(fake, n=1)

    asyncio.run(play())


def test_held_answers_wait_for_the_test():
    """A held call says that it came in, and goes on when released, from any thread; no clock is involved."""
    held, other = Held({"n": 1}), Held(ToolError("late"))
    fake = ScriptedTool("f", [held, other])

    async def play():
        first = asyncio.create_task(call(fake))
        await held.called.wait()
        assert not first.done()
        threading.Thread(target=held.release).start()
        assert await first == b'{"n":1}'
        second = asyncio.create_task(call(fake))
        await other.called.wait()
        other.release()
        with pytest.raises(ToolError, match="late"):
            await second
        await held.called.wait()

    asyncio.run(play())


def test_scripts_tell_scripted_tools_apart():
    """Two scripts are two fingerprints, so that a store shared by tests mixes nothing up; equal scripts are equal."""
    assert ScriptedTool("f", [1]).fingerprint == ScriptedTool("f", [1]).fingerprint is not None
    assert ScriptedTool("f", [1]).fingerprint != ScriptedTool("f", [2]).fingerprint
