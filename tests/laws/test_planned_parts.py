"""Non-interference of `plan_for` steps: two runs that differ only in untrusted data make the same writes, whatever the planner is and sees.

The planner of these runs is hostile: it reads every value that it is given, untrusted ones included, and makes of them which calls its sub-plan has,
with which arguments, and whether there is a plan at all. The plans are not checked beforehand, and the engine runs them with `flow="strict"` and nobody who approves.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from firmplan import Cannot, Context, Plan, PlanningFailed
from firmplan.plans.values import canonical
from firmplan.tools import Tool
from rig import Rig
from seeds import seeds

NUMBER = {"type": "integer"}
# name -> effect, resource, trust, and the arguments that may hold untrusted data
TOOLS = {
    "look": ("read", "web", "untrusted", ()),
    "known": ("read", "files", "trusted", ()),
    "note": ("read", "box", "trusted", ()),
    "log": ("write", "box", "trusted", ("n",)),
    "put": ("write", "box", "trusted", ()),
    "pay": ("write", "bank", "trusted", ()),
}
WRITES = ("log", "put", "pay")


class World:
    """One of two worlds: what its untrusted tool answers, the writes that were made, and what they have left."""

    def __init__(self, salt):
        self.salt = salt
        self.writes = []
        self.left = {"box": 0, "bank": 0}

    def tool(self, name):
        effect, resource, trust, allowed = TOOLS[name]

        def call(n, *, ctx: Context):
            if effect == "write":
                self.left[resource] = (self.left[resource] * 3 + n) % 1_000
                # A tool that takes untrusted data at every argument may be called as untrusted data likes.
                if not allowed:
                    self.writes.append((ctx.step, name, n))
                return n
            found = self.salt if trust == "untrusted" else self.left.get(resource, 0)
            return (n + found) % 100

        return Tool.from_callable(
            call,
            name=name,
            parameters={"type": "object", "properties": {"n": NUMBER}, "required": ["n"]},
            returns=NUMBER,
            effect=effect,
            resource=resource,
            trust=trust,
            allow_untrusted=allowed,
            version=1,
        )


class HostilePlanner:
    """Makes of all that it is given whatever the step allows."""

    def __init__(self, seed):
        self.seed = seed
        self.made = 0

    async def plan_step(self, task, cost):
        random = Random(f"{self.seed} {task.words} {canonical(dict(task.given))}")
        if random.randrange(6) == 0:
            raise PlanningFailed("no", outcome=Cannot("no"))
        self.made += 1
        names = [f"inputs.{name}" for name in task.given]
        inner = {
            "inputs": {"x": NUMBER},
            "steps": [{"id": "i", "tool": random.choice(task.tools), "args": {"n": "${inputs.x}"}}],
            "output": "${i}",
        }
        steps = []
        for number in range(random.randint(1, 4)):
            value = random.choice(
                [random.randint(0, 9), *(f"${{{name}}}" for name in names), *map(int, task.given.values())]
            )
            kind = random.randrange(5)
            if kind == 0:
                step = {"plan": "inner", "args": {"x": value}}
            elif kind == 1 and names:
                step = {"set": f"${{{random.choice(names)} + 1}}"}
            else:
                step = {"tool": random.choice(task.tools), "args": {"n": value}}
            if random.randrange(4) == 0 and names:
                step["when"] = f"${{{random.choice(names)} % 2 == 0}}"
            step["id"] = f"s{number}"
            steps.append(step)
            names.append(step["id"])
        return Plan.model_validate(
            {
                "firmplan": 1,
                "inputs": dict.fromkeys(task.given, NUMBER),
                "plans": {"inner": inner},
                "steps": steps,
                "output": f"${{first({random.choice(names)}, 0)}}",
            }
        )


def a_plan(random):
    """Return a plan with one to three `plan_for` steps among reads and writes."""
    steps = [{"id": "w", "tool": "look", "args": {"n": 1}}, {"id": "k", "tool": "known", "args": {"n": 2}}]
    names = ["w", "k"]
    for number in range(random.randint(2, 6)):
        value = f"${{{random.choice(names)}}}"
        if random.randrange(2) == 0:
            tools = random.sample(sorted(TOOLS), random.randint(2, 6))
            given = {f"g{at}": f"${{{random.choice(names)}}}" for at in range(random.randint(0, 2))}
            step = {"plan_for": "Do as you like", "given": given, "tools": tools, "returns": NUMBER}
            step["max_steps"] = 9
        else:
            step = {"tool": random.choice(sorted(TOOLS)), "args": {"n": random.choice([value, 3])}}
        step["id"] = f"p{number}"
        if random.randrange(3) == 0:
            step["for_each"] = random.choice(["${[1, 2, 3]}", "${range(" + random.choice(names) + " % 3)}"])
            holder = step.get("given", step.get("args"))
            holder[next(iter(holder), "g0")] = "${item}"
            steps.append(step)
            summed = {"id": f"sum{number}", "set": f"${{sum(p{number})}}"}
            steps.append(summed)
            names.append(summed["id"])
            continue
        if random.randrange(3) == 0:
            step["when"] = f"${{{random.choice([*names, 'w'])} % 2 == 0}}"
        if random.randrange(4) == 0:
            step["on_error"] = {"value": 7}
        if random.randrange(5) == 0:
            step["after"] = [random.choice(steps)["id"]]
        steps.append(step)
        names.append(step["id"])
    return {"firmplan": 1, "steps": steps, "output": 1}


async def writes_of(salt, plan, planner):
    world = World(salt)
    tools = [world.tool(name) for name in TOOLS]
    async with Rig(tools, flow="strict", step_planner=planner) as rig:
        run = await rig.run(plan, reuse="off")
        asked = planner.made
        assert (await rig.execution.replays.replay(run.id, keep=False)).digest == run.digest
        assert planner.made == asked
        blocked = {path for path, view in run.steps.items() if view.reason == "blocked"}
        return sorted(world.writes), blocked


@pytest.mark.parametrize("seed", seeds(3_000, sampled=30))
def test_untrusted_data_decides_no_write_by_way_of_a_planner(seed):
    random = Random(seed)
    plan = Plan.model_validate(a_plan(random))
    salts = random.sample(range(10), 2)
    (first, blocked), (second, others) = (
        asyncio.run(writes_of(salt, plan, HostilePlanner(seed))) for salt in salts
    )
    if blocked == others:
        assert first == second, plan.to_json()


class Fixed:
    """A planner that answers by the first given value, or with its only sub-plan."""

    made = 0

    def __init__(self, *plans):
        self.plans = plans

    async def plan_step(self, task, cost):
        steps = self.plans[next(iter(task.given.values()), 0)]
        inputs = dict.fromkeys(task.given, NUMBER)
        return Plan.model_validate({"firmplan": 1, "inputs": inputs, "steps": steps, "output": "${s}"})


PAY = [{"id": "s", "tool": "pay", "args": {"n": 5}}]
KEEP = [{"id": "a", "tool": "look", "args": {"n": 1}}, {"id": "s", "tool": "log", "args": {"n": "${a}"}}]
FETCH = [{"id": "a", "tool": "note", "args": {"n": 1}}, {"id": "s", "tool": "pay", "args": {"n": "${a}"}}]
LOOK = {"id": "w", "tool": "look", "args": {"n": 1}}
PART = {"id": "p", "plan_for": "x", "returns": NUMBER, "tools": ["look", "log", "note", "pay"]}


@pytest.mark.parametrize(
    ("planner", "steps"),
    [
        (Fixed(PAY), [LOOK, {**PART, "when": "${w % 2 == 0}"}]),
        (Fixed(PAY), [LOOK, {**PART, "for_each": "${range(w % 2)}"}]),
        (Fixed(KEEP, FETCH), [{**PART, "for_each": "${[0, 1]}", "given": {"g": "${item}"}}]),
        (
            Fixed(KEEP, FETCH),
            [
                {**PART, "given": {"g": 0}},
                {**PART, "id": "q", "given": {"g": 1}, "tools": ["note", "pay"], "after": ["p"]},
            ],
        ),
    ],
    ids=["when", "for_each", "through the world between items", "through the world between steps"],
)
def test_each_way_around_a_sub_plan_is_closed(planner, steps):
    plan = Plan.model_validate({"firmplan": 1, "steps": steps, "output": 1})
    first, second = (asyncio.run(writes_of(salt, plan, planner))[0] for salt in (1, 2))
    assert first == second
