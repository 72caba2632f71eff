"""Guards: further conditions on a model's answer; one that fails has the answer made again, told why.

In plans a guard is data:

    {"max_length": 280}                       text of at most 280 characters
    {"min_length": 1}                         and at least 1
    {"regex": "^[A-Z]"}                       the pattern is found in the text (ECMA 262, linear time)
    {"quotes": true}                          the text stands, word for word, in the question
    {"field": "summary", "max_length": 280}   any of them about one field of an object; lists: about every item

`@agent` also takes callables: `guard(value)` returns `True` or `None` where all is well, and `False` or a sentence
where it is not; a `ValueError` counts as its sentence. Knows nothing of endpoints; calls nothing but the callables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from ..errors import ConfigError
from ..plans.nearest import did_you_mean, listing
from ..plans.values import Json

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

Guard: TypeAlias = "Mapping[str, Json] | Callable[[Json], bool | str | None]"

_KEYWORDS = {"max_length": "maxLength", "min_length": "minLength", "regex": "pattern"}
_KEYS = (*_KEYWORDS, "quotes", "field")


@dataclass(frozen=True, slots=True)
class Question:
    """What the model was asked, for guards that compare with it."""

    text: str


def check_guards(where: str, guards: Sequence[object]) -> None:
    """Raise `ConfigError` unless each guard is one."""
    for index, guard in enumerate(guards):
        if not callable(guard):
            _check(f"{where}: guard[{index}]", guard)


def find_fault(value: Json, guards: Sequence[Guard], question: Question) -> str | None:
    """Return the first guard's complaint about `value` as a sentence for the model; `None` if all hold."""
    for guard in guards:
        fault = _asked(guard, value) if callable(guard) else _measured(guard, value, question)
        if fault is not None:
            return fault
    return None


def _check(where: str, guard: object) -> None:
    if not isinstance(guard, Mapping) or not guard:
        raise ConfigError(f"{where}: expected a callable or an object with {listing(_KEYS)}, found {guard!r}")
    wishes = cast("Mapping[str, Json]", guard)
    unknown = [str(key) for key in wishes if key not in _KEYS]
    if unknown:
        raise ConfigError(
            f"{where}: expected {listing(_KEYS)}, found '{unknown[0]}'; {did_you_mean(unknown[0], _KEYS)}".rstrip(
                "; "
            )
        )
    try:
        _validator(wishes)
    except ValueError as fault:
        raise ConfigError(f"{where}: {fault}") from fault


def _asked(guard: Callable[[Json], bool | str | None], value: Json) -> str | None:
    """Ask a callable."""
    try:
        verdict = guard(value)
    except ValueError as fault:
        return str(fault) or f"the guard '{_called(guard)}' refused it"
    if isinstance(verdict, str):
        return verdict
    return f"the guard '{_called(guard)}' refused it" if verdict is False else None


def _measured(guard: Mapping[str, Json], value: Json, question: Question) -> str | None:
    """Hold the texts of a value against a guard that is data."""
    validator = _validator(guard)
    field = guard.get("field")
    name = f"'{field}'" if isinstance(field, str) else "the answer"
    for text in _texts(value, field if isinstance(field, str) else None):
        for fault in validator.iter_errors(text):
            return f"{name}: {fault.message}"
        if guard.get("quotes") is True and _plain(text) not in _plain(question.text):
            return f"{name} must be quoted word for word from the question, found {text!r}"
    return None


def _validator(guard: Mapping[str, Json]) -> Draft202012Validator:
    """Return a guard's wishes about a text, compiled. Raises: ValueError: they are no JSON Schema."""
    import jsonschema_rs  # noqa: PLC0415  # only where a guard is checked

    wishes = {_KEYWORDS[key]: wish for key, wish in guard.items() if key in _KEYWORDS}
    return jsonschema_rs.Draft202012Validator({"type": "string", **wishes})


def _texts(value: Json, field: str | None) -> Iterator[str]:
    """Yield the texts that a guard is about: the value, a field's, or every item's of a list."""
    if isinstance(value, list):
        for item in value:
            yield from _texts(item, field)
    elif isinstance(value, dict) and field is not None:
        yield from _texts(value.get(field), None)
    elif isinstance(value, str) and field is None:
        yield value


def _plain(text: str) -> str:
    """Return text without differences of white space and case."""
    return " ".join(text.split()).casefold()


def _called(guard: Callable[..., object]) -> str:
    return getattr(guard, "__name__", type(guard).__name__)
