"""Guards: conditions on a model's answer and on a tool's result. If a model's answer fails one, the model is asked again, with the reason.

In plans a guard is data:

    {"max_length": 280}                       text of at most 280 characters
    {"min_length": 1}                         and at least 1
    {"regex": "^[A-Z]"}                       the pattern is found in the text (ECMA 262, linear time)
    {"quotes": true}                          the text stands, word for word, in the question
    {"field": "summary", "max_length": 280}   any of them about one field of an object; lists: about every item
    {"personal_data": ["email", "phone"]}     none of it is found (`personal_data.py`); `true`: of all kinds
    {"grounded": "claims"}                    each item of the field has a quote that stands in a source (`grounding.py`)
    {"judge": "It is polite"}                 a model finds that the answer meets the condition (`tools/models/judges.py`)
    {"toxicity": true}                        a model finds that it is not toxic

`@agent` and `@tool` also take code: callables, of which `guard(value)` returns `True` or `None` for a good value, and `False` or a
sentence for any other; and pydantic's models, type adapters and validators, which accept the value or not. A
`ValueError` counts as its sentence. The module asks no model: a judge is asked by `tools/models` after all other guards hold,
since these cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

from typing_extensions import TypeIs

from ...errors import ConfigError, ToolError
from ...plans.checker.ask import PERSONAL_DATA, guard_problems
from ...plans.immutable import immutable
from ...plans.values import Json
from ..failures import described
from .grounding import Grounding, texts_in

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator
    from pydantic import BaseModel


class Validates(Protocol):
    """A pydantic `TypeAdapter`, or an object with its `validate_python`."""

    def validate_python(self, value: Any, /) -> object:  # noqa: ANN401  # pydantic's own signature
        """Return the value as it should be. Raises: ValueError."""
        ...


Guard: TypeAlias = "Mapping[str, Json] | Callable[[Json], bool | str | None] | type[BaseModel] | Validates"

GUARD_REFUSED: Final = "guard-refused"
"""The code of a call whose result a guard refuses."""

NAME_MAX: Final = 80
"""Characters of a guard's name in records and reports."""

_KEYWORDS = {"max_length": "maxLength", "min_length": "minLength", "regex": "pattern"}


@immutable
class Question:
    """The question that a value answers, for guards that compare the two.

    Attributes:
        text: The question in full.
        sources: The texts that the value may quote, by name; empty: the question.
        typed: Makes the value that guards which are functions get, such as an instance of a model. Raises: ValueError. `None`: they get the JSON.
    """

    text: str
    sources: Mapping[str, Json] = field(default_factory=dict[str, Json])
    typed: Callable[[Json], object] | None = None


@immutable
class Refusal:
    """The verdict of a guard that refuses a value.

    Attributes:
        guard: The guard's name.
        why: A sentence that holds nothing of the value, for records and messages; empty where only the code of the guard knows.
        detail: The sentence for the model that is asked again, which knows the value.
    """

    guard: str
    why: str
    detail: str


def check_guards(where: str, guards: Sequence[object], sources: Sequence[str] | None = None) -> None:
    """Raise `ConfigError` unless each guard is one.

    Args:
        where: Whose guards they are, for messages.
        guards: As they were given.
        sources: The names that a `source` may have; `None`: they are not known yet.

    Raises:
        ConfigError: A guard is not one, or needs a package that is not installed.
    """
    for index, guard in enumerate(guards):
        if iscoroutinefunction(guard):
            raise ConfigError(
                f"{where}: guard[{index}]: expected a synchronous function, found the async function "
                f"'{name_of(guard)}'; make it a plain `def`"
            )
        for fault in () if is_code(guard) else guard_problems([guard], sources=sources):
            hint = f"; {fault.hint}" if fault.hint else ""
            raise ConfigError(f"{where}: guard[{index}]: {fault.message}{hint}")


def find_refusal(value: Json, guards: Sequence[Guard], question: Question) -> Refusal | None:
    """Return the verdict of the first guard that refuses `value`; `None` if all but judges hold.

    Args:
        value: The answer, or the result.
        guards: In the order in which they are asked; judges are passed over.
        question: The question that the value answers.

    Raises:
        ToolError: A guard went wrong (`guard-failed`): another answer would not help.
    """
    for guard in guards:
        refusal = (
            _measured(guard, value, question) if is_data(guard) else _asked(guard, value, question.typed)
        )
        if refusal is not None:
            return refusal
    return None


def name_of(guard: object) -> str:
    """Return the name of a guard in records and reports: its first condition, with the words of a judge; of code the name of the function."""
    if not isinstance(guard, Mapping):
        return str(getattr(guard, "__name__", type(guard).__name__))[:NAME_MAX]
    keys = [str(key) for key in cast("Mapping[object, object]", guard) if key not in ("field", "model")]
    name = keys[0] if keys else "field"
    if name == "judge":
        name = f"judge: {cast('Mapping[str, object]', guard)['judge']}"
    return name[:NAME_MAX]


def is_data(guard: Guard) -> TypeIs[Mapping[str, Json]]:
    """Whether a guard is data, as in plans."""
    return isinstance(guard, Mapping)


def asks_model(guard: Guard) -> bool:
    """Whether a guard is a judge."""
    return is_data(guard) and ("judge" in guard or "toxicity" in guard)


def is_code(guard: object) -> bool:
    """Whether a guard is code and not data."""
    return _question_of(guard) is not None


def _question_of(guard: Any) -> Callable[[Json], object] | None:  # noqa: ANN401  # anything may be given
    """Return a function that asks code about a value."""
    if isinstance(guard, Mapping):
        return None
    # By the methods and not by the classes: pydantic is not imported for guards that are data.
    for name in ("model_validate", "validate_python"):
        method = getattr(guard, name, None)
        if callable(method):
            return _raising(method)
    if callable(guard):
        return cast("Callable[[Json], object]", guard)
    inner = getattr(guard, "func", None)  # pydantic's AfterValidator and the like
    return _raising(inner) if callable(inner) else None


def _raising(check: Callable[[Json], object]) -> Callable[[Json], object]:
    """Return a function that only raises: what a validator returns is the value, and no verdict."""

    def ask(value: Json) -> None:
        check(value)

    return ask


def _asked(guard: Guard, value: Json, typed: Callable[[Json], object] | None) -> Refusal | None:
    """Return the verdict of a guard that is code; `None`: it holds."""
    question = _question_of(guard)
    if question is None:
        return None
    name = name_of(guard)
    plain = f"the guard '{name}' refused it"
    # A `ValueError` is a verdict, by the convention of pydantic's validators. Any other exception is a mistake in
    # the guard, and asking again would not help.
    try:
        # Validators read JSON themselves.
        is_validator = hasattr(guard, "model_validate") or hasattr(guard, "validate_python")
        verdict = question(value if typed is None or is_validator else cast("Json", typed(value)))
    except ValueError as error:
        return Refusal(name, "", _sentence(error) or plain)
    except Exception as error:
        text = f"the guard '{name}' went wrong: {described(error)}"
        raise ToolError(text, code="guard-failed") from error
    if isinstance(verdict, str):
        return Refusal(name, "", verdict)
    return Refusal(name, "", plain) if verdict is False else None


def _sentence(fault: ValueError) -> str:
    """Return the text of an error; pydantic's without its links."""
    errors = getattr(fault, "errors", None)
    if not callable(errors):
        return str(fault)
    listed = cast(
        "list[dict[str, Any]]", errors(include_url=False, include_input=False, include_context=False)
    )
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}" for each in listed)


def _measured(guard: Mapping[str, Json], value: Json, question: Question) -> Refusal | None:
    """Return the verdict of a guard that is data; `None`: it holds, or it is a judge."""
    name = name_of(guard)
    if "personal_data" in guard:
        found = _personal_data_in(guard, value)
        return None if found is None else Refusal(name, found, f"{found}; leave it out")
    if "grounded" in guard:
        ungrounded = Grounding.of(guard).find_fault(value, _sources(guard, question))
        return None if ungrounded is None else Refusal(name, *ungrounded)
    validator = _validator(guard)
    about = guard.get("field")
    told = f"'{about}'" if isinstance(about, str) else "the answer"
    # jsonschema's validator does the work: `regex` is ECMA 262 in linear time, as in schemas, and not Python's
    # `re`.
    for text in (text for part in _guarded(guard, value) for text in _texts(part)):
        for fault in validator.iter_errors(text):
            why = f"{told} does not meet {{{', '.join(f'{key}: {guard[key]}' for key in _KEYWORDS if key in guard)}}}"
            return Refusal(name, why, f"{told}: {fault.message}")
        if guard.get("quotes") is True and _plain(text) not in _plain(question.text):
            why = f"{told} must be quoted word for word from the question"
            return Refusal(name, why, f"{why}, found {text!r}")
    return None


def _personal_data_in(guard: Mapping[str, Json], value: Json) -> str | None:
    from .personal_data import find_personal_data  # noqa: PLC0415  # needs an extra: only for this guard

    wanted, about = guard["personal_data"], guard.get("field")
    kinds = PERSONAL_DATA if wanted is True else cast("Sequence[str]", wanted)
    countries = cast("Sequence[str]", guard.get("countries", ()))
    for each in _guarded(guard, value):
        if (found := find_personal_data(each, kinds, countries)) is not None:
            return f"'{about}': {found}" if isinstance(about, str) else found
    return None


def _guarded(guard: Mapping[str, Json], value: Json) -> Iterator[Json]:
    """Yield the parts of a value that a guard is about: the value, or its field; of a list that of each item."""
    match value, guard.get("field"):
        case _, None:
            yield value
        case list(), _:
            for item in value:
                yield from _guarded(guard, item)
        case dict(), str(name) if name in value:
            yield value[name]
        case _:
            pass


def _sources(guard: Mapping[str, Json], question: Question) -> list[str]:
    """Return the texts that an answer may quote."""
    named = guard.get("source")
    names = [named] if isinstance(named, str) else named if isinstance(named, list | tuple) else None
    if not question.sources:
        return [question.text]
    chosen = question.sources if names is None else {name: question.sources.get(str(name)) for name in names}
    return [text for value in chosen.values() for text in texts_in(value)]


def _validator(guard: Mapping[str, Json]) -> Draft202012Validator:
    """Return a guard's conditions on a text, compiled. Raises: ValueError: they are no JSON Schema."""
    import jsonschema_rs  # noqa: PLC0415  # only where a guard is checked

    conditions = {_KEYWORDS[key]: condition for key, condition in guard.items() if key in _KEYWORDS}
    return jsonschema_rs.Draft202012Validator({"type": "string", **conditions})


def _texts(value: Json) -> Iterator[str]:
    """Yield a text, or the texts of a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _plain(text: str) -> str:
    """Return text with white space and case folded."""
    return " ".join(text.split()).casefold()
