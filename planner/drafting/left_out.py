"""What a plan leaves out of its task: no draft drops a write of an earlier draft in silence.

Models repair a fault of a write by removing the write, and the plan that is left passes its check and does less than the task. So the writes of a
draft are compared with those of the drafts before it, and those of a patched plan with those of the plan that failed. A write that is gone has to be
made again or named in `left_out`. The model is asked once for each tool; if its next draft still says nothing, firmplan writes the
sentence, so that a person learns of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ...plans.reports.problems import Problem, problem
from ...plans.signature import Effect, Signatures
from ...plans.values import Json

AT = "$.left_out"
_NOTHING = frozenset({"", "none", "nothing", "n/a", "null", "-"})


def texts_in(given: Json) -> Json:
    """Return `left_out` as a model may have written it, as a list of texts; `None` if it says nothing. What is no text is kept for the check."""
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list):
        return listed
    kept = [
        each for each in listed if not (isinstance(each, str) and each.strip(" .").casefold() in _NOTHING)
    ]
    return kept or None


@dataclass(frozen=True, slots=True)
class _Calls:
    """The steps of a draft that call one writing tool.

    Attributes:
        ids: The ids of the steps, as far as they are texts.
        count: The number of steps.
        is_many: Whether one of them may make any number of calls: it has `for_each`, or is an agent.
    """

    ids: tuple[str, ...] = ()
    count: int = 0
    is_many: bool = False

    def with_step(self, id_: Json, *, is_many: bool) -> _Calls:
        ids = (*self.ids, id_) if isinstance(id_, str) else self.ids
        return _Calls(ids, self.count + 1, self.is_many or is_many)


@dataclass(slots=True)
class WritesSoFar:
    """The writes of the drafts of one planning.

    Attributes:
        tools: Says which tools write.
        calls: Tool -> its calls in the draft that had most of them.
        asked: Tools about whose missing calls the model was asked.
    """

    tools: Signatures
    calls: dict[str, _Calls] = field(default_factory=dict[str, _Calls])
    asked: set[str] = field(default_factory=set[str])

    def note(self, draft: Json) -> None:
        """Remember the writes of a draft, whatever its faults."""
        for tool, calls in self._writes_in(draft).items():
            if calls.count > self.calls.get(tool, _Calls()).count:
                self.calls[tool] = calls

    def settle(self, draft: Json, *, may_ask: bool) -> tuple[Json, tuple[Problem, ...]]:
        """Return a draft with a sentence for each write that it drops again, and a problem for each write that it drops for the first time.

        Args:
            draft: The draft.
            may_ask: Whether the model can still be asked: a plan that says what it leaves out is worth more than none.
        """
        if not isinstance(draft, dict):
            return draft, ()
        problems: list[Problem] = []
        sentences: list[Json] = []
        for tool, missing in self._dropped(draft):
            steps = f" (step {', '.join(repr(id_) for id_ in missing)})" if missing else ""
            if tool in self.asked or not may_ask:
                sentences.append(
                    f"{tool}: an earlier draft called it{steps}; this plan does not, and gives no reason"
                )
                continue
            self.asked.add(tool)
            message = f"expected the write '{tool}' of an earlier draft{steps}, found neither its call nor a word about it"
            hint = (
                "make the call again in a way that passes the check; if no way does, or the task does not ask for it, add to 'left_out' a text "
                f"that begins with '{tool}: ' and says what is not done, and why"
            )
            problems.append(problem("bad-shape", AT, message, hint))
        if not sentences:
            return draft, tuple(problems)
        said = draft.get("left_out")
        return {**draft, "left_out": [*(said if isinstance(said, list) else []), *sentences]}, tuple(problems)

    def _dropped(self, draft: Mapping[str, Json]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the tools of which a draft makes fewer calls than an earlier one and says nothing, with the ids of the missing steps."""
        now = self._writes_in(cast("Json", draft))
        for tool, before in self.calls.items():
            calls = now.get(tool, _Calls())
            # Two steps may become one with `for_each`; the plan then makes as many calls as its list has items.
            if calls.count >= before.count or (calls.is_many and calls.count):
                continue
            missing = tuple(id_ for id_ in before.ids if id_ not in calls.ids)
            if not _is_named(draft.get("left_out"), (tool, *missing)):
                yield tool, missing

    def _writes_in(self, draft: Json) -> dict[str, _Calls]:
        found: dict[str, _Calls] = {}
        for step in _steps_of(draft):
            is_many = step.get("for_each") is not None
            for name, is_agent in tools_of(step):
                tool = self.tools.find(name)
                if tool is not None and tool.effect is Effect.WRITE:
                    calls = found.get(name, _Calls())
                    found[name] = calls.with_step(step.get("id"), is_many=is_many or is_agent)
        return found


def _steps_of(draft: Json) -> Iterator[Mapping[str, Json]]:
    """Yield the steps of a draft and of its inner plans that are objects."""
    if not isinstance(draft, dict):
        return
    inner = draft.get("plans")
    for body in (draft, *(inner.values() if isinstance(inner, dict) else ())):
        steps = body.get("steps") if isinstance(body, dict) else None
        yield from (step for step in steps if isinstance(step, dict)) if isinstance(steps, list) else ()


def tools_of(step: Mapping[str, Json]) -> Iterator[tuple[str, bool]]:
    """Yield the tools that a step may call, each with whether an agent, or a sub-plan that is planned in the run, calls it."""
    if isinstance(name := step.get("tool"), str):
        yield name, False
    for holder in (step.get("agent"), step if "plan_for" in step else None):
        match holder:
            case {"tools": list(allowed)}:
                yield from ((each, True) for each in allowed if isinstance(each, str))
            case _:
                pass


def _is_named(said: Json, names: Sequence[str]) -> bool:
    """Whether a text of `left_out` has one of these names as a word."""
    texts = "\n".join(each for each in said if isinstance(each, str)) if isinstance(said, list) else ""
    return any(re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", texts, re.IGNORECASE) for name in names)
