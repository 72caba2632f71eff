"""The one way in: a plan and a format give text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import ConfigError
from .picture import picture_of

if TYPE_CHECKING:
    from ..plan import Plan
    from ..signature import Signature, Signatures

FORMATS = ("text", "mermaid", "svg")


def render(
    plan: Plan,
    format: str = "text",  # noqa: A002  # the contract's word
    toolset: Signatures | Sequence[Signature] | None = None,
    *,
    width: int = 100,
) -> str:
    """Return a picture of a plan; with a toolset, effects are told apart. As text it is at most `width` columns wide.

    Raises:
        ConfigError: The format is unknown.
    """
    picture = picture_of(plan, toolset)
    match format:
        case "text":
            from .text import text_of  # noqa: PLC0415  # one format at a time

            return text_of(picture, width)
        case "mermaid":
            from .mermaid import mermaid_of  # noqa: PLC0415  # one format at a time

            return mermaid_of(picture)
        case "svg":
            from .svg import svg_of  # noqa: PLC0415  # one format at a time

            return svg_of(picture)
        case _:
            raise ConfigError(f"expected one of the formats {', '.join(FORMATS)}, found {format!r}")
