"""The tables of schedules in a store: what is scheduled, and what became of each time.

The claim of a time is one transaction: it moves the schedule's `next_at`, which only one process can do, and leaves the time as a fire that is
`due`. So a process that dies between the claim and the start of the run loses nothing: another process finds the fire.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..errors import ConfigError
from ..executor.stores.sql_store import Sql, SqlStore
from ..plans.values import Json, canonical
from .schedule import Fire, Schedule

FIRES_KEPT: Final = 500  # of each schedule, beside those that are due
DUE_MAX: Final = 200  # fires that one look at the schedules goes through
_COLUMNS: Final = "tenant, name, schedule, created, author, revision, paused, next_at"
_SELECT: Final = f"SELECT {_COLUMNS} FROM @schedules"
_NAMED: Final = "WHERE tenant=:tenant AND name=:name"
_ADD: Final = f"INSERT INTO @schedules ({_COLUMNS}) VALUES (:{_COLUMNS.replace(', ', ', :')}) ON CONFLICT (tenant, name) DO NOTHING"
_REPLACE: Final = f"""
    UPDATE @schedules SET schedule=:schedule, author=:author, revision=:revision, paused=:paused, next_at=:next_at
    {_NAMED} AND revision=:replaces
"""
_DUE: Final = f"{_SELECT} WHERE paused=0 AND next_at <= :now ORDER BY next_at, tenant, name"
_NEXT: Final = "SELECT min(next_at) FROM @schedules WHERE paused=0"
_CLAIM: Final = (
    f"UPDATE @schedules SET next_at=:then {_NAMED} AND revision=:revision AND paused=0 AND next_at=:next_at"
)
_FIRE_COLUMNS: Final = "schedule, fires_at, state, run_id, noted, detail, missed, tenant"
_ADD_FIRE: Final = f"""
    INSERT INTO @schedule_fires ({_FIRE_COLUMNS}, leased) VALUES (:{_FIRE_COLUMNS.replace(", ", ", :")}, 0)
    ON CONFLICT (tenant, schedule, fires_at) DO NOTHING
"""
_OF_SCHEDULE: Final = "WHERE tenant=:tenant AND schedule=:name"
_FORGET: Final = f"""
    DELETE FROM @schedule_fires {_OF_SCHEDULE} AND state <> 'due' AND fires_at <= (
        SELECT fires_at FROM @schedule_fires {_OF_SCHEDULE} ORDER BY fires_at DESC LIMIT 1 OFFSET {FIRES_KEPT})
"""
_FIRES: Final = f"""
    SELECT {_FIRE_COLUMNS} FROM @schedule_fires {_OF_SCHEDULE} AND fires_at < :before ORDER BY fires_at DESC LIMIT :limit
"""
_DUE_FIRES: Final = f"""
    SELECT {_FIRE_COLUMNS} FROM @schedule_fires WHERE state = 'due' ORDER BY leased, fires_at, tenant, schedule LIMIT :most
"""
_EARLIEST_DUE: Final = f"SELECT min(fires_at) FROM @schedule_fires {_OF_SCHEDULE} AND state = 'due'"
_THIS_FIRE: Final = f"{_OF_SCHEDULE} AND fires_at=:at AND state='due'"
_LEASE: Final = f"UPDATE @schedule_fires SET leased=:until {_THIS_FIRE} AND leased <= :now"
_SETTLE: Final = (
    f"UPDATE @schedule_fires SET state=:state, run_id=:run, detail=:detail, noted=:now {_THIS_FIRE}"
)
_TELL: Final = """
    INSERT INTO @webhook_notices (tenant, event, run_id, seq, noted, data) VALUES (:tenant, :event, '', 0, :now, :data)
"""
_RUNNING: Final = """
    SELECT fires.run_id FROM @schedule_fires AS fires JOIN @runs AS runs ON runs.id = fires.run_id
    WHERE fires.tenant=:tenant AND fires.schedule=:name AND fires.state='started'
    AND runs.status NOT IN ('succeeded', 'failed', 'cancelled') ORDER BY fires.fires_at
"""


class ScheduleTable:
    """The schedules of one store, and their fires.

    Args:
        store: The store.
        tells_webhooks: Whether it is noted in the store what webhooks are to be told.

    Raises:
        ConfigError: The store is none of firmplan's own.
    """

    def __init__(self, store: object, *, tells_webhooks: bool = False) -> None:
        if not isinstance(store, SqlStore):
            raise ConfigError("schedules need a store in SQLite or PostgreSQL: name it by its path or URL")
        self._store = store
        self._tells = tells_webhooks

    # --- schedules

    async def save(self, schedule: Schedule, *, replaces: int | None) -> bool:
        """Save a schedule, and return whether it was saved.

        Args:
            schedule: The schedule.
            replaces: The revision that it replaces; `None`: none has the name.
        """
        row = {
            **_key(schedule),
            "schedule": schedule.to_text(),
            "created": float(schedule.created),
            "author": schedule.by,
            "revision": schedule.revision,
            "paused": int(schedule.paused),
            "next_at": schedule.next_at,
        }
        statement, values = _ADD, row
        if replaces is not None:
            del row["created"]
            statement, values = _REPLACE, {**row, "replaces": replaces}

        def work(sql: Sql) -> bool:
            if sql.change(statement, values) != 1:
                return False
            self._store.tell(sql, "schedules")
            return True

        return await self._store.change(work)

    async def find(self, name: str, tenant: str) -> Schedule | None:
        """Return a schedule, or `None`."""
        values = {"name": name, "tenant": tenant}
        found = await self._store.look(lambda sql: sql.rows(f"{_SELECT} {_NAMED}", values))
        return _read(found[0]) if found else None

    async def list_all(self, tenant: str | None) -> list[Schedule]:
        """Return the schedules of a tenant, by name; `None`: all schedules."""
        statement = f"{_SELECT} {'' if tenant is None else 'WHERE tenant=:tenant '}ORDER BY tenant, name"
        return [
            _read(row)
            for row in await self._store.look(lambda sql: sql.rows(statement, {"tenant": tenant or ""}))
        ]

    async def remove(self, name: str, tenant: str) -> bool:
        """Remove a schedule with its fires; its runs stay. Return whether there was one."""
        values = {"name": name, "tenant": tenant}

        def work(sql: Sql) -> bool:
            is_removed = sql.change(f"DELETE FROM @schedules {_NAMED}", values) == 1
            sql.send(f"DELETE FROM @schedule_fires {_OF_SCHEDULE}", values)
            return is_removed

        return await self._store.change(work)

    # --- times

    async def next_at(self) -> float | None:
        """Return the earliest time of all schedules that nobody has claimed; `None`: there is none."""
        ((earliest,),) = await self._store.look(lambda sql: sql.rows(_NEXT))
        return None if earliest is None else float(earliest)

    async def list_due(self, now: float) -> list[Schedule]:
        """Return the schedules of all tenants of which a time has come."""
        return [_read(row) for row in await self._store.look(lambda sql: sql.rows(_DUE, {"now": float(now)}))]

    async def claim(self, schedule: Schedule, fires: Sequence[Fire], then: float | None) -> bool:
        """Claim the times of a schedule up to now, and return whether no other process did.

        Args:
            schedule: As it was read.
            fires: What becomes of these times.
            then: The next time.
        """
        values = {
            **_key(schedule),
            "revision": schedule.revision,
            "next_at": schedule.next_at,
            "then": then,
        }

        def work(sql: Sql) -> bool:
            if sql.change(_CLAIM, values) != 1:
                return False
            sql.each(_ADD_FIRE, [_fire_row(fire) for fire in fires])
            sql.send(_FORGET, _key(schedule))
            return True

        return await self._store.change(work)

    # --- fires

    async def list_fires(
        self, name: str, tenant: str, *, limit: int, before: float | None = None
    ) -> list[Fire]:
        """Return the last fires of a schedule, the latest time first; `before`: of earlier times."""
        values = {
            "name": name,
            "tenant": tenant,
            "limit": limit,
            "before": float("inf") if before is None else float(before),
        }
        return [Fire(*row) for row in await self._store.look(lambda sql: sql.rows(_FIRES, values))]

    async def list_due_fires(self) -> list[Fire]:
        """Return at most `DUE_MAX` fires of all tenants whose runs have not started: those first that nobody has tried, or not lately."""
        values = {"most": DUE_MAX}
        return [Fire(*row) for row in await self._store.look(lambda sql: sql.rows(_DUE_FIRES, values))]

    async def is_earliest(self, fire: Fire) -> bool:
        """Whether no earlier fire of the schedule is due."""
        values = {"tenant": fire.tenant, "name": fire.schedule}
        ((earliest,),) = await self._store.look(lambda sql: sql.rows(_EARLIEST_DUE, values))
        return earliest is None or bool(earliest >= fire.at)

    async def count(self, tenant: str) -> int:
        """Return how many schedules a tenant has."""
        statement = "SELECT count(*) FROM @schedules WHERE tenant=:tenant"
        ((count,),) = await self._store.look(lambda sql: sql.rows(statement, {"tenant": tenant}))
        return int(count)

    async def lease(self, fire: Fire, now: float, until: float) -> bool:
        """Become the one who starts the run of a fire until a time; `False`: another process is, or the fire is not due any more."""
        values = {**_fire_key(fire), "now": float(now), "until": float(until)}
        return await self._store.change(lambda sql: sql.change(_LEASE, values) == 1)

    async def settle(self, fire: Fire) -> None:
        """Record what became of a fire that was due."""
        # PostgreSQL's texts hold no NUL, and the detail may have words of a tool.
        detail = fire.detail.replace("\0", "\N{REPLACEMENT CHARACTER}")
        values = {
            **_fire_key(fire),
            "state": fire.state,
            "run": fire.run_id,
            "detail": detail,
            "now": float(fire.noted),
        }
        facts: dict[str, Json] = {"schedule": fire.schedule, "at": fire.at, "detail": detail}
        told = {**values, "event": "schedule.failed", "data": canonical(facts).decode()}

        def work(sql: Sql) -> None:
            if sql.change(_SETTLE, values) == 1 and self._tells and fire.state == "failed":
                sql.send(_TELL, told)
                self._store.tell(sql, "webhooks")

        await self._store.change(work)

    async def running(self, schedule: Schedule) -> list[str]:
        """Return the runs of a schedule that have not ended, the earliest time first."""
        found = await self._store.look(lambda sql: sql.rows(_RUNNING, _key(schedule)))
        return [run_id for (run_id,) in found]


def _key(schedule: Schedule) -> dict[str, Any]:
    return {"tenant": schedule.tenant, "name": schedule.name}


def _fire_key(fire: Fire) -> dict[str, Any]:
    return {"tenant": fire.tenant, "name": fire.schedule, "at": float(fire.at)}


def _fire_row(fire: Fire) -> dict[str, Any]:
    return {
        "tenant": fire.tenant,
        "schedule": fire.schedule,
        "fires_at": float(fire.at),
        "state": fire.state,
        "run_id": fire.run_id,
        "noted": float(fire.noted),
        "detail": fire.detail,
        "missed": fire.missed,
    }


def _read(row: Sequence[Any]) -> Schedule:
    tenant, name, text, created, author, revision, paused, next_at = row
    return Schedule.from_text(
        text,
        tenant=tenant,
        name=name,
        created=created,
        by=author,
        revision=revision,
        paused=bool(paused),
        next_at=next_at,
    )
