"""A patch after a failure that untrusted data may have caused: untrusted data has decided that its steps are there, so they are controlled."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Planner, ToolError, tool
from firmplan.executor import Header
from firmplan.testing import ScriptedModel

PLAN = {
    "firmplan": 1,
    "steps": [{"id": "page", "tool": "browse"}, {"id": "n", "set": "${len(page)}"}],
    "output": "${n}",
}
PAY = {"id": "pay", "tool": "pay", "args": {"amount": 5}}
MEND = {"op": "set", "step": "page", "at": "on_error", "value": {"value": ""}}
ADD = {"operations": [MEND, {"op": "add", "step": PAY}]}
ADD_PLAN = {
    "operations": [
        MEND,
        {
            "op": "add",
            "step": {"id": "inner", "for_each": [1], "plan": "q"},
        },
    ]
}
WITH_PLAN = PLAN | {"plans": {"q": {"steps": [PAY], "output": "${pay}"}}}


class Bank:
    """A page that cannot be read, and a write."""

    def __init__(self, trust="untrusted", **options):
        self.paid = []

        @tool(effect="read", trust=trust, resource="web", isolation="inline")
        def browse() -> str:
            """Read a page."""
            raise ToolError("there is no page")

        @tool(effect="write", resource="bank", isolation="inline", **options)
        def pay(amount: int) -> int:
            """Pay."""
            self.paid.append(amount)
            return amount

        self.tools = [browse, pay]


def with_engine(bank, work, plan=PLAN, patch=ADD, **options):
    """Run a plan whose failure is patched, and return what `work(engine, run)` does."""

    async def main():
        async with ScriptedModel([patch]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(bank.tools, store="memory:", planner=planner, **options) as engine:
                run = await engine.run(plan, run_id="first", replan=1)
                assert run.parent == "first", run.errors
                return await work(engine, run)

    return asyncio.run(main())


async def only(engine, run):
    """Return the run after a replay."""
    if run.status in ("succeeded", "failed"):
        assert (await engine.replay(run.id)).digest == run.digest
    return run


async def header_of(engine, run):
    return Header.from_dict((await (await engine._open()).execution.archive.row(run.id)).header)


@pytest.mark.parametrize(
    ("plan", "patch", "path"), [(PLAN, ADD, "pay"), (WITH_PLAN, ADD_PLAN, "inner[0]/pay")]
)
def test_a_person_is_asked_about_a_write_of_a_patch_after_untrusted_data(plan, patch, path):
    """`approval="untrusted"` counts it, also inside a plan that the patch runs; the view says that untrusted data decided."""
    bank = Bank(approval="untrusted")

    async def approved(engine, run):
        assert (run.status, bank.paid) == ("waiting", [])
        (call,) = (await engine.waiting(run.id)).calls
        assert (call.step, call.is_controlled) == (path, True)
        await engine.approve(run.id, path, by="ann")
        return await only(engine, await engine.resume(run.id))

    assert with_engine(bank, approved, plan, patch).status == "succeeded"
    assert bank.paid == [5]


def test_nobody_is_asked_where_no_untrusted_data_is_in_the_plan():
    bank = Bank("trusted", approval="untrusted")
    assert with_engine(bank, only).status == "succeeded"
    assert bank.paid == [5]


def test_strict_refuses_such_a_write():
    bank = Bank()
    run = with_engine(bank, only, flow="strict")
    assert [(error.step, error.code) for error in run.errors] == [("pay", "untrusted-condition")]
    assert bank.paid == []


@pytest.mark.parametrize("flow", ["enforce", "warn", "off"])
def test_elsewhere_the_write_is_made_and_the_header_names_its_step(flow):
    bank = Bank()

    async def replayed(engine, run):
        return await header_of(engine, await only(engine, run))

    assert with_engine(bank, replayed, flow=flow).controlled == ("page", "pay")
    assert bank.paid == [5]


def test_a_step_that_a_person_edits_is_the_persons():
    """A fork and a retry keep the label of the other steps of the patch."""
    bank = Bank(approval="untrusted")

    async def children(engine, run):
        await engine.deny(run.id, "pay", by="ann", reason="no")
        run = await engine.resume(run.id)
        plan = run.plan.to_dict()
        *others, _ = plan["steps"]
        edited = {**plan, "steps": [*others, PAY | {"args": {"amount": 7}}]}
        runs = [await engine.fork(run.id, plan=edited), await engine.fork(run.id, at="n")]
        return [await header_of(engine, each) for each in (*runs, await engine.retry(run.id))]

    edited, forked, retried = with_engine(bank, children)
    assert edited.controlled == ("page",)
    assert forked.controlled == retried.controlled == ("page", "pay")
