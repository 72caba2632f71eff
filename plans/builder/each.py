"""The body of `PlanBuilder.each`: one step that runs for each item, and what is made of its results."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import ConfigError
from .reference import Reference, expression_of, step_of


def wants_index(body: Callable[..., object]) -> bool:
    """Whether a body takes the index beside the item."""
    return getattr(getattr(body, "__code__", None), "co_argcount", 1) == 2


def only_step(added: Sequence[dict[str, Any]], wanted: str | None) -> dict[str, Any]:
    """Return the one step that a body added.

    Raises:
        ConfigError: It added several, or one that has items of its own, or one whose id is not the one wanted.
    """
    if len(added) > 1 or "for_each" in added[0]:
        raise ConfigError(
            "expected one step in the body of each(..), and no for_each inside it, "
            f"found {', '.join(repr(step['id']) for step in added)}: build them with p.inner(name), and run it with p.plan(..)"
        )
    if wanted is not None and added[0]["id"] != wanted:
        raise ConfigError(f"expected the id '{wanted}' on the step itself: p.call(.., id={wanted!r})")
    return added[0]


def for_every(made: object, id_: str) -> Reference:
    """Return what the body of `each` gave, as the list that its step gives."""
    whole = Reference(id_, step=id_)
    if made is None:
        return whole
    if not isinstance(made, Reference):
        raise ConfigError(
            f"expected the body of each(..) to return its step, or a part of it, found {made!r}"
        )
    text = expression_of(made)
    if text == id_:
        return whole
    part = text.removeprefix(id_)
    if step_of(made) != id_ or re.search(rf"\b(?:one|{re.escape(id_)}|item|index)\b", part):
        raise ConfigError(
            f"expected the body of each(..) to return its step '{id_}', or a part of it, found {text!r}: compute with a second each(..)"
        )
    return Reference(f"[one{part} for one in {id_}]")
