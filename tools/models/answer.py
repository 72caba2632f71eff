"""Structured answers: the form in which a model is asked for a value, and how its text is read back.

- A plain string (`{"type": "string"}`) is asked for as text: no tool call, no JSON, nothing that can be malformed.
- An object is asked for by its own schema.
- Anything else is asked for inside an object with the one property `answer`; the bare value is accepted too.

Reading is generous about wrapping and strict about the value. JSON may stand in a markdown fence, in prose, or in a JSON string. The
last JSON wins, since an earlier one may be quoted from the question. Then the value must fit the complete schema. The module knows no endpoint and no client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import cast

from ...lazy_imports import late_pattern
from ...plans.format.property_order import arranged, text_in_order
from ...plans.immutable import immutable_with_cache
from ...plans.values import Json, NotJson, parse
from ..failures import writable
from ..types.schemas import Checker

WRAPPER = "answer"
_ANNOTATIONS = frozenset({"type", "title", "description", "examples", "default"})
_FENCE = late_pattern(r"```[a-zA-Z]*[^\S\n]*\n(.*?)```", re.DOTALL)
TEXT_CHARACTERS_MAX = 2_000_000
"""A longer answer is not read: no model has as much to say, and the event loop stands still while it is read."""

_BROKEN_CHARACTERS = 40
"""Text that decodes for longer before it breaks is JSON with an error; a complete value inside it is not the answer."""

_SPANS_MAX = 64
"""Openings of JSON that are tried in prose. Trying is quadratic, and prose with more openings holds no answer."""


class InvalidAnswer(ValueError):  # noqa: N818  # reads as what it says
    """The model's text is no value of the wanted form; the message says why, in words for the model."""


class NoJson(InvalidAnswer):
    """The text holds no JSON."""


@immutable_with_cache
class AnswerForm:
    """A value that is wanted from a model.

    Attributes:
        schema: Self-contained JSON Schema of the value.
        name: What the value is called on the wire: `[a-zA-Z0-9_-]{1,64}`.
        purpose: One sentence for the model.
        shown_schema: JSON Schema that the model is shown in place of `schema`, if it asks for more than the answer must meet.
    """

    schema: Mapping[str, Json]
    name: str = "answer"
    purpose: str = "The answer, with all required fields."
    shown_schema: Mapping[str, Json] | None = None

    @cached_property
    def is_text(self) -> bool:
        """Whether any text will do."""
        return self.schema.get("type") == "string" and self.schema.keys() <= _ANNOTATIONS

    @cached_property
    def wire_schema(self) -> dict[str, Json]:
        """The JSON Schema that is sent: always of an object."""
        if self.shown_schema is not None:
            return dict(self.shown_schema)
        schema = self._resolved()
        if schema.get("type") == "object":
            return schema
        definitions = {key: value for key, value in self.schema.items() if key in ("$defs", "definitions")}
        inner = {key: value for key, value in self.schema.items() if key not in definitions}
        return {
            "type": "object",
            "properties": {WRAPPER: inner},
            "required": [WRAPPER],
            "additionalProperties": False,
            **definitions,
        }

    @property
    def is_wrapped(self) -> bool:
        """Whether the value is asked for inside an object."""
        return self._resolved().get("type") != "object"

    def written(self, value: Json) -> str:
        """Return a value as a model writes it that does what it is asked for; `read` reads it back."""
        if self.is_text and isinstance(value, str):
            return value
        arranged_value = arranged(value, self.schema)
        return text_in_order({WRAPPER: arranged_value} if self.is_wrapped else arranged_value)

    def read(self, text: str) -> Json:
        """Return the value in the model's text.

        Raises:
            InvalidAnswer: The text holds no JSON, or JSON of another shape.
        """
        # The bound comes first, since each of the tests below reads the complete text.
        if len(text) > TEXT_CHARACTERS_MAX:
            raise InvalidAnswer(
                f"the answer has {len(text)} characters; at most {TEXT_CHARACTERS_MAX} are read"
            )
        if writable(text) is not text:
            raise InvalidAnswer(
                "the answer has half a character in it (a lone surrogate); write all characters whole"
            )
        if not text.strip():
            raise NoJson("the answer is empty")
        # A plain text needs no JSON, so that the most common answer cannot be malformed.
        if self.is_text:
            return text.strip()
        # Several readings are tried, and the schema decides. A model told to wrap its value in an object may
        # answer with the bare value, and one told to write JSON may put the JSON into a string.
        faults: list[str] = []
        for value in self._readings(text):
            value = self._checker.with_integers(value)  # noqa: PLW2901  # the same value, in the schema's kinds
            if self._checker.accepts(value):
                return value
            # The faults of the likeliest reading are reported: those of a less likely one would mislead the
            # model.
            faults = faults or self._checker.faults(value)
        raise InvalidAnswer("the JSON does not fit its schema: " + "; ".join(faults))

    def _readings(self, text: str) -> Iterator[Json]:
        """Yield the values that the text may stand for, the likeliest first."""
        try:
            value = find_json(text)
        except NoJson:
            if not self._checker.accepts(text.strip()):
                raise
            value = text.strip()  # an option of an enum without its quotes
        # Exactly this one key: an object that happens to have a key `answer` beside others is the value itself.
        if self.is_wrapped and isinstance(value, dict) and list(value) == [WRAPPER]:
            yield value[WRAPPER]
        yield value
        if isinstance(value, str):
            try:
                yield find_json(value)
            except InvalidAnswer:
                return

    @cached_property
    def _checker(self) -> Checker:
        return Checker(self.schema)

    def _resolved(self) -> dict[str, Json]:
        """Return the schema with a reference at its top followed, so that its type can be seen."""
        schema = dict(self.schema)
        match schema.get("$ref"):
            case str(ref) if ref.startswith("#/$defs/"):
                definitions = cast("dict[str, Json]", schema.get("$defs") or {})
                target = definitions.get(ref.removeprefix("#/$defs/"))
                return {**target, "$defs": definitions} if isinstance(target, dict) else schema
            case _:
                return schema


def find_json(text: str) -> Json:
    """Return the JSON value in a model's text: the whole text, or the content of the last fence or the last brackets.

    Raises:
        NoJson: There is none.
    """
    fault: NotJson | None = None
    # The last fence first: models quote the question before they answer, and correct themselves afterwards.
    for candidate in [text.strip(), *reversed(_FENCE.findall(text)), *_last_span(text)]:
        try:
            return parse(candidate)
        except NotJson as error:
            fault = fault or error
    raise NoJson(f"the answer is no JSON: {fault}")


def _last_span(text: str) -> list[str]:
    """Return the last complete JSON object or array in prose, if there is one."""
    decoder = json.JSONDecoder()
    found: list[str] = []
    position, tried = 0, 0
    while tried < _SPANS_MAX and (opening := _next_opening(text, position)) is not None:
        tried += 1
        try:
            _, end = decoder.raw_decode(text, opening)
        except json.JSONDecodeError as error:
            # An inner value of broken JSON is never the answer, so that the search goes on behind the break.
            is_broken = error.pos - opening > _BROKEN_CHARACTERS
            position = error.pos if is_broken else opening + 1
        except RecursionError:
            position = opening + 1
        else:
            # Decoding goes from opening to opening, so that an inner object is not taken for the answer.
            found = [text[opening:end]]
            position = end
    return found


def _next_opening(text: str, position: int) -> int | None:
    places = [place for place in (text.find("{", position), text.find("[", position)) if place >= 0]
    return min(places, default=None)
