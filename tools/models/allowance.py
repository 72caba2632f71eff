"""What a conversation with a model may cost, and how patiently its endpoint is asked: values that combine.

An `Allowance` bounds requests and seconds of a whole conversation, retries and waiting included; every request takes
from it before it is sent. `Patience` says which failures of the transport are tried again, how often and after how
long; it never waits past what the allowance has left. Knows nothing of clients; the clock is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from .outage import ModelError

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

RETRY_AFTER_S_MAX = 30.0
"""An endpoint that asks for more is not waited for: the caller's own retries, or a person, know better."""


@dataclass(slots=True)
class Allowance:
    """What is left to a conversation.

    Attributes:
        requests: Requests that may still be sent.
        seconds: Time for all of it, from the moment of making.
    """

    requests: int
    seconds: float
    clock: Callable[[], float] = monotonic
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def seconds_left(self) -> float:
        """Time that is left; 0 once it is over."""
        return max(0.0, self.seconds - (self.clock() - self._started))

    def extend(self, seconds: float) -> None:
        """Give back time that nobody was asked in: waiting for a turn."""
        self.seconds += seconds

    def take(self) -> None:
        """Take one request. Raises: ModelError (`limit-exceeded`) when nothing is left."""
        if self.requests <= 0:
            raise ModelError("the model was asked as often as is allowed", code="limit-exceeded")
        if self.seconds_left <= 0:
            raise ModelError(
                f"the model was given {self.seconds:g} s, and they are over", code="limit-exceeded"
            )
        self.requests -= 1


@dataclass(frozen=True, slots=True)
class Patience:
    """How failures of the transport are met.

    Attributes:
        tries_max: Requests in all, the first included.
        wait_s: The first pause; each further one is twice as long.
        wait_s_max: The longest pause, unless the endpoint asks for another.
    """

    tries_max: int = 3
    wait_s: float = 0.5
    wait_s_max: float = 8.0

    def retrying(self, allowance: Allowance) -> AsyncRetrying:
        """Return the policy as tenacity runs it, within an allowance."""
        from tenacity import AsyncRetrying, stop_after_attempt  # noqa: PLC0415  # with the first call

        return AsyncRetrying(
            stop=stop_after_attempt(self.tries_max),
            wait=self._pause_s,
            retry=lambda state: self._is_worth_it(state, allowance),
            reraise=True,
        )

    def _pause_s(self, state: RetryCallState) -> float:
        """Return the pause before the next try: what the endpoint asks for, else twice the last one."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ModelError) and error.retry_after_s is not None:
            return error.retry_after_s
        return min(self.wait_s * 2.0 ** (state.attempt_number - 1), self.wait_s_max)

    def _is_worth_it(self, state: RetryCallState, allowance: Allowance) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, ModelError) or not error.temporary or allowance.requests <= 0:
            return False
        return self._pause_s(state) <= min(RETRY_AFTER_S_MAX, allowance.seconds_left)


PATIENCE = Patience()
"""What every model call gets unless told otherwise: three tries within about two seconds of waiting."""
