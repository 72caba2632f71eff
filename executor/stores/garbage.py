"""Garbage collection of stored values: those that nothing names are found and removed, while others go on writing.

A text refers to a value by its digest: a journal, a header, a decision, a saved plan, or a result for reuse. A large value stands in such a
text as `{"$value": digest}`; then the value's own text is scanned too.

The mark phase reads every text once, from a snapshot that blocks no writer. The sweep looks at the unmarked values again, in the
transaction that removes them, against all texts that were written since. This loses no value that is in use: a value is written in the
same commit as the first record that names it, so either the snapshot or the second look sees that record. Rejected: reference counts, which each
commit would have to update, and one lock over both phases, which would stop all runs for as long as the store takes to read.

A value that a caller has saved as an input has no name until a run uses it: such values stay for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

import orjson

from ...lazy_imports import late_pattern
from ...plans.immutable import immutable
from .store import Pruned

if TYPE_CHECKING:
    from .sql_store import Sql

_NAMED: Final = late_pattern(rb'("\$value":")?(sha256:[0-9a-f]{64})')
_SAVED: Final = "SELECT digest FROM @saved_values WHERE saved >= :since"
_LAST: Final = "SELECT id, created, last_seq FROM @runs"
_HEADERS: Final = "SELECT header FROM @headers"
_PLAN_TEXTS: Final = "SELECT data FROM @plan_texts"
_PLAN_OF_RUN: Final = f"{_PLAN_TEXTS} WHERE digest IN (SELECT digest FROM @run_plans WHERE run_id=:run)"
_JOURNALS: Final = "SELECT lines FROM @journal"
# The journal of a run names the outputs in the reuse log and in `reusable` as well, until the run is deleted. So they are read once, and again if a run was
# deleted between the two phases.
_RESULTS: Final = "SELECT output FROM @reusable"
_SEGMENTS: Final = "SELECT results FROM @reuse_log"
_SEGMENT_NUMBERS: Final = "SELECT number FROM @reuse_log"
_DELETED: Final = """
    SELECT DISTINCT run_id FROM @reusable AS result
    WHERE NOT EXISTS (SELECT 1 FROM @runs AS run WHERE run.id=result.run_id)
"""
_OTHERS: Final = (
    "SELECT record FROM @decisions",
    "SELECT plan FROM @plans",
    "SELECT plan FROM @plan_versions",
)
_REMOVE: Final = "DELETE FROM @stored_values WHERE digest IN [:digests] RETURNING length(data)"

_REMOVE_OBJECTS: Final = (
    "DELETE FROM @stored_objects WHERE digest IN [:digests] RETURNING place, object, size"
)
_REMOVE_PARTS: Final = "DELETE FROM @value_parts WHERE digest IN [:digests]"
_PARTS: Final = "SELECT digest, parts FROM @value_parts ORDER BY digest"


@immutable
class Unused:
    """The digests that were named nowhere, and how far the store was read.

    Attributes:
        last: (run id, time of creation) -> number of the last record that was read. The id of a deleted run is free again.
        gone: Deleted runs whose results for reuse, as older versions have left them, were already read.
        segments: Numbers of the segments of the reuse log that were read.
        saved_before: Values that were saved later are not unused.
    """

    digests: frozenset[str]
    last: Mapping[tuple[str, float], int]
    gone: frozenset[str]
    segments: frozenset[int]
    saved_before: float


def find_unused(sql: Sql, saved_before: float, among: frozenset[str] | None = None) -> Unused:
    """Return the digests that nothing names, in one snapshot. O(size of the store).

    Args:
        sql: The store, on a connection that is free.
        saved_before: Values that a caller saved later than this are in use.
        among: Look only at values of these digests; `None`: at all.
    """
    with sql.snapshot():
        # Digests, numbers and texts are of one snapshot: what is appended later lies past these numbers, where the second look begins.
        parts = parts_in(sql)
        stored = {digest for (digest,) in sql.rows("SELECT digest FROM @stored_values")} | parts.keys()
        stored |= {digest for (digest,) in sql.rows("SELECT digest FROM @stored_objects")}
        last = {(run_id, created): seq for run_id, created, seq in sql.rows(_LAST)}
        gone = frozenset(run_id for (run_id,) in sql.rows(_DELETED))
        saved = (digest for (digest,) in sql.rows(_SAVED, {"since": saved_before}))
        segments = frozenset(number for (number,) in sql.rows(_SEGMENT_NUMBERS))
        texts = chain.from_iterable(
            map(sql.texts, (_HEADERS, _PLAN_TEXTS, _JOURNALS, _RESULTS, _SEGMENTS, *_OTHERS))
        )
        named = with_parts(chain(saved, named_in(find_value_in(sql), texts)), parts)
        unused = without(stored if among is None else stored & among, named)
    return Unused(unused, last, gone, segments, saved_before)


def remove_unused(sql: Sql, unused: Unused) -> tuple[Pruned, Sequence[tuple[str, str]]]:
    """Remove the values that are still named nowhere; return also the objects, by place and key, that are to be removed once this is committed.

    O(size of the texts that were written since they were found).
    """
    if not unused.digests:
        return Pruned(0, 0), ()
    with sql.removal():
        saved = (digest for (digest,) in sql.rows(_SAVED, {"since": unused.saved_before}))
        texts = _written_since(sql, unused)
        named = with_parts(chain(saved, named_in(find_value_in(sql), texts)), parts_in(sql))
        left = {"digests": sorted(without(unused.digests, named))}
        removed = sql.rows(_REMOVE, left)
        objects = sql.rows(_REMOVE_OBJECTS, left)
        sql.change(_REMOVE_PARTS, left)
        sql.change("DELETE FROM @saved_values WHERE saved < :since", {"since": unused.saved_before})
    sizes = [size for (size,) in removed] + [size for *_, size in objects]
    return Pruned(len(sizes), sum(sizes)), [(place, key) for place, key, _ in objects]


def _written_since(sql: Sql, unused: Unused) -> Iterator[bytes]:
    for run_id, created, now in sql.rows(_LAST):
        before = unused.last.get((run_id, created), 0)
        # A header changes only until the first record, so it is read again only if there was none.
        if before == 0:
            yield from sql.texts(f"{_HEADERS} WHERE run_id=:run", {"run": run_id})
            yield from sql.texts(_PLAN_OF_RUN, {"run": run_id})
        if before != now:
            values = {"run": run_id, "before": before}
            yield from sql.texts(f"{_JOURNALS} WHERE run_id=:run AND first_seq>:before", values)
    for run_id in {run_id for (run_id,) in sql.rows(_DELETED)} - unused.gone:
        yield from sql.texts(f"{_RESULTS} WHERE run_id=:run", {"run": run_id})
    # On a server, a segment may be seen later than one with a larger number, so a largest number would not tell.
    new = {number for (number,) in sql.rows(_SEGMENT_NUMBERS)} - unused.segments
    for number in sorted(new):
        yield from sql.texts(f"{_SEGMENTS} WHERE number=:number", {"number": number})
    # These rows have no number by which the new ones could be told. They are few.
    for statement in _OTHERS:
        yield from sql.texts(statement)


def find_value_in(sql: Sql) -> Callable[[str], bytes | None]:
    """Return a function that finds a stored value by its digest; of a value outside the database, what it names."""
    statement = """
        SELECT data FROM @stored_values WHERE digest=:digest UNION ALL SELECT named FROM @stored_objects WHERE digest=:digest
    """

    def find(digest: str) -> bytes | None:
        found = sql.rows(statement, {"digest": digest})
        return found[0][0] if found else None

    return find


def named_in(find_value: Callable[[str], bytes | None], texts: Iterable[bytes]) -> Iterator[str]:
    """Yield the digests that some texts name, and those named in the large values that stand in a text's place."""
    scanned: set[str] = set()  # large values: each is scanned once, however many texts refer to it
    for text in texts:
        wanted = [text]
        while wanted:
            for stands_for, name in _NAMED.findall(wanted.pop()):
                digest = name.decode()
                yield digest
                # A digest in any other place may be text of a person: it keeps a value, which is safe, but its bytes are not scanned.
                if stands_for and digest not in scanned:
                    scanned.add(digest)
                    wanted += [data for data in (find_value(digest),) if data is not None]


def naming(data: bytes) -> bytes:
    """Return the places in a text that name digests, each once: for `named_in` they stand for the whole text."""
    return b"\n".join(dict.fromkeys(found[0] for found in _NAMED.finditer(data)))


def without(digests: Iterable[str], named: Iterable[str]) -> frozenset[str]:
    """Return the digests that are not among `named`, which is read only as long as some are left."""
    left = set(digests)
    for digest in named if left else ():
        left.discard(digest)
        if not left:
            break
    return frozenset(left)


# --- values in parts
#
# Their parts are stored values, which only the list of parts names. There are few such values: each is larger than 4 MiB.


def parts_in(sql: Sql) -> dict[str, list[str]]:
    """Return value -> its parts, of all values that are kept in parts."""
    return {name: orjson.loads(parts) for name, parts in sql.rows(_PARTS)}


def with_parts(named: Iterable[str], parts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield digests, and the parts of those that are kept in parts."""
    for name in named:
        yield name
        yield from parts.get(name, ())


def missing_parts(sql: Sql) -> list[str]:
    """Return one sentence for each value that lacks a part."""
    parts = parts_in(sql)
    if not parts:
        return []
    stored = {digest for (digest,) in sql.rows("SELECT digest FROM @stored_values")}
    return [f"the value {name} lacks a part" for name, each in parts.items() if not stored.issuperset(each)]
