"""Partial plans: a plan is read while a model writes it, so that its first steps may start early.

`PlanStreamParser` reads the text as it comes. `PartialPlanListener` hands each longer partial plan that passes its check to a handler. A
partial plan is the first steps of a plan, with its inputs and types as far as they are written, and without its output. If the model
rewrites some steps of a draft, the partial plan is the draft with the steps that have come, up to the first step that still has a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from ...plans.format.shape import draft_of
from ...plans.plan import Plan
from ...plans.reports.paths import parts_of
from ...plans.reports.problems import CheckReport
from ...plans.values import Json, NotJson, parse
from ..request import PlanRequest, input_faults
from .draft import WRAPPERS, DraftChanges, plan_in

CHANGES = "changes"
OF_OUTPUT = ("output", "returns")
"""The parts of a plan that are not looked at before all steps are there."""
LISTS = ("steps", CHANGES)
"""The key of the list of steps: in a plan, or in an answer with the changed steps."""

CHARACTERS_MAX = 500_000
"""A longer text is read only when it is complete."""

PART_CHARACTERS_MAX = 32_000
"""Characters of a step, or of a value beside the steps: a part is decoded again with each piece of its text."""

STEPS_MAX = 200
"""Steps of a partial plan: each partial plan is checked completely."""

EACH_STEP_UP_TO = 32
"""Up to this many steps each longer partial plan is checked; after one of n steps, the next has about n + n / 32."""

PartialPlanHandler: TypeAlias = Callable[[Plan], None]
"""Is called with a partial plan that has passed its check."""

_DECODER = json.JSONDecoder()


@dataclass(slots=True)
class PlanStreamParser:
    """The complete parts, so far, of an object with a list of steps.

    Text before the first brace is skipped, and so is an object around the plan. Steps in a JSON string are not seen before the string ends.

    Attributes:
        head: The complete keys beside the list, with their values.
        steps: The complete steps.
        listed: The key of the list; empty until the list begins.
    """

    # Only the part that is not complete is decoded again with each piece of text: a key, a value of the head, or a
    # step. A partial JSON parser of a library (jiter, pydantic) decodes the complete text again with each piece, and
    # does not say whether the last step is complete.
    head: dict[str, Json] = field(default_factory=dict[str, Json])
    steps: list[Json] = field(default_factory=list[Json])
    listed: str = ""
    _text: str = ""  # from the start of the part that is not complete
    _total: int = 0
    _in_object: bool = False
    _in_list: bool = False
    _key: str | None = None
    _is_over: bool = False

    def take(self, words: str) -> bool:
        """Read more text; return whether it completes a step, or another part after the list has begun."""
        self._total += len(words)
        self._text += words
        before = len(self.steps), len(self.head)
        while not self._is_over and self._read_part():
            pass
        if self._total > CHARACTERS_MAX or len(self._text) > PART_CHARACTERS_MAX:
            self._is_over = True
        if self._is_over:
            self._text = ""
        return bool(self.listed) and (len(self.steps), len(self.head)) != before

    def draft(self) -> dict[str, Json]:
        """Return the complete parts as a draft of a plan, without its output, which may refer to later steps, and the type of that."""
        head = {key: part for key, part in self.head.items() if key not in OF_OUTPUT}
        return {**head, "steps": list(self.steps)}

    def _read_part(self) -> bool:
        """Read the next part; return whether it is complete."""
        if not self._in_object:
            self._in_object = "{" in self._text
            self._text = self._text.partition("{")[2]
            return self._in_object
        self._text = self._text.lstrip(" \t\r\n,")
        mark = self._text[:1]
        if mark == "}" and not self._in_list:
            self._is_over = True
        elif mark == "]" and self._in_list:
            self._in_list, self._key, self._text = False, None, self._text[1:]
        elif mark == "[" and self._key in LISTS and not self.listed:
            self._in_list, self.listed, self._text = True, self._key or "", self._text[1:]
        elif mark == "{" and self._key in WRAPPERS and not self.listed:
            self._key, self._text = None, self._text[1:]  # the plan is in this object
        else:
            return self._read_value()
        return True

    def _read_value(self) -> bool:
        """Read a step, a key, or the value of a key; return whether it is complete."""
        try:
            _, end = _DECODER.raw_decode(self._text)
        except (json.JSONDecodeError, RecursionError):  # of text that is no JSON, no part is ever complete
            return False
        rest = self._text[end:].lstrip()
        is_key = self._key is None and not self._in_list
        if not rest and (is_key or self._text[end - 1] not in '}]"'):  # `1` may become `12`
            return False
        try:
            value = parse(self._text[:end])
        except NotJson:
            self._is_over = True
            return False
        if is_key:
            self._is_over = not isinstance(value, str) or not rest.startswith(":")
            self._key, self._text = str(value), rest[1:]
            return True
        if self._in_list:
            self.steps.append(value)
            self._is_over = len(self.steps) >= STEPS_MAX
        else:
            self.head[self._key or ""], self._key = value, None
        self._text = rest
        return True


class PartialPlanListener:
    """Listens to the drafts of one request.

    Args:
        request: The request of the planning.
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
        # Checking costs time proportional to the steps. Growing gaps between checks keep the sum linear instead
        # of quadratic.
        if count == 0 or self._checked < count < self._due:
            return None
        self._checked, self._due = count, count + 1 + count // EACH_STEP_UP_TO
        draft = plan_in(self._parser.draft(), self._request.task)
        return draft if self._request.check_quickly(draft).ok else None

    def _rewritten(self) -> Json:
        """Return the last draft with the changes so far, up to its first fault; `None`: not even its first step is free of faults."""
        if not isinstance(self._draft, dict):
            return None
        changes = DraftChanges.read({**self._parser.head, CHANGES: list(self._parser.steps)})
        if changes is None:
            return None
        whole = changes.applied_to(self._draft)
        draft: dict[str, Json] = {key: part for key, part in whole.items() if key not in OF_OUTPUT}
        report = self._request.check_quickly(draft)
        if report.ok:
            return draft
        # Steps of the old draft that are still at fault will be rewritten, so that the plan ends before the first
        # of them.
        steps = cast("list[Json]", draft["steps"])[: _first_faulty(report)]
        draft = {**draft, "steps": steps}
        return draft if steps and self._request.check_quickly(draft).ok else None


def _first_faulty(report: CheckReport) -> int:
    """Return the index of the first step with a fault; 0 if a fault is outside steps."""
    return min((_step_of(each.path) for each in report.errors), default=0)


def _step_of(path: str) -> int:
    match parts_of(path):
        case ("steps", int(index), *_):
            return index
        case _:
            return 0
