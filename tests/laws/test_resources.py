"""A law: what untrusted data has left in a resource comes back from there with its label, whatever the way.

Random plans write to and read from two resources, and from both at once, in inner plans, lists and repetitions. Two runs of a plan, in which an untrusted number
differs, make the same writes, or the check named each write that differs. No tool fails, so the order of effects leaves nothing out.
"""

from __future__ import annotations

from random import Random

import pytest
from firmplan import Plan, check
from resource_bank import ALL, DATA, INTEGER, Runs, assert_sources, banks_of, named_steps
from seeds import seeds

EVERY, PORTION = 10_000, 50


def random_plan(random):
    """Return a plan whose steps write and read; a third of them run an inner plan of such steps."""
    plans = {}
    for name in ("p", "q")[: random.randint(0, 2)]:
        steps, known = random_steps(random, name, ["inputs.x"], plans)
        inputs = {"x": INTEGER}
        plans[name] = {"inputs": inputs, "steps": steps, "output": f"${{{random.choice(known)}}}"}
    steps, known = random_steps(random, "s", ["4"], plans, [{"id": "look", "tool": "look"}])
    return {"firmplan": 1, "plans": plans, "steps": steps, "output": f"${{{random.choice(known)}}}"}


def random_steps(random, letter, known, plans, before=()):
    steps, known, ids = (
        list(before),
        [*known, *(step["id"] for step in before)],
        [step["id"] for step in before],
    )

    def number(*more):
        return f"${{{random.choice([*known, *known, *more, '1'])}}}"

    for position in range(random.randint(2, 5)):
        step = {"id": f"{letter}{position}"}
        names = ()
        if random.random() < 0.25:
            step["for_each"] = [1, 2]
            names = ("item",)
        elif random.random() < 0.15:
            again = f"first(prev, -1) >= 0 or {random.choice(known)} % 2 == 0"
            step["repeat"] = {"until": f"${{{again}}}", "max": 2}
        kind = random.choice(["put", "put", "get", "get", *(["plan"] * 2 if plans else [])])
        if kind == "plan":
            step |= {"plan": random.choice(sorted(plans)), "args": {"x": number(*names)}}
        else:
            resource = random.choice(("a", "a", "b", "b", "world"))
            args = {"n": number(*names)} if kind == "put" or random.random() < 0.3 else {"n": 0}
            step |= {"tool": f"{kind}_{resource}", "args": args}
        if random.random() < 0.15:
            step["when"] = f"${{{random.choice([*known, *names])} % 2 == 0}}"
        if ids and random.random() < 0.15:
            step["after"] = [random.choice(ids)]
        steps.append(step)
        ids.append(step["id"])
        name = step["id"]
        known.append(f"first({name}, 1)" if "for_each" not in step else f"sum(first({name}, [1]))")
    return steps, known


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(EVERY // PORTION, sampled=3))
def test_untrusted_data_comes_back_from_no_resource_without_its_label(seed):
    random = Random(seed)
    with Runs() as runs:
        for _ in range(PORTION):
            plan = random_plan(random)
            banks = banks_of(random.sample(range(8), 2))
            report = check(plan, banks[0].tools)
            assert {found.code for found in report.errors} <= {"unsafe-flow"}, report.errors
            for bank in banks:
                run = runs.run(bank, plan)
                assert run.status == "succeeded", (run.errors, plan)
            first, second = (bank.written for bank in banks)
            for step in {*first, *second}:
                one, other = first.get(step, []), second.get(step, [])
                is_subset = set(one) <= set(other) or set(other) <= set(one)
                codes = ALL if is_subset else DATA
                assert one == other or step in named_steps(report, codes), (step, one, other, plan)
            assert_sources(Plan.model_validate(plan), banks[0].tools)
