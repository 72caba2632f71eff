"""Who asks, and what they may do: keys, scopes and tenants.

Keys come from settings (`FIRMPLAN_API_KEYS`, `named_keys`) or from the store (`firmplan keys add`). Each request has a `Caller`. `SCOPES` says for
every handler which scope it needs, and `ScopedRoute` checks it before it reads a body. A route with a run in its path answers about another tenant's
run as about a run that does not exist. A handler that is not in the table needs `SERVER`, so that a forgotten entry opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from ..engine import Engine
from ..errors import StoreError
from ..executor import ApiKey, Submitter
from ..executor.lru_cache import LruCache
from ..executor.runs.archive import qualified
from ..executor.stores.api_keys import SCOPES as KEY_SCOPES
from ..executor.stores.api_keys import is_key
from .problems import Refusal

CALLER = "firmplan.caller"
"""Key of the ASGI scope that holds the `Caller` of a request."""
LOOK_S: Final = 2.0
"""Seconds for which a look into the store stands: a revoked key is refused after them, at every server."""
SEEN_MAX: Final = 10_000
"""Keys of the store that were lately accepted; the others cost one more look into the store."""

READ, SUBMIT, APPROVE, ADMIN = KEY_SCOPES
OPEN: Final = "open"
"""No key is needed."""
ANY: Final = "any"
"""A key is needed, and each will do."""
SERVER: Final = "server"
"""What is about all tenants: the scope `admin`, of a key without a tenant."""
SCOPES: Final[Mapping[str, str]] = {
    "submit_task": SUBMIT,
    "submit_run": SUBMIT,
    "list_runs": READ,
    "get_run": READ,
    "get_waiting": READ,
    "list_waiting": READ,
    "delete_run": ADMIN,
    "get_events": READ,
    "replay_run": READ,
    "resume_run": SUBMIT,
    "fork_run": SUBMIT,
    "retry_run": SUBMIT,
    "decide_run": APPROVE,
    "answer_run": APPROVE,
    "cancel_run": SUBMIT,
    "explain_run": READ,
    "diff_runs": READ,
    "verify_run": SUBMIT,
    "export_run": READ,
    "get_artifact": READ,
    "preview_artifact": READ,
    "get_tracebacks": ADMIN,
    "save_artifact": SUBMIT,
    "get_step": READ,
    "approve_step": APPROVE,
    "answer_step": APPROVE,
    "deny_step": APPROVE,
    "resolve_step": APPROVE,
    "plan_task": SUBMIT,
    "check_plan": READ,
    "graph_plan": READ,
    "get_graph": READ,
    "get_call": READ,
    "get_log": READ,
    "save_plan": SUBMIT,
    "delete_plan": ADMIN,
    "get_plan": READ,
    "list_versions": READ,
    "get_version": READ,
    "list_plans": READ,
    "list_schedules": READ,
    "preview_times": READ,
    "put_schedule": SUBMIT,
    "get_schedule": READ,
    "remove_schedule": ADMIN,
    "pause_schedule": SUBMIT,
    "resume_schedule": SUBMIT,
    "list_fires": READ,
    "list_webhooks": SERVER,
    "list_deliveries": ADMIN,
    "retry_delivery": ADMIN,
    "list_tools": READ,
    "get_me": ANY,
    "healthz": OPEN,
    "readyz": OPEN,
    "metrics": SERVER,
}
"""Handler -> the scope that its requests need. `docs/HTTP.md` has the same, for people."""
RUNS: Final = ("run_id", "other_id")
"""Parameters of paths that name a run."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        id: Tells callers apart, for rates and idempotency keys; empty where no keys are needed.
        name: The name of the key; `None`: it has none.
        scopes: What it may do.
        tenant: Whose runs and plans it sees; empty: all.
        may_approve_own: Whether it may approve calls of its own runs.
        is_valid: Returns whether its key is still accepted; `None`: it always is.
    """

    id: str
    name: str | None = None
    scopes: frozenset[str] = frozenset(KEY_SCOPES)
    tenant: str = ""
    may_approve_own: bool = False
    is_valid: Callable[[], Awaitable[bool]] | None = field(default=None, repr=False, compare=False)

    @property
    def submitter(self) -> Submitter | None:
        """Who submits the runs of this caller's requests; `None`: a key without a name."""
        if self.name is None:
            return None
        return Submitter(self.name, may_approve=self.may_approve_own, tenant=self.tenant)

    def to_dict(self) -> dict[str, Any]:
        """Return what the caller may know about its key."""
        return {
            "name": self.name,
            "scopes": [scope for scope in KEY_SCOPES if scope in self.scopes],
            "tenant": self.tenant or None,
            # Who has no name is the submitter of no run.
            "may_approve_own": self.may_approve_own or self.name is None,
        }

    def plan(self, name: str) -> str:
        """Return the name of a saved plan of this caller, as the engine takes it."""
        return qualified(name, self.tenant)

    def expect(self, scope: str) -> None:
        """Raise unless the caller has a scope. Raises: Refusal (403): the code names the scope."""
        wanted = ADMIN if scope == SERVER else scope
        if scope not in {OPEN, ANY} and wanted not in self.scopes:
            found = ", ".join(each for each in KEY_SCOPES if each in self.scopes) or "none"
            raise _missing(wanted, f"expected a key with the scope '{wanted}', found one with {found}")
        if scope == SERVER and self.tenant:
            raise _missing(wanted, "expected a key of no tenant, because the answer is about all tenants")


ANYBODY: Final = Caller("")
"""The caller where no keys are needed."""


def caller_of(request: Request) -> Caller:
    """Return who sent a request; `Guard` has established it."""
    caller: Caller = request.scope[CALLER]
    return caller


def _missing(scope: str, detail: str) -> Refusal:
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'  # RFC 6750
    return Refusal(HTTPStatus.FORBIDDEN, f"needs-{scope}", detail, {"WWW-Authenticate": challenge})


class ScopedRoute(APIRoute):
    """A route that answers only callers with the scope that `SCOPES` has for its handler, about runs of their tenant."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind the checks."""
        handle = self.inner_handler()
        scope = SCOPES.get(self.name, SERVER)
        runs = [name for name in RUNS if name in self.param_convertors]

        async def scoped(request: Request) -> Response:
            if scope != OPEN:
                caller = caller_of(request)
                caller.expect(scope)
                if caller.tenant:
                    engine: Engine = request.app.state.served.engine
                    for name in runs:
                        await engine.expect_run(request.path_params[name], tenant=caller.tenant)
            return await handle(request)

        return scoped

    def inner_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler."""
        return super().get_route_handler()


class KeyRing:
    """The keys of one server.

    Args:
        engine: Has the store.
        api_keys: Keys without a name.
        named_keys: Name of a person or program -> its key.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        api_keys: Sequence[str] = (),
        named_keys: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        # A key that has a name and is also among those without one is the key of that name: the name restricts its rights.
        named = [(_bytes(key), Caller(_id(key), name)) for name, key in (named_keys or {}).items()]
        self._given = (*named, *((_bytes(key), Caller(_id(key))) for key in api_keys))
        self._seen: LruCache[str, tuple[Caller, float]] = LruCache(SEEN_MAX, weight_min=1)
        self._needs_key = bool(self._given)
        self._looked = -LOOK_S

    async def needs_key(self) -> bool:
        """Whether requests need a key: there is one in the settings or, revoked or not, in the store."""
        # Once there was a key, none is enough: the last one that is revoked must not open the server.
        if not self._needs_key and self._clock() - self._looked >= LOOK_S:
            self._needs_key = bool(await self._engine.list_keys())
            self._looked = self._clock()
        return self._needs_key

    def is_seen(self, text: str) -> bool:
        """Whether a key of the store was accepted lately."""
        return self._seen.find(_id(text)) is not None

    def find_given(self, text: str) -> Caller | None:
        """Return the caller of a key of the settings."""
        key = _bytes(text)
        # Every key is compared, so that the time taken does not tell which key is similar.
        matches = [hmac.compare_digest(key, known) for known, _ in self._given]
        return self._given[matches.index(True)][1] if any(matches) else None

    async def find(self, text: str) -> Caller | None:
        """Return the caller of a key of the store; `None`: it is none, or none any more. Raises: StoreError."""
        if not is_key(text):
            return None
        name, now = _id(text), self._clock()
        seen = self._seen.find(name)
        if seen is not None:
            caller, looked = seen
            if now - looked < LOOK_S:
                return caller
            self._seen.keep(name, (caller, now))  # one request looks, those beside it need not
        try:
            key = await self._engine.find_key(text)
        except StoreError:
            self._seen.drop(name)
            raise
        if key is None or not key.is_valid(time.time()):
            self._seen.drop(name)
            return None
        caller = self._caller(key, text)
        self._seen.keep(name, (caller, now))
        return caller

    def _caller(self, key: ApiKey, text: str) -> Caller:
        async def is_valid() -> bool:
            with suppress(StoreError):  # whoever follows a run comes back
                return await self.find(text) is not None
            return False

        # By name and not by key: a client whose key was replaced gets the same runs for its idempotency keys.
        return Caller(
            f"{key.tenant}/{key.name}",
            key.name,
            frozenset(scope for scope in KEY_SCOPES if key.allows(scope)),
            key.tenant,
            key.may_approve_own,
            is_valid,
        )


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _id(key: str) -> str:
    return hashlib.sha256(_bytes(key)).hexdigest()
