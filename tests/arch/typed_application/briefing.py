"""A typed application: tools, a plan, and a run whose types mypy and pyright know from end to end. `misuse.py` has its mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from firmplan import Context, Engine, Plan, PlanBuilder, tool
from pydantic import BaseModel


class Page(BaseModel):
    """A page that was found."""

    title: str
    words: int
    published: date | None = None


@dataclass
class Topic:
    """What the caller asks for."""

    topic: str
    since: date


class Briefing(BaseModel):
    """What the caller gets."""

    headline: str
    titles: list[str]
    words: int


@tool(effect="read", trust="trusted")
async def search(topic: str, since: date, *, ctx: Context) -> list[Page]:
    """Find pages about a topic."""
    ctx.log.info("searched", topic=topic)
    return [Page(title=f"{topic} {number}", words=100 * number, published=since) for number in (1, 2)]


@tool(effect="pure")
def longest(pages: list[Page]) -> Page:
    """Return the page with the most words."""
    return max(pages, key=lambda page: page.words)


@tool(effect="pure")
def shout(text: str) -> str:
    """Return a text in capitals."""
    return text.upper()


def plan() -> Plan:
    """Return the plan: search, take the longest page, make its title loud."""
    p = PlanBuilder("Brief me on a topic", returns=Briefing)
    topic = p.input("topic")
    pages = p.call(search, topic=topic, since=p.input("since", date))
    best = p.call(longest, pages=pages, id="best")
    headline = p.call(shout, text=best.title, when=best.words > 10)
    titles = p.each(pages, lambda page: p.set(page.title))
    p.output(p.record(Briefing, headline=headline, titles=titles, words=best.words))
    return p.build()


async def brief(engine: Engine, topic: Topic) -> Briefing:
    """Run the plan for a topic."""
    run = await engine.run(plan(), inputs=topic, returns=Briefing)
    return run.value


def brief_sync(engine: Engine, topic: Topic) -> str:
    """Run the plan without an event loop."""
    run = engine.run_sync(plan(), inputs={"topic": topic.topic, "since": topic.since}, returns=Briefing)
    return f"{run.value.headline}: {', '.join(run.value.titles)} ({run.value.words} words)"
