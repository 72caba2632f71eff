"""Tasks with holes: `Compare {a} and {b}`, where `a` and `b` are inputs of the plan; other braces are text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..values import Json, canonical

HOLE: Final = re.compile(r"\{\s*([a-z][a-z0-9_]{0,63})\s*\}")
VALUE_SHOWN_MAX: Final = 80
"""Characters of one value in a filled task: enough to tell runs apart in a list."""


def filled(task: str, inputs: Mapping[str, Json]) -> str:
    """Return a task with values in the place of its holes: text as it is, lists comma separated, all else as JSON, cut short."""
    return HOLE.sub(lambda hole: _shown(inputs[hole[1]]) if hole[1] in inputs else hole[0], task)


def _shown(value: Json) -> str:
    text = ", ".join(map(_plain, value)) if isinstance(value, list) and value else _plain(value)
    return text if len(text) <= VALUE_SHOWN_MAX else f"{text[: VALUE_SHOWN_MAX - 2]}.."


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else canonical(value).decode()
