"""`explain`: one sentence for each step, naming the part that differs from the nearest earlier call."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Context, Engine, InputRejected, RunNotFound, ToolError, agent, tool
from firmplan.executor import Review
from firmplan.testing import FakeClock, MemoryStore, ScriptedModel, ScriptedTool
from public import call, plan, within
from rig import Rig, plan_of


def weather(rate=1, version=None):
    """A pure tool whose code reads a constant of its own."""

    @tool(effect="pure", version=version)
    def price(city: str, tags: list[str] | None = None) -> int:
        """Say how long a name is."""
        return len(city) * rate + len(tags or [])

    return price


PRICE = plan(
    call("p", "price", args={"city": "${inputs.city}", "tags": "${inputs.tags}"}),
    output="${p}",
    inputs={
        "city": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    },
)


def breaks(n):
    """Fail, whatever is asked."""
    raise ToolError(f"not {n}")


def explained(*runs, step="p", **engine):
    """Run plans one after the other on one store; return the explanation of the last one's step."""

    async def main():
        store = engine.pop("store", None) or MemoryStore()
        async with Rigs(store) as rigs:
            for tools, steps, options in runs:
                run = await rigs.engine(tools, **engine).run(steps, **options)
            return await rigs.engine([]).explain(run.id, step)

    return within(main())


class Rigs:
    """Engines on one store in memory, which closes when the last one does."""

    def __init__(self, store):
        self.store = store
        self.engines = []

    async def __aenter__(self):
        await self.store.open()
        return self

    async def __aexit__(self, *_):
        await self.store.close()

    def engine(self, tools, **options):
        made = Engine(tools, store=self.store, **options)
        self.engines.append(made)
        return made


def price_run(city, *, tags=(), rate=1, version=None, **options):
    return [weather(rate, version)], PRICE, {"inputs": {"city": city, "tags": list(tags)}, **options}


def test_the_first_call_says_so():
    """With nothing to compare, the sentence says that there is nothing."""
    found = explained(price_run("Oslo"))
    assert str(found) == "step 'p' ran because it is the first call of 'price' in this store"
    assert (found.verdict, found.because, found.changes, found.source) == ("ran", "first", (), None)


def test_an_argument_is_named_with_both_values():
    """The path in the arguments, what was there, what is there now, and with which run it was compared."""
    found = explained(price_run("Oslo", run_id="one"), price_run("Rome"))
    assert str(found) == 'step \'p\' ran because args.city was "Oslo", now "Rome" (compared with run one)'
    assert [change.to_dict() for change in found.changes] == [
        {
            "part": "argument",
            "name": "args.city",
            "before": "Oslo",
            "after": "Rome",
            "text": 'args.city was "Oslo", now "Rome"',
        }
    ]
    assert found.source == ("one", "p")


def test_an_argument_inside_a_list_has_its_path():
    """An item that came in the middle is one difference."""
    found = explained(price_run("Oslo", tags=["a", "c"]), price_run("Oslo", tags=["a", "b", "c"]))
    assert [change.name for change in found.changes] == ["args.tags[1]"]


def test_a_long_text_is_told_as_one_difference():
    """Long arguments are kept by digest; the sentence names the path all the same."""
    found = explained(price_run("x" * 9000), price_run("x" * 9000 + "y"))
    assert [change.text for change in found.changes] == ["args.city is another long text"]


def test_a_captured_value_and_a_version_are_named():
    """What the code reads is named as people know it."""
    by_value = explained(price_run("Oslo", rate=1), price_run("Oslo", rate=2))
    assert by_value.changes[0].part == "code"
    assert "rate" in by_value.changes[0].name
    by_version = explained(price_run("Oslo", version="1"), price_run("Oslo", version="2"))
    assert [change.text for change in by_version.changes] == ["its version was '1', now '2'"]


def test_a_reused_step_says_from_where():
    """Nothing differs: the sentence names the run that made the result."""
    found = explained(price_run("Oslo", run_id="one"), price_run("Oslo"))
    assert str(found).startswith("step 'p' was reused from run one: arguments, code")
    assert (found.verdict, found.because, found.source) == ("reused", "same", ("one", "p"))


def test_a_result_of_another_step_is_named_by_that_step():
    """The same call under another name is the same call, of an earlier run and of this one."""
    twice = plan(
        call("one", "price", args={"city": "Oslo"}),
        call("p", "price", args={"city": "Oslo"}, after=["one"]),
    )
    assert "from step 'one' of this run" in str(explained(([weather()], twice, {})))
    other = plan(call("early", "price", args={"city": "Oslo"}))
    found = explained(
        ([weather()], other, {"run_id": "r"}),
        ([weather()], plan(call("p", "price", args={"city": "Oslo"})), {}),
    )
    assert found.source == ("r", "early")
    assert "from step 'early' of run r" in str(found)


def test_the_nearest_earlier_call_has_the_fewest_differences():
    """Not the newest call is compared, but the one that is most like this one."""
    found = explained(
        price_run("Oslo", tags=["a"], run_id="near"),
        price_run("Rome", tags=[]),
        price_run("Oslo", tags=["b"]),
    )
    assert found.source == ("near", "p")
    assert [change.name for change in found.changes] == ["args.tags[0]"]


@pytest.mark.parametrize("mode", ["off", "refresh"])
def test_a_run_that_was_told_to_call_everything_says_so(mode):
    """The reason is the run's mode, not a key."""
    found = explained(price_run("Oslo"), price_run("Oslo", reuse=mode))
    assert found.because == mode
    assert f"reuse='{mode}'" in str(found)


def look(**options):
    return ScriptedTool("look", lambda n: n, effect="read", resource="web", version="1", **options)


LOOK = plan(call("p", "look", args={"n": 1}), output="${p}")


@pytest.mark.parametrize(
    ("tools", "because", "told"),
    [
        ([look()], "no-reuse-for", "the tool has no reuse_for"),
        ([ScriptedTool("look", lambda n: n, effect="write")], "write", "a write is never reused"),
    ],
)
def test_what_is_never_reused_says_why(tools, because, told):
    """Writes, and reads without `reuse_for`, are called each time."""
    found = explained((tools, LOOK, {}), (tools, LOOK, {}))
    assert (found.because, str(found)) == (because, f"step 'p' ran because {told}")


def test_code_that_cannot_be_seen_says_what():
    """Fail closed, and say which part failed."""

    @tool(effect="pure")
    def look(n: int) -> int:
        """Compute what its text says."""
        return int(eval(f"{n} + 1"))

    found = explained(([look], LOOK, {}))
    assert found.because == "unseen"
    assert "eval" in str(found)


def test_a_result_that_was_not_kept_says_why():
    """A call that read the clock, or failed, leaves nothing to reuse, and the next one says so."""

    @tool(effect="read", reuse_for="1h", version="1")
    def look(n: int, ctx: Context) -> str:
        """Say when."""
        return ctx.now().isoformat()

    found = explained(([look], LOOK, {}), ([look], LOOK, {}))
    assert found.because == "not-kept"
    assert "depends on the clock" in str(found)

    failing = ScriptedTool("look", breaks, effect="pure", version="1")
    found = explained(([failing], LOOK, {}), ([failing], LOOK, {}))
    assert found.because == "not-kept"
    assert "it failed" in str(found)


def test_an_expired_read_tells_its_age():
    """`reuse_for`, and how old the result was."""
    clock = FakeClock()
    reading = look(reuse_for="1m")

    async def main():
        async with Rig([reading], clock=clock) as rig:
            await rig.run(plan_of(*LOOK["steps"]), "one")
            clock.advance(90)
            run = await rig.run(plan_of(*LOOK["steps"]))
            return await Review(rig.facilities, rig.execution.archive).explain(run.id, "p")

    found = asyncio.run(main())
    assert str(found) == "step 'p' ran because its result in run one was 90 s old, and reuse_for is 60 s"


def test_a_written_resource_is_named():
    """A read is called again after a write on its resource, and says which resource it was."""
    writing = ScriptedTool("put", lambda: None, effect="write", resource="web")
    tools = [look(reuse_for="forever"), writing]
    found = explained(
        (tools, LOOK, {"run_id": "one"}), (tools, plan(call("w", "put")), {}), (tools, LOOK, {})
    )
    assert str(found) == "step 'p' ran because the resource 'web' was written since its result in run one"


def test_an_environment_value_is_named_and_not_shown(monkeypatch):
    """What `ctx.env` read must still hold; the sentence names the variable, not what is in it."""

    @tool(effect="read", reuse_for="forever", version="1")
    def look(n: int, ctx: Context) -> str:
        """Say where."""
        return str(ctx.env("REGION"))

    monkeypatch.setenv("REGION", "north-value")

    async def main():
        async with Engine([look], store="memory:") as engine:
            await engine.run(LOOK, run_id="one")
            monkeypatch.setenv("REGION", "south-value")
            run = await engine.run(LOOK)
            return await engine.explain(run.id, "p")

    found = within(main())
    assert str(found) == "step 'p' ran because the environment variable REGION is not what it was in run one"
    assert "south-value" not in str(found.to_dict())


def ask(prompt, **keys):
    return plan({"id": "p", "ask": {"prompt": prompt, **keys}}, output="${p}")


@pytest.mark.parametrize(
    ("second", "part", "told"),
    [
        (ask("Say hallo"), "prompt", 'the prompt was "Say hello", now "Say hallo"'),
        (ask("Say hello", temperature=0.5), "parameter", "temperature was null, now 0.5"),
        (ask("Say hello", temperature=0), "parameter", "temperature was null, now 0.0 (compared"),
        (ask("Say hello", max_tokens=9), "parameter", "max_tokens was null, now 9"),
        (ask("Say hello", returns={"type": "string", "minLength": 1}), "schema", "the output schema changed"),
        (ask("Say hello", system="Be kind"), "prompt", ""),
    ],
)
def test_of_a_prompt_the_part_is_named(second, part, told):
    """Prompt word, temperature, limit, output schema: each is told by its name."""

    async def main():
        async with ScriptedModel(["one", "two"]) as model:
            models = {"default": {"name": "m1", "base_url": model.base_url, "api_key": "k"}}
            async with Engine([], store="memory:", models=models) as engine:
                await engine.run(ask("Say hello"))
                run = await engine.run(second)
                assert run.status == "succeeded"
                return await engine.explain(run.id, "p")

    found = within(main())
    assert part in [change.part for change in found.changes]
    assert told in str(found)


def greeting(words):
    def greet(name: str) -> str:
        return name

    greet.__doc__ = f"{words} ${{name}}"
    return agent(examples=[({"name": "Ann"}, "Hello Ann")])(greet)


def test_a_template_that_stands_in_examples_too_is_told_once():
    """An example is made of the same prompt: that both have another word is one change."""

    async def main():
        async with ScriptedModel(["one", "two"]) as model:
            models = {"default": {"name": "m1", "base_url": model.base_url, "api_key": "k"}}
            store, steps = MemoryStore(), plan(call("p", "greet", args={"name": "Ann"}))
            await Engine([greeting("Greet")], store=store, models=models).run(steps)
            engine = Engine([greeting("Welcome")], store=store, models=models)
            run = await engine.run(steps)
            found = await engine.explain(run.id, "p")
            await store.close()
            return found

    found = within(main())
    assert len(found.changes) == 2
    assert str(found).count("the prompt was") == 1


def test_another_model_is_named():
    """The alias stays, the model behind it changes."""

    async def main():
        store = MemoryStore()
        async with ScriptedModel(["one", "two"]) as model, Rigs(store) as rigs:
            for name in ("m1", "m2"):
                models = {"default": {"name": name, "base_url": model.base_url, "api_key": "k"}}
                run = await rigs.engine([], models=models).run(ask("Say hello"))
            return await rigs.engine([]).explain(run.id, "p")

    found = within(main())
    assert [change.part for change in found.changes] == ["model"]
    assert "m1 at" in str(found)
    assert "m2 at" in str(found)


def test_steps_of_parts_are_summed_up():
    """A list's step tells how many parts ran and were reused, and why the first one ran."""
    each = plan(
        {"id": "p", "tool": "price", "for_each": "${inputs.cities}", "args": {"city": "${item}"}},
        inputs={"cities": {"type": "array", "items": {"type": "string"}}},
    )
    runs = [([weather()], each, {"inputs": {"cities": cities}}) for cities in (["a", "b"], ["a", "c", "b"])]
    found = explained(*runs)
    assert found.verdict == "parts"
    assert str(found).startswith(
        "step 'p' has 3 parts: 2 reused, 1 ran; step 'p[1]' ran because args.city was"
    )
    assert [part.verdict for part in found.parts] == ["reused", "ran", "reused"]
    assert explained(*runs, step="p[1]").because == "changed"


STANDS = plan(
    call("broken", "break", args={"n": 1}),
    {"id": "off", "set": 1, "when": "${1 > 2}"},
    {"id": "after_off", "set": "${off}"},
    {"id": "after_broken", "set": "${broken}"},
    {"id": "none", "tool": "break", "for_each": "${[]}", "args": {"n": "${item}"}},
    {"id": "made", "set": "${1 + 1}"},
    call("ask_first", "send"),
    {"id": "later", "set": "${ask_first}"},
)


@pytest.mark.parametrize(
    ("step", "verdict", "told"),
    [
        ("broken", "ran", "ran because it is the first call of 'break'"),
        ("off", "ended", "was skipped because its `when` was false"),
        ("after_off", "ended", "refers to 'off', which was skipped"),
        ("after_broken", "ended", "refers to 'broken', which went wrong"),
        ("none", "ended", "called nothing: its list was empty"),
        ("made", "computed", "was computed"),
        ("ask_first", "waits", "waits for a person"),
        ("later", "waits", "has not run yet: it waits for 'ask_first'"),
    ],
)
def test_steps_that_called_nothing_say_where_they_stand(step, verdict, told):
    """Skipped, computed, waiting, not there yet: each has its own sentence."""
    tools = [
        ScriptedTool("break", breaks, effect="pure", version="1"),
        ScriptedTool("send", lambda: 1, effect="write", approval="always"),
    ]
    found = explained((tools, STANDS, {}), step=step)
    assert found.verdict == verdict
    assert told in str(found)


def test_forked_steps_name_their_parent():
    """What the fork asked for, what it was given, and what the parent answers for."""
    steps = plan(
        call("a", "price", args={"city": "x"}),
        call("b", "price", args={"city": "yy"}),
        {"id": "c", "set": "${a + b}"},
        call("d", "price", args={"city": "zzz"}),
    )

    async def main():
        async with Engine([weather()], store="memory:") as engine:
            await engine.run(steps, run_id="one")
            fork = await engine.fork("one", at="a", set={"b": 7})
            return [await engine.explain(fork.id, path) for path in "abd"]

    a, b, d = within(main())
    assert (a.verdict, a.because) == ("ran", "afresh")
    assert (b.verdict, b.because) == ("given", "given")
    assert (d.verdict, d.because, d.source) == ("reused", "parent", ("one", "d"))
    assert "its parent one" in str(d)


def test_an_item_that_a_fork_gave_is_one_of_the_parts():
    """The step is told by its parts also where all but the given one were left."""
    steps = plan(call("p", "price", args={"city": "${item}"}, for_each="${['x', 'yy']}"), output="${p}")

    async def main():
        async with Engine([weather()], store="memory:") as engine:
            await engine.run(steps, run_id="one")
            fork = await engine.fork("one", set={"p[1]": 7})
            assert fork.output == [1, 7]
            return await engine.explain(fork.id, "p")

    found = within(main())
    assert str(found) == "step 'p' has 2 parts: 1 reused, 1 given"
    assert [(part.step, part.because) for part in found.parts] == [("p[0]", "parent"), ("p[1]", "given")]


def test_a_kept_replay_tells_why_the_steps_of_its_run_ran():
    """The calls are those of the run that was replayed, and so are the reasons; the sentence says whose they are."""

    async def main():
        async with Engine([weather()], store="memory:") as engine:
            first = await engine.run(PRICE, inputs={"city": "Oslo"}, run_id="one")
            await engine.run(PRICE, inputs={"city": "Rome"}, run_id="two")
            kept, again = [await engine.replay(run_id, keep=True) for run_id in (first.id, "two")]
            return [await engine.explain(run.id, "p") for run in (kept, again)]

    one, two = within(main())
    assert str(one) == (
        "step 'p' ran because it is the first call of 'price' in this store; this is a replay of run one"
    )
    assert [change.text for change in two.changes] == ['args.city was "Oslo", now "Rome"']
    assert str(two).endswith("(compared with run one); this is a replay of run two")


def test_unknown_runs_and_steps_are_refused():
    """With the nearest name."""

    async def main(run_id, step):
        async with Engine([weather()], store="memory:") as engine:
            await engine.run(PRICE, inputs={"city": "x"}, run_id="one")
            return await engine.explain(run_id, step)

    with pytest.raises(RunNotFound):
        within(main("two", "p"))
    with pytest.raises(InputRejected, match="run one has no step 'pp': did you mean 'p'"):
        within(main("one", "pp"))


def test_the_sync_twin_explains():
    """Programs without an event loop have it too."""
    with Engine([weather()], store="memory:") as engine:
        run = engine.run_sync(PRICE, inputs={"city": "x"})
        assert engine.explain_sync(run.id, "p").verdict == "ran"


class CountedLookUps(MemoryStore):
    """Counts how often it is asked what calls were made from."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    async def find_calls(self, *args):
        self.asked += 1
        return await super().find_calls(*args)

    async def find_earlier_calls(self, *args, **options):
        self.asked += 1
        return await super().find_earlier_calls(*args, **options)

    async def find_codes(self, *args):
        self.asked += 1
        return await super().find_codes(*args)


def test_a_long_list_is_looked_up_once():
    """The items of a list are explained by a fixed number of look-ups, each with the right earlier call."""

    @tool(effect="pure")
    def area(x: int, y: int) -> int:
        """Multiply."""
        return x * y

    steps = plan(
        call("p", "area", for_each="${range(300)}", args={"x": "${item}", "y": "${inputs.y}"}),
        inputs={"y": {"type": "integer"}},
    )

    async def main():
        store = CountedLookUps()
        async with Rigs(store) as rigs:
            engine = rigs.engine([area])
            await engine.run(steps, inputs={"y": 1}, run_id="one")
            again = await engine.run(steps, inputs={"y": 2}, run_id="two")
            whole = await engine.explain(again.id, "p")
            asked = store.asked
            every = await engine.explain_all(again.id)
            return again, whole, asked, every, await engine.explain(again.id, "p[7]")

    again, whole, asked, every, one = within(main())
    assert asked == 3
    assert [part.source for part in whole.parts] == [("one", f"p[{at}]") for at in range(300)]
    assert {part.sentence.partition(" ran ")[2] for part in whole.parts} == {
        "because args.y was 1, now 2 (compared with run one)"
    }
    assert [each.step for each in every] == list(again.steps)
    assert (every[0], every[8]) == (whole, one)


def test_items_of_one_run_are_compared_with_those_before_them():
    """In the first run of a list each item but the first has an earlier one beside it, which is named."""

    @tool(effect="pure")
    def area(x: int, y: int) -> int:
        """Multiply."""
        return x * y

    steps = plan(call("p", "area", for_each="${range(5)}", args={"x": "${item}", "y": 1}))
    found = explained(([area], steps, {"max_concurrency": 1}))
    assert [part.because for part in found.parts] == ["first"] + ["changed"] * 4
    assert {change.name for part in found.parts for change in part.changes} == {"args.x"}
