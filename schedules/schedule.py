"""A schedule and its fires: the values, their JSON, and the check of what a caller gives.

A fire is one time of a schedule, and what became of it. The run of a fire has an id that follows from the schedule and the time: whoever starts
it a second time, after a crash or on another server, finds the run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from ..errors import InputRejected
from ..executor import Submitter
from ..executor.calls.concurrency import PRIORITY_MAX
from ..executor.runs.archive import PLAN_NAME, qualified, split_name
from ..executor.runs.request import count_of
from ..executor.stores.api_keys import is_tenant
from ..plans.durations import parse_duration
from ..plans.expressions.dates import zone_of
from ..plans.values import Json, canonical, parse
from .times import Times, times_of

CatchUp: TypeAlias = Literal["skip", "latest", "all"]
"""What becomes of times that no process was there for."""
Overlap: TypeAlias = Literal["skip", "allow", "queue", "cancel"]
"""What a fire does while an earlier run of its schedule has not ended."""
FireState: TypeAlias = Literal["due", "started", "skipped", "missed", "failed"]
"""The state of a fire.

| state | meaning |
| --- | --- |
| `due` | the time was claimed, and its run is about to start, or waits for an earlier one |
| `started` | its run is in the store |
| `skipped` | an earlier run had not ended, or the schedule was paused meanwhile |
| `missed` | no process was there, and the rule for catching up left this time and `missed - 1` earlier ones out |
| `failed` | the run could not be submitted; `detail` says why |
"""

CATCH_UP_MAX: Final = 1_000  # times that one schedule catches up on: each is a run
CATCH_UP_DEFAULT: Final = 100
LATE_S: Final = 60.0  # a time that is noticed later was missed; a shorter interval is the limit instead
LATE_S_MIN: Final = 3.0  # a look at the schedules may come that late by itself
START_MAX: Final = 32_503_680_000.0  # Unix seconds of the year 3000: what is later is a mistake in the unit
ID_DIGITS: Final = 32  # hex digits of a run's id


@dataclass(frozen=True, slots=True)
class Schedule:
    """A saved plan that runs at certain times.

    Attributes:
        plan: The name of a saved plan, whichever stands under it at each time, or the digest of one.
        every: Seconds between two times; `None`: `cron` says when.
        cron: A cron expression of five fields.
        tz: The time zone of `cron`.
        inputs: Of each run.
        budget: Of each run.
        deadline: How long each run may take from its start, waits included, in seconds; `None`: as its plan says.
        time_input: The input that gets the time of the schedule, as ISO 8601 in `tz`; `None`: none does.
        catch_up: What becomes of times that no process was there for: `skip`, `latest` (one run, unless a later time has come) or `all`.
        catch_up_max: Most times that `all` catches up on, the newest.
        overlap: What a time does while an earlier run has not ended: `skip` it, `allow` both, `queue` one run behind the earlier, `cancel` the earlier.
        start: Unix seconds; no time is earlier, and intervals count from here.
        paused: Whether times pass without runs; they are not caught up on.
        submitter: Who submits the runs; `None`: it is not known.
        created: Unix seconds; with the name it tells one schedule from another.
        by: Who made it or last changed it; empty: not known.
        revision: Counts the changes.
        next_at: The next time that was not claimed yet, Unix seconds; `None`: there is none.
        tenant: Whose schedule it is, and whose plan and runs; empty: nobody's in particular.
        seen: The saved plans that it ran when it was made or last changed: name -> digest of the text. Who changes one of them later may not approve
            calls of the runs, like who made the schedule: else one person could decide what runs, and allow it.
        priority: Of each run: from 1, first, to 5, last; `None`: none, which is as 3.
    """

    name: str
    plan: str
    every: float | None = None
    cron: str | None = None
    tz: str = "UTC"
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    budget: Mapping[str, float] = field(default_factory=dict[str, float])
    time_input: str | None = None
    catch_up: CatchUp = "latest"
    catch_up_max: int = CATCH_UP_DEFAULT
    overlap: Overlap = "skip"
    start: float = 0.0
    paused: bool = False
    submitter: Submitter | None = None
    created: float = 0.0
    by: str = ""
    revision: int = 1
    next_at: float | None = None
    tenant: str = ""
    seen: Mapping[str, Json] = field(default_factory=dict[str, Json])
    deadline: float | None = None
    priority: int | None = None

    @property
    def full_name(self) -> str:
        """The name as engines take it: `TENANT:NAME` for a schedule of a tenant."""
        return qualified(self.name, self.tenant)

    @property
    def times(self) -> Times:
        """The times of the schedule."""
        return times_of(every=self.every, cron=self.cron, zone=self.tz, start=self.start)

    @property
    def late_s(self) -> float:
        """Seconds after which a time counts as missed."""
        return LATE_S if self.every is None else max(LATE_S_MIN, min(LATE_S, self.every))

    def next_times(self, after: float, count: int) -> list[float]:
        """Return the next times later than `after`, at most `count`."""
        found: list[float] = []
        times = self.times
        at = times.after(max(after, self.start - 1))
        while at is not None and len(found) < count:
            found.append(at)
            at = times.after(at)
        return found

    def inputs_at(self, at: float) -> dict[str, Json]:
        """Return the inputs of the run of one time."""
        if self.time_input is None:
            return dict(self.inputs)
        return {**self.inputs, self.time_input: datetime.fromtimestamp(at, zone_of(self.tz)).isoformat()}

    def run_id_at(self, at: float) -> str:
        """Return the id of the run of one time: it follows from the schedule and the time alone."""
        text = f"{self.tenant}\n{self.name}\n{self.created!r}\n{float(at)!r}"
        return "sched-" + hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]

    def changed(self, **changes: Any) -> Schedule:  # noqa: ANN401  # fields of several types
        """Return the schedule with other fields."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON, under its full name."""
        return {
            **self._settings(),
            "name": self.full_name,
            "start": self.start,
            "paused": self.paused,
            "created": self.created,
            "by": self.by or None,
            "revision": self.revision,
            "next_at": None if self.paused else self.next_at,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """Read `to_dict` back, as a server answers with it: without who submits the runs, and without the plans that it has seen."""
        tenant, own = split_name(data["name"])
        known: dict[str, Any] = {key: value for key, value in data.items() if key in cls.__slots__}
        known |= {"name": own, "tenant": tenant, "by": data["by"] or ""}
        return cls(**known)

    def _settings(self) -> dict[str, Json]:
        return {
            "plan": self.plan,
            "every": self.every,
            "cron": self.cron,
            "tz": self.tz,
            "inputs": dict(self.inputs),
            "budget": dict(self.budget),
            "time_input": self.time_input,
            "catch_up": self.catch_up,
            "catch_up_max": self.catch_up_max,
            "overlap": self.overlap,
            **({} if self.deadline is None else {"deadline": self.deadline}),
            **({} if self.priority is None else {"priority": self.priority}),
        }

    def to_text(self) -> str:
        """Return what the store keeps as text: everything that has no column of its own."""
        submitter = self.submitter.to_dict() if self.submitter is not None else None
        own: dict[str, Json] = {"start": self.start, "submitter": submitter, "seen": dict(self.seen)}
        return canonical({**self._settings(), **own}).decode()

    @classmethod
    def from_text(cls, text: str, **columns: Any) -> Schedule:  # noqa: ANN401  # fields of several types
        """Read it back. Settings that this version does not know are left out."""
        data = cast("dict[str, Any]", parse(text))
        submitter = data.pop("submitter", None)
        known = {key: value for key, value in data.items() if key in cls.__slots__}
        return cls(
            **known, **columns, submitter=Submitter.from_dict(submitter) if submitter is not None else None
        )


@dataclass(frozen=True, slots=True)
class Fire:
    """One time of a schedule, and what became of it.

    Attributes:
        at: The time, Unix seconds.
        state: See `FireState`.
        run_id: The run, also while it is about to start; `None`: there is none.
        noted: When the state was last changed, Unix seconds.
        detail: Why it was skipped or failed; empty: there is nothing to say.
        missed: Of a missed time, how many times were left out, at least: this one and earlier ones.
    """

    schedule: str
    at: float
    state: FireState
    run_id: str | None
    noted: float
    detail: str = ""
    missed: int = 0
    tenant: str = ""

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "schedule": qualified(self.schedule, self.tenant),
            "at": self.at,
            "state": self.state,
            "run_id": self.run_id,
            "noted": self.noted,
            "detail": self.detail or None,
            "missed": self.missed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fire:
        """Read `to_dict` back."""
        tenant, own = split_name(data["schedule"])
        known: dict[str, Any] = {key: value for key, value in data.items() if key in cls.__slots__}
        known |= {"schedule": own, "tenant": tenant, "detail": data["detail"] or ""}
        return cls(**known)


def _deadline_of(given: object) -> float | None:
    try:
        found = None if given is None else parse_duration(given)
    except ValueError as fault:
        raise InputRejected(f"deadline: {fault}") from fault
    if found == 0:
        raise InputRejected("deadline: expected a duration above zero, or none for no deadline, found 0")
    return found


def _priority_of(given: object) -> int | None:
    return None if given is None else count_of("priority", given, least=1, most=PRIORITY_MAX)


def new_schedule(name: object, plan: object, now: float, given: Mapping[str, Any]) -> Schedule:
    """Return a schedule as a caller describes it.

    Args:
        name: Its name; `TENANT:NAME` for a schedule of a tenant.
        plan: The name or digest of a saved plan.
        now: Unix seconds.
        given: Field -> value, as of `Schedule`; `start` may be text, and `None` stands for the default.

    Raises:
        InputRejected: A value is not valid.
    """
    tenant, own = split_name(name) if isinstance(name, str) else ("", "")
    if not PLAN_NAME.fullmatch(own) or not is_tenant(tenant):
        raise InputRejected(
            "a schedule's name: expected a letter or _, then at most 127 of A-Z a-z 0-9 . _ -, after TENANT: for a schedule of a tenant, "
            f"found {name!r:.200}"
        )
    if not isinstance(plan, str) or not plan:
        raise InputRejected(f"plan: expected the name or digest of a saved plan, found {plan!r:.200}")
    start = _start_of(given.get("start"), now)
    zone = given.get("tz") or "UTC"
    times = times_of(every=given.get("every"), cron=given.get("cron"), zone=zone, start=start)
    by = given.get("by") or ""
    submitter: Submitter | None = given.get("submitter")
    if tenant:  # the runs are the tenant's, whoever makes the schedule
        submitter = replace(submitter or Submitter(by or own), tenant=tenant)
    made = Schedule(
        own,
        plan,
        every=getattr(times, "seconds", None),
        cron=getattr(times, "expression", None),
        tz=_zone_of(zone),
        inputs=dict(given.get("inputs") or {}),
        budget=dict(given.get("budget") or {}),
        deadline=_deadline_of(given.get("deadline")),
        priority=_priority_of(given.get("priority")),
        time_input=_text_of("time_input", given.get("time_input")),
        catch_up=cast("CatchUp", _one_of("catch_up", given.get("catch_up"), get_args(CatchUp), "latest")),
        catch_up_max=CATCH_UP_DEFAULT
        if (most := given.get("catch_up_max")) is None
        else count_of("catch_up_max", most, least=1, most=CATCH_UP_MAX),
        overlap=cast("Overlap", _one_of("overlap", given.get("overlap"), get_args(Overlap), "skip")),
        start=start,
        paused=bool(given.get("paused")),
        submitter=submitter,
        created=now,
        by=by,
        tenant=tenant,
    )
    return made.changed(next_at=times.after(max(now, start - 1)))


def _start_of(given: object, now: float) -> float:
    """Return the start as whole seconds."""
    match given:
        case None:
            return float(math.floor(now))
        case bool():
            pass
        case int() | float() if math.isfinite(given) and 0 <= given < START_MAX:
            return float(math.floor(given))
        case str():
            try:
                found = datetime.fromisoformat(given)
            except ValueError:
                pass
            else:
                if found.tzinfo is not None and 0 <= found.timestamp() < START_MAX:
                    return float(math.floor(found.timestamp()))
        case _:
            pass
    raise InputRejected(
        f"start: expected a time with an offset, such as '2026-12-24T18:00:00+01:00', or Unix seconds, found {given!r:.80}"
    )


def _zone_of(zone: object) -> str:
    # An interval has no use for a zone but to write times; a faulty one is a mistake all the same.
    times_of(every=None, cron="0 0 * * *", zone=zone, start=0.0)
    return str(zone)


def _one_of(name: str, given: object, known: tuple[str, ...], default: str) -> str:
    if given is None:
        return default
    if given not in known:
        raise InputRejected(f"{name}: expected one of {', '.join(known)}, found {given!r:.80}")
    return str(given)


def _text_of(name: str, given: object) -> str | None:
    if given is not None and not (isinstance(given, str) and given):
        raise InputRejected(f"{name}: expected the name of an input, found {given!r:.80}")
    return given
