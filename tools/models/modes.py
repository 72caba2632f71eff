"""How structure is asked of an endpoint, and what an endpoint has shown that it can do.

Where no mode is set, the modes are tried in the order of `MODES` until one works: an endpoint that refuses a tool
call or `response_format`, or that answers without a trace of JSON, is asked in the next one. What worked is remembered by
endpoint and model for as long as the memory lives; from then on a refusal is about the request, not about its form.

Pure but for that memory: sends nothing.
"""

from __future__ import annotations

import re

from .endpoint import AUTO, MODES, Endpoint
from .outage import ModelError

_ABOUT_FORM = re.compile(
    r"tool|function|response_format|json_schema|json_object|grammar|jinja", re.IGNORECASE
)

_ABOUT_STREAMS = re.compile(r"stream", re.IGNORECASE)


class Modes:
    """The modes that endpoints are asked in."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, str], str] = {}
        self._proven: dict[tuple[str, str], str] = {}
        self._unstreamed: set[tuple[str, str]] = set()

    def of(self, endpoint: Endpoint) -> str:
        """Return the mode to ask in: the one that is set, else the one that worked, else the next to try."""
        if endpoint.mode != AUTO:
            return endpoint.mode
        key = (endpoint.base_url, endpoint.name)
        return self._proven.get(key) or self._next.get(key, MODES[0])

    def prove(self, endpoint: Endpoint, mode: str) -> None:
        """Remember that an answer came in this mode."""
        self._proven[endpoint.base_url, endpoint.name] = mode

    def give_up(self, endpoint: Endpoint, mode: str) -> bool:
        """Go on to the mode after `mode`; whether there is one to go on to."""
        key = (endpoint.base_url, endpoint.name)
        if endpoint.mode != AUTO or key in self._proven:
            return False
        if mode == MODES[-1]:
            self._next.pop(key, None)  # none worked, so it was not the form: begin anew
            return False
        self._next[key] = MODES[MODES.index(mode) + 1]
        return True

    def can_stream(self, endpoint: Endpoint) -> bool:
        """Whether answers may be asked for as streams: until one is refused."""
        return (endpoint.base_url, endpoint.name) not in self._unstreamed

    def give_up_streams(self, endpoint: Endpoint) -> None:
        """Remember that the endpoint refuses to stream."""
        self._unstreamed.add((endpoint.base_url, endpoint.name))


def is_about_streams(fault: ModelError) -> bool:
    """Whether a failure may be a refusal to stream."""
    is_refusal = fault.code in ("model-rejected", "model-unavailable", "model-unknown")
    return is_refusal and not fault.broke_off and _ABOUT_STREAMS.search(str(fault)) is not None


def is_about_form(fault: ModelError) -> bool:
    """Whether a failure may be a refusal of the form in which structure was asked for, and not of the question."""
    if fault.code == "model-rejected":
        return True
    return fault.code in ("model-unavailable", "model-unknown") and _ABOUT_FORM.search(str(fault)) is not None
