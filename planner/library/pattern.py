"""Task patterns: `Compare the weather in {a} and {b}` answers `compare the weather in Rome and Oslo`.

A pattern is the `task` of a saved plan. Its holes are names of the plan's inputs; other braces are text. Case, white space, quotes around
a value, and a full stop or question mark at the end do not matter. A hole takes as few words as possible, and only words that can be read
as a value of its input's schema. A hole for text whose input has a default takes at most as many words as the default, and only where the
task can be read in one way; otherwise the pattern matches in doubt (`PatternMatch.doubt`).

A value is read strictly as to its type and leniently as to its spelling: `300` and `3,000` are integers, `three hundred` is not. Whether
a value fits the complete schema is decided later, by the check of a plan's inputs.

Time is bounded by the number of holes and by the square of the task's length, which is bounded itself.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import field
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from ...lazy_imports import late_pattern
from ...plans.immutable import immutable, immutable_with_cache
from ...plans.inputs import HOLE
from ...plans.plan import Plan
from ...plans.values import INTEGER_MAX, Json, NotJson, parse
from .retrieval import words_in

TASK_CHARACTERS_MAX = 2_000
"""A longer task matches no pattern: nobody phrases a task that long twice, and time grows with the square of the length."""

READINGS_MAX = 8
"""Readings of the rest of a task that are searched for. Two are enough to see an ambiguity, but a hole that occurs twice rejects some."""

Values: TypeAlias = "list[tuple[str, Json]]"


@immutable
class PatternMatch:
    """A task that a pattern matches.

    Attributes:
        inputs: The values of the holes.
        doubt: Why the values may differ from the meaning of the task, so that only a model may decide; `None`: no doubt.
    """

    inputs: dict[str, Json]
    doubt: str | None = None


@immutable_with_cache
class TaskPattern:
    """The tasks that a saved plan answers.

    Attributes:
        text: The saved plan's task, in plain form (`plain_task`).
        literals: The text before, between and after the holes: one more than there are holes.
        holes: Names of inputs, in order.
        inputs: Their schemas.
        types: The plan's types.
    """

    text: str
    literals: tuple[str, ...]
    holes: tuple[str, ...]
    inputs: Mapping[str, Mapping[str, Json]] = field(repr=False)
    types: Mapping[str, Json] = field(repr=False)

    @classmethod
    def of(cls, plan: Plan) -> TaskPattern | None:
        """Return the pattern of a plan's task; `None` if it has no task, or one that is no pattern (`pattern_fault`)."""
        text = plain_task(plan.task or "")
        if not text or pattern_fault(plan) is not None:
            return None
        literals, holes = _split(text, plan.inputs)
        return cls(text, literals, holes, plan.inputs, plan.types)

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key that puts the more specific pattern first: by its words outside holes, then by its holes that take any words."""
        words = sum(len(words_in(literal)) for literal in self.literals)
        return (-words, sum(is_free(self.inputs[name], self.types) for name in self.holes))

    def match(self, task: str) -> dict[str, Json] | None:
        """Return the inputs in a task's words; `None` if the task does not match the pattern, or matches only in doubt.

        A task that is the pattern itself, with its holes, gives no inputs: the caller passes them separately.
        """
        match = self.find_match(task)
        return None if match is None or match.doubt is not None else match.inputs

    def find_match(self, task: str) -> PatternMatch | None:
        """Return the result of `match`, including a match in doubt."""
        text = plain_task(task)
        if text.casefold() == self.text.casefold():
            return PatternMatch({})
        if len(text) > TASK_CHARACTERS_MAX:
            return None
        # Literals are compared by regular expressions and not by casefolded text: casefolding may change the
        # length of a text, and with it every place.
        head = re.compile(re.escape(self.literals[0]), re.IGNORECASE).match(text)
        if head is None:
            return None
        if not self.holes:
            return PatternMatch({}) if head.end() == len(text) else None
        return self._filled(text, head.end())

    def _filled(self, text: str, head: int) -> PatternMatch | None:
        """Return the match of a task whose first hole begins at `head`."""
        # Defaults show how long a value usually is. A match within these lengths is preferred, if all such matches agree; any other match
        # of the pattern is in doubt, since the extra words may be a condition that the plan does not know ("Rome on Sundays only").
        if self._words_max:
            # Several readings are searched for, since one reading does not show that there is no other.
            found = self._fill(text, 0, head, {}, READINGS_MAX, self._words_max)
            if found:
                same = all(dict(other) == dict(found[0]) for other in found)
                return PatternMatch(
                    dict(found[0]), None if same else "its words can be read in more than one way"
                )
        # Any reading at all is enough here: it only becomes a question to a model.
        found = self._fill(text, 0, head, {}, 1)
        if not found:
            return None
        values = dict(found[0])
        return PatternMatch(values, self._excess(values))

    def _excess(self, values: Mapping[str, Json]) -> str | None:
        """Return which hole takes more words than its input's default has, as a sentence; `None`: none does."""
        for name, most in self._words_max.items():
            words = len(words_in(str(values[name])))
            if words > most:
                return f"the input '{name}' would take {words} words, but its default has {most}"
        return None

    @cached_property
    def _words_max(self) -> dict[str, int]:
        """Most words of each hole that takes any words and whose input has a text as its default."""
        bounded: dict[str, int] = {}
        for name in self.holes:
            default = self.inputs[name].get("default")
            if isinstance(default, str) and not is_choice(self.inputs[name], self.types):
                bounded[name] = max(1, len(words_in(default)))
        return bounded

    def _fill(
        self,
        text: str,
        index: int,
        start: int,
        known: dict[tuple[int, int], list[Values]],
        most: int,
        bounds: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Values]:
        """Return up to `most` lists of values for the holes from `index` on, the first of which begins at `start`.

        A backtracking search. `known` makes it polynomial: the values of the holes from `index` on depend on `index` and `start` only.

        Args:
            text: The task.
            index: The index of the first hole to fill.
            start: The position at which this hole begins.
            known: Earlier results, by `index` and `start`.
            most: Most lists to search for.
            bounds: Most words of a hole, by its name.
        """
        if (index, start) in known:
            return known[index, start]
        name = self.holes[index]
        is_last = index + 1 == len(self.holes)
        found: list[Values] = []
        # A hole takes at least one character, and as few words as possible: `{a} and {b}` splits at the first
        # `and`.
        for end, after in _ends(self.literals[index + 1], text, start + 1, is_last=is_last):
            if name in bounds and len(words_in(text[start:end])) > bounds[name]:
                break  # ends come in rising order, so every later end takes more words
            value = self._read(index, text[start:end])
            if isinstance(value, NoValue):
                continue
            rests: list[Values] = [[]] if is_last else self._fill(text, index + 1, after, known, most, bounds)
            found += [
                [(name, value), *rest]
                for rest in rests
                if all(other == value for each, other in rest if each == name)  # a hole may occur twice
            ]
            # The caller needs no more, and without this bound the number of readings grows exponentially.
            if len(found) >= most:
                break
        known[index, start] = found[:most]
        return known[index, start]

    def _read(self, index: int, words: str) -> Json | NoValue:
        try:
            return read_words(words, self.inputs[self.holes[index]], self.types)
        except NoValue as error:
            return error


def as_words(value: object) -> str | None:
    """Return a value as words spell it: `8` for 8, 8.0 and "8", which words do not distinguish; `None`: neither text nor number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def pattern_fault(plan: Plan) -> str | None:
    """Return why a plan's task cannot serve as a pattern, and what to do; `None`: it can, or it has no hole.

    A pattern that begins with a hole and has no word outside holes would match every task. If two inputs have the same default and only one
    of them has a hole, the template has lost the other hole when it was learnt: the default would stand for every value.
    """
    literals, holes = _split(plain_task(plan.task or ""), plan.inputs)
    if not holes:
        return None
    if not literals[0].strip() and not any(map(words_in, literals)):
        return "its pattern has only holes and would answer every task; expected words beside the holes"
    # Two holes side by side could split the words anywhere.
    if "" in literals[1:-1]:
        return "nothing tells two of its holes apart; expected words between them"
    defaults = {name: plan.inputs[name].get("default") for name in plan.inputs}
    for name, default in defaults.items():
        rivals = [hole for hole in holes if as_words(defaults[hole]) == as_words(default)]
        if name not in holes and rivals and as_words(default) is not None:
            return (
                f"its inputs '{rivals[0]}' and '{name}' have the same default {default!r}, but only '{rivals[0]}' has a hole; "
                f"expected a hole for '{name}' too, or another default"
            )
    return None


def own_words(plan: Plan) -> str:
    """Return a plan's task without its holes."""
    return " ".join(_split(plain_task(plan.task or ""), plan.inputs)[0])


def _split(text: str, inputs: Container[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the text before, between and after the holes of a task, and the names of the holes."""
    literals, holes, position = [""], list[str](), 0
    for hole in HOLE.finditer(text):
        is_hole = hole[1] in inputs
        literals[-1] += text[position : hole.start() if is_hole else hole.end()]
        position = hole.end()
        if is_hole:
            holes.append(hole[1])
            literals.append("")
    literals[-1] += text[position:]
    return tuple(literals), tuple(holes)


def plain_task(text: str) -> str:
    """Return a task in the form that is compared: single spaces, no full stop or question mark at the end."""
    return " ".join(text.split()).rstrip(".!? ")


def _ends(literal: str, text: str, start: int, *, is_last: bool) -> list[tuple[int, int]]:
    """Return where a hole may end, the nearest first: pairs of its end and the end of the literal after it."""
    # The last literal has to stand at the end of the task; all others may stand at several places.
    if is_last:
        found = re.compile(re.escape(literal) + r"\Z", re.IGNORECASE).search(text, start)
        return [] if found is None else [found.span()]
    pattern = re.compile(
        f"(?={re.escape(literal)})", re.IGNORECASE
    )  # looks ahead, so that places may overlap
    return [(found.start(), found.start() + len(literal)) for found in pattern.finditer(text, start)]


_INTEGER = late_pattern(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,19})")
_NUMBER = late_pattern(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?|[+-]?\.\d+")
_BETWEEN = late_pattern(r"\s*[,;]\s*(?:(?:and|or)\s+)?|\s+(?:and|or|&)\s+", re.IGNORECASE)
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")
_QUOTES = ('""', "''", "``", "“”", "‘’", "«»")  # noqa: RUF001  # the quotes that people type
_REFERENCES_MAX = 16


class NoValue(ValueError):  # noqa: N818  # an answer, not a failure
    """The words are no value of the schema."""


def read_words(text: str, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    """Return the value of a schema that words say.

    Args:
        text: The words.
        schema: JSON Schema of the input.
        types: The plan's `types`, to which `$ref` may point.

    Raises:
        NoValue: The words say no value of the schema's type.
    """
    words = unquoted(text.strip())
    if not words:
        raise NoValue
    schema = _followed(schema, types)
    match schema:
        case {"const": wanted}:
            return _chosen(words, [wanted])
        case {"enum": list(options)}:
            return _chosen(words, options)
        # `oneOf` is read like `anyOf`: whether two branches fit is decided by the check of the inputs.
        case {"anyOf": list(branches)} | {"oneOf": list(branches)}:
            return _first(words, branches, types)
        case {"type": list(kinds)}:
            return _first(words, [{**schema, "type": kind} for kind in kinds], types)
        case _:
            return _of_kind(words, schema, types)


def unquoted(text: str) -> str:
    """Return text without a pair of quotes around all of it."""
    for pair in _QUOTES:
        if len(text) >= 2 and text[0] + text[-1] == pair and pair[0] not in text[1:-1]:
            return text[1:-1].strip()
    return text


def is_free(schema: Mapping[str, Json], types: Mapping[str, Json]) -> bool:
    """Whether any words are a value: such a hole says less about a task than an integer's hole."""
    schema = _followed(schema, types)
    return (
        schema.get("type", "string") == "string" and not {"enum", "const", "anyOf", "oneOf"} & schema.keys()
    )


def is_choice(schema: Mapping[str, Json], types: Mapping[str, Json]) -> bool:
    """Whether only listed values are values."""
    return not {"enum", "const"}.isdisjoint(_followed(schema, types))


def _of_kind(words: str, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    match schema.get("type", "string"):
        case "string":
            return words
        case "integer" if _INTEGER.fullmatch(words):
            return _integer(words)
        case "number" if _NUMBER.fullmatch(words):
            return _integer(words) if _INTEGER.fullmatch(words) else float(words.replace(",", ""))
        case "boolean" if words.lower() in (*_TRUE, *_FALSE):
            return words.lower() in _TRUE
        case "array":
            return _items(words, schema, types)
        case "object" if words.startswith("{"):
            return _json(words)
        case _:
            raise NoValue


def _integer(words: str) -> int:
    number = int(words.replace(",", ""))
    if abs(number) > INTEGER_MAX:
        raise NoValue
    return number


def _items(words: str, schema: Mapping[str, Json], types: Mapping[str, Json]) -> Json:
    if words.startswith("["):
        return _json(words)
    items = schema.get("items")
    item: Mapping[str, Json] = items if isinstance(items, dict) else {"type": "string"}
    # Commas of an inner list cannot be told from those of the outer list.
    if _followed(item, types).get("type", "string") in ("array", "object"):
        raise NoValue
    return [read_words(part, item, types) for part in _BETWEEN.split(words)]


def _json(words: str) -> Json:
    try:
        return parse(words)
    except NotJson as error:
        raise NoValue from error


def _chosen(words: str, options: list[Json]) -> Json:
    """Return the option that the words name; case does not matter."""
    for option in options:
        if str(option).casefold() == words.casefold():
            return option
    raise NoValue


def _first(words: str, branches: list[Json], types: Mapping[str, Json]) -> Json:
    """Return the value by the first branch that has one; text comes last, since any words are text."""
    schemas = [branch for branch in branches if isinstance(branch, dict)]
    for schema in sorted(schemas, key=lambda each: is_free(each, types)):
        try:
            return read_words(words, schema, types)
        except NoValue:
            continue
    raise NoValue


def _followed(schema: Mapping[str, Json], types: Mapping[str, Json]) -> Mapping[str, Json]:
    for _ in range(_REFERENCES_MAX):
        match schema.get("$ref"):
            case str(ref) if isinstance(target := types.get(ref.removeprefix("#/types/")), dict):
                schema = target
            case _:
                break
    return schema
