"""What a shadow run found: which model steps were answered otherwise, and what would be otherwise because of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ...plans.edit.differences import Difference, differences
from ...plans.values import Json
from ..calls.calls import Failed
from ..outcome import walk
from ..runs.run import StepView, run_status, step_views
from ..states import FINAL, TERMINAL
from .shadow import ALIAS, ASKS_PERSON, ShadowWalk
from .shadow_report import AnswerKind, ShadowAnswer, ShadowEffect, ShadowReport

UNKNOWN: Final = "unknown"
_INNERMOST: Final = re.compile(r"(/[^/\[#]+|\[\d+\]|#\d+)$")  # of a path: inner step, item or iteration
_ENDED: Final = tuple(state.value for state in TERMINAL)


def findings(walked: ShadowWalk) -> ShadowReport:
    """Return what is otherwise in a run that was walked, in plan order."""
    recalled, machine = walked.recalled, walked.machine
    new, old = step_views(machine), recalled.run.steps
    paths: list[str] = [cell.path for cell in walk(machine.root)]
    paths += [path for path in old if path not in new]
    answers = tuple(_answer(walked, path) for path in paths if path in walked.direct)
    others = [path for path in paths if path not in walked.direct]
    found = [_effect(walked, path, old.get(path), new) for path in others]
    effects = tuple(effect for effect in found if effect is not None)
    status = run_status(machine).value
    is_known = status in FINAL or status == recalled.run.status
    output = machine.output.value if machine.output is not None else None
    return ShadowReport(
        run_id=recalled.run.id,
        model=walked.facilities.models.resolve(ALIAS)[0].name if walked.is_other_model else "",
        answers=answers,
        effects=effects,
        same=len(others) - len(effects),
        status=(recalled.run.status, status if is_known else UNKNOWN),
        output=differences(recalled.run.output, output) if is_known else (),
        usage=(
            _total(turn.usage for turn in recalled.machine.turns.values()),
            _total(answer.usage for answer in (*walked.direct.values(), *walked.flowing.values())),
        ),
    )


def _answer(walked: ShadowWalk, path: str) -> ShadowAnswer:
    """Return how a new answer differs from the recorded one."""
    answer, asked = walked.direct[path], walked.recalled.calls.get(path)
    known = walked.recalled.run.steps.get(path)
    changed = _changed_input(walked, path)
    if isinstance(answer.outcome, Failed):
        error = f"[{answer.outcome.code}] {answer.outcome.message}"
        is_same = known is not None and known.error is not None and known.error.code == answer.outcome.code
        kind: AnswerKind = "same" if is_same else "unheard" if walked.is_unheard(path, answer) else "failed"
        return ShadowAnswer(path, kind, error=error, input=changed)
    value = answer.output.value if answer.output is not None else None
    if asked is None or known is None:
        return ShadowAnswer(path, "new", differences(None, value), value)
    found = differences(known.output, value)
    return ShadowAnswer(path, "changed" if found else "same", found, value, input=changed)


def _changed_input(walked: ShadowWalk, path: str) -> tuple[Difference, ...]:
    asked, now = walked.recalled.calls.get(path), walked.calls.get(path)
    return differences(asked.value, now.value) if asked is not None and now is not None else ()


def _effect(
    walked: ShadowWalk, path: str, old: StepView | None, views: Mapping[str, StepView]
) -> ShadowEffect | None:
    """Return what is otherwise at a step that is no model's; `None`: nothing."""
    new = views.get(path)
    if (why := walked.withheld.get(path)) is not None:
        asked, now = walked.recalled.calls.get(path), walked.calls[path]
        places = differences(asked.value, now.value) if asked is not None else ()
        return ShadowEffect(path, "would-ask" if why == ASKS_PERSON else "would-call", places, why)
    if new is None:
        return ShadowEffect(path, "unknown" if _waits_outside(path, views) else "gone")
    if old is not None and (old.status, old.output_digest) == (new.status, new.output_digest):
        return None
    if new.status not in _ENDED:
        return ShadowEffect(path, "unknown")
    status = f"{old.status if old is not None else 'not reached'} -> {new.status}"
    is_other_end = old is None or old.status != new.status
    places = differences(old.output if old is not None else None, new.output)
    return ShadowEffect(path, "changed", places, status if is_other_end else "")


def _waits_outside(path: str, views: Mapping[str, StepView]) -> bool:
    """Whether the step of which a part was not reached has not ended: then it may still come to it."""
    while path not in views and (inner := _INNERMOST.search(path)) is not None:
        path = path[: inner.start()]
    return path in views and views[path].status not in _ENDED


def _total(usages: Iterable[Mapping[str, Json] | None]) -> dict[str, float]:
    """Return what model calls have used in all."""
    total = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
    for usage in usages:
        for name in total:
            amount = (usage or {}).get(name, 0)
            total[name] += amount if isinstance(amount, int | float) else 0
    return total
