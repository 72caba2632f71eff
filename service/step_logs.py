"""The last lines that tools have logged (`ctx.log`), by run and step, for the page: in the memory of this process, and gone with it."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from threading import Lock
from typing import Any, Final, cast

from ..plans import Json
from ..tools.logbook import REQUEST_FIELD, step_listeners

LINES_MAX: Final = 200
"""Lines of one step; older ones are dropped."""
STEPS_MAX: Final = 2_000
"""Steps whose lines are kept; those that have logged nothing for the longest time are dropped."""
_OWN: Final = frozenset({"event", "level", "run", "step", "attempt", "timestamp", REQUEST_FIELD})


class StepLogs:
    """Hears what steps log, as long as it is held. Safe between threads: tools log on their own."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[str, str], deque[dict[str, Json]]] = OrderedDict()
        self._lock = Lock()
        step_listeners.add(self)

    def hear(self, event: Mapping[str, Any]) -> None:
        """See `StepListener`. Secrets are masked, and long fields are cut already."""
        key = (str(event.get("run", "")), str(event.get("step", "")))
        more = {str(name): _plain(value) for name, value in event.items() if name not in _OWN}
        line: dict[str, Json] = {
            "at": time.time(),
            "level": str(event.get("level", "")),
            "message": str(event.get("event", "")),
            "attempt": cast("int | None", event.get("attempt")),
            "fields": more,
        }
        with self._lock:
            self._lines.setdefault(key, deque(maxlen=LINES_MAX)).append(line)
            self._lines.move_to_end(key)
            while len(self._lines) > STEPS_MAX:
                self._lines.popitem(last=False)

    def of(self, run: str, step: str) -> list[Json]:
        """Return the lines of a step, the oldest first."""
        with self._lock:
            return list(self._lines.get((run, step), ()))


def _plain(value: object) -> Json:
    return value if isinstance(value, str | int | float | bool) or value is None else repr(value)
