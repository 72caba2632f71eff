"""Makes the view of a run's waiting calls from its journal: arguments, origins, quotes, and what the same steps did last time.

The journal decides, not the process: a person sees the same in the process that drives the run, in another, and on another machine. The labels are
those of the check (`plans/checker/flow/labels.py`) with the tools as the run knows them, and a tool that is untrusted in this process counts as untrusted, as it
does for the flow policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from ...errors import InputRejected
from ...plans.checker.flow.sources import Found, Source, Sources, Trail
from ...plans.program.program import AskPerson, CallTool, Program, RunAgent, RunPlan, RunPlanned, StepCode
from ...plans.signature import Effect
from ...plans.values import Json
from ...tools import Toolset
from ..calls.flow.secrecy_policy import trail_of
from ..canonical_value import CanonicalValue
from ..execution_tree import (
    Frame,
    Iteration,
    Node,
    answer_schema,
    expiry_of,
    is_asked,
    is_question,
    undecided_attempt,
    walk,
)
from ..journal.header import Header, program_of
from ..journal.restore import load_entries, rebuild
from ..journal.toolset_lock import ToolLock, ToolsetLock
from ..machine import Machine
from ..runs.archive import Archive
from ..runs.request import step_of
from ..runs.run import iterations_of, step_views
from ..stores.store import Store
from .earlier import earlier_calls
from .quotes import Quote, QuoteFinder
from .view import CallDetails, Origin, ShownArgument, WaitingCall, WaitingCalls

ORIGINS_MAX: Final = 50
"""Calls that one argument lists as its origins; a list of a thousand pages has as many."""


async def waiting_calls(store: Store, archive: Archive, tools: Toolset, run_id: str) -> WaitingCalls:
    """Return the calls of a run that wait for a person, in plan order.

    Args:
        store: Has the run.
        archive: Looks it up.
        tools: The tools of this process; may be empty.
        run_id: The run.

    Raises:
        RunNotFound: There is no such run.
        StoreError: The journal was changed outside firmplan.
    """
    row = await archive.flushed_row(run_id)
    header = Header.from_dict(row.header)
    if header.plan is None:
        return WaitingCalls(row.id, row.task, None, header.submitter_name, ())
    entries = await load_entries(store, row)
    calls: dict[str, CanonicalValue] = {}
    # In threads: rebuilding a run and comparing large texts may take seconds, and a server answers others meanwhile.
    _, machine = await asyncio.to_thread(rebuild, row, entries, calls)
    waiting = [
        iteration for iteration in machine.iterations.values() if undecided_attempt(iteration) is not None
    ]
    # The machine has them in the order in which they became ready, which timing decides; people see plan order.
    waiting.sort(key=lambda iteration: iteration.order)
    named: dict[str, str] = {
        iteration.path: tool for iteration in waiting if (tool := machine.tool_of(iteration.path))
    }
    earlier = await earlier_calls(store, archive, row, named)
    made = await asyncio.to_thread(_Viewer(header, machine, calls, tools).views, waiting)
    shown = tuple(replace(call, last_time=earlier.get(call.step)) for call in made)
    return WaitingCalls(row.id, row.task, row.plan_digest, header.submitter_name, shown)


async def call_details(store: Store, archive: Archive, tools: Toolset, run_id: str, step: str) -> CallDetails:
    """Return what a step of a run called, as a person sees a call that waits: for a call that is under way or has ended.

    Args:
        store: Has the run.
        archive: Looks it up.
        tools: The tools of this process; may be empty.
        run_id: The run.
        step: Path of a step, item or iteration; one that stands for several calls, or has not begun, has no arguments.

    Raises:
        RunNotFound: There is no such run.
        InputRejected: It has no plan, or no such step.
        StoreError: The journal was changed outside firmplan.
    """
    row = await archive.flushed_row(run_id)
    entries = await load_entries(store, row)
    calls: dict[str, CanonicalValue] = {}
    header, machine = await asyncio.to_thread(rebuild, row, entries, calls)
    parts: dict[str, Iteration] = {each.path: each for each in walk(machine.root)}
    part = parts.get(step_of(step))
    if part is None:
        raise InputRejected(f"run {run_id} has no step '{step}': see the keys of its steps")
    leaves = list(iterations_of(part))
    leaf = leaves[0] if len(leaves) == 1 and leaves[0].is_leaf else None
    if leaf is None or (leaf.call is None and leaf.path not in calls):
        return CallDetails(run_id, step, None, None)
    viewer = _Viewer(header, machine, calls, tools, finds_all=True)
    (call,) = await asyncio.to_thread(viewer.views, [leaf])
    about = call.about if undecided_attempt(leaf) is not None else "call"
    return CallDetails(run_id, step, replace(call, about=about), leaf.usage)


@dataclass(slots=True)
class _Pending:
    """A labelled argument while its view is made.

    Attributes:
        groups: Numbers of the groups of calls from which it has data.
        texts: Numbers of its texts in the finder.
    """

    sources: Sequence[tuple[Source, int]]
    texts: Sequence[int] = ()


@dataclass(slots=True)
class _Group:
    """Calls of one source that one call may have data from.

    Attributes:
        calls: Path, tool, arguments and result; an input has no tool.
    """

    calls: list[tuple[str, str, Json, Json]] = field(default_factory=list["tuple[str, str, Json, Json]"])


class _Viewer:
    """Makes the views of the waiting calls of one run.

    Args:
        header: Of the run, which has a plan.
        machine: Where its journal ends.
        calls: Path of a leaf -> the arguments that it was called with.
        tools: The tools of this process.
        finds_all: Whether every argument with untrusted data counts as labelled; else only where a rule of the flow policy asks: in writes.
    """

    def __init__(
        self,
        header: Header,
        machine: Machine,
        calls: Mapping[str, CanonicalValue],
        tools: Toolset,
        *,
        finds_all: bool = False,
    ) -> None:
        self._finds_all = finds_all
        self._header = header
        self._machine = machine
        self._calls = calls
        self._lock = _strict_lock(header.lock, tools)
        self._sources: Sources | None = None
        self._found: dict[tuple[Trail, str], Found] = {}
        self._groups: list[_Group] = []
        self._group_of: dict[tuple[str, int, int], int] = {}
        self._finder = QuoteFinder()

    def views(self, waiting: Sequence[Iteration]) -> list[WaitingCall]:
        """Return the views of some calls."""
        # Arguments first, all of them: then each result is read once, however many calls have data from it.
        views = step_views(self._machine)
        drafts = [(each, *self._draft(each)) for each in waiting]
        read: dict[str, tuple[Json, set[int]]] = {}
        for number, group in enumerate(self._groups):
            for path, _, _, output in group.calls:
                read.setdefault(path, (output, set()))[1].add(number)
        for path, (output, groups) in read.items():
            self._finder.read(path, output, groups)
        made: list[WaitingCall] = []
        for iteration, call, pending, controlled in drafts:
            args = tuple(
                arg if (of := pending.get(arg.name)) is None else self._with_origins(arg, of)
                for arg in call.args
            )
            controlled_by, _ = self._origins(controlled, ())
            made.append(
                replace(
                    call,
                    args=args,
                    controlled_by=controlled_by,
                    past_write=views[iteration.path].past_write,
                )
            )
        # A call without untrusted data was compared with nothing, so no bound of the finder is about it.
        is_complete = self._finder.is_complete
        return [replace(call, is_complete=is_complete or not call.is_labelled) for call in made]

    def _draft(
        self, iteration: Iteration
    ) -> tuple[WaitingCall, dict[str, _Pending], Sequence[tuple[Source, int]]]:
        """Return a call without origins, its labelled arguments, and the sources of what controlled it."""
        trail = tuple(trail_of(iteration))
        code = self._code_of(iteration, trail)
        tool = self._header.lock.find(self._machine.tool_of(iteration.path) or "")
        # A call that has ended is forgotten by the machine, but not by who listened while the journal was read.
        made = iteration.call or self._calls.get(iteration.path)
        value = made.value if made is not None else {}
        given = value if isinstance(value, dict) else {}
        # The labels of the check, and no analysis of its own: the view has to name what the flow policy asks about, no more and no less.
        labelled = _labelled(code, given)
        if self._finds_all:
            labelled |= {name for name in given if self._find(trail, name).sources}
        action = iteration.item.node.code.action
        secrets: Mapping[str, str] = action.secrets if isinstance(action, CallTool) else {}
        args = [
            ShownArgument(name, part, secret=secrets.get(name), is_labelled=name in labelled)
            for name, part in given.items()
        ]
        args += [
            ShownArgument(name, part, is_default=True)
            for name, part in (tool.defaults.items() if tool is not None else ())
            if name not in given
        ]
        if iteration.question is not None:
            # The words come from whoever makes the call, and are no part of its arguments.
            asked = cast("dict[str, Json]", iteration.question.value)
            args.insert(0, ShownArgument("question", asked["question"]))
        pending: dict[str, _Pending] = {}
        for arg in args:
            if arg.is_labelled and arg.secret is None:
                sources = self._grouped(self._find(trail, arg.name), iteration)
                texts = self._finder.add(arg.value, frozenset(group for _, group in sources))
                pending[arg.name] = _Pending(sources, texts)
        controlled: Sequence[tuple[Source, int]] = ()
        is_controlled = _is_controlled(code)
        if is_controlled:
            controlled = self._grouped(self._find(trail, ""), iteration)
        what, description, effect = _called(iteration, tool)
        call = WaitingCall(
            step=iteration.path,
            attempt=undecided_attempt(iteration) or max(1, iteration.attempts),
            about="question" if is_question(iteration) else "call" if is_asked(iteration) else "outcome",
            tool=what,
            description=description,
            effect=effect,
            resource=tool.resource if tool is not None else "",
            why=self._why(trail),
            args=tuple(args),
            is_controlled=is_controlled,
            returns=answer_schema(iteration)
            if iteration.question is not None or isinstance(action, AskPerson)
            else None,
            parameters=tool.parameters if tool is not None else None,
            result=tool.returns if tool is not None else None,
            expires=expiry_of(iteration),
            asked_again=iteration.why_anew or None,
        )
        return call, pending, controlled

    # --- where labels come from

    def _asked(self) -> Sources:
        if self._sources is None:
            header = self._header
            assert header.plan is not None
            self._sources = Sources(header.plan, self._lock, header.plans, header.written)
        return self._sources

    def _find(self, trail: Trail, argument: str) -> Found:
        """Return the sources of an argument; with an empty name, of what decides about the step."""
        known = self._found.get((trail, argument))
        if known is None:
            asked = self._asked()
            known = asked.of_argument(trail, argument) if argument else asked.of_control(trail)
            self._found[trail, argument] = known
        return known

    def _grouped(self, found: Found, iteration: Iteration) -> list[tuple[Source, int]]:
        """Return sources with the numbers of their groups of calls, as far as the iteration can have data from them."""
        own = _own_frames(iteration)
        return [(source, self._group(source, own)) for source in found.sources]

    def _group(self, source: Source, own: Mapping[tuple[int, int], Sequence[Frame]]) -> int:
        nodes = [] if not source.trail else _nodes(self._machine.root, source.trail, own)
        # Arguments that can have data from the same calls share a group, so that a result is compared once with all of them. The first node and
        # the number tell the calls of one item from those of all items; ids hold, because the machine lives longer than the viewer.
        key = (source.name, id(nodes[0]) if nodes else 0, len(nodes))
        known = self._group_of.get(key)
        if known is None:
            known = self._group_of[key] = len(self._groups)
            self._groups.append(_Group(list(self._calls_of(source, nodes))))
        return known

    def _calls_of(self, source: Source, nodes: Sequence[Node]) -> Iterable[tuple[str, str, Json, Json]]:
        if not source.trail:
            name = source.name.removeprefix("inputs.")
            yield source.name, "", None, self._header.inputs.get(name)
        for node in nodes:
            for leaf in iterations_of(node):
                tool = self._machine.tool_of(leaf.path)
                if tool in source.tools and (leaf.path in self._calls or leaf.output is not None):
                    args = self._calls[leaf.path].value if leaf.path in self._calls else None
                    yield leaf.path, tool, args, leaf.output.value if leaf.output is not None else None

    def _with_origins(self, arg: ShownArgument, pending: _Pending) -> ShownArgument:
        quotes = self._finder.quotes(pending.texts)
        origins, left = self._origins(pending.sources, quotes)
        return replace(arg, origins=origins, origins_left=left, quotes=quotes)

    def _origins(
        self, sources: Sequence[tuple[Source, int]], quotes: Sequence[Quote]
    ) -> tuple[tuple[Origin, ...], int]:
        """Return the calls of some sources, those that are quoted first, and how many more there are."""
        quoted = {quote.source for quote in quotes}
        every = [
            Origin(path, tool, args, source.via)
            for source, group in sources
            for path, tool, args, _ in self._groups[group].calls
        ]
        # Before the cut: an origin whose words stand in the argument must not be among the many that are only counted.
        ordered = sorted(every, key=lambda origin: origin.source not in quoted)
        return tuple(ordered[:ORIGINS_MAX]), max(0, len(ordered) - ORIGINS_MAX)

    # --- the step

    def _code_of(self, iteration: Iteration, trail: Trail) -> StepCode:
        """Return the code with the labels of a call: of its step, or of the agent or `plan_for` step that makes it."""
        code = self._code(trail)
        # In a sub-plan the flow in it decides, as long as no tool has become untrusted since.
        is_precise = isinstance(code.action, RunPlanned) and self._lock is self._header.lock
        return iteration.item.node.code if is_precise else code

    def _code(self, trail: Trail) -> StepCode:
        """Return the code of the step around a call, with the labels of the stricter lock."""
        return self._body(trail).steps[trail[-1]]

    def _why(self, trail: Trail) -> str:
        return self._body(trail).plan.steps[trail[-1]].why or ""

    def _body(self, trail: Trail) -> Program:
        """Return the program that has the step of a trail: the run's, or that of a sub-plan."""
        header = self._header
        assert header.plan is not None
        # `program_of` keeps what it compiled, so that the calls of a list share one program.
        program = program_of(
            header.plan,
            self._lock,
            header.plans,
            header.language,
            controlled=header.controlled,
            written=header.written,
        )
        for position in trail[:-1]:
            program = cast("RunPlan", program.steps[position].action).program
        return program


def _called(iteration: Iteration, tool: ToolLock | None) -> tuple[str, str, str]:
    """Return what a person is asked about: name, description and effect."""
    if tool is not None:
        return tool.name, tool.description, tool.effect.value
    action = iteration.item.node.code.action
    if isinstance(action, AskPerson) and action.is_question:
        return "ask_person", "", Effect.PURE.value
    if isinstance(action, AskPerson):
        return (
            "endorse",
            "Once it is approved, this value counts as trusted in the rest of the run.",
            Effect.PURE.value,
        )
    return "a prompt", "", Effect.MODEL.value


def _strict_lock(lock: ToolsetLock, tools: Toolset) -> ToolsetLock:
    """Return the lock in which the tools that are untrusted in this process count as untrusted."""
    found = [tools.find(name) for name in lock.names]
    return lock.with_untrusted(
        {tool.name for tool in found if tool is not None and tool.trust == "untrusted"}
    )


def _labelled(code: StepCode, given: Mapping[str, Json]) -> frozenset[str]:
    """Return the arguments of a call that hold untrusted data."""
    if isinstance(code.action, RunPlanned):
        return frozenset(given)
    if isinstance(code.action, RunAgent):
        return frozenset(given) if code.action.is_tainted else frozenset()
    return frozenset(code.tainted)


def _is_controlled(code: StepCode) -> bool:
    """Whether untrusted data decides that, or how often, a step runs."""
    is_chosen = isinstance(code.action, RunPlanned)
    return is_chosen or bool(code.controlled or getattr(code.action, "is_controlled", False))


def _own_frames(iteration: Iteration) -> Mapping[tuple[int, int], Sequence[Frame]]:
    """Return the frames around a call: (frame, position of the `plan` step in it) -> the frames of the same item of that step.

    Data from another item of the step cannot reach the call, but data of another iteration of its own item can.
    """
    found: dict[tuple[int, int], Sequence[Frame]] = {}
    owner = iteration.item.node.frame.owner
    while owner is not None:
        node = owner.item.node
        frames = [frame for each in owner.item.iterations for frame in each.frames]
        found[id(node.frame), node.code.position] = frames
        owner = node.frame.owner
    return found


def _nodes(root: Frame, trail: Trail, own: Mapping[tuple[int, int], Sequence[Frame]]) -> list[Node]:
    """Return the nodes of a step by its trail: in the frames around the call where these lead to it, else in all."""
    frames: list[Frame] = [root]
    for position in trail[:-1]:
        inner: list[Frame] = []
        for frame in frames:
            known = own.get((id(frame), position))
            if known is None:
                known = [
                    each
                    for item in frame.nodes[position].items
                    for iteration in item.iterations
                    for each in iteration.frames
                ]
            inner += known
        frames = inner
    return [frame.nodes[trail[-1]] for frame in frames]
