r"""Regular expressions: `match`, `search` and `findall`, in time linear in the text.

RE2 (`google-re2`) matches them. It never backtracks, so no pattern and no text makes a match take exponential time, and in return it has neither look-arounds nor
back-references. Python's `re` would hang on `(a+)+$`. The engine that validates JSON Schema's `pattern` says only whether a text matches.

The syntax is otherwise Python's. `\\d`, `\\w`, `\\s` and `\b` are about ASCII, and `$` is the end of the text.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, cast

from ...lazy_imports import late_pattern
from ..immutable import immutable
from ..reports.errors import EvaluationError

if TYPE_CHECKING:
    from ..values import Json
    from .operators import Frame

PATTERN_CHARACTERS_MAX: Final = 1_000
"""Of one regular expression."""

PATTERN_MEMORY_MAX: Final = 1 << 17
"""Bytes that RE2 takes for one expression and its states: a larger one is refused when it is compiled, within some milliseconds."""

FUNCTIONS: Final = frozenset({"match", "search", "findall"})
"""The functions whose first argument is a regular expression."""

STEPS_A_UNIT: Final = 100
"""Steps that count once: a step is one instruction of the compiled expression at one character. RE2 mostly looks at one state a character, but where the states do not
fit its memory it follows all instructions. All work of one evaluation then takes some seconds."""

WHOLE: Final = "text"
"""The field that has all of the matched text, unless a group has this name."""


@immutable
class Pattern:
    """A compiled regular expression.

    Attributes:
        compiled: RE2's object.
        names: The names of its groups, in their order.
        groups: How many groups it has, named or not.
        size: Instructions of the compiled expression.
    """

    compiled: Any
    names: tuple[str, ...]
    groups: int
    size: int

    def pay(self, frame: Frame, characters: int) -> None:
        """Count a search through so many characters."""
        frame.pay(1 + characters * self.size // STEPS_A_UNIT)


_COUNTS = late_pattern(r"[0-9]{1,9}(?=[,}])")
_CLASSES = late_pattern(r"\\[pP]")


def work_of(pattern: str) -> int:
    """Return the work of compiling a regular expression, as far as its text tells: a repetition is written out, a class of Unicode has many ranges."""
    length = min(len(pattern), PATTERN_CHARACTERS_MAX)
    read = pattern[:length]
    repeated = sum(min(int(count), 1_000) for count in _COUNTS.findall(read))
    return 10 * length + repeated * (10 + length // 2) + 1_000 * len(_CLASSES.findall(read))


class PatternError(Exception):
    """A regular expression that RE2 cannot read; the message is RE2's own."""


@functools.lru_cache(128)
def compiled(pattern: str) -> Pattern:
    """Return a regular expression, ready to match. Raises: PatternError."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise PatternError(f"it has {len(pattern)} characters, the most are {PATTERN_CHARACTERS_MAX}")
    from importlib import import_module  # noqa: PLC0415  # only where a plan has a regular expression

    re2: Any = import_module("re2")  # it has no types
    options = re2.Options()
    options.max_mem = PATTERN_MEMORY_MAX
    options.log_errors = False
    try:
        made: Any = re2.compile(pattern, options)
    except re2.error as error:
        raise PatternError(_words(error)) from None
    index = cast("dict[str, int]", made.groupindex)
    size = max(made.programsize, made.reverseprogramsize)
    return Pattern(made, tuple(sorted(index, key=index.__getitem__)), made.groups, size)


def _words(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)


def _read(frame: Frame, what: str, pattern: str) -> Pattern:
    # Most are compiled already. That is not asked, since what an expression pays may not depend on what ran before.
    frame.pay(work_of(pattern) // 4)
    try:
        return compiled(pattern)
    except PatternError:
        # Without RE2's words: this message is journaled, and theirs may change with its version. The check shows them.
        message = f"{what} cannot read its pattern; it takes Python's syntax without look-arounds and back-references"
        raise EvaluationError("bad-value", message) from None


def first_match(frame: Frame, what: str, pattern: str, text: str, *, at_start: bool) -> Json:
    """Return the named groups of the first match and all of its text, or `None`.

    Args:
        frame: Pays.
        what: The function, for messages.
        pattern: The regular expression.
        text: Where to look.
        at_start: Whether the match begins where the text does.
    """
    read = _read(frame, what, pattern)
    read.pay(frame, len(text))
    found = (read.compiled.match if at_start else read.compiled.search)(text)
    if found is None:
        return None
    return {WHOLE: found.group(), **found.groupdict("")}


def all_matches(frame: Frame, pattern: str, text: str) -> Json:
    """Return what Python's `re.findall` does: the matched texts; with one group its texts; with several a list for each match.

    Args:
        frame: Pays.
        pattern: The regular expression.
        text: Where to look.

    Raises:
        EvaluationError: The pattern cannot be read, or the work takes too long.
    """
    read = _read(frame, "findall(..)", pattern)
    made: list[Json] = []
    read.pay(frame, len(text))
    for found in read.compiled.finditer(text):
        # A match may look through all of the rest before it ends, so all matches together may take quadratic time. A plan that
        # needs many matches of a long text takes it line by line.
        read.pay(frame, len(text) - found.start())
        groups = found.groups("")
        made.append(found.group() if not groups else groups[0] if len(groups) == 1 else list(groups))
    frame.pay_items(len(made))
    return made
