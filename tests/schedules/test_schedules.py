"""Schedules as an engine drives them: which times get a run, and that each has one, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from firmplan import Engine, tool
from firmplan.errors import InputRejected, PlanRejected, StoreError
from firmplan.executor import Submitter
from firmplan.schedules import book as book_module
from firmplan.schedules import scheduler as scheduler_module
from firmplan.schedules import table as table_module
from firmplan.testing import FakeClock

START = 1_767_225_600.0  # 2026-01-01T00:00Z
PLAN = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer", "default": 1}, "at": {"type": "string", "default": "-"}},
    "steps": [{"id": "x", "set": "${inputs.n}"}],
    "output": "${[x, inputs.at]}",
}


@tool(effect="write", approval="always", resource="mail")
def send(to: str) -> str:
    """Send a mail."""
    return to


WAITS = {"firmplan": 1, "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}]}


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else tmp_path / "s.db"


def on_engine(store, work, *, clock=None, plan=PLAN):
    clock = clock or FakeClock(START, auto=False)

    async def main():
        async with Engine([send], store=store, clock=clock) as engine:
            await engine.save_plan("p", plan)
            return await work(engine, clock)

    return asyncio.run(main())


def told(fires):
    return [(fire.at - START, fire.state) for fire in fires]


async def outcomes(engine, name="s"):
    """Return each time of a schedule, relative to the start, with what became of it."""
    return sorted(told(await engine.schedule_fires(name)))


def test_each_time_has_a_run_that_names_its_schedule(store):
    """The run has the inputs and the time of the schedule; looks in between start nothing."""

    async def work(engine, clock):
        made = await engine.add_schedule(
            "s",
            "p",
            every="1h",
            inputs={"n": 7},
            time_input="at",
            submitter=Submitter("ann", may_approve=False),
            by="ann",
        )
        assert (made.next_at, made.revision, made.by) == (START + 3600, 1, "ann")
        assert await engine.fire_schedules() == []
        clock.advance(3600)
        (fire,) = await engine.fire_schedules()
        assert await engine.fire_schedules() == []
        run = await engine.wait(fire.run_id)
        assert (run.status, run.output) == ("succeeded", [7, "2026-01-01T01:00:00+00:00"])
        assert run.schedule == {"name": "s", "at": START + 3600}
        assert run.to_dict()["schedule"] == {"name": "s", "at": START + 3600}
        assert (await engine.replay(run.id)).schedule == run.schedule
        clock.advance(3600)
        await engine.fire_schedules()
        assert await outcomes(engine) == [(3600, "started"), (7200, "started")]
        assert len((await engine.list_runs()).runs) == 2

    on_engine(store, work)


def test_each_run_has_the_deadline_and_the_priority_of_its_schedule(store):
    """It counts from the start of the run; without one, that of the plan counts, and a schedule without one is stored as before."""

    async def work(engine, clock):
        plain = await engine.add_schedule("plain", "p", every="1h")
        timed = await engine.add_schedule("timed", "p", every="1h", deadline="30m", priority=2)
        assert not {"deadline", "priority"} & plain.to_dict().keys()
        assert timed.to_dict()["priority"] == (await engine.get_schedule("timed")).priority == 2
        assert timed.to_dict()["deadline"] == (await engine.get_schedule("timed")).deadline == 1800
        clock.advance(3600)
        runs = {fire.schedule: await engine.wait(fire.run_id) for fire in await engine.fire_schedules()}
        assert runs["plain"].deadline == START + 3600 + 7200
        assert runs["timed"].deadline == START + 3600 + 1800

    on_engine(store, work, plan={**WAITS, "deadline": "2h"})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("skip", [(0, "missed"), (4, "started")]),
        ("latest", [(0, "missed"), (4, "started")]),
        ("all", [(1, "missed"), (2, "started"), (3, "started"), (4, "started")]),
    ],
)
def test_after_downtime_a_schedule_catches_up_by_its_rule(store, rule, expected):
    """Five hours pass with nobody there, and the process is back right at a time: that one is on time in any case. `all` is bounded, by the newest."""

    async def work(engine, clock):
        await engine.add_schedule("s", "p", every="1h", catch_up=rule, catch_up_max=2, overlap="allow")
        clock.advance(5 * 3600 + 10)
        await engine.fire_schedules()
        found = [((at / 3600) - 1, state) for at, state in await outcomes(engine)]
        fires = await engine.schedule_fires("s")
        missed = [(fire.missed, fire.run_id) for fire in fires if fire.state == "missed"]
        return found, missed

    found, missed = on_engine(store, work)
    on_time = (4, "started")
    newest_missed = {"skip": 3, "latest": 3, "all": 1}[rule]
    assert found == [(newest_missed, "missed"), *[each for each in expected if each[1] == "started"]]
    assert on_time in found
    assert missed == [({"skip": 4, "latest": 4, "all": 2}[rule], None)]


@pytest.mark.parametrize(
    ("rule", "started", "missed"), [("skip", [], 5), ("latest", [5], 4), ("all", [1, 2, 3, 4, 5], 0)]
)
def test_after_downtime_that_ends_between_two_times(store, rule, started, missed):
    """No time is on time then: `latest` starts the last one all the same, `skip` none; the next time is the next hour."""

    async def work(engine, clock):
        await engine.add_schedule("s", "p", cron="0 * * * *", catch_up=rule, overlap="allow")
        clock.advance(5 * 3600 + 1800)
        await engine.fire_schedules()
        fires = await engine.schedule_fires("s")
        assert [fire.at for fire in fires if fire.state == "started"] == [
            START + each * 3600 for each in reversed(started)
        ]
        assert sum(fire.missed for fire in fires) == missed
        assert (await engine.get_schedule("s")).next_at == START + 6 * 3600

    on_engine(store, work)


def test_a_long_downtime_costs_one_record(store):
    """A minute's schedule and two years: one run, one line of what was missed, and no long search."""

    async def work(engine, clock):
        await engine.add_schedule("s", "p", cron="* * * * *")
        clock.advance(2 * 366 * 86_400 + 30)
        await engine.fire_schedules()
        fires = await engine.schedule_fires("s")
        assert [fire.state for fire in fires] == ["started", "missed"]
        assert fires[1].missed >= 100

    on_engine(store, work)


async def waiting_twice(engine, clock, overlap):
    """Start a run that waits for a person, and let its next time come; return what became of both, and the first run."""
    await engine.add_schedule("s", "p", every="1h", overlap=overlap)
    clock.advance(3600)
    (first,) = await engine.fire_schedules()
    assert (await engine.wait(first.run_id)).status == "waiting"
    clock.advance(3600)
    await engine.fire_schedules()
    return first.run_id


def test_overlap_skip(store):
    async def work(engine, clock):
        run = await waiting_twice(engine, clock, "skip")
        assert await outcomes(engine) == [(3600, "started"), (7200, "skipped")]
        assert (await engine.schedule_fires("s"))[0].detail == f"run {run} has not ended"
        await engine.deny(run, "mail", by="me")
        await engine.resume(run)
        clock.advance(3600)
        await engine.fire_schedules()
        assert (await outcomes(engine))[-1] == (10_800, "started")

    on_engine(store, work, plan=WAITS)


def test_overlap_allow(store):
    async def work(engine, clock):
        await waiting_twice(engine, clock, "allow")
        assert await outcomes(engine) == [(3600, "started"), (7200, "started")]

    on_engine(store, work, plan=WAITS)


def test_overlap_queue(store):
    """One run waits behind the first; a third time finds that one waiting, and is skipped."""

    async def work(engine, clock):
        run = await waiting_twice(engine, clock, "queue")
        assert await outcomes(engine) == [(3600, "started"), (7200, "due")]
        clock.advance(3600)
        assert await engine.fire_schedules() == []
        assert await outcomes(engine) == [(3600, "started"), (7200, "due"), (10_800, "skipped")]
        await engine.deny(run, "mail", by="me")
        await engine.resume(run)
        (second,) = await engine.fire_schedules()
        assert (second.at, second.state) == (START + 7200, "started")

    on_engine(store, work, plan=WAITS)


def test_overlap_cancel(store):
    """The first run is asked to stop, and the second starts when it has."""

    async def work(engine, clock):
        run = await waiting_twice(engine, clock, "cancel")
        await engine.wait(run)
        await engine.fire_schedules()
        assert (await engine.get(run)).status == "cancelled"
        assert await outcomes(engine) == [(3600, "started"), (7200, "started")]

    on_engine(store, work, plan=WAITS)


def test_a_paused_schedule_lets_its_times_pass(store):
    """They are not caught up on, and it goes on from the moment it is resumed."""

    async def work(engine, clock):
        await engine.add_schedule("s", "p", every="1h", catch_up="all")
        paused = await engine.pause_schedule("s", by="ann")
        assert (paused.paused, paused.by, paused.revision, paused.to_dict()["next_at"]) == (
            True,
            "ann",
            2,
            None,
        )
        clock.advance(5 * 3600 + 60)
        assert await engine.fire_schedules() == []
        assert (await engine.resume_schedule("s")).next_at == START + 6 * 3600
        clock.advance(3600)
        assert len(await engine.fire_schedules()) == 1
        assert await outcomes(engine) == [(6 * 3600, "started")]

    on_engine(store, work)


def test_a_time_whose_run_cannot_be_submitted_says_why(store):
    """The plan is gone, or takes other inputs by now: the time fails, and the next one tries again."""

    async def work(engine, clock):
        await engine.add_schedule("s", "p", every="1h", inputs={"n": 3})
        await engine.delete_plan("p")
        clock.advance(3600)
        (fire,) = await engine.fire_schedules()
        assert (fire.state, "no plan is saved as 'p'" in fire.detail) == ("failed", True)
        await engine.save_plan(
            "p", {**PLAN, "inputs": {"m": {"type": "integer"}}, "steps": [{"id": "x", "set": 1}], "output": 1}
        )
        clock.advance(3600)
        (fire,) = await engine.fire_schedules()
        assert fire.state == "failed"
        assert "'n'" in fire.detail
        await engine.save_plan("p", PLAN)
        clock.advance(3600)
        assert [fire.state for fire in await engine.fire_schedules()] == ["started"]

    on_engine(store, work)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"name": "a b"}, "input-rejected", "a schedule's name"),
        ({"plan": "q"}, "unknown-plan", "no plan is saved as 'q'"),
        ({"plan": 5}, "input-rejected", "plan: expected the name"),
        ({"inputs": {"m": 1}}, "input-rejected", "'m'"),
        ({"inputs": {"n": "x"}}, "input-rejected", "n"),
        ({"inputs": [1]}, "input-rejected", "inputs: expected an object"),
        ({"budget": {"steps": -1}}, "input-rejected", "steps"),
        ({"budget": {"wishes": 1}}, "input-rejected", "wishes"),
        ({"deadline": "soon"}, "input-rejected", "deadline: expected a duration"),
        ({"deadline": 0}, "input-rejected", "deadline: expected a duration above zero"),
        ({"priority": 6}, "input-rejected", "priority: expected an integer from 1 to 5"),
        ({"priority": "first"}, "input-rejected", "priority: expected an integer from 1 to 5"),
        ({"time_input": "m"}, "input-rejected", "'m'"),
        ({"time_input": "n"}, "input-rejected", "n"),
        ({"catch_up": "some"}, "input-rejected", "catch_up: expected one of skip, latest, all"),
        ({"catch_up_max": 0}, "input-rejected", "catch_up_max: expected an integer from 1 to 1000"),
        ({"overlap": "maybe"}, "input-rejected", "overlap: expected one of skip, allow, queue, cancel"),
        ({"start": "2026-01-01"}, "input-rejected", "start: expected a time with an offset"),
        ({"start": 1e14}, "input-rejected", "start"),
        ({"tz": "Mars/Base"}, "input-rejected", "tz"),
        ({"by": "a\0b"}, "input-rejected", "by"),
        ({"replaces": 3}, "replaced", "expected revision 3, found none"),
    ],
)  # fmt: skip
def test_a_faulty_schedule_is_refused(store, changes, code, words):
    async def work(engine, _):
        given = {"name": "s", "plan": "p", "every": 60, **changes}
        with pytest.raises(InputRejected) as fault:
            await engine.add_schedule(given.pop("name"), given.pop("plan"), **given)
        assert (fault.value.code, words in str(fault.value)) == (code, True), str(fault.value)
        assert await engine.list_schedules() == []

    on_engine(store, work)


def test_a_schedule_is_changed_only_where_it_was_read(store):
    async def work(engine, clock):
        first = await engine.add_schedule("s", "p", every=60)
        with pytest.raises(
            InputRejected, match="expected no schedule of that name, found revision 1"
        ) as fault:
            await engine.add_schedule("s", "p", every=90)
        assert fault.value.code == "replaced"
        clock.advance(30)
        changed = await engine.add_schedule("s", "p", cron="0 9 * * *", tz="Europe/Rome", replaces=1)
        assert (changed.revision, changed.created, changed.every) == (2, first.created, None)
        assert (await engine.add_schedule("s", "p", every=60, replaces=-1)).revision == 3
        assert [each.name for each in await engine.list_schedules()] == ["s"]
        assert await engine.get_schedule("s") == (await engine.list_schedules())[0]
        await engine.remove_schedule("s")
        for call in (
            engine.remove_schedule,
            engine.get_schedule,
            engine.pause_schedule,
            engine.schedule_fires,
        ):
            with pytest.raises(InputRejected) as fault:
                await call("s")
            assert fault.value.code == "unknown-schedule"

    on_engine(store, work)


def test_a_schedule_that_is_made_anew_gets_runs_of_its_own(store):
    """A removed one has used the same times; its runs stay."""

    async def work(engine, clock):
        await engine.add_schedule("s", "p", every=60, start=START + 600)
        clock.advance(600)
        (one,) = await engine.fire_schedules()
        await engine.remove_schedule("s")
        await engine.add_schedule("s", "p", every=600, start=START + 600)
        assert await engine.schedule_fires("s") == []
        clock.advance(600)
        (two,) = await engine.fire_schedules()
        assert (await engine.get(one.run_id)).id != (await engine.get(two.run_id)).id

    on_engine(store, work)


def test_two_engines_start_one_run_of_a_time(store):
    """They look at the same moment, again and again, and no time is started twice or lost."""
    clock = FakeClock(START, auto=False)

    async def main():
        async with (
            Engine([send], store=store, clock=clock) as one,
            Engine([send], store=store, clock=clock) as two,
        ):
            await one.save_plan("p", PLAN)
            for number in range(5):
                await one.add_schedule(f"s{number}", "p", every="1m", overlap="allow")
            for _ in range(6):
                clock.advance(60)
                await asyncio.gather(one.fire_schedules(), two.fire_schedules(), one.fire_schedules())
                clock.advance(0.5)
            await asyncio.gather(one.fire_schedules(), two.fire_schedules())
            fires = [fire for number in range(5) for fire in await one.schedule_fires(f"s{number}")]
            runs = (await one.list_runs(limit=100)).runs
            return fires, {run.id for run in runs}

    fires, runs = asyncio.run(main())
    assert [fire.state for fire in fires] == ["started"] * 30
    assert runs == {fire.run_id for fire in fires}
    assert len(runs) == 30


@pytest.mark.parametrize("place", ["claimed", "leased", "submitted"])
def test_a_process_that_dies_between_claim_and_start_loses_no_time(store, place, monkeypatch):
    """Wherever it dies, another process starts the run once its lease is over, and only once."""
    clock = FakeClock(START, auto=False)

    async def main():
        async with Engine([send], store=store, clock=clock) as dying:
            await dying.save_plan("p", PLAN)
            await dying.add_schedule("s", "p", every="1h")
            clock.advance(3600)
            with monkeypatch.context() as patch:

                async def die(*_, **__):
                    raise StoreError("power is gone")

                target = {
                    "claimed": (table_module.ScheduleTable, "lease"),
                    "leased": (scheduler_module.Scheduler, "_is_started"),
                    "submitted": (table_module.ScheduleTable, "settle"),
                }[place]
                patch.setattr(*target, die)
                with pytest.raises(StoreError, match="power is gone"):
                    await dying.fire_schedules()
        async with Engine([send], store=store, clock=clock) as other:
            early = await other.fire_schedules()
            clock.advance(scheduler_module.LEASE_S + 1)
            late = await other.fire_schedules()
            assert len(early) == (1 if place == "claimed" else 0)
            assert [fire.state for fire in (*early, *late)] == ["started"]
            assert await other.fire_schedules() == []
            return [run.id for run in (await other.list_runs()).runs], [*early, *late]

    runs, fires = asyncio.run(main())
    assert runs == [fires[0].run_id]


def test_fires_are_kept_up_to_a_bound(store, monkeypatch):
    """Old ones go, and those that are due stay."""
    monkeypatch.setattr(table_module, "_FORGET", table_module._FORGET.replace("OFFSET 500", "OFFSET 3"))

    async def work(engine, clock):
        await engine.add_schedule("s", "p", every="1h", overlap="allow")
        for _ in range(6):
            clock.advance(3600)
            await engine.fire_schedules()
        assert [at / 3600 for at, _ in await outcomes(engine)] == [4, 5, 6]
        assert [fire.at for fire in await engine.schedule_fires("s", limit=1, before=START + 6 * 3600)] == [
            START + 5 * 3600
        ]

    on_engine(store, work)


def test_next_times_begin_where_the_schedule_stands(store):
    async def work(engine, _):
        made = await engine.add_schedule(
            "s", "p", cron="0 8 * * 1-5", tz="Europe/Berlin", start="2026-03-27T00:00:00+01:00"
        )
        times = [datetime.fromtimestamp(at).astimezone().timestamp() for at in made.next_times(START, 3)]
        assert times == [
            datetime.fromisoformat(text).timestamp()
            for text in (
                "2026-03-27T08:00:00+01:00",
                "2026-03-30T08:00:00+02:00",
                "2026-03-31T08:00:00+02:00",
            )
        ]

    on_engine(store, work)


def test_a_plan_that_no_longer_passes_its_check_is_refused(tmp_path):
    """A schedule is checked like a run: with the tools of this engine."""

    async def main():
        async with Engine([send], store=tmp_path / "s.db") as engine:
            await engine.save_plan("p", WAITS)
        async with Engine([], store=tmp_path / "s.db") as engine:
            with pytest.raises(PlanRejected):
                await engine.add_schedule("s", "p", every=60)

    asyncio.run(main())


def test_a_tenant_has_a_bounded_number_of_schedules(store, monkeypatch):
    """Each tenant for itself; a schedule that is there can be changed."""
    monkeypatch.setattr(book_module, "SCHEDULES_MAX", 2)

    async def work(engine, _):
        for name in ("a", "b"):
            await engine.add_schedule(name, "p", every=60)
        with pytest.raises(InputRejected, match="there are 2 schedules already"):
            await engine.add_schedule("c", "p", every=60)
        assert (await engine.add_schedule("a", "p", every=90, replaces=1)).revision == 2
        await engine.save_plan("acme:p", PLAN)
        assert (await engine.add_schedule("acme:c", "p", every=60)).full_name == "acme:c"
        assert [each.full_name for each in await engine.list_schedules(tenant=None)] == ["a", "b", "acme:c"]

    on_engine(store, work)


def test_fires_that_wait_keep_no_others_from_their_turn(store, monkeypatch):
    """More of them wait behind runs that have not ended than one look goes through; another schedule starts its runs all the same, and they start in the end."""
    monkeypatch.setattr(table_module, "DUE_MAX", 2)
    monkeypatch.setattr(scheduler_module, "DUE_MAX", 2)

    async def work(engine, clock):
        await engine.save_plan("mail", WAITS)
        for number in range(4):
            await engine.add_schedule(f"s{number}", "mail", every="1h", overlap="queue")
        for _ in range(2):
            clock.advance(3600)
            for _ in range(6):
                await engine.fire_schedules()
                clock.advance(1)
        states = [sorted(told(await engine.schedule_fires(f"s{number}"))) for number in range(4)]
        assert [[state for _, state in each] for each in states] == [["started", "due"]] * 4
        await engine.save_plan("quick", PLAN)
        await engine.add_schedule("z", "quick", every=60)
        clock.advance(60)
        for _ in range(4):
            await engine.fire_schedules()
            clock.advance(1)
        assert [fire.state for fire in await engine.schedule_fires("z")] == ["started"]
        for number in range(4):
            first = (await engine.schedule_fires(f"s{number}"))[-1]
            await engine.deny(first.run_id, "mail", by="me")
            await engine.resume(first.run_id)
        for _ in range(6):
            await engine.fire_schedules()
            clock.advance(1)
        states = [sorted(told(await engine.schedule_fires(f"s{number}"))) for number in range(4)]
        assert [[state for _, state in each] for each in states] == [["started", "started"]] * 4

    on_engine(store, work)
