"""Why a step ran, was reused, or did neither: in one sentence, and as JSON.

If the reason is not the content key (a write is never reused, the result had expired, the run reuses nothing), the first record of the call
holds it. If the key was new, the reason is the difference from the nearest earlier call: the call with the fewest differing parts, and
among equals one of the same step path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...errors import InputRejected
from ...plans.durations import time_text
from ...plans.program.program import AskPerson, AskPlanner, SetValue, WaitUntil
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json
from ...tools.failures import refused
from ...tools.fingerprint.fingerprint import is_fingerprint
from ..events import ApprovalRuled, CallFailed, CallReused, CallStarted
from ..execution_tree import Iteration, Node, is_asked, walk
from ..journal.decision_history import decisions_by_step
from ..journal.header import Header
from ..journal.records import Entry, split_calls
from ..journal.restore import load_entries
from ..machine import Machine
from ..runs.archive import Archive
from ..runs.request import step_of
from ..runs.run import iterations_of, report_json
from ..states import TERMINAL, Reason, State
from ..stores.store import CallRecord, Reusable, RunRow, Store
from .key_changes import KeyChange, key_changes

if TYPE_CHECKING:
    from ..journal.decision_history import RecordedDecision


CHANGES_NAMED: Final = 3  # differing parts that the sentence names; `changes` has all


async def explain(store: Store, archive: Archive, run_id: str, step: str) -> Explanation:
    """Return why a step of a run ran or was reused.

    Raises:
        RunNotFound: There is no such run.
        InputRejected: It has no plan, or no such step.
    """
    view = await _look(store, archive, run_id)
    if step_of(step) not in view.parts:
        known = list(view.parts)
        hint = did_you_mean(step, known, f"it has {listing(known)}")
        raise InputRejected(f"run {run_id} has no step '{step}': {hint}")
    await view.gather([view.parts[step]])
    return view.explain(view.parts[step])


async def explain_all(store: Store, archive: Archive, run_id: str) -> list[Explanation]:
    """Return why each step of a run ran or was reused, in the order of `run.steps`. O(size of the run). Raises: as `explain`."""
    view = await _look(store, archive, run_id)
    await view.gather(list(view.parts.values()))
    return [view.explain(part) for part in view.parts.values()]


async def _look(store: Store, archive: Archive, run_id: str) -> _View:
    row = await archive.flushed_row(run_id)
    return _View(store, row, await archive.machine(row), await load_entries(store, row))


class _View:
    """One run, with everything that its explanations are made from.

    The journal says what happened; the store (`Evidence`) says what the keys of the calls were made from. The two are joined here.
    """

    def __init__(self, store: Store, row: RunRow, machine: Machine, entries: Sequence[Entry]) -> None:
        self._store = store
        self._run_id = row.id
        self._header = Header.from_dict(row.header)
        self._parent = row.parent
        # A kept replay has made no calls: the store knows them under the id of its parent.
        is_replay = row.parent is not None and self._header.fork is None
        self._caller = row.parent if row.parent is not None and is_replay else row.id
        self._machine = machine
        self.parts: dict[str, Iteration] = {part.path: part for part in walk(machine.root)}
        self._evidence = Evidence({}, {}, {}, {})
        self._known: dict[str, Explanation] = {}
        self._first: dict[str, Entry] = {}
        self._failed: dict[str, CallFailed] = {}
        self._rules: dict[str, ApprovalRuled] = {}
        self._decided = decisions_by_step(entries)
        # The first record of a call has the reason why no earlier result was reused; a retry of the call does not ask again.
        for entry in split_calls(entries):
            match entry.event:
                case CallStarted(step=step) | CallReused(step=step):
                    self._first.setdefault(step, entry)
                case CallFailed(step=step) as failed:
                    self._failed[step] = failed
                case ApprovalRuled(step=step, rules=rules) as ruled if rules:
                    self._rules[step] = ruled
                case _:
                    pass

    async def gather(self, parts: Sequence[Iteration]) -> None:
        """Read what the store knows of the calls of some steps."""
        iterations = dict.fromkeys(iteration.path for part in parts for iteration in iterations_of(part))
        firsts = [self._first[path] for path in iterations if path in self._first]
        self._evidence = await gather(self._store, self._caller, firsts, self._header.tenant)

    def explain(self, part: Iteration) -> Explanation:
        """Return why a step ran or was reused; a step of several calls has one part for each call."""
        iterations = list(iterations_of(part))
        fork = self._header.fork
        overrides = list(fork.overrides) if fork is not None else []
        if part.path in overrides:
            return self._given(part.path)
        given = [path for path in overrides if path.startswith(f"{part.path}[")]
        # A step with one call is that call, under the name of the step: nobody thinks of `pay` as `pay[0]#0`.
        if len(iterations) == 1 and not given:
            found = self._explain_iteration(iterations[0])
            return replace(
                found,
                step=part.path,
                sentence=found.sentence.replace(f"'{iterations[0].path}'", f"'{part.path}'", 1),
            )
        if not iterations and not given:
            reason, text = standing(part, self._machine)
            return self._explained_as(part.path, "ended" if part.state in TERMINAL else "waits", reason, text)
        places = {path: place for place, path in enumerate(self.parts)}
        explained = [*map(self._explain_iteration, iterations), *map(self._given, given)]
        parts = tuple(sorted(explained, key=lambda part: places.get(part.step, len(places))))
        return replace(self._explained_as(part.path, "parts", "parts", _summed(parts)), parts=parts)

    def _given(self, path: str) -> Explanation:
        return self._explained_as(
            path, "given", "given", "has the value that the fork gave it; it did not run"
        )

    def _explain_iteration(self, iteration: Iteration) -> Explanation:
        found = self._known.get(iteration.path)
        if found is None:
            found = self._with_decisions(self._with_rules(self._with_refusal(self._explain_leaf(iteration))))
            if self._caller != self._run_id and found.verdict in ("ran", "reused"):
                found = replace(found, sentence=f"{found.sentence}; this is a replay of run {self._caller}")
            self._known[iteration.path] = found
        return found

    def _with_refusal(self, found: Explanation) -> Explanation:
        """Add that a call took effect although its step failed."""
        failed = self._failed.get(found.step)
        if found.verdict != "ran" or failed is None or not failed.is_done:
            return found
        return replace(found, sentence=f"{found.sentence}; its call is {refused(failed.message)}")

    def _with_rules(self, found: Explanation) -> Explanation:
        """Add the rules that allowed untrusted data in arguments of the call, or had a person asked."""
        ruled = self._rules.get(found.step)
        if ruled is None or not ruled.rules:
            return found
        verb = "had a person asked because of" if ruled.needed else "allowed the untrusted data in"
        listed = "; ".join(f"the rule '{rule}' {verb} '{argument}'" for argument, rule in ruled.rules.items())
        return replace(found, sentence=f"{found.sentence}; {listed}", rules=ruled.rules)

    def _with_decisions(self, found: Explanation) -> Explanation:
        """Add the decisions of people about a call, with their times."""
        decisions = self._decided.get(found.step, ())
        if not decisions:
            return found
        listed = ", ".join(map(str, decisions))
        return replace(found, sentence=f"{found.sentence}; its call was {listed}", decisions=decisions)

    def _explain_leaf(  # noqa: PLR0911  # one return for each way in which a leaf has its state
        self, iteration: Iteration
    ) -> Explanation:
        # A record of a call decides first. Without one, the step is a `set`, a failure that came without a call, or it has not run.
        entry = self._first.get(iteration.path)
        if entry is not None and isinstance(entry.event, CallStarted):
            if isinstance(iteration.item.node.code.action, AskPlanner):
                return self._explain_planning(iteration)
            return self._explain_call(entry.event)
        if entry is not None and isinstance(entry.event, CallReused):
            return self._explain_reuse(entry.event)
        if isinstance(iteration.item.node.code.action, AskPerson) and iteration.output is not None:
            return self._explained_as(iteration.path, "given", "answer", "has the value that a person gave")
        if isinstance(iteration.item.node.code.action, WaitUntil) and iteration.output is not None:
            return self._explained_as(iteration.path, "computed", "wait", _waited(iteration))
        if isinstance(iteration.item.node.code.action, SetValue) and iteration.output is not None:
            return self._explained_as(
                iteration.path,
                "computed",
                "set",
                "was computed: a `set` step calls nothing, so it is never reused",
            )
        if (failed := self._failed.get(iteration.path)) is not None:
            text = (
                "failed without a call" if failed.args is None else f"failed as in its parent {self._parent}"
            )
            return self._explained_as(iteration.path, "ended", failed.code, f"{text}: {failed.message}")
        reason, text = standing(iteration, self._machine)
        past = self._machine.past_write_of(iteration)
        if past is not None and iteration.call is not None:
            text += f": {past.describe(iteration.call.digest)}"
        if iteration.why_anew and is_asked(iteration):
            text += f"; {iteration.why_anew}"
        return self._explained_as(
            iteration.path, "ended" if iteration.state in TERMINAL else "waits", reason, text
        )

    def _explain_planning(self, iteration: Iteration) -> Explanation:
        match iteration.output.value if iteration.output is not None else None:
            case {"plan": {"steps": [*steps]}}:
                size = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
                text = f"asked the planner, which made a sub-plan of {size}"
            case {"question": {"text": str(question)}}:
                text = f"asked the planner, which had a question: {question}"
            case _:
                text = "asked the planner, which made no plan"
        return self._explained_as(
            iteration.path, "ran", "planned", f"{text}; a planning is never reused by another run"
        )

    def _explain_reuse(self, event: CallReused) -> Explanation:
        # Without a key the result comes from the parent of a fork or retry, whose journal answers by path.
        if not event.key:
            text = (
                f"was taken from its parent {event.source}, where it succeeded: this run continues that run"
                if self._machine.fork.again is not None
                else f"was taken from its parent {event.source}: nothing that it depends on was changed by the fork"
            )
            found = self._explained_as(event.step, "reused", "parent", text)
            return replace(found, source=(event.source, event.step))
        # Another step may have made the result. If the store has forgotten which, the same path is the best guess.
        made = self._evidence.results.get(event.key)
        step = made.step if made is not None and made.run_id == event.source else event.step
        where = self._where(event.source, step, event.step)
        text = f"was reused from {where}: arguments, code and all else that decides the result are the same"
        return replace(self._explained_as(event.step, "reused", "same", text), source=(event.source, step))

    def _where(self, run_id: str, step: str, own: str) -> str:
        """Return the place of an earlier call as text; its step is named if it is another step."""
        if run_id == self._run_id:
            return f"step '{step}' of this run"
        return f"run {run_id}" if step == own else f"step '{step}' of run {run_id}"

    def _explain_call(self, event: CallStarted) -> Explanation:
        # A reason that is not the key was known when the call began, and is recorded with it.
        if event.why is not None:
            because, text, source = _recorded_reason(event.why)
            if because == "afresh" and event.step in (self._machine.fork.again or ()):
                text = f"it failed in the parent {self._parent}, and this run continues that run"
            return replace(
                self._explained_as(event.step, "ran", because, f"ran because {text}"), source=source
            )
        own = self._evidence.own.get(event.step)
        if own is None:
            text = "ran because no earlier result stood for it; what the call was made from is not recorded"
            return self._explained_as(event.step, "ran", "first", text)
        nearest = self._evidence.nearest(event.step, self._parent)
        if nearest is None:
            what = "prompt" if not own.code and own.subject == "ask" else f"call of '{own.subject}'"
            return self._explained_as(
                event.step, "ran", "first", f"ran because it is the first {what} in this store"
            )
        # The key is new, or the equal call left no result. The nearest earlier call is what a person would compare with.
        earlier, changes = nearest
        source = (earlier.run_id, earlier.step)
        where = self._where(earlier.run_id, earlier.step, own.step)
        if not changes:
            lost = earlier.lost or "its result is not in the cache any more"
            text = f"ran because the same call in {where} left no result to reuse: {lost}"
            return replace(self._explained_as(event.step, "ran", "not-kept", text), source=source)
        text = f"ran because {_listed(changes)} (compared with {where})"
        return replace(self._explained_as(event.step, "ran", "changed", text), changes=changes, source=source)

    def _explained_as(self, step: str, verdict: Verdict, because: str, text: str) -> Explanation:
        return Explanation(self._run_id, step, verdict, because, f"step '{step}' {text}")


def _recorded_reason(why: Mapping[str, Json]) -> tuple[str, str, tuple[str, str] | None]:
    """Return a recorded reason as a word and as the end of a sentence, with run and step of the earlier result that it is about."""
    given = cast("Mapping[str, Any]", why)
    source = (str(given["run"]), str(given["step"])) if "run" in given else None
    because = str(given["because"])
    if because == "expired" and given["limit_s"] is None:
        text = f"its result in run {given['run']} is not reused: the tool has no reuse_for any more"
    elif (known := _RECORDED.get(because)) is not None:
        text = known.format_map(given)
    else:
        text = str(given.get("detail", because))
    return because, text, source


_RECORDED: Final = {
    "expired": "its result in run {run} was {age_s:g} s old, and reuse_for is {limit_s:g} s",
    "written": "the resource '{resource}' was written since its result in run {run}",
    "env": "the environment variable {name} is not what it was in run {run}",
    "altered": "its result from run {run} was changed in the store, outside firmplan: it has another digest",
    "no-digest": "its result from run {run} was kept by a store of format 1, without a digest to compare",
    "future": "its result in run {run} was made {ahead_s:g} s in the future: a clock is or was wrong, and nobody knows how old it is",
    "off": "the run was started with reuse='off', which calls every step",
    "refresh": "the run was started with reuse='refresh', which calls every step and keeps the results",
    "afresh": "the fork asked for it to run again",
}
"""Recorded reasons (`CallStarted.why`), with the values that stand beside the word in the record."""


def _listed(changes: Sequence[KeyChange]) -> str:
    # Equal texts once: an edit of a template changes each message that is made from it.
    every = list(dict.fromkeys(each.text for each in changes))
    texts = every[:CHANGES_NAMED]
    more = len(every) - len(texts)
    return ", and ".join(texts) + (f", and {more} more" if more > 0 else "")


def _summed(parts: Sequence[Explanation]) -> str:
    """Return how many parts ran, and why the first of these ran."""
    words = {
        "ran": "ran",
        "reused": "reused",
        "computed": "computed",
        "given": "given",
        "ended": "not called",
        "waits": "not called yet",
    }
    counts: dict[str, int] = {}
    for part in parts:
        word = words.get(part.verdict, part.verdict)
        counts[word] = counts.get(word, 0) + 1
    summary = ", ".join(f"{count} {word}" for word, count in counts.items())
    ran = next((part for part in parts if part.verdict == "ran"), None)
    return f"has {len(parts)} parts: {summary}" + (f"; {ran.sentence}" if ran is not None else "")


# --- the explanation

Verdict: TypeAlias = Literal["ran", "reused", "computed", "given", "ended", "waits", "parts"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step ran or was reused; `str()` is the sentence.

    Attributes:
        verdict: `ran`, `reused`, `computed` (a `set` or `wait` step), `given` (by a fork, or by the answer of a person), `ended` (skipped, cancelled, failed before a
            call), `waits`, or `parts` (a step of several calls).
        because: The reason as a word: `changed`, `first`, `same`, `parent`, `write`, `no-reuse-for`, `unseen`, `secret`, `answered`,
            `expired`, `written`, `env`, `off`, `refresh`, `afresh`, `not-kept`, or the reason of a skip.
        sentence: The reason as a sentence.
        changes: Where the key changed: what differs from the nearest earlier call.
        source: Run and step of the nearest earlier call, or of the result that was reused.
        parts: For a step of several calls: one explanation for each.
        decisions: What people decided about the call, oldest first: `decision`, `at`, `by`, `reason`, `edited`.
        rules: Argument -> the rule that allowed the untrusted data in it, or had a person asked.
    """

    run_id: str
    step: str
    verdict: Verdict
    because: str
    sentence: str
    changes: tuple[KeyChange, ...] = ()
    source: tuple[str, str] | None = None
    parts: tuple[Explanation, ...] = ()
    decisions: tuple[RecordedDecision, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        source = {"run": self.source[0], "step": self.source[1]} if self.source else None
        return report_json(self, run_id="run") | {"source": cast("Json", source)}


# --- evidence: what the store knows of the calls of a run, and of the earlier calls that they are compared with
#
# It is read once for all calls in question: a step of thousands of items costs a handful of queries, not some for each item.

EARLIER_MAX: Final = 64  # earlier calls that a call is compared with


@dataclass(frozen=True, slots=True)
class Evidence:
    """The stored parts of keys, by step.

    Attributes:
        own: Step -> the parts of the key of its call.
        earlier: Step -> the calls before it of the same tool, or of prompts.
        codes: Digest -> the parts of a fingerprint.
        results: Content key -> the result that stands for it.
    """

    own: Mapping[str, CallRecord]
    earlier: Mapping[str, Sequence[CallRecord]]
    codes: Mapping[str, Mapping[str, str]]
    results: Mapping[str, Reusable]

    def nearest(self, step: str, parent: str | None) -> tuple[CallRecord, tuple[KeyChange, ...]] | None:
        """Return the earlier call with the fewest differing parts, and these parts.

        Among calls with equally many, a call of the same step goes first, then a call of the parent run, then the newest.
        """
        own = self.own[step]
        others = [each for each in self.earlier[step] if (each.run_id, each.step) != (own.run_id, own.step)]
        others.sort(key=lambda each: (each.key != own.key, each.step != own.step, each.run_id != parent))
        best: tuple[CallRecord, tuple[KeyChange, ...]] | None = None
        for each in others:
            changes = key_changes(each, own, self.codes)
            if best is None or len(changes) < len(best[1]):
                best = each, changes
            # Calls with the same key come first, and another key differs in at least one part: no later call can be nearer.
            if len(best[1]) <= 1:
                break
        return best


async def gather(store: Store, run_id: str, firsts: Iterable[Entry], tenant: str) -> Evidence:
    """Read the evidence about the calls with which steps began."""
    called: dict[str, float] = {}
    journaled: dict[str, str] = {}
    keys: dict[str, None] = {}
    for entry in firsts:
        match entry.event:
            # Calls with a recorded reason need no comparison.
            case CallStarted(step=step, why=None, key=key):
                called[step] = entry.at
                journaled[step] = key
            case CallReused(key=key) if key:
                keys[key] = None
            case _:
                pass
    found: Mapping[str, CallRecord] = await store.find_calls(run_id, list(called)) if called else {}
    # The digest chain covers the journal, but not the `calls` table: a row with another key describes another call.
    own = {step: record for step, record in found.items() if journaled[step] in ("", record.key)}
    subjects: dict[str, dict[str, float]] = {}
    for step, record in own.items():
        subjects.setdefault(record.subject, {})[step] = called[step]
    earlier: dict[str, Sequence[CallRecord]] = {}
    for subject, until in subjects.items():
        earlier |= await store.find_earlier_calls(subject, until, limit=EARLIER_MAX, tenant=tenant)
    made = [*own.values(), *(each for records in earlier.values() for each in records)]
    codes = dict.fromkeys(each.code for each in made if each.code)
    return Evidence(
        own,
        earlier,
        _intact(await store.find_codes(list(codes))) if codes else {},
        await store.find_reusable(list(keys)) if keys else {},
    )


def _intact(codes: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
    """Return the fingerprints whose parts still match their digest; `explain` gives no reason from parts that were changed in the store."""
    return {name: parts for name, parts in codes.items() if is_fingerprint(name, parts)}


# --- the state of a step that made no call, as the end of a sentence: "was skipped because its `when` was false"

_TEXTS: Final = {
    Reason.WHEN: "was skipped because its `when` was false",
    Reason.ON_ERROR: "was skipped because it failed, and on_error is 'skip'",
    Reason.CANCELLED: "was cancelled with the run",
    Reason.APPROVAL: "waits for a person to approve its call",
    Reason.QUESTION: "waits for a person to answer its question",
    Reason.BUDGET: "waits because its call would pass the run's budget",
    Reason.DEADLINE: "was cancelled with the run, at the deadline of the run",
}
_BAD: Final = (State.FAILED, State.CANCELLED, State.SKIPPED)


def _waited(iteration: Iteration) -> str:
    until, finished = iteration.until or 0.0, iteration.finished or 0.0
    if finished < until:
        return f"did not wait until {time_text(until)}: its wait was over in the parent of this run"
    return f"has waited until {time_text(until)}: a wait is never reused by another run"


def standing(part: Iteration, machine: Machine) -> tuple[str, str]:
    """Return why a step made no call, as a word and as the end of a sentence."""
    node = part.item.node
    reason = part.reason or node.reason
    if reason is not None:
        return reason.value, _reason_text(reason, part)
    failure = part.failure or node.failure
    if part.state is State.FAILED and failure is not None:
        return failure.code, f"failed before it called anything: {failure.message}"
    if part.state is State.SUCCEEDED:
        return "empty", "called nothing: its list was empty"
    needs = [node.frame.nodes[at] for at in (*node.code.needs, *node.code.after)]
    waiting = dict.fromkeys(f"'{need.code.id}'" for need in needs if not _is_over(need))
    why = f": it waits for {' and '.join(waiting)}" if waiting else ""
    return (
        "pending",
        f"has not run yet{why}" if machine.is_started else "has not run: the run has not started",
    )


def _reason_text(reason: Reason, part: Iteration) -> str:
    node = part.item.node
    match reason:
        case Reason.SKIPPED_REFERENCE:
            return f"was skipped because it refers to {_culprit(node, (State.SKIPPED,))}, which was skipped"
        case Reason.DEPENDENCY_FAILED:
            return f"was skipped because it refers to {_culprit(node, _BAD)}, which went wrong"
        case Reason.DENIED:
            need = _culprit(node, (State.CANCELLED,), "")
            return f"was cancelled because it depends on {need}" if need else "was cancelled"
        case Reason.BLOCKED:
            return f"was skipped because {_blocker(node)} before it went wrong"
        case Reason.TIMER:
            return f"waits until {time_text(part.until or 0.0)}"
        case _:
            return _TEXTS[reason]


def _is_over(node: Node) -> bool:
    return node.state in (State.SUCCEEDED, *_BAD)


def _culprit(node: Node, states: tuple[State, ...], default: str = "a step") -> str:
    """Return the first step that this one refers to and that did not succeed."""
    needs = [node.frame.nodes[at] for at in (*node.code.needs_when, *node.code.needs)]
    found = next((need.code.id for need in needs if need.state in states), None)
    return f"'{found}'" if found is not None else default


def _blocker(node: Node) -> str:
    """Return the step that blocks this one: a step of `after`, or a step on the same resource."""
    after = [node.frame.nodes[at] for at in node.code.after]
    found = next((each.code.id for each in after if each.state in _BAD), None)
    return (
        f"'{found}', which it comes after,"
        if found is not None
        else "a step on a resource that it writes, or an item,"
    )
