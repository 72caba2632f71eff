"""Words of texts and names, and the ranking of documents by them (BM25).

Tools and saved plans are found for a task by the same function, `ranked_by_words`. `words_in` splits a sentence as people do; patterns and
learnt templates use it. Pure, and in plain Python: a library for BM25 would bring numpy
into every installation, for rankings of at most some hundred short documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import log
from typing import Protocol, TypeVar

from ...lazy_imports import late_pattern

_TERM = late_pattern(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")
_WORD = late_pattern(r"(?:[^\s,;]|[,;](?=\d))+")
_OUTSIDE_WORD = late_pattern(r"^[\W_]+|[\W_]+$")
_STOP_WORDS = frozenset(
    "a an and are as at be by for from has in is it its of on or that the this to was were will with".split()  # noqa: SIM905  # a word a line would be a page
)
_SATURATION = 1.5
_LENGTH_WEIGHT = 0.75
"""`k1` and `b` of BM25, at their usual values."""


class NamedDocument(Protocol):
    """A document with a name."""

    @property
    def name(self) -> str: ...  # noqa: D102  # the protocol says it


T = TypeVar("T", bound=NamedDocument)


def words_in(text: str) -> list[str]:
    """Return the words of a sentence in lower case, without punctuation; a comma separates words, except within a number."""
    words = (_OUTSIDE_WORD.sub("", word) for word in _WORD.findall(text))
    return [word.casefold() for word in words if word]


def search_terms(text: str) -> list[str]:
    """Return the terms by which a text or a name is found: `sendMail` and `send_mails` give `send`, `mail`.

    Terms are in lower case; stop words are left out, and a plural's `s` is cut off.
    """
    terms = (term.casefold() for term in _TERM.findall(text))
    return [
        # A stemmer would find more and confuse more: names of tools are short, and a wrong stem ranks a wrong
        # tool.
        term[:-1] if len(term) > 3 and term.endswith("s") else term
        for term in terms
        if term not in _STOP_WORDS
    ]


def bm25_scores(query: Sequence[str], documents: Sequence[Sequence[str]]) -> list[float]:
    """Return how well the terms of each document answer those of a query.

    Complexity: linear in all terms. Source: Robertson and Zaragoza 2009, section 3, with the IDF of Lucene, which is never negative.
    """
    counts = [Counter(document) for document in documents]
    containing = Counter(term for count in counts for term in count)
    length_mean = sum(count.total() for count in counts) / (len(counts) or 1) or 1.0
    scores: list[float] = []
    for count in counts:
        # A long document has each word more often by chance, so that its counts are damped by its length.
        slowdown = _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * count.total() / length_mean)
        score = 0.0
        for term in query:  # a term that the query repeats counts again
            idf = log(1 + (len(counts) - containing[term] + 0.5) / (containing[term] + 0.5))
            score += idf * count[term] / (count[term] + slowdown)
        scores.append(score)
    return scores


def ranked_by_words(
    query: str, documents: Iterable[T], text_of: Callable[[T], str], *, found_only: bool = False
) -> list[T]:
    """Return documents, those first that answer the words of a query best; ties go by name, so that equal queries see equal lists.

    Args:
        query: The words.
        documents: Tools, or saved plans.
        text_of: Returns the text of a document that is searched.
        found_only: Whether documents that share no term with the query are left out.
    """
    by_name = sorted(documents, key=lambda each: each.name)
    scores = bm25_scores(search_terms(query), [search_terms(text_of(each)) for each in by_name])
    order = sorted(range(len(by_name)), key=lambda index: -scores[index])
    return [by_name[index] for index in order if scores[index] > 0 or not found_only]
