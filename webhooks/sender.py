"""Makes messages of what happened, sends them, and tries again.

`round` is one round for one endpoint, and any process may call it as often as it likes. The rules:

1. A notice becomes one delivery for each endpoint that hears it, once, in one transaction. The id and the bytes of a delivery never change.
2. A delivery is sent by the process that has leased it. If that process dies, another one sends it again: a receiver that needs to know compares ids.
3. An answer of 2xx is the end. Everything else, redirects too, is tried again after the waits of `WAITS_S`; then the delivery is given up, with a line in
   the log. 410 (the receiver is gone for good) is given up at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..errors import InputRejected
from ..plans.reports.nearest import did_you_mean
from ..plans.values import Json, canonical
from ..tools.models.endpoint import is_loopback
from .endpoint import TEST, Webhook
from .outbox import Delivery, Notice, Outbox

if TYPE_CHECKING:
    import httpx2
    from structlog.typing import FilteringBoundLogger

WAITS_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds between the attempts, as Standard Webhooks recommends: three days in all."""
JITTER: Final = 0.1  # the part of a wait by which it is longer, at most, so that a receiver that comes back is not met by all at once
TIMEOUT_S: Final = 15.0  # for the whole of one attempt; the specification names 15 to 30
LEASE_S: Final = 60.0  # how long a process has for a delivery that it has leased
AT_ONCE: Final = 8  # deliveries to one endpoint that are under way at a time
RETRY_AFTER_S_MAX: Final = 86_400.0  # longer than this no `Retry-After` is followed
DETAIL_MAX: Final = 300  # characters of what went wrong
OUTPUT_BYTES_MAX: Final = 256 * 1024  # of an output in a message; larger ones are left out
WAITING_MAX: Final = 50  # waiting calls and errors that one message names
GONE: Final = 410
ID_DIGITS: Final = 32

Describe = Callable[[str, Webhook], Awaitable[dict[str, Json]]]
"""Returns the facts about a run for a message to an endpoint; of a run that is gone, what is still known."""


class WebhookSender:
    """The messages of one engine.

    Args:
        outbox: Where they are.
        endpoints: Name -> endpoint.
        describe: Tells the facts about a run.
        now: The clock, Unix seconds.
        log: The log.

    Attributes:
        left_s: By endpoint, seconds from the last round to the next message, as far as it has found; 0: there may be something left to do.
    """

    def __init__(
        self,
        outbox: Outbox,
        endpoints: Mapping[str, Webhook],
        describe: Describe,
        now: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._outbox = outbox
        self._endpoints = endpoints
        self._describe = describe
        self._now = now
        self._log = log
        self._clients: dict[bool, httpx2.AsyncClient] = {}
        self.left_s: dict[str, float] = {}

    async def close(self) -> None:
        """Close the connections to the endpoints."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def round(self, name: str) -> list[Delivery]:
        """Make messages of what happened, and send those to one endpoint that are due; return them as they are then.

        Raises:
            InputRejected: There is no endpoint of that name.
            StoreError: The store failed; the next round goes on.
        """
        endpoint = self.endpoint(name)
        has_news = await self.make_deliveries()
        now = self._now()
        # A look first: most rounds find nothing, and a transaction that writes would make others wait.
        next_at = await self._outbox.next_at(name, now)
        self.left_s[name] = 0.0
        if next_at is None or next_at > now:
            if not has_news:
                self.left_s[name] = math.inf if next_at is None else next_at - now
            return []
        due = await self._outbox.lease(name, now=now, until=now + LEASE_S, most=AT_ONCE)
        return list(await asyncio.gather(*(self._send(endpoint, each) for each in due)))

    def endpoint(self, name: str) -> Webhook:
        """Return an endpoint. Raises: InputRejected: there is none of that name."""
        return endpoint_of(self._endpoints, name)

    async def test(self, name: str) -> Delivery:
        """Send a message to an endpoint that says nothing, and return how it fared; it is not tried again. Raises: InputRejected: as `round`."""
        endpoint, now = self.endpoint(name), self._now()
        message_id = (
            f"msg_test{hashlib.sha256(f'{name}{now!r}{random.random()!r}'.encode()).hexdigest()[:24]}"  # noqa: S311  # no secret
        )
        payload = _payload(TEST, now, {"endpoint": name})
        sent = Delivery(message_id, "", name, TEST, None, now, "pending", 0, now, None, "", now, payload)
        made = await self._attempt(endpoint, sent)
        return replace(made, state="failed") if made.state == "pending" else made

    # --- notices

    async def make_deliveries(self) -> bool:
        """Make deliveries of what happened, and return whether anything had."""
        notices = await self._outbox.list_notices()
        for notice in notices:
            hearing = [each for each in self._endpoints.values() if each.hears(notice.event, notice.tenant)]
            deliveries = [await self._delivery(notice, each) for each in hearing]
            await self._outbox.post(notice, deliveries, self._now())
        return bool(notices)

    async def _delivery(self, notice: Notice, endpoint: Webhook) -> Delivery:
        if notice.run_id:
            facts = await self._describe(notice.run_id, endpoint)
            data = {**facts, "run_id": notice.run_id, "status": notice.event.partition(".")[2]}
        else:
            import orjson  # noqa: PLC0415  # only schedules tell facts of their own

            data = orjson.loads(notice.data)
        data |= {"tenant": notice.tenant} if notice.tenant else {}
        key = (
            f"{endpoint.name}\n{notice.event}\n{notice.run_id}\n{notice.seq}\n{notice.noted!r}\n{notice.data}"
        )
        now = self._now()
        return Delivery(
            f"msg_{hashlib.sha256(key.encode()).hexdigest()[:ID_DIGITS]}",
            notice.tenant,
            endpoint.name,
            notice.event,
            notice.run_id or None,
            now,
            "pending",
            0,
            now,
            None,
            "",
            now,
            _payload(notice.event, notice.noted, data),
        )

    # --- attempts

    async def _send(self, endpoint: Webhook, delivery: Delivery) -> Delivery:
        made = await self._attempt(endpoint, delivery)
        await self._outbox.settle(made)
        fields = {
            "endpoint": made.endpoint,
            "id": made.id,
            "webhook_event": made.event,
            "attempts": made.attempts,
        }
        if made.state == "failed":
            self._log.warning("webhook given up", **fields, error=made.detail)
        elif made.state == "pending":
            self._log.info("webhook to be sent again", **fields, error=made.detail)
        return made

    async def _attempt(self, endpoint: Webhook, delivery: Delivery) -> Delivery:
        """Send a message once, and return the delivery with what came of it."""
        answered: int | None = None
        retry_after = 0.0
        try:
            answered, retry_after = await self._post(endpoint, delivery)
            detail = "" if 200 <= answered < 300 else f"the endpoint answered {answered}"
        except TimeoutError:
            detail = f"no answer came within {TIMEOUT_S:g} s"
        except LookupError as fault:  # the secret is missing
            detail = str(fault)
        except Exception as fault:  # noqa: BLE001  # whatever fails: the message has to be sent again
            detail = f"{type(fault).__name__}: {fault}"
        now, attempts = self._now(), delivery.attempts + 1
        made = replace(
            delivery, attempts=attempts, answered=answered, detail=detail[:DETAIL_MAX], updated=now
        )
        if not detail:
            return replace(made, state="delivered")
        if answered == GONE or attempts > len(WAITS_S):
            return replace(made, state="failed")
        wait = WAITS_S[attempts - 1] * (1 + JITTER * random.random())  # noqa: S311  # no secret
        return replace(made, next_at=now + max(wait, retry_after))

    async def _post(self, endpoint: Webhook, delivery: Delivery) -> tuple[int, float]:
        """Send a message; return the status of the answer, and the seconds of its `Retry-After`."""
        from importlib.metadata import version  # noqa: PLC0415  # only where something is sent

        payload = delivery.payload.encode()
        headers = {
            **endpoint.sign(delivery.id, int(self._now()), payload),
            "content-type": "application/json",
            "user-agent": f"firmplan/{version('firmplan')}",
        }
        async with asyncio.timeout(TIMEOUT_S):
            client = self._client(endpoint)
            # The body of the answer is not read: nothing in it matters, and it may be endless.
            async with client.stream("POST", endpoint.url, content=payload, headers=headers) as answer:
                return answer.status_code, _seconds(answer.headers.get("retry-after", ""))

    def _client(self, endpoint: Webhook) -> httpx2.AsyncClient:
        # A proxy of the environment is for the world outside, not for this machine.
        is_here = is_loopback(endpoint.url)
        if is_here not in self._clients:
            import httpx2  # noqa: PLC0415  # only where there are webhooks

            self._clients[is_here] = httpx2.AsyncClient(
                follow_redirects=False, timeout=TIMEOUT_S, trust_env=not is_here
            )
        return self._clients[is_here]


def endpoint_of(endpoints: Mapping[str, Webhook], name: str) -> Webhook:
    """Return an endpoint. Raises: InputRejected: there is none of that name."""
    found = endpoints.get(name)
    if found is None:
        hint = did_you_mean(name, list(endpoints), f"known are {', '.join(endpoints) or 'none'}")
        raise InputRejected(f"there is no webhook {name!r:.80} in the settings; {hint}")
    return found


def _payload(event: str, at: float, data: Mapping[str, Json]) -> str:
    """Return the bytes of a message as text, in the form of Standard Webhooks."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made: dict[str, Any] = {"type": event, "timestamp": moment, "data": dict(data)}
    return canonical(made).decode()


def _seconds(text: str) -> float:
    """Return the seconds of a `Retry-After`; a date counts as none."""
    return min(float(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdecimal() else 0.0
