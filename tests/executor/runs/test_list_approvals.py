"""Writes of a `for_each` that need an approval: asked about as one list, decided one by one or at once, called in order."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from itertools import permutations
from pathlib import Path

import pytest
from firmplan import Engine
from firmplan.errors import InputRejected, OutcomeUnknown, ToolError
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import Approved
from firmplan.executor.journal.header import Header
from firmplan.executor.journal.records import write_line
from firmplan.executor.machine import RULES_VERSION
from firmplan.testing import ScriptedTool
from firmplan.tools import tool
from rig import Rig, plan_of, statuses

VECTORS = Path(__file__).parents[2] / "vectors" / "lists"
PAYS = plan_of(
    {"id": "pay", "tool": "pay", "for_each": "${inputs.amounts}", "args": {"amount": "${item * 2}"}},
    {"id": "told", "set": "${sum(pay)}"},
    inputs={"amounts": {"type": "array", "items": {"type": "integer"}, "default": [1, 2, 3]}},
    output="${told}",
)


@tool(effect="write", approval="always", name="pay")
def typed_pay(amount: int) -> int:
    """Pay."""
    return amount


def pay(script=lambda amount: amount, **options):
    options = {"effect": "write", "approval": "always", "resource": "bank", **options}
    return ScriptedTool("pay", script, **options)


def left(event):
    """A decision as it lies in the store, before anybody takes it in."""
    return write_line(0, 1.0, event, inline_bytes_max=None)[0]


def digest_of(amount):
    return CanonicalValue.of({"amount": amount}).digest


def waits(run):
    """The calls that a person has to decide about: path -> arguments."""
    return {path: step.args for path, step in run.steps.items() if step.attempt is not None}


def test_all_items_are_asked_about_at_once():
    """With all their arguments, before anything is called; approved as one, they are called in order."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(PAYS, "r")
            assert (run.status, paying.calls) == ("waiting", [])
            assert waits(run) == {f"pay[{n}]": {"amount": 2 * n + 2} for n in range(3)}
            assert [line for line in await rig.event_types("r") if line.startswith("ApprovalAsked")] == [
                f"ApprovalAsked pay[{n}]" for n in range(3)
            ]
            run = await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
            assert paying.calls == []
            run = await rig.resume("r")
            assert (run.status, run.output) == ("succeeded", 12)
            assert paying.calls == [{"amount": amount} for amount in (2, 4, 6)]
            assert [run.steps[f"pay[{n}]"].decision["by"] for n in range(3)] == ["ann"] * 3
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("driven", [True, False], ids=["driven", "noted"])
def test_whatever_order_people_decide_in_calls_keep_theirs(order, driven):
    """An item that is approved ahead waits for those before it; so does its call for theirs to end."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            for place, number in enumerate(order):
                await rig.decisions.approve("r", f"pay[{number}]", by="ann", edit={"amount": number})
                if driven:
                    run = await rig.resume("r")
                    free = [n for n in range(3) if set(range(n + 1)) <= set(order[: place + 1])]
                    assert paying.calls == [{"amount": n} for n in free]
            run = await rig.resume("r")
            assert paying.calls == [{"amount": n} for n in range(3)]
            assert (run.status, run.output) == ("succeeded", 3)
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


@pytest.mark.parametrize("denied", range(3))
@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
def test_a_denied_item_blocks_those_behind_it_whenever_that_is_said(denied, order):
    """How each item ends depends on what was decided, not on when: those before it are called, those behind it are not."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            for number in order:
                step = f"pay[{number}]"
                if (await rig.execution.archive.get("r")).steps[step].attempt is None:
                    assert number > denied, "blocked already: nobody need decide"
                elif number == denied:
                    await rig.decisions.deny("r", step, by="bob", reason="no")
                else:
                    await rig.decisions.approve("r", step, by="ann")
                await rig.resume("r")
            run = await rig.resume("r")
            assert paying.calls == [{"amount": 2 * n + 2} for n in range(denied)]
            told = ["succeeded"] * denied + ["cancelled:denied"] + ["skipped:blocked"] * (2 - denied)
            assert [statuses(run)[f"pay[{n}]"] for n in range(3)] == told
            assert (run.status, [error.code for error in run.errors]) == ("failed", ["denied"])

    asyncio.run(main())


def test_a_list_is_decided_item_by_item_in_one_go():
    """Words and objects, an edit, a denial; the repetition of all of it is given the run."""
    paying = pay()
    said = {
        "pay[2]": "approve",
        "pay[0]": {"approve": True, "edit": {"amount": 7}, "attempt": 1},
        "pay[1]": {"deny": True, "reason": "twice"},
    }

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            for _ in range(2):
                await rig.decisions.decide("r", said, by="ann")
            run = await rig.resume("r")
            assert paying.calls == [{"amount": 7}]
            assert [statuses(run)[f"pay[{n}]"] for n in range(3)] == [
                "succeeded",
                "cancelled:denied",
                "skipped:blocked",
            ]
            await rig.decisions.decide("r", said, by="ann")
            with pytest.raises(InputRejected) as caught:
                await rig.decisions.decide("r", said, by="bob")
            assert caught.value.code == "decided"
            assert "3 of 3 entries are at fault" in caught.value.message

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"approve": True, "edit": {"amount": 7}}, "edit"),
        ({"approve": True, "attempt": 1}, "attempt"),
        ({"deny": True, "attempt": 1}, "attempt"),
    ],
    ids=str,
)
def test_what_is_said_of_one_call_is_not_said_of_a_list(said, field):
    """An edit of one call would be made in all of them."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            with pytest.raises(
                InputRejected, match=f"'{field}' applies to one call only; name the call: pay"
            ):
                await rig.decisions.decide("r", {"pay": said}, by="ann")
            assert await rig.store.list_decisions("r") == []

    asyncio.run(main())


def test_an_outcome_is_not_said_of_a_list():
    """Each call returned a value of its own; that all of them may be made again can be said at once."""
    sending = ScriptedTool("send", [OutcomeUnknown("?")] * 2 + ["a", "b"], effect="write")
    plan = plan_of(
        {"id": "s", "tool": "send", "for_each": "${[1, 2]}", "args": {"x": "${item}"}}, output="${s}"
    )

    async def main():
        async with Rig([sending]) as rig:
            run = await rig.run(plan, "r")
            if run.steps["s[0]"].status == "indeterminate":
                with pytest.raises(InputRejected, match="'done' applies to one call only; name the call: s"):
                    await rig.decisions.decide("r", {"s": {"done": 1}}, by="ann")
            while run.status == "indeterminate":
                assert (await rig.decisions.decide("r", {"s": "retry"}, by="ann")).id == "r"
                run = await rig.resume("r")
            assert (run.status, len(sending.calls)) == ("succeeded", 4)

    asyncio.run(main())


def test_a_denial_of_a_list_gives_every_call_its_reason():
    """And those of its calls about which somebody decided before keep that decision."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            await rig.store.add_decision("r", left(Approved("pay[0]", "bob", digest_of(2), None, 1)))
            await rig.decisions.decide("r", {"pay": {"deny": True, "reason": "late"}}, by="ann")
            run = await rig.resume("r")
            assert paying.calls == [{"amount": 2}]
            assert [statuses(run)[f"pay[{n}]"] for n in range(2)] == ["succeeded", "cancelled:denied"]
            assert [error.message for error in run.errors] == ["late"]

    asyncio.run(main())


def test_a_list_that_is_denied_is_denied_call_by_call():
    """From the last one on, so that each denial stands in the journal: a denial blocks those behind it, about which nothing could be said then."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.decide("r", {"pay[0]": "deny", "pay[2]": "deny", "pay[1]": "deny"}, by="ann")
            run = await rig.resume("r")
            assert paying.calls == []
            assert run.status == "failed"
            assert [line for line in await rig.event_types("r") if line.startswith("Denied")] == [
                f"Denied pay[{n}]" for n in (2, 1, 0)
            ]

    asyncio.run(main())


@pytest.mark.parametrize("other", ["pay[9]", "due"])
def test_several_decisions_are_recorded_together_or_not_at_all(other):
    """One that is at fault leaves the others unsaid, so that they can be said again in another way."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            before = await rig.event_types("r")
            with pytest.raises(InputRejected, match="nothing was decided, 1 of 2 entries is at fault"):
                await rig.decisions.decide("r", {"pay[0]": "approve", other: "approve"}, by="ann")
            assert await rig.store.list_decisions("r") == []
            assert await rig.event_types("r") == before
            await rig.decisions.decide("r", {"pay": "deny"}, by="bob")

    asyncio.run(main())


def test_a_step_whose_parts_wait_no_more_is_told_as_such():
    """It is there: the message does not say that it is not, and names what the run has instead."""

    async def main():
        async with Rig([typed_pay]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
            for step, found in (
                ("pay", "'pay', which has parts, none of which does"),
                ("no", "'no', which is not there"),
            ):
                with pytest.raises(InputRejected) as caught:
                    await rig.decisions.decide("r", {step: {"fail": "lost"}}, by="bob")
                assert found in str(caught.value)
                assert str(caught.value).endswith("; no step of the run is of unknown outcome")

    asyncio.run(main())


def test_a_list_is_decided_about_whole_or_not_at_all():
    """One message names each entry at fault, and what would fit is not recorded either."""

    async def main():
        async with Rig([typed_pay]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.approve("r", "pay[1]", by="bob")
            wrong = {
                "pay[0]": "approve",
                "pay[1]": "approve",
                "pay[2]": {"approve": True, "edit": {"amount": "much"}},
                "pay[3]": "approve",
                "told": "deny",
                "a": "perhaps",
                "b": {"approve": True, "deny": True},
                "c": {"done": 1, "reason": "x"},
                "d": {"retry": 1},
                "pay": {"approve": True, "attempt": 1},
            }
            with pytest.raises(InputRejected) as caught:
                await rig.decisions.decide("r", wrong, by="ann")
            told = caught.value.message
            assert caught.value.code == "input-rejected"
            assert told.startswith("nothing was decided, 9 of 10 entries are at fault: ")
            for step, words in {
                "pay[1]": "step 'pay[1]', attempt 1, is decided already: approved by bob",
                "pay[2]": "the edited arguments of step 'pay[2]' do not fit",
                "pay[3]": "expected a step that waits for approval, found 'pay[3]', which is not there",
                "told": "found 'told', which is",
                "a": 'expected "approve", "deny" or "retry"',
                "b": 'expected "approve", "deny" or "retry"',
                "c": "expected no other fields than done, attempt beside 'done', found 'reason'",
                "d": "retry: expected true, found ",
                "pay": "'attempt' applies to one call only; name the call: pay[0], pay[2]",
            }.items():
                assert f"'{step}': " in told
                assert words in told
            assert "'pay[0]'" not in told
            assert list(waits(await rig.execution.archive.get("r"))) == ["pay[0]", "pay[2]"]
            await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
            assert (await rig.resume("r")).output == 12

    asyncio.run(main())


def test_a_step_stands_for_its_waiting_parts_that_are_not_named():
    """Also through sub-plans and iterations; the nearest name counts."""
    inner = {
        "inputs": {"n": {"type": "integer"}},
        "steps": [
            {"id": "a", "tool": "pay", "args": {"amount": "${inputs.n}"}},
            {"id": "b", "tool": "pay", "for_each": [1, 2], "args": {"amount": "${item}"}, "repeat": {"until": "${True}", "max": 1}},
        ],
        "output": "${[a, b]}",
    }  # fmt: skip
    plan = plan_of(
        {"id": "both", "plan": "inner", "args": {"n": 5}}, plans={"inner": inner}, output="${both}"
    )
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(plan, "r")
            assert list(waits(run)) == ["both/a"]
            await rig.decisions.decide("r", {"both": "approve"}, by="ann")
            run = await rig.resume("r")
            assert list(waits(run)) == ["both/b[0]#0", "both/b[1]#0"]
            await rig.decisions.decide(
                "r", {"both": {"deny": True}, "both/b": "approve", "both/b[1]": {"deny": True}}, by="ann"
            )
            run = await rig.resume("r")
            assert paying.calls == [{"amount": 5}, {"amount": 1}]
            assert statuses(run)["both/b[1]"] == "cancelled:denied"

    asyncio.run(main())


def test_an_item_that_goes_wrong_blocks_what_was_approved_behind_it():
    """It is not called, and the decision is told all the same; `on_error` lets the others go on."""
    for on_error, calls in (("fail", 1), ("skip", 3)):
        paying = pay([ToolError("no"), 2, 3])
        plan = plan_of(
            {
                "id": "pay",
                "tool": "pay",
                "for_each": [1, 2, 3],
                "args": {"amount": "${item}"},
                "on_error": on_error,
            },
            output="${pay}",
        )

        async def main(plan=plan, paying=paying, calls=calls):
            async with Rig([paying]) as rig:
                await rig.run(plan, "r")
                await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
                run = await rig.resume("r")
                assert len(paying.calls) == calls
                assert run.output == ([2, 3] if calls == 3 else None)
                assert run.steps["pay[2]"].status == ("succeeded" if calls == 3 else "skipped")
                assert run.steps["pay[2]"].decision == {"decision": "approved", "by": "ann"}

        asyncio.run(main())


def test_an_unknown_outcome_holds_back_what_was_approved_behind_it():
    """The items behind it may be decided about meanwhile; none is called before it is known what became of the first."""
    paying = pay([OutcomeUnknown("?"), 2, 3])

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            await rig.decisions.decide("r", {"pay[0]": "approve", "pay[1]": "approve"}, by="ann")
            run = await rig.resume("r")
            assert (run.status, len(paying.calls)) == ("indeterminate", 1)
            assert [run.steps[f"pay[{n}]"].attempt for n in range(3)] == [1, None, 1]
            await rig.decisions.decide("r", {"pay[0]": {"done": 1}, "pay[2]": "approve"}, by="bob")
            run = await rig.resume("r")
            assert (run.output, len(paying.calls)) == (6, 3)

    asyncio.run(main())


def test_a_rule_is_asked_about_every_item_before_the_first_is_called():
    """Those that need nobody wait for their turn like the others."""
    asked = []

    def rule(args):
        asked.append(args["amount"])
        return args["amount"] != 4

    paying = pay(approval=rule)

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(PAYS, "r")
            assert (sorted(asked), paying.calls) == ([2, 4, 6], [])
            assert list(waits(run)) == ["pay[0]", "pay[2]"]
            assert run.steps["pay[1]"].status == "pending"
            await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
            run = await rig.resume("r")
            assert (run.output, sorted(asked)) == (12, [2, 4, 6])
            assert paying.calls == [{"amount": amount} for amount in (2, 4, 6)]

    asyncio.run(main())


def test_items_whose_arguments_cannot_be_computed_are_told_when_their_turn_comes():
    """The others are asked about; nobody is asked about a call that cannot be made."""
    paying = pay()
    plan = plan_of(
        {
            "id": "pay",
            "tool": "pay",
            "for_each": [4, 0, 2],
            "args": {"amount": "${8 // item}"},
            "on_error": "skip",
        },
        output="${pay}",
    )

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(plan, "r")
            assert list(waits(run)) == ["pay[0]", "pay[2]"]
            await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
            run = await rig.resume("r")
            assert (run.output, run.steps["pay[1]"].error.code) == ([2, 4], "division-by-zero")

    asyncio.run(main())


@pytest.mark.parametrize("decided", [(), (1,), (0, 2)])
def test_a_cancel_ends_every_item_that_was_not_called(decided):
    """Asked about or approved: nothing is called, nothing waits, and the journal replays."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            await rig.run(PAYS, "r")
            for number in decided:
                if number:
                    await rig.decisions.approve("r", f"pay[{number}]", by="ann")
            await rig.decisions.cancel("r")
            run = await rig.resume("r")
            assert (run.status, paying.calls, waits(run)) == ("cancelled", [], {})
            assert {run.steps[f"pay[{n}]"].status for n in range(3)} <= {"cancelled", "skipped"}
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())


def test_a_run_of_older_rules_is_asked_item_after_item():
    """Its header says nothing of rules; it goes on, and replays, as it began."""
    paying = pay()

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(PAYS, "r", rules=1)
            row = await rig.execution.archive.row("r")
            assert "rules" not in row.header
            assert Header.from_dict(row.header).rules == 1
            for number in range(3):
                assert list(waits(run)) == [f"pay[{number}]"]
                await rig.decisions.decide("r", {"pay": "approve"}, by="ann")
                run = await rig.resume("r")
            assert run.output == 12
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            assert (await rig.run(PAYS, "s")).status == "waiting"
            assert (await rig.execution.archive.row("s")).header["rules"] == RULES_VERSION

    asyncio.run(main())


def test_a_long_list_is_asked_and_decided_about_quickly():
    """Work grows with the list, not with its square: no item looks at all the others."""
    paying = pay()
    amounts = list(range(3_000))
    order = random.Random(7).sample(amounts, len(amounts))

    async def main():
        async with Rig([paying]) as rig:
            run = await rig.run(PAYS, "r", inputs={"amounts": amounts})
            assert len(waits(run)) == len(amounts)
            said = {f"pay[{n}]": "approve" for n in order}
            await rig.decisions.decide("r", said, by="ann")
            run = await rig.resume("r")
            assert run.output == 2 * sum(amounts)
            assert paying.calls == [{"amount": 2 * n} for n in amounts]

    asyncio.run(main())


def test_runs_that_were_asked_item_after_item_are_read_and_go_on(tmp_path):
    """As a store has them that was made before lists were asked about as one: `tests/vectors/lists`, kept for ever."""
    shutil.copy(VECTORS / "store.sqlite", tmp_path / "s.db")
    seen = json.loads((VECTORS / "seen.json").read_text(encoding="utf-8"))
    amount = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
    # The tool that the approval was asked for: another one stops the run.
    paying = pay(parameters=amount | {"additionalProperties": False}, returns={"type": "integer"})
    with Engine([paying], store=tmp_path / "s.db") as engine:
        for run_id, was in seen.items():
            run = engine.replay_sync(run_id)
            assert (run.status, run.digest) == (was["status"], was["digest"])
            assert {path: [step.status, step.reason] for path, step in run.steps.items()} == was["steps"]
        run = engine.get_sync("waiting")
        for number in (1, 2):
            assert list(waits(run)) == [f"pay[{number}]"]
            engine.approve_sync("waiting", f"pay[{number}]", by="bob", attempt=1)
            run = engine.resume_sync("waiting")
        assert (run.status, run.digest) == ("succeeded", seen["succeeded"]["digest"])
        assert paying.calls == [{"amount": 4}, {"amount": 6}]
        assert engine.replay_sync("waiting").digest == run.digest
