"""The names of things: idempotency keys and content keys.

A content key is the digest of everything that can change a result; its parts are kept, so that a later run can
say which of them differs. What cannot be named is not reused: `content_key` then says which part is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from ..plans.signature import Effect
from ..plans.values import Json, canonical, digest, parse
from ..tools import Tool
from ..tools.fingerprint import Fingerprint

KEY_FORMAT: Final = 1
ARGS_KEPT_BYTES_MAX: Final = 4096  # arguments kept in full for explanations; larger ones by digest


@dataclass(frozen=True, slots=True)
class ContentKey:
    """The name of a call by what decides its result.

    Attributes:
        key: `sha256:` and 64 hex digits, or empty: not reusable.
        parts: What it was made from.
        why_not: Why there is no key.
    """

    key: str
    parts: Mapping[str, Json]
    why_not: str = ""


def idempotency_key(run_id: str, step: str, args_digest: str) -> str:
    """Return the key that a write hands to the world: the same over attempts and resumes."""
    return hashlib.sha256(f"{run_id}\n{step}\n{args_digest}".encode()).hexdigest()


def tool_key(tool: Tool, fingerprint: Fingerprint, args: bytes, sample: Sequence[int]) -> ContentKey:
    """Return the content key of a call of a tool, as it is now, with bound arguments."""
    if tool.effect is Effect.WRITE:
        return ContentKey("", {}, "a write is never reused")
    if tool.effect is Effect.READ and tool.reuse_for_s is None:
        return ContentKey("", {}, "the tool has no reuse_for")
    if fingerprint.digest is None:
        return ContentKey("", {}, f"its code cannot be seen in full: {fingerprint.unseen}")
    parts: dict[str, Json] = {
        "format": KEY_FORMAT,
        "tool": tool.name,
        "fingerprint": fingerprint.digest,
        "code": dict(fingerprint.parts),
        "args": _kept(args),
    }
    if tool.effect is Effect.MODEL:
        parts["sample"] = list(sample)
    named = ["tool", KEY_FORMAT, tool.name, fingerprint.digest, digest(args), parts.get("sample")]
    return ContentKey(digest(canonical(named)), parts)


def model_key(
    request_parts: Mapping[str, Json], sample: Sequence[int], temperature: float | None
) -> ContentKey:
    """Return the content key of a prompt: five samples are five answers, unless temperature is 0."""
    parts: dict[str, Json] = {"format": KEY_FORMAT, **request_parts}
    if temperature != 0:
        parts["sample"] = list(sample)
    return ContentKey(digest(canonical(["model", parts])), parts)


def _kept(args: bytes) -> Json:
    return parse(args) if len(args) <= ARGS_KEPT_BYTES_MAX else cast("Json", digest(args))
