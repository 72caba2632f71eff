"""How amounts of runs are told to people: one way to count steps, one way to round. Programs get them as they are."""

from __future__ import annotations

from collections.abc import Iterable

from ..fork import root_of


def steps_in(paths: Iterable[str]) -> int:
    """Return how many steps these are: of the plan's own list, each once, whatever its items, iterations and inner steps."""
    return len({root_of(path) for path in paths})


def counted(steps: int) -> str:
    """Spell a number of steps."""
    return "1 step" if steps == 1 else f"{steps} steps"


def amount(value: float) -> str:
    """Spell an amount as people read it: whole numbers as they are, small parts by their first digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
