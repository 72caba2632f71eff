"""Four tasks that fail with a plan of fixed calls, and what rescues each: an agent step, a question, a patch, a patch that asks.

The scripted models know no answer. They read it: from the results that an agent gets, from the user's answer in the prompt, from the report of a failed
run. Each rescue stands beside the run that fails without it, and replays without a model.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from firmplan import Engine, Planner, ToolError, tool
from firmplan.testing import ScriptedModel, unmarked
from firmplan.tools import Model

NOTES = {
    "start": "The code was moved, see: attic",
    "attic": "Only half of it is here, see: box-7",
    "box-7": "code 4711",
}
PEOPLE = {"A-1": "Ann Lee", "A-2": "Ann Wu"}
PAID: list[tuple[str, int]] = []


@tool(effect="read", isolation="inline")
def read_note(name: str) -> str:
    """Read a note by its name."""
    return NOTES[name]


@tool(effect="read", isolation="inline")
def people() -> list[str]:
    """List the numbers of people."""
    return sorted(PEOPLE)


@tool(effect="write", isolation="inline")
def pay(person: str, amount: int) -> str:
    """Pay somebody."""
    if person not in PEOPLE:
        known = ", ".join(f"{number} is {name}" for number, name in PEOPLE.items())
        raise ToolError(f"nobody has the number {person!r}: {known}", code="unknown-person")
    PAID.append((person, amount))
    return f"paid {PEOPLE[person]}"


TOOLS = [read_note, people, pay]


def plan_of(*steps: dict[str, Any], output: Any = "${x}") -> dict[str, Any]:
    return {"firmplan": 1, "steps": [*steps], "output": output}


def rescued(task, answer, *, replan=0, work=None):
    """Run a task with a scripted model for planner and steps; return the run, after `work` on it, and the number of requests."""
    PAID.clear()

    async def main():
        async with ScriptedModel(answer) as model:
            models = {"default": Model("m", base_url=model.base_url)}
            planner = Planner("m", base_url=model.base_url)
            async with Engine(TOOLS, store="memory:", planner=planner, models=models) as engine:
                run = await engine.run(task, replan=replan)
                if work is not None:
                    run = await work(engine, run)
                asked = len(model.requests)
                if run.status in ("succeeded", "failed"):
                    assert (await engine.replay(run.id)).digest == run.digest
                assert len(model.requests) == asked, "a replay asks no model"
                return run, asked

    return asyncio.run(main())


def is_for_plan(request):
    return request["messages"][0]["content"].startswith("You turn a task into a plan")


def is_for_patch(request):
    return request["messages"][0]["content"].startswith("A plan ran")


def last_words(request):
    return unmarked(request["messages"][-1]["content"])


# --- an agent step

CODE = {"type": "string"}
FIXED = plan_of(
    {"id": "note", "tool": "read_note", "args": {"name": "start"}},
    {"id": "found", "set": '${search(r"code (?P<code>\\d+)", note)}'},
    {"id": "none", "fail": "the note has no code", "when": "${found is None}"},
    output='${get(found, "code", "")}',
)
AGENT = plan_of(
    {
        "id": "x",
        "agent": {
            "goal": "Find the code. Begin with the note 'start'.",
            "tools": ["read_note"],
            "returns": CODE,
            "max_steps": 5,
        },
    }
)


def finder(plan):
    """Return a model that plans so, and that as an agent reads on where a note points to another."""

    def answer(request):
        if is_for_plan(request):
            return plan
        words = json.dumps(request["messages"][1:])
        if code := re.search(r"code (\d+)", words):
            return {"reasoning": "There it is.", "answer": code[1]}
        pointed = re.findall(r"see: ([\w-]+)", words)
        name = pointed[-1] if pointed else "start"
        return {"reasoning": "On.", "call": {"tool": "read_note", "args": {"name": name}}}

    return answer


def test_an_agent_step_rescues_a_task_whose_next_call_depends_on_what_is_read():
    """Three notes, of which each names the next: no plan of fixed calls finds the code."""
    failed, _ = rescued("What is the code?", finder(FIXED))
    assert (failed.status, failed.errors[0].message) == ("failed", "the note has no code")
    run, _ = rescued("What is the code?", finder(AGENT))
    assert (run.status, run.output) == ("succeeded", "4711")


# --- a question of the planner


def payer(request, *, asks):
    """Pay whom the user has named in an answer; else ask, or guess."""
    named = re.search(r"-> \"(A-\d)\"", last_words(request).partition("# What the user answered")[2])
    if named is None and asks:
        returns = {"type": "string", "enum": sorted(PEOPLE)}
        return {
            "firmplan": 1,
            "steps": [],
            "question": {"text": "Which Ann: A-1 or A-2?", "returns": returns},
        }
    who = "Ann" if named is None else named[1]
    return plan_of({"id": "x", "tool": "pay", "args": {"person": who, "amount": 5}})


def test_a_question_rescues_a_task_that_only_its_user_can_make_clear():
    """Two people fit; the planner asks, the answer stands in its next prompt, and one of them is paid once."""
    failed, _ = rescued("Pay Ann 5 euros", lambda request: payer(request, asks=False))
    assert (failed.status, failed.errors[0].code, PAID) == ("failed", "unknown-person", [])

    async def answered(engine, run):
        assert (run.status, run.question["text"]) == ("waiting", "Which Ann: A-1 or A-2?")
        await engine.answer(run.id, None, "A-2", by="eve")
        return await engine.resume(run.id)

    run, asked = rescued("Pay Ann 5 euros", lambda request: payer(request, asks=True), work=answered)
    assert (run.status, run.output, PAID, asked) == ("succeeded", "paid Ann Wu", [("A-2", 5)], 2)


# --- a patch


def mender(request):
    """Plan with a name for a number; patch with the number that the report of the failure has for the name."""
    if is_for_plan(request):
        return plan_of({"id": "x", "tool": "pay", "args": {"person": "Ann Wu", "amount": 7}})
    assert is_for_patch(request)
    number = re.search(r"why: .*?(A-\d) is Ann Wu", last_words(request))[1]
    return {"operations": [{"op": "set", "step": "x", "at": "args.person", "value": number}]}


def test_a_patch_rescues_a_run_whose_error_says_what_was_wrong():
    """The message of the tool has the number; the payment that did not happen is made once, with it."""
    failed, _ = rescued("Pay Ann Wu 7 euros", mender)
    assert (failed.status, PAID) == ("failed", [])
    run, asked = rescued("Pay Ann Wu 7 euros", mender, replan=1)
    assert (run.status, run.output, PAID, asked) == ("succeeded", "paid Ann Wu", [("A-2", 7)], 2)


def asking_mender(request):
    """Plan with a name that two people have; patch by a question to the user, with the choices that the error names."""
    if is_for_plan(request):
        return plan_of({"id": "x", "tool": "pay", "args": {"person": "Ann", "amount": 9}})
    choices = re.findall(r"(A-\d) is", last_words(request))
    ask = {"id": "who", "ask_person": "Which Ann?", "returns": {"type": "string", "enum": choices}}
    return {
        "operations": [
            {"op": "add", "step": ask, "before": "x"},
            {"op": "set", "step": "x", "at": "args.person", "value": "${who}"},
        ]
    }


def test_a_patch_that_asks_the_user_rescues_a_run():
    """The patched run waits for the answer, and pays whom it names."""

    async def answered(engine, run):
        assert run.status == "waiting"
        await engine.answer(run.id, "who", "A-1", by="eve")
        return await engine.resume(run.id)

    run, _ = rescued("Pay Ann 9 euros", asking_mender, replan=1, work=answered)
    assert (run.status, run.output, PAID) == ("succeeded", "paid Ann Lee", [("A-1", 9)])
    failed, _ = rescued("Pay Ann 9 euros", asking_mender)
    assert (failed.status, PAID) == ("failed", [])
