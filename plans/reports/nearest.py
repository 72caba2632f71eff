"""The nearest known name to a misspelt one, as a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

NAMES_MAX = 2_000
"""Names compared for one suggestion: each costs some microseconds, and a report may ask many times."""

NAME_SHOWN_MAX = 80
"""Characters of a name in a message: a name may stand in thousands of them."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or `None` if none is close. O(min(names, NAMES_MAX))."""
    some = list(islice(known, NAMES_MAX))
    folded = name.casefold()
    for one in some:
        if one.casefold() == folded:
            return one
    close = get_close_matches(name[:64], some, n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return `did you mean 'x'?` for the closest known name, else `otherwise`.

    Args:
        name: The unknown name.
        known: The names that exist.
        otherwise: The sentence if none of them is close.
    """
    close = nearest(name, known)
    return f"did you mean '{close}'?" if close is not None else otherwise


def short(name: str) -> str:
    """Return a name for a message: of very long ones the beginning."""
    return name if len(name) <= NAME_SHOWN_MAX else f"{name[:NAME_SHOWN_MAX]}.."


def listing(names: Iterable[str], most: int = 12) -> str:
    """Return names as text, the first `most` of them: `a, b, c and 3 more`; `none` if there are none."""
    every = list(names)
    if not every:
        return "none"
    shown = ", ".join(map(short, every[:most]))
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"
