"""Say what is wrong with a value: where, what was expected, what was found; from pydantic's or JSON Schema's findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..plans.nearest import did_you_mean, listing
from ..plans.paths import path_of
from ..plans.values import Json

if TYPE_CHECKING:
    from pydantic import ValidationError

SHOWN_MAX = 60  # characters of a found value: enough to recognise it, too few to flood a log
FAULTS_MAX = 8  # faults told of one value; more hide the first


def pydantic_faults(error: ValidationError) -> list[str]:
    """Return one sentence for each fault that pydantic found."""
    return _first(
        f"{path_of(fault['loc'])}: {_wish(str(fault['msg']))}, found {shown(fault['input'])}"
        if fault["type"] != "missing"
        else f"{path_of(fault['loc'])}: expected a value, found nothing"
        for fault in error.errors(include_url=False, include_context=False)
    )


def schema_faults(value: Json, schema: Mapping[str, Json]) -> list[str]:
    """Return one sentence for each fault of a value that JSON Schema finds."""
    from ..plans.types.validate import literal_faults  # noqa: PLC0415  # only once something does not fit

    found = literal_faults(value, schema)
    return _first(f"${fault.inner}: {fault.message}{_hint(fault.hint)}" for fault in found)


def argument_faults(given: Iterable[str], known: Sequence[str], required: Iterable[str]) -> list[str]:
    """Return one sentence for each argument that is missing or that nobody asked for."""
    given = list(given)
    missing = [
        f"argument '{name}': expected a value, found nothing" for name in required if name not in given
    ]
    free = [name for name in known if name not in given]
    extra = [
        f"argument '{name}': not a parameter; expected {listing(known)}{_hint(did_you_mean(name, free))}"
        for name in given
        if name not in known
    ]
    return missing + extra


def shown(value: object) -> str:
    """Return a value as a reader recognises it, cut short."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 3]}..."


def _wish(message: str) -> str:
    """Turn `Input should be a valid integer` into `expected a valid integer`."""
    return (
        message.replace("Input should be ", "expected ", 1)
        if message.startswith("Input should be ")
        else message
    )


def _hint(text: str) -> str:
    return f"; {text}" if text else ""


def _first(sentences: Iterable[str]) -> list[str]:
    every = list(dict.fromkeys(sentences))
    return every[:FAULTS_MAX] + ([f"and {len(every) - FAULTS_MAX} more"] if len(every) > FAULTS_MAX else [])
