"""Every call of the client, written once; `client.py` offers them with and without an event loop.

Each request may be sent twice, since an answer that was lost looks like a request that never arrived:

- A submission carries an `Idempotency-Key` that the client makes, a fork or a retry the id of the new run: the same request makes one run.
- A decision names the attempt that it is about, so that a repeated one is never about a later attempt; the server answers a repeated decision
  with the run.
- A plan or a schedule that was saved, and a run, a plan or a schedule that was deleted, by an earlier attempt are no error of a later one.
- The journal is read from the last event that was handed on: a cut connection loses no event and repeats none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import quote

import httpx2
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypeVar

from ..errors import REPLACED, UNKNOWN_SCHEDULE, InputRejected, RunNotFound, ServerError
from ..executor import (
    Event,
    Explanation,
    PlanUses,
    Run,
    RunDiff,
    Verification,
    WaitingCalls,
)
from ..executor.fork import is_within
from ..executor.runs.request import inputs_of, output_type_of, run_of, step_of
from ..executor.states import UNDER_WAY, RunStatus
from ..plans import CheckReport, Plan, parse
from ..plans.reports.nearest import short
from ..plans.values import Json, NotJson
from ..tools import Artifact, ArtifactPreview
from ..tools.private_file import replacing
from .results import (
    PlanEntry,
    ServedTool,
    diff_of,
    event_of,
    explanations_of,
    fires_of,
    page_of,
    plan_entries_of,
    plan_of,
    preview_in,
    report_of,
    run_in,
    saved_plan_of,
    schedule_of,
    schedules_of,
    served_tools_of,
    verification_of,
    versions_of,
    waiting_of,
)
from .transport import LONG_S, Connection, Request

if TYPE_CHECKING:
    from ..executor import PlanVersion, RunFilter, RunPage, RunSummary
    from ..plans.python_types import Inputs, OutputType
    from ..schedules import Fire, Schedule
    from ..schedules.schedule import CatchUp, Overlap

T = TypeVar("T", default=Any)
PlanLike: TypeAlias = Plan | Mapping[str, Any] | os.PathLike[str]

BAD_ANSWER: Final = "bad-answer"
UNKNOWN_PLAN: Final = "unknown-plan"
UNSET: Final = object()  # `done=None` says that a call took effect and returned null
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
PAGE: Final = 200
"""Runs of one request for a list."""
SILENCE_S: Final = 45.0
"""Seconds without a line after which a stream of events counts as cut: the server sends one at least every 15."""
CUT_PAUSE_S: Final = 0.2
CUT_PAUSE_S_MAX: Final = 5.0
"""Bounds of the pause before a stream that was cut is opened again."""
SETTLE_S: Final = 0.2
"""Seconds before a stream is opened again that ended although its run goes on: the server is going down."""

STANDING: Final = (RunStatus.WAITING, RunStatus.INDETERMINATE, RunStatus.OVER_BUDGET, RunStatus.PARKED)
"""Statuses of a run that does not go on by itself, and has not ended."""
RESUMED_S: Final = 5.0
"""Seconds for which `resume` waits until the server has continued such a run; a run that goes on waiting has a new event, too."""
LOOK_S: Final = 0.05


class Calls:
    """The calls of one server, as coroutines.

    Args:
        connection: Makes the requests.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- runs: submit, wait, follow

    async def submit(  # noqa: PLR0913  # what may be submitted, and how
        self,
        what: PlanLike | str | None = None,
        *,
        inputs: Inputs | None = None,
        budget: Mapping[str, float] | None = None,
        deadline: str | float | datetime | None = None,
        priority: int | None = None,
        task: str | None = None,
        plan_name: str | None = None,
        plan_digest: str | None = None,
        stream: bool = False,
        idempotency_key: str | None = None,
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Hand in a run and return it, queued; it is durable, and goes on at the server.

        A text as `what` is a digest if it is one, a task in words if it has a space, and else the name of a saved plan.

        Args:
            what: A plan, the digest or the name of a saved plan, or a task in words.
            inputs: Values of the plan's inputs by name, or a model or dataclass with a field for each.
            budget: Limits of the run, within those of the server.
            deadline: How long the run may take, waits included (`"2h"`, seconds), or until when (a `datetime`, or its ISO text); then it is cancelled.
            priority: From 1, first, to 5, last: which runs get a place first where runs wait for one; 3 if not given.
            task: A task in words, in the place of `what`.
            plan_name: Name of a saved plan, in the place of `what`.
            plan_digest: Digest of a saved plan, in the place of `what`.
            stream: Whether steps of a task start while its plan is being written.
            idempotency_key: The same key with the same request gives the same run, for ever; by default each call has a key of its own.
            returns: The type of `run.value`, as in `Engine.run`: the server refuses a plan whose output cannot be of it.

        Raises:
            PlanRejected: The plan has faults.
            InputRejected: Nothing or too much is named, an input does not fit, or the key came with another request.
            ServerError: The server is not reached, or refuses the request.
        """
        named = _named(what, task=task, plan_name=plan_name, plan_digest=plan_digest)
        if stream and "task" not in named:
            raise InputRejected("stream: expected a task in words, whose steps may start early, found a plan")
        wanted = output_type_of(returns)
        body = _given(
            **named,
            inputs=None if inputs is None else inputs_of(inputs),
            budget=budget,
            stream=stream or None,
            returns=None if wanted is None else wanted.schema,
            deadline=_deadline(deadline),
            priority=priority,
        )
        key = secrets.token_urlsafe(24) if idempotency_key is None else idempotency_key
        if not key.isascii() or not key.isprintable() or not key.strip():
            raise InputRejected(f"idempotency_key: expected printable ASCII, found {short(key)!r}")
        path = "v1/tasks" if "task" in named else "v1/runs"
        run = await self._asked(run_in, "POST", path, body, headers={"Idempotency-Key": key})
        return _typed(run, wanted)

    async def wait(
        self,
        run_id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # also without an event loop
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Return the run when it has ended, or waits for a person or a budget.

        Args:
            run_id: The run.
            timeout: Seconds; `None`: without a limit.
            returns: The type of `run.value`.

        Raises:
            RunNotFound: There is no such run.
            TimeoutError: The run goes on after that time.
            ServerError: The server is not reached.
        """
        wanted = output_type_of(returns)
        until = None if timeout is None else time.monotonic() + timeout
        while _goes_on(run := await self.get(run_id)):
            async for _ in self._events(run_id, run.last_event, until):
                pass
            if until is not None and time.monotonic() >= until:
                if not _goes_on(run := await self.get(run_id)):
                    return _typed(run, wanted)
                raise TimeoutError(
                    f"run {run_id} is still {run.status} after {timeout:g} s; it goes on at the server"
                )
        return _typed(run, wanted)

    async def run(  # noqa: PLR0913  # as of `submit`
        self,
        what: PlanLike | str | None = None,
        *,
        inputs: Inputs | None = None,
        budget: Mapping[str, float] | None = None,
        deadline: str | float | datetime | None = None,
        priority: int | None = None,
        task: str | None = None,
        plan_name: str | None = None,
        plan_digest: str | None = None,
        stream: bool = False,
        idempotency_key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # also without an event loop
        returns: type[T] | Mapping[str, Any] | None = None,
    ) -> Run[T]:
        """Hand in a run, wait for it, and return its outcome.

        Args:
            what: As of `submit`.
            inputs: Values of the plan's inputs.
            budget: Limits of the run, within those of the server.
            deadline: How long the run may take, waits included (`"2h"`, seconds), or until when (a `datetime`, or its ISO text); then it is cancelled.
            priority: From 1, first, to 5, last: which runs get a place first where runs wait for one; 3 if not given.
            task: A task in words, in the place of `what`.
            plan_name: Name of a saved plan, in the place of `what`.
            plan_digest: Digest of a saved plan, in the place of `what`.
            stream: Whether steps of a task start while its plan is being written.
            idempotency_key: As of `submit`.
            timeout: Seconds to wait; `None`: without a limit.
            returns: As of `submit`.

        Raises:
            PlanRejected: The plan has faults.
            InputRejected: As of `submit`.
            TimeoutError: The run goes on after that time.
            ServerError: The server is not reached, or refuses the request.
        """
        submitted = await self.submit(
            what,
            inputs=inputs,
            budget=budget,
            deadline=deadline,
            priority=priority,
            task=task,
            plan_name=plan_name,
            plan_digest=plan_digest,
            stream=stream,
            idempotency_key=idempotency_key,
            returns=returns,
        )
        return await self.wait(submitted.id, timeout=timeout, returns=returns)

    async def get(self, run_id: str, *, returns: type[T] | Mapping[str, Any] | None = None) -> Run[T]:
        """Return the run as it stands, with `returns` as in `wait`. Raises: RunNotFound: there is none."""
        wanted = output_type_of(returns)
        return _typed(await self._asked(run_in, "GET", _run_path(run_id)), wanted)

    async def events(self, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
        """Yield the run's events past number `after` as they become durable, until nothing more comes by itself.

        Raises:
            RunNotFound: There is no such run.
            ServerError: The server is not reached for `retry_for` seconds.
        """
        events = self._events(run_id, after, None)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    async def list_runs(
        self,
        *,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        where: RunFilter | None = None,
        tenant: str = "",
    ) -> RunPage:
        """Return one page of runs, newest first; `runs` goes through all pages.

        Args:
            status: Only runs of this status.
            limit: Most runs of the page, up to 500.
            cursor: The `cursor` of an earlier page asks for the one that follows.
            where: Only runs of a plan (a digest, or the name of a saved plan), with a text, of a time, or that cost as much.
            tenant: Only runs of this tenant; a key of a tenant sees no others.

        Raises:
            InputRejected: An argument is out of its range.
        """
        filters = {} if where is None else asdict(where)
        texts = {name: None if value is None else str(value) for name, value in filters.items()}
        given = {"status": status, "limit": str(limit), "cursor": cursor, "tenant": tenant or None} | texts
        query = {name: value for name, value in given.items() if value is not None}
        return await self._asked(page_of, "GET", "v1/runs", query=query)

    async def runs(
        self, *, status: str | None = None, where: RunFilter | None = None, tenant: str = ""
    ) -> AsyncGenerator[RunSummary]:
        """Yield the runs, newest first, page by page as they are asked for.

        Args:
            status: Only runs of this status.
            where: As of `list_runs`.
            tenant: Only runs of this tenant.

        Raises:
            InputRejected: There is no such status, or the filter does not fit.
        """
        cursor: str | None = None
        while True:
            page = await self.list_runs(status=status, limit=PAGE, cursor=cursor, where=where, tenant=tenant)
            for each in page.runs:
                yield each
            if (cursor := page.cursor) is None:
                return

    async def delete(self, run_id: str) -> None:
        """Delete a run that has ended.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It has not ended (code `not-ended`), or has children (`has-children`).
        """
        request = Request("DELETE", _run_path(run_id))
        try:
            await self._connection.send(request)
        except RunNotFound:
            if request.attempts == 1:  # else an earlier attempt deleted it, and its answer was lost
                raise

    # --- decisions

    async def waiting(self, run_id: str) -> WaitingCalls:
        """Return the calls of the run that wait for a person, with everything that the person needs to decide. Raises: RunNotFound."""
        return await self._asked(waiting_of, "GET", f"{_run_path(run_id)}/waiting")

    async def approve(
        self,
        run_id: str,
        step: str,
        *,
        by: str | None = None,
        edit: Mapping[str, Any] | None = None,
        attempt: int | None = None,
    ) -> Run:
        """Allow a call that waits; the server continues the run.

        Args:
            run_id: The run.
            step: Path of the call's step, item or iteration.
            by: Who decides; a key with a name needs none.
            edit: Arguments to use instead of those shown.
            attempt: The attempt that was shown; `None`: the one that waits now.

        Raises:
            InputRejected: Nothing waits there, or another decision stands (code `decided`).
        """
        return await self._decision(run_id, step, "approve", attempt, _given(by=by, edit=edit))

    async def deny(
        self, run_id: str, step: str, *, by: str | None = None, reason: str = "", attempt: int | None = None
    ) -> Run:
        """Refuse a call that waits; what depends on it is cancelled.

        Args:
            run_id: The run.
            step: Path of the call's step, item or iteration.
            by: Who decides; a key with a name needs none.
            reason: Why, for the record.
            attempt: The attempt that was shown; `None`: the one that waits now.

        Raises:
            InputRejected: Nothing waits there, or another decision stands (code `decided`).
        """
        return await self._decision(run_id, step, "deny", attempt, _given(by=by, reason=reason or None))

    async def answer(
        self, run_id: str, step: str | None, value: Json, *, by: str | None = None, attempt: int | None = None
    ) -> Run:
        """Answer the question of an `ask_person` step, or of the planner.

        Args:
            run_id: The run.
            step: Path of the step; `None`: the planner's question.
            value: The answer, which fits the question's `returns`.
            by: Who answers; a key with a name needs no name here.
            attempt: The attempt that was shown; `None`: the one that waits now.

        Raises:
            InputRejected: No question waits there, the value does not fit, or another answer stands (code `decided`).
        """
        body = {**_given(by=by), "value": value}
        if step is None:
            run = await self._recorded(f"{_run_path(run_id)}/answer", body)
            asked = run.question
            return await self._settled(
                run, lambda run: run.status in STANDING and run.question is not None and run.question == asked
            )
        return await self._decision(run_id, step, "answer", attempt, body)

    async def resolve(
        self,
        run_id: str,
        step: str,
        *,
        done: Any = UNSET,  # noqa: ANN401  # any value, null included
        retry: bool = False,
        fail: str | None = None,
        by: str | None = None,
        attempt: int | None = None,
    ) -> Run:
        """Settle a call of unknown outcome: exactly one of `done`, `retry` and `fail`.

        Args:
            run_id: The run.
            step: Path of the call's step, item or iteration.
            done: It took effect, and returned this.
            retry: It did nothing; it is made again.
            fail: It did nothing, and the step fails, with this reason.
            by: Who has found out; a key with a name needs none.
            attempt: The attempt that was shown; `None`: the one whose outcome is unknown now.

        Raises:
            InputRejected: No outcome is unknown there, or another decision stands (code `decided`).
        """
        body = _given(retry=retry or None, fail=fail, by=by)
        given = body if done is UNSET else {**body, "done": done}
        return await self._decision(run_id, step, "resolve", attempt, given)

    async def decide(
        self, run_id: str, decisions: Mapping[str, str | Mapping[str, Any]], *, by: str | None = None
    ) -> Run:
        """Decide about several calls together, all or none.

        Args:
            run_id: The run.
            decisions: Path -> `"approve"`, `"deny"`, `"retry"`, or an object that says more; a step stands for all its parts that wait.
            by: Who decides; a key with a name needs none.

        Raises:
            InputRejected: A decision is not valid; the message names every faulty one.
        """
        named = {step_of(step): decision for step, decision in decisions.items()}
        bound = _bound(named, await self.waiting(run_id))
        body = _given(decisions=bound, by=by)
        run = await self._recorded(f"{_run_path(run_id)}/decide", body)
        return await self._taken_up(
            run, {step: said["attempt"] for step, said in bound.items() if "attempt" in said}
        )

    async def cancel(self, run_id: str) -> Run:
        """Stop the run: no further calls start. Raises: RunNotFound."""
        return await self._asked(run_in, "POST", f"{_run_path(run_id)}/cancel")

    async def _decision(
        self, run_id: str, step: str, word: str, attempt: int | None, body: Mapping[str, Any]
    ) -> Run:
        """Decide about one attempt: the given one, or the one that waits now."""
        path = f"{_run_path(run_id)}/steps/{_encoded(step_of(step))}"
        if attempt is None:
            with suppress(InputRejected):  # there is no such step: the answer to the decision says so
                attempt = await self._asked(lambda found: found["attempt"], "GET", path)
        run = await self._recorded(f"{path}/{word}", {**body, **_given(attempt=attempt)})
        return await self._taken_up(run, {step_of(step): attempt})

    async def _recorded(self, path: str, body: Mapping[str, Any]) -> Run:
        """Send a decision and return the run. Every decision passes here, so that a client may send it under another name."""
        return await self._asked(run_in, "POST", path, body)

    async def _taken_up(self, run: Run, decided: Mapping[str, int | None]) -> Run:
        """Return the run once these attempts of steps wait no more: the server continues it after its answer, and until then it looks as if they did."""

        def is_standing(run: Run) -> bool:
            steps = ((run.steps.get(path), attempt) for path, attempt in decided.items())
            return run.status in STANDING and any(
                step is not None and attempt is not None and step.attempt == attempt
                for step, attempt in steps
            )

        return await self._settled(run, is_standing)

    async def _settled(self, run: Run, is_standing: Callable[[Run], bool]) -> Run:
        """Return the run once it stands no more, or after some seconds: nobody may be there to continue it."""
        until = time.monotonic() + RESUMED_S
        while is_standing(run) and time.monotonic() < until:
            await self._connection.pause(LOOK_S)
            run = await self.get(run.id)
        return run

    # --- runs that go on, and runs made of others

    async def resume(
        self, run_id: str, *, budget: Mapping[str, float] | None = None, take_over: bool = False
    ) -> Run:
        """Let a run go on, and return it as soon as it does; `wait` waits for it.

        Args:
            run_id: The run.
            budget: A larger budget, where the run waits for one.
            take_over: Take the run from a process that hangs.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run failed or was cancelled (`retry` goes on with it), or the budget is past a ceiling.
        """
        body = _given(budget=budget, take_over=take_over or None)
        # A failed run whose plan is being patched is waited for in the request.
        before = await self._asked(run_in, "POST", f"{_run_path(run_id)}/resume", body, is_long=True)
        # The server continues the run after its answer: until then the run would look as if it still waited.
        return await self._settled(
            before, lambda run: run.status in STANDING and run.last_event <= before.last_event
        )

    async def retry(
        self,
        run_id: str,
        *,
        run_id_new: str | None = None,
        replan: int = 0,
        deadline: str | float | datetime | None = None,
    ) -> Run:
        """Continue a failed or cancelled run as a new run, and return that one, queued.

        Args:
            run_id: The run.
            run_id_new: The new run's id; by default the client makes one.
            replan: How often, at most, the planner may patch the plan if the new run fails.
            deadline: Of the new run, as in `submit`.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run has neither failed nor been cancelled.
        """
        body = _given(run_id_new=run_id_new or _new_id(), replan=replan or None, deadline=_deadline(deadline))
        return await self._asked(run_in, "POST", f"{_run_path(run_id)}/retry", body)

    async def fork(  # noqa: PLR0913  # the engine's own options
        self,
        run_id: str,
        *,
        at: str | None = None,
        set: Mapping[str, Any] | None = None,  # noqa: A002  # the engine's own word
        inputs: Mapping[str, Any] | None = None,
        plan: PlanLike | None = None,
        allow_writes: bool = False,
        run_id_new: str | None = None,
        deadline: str | float | datetime | None = None,
    ) -> Run:
        """Run again what a change affects, as a new run, and return that one, queued.

        Args:
            run_id: The parent.
            at: Run this step again, and whatever depends on it.
            set: Step -> the value that replaces the step's.
            inputs: Inputs to change.
            plan: An edited plan.
            allow_writes: Call affected writes; else each waits for approval.
            run_id_new: The new run's id; by default the client makes one.
            deadline: Of the new run, as in `submit`.

        Raises:
            RunNotFound: There is no such run.
            PlanRejected: The edited plan has faults.
            InputRejected: A step or value does not fit.
        """
        body = _given(
            at=at,
            set=set,
            inputs=inputs,
            plan=None if plan is None else _plan_document(plan),
            allow_writes=allow_writes or None,
            run_id_new=run_id_new or _new_id(),
            deadline=_deadline(deadline),
        )
        return await self._asked(run_in, "POST", f"{_run_path(run_id)}/fork", body)

    async def replay(self, run_id: str, *, returns: type[T] | Mapping[str, Any] | None = None) -> Run[T]:
        """Compute the run again from its journal; nothing is called or stored.

        Args:
            run_id: The run.
            returns: The type of `run.value`.

        Raises:
            RunNotFound: There is no such run.
            Diverged: A step differs from what was recorded.
        """
        wanted = output_type_of(returns)
        found = await self._asked(run_in, "POST", f"{_run_path(run_id)}/replay", is_long=True)
        return _typed(found, wanted)

    # --- looking back

    async def explain(self, run_id: str, step: str) -> Explanation:
        """Return why a step ran or was reused; `str()` of it is a sentence.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: It has no such step.
        """
        (found,) = await self._explanations(run_id, {"step": step_of(step)})
        return found

    async def explain_all(self, run_id: str) -> list[Explanation]:
        """Return the same for every step of the run, in its order. Raises: RunNotFound."""
        return await self._explanations(run_id, {})

    async def _explanations(self, run_id: str, query: Mapping[str, str]) -> list[Explanation]:
        path = f"{_run_path(run_id)}/explain"
        return await self._asked(explanations_of, "GET", path, query=query, is_long=True)

    async def diff(self, a: str, b: str) -> RunDiff:
        """Return what differs between two runs, by step, and why. Raises: RunNotFound."""
        # The document has the changes of the plan, and the value both plans. Runs without a plan are refused by the server.
        before, after = cast("Plan", (await self.get(a)).plan), cast("Plan", (await self.get(b)).plan)
        path = f"{_run_path(a)}/diff/{_encoded(run_of(b))}"
        return await self._asked(lambda found: diff_of(found, before, after), "GET", path, is_long=True)

    async def verify(self, run_id: str) -> Verification:
        """Have the server call the run's pure steps again and compare the results. Raises: RunNotFound."""
        return await self._asked(verification_of, "POST", f"{_run_path(run_id)}/verify", is_long=True)

    async def export(self, run_id: str, path: str | os.PathLike[str]) -> Path:
        """Write the run into one file, which replays anywhere, and return its path.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The file cannot be written.
        """
        return await _written(self._pieces(f"{_run_path(run_id)}/export", LONG_S), Path(path))

    async def tracebacks(self, run_id: str) -> dict[str, str]:
        """Return path -> the last frames of each failed call of a run in its tool's own code.

        No other answer of a server has them, since they show code of who runs it: the key needs the scope `admin`.

        Raises:
            RunNotFound: There is no such run.
        """
        path = f"{_run_path(run_id)}/tracebacks"
        return await self._asked(
            lambda found: {str(k): str(v) for k, v in found["tracebacks"].items()}, "GET", path
        )

    async def artifact(self, run_id: str, artifact: Artifact | Mapping[str, Any] | str) -> bytes:
        """Return the bytes of an artifact of a run.

        Args:
            run_id: The run.
            artifact: The artifact as a value of the run has it, or its digest.

        Raises:
            InputRejected: The run has no such artifact.
            ServerError: The bytes are not those of the digest.
        """
        digest, path = _artifact_path(run_id, artifact)
        data = await self._connection.send(Request("GET", path, is_long=True))
        found = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if found != digest:
            raise ServerError(f"expected the bytes of {digest}, found those of {found}", code=BAD_ANSWER)
        return data

    async def save_artifact(
        self, path: str | os.PathLike[str], *, media_type: str | None = None, name: str | None = None
    ) -> Artifact:
        """Send a file of any size to the server, and return the artifact that stands for it: an input for runs.

        Args:
            path: The file; it is read as it is sent.
            media_type: What it holds; `None`: the name's ending says it.
            name: A name for people; `None`: the file's.

        Raises:
            InputRejected: The file cannot be read.
            ServerError: The server refuses it.
        """
        file = Path(path)
        query = {"name": file.name if name is None else name}
        if media_type is not None:
            query["media_type"] = media_type
        try:
            found = await self._connection.send(
                Request("POST", "v1/artifacts", query, file=file, is_long=True)
            )
        except OSError as error:
            raise InputRejected(
                f"{file}: expected a file that can be read, found: {error.strerror or error}"
            ) from error
        return Artifact.model_validate_json(found)

    async def download_artifact(
        self, run_id: str, artifact: Artifact | Mapping[str, Any] | str, path: str | os.PathLike[str]
    ) -> Path:
        """Write the bytes of an artifact of any size to a file as they come, and return its path. There is either the whole file or none.

        Args:
            run_id: The run.
            artifact: As for `artifact`.
            path: The file.

        Raises:
            InputRejected: The run has no such artifact, or the file cannot be written.
            ServerError: The bytes are not those of the digest, or the connection was cut.
        """
        return await _written(self.stream_artifact(run_id, artifact), Path(path))

    async def stream_artifact(
        self, run_id: str, artifact: Artifact | Mapping[str, Any] | str
    ) -> AsyncGenerator[bytes]:
        """Yield the bytes of an artifact of any size, in pieces, as they come.

        Args:
            run_id: The run.
            artifact: As for `artifact`.

        Raises:
            InputRejected: The run has no such artifact.
            ServerError: The bytes so far are not those of the digest, or the connection was cut; known at the end of the bytes.
        """
        digest, source = _artifact_path(run_id, artifact)
        hashed = hashlib.sha256()
        async for piece in self._pieces(source, SILENCE_S):
            hashed.update(piece)
            yield piece
        if (found := f"sha256:{hashed.hexdigest()}") != digest:
            raise ServerError(f"expected the bytes of {digest}, found those of {found}", code=BAD_ANSWER)

    async def preview_artifact(
        self, run_id: str, artifact: Artifact | Mapping[str, Any] | str, *, rows: int = 10
    ) -> ArtifactPreview:
        """Return the first rows of a frame, an array or a text of a run, as text for people.

        Args:
            run_id: The run.
            artifact: As for `artifact`.
            rows: How many rows, 1 to 100.

        Raises:
            InputRejected: The run has no such artifact, or it has no preview.
        """
        _, path = _artifact_path(run_id, artifact)
        return await self._asked(preview_in, "GET", f"{path}/preview", query={"rows": str(rows)})

    # --- plans and tools

    async def check(self, plan: PlanLike | str) -> CheckReport:
        """Return every problem of a plan (a `Plan`, a dict, or JSON or YAML text), by the server's tools; nothing runs."""
        body = {"plan": plan if isinstance(plan, str) else _plan_document(plan)}
        return await self._asked(report_of, "POST", "v1/plans:check", body, is_long=True)

    async def plans(self) -> list[PlanEntry]:
        """Return the saved plans, by name."""
        return await self._asked(plan_entries_of, "GET", "v1/plans")

    async def find_plan(self, name_or_digest: str) -> Plan | None:
        """Return a saved plan; `None`: there is none of that name or digest."""
        try:
            return await self._asked(plan_of, "GET", f"v1/plans/{_encoded(name_or_digest)}")
        except InputRejected as error:
            if error.code != UNKNOWN_PLAN:
                raise
            return None

    async def save_plan(self, name: str, plan: PlanLike, *, replaces: str | None = None) -> PlanEntry:
        """Save a plan that passes the server's check under a name.

        Args:
            name: The name.
            plan: The plan.
            replaces: Digest of the plan that may be replaced; empty: none; `None`: any.

        Raises:
            PlanRejected: The plan has faults.
            InputRejected: The name is taken by another plan than `replaces` (code `replaced`).
        """
        document = _plan_document(plan)
        headers = (
            {} if replaces is None else {"If-Match": f'"{replaces}"'} if replaces else {"If-None-Match": "*"}
        )
        path = f"v1/plans/{_encoded(name)}"
        request = Request("PUT", path, headers=headers, body=_json_text({"plan": document}))
        try:
            return self._read(await self._connection.send(request), saved_plan_of)
        except InputRejected as error:
            # If an earlier attempt saved the plan and its answer was lost, the condition does not hold any more.
            if error.code != REPLACED or request.attempts == 1:
                raise
            saved = await self.find_plan(name)
            if saved is None or saved.text_digest != Plan.model_validate(document).text_digest:
                raise
            return PlanEntry(name, saved.digest, saved.task, dict(saved.inputs), PlanUses())

    async def delete_plan(self, name: str, *, replaces: str | None = None) -> None:
        """Delete a saved plan; its history stays.

        Args:
            name: The name.
            replaces: Digest of the plan that is deleted; `None`: whichever it is.

        Raises:
            InputRejected: There is no such plan (code `unknown-plan`), or another one than `replaces` (code `replaced`).
        """
        headers = {} if replaces is None else {"If-Match": f'"{replaces}"'}
        request = Request("DELETE", f"v1/plans/{_encoded(name)}", headers=headers)
        try:
            await self._connection.send(request)
        except InputRejected as error:
            if error.code != UNKNOWN_PLAN or request.attempts == 1:
                raise

    async def plan_history(self, name: str) -> list[PlanVersion]:
        """Return the versions that the name of a saved plan had, newest first. Raises: InputRejected: it had none."""
        return await self._asked(versions_of, "GET", f"v1/plans/{_encoded(name)}/history")

    async def plan_version(self, name: str, version: int | str) -> Plan:
        """Return the plan of one version.

        Args:
            name: The name.
            version: Its number, or the plan's `digest` or `text_digest`.

        Raises:
            InputRejected: There is no such version (code `unknown-plan`).
        """
        path = f"v1/plans/{_encoded(name)}/history"
        if isinstance(version, int):
            found = next((each for each in await self.plan_history(name) if each.version == version), None)
            if found is None or found.is_deletion:
                raise InputRejected(f"the plan '{name}' has no version {version} to show", code=UNKNOWN_PLAN)
            version = found.text_digest
        return await self._asked(plan_of, "GET", f"{path}/{_encoded(version)}")

    # --- schedules

    async def add_schedule(  # noqa: PLR0913  # the fields of a schedule
        self,
        name: str,
        plan: str,
        *,
        every: str | float | None = None,
        cron: str | None = None,
        tz: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        budget: Mapping[str, float] | None = None,
        deadline: str | float | None = None,
        priority: int | None = None,
        time_input: str | None = None,
        catch_up: CatchUp | None = None,
        catch_up_max: int | None = None,
        overlap: Overlap | None = None,
        start: str | float | None = None,
        paused: bool = False,
        replaces: int | None = None,
    ) -> Schedule:
        """Have the server run a saved plan every so often, or by cron.

        Args:
            name: The schedule's name.
            plan: The name of a saved plan, whichever stands under it at each time, or the digest of one.
            every: The time between two runs: seconds, or text such as `"1h"`.
            cron: A cron expression of five fields, in place of `every`.
            tz: The time zone of `cron`; UTC if not given.
            inputs: Of each run.
            budget: Of each run.
            deadline: How long each run may take from its start, waits included: `"2h"` or seconds.
            priority: Of each run, as in `submit`.
            time_input: The input that gets the time of the schedule.
            catch_up: What becomes of times that no server was there for: `latest`, `skip` or `all`.
            catch_up_max: Most times that `all` catches up on.
            overlap: What a time does while an earlier run has not ended: `skip`, `allow`, `queue` or `cancel`.
            start: No time is earlier, and intervals count from here: ISO 8601 text with an offset, or Unix seconds; now if not given.
            paused: Whether times pass without runs, until `resume_schedule`.
            replaces: The `revision` that is changed; `None`: the name is new, -1: whichever stands, or none.

        Raises:
            InputRejected: A value is not valid, there is no such plan (code `unknown-plan`), its inputs do not fit, or another schedule stands
                than `replaces` (code `replaced`).
            PlanRejected: The plan does not pass its check any more.
        """
        from ..schedules.schedule import new_schedule  # noqa: PLC0415  # its folder loads the tables of a store

        path = f"v1/schedules/{_encoded(name)}"
        body = _json_text(
            _given(
                plan=plan,
                every=every,
                cron=cron,
                tz=tz,
                inputs=inputs,
                budget=budget,
                deadline=deadline,
                priority=priority,
                time_input=time_input,
                catch_up=catch_up,
                catch_up_max=catch_up_max,
                overlap=overlap,
                start=start,
                paused=paused,
            )
        )
        headers = {"If-None-Match": "*"} if replaces is None else {"If-Match": f'"{replaces}"'}
        request = Request("PUT", path, headers={} if replaces == -1 else headers, body=body)
        try:
            return self._read(await self._connection.send(request), schedule_of)
        except InputRejected as error:
            if error.code != REPLACED or request.attempts == 1:
                raise
            # If an earlier attempt made the schedule and its answer was lost, the condition does not hold any more.
            found = await self.get_schedule(name)
            given = cast("dict[str, Any]", parse(body))
            made = new_schedule(name, plan, found.created, {"start": found.start} | given)
            is_own = made.to_text() == found.to_text() and made.paused == found.paused
            if not is_own or found.revision != (replaces or 0) + 1:
                raise
            return found

    async def list_schedules(self) -> list[Schedule]:
        """Return the schedules, by name; a key without a tenant gets those of tenants, too."""
        return await self._asked(schedules_of, "GET", "v1/schedules")

    async def get_schedule(self, name: str) -> Schedule:
        """Return a schedule. Raises: InputRejected: there is none of that name (code `unknown-schedule`)."""
        return await self._asked(schedule_of, "GET", f"v1/schedules/{_encoded(name)}")

    async def pause_schedule(self, name: str) -> Schedule:
        """Let the times of a schedule pass without runs; a run that is under way goes on. Raises: InputRejected: as `get_schedule`."""
        return await self._asked(schedule_of, "POST", f"v1/schedules/{_encoded(name)}/pause")

    async def resume_schedule(self, name: str) -> Schedule:
        """Let a paused schedule go on from now. Raises: InputRejected: as `get_schedule`."""
        return await self._asked(schedule_of, "POST", f"v1/schedules/{_encoded(name)}/resume")

    async def remove_schedule(self, name: str) -> None:
        """Remove a schedule and the record of its times; its runs stay. Raises: InputRejected: as `get_schedule`."""
        request = Request("DELETE", f"v1/schedules/{_encoded(name)}")
        try:
            await self._connection.send(request)
        except InputRejected as error:
            if error.code != UNKNOWN_SCHEDULE or request.attempts == 1:
                raise

    async def schedule_fires(self, name: str, *, limit: int = 50, before: float | None = None) -> list[Fire]:
        """Return the last times of a schedule and what became of them, the latest first.

        Args:
            name: The schedule.
            limit: Most of them, up to 500.
            before: Only times earlier than this, Unix seconds.

        Raises:
            InputRejected: As `get_schedule`, or an argument is out of its range.
        """
        query = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
        return await self._asked(fires_of, "GET", f"v1/schedules/{_encoded(name)}/fires", query=query)

    async def preview_schedule(
        self,
        *,
        every: str | float | None = None,
        cron: str | None = None,
        tz: str | None = None,
        start: str | float | None = None,
        count: int = 10,
    ) -> list[float]:
        """Return the next times that a schedule with these fields would have, as Unix seconds; nothing is stored.

        Args:
            every: As in `add_schedule`.
            cron: The same.
            tz: The same.
            start: The same.
            count: How many, up to 100.

        Raises:
            InputRejected: A value is not valid.
        """
        body = _given(every=every, cron=cron, tz=tz, start=start)
        query = {"count": str(count)}
        return await self._asked(lambda found: found["times"], "POST", "v1/schedules:next", body, query=query)

    async def tools(self) -> list[ServedTool]:
        """Return the server's tools, by name."""
        return await self._asked(served_tools_of, "GET", "v1/tools")

    async def aclose(self) -> None:
        """Close the connections; idempotent. Runs go on."""
        await self._connection.aclose()

    # --- requests

    async def _events(self, run_id: str, after: int, until: float | None) -> AsyncGenerator[Event]:
        """Yield events until nothing more comes by itself, or the moment `until` of the monotonic clock."""
        seen, cuts, lost_since = after, 0, 0.0
        while until is None or time.monotonic() < until:
            left = SILENCE_S if until is None else max(0.05, min(SILENCE_S, until - time.monotonic()))
            begun = seen
            try:
                async for event in self._stream(run_id, seen, left, until):
                    # A proxy may repeat what it has buffered.
                    if event.seq > seen:
                        seen = event.seq
                        yield event
            except httpx2.TransportError as error:
                if until is not None and time.monotonic() >= until:
                    return
                cuts, lost_since = (cuts + 1, lost_since) if seen == begun and cuts else (1, time.monotonic())
                pause = min(CUT_PAUSE_S * 2 ** (cuts - 1), CUT_PAUSE_S_MAX)
                if time.monotonic() - lost_since + pause > self._connection.retry_for_s:
                    raise self._connection.lost(error) from error
                await self._connection.pause(pause, error)
                continue
            cuts = 0
            # The stream ends where the run ends or waits, and also where its server goes down.
            if seen == begun and not _goes_on(await self.get(run_id)):
                return
            if seen == begun:
                await self._connection.pause(SETTLE_S)

    async def _stream(
        self, run_id: str, seen: int, silence_s: float, until: float | None
    ) -> AsyncGenerator[Event]:
        """Yield the events of one connection, past number `seen`.

        Not httpx's `EventSource`, which passes over the comment lines of a quiet stream: with each line the time is looked at. An event counts
        only with the blank line that ends it: of a cut stream the last lines may be incomplete.
        """
        headers = {"Last-Event-ID": str(seen), "Accept": "text/event-stream"}
        request = Request("GET", f"{_run_path(run_id)}/events", headers=headers)
        async with self._connection.open(request, silence_s) as answer:
            if answer.status == HTTPStatus.NO_CONTENT:
                return
            data = ""
            async for line in answer.lines():
                if line.startswith("data:"):
                    data = line.removeprefix("data:").strip()
                elif not line and data:
                    yield self._read(data.encode(), event_of)
                    data = ""
                if until is not None and until - time.monotonic() < silence_s:
                    return  # the next line might come after the end of the time: the next connection waits less

    async def _pieces(self, path: str, silence_s: float) -> AsyncGenerator[bytes]:
        """Yield the bytes of an answer as they come. Raises: FirmplanError: the connection was cut."""
        try:
            async with self._connection.open(Request("GET", path), silence_s) as answer:
                async for piece in answer.pieces():
                    yield piece
        except httpx2.TransportError as error:
            raise self._connection.lost(error) from error

    async def _asked(  # the parts of a request
        self,
        read: Callable[[Any], T],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        is_long: bool = False,
    ) -> T:
        """Return what a reader makes of the answer's document."""
        text = None if body is None else _json_text(body)
        request = Request(method, path, query or {}, headers or {}, text, is_long)
        return self._read(await self._connection.send(request), read)

    def _read(self, text: bytes, read: Callable[[Any], T]) -> T:
        """Return what a reader makes of a JSON text. Raises: ServerError: it is no such document."""
        try:
            return read(parse(text))
        except (NotJson, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ServerError(
                f"{self._connection.url} answered with something else than expected ({short(why)}): is this the address of a "
                "`firmplan serve` of this version?",
                code=BAD_ANSWER,
            ) from error


def _goes_on(run: Run) -> bool:
    """Whether a run continues by itself: it is under way, or a `wait` step waits."""
    return run.status in UNDER_WAY or run.until is not None


def _named(
    what: PlanLike | str | None, *, task: str | None, plan_name: str | None, plan_digest: str | None
) -> dict[str, Any]:
    """Return what is to run, as the server's field. Raises: InputRejected: nothing, or more than one thing, is named."""
    given: dict[str, Any] = _given(task=task, plan_name=plan_name, plan_digest=plan_digest)
    if what is not None:
        field = "plan" if not isinstance(what, str) else _field_of(what)
        given = {**given, field if field not in given else f"what ({field})": what}
    if len(given) != 1:
        found = " and ".join(given) or "nothing"
        raise InputRejected(
            f"expected one plan or task: a Plan or dict, a task in words, plan_name or plan_digest; found {found}"
        )
    return {"plan": _plan_document(given["plan"])} if "plan" in given else given


def _field_of(text: str) -> str:
    """Return the server's field for a text: a digest, words, or a name."""
    if DIGEST.fullmatch(text):
        return "plan_digest"
    return "task" if any(each.isspace() for each in text.strip()) or not text.strip() else "plan_name"


def _plan_document(plan: PlanLike) -> Json:
    if isinstance(plan, os.PathLike):
        plan = Plan.load(plan)
    if not isinstance(cast("object", plan), Plan | Mapping):
        raise InputRejected(
            f"expected a Plan, a dict or the Path of a plan's file, found {type(plan).__name__}"
        )
    return plan.to_dict() if isinstance(plan, Plan) else cast("Json", dict(plan))


def _typed(run: Run, wanted: OutputType[T] | None) -> Run[T]:
    return run if wanted is None else run.of_type(wanted)


def _given(**fields: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON, models, dates
    """Return the fields that are given: `None` stands for the server's default."""
    return {name: value for name, value in fields.items() if value is not None}


def _deadline(given: str | float | datetime | None) -> str | float | None:
    """Return a deadline as JSON."""
    return given.isoformat() if isinstance(given, datetime) else given


def _json_text(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON; models, data classes, dates and the like stand as pydantic writes them.

    Raises:
        InputRejected: A value has no JSON.
    """
    try:
        # Not in canonical form, which sorts keys: a plan keeps the order in which its author wrote it.
        text = json.dumps(
            to_jsonable_python(body), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InputRejected(f"expected values that JSON can carry: {error}") from error


async def _written(pieces: AsyncGenerator[bytes], file: Path) -> Path:
    """Write bytes to a file as they come. There is either the whole file or none. Raises: InputRejected: it cannot be written."""
    try:
        with replacing(file) as made:
            async for piece in pieces:
                made.write(piece)
    except OSError as error:
        raise InputRejected(f"cannot write {file}: {error.strerror or error}") from error
    return file


def _artifact_path(run_id: str, artifact: Artifact | Mapping[str, Any] | str) -> tuple[str, str]:
    """Return the digest of an artifact, and where its bytes are."""
    digest = str(
        artifact.digest
        if isinstance(artifact, Artifact)
        else artifact
        if isinstance(artifact, str)
        else artifact.get("digest")
    )
    return digest, f"{_run_path(run_id)}/artifacts/{_encoded(digest)}"


def _run_path(run_id: str) -> str:
    return f"v1/runs/{_encoded(run_of(run_id))}"


def _encoded(part: str) -> str:
    """Return one part of a path. Raises: InputRejected: it is empty, or would lead elsewhere."""
    if not isinstance(cast("object", part), str) or part in ("", ".", ".."):
        raise InputRejected(f"expected a name, an id or a path, found {part!r}")
    return quote(part, safe="")


def _new_id() -> str:
    return f"run_{secrets.token_hex(8)}"


_ABOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "approve": ("call",),
    "deny": ("call", "question"),
    "retry": ("outcome",),
}
"""Decision -> what a waiting part may be about for which a step stands."""


def _bound(decisions: Mapping[str, str | Mapping[str, Any]], waiting: WaitingCalls) -> dict[str, Any]:
    """Return decisions that each name one attempt: a step stands for its parts that wait now, and for none that wait later.

    Args:
        decisions: Path -> decision.
        waiting: The calls that wait.
    """
    made: dict[str, Any] = {}
    for step, decision in decisions.items():
        said: Mapping[str, Any] = {decision: True} if isinstance(decision, str) else decision
        word = next((word for word in _ABOUT if said.get(word) is True), "")
        calls = [
            call
            for call in waiting.calls
            if call.step == step
            or (
                call.about in _ABOUT.get(word, ())
                and is_within(call.step, step)
                and not any(
                    is_within(call.step, other)
                    for other in decisions
                    if is_within(other, step) and other != step
                )
            )
        ]
        if "attempt" in said or "edit" in said or not calls:
            exact = [call for call in calls if call.step == step and "attempt" not in said]
            made[step] = {**said, "attempt": exact[0].attempt} if exact else decision
        else:
            made.update({call.step: {**said, "attempt": call.attempt} for call in calls})
    return made
