"""The names of things: idempotency keys and content keys.

A content key is the digest of everything that can change a result; its parts are kept, so that a later run can
say which of them differs. What cannot be named is not reused: `content_key` then says which part is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ...plans.format.property_order import property_order
from ...plans.signature import Effect
from ...plans.values import Digest, Json, canonical, digest, digest_of_text, parse_canonical
from ...tools import Tool
from ...tools.fingerprint.fingerprint import Fingerprint

KEY_FORMAT: Final = 1
ASK: Final = "ask"  # the subject of prompts that are no tool's
# Arguments and messages kept in full for explanations; of larger ones long texts go by digest.
PARTS_BYTES_MAX: Final = 4096
TEXT_KEPT_MAX: Final = 256  # characters of a text in large arguments that are kept

_NO_PARTS: Final[Mapping[str, Json]] = {}

NotKept: TypeAlias = Literal["write", "no-reuse-for", "unseen", "secret", "no-model"]


@dataclass(slots=True)
class ContentKey:
    """The name of a call by what decides its result. Nobody changes it.

    Attributes:
        key: `sha256:` and 64 hex digits, or empty: not reusable.
        subject: The tool, or `ask`.
        parts: What it was made from, but for code and arguments.
        args: The arguments, canonical; empty for a prompt.
        value: The same as they are parsed, where they are large and that is at hand.
        code: Digest of the tool's fingerprint; empty for a prompt.
        because: Why there is no key, as a word.
        why_not: The same as a sentence.
    """

    key: str
    subject: str = ""
    parts: Mapping[str, Json] = field(default_factory=dict[str, Json])
    args: bytes = b""
    code: str = ""
    because: NotKept | None = None
    why_not: str = ""
    value: Json = None

    @classmethod
    def none(cls, because: NotKept, why_not: str) -> ContentKey:
        """Return that there is no key, and why."""
        return cls("", because=because, why_not=why_not)

    def kept_parts(self) -> bytes:
        """Return what the key was made from as JSON, small enough to be kept for explanations."""
        if not self.parts and len(self.args) <= PARTS_BYTES_MAX:
            return b'{"args":%b}' % self.args if self.args else b"{}"
        parts = {name: _abridged(value) for name, value in self.parts.items()}
        if self.args:
            args = parse_canonical(self.args) if self.value is None else self.value
            parts["args"] = _abridged(args) if len(self.args) > PARTS_BYTES_MAX else args
        return canonical(parts)


def idempotency_key(run_id: str, step: str, args_digest: str) -> str:
    """Return the key that a write hands to the world: the same over attempts and resumes."""
    return hashlib.sha256(f"{run_id}\n{step}\n{args_digest}".encode()).hexdigest()


class ToolKeys:
    """The content keys of one tool's calls, as the tool is now.

    Args:
        tool: The tool.
        fingerprint: What decides what it does.
    """

    def __init__(self, tool: Tool, fingerprint: Fingerprint) -> None:
        self._subject = tool.name
        self._code = fingerprint.digest or ""
        self._is_sampled = tool.effect is Effect.MODEL
        self._none = _unnamed(tool, fingerprint)
        self._stem = canonical(["tool", KEY_FORMAT, tool.name, self._code])[:-1]

    def of(self, args: bytes, args_digest: Digest, sample: Sequence[int], value: Json = None) -> ContentKey:
        """Return the key of a call.

        Args:
            args: Bound, canonical.
            args_digest: Their digest.
            sample: Indices of items and iterations.
            value: The arguments as they are parsed, where they are large.
        """
        if self._none is not None:
            return self._none
        if not self._is_sampled:
            named = b'%b,"%b",null]' % (self._stem, args_digest.encode())
            return ContentKey(digest(named), self._subject, _NO_PARTS, args, self._code, value=value)
        parts: dict[str, Json] = {"sample": list(sample)}
        named = b'%b,"%b",%b]' % (self._stem, args_digest.encode(), canonical(parts["sample"]))
        return ContentKey(digest(named), self._subject, parts, args, self._code)


def _unnamed(tool: Tool, fingerprint: Fingerprint) -> ContentKey | None:
    """Return why calls of a tool have no key; `None`: they have one."""
    if tool.effect is Effect.WRITE:
        return ContentKey.none("write", "a write is never reused")
    if tool.effect is Effect.READ and tool.reuse_for_s is None:
        return ContentKey.none("no-reuse-for", "the tool has no reuse_for")
    if fingerprint.digest is None:
        return ContentKey.none("unseen", f"its code cannot be seen in full: {fingerprint.unseen}")
    return None


def model_key(
    request_parts: Mapping[str, Json],
    sample: Sequence[int],
    temperature: float | None,
    subject: str = ASK,
    judgement: Fingerprint | None = None,
) -> ContentKey:
    """Return the content key of a prompt: five samples are five answers, unless temperature is 0.

    Args:
        request_parts: What is asked of whom.
        sample: Indices of items and iterations.
        temperature: As it is sent.
        subject: The tool, or `ask`.
        judgement: Of a tool: the code that reads the answer.
    """
    if judgement is not None and judgement.digest is None:
        return ContentKey.none("unseen", f"its code cannot be seen in full: {judgement.unseen}")
    parts: dict[str, Json] = {"format": KEY_FORMAT, **request_parts}
    if temperature != 0:
        parts["sample"] = list(sample)
    if judgement is None or judgement.digest is None:
        # Keys are sorted in a key's parts. The output type of an `@agent`, and so its order, is part of the judgement.
        if order := property_order(parts.get("schema")):
            parts["order"] = order
        return ContentKey(digest(canonical(["model", parts])), subject, parts)
    key = digest(canonical(["model", parts, judgement.digest]))
    return ContentKey(key, subject, parts, code=judgement.digest)


def _abridged(value: Json) -> Json:
    """Return a value with its long texts by digest: equal parts stay equal, different ones different."""
    match value:
        case str() if len(value) > TEXT_KEPT_MAX:
            return {"$text": digest_of_text(value), "length": len(value), "start": value[:40]}
        case list() if _is_long(value, value):
            return [_abridged(each) for each in value]
        case dict() if _is_long(value, value.values()):
            return {name: _abridged(each) for name, each in value.items()}
        case _:
            return value


def _is_long(value: Json, parts: Iterable[Json]) -> bool:
    """Whether a list or an object is too long to be kept in full; a value with a long text always is."""
    has_long = any(isinstance(part, str) and len(part) > PARTS_BYTES_MAX for part in parts)
    return has_long or len(canonical(value)) > PARTS_BYTES_MAX
