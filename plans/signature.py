"""What the plan language needs to know of a tool: its signature, never its code.

`firmplan.tools.Tool` satisfies `Signature` and `Toolset` satisfies `Signatures`; this room must stay unaware of both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, cast

from .values import Json


class Effect(StrEnum):
    """What a call may do to the world."""

    PURE = "pure"
    READ = "read"
    MODEL = "model"
    WRITE = "write"


class Signature(Protocol):
    """One tool as the checker sees it."""

    @property
    def name(self) -> str:
        """What plans call it by."""
        ...

    @property
    def description(self) -> str:
        """What it does, for people and models."""
        ...

    @property
    def effect(self) -> Effect:
        """What a call may do to the world."""
        ...

    @property
    def parameters(self) -> Mapping[str, Json]:
        """JSON Schema of an object, one property for each argument, self-contained (`$defs` inside)."""
        ...

    @property
    def returns(self) -> Mapping[str, Json] | None:
        """JSON Schema of the result, self-contained; `None`: anything."""
        ...

    @property
    def resource(self) -> str:
        """What its effect touches; `world` conflicts with every other."""
        ...

    @property
    def trust(self) -> Literal["trusted", "untrusted"]:
        """Whether its results may steer writes."""
        ...

    @property
    def idempotent(self) -> bool:
        """Whether a call with the same key happens only once."""
        ...

    @property
    def can_reconcile(self) -> bool:
        """Whether it can tell what became of a call."""
        ...

    @property
    def asks_approval(self) -> bool:
        """Whether the tool carries an approval of any kind (`always`, `untrusted` or a callable)."""
        ...

    @property
    def allow_untrusted(self) -> Collection[str]:
        """Parameters that may hold untrusted data."""
        ...


class Signatures(Protocol):
    """A set of tools as the checker sees it."""

    @property
    def names(self) -> Sequence[str]:
        """All tool names, sorted."""
        ...

    def find(self, name: str) -> Signature | None:
        """Return the tool of that name, or `None`."""
        ...


# --- Any toolset as signatures: a list of tools will do wherever a toolset is wanted.


@dataclass(frozen=True, slots=True)
class _Listed:
    by_name: Mapping[str, Signature]

    @property
    def names(self) -> Sequence[str]:
        return sorted(self.by_name)

    def find(self, name: str) -> Signature | None:
        return self.by_name.get(name)


def toolbox(toolset: Signatures | Iterable[Signature]) -> Signatures:
    """Return the signatures of a toolset, or of a list of tools; of two tools with one name, the last."""
    if isinstance(toolset, Iterable) and not hasattr(toolset, "find"):
        return _Listed({tool.name: tool for tool in toolset})
    return cast("Signatures", toolset)  # checking a protocol with properties at run time is slow
