"""Non-interference: two runs that differ only in untrusted data make the same writes, or the check named each write that differs.

The runs are made with `flow="off"`, so nothing but the labels of the check is tried: no refusal at run time can hide a hole in them. A write that only the
order of effects left out, behind a write or a read of its resource that failed, is no difference (`plans/checker/flow/labels.py`).
"""

import asyncio
import os
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from random import Random

import hypothesis.strategies as st
import pytest
from firmplan import Context, Plan, ToolError, check
from firmplan.plans.values import canonical
from firmplan.testing import ScriptedModel
from firmplan.tools import Models, Tool
from firmplan.tools.models.models import Model
from hypothesis import given, settings
from resource_bank import Runs
from rig import Rig
from seeds import SWEEP, seeds
from typed_plans import INTEGER, SCHEMAS, TEXT, TOOLS, answer, model_reply, typed_plans

EVERY, SAMPLED = 20_000, 20
CODES = {"unsafe-flow", "judged-flow", "untrusted-condition"}
NAMED = re.compile(r"of the write '(\w+)'|whether step '(\w+)' writes")


@dataclass
class World:
    """One of two worlds: what untrusted tools answer, the writes that were called, and what they have left in the resources."""

    salt: int
    untrusted: frozenset[str]
    writes: dict[str, list[bytes]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)

    def held(self, resource):
        """Return a number made of what a tool of a resource finds there."""
        return sum(n for name, n in self.left.items() if resource in (name, "world") or name == "world") % 7

    def tool(self, name):
        effect, resource, kind = TOOLS[name]
        salt = self.salt if name in self.untrusted else 0

        def call(n, t="-", *, ctx: Context):
            if effect == "write":
                self.writes.setdefault(ctx.step, []).append(canonical({"n": n, "t": t}))
            found = self.held(resource) if effect in ("read", "write") else 0
            made = answer(name, n + salt + found, t)
            if effect == "write":
                self.left[resource] = self.left.get(resource, 0) * 3 + n + len(t) + 1
            return made

        return Tool.from_callable(
            call,
            name=name,
            parameters={"type": "object", "properties": {"n": INTEGER, "t": TEXT}, "required": ["n"]},
            returns=SCHEMAS[kind],
            effect=effect,
            resource=resource,
            trust="untrusted" if name in self.untrusted else "trusted",
            version=1,
        )


async def run_in(world, plan, inputs):
    async with AsyncExitStack() as stack:
        models = Models({})
        if any(word in str(plan) for word in ("'ask'", "'agent'")):
            endpoint = await stack.enter_async_context(ScriptedModel(model_reply))
            models = Models({"default": Model("scripted", base_url=endpoint.base_url, api_key="none")})
        tools = [world.tool(name) for name in TOOLS]
        rig = await stack.enter_async_context(Rig(tools, models=models, flow="off"))
        return await rig.run(Plan.model_validate(plan), inputs=inputs, reuse="off")


def step_of(path):
    """Return the id of the plan's step that a call belongs to; the calls of an agent belong to the agent."""
    parts = re.sub(r"\[\d+\]|#\d+", "", path).split("/")
    return parts[-2] if re.fullmatch(r"act\d+", parts[-1]) else parts[-1]


def named_steps(report, codes):
    """Return the ids of the writes that problems with these codes name."""
    return {
        found
        for problem in report.problems
        if problem.code in codes
        for match in NAMED.finditer(problem.message)
        for found in match.groups()
    }


def left_out_by_order(run):
    return {path for path, view in run.steps.items() if view.reason == "blocked"}


@pytest.mark.timeout(7200)
@settings(max_examples=EVERY if os.environ.get(SWEEP) else SAMPLED)
@given(
    plan=typed_plans(),
    untrusted=st.sets(st.sampled_from(["look", "several", "record", "inputs.n", "inputs.t"]), min_size=1),
    salt=st.integers(1, 9),
)
def test_untrusted_data_changes_no_write_that_the_check_does_not_name(plan, untrusted, salt):
    inputs = {
        name: {**schema, "x-trust": "untrusted"} if f"inputs.{name}" in untrusted else schema
        for name, schema in plan["inputs"].items()
    }
    plan = {**plan, "inputs": inputs}
    worlds = [World(0, frozenset(untrusted)), World(salt, frozenset(untrusted))]
    named = named_steps(check(plan, [worlds[0].tool(name) for name in TOOLS]), CODES)
    given = [{"n": 4, "t": "tee"}, {"n": 4, "t": "tee"}]
    given[1] |= {"n": 4 + salt} if "inputs.n" in untrusted else {}
    given[1] |= {"t": "x/y"} if "inputs.t" in untrusted else {}
    runs = [asyncio.run(run_in(world, plan, values)) for world, values in zip(worlds, given, strict=True)]
    if left_out_by_order(runs[0]) != left_out_by_order(runs[1]):
        return  # what was left out is missing in the resources, too
    first, second = (world.writes for world in worlds)
    for path in {*first, *second}:
        assert first.get(path) == second.get(path) or step_of(path) in named, path


# --- plans that are nearly all control

LOOK, PAY = "look", ("pay_a", "pay_b")
INNER = {"x": {"type": "integer"}}


def controlled_plan(random):  # noqa: C901  # one case for each way
    """Return a plan in which an untrusted number decides in every way that the language has."""
    known, steps, ids = [LOOK], [{"id": LOOK, "tool": LOOK}], [LOOK]

    def one_in(count):
        return random.randrange(count) == 0

    if one_in(3):
        steps[0]["on_error"] = random.choice(["skip", {"value": 2}])

    def number(depth=1, names=()):
        if depth == 0 or one_in(2):
            return random.choice([*names, *known, str(random.randint(0, 3))])
        one, other = number(depth - 1, names), number(depth - 1, names)
        ways = [
            f"{one} + {other}",
            f"6 // {one}",
            f"({one} if {test(names)} else {other})",
            f"first({one}, 3)",
            f"len(group_by([1, 2, 3], key=lambda x: x > {one}))",
            f"sorted([1, 2, 3], key=lambda x: (x == {one}, x))[0]",
            f"unique_by([1, 2, 3], key=lambda x: x % ({one} + 1))[-1]",
            f"get([1, 2, 3], [{one}], 0)",
            f"(date(2026, 1, 1) + timedelta(days={one})).day",
            f"len(findall('[0-2]', str({one})))",
            f"(1 if search('1', format({one}, '03d')) else 2)",
        ]
        return random.choice([*ways, f"len([x for x in [1, 2, 3] if x > {one}])", f"[1, 2, 3][{one}]"])

    def test(names=()):
        one, other = random.choice([*names, *known]), random.choice(known)
        return random.choice(
            [f"{one} > 2", f"{one} == {other}", f"{one} == {other}", "True", f"{one} % 2 == 0"]
        )

    def write(name):
        step, names = {"id": name, "tool": random.choice(PAY)}, ()
        shape = random.choice(["one", "each", "filter", "filter", "repeat"])
        if shape in ("each", "filter"):
            step["for_each"] = random.choice(
                [[1, 2, 3], "${range(0, 4)}", f"${{range(0, ({number()}) % 4)}}"]
            )
            names = ("item", "index")
        if shape == "repeat":
            step["repeat"] = {"until": f"${{{test()}}}", "max": 2}
        if shape == "filter" or one_in(3):
            step["when"] = f"${{{test(names if shape == 'filter' else ())}}}"
        return step | {"args": {"n": f"${{{number(random.randint(0, 1), names)}}}"}}

    inner = {
        "inputs": INNER,
        "steps": [{"id": "k", "set": "${6 // inputs.x}"}],
        "output": random.choice([5, 5, "${k}"]),
    }
    if one_in(2):
        args = {"n": random.choice([1, "${inputs.x}", "${k}"])}
        inner["steps"].append({"id": "w", "tool": "pay_a", "args": args})
    for position in range(random.randint(1, 5)):
        name = f"s{position}"
        match random.choice(["set", "plan", "write", "write"]):
            case "set":
                step = {"id": name, "set": f"${{{number()}}}"}
            case "plan":
                step = {"id": name, "plan": "inner", "args": {"x": f"${{{number()}}}"}}
            case _:
                step = write(name)
        if "when" not in step and one_in(4):
            step["when"] = f"${{{test()}}}"
        if one_in(3):
            step["after"] = [random.choice(ids)]
        if one_in(2):
            step["on_error"] = random.choice(["skip", {"value": 1}])
        steps.append(step)
        ids.append(name)
        if "for_each" not in step:
            known.append(name)
    return {"firmplan": 1, "plans": {"inner": inner}, "steps": steps, "output": None}


class Bank:
    """A world in which one number is untrusted, or cannot be read, and all that was paid there."""

    def __init__(self, number):
        paid = (
            self.paid
        ) = {}  # the tools reach nothing else of the bank: a fingerprint reads whatever they reach

        def look() -> int:
            if number is None:
                raise ToolError("there is no number")
            return number

        def pay(n, *, ctx: Context):
            paid.setdefault(step_of(ctx.step), []).append(n)
            return 1

        one = {"type": "object", "properties": {"n": INTEGER}, "required": ["n"]}
        none = {"type": "object", "properties": {}}
        options = {"returns": INTEGER, "version": 1}
        self.tools = [
            Tool.from_callable(
                look, name=LOOK, parameters=none, effect="read", resource="web", trust="untrusted", **options
            ),
            *(
                Tool.from_callable(pay, name=name, parameters=one, effect="write", resource=name, **options)
                for name in PAY
            ),
        ]


@cache
def bank_of(number):
    """Return the bank with a number, which is made once: to read the code of its tools takes longer than to check a plan and run it."""
    return Bank(number)


PORTION = 100


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(EVERY // PORTION, sampled=1))
def test_an_untrusted_number_decides_about_no_write_that_the_check_does_not_name(seed):
    """Arguments that differ are named as data. Where calls are only missing, it is enough that control is named."""
    random = Random(seed)
    with Runs() as runs:
        for _ in range(PORTION):
            assert_named(controlled_plan(random), random.sample([None, 0, 1, 2, 3, 4], 2), runs)


def blocked_by_order(run, plan):
    """Whether the order of effects has left a step out, and not a step that it comes after."""
    after = {step["id"]: step.get("after", ()) for step in plan["steps"]}

    def is_bad(step):
        view = run.steps[step]
        return view.status == "failed" or view.reason in ("blocked", "dependency-failed")

    return any(
        view.reason == "blocked" and not any(map(is_bad, after.get(step_of(path), ())))
        for path, view in run.steps.items()
    )


def assert_named(plan, numbers, runs):
    assert len(set(numbers)) == len(numbers), "two banks of one number would be one"
    banks = [bank_of(number) for number in numbers]
    for bank in banks:
        bank.paid.clear()
    report = check(plan, banks[0].tools)
    if not report.ok and {found.code for found in report.errors} != {"unsafe-flow"}:
        return  # no engine runs it
    ended = [runs.run(bank, plan) for bank in banks]
    if any(blocked_by_order(run, plan) for run in ended):
        return
    first, second = (bank.paid for bank in banks)
    for step in {*first, *second}:
        one, other = first.get(step, []), second.get(step, [])
        if one == other:
            continue
        is_subset = set(one) <= set(other) or set(other) <= set(one)
        codes = CODES if is_subset else CODES - {"untrusted-condition"}
        assert step in named_steps(report, codes), (step, one, other, plan, numbers)
