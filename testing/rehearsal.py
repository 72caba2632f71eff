"""Rehearsing a run: the plan runs once more as it is now, with the tools as they are now, and touches nothing.

`pure` tools are called; every other call, prompts included, is answered by what was recorded or written down, in memory, on a clock
that jumps over pauses. Whom people approved or denied is approved or denied again. What comes out can be compared with the
recording, step by step, and kept as the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from ..errors import ConfigError, InputRejected, PlanRejected, ToolError
from ..executor.calls.concurrency import Places
from ..executor.calls.facilities import Facilities
from ..executor.calls.invoke import Outcome
from ..executor.events import Approved, Denied
from ..executor.fork import Fork, root_of
from ..executor.journal.header import Header, default_seed
from ..executor.journal.toolset_lock import ToolLock, ToolsetLock, tool_names
from ..executor.review.recall import Recall, recall
from ..executor.runs.execution import Execution
from ..executor.runs.owner import Alone
from ..executor.runs.request import fitted_inputs
from ..plans import Plan, check
from ..plans.nearest import did_you_mean, listing
from ..plans.program import AskModel
from ..plans.signature import Effect
from ..plans.values import Json, canonical, digest
from ..tools import Tool, Toolset, ask_request
from ..tools.declaration import Approval
from ..tools.schemas import SchemaTypes
from .answers import Answer, Answerer, Answers, written
from .fake_clock import FakeClock
from .memory_store import MemoryStore
from .recorded import RecordedRun
from .stand_in import StandInModels, Untouched, prompt_of, stand_in, types_of

PLACES = 64
DECISIONS_MAX = 1000  # decisions in one rehearsal: a plan that waits for ever is a mistake
ASK = "ask"  # under this name a test writes down answers for prompts


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is to be rehearsed.

    Attributes:
        plan: As it is now.
        inputs: As they are given.
        tools: As they are now; those that a recording knows and this has not are answered from the recording.
        recorded: The run whose answers stand for calls.
        answers: Written answers by tool name; `ask`: for prompts. They go before recorded ones.
        live: Names of tools that are called although they are not `pure`.
        artifacts: Bytes that inputs and answers may name as artifacts, beside those of the recording.
    """

    plan: Plan
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    tools: Toolset = field(default_factory=Toolset)
    recorded: RecordedRun | None = None
    answers: Mapping[str, Json] = field(default_factory=dict[str, Json])
    live: Sequence[str] = ()
    artifacts: Sequence[bytes] = ()

    async def run(self, keep: Path | None = None) -> Recall:
        """Return the run that comes of it; `keep`: write it into a bundle there.

        Raises:
            PlanRejected: The plan does not pass the check.
            InputRejected: An input does not fit, or answers are given for a tool that there is not.
        """
        saved: Mapping[str, Plan] = self.recorded.header.plans if self.recorded is not None else {}
        self._expect_known(_names(self.plan, saved))
        tools = Toolset(list(self._tools(saved)))
        others = [tool for tool in self.tools if tool.name not in tools.names]
        report = check(self.plan, tools + Toolset(others), plans=saved)
        if not report.ok:
            raise PlanRejected(report)
        inputs = fitted_inputs(self.plan, self.inputs)
        seed = self.recorded.header.seed if self.recorded is not None else default_seed(self.plan, inputs)
        lock = ToolsetLock(
            [self._lock(tool) for name in _names(self.plan, saved) if (tool := tools.find(name))]
        )
        header = Header(self.plan, inputs, seed, lock, saved, self.plan.task, reuse="off", fork=self._fork())
        store = MemoryStore()
        facilities = Facilities(
            tools,
            StandInModels(self._prompts()),
            store,
            Places(PLACES),
            clock=FakeClock(),
            secrets=Untouched(),
        )
        execution = Execution(facilities, Alone())
        await execution.open()
        try:
            for name, data in self._blobs().items():
                await store.add_value(name, data, 0.0)
            run_id = await self._carried_out(execution, header)
            if keep is not None:
                await execution.replays.export(run_id, keep)
            return await recall(store, await execution.archive.row(run_id))
        finally:
            await execution.close()

    def _expect_known(self, named: Sequence[str]) -> None:
        """Check that answers are given for tools that there are. Raises: InputRejected."""
        known = sorted({*named, *self.tools.names})
        for what, names in (("answers", [name for name in self.answers if name != ASK]), ("live", self.live)):
            for name in names:
                if name not in known:
                    hint = did_you_mean(name, known, f"there are {listing(known)}")
                    raise InputRejected(f"{what}: there is no tool '{name}': {hint}")

    async def _carried_out(self, execution: Execution, header: Header) -> str:
        """Run, and decide as was decided, until nothing goes on."""
        name = self.recorded.run.id if self.recorded is not None else "rehearsal"
        run_id = await execution.submissions.submit(header, run_id=name)
        await execution.resume(run_id)
        decided = dict(self.recorded.decided) if self.recorded is not None else {}
        for _ in range(DECISIONS_MAX):
            run = await execution.wait(run_id)
            waiting = [path for path, view in run.steps.items() if view.reason == "approval"]
            step = next((path for path in waiting if path in decided), None)
            if run.status != "waiting" or step is None:
                break
            match decided.pop(step):
                case Approved(by=by, edit=edit):
                    changed = cast("dict[str, Json]", edit.value) if edit is not None else None
                    await execution.decisions.approve(run_id, step, by=by, edit=changed)
                case Denied(by=by, reason=reason):
                    await execution.decisions.deny(run_id, step, by=by, reason=reason)
            await execution.resume(run_id)
        return run_id

    def _fork(self) -> Fork | None:
        """Return how the recorded run came of its parent: values that it was given are given again, and writes that waited wait."""
        fork = self.recorded.header.fork if self.recorded is not None else None
        if fork is None:
            return None
        known = {step.id for step in self.plan.steps}
        given = {path: value for path, value in fork.overrides.items() if root_of(path) in known}
        return replace(fork, overrides=given, at="")

    def _blobs(self) -> Mapping[str, bytes]:
        """Return the bytes of all artifacts that are known before anything runs, by digest."""
        given: dict[str, bytes] = {digest(data): data for data in self.artifacts}
        return {**self.recorded.blobs, **given} if self.recorded is not None else given

    # --- who answers

    def _tools(self, saved: Mapping[str, Plan]) -> Iterator[Tool]:
        """Yield each tool that the plan names: itself if it is called, else its stand-in."""
        for name in _names(self.plan, saved):
            tool = self.tools.find(name)
            lock = ToolLock.of(tool) if tool is not None else self._recorded_lock(name)
            if lock is None:
                continue  # the check says so
            if tool is not None and (name in self.live or self._is_called(name, tool)):
                yield tool
            else:
                types = types_of(lock)
                yield stand_in(lock, types, self._answerer(name, types), self._approval(tool, lock))

    def _is_called(self, name: str, tool: Tool) -> bool:
        return tool.effect is Effect.PURE and name not in self.answers

    def _lock(self, tool: Tool) -> ToolLock:
        """Return a tool's lock; of a stand-in, that of the tool it stands for."""
        real = self.tools.find(tool.name)
        found = ToolLock.of(real) if real is not None else self._recorded_lock(tool.name)
        return found or ToolLock.of(tool)

    def _recorded_lock(self, name: str) -> ToolLock | None:
        return self.recorded.header.lock.find(name) if self.recorded is not None else None

    def _answerer(self, name: str, types: SchemaTypes) -> Answerer:
        what = f"call of '{name}'"
        if name in self.answers:
            return written(what, self.answers[name])
        return Answers(what, tuple(self._recorded_answers(name, types)))

    def _recorded_answers(self, name: str, types: SchemaTypes) -> Iterator[Answer]:
        if self.recorded is None:
            return
        for path, ended in self._ended():
            if self.recorded.recall.machine.tool_of(path) != name:
                continue
            try:
                args = types.bind(cast("dict[str, Json]", self.recorded.recall.calls[path].value))
            except ToolError:  # the tool's parameters have changed since: this call cannot be made any more
                continue
            yield Answer(path, args, ended)

    def _prompts(self) -> Answerer:
        if ASK in self.answers:
            return written("prompt", self.answers[ASK])
        return Answers("prompt", tuple(self._recorded_prompts()))

    def _recorded_prompts(self) -> Iterator[Answer]:
        if self.recorded is None:
            return
        machine = self.recorded.recall.machine
        for path, ended in self._ended():
            action = machine.iterations[path].item.node.code.action
            if not isinstance(action, AskModel):
                continue
            asked = cast("dict[str, Json]", self.recorded.recall.calls[path].value)
            try:
                request = ask_request(
                    cast("str", asked["prompt"]),
                    system=cast("str | None", asked.get("system")),
                    examples=cast("list[Json] | None", asked.get("examples")) or (),
                    returns=action.returns,
                )
            except ConfigError:  # an example that is none: the step failed of it, and does so again
                continue
            yield Answer(path, prompt_of(request), ended)

    def _ended(self) -> Sequence[tuple[str, Outcome]]:
        """Return what calls came to by path, in plan order: which of several equal ones ended first was chance."""
        if self.recorded is None:
            return []
        iterations = self.recorded.recall.machine.iterations
        return sorted(self.recorded.ended.items(), key=lambda each: iterations[each[0]].order)

    def _approval(self, tool: Tool | None, lock: ToolLock) -> Approval:
        """Return when a person is asked: as the tool says, or as was asked in the recording."""
        if tool is not None or lock.approval in ("never", "always", "untrusted"):
            kinds: Mapping[str, Approval] = {"always": "always", "untrusted": "untrusted"}
            return tool.approval if tool is not None else kinds.get(lock.approval)
        asked = {
            self.recorded.recall.calls[path].data
            for path in (self.recorded.decided if self.recorded is not None else ())
            if self.recorded is not None and path in self.recorded.recall.calls
        }
        return lambda args: canonical(args) in asked


def _names(plan: Plan, saved: Mapping[str, Plan]) -> list[str]:
    return sorted({name for each in (plan, *saved.values()) for name in tool_names(each)})
