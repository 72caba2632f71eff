"""Partial plans: a plan is read while a model writes it, so that its first steps may start early.

`PlanStreamParser` reads the text as it comes. `PartialPlanListener` hands each longer partial plan that passes its check to a handler. A
partial plan is the first steps of a plan, with its inputs and types as far as they are written, and without its output. If the model
rewrites some steps of a draft, the partial plan is the draft with the steps that have come, up to the first step that still has a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ...plans.format.shape import draft_of
from ...plans.paths import parts_of
from ...plans.plan import Plan
from ...plans.problems import CheckReport
from ...plans.values import Json, NotJson, parse
from ..request import PlanRequest, input_faults
from .draft import WRAPPERS, DraftChanges, plan_in

CHANGES = "changes"
LISTS = ("steps", CHANGES)
"""The key of the list of steps: in a plan, or in an answer with the changed steps."""

CHARACTERS_MAX = 500_000
"""A longer text is read only when it is complete."""

STEPS_MAX = 200
"""Steps of a partial plan: each partial plan is checked as a whole."""

EACH_STEP_UP_TO = 32
"""Up to this many steps each longer partial plan is checked; after one of n steps, the next has about n + n / 32."""

PartialPlanHandler: TypeAlias = Callable[[Plan], None]
"""Is called with a partial plan that has passed its check."""

_MARK = re.compile(r'\\.|["{}\[\],:]', re.DOTALL)


@dataclass(slots=True)
class PlanStreamParser:
    """The complete parts, so far, of an object with a list of steps.

    Text before the first brace is skipped, and so is an object around the plan. Steps in a JSON string are not seen before the string ends.
    Each character is looked at once: a partial JSON parser of a library (jiter, pydantic) starts again from the first character with every
    piece, and does not say whether the last step is complete.

    Attributes:
        head: The complete keys beside the list, with their values.
        steps: The complete steps.
        listed: The key of the list; empty until the list begins.
    """

    head: dict[str, Json] = field(default_factory=dict[str, Json])
    steps: list[Json] = field(default_factory=list[Json])
    listed: str = ""
    _text: str = ""  # from the start of the part that is not complete
    _at: int = 0
    _start: int = 0
    _total: int = 0
    _depth: int = 0
    _in_string: bool = False
    _in_list: bool = False
    _key: str | None = None
    _is_over: bool = False

    def take(self, words: str) -> bool:
        """Read more text; return whether it completes a step, or another part after the list has begun."""
        self._total += len(words)
        if self._is_over or self._total > CHARACTERS_MAX:
            self._is_over = True
            return False
        self._text += words
        before = len(self.steps), len(self.head)
        for found in _MARK.finditer(self._text, self._at):
            self._at = found.end()
            if self._look(found[0], found.start()):
                break
        else:  # a backslash at the very end waits for the character that it escapes
            self._at = len(self._text) - self._text.endswith("\\", self._at)
        self._forget()
        return bool(self.listed) and (len(self.steps), len(self.head)) != before

    def draft(self) -> dict[str, Json]:
        """Return what is complete as a draft of a plan, without its output, which may refer to later steps."""
        head = {key: part for key, part in self.head.items() if key != "output"}
        return {**head, "steps": list(self.steps)}

    def _forget(self) -> None:
        """Drop the text of complete parts."""
        kept = self._start if self._depth else self._at
        self._text, self._at, self._start = self._text[kept:], self._at - kept, 0

    @property
    def _level(self) -> int:
        """The depth of complete parts: 1 for the keys of the object, 2 for the steps of the list."""
        return 2 if self._in_list else 1

    def _look(self, mark: str, place: int) -> bool:
        """Look at one mark of JSON, or an escape; return whether it ends the reading."""
        if mark == '"':
            self._in_string = not self._in_string and self._depth > 0
        elif self._in_string:
            return False
        elif mark == "{" or (mark == "[" and self._depth > 0):
            self._open(mark, place)
        elif mark in "}]" and self._depth > 0:
            self._close(place)
        elif mark == "," and self._depth == self._level:
            self._end_part(place, place + 1)
        elif mark == ":" and self._depth == 1 and self._key is None:
            key = self._parsed(self._text[self._start : place])
            self._key = key if isinstance(key, str) else None
            self._is_over = self._key is None
            self._start = place + 1
        return self._is_over

    def _open(self, mark: str, place: int) -> None:
        self._depth += 1
        if self._depth == 1:
            self._start = place + 1
        elif self._depth == 2 and not self.listed and self._key in LISTS and mark == "[":
            self._in_list, self._start, self.listed = True, place + 1, self._key or ""
        elif self._depth == 2 and not self.listed and self._key in WRAPPERS and mark == "{":
            self._depth, self._start, self._key = 1, place + 1, None  # the plan is in this object

    def _close(self, place: int) -> None:
        if self._depth == self._level:
            self._end_part(place, place + 1)
            self._in_list = False
            self._key = None
        self._depth -= 1
        if self._in_list and self._depth == self._level:
            self._end_part(place + 1, place + 1)  # a step is complete with its brace, before a comma comes
        self._is_over = self._is_over or self._depth == 0

    def _end_part(self, end: int, start: int) -> None:
        """Add the part that ends before `end`; the next part begins at `start`."""
        text, self._start = self._text[self._start : end].strip(), start
        key, self._key = self._key, self._key if self._in_list else None
        if not text or key is None:
            return
        part = self._parsed(text)
        if self._is_over:
            return
        if self._in_list:
            self.steps.append(part)
            self._is_over = len(self.steps) >= STEPS_MAX
        else:
            self.head[key] = part

    def _parsed(self, text: str) -> Json:
        """Return the value of a part. Text that is not JSON ends the reading: the rest is read when it is complete."""
        try:
            return parse(text)
        except NotJson:
            self._is_over = True
            return None


class PartialPlanListener:
    """Listens to the drafts of one request.

    Args:
        request: What is to be planned.
        handler: Is called with each longer partial plan that passes its check.
        draft: The last draft, if the model may rewrite some of its steps.
    """

    def __init__(self, request: PlanRequest, handler: PartialPlanHandler, draft: Json = None) -> None:
        self._request = request
        self._handler = handler
        self._draft = draft
        self._parser = PlanStreamParser()
        self._last: Json = None
        self._checked = self._due = 0

    def begin(self) -> None:
        """A draft begins."""
        self._parser, self._checked, self._due = PlanStreamParser(), 0, 0

    def hear(self, words: str) -> None:
        """More of the draft has come."""
        if not self._parser.take(words):
            return
        draft = self._rewritten() if self._parser.listed == CHANGES else self._written()
        if draft is None or draft == self._last:
            return
        self._last = draft
        plan = draft_of(draft).plan
        inputs, complete = self._request.inputs, self._request.complete
        if plan is not None and not input_faults(plan, inputs, complete=complete):
            self._handler(plan)

    def _written(self) -> Json:
        """Return the partial plan of a new draft; `None`: it has a fault, or no check is due."""
        count = len(self._parser.steps)
        if count == 0 or self._checked < count < self._due:
            return None
        self._checked, self._due = count, count + 1 + count // EACH_STEP_UP_TO
        draft = plan_in(self._parser.draft(), self._request.task)
        return draft if self._request.check(draft).ok else None

    def _rewritten(self) -> Json:
        """Return the last draft with the changes so far, up to its first fault; `None`: not even its first step is free of faults."""
        if not isinstance(self._draft, dict):
            return None
        changes = DraftChanges.read({**self._parser.head, CHANGES: list(self._parser.steps)})
        if changes is None:
            return None
        whole = changes.applied_to(self._draft)
        draft: dict[str, Json] = {key: part for key, part in whole.items() if key != "output"}
        report = self._request.check(draft)
        if report.ok:
            return draft
        steps = cast("list[Json]", draft["steps"])[: _first_faulty(report)]
        draft = {**draft, "steps": steps}
        return draft if steps and self._request.check(draft).ok else None


def _first_faulty(report: CheckReport) -> int:
    """Return the index of the first step with a fault; 0 if a fault is outside steps."""
    return min((_step_of(each.path) for each in report.errors), default=0)


def _step_of(path: str) -> int:
    match parts_of(path):
        case ("steps", int(index), *_):
            return index
        case _:
            return 0
