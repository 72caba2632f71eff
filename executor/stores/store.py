"""What the executor needs of a store: a protocol, and the values that go in and out of it.

A store keeps runs (a row, a header, a journal), values by digest, the reuse index, the order of writes on resources, and saved plans. To a
store, records are lines of bytes: it does not know the machine. Every method raises `StoreError` if the medium fails; everything that was
acknowledged before stays.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, cast

import orjson

from ...errors import InputRejected, StoreError
from ...plans.immutable import frozen, immutable, record
from ...plans.values import Json, digest, parse_canonical
from ..events import Cause
from ..limits import ARTIFACT_BYTES_MAX, LEASE_S, MIB
from .api_keys import ApiKey

DUE_MAX: Final = 1_000  # runs whose time has come that one look returns: the next look comes a second later
ASKED_S: Final = 30.0  # for how long a process tells changes of a run after somebody has asked
SEQ_MAX: Final = 2**63 - 1  # the largest number of a record that stores can compare
REPLAY: Final = "replay_"  # how the ids of kept replays begin
RESULT_COLUMNS: Final = "key, run_id, step, output, created, epochs, env, row_digest"
PLAN_COLUMNS: Final = "name, plan, digest, saved, row_digest"
CHILDREN_TOLD: Final = 3  # children that a run is kept for, as far as they are told
EVERYTHING: Final = "*"  # no resource: the sum of all, which a read of "world" depends on


@immutable
class OwnerName:
    """The parts of an owner's name.

    Attributes:
        process: Its number, or whatever stands in that place.
        host: Its machine.
        lease_s: The length of the lease; 30 seconds if an older name does not give it.
        ends_surely: Whether the owner's process, running or stopped, is surely ended with its lease in the middle of a write.
    """

    process: str
    host: str
    lease_s: float
    ends_surely: bool

    @classmethod
    def of(cls, name: str) -> OwnerName:
        """Read a name."""
        front, _, host = name.partition("@")
        process, _, token = front.rpartition("-")
        said = re.fullmatch(r"([kl])(\d+)x[0-9a-f]+", token)
        lease_s = int(said[2]) / 1000 if said is not None else LEASE_S
        return cls(
            process.partition(".")[0], host.partition("~")[0], lease_s, said is not None and said[1] == "k"
        )

    def __str__(self) -> str:
        return f"process {self.process or '?'} on host {self.host or '?'}"


@immutable
class RunFilter:
    """Which runs a list has; what is `None` excludes none.

    Attributes:
        plan: The digest of their plan.
        text: A part of their task or of their id; capitals of A to Z count as small letters.
        since: Made at this time or later, in Unix seconds.
        until: Made before this time.
        usd_min: They have cost at least this, in US dollars, as far as prices are known.
    """

    plan: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    usd_min: float | None = None

    @property
    def reads_rows(self) -> bool:
        """Whether no index finds these runs, so that rows are read one by one."""
        return any(each is not None for each in (self.plan, self.text, self.usd_min))


EVERY_RUN: Final = RunFilter()


@immutable
class RunRow:
    """A run's row: what lists show.

    Attributes:
        header: What never changes: plan, inputs, seed, lock (`header.py`); while a task is unplanned, without plan.
        epoch: Raised by each owner; an append from an older owner is refused.
        owner: Who drives it, or `None`.
        head: Head of the journal's hash chain; `last_seq` is its length.
        beat: Its owner's, which rises as long as that lives (`owner.py`).
        tenant: Whose it is; empty: nobody's in particular.
        usd: What it has cost, in US dollars, as far as prices are known; of a run of an older version 0.
        due: Of a new run: its deadline, in Unix seconds; `None`: it has none.
        taken_from: Of a row that was just claimed: the owner that was overtaken, since it was dead; `None`: there was none.
        has_decisions: Of a row that was just claimed: whether the store had decisions about it; `True`: it may have.
    """

    id: str
    status: str
    task: str | None
    plan_digest: str | None
    parent: str | None
    created: float
    updated: float
    digest: str
    header: Mapping[str, Any]
    epoch: int = 0
    owner: str | None = None
    head: bytes = bytes(32)
    last_seq: int = 0
    beat: int | None = None
    tenant: str = ""
    usd: float = 0.0
    taken_from: str | None = None
    due: float | None = None
    has_decisions: bool = True

    @property
    def submitter(self) -> str:
        """The name of who submitted it, as its header has it; empty: nobody is known, or the row was read without its header."""
        submitter = cast("Mapping[str, Json]", self.header.get("submitter") or {})
        return str(submitter.get("name", ""))

    @property
    def priority(self) -> int | None:
        """Its priority, as its header has it; `None`: none was given, or the row was read without its header."""
        return self.header.get("priority")

    @property
    def is_new(self) -> bool:
        """Whether it is a run with a plan that nobody has claimed yet: there is nothing to read before a claim, nor a death to count."""
        return (
            not (self.epoch or self.last_seq or self.is_replay)
            and self.owner is None
            and self.plan_digest is not None
        )

    @property
    def is_replay(self) -> bool:
        """Whether it is a kept replay; no other run that has a parent is named so."""
        return self.parent is not None and self.id.startswith(REPLAY)

    def expect_parent(self, *, is_there: bool) -> None:
        """Raise `StoreError` if the run's parent is gone: the run would need the parent's journal."""
        if not is_there:
            raise StoreError(f"run {self.parent} was deleted meanwhile: it can have no children any more")

    def expect_to_go_on(self) -> None:
        """Raise `InputRejected` for a kept replay: whoever went on with it would make the writes of its parent once more."""
        if self.is_replay:
            raise InputRejected(
                f"run {self.id} is a replay of run {self.parent} that was kept: it tells what had happened there, and does "
                f"not go on; go on with run {self.parent}, or fork this one"
            )


@immutable
class StoredObject:
    """Where the bytes of a digest are outside the database (`object_values.py`).

    Attributes:
        size: Of the bytes.
        place: As `s3://bucket/prefix`.
        key: Of the object there.
        named: The digests that the bytes name, as they stand there.
    """

    digest: str
    size: int
    place: str
    key: str
    named: bytes

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> StoredObject:
        """Read a row of the table `stored_objects`."""
        digest, size, place, key, named = row
        return cls(digest, size, place, key, bytes(named))

    def to_row(self) -> tuple[Any, ...]:
        """Return the row."""
        return self.digest, self.size, self.place, self.key, self.named


NO_OBJECTS: Final[Mapping[str, StoredObject | None]] = {}


@immutable
class Batch:
    """What one flush of a journal makes durable, all or nothing.

    Attributes:
        lines: Records from `first_seq` on.
        values: Digest -> bytes that the lines refer to.
        opened: Writes that are about to start: step -> resource.
        closed: Writes whose outcome is known now.
        decided: Numbers of the decisions that the lines hold now.
        is_synced: Must survive a power loss, not only a killed process.
        reuse: What later calls may reuse, and what the calls were made from.
        usd: What the run has cost so far, in US dollars; a call under way counts with what was reserved for it.
        releases: The owner that gives up the run with this batch, because the run has ended.
        notice: What webhooks are to be told of the run now, such as `run.waiting`; empty: nothing.
        due: When the run goes on by itself, in Unix seconds, if nobody drives it; 0: never; `None`: as the store knows.
        objects: Digest -> where bytes are that the lines refer to and that the store has put outside the database; `None`: it knows where.
    """

    run_id: str
    epoch: int
    first_seq: int
    lines: Sequence[bytes]
    head: bytes
    values: Mapping[str, bytes]
    status: str
    digest: str
    updated: float
    opened: Mapping[str, str] = field(default_factory=dict[str, str])
    closed: Sequence[str] = ()
    decided: Sequence[int] = ()
    usd: float = 0.0
    is_synced: bool = False
    reuse: ReuseEntries | None = None
    releases: str | None = None
    notice: str = ""
    due: float | None = None
    objects: Mapping[str, StoredObject | None] = field(default_factory=lambda: NO_OBJECTS)


@record
class Reusable:
    """A result that may stand for a later call with the same key. Nobody changes it.

    Attributes:
        key: The content key.
        created: Unix seconds.
        epochs: For reads: resource -> epoch at the call's start; valid while unchanged.
        refused: Why the stored row may stand for no call: it was `altered`, or is of a store of format 1 and has no digest
            (`no-digest`). Then the fields below `step` tell nothing.
    """

    key: str
    run_id: str
    step: str
    output: bytes
    created: float
    epochs: Mapping[str, int] = field(default_factory=dict[str, int])
    env: Mapping[str, Json] = field(default_factory=dict[str, Json])
    refused: Literal["", "altered", "no-digest"] = ""

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Reusable:
        """Read a row that an older version has left; if its digest does not match, the result is marked as refused. O(size of the output): one SHA-256."""
        *columns, row_digest = row
        key, run_id, step, output, created, epochs, env = columns
        if row_digest != _digest_of_result(*columns):
            return cls(key, run_id, step, b"null", 0.0, refused="altered" if row_digest else "no-digest")
        return cls(key, run_id, step, output, created, _loaded(epochs), _loaded(env))


def _digest_of_result(
    key: str, run_id: str, step: str, output: bytes, created: float, epochs: bytes, env: bytes
) -> bytes:
    """Return the digest of a row of the table `reusable`: no column but the last can hold a line feed."""
    head = f"{key}\n{run_id}\n{step}\n{created!r}\n".encode()
    hashed = hashlib.sha256(b"%b%b\n%b\n" % (head, epochs, env))
    hashed.update(output)  # apart: it may be large, and need not be copied
    return hashed.digest()


_NOTHING: Final[Mapping[str, Any]] = {}


def _loaded(parts: bytes) -> Mapping[str, Any]:
    return _NOTHING if parts == b"{}" else orjson.loads(parts)


def damaged_results(results: Iterable[Reusable]) -> list[str]:
    """Describe the results that were changed. Those of format 1, without a digest, are never reused, and are no damage."""
    return [
        f"the result of step '{each.step}' of run {each.run_id} that later runs may reuse is not as it was written (key {each.key}); "
        "it is not reused, and `firmplan cache clear` removes it"
        for each in results
        if each.refused == "altered"
    ]


@immutable
class StoredPlan:
    """A saved plan as it is stored.

    Attributes:
        text: The plan as JSON.
        digest: Of the plan, as it was when it was saved.
        is_altered: The row was changed. A row of a store of format 1 has no digest, so that only the plan's own
            digest can tell.
    """

    name: str
    text: str
    digest: str
    is_altered: bool = False

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> StoredPlan:
        """Read a row of the table `plans` back: name, plan, digest, saved, and the digest of the row."""
        *columns, row_digest = row
        is_altered = bool(row_digest) and row_digest != digest_of_plan(*columns)
        return cls(columns[0], columns[1], columns[2], is_altered)


def digest_of_plan(name: str, text: str, digest: str, saved: float, author: str = "") -> bytes:
    """Return the digest of a row of the table `plans`, or with an author of `plan_versions`.

    Args:
        name: The name of the plan.
        text: The plan as JSON.
        digest: Of the plan.
        saved: Unix seconds.
        author: Who saved it, in the history of a name.
    """
    by = f"\n{author}" if author else ""
    return hashlib.sha256(f"{name}\n{digest}\n{float(saved)!r}\n{text}{by}".encode()).digest()


@frozen
class PlanVersion:
    """One version that the name of a saved plan had.

    Attributes:
        version: Counts from 1; a name that is deleted and used again goes on counting.
        digest: Of the plan; empty: the name was deleted then.
        text_digest: Of the plan's text, which also tells prose apart; the ETag of the plan over HTTP.
        saved: Unix seconds.
        by: Who saved it, by the name of a key or the one that the caller gave; empty: not known.
    """

    name: str
    version: int
    digest: str
    text_digest: str
    saved: float
    by: str

    @property
    def is_deletion(self) -> bool:
        """Whether the name was deleted then."""
        return not self.digest

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON; `null` stands for what is empty."""
        return {
            "version": self.version,
            "digest": self.digest or None,
            "text_digest": self.text_digest or None,
            "saved": self.saved,
            "by": self.by or None,
            "deleted": self.is_deletion,
        }


@record
class CallRecord:
    """What a call was made from: `explain` says by it which part of a later call differs. Nobody changes it.

    Attributes:
        subject: The tool, or `ask`.
        started: Unix seconds.
        key: The content key.
        kept: What the key was made from, but for the code, as JSON.
        code: Digest of the tool's fingerprint, which names its parts in the store; empty for a prompt.
        lost: Why the result was not kept for later calls; empty: it was.
    """

    run_id: str
    step: str
    subject: str
    started: float
    key: str
    kept: bytes
    code: str = ""
    lost: str = ""

    @property
    def parts(self) -> Mapping[str, Json]:
        """What the key was made from: arguments, or messages, model and parameters."""
        return cast("Mapping[str, Json]", parse_canonical(self.kept))


@record
class ReuseEntries:
    """What calls leave for later ones.

    Attributes:
        calls: What they were made from.
        results: Those that may stand for later calls; an entry of the same key is replaced.
        codes: The parts of the fingerprints that the calls name, by digest.
        objects: As of `Batch`, of results.
    """

    calls: list[CallRecord] = field(default_factory=list[CallRecord])
    results: list[Reusable] = field(default_factory=list[Reusable])
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    objects: Mapping[str, StoredObject | None] = field(default_factory=lambda: NO_OBJECTS)


def merged_reuse(batches: Sequence[Batch]) -> ReuseEntries | None:
    """Return what calls leave in some batches, in their order; `None`: nothing."""
    found = [batch.reuse for batch in batches if batch.reuse is not None]
    if len(found) < 2:
        return found[0] if found else None
    codes = {digest: parts for each in found for digest, parts in each.codes.items()}
    return ReuseEntries(
        [call for each in found for call in each.calls],
        [result for each in found for result in each.results],
        codes,
        {name: row for each in found for name, row in each.objects.items()},
    )


@frozen
class CacheStats:
    """How large the reuse index is.

    Attributes:
        results: Results that may stand for later calls.
        bytes: Their size, keys included.
        calls: Calls of which it is known what they were made from.
        oldest: Unix seconds; `None`: there is none.
        newest: Unix seconds; `None`: there is none.
    """

    results: int
    bytes: int
    calls: int
    oldest: float | None
    newest: float | None

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__match_args__}


@immutable
class Epochs:
    """How often each resource was written, and which have a write open (in flight, or of unknown outcome)."""

    count: Mapping[str, int]
    open: frozenset[str]


@immutable
class Decision:
    """What a person decided, numbered by the store in the order of arrival."""

    number: int
    event: Cause


class LearntKey(NamedTuple):
    """Whose results were learnt from: a tool as its fingerprint has it."""

    tool: str
    fingerprint: str


LEARNT_MAX: Final = 5
"""Fingerprints of one tool under which something learnt is kept: each edit of a tool makes another."""


@dataclass(frozen=True, slots=True, order=True)
class DecisionKey:
    """The subject of a decision; one decision stands for each key.

    Attributes:
        step: Path of the leaf.
        attempt: The call, counted from 1.
        about: Whether the `call` may be made, or which `outcome` it had.
    """

    step: str
    attempt: int
    about: Literal["call", "outcome"]


@frozen
class Pruned:
    """What was removed since nothing referred to it: how many values, of how many bytes in all."""

    values: int
    bytes: int


@immutable
class Removal:
    """The outcome of removing a run.

    Attributes:
        status: The run's; `None`: there is no such run.
        children: Some children of the run; a run with children stays.
        is_removed: Whether it is gone.
        named: Digests of stored values that the run named, and that perhaps nothing names now.
    """

    status: str | None
    children: Sequence[str] = ()
    is_removed: bool = False
    named: frozenset[str] = frozenset()


ChangeKind: TypeAlias = Literal["decided", "moved", "plans", "schedules", "webhooks", "missed"]


@immutable
class Change:
    """Something that another process, or this one, has changed in a store.

    Attributes:
        kind: `decided`: a decision about these runs was left; `moved`: their journals or owners have changed; `plans`, `schedules`: some were saved,
            changed or deleted; `webhooks`: something is to be sent; `missed`: changes may have been missed, so whoever waits looks.
        runs: The ids of the runs; of other changes than `decided` and `moved` none.
    """

    kind: ChangeKind
    runs: tuple[str, ...] = ()


# The laws that every store keeps; `tests/contract` checks each of them on all stores.
#
# A run has at most one owner, and every append names the owner's epoch and the number of records that it believes to be there: a process that
# has lost its run cannot write, however late its request arrives. What was acknowledged is a prefix of what was written. A value is durable with, or
# before, the first record that names it, so that no record names bytes that are not there. A decision stands once for each attempt.
class Store(Protocol):
    """Where runs live. Methods are coroutines; one store serves one event loop."""

    name: str
    is_read_only: bool  # it is open for looking alone, since its medium takes no writes

    @property
    def is_telling(self) -> bool:
        """Whether changes are told at this moment (`listen`); whoever waits looks often if they are not. Safe on any thread."""
        ...

    @property
    def can_tell(self) -> bool:
        """Whether changes are told at all to who listens."""
        ...

    async def listen(self, hear: Callable[[Change], None]) -> None:
        """Have `hear` called with changes, on a thread of the store, which must not wait; in the place of an earlier one.

        A change is told when it can be read. Changes may be lost, and a store may tell none at all: then `is_telling` stays false.
        """
        ...

    async def ask_for(self, run_ids: Sequence[str]) -> None:
        """Have every change of these runs told for the next `ASKED_S` seconds, by whatever process makes it. Decisions are told in any case."""
        ...

    async def open(self) -> None:
        """Get ready. Raises: StoreError: it cannot be opened or has another format."""
        ...

    async def expect_writable(self) -> None:
        """Prepare for writing. Raises: StoreError: the store is read-only."""
        ...

    async def close(self) -> None:
        """Let go of everything; idempotent."""
        ...

    async def find_damage(self) -> Sequence[str]:
        """Return what is wrong with the file itself, below runs and journals; empty: nothing."""
        ...

    async def identity(self) -> str:
        """Return what tells this store from others, whatever address it has: the same for every process, for ever; a copy of the store has it, too.

        It is made when it is first asked for. Raises: StoreError.
        """
        ...

    async def copy_to(self, path: Path) -> None:
        """Write all of it, as it is at one moment, into a new file. Raises: StoreError."""
        ...

    # --- runs and their owners

    async def create_run(self, row: RunRow) -> bool:
        """Add a run, durable through power loss; `False` if one of that id exists. A row with an `owner` is a run that this owner has claimed.

        Raises:
            StoreError: The parent run no longer exists; a kept replay needs no parent.
        """
        ...

    def create_runs(self, rows: Sequence[RunRow]) -> Sequence[bool]:
        """Add runs without parents as `create_run` does, all in one commit; return for each whether none of its id was there.

        The caller waits, so it has to be on a thread that may. Runs are in the order of their ids: two processes that add the same runs
        then cannot deadlock.

        Raises:
            StoreError: None of them was added.
        """
        ...

    async def delete_run(self, run_id: str, statuses: Collection[str]) -> Removal:
        """Remove a run with one of these statuses and without children, with everything that belongs only to it, in one transaction.

        Results that later runs may reuse stay. Values that the run named stay too, until `prune_values` removes them.
        """
        ...

    async def set_header(
        self,
        run_id: str,
        header: Mapping[str, Any],
        plan_digest: str | None,
        epoch: int,
        status: str,
        at: float,
        notice: str = "",
    ) -> None:
        """Give a task its plan, or the failure of its planning, before its first record; durable through power loss.

        Args:
            run_id: The task.
            header: Its header.
            plan_digest: Of its plan; `None`: it has none.
            epoch: Of its owner.
            status: Its status.
            at: Unix seconds.
            notice: What webhooks are to be told of it; empty: nothing.
        """
        ...

    async def find_run(self, run_id: str) -> RunRow | None:
        """Return a run's row, or `None`."""
        ...

    async def list_runs(
        self,
        *,
        status: str | None,
        limit: int,
        before: tuple[float, str] | None,
        tenant: str = "",
        where: RunFilter = EVERY_RUN,
        down_to: tuple[float, str] | None = None,
    ) -> Sequence[RunRow]:
        """Return rows without headers, newest first.

        Args:
            status: Only of this status.
            limit: Most rows.
            before: Only rows older than this place (created, id).
            tenant: Only of this tenant; empty: of all.
            where: Only rows that this filter lets through.
            down_to: Only rows at this place or newer. No index knows plans, texts and costs: a filter by them reads row by row, and this
                place bounds how many.
        """
        ...

    async def nth_run(
        self,
        nth: int,
        *,
        status: str | None,
        before: tuple[float, str] | None,
        tenant: str = "",
        where: RunFilter = EVERY_RUN,
    ) -> tuple[float, str] | None:
        """Return the place (created, id) of the nth run older than `before`, by an index: plan, text and cost do not count. `None`: there are fewer.

        Args:
            nth: Counts from 1.
            status: As of `list_runs`, as the rest.
            before: See `status`.
            tenant: See `status`.
            where: See `status`.
        """
        ...

    async def count_runs(self, statuses: Sequence[str]) -> Mapping[str, int]:
        """Return the number of runs in each of these statuses that has some. Runs of other statuses cost nothing."""
        ...

    async def list_driven(self, owners: Sequence[str] | None = None) -> Sequence[RunRow]:
        """Return the rows, without headers, of the queued and running runs that these owners have; `None`: any owner."""
        ...

    async def list_owners(self) -> Mapping[str, int | None]:
        """Return the owners of runs, in their order, and their heartbeats, which an owner that was taken for dead has not. Reads no row of a run: O(owners log runs)."""
        ...

    async def list_due(self, at: float, limit: int = DUE_MAX) -> Sequence[RunRow]:
        """Return rows, without headers, of unfinished runs that nobody drives and that go on by themselves at `at` (Unix seconds) at the latest, earliest first."""
        ...

    async def note_unfit(self, run_id: str, epoch: int, why: str, at: float) -> None:
        """Note why the attempt that had claimed a run at `epoch` could not go on with it; nothing, if the run was claimed again since."""
        ...

    async def find_unfit(self, run_id: str) -> str | None:
        """Return why the last attempt could not go on with a run that nobody drives; `None`: it could, or there was none."""
        ...

    async def claim(
        self,
        run_id: str,
        owner: str,
        *,
        is_alive: Callable[[str, int | None], bool],
        by_force: bool = False,
        is_wanted: Callable[[RunRow], bool] | None = None,
    ) -> RunRow | None:
        """Become the owner if there is none or `is_alive(owner, beat)` is false; the epoch is raised. `None`: it is driven, or not wanted.

        A new owner gets a heartbeat. An owner that lost the run by force has no heartbeat any more; the returned row shows this.

        Args:
            run_id: The run.
            owner: Its new owner.
            is_alive: Whether its present owner lives.
            by_force: The present owner lives and loses only this run; it keeps its heartbeat for its other runs.
            is_wanted: Whether the run is claimed at all, by its row before the claim; `None`: it is.
        """
        ...

    async def list_owned(self, owner: str) -> Mapping[str, int]:
        """Return the runs of an owner, with the epochs at which it has claimed them."""
        ...

    async def raise_beat(self, owner: str) -> bool:
        """Raise an owner's beat; `False`: it has none, since it was overtaken or owns nothing."""
        ...

    async def end_beat(self, owner: str) -> None:
        """Note that an owner is gone, although it still has runs: nobody waits for the end of its lease."""
        ...

    async def release(self, epochs: Mapping[str, int]) -> None:
        """Release runs in one transaction, each only if this owner still holds it at the given epoch.

        Runs that end need no such call: their last batch releases them (`Batch.releases`).
        """
        ...

    # --- journals and decisions
    #
    # `append` is no coroutine: it runs on the thread of commits, and a thread that only waits for another one would cost each commit two switches.

    def append(self, batches: Sequence[Batch]) -> Sequence[StoreError | None]:
        """Append to journals, each atomically, all in one commit; return what was wrong with each.

        The caller waits, so it has to be on a thread that may. A batch whose epoch is no longer the owner's is refused; what calls
        leave is kept in any case.

        Raises:
            StoreError: None of them was appended.
        """
        ...

    async def add_decision(self, run_id: str, decision: bytes) -> None:
        """Leave a person's decision about a whole run for the process that drives it; durable through power loss."""
        ...

    async def add_decisions(
        self, run_id: str, decisions: Mapping[DecisionKey, bytes]
    ) -> Mapping[DecisionKey, bytes]:
        """Leave decisions about attempts, all or none, durable through power loss.

        One decision stands for each key, also if another process decides at the same moment, and after a journal holds the decision.

        Returns:
            The records that stand already, in which case no decision was left; empty: all decisions were left.
        """
        ...

    async def list_decisions(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """Return the decisions that no journal holds yet, as (number, record), oldest first."""
        ...

    def list_decided(self) -> Sequence[str]:
        """Return the runs about which there are such decisions. The caller waits, so it has to be on a thread that may."""
        ...

    async def drop_decisions(self, numbers: Sequence[int]) -> None:
        """Forget decisions that came too late; they no longer stand."""
        ...

    async def read_journal(self, run_id: str, after: int = 0, *, limit: int | None = None) -> Sequence[bytes]:
        """Return at most `limit` lines past `after`, in order; the store reads little more than these."""
        ...

    async def read_heads(self, run_id: str) -> Sequence[tuple[int, bytes]]:
        """Return for each flush of a journal the number of its first record, and the head of the hash chain after it."""
        ...

    # --- values, by their digests
    #
    # A store does not compare digests when it returns values: most readers do so anyway, and a check of a store must see what is there.

    async def find_values(self, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return values by digest, as stored; values that are missing, or kept in parts or as large objects, are left out. `read_values` compares them."""
        ...

    async def add_value(self, name: str, data: bytes, at: float) -> None:
        """Keep bytes that a caller saves under their digest, durable through power loss; `at` says since when."""
        ...

    @property
    def keeps_objects(self) -> bool:
        """Whether large values go to a place outside the database, so that they need no parts."""
        ...

    async def add_pieces(self, name: str, size: int, pieces: AsyncIterator[bytes], at: float) -> None:
        """Keep a value as an object at that place, a part at a time; `at` as in `add_value`. Raises: StoreError: the pieces are other bytes."""
        ...

    async def find_object(self, name: str) -> AsyncGenerator[bytes] | None:
        """Return the bytes of a digest that are outside the database, a part at a time, as they are there; `None`: there are none."""
        ...

    async def add_parts(self, name: str, size: int, parts: Sequence[str], at: float) -> None:
        """Keep a value of `size` bytes as the values of `parts` in this order (`parts.py`), durable through power loss; `at` as in `add_value`."""
        ...

    async def find_parts(self, digests: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """Return the parts of the values that are kept in parts; others are left out."""
        ...

    async def prune_values(self, *, saved_before: float, among: frozenset[str] | None = None) -> Pruned:
        """Remove bytes to which no run, result, decision, plan or recent `save` of a caller refers.

        Args:
            saved_before: Bytes that a caller has saved later than this stay.
            among: Look only at values of these digests, which is quick if there are none; `None`: at all.
        """
        ...

    async def give_back_room(self) -> None:
        """Shrink the file to its content, while other processes continue; if the file cannot shrink, its free pages are used again."""
        ...

    async def compact(self) -> bool:
        """Rewrite a file that cannot shrink, so that it can from now on; return whether it was rewritten."""
        ...

    # --- results for reuse, and what calls were made from

    async def find_reusable(self, keys: Sequence[str]) -> Mapping[str, Reusable]:
        """Return the newest entry of each key that has one."""
        ...

    async def find_calls(self, run_id: str, steps: Sequence[str]) -> Mapping[str, CallRecord]:
        """Return what calls of a run were made from, by step; what is not known is left out."""
        ...

    async def find_earlier_calls(
        self, subject: str, until: Mapping[str, float], *, limit: int, tenant: str = ""
    ) -> Mapping[str, Sequence[CallRecord]]:
        """Return for each step path the calls of a subject that runs of a tenant, or of none, started by its time, newest first.

        Those of the same path come before others, so many of either at most. Others are looked for among the newest calls: as
        many as steps are asked about, and `limit` more.
        """
        ...

    async def find_codes(self, digests: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Return the parts of fingerprints by digest; what is missing is left out."""
        ...

    async def cache_stats(self) -> CacheStats:
        """Return how large the reuse index is."""
        ...

    async def shrink_cache(self, *, before: float | None, bytes_max: int | None) -> int:
        """Forget the results made before then, and the oldest until the rest is no larger; return how many went."""
        ...

    async def epochs(self, resources: Sequence[str]) -> Epochs:
        """Return how these resources stand; `EVERYTHING` counts the writes on all of them."""
        ...

    # --- saved plans, tools, spending, keys

    async def save_plan(  # the columns and two conditions
        self,
        name: str,
        plan: str,
        digest: str,
        at: float,
        *,
        replaces: str | None = None,
        of_text: str = "",
        author: str | None = None,
    ) -> bool:
        """Save a plan under a name, replacing one of that name; durable through power loss. Return whether it was saved.

        Args:
            name: The name.
            plan: The plan as JSON.
            digest: Its digest.
            at: Unix seconds.
            replaces: Save it only if the plan of that name has this digest, or if there is none where this is empty; `None`: always.
            of_text: Where `replaces` is a digest, the plan that is replaced must also be this JSON; empty: any with the digest.
            author: Who saves it, for the history of the name; empty: not known, `None`: the name has no history.
        """
        ...

    async def delete_plan(
        self, name: str, at: float, *, author: str, digest: str | None = None, of_text: str = ""
    ) -> bool:
        """Delete the plan of a name, durable through power loss; its history stays, and ends with the deletion. Return whether it was deleted.

        Args:
            name: The name.
            at: Unix seconds.
            author: Who deletes it; empty: not known.
            digest: Delete it only if the plan has this digest; `None`: whichever it is.
            of_text: Delete it only if the plan is this JSON; empty: whichever it is.
        """
        ...

    async def list_plan_versions(self, name: str) -> Sequence[PlanVersion]:
        """Return the versions that a name had, newest first."""
        ...

    async def read_plan_version(self, version: PlanVersion) -> StoredPlan | None:
        """Return the plan of a version, or `None` if it is gone."""
        ...

    async def list_plans(self, tenant: str | None = None) -> Sequence[StoredPlan]:
        """Return the saved plans of a tenant, by name; empty: of no tenant, `None`: all. Names are as they are stored, `TENANT:NAME`."""
        ...

    async def list_plan_marks(self, before: str) -> Sequence[tuple[str, float, str]]:
        """Return name, time (Unix seconds) and digest of the saved plans of no tenant whose names sort before a text, by name; texts are not read."""
        ...

    async def find_plan(self, name_or_digest: str, tenant: str = "") -> StoredPlan | None:
        """Return a saved plan, or `None`: of a tenant by its name there or its digest, or, if it is empty, any by its name as it is stored."""
        ...

    async def list_pins(self, provider: str) -> Mapping[str, bytes]:
        """Return what is pinned of a provider's tools, by tool."""
        ...

    async def pin_tools(
        self, provider: str, said: Mapping[str, bytes], at: float, *, replaces: bool = False
    ) -> bool:
        """Pin what a provider says of its tools, durable through power loss.

        Args:
            provider: Its key.
            said: What it says, by tool.
            at: Unix seconds.
            replaces: Whether these pins take the place of earlier ones; else nothing is pinned if there are any.

        Returns:
            Whether they were pinned.
        """
        ...

    async def merge_learnt(
        self, learnt: Mapping[LearntKey, bytes], at: float, merge: Callable[[bytes, bytes], bytes]
    ) -> None:
        """Add what was learnt of results of tools to what is kept; of each tool, the last `LEARNT_MAX` fingerprints stay.

        Args:
            learnt: What was learnt.
            at: Unix seconds.
            merge: Makes one of what is kept and what is added. It is called inside the transaction, so that two processes lose nothing.
        """
        ...

    async def list_learnt(self, keys: Collection[LearntKey]) -> Mapping[LearntKey, bytes]:
        """Return what is kept under these keys."""
        ...

    async def add_spending(self, day: str, usd: float, tokens: int) -> None:
        """Add what was spent on models on a day (`2026-12-01`)."""
        ...

    async def sum_spending(self, since: str) -> tuple[float, int]:
        """Return dollars and tokens that were spent since a day, this day included."""
        ...

    async def add_api_key(self, key: ApiKey) -> None:
        """Add a key, durable through power loss."""
        ...

    async def list_api_keys(self) -> Sequence[ApiKey]:
        """Return all keys, oldest first."""
        ...

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return a key by its id, or `None`."""
        ...

    async def note_api_key(
        self, key_id: str, *, used: float | None = None, revoked: float | None = None
    ) -> None:
        """Note when a key was used, or since when it is refused; the latter is durable through power loss."""
        ...

    async def note_use(self, name: str, digest: str, outcome: str, run_id: str | None, at: float) -> None:
        """Note that a saved plan was thought to answer a task, and what became of it (`PlanUses`)."""
        ...

    async def count_uses(self) -> Sequence[tuple[str, str, str, int]]:
        """Return name, digest, outcome and number of all uses; one whose run failed or was cancelled has the outcome `run`."""
        ...


async def read_values(store: Store, digests: Sequence[str]) -> Mapping[str, bytes]:
    """Return values by digest, each compared with its digest; missing values are left out.

    Raises:
        StoreError: The bytes of one have another digest.
    """
    found: dict[str, bytes] = dict(await store.find_values(digests)) if digests else {}
    for name, data in found.items():
        if digest(data) != name:
            raise StoreError(
                f"the value {name} was changed in the store {store.name}: its bytes have another digest"
            )
    for name in dict.fromkeys(digests):
        if name not in found and (joined := await _joined(store, name)) is not None:
            found[name] = joined
    return found


async def _joined(store: Store, name: str) -> bytes | None:
    """Return a value that is kept in parts or as an object; `None`: there is none. Raises: StoreError: it was changed, or is more than memory should hold."""
    from .parts import find_pieces  # noqa: PLC0415  # few values are kept so

    pieces = await find_pieces(store, name)
    if pieces is None:
        return None
    parts, size = list[bytes](), 0
    async for piece in pieces:
        if (size := size + len(piece)) > ARTIFACT_BYTES_MAX:
            raise StoreError(
                f"the value {name}: expected at most {ARTIFACT_BYTES_MAX // MIB} MiB to have in memory, found more; write it to a file "
                "(`firmplan artifacts get`, `engine.download_artifact`)"
            )
        parts.append(piece)
    return b"".join(parts)


def fenced(run_id: str, owner: str | None) -> StoreError:
    """Return the error for a process that has lost a run; it names the present owner."""
    named = f", {OwnerName.of(owner)}" if owner is not None else ""
    return StoreError(
        f"run {run_id} has another owner now{named}: this process may not write to it any more",
        temporary=True,
    )


# --- uses of saved plans
#
# The key of a use is the plan's name and the digest of plan and pattern, so that a plan that is saved anew under its name starts at
# zero. A task that a plan answered is a hit. If its run fails or is cancelled (a person who denies a step or stops the run does
# either), the hit becomes a false hit; while the run goes on again, it is a hit again. The counts are computed from the statuses of
# the runs: no code has to update a counter when a run ends.


@immutable
class PlanUses:
    """What one saved plan was good for.

    Attributes:
        hits: Tasks that it answered, but for those that `run` counts.
        check: Tasks of its pattern for which it did not pass its check, or whose words its inputs did not take.
        model: Tasks near to its own for which a model found that it does not fit.
        run: Tasks that it answered whose runs failed or were cancelled.
    """

    hits: int = 0
    check: int = 0
    model: int = 0
    run: int = 0

    @property
    def false_hits(self) -> int:
        """How often it only seemed to answer a task."""
        return self.check + self.model + self.run

    def __str__(self) -> str:
        tasks = "1 task" if self.hits == 1 else f"{self.hits} tasks"
        said = (
            (self.check, "by its check"),
            (self.model, "by a model"),
            (self.run, "by what came of the run"),
        )
        why = ", ".join(f"{count} {by}" for count, by in said if count)
        return f"answered {tasks}; seemed to answer, and did not: {self.false_hits}" + (
            f" ({why})" if why else ""
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the counts as JSON."""
        why: dict[str, Json] = {"check": self.check, "model": self.model, "run": self.run}
        return {"hits": self.hits, "false_hits": self.false_hits, "false_hits_by": why}


class PlanUseCounts:
    """The uses of saved plans in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, uses: Iterable[tuple[str, str, str]], run_id: str | None) -> None:
        """Keep uses, each by name, template digest and outcome (`answered`, `check`, `model`), and the run that they were for."""
        for name, template, outcome in uses:
            await self._store.note_use(name, template, outcome, run_id, time.time())

    async def of(self, plans: Mapping[str, str]) -> dict[str, PlanUses]:
        """Return the uses of plans, by name; given is name -> template digest."""
        found = {name: dict[str, int]() for name in plans}
        for name, template, outcome, count in await self._store.count_uses():
            if plans.get(name) == template:
                found[name][outcome] = count
        outcomes = ("answered", "check", "model", "run")
        return {name: PlanUses(*(counts.get(each, 0) for each in outcomes)) for name, counts in found.items()}
