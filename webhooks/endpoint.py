"""An endpoint that is told of runs, and the signature of what it is told, as Standard Webhooks has it (standardwebhooks.com, version 1).

Endpoints come from the settings of a server alone. A client of the server cannot name one: a URL of its choice would have the server send requests
into the server's own network.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..executor.stores.api_keys import is_tenant
from ..plans.reports.nearest import did_you_mean
from ..tools.models.endpoint import is_loopback
from ..tools.secret import Secret

RUN_EVENTS: Final = (
    "run.succeeded",
    "run.failed",
    "run.cancelled",
    "run.waiting",
    "run.indeterminate",
    "run.over_budget",
    "run.parked",
)
SCHEDULE_FAILED: Final = "schedule.failed"
TEST: Final = "webhook.test"
EVENTS: Final = (*RUN_EVENTS, SCHEDULE_FAILED)
"""What an endpoint may be told."""
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what a secret begins with
SECRET_BYTES_MIN: Final = 24  # of the specification
SECRET_BYTES_NEW: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One endpoint of `Engine(webhooks=[..])`.

    Args:
        name: Its name, in lists and logs.
        url: Where messages go, by POST: https, or http to this machine. Redirects are not followed.
        secret: The key of the signature: base64, perhaps after `whsec_`, as text or with its source. `firmplan webhooks secret` makes one.
        previous_secret: A key that was replaced: messages are signed with both, until every receiver knows the new one.
        events: What it is told, some of `EVENTS`; empty: everything.
        tenant: Only of runs and schedules of this tenant; empty: of all.
        outputs: Whether a message about a run that succeeded has its output. Without it no values of the run leave the server.
        allow_http: Whether `url` may be http to another machine, whose messages others can read.

    Raises:
        ConfigError: One of these is not valid.
    """

    name: str
    url: str
    secret: str | Secret
    previous_secret: str | Secret | None = None
    events: Collection[str] = ()
    tenant: str = ""
    outputs: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"a webhook's name: expected a letter or _, then at most 63 of A-Z a-z 0-9 _ -, found {self.name!r:.80}"
            )
        self._check_url()
        events = cast("object", self.events)
        if isinstance(events, str) or not isinstance(events, Collection):
            raise ConfigError(
                f"webhook '{self.name}': events: expected a list of events, found {events!r:.80}"
            )
        for event in self.events:
            if event not in EVENTS:
                hint = did_you_mean(str(event), EVENTS, f"known are {', '.join(EVENTS)}")
                raise ConfigError(f"webhook '{self.name}': events: there is no event {event!r:.80}; {hint}")
        if not is_tenant(self.tenant):
            raise ConfigError(
                f"webhook '{self.name}': tenant: expected the name of a tenant, found {self.tenant!r:.80}"
            )
        for given in (self.secret, self.previous_secret):
            if isinstance(given, str):
                _key_of(given, self.name)
            elif given is not None and not isinstance(cast("object", given), Secret):
                raise ConfigError(f"webhook '{self.name}': secret: expected text or a Secret")

    def _check_url(self) -> None:
        # The URL may hold a token, so no message shows more of it than scheme and host.
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            raise ConfigError(f"webhook '{self.name}': url: expected the URL of an endpoint") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ConfigError(
                f"webhook '{self.name}': url: expected https://HOST/.., found the scheme {parts.scheme!r:.20}"
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                f"webhook '{self.name}': url: expected no user and password in it; the signature is the proof"
            )
        if parts.scheme == "http" and not (self.allow_http or is_loopback(self.url)):
            raise ConfigError(
                f"webhook '{self.name}': url: expected https, found http to {parts.hostname}, where others can read the messages; "
                "allow_http = true allows it"
            )

    def hears(self, event: str, tenant: str) -> bool:
        """Whether the endpoint is told of an event of a tenant."""
        return (not self.events or event in self.events) and self.tenant in ("", tenant)

    def sign(self, message_id: str, timestamp: int, payload: bytes) -> dict[str, str]:
        """Return the headers of a message.

        Args:
            message_id: Its id.
            timestamp: Unix seconds.
            payload: Its body.

        Raises:
            LookupError: A secret has no value, or is none.
        """
        given = [each for each in (self.secret, self.previous_secret) if each is not None]
        keys = [self._key(each) for each in given]
        signed = b".".join((message_id.encode(), str(timestamp).encode(), payload))
        signatures = (
            base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys
        )
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        }

    def _key(self, given: str | Secret) -> bytes:
        try:
            return _key_of(given if isinstance(given, str) else given.read().strip(), self.name)
        except ConfigError as fault:
            raise LookupError(str(fault)) from None

    def to_dict(self) -> dict[str, Any]:
        """Return what may be shown of it: the host of the URL, and no secret."""
        parts = urlsplit(self.url)
        return {
            "name": self.name,
            "host": f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}",
            "events": list(self.events or EVENTS),
            "tenant": self.tenant or None,
            "outputs": self.outputs,
        }


def new_secret() -> str:
    """Return a new key for signatures."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES_NEW)).decode()


def webhooks_of(given: Sequence[Webhook]) -> Mapping[str, Webhook]:
    """Return endpoints by name. Raises: ConfigError: one of them is no `Webhook`, or two have one name."""
    made: dict[str, Webhook] = {}
    if isinstance(given, str | Webhook) or not isinstance(cast("object", given), Iterable):
        raise ConfigError(f"webhooks: expected a list of Webhook(..), found {type(given).__name__}")
    for each in given:
        if not isinstance(cast("object", each), Webhook):
            raise ConfigError(f"webhooks: expected a list of Webhook(..), found {type(each).__name__}")
        if each.name in made:
            raise ConfigError(f"webhooks: two endpoints are called '{each.name}'")
        made[each.name] = each
    return made


def _key_of(text: str, name: str) -> bytes:
    """Return the bytes of a key. Raises: ConfigError: it is none; the message shows nothing of it."""
    try:
        digits = text.removeprefix(SECRET_PREFIX)
        key = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SECRET_BYTES_MIN:
        raise ConfigError(
            f"webhook '{name}': secret: expected at least {SECRET_BYTES_MIN} bytes as base64, perhaps after {SECRET_PREFIX}; "
            "`firmplan webhooks secret` makes one"
        )
    return key
