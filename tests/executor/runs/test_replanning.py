"""Re-planning: a failed run's plan is patched by the planner, finished steps keep their results, writes are not repeated."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Planner, tool
from firmplan.executor import Header, ToolsetLock
from firmplan.testing import ScriptedModel, Slow

made: list[str] = []


@tool(effect="read", resource="shop")
def price(item: str) -> int:
    """Price of an item in cents."""
    made.append(f"price {item}")
    if item == "gold":
        raise ValueError("not for sale")
    return len(item)


@tool(effect="write", resource="mail")
def send(text: str) -> str:
    """Send a mail."""
    made.append(f"send {text}")
    return text


PLAN = {
    "firmplan": 1,
    "task": "Mail the price of gold",
    "steps": [
        {"id": "tea", "tool": "price", "args": {"item": "tea"}},
        {"id": "hello", "tool": "send", "args": {"text": "hello"}},
        {"id": "gold", "tool": "price", "args": {"item": "gold"}},
        {"id": "mail", "tool": "send", "args": {"text": "costs ${gold + tea}"}},
    ],
    "output": "${mail}",
}
PATCH = {
    "reasoning": "Gold is not for sale; silver may be.",
    "operations": [
        {"op": "replace", "step": "gold", "with": {"id": "gold", "tool": "price", "args": {"item": "silver"}}}
    ],
}


def run(script, **options):
    """Run the plan with a planner that answers from a script; return the run, the runs of the store, and the requests."""
    made.clear()

    async def drive():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([price, send], store="memory:", planner=planner) as engine:
                done = await engine.run(PLAN, **options)
                page = await engine.list_runs()
                replayed = await engine.replay(done.id)
                return done, replayed, page.runs, model.requests

    return asyncio.run(drive())


def test_a_patched_plan_goes_on_where_the_failed_one_stopped():
    """Only what the patch changes and what waited for it runs; the write that was made is not made again."""
    done, replayed, runs, requests = run([PATCH], replan=2, deadline="1d", priority=1)
    assert (done.status, done.output) == ("succeeded", "costs 9")
    assert sorted(made[:3]) == ["price gold", "price tea", "send hello"]
    assert made[3:] == ["price silver", "send costs 9"]
    assert [each.status for each in runs] == ["succeeded", "failed"]
    assert done.parent == runs[1].id
    assert done.priority == 1
    assert 80_000 < done.deadline - done.created < 86_401
    assert replayed.digest == done.digest
    assert len(requests) == 1


def test_the_planner_is_told_why_a_trusted_tool_failed():
    """Its message stands between the marks of data; results that nothing at fault used do not stand there."""
    _, _, _, requests = run([PATCH], replan=1)
    told = requests[0]["messages"][1]["content"]
    assert "not for sale" in told
    assert "    value: " not in told


def test_without_replan_a_failed_run_is_returned():
    """The default asks no model."""
    done, _, _, requests = run([])
    assert (done.status, requests) == ("failed", [])


def test_a_planner_without_a_patch_leaves_the_failed_run():
    """Patches are bounded, and where none comes the run is as it was."""
    nonsense = {"operations": [{"op": "remove", "step": "tea"}]}
    done, _, runs, requests = run([nonsense] * 12, replan=1)
    assert (done.status, len(runs)) == ("failed", 1)
    assert 0 < len(requests) <= 12


@pytest.mark.parametrize(
    ("script", "status", "output"), [([PATCH], "succeeded", "costs 9"), ([], "failed", None)]
)
def test_a_submitted_run_is_patched_as_well(script, status, output):
    """It is returned at once, and waited for until its last plan has ended; every one who waits gets that."""

    async def drive():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([price, send], store="memory:", planner=planner) as engine:
                given = await engine.submit(PLAN, run_id="r", replan=1 if script else 0)
                ends = await asyncio.gather(engine.wait("r"), engine.wait("r"))
                assert {end.id for end in ends} == {ends[0].id}
                return given, ends[0], await engine.get("r")

    given, end, first = asyncio.run(drive())
    assert (given.id, first.status) == ("r", "failed")
    assert (end.status, end.output, end.parent) == (status, output, "r" if script else None)


def test_closing_the_engine_ends_a_planning_that_nobody_waits_for():
    """Nothing goes on behind the program's back."""

    async def drive():
        async with ScriptedModel([Slow(PATCH, 60)]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([price, send], store="memory:", planner=planner) as engine:
                await engine.submit(PLAN, run_id="r", replan=1)
                while not model.requests:  # noqa: ASYNC110  # a list, which tells nobody
                    await asyncio.sleep(0.01)
            assert [task for task in asyncio.all_tasks() if task.get_name().startswith("firmplan mend")] == []

    asyncio.run(drive())


ASKING = {
    **PLAN,
    "steps": [
        {"id": "ok", "tool": "ask", "args": {}},
        *PLAN["steps"][:2],
        {**PLAN["steps"][2], "after": ["ok"]},
        PLAN["steps"][3],
    ],
}


@tool(effect="write", approval="always", resource="desk", version=1)
def ask() -> str:
    """Ask somebody."""
    return "yes"


TOOLS = [price, send, ask]


async def wait_for(engine):
    """Wait for the run `r`."""
    return await engine.wait("r")


async def resume(engine):
    """Resume the run `r`."""
    return await engine.resume("r")


async def run_again(engine):
    """Run the same plan under the same name."""
    return await engine.run(ASKING, run_id="r")


@pytest.mark.parametrize("look", [wait_for, resume, run_again])
@pytest.mark.parametrize("submits", [False, True])
def test_a_run_is_patched_by_a_later_engine(tmp_path, look, submits):
    """The run keeps how often its plan may be patched: through an approval, a restart and a failure without a planner."""
    made.clear()
    store = tmp_path / "s.db"

    async def drive():
        async with Engine(TOOLS, store=store) as engine:
            begin = engine.submit if submits else engine.run
            await begin(ASKING, run_id="r", replan=1)
            assert (await engine.wait("r")).status == "waiting"
            await engine.approve("r", "ok", by="ann")
        async with Engine(TOOLS, store=store) as engine:  # it has no planner
            assert (await engine.resume("r")).status == "failed"
            assert (await engine.wait("r")).id == "r"
        async with ScriptedModel([PATCH]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(TOOLS, store=store, planner=planner) as engine:
                done, again = await asyncio.gather(look(engine), wait_for(engine))
            async with Engine(TOOLS, store=store, planner=planner) as engine:
                third = await look(engine)
            return done, again, third, len(model.requests)

    done, again, third, requests = asyncio.run(drive())
    assert (done.status, done.output, done.parent) == ("succeeded", "costs 9", "r")
    assert (again.id, third.id, requests) == (done.id, done.id, 1)
    assert made[-2:] == ["price silver", "send costs 9"]


def test_a_patched_run_is_patched_no_more_often_than_was_said():
    """The number counts down from run to run."""
    bad = {"operations": [{"op": "set", "step": "gold", "at": "why", "value": "again"}]}
    done, _, runs, requests = run([bad, bad, bad], replan=2)
    assert (done.status, len(runs), len(requests)) == ("failed", 3, 2)


def test_a_retry_is_patched_as_well():
    """`retry(replan=1)`: what the failed run did stands in the patched one too."""
    made.clear()

    async def drive():
        async with ScriptedModel([PATCH]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(TOOLS, store="memory:", planner=planner) as engine:
                assert (await engine.run(PLAN, run_id="r")).status == "failed"
                return await engine.retry("r", run_id_new="again", replan=1)

    done = asyncio.run(drive())
    assert (done.output, done.parent) == ("costs 9", "again")
    assert sorted(made) == sorted(
        ["price tea", "send hello", "price gold", "price gold", "price silver", "send costs 9"]
    )


def test_only_a_run_that_may_be_patched_says_so():
    """An absent number means none, as in headers of older versions."""
    fields = {"plan": None, "inputs": {}, "seed": "", "lock": ToolsetLock(())}
    assert "replan" not in Header(**fields).to_dict()
    written = Header(**fields, replan=2).to_dict()
    assert Header.from_dict(written).replan == 2
