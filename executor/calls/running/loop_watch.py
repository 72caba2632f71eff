"""Which call keeps the event loop from everything else, and for how long: a thread looks, so that calls pay two assignments.

Calls on the loop say when they have it (`has_loop`, `number`). While runs are driven, a thread looks a few times a second. If the same call has the loop
for several looks, the loop stands still meanwhile: other calls do not run, and their limits must not count that time (`_Limit` in
`invoke.py`, and `tools/timeouts.py`, which the requests of models use, too). A tool that does so for long is reported once, in the log and as a warning of the run.

Rejected: a heartbeat on the loop, which sees that it stood still and not because of whom; and two readings of the clock for each call, which
cost as much as a small call.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from ....plans.immutable import record
from ....tools.logbook import open_log
from ...execution_tree import BLOCKED_HINT

LOOK_S: Final = 0.05  # how often the thread looks: a tenth of what is reported
REPORT_S: Final = 0.5  # a loop that stands still for so long is reported: people and servers notice
REST_S: Final = 1.0  # the thread sleeps for good when no run was driven for so long
BLOCKS_KEPT: Final = (
    256  # the last times that the loop stood still: more than any limit looks back at in practice
)

Owner: TypeAlias = "tuple[str | Mapping[str, Any], str, str]"
"""A call: its run, its step, its tool; or the fields of the log that name run and step, in the place of the run."""


class Blocked(NamedTuple):
    """A call that has blocked the loop, for the warnings of its run."""

    run: str
    step: str
    tool: str
    since: float

    def seconds(self) -> float:
        """How long it has blocked the loop so far, or had when it ended a moment ago."""
        return round(time.monotonic() - self.since, 1)


@record
class _Block:
    owner: Owner
    begin: float
    end: float
    is_over: bool = False


class LoopWatch:
    """The watch over one engine's event loop. Without `begin` nobody looks.

    Attributes:
        has_loop: The call that has the loop; `None`: none. Assigned by calls.
        number: Counts the times that a call got the loop. Assigned by calls.
        blocked: Calls that blocked the loop for long, and are in no warning of their run yet.
    """

    __slots__ = (
        "_blocks",
        "_driven",
        "_is_closed",
        "_thread",
        "_told",
        "_wake",
        "blocked",
        "has_loop",
        "number",
    )

    def __init__(self) -> None:
        self.has_loop: Owner | None = None
        self.number = 0
        self.blocked: list[Blocked] = []
        self._blocks: deque[_Block] = deque(maxlen=BLOCKS_KEPT)
        self._told: set[str] = set()
        self._driven = 0
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_closed = False

    def begin(self) -> None:
        """Look while a run is driven."""
        self._driven += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="firmplan-loop-watch", daemon=True)
            self._thread.start()
        self._wake.set()

    def end(self) -> None:
        """Look no more for a run that is not driven any more."""
        self._driven -= 1

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        self._wake.set()

    def blocked_s(self, since: float, owner: Owner | None) -> float:
        """Return for how long others than a call have blocked the loop since a time of `time.monotonic`. Called on the loop, which turns now."""
        now, found = time.monotonic(), 0.0
        for block in list(self._blocks):
            # The thread may not have seen yet that it is over.
            end = block.end if block.is_over else now
            if block.owner is not owner and end > since:
                found += end - max(block.begin, since)
        return found

    def take_blocked(self, run: str) -> list[Blocked]:
        """Return the calls of a run that blocked the loop, each once."""
        found = [each for each in self.blocked if each.run == run]
        for each in found:
            self.blocked.remove(each)
        return found

    def _look(self) -> None:
        number, looked, idle_since = -1, time.monotonic(), time.monotonic()
        block: _Block | None = None
        is_told = False
        while not self._is_closed:
            time.sleep(LOOK_S)
            now = time.monotonic()
            owner = self.has_loop
            if owner is not None and self.number == number:
                if block is None:
                    # It got the loop between the last two looks before this one.
                    block, is_told = _Block(owner, looked, now), False
                    self._blocks.append(block)
                block.end = now
                if not is_told and now - block.begin >= REPORT_S:
                    is_told = True
                    self._report(block)
            else:
                if block is not None:
                    block.end, block.is_over, block = now, True, None
                number, looked = self.number, now
            if self._driven > 0 or block is not None:
                idle_since = now
            elif now - idle_since >= REST_S:
                self._wake.clear()
                if self._driven <= 0 and not self._is_closed:
                    self._wake.wait()
                number, idle_since = -1, time.monotonic()

    def _report(self, block: _Block) -> None:
        tool, where = block.owner[2], fields_of(block.owner)
        run, step = str(where.get("run", "")), str(where.get("step", ""))
        self.blocked.append(Blocked(run, step, tool, block.begin))
        if tool not in self._told:
            self._told.add(tool)
            open_log(run=run, step=step).warning("a tool blocks the event loop", tool=tool, hint=BLOCKED_HINT)


def fields_of(owner: Owner) -> Mapping[str, Any]:
    """Return the fields of the log that name a call."""
    where, step, _ = owner
    return {"run": where, "step": step} if isinstance(where, str) else where


NO_WATCH: Final = LoopWatch()
"""Where nobody looks: child processes for calls, and calls without an engine."""
