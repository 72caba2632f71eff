"""Runs spread over machines by Temporal: it dispatches them, and the store alone has them.

`backend.py` starts and wakes the workflow of a run, `workflow.py` is that workflow, `worker.py` drives the runs that Temporal hands to a process, and
`address.py` reads where the server is. It does not know what a run is: plans, inputs, results and statuses never pass through Temporal, but for
what is searched by. Begin with `workflow.py`.
"""

from .address import TemporalAddress
from .backend import TemporalBackend

__all__ = ["TemporalAddress", "TemporalBackend", "open_backend"]


def open_backend(url: str) -> TemporalBackend:
    """Return the backend of an address such as `temporal://host:port/namespace?queue=default`. Raises: ConfigError: it is none."""
    return TemporalBackend(TemporalAddress.parse(url))
