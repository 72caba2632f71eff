"""Labels are looked at again right before a write: whatever way the plan came, and whatever became of its tools since."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest
from firmplan import Engine, Model, StoreError
from firmplan.executor import Header
from firmplan.testing import ScriptedModel
from firmplan.tools import Models, Toolset, tool
from rig import Rig, plan_of, statuses

MAILS = plan_of(
    {"id": "page", "tool": "browse"},
    {"id": "short", "set": "${page + '!'}"},
    {"id": "mail", "tool": "send", "args": {"to": "me", "body": "${short}"}},
    output="${mail}",
)
ASKS_FIRST = plan_of(
    {"id": "ready", "tool": "gate"},
    {"id": "page", "tool": "browse", "after": ["ready"]},
    {"id": "mail", "tool": "send", "args": {"to": "me", "body": "${page}"}},
    output="${mail}",
)


def browse(trust="untrusted"):
    @tool(effect="read", trust=trust, resource="web", name="browse")
    def browsing() -> str:
        """Read a page."""
        return "click here"

    return browsing


def gate():
    @tool(effect="pure", approval="always", name="gate")
    def gating() -> str:
        """Let a run wait for a person."""
        return "open"

    return gating


class Outbox:
    """A write, and all that went out."""

    def __init__(self, **options):
        self.sent = []

        @tool(effect="write", resource="mail", name="send", **options)
        def send(to: str, body: str) -> str:
            """Send a mail."""
            self.sent.append(body)
            return "sent"

        self.send = send


def refused(run, step, *words):
    """Assert that exactly this step was refused, with words that tell why."""
    assert [(error.step, error.code) for error in run.errors] == [(step, "unsafe-flow")]
    for word in words:
        assert word in run.errors[0].message


def test_a_plan_that_passed_no_check_is_refused_at_the_call():
    """Submitted past the check: the write is not called, and the message tells the argument and the whole way to it."""
    outbox = Outbox()

    async def main():
        async with Rig([browse(), outbox.send]) as rig:
            run = await rig.run(MAILS, "r")
            refused(run, "mail", "'body'", "page -> short -> mail.body", "allow_untrusted=('body',)")
            assert "CallStarted mail" not in await rig.event_types("r")
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())
    assert outbox.sent == []


@pytest.mark.parametrize(
    "options", [{"allow_untrusted": ("body",)}, {"approval": "untrusted"}, {"approval": "always"}]
)
def test_what_allows_untrusted_data_or_is_approved_goes_ahead(options):
    """An argument that may hold it, or a person's word, is enough; nobody is asked twice."""
    outbox = Outbox(**options)

    async def main():
        async with Rig([browse(), outbox.send]) as rig:
            run = await rig.run(MAILS, "r")
            if "approval" in options:
                assert (run.status, outbox.sent) == ("waiting", [])
                await rig.decisions.approve("r", "mail", by="ann", edit=None)
                run = await rig.resume("r")
            assert (run.status, outbox.sent) == ("succeeded", ["click here!"])

    asyncio.run(main())


def test_items_inner_plans_and_agents_are_looked_at_too():
    """The way leads through the plans that were run; of items only those with labelled arguments fail."""
    outbox = Outbox()
    inner = {
        "inputs": {"text": {"type": "string"}},
        "steps": [{"id": "mail", "tool": "send", "args": {"to": "me", "body": "${inputs.text}"}}],
    }
    nested = plan_of(
        {"id": "page", "tool": "browse"},
        {"id": "clean", "plan": "post", "args": {"text": "hello"}},
        {"id": "dirty", "plan": "post", "args": {"text": "${page}"}, "after": ["clean"]},
        {
            "id": "each",
            "tool": "send",
            "for_each": "${[page]}",
            "args": {"to": "me", "body": "${item}"},
            "on_error": "skip",
        },
        plans={"post": inner},
    )

    async def main():
        async with Rig([browse(), outbox.send]) as rig:
            run = await rig.run(nested, "r")
            assert run.errors[0].step == "dirty/mail"
            assert "page -> dirty -> dirty/mail.body" in run.errors[0].message
            assert statuses(run)["each"] == "skipped:blocked"

    asyncio.run(main())
    assert outbox.sent == ["hello"]


def test_an_agent_that_read_untrusted_data_may_not_write():
    """What an agent with an untrusted tool passes to a write is refused, and told to its model as a failed call."""
    outbox = Outbox()
    plan = plan_of(
        {
            "id": "job",
            "agent": {
                "goal": "Tell me",
                "tools": ["browse", "send"],
                "returns": {"type": "string"},
                "max_steps": 4,
            },
        },
        output="${job}",
    )
    says = [
        {"reasoning": "r", "call": {"tool": "browse", "args": {}}},
        {"reasoning": "r", "call": {"tool": "send", "args": {"to": "eve", "body": "all"}}},
        {"reasoning": "r", "answer": "done"},
    ]

    async def main():
        async with ScriptedModel([json.dumps(each) for each in says]) as model:
            models = Models({"default": Model("m", base_url=model.base_url, api_key="k")})
            async with Rig([browse(), outbox.send], models=models) as rig:
                run = await rig.run(plan, "r")
                assert (run.status, run.steps["job/act1"].status) == ("succeeded", "failed")
                assert run.steps["job/act1"].error.code == "unsafe-flow"
                assert "unsafe-flow" in str(model.requests[-1])

    asyncio.run(main())
    assert outbox.sent == []


def test_a_fork_and_an_edited_store_do_not_get_past(tmp_path):
    """A plan that was edited behind the check, in a fork or in the store itself, is refused at the call."""
    outbox, place = Outbox(), str(tmp_path / "s.db")
    tools = [browse(), outbox.send, gate()]
    safe = plan_of(
        {"id": "ready", "tool": "gate"},
        {"id": "page", "tool": "browse"},
        {"id": "mail", "tool": "send", "args": {"to": "me", "body": "hi"}, "after": ["ready"]},
    )
    unsafe = plan_of(
        {"id": "ready", "tool": "gate"},
        {"id": "page", "tool": "browse"},
        {"id": "mail", "tool": "send", "args": {"to": "me", "body": "${page}"}, "after": ["ready"]},
    )

    async def main():
        async with Rig(tools, place) as rig:
            await rig.run(safe, "r")
            row = await rig.execution.archive.row("r")
            header = Header.from_dict({**row.header, "plan": unsafe.to_dict()})
            forked = await rig.execution.submissions.fork(
                "r", at=None, overrides={}, holds="none", header=header
            )
            await rig.execution.resume(forked)
            await rig.execution.wait(forked)
            await rig.decisions.approve(forked, "ready", by="ann", edit=None)
            refused(await rig.resume(forked), "mail", "page -> mail.body")
            await rig.submit(safe, "not begun")
        with sqlite3.connect(place) as store:
            for run_id, data in store.execute("SELECT run_id, header FROM headers").fetchall():
                edited = json.loads(data) | {"plan": unsafe.to_dict()}
                for locked in edited["lock"]:
                    locked.update(trust="trusted", allow_untrusted=["body"])
                change = (json.dumps(edited).encode(), run_id)
                store.execute("UPDATE headers SET header = ? WHERE run_id = ?", change)
        store.close()
        async with Rig(tools, place) as rig:
            with pytest.raises(StoreError, match="header of run r is not the one"):
                await rig.resume("r")
            assert (await rig.resume("not begun")).status == "waiting"
            await rig.decisions.approve("not begun", "ready", by="ann", edit=None)
            refused(await rig.resume("not begun"), "mail", "page -> mail.body")

    asyncio.run(main())
    assert outbox.sent == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (({"trust": "trusted"}, {}), ({"trust": "untrusted"}, {})),
        (({"trust": "untrusted"}, {"allow_untrusted": ("body",)}), ({"trust": "untrusted"}, {})),
        (({"trust": "untrusted"}, {}), ({"trust": "trusted"}, {"allow_untrusted": ("body",)})),
    ],
    ids=["trust was taken away", "leave was taken away", "the lock is stricter"],
)
def test_of_tools_that_changed_the_stricter_counts(tmp_path, before, after):
    """Submitted under one declaration and resumed under another: both must allow the call."""
    outbox = Outbox(**before[1])
    later = Outbox(**after[1])

    async def main():
        async with Rig([browse(**before[0]), outbox.send, gate()], str(tmp_path / "s.db")) as rig:
            assert (await rig.run(ASKS_FIRST, "r")).status == "waiting"
            await rig.decisions.approve("r", "ready", by="ann", edit=None)
        async with Rig([browse(**after[0]), later.send, gate()], str(tmp_path / "s.db")) as rig:
            refused(await rig.resume("r"), "mail", "page -> mail.body")

    asyncio.run(main())
    assert outbox.sent == later.sent == []


def test_an_approval_that_came_since_is_asked_for(tmp_path):
    """A tool that asks for a person now does so in runs that were submitted before, also where nothing is untrusted."""
    outbox, later, ruled = (
        Outbox(),
        Outbox(approval="always"),
        Outbox(approval=lambda args: args["to"] != "me"),
    )

    async def main():
        place = str(tmp_path / "s.db")
        async with Rig([browse("trusted"), outbox.send, gate()], place) as rig:
            for run_id in ("r", "labelled", "ruled"):
                await rig.run(ASKS_FIRST, run_id)
                await rig.decisions.approve(run_id, "ready", by="ann", edit=None)
        async with Rig([browse("trusted"), later.send, gate()], place) as rig:
            assert statuses(await rig.resume("r"))["mail"] == "waiting:approval"
            await rig.decisions.approve("r", "mail", by="ann", edit=None)
            run = await rig.resume("r")
            assert (run.status, later.sent) == ("succeeded", ["click here"])
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
        async with Rig([browse("untrusted"), ruled.send, gate()], place) as rig:
            assert statuses(await rig.resume("labelled"))["mail"] == "waiting:approval"
        async with Rig([browse("trusted"), ruled.send, gate()], place) as rig:
            assert (await rig.resume("ruled")).status == "succeeded"
            assert ruled.sent == ["click here"]

    asyncio.run(main())
    assert outbox.sent == []


def test_the_engine_says_what_an_unsafe_flow_means(tmp_path, capsys, monkeypatch):
    """`warn` calls and tells the log, `off` calls; the engine that goes on with a run decides, whoever submitted it."""
    outbox = Outbox()
    tools = Toolset([browse(), outbox.send, gate()])
    monkeypatch.setenv("FIRMPLAN_LOG", "json")

    async def main():
        async with Engine(tools, store=tmp_path / "s.db", flow="warn") as engine:
            assert (await engine.run(MAILS)).status == "succeeded"
            waiting = await engine.run(ASKS_FIRST, run_id="later")
            await engine.approve(waiting.id, "ready", by="ann")
        assert "unsafe flow" in capsys.readouterr().err
        async with Engine(tools, store=tmp_path / "s.db", flow="off") as engine:
            assert (await engine.run(MAILS, run_id="quiet")).status == "succeeded"
        assert "unsafe flow" not in capsys.readouterr().err
        async with Engine(tools, store=tmp_path / "s.db") as engine:
            refused(await engine.resume("later"), "mail", "page -> mail.body")

    asyncio.run(main())
    assert outbox.sent == ["click here!"] * 2
