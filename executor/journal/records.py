"""Journal records: events as chained lines of JSON.

A record is one line, `{"n", "at", "type", .. fields}`; a value that an event carries stands in it as it is, or, past
`INLINE_BYTES_MAX`, as `{"$value": digest}` with the bytes in the store's values. Every line enters the hash chain:
`head(n) = sha256(head(n-1) + line(n))`, so a changed, lost or swapped line is found at its place.
`docs/JOURNAL_FORMAT.md` is the specification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, Final

import orjson

from ...errors import StoreError
from ...plans.immutable import frozen, record
from ...plans.values import LARGE_BYTES, Json
from ..canonical_value import CanonicalValue
from ..events import (
    CAUSES,
    CONSEQUENCES,
    REMARKS,
    CallMade,
    CallStarted,
    CallSucceeded,
    JournalEvent,
)

JOURNAL_FORMAT: Final = 1
INLINE_BYTES_MAX: Final = 16 * 1024  # larger values are stored once by digest, beside the journal
GENESIS: Final = bytes(32)
_END: Final = ord("}")

# The registry follows from the type aliases of `events.py`. A kind is stored by the name of its class, so no class of an event is ever renamed.
_KINDS: Final[dict[str, type[JournalEvent]]] = {
    kind.__name__: kind for kind in (*CAUSES, *CONSEQUENCES, *REMARKS)
}
FIELDS: Final = {kind: tuple(f.name for f in fields(kind)) for kind in _KINDS.values()}
# The fields that hold a value: their class says so.
_SEALED: Final = {
    kind: tuple(f.name for f in fields(kind) if CanonicalValue.__name__ in str(f.type))
    for kind in _KINDS.values()
}
_SHOWN: Final = {
    name: b'"%b":{"$json":' % name.encode() for names in _SEALED.values() for name in names
}  # what stands in a line before a value of its field
# All fields of an event in one call, which is faster than a loop. The first name stands twice, because `attrgetter` of one name returns no tuple.
_VALUES: Final = {kind: attrgetter(*names, names[0]) for kind, names in FIELDS.items()}


@record
class Entry:
    """One event in its place: `seq` counts from 1 in each run, `at` is in Unix seconds. Nobody changes it."""

    seq: int
    at: float
    event: JournalEvent


@frozen
class Event:
    """A journal entry for people and programs, without the engine's types.

    Attributes:
        seq: Its place in the journal, from 1.
        type: What happened (docs/JOURNAL_FORMAT.md).
        step: Path of the step, item or iteration; empty for the run as a whole.
        at: Unix seconds.
        data: The other fields of the record.
    """

    seq: int
    type: str
    step: str
    at: float
    data: Mapping[str, Json]

    @classmethod
    def of(cls, entry: Entry) -> Event:
        """Make it from an entry; sealed values stand as JSON."""
        event = entry.event
        data: dict[str, Json] = {}
        for name in FIELDS[type(event)]:
            value = getattr(event, name)
            if name != "step" and value is not None:
                data[name] = value.value if isinstance(value, CanonicalValue) else value
        return cls(entry.seq, type(event).__name__, getattr(event, "step", ""), entry.at, data)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"seq": self.seq, "type": self.type, "step": self.step, "at": self.at, "data": dict(self.data)}


def write_line(
    seq: int, at: float, event: JournalEvent, inline_bytes_max: int | None = INLINE_BYTES_MAX
) -> tuple[bytes, Sequence[CanonicalValue]]:
    """Return the line of an event in its place, and the values that are too large to stand in it.

    Args:
        seq: Number of the record.
        at: Unix seconds.
        event: What happened.
        inline_bytes_max: The size past which a value is too large; `None`: none is.
    """
    kind = type(event)
    record: dict[str, Any] = {"n": seq, "at": at, "type": kind.__name__}
    large: Sequence[CanonicalValue] = ()
    for name, value in zip(FIELDS[kind], _VALUES[kind](event), strict=False):
        # An absent field stands for `None`: so a field that a later version adds leaves the bytes of old records, and their digests, as they were.
        if value is None:
            continue
        if type(value) is not CanonicalValue:
            record[name] = value
        elif inline_bytes_max is not None and len(value.data) > inline_bytes_max:
            large = (*large, value)
            record[name] = {"$value": value.digest}
        else:
            # The bytes are canonical JSON already, and may be large: they are copied, not parsed and written again.
            record[name] = orjson.Fragment(b'{"$json":%b}' % value.data)
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)[:-1], large  # a slice, as in `canonical`


def _value_in(line: bytes, name: str, value: Json) -> CanonicalValue:
    """Return the value that stands in a field of a line, which was parsed."""
    # What was written there is canonical. So where orjson's spelling stands there, it is canonical too, and no part of the value has to be looked at
    # again; numbers that it spells otherwise take the careful way. The first field of this name is meant: what others hold comes after.
    shown = _SHOWN[name]
    found = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)[:-1]
    begin = line.find(shown) + len(shown)
    is_there = line.startswith(found, begin) and line[begin + len(found)] == _END
    return CanonicalValue(found) if is_there and len(found) < LARGE_BYTES else CanonicalValue.of(value)


def read_entry(line: bytes, find_value: Callable[[str], CanonicalValue]) -> Entry:
    """Return the entry that a line holds; `find_value` is of `values_by`.

    Raises:
        StoreError: The line is not a record of this format.
    """
    try:
        record: dict[str, Any] = orjson.loads(line)
        # The class checks nothing: a record was written by this module, and the chain says that nobody has changed it.
        kind = _KINDS[record.pop("type")]
        seq, at = record.pop("n"), record.pop("at")
        # Unknown fields raise a TypeError below: a record of a newer version must not be read as if the field were not there.
        for name in _SEALED[kind]:
            if (shown := record.get(name)) is None:
                continue
            if "$json" in shown:
                record[name] = _value_in(line, name, shown["$json"])
            else:
                record[name] = find_value(shown["$value"])
        return Entry(seq, at, kind(**record))
    except (ValueError, KeyError, TypeError) as fault:
        raise StoreError(
            f"not a journal record of format {JOURNAL_FORMAT}: {fault!r} in {line[:80]!r}"
        ) from None


def values_by(find: Callable[[str], bytes]) -> Callable[[str], CanonicalValue]:
    """Return how to find large values, each read once and then shared: steps that pass on a text refer to one value.

    Args:
        find: From a digest to the bytes that have it.
    """

    # Bytes from the store are parsed with a check of their form: they were fetched by digest, and a digest says nothing of canonical form.
    @cache
    def find_value(name: str) -> CanonicalValue:
        return CanonicalValue.checked(find(name))

    return find_value


def split_calls(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries in order, a call that was made in one piece as its start and its success: for whoever looks for either."""
    for entry in entries:
        match entry.event:
            case CallMade(step, attempt, args, output, started, key, why, mismatch):
                yield Entry(entry.seq, started, CallStarted(step, attempt, args, key, None, why))
                yield Entry(entry.seq, entry.at, CallSucceeded(step, output, mismatch=mismatch))
            case _:
                yield entry


def chain(head: bytes, lines: Sequence[bytes]) -> bytes:
    """Return the chain's head after these lines."""
    # Over the bytes as they are stored, never over parsed records: a later version may spell a record otherwise, and old chains must stay valid.
    for line in lines:
        head = hashlib.sha256(head + line).digest()
    return head
