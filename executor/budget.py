"""The budget of a run, and the amounts that the run has used: steps, model calls, tokens, US dollars, seconds.

A call is reserved before it starts and settled when it has ended. `steps` and `model_calls` are reserved exactly. `tokens` and `usd` are
unknown before a call, so the reservation is the usage of the largest call so far (for tokens at least the call's own `max_tokens`). Rejected:
settling alone, which lets as many calls as run at a time start past the limit. Reused steps cost nothing, and time in which a run only waits
for people does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from ..plans.values import Json

LIMITS: Final = ("steps", "model_calls", "tokens", "usd", "seconds")
PLANNING: Final = ("model_calls", "tokens", "usd", "seconds")  # the limits that a planning counts against


@dataclass(slots=True)
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

    def needs_of(self, *, is_first: bool, is_model: bool, tokens_max: int | None) -> dict[str, float]:
        """Return the amounts that a call will need, as far as they are known before the call.

        Args:
            is_first: Whether it is the first call of its step.
            is_model: Whether a model is called.
            tokens_max: The limit on the tokens of the answer; `None`: the endpoint's own.
        """
        if not is_model:
            return {"steps": 1.0} if is_first else {}
        return {
            "steps": 1.0 if is_first else 0.0,
            "model_calls": 1.0,
            "tokens": max(self._largest["tokens"], tokens_max or 0.0),
            "usd": self._largest["usd"],
        }

    def reserve(self, step: str, needs: Mapping[str, float]) -> None:
        """Reserve the amounts that a call needs."""
        for name, amount in needs.items():
            self.spent[name] += amount
        # Steps are used as soon as they are reserved. Only a model call has amounts that `settle` has to correct.
        if len(needs) > 1:
            self._reserved[step] = {name: amount for name, amount in needs.items() if name != "steps"}

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


@dataclass(slots=True)
class PlanningCost:
    """The usage of all plannings of a run so far, and the rest of the budget.

    Attributes:
        now: Unix seconds.
        limits: Name -> the limit for the run, planning and steps together.
        own: Name -> how much of it steps have used before, as those of a run whose plan is patched.
        before: Name -> the amount that earlier plannings used.
    """

    now: Callable[[], float]
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    own: Mapping[str, float] = field(default_factory=dict[str, float])
    before: Mapping[str, float] = field(default_factory=dict[str, float])
    used: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PLANNING, 0.0))
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.now()

    def add(self, *, model_calls: int, tokens: int, usd: float | None) -> None:
        """Add the usage of requests."""
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
        return {**whole, "usd": spent["usd"], "seconds": spent["seconds"]}

    def _spent(self) -> dict[str, float]:
        used = {**self.used, "seconds": max(0.0, self.now() - self._started)}
        return {name: self.before.get(name, 0.0) + used[name] for name in PLANNING}


def added(before: Mapping[str, Json] | None, more: Mapping[str, Json] | None) -> Mapping[str, Json] | None:
    """Return the usage of several attempts of one call together."""
    if before is None or more is None:
        return more if before is None else before
    sums: dict[str, Json] = {
        name: amount_of(before, name) + amount_of(more, name) for name in ("calls", "tokens", "usd")
    }
    whole: dict[str, Json] = {name: int(cast("float", sums[name])) for name in ("calls", "tokens")}
    guards = added_verdicts(before.get(GUARDS), more.get(GUARDS))
    return {**before, **more, **sums, **whole, **({GUARDS: guards} if guards else {})}


GUARDS: Final = "guards"  # the part of a usage with the verdicts of guards


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
