"""JSON paths as the reports write them: `$.steps[2].args.city`, `$.types["any key"]`.

A path is text for people and a key for programs; `parts_of` gets the keys and indices back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from ...lazy_imports import late_pattern
from ..values import into

Part: TypeAlias = str | int

_PART = late_pattern(r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]""")


def key(name: str) -> str:
    """Return the path suffix of one key: `.name`, or `["any key"]`."""
    return _key_again(name) if len(name) <= _KEY_CACHED_MAX else into("", name)


_KEY_CACHED_MAX = 64  # characters; arguments have few names, and short ones


@lru_cache(4_096)
def _key_again(name: str) -> str:
    return into("", name)


def path_of(parts: Iterable[Part], root: str = "$") -> str:
    """Return the path of a place, from the keys and indices that lead there."""
    return root + "".join(into("", part) for part in parts)


def parts_of(path: str) -> tuple[Part, ...]:
    """Return the keys and indices of a path made by `path_of`; what does not read as a path ends it."""
    parts: list[Part] = []
    position = 1 if path.startswith("$") else 0
    while match := _PART.match(path, position):
        plain, index, quoted = match.groups()
        parts.append(plain if plain is not None else int(index) if index is not None else json.loads(quoted))
        position = match.end()
    return tuple(parts)
