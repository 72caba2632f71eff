"""Prompts made of parts: worked examples, and templates whose values are marked as data.

A template's `${name}` is filled with the value between marks (`marks.py`), so that a model can tell the author's words from what flows
through. `$${` is `${`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import ConfigError
from ...lazy_imports import late_pattern
from ...plans.checker.ask import read_example
from ...plans.format.property_order import text_in_order
from ...plans.immutable import immutable
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json
from .completion import Message
from .marks import Data, as_text, mark

_HOLE = late_pattern(r"\$\$\{|\$\{([^{}]*)\}")
_BRACED = late_pattern(r"(?<!\{)\{([A-Za-z_][A-Za-z0-9_.]*)\}(?!\})")
"""What authors write who think of an f-string."""


@immutable
class Example:
    """A worked example: a question, and the wanted answer."""

    asked: Json
    answer: Json

    @classmethod
    def read(cls, where: str, source: object) -> Example:
        """Read `{"input": .., "output": ..}` or a pair. Raises: ConfigError."""
        if (found := read_example(source)) is not None:
            return cls(found[0], found[1])
        raise ConfigError(f'{where}: expected {{"input": .., "output": ..}}, found {source!r}')


def example_messages(examples: Sequence[Example]) -> tuple[Message, ...]:
    """Return examples as turns of a conversation that has already gone well."""
    turns = (
        (Message("user", as_text(each.asked)), Message("assistant", _in_order(each.answer)))
        for each in examples
    )
    return tuple(message for turn in turns for message in turn)


def _in_order(answer: Json) -> str:
    """Return an example's answer with its fields in the order of the schema."""
    return answer if isinstance(answer, str) else text_in_order(answer)


def field_of(values: Mapping[str, Json], path: str) -> Json:
    """Return the value at a path such as `ticket.sender`; null where a part of it is absent."""
    found: Json = dict(values)
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


@immutable
class PromptTemplate:
    """A prompt with holes.

    Attributes:
        text: The author's words.
        names: The parameters that its holes name, in order of first use.
        paths: What each hole stands for, in order of first use: a parameter, or a field of one (`ticket.sender`).
    """

    text: str
    names: tuple[str, ...]
    paths: tuple[str, ...]

    @classmethod
    def read(cls, where: str, text: str, known: Sequence[str]) -> PromptTemplate:
        """Read a template.

        Args:
            where: The name of the agent, for messages.
            text: The prompt.
            known: The names that its holes may have.

        Raises:
            ConfigError: A hole is not closed, names no parameter, or is written as `{name}`.
        """
        paths = tuple(dict.fromkeys(hole[1].strip() for hole in _HOLE.finditer(text) if hole[1] is not None))
        names = tuple(dict.fromkeys(path.partition(".")[0].strip() for path in paths))
        if "${" in _HOLE.sub("", text):
            raise ConfigError(
                f"{where}: the prompt has a `${{` without its `}}`; close it, or write `$${{` for the text"
            )
        for braced in _BRACED.finditer(_HOLE.sub("", text)):
            if braced[1].partition(".")[0] in known:
                raise ConfigError(
                    f"{where}: the prompt has '{{{braced[1]}}}', which is plain text; write '${{{braced[1]}}}' for the argument"
                )
        for path in paths:
            if "." in path and not all(part.isidentifier() for part in path.split(".")):
                raise ConfigError(
                    f"{where}: the prompt has '${{{path}}}'; expected a parameter, or a field of one such as "
                    "'${ticket.sender}'"
                )
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known, f"parameters are {listing(known)}")
                raise ConfigError(
                    f"{where}: the prompt refers to '${{{name}}}', which is no parameter; {hint}"
                )
        return cls(text, names, paths)

    def fill(self, values: Mapping[str, Json]) -> str:
        """Return the prompt with each hole filled, the values between marks."""
        parts: list[str | Data] = []
        position = 0
        for hole in _HOLE.finditer(self.text):
            parts.append(self.text[position : hole.start()])
            path = None if hole[1] is None else hole[1].strip()
            # Every value has its tags, numbers too: a parameter that the text does not introduce is known by its tag alone.
            parts.append("${" if path is None else Data.of(path.rpartition(".")[2], field_of(values, path)))
            position = hole.end()
        return mark([*parts, self.text[position:]])

    def fill_plainly(self, texts: Mapping[str, str]) -> str:
        """Return the prompt with each hole replaced by text as it is, by path: for people, not for models."""
        return _HOLE.sub(lambda hole: "${" if hole[1] is None else texts[hole[1].strip()], self.text)
