"""Schedules as Schedules of Temporal, with its development server and PostgreSQL: equal times, one run for each time, and what a sweep mends."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count

import fleet_tools
import pytest
from firmplan import Engine, ServerError
from firmplan.backends.temporal import schedules
from waiting_for import in_loop, until

pytestmark = [pytest.mark.temporal, pytest.mark.postgres, pytest.mark.timeout(180)]
TOOLS = [fleet_tools.note]
QUEUES = count(1)
NEVER_S = 1e6


@pytest.fixture
def backend(temporal_server):
    """The address of a queue that no other test uses; the schedules of a test go with it."""
    yield temporal_server.url(f"schedules-{next(QUEUES)}")
    asyncio.run(temporal_server.forget_runs())


@asynccontextmanager
async def working(backend, store):
    """Have a worker in this process."""
    async with Engine(TOOLS, store=store, backend=backend) as engine:
        task = asyncio.create_task(engine.work(slots=4))
        try:
            yield engine
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def noting(folder):
    """Return a plan that writes a line."""
    args = {"folder": str(folder), "text": "${inputs.at}"}
    return {
        "firmplan": 1,
        "inputs": {"at": {"type": "string", "default": "?"}},
        "steps": [{"id": "n", "tool": "note", "args": args}],
    }


async def mirrored(engine, name):
    """Return how Temporal has a schedule."""
    backend = engine._backend
    found = schedules.ID.format(identity=await backend.host.store_identity(), name=name)
    return await backend.client.get_schedule_handle(found).describe()


async def names_there(engine):
    """Return the names of the schedules of the engine's store that Temporal lists."""
    return set(await engine._backend.schedules._list())


async def has_times(engine, schedule):
    """Whether Temporal has the next times of a schedule; one may come between the looks."""
    before = schedule.next_times(time.time(), 5)
    found = [at.timestamp() for at in (await mirrored(engine, schedule.name)).info.next_action_times[:5]]
    return found in (before, schedule.next_times(time.time(), 5))


NEXT_MARCH = datetime(2027, 3, 26, tzinfo=UTC).timestamp()
TIMES = {
    "interval": {"every": 90, "start": 1_700_000_001},
    "interval-later": {"every": "7h", "start": NEXT_MARCH},
    # A time that the change of the clock skips; one that goes by elapsed time; and days that either field allows.
    "skipped": {"cron": "30 2 * * *", "tz": "Europe/Berlin", "start": NEXT_MARCH},
    "elapsed": {"cron": "*/45 * * * *", "tz": "Europe/Berlin", "start": NEXT_MARCH},
    "either-day": {"cron": "0 8 13 * FRI", "tz": "America/New_York"},
    "last-day": {"cron": "15 23 L * *"},
}


@in_loop
async def test_temporal_has_the_times_of_the_store(backend, postgres_url, tmp_path):
    """Of intervals and cron expressions, over changes of the clock; pausing, changing and removing are told at once."""
    async with Engine(TOOLS, store=postgres_url, backend=backend) as front:
        await front.save_plan("note", noting(tmp_path))
        for name, given in TIMES.items():
            made = await front.add_schedule(name, "note", **given)
            assert await has_times(front, made), name
        await front.pause_schedule("skipped")
        assert (await mirrored(front, "skipped")).schedule.state.paused
        await front.resume_schedule("skipped")
        found = await mirrored(front, "skipped")
        assert not found.schedule.state.paused
        assert "cron '30 2 * * *' in Europe/Berlin, revision 3" in found.schedule.state.note
        changed = await front.add_schedule("skipped", "note", cron="0 8 * * *", replaces=3)
        assert await has_times(front, changed)
        await front.remove_schedule("skipped")
        await until(lambda: names_there(front), lambda names: names == set(TIMES) - {"skipped"})


@in_loop
async def test_temporal_fires_each_time_once_beside_a_server(backend, postgres_url, tmp_path, monkeypatch):
    """Workers are woken at each time; with another process that fires the same schedules there is one run for each time."""
    monkeypatch.setattr(schedules, "LOOK_S", NEVER_S)  # only Temporal wakes this worker
    async with working(backend, postgres_url) as worker:
        await worker.save_plan("note", noting(tmp_path))
        await worker.add_schedule("each-second", "note", every=1, time_input="at", overlap="allow")
        await until(lambda: fired(worker), lambda fires: len(fires) >= 2)
        async with Engine(TOOLS, store=postgres_url, backend=backend) as server:
            seen = len(await fired(worker))
            while len(await fired(worker)) < seen + 2:
                await server.fire_schedules()
                await asyncio.sleep(0.05)
        await worker.pause_schedule("each-second")
        fires = await fired(worker)
        for fire in fires:
            assert (await worker.wait(fire.run_id)).status == "succeeded"
        lines = (tmp_path / "ledger").read_text().split()
        # The last time may have been claimed when the schedule was paused.
        assert len(lines) == len(set(lines))
        assert {datetime.fromtimestamp(fire.at, UTC).isoformat() for fire in fires} <= set(lines)


async def fired(engine):
    """Return the times that have a run."""
    return [fire for fire in await engine.schedule_fires("each-second") if fire.state == "started"]


@in_loop
async def test_a_sweep_mends_what_falls_between(backend, postgres_url, cluster, tmp_path, monkeypatch):
    """Temporal gets what it was not told of, loses what is gone, and has what somebody changed there put right; other stores' schedules stay."""
    async with (
        Engine(TOOLS, store=postgres_url) as alone,
        Engine(TOOLS, store=postgres_url, backend=backend) as front,
        Engine(TOOLS, store=cluster.fresh_url(), backend=backend) as other,
    ):
        for engine in (alone, other):
            await engine.save_plan("note", noting(tmp_path))
            await engine.add_schedule("daily", "note", cron="0 8 * * *")
        await alone.add_schedule("gone", "note", every="1h")
        mirror = front._backend.schedules
        assert await mirror.mend(front) == ["daily", "gone"]
        await until(lambda: names_there(front), lambda names: names == {"daily", "gone"})
        assert await mirror.mend(front) == []
        await alone.remove_schedule("gone")
        await alone.pause_schedule("daily")
        assert await mirror.mend(front) == ["daily", "gone"]
        await until(lambda: names_there(front), lambda names: names == {"daily"})
        assert (await mirrored(front, "daily")).schedule.state.paused
        handle = front._backend.client.get_schedule_handle((await mirrored(front, "daily")).id)
        await handle.unpause()
        await until(lambda: mirror.mend(front), lambda names: names == ["daily"])
        assert (await mirrored(front, "daily")).schedule.state.paused
        assert not (await mirrored(other, "daily")).schedule.state.paused


@in_loop
async def test_a_worker_renews_the_times_of_a_cron_expression(
    backend, postgres_url, cluster, tmp_path, monkeypatch
):
    """When it is woken for a time in the second half of those that Temporal has; and a worker of another store takes nothing for its own."""
    async with Engine(TOOLS, store=postgres_url, backend=backend) as front:
        await front.save_plan("note", noting(tmp_path))
        await front.add_schedule("daily", "note", cron="0 8 * * *")
        payloads = (await mirrored(front, "daily")).schedule.action.args
        (request,) = await front._backend.client.data_converter.decode(payloads)
        monkeypatch.setattr(schedules, "EARLY_S_MAX", 0.0)
        monkeypatch.setattr(schedules, "TIMES", schedules.TIMES + 2)
        firing, later = schedules.Firing(front._backend, front), request["renew_at"]
        for at, there in ((later - 86_400, schedules.TIMES - 2), (later, schedules.TIMES)):
            await firing.fire({**request, "at": at})
            assert len((await mirrored(front, "daily")).schedule.spec.calendars) == there
        async with Engine(TOOLS, store=cluster.fresh_url(), backend=backend) as other:
            with pytest.raises(
                ServerError, match="expected all engines and workers of a task queue on one store"
            ):
                await schedules.Firing(other._backend, other).fire({**request, "at": later})


@in_loop
async def test_a_schedule_is_stored_while_temporal_is_away(
    temporal_server, backend, postgres_url, tmp_path, monkeypatch
):
    """Its times are fired by the sweep of a worker, which also tells Temporal once it is there again."""
    monkeypatch.setattr(schedules, "LOOK_S", 0.3)
    monkeypatch.setattr(schedules, "MIRROR_S", 0.3)
    async with working(backend, postgres_url) as worker:
        await worker.save_plan("note", noting(tmp_path))
        temporal_server.kill()
        try:
            await worker.add_schedule("each-second", "note", every=1, time_input="at", overlap="allow")
            await until(lambda: fired(worker))
        finally:
            await asyncio.to_thread(temporal_server.start)
        await until(lambda: names_there(worker), lambda names: names == {"each-second"})
        await worker.pause_schedule("each-second")
