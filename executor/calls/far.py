"""Far calls: calls of tools with a queue, which workers of that queue carry out, on any machine (`@tool(queue=..)`).

`FarCalls` is the side of the process that drives a run, `FarServer` that of a worker of a queue; a backend (`FarDispatch`) carries ids and digests
between the two. Arguments and results pass through the store, under their digests, and the journal is written by the owner of the run alone.

Rules:

- **An id for each attempt.** It is made of the idempotency key, and the backend refuses a second call under an id. So whoever takes a run over finds the call
  that the former owner began (`follow`), and two owners never begin the same one.
- **A write is called at most once under its id.** The worker has the backend record, durably, that it is about to call; a worker that finds such a record does
  not call. Tools that may be called again (idempotent writes, and all that changes nothing) go without.
- **Without an answer the effect decides**, as for any call: a read may be made again, the outcome of a write is unknown. That holds for a worker that
  died, and for a call of which the backend knows nothing any more.
- **No zombies.** A process in the middle of a write that must not be repeated ends itself before the backend gives the call up (`FarLease`).
- **A worker asks the store first** whether the run still waits for the call.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from uuid import UUID

from ...errors import ServerError, ToolError
from ...plans.reports.nearest import listing
from ...plans.signature import Effect
from ...plans.values import LARGE_BYTES, Digest, Json, canonical, digest, parse_canonical
from ...tools import Context, Tool, Used
from ...tools.remote.active_trace import trace_continued, trace_headers
from ..canonical_value import CanonicalValue
from ..commands import StartToolCall
from ..events import (
    WITHDRAWN,
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    ResolvedDone,
    ResolvedFailed,
    ResolvedRetry,
    RunResumed,
)
from ..far_call import (
    Answered,
    CallMisfit,
    CallUnwanted,
    FarAnswer,
    FarCall,
    FarDispatch,
    FarTask,
    NeverBegun,
    Unanswered,
)
from ..journal.records import Entry
from ..journal.restore import load_entries
from ..states import FINAL
from ..stores.store import Store, read_values
from .artifacts import find_blobs, keep_files
from .dispatch import Preparation, PreparedCall
from .identity import ContentKey, idempotency_key
from .lease import Lease, elapsed_s
from .running.invoke import Failed, Lost, Outcome, Returned, interrupted, is_unrepeatable, refused_result

if TYPE_CHECKING:
    from ...tools.declaration import Results
    from .facilities import Facilities

FORMAT: Final = 1
SAVE_S: Final = (
    6 * 3600.0
)  # the request of a call that waits is saved again so often: the collector takes what is a day old
TRIES_MAX: Final = (
    3  # times that a call is begun which may be made again, and of which the backend does not know any more
)
PAUSE_S: Final = 1.0  # before it is begun again
SPARE: Final = 0.75  # of the time after which a backend gives a call up, in which its worker has to be heard: it ends itself past that
ENDED: Final = (
    CallSucceeded,
    CallMade,
    CallReused,
    CallFailed,
    CallLost,
    ResolvedDone,
    ResolvedRetry,
    ResolvedFailed,
)  # what ends a call
OTHER_CODE: Final = "a worker of its queue made it, with other code"
FOLLOWED: Final = "a former owner of the run began it"
HERE: Final = ContentKey.none("no-model", "a worker keeps no results for later calls")


# --- the driver's side


class FarCalls:
    """The far calls of one run.

    Args:
        facilities: What the runs of an engine share.
        dispatch: The backend.
        run_id: The run.
        epoch: The epoch of its owner.
        tenant: Whose the run is.
        is_wanted: Whether the run still waits for the call of a step; if not, a call that is cut off here is stopped at its worker.
        tell_unserved: Is told of a queue without a worker: step, tool, queue.
    """

    def __init__(
        self,
        facilities: Facilities,
        dispatch: FarDispatch,
        run_id: str,
        *,
        epoch: int,
        tenant: str,
        is_wanted: Callable[[str], bool],
        tell_unserved: Callable[[str, str, str], None],
    ) -> None:
        self._facilities = facilities
        self._dispatch = dispatch
        self._run_id = run_id
        self._epoch = epoch
        self._tenant = tenant
        self._is_wanted = is_wanted
        self.tell_unserved = tell_unserved
        self._under_way: dict[str, FarCall] = {}

    def has(self, step: str) -> bool:
        """Whether workers of a queue carry out the call of a step at the moment."""
        return step in self._under_way

    async def withdraw(self, step: str) -> None:
        """Have the call of a step not made, if no worker has it yet: its run was cancelled."""
        if (call := self._under_way.get(step)) is not None:
            with suppress(ServerError):  # the call ends as one that a worker has
                await self._dispatch.withdraw(call.id)

    async def make(self, call: PreparedCall, tool: Tool, context: Context) -> Outcome:
        """Have a call made, and return its outcome.

        Args:
            call: The call.
            tool: Its tool.
            context: Receives what the call took from its context, and its progress.
        """
        data = self._request_of(call, tool, context)
        far = self._far(call, tool, digest(data))
        tries = 1 if is_unrepeatable(tool) else TRIES_MAX
        for number in range(tries):
            if number:
                await self._facilities.clock.sleep(PAUSE_S)
            await self._save(far.request, data)
            try:
                async with self._waiting(far):
                    with self._guarding(tool):
                        await self._dispatch.begin(far)
                    outcome = await self._followed(far, call, tool, context, data)
            except ToolError as fault:
                return Failed(fault.code, str(fault), temporary=False, retryable=False)
            if outcome is not None:
                return outcome
        return _unanswered(tool, f"the queue '{tool.queue}' does not know the call any more")

    async def follow(self, call: PreparedCall, tool: Tool, context: Context) -> Outcome | None:
        """Return the outcome of a call that a former owner has begun; `None`: nobody can say what became of it."""
        call.unkept = FOLLOWED  # nobody knows which writes were open when it began
        far = self._far(call, tool, "")
        async with self._waiting(far):
            return await self._followed(far, call, tool, context, b"")

    @asynccontextmanager
    async def _waiting(self, far: FarCall) -> AsyncGenerator[None]:
        """Know a call as one that workers carry out, and stop it there if it is cut off here and the run does not wait for it any more."""
        self._under_way[far.step] = far
        try:
            yield
        except asyncio.CancelledError:
            # A driver that stops leaves the call to its worker, and the next owner of the run follows it.
            if not self._is_wanted(far.step):
                with suppress(ServerError):
                    await self._dispatch.cancel(far.id)
            raise
        finally:
            if self._under_way.get(far.step) is far:
                del self._under_way[far.step]

    def _guarding(self, tool: Tool) -> AbstractContextManager[None]:
        # Only until the backend has the call: then it is the worker's, and this process may lose the run without harm.
        ownership = self._facilities.ownership
        if ownership is None or not is_unrepeatable(tool):
            return nullcontext()
        return ownership.lease.guarding(self._run_id)

    def _far(self, call: PreparedCall, tool: Tool, request: str) -> FarCall:
        ownership, key = self._facilities.ownership, _key_of(self._run_id, call)
        return FarCall(
            id=f"{key}/{call.command.attempt}",
            queue=tool.queue or "",
            tool=tool.name,
            run_id=self._run_id,
            step=call.step,
            attempt=call.command.attempt,
            request=request,
            store=self._facilities.store.name,
            is_once=is_unrepeatable(tool),
            is_write=call.is_write,
            lease_s=ownership.lease.length_s if ownership is not None else 30.0,
            timeout_s=call.command.timeout_s,
        )

    def _request_of(self, call: PreparedCall, tool: Tool, context: Context) -> bytes:
        """Return what a worker needs to make the call, as the store keeps it: with the names of secrets, never their values."""
        command = cast("StartToolCall", call.command)
        args = command.args.value if command.secrets else parse_canonical(call.args)
        facts = context.facts()
        facts.pop("given")
        request: dict[str, Any] = {
            "format": FORMAT,
            "run": self._run_id,
            "epoch": self._epoch,
            "tenant": self._tenant,
            "tool": tool.name,
            "args": args,
            "secrets": dict(command.secrets),
            "answers": list(command.answers),
            "timeout_s": command.timeout_s,
            "results": tool.result_rule,
            "fingerprint": tool.fingerprint,
            # A person has allowed a call of this code.
            "is_settled": tool.asks_approval,
            "promises": _promises(tool),
            "context": facts,
            "trace": trace_headers(),
        }
        return canonical(cast("Json", request))

    async def _save(self, name: str, data: bytes) -> None:
        await self._facilities.store.add_value(name, data, self._facilities.clock.now())

    async def _followed(
        self, far: FarCall, call: PreparedCall, tool: Tool, context: Context, data: bytes
    ) -> Outcome | None:
        answer = await self._answer(far, context, data)
        match answer:
            case None:
                return None
            case Answered(outcome):
                return await self._outcome(outcome, call, tool, context)
            case NeverBegun(why):
                return Failed(WITHDRAWN, why, temporary=False, retryable=False)
            case Unanswered(why):
                return _unanswered(tool, why)

    async def _answer(self, far: FarCall, context: Context, data: bytes) -> FarAnswer | None:
        """Wait for what becomes of a call; `data` is its request."""
        listener = _Listener(self, far, context, self._facilities)
        following = asyncio.ensure_future(self._dispatch.follow(far, listener))
        try:
            while not (await asyncio.wait([following], timeout=SAVE_S))[0]:
                if data:
                    await self._save(far.request, data)
            return following.result()
        except ToolError as fault:
            return Unanswered(str(fault))
        finally:
            following.cancel()

    async def _outcome(self, name: Digest, call: PreparedCall, tool: Tool, context: Context) -> Outcome:
        """Return the outcome that a worker has left in the store, and note in the context what the call took from its own."""
        store = self._facilities.store
        said = await _read(store, name)
        if said is None:
            return _unanswered(tool, f"the outcome {name} of the call is not in the store {store.name}")
        used = cast("dict[str, Any]", said["used"])
        # What the driver knows itself stays: which secrets its own resources have.
        secrets = list(dict.fromkeys([*context.used.secrets, *used.pop("secrets")]))
        for key, value in (used | {"secrets": secrets}).items():
            setattr(context.used, key, value)
        if said["code"] != tool.fingerprint:
            call.unkept = OTHER_CODE  # or later runs would take the result for one of this code
        match said["kind"]:
            case "returned":
                if (large := said.get("large")) is not None:
                    found = await read_values(store, [str(large)])
                    if large not in found:
                        return _unanswered(
                            tool, f"the result {large} of the call is not in the store {store.name}"
                        )
                    output = CanonicalValue.checked(found[str(large)])
                else:
                    output = CanonicalValue.of(said["output"])
                return Returned(output, [str(each) for each in cast("list[Json]", said["mismatch"])])
            case "failed":
                fields = cast("dict[str, Any]", said["outcome"])
                asked = fields.pop("question")
                return Failed(**fields, question=None if asked is None else CanonicalValue.of(asked))
            case _:
                return Lost(**cast("dict[str, Any]", said["outcome"]))


class _Listener:
    """Tells of one call: the log, the journal's progress, and the run's warnings."""

    def __init__(self, calls: FarCalls, call: FarCall, context: Context, facilities: Facilities) -> None:
        self._calls = calls
        self._call = call
        self._context = context
        self._log = facilities.log.bind(
            run=call.run_id, step=call.step, tool=call.tool, queue=call.queue, attempt=call.attempt
        )
        self._told: set[str] = set()

    def unserved(self, queue: str) -> None:
        """See `FarListener`."""
        if not self._told:
            self._told.add("")
            self._log.warning("no worker serves the queue of a call", hint=f"firmplan worker --queue {queue}")
            self._calls.tell_unserved(self._call.step, self._call.tool, queue)

    def refused(self, why: str) -> None:
        """See `FarListener`."""
        if why not in self._told:
            self._told.add(why)
            self._log.warning("a worker of the queue cannot make a call", error=why)

    def progress(self, fraction: float, note: str) -> None:
        """See `FarListener`."""
        self._context.progress(fraction, note)


def _unanswered(tool: Tool, why: str) -> Outcome:
    return interrupted(tool, ConnectionError(why), "process-died", why)


def _key_of(run_id: str, call: PreparedCall) -> str:
    return call.write_key or idempotency_key(run_id, call.step, call.args_digest)


def _promises(tool: Tool) -> dict[str, Json]:
    """Return what the driver relies on: whether a call may be made again."""
    return {"effect": tool.effect.value, "idempotent": tool.idempotent}


async def _read(store: Store, name: str) -> dict[str, Json] | None:
    found = await read_values(store, [name])
    return cast("dict[str, Json]", parse_canonical(found[name])) if name in found else None


# --- the worker's side

MakesHere: TypeAlias = "Callable[[Preparation, PreparedCall, Tool], Awaitable[Outcome]]"


class FarLease:
    """How long a worker of a queue may go on with the writes that it carries out without being heard by the backend.

    The backend gives a call up some time after it last heard of it. The process ends itself before that, if a write is under way that must not be repeated
    (`lease.py`): whoever learns that there is no answer may then rely on nothing being written any more.

    Args:
        length_s: The lease of the engine.

    Attributes:
        lease: The lease, which child processes share.
    """

    def __init__(self, length_s: float) -> None:
        self.lease = Lease(SPARE * length_s, is_needed=True)
        self._until: dict[str, float] = {}

    now = staticmethod(elapsed_s)

    def renewed(self, key: str, at: float, lease_s: float) -> None:
        """See `SignsOfLife`."""
        self._until[key] = at + SPARE * lease_s
        self._renew()

    @contextmanager
    def guarding(self, key: str, run_id: str) -> Generator[None]:
        """Guard a write, of which the backend has heard."""
        try:
            with self.lease.guarding(run_id):
                yield
        finally:
            self._until.pop(key, None)
            self._renew()

    def _renew(self) -> None:
        # The call that was not heard of for longest decides.
        if self._until:
            self.lease.renewed(min(self._until.values()) - self.lease.length_s)

    def close(self) -> None:
        """Release the timer."""
        self.lease.close()


class FarServer:
    """Makes the calls that a backend hands to a worker of a queue.

    Args:
        facilities: Of the engine, which drives no runs.
        lease: The lease of its writes.
        make: Makes a prepared call here.
    """

    def __init__(self, facilities: Facilities, lease: FarLease, make: MakesHere) -> None:
        self._facilities = facilities
        self._lease = lease
        self._make = make

    async def carry_out(self, task: FarTask) -> Digest:
        """Make a call; return the digest of its outcome, which is in the store.

        Raises:
            CallMisfit: This worker cannot make it.
            CallUnwanted: Its run does not wait for it any more.
            CallBegun: An earlier worker may have made it.
            asyncio.CancelledError: It was cut off.
        """
        store = self._facilities.store
        if task.store != store.name:
            raise CallMisfit(
                f"the call is of a run in {task.store}, and this worker works on {store.name}: expected all engines and workers on one store"
            )
        request = await _read(store, task.request)
        if request is None:
            raise CallMisfit(f"the store {store.name} has not the request {task.request} of the call")
        tool = self._tool_for(request)
        await self._expect_wanted(task, cast("int", request["epoch"]), tool)
        preparation = Preparation(self._facilities, task.run_id, tenant=cast("str", request["tenant"]))
        command = _command_of(task, request, tool)
        try:
            args = preparation.bound(command, tool)
        except ToolError as fault:
            failed = Failed(
                fault.code, preparation.without_secrets(command, str(fault)), fault.temporary, retryable=False
            )
            return await self._keep(failed, Used(), tool)
        call = PreparedCall(command, command.args.digest, tool, args, None, HERE)
        call.blobs = await find_blobs(store, args)
        call.context = self._context_of(task, request, call, tool, preparation)
        with trace_continued(cast("dict[str, str]", request["trace"])):
            if is_unrepeatable(tool):
                await task.note_begun()
                with self._lease.guarding(task.id, task.run_id):
                    outcome = await self._make(preparation, call, tool)
            else:
                outcome = await self._make(preparation, call, tool)
        return await self._keep(
            await self._with_files(call, tool, preparation.redacted(call, outcome)), call.context.used, tool
        )

    def _tool_for(self, request: Mapping[str, Json]) -> Tool:
        """Return the tool of a call. Raises: CallMisfit: there is none, or it is none that may make the call."""
        tools, name = self._facilities.tools, cast("str", request["tool"])
        if (tool := tools.find(name)) is None:
            raise CallMisfit(f"this worker has not the tool '{name}'; it has {listing(tools.names)}")
        if (here := _promises(tool)) != (there := request["promises"]):
            raise CallMisfit(
                f"the tool '{name}' was declared as {there} where the run is driven, and is {here} here"
            )
        if request["is_settled"] and request["fingerprint"] != tool.fingerprint:
            raise CallMisfit(
                f"a person was asked about the call of '{name}', and this worker has other code of it"
            )
        rule = cast("Results", request["results"])
        return tool if tool.result_rule == rule else replace(tool, results=rule)

    async def _expect_wanted(self, task: FarTask, epoch: int, tool: Tool) -> None:
        """Raise if the run does not wait for the call any more. Raises: CallUnwanted."""
        store = self._facilities.store
        row = await store.find_run(task.run_id)
        if row is None or row.status in FINAL:
            raise CallUnwanted(f"the run {task.run_id} has ended")
        # The run may have another owner since, who follows the call; or who has given it up, while the former one stood still and began it late.
        if row.epoch == epoch or tool.effect is not Effect.WRITE:
            return
        if not is_open(await load_entries(store, row), task.step, task.attempt):
            raise CallUnwanted(f"the run {task.run_id} has another owner, who does not wait for the call")

    def _context_of(
        self,
        task: FarTask,
        request: Mapping[str, Json],
        call: PreparedCall,
        tool: Tool,
        preparation: Preparation,
    ) -> Context:
        facts = dict(cast("dict[str, Any]", request["context"]))
        recorded = Used(**facts.pop("recorded"))
        given = cast("StartToolCall", call.command).secrets.values()
        # Ids follow from the key, so that each attempt gets the same ones, and nobody has to record them before the tool gets them.
        numbers = count(len(recorded.uuids))
        return Context(
            **facts,
            recorded=recorded,
            effect=tool.effect,
            clock=self._facilities.clock.now,
            env=self._facilities.environ,
            secrets=preparation.secrets.of_tool(tool.name, task.step) if tool.wants_context else None,
            given={name: value for name in given if (value := preparation.secrets.find(name)) is not None},
            on_progress=task.on_progress,
            new_uuid=lambda: _uuid_of(facts["idempotency_key"], next(numbers)),
            blobs=call.blobs,
            answers=call.command.answers if isinstance(call.command, StartToolCall) else (),
            resources=(self._facilities.resources, tool),
        )

    async def _with_files(self, call: PreparedCall, tool: Tool, outcome: Outcome) -> Outcome:
        """Put the artifacts that a call has saved into the store; return its outcome."""
        if call.blobs is None or not isinstance(outcome, Returned):
            return outcome
        store, now = self._facilities.store, self._facilities.clock.now
        for name, data in call.blobs.made.items():
            await store.add_value(name, data, now())
        try:
            await keep_files(store, call.blobs, now)
        except ToolError as fault:
            return refused_result(tool, fault)
        return outcome

    async def _keep(self, outcome: Outcome, used: Used, tool: Tool) -> Digest:
        """Put an outcome into the store; return its digest."""
        store, now = self._facilities.store, self._facilities.clock.now()
        said: dict[str, Any] = {"format": FORMAT, "used": asdict(used), "code": tool.fingerprint}
        match outcome:
            case Returned(output, mismatch) if len(output.data) >= LARGE_BYTES:
                await store.add_value(output.digest, output.data, now)
                said |= {"kind": "returned", "large": output.digest, "mismatch": list(mismatch)}
            case Returned(output, mismatch):
                said |= {"kind": "returned", "output": output.value, "mismatch": list(mismatch)}
            case Failed(question=question):
                fields = asdict(replace(outcome, question=None))
                said |= {
                    "kind": "failed",
                    "outcome": {**fields, "question": None if question is None else question.value},
                }
            case Lost():
                said |= {"kind": "lost", "outcome": asdict(outcome)}
        data = canonical(cast("Json", said))
        name = digest(data)
        await store.add_value(name, data, now)
        return name


def _command_of(task: FarTask, request: Mapping[str, Json], tool: Tool) -> StartToolCall:
    return StartToolCall(
        task.step,
        tool.name,
        CanonicalValue.of(request["args"]),
        cast("Mapping[str, str]", request["secrets"]),
        task.attempt,
        (),
        cast("float | None", request["timeout_s"]),
        reconcile=False,
        answers=tuple(cast("list[Json]", request["answers"])),
    )


def is_open(entries: Iterable[Entry], step: str, attempt: int) -> bool:
    """Whether a run waits for an attempt of a call, by its journal."""
    is_waiting = False
    for entry in entries:
        match entry.event:
            case CallStarted(step=of, attempt=number) if of == step:
                is_waiting = number == attempt
            case RunResumed(kept=kept) if step not in (kept or ()):
                is_waiting = False
            case event if isinstance(event, ENDED) and event.step == step:
                is_waiting = False
            case _:
                pass
    return is_waiting


def _uuid_of(key: str, number: int) -> UUID:
    return UUID(bytes=hashlib.sha256(f"{key}\nuuid {number}".encode()).digest()[:16], version=4)
