"""Calls the pure steps of a run again, to find tools that are not deterministic.

They are called in new processes. Each process has another hash seed, which shows a result that depends on the order of a set, and another order
of calls. One process makes each call twice in a row, which shows a result that depends on earlier calls. A tool that another process
cannot import, because it was made inside a function, is called in this process, and its verdict says so. Nothing is stored; writes,
reads and model calls are not repeated.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from ...errors import ConfigError, ToolError
from ...plans.edit.differences import Difference, differences
from ...plans.program.program import CallTool
from ...plans.signature import Effect
from ...plans.values import Json
from ...tools import Context, Tool
from ...tools.failures import recorded
from ..calls.artifacts import find_blobs
from ..calls.facilities import Facilities
from ..calls.running.frames import address_of
from ..calls.running.invoke import Failed, Lost, Outcome, Returned, call_tool
from ..calls.running.processes import ProcessPool
from ..canonical_value import CanonicalValue
from ..events import CallMade, CallReused, CallSucceeded
from ..runs.run import counted, report_json
from .recall import Recall
from .report import places_text

# Passes, each in a new process: the first reverses the order of calls, the second makes each call twice. Each pass halves the chance that
# the order of a set of two elements goes unnoticed, so there are more passes as long as they are quick.
PASSES_MIN: Final = 2
PASSES_MAX: Final = 5
MORE_S: Final = 5.0
TIMEOUT_S: Final = 60.0  # of one call, unless its tool has a limit of its own
OVERRUNS_MAX: Final = 3  # calls of one tool that took too long; the others are not waited for as well
SEED_ENV: Final = "PYTHONHASHSEED"
_NOT_HELD: Final = "an argument is a secret, which no recording holds"
_NO_RESULT: Final = "no call of it returned"
_NO_CALL: Final = ("process-died", "config-error")  # failures that say nothing of the tool


@dataclass(frozen=True, slots=True)
class _RecordedCall:
    """One call of a pure tool, as the run made it."""

    step: str
    args: CanonicalValue
    output: CanonicalValue
    env: Mapping[str, Json]


@dataclass(slots=True)
class _Bench:
    """One tool and its calls; `found` is the first deviation in plan order."""

    tool: Tool
    calls: Sequence[_RecordedCall]
    is_here: bool
    found: ToolVerdict | None = None
    overruns: int = 0


async def verify(facilities: Facilities, recalled: Recall) -> Verification:
    """Call the pure steps of a run again; return a verdict for each tool."""
    benches: list[_Bench] = []
    calls_of, left = _pure_calls(recalled)
    verdicts = {name: ToolVerdict(name, "unchecked", 0, detail=why) for name, why in left.items()}
    for name, calls in calls_of.items():
        tool = facilities.tools.find(name)
        if tool is None:
            verdicts[name] = ToolVerdict(name, "unchecked", 0, detail="this engine has no such tool")
        elif (refusal := _refusal(tool, recalled)) is not None:
            verdicts[name] = refusal
        else:
            benches.append(_Bench(tool, calls, is_here=not _is_found_elsewhere(tool)))
    loop = asyncio.get_running_loop()
    until, number = loop.time() + MORE_S, 0
    while benches and (number < PASSES_MIN or (number < PASSES_MAX and loop.time() < until)):
        await _call_again(facilities, recalled, benches, number)
        number += 1
    verdicts |= {bench.tool.name: _verdict(bench) for bench in benches}
    return Verification(recalled.run.id, tuple(verdicts[name] for name in sorted(verdicts)))


def _pure_calls(recalled: Recall) -> tuple[dict[str, list[_RecordedCall]], dict[str, str]]:
    """Return tool -> its calls that returned, in plan order, without repetitions; and tool -> why it has no call to compare."""
    ends = {
        entry.event.step: entry.event
        for entry in recalled.entries
        if isinstance(entry.event, CallSucceeded | CallMade | CallReused)
    }
    found: dict[str, list[_RecordedCall]] = {}
    left: dict[str, str] = {}
    seen: set[tuple[str, str, str]] = set()
    for iteration in sorted(recalled.machine.iterations.values(), key=lambda iteration: iteration.order):
        action, args = iteration.item.node.code.action, recalled.calls.get(iteration.path)
        if not isinstance(action, CallTool) or args is None:
            continue
        lock = recalled.header.lock.find(action.tool)
        if lock is None or lock.effect is not Effect.PURE:
            continue
        # A recording holds secrets by name only, so a call with a secret cannot be made again.
        end = ends.get(iteration.path)
        if end is None or action.secrets:
            left.setdefault(action.tool, _NOT_HELD if action.secrets else _NO_RESULT)
            continue
        key = (action.tool, args.digest, end.output.digest)
        if key in seen:
            continue
        seen.add(key)
        env = (end.used or {}).get("env", {}) if isinstance(end, CallSucceeded) else {}
        made = _RecordedCall(iteration.path, args, end.output, env if isinstance(env, dict) else {})
        found.setdefault(action.tool, []).append(made)
    return found, left


def _refusal(tool: Tool, recalled: Recall) -> ToolVerdict | None:
    """Return the verdict on a tool that must not be called again; `None`: it may be called."""
    lock = recalled.header.lock.find(tool.name)
    if tool.effect is not Effect.PURE:
        return ToolVerdict(tool.name, "unchecked", 0, detail=f"it is declared {tool.effect.value} now")
    if lock is not None and lock.fingerprint != tool.fingerprint:
        return ToolVerdict(tool.name, "changed", 0, detail="its results now say nothing of the code then")
    return None


def _is_found_elsewhere(tool: Tool) -> bool:
    with suppress(ConfigError):
        address_of(tool)
        return True
    return False


async def _call_again(
    facilities: Facilities, recalled: Recall, benches: Sequence[_Bench], number: int
) -> None:
    """Call everything once more, in a process and an order of this pass."""
    place = {path: iteration.order for path, iteration in recalled.machine.iterations.items()}
    pairs = [(bench, made) for bench in benches for made in bench.calls]
    pairs.sort(key=lambda pair: place[pair[1].step], reverse=number % 2 == 0)
    if number == 1:
        pairs = [pair for pair in pairs for _ in range(2)]
    processes = ProcessPool({SEED_ENV: _seed(recalled.run.id, number)})
    try:
        for bench, made in pairs:
            if bench.overruns >= OVERRUNS_MAX:
                continue
            outcome = await _outcome(facilities, processes, recalled, bench, made)
            bench.overruns += isinstance(outcome, Failed) and outcome.code == "timeout"
            # The order of calls differs between passes, so the first deviation in time is not the first in plan order.
            verdict = _compared(bench.tool.name, made, outcome)
            earlier = bench.found.step if bench.found is not None else None
            if verdict is not None and (earlier is None or place[made.step] < place[earlier]):
                bench.found = verdict
    finally:
        await processes.close()


def _seed(run_id: str, number: int) -> str:
    """Return a hash seed that differs from the seed of this process."""
    seed = int.from_bytes(sha256(f"{run_id}\n{number}".encode()).digest()[:4]) or 1
    return str(seed - 1 if str(seed) == os.environ.get(SEED_ENV) else seed)


async def _outcome(
    facilities: Facilities, processes: ProcessPool, recalled: Recall, bench: _Bench, made: _RecordedCall
) -> Outcome:
    tool = bench.tool
    try:
        args = tool.bind(made.args.value if isinstance(made.args.value, dict) else {})
    except ToolError as fault:
        return Failed(fault.code, str(fault), fault.temporary, retryable=False)
    blobs = await find_blobs(facilities.store, args)
    context = Context(
        run_id=recalled.run.id,
        step=made.step,
        seed=recalled.header.seed,
        effect=tool.effect,
        clock=facilities.clock.now,
        env=facilities.environ,
        secrets=facilities.secrets.reader().of_tool(tool.name, made.step),
        blobs=blobs,
        resources=(facilities.resources, tool),
    )
    timeout_s = tool.timeout_s if tool.timeout_s is not None else TIMEOUT_S
    if bench.is_here:
        if (
            tool.injected
            and (failed := await facilities.resources.inject(tool, context, timeout_s)) is not None
        ):
            return failed
        return await call_tool(tool, args, context, facilities.threads, timeout_s)
    return await processes.call(tool, args, context, blobs, timeout_s=timeout_s)


def _compared(tool: str, made: _RecordedCall, outcome: Outcome) -> ToolVerdict | None:
    """Return the verdict for an outcome that differs from the recorded result; `None`: it is equal."""
    match outcome:
        case Returned(output) if output == made.output:
            return None
        case Returned(output):
            places = differences(made.output.value, output.value)
            return ToolVerdict(tool, "differs", 0, made.step, places)
        # Such failures happen before the tool is called, so they say nothing about it.
        case Failed(code, message) if code in _NO_CALL:
            return ToolVerdict(tool, "unchecked", 0, made.step, detail=message)
        case Failed(_, message) | Lost(message):
            return ToolVerdict(tool, "differs", 0, made.step, detail=f"it failed: {message}")


def _verdict(bench: _Bench) -> ToolVerdict:
    name, found = bench.tool.name, bench.found
    here = "in this process, since another one cannot find it" if bench.is_here else ""
    if found is None:
        return ToolVerdict(name, "deterministic", len(bench.calls), detail=here)
    detail = "; ".join(filter(None, (found.detail, here, _changed_env(bench.calls))))
    return replace(found, calls=len(bench.calls) if found.finding == "differs" else 0, detail=detail)


def _changed_env(calls: Sequence[_RecordedCall]) -> str:
    """Return the environment variables that differ from what the run read, since another result may then be right."""
    differing = {
        name for made in calls for name, value in made.env.items() if recorded(os.environ.get(name)) != value
    }
    return f"the environment is not what it was: {', '.join(sorted(differing))}" if differing else ""


# --- the report

ToolFinding: TypeAlias = Literal["deterministic", "differs", "changed", "unchecked"]


@dataclass(frozen=True, slots=True)
class ToolVerdict:
    """The verdict on one tool.

    Attributes:
        finding: `deterministic`: every call returned the recorded result; `differs`: at least one call did not; `changed`: its code has
            changed since the run, so nothing was called; `unchecked`: there is nothing to compare, and `detail` says why.
        calls: The number of calls that were repeated and compared.
        step: The first step in plan order with another result.
        differences: The differences between its output and the recorded output.
        detail: An error in place of a result, why the tool was not called, or that it was called in this process.
    """

    tool: str
    finding: ToolFinding
    calls: int
    step: str | None = None
    differences: tuple[Difference, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        times = counted(self.calls, "call")
        match self.finding:
            case "deterministic":
                return f"'{self.tool}': {times} again, the same results{detail}"
            case "differs":
                places = places_text("output", self.differences)
                return f"'{self.tool}' is not deterministic: step '{self.step}' came out differently{': ' * bool(places)}{places}{detail}"
            case "changed":
                return f"'{self.tool}' was changed since the run: not called{detail}"
            case "unchecked":
                return f"'{self.tool}' could not be compared{detail}"

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return report_json(self)


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdicts on the pure tools of a run.

    Attributes:
        run_id: The run.
        tools: One verdict for each pure tool that the run called, by name.
    """

    run_id: str
    tools: tuple[ToolVerdict, ...]

    @property
    def ok(self) -> bool:
        """Whether no tool had another result; tools that could not be called do not count."""
        return not self.differing

    @property
    def differing(self) -> tuple[str, ...]:
        """The tools that are not deterministic, by name."""
        return tuple(each.tool for each in self.tools if each.finding == "differs")

    @property
    def calls(self) -> int:
        """The number of calls that were repeated and compared."""
        return sum(each.calls for each in self.tools)

    def __str__(self) -> str:
        if not self.tools:
            return f"run {self.run_id} called no pure tool: there is nothing to verify"
        return "\n".join(str(each) for each in self.tools)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"ok": self.ok, "calls": self.calls} | report_json(self, run_id="run")
