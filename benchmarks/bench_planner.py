"""What firmplan adds to a planning, the model's time apart: prompt, schema, client, parsing, check.

    python benchmarks/bench_planner.py

A scripted model in a process of its own answers at once with a plan of 20 steps; 30 tools are shown, or chosen from by a request of
its own first. The same requests are also posted by a bare HTTP client, and what that takes is the model's time and the wire's; the difference of the medians is what
firmplan adds. Both the wall's time and this process's processor time are shown. The limit of 30 ms is held against processor
time, which other work on the machine changes little; on a machine with nothing else to do the two are alike. Exits with 1 if
it is over. The parts are timed by themselves below it. The libraries are loaded by a first planning that is not counted: that takes half a second,
once in a process.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from firmplan import Planner, Toolset, check, tool
from firmplan.planner.drafting.draft import plan_in
from firmplan.planner.drafting.form import plan_answer
from firmplan.planner.drafting.prompt import planning_messages
from firmplan.planner.drafting.tool_choice import choose_tools
from firmplan.planner.request import PlanRequest

TOOLS = 30
STEPS = 20
ROUNDS = 40
LIMIT_S = 0.030
TASK = "Compare the weather in many cities and say where it is warmest"


def main() -> int:
    """Print the table; return the exit code."""
    tools, plan = Toolset([numbered(each) for each in range(TOOLS)]), plan_of(STEPS)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "plan.json"
        choice = {"reasoning": "All of them.", "tools": [tool.name for tool in tools]}
        exchanges = [
            {"match": "You choose tools", "reply": choice, "always": True},
            {"match": "# Task", "reply": plan, "always": True},
        ]
        recording.write_text(json.dumps({"recording": 1, "exchanges": exchanges}))
        words = [sys.executable, "-m", "firmplan.testing.scripted_model", str(recording)]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            base_url = server.stdout.readline().strip()
            shown_all = asyncio.run(plannings(base_url, tools, choose_over=None))
            chosen = asyncio.run(plannings(base_url, tools, choose_over=TOOLS - 1))
        finally:
            server.terminate()
            server.communicate()
    print(f"{STEPS} steps, {TOOLS} tools, {ROUNDS} rounds; medians (least) in ms")
    processor = told(*shown_all)
    print("with a choice among the tools first: two requests")
    told(*chosen)
    print("parts of a planning")
    for name, taken in parts(tools, plan):
        print(f"  of that: {name:<17} {shown(taken)}")
    return 1 if processor > LIMIT_S else 0


def told(whole, wire):
    """Print what plannings and their requests alone took; return the processor seconds that firmplan adds."""
    wall, processor = (
        statistics.median(one[at] for one in whole) - statistics.median(one[at] for one in wire)
        for at in (0, 1)
    )
    for name, at in (("wall", 0), ("processor", 1)):
        print(f"  planning, {name:<17}{shown([one[at] for one in whole])}")
        print(f"  requests bare, {name:<12}{shown([one[at] for one in wire])}")
    print(f"  firmplan adds, wall        {wall * 1000:6.1f}")
    print(f"  firmplan adds, processor   {processor * 1000:6.1f}          (limit {LIMIT_S * 1000:.0f})")
    return processor


async def plannings(base_url, tools, *, choose_over):
    """Return wall and processor seconds of whole plannings, and of their requests alone."""
    planner, whole, wire = Planner("m", base_url=base_url, choose_over=choose_over), [], []
    bodies = await bodies_of(planner, tools)
    for _ in range(ROUNDS):
        begun = now()
        planned = await planner.plan(TASK, tools)
        whole.append(since(begun))
        assert len(planned.plan.steps) == STEPS
        begun = now()
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            for body in bodies:
                (await client.post(f"{base_url}/chat/completions", json=body)).raise_for_status()
        wire.append(since(begun))
    return whole, wire


def now():
    """Return wall and processor time."""
    return time.perf_counter(), time.process_time()


def since(begun):
    """Return what has passed of both."""
    return tuple(after - before for before, after in zip(begun, now(), strict=True))


async def bodies_of(planner, tools):
    """Return the requests of a planning, after a first planning that loads the libraries."""
    await planner.plan(TASK, tools)
    preview = planner.preview(TASK, tools)
    asked = [("plan", preview.messages, preview.schema)]
    if preview.choice is not None:
        asked.insert(0, ("choice", preview.choice.messages, preview.choice.schema))
    return [
        {
            "model": "m",
            "messages": [message.to_dict() for message in messages],
            "tools": [{"type": "function", "function": {"name": name, "parameters": schema}}],
            "tool_choice": {"type": "function", "function": {"name": name}},
        }
        for name, messages, schema in asked
    ]


def parts(tools, plan):
    """Yield name and times of firmplan's own parts."""
    every = list(tools)
    text, request = json.dumps(plan), PlanRequest(TASK, Toolset(every), {})
    yield "prompt", timed(lambda: planning_messages(request, choose_tools(TASK, every)))
    yield "schema", timed(lambda: plan_answer(every))
    yield "parse", timed(lambda: plan_in(plan_answer([])[0].read(text), TASK))
    yield "check", timed(lambda: check(plan, tools))


def timed(work):
    """Return the times of some rounds, in seconds."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return taken


def shown(taken):
    """Return median and least."""
    return f"{statistics.median(taken) * 1000:6.1f} ({min(taken) * 1000:5.1f})"


def numbered(number):
    """Return one tool of many, with four arguments."""

    def look_up(
        city: str, day: int = 1, units: str = "metric", tags: list[str] | None = None
    ) -> dict[str, float]:
        """Look up what the weather is like in a city on a day."""
        return {city: float(day), units: float(len(tags or ""))}

    return tool(look_up, effect="read", name=f"look_up_{number}")


def plan_of(steps):
    """Return a plan of so many steps, each after the first with an expression."""
    every = [
        {
            "id": f"s{number}",
            "tool": f"look_up_{number}",
            "args": {"city": "Rome" if not number else f"${{'warm' if len(s{number - 1}) > 3 else 'cold'}}"},
        }
        for number in range(steps - 1)
    ]
    every.append({"id": "last", "set": "${[" + ", ".join(f"len(s{n})" for n in range(steps - 1)) + "]}"})
    return {"firmplan": 1, "steps": every, "output": "${max(last)}"}


if __name__ == "__main__":
    sys.exit(main())
