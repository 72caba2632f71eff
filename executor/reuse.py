"""Finding an earlier result for a call, and keeping new ones.

A result stands for a later call with the same content key. A read only while it is fresh (`reuse_for`), and only if
no write on a conflicting resource was open when it started, or started since: the store counts the writes of each
resource, and a read keeps the counts that it started with. Environment values that a call read must still be the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..plans.signature import Effect
from ..plans.values import Json
from ..tools import Tool
from .facilities import Facilities
from .identity import ContentKey
from .ledger import WORLD
from .sealed import Sealed
from .store import EVERYTHING, Reusable

ReuseMode: TypeAlias = Literal["auto", "off", "refresh", "only"]
REUSE_MODES: Final = ("auto", "off", "refresh", "only")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A call that an earlier result may stand for."""

    step: str
    key: ContentKey
    tool: Tool | None


async def find_results(facilities: Facilities, candidates: Sequence[Candidate]) -> Mapping[str, Reusable]:
    """Return step -> result for the calls that need not be made."""
    entries = await facilities.store.find_reusable(sorted({c.key.key for c in candidates}))
    found = [
        (candidate, entries[candidate.key.key]) for candidate in candidates if candidate.key.key in entries
    ]
    resources = sorted({name for _, entry in found for name in entry.epochs})
    epochs = (await facilities.store.epochs(resources)).count if resources else {}
    now = facilities.clock.now()
    return {
        candidate.step: entry
        for candidate, entry in found
        if _is_valid(candidate, entry, epochs, now) and _has_same_env(entry, facilities.environ)
    }


def _is_valid(candidate: Candidate, entry: Reusable, epochs: Mapping[str, int], now: float) -> bool:
    tool = candidate.tool
    if tool is None or tool.effect is not Effect.READ:
        return True
    limit = tool.reuse_for_s if tool.reuse_for_s is not None else -math.inf
    return now - entry.created <= limit and all(
        epochs.get(name) == count for name, count in entry.epochs.items()
    )


def _has_same_env(entry: Reusable, environ: Mapping[str, str]) -> bool:
    return all(environ.get(name) == value for name, value in entry.env.items())


async def epochs_at_start(facilities: Facilities, tool: Tool) -> Mapping[str, int] | None:
    """Return the write counts that a read starts with; `None`: a conflicting write is open, so it is not kept."""
    resources = [EVERYTHING] if tool.resource == WORLD else sorted({tool.resource, WORLD})
    epochs = await facilities.store.epochs(resources)
    return None if epochs.open else epochs.count


def reusable(
    run_id: str,
    candidate: Candidate,
    output: Sealed,
    at: float,
    *,
    epochs: Mapping[str, int],
    env: Mapping[str, Json],
) -> Reusable:
    """Return the entry for the reuse index."""
    key = candidate.key
    return Reusable(key.key, run_id, candidate.step, output.data, key.parts, at, epochs, env)
