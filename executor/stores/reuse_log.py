"""The reuse log: the results that may stand for later calls, as a store keeps them.

A commit appends the results that calls have left, some dozens to a row, which is a segment. An index has one row of two integers for each
key: the first 64 bits of the key, and the number of the segment with the newest result of that key. Content keys are random, so each insert
into an index of them touches another page, and the smaller the index, the fewer pages there are. Measured side by side
(`benchmarks/bench_reuse_log.py`): 5 us of CPU a result in a store of 10,000 and 14 in one of 300,000. Rejected: one row for each result with its complete
key in an index, which cost 10 and 30 us; and sorting the results into an index when the process is idle, since a busy server never is.

A result is one line of its segment, with a digest of its own: DIGEST, KEY, HEAD and OUTPUT, a tab between two. HEAD is the JSON array `[run_id,
step, created, epochs, env]`. OUTPUT is `{"$json": output}`, or, of a large output, `{"$value": digest, "bytes": size}`: its bytes are among the
store's values, where the journal of the run has put them, too. DIGEST is the SHA-256 of the other three. JSON escapes tabs and line feeds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import orjson

from ...plans.immutable import immutable, record
from ...plans.values import digest
from .garbage import find_value_in
from .store import Reusable, damaged_results

if TYPE_CHECKING:
    from .sql_store import Sql

SEGMENT_RESULTS: Final = 64  # a look-up reads a whole segment
SEGMENT_BYTES: Final = 64 * 1024
INLINE_BYTES_MAX: Final = 16 * 1024  # as in journals, which put the same values beside them
_MIDDLE: Final = 2**63
_JSON: Final = b'{"$json":'
_VALUE: Final = b'{"$value":'


@immutable
class Segment:
    """Some results, as one row.

    Attributes:
        results: Their lines, joined by line feeds.
        prefixes: Of their keys.
        oldest: When the oldest one was made, in Unix seconds.
        newest: When the newest one was made.
        size: Bytes of the results, keys included; a large output counts although it is stored elsewhere.
        values: Digest -> bytes of the large outputs, which are to be stored with the segment.
    """

    results: bytes
    prefixes: Sequence[int]
    oldest: float
    newest: float
    size: int
    values: Mapping[str, bytes]


@record
class Line:
    """One result as text. Nobody changes it.

    Attributes:
        size: Bytes of key, output, epochs and environment.
        value: Digest and bytes of a large output that is to be stored with the line.
    """

    text: bytes
    key: str
    created: float
    size: int
    value: tuple[str, bytes] | None = None


def prefix_of(key: str) -> int:
    """Return the first 64 bits of a content key, as a signed integer."""
    try:
        return int(key[7:23], 16) - _MIDDLE
    except ValueError:  # no `sha256:` and digits, which only a test makes
        return int.from_bytes(sha256(key.encode()).digest()[:8], "big", signed=True)


def segments_of(results: Iterable[Reusable]) -> Iterator[Segment]:
    """Yield segments with some results in their order; of results with one key the last counts."""
    part: list[Line] = []
    size = 0
    for result in {result.key: result for result in results}.values():
        part.append(line := write_result(result))
        size += len(line.text)
        if len(part) >= SEGMENT_RESULTS or size >= SEGMENT_BYTES:
            yield _segment(part)
            part, size = [], 0
    if part:
        yield _segment(part)


def _segment(lines: Sequence[Line]) -> Segment:
    """Return a segment with these lines, of which there is at least one."""
    created = [line.created for line in lines]
    return Segment(
        b"\n".join([line.text for line in lines]),
        [prefix_of(line.key) for line in lines],
        min(created),
        max(created),
        sum([line.size for line in lines]),
        dict([line.value for line in lines if line.value is not None]),
    )


def write_result(result: Reusable) -> Line:
    """Return the line of a result."""
    created, epochs, env = float(result.created), result.epochs, result.env
    head = orjson.dumps([result.run_id, result.step, created, epochs, env])
    output, value = result.output, None
    if len(output) > INLINE_BYTES_MAX:
        value = digest(output), output
        shown = b'%b"%b","bytes":%d}' % (_VALUE, value[0].encode(), len(output))
    else:
        shown = b"%b%b}" % (_JSON, output)
    key = result.key.encode()
    told = b"%b\t%b\t%b" % (key, head, shown)
    text = b"%b\t%b" % (_digest_of(told), told)
    return Line(text, result.key, created, _size_of(key, len(output), epochs, env), value)


def read_result(line: bytes, find_value: Callable[[str], bytes | None]) -> Reusable:
    """Return the result of a line; if its digest does not match, or its value is not the one it names, it is marked as refused.

    Args:
        line: The line.
        find_value: Finds a large output by its digest.
    """
    recorded, _, told = line.partition(b"\t")
    if sha256(told).hexdigest().encode() != recorded:
        return _refused(told)
    key, head, shown = told.split(b"\t", 2)
    run_id, step, created, epochs, env = orjson.loads(head)
    if not shown.startswith(_VALUE):
        return Reusable(key.decode(), run_id, step, shown[len(_JSON) : -1], created, epochs, env)
    value = _value_in(shown)
    output = find_value(value)
    if output is None or digest(output) != value:
        return _refused(told)
    return Reusable(key.decode(), run_id, step, output, created, epochs, env)


def is_inline(line: bytes) -> bool:
    """Whether a line has its output in it, and does not name a value that stands elsewhere."""
    return _VALUE not in line or not line.rpartition(b"\t")[2].startswith(
        _VALUE
    )  # an output may hold these bytes as well


def _refused(told: bytes) -> Reusable:
    """Return what stands for a result that was changed: whose it was is told as far as it can be read."""
    key, _, more = told.partition(b"\t")
    try:
        run_id, step, *_ = orjson.loads(more.partition(b"\t")[0])
    except (ValueError, TypeError):
        run_id = step = "?"
    name = key.decode(errors="replace")
    return Reusable(name, str(run_id), str(step), b"null", 0.0, refused="altered")


def values_in(lines: Iterable[bytes]) -> set[str]:
    """Return the digests of the large outputs that some lines name."""
    return {_value_in(line.rpartition(b"\t")[2]) for line in lines if not is_inline(line)}


def _value_in(shown: bytes) -> str:
    try:
        return str(orjson.loads(shown)["$value"])
    except (ValueError, KeyError):
        return ""  # it was changed, as the digest of its line says


def lines_in(results: bytes) -> dict[str, bytes]:
    """Return key -> line of the results of a segment."""
    lines = [line for line in results.split(b"\n") if b"\t" in line]
    return {line.split(b"\t", 2)[1].decode(errors="replace"): line for line in lines}


def lines_of(results: bytes) -> Iterator[Line]:
    """Yield the lines of a segment, but for those that were changed."""
    for text in lines_in(results).values():
        recorded, _, told = text.partition(b"\t")
        if recorded == _digest_of(told):
            key, head, shown = told.split(b"\t", 2)
            _, _, created, epochs, env = orjson.loads(head)
            is_large = shown.startswith(_VALUE)
            size = orjson.loads(shown)["bytes"] if is_large else len(shown) - len(_JSON) - 1
            yield Line(text, key.decode(), created, _size_of(key, size, epochs, env))


def segment_of(lines: Iterable[Line]) -> Segment | None:
    """Return one segment with some lines; `None`: there is none."""
    kept = list(lines)
    return _segment(kept) if kept else None


def _size_of(key: bytes, output: int, epochs: Mapping[str, Any], env: Mapping[str, Any]) -> int:
    more = len(orjson.dumps(epochs)) + len(orjson.dumps(env)) if epochs or env else 4
    return len(key) + output + more


def _digest_of(told: bytes) -> bytes:
    return sha256(told).hexdigest().encode()


# --- the log as a whole

ADD_SEGMENT: Final = (
    "INSERT INTO @reuse_log (oldest, newest, size, results) VALUES (:oldest, :newest, :size, :results)"
)
_REPLACE_SEGMENT: Final = (
    "UPDATE @reuse_log SET oldest=:oldest, newest=:newest, size=:size, results=:results WHERE number=:number"
)
_REMOVE_SEGMENTS: Final = "DELETE FROM @reuse_log WHERE number IN [:numbers]"
_FORGET_SOME: Final = "DELETE FROM @reuse_keys WHERE number=:number AND prefix IN [:gone]"
_MIXED_SEGMENTS: Final = "SELECT number, results FROM @reuse_log WHERE oldest < :before AND newest >= :before"


def find_damage(sql: Sql, find_object: Callable[[str], bytes | None]) -> Iterator[str]:
    """Yield what is wrong with the results that keys lead to, inside a snapshot. 16 bytes a key are in memory.

    Args:
        sql: The store.
        find_object: Finds a value outside the database by its digest.
    """
    numbers, prefixes = array("q"), array("q")
    for number, prefix in sql.stream("SELECT number, prefix FROM @reuse_keys ORDER BY number"):
        numbers.append(number)
        prefixes.append(prefix)
    at, find_stored = 0, find_value_in(sql)

    def find_value(name: str) -> bytes | None:
        return find_object(name) or find_stored(name)

    for number, results in sql.stream("SELECT number, results FROM @reuse_log ORDER BY number"):
        start, at = bisect_left(numbers, number, at), bisect_right(numbers, number, at)
        wanted = set(prefixes[start:at])
        # A result that was made anew stands in a later segment, and its key leads there: what became of the old line does not matter.
        lines = {key: line for key, line in lines_in(results).items() if prefix_of(key) in wanted}
        yield from damaged_results(read_result(line, find_value) for line in lines.values())
        for _ in wanted - {prefix_of(key) for key in lines}:
            yield (
                f"a result in segment {number} of the reuse log is not as it was written; it is not reused, and "
                "`firmplan cache clear` removes it"
            )


def shrink(sql: Sql, before: float) -> int:
    """Remove the results made before then, and return how many keys that were."""
    values = {"before": before}
    removed = 0
    for number, results in sql.rows(_MIXED_SEGMENTS, values):
        removed += _leave(
            sql, number, results, [line for line in lines_of(results) if line.created >= before]
        )
    sql.send("DELETE FROM @reuse_log WHERE newest < :before", values)
    return removed + _forget_keys(sql)


def shrink_to(sql: Sql, bytes_max: int) -> int:
    """Remove the oldest results until the rest is no larger, and return how many keys that were."""
    # Segments are in the order of time, but for calls that started early. Of the first one that is too much, the newest results stay.
    left, removed = bytes_max, 0
    numbers = sql.rows("SELECT number, size FROM @reuse_log ORDER BY newest DESC, number DESC")
    for place, (number, size) in enumerate(numbers):
        if size <= left:
            left -= size
            continue
        ((results,),) = sql.rows("SELECT results FROM @reuse_log WHERE number=:number", {"number": number})
        newest = sorted(lines_of(results), key=lambda line: (-line.created, line.key))
        sizes = accumulate(line.size for line in newest)
        removed += _leave(
            sql, number, results, [line for line, so_far in zip(newest, sizes, strict=True) if so_far <= left]
        )
        sql.send(_REMOVE_SEGMENTS, {"numbers": [number for number, _ in numbers[place + 1 :]]})
        break
    return removed + _forget_keys(sql)


def _leave(sql: Sql, number: int, results: bytes, lines: Sequence[Line]) -> int:
    """Leave only some lines of a segment, and return how many keys lead to it no more."""
    segment = segment_of(lines)
    if segment is None:
        sql.send(_REMOVE_SEGMENTS, {"numbers": [number]})
        return 0
    sql.send(_REPLACE_SEGMENT, {"number": number} | row_of(segment))
    gone = {prefix_of(key) for key in lines_in(results)} - set(segment.prefixes)
    return sql.change(_FORGET_SOME, {"number": number, "gone": sorted(gone)})


def _forget_keys(sql: Sql) -> int:
    """Remove the keys that lead nowhere, and return how many they were."""
    return sql.change("DELETE FROM @reuse_keys WHERE number NOT IN (SELECT number FROM @reuse_log)")


def row_of(segment: Segment) -> dict[str, object]:
    """Return a segment as the columns of a row."""
    return {name: getattr(segment, name) for name in ("oldest", "newest", "size", "results")}
