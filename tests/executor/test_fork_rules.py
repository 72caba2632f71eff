"""The values that decide about writes in forks, patches and retries, case by case: which calls wait, which stand, which are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from firmplan.executor import Header, ToolsetLock
from firmplan.executor.canonical_value import CanonicalValue
from firmplan.executor.events import (
    Approved,
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
)
from firmplan.executor.fork import (
    Fork,
    PastWrite,
    PastWrites,
    changed_steps,
    cone_of,
    done_calls,
    fork_of,
    inherited_from,
    patched_steps,
    steps_of_inputs,
)
from firmplan.executor.journal.header import program_of
from firmplan.tools import Tool, Toolset
from public import call
from rig import plan_of

A, B = CanonicalValue.of({"x": 1}), CanonicalValue.of({"x": 2})
CONE = {"cone": ("c",), "settled": {"c": A.digest, "b": A.digest}}
AGAIN = {"cone": ("c", "g"), "settled": {"c": A.digest, "g": A.digest}, "again": frozenset({"g"})}


@pytest.mark.parametrize(
    ("fork", "path", "held"),
    [
        (Fork(**CONE), "c", False),
        (Fork(**CONE), "z", False),
        (Fork(**CONE, holds="made"), "c", True),
        (Fork(**CONE, holds="made"), "c[0]", False),
        (Fork(**CONE, holds="made"), "b", False),
        (Fork(**CONE, holds="made"), "z", False),
        (Fork(**CONE, holds="all"), "c", True),
        (Fork(**CONE, holds="all"), "c[0]", True),
        (Fork(**CONE, holds="all"), "b", False),
        (Fork(**CONE, holds="all"), "z", True),
        (Fork(**CONE, past_writes={"z": PastWrite("denied")}), "z", True),
        (Fork(**CONE, past_writes={"z": PastWrite("unknown")}), "c", False),
        (Fork(cone=("s", "t"), items=("s[1]",), holds="all", settled={"s[0]": "", "t[0]": ""}), "s[1]", True),
        (
            Fork(cone=("s", "t"), items=("s[1]",), holds="all", settled={"s[0]": "", "t[0]": ""}),
            "s[0]",
            False,
        ),
        (Fork(cone=("s", "t"), items=("s[1]",), holds="all", settled={"s[0]": "", "t[0]": ""}), "t[0]", True),
        (Fork(cone=("p",), unknown=("p", "q"), holds="all"), "p", True),
        (Fork(cone=("p",), unknown=("p", "q")), "p", False),
        (Fork(cone=("p",), unknown=("p", "q")), "q", True),
        # a retry: what is made again has failed for sure; what the parent made with other arguments waits
        (Fork(**AGAIN), "g", False),
        (Fork(**AGAIN, holds="all"), "g", False),
        (Fork(**AGAIN), "c", False),
        (Fork(**{**AGAIN, "settled": {"c": B.digest, "g": B.digest}}), "c", True),
        (Fork(**{**AGAIN, "settled": {"c": B.digest, "g": B.digest}}), "g", False),
        (Fork(**AGAIN), "new", False),
        (Fork(**AGAIN, holds="all"), "c[3]", True),
        (Fork(**AGAIN, past_writes={"g": PastWrite("unknown")}), "g", True),
    ],
)
def test_which_writes_wait_for_a_person(fork, path, held):
    """By cone, by what the parent has made, by what an earlier run knows, and by what a retry makes again."""
    assert fork.is_held(path, "pay", A.digest) is held


REFUSED = {"past_writes": {"c": PastWrite("refused")}}


@pytest.mark.parametrize(
    ("fork", "path", "args", "settled", "kept"),
    [
        (Fork(**CONE), "b", A, True, False),
        (Fork(**CONE), "b", B, False, False),
        (Fork(**CONE), "c", A, False, False),
        (Fork(**CONE), "z", A, False, False),
        (Fork(**CONE, **REFUSED), "c", A, True, True),
        (Fork(**CONE, **REFUSED), "c", B, False, True),
        (Fork(**CONE, **REFUSED, at="c"), "c", A, False, False),
        (Fork(**CONE, past_writes={"b": PastWrite("unknown")}), "b", A, False, False),
        (Fork(**AGAIN), "c", A, True, False),
        (Fork(**AGAIN), "g", A, False, False),
        (Fork(**AGAIN, **REFUSED), "c", A, True, True),
        (Fork(**AGAIN, past_writes={"g": PastWrite("refused")}), "g", A, False, False),
    ],
)
def test_which_calls_of_the_parent_stand(fork, path, args, settled, kept):
    """Exactly the call that was made, where nothing that decides it has changed; and a refused result, unless the step is asked for."""
    assert (fork.is_settled(path, args.digest), fork.is_kept(path)) == (settled, kept)


def test_a_past_write_is_found_by_its_path_or_as_the_same_call():
    """At another path only in a fork, and only with the tool and the arguments; its key is for exactly this call."""
    past = PastWrite("unknown", "one", A.digest, "key", "pay")
    fork, retry = Fork(past_writes={"p": past}), Fork(past_writes={"p": past}, again=frozenset())
    assert fork.find_past("p", "pay", B.digest) is past
    assert fork.find_past("q", "pay", A.digest) is past
    assert fork.find_past("q", "note", A.digest) is None
    assert fork.find_past("q", "pay", B.digest) is None
    assert (retry.find_past("p", "pay", A.digest), retry.find_past("q", "pay", A.digest)) == (past, None)
    assert Fork(past_writes={"p": PastWrite("denied")}).find_past("q", "", "") is None
    assert [
        fork.key_of(path, "pay", args.digest) for path, args in (("p", A), ("q", A), ("p", B), ("q", B))
    ] == [
        "key",
        "key",
        "",
        "",
    ]


def test_only_equal_arguments_make_the_same_fork():
    """Step, values, allowed writes, and whether it is a retry; what the parent has done does not count."""
    fork = Fork(cone=("c",), at="c", settled={"c": "x"})
    assert fork.is_same_request(Fork(at="c"))
    for other in (Fork(), Fork(at="c", holds="all"), Fork(at="c", again=frozenset())):
        assert not fork.is_same_request(other)
    assert not fork.is_same_request(Fork(at="c", overrides={"b": A}))


def test_an_older_version_refuses_what_it_would_call_unasked():
    """Each field that makes a person be asked is enough, also an empty list of calls that are made again."""
    newer = [
        Fork(past_writes={"p": PastWrite("unknown")}),
        Fork(patched=("c",), done_writes={"pay": {"d": "one"}}),
        Fork(again=frozenset()),
    ]
    assert [fork.is_newer for fork in newer] == [True] * 3
    assert Fork(**CONE, holds="all").is_newer is False
    for fork in [*newer, Fork(**CONE, unknown=("p",))]:
        assert Fork.from_dict(fork.to_dict()) == fork


START = CallStarted("p", 1, A.digest, "k1", A)
OTHER = CallStarted("p", 2, B.digest, "k2", B)
NEXT = CallStarted("p", 2, A.digest, "k1", A)
LOST, OK, SURE = CallLost("p", ""), CallSucceeded("p", A), CallFailed("p", "tool-error", "")
DONE = CallFailed("p", "bad-result", "", took_effect=True)
UNKNOWN = PastWrite("unknown", "one", A.digest, "k1")
REFUSED_HERE = PastWrite("refused", "one", A.digest, "k1")
BEFORE = PastWrite("unknown", "zero", "args", "k0")


@pytest.mark.parametrize(
    ("events", "before", "reconciles", "found"),
    [
        ([START], {}, False, UNKNOWN),
        ([START, OK], {}, False, None),
        ([START, SURE], {}, False, None),
        ([START, LOST], {}, False, UNKNOWN),
        ([START, LOST, SURE], {}, False, UNKNOWN),  # it failed before the next call, for want of a secret
        ([START, LOST, NEXT, SURE], {}, False, UNKNOWN),
        ([START, LOST, NEXT, OK], {}, False, None),
        ([START, LOST, NEXT, SURE], {}, True, None),
        ([START, LOST, OTHER, SURE], {}, True, UNKNOWN),
        ([START, NEXT, SURE], {}, False, UNKNOWN),
        ([START, SURE, NEXT, SURE], {}, False, None),
        ([START, LOST, NEXT, SURE, NEXT, SURE], {}, False, UNKNOWN),
        ([START, DONE], {}, False, REFUSED_HERE),
        ([START, LOST, NEXT, DONE], {}, False, REFUSED_HERE),
        ([START, DONE, NEXT, SURE], {}, False, None),
        ([DONE], {}, False, PastWrite("refused", "one")),
        ([DONE], {"p": BEFORE}, False, BEFORE),
        ([SURE], {"p": BEFORE}, False, BEFORE),
        ([SURE], {}, False, None),
        ([Denied("p", "ann", "")], {}, False, PastWrite("denied", "one")),
        ([Denied("p", "ann", "")], {"p": BEFORE}, False, BEFORE),
        ([OTHER, SURE], {"p": BEFORE}, False, BEFORE),
        ([OTHER, OK], {"p": BEFORE}, False, None),
        ([OTHER, SURE], {"p": PastWrite("refused", "zero")}, False, None),
        ([START, LOST, ResolvedDone("p", A)], {}, False, None),
        ([START, LOST, ResolvedFailed("p", "")], {}, False, None),
        ([START, LOST, ResolvedRetry("p")], {}, False, None),
        ([START, LOST, ResolvedRetry("p"), NEXT, SURE], {}, False, None),
        ([CallReused("p", "", A, "", "zero")], {"p": BEFORE}, False, None),
        ([CallStarted("p", 1, A.digest)], {}, False, None),
        ([CallMade("p", 1, A.digest, A, 0.0)], {"p": BEFORE}, False, BEFORE),
    ],
)
def test_what_a_journal_leaves_open_about_a_write(events, before, reconciles, found):
    """It failed for sure only if every attempt did; what a person said, and what an earlier run left open, counts."""
    made = PastWrites("one", before, lambda path: reconciles).of(events)
    assert made == ({} if found is None else {"p": found})


def test_open_writes_are_told_in_the_order_of_their_paths():
    """Equal journals give equal headers, and one step's end says nothing of another."""
    events = [CallStarted("z", 1, "", "", A), CallStarted("b", 1, "", "", A), CallSucceeded("c", A)]
    assert list(PastWrites("one", {"k": BEFORE}, lambda path: False).of(events)) == ["b", "k", "z"]


def test_which_writes_of_a_journal_are_done():
    """Succeeded, called done by a person, or with a refused result; with the arguments of the last attempt, and no read."""

    def named(path, event):
        return [CallStarted(path, 1, "", "", A), event]

    events = [
        *named("ok", CallSucceeded("ok", A)),
        *named("done", CallLost("done", "")),
        ResolvedDone("done", A),
        *named("refused", CallFailed("refused", "bad-result", "", took_effect=True)),
        *named("failed", CallFailed("failed", "tool-error", "")),
        *named("lost", CallLost("lost", "")),
        *named("said", CallLost("said", "")),
        ResolvedFailed("said", "no"),
        *named("twice", CallFailed("twice", "tool-error", "")),
        CallStarted("twice", 2, "", "", B),
        CallSucceeded("twice", A),
        CallStarted("read", 1, ""),
        CallSucceeded("read", A),
        CallFailed("parents", "bad-result", "", took_effect=True, args=""),
        CallReused("reused", "", A, "", "zero"),
    ]
    assert done_calls(events) == {"ok": A, "done": A, "refused": A, "twice": B}


def test_what_a_journal_hands_on():
    """The last end of each call that was made, with the arguments that the plan gave; a call in flight has none."""
    events = [
        CallStarted("f", 1, "a1"),
        CallFailed("f", "tool-error", ""),
        CallStarted("open", 1, "a1"),
        CallFailed("open", "tool-error", ""),
        CallStarted("open", 2, "a1"),
        Approved("e", "ann", "shown", edit=A),
        CallStarted("e", 1, "edited"),
        CallSucceeded("e", A),
        CallFailed("uncalled", "bad-args", ""),
        CallFailed("parents", "tool-error", "", args="a2"),
        CallStarted("stopped", 1, "a1"),
        CallFailed("stopped", "withdrawn", ""),
        CallMade("m", 1, "a3", A, 0.0),
        CallStarted("done", 1, "a1"),
        CallLost("done", ""),
        ResolvedDone("done", B),
        CallStarted("not", 1, "a1"),
        CallLost("not", ""),
        ResolvedFailed("not", "looked"),
    ]
    found = inherited_from(events)
    assert found["done"].outcome == CallSucceeded("done", B)
    assert (found["not"].outcome.code, found["not"].outcome.message) == ("resolved-failed", "looked")
    assert {path: (known.args, known.given) for path, known in found.items()} == {
        "f": ("a1", "a1"),
        "e": ("edited", "shown"),
        "parents": ("a2", "a2"),
        "m": ("a3", "a3"),
        "done": ("a1", "a1"),
        "not": ("a1", "a1"),
    }


# --- the cone

NUMBER = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def tool(name, effect, **options):
    return Tool.from_callable(lambda x: x, name=name, parameters=NUMBER, effect=effect, version=1, **options)


TOOLS = Toolset(
    [
        tool("look", "read", resource="shop"),
        tool("pay", "write", resource="bank"),
        tool("balance", "read", resource="bank"),
        tool("note", "write", resource="book"),
        tool("shout", "write", resource="world"),
        tool("add", "pure"),
    ]
)


def header(*steps, fork=None, **keys):
    """Return the header of a run of these steps."""
    plan = plan_of(*steps, **keys)
    return Header(plan, dict.fromkeys(plan.inputs, 1), "seed", ToolsetLock.of([plan], TOOLS), fork=fork)


def compiled(run):
    return program_of(run.plan, run.lock, run.plans, run.language)


def step(name, called, x=1, **keys):
    return call(name, called, args={"x": x}, **keys)


@pytest.mark.parametrize(
    ("steps", "starts", "cone"),
    [
        ([step("a", "add"), step("b", "add", "${a}"), step("c", "add")], ["a"], ("a", "b")),
        ([step("a", "look"), step("b", "look", after=["a"]), step("c", "look")], ["a"], ("a", "b")),
        ([step("a", "add"), step("b", "add"), step("c", "add", "${b}")], ["c"], ("c",)),
        ([step("p", "pay"), step("r", "balance"), step("s", "look")], ["p"], ("p", "r")),
        ([step("r", "balance"), step("p", "pay"), step("q", "pay", 2)], ["p"], ("p", "q")),
        ([step("r", "balance"), step("p", "pay")], ["r"], ("r",)),
        (
            [step("w", "shout"), step("r", "balance"), step("s", "look"), step("t", "add")],
            ["w"],
            ("w", "r", "s"),
        ),
        ([step("p", "pay"), step("w", "shout"), step("n", "note")], ["p"], ("p", "w", "n")),
        ([step("n", "note"), step("w", "balance"), step("r", "look")], ["n"], ("n",)),
        (
            [step("a", "add"), step("p", "pay", "${a}"), step("r", "balance"), step("x", "add", "${r}")],
            ["a"],
            ("a", "p", "r", "x"),
        ),
        ([step("r", "balance"), step("p", "pay", "${r}"), step("s", "balance", 2)], ["r"], ("r", "p", "s")),
    ],
)
def test_the_cone_holds_whatever_may_come_out_differently(steps, starts, cone):
    """By reference, by `after`, and by a resource that the cone writes; of the world, all resources."""
    assert cone_of(compiled(header(*steps)), starts) == cone


BASE = [step("a", "pay"), step("b", "pay", 2), step("c", "look")]


@pytest.mark.parametrize(
    ("steps", "changed", "of_model"),
    [
        (BASE, [], []),
        ([*BASE[:2], step("c", "look", 3)], ["c"], ["c"]),
        ([*BASE, step("d", "pay", 9)], ["d"], ["d"]),
        ([BASE[0], BASE[2]], [], []),
        ([*BASE[:2], step("c", "look", on_error="skip")], ["c"], []),
        ([*BASE[:2], step("c", "look", retries=2)], ["c"], []),
        ([*BASE[:2], step("c", "look", timeout=2)], ["c"], []),
        ([*BASE[:2], step("c", "look", after=["a"])], ["c"], []),
        ([*BASE[:2], step("c", "look", when="${1 > 0}")], ["c"], ["c"]),
        ([*BASE[:2], step("c", "look", for_each=[1])], ["c"], ["c"]),
        ([*BASE[:2], step("c", "balance")], ["c"], ["c"]),
    ],
)
def test_which_steps_an_edit_changes(steps, changed, of_model):
    """All that reads otherwise is affected; calls come of a model where it changed what is called, and not only what follows a failure."""
    before, after = header(*BASE), header(*steps)
    assert changed_steps(before, after) == changed
    assert patched_steps(before, after, is_patch=True) == tuple(of_model)
    assert patched_steps(before, after, is_patch=False) == ()


INNER = {"type": "object", "properties": {}, "additionalProperties": False}


def calling(x, **keys):
    """Return the header of a run whose step `p` runs an inner plan that pays `x`."""
    inner = {"steps": [step("q", "pay", x)]}
    return header({"id": "p", "plan": "inner", "args": {}}, step("a", "add"), plans={"inner": inner}, **keys)


def test_a_step_that_runs_another_inner_plan_or_saved_plan_is_changed():
    """Though the step itself reads the same: what it calls may be something else; so may it be with other types."""
    run, saved = calling(1), plan_of(step("s", "pay"))
    assert changed_steps(run, calling(1)) == []
    assert patched_steps(run, calling(2), is_patch=True) == ("p",)
    assert changed_steps(run, calling(1, types={"t": INNER})) == ["p"]
    assert changed_steps(replace(run, plans={"s": saved}), replace(run, plans={"s": saved})) == []
    assert changed_steps(run, replace(run, plans={"s": saved})) == ["p"]
    other = plan_of(step("s", "pay", 2))
    assert changed_steps(replace(run, plans={"s": saved}), replace(run, plans={"s": other})) == ["p"]
    for before, after in ((replace(run, plan=None), run), (run, replace(run, plan=None))):
        assert changed_steps(before, after) == []


LISTS = [
    step("s", "pay", "${item}", for_each=[1, 2]),
    step("t", "add", "${item}", for_each="${s}"),
    step("u", "look"),
    step("n", "add", "${inputs.n}"),
]


@pytest.mark.parametrize(
    ("changes", "cone", "items"),
    [
        ({}, (), ()),
        ({"at": "t"}, ("t",), ()),
        ({"at": "s"}, ("s", "t"), ()),
        ({"at": "s[1]"}, ("s", "t"), ("s[1]",)),
        ({"at": "s[1]", "also": ["s"]}, ("s", "t"), ()),
        ({"at": "t[0]", "overrides": {"s[1]": A}}, ("s", "t"), ("s[1]",)),
        ({"at": "t[0]"}, ("t",), ("t[0]",)),
        ({"at": "t[0]#1"}, ("t",), ()),
        ({"overrides": {"u": A}}, ("u",), ()),
        ({"also": ["n"]}, ("n",), ()),
        ({"edit": [*LISTS[:2], step("u", "look", 5), LISTS[3]]}, ("u",), ()),
        ({"n": 2}, ("n",), ()),
    ],
)
def test_a_fork_affects_what_was_asked_for_given_changed_or_named(changes, cone, items):
    """Of one item, the other items stay as they were, unless something affects the whole step."""
    changes = dict(changes)
    keys = {"inputs": {"n": {"type": "integer"}}}
    run = header(*LISTS, **keys)
    after = replace(header(*changes.pop("edit", LISTS), **keys), inputs={"n": changes.pop("n", 1)})
    rest = {"at": None, "overrides": {}, "holds": "none", "settled": {}, "past_writes": {}}
    made = fork_of(compiled(after), run, after, **{**rest, **changes})
    assert (made.cone, made.items) == (cone, items)


def test_an_item_of_an_ordered_list_of_plans_is_not_alone():
    """Its inner steps may affect the items after it, so the whole step runs; a list of plain calls goes item by item."""
    inner = {"steps": [step("q", "pay")]}
    each = {"id": "p", "plan": "inner", "args": {}, "for_each": [1, 2]}
    run = header(LISTS[0], each, plans={"inner": inner})
    rest = {"overrides": {}, "holds": "none", "settled": {}, "past_writes": {}}
    assert fork_of(compiled(run), run, run, at="p[0]", **rest).items == ()
    assert fork_of(compiled(run), run, run, at="s[0]", **rest).items == ("s[0]",)


def test_a_models_steps_stay_its_own_until_a_person_edits_them():
    """Through further patches and forks; a step that is gone is nobody's."""
    before = header(*BASE, fork=Fork(patched=("b", "c")))
    edited = header(BASE[0], step("b", "pay", 3), step("c", "look", on_error="skip"))
    assert patched_steps(before, edited, is_patch=True) == ("b", "c")
    assert patched_steps(before, edited, is_patch=False) == ("c",)
    assert patched_steps(before, header(BASE[0], BASE[2]), is_patch=False) == ("c",)
    assert patched_steps(header(*BASE), edited, is_patch=True) == ("b",)


def test_a_fork_without_steps_of_a_model_names_no_finished_writes():
    """Its header is as in earlier versions."""
    run = header(*BASE)
    given = {"at": None, "overrides": {}, "holds": "none", "settled": {}, "past_writes": {}}
    done = {"pay": {A.digest: "one"}}
    assert fork_of(compiled(run), run, run, **given, done_writes=done) == Fork()
    made = fork_of(compiled(run), run, run, **given, patched=["c"], done_writes=done)
    assert (made.patched, made.done_writes, made.cone) == (("c",), done, ())


def test_values_that_a_fork_was_given_stand_until_asked_for_or_edited():
    """A fork of it has them, unless it runs the step, gives another value, or has another step there."""
    run = header(*BASE, fork=Fork(overrides={"a": A, "b": A}))
    given = {"holds": "none", "settled": {}, "past_writes": {}}

    def overrides(after, at=None, **values):
        return fork_of(compiled(after), run, after, at=at, overrides=values, **given).overrides

    assert overrides(run) == {"a": A, "b": A}
    assert overrides(run, "a") == {"b": A}
    assert overrides(run, a=B) == {"a": B, "b": A}
    assert overrides(header(BASE[0], step("b", "pay", 3), BASE[2])) == {"a": A}
    assert overrides(header(BASE[0], BASE[2])) == {"a": A}


INPUTS = {
    "n": {"type": "integer"},
    "m": {"type": "integer"},
    "l": {"type": "array", "items": {"type": "integer"}},
}
SENT = [
    step("a", "pay", "${inputs.n}"),
    step("m", "pay", "${inputs.m}"),
    step("w", "pay", when="${inputs.n > 0}"),
    step("f", "pay", "${item}", for_each="${inputs.l}"),
    step("o", "pay", on_error={"value": "${inputs.n}"}),
    step("r", "pay", repeat={"until": "${inputs.n > 0}", "max": 2}),
    {"id": "s", "set": "${inputs.n}"},
    {"id": "all", "set": "${inputs}"},
    step("free", "pay"),
]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"n": 1, "m": 1, "l": []}, {"n": 1, "m": 1, "l": []}, []),
        ({"n": 1, "m": 1, "l": []}, {"n": 2, "m": 1, "l": []}, ["a", "w", "o", "r", "s", "all"]),
        ({"n": 1, "m": 1, "l": []}, {"n": 1, "m": 2, "l": []}, ["m", "all"]),
        ({"n": 1, "m": 1, "l": []}, {"n": 1, "m": 1, "l": [1]}, ["f", "all"]),
        ({"n": 1, "l": []}, {"n": 1, "m": 1, "l": []}, ["m", "all"]),
        ({"n": 1, "m": 1, "l": []}, {"n": 1, "l": []}, ["m", "all"]),
    ],
)
def test_steps_that_refer_to_a_changed_input_are_affected(before, after, found):
    """In arguments, conditions, lists, fallbacks and repeats; a step that takes all inputs refers to each."""
    assert steps_of_inputs(compiled(header(*SENT, inputs=INPUTS)), before, after) == found
