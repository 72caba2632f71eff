"""`verify`: pure steps called again in fresh processes; tools that are not deterministic are named, with the place."""

from __future__ import annotations

import json
import os

import fickle_tools
import pytest
from firmplan import Engine, RunNotFound, tool
from firmplan.executor.review import verify as verifying
from firmplan.testing import MemoryStore, ScriptedTool
from public import call, plan, within

WORDS = [f"word{n}" for n in range(30)]


def verified(tools, steps, *, again=None, **options):
    """Run a plan, and verify the run, perhaps with other tools."""

    async def main():
        store = MemoryStore()
        await store.open()
        run = await Engine(tools, store=store).run(steps, **options)
        assert run.status == "succeeded", run.errors
        engine = Engine(tools if again is None else again, store=store)
        found = await engine.verify(run.id)
        pages = await engine.list_runs()
        assert len(pages.runs) == 1
        await store.close()
        return found

    return within(main())


def test_a_deterministic_tool_is_called_again_and_is_the_same():
    """Each distinct call once, in processes of their own; nothing is stored."""
    steps = plan(
        {"id": "s", "tool": "steady", "for_each": "${[1, 2, 2, 3]}", "args": {"n": "${item}"}}, output="${s}"
    )
    found = verified([fickle_tools.steady], steps)
    assert found.ok
    assert found.calls == 3
    assert str(found) == "'steady': 3 calls again, the same results"


@pytest.fixture(scope="module")
def verdicts():
    """Tool -> what one verification found of it: several tools that are not deterministic, and one that is, in one run."""
    steps = plan(
        call("a", "steady", args={"n": 1}),
        call("b", "by_set", args={"words": WORDS}),
        call("w", "at_once", args={"words": WORDS}),
        call("p", "by_process", args={"n": 1}),
        {"id": "c", "tool": "by_order", "for_each": "${[1, 2, 3]}", "args": {"n": "${item}"}},
        call("r", "by_repeat", args={"n": 1}),
        call("f", "first_only", args={"n": 1}),
        output="${p}",
    )
    names = ("steady", "by_set", "at_once", "by_process", "by_order", "by_repeat", "first_only")
    found = verified([getattr(fickle_tools, name) for name in names], steps)
    assert not found.ok
    assert set(found.differing) == {*names} - {"steady"}
    assert json.dumps(found.to_dict())
    return {each.tool: each for each in found.tools} | {"all": str(found)}


def test_the_order_of_a_set_is_found_with_its_path(verdicts):
    """Another hash seed gives another order: the tool, the step and the first place are named."""
    verdict = verdicts["by_set"]
    assert (verdict.step, verdict.differences[0].kind) == ("b", "changed")
    assert "'by_set' is not deterministic: step 'b' came out differently: output[" in verdicts["all"]
    assert "'steady': 1 call again, the same results" in verdicts["all"]


def test_calls_that_never_waited_are_made_again(verdicts):
    """A run records them as one event."""
    assert verdicts["at_once"].step == "w"


def test_the_path_inside_an_output_is_named(verdicts):
    """What differs is told by its path in the value."""
    assert [each.path for each in verdicts["by_process"].differences] == ["of.process"]


def test_state_between_calls_is_found(verdicts):
    """Called in another order, a tool that counts its calls comes out differently."""
    assert verdicts["by_order"].differences


def test_state_that_shows_in_a_second_call_only_is_found(verdicts):
    """One call in the run, and the first in every process is like it; so each is made twice in a row."""
    assert [each.after for each in verdicts["by_repeat"].differences] == [2]


def test_a_failure_in_place_of_a_result_is_a_difference(verdicts):
    """The message of the failure is told."""
    assert "not here" in str(verdicts["first_only"])


def test_the_order_of_two_is_looked_at_more_often(monkeypatch):
    """A set of two comes out as recorded in every second process: there are up to five, while that takes little time."""
    processes = []
    made = verifying.ProcessPool

    def counted(extra):
        processes.append(extra["PYTHONHASHSEED"])
        return made(extra)

    monkeypatch.setattr(verifying, "ProcessPool", counted)
    steps = plan(call("p", "by_pair", args={"n": 1}), output="${p}")
    verified([fickle_tools.by_pair], steps)
    assert len(processes) == verifying.PASSES_MIN
    monkeypatch.setattr(verifying, "MORE_S", 60)
    processes.clear()
    verified([fickle_tools.by_pair], steps)
    assert len(set(processes)) == verifying.PASSES_MAX


def test_a_tool_that_hangs_is_left(monkeypatch):
    """After three calls that took too long nobody waits for the others."""
    called = []
    made = verifying._outcome

    def counted(*given):
        called.append(given[-1].step)
        return made(*given)

    monkeypatch.setattr(verifying, "_outcome", counted)
    steps = plan(
        {"id": "s", "tool": "slow_there", "for_each": "${range(9)}", "args": {"n": "${item}"}}, output="${s}"
    )
    found = verified([fickle_tools.slow_there], steps)
    assert "no result within" in str(found)
    assert called == ["s[8]", "s[7]", "s[6]"]


def test_what_cannot_be_compared_is_told():
    """A tool whose calls all failed, and one that was handed a secret, which no recording holds."""
    steps = plan(
        {"id": "r", "tool": "refusing", "args": {"n": 1}, "on_error": {"value": 0}},
        call("k", "keyed", args={"key": "${secret('KEY')}"}),
        output="${k + r}",
    )

    async def main():
        tools = [fickle_tools.keyed, fickle_tools.refusing]
        async with Engine(tools, store="memory:", secrets={"KEY": "abc"}) as engine:
            run = await engine.run(steps)
            return await engine.verify(run.id)

    found = within(main())
    assert found.ok
    assert str(found).splitlines() == [
        "'keyed' could not be compared (an argument is a secret, which no recording holds)",
        "'refusing' could not be compared (no call of it returned)",
    ]


def test_a_process_that_dies_says_nothing_of_the_tool():
    """It is told as not checked, not as a difference."""
    found = verified([fickle_tools.deadly], plan(call("d", "deadly", args={"n": 1}), output="${d}"))
    assert found.ok
    assert found.tools[0].finding == "unchecked"
    assert "died" in found.tools[0].detail


def test_artifacts_are_there_again():
    """A pure tool that reads an artifact gets its bytes from the store."""
    steps = plan(
        call("s", "saved", args={"text": "hello"}), call("o", "opened", args={"what": "${s}"}), output="${o}"
    )
    found = verified([fickle_tools.saved, fickle_tools.opened], steps)
    assert [(each.tool, each.finding) for each in found.tools] == [
        ("opened", "deterministic"),
        ("saved", "deterministic"),
    ]


def test_only_pure_steps_are_called():
    """Writes, reads and models are left alone."""
    writing = ScriptedTool("put", lambda n: n, effect="write")
    reading = ScriptedTool("look", lambda n: n, effect="read")
    found = verified(
        [writing, reading],
        plan(call("w", "put", args={"n": 1}), call("r", "look", args={"n": 1}), output="${r}"),
    )
    assert found.tools == ()
    assert (len(writing.calls), len(reading.calls)) == (1, 1)
    assert "nothing to verify" in str(found)


def test_a_tool_made_in_a_function_is_called_here():
    """No other process can find it; the verdict says where it was called."""
    numbers = iter(range(9))

    @tool(effect="pure", version="1")
    def local(n: int) -> int:
        """Return something new each time."""
        return next(numbers)

    found = verified([local], plan(call("x", "local", args={"n": 1}), output="${x}"))
    assert found.differing == ("local",)
    assert "in this process" in str(found)


def test_a_changed_or_missing_tool_is_not_called():
    """Other results would say nothing of the code that ran."""

    def made(add):
        @tool(effect="pure")
        def step(n: int) -> int:
            """Add a number."""
            return n + add

        return step

    steps = plan(call("x", "step", args={"n": 1}), output="${x}")
    changed = verified([made(1)], steps, again=[made(2)])
    assert (changed.ok, changed.tools[0].finding) == (True, "changed")
    missing = verified([made(1)], steps, again=[])
    assert (missing.ok, missing.tools[0].finding) == (True, "unchecked")
    assert "no such tool" in str(missing)


def test_a_pure_tool_that_became_a_write_is_never_called():
    """What counts is what the tool is now."""
    pure = ScriptedTool("step", lambda n: n, effect="pure", version="1")
    writing = ScriptedTool("step", lambda n: n, effect="write", version="1")
    found = verified([pure], plan(call("x", "step", args={"n": 1}), output="${x}"), again=[writing])
    assert writing.calls == []
    assert "declared write now" in str(found)


def test_reused_results_are_verified_too():
    """A run that reused everything still answers for its values."""
    steps = plan(call("s", "steady", args={"n": 7}), output="${s}")

    async def main():
        async with Engine([fickle_tools.steady], store="memory:") as engine:
            await engine.run(steps)
            run = await engine.run(steps)
            assert run.steps["s"].reused
            return await engine.verify(run.id)

    assert within(main()).calls == 1


def test_unknown_runs_are_refused():
    """A run that is not there cannot be verified."""

    async def main():
        async with Engine([], store="memory:") as engine:
            await engine.verify("nope")

    with pytest.raises(RunNotFound):
        within(main())


def test_the_sync_twin_verifies():
    """Programs without an event loop have it too; the environment of this process is left as it is."""
    before = dict(os.environ)
    with Engine([fickle_tools.steady], store="memory:") as engine:
        run = engine.run_sync(plan(call("s", "steady", args={"n": 7}), output="${s}"))
        assert engine.verify_sync(run.id).ok
    assert dict(os.environ) == before
