"""Labels looked at again, right before a call: untrusted data reaches no write that neither allows it nor was approved.

The check has said so of the plan that it saw, with the tools of that day. A plan may have come another way (an edited store, the
executor's own door), and tools may have changed since the run was submitted: so labels follow from the run's lock and from this
engine's tools together, and of each two answers the stricter counts. The engine that makes the calls says what an unsafe flow
means (`Engine(flow=..)`); a refusal is an event like any other, so a replay needs neither tools nor mode.

It does not know how a call is made, nor whether people agree: it refuses, or has them asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from ...errors import EngineBug
from ...plans.program import CallTool, Program, RunAgent, RunPlan
from ...plans.signature import Effect
from ...tools.failures import described
from ..canonical_value import CanonicalValue
from ..commands import Call, RuleApproval, StartToolCall
from ..events import ApprovalRuled, CallFailed
from ..journal.header import program_of
from ..journal.toolset_lock import ToolsetLock, approval_kind
from ..policy import ApprovalKind

if TYPE_CHECKING:
    from ...plans import Plan
    from ...plans.checker.survey import Provenance
    from ...plans.signature import Signature
    from ...plans.values import Json
    from ..execution_tree import Iteration
    from ..journal.header import Header
    from ..machine import Machine
    from .facilities import Facilities

Flow: TypeAlias = Literal["enforce", "warn", "off"]
FLOWS: Final = ("enforce", "warn", "off")
UNSAFE_FLOW: Final = "unsafe-flow"

Objection: TypeAlias = ApprovalRuled | RuleApproval | CallFailed
"""What comes in the place of a call: a person is asked, the tool's rule is, or the step fails."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What one tool demands of its calls, by the lock and by the tool as it is now, the stricter of each.

    Attributes:
        asks: How it asks for a person now.
        asks_of_labelled: Whether it asks for one where an argument is labelled, by the lock or by now.
    """

    is_write: bool
    allow_untrusted: frozenset[str]
    asks: ApprovalKind
    asks_of_labelled: bool

    @property
    def is_open(self) -> bool:
        """Whether there is nothing to look at."""
        return not self.is_write and self.asks == "never"


class Clearance:
    """See the module.

    Args:
        facilities: What runs share: tools as they are now, and what an unsafe flow means.
        run_id: The run.
        header: The run's; it has a plan.
    """

    def __init__(self, facilities: Facilities, run_id: str, header: Header) -> None:
        self._facilities = facilities
        self._run_id = run_id
        self._header = header
        self._terms: dict[str, _Terms] = {}
        self._strict: ToolsetLock | None = None
        self._program: Program | None = None
        self._provenance: Provenance | None = None

    def find_objection(self, command: Call, machine: Machine) -> Objection | None:
        """Return what comes in the place of a call that may not be made as things are; `None`: it may."""
        if not isinstance(command, StartToolCall):
            return None
        terms = self._terms.get(command.tool) or self._terms_of(command.tool)
        if terms.is_open or not machine.is_callable(command.step):
            return None
        iteration = machine.iterations[command.step]
        if iteration.is_approved:
            return None
        labelled = self._labelled(iteration)
        if terms.asks == "always" or (labelled and terms.asks_of_labelled):
            return ApprovalRuled(command.step, needed=True)
        if terms.asks == "rule" and not iteration.is_ruled:
            return RuleApproval(command.step, command.tool, command.args)
        unsafe = [name for name in labelled if terms.is_write and name not in terms.allow_untrusted]
        return self._judged(command, iteration, unsafe) if unsafe and self._facilities.flow != "off" else None

    def _judged(
        self, command: StartToolCall, iteration: Iteration, unsafe: Sequence[str]
    ) -> CallFailed | None:
        name = unsafe[0]
        told = " -> ".join((*self._source(iteration, name), f"{command.step}.{name}"))
        message = (
            f"untrusted data reaches '{name}' of the write '{command.step}': {told}; let the tool '{command.tool}' allow it "
            f"(allow_untrusted=({name!r},)) or ask for approval, or do not pass this data on"
        )
        if self._facilities.flow == "enforce":
            return CallFailed(command.step, UNSAFE_FLOW, message)
        told_of = {"run": self._run_id, "step": command.step, "arguments": list(unsafe), "flow": told}
        self._facilities.log.warning("unsafe flow", **told_of)
        return None

    def is_person_needed(self, command: RuleApproval) -> bool:
        """Return what the tool's own rule says of a call."""
        rule = self._facilities.tools.get(command.tool).approval
        if not callable(rule):
            return True
        try:
            return _plain(rule(cast("dict[str, Json]", CanonicalValue(command.args.data).value)))
        except BaseException as error:  # noqa: BLE001  # a rule that fails cannot say that no person is needed
            self._facilities.log.warning("approval rule failed", step=command.step, error=described(error))
            return True

    # --- what tools demand

    def _terms_of(self, name: str) -> _Terms:
        now, locked = self._facilities.tools.get(name), self._header.lock.find(name)
        known: list[Signature] = [now] if locked is None else [now, locked]
        made = self._terms[name] = _Terms(
            is_write=any(each.effect is Effect.WRITE for each in known),
            allow_untrusted=frozenset(
                name for name in now.allow_untrusted if all(name in each.allow_untrusted for each in known)
            ),
            asks=approval_kind(now),
            asks_of_labelled=any(each.asks_approval for each in known),
        )
        return made

    def _strict_lock(self) -> ToolsetLock:
        """Return the run's lock, with every tool untrusted that is so now."""
        if self._strict is None:
            lock = self._header.lock
            untrusted = {name for name in lock.names if self._facilities.tools.get(name).trust == "untrusted"}
            self._strict = lock.with_untrusted(untrusted)
        return self._strict

    # --- what is labelled

    def _labelled(self, iteration: Iteration) -> Sequence[str]:
        """Return the arguments of a call that hold untrusted data, sorted."""
        lock = self._strict_lock()
        code = iteration.item.node.code
        if lock is self._header.lock:
            return code.tainted
        if self._program is None:
            header = self._header
            self._program = program_of(_plan(header), lock, header.plans, header.language)
        program = self._program
        *outer, last = _trail(iteration)
        for position in outer:
            program = cast("RunPlan", program.steps[position].action).program
        now = program.steps[last]
        if isinstance(now.action, CallTool):
            return now.tainted
        is_tainted = cast("RunAgent", now.action).is_tainted
        return (
            tuple(sorted(cast("dict[str, object]", iteration.call.value)))
            if is_tainted and iteration.call
            else ()
        )

    def _source(self, iteration: Iteration, argument: str) -> tuple[str, ...]:
        """Return the paths of the steps through which untrusted data comes to an argument, its source first."""
        from ...plans.checker.survey import Provenance  # noqa: PLC0415  # only a refusal tells it

        if self._provenance is None:
            self._provenance = Provenance(_plan(self._header), self._strict_lock(), self._header.plans)
        return self._provenance.of(_trail(iteration), argument)


def _plan(header: Header) -> Plan:
    if header.plan is None:
        raise EngineBug("a run without a plan makes no calls")
    return header.plan


def _trail(iteration: Iteration) -> list[int]:
    """Return the position of a call's step, after those of the steps that run its plan, outermost first; an agent's, of the agent."""
    trail: list[int] = []
    at: Iteration | None = iteration
    while at is not None:
        if at.item.node.frame.owner is None or at.item.node.frame.owner.agent_loop is None:
            trail.append(at.item.node.code.position)
        at = at.item.node.frame.owner
    return trail[::-1]


def _plain(answer: object) -> bool:
    """Return the answer of a tool's rule. Raises: TypeError: nobody can wait for it here."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("the rule is asynchronous; expected a function that returns a bool")
    return bool(answer)
