"""A bundle: one run in one file, which replays anywhere without tools and store.

A bundle has lines of JSON, `{"sha256": .., "kind": .., "data": ..}`, in this order: `bundle` (the format), `header` (plan, inputs, seed, toolset
lock), `value`s that the journal refers to, `blob`s (the bytes of artifacts), `journal` records byte for byte as they were written, `decision`s that
the journal does not hold yet, `end`. `sha256` covers kind and data, so that a changed line is found at its place. `end` covers all lines
before it, so that no line can be lost, added or moved. The records keep their own chain. A bundle has no code and no pickle, and
secrets only by name. The checksums show that something was changed, not who wrote it: a bundle is not signed.

Pure: bytes in, bytes out. `docs/REUSE.md` is the specification.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, NoReturn, cast

import orjson

from ...errors import InputRejected, StoreError
from ...lazy_imports import late_pattern
from ...plans.immutable import immutable
from ...plans.values import Json, digest
from ..stores.store import RunRow
from .header import Header
from .records import GENESIS, Entry, chain, read_entry, values_by

BUNDLE_FORMAT: Final = 1
_START: Final = b'{"sha256":"'
_LINE: Final = late_pattern(rb'\{"sha256":"([0-9a-f]{64})","kind":"([a-z]{1,16})","data":(.+)\}')
_ORDER: Final = ("bundle", "header", "value", "blob", "journal", "decision", "end")
_ONCE: Final = ("bundle", "header", "end")


@immutable
class Bundle:
    """One run with everything that a replay needs.

    Attributes:
        row: The row of the run; its owner and epoch have no meaning in another store.
        lines: The records of the journal, as they were written.
        values: Digest -> bytes of the values that the lines refer to.
        blobs: Digest -> bytes of the artifacts that the run has among its inputs and values.
        decisions: Records of decisions that the journal does not hold yet.
    """

    row: RunRow
    lines: Sequence[bytes]
    values: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    blobs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    decisions: Sequence[bytes] = ()

    @property
    def header(self) -> Header:
        """The header of the run. Raises: StoreError: it has another format. InputRejected: it is no header."""
        try:
            return Header.from_dict(self.row.header)
        except StoreError as fault:
            if fault.__cause__ is None:
                raise
            raise InputRejected(
                f"the bundle of run {self.row.id} has no header of a run: {fault.message}"
            ) from fault

    @property
    def entries(self) -> list[Entry]:
        """The records of the journal. Raises: StoreError: a line is no record of this format. InputRejected: a value is missing."""
        shared = values_by(self._value)
        return [read_entry(line, shared) for line in self.lines]

    def _value(self, name: str) -> bytes:
        if name not in self.values:
            raise InputRejected(f"the bundle of run {self.row.id} lacks the value {name}")
        return self.values[name]


def write_bundle(bundle: Bundle) -> bytes:
    """Return a bundle as the bytes of its file; the same run gives the same bytes."""
    row = bundle.row
    about = {
        "firmplan_bundle": BUNDLE_FORMAT,
        "run": row.id,
        "status": row.status,
        "digest": row.digest,
        "plan_digest": row.plan_digest,
        "task": row.task,
        "parent": row.parent,
        "created": row.created,
        "updated": row.updated,
        "records": len(bundle.lines),
        "head": chain(GENESIS, bundle.lines).hex(),
    }
    # Values and blobs are sorted by digest, so that one run gives the same bytes from every store.
    parts = [("bundle", orjson.dumps(about)), ("header", orjson.dumps(row.header))]
    parts += [("value", bundle.values[name]) for name in sorted(bundle.values)]
    parts += [("blob", b'"%s"' % b64encode(bundle.blobs[name])) for name in sorted(bundle.blobs)]
    parts += [("journal", line) for line in bundle.lines]
    parts += [("decision", line) for line in bundle.decisions]
    body = b"".join(_line(kind, data) for kind, data in parts)
    return body + _end(len(parts), body)


def read_bundle(data: bytes, name: str) -> Bundle:
    """Read a bundle and check every byte of it.

    Args:
        data: The file's bytes.
        name: The file's name, for messages.

    Raises:
        InputRejected: The data is no bundle, has a newer format, is incomplete or was changed; the message names the line.
    """
    # A file of another kind is told apart from a damaged bundle: the remedy differs.
    if not data.startswith(_START):
        raise InputRejected(
            f"{name}: expected a bundle of firmplan, found a file of another kind; `firmplan export RUN -o FILE` makes one"
        )
    parts = list(_checked_lines(data, name))
    found: dict[str, list[bytes]] = {kind: [part for each, part in parts if each == kind] for kind in _ORDER}
    about = _read_about(found["bundle"][0], name)
    # Each line matches its checksum here. What still does not fit was written by something else, or by hand with new checksums.
    try:
        bundle = _bundle_of(about, found)
    except (LookupError, TypeError, ValueError) as fault:
        _refuse(name, f"its first lines do not say what a bundle says ({fault!r})")
    if (
        len(bundle.lines) != about["records"]
        or chain(GENESIS, bundle.lines) != bundle.row.head
        or [_number(line) for line in bundle.lines] != list(range(1, len(bundle.lines) + 1))
    ):
        _refuse(name, "its journal does not match its hash chain")
    return bundle


def _line(kind: str, data: bytes) -> bytes:
    return b'{"sha256":"%s","kind":"%s","data":%s}\n' % (_sum(kind.encode(), data), kind.encode(), data)


def _sum(kind: bytes, data: bytes) -> bytes:
    return hashlib.sha256(kind + b"\n" + data).hexdigest().encode()


def _end(lines: int, body: bytes) -> bytes:
    total = {"lines": lines, "sha256": hashlib.sha256(body).hexdigest()}
    return _line("end", orjson.dumps(total))


def _checked_lines(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield kind and data of each line. Raises: InputRejected: a line was changed; the first such line is named."""
    # Lines are checked in order, so that the first one that was changed is named. The format has no line feed inside a line: JSON escapes it.
    lines = data.split(b"\n")
    rank = records = 0
    for number, line in enumerate(lines[:-1], 1):
        match = _LINE.fullmatch(line)
        if match is None:
            _refuse(name, f"line {number} is not as it was written")
        check, kind, part = match[1], match[2], match[3]
        shown = kind.decode()
        records += shown == "journal"
        what = f"line {number} ({f'journal record {records}' if shown == 'journal' else shown})"
        if check != _sum(kind, part):
            _refuse(name, f"{what} does not match its checksum")
        if shown not in _ORDER:
            _refuse(name, f"{what} is of a kind that this firmplan does not know; a newer one may")
        # Kinds come in one order, each of `_ONCE` once: a reader never has to look ahead, and equal runs are equal files.
        place = _ORDER.index(shown)
        if place < rank or (shown in _ONCE and place == rank and number > 1) or (number == 1 and place > 0):
            _refuse(name, f"{what} stands in a wrong place")
        rank = place
        yield shown, part
    count = len(lines) - 2
    body = b"".join(line + b"\n" for line in lines[:-2])
    if lines[-1] or rank != len(_ORDER) - 1 or lines[-2] + b"\n" != _end(count, body):
        _refuse(name, "it is cut short, or lines of it were lost, added or moved")


def _read_about(data: bytes, name: str) -> dict[str, Any]:
    about: Json = orjson.loads(data)
    version = about.get("firmplan_bundle") if isinstance(about, dict) else None
    if version != BUNDLE_FORMAT:
        raise InputRejected(
            f"{name}: a bundle of format {version!r}; this firmplan reads {BUNDLE_FORMAT}: upgrade firmplan"
        )
    return cast("dict[str, Any]", about)


def _bundle_of(about: Mapping[str, Any], found: Mapping[str, list[bytes]]) -> Bundle:
    row = RunRow(
        id=about["run"],
        status=about["status"],
        task=about["task"],
        plan_digest=about["plan_digest"],
        parent=about["parent"],
        created=about["created"],
        updated=about["updated"],
        digest=about["digest"],
        header=orjson.loads(found["header"][0]),
        head=bytes.fromhex(about["head"]),
        last_seq=about["records"],
    )
    # Digests are computed here and not read: a value that was exchanged has another name, and the record that wants the old one misses it.
    values: dict[str, bytes] = {digest(data): data for data in found["value"]}
    blobs: dict[str, bytes] = {
        digest(data): data for data in (b64decode(part[1:-1], validate=True) for part in found["blob"])
    }
    return Bundle(row, found["journal"], values, blobs, found["decision"])


def _number(line: bytes) -> object:
    return orjson.loads(line).get("n")


def _refuse(name: str, what: str) -> NoReturn:
    raise InputRejected(
        f"{name}: {what}: the bundle was damaged or changed after it was made; export the run again"
    )
