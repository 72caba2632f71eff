"""What the store knows of the calls of a run, and of earlier ones that they can be compared with.

Looked up once for all calls that are asked about: a list of thousands of items costs a handful of queries, not some for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...tools.fingerprint.fingerprint import is_fingerprint
from ..events import CallReused, CallStarted
from ..journal.records import Entry
from ..stores.store import CallRecord, Reusable, Store
from .key_changes import KeyChange, key_changes

EARLIER_MAX: Final = 64  # earlier calls that one is compared with, of the same step and of others


@dataclass(frozen=True, slots=True)
class Evidence:
    """See the module.

    Attributes:
        own: Step -> what its call was made from.
        earlier: Step -> the calls before it of the same tool, or of prompts.
        codes: Digest -> the parts of a fingerprint.
        results: Content key -> the result that stands for it.
    """

    own: Mapping[str, CallRecord]
    earlier: Mapping[str, Sequence[CallRecord]]
    codes: Mapping[str, Mapping[str, str]]
    results: Mapping[str, Reusable]

    def nearest(self, step: str, parent: str | None) -> tuple[CallRecord, tuple[KeyChange, ...]] | None:
        """Return the earlier call with the fewest differing parts, and these.

        Where there is a choice: of the same step, of the parent run, and the newest. Calls with the same key come first, and
        a key that differs has one differing part at least, so that the first one with no more ends the search.
        """
        own = self.own[step]
        others = [each for each in self.earlier[step] if (each.run_id, each.step) != (own.run_id, own.step)]
        others.sort(key=lambda each: (each.key != own.key, each.step != own.step, each.run_id != parent))
        best: tuple[CallRecord, tuple[KeyChange, ...]] | None = None
        for each in others:
            if best is not None and _fewest_changes(each, own) >= len(best[1]):
                continue
            changes = key_changes(each, own, self.codes)
            if best is None or len(changes) < len(best[1]):
                best = each, changes
            if len(best[1]) <= 1:
                break
        return best


def _fewest_changes(before: CallRecord, after: CallRecord) -> int:
    """Return a number that the differing parts of two calls are not below, without looking into arguments."""
    count = sum(
        before.parts[name] != part
        for name, part in after.parts.items()
        if name in before.parts and name != "args"
    )
    old, new = before.parts.get("args"), after.parts.get("args")
    if isinstance(old, dict) and isinstance(new, dict):
        return count + sum(old[name] != value for name, value in new.items() if name in old)
    return count + (old != new)


async def gather(store: Store, run_id: str, firsts: Iterable[Entry]) -> Evidence:
    """Return what is known of the calls with which steps began."""
    called: dict[str, float] = {}
    journaled: dict[str, str] = {}
    keys: dict[str, None] = {}
    for entry in firsts:
        match entry.event:
            case CallStarted(step=step, why=None, key=key):
                called[step] = entry.at
                journaled[step] = key
            case CallReused(key=key) if key:
                keys[key] = None
            case _:
                pass
    found: Mapping[str, CallRecord] = await store.find_calls(run_id, list(called)) if called else {}
    # The digest chain covers the journal, but not the `calls` table: a row with another key describes another call.
    own = {step: record for step, record in found.items() if journaled[step] in ("", record.key)}
    subjects: dict[str, dict[str, float]] = {}
    for step, record in own.items():
        subjects.setdefault(record.subject, {})[step] = called[step]
    earlier: dict[str, Sequence[CallRecord]] = {}
    for subject, until in subjects.items():
        earlier |= await store.find_earlier_calls(subject, until, limit=EARLIER_MAX)
    made = [*own.values(), *(each for records in earlier.values() for each in records)]
    codes = dict.fromkeys(each.code for each in made if each.code)
    return Evidence(
        own,
        earlier,
        _intact(await store.find_codes(list(codes))) if codes else {},
        await store.find_reusable(list(keys)) if keys else {},
    )


def _intact(codes: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
    """Return the parts whose digest matches their fingerprint; `explain` gives no reason from parts that were changed."""
    return {name: parts for name, parts in codes.items() if is_fingerprint(name, parts)}
