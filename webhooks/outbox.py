"""The tables of webhooks in a store: what happened and is to be told (notices), and the messages that are made of it (deliveries).

A notice is written in the transaction that ends a run or leaves it waiting (`executor/stores/sql_store.py`), without a look at who will be told. One
process makes deliveries of it, one for each endpoint, in one transaction with the removal of the notice. A delivery is leased by the process that
sends it; if that process dies, another one sends it again, under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ..errors import ConfigError
from ..executor.stores.sql_store import Sql, SqlStore
from ..plans.values import Json

DeliveryState: TypeAlias = Literal["pending", "delivered", "failed"]
NOTICES_MAX: Final = 100  # notices of which one round makes deliveries
KEPT_S: Final = 30 * 86_400.0  # how long a delivery stays that was made or given up
_NOTICES: Final = f"""
    SELECT number, tenant, event, run_id, seq, noted, data FROM @webhook_notices ORDER BY number LIMIT {NOTICES_MAX}
"""
_COLUMNS: Final = (
    "id, tenant, endpoint, event, run_id, created, state, attempts, next_at, answered, detail, updated"
)
_ADD: Final = f"""
    INSERT INTO @webhook_deliveries ({_COLUMNS}, payload, leased)
    VALUES (:{_COLUMNS.replace(", ", ", :")}, :payload, 0) ON CONFLICT (id) DO NOTHING
"""
_NEXT: Final = """
    SELECT next_at FROM @webhook_deliveries WHERE state='pending' AND endpoint=:endpoint AND leased <= :now ORDER BY next_at LIMIT 1
"""
_DUE: Final = f"""
    SELECT {_COLUMNS}, payload FROM @webhook_deliveries WHERE state='pending' AND endpoint=:endpoint AND next_at <= :now AND leased <= :now
    ORDER BY next_at, id LIMIT :most
"""
_LEASE: Final = "UPDATE @webhook_deliveries SET leased=:until WHERE id=:id AND state='pending' AND leased <= :now AND attempts=:attempts"
_SETTLE: Final = """
    UPDATE @webhook_deliveries SET state=:state, attempts=:attempts, next_at=:next_at, answered=:answered, detail=:detail, updated=:updated,
    leased=0 WHERE id=:id
"""
_AGAIN: Final = """
    UPDATE @webhook_deliveries SET state='pending', attempts=0, next_at=:now, updated=:now, leased=0 WHERE id=:id AND state <> 'pending'
"""
_FORGET: Final = "DELETE FROM @webhook_deliveries WHERE state <> 'pending' AND updated < :before"


class Notice(NamedTuple):
    """Something that happened and is to be told.

    Attributes:
        run_id: The run; empty: it is about no run.
        seq: The number of the run's last record then.
        noted: When it happened, Unix seconds.
        data: Facts as JSON text, where it is about no run.
    """

    number: int
    tenant: str
    event: str
    run_id: str
    seq: int
    noted: float
    data: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message to one endpoint, and how it fared.

    Attributes:
        id: The `webhook-id`: the same in each attempt.
        endpoint: The name of the endpoint.
        event: Such as `run.failed`.
        run_id: The run; `None`: it is about no run.
        created: When the message was made, Unix seconds.
        state: `pending`, `delivered`, or `failed`: given up.
        attempts: How often it was sent.
        next_at: When it is sent next, while it is pending.
        answered: The last HTTP status; `None`: there was no answer.
        detail: What went wrong last; empty: nothing did.
        updated: When it last changed, Unix seconds.
    """

    id: str
    tenant: str
    endpoint: str
    event: str
    run_id: str | None
    created: float
    state: DeliveryState
    attempts: int
    next_at: float
    answered: int | None
    detail: str
    updated: float
    payload: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON, without what was sent."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name not in ("tenant", "payload")}
        next_at = self.next_at if self.state == "pending" else None
        return {**shown, "next_at": next_at, "detail": self.detail or None}


class Outbox:
    """The notices and deliveries of one store.

    Args:
        store: The store.

    Raises:
        ConfigError: The store is none of firmplan's own.
    """

    def __init__(self, store: object) -> None:
        if not isinstance(store, SqlStore):
            raise ConfigError("webhooks need a store in SQLite or PostgreSQL: name it by its path or URL")
        self._store = store

    async def list_notices(self) -> list[Notice]:
        """Return what is to be told, the oldest first."""
        return [Notice(*row) for row in await self._store.look(lambda sql: sql.rows(_NOTICES))]

    async def post(self, notice: Notice, deliveries: Sequence[Delivery], now: float) -> bool:
        """Put deliveries in the place of a notice; `False`: another process did."""

        def work(sql: Sql) -> bool:
            gone = {"number": notice.number}
            if sql.change("DELETE FROM @webhook_notices WHERE number=:number", gone) != 1:
                return False
            sql.each(_ADD, [_row(each) for each in deliveries])
            sql.send(_FORGET, {"before": now - KEPT_S})
            return True

        return await self._store.change(work)

    async def add(self, delivery: Delivery) -> None:
        """Add a delivery of which there is no notice."""
        await self._store.change(lambda sql: sql.change(_ADD, _row(delivery)))

    async def next_at(self, endpoint: str, now: float) -> float | None:
        """Return when the next delivery to an endpoint is due, those apart that a process sends; `None`: there is none."""
        values = {"endpoint": endpoint, "now": now}
        found = await self._store.look(lambda sql: sql.rows(_NEXT, values))
        return float(found[0][0]) if found else None

    async def lease(self, endpoint: str, *, now: float, until: float, most: int) -> list[Delivery]:
        """Return deliveries to an endpoint that are due and that this process sends until a time.

        Args:
            endpoint: Its name.
            now: Unix seconds.
            until: The end of the lease.
            most: How many, at most.
        """

        def work(sql: Sql) -> list[Delivery]:
            due = [Delivery(*row) for row in sql.rows(_DUE, {"endpoint": endpoint, "now": now, "most": most})]
            many = [{"id": each.id, "now": now, "until": until, "attempts": each.attempts} for each in due]
            # PostgreSQL: another process may have leased one since the query; then its row is not changed here.
            found = sql.each(_LEASE, many)
            return [each for each, cursor in zip(due, found, strict=True) if cursor.rowcount == 1]

        return await self._store.change(work)

    async def settle(self, delivery: Delivery) -> None:
        """Record how an attempt ended."""
        # PostgreSQL's texts hold no NUL.
        row = _row(delivery) | {"detail": delivery.detail.replace("\0", "\N{REPLACEMENT CHARACTER}")}
        await self._store.change(lambda sql: sql.change(_SETTLE, row))

    async def find(self, delivery_id: str) -> Delivery | None:
        """Return a delivery, or `None`."""
        statement = f"SELECT {_COLUMNS}, payload FROM @webhook_deliveries WHERE id=:id"
        found = await self._store.look(lambda sql: sql.rows(statement, {"id": delivery_id}))
        return Delivery(*found[0]) if found else None

    async def send_again(self, delivery_id: str, now: float) -> bool:
        """Make a delivery that was made or given up pending again; `False`: it is pending."""
        values = {"id": delivery_id, "now": float(now)}

        def work(sql: Sql) -> bool:
            if sql.change(_AGAIN, values) != 1:
                return False
            self._store.tell(sql, "webhooks")
            return True

        return await self._store.change(work)

    async def list_deliveries(
        self,
        *,
        tenant: str | None,
        state: str | None,
        endpoint: str | None,
        limit: int,
        before: tuple[float, str] | None,
    ) -> list[Delivery]:
        """Return deliveries without what was sent, the newest first.

        Args:
            tenant: Of this tenant; `None`: of all.
            state: Of this state; `None`: of all.
            endpoint: To this endpoint; `None`: to all.
            limit: How many, at most.
            before: Older than this one (time of its making, id).
        """
        wanted = {"tenant": tenant, "state": state, "endpoint": endpoint}
        conditions = [f"{name}=:{name}" for name, value in wanted.items() if value is not None]
        values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        if before is not None:
            conditions.append("(created < :created OR (created = :created AND id < :id))")
            values |= {"created": before[0], "id": before[1]}
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        statement = (
            f"SELECT {_COLUMNS} FROM @webhook_deliveries {where}ORDER BY created DESC, id DESC LIMIT :limit"
        )
        found = await self._store.look(lambda sql: sql.rows(statement, {**values, "limit": limit}))
        return [Delivery(*row) for row in found]


def _row(delivery: Delivery) -> dict[str, Any]:
    names = (*_COLUMNS.split(", "), "payload")
    return {name: getattr(delivery, name) for name in names}
