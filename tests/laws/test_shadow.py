"""What a shadow run says would be otherwise is what is otherwise: held against a real run of the plan with the other model.

Where everything is determined (tools and models answer by what they are asked), the other run is the truth.
"""

from __future__ import annotations

import json
from hashlib import sha256
from random import Random

import pytest
from firmplan import Engine, InputRejected, ToolError, check, tool
from firmplan.plans.edit.differences import differences
from firmplan.testing import MemoryStore, Refusal, ScriptedModel
from public import within
from seeds import seeds

WORDS = ["sun", "wind", "rain", "snow", "fog", "heat", "cold", "mild", "storm", "calm"]
RESULTS = {"t": "x", "l": ["x"], "i": 0}  # of a handled failure, by kind of value
MADE: list[tuple[str, str]] = []


def number(*parts: object) -> int:
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:6])


@tool(effect="pure")
def count(text: str) -> int:
    """Count words; storms fail."""
    if "storm" in text:
        raise ToolError("storm")
    return len(text.split())


@tool(effect="pure")
def parts(text: str) -> list[str]:
    """Divide a text."""
    return text.split()


@tool(effect="read", resource="web")
def look(text: str) -> str:
    """Say something about a text, or fail."""
    MADE.append(("look", text))
    if number("look", text) % 7 == 0:
        raise ToolError("none")
    return f"{WORDS[number(text) % 10]} {WORDS[number(text, 1) % 10]}"


@tool(effect="write", resource="box")
def put(text: str) -> str:
    """Change something, or fail."""
    MADE.append(("put", text))
    if number("put", text) % 9 == 0:
        raise ToolError("full")
    return f"ok {text[:5]}"


TOOLS = [count, parts, look, put]
KINDS = {
    "ask": "t",
    "list": "l",
    "count": "i",
    "parts": "l",
    "look": "t",
    "put": "t",
    "set": "t",
    "plan": "t",
}


class Plans:
    """Draws plans in which much depends on what models say."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def drawn(self, *, names=(), is_inner=False):
        random = self.random
        known = {"t": [f"inputs.{name}" for name in names], "l": [], "i": []}
        steps, plans = [], {}
        for at in range(random.randint(1, 3) if is_inner else random.randint(3, 7)):
            step = {"id": f"s{at}"}
            kind = random.choice([each for each in KINDS if not (is_inner and each == "plan")])
            looped = kind != "set" and bool(known["l"]) and random.random() < 0.35
            text = f"${{{random.choice(known['t'])}}}" if known["t"] else random.choice(WORDS)
            given = "${item}" if looped else text
            if kind == "ask":
                step["ask"] = {"prompt": f"s{at} about {given}"}
            elif kind == "list":
                returns = {"type": "array", "items": {"type": "string"}}
                step["ask"] = {"prompt": f"s{at} list {given}", "returns": returns}
            elif kind == "set":
                step["set"] = f"{text}!"
            elif kind == "plan":
                plans[f"p{at}"] = {
                    "inputs": {"x": {"type": "string"}},
                    **self.drawn(names=("x",), is_inner=True),
                }
                step |= {"plan": f"p{at}", "args": {"x": given}}
            else:
                step |= {"tool": kind, "args": {"text": given}}
            if looped:
                step["for_each"] = f"${{{random.choice(known['l'])}}}"
            if known["i"] and random.random() < 0.25:
                step["when"] = f"${{{random.choice(known['i'])} > 1}}"
            if kind != "set" and random.random() < 0.4:
                step["on_error"] = random.choice(["skip", {"value": RESULTS[KINDS[kind]]}])
            steps.append(step)
            if not looped:
                known[KINDS[kind]].append(step["id"])
        made = {"steps": steps, "output": f"${{{known['t'][-1]}}}" if known["t"] else "none"}
        return made | ({"plans": plans} if plans else {})


def model(salt, *, refuses):
    """Answer by what is asked; the two models agree on some questions, and refuse some."""

    def reply(request):
        asked = request["messages"][-1]["content"]
        drawn = number(salt if number(asked) % 3 else 0, asked)
        if refuses and drawn % 7 == 0:
            return Refusal("no")
        words = [WORDS[(drawn >> (4 * at)) % 10] for at in range(1 + drawn % 3)]
        return words if "list" in asked else " ".join(words)

    return reply


async def told_and_true(seed):
    """Return a plan, its run, what the shadow says of it, and the run with the other model; `None`: it asks no model."""
    random = Random(seed)
    plan, refuses = {"firmplan": 1, **Plans(random).drawn()}, random.random() < 0.5
    if not check(plan, TOOLS).ok:
        return None
    store, other = MemoryStore(), MemoryStore()
    await store.open()
    await other.open()
    try:
        async with (
            ScriptedModel(model(1, refuses=refuses)) as old,
            ScriptedModel(model(2, refuses=refuses)) as new,
        ):
            first, second = ({"name": "m", "base_url": each.base_url} for each in (old, new))
            engine = Engine(TOOLS, store=store, models={"default": first})
            run = await engine.run(plan)
            made = len(MADE)
            same = await engine.shadow(run.id, model=first)
            report = await engine.shadow(run.id, model=second)
            assert len(MADE) == made, "a shadow run reads and writes nothing"
            assert not same, f"the same model changes nothing: {same}"
            return plan, run, report, await Engine(TOOLS, store=other, models={"default": second}).run(plan)
    except InputRejected:
        return None
    finally:
        await store.close()
        await other.close()


@pytest.mark.sweep
@pytest.mark.parametrize("seed", seeds(2000, sampled=15))
def test_what_a_shadow_run_says_is_true(seed):
    """Steps that it calls the same are the same, changed ones come out as it says, gone ones are not there; the rest is unknown."""
    found = within(told_and_true(seed))
    if found is None:
        return
    plan, run, report, true = found
    asked, effects = {each.step for each in report.answers}, {each.step: each for each in report.effects}
    is_known = report.status[1] != "unknown"
    for path in dict.fromkeys([*run.steps, *true.steps]):
        before, after, effect = run.steps.get(path), true.steps.get(path), effects.get(path)
        if path in asked:
            continue
        what = f"{path} in {json.dumps(plan)}:\n{report}"
        if effect is None:
            is_same = before and after and (before.status, before.output) == (after.status, after.output)
            assert is_same or (before is None and not is_known), what
        elif effect.kind == "gone":
            assert after is None, what
        elif effect.kind == "changed":
            assert after is not None, what
            assert effect.places == differences(before.output if before else None, after.output), what
            assert effect.places or before is None or before.status != after.status, what
        else:
            assert not is_known, what
    if is_known:
        assert report.status[1] == true.status
        assert report.output == differences(run.output, true.output)
