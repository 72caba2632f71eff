"""Contract, 6: the public test fakes, as a user's own tests use them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from firmplan import Context, Engine, PlanRejected, Run, ToolError, tool
from firmplan.testing import FakeClock, MemoryStore, ScriptedModel, ScriptedTool, run_plan
from public import call, plan, within


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


SUM = plan(
    call("s", "add", args={"a": "${inputs.a}", "b": "${inputs.b}"}),
    inputs={"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
    output="${s}",
)


def test_run_plan_is_one_line():
    """`run_plan(plan, tools, **inputs)` for one-line tests."""
    run = run_plan(SUM, [add], a=1, b=5)
    assert isinstance(run, Run)
    assert run.output == 6
    assert run_plan(SUM, [add], a=1).output == 3
    with pytest.raises(PlanRejected):
        run_plan(plan(call("s", "nothing")), [add])


def test_run_plan_takes_inputs_of_any_name():
    """`run_plan(plan, tools, **inputs)`."""
    source = plan(
        inputs={"plan": {"type": "integer"}, "tools": {"type": "integer"}},
        output="${inputs.plan + inputs.tools}",
    )
    assert run_plan(source, [], plan=1, tools=2).output == 3


def test_run_plan_works_inside_a_loop():
    """`run_plan(..)` for one-line tests, also async ones."""

    async def go() -> Any:
        return run_plan(SUM, [add], a=1).output

    assert within(go()) == 3


def test_a_memory_store_outlives_an_engine_or_is_of_one():
    """`MemoryStore`: hand it to `Engine(store=..)`."""
    with Engine([add], store=MemoryStore()) as engine:
        run = engine.run_sync(SUM, inputs={"a": 1})
        assert engine.get_sync(run.id).output == 3
        assert engine.replay_sync(run.id).digest == run.digest
        assert engine.run_sync(SUM, inputs={"a": 1}).steps["s"].reused is True


def test_a_fake_clock_moves_when_told_to():
    """`FakeClock`."""

    async def go() -> None:
        clock = FakeClock(start=100.0, auto=False)
        assert clock.now() == 100.0
        woken: list[str] = []

        async def sleeper(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(name)

        tasks = [asyncio.ensure_future(sleeper("late", 20)), asyncio.ensure_future(sleeper("early", 10))]
        await asyncio.sleep(0)
        clock.advance(10)
        await tasks[1]
        assert woken == ["early"]
        clock.advance(10)
        await tasks[0]
        assert woken == ["early", "late"]
        assert clock.now() == 120.0

    within(go())


def test_a_fake_clock_is_the_engines_time():
    """`FakeClock`: retries with long pauses take no time, `ctx.now()` is the test's, reuse expires when told."""
    calls: list[float] = []

    @tool(effect="read", reuse_for="1h")
    def look() -> int:
        """Look."""
        calls.append(1)
        return 1

    async def now(*, ctx: Context) -> str:
        return ctx.now().isoformat()

    @tool(effect="read", retries=8)
    def flaky(*, ctx: Context) -> int:
        """Fail often."""
        if ctx.attempt < 9:
            raise ToolError("busy", temporary=True)
        return ctx.attempt

    async def go() -> None:
        clock = FakeClock(start=0.0)
        tools = [look, flaky, tool(now, name="now", effect="read", description="Say.")]
        async with Engine(tools, store=MemoryStore(), clock=clock) as engine:
            source = plan(call("l", "look"), call("f", "flaky"), call("n", "now"), output=["${f}", "${n}"])
            run = await engine.run(source)
            assert run.output == [9, "1970-01-01T00:00:00+00:00"]
            assert (await engine.run(plan(call("l", "look")))).steps["l"].reused is True
            clock.advance(3601)
            assert (await engine.run(plan(call("l", "look")))).steps["l"].reused is False

    within(go())
    assert len(calls) == 2


def test_a_fake_clock_wakes_one_sleeper_after_another():
    """`FakeClock`: the same order as on a real clock, and everyone sees the time at which he was woken."""

    async def go() -> list[tuple[str, float]]:
        clock, seen = FakeClock(start=0.0), list[tuple[str, float]]()

        async def sleeper(name: str, *pauses: float) -> None:
            for seconds in pauses:
                await clock.sleep(seconds)
                seen.append((name, clock.now()))

        gone = asyncio.ensure_future(sleeper("gone", 1000))
        tasks = [asyncio.ensure_future(sleeper(*each)) for each in (("a", 3, 3), ("b", 1, 1, 3), ("c", 2))]
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(*tasks)
        await clock.sleep(1)
        seen.append(("end", clock.now()))
        return seen

    assert within(go()) == [
        ("b", 1.0),
        ("c", 2.0),
        ("b", 2.0),
        ("a", 3.0),
        ("b", 5.0),
        ("a", 6.0),
        ("end", 7.0),
    ]


def test_a_rate_spaces_calls():
    """`rate=None`: so many calls a second."""

    @tool(effect="read", rate=1)
    async def look(x: int, *, ctx: Context) -> float:
        """Look."""
        return ctx.now().timestamp()

    async def go() -> Any:
        async with Engine([look], store=MemoryStore(), clock=FakeClock(start=0.0)) as engine:
            source = plan(call("s", "look", args={"x": "${item}"}, for_each="${range(4)}"), output="${s}")
            return (await engine.run(source)).output

    assert within(go()) == [0.0, 1.0, 2.0, 3.0]


def test_a_scripted_tool_answers_from_a_script():
    """`ScriptedTool`."""
    weather = ScriptedTool(
        "weather", [{"celsius": 21.5}, ToolError("down", temporary=True), {"celsius": 9.0}], retries=1
    )
    source = plan(
        call("a", "weather", args={"city": "Rome"}),
        call("b", "weather", args={"city": "Oslo"}, after=["a"]),
        output=["${a.celsius}", "${b.celsius}"],
    )
    assert run_plan(source, [weather]).output == [21.5, 9.0]
    assert weather.calls == [{"city": "Rome"}, {"city": "Oslo"}, {"city": "Oslo"}]


def test_a_scripted_tool_may_be_a_function_of_the_arguments():
    """`ScriptedTool`."""
    made = ScriptedTool("double", lambda x: x * 2, effect="pure")
    source = plan(call("a", "double", args={"x": "${item}"}, for_each=[1, 2]), output="${a}")
    assert run_plan(source, [made]).output == [2, 4]


def test_a_scripted_model_speaks_chat_completions():
    """`ScriptedModel(replies | recording)`: serves the chat-completions API on loopback (`.base_url`, `.requests`)."""

    def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with ScriptedModel(["Hello"]) as model:
        assert model.base_url.startswith("http://127.0.0.1:")
        answer = post(model.base_url, body)
        assert answer["choices"][0]["message"]["content"] == "Hello"
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["total_tokens"] > 0
        assert model.requests == [body]
        with pytest.raises(urllib.error.HTTPError):
            post(model.base_url, body)


def test_a_scripted_model_is_an_async_context_manager(tmp_path: Path):
    """`ScriptedModel`: an async context manager, of replies or of a recording."""

    async def go() -> None:
        async with ScriptedModel(["one", "two"]) as model:
            spec = {"name": "m", "base_url": model.base_url, "api_key": "k"}
            async with Engine([], store=tmp_path / "s.db", models={"default": spec}) as engine:
                source = plan(
                    {"id": "a", "ask": {"prompt": "First"}},
                    {"id": "b", "ask": {"prompt": "Then ${a}"}},
                    output="${b}",
                )
                assert (await engine.run(source)).output == "two"
            assert len(model.requests) == 2

    within(go())


def test_the_pytest_plugin_has_fixtures(memory_store, fake_clock, scripted_model, firmplan_engine):
    """.. and the pytest plugin's fixtures."""
    model = scripted_model(["Hello"])
    spec = {"name": "m", "base_url": model.base_url, "api_key": "k"}
    engine = firmplan_engine([add], store=memory_store, clock=fake_clock, models={"default": spec})
    source = plan({"id": "a", "ask": {"prompt": "Greet"}}, output="${a}")
    assert engine.run_sync(source).output == "Hello"
    assert firmplan_engine([add]).run_sync(SUM, inputs={"a": 1}).output == 3
