"""Text measured in columns of a terminal, cut to a width, and broken into lines. East Asian characters take two columns."""

from __future__ import annotations

import re
from unicodedata import combining, east_asian_width

ELLIPSIS = "…"


def columns(text: str) -> int:
    """Return the number of columns of a text."""
    if text.isascii():
        return len(text)
    return sum(_column(char) for char in text)


def cut(text: str, width: int) -> str:
    """Return the text, cut with an ellipsis if it is wider than `width`."""
    if columns(text) <= width:
        return text
    return _prefix(text, max(width - 1, 0)).rstrip() + ELLIPSIS


def padded(text: str, width: int) -> str:
    """Return the text filled up with spaces to a width."""
    return text + " " * (width - columns(text))


def wrapped(text: str, width: int, lines_max: int) -> list[str]:
    """Return the text in at most `lines_max` lines, broken after spaces and commas where possible, and cut with an ellipsis.

    Args:
        text: The text.
        width: The most columns of a line.
        lines_max: The most lines.
    """
    lines: list[str] = []
    line = ""
    for word in re.findall(r"\S+?(?:,(?=\S)|\s+|$)", text):
        if line and columns(line + word.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += word
        while columns(line.rstrip()) > width:
            head = _prefix(line, width) or line[0]
            lines.append(head)
            line = line[len(head) :].lstrip()
    if line.strip():
        lines.append(line.rstrip())
    if len(lines) <= lines_max:
        return lines
    return [*lines[: lines_max - 1], cut(f"{lines[lines_max - 1]} {ELLIPSIS}", width)]


def _prefix(text: str, width: int) -> str:
    """Return the longest prefix of a text that fits."""
    taken = 0
    for index, char in enumerate(text):
        taken += _column(char)
        if taken > width:
            return text[:index]
    return text


def _column(char: str) -> int:
    if combining(char):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1
