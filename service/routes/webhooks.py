"""The routes that show the messages of webhooks, and the work that a server does for them beside requests: it sends what is due."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from ...engine import Engine
from ..background import repeat
from ..schemas import DeliveriesView, DeliveryView, WebhooksView
from .runs import Asking, Served, StrictRoute, answer, answer_heads

webhook_router = APIRouter(prefix="/v1/webhooks", route_class=StrictRoute, tags=["webhooks"])


@webhook_router.get("", response_model=WebhooksView, summary="List webhooks")
async def list_webhooks(served: Served) -> Response:
    """Answer with the endpoints of this server's settings, by name; of their URLs with the host alone."""
    return answer({"webhooks": [each.to_dict() for each in served.engine.webhooks]})


@webhook_router.get("/deliveries", response_model=DeliveriesView, summary="List messages of webhooks")
async def list_deliveries(
    served: Served,
    caller: Asking,
    state: Literal["pending", "delivered", "failed"] | None = None,
    endpoint: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
) -> Response:
    """Answer with one page, newest first, and how each message fared; its `cursor` leads to the next page."""
    page = await served.engine.list_deliveries(
        state=state, endpoint=endpoint, limit=limit, cursor=cursor, tenant=caller.tenant or None
    )
    return answer(page.to_dict())


@webhook_router.post(
    "/deliveries/{delivery_id}/retry", response_model=DeliveryView, summary="Send a message again"
)
async def retry_delivery(delivery_id: str, served: Served, caller: Asking) -> Response:
    """Have a message sent again that was given up or delivered, with the same id; answer with it as it is then."""
    made = await served.engine.retry_delivery(delivery_id, tenant=caller.tenant or None)
    return answer(made.to_dict())


answer_heads(webhook_router)


async def deliver(engine: Engine, endpoint: str) -> None:
    """Send the messages to one endpoint that are due, until it is cancelled: a slow endpoint holds up no other."""

    async def send() -> None:
        if engine.webhooks_due(endpoint):
            await engine.deliver_webhooks(endpoint)

    await repeat(send, "no look for messages of webhooks")
