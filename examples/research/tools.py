"""Tools for research in a folder of texts: find the ones that matter, and have a model read one at a time.

The model sees one short text and answers with one small record; everything else is computed, and the same each time.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import log
from pathlib import Path

from firmplan import ToolError, agent, tool

TEXT_BYTES_MAX = 100_000
"""The longest file that is read; more than one small prompt should hold."""

STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was will with
"""


@dataclass(frozen=True)
class Text:
    """One file of the folder."""

    name: str
    content: str


@dataclass(frozen=True)
class Hit:
    """A text that matches a question, with its BM25 score."""

    name: str
    content: str
    score: float


@dataclass(frozen=True)
class Fact:
    """What one text says about a measurement; `km_per_second` is null where it gives no value."""

    who: str
    year: int
    method: str
    km_per_second: float | None


@tool(effect="read", resource="texts", trust="untrusted")
def read_texts(folder: str) -> list[Text]:
    """Read all text files of a folder, by name."""
    paths = sorted(Path(folder).glob("*.txt"))
    if not paths:
        raise ToolError(f"expected a folder with .txt files, found none in {folder}", code="no-texts")
    for path in paths:
        if path.stat().st_size > TEXT_BYTES_MAX:
            raise ToolError(f"{path} is longer than {TEXT_BYTES_MAX} bytes; split it", code="too-long")
    return [Text(path.stem, path.read_text(encoding="utf-8")) for path in paths]


@tool(effect="pure")
def rank(texts: list[Text], question: str, count: int) -> list[Hit]:
    """Return the texts that match a question best, the best first, by BM25."""
    documents = [Counter(_words(text.content)) for text in texts]
    frequency = Counter(word for document in documents for word in document)
    length_mean = sum(map(Counter.total, documents)) / max(1, len(documents))
    scores: list[float] = []
    for document in documents:
        score = 0.0
        for word in _words(question):
            rarity = log(1 + (len(documents) - frequency[word] + 0.5) / (frequency[word] + 0.5))
            slowdown = 1.5 * (0.25 + 0.75 * document.total() / length_mean)
            score += rarity * document[word] / (document[word] + slowdown)
        scores.append(round(score, 4))
    order = sorted(range(len(texts)), key=lambda position: (-scores[position], texts[position].name))
    return [Hit(texts[at].name, texts[at].content, scores[at]) for at in order[:count] if scores[at] > 0]


@agent(temperature=0)
def extract(content: str) -> Fact:
    """Read the text and say who measured the speed of light, when, by what means, and the value.

    Say only what the text says, the means in a few words, the value in kilometres a second; null where it gives none.

    ${content}
    """


def _words(text: str) -> list[str]:
    stop_words = STOP_WORDS.split()
    return [word for word in re.findall(r"\w\w+", text.lower()) if word not in stop_words]
