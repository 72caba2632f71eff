"""The report of a failed run for a planner: all that a repair needs, and no word of data that a stranger may have written.

What is shown of a step depends on the labels of its data, as the check finds them:

| data | shown |
| --- | --- |
| trusted | the message and the code of its error, those of its failed items, and, if a failed step or the failed output used its result, the type and the beginning of the result that came |
| untrusted | firmplan's own codes, the arguments at fault, and the type that came, with those of its fields whose names are short identifiers; with `Planner(untrusted_text=True)` the rest, too, apart from all else |
| private, and no model may have it | firmplan's own codes |

A code that is not one of firmplan's own may be made of data, so that of untrusted data it is shown as `tool-error`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from ...plans import SavedPlans
from ...plans.checker.body import bodies_of
from ...plans.checker.flow.labels import UNTRUSTED
from ...plans.checker.flow.secrecy import model_destination
from ...plans.checker.survey import survey_of
from ...plans.format.property_order import text_in_order
from ...plans.format.shape import Draft
from ...plans.plan import Plan, ToolStep
from ...plans.signature import Signatures, properties_of
from ...plans.types.learnt import schema_of_shape, shape_of
from ...plans.values import Json
from ...tools.models.marks import Data
from ...tools.provider import quoted, visible
from .signatures import shown_schema

MESSAGE_CHARACTERS_MAX: Final = 500
"""Characters of one message of an error: a tool may put a page into it."""
VALUE_CHARACTERS_MAX: Final = 300
"""Characters of a result that a failed step used."""
USED_MAX: Final = 12
"""Steps whose results are shown because something that failed used them, the nearest first."""
PARTS_MAX: Final = 8
"""Different failures of items that are shown of one step."""
PATHS_MAX: Final = 10
"""Items that are named of one failure; the others are counted."""

_CODE: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.IGNORECASE)
_PATH: Final = re.compile(r"[a-z][a-z0-9_]{0,63}(\[\d+\]|#\d+|/[a-z][a-z0-9_]{0,63})*")

STATUSES = ("pending", "running", "waiting", "indeterminate", "succeeded", "failed", "skipped", "cancelled")
DONE = "succeeded"
REASONS = (
    *("when", "on-error", "skipped-reference", "dependency-failed", "blocked"),
    *("denied", "cancelled", "approval", "question", "budget"),
)
_OWN_CODES = """
    absent-field agent-exhausted bad-args bad-expr bad-input bad-output bad-prompt bad-result bad-value
    cancelled cannot config-error connection-error context-exceeded deadline denied division-by-zero empty-list expired fail failed guard-failed guard-refused
    impure index-out-of-range inner-failed items-failed limit-exceeded model-auth model-rejected
    model-unavailable model-unknown model-unreachable no-artifact no-blobs no-model no-secret not-a-bool
    not-a-list not-finite not-reusable null-value outcome-unknown overflow parked plan-rejected planning-failed policy-denied private-condition
    private-flow process-died question rate-limited redirected refused repeat-exhausted resolved-failed resource-failed timeout tool-error truncated type-error
    type-mismatch unfinished unknown-policy unreachable unsafe-flow untrusted-condition withdrawn
"""
OWN_CODES = frozenset(_OWN_CODES.split())
"""Codes of firmplan itself; all other codes come from tools. A tool may use one of these codes too, but cannot put its own words into it."""

TOOL_ERROR = "tool-error"
FILLED_IN = "filled in by on_error"
"""The words in the prompt for a failed step, or part of a step, whose value `on_error` filled in."""

REFUSED = "done, result refused"
"""The words in the prompt for a write that took effect although its result was refused."""

_PART_ORDER = ("filled", *STATUSES)


class ErrorLike(Protocol):
    """The part of an error that is looked at."""

    @property
    def code(self) -> str: ...  # noqa: D102  # the names say it; the same below
    @property
    def temporary(self) -> bool: ...  # noqa: D102  # as above
    @property
    def message(self) -> str: ...  # noqa: D102  # as above


class StepLike(Protocol):
    """The part of a step of a run that is looked at."""

    @property
    def status(self) -> str: ...  # noqa: D102  # as above
    @property
    def reason(self) -> str | None: ...  # noqa: D102  # as above
    @property
    def error(self) -> ErrorLike | None: ...  # noqa: D102  # as above
    @property
    def output(self) -> Json: ...  # noqa: D102  # as above


class Disclosure(Enum):
    """Who may have written the data of a step, which decides what a planner is shown of it."""

    OPEN = "open"
    UNTRUSTED = "untrusted"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Disclosures:
    """What a planner may be shown of a plan's run.

    Attributes:
        steps: Id -> disclosure; of other steps only codes are shown.
        output: That of the plan's output.
        uses: Id -> ids of the steps that it refers to.
        output_uses: Those of the output.
        arguments: Id -> names of the arguments of the tool that it calls.
        texts: Whether the planner is shown untrusted text.
    """

    steps: Mapping[str, Disclosure] = field(default_factory=dict[str, Disclosure])
    output: Disclosure = Disclosure.CLOSED
    uses: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    output_uses: Sequence[str] = ()
    arguments: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    texts: bool = False

    @classmethod
    def of(
        cls, plan: Plan, tools: Signatures, plans: SavedPlans | None, model: str, *, texts: bool
    ) -> Disclosures:
        """Return what a model may be shown.

        Args:
            plan: A plan that passed its check.
            tools: Whose results are untrusted or private.
            plans: Saved plans by name or digest.
            model: The model's name, by which data may be meant for it.
            texts: Whether it is shown untrusted text.
        """
        survey = survey_of(bodies_of(Draft(plan), plan, plans), tools)
        labels = survey.labels[0]

        def disclosure(label: int) -> Disclosure:
            private = labels.private_part(label)
            if private and any(survey.secrecy.refused(model_destination(model), private)):
                return Disclosure.CLOSED
            return Disclosure.UNTRUSTED if label & UNTRUSTED else Disclosure.OPEN

        body = labels.body
        ids = [step.id for step in body.steps]
        called = {
            step.id: tool
            for step in body.steps
            if isinstance(step, ToolStep) and (tool := tools.find(step.tool)) is not None
        }
        return cls(
            {
                id_: disclosure(labels.values[position] | labels.ends[position])
                for position, id_ in enumerate(ids)
            },
            disclosure(labels.summary.output | labels.of(body.output)),
            {id_: [ids[other] for other in refs.needs] for id_, refs in zip(ids, body.refs, strict=True)},
            [ids[other] for other in labels.body.referred(body.output)],
            {id_: [*properties_of(tool.parameters)] for id_, tool in called.items()},
            texts,
        )

    def of_step(self, id_: str) -> Disclosure:
        """Return the disclosure of a step."""
        return self.steps.get(id_, Disclosure.CLOSED)

    def is_told(self, disclosure: Disclosure) -> bool:
        """Whether texts and values of such data are shown at all."""
        return disclosure is Disclosure.OPEN or (self.texts and disclosure is Disclosure.UNTRUSTED)


NOTHING_SHOWN: Final = Disclosures()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is shown of a step, or of the output, beside its state.

    Attributes:
        plain: Lines that no stranger can have written, or that are short identifiers.
        told: Lines with texts and values.
    """

    plain: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepState:
    """The state of a step, in words of a fixed list.

    Attributes:
        code: Why it failed: one of `OWN_CODES`, or a tool's own code if its data is trusted.
        temporary: Whether the same call may succeed later.
        reason: Why it was skipped, or why it waits.
        is_filled_in: Whether the step failed and the value of its `on_error` replaces its result.
        parts: The states of its items or iterations: a state on one line -> the number of parts in it.
        took_effect: Whether the step is a write that took effect although it failed, since its result was refused.
    """

    status: str
    code: str | None = None
    temporary: bool = False
    reason: str | None = None
    is_filled_in: bool = False
    parts: Mapping[str, int] = field(default_factory=dict[str, int])
    took_effect: bool = False

    @classmethod
    def of(
        cls, step: StepLike, parts: Mapping[str, int] | None = None, *, is_open: bool = False
    ) -> StepState:
        """Return the state of a step of a run; unless it is open, without anything that a tool wrote."""
        status = step.status if step.status in STATUSES else "failed"
        return cls(
            status,
            None if step.error is None else shown_code(step.error, is_open=is_open),
            # `is True`: the error may come from a stored journal, where any JSON could stand.
            step.error is not None and step.error.temporary is True,
            step.reason if step.reason in REASONS else None,
            status == DONE and step.error is not None,  # a call that succeeds in the end keeps no error
            dict(parts or {}),
            bool(getattr(step.error, "took_effect", False)),  # not every error of a run has it
        )

    def rendered(self) -> str:
        """Return the state on one line."""
        words = [FILLED_IN if self.is_filled_in else self.status]
        if self.code:
            more = ", temporary" * self.temporary + f"; {REFUSED}" * self.took_effect
            words.append(f"({self.code}{more})")
        if self.reason:
            words.append(f"because of {self.reason}")
        if self.parts:
            parts = sorted(self.parts, key=lambda part: (_PART_ORDER.index(part.split(" ", 1)[0]), part))
            words.append("of " + ", ".join(f"{self.parts[part]} {part}" for part in parts))
        return " ".join(words)


def shown_code(error: ErrorLike, *, is_open: bool) -> str:
    """Return the code of an error if it is firmplan's own, or that of a trusted tool; else `tool-error`."""
    is_shown = error.code in OWN_CODES or (is_open and _CODE.fullmatch(error.code) is not None)
    return error.code if is_shown else TOOL_ERROR


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A failed run, as a planner sees it.

    Attributes:
        plan: The plan that ran.
        states: Step id -> state; only steps of the plan itself.
        types: Step id -> JSON Schema of its value, as the check infers it.
        output_code: Why the plan's output could not be computed.
        facts: Step id -> what a repair may need; the output's under an empty id.
        disclosures: What may be shown.
    """

    plan: Plan
    states: Mapping[str, StepState]
    types: Mapping[str, Mapping[str, Json]] = field(default_factory=dict[str, Mapping[str, Json]])
    output_code: str | None = None
    facts: Mapping[str, Facts] = field(default_factory=dict[str, Facts])
    disclosures: Disclosures = NOTHING_SHOWN

    @classmethod
    def of(
        cls,
        plan: Plan,
        steps: Mapping[str, StepLike],
        types: Mapping[str, Mapping[str, Json]] | None = None,
        output_error: ErrorLike | None = None,
        disclosures: Disclosures = NOTHING_SHOWN,
    ) -> FailureReport:
        """Return the report of a run; parts of its steps are counted, and those that failed are told apart.

        Args:
            plan: The plan that ran.
            steps: Path -> state.
            types: Step id -> JSON Schema of its value.
            output_error: Why the plan's output could not be computed, if that is what failed.
            disclosures: What may be shown.
        """
        ids = [step.id for step in plan.steps]
        parts: dict[str, dict[str, StepLike]] = {each: {} for each in ids}
        for path, step in steps.items():
            # Items, iterations and inner steps belong to the step of the plan: the model changes steps and not their parts.
            head = path.partition("/")[0].partition("[")[0].partition("#")[0]
            if path not in parts and head in parts and step.status in STATUSES:
                parts[head][path] = step
        # A tool's own code is its author's word only if its data is trusted: else data may have made it.
        opened = {each: disclosures.of_step(each) is Disclosure.OPEN for each in ids}
        states = {
            each: StepState.of(
                steps[each],
                Counter(StepState.of(part, is_open=opened[each]).rendered() for part in parts[each].values()),
                is_open=opened[each],
            )
            for each in ids
            if each in steps
        }
        made = {each: _why(each, {each: steps[each], **parts[each]}, disclosures) for each in states}
        failed = [each for each in ids if each in steps and _has_failed(steps[each], parts[each].values())]
        starts = [use for each in failed for use in disclosures.uses.get(each, ())]
        output_code = None
        if output_error is not None:
            output_code = shown_code(output_error, is_open=disclosures.output is Disclosure.OPEN)
            starts += disclosures.output_uses
            made[""] = Facts(told=_told_message(output_error, disclosures.output, disclosures))
        for used in _nearest(starts, disclosures.uses):
            if used in steps and steps[used].status == DONE:
                found = _result(plan, used, steps[used].output, (types or {}).get(used), disclosures)
                made[used] = Facts((*made[used].plain, *found.plain), (*made[used].told, *found.told))
        return cls(plan, states, dict(types or {}), output_code, made, disclosures)

    def state(self, step: str) -> StepState:
        """Return the state of a step; a step that the run does not mention has not begun."""
        return self.states.get(step, StepState("pending"))

    @property
    def finished(self) -> tuple[str, ...]:
        """Steps that must stay as they are: they are done, or may be done."""
        kept = (DONE, "indeterminate")
        return tuple(step.id for step in self.plan.steps if self.state(step.id).status in kept)

    @property
    def begun(self) -> tuple[str, ...]:
        """Unfinished steps with calls that are done or may be done, including writes whose result was refused."""
        return tuple(
            step.id
            for step in self.plan.steps
            if step.id not in self.finished and self._has_begun(self.state(step.id))
        )

    @staticmethod
    def _has_begun(state: StepState) -> bool:
        # A part whose value `on_error` filled in has made its call, whatever came of it.
        kept = (DONE, "indeterminate", FILLED_IN)
        return state.took_effect or any(part.startswith(kept) or REFUSED in part for part in state.parts)

    @property
    def shows_untrusted(self) -> bool:
        """Whether it holds texts or values that a stranger may have written."""
        return any(self._is_untrusted(id_) and facts.told for id_, facts in self.facts.items())

    def _is_untrusted(self, id_: str) -> bool:
        found = self.disclosures.of_step(id_) if id_ else self.disclosures.output
        return found is Disclosure.UNTRUSTED

    def rendered(self) -> str:
        """Return task, plan, states, types and facts as text."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts())

    def parts(self) -> tuple[str | Data, ...]:
        """Return the same as parts of the prompt: the plan, the states with their facts, and untrusted texts are data, each apart.

        The task is none: it is what the patched plan has to do.
        """
        plan = self.plan.to_dict()
        task = plan.pop("task", None)
        lines = [line for step in self.plan.steps for line in self._lines(step.id)]
        if self.output_code is not None:
            lines += [f"- the plan's output: failed ({self.output_code})", *self._facts("")]
        apart = [
            f"- {id_ or 'the output'}: {line}"
            for id_, facts in self.facts.items()
            if self._is_untrusted(id_)
            for line in facts.told
        ]
        about: tuple[str | Data, ...] = (
            ("\n\n# Untrusted text about them\n\n", Data("untrusted", "\n".join(apart))) if apart else ()
        )
        return (
            *([f"# Task\n\n{task}\n\n"] if task else []),
            "# The plan\n\n",
            Data("plan", f"```json\n{text_in_order(plan)}\n```"),
            "\n\n# Where its steps stand\n\n",
            Data("states", "\n".join(lines)),
            *about,
        )

    def _lines(self, step: str) -> list[str]:
        schema = self.types.get(step)
        shown = f"; its value: {shown_schema(schema)}" if schema else ""
        return [f"- {step}: {self.state(step).rendered()}{shown}", *self._facts(step)]

    def _facts(self, id_: str) -> list[str]:
        facts = self.facts.get(id_, Facts())
        return [f"    {line}" for line in (*facts.plain, *(() if self._is_untrusted(id_) else facts.told))]


# --- what a repair may need


def _has_failed(step: StepLike, parts: Iterable[StepLike]) -> bool:
    return step.status != DONE and (step.error is not None or any(part.error is not None for part in parts))


def _nearest(starts: Sequence[str], uses: Mapping[str, Sequence[str]]) -> list[str]:
    """Return steps and, further away, those that they use, each once."""
    found = dict.fromkeys(starts)
    for each in (queue := list(found)):
        if len(found) >= USED_MAX:
            break
        new = [use for use in uses.get(each, ()) if use not in found]
        found |= dict.fromkeys(new)
        queue += new
    return list(found)[:USED_MAX]


def _why(id_: str, parts: Mapping[str, StepLike], disclosures: Disclosures) -> Facts:
    """Return why a step and its parts failed, equal failures of parts together."""
    shown = disclosures.of_step(id_)
    step, plain, told = parts[id_], list[str](), list[str]()
    if step.error is not None:
        told += _told_message(step.error, shown, disclosures)
        plain += _places(step.error, disclosures.arguments.get(id_, ()))
    groups: dict[tuple[str, str], list[str]] = {}
    for path, part in parts.items():
        if path != id_ and part.error is not None and _PATH.fullmatch(path):
            state = StepState.of(part, is_open=shown is Disclosure.OPEN).rendered()
            places = _places(part.error, disclosures.arguments.get(id_, ()))
            message = "".join(f": {words}" for words in _message(part.error, shown, disclosures))
            groups.setdefault((" ".join([state, *places]), message), []).append(path)
    for (state, message), paths in list(groups.items())[:PARTS_MAX]:
        more = f" and {len(paths) - PATHS_MAX} more" if len(paths) > PATHS_MAX else ""
        line = f"{', '.join(paths[:PATHS_MAX])}{more}: {state}{message}"
        (told if message else plain).append(line)
    return Facts(tuple(plain), tuple(told))


def _told_message(error: ErrorLike, shown: Disclosure, disclosures: Disclosures) -> tuple[str, ...]:
    return tuple(f"why: {words}" for words in _message(error, shown, disclosures))


def _message(error: ErrorLike, shown: Disclosure, disclosures: Disclosures) -> tuple[str, ...]:
    """Return the message of an error on one line, if it may be shown and there is one."""
    given = getattr(error, "message", None)
    if not disclosures.is_told(shown) or not isinstance(given, str) or not given.strip():
        return ()
    words = " ".join(given.split())
    return (
        visible(words if len(words) <= MESSAGE_CHARACTERS_MAX else f"{words[:MESSAGE_CHARACTERS_MAX]}.."),
    )


def _places(error: ErrorLike, arguments: Sequence[str]) -> list[str]:
    """Return which arguments are at fault: names of the tool's own, which nobody who fails a call has made."""
    if error.code != "bad-args":
        return []
    message = str(getattr(error, "message", ""))
    found = [name for name in arguments if re.search(rf"\$\.{re.escape(name)}(?![\w-])", message)]
    return [f"at fault: {', '.join(found)}"] if found else []


def _result(
    plan: Plan, id_: str, output: Json, declared: Mapping[str, Json] | None, disclosures: Disclosures
) -> Facts:
    """Return the type of a result that came, if it says more than the declared type, and the beginning of a tool's result."""
    shown = disclosures.of_step(id_)
    if shown is Disclosure.CLOSED:
        return Facts()
    came = shown_schema(schema_of_shape(shape_of(output), plain_names=shown is Disclosure.UNTRUSTED))
    is_new = declared is None or came != shown_schema(declared)
    # Values of inputs are the caller's, who gave them to the plan and not to a planner.
    is_told = disclosures.is_told(shown) and any(
        step.id == id_ and isinstance(step, ToolStep) for step in plan.steps
    )
    return Facts(
        (f"came: {came}",) if is_new else (),
        (f"value: {quoted(output, VALUE_CHARACTERS_MAX)}",) if is_told else (),
    )
