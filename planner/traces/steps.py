"""From calls to steps: which calls become steps, which repeat over a list, what a model has to be asked, and what the plan gives.

The calls of all traces are laid side by side, as runs of calls of one tool. A run whose arguments walk a list that was known before becomes one step with
`for_each`; other calls become a step each. Arguments that nothing explains become the answer of an `ask` step. The order of the steps is that of the calls.
Names of inputs, and the words of the task in prompts, are placeholders until `learning.py` makes the plan. Equal traces give equal steps. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from ...errors import InputRejected
from ...plans.checker.names import derived_id, numbered
from ...plans.checker.templates import secret_text
from ...plans.edit.renaming import rename_step
from ...plans.expressions.formula import read_formula
from ...plans.signature import parameter_schema
from ...plans.values import Json, canonical, with_texts
from .calls import Call, Dropped
from .inputs import Inputs
from .origins import ANSWER, Candidate, Explained, Explainer, Origin, Wanted
from .places import Case, Place, list_at
from .questions import TASK, Question, answer_prompt
from .secrecy import secret_name, secrets_in
from .selections import Choice, Known, sublist_codes
from .trace import Trace

LISTS_TRIED_MAX: Final = 8
"""Lists that are tried for one repetition."""

PARTIAL_LOOP_MAX: Final = 30
"""Calls of one tool in a row among which shorter repetitions are looked for too."""

ALTERNATING_MAX: Final = 4
"""Tools that are called in turn for each element of a list."""

CONTEXT_MAX: Final = 12
"""Steps whose values an `ask` step is shown."""


@dataclass(slots=True)
class TracedCalls:
    """A trace with its calls."""

    trace: Trace
    calls: list[Call]
    dropped: list[Dropped]


def runs_of(calls: Sequence[Call]) -> list[tuple[tuple[str, ...], list[list[Call]]]]:
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
class MadeStep:
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


class StepDraft:
    """The steps that are being learnt from traces that did the same.

    Attributes:
        traced: The traces.
        known: What expressions may refer to, with the inputs so far.
        steps: The steps, in the order of the calls.
        plans: The inner plans, by name.
        output: What the plan gives.
        output_origins: Where that comes from.
        gives_answer: Whether that is what the agents said at the end.
        secrets: Name -> value of the secrets that the plan names.
        ids: The ids that are taken.
    """

    def __init__(self, traced: Sequence[TracedCalls]) -> None:
        self.traced = traced
        inputs = Inputs([each.trace.task for each in traced])
        calls = [call for each in traced for call in each.calls]
        secrets = {
            secret for call in calls for value in (call.args, call.result) for secret in secrets_in(value)
        }
        self.known = Known(inputs, len(traced), secrets=frozenset(secrets))
        self._explainer = Explainer(self.known, [each.trace.system for each in traced])
        self.steps: list[MadeStep] = []
        self.secrets: dict[str, str] = {}
        self.output: Json = None
        self.output_origins: list[Origin] = []
        self.gives_answer = False
        self.plans: dict[str, dict[str, Json]] = {}
        self._keeps_order = False
        self._bound: Callable[[Iterable[int]], int] = min
        self.ids: set[str] = set()

    # --- the steps

    def build(self) -> None:
        """Make the steps and the output. Raises: InputRejected: the traces repeat a call in different numbers, over no list that was known."""
        runs = [runs_of(each.calls) for each in self.traced]
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
        count, ids, secrets = len(self.steps), set(self.ids), dict(self.secrets)
        for number, groups in enumerate(tools):
            # What the first tool gave for an element was known when the second was called for it.
            self._bound = max if number else min
            loop = self._loop(groups)
            if loop is not None:
                self._add(loop.calls, loop)
            self._bound = min
            if loop is None:
                # The tools before it repeat over the list, and this one does not: what they have added goes.
                del self.steps[count:]
                self.ids, self.secrets = ids, secrets
                return False
        return True

    def _nested(self, tools: Sequence[Sequence[list[Call]]]) -> bool:
        """Make a repetition of an inner plan that calls several tools in turn; if there is none, make no step and return False."""
        names = [{tuple(sorted(call.args)) for group in groups for call in group} for groups in tools]
        if any(len(each) > 1 for each in names):
            return False
        self._keeps_order = True
        loop = self._loop(tools[0])
        self._keeps_order = False
        if loop is None:
            return False
        block = self._free_id(f"each_{derived_id(tools[-1][0][0].name)}"[:60])
        if loop.origin.kind == "selection":
            loop = self._with_selection(block, loop)
        base = self._scopes(tools[0])
        scopes = [
            [{"item": item, "index": index, **known} for index, item in enumerate(items)]
            for known, items in zip(base, loop.items, strict=True)
        ]
        inner = _Inner(scopes, [{} for _ in base])
        for groups in tools:
            self._add_inner(inner, block, groups)
        self.plans[block], args = _inner_plan(inner.steps, inner.ids)
        values: list[Json] = [[{id_: scope[id_] for id_ in inner.ids} for scope in each] for each in scopes]
        calls = [[call for groups in tools for call in groups[trace]] for trace in range(len(base))]
        raw: dict[str, Json] = {"id": block, "plan": block, "for_each": loop.template, "args": args}
        ready = [max(call.traced.turn for call in group) for group in calls]
        origins = [loop.origin, *inner.origins]
        is_write = any(call.is_write for call in calls[0])
        self.steps.append(
            MadeStep(block, raw, ready, values, calls, origins, inner.answers, is_write=is_write)
        )
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
            for each, told in zip(inner.scopes, inner.answers, strict=True):
                for index, scope in enumerate(each):
                    scope[question.id] = told[f"{block}[{index}]/{question.id}"] = next(answers)
        inner.steps.append({"id": id_, "tool": call.name, "args": replaced(explained.template, asked)})
        inner.ids.append(id_)
        inner.origins += [
            replace(each, place=f"{id_}.{each.place}", template=replaced(each.template, asked))
            for each in explained.origins
        ]
        for each, group in zip(inner.scopes, groups, strict=True):
            for scope, one in zip(each, group, strict=True):
                scope[id_] = one.result

    def _expect_equal(self, groups: Sequence[list[Call]], counts: set[int]) -> None:
        """Raise `InputRejected` unless all traces make the same number of calls."""
        if len(counts) > 1:
            numbers = ", ".join(
                f"{each.trace.name}: {len(group)}" for each, group in zip(self.traced, groups, strict=True)
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

    def _scopes(self, groups: Sequence[Sequence[Call]]) -> list[dict[str, Json]]:
        """Return what was known in each trace when it made its calls of a group."""
        return [
            self._scope(trace, self._bound(call.traced.turn for call in group))
            for trace, group in enumerate(groups)
        ]

    def _scope(self, trace: int, turn: int) -> dict[str, Json]:
        """Return what was known in a trace before a turn."""
        # Calls of one turn were made together: none of them knew the result of another.
        known = {made.id: made.values[trace] for made in self.steps if made.ready[trace] < turn}
        return {**known, "inputs": cast("Json", self.known.inputs.scopes[trace])}

    def _add(self, calls: list[list[Call]], loop: _Loop | None) -> None:
        """Add the step of some calls: one call of each trace, or the calls of a repetition."""
        tool = calls[0][0]
        id_ = self._free_id(derived_id(tool.name))
        if loop is not None and loop.origin.kind == "selection":
            loop = self._with_selection(id_, loop)
        explained = self._arguments(calls, loop)
        asked = self._ask(id_, explained.wanted, calls, loop)
        args = replaced(explained.template, asked)
        raw: dict[str, Json] = {"id": id_, "tool": tool.name}
        if loop is not None:
            raw["for_each"] = loop.template
        if args:
            raw["args"] = args
        results = [[call.result for call in group] for group in calls]
        made = MadeStep(
            id_,
            raw,
            [max(call.traced.turn for call in group) for group in calls],
            [each if loop is not None else each[0] for each in results],
            calls,
            [
                *([loop.origin] if loop is not None else []),
                *(replace(each, template=replaced(each.template, asked)) for each in explained.origins),
            ],
            is_write=tool.is_write,
        )
        self.steps.append(made)

    def _with_selection(self, id_: str, loop: _Loop) -> _Loop:
        """Add the step that selects the elements, and return the repetition over its value: sums and counts may be of these elements."""
        set_id = self._free_id(f"{id_}_items"[:60])
        # It computes from what was known, so that its value is known as early.
        ready = [min(call.traced.turn for call in group) - 1 for group in loop.calls]
        origin = replace(loop.origin, place="set")
        raw: dict[str, Json] = {"id": set_id, "set": loop.template}
        values = [cast("Json", items) for items in loop.items]
        self.steps.append(MadeStep(set_id, raw, ready, values, [[] for _ in loop.calls], [origin]))
        template = f"${{{set_id}}}"
        return replace(loop, template=template, origin=Origin("for_each", "result", template))

    def _arguments(self, calls: Sequence[Sequence[Call]], loop: _Loop | None) -> Explained:
        """Return the arguments of a step, explained."""
        cases: list[Case] = []
        for trace, (scope, group) in enumerate(zip(self._scopes(calls), calls, strict=True)):
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
            made.add(part)
        for place, value in made.secrets.items():
            self._keep_secret(made, place, value)
        return made

    def _keep_secret(self, made: Explained, place: str, value: str) -> None:
        """Put the name of a secret in its place, where a plan may name one: a whole argument. Elsewhere it becomes an input without a default."""
        known = next((name for name, each in self.secrets.items() if each == value), None)
        name = known or secret_name(re.sub(r".*[.\[]", "", place).strip(']"'), self.secrets)
        self.secrets[name] = value
        template: Json = secret_text(name)
        marker = f"\x00secret:{place}\x00"
        args = cast("dict[str, Json]", made.template)
        if args.get(place) != marker:
            code = self.known.inputs.secret([value] * len(self.traced), name)
            template = f"${{{code}}}"
        made.template = replaced(made.template, {marker: template})
        made.origins = [
            replace(each, template=template) if each.template == marker else each for each in made.origins
        ]

    def _free_id(self, base: str) -> str:
        name = numbered(base, self.ids)
        self.ids.add(name)
        return name

    # --- repetitions

    def _loop(self, groups: Sequence[Sequence[Call]]) -> _Loop | None:
        """Return the repetition that some calls of one tool are; `None`: they walk no list that was known before."""
        names = {tuple(sorted(call.args)) for group in groups for call in group}
        if len(names) != 1 or () in names:
            return None
        scopes = self._scopes(groups)
        best: tuple[tuple[int, ...], _Loop] | None = None
        tried = 0
        # The trace with the most calls decides which lists are tried: a list that is too short there is the wrong one.
        first = max(range(len(groups)), key=lambda trace: len(groups[trace]))
        for source, _ in self.known.indexes.lists(scopes[first]):
            walked = [
                walk
                for group, scope in zip(groups, scopes, strict=True)
                if (walk := self._walk(group, scope, source)) is not None
            ]
            found = (
                self._list_of(source, [choice for choice, _ in walked])
                if len(walked) == len(groups)
                else None
            )
            if found is None:
                continue
            items = [[choice.elements[number] for number in choice.chosen] for choice, _ in walked]
            loop = _Loop(
                str(found.template),
                items,
                [calls for _, calls in walked],
                Origin("for_each", found.kind, found.template, found.why),
            )
            explained = self._arguments(loop.calls, loop)
            if not any(_uses_item(each.template) for each in explained.origins):
                continue
            # The better loop leaves less to a model, then less unexplained, and then explains more by its item.
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
        elements = list_at(scope, source)
        if len(elements) < len(group):
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
        # Each call takes the first element that is left and shares a value with it, so that no element is used twice.
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
            for order, (code, cost, why) in enumerate(sublist_codes(self.known, source, choices))
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
        self.steps.append(MadeStep(question.id, raw, turns, values, [[] for _ in calls], answers=answers))
        return question.templates(f"{question.id}[index]" if loop is not None else question.id)

    def _context(self, turns: Sequence[int], wanted: Sequence[Wanted]) -> list[str]:
        """Return the steps whose values a model could have used for what it made: those that share words with it, else all that it saw."""
        visible = [
            made
            for made in self.steps
            if all(ready < turn for ready, turn in zip(made.ready, turns, strict=True))
        ]
        said = _words_of([value for each in wanted for value in each.values])
        # The words of its arguments are none that a step has told.
        telling = [
            made
            for made in visible
            if (_words_of(made.values) - _words_of([call.args for group in made.calls for call in group]))
            & said
        ]
        return [made.id for made in (telling or visible)][-CONTEXT_MAX:]

    # --- the output

    def _answer(self) -> None:
        """Make the output of what the agent said at the end."""
        answers = [each.trace.answer for each in self.traced]
        last = [max((call.traced.turn for call in each.calls), default=-1) + 1 for each in self.traced]
        self.gives_answer = all(answer is not None for answer in answers)
        if not self.gives_answer:
            self.output = f"${{{self.steps[-1].id}}}"
            return
        cases = [
            Case(trace, self._scope(trace, turn), answer)
            for trace, (turn, answer) in enumerate(zip(last, answers, strict=True))
        ]
        explained = self._explainer.explain(cases, ANSWER, {"type": "string"})
        if explained.secrets:
            self.gives_answer = False
            explained = Explained(f"${{{self.steps[-1].id}}}", [])
        self.output = explained.template
        self.output_origins = [
            replace(each, kind="constant", why="") if each.kind == "unexplained" else each
            for each in explained.origins
        ]
        if explained.wanted:
            id_ = self._free_id(ANSWER)
            seen = self._context(last, explained.wanted)
            raw: dict[str, Json] = {"id": id_, "ask": cast("Json", dict(answer_prompt(seen)))}
            self.steps.append(
                MadeStep(
                    id_,
                    raw,
                    last,
                    list(answers),
                    [[] for _ in answers],
                    answers=[{id_: answer} for answer in answers],
                )
            )
            filled = {explained.wanted[0].marker: f"${{{id_}}}"}
            self.output = replaced(explained.template, filled)
            self.output_origins = [
                replace(each, template=replaced(each.template, filled)) for each in explained.origins
            ]

    # --- what was for nothing

    def unused(self) -> set[int]:
        """Return the numbers of the calls of the one trace that changed nothing and that nothing used."""
        refers = {made.id: names_in(made.raw) for made in self.steps}
        live = {made.id for made in self.steps if made.is_write} | names_in({"output": self.output})
        todo = sorted(live)
        while todo:
            for name in sorted(refers.get(todo.pop(), set())):
                if name not in live:
                    live.add(name)
                    todo.append(name)
        gone = [made for made in self.steps if made.id not in live and not made.is_write]
        gone = [made for made in self.steps if made.id not in live and not made.is_write]
        return {call.traced.index for made in gone for group in made.calls for call in group}


def _uses_item(template: Json) -> bool:
    return "item" in names_in({"value": template})


def names_in(raw: Mapping[str, Json]) -> set[str]:
    """Return the names that the templates of a step use."""
    return set(
        read_formula(
            cast("Json", {key: each for key, each in raw.items() if key not in ("id", "tool", "after")})
        )[0].names
    )


def replaced(template: Json, texts: Mapping[str, Json]) -> Json:
    """Return a template with parts in the place of markers."""
    return with_texts(template, lambda text: texts.get(text, text))


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


# --- Steps as an inner plan. They are found with the names of the outer plan in scope, and an inner plan sees none of them: each outer name that they
# use becomes an input of the inner plan, and the step that runs it hands the value over.

_OUTER: Final = "outer__"
_TASK_INPUT: Final = "task_words"
_OWN_NAMES: Final = {"item": "element", "index": "position"}
"""Names of a loop, which mean something else in an inner plan, and the inputs that have their values."""


def _inner_plan(
    steps: Sequence[Mapping[str, Json]], ids: Sequence[str]
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return steps as an inner plan whose output has the value of each step, by its id; and the arguments that the step which runs it hands over.

    Args:
        steps: The steps, with outer names in their templates.
        ids: The ids of the steps whose values are the output.
    """
    body: dict[str, Any] = {
        "steps": json.loads(json.dumps(steps)),
        "output": {id_: f"${{{id_}}}" for id_ in ids},
    }
    formula, _ = read_formula([dict(step) for step in steps])
    own = {str(step["id"]) for step in steps}
    outer = sorted(formula.names - own - {"inputs"})
    names = {name: _OWN_NAMES.get(name, name) for name in outer}
    for name in outer:
        rename_step(body, name, f"{_OUTER}{name}")
    handed = {f"{_OUTER}{name}": f"inputs.{inner}" for name, inner in names.items()}
    args: dict[str, Json] = {inner: f"${{{name}}}" for name, inner in names.items()}
    args |= {name: f"${{inputs.{name}}}" for name in sorted(formula.inputs)}
    if TASK in json.dumps(steps, ensure_ascii=False).replace("\\u0000", "\x00"):
        # The words of the task name inputs of the outer plan.
        handed[TASK], args[_TASK_INPUT] = f"${{inputs.{_TASK_INPUT}}}", TASK
    declared: dict[str, Json] = {name: {} for name in args}
    # The longest first: one name may begin as another does.
    names_handed = sorted(handed, key=len, reverse=True)

    def inside(text: str) -> str:
        for name in names_handed:
            text = text.replace(name, handed[name])
        return text

    return {"inputs": declared, **cast("dict[str, Json]", with_texts(body, inside))}, args
