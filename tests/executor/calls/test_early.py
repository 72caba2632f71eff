"""`run(task, stream=True)`: steps start while their plan is still being written, and what comes of it is what comes of it anyway."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from firmplan import Context, Engine, Planner, PlanningFailed, ToolError, tool
from firmplan.testing import (
    Cut,
    Empty,
    FakeClock,
    Faulted,
    HttpError,
    Paced,
    Refusal,
    ScriptedModel,
    Truncated,
)

PATIENCE_S = 30.0
"""A run that waits for what never comes ends after this long, as a failure of its test."""


@dataclass
class Scene:
    """What happened, in order: a run's calls, and the shares of the plan that its model had written.

    Attributes:
        wait_at: A share of the plan at which the model waits for the tool's first call.
    """

    log: list[str] = field(default_factory=list)
    share: float = 0.0
    wait_at: float = 2.0
    called: asyncio.Event = field(default_factory=asyncio.Event)
    stuck: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: list[str] = field(default_factory=list)
    active: int = 0
    most: int = 0
    failures: int = 0

    async def pace(self, share: float) -> None:
        """Take note of how much of the plan is written; wait where the test says so."""
        self.share = share
        if share >= self.wait_at:
            await self.called.wait()
        await asyncio.sleep(0)

    def note(self, what: str) -> None:
        self.log.append(what)
        self.called.set()

    async def take_a_while(self) -> None:
        """Count how many calls are under way."""
        self.active += 1
        self.most = max(self.most, self.active)
        for _ in range(5):
            await asyncio.sleep(0)
        self.active -= 1

    def tools(self) -> list[Any]:
        """Return tools that take note of their calls."""

        @tool(effect="read", resource="shop")
        async def look(x: str) -> str:
            """Look something up."""
            self.note(f"look {x}")
            if x == "stuck":
                try:
                    await self.stuck.wait()
                except asyncio.CancelledError:
                    self.cancelled.append(x)
                    raise
            return f"<{x}>"

        @tool(effect="read", resource="shop")
        async def find(x: str) -> str:
            """Find something."""
            self.note(f"find {x}")
            await self.take_a_while()
            return f"[{x}]"

        @tool(effect="pure")
        async def count(x: str) -> int:
            """Count letters."""
            self.note(f"count {x}")
            await self.take_a_while()
            return len(x)

        @tool(effect="write", resource="shop")
        async def put(x: str) -> str:
            """Put something there."""
            self.note(f"put {x} at {self.share:.2f}")
            return x

        @tool(effect="read", retries=2)
        async def shaky(x: str) -> str:
            """Look, but not at the first time."""
            self.note(f"shaky {x}")
            self.failures += 1
            if self.failures == 1:
                raise ToolError("not now", temporary=True)
            return x

        @tool(effect="read")
        def dice(x: str, *, ctx: Context) -> list[Any]:
            """Draw a number."""
            self.note(f"dice {x}")
            return [x, ctx.random.random()]

        return [look, find, count, put, shaky, dice]


def call(step: str, name: str, x: str, **keys: Any) -> dict[str, Any]:
    return {"id": step, "tool": name, "args": {"x": x}, **keys}


def plan_of(*steps: dict[str, Any], output: str = "${last}", **keys: Any) -> dict[str, Any]:
    return {"firmplan": 1, **keys, "steps": [*steps], "output": output}


LONG = plan_of(
    call("s0", "look", "zero"),
    *(call(f"s{number}", "look", f"${{s{number - 1}}} and {number}") for number in range(1, 4)),
    *(call(f"s{number}", "count", f"text {number}") for number in range(4, 12)),
    call("w", "put", "${s3}"),
    call("late", "find", "what was put"),
    {"id": "last", "set": {"sum": "${s4 + s11}", "late": "${late}", "w": "${w}"}},
)


def play(
    scene: Scene,
    script: list[Any],
    *,
    task: Any = "Do it",
    options: dict[str, Any] | None = None,
    **settings: Any,
):
    """Run a task with a model that is paced by the scene; return the run, its events and the requests."""

    async def main():
        paced = [reply if isinstance(reply, HttpError) else Paced(reply, scene.pace) for reply in script]
        async with ScriptedModel(paced) as model, asyncio.timeout(PATIENCE_S):
            planner = Planner("m", base_url=model.base_url, mode=settings.pop("mode", None))
            before = asyncio.all_tasks()
            async with Engine(scene.tools(), store="memory:", planner=planner, **settings) as engine:
                run = await engine.run(task, **{"stream": True, **(options or {})})
                events = [(event.type, event.step) async for event in engine.events(run.id)]
            left = [each for each in asyncio.all_tasks() - before if each.get_name().startswith("firmplan")]
            assert not left, "closing leaves nothing behind"
            return run, events, model.requests

    return asyncio.run(main())


def told(run: Any) -> list[Any]:
    """Return what a run's steps came to, but for times."""
    return [(path, step.status, step.output, step.attempts, step.reused) for path, step in run.steps.items()]


def test_the_first_step_starts_before_a_quarter_of_the_plan_has_come():
    """The model writes no more than a quarter until the first step has been called: a planner that waits would wait for ever."""
    scene = Scene(wait_at=0.25)
    run, _, requests = play(scene, [LONG])
    assert run.status == "succeeded", run.errors
    assert requests[0]["stream"] is True
    assert len(LONG["steps"]) >= 12
    assert scene.log[0] == "look zero"


@pytest.mark.parametrize("mode", ["tools", "json_schema", "json", "md_json"])
def test_the_run_is_that_of_a_plan_that_was_written_first(mode):
    """Plan, digest, steps, the journal's events and what was called, in whatever form the plan comes."""
    early, late = Scene(wait_at=0.25), Scene()
    streamed, events, _ = play(early, [LONG], mode=mode)
    plain, plain_events, requests = play(late, [LONG], mode=mode, options={"stream": False})
    assert "stream" not in requests[0]
    assert (streamed.digest, streamed.plan, streamed.output) == (plain.digest, plain.plan, plain.output)
    assert told(streamed) == told(plain)
    assert sorted(map(str, events)) == sorted(map(str, plain_events))
    assert sorted(early.log) == sorted(late.log)


def test_a_write_waits_for_the_whole_plan_and_what_waits_for_it_too():
    """Nothing of the world is changed by a plan that is not checked as a whole."""
    plan = plan_of(
        call("w", "put", "a"),
        call("r", "find", "b"),
        call("p", "count", "c"),
        *LONG["steps"][4:12],
        output="${r}",
    )
    scene = Scene(wait_at=0.6)
    run, _, _ = play(scene, [plan])
    assert run.status == "succeeded", run.errors
    assert scene.log[0] == "count c", "on another resource: it need not wait"
    (put,) = [each for each in scene.log if each.startswith("put")]
    assert float(put.split()[-1]) > 0.9
    assert scene.log.index(put) < scene.log.index("find b")


def test_with_a_budget_nothing_starts_early():
    """It is looked at before each call, and the run's calls alone count."""
    scene = Scene()
    run, _, _ = play(
        scene, [plan_of(call("last", "look", "x"), call("w", "put", "y"))], options={"budget": {"steps": 9}}
    )
    assert run.status == "succeeded"
    stopped = Scene(wait_at=0.25)
    with pytest.raises(TimeoutError):
        play_briefly(stopped, {"budget": {"steps": 99}})
    assert stopped.log == []


def test_where_nothing_may_be_called_nothing_starts_early():
    """`reuse="only"` makes no call."""
    scene = Scene()
    run, _, _ = play(scene, [LONG], options={"reuse": "only"})
    assert run.status == "failed"
    assert scene.log == []


def play_briefly(scene: Scene, options: dict[str, Any]) -> None:
    """Run a task for half a second."""

    async def main():
        async with ScriptedModel([Paced(LONG, scene.pace)]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with (
                Engine(scene.tools(), store="memory:", planner=planner) as engine,
                asyncio.timeout(0.5),
            ):
                await engine.run("Do it", stream=True, **options)

    asyncio.run(main())


def test_a_repair_keeps_what_it_leaves_alone_and_drops_the_rest():
    """Early results stand for the same call only: not for one with other arguments, nor for the same ones of another tool."""
    faulty = plan_of(
        call("a", "look", "kept"),
        call("b", "look", "old"),
        call("c", "look", "same"),
        call("d", "wrong", "x"),
        call("last", "look", "${a}${b}${c}${d}"),
    )
    changes = {"changes": [call("b", "look", "new"), call("c", "find", "same"), call("d", "count", "x")]}
    scene = Scene(wait_at=0.6)
    run, _, requests = play(scene, [faulty, changes])
    whole = plan_of(faulty["steps"][0], *changes["changes"], faulty["steps"][-1])
    other = Scene()
    plain, _, _ = play(other, [whole], options={"stream": False})
    assert len(requests) == 2
    assert run.digest == plain.digest
    assert run.output == "<<kept><new>[same]1>"
    assert [
        scene.log.count(each) for each in ("look kept", "look old", "look new", "look same", "find same")
    ] == [1] * 5
    assert sorted(told(run)) == sorted(told(plain))


def test_a_whole_plan_in_answer_to_a_fault_takes_over_what_it_has_too():
    """The steps that it has in common with the draft are not called again."""
    steps = [call("a", "look", "one"), call("b", "look", "two ${a}")]
    faulty = plan_of(*steps, {"id": "last", "set": "${a + b + nobody}"})
    good = plan_of(*steps, {"id": "last", "set": "${a + b}"})
    scene = Scene(wait_at=0.7)
    run, _, requests = play(scene, [faulty, good])
    assert (run.status, len(requests)) == ("succeeded", 2)
    assert scene.log == ["look one", "look two <one>"]


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        ([Cut(LONG, 0.6), LONG], 2),
        ([Faulted(LONG, 0.6), LONG], 2),
        ([Truncated(LONG, 0.6), LONG], 2),
        ([Empty(), LONG], 2),
        ([HttpError(400, "this model does not stream"), LONG], 2),
        ([HttpError(503, "", {"retry-after-ms": "1"}), LONG], 2),
    ],
    ids=["cut", "error in the stream", "truncated", "empty", "refuses to stream", "down at first"],
)
def test_streams_that_break_change_nothing(script, requests):
    """The plan is asked for again; what was begun is not."""
    scene, other = Scene(), Scene()
    run, _, sent = play(scene, script)
    plain, _, _ = play(other, [LONG], options={"stream": False})
    assert (run.digest, len(sent)) == (plain.digest, requests)
    assert sorted(each for each in scene.log if "put" not in each) == sorted(
        each for each in other.log if "put" not in each
    )


def test_after_a_stream_that_broke_the_plan_is_asked_for_in_one_piece():
    """An endpoint whose streams end in errors plans all the same."""
    scene = Scene(wait_at=0.3)
    run, _, sent = play(scene, [Faulted(LONG, 0.9), LONG])
    assert run.status == "succeeded"
    assert [request.get("stream") for request in sent] == [True, None]
    assert scene.log.count("look zero") == 1


def test_a_refusal_in_the_middle_ends_what_was_begun():
    """No plan, no run of one: the call under way is cancelled and the failure is that of a planning."""
    answer = json.dumps(plan_of(call("a", "look", "stuck"), call("b", "look", "x")))
    pieces = [answer[start : start + 30] for start in range(0, len(answer) * 2 // 3, 30)]
    scene = Scene()

    async def main():
        sse = [{"content": piece} for piece in pieces] + [{"refusal": "I had better not."}]
        async with asyncio.timeout(PATIENCE_S), serving(scene, sse) as model:
            planner = Planner("m", base_url=model, mode="json")
            async with Engine(scene.tools(), store="memory:", planner=planner) as engine:
                with pytest.raises(PlanningFailed, match="declined"):
                    await engine.run("Do it", stream=True)
                assert scene.log == ["look stuck"]
                assert scene.cancelled == ["stuck"]
                (run,) = (await engine.list_runs()).runs
                assert run.status == "failed"

    asyncio.run(main())


class serving:  # noqa: N801  # reads as a context
    """An endpoint that streams these deltas, and waits for the first call before the last of them."""

    def __init__(
        self, scene: Scene, deltas: list[dict[str, Any]], finish: str = "stop", cut: int = 7
    ) -> None:
        self.scene, self.deltas, self.finish, self.cut = scene, deltas, finish, cut

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number, delta in enumerate([*self.deltas, None]):
            if number == len(self.deltas) - 1:
                await self.scene.called.wait()
            choice = {"index": 0, "delta": delta or {}, "finish_reason": None if delta else self.finish}
            data = (
                b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=self.cut == 0).encode() + b"\n\n"
            )
            size = self.cut or len(data)
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                await writer.drain()
        writer.write(b"data: [DONE]\n\n")
        writer.close()


def halves(text: str) -> list[str]:
    """Return a text in pieces of one UTF-16 unit: characters beyond the first plane come as two halves."""
    data = text.encode("utf-16-le")
    return [data[start : start + 2].decode("utf-16-le", "surrogatepass") for start in range(0, len(data), 2)]


@pytest.mark.parametrize("cut", [1, 0])
@pytest.mark.parametrize("escaped", [True, False])
def test_characters_and_escapes_may_come_in_pieces(cut, escaped):
    r"""Bytes of a character, the digits of a `\\u` escape, the two halves of an emoji: each in a piece of its own."""
    word = 'é "ß"\n\\ 🙂'
    text = json.dumps(plan_of(call("last", "look", word), call("n", "count", "x")), ensure_ascii=escaped)
    pieces = list(text) if cut else halves(text)
    deltas: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "plan", "arguments": ""}}]}
    ]
    deltas += [{"tool_calls": [{"function": {"arguments": piece}}]} for piece in pieces]
    scene = Scene()

    async def main():
        async with (
            asyncio.timeout(PATIENCE_S),
            serving(scene, deltas, "tool_calls", cut) as model,
            Engine(scene.tools(), store="memory:", planner=Planner("m", base_url=model)) as engine,
        ):
            return await engine.run("Do it", stream=True)

    run = asyncio.run(main())
    assert run.output == f"<{word}>"
    assert scene.log.count(f"look {word}") == 1


def test_a_failed_call_is_tried_again_by_the_run_alone():
    """The early call is its first attempt; while the plan is being written there is no second."""
    plan = plan_of(call("last", "shaky", "x"), *LONG["steps"][4:12])
    scene = Scene(wait_at=0.3)
    run, _, _ = play(scene, [plan])
    other = Scene()
    plain, _, _ = play(other, [plan], options={"stream": False})
    assert run.steps["last"].attempts == plain.steps["last"].attempts == 2
    assert scene.log.count("shaky x") == 2
    assert run.digest == plain.digest


def test_chance_is_that_of_the_run():
    """The seed follows from the whole plan, unless it is given: then what was drawn early stands."""
    plan = plan_of(call("last", "dice", "x"), *LONG["steps"][4:12])
    digests = {}
    for seed, calls in ((None, 2), ("seed", 1)):
        early, late = Scene(wait_at=0.3), Scene()
        run, _, _ = play(early, [plan], options={"seed": seed})
        plain, _, _ = play(late, [plan], options={"stream": False, "seed": seed})
        assert run.digest == plain.digest
        assert early.log.count("dice x") == calls
        digests[seed] = run.digest
    assert digests[None] != digests["seed"]


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 1}])
@pytest.mark.parametrize("settings", [{}, {"max_concurrency": 1}])
def test_one_place_is_enough(options, settings):
    """A call that is taken over needs no second place."""
    scene = Scene(wait_at=0.25)
    run, _, _ = play(scene, [LONG], options=options, **settings)
    assert run.status == "succeeded"
    if options or settings:
        assert scene.most == 1, "early calls and the run's share the places"


def test_identical_calls_are_made_once():
    """As in any run: the second is reused."""
    plan = plan_of(*(call(f"p{number}", "count", "same") for number in range(12)), output="${p11}")
    scene, other = Scene(wait_at=0.25), Scene()
    run, _, _ = play(scene, [plan])
    plain, _, _ = play(other, [plan], options={"stream": False})
    assert scene.log == other.log == ["count same"]
    assert told(run) == told(plain)


def test_items_conditions_and_inner_plans_start_early():
    """All that a plan can say, with the inputs that were given."""
    inner = {
        "inputs": {"y": {"type": "string"}},
        "steps": [call("i", "look", "${inputs.y}")],
        "output": "${i}",
    }
    plan = plan_of(
        call("each", "look", "${item}", for_each="${inputs.names}"),
        call("never", "look", "no", when="${len(inputs.names) > 5}"),
        {"id": "sub", "plan": "inner", "args": {"y": "${each[0]}"}},
        {"id": "last", "set": "${[each, sub]}"},
        *LONG["steps"][4:12],
        inputs={"names": {"type": "array", "items": {"type": "string"}}},
        plans={"inner": inner},
    )
    scene, other = Scene(wait_at=0.5), Scene()
    options = {"inputs": {"names": ["a", "b"]}}
    run, _, _ = play(scene, [plan], options=options)
    plain, _, _ = play(other, [plan], options={**options, "stream": False})
    assert run.output == [["<a>", "<b>"], "<<a>>"]
    assert scene.log[:3] == ["look a", "look b", "look <a>"]
    assert (run.digest, told(run)) == (plain.digest, told(plain))


def test_prompts_start_early():
    """A model step is asked once, and its cost is the run's."""
    plan = plan_of({"id": "last", "ask": {"prompt": "Say hello"}}, *LONG["steps"][4:12])
    scene, asked, prompted = Scene(), [], asyncio.Event()

    async def pace(share: float) -> None:
        await scene.pace(share)
        if share > 0.3:
            await prompted.wait()  # for the prompt, not for a tool that is faster

    def reply(request):
        if "Say hello" in json.dumps(request["messages"][-1]):
            asked.append(scene.share)
            prompted.set()
            return "Hello."
        return Paced(plan, pace)

    async def main():
        async with ScriptedModel(reply) as model, asyncio.timeout(PATIENCE_S):
            planner = Planner("m", base_url=model.base_url)
            async with Engine(scene.tools(), store="memory:", planner=planner) as engine:
                return await engine.run("Do it", stream=True)

    run = asyncio.run(main())
    assert run.output == "Hello."
    assert len(asked) == 1
    assert asked[0] < 0.5
    assert run.usage["model_calls"] == 1


@asynccontextmanager
async def half_written(scene):
    """Yield an engine and its run, in the middle of the plan: a call is under way, and the rest of the plan never comes."""
    plan = plan_of(call("last", "look", "stuck"), *LONG["steps"][4:12])

    async def pace(share: float) -> None:
        if share > 0.5:
            await asyncio.Event().wait()

    async with ScriptedModel([Paced(plan, pace)]) as model, asyncio.timeout(PATIENCE_S):
        before = asyncio.all_tasks()
        planner = Planner("m", base_url=model.base_url)
        async with Engine(scene.tools(), store="memory:", planner=planner) as engine:
            run = await engine.submit("Do it", stream=True)
            assert run.status == "queued"
            await scene.called.wait()
            yield engine, run
        left = [each for each in asyncio.all_tasks() - before if each.get_name().startswith("firmplan")]
        assert (scene.cancelled, left) == (["stuck"], [])


def test_closing_while_the_plan_is_written_ends_what_was_begun():
    """The call under way is cancelled, and no task is left."""

    async def main():
        async with half_written(Scene()):
            pass

    asyncio.run(main())


def test_a_cancel_while_the_plan_is_written_ends_what_was_begun():
    """The run is cancelled, and so is the call under way."""
    scene = Scene()

    async def main():
        async with half_written(scene) as (engine, run):
            assert (await engine.cancel(run.id)).status == "cancelled"
            assert scene.cancelled == ["stuck"]

    asyncio.run(main())


def test_what_needs_a_person_waits_for_the_whole_plan():
    """A read that is approved each time is asked for once, by the run."""
    scene = Scene()

    @tool(effect="read", approval="always")
    async def peek(x: str) -> str:
        """Look at what is private."""
        scene.note(f"peek {x}")
        return x

    plan = plan_of(call("last", "peek", "x"), *LONG["steps"][4:12])

    async def main():
        async with ScriptedModel([Paced(plan, scene.pace)]) as model, asyncio.timeout(PATIENCE_S):
            planner = Planner("m", base_url=model.base_url)
            tools = [*scene.tools(), peek]
            async with Engine(tools, store="memory:", planner=planner) as engine:
                run = await engine.run("Do it", stream=True)
                assert (run.status, scene.log.count("peek x")) == ("waiting", 0)
                await engine.approve(run.id, "last", by="me")
                run = await engine.resume(run.id)
                assert (run.output, scene.log.count("peek x")) == ("x", 1)
                assert scene.log.count("count text 4") == 1

    asyncio.run(main())


def test_a_saved_plan_answers_at_once_and_a_plan_is_run_as_it_is():
    """Nothing is streamed where no model writes."""
    scene = Scene()

    async def main():
        async with ScriptedModel([]) as model, asyncio.timeout(PATIENCE_S):
            planner = Planner("m", base_url=model.base_url)
            async with Engine(scene.tools(), store="memory:", planner=planner) as engine:
                plan = plan_of(call("last", "look", "x"), task="Look")
                await engine.save_plan("look", plan)
                runs = [await engine.run(each, stream=True) for each in ("Look", plan)]
                return runs, model.requests

    runs, requests = asyncio.run(main())
    assert [run.status for run in runs] == ["succeeded"] * 2
    assert runs[0].digest == runs[1].digest
    assert requests == []


def test_a_result_is_as_old_as_its_call():
    """The time that went into writing the plan counts against `reuse_for`."""
    clock, called, moved = FakeClock(), asyncio.Event(), []

    @tool(effect="read", reuse_for=60, version=1)
    async def now(x: str) -> float:
        """What time it is."""
        called.set()
        return clock.now()

    async def pace(share: float) -> None:
        if share > 0.5:
            await called.wait()
        if share > 0.8 and not moved:
            moved.append(share)
            clock.advance(50)

    plan = plan_of(call("last", "now", "x"), *({"id": f"s{number}", "set": number} for number in range(20)))

    async def main():
        async with ScriptedModel([Paced(plan, pace)]) as model, asyncio.timeout(PATIENCE_S):
            planner = Planner("m", base_url=model.base_url)
            async with Engine([now], store="memory:", planner=planner, clock=clock) as engine:
                first = await engine.run("Do it", stream=True)
                fresh = await engine.run(first.plan)
                clock.advance(20)
                return fresh, await engine.run(first.plan)

    fresh, stale = asyncio.run(main())
    assert [run.steps["last"].reused for run in (fresh, stale)] == [True, False]


def test_an_early_run_replays():
    """Its journal is that of any run."""

    async def main():
        scene = Scene(wait_at=0.25)
        async with ScriptedModel([Paced(LONG, scene.pace)]) as model, asyncio.timeout(PATIENCE_S):
            planner = Planner("m", base_url=model.base_url)
            async with Engine(scene.tools(), store="memory:", planner=planner) as engine:
                run = await engine.run("Do it", stream=True)
                calls = len(scene.log)
                again = await engine.replay(run.id)
                assert again.digest == run.digest
                assert len(scene.log) == calls

    asyncio.run(main())


def test_a_model_that_declines_at_once_fails_the_planning():
    """As without a stream."""
    with pytest.raises(PlanningFailed, match="declined"):
        play(Scene(), [Refusal("No.")])
