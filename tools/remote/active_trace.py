"""Passes the active trace of OpenTelemetry on to whatever continues it elsewhere: servers of tools, and processes of tools.

Nothing is imported here. Where nobody has loaded OpenTelemetry no trace is active, and it need not be installed. What is passed on are random
numbers (`traceparent`, `tracestate`); baggage, which may hold anything, is not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Final


def trace_headers() -> dict[str, str]:
    """Return the headers that name the active trace; empty: none is active."""
    found: dict[str, str] = {}
    if _LOADED in sys.modules:
        import_module(_FORM).TraceContextTextMapPropagator().inject(found)
    return found


@contextmanager
def trace_continued(headers: Mapping[str, str]) -> Generator[None]:
    """Have the trace that these headers name active in this context, and in the environment of programs that are started."""
    os.environ.update({name.upper(): value for name, value in headers.items()})
    if not headers or _LOADED not in sys.modules:
        yield
        return
    api = import_module("opentelemetry.context")
    token = api.attach(import_module(_FORM).TraceContextTextMapPropagator().extract(headers))
    try:
        yield
    finally:
        api.detach(token)


_LOADED: Final = "opentelemetry.trace"
_FORM: Final = "opentelemetry.trace.propagation.tracecontext"
