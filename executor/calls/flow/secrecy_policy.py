"""Confidentiality at run time: private data reaches only its readers, and untrusted data does not choose who gets a secret.

As in `flow_policy.py`, the check has enforced this for the plan and the tools that it saw, and this module decides again before each call. Here the
arguments are known, so readers that are domains or people are compared with the receiver that the call really has. No approval lifts a refusal: a person
who approves a call decides whether it is wanted, and the owner of the data decides who may have it.

The labels are those of the plan, of the lock and of the present tools; the stricter declarations count. Most plans hold neither private data nor secrets:
`flow_policy.py` does not ask here about their calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, cast

from ....errors import EngineBug
from ....plans.immutable import immutable
from ...commands import Call, StartModelCall, StartPlanning, StartToolCall
from ...events import CallFailed
from ...journal.toolset_lock import ToolLock, ToolsetLock

if TYPE_CHECKING:
    from ....plans.checker.flow.labels import Labels
    from ....plans.checker.flow.secrecy import Destination
    from ....plans.checker.survey import Survey
    from ....plans.plan import Step
    from ....plans.signature import Signature
    from ....plans.values import Json
    from ...execution_tree import Iteration
    from ...journal.header import Header
    from ...machine import Machine
    from ..facilities import Facilities

PRIVATE_FLOW: Final = "private-flow"
PRIVATE_CONDITION: Final = "private-condition"


class SecrecyPolicy:
    """The confidentiality rule for the calls of one run.

    Args:
        facilities: The present tools, and what a private flow means.
        run_id: The run.
        header: The header of the run.
    """

    def __init__(self, facilities: Facilities, run_id: str, header: Header) -> None:
        self._facilities = facilities
        self._run_id = run_id
        self._header = header

    def find_refusal(self, command: Call | StartPlanning, machine: Machine) -> CallFailed | None:
        """Return the failure of a call that sends private data to somebody who may not have it; `None`: the call may be made."""
        if self._facilities.flow == "off" or not machine.is_callable(command.step):
            return None
        secrets = isinstance(command, StartToolCall) and bool(command.secrets)
        call = _Call(self._survey, command, machine.iterations[command.step], self._lock)
        if (message := call.find_fault() or (call.find_secret_fault() if secrets else None)) is not None:
            return self._refused(command, PRIVATE_FLOW, message)
        if self._facilities.flow == "strict" and (message := call.find_control_fault()) is not None:
            return self._refused(command, PRIVATE_CONDITION, message)
        return None

    def _refused(self, command: Call | StartPlanning, code: str, message: str) -> CallFailed | None:
        if self._facilities.flow != "warn":
            return CallFailed(command.step, code, message)
        self._facilities.log.warning("private flow", run=self._run_id, step=command.step, flow=message)
        return None

    @cached_property
    def _lock(self) -> ToolsetLock:
        """The lock of the run, with the stricter of its declarations and those of the present tools."""
        present = self._facilities.tools
        return ToolsetLock(
            [stricter_tool(tool, present.get(tool.name)) for _, tool in self._header.lock.items()]
        )

    @cached_property
    def _survey(self) -> Survey:
        from ....plans.checker.body import bodies_of  # noqa: PLC0415  # most runs have no use for the checker
        from ....plans.checker.survey import survey_of  # noqa: PLC0415
        from ....plans.format.shape import Draft  # noqa: PLC0415

        plan = self._header.plan
        if plan is None:
            raise EngineBug("a run without a plan makes no calls")
        tools = _Tools(self._lock, sorted({*self._lock.names, *self._facilities.tools.names}))
        return survey_of(bodies_of(Draft(plan), plan, self._header.plans), tools)


@immutable
class _Tools:
    """The tools of a lock, with the names of all present tools: a reader of such a name is no person."""

    lock: ToolsetLock
    names: Sequence[str]

    def find(self, name: str) -> ToolLock | None:
        return self.lock.find(name)


class _Call:
    """One call with the labels of what it sends, in the bits of the run's plan.

    Args:
        survey: The plans of the run, surveyed with the stricter tools.
        command: The call.
        iteration: Its place in the run.
        tools: The stricter tools.
    """

    def __init__(
        self,
        survey: Survey,
        command: StartToolCall | StartModelCall | StartPlanning,
        iteration: Iteration,
        tools: ToolsetLock,
    ) -> None:
        self._secrecy = survey.secrecy
        self._command = command
        self._tools = tools
        owner = iteration.item.node.frame.owner
        self._is_inner = owner is not None and owner.agent_loop is not None
        *outer, self._position = trail_of(iteration)
        self._labels, self._meaning = labels_at(survey, outer)
        self._step: Step = self._labels.body.steps[self._position]

    def find_fault(self) -> str | None:
        """Return which private data goes to somebody who is none of its readers."""
        for name, to, label, destination in self._sent():
            refused, unsure = self._secrecy.refused(destination, label)
            if bits := label & (refused | unsure):
                chain = self._labels.private_chain(self._labels.carriers(self._position, name), bits)
                way = " -> ".join((*chain, f"{self._command.step}.{name}" if name else self._command.step))
                readers = self._secrecy.shown(bits)
                return f"private data would reach {to}, which is none of its readers: {way}; its readers are: {readers}"
        return None

    def find_secret_fault(self) -> str | None:
        """Return which untrusted argument says who gets a secret of the call."""
        from ....plans.checker.flow.labels import UNTRUSTED  # noqa: PLC0415
        from ....plans.checker.flow.secrecy import receivers_of  # noqa: PLC0415

        command = cast("StartToolCall", self._command)
        for name in receivers_of(cast("ToolLock", self._tools.find(command.tool))):
            if self._of_argument(name) & UNTRUSTED:
                secret = min(command.secrets.values())
                return f"untrusted data chooses, by '{name}', who gets the secret '{secret}' in the call of '{command.step}'"
        return None

    def find_control_fault(self) -> str | None:
        """Return that private data decides whether something is sent to somebody who is none of its readers."""
        command = self._command
        tool = self._tools.find(command.tool) if isinstance(command, StartToolCall) else None
        if tool is None or not tool.egress:
            return None
        label = self._translated(self._labels.chance(self._position))
        refused, unsure = self._secrecy.refused(self._destination(tool, None), label)
        if label & (refused | unsure):
            return f"private data decides whether '{command.step}' sends something through the tool '{tool.name}'"
        return None

    def _sent(self) -> Iterator[tuple[str, str, int, Destination]]:
        """Yield what the call sends: the argument's name, the receiver in words, the label, and the destination."""
        from ....plans.checker.flow.secrecy import any_model, is_destination, model_destination  # noqa: PLC0415
        from ....plans.plan import AgentStep, AskStep, PlanForStep  # noqa: PLC0415

        command, step = self._command, self._step
        if isinstance(command, StartPlanning):
            label = self._translated(self._labels.sent_goal(self._position))
            yield "", "the planner", label, any_model()
            return
        if isinstance(command, StartModelCall):
            label = self._whole() if isinstance(step, AgentStep | PlanForStep) else self._of_prompt()
            to = model_destination(
                command.model, is_judged=isinstance(step, AskStep) and bool(step.ask.guard)
            )
            yield "", f"the model '{command.model}'", label, to
            return
        tool = cast("ToolLock", self._tools.find(command.tool))
        if command.turns is not None:  # a turn of an agent sends all that the agent has seen
            yield "", f"the tool '{tool.name}'", self._whole(), self._destination(tool, None)
            return
        if is_destination(tool):
            for name in self._args():
                is_whole = isinstance(step, AgentStep | PlanForStep) or self._is_inner
                label = self._whole() if is_whole else self._of_argument(name)
                yield name, f"the tool '{tool.name}'", label, self._destination(tool, name)

    def _destination(self, tool: ToolLock, argument: str | None) -> Destination:
        from ....plans.checker.flow.secrecy import destination_of, recipients_in  # noqa: PLC0415

        return destination_of(tool, argument, recipients_in(tool, self._args()))

    def _args(self) -> Mapping[str, Json]:
        return cast("Mapping[str, Json]", cast("StartToolCall", self._command).args.value)

    def _of_argument(self, name: str) -> int:
        return self._translated(self._labels.sent_argument(self._position, name))

    def _of_prompt(self) -> int:
        """Return the label of all texts of an `ask` step."""
        label = 0
        for name in ("prompt", "system", "examples"):
            label |= self._labels.sent(self._step.templates.get(name), self._position)
        return self._translated(label)

    def _whole(self) -> int:
        """Return the label of all that an agent has seen: its goal, and what its tools return."""
        return self._translated(self._labels.sent_by_agent(self._position))

    def _translated(self, label: int) -> int:
        from ....plans.checker.flow.labels import translated  # noqa: PLC0415

        return translated(label, self._meaning)


def labels_at(survey: Survey, outer: Sequence[int]) -> tuple[Labels, Mapping[int, int]]:
    """Return the labels of the body that some `plan` steps lead to, and what its bits mean in the run's plan."""
    from ....plans.checker.flow.labels import UNTRUSTED, translated  # noqa: PLC0415

    labels = survey.labels[0]
    meaning = {bit: bit for bit in (UNTRUSTED, *survey.secrecy.bits)}
    for position in outer:
        inner = labels.translation(position)
        meaning = {bit: translated(label, meaning) for bit, label in inner.items()}
        labels = survey.labels[labels.body.calls[position]]
    return labels, meaning


def stricter_tool(locked: ToolLock, now: Signature) -> ToolLock:
    """Return a tool of a lock with the stricter of its declarations and those of the present tool."""
    readers = [frozenset(tool.readers) for tool in (locked, now) if tool.private]
    both = frozenset[str].intersection(*readers) if readers else frozenset[str]()
    return replace(
        locked,
        trust="untrusted" if "untrusted" in (locked.trust, now.trust) else "trusted",
        resource=locked.resource if locked.resource == now.resource else "world",
        private=bool(readers),
        readers=tuple(sorted(both)),
        egress=tuple(sorted({*locked.egress, *now.egress})),
        allow_untrusted=tuple(sorted({*locked.allow_untrusted} & {*now.allow_untrusted})),
    )


def trail_of(iteration: Iteration) -> list[int]:
    """Return the positions of the steps around a call, outermost first, then that of the call's own step.

    For a call of an agent, or in a sub-plan of a `plan_for` step, the last one is that of the agent or `plan_for` step.
    """
    trail: list[int] = []
    at: Iteration | None = iteration
    while at is not None:
        owner = at.item.node.frame.owner
        if owner is None or owner.agent_loop is None:
            trail.append(at.item.node.code.position)
        else:
            trail.clear()  # the steps of a sub-plan are not those of the plan
        at = owner
    return trail[::-1]
