"""Reads runs and saved plans: the snapshot of a run, a page of runs, a run rebuilt from its journal. Nothing here moves a run.

The snapshot of a run that this process drives comes from the machine of its driver, any other snapshot from the journal. Rebuilding a run
compares every conclusion and digest with the records, so a changed journal or plan is an error, never another result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Final, NoReturn, TypeVar, cast

import orjson

from ...errors import (
    REPLACED,
    UNKNOWN_PLAN,
    Diverged,
    InputRejected,
    PlanError,
    RunNotFound,
    StoreError,
    ToolError,
)
from ...lazy_imports import late_pattern
from ...plans import Plan
from ...plans.format.shape import describe
from ...plans.immutable import frozen, immutable_with_cache
from ...plans.python_types import Inputs
from ...plans.reports.nearest import short
from ...plans.values import Json, canonical
from ...plans.values import digest as digest_of
from ...tools import Artifact
from ...tools.artifact import media_type_of
from ...tools.codecs.codec import advice_for, decode, encode, find_codec, full_name, with_slots
from ...tools.codecs.preview import ArtifactPreview, has_preview, needs_all_bytes, preview_of
from ...tools.logbook import open_log
from ..events import CancelAsked, Cause, RunParked, RunResumed, RunStarted
from ..execution_tree import RunWarning
from ..journal.decision_history import is_decision
from ..journal.header import Header
from ..journal.known_plans import KnownPlans
from ..journal.records import Entry, read_entry
from ..journal.restore import load_entries, rebuilt
from ..limits import check_artifact, check_artifact_file
from ..lru_cache import LruCache
from ..machine import Machine
from ..states import FINAL, UNDER_WAY, RunStatus
from ..stores.api_keys import DIGEST_WORD, is_tenant
from ..stores.parts import PART_BYTES, find_pieces, keep_file, keep_pieces, write_file
from ..stores.store import (
    EVERY_RUN,
    Decision,
    PlanUseCounts,
    PlanVersion,
    RunFilter,
    RunRow,
    Store,
    StoredPlan,
    read_values,
)
from .driver import Driver
from .planning import question_in
from .request import count_of, run_of
from .run import (
    NO_USAGE,
    PARKED,
    Run,
    RunError,
    output_labels,
    parked_message,
    parked_planning_message,
    run_errors,
    run_status,
    run_usage,
    step_views,
    with_planning,
)

PLAN_NAME: Final = late_pattern(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
UNFIT: Final = "unfit-worker"  # the warning of a run that waits for a worker whose tools fit
RECENT_MAX: Final = 32  # runs whose last snapshot is kept in memory
HIDDEN: Final = (
    "~"  # begins the names of plans that no list shows: kept for the planner, or by their digest only
)
TAIL: Final = 20  # records at the end of a journal that are searched for the reason why the run is parked
LIMIT_MAX: Final = 1000  # runs in one page
RUNS_READ_MAX: Final = 10_000
"""Runs that one page of a filtered list reads. SQLite reads about a million a second, and nothing else in that time."""
RETURNED_MAX: Final = 10_000  # ended runs that the archive remembers `resume` to have returned


Value = TypeVar("Value")


@frozen
class RunSummary:
    """A line in a list of runs.

    Attributes:
        created: Unix seconds, as `updated`.
        abandoned: As in `Run`.
        reason: Why a parked run is parked.
        usd: What it has cost, in US dollars, as far as prices are known.
        tenant: Whose it is; empty: nobody's in particular.
    """

    id: str
    status: str
    task: str | None
    plan_digest: str | None
    parent: str | None
    created: float
    updated: float
    digest: str
    abandoned: bool = False
    reason: str | None = None
    usd: float = 0.0
    tenant: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__match_args__}

    @property
    def cursor(self) -> str:
        """What asks for the runs after this one, in a list of any status."""
        return _cursor(self.created, self.id)


@frozen
class RunPage:
    """Some runs, newest first; `cursor` asks for the next page, `None`: there is none.

    A page of a list that is filtered by plan, text or cost may have fewer runs than its limit, even none, and a cursor: it has read
    10,000 runs, and the cursor goes on with older ones.
    """

    runs: tuple[RunSummary, ...]
    cursor: str | None


class PlannedPlans:
    """Plans that models wrote, by the key of their planning, so that the same task is planned once, for each tenant."""

    def __init__(self, store: Store, tenant: str = "") -> None:
        self._store = store
        self._prefix = qualified(HIDDEN, tenant)

    def of_tenant(self, tenant: str) -> PlannedPlans:
        """Return the plans of a tenant."""
        return PlannedPlans(self._store, tenant)

    async def find(self, key: str, /) -> Plan | None:
        """Return the plan that was kept under a key, if there is one."""
        stored = await self._store.find_plan(f"{self._prefix}{key}")
        if stored is None:
            return None
        try:
            return read_plan(stored)
        except StoreError as fault:
            # The plan was kept to save a planning: plan the task anew, and let the new plan replace it.
            open_log().warning("kept plan refused", key=key, error=str(fault))
            return None

    async def keep(self, key: str, plan: Plan, /) -> None:
        """Keep a plan under a key; it replaces an older plan of the key."""
        await self._store.save_plan(
            f"{self._prefix}{key}", plan.to_json(indent=None), plan.digest, time.time()
        )


class Archive:
    """The runs and saved plans of one store.

    Args:
        store: Where they are.
        drivers: The runs that this process drives, by id.
        is_driven: Whether a living process drives, or plans, a run.
        known: What the store knows of plans from before.
    """

    def __init__(
        self,
        store: Store,
        drivers: Mapping[str, Driver],
        is_driven: Callable[[RunRow], bool],
        known: KnownPlans,
    ) -> None:
        self._store = store
        self._known = known
        self._drivers = drivers
        self._is_driven = is_driven
        self.planned = PlannedPlans(store)
        self.uses = PlanUseCounts(store)
        self._recent: LruCache[str, Standing] = LruCache(RECENT_MAX, weight_min=1)
        # Ended runs that `resume` has returned since a decision ended them; a dict, because it keeps the order of insertion.
        self._returned: dict[str, None] = {}

    async def row(self, run_id: str, tenant: str = "") -> RunRow:
        """Return a run's row. Raises: RunNotFound: there is no such run, or the run is not of this tenant, if one is given."""
        row = await self._store.find_run(run_of(run_id))
        if row is None or (tenant and row.tenant != tenant):
            raise RunNotFound(
                f"there is no run '{run_id}' in the store {self._store.name}; `firmplan runs` lists them"
            )
        return row

    async def flushed_row(self, run_id: str) -> RunRow:
        """Return a run's row after everything that this process has recorded of the run is durable. Raises: RunNotFound."""
        if (driver := self._drivers.get(run_of(run_id))) is not None:
            await driver.journal.flush()
        return await self.row(run_id)

    async def rows(self, status: str | None = None) -> AsyncIterator[RunRow]:
        """Yield the rows of all runs, newest first, a page at a time; `status`: only those of one status."""
        before: tuple[float, str] | None = None
        while rows := await self._store.list_runs(status=status, limit=LIMIT_MAX, before=before):
            for row in rows:
                yield row
            before = (rows[-1].created, rows[-1].id)

    async def is_known(self, run_id: str) -> bool:
        """Whether there is a run of that id."""
        return await self._store.find_run(run_of(run_id)) is not None

    async def take_decided_end(self, row: RunRow) -> bool:
        """Whether a decision ended a run that nobody has resumed since. A second question returns false: the first caller got the end of the run."""
        # Whoever denies a call and then resumes wants the end of the run, not an error that the run has ended. Later resumes are mistakes.
        if row.id in self._returned:
            return False
        events = [entry.event for entry in await load_entries(self._store, row)]
        begun = max(
            (place for place, event in enumerate(events) if isinstance(event, RunStarted | RunResumed)),
            default=0,
        )
        if not any(is_decision(event) or isinstance(event, CancelAsked) for event in events[begun:]):
            return False
        if row.id in self._returned:  # another caller got it while the journal was read
            return False
        self.note_end(row.id)
        return True

    def note_end(self, run_id: str) -> None:
        """Note that a caller got the end of a run from its resume: a later resume is a mistake."""
        # Bounded: whoever resumes a run twice after so many others have ended is told that it has ended, as after a restart.
        self._returned[run_id] = None
        if len(self._returned) > RETURNED_MAX:
            del self._returned[next(iter(self._returned))]

    async def get(self, run_id: str) -> Run:
        """Return the run as it stands. Raises: RunNotFound."""
        return await self.snapshot_of(await self.row(run_id))

    async def get_with_attempts(self, run_id: str) -> Run:
        """Return the run as it stands, with a warning if the last worker that tried it could not go on with it. Raises: RunNotFound."""
        row = await self.row(run_id)
        run = await self.snapshot_of(row)
        # A run that nobody has claimed yet, or that is driven, costs no look.
        if row.owner is not None or not row.epoch or run.status in FINAL:
            return run
        if (why := await self._store.find_unfit(run_id)) is None:
            return run
        return replace(run, warnings=(*run.warnings, RunWarning("", UNFIT, why)))

    def find_ended(self, run_id: str) -> Run | None:
        """Return a run that has just ended in this process, without asking the store: an ended run never changes."""
        recent = self._recent.find(run_id)
        return recent.run if recent is not None and recent.machine.status is not None else None

    # A snapshot is a function of the row and the journal, so it may be kept as long as neither has grown. What changes without a record (whether
    # anybody drives the run, which worker could not go on with it) is added at each question instead.

    async def snapshot_of(self, row: RunRow) -> Run:
        """Return the run of a row that was just read, as it stands."""
        # The number of the last record tells whether the snapshot is up to date; `created` tells a new run under the id of a deleted one.
        recent = self._recent.find(row.id)
        if recent is not None and (recent.row.created, recent.last_seq) == (row.created, row.last_seq):
            run = recent.run
        else:
            header = Header.from_dict(row.header)
            run = (
                _unplanned(row, header)
                if header.plan is None
                else snapshot(row, header, await self.machine(row))
            )
        return replace(run, abandoned=True) if self._is_abandoned(run.status, row) else run

    def _is_abandoned(self, status: str, row: RunRow) -> bool:
        return status in UNDER_WAY and not self._is_driven(row)

    def remember(self, driver: Driver) -> None:
        """Keep the snapshot of a run that was just driven: whoever waited for it asks next."""
        # The row that was claimed is older than the journal, so time and number are those of the journal.
        row, journal = driver.row, driver.journal
        standing = Standing(row, driver.header, driver.machine, journal.updated, journal.last)
        self._recent.keep(row.id, standing)

    def forget(self, run_id: str) -> None:
        """Forget the snapshot of a deleted run."""
        self._recent.drop(run_id)

    async def read_artifact(self, artifact: Artifact) -> bytes:
        """Return an artifact's bytes. Raises: InputRejected: they are not in the store; StoreError: they were changed."""
        data = (await read_values(self._store, [artifact.digest])).get(artifact.digest)
        if data is None:
            raise self._no_bytes(artifact)
        return data

    def _no_bytes(self, artifact: Artifact) -> InputRejected:
        return InputRejected(
            f"artifact '{artifact.name or artifact.digest}': its bytes are not in the store {self._store.name}; run the "
            "step that makes it again, or keep them with save_artifact"
        )

    async def stream_artifact(self, artifact: Artifact) -> AsyncGenerator[bytes]:
        """Return an artifact's bytes, a part at a time. Raises: InputRejected: they are not in the store; the generator raises StoreError: they were changed."""
        if (pieces := await find_pieces(self._store, artifact.digest)) is None:
            raise self._no_bytes(artifact)
        return pieces

    async def preview_artifact(self, artifact: Artifact, rows: int) -> ArtifactPreview:
        """Return the first rows of an artifact. Raises: InputRejected: as `stream_artifact`, or it has no preview; ConfigError: a package is missing."""
        kind = artifact.media_type
        if not has_preview(kind):
            preview_of(kind, b"", rows)  # refuses it
        pieces, found = await self.stream_artifact(artifact), list[bytes]()
        size = 0
        async for piece in pieces:
            # Of a value that is in memory anyway, no more than a part is decoded.
            found.append(piece if needs_all_bytes(kind) else piece[:PART_BYTES])
            size += len(piece)
            if not needs_all_bytes(kind):
                break
            try:
                check_artifact(size)
            except ToolError as fault:
                raise InputRejected(f"a preview of {str(fault).partition(';')[0]}") from None
        await pieces.aclose()
        data = b"".join(found)
        is_whole = needs_all_bytes(kind) or len(data) == artifact.size
        return await asyncio.to_thread(preview_of, kind, data, rows, is_whole=is_whole)

    async def download_artifact(self, artifact: Artifact, path: Path) -> Path:
        """Write an artifact's bytes to a file. Raises: InputRejected: they are not in the store, or the file cannot be written; StoreError: they were changed."""
        pieces = await self.stream_artifact(artifact)
        try:
            await write_file(pieces, path)
        except OSError as error:
            raise InputRejected(f"cannot write {path}: {error.strerror or error}") from error
        return path

    async def save_file(
        self, path: Path, *, media_type: str | None, name: str, now: Callable[[], float]
    ) -> Artifact:
        """Keep a file of any size, and return the artifact that stands for it.

        Args:
            path: The file.
            media_type: Of the bytes; `None`: as the artifact's name tells.
            name: Of the artifact.
            now: The time, in Unix seconds.

        Raises:
            InputRejected: It cannot be read, or is too large.
        """
        try:
            with _as_rejected():
                check_artifact_file((await asyncio.to_thread(path.stat)).st_size)
                with await asyncio.to_thread(path.open, "rb") as file:
                    digest, size = await keep_file(self._store, file, now)
        except OSError as fault:
            raise InputRejected(
                f"{path}: expected a file that can be read, found: {fault.strerror or fault}"
            ) from None
        return Artifact(digest=digest, media_type=media_type or media_type_of(name), size=size, name=name)

    async def save_pieces(
        self, pieces: AsyncIterator[bytes], *, media_type: str | None, name: str, now: Callable[[], float]
    ) -> Artifact:
        """Keep the bytes that some pieces make together.

        Args:
            pieces: The bytes, in pieces of any size.
            media_type: As of `save_file`.
            name: As of `save_file`.
            now: As of `save_file`.

        Raises:
            InputRejected: They are too many.
        """
        with _as_rejected():
            digest, size = await keep_pieces(self._store, _bounded(pieces), now)
        return Artifact(digest=digest, media_type=media_type or media_type_of(name), size=size, name=name)

    async def save_artifact(self, data: bytes, *, media_type: str | None, name: str, at: float) -> Artifact:
        """Keep bytes, and return the artifact that stands for them.

        Args:
            data: The bytes.
            media_type: As of `save_file`.
            name: As of `save_file`.
            at: Unix seconds.

        Raises:
            InputRejected: They are too many.
        """
        with _as_rejected():
            check_artifact(len(data))
        artifact = Artifact.of_bytes(data, media_type=media_type, name=name)
        await self._store.add_value(artifact.digest, data, at)
        return artifact

    async def save_value(self, value: object, at: float) -> dict[str, Json]:
        """Keep a value that has a codec, and return what stands for it. Raises: InputRejected: it has none, or no bytes."""
        if (codec := find_codec(type(value))) is None:
            raise InputRejected(
                f"expected a frame, an array or a value whose type has a codec, found {describe(value)}: {advice_for(type(value))}"
            )
        with _as_rejected():
            made = await asyncio.to_thread(encode, codec, value)
        kept = await self.save_artifact(made.data, media_type=codec.media_type, name="", at=at)
        return {**kept.model_dump(), **made.facts}

    async def with_encoded(self, inputs: Inputs, at: float) -> Inputs:
        """Return inputs in which values that have codecs are kept, and stand as their descriptions, also within lists, dicts, dataclasses and models.

        Raises:
            InputRejected: A value has no bytes.
        """
        if find_codec(cast("type[object]", type(inputs))) is not None:
            return inputs  # a frame in the place of all inputs is refused with them
        made, slots = with_slots(inputs)
        for slot, value in slots:
            slot.update(await self.save_value(value, at))
        return made

    async def read_value(self, artifact: Artifact, kind: type[Value]) -> Value:
        """Return the value of a type that a description stands for. Raises: InputRejected: it is of another kind, or its bytes are not there."""
        if (codec := find_codec(kind)) is None:
            raise InputRejected(f"expected a type that has a codec, found {kind!r}: {advice_for(kind)}")
        if artifact.media_type != codec.media_type:
            raise InputRejected(
                f"expected what stands for a {full_name(kind)} ({codec.media_type}), found {artifact.media_type}; name the type that the tool returned"
            )
        with _as_rejected():
            return cast("Value", await asyncio.to_thread(decode, codec, await self.read_artifact(artifact)))

    async def machine(self, row: RunRow) -> Machine:
        """Return the machine of a run, as it stands. Raises: InputRejected: it has no plan yet."""
        # The machine of a driver may be ahead of the durable journal. That is right for readers in this process, which would wait otherwise.
        driver = self._drivers.get(row.id)
        return driver.machine if driver is not None else await self.rebuilt(row)

    async def rebuilt(self, row: RunRow) -> Machine:
        """Return the machine of a run, built again from its journal.

        Raises:
            InputRejected: The run has no plan.
            Diverged: The plan language or the machine concludes something else than what was recorded.
            StoreError: The journal was changed outside firmplan.
        """
        entries = await load_entries(self._store, row)
        await self._known.load_of(row)
        _, machine = await rebuilt(row, entries)
        return machine

    async def replayed(self, row: RunRow) -> Run:
        """Return a run as its journal replays, and compare the digest of the run. Raises: as `rebuilt`."""
        machine = await self.rebuilt(row)
        if row.digest != machine.digest:
            raise Diverged(step="", field="digest", expected=row.digest, found=machine.digest)
        return snapshot(row, Header.from_dict(row.header), machine)

    async def decisions(self, run_id: str) -> list[Decision]:
        """Return the decisions about a run that its journal does not hold yet, oldest first."""
        return [
            Decision(number, cast("Cause", entry.event))
            for number, entry in await self.decision_records(run_id)
        ]

    async def decision_records(self, run_id: str) -> list[tuple[int, Entry]]:
        """Return the decisions as numbered records, which also hold the time of the decision."""
        # Decisions have the form of records, but the numbers of their own table: their place in the journal is not known yet.
        found = await self._store.list_decisions(run_id)
        return [(number, read_decision(line)) for number, line in found]

    async def count_runs(self) -> dict[str, int]:
        """Return the number of runs in each status that is not final."""
        statuses = [status.value for status in RunStatus if status not in FINAL]
        return {**dict.fromkeys(statuses, 0), **await self._store.count_runs(statuses)}

    async def list_runs(
        self,
        *,
        status: str | None,
        limit: int,
        cursor: str | None,
        tenant: str = "",
        where: RunFilter = EVERY_RUN,
    ) -> RunPage:
        """Return a page of runs, newest first, of one tenant or, if it is empty, of all.

        Args:
            status: Only runs of this status.
            limit: Most runs of the page.
            cursor: What an earlier page gave; `None`: the first page.
            tenant: Whose runs; empty: of all.
            where: Only runs that this filter lets through.

        Raises:
            InputRejected: A bad limit, status, cursor or filter.
        """
        count_of("limit", limit, least=1, most=LIMIT_MAX)
        if status is not None and status not in [known.value for known in RunStatus]:
            known = ", ".join(known.value for known in RunStatus)
            raise InputRejected(f"status: expected one of {known}, found {describe(status)}")
        before, where = _read_cursor(cursor), _fitting(where)
        last = None
        if where.reads_rows:
            last = await self._store.nth_run(
                RUNS_READ_MAX, status=status, before=before, tenant=tenant, where=where
            )
        # One row more than the page has, to know whether there is a next page.
        rows = await self._store.list_runs(
            status=status, limit=limit + 1, before=before, tenant=tenant, where=where, down_to=last
        )
        page = [
            RunSummary(
                row.id,
                row.status,
                row.task,
                row.plan_digest,
                row.parent,
                row.created,
                row.updated,
                row.digest,
                self._is_abandoned(row.status, row),
                await self._why_parked(row) if row.status == RunStatus.PARKED else None,
                row.usd,
                row.tenant,
            )
            for row in rows[:limit]
        ]
        more = page[-1].cursor if len(rows) > limit else None if last is None else _cursor(*last)
        return RunPage(tuple(page), more)

    async def _why_parked(self, row: RunRow) -> str:
        """Return why a run is parked, from the end of its journal, so that a list need not rebuild the machine."""
        lines = await self._store.read_journal(row.id, max(0, row.last_seq - TAIL), limit=TAIL)
        # A look at the bytes first: most lines are other records, and reading one costs more than the search in it.
        for line in reversed(lines):
            if b'"type":"RunParked"' in line and isinstance(
                event := read_entry(line, _no_value).event, RunParked
            ):
                return parked_message(event)
        # The run has no plan, or too many decisions follow the record that parked it.
        return "; ".join(error.message for error in (await self.get(row.id)).errors if error.code == PARKED)

    async def save_plan(
        self, name: str, plan: Plan, at: float, *, replaces: str | None = None, by: str = ""
    ) -> Plan:
        """Save a plan under a name; an earlier plan of that name stays, under its digest.

        Args:
            name: The name.
            plan: The plan.
            at: Unix seconds.
            replaces: The digest, or the digest of the text, of the plan that it may replace; empty: none; `None`: any.
            by: Who saves it, for the history of the name; empty: not known.

        Raises:
            InputRejected: The name is not valid, or the plan is not to replace the one that stands.
        """
        if not _is_name(name):
            raise InputRejected(
                "a plan's name: expected a letter or _, then at most 127 of A-Z a-z 0-9 . _ -, after TENANT: for a plan of a tenant, "
                f"found {describe(name)}"
            )
        await self._keep_earlier(name, plan, at)
        text, (old, of_text) = plan.to_json(indent=None), await self._expected(name, replaces)
        if await self._store.save_plan(name, text, plan.digest, at, replaces=old, of_text=of_text, author=by):
            return plan
        now = await self._store.find_plan(name)
        found = "none of that name" if now is None or now.name != name else now.digest
        raise InputRejected(
            f"the plan '{name}' was not saved: expected to replace {replaces or 'no plan'}, found {found}; "
            "read it again, and save your change of it",
            code=REPLACED,
        )

    async def delete_plan(self, name: str, at: float, *, replaces: str | None = None, by: str = "") -> None:
        """Delete a saved plan; it stays readable by its digest, and in the history of its name.

        Args:
            name: The name.
            at: Unix seconds.
            replaces: The digest, or the digest of the text, of the plan that is deleted; `None`: whichever it is.
            by: Who deletes it, for the history of the name; empty: not known.

        Raises:
            InputRejected: There is no plan of that name (code `unknown-plan`), or it is another one (code `replaced`).
        """
        if not _is_name(name):
            raise _no_plan(name)
        if replaces == "":
            raise InputRejected("replaces: expected the digest of the plan to delete, found ''")
        await self._keep_earlier(name, None, at)
        digest, of_text = await self._expected(name, replaces)
        if await self._store.delete_plan(name, at, author=by, digest=digest, of_text=of_text):
            return
        now = await self._store.find_plan(name)
        if now is None or now.name != name:
            raise _no_plan(name)
        raise InputRejected(
            f"the plan '{name}' was not deleted: expected {replaces}, found {now.digest}; read it again",
            code=REPLACED,
        )

    async def plan_history(self, name: str) -> list[PlanVersion]:
        """Return the versions that a name had, newest first. Raises: InputRejected: it had none (code `unknown-plan`)."""
        found = await self._store.list_plan_versions(name) if _is_name(name) else ()
        if not found:
            raise _no_plan(name)
        return list(found)

    async def authors_since(self, name: str, text_digest: str) -> set[str]:
        """Return who has saved a plan under a name since it had a text; of a text that it never had, or not lately, all authors that are known."""
        authors: set[str] = set()
        for each in await self._store.list_plan_versions(name) if _is_name(name) else ():
            if each.text_digest == text_digest and not each.is_deletion:
                break
            authors.add(each.by)
        return authors - {""}

    async def plan_version(self, name: str, version: int | str) -> Plan:
        """Return the plan of one version.

        Args:
            name: The name.
            version: Its number, or the digest of the plan or of its text: the newest version that has it.

        Raises:
            InputRejected: There is no such version (code `unknown-plan`).
            StoreError: The version was changed since it was saved.
        """
        for each in await self.plan_history(name):
            if not each.is_deletion and version in (each.version, each.digest, each.text_digest):
                stored = await self._store.read_plan_version(each)
                if stored is not None:
                    return read_plan(stored)
        raise InputRejected(
            f"the plan '{name}' had no version {short(str(version))!r}; expected a number or a digest of its history",
            code=UNKNOWN_PLAN,
        )

    async def _expected(self, name: str, replaces: str | None) -> tuple[str | None, str]:
        """Return the digest of the plan that is to stand under a name, and its text where that has to be compared, too."""
        if replaces:
            # The digest of a text tells prose apart, too: the store then compares the text itself, in the statement that changes the row.
            stored = await self._store.find_plan(name)
            with suppress(StoreError):  # a plan that was changed has its old digest alone
                if stored is not None and stored.name == name and read_plan(stored).text_digest == replaces:
                    return stored.digest, stored.text
        return replaces, ""

    async def _keep_earlier(self, name: str, plan: Plan | None, at: float) -> None:
        """Keep the plan that is about to go under its digest: other plans may refer to it by digest, and mean this plan for ever."""
        earlier = await self._store.find_plan(name)
        if earlier is None or (plan is not None and earlier.digest == plan.digest):
            return
        try:
            old = read_plan(earlier)
        except (
            StoreError
        ) as fault:  # the earlier plan was altered: saving a plan again is the remedy, so it must not fail
            open_log().warning("altered plan replaced", plan=name, error=str(fault))
        else:
            hidden = qualified(f"{HIDDEN}{old.digest}", split_name(name)[0])
            await self._store.save_plan(hidden, earlier.text, old.digest, at)

    async def list_plans(self, tenant: str | None = "") -> list[tuple[str, Plan]]:
        """Return the unaltered saved plans of a tenant, by name: an altered plan answers no task, and hides no other plan.

        Args:
            tenant: Whose; empty: plans of no tenant; `None`: all, those of tenants under their qualified names.
        """
        sound, altered = await self.sift_plans(tenant)
        for name, why in altered.items():
            open_log().warning("altered plan passed over", plan=name, error=why)
        return list(sound.items())

    async def sift_plans(self, tenant: str | None = "") -> tuple[dict[str, Plan], dict[str, str]]:
        """Return the unaltered saved plans, and the faults of the altered plans, each by name. `tenant` is as in `list_plans`."""
        sound: dict[str, Plan] = {}
        altered: dict[str, str] = {}
        # Plans are read one by one, because one altered plan must not make all others unreadable.
        for each in await self._store.list_plans(tenant):
            owner, name = split_name(each.name)
            if name.startswith(HIDDEN):
                continue
            name = qualified(name, owner if tenant is None else "")
            try:
                sound[name] = read_plan(each)
            except StoreError as fault:
                altered[name] = fault.message
        return sound, altered

    async def plans_revision(self) -> str:
        """Return a text that is another one after a plan was saved, replaced or deleted; the plans themselves are not read."""
        # Names of hidden plans sort after all others. A store may have many of them, and they change with every task that is planned.
        marks = await self._store.list_plan_marks(HIDDEN)
        return digest_of(canonical([list(mark) for mark in marks]))

    async def find_plan(self, name_or_digest: str, tenant: str = "") -> Plan | None:
        """Return a saved plan, or `None`.

        Args:
            name_or_digest: Its name or its digest; either may be qualified by a tenant.
            tenant: Whose plans are looked at; empty: all.

        Raises:
            StoreError: The plan was changed since it was saved.
        """
        if not isinstance(cast("object", name_or_digest), str) or not name_or_digest.isascii():
            return None  # neither a valid name nor a digest; stores cannot look for such a text
        if not tenant:
            tenant, name_or_digest = split_name(name_or_digest)
        stored = await self._store.find_plan(name_or_digest, tenant)
        return None if stored is None else read_plan(stored)


@contextmanager
def _as_rejected() -> Generator[None]:
    """Raise what refuses a value, as it would in a tool, as the error of an argument."""
    try:
        yield
    except ToolError as fault:
        raise InputRejected(str(fault)) from None


def qualified(name: str, tenant: str) -> str:
    """Return the name under which the store has a plan of a tenant; a plan of no tenant has its own name."""
    return f"{tenant}:{name}" if tenant else name


def split_name(name: str) -> tuple[str, str]:
    """Return the tenant of a qualified name, empty if it has none, and the name alone; a digest belongs to no tenant."""
    tenant, colon, rest = name.partition(":")
    is_qualified = bool(colon) and tenant != DIGEST_WORD and not name.startswith(HIDDEN)
    return (tenant, rest) if is_qualified else ("", name)


def _is_name(name: object) -> bool:
    if not isinstance(name, str):
        return False
    tenant, own = split_name(name)
    return PLAN_NAME.fullmatch(own) is not None and is_tenant(tenant)


def _no_plan(name: object) -> InputRejected:
    return InputRejected(
        f"no plan was saved as {short(str(name))!r}; `firmplan plans` lists the saved plans",
        code=UNKNOWN_PLAN,
    )


@immutable_with_cache
class Standing:
    """A run with its machine. Its snapshot is made when somebody asks: nobody asks for most runs of a server.

    Attributes:
        row: Its row, as it was claimed.
        header: What was settled when it was submitted.
        machine: The machine; it must not move before the snapshot is made.
        updated: When its newest record was made, in Unix seconds.
        last_seq: The number of that record.
    """

    row: RunRow
    header: Header
    machine: Machine
    updated: float
    last_seq: int

    @cached_property
    def run(self) -> Run:
        """The snapshot."""
        return snapshot(self.row, self.header, self.machine, self.updated, self.last_seq)


def read_decision(line: bytes) -> Entry:
    """Return the record of a decision."""
    return read_entry(line, _no_value)


def _no_value(digest: str) -> NoReturn:
    raise InputRejected(f"a decision may not refer to a stored value ({digest})")


def read_plan(stored: StoredPlan) -> Plan:
    """Return a saved plan, compared with its digests. Raises: StoreError: the plan was changed since it was saved."""
    is_kept = stored.name.startswith(HIDDEN)
    what = f"the plan {stored.digest}" if is_kept else f"the saved plan '{stored.name}'"
    cure = "plan or save it again" if is_kept else f"save it again: firmplan plans save {stored.name} FILE"
    altered = f"{what} is not as it was saved: it was changed outside firmplan, and does not run; {cure}"
    try:
        plan = Plan.model_validate(orjson.loads(stored.text))
    except (ValueError, PlanError) as fault:
        raise StoreError(altered) from fault
    # The digest of the row (`is_altered`) covers the name and the text; rows of an old format have only the digest of the plan.
    if stored.is_altered or plan.digest != stored.digest:
        raise StoreError(altered)
    return plan


def snapshot(
    row: RunRow, header: Header, machine: Machine, updated: float | None = None, last_seq: int | None = None
) -> Run:
    """Return the snapshot of a run.

    Args:
        row: Its row.
        header: What was settled when it was submitted.
        machine: Its machine.
        updated: When its newest record was made, in Unix seconds; `None`: as the row says.
        last_seq: The number of that record; `None`: as the row says.
    """
    status = run_status(machine)
    return Run(
        id=row.id,
        status=status.value,
        output=machine.output.value if machine.output is not None else None,
        errors=run_errors(machine),
        digest=machine.digest,
        plan=header.plan,
        inputs=header.inputs,
        steps=step_views(machine),
        usage=with_planning(run_usage(machine), header),
        parent=row.parent,
        task=row.task,
        created=row.created,
        updated=row.updated if updated is None else updated,
        last_event=row.last_seq if last_seq is None else last_seq,
        left_out=(*_left_out(header), *machine.left_out),
        output_labels=output_labels(header) if status is RunStatus.SUCCEEDED else {},
        warnings=tuple(machine.warnings),
        schedule=header.schedule,
        request_id=_request_id(header),
        deadline=header.deadline,
        priority=header.priority,
    )


def _request_id(header: Header) -> str | None:
    return (header.context.id or None) if header.context is not None else None


def _left_out(header: Header) -> tuple[str, ...]:
    """Return what the plan of a run leaves out, and what the saved plans leave out that it runs, each with its name."""
    own = header.plan.left_out if header.plan is not None else ()
    if not header.plans:
        return own
    return (*own, *(f"{name}: {text}" for name, plan in header.plans.items() for text in plan.left_out))


def _unplanned(row: RunRow, header: Header) -> Run:
    errors: tuple[RunError, ...] = ()
    match header.planning:
        case {"failed": {"code": str(code), "message": str(message)}}:
            errors = (RunError("", code, message),)
        case {"deaths": int(deaths)} if row.status == RunStatus.PARKED:
            errors = (RunError("", PARKED, parked_planning_message(deaths)),)
        case _:
            pass
    # Without a plan there is no machine; status and errors are those that the planning left in row and header.
    return Run(
        id=row.id,
        status=row.status,
        errors=errors,
        question=question_in(row.header) if row.status == RunStatus.WAITING else None,
        inputs=header.inputs,
        usage=with_planning(NO_USAGE, header) if header.planning_cost else {},
        parent=row.parent,
        task=row.task,
        created=row.created,
        updated=row.updated,
        request_id=_request_id(header),
        deadline=header.deadline,
        priority=header.priority,
    )


def _cursor(created: float, run_id: str) -> str:
    return f"{created!r}~{run_id}"


def _read_cursor(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    try:
        created, separator, run_id = cursor.partition("~")
        return float(created), run_of(run_id) if separator else ""
    except (AttributeError, TypeError, ValueError, RunNotFound):
        raise InputRejected(
            f"cursor: expected one that an earlier page gave, found {describe(cursor)}"
        ) from None


def _fitting(where: RunFilter) -> RunFilter:
    """Return the filter. Raises: InputRejected: a value of it is none that runs can have."""
    # Callers hand in what they like, whatever the types say.
    texts: dict[str, object] = {"plan": where.plan, "text": where.text}
    for name, text in texts.items():
        if text is not None and (not isinstance(text, str) or not text or "\0" in text):
            raise InputRejected(
                f"{name}: expected a text without NUL characters, not empty, found {describe(text)}"
            )
    amounts: dict[str, object] = {"since": where.since, "until": where.until, "usd_min": where.usd_min}
    for name, amount in amounts.items():
        is_amount = isinstance(amount, int | float) and not isinstance(amount, bool) and isfinite(amount)
        if amount is not None and not is_amount:
            expected = "US dollars" if name == "usd_min" else "Unix seconds"
            raise InputRejected(f"{name}: expected {expected}, found {describe(amount)}")
    return where


async def _bounded(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the pieces. Raises: ToolError: they are too many."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        check_artifact_file(size)
        yield piece
