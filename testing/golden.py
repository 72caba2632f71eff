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

The last part has the items that pytest collects; `plugin.py` loads this module only where there is a golden test.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import pytest
from typing_extensions import override

from ..errors import Diverged, FirmplanError, InputRejected, PlanRejected
from ..executor.review.compare import compare
from ..executor.review.recall import Recall
from ..executor.review.run_diff import RunDiff
from ..plans import Plan, check, value_problems
from ..plans.format.source import SourceError, parse_source
from ..plans.values import Json
from ..tools import Toolset
from .assertions import STEP_KEYS, is_same, run_mismatches
from .recorded import REHEARSABLE, RecordedRun, read_recorded
from .rehearsal import NOT_RECORDED, Rehearsal

BUNDLE: Final = ".bundle"
COUNTED: Final = ("calls", "model_calls")
"""The usage that a changed plan changes, and not the rehearsal."""
AGAIN: Final = "record a new run with `firmplan record RUN -o {}`"
ACCEPT: Final = "accept it with `pytest --firmplan --firmplan-update`"


TEXTS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}
STEP_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {name: {} for name in STEP_KEYS},
}
CASE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "plan": {"type": ["string", "object"]},
        "tools": {"anyOf": [{"type": "string"}, TEXTS]},
        "recording": {"type": "string"},
        "inputs": {"type": "object"},
        "answers": {"type": "object"},
        "live": TEXTS,
        "artifacts": TEXTS,
        "expect": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {
                "status": {},
                "output": {},
                "errors": {"type": "object"},
                "calls": {"type": "object"},
                "steps": {"type": "object", "additionalProperties": STEP_SCHEMA},
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Golden:
    """One golden test.

    Attributes:
        path: Its file.
        rehearsal: The plan as it is now and the answers for its calls, without tools yet.
        tools: Files and modules that declare tools; empty: as configured.
        expect: What is expected; `None`: all that was recorded.
    """

    path: Path
    rehearsal: Rehearsal
    tools: tuple[str, ...] = ()
    expect: Mapping[str, Json] | None = None


def has_case(bundle: Path) -> bool:
    """Whether a bundle has a case of the same name, which then is the test."""
    return any(bundle.with_name(f"{bundle.stem}.golden.{end}").exists() for end in ("yaml", "yml", "json"))


def read_golden(path: Path) -> Golden:
    """Return the golden test of a file. Raises: InputRejected, Diverged, PlanRejected."""
    if path.suffix == BUNDLE:
        bundle = read_recorded(path)
        return Golden(path, Rehearsal(bundle.plan, bundle.run.inputs, recorded=bundle))
    case = _read_case(path)
    recorded = read_recorded(path.parent / str(case["recording"])) if "recording" in case else None
    inputs = dict(recorded.run.inputs) if recorded is not None else {}
    tools = case.get("tools", [])
    rehearsal = Rehearsal(
        _plan_of(path, case.get("plan"), recorded),
        {**inputs, **case.get("inputs", {})},
        recorded=recorded,
        answers=case.get("answers", {}),
        live=case.get("live", ()),
        artifacts=[_bytes_of(path.parent / each) for each in case.get("artifacts", ())],
    )
    paths = tuple(_beside(path, each) for each in ([tools] if isinstance(tools, str) else tools))
    is_compared_with_recording = "expect" not in case and recorded is not None
    return Golden(path, rehearsal, paths, None if is_compared_with_recording else case.get("expect") or {})


def _read_case(path: Path) -> dict[str, Any]:
    """Return the keys of a case; texts and numbers differ as in a plan. Raises: InputRejected: the file is no case."""
    try:
        case = parse_source(path.read_bytes()).value
    except (OSError, SourceError) as error:
        raise InputRejected(f"{path} is no golden test: {error}") from error
    for each in value_problems(case, CASE_SCHEMA):
        where = each.inner.removeprefix(".") or "the file"
        raise InputRejected(f"{path}: {where}: {each.message}{each.hint and f'; {each.hint}'}")
    return cast("dict[str, Any]", case)


def replay_mismatch(path: Path) -> str | None:
    """Return why a recorded run no longer replays; `None`: it replays."""
    try:
        read_recorded(path)
    except Diverged as error:
        return f"{error}\nthis version of firmplan concludes something else than the version that recorded the run"
    except InputRejected as error:
        return str(error)
    return None


def golden_mismatch(golden: Golden, tools: Toolset, *, update: bool = False) -> str | None:
    """Return the differences from the expectation as text; `None`: there are none.

    Args:
        golden: The test.
        tools: As they are now.
        update: Replace the expectation with the present result where that is possible; then nothing differs.
    """
    rehearsal = replace(golden.rehearsal, tools=tools)
    try:
        now = asyncio.run(rehearsal.run())
    except (PlanRejected, InputRejected) as error:
        return str(error)
    if golden.expect is None:
        return _recording_mismatch(now, rehearsal, update=update)
    return _expectation_mismatch(golden, golden.expect, now, update=update)


def _recording_mismatch(now: Recall, rehearsal: Rehearsal, *, update: bool) -> str | None:
    """Return the differences from the recording, with reasons."""
    recorded = rehearsal.recorded
    assert recorded is not None, "without a recording there are expectations"
    mismatches: list[str] = []
    # Names of this comparison in place of the ids, which are equal.
    difference = _without_costs(replace(compare(recorded.recall, now), a="recorded", b="now"))
    if not is_same(difference):
        mismatches.append(str(difference).rstrip())
    mismatches += _changed_models(recorded, now)
    if not mismatches:
        return None
    missing = [error for error in now.run.errors if error.code == NOT_RECORDED]
    mismatches += [f"step '{error.step}': {error.message}" for error in missing]
    if update and not missing:
        asyncio.run(rehearsal.run(keep=recorded.path))
        return None
    advice = f"calls are missing from the recording: {AGAIN.format(recorded.path)}" if missing else ACCEPT
    return "\n".join([*mismatches, advice])


def _without_costs(found: RunDiff) -> RunDiff:
    """Return a difference without what a rehearsal cannot have: recorded answers take no time and no tokens. Numbers of calls stay where they differ."""
    one, other = found.usage
    differ = [name for name in COUNTED if one.get(name, 0) != other.get(name, 0)]
    calls = tuple({name: usage.get(name, 0) for name in differ} for usage in found.usage)
    steps = tuple(
        replace(step, tokens=(None, None), cost=(None, None), seconds=(None, None)) for step in found.steps
    )
    first = found.first and next((step for step in steps if step.step == found.first.step), found.first)
    return replace(found, steps=steps, first=first, usage=(calls[0], calls[1]))


def _changed_models(recorded: RecordedRun, now: Recall) -> list[str]:
    """Return the model tools that have changed, because their recorded answers were given to other prompts."""
    mismatches: list[str] = []
    for name in now.header.lock.names:
        old, new = recorded.header.lock.find(name), now.header.lock.find(name)
        if old is None or new is None or new.effect != "model" or old.fingerprint == new.fingerprint:
            continue
        schemas = [part for part in ("parameters", "returns") if getattr(old, part) != getattr(new, part)]
        what = f"its {' and '.join(schemas)} changed" if schemas else "its prompt, settings or code changed"
        described = (
            f': "{old.description}" -> "{new.description}"' if old.description != new.description else ""
        )
        mismatches.append(f"the model tool '{name}' is not the one that was recorded: {what}{described}")
    return mismatches


def _expectation_mismatch(
    golden: Golden, expect: Mapping[str, Json], now: Recall, *, update: bool
) -> str | None:
    """Return the differences from the written expectation."""
    if update:
        _rewrite(golden.path, expect, now)
        return None
    if not expect:
        return "nothing is expected yet: write `expect:`, or let `pytest --firmplan --firmplan-update` fill it in"
    mismatches = list(run_mismatches(now.run, expect, _calls(now)))
    return "\n".join([*mismatches, f"(expected -> found; {ACCEPT})"]) if mismatches else None


def _calls(now: Recall) -> Mapping[str, int]:
    names = (now.machine.tool_of(path) for path in now.calls)
    return Counter(name or "ask" for name in names)


# --- Cases as files


def _plan_of(path: Path, document: object, recorded: RecordedRun | None) -> Plan:
    match document:
        case str():
            return Plan.load(path.parent / document)
        case dict():
            return _plan_in(cast("dict[str, Any]", document))
        case _ if recorded is not None:
            return recorded.plan
        case _:
            raise InputRejected(f"{path}: expected a plan: `plan: FILE`, or `recording: BUNDLE`")


def _plan_in(plan: Mapping[str, Any]) -> Plan:
    """Return the plan that a case holds. Raises: PlanRejected: it does not have the shape of a plan."""
    from pydantic import ValidationError  # noqa: PLC0415  # only for plans in cases

    document = {"firmplan": 1, **plan}
    try:
        return Plan.model_validate(document)
    except ValidationError as error:
        raise PlanRejected(check(document, ())) from error


def _bytes_of(path: Path) -> bytes:
    """Return the bytes of a file beside a case. Raises: InputRejected: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputRejected(f"the artifact {path} cannot be read: {error.strerror or error}") from error


def _beside(path: Path, tools: str) -> str:
    """Return the path of a file of tools that is relative to the case; a module's name stays as it is."""
    return str(path.parent / tools) if tools.endswith(".py") or "/" in tools else tools


def _rewrite(path: Path, expect: Mapping[str, Json], now: Recall) -> None:
    """Replace the expectation in the file with the present result; the rest of the file stays as it is."""
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
    # Only the block of `expect` is exchanged as text: writing the complete document anew would lose the comments of the case.
    lines = text.splitlines(keepends=True)
    start = next((at for at, line in enumerate(lines) if line.startswith("expect:")), len(lines))
    inside = [at for at in range(start + 1, _end_of(lines, start)) if lines[at].startswith((" ", "\t", "-"))]
    end = max(inside, default=start) + 1
    before = "".join(lines[:start])
    gap = "" if not before or before.endswith("\n") else "\n"
    path.write_text(before + gap + block + "".join(lines[end:]), encoding="utf-8")


def _end_of(lines: Sequence[str], start: int) -> int:
    """Return the line where the next key of a case begins."""
    keys = (at for at in range(start + 1, len(lines)) if lines[at][:1].isalpha())
    return next(keys, len(lines))


def _expected_of(expect: Mapping[str, Json], now: Recall) -> dict[str, Json]:
    """Return the present result in the form of the expectation; status and output if nothing is expected yet."""
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


def is_rehearsable(golden: Golden) -> bool:
    """Whether the recorded run ended by itself, so that it can be run again."""
    recorded = golden.rehearsal.recorded
    return recorded is None or recorded.run.status in REHEARSABLE


# --- Golden tests as pytest collects them. A bundle has two items: `replay` checks that this firmplan still concludes what was recorded,
# and `rehearsal` that plan and tools as they are now give the same run. A case has one item, `golden`.


NO_TOOLS = "no tools are configured: name them in `firmplan_tools` of pytest's configuration, in firmplan.toml, or in a case"


class GoldenMismatch(AssertionError):  # noqa: N818  # the failure of a test, not an error of the program
    """The run of a golden test differs from its expectation; the message is for people."""


class GoldenFile(pytest.File):
    """A file of a golden test."""

    @override
    def collect(self) -> Iterator[pytest.Item]:

        if self.path.suffix != BUNDLE:
            yield self._item(GoldenItem, "golden")
            return
        yield self._item(ReplayItem, "replay")
        if not has_case(self.path):
            yield self._item(GoldenItem, "rehearsal")

    def _item(self, kind: type[pytest.Item], name: str) -> pytest.Item:
        return kind.from_parent(self, name=name)  # pyright: ignore[reportUnknownMemberType]  # pytest leaves it open


class _Item(pytest.Item):
    """An item whose failure is shown as a message, without a traceback."""

    @override
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, GoldenMismatch | FirmplanError):
            return f"{self.nodeid}\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    @override
    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        return self.path, None, f"{self.path.name} {self.name}"


class ReplayItem(_Item):
    """A recorded run still replays."""

    @override
    def runtest(self) -> None:

        if (mismatch := replay_mismatch(self.path)) is not None:
            raise GoldenMismatch(mismatch)


class GoldenItem(_Item):
    """The run of a plan is as it was recorded or written down."""

    @override
    def runtest(self) -> None:

        golden = read_golden(self.path)
        if not is_rehearsable(golden):
            pytest.skip("a run that was cancelled or stopped by its budget is only replayed")
        configured = _configured_tools(self.config, self.path.parent)
        named = golden.tools or configured
        if not named and golden.path.suffix == BUNDLE:  # the rehearsal would only repeat the replay
            pytest.skip(NO_TOOLS)
        tools = Toolset.load(list(named)) if named else Toolset()
        update = bool(self.config.getoption("firmplan_update"))
        if (mismatch := golden_mismatch(golden, tools, update=update)) is not None:
            raise GoldenMismatch(mismatch)


def _configured_tools(config: pytest.Config, folder: Path) -> tuple[str, ...]:
    """Return the files and modules of tools that pytest's configuration names, else those of `firmplan.toml`. Raises: ConfigError."""
    named: list[str] = config.getini("firmplan_tools")
    if named:
        root = config.rootpath
        return tuple(str(root / each) if each.endswith(".py") or "/" in each else each for each in named)
    from ..cli.config import read_settings  # noqa: PLC0415  # only where pytest's configuration names no tools

    return read_settings({}, os.environ, folder).tools
