"""What people decide: approve, edit, deny, resolve, cancel; whenever, and whoever drives the run."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import pytest
from firmplan.errors import InputRejected, OutcomeUnknown, RunNotFound, ToolError
from firmplan.executor import SqliteStore, limits
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import Approved, Denied, ResolvedDone, ResolvedFailed, ResolvedRetry
from firmplan.executor.journal.decision_history import key_of
from firmplan.executor.journal.records import write_line
from firmplan.testing import Held, ScriptedTool
from firmplan.tools import tool
from rig import Rig, plan_of, statuses

PAYS = plan_of(
    {"id": "due", "set": 12},
    {"id": "paid", "tool": "pay", "args": {"amount": "${due}"}},
    {"id": "noted", "set": "${paid}"},
    {"id": "also", "tool": "look"},
    {"id": "later", "tool": "look", "after": ["paid"]},
    output="${noted}",
)
CALLS_ONCE = plan_of(
    {"id": "w", "tool": "send", "args": {"to": "me"}}, {"id": "n", "set": "${w}"}, output="${n}"
)


def pay(**options):
    return ScriptedTool(
        "pay", lambda amount: {"paid": amount}, effect="write", approval="always", resource="bank", **options
    )


def look():
    return ScriptedTool("look", lambda: "seen", effect="read", resource="box")


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path):
    """Where the store is; a store in memory is one object for all that open it."""
    return SqliteStore(":memory:") if request.param == "memory" else str(tmp_path / "s.db")


def test_a_call_that_needs_approval_waits_with_everything_else_done(place):
    """Nothing is called before the approval; what does not depend on it has run."""
    paying = pay()

    async def main():
        async with Rig([paying, look()], place) as rig:
            run = await rig.run(PAYS, "r")
            assert (run.status, paying.calls, run.output) == ("waiting", [], None)
            assert statuses(run) == {
                "due": "succeeded",
                "paid": "waiting:approval",
                "noted": "pending",
                "also": "succeeded",
                "later": "pending",
            }
            approved = await rig.decisions.approve("r", "paid", by="ann", edit=None)
            assert paying.calls == []
            assert approved.status in ("running", "waiting")
            run = await rig.resume("r")
            assert (run.status, run.output, paying.calls) == ("succeeded", {"paid": 12}, [{"amount": 12}])
            assert "Approved paid" in await rig.event_types("r")

    asyncio.run(main())


def test_an_approval_outlives_the_process(tmp_path):
    """Approved by one process, carried out by the next, once."""
    store, paying = str(tmp_path / "s.db"), pay()

    async def main():
        async with Rig([paying, look()], store) as rig:
            await rig.run(PAYS, "r")
        async with Rig([look()], store) as rig:
            await rig.decisions.approve("r", "paid", by="ann", edit=None)
        async with Rig([paying, look()], store) as rig:
            run = await rig.resume("r")
            assert run.status == "succeeded"
        async with Rig([paying, look()], store) as rig:
            assert (await rig.resume("r")).digest == run.digest
        assert paying.calls == [{"amount": 12}]

    asyncio.run(main())


def test_an_edit_replaces_arguments_and_is_recorded():
    """The call is made with the edited arguments, and a replay agrees."""
    paying = pay()

    async def main():
        async with Rig([paying, look()]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.approve("r", "paid", by="ann", edit={"amount": 5})
            run = await rig.resume("r")
            assert (paying.calls, run.output) == ([{"amount": 5}], {"paid": 5})
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


def test_an_edit_that_does_not_fit_is_rejected():
    """The message names the argument; the step waits on."""

    @tool(effect="write", approval="always", name="pay")
    def paying(amount: int) -> int:
        """Pay."""
        return amount

    async def main():
        async with Rig([paying, look()]) as rig:
            await rig.run(PAYS, "r")
            with pytest.raises(InputRejected, match="amount"):
                await rig.decisions.approve("r", "paid", by="ann", edit={"amount": "much"})
            with pytest.raises(InputRejected, match="amuont"):
                await rig.decisions.approve("r", "paid", by="ann", edit={"amuont": 1})
            assert (await rig.execution.archive.get("r")).status == "waiting"

    asyncio.run(main())


@pytest.mark.parametrize("decide", ["done", "retry"])
def test_a_step_whose_outcome_was_found_out_has_no_error(decide):
    """Once it has succeeded nothing is wrong with it: the uncertainty stands in the journal, not in its view."""
    sending = ScriptedTool("send", [OutcomeUnknown("?"), "sent"], effect="write")

    async def main():
        async with Rig([sending]) as rig:
            run = await rig.run(CALLS_ONCE, "r")
            assert run.steps["w"].error.code == "outcome-unknown"
            if decide == "done":
                await rig.decisions.resolve_done("r", "w", "sent")
            else:
                await rig.decisions.resolve_retry("r", "w")
            run = await rig.resume("r")
            assert (run.status, run.output, run.steps["w"].error) == ("succeeded", "sent", None)

    asyncio.run(main())


def test_a_denial_cancels_the_dependent_cone():
    """References are cancelled, `after` is blocked, and what is independent stays."""
    paying = pay()

    async def main():
        async with Rig([paying, look()]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.deny("r", "paid", by="bob", reason="too much")
            run = await rig.resume("r")
            assert paying.calls == []
            assert statuses(run) == {
                "due": "succeeded",
                "paid": "cancelled:denied",
                "noted": "cancelled:denied",
                "also": "succeeded",
                "later": "skipped:blocked",
            }
            assert run.status == "failed"
            assert [(e.step, e.code, e.message) for e in run.errors] == [("paid", "denied", "too much")]
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


@pytest.mark.parametrize("step", ["due", "nope", "also"])
def test_only_what_waits_can_be_decided(step):
    """The message says what the step is, and which steps wait."""

    async def main():
        async with Rig([pay(), look()]) as rig:
            await rig.run(PAYS, "r")
            for decide in (
                rig.decisions.approve("r", step, by="a", edit=None),
                rig.decisions.deny("r", step, by="a", reason=""),
            ):
                with pytest.raises(
                    InputRejected, match=r"a step that waits for approval, found .*; those that do: paid"
                ):
                    await decide
            for decide in (
                rig.decisions.resolve_done("r", step, 1),
                rig.decisions.resolve_retry("r", step),
                rig.decisions.resolve_failed("r", step, ""),
            ):
                with pytest.raises(
                    InputRejected,
                    match=r"of unknown outcome, found .*; no step of the run is of unknown outcome$",
                ):
                    await decide
            with pytest.raises(RunNotFound):
                await rig.decisions.approve("other", step, by="a", edit=None)

    asyncio.run(main())


def test_an_approval_rule_sees_the_arguments():
    """A callable decides; one that raises means that a person is asked."""

    def rule(args):
        return args["amount"] > 10 if args["amount"] != 7 else 1 / 0

    plan = plan_of({"id": "p", "tool": "pay", "for_each": "${[1, 20, 7]}", "args": {"amount": "${item}"}})
    paying = ScriptedTool("pay", lambda amount: amount, effect="write", approval=rule)

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(plan, "r")
            assert paying.calls == [{"amount": 1}]
            assert statuses(run) == {
                "p": "waiting:approval",
                "p[0]": "succeeded",
                "p[1]": "waiting:approval",
                "p[2]": "waiting:approval",
            }
            for step in ("p[1]", "p[2]"):
                await rig.decisions.approve("r", step, by="ann", edit=None)
                run = await rig.resume("r")
            assert (run.status, run.steps["p"].output) == ("succeeded", [1, 20, 7])

    asyncio.run(main())


def sender(*script, **options):
    return ScriptedTool("send", list(script), effect="write", resource="mail", **options)


@pytest.mark.parametrize(
    "fault", [OutcomeUnknown("lost"), TimeoutError("late"), ConnectionResetError("cut")], ids=repr
)
def test_a_write_of_unknown_outcome_waits_for_a_person(fault):
    """Neither retries nor on_error touch it; resolve(done) gives its value."""
    sending = sender(fault, retries=3)
    plan = plan_of(
        {"id": "w", "tool": "send", "args": {"to": "me"}, "on_error": "skip"},
        {"id": "n", "set": "${w}"},
        output="${n}",
    )

    async def main():
        async with Rig([sending]) as rig:
            run = await rig.run(plan, "r")
            assert run.status == "indeterminate"
            assert run.steps["w"].status == "indeterminate"
            assert len(sending.calls) == 1
            await rig.decisions.resolve_done("r", "w", "sent")
            run = await rig.resume("r")
            assert (run.status, run.output, len(sending.calls)) == ("succeeded", "sent", 1)
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


def test_resolve_fail_fails_the_step():
    """The reason stands in the run's errors."""
    sending = sender(OutcomeUnknown("lost"))

    async def main():
        async with Rig([sending]) as rig:
            await rig.run(CALLS_ONCE, "r")
            await rig.decisions.resolve_failed("r", "w", "the bank said no")
            run = await rig.resume("r")
            assert run.status == "failed"
            assert [(e.step, e.message) for e in run.errors] == [("w", "the bank said no")]
            assert statuses(run)["n"] == "skipped:dependency-failed"

    asyncio.run(main())


def test_resolve_done_must_fit_the_type():
    """The value is a result of the tool like any other."""

    @tool(effect="write", name="send")
    def sending(to: str) -> int:
        """Send."""
        raise OutcomeUnknown("lost")

    async def main():
        async with Rig([sending]) as rig:
            await rig.run(CALLS_ONCE, "r")
            with pytest.raises(InputRejected, match="integer"):
                await rig.decisions.resolve_done("r", "w", "text")
            await rig.decisions.resolve_done("r", "w", 3)
            assert (await rig.resume("r")).output == 3

    asyncio.run(main())


def test_an_idempotent_write_is_called_again_until_it_is_known():
    """The same key each time."""
    sending = sender(OutcomeUnknown("lost"), TimeoutError(), "sent", idempotent=True)

    async def main():
        async with Rig([sending]) as rig:
            run = await rig.run(CALLS_ONCE, "r")
            assert (run.status, run.output) == ("succeeded", "sent")
            assert len({call.idempotency_key for call in sending.played}) == 1

    asyncio.run(main())


def test_reconcile_is_asked_before_a_second_call():
    """It says what the call returned, or that it may be made again."""
    asked = []

    def knows(key, args):
        asked.append((key, args))
        return "was sent"

    def knows_not(key, args):
        asked.append((key, args))

    async def main():
        sending = sender(OutcomeUnknown("lost"), reconcile=knows)
        async with Rig([sending]) as rig:
            assert (await rig.run(CALLS_ONCE, "r")).output == "was sent"
            assert asked == [(sending.played[0].idempotency_key, {"to": "me"})]
            assert len(sending.calls) == 1
        sending = sender(OutcomeUnknown("lost"), "sent", reconcile=knows_not)
        async with Rig([sending]) as rig:
            assert (await rig.run(CALLS_ONCE, "r")).output == "sent"
            assert len(sending.calls) == 2

    asyncio.run(main())


def test_a_cancel_stops_reads_and_lets_writes_end():
    """Nothing new starts; a write in flight ends by itself and keeps its result."""
    reading, writing = Held("seen"), Held("sent")
    plan = plan_of(
        {"id": "r", "tool": "look"},
        {"id": "w", "tool": "send", "args": {"to": "me"}},
        {"id": "next", "set": "${w}"},
        {"id": "more", "tool": "send", "args": {"to": "${r}"}},
    )
    tools = [ScriptedTool("look", [reading], effect="read", resource="box"), sender(writing)]

    async def main():
        async with Rig(tools) as rig:
            run_id = await rig.start(plan, "r")
            await reading.called.wait()
            await writing.called.wait()
            await rig.decisions.cancel(run_id)
            writing.release()
            run = await rig.execution.wait(run_id)
            assert run.status == "cancelled"
            assert statuses(run) == {
                "r": "cancelled:cancelled",
                "w": "succeeded",
                "next": "cancelled:cancelled",
                "more": "cancelled:cancelled",
            }
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            assert (await rig.decisions.cancel("r")).status == "cancelled"
            assert (await rig.resume("r")).status == "cancelled"

    asyncio.run(main())


@pytest.mark.parametrize(
    "options",
    [{}, {"idempotent": True}, {"reconcile": lambda key, args: None}],
    ids=["plain", "idempotent", "reconcile"],
)
def test_a_cancelled_run_does_not_forget_a_write_of_unknown_outcome(options):
    """A cancel may not call again, and may not say that nothing happened: a person decides."""
    writing = Held(OutcomeUnknown("lost"))
    sending = sender(writing, **options)

    async def main():
        async with Rig([sending]) as rig:
            await rig.start(CALLS_ONCE, "r")
            await writing.called.wait()
            await rig.decisions.cancel("r")
            writing.release()
            run = await rig.execution.wait("r")
            assert (run.status, run.steps["w"].status) == ("indeterminate", "indeterminate")
            await rig.decisions.resolve_done("r", "w", "sent")
            run = await rig.resume("r")
            assert (run.status, statuses(run)["w"], statuses(run)["n"]) == (
                "cancelled",
                "succeeded",
                "cancelled:cancelled",
            )
            assert len(sending.calls) == 1

    asyncio.run(main())


def test_a_cancel_while_a_lost_write_pauses_leaves_it_indeterminate():
    """Between two attempts of an idempotent write its outcome is as unknown as before."""
    sending = sender(OutcomeUnknown("lost"), idempotent=True)

    class Frozen:
        """Pauses never end."""

        def now(self):
            return 0.0

        async def sleep(self, seconds):
            asleep.set()
            await asyncio.Event().wait()

    asleep = asyncio.Event()

    async def main():
        async with Rig([sending], clock=Frozen()) as rig:
            await rig.start(CALLS_ONCE, "r")
            await asleep.wait()
            await rig.decisions.cancel("r")
            run = await asyncio.wait_for(rig.execution.wait("r"), 5)
            assert (run.status, run.steps["w"].status) == ("indeterminate", "indeterminate")

    asyncio.run(main())


def test_a_run_that_nobody_drives_can_be_cancelled(place):
    """While it waits, or before it starts."""

    async def main():
        async with Rig([pay(), look()], place) as rig:
            await rig.run(PAYS, "r")
            run = await rig.decisions.cancel("r")
            assert run.status == "cancelled"
            assert statuses(run)["paid"] == "cancelled:cancelled"
            await rig.submit(PAYS, "s")
            assert (await rig.execution.archive.get("s")).status == "queued"
            await rig.decisions.cancel("s")
            assert (await rig.resume("s")).status == "cancelled"

    asyncio.run(main())


def test_a_decision_for_a_run_that_another_engine_drives_reaches_it(tmp_path):
    """The one who decides need not be the one who drives."""
    store, held, paying = str(tmp_path / "s.db"), Held("seen"), pay()
    slow = ScriptedTool("look", [held, "seen"], effect="read", resource="box")

    async def main():
        async with Rig([paying, slow], store) as driving, Rig([], store) as deciding:
            await driving.start(PAYS, "r")
            await held.called.wait()
            while (await deciding.execution.archive.get("r")).steps["paid"].status != "waiting":  # noqa: ASYNC110  # told by another engine
                await asyncio.sleep(0)
            await deciding.decisions.approve("r", "paid", by="ann", edit=None)
            held.release()
            run = await driving.execution.wait("r")
            if run.status == "waiting":
                run = await driving.resume("r")
            assert run.status == "succeeded"
            assert paying.calls == [{"amount": 12}]

    asyncio.run(main())


def test_a_decision_that_came_too_late_is_dropped():
    """Two people approve: the call is made once."""
    paying = pay()

    async def main():
        async with Rig([paying, look()]) as rig:
            await rig.run(PAYS, "r")
            await asyncio.gather(
                rig.decisions.approve("r", "paid", by="ann", edit=None),
                rig.decisions.approve("r", "paid", by="bob", edit=None),
                return_exceptions=True,
            )
            await rig.resume("r")
            assert len(paying.calls) == 1
            assert await rig.store.list_decisions("r") == []

    asyncio.run(main())


def test_a_failed_step_is_no_business_of_a_person():
    """An ordinary failure of a write did nothing, and fails the step."""
    sending = sender(ToolError("no such address"))

    async def main():
        async with Rig([sending]) as rig:
            run = await rig.run(CALLS_ONCE, "r")
            assert run.status == "failed"
            assert [(e.step, e.code, e.message) for e in run.errors] == [
                ("w", "tool-error", "no such address")
            ]

    asyncio.run(main())


class Slow(SqliteStore):
    """A store whose commits wait until they are let through."""

    def __init__(self):
        super().__init__(":memory:")
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def append(self, batches):
        if not self.gate.is_set():
            self.waiting.set()
            self.gate.wait()
        return super().append(batches)


def test_a_write_whose_intent_is_being_noted_is_not_called_after_a_cancel():
    """Cancelled between the intent and the call, the write is withdrawn: it did nothing, and the journal replays."""
    send = ScriptedTool("send", lambda to: to, effect="write", resource="mail")

    async def main():
        store = Slow()
        async with Rig([send], store) as rig:
            run_id = await rig.submit(CALLS_ONCE, "r")
            store.gate.clear()
            started = asyncio.ensure_future(rig.execution.resume(run_id))
            await asyncio.to_thread(store.waiting.wait)
            await rig.decisions.cancel(run_id)
            store.gate.set()
            await started
            run = await rig.execution.wait(run_id)
            assert (run.status, run.steps["w"].status) == ("cancelled", "cancelled")
            assert send.played == []
            assert (await rig.execution.replays.replay(run_id, keep=False)).digest == run.digest

    asyncio.run(main())


def lost_twice():
    """A write whose first two calls are of unknown outcome."""
    return ScriptedTool("send", [OutcomeUnknown("?"), OutcomeUnknown("?"), "sent"], effect="write")


def left(event):
    """A decision as it lies in the store, from a process that has looked at the run before."""
    return write_line(0, 1.0, event, inline_bytes_max=None)[0]


LATE = [ResolvedRetry("w", 1), ResolvedFailed("w", "no", 1), ResolvedDone("w", CanonicalValue(b'"x"'), 1)]


@pytest.mark.parametrize("late", LATE, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("way", ["driven", "noted"])
def test_a_late_decision_about_one_attempt_is_not_taken_in_about_the_next(late, way):
    """It came to the store while attempt 2 was made: neither the driver nor who notes decisions applies it to that."""
    sending = lost_twice()

    async def main():
        async with Rig([sending]) as rig:
            await rig.run(CALLS_ONCE, "r")
            await rig.decisions.resolve_retry("r", "w")
            await rig.resume("r")
            await rig.store.add_decision("r", left(late))
            if way == "driven":
                await rig.resume("r")
            else:
                await rig.decisions.raise_budget("r", {"steps": 100})
            run = await rig.execution.archive.get("r")
            assert (run.status, run.steps["w"].attempt, len(sending.calls)) == ("indeterminate", 2, 2)
            assert await rig.store.list_decisions("r") == []
            await rig.decisions.resolve_retry("r", "w", attempt=2)
            assert (await rig.resume("r")).output == "sent"

    asyncio.run(main())


def test_an_older_decision_that_names_no_attempt_is_about_the_one_that_waits():
    """As it was left by a firmplan that did not know better."""
    sending = sender(OutcomeUnknown("?"), "sent")

    async def main():
        async with Rig([sending]) as rig:
            await rig.run(CALLS_ONCE, "r")
            await rig.store.add_decision("r", left(ResolvedRetry("w")))
            with pytest.raises(
                InputRejected, match="attempt 1, is decided already: resolved to be called again at"
            ) as caught:
                await rig.decisions.resolve_failed("r", "w", "no")
            assert caught.value.code == "decided"
            assert (await rig.resume("r")).output == "sent"

    asyncio.run(main())


def test_one_decision_stands_about_a_later_attempt_too():
    """An older decision lies in the store while attempt 2 waits: nobody can say otherwise of that attempt."""
    sending = lost_twice()

    async def main():
        async with Rig([sending]) as rig:
            await rig.run(CALLS_ONCE, "r")
            await rig.decisions.resolve_retry("r", "w")
            await rig.resume("r")
            await rig.store.add_decision("r", left(ResolvedRetry("w")))
            with pytest.raises(InputRejected, match="attempt 2, is decided already") as caught:
                await rig.decisions.resolve_failed("r", "w", "no")
            assert caught.value.code == "decided"
            assert (await rig.resume("r")).output == "sent"

    asyncio.run(main())


def test_a_decision_is_durable_only_after_its_question():
    """While the record of the question waits for the disk, so does the answer: a crash between the two would have the person asked again."""
    held, paying = Held("seen"), pay()
    slow = ScriptedTool("look", [held, "seen"], effect="read", resource="box")

    class Watched(Slow):
        order: ClassVar[list[str]] = []

        def append(self, batches):
            found = super().append(batches)
            self.order += ["asked" for batch in batches for line in batch.lines if b"ApprovalAsked" in line]
            return found

        async def add_decisions(self, run_id, records):
            self.order.append("decided")
            return await super().add_decisions(run_id, records)

    async def main():
        store = Watched()
        async with Rig([paying, slow], store) as rig:
            await rig.submit(PAYS, "r")
            store.gate.clear()
            started = asyncio.ensure_future(rig.execution.resume("r"))
            await asyncio.to_thread(store.waiting.wait)
            await held.called.wait()
            assert (await rig.execution.archive.get("r")).steps["paid"].status == "waiting"
            deciding = asyncio.create_task(rig.decisions.approve("r", "paid", by="ann"))
            await asyncio.wait([deciding], timeout=0.1)
            store.gate.set()
            await deciding
            held.release()
            await started
            assert (await rig.execution.wait("r")).status == "succeeded"
            assert store.order == ["asked", "decided"]

    asyncio.run(main())


def test_whoever_repeats_their_own_decision_is_given_the_run(place):
    """Before and after it is taken in, and after the run has ended; in any part another decision, it is refused."""
    paying = pay()

    async def main():
        async with Rig([paying, look()], place) as rig:
            await rig.run(PAYS, "r")

            async def decide(**changed):
                said = {"by": "ann", "edit": {"amount": 5}, **changed}
                return await rig.decisions.approve("r", "paid", **said)

            for moment in ("first", "again", "resumed"):
                assert (await decide()).id == "r"
                assert (await decide(attempt=1)).id == "r"
                for other in (
                    {"by": "bob"},
                    {"edit": None},
                    {"edit": {"amount": 6}},
                    {"edit": {"amuont": 5}},
                ):
                    with pytest.raises(
                        InputRejected, match="approved with other arguments by ann at"
                    ) as caught:
                        await decide(**other)
                    assert caught.value.code == "decided"
                if moment == "again":
                    assert (await rig.resume("r")).output == {"paid": 5}
            assert paying.calls == [{"amount": 5}]
            assert [line for line in await rig.event_types("r") if line.startswith("Approved")] == [
                "Approved paid"
            ]

    asyncio.run(main())


@tool(effect="write", approval="always", name="pay", resource="bank", version=1)
def typed_pay(amount: int) -> dict[str, int]:
    """Pay."""
    return {"paid": amount}


@tool(effect="write", name="send", resource="mail", version=1)
def typed_send(to: str) -> int:
    """Send."""
    raise OutcomeUnknown("lost")


def test_a_decision_that_does_not_fit_repeats_none():
    """Whoever says it is told that another one stands."""

    async def main():
        async with Rig([typed_pay, look()]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.approve("r", "paid", by="ann", edit={"amount": 5})
            with pytest.raises(InputRejected, match="is decided already"):
                await rig.decisions.approve("r", "paid", by="ann", edit={"amount": "5"})
            assert (await rig.decisions.approve("r", "paid", by="ann", edit={"amount": 5})).id == "r"

    asyncio.run(main())


@pytest.mark.parametrize("is_here", [True, False], ids=["tool here", "tool elsewhere"])
def test_what_a_person_gives_fits_the_tool_wherever_that_is(tmp_path, monkeypatch, is_here):
    """An engine that has not the tool holds it against what the run's header says of the tool; the limit of size holds too."""
    store = str(tmp_path / "s.db")

    async def main():
        async with Rig([typed_pay, typed_send, look()], store) as rig:
            await rig.run(PAYS, "p")
            await rig.run(CALLS_ONCE, "s")
            assert (await rig.execution.archive.get("s")).status == "indeterminate"
        async with Rig([typed_pay, typed_send] if is_here else [], store) as rig:
            for edit, told in (({"amount": "much"}, "amount"), ({"amuont": 1}, "amuont")):
                with pytest.raises(
                    InputRejected, match=f"the edited arguments of step 'paid' do not fit.*{told}"
                ):
                    await rig.decisions.approve("p", "paid", by="ann", edit=edit)
            with pytest.raises(InputRejected, match=r"done: the value is no result of step 'w'.*integer"):
                await rig.decisions.resolve_done("s", "w", "text")
            with monkeypatch.context() as small:
                small.setattr(limits, "VALUE_BYTES_MAX", 12)
                with pytest.raises(
                    InputRejected, match="the edited arguments of step 'paid': expected at most"
                ):
                    await rig.decisions.approve("p", "paid", by="ann", edit={"amount": 12345678901234})
                with pytest.raises(InputRejected, match="done: the value of step 'w': expected at most"):
                    await rig.decisions.resolve_done("s", "w", 12345678901234)
            assert await rig.store.list_decisions("p") == await rig.store.list_decisions("s") == []
            await rig.decisions.approve("p", "paid", by="ann", edit={"amount": 5})
            await rig.decisions.resolve_done("s", "w", 3.0)
        async with Rig([typed_pay, typed_send, look()], store) as rig:
            assert (await rig.resume("p")).output == {"paid": 5}
            output = (await rig.resume("s")).output
            assert (output, type(output)) == (3, int)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("verdict", "word"), [("done", "resolved as done"), ("failed", "resolved as failed")]
)
def test_who_found_an_outcome_out_is_recorded(verdict, word):
    """And that nobody was named, where nobody was."""

    async def main():
        for by in ("bob", ""):
            async with Rig([sender(OutcomeUnknown("?"))]) as rig:
                await rig.run(CALLS_ONCE, "r")
                decide = {"done": rig.decisions.resolve_done, "failed": rig.decisions.resolve_failed}[verdict]
                await decide("r", "w", "so it is", by=by)
                decision = (await rig.resume("r")).steps["w"].decision
                assert (decision["decision"], decision.get("by", "")) == (word, by)

    asyncio.run(main())


class Raced(SqliteStore):
    """A store in which others decide right before a decision is left."""

    def __init__(self):
        super().__init__(":memory:")
        self.others = []

    async def add_decisions(self, run_id, records):
        others, self.others = self.others, []
        for event in others:
            assert not await super().add_decisions(run_id, {key_of(event, 0): left(event)})
        return await super().add_decisions(run_id, records)


TWO = plan_of(
    {"id": "p", "tool": "pay", "for_each": "${[1, 2]}", "args": {"amount": "${item}"}}, output="${p}"
)


@pytest.mark.parametrize(
    ("event", "is_same"),
    [
        (Approved("p[0]", "ann", CanonicalValue.of({"amount": 1}).digest, None, 1), True),
        (Approved("p[0]", "bob", CanonicalValue.of({"amount": 1}).digest, None, 1), False),
        (Denied("p[0]", "ann", "no", 1), False),
    ],
    ids=["the same", "of another", "a denial"],
)
def test_of_two_decisions_at_one_moment_the_first_in_the_store_stands(event, is_same):
    """Of the same words nobody is told; of others the second one is refused, with all that was to be decided beside it."""
    paying = pay()

    async def main():
        store = Raced()
        async with Rig([paying], store) as rig:
            await rig.run(TWO, "r")
            store.others = [event]
            deciding = rig.decisions.decide("r", {"p": "approve"}, by="ann")
            if is_same:
                await deciding
            else:
                with pytest.raises(InputRejected, match=r"'p\[0\]'.*is decided already") as caught:
                    await deciding
                assert caught.value.code == "decided"
            run = await rig.resume("r")
            denied = isinstance(event, Denied)
            assert paying.calls == ([] if denied else [{"amount": 1}] + [{"amount": 2}] * is_same)
            assert run.status == ("succeeded" if is_same else "failed" if denied else "waiting")

    asyncio.run(main())


def test_an_approval_of_an_attempt_does_not_stand_for_its_outcome():
    """The call that a person allowed gets lost: what became of it is another question about the same attempt."""
    paying = ScriptedTool("pay", [OutcomeUnknown("?"), {"paid": 12}], effect="write", approval="always")

    async def main():
        async with Rig([paying, look()]) as rig:
            run = await rig.run(PAYS, "r")
            assert run.steps["paid"].attempt == 1
            await rig.decisions.approve("r", "paid", by="ann", attempt=1)
            run = await rig.resume("r")
            assert (run.status, run.steps["paid"].attempt) == ("indeterminate", 1)
            await rig.decisions.resolve_retry("r", "paid", by="bob", attempt=1)
            run = await rig.resume("r")
            assert (run.status, run.steps["paid"].attempt) == ("succeeded", None)
            assert run.steps["paid"].decision == {"decision": "resolved to be called again", "by": "bob"}

    asyncio.run(main())


def test_an_attempt_that_nobody_decides_about_is_named():
    """A number that is none, one that does not wait, and one of a step that does not wait at all."""

    async def main():
        async with Rig([pay(), look()]) as rig:
            await rig.run(PAYS, "r")
            with pytest.raises(
                InputRejected, match=r"expected attempt 1 of step 'paid', which waits now, found attempt 2"
            ):
                await rig.decisions.approve("r", "paid", by="ann", attempt=2)
            with pytest.raises(InputRejected, match="expected a step that waits for approval, found 'due'"):
                await rig.decisions.approve("r", "due", by="ann", attempt=1)

    asyncio.run(main())
