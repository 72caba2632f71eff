"""From a command of the machine to a call that is ready to be made, or to the event that takes its place.

In a fork, the parent's result may stand for the call. The flow policy may refuse the call, or have a person asked. The arguments may not fit
the tool. A call that passes these questions is prepared: its arguments are bound, its secrets are filled in, and its keys are computed.

Only the call itself gets the values of secrets; journal, keys and messages hold their names. Whether an earlier result stands for a
prepared call is decided in `reuse.py`; `caller.py` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from ...errors import ConfigError, EngineBug, ToolError
from ...plans.program.program import ENDORSED
from ...plans.signature import Effect
from ...plans.values import LARGE_BYTES, Digest, Json, digest
from ...tools import Context, ModelRequest, Tool, ask_request
from ...tools.failures import shortened
from ...tools.fingerprint.fingerprint import (
    Fingerprint,
    fingerprint_of,
    has_changed,
    judgement_of,
    shown_fingerprint,
)
from ...tools.logbook import masked_text, masked_value
from ...tools.models.agent_turns import turn_request
from ..canonical_value import CanonicalValue
from ..commands import RecordEndorsement, RuleApproval, StartModelCall, StartToolCall
from ..events import ApprovalRuled, ApprovalVoided, CallFailed, CallMade, CallReused, CallStarted
from ..fork import Fork
from ..limits import bounded
from .artifacts import CallBlobs
from .facilities import Facilities
from .identity import ASK, ContentKey, ToolKeys, idempotency_key, model_key
from .running.invoke import Failed, Lost, Outcome, Returned

if TYPE_CHECKING:
    from ...plans.program.program import AgentTurns
    from ...tools.guards.guard import Guard
    from ...tools.secret import SecretReader
    from ..machine import Machine
    from .flow.flow_policy import FlowPolicy
    from .reuse import Results


StartCall: TypeAlias = StartToolCall | StartModelCall

_ANSWERED: Final = ContentKey.none("answered", "a person answered a question of the call")
_WRITE: Final = Effect.WRITE  # by themselves, as in `states.py`
_READ: Final = Effect.READ
_NO_EPOCHS: Final[Mapping[str, int]] = {}
_SECRET: Final = ContentKey.none("secret", "it was given a secret")
_TURN: Final = ContentKey.none("no-model", "no model was asked")


class PreparedCall:
    """A call that is about to be made, and its state until it has ended.

    Attributes that most calls never set are defaults of the class, which makes calls cheap to build.

    Attributes:
        args_digest: Digest of the arguments as the journal holds them: with the names of secrets.
        args: Bound arguments, canonical; empty for an `ask` step.
        request: The request, if it is a model call.
        fingerprint: The tool's fingerprint, if it is a part of the content key.
        write_key: Idempotency key of a write; empty for other effects.
        why: The reason why no earlier result stands for the call; `None`: the store has no result of its key.
        unkept: Why its result stands for no later call, although it has a key; empty: it does.
        is_begun: Whether its start is recorded.
        ready: Unix seconds; when it could have been made, if the run is observed.
        started: Unix seconds.
        handed: When the intent of a write was handed to the store, by `elapsed_s`.
        ended: Unix seconds, if the call started early and ended before the run reached it; else 0.
        given: The arguments with their parsed form, if they are large and unchanged from the plan; else `None`.
        epochs: Of a read whose result may be kept: the epochs before its start; `None`: it is another call, or a write was open.
        step: Path of the leaf.
        is_write: Whether the call may change the world.
        is_kept_read: Whether it is a read whose result may stand for later calls.
    """

    fingerprint: Fingerprint | None = None
    write_key: str = ""
    context: Context | None = None
    why: Mapping[str, Json] | None = None
    unkept: str = ""
    is_begun: bool = False
    ready: float = 0.0
    started: float = 0.0
    handed: float = 0.0
    ended: float = 0.0
    blobs: CallBlobs | None = None
    given: CanonicalValue | None = None
    epochs: Mapping[str, int] | None = None

    def __init__(
        self,
        command: StartCall,
        args_digest: Digest,
        tool: Tool | None,
        args: bytes,
        request: ModelRequest | None,
        key: ContentKey,
    ) -> None:
        self.command = command
        self.args_digest = args_digest
        self.tool = tool
        self.args = args
        self.request = request
        self.key = key
        self.step = command.step
        effect = tool.effect if tool is not None else None
        self.is_write = effect is _WRITE
        self.is_kept_read = effect is _READ and key.key != ""

    @property
    def kept_epochs(self) -> Mapping[str, int] | None:
        """The epochs that its result is kept with, empty unless it is a read; `None`: the result is not kept."""
        return self.epochs if self.is_kept_read else _NO_EPOCHS

    @property
    def has_more_to_record(self) -> bool:
        """Whether the call may record more than its result: times and ids, progress, or the usage of a model or a judge."""
        tool = self.tool
        return self.request is not None or (tool is not None and (tool.wants_context or bool(tool.guard)))

    @property
    def used(self) -> dict[str, Json] | None:
        """The values that the call took from its context, for the journal; `None`: none."""
        if self.context is None:
            return None
        used = self.context.used
        if not (used.varies or used.env or used.secrets):
            return None
        return {name: value for name, value in asdict(used).items() if value}

    def start(self) -> CallStarted:
        """Note that the start is recorded, and return its event; the event of a write holds the intent."""
        self.is_begun = True
        command = self.command
        # The intent has the arguments themselves, so that a person who decides about a lost write sees them. For other effects a digest will do.
        intent = command.args if isinstance(command, StartToolCall) and self.is_write else None
        key = self.write_key or self.key.key
        why = self.why if command.attempt == 1 else None  # the same for each attempt, so it is recorded once
        return CallStarted(self.step, command.attempt, self.args_digest, key, intent, why)

    def made(self, output: CanonicalValue, mismatch: Sequence[str] | None = None) -> CallMade:
        """Return the event of a call that has returned, is not a write, and whose start is not recorded; `mismatch` is as in the event."""
        command = self.command
        why = self.why if command.attempt == 1 else None
        return CallMade(
            self.step, command.attempt, self.args_digest, output, self.started, self.key.key, why, mismatch
        )


# --- from command to call

Substitute: TypeAlias = ApprovalRuled | ApprovalVoided | CallReused | CallFailed
"""An event that takes the place of a call."""


def dispatch(
    command: StartCall,
    machine: Machine,
    results: Results,
    flow_policy: FlowPolicy,
    preparation: Preparation,
) -> PreparedCall | Substitute | RuleApproval | None:
    """Return the prepared call of a command, or what takes its place; `None`: the machine no longer wants it.

    Args:
        command: The command.
        machine: The machine of the run.
        results: The results of a fork's parent, which may stand for calls.
        flow_policy: Keeps untrusted data from writes, and asks for approvals.
        preparation: Binds the arguments and names the call.
    """
    # The parent's result comes first: where it stands, no call is made that the flow policy would have to look at.
    if results.is_of_fork and (inherited := results.of_parent(command)) is not None:
        return inherited
    # A decision may have come from a process without the tools, or before this one had the tool that it has now.
    if machine.shown and (voided := preparation.find_void(command.step, machine)) is not None:
        return voided
    if (intervention := flow_policy.find_intervention(command, machine)) is not None:
        return intervention
    try:
        return preparation.prepare(command)
    except ToolError as fault:
        if not machine.is_callable(command.step):
            return None
        message = preparation.without_secrets(command, str(fault))
        return CallFailed(command.step, fault.code, message, fault.temporary)


def endorsed(command: RecordEndorsement, at: float) -> CallMade:
    """Return the event of an endorsement that a person or a policy has allowed.

    Raises:
        EngineBug: The step has a question that nobody answered.
    """
    given = cast("dict[str, Json]", command.args.value)
    if ENDORSED not in given:
        raise EngineBug(f"step '{command.step}' has a question that nobody answered")
    output = CanonicalValue.of(given[ENDORSED])
    return CallMade(command.step, command.attempt, command.args.digest, output, at)


# --- preparation


class Preparation:
    """Binds and names the calls of one run.

    Args:
        facilities: What the runs of an engine share.
        run_id: The run.
        fork: The fork that made the run: a write that the parent has called is repeated under the parent's idempotency key.
        tenant: Whose the run is.
    """

    def __init__(
        self, facilities: Facilities, run_id: str, fork: Fork | None = None, tenant: str = ""
    ) -> None:
        self._facilities = facilities
        self.run_id = run_id
        self._tenant = tenant
        self._fork = fork
        self._tools: dict[str, ToolKeys] = {}
        self._fingerprints: dict[str, str | None] = {}

    @cached_property
    def secrets(self) -> SecretReader:
        """Reads the secrets of the run's calls."""
        return self._facilities.secrets.reader()

    # Whatever is computed here may be computed again by another process from the same journal, and must come out the same: keys hold digests of
    # arguments as the journal has them, never values of secrets, times or ids.

    def prepare(self, command: StartCall) -> PreparedCall:
        """Bind arguments and name the call. Raises: ToolError: the arguments do not fit."""
        if isinstance(command, StartModelCall):
            request = _request(command)
            key = self._model_key(command, ASK, request)
            return PreparedCall(command, command.request.digest, None, b"", request, key)
        # Once a run, not once a call: a fingerprint is expensive. But not once an engine: constants that the tool reads may have changed since.
        known = self._tools.get(command.tool) or self._look_up(command.tool)
        if command.turns is not None:
            return self._agent_turn(command, command.turns, known)
        if command.secrets:
            return self._with_secrets(command, known.tool)
        given = command.args
        shared = given.shared if len(given.data) >= LARGE_BYTES else None
        large = given if shared is not None else None
        args = known.tool.bind_canonical(given.data, shared)
        # An `@agent` tool is a prompt with a signature: its call is a request to a model, and its key names the request, not the tool's code.
        if known.tool.request_of is not None:
            return self._agent_call(command, known, args)
        # In most calls binding changes nothing: no default is filled in. Then the digest is known, and the bytes are shared with the journal.
        given_digest = args_digest = given.digest
        if args == given.data:
            args = given.data
        else:
            args_digest, large = digest(args), None
        key = known.of(args, args_digest, command.sample, large)
        if command.answers:
            key = _ANSWERED  # the result is made of the answers too
        call = PreparedCall(command, given_digest, known.tool, args, None, key)
        if large is not None:
            call.given = large
        return self._with_tool(call, known)

    def _with_secrets(self, command: StartToolCall, tool: Tool) -> PreparedCall:
        """Prepare a call with secrets. Its result is never reused: the content key would have to hold the secret, or a digest of it.

        A digest would let everyone who reads the store test guesses of the secret.
        """
        args = self.bound(command, tool)
        request = _request_of(tool, args) if tool.request_of is not None else None
        return self._with_tool(PreparedCall(command, command.args.digest, tool, args, request, _SECRET), None)

    def bound(self, command: StartToolCall, tool: Tool) -> bytes:
        """Return the arguments of a call of this tool, with the values of secrets. Raises: ToolError: they do not fit."""
        if not command.secrets:
            return tool.bind_canonical(command.args.data)
        return tool.bind({**cast("dict[str, Json]", command.args.value), **self._secrets_given(command)})

    def _secrets_given(self, command: StartToolCall) -> dict[str, Json]:
        """Return the values of the secrets among the arguments of a call."""
        return {
            name: self.secrets.value(secret, command.step, command.tool, name)
            for name, secret in command.secrets.items()
        }

    def _agent_call(self, command: StartToolCall, known: ToolKeys, args: bytes) -> PreparedCall:
        request = _request_of(known.tool, args)
        key = self._model_key(command, known.tool.name, request, known.fingerprint)
        return self._with_tool(
            PreparedCall(command, command.args.digest, known.tool, args, request, key), known
        )

    def _agent_turn(self, command: StartToolCall, turns: AgentTurns, known: ToolKeys) -> PreparedCall:
        """Prepare a turn of an `@agent` tool whose model may call tools."""
        tool, asked = known.tool, command.args
        if (
            tool.request_of is None
        ):  # a rehearsal's stand-in, which answers with what it was recorded to answer
            return self._with_tool(PreparedCall(command, asked.digest, tool, asked.data, None, _TURN), known)
        given = cast("dict[str, Any]", asked.value)["args"]
        args = tool.bind({**given, **self._secrets_given(command)})
        request = turn_request(_request_of(tool, args), turns)
        key = _SECRET if command.secrets else self._model_key(command, tool.name, request, known.fingerprint)
        return self._with_tool(PreparedCall(command, asked.digest, tool, args, request, key), known)

    def _with_tool(self, call: PreparedCall, known: ToolKeys | None) -> PreparedCall:
        """Add the fingerprint and, for a write, the idempotency key to a call."""
        if known is not None:
            call.fingerprint = known.fingerprint
        # In a fork, a write that the parent has called keeps the parent's key, so that the world sees one write, not two.
        if call.is_write:
            name, key = call.tool.name if call.tool is not None else "", ""
            if self._fork is not None:
                key = self._fork.key_of(call.step, name, call.args_digest)
            call.write_key = key or idempotency_key(self.run_id, call.step, call.args_digest)
        return call

    def _look_up(self, name: str) -> ToolKeys:
        """Return the keys of a tool, as the tool is now."""
        tool = self._facilities.tools.get(name)
        fingerprint = fingerprint_of(tool) if tool.request_of is None else judgement_of(tool)
        # What an engine has last made is the same where the tool is.
        known = self._facilities.tool_keys.get(name)
        if known is None or known.fingerprint is not fingerprint or known.tenant != self._tenant:
            known = self._facilities.tool_keys[name] = ToolKeys(tool, fingerprint, self._tenant)
        self._tools[name] = known
        return known

    def approved_fingerprint(self, name: str) -> str | None:
        """Return the fingerprint of a tool as a person is asked about it; `None`: this process has not the tool, or sees nothing of its code."""
        if name not in self._fingerprints:
            tool = self._facilities.tools.find(name)
            self._fingerprints[name] = shown_fingerprint(tool) if tool is not None else None
        return self._fingerprints[name]

    def find_void(self, step: str, machine: Machine) -> ApprovalVoided | None:
        """Return the event that has a person asked again, where the tool of a call has changed since the person was asked; else `None`."""
        shown, tool = machine.shown.get(step), machine.tool_of(step)
        if shown is None or tool is None or not machine.is_consent_due(step):
            return None
        found = self.approved_fingerprint(tool)
        return machine.void_of(step, found) if found is not None and has_changed(shown, found) else None

    def _model_key(
        self, command: StartCall, subject: str, request: ModelRequest, judgement: Fingerprint | None = None
    ) -> ContentKey:
        try:
            parts = self._facilities.models.key_parts(request)
        # The key only says that there is none: the call itself fails with this message, as a failure of its step.
        except ConfigError as fault:
            return ContentKey.none("no-model", str(fault))
        return model_key(parts, command.sample, request.temperature, subject, judgement, self._tenant)

    def without_secrets(self, command: StartCall, text: str) -> str:
        """Return a message for the journal, in which the expression of a secret replaces its value."""
        return masked_text(text, self._secrets_of(command))

    def redacted(self, call: PreparedCall, outcome: Outcome) -> Outcome:
        """Return an outcome for the journal: without the values of the call's secrets, and with a bounded message."""
        # A tool that asked its context for a secret may put it into a result or a message, too.
        asked: list[str] = []
        shared: Mapping[str, str] = {}
        if call.context is not None:
            asked = call.context.used.secrets
            # So may one whose resources were opened with a secret: it counts as read, since the result depends on it.
            if call.tool is not None:
                shared = self._facilities.resources.secrets_of(call.tool)
                asked.extend(name for name in shared if name not in asked)
        command = call.command
        has_secrets = asked or (type(command) is StartToolCall and command.secrets)
        if not has_secrets and type(outcome) is Returned and not outcome.mismatch:
            return outcome
        secrets = self._secrets_of(call.command, asked) | dict(shared)
        match outcome:
            case Returned(output, mismatch):
                if mismatch:
                    mismatch = [bounded(masked_text(each, secrets)) for each in mismatch]
                    outcome = Returned(output, mismatch)
                masked = masked_value(output.data, secrets) if secrets else output.data
                return outcome if masked is output.data else Returned(CanonicalValue(masked), mismatch)
            case Failed(code, message):
                code, message = masked_text(code, secrets), bounded(masked_text(message, secrets))
                return replace(
                    outcome,
                    code=code,
                    message=message,
                    trace=shortened(masked_text(outcome.trace, secrets)),
                    frames=masked_text(outcome.frames, secrets),
                )
            case Lost(why, trace, frames):
                return Lost(
                    bounded(masked_text(why, secrets)),
                    shortened(masked_text(trace, secrets)),
                    masked_text(frames, secrets),
                )

    def _secrets_of(self, command: StartCall, asked: Sequence[str] = ()) -> dict[str, str]:
        """Return name -> value of the secrets in the arguments of a call, and of those that it took from its context."""
        given = command.secrets.values() if isinstance(command, StartToolCall) else ()
        if not given and not asked:
            return {}
        found = {name: self.secrets.find(name) for name in sorted({*given, *asked})}
        return {name: secret for name, secret in found.items() if secret}


def _request_of(tool: Tool, args: bytes) -> ModelRequest:
    """Return the request of an `@agent` tool for these arguments. Raises: ToolError: its prompt cannot be rendered."""
    try:
        return cast("ModelRequest", cast("Any", tool.request_of)(CanonicalValue(args).value))
    except ToolError:
        raise
    except Exception as fault:
        raise ToolError(
            f"tool '{tool.name}': no prompt can be made of its arguments: {fault!r}", code="bad-prompt"
        ) from fault


def _request(command: StartModelCall) -> ModelRequest:
    """Return the request of an `ask` step. Raises: ToolError: an example or a guard is not valid."""
    rendered = cast("dict[str, Any]", command.request.value)
    try:
        request = ask_request(
            rendered["prompt"],
            system=rendered.get("system"),
            examples=rendered.get("examples") or (),
            returns=command.returns,
            model=command.model,
            temperature=command.temperature,
            max_tokens=command.max_tokens,
            guard=cast("tuple[Guard, ...]", command.guard),
            data=command.data,
        )
    except ConfigError as fault:
        raise ToolError(str(fault), code="bad-prompt") from fault
    return replace(request, step=command.step, turns=command.turns)
