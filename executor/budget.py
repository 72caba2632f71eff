"""The budget of a run, and the amounts that the run has used: steps, calls, model calls, items of lists, tokens, US dollars, seconds.

A call is reserved before it starts and settled when it has ended. `steps`, `calls` and `model_calls` are reserved exactly. `tokens` and `usd` are
unknown before a call, so the reservation is the usage of the largest call so far (for tokens at least the call's own `max_tokens`). Rejected:
settling alone, which lets as many calls as run at a time start past the limit. Reused steps cost nothing, and time in which a run only waits
for people does not count. `items` are reserved when the items of a `for_each` are made, all items of a list together.

The budget of a run stands in its header: a caller's own limits, the engine's defaults, at most the engine's ceilings (`BudgetPolicy`). Replays and
resumes keep it, whatever the present engine's policy is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final, cast

from ..errors import ConfigError, InputRejected
from ..plans.format.shape import describe
from ..plans.immutable import immutable, record
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.values import Json

LIMITS: Final = ("calls", "items", "steps", "model_calls", "tokens", "usd", "seconds")
AMOUNT_MAX: Final = 2**63 - 1  # the largest integer of JSON and of stores
PLANNING: Final = ("model_calls", "tokens", "usd", "seconds")  # the limits that a planning counts against

# The needs of a tool's call, whose amounts are all known before it; shared, since most calls of a run have the same.
_FIRST: Final[Mapping[str, float]] = {"steps": 1.0, "calls": 1.0}
_AGAIN: Final[Mapping[str, float]] = {"calls": 1.0}
_SETTLED: Final = ("model_calls", "tokens", "usd")


@record
class Budget:
    """The budget of one run.

    Attributes:
        limits: Name -> its limit; a missing name has no limit.
        planning: Name -> the amount that the planning of the run used.
        spent: Name -> the amount that is used or reserved, by steps and planning together.
    """

    limits: dict[str, float] = field(default_factory=dict[str, float])
    planning: Mapping[str, float] = field(default_factory=dict[str, float])
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0.0))
    _largest: dict[str, float] = field(default_factory=lambda: {"tokens": 0.0, "usd": 0.0})
    _reserved: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    def __post_init__(self) -> None:
        for name, amount in self.planning.items():
            self.spent[name] += amount

    @property
    def own(self) -> dict[str, float]:
        """The amounts that the run's own steps have used or reserved."""
        return {name: amount - self.planning.get(name, 0.0) for name, amount in self.spent.items()}

    def find_short(self, needs: Mapping[str, float], seconds: float) -> str | None:
        """Return the first limit that a call with these needs would pass, or `None`."""
        if "seconds" in self.limits and seconds >= self.limits["seconds"]:
            return "seconds"
        # The cost of a planning is known only after its requests, so it may be past the limit already. Then no step starts.
        for name, amount in self.planning.items():
            if name in self.limits and amount > self.limits[name]:
                return name
        for name, amount in needs.items():
            limit = self.limits.get(name)
            if limit is not None and (self.spent[name] + amount > limit or self.spent[name] >= limit):
                return name
        return None

    def has_room_for(self, items: int) -> bool:
        """Whether a list of so many items may be made."""
        limit = self.limits.get("items")
        return limit is None or self.spent["items"] + items <= limit

    def needs_of(self, *, is_first: bool, is_model: bool, tokens_max: int | None) -> Mapping[str, float]:
        """Return the amounts that a call will need, as far as they are known before the call.

        Args:
            is_first: Whether it is the first call of its step.
            is_model: Whether a model is called.
            tokens_max: The limit on the tokens of the answer; `None`: the endpoint's own.
        """
        if not is_model:
            return _FIRST if is_first else _AGAIN
        return {
            "steps": 1.0 if is_first else 0.0,
            "calls": 1.0,
            "model_calls": 1.0,
            "tokens": max(self._largest["tokens"], tokens_max or 0.0),
            "usd": self._largest["usd"],
        }

    def count_call(self, *, is_first: bool) -> None:
        """Reserve the amounts that a call needs which asks no model: `needs_of` names the same."""
        if is_first:
            self.spent["steps"] += 1.0
        self.spent["calls"] += 1.0

    def reserve(self, step: str, needs: Mapping[str, float]) -> None:
        """Reserve the amounts that a call needs."""
        for name, amount in needs.items():
            self.spent[name] += amount
        # Steps and calls are used as soon as they are reserved. Only a model call has amounts that `settle` has to correct.
        if "model_calls" in needs:
            self._reserved[step] = {name: needs[name] for name in _SETTLED}

    def settle(self, step: str, usage: Mapping[str, Json] | None) -> None:
        """Replace the reservation of a call by the amounts that it used."""
        if usage is None and step not in self._reserved:  # not a model call
            return
        reserved = self._reserved.pop(step, None) or {}
        used = {
            "model_calls": amount_of(usage, "calls"),
            "tokens": amount_of(usage, "tokens"),
            "usd": amount_of(usage, "usd"),
        }
        # The usage of a call that was cut off is unknown. The request was sent, so it counts as a model call; tokens and dollars are given back.
        if usage is None:
            used["model_calls"] = reserved.get("model_calls", 0.0)
        for name, amount in used.items():
            self.spent[name] += amount - reserved.get(name, 0.0)
        for name in self._largest:
            self._largest[name] = max(self._largest[name], used[name])


@record
class PlanningCost:
    """The usage of all plannings of a run so far, and the rest of the budget.

    Attributes:
        now: Unix seconds.
        limits: Name -> the limit for the run, planning and steps together.
        own: Name -> how much of it steps have used before, as those of a run whose plan is patched.
        before: Name -> the amount that earlier plannings used.
        is_priced: Whether the prices of all models are known that were asked so far.
        cached: Tokens of prompts that an endpoint had in its cache.
    """

    now: Callable[[], float]
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    own: Mapping[str, float] = field(default_factory=dict[str, float])
    before: Mapping[str, float] = field(default_factory=dict[str, float])
    is_priced: bool = True
    cached: int = 0
    used: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PLANNING, 0.0))
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.now()

    def add(self, *, model_calls: int, tokens: int, usd: float | None, cached: int = 0) -> None:
        """Add the usage of requests.

        Args:
            model_calls: Requests that were answered.
            tokens: Of prompts and answers.
            usd: The price; `None`: nobody knows it.
            cached: Tokens of the prompts that the endpoint had in its cache.
        """
        self.is_priced = self.is_priced and (usd is not None or not model_calls)
        self.cached += cached
        self.used["model_calls"] += model_calls
        self.used["tokens"] += tokens
        self.used["usd"] += usd or 0.0

    @property
    def rest(self) -> dict[str, float]:
        """The limits, less the usage of the run's own steps."""
        return {name: max(0.0, limit - self.own.get(name, 0.0)) for name, limit in self.limits.items()}

    @property
    def left(self) -> dict[str, float]:
        """The limits of a planner that begins now; a missing name has no limit."""
        spent = self._spent()
        return {name: max(0.0, most - spent[name]) for name, most in self.rest.items() if name in spent}

    def to_dict(self) -> dict[str, Json]:
        """Return the usage of all plannings, as `usage.planning` shows it."""
        spent = self._spent()
        whole: dict[str, Json] = {name: round(spent[name]) for name in ("model_calls", "tokens")}
        usd = spent["usd"] if self.is_priced else None
        made = {**whole, "usd": usd, "seconds": spent["seconds"]}
        return {**made, CACHED: self.cached} if self.cached else made

    def _spent(self) -> dict[str, float]:
        used = {**self.used, "seconds": max(0.0, self.now() - self._started)}
        return {name: self.before.get(name, 0.0) + used[name] for name in PLANNING}


def usage_of_models(calls: int, tokens: int, usd: float | None, cached: int) -> dict[str, Json]:
    """Return the usage of requests to models, as records of calls have it.

    Args:
        calls: Requests that were answered.
        tokens: Of prompts and answers.
        usd: The price; `None`: nobody knows it.
        cached: Tokens of the prompts that the endpoint had in its cache.
    """
    made: dict[str, Json] = {"calls": calls, "tokens": tokens}
    if usd is not None:
        made["usd"] = usd
    return {**made, CACHED: cached} if cached else made


def added(before: Mapping[str, Json] | None, more: Mapping[str, Json] | None) -> Mapping[str, Json] | None:
    """Return the usage of several attempts of one call together."""
    if before is None or more is None:
        return more if before is None else before
    sums: dict[str, Json] = {
        name: amount_of(before, name) + amount_of(more, name) for name in ("calls", "tokens", "usd")
    }
    whole: dict[str, Json] = {name: int(cast("float", sums[name])) for name in ("calls", "tokens")}
    if CACHED in before or CACHED in more:
        whole[CACHED] = int(amount_of(before, CACHED) + amount_of(more, CACHED))
    is_known = is_priced(before) and is_priced(more)
    guards = added_verdicts(before.get(GUARDS), more.get(GUARDS))
    made: dict[str, Json] = {**before, **more, **sums, **whole, **({GUARDS: guards} if guards else {})}
    return {name: value for name, value in made.items() if is_known or name != "usd"}


GUARDS: Final = "guards"  # the part of a usage with the verdicts of guards
CACHED: Final = "cached_tokens"  # the part of a usage with the tokens of prompts that an endpoint had in its cache; absent: none


def is_priced(usage: Mapping[str, Json]) -> bool:
    """Whether the price of a usage is known; a call that asked no model costs nothing."""
    # Records of earlier versions have null for a price that is not known, and count it as 0: their runs are shown as they were.
    return "usd" in usage or not amount_of(usage, "calls")


def added_verdicts(before: Json, more: Json) -> dict[str, Json]:
    """Return the verdicts of guards on several calls together: the counts are added, the newest reason stands."""
    found: dict[str, Json] = dict(before) if isinstance(before, dict) else {}
    for name, verdict in more.items() if isinstance(more, dict) else ():
        known, new = found.get(name), cast("dict[str, Json]", verdict)
        if isinstance(known, dict):
            sums: dict[str, Json] = {
                key: int(amount_of(known, key) + amount_of(new, key)) for key in ("held", "refused")
            }
            new = {**known, **new, **sums}
        found[name] = new
    return found


def amounts_in(budget: Mapping[str, Json]) -> dict[str, float]:
    """Return the limits of a budget that was read from a record."""
    return {name: float(amount) for name, amount in budget.items() if isinstance(amount, int | float)}


def amount_of(usage: Mapping[str, Json] | None, name: str) -> float:
    """Return one amount of a usage; 0 if it is unknown."""
    value = usage.get(name) if usage is not None else None
    return float(value) if isinstance(value, int | float) else 0.0


# --- budgets that people write


def budget_of(given: Mapping[str, float] | None) -> dict[str, float]:
    """Return a budget's limits by name. Raises: InputRejected."""
    return _amounts_of("budget", given)


def _amounts_of(where: str, given: Mapping[str, float] | None) -> dict[str, float]:
    if given is not None and not isinstance(cast("object", given), Mapping):
        raise InputRejected(
            f"{where}: expected amounts by name, such as {{'steps': 100}}, found {given!r:.200}"
        )
    limits = dict(given or {})
    for name, amount in limits.items():
        if name not in LIMITS:
            hint = did_you_mean(str(name), LIMITS)
            raise InputRejected(
                f"{where}: expected any of {listing(LIMITS)}, found {name!r}{f'; {hint}' if hint else ''}"
            )
        if not _is_amount(amount):
            raise InputRejected(f"{where}: '{name}': expected a number from 0, found {describe(amount)}")
    return limits


@immutable
class BudgetPolicy:
    """The budgets that an engine gives its runs.

    Attributes:
        default: Name -> the limit of a run whose caller sets none.
        ceiling: Name -> the limit that no caller can pass; also the limit where nobody sets another one.
    """

    default: Mapping[str, float] = field(default_factory=dict[str, float])
    ceiling: Mapping[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, default: Mapping[str, float] | None, ceiling: Mapping[str, float] | None) -> BudgetPolicy:
        """Return the policy of an engine's settings. Raises: ConfigError: one of them is no budget, or a default is above its ceiling."""
        try:
            made = cls(budget_of(default), _amounts_of("budget_max", ceiling))
        except InputRejected as fault:
            raise ConfigError(fault.message) from fault
        for name, amount in made.default.items():
            if amount > (most := made.ceiling.get(name, math.inf)):
                raise ConfigError(
                    f"budget: '{name}': expected at most {most}, the ceiling of budget_max, found {amount}: lower the default or raise the ceiling"
                )
        return made

    def for_run(self, given: Mapping[str, float] | None) -> dict[str, float]:
        """Return the budget of a run whose caller asks for this one. Raises: InputRejected: it is no budget, or past a ceiling."""
        return {**self.ceiling, **self.default, **({} if given is None else self.within(given))}

    def within(self, given: Mapping[str, float] | None) -> dict[str, float]:
        """Return a caller's limits. Raises: InputRejected: they are no budget, or one is past its ceiling."""
        limits = budget_of(given)
        for name, amount in limits.items():
            if amount > (most := self.ceiling.get(name, math.inf)):
                raise InputRejected(
                    f"budget: '{name}': expected at most {most}, the ceiling of this engine (budget_max), found {amount}"
                )
        return limits

    def lowered(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Return the budget of a run that follows from another one, whose limits these are."""
        made = {**self.ceiling, **self.default, **limits}
        return {name: min(amount, self.ceiling.get(name, math.inf)) for name, amount in made.items()}


def _is_amount(given: object) -> bool:
    if isinstance(given, float):
        return 0 <= given < math.inf
    return isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= AMOUNT_MAX
