"""From traces to a plan: the steps that traces of one task show (`steps.py`), made a plan with names, a task and a check.

Traces that did other steps than the first one are left out. Reads that nothing used are dropped, and then all is done again without them. Of secrets
the plan has names. Equal traces give equal plans. Pure: it runs nothing; what it says of a recorded run (`Recording`) is for the rehearsal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, Literal, TypeAlias, cast

from ...errors import InputRejected
from ...plans.checker.checker import check
from ...plans.plan import Plan
from ...plans.reports.problems import CheckReport
from ...plans.signature import Signatures
from ...plans.values import Json, with_texts
from ..library.pattern import TaskPattern, pattern_fault
from .calls import Call, Dropped, read_calls
from .inputs import Inputs
from .origins import Origin, shown
from .questions import TASK
from .secrecy import holds_secret, masked
from .steps import MadeStep, StepDraft, TracedCalls, names_in, runs_of
from .trace import Trace

RemarkKind: TypeAlias = Literal[
    "dropped", "failed", "unexplained", "ambiguous", "secret", "trace", "left-out"
]

CALLS_MAX: Final = 2_000
"""Calls of one trace."""

PASSES_MAX: Final = 20
"""Rounds in which unused reads are dropped; each drops at least one."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the traces that a person should know.

    Attributes:
        kind: The kind of remark.
        place: The call, or the step and argument.
        message: A sentence.
    """

    kind: RemarkKind
    place: str
    message: str

    def to_dict(self) -> dict[str, Json]:
        """Return the remark as JSON."""
        return {"kind": self.kind, "place": self.place, "message": self.message}


@dataclass(frozen=True, slots=True)
class StepOrigin:
    """Where one argument of a step comes from.

    Attributes:
        step: The step.
        origin: The origin.
    """

    step: str
    origin: Origin

    @property
    def place(self) -> str:
        """The argument, with the step."""
        return f"{self.step}.{self.origin.place}" if self.step else self.origin.place

    def to_dict(self) -> dict[str, Json]:
        """Return the origin as JSON."""
        each = self.origin
        return {
            "step": self.step,
            "argument": each.place,
            "kind": each.kind,
            "value": each.template,
            "why": each.why,
            "alternatives": list(each.alternatives),
        }


@dataclass(frozen=True, slots=True)
class Recording:
    """What one trace says of a run of the plan.

    Attributes:
        name: The trace.
        inputs: The values of the inputs.
        calls: The calls that the plan has to make, in the order of the trace.
        answers: Path of an `ask` step -> what the model of the trace made.
        secrets: Name -> value.
        answer: What the agent said at the end; `None`: nothing.
        hidden: Texts that no report may show.
    """

    name: str
    inputs: Mapping[str, Json]
    calls: tuple[Call, ...]
    answers: Mapping[str, Json]
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    answer: str | None = None
    hidden: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan that was learnt, before it is rehearsed.

    Attributes:
        plan: The plan.
        report: The check of the plan.
        origins: Where each argument comes from.
        remarks: What a person should know.
        recordings: What each trace says of a run.
    """

    plan: Plan
    report: CheckReport
    origins: tuple[StepOrigin, ...]
    remarks: tuple[Remark, ...]
    recordings: tuple[Recording, ...]


def propose(traces: Sequence[Trace], tools: Signatures, *, task: str | None = None) -> Proposal:
    """Return the plan that traces of one task show.

    Args:
        traces: The traces; the first one decides where they differ.
        tools: The tools that they call.
        task: The words of the task, where the traces do not have them; for all traces.

    Raises:
        InputRejected: No call is left of which a plan could be made, or the plan would hold a secret.
    """
    read: list[TracedCalls] = []
    remarks: list[Remark] = []
    for trace in traces:
        if len(trace.calls) > CALLS_MAX:
            raise InputRejected(f"{trace.name}: expected at most {CALLS_MAX} calls, found {len(trace.calls)}")
        given = trace if task is None else replace(trace, task=task)
        calls, dropped = read_calls(given, tools)
        if not calls:
            why = "; ".join(dict.fromkeys(each.reason for each in dropped)) or "there are none"
            raise InputRejected(
                f"{trace.name}: expected calls that a plan can make, found none: {masked(why)}"
            )
        read.append(_without_unused(TracedCalls(given, calls, dropped)))
    aligned, others = _aligned(read)
    remarks += others
    draft = StepDraft(aligned)
    draft.build()
    for each in aligned:
        remarks += [Remark("trace", "", text) for text in each.trace.remarks]
        for gone in each.dropped:
            kind: RemarkKind = "dropped" if gone.is_unused else "failed"
            remarks.append(Remark(kind, gone.traced.place, f"the call of '{gone.traced.tool}' {gone.reason}"))
    return _proposal(draft, tools, remarks)


def _without_unused(traced: TracedCalls) -> TracedCalls:
    """Return a trace without the reads that nothing used."""
    for _ in range(PASSES_MAX):
        draft = StepDraft([traced])
        draft.build()
        unused = draft.unused()
        if not unused:
            break
        kept = [call for call in traced.calls if call.traced.index not in unused]
        gone = [
            Dropped(call.traced, "told nothing that a later call or the answer used", is_unused=True)
            for call in traced.calls
            if call.traced.index in unused
        ]
        traced = TracedCalls(
            traced.trace, kept, sorted([*traced.dropped, *gone], key=lambda each: each.traced.index)
        )
    return traced


def _aligned(read: Sequence[TracedCalls]) -> tuple[list[TracedCalls], list[Remark]]:
    """Return the traces that did the same steps as the first one."""
    first = [names for names, _ in runs_of(read[0].calls)]
    kept, remarks = [read[0]], list[Remark]()
    for each in read[1:]:
        found = [names for names, _ in runs_of(each.calls)]
        if found == first:
            kept.append(each)
        else:
            text = f"expected the calls of {read[0].trace.name} ({_listed(first)}), found others ({_listed(found)}); this trace is left out"
            remarks.append(Remark("left-out", each.trace.name, text))
    return kept, remarks


def _listed(runs: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(" and ".join(names) for names in runs)


# --- the plan


def _proposal(draft: StepDraft, tools: Signatures, remarks: Sequence[Remark]) -> Proposal:
    """Return the plan with all that is said of it.

    Args:
        draft: The steps.
        tools: The tools, for the check.
        remarks: What is already said.

    Raises:
        InputRejected: The plan would hold a secret.
    """
    inputs, traced = draft.known.inputs, draft.traced
    _order_writes(draft.steps)
    plans = cast("Json", draft.plans)
    steps = [cast("Json", made.raw) for made in draft.steps]
    names = inputs.final_names([*steps, plans, draft.output], draft.ids)
    # No text that leaves this module has a secret in it, whatever place it stood at.
    secrets = [*draft.secrets.values(), *inputs.hidden(), *draft.known.secrets]
    words = masked(inputs.template(names), secrets) or "(the trace has no words of a user)"

    def finished(part: Json) -> Json:
        """Return a part of the plan with the words of the task, and with the final names of the inputs."""
        return inputs.renamed(with_texts(part, lambda text: text.replace(TASK, words)), names)

    def named(origin: Origin, place: str) -> Origin:
        """Return an origin with the final names of the inputs."""
        others = [cast("str", inputs.renamed(each, names)) for each in origin.alternatives]
        # Alternatives may name inputs that the plan does not have.
        known = tuple(masked(each, secrets) for each in others if "inputs.in__" not in each)
        template = origin.template if origin.kind == "secret" else inputs.renamed(origin.template, names)
        return replace(origin, place=place, template=template, alternatives=known)

    raw: dict[str, Json] = {"firmplan": 1}
    if inputs.tasks[0]:
        raw["task"] = masked(inputs.pattern(names), secrets)
    if names:
        raw["inputs"] = inputs.declared(names, secrets)
    if plans:
        raw["plans"] = finished(plans)
    raw |= {"steps": finished(steps), "output": finished(draft.output)}
    task = masked(inputs.tasks[0], secrets)
    plan, said = _with_fitting_task(Plan.model_validate(raw), task, names, inputs)
    if holds_secret(plan.to_json(), draft.known.secrets):
        # Of a key of an object, say, which no template can put in: a plan that holds it may not be written.
        raise InputRejected(
            f"{traced[0].trace.name}: expected a plan without secrets, found that it would hold one of the trace at a place that cannot name it, "
            "such as the key of an object; take the secret out of the trace"
        )
    origins = [StepOrigin(made.id, named(each, each.place)) for made in draft.steps for each in made.origins]
    origins += [StepOrigin("", named(each, "output")) for each in draft.output_origins]
    recordings = tuple(
        Recording(
            each.trace.name,
            {name: inputs.get(key).values[trace] for key, name in names.items()},
            tuple(each.calls),
            {
                path: value
                for made in draft.steps
                if made.answers
                for path, value in made.answers[trace].items()
            },
            dict(draft.secrets),
            each.trace.answer if draft.gives_answer else None,
            tuple(secrets),
        )
        for trace, each in enumerate(traced)
    )
    told = [
        replace(each, message=masked(each.message, secrets))
        for each in (*remarks, *said, *_remarks_on(origins, secrets))
    ]
    return Proposal(plan, check(plan, tools), tuple(origins), tuple(told), recordings)


def _order_writes(steps: Sequence[MadeStep]) -> None:
    """Keep the order of writes on different resources, which the effect order leaves free."""
    writes = [made for made in steps if made.is_write]
    for last, made in pairwise(writes):
        one, other = last.calls[0][0], made.calls[0][0]
        is_later = all(
            min(call.traced.turn for call in group) > ready
            for group, ready in zip(made.calls, last.ready, strict=True)
        )
        if is_later and not one.conflicts_with(other) and last.id not in names_in(made.raw):
            rest = {key: each for key, each in made.raw.items() if key != "id"}
            made.raw = {"id": made.raw["id"], **rest, "after": [last.id]}


def _with_fitting_task(
    plan: Plan, words: str, names: Mapping[str, str], inputs: Inputs
) -> tuple[Plan, list[Remark]]:
    """Return the plan with its task as a pattern, where the pattern reads the inputs back from the words; else with the plain words."""
    if plan.task is None or plan.task == words:
        return plan, []
    pattern = TaskPattern.of(plan) if pattern_fault(plan) is None else None
    exact = {name: inputs.get(key).values[0] for key, name in names.items() if f"{{{name}}}" in plan.task}
    if pattern is not None and pattern.match(words) == exact:
        return plan, []
    plain = Plan.model_validate({**plan.to_dict(), "task": words})
    return plain, [
        Remark(
            "trace",
            "task",
            "the words of the task do not distinguish its inputs, so the task of the plan has no placeholders",
        )
    ]


def _remarks_on(origins: Iterable[StepOrigin], secrets: Sequence[str]) -> Iterator[Remark]:
    for each in origins:
        origin, place = each.origin, each.place
        match origin.kind:
            case "unexplained":
                yield Remark("unexplained", place, f"{masked(shown(origin.template), secrets)}: {origin.why}")
            case "secret":
                yield Remark("secret", place, f"{origin.why}: {shown(origin.template)}")
            case "model":
                pass
            case _ if origin.alternatives:
                others = " or ".join(origin.alternatives)
                why = f" ({origin.why})" if origin.why else ""
                yield Remark(
                    "ambiguous",
                    place,
                    f"it may be {masked(shown(origin.template), secrets)}{why}, or {others}; the plan uses the first",
                )
            case _ if origin.why and origin.kind != "constant":
                yield Remark("ambiguous", place, f"{masked(shown(origin.template), secrets)}: {origin.why}")
            case _:
                pass
