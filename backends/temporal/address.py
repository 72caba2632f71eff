"""Where a Temporal server is: `temporal://host:port/namespace?queue=default`.

How to connect beside that (TLS, certificates, an API key) comes from Temporal's own variables (`TEMPORAL_TLS`, `TEMPORAL_API_KEY`, ..) and its configuration
file, which the SDK reads: secrets do not stand in an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import ConfigError

SCHEME: Final = "temporal"
PORT_DEFAULT: Final = 7233
NAMESPACE_DEFAULT: Final = "default"
QUEUE_DEFAULT: Final = "firmplan"
FORM: Final = "temporal://host:port/namespace?queue=firmplan"
_NAME: Final = re.compile(r"[^\s/?#]+")


@dataclass(frozen=True, slots=True)
class TemporalAddress:
    """A namespace of a Temporal server, and the task queue of the runs.

    Attributes:
        target: `host:port` of the server.
        namespace: The namespace, which has to exist.
        queue: The task queue: engines that submit and workers that drive name the same one.
    """

    target: str
    namespace: str = NAMESPACE_DEFAULT
    queue: str = QUEUE_DEFAULT

    @classmethod
    def parse(cls, text: str) -> TemporalAddress:
        """Read an address. Raises: ConfigError: it is none."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as fault:
            raise _misread(text, str(fault)) from fault
        if parts.scheme != SCHEME or not host:
            raise _misread(text, "a scheme or a host is missing")
        if parts.username is not None or parts.password is not None:
            raise _misread(
                _without_user(text),
                "a user or a key does not belong there: set TEMPORAL_API_KEY, which the SDK reads",
            )
        if parts.fragment:
            raise _misread(text, "'#' has no meaning there")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(set(options) - {"queue"}):
            raise _misread(text, f"'{unknown[0]}' is no option; the only one is 'queue'")
        namespace = unquote(parts.path.strip("/")) or NAMESPACE_DEFAULT
        queue = options.get("queue", QUEUE_DEFAULT)
        for what, name in (("namespace", namespace), ("queue", queue)):
            if not _NAME.fullmatch(name):
                raise _misread(text, f"the {what} is {name!r}")
        shown_host = f"[{host}]" if ":" in host else host
        return cls(f"{shown_host}:{port or PORT_DEFAULT}", namespace, queue)

    def __str__(self) -> str:
        return f"{SCHEME}://{self.target}/{self.namespace}?queue={self.queue}"


def _without_user(text: str) -> str:
    return re.sub(r"//.*@", "//***@", text)


def _misread(text: str, why: str) -> ConfigError:
    return ConfigError(f"backend: expected {FORM}, found '{text}': {why}")
