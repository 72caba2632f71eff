"""Where a store is: from what people write to the store, and what is there already."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from typing import Final, cast
from urllib.parse import unquote

from ...errors import ConfigError
from ...lazy_imports import late_pattern
from ...plans.immutable import immutable
from ...tools.private_file import is_read_by_others, mode_of
from .sqlite_file import STORE_FORMAT, format_of
from .sqlite_store import SqliteStore
from .store import Store

# --- URLs of databases
#
# A text that a person wrote may be a malformed URL. So secrets are cut out of the text by patterns, from the user's name to the last
# `@`, instead of being found by a URL parser, which may misread the text and show a password. Too much hidden is better than too little.


SCHEMES: Final = ("postgresql://", "postgres://")
_USERINFO: Final = late_pattern(r"^([a-z][a-z0-9+.-]*://[^:@/?#]*):.*@", re.IGNORECASE | re.DOTALL)
_SECRETS: Final = late_pattern(r"(?<=[?&])((?:ssl)?password|passfile|sslkey|oauth_client_secret)=[^&]*")
_PASSWORD: Final = late_pattern(r"[?&](?:ssl)?password=([^&]*)")
# What PostgreSQL's library would read otherwise than it was meant, it might tell in a message: user, password, hosts, database, options.
_WELL_FORMED: Final = late_pattern(
    r"[a-z]+://([^:@/?#\s]*(:[^@/?#\s]*)?@)?[^@/?#\s]*(/[^@/?#]*)?([?][^#]*)?", re.IGNORECASE
)
HIDDEN: Final = "***"


def shown(url: str) -> str:
    """Return a URL without its secrets: fit for messages, logs and lists. Other texts come back as they are."""
    if "://" not in url:
        return url
    return _SECRETS.sub(rf"\1={HIDDEN}", _USERINFO.sub(r"\1@", url))


@immutable
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


MEMORY: Final = "memory:"
POSTGRES_FORMAT: Final = 2
_SQLITE: Final = "sqlite:///"
_KINDS: Final = "a path, sqlite:///path, postgresql://user@host/database or memory:"


@immutable
class StoreLocation:
    """A store, and what is known of where it is.

    Attributes:
        path: Its file, beside which files of its own may stand; `None`: it has none.
        is_shared: It is on a server, which engines of other machines use as well.
    """

    store: Store
    path: str | None
    is_shared: bool = False

    @property
    def format_newest(self) -> int:
        """The format that this version makes, and brings older ones to."""
        return POSTGRES_FORMAT if self.is_shared else STORE_FORMAT

    async def check_artifacts(self) -> None:
        """Expect that the place of the artifacts can be used, if they have one of their own. Raises: StoreError."""
        objects = getattr(self.store, "objects", None)
        if objects is not None and objects.target is not None:
            await objects.target.check()

    async def is_there(self) -> bool:
        """Whether there is a store already, which is looked at without making one. Raises: StoreError: it cannot be looked at."""
        if self.is_shared:
            return await self.find_format() is not None
        return self.path is None or _exists(self.path)

    def find_readers(self) -> str | None:
        """Return how to keep others from reading the store's file; `None`: they can't, as far as modes say."""
        if self.path is None or not is_read_by_others(self.path):
            return None
        mode, file = mode_of(self.path), shlex.quote(self.path)
        return f"other users may read it (mode {mode:04o}), with all that tools returned: chmod 600 {file}*, unless they are meant to"

    async def compact(self) -> bool:
        """Rewrite a file that cannot shrink, so that it can from now on; return whether a rewrite was needed. Raises: StoreError."""
        if self.path is None:
            return False
        await self.store.open()
        try:
            return await self.store.compact()
        finally:
            await self.store.close()

    async def find_format(self) -> int | None:
        """Return the format of what is there, without making or changing anything; `None`: there is no store yet.

        Raises:
            StoreError: It cannot be looked at.
        """
        if self.is_shared:
            return await _postgres_format(self.store)
        return format_of(Path(self.path)) if self.path is not None and _exists(self.path) else None


def open_location(
    where: str | os.PathLike[str] | Store, artifacts: str | os.PathLike[str] | None = None
) -> StoreLocation:
    """Return the store that a setting names; nothing is opened yet.

    Args:
        where: A path, `sqlite:///path`, `postgresql://user@host/database`, `memory:`, or a store.
        artifacts: Where its artifacts and large values are kept: `s3://bucket/prefix`, or a folder; `None`: in the store.

    Raises:
        ConfigError: It is none of these, or what it needs is not installed.
    """
    location = _open(where)
    if artifacts is not None:
        _keep_artifacts_at(location, artifacts)
    return location


def _open(where: str | os.PathLike[str] | Store) -> StoreLocation:
    # A store is known by its name, not by its class: a test or a program may bring one of its own.
    if not isinstance(where, str | os.PathLike):
        if not isinstance(getattr(where, "name", None), str):
            raise ConfigError(f"store: expected {_KINDS}, or a store, found {where!r:.200}")
        if getattr(where, "is_shared", False):
            return StoreLocation(where, None, is_shared=True)
        return StoreLocation(where, None if where.name == ":memory:" else where.name)
    text = os.fspath(where)
    if text in (MEMORY, ":memory:"):
        return StoreLocation(SqliteStore(":memory:"), None)
    if is_postgres(text):
        return StoreLocation(_postgres_store(text), None, is_shared=True)
    if text.startswith(_SQLITE):
        text = text.removeprefix(_SQLITE)
    elif "://" in text:
        raise ConfigError(
            f"store: expected {_KINDS}, found '{shown(text)}': this version has no store of that kind"
        )
    if not text:
        raise ConfigError("store: expected a path, found nothing; the default is firmplan.db")
    # The path stays relative if it is: messages and commands to type next show it as the user wrote it.
    path = str(Path(text).expanduser())
    return StoreLocation(SqliteStore(path), path)


def _keep_artifacts_at(location: StoreLocation, artifacts: str | os.PathLike[str]) -> None:
    from .objects import Objects  # noqa: PLC0415  # only where it is asked for
    from .sql_store import SqlStore  # noqa: PLC0415  # the same

    if not isinstance(cast("object", artifacts), str | os.PathLike):
        raise ConfigError(f"artifacts: expected s3://bucket/prefix or a folder, found {artifacts!r:.200}")
    if not isinstance(location.store, SqlStore):
        raise ConfigError(
            "artifacts: expected a store of firmplan's own, found another, which keeps its values itself"
        )
    location.store.objects.target = Objects.at(os.fspath(artifacts))


def _exists(path: str) -> bool:
    return Path(path).exists()


def _postgres_store(url: str) -> Store:
    """Return the store, whose library is loaded only where it is used. Raises: ConfigError: it is not installed."""
    missing = "the library psycopg is not installed: pip install 'firmplan[postgres]'"
    if find_spec("psycopg") is None:
        raise ConfigError(f"store {shown(url)}: {missing}")
    try:
        from .postgres_store import PostgresStore  # noqa: PLC0415  # only here
    except ImportError as fault:  # it needs a library of PostgreSQL's own
        raise ConfigError(f"store {shown(url)}: {missing} ({fault})") from fault
    return PostgresStore(url)


async def _postgres_format(store: Store) -> int | None:
    from .postgres_store import PostgresStore  # noqa: PLC0415  # only here

    assert isinstance(store, PostgresStore)
    return await store.find_format()
