"""API keys: who may ask a server for what. A key is an identity, kept in the store of the runs, so that all servers of a store know it.

A key is `fpk_ID_SECRET`. The store has the id and a SHA-256 of the whole key: the secret has 256 random bits, so that no guess finds it, and a
slow hash would only make each request slower. This module does not know requests; `service/auth.py` does.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ...errors import InputRejected, StoreError
from ...lazy_imports import late_pattern
from ...plans.immutable import frozen
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json

if TYPE_CHECKING:
    from .store import Store

Scope = Literal["read", "submit", "approve", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
KEY_COLUMNS: Final = "id, name, tenant, scopes, may_approve_own, created, expires, used, revoked, digest"
USE_NOTED_S: Final = 900.0
"""Seconds for which one note of a key's use stands, so that requests write nothing."""
_NAME: Final = late_pattern(r"[A-Za-z0-9_](?:[A-Za-z0-9_.@-]{0,126}[A-Za-z0-9_])?")
_TENANT: Final = late_pattern(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
DIGEST_WORD: Final = "sha256"  # begins digests, and so no qualified name of a plan: no tenant is named so
_KEY: Final = late_pattern(r"fpk_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


@frozen
class ApiKey:
    """A key of the store.

    Attributes:
        id: Its public part, which names it in lists.
        name: Who asks with it: submits runs and decides under this name.
        scopes: What it may do, some of `read`, `submit`, `approve`, `admin`; `admin` includes the others.
        tenant: Whose runs and plans it sees; empty: all.
        may_approve_own: Whether it may approve calls of runs that it has submitted.
        created: Unix seconds.
        expires: Unix seconds from which it is refused; `None`: never.
        used: Unix seconds of a request with it, within a quarter of an hour of the last one; `None`: there was none.
        revoked: Unix seconds since which it is refused; `None`: it is not revoked.
        text: The key itself, only where it was just made.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    tenant: str = ""
    may_approve_own: bool = False
    created: float = 0.0
    expires: float | None = None
    used: float | None = None
    revoked: float | None = None
    text: str = field(default="", repr=False)
    _digest: bytes = field(default=b"", repr=False)

    def allows(self, scope: str) -> bool:
        """Whether the key has a scope."""
        return scope in self.scopes or "admin" in self.scopes

    def is_valid(self, at: float) -> bool:
        """Whether requests with the key are answered at a time."""
        return self.revoked is None and (self.expires is None or at < self.expires)

    def is_of(self, text: str) -> bool:
        """Whether a text is this key."""
        return hmac.compare_digest(_digest_of(text), self._digest)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON, with the key itself only where it was just made."""
        told: dict[str, Json] = {
            "id": self.id,
            "name": self.name,
            "scopes": list(self.scopes),
            "tenant": self.tenant,
            "may_approve_own": self.may_approve_own,
            "created": self.created,
            "expires": self.expires,
            "used": self.used,
            "revoked": self.revoked,
        }
        return {**told, "key": self.text} if self.text else told

    def to_row(self) -> tuple[Any, ...]:
        """Return it as a row of the table `api_keys`, in the order of `KEY_COLUMNS`."""
        times = (self.created, self.expires, self.used, self.revoked)
        return (
            self.id,
            self.name,
            self.tenant,
            " ".join(self.scopes),
            int(self.may_approve_own),
            *times,
            self._digest,
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> ApiKey:
        """Read a row back."""
        key_id, name, tenant, scopes, may_approve_own, created, expires, used, revoked, digest = row
        times = {"created": created, "expires": expires, "used": used, "revoked": revoked}
        given = tuple(scopes.split())
        return cls(key_id, name, given, tenant, bool(may_approve_own), **times, _digest=bytes(digest))


class ApiKeys:
    """The keys of one store.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(
        self,
        name: str,
        scopes: Collection[str],
        *,
        tenant: str,
        may_approve_own: bool,
        at: float,
        expires: float | None,
    ) -> ApiKey:
        """Make a key and return it with its text, which nobody can read again.

        A name is one identity: it may have several keys, so that a key can be replaced without a gap, but all in one tenant.

        Raises:
            InputRejected: The name, a scope or the tenant is not valid, or the name belongs to another tenant.
        """
        made = ApiKey(
            secrets.token_hex(8), _name_of(name), scopes_of(scopes), tenant_of(tenant), may_approve_own
        )
        for other in await self._store.list_api_keys():
            if other.name == name and other.tenant != tenant and other.is_valid(at):
                raise InputRejected(
                    f"the name '{name}' has a key of {_told(other.tenant)}; expected another name for a key of {_told(tenant)}: whoever "
                    "decides is recorded by name"
                )
        text = f"fpk_{made.id}_{secrets.token_urlsafe(32)}"
        made = replace(made, created=at, expires=expires, text=text, _digest=_digest_of(text))
        await self._store.add_api_key(made)
        return made

    async def all(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first, revoked and expired ones too."""
        return await self._store.list_api_keys()

    async def find(self, text: str, at: float) -> ApiKey | None:
        """Return the key that a text is, valid or not; `None`: it is none. A valid key's use is noted, at most each `USE_NOTED_S`."""
        read = _KEY.fullmatch(text)
        found = await self._store.find_api_key(read[1]) if read is not None else None
        if found is None or not found.is_of(text):
            return None
        if found.is_valid(at) and (found.used is None or at - found.used >= USE_NOTED_S):
            with suppress(StoreError):  # of a store that takes no writes the keys can still be read
                await self._store.note_api_key(found.id, used=at)
        return found

    async def revoke(self, name_or_id: str, at: float) -> list[ApiKey]:
        """Refuse all keys of a name, or one key by its id, from now on; return them.

        Raises:
            InputRejected: There is no such key, or it is revoked already.
        """
        keys = await self._store.list_api_keys()
        named = [key for key in keys if name_or_id in (key.name, key.id)]
        found = [key for key in named if key.revoked is None]
        if not found:
            if named:
                raise InputRejected(f"the key '{name_or_id}' is revoked already")
            names = sorted({key.name for key in keys if key.revoked is None})
            hint = did_you_mean(str(name_or_id), names, "`firmplan keys list` lists them")
            raise InputRejected(
                f"expected the name or the id of a key of this store, found {name_or_id!r}; {hint}"
            )
        for key in found:
            await self._store.note_api_key(key.id, revoked=at)
        return [replace(key, revoked=at) for key in found]


def is_key(text: str) -> bool:
    """Whether a text has the form of a key of a store, so that it is worth a look."""
    return _KEY.fullmatch(text) is not None


def scopes_of(given: Collection[str]) -> tuple[Scope, ...]:
    """Return scopes in their order. Raises: InputRejected: one is not known, or there is none."""
    wanted = {given} if isinstance(given, str) else set(given)
    for scope in sorted(wanted - set(SCOPES)):
        raise InputRejected(
            f"scope: expected any of {listing(SCOPES)}, found {scope!r}; {did_you_mean(scope, SCOPES)}".rstrip(
                "; "
            )
        )
    if not wanted:
        raise InputRejected(f"scope: expected at least one of {listing(SCOPES)}, found none")
    return tuple(scope for scope in SCOPES if scope in wanted)


def tenant_of(given: object) -> str:
    """Return the name of a tenant; empty: none. Raises: InputRejected: it is no valid name."""
    if isinstance(given, str) and is_tenant(given):
        return given
    raise InputRejected(
        "tenant: expected a letter or _, then at most 62 of A-Z a-z 0-9 . _ -, other than the word sha256, or no text for none, "
        f"found {given!r:.200}"
    )


def is_tenant(name: str) -> bool:
    """Whether a text can name a tenant, or is empty, which stands for none."""
    return not name or (_TENANT.fullmatch(name) is not None and name != DIGEST_WORD)


def _name_of(given: object) -> str:
    if isinstance(given, str) and _NAME.fullmatch(given):
        return given
    raise InputRejected(f"a key's name: expected at most 128 of A-Z a-z 0-9 _ . @ -, found {given!r:.200}")


def _told(tenant: str) -> str:
    return f"the tenant '{tenant}'" if tenant else "no tenant"


def _digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
