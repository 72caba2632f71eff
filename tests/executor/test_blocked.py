"""What a write of unknown outcome holds back is shown as blocked, and what only rests on it as failed with it; nothing else is."""

from __future__ import annotations

from firmplan import OutcomeUnknown, ToolError
from firmplan.tools import tool
from rig import one_run, plan_of


@tool(effect="write", version=1, resource="till")
async def pay(x: int) -> int:
    """Be cut off."""
    raise OutcomeUnknown("cut off")


@tool(effect="write", version=1, resource="till")
async def add(x: int) -> int:
    """Write to the same."""
    return x


@tool(effect="write", version=1, resource="mail")
async def send(x: int) -> int:
    """Write to something else."""
    return x


@tool(effect="write", version=1, resource="book")
async def note(x: int) -> int:
    """Write to a third."""
    return x


@tool(effect="write", version=1)
async def wipe(x: int) -> int:
    """Write to the world."""
    return x


@tool(effect="read", version=1, resource="till")
async def look(x: int) -> int:
    """Read what may have been written."""
    return x


def call(id_, name, value=1, **keys):
    return {"id": id_, "tool": name, "args": {"x": value}, **keys}


def test_later_writes_on_its_resource_are_blocked_and_nothing_else():
    """By resource, by the world, and by `after`; a reader of the blocked one rests on it; others have run."""
    plan = plan_of(
        call("p", "pay"),
        call("same", "add"),
        call("reader", "add", "${same}", after=[]),
        call("other", "send"),
        call("noted", "note"),
        call("later", "send", after=["p"]),
        call("all", "wipe", after=["sends"]),
        call("free", "look", after=["other"]),
        {"id": "uses", "set": "${p + 1}"},
        call("sends", "note", "${p}"),
        {"id": "rests", "set": "${later + 1}"},
    )
    run = one_run(plan, pay, add, send, wipe, look, note)
    ends = {name: (step.status, step.reason) for name, step in run.steps.items()}
    assert run.status == "indeterminate"
    assert ends["p"] == ("indeterminate", None)
    assert ends["other"] == ("succeeded", None)
    for name in ("same", "reader", "later", "all"):
        assert ends[name] == ("skipped", "blocked"), name
    assert ends["rests"] == ("skipped", "dependency-failed")
    assert (
        ends["uses"] == ends["sends"] == ("pending", None)
    )  # a person's word may still give them their value


def test_a_write_to_the_world_holds_every_write_back_and_an_item_those_after_it():
    """`world` conflicts with all; of a list, the items after the unknown one are blocked too."""

    @tool(effect="write", version=1)
    async def lose(x: int) -> int:
        """Be cut off."""
        raise OutcomeUnknown("cut off")

    plan = plan_of({**call("p", "lose", "${item}"), "for_each": [1, 2]}, call("other", "send"))
    run = one_run(plan, lose, send)
    ends = {name: (step.status, step.reason) for name, step in run.steps.items()}
    assert ends["p[0]"] == ("indeterminate", None)
    assert ends["p[1]"] == ends["other"] == ("skipped", "blocked")


def test_inside_a_plan_too_later_writes_are_blocked_and_what_has_ended_is_not():
    """In the inner plan as well; what refers to the blocked step rests on it, and a step that has ended stands."""
    inner = {
        "steps": [
            call("before", "send"),
            call("p", "pay"),
            call("then", "add"),
            call("last", "look", "${before + then}"),
        ]
    }
    plan = plan_of({"id": "i", "plan": "inner", "args": {}}, plans={"inner": inner})
    run = one_run(plan, pay, add, send, look)
    ends = {name: (step.status, step.reason) for name, step in run.steps.items()}
    assert ends["i/before"] == ("succeeded", None)
    assert ends["i/p"] == ("indeterminate", None)
    assert ends["i/then"] == ("skipped", "blocked")
    assert ends["i/last"] == ("skipped", "dependency-failed")


def test_a_value_for_errors_that_is_none_fails_the_step():
    """`on_error` with a value that cannot be computed: the step ends as failed, with that fault, and so does the run."""

    @tool(effect="read", version=1)
    async def fail(x: int) -> int:
        """Fail."""
        raise ToolError("no")

    plan = plan_of(
        call("a", "fail", on_error={"value": "${inputs.n // inputs.z}"}),
        call("b", "fail", "${item}", for_each=[1, 2], on_error={"value": "${inputs.n // inputs.z}"}),
        inputs={"n": {"type": "integer", "default": 1}, "z": {"type": "integer", "default": 0}},
    )
    run = one_run(plan, fail)
    assert run.status == "failed"
    assert {error.code for error in run.errors} == {"division-by-zero"}
    assert [run.steps[name].status for name in ("a", "b")] == ["failed", "failed"]
