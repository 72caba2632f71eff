"""Golden tests: recorded runs and written expectations, as files beside the tests, that `pytest --firmplan` collects.

A recorded run is a bundle, `NAME.bundle`. A case is `NAME.golden.yaml` (or `.json`):

    plan: ../plan.yaml            # a file, or the plan itself; without it, the recording's
    tools: ../tools.py            # files or modules; without it, what the configuration says
    recording: NAME.bundle        # whose answers stand for calls
    inputs: {city: Rome}
    answers:                      # written answers by tool, `ask` for prompts; they go before recorded ones
      weather: [{args: {city: Rome}, returns: {celsius: 21.5}}]
    live: [clock]                 # tools that are called although they are not pure
    artifacts: [letter.txt]       # files whose bytes inputs and answers name as artifacts
    expect:                       # without it, all that was recorded
      output: It is 21.5 degrees
      steps: {warm: {output: true}}
      calls: {weather: 1}

What this module decides is what differs, in words; how pytest shows it is `plugin.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

from ..errors import Diverged, InputRejected, PlanRejected
from ..executor.review.compare import compare
from ..executor.review.recall import Recall
from ..plans import Plan, check
from ..plans.format.source import parse_source
from ..plans.values import Json
from ..tools import Toolset
from .answers import NOT_RECORDED
from .assertions import is_same, run_faults
from .case import read_case
from .recorded import REHEARSABLE, RecordedRun, read_recorded
from .rehearsal import Rehearsal

BUNDLE: Final = ".bundle"
AGAIN: Final = "record a new run with `firmplan record RUN -o {}`"
ACCEPT: Final = "accept it with `pytest --firmplan --firmplan-update`"


@dataclass(frozen=True, slots=True)
class Golden:
    """One golden test.

    Attributes:
        path: Its file.
        plan: The plan as it is now.
        tools: Files and modules that declare tools; empty: as configured.
        artifacts: Bytes that are no part of the recording.
        expect: What is expected; `None`: all that was recorded.
    """

    path: Path
    plan: Plan
    inputs: Mapping[str, Json]
    tools: tuple[str, ...] = ()
    recorded: RecordedRun | None = None
    answers: Mapping[str, Json] = field(default_factory=dict[str, Json])
    live: tuple[str, ...] = ()
    artifacts: tuple[bytes, ...] = ()
    expect: Mapping[str, Json] | None = None


def has_case(bundle: Path) -> bool:
    """Whether a case of the same name says more about a bundle."""
    return any(bundle.with_name(f"{bundle.stem}.golden.{end}").exists() for end in ("yaml", "yml", "json"))


def read_golden(path: Path) -> Golden:
    """Return the golden test that a file is. Raises: InputRejected, Diverged, PlanRejected."""
    if path.suffix == BUNDLE:
        whole = read_recorded(path)
        return Golden(path, whole.plan, whole.run.inputs, recorded=whole)
    said = read_case(path)
    recorded = read_recorded(path.parent / str(said["recording"])) if "recording" in said else None
    inputs = dict(recorded.run.inputs) if recorded is not None else {}
    tools = said.get("tools", [])
    return Golden(
        path,
        _plan_of(path, said.get("plan"), recorded),
        {**inputs, **said.get("inputs", {})},
        tuple(_beside(path, each) for each in ([tools] if isinstance(tools, str) else tools)),
        recorded,
        said.get("answers", {}),
        tuple(said.get("live", ())),
        tuple(_bytes_of(path.parent / str(each)) for each in said.get("artifacts", ())),
        (said["expect"] or {}) if "expect" in said else None if recorded is not None else {},
    )


def replay_fault(path: Path) -> str | None:
    """Return why a recorded run no longer replays; `None`: it does."""
    try:
        read_recorded(path)
    except Diverged as fault:
        return f"{fault}\nthis firmplan concludes something else than the one that recorded the run"
    except InputRejected as fault:
        return str(fault)
    return None


def golden_fault(golden: Golden, tools: Toolset, *, update: bool = False) -> str | None:
    """Return what differs from what is expected, in words; `None`: nothing does.

    Args:
        golden: The test.
        tools: As they are now.
        update: Make what comes out now what is expected, where that is possible; then nothing differs.
    """
    rehearsal = Rehearsal(
        golden.plan, golden.inputs, tools, golden.recorded, golden.answers, golden.live, golden.artifacts
    )
    try:
        now = asyncio.run(rehearsal.run())
    except (PlanRejected, InputRejected) as fault:
        return str(fault)
    if golden.expect is None:
        return _recording_fault(golden, now, rehearsal, update=update)
    return _expectation_fault(golden, golden.expect, now, update=update)


def _recording_fault(golden: Golden, now: Recall, rehearsal: Rehearsal, *, update: bool) -> str | None:
    """Return what differs from the recording, with reasons."""
    if golden.recorded is None:
        raise AssertionError("without a recording there are expectations")
    told: list[str] = []
    found = replace(compare(golden.recorded.recall, now), a="recorded", b="now")
    if not is_same(found):
        told.append(str(found))
    told += _changed_models(golden.recorded, now)
    if not told:
        return None
    missing = [error for error in now.run.errors if error.code == NOT_RECORDED]
    told += [f"step '{error.step}': {error.message}" for error in missing]
    if update and not missing:
        asyncio.run(rehearsal.run(keep=golden.recorded.path))
        return None
    advice = (
        f"calls are missing from the recording: {AGAIN.format(golden.recorded.path)}" if missing else ACCEPT
    )
    return "\n".join([*told, advice])


def _changed_models(recorded: RecordedRun, now: Recall) -> list[str]:
    """Return the model tools that have changed: a recorded answer was given to another prompt."""
    told: list[str] = []
    for name in now.header.lock.names:
        old, new = recorded.header.lock.find(name), now.header.lock.find(name)
        if old is None or new is None or new.effect != "model" or old.fingerprint == new.fingerprint:
            continue
        schemas = [part for part in ("parameters", "returns") if getattr(old, part) != getattr(new, part)]
        what = f"its {' and '.join(schemas)} changed" if schemas else "its prompt, settings or code changed"
        shown = f': "{old.description}" -> "{new.description}"' if old.description != new.description else ""
        told.append(f"the model tool '{name}' is not the one that was recorded: {what}{shown}")
    return told


def _expectation_fault(
    golden: Golden, expect: Mapping[str, Json], now: Recall, *, update: bool
) -> str | None:
    """Return what is otherwise than expected."""
    if update:
        _rewrite(golden.path, expect, now)
        return None
    if not expect:
        return "nothing is expected yet: write `expect:`, or let `pytest --firmplan --firmplan-update` fill it in"
    faults = list(run_faults(now.run, expect, _calls(now)))
    return "\n".join([*faults, f"(expected -> found; {ACCEPT})"]) if faults else None


def _calls(now: Recall) -> Mapping[str, int]:
    names = (now.machine.tool_of(path) for path in now.calls)
    return Counter(name or "ask" for name in names)


# --- cases as files


def _plan_of(path: Path, said: object, recorded: RecordedRun | None) -> Plan:
    match said:
        case str():
            return Plan.load(path.parent / said)
        case dict():
            return _plan_in(cast("dict[str, Any]", said))
        case _ if recorded is not None:
            return recorded.plan
        case _:
            raise InputRejected(f"{path}: expected a plan: `plan: FILE`, or `recording: BUNDLE`")


def _plan_in(said: Mapping[str, Any]) -> Plan:
    """Return the plan that stands in a case. Raises: PlanRejected: it has not the shape of one."""
    from pydantic import ValidationError  # noqa: PLC0415  # only for plans in cases

    whole = {"firmplan": 1, **said}
    try:
        return Plan.model_validate(whole)
    except ValidationError as fault:
        raise PlanRejected(check(whole, ())) from fault


def _bytes_of(path: Path) -> bytes:
    """Return the bytes of a file beside a case. Raises: InputRejected: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise InputRejected(f"the artifact {path} cannot be read: {fault.strerror or fault}") from fault


def _beside(path: Path, tools: str) -> str:
    """Return a file of tools as it is from here; a module stays one."""
    return str(path.parent / tools) if tools.endswith(".py") or "/" in tools else tools


def _rewrite(path: Path, expect: Mapping[str, Json], now: Recall) -> None:
    """Put what came out now in the place of what was expected; the rest of the file stays as it is."""
    text = path.read_text(encoding="utf-8")
    made = _expected_of(expect, now)
    if path.suffix == ".json":
        document = {**json.loads(text), "expect": made}
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    import yaml  # noqa: PLC0415  # only where there are cases

    block = yaml.safe_dump({"expect": made}, sort_keys=False, allow_unicode=True)
    if parse_source(block).value != {
        "expect": made
    }:  # PyYAML writes YAML 1.1, where the text `1e3` needs no quotes
        block = f"expect: {json.dumps(made)}\n"
    lines = text.splitlines(keepends=True)
    start = next((at for at, line in enumerate(lines) if line.startswith("expect:")), len(lines))
    inside = [at for at in range(start + 1, _end_of(lines, start)) if lines[at].startswith((" ", "\t", "-"))]
    end = max(inside, default=start) + 1
    before = "".join(lines[:start])
    gap = "" if not before or before.endswith("\n") else "\n"
    path.write_text(before + gap + block + "".join(lines[end:]), encoding="utf-8")


def _end_of(lines: Sequence[str], start: int) -> int:
    """Return where the next key of a case begins."""
    keys = (at for at in range(start + 1, len(lines)) if lines[at][:1].isalpha())
    return next(keys, len(lines))


def _expected_of(expect: Mapping[str, Json], now: Recall) -> dict[str, Json]:
    """Return what came out, of what is looked at; status and output where nothing is."""
    run, calls = now.run, _calls(now)
    wanted = expect or {"status": None, "output": None}
    made: dict[str, Json] = {}
    for name, old in wanted.items():
        match name:
            case "errors":
                made[name] = {error.step: error.code for error in run.errors}
            case "steps":
                made[name] = {step: _step_of(now, step, keys) for step, keys in _mapping(old).items()}
            case "calls":
                made[name] = {tool: calls.get(tool, 0) for tool in _mapping(old)}
            case _:
                made[name] = cast("Json", getattr(run, name, None))
    return made


def _step_of(now: Recall, step: str, keys: Json) -> Json:
    view = now.run.steps.get(step)
    if view is None:
        return keys
    found: dict[str, Json] = {**view.to_dict(), "error": view.error.code if view.error else None}
    return {name: found.get(name) for name in _mapping(keys)}


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def tools_for(golden: Golden, configured: Sequence[str]) -> Toolset:
    """Return the tools of a test: its own, else the configured ones. Raises: ConfigError."""
    named = golden.tools or tuple(configured)
    return Toolset.load(list(named)) if named else Toolset()


def is_rehearsable(golden: Golden) -> bool:
    """Whether a run ends by itself, so that it can be run again."""
    return golden.recorded is None or golden.recorded.run.status in REHEARSABLE
