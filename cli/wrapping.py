"""Text laid out for a width: lines broken between words, commands that can still be copied, tables whose last columns move below.

No word is broken: a digest, a path or an id that is wider than the terminal stays in one piece, so that it can be copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from ..lazy_imports import late_pattern

COLUMN_GAP: Final = "  "
HANGING: Final = "  "
"""What stands before the further lines of a line that was broken, after its own indentation."""
LAST_COLUMN_MIN: Final = 24
"""Columns below which a table's last column, as text, would be a pillar of single words: it then moves below its row."""
CONTINUED: Final = " \\"
_COMMAND: Final = late_pattern(r"firmplan [a-z]")
_SHELL_WORD: Final = late_pattern(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+\s*")
_BLOCK: Final = ("|", ":")
"""First characters of lines that the view of waiting calls has broken already."""


def columns(text: str) -> int:
    """Return the number of columns of a text."""
    if text.isascii():
        return len(text)
    from ..plans.render import width  # noqa: PLC0415  # `--help` needs no plans

    return width.columns(text)


def wrapped(text: str, width: int) -> str:
    """Return text whose lines fit a width, where their words do. Further lines of a line are indented; those of a command are continued.

    Args:
        text: The text.
        width: In columns.
    """
    return "\n".join(piece for line in text.split("\n") for piece in _pieces(line, width))


def _pieces(line: str, width: int) -> Iterator[str]:
    body = line.lstrip(" ")
    if columns(line) <= width or body.startswith(_BLOCK):
        yield line
        return
    indent = line[: len(line) - len(body)]
    # A line break inside a command would run its halves as two commands; a backslash before it keeps them one.
    is_command = _COMMAND.match(body) is not None
    words = (_SHELL_WORD if is_command else re.compile(r"\S+\s*")).findall(body)
    room = width - len(CONTINUED) if is_command else width
    yield from _filled(words, indent, f"{indent}{HANGING}", room, CONTINUED if is_command else "")


def _filled(words: Sequence[str], first: str, later: str, width: int, mark: str = "") -> Iterator[str]:
    """Yield lines of words.

    Args:
        words: The words, each with the spaces after it.
        first: What stands before the first line.
        later: What stands before the other lines.
        width: Columns of a line.
        mark: What ends each line but the last.
    """
    line, is_empty = first, True
    for word in words:
        if not is_empty and columns(line + word.rstrip()) > width:
            yield line.rstrip() + mark
            line, is_empty = later, True
        line += word
        is_empty = False
    yield line.rstrip()


def table_text(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Return rows under their head, each column as wide as its widest cell.

    If that is wider than the terminal, the last column is broken into lines; if there is no room for that, the last columns move below their row.

    Args:
        head: The names of the columns.
        rows: The cells, each on one line.
        width: Of the terminal; `None`: there is none, and a line may have any width.
    """
    cells = [tuple(head), *map(tuple, rows)]
    widths = [max(columns(row[place]) for row in cells) for place in range(len(head))]
    if width is None or sum(widths) + len(COLUMN_GAP) * (len(widths) - 1) <= width:
        return "\n".join(_row(row, widths) for row in cells)
    if _taken(widths[:-1]) + LAST_COLUMN_MIN <= width:
        return "\n".join(line for row in cells for line in _row_lines(row, widths, width))
    kept = max(1, sum(_taken(widths[:count]) - len(COLUMN_GAP) <= width for count in range(1, len(widths))))
    return "\n".join(_stacked(cells, widths[:kept], width))


def _taken(widths: Sequence[int]) -> int:
    """Return the columns of so many columns, with the gap after each."""
    return sum(widths) + len(COLUMN_GAP) * len(widths)


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    return COLUMN_GAP.join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def _row_lines(row: Sequence[str], widths: Sequence[int], width: int) -> Iterator[str]:
    """Yield a row with its last cell broken into the columns that are left."""
    before = "".join(
        f"{_padded(cell, each)}{COLUMN_GAP}" for cell, each in zip(row[:-1], widths[:-1], strict=True)
    )
    yield from _filled(re.findall(r"\S+\s*", row[-1]), before, " " * columns(before), width)


def _stacked(cells: Sequence[Sequence[str]], widths: Sequence[int], width: int) -> Iterator[str]:
    """Yield rows of the first columns, each with its other cells below it, by name where these are several."""
    kept = len(widths)
    head = cells[0]
    yield _row(head[:kept], widths)
    if len(head) - kept == 1:  # else each of the other cells stands with its name
        yield f"{HANGING}{head[-1]}"
    for row in cells[1:]:
        yield _row(row[:kept], widths)
        below = [(name, cell) for name, cell in zip(head[kept:], row[kept:], strict=True) if cell]
        for name, cell in below:
            named = f"{HANGING}{name}: " if len(head) - kept > 1 and name else HANGING
            yield from _filled(re.findall(r"\S+\s*", cell), named, HANGING * 2, width)
