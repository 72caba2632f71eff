"""Which tools a model is shown: all of a small toolset, of a large one those that the task's words point to.

BM25 over names, parameters and descriptions; ties go by name, so that equal tasks see equal prompts. A tool that is not
shown may still be used: the check knows them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from ..plans.signature import Signature

T = TypeVar("T", bound=Signature)

SHOWN_MAX = 30
"""Tools of a prompt: more cost attention and tokens, and models choose worse among them."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")
_COMMON = (
    *(
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "has",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
    ),
    *("or", "that", "the", "this", "to", "was", "were", "will", "with"),
)


def choose_tools(task: str, tools: Iterable[T], most: int = SHOWN_MAX) -> list[T]:
    """Return the tools to show, by name; at most `most`."""
    every = sorted(tools, key=lambda tool: tool.name)
    if len(every) <= most:
        return every
    found = scores(words_of(task), [words_of(_text(tool)) for tool in every])
    best = sorted(range(len(every)), key=lambda index: (-found[index], index))[:most]
    return [every[index] for index in sorted(best)]


def words_of(text: str) -> list[str]:
    """Return the words of a text or a name (`sendMail`, `send_mail`), in small letters, plurals as singulars."""
    words = [word.casefold() for word in _WORD.findall(text)]
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words if word not in _COMMON
    ]


def _text(tool: Signature) -> str:
    """Return what is searched: the name counts twice, since descriptions are longer."""
    properties = tool.parameters.get("properties")
    parameters = " ".join(properties) if isinstance(properties, dict) else ""
    return f"{tool.name} {tool.name} {parameters} {tool.description}"


def scores(query: Sequence[str], documents: list[list[str]]) -> list[float]:
    """Return how well each document's words answer a query's, by BM25."""
    import bm25s  # type: ignore[import-untyped]  # noqa: PLC0415  # loads numpy: only for large toolsets

    if not query:
        return [0.0] * len(documents)
    ranking: Any = bm25s.BM25()
    ranking.index([words or ["-"] for words in documents], show_progress=False)
    return [float(score) for score in ranking.get_scores(list(query))]
