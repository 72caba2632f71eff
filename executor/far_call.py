"""What passes between an engine and a backend that has calls of tools carried out on other machines (`@tool(queue=..)`).

`calls/far.py` has the rules, and is both ends of it. A backend knows the ids of calls and the digests of what is in the store; it knows neither arguments nor results.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..plans.immutable import immutable
from ..plans.values import Digest


@immutable
class FarCall:
    """A call, as a backend sees it.

    Attributes:
        id: Of this attempt; a backend takes it once.
        request: The digest of what is to be called with what, in the store; empty: it is not known, since another process has begun the call.
        store: The name of the store.
        is_once: Whether it must not be made twice, whatever becomes of its worker.
        is_write: Whether it changes the world.
        lease_s: After so many seconds without a sign of life its worker counts as dead.
        timeout_s: The longest that it may take; `None`: no limit.
    """

    id: str
    queue: str
    tool: str
    run_id: str
    step: str
    attempt: int
    request: str
    store: str
    is_once: bool
    is_write: bool
    lease_s: float
    timeout_s: float | None


@immutable
class Answered:
    """A worker has made the call, or refused its arguments.

    Attributes:
        outcome: The digest of the outcome, in the store.
    """

    outcome: Digest


@immutable
class NeverBegun:
    """No worker has called the tool, and none will under this id."""

    why: str


@immutable
class Unanswered:
    """A worker may have called the tool, and there will be no answer."""

    why: str


FarAnswer: TypeAlias = Answered | NeverBegun | Unanswered


class FarListener(Protocol):
    """Who is told how a call gets on."""

    def unserved(self, queue: str) -> None:
        """No worker serves the queue in which the call waits."""
        ...

    def refused(self, why: str) -> None:
        """A worker has left the call to others, because it cannot make it."""
        ...

    def progress(self, fraction: float, note: str) -> None:
        """The tool has reported its progress."""
        ...


@dataclass(slots=True)
class FarTask:
    """A call as a worker gets it from the backend.

    Attributes:
        request: The digest of what is to be called with what.
        store: The name of the store that has it.
        note_begun: Has the backend record, durably, that the tool is about to be called. Raises: CallBegun: that is recorded already.
        on_progress: Is told the progress of the tool, on any thread.
    """

    id: str
    run_id: str
    step: str
    attempt: int
    request: str
    store: str
    note_begun: Callable[[], Awaitable[None]]
    on_progress: Callable[[float, str], None]


CarryOut: TypeAlias = Callable[[FarTask], Awaitable[Digest]]


class CallBegun(Exception):  # noqa: N818  # an event
    """An earlier worker was about to make a call that must not be made twice."""


class CallUnwanted(Exception):  # noqa: N818  # an event
    """The run does not wait for the call any more."""


class CallMisfit(Exception):  # noqa: N818  # an event
    """This worker cannot make a call; another one may."""


class SignsOfLife(Protocol):
    """Is told when a backend has heard of a call, so that a worker that it does not hear of any more ends itself in time."""

    def now(self) -> float:
        """Return the time, by a clock that does not jump."""
        ...

    def renewed(self, key: str, at: float, lease_s: float) -> None:
        """Note that the backend heard of a call.

        Args:
            key: Of the call.
            at: When the sign of life was sent, by `now`.
            lease_s: After how many seconds without one the backend gives the call up.
        """
        ...


class FarDispatch(Protocol):
    """What a backend does for far calls."""

    async def begin(self, call: FarCall) -> None:
        """Have a call made, once for its id; returns when the backend has it, however long its server is away.

        Raises:
            ToolError: It refuses the call, which nobody makes.
        """
        ...

    async def follow(self, call: FarCall, listener: FarListener) -> FarAnswer | None:
        """Return what became of a call; `None`: the backend does not know it, and nobody can begin it any more. Raises: ToolError: it refuses to tell."""
        ...

    async def withdraw(self, call_id: str) -> None:
        """Have a call not made that no worker has yet. Raises: ServerError: the backend cannot be reached."""
        ...

    async def cancel(self, call_id: str) -> None:
        """Have a call stopped. Raises: as `withdraw`."""
        ...

    async def serve(
        self, queue: str, carry_out: CarryOut, signs: SignsOfLife, *, slots: int, grace_s: float
    ) -> None:
        """Hand calls of a queue to `carry_out` until this is cancelled.

        Args:
            queue: The queue.
            carry_out: Makes a call, and returns the digest of its outcome. Raises: CallBegun, CallUnwanted, CallMisfit.
            signs: Is told of each sign of life of a call.
            slots: Calls at a time.
            grace_s: How long writes in flight may take when this is cancelled.

        Raises:
            ConfigError: The queue cannot be used.
            ServerError: The backend refuses this worker.
        """
        ...
