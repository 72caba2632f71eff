"""A produced value: its canonical bytes, its digest and its parsed form.

A value is put into canonical form once, when it is produced. Every consumer, in a live run and in a replay, sees the value that is parsed from
these bytes, so that a replay cannot differ by a float's spelling or the order of keys. Nobody changes a parsed value; a tool gets a copy that
is parsed for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..plans.expressions.operators import Meter
from ..plans.reports.errors import Skipped
from ..plans.values import (
    LARGE_BYTES,
    Digest,
    Json,
    NotJson,
    canonical,
    digest,
    digest_of_text,
    parse,
    parse_canonical,
    shared_copy,
)


class _Unread:
    """Stands for a value that nobody has looked at."""


_UNREAD = _Unread()


class CanonicalValue:
    """One value, canonical. Digest and parsed form are made on first use.

    Args:
        data: Bytes that `canonical` made; nothing is checked again.

    Attributes:
        texts: The large texts that were put into the value, each as a value of its own, with whose parsed form this one shares the text.
    """

    __slots__ = ("_digest", "_value", "data", "texts")

    def __init__(self, data: bytes) -> None:
        self.data = data
        # Most values are only passed on: hashing and parsing them at once would double the cost of a small step.
        self._digest: Digest | None = None
        self._value: Json | _Unread = _UNREAD
        self.texts: Sequence[CanonicalValue] = ()

    @classmethod
    def of(cls, value: Json) -> CanonicalValue:
        """Seal a JSON value. Raises: NotJson: it is not JSON."""
        sealed = cls(data := canonical(value))
        if len(data) >= LARGE_BYTES and (copy := shared_copy(value, data)) is not None:
            sealed._value = copy  # its own class
        return sealed

    @classmethod
    def known(cls, data: bytes, value: Json) -> CanonicalValue:
        """Seal canonical bytes together with their parsed form, which nobody may change, so that a large value is parsed once."""
        sealed = cls(data)
        sealed._value = value  # its own class
        return sealed

    @classmethod
    def checked(cls, data: bytes) -> CanonicalValue:
        """Seal canonical bytes that come from outside: a child process, a file. Raises: NotJson: they are not canonical."""
        # Written anew and compared, instead of checked by rules of its own: one function decides what the canonical form is.
        try:
            # Whatever bytes `canonical` makes are what it makes of their value, so the lenient parser, which is ten times as fast, will do.
            sealed = cls.of(parse_canonical(data))
        except ValueError:
            sealed = cls.of(parse(data))  # says what is wrong
        if sealed.data != data:
            parse(data)  # `NaN` and the like are no JSON at all
            raise NotJson("the bytes are JSON, but not in canonical form")
        return sealed

    @property
    def value(self) -> Json:
        """The parsed canonical form; shared, so never to be changed."""
        if isinstance(self._value, _Unread):
            self._value = parse_canonical(self.data)
        return self._value

    @property
    def is_large_text(self) -> bool:
        """Whether it is a text of `LARGE_BYTES` or more."""
        return len(self.data) >= LARGE_BYTES and self.data.startswith(b'"')

    def find_text(self, text: str) -> CanonicalValue | None:
        """Return which of `texts` a text is, by identity; `None`: none of them."""
        # By identity: comparing with a text of the same length costs as much as half of what is saved.
        return next((part for part in self.texts if part._value is text), None)  # noqa: SLF001  # its own class

    def find(self, data: bytes) -> CanonicalValue | None:
        """Return which of `texts` has these canonical bytes; `None`: none of them."""
        return next((part for part in self.texts if part.data == data), None)

    def digest_of(self, text: str) -> Digest:
        """Return the digest of a text that may be one of `texts`."""
        known = self.find_text(text)
        return digest_of_text(text) if known is None else known.digest

    @property
    def shared(self) -> Json:
        """The parsed form of a large value, if it is kept; `None`: a reader parses the bytes."""
        # A small value is parsed again for each tool, which may change its copy; the texts of a large one are shared by all copies.
        if len(self.data) < LARGE_BYTES or isinstance(self._value, _Unread):
            return None
        return self._value

    @property
    def digest(self) -> Digest:
        """`sha256:` and 64 hex digits over the canonical bytes."""
        known = self._digest
        if known is None:
            known = self._digest = digest(self.data)
        return known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CanonicalValue) and self.data == other.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        text = self.data.decode()
        return f"CanonicalValue({text if len(text) <= 60 else text[:57] + '...'})"


class Scope(dict[str, "Json | Skipped"]):
    """What the formulas of one frame see, by name. A step's value is parsed when it is first looked at: most are only passed on.

    Attributes:
        canonical: Step id -> its canonical value, of the steps that have one.
        meter: Counts the work of the formulas; `None`: nobody counts it.
    """

    __slots__ = ("canonical", "meter")

    def __init__(self, known: Mapping[str, Json]) -> None:
        super().__init__(known)
        self.canonical: dict[str, CanonicalValue] = {}
        self.meter: Meter | None = None

    def __missing__(self, name: str) -> Json:
        value = self[name] = self.canonical[name].value
        return value
