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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import orjson

from ...plans.immutable import immutable, record
from ...plans.values import digest
from .store import Reusable

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
    named = [line for line in lines if _VALUE in line]  # an output may hold these bytes as well
    outputs = [line.rpartition(b"\t")[2] for line in named]
    return {_value_in(shown) for shown in outputs if shown.startswith(_VALUE)}


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
