"""What callers ask of a run, read and made to fit: options, inputs, budgets, values for steps.

All that can be wrong with an argument of the front door is found here, before anything is stored.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from ...errors import ConfigError, InputRejected
from ...plans import CheckReport, Plan
from ...plans.inputs import fit_inputs
from ...plans.nearest import did_you_mean, listing
from ...plans.problems import in_order
from ...plans.schema import literal_faults
from ...plans.values import Json, NotJson
from ...tools import Artifact
from ...tools.durations import parse_duration
from ..budget import LIMITS as BUDGET_LIMITS
from ..calls.clearance import UNSAFE_FLOW, Flow
from ..journal.header import Header, default_seed
from ..journal.lock import Lock
from ..policy import REUSE_MODES, ReuseMode
from ..sealed import Sealed

REPLANS_MAX: Final = 20  # patches of one plan: a plan that needs more is another plan
RUN_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is to be run."""

    run_id: str | None
    seed: str | int | None
    concurrency_max: int | None
    reuse: ReuseMode
    budget: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.reuse not in REUSE_MODES:
            raise ConfigError(f"reuse: expected one of {', '.join(REUSE_MODES)}, found {self.reuse!r}")
        if self.concurrency_max is not None:
            concurrency_of(self.concurrency_max)
        is_text = isinstance(cast("object", self.run_id), str)
        if self.run_id is not None and not (is_text and RUN_ID.fullmatch(self.run_id)):
            raise InputRejected(
                f"run_id: expected text of 1 to 128 of A-Z a-z 0-9 . _ : -, found {self.run_id!r:.200}"
            )

    def header(
        self,
        plan: Plan | None,
        inputs: Mapping[str, Json],
        plans: Mapping[str, Plan],
        lock: Lock,
        *,
        task: str | None,
    ) -> Header:
        """Return the header of a run."""
        seed = "" if self.seed is None else str(self.seed)
        if plan is not None and not seed:
            seed = default_seed(plan, inputs)
        return Header(
            plan,
            inputs,
            seed,
            lock,
            plans,
            task,
            reuse=self.reuse,
            concurrency_max=self.concurrency_max,
            budget=self.budget,
        )


def concurrency_of(given: object) -> int:
    """Return a limit on calls at a time. Raises: ConfigError."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigError(f"max_concurrency: expected an integer of at least 1, found {given!r}")
    return given


def person_of(by: object) -> str:
    """Return who decides. Raises: InputRejected: nobody is named."""
    if not isinstance(by, str) or not by.strip():
        raise InputRejected(f"by: expected the name of who decides, found {by!r}")
    return by


def edit_of(edit: object) -> Mapping[str, Json] | None:
    """Return edited arguments by name. Raises: InputRejected: they are none."""
    if edit is not None and not isinstance(edit, Mapping):
        raise InputRejected(f"edit: expected an object of arguments by name, found {edit!r:.200}")
    return cast("Mapping[str, Json] | None", edit)


def task_of(words: str) -> str:
    """Return a task's words. Raises: InputRejected: there are none."""
    if not words.strip():
        raise InputRejected("a task: expected words, found nothing; a plan is a Plan or a dict")
    if words.strip().lower().endswith((".yaml", ".yml", ".json")) and len(words.split()) == 1:
        raise InputRejected(
            f"a task: expected words, found the name of a file; write: Plan.load({words.strip()!r})"
        )
    return words


def fitted_inputs(plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """Return a plan's inputs, made to fit. Raises: InputRejected."""
    inputs, problems = fit_inputs(plan, given)
    if problems:
        raise InputRejected("\n".join(str(each) for each in problems), problems)
    return inputs


def value_for(report: CheckReport, path: str, value: Json) -> Sealed:
    """Return the value that a fork gives a step. Raises: InputRejected: it does not fit the step's type."""
    step, _, item = path.partition("[")
    schema: Any = report.types.get(step)
    if schema is None:
        known = list(report.types)
        raise InputRejected(
            f"set: the plan has no step '{step}': {did_you_mean(step, known, f'it has {listing(known)}')}"
        )
    if item:
        schema = {**schema.get("items", {}), **({"$defs": schema["$defs"]} if "$defs" in schema else {})}
    try:
        sealed = Sealed.of(value)
    except NotJson as fault:
        raise InputRejected(f"set: the value of '{path}' is no JSON: {fault}") from fault
    if faults := literal_faults(sealed.value, schema):
        raise InputRejected(f"set: the value of '{path}' does not fit its step: {faults[0].message}")
    return sealed


def judged(report: CheckReport, flow: Flow) -> CheckReport:
    """Return a report in which unsafe flows count as the engine's `flow` says."""
    if flow == "enforce":
        return report
    kept = [each for each in report.problems if flow == "warn" or each.code != UNSAFE_FLOW]
    lenient = (replace(each, severity="warning") if each.code == UNSAFE_FLOW else each for each in kept)
    return replace(report, problems=in_order(tuple(lenient)))


def budget_of(given: Mapping[str, float] | None) -> dict[str, float]:
    """Return a budget's limits by name. Raises: InputRejected."""
    if given is not None and not isinstance(cast("object", given), Mapping):
        raise InputRejected(
            f"budget: expected amounts by name, such as {{'steps': 100}}, found {given!r:.200}"
        )
    limits = dict(given or {})
    for name, amount in limits.items():
        if name not in BUDGET_LIMITS:
            hint = did_you_mean(str(name), BUDGET_LIMITS)
            raise InputRejected(
                f"budget: expected any of {listing(BUDGET_LIMITS)}, found {name!r}{f'; {hint}' if hint else ''}"
            )
        if not _is_amount(amount):
            raise InputRejected(f"budget: '{name}': expected a number from 0, found {amount!r}")
    return limits


def values_by_name(what: str, given: Mapping[str, Json] | None, example: str) -> Mapping[str, Json]:
    """Return values by name; none if none are given. Raises: InputRejected: it is no mapping from text."""
    if given is None:
        return {}
    names = cast("Any", given).keys() if isinstance(cast("object", given), Mapping) else [None]
    if not all(isinstance(name, str) for name in names):
        raise InputRejected(f"{what}: expected values by name, such as {example}, found {given!r:.200}")
    return given


def path_given(what: str, given: str | None) -> str | None:
    """Return a step's path. Raises: InputRejected: it is no text."""
    if given is not None and not isinstance(cast("object", given), str):
        raise InputRejected(f"{what}: expected a step's path, such as 'spots[3]', found {given!r:.200}")
    return given


def _is_amount(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < math.inf


def artifact_of(given: Artifact | Mapping[str, Json]) -> Artifact:
    """Return an artifact. Raises: InputRejected: it is none."""
    try:
        return Artifact.model_validate(given)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        raise InputRejected(
            f"an artifact: expected digest, media_type, size and name, found {given!r:.80}: {where}: {first['msg']}"
        ) from None


def bytes_of(given: bytes | os.PathLike[str]) -> bytes:
    """Return bytes, or those of a file. Raises: InputRejected: it cannot be read."""
    if isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as fault:
        raise InputRejected(
            f"{given}: expected a file that can be read, found: {fault.strerror or fault}"
        ) from None


def times_of(replan: int) -> int:
    """Return how often a plan may be patched. Raises: ConfigError."""
    if type(replan) is not int or not 0 <= replan <= REPLANS_MAX:
        raise ConfigError(f"replan: expected 0 to {REPLANS_MAX}, found {replan!r}")
    return replan


def limits_of(max_age: str | float | None, max_bytes: int | None) -> tuple[float | None, int | None]:
    """Return limits of the cache: seconds and bytes. Raises: InputRejected."""
    if max_bytes is not None and (isinstance(max_bytes, bool) or max_bytes < 0):
        raise InputRejected(f"max_bytes: expected at least 0, found {max_bytes!r}")
    try:
        return None if max_age is None else parse_duration(max_age), max_bytes
    except ValueError as fault:
        raise InputRejected(f"max_age: {fault}") from fault
