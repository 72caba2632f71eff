"""Any toolset as signatures: a list of tools will do wherever a toolset is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from .signature import Signature, Signatures


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
