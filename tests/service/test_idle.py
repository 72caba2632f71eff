"""What a server on PostgreSQL hears while it has nothing to do: it looks at the store for work when it is told of some, and not again and again."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, InputRejected, Webhook, tool
from firmplan.executor.runs import changes
from firmplan.executor.stores import postgres_store
from firmplan.service import run_queue
from firmplan.service.auth import ServerLimits
from firmplan.service.metrics import Metrics
from hook_receiver import SECRET, Receiver

PLAN = {"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"}
MAIL = {"firmplan": 1, "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}], "output": "${mail}"}


@tool(effect="write", approval="always", resource="mail", idempotent=True)
def send(to: str) -> str:
    """Send a mail."""
    return to


@pytest.fixture(autouse=True)
def only_told(monkeypatch):
    """Nothing is found by a look that nobody has asked for."""
    monkeypatch.setattr(changes, "UNTOLD_MAX_S", 3600.0)
    monkeypatch.setattr(changes, "AGAIN_S", 0.1)
    monkeypatch.setattr(postgres_store, "WEBHOOKS_TOLD_S", 0.0)


async def until(is_so):
    """Wait until something is so; nothing tells."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.005)


async def quiet(is_due, look):
    """Look until there is nothing left to look for, also in the one more look after a change was told."""
    async with asyncio.timeout(60):
        for _ in range(2):
            while is_due():
                await look()
                await asyncio.sleep(0.005)
            await asyncio.sleep(changes.AGAIN_S)


def test_what_there_is_not_is_refused(tmp_path):
    """By name, with what there is; a store in a file tells nothing, so a look is always due."""

    async def main():
        async with Engine([send], store=tmp_path / "s.db") as engine:
            assert [engine.change_count("plans"), engine.schedules_due()] == [None, True]
            with pytest.raises(InputRejected, match=r"expected one of decided, plans, .*'plan'"):
                engine.change_count("plan")
            with pytest.raises(InputRejected, match="there is no webhook 'ops'"):
                engine.webhooks_due("ops")

    asyncio.run(main())


@pytest.mark.postgres
def test_schedules_and_plans_of_other_processes_are_told(postgres_url):
    """A schedule that is made, paused and resumed elsewhere asks for a look; so does no plan, which is told apart."""

    async def main():
        async with Engine([send], store=postgres_url) as here, Engine([send], store=postgres_url) as there:
            await quiet(here.schedules_due, here.fire_schedules)
            plans = here.change_count("plans")
            await there.save_plan("p", PLAN)
            await until(lambda: here.change_count("plans") != plans)
            assert not here.schedules_due()
            await there.add_schedule("s", "p", every="1h")
            await until(here.schedules_due)
            await quiet(here.schedules_due, here.fire_schedules)
            await there.pause_schedule("s")
            await until(here.schedules_due)
            plans = here.change_count("plans")
            await there.delete_plan("p")
            await until(lambda: here.change_count("plans") != plans)

    asyncio.run(main())


@pytest.mark.postgres
def test_messages_of_webhooks_are_told(postgres_url):
    """A run that ends elsewhere, and a message that is to be sent again, ask for a look; an attempt that has failed is waited for."""
    with Receiver() as receiver:
        hooks = [Webhook(name="ops", url=receiver.url, secret=SECRET)]

        async def main():
            options = {"store": postgres_url, "webhooks": hooks}
            async with Engine([send], **options) as here, Engine([send], **options) as there:
                await quiet(lambda: here.webhooks_due("ops"), here.deliver_webhooks)
                await there.run(PLAN)
                await until(lambda: here.webhooks_due("ops"))
                (sent,) = await here.deliver_webhooks("ops")
                assert sent.state == "delivered"
                await quiet(lambda: here.webhooks_due("ops"), here.deliver_webhooks)
                await there.retry_delivery(sent.id)
                await until(lambda: here.webhooks_due("ops"))
                assert [each.id for each in await here.deliver_webhooks("ops")] == [sent.id]

        asyncio.run(main())


@pytest.mark.postgres
def test_a_decision_that_another_process_records_lets_a_run_of_this_server_go_on(postgres_url, monkeypatch):
    """The server hears of it and looks until the run is without a driver."""
    monkeypatch.setattr(run_queue, "LOOK_S", 0.01)
    monkeypatch.setattr(run_queue, "RECORDED_S", 0.5)

    async def main():
        async with Engine([send], store=postgres_url) as here:
            queue = run_queue.RunQueue(here, ServerLimits(), Metrics())
            run = await here.run(MAIL)
            queue.adopt(run.id)
            watching = asyncio.create_task(queue.watch())
            await until(lambda: here.change_count("decided") is not None and not queue._lookout.is_due())
            async with Engine([send], store=postgres_url) as there:
                await there.approve(run.id, "mail", by="me")
            async with asyncio.timeout(60):
                while (await here.get(run.id)).status != "succeeded":  # noqa: ASYNC110  # nothing tells
                    await asyncio.sleep(0.02)
            watching.cancel()
            await queue.close()

    asyncio.run(main())
