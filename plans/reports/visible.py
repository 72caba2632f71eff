r"""Text with its invisible characters displayed as escapes, so that a terminal, a log and a reader see what is there.

Text of tools, models and files can hold characters that move a cursor, change a terminal's state, or reorder and hide other characters.
Escaped are the control characters (C0 but tab and newline, DEL, C1), a carriage return that no newline follows, marks of direction,
characters without width, tags, line and paragraph separators, and lone surrogates. Two functions differ in the form of the escape:

- `visible`: `\x1b`, `\u202e`, `\U000e0041`, as in Python and in YAML between double quotes.
- `visible_json`: `\u001b`, `\u202e`, `\udb40\udc41`, so that JSON text stays the same JSON.

Joiners that Persian, Indic scripts and emoji need are escaped as well: which of them are harmless depends on the reader's knowledge of
the script. Selectors of the emoji form (U+FE0E, U+FE0F) are kept. This module does not know streams.
"""

from __future__ import annotations

import re
from typing import Final

_DIRECTION: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROLS: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
# Unicode's default ignorable characters, but for the direction marks above and the selectors of the emoji form.
_WIDTHLESS: Final = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0"
    "\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_SEPARATORS: Final = "\u2028\u2029"
_SURROGATES: Final = "\ud800-\udfff"
_INVISIBLE: Final = re.compile(
    rf"[{_CONTROLS}{_DIRECTION}{_WIDTHLESS}{_SEPARATORS}{_SURROGATES}]|\r(?!\n)"  # `\r\n` only ends a line
)
_LINE_BREAKS: Final = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


def visible(text: str) -> str:
    """Return text for people with every invisible character as an escape; lines and tabs stay."""
    return _INVISIBLE.sub(_escape, text)


def visible_line(text: str) -> str:
    r"""Return text as one line: as `visible`, with line breaks and tabs as `\n`, `\r` and `\t`."""
    return visible(text.translate(_LINE_BREAKS))


def visible_json(text: str) -> str:
    """Return JSON text with every invisible character as an escape; it holds the same value."""
    return _INVISIBLE.sub(_escape_json, text)


def has_invisible(text: str) -> bool:
    """Whether the text has a character that `visible` escapes."""
    return _INVISIBLE.search(text) is not None


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number == 0x0D:
        return "\\r"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _escape_json(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    high, low = divmod(number - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
