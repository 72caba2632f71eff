"""The engine of a server, for the commands that work with `--server`: the client, with the methods of `Engine` that commands use.

What a command asks an engine for is the same with and without a server, so the commands are written once. Most methods of the client have the
names and the parameters of the engine's; here are those that differ. What a server cannot do for a command is refused here, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from typing_extensions import override

from ..client import AsyncClient
from ..client.calls import DIGEST
from ..errors import ConfigError, FirmplanError, InputRejected
from ..executor.runs.archive import PLAN_NAME
from . import screen
from .command import LoginName

if TYPE_CHECKING:
    from ..client import PlanEntry
    from ..client.calls import PlanLike
    from ..engine import Engine
    from ..executor import Run
    from ..plans import Plan

    AnyEngine: TypeAlias = "Engine | RemoteEngine"

OTHER_NAME: Final = "other-name"
"""Code of a refusal: the key has a name, and the decision names another person."""


class RemoteEngine(AsyncClient):
    """What commands ask an engine for, at a server."""

    submit_retry = AsyncClient.retry
    submit_fork = AsyncClient.fork
    check_plan = AsyncClient.check
    list_plans = AsyncClient.plans

    @override
    async def submit(
        self,
        what: PlanLike | str | None = None,
        *,
        run_id: str | None = None,
        seed: int | None = None,
        reuse: str = "auto",
        stream: bool = False,
        **options: Any,
    ) -> Run[Any]:
        """Hand in a run; a text is a task in words, as for an engine. Raises: ConfigError: an option is not for a server."""
        self._refuse(**{"--run-id": run_id, "--seed": seed, "--no-reuse": None if reuse == "auto" else reuse})
        if isinstance(what, str):
            return await super().submit(task=what, stream=stream, **options)
        return await super().submit(what, **options)

    @override
    async def replay(self, run_id: str, *, keep: bool = False, returns: Any = None) -> Run[Any]:
        """Replay a run. Raises: ConfigError: the replay is to be kept."""
        self._refuse(**{"--keep": keep or None})
        return await super().replay(run_id, returns=returns)

    @override
    async def find_plan(self, name_or_digest: str) -> Plan | None:
        """Return a saved plan; words that no plan can be saved under are not asked for."""
        name = name_or_digest
        is_name = PLAN_NAME.fullmatch(name) is not None or re.fullmatch(DIGEST, name) is not None
        return await super().find_plan(name) if is_name else None

    @override
    async def save_plan(
        self, name: str, plan: PlanLike, *, replaces: str | None = None, by: str = ""
    ) -> PlanEntry:
        """Save a plan; the server names the author by the key."""
        del by
        return await super().save_plan(name, plan, replaces=replaces)

    @override
    async def delete_plan(self, name: str, *, replaces: str | None = None, by: str = "") -> None:
        """Delete a saved plan; the server names the author by the key."""
        del by
        await super().delete_plan(name, replaces=replaces)

    @override
    async def _recorded(self, path: str, body: Mapping[str, Any]) -> Run:
        """Make a decision under a name; a key with a name of its own has it in the place of the login's, which nobody gave."""
        try:
            return await super()._recorded(path, body)
        except InputRejected as error:
            if error.code != OTHER_NAME or not isinstance(body.get("by"), LoginName):
                raise
        return await super()._recorded(path, {name: each for name, each in body.items() if name != "by"})

    def _refuse(self, **options: object) -> None:
        """Raise where an option is given that is not for a server. Raises: ConfigError."""
        for option, value in options.items():
            if value is not None:
                raise ConfigError(
                    f"{option} works on a store of this machine, and not at the server {self._connection.url}"
                )


class RetryNote:
    """Prints once for each outage that the server does not answer, and that the command goes on asking."""

    def __init__(self, retry_for_s: float) -> None:
        self._retry_for_s = retry_for_s
        self._said = ""

    def __call__(self, error: FirmplanError, _pause_s: float) -> None:
        """Take the error of one attempt."""
        if error.message != self._said:
            self._said = error.message
            screen.note(f"{error.message}; asking again for {self._retry_for_s:g} s")
