"""What Python's parser objects to, as a fault of the plan language: where, what was expected there, and the nearest rule.

Python says `invalid syntax` and an offset; advice that it has holds for programs. The place decides what is said here: the end of
the text, a slip that people and models often make, or two values with nothing between them.
"""

from __future__ import annotations

import re
from typing import Final

from ..faults import Fault

_TOKEN: Final = re.compile(r"\w+|'[^']*'|\"[^\"]*\"|===|[=!<>]=|=[<>]|<>|:=|->|//|\*\*|\+\+|--|\.\.|.")
_VALUE_ENDS: Final = re.compile(r"[\w)\]}'\"]\s*$")
_VALUE_BEGINS: Final = re.compile(r"[\w(\[{'\"]")
SHOWN_MAX: Final = 40  # characters of the text that a message repeats

_CONDITION: Final = "write: x if condition else y"
_STATEMENT: Final = "write the value itself: statements are no part of the language"
_SLIPS: Final = {
    "=": "compare with '=='",
    "===": "compare with '=='",
    "=>": "write: >=",
    "=<": "write: <=",
    "<>": "write: !=",
    ":=": "name a value by a step of its own: {id: .., set: ..}",
    "++": "write: x + 1",
    "--": "write: x - 1",
    "..": "one dot reaches into a value: x.field",
    "*": "join lists with +",
    "if": _CONDITION,
    "then": _CONDITION,
    "else": _CONDITION,
    **{word: f"write: {word.lower()}" for word in ("AND", "OR", "NOT", "IN", "IS", "IF", "ELSE")},
    "for": "write a list: [x.field for x in xs]",
    **dict.fromkeys(("import", "from", "return", "def", "class", "del", "raise", "while", "try", "with"), _STATEMENT),
}  # fmt: skip


def objection(error: SyntaxError, text: str) -> Fault:
    """Return what is wrong with a text that is no expression."""
    if "Exceeds the limit" in error.msg:
        return Fault("bad-expr", "an integer past 64 bits", "write it as text", "", 0, len(text))
    at = (error.offset or len(text) + 1) - 1
    if at >= len(text):
        return _at_the_end(text)
    said = error.msg.split(". ", 1)[0]
    if "forgot a comma" in error.msg:
        end = max((error.end_offset or 0) - 1, at + 1)
        return _fault(f"'{_short(text[at:end])}' are two values", at, end, _BETWEEN)
    at, token = _token(text, at)
    end = at + len(token)
    hint = _hint(text, at, token)
    if said != "invalid syntax":
        return _fault(f"{said[:1].lower()}{said[1:]}", at, end, hint)
    if not hint and _VALUE_BEGINS.match(token) and _VALUE_ENDS.search(text[:at]):
        return _fault(f"expected an operator before '{_short(token)}'", at, end, _BETWEEN)
    return _fault(f"found '{_short(token)}' where no such thing can stand", at, end, hint)


_BETWEEN: Final = "put an operator or a comma between them; text stands in quotes"


def _at_the_end(text: str) -> Fault:
    last = [token for token in _TOKEN.findall(text) if not token.isspace()][-1:] or [""]
    hint = _SLIPS.get(last[0], f"write what follows '{last[0]}', or leave '{last[0]}' out")
    begin = len(text) - len(last[0])
    return Fault(
        "bad-expr",
        f"not an expression: it ends after '{last[0]}', where a value is expected",
        hint,
        "",
        begin,
        len(text),
    )


def _token(text: str, at: int) -> tuple[int, str]:
    """Return the word or sign that stands at a place, and where it begins."""
    found = next(found for found in _TOKEN.finditer(text) if found.end() > at)
    return found.start(), found[0]


def _hint(text: str, at: int, token: str) -> str:
    before = text[:at].rstrip()
    if token.startswith(".") and text[at + 1 : at + 2].isdigit():
        return f"positions stand in brackets: {_short(before)}[{text[at + 1]}]"
    return _SLIPS.get(token, "")


def _fault(words: str, start: int, end: int, hint: str) -> Fault:
    return Fault("bad-expr", f"not an expression: {words} (column {start + 1})", hint, "", start, end)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 2]}.."
