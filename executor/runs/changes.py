"""Waits for what other processes change in the store: decisions about runs that this engine drives, and the moves of runs that others drive.

A store may tell changes (`Store.listen`). Nothing rests on that: a notification may be lost, and a file tells none. So whoever waits looks at the
store as well, every `POLL_S` where nothing is told, and else after pauses that double up to `LOOK_MAX_S`. The first pauses are short, because the process
that drives a run tells its moves only from the moment at which it has heard that somebody asks for them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, Self, TypeAlias, get_args

from ...errors import StoreError
from ..stores.store import ASKED_S, Change, Store

POLL_S: Final = 0.2  # how often the store is polled where it tells nothing
LOOK_MAX_S: Final = 10.0  # the longest pause between two looks where it does
CROWD: Final = 100  # who wait in one engine; where more do, they look more rarely, so that all of them together look as often as so many
GONE_S: Final = (
    1.0  # how often to check whether the process that is waited for is gone, which costs no look at the store
)
ASK_AGAIN_S: Final = ASKED_S / 3
AGAIN_S: Final = (
    0.75  # longer than the shortest time between two notifications of a process (`WEBHOOKS_TOLD_S`)
)
UNTOLD_MAX_S: Final = 20.0  # the longest pause between two looks for work that nobody follows by the run

Kind: TypeAlias = Literal["decided", "plans", "schedules", "webhooks"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Changes:
    """What is told of the changes of one store.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._new = asyncio.Event()  # somebody follows a run that was not asked for yet
        self._followed: dict[str, set[Followed]] = {}
        self._count = 0  # of those who follow
        self._decided: list[Callable[[tuple[str, ...] | None], None]] = []
        # How often each kind of change was told. Only the thread of the store writes it.
        self._counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)

    @property
    def is_telling(self) -> bool:
        """Whether changes are told at this moment. Safe on any thread."""
        return self._store.is_telling

    @property
    def can_tell(self) -> bool:
        """Whether the store tells changes to who listens."""
        return self._store.can_tell

    def on_decided(self, hear: Callable[[tuple[str, ...] | None], None]) -> None:
        """Have `hear` called, on a thread of the store, with runs about which a decision was left; `None`: some may have been missed."""
        self._decided.append(hear)

    def count(self, kind: Kind) -> int | None:
        """Return how often a kind of change was told, or may have been; listen from now on. `None`: the store tells nothing at this moment."""
        if not self.is_telling:
            if self.can_tell:
                self.begin()
            return None
        return self._counts[kind]

    def begin(self) -> None:
        """Listen from now on, in the background; idempotent. Only for engines that wait for something: others need not know."""
        if self._listening is None:
            self._loop = asyncio.get_running_loop()
            self._listening = self._loop.create_task(self._listen(), name="firmplan listen")

    async def end(self) -> None:
        """Stop listening."""
        tasks = [task for task in (self._listening, self._asking) if task is not None and task.cancel()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        with suppress(
            StoreError
        ):  # the store connects and listens again by itself, and its users get the error
            await self._store.listen(self._hear)

    def _hear(self, change: Change) -> None:
        """Hear a change, on a thread of the store."""
        for kind in self._counts:
            if change.kind in (kind, "missed"):
                self._counts[kind] += 1
        if change.kind in ("decided", "missed"):
            for hear in self._decided:
                hear(change.runs if change.kind == "decided" else None)
        # A decision about a run moves it soon, and whoever follows the run hears that then.
        if change.kind in ("moved", "missed") and self._followed and self._loop is not None:
            with suppress(RuntimeError):  # the event loop has closed
                self._loop.call_soon_threadsafe(self._stir, change)

    def _stir(self, change: Change) -> None:
        for run_id in change.runs if change.kind == "moved" else list(self._followed):
            for followed in self._followed.get(run_id, ()):
                followed.stir()

    # --- runs of others

    def follow(self, run_id: str) -> Followed:
        """Return a context manager, in which a caller waits for the moves of a run that another process drives."""
        return Followed(self, run_id)

    def add(self, run_id: str, followed: Followed) -> None:
        """Tell a follower of the moves of a run from now on."""
        self._followed.setdefault(run_id, set()).add(followed)
        self._count += 1

    def remove(self, run_id: str, followed: Followed) -> None:
        """Tell a follower nothing more."""
        if (those := self._followed.get(run_id)) is not None:
            those.discard(followed)
            self._count -= 1
            if not those:
                del self._followed[run_id]

    @property
    def crowd(self) -> float:
        """How many times as long as usual the pauses of one who waits are."""
        return max(1.0, self._count / CROWD)

    def ask(self) -> None:
        """Have those who drive the followed runs tell what they change; they need to be asked again and again."""
        self._new.set()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(
                self._ask(), name="firmplan ask for changes"
            )

    async def _ask(self) -> None:
        asked: set[str] = set()
        clock = asyncio.get_running_loop().time
        again_at = 0.0
        while self._followed:
            if clock() >= again_at:
                asked.clear()
                again_at = clock() + ASK_AGAIN_S
            self._new.clear()
            # One notification for all runs that this engine follows, not one for each caller who waits.
            if new := sorted(self._followed.keys() - asked):
                with suppress(StoreError):  # whoever follows a run looks at it, and gets the error there
                    await self._store.ask_for(new)
                asked |= set(new)
            with suppress(TimeoutError):
                async with asyncio.timeout(again_at - clock()):
                    await self._new.wait()


class Lookout:
    """When work of one kind is to be looked for in the store: at once when a change was told, at a time that is known, and from time to time.

    Where the store tells nothing at the moment, a look is always due.

    Args:
        count: Returns how often a change was told (`Changes.count`).
        linger_s: How long looks stay due after a change was told, for work that follows the change. One more look is due in any case, `AGAIN_S`
            later: a process does not tell of each change of many.
    """

    def __init__(self, count: Callable[[], int | None], linger_s: float = 0.0) -> None:
        self._count = count
        self._linger_s = linger_s
        self._seen: int | None = None  # the count before the last look that succeeded
        self._found: int | None = None  # the count before the look that is under way
        self._due_at = -math.inf  # by the monotonic clock, as all of these
        self._begun_at = -math.inf
        self._again_at = -math.inf  # when one more look is due after a change was told
        self._linger_until = -math.inf

    def is_due(self) -> bool:
        """Whether to look now."""
        count = self._count()
        return count is None or count != self._seen or time.monotonic() >= self._due_at

    def begin(self) -> None:
        """Note that a look begins; what is told from now on asks for another one."""
        self._found = self._count()
        self._begun_at = time.monotonic()

    def end(self, left_s: float = math.inf) -> None:
        """Note that the look that has begun succeeded; without this it is repeated.

        Args:
            left_s: The next look is due after so many seconds, as far as this one has found.
        """
        now = time.monotonic()
        if self._found != self._seen:
            self._seen = self._found
            self._linger_until = now + self._linger_s
            self._again_at = now + AGAIN_S
        due_at = now + min(left_s, UNTOLD_MAX_S)
        if self._begun_at < self._again_at:
            due_at = min(due_at, self._again_at)
        self._due_at = now if now < self._linger_until else due_at


class Followed:
    """One caller who waits for the next move of a run that another process drives.

    Args:
        changes: Tell of its moves.
        run_id: The run.
    """

    __slots__ = ("_changes", "_moved", "_pause_s", "_run_id")

    def __init__(self, changes: Changes, run_id: str) -> None:
        self._changes = changes
        self._run_id = run_id
        self._moved: asyncio.Event | None = (
            None  # `None`: nobody was asked; most who wait do not wait for another process
        )
        self._pause_s = POLL_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._moved is not None:
            self._changes.remove(self._run_id, self)

    def stir(self) -> None:
        """Note that the run has moved."""
        if self._moved is not None:
            self._moved.set()

    def look(self) -> None:
        """Note that the store is about to be looked at: a move after this ends the next wait."""
        if self._moved is not None:
            self._moved.clear()

    async def wait(self, is_gone: Callable[[], bool], most_s: float) -> None:
        """Wait until the run has moved since the last `look`, or it is time to look again.

        Args:
            is_gone: Whether the process that drives the run is seen to be gone, without a look at the store.
            most_s: The longest wait, unless very many wait.
        """
        if not self._changes.is_telling:
            self._changes.begin()
            await asyncio.sleep(POLL_S)
            return
        if self._moved is None:
            self._moved = asyncio.Event()
            self._changes.add(self._run_id, self)
            self._changes.ask()
        crowd = self._changes.crowd
        left_s = min(self._pause_s, most_s * crowd)
        self._pause_s = min(2 * self._pause_s, LOOK_MAX_S * crowd)
        while left_s > 0 and not is_gone():
            piece_s = min(left_s, GONE_S)
            try:
                async with asyncio.timeout(piece_s):
                    await self._moved.wait()
            except TimeoutError:
                left_s -= piece_s
            else:
                return
