"""From traces to a plan: which calls become steps, which repeat over a list, what a model has to be asked, and what the plan gives.

The calls of all traces are laid side by side, as runs of calls of one tool. A run whose arguments walk a list that was known before it becomes one step with
`for_each`; other calls become a step each. Arguments that nothing explains become the answer of an `ask` step. Reads that nothing used are dropped, and
then all is done again without them. The order of the steps is that of the calls. Equal traces give equal plans. Pure: it runs nothing; what it says of a
recorded run (`Recording`) is for the rehearsal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, cast

from ...errors import InputRejected
from ...plans.checker.checker import check
from ...plans.checker.names import derived_id
from ...plans.checker.templates import secret_text
from ...plans.expressions.formula import read_formula
from ...plans.plan import Plan
from ...plans.reports.problems import CheckReport
from ...plans.signature import Signatures, parameter_schema
from ...plans.values import Json, canonical
from ..library.pattern import TaskPattern, pattern_fault
from .calls import Call, Dropped, read_calls
from .inputs import Inputs
from .nesting import nested
from .origins import ANSWER, Candidate, Explained, Explainer, Origin, Wanted, shown
from .places import Case, Place, at
from .questions import TASK, Question, answer_prompt
from .secrecy import holds_secret, masked, secret_name, secrets_in
from .selections import Choice, Known, sublist_codes
from .trace import Trace

RemarkKind: TypeAlias = Literal[
    "dropped", "failed", "unexplained", "ambiguous", "secret", "trace", "left-out"
]

CALLS_MAX: Final = 2_000
"""Calls of one trace."""

LISTS_TRIED_MAX: Final = 8
"""Lists that are tried for one repetition."""

PARTIAL_LOOP_MAX: Final = 30
"""Calls of one tool in a row among which shorter repetitions are looked for too."""

ALTERNATING_MAX: Final = 4
"""Tools that are called in turn for each element of a list."""

PASSES_MAX: Final = 20
"""Rounds in which unused reads are dropped; each drops at least one."""

CONTEXT_MAX: Final = 12
"""Steps whose values an `ask` step is shown."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about the traces that a person should know.

    Attributes:
        kind: What it is.
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


@dataclass(slots=True)
class _Traced:
    """A trace with its calls."""

    trace: Trace
    calls: list[Call]
    dropped: list[Dropped]


def propose(traces: Sequence[Trace], tools: Signatures, *, task: str | None = None) -> Proposal:
    """Return the plan that traces of one task show.

    Args:
        traces: The traces; the first one decides where they differ.
        tools: The tools that they call.
        task: The words of the task, where the traces do not have them; for all traces.

    Raises:
        InputRejected: No call is left of which a plan could be made, or the plan would hold a secret.
    """
    read: list[_Traced] = []
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
        read.append(_without_unused(_Traced(given, calls, dropped)))
    aligned, others = _aligned(read)
    remarks += others
    draft = _Draft(aligned)
    draft.build()
    for each in aligned:
        remarks += [Remark("trace", "", text) for text in each.trace.remarks]
        for gone in each.dropped:
            kind: RemarkKind = "dropped" if gone.is_unused else "failed"
            remarks.append(Remark(kind, gone.traced.place, f"the call of '{gone.traced.tool}' {gone.reason}"))
    return draft.proposal(tools, remarks)


def _without_unused(traced: _Traced) -> _Traced:
    """Return a trace without the reads that nothing used."""
    for _ in range(PASSES_MAX):
        draft = _Draft([traced])
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
        traced = _Traced(
            traced.trace, kept, sorted([*traced.dropped, *gone], key=lambda each: each.traced.index)
        )
    return traced


def _aligned(read: Sequence[_Traced]) -> tuple[list[_Traced], list[Remark]]:
    """Return the traces that did the same steps as the first one."""
    first = [names for names, _ in _runs(read[0].calls)]
    kept, remarks = [read[0]], list[Remark]()
    for each in read[1:]:
        found = [names for names, _ in _runs(each.calls)]
        if found == first:
            kept.append(each)
        else:
            text = f"expected the calls of {read[0].trace.name} ({_listed(first)}), found others ({_listed(found)}); this trace is left out"
            remarks.append(Remark("left-out", each.trace.name, text))
    return kept, remarks


def _listed(runs: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(" and ".join(names) for names in runs)


def _runs(calls: Sequence[Call]) -> list[tuple[tuple[str, ...], list[list[Call]]]]:
    """Return the calls as runs of one tool, or of several in turn (read, write, read, write): the names, and the calls of each."""
    found: list[tuple[tuple[str, ...], list[list[Call]]]] = []
    at_ = 0
    while at_ < len(calls):
        taken = _alternating(calls, at_)
        if taken is None:
            end = next(
                (end for end in range(at_, len(calls)) if calls[end].name != calls[at_].name), len(calls)
            )
            taken = [list(calls[at_:end])]
        found.append((tuple(group[0].name for group in taken), taken))
        at_ += sum(map(len, taken))
    return found


def _alternating(calls: Sequence[Call], start: int) -> list[list[Call]] | None:
    """Return the calls of each of several tools that are called in turn from a place on; `None`: there is one."""
    for width in range(2, ALTERNATING_MAX + 1):
        names = [call.name for call in calls[start : start + width]]
        end = start
        while [call.name for call in calls[end : end + width]] == names:
            end += width
        if len(set(names)) < width or end - start < 2 * width:
            continue
        return [list(calls[start + offset : end : width]) for offset in range(width)]
    return None


def _may_part(groups: Sequence[Sequence[Call]]) -> bool:
    """Whether the calls of each of several tools in turn may be made together: no call passes one whose order to it matters."""
    return not any(
        one.conflicts_with(other)
        for offset, group in enumerate(groups)
        for before in groups[:offset]
        for number, one in enumerate(group)
        for other in before[number + 1 :]
    )


@dataclass(slots=True)
class _Made:
    """A step that is being made.

    Attributes:
        id: Its id.
        raw: The step, as in a plan.
        ready: For each trace, the turn whose calls may not yet use its value.
        values: For each trace, its value.
        calls: For each trace, the calls that it makes.
        origins: Where its arguments come from.
        answers: For each trace, path -> answer, of an `ask` step.
        is_write: Whether it may change the world.
    """

    id: str
    raw: dict[str, Json]
    ready: list[int]
    values: list[Json]
    calls: list[list[Call]]
    origins: list[Origin] = field(default_factory=list[Origin])
    answers: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    is_write: bool = False


@dataclass(slots=True)
class _Loop:
    """A repetition over a list.

    Attributes:
        template: The list.
        items: The elements, for each trace.
        calls: The calls in the order of the elements, for each trace.
        origin: How the list was found.
    """

    template: str
    items: list[list[Json]]
    calls: list[list[Call]]
    origin: Origin


@dataclass(slots=True)
class _Inner:
    """An inner plan that is being made.

    Attributes:
        scopes: For each trace and element, what is known.
        answers: For each trace, path -> what its model made.
        steps: The steps.
        ids: The ids of those that call a tool.
        origins: Where their arguments come from.
    """

    scopes: list[list[dict[str, Json]]]
    answers: list[dict[str, Json]]
    steps: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    ids: list[str] = field(default_factory=list[str])
    origins: list[Origin] = field(default_factory=list[Origin])


class _Draft:
    """A plan that is being learnt from traces that did the same steps."""

    def __init__(self, traced: Sequence[_Traced]) -> None:
        self._traced = traced
        inputs = Inputs([each.trace.task for each in traced])
        calls = [call for each in traced for call in each.calls]
        secrets = {
            secret for call in calls for value in (call.args, call.result) for secret in secrets_in(value)
        }
        self._known = Known(inputs, len(traced), secrets=frozenset(secrets))
        self._explainer = Explainer(self._known, [each.trace.system for each in traced])
        self._steps: list[_Made] = []
        self._secrets: dict[str, str] = {}
        self._output: Json = None
        self._output_origins: list[Origin] = []
        self._gives_answer = False
        self._plans: dict[str, dict[str, Json]] = {}
        self._keeps_order = False
        self._bound: Callable[[Iterable[int]], int] = min
        self._ids: set[str] = set()

    # --- the steps

    def build(self) -> None:
        """Make the steps and the output. Raises: InputRejected: the traces repeat a call in different numbers, over no list that was known."""
        runs = [_runs(each.calls) for each in self._traced]
        for units in zip(*runs, strict=True):
            tools = [[groups[offset] for _, groups in units] for offset in range(len(units[0][0]))]
            if len(tools) == 1:
                self._run(tools[0])
            elif not (
                self._in_turn(tools) if all(_may_part(each) for _, each in units) else self._nested(tools)
            ):
                # In the order of the calls: one of the first tool, one of the second..
                counts = {len(group) for group in tools[0]}
                self._expect_equal(tools[0], counts)
                for number in range(*counts):
                    for groups in tools:
                        self._run([[group[number]] for group in groups])
        self._answer()

    def _in_turn(self, tools: Sequence[Sequence[list[Call]]]) -> bool:
        """Make a repetition of the calls of each of several tools that are called in turn; if one is none, make no step and return False."""
        steps, ids, secrets = len(self._steps), set(self._ids), dict(self._secrets)
        for number, groups in enumerate(tools):
            # What the first tool gave for an element was known when the second was called for it.
            self._bound = max if number else min
            loop = self._loop(groups)
            if loop is not None:
                self._add(loop.calls, loop)
            self._bound = min
            if loop is None:
                del self._steps[steps:]
                self._ids, self._secrets = ids, secrets
                return False
        return True

    def _nested(self, tools: Sequence[Sequence[list[Call]]]) -> bool:
        """Make a repetition of an inner plan that calls several tools in turn; if there is none, make no step and return False."""
        names = [{tuple(sorted(call.args)) for group in groups for call in group} for groups in tools]
        steps, ids, secrets = len(self._steps), set(self._ids), dict(self._secrets)
        self._keeps_order = True
        loop = self._loop(tools[0])
        self._keeps_order = False
        if loop is None or any(len(each) > 1 for each in names):
            return False
        block = self._free_id(f"each_{derived_id(tools[-1][0][0].name)}"[:60])
        if loop.origin.kind == "selection":
            loop = self._with_selection(block, loop)
        base = [
            self._scope(trace, min(call.traced.turn for call in group))
            for trace, group in enumerate(tools[0])
        ]
        scopes = [
            [{"item": item, "index": index, **known} for index, item in enumerate(items)]
            for known, items in zip(base, loop.items, strict=True)
        ]
        inner = _Inner(scopes, [{} for _ in base])
        for groups in tools:
            self._add_inner(inner, block, groups)
        if any("\x00secret" in canonical(step).decode() for step in inner.steps):
            del self._steps[steps:]
            self._ids, self._secrets = ids, secrets
            return False
        made = nested(inner.steps, inner.ids)
        self._plans[block] = made.plan
        values: list[Json] = [[{id_: scope[id_] for id_ in inner.ids} for scope in each] for each in scopes]
        calls = [[call for groups in tools for call in groups[trace]] for trace in range(len(base))]
        raw: dict[str, Json] = {"id": block, "plan": block, "for_each": loop.template, "args": made.args}
        ready = [max(call.traced.turn for call in group) for group in calls]
        origins = [loop.origin, *inner.origins]
        is_write = any(call.is_write for call in calls[0])
        self._steps.append(_Made(block, raw, ready, values, calls, origins, inner.answers, is_write=is_write))
        return True

    def _add_inner(self, inner: _Inner, block: str, groups: Sequence[list[Call]]) -> None:
        """Add the call of one tool, and the question for what nothing explains, to the steps of an inner plan."""
        call = groups[0][0]
        id_ = self._free_id(derived_id(call.name))
        cases = [
            Case(trace, scope, one.args)
            for trace, group in enumerate(groups)
            for scope, one in zip(inner.scopes[trace], group, strict=True)
        ]
        explained = self._explain_arguments(cases, call)
        asked: dict[str, str] = {}
        if explained.wanted:
            question = Question.of(
                self._free_id(Question.wish_for_id(id_, explained.wanted)), call, explained.wanted
            )
            inner.steps.append({"id": question.id, "ask": question.ask(["item", *inner.ids])})
            asked = question.templates(question.id)
            answers = iter(question.answers)
            for trace, each in enumerate(inner.scopes):
                for index, scope in enumerate(each):
                    scope[question.id] = inner.answers[trace][f"{block}[{index}]/{question.id}"] = next(
                        answers
                    )
        inner.steps.append({"id": id_, "tool": call.name, "args": self._filled(explained.template, asked)})
        inner.ids.append(id_)
        inner.origins += [
            replace(each, place=f"{id_}.{each.place}", template=self._filled(each.template, asked))
            for each in explained.origins
        ]
        for each, group in zip(inner.scopes, groups, strict=True):
            for scope, one in zip(each, group, strict=True):
                scope[id_] = one.result

    def _expect_equal(self, groups: Sequence[list[Call]], counts: set[int]) -> None:
        """Raise `InputRejected` unless all traces make the same number of calls."""
        if len(counts) > 1:
            numbers = ", ".join(
                f"{each.trace.name}: {len(group)}" for each, group in zip(self._traced, groups, strict=True)
            )
            raise InputRejected(
                f"the traces call '{groups[0][0].name}' in different numbers ({numbers}), over no list that was known before; give traces that "
                "agree, or one alone"
            )

    def _run(self, groups: Sequence[list[Call]]) -> None:
        """Make the steps of a run of calls of one tool: `groups` has it of each trace."""
        counts = {len(group) for group in groups}
        if counts != {1} and (loop := self._loop(groups)) is not None:
            self._add(loop.calls, loop)
            return
        self._expect_equal(groups, counts)
        (count,) = counts
        at_ = 0
        while at_ < count:
            taken = self._part(groups, at_, count) if count <= PARTIAL_LOOP_MAX else None
            if taken is None:
                self._add([[group[at_]] for group in groups], None)
                at_ += 1
            else:
                loop, length = taken
                self._add(loop.calls, loop)
                at_ += length

    def _part(self, groups: Sequence[list[Call]], start: int, count: int) -> tuple[_Loop, int] | None:
        """Return the longest repetition that begins at a call and is not the whole run, with its length."""
        for end in range(count, start + 1, -1):
            if (
                (start, end) != (0, count)
                and end - start > 1
                and (loop := self._loop([group[start:end] for group in groups])) is not None
            ):
                return loop, end - start
        return None

    def _scope(self, trace: int, turn: int) -> dict[str, Json]:
        """Return what was known in a trace before a turn."""
        known = {made.id: made.values[trace] for made in self._steps if made.ready[trace] < turn}
        return {**known, "inputs": cast("Json", self._known.inputs.scopes[trace])}

    def _add(self, calls: list[list[Call]], loop: _Loop | None) -> None:
        """Add the step of some calls: one call of each trace, or the calls of a repetition."""
        tool = calls[0][0]
        id_ = self._free_id(derived_id(tool.name))
        if loop is not None and loop.origin.kind == "selection":
            loop = self._with_selection(id_, loop)
        explained = self._arguments(calls, loop)
        asked = self._ask(id_, explained.wanted, calls, loop)
        args = self._filled(explained.template, asked)
        raw: dict[str, Json] = {"id": id_, "tool": tool.name}
        if loop is not None:
            raw["for_each"] = loop.template
        if args:
            raw["args"] = args
        results = [[call.result for call in group] for group in calls]
        made = _Made(
            id_,
            raw,
            [max(call.traced.turn for call in group) for group in calls],
            [cast("Json", each) for each in results] if loop is not None else [each[0] for each in results],
            calls,
            [
                *([loop.origin] if loop is not None else []),
                *(replace(each, template=self._filled(each.template, asked)) for each in explained.origins),
            ],
            is_write=tool.is_write,
        )
        self._steps.append(made)

    def _with_selection(self, id_: str, loop: _Loop) -> _Loop:
        """Add the step that selects the elements, and return the repetition over its value: sums and counts may be of these elements."""
        set_id = self._free_id(f"{id_}_items"[:60])
        # It computes from what was known, so that its value is known as early.
        ready = [min(call.traced.turn for call in group) - 1 for group in loop.calls]
        origin = replace(loop.origin, place="set")
        raw: dict[str, Json] = {"id": set_id, "set": loop.template}
        values = [cast("Json", items) for items in loop.items]
        self._steps.append(_Made(set_id, raw, ready, values, [[] for _ in loop.calls], [origin]))
        template = f"${{{set_id}}}"
        return replace(loop, template=template, origin=Origin("for_each", "result", template))

    def _arguments(self, calls: Sequence[Sequence[Call]], loop: _Loop | None) -> Explained:
        """Return the arguments of a step, explained."""
        cases: list[Case] = []
        for trace, group in enumerate(calls):
            scope = self._scope(trace, self._bound(call.traced.turn for call in group))
            for index, call in enumerate(group):
                inner = scope if loop is None else {"item": loop.items[trace][index], "index": index, **scope}
                cases.append(Case(trace, inner, call.args))
        return self._explain_arguments(cases, calls[0][0])

    def _explain_arguments(self, cases: Sequence[Case], call: Call) -> Explained:
        made = Explained({})
        given = [cast("dict[str, Json]", case.value) for case in cases]
        for name in dict.fromkeys(name for args in given for name in args):
            schema: Mapping[str, Json] = (
                parameter_schema(call.tool.parameters, name) if call.tool is not None else {}
            )
            if not all(name in args for args in given):
                # A call without an argument has its default; there is no expression for "not given".
                if "default" not in schema:
                    raise InputRejected(
                        f"{call.traced.place}: the traces call '{call.name}' with and without the argument '{name}', which has no default; give traces "
                        "that agree, or one alone"
                    )
                cases = [
                    replace(case, value={name: schema["default"], **args})
                    for case, args in zip(cases, given, strict=True)
                ]
                given = [cast("dict[str, Json]", case.value) for case in cases]
            part = self._explainer.explain([case.part(name) for case in cases], name, schema)
            cast("dict[str, Json]", made.template)[name] = part.template
            made.origins += part.origins
            made.wanted += part.wanted
            made.secrets |= part.secrets
        for place, value in made.secrets.items():
            self._keep_secret(made, place, value)
        return made

    def _keep_secret(self, made: Explained, place: str, value: str) -> None:
        """Put the name of a secret in its place, where a plan may name one: a whole argument. Elsewhere it becomes an input without a default."""
        known = next((name for name, each in self._secrets.items() if each == value), None)
        name = known or secret_name(re.sub(r".*[.\[]", "", place).strip(']"'), self._secrets)
        self._secrets[name] = value
        template: Json = secret_text(name)
        marker = f"\x00secret:{place}\x00"
        args = cast("dict[str, Json]", made.template)
        if args.get(place) != marker:
            code = self._known.inputs.secret([value] * len(self._traced), name)
            template = f"${{{code}}}"
        made.template = _replaced(made.template, {marker: template})
        made.origins = [
            replace(each, template=template) if each.template == marker else each for each in made.origins
        ]

    def _free_id(self, base: str) -> str:
        number, name = 1, base
        while name in self._ids:
            number += 1
            name = f"{base}_{number}"
        self._ids.add(name)
        return name

    # --- repetitions

    def _loop(self, groups: Sequence[Sequence[Call]]) -> _Loop | None:
        """Return the repetition that some calls of one tool are; `None`: they walk no list that was known before."""
        names = {tuple(sorted(call.args)) for group in groups for call in group}
        if len(names) != 1 or () in names:
            return None
        scopes = [
            self._scope(trace, self._bound(call.traced.turn for call in group))
            for trace, group in enumerate(groups)
        ]
        best: tuple[tuple[int, ...], _Loop] | None = None
        tried = 0
        first = max(range(len(groups)), key=lambda trace: len(groups[trace]))
        for source, _ in self._known.indexes.lists(scopes[first]):
            choices = [self._walk(group, scope, source) for group, scope in zip(groups, scopes, strict=True)]
            if any(choice is None for choice in choices):
                continue
            walked = cast("list[tuple[Choice, list[Call]]]", choices)
            found = self._list_of(source, [choice for choice, _ in walked])
            if found is None:
                continue
            items = [[choice.elements[number] for number in choice.chosen] for choice, _ in walked]
            loop = _Loop(
                str(found.template),
                items,
                [calls for _, calls in walked],
                Origin("for_each", _list_kind(found), found.template, found.why),
            )
            explained = self._arguments(loop.calls, loop)
            if not any(_uses_item(each.template) for each in explained.origins):
                continue
            rank = (
                len(explained.wanted),
                sum(each.kind == "unexplained" for each in explained.origins),
                -sum(_uses_item(each.template) for each in explained.origins),
                *found.rank,
            )
            if best is None or rank < best[0]:
                best = (rank, loop)
            tried += 1
            if tried >= LISTS_TRIED_MAX:
                break
        return best[1] if best is not None else None

    def _walk(
        self, group: Sequence[Call], scope: Mapping[str, Json], source: Place
    ) -> tuple[Choice, list[Call]] | None:
        """Return which elements of a list some calls are about, and the calls in the order of the elements where that is free."""
        try:
            elements = at(scope[source.root], source.steps)
        except (KeyError, IndexError, TypeError):
            return None
        if not isinstance(elements, list) or len(elements) < len(group):
            return None
        keys = [_keys_of(each) for each in elements]
        # What all calls have in common says nothing about the element of one.
        common = (
            set[bytes].intersection(*(_leaves(call.args) for call in group))
            if len(group) > 1
            else set[bytes]()
        )
        chosen: list[int] = []
        left = list(range(len(elements)))
        for call in group:
            wanted = _leaves(call.args) - common
            number = next((each for each in left if wanted & keys[each]), None)
            if number is None:
                return None
            chosen.append(number)
            left.remove(number)
        pairs = list(zip(chosen, group, strict=True))
        if not any(call.is_write for call in group) and not self._keeps_order:
            # Reads of one list may be made in any order.
            pairs.sort(key=lambda each: each[0])
        return Choice(scope, elements, [number for number, _ in pairs]), [call for _, call in pairs]

    def _list_of(self, source: Place, choices: Sequence[Choice]) -> Candidate | None:
        """Return the expression of the elements that are walked."""
        cases = [
            Case(trace, choice.scope, [choice.elements[number] for number in choice.chosen])
            for trace, choice in enumerate(choices)
        ]
        made = [
            Candidate((cost, order), f"${{{code}}}", "result" if code == source.code else "selection", why)
            for order, (code, cost, why) in enumerate(sublist_codes(self._known, source, choices))
        ]
        holding = [each for each in made if self._explainer.holds(each.template, cases)]
        return min(holding, key=lambda each: each.rank, default=None)

    # --- what a model makes

    def _ask(
        self, id_: str, wanted: Sequence[Wanted], calls: Sequence[Sequence[Call]], loop: _Loop | None
    ) -> dict[str, str]:
        """Add the `ask` step that makes what nothing explains, and return marker -> template."""
        if not wanted:
            return {}
        question = Question.of(self._free_id(Question.wish_for_id(id_, wanted)), calls[0][0], wanted)
        turns = [self._bound(each.traced.turn for each in group) for group in calls]
        seen = self._context(turns, wanted)
        values: list[Json] = []
        answers: list[dict[str, Json]] = []
        left = question.answers
        for group in calls:
            made, left = left[: len(group)], left[len(group) :]
            values.append(made if loop is not None else made[0])
            paths = [
                f"{question.id}[{number}]" if loop is not None else question.id for number in range(len(made))
            ]
            answers.append(dict(zip(paths, made, strict=True)))
        raw: dict[str, Json] = {"id": question.id}
        if loop is not None:
            raw["for_each"] = loop.template
            seen = [*seen, "item"]
        raw["ask"] = question.ask(seen)
        self._steps.append(_Made(question.id, raw, turns, values, [[] for _ in calls], answers=answers))
        return question.templates(f"{question.id}[index]" if loop is not None else question.id)

    def _context(self, turns: Sequence[int], wanted: Sequence[Wanted]) -> list[str]:
        """Return the steps whose values a model could have used for what it made: those that share words with it, else all that it saw."""
        visible = [
            made
            for made in self._steps
            if all(ready < turn for ready, turn in zip(made.ready, turns, strict=True))
        ]
        said = _words_of([value for each in wanted for value in each.values])
        sharing = [
            made
            for made in visible
            if _words_of(made.values) - _words_of([call.args for group in made.calls for call in group])
            & said
        ]
        telling = [
            made
            for made in sharing
            if (_words_of(made.values) - _words_of([call.args for group in made.calls for call in group]))
            & said
        ]
        return [made.id for made in (telling or visible)][-CONTEXT_MAX:]

    def _filled(self, template: Json, asked: Mapping[str, str]) -> Json:
        return _replaced(template, asked)

    # --- the output

    def _answer(self) -> None:
        """Make the output of what the agent said at the end."""
        answers = [each.trace.answer for each in self._traced]
        last = [max((call.traced.turn for call in each.calls), default=-1) + 1 for each in self._traced]
        self._gives_answer = all(answer is not None for answer in answers)
        if not self._gives_answer:
            self._output = f"${{{self._steps[-1].id}}}"
            return
        cases = [
            Case(trace, self._scope(trace, turn), answer)
            for trace, (turn, answer) in enumerate(zip(last, answers, strict=True))
        ]
        explained = self._explainer.explain(cases, ANSWER, {"type": "string"})
        if explained.secrets:
            self._gives_answer = False
            explained = Explained(f"${{{self._steps[-1].id}}}", [])
        self._output = explained.template
        self._output_origins = [
            replace(each, kind="constant", why="") if each.kind == "unexplained" else each
            for each in explained.origins
        ]
        if explained.wanted:
            id_ = self._free_id(ANSWER)
            seen = self._context(last, explained.wanted)
            raw: dict[str, Json] = {"id": id_, "ask": cast("Json", dict(answer_prompt(seen)))}
            self._steps.append(
                _Made(
                    id_,
                    raw,
                    last,
                    list(answers),
                    [[] for _ in answers],
                    answers=[{id_: answer} for answer in answers],
                )
            )
            filled = {explained.wanted[0].marker: f"${{{id_}}}"}
            self._output = _replaced(explained.template, filled)
            self._output_origins = [
                replace(each, template=_replaced(each.template, filled)) for each in explained.origins
            ]

    # --- what was for nothing

    def unused(self) -> set[int]:
        """Return the numbers of the calls of the one trace that changed nothing and that nothing used."""
        refers = {made.id: _names(made.raw) for made in self._steps}
        live = {made.id for made in self._steps if made.is_write} | _names({"output": self._output})
        todo = sorted(live)
        while todo:
            for name in sorted(refers.get(todo.pop(), set())):
                if name not in live:
                    live.add(name)
                    todo.append(name)
        gone = [made for made in self._steps if made.id not in live and not made.is_write]
        return {call.traced.index for made in gone for group in made.calls for call in group}

    # --- the plan

    def proposal(self, tools: Signatures, remarks: Sequence[Remark]) -> Proposal:
        """Return the plan with all that is said of it.

        Args:
            tools: The tools, for the check.
            remarks: What is already said.

        Raises:
            InputRejected: The plan would hold a secret.
        """
        inputs = self._known.inputs
        self._order_writes()
        plans = {
            name: each for name, each in self._plans.items() if name in {made.id for made in self._steps}
        }
        parts: list[Json] = [
            *(cast("Json", made.raw) for made in self._steps),
            cast("Json", plans),
            self._output,
        ]
        names = inputs.final_names(parts, [*self._ids])
        secrets = self._hidden()
        words = masked(inputs.template(names), secrets)
        marker = {TASK: words or "(the trace has no words of a user)"}
        raw: dict[str, Json] = {"firmplan": 1}
        if inputs.tasks[0]:
            raw["task"] = masked(inputs.pattern(names), secrets)
        if names:
            raw["inputs"] = inputs.declared(names, secrets)
        steps = [
            cast("dict[str, Json]", inputs.renamed(_replaced_inside(cast("Json", made.raw), marker), names))
            for made in self._steps
        ]
        if plans:
            raw["plans"] = inputs.renamed(_replaced_inside(cast("Json", plans), marker), names)
        raw["steps"] = cast("Json", steps)
        raw["output"] = inputs.renamed(self._output, names)
        plan, said = _with_fitting_task(
            Plan.model_validate(raw), masked(inputs.tasks[0], secrets), names, inputs
        )
        if holds_secret(plan.to_json(), self._known.secrets):
            # Of a key of an object, say, which no template can put in: a plan that holds it may not be written.
            raise InputRejected(
                f"{self._traced[0].trace.name}: expected a plan without secrets, found that it would hold one of the trace at a place that cannot name it, "
                "such as the key of an object; take the secret out of the trace"
            )
        origins = [
            StepOrigin(made.id, self._named(each, names)) for made in self._steps for each in made.origins
        ]
        origins += [
            StepOrigin("", self._named(replace(each, place="output"), names)) for each in self._output_origins
        ]
        recordings = tuple(
            Recording(
                each.trace.name,
                {name: inputs.get(key).values[trace] for key, name in names.items()},
                tuple(call for call in each.calls),
                {
                    path: value
                    for made in self._steps
                    for path, value in (made.answers[trace] if made.answers else {}).items()
                },
                dict(self._secrets),
                each.trace.answer if self._gives_answer else None,
                tuple(secrets),
            )
            for trace, each in enumerate(self._traced)
        )
        told = [*remarks, *said, *_remarks_on(origins, secrets)]
        told = [replace(each, message=masked(each.message, secrets)) for each in told]
        return Proposal(plan, check(plan, tools), tuple(origins), tuple(told), recordings)

    def _hidden(self) -> list[str]:
        """Return the secrets, which stand in no text."""
        return [*self._secrets.values(), *self._known.inputs.hidden(), *self._known.secrets]

    def _named(self, origin: Origin, names: Mapping[str, str]) -> Origin:
        renamed = self._known.inputs.renamed
        others = tuple(cast("str", renamed(each, names)) for each in origin.alternatives)
        # Alternatives may name inputs that the plan does not have.
        others = tuple(each for each in others if "inputs.in__" not in each)
        secrets = self._hidden()
        template = origin.template if origin.kind == "secret" else renamed(origin.template, names)
        return replace(
            origin, template=template, alternatives=tuple(masked(each, secrets) for each in others)
        )

    def _order_writes(self) -> None:
        """Keep the order of writes on different resources, which the effect order leaves free."""
        last: _Made | None = None
        for made in self._steps:
            if not made.is_write:
                continue
            if last is not None:
                one, other = last.calls[0][0], made.calls[0][0]
                is_later = all(
                    min(call.traced.turn for call in group) > ready
                    for group, ready in zip(made.calls, last.ready, strict=True)
                )
                if is_later and not one.conflicts_with(other) and last.id not in _names(made.raw):
                    made.raw = {
                        "id": made.raw["id"],
                        **{key: each for key, each in made.raw.items() if key != "id"},
                        "after": [last.id],
                    }
            last = made


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
        origin = each.origin
        place = f"{each.step}.{origin.place}" if each.step else origin.place
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


def _list_kind(found: Candidate) -> Literal["selection", "result"]:
    return "selection" if found.kind == "selection" else "result"


def _uses_item(template: Json) -> bool:
    return "item" in _names({"value": template})


def _names(raw: Mapping[str, Json]) -> set[str]:
    """Return the names that the templates of a step use."""
    return set(
        read_formula(
            cast("Json", {key: each for key, each in raw.items() if key not in ("id", "tool", "after")})
        )[0].names
    )


def _replaced(template: Json, texts: Mapping[str, Json]) -> Json:
    """Return a template with parts in the place of markers."""
    match template:
        case str():
            return texts.get(template, template)
        case list():
            return [_replaced(each, texts) for each in template]
        case dict():
            return {key: _replaced(each, texts) for key, each in template.items()}
        case _:
            return template


def _replaced_inside(part: Json, texts: Mapping[str, str]) -> Json:
    """Return a part of a plan with texts in the place of markers inside its texts."""
    match part:
        case str():
            for marker, text in texts.items():
                part = part.replace(marker, text)
            return part
        case list():
            return [_replaced_inside(each, texts) for each in part]
        case dict():
            return {key: _replaced_inside(each, texts) for key, each in part.items()}
        case _:
            return part


def _leaves(value: Json) -> set[bytes]:
    """Return the scalars in a value, as canonical bytes."""
    found: set[bytes] = set()
    parts = [value]
    while parts:
        match parts.pop():
            case list() as items:
                parts += items
            case dict() as fields:
                parts += fields.values()
            case scalar:
                found.add(canonical(scalar))
    return found


def _keys_of(element: Json) -> set[bytes]:
    """Return the scalars of an element by which a call may be about it."""
    return _leaves(element) - {b"null", b"true", b"false", b'""'}


_WORD: Final = re.compile(r"[^\W_]{4,}|\d[\d.,]*\d")


def _words_of(value: object) -> set[str]:
    """Return the words and numbers in a value that are long enough to say something."""
    return {found.casefold() for found in _WORD.findall(str(value))}
