"""Guards: further conditions on a model's answer. If a guard fails, the model is asked again, with the reason.

In plans a guard is data:

    {"max_length": 280}                       text of at most 280 characters
    {"min_length": 1}                         and at least 1
    {"regex": "^[A-Z]"}                       the pattern is found in the text (ECMA 262, linear time)
    {"quotes": true}                          the text stands, word for word, in the question
    {"field": "summary", "max_length": 280}   any of them about one field of an object; lists: about every item
    {"judge": "It is polite"}                 a model finds that the answer meets the condition
    {"judge": "It is polite", "model": "small"}   and which one is asked

`@agent` also takes code: callables, of which `guard(value)` returns `True` or `None` for a good value, and `False` or a
sentence for any other; and pydantic's models, type adapters and validators, which accept the value or not. A
`ValueError` counts as its sentence. The module knows no endpoint: a judge is asked by `models.py` after all other guards hold,
since these cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from typing_extensions import TypeIs

from ...errors import ConfigError, ToolError
from ...plans.checker.ask import guard_problems
from ...plans.values import Json
from ..failures import described

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator
    from pydantic import BaseModel


class Validates(Protocol):
    """A pydantic `TypeAdapter`, or an object with its `validate_python`."""

    def validate_python(self, value: Any, /) -> object:  # noqa: ANN401  # pydantic's own signature
        """Return the value as it should be. Raises: ValueError."""
        ...


Guard: TypeAlias = "Mapping[str, Json] | Callable[[Json], bool | str | None] | type[BaseModel] | Validates"

_KEYWORDS = {"max_length": "maxLength", "min_length": "minLength", "regex": "pattern"}


@dataclass(frozen=True, slots=True)
class Question:
    """The question to the model, for guards that compare the answer with it."""

    text: str


@dataclass(frozen=True, slots=True)
class Judge:
    """A condition that a model judges. `model` is an alias; `None`: the model that gave the answer."""

    condition: str
    model: str | None = None

    @classmethod
    def of(cls, guard: Guard) -> Judge | None:
        """Return the judge that a guard is; `None` if it is another."""
        match guard:
            case {"judge": str(condition), **rest}:
                model = rest.get("model")
                return cls(condition, model if isinstance(model, str) else None)
            case _:
                return None


def check_guards(where: str, guards: Sequence[object]) -> None:
    """Raise `ConfigError` unless each guard is one."""
    for index, guard in enumerate(guards):
        if iscoroutinefunction(guard):
            raise ConfigError(
                f"{where}: guard[{index}]: expected a synchronous function, found the async function "
                f"'{_called(guard)}'; make it a plain `def`"
            )
        for fault in () if is_code(guard) else guard_problems([guard]):
            hint = f"; {fault.hint}" if fault.hint else ""
            raise ConfigError(f"{where}: guard[{index}]: {fault.message}{hint}")


def find_fault(value: Json, guards: Sequence[Guard], question: Question) -> str | None:
    """Return why the first guard that fails refuses `value`, as a sentence for the model; `None` if all but judges hold.

    Args:
        value: The answer.
        guards: In the order in which they are asked; judges are passed over.
        question: The question to the model.

    Raises:
        ToolError: A guard that is code went wrong (`guard-failed`): another answer would not help.
    """
    for guard in guards:
        fault = _measured(guard, value, question) if is_data(guard) else _asked(guard, value)
        if fault is not None:
            return fault
    return None


def is_data(guard: Guard) -> TypeIs[Mapping[str, Json]]:
    """Whether a guard is data, as in plans."""
    return isinstance(guard, Mapping)


def is_code(guard: object) -> bool:
    """Whether a guard is code and not data."""
    return _question_of(guard) is not None


def _question_of(guard: Any) -> Callable[[Json], object] | None:  # noqa: ANN401  # anything may be given
    """Return a function that asks code about a value. A validator refuses by raising; its return value is no verdict."""
    if isinstance(guard, Mapping):
        return None
    # By the methods and not by the classes: pydantic is not imported for guards that are data.
    for name in ("model_validate", "validate_python"):
        method = getattr(guard, name, None)
        if callable(method):
            return lambda value: (method(value), None)[1]
    if callable(guard):
        return cast("Callable[[Json], object]", guard)
    inner = getattr(guard, "func", None)  # pydantic's AfterValidator and the like
    return (lambda value: (inner(value), None)[1]) if callable(inner) else None


def _asked(guard: Guard, value: Json) -> str | None:
    """Return why a guard that is code refuses a value; `None`: it holds."""
    question = _question_of(guard)
    if question is None:
        return None
    try:
        verdict = question(value)
    # A `ValueError` is a verdict, by the convention of pydantic's validators. Any other exception is a mistake in
    # the guard, and asking again would not help.
    except ValueError as error:
        return _sentence(error) or f"the guard '{_called(guard)}' refused it"
    except Exception as error:
        text = f"the guard '{_called(guard)}' went wrong: {described(error)}"
        raise ToolError(text, code="guard-failed") from error
    if isinstance(verdict, str):
        return verdict
    return f"the guard '{_called(guard)}' refused it" if verdict is False else None


def _sentence(fault: ValueError) -> str:
    """Return the text of an error; pydantic's without its links."""
    errors = getattr(fault, "errors", None)
    if not callable(errors):
        return str(fault)
    listed = cast(
        "list[dict[str, Any]]", errors(include_url=False, include_input=False, include_context=False)
    )
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}" for each in listed)


def _measured(guard: Mapping[str, Json], value: Json, question: Question) -> str | None:
    """Return why a guard that is data refuses the texts of a value; `None`: it holds."""
    validator = _validator(guard)
    field = guard.get("field")
    name = f"'{field}'" if isinstance(field, str) else "the answer"
    # jsonschema's validator does the work: `regex` is ECMA 262 in linear time, as in schemas, and not Python's
    # `re`.
    for text in _texts(value, field if isinstance(field, str) else None):
        for fault in validator.iter_errors(text):
            return f"{name}: {fault.message}"
        if guard.get("quotes") is True and _plain(text) not in _plain(question.text):
            return f"{name} must be quoted word for word from the question, found {text!r}"
    return None


def _validator(guard: Mapping[str, Json]) -> Draft202012Validator:
    """Return a guard's conditions on a text, compiled. Raises: ValueError: they are no JSON Schema."""
    import jsonschema_rs  # noqa: PLC0415  # only where a guard is checked

    conditions = {_KEYWORDS[key]: condition for key, condition in guard.items() if key in _KEYWORDS}
    return jsonschema_rs.Draft202012Validator({"type": "string", **conditions})


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
    """Return text with white space and case folded."""
    return " ".join(text.split()).casefold()


def _called(guard: object) -> str:
    return getattr(guard, "__name__", type(guard).__name__)
