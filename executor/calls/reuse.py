"""Finding an earlier result for a call, and keeping new ones.

A result stands for a later call with the same content key. A read only while it is fresh (`reuse_for`), and only if
no write on a conflicting resource was open when it started, or started since: the store counts the writes of each
resource, and a read keeps the counts that it started with. Environment values that a call read must still be the same.
The stored row has to match its digest: one that was altered, or has none, is as good as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...plans.program import Touch
from ...plans.values import Json
from ...tools import Tool
from ...tools.failures import recorded
from ..stores.store import EVERYTHING, Reusable
from .facilities import Facilities
from .identity import ContentKey


class Candidate(Protocol):
    """A call that an earlier result may stand for: `prepared.PreparedCall`."""

    @property
    def step(self) -> str: ...  # noqa: D102  # path of the leaf
    @property
    def key(self) -> ContentKey: ...  # noqa: D102
    @property
    def tool(self) -> Tool | None: ...  # noqa: D102
    @property
    def is_kept_read(self) -> bool: ...  # noqa: D102  # whether it looks at the world, and has a key


@dataclass(frozen=True, slots=True)
class Stale:
    """An earlier result with the same key that may not stand for the call, and why: part of the call's record."""

    why: Mapping[str, Json]


async def find_results(
    facilities: Facilities, candidates: Sequence[Candidate]
) -> Mapping[str, Reusable | Stale]:
    """Return step -> the earlier result of the same key, or why it is of no use now; steps without one are left out."""
    entries = await facilities.store.find_reusable(sorted({candidate.key.key for candidate in candidates}))
    found = [
        (candidate, entry)
        for candidate in candidates
        if (entry := entries.get(candidate.key.key)) is not None
    ]
    resources = sorted({name for _, entry in found for name in entry.epochs})
    epochs: Mapping[str, int] = (await facilities.store.epochs(resources)).count if resources else {}
    now = facilities.clock.now()
    results: dict[str, Reusable | Stale] = {}
    for candidate, entry in found:
        why = _refusal(facilities, entry)
        if why is None and candidate.is_kept_read:
            why = _fault(candidate.tool, entry, epochs, now)
        if why is None and entry.env:
            why = _changed_env(entry, facilities.environ)
        if why is not None:
            source: dict[str, Json] = {"run": entry.run_id, "step": entry.step}
            results[candidate.step] = Stale({**why, **source})
        else:
            results[candidate.step] = entry
    return results


def _refusal(facilities: Facilities, entry: Reusable) -> dict[str, Json] | None:
    """Return why an entry is never reused, whatever its age: its digest does not show that the entry is unchanged."""
    if not entry.refused:
        return None
    if entry.refused == "altered":
        told = {"of_run": entry.run_id, "of_step": entry.step, "key": entry.key}
        facilities.log.warning("altered result not reused", **told)
    return {"because": entry.refused}


def _fault(
    tool: Tool | None, entry: Reusable, epochs: Mapping[str, int], now: float
) -> dict[str, Json] | None:
    """Return why the result of a read is too old; `None`: it is not."""
    if tool is None:
        return None
    if entry.created > now:  # a clock was ahead when it was made: nobody knows how old it is
        return {"because": "future", "ahead_s": round(entry.created - now, 3)}
    limit_s = tool.reuse_for_s if tool.reuse_for_s is not None else -math.inf
    if not now - entry.created <= limit_s:
        age_s = round(now - entry.created, 3)
        return {"because": "expired", "age_s": age_s, "limit_s": None if limit_s < 0 else limit_s}
    written = [name for name, count in sorted(entry.epochs.items()) if epochs.get(name) != count]
    return {"because": "written", "resource": _told(written, tool.resource)} if written else None


def _told(written: Sequence[str], resource: str) -> str:
    """Return the resource that was written as people know it."""
    return resource if resource in written or written == [EVERYTHING] else written[0]


def _changed_env(entry: Reusable, environ: Mapping[str, str]) -> dict[str, Json] | None:
    """Return which environment value differs from what the result was made with."""
    name = next(
        (name for name, value in sorted(entry.env.items()) if recorded(environ.get(name)) != value), None
    )
    return None if name is None else {"because": "env", "name": name}


async def epochs_at_start(facilities: Facilities, tool: Tool) -> Mapping[str, int] | None:
    """Return the write counts that a read starts with; `None`: a conflicting write is open, so it is not kept."""
    awaited = Touch(tool.resource, writes=False).awaited
    resources = sorted(EVERYTHING if resource is None else resource for resource, _ in awaited)
    epochs = await facilities.store.epochs(resources)
    return None if epochs.open else epochs.count
