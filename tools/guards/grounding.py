"""Quote the source: each claim of an answer has a quote, and the quote stands in a source, word for word.

A quote stands in a source if its words follow each other there. Case, white space and typography do not count. It begins and ends between
words and numbers: "costs 10" does not stand in "costs 10.50" or "costs 100". A quote is from one source; it never spans two. No model is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ...plans.immutable import immutable
from ...plans.values import Json
from .plain_text import plain_text

QUOTE_LENGTH_MIN: Final = 12  # characters; a shorter quote ("the", "10 %") stands in nearly any source
QUOTE: Final = "quote"  # the field that holds the quote
QUOTE_SHOWN_MAX: Final = 200  # characters of a wrong quote that the model is shown


@immutable
class Grounding:
    """Where claims and quotes are.

    Attributes:
        claims: The field that holds the list of claims; `None`: the answer is the list.
        quote: The field of a claim that holds its quote.
        length_min: The least length of a quote, in characters of its plain text.
    """

    claims: str | None = None
    quote: str = QUOTE
    length_min: int = QUOTE_LENGTH_MIN

    @classmethod
    def of(cls, guard: Mapping[str, Json]) -> Grounding:
        """Return a guard's settings; the check has read them before."""
        claims, quote, least = guard["grounded"], guard.get("quote"), guard.get("min_length")
        return cls(
            claims if isinstance(claims, str) else None,
            quote if isinstance(quote, str) else QUOTE,
            least if isinstance(least, int) else QUOTE_LENGTH_MIN,
        )

    def find_fault(self, answer: Json, sources: Sequence[str]) -> tuple[str, str] | None:
        """Return the first fault of an answer, without words of the answer and with them; `None`: all claims have their quotes.

        Args:
            answer: The answer.
            sources: The texts that may be quoted.
        """
        where = self.claims or "the answer"
        claims = answer
        if self.claims is not None:
            claims = answer.get(self.claims) if isinstance(answer, dict) else None
        if not isinstance(claims, list):
            return _same(f"{where}: expected a list of claims, found none")
        folded = [_folded(source) for source in sources]
        for index, claim in enumerate(claims):
            place = f"{self.claims or ''}[{index}].{self.quote}"
            quote = claim.get(self.quote) if isinstance(claim, dict) else None
            if not isinstance(quote, str):
                return _same(f"{place}: expected a quote from the source, found none")
            words = _folded(quote).strip("\"' ")
            if len(words) < self.length_min:
                least = f"{place}: expected a quote of at least {self.length_min} characters"
                return least, f"{least}, found {quote!r}"
            if not any(_stands_in(words, source) for source in folded):
                why = f"{place}: expected words of the source, word for word and without omissions"
                return why, f"{why}; {quote[:QUOTE_SHOWN_MAX]!r} does not stand there"
        return None


def texts_in(value: Json) -> Iterator[str]:
    """Yield the texts anywhere in a value; the names of fields are no texts."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts_in(item)
        case dict():
            for item in value.values():
                yield from texts_in(item)
        case _:
            pass


def _same(sentence: str) -> tuple[str, str]:
    return sentence, sentence


def _folded(text: str) -> str:
    """Return a text with case, white space and typography folded."""
    return " ".join(plain_text(plain_text(text).casefold()).split())


def _stands_in(words: str, source: str) -> bool:
    """Whether words stand in a source, from the beginning of a word or number to the end of one."""
    at = source.find(words)
    while at >= 0:
        if not _is_cut(source, at, words[0]) and not _is_cut_after(source, at + len(words), words[-1]):
            return True
        at = source.find(words, at + 1)
    return False


def _is_cut(source: str, start: int, first: str) -> bool:
    """Whether what begins at `start` is only the rest of a word or number."""
    before, further = source[start - 1 : start], source[max(0, start - 2) : max(0, start - 1)]
    if first.isalnum() and before.isalnum():
        return True
    # "5" is cut out of "1.5" and of "-5", but not out of "page 1. 5 euros" or "2020-5".
    is_sign = before == "-" and not further.isalnum()
    return first.isdigit() and ((before in (".", ",") and further.isdigit()) or is_sign)


def _is_cut_after(source: str, end: int, last: str) -> bool:
    """Whether what ends before `end` is only the beginning of a word or number."""
    after, further = source[end : end + 1], source[end + 1 : end + 2]
    if last.isalnum() and after.isalnum():
        return True
    return last.isdigit() and after in (".", ",") and further.isdigit()
