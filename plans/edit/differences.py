"""The smallest places in which two JSON values differ, by path, and how such a pair is shown on one line.

Kinds of numbers count (`1` and `1.0` differ), the order of keys does not. Lists of different length are aligned at their equal ends, so that an
inserted or removed item is one difference, not a shift of all later items. Plans (`diff.py`), results and reuse keys are all compared here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Final, Literal, TypeAlias

from ..immutable import immutable
from ..reports.paths import Part, path_of
from ..values import Json, canonical

DIFFERENCES_MAX: Final = 200  # places that a report of two values lists; nobody reads more
SHOWN_MAX: Final = 70  # characters of a value that a sentence shows
AROUND: Final = 16  # characters before a difference that are shown with it

DifferenceKind: TypeAlias = Literal["changed", "added", "removed"]


@immutable
class Difference:
    """One place in which two values differ.

    Attributes:
        path: `items[3].price`; empty: the value itself.
        before: The value before; `None` if it was added.
        after: The value after; `None` if it was removed.
    """

    path: str
    kind: DifferenceKind
    before: Json = None
    after: Json = None

    def __str__(self) -> str:
        old, new = shown_pair(self.before, self.after)
        match self.kind:
            case "added":
                text = f"+ {new}"
            case "removed":
                text = f"- {old}"
            case "changed":
                text = f"{old} -> {new}"
        return f"{self.path}: {text}" if self.path else text

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return asdict(self)


def differences(before: Json, after: Json) -> tuple[Difference, ...]:
    """Return the places in which two values differ, in order, at most `DIFFERENCES_MAX`. O(size of both)."""
    return tuple(islice(differing(before, after), DIFFERENCES_MAX))


def differing(before: Json, after: Json, path: tuple[Part, ...] = ()) -> Iterator[Difference]:
    """Yield every place in which two values differ, in order; `path` is their own place.

    Args:
        before: The first value.
        after: The second value.
        path: The place of both.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            if name not in before:
                yield _at((*path, name), "added", None, after[name])
            elif name not in after:
                yield _at((*path, name), "removed", before[name], None)
            else:
                yield from differing(before[name], after[name], (*path, name))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _differing_lists(before, after, path)
    elif canonical(before) != canonical(after):
        yield _at(path, "changed", before, after)


def _differing_lists(
    before: Sequence[Json], after: Sequence[Json], path: tuple[Part, ...]
) -> Iterator[Difference]:
    old, new = [canonical(each) for each in before], [canonical(each) for each in after]
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    tail = next((at for at in range(shorter - head) if old[-1 - at] != new[-1 - at]), shorter - head)
    both = shorter - tail
    if len(old) == len(new):
        both = len(old)
    for at in range(head, both):
        yield from differing(before[at], after[at], (*path, at))
    for at in range(both, len(old) - tail if both < len(old) else 0):
        yield _at((*path, at), "removed", before[at], None)
    for at in range(both, len(new) - tail if both < len(new) else 0):
        yield _at((*path, at), "added", None, after[at])


def _at(path: tuple[Part, ...], kind: DifferenceKind, before: Json, after: Json) -> Difference:
    return Difference(path_of(path, "").removeprefix("."), kind, before, after)


def shown(value: Json) -> str:
    """Return a value on one line of at most `SHOWN_MAX` characters, as JSON."""
    return cut_text(canonical(value).decode())


def shown_pair(before: Json, after: Json) -> tuple[str, str]:
    """Return two values on a line each, cut around the first place in which they differ."""
    return cut_pair(canonical(before).decode(), canonical(after).decode())


def cut_pair(old: str, new: str) -> tuple[str, str]:
    """Return two lines, each cut to `SHOWN_MAX` characters around the first place in which they differ."""
    pairs = enumerate(zip(old, new, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
    return cut_text(old, same), cut_text(new, same)


def cut_text(text: str, same: int = 0) -> str:
    """Return a line cut to `SHOWN_MAX` characters; of its first `same` characters, which are equal, only the last are shown."""
    if len(text) <= SHOWN_MAX:
        return text
    start = max(min(same - AROUND, len(text) - SHOWN_MAX), 0)
    part = f"..{text[start + 2 :]}" if start else text
    return part if len(part) <= SHOWN_MAX else f"{part[: SHOWN_MAX - 2]}.."
