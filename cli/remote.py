"""The engine of a server, for the commands that work with `--server`: the methods of `Engine` that they use, made by the client.

What a command asks an engine for is the same with and without a server, so the commands are written once. What a server cannot do for a command
is refused here, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from ..client import AsyncClient
from ..client.calls import DIGEST, UNSET
from ..errors import ConfigError, FirmplanError, InputRejected
from ..executor.runs.archive import PLAN_NAME
from . import screen
from .failure import LoginName

if TYPE_CHECKING:
    from ..client import PlanEntry
    from ..engine import Engine
    from ..executor import (
        Event,
        Explanation,
        PlanVersion,
        Run,
        RunDiff,
        RunFilter,
        RunPage,
        Verification,
        WaitingCalls,
    )
    from ..plans import CheckReport, Json, Plan

    AnyEngine: TypeAlias = "Engine | RemoteEngine"

T = TypeVar("T")
OTHER_NAME: Final = "other-name"
"""Code of a refusal: the key has a name, and the decision names another person."""


class RemoteEngine:
    """What commands ask an engine for, at a server.

    Args:
        client: The client of the server.
        url: Its address, for messages.
    """

    def __init__(self, client: AsyncClient, url: str) -> None:
        self.client = client
        self._url = url

    # --- runs

    async def submit(
        self,
        work: Plan | str,
        *,
        inputs: Mapping[str, Json],
        run_id: str | None,
        seed: int | None,
        budget: Mapping[str, float] | None,
        reuse: str,
        stream: bool,
        deadline: str | None,
        priority: int | None,
    ) -> Run:
        """Hand in a run. Raises: ConfigError: an option is not for a server."""
        self._refuse(**{"--run-id": run_id, "--seed": seed, "--no-reuse": None if reuse == "auto" else reuse})
        if isinstance(work, str):
            return await self.client.submit(
                task=work, inputs=inputs, budget=budget, stream=stream, deadline=deadline, priority=priority
            )
        return await self.client.submit(
            work, inputs=inputs, budget=budget, deadline=deadline, priority=priority
        )

    async def get(self, run_id: str) -> Run:
        """Return the run as it stands."""
        return await self.client.get(run_id)

    def events(self, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
        """Yield the run's events."""
        return self.client.events(run_id, after)

    async def list_runs(
        self, *, status: str | None, limit: int, cursor: str | None, where: RunFilter | None = None
    ) -> RunPage:
        """Return a page of runs."""
        return await self.client.list_runs(status=status, limit=limit, cursor=cursor, where=where)

    async def resume(self, run_id: str, *, budget: Mapping[str, float] | None, take_over: bool) -> Run:
        """Let the run go on."""
        return await self.client.resume(run_id, budget=budget, take_over=take_over)

    async def submit_retry(
        self, run_id: str, *, run_id_new: str | None, replan: int, deadline: str | None
    ) -> Run:
        """Continue a run as a new run."""
        return await self.client.retry(run_id, run_id_new=run_id_new, replan=replan, deadline=deadline)

    async def submit_fork(  # the engine's own options
        self,
        run_id: str,
        *,
        at: str | None,
        set: Mapping[str, Json],  # noqa: A002  # the engine's word
        inputs: Mapping[str, Json],
        plan: Plan | None,
        allow_writes: bool,
        run_id_new: str | None,
        deadline: str | None,
    ) -> Run:
        """Fork a run."""
        return await self.client.fork(
            run_id,
            at=at,
            set=set or None,
            inputs=inputs or None,
            plan=plan,
            allow_writes=allow_writes,
            run_id_new=run_id_new,
            deadline=deadline,
        )

    # --- decisions

    async def waiting(self, run_id: str) -> WaitingCalls:
        """Return the calls that wait for a person."""
        return await self.client.waiting(run_id)

    async def approve(
        self,
        run_id: str,
        step: str,
        *,
        by: str,
        edit: Mapping[str, Any] | None,
        attempt: int | None,
    ) -> Run:
        """Allow a call."""
        return await _decided(
            by, lambda name: self.client.approve(run_id, step, by=name, edit=edit, attempt=attempt)
        )

    async def deny(self, run_id: str, step: str, *, by: str, reason: str, attempt: int | None) -> Run:
        """Refuse a call."""
        return await _decided(
            by, lambda name: self.client.deny(run_id, step, by=name, reason=reason, attempt=attempt)
        )

    async def answer(
        self, run_id: str, step: str | None, value: Json, *, by: str, attempt: int | None = None
    ) -> Run:
        """Answer a question."""
        return await _decided(
            by, lambda name: self.client.answer(run_id, step, value, by=name, attempt=attempt)
        )

    async def resolve(
        self,
        run_id: str,
        step: str,
        *,
        by: str,
        attempt: int | None,
        done: Any = UNSET,  # noqa: ANN401  # any value, null included
        retry: bool = False,
        fail: str | None = None,
    ) -> Run:
        """Settle a call of unknown outcome."""
        return await _decided(
            by,
            lambda name: self.client.resolve(
                run_id, step, done=done, retry=retry, fail=fail, by=name, attempt=attempt
            ),
        )

    async def decide(self, run_id: str, decisions: Mapping[str, Any], *, by: str) -> Run:
        """Decide about several calls."""
        return await _decided(by, lambda name: self.client.decide(run_id, decisions, by=name))

    async def cancel(self, run_id: str) -> Run:
        """Stop a run."""
        return await self.client.cancel(run_id)

    # --- looking back

    async def replay(self, run_id: str, *, keep: bool) -> Run:
        """Replay a run. Raises: ConfigError: the replay is to be kept."""
        self._refuse(**{"--keep": keep or None})
        return await self.client.replay(run_id)

    async def explain(self, run_id: str, step: str) -> Explanation:
        """Say why a step ran or was reused."""
        return await self.client.explain(run_id, step)

    async def explain_all(self, run_id: str) -> list[Explanation]:
        """Say the same of every step."""
        return await self.client.explain_all(run_id)

    async def diff(self, a: str, b: str) -> RunDiff:
        """Compare two runs."""
        return await self.client.diff(a, b)

    async def verify(self, run_id: str) -> Verification:
        """Have pure steps called again."""
        return await self.client.verify(run_id)

    async def export(self, run_id: str, path: Path) -> Path:
        """Write a run into a file."""
        return await self.client.export(run_id, path)

    # --- plans

    async def check_plan(self, plan: Plan | str) -> CheckReport:
        """Check a plan against the server's tools."""
        return await self.client.check(plan)

    async def find_plan(self, name: str) -> Plan | None:
        """Return a saved plan; words that no plan can be saved under are not asked for."""
        is_name = PLAN_NAME.fullmatch(name) is not None or re.fullmatch(DIGEST, name) is not None
        return await self.client.find_plan(name) if is_name else None

    async def save_plan(
        self, name: str, plan: Plan, *, replaces: str | None = None, by: str = ""
    ) -> PlanEntry:
        """Save a plan; the server names the author by the key."""
        del by
        return await self.client.save_plan(name, plan, replaces=replaces)

    async def delete_plan(self, name: str, *, by: str = "") -> None:
        """Delete a saved plan; the server names the author by the key."""
        del by
        await self.client.delete_plan(name)

    async def plan_history(self, name: str) -> list[PlanVersion]:
        """Return the versions of a saved plan."""
        return await self.client.plan_history(name)

    async def plan_version(self, name: str, version: int | str) -> Plan:
        """Return the plan of a version."""
        return await self.client.plan_version(name, version)

    async def list_plans(self) -> list[PlanEntry]:
        """Return the saved plans."""
        return await self.client.plans()

    def _refuse(self, **options: object) -> None:
        """Raise where an option is given that is not for a server. Raises: ConfigError."""
        for option, value in options.items():
            if value is not None:
                raise ConfigError(
                    f"{option} works on a store of this machine, and not at the server {self._url}"
                )


async def _decided(by: str, decide: Callable[[str | None], Awaitable[T]]) -> T:
    """Make a decision under a name; a key with a name of its own has it in the place of the login's, which nobody gave."""
    try:
        return await decide(by)
    except InputRejected as error:
        if error.code != OTHER_NAME or not isinstance(by, LoginName):
            raise
        return await decide(None)


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
