"""The counters and histograms of one server for Prometheus; counted in this process since it started.

Names follow Prometheus' conventions: base units, `_total` for counters. A name that was published stays. Every label has a bounded number of
values: routes by their template, tools by the toolset, saved plans by their names, models up to a number; what is beyond is `other`. No
metric is computed from stored runs: what is counted is what this process has seen.

Each application has a registry of its own, so that two in one process do not share counters.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

from ..executor.events import (
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    JournalEvent,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepSkipped,
    StepSucceeded,
)
from ..executor.observer import ObservedCall, ObservedRun
from ..executor.states import FINAL
from ..tools.logbook import RequestContext
from ..tools.models.completion import (
    Answered,
    Completion,
    Invalid,
    ModelCall,
    Refused,
    TruncatedAnswer,
    Usage,
)
from ..tools.models.errors import ModelError

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds in seconds of requests, of waits for a start, and of single calls."""
LONG: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Bounds in seconds of runs: from a plan of a few computations to one that waits a day for a person."""
LONG_AND_QUICK: Final = (*QUICK, 60.0, 300.0, 900.0, 3600.0)
"""Bounds in seconds of steps: most are quick, and some wait for a model, a program or a retry."""
MODEL: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
"""Bounds in seconds of requests to models."""
NAMES_MAX: Final = 200
"""Values of a label whose values come from plans or settings; each is a set of time series for ever."""
PLANS_MAX: Final = 10_000
"""Saved plans whose names are known; runs of others count as `unsaved`."""
OTHER: Final = "other"
UNSAVED: Final = "unsaved"
SAVED: Final = "saved:"


M = TypeVar("M", Counter, Histogram)


class Metrics:
    """What one server counts. It is an observer of its engine (`executor/observer.py`)."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # Bounded, as the labels are.
        self._children: dict[tuple[object, ...], Counter | Gauge | Histogram] = {}
        self._plans: dict[str, str] = {}  # digest -> the name under which the plan is saved
        self._plan_names, self._models = _Names(NAMES_MAX), _Names(NAMES_MAX)
        started = self._gauge("start_time_seconds", "When this process started, Unix time.")
        started.set(round(time.time(), 3))
        self._requests = self._counter("http_requests", "Requests answered.", "method", "status")
        self._request_seconds = self._counter("http_request_seconds", "Time spent until the answer began.")
        self._request_durations = self._histogram(
            "http_request_duration_seconds",
            "Time until the answer began, by route.",
            QUICK,
            "method",
            "route",
            "status",
        )
        self._accepted = self._counter("runs_accepted", "Runs accepted, by what was sent.", "kind")
        for kind in ("plan", "task"):
            self._accepted.labels(kind)  # a counter that begins at 0 shows its first increase
        self._active = self._gauge("runs_active", "Runs that have not ended, by status.", "status")
        self.runs = self._histogram(
            "run_duration_seconds",
            "Time from the submission of a run to its end, waits for people included.",
            LONG,
            "plan",
            "outcome",
        )
        self.run_waits = self._histogram(
            "run_queue_seconds",
            "Time from the submission of a run to its first event, planning included.",
            QUICK,
        )
        self.steps = self._histogram(
            "step_duration_seconds",
            "Time from the first call of a step, item or iteration to its end, retries included.",
            LONG_AND_QUICK,
            "tool",
            "outcome",
        )
        self.calls = self._counter(
            "calls", "Calls of steps, by outcome; reused: an earlier result stood.", "tool", "outcome"
        )
        self.call_waits = self._histogram(
            "call_queue_seconds", "Time that a call which was ready has waited for its start.", QUICK, "tool"
        )
        self._answers = self._histogram(
            "model_request_duration_seconds",
            "Time of one request to a model, retries apart.",
            MODEL,
            "model",
            "outcome",
        )
        self._tokens = self._counter(
            "model_tokens",
            "Tokens of models, as endpoints count them; cached: those of input that were known.",
            "model",
            "kind",
        )
        self._usd = self._counter(
            "model_cost_usd", "Price of requests to models, where it is known.", "model"
        )

    def name_plan(self, digest: str, name: str) -> None:
        """Count the runs of a plan under the name that it is saved under."""
        if len(self._plans) >= PLANS_MAX:
            self._plans.pop(next(iter(self._plans)))  # the oldest
        self._plans[digest] = name

    def begin_run(self, run: ObservedRun) -> _RunCounter:
        """Count what becomes of a run."""
        return _RunCounter(self, run)

    def begin_trace(self, _run_id: str, _context: RequestContext | None) -> None:
        """Counters have no place in a trace."""

    def begin_request(self, call: ModelCall) -> _Asked:
        """Count a request to a model."""
        return _Asked(self, call.endpoint.name)

    def plan_name(self, run: ObservedRun) -> str:
        """Return the label for the plan of a run: plans that are not saved are one."""
        source = run.source or ""
        name = (
            source.removeprefix(SAVED) if source.startswith(SAVED) else self._plans.get(run.plan_digest or "")
        )
        return UNSAVED if name is None else self._plan_names.bounded(name)

    def note_answer(self, model: str, outcome: str, seconds: float, usage: Usage | None) -> None:
        """Count a request to a model that has ended."""
        model = self._models.bounded(model)
        self.child(self._answers, model, outcome).observe(seconds)
        if usage is None:
            return
        for kind, count in (
            ("input", usage.prompt_tokens),
            ("output", usage.completion_tokens),
            ("cached", usage.cached_tokens),
        ):
            self.child(self._tokens, model, kind).inc(count)
        if usage.usd is not None:
            self.child(self._usd, model).inc(usage.usd)

    def child(self, metric: M, *labels: str) -> M:
        """Return the series of a metric with these labels. The library's own look-up converts and locks, and costs three times this one."""
        key = (metric, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return cast("M", found)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose answer begins now."""
        code = str(status)
        self.child(self._requests, method, code).inc()
        self._request_seconds.inc(seconds)
        self.child(self._request_durations, method, route, code).observe(seconds)

    def note_accepted(self, kind: str) -> None:
        """Count an accepted run: a `plan` or a `task`."""
        self._accepted.labels(kind).inc()

    def text(self, active: Mapping[str, int]) -> str:
        """Return all metrics; `active` has the number of runs in each status that is not final."""
        for status, count in active.items():
            self._active.labels(status).set(count)
        return generate_latest(_WithoutBirths(self._registry)).decode()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"firmplan_{name}", words, labels, registry=self._registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"firmplan_{name}", words, labels, registry=self._registry)

    def _histogram(self, name: str, words: str, bounds: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"firmplan_{name}", words, labels, registry=self._registry, buckets=tuple(bounds))


class _Names:
    """The values of a label, up to a number."""

    def __init__(self, count_max: int) -> None:
        self._known: set[str] = set()
        self._count_max = count_max

    def bounded(self, name: str) -> str:
        """Return a name, or `OTHER` for a new one when there are too many."""
        if name not in self._known:
            if len(self._known) >= self._count_max:
                return OTHER
            self._known.add(name)
        return name


class _RunCounter:
    """Counts the calls, steps and the end of one run."""

    stands_around = False

    def __init__(self, metrics: Metrics, run: ObservedRun) -> None:
        self._metrics = metrics
        self._run = run
        self._begun: dict[str, float] = {}  # step -> when its first call began

    def note(self, event: JournalEvent, at: float) -> None:
        """Hear an event."""
        step: str = getattr(event, "step", "")
        if isinstance(event, CallStarted):
            self._begun.setdefault(step, at)
        elif (outcome := _CALL_OUTCOMES.get(type(event))) is not None:
            if isinstance(event, CallMade):
                self._begun.setdefault(step, event.started)
            self._metrics.child(self._metrics.calls, self._tool(step), outcome).inc()
            # Of the turns of an agent only the last one ends its step.
            if outcome == "succeeded" and self._run.has_ended(step):
                self._end_step(step, outcome, at)
        elif (outcome := _STEP_OUTCOMES.get(type(event))) is not None:
            self._end_step(step, outcome, at)
        elif isinstance(event, RunStarted):
            self._metrics.run_waits.observe(max(0.0, at - self._run.created))

    def _end_step(self, step: str, outcome: str, at: float) -> None:
        if (begun := self._begun.pop(step, None)) is not None:
            self._metrics.child(self._metrics.steps, self._tool(step), outcome).observe(max(0.0, at - begun))

    def _tool(self, step: str) -> str:
        return self._run.tool_of(step) or ""

    def note_wait(self, step: str, seconds: float) -> None:
        """Hear how long a call has waited."""
        self._metrics.child(self._metrics.call_waits, self._tool(step)).observe(max(0.0, seconds))

    def around(self, _call: ObservedCall) -> None:
        """Nothing is active while a call is made."""

    def around_planning(self) -> None:
        """Nothing is active while a task is planned."""

    def end(self, status: str | None, at: float) -> None:
        """Count the run, if it has ended."""
        if status is not None and status in FINAL:
            name = self._metrics.plan_name(self._run)
            self._metrics.child(self._metrics.runs, name, status).observe(max(0.0, at - self._run.created))


_CALL_OUTCOMES: Final[Mapping[type, str]] = {
    CallMade: "succeeded",
    CallSucceeded: "succeeded",
    CallFailed: "failed",
    CallLost: "lost",
    CallReused: "reused",
}
_STEP_OUTCOMES: Final[Mapping[type, str]] = {
    StepSucceeded: "succeeded",
    StepFailed: "failed",
    StepSkipped: "skipped",
    StepCancelled: "cancelled",
}


class _Asked:
    """Counts one request to a model."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._begun = time.perf_counter()

    def answered(self, completion: Completion) -> None:
        """Count an answer, which may be no answer to the question."""
        outcome = _OUTCOMES[type(completion.outcome)]
        self._metrics.note_answer(self._model, outcome, time.perf_counter() - self._begun, completion.usage)

    def failed(self, error: BaseException) -> None:
        """Count a request without an answer."""
        outcome = error.code if isinstance(error, ModelError) else "cancelled"
        self._metrics.note_answer(self._model, outcome, time.perf_counter() - self._begun, None)


_OUTCOMES: Final[Mapping[type, str]] = {
    Answered: "answered",
    Invalid: "invalid",
    Refused: "refused",
    TruncatedAnswer: "truncated",
}


class _WithoutBirths(Collector):
    """A registry without the `_created` series: in this format they are gauges of their own, one for each series, that nobody reads.

    The library switches them off for all registries of a process, or not at all.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
