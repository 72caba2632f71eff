"""The counters and histograms of one server, or one worker, for Prometheus; counted in this process since it started.

Names follow Prometheus' conventions: base units, `_total` for counters. A name that was published stays. Every label has a bounded number of
values: routes by their template, tools by the toolset, saved plans by their names, models up to a number; what is beyond is `other`. No
metric is computed from stored runs: what is counted is what this process has seen.

Each application has counters of its own, so that two in one process do not share them. A worker serves nothing else, so the library's own small server
exposes its counters, from a thread: they answer also while a tool blocks the event loop.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Metric, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from ..errors import ConfigError
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
PREFIX: Final = "firmplan_"

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


class Metrics:
    """What one server or worker counts. It is an observer of its engine (`executor/observer.py`).

    Args:
        slots: How many runs at a time a worker drives; `None`: it is a server, which also counts requests and the runs of its store.
    """

    def __init__(self, slots: int | None = None) -> None:
        self._slots = slots
        self.driven = 0  # runs that this process drives now
        self._plans: dict[str, str] = {}  # digest -> the name under which the plan is saved
        self._plan_names, self._models = _Names(NAMES_MAX), _Names(NAMES_MAX)
        self._started = round(time.time(), 3)
        self._active: Mapping[str, int] = {}
        self._requests = _Histogram(
            "http_request_duration_seconds",
            "Time until the answer began, by route.",
            QUICK,
            "method",
            "route",
            "status",
        )
        self._accepted = _Counter("runs_accepted", "Runs accepted, by what was sent.", "kind")
        for kind in ("plan", "task"):
            self._accepted.add(kind, amount=0)  # a counter that begins at 0 shows its first increase
        self.runs = _Histogram(
            "run_duration_seconds",
            "Time from the submission of a run to its end, waits for people included.",
            LONG,
            "plan",
            "outcome",
        )
        self.run_waits = _Histogram(
            "run_queue_seconds",
            "Time from the submission of a run to its first event, planning included.",
            QUICK,
        )
        self.steps = _Histogram(
            "step_duration_seconds",
            "Time from the first call of a step, item or iteration to its end, retries included.",
            LONG_AND_QUICK,
            "tool",
            "outcome",
        )
        self.calls = _Counter(
            "calls", "Calls of steps, by outcome; reused: an earlier result stood.", "tool", "outcome"
        )
        self.call_waits = _Histogram(
            "call_queue_seconds", "Time that a call which was ready has waited for its start.", QUICK, "tool"
        )
        self._answers = _Histogram(
            "model_request_duration_seconds",
            "Time of one request to a model, retries apart.",
            MODEL,
            "model",
            "outcome",
        )
        self._tokens = _Counter(
            "model_tokens",
            "Tokens of models, as endpoints count them; cached: those of input that were known.",
            "model",
            "kind",
        )
        self._usd = _Counter("model_cost_usd", "Price of requests to models, where it is known.", "model")

    def name_plan(self, digest: str, name: str) -> None:
        """Count the runs of a plan under the name that it is saved under."""
        if len(self._plans) >= PLANS_MAX:
            self._plans.pop(next(iter(self._plans)))  # the oldest
        self._plans[digest] = name

    def begin_run(self, run: ObservedRun) -> _RunCounter:
        """Count what becomes of a run."""
        self.driven += 1
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
        self._answers.add(model, outcome, seconds=seconds)
        if usage is None:
            return
        for kind, count in (
            ("input", usage.prompt_tokens),
            ("output", usage.completion_tokens),
            ("cached", usage.cached_tokens),
        ):
            self._tokens.add(model, kind, amount=count)
        if usage.usd is not None:
            self._usd.add(model, amount=usage.usd)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose answer begins now."""
        self._requests.add(method, route, str(status), seconds=seconds)

    def note_accepted(self, kind: str) -> None:
        """Count an accepted run: a `plan` or a `task`."""
        self._accepted.add(kind)

    def text(self, active: Mapping[str, int]) -> str:
        """Return all metrics; `active` has the number of runs in each status that is not final."""
        self._active = {**self._active, **active}
        return generate_latest(self).decode()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as a registry of the library does."""
        yield GaugeMetricFamily(
            f"{PREFIX}start_time_seconds", "When this process started, Unix time.", self._started
        )
        if self._slots is None:
            yield from self._of_server()
        else:
            yield GaugeMetricFamily(
                f"{PREFIX}worker_slots", "Runs that this worker drives at most at a time.", self._slots
            )
        yield GaugeMetricFamily(f"{PREFIX}runs_driven", "Runs that this process drives now.", self.driven)
        for each in (
            self.runs,
            self.run_waits,
            self.steps,
            self.calls,
            self.call_waits,
            self._answers,
            self._tokens,
            self._usd,
        ):
            yield each.family()

    def _of_server(self) -> Iterator[Metric]:
        yield from self._requests_in_all()
        yield self._requests.family()
        yield self._accepted.family()
        active = GaugeMetricFamily(
            f"{PREFIX}runs_active", "Runs that have not ended, by status.", labels=["status"]
        )
        for status, count in self._active.items():
            active.add_metric([status], count)
        yield active

    def _requests_in_all(self) -> Iterator[Metric]:
        """Yield the older counters of requests, which the histogram by route contains."""
        counts, seconds = Counter[tuple[str, ...]](), 0.0
        for (method, _, status), series in self._requests.series():
            counts[method, status] += sum(series.counts)
            seconds += series.sum
        requests = CounterMetricFamily(
            f"{PREFIX}http_requests", "Requests answered.", labels=["method", "status"]
        )
        for labels, count in counts.items():
            requests.add_metric(labels, count)
        yield requests
        yield CounterMetricFamily(
            f"{PREFIX}http_request_seconds", "Time spent until the answer began.", seconds
        )


@contextmanager
def exposed(metrics: Metrics, host: str, port: int) -> Generator[str]:
    """Serve metrics at /metrics, without a key, from a thread; the URL is handed out.

    Args:
        metrics: What a process counts.
        host: The interface.
        port: 0 takes a free one.

    Raises:
        ConfigError: The port cannot be had.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as fault:
        raise ConfigError(
            f"metrics cannot be served at {host}:{port}: {fault}; name another port (0: a free one)"
        ) from fault
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# The library's own counters and histograms convert, check and lock at each of the nine times that a run of three steps is counted, which costs more than a
# step. Here counting is an addition, and the library writes what was counted.


class _Counter:
    """A counter with labels.

    Args:
        name: Without the prefix and `_total`.
        words: What it counts.
        labels: The names of its labels.
    """

    def __init__(self, name: str, words: str, *labels: str) -> None:
        self._name, self._words, self._labels = name, words, labels
        self._amounts: dict[tuple[str, ...], float] = {}
        self._lock = Lock()  # a tool in a thread may ask a model

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count in the series with these values of the labels."""
        with self._lock:
            self._amounts[labels] = self._amounts.get(labels, 0) + amount

    def family(self) -> Metric:
        """Return what was counted."""
        found = CounterMetricFamily(PREFIX + self._name, self._words, labels=self._labels)
        for labels, amount in list(self._amounts.items()):
            found.add_metric(labels, amount)
        return found


class _Series:
    """One series of a histogram: how many values each bucket has, the last one for what is past every bound, and the sum of the values."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


class _Histogram:
    """A histogram of seconds.

    Args:
        name: Without the prefix.
        words: What it measures.
        bounds: The upper bounds of its buckets, each included.
        labels: The names of its labels.
    """

    def __init__(self, name: str, words: str, bounds: Sequence[float], *labels: str) -> None:
        self._name, self._words, self._bounds, self._labels = name, words, bounds, labels
        self._series: dict[tuple[str, ...], _Series] = {}
        self._lock = Lock()
        if not labels:
            self._series[()] = _Series(len(bounds) + 1)

    def add(self, *labels: str, seconds: float) -> None:
        """Count a value in the series with these values of the labels."""
        with self._lock:
            series = self._series.get(labels)
            if series is None:
                series = self._series[labels] = _Series(len(self._bounds) + 1)
            series.counts[bisect_left(self._bounds, seconds)] += 1
            series.sum += seconds

    def series(self) -> list[tuple[tuple[str, ...], _Series]]:
        """Return the series by the values of their labels."""
        return list(self._series.items())

    def family(self) -> Metric:
        """Return what was counted."""
        found = HistogramMetricFamily(PREFIX + self._name, self._words, labels=self._labels)
        bounds = [*map(str, self._bounds), "+Inf"]
        for labels, series in self.series():
            found.add_metric(labels, list(zip(bounds, accumulate(series.counts), strict=True)), series.sum)
        return found


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
            self._metrics.calls.add(self._tool(step), outcome)
            # Of the turns of an agent only the last one ends its step.
            if outcome == "succeeded" and self._run.has_ended(step):
                self._end_step(step, outcome, at)
        elif (outcome := _STEP_OUTCOMES.get(type(event))) is not None:
            self._end_step(step, outcome, at)
        elif isinstance(event, RunStarted):
            self._metrics.run_waits.add(seconds=max(0.0, at - self._run.created))

    def _end_step(self, step: str, outcome: str, at: float) -> None:
        if (begun := self._begun.pop(step, None)) is not None:
            self._metrics.steps.add(self._tool(step), outcome, seconds=max(0.0, at - begun))

    def _tool(self, step: str) -> str:
        return self._run.tool_of(step) or ""

    def note_wait(self, step: str, seconds: float) -> None:
        """Hear how long a call has waited."""
        self._metrics.call_waits.add(self._tool(step), seconds=max(0.0, seconds))

    def around(self, _call: ObservedCall) -> None:
        """Nothing is active while a call is made."""

    def around_planning(self) -> None:
        """Nothing is active while a task is planned."""

    def end(self, status: str | None, at: float) -> None:
        """Count the run, if it has ended."""
        self._metrics.driven -= 1
        if status is not None and status in FINAL:
            name = self._metrics.plan_name(self._run)
            self._metrics.runs.add(name, status, seconds=max(0.0, at - self._run.created))


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
