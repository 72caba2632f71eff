"""The bytes of artifacts on their way through one call: fetched from the store before it, kept with its result after it.

A call is handed what its arguments name, so that a tool reads bytes without waiting, on whatever thread or in whatever process
it runs; what it saves becomes durable with its result, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ...plans.values import digest
from ..limits import check_artifact

_DIGEST: Final = re.compile(rb'"digest":"(sha256:[0-9a-f]{64})"')


def digests_in(args: bytes) -> list[str]:
    """Return the digests of the artifacts in canonical arguments, each once, in order."""
    return list(dict.fromkeys(found.decode() for found in _DIGEST.findall(args)))


class CallBlobs:
    """The bytes that one call may read, and those it has made; satisfies `tools.artifact.Blobs`."""

    __slots__ = ("known", "made")

    def __init__(self, known: Mapping[str, bytes]) -> None:
        self.known = known
        self.made: dict[str, bytes] = {}

    def put(self, data: bytes, /) -> str:
        """Keep bytes for the result and return their digest. Raises: ToolError: they are too many."""
        check_artifact(len(data))
        name = digest(data)
        self.made[name] = data
        return name

    def get(self, name: str, /) -> bytes:
        """Return bytes. Raises: KeyError: neither the arguments nor this call have them."""
        return self.made[name] if name in self.made else self.known[name]
