"""The beginning of a plan that is still being written: its head and the steps that are complete, read as the text comes.

Text before the first brace is passed over, and so is an object around the plan. JSON in a text has no beginning, only an end: it is
read when it is whole. Each character is looked at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...plans.values import Json, NotJson, parse
from .draft import WRAPPERS

CHANGES = "changes"
LISTS = ("steps", CHANGES)
"""Where steps stand: in a plan, or in an answer of those that change."""

CHARACTERS_MAX = 500_000
"""A longer text is read when it is whole."""

STEPS_MAX = 200
"""Steps of a beginning: each beginning is checked anew."""


@dataclass(slots=True)
class Beginning:
    """What is complete so far of an object with a list of steps.

    Attributes:
        head: The keys beside the list whose values are complete.
        steps: The steps that are complete.
        listed: The key of the list; empty while it has not come.
    """

    head: dict[str, Json] = field(default_factory=dict[str, Json])
    steps: list[Json] = field(default_factory=list[Json])
    listed: str = ""
    _text: str = ""
    _total: int = 0
    _at: int = 0
    _depth: int = 0
    _in_string: bool = False
    _escaped: bool = False
    _start: int = -1
    _key: str | None = None
    _in_steps: bool = False
    _is_over: bool = False

    def take(self, words: str) -> bool:
        """Take more of the text in; return whether a step became complete, or another part once the list has come."""
        self._total += len(words)
        if self._is_over or self._total > CHARACTERS_MAX:
            self._is_over = True
            return False
        self._text += words
        before = len(self.steps), len(self.head)
        while self._at < len(self._text) and not self._is_over:
            self._look(self._text[self._at])
            self._at += 1
        self._forget()
        return bool(self.listed) and (len(self.steps), len(self.head)) != before

    def draft(self) -> dict[str, Json]:
        """Return the beginning as a draft of a plan: without what it gives, which may not be known yet."""
        head = {key: part for key, part in self.head.items() if key != "output"}
        return {**head, "steps": list(self.steps)}

    def _forget(self) -> None:
        """Let go of the text that has been read."""
        kept = self._start if self._start >= 0 else self._at
        self._text = self._text[kept:]
        self._at -= kept
        self._start = min(self._start, 0)

    @property
    def _level(self) -> int:
        """The depth at which parts are complete: of the object, or of its steps."""
        return 2 if self._in_steps else 1

    def _look(self, mark: str) -> None:
        """Look at one character."""
        if self._in_string:
            self._in_text(mark)
        elif mark == '"':
            self._open(text=True)
        elif mark in "{[":
            self._open(text=False)
            self._depth += 1
            if self._depth == 2:  # inside the object
                self._enter(mark)
        elif mark in "}]":
            self._close(mark)
        elif mark == "," and self._depth == self._level:
            self._end_of_part()
        elif mark == ":" and self._depth == 1 and self._key is None:
            self._key = self._taken(self._text[self._start : self._at])
            self._start = -1
        elif self._depth == self._level and self._start < 0 and not mark.isspace():
            self._start = self._at

    def _enter(self, mark: str) -> None:
        """Begin with the list of steps, or with the plan in an object around it."""
        if self._key in LISTS and mark == "[" and not self.listed:
            self._in_steps, self._start, self.listed = True, -1, self._key or ""
        elif self._key in WRAPPERS and mark == "{" and not self.listed:
            self._depth, self._start, self._key = 1, -1, None

    def _in_text(self, mark: str) -> None:
        if self._escaped:
            self._escaped = False
        elif mark == "\\":
            self._escaped = True
        elif mark == '"':
            self._in_string = False

    def _open(self, *, text: bool) -> None:
        if self._depth == 0 and text:
            return  # words before the object
        self._in_string = text
        if self._depth == self._level and self._start < 0:
            self._start = self._at

    def _close(self, mark: str) -> None:
        if self._depth == 0:
            return
        if self._depth == self._level:
            self._end_of_part()
            if self._in_steps and mark == "]":
                self._in_steps, self._key = False, None
        self._depth -= 1
        self._is_over = self._is_over or self._depth == 0
        if self._in_steps and self._depth == self._level:
            self._at += 1
            self._end_of_part()  # a step is complete with its brace, before the comma comes
            self._at -= 1

    def _end_of_part(self) -> None:
        """Take in a value of the object, or a step, that ends here."""
        text, self._start = self._text[self._start : self._at] if self._start >= 0 else "", -1
        if self._in_steps:
            if text.strip():
                self._add_step(text)
            return
        if self._key is not None and text.strip():
            try:
                self.head[self._key] = parse(text)
            except NotJson:
                self._is_over = True
        self._key = None

    def _add_step(self, text: str) -> None:
        try:
            self.steps.append(parse(text))
        except NotJson:
            self._is_over = True
        self._is_over = self._is_over or len(self.steps) >= STEPS_MAX

    def _taken(self, text: str) -> str | None:
        """Return a key; what is none ends the reading."""
        try:
            key = parse(text)
        except NotJson:
            key = None
        if not isinstance(key, str):
            self._is_over = True
            return None
        return key
