"""Small plans of every shape, from a seed or for Hypothesis: tools of three effects, items, conditions, order, failures, sub-plans.

Steps are drawn in an order in which each may refer to the earlier ones, then put into the list in any order: program order is
the engine's to find. Numbers ending in 3 make a tool fail, so that failures are part of the plan and not of the moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

from firmplan.errors import ToolError
from firmplan.tools import Context, Tool
from hypothesis import strategies as st

TOOLS = {
    "double": ("pure", "world"),
    "look_a": ("read", "a"),
    "look_b": ("read", "b"),
    "look": ("read", "world"),
    "put_a": ("write", "a"),
    "put_b": ("write", "b"),
    "put": ("write", "world"),
}
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def answer(name: str, x: int) -> int:
    """What each tool does: a function of its argument, or a failure."""
    if x % 10 == 3:
        raise ToolError(f"{name} does not like {x}")
    return 2 * x + len(name)


ORACLE_TOOLS = {
    name: ((lambda x, name=name: _or_failed(name, x)), effect, resource)
    for name, (effect, resource) in TOOLS.items()
}


def _or_failed(name: str, x: int) -> int:
    from oracle import Failed

    try:
        return answer(name, x)
    except ToolError as fault:
        raise Failed from fault


@dataclass
class Recorder:
    """What the tools do beside answering: each call is noted as it starts and as it ends, with `pause` awaited between."""

    log: list[tuple[str, str, str, Any]] = field(default_factory=list)
    pause: Callable[[str], Awaitable[None]] | None = None


RECORDER: ContextVar[Recorder] = ContextVar("recorder")


def _make(name: str, effect: str, resource: str) -> Tool:
    async def called(x: int, ctx: Context) -> int:
        recorder = RECORDER.get()
        recorder.log.append(("start", name, ctx.step, {"x": x}))
        try:
            if recorder.pause is not None:
                await recorder.pause(ctx.step)
            return answer(name, x)
        finally:
            recorder.log.append(("end", name, ctx.step, {"x": x}))

    returns = {"type": "integer"}
    return Tool.from_callable(
        called, name=name, parameters=PARAMETERS, returns=returns, effect=effect, resource=resource, version=1
    )


RECORDING_TOOLS = [_make(name, effect, resource) for name, (effect, resource) in TOOLS.items()]


@dataclass(frozen=True)
class Known:
    """An earlier step: its id, and whether its value is a list."""

    id: str
    is_list: bool


def _number(random: Random, known: list[Known]) -> str:
    """Draw an expression whose value is an integer, unless it faults."""
    k = random.randint(0, 9)
    options = [str(k), "inputs.n"]
    for step in [random.choice(known) for _ in range(random.randint(0, 2))] if known else []:
        if step.is_list:
            options += [f"len({step.id}) + {k}", f"sum({step.id})", f"sum(first({step.id}, [{k}]))"]
        else:
            options += [f"{step.id} + {k}", f"first({step.id}, {k})", f"12 // ({step.id} % 4)"]
            options += [f"first({step.id})", f"{step.id} - first({step.id}, {k})"]
    return random.choice(options)


def _items(random: Random, known: list[Known]) -> str:
    lists = [step.id for step in known if step.is_list]
    made = "[" + ", ".join(_number(random, known) for _ in range(random.randint(0, 3))) + "]"
    return random.choice([made, *lists])


def _step(random: Random, name: str, known: list[Known], plans: list[str]) -> dict[str, Any]:
    step: dict[str, Any] = {"id": name}
    is_each = random.randint(0, 3) == 3
    number = f"item + {random.randint(0, 4)}" if is_each else _number(random, known)
    match random.choice(["tool", "tool", "tool", "set", "plan" if plans else "tool"]):
        case "tool":
            step |= {"tool": random.choice(sorted(TOOLS)), "args": {"x": f"${{{number}}}"}}
        case "set":
            step |= {"set": f"${{{number}}}"}
        case _:
            step |= {"plan": random.choice(plans), "args": {"n": f"${{{number}}}"}}
    if is_each:
        step["for_each"] = f"${{{_items(random, known)}}}"
    if random.randint(0, 3) == 0:
        is_filter = is_each and random.randint(0, 1) == 1
        tested = f"item % {random.randint(1, 3)}" if is_filter else _switch(random, known)
        step["when"] = f"${{{tested} == 0}}"
    if known and random.randint(0, 3) == 0:
        step["after"] = random.sample([each.id for each in known], min(len(known), random.randint(1, 2)))
    if random.randint(0, 2) == 0:
        step["on_error"] = random.choice(["skip", {"value": 7}])
    return step


def _switch(random: Random, known: list[Known]) -> str:
    """Draw a number that has no fault: what a fault in a condition does is tested by itself."""
    k = random.randint(0, 1)
    safe = [f"first({each.id}, {k}) % 2" for each in known if not each.is_list]
    safe += [f"len({each.id})" for each in known if each.is_list]
    safe += [f"{each.id} % 2" for each in known if not each.is_list]
    return random.choice([str(k), *safe])


def _steps(
    random: Random, count_max: int, plans: list[str], letter: str
) -> tuple[list[dict[str, Any]], list[Known]]:
    known: list[Known] = []
    steps: list[dict[str, Any]] = []
    for number in range(random.randint(1, count_max)):
        step = _step(random, f"{letter}{number}", known, plans)
        steps.append(step)
        known.append(Known(step["id"], "for_each" in step))
    return random.sample(steps, len(steps)), known


def small_plan(random: Random, count_max: int = 7) -> dict[str, Any]:
    """Draw a plan as a dict; its one input is the integer `n`."""
    plan: dict[str, Any] = {"firmplan": 1, "inputs": {"n": {"type": "integer"}}}
    inner: list[str] = []
    if random.randint(0, 1) == 1:
        steps, known = _steps(random, 3, [], "i")
        plan["plans"] = {
            "inner": {
                "inputs": {"n": {"type": "integer"}},
                "steps": steps,
                "output": f"${{{_output(random, known)}}}",
            }
        }
        inner = ["inner"]
    steps, known = _steps(random, count_max, inner, "s")
    return {**plan, "steps": steps, "output": f"${{{_output(random, known)}}}"}


@st.composite
def small_plans(draw: Any, count_max: int = 7) -> dict[str, Any]:
    """Draw a plan as `small_plan` does, each choice being one of Hypothesis, which shrinks what fails."""
    return small_plan(draw(st.randoms(use_true_random=False)), count_max)


def _output(random: Random, known: list[Known]) -> str:
    numbers = [f"first({each.id}, 5)" for each in known if not each.is_list]
    return random.choice(["0", *numbers])
