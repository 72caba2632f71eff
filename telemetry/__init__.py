"""OpenTelemetry: runs, steps, attempts, plannings and requests to models as spans, and their durations, tokens and cost as metrics.

`tracing.py` is the observer of an engine that makes them, `providers.py` sets up exporters from the standard `OTEL_*` variables. Both need the extra
`firmplan[otel]`; an engine imports them only where traces are wanted, so that others pay nothing. Nothing here decides anything about a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

if TYPE_CHECKING:
    from .tracing import Telemetry

__getattr__, __dir__ = on_first_use(__name__, {"tracing": ("Telemetry",)})

__all__ = ["Telemetry"]
