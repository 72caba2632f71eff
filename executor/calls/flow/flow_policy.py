"""The information flow rule at run time: untrusted data reaches a write only if the write allows it or a person approved the call.

The check has enforced this rule, for the plan and the tools that it saw. But a plan may reach the executor without a check (an edited store,
the executor's own API), and tools may have changed since the run was submitted. So this module decides again before each call, by the lock
of the run and by the tools of this engine, and the stricter of the two wins. The engine that makes the calls chooses what an unsafe flow
means (`Engine(flow=..)`). A refusal is an event, so a replay needs neither the tools nor the mode.

This module does not make calls and does not decide about approvals: it refuses a call, or has a person asked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from ....errors import EngineBug
from ....plans.checker.flow.labels import UNNAMED
from ....plans.checker.flow.secrecy import READERS_KEY
from ....plans.immutable import immutable, record
from ....plans.program.program import (
    ENDORSED,
    AskPerson,
    CallTool,
    Program,
    RunAgent,
    RunPlan,
    RunPlanned,
    StepCode,
)
from ....plans.signature import Effect
from ....tools.failures import described
from ...canonical_value import CanonicalValue
from ...commands import Call, RuleApproval, StartPlanning, StartToolCall
from ...events import ApprovalRuled, CallFailed
from ...journal.header import program_of
from ...journal.toolset_lock import ToolsetLock, approval_kind
from ...machine import WORLD_COUNTS_SINCE
from ...policy import ApprovalKind
from .policies import KnownValues, Opinion, ValueLabels, fits_of
from .secrecy_policy import SecrecyPolicy, trail_of

if TYPE_CHECKING:
    from ....plans import Plan
    from ....plans.checker.flow.sources import Source, Sources
    from ....plans.plan import InnerPlan
    from ....plans.signature import Signature
    from ....plans.values import Json
    from ...execution_tree import Iteration
    from ...journal.header import Header
    from ...machine import Machine
    from ..facilities import Facilities

Flow: TypeAlias = Literal["strict", "enforce", "warn", "off"]
FLOWS: Final = ("strict", "enforce", "warn", "off")
UNSAFE_FLOW: Final = "unsafe-flow"
UNTRUSTED_CONDITION: Final = "untrusted-condition"
POLICY_DENIED: Final = "policy-denied"
UNKNOWN_POLICY: Final = "unknown-policy"

Intervention: TypeAlias = ApprovalRuled | RuleApproval | CallFailed
"""What takes the place of a call: a person is asked, the approval rule of the tool is asked, or the step fails."""


@immutable
class _Terms:
    """What one tool demands of its calls: of the lock and the present tool, the stricter.

    Attributes:
        signatures: The tool as it was locked, and as it is now.
        asks: When the present tool needs an approval.
        asked: When the tool needed an approval as it was locked.
        egress: The arguments that say where the call sends data.
        allows_all: Whether every argument may hold untrusted data.
        is_judged: Whether a policy of the user is about the tool.
        is_open: Whether every call passes.
    """

    is_write: bool
    allow_untrusted: frozenset[str]
    signatures: tuple[Signature, Signature]
    egress: frozenset[str]
    asks: ApprovalKind
    asked: ApprovalKind
    allows_all: bool
    is_judged: bool
    is_open: bool

    def must_ask(self, labelled: _Labelled, judgement: _Judgement) -> bool:
        """Whether a person has to approve a labelled call."""
        kinds = {self.asks, self.asked}
        # A rule of the tool must not be talked out of asking by the data that it looks at, so it is not asked about labelled calls.
        if "rule" in kinds and labelled:
            return True
        # Who may choose every argument freely gains nothing by choosing how often.
        is_chosen = labelled.is_controlled and not self.allows_all
        return kinds != {"never"} and (is_chosen or bool(judgement.open))

    def is_guarded(self, argument: str) -> bool:
        """Whether untrusted data in an argument is judged: of a read that asks nobody only where it sends data."""
        return self.is_write or argument in self.egress or {self.asks, self.asked} != {"never"}


@immutable
class _Labelled:
    """The labels of one call.

    Attributes:
        arguments: Those that hold untrusted data, sorted.
        is_controlled: Whether untrusted data decides if, or how often, the call is made.
        selected: The arguments that are selected from trusted lists.
    """

    arguments: Sequence[str]
    is_controlled: bool
    selected: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.is_controlled or bool(self.arguments)


@record
class _Judgement:
    """What the policies say of the arguments of one call.

    Attributes:
        open: The labelled arguments that neither the tool nor a policy allows.
        rules: Argument -> the rule that allows its untrusted data.
        asking: Argument -> the rule that has a person asked.
        denying: Argument -> the rule that denies the call.
    """

    open: list[str] = field(default_factory=list[str])
    rules: dict[str, str] = field(default_factory=dict[str, str])
    asking: dict[str, str] = field(default_factory=dict[str, str])
    denying: dict[str, str] = field(default_factory=dict[str, str])


_NOTHING: Final = _Judgement()


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
        self._terms: dict[str, _Terms] = {}
        self._passing: set[str] = set()  # tools of which every call passes that is given no secret

    def find_intervention(  # noqa: C901, PLR0911, PLR0912  # the order of the questions is the rule
        self, command: Call, machine: Machine
    ) -> Intervention | None:
        """Return what takes the place of a call; `None`: the call may be made."""
        if isinstance(command, StartToolCall) and command.tool in self._passing and not command.secrets:
            return None
        if self._holds_private or (isinstance(command, StartToolCall) and command.secrets):
            refusal = self._secrecy.find_refusal(command, machine)
            if refusal is not None:
                return refusal
        if not isinstance(command, StartToolCall):
            return None
        # The order of the questions is the rule: what stops a call for good comes first, then what a person can allow, then what is only recorded.
        terms = self._terms_of(command.tool)
        if terms.is_open:
            if not self._holds_private:
                self._passing.add(command.tool)
            return None
        if not machine.is_callable(command.step):
            return None
        iteration = machine.iterations[command.step]
        if iteration.is_approved:
            return None
        labelled = self._labelled(iteration)
        if not (labelled or terms.is_judged) and terms.asks == "never":
            return None  # all that follows is about labels, about policies, or about approvals
        judgement = self._judge(command.tool, command.args, iteration)
        if judgement.denying:
            return _denial(command, judgement)
        if terms.asks == "always" or judgement.asking or terms.must_ask(labelled, judgement):
            return ApprovalRuled(command.step, needed=True, rules=judgement.asking or None)
        if terms.asks == "rule" and not iteration.is_ruled:
            return RuleApproval(command.step, command.tool, command.args)
        if (refusal := self._find_refusal(command, iteration, terms, labelled, judgement)) is not None:
            return refusal
        # The use of a rule is recorded before the call. If the journal has it already, the call may be made.
        if judgement.rules and not iteration.is_ruled:
            return ApprovalRuled(command.step, needed=False, rules=judgement.rules)
        return None

    def find_private(self, command: StartPlanning, machine: Machine) -> CallFailed | None:
        """Return the failure of a planning that would show private data to the planner; `None`: the planner may be asked."""
        return self._secrecy.find_refusal(command, machine) if self._holds_private else None

    @cached_property
    def _secrecy(self) -> SecrecyPolicy:
        return SecrecyPolicy(self._facilities, self._run_id, self._header)

    @cached_property
    def _holds_private(self) -> bool:
        """Whether a tool of the run returns private data now, or did when the run was submitted, or an input is private."""
        # Plain loops: every run asks, and most have one tool and no input that is private.
        tools = self._facilities.tools
        for name, tool in self._header.lock.items():
            if tool.private or tools.get(name).private:
                return True
        if self._header.plan is None:
            return False
        for plan in (self._header.plan, *self._header.plans.values()):
            bodies: list[Plan | InnerPlan] = [plan, *plan.plans.values()]
            for body in bodies:
                for schema in body.inputs.values():
                    if READERS_KEY in schema:
                        return True
        return False

    @property
    def is_stricter(self) -> bool:
        """Whether more counts as untrusted now than when the program of the run was compiled."""
        return self._strict_lock is not self._header.lock or self._header.rules < WORLD_COUNTS_SINCE

    def rule(self, command: RuleApproval, machine: Machine) -> ApprovalRuled | CallFailed:
        """Return whether a person has to approve a call: it is labelled, or a policy or the approval rule of its tool says so.

        About an `endorse` step its own policy decides, and may deny it.
        """
        iteration = machine.iterations[command.step]
        if isinstance(action := iteration.item.node.code.action, AskPerson):
            return self._endorse(command, action.by, iteration)
        terms = self._terms_of(command.tool)
        judgement = self._judge(command.tool, command.args, iteration)
        needed = (
            bool(judgement.asking)
            or terms.must_ask(self._labelled(iteration), judgement)
            or self._is_person_needed(command, terms)
        )
        return ApprovalRuled(command.step, needed, (judgement.asking if needed else judgement.rules) or None)

    def _endorse(self, command: RuleApproval, by: str, iteration: Iteration) -> ApprovalRuled | CallFailed:
        """Ask the policy that an `endorse` step names about its value; where it has no opinion, a person is asked."""
        policy = self._facilities.policies.find(by)
        if policy is None:
            return CallFailed(
                command.step,
                UNKNOWN_POLICY,
                f"'{command.step}' names the policy '{by}', which this engine does not have",
            )
        value = cast("dict[str, Json]", command.args.value)[ENDORSED]
        labels = ValueLabels()
        if self._labelled(iteration).arguments:
            is_known = self._known_values.has(value, iteration)
            labels = ValueLabels(self._names(iteration, ENDORSED), is_known)
        match policy.judge(value, labels):
            case "allow":
                return ApprovalRuled(command.step, needed=False, rules={ENDORSED: by})
            case "deny":
                message = f"the policy '{by}' denies that the value of '{command.step}' counts as trusted"
                return CallFailed(command.step, POLICY_DENIED, message)
            case _:
                return ApprovalRuled(command.step, needed=True, rules={ENDORSED: by})

    def _judge(self, tool: str, args: CanonicalValue, iteration: Iteration) -> _Judgement:
        """Ask the policies about the arguments of a call."""
        terms, labelled = self._terms_of(tool), self._labelled(iteration)
        if not labelled.arguments and not terms.is_judged:
            return _NOTHING
        found = _Judgement()
        values = cast("dict[str, Json]", args.value)
        for name in values if terms.is_judged else labelled.arguments:
            if name in terms.allow_untrusted and not terms.is_judged:
                continue
            value, is_labelled = values.get(name), name in labelled.arguments and terms.is_guarded(name)
            labels = ValueLabels()
            if is_labelled:
                fits = fits_of(terms.signatures, name, is_selected=name in labelled.selected)
                sources = self._names(iteration, name) if terms.is_judged else (UNNAMED,)
                labels = ValueLabels(sources, self._known_values.has(value, iteration), fits)
            opinion = self._facilities.policies.judge(tool, name, value, labels)
            match opinion:
                case Opinion("deny", rule):
                    found.denying[name] = rule
                case Opinion("ask", rule):
                    found.asking[name] = rule
                case Opinion("allow", rule) if is_labelled:
                    found.rules[name] = rule
                case None if is_labelled and name not in terms.allow_untrusted:
                    found.open.append(name)
                case _:
                    pass
        return found

    def _find_refusal(
        self,
        command: StartToolCall,
        iteration: Iteration,
        terms: _Terms,
        labelled: _Labelled,
        judgement: _Judgement,
    ) -> CallFailed | None:
        """Return the failure of a call that the flow rule forbids."""
        if self._facilities.flow == "off":
            return None
        if judgement.open:
            return self._refuse(command, iteration, judgement.open)
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

    def _is_person_needed(self, command: RuleApproval, terms: _Terms) -> bool:
        """Return whether the approval rule of the tool wants a person to approve the call."""
        rule = self._facilities.tools.get(command.tool).approval
        if not callable(rule):
            # The tool had a rule when it was locked, or asks always now.
            return rule == "always" or terms.asked == "rule"
        try:
            return _rule_answer(rule(cast("dict[str, Json]", CanonicalValue(command.args.data).value)))
        except BaseException as error:  # noqa: BLE001  # fail closed: a rule that raises did not say that no person is needed
            self._facilities.log.warning("approval rule failed", step=command.step, error=described(error))
            return True

    # --- what a tool demands

    def _terms_of(self, name: str) -> _Terms:
        if (known := self._terms.get(name)) is not None:
            return known
        # An edit of a tool must not widen what a run may do that was checked with the tool of before, and a run must not keep a permission that the
        # tool has lost. So of the tool now and the tool when the run was submitted, the stricter declaration counts.
        now = self._facilities.tools.get(name)
        locked = self._header.lock.find(name)
        signature: Signature = locked or now
        policies = self._facilities.policies
        is_judged = not policies.is_empty and policies.is_about(name)
        egress = frozenset(now.egress).union(signature.egress)
        allowed = frozenset(now.allow_untrusted).intersection(signature.allow_untrusted)
        is_write, asks = Effect.WRITE in (now.effect, signature.effect), approval_kind(now)
        is_open = not is_write and not egress and asks == "never" and not is_judged
        # Whatever goes to such a tool is allowed, so nobody asks for its parameters.
        names: Mapping[str, Json] = {}
        if not is_open:
            names = cast("Mapping[str, Json]", now.parameters.get("properties") or {})
        made = self._terms[name] = _Terms(
            is_write=is_write,
            allow_untrusted=allowed,
            egress=egress,
            signatures=(signature, now),
            asks=asks,
            asked=asks if locked is None else locked.approval,
            allows_all=bool(names) and allowed.issuperset(names),
            is_judged=is_judged,
            is_open=is_open,
        )
        return made

    @cached_property
    def _strict_lock(self) -> ToolsetLock:
        """The lock of the run, in which the tools that are untrusted now count as untrusted."""
        lock = self._header.lock
        untrusted = {name for name in lock.names if self._facilities.tools.get(name).trust == "untrusted"}
        return lock.with_untrusted(untrusted)

    # --- labels

    def _labelled(self, iteration: Iteration) -> _Labelled:
        """Return the labels of a call."""
        code = self._code_of(iteration)
        if isinstance(code.action, CallTool | AskPerson):
            return _Labelled(code.tainted, code.controlled, code.selected)
        call = cast("dict[str, object]", iteration.call.value) if iteration.call is not None else {}
        if isinstance(
            code.action, RunPlanned
        ):  # what flows where in its sub-plan is not known by the stricter lock
            return _Labelled(sorted(call), is_controlled=True)
        agent = cast("RunAgent", code.action)
        return _Labelled(sorted(call) if agent.is_tainted else (), agent.is_tainted or agent.is_controlled)

    def _code_of(self, iteration: Iteration) -> StepCode:
        """Return the code of a call's step, with all labels; for a call of an agent, or in a sub-plan of `plan_for`, that may be the outer step's."""
        if not self.is_stricter:
            return iteration.item.node.code
        program = self._strict_program
        *outer, last = trail_of(iteration)
        for position in outer:
            program = cast("RunPlan", program.steps[position].action).program
        return program.steps[last]

    @cached_property
    def _strict_program(self) -> Program:
        """The plan, compiled with the stricter lock; a step is found in it by its position."""
        # A tool became untrusted after the run was submitted, or the run began when fewer things counted, so the labels that were compiled into
        # the program of the run are too few.
        header = self._header
        return program_of(
            _plan(header),
            self._strict_lock,
            header.plans,
            header.language,
            controlled=header.controlled,
            written=header.written,
        )

    def _source(self, iteration: Iteration, argument: str) -> tuple[str, ...]:
        """Return the paths of the steps through which untrusted data reaches an argument, from its source on; empty: none is known."""
        found = self._found(iteration, argument)
        return found[0].via if found else ()

    def _names(self, iteration: Iteration, argument: str) -> tuple[str, ...]:
        """Return the untrusted tools and inputs from which an argument has data."""
        found = self._found(iteration, argument)
        names = (name for source in found for name in (source.tools or (source.name,)))
        return tuple(dict.fromkeys(names)) or (UNNAMED,)

    def _found(self, iteration: Iteration, argument: str) -> Sequence[Source]:
        """Return the untrusted sources of an argument, the nearest first."""
        return self._sources.of_argument(tuple(trail_of(iteration)), argument).sources

    @cached_property
    def _sources(self) -> Sources:
        from ....plans.checker.flow.sources import Sources  # noqa: PLC0415  # only refusals and policies of the user need it

        header = self._header
        return Sources(_plan(header), self._strict_lock, header.plans, header.written)

    @cached_property
    def _known_values(self) -> KnownValues:
        return KnownValues(self._header, self._strict_lock, self._code_of)


def _denial(command: StartToolCall, judgement: _Judgement) -> CallFailed:
    argument, rule = next(iter(judgement.denying.items()))
    message = f"the policy '{rule}' denies the call '{command.step}' of '{command.tool}' with this value of '{argument}'"
    return CallFailed(command.step, POLICY_DENIED, message)


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
