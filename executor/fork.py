"""How a run continues another run: affected steps run again, and the parent's journal answers for the other steps.

The *cone* of a fork holds every step of the root plan that may have another outcome: steps that were asked for, overridden or changed, steps
that refer to a changed input, and steps that depend on one of these by reference, by `after`, or by a resource that a step in the cone
writes. No call is made outside the cone, whatever `reuse_for` says and however the tools have changed. Inside the cone the usual reuse
holds, and a write waits for a person unless the fork allows writes.

Some writes wait for a person in every fork, inside the cone and outside, whether or not the fork allows writes: writes whose outcome in the
parent is unknown, and writes that a person denied there (`PastWrite`). Forks of the fork keep asking until the outcome is known. If a write is done
and only its result was refused, its failure stands here, too. If the fork gives it other arguments or asks for the step, a person is asked.

A model's patch is a fork with an edited plan that no person has read. So a write in a step that the patch adds or changes also waits for a person if it
is the same call as a write that is done. The check of the patch (`planner/drafting/patching.py`) sees only the text of calls; here their arguments are known. The
other steps stay free: a plan may make equal calls on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ..errors import InputRejected
from ..lazy_imports import late_pattern
from ..plans import Plan
from ..plans.checker.survey import has_untrusted_data
from ..plans.digest import canonical_step
from ..plans.immutable import immutable
from ..plans.program.graph import cone
from ..plans.program.program import (
    AskPerson,
    CallTool,
    FailWith,
    Program,
    RunAgent,
    RunPlan,
    RunPlanned,
    StepCode,
    Track,
    WaitUntil,
)
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.signature import Effect
from ..plans.values import Digest, Json, canonical, digest
from .canonical_value import CanonicalValue
from .events import (
    RESOLVED_FAILED,
    WITHDRAWN,
    Answered,
    Approved,
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    Denied,
    JournalEvent,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    WaitBegun,
    WaitEnded,
)
from .execution_tree import Item, Iteration
from .ledger import comes_after, tracks_of
from .states import State

if TYPE_CHECKING:
    from ..plans.plan import Step
    from .journal.header import Header
    from .machine import Machine


Holds: TypeAlias = Literal["all", "made", "none"]
PastOutcome: TypeAlias = Literal["unknown", "refused", "denied", "done"]
_ROOT: Final = late_pattern(r"[a-z][a-z0-9_]*")
_ITEM: Final = late_pattern(r"[a-z][a-z0-9_]*\[[0-9]+\]")
_ABOUT_FAILURE: Final = ("after", "on_error", "retries", "timeout")  # of a step: they decide about no call


def root_of(path: str) -> str:
    """Return the id of the root plan's step that a path lies in."""
    found = _ROOT.match(path)
    return found[0] if found else path


@immutable
class PastWrite:
    """A write of an earlier run about which a person is asked before this run makes it.

    Attributes:
        outcome: What is known of the earlier call.
        run: The run that made it, or in which a person denied it; empty where a fork of an older version does not tell.
        args: Digest of the call's arguments; empty if the call was not made.
        key: The idempotency key of the call. A call with the same arguments is made under the same key, so that a server which
            knows the key does not act twice.
        tool: The tool that was called: the same call at another path, where an edited plan or list has moved it to, is asked about as well.
    """

    outcome: PastOutcome
    run: str = ""
    args: str = ""
    key: str = ""
    tool: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the known fields as JSON."""
        data = {
            "outcome": self.outcome,
            "run": self.run,
            "args": self.args,
            "key": self.key,
            "tool": self.tool,
        }
        return {name: value for name, value in data.items() if value}

    def describe(self, args: str) -> str:
        """Return a sentence for the person who decides about a call with arguments of this digest."""
        where = f"run {self.run}" if self.run else "an ancestor of this run"
        other = " with other arguments" if self.args not in ("", args) else ""
        match self.outcome:
            case "unknown":
                return f"{where} called it{other}, and the outcome of that call is unknown: it may have taken effect"
            case "refused":
                return f"{where} called it{other}; the call is done, result refused: it took effect, but its result was not accepted"
            case "denied":
                return f"a person denied it in {where}"
            case "done":
                return f"{where} called it{other}, and the call is done"


@immutable
class Fork:
    """How a run came of its parent; part of its header. `Fork()` is that of a run which came of none.

    Attributes:
        cone: Ids of the affected steps of the root plan, in the plan's order.
        items: Of steps in the cone of which only some items are affected: the paths of these items.
        unknown: Paths of writes whose outcome in the parent is unknown, in forks of older versions, which called them where they were affected and
            writes were allowed. A replay of such a fork decides as it did; new forks have `past_writes`.
        past_writes: Path of each write about which a person is asked in any case -> what an earlier run knows of it.
        again: Of a retry, which goes on with the parent where it ended: paths of the calls that the parent made and that are made again. The
            parent answers for all its other calls; cone and `holds` are those of the parent and say what still waits for a person.
        patched: Ids of the steps whose calls come of a model's patch: of this run's, or of an ancestor's that nobody has edited since.
        controlled: Ids of the steps that a patch adds or changes after a failure that untrusted data may have caused, unless a person has edited
            them since: untrusted data decides that they run.
        written: Ids of the steps that a patch adds or changes whose planner was shown untrusted data, unless a person has edited them since: their own
            words count as such data. An empty id stands for the output.
        done_writes: Writes that were done before the patch: tool -> digest of the complete arguments (`complete_digest`) -> the run that made it.
        overrides: Path of a step or item -> the value that stands in its place.
        holds: Which writes wait for a person: `all` in the cone and all that the parent never came to, those in the cone that it has `made`
            already, or `none`.
        at: The step that was asked to run again: an earlier result does not stand for its calls.
        settled: Path of each call that the parent has made -> digest of its arguments: no person is asked for it again.
    """

    cone: tuple[str, ...] = ()
    overrides: Mapping[str, CanonicalValue] = field(default_factory=dict[str, CanonicalValue])
    holds: Holds = "none"
    at: str = ""
    settled: Mapping[str, str] = field(default_factory=dict[str, str])
    items: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    past_writes: Mapping[str, PastWrite] = field(default_factory=dict[str, PastWrite])
    again: frozenset[str] | None = None
    patched: tuple[str, ...] = ()
    done_writes: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    controlled: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    def is_affected(self, path: str) -> bool:
        """Whether the call at this path is made again; otherwise the parent's result stands."""
        return self.is_in_cone(path) if self.again is None else path in self.again

    def is_in_cone(self, path: str) -> bool:
        """Whether the path lies in the cone."""
        root = root_of(path)
        if root not in self.cone:
            return False
        items = [item for item in self.items if root_of(item) == root]
        return not items or any(is_within(path, item) for item in items)

    def is_afresh(self, path: str) -> bool:
        """Whether the path lies in the step of `at`, or a retry makes the call again."""
        return (self.again is not None and path in self.again) or (bool(self.at) and is_within(path, self.at))

    def is_held(self, path: str, tool: str, args: str) -> bool:
        """Whether a write at this path, of this tool with arguments of this digest, waits for a person.

        A write of unknown outcome always waits. If writes are not allowed, affected writes and writes that the parent never reached wait too.

        Args:
            path: The call's.
            tool: The tool that it calls.
            args: Digest of its arguments.
        """
        if self.find_past(path, tool, args) is not None and path not in self.unknown:
            return True
        if self.again is not None and (path in self.again or self.settled.get(path, args) != args):
            return (
                path not in self.again
            )  # every attempt failed for sure, or the parent has made it with other arguments
        is_affected = self.is_in_cone(path)
        if path in self.unknown:
            return self.holds != "none" or not is_affected
        match self.holds:
            case "all":
                return is_affected or path not in self.settled
            case "made":
                return is_affected and path in self.settled
            case "none":
                return False

    def is_settled(self, path: str, args: str) -> bool:
        """Whether the parent has made exactly this call, and nothing that decides it has changed."""
        if path in self.past_writes:
            return self.is_kept(path) and self.settled.get(path) == args
        return not self.is_affected(path) and self.settled.get(path) == args

    def is_kept(self, path: str) -> bool:
        """Whether the parent's failure stands for a write, affected or not: the call is done, and only its result was refused.

        An edited plan may then handle the failure (`on_error`) without a call. The failure does not stand for the step of `at`.
        """
        past = self.past_writes.get(path)
        if past is None or self.again is not None:
            return past is not None and not self.is_affected(path)
        return past.outcome == "refused" and not self.is_afresh(path)

    def is_same_request(self, other: Fork) -> bool:
        """Whether two forks of one run, with the same plan and inputs, have equal arguments."""
        return self._request == other._request

    @property
    def _request(self) -> tuple[bool, str, str, Mapping[str, str]]:
        given = {path: value.digest for path, value in self.overrides.items()}
        return self.again is None, self.at, self.holds, given

    @property
    def is_newer(self) -> bool:
        """Whether an older version must refuse this fork: it would make calls that wait for a person here."""
        return (
            bool(self.past_writes or self.done_writes or self.controlled or self.written)
            or self.again is not None
        )

    def find_past(self, path: str, tool: str, args: str) -> PastWrite | None:
        """Return the knowledge of an earlier run because of which a person is asked about a call.

        A write that was made at another path counts where it is the same call: an edited plan may have renamed its step, or an edited
        list moved its item. A retry has the plan and the inputs of its parent, so that equal calls at two paths are two calls.

        Args:
            path: The call's.
            tool: The tool that it calls; empty: the call may not be compared with those at other paths.
            args: Digest of its arguments.
        """
        if (past := self.past_writes.get(path)) is not None:
            return past
        if path in self.unknown:
            return PastWrite("unknown")
        if self.again is not None or not tool:
            return None
        # Asking about an equal call at another path may ask once too often. Not asking may pay twice.
        same = (past for past in self.past_writes.values() if (past.tool, past.args) == (tool, args))
        return next(same, None)

    def find_done(
        self, path: str, tool: str, call: CanonicalValue, defaults: Mapping[str, Json]
    ) -> PastWrite | None:
        """Return the done write that a step of a model's patch would repeat by a call.

        The call has no key of the earlier one: a person who approves it wants it made once more. If the parent has made exactly this call at
        this path, a person has decided about it there.

        Args:
            path: The call's.
            tool: The tool that it calls.
            call: Its arguments.
            defaults: Arguments that the tool takes where a call gives none.
        """
        if not self.may_repeat(path) or tool not in self.done_writes or self.settled.get(path) == call.digest:
            return None
        run = self.done_writes[tool].get(complete_digest(call, defaults))
        return None if run is None else PastWrite("done", run, tool=tool)

    def may_repeat(self, path: str) -> bool:
        """Whether a call at this path is compared with the writes that are done."""
        return bool(self.done_writes) and root_of(path) in self.patched

    def key_of(self, path: str, tool: str, args: str) -> str:
        """Return the idempotency key under which an earlier run called exactly this write; empty: no known run did.

        Args:
            path: The call's.
            tool: The tool that it calls.
            args: Digest of its arguments.
        """
        past = self.find_past(path, tool, args)
        return past.key if past is not None and past.args == args else ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        data: dict[str, Any] = {
            "cone": list(self.cone),
            "overrides": {path: value.value for path, value in self.overrides.items()},
            "holds": self.holds,
            "at": self.at,
            "settled": dict(self.settled),
            "items": list(self.items),
            "unknown": list(self.unknown),
        }
        if self.past_writes:
            data["past_writes"] = {path: past.to_dict() for path, past in self.past_writes.items()}
        if self.again is not None:
            data["again"] = sorted(self.again)
        if self.done_writes:
            data["patched"] = list(self.patched)
            data["done_writes"] = {tool: dict(calls) for tool, calls in self.done_writes.items()}
        if self.controlled:
            data["controlled"] = list(self.controlled)
        if self.written:
            data["written"] = list(self.written)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Fork | None:
        """Read it back from `to_dict`."""
        if data is None:
            return None
        return cls(
            cone=tuple(data["cone"]),
            overrides={path: CanonicalValue.of(value) for path, value in data["overrides"].items()},
            holds=data["holds"],
            at=data["at"],
            settled=data["settled"],
            items=tuple(data["items"]),
            unknown=tuple(data.get("unknown", ())),
            past_writes={path: PastWrite(**past) for path, past in data.get("past_writes", {}).items()},
            again=frozenset(data["again"]) if "again" in data else None,
            patched=tuple(data.get("patched", ())),
            done_writes=data.get("done_writes", {}),
            controlled=tuple(data.get("controlled", ())),
            written=tuple(data.get("written", ())),
        )


def is_within(path: str, outer: str) -> bool:
    """Whether a path is a step, item or iteration, or lies inside it."""
    return path == outer or path.startswith((f"{outer}[", f"{outer}#", f"{outer}/"))


@immutable
class Inherited:
    """What a call came to in the parent.

    Attributes:
        args: Digest of the arguments that it was made with.
        given: Digest of those that the plan gave it, before a person edited them.
    """

    args: str
    outcome: CallSucceeded | CallReused | CallFailed
    given: str


def inherited_from(  # noqa: C901  # one case for each kind of event
    events: Iterable[JournalEvent],
) -> dict[str, Inherited]:
    """Return path -> outcome of every call that ended in a journal. Of several attempts the last counts."""
    events = list(events)
    # What a call was to be made with before a person changed it.
    # Of several edits the first: a person who is asked again sees the arguments of the edit before.
    edited: dict[str, str] = {}
    for event in events:
        if isinstance(event, Approved) and event.edit is not None:
            edited.setdefault(event.step, event.args)
    args: dict[str, str] = {}
    found: dict[str, Inherited] = {}

    def ended(step: str, digest: str, outcome: CallSucceeded | CallReused | CallFailed) -> None:
        found[step] = Inherited(digest, outcome, edited.get(step, digest))

    for event in events:
        match event:
            case CallStarted(step=step, args=digest):
                args[step] = digest
                found.pop(step, None)
            case CallMade(step=step, args=digest, output=output):
                args[step] = digest
                ended(step, digest, CallSucceeded(step, output))
            case CallReused(step=step, args=digest) as reused:
                ended(step, digest, reused)
            case WaitBegun(step=step, args=digest):
                args[step] = digest
            case WaitEnded(step=step):
                ended(step, args[step], CallSucceeded(step, CanonicalValue(b"null")))
            case Answered(step=step, args=digest, answer=answer):
                args[step] = digest
                ended(step, digest, CallSucceeded(step, answer))
            case CallFailed(step=step, args=str(digest)) as failed:  # in this run's own parent
                ended(step, digest, failed)
            case _:
                end = _end_of(event)
                # A step that failed before its call fails again, or runs as if nobody had stopped it.
                if end is not None and end.step in args and getattr(end, "code", "") != WITHDRAWN:
                    ended(end.step, args[end.step], end)
    return found


def complete_digest(call: CanonicalValue, defaults: Mapping[str, Json]) -> Digest:
    """Return the digest of a call's arguments together with the defaults that it leaves to the tool: `f(1)` and `f(1, b=0)` may be one call."""
    match call.value:
        case dict(given) if missing := defaults.keys() - given.keys():
            return digest(canonical({**given, **{name: defaults[name] for name in missing}}))
        case _:
            return call.digest


def done_calls(events: Iterable[JournalEvent]) -> dict[str, CanonicalValue]:
    """Return path -> arguments of every write of a journal that is done, also where its result was refused.

    Arguments are those of the call, after an edit by a person. A write that only a parent made is none of this journal's.
    """
    calls: dict[str, CanonicalValue] = {}
    found: dict[str, CanonicalValue] = {}
    for event in events:
        match event:
            case CallStarted(step=step, intent=intent) if intent is not None:
                calls[step] = intent
            case CallSucceeded(step=step) | ResolvedDone(step=step) if step in calls:
                found[step] = calls[step]
            case CallFailed(step=step) as failed if failed.is_done and step in calls:
                found[step] = calls[step]
            case _:
                pass
    return found


def _end_of(event: JournalEvent) -> CallSucceeded | CallFailed | None:
    """Return the outcome of a call, by its own record or by a person's decision."""
    match event:
        case CallSucceeded() | CallFailed():
            return event
        case ResolvedDone(step=step, output=output):
            return CallSucceeded(step, output)
        case ResolvedFailed(step=step, why=why):
            return CallFailed(step, RESOLVED_FAILED, why)
        case _:
            return None


class PastWrites:
    """Finds in a run's journal the writes about which every fork of the run asks a person.

    A write failed for sure only if every attempt did. If one attempt was lost and a later one failed, the lost one may have taken effect, and
    the outcome is unknown.

    Args:
        run_id: The run.
        before: Those of the run's own fork: what its parent left open, the run may have left as it was.
        has_reconciled: Whether the step's tool is asked about a lost attempt before the next one begins, which then says that the lost attempt
            did nothing.
    """

    def __init__(
        self, run_id: str, before: Mapping[str, PastWrite], has_reconciled: Callable[[str], bool]
    ) -> None:
        self._run_id = run_id
        self._has_reconciled = has_reconciled
        self._found = dict(before)
        self._lost = {path: past for path, past in before.items() if past.outcome == "unknown"}
        self._begun: set[str] = set()  # attempts without an end so far

    def of(self, events: Iterable[JournalEvent]) -> dict[str, PastWrite]:
        """Return the writes that the journal leaves open, by path, sorted."""
        for event in events:
            match event:
                case CallStarted(step=step, args=args, key=key, intent=intent) if intent is not None:
                    self._start(step, PastWrite("unknown", self._run_id, args, key))
                case CallLost(step=step):
                    self._lose(step)
                case CallFailed(step=step) as failed if step in self._begun:
                    self._fail(step, failed)
                case CallFailed(step=step) as failed if failed.is_done and step not in self._found:
                    self._found[step] = PastWrite("refused", self._run_id)  # a fork of an older version
                case (
                    CallSucceeded(step=step)
                    | CallReused(step=step)
                    | ResolvedDone(step=step)
                    | ResolvedRetry(step=step)
                    | ResolvedFailed(step=step)
                ):
                    self._close(step)
                case Denied(step=step) if step not in self._found:
                    self._found[step] = PastWrite("denied", self._run_id)
                case _:
                    pass
        return {path: self._found[path] for path in sorted(self._found)}

    def _start(self, step: str, call: PastWrite) -> None:
        # A start without an end is the trace of a process that died during the call.
        if step in self._begun:
            self._lose(step)
        if (lost := self._lost.get(step)) is not None and lost.key == call.key and self._has_reconciled(step):
            del self._lost[step]
        self._begun.add(step)
        self._found[step] = call

    def _lose(self, step: str) -> None:
        self._begun.discard(step)
        if step in self._found:
            self._lost[step] = self._found[step]

    def _fail(self, step: str, failed: CallFailed) -> None:
        if failed.is_done:
            done = replace(self._found[step], outcome="refused")
            self._close(step)
            self._found[step] = done
        # An earlier attempt that was lost outweighs a later one that failed for sure: the lost one may have taken effect.
        elif (lost := self._lost.get(step)) is None:
            self._close(step)
        else:
            self._begun.discard(step)
            self._found[step] = lost

    def _close(self, step: str) -> None:
        self._found.pop(step, None)
        self._lost.pop(step, None)
        self._begun.discard(step)


def fork_of(  # noqa: PLR0913  # what a fork is made of
    program: Program,
    before: Header,
    after: Header,
    *,
    at: str | None,
    overrides: Mapping[str, CanonicalValue],
    holds: Holds,
    settled: Mapping[str, str],
    past_writes: Mapping[str, PastWrite],
    patched: Sequence[str] = (),
    done_writes: Mapping[str, Mapping[str, str]] | None = None,
    controlled: Sequence[str] = (),
    written: Sequence[str] = (),
    failed: Collection[str] = (),
    also: Sequence[str] = (),
) -> Fork:
    """Return how a run with `after`'s plan and inputs comes of one with `before`'s.

    Args:
        program: The plan of `after`, compiled.
        before: The parent's header; it has a plan. Values that it was given itself stand, unless they are asked to run.
        after: The new run's; it has a plan.
        at: See `Fork`, as the rest.
        overrides: See `Fork`.
        holds: See `Fork`.
        settled: See `Fork`.
        past_writes: See `Fork`.
        patched: See `Fork`.
        done_writes: See `Fork`.
        controlled: See `Fork`.
        written: See `Fork`.
        failed: Of a patch: paths of calls that surely failed. Made again they are no repetition, and need nobody's leave.
        also: Ids of further steps that are affected.

    Raises:
        InputRejected: A path is none of the plan's.
    """
    # What starts the cone: the step of `at`, overrides, edited steps, steps that the caller names, and steps that refer to a changed input.
    asked = [*([at] if at is not None else []), *overrides]
    _expect_steps(program, asked)
    items = [path for path in asked if _is_lone_item(program, path)]
    starts = [root_of(path) for path in asked if path not in items]
    changed = changed_steps(before, after)
    given = {**_carried(before, at, changed, program), **overrides}
    starts += [*changed, *also]
    starts += steps_of_inputs(program, before.inputs, after.inputs)
    roots = list(dict.fromkeys(map(root_of, items)))
    # An item that was asked for alone leaves the other items of its step to the parent, unless something else affects the complete step. Steps
    # behind it are affected in either case, because they may see the list.
    complete = set(cone_of(program, starts)).union(
        *(set(cone_of(program, [root])) - {root} for root in roots)
    )
    cone = cone_of(program, [*starts, *roots])
    kept = tuple(path for path in items if root_of(path) not in complete)
    settled = {
        path: args for path, args in settled.items() if path not in failed or root_of(path) not in cone
    }
    return Fork(
        cone,
        given,
        holds,
        at or "",
        settled,
        kept,
        past_writes=past_writes,
        patched=tuple(patched),
        done_writes=(done_writes or {}) if patched else {},
        controlled=tuple(controlled),
        written=tuple(written),
    )


def _carried(
    before: Header, at: str | None, changed: Sequence[str], program: Program
) -> dict[str, CanonicalValue]:
    """Return the values that the parent, itself a fork, was given, and that still stand."""
    known = [step.id for step in program.steps]
    given: Mapping[str, CanonicalValue] = before.fork.overrides if before.fork is not None else {}
    return {
        path: value
        for path, value in given.items()
        if root_of(path) in known
        and root_of(path) not in changed
        and not (at is not None and is_within(path, at))
    }


def _expect_steps(program: Program, paths: Iterable[str]) -> None:
    known = [step.id for step in program.steps]
    for name in map(root_of, paths):
        if name not in known:
            raise InputRejected(
                f"the plan has no step '{name}': {did_you_mean(name, known, f'it has {listing(known)}')}"
            )


def _is_lone_item(program: Program, path: str) -> bool:
    """Whether a path is one item, and what it does cannot matter to the other items of its step."""
    if not _ITEM.fullmatch(path):
        return False
    step = next(step for step in program.steps if step.id == root_of(path))
    return not (step.sequential and isinstance(step.action, RunPlan | RunPlanned))


def cone_of(program: Program, starts: Iterable[str]) -> tuple[str, ...]:
    """Return the ids of the steps that are affected if these are, in the plan's order. O(size of the plan)."""
    wanted = set(starts)
    waits: list[list[int]] = [[*step.needs, *step.after] for step in program.steps]
    # Effect order is no edge of the graph, so the cone and the steps behind its writes grow in turns until nothing is added. Each round adds a
    # step, and in practice one round is enough.
    affected = set(cone(waits, [step.position for step in program.steps if step.id in wanted]))
    while more := _after_writes(program, affected) - affected:
        affected = set(cone(waits, affected | more))
    return tuple(step.id for step in program.steps if step.position in affected)


def _after_writes(program: Program, affected: set[int]) -> set[int]:
    """Return the steps that come after an affected write on one of their resources."""
    written: set[Track] = set()
    found: set[int] = set()
    for position in program.order:
        touches = program.steps[position].touches
        if comes_after(touches, written):
            found.add(position)
        if position in affected or position in found:
            written |= tracks_of(touch for touch in touches if touch.writes)
    return found


def patched_steps(before: Header, after: Header, *, is_patch: bool) -> tuple[str, ...]:
    """Return the ids of `after`'s steps whose calls come of a model's patch, in the plan's order.

    A step whose call a person edits is the person's. An edit of what is done about failures (`_ABOUT_FAILURE`) changes no call, so it does not count.

    Args:
        before: The parent's header.
        after: The new run's.
        is_patch: Whether a model has made `after`'s plan of `before`'s; otherwise a person has.
    """
    edited = changed_steps(before, after, but=_ABOUT_FAILURE)
    earlier = before.fork.patched if before.fork is not None else ()
    patched = {*earlier, *edited} if is_patch else {*earlier} - {*edited}
    return tuple(step.id for step in after.plan.steps if step.id in patched) if after.plan is not None else ()


def controlled_steps(before: Header, after: Header, *, is_patch: bool) -> tuple[str, ...]:
    """Return the ids of `after`'s steps that are there because of untrusted data, in the plan's order.

    A planner sees no data of the failed run, but it sees which steps failed or were left out. Where untrusted data may have decided that, it has
    decided that there is a patch, and which one. What a person edits is the person's.

    Args:
        before: The parent's header.
        after: The new run's.
        is_patch: Whether a model has made `after`'s plan of `before`'s; otherwise a person has.
    """
    if before.plan is None or after.plan is None:
        return ()
    edited, earlier = changed_steps(before, after), before.controlled
    if not is_patch:
        found = {*earlier} - {*edited}
    else:
        found = (
            {*earlier, *edited} if has_untrusted_data(before.plan, before.lock, before.plans) else {*earlier}
        )
    return tuple(step.id for step in after.plan.steps if step.id in found)


def written_steps(before: Header, after: Header, *, is_patch: bool) -> tuple[str, ...]:
    """Return the ids of `after`'s steps whose own words count as untrusted data, in the plan's order; an empty id at the end is the output.

    Args:
        before: The parent's header.
        after: The new run's.
        is_patch: Whether a model has made `after`'s plan of `before`'s; otherwise a person has.
    """
    if before.plan is None or after.plan is None:
        return ()
    edited, earlier = {*changed_steps(before, after)}, {*before.written}
    if canonical(before.plan.output) != canonical(after.plan.output):
        edited.add("")
    if not is_patch:
        found = earlier - edited
    else:
        # A planner that sees words which count as untrusted in the plan itself may repeat them.
        found = earlier | edited if after.is_shown_untrusted or earlier else earlier
    return tuple(id_ for id_ in (*(step.id for step in after.plan.steps), "") if id_ in found)


def changed_steps(before: Header, after: Header, *, but: Sequence[str] = ()) -> list[str]:
    """Return the ids of the steps of `after` that are new or differ from `before`, the plans that they run included; keys in `but` do not count.

    Args:
        before: The parent's header.
        after: The new run's.
        but: Keys of a step that do not count.
    """
    if before.plan is None or after.plan is None:
        return []

    # The canonical form, so that two spellings of one step are the same step.
    def canonical_of(step: Step) -> dict[str, Json]:
        return {key: part for key, part in canonical_step(step).items() if key not in but}

    old = {step.id: canonical_of(step) for step in before.plan.steps}
    are_inner_same = (
        before.plan.plans == after.plan.plans
        and before.plan.types == after.plan.types
        and _digests(before.plans) == _digests(after.plans)
    )
    return [
        step.id
        for step in after.plan.steps
        if old.get(step.id) != (made := canonical_of(step)) or ("plan" in made and not are_inner_same)
    ]


def _digests(plans: Mapping[str, Plan]) -> dict[str, str]:
    return {name: plan.digest for name, plan in plans.items()}


def steps_of_inputs(program: Program, before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Return the ids of the steps that refer to an input whose value differs.

    Args:
        program: The compiled plan.
        before: Inputs by name, of the parent.
        after: Those of the new run.
    """
    names = {
        name
        for name in {**before, **after}
        if name not in before or name not in after or before[name] != after[name]
    }
    if not names:
        return []
    return [
        step.id for step in program.steps if any(_mentions(formula, names) for formula in _formulas(step))
    ]


def _mentions(formula: Any, names: set[str]) -> bool:  # noqa: ANN401  # a Formula or None
    if formula is None or "inputs" not in formula.names:
        return False
    # A formula that uses `inputs` as a value, without naming a field, depends on all inputs.
    return not formula.inputs or not names.isdisjoint(formula.inputs)


def _formulas(step: StepCode) -> list[Any]:
    parts: list[Any] = [step.when, step.for_each, getattr(step.on_error, "value", None)]
    parts.append(step.repeat.until if step.repeat else None)
    match step.action:
        case CallTool(args=args) | RunPlan(args=args) | AskPerson(args=args):
            parts.append(args)
        case RunPlanned(given=given) | RunAgent(call=CallTool(args=given)):
            parts.append(given)
        case FailWith(message=message):
            parts.append(message)
        case WaitUntil(given=given):
            parts.append(given)
        case action:
            parts += [
                getattr(action, name, None) for name in ("value", "prompt", "system", "examples", "goal")
            ]
    return parts


# --- retry
#
# A retry is a new run that goes on where an ended run stopped. Results of calls that succeeded stand, reads included, and so does a failure
# that `on_error` handled. Every other failed call is made again, and a call that was not reached is made for the first time. A write of
# unknown outcome, a write whose result was refused, and a write that a person denied wait for a person (`PastWrite`).
#
# The functions below read the execution tree of the ended run, and change nothing in it.


EXHAUSTED: Final = ("repeat-exhausted", "agent-exhausted")
"""Codes of steps that failed although none of their calls failed: the same results would fail the step again."""
_KEPT: Final = (State.SUCCEEDED, State.SKIPPED)


def retry_of(
    machine: Machine, inherited: Mapping[str, Inherited], past_writes: Mapping[str, PastWrite]
) -> Fork:
    """Return how a run goes on with an ended one.

    Args:
        machine: The ended run's.
        inherited: The outcomes of the parent's calls, by path.
        past_writes: See `Fork`.
    """
    before = machine.fork
    asked = dict(past_writes)
    for path, args in before.settled.items():
        # The ended run had to ask before it repeated this call of its own parent, but never reached the call. So this run asks.
        if path not in inherited and path not in asked and before.is_in_cone(path):
            asked[path] = PastWrite("done", args=args)
    return Fork(
        cone=before.cone,
        overrides=before.overrides,
        holds=before.holds,
        at=before.at,
        settled={path: known.given for path, known in inherited.items()},
        items=before.items,
        past_writes=asked,
        again=frozenset(_calls_again(machine, inherited)),
        patched=before.patched,
        done_writes=before.done_writes,
        controlled=before.controlled,
        written=before.written,
    )


def _calls_again(machine: Machine, inherited: Mapping[str, Inherited]) -> Iterator[str]:
    """Yield the paths of the calls of the ended run that the retry repeats."""
    # Failed calls, unless the plan handled the failure: then the run went on with it, and the retry must not undo that.
    for path, known in inherited.items():
        if isinstance(known.outcome, CallFailed) and not _is_handled(machine.iterations[path]):
            yield path
    for iteration in machine.iterations.values():
        failure = iteration.failure or iteration.item.failure
        # A loop that was exhausted without a failed call would be exhausted again, so all its calls are repeated, unless one is a write.
        if failure is not None and failure.code in EXHAUSTED and not _is_handled(iteration):
            calls = list(_calls_in(iteration.item))
            if not any(call.item.node.policy.effect is Effect.WRITE for call in calls):
                yield from (call.path for call in calls)


def _is_handled(iteration: Iteration) -> bool:
    """Whether a failure was handled at its place or further out: by `on_error`, or by an agent that was shown it."""
    at: Iteration | None = iteration
    while at is not None:
        if at.item.state in _KEPT:
            return True
        owner = at.item.node.frame.owner
        if (
            owner is not None
            and owner.agent_loop is not None
            and isinstance(at.item.node.code.action, CallTool)
        ):
            return True
        at = owner
    return False


def _calls_in(item: Item) -> Iterator[Iteration]:
    """Yield the calls of an item, those of its inner steps included."""
    for iteration in item.iterations:
        if iteration.is_call:
            yield iteration
        for frame in iteration.frames:
            for node in frame.nodes:
                for inner in node.items:
                    yield from _calls_in(inner)
