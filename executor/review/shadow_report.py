"""`ShadowReport`: the differences that another model or another plan would have made in a run, as text and as JSON.

`shadow.py` walks the run again; `findings` compares the walk with the recording. Nothing here calls a model or reads a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ...plans.edit.differences import Difference, differences
from ...plans.values import Json
from ..calls.running.invoke import Failed
from ..execution_tree import walk
from ..runs.run import StepView, counted, report_json, run_status, step_views
from ..states import FINAL, TERMINAL
from .report import places_text
from .shadow import ALIAS, ASKS_PERSON, ShadowWalk

AnswerKind: TypeAlias = Literal["same", "changed", "failed", "new", "unheard"]
EffectKind: TypeAlias = Literal["changed", "would-call", "would-ask", "unknown", "gone"]

_MARKS: Final[Mapping[str, str]] = {
    "same": " ",
    "changed": "~",
    "failed": "!",
    "unheard": "!",
    "new": "+",
    "would-call": "?",
    "would-ask": "?",
    "unknown": ".",
    "gone": "-",
}


@dataclass(frozen=True, slots=True)
class ShadowAnswer:
    """The answer of the new model at one model step.

    Attributes:
        kind: `same` as recorded; `changed`; `failed`: no valid answer; `new`: the recording has no answer there; `unheard`: the endpoint
            gave no answer of a model, so that the following steps are unknown.
        output: The differences between its answer to the recorded input and the recorded answer.
        value: The answer.
        error: Code and message, if there is no answer.
        input: The differences between the recorded input and the input that follows from earlier answers. If there are any, the model was
            asked a second time with the new input.
    """

    step: str
    kind: AnswerKind
    output: tuple[Difference, ...] = ()
    value: Json = None
    error: str = ""
    input: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        text = self.error or places_text("output", self.output)
        changed = f"  (its input would be another: {places_text('', self.input)})" if self.input else ""
        return f"{_MARKS[self.kind]} {self.step}  {text}".rstrip() + changed

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


@dataclass(frozen=True, slots=True)
class ShadowEffect:
    """A difference at a step that asks no model.

    Attributes:
        kind: `changed`: the step has another result; `would-call`: a tool that is not pure would be called with other arguments, and was
            not called; `would-ask`: the same, but a person would be asked first; `unknown`: the step waits for such a call;
            `gone`: the run would not reach the step.
        places: The differing places of the output or of the arguments.
        detail: A status, or why the result is unknown.
    """

    step: str
    kind: EffectKind
    places: tuple[Difference, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "would-call" | "would-ask":
                text = f"would be called otherwise: {places_text('', self.places) or 'for the first time'}"
            case "unknown":
                text = "unknown"
            case "gone":
                text = "would not be reached"
            case "changed":
                text = places_text("output", self.places)
        detail = f"  [{self.detail}]" if self.detail else ""
        return f"{_MARKS[self.kind]} {self.step}  {text}".rstrip() + detail

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """The differences between a recorded run and its shadow; false if there is none.

    Attributes:
        model: The new model; empty: each step's own model.
        answers: The answers at all model steps, in plan order.
        effects: The differences at other steps, in plan order.
        same: The number of other steps with the same result.
        status: The status of the recorded run and of the shadow (`unknown`: it waits for calls that were not made).
        output: The differences of the run's output; empty if there are none or they are unknown.
        usage: `calls tokens usd` of the recorded model calls, and of the new ones.
    """

    run_id: str
    model: str
    answers: tuple[ShadowAnswer, ...]
    effects: tuple[ShadowEffect, ...]
    same: int
    status: tuple[str, str]
    output: tuple[Difference, ...]
    usage: tuple[Mapping[str, float], Mapping[str, float]] = field(repr=False)

    def __bool__(self) -> bool:
        return bool(self.changed or self.effects or self.output or self.status[0] != self.status[1])

    @property
    def changed(self) -> tuple[ShadowAnswer, ...]:
        """The model steps with another answer, or with none."""
        return tuple(each for each in self.answers if each.kind != "same")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        by = f" with model '{self.model}'" if self.model else ""
        count, unheard = len(self.answers), sum(each.kind == "unheard" for each in self.answers)
        text = f"{len(self.changed) - unheard} answered otherwise" + (
            f", {unheard} not at all" if unheard else ""
        )
        yield f"run {self.run_id}{by}: {counted(count, 'model step')} asked again, {text}"
        yield from (str(each) for each in self.answers if each.kind != "same" or each.input)
        if not self.effects:
            yield f"downstream nothing would change: {counted(self.same, 'other step')} come out the same"
        else:
            yield f"downstream {counted(len(self.effects))} would be otherwise, {self.same} the same"
            yield from (str(each) for each in self.effects)
        if self.status[0] != self.status[1]:
            yield f"status: {self.status[0]} -> {self.status[1]}"
        if self.output:
            yield places_text("the run's output", self.output)
        yield "; ".join(self._used())

    def _used(self) -> Iterator[str]:
        for name in ("calls", "tokens", "usd"):
            old, new = (usage.get(name, 0) for usage in self.usage)
            yield (
                f"model {name} {old:.6g} -> {new:.6g}"
                if name == "calls"
                else f"{name} {old:.6g} -> {new:.6g}"
            )

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self, run_id="run") | {"changed": bool(self)}


# --- from a walk to its report

UNKNOWN: Final = "unknown"
_INNERMOST: Final = re.compile(r"(/[^/\[#]+|\[\d+\]|#\d+)$")  # of a path: inner step, item or iteration
_ENDED: Final = tuple(state.value for state in TERMINAL)


def findings(walked: ShadowWalk) -> ShadowReport:
    """Return the differences between a recorded run and the walk through it, in plan order."""
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
            _total(iteration.usage for iteration in recalled.machine.iterations.values()),
            _total(answer.usage for answer in (*walked.direct.values(), *walked.flowing.values())),
        ),
    )


def _answer(walked: ShadowWalk, path: str) -> ShadowAnswer:
    """Return the new answer at a model step, compared with the recorded answer."""
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
    """Return the difference at a step that asks no model; `None`: there is none."""
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
    """Whether the innermost step around an unreached part has not ended, so that the run may still reach the part."""
    while path not in views and (inner := _INNERMOST.search(path)) is not None:
        path = path[: inner.start()]
    return path in views and views[path].status not in _ENDED


def _total(usages: Iterable[Mapping[str, Json] | None]) -> dict[str, float]:
    """Return the total usage of model calls."""
    total = {"calls": 0.0, "tokens": 0.0, "usd": 0.0}
    for usage in usages:
        for name in total:
            amount = (usage or {}).get(name, 0)
            total[name] += amount if isinstance(amount, int | float) else 0
    return total
