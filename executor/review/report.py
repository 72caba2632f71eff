"""Differing places as text, as all reports of this folder show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ...plans.edit.differences import Difference

PLACES_SHOWN: Final = 3  # differing places that the text of a report shows; its JSON has all of them


def places_text(where: str, places: Sequence[Difference]) -> str:
    """Return the first differing places as text, and how many more there are."""
    texts = [place_text(where, each) for each in places[:PLACES_SHOWN]]
    if (more := len(places) - PLACES_SHOWN) > 0:
        texts.append(f"and {more} more places")
    return "; ".join(texts)


def place_text(where: str, each: Difference) -> str:
    """Return one differing place as text: `output.items[0]: 1 -> 2`."""
    text = str(each).removeprefix(f"{each.path}: ") if each.path else str(each)
    place = place_name(where, each)
    return f"{place}: {text}" if place else text


def place_name(where: str, each: Difference) -> str:
    """Return the full path of a differing place."""
    dot = "" if not where or not each.path or each.path.startswith("[") else "."
    return f"{where}{dot}{each.path}"
