"""The text of a header: as its digest is of it, and as stores keep it.

A store keeps the text of a large plan once, by the digest of its bytes, and in the headers of its runs a reference: `{"plan": {"$text": digest}}`.
The digest of a header is over its text with the plan in it, wherever a store keeps the plan. So nobody else sees the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import orjson

from ...errors import StoreError
from ...plans.immutable import immutable
from ...plans.values import digest
from ..lru_cache import IdentityCache, LruCache

PLAN_BYTES_MIN: Final = 4096
"""The text of a smaller plan stands in the header of each of its runs: two rows would cost more than they save."""
PLAN_BYTES_KEPT: Final = 4 * 1024 * 1024
"""How much text the plans have together that are kept as they were read: an object is some ten times as large. A larger one is kept alone."""
# How many headers and plans are kept that were last read or written: a run is looked up several times while it is driven.
HEADERS_KEPT: Final = 4
_REFERENCE: Final = "$text"


class MissingPlan(StoreError):  # noqa: N818  # it says what was found
    """A header refers to the text of a plan that the store does not have: it is damaged, or the run was deleted since the header was read."""


@immutable
class PlanText:
    """The exact text of a plan.

    Attributes:
        data: Its bytes.
        digest: Of these bytes; empty: the plan is small, and stands in headers.
    """

    data: bytes
    digest: str


@immutable
class StoredHeader:
    """What a store keeps of a header.

    Attributes:
        text: The header, in which a large plan is a reference.
        plan: The large plan.
    """

    text: bytes
    plan: PlanText | None = None


_TEXTS: Final = IdentityCache[Mapping[str, Any], PlanText](HEADERS_KEPT)
_PLANS: Final = LruCache[str, Mapping[str, Any]](PLAN_BYTES_KEPT, 1)
_HEADERS: Final = LruCache[bytes, Mapping[str, Any]](HEADERS_KEPT, 1)


def header_text(header: Mapping[str, Any]) -> bytes:
    """Return the text of a header with its plan in it."""
    # The plan is most of a header. It is shared between the runs of a plan, and nobody changes it (`Header.to_dict`): so it is serialized once.
    plan = header.get("plan")
    if not isinstance(plan, dict):
        return orjson.dumps(header)
    text = _TEXTS.get(cast("Mapping[str, Any]", plan), _text_of)
    return orjson.dumps({**header, "plan": orjson.Fragment(text.data)})


def stored_header(header: Mapping[str, Any]) -> StoredHeader:
    """Return what a store keeps of a header."""
    plan = header.get("plan")
    if not isinstance(plan, dict):
        return StoredHeader(orjson.dumps(header))
    text = _TEXTS.get(cast("Mapping[str, Any]", plan), _text_of)
    if not text.digest:
        return StoredHeader(orjson.dumps({**header, "plan": orjson.Fragment(text.data)}))
    _PLANS.keep(text.digest, cast("Mapping[str, Any]", plan), len(text.data))
    return StoredHeader(orjson.dumps({**header, "plan": {_REFERENCE: text.digest}}), text)


def _text_of(plan: Mapping[str, Any]) -> PlanText:
    data = orjson.dumps(plan)
    return PlanText(data, digest(data) if len(data) >= PLAN_BYTES_MIN else "")


def read_header(text: bytes, find_plan: Callable[[str], bytes | None]) -> Mapping[str, Any]:
    """Return a header, which nobody changes: for the same bytes the same object, as long as it is kept.

    Args:
        text: As the store keeps it.
        find_plan: Finds the text of a plan by its digest.

    Raises:
        StoreError: The store lacks the text of the plan, or somebody changed the text.
    """
    return _HEADERS.get(text, lambda: parse_header(text, find_plan), lambda _: 1)


def parse_header(text: bytes, find_plan: Callable[[str], bytes | None]) -> Mapping[str, Any]:
    """Do the same for a header of any size, which is not kept.

    Raises:
        StoreError: As `read_header`.
    """
    header: dict[str, Any] = orjson.loads(text)
    match header.get("plan"):
        case {"$text": str(name)}:
            plan = _PLANS.find(name)
            if plan is None:
                data = find_plan(name)
                cure = "`firmplan store check` looks for further damage"
                if data is None:
                    raise MissingPlan(f"the text of the plan {name} is missing; {cure}")
                if digest(data) != name:
                    raise StoreError(f"the text of the plan {name} is not as it was written; {cure}")
                plan = cast("Mapping[str, Any]", orjson.loads(data))
                _PLANS.keep(name, plan, len(data))
            header["plan"] = plan
        case _:
            pass
    return header
