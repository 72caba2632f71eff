"""Why a step ran, was reused, or did neither: in one sentence, and as JSON.

If the reason is not the content key (a write is never reused, the result had expired, the run reuses nothing), the first record of the call
holds it. If the key was new, the reason is the difference from the nearest earlier call: the call with the fewest differing parts, and
among equals one of the same step path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...errors import InputRejected
from ...plans.nearest import did_you_mean, listing
from ...plans.program import SetValue
from ...plans.values import Json
from ...tools.failures import refused
from ...tools.fingerprint.fingerprint import is_fingerprint
from ..events import CallFailed, CallReused, CallStarted
from ..execution_tree import Iteration, Node, walk
from ..journal.decision_history import decisions_by_step
from ..journal.header import Header
from ..journal.records import Entry, split_calls
from ..journal.restore import load_entries
from ..machine import Machine
from ..runs.archive import Archive
from ..runs.request import step_of
from ..runs.run import iterations_of
from ..states import TERMINAL, Reason, State
from ..stores.store import CallRecord, Reusable, Store
from .key_changes import KeyChange, key_changes
from .report import report_json

if TYPE_CHECKING:
    from ...plans.values import Json
    from ..journal.decision_history import RecordedDecision
    from .key_changes import KeyChange


CHANGES_TOLD: Final = 3  # differing parts that the sentence names; `changes` has all


async def explain(store: Store, archive: Archive, run_id: str, step: str) -> Explanation:
    """Return why a step of a run ran or was reused.

    Raises:
        RunNotFound: There is no such run.
        InputRejected: It has no plan, or no such step.
    """
    view = await _look(store, archive, run_id)
    if step_of(step) not in view.cells:
        known = list(view.cells)
        hint = did_you_mean(step, known, f"it has {listing(known)}")
        raise InputRejected(f"run {run_id} has no step '{step}': {hint}")
    await view.gather([view.cells[step]])
    return view.explain(view.cells[step])


async def explain_all(store: Store, archive: Archive, run_id: str) -> list[Explanation]:
    """Return why each step of a run ran or was reused, in the order of `run.steps`. O(size of the run). Raises: as `explain`."""
    view = await _look(store, archive, run_id)
    await view.gather(list(view.cells.values()))
    return [view.explain(cell) for cell in view.cells.values()]


async def _look(store: Store, archive: Archive, run_id: str) -> _View:
    row = await archive.row(run_id)
    machine = await archive.machine(row)
    header = Header.from_dict(row.header)
    return _View(store, run_id, header, row.parent, machine, await load_entries(store, row))


class _View:
    """One run, as it is explained."""

    def __init__(  # all that an explanation draws from
        self,
        store: Store,
        run_id: str,
        header: Header,
        parent: str | None,
        machine: Machine,
        entries: Sequence[Entry],
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._header = header
        self._parent = parent
        is_replay = parent is not None and header.fork is None
        self._told_by = (
            parent if parent is not None and is_replay else run_id
        )  # who made the calls of a kept replay
        self._machine = machine
        self.cells: dict[str, Iteration] = {cell.path: cell for cell in walk(machine.root)}
        self._evidence = Evidence({}, {}, {}, {})
        self._explained: dict[str, Explanation] = {}
        self._first: dict[str, Entry] = {}
        self._failed: dict[str, CallFailed] = {}
        self._decided = decisions_by_step(entries)
        for entry in split_calls(entries):
            match entry.event:
                case CallStarted(step=step) | CallReused(step=step):
                    self._first.setdefault(step, entry)
                case CallFailed(step=step) as failed:
                    self._failed[step] = failed
                case _:
                    pass

    async def gather(self, cells: Sequence[Iteration]) -> None:
        """Look up what is to be known of the calls of some steps."""
        iterations = dict.fromkeys(iteration.path for cell in cells for iteration in iterations_of(cell))
        firsts = [self._first[path] for path in iterations if path in self._first]
        self._evidence = await gather(self._store, self._told_by, firsts)

    def explain(self, cell: Iteration) -> Explanation:
        """Return why a step ran or was reused, of several calls one by one."""
        iterations = list(iterations_of(cell))
        fork = self._header.fork
        overrides = list(fork.overrides) if fork is not None else []
        if cell.path in overrides:
            return self._given(cell.path)
        given = [path for path in overrides if path.startswith(f"{cell.path}[")]
        if len(iterations) == 1 and not given:
            found = self._explain_iteration(iterations[0])
            return replace(
                found,
                step=cell.path,
                sentence=found.sentence.replace(f"'{iterations[0].path}'", f"'{cell.path}'", 1),
            )
        if not iterations and not given:
            reason, text = standing(cell, self._machine)
            return self._said(cell.path, "ended" if cell.state in TERMINAL else "waits", reason, text)
        places = {path: place for place, path in enumerate(self.cells)}
        told = [*map(self._explain_iteration, iterations), *map(self._given, given)]
        parts = tuple(sorted(told, key=lambda part: places.get(part.step, len(places))))
        return replace(self._said(cell.path, "parts", "parts", _summed(parts)), parts=parts)

    def _given(self, path: str) -> Explanation:
        return self._said(path, "given", "given", "has the value that the fork gave it; nothing of it ran")

    def _explain_iteration(self, iteration: Iteration) -> Explanation:
        found = self._explained.get(iteration.path)
        if found is None:
            found = self._with_decisions(self._with_refusal(self._explain_leaf(iteration)))
            if self._told_by != self._run_id and found.verdict in ("ran", "reused"):
                found = replace(found, sentence=f"{found.sentence}; this is a replay of run {self._told_by}")
            self._explained[iteration.path] = found
        return found

    def _with_refusal(self, found: Explanation) -> Explanation:
        """Add that a call took effect although its step failed."""
        failed = self._failed.get(found.step)
        if found.verdict != "ran" or failed is None or not failed.is_done:
            return found
        return replace(found, sentence=f"{found.sentence}; its call is {refused(failed.message)}")

    def _with_decisions(self, found: Explanation) -> Explanation:
        """Add what people decided about a call, and when."""
        decisions = self._decided.get(found.step, ())
        if not decisions:
            return found
        told = ", ".join(map(str, decisions))
        return replace(found, sentence=f"{found.sentence}; its call was {told}", decisions=decisions)

    def _explain_leaf(self, iteration: Iteration) -> Explanation:
        entry = self._first.get(iteration.path)
        if entry is not None and isinstance(entry.event, CallStarted):
            return self._explain_call(entry.event)
        if entry is not None and isinstance(entry.event, CallReused):
            return self._explain_reuse(entry.event)
        if isinstance(iteration.item.node.code.action, SetValue) and iteration.output is not None:
            return self._said(
                iteration.path,
                "computed",
                "set",
                "was computed: a `set` step calls nothing, so it is never reused",
            )
        if (failed := self._failed.get(iteration.path)) is not None:
            text = (
                "failed without a call" if failed.args is None else f"failed as in its parent {self._parent}"
            )
            return self._said(iteration.path, "ended", failed.code, f"{text}: {failed.message}")
        reason, text = standing(iteration, self._machine)
        past = self._machine.past_write_of(iteration)
        if past is not None and iteration.call is not None:
            text += f": {past.told(iteration.call.digest)}"
        return self._said(iteration.path, "ended" if iteration.state in TERMINAL else "waits", reason, text)

    def _explain_reuse(self, event: CallReused) -> Explanation:
        if not event.key:
            text = (
                f"was taken from its parent {event.source}, where it succeeded: this run continues that run"
                if self._machine.fork.again is not None
                else f"was taken from its parent {event.source}: nothing that it depends on was changed by the fork"
            )
            said = self._said(event.step, "reused", "parent", text)
            return replace(said, source=(event.source, event.step))
        made = self._evidence.results.get(event.key)
        step = made.step if made is not None and made.run_id == event.source else event.step
        where = self._where(event.source, step, event.step)
        text = f"was reused from {where}: arguments, code and all else that decides the result are the same"
        return replace(self._said(event.step, "reused", "same", text), source=(event.source, step))

    def _where(self, run_id: str, step: str, own: str) -> str:
        """Return an earlier call in words; its step is named where it is not the same."""
        if run_id == self._run_id:
            return f"step '{step}' of this run"
        return f"run {run_id}" if step == own else f"step '{step}' of run {run_id}"

    def _explain_call(self, event: CallStarted) -> Explanation:
        if event.why is not None:
            because, text, source = _told(event.why)
            if because == "afresh" and event.step in (self._machine.fork.again or ()):
                text = f"it failed in the parent {self._parent}, and this run continues that run"
            return replace(self._said(event.step, "ran", because, f"ran because {text}"), source=source)
        own = self._evidence.own.get(event.step)
        if own is None:
            text = "ran because no earlier result stood for it; what the call was made from is not recorded"
            return self._said(event.step, "ran", "first", text)
        nearest = self._evidence.nearest(event.step, self._parent)
        if nearest is None:
            what = "prompt" if not own.code and own.subject == "ask" else f"call of '{own.subject}'"
            return self._said(event.step, "ran", "first", f"ran because it is the first {what} in this store")
        earlier, changes = nearest
        source = (earlier.run_id, earlier.step)
        where = self._where(earlier.run_id, earlier.step, own.step)
        if not changes:
            lost = earlier.lost or "its result is not in the cache any more"
            text = f"ran because the same call in {where} left no result to reuse: {lost}"
            return replace(self._said(event.step, "ran", "not-kept", text), source=source)
        text = f"ran because {_listed(changes)} (compared with {where})"
        return replace(self._said(event.step, "ran", "changed", text), changes=changes, source=source)

    def _said(self, step: str, verdict: Verdict, because: str, text: str) -> Explanation:
        return Explanation(self._run_id, step, verdict, because, f"step '{step}' {text}")


def _told(why: Mapping[str, Json]) -> tuple[str, str, tuple[str, str] | None]:
    """Return a recorded reason as a word, as the end of a sentence, and the earlier result that it speaks of."""
    given = cast("Mapping[str, Any]", why)
    source = (str(given["run"]), str(given["step"])) if "run" in given else None
    because = str(given["because"])
    match because:
        case "expired" if given["limit_s"] is None:
            text = f"its result in run {given['run']} is not reused: the tool has no reuse_for any more"
        case "expired":
            text = f"its result in run {given['run']} was {given['age_s']:g} s old, and reuse_for is {given['limit_s']:g} s"
        case "written":
            text = f"the resource '{given['resource']}' was written since its result in run {given['run']}"
        case "env":
            text = f"the environment variable {given['name']} is not what it was in run {given['run']}"
        case "altered" | "no-digest" | "future":
            text = _told_refusal(given)
        case "off":
            text = "the run was started with reuse='off', which calls every step"
        case "refresh":
            text = "the run was started with reuse='refresh', which calls every step and keeps the results"
        case "afresh":
            text = "the fork asked for it to run again"
        case _:
            text = str(given.get("detail", because))
    return because, text, source


def _told_refusal(given: Mapping[str, Any]) -> str:
    """Return why an earlier result could not be relied on, as the end of a sentence."""
    run = given["run"]
    match given["because"]:
        case "altered":
            return (
                f"its result from run {run} was changed in the store, outside firmplan: it has another digest"
            )
        case "no-digest":
            return f"its result from run {run} was kept by a store of format 1, without a digest to compare"
        case _:
            return (
                f"its result in run {run} was made {given['ahead_s']:g} s in the future: a clock is or was wrong, and nobody knows how "
                "old it is"
            )


def _listed(changes: Sequence[KeyChange]) -> str:
    said = list(
        dict.fromkeys(each.text for each in changes)
    )  # a word of a template stands in each message made of it
    texts = said[:CHANGES_TOLD]
    more = len(said) - len(texts)
    return ", and ".join(texts) + (f", and {more} more" if more > 0 else "")


def _summed(parts: Sequence[Explanation]) -> str:
    """Return how many parts ran, and why the first of them did."""
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
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    ran = next((part for part in parts if part.verdict == "ran"), None)
    return f"has {len(parts)} parts: {told}" + (f"; {ran.sentence}" if ran is not None else "")


# --- the explanation

Verdict: TypeAlias = Literal["ran", "reused", "computed", "given", "ended", "waits", "parts"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a step ran or was reused; `str()` is the sentence.

    Attributes:
        verdict: `ran`, `reused`, `computed` (a `set` step), `given` (by a fork), `ended` (skipped, cancelled, failed before a
            call), `waits`, or `parts` (a step of several calls).
        because: The reason as a word: `changed`, `first`, `same`, `parent`, `write`, `no-reuse-for`, `unseen`, `secret`,
            `expired`, `written`, `env`, `off`, `refresh`, `afresh`, `not-kept`, or the reason of a skip.
        sentence: The reason as a sentence.
        changes: Where the key changed: what differs from the nearest earlier call.
        source: Run and step of the nearest earlier call, or of the result that was reused.
        parts: For a step of several calls: one explanation for each.
        decisions: What people decided about the call, oldest first: `decision`, `at`, `by`, `reason`, `edited`.
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

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        source = {"run": self.source[0], "step": self.source[1]} if self.source else None
        return report_json(self, run_id="run") | {"source": cast("Json", source)}


# --- evidence: what the store knows of the calls of a run, and of the earlier calls that they are compared with
#
# It is read once for all calls in question: a step of thousands of items costs a handful of queries, not some for each item.

EARLIER_MAX: Final = 64  # earlier calls that one is compared with, of the same step and of others


@dataclass(frozen=True, slots=True)
class Evidence:
    """See the module.

    Attributes:
        own: Step -> what its call was made from.
        earlier: Step -> the calls before it of the same tool, or of prompts.
        codes: Digest -> the parts of a fingerprint.
        results: Content key -> the result that stands for it.
    """

    own: Mapping[str, CallRecord]
    earlier: Mapping[str, Sequence[CallRecord]]
    codes: Mapping[str, Mapping[str, str]]
    results: Mapping[str, Reusable]

    def nearest(self, step: str, parent: str | None) -> tuple[CallRecord, tuple[KeyChange, ...]] | None:
        """Return the earlier call with the fewest differing parts, and these.

        Where there is a choice: of the same step, of the parent run, and the newest. Calls with the same key come first, and
        a key that differs has one differing part at least, so that the first one with no more ends the search.
        """
        own = self.own[step]
        others = [each for each in self.earlier[step] if (each.run_id, each.step) != (own.run_id, own.step)]
        others.sort(key=lambda each: (each.key != own.key, each.step != own.step, each.run_id != parent))
        best: tuple[CallRecord, tuple[KeyChange, ...]] | None = None
        for each in others:
            if best is not None and _fewest_changes(each, own) >= len(best[1]):
                continue
            changes = key_changes(each, own, self.codes)
            if best is None or len(changes) < len(best[1]):
                best = each, changes
            if len(best[1]) <= 1:
                break
        return best


def _fewest_changes(before: CallRecord, after: CallRecord) -> int:
    """Return a number that the differing parts of two calls are not below, without looking into arguments."""
    count = sum(
        before.parts[name] != part
        for name, part in after.parts.items()
        if name in before.parts and name != "args"
    )
    old, new = before.parts.get("args"), after.parts.get("args")
    if isinstance(old, dict) and isinstance(new, dict):
        return count + sum(old[name] != value for name, value in new.items() if name in old)
    return count + (old != new)


async def gather(store: Store, run_id: str, firsts: Iterable[Entry]) -> Evidence:
    """Return what is known of the calls with which steps began."""
    called: dict[str, float] = {}
    journaled: dict[str, str] = {}
    keys: dict[str, None] = {}
    for entry in firsts:
        match entry.event:
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
        earlier |= await store.find_earlier_calls(subject, until, limit=EARLIER_MAX)
    made = [*own.values(), *(each for records in earlier.values() for each in records)]
    codes = dict.fromkeys(each.code for each in made if each.code)
    return Evidence(
        own,
        earlier,
        _intact(await store.find_codes(list(codes))) if codes else {},
        await store.find_reusable(list(keys)) if keys else {},
    )


def _intact(codes: Mapping[str, Mapping[str, str]]) -> Mapping[str, Mapping[str, str]]:
    """Return the parts whose digest matches their fingerprint; `explain` gives no reason from parts that were changed."""
    return {name: parts for name, parts in codes.items() if is_fingerprint(name, parts)}


# --- the state of a step that made no call, as the end of a sentence: "was skipped because its `when` was false"

_TEXTS: Final = {
    Reason.WHEN: "was skipped because its `when` was false",
    Reason.ON_ERROR: "was skipped because it failed, and on_error is 'skip'",
    Reason.CANCELLED: "was cancelled with the run",
    Reason.APPROVAL: "waits for a person to approve its call",
    Reason.BUDGET: "waits because its call would pass the run's budget",
}
_BAD: Final = (State.FAILED, State.CANCELLED, State.SKIPPED)


def standing(cell: Iteration, machine: Machine) -> tuple[str, str]:
    """Return the reason as a word, and as the end of a sentence."""
    node = cell.item.node
    reason = cell.reason or node.reason
    if reason is not None:
        return reason.value, _reason_text(reason, node)
    failure = cell.failure or node.failure
    if cell.state is State.FAILED and failure is not None:
        return failure.code, f"failed before it called anything: {failure.message}"
    if cell.state is State.SUCCEEDED:
        return "empty", "called nothing: its list was empty"
    needs = [node.frame.nodes[at] for at in (*node.code.needs, *node.code.after)]
    waiting = dict.fromkeys(f"'{need.code.id}'" for need in needs if not _is_over(need))
    why = f": it waits for {' and '.join(waiting)}" if waiting else ""
    return (
        "pending",
        f"has not run yet{why}" if machine.is_started else "has not run: the run has not started",
    )


def _reason_text(reason: Reason, node: Node) -> str:
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
        case _:
            return _TEXTS[reason]


def _is_over(node: Node) -> bool:
    return node.state in (State.SUCCEEDED, *_BAD)


def _culprit(node: Node, states: tuple[State, ...], otherwise: str = "a step") -> str:
    """Return the first step that this one refers to and that did not succeed."""
    needs = [node.frame.nodes[at] for at in (*node.code.needs_when, *node.code.needs)]
    found = next((need.code.id for need in needs if need.state in states), None)
    return f"'{found}'" if found is not None else otherwise


def _blocker(node: Node) -> str:
    """Return what blocks: a step of `after`, or one on the same resource."""
    after = [node.frame.nodes[at] for at in node.code.after]
    found = next((each.code.id for each in after if each.state in _BAD), None)
    return (
        f"'{found}', which it comes after,"
        if found is not None
        else "a step on a resource that it writes, or an item,"
    )
