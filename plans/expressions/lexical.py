"""Where an expression ends, and whether its characters can form one: a single pass, before any parser sees it.

The pass finds the `}` that closes a `${`: the first outside quotes and brackets. On the way it refuses whatever is
not in the language by its spelling alone (comments, f-strings, bytes, triple quotes, other languages' operators) and
whatever could make Python's own parser slow, warn or give up (deep brackets, doubtful escapes, `1if`), so that the
parser is only ever handed short, balanced text. Time is linear in the text.

Python's spelling, with one difference: line breaks are spaces.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from typing import NoReturn

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..reports.errors import LocalProblem

EXPRESSION_LENGTH_MAX = 20_000  # characters of one expression: a page of code is a step too many
BRACKETS_MAX = 60  # brackets inside brackets

_TOKEN = late_pattern(
    r"""
    (?P<space>[ \t\f\r\n]+)
  | (?P<name>[^\W\d]\w*)
  | (?P<number>(?:0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+
      |(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?))
  | (?P<quote>["'])
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<operator>\*\*|//|==|!=|<=|>=|[-+*/%<>.,:=])
    """,
    re.VERBOSE,
)
_ESCAPE = r"""\\(?:[\\'"abfnrtv]|[0-3][0-7]{2}|[0-7]{1,2}(?![0-7])|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}"']+\})"""
# Possessive repetition (`*+`): a text without its closing quote is read once and never tried again from a shorter match.
_COOKED = {quote: re.compile(rf"(?:[^\\{quote}]|{_ESCAPE})*+") for quote in "\"'"}
_RAW = {quote: re.compile(rf"(?:[^\\{quote}]|\\.)*+", re.DOTALL) for quote in "\"'"}
_CLOSER = {"(": ")", "[": "]", "{": "}"}
_PREFIXES = frozenset({"r", "u", "f", "b", "t", "br", "rb", "fr", "rf", "tr", "rt"})
_WORDS = frozenset(keyword.kwlist)
_FOREIGN = {
    "#": ("comments are not part of expressions", "put the remark into 'why'"),
    "&": ("'&' is not an operator here", "write: a and b"),
    "|": ("'|' is not an operator here", "write: a or b"),
    "!": ("'!' is not an operator here", "write: not a"),
    "?": ("'?' is not an operator here", "write: a if condition else b"),
    "$": ("'$' does not belong inside ${..}", "write names as they are"),
    "\\": ("a backslash outside quotes", "line breaks are spaces here: nothing joins lines"),
    "`": ("'`' does not quote text", 'write: "text"'),
    **{quote: (f"{quote!r} does not quote text", 'write: "text"') for quote in "‘’“”«»"},  # noqa: RUF001  # what word processors make
    **{dash: (f"{dash!r} is not an operator here", "write: a - b") for dash in "−–—"},  # noqa: RUF001  # the same
    **{
        sign: (f"{sign!r} is not an operator here", f"write: a {ours} b")
        for sign, ours in {"≤": "<=", "≥": ">=", "≠": "!=", "×": "*", "÷": "/", "∧": "and", "∨": "or"}.items()  # noqa: RUF001  # the same
    },
}
_FOREIGN_PAIRS = {
    "?.": ("'?.' is not an operator here", "write: first(x.field, otherwise)"),
    "??": ("'??' is not an operator here", "write: first(a, b)"),
}
_PIPED = late_pattern(r"\| *[a-z_]+ *(?:\||\}|$)")


@immutable
class Placeholder:
    """One `${..}` of a string.

    Attributes:
        start: Of the first character after `${`.
        end: Of the closing `}`, or the string's end if it is missing.
        problem: What its spelling alone gets wrong, in positions of the whole string.
    """

    start: int
    end: int
    problem: LocalProblem | None


class _Stop(Exception):  # noqa: N818  # ends one pass
    def __init__(self, code: str, message: str, hint: str, start: int, end: int) -> None:
        super().__init__(message)
        self.problem = LocalProblem(code, message, hint, "", start, end)


def find_placeholder(text: str, start: int) -> Placeholder:
    """Return the hole whose `${` ends at `start`. O(length of the hole)."""
    walk = _Walk(text, start)
    try:
        walk.to_end()
    except _Stop as stop:
        return Placeholder(start, walk.close_anyway(), stop.problem)
    return Placeholder(start, walk.at, None)


class _Walk:
    """One pass over a hole; `at` ends on the closing brace."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.start = start
        self.at = start
        self.brackets: list[str] = []
        self.before = ""  # the token before, so that `.from` and `1if` are seen

    def to_end(self) -> None:
        text, limit = self.text, self.start + EXPRESSION_LENGTH_MAX
        while True:
            token = _TOKEN.match(text, self.at)
            if token is None:
                self._refuse_character()
            kind, word = token.lastgroup, token.group()
            # Asked at each token, so that reading stops soon after the limit and not at the end of a huge string.
            if self.at > limit:
                self._stop(f"an expression longer than {EXPRESSION_LENGTH_MAX} characters",
                           "compute parts of it in steps of their own with 'set'", code="limit-exceeded")  # fmt: skip
            if kind == "close" and not self.brackets and word == "}":
                return
            self._check(kind, word, token.end())
            if kind != "space":
                self.before = word

    def _check(self, kind: str | None, word: str, end: int) -> None:
        match kind:
            case "quote":
                self.at = self._string(self.at, word, _COOKED)
                return
            case "name":
                end = self._name(word, end)
            case "number":
                self._number(end)
            case "open":
                self._open(word)
            case "close":
                self._close(word)
            case _:
                pass
        self.at = end

    def _open(self, word: str) -> None:
        if len(self.brackets) >= BRACKETS_MAX:
            self._stop(f"brackets nested deeper than {BRACKETS_MAX} levels",
                       "compute parts of it in steps of their own with 'set'", code="limit-exceeded")  # fmt: skip
        self.brackets.append(_CLOSER[word])

    def _close(self, word: str) -> None:
        if not self.brackets or self.brackets[-1] != word:
            wanted = f"expected '{self.brackets[-1]}'" if self.brackets else "nothing is open"
            self._stop(
                f"unbalanced brackets: found '{word}', {wanted}", "close every bracket that was opened"
            )
        self.brackets.pop()

    def _name(self, word: str, end: int) -> int:
        text = self.text
        if end < len(text) and text[end] in "\"'" and word.lower() in _PREFIXES:
            return self._prefixed(word.lower(), end)
        if self.before == "." and word in _WORDS:
            self._stop(
                f"'{word}' is a word of Python, so it cannot follow a dot", f'write: x["{word}"]', end=end
            )
        # Python would normalize the name, and then it would not be the key of the data that looks the same.
        if not word.isascii() and unicodedata.normalize("NFKC", word) != word:
            self._stop(f"the name {word!r} is not in normal form", f'write: x["{word}"]', end=end)
        return end

    def _prefixed(self, prefix: str, quote_at: int) -> int:
        if "f" in prefix or "t" in prefix:
            self._stop(
                "f-strings are not part of the language",
                'write text + str(x), or join([..], "")',
                end=quote_at,
            )
        if "b" in prefix:
            self._stop("bytes are not part of the language", 'write: "text"', end=quote_at)
        return self._string(quote_at, self.text[quote_at], _RAW if prefix == "r" else _COOKED)

    def _number(self, end: int) -> None:
        # Python reads `1if x` with a warning, and a later Python will refuse it.
        follows = self.text[end : end + 1]
        if follows.isalnum() or follows == "_":
            self._stop("a number that runs into a name", "put a space between them", end=end + 1)

    def _string(self, quote_at: int, quote: str, bodies: dict[str, re.Pattern[str]]) -> int:
        text = self.text
        if text.startswith(quote * 3, quote_at):
            self._stop("triple quotes are not part of the language", 'write: "text\\n"', end=quote_at + 3)
        body = bodies[quote].match(text, quote_at + 1)
        assert body is not None
        end = body.end()
        if text[end : end + 1] != quote:
            self._refuse_body(end, quote)
        return end + 1

    def _refuse_body(self, end: int, quote: str) -> NoReturn:
        """Say why a quoted text ends at `end` without its quote."""
        if end >= len(self.text):
            self._stop("unclosed quotes", f"close the text with {quote}", end=end)
        self.at = end
        escape = self.text[end : end + 2]
        self._stop(f"the escape {escape!r} means nothing in text", r"write a backslash as \\", end=end + 2)

    def _refuse_character(self) -> NoReturn:
        if self.at >= len(self.text):
            if self.brackets:
                self._stop(
                    f"unbalanced brackets: expected '{self.brackets[-1]}'",
                    "close every bracket that was opened",
                )
            # The problem is where the hole opens: that it does not end says nothing about its last character.
            self.at = self.start - 2
            self._stop(
                "unclosed '${'",
                "close it with '}'; a '${' that is meant as text is written '$${'",
                end=len(self.text),
            )
        char = self.text[self.at]
        message, hint = _FOREIGN_PAIRS.get(self.text[self.at : self.at + 2]) or _FOREIGN.get(
            char, (f"{char!r} does not belong into an expression", "")
        )
        if _PIPED.match(self.text, self.at):
            hint = "there are no filters: call a function, as in len(x), or a method of text, as in x.upper()"
        self._stop(message, hint, end=self.at + 1)

    def _stop(self, message: str, hint: str, *, end: int | None = None, code: str = "bad-expr") -> NoReturn:
        raise _Stop(code, message, hint, self.at, self.at + 1 if end is None else end)

    def close_anyway(self) -> int:
        """Return where the invalid hole ends, so that the rest of the string is still looked at."""
        end = self.text.find("}", self.at)
        return end if end >= 0 else len(self.text)
