"""Backends: who drives the runs that an engine has stored, and when.

A backend dispatches runs: it says which process drives a run next. It does not know what a run is: plan, journal, status and decisions are in the store,
which alone is true, and the lease of the store alone decides who drives a run. So a backend may lose a message, or deliver it twice, and no run suffers.

Begin with `backend.py`, the protocol. `embedded.py` is the backend of an engine that names none: it drives the runs in its own process.
`location.py` opens a backend by its URL.
"""

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

if TYPE_CHECKING:
    from .backend import (
        AcceptedRun,
        Backend,
        BackendHost,
        Drive,
        KeptSchedule,
        ScheduleHost,
        SchedulesBackend,
        StrandedRun,
    )
    from .embedded import EmbeddedBackend
    from .location import backend_of

__getattr__, __dir__ = on_first_use(
    __name__,
    {
        "backend": (
            "AcceptedRun",
            "Backend",
            "BackendHost",
            "Drive",
            "KeptSchedule",
            "ScheduleHost",
            "SchedulesBackend",
            "StrandedRun",
        ),
        "embedded": ("EmbeddedBackend",),
        "location": ("backend_of",),
    },
)

__all__ = [
    "AcceptedRun",
    "Backend",
    "BackendHost",
    "Drive",
    "EmbeddedBackend",
    "KeptSchedule",
    "ScheduleHost",
    "SchedulesBackend",
    "StrandedRun",
    "backend_of",
]
