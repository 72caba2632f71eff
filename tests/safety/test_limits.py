"""What is too large is a failed step with a message; the engine lives and the store is unharmed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from firmplan import Engine, InputRejected, OutcomeUnknown, ToolError
from firmplan.executor import SqliteStore, limits, machine, policy
from firmplan.executor.journal import journal
from firmplan.executor.runs import archive
from firmplan.testing import FakeClock
from firmplan.tools import Artifact, Context, Tool, Toolset, tool
from rig import Rig, one_run, plan_of

CHILD_TOOLS = Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py")


@tool(effect="read", version=1)
def large_here(size: int) -> str:
    """Return much text, on a thread."""
    return "x" * size


@tool(effect="read", version=1)
async def large_async(size: int) -> list[str]:
    """Return a list of much text."""
    return ["x" * (size // 4)] * 4


def large_steps(size):
    return [
        {"id": "a", "tool": "large_here", "args": {"size": size}},
        {"id": "b", "tool": "large_async", "args": {"size": size}},
        {"id": "c", "tool": "large", "args": {"size": size}},
        {"id": "ok", "tool": "large", "args": {"size": 3}},
    ]


def test_a_hundred_mebibytes_are_refused():
    """On a thread, on the loop and in a child: code `limit-exceeded`, expected, found, and what to do."""
    run = one_run(plan_of(*large_steps(100 * limits.MIB)), large_here, large_async, *CHILD_TOOLS)
    assert [(error.step, error.code) for error in run.errors] == [
        (step, "limit-exceeded") for step in ("a", "b", "c")
    ]
    for error in run.errors:
        assert "64 MiB" in error.message
        assert "100.0 MiB" in error.message
        assert "ctx.save" in error.message
    assert run.steps["ok"].output == "xxx"


def test_the_store_is_unharmed(tmp_path):
    """What was refused is nowhere in it, and the next run goes well."""

    async def main():
        async with Rig([large_here, large_async, *CHILD_TOOLS], str(tmp_path / "s.db")) as rig:
            assert (await rig.run(plan_of(*large_steps(100 * limits.MIB)))).status == "failed"
            plan = plan_of({"id": "a", "tool": "large_here", "args": {"size": 2_000_000}}, output="${len(a)}")
            assert (await rig.run(plan)).output == 2_000_000

    asyncio.run(main())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 16 * limits.MIB


@pytest.mark.parametrize("is_child", [False, True])
def test_an_artifact_has_a_limit(monkeypatch, is_child):
    """`ctx.save` refuses what no store could take."""
    monkeypatch.setattr(limits, "ARTIFACT_BYTES_MAX", 1000)

    @tool(effect="read", version=1)
    def make(size: int, *, ctx: Context) -> Artifact:
        """Make an artifact."""
        return ctx.save(bytes(size))

    if is_child:  # its own limit stands: 512 MiB
        size, tools, name = 600 * limits.MIB, CHILD_TOOLS, "make_zeros"
    else:
        size, tools, name = 1001, [make], "make"
    run = one_run(plan_of({"id": "a", "tool": name, "args": {"size": size}}), *tools)
    (error,) = run.errors
    assert error.code == "limit-exceeded"
    assert "an artifact" in error.message


def test_a_run_has_a_limit(monkeypatch):
    """The first result that does not fit fails; what came before stays; a replay agrees."""
    monkeypatch.setattr(limits, "RUN_BYTES_MAX", 10_000)

    async def main():
        async with Rig([large_here]) as rig:
            steps = [
                {
                    "id": f"s{n}",
                    "tool": "large_here",
                    "args": {"size": 3000},
                    "after": [f"s{n - 1}"] if n else [],
                }
                for n in range(4)
            ]
            run = await rig.run(plan_of(*steps))
            assert [run.steps[f"s{n}"].status for n in range(4)] == ["succeeded"] * 3 + ["failed"]
            assert run.errors[0].code == "limit-exceeded"
            monkeypatch.setattr(limits, "RUN_BYTES_MAX", 1 << 30)
            assert (await rig.execution.replays.replay(run.id, keep=False)).digest == run.digest

    asyncio.run(main())


def test_values_made_by_expressions_are_bounded():
    """A plan cannot unfold a small value into one that memory does not hold."""
    steps = [{"id": "s0", "set": "${'x' * 1 if False else join(['0123456789'])}"}]
    steps += [{"id": f"s{n}", "set": f"${{[{', '.join([f's{n - 1}'] * 64)}]}}"} for n in range(1, 8)]
    run = one_run(plan_of(*steps))
    assert run.status == "failed"
    assert run.errors[0].code == "limit-exceeded"


def test_too_many_items_are_refused():
    """Before any of them is made."""
    one = Tool.from_callable(
        lambda x: x,
        name="one",
        parameters={"type": "object", "properties": {"x": {}}},
        effect="pure",
        version=1,
    )
    run = one_run(
        plan_of({"id": "a", "tool": "one", "for_each": "${range(100001)}", "args": {"x": "${item}"}}), one
    )
    (error,) = run.errors
    assert error.code == "limit-exceeded"
    assert "100000" in error.message


def test_a_slow_store_slows_the_run_down(tmp_path, monkeypatch):
    """While nothing becomes durable only so much begins: what waits in memory is bounded, and all of it ends well."""
    monkeypatch.setattr(journal, "BEHIND_MAX", 100)
    calls = []

    @tool(effect="pure", version=1)
    async def step(x: int) -> int:
        """Count."""
        calls.append(x)
        return x + 1

    class SlowStore(SqliteStore):
        gate = threading.Event()

        def append(self, batches):
            self.gate.wait()
            return super().append(batches)

    async def main():
        store = SlowStore(str(tmp_path / "s.db"))
        async with Rig([step], store) as rig:
            steps = [
                {"id": f"s{n}", "tool": "step", "args": {"x": f"${{s{n - 1}}}" if n else 0}}
                for n in range(600)
            ]
            run_id = await rig.start(plan_of(*steps, output="${s599}"), reuse="off")
            for _ in range(20_000):
                await asyncio.sleep(0)
            assert 30 < len(calls) < 120
            store.gate.set()
            assert (await rig.execution.wait(run_id)).output == 600

    asyncio.run(main())


# --- each bound, to the unit


def ended(run, step):
    """Return how a step ended: its status, and the code of its error."""
    return run.steps[step].status, next((error.code for error in run.errors if error.step == step), None)


@pytest.mark.parametrize(("size", "end"), [(998, ("succeeded", None)), (999, ("failed", "limit-exceeded"))])
def test_a_value_has_a_limit(monkeypatch, size, end):
    """Counted as canonical JSON, quotes included."""
    monkeypatch.setattr(limits, "VALUE_BYTES_MAX", 1000)
    run = one_run(plan_of({"id": "a", "tool": "large_here", "args": {"size": size}}), large_here)
    assert ended(run, "a") == end


@pytest.mark.parametrize(("size", "end"), [(1000, ("succeeded", None)), (1001, ("failed", "limit-exceeded"))])
def test_an_artifact_fits_up_to_its_limit(monkeypatch, size, end):
    monkeypatch.setattr(limits, "ARTIFACT_BYTES_MAX", 1000)

    @tool(effect="read", version=1)
    def make(size: int, *, ctx: Context) -> Artifact:
        """Make an artifact."""
        return ctx.save(bytes(size))

    assert ended(one_run(plan_of({"id": "a", "tool": "make", "args": {"size": size}}), make), "a") == end


@pytest.mark.parametrize(("most", "fitting"), [(300, 3), (299, 2), (400, 4)])
def test_the_results_of_a_run_fit_up_to_their_limit(monkeypatch, most, fitting):
    """Whatever made them: a result of a hundred bytes each, one after the other."""
    monkeypatch.setattr(limits, "RUN_BYTES_MAX", most)
    steps = [
        {"id": f"s{n}", "tool": "large_here", "args": {"size": 98}, "after": [f"s{n - 1}"] if n else []}
        for n in range(4)
    ]
    run = one_run(plan_of(*steps), large_here)
    assert [run.steps[f"s{n}"].status for n in range(4)].count("succeeded") == fitting
    assert [error.code for error in run.errors][:1] == ["limit-exceeded"] * (fitting < 4)


def test_what_a_failed_call_says_has_a_limit():
    """The beginning is kept, and how long it was."""
    most = limits.MESSAGE_MAX

    @tool(effect="read", version=1)
    def fail(size: int) -> int:
        """Say much."""
        raise ToolError("x" * size)

    told = {
        size: one_run(plan_of({"id": "a", "tool": "fail", "args": {"size": size}}), fail).errors[0].message
        for size in (most, most + 1)
    }
    assert told == {most: "x" * most, most + 1: "x" * most + f".. ({most + 1} characters)"}


@pytest.mark.parametrize(("count", "end"), [(5, ("succeeded", None)), (6, ("failed", "limit-exceeded"))])
def test_the_items_of_a_step_have_a_limit(monkeypatch, count, end):
    monkeypatch.setattr(machine, "ITEMS_MAX", 5)
    plan = plan_of({"id": "a", "set": "${item}", "for_each": f"${{range({count})}}"})
    assert ended(one_run(plan), "a") == end


@pytest.mark.parametrize(("levels", "status"), [(2, "succeeded"), (3, "failed")])
def test_plans_inside_one_another_have_a_limit_at_run_time(monkeypatch, levels, status):
    """Where the check was given another limit, or a saved plan has changed."""
    monkeypatch.setattr(machine, "DEPTH_MAX", 2)
    plans = {f"p{n}": {"steps": [{"id": "a", "plan": f"p{n + 1}"}]} for n in range(levels - 1)}
    plans[f"p{levels - 1}"] = {"steps": [{"id": "a", "set": 1}]}
    run = one_run(plan_of({"id": "a", "plan": "p0"}, plans=plans))
    assert run.status == status
    assert [error.code for error in run.errors][:1] == ["limit-exceeded"] * (status == "failed")


def test_a_lost_write_is_called_again_so_often():
    """An idempotent write whose outcome stays unknown: then a person decides."""
    calls = []

    @tool(effect="write", version=1, idempotent=True, resource="till")
    async def pay(x: int) -> int:
        """Be cut off."""
        calls.append(x)
        raise OutcomeUnknown("cut off")

    async def main():
        async with Rig([pay], clock=FakeClock()) as rig:
            return await rig.run(plan_of({"id": "a", "tool": "pay", "args": {"x": 1}}))

    run = asyncio.run(main())
    assert (run.status, len(calls)) == ("indeterminate", 1 + policy.LOST_RETRIES_MAX)


def test_a_page_of_runs_has_a_limit():
    """A thousand at once; the next page is asked for with the cursor."""
    with Engine([], store="memory:") as engine:
        assert engine.list_runs_sync(limit=archive.LIMIT_MAX).runs == ()
        with pytest.raises(InputRejected, match=f"{archive.LIMIT_MAX}"):
            engine.list_runs_sync(limit=archive.LIMIT_MAX + 1)
