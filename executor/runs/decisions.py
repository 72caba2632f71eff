"""Decisions of people about runs: approve, deny, resolve, cancel, raise the budget.

A decision is about one attempt of one leaf, and an approval is about exactly the arguments that were shown. First the decision is made durable; the
store accepts only one decision about an attempt, also if several processes decide at the same moment. Then the driver of the run
handles it. If nobody drives the run, this module records the decision in the journal, and a resume continues from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, Protocol, TypeAlias, cast
from weakref import WeakValueDictionary

from ...errors import DECIDED, OWN_RUN, InputRejected, ToolError
from ...lazy_imports import late_pattern
from ...plans.format.shape import describe
from ...plans.immutable import immutable, record
from ...plans.program.program import ENDORSED, AskPerson, CallTool
from ...plans.reports.nearest import listing
from ...plans.reports.problems import problem
from ...plans.types.integers import with_integers
from ...plans.types.validate import value_problems
from ...plans.values import Json, NotJson
from ..calls.facilities import Facilities
from ..canonical_value import CanonicalValue
from ..events import (
    Answered,
    Approved,
    BudgetRaised,
    CancelAsked,
    Cause,
    DecisionEvent,
    Denied,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
)
from ..execution_tree import (
    Iteration,
    answer_schema,
    expiry_of,
    is_asked,
    is_question,
    shown_of,
    undecided_attempt,
)
from ..fork import is_within
from ..journal.decision_history import DecisionHistory, decision_of, is_decision, key_of
from ..journal.header import Header
from ..journal.records import Entry, write_line
from ..journal.restore import load_entries
from ..journal.toolset_lock import ToolLock
from ..machine import EXPIRED, Machine
from ..states import FINAL, Reason, RunStatus, State
from ..stores.store import DecisionKey, RunRow
from .archive import Archive, read_decision
from .driver import Driver
from .owner import Owner
from .planning import Planning, answers_in, question_in
from .request import as_json, attempt_of, edit_of, expect_small, reason_of, run_of, step_of
from .run import Run

PART: Final = late_pattern(r"[\[#/]")  # the marks after which a path goes into a part of a step
About: TypeAlias = Literal["call", "outcome"]
VERDICTS: Final[Mapping[str, About]] = {
    "approve": "call",
    "deny": "call",
    "answer": "call",
    "done": "outcome",
    "retry": "outcome",
    "fail": "outcome",
}


@immutable
class Ruling:
    """The decision of a person about a leaf.

    Attributes:
        step: Path of the leaf.
        attempt: The attempt that the decision is about; `None`: the attempt that waits now.
        given: The value of the decision: edited arguments, a reason, a result, or why the call counts as failed.
    """

    step: str
    verdict: Literal["approve", "deny", "answer", "done", "retry", "fail"]
    attempt: int | None = None
    given: object = None

    @property
    def about(self) -> About:
        """Whether the decision is about a call that waits, or about the outcome of a call."""
        return VERDICTS[self.verdict]


WORDS: Final = ("approve", "deny", "retry")  # decisions that need no value, so that the word alone is one
FIELDS_BESIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "approve": ("edit", "attempt"),
    "deny": ("reason", "attempt"),
}
_FORMS: Final = (
    '"approve", "deny" or "retry", or an object with one of approve (true; edit), deny (true; reason), answer (the value), done (what was returned), '
    "retry (true), fail (why), and optionally attempt"
)


def ruling_of(step: str, written: object) -> Ruling:
    """Read a decision as people write it: a word or an object.

    `"approve"`, `"deny"`, `"retry"`; `{"approve": true, "edit": {..}}`, `{"deny": true, "reason": ".."}`, `{"answer": value}`,
    `{"done": value}`, `{"retry": true}`, `{"fail": "why"}`, each with `attempt` if it is to be named.

    Raises:
        InputRejected: The value is not one of these forms.
    """
    given: Mapping[str, object] = {}
    if isinstance(written, str):
        given = {written: True} if written in WORDS else {}
    elif isinstance(written, Mapping):
        written = given = cast("Mapping[str, object]", written)
    # Exactly one verdict: `{"approve": true, "deny": true}` must not depend on the order of keys.
    named = [name for name in VERDICTS if name in given]
    if len(named) != 1:
        raise InputRejected(f"expected {_FORMS}, found {describe(written)}")
    verdict = named[0]
    known = (verdict, *FIELDS_BESIDE.get(verdict, ("attempt",)))
    if others := [name for name in given if name not in known]:
        raise InputRejected(
            f"expected no other fields than {', '.join(known)} beside '{verdict}', found {others[0]!r}"
        )
    # `{"approve": false}` is refused rather than read as a denial: a denial has to be written as one.
    if verdict in WORDS and given[verdict] is not True:
        raise InputRejected(f"{verdict}: expected true, found {describe(given[verdict])}")
    attempt = attempt_of(given.get("attempt"))
    match verdict:
        case "approve":
            return Ruling(
                step, "approve", attempt, edit_of(cast("Mapping[str, Json] | None", given.get("edit")))
            )
        case "deny":
            return Ruling(step, "deny", attempt, reason_of("reason", given.get("reason")))
        case "answer" | "done":
            return Ruling(step, verdict, attempt, given[verdict])
        case "retry":
            return Ruling(step, "retry", attempt)
        case _:
            return Ruling(step, "fail", attempt, reason_of("fail", given["fail"]))


@record
class Asked:
    """The state of a run, as decisions need it.

    Attributes:
        pending: Decisions that its journal does not hold yet.
        history: The decisions in the journal; read only if a decision is about an attempt that no longer waits.
    """

    row: RunRow
    machine: Machine
    pending: Mapping[DecisionKey, Entry]
    history: DecisionHistory | None = None

    def spread(self, ruling: Ruling, named: Container[str]) -> Sequence[Ruling]:
        """Expand a decision about a step into decisions about its waiting parts, except those in `named`, which have their own.

        Raises:
            InputRejected: The decision has a field that applies to a single call only.
        """
        iteration = self.machine.iterations.get(ruling.step)
        if iteration is not None and iteration.is_leaf:
            return [ruling]
        # The path of a step means all its parts that wait. With a value of its own, the decision would be about several calls together, of
        # which nobody has seen more than one.
        waiting = [
            path
            for path, part in self.machine.iterations.items()
            if _is_about(part, ruling.about) and is_within(path, ruling.step)
        ]
        if not waiting:
            return [ruling]  # refused later, with a list of the leaves that do wait
        own = {"attempt": ruling.attempt is not None, "edit": ruling.verdict == "approve" and ruling.given}
        own |= {each: ruling.verdict == each for each in ("done", "answer")}
        if what := next((name for name, is_given in own.items() if is_given), None):
            raise InputRejected(f"'{what}' applies to one call only; name the call: {listing(waiting)}")
        # Parts that are decided are left alone: repeating "approve all" after some single decisions must not conflict with them.
        decided = {key.step for key in self.pending if key.about == ruling.about}
        return [
            replace(ruling, step=path)
            for path in waiting
            if path not in decided and not any(each in named for each in _within(path, ruling.step))
        ]

    def find_standing(self, key: DecisionKey) -> Entry | None:
        """Return the decision that stands about an attempt."""
        return self.pending.get(key) or (self.history.decided.get(key) if self.history is not None else None)

    def find_last(self, step: str, about: About) -> DecisionKey | None:
        """Return the newest attempt of a step that is decided."""
        known = [*(self.history.decided if self.history is not None else ()), *self.pending]
        return max((key for key in known if key.step == step and key.about == about), default=None)

    def expect_may_approve(self, by: str) -> None:
        """Raise `InputRejected` if this person has submitted the run, or decided what it does, and may not approve its calls."""
        submitter = Header.from_dict(self.row.header).submitter
        if submitter is None:
            return
        if by in submitter.others:
            did = f"changed the plan of the schedule of run {self.row.id} after the schedule was saved,"
        elif submitter.name == by and not submitter.may_approve:
            did = f"submitted run {self.row.id}"
        else:
            return
        raise InputRejected(
            f"expected another person than '{by}', who {did} and may not approve its calls; '{by}' may deny them or cancel the run",
            code=OWN_RUN,
        )

    def lock_of(self, iteration: Iteration) -> ToolLock | None:
        """Return the tool of a leaf from the header of the run: the process in which a person decides may not have the tool."""
        action = iteration.item.node.code.action
        return (
            Header.from_dict(self.row.header).lock.find(action.tool) if isinstance(action, CallTool) else None
        )


class TellsOfDecision(Protocol):
    """Is told that a decision about a run is in the store."""

    async def __call__(self, run_id: str, /, *, is_cancel: bool) -> None:
        """Take note of the run, which may go on now."""
        ...


class Decisions:
    """Records decisions about the runs of one store, and passes them to the drivers of the runs.

    Args:
        facilities: What the runs of an engine share.
        archive: Reads runs.
        owner: Claims runs that nobody drives.
        drivers: Run id -> the driver of the run in this process.
        driving: Run id -> the work on the run in this process.
        planning: Keeps what is known of a task without a plan.
        rouse: Has a run go on that waits for a time here.
        tell: Is told of each run about which a decision is in the store, for whoever hands runs out; `None`: nobody does.
    """

    def __init__(  # noqa: PLR0913  # what a decision touches
        self,
        facilities: Facilities,
        archive: Archive,
        owner: Owner,
        drivers: Mapping[str, Driver],
        driving: Mapping[str, asyncio.Task[Exception | None]],
        planning: Planning,
        rouse: Callable[[str], Awaitable[None]],
        *,
        tell: TellsOfDecision | None = None,
    ) -> None:
        self._facilities = facilities
        self._store = facilities.store
        self._archive = archive
        self._owner = owner
        self._drivers = drivers
        self._driving = driving
        self._planning = planning
        self._rouse = rouse
        self._tell = tell
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by run

    async def decide_one(self, run_id: str, step: str, written: Mapping[str, object], *, by: str) -> Run:
        """Decide about one leaf.

        Args:
            run_id: The run.
            step: Path of the leaf.
            written: The decision, as `ruling_of` reads it; its `attempt` may be `None`: the attempt that waits now.
            by: Who decides.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: Nothing waits there, a value does not fit, or another decision stands.
        """
        ruling = ruling_of(step_of(step), written)
        async with self._alone(run_id):
            faults: dict[str, InputRejected] = {}
            asked = await self._asked(run_id)
            await self._record(asked, [ruling], by, faults)
            for fault in faults.values():
                raise fault
            return await self._archive.get(run_id)

    async def answer_planner(self, run_id: str, value: object, *, by: str) -> Run:
        """Answer the question that the planner of a task has asked.

        Args:
            run_id: The run.
            value: The answer, which fits the question's `returns`.
            by: Who answers.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: No question waits there, the value does not fit, or somebody else has answered (code `decided`).
        """
        async with self._alone(run_id):
            row = await self._archive.row(run_id)
            row.expect_to_go_on()
            question = question_in(row.header)
            if question is None or row.status != RunStatus.WAITING:
                if _has_answered(row, value, by):
                    return await self._archive.get(run_id)
                raise _not_asked(row)
            answer = _fitting_answer(
                f"the answer to the planner of run {row.id}",
                value,
                cast("dict[str, Json]", question["returns"]),
            )
            claimed = await self._owner.claim(self._store, row.id)
            if claimed is None:
                raise InputRejected(
                    f"run {row.id} is being planned by another process; answer it once it asks"
                )
            try:
                if question_in(claimed.header) != question:
                    raise _not_asked(claimed)
                await self._planning.answer(claimed, answer.value, by)
            finally:
                await self._owner.let_go(self._store, claimed)
            if self._tell is not None:
                await self._tell(row.id, is_cancel=False)
            return await self._archive.get(row.id)

    async def decide(self, run_id: str, decisions: Mapping[str, object], *, by: str) -> Run:
        """Decide about several leaves together, all or nothing.

        Args:
            run_id: The run.
            decisions: Path of a leaf, or of a step (for its waiting parts that have no entry of their own) -> see `ruling_of`.
            by: Who decides.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: A decision is not valid, nothing waits for it, or another decision stands; the error names every such entry.
        """
        async with self._alone(run_id):
            faults: dict[str, InputRejected] = {}
            asked = await self._asked(run_id)
            rulings: list[Ruling] = []
            for step, written in decisions.items():
                try:
                    rulings += asked.spread(ruling_of(step, written), decisions)
                except InputRejected as fault:
                    faults[step] = fault
            await self._record(asked, rulings, by, faults)
            # All faults in one error, so that a person corrects them together.
            if faults:
                raise _refused(faults, len(decisions))
            return await self._archive.get(run_id)

    async def raise_budget(self, run_id: str, budget: Mapping[str, float]) -> None:
        """Let a run use more (or less); a run that has ended is left as it is. Raises: RunNotFound.

        A task without a plan applies the new budget to its next planning, and to its steps once the plan exists.
        """
        row = await self._archive.row(run_id)
        if row.status not in FINAL:
            row.expect_to_go_on()
            await self._leave_for_run(run_id, BudgetRaised(dict(budget)))

    async def cancel(self, run_id: str) -> Run:
        """Ask a run to stop. A run that has ended is returned as it is. Raises: RunNotFound."""
        row = await self._archive.row(run_id)
        if row.status in FINAL:
            return await self._archive.get(run_id)
        row.expect_to_go_on()
        if row.plan_digest is None:
            return await self._cancel_planning(row)
        return await self._leave_for_run(run_id, CancelAsked(self._owner.name), is_cancel=True)

    async def cancel_planning_here(self, run_id: str) -> None:
        """Cancel a task that this engine plans, if another process has left that decision. Raises: StoreError."""
        row = await self._archive.row(run_id)
        decisions = await self._archive.decisions(run_id)
        if row.plan_digest is None and any(isinstance(each.event, CancelAsked) for each in decisions):
            await self._cancel_planning(row)

    async def _cancel_planning(self, row: RunRow) -> Run:
        """Cancel a task that has no plan yet. Another process that plans the task finds the decision in the store."""
        # There is no journal yet that could hold the decision, so the planning ends first, and the row says that the task is cancelled.
        if (planning := self._driving.get(row.id)) is not None and row.id not in self._drivers:
            planning.cancel()
            await asyncio.wait([planning])
        claimed = await self._owner.claim(self._store, row.id)
        if claimed is None:
            left = await self._leave_for_run(row.id, CancelAsked(self._owner.name), is_cancel=True)
            # A planning that has just ended had its last look at the store before this decision.
            if (await self._archive.row(row.id)).owner is not None:
                return left
            claimed = await self._owner.claim(self._store, row.id)
        if claimed is None:
            return await self._archive.get(row.id)
        is_planned, has_ended = claimed.plan_digest is not None, claimed.status in FINAL
        if not (is_planned or has_ended):
            await self._planning.cancel(claimed)
        await self._owner.let_go(self._store, claimed)
        if is_planned and not has_ended:  # meanwhile
            return await self.cancel(row.id)
        if self._tell is not None:
            await self._tell(row.id, is_cancel=True)
        return await self._archive.get(row.id)

    # --- one decision after the other

    def _alone(self, run_id: str) -> asyncio.Lock:
        """Return the lock that makes this engine record decisions about a run one at a time; the store orders decisions of other processes."""
        # Weak values: the lock lives as long as somebody holds or awaits it, so the map does not grow with the number of runs.
        return self._locks.setdefault(run_of(run_id), asyncio.Lock())

    async def _record(
        self, asked: Asked, rulings: Sequence[Ruling], by: str, faults: dict[str, InputRejected]
    ) -> None:
        """Record a person's decisions about some leaves, all or none, and pass them to the process that drives the run.

        Args:
            asked: The run.
            rulings: One for each leaf.
            by: Who decides.
            faults: Path -> the fault of a decision. Faults are added here; if there is any fault, no decision is recorded.
        """
        made: dict[DecisionKey, DecisionEvent] = {}
        for ruling in rulings:
            try:
                verdict = await self._verdict(asked, ruling, by)
            except InputRejected as fault:
                faults[ruling.step] = fault
            else:
                made |= {} if verdict is None else {key_of(verdict, 0): verdict}
        run_id = asked.row.id
        if made and not faults:
            # A decision survives a crash, so the record of its question must survive too: otherwise the person would be asked again.
            await self._flush(run_id)
            # A person has decided about what was shown: the store refuses the record if another decision about the attempt came first.
            faults.update(await self._leave(run_id, _in_order(asked.machine, made)))
        # Also without a new decision: an earlier process may have died between recording a decision and handing it over.
        if not faults and (made or asked.pending):
            await self._hand_over(run_id)

    async def _asked(self, run_id: str) -> Asked:
        """Return the state of a run, as decisions need it."""
        row = await self._archive.row(run_id)
        row.expect_to_go_on()
        machine = await self._archive.machine(row)
        return Asked(row, machine, await self._pending(run_id, machine))

    async def _pending(self, run_id: str, machine: Machine) -> Mapping[DecisionKey, Entry]:
        """Return the decisions that are not yet in the run's journal; the first decision about an attempt stands."""
        found: dict[DecisionKey, Entry] = {}
        for _, entry in await self._archive.decision_records(run_id):
            if is_decision(entry.event):
                iteration = machine.iterations.get(entry.event.step)
                attempt = undecided_attempt(iteration) if iteration is not None else None
                found.setdefault(key_of(entry.event, attempt or 1), entry)
        return found

    async def _recall(self, asked: Asked) -> None:
        """Read the decisions in the journal, up to this moment."""
        # Only for a decision about an attempt that no longer waits: reading a journal costs as much as a rebuild, and most decisions are new.
        if asked.history is None:
            await self._flush(asked.row.id)
            asked.pending = await self._pending(asked.row.id, asked.machine)
            row = await self._archive.row(asked.row.id)
            asked.history = DecisionHistory.of(await load_entries(self._store, row))

    async def _flush(self, run_id: str) -> None:
        """Make all records of a run that is driven here durable."""
        if (driver := self._drivers.get(run_id)) is not None:
            await driver.journal.flush()

    async def _verdict(self, asked: Asked, ruling: Ruling, by: str) -> DecisionEvent | None:
        """Return a decision as an event; `None`: the same decision stands. Raises: InputRejected: the decision is not valid, or another one stands."""
        if (
            ruling.verdict == "approve"
        ):  # whoever submitted a run may answer its questions, as they gave its inputs
            asked.expect_may_approve(by)
        iteration = asked.machine.iterations.get(ruling.step)
        waits = (
            undecided_attempt(iteration)
            if iteration is not None and _is_about(iteration, ruling.about)
            else None
        )
        # Which attempt? The named one, else the one that waits, else (for the error or a repetition) the last one that was decided.
        attempt = ruling.attempt if ruling.attempt is not None else waits
        key = DecisionKey(ruling.step, attempt, ruling.about) if attempt is not None else None
        standing = asked.pending.get(key) if key is not None else None
        if standing is None and iteration is not None and (attempt is None or attempt != waits):
            await self._recall(asked)
            key = key or asked.find_last(ruling.step, ruling.about)
            standing = asked.find_standing(key) if key is not None else None
        if iteration is not None and key is not None and standing is not None:
            if await self._is_repeated(asked, iteration, ruling, by, standing):
                return None
            raise _decided(key, standing)
        if iteration is None or waits is None:
            raise InputRejected(_not_decidable(ruling.step, asked.machine, ruling.about))
        if attempt != waits:
            raise InputRejected(
                f"expected attempt {waits} of step '{ruling.step}', which waits now, found attempt {ruling.attempt}"
            )
        self._expect_kind(iteration, ruling)
        return await self._event(
            asked, iteration, shown_of(iteration) or CanonicalValue(b"null"), ruling, by, waits
        )

    def _expect_kind(self, iteration: Iteration, ruling: Ruling) -> None:
        """Raise `InputRejected` if the decision is of the wrong kind: a question is answered, a call is approved."""
        if ruling.verdict == "answer" and not is_question(iteration):
            raise InputRejected(
                f"step '{ruling.step}' asks no question; it waits for a decision about its call: approve or deny it"
            )
        if ruling.verdict == "approve" and is_question(iteration):
            raise InputRejected(
                f"step '{ruling.step}' asks a question, so there is nothing to approve: answer it with a value, or deny it"
            )
        expiry = expiry_of(iteration)
        if expiry is not None and self._facilities.clock.now() >= expiry:
            what = (
                "the question of step '{}' has expired; the step fails"
                if is_question(iteration)
                else "the time for a decision about the call of step '{}' is over; the call is denied"
            )
            raise InputRejected(f"{what.format(ruling.step)} when the run is resumed", code=EXPIRED)

    async def _is_repeated(
        self, asked: Asked, iteration: Iteration, ruling: Ruling, by: str, standing: Entry
    ) -> bool:
        """Whether the decision repeats a decision of the same person exactly: a client that retries a request must get the run, not an error."""
        if not is_decision(standing.event):
            return False
        call = shown_of(iteration)
        if (
            asked.history is not None
        ):  # the call may have ended or been edited, so compare with the arguments that were shown
            call = asked.history.asked.get(ruling.step)
        attempt = standing.event.attempt
        try:
            made = await self._event(asked, iteration, call or CanonicalValue(b"null"), ruling, by, attempt)
        except InputRejected:
            return False
        return made == standing.event

    async def _event(  # what an event is made of
        self,
        asked: Asked,
        iteration: Iteration,
        call: CanonicalValue,
        ruling: Ruling,
        by: str,
        attempt: int | None,
    ) -> DecisionEvent:
        """Return a decision as an event. Raises: InputRejected: arguments or a result do not fit the tool."""
        step, given = ruling.step, ruling.given
        match ruling.verdict:
            case "approve":
                edit = cast("Mapping[str, Json] | None", given)
                edited = self._edited(asked, iteration, call, edit) if edit is not None else None
                return Approved(step, by, call.digest, edited, attempt)
            case "answer":
                where = f"the answer to step '{iteration.path}'"
                answer = _fitting_answer(where, given, answer_schema(iteration))
                return Answered(step, by, call.digest, answer, attempt)
            case "deny":
                return Denied(step, by, cast("str", given or ""), attempt)
            case "done":
                return ResolvedDone(step, self._done(asked, iteration, given), attempt, by or None)
            case "retry":
                return ResolvedRetry(step, attempt, by or None)
            case "fail":
                return ResolvedFailed(step, cast("str", given), attempt, by or None)

    def _edited(
        self, asked: Asked, iteration: Iteration, call: CanonicalValue, edit: Mapping[str, Json]
    ) -> CanonicalValue:
        edited = {**cast("dict[str, Json]", call.value), **edit}
        action = iteration.item.node.code.action
        if isinstance(action, AskPerson):
            return _endorsed(iteration, action, edited)
        lock = asked.lock_of(iteration)
        if lock is None:
            raise InputRejected(f"step '{iteration.path}' calls no tool, so it has no arguments to edit")
        # With the tool itself if this process has it, because its own validators see more than the schema; the schema of the header otherwise.
        tool = self._facilities.tools.find(lock.name)
        try:
            if tool is not None:
                tool.bind(edited)
            else:
                _expect_fit(edited, lock.parameters)
            value = CanonicalValue.of(edited)
        except (ToolError, NotJson) as fault:
            where = f"the edited arguments of step '{iteration.path}'"
            raise _misfit(f"{where} do not fit: {fault}", "$.edit", edited, lock.parameters) from fault
        expect_small(f"the edited arguments of step '{iteration.path}'", value)
        return value

    def _done(self, asked: Asked, iteration: Iteration, output: object) -> CanonicalValue:
        lock = asked.lock_of(iteration)
        tool = self._facilities.tools.find(lock.name) if lock is not None else None
        # A value that a person gives passes the same checks as a result of the tool: later steps rely on its type.
        try:
            value = (
                CanonicalValue(tool.accept(output)[0])
                if tool is not None
                else CanonicalValue.of(as_json(cast("Json", output)))
            )
            if tool is None and lock is not None and lock.returns is not None:
                _expect_fit(value.value, lock.returns)
                value = CanonicalValue.of(with_integers(value.value, lock.returns))
        except (ToolError, NotJson) as fault:
            message = f"done: the value is no result of step '{iteration.path}': {fault}"
            wanted = lock.returns if lock is not None else None
            raise _misfit(message, "$.done", output, wanted or {}) from fault
        expect_small(f"done: the value of step '{iteration.path}'", value)
        return value

    # --- passing decisions to the process that drives the run

    async def _leave(
        self, run_id: str, made: Mapping[DecisionKey, DecisionEvent]
    ) -> Mapping[str, InputRejected]:
        """Make decisions durable, all or none; return the decisions that conflict, by path."""
        now = self._facilities.clock.now()
        records = {key: write_line(0, now, event, inline_bytes_max=None)[0] for key, event in made.items()}
        while records and (standing := await self._store.add_decisions(run_id, records)):
            others = {key: read_decision(record) for key, record in standing.items()}
            # Another process may have left the same decision at this moment. An equal decision is no conflict; the others are left again,
            # without those that stand.
            faults = {
                key.step: _decided(key, other) for key, other in others.items() if other.event != made[key]
            }
            if faults:
                return faults
            records = {key: record for key, record in records.items() if key not in standing}
        return {}

    async def _leave_for_run(self, run_id: str, decision: Cause, *, is_cancel: bool = False) -> Run:
        """Make a decision about a run, not about a leaf, durable, and pass it on."""
        line, _ = write_line(0, self._facilities.clock.now(), decision, inline_bytes_max=None)
        await self._store.add_decision(run_id, line)
        await self._hand_over(run_id, is_cancel=is_cancel)
        return await self._archive.get(run_id)

    async def _hand_over(self, run_id: str, *, is_cancel: bool = False) -> None:
        """Pass decisions to the run's driver, or keep them until a resume; another process finds them in the store."""
        await self._hand_over_here(run_id)
        if self._tell is not None:
            await self._tell(run_id, is_cancel=is_cancel)

    async def _hand_over_here(self, run_id: str) -> None:
        # A loop, because others may decide while this process records: then they find the run claimed, and rely on this process.
        while decisions := await self._archive.decisions(run_id):
            if (driver := self._drivers.get(run_id)) is not None:
                await driver.take_decisions(decisions)
                return
            if (await self._archive.row(run_id)).plan_digest is None:
                return  # its first driver takes them in
            row = await self._owner.claim(self._store, run_id)
            if row is None:  # another owner has it, and polls the store for decisions
                return
            await self._note(row)
        await self._rouse(run_id)

    async def _note(self, row: RunRow) -> None:
        """Record the decisions about a claimed run that nobody drives, and release the run."""
        try:
            header = Header.from_dict(row.header)
            machine = await self._archive.rebuilt(row)
            driver = Driver(self._facilities, row, machine, header)
            await driver.note(await self._archive.decisions(row.id))
        finally:
            await self._owner.let_go(self._store, row)


def _within(path: str, outer: str) -> list[str]:
    """Return a path, and the enclosing steps and items up to, but not including, a given step."""
    ends = [mark.start() for mark in PART.finditer(path) if mark.start() > len(outer)]
    return [path, *(path[:end] for end in ends)]


def _in_order(
    machine: Machine, made: Mapping[DecisionKey, DecisionEvent]
) -> Mapping[DecisionKey, DecisionEvent]:
    """Return decisions in plan order, with denials last and in reverse order: a denied item blocks the later items, so their decisions must come first."""
    order = {key: machine.iterations[key.step].order for key in made}
    kept = sorted((key for key in made if not isinstance(made[key], Denied)), key=order.__getitem__)
    denied = sorted(
        (key for key in made if isinstance(made[key], Denied)), key=order.__getitem__, reverse=True
    )
    return {key: made[key] for key in (*kept, *denied)}


def _refused(faults: Mapping[str, InputRejected], count: int) -> InputRejected:
    """Return one error that names each faulty entry."""
    listed = "; ".join(f"'{step}': {fault.message}" for step, fault in faults.items())
    # The code `decided` lets a client treat the error as success if somebody else was quicker, so a code must hold for every entry.
    codes = {fault.code for fault in faults.values()}
    return InputRejected(
        f"nothing was decided, {len(faults)} of {count} entries {'is' if len(faults) == 1 else 'are'} at fault: {listed}",
        code=codes.pop() if len(codes) == 1 else None,
    )


def _is_about(iteration: Iteration, about: About) -> bool:
    return is_asked(iteration) if about == "call" else iteration.state is State.INDETERMINATE


def _decided(key: DecisionKey, standing: Entry) -> InputRejected:
    what = "" if key.about == "call" else "the outcome of "
    return InputRejected(
        f"{what}step '{key.step}', attempt {key.attempt}, is decided already: {decision_of(standing)}; one decision stands for an attempt",
        code=DECIDED,
    )


def _not_decidable(step: str, machine: Machine, about: About) -> str:
    state = State.WAITING if about == "call" else State.INDETERMINATE
    iteration = machine.iterations.get(step)
    if iteration is not None and iteration.reason is Reason.BUDGET:
        return f"step '{step}' waits for a larger budget, not for a person: resume the run with one"
    if iteration is not None:
        found = f"is {iteration.state.value}"
    elif any(is_within(path, step) for path in machine.iterations):
        found = "has parts, none of which does"
    else:
        found = "is not there, or has not started"
    wanted = "waits for approval" if state is State.WAITING else "is of unknown outcome"
    others = [
        each.path
        for each in machine.iterations.values()
        if each.state is state and each.reason is not Reason.BUDGET
    ]
    known = (
        f"those that {'do' if state is State.WAITING else 'are'}: {listing(others)}"
        if others
        else f"no step of the run {wanted}"
    )
    return f"expected a step that {wanted}, found '{step}', which {found}; {known}"


def _endorsed(iteration: Iteration, action: AskPerson, edited: Mapping[str, Json]) -> CanonicalValue:
    """Return the value that a person endorses in the place of the one that was shown. Raises: InputRejected: it does not fit."""
    where = f"the edited value of step '{iteration.path}'"
    if others := [name for name in edited if name != ENDORSED]:
        raise InputRejected(f"{where}: expected '{ENDORSED}' only, found {listing(others)}")
    try:
        _expect_fit(edited[ENDORSED], action.returns)
        value = CanonicalValue.of(dict(edited))
    except (ToolError, NotJson) as fault:
        raise _misfit(
            f"{where} does not fit: {fault}", f"$.edit.{ENDORSED}", edited[ENDORSED], action.returns
        ) from fault
    expect_small(where, value)
    return value


def _has_answered(row: RunRow, value: object, by: str) -> bool:
    """Whether the last answer to the planner of a task is this one: a client that repeats its request gets the run."""
    answers = answers_in(row.header)
    if not answers or row.plan_digest is not None or row.status != RunStatus.QUEUED:
        return False
    return (answers[-1].get("answer"), answers[-1].get("by")) == (value, by)


def _not_asked(row: RunRow) -> InputRejected:
    if answers := answers_in(row.header):
        return InputRejected(
            f"the question of the planner of run {row.id} was answered by {answers[-1]['by']}", code=DECIDED
        )
    return InputRejected(f"run {row.id} asks no question about its task; name the step that asks one")


def _fitting_answer(where: str, given: object, schema: Mapping[str, Json]) -> CanonicalValue:
    """Return an answer that fits a schema. Raises: InputRejected: it does not."""
    try:
        value = CanonicalValue.of(as_json(cast("Json", given)))
        _expect_fit(value.value, schema)
        value = CanonicalValue.of(with_integers(value.value, schema))
    except (ToolError, NotJson) as fault:
        raise _misfit(f"{where} does not fit: {fault}", "$.value", given, schema) from fault
    expect_small(where, value)
    return value


def _misfit(message: str, at: str, value: object, schema: Mapping[str, Json]) -> InputRejected:
    """Return the refusal of a value that a person gave, with the place of each fault, so that a form shows it at its field."""
    faults = value_problems(cast("Json", value), schema)
    return InputRejected(
        message, [problem("bad-input", at + fault.inner, fault.message, fault.hint) for fault in faults]
    )


def _expect_fit(value: Json, schema: Mapping[str, Json]) -> None:
    """Validate a value against a schema. Raises: ToolError: it does not fit."""
    faults = value_problems(value, schema)
    if faults:
        raise ToolError(
            "; ".join(f"{fault.inner.lstrip('.') or 'the value'}: {fault.message}" for fault in faults),
            code="bad-value",
        )
