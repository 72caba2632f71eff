"""A tool that is edited between the request for approval and the call: a person is asked again, and told why."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine
from firmplan.errors import InputRejected, OutcomeUnknown
from firmplan.executor.fork import inherited_from
from firmplan.executor.journal.restore import load_entries
from firmplan.testing import FakeClock
from firmplan.tools import tool
from rig import Rig, plan_of

PAYS = plan_of({"id": "p", "tool": "pay", "args": {"amount": 12}}, output="${p}")
PAYS_EACH = plan_of(
    {"id": "p", "tool": "pay", "for_each": [1, 2, 3], "args": {"amount": "${item}"}}, output="${p}"
)
CHANGED = "the tool 'pay' has changed"


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "s.db")


def old_pay(made, **options):
    @tool(effect="write", approval="always", name="pay", **options)
    def pay(amount: int) -> int:
        """Pay."""
        made.append(("old", amount))
        return amount

    return pay


def new_pay(made, **options):
    @tool(effect="write", approval="always", name="pay", **options)
    def pay(amount: int) -> int:
        """Pay."""
        made.append(("new", amount))
        return amount * 2

    return pay


async def decide(rig, step="p", **given):
    return await rig.decisions.approve("r", step, by="ann", edit=given or None)


def test_a_tool_that_was_edited_after_its_approval_is_asked_about_again(store):
    """The call waits with the reason, another approval has it made once, and a replay calls nothing and agrees."""
    made = []

    async def main():
        async with Rig([old_pay(made)], store) as rig:
            first = await rig.run(PAYS, "r")
            assert (first.steps["p"].asked_again, first.steps["p"].attempt) == (None, 1)
        async with Rig([], store) as rig:  # a process without the tools decides
            await decide(rig)
        async with Rig([new_pay(made)], store) as rig:
            run = await rig.resume("r")
            step = run.steps["p"]
            assert (run.status, made, step.reason, step.attempt, step.attempts) == (
                "waiting",
                [],
                "approval",
                2,
                0,
            )
            assert step.asked_again == f"{CHANGED} since ann approved the call"
            assert step.decision is None
            with pytest.raises(InputRejected, match="attempt 1, is decided already"):
                await rig.decisions.deny("r", "p", by="bob", reason="", attempt=1)
            await decide(rig)
            run = await rig.resume("r")
            assert (run.status, run.output, made, run.steps["p"].attempts) == (
                "succeeded",
                24,
                [("new", 12)],
                1,
            )
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
        async with Rig([], store) as rig:
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


def test_a_tool_that_was_edited_before_anybody_decided_is_asked_about_again_by_whoever_resumes(store):
    """An approval of the new request stands; the old request cannot be decided any more."""
    made = []

    async def main():
        async with Rig([old_pay(made)], store) as rig:
            await rig.run(PAYS, "r")
        async with Rig([new_pay(made)], store) as rig:
            run = await rig.resume("r")
            assert run.steps["p"].asked_again == f"{CHANGED} since approval was asked for"
            with pytest.raises(InputRejected, match="expected attempt 2"):
                await rig.decisions.approve("r", "p", by="ann", edit=None, attempt=1)
            await decide(rig)
            assert ((await rig.resume("r")).output, made) == (24, [("new", 12)])

    asyncio.run(main())


def test_the_same_code_needs_no_second_approval(store):
    """Another object of the same code is no change."""
    made = []

    async def main():
        async with Rig([old_pay(made)], store) as rig:
            await rig.run(PAYS, "r")
            await decide(rig)
        async with Rig([old_pay(made)], store) as rig:
            run = await rig.resume("r")
            assert (run.status, made) == ("succeeded", [("old", 12)])
            assert not [line for line in await rig.event_types("r") if "ApprovalVoided" in line]

    asyncio.run(main())


def test_all_items_of_a_list_are_asked_about_again_together(store):
    """A person who has approved three calls sees the three again, not one after the other."""
    made = []

    async def main():
        async with Rig([old_pay(made)], store) as rig:
            await rig.run(PAYS_EACH, "r")
            await rig.decisions.decide("r", {"p": "approve"}, by="ann")
        async with Rig([new_pay(made)], store) as rig:
            run = await rig.resume("r")
            told = [run.steps[f"p[{at}]"] for at in range(3)]
            assert [each.asked_again for each in told] == [f"{CHANGED} since ann approved the call"] * 3
            assert [each.attempt for each in told] == [2, 2, 2]
            await rig.decisions.decide("r", {"p": "approve"}, by="ann")
            run = await rig.resume("r")
            assert (run.output, made) == ([2, 4, 6], [("new", 1), ("new", 2), ("new", 3)])
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


def test_edited_arguments_stand_when_a_person_is_asked_again(store):
    """The person sees their own arguments, and a fork still finds the call by the arguments of the plan."""
    made = []

    async def main():
        async with Rig([old_pay(made)], store) as rig:
            asked = (await rig.run(PAYS, "r")).steps["p"].args
            await decide(rig, amount=5)
        async with Rig([new_pay(made)], store) as rig:
            run = await rig.resume("r")
            assert (asked, run.steps["p"].args) == ({"amount": 12}, {"amount": 5})
            await decide(rig, amount=6)
            run = await rig.resume("r")
            assert (run.output, made) == (12, [("new", 6)])
            entries = await load_entries(rig.store, await rig.store.find_run("r"))
            events = [entry.event for entry in entries]
            given = next(event.args.digest for event in events if type(event).__name__ == "ApprovalAsked")
            assert inherited_from(events)["p"].given == given

    asyncio.run(main())


@pytest.mark.parametrize("shown", [None, "0:sha256:00"])
def test_a_journal_of_an_older_version_goes_on_as_it_did(shown, monkeypatch, store):
    """Requests that do not say which tool was shown bind nobody to it."""
    made = []
    monkeypatch.setattr("firmplan.executor.calls.dispatch.shown_fingerprint", lambda _: shown)

    async def main():
        async with Rig([old_pay(made)], store) as rig:
            await rig.run(PAYS, "r")
            await decide(rig)
        monkeypatch.undo()
        async with Rig([new_pay(made)], store) as rig:
            run = await rig.resume("r")
            assert (run.status, made) == ("succeeded", [("new", 12)])

    asyncio.run(main())


def test_a_tool_that_changes_after_a_lost_attempt_leaves_the_outcome_open_when_denied(store):
    """A denial of the next attempt must not say that the lost one did nothing."""
    made = []

    def lost(made):
        @tool(effect="write", approval="always", name="pay", idempotent=True)
        def pay(amount: int) -> int:
            """Pay."""
            made.append(("lost", amount))
            raise OutcomeUnknown("no answer")

        return pay

    async def main():
        async with Rig([lost(made)], store, clock=FakeClock(auto=False)) as rig:
            await rig.run(PAYS, "r")
            await decide(rig)
            going = asyncio.ensure_future(rig.resume("r"))
            async for event in rig.execution.events("r"):
                if event.type == "RetryScheduled":
                    break
            await rig.execution.close()
            going.cancel()
            await asyncio.wait([going])
        async with Rig([new_pay(made, idempotent=True)], store) as rig:
            run = await rig.resume("r")
            assert run.steps["p"].asked_again == f"{CHANGED} since ann approved the call"
            assert run.steps["p"].attempt == run.steps["p"].attempts + 2
            run = await rig.decisions.deny("r", "p", by="ann", reason="no")
            assert (run.status, run.steps["p"].status) == ("indeterminate", "indeterminate")
            await rig.decisions.resolve_done("r", "p", 12, by="ann")
            assert (await rig.resume("r")).output == 12
        assert {what for what, _ in made} == {"lost"}

    asyncio.run(main())


def test_a_fork_asks_whatever_the_parent_approved(store):
    """An approval is for one run: its fork asks for the call that it makes, and whoever takes the fork over notices another tool."""
    made = []

    async def main():
        async with Engine([old_pay(made)], store=store) as engine:
            await engine.run(PAYS, run_id="r")
            await engine.approve("r", "p", by="ann")
            assert (await engine.resume("r")).status == "succeeded"
        async with Engine([new_pay(made)], store=store) as engine:
            run = await engine.fork("r", at="p", run_id_new="f")
            assert (run.status, run.steps["p"].asked_again) == ("waiting", None)
        async with Engine([old_pay(made)], store=store) as engine:
            await engine.approve("f", "p", by="ann")
            step = (await engine.resume("f")).steps["p"]
            assert step.asked_again == f"{CHANGED} since ann approved the call"
            (call,) = (await engine.waiting("f")).calls
            assert (call.asked_again, call.attempt) == (step.asked_again, 2)
            assert f"ASKED AGAIN: {CHANGED} since ann approved the call" in str(call)
            assert CHANGED in str(await engine.explain("f", "p"))
        assert made == [("old", 12)]

    asyncio.run(main())


def test_a_tool_whose_code_has_gaps_is_noticed_by_what_can_be_seen(store):
    """Without a fingerprint no result is reused; a change that is in sight counts here all the same."""
    made, hidden = [], {}

    def pay(factor):
        @tool(effect="write", approval="always")
        def pay(amount: int) -> int:
            """Pay."""
            made.append(amount * factor)
            return eval("amount", hidden, {"amount": amount})  # nobody sees what it reaches

        assert pay.fingerprint is None
        return pay

    async def main():
        async with Rig([pay(1)], store) as rig:
            await rig.run(PAYS, "r")
            await decide(rig)
        async with Rig([pay(2)], store) as rig:
            run = await rig.resume("r")
            assert (run.status, made) == ("waiting", [])

    asyncio.run(main())


def test_state_that_a_tool_changes_while_it_runs_is_no_edit():
    """A method counts its object as it was when the tool was made, so that a counter of a client has nobody asked twice."""

    class Bank:
        def __init__(self):
            self.paid, self.rate = [], 1

        @tool(effect="write", approval="always", name="pay")
        def pay(self, amount: int) -> int:
            """Pay."""
            self.paid.append(amount * self.rate)
            return amount

    bank, steps = Bank(), [{"id": f"p{n}", "tool": "pay", "args": {"amount": n}} for n in range(2)]

    async def main():
        async with Rig([bank.pay]) as rig:
            await rig.run(plan_of(*steps), "r")
            for step in ("p0", "p1"):
                await decide(rig, step)
                run = await rig.resume("r")
            assert (run.status, bank.paid) == ("succeeded", [0, 1])

    asyncio.run(main())
