"""The text of a header, as stores keep it and as its digest is of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, cast

import orjson

from ..lru_cache import IdentityCache

# How many headers and plans are kept that were last read or written: a run is looked up several times while it is driven.
HEADERS_KEPT: Final = 4
_PLANS: Final = IdentityCache[Mapping[str, Any], orjson.Fragment](HEADERS_KEPT)


def header_text(header: Mapping[str, Any]) -> bytes:
    """Return the text of a header."""
    # The plan is most of a header. It is shared between the runs of a plan, and nobody changes it (`Header.to_dict`): so it is spelled once.
    plan = header.get("plan")
    if not isinstance(plan, dict):
        return orjson.dumps(header)
    return orjson.dumps({**header, "plan": _PLANS.get(cast("Mapping[str, Any]", plan), _spelled)})


def _spelled(plan: Mapping[str, Any]) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(plan))


@lru_cache(HEADERS_KEPT)
def read_header(text: bytes) -> Mapping[str, Any]:
    """Return a header, which nobody changes: for the same bytes the same object, as long as it is kept."""
    return cast("Mapping[str, Any]", orjson.loads(text))
