"""The inputs of a plan that is being learnt: values that the words of the task name.

A value becomes an input where it stands in the task as a word of its own; with several traces, in the task of each, and not with one and the same value in
all of them, because what never changes is a constant. Until the plan is complete an input has a name of the form `in__0`; `final_names` gives it
the name of the argument that it was first used for. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from ...plans.checker.names import derived_id, numbered
from ...plans.values import Json, canonical
from ..library.learning import task_word
from ..library.pattern import as_words
from .places import glue
from .secrecy import is_secret

TEXT_CHARACTERS_MIN: Final = 2
"""A shorter text stands in a task by chance."""

_PLACEHOLDER: Final = re.compile(r"\binputs\.(in__\d+)\b")
_NUMBER: Final = re.compile(r"(?<![\w.,])-?\d+(?:\.\d+)?(?![\w]|[.,]\d)")
_NAME_OF_ITS_OWN: Final = re.compile(r"[^\W\d_]*[A-Z0-9@][\w.@-]*(?: [A-Z0-9][\w.@-]*)*")


@dataclass(slots=True)
class LearntInput:
    """An input.

    Attributes:
        values: Its value in each trace.
        hint: The name of the argument or the field that it was first found for.
        schema: Its type.
        is_exact: Whether the words spell it as the call does, in every trace.
        is_secret: Whether the plan may not have its value.
    """

    values: tuple[Json, ...]
    hint: str
    schema: dict[str, Json]
    is_exact: bool
    is_secret: bool = False


@dataclass(slots=True)
class Inputs:
    """The inputs of a plan that is being learnt.

    Attributes:
        tasks: The words of each trace, with single spaces.
        scopes: The values of all inputs in each trace, by placeholder: the `inputs` of expressions.
    """

    tasks: Sequence[str]
    scopes: list[dict[str, Json]] = field(init=False)
    _known: dict[bytes, str] = field(default_factory=dict[bytes, str], init=False)
    _made: dict[str, LearntInput] = field(default_factory=dict[str, LearntInput], init=False)

    def __post_init__(self) -> None:
        self.tasks = [" ".join(task.split()) for task in self.tasks]
        self.scopes = [{} for _ in self.tasks]

    def code_of(self, values: Sequence[Json], hint: str, schema: Mapping[str, Json]) -> str | None:
        """Return the expression of the input with some values, one a trace; `None`: the words do not name them.

        Args:
            values: The values.
            hint: The name of the argument or the field that has them.
            schema: The type of the argument.
        """
        spelled = [_spelled(task, value) for task, value in zip(self.tasks, values, strict=True)]
        if not all(spelled):
            return None
        is_exact = all(each == "exact" for each in spelled)
        return self._code(
            LearntInput(tuple(values), hint, type_of(values[0], schema), is_exact, is_secret(hint, values[0]))
        )

    def secret(self, values: Sequence[Json], name: str) -> str:
        """Return the expression of an input for a secret; it gets no default.

        Args:
            values: The secret of each trace.
            name: What it is called.
        """
        return self._code(
            LearntInput(tuple(values), name.lower(), {"type": "string"}, is_exact=False, is_secret=True)
        )

    def _code(self, made: LearntInput) -> str:
        """Return the expression of the input with these values; the first input that has them stays."""
        key = canonical(list(made.values))
        if (known := self._known.get(key)) is None:
            known = self._known[key] = f"in__{len(self._made)}"
            self._made[known] = made
            for scope, value in zip(self.scopes, made.values, strict=True):
                scope[known] = value
        return f"inputs.{known}"

    def hidden(self) -> list[str]:
        """Return the values of the inputs that are secrets."""
        return [str(value) for each in self._made.values() if each.is_secret for value in each.values]

    def numbers(self) -> Iterator[int | float]:
        """Yield the numbers in the words of the first task."""
        for found in _NUMBER.findall(self.tasks[0]):
            yield float(found) if "." in found else int(found)

    def names_in(self, text: str) -> list[str]:
        """Return the parts of a text that the first task names and that look like names or numbers: capitals, digits, addresses."""
        names = _NAME_OF_ITS_OWN.findall(text)
        # Of `Anna Walsh` the task may name only `Anna`.
        tried = {part for name in names for part in (name, *name.split())}
        parts = {part for part in tried if _spelled(self.tasks[0], part) == "exact"}
        return sorted(parts, key=lambda each: (-len(each), each))

    def known(self) -> Iterator[tuple[str, tuple[Json, ...]]]:
        """Yield the expression and the values of each input so far."""
        for name, each in self._made.items():
            yield f"inputs.{name}", each.values

    def renamed(self, part: Json, names: Mapping[str, str]) -> Json:
        """Return a part of a plan with the final names of inputs."""
        match part:
            case str():
                return _PLACEHOLDER.sub(lambda found: f"inputs.{names.get(found[1], found[1])}", part)
            case list():
                return [self.renamed(each, names) for each in part]
            case dict():
                # An inner plan has inputs of its own, by the same names.
                return {names.get(key, key): self.renamed(each, names) for key, each in part.items()}
            case _:
                return part

    def final_names(self, parts: Iterable[Json], taken: Iterable[str]) -> dict[str, str]:
        """Return placeholder -> name of the inputs that parts of a plan use, in the order of their use.

        Args:
            parts: The steps and the output.
            taken: Names that no input may have.
        """
        used = list(dict.fromkeys(name for part in parts for name in _PLACEHOLDER.findall(json.dumps(part))))
        names: dict[str, str] = {}
        for placeholder in used:
            base = derived_id(self._made[placeholder].hint or "value").removeprefix("step_") or "value"
            names[placeholder] = numbered(base, (*names.values(), *taken))
        return names

    def get(self, placeholder: str) -> LearntInput:
        """Return an input by its placeholder."""
        return self._made[placeholder]

    def declared(self, names: Mapping[str, str], hidden: Sequence[str]) -> dict[str, Json]:
        """Return the `inputs` of the plan: the types, with the values of the first trace as defaults, unless they are secrets.

        Args:
            names: Placeholder -> name.
            hidden: Texts that the plan may not have.
        """
        made: dict[str, Json] = {}
        for placeholder, name in names.items():
            each = self._made[placeholder]
            default: dict[str, Json] = (
                {}
                if each.is_secret or any(text in str(each.values[0]) for text in hidden)
                else {"default": each.values[0]}
            )
            made[name] = {**each.schema, **default}
        return made

    def pattern(self, names: Mapping[str, str]) -> str:
        """Return the words of the first task with its inputs as holes, such as `{city}`.

        Args:
            names: Placeholder -> name.
        """
        return "".join(f"{{{name}}}" if name else text for text, name in self._pieces(names))

    def template(self, names: Mapping[str, str]) -> str:
        """Return the words of the first task as a template: its inputs are references, and the rest is text whatever it holds.

        Args:
            names: Placeholder -> name.
        """
        return "".join(f"${{inputs.{name}}}" if name else glue(text) for text, name in self._pieces(names))

    def _pieces(self, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Yield the parts of the first task in order: a text and no name, or the name of an input."""
        task = self.tasks[0]
        spelled = sorted(
            (
                (text, name)
                for key, name in names.items()
                if self._made[key].is_exact and (text := as_words(self._made[key].values[0])) is not None
            ),
            key=lambda each: (-len(each[0]), each),
        )
        holes = dict(reversed(spelled))
        last = 0
        # All at once, so that a hole is not looked at again: its name may be the value of another input.
        for found in (
            re.finditer("|".join(task_word(text).pattern for text, _ in spelled), task) if holes else ()
        ):
            yield task[last : found.start()], ""
            yield found[0], holes[found[0]]
            last = found.end()
        yield task[last:], ""


def _spelled(task: str, value: Json) -> str:
    """Return how a task spells a value: `exact`, `other` (capitals differ), or not at all."""
    text = as_words(value)
    if (
        text is None
        or text != " ".join(text.split())
        or (isinstance(value, str) and len(text) < TEXT_CHARACTERS_MIN)
    ):
        return ""
    if task_word(text).search(task):
        return "exact"
    return "other" if isinstance(value, str) and task_word(text.casefold()).search(task.casefold()) else ""


def type_of(value: Json, schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return the type of an input or an answer: that of the parameter where it is simple, else that of the value."""
    kept = {key: schema[key] for key in _TYPE_KEYS if key in schema}
    own = _OWN_TYPES.get(type(value), "string")
    # A definition that the schema names is not in the plan.
    if (
        isinstance(value, str)
        and isinstance(kept.get("enum"), list)
        and value in cast("list[Json]", kept["enum"])
    ):
        return {"enum": kept["enum"]}
    fits = kept.get("type") == own or (kept.get("type") == "number" and own == "integer")
    return kept if fits and '"$ref"' not in canonical(kept).decode() else {"type": own}


_TYPE_KEYS: Final = ("type", "enum", "format", "minimum", "maximum", "items", "properties", "required")
_OWN_TYPES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
