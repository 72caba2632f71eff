"""The counters and histograms of one server for Prometheus; counted in this process since it started.

Names follow Prometheus' conventions: base units, `_total` for counters. A name that was published stays. Every label has a bounded number of
values: routes by their template, tools by the toolset, saved plans by their names, models up to a number; what is beyond is `other`. No
metric is computed from stored runs: what is counted is what this process has seen.

Each application has a registry of its own, so that two in one process do not share counters.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds in seconds of requests, of waits for a start, and of single calls."""
LONG: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Bounds in seconds of runs: from a plan of a few computations to one that waits a day for a person."""
NAMES_MAX: Final = 200
"""Values of a label whose values come from plans or settings; each is a set of time series for ever."""
OTHER: Final = "other"


class Metrics:
    """What one server counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose answer begins now."""
        self._requests.labels(method, status).inc()
        self._request_seconds.inc(seconds)
        self._request_durations.labels(method, route, status).observe(seconds)

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
