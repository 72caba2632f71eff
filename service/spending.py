"""The budget of a whole server: what its runs may spend on models in a day, or in all.

Every answer of a model is counted, whatever asked for it: plannings, steps, agents, judges, answers that were refused. What was spent goes into the store once a
second, so that servers on one store share the budget, and a restart forgets nothing; a killed process takes the last second with it. Runs that are under way
go on: the budget decides whether new work is taken, and each run has a budget of its own.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ..executor.observer import ObservedRun, RunObserver
from ..tools.models.completion import Asked, Completion, ModelCall
from .problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine import Engine
    from ..tools.logbook import RequestContext
    from .auth import ServerBudget

LOOK_S: Final = 1.0
"""Seconds for which what all servers have spent is remembered."""


class Spending:
    """Counts what one server spends, and refuses new work when the budget is used up.

    Args:
        engine: Has the store, and makes the requests.
        budget: The limits.
        now: Unix seconds.
    """

    def __init__(self, engine: Engine, budget: ServerBudget, now: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._budget = budget
        self._now = now
        self._usd = 0.0
        self._tokens = 0
        self._known: dict[str, float] = {}
        self._looked = -math.inf
        engine.observe(self)

    # --- as an observer

    def begin_run(self, _run: ObservedRun) -> RunObserver:
        """Runs as such cost nothing."""
        return _UNWATCHED

    def begin_trace(self, _run_id: str, _context: RequestContext | None) -> None:
        """Costs have no place in a trace."""

    def begin_request(self, _call: ModelCall) -> Asked:
        """Count a request to a model."""
        return _Counted(self)

    def add(self, usd: float | None, tokens: int) -> None:
        """Count what an answer has cost; a price that nobody knows counts as nothing."""
        self._usd += usd or 0.0
        self._tokens += tokens

    # --- the budget

    async def flush(self) -> None:
        """Keep what was spent since the last time in the store. Raises: StoreError: it is kept the next time."""
        usd, tokens = self._usd, self._tokens
        if not (usd or tokens):
            return
        self._usd, self._tokens = 0.0, 0
        try:
            await self._engine.note_spending(usd=usd, tokens=tokens)
        except BaseException:
            self.add(usd, tokens)
            raise
        self._looked = -math.inf

    async def expect_left(self) -> None:
        """Raise if the budget is used up. Raises: Refusal (429 until the next day, 403 if the budget is one in all); StoreError."""
        at = time.monotonic()
        if at - self._looked >= LOOK_S:
            self._known = await self._engine.spending(per=self._budget.per)
            self._looked = at
        for name, limit, own in (
            ("usd", self._budget.usd, self._usd),
            ("tokens", self._budget.tokens, self._tokens),
        ):
            spent = self._known[name] + own
            if limit is not None and spent >= limit:
                raise self._refusal(name, spent, limit)

    def _refusal(self, name: str, spent: float, limit: float) -> Refusal:
        used = f"{name}={spent:.6g} of {limit:g}"
        if self._budget.per == "total":
            words = (
                f"the budget of this server is used up ({used}): who runs it has to raise it (server_budget)"
            )
            return Refusal(HTTPStatus.FORBIDDEN, "server-budget", words)
        now = datetime.fromtimestamp(self._now(), UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        left_s = math.ceil((midnight - now).total_seconds())
        return Refusal(
            HTTPStatus.TOO_MANY_REQUESTS,
            "server-budget",
            f"the budget of this server for today is used up ({used}): new work is taken again at {midnight:%Y-%m-%d %H:%M} UTC",
            {"Retry-After": str(left_s)},
        )


class _Counted:
    """Counts one request to a model."""

    def __init__(self, spending: Spending) -> None:
        self._spending = spending

    def answered(self, completion: Completion) -> None:
        """Count an answer, also one that is no answer to the question."""
        usage = completion.usage
        self._spending.add(usage.usd, usage.prompt_tokens + usage.completion_tokens)

    def failed(self, error: BaseException) -> None:
        """A request without an answer has no usage that anybody knows."""


class _Unwatched:
    """Watches nothing of a run."""

    stands_around = False

    def note(self, _event: object, _at: float) -> None:
        """Hear an event."""

    def note_wait(self, _step: str, _seconds: float) -> None:
        """Hear how long a call has waited."""

    def around(self, _call: object) -> None:
        """Nothing is active while a call is made."""

    def around_planning(self) -> None:
        """Nothing is active while a task is planned."""

    def end(self, _status: str | None, _at: float) -> None:
        """Hear of the end."""


_UNWATCHED: Final = _Unwatched()
