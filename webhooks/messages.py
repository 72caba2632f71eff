"""What a message says of a run, and what people see of the messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast, get_args

from ..errors import UNKNOWN_DELIVERY, InputRejected
from ..executor.runs.request import count_of
from ..plans.reports.nearest import short
from ..plans.values import Json, canonical
from .outbox import Delivery, DeliveryState, Outbox
from .sender import OUTPUT_BYTES_MAX, WAITING_MAX

if TYPE_CHECKING:
    from ..executor import Run

LIMIT_MAX: Final = 500  # messages of one page


def run_facts(run: Run, *, has_output: bool) -> dict[str, Json]:
    """Return the facts about a run: ids, digests, times, paths and codes. Values and words of the run are left out, but for the output.

    Args:
        run: The run, as it is now.
        has_output: Whether its output is among the facts.
    """
    waiting = [
        (path, step)
        for path, step in run.steps.items()
        if step.status in ("waiting", "indeterminate") and step.attempt is not None
    ]
    facts: dict[str, Json] = {
        "plan_digest": run.plan.digest if run.plan is not None else None,
        "parent": run.parent,
        "schedule": dict(run.schedule) if run.schedule is not None else None,
        "created": run.created,
        "updated": run.updated,
        "waiting": [
            {"step": path, "status": step.status, "attempt": step.attempt}
            for path, step in waiting[:WAITING_MAX]
        ],
        "waiting_count": len(waiting),
        "asks": run.question is not None,
        "errors": [{"step": error.step, "code": error.code} for error in run.errors[:WAITING_MAX]],
    }
    if has_output and run.status == "succeeded":
        is_small = len(canonical(run.output)) <= OUTPUT_BYTES_MAX
        facts |= {"output": run.output} if is_small else {"output_left_out": True}
    return facts


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some messages, the newest first; `cursor` asks for the next page, `None`: there is none."""

    deliveries: tuple[Delivery, ...]
    cursor: str | None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"deliveries": [each.to_dict() for each in self.deliveries], "cursor": self.cursor}


async def page_of(  # the filters and the page
    outbox: Outbox,
    *,
    state: str | None,
    endpoint: str | None,
    limit: int,
    cursor: str | None,
    tenant: str | None,
) -> DeliveryPage:
    """Return a page of messages, as `Engine.list_deliveries` does. Raises: InputRejected: an argument is not valid."""
    count_of("limit", limit, least=1, most=LIMIT_MAX)
    if state is not None and state not in get_args(DeliveryState):
        raise InputRejected(
            f"state: expected one of {', '.join(get_args(DeliveryState))}, found {state!r:.80}"
        )
    if endpoint is not None and not (isinstance(cast("object", endpoint), str) and endpoint.isascii()):
        raise InputRejected(f"endpoint: expected the name of a webhook, found {endpoint!r:.80}")
    found = await outbox.list_deliveries(
        tenant=tenant, state=state, endpoint=endpoint, limit=limit + 1, before=_read_cursor(cursor)
    )
    page = tuple(found[:limit])
    more = f"{page[-1].created!r}~{page[-1].id}" if len(found) > limit else None
    return DeliveryPage(page, more)


def _read_cursor(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    created, _, delivery_id = cursor.partition("~")
    try:
        if delivery_id and cursor.isascii() and "\0" not in cursor:
            return float(created), delivery_id
    except ValueError:
        pass
    raise InputRejected(f"cursor: expected the cursor of an earlier page, found {cursor!r:.80}")


async def retried(outbox: Outbox, delivery_id: str, now: float, tenant: str | None) -> Delivery:
    """Have a message sent again, and return it. Raises: InputRejected: there is no such message of that tenant."""
    is_name = (
        isinstance(cast("object", delivery_id), str) and delivery_id.isascii() and "\0" not in delivery_id
    )
    found = await outbox.find(delivery_id) if is_name else None
    if found is None or tenant not in (None, found.tenant):
        raise InputRejected(
            f"there is no message {short(str(delivery_id))!r} of a webhook; `firmplan webhooks deliveries` lists them",
            code=UNKNOWN_DELIVERY,
        )
    await outbox.send_again(delivery_id, now)
    return await outbox.find(delivery_id) or found
