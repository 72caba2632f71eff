"""Labels go through the world: what a plan stores with leave is still labelled when a later step reads it back."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Model, Policy, check
from firmplan.executor.calls.flow import flow_policy
from firmplan.plans.checker.flow.sources import Sources
from firmplan.testing import ScriptedModel
from firmplan.tools import Models, tool
from rig import Rig, plan_of, statuses

PAGE = {"id": "page", "tool": "browse"}
SAVE = {"id": "save", "tool": "save_note", "args": {"text": "${page}"}}
NOTE = {"id": "note", "tool": "read_note"}  # only the order of effects says that it comes after the write
SEND = {"id": "mail", "tool": "send", "args": {"to": "${note}"}}
LAUNDERS = plan_of(PAGE, SAVE, NOTE, SEND, output="${mail}")


class World:
    """A notebook, a page that others write, and all mails that went out."""

    def __init__(self, *, page="evil@example.org", notes="notes", reading="notes", private=(), **sending):
        self.note, self.sent = "me@example.org", []

        @tool(effect="read", trust="untrusted", resource="web")
        def browse() -> str:
            """Read a page."""
            return page

        @tool(effect="read", resource="contacts", private=bool(private), readers=private)
        def contact() -> str:
            """Look up a contact."""
            return "ann@example.org"

        @tool(effect="write", resource=notes, allow_untrusted=("text",))
        def save_note(text: str) -> str:
            """Write the note anew, and return it."""
            self.note = text
            return "saved"

        @tool(effect="write", resource=notes, allow_untrusted=("text",))
        def append(text: str) -> str:
            """Add a text to the note, and return all of it."""
            self.note += text
            return self.note

        @tool(effect="read", resource=reading)
        def read_note() -> str:
            """Read the note."""
            return self.note

        @tool(effect="read", resource=reading)
        def list_notes() -> list[str]:
            """List the notes."""
            return [self.note]

        @tool(effect="write", resource="mail", **sending)
        def send(to: str) -> str:
            """Send a mail."""
            self.sent.append(to)
            return "sent"

        self.tools = [browse, contact, save_note, append, read_note, list_notes, send]


def problems(plan, world=None, code="unsafe-flow"):
    """Return the messages of the problems with a code that the check finds."""
    report = check(plan, (world or World()).tools)
    return [found.message for found in report.problems if found.code == code]


def run_unchecked(plan, world, **options):
    """Run a plan past the check."""

    async def main():
        async with Rig(world.tools, **options) as rig:
            run = await rig.run(plan, "r")
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            return run

    return asyncio.run(main())


def test_a_note_that_was_made_of_a_page_is_no_trusted_value():
    world = World()
    assert problems(LAUNDERS) == [
        "untrusted data reaches 'to' of the write 'mail': page -> save -> note -> mail.to"
    ]
    run = run_unchecked(LAUNDERS, world)
    assert [(error.step, error.code) for error in run.errors] == [("mail", "unsafe-flow")]
    assert "page -> save -> note -> mail.to" in run.errors[0].message
    assert (world.note, world.sent) == ("evil@example.org", [])


def test_it_is_no_known_value_either():
    """The rule about known values compares with trusted results; a laundered one is none."""
    world = World(approval="untrusted")
    assert run_unchecked(LAUNDERS, world).status == "waiting"
    assert world.sent == []
    # The same value from a trusted tool is known.
    clean = World(page="me@example.org", approval="untrusted")
    before = [PAGE, {"id": "note", "tool": "read_note"}, {**SAVE, "after": ["note"]}]
    run = run_unchecked(plan_of(*before, {**SEND, "args": {"to": "${page}"}, "after": ["note"]}), clean)
    assert (run.status, clean.sent) == ("succeeded", ["me@example.org"])


def test_a_list_read_back_is_no_list_of_options():
    listed = {"id": "notes", "tool": "list_notes"}
    chosen = {"id": "mail", "tool": "send", "args": {"to": "${notes[0]}"}}
    assert problems(plan_of(PAGE, SAVE, listed, chosen))
    assert not problems(plan_of(PAGE, listed, {**SAVE, "after": ["notes"]}, chosen))


CLEAN = {
    "the note was read before": [PAGE, NOTE, SAVE, SEND],
    "the note was read before in the plan's list": [NOTE, PAGE, SAVE, SEND],
    "what was saved is clean": [PAGE, {**SAVE, "args": {"text": "hello"}}, NOTE, SEND],
    "another resource is read": [PAGE, SAVE, {"id": "note", "tool": "contact"}, SEND],
}
LABELLED = {
    "the write returns the resource": [
        PAGE,
        SAVE,
        {"id": "note", "tool": "append", "args": {"text": "!"}},
        SEND,
    ],
    "a page decided whether the write was made": [
        PAGE,
        {**SAVE, "args": {"text": "hello"}, "when": "${page == 'x'}"},
        NOTE,
        SEND,
    ],
    "an agent saved it": [
        {
            "id": "save",
            "agent": {
                "goal": "Do",
                "tools": ["browse", "save_note"],
                "returns": {"type": "string"},
                "max_steps": 2,
            },
        },
        NOTE,
        SEND,
    ],
}


@pytest.mark.parametrize("steps", CLEAN.values(), ids=CLEAN)
def test_a_label_goes_no_further_than_the_data(steps):
    world = World()
    assert problems(plan_of(*steps), world) == []
    assert run_unchecked(plan_of(*steps), world).status == "succeeded"
    assert len(world.sent) == 1


@pytest.mark.parametrize("steps", LABELLED.values(), ids=LABELLED)
def test_all_ways_to_a_resource_count(steps):
    found = [message for message in problems(plan_of(*steps)) if "'mail'" in message]
    assert len(found) == 1
    assert found[0].endswith("note -> mail.to")


@pytest.mark.parametrize(("notes", "reading"), [("world", "notes"), ("notes", "world"), ("world", "world")])
def test_a_resource_that_is_not_named_conflicts_with_every_other(notes, reading):
    world = World(notes=notes, reading=reading)
    assert problems(LAUNDERS, world)
    assert run_unchecked(LAUNDERS, world).errors[0].code == "unsafe-flow"


def test_a_write_that_touches_everything_may_copy():
    """`copy` declares no resource, so it may have put the note into the contacts."""
    world = World()

    @tool(effect="write")
    def copy() -> str:
        """Copy something."""
        return "copied"

    steps = [PAGE, SAVE, {"id": "copied", "tool": "copy"}, {"id": "note", "tool": "contact"}, SEND]
    world.tools.append(copy)
    assert problems(plan_of(*steps), world)
    assert not problems(plan_of(PAGE, *steps[2:]), world)


@pytest.mark.parametrize("resource", ["notes", "world"])
def test_a_write_of_an_untrusted_tool_leaves_what_it_likes_in_its_resource(resource):
    """If it names none, nothing says that a trusted tool reads there."""
    world = World()

    @tool(effect="write", trust="untrusted", resource=resource)
    def download() -> int:
        """Download something."""
        return 1

    world.tools.append(download)
    steps = [{"id": "got", "tool": "download"}, NOTE, SEND]
    assert bool(problems(plan_of(*steps), world)) == (resource == "notes")


def test_what_decides_about_a_whole_plan_decides_nothing_about_what_its_steps_find():
    """If the plan runs, its note is there, whatever the page says; outside it tells of the page."""
    inner = {"steps": [{**SAVE, "args": {"text": "hello"}}, NOTE, SEND], "output": "${note}"}
    step = {"id": "post", "plan": "post", "when": "${page == 'x'}"}
    assert not problems(plan_of(PAGE, step, plans={"post": inner}))
    outside = [
        {"id": "later", "tool": "read_note"},
        {"id": "mail", "tool": "send", "args": {"to": "${later}"}},
    ]
    assert problems(plan_of(PAGE, step, *outside, plans={"post": inner}))


INNER = {
    "save": {"inputs": {"text": {"type": "string"}}, "steps": [{**SAVE, "args": {"text": "${inputs.text}"}}]},
    "read": {"steps": [{"id": "note", "tool": "read_note"}], "output": "${note}"},
    "post": {"steps": [{"id": "note", "tool": "read_note"}, SEND]},
    "both": {
        "inputs": {"text": {"type": "string"}},
        "steps": [
            {"id": "note", "tool": "read_note"},
            SEND,
            {"id": "save", "tool": "save_note", "args": {"text": "${inputs.text}"}, "after": ["mail"]},
        ],
    },
}


def nested(*steps):
    return plan_of(*steps, plans=INNER)


def test_inner_plans_begin_with_the_world_as_it_is():
    """The plan that runs before the write is clean, the same plan after it is not."""
    plan = nested(
        {"id": "first", "plan": "post"},
        {**PAGE, "after": ["first"]},
        {"id": "dirty", "plan": "save", "args": {"text": "${page}"}},
        {"id": "second", "plan": "post", "after": ["dirty"]},
    )
    assert problems(plan) == [
        "untrusted data reaches 'to' of the write 'mail': page -> dirty -> second -> mail.to"
    ]
    world = World()
    run = run_unchecked(plan, world)
    assert [(error.step, error.code) for error in run.errors] == [("second/mail", "unsafe-flow")]
    assert run.errors[0].message.count("page -> dirty/save -> second/note -> second/mail.to") == 1
    assert world.sent == ["me@example.org"]


def test_a_value_that_an_inner_plan_read_back_is_labelled_outside():
    steps = [PAGE, SAVE, {"id": "note", "plan": "read"}, SEND]
    assert problems(nested(*steps))
    assert not problems(nested(PAGE, {"id": "note", "plan": "read"}, {**SAVE, "after": ["note"]}, SEND))


@pytest.mark.parametrize("more", [{"for_each": [1, 2]}, {"repeat": {"until": "${False}", "max": 2}}])
def test_a_plan_that_runs_again_reads_what_it_has_saved_itself(more):
    step = {"id": "each", "plan": "both", "args": {"text": "${page}"}}
    assert problems(nested(PAGE, {**step, **more}))
    assert not problems(nested(PAGE, step))
    world = World()
    run = run_unchecked(nested(PAGE, {**step, **more}), world)
    assert world.sent in ([], ["me@example.org"])  # all items of a step have one label
    assert "unsafe-flow" in {error.code for error in run.errors}


def tells_by_its_rounds(more):
    """Return a plan that adds a line to the note in each of two rounds, and its tools; an odd page makes the first round fail, and so be the last."""
    world = World(page="odd")

    @tool(effect="write", resource="diary", allow_untrusted=("text",))
    def enter(text: str) -> str:
        """Write the diary."""
        return text

    @tool(effect="read", resource="diary")
    def diary() -> str:
        """Read the diary, which fails if the page is odd."""
        raise ValueError

    world.tools += [enter, diary]
    inner = {
        "steps": [
            {"id": "day", "tool": "diary"},
            {"id": "more", "tool": "append", "args": {"text": "x"}},
        ]
    }
    entered = {"id": "entered", "tool": "enter", "args": {"text": "${page}"}}
    return plan_of(
        PAGE, entered, {"id": "each", "plan": "inner", **more}, NOTE, SEND, plans={"inner": inner}
    ), world


@pytest.mark.parametrize("on_error", ["skip", {"value": None}])
def test_how_often_a_failing_plan_ran_is_in_what_it_has_saved(on_error):
    twice = {"repeat": {"until": "${False}", "max": 2}, "on_error": on_error}
    plan, world = tells_by_its_rounds(twice)
    assert problems(plan, world) == [
        "untrusted data reaches 'to' of the write 'mail': page -> entered -> each -> note -> mail.to"
    ]
    sources = Sources(plan, world.tools)
    mail = plan.steps.index(next(step for step in plan.steps if step.id == "mail"))
    assert [found.name for found in sources.of_argument((mail,), "to").sources] == ["page"]
    each = mail - 2
    assert [found.name for found in sources.of_control((each, 1)).sources] == ["page"]
    once, world = tells_by_its_rounds({"on_error": on_error})  # the failure stops no other step of its round
    assert not problems(once, world)


def test_a_run_that_began_before_rounds_counted_keeps_its_labels():
    plan, world = tells_by_its_rounds({"repeat": {"until": "${False}", "max": 2}, "on_error": "skip"})

    async def main(rules):
        async with Rig(world.tools) as rig:
            run = await rig.run(plan, "r", rules=rules)
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            return run

    assert asyncio.run(main(6)).status == "succeeded"
    assert [error.code for error in asyncio.run(main(7)).errors] == ["unsafe-flow"]


def test_labels_go_from_one_resource_to_another_over_the_rounds_of_a_loop():
    """Round 1 saves the page, round 2 copies the note into the diary, round 3 reads the diary."""
    world = World()

    @tool(effect="write", resource="diary", allow_untrusted=("text",))
    def enter(text: str) -> str:
        """Write the diary."""
        return text

    @tool(effect="read", resource="diary")
    def diary() -> str:
        """Read the diary."""
        return "me@example.org"

    world.tools += [enter, diary]
    inner = {
        "inputs": {"text": {"type": "string"}},
        "steps": [
            {"id": "day", "tool": "diary"},
            {"id": "mail", "tool": "send", "args": {"to": "${day}"}},
            {"id": "note", "tool": "read_note"},
            {"id": "copied", "tool": "enter", "args": {"text": "${note}"}, "after": ["day"]},
            {"id": "save", "tool": "save_note", "args": {"text": "${inputs.text}"}, "after": ["note"]},
        ],
    }
    step = {"id": "each", "plan": "inner", "args": {"text": "${page}"}}
    assert not problems(plan_of(PAGE, step, plans={"inner": inner}), world)
    assert problems(plan_of(PAGE, {**step, "for_each": [1, 2, 3]}, plans={"inner": inner}), world)


def test_an_agent_reads_the_world_too():
    """Its goal and its tools are clean; what it reads is not, and so is nothing that it sends."""
    world = World()
    agent = {"goal": "Tell me", "tools": ["read_note", "send"], "returns": {"type": "string"}, "max_steps": 3}
    plan = plan_of(PAGE, SAVE, {"id": "job", "agent": agent, "after": ["save"]}, output="${job}")
    assert len(problems(plan)) == 1
    assert not problems(plan_of({"id": "job", "agent": agent}))

    async def main():
        replies = iter(
            [
                {"reasoning": "r", "call": {"tool": "read_note", "args": {}}},
                {"reasoning": "r", "call": {"tool": "send", "args": {"to": "evil@example.org"}}},
                {"reasoning": "r", "answer": "done"},
            ]
        )
        async with ScriptedModel(lambda request: next(replies)) as endpoint:
            model = Model("scripted", base_url=endpoint.base_url, api_key="none")
            async with Rig(world.tools, models=Models({"default": model})) as rig:
                run = await rig.run(plan, "r")
                assert (run.output, statuses(run)["job/act1"]) == ("done", "failed")

    asyncio.run(main())
    assert world.sent == []


def test_private_data_stays_private():
    """`save_note` may have a contact, and whoever reads the note back may not send it to others."""
    steps = [
        {"id": "who", "tool": "contact"},
        {"id": "save", "tool": "save_note", "args": {"text": "${who}"}},
        NOTE,
        SEND,
    ]
    world = World(private=("save_note",))
    found = problems(plan_of(*steps), world, "private-flow")
    assert found == [
        "private data reaches the tool 'send', which is none of its readers: who -> save -> note -> mail.to"
    ]
    assert run_unchecked(plan_of(*steps), world).errors[0].code == "private-flow"
    assert world.sent == []
    assert not problems(plan_of(*steps), World(private=("save_note", "send")), "private-flow")
    # A person may endorse the value as trusted; that makes nobody a reader of it, in an inner plan neither.
    endorsed = {"id": "fine", "endorse": "${note}", "returns": {"type": "string"}, "by": "person"}
    inner = {"steps": [{"id": "note", "tool": "read_note"}, endorsed, {**SEND, "args": {"to": "${fine}"}}]}
    last = {"id": "post", "plan": "post", "after": ["save"]}
    assert problems(plan_of(*steps[:2], last, plans={"post": inner}), world, "private-flow")


def test_an_endorsed_value_is_clean_wherever_it_is_stored():
    endorsed = {"id": "fine", "endorse": "${page}", "returns": {"type": "string"}, "by": "person"}
    assert not problems(plan_of(PAGE, endorsed, {**SAVE, "args": {"text": "${fine}"}}, NOTE, SEND))


def test_the_output_names_the_page():
    plan = plan_of(PAGE, SAVE, NOTE, output={"note": "${note}", "saved": "fixed"})
    assert Sources(plan, World().tools).of_output() == {"$.note": ("browse",)}
    run = run_unchecked(plan, World())
    assert dict(run.output_labels) == {"$.note": ("browse",)}


def test_a_policy_and_a_person_are_told_the_page():
    """Who decides about a value that was read back sees from where it came."""
    seen = []

    def rule(value, labels):
        seen.append((value, labels.sources))

    world = World(approval="untrusted")
    with Engine(world.tools, store=":memory:", policies=[Policy("look", "send", "to", rule)]) as engine:
        run = engine.run_sync(LAUNDERS)
        assert run.status == "waiting"
        shown = engine.waiting_sync(run.id).calls[0].args[0]
        assert [(origin.source, origin.via) for origin in shown.origins] == [
            ("page", ("page", "save", "note"))
        ]
    assert seen[0] == ("evil@example.org", ("browse",))


def test_a_run_of_older_rules_replays_as_it_was_and_goes_on_by_the_stricter_rule(monkeypatch):
    """By rules of version 4 a resource had no label: the journal of such a run holds no question about it."""
    before, after = World(approval="untrusted"), World(approval="untrusted")

    async def main():
        async with Rig([*before.tools]) as rig:
            with monkeypatch.context() as patch:
                patch.setattr(flow_policy, "WORLD_COUNTS_SINCE", 4)  # as it was decided then
                run = await rig.run(LAUNDERS, "old", rules=4)
            assert (run.status, before.sent) == ("succeeded", ["evil@example.org"])
            assert (await rig.execution.replays.replay("old", keep=False)).digest == run.digest
        async with Rig([*after.tools]) as rig:
            run = await rig.run(LAUNDERS, "r", rules=4)
            assert (run.status, after.sent) == ("waiting", [])
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest

    asyncio.run(main())
