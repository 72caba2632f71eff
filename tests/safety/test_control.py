"""Whether a write happens counts like what it is called with: a plan that hides untrusted data in its control flow does not get round the labels."""

from __future__ import annotations

import pytest
from firmplan import Engine, PlanRejected, check, tool

SAFE, WARNED, REFUSED = set(), {"untrusted-condition"}, {"unsafe-flow"}


@tool(effect="read", trust="untrusted", resource="web")
def page() -> str:
    """Read a page."""
    return "12"


@tool(effect="read", trust="untrusted", resource="web")
def pages() -> list[str]:
    """Read pages."""
    return ["12", "13"]


@tool(effect="read", trust="untrusted", resource="web")
def amount() -> int:
    """Read an amount."""
    return 7


@tool(effect="pure")
def known() -> list[int]:
    """Return the known amounts."""
    return [1, 7]


class Bank:
    """A write, and all that it was called with."""

    def __init__(self, **options):
        self.paid = []

        @tool(effect="write", resource="bank", name="pay", **options)
        def pay(amount: int = 1) -> int:
            """Pay."""
            self.paid.append(amount)
            return amount

        self.tools = [page, pages, amount, known, pay]


PAY = {"id": "pay", "tool": "pay"}
PAGE = {"id": "p", "tool": "page"}
FAILS = {"steps": [{"id": "n", "set": "${int(inputs.x)}"}], "inputs": {"x": {"type": "string"}}}

# Name -> a plan in which untrusted data decides about the write `pay`, and what a check says of it.
FLOWS = {
    "a plan that fails by untrusted data, and has another value then": (
        {
            "plans": {"f": FAILS | {"output": 5}},
            "steps": [
                PAGE,
                {"id": "n", "plan": "f", "args": {"x": "${p}"}, "on_error": {"value": 1}},
                PAY | {"args": {"amount": "${n}"}},
            ],
        },
        REFUSED,
    ),
    "items of a plan that fail by untrusted data, and are left out": (
        {
            "plans": {"f": FAILS | {"output": 5}},
            "steps": [
                PAGE,
                {"id": "n", "plan": "f", "for_each": [1], "args": {"x": "${p}"}, "on_error": "skip"},
                PAY | {"args": {"amount": "${len(n)}"}},
            ],
        },
        REFUSED,
    ),
    "a filter over all numbers": (
        {
            "steps": [
                {"id": "a", "tool": "amount"},
                PAY
                | {"for_each": "${range(0, 1000)}", "when": "${item == a}", "args": {"amount": "${item}"}},
            ]
        },
        REFUSED,
    ),
    "the place of an item that a filter lets pass": (
        {
            "steps": [
                {"id": "a", "tool": "amount"},
                PAY
                | {"for_each": "${range(0, 1000)}", "when": "${item == a}", "args": {"amount": "${index}"}},
            ]
        },
        REFUSED,
    ),
    "a step that comes after one that untrusted data makes fail": (
        {"steps": [PAGE, {"id": "n", "set": "${int(p)}"}, PAY | {"after": ["n"]}]},
        WARNED,
    ),
    "a step that comes after an untrusted tool": ({"steps": [PAGE, PAY | {"after": ["p"]}]}, WARNED),
    "a reference to a clean step that comes after an untrusted one": (
        {
            "steps": [
                PAGE,
                {"id": "n", "set": 1, "after": ["p"]},
                PAY | {"args": {"amount": "${n}"}},
            ]
        },
        WARNED,
    ),
    "the first of two steps, of which one comes after an untrusted one": (
        {
            "steps": [
                PAGE,
                {"id": "s", "when": "${p == '12'}", "set": 1},
                {"id": "n", "set": 1, "after": ["s"]},
                PAY | {"args": {"amount": "${first(n, 2)}"}},
            ]
        },
        REFUSED,
    ),
    "the number of items of an untrusted list": (
        {"steps": [{"id": "many", "tool": "pages"}, PAY | {"for_each": "${many}"}]},
        WARNED,
    ),
    "the length of an untrusted list": (
        {"steps": [{"id": "many", "tool": "pages"}, PAY | {"for_each": "${range(len(many))}"}]},
        WARNED,
    ),
    "the end of a repetition": (
        {
            "steps": [
                PAGE,
                PAY | {"repeat": {"until": "${p == '12'}", "max": 3}},
            ]
        },
        WARNED,
    ),
    "a repetition of a plan that untrusted data makes fail": (
        {
            "inputs": {"k": {"type": "integer", "default": 1}},
            "plans": {"q": {"steps": [PAY, PAGE, {"id": "n", "set": "${int(p)}"}], "output": 5}},
            "steps": [
                {"id": "r", "plan": "q", "repeat": {"until": "${inputs.k > 2}", "max": 2}, "on_error": "skip"}
            ],
        },
        WARNED,
    ),
    "a plan that runs only if untrusted data lets it": (
        {
            "plans": {"q": {"steps": [PAY]}},
            "steps": [PAGE, {"id": "r", "plan": "q", "when": "${p == '12'}"}],
        },
        WARNED,
    ),
    "a plan that comes after an untrusted tool": (
        {"plans": {"q": {"steps": [PAY]}}, "steps": [PAGE, {"id": "r", "plan": "q", "after": ["p"]}]},
        WARNED,
    ),
    "a plan that is skipped with the step that it refers to": (
        {
            "plans": {"q": {"inputs": {"x": {"type": "string"}}, "steps": [PAY], "output": "${inputs.x}"}},
            "steps": [PAGE, {"id": "r", "plan": "q", "args": {"x": "${p}"}}],
        },
        WARNED,
    ),
    "a step after a plan that fails by untrusted data": (
        {
            "plans": {"f": FAILS | {"output": 5}},
            "steps": [PAGE, {"id": "n", "plan": "f", "args": {"x": "${p}"}}, PAY | {"after": ["n"]}],
        },
        WARNED,
    ),
    "an untrusted input": (
        {
            "inputs": {"n": {"type": "integer", "x-trust": "untrusted", "default": 3}},
            "steps": [PAY | {"args": {"amount": "${inputs.n}"}}],
        },
        REFUSED,
    ),
    "an untrusted input that decides": (
        {
            "inputs": {"n": {"type": "integer", "x-trust": "untrusted", "default": 3}},
            "steps": [PAY | {"when": "${inputs.n > 2}"}],
        },
        WARNED,
    ),
    "an untrusted input of a plan": (
        {
            "plans": {
                "q": {
                    "inputs": {"n": {"type": "integer", "x-trust": "untrusted"}},
                    "steps": [PAY | {"args": {"amount": "${inputs.n}"}}],
                }
            },
            "steps": [{"id": "r", "plan": "q", "args": {"n": 3}}],
        },
        REFUSED,
    ),
    # What is no control.
    "a write behind another write of its resource that may fail": (
        {"steps": [PAGE, {"id": "b", "tool": "note", "args": {"text": "${p}"}}, PAY]},
        SAFE,
    ),
    "a value that may be missing where a labelled value may be": (
        {"steps": [PAGE, {"id": "b", "tool": "note", "args": {"text": "${p}"}}]},
        SAFE,
    ),
    "a failure that another value replaces": (
        {"steps": [PAGE | {"on_error": {"value": ""}}, PAY | {"after": ["p"]}]},
        SAFE,
    ),
    "a trusted input": (
        {
            "inputs": {"n": {"type": "integer", "x-trust": "trusted", "default": 3}},
            "steps": [PAY | {"args": {"amount": "${inputs.n}"}}],
        },
        SAFE,
    ),
}


@tool(effect="write", resource="bank", allow_untrusted=("text",))
def note(text: str) -> str:
    """Write a note into the bank's book."""
    return text


def codes(plan, tools):
    report = check({"firmplan": 1, **plan}, tools)
    return {
        found.code for found in report.problems if found.code in REFUSED | WARNED or found.severity == "error"
    }


@pytest.mark.parametrize("name", FLOWS)
def test_the_check_says_where_untrusted_data_decides(name):
    plan, found = FLOWS[name]
    assert codes(plan, [*Bank().tools, note]) == found


@pytest.mark.parametrize("name", [name for name, (_, found) in FLOWS.items() if found])
def test_a_person_is_asked_about_a_write_that_untrusted_data_decides_about(name, tmp_path):
    """`approval="untrusted"` counts control like data: nothing is paid before someone has looked."""
    bank = Bank(approval="untrusted")
    plan = {"firmplan": 1, **FLOWS[name][0]}
    with Engine([*bank.tools, note], store=tmp_path / "s.db") as engine:
        run, denied = engine.run_sync(plan), set()
        while run.status == "waiting":
            assert bank.paid == []
            asked = {event.step for event in engine.events_sync(run.id) if event.type == "ApprovalAsked"}
            path = min(asked - denied)
            engine.deny_sync(run.id, path, by="ann")
            denied.add(path)
            run = engine.resume_sync(run.id)
        assert denied
        assert (run.status, bank.paid) == ("failed", [])


@pytest.mark.parametrize("name", [name for name, (_, found) in FLOWS.items() if found])
def test_strict_refuses_every_plan_in_which_untrusted_data_decides(name, tmp_path):
    bank = Bank()
    with Engine([*bank.tools, note], store=tmp_path / "s.db", flow="strict") as engine:
        with pytest.raises(PlanRejected) as caught:
            engine.run_sync({"firmplan": 1, **FLOWS[name][0]})
        assert {found.code for found in caught.value.report.errors} == FLOWS[name][1]
    assert bank.paid == []


def test_the_warning_names_the_way_from_the_source():
    plan = {"steps": [PAGE, {"id": "n", "set": "${int(p)}"}, PAY | {"after": ["n"]}]}
    (warning,) = check({"firmplan": 1, **plan}, Bank().tools).warnings
    assert warning.path == "$.steps[2].after"
    assert warning.message.endswith("decides whether step 'pay' writes: p -> n -> pay")


def test_the_trust_of_an_input_is_one_of_two_words():
    plan = {"inputs": {"n": {"type": "integer", "x-trust": "no"}}, "steps": [PAY], "output": "${inputs.n}"}
    (fault,) = check({"firmplan": 1, **plan}, Bank().tools).errors
    assert (fault.code, fault.path) == ("bad-input", "$.inputs.n.x-trust")
    assert fault.message == "expected 'trusted' or 'untrusted', found 'no'"


def test_a_rule_is_not_asked_about_labelled_calls(tmp_path):
    """A rule could be talked out of asking by the data that it looks at, or by who decided that the call is made."""
    asked = []
    bank = Bank(approval=lambda args: bool(asked.append(args)))
    steps = [PAGE, {"id": "a", "tool": "pay", "args": {"amount": "${len(p)}"}}]
    steps += [{"id": "b", "tool": "pay", "when": "${p == '12'}"}, {"id": "c", "tool": "pay"}]
    with Engine(bank.tools, store=tmp_path / "s.db") as engine:
        run = engine.run_sync({"firmplan": 1, "steps": steps})
        for step in ("a", "b"):
            assert run.status == "waiting"
            assert asked == []
            engine.approve_sync(run.id, step, by="ann")
            run = engine.resume_sync(run.id)
        assert (run.status, asked, bank.paid) == ("succeeded", [{}], [2, 1, 1])
