"""Step ids made from names of tools and tasks, for plans that are written in Python."""

from __future__ import annotations

import keyword
import re

from ..expressions.syntax import RESERVED

ID_LENGTH_MAX = 60
"""Characters of a derived id, so that a number still fits behind it."""


def derived_id(name: str) -> str:
    """Return an id made from any name: `Mail.sendNow` gives `mail_send_now`."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    base = re.sub(r"[^a-z0-9]+", "_", snake).strip("_")[:ID_LENGTH_MAX].strip("_")
    if not base or not base[0].isalpha():
        base = f"step_{base}".strip("_")
    return f"{base}_step" if base in RESERVED or keyword.iskeyword(base) else base
