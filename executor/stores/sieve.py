"""Digests that some texts name, and the digests that no text names: those left after all texts were scanned."""

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
        last: Id of a run and when it was made -> the number of its last record that was read. The id of a deleted run is free again.
        gone: Deleted runs whose results for reuse were already read.
        saved_before: What was saved later is not unused.
    """

    digests: frozenset[str]
    last: Mapping[tuple[str, float], int]
    gone: frozenset[str]
    saved_before: float


class Sieve:
    """What is left of some digests once all that is named was taken out.

    Args:
        find_value: Returns the bytes of a digest; `None`: there are none.
        left: The digests.
    """

    def __init__(self, find_value: Callable[[str], bytes | None], left: set[str]) -> None:
        self._find_value = find_value
        self._read: set[str] = set()
        self.left = left

    def keep(self, digests: Iterable[str]) -> None:
        """Take these out."""
        self.left.difference_update(digests)

    def keep_named(self, texts: Iterable[bytes]) -> None:
        """Take out whatever the texts name, and what the large values do that stand in a text's place."""
        wanted: list[str] = []
        for text in texts if self.left else ():
            wanted += self._named(text)
            while wanted:
                data = self._find_value(wanted.pop())
                if data is not None:
                    wanted += self._named(data)

    def _named(self, text: bytes) -> Iterator[str]:
        for stands_for, name in _NAMED.findall(text):
            digest = name.decode()
            self.left.discard(digest)
            if stands_for and digest not in self._read:
                self._read.add(digest)
                yield digest


def named_in(find_value: Callable[[str], bytes | None], texts: Iterable[bytes]) -> set[str]:
    """Return the digests that some texts name, and those named in the large values that stand in a text's place."""
    named: set[str] = set()
    read: set[str] = set()
    for text in texts:
        wanted = [text]
        while wanted:
            for stands_for, name in _NAMED.findall(wanted.pop()):
                digest = name.decode()
                named.add(digest)
                if stands_for and digest not in read:
                    read.add(digest)
                    wanted += [data for data in (find_value(digest),) if data is not None]
    return named
