"""A law: whatever plan an agent followed, what is learnt from its trace makes the same calls."""

from __future__ import annotations

import json

from firmplan import Plan, learn_from_trace, tool
from firmplan.testing import run_plan
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

LOG = []
NAMES = ("Ann Lee", "Bob Ray", "Cyd Moe", "Dan Poe")


class Person(BaseModel):
    id: int
    name: str
    email: str
    score: float


class Item(BaseModel):
    id: int
    title: str
    price: float
    is_open: bool
    kind: str


def logged(name, args, result):
    LOG.append((name, args, json.loads(json.dumps(result))))


@tool(effect="read", resource="people")
def find_person(name: str) -> Person:
    """Find a person."""
    number = sum(map(ord, name))
    made = Person(id=1000 + number, name=name, email=f"{name[:3].lower()}@example.org", score=number / 8)
    logged("find_person", {"name": name}, made.model_dump())
    return made


@tool(effect="read", resource="shop")
def list_items(owner_id: int, limit: int = 10) -> list[Item]:
    """List the items of a person."""
    made = [
        Item(id=owner_id * 10 + n, title=f"Item {chr(65 + n)}{owner_id}", price=(owner_id % 7 + n * n) * 1.25, is_open=n % 2 == 0, kind="tea" if n < 2 else "jam")
        for n in range(owner_id % 4 + 1)
    ]  # fmt: skip
    logged("list_items", {"owner_id": owner_id, "limit": limit}, [each.model_dump() for each in made])
    return made


@tool(effect="write", resource="shop")
def order(item_id: int, note: str = "") -> str:
    """Order an item."""
    made = f"ORD-{item_id}-{len(LOG)}"
    logged("order", {"item_id": item_id, "note": note}, made)
    return made


@tool(effect="write", resource="bank")
def pay(amount: float, reference: str) -> str:
    """Pay an amount."""
    logged("pay", {"amount": amount, "reference": reference}, "paid")
    return "paid"


@tool(effect="read", resource="shop")
def look(item_id: int) -> dict[str, str]:
    """Look at an item."""
    made = {"code": f"C-{item_id * 7}", "shelf": f"shelf {item_id % 5}"}
    logged("look", {"item_id": item_id}, made)
    return made


TOOLS = [find_person, list_items, order, pay, look]
TURN = {
    "inputs": {"element": {}, "name": {"type": "string"}},
    "steps": [
        {"id": "seen", "tool": "look", "args": {"item_id": "${inputs.element.id}"}},
        {"id": "done", "tool": "order", "args": {"item_id": "${inputs.element.id}", "note": "${seen.code}"}},
    ],
}


def hole(code):
    return f"${{{code}}}"


@st.composite
def agent_plans(draw):
    """Return a plan such as an agent follows, and the words of its task."""
    name = draw(st.sampled_from(NAMES))
    steps = [{"id": "p", "tool": "find_person", "args": {"name": "${inputs.name}"}}]
    owners, lists, refs = ["p.id"], [], ["p.email", "p.name"]
    if draw(st.booleans()):
        steps.append({"id": "q", "tool": "find_person", "args": {"name": draw(st.sampled_from(NAMES))}})
        owners.append("q.id")
        refs.append("q.name")
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["list", "order", "loop", "turn", "pay"]))
        step = {"id": f"s{number}"}
        if kind == "list" or not lists:
            step |= {"tool": "list_items", "args": {"owner_id": hole(draw(st.sampled_from(owners)))}}
            lists.append(step["id"])
        elif kind == "order":
            source = draw(st.sampled_from(lists))
            element = draw(
                st.sampled_from(
                    [
                        f"{source}[0]",
                        f"{source}[-1]",
                        f"min({source}, key=lambda x: x.price)",
                        f"[x for x in {source} if x.is_open][0]",
                    ]
                )
            )
            step |= {
                "tool": "order",
                "args": {
                    "item_id": hole(f"{element}.id"),
                    "note": draw(st.sampled_from(["", "gift", "for ${p.name}"])),
                },
            }
        elif kind == "loop":
            source = draw(st.sampled_from(lists))
            chosen = draw(
                st.sampled_from(
                    [
                        source,
                        f"[x for x in {source} if x.is_open]",
                        f'[x for x in {source} if x.kind == "tea"]',
                        f"{source}[:2]",
                    ]
                )
            )
            step |= {
                "tool": "order",
                "for_each": hole(chosen),
                "args": {
                    "item_id": "${item.id}",
                    "note": draw(st.sampled_from(["", "${item.title}", "${p.email}"])),
                },
            }
        elif kind == "turn":
            source = draw(st.sampled_from(lists))
            chosen = draw(st.sampled_from([source, f"[x for x in {source} if x.is_open]"]))
            step |= {
                "plan": "turn",
                "for_each": hole(chosen),
                "args": {"element": "${item}", "name": "${p.name}"},
            }
        else:
            source = draw(st.sampled_from(lists))
            amount = draw(
                st.sampled_from(
                    [
                        f"sum(x.price for x in {source})",
                        f"{source}[0].price",
                        "p.score",
                        f"p.score + {source}[-1].price",
                    ]
                )
            )
            step |= {
                "tool": "pay",
                "args": {"amount": hole(amount), "reference": hole(draw(st.sampled_from(refs)))},
            }
        steps.append(step)
    task = f"Look after {name} and the tea items"
    return {"firmplan": 1, "inputs": {"name": {"type": "string", "default": name}}, "steps": steps, "plans": {"turn": TURN}}, task, draw(st.booleans())  # fmt: skip


def traced(task, log, *, is_parallel):
    """Return the chat of an agent that made these calls, one a turn, or calls of one tool together."""
    messages = [{"role": "user", "content": task}]
    for number, (name, args, result) in enumerate(log):
        call = {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(args)},
        }
        answer = {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps(result)}
        joins = is_parallel and name == "order" and number and log[number - 1][0] == "order"
        if joins:
            at = next(at for at in range(len(messages) - 1, -1, -1) if messages[at]["role"] == "assistant")
            messages[at]["tool_calls"].append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append(answer)
    return messages


@given(agent_plans())
def test_the_learnt_plan_makes_the_calls_of_the_plan_that_made_the_trace(made):
    """A plan is run, its calls become a trace, and the plan that is learnt from it makes these calls: rehearsed, and with the real tools."""
    plan, task, is_parallel = made
    LOG.clear()
    assert run_plan(Plan.model_validate(plan), TOOLS).status == "succeeded"
    log = [*LOG]
    messages = traced(task, log, is_parallel=is_parallel)
    learned = learn_from_trace(messages, TOOLS)
    assert learned.ok, str(learned)
    assert learn_from_trace(messages, TOOLS).to_dict() == learned.to_dict()
    learnt = learned.plan.to_dict()
    if any("ask" in step for part in [learnt, *learnt.get("plans", {}).values()] for step in part["steps"]):
        return  # there is no model here
    LOG.clear()
    assert run_plan(learned.plan, TOOLS).status == "succeeded"
    again = [each[:2] for each in LOG]
    assert [each[:2] for each in log if each[0] in ("order", "pay")] == [
        each for each in again if each[0] in ("order", "pay")
    ]
    # Reads that nothing used are left out.
    assert [each for each in again if each not in [other[:2] for other in log]] == []
