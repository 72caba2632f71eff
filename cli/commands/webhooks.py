"""The commands about webhooks: list the endpoints of the settings, see and send their messages, test an endpoint, make a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import screen
from ..command import STORE, CommandGroup
from ..failure import Exit

if TYPE_CHECKING:
    from ...webhooks import Delivery
    from ..invocation import Invocation

commands = CommandGroup()
webhook_commands = commands.group(
    "webhooks",
    "See what endpoints are told of runs. Without a further word, list the endpoints of firmplan.toml.",
)


@webhook_commands.command(uses=STORE, is_default=True, example="--json")
async def webhooks_list(invocation: Invocation) -> None:
    """List the endpoints of the settings."""
    async with invocation.look() as engine:
        found = engine.webhooks
    if not found and not invocation.as_json:
        screen.note("no webhooks; name endpoints under [webhooks] in firmplan.toml")
        return
    shown = [each.to_dict() for each in found]
    rows = [(str(each["name"]), str(each["host"]), ", ".join(each["events"])) for each in shown]
    invocation.answer({"webhooks": shown}, screen.table(("NAME", "HOST", "EVENTS"), rows))


@webhook_commands.command(uses=STORE, example="--state failed")
async def webhooks_deliveries(
    invocation: Invocation,
    state: str | None = None,
    endpoint: str | None = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
) -> None:
    """List messages, the newest first, and how they fared.

    Args:
        state (STATE): Only pending, delivered or failed ones.
        endpoint (NAME): Only those to one endpoint.
        limit (N): Most of them.
    """
    async with invocation.look() as engine:
        page = await engine.list_deliveries(state=state, endpoint=endpoint, limit=limit)
    invocation.answer(page, _table(page.deliveries) if page.deliveries else "no messages")


@webhook_commands.command(uses=STORE, example="--json")
async def webhooks_deliver(invocation: Invocation) -> int:
    """Send the messages that are due. For machines without a server, from cron or a timer."""
    async with invocation.engine() as engine:
        sent = await engine.deliver_webhooks()
    text = _table(sent) if sent else "no message is due"
    invocation.answer({"deliveries": [each.to_dict() for each in sent]}, text)
    return Exit.OK if all(each.state == "delivered" for each in sent) else Exit.FAILED


@webhook_commands.command(uses=STORE, example="ops")
async def webhooks_test(invocation: Invocation, name: str) -> int:
    """Send a message that says nothing to an endpoint, once.

    Args:
        name (NAME): The endpoint's name in the settings.
    """
    async with invocation.look() as engine:
        sent = await engine.test_webhook(name)
    answered = f"answered {sent.answered}" if sent.answered is not None else sent.detail
    invocation.answer(sent, f"{name}: {answered}")
    return Exit.OK if sent.state == "delivered" else Exit.FAILED


@webhook_commands.command(uses=STORE, example="msg_be40097b6b473daebe40097b6b473dae")
async def webhooks_retry(invocation: Invocation, delivery_id: str) -> None:
    """Have a message sent again that was given up or delivered.

    Args:
        delivery_id (ID): Its id, as `webhooks deliveries` lists it.
    """
    async with invocation.look() as engine:
        made = await engine.retry_delivery(delivery_id)
    invocation.answer(made, f"{made.id} is sent again by a server, or by `firmplan webhooks deliver`")


@webhook_commands.command(uses=STORE, example="--json")
def webhooks_secret(invocation: Invocation) -> None:
    """Make a new secret for signatures, and print it. The receiver needs it, too."""
    from ...webhooks.endpoint import new_secret

    made = new_secret()
    invocation.answer({"secret": made}, made)


def _table(deliveries: list[Delivery] | tuple[Delivery, ...]) -> str:
    rows = [
        (
            each.id,
            screen.moment(each.created),
            each.endpoint,
            each.event,
            each.run_id or "",
            each.state,
            str(each.attempts),
            each.detail,
        )
        for each in deliveries
    ]
    return screen.table(("ID", "MADE", "ENDPOINT", "EVENT", "RUN", "STATE", "TRIES", "WHY"), rows)
