"""What callers ask of a run, read and made to fit: options, inputs, budgets, values for steps.

All that can be wrong with an argument of the front door is found here, before anything is stored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import ValidationError

from ...errors import ConfigError, InputRejected
from ...plans import CheckReport, Plan
from ...plans.format.shape import describe
from ...plans.inputs import fit_inputs, too_large
from ...plans.nearest import did_you_mean, listing
from ...plans.problems import in_order
from ...plans.types.integers import with_integers
from ...plans.types.standalone import self_contained
from ...plans.types.validate import value_problems
from ...plans.values import Json, NotJson, canonical
from ...tools import Artifact
from ...tools.durations import parse_duration
from .. import limits as bounds
from ..budget import LIMITS as BUDGET_LIMITS
from ..calls.clearance import UNSAFE_FLOW, Flow
from ..journal.header import Header, default_seed
from ..journal.lock import Lock
from ..policy import REUSE_MODES, ReuseMode
from ..sealed import Sealed
from .arguments import COUNT_MAX, concurrency_of, count_of, file_of, new_id_of, seed_of, values_of


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is to be run."""

    run_id: str | None
    seed: str | int | None
    concurrency_max: int | None
    reuse: ReuseMode
    budget: Mapping[str, float]
    replan: int = 0

    def __post_init__(self) -> None:
        if self.reuse not in REUSE_MODES:
            raise ConfigError(f"reuse: expected one of {', '.join(REUSE_MODES)}, found {self.reuse!r}")
        if self.concurrency_max is not None:
            concurrency_of(self.concurrency_max)
        seed_of(self.seed)
        new_id_of("run_id", self.run_id)

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
        seed = seed_of(self.seed)
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
            replan=self.replan,
        )


def fitted_inputs(plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """Return a plan's inputs, normalised to their schemas. Raises: InputRejected: an input does not fit, or is too large."""
    inputs, problems = fit_inputs(plan, given, bytes_max=bounds.VALUE_BYTES_MAX)
    if problems:
        raise InputRejected("\n".join(str(each) for each in problems), problems)
    _expect_room(inputs)
    return inputs


def task_inputs(given: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """Return the inputs of a task; it has no plan yet that declares them. Raises: InputRejected: they are not valid, or too large."""
    inputs = values_of("inputs", given)
    problems = [
        too_large(name, size, bounds.VALUE_BYTES_MAX)
        for name, size in _sizes(inputs).items()
        if not bounds.is_small_enough(size)
    ]
    if problems:
        raise InputRejected("\n".join(str(each) for each in problems), problems)
    _expect_room(inputs)
    return inputs


def _expect_room(inputs: Mapping[str, Json]) -> None:
    """Raise `InputRejected` if the inputs together are too large: they are stored and read in one piece."""
    if len(inputs) > 1 and (size := sum(_sizes(inputs).values())) > bounds.INPUTS_BYTES_MAX:
        raise InputRejected(
            f"inputs: expected at most {bounds.INPUTS_BYTES_MAX // bounds.MIB} MiB of JSON in all, found "
            f"{size / bounds.MIB:.1f} MiB; keep bytes with save_artifact and hand over the Artifact, or have a tool read them"
        )


def _sizes(inputs: Mapping[str, Json]) -> dict[str, int]:
    """Return the size of each value as JSON; a value that is no JSON counts as 0 here, and its reader reports it."""
    sizes: dict[str, int] = {}
    for name, value in inputs.items():
        with suppress(NotJson):
            sizes[name] = len(canonical(value))
    return sizes


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
    expect_small(f"set: the value of '{path}'", sealed)
    if faults := value_problems(sealed.value, schema):
        raise InputRejected(f"set: the value of '{path}' does not fit its step: {faults[0].message}")
    return Sealed.of(with_integers(sealed.value, self_contained(schema)))


def expect_small(what: str, value: Sealed) -> None:
    """Raise `InputRejected` where a value that a person gives is larger than a result may be."""
    if not bounds.is_small_enough(len(value.data)):
        raise InputRejected(str(bounds.too_large(len(value.data), what)))


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
            raise InputRejected(f"budget: '{name}': expected a number from 0, found {describe(amount)}")
    return limits


def _is_amount(given: object) -> bool:
    if isinstance(given, float):
        return 0 <= given < math.inf
    return isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= COUNT_MAX


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
        return file_of(given).read_bytes()
    except OSError as fault:
        raise InputRejected(
            f"{given}: expected a file that can be read, found: {fault.strerror or fault}"
        ) from None


def limits_of(max_age: str | float | None, max_bytes: int | None) -> tuple[float | None, int | None]:
    """Return limits of the cache: seconds and bytes. Raises: InputRejected."""
    if max_bytes is not None:
        count_of("max_bytes", max_bytes)
    return age_of("max_age", max_age), max_bytes


def age_of(what: str, given: str | float | None) -> float | None:
    """Return an age in seconds; `None`: there is no limit. Raises: InputRejected: it is none."""
    try:
        return None if given is None else parse_duration(given)
    except ValueError as fault:
        raise InputRejected(f"{what}: {fault}") from fault
