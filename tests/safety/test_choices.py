"""A condition inside a plan that runs for each item is a filter: what it chooses among the items has its label."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from firmplan import Engine, Policy, check
from firmplan.plans.checker.flow.sources import Sources
from firmplan.tools import tool
from rig import Rig, plan_of

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}
CONTACT = {"type": "object", "properties": {"id": INTEGER, "name": TEXT}, "required": ["id", "name"]}
LOOK = {"id": "look", "tool": "look"}
PAY = {"id": "pay", "tool": "pay", "args": {"n": "${inputs.x}"}}
CHOSEN = {**PAY, "when": "${inputs.x == inputs.y}"}
ITEMS = {"id": "every", "for_each": [1, 2, 3, 4]}
SOME = {**ITEMS, "on_error": "skip"}
X_Y = {"x": INTEGER, "y": INTEGER}
BOTH = {"x": "${inputs.x}", "y": "${inputs.y}"}
REFUSED, WARNED, SELECTED = {"unsafe-flow"}, {"untrusted-condition"}, {"judged-flow", "untrusted-condition"}
CODES = REFUSED | SELECTED | {"private-flow"}


@dataclass
class Contact:
    """A contact."""

    id: int
    name: str


class Bank:
    """A number that others write, two resources, a list of contacts, and all that was paid."""

    def __init__(self, number=3, *, readers=None, **paying):
        self.paid, self.held = [], {"a": 0, "b": 0}

        @tool(effect="read", trust="untrusted", resource="web")
        def look() -> int:
            """Read the number."""
            return number

        @tool(effect="read", resource="salaries", private=readers is not None, readers=readers or ())
        def salary() -> int:
            """Read a salary."""
            return number

        @tool(effect="read", resource="contacts")
        def contacts() -> list[Contact]:
            """List the contacts."""
            return [Contact(each, f"Ann{each}") for each in (1, 2, 3, 4)]

        @tool(effect="read", resource="contacts")
        def contact(n: int) -> Contact:
            """Look up a contact."""
            return Contact(n, f"Ann{n}")

        @tool(effect="read", resource="a")
        def get_a() -> int:
            """Read what was put."""
            return self.held["a"]

        @tool(effect="write", resource="a")
        def put_a(n: int) -> int:
            """Put a number."""
            self.held["a"] = n
            return n

        @tool(effect="write", resource="bank", **paying)
        def pay(n: int) -> int:
            """Pay."""
            self.paid.append(n)
            return n

        self.tools = [look, salary, contacts, contact, get_a, put_a, pay]


def each(steps, args=None, *, of=ITEMS, before=(LOOK,), plans=None, **keys):
    """Return a plan that runs an inner plan of some steps for each item, with the untrusted number beside it."""
    args = {"x": "${item}", "y": "${look}"} if args is None else args
    inner = {"inputs": X_Y, "steps": steps, **keys}
    return plan_of(*before, {**of, "plan": "q", "args": args}, plans={"q": inner, **(plans or {})})


def inner(*steps, **keys):
    return {"inputs": X_Y, "steps": list(steps), **keys}


FAIL = {"id": "no", "fail": "no", "when": "${inputs.x != inputs.y}"}
TOLD = {"id": "told", "tool": "look"}
LISTED = {"id": "list", "tool": "contacts"}
OF_LIST = {"id": "every", "for_each": "${list}"}
# Name -> a plan in which a number that others write has a say about what is paid, and what the check says of it.
PLANS = {
    "a filter of the list itself": (
        plan_of(LOOK, {**ITEMS, "when": "${item == look}", "tool": "pay", "args": {"n": "${item}"}}),
        REFUSED,
    ),
    "the same filter inside": (each([CHOSEN]), REFUSED),
    "a step between": (
        each([{"id": "k", "set": "${inputs.x + 1}"}, {**CHOSEN, "args": {"n": "${k}"}}]),
        REFUSED,
    ),
    "a comparison in a step of its own": (
        each([{"id": "k", "set": "${inputs.x == inputs.y}"}, {**PAY, "when": "${k}"}]),
        REFUSED,
    ),
    "a list that is empty for all others": (
        each([{**PAY, "for_each": "${[1] if inputs.x == inputs.y else []}"}]),
        REFUSED,
    ),
    "a step that fails for all others": (each([FAIL, {**PAY, "after": ["no"]}], of=SOME), REFUSED),
    "an expression that fails for all others": (
        each([{"id": "k", "set": "${[1][inputs.x - inputs.y]}"}, {**PAY, "after": ["k"]}], of=SOME),
        REFUSED,
    ),
    "a further plan, which is called for one": (
        each(
            [{"id": "r", "plan": "r", "args": BOTH, "when": "${inputs.x == inputs.y}"}],
            plans={"r": inner(PAY)},
        ),
        REFUSED,
    ),
    "a further plan, to which all is passed on": (
        each([{"id": "r", "plan": "r", "args": BOTH}], plans={"r": inner(CHOSEN)}),
        REFUSED,
    ),
    "a further plan whose arguments fit for one only": (
        each(
            [{"id": "r", "plan": "r", "args": {"x": "${inputs.x}", "y": "${[1][inputs.x - inputs.y]}"}}],
            of=SOME,
            plans={"r": inner(PAY)},
        ),
        REFUSED,
    ),
    "arguments at the list that fit for one only": (
        each([PAY], {"x": "${item}", "y": "${[1][item - look]}"}, of=SOME),
        REFUSED,
    ),
    "an untrusted answer to each": (each([TOLD, {**PAY, "when": "${told == 2}"}]), REFUSED),
    "rounds instead of items": (
        each(
            [CHOSEN],
            {"x": "${first(prev, 0) + 1}", "y": "${look}"},
            of={"id": "every", "repeat": {"until": "${False}", "max": 4}},
            output="${inputs.x}",
        ),
        REFUSED,
    ),
    "a number that each item leaves behind": (
        each(
            [
                {"id": "put", "tool": "put_a", "args": {"n": "${inputs.x}"}},
                TOLD,
                {"id": "r", "plan": "r", "args": {"x": 0, "y": 0}, "when": "${told == inputs.x}"},
            ],
            {"x": "${item}", "y": 0},
            before=(),
            plans={"r": inner({"id": "a", "tool": "get_a"}, {**PAY, "args": {"n": "${a}"}})},
        ),
        SELECTED,  # whatever a trusted tool answers is an element of what it may answer
    ),
    "a condition on how many items there were before": (
        each(
            [
                {"id": "a", "tool": "get_a"},
                {**PAY, "when": "${a == inputs.y}"},
                {"id": "put", "tool": "put_a", "args": {"n": "${a + 1}"}},
            ]
        ),
        REFUSED,
    ),
    "a constant": (each([{**CHOSEN, "args": {"n": 5}}]), WARNED),
    "the same amount for each": (
        each(
            [{**CHOSEN, "args": {"n": "${inputs.z}"}}],
            {"x": "${item}", "y": "${look}", "z": 5},
            inputs={**X_Y, "z": INTEGER},
        ),
        WARNED,
    ),
    "a trusted read that is the same for each": (
        each([{"id": "a", "tool": "get_a"}, {**CHOSEN, "args": {"n": "${a}"}}]),
        WARNED,
    ),
    "a condition that is the same for each": (each([{**PAY, "when": "${inputs.y == 3}"}]), WARNED),
    "a step that is the same for each": (
        each([{"id": "k", "set": "${inputs.y == 3}"}, {**PAY, "when": "${k}"}]),
        WARNED,
    ),
    "a plan that runs once": (
        plan_of(
            LOOK, {"id": "every", "plan": "q", "args": {"x": 4, "y": "${look}"}}, plans={"q": inner(CHOSEN)}
        ),
        WARNED,
    ),
    "the items of a list that is the same for each": (
        each([{**CHOSEN, "for_each": [7, 8], "args": {"n": "${item}"}, "when": "${inputs.y == 3}"}]),
        WARNED,
    ),
    "an item of a trusted list": (
        each(
            [{**PAY, "args": {"n": "${inputs.x.id}"}, "when": "${inputs.x.id == inputs.y}"}],
            of=OF_LIST,
            before=(LOOK, LISTED),
            inputs={"x": CONTACT, "y": INTEGER},
        ),
        SELECTED,
    ),
    "a field of an item of a trusted list": (
        each([CHOSEN], {"x": "${item.id}", "y": "${look}"}, of=OF_LIST, before=(LOOK, LISTED)),
        SELECTED,
    ),
    "an item of a trusted list that is passed on": (
        each(
            [{"id": "r", "plan": "r", "args": BOTH}],
            {"x": "${item.id}", "y": "${look}"},
            of=OF_LIST,
            before=(LOOK, LISTED),
            plans={"r": inner(CHOSEN)},
        ),
        SELECTED,
    ),
    "an item of a trusted list behind a filter of the list": (
        each(
            [PAY],
            {"x": "${item.id}", "y": 0},
            of={**OF_LIST, "when": "${item.id == look}"},
            before=(LOOK, LISTED),
        ),
        SELECTED,
    ),
    "a trusted answer to each": (
        each(
            [
                {"id": "who", "tool": "contact", "args": {"n": "${inputs.x}"}},
                {**CHOSEN, "args": {"n": "${who.id}"}},
            ]
        ),
        SELECTED,
    ),
    "a number made of an item of a trusted list": (
        each(
            [{**CHOSEN, "args": {"n": "${inputs.x + 1}"}}],
            {"x": "${item.id}", "y": "${look}"},
            of=OF_LIST,
            before=(LOOK, LISTED),
        ),
        REFUSED,
    ),
    "a list of numbers as one input": (
        plan_of(
            LOOK,
            {"id": "every", "plan": "q", "args": {"xs": [1, 2, 3], "y": "${look}"}},
            plans={
                "q": {
                    "inputs": {"xs": {"type": "array", "items": INTEGER}, "y": INTEGER},
                    "steps": [
                        {
                            "id": "pay",
                            "tool": "pay",
                            "for_each": "${inputs.xs}",
                            "when": "${item == inputs.y}",
                            "args": {"n": "${item}"},
                        }
                    ],
                }
            },
        ),
        REFUSED,
    ),
    "a trusted list as one input": (
        plan_of(
            LOOK,
            LISTED,
            {"id": "every", "plan": "q", "args": {"xs": "${list}", "y": "${look}"}},
            plans={
                "q": {
                    "inputs": {"xs": {"type": "array", "items": CONTACT}, "y": INTEGER},
                    "steps": [
                        {
                            "id": "pay",
                            "tool": "pay",
                            "for_each": "${inputs.xs}",
                            "when": "${item.id == inputs.y}",
                            "args": {"n": "${item.id}"},
                        }
                    ],
                }
            },
        ),
        SELECTED,
    ),
    "a trusted list for one caller, numbers for the other": (
        plan_of(
            LOOK,
            LISTED,
            {**OF_LIST, "plan": "q", "args": {"x": "${item.id}", "y": "${look}"}},
            {**ITEMS, "id": "more", "plan": "q", "args": {"x": "${item}", "y": "${look}"}},
            plans={"q": inner(CHOSEN)},
        ),
        REFUSED,
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_a_condition_chooses_among_the_items_is_labelled(name):
    plan, codes = PLANS[name]
    problems = check(plan, Bank().tools).problems
    # Some plans store what they have chosen, which is refused, too.
    found = {each.code for each in problems if "'put'" not in each.message}
    assert found & CODES - {"untrusted-condition"} == codes - {"untrusted-condition"}
    assert codes == REFUSED or codes == found & CODES


def paid(plan, bank, **options):
    """Run a plan past the check; return the run, and what was paid."""

    async def main():
        async with Rig(bank.tools, **options) as rig:
            run = await rig.run(plan, "r", reuse="off")
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            return run, bank.paid

    return asyncio.run(main())


@pytest.mark.parametrize("name", [name for name, (_, codes) in PLANS.items() if codes == REFUSED])
def test_such_plans_let_others_choose_the_amount(name):
    """Without the rule: the amounts are others for another number, and neither is a part of the other."""
    plan = PLANS[name][0]
    one, other = (set(paid(plan, Bank(number), flow="off")[1]) for number in (2, 4))
    assert one != other


@pytest.mark.parametrize("name", [name for name, (_, codes) in PLANS.items() if codes == REFUSED])
def test_a_run_past_the_check_pays_nothing_that_others_chose(name):
    run, amounts = paid(PLANS[name][0], Bank())
    assert amounts == []
    assert run.status == "succeeded" or {each.code for each in run.errors} & {"unsafe-flow", "inner-failed"}


@pytest.mark.parametrize("name", [name for name, (_, codes) in PLANS.items() if codes == SELECTED])
def test_a_choice_from_a_trusted_list_passes_and_is_recorded(name):
    plan = PLANS[name][0]
    run, amounts = paid(plan, Bank())
    assert (run.status, amounts) == ("succeeded", [3])
    rules = [each.rules for each in run.steps.values() if getattr(each, "rules", None)]
    assert rules == [{"n": "selected"}] or not rules


NESTED = PLANS["a further plan, to which all is passed on"][0]


def test_the_check_names_the_way():
    found = [each.message for each in check(NESTED, Bank().tools).problems if each.code == "unsafe-flow"]
    assert found == ["untrusted data reaches 'n' of the write 'pay': look -> every -> pay.n"]


def test_a_person_and_a_policy_are_told_the_source():
    seen = []

    def rule(value, labels):
        seen.append((value, labels.sources, labels.fits))

    bank = Bank(approval="untrusted")
    with Engine(bank.tools, store=":memory:", policies=[Policy("look", "pay", "n", rule)]) as engine:
        run = engine.run_sync(NESTED)
        assert (run.status, bank.paid) == ("waiting", [])
        (call,) = engine.waiting_sync(run.id).calls
        assert [origin.source for origin in call.args[0].origins] == ["look"]
    assert seen[0] == (3, ("look",), None)


def test_the_sources_are_those_of_the_condition():
    sources = Sources(NESTED, Bank().tools)
    (found,) = sources.of_argument((1, 0, 0), "n").sources
    assert (found.name, found.tools) == ("look", ("look",))
    constant = PLANS["a constant"][0]
    assert Sources(constant, Bank().tools).of_argument((1, 0), "n").sources == ()


def test_an_agent_is_told_what_was_chosen_for_it():
    agent = {"goal": "Pay ${inputs.x}", "tools": ["pay"], "returns": INTEGER, "max_steps": 2}
    chosen = each([{"id": "do", "agent": agent, "when": "${inputs.x == inputs.y}"}])
    assert {found.code for found in check(chosen, Bank().tools).errors} == REFUSED


def test_private_data_that_chooses_is_sent_with_what_it_chose():
    """Whoever sees which item was sent learns the salary."""
    secret = {"id": "look", "tool": "salary"}
    bank = Bank(readers=("salary",))
    assert {found.code for found in check(each([CHOSEN], before=(secret,)), bank.tools).errors} == {
        "private-flow"
    }
    run, amounts = paid(each([CHOSEN], before=(secret,)), bank)
    assert (amounts, "private-flow" in str(run.errors)) == ([], True)
    assert check(each([CHOSEN], before=(secret,)), Bank(readers=("salary", "pay")).tools).ok


def test_an_endorsed_number_was_not_chosen_by_others():
    fine = {"id": "fine", "endorse": "${inputs.x}", "returns": INTEGER, "by": "person"}
    plan = each([{**fine, "when": "${inputs.x == inputs.y}"}, {**PAY, "args": {"n": "${fine}"}}])
    assert {found.code for found in check(plan, Bank().tools).problems} & CODES == WARNED


def test_many_nested_plans_are_labelled_in_linear_time():
    """Each plan calls the next one twice; labelling each call again would take 2 ** 40 steps."""
    depth, plans = 40, {}
    for number in range(depth):
        steps = [
            {"id": name, "plan": f"p{number + 1}", "args": BOTH, "when": "${inputs.x == inputs.y}"}
            for name in ("one", "two")
        ]
        plans[f"p{number}"] = inner(*(steps if number < depth - 1 else [CHOSEN]))
    plan = plan_of(LOOK, {**ITEMS, "plan": "p0", "args": {"x": "${item}", "y": "${look}"}}, plans=plans)
    assert "unsafe-flow" in {found.code for found in check(plan, Bank().tools).problems}


def test_a_run_that_began_before_choices_counted_keeps_its_labels():
    plan = PLANS["the same filter inside"][0]

    async def main(bank, rules):
        async with Rig(bank.tools) as rig:
            run = await rig.run(plan, "r", rules=rules, reuse="off")
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            return run

    before, after = Bank(), Bank()
    assert (asyncio.run(main(before, 7)).status, before.paid) == ("succeeded", [3])
    assert (asyncio.run(main(after, 8)).status, after.paid) == ("failed", [])
