"""URLs of databases, and what of them may be shown: everything but what is secret.

What people write may be no proper URL, so what is secret is cut out of the text rather than found by parsing it: from the user's
name to the last `@`. Rather too much is hidden than too little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

SCHEMES: Final = ("postgresql://", "postgres://")
_USERINFO: Final = re.compile(r"^([a-z][a-z0-9+.-]*://[^:@/?#]*):.*@", re.IGNORECASE | re.DOTALL)
_SECRETS: Final = re.compile(r"(?<=[?&])((?:ssl)?password|passfile|sslkey|oauth_client_secret)=[^&]*")
_PASSWORD: Final = re.compile(r"[?&](?:ssl)?password=([^&]*)")
HIDDEN: Final = "***"


def shown(url: str) -> str:
    """Return a URL without its secrets: fit for messages, logs and lists. Other texts come back as they are."""
    if "://" not in url:
        return url
    return _SECRETS.sub(rf"\1={HIDDEN}", _USERINFO.sub(r"\1@", url))


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """Where a store in PostgreSQL is. Only `text` holds the password, and it is not shown.

    Attributes:
        name: The URL as it may be shown.
    """

    text: str = field(repr=False)
    name: str

    @classmethod
    def of(cls, text: str) -> PostgresUrl:
        """Make it of what somebody wrote."""
        return cls(text, shown(text))

    def without_secrets(self, message: str) -> str:
        """Return what a server or a library said, without the password, should it stand there."""
        found = _USERINFO.match(self.text)
        secrets = [found[0][len(found[1]) + 1 : -1]] if found else []
        secrets += _PASSWORD.findall(self.text)
        for secret in secrets:
            for spelled in (secret, unquote(secret)):
                if spelled:
                    message = re.sub(rf"(?<!\w){re.escape(spelled)}(?!\w)", HIDDEN, message)
        return message


def is_postgres(text: str) -> bool:
    """Whether a setting names a store in PostgreSQL."""
    return text.lower().startswith(SCHEMES)
