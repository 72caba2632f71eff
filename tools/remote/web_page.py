"""Web pages where an API was asked: a proxy, a firewall, or the login of a network answers in the place of the server.

Such an answer often has the status 200, so that whoever reads it sees JSON that does not parse. The error says whose page it is instead. Knows
no library of HTTP: models, MCP servers and OpenAPI servers hand in what came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from ...lazy_imports import late_pattern
from ...plans.reports.visible import visible_line

TITLE_CHARACTERS_MAX: Final = 100
"""Characters of a page's title that an error quotes: the page is foreign text."""

SHOWN_MAX: Final = 200
"""Characters of an address that an error quotes: it may be foreign text, too."""

READ_BYTES_MAX: Final = 64 * 1024
"""Bytes of a page in which its title is looked for."""

LIKELY: Final = (200, 202, 203, 401, 403, 407, 511)
"""Statuses with which a page is that of a proxy or a login. With 404 and 5xx it is mostly the server's own: a wrong path, or a server that is down."""

_TITLE: Final = late_pattern(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_LOGIN: Final = late_pattern(
    r"log-?in|sign-?in|sso\b|saml|oauth|/auth|authori[sz]e|captive|portal", re.IGNORECASE
)


def is_page(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer is a web page that a proxy, or a login, sent in the place of a server."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return status in LIKELY and kind in ("text/html", "application/xhtml+xml")


def page_fault(url: str, body: bytes) -> str:
    """Return what an answer is that `is_page`, and what to do, as the end of a sentence about the server.

    Args:
        url: The address that sent the page; what stands behind its `?` is left out, since it may be a secret.
        body: The page.
    """
    from html import unescape  # noqa: PLC0415  # its table of entities is read for such a page alone

    found = _TITLE.search(body[:READ_BYTES_MAX])
    title = "" if found is None else " ".join(unescape(found[1].decode("utf-8", "replace")).split())
    called = f" titled '{visible_line(title[:TITLE_CHARACTERS_MAX])}'" if title else " without a title"
    return (
        f"it answered with a web page{called}, from {shown_address(url)[:SHOWN_MAX]}, and not as an API: probably a proxy, or the login page of a network, "
        "stands in between; open the address in a browser and log in, set NO_PROXY, or correct the address"
    )


def login_fault(url: str, location: str) -> str | None:
    """Return what a redirect is that leads to a login, as the end of a sentence about the server; `None`: it does not look like one.

    Args:
        url: The address that was asked.
        location: Where it redirects to.
    """
    target = urljoin(url, location)
    parts = urlsplit(target)
    if not _LOGIN.search(f"{parts.hostname or ''}{parts.path}"):
        return None
    return (
        f"it redirects to {shown_address(target)[:SHOWN_MAX]}, which looks like a login page: probably a proxy, or the login of a network, stands in between; "
        "open the address in a browser and log in, set NO_PROXY, or hand over what the server asks for"
    )


def shown_address(url: str) -> str:
    """Return an address for messages: without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return visible_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
