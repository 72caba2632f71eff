"""What starting early is worth: time to the first step, and to the end, against a plan that is written first and run then.

    python benchmarks/bench_streaming.py

A scripted model writes at the pace of a real one, over HTTP; tools take as long as searches, pages and prompts do. Each plan
of the mix is run both ways: `run(task)` and `run(task, stream=True)`. An answer that is not streamed comes once all of it would have been written.
Everything is `SPEED` times faster than in life, so that what firmplan adds weighs more and not less. Beside each plan stands the bound: what
starting each step the moment it is written would bring if nothing but writing and calls took time. What is measured may pass it a little, since
what the client and the store take is hidden behind the writing, too. Exits with 1 if the mix is not 1.5 times faster, or if a first step starts
after a quarter of its plan has come.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

from firmplan import Engine, Plan, Planner, tool
from firmplan.testing import Paced, ScriptedModel

SPEED = 3
TOKENS_PER_S = 70.0
"""Of models of the middle size at hosted endpoints; larger ones are slower, and gain more."""
TOKENS_A_CHUNK = 4
ROUNDS = 3
LIMIT = 1.5
SHARE_MAX = 0.25
SECONDS = {"search": 0.8, "fetch": 1.2, "extract": 1.5, "lookup": 0.3, "query": 4.0, "send": 0.5}
"""What a call takes: a search, a page, a prompt, an internal service, a warehouse, a mail."""


OWN: list[tuple[float, float]] = []
"""Of each run that started early, seconds (of this machine) until the model was asked, and from the last word or result to the end."""


@dataclass
class Clock:
    """When things happened in one run.

    Attributes:
        share: Of the plan that has been written.
        first_s: When the first step started.
        first_share: How much of the plan had been written by then.
        asked_s: When the model was asked.
        last_s: When the last word was written, or the last call returned.
    """

    begun: float = field(default_factory=time.perf_counter)
    share: float = 0.0
    first_s: float | None = None
    first_share: float = 1.0
    asked_s: float | None = None
    last_s: float = 0.0

    def now(self):
        """Return the time since the run began."""
        return time.perf_counter() - self.begun

    async def pace(self, share):
        """Write one chunk."""
        self.asked_s = self.now() if self.asked_s is None else self.asked_s
        self.share = share
        await asyncio.sleep(TOKENS_A_CHUNK / TOKENS_PER_S / SPEED)
        self.last_s = self.now()

    async def call(self, name):
        """Take the time of a call."""
        if self.first_s is None:
            self.first_s, self.first_share = self.now(), self.share
        await asyncio.sleep(SECONDS[name] / SPEED)
        self.last_s = self.now()


def main() -> int:
    """Print the table; return the exit code."""
    return asyncio.run(measured())


async def measured():
    """Run the mix both ways."""
    await once(next(iter(MIX.values())), stream=False)  # loads the libraries
    print(
        f"{TOKENS_PER_S:g} tokens/s; seconds of life (measured at {SPEED} times the speed); medians of {ROUNDS}"
    )
    print(
        f"{'':<12}{'steps':>6}{'tokens':>8}   first step: then, early (share)   makespan: then, early   times shorter (bound)"
    )
    then_total = early_total = 0.0
    bounds = {name: bound_of(plan) for name, plan in MIX.items()}
    is_late = False
    for name, plan in MIX.items():
        then, then_digest, then_first, _ = await several(plan, stream=False)
        early, digest, early_first, share = await several(plan, stream=True)
        assert digest == then_digest
        then_total, early_total, is_late = (
            then_total + then,
            early_total + early,
            is_late or share > SHARE_MAX,
        )
        tokens = len(json.dumps(plan)) // 4
        print(
            f"{name:<12}{len(plan['steps']):>6}{tokens:>8}{then_first:>17.2f}{early_first:>7.2f}  ({share:>4.0%})"
            f"{then:>18.2f}{early:>7.2f}{then / early:>16.2f} ({bounds[name][0] / bounds[name][1]:.2f})"
        )
    times = then_total / early_total
    bound = sum(then for then, _ in bounds.values()) / sum(early for _, early in bounds.values())
    print(
        f"the mix: {then_total:.2f} s then, {early_total:.2f} s early: {times:.2f} times shorter "
        f"(bound {bound:.2f}, limit {LIMIT})"
    )
    asked, ended = (statistics.median(each[at] for each in OWN) * 1000 for at in (0, 1))
    print(
        f"firmplan's own time, early: {asked:.0f} ms until the model is asked, {ended:.0f} ms from the last result to the end"
    )
    return 1 if times < LIMIT or is_late else 0


def bound_of(raw):
    """Return the makespans of a plan, then and early, if only writing and calls took time."""
    text, plan = json.dumps(raw), Plan.model_validate(raw)
    writing = len(text) / 4 / TOKENS_PER_S
    shares = {
        each["id"]: (text.index(json.dumps(each)) + len(json.dumps(each))) / len(text)
        for each in raw["steps"]
    }

    def end(start_of):
        ends: dict[str, float] = {}
        for one in plan.steps:
            fed = [
                ends[name] for each in one.templates.values() for name in each.formula.names if name in ends
            ]
            takes = SECONDS.get(getattr(one, "tool", ""), 0.0)
            ends[one.id] = max([start_of(one), *fed]) + takes
        return max(ends.values())

    early = end(lambda one: writing * (1 if getattr(one, "tool", "") == "send" else shares[one.id]))
    return writing + end(lambda _: 0.0), max(writing, early)


async def several(plan, *, stream):
    """Return medians: makespan, digest, time to the first step, share of the plan by then."""
    taken = [await once(plan, stream=stream) for _ in range(ROUNDS)]
    makespan, first, share = (statistics.median(each[at] for each in taken) for at in (0, 2, 3))
    OWN.extend(each[4] for each in taken if stream)
    return makespan, taken[0][1], first, share


async def once(plan, *, stream):
    """Plan and run once."""
    clock = Clock()
    async with ScriptedModel([Paced(plan, clock.pace)]) as model:
        planner = Planner("m", base_url=model.base_url)
        async with Engine(tools_of(clock), store="memory:", planner=planner) as engine:
            clock.begun = time.perf_counter()
            run = await engine.run("Do what the plan does", stream=stream)
            makespan = clock.now()
            run.raise_for_status()
            own = clock.asked_s, makespan - clock.last_s
            return makespan * SPEED, run.digest, clock.first_s * SPEED, clock.first_share, own


def tools_of(clock):
    """Return the tools of the mix."""

    @tool(effect="read")
    async def search(query: str) -> list[str]:
        """Search the web; return addresses."""
        await clock.call("search")
        return [f"https://example.org/{number}/{len(query)}" for number in range(3)]

    @tool(effect="read")
    async def fetch(url: str) -> str:
        """Fetch a page as text."""
        await clock.call("fetch")
        return f"text of {url}"

    @tool(effect="read")
    async def extract(text: str, wanted: str) -> str:
        """Have a model find something in a text."""
        await clock.call("extract")
        return f"{wanted} in {len(text)}"

    @tool(effect="read")
    async def lookup(what: str, of: str) -> str:
        """Look something up in a service."""
        await clock.call("lookup")
        return f"{what} of {len(of)}"

    @tool(effect="read")
    async def query(sql: str) -> list[float]:
        """Ask the warehouse."""
        await clock.call("query")
        return [float(len(sql)), 1.0]

    @tool(effect="write", resource="mail", allow_untrusted=("body",))
    async def send(to: str, body: str) -> str:
        """Send a mail."""
        await clock.call("send")
        return f"{len(body)} characters to {to}"

    return [search, fetch, extract, lookup, query, send]


def step(name, action, **args):
    """Return a step that calls a tool."""
    return {"id": name, "tool": action, "args": args}


def plan_of(steps, output):
    """Return a plan."""
    return {"firmplan": 1, "steps": steps, "output": output}


def follow():
    """One thing leads to the next, through internal services: a complaint to its cause."""
    chain = (
        "order complaint",
        "order",
        "shipment",
        "parcel",
        "warehouse",
        "shift",
        "packing line",
        "machine",
        "service log",
        "spare part",
        "supplier",
        "batch",
        "certificate",
    )
    steps = [step("s0", "lookup", what="complaint", of="ticket 48213 of customer 1177")]
    steps += [
        step(f"s{number}", "lookup", what=what, of=f"${{s{number - 1}}}")
        for number, what in enumerate(chain[1:], start=1)
    ]
    return plan_of(steps, "${s12}")


def research():
    """Four questions: all searches, then all pages, then what stands in them."""
    topics = ("battery makers", "charging standards", "recycling quotas", "raw materials")
    steps = [
        step(f"hits{number}", "search", query=f"{topic} in Europe 2025")
        for number, topic in enumerate(topics)
    ]
    steps += [step(f"page{number}", "fetch", url=f"${{hits{number}[0]}}") for number in range(4)]
    steps += [
        step(f"fact{number}", "extract", text=f"${{page{number}}}", wanted=f"key figures on {topic}")
        for number, topic in enumerate(topics)
    ]
    return plan_of(steps, "${[fact0, fact1, fact2, fact3]}")


def report():
    """Slow queries first, then what is made of them."""
    parts = ("sales", "returns", "visits")
    steps = [
        step(
            f"{part}", "query", sql=f"select month, sum(amount) from {part} where year = 2025 group by month"
        )
        for part in parts
    ]
    for part in parts:
        steps += [
            {"id": f"{part}_total", "set": f"${{sum({part})}}"},
            {"id": f"{part}_best", "set": f"${{max({part})}}"},
            step(
                f"{part}_note",
                "lookup",
                what="the analyst's note on the month",
                of=f"{part} ${{{part}_best}}",
            ),
        ]
    totals: dict[str, str] = {
        part: f"${{{part}_total}} best ${{{part}_best}} ${{{part}_note}}" for part in parts
    }
    return plan_of(steps, totals)


def dossier():
    """A page is found, read and followed up; then many small facts about what it says."""
    steps = [
        step("hits", "search", query="who makes the valve V-220"),
        step("page", "fetch", url="${hits[0]}"),
        step("maker", "extract", text="${page}", wanted="the maker's name"),
    ]
    wanted = (
        "address",
        "owner",
        "revenue",
        "certificates",
        "open orders",
        "credit limit",
        "last audit",
        "contact person",
    )
    steps += [step(f"fact{number}", "lookup", what=what, of="${maker}") for number, what in enumerate(wanted)]
    steps += [
        {"id": "dossier", "set": "${[maker, " + ", ".join(f"fact{number}" for number in range(8)) + "]}"}
    ]
    return plan_of(steps, "${dossier}")


def audit():
    """A slow query whose answer is looked at from many sides."""
    steps = [
        step(
            "packages",
            "query",
            sql="select name, version, licence from dependencies where product = 'gateway'",
        ),
        {"id": "most", "set": "${max(packages)}"},
        {"id": "fewest", "set": "${min(packages)}"},
    ]
    wanted = (
        "licence text",
        "copyright holder",
        "export class",
        "open defects",
        "maintainer",
        "successor",
        "policy",
        "waiver",
    )
    steps += [
        step(f"side{number}", "lookup", what=what, of="the package ranked ${most} to ${fewest}")
        for number, what in enumerate(wanted)
    ]
    steps += [{"id": "sheet", "set": "${[" + ", ".join(f"side{number}" for number in range(8)) + "]}"}]
    return plan_of(steps, "${sheet}")


def offer():
    """Data sheets of some items, an offer in words, and a mail: the write waits for the whole plan."""
    items = ("pump", "valve", "gasket", "motor")
    steps = [step(f"{item}_price", "lookup", what="price", of=item) for item in items]
    steps += [step(f"{item}_hits", "search", query=f"data sheet of {item} model 7") for item in items]
    steps += [step(f"{item}_sheet", "fetch", url=f"${{{item}_hits[0]}}") for item in items]
    body = " ".join(f"{item}: ${{{item}_price}} ${{{item}_sheet}}" for item in items)
    steps += [
        step("text", "extract", text=body, wanted="a short offer in words"),
        step("mail", "send", to="customer@example.org", body="${text}"),
    ]
    return plan_of(steps, "${mail}")


MIX = {
    "follow": follow(),
    "research": research(),
    "report": report(),
    "dossier": dossier(),
    "audit": audit(),
    "offer": offer(),
}

if __name__ == "__main__":
    sys.exit(main())
