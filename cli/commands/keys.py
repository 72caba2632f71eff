"""The commands about API keys: who may ask the servers of a store, and for what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .. import screen
from ..command import STORE, CommandGroup

if TYPE_CHECKING:
    from ...executor import ApiKey
    from ..invocation import Invocation

commands = CommandGroup()
DAY = "%Y-%m-%d %H:%M"

key_commands = commands.group(
    "keys",
    "Make, list and revoke API keys of servers. Without a further word, list them.",
    example="--json",
)


@key_commands.command(uses=STORE, example="ann --scope read,submit --tenant acme --expires 90d")
async def keys_add(
    invocation: Invocation,
    name: str,
    scope: Annotated[list[str] | None, typer.Option(metavar="SCOPE")] = None,
    tenant: str = "",
    expires: str | None = None,
    may_approve_own: bool = False,
) -> None:
    """Make a key and print it. The store keeps its hash only, so nobody can read it again.

    Args:
        name: Who asks with it; runs and decisions are recorded under this name.
        scope: read, submit, approve or admin (all of them); repeatable, or comma separated.
        tenant: Whose runs and plans alone it sees; without it, all.
        expires: From when it is refused, such as 90d.
        may_approve_own: Let it approve calls of runs that it has submitted.
    """
    wanted = {each.strip() for text in scope or () for each in text.split(",") if each.strip()}
    async with invocation.engine() as engine:
        key = await engine.add_key(
            name, scopes=wanted, tenant=tenant, expires=expires, may_approve_own=may_approve_own
        )
    invocation.answer(key, key.text)
    invocation.note(f"the key {key.id} of {name}{_of(key)}: keep it now, it is shown only once")


@key_commands.command(uses=STORE, is_default=True, example="--json")
async def keys_list(invocation: Invocation) -> None:
    """List the keys of the store, oldest first; never a key itself."""
    async with invocation.look() as engine:
        keys = await engine.list_keys()
    if invocation.as_json:
        screen.document({"keys": [key.to_dict() for key in keys]})
    elif keys:
        head = ("KEY", "NAME", "SCOPES", "TENANT", "MADE (UTC)", "USED", "STATE")
        screen.answer(screen.table(head, map(_row, keys)))
    else:
        screen.note(f"no keys in {invocation.settings.store_name}")


@key_commands.command(uses=STORE, example="ann")
async def keys_revoke(invocation: Invocation, name: str) -> None:
    """Refuse all keys of a name, or one by its id. Running servers do so within seconds.

    Args:
        name (NAME|KEY): The name, or the id of one key.
    """
    async with invocation.look() as engine:
        revoked = await engine.revoke_key(name)
    document = {"keys": [key.to_dict() for key in revoked]}
    invocation.answer(document, f"revoked {screen.plural(len(revoked), 'key')} of {revoked[0].name}")


def _row(key: ApiKey) -> tuple[str, ...]:
    scopes = " ".join(key.scopes) + (" +own" if key.may_approve_own else "")
    return key.id, key.name, scopes, key.tenant or "-", _day(key.created), _day(key.used), _state(key)


def _state(key: ApiKey) -> str:
    if key.revoked is not None:
        return f"revoked {_day(key.revoked)}"
    if not key.is_valid(datetime.now(UTC).timestamp()):
        return f"expired {_day(key.expires)}"
    return "valid" if key.expires is None else f"until {_day(key.expires)}"


def _day(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime(DAY)


def _of(key: ApiKey) -> str:
    return f", of the tenant {key.tenant}" if key.tenant else ""
