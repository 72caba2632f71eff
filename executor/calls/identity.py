"""The keys of calls: idempotency keys and content keys.

A content key is the digest of everything that can change a result. Its parts are stored, so that a later run can say which part differs. A call
that has a part which cannot be hashed has no content key: its result is not reused, and `ContentKey.why_not` names that part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Final, Literal, TypeAlias

from ...plans.format.property_order import property_order
from ...plans.immutable import record
from ...plans.signature import Effect
from ...plans.values import Digest, Json, canonical, digest, digest_of_text
from ...tools import Tool
from ...tools.fingerprint.fingerprint import Fingerprint
from ..canonical_value import CanonicalValue

KEY_FORMAT: Final = 1
ASK: Final = "ask"  # the subject of the prompt of an `ask` step, which has no tool
# Arguments and messages up to this size are stored in full for explanations; in larger ones, long texts are replaced by their digests.
PARTS_BYTES_MAX: Final = 4096
TEXT_KEPT_MAX: Final = 256  # characters of a text that is stored in full within large arguments

_NO_PARTS: Final[Mapping[str, Json]] = {}

NotKept: TypeAlias = Literal["write", "no-reuse-for", "unseen", "secret", "no-model", "answered"]


@record
class ContentKey:
    """The content key of a call, with its parts. Nothing changes it after it was made.

    Attributes:
        key: `sha256:` and 64 hex digits; empty: the result is not reusable.
        subject: The name of the tool, or `ask`.
        parts: The other parts of the key: those beside code and arguments.
        args: The arguments, canonical; empty for a prompt.
        given: The arguments as the plan gives them, if they are large and binding has changed nothing.
        code: Digest of the tool's fingerprint; empty for a prompt.
        because: The reason why there is no key, as a word.
        why_not: The same reason as a sentence.
    """

    key: str
    subject: str = ""
    parts: Mapping[str, Json] = field(default_factory=dict[str, Json])
    args: bytes = b""
    code: str = ""
    because: NotKept | None = None
    why_not: str = ""
    given: CanonicalValue | None = None

    @classmethod
    def none(cls, because: NotKept, why_not: str) -> ContentKey:
        """Return the reason for which a call has no key, in the place of a key."""
        return cls("", because=because, why_not=why_not)

    def kept_parts(self) -> bytes:
        """Return the parts of the key as JSON, shortened so that they can be stored for explanations."""
        if not self.parts and len(self.args) <= PARTS_BYTES_MAX:
            return b'{"args":%b}' % self.args if self.args else b"{}"
        parts = {name: _abridged(value) for name, value in self.parts.items()}
        if self.args:
            given = CanonicalValue(self.args) if self.given is None else self.given
            args = given.value
            parts["args"] = _abridged(args, given.digest_of) if len(self.args) > PARTS_BYTES_MAX else args
        return canonical(parts)


def idempotency_key(run_id: str, step: str, args_digest: str) -> str:
    """Return the key under which a write is made: the same in all attempts and after each resume.

    Args:
        run_id: The run.
        step: Path of the leaf, items and iterations included.
        args_digest: Digest of the bound arguments.
    """
    return hashlib.sha256(f"{run_id}\n{step}\n{args_digest}".encode()).hexdigest()


class ToolKeys:
    """The content keys of the calls of one tool, as the tool is now.

    Args:
        tool: The tool.
        fingerprint: The fingerprint of its code.
        tenant: Whose run makes the calls: no other tenant's run gets their results. Empty: nobody's in particular.
    """

    def __init__(self, tool: Tool, fingerprint: Fingerprint, tenant: str = "") -> None:
        self.tool = tool
        self.fingerprint = fingerprint
        self.tenant = tenant
        self._subject = tool.name
        self._code = fingerprint.digest or ""
        self._is_sampled = tool.effect is Effect.MODEL
        self._none = _no_key(tool, fingerprint)
        # The first elements of the list that is hashed, serialized once: they are the same for all calls of the tool.
        self._stem = canonical(["tool", KEY_FORMAT, tool.name, self._code, *([tenant] if tenant else [])])[
            :-1
        ]

    def of(
        self, args: bytes, args_digest: Digest, sample: Sequence[int], given: CanonicalValue | None = None
    ) -> ContentKey:
        """Return the key of a call.

        Args:
            args: Bound arguments, canonical.
            args_digest: Their digest.
            sample: Indices of items and iterations.
            given: As of `ContentKey`.
        """
        if self._none is not None:
            return self._none
        if not self._is_sampled:
            named = b'%b,"%b",null]' % (self._stem, args_digest.encode())
            return ContentKey(digest(named), self._subject, _NO_PARTS, args, self._code, given=given)
        parts: dict[str, Json] = {"sample": list(sample)}
        named = b'%b,"%b",%b]' % (self._stem, args_digest.encode(), canonical(parts["sample"]))
        return ContentKey(digest(named), self._subject, parts, args, self._code)


def _no_key(tool: Tool, fingerprint: Fingerprint) -> ContentKey | None:
    """Return the reason why the calls of a tool have no key; `None`: they have one."""
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
    tenant: str = "",
) -> ContentKey:
    """Return the content key of a prompt. Five items with equal prompts are five samples, and have five keys, unless the temperature is 0.

    Args:
        request_parts: Models, messages, schema and parameters of the request.
        sample: Indices of items and iterations.
        temperature: The temperature that is sent.
        subject: The name of the tool, or `ask`.
        judgement: Of a tool: the fingerprint of the code that validates the answer.
        tenant: As of `ToolKeys`.
    """
    if judgement is not None and judgement.digest is None:
        return ContentKey.none("unseen", f"its code cannot be seen in full: {judgement.unseen}")
    parts: dict[str, Json] = {"format": KEY_FORMAT, **request_parts}
    if tenant:
        parts["tenant"] = tenant
    if temperature != 0:
        parts["sample"] = list(sample)
    if judgement is None or judgement.digest is None:
        # Canonical JSON sorts the keys of the schema, but a model answers in the order of the schema. So the order is a part of its own. The output
        # type of an `@agent`, and with it the order, is a part of the judgement.
        if order := property_order(parts.get("schema")):
            parts["order"] = order
        return ContentKey(digest(canonical(["model", parts])), subject, parts)
    key = digest(canonical(["model", parts, judgement.digest]))
    return ContentKey(key, subject, parts, code=judgement.digest)


def _abridged(value: Json, digest_of: Callable[[str], Digest] = digest_of_text) -> Json:
    """Return a value in which long texts are replaced by their digests: equal parts stay equal, different parts stay different.

    Args:
        value: The value.
        digest_of: From a text to the digest of its canonical bytes.
    """
    match value:
        case str() if len(value) > TEXT_KEPT_MAX:
            return {"$text": digest_of(value), "length": len(value), "start": value[:40]}
        case list() if _is_long(value, value):
            return [_abridged(each, digest_of) for each in value]
        case dict() if _is_long(value, value.values()):
            return {name: _abridged(each, digest_of) for name, each in value.items()}
        case _:
            return value


def _is_long(value: Json, parts: Iterable[Json]) -> bool:
    """Whether a list or an object is too long to be stored in full; a value with a long text always is."""
    has_long = any(isinstance(part, str) and len(part) > PARTS_BYTES_MAX for part in parts)
    return has_long or len(canonical(value)) > PARTS_BYTES_MAX
