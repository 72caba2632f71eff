"""Mark phase of the garbage collection of stored bytes: which digests do some texts name, and which are named nowhere?

A text refers to bytes by their digest. A large value stands in a text as `{"$value": digest}`; then the value's own text is scanned too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_NAMED: Final = re.compile(rb'("\$value":")?(sha256:[0-9a-f]{64})')


@dataclass(frozen=True, slots=True)
class Unused:
    """The digests that were named nowhere, and how far the store was read.

    Attributes:
        last: (run id, time of creation) -> number of the last record that was read. The id of a deleted run is free again.
        gone: Deleted runs whose results for reuse were already read.
        saved_before: Values that were saved later are not unused.
    """

    digests: frozenset[str]
    last: Mapping[tuple[str, float], int]
    gone: frozenset[str]
    saved_before: float


class MarkPhase:
    """The digests of `unmarked` that no scanned text has named so far.

    Args:
        find_value: Returns the bytes of a digest; `None`: there are none.
        unmarked: The digests to begin with.
    """

    def __init__(self, find_value: Callable[[str], bytes | None], unmarked: set[str]) -> None:
        self._find_value = find_value
        self._scanned: set[str] = set()  # large values: each is scanned once, however many texts refer to it
        self.unmarked = unmarked

    def mark(self, digests: Iterable[str]) -> None:
        """Mark these digests as used."""
        self.unmarked.difference_update(digests)

    def mark_named(self, texts: Iterable[bytes]) -> None:
        """Mark all digests that the texts name, directly or in a large value that stands in a text's place."""
        wanted: list[str] = []
        for text in texts if self.unmarked else ():
            wanted += self._named(text)
            while wanted:
                data = self._find_value(wanted.pop())
                if data is not None:
                    wanted += self._named(data)

    def _named(self, text: bytes) -> Iterator[str]:
        for stands_for, name in _NAMED.findall(text):
            digest = name.decode()
            self.unmarked.discard(digest)
            if stands_for and digest not in self._scanned:
                self._scanned.add(digest)
                yield digest


def named_in(find_value: Callable[[str], bytes | None], texts: Iterable[bytes]) -> set[str]:
    """Return the digests that some texts name, and those named in the large values that stand in a text's place."""
    named: set[str] = set()
    scanned: set[str] = set()
    for text in texts:
        wanted = [text]
        while wanted:
            for stands_for, name in _NAMED.findall(wanted.pop()):
                digest = name.decode()
                named.add(digest)
                if stands_for and digest not in scanned:
                    scanned.add(digest)
                    wanted += [data for data in (find_value(digest),) if data is not None]
    return named
