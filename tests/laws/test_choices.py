"""A law: a condition inside a plan that runs again and again chooses among its runs, and what it chooses has its label.

Random plans run inner plans for each item, or round after round: with conditions, steps that fail, steps that wait for them, further plans, and resources in between. Two
runs of a plan, in which an untrusted number differs, make the same writes, or the check named each write that differs. Where calls are only missing, it is
enough that the check named what decides about them.
"""

from __future__ import annotations

from random import Random

import pytest
from firmplan import Plan, check
from firmplan.tools import Tool
from resource_bank import ALL, DATA, INTEGER, Runs, assert_sources, banks_of, named_steps, step_of
from seeds import seeds

EVERY, PORTION = 20_000, 50
INPUTS = {"x": INTEGER, "y": INTEGER}
LOOK, FEW = {"id": "look", "tool": "look"}, {"id": "few", "tool": "few"}


def random_plan(random):
    """Return a plan that runs inner plans, most of them again and again, with an untrusted number beside the item."""
    plans, steps, known = {}, [LOOK, FEW], ["look", "few[1]", "2"]
    for name in ("r", "q")[random.randrange(2) :]:
        inner, inside = random_steps(
            random, name, ["inputs.x", "inputs.y"], sorted(plans), random.randint(1, 3)
        )
        if random.random() < 0.15:
            inner.insert(0, {"id": f"{name}look", "tool": "look"})
            inside.append(f"{name}look")
        plans[name] = {"inputs": INPUTS, "steps": inner, "output": f"${{{random.choice(inside)}}}"}
    for position in range(random.choice([1, 1, 1, 2, 3])):
        step = {"id": f"s{position}", "plan": random.choice(sorted(plans))}
        names, shape = (), random.random()
        if shape < 0.65:
            step["for_each"] = random.choice([[1, 2, 3, 4], [1, 2, 3], "${few}"])
            names = ("item",)
        elif shape < 0.85:
            step["repeat"] = {"until": f"${{first(prev, -1) > {random.randint(2, 4)}}}", "max": 3}
            names = (f"first(prev, 0) + {random.randint(0, 1)}",)
        x, y = random.choice([*names * 8, *known]), random.choice(["look", "look", "look", *known, *names])
        step["args"] = {"x": f"${{{x}}}", "y": f"${{{y}}}"}
        if random.random() < 0.1:
            one = random.choice([*known, *(names if "for_each" in step else ())])
            step["when"] = f"${{{one} % 2 == 0}}"
        if random.random() < 0.7:
            step["on_error"] = "skip" if shape < 0.65 else {"value": random.randint(0, 3)}
        steps.append(step)
        if "for_each" not in step:
            known.append(f"first(s{position}, 1)")
    if random.random() < 0.2:
        steps.insert(2, {"id": "before", "tool": "put_a", "args": {"n": "${look}"}})
    return {"firmplan": 1, "plans": plans, "steps": steps, "output": 0}


def condition(random, known):
    """Return a condition; most compare what differs from item to item with what may be untrusted."""
    one, other = "inputs.x", random.choice(["inputs.y", *known])
    if random.random() < 0.3:
        one = random.choice(known)
    return random.choice([f"{one} == {other}", f"{one} == {other}", f"{one} != {other}", f"{other} % 2 == 0"])


def random_steps(random, letter, known, plans, count):
    steps, known, ids = [], list(known), []
    for position in range(count):
        step = {"id": f"{letter}{position}"}
        kinds = ["put", "put", "put", "get", "set", "fail", *(["plan"] * 3 if plans else [])]
        kind, names = random.choice(kinds), ()
        if kind in ("put", "plan") and random.random() < 0.15:
            step["for_each"], names = [1, 2], ("item",)
        number = random.choice(
            ["inputs.x", "inputs.x", "inputs.x", *known, *names, f"inputs.x + {random.choice(known)}", "1"]
        )
        match kind:
            case "plan":
                other = random.choice(["inputs.y", *known])
                given = random.choice([other, other, f"[1, 2, 3][{other} - inputs.x]"])
                step |= {"plan": random.choice(plans), "args": {"x": f"${{{number}}}", "y": f"${{{given}}}"}}
            case "set":
                one = random.choice(["inputs.y", *known])
                ways = [f"1 if {condition(random, known)} else 0", f"6 // ({one} - inputs.x)", number]
                step["set"] = f"${{{random.choice(ways)}}}"
            case "fail":
                step |= {"fail": "no", "when": f"${{{condition(random, known)}}}"}
            case _:
                step |= {"tool": f"{kind}_{random.choice('ab')}", "args": {"n": f"${{{number}}}"}}
        if kind != "fail" and random.random() < 0.5:
            step["when"] = f"${{{condition(random, [*known, *names])}}}"
        if ids and random.random() < 0.3:
            step["after"] = [random.choice(ids)]
        if kind != "fail" and random.random() < 0.2:
            step["on_error"] = "skip" if names else random.choice(["skip", {"value": 1}])
        steps.append(step)
        ids.append(step["id"])
        if kind != "fail":
            name = step["id"] if random.random() < 0.3 else f"first({step['id']}, 1)"
            known.append(name if not names else f"sum(first({step['id']}, [1]))")
    return steps, known


def few():
    """Return some numbers that are trusted."""
    return [1, 2, 3]


FEW_TOOL = Tool.from_callable(
    few,
    name="few",
    parameters={"type": "object", "properties": {}},
    effect="read",
    resource="few",
    returns={"type": "array", "items": INTEGER},
    version=1,
)


def is_left_out_by_order(run, plan):
    """Whether the order of effects has left a step out, and no step that it comes after."""
    bodies = [plan, *plan["plans"].values()]
    after = {step["id"] for body in bodies for step in body["steps"] if "after" in step}
    return any(view.reason == "blocked" and step_of(path) not in after for path, view in run.steps.items())


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(EVERY // PORTION, sampled=2))
def test_what_untrusted_data_chooses_among_the_runs_of_a_plan_is_labelled(seed):
    random = Random(seed)
    tried = differed = 0
    with Runs() as runs:
        for _ in range(PORTION):
            plan = random_plan(random)
            banks = banks_of(random.sample(range(1, 5), 2), FEW_TOOL)
            report = check(plan, banks[0].tools)
            assert {found.code for found in report.errors} <= {"unsafe-flow"}, (report.errors, plan)
            assert_sources(Plan.model_validate(plan), banks[0].tools)
            ended = [runs.run(bank, plan) for bank in banks]
            if any(is_left_out_by_order(run, plan) for run in ended):
                continue
            tried += 1
            first, second = (bank.written for bank in banks)
            for step in {*first, *second}:
                one, other = first.get(step, []), second.get(step, [])
                is_subset = set(one) <= set(other) or set(other) <= set(one)
                differed += not is_subset
                codes = ALL if is_subset else DATA
                assert one == other or step in named_steps(report, codes), (step, one, other, plan)
    assert tried > PORTION // 3
    assert differed
