"""The information flow rule at run time: untrusted data reaches a write only if the write allows it or a person approved the call.

The check has enforced this rule, for the plan and the tools that it saw. But a plan may reach the executor without a check (an edited store,
the executor's own API), and tools may have changed since the run was submitted. So this module decides again before each call, by the lock
of the run and by the tools of this engine, and the stricter of the two wins. The engine that makes the calls chooses what an unsafe flow
means (`Engine(flow=..)`). A refusal is an event, so a replay needs neither the tools nor the mode.

This module does not make calls and does not decide about approvals: it refuses a call, or has a person asked.
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
from ..machine import CONTROL_COUNTS_SINCE
from ..policy import ApprovalKind
from .secrecy_policy import SecrecyPolicy, trail_of

if TYPE_CHECKING:
    from ...plans import Plan
    from ...plans.checker.survey import Provenance
    from ...plans.signature import Signature
    from ...plans.values import Json
    from ..execution_tree import Iteration
    from ..journal.header import Header
    from ..machine import Machine
    from .facilities import Facilities

Flow: TypeAlias = Literal["strict", "enforce", "warn", "off"]
FLOWS: Final = ("strict", "enforce", "warn", "off")
UNSAFE_FLOW: Final = "unsafe-flow"
UNTRUSTED_CONDITION: Final = "untrusted-condition"

Intervention: TypeAlias = ApprovalRuled | RuleApproval | CallFailed
"""What takes the place of a call: a person is asked, the approval rule of the tool is asked, or the step fails."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What one tool demands of its calls: of the lock and the present tool, the stricter.

    Attributes:
        asks: When the present tool needs an approval.
        asks_of_labelled: Whether the lock or the present tool needs an approval if the call is labelled.
        egress: The arguments that say where the call sends data.
    """

    is_write: bool
    allow_untrusted: frozenset[str]
    egress: frozenset[str]
    asks: ApprovalKind
    asks_of_labelled: bool

    @property
    def is_open(self) -> bool:
        """Whether every call passes."""
        return not self.is_write and not self.egress and self.asks == "never"

    def find_unsafe(self, arguments: Sequence[str]) -> list[str]:
        """Return those of the labelled arguments that may not hold untrusted data; of a read only where it sends data is judged."""
        guarded = arguments if self.is_write else [name for name in arguments if name in self.egress]
        return [name for name in guarded if name not in self.allow_untrusted]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The labels of one call.

    Attributes:
        arguments: Those that hold untrusted data, sorted.
        is_controlled: Whether untrusted data decides if, or how often, the call is made.
    """

    arguments: Sequence[str]
    is_controlled: bool

    def __bool__(self) -> bool:
        return self.is_controlled or bool(self.arguments)


class FlowPolicy:
    """The flow rule for the calls of one run.

    Args:
        facilities: The present tools, and what an unsafe flow means.
        run_id: The run.
        header: The header of the run, which has a plan.
    """

    def __init__(self, facilities: Facilities, run_id: str, header: Header) -> None:
        self._facilities = facilities
        self._run_id = run_id
        self._header = header
        self._secrecy = SecrecyPolicy(facilities, run_id, header)
        self._terms: dict[str, _Terms] = {}
        self._strict: ToolsetLock | None = None
        self._program: Program | None = None
        self._provenance: Provenance | None = None

    def find_intervention(self, command: Call, machine: Machine) -> Intervention | None:
        """Return what takes the place of a call; `None`: the call may be made."""
        refusal = self._secrecy.find_refusal(command, machine)
        if refusal is not None or not isinstance(command, StartToolCall):
            return refusal
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
        return self._find_refusal(command, iteration, terms, labelled)

    def _find_refusal(
        self, command: StartToolCall, iteration: Iteration, terms: _Terms, labelled: _Labelled
    ) -> CallFailed | None:
        """Return the failure of a call that the flow rule forbids."""
        if self._facilities.flow == "off":
            return None
        if unsafe := terms.find_unsafe(labelled.arguments):
            return self._refuse(command, iteration, unsafe)
        if terms.is_write and labelled.is_controlled and self._facilities.flow == "strict":
            message = (
                f"untrusted data decides whether the write '{command.step}' is called; let its tool '{command.tool}' ask for approval, "
                'or run the plan with flow="enforce"'
            )
            return CallFailed(command.step, UNTRUSTED_CONDITION, message)
        return None

    def _refuse(
        self, command: StartToolCall, iteration: Iteration, unsafe: Sequence[str]
    ) -> CallFailed | None:
        name = unsafe[0]
        what = "write" if self._terms[command.tool].is_write else "call"
        flow = " -> ".join((*self._source(iteration, name), f"{command.step}.{name}"))
        message = (
            f"untrusted data reaches '{name}' of the {what} '{command.step}': {flow}; let the tool '{command.tool}' allow it "
            f"(allow_untrusted=({name!r},)) or ask for approval, or do not pass this data on"
        )
        if self._facilities.flow != "warn":
            return CallFailed(command.step, UNSAFE_FLOW, message)
        fields = {"run": self._run_id, "step": command.step, "arguments": list(unsafe), "flow": flow}
        self._facilities.log.warning("unsafe flow", **fields)
        return None

    def is_person_needed(self, command: RuleApproval, iteration: Iteration) -> bool:
        """Return whether a person has to approve the call: it is labelled, or the approval rule of the tool says so."""
        # Labels ask before the tool's own rule runs: a rule must not be talked out of asking by the data that it looks at.
        if self._labelled(iteration):
            return True
        rule = self._facilities.tools.get(command.tool).approval
        if not callable(rule):
            return True
        try:
            return _rule_answer(rule(cast("dict[str, Json]", CanonicalValue(command.args.data).value)))
        except BaseException as error:  # noqa: BLE001  # fail closed: a rule that raises did not say that no person is needed
            self._facilities.log.warning("approval rule failed", step=command.step, error=described(error))
            return True

    # --- what a tool demands

    def _terms_of(self, name: str) -> _Terms:
        # Of the tool now and the tool when the run was submitted, the stricter declaration counts.
        now = self._facilities.tools.get(name)
        locked: Signature = self._header.lock.find(name) or now
        made = self._terms[name] = _Terms(
            is_write=Effect.WRITE in (now.effect, locked.effect),
            allow_untrusted=frozenset(now.allow_untrusted).intersection(locked.allow_untrusted),
            egress=frozenset(now.egress).union(locked.egress),
            asks=approval_kind(now),
            asks_of_labelled=now.asks_approval or locked.asks_approval,
        )
        return made

    def _strict_lock(self) -> ToolsetLock:
        """Return the lock of the run, in which the tools that are untrusted now count as untrusted."""
        if self._strict is None:
            lock = self._header.lock
            untrusted = {name for name in lock.names if self._facilities.tools.get(name).trust == "untrusted"}
            self._strict = lock.with_untrusted(untrusted)
        return self._strict

    # --- labels

    def _labelled(self, iteration: Iteration) -> _Labelled:
        """Return the labels of a call."""
        lock = self._strict_lock()
        code = iteration.item.node.code
        if lock is self._header.lock and self._header.rules >= CONTROL_COUNTS_SINCE:
            return _Labelled(code.tainted, code.controlled)
        # A tool became untrusted after the run was submitted, or the run began when fewer things counted, so the labels that were compiled into
        # the program are too few. The plan is compiled again with the stricter lock, and the step is found in it by its position.
        if self._program is None:
            header = self._header
            self._program = program_of(_plan(header), lock, header.plans, header.language)
        program = self._program
        *outer, last = trail_of(iteration)
        for position in outer:
            program = cast("RunPlan", program.steps[position].action).program
        now = program.steps[last]
        if isinstance(now.action, CallTool):
            return _Labelled(now.tainted, now.controlled)
        agent = cast("RunAgent", now.action)
        call = cast("dict[str, object]", iteration.call.value) if iteration.call is not None else {}
        return _Labelled(sorted(call) if agent.is_tainted else (), agent.is_tainted or agent.is_controlled)

    def _source(self, iteration: Iteration, argument: str) -> tuple[str, ...]:
        """Return the paths of the steps through which untrusted data reaches an argument, from its source on."""
        from ...plans.checker.survey import Provenance  # noqa: PLC0415  # only a refusal needs it

        if self._provenance is None:
            self._provenance = Provenance(_plan(self._header), self._strict_lock(), self._header.plans)
        return self._provenance.of(trail_of(iteration), argument)


def _plan(header: Header) -> Plan:
    if header.plan is None:
        raise EngineBug("a run without a plan makes no calls")
    return header.plan


def _rule_answer(answer: object) -> bool:
    """Return the answer of an approval rule. Raises: TypeError: the rule is asynchronous."""
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("the rule is asynchronous; expected a function that returns a bool")
    return bool(answer)
