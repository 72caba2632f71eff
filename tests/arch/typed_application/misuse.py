"""The mistakes of a typed application. Each line that says what is wrong is an error to mypy and to pyright, and no other line is."""

# ruff: noqa: B018  # reading a field that is not there is the mistake
from __future__ import annotations

from datetime import date

from briefing import Briefing, Page, Topic, longest, plan, search, shout
from firmplan import AsyncClient, Client, Engine, PlanBuilder


def build() -> None:
    p = PlanBuilder("Brief me on a topic", returns=Briefing)
    pages = p.call(search, topic=p.input("topic"), since=date(2026, 1, 1))
    best = p.call(longest, pages=pages)
    p.set(best.titel)  # wrong: the model has no such field
    p.set(pages[0].word)  # wrong: nor have its items
    pages.title  # wrong: a list has no fields
    best.words.upper()  # wrong: a number is no text
    p.call(shout, text=best.title).words  # wrong: a text has no such field
    p.ask("How many?", returns=Page).name  # wrong: the answer is a page
    p.output(best)  # wrong: the output is a Briefing
    p.record(Briefing, headline="x", titles=["y"])  # wrong: the words are missing
    p.record(Topic, topic=best.words, since=date(2026, 1, 1))  # wrong: the topic is text
    p.record(Topic, topic="x", until=date(2026, 1, 1))  # wrong: there is no such field


async def run(engine: Engine, client: AsyncClient) -> None:
    done = await engine.run(plan(), inputs=Topic("x", date(2026, 1, 1)), returns=Briefing)
    done.value.title  # wrong: the value is a Briefing
    number: int = done.value.headline  # wrong: which is text
    page: Page = (await engine.wait(done.id, returns=Briefing)).value  # wrong: a Briefing is no page
    (await client.run(plan(), returns=Page)).value.headline  # wrong: the client knows the type, too
    await engine.run(plan(), inputs=3)  # wrong: inputs have names
    await engine.run(plan(), return_=Briefing)  # wrong: there is no such option
    shout(3)  # wrong: a tool is called like its function
    del number, page


def run_sync(engine: Engine, client: Client) -> None:
    engine.run_sync(plan(), returns=Briefing).value.title  # wrong: the twins know it
    client.get("x", returns=Briefing).value.title  # wrong: so do clients
    engine.replay_sync("x", returns=Briefing).value.words.upper()  # wrong: and replays
