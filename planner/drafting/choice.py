"""Which tools a task's words point to: all of a small toolset, of a large one those that share words with it.

BM25 over names, parameters and descriptions; ties go by name, so that equal tasks see equal prompts. A tool that is not
shown may still be used: the check knows them all, and after a draft that did so with faults more are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from ...plans.signature import Signature
from ...plans.values import Json

T = TypeVar("T", bound=Signature)

SHOWN_MAX = 30
"""Tools of a prompt: more cost attention and tokens, and models choose worse among them."""

NEAREST = 5
"""Tools shown for each name that a draft made up: those nearest to its words."""

WIDENED_MAX = 60
"""Tools of a prompt after a draft that used others than were shown."""

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
    every = by_name(tools)
    return every if len(every) <= most else by_name(nearest_tools(task, every)[:most])


def nearest_tools(task: str, tools: Iterable[T]) -> list[T]:
    """Return tools, those first that share most words with the task."""
    every = by_name(tools)
    found = scores(words_of(task), [words_of(_text(tool)) for tool in every])
    return [every[index] for index in sorted(range(len(every)), key=lambda index: (-found[index], index))]


def by_name(tools: Iterable[T]) -> list[T]:
    """Return tools in the order in which a model sees them."""
    return sorted(tools, key=lambda tool: tool.name)


def widened(task: str, tools: Iterable[T], shown: Sequence[T], draft: Json) -> list[T]:
    """Return the tools to show after a draft: those shown; if it used others, these, their like, and what words point to."""
    known = {tool.name for tool in shown}
    unseen = [name for name in tools_in(draft) if name not in known]
    if not unseen:
        return list(shown)
    every = list(tools)
    named = [tool for tool in every if tool.name in unseen]
    like = [tool for name in unseen for tool in choose_tools(name, every, NEAREST)]
    wanted = dict.fromkeys(tool.name for tool in (*shown, *named, *like, *choose_tools(task, every)))
    names = list(wanted)[:WIDENED_MAX]
    return by_name(tool for tool in every if tool.name in names)


def tools_in(draft: Json) -> list[str]:
    """Return the names of the tools that a draft uses, whatever its faults: of steps, of inner plans, of agents."""
    found: list[str] = []
    parts: list[Json] = [draft]
    while parts:
        match parts.pop():
            case dict() as fields:
                if isinstance(name := fields.get("tool"), str):
                    found.append(name)
                if isinstance(agent := fields.get("agent"), dict) and isinstance(
                    allowed := agent.get("tools"), list
                ):
                    found += [each for each in allowed if isinstance(each, str)]
                parts += fields.values()
            case list() as items:
                parts += items
            case _:
                pass
    return list(dict.fromkeys(found))


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
