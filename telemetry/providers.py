"""Sets up where spans and metrics go, as the standard `OTEL_*` variables say, for the commands of firmplan.

A program that uses `Engine` sets up its own providers, as for every other library; `Engine(telemetry="auto")` finds those. A command is a
process of its own, so it does what such a program would do. Without one of the variables nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import ConfigError
from ..tools.logbook import open_log

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    from .tracing import Telemetry

DISABLED: Final = "OTEL_SDK_DISABLED"
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
SERVICE: Final = "OTEL_SERVICE_NAME"
ATTRIBUTES: Final = "OTEL_RESOURCE_ATTRIBUTES"
HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"


def exporter_of(environ: Mapping[str, str], signal: Literal["TRACES", "METRICS"]) -> str:
    """Return the exporter that the variables ask for: `otlp`, `console` or `none`.

    Without a variable there is none: the specification's default, an exporter to localhost, would have every command look for a collector.

    Raises:
        ConfigError: The variable names another one.
    """
    name = f"OTEL_{signal}_EXPORTER"
    has_endpoint = bool(environ.get(ENDPOINT) or environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))
    words = [word.strip() for word in environ.get(name, "").split(",") if word.strip()]
    if environ.get(DISABLED, "").strip().lower() == "true":
        return "none"
    if not words:
        return "otlp" if has_endpoint else "none"
    if len(words) > 1 or words[0] not in ("otlp", "console", "none"):
        raise ConfigError(f"{name}: expected one of otlp, console, none, found {environ[name]!r}")
    return words[0]


def set_up(environ: Mapping[str, str]) -> None:
    """Give this process the providers that the variables ask for, unless it has providers already.

    Raises:
        ConfigError: A variable has a value that is not known here.
    """
    spans, measures = exporter_of(environ, "TRACES"), exporter_of(environ, "METRICS")
    if (spans, measures) == ("none", "none"):
        return
    protocols = {signal: _protocol(environ, signal) for signal in ("TRACES", "METRICS")}
    try:
        from opentelemetry import metrics, trace  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        span_exporter: SpanExporter | None = _exporter(spans, protocols["TRACES"], "TRACES")
        metric_exporter: MetricExporter | None = _exporter(measures, protocols["METRICS"], "METRICS")
    except ModuleNotFoundError as missing:
        # A cluster may set these variables for all programs: then this one still does its work.
        open_log().warning(
            "no traces: OTEL_* variables name an exporter, and a package is missing",
            package=missing.name,
            hint="pip install 'firmplan[otel]'",
        )
        return
    has_name = environ.get(SERVICE) or "service.name=" in environ.get(ATTRIBUTES, "")
    resource = Resource.create({} if has_name else {"service.name": "firmplan"})
    if span_exporter is not None and not _is_set(trace.get_tracer_provider()):
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(span_exporter))
        trace.set_tracer_provider(tracers)
    if metric_exporter is not None and not _is_set(metrics.get_meter_provider()):
        reader = PeriodicExportingMetricReader(metric_exporter)
        metrics.set_meter_provider(MeterProvider([reader], resource=resource))


def find_telemetry(*, contents: bool) -> Telemetry | None:
    """Return what watches an engine, if somebody has set a provider of spans or metrics in this process."""
    from opentelemetry import metrics, trace  # noqa: PLC0415  # an extra; `mcp` loads it, too, and sets no providers

    if not (_is_set(trace.get_tracer_provider()) or _is_set(metrics.get_meter_provider())):
        return None
    from .tracing import Telemetry  # noqa: PLC0415  # an extra

    return Telemetry(contents=contents)


def _is_set(provider: object) -> bool:
    """Whether somebody has set the provider: until then the API has one that does nothing."""
    return type(provider).__name__ not in (
        "ProxyTracerProvider",
        "_ProxyMeterProvider",
        "NoOpTracerProvider",
        "NoOpMeterProvider",
    )


def _protocol(environ: Mapping[str, str], signal: str) -> str:
    name = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    protocol = environ.get(name) or environ.get(PROTOCOL) or HTTP
    if protocol not in (HTTP, GRPC):
        where = name if environ.get(name) else PROTOCOL
        raise ConfigError(f"{where}: expected {HTTP} or {GRPC}, found {protocol!r}")
    return protocol


_EXPORTERS: Final = {
    "TRACES": ("opentelemetry.sdk.trace.export", "trace_exporter", "Span"),
    "METRICS": ("opentelemetry.sdk.metrics.export", "metric_exporter", "Metric"),
}
"""Signal -> the module of the console's exporter, the module of the exporter over OTLP, and the noun in the names of both classes."""


def _exporter(kind: str, protocol: str, signal: Literal["TRACES", "METRICS"]) -> Any:  # noqa: ANN401  # an exporter of spans or of metrics
    """Return an exporter; `None`: the signal has none. Raises: ModuleNotFoundError: that of OTLP over gRPC is a package of its own."""
    console, otlp, noun = _EXPORTERS[signal]
    if kind == "console":
        return getattr(import_module(console), f"Console{noun}Exporter")(
            out=sys.stderr
        )  # stdout is for answers
    if kind == "none":
        return None
    transport = "grpc" if protocol == GRPC else "http"
    return getattr(
        import_module(f"opentelemetry.exporter.otlp.proto.{transport}.{otlp}"), f"OTLP{noun}Exporter"
    )()
