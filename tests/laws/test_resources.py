"""A law: what untrusted data has left in a resource comes back from there with its label, whatever the way.

Random plans write to and read from two resources, and from both at once, in inner plans, lists and repetitions. Two runs of a plan, in which an untrusted number
differs, make the same writes, or the check named each write that differs. No tool fails, so the order of effects leaves nothing out.
"""

from __future__ import annotations

import asyncio
import re
from random import Random

import pytest
from firmplan import Context, Plan, check
from firmplan.plans.checker.flow.sources import Sources
from firmplan.plans.compile import compile_plan
from firmplan.plans.program import CallTool, RunPlan
from firmplan.tools import Tool
from rig import Rig
from seeds import seeds

EVERY, PORTION = 10_000, 50
INTEGER = {"type": "integer"}
RESOURCES = ("a", "b", "world")
DATA, ALL = {"unsafe-flow", "judged-flow"}, {"unsafe-flow", "judged-flow", "untrusted-condition"}
NAMED = re.compile(r"of the write '(\w+)'|whether step '(\w+)' writes")


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


def step_of(path):
    return re.sub(r"\[\d+\]|#\d+", "", path).split("/")[-1]


def named_steps(report, codes):
    """Return the ids of the writes that problems with these codes name."""
    found = [NAMED.search(each.message) for each in report.problems if each.code in codes]
    return {name for match in found if match for name in match.groups()}


class Bank:
    """A world with an untrusted number, two resources, and all that was written."""

    def __init__(self, number):
        self.held = {"a": 0, "b": 0}
        self.written = {}
        one = {"type": "object", "properties": {"n": INTEGER}, "required": ["n"]}
        options = {"returns": INTEGER, "version": 1}
        self.tools = [
            Tool.from_callable(
                lambda: number,
                name="look",
                parameters={"type": "object", "properties": {}},
                effect="read",
                resource="web",
                trust="untrusted",
                **options,
            )
        ]
        for resource in RESOURCES:
            for name, effect, function in (
                (f"get_{resource}", "read", self.get(resource)),
                (f"put_{resource}", "write", self.put(resource)),
            ):
                made = Tool.from_callable(
                    function, name=name, parameters=one, effect=effect, resource=resource, **options
                )
                self.tools.append(made)

    def found(self, resource):
        return sum(held for name, held in self.held.items() if resource in (name, "world"))

    def get(self, resource):
        def get(n):
            return (n + self.found(resource)) % 97

        return get

    def put(self, resource):
        def put(n, *, ctx: Context):
            self.written.setdefault(step_of(ctx.step), []).append(n)
            found = self.found(resource)
            for name in self.held if resource == "world" else (resource,):
                self.held[name] = (self.held[name] * 3 + found + n + 1) % 97
            return (n + found) % 97

        return put


async def run_in(bank, plan):
    async with Rig(bank.tools, flow="off") as rig:
        return await rig.run(Plan.model_validate(plan), reuse="off")


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(EVERY // PORTION, sampled=5))
def test_untrusted_data_comes_back_from_no_resource_without_its_label(seed):
    random = Random(seed)
    for _ in range(PORTION):
        plan = random_plan(random)
        banks = [Bank(number) for number in random.sample(range(8), 2)]
        report = check(plan, banks[0].tools)
        assert {found.code for found in report.errors} <= {"unsafe-flow"}, report.errors
        for bank in banks:
            run = asyncio.run(run_in(bank, plan))
            assert run.status == "succeeded", (run.errors, plan)
        first, second = (bank.written for bank in banks)
        for step in {*first, *second}:
            one, other = first.get(step, []), second.get(step, [])
            is_subset = set(one) <= set(other) or set(other) <= set(one)
            codes = ALL if is_subset else DATA
            assert one == other or step in named_steps(report, codes), (step, one, other, plan)
        assert_sources(Plan.model_validate(plan), banks[0].tools)


def assert_sources(plan, tools):
    """Exactly what is labelled has a source, as in `test_sources.py`."""
    sources = Sources(plan, tools)
    waiting = [((), compile_plan(plan, tools))]
    while waiting:
        prefix, program = waiting.pop()
        for code in program.steps:
            trail = (*prefix, code.position)
            if isinstance(code.action, RunPlan):
                waiting.append((trail, code.action.program))
            if isinstance(code.action, CallTool):
                found = {source.name for source in sources.of_argument(trail, "n").sources}
                assert found == ({"look"} if "n" in code.tainted else set()), (sources.path(trail), plan)
                assert sources.of_control(trail).sources or not code.controlled, (sources.path(trail), plan)
