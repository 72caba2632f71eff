"""What a run keeps of its tools: which tools, what it relies on, and how their calls are treated when it goes on without them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from firmplan import Plan, Toolset, tool
from firmplan.executor.journal.toolset_lock import (
    CHANGES_TOLD,
    ToolLock,
    ToolsetLock,
    approval_kind,
    digest_of_toolset,
    tool_names,
)
from firmplan.plans.signature import Effect
from public import call, plan


def asks(args):
    """A rule that somebody wrote."""
    return True


@tool(
    effect="write",
    version="1",
    idempotent=True,
    retries=2,
    timeout=3.0,
    resource="bank",
    approval="always",
    allow_untrusted=["note", "amount"],
    reconcile=lambda key, args: None,
)
def pay(amount: int, note: str = "thanks", count: int = 1) -> int:
    """Pay."""
    return amount


@tool(effect="read", trust="untrusted")
def look(x: int = 7) -> str:
    """Look."""
    return str(x)


@tool(effect="pure")
def plain(x: int) -> int:
    """Return it."""
    return x


LOCKED = ToolLock.of(pay)


# --- what a tool may not stop to be


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"effect": Effect.READ}, "had the effect 'write', and has 'read' now"),
        ({"idempotent": False}, "was idempotent, and is not any more"),
        ({"reconcile": None}, "had a reconcile, and has none any more"),
        ({"retries": 9, "timeout_s": None, "description": "Pay it.", "trust": "untrusted"}, None),
    ],
)
def test_a_promise_that_a_run_relies_on_is_kept_or_its_calls_do_not_go_on(change, told):
    """The effect, being idempotent, and a reconcile; whatever else changes is no promise."""
    assert LOCKED.find_broken_promise(replace(pay, **change)) == told


def test_a_promise_that_was_never_made_may_be_made():
    """A write that is idempotent and has a reconcile only since then keeps all that it said."""
    less = replace(LOCKED, idempotent=False, can_reconcile=False)
    assert less.find_broken_promise(pay) is None
    assert less.find_broken_promise(replace(pay, idempotent=False, reconcile=None)) is None


# --- signatures


def schema(**properties):
    return {"type": "object", "properties": properties, "required": sorted(properties)}


class Now:
    """What of a tool `find_changed_signature` looks at."""

    def __init__(self, parameters, returns):
        self.parameters, self.returns = parameters, returns


def test_words_for_people_are_no_part_of_a_signature():
    """Titles, descriptions and examples, however deep and in lists too; but a parameter of that name is one."""
    number = {"type": "integer", "title": "N", "description": "a number", "examples": [1]}
    bare = {"type": "integer"}
    with_words = schema(a=number, b={"anyOf": [number, {"type": "null"}]})
    without = schema(a=bare, b={"anyOf": [bare, {"type": "null"}]})
    locked = replace(LOCKED, parameters=with_words, returns={"type": "string", "title": "S"})
    assert locked.find_changed_signature(Now(without, {"type": "string"})) is None
    named = replace(LOCKED, parameters=schema(title=bare, description=bare, examples=bare))
    for lost in ("title", "description", "examples"):
        kept = {name: bare for name in ("title", "description", "examples") if name != lost}
        assert "its parameters changed" in named.find_changed_signature(Now(schema(**kept), LOCKED.returns))


def test_what_changed_of_a_signature_is_told_up_to_a_number_of_places():
    """Of the parameters first, else of the result."""
    names = ("a", "b", "c", "d", "e")
    before = replace(LOCKED, parameters=schema(**{name: {"type": "integer"} for name in names}), returns=None)
    now = schema(**{name: {"type": "string"} for name in names})
    told = before.find_changed_signature(Now(now, {"type": "string"}))
    assert told.startswith("its parameters changed: properties.a.type: ")
    assert told.count("; ") + 1 == CHANGES_TOLD == 3
    assert before.find_changed_signature(Now(before.parameters, None)) is None
    told = before.find_changed_signature(Now(before.parameters, {"type": "string"}))
    assert told.startswith("its result changed: ")
    same = replace(LOCKED, returns={"type": "number", "maximum": 1})
    assert "maximum" in same.find_changed_signature(Now(LOCKED.parameters, {"type": "number"}))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"enum": [1, 2]}, {"enum": [1, 3]}),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ),
        (
            {"type": "array", "prefixItems": [{"type": "string"}]},
            {"type": "array", "prefixItems": [{"type": "integer"}]},
        ),
    ],
)
def test_what_changed_inside_a_list_of_a_schema_is_told_too(before, now):
    """Values, alternatives and places."""
    locked = replace(LOCKED, parameters=schema(a=before), returns=before)
    assert "its parameters changed" in locked.find_changed_signature(Now(schema(a=now), before))
    assert "its result changed" in locked.find_changed_signature(Now(schema(a=before), now))
    optional = {"type": "object", "properties": {"a": before}, "required": []}
    assert "its parameters changed" in locked.find_changed_signature(Now(optional, before))


# --- how its calls are treated


def test_the_policy_is_that_of_the_tool():
    """Defaults are told for a write alone: a person is asked about all that it is called with."""
    policy = LOCKED.policy
    assert (policy.effect, policy.retries, policy.timeout_s) == (Effect.WRITE, 2, 3.0)
    assert (policy.idempotent, policy.can_reconcile, policy.approval) == (True, True, "always")
    assert policy.defaults == {"note": "thanks", "count": 1}
    policy = ToolLock.of(look).policy
    assert (policy.effect, policy.idempotent, policy.can_reconcile) == (Effect.READ, False, False)
    assert (policy.approval, policy.defaults) == ("never", {})
    odd = {"type": "object", "properties": {"a": True, "b": {"default": None}, "c": {"type": "string"}}}
    assert replace(LOCKED, parameters=odd).policy.defaults == {"b": None}
    for parameters in ({"type": "object"}, {"properties": []}):
        assert replace(LOCKED, parameters=parameters).policy.defaults == {}


@pytest.mark.parametrize(
    ("approval", "kind"), [(None, "never"), ("always", "always"), ("untrusted", "untrusted"), (asks, "rule")]
)
def test_how_a_person_is_asked_is_kept_without_the_code_of_a_rule(approval, kind):
    """One name for each way."""
    assert approval_kind(replace(pay, approval=approval)) == kind
    assert ToolLock.of(replace(pay, approval=approval)).policy.approval == kind


# --- which tools


def test_a_lock_comes_back_as_it_was():
    """From JSON, sorted by name; only tools that exist are locked."""
    plans = [Plan.model_validate(plan(call("a", "pay"), call("b", "look"), call("c", "missing")))]
    lock = ToolsetLock.of(plans, Toolset([pay, look, plain]))
    assert list(lock.names) == ["look", "pay"]
    assert [entry["name"] for entry in lock.to_list()] == ["look", "pay"]
    assert lock.to_list()[1]["allow_untrusted"] == ["amount", "note"]
    back = ToolsetLock.from_list(lock.to_list())
    assert dict(back.items()) == dict(lock.items())
    assert back.find("pay") == LOCKED
    assert back.find("pay").effect is Effect.WRITE
    assert back.find("plain") is None
    assert back.policies == {"look": ToolLock.of(look).policy, "pay": LOCKED.policy}
    assert list(ToolsetLock([LOCKED, ToolLock.of(look)]).names) == ["look", "pay"]


def test_the_tools_of_a_plan_are_those_of_its_steps_its_inner_plans_and_its_agents():
    """A step that calls none names none."""
    agent = {"goal": "t", "tools": ["look", "plain"], "returns": {"type": "string"}}
    whole = Plan.model_validate(
        {
            "firmplan": 1,
            "plans": {"inner": {"steps": [{"id": "i", "tool": "deep", "args": {}}]}},
            "steps": [
                {"id": "s", "set": 1},
                {"id": "a", "agent": agent},
                {"id": "p", "tool": "pay", "args": {}},
                {"id": "q", "plan": "inner", "args": {}},
            ],
        }
    )
    assert list(tool_names(whole)) == ["look", "plain", "pay", "deep"]


def test_what_keeps_a_run_from_going_on_names_the_tools_and_their_steps():
    """A tool that is missing, and one that has lost a property; the steps are those that call it, of any plan."""
    steps = [{"id": "s", "tool": "pay", "args": {}}, {"id": "t", "tool": "look", "args": {}}]
    steps.append({"id": "a", "agent": {"goal": "t", "tools": ["pay", "plain"], "returns": {}}})
    whole = Plan.model_validate({"firmplan": 1, "steps": steps})
    lock = ToolsetLock.of([whole], Toolset([pay, look, plain]))
    assert lock.find_differences(Toolset([pay, look, plain])) == {}
    less = Toolset([replace(pay, idempotent=False), look])
    assert lock.find_differences(less) == {
        "pay": "which was idempotent, and is not any more",
        "plain": "which this engine has not; it has look, pay",
    }
    assert [lock.steps_with(name, [whole]) for name in ("pay", "look", "other")] == [["s", "a"], ["t"], []]


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"description": "Pay it.", "retries": 9, "timeout_s": None, "version": "2"}, True),
        ({"effect": Effect.READ}, False),
        ({"idempotent": False}, False),
        ({"reconcile": None}, False),
        ({"name": "pay_more"}, False),
    ],
)
def test_the_digest_of_a_toolset_is_that_of_its_promises_and_signatures(change, is_same):
    """Whatever else changes, order included, leaves it as it is."""
    digest = digest_of_toolset(Toolset([pay, look]))
    assert len(digest) == 16
    assert (digest_of_toolset(Toolset([look, replace(pay, **change)])) == digest) is is_same


@pytest.mark.parametrize(("given", "made"), [(int, int), (int, str), (str, int)])
def test_the_digest_of_a_toolset_has_the_signatures(given, made):
    """Those of the parameters and of the result."""

    def named(x, y):
        def probe(a: x) -> y:
            """Probe."""

        probe.__annotations__ = {"a": x, "return": y}
        return digest_of_toolset(Toolset([tool(effect="read")(probe)]))

    assert (named(given, made) == named(int, int)) is ((given, made) == (int, int))


def test_tools_become_untrusted_in_a_lock_of_their_own():
    """Those that are named; where all of them are already, nothing changes, and the first lock never does."""
    lock = ToolsetLock([LOCKED, ToolLock.of(look), ToolLock.of(plain)])
    for names in ([], ["look"], ["look", "missing"]):
        assert lock.with_untrusted(names) is lock
    less = lock.with_untrusted(["pay", "look"])
    assert {name: each.trust for name, each in less.items()} == {
        "pay": "untrusted",
        "look": "untrusted",
        "plain": "trusted",
    }
    assert replace(less.find("pay"), trust="trusted") == LOCKED == lock.find("pay")
