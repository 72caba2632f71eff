"""Reads and validates the arguments of the engine's methods, before anything is stored.

The first part fits arguments to a plan: options, inputs, budgets, values for steps. The second part reads single arguments: ids, counts, files,
names of people. Each reader returns the value in the form that the executor uses, or raises an error that says what was expected and found. The
third part remembers the plans that have just passed their check.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast

import orjson
from pydantic import ValidationError

from ...errors import ConfigError, InputRejected, RunNotFound
from ...lazy_imports import late_pattern
from ...plans import CheckReport, Plan
from ...plans.durations import parse_duration, time_text
from ...plans.format.saved import find_plan_in, find_plan_of_json, references_of
from ...plans.format.shape import describe
from ...plans.immutable import immutable
from ...plans.inputs import InputSchemas, fit_inputs, given_by_clock, input_schemas, too_large
from ...plans.reports.errors import EvaluationError
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.reports.problems import in_order
from ...plans.types.integers import with_integers
from ...plans.types.standalone import self_contained
from ...plans.types.validate import value_problems
from ...plans.values import Json, NotJson, canonical, text_in_given_order
from ...plans.waits import time_of
from ...tools import Artifact
from ...tools.logbook import current_request
from .. import limits as bounds
from ..calls.concurrency import PRIORITY_MAX
from ..calls.flow.flow_policy import UNSAFE_FLOW, UNTRUSTED_CONDITION, Flow
from ..calls.flow.secrecy_policy import PRIVATE_CONDITION, PRIVATE_FLOW
from ..canonical_value import CanonicalValue
from ..journal.header import Header, Submitter, default_seed
from ..journal.toolset_lock import ToolsetLock
from ..lru_cache import LARGE_PLANS, IdentityCache, LruCache
from ..policy import REUSE_MODES, ReuseMode
from ..stores.api_keys import tenant_of
from ..stores.store import REPLAY
from .run import ARTIFACT_KEYS

if TYPE_CHECKING:
    from ...plans.python_types import OutputType

Value = TypeVar("Value")


@immutable
class Options:
    """The options of a run, validated."""

    run_id: str | None = None
    seed: str | int | None = None
    concurrency_max: int | None = None
    reuse: ReuseMode = "auto"
    budget: Mapping[str, float] = field(default_factory=dict[str, float])
    replan: int = 0
    submitter: Submitter | None = None
    request: str = ""
    schedule: Mapping[str, Json] | None = None
    deadline: float | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        if self.submitter is not None:
            person_of(self.submitter.name, "submitter")
            tenant_of(self.submitter.tenant)
        if not isinstance(cast("object", self.request), str):
            raise ConfigError(
                f"request: expected the digest of a request as text, found {describe(self.request)}"
            )
        if self.reuse not in REUSE_MODES:
            raise ConfigError(f"reuse: expected one of {', '.join(REUSE_MODES)}, found {self.reuse!r}")
        if self.concurrency_max is not None:
            count_of("max_concurrency", self.concurrency_max, least=1, error=ConfigError)
        if self.priority is not None:
            count_of("priority", self.priority, least=1, most=PRIORITY_MAX, error=ConfigError)
        if self.seed is not None:
            seed_of(self.seed)
        if self.run_id is not None:
            new_id_of("run_id", self.run_id)

    @property
    def tenant(self) -> str:
        """Whose the run is to be; empty: nobody's in particular."""
        return self.submitter.tenant if self.submitter is not None else ""

    def header(
        self,
        plan: Plan | None,
        inputs: Mapping[str, Json],
        plans: Mapping[str, Plan],
        lock: ToolsetLock,
        *,
        task: str | None,
    ) -> Header:
        """Return the header of a run."""
        seed = "" if self.seed is None else seed_of(self.seed)
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
            submitter=self.submitter,
            request=self.request,
            schedule=self.schedule,
            deadline=self.deadline,
            priority=self.priority,
            context=current_request.get(),
        )


_INPUT_SCHEMAS: Final = IdentityCache["Plan", InputSchemas](8)


def fitted_inputs(
    plan: Plan, given: Mapping[str, Json], now: Callable[[], float] | None = None
) -> dict[str, Json]:
    """Return a plan's inputs, normalised to their schemas.

    Args:
        plan: The plan.
        given: Values by name.
        now: What the time is, in Unix seconds, for the inputs that the clock gives where nobody else does; `None`: it gives none.

    Raises:
        InputRejected: An input does not fit, or is too large.
    """
    if not (plan.inputs or given):
        return {}
    if now is not None:
        given = {**given_by_clock(plan, now), **given}
    schemas = _INPUT_SCHEMAS.get(plan, input_schemas)
    inputs, problems = fit_inputs(plan, given, bytes_max=bounds.VALUE_BYTES_MAX, schemas=schemas)
    if problems:
        raise InputRejected("\n".join(str(each) for each in problems), problems)
    if len(inputs) > 1:
        _expect_room(inputs)
    return inputs


def output_type_of(returns: type[Value] | Mapping[str, Any] | None) -> OutputType[Value] | None:
    """Return the type that a caller wants of the output; `None`: any. Raises: ConfigError: it is none that JSON can carry."""
    if returns is None:
        return None
    from ...plans.python_types import OutputType  # noqa: PLC0415  # most runs have any output, and JSON as inputs

    return OutputType(returns)


def inputs_of(given: object) -> Mapping[str, Json]:
    """Return inputs by name: those of an object, or the fields of a model or a dataclass. Raises: InputRejected: the value is none of these."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return values_of("inputs", cast("Mapping[str, Json]", given))
    from ...plans.python_types import values_in  # noqa: PLC0415  # as above

    try:
        found = values_in(given)
    except NotJson as fault:
        raise InputRejected(f"inputs: expected values that JSON can carry, found at {fault}") from fault
    return values_of("inputs", found, "inputs")


def task_inputs(given: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the inputs of a task; it has no plan yet that declares them. Raises: InputRejected: they are not valid, or too large."""
    inputs = {name: as_json(value) for name, value in given.items()}
    problems = [
        too_large(name, size, bounds.VALUE_BYTES_MAX)
        for name, size in _sizes(inputs).items()
        if not bounds.is_small_enough(size)
    ]
    if problems:
        raise InputRejected("\n".join(str(each) for each in problems), problems)
    if len(inputs) > 1:
        _expect_room(inputs)
    return inputs


def as_json(value: Json) -> Json:
    """Return a value with models, dates and the like as JSON."""
    try:
        canonical(value)
    except NotJson:
        from ...plans.python_types import to_json  # noqa: PLC0415  # as above

        with suppress(NotJson):  # what is no JSON either way is told by whoever reads it, with its place
            return to_json(value)
    return value


def _expect_room(inputs: Mapping[str, Json]) -> None:
    """Raise `InputRejected` if several inputs together are too large: they are stored and read in one piece."""
    if (size := sum(_sizes(inputs).values())) > bounds.INPUTS_BYTES_MAX:
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


def value_for(report: CheckReport, path: str, value: Json) -> CanonicalValue:
    """Return the value that a fork gives a step.

    Args:
        report: The check of the plan, with the types of its steps.
        path: Path of a step or an item.
        value: The value.

    Raises:
        InputRejected: It does not fit the step's type.
    """
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
        sealed = CanonicalValue.of(as_json(value))
    except NotJson as fault:
        raise InputRejected(f"set: the value of '{path}' is no JSON: {fault}") from fault
    expect_small(f"set: the value of '{path}'", sealed)
    if faults := value_problems(sealed.value, schema):
        raise InputRejected(f"set: the value of '{path}' does not fit its step: {faults[0].message}")
    return CanonicalValue.of(with_integers(sealed.value, self_contained(schema)))


def expect_small(what: str, value: CanonicalValue) -> None:
    """Raise `InputRejected` where a value that a person gives is larger than a result may be."""
    if not bounds.is_small_enough(len(value.data)):
        raise InputRejected(str(bounds.too_large(len(value.data), what)))


def judged(report: CheckReport, flow: Flow) -> CheckReport:
    """Return a report in which unsafe flows have the severity that the engine's `flow` gives them."""
    match flow:
        case "enforce":
            return report
        case "strict":
            return with_severity(report, (UNTRUSTED_CONDITION, PRIVATE_CONDITION), "error")
        case "warn":
            return with_severity(report, (UNSAFE_FLOW, PRIVATE_FLOW), "warning")
        case "off":
            kept = tuple(each for each in report.problems if each.code not in (UNSAFE_FLOW, PRIVATE_FLOW))
            return replace(report, problems=kept)


def with_severity(
    report: CheckReport, codes: Collection[str], severity: Literal["error", "warning"]
) -> CheckReport:
    """Return a report in which the problems of these codes have this severity."""
    problems = (replace(each, severity=severity) if each.code in codes else each for each in report.problems)
    return replace(report, problems=in_order(problems))


def artifact_of(given: Artifact | Mapping[str, Json]) -> Artifact:
    """Return an artifact. Raises: InputRejected: the value is not one."""
    if isinstance(given, Mapping) and given.keys() >= ARTIFACT_KEYS:
        # What stands for a frame says more of it.
        given = {key: given[key] for key in ARTIFACT_KEYS}
    try:
        return Artifact.model_validate(given)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        raise InputRejected(
            f"an artifact: expected digest, media_type, size and name, found {given!r:.80}: {where}: {first['msg']}"
        ) from None


def limits_of(max_age: str | float | None, max_bytes: int | None) -> tuple[float | None, int | None]:
    """Return the limits of the cache, in seconds and bytes. Raises: InputRejected."""
    if max_bytes is not None:
        count_of("max_bytes", max_bytes)
    return age_of("max_age", max_age), max_bytes


def age_of(what: str, given: str | float | None) -> float | None:
    """Return an age in seconds; `None`: there is no limit. Raises: InputRejected: the value is not an age."""
    try:
        return None if given is None else parse_duration(given)
    except ValueError as fault:
        raise InputRejected(f"{what}: {fault}") from fault


# --- single arguments
#
# Callers hand in what they like, whatever the types say: over HTTP, from a model, from a shell. So each reader takes an `object`, and says what was
# expected in words of the caller's argument. Rejected: pydantic's validation of whole calls, whose messages name fields of a model that nobody
# wrote, and which would convert texts to numbers.


COUNT_MAX: Final = 2**63 - 1  # the largest integer of JSON and of stores
REPLANS_MAX: Final = 20  # patches of one plan: a plan that needs more is another plan
LEASE_S_MIN: Final = 1.0  # an owner renews its lease six times in that time, and timers are a moment late
LEASE_S_MAX: Final = 3600.0  # the longest time in which nobody takes over the runs of a dead machine
WRITE_GRACE_S_MAX: Final = 3600.0  # whoever stops a process wants it to end
RUN_ID: Final = late_pattern(r"[A-Za-z0-9._:-]{1,128}")
DERIVED_ID: Final = late_pattern(r"(key|sched)-[0-9a-f]{32}")
"""Ids that a server and schedules compute (`service/run_queue.py`, `schedules/schedule.py`). Others could compute them, too, and take them first."""


def run_of(run_id: object) -> str:
    """Return the id of a run. Raises: RunNotFound: no run can have it."""
    if not isinstance(run_id, str):
        raise RunNotFound(f"expected the id of a run, found {describe(run_id)}; `firmplan runs` lists them")
    if "\0" in run_id or not _is_writable(run_id):  # databases refuse such a text in a query
        raise RunNotFound(f"there is no run of that name: {describe(run_id)}; `firmplan runs` lists them")
    return run_id


def runs_of(run_ids: object) -> Sequence[str]:
    """Return a list of ids of runs. Raises: InputRejected: the value is no list; RunNotFound: no run can have one of the ids."""
    if not isinstance(run_ids, list | tuple):
        raise InputRejected(f"expected a list of ids of runs, found {describe(run_ids)}")
    return [run_of(each) for each in cast("Sequence[object]", run_ids)]


def step_of(step: object) -> str:
    """Return the path of a step. Raises: InputRejected: the value is no text."""
    if not isinstance(step, str):
        raise InputRejected(f"expected the path of a step, such as 'pay' or 'pay[0]', found {describe(step)}")
    return step


def words_of(given: object) -> str:
    """Return the words of a task. Raises: InputRejected: the text is empty, or the name of a file."""
    if not isinstance(given, str) or not given.strip():
        found = "nothing" if isinstance(given, str) else describe(given)
        raise InputRejected(f"a task: expected words, found {found}; a plan is a Plan or a dict")
    if not _is_writable(given):
        raise InputRejected(f"a task: expected words, found text with a lone surrogate: {given!r:.80}")
    if given.strip().lower().endswith((".yaml", ".yml", ".json")) and len(given.split()) == 1:
        raise InputRejected(
            f"a task: expected words, found the name of a file; write: Plan.load({given.strip()!r})"
        )
    return given


def values_of(what: str, given: Mapping[str, Value] | None, kind: str = "values") -> Mapping[str, Value]:
    """Return values by name; `None` means no values.

    Args:
        what: The name of the argument, for the message.
        given: Its value.
        kind: What it holds, for the message.

    Raises:
        InputRejected: The value is not an object with text keys.
    """
    if given is None:
        return {}
    if not isinstance(cast("object", given), Mapping):
        raise InputRejected(f"{what}: expected an object of {kind} by name, found {describe(given)}")
    names = cast("Mapping[object, Value]", given)
    for name in names:
        if not isinstance(name, str):
            raise InputRejected(f"{what}: expected names that are text, found {describe(name)}")
    return given


def count_of(
    what: str,
    given: object,
    *,
    least: int = 0,
    most: int = COUNT_MAX,
    error: type[InputRejected | ConfigError] = InputRejected,
) -> int:
    """Return an integer argument.

    Args:
        what: The name of the argument, for the message.
        given: Its value.
        least: The smallest valid value.
        most: The largest valid value.
        error: The error to raise; settings of an engine or a run raise `ConfigError`.

    Raises:
        InputRejected: The value is no integer, or out of its range.
        ConfigError: The same, for a setting.
    """
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        bounds = f"of at least {least}" if most == COUNT_MAX else f"from {least} to {most}"
        raise error(f"{what}: expected an integer {bounds}, found {describe(given)}")
    return given


def file_of(given: str | os.PathLike[str]) -> Path:
    """Return the path of a file. Raises: InputRejected: no file can have that name."""
    try:
        name = os.fspath(given)
    except TypeError:
        raise InputRejected(f"expected the path of a file, found {describe(given)}") from None
    if not isinstance(cast("object", name), str):
        raise InputRejected(f"expected the path of a file as text, found {describe(given)}")
    if not Path(name).name or "\0" in name or not _is_writable(name, os.fsencode):
        raise InputRejected(f"expected the path of a file, found {describe(name)}, which can be none")
    return Path(name)


def person_of(by: object, what: str = "by") -> str:
    """Return the name of a person: of the one who decides, or the submitter. Raises: InputRejected: the name is empty."""
    if not isinstance(by, str) or not by.strip() or not _is_writable(by):
        does = "decides" if what == "by" else "submits the run"
        raise InputRejected(f"{what}: expected the name of who {does}, found {describe(by)}")
    return by


def reason_of(what: str, given: object) -> str:
    """Return a reason as text; `None` means an empty text. Raises: InputRejected: the value is no text."""
    if given is None:
        return ""
    if not isinstance(given, str) or not _is_writable(given):
        wanted = "the name of who decides" if what == "by" else "words that say why"
        raise InputRejected(f"{what}: expected {wanted}, found {describe(given)}")
    return given


def author_of(by: object) -> str:
    """Return the name of who changes something, empty if it is not known. Raises: InputRejected: the value is no name that a store can keep."""
    found = reason_of("by", by)
    if "\0" in found:
        raise InputRejected(f"by: expected the name of a person or a program, found {describe(by)}")
    return found


def attempt_of(attempt: object) -> int | None:
    """Return the attempt that the decision is about, `None` for the attempt that waits now. Raises: InputRejected: the value is no count."""
    return None if attempt is None else count_of("attempt", attempt, least=1)


def decisions_of(given: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return decisions by path. Raises: InputRejected: the value is empty, or no object."""
    found = values_of("decisions", given, "decisions")
    if not found:
        raise InputRejected('decisions: expected at least one, such as {"pay[0]": "approve"}, found none')
    return found


def edit_of(edit: Mapping[str, Json] | None) -> Mapping[str, Json] | None:
    """Return edited arguments by name. Raises: InputRejected: the value is not an object."""
    if edit is None:
        return None
    return {name: as_json(value) for name, value in values_of("edit", edit, "arguments").items()}


def new_id_of(what: str, given: object) -> str | None:
    """Return the id for a new run, `None` if the engine chooses it. Raises: InputRejected: the id is not valid."""
    if given is not None and not (isinstance(given, str) and RUN_ID.fullmatch(given)):
        raise InputRejected(f"{what}: expected text of 1 to 128 of A-Z a-z 0-9 . _ : -, found {given!r:.200}")
    return given


def child_id_of(given: object) -> str | None:
    """Return the id for a fork or retry, as `new_id_of` does. Raises: InputRejected: also for an id that firmplan gives to other runs."""
    found = new_id_of("run_id_new", given)
    if found is not None and DERIVED_ID.fullmatch(found):
        raise InputRejected(
            "run_id_new: expected an id that does not look like those that follow from an idempotency key ('key-..') or from a schedule "
            f"('sched-..'), whose runs it would keep from being made; found {found!r}"
        )
    if found is not None and found.startswith(REPLAY):
        raise InputRejected(
            f"run_id_new: expected an id that does not begin with '{REPLAY}', as those of kept replays do, found {found!r}"
        )
    return found


def lease_of(given: object) -> float:
    """Return the length of a lease in seconds. Raises: ConfigError."""
    return _seconds_of("lease", given, LEASE_S_MIN, LEASE_S_MAX)


def write_grace_of(given: object) -> float:
    """Return how many seconds a closing engine waits for its writes in flight. Raises: ConfigError."""
    return _seconds_of("write_grace", given, 0, WRITE_GRACE_S_MAX)


def _seconds_of(what: str, given: object, least: float, most: float) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not least <= given <= most:
        raise ConfigError(
            f"{what}: expected a number of seconds from {least:g} to {most:g}, found {given!r:.80}"
        )
    return float(given)


def shares_rates(given: object) -> bool:
    """Return whether rates hold over all engines on a store. Raises: ConfigError: the setting is none."""
    if given not in ("shared", "process"):
        raise ConfigError(f"rate_limits: expected 'shared' or 'process', found {given!r:.80}")
    return given == "shared"


def expires_of(given: object) -> float | None:
    """Return how long approvals are waited for, in seconds; `None`: for ever. Raises: ConfigError."""
    try:
        found = None if given is None else parse_duration(given)
    except ValueError as fault:
        raise ConfigError(f"approval_expires: {fault}") from fault
    if found == 0:
        raise ConfigError("approval_expires: expected a duration above zero, or None for no limit, found 0")
    return found


def deadline_of(given: object, now: float) -> float | None:
    """Return the deadline of a run in Unix seconds; `None`: it has none.

    Args:
        given: How long the run may take, as a duration; or a time, as a `datetime` or its ISO text.
        now: Unix seconds.

    Raises:
        InputRejected: It is neither, or not in the future.
    """
    if given is None:
        return None
    try:
        if isinstance(given, datetime):
            found = time_of(given.isoformat())
        elif isinstance(given, str) and given[:4].isdigit() and given[4:5] == "-":
            found = time_of(given)
        else:
            found = now + parse_duration(given)
    except (ValueError, EvaluationError) as fault:
        hint = 'a deadline is a duration such as "2h", or a time such as "2026-12-24T18:00:00+01:00"'
        raise InputRejected(f"deadline: {fault}; {hint}") from fault
    if found <= now:
        raise InputRejected(
            f"deadline: expected a time in the future, found {given!s}, which is {time_text(found)}"
        )
    return found


def take_over_of(given: object) -> bool:
    """Return whether a run is taken over by force. Raises: InputRejected: the value is not a boolean."""
    if not isinstance(given, bool):
        raise InputRejected(f"take_over: expected true or false, found {describe(given)}")
    return given


def seed_of(given: object) -> str:
    """Return a seed as text, empty for `None`. Raises: ConfigError: it is neither text nor an integer."""
    if given is None:
        return ""
    is_text = isinstance(given, str) and _is_writable(given)
    if not is_text and (not isinstance(given, int) or isinstance(given, bool)):
        raise ConfigError(f"seed: expected text or an integer, found {describe(given)}")
    return str(given)


def times_of(replan: object) -> int:
    """Return how often a plan may be patched. Raises: ConfigError: the value is out of its range."""
    return count_of("replan", replan, most=REPLANS_MAX, error=ConfigError)


# JSON and databases hold no lone surrogates. Found here, the caller hears which argument has one; later, a commit of a run would fail.
def _is_writable(text: str, encode: Callable[[str], bytes] = str.encode) -> bool:
    """Whether a text can be encoded: a text with lone surrogates cannot, and neither stores nor JSON accept it."""
    try:
        encode(text)
    except UnicodeEncodeError:
        return False
    return True


# --- checked plans

_Name: TypeAlias = "int | bytes"


class GivenPlan:
    """A plan as its caller gave it, spelled once: the spelling names it among the plans that passed their check, and it is read from that.

    Args:
        given: The plan.
    """

    __slots__ = ("_text", "given", "name")

    def __init__(self, given: Plan | Mapping[str, Any]) -> None:
        self.given = given
        self.name: _Name | None = None
        self._text: bytes | None = None
        if isinstance(given, Plan):
            self.name = id(given)
            return
        # The given order is kept, which the digest of a plan leaves out: the properties of answers have an order.
        self._text = text_in_given_order(given) if isinstance(cast("object", given), dict) else None
        if self._text is not None:
            self.name = sha256(self._text).digest()
            return
        try:
            canonical(given)
            self.name = sha256(orjson.dumps(given)).digest()
        except (NotJson, orjson.JSONEncodeError):  # the check reports the problem
            pass

    def read(self) -> Plan | None:
        """Return the plan, or `None` if it has not the shape of one. What is read later is another object."""
        return find_plan_in(self.given) if self._text is None else find_plan_of_json(self._text)


@immutable
class _Checked:
    """A plan that passed its check, and the toolset it passed with. `given` is kept so that no other object gets its `id`."""

    plan: Plan
    given: object
    tools: object


class CheckedPlans:
    """The plans that have just passed their check: the same plan with the same tools is not checked again.

    A `Plan` is recognised by identity, a dict by its content. A plan that runs saved plans is never kept here: the plan that is saved under
    a name may change.
    """

    def __init__(self) -> None:
        self._recent: LruCache[_Name, _Checked] = LruCache(count_min=LARGE_PLANS)

    def find(self, plan: GivenPlan, tools: object) -> Plan | None:
        """Return the checked plan for what the caller gave, with these tools; `None`: it has to be checked."""
        found = None if plan.name is None else self._recent.find(plan.name)
        if found is None or found.tools is not tools:
            return None
        return found.plan if isinstance(plan.name, bytes) or found.given is plan.given else None

    def keep(self, plan: GivenPlan, tools: object, found: Plan) -> None:
        """Keep a plan that passed its check."""
        if plan.name is not None and not references_of(found):
            kept = _Checked(found, plan.given if isinstance(plan.given, Plan) else None, tools)
            self._recent.keep(plan.name, kept, len(found.steps))
