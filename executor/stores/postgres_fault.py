"""Why a store in PostgreSQL cannot be reached or used, in words, and what to do.

What went wrong while connecting has no code, only a text; it is told as it is, and where it is a usual one, with a cure.
"""

from __future__ import annotations

from typing import Final

import psycopg

from ...errors import StoreError
from .url import PostgresUrl

_LOST: Final = (
    "the connection is lost; nothing is known of what was not acknowledged, and the next use connects anew"
)
# By the five letters of the SQL standard's codes, or by the first two or three of them; none at all where the server said nothing.
_CURES: Final = {
    "42501": "this user may not do that: let the owner of the tables grant it",
    "42P01": "a table of the store is missing: was it removed while the store was in use?",
    "53100": "the server's disk is full: make room; what was acknowledged before is kept",
    "53": "the server has no more room, memory or connections",
    "55P03": "another session holds locks on the store's tables: end it, and go on",
    "25006": "the server takes no writes: it is a standby, or is set to read only; name the primary",
    "22021": "a text holds a character that PostgreSQL cannot keep",
    "57P": _LOST,
    "25P03": _LOST,
    "08": _LOST,
}
# Texts of a server whose messages are in English; others are told without a cure.
_CONNECTING: Final = (
    ("password authentication failed", "give the right password in the URL, in PGPASSWORD or in ~/.pgpass"),
    ("no password supplied", "give the password in the URL, in PGPASSWORD or in ~/.pgpass"),
    ("no pg_hba.conf entry", "let the server admit this user from here (pg_hba.conf)"),
    ("does not exist", "make it (createdb, createuser), or name another in the URL"),
    ("too many", "let the server take more connections (max_connections); each engine has two"),
    ("starting up", "wait until it is up"),
    ("resolve host", "the host's name is not known: look for a slip in the URL"),
    ("translate host name", "the host's name is not known: look for a slip in the URL"),
    ("refused", "is the server running there, and does it listen on that address and port?"),
    ("timeout", "nothing answers there: look at the host's name, and at firewalls on the way"),
    ("No such file", "its socket is not there: is the server running on this machine?"),
)

_ASKED: Final = "Is the server running"  # libpq's own advice, on a line of its own; ours says the same


def told_fault(url: PostgresUrl, fault: Exception) -> StoreError:
    """Return the error for what a store's server, or the way to it, said."""
    said = _words(url, fault)
    state = getattr(fault, "sqlstate", None) or ""
    cure = _CURES.get(state) or _CURES.get(state[:3]) or _CURES.get(state[:2])
    if not state and isinstance(fault, psycopg.OperationalError):
        cure = _LOST
    return StoreError(f"the store {url.name} failed: {said}" + (f": {cure}" if cure else ""))


def told_connecting(url: PostgresUrl, fault: Exception) -> StoreError:
    """Return the error for a server that was not reached, or that let nobody in."""
    said = _words(url, fault)
    cure = next((cure for text, cure in _CONNECTING if text in said), None)
    return StoreError(f"the store {url.name} cannot be reached: {said}" + (f": {cure}" if cure else ""))


def _words(url: PostgresUrl, fault: Exception) -> str:
    """Return what was said, on one line; a server says more than one host or one line has to say."""
    detail = str(fault).strip() or type(fault).__name__
    lines = (line.strip() for line in detail.splitlines())
    return url.without_secrets("; ".join(line for line in lines if line and not line.startswith(_ASKED)))
