"""The printer that the reports of this folder share: a report as JSON, and differing places as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from ...plans.edit.differences import Difference
    from ...plans.values import Json

PLACES_SHOWN: Final = 3  # differing places that the text of a report shows; its JSON has all of them


def report_json(report: object, **renamed: str) -> dict[str, Json]:
    """Return the fields of a report as JSON, nested reports included.

    Args:
        report: The report, a dataclass.
        renamed: Field -> its name in JSON, where the names differ.
    """
    return {
        renamed.get(field.name, field.name): _json_of(getattr(report, field.name))
        for field in fields(cast("Any", report))
    }


def _json_of(value: object) -> Json:
    if hasattr(value, "to_dict"):
        return cast("Json", cast("Any", value).to_dict())
    if isinstance(value, tuple):
        return [_json_of(each) for each in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Json]", value))
    return cast("Json", value)


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
