"""A law: whoever is no reader of private data learns nothing of it from the arguments that he gets, and an egress tool nothing from its calls either.

Two runs of one random plan differ in the private value alone. The plans pass no check, so the engine decides at each call. No tool writes: a write that is refused
blocks later effects on its resource, and the order of effects is no control (docs/PLAN_FORMAT.md).
"""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
from firmplan import Context, tool
from hypothesis import event, given
from rig import Rig, plan_of
from seeds import examples

VALUES = ("4711", "15")


class World:
    """A vault with a value, and what was sent, by tool and step."""

    def __init__(self, value):
        self.sent = {"note": {}, "search": {}, "fetch": {}}

        @tool(isolation="inline", effect="read", resource="vault", private=True)
        def vault() -> str:
            """Read what is private."""
            return value

        @tool(isolation="inline", effect="read", resource="facts")
        def fact() -> str:
            """Read what everybody may know."""
            return "47"

        @tool(isolation="inline", effect="pure")
        def shout(text: str) -> str:
            """Compute."""
            return text + "!"

        @tool(isolation="inline", effect="read", resource="notes")
        def note(text: str, *, ctx: Context) -> str:
            """Keep a note."""
            self.sent["note"][ctx.step] = text
            return "kept"

        @tool(isolation="inline", effect="read", resource="index")
        def search(text: str, *, ctx: Context) -> str:
            """Search, at a service of others."""
            self.sent["search"][ctx.step] = text
            return "47 hits"

        @tool(isolation="inline", effect="read", resource="web", egress=("text",))
        def fetch(text: str, *, ctx: Context) -> str:
            """Get a page."""
            self.sent["fetch"][ctx.step] = text
            return "4 pages"

        self.tools = [vault, fact, shout, note, search, fetch]


def texts(names):
    """Yield strategies of templates with a text that mention names."""
    name = st.sampled_from(names)
    return st.one_of(
        st.just("constant"),
        name.map("${{{0}}}".format),
        name.map("is ${{{0}}}".format),
        name.map("${{first({0}, 'none')}}".format),
        name.map("${{'yes' if '7' in {0} else 'no'}}".format),
        name.map("${{first(search('(?P<digit>[0-9])', {0}).digit, 'none')}}".format),
        name.map("${{keys(count_by({0}[:2].split()))[-1] if {0}.strip() else ''}}".format),
        name.map("${{format({0}, '>20')}}".format),
        st.tuples(name, name).map(lambda two: f"${{{two[0]}}} and ${{{two[1]}}}"),
    )


def conditions(names):
    return st.sampled_from(names).flatmap(
        lambda name: st.sampled_from(
            [f"${{'7' in {name}}}", f"${{len({name}) > 3}}", f"${{int({name}) > 20}}"]
        )
    )


@st.composite
def steps_of(draw, names, plans=()):
    """Return random steps that mention each other, the names given, and some plans."""
    names, steps = list(names), []
    for number in range(draw(st.integers(2, 6))):
        step = {"id": f"s{number}"}
        inside = list(names)
        if draw(st.integers(0, 4)) == 0:
            step["for_each"] = draw(
                st.one_of(
                    st.just(["4", "7", "1"]),
                    st.sampled_from(names).map("${{{0}.split('7')}}".format),
                )
            )
            inside += ["item"]
        kind = draw(st.sampled_from(["set", "shout", "note", "search", "fetch", "fetch", "fails", *plans]))
        match kind:
            case "set":
                step["set"] = draw(texts(inside))
            case "fails":
                step["set"] = f"${{'x' * (10 // (int({draw(st.sampled_from(inside))}) - 15))}}"
            case "shout" | "note" | "search" | "fetch":
                step |= {"tool": kind, "args": {"text": draw(texts(inside))}}
            case name:
                step |= {"plan": name, "args": {"x": draw(texts(inside))}}
        if draw(st.integers(0, 3)) == 0:
            step["when"] = draw(conditions(inside))
        if draw(st.integers(0, 3)) == 0 and steps:
            step["after"] = [draw(st.sampled_from(steps))["id"]]
        if draw(st.integers(0, 2)) == 0:
            step["on_error"] = draw(st.sampled_from(["skip", {"value": "other"}]))
        if draw(st.integers(0, 7)) == 0 and "plan" not in step:
            step["repeat"] = {"until": f"${{'7' in {draw(st.sampled_from(names))}}}", "max": 2}
        steps.append(step)
        names += [step["id"]] * 2
    return steps, names


@st.composite
def plans(draw):
    inner = {}
    for name in draw(st.sampled_from([(), ("p",), ("p", "q")])):
        steps, names = draw(steps_of(["inputs.x"], tuple(inner)))
        inner[name] = {"inputs": {"x": {"type": "string"}}, "steps": steps, "output": draw(texts(names))}
    steps, names = draw(steps_of(["v", "v", "v", "k"], tuple(inner) * 2))
    first = [{"id": "v", "tool": "vault"}, {"id": "k", "tool": "fact"}]
    return plan_of(*first, *steps, plans=inner, output=draw(texts(names)))


async def sent_by(plan, value):
    world = World(value)
    async with Rig(world.tools, flow="strict") as rig:
        run = await rig.run(plan, "r")
    refused = {step.error.code for step in run.steps.values() if step.error is not None}
    return world.sent, refused & {"private-flow", "private-condition"}


@examples(100)
@given(plans())
def test_who_is_no_reader_learns_nothing(plan):
    one, other = (asyncio.run(sent_by(plan, value)) for value in VALUES)
    for code in sorted(one[1] | other[1]):
        event(code)
    event(f"sent {min(3, sum(map(len, one[0].values())))}")
    assert one[0]["fetch"] == other[0]["fetch"]
    for name in ("note", "search"):
        assert all(other[0][name].get(step, text) == text for step, text in one[0][name].items())
