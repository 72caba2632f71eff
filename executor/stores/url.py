"""URLs of databases, and what of them may be shown: everything but what is secret.

What people write may be no proper URL, so what is secret is cut out of the text rather than found by parsing it: from the user's
name to the last `@`. Rather too much is hidden than too little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from ...errors import ConfigError

SCHEMES: Final = ("postgresql://", "postgres://")
_USERINFO: Final = re.compile(r"^([a-z][a-z0-9+.-]*://[^:@/?#]*):.*@", re.IGNORECASE | re.DOTALL)
_SECRETS: Final = re.compile(r"(?<=[?&])((?:ssl)?password|passfile|sslkey|oauth_client_secret)=[^&]*")
_PASSWORD: Final = re.compile(r"[?&](?:ssl)?password=([^&]*)")
# What PostgreSQL's library would read otherwise than it was meant, it might tell in a message: user, password, hosts, database, options.
_WELL_FORMED: Final = re.compile(
    r"[a-z]+://([^:@/?#\s]*(:[^@/?#\s]*)?@)?[^@/?#\s]*(/[^@/?#]*)?([?][^#]*)?", re.IGNORECASE
)
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
        """Make it of what somebody wrote. Raises: ConfigError: it is no URL of a database."""
        if not _WELL_FORMED.fullmatch(text):
            raise misread(text)
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


def misread(text: str) -> ConfigError:
    """Return the error for what is no URL of a database."""
    return ConfigError(
        f"store: expected postgresql://user:password@host:port/database, found '{shown(text)}', which is no such URL; in a name "
        "or a password, characters other than letters and digits are spelled %XX, '@' as %40 and '/' as %2F"
    )


def is_postgres(text: str) -> bool:
    """Whether a setting names a store in PostgreSQL."""
    return text.lower().startswith(SCHEMES)
