"""Output: answers go to stdout, progress and advice to stderr; with `--json` one document goes to stdout.

Text of tools and models may hold terminal control sequences, and characters that hide or reorder others. Every text that this module prints
has them as visible escapes (`plans/reports/visible.py`), also where the stream is no terminal: a file or a pipe is read on a terminal later.
Documents have them as JSON escapes, so a program gets the value unchanged. This module decides nothing about content.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, datetime
from typing import TextIO

from ..plans.reports.visible import visible, visible_json, visible_line
from .wrapping import table_text, wrapped

PICTURE_WIDTH = 100
"""Most columns of a plan as text."""

DIGEST_WIDTH = 19

ASCII_HANDLER = "firmplan-ascii"
"""Name of the error handler (as of `bytes.decode`) that replaces characters which a stream's encoding lacks."""
ASCII_SIGNS = dict(zip("●○◆◇│─├┤┼┴╰╯…·✓✗", "*oWw|-++++`'~-+x", strict=True))
"""Replacements of the signs of pictures and progress, one column each; other characters are escaped."""


class OutputError(Exception):
    """Standard output or error cannot be written: the disk is full, or the reader has closed the pipe.

    Attributes:
        is_unread: Whether the reader has closed the pipe, as `head` does; then no message is needed.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror or error}")
        self.is_unread = isinstance(error, BrokenPipeError)


_kept: list[TextIO] = []  # the kept stdouts; a command inside another command adds one


def open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed (`2>&-`, some services and schedulers).

    Their descriptors are taken too: otherwise the next opened files get these numbers, and a tool that prints by number writes into them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: its own
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def escape_log_lines() -> None:
    """Have this process print log lines of libraries without a handler with their invisible characters as escapes."""
    # Libraries such as an MCP client quote text from outside, and Python's handler of last resort prints it without this module.
    import logging  # noqa: PLC0415  # what needs a log imports it anyway; `--help` need not

    class VisibleFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return visible(super().format(record))

    if isinstance(last := logging.lastResort, logging.Handler):
        last.setFormatter(VisibleFormatter())


def flush_streams() -> None:
    """Flush stdout and stderr. Raises: OutputError: one of them cannot be written."""
    for stream in _own_streams():
        try:
            stream.flush()
        except OSError as error:
            raise OutputError(error) from error


def drop_unwritten() -> None:
    """Redirect every stream that cannot be written to the null device, because the process is about to end.

    The interpreter flushes both streams once more at exit. If that fails, it prints "Exception ignored in .." and exits
    with 120, whatever the command's own code is. Closing the streams instead would break tools that still print.
    """
    for stream in _own_streams():
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _own_streams() -> list[TextIO]:
    """Return the stdout and stderr that this process was started with, as far as they are open."""
    streams = (sys.__stdout__, sys.__stderr__)
    return [stream for stream in streams if stream is not None and not stream.closed]


@contextmanager
def stdout_for_the_document() -> Generator[None]:
    """Keep stdout for the one document. Output of tools, and of programs that they start, goes to stderr meanwhile."""
    # Both are needed: a program that a tool starts writes to the descriptor, and `print` to whatever `sys.stdout` is.
    with _descriptor_kept(_kept[-1] if _kept else sys.stdout) as out:
        _kept.append(out)
        try:
            with redirect_stdout(sys.stderr):
                yield
        finally:
            _kept.pop()


@contextmanager
def _descriptor_kept(out: TextIO) -> Generator[TextIO]:
    """Yield a new stream to the process's stdout, whose descriptor is stderr's meanwhile. Other streams are yielded as they are."""
    kept: int | None = None
    with suppress(OSError, ValueError, AttributeError):  # the stream is closed, or is not a file
        # Under pytest and in other programs stdout is not the process's own; its descriptor is none of this command's business.
        if out is sys.__stdout__ and out.fileno() == 1:
            out.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
    if kept is None:
        yield out
        return
    stream = os.fdopen(kept, "w", encoding=out.encoding, errors=out.errors, closefd=False)
    try:
        yield stream
    finally:
        with suppress(OSError):  # the writer has the error already
            stream.close()
        os.dup2(kept, 1)
        os.close(kept)


def answer(text: str, *, is_data: bool = False) -> None:
    """Print text for people on stdout.

    Args:
        text: The text; on a terminal its lines are broken between words.
        is_data: Whether its lines mean something, as those of a value, a script or a picture do: then they stay as they are.
    """
    _write(sys.stdout, text if is_data else _laid_out(text, sys.stdout))


def page(text: str) -> None:
    """Print text for people on stdout; on a terminal through `$PAGER` (default `less`), so that the start of a long text is not lost."""
    pager = shlex.split(os.environ.get("PAGER") or "less")
    is_dumb = os.environ.get("TERM", "dumb") == "dumb"
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not is_terminal or is_dumb or not pager or shutil.which(pager[0]) is None:
        answer(text)
        return
    flush_streams()
    # `F`: a text that fits on the screen needs no key; `R` and `X`: colours pass, and the text stays on the screen afterwards.
    env = {"LESS": "FRX", **os.environ}
    rendered = (visible(_laid_out(text, sys.stdout)) + "\n").encode(
        sys.stdout.encoding or "utf-8", ASCII_HANDLER
    )
    with _interrupts_ignored():  # they are the pager's
        shown = subprocess.run(pager, input=rendered, env=env, check=False)  # noqa: S603  # the user's own program
    if shown.returncode != 0:  # the pager did not take it: what has to be read must not be lost
        answer(text)


@contextmanager
def _interrupts_ignored() -> Generator[None]:
    before = None
    with suppress(ValueError):  # not the main thread: signals are somebody else's
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


async def ask(question: str) -> bool:
    """Return whether the person at the terminal answers a question on stderr with yes; the end of the input is a no."""
    # What was typed before the question was there is no answer to it.
    with suppress(ImportError, OSError):
        import termios  # noqa: PLC0415  # not on every system

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    sys.stderr.write(question)
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[str] = loop.create_future()
    source = sys.stdin.fileno()

    def read() -> None:
        if not typed.done():
            typed.set_result(os.read(source, 4096).decode(errors="replace"))

    # Not `input` on a thread: nothing could end it at an interrupt, and the process would wait for a key.
    loop.add_reader(source, read)
    try:
        words = await typed
    finally:
        loop.remove_reader(source)
    return words.strip().lower() in ("y", "yes")


def put_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are. Raises: OutputError."""
    flush_streams()
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(error) from error


def document(value: object) -> None:
    """Print the one JSON document on stdout."""
    out = _kept[-1] if _kept else sys.stdout
    text = json.dumps(value, indent=2, ensure_ascii=not _is_unicode(out), allow_nan=False)
    _put(out, visible_json(text) + "\n")


_notes_are_logged = False


def log_notes() -> None:
    """From now on write notes as lines of the log: a process that serves others is asked for nothing but JSON on stderr (`FIRMPLAN_LOG=json`)."""
    global _notes_are_logged  # noqa: PLW0603  # of the process, as its stderr is
    _notes_are_logged = True


def note(text: str, *, is_error: bool = False) -> None:
    """Print a line of progress or advice on stderr."""
    if _notes_are_logged:
        from ..tools.logbook import open_log  # noqa: PLC0415  # `--help` needs no log

        log = open_log()
        (log.error if is_error else log.info)(text)
        return
    _write(sys.stderr, _laid_out(text, sys.stderr))


def value_text(value: object) -> str:
    """Render a value for people: text as it is, other values as indented JSON."""
    return value if isinstance(value, str) else visible_json(json.dumps(value, indent=2, ensure_ascii=False))


def short(value: object, width: int = 60) -> str:
    """Render a value on one line of at most `width` characters."""
    text = visible_json(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= width else text[: width - 3] + "..."


def short_digest(digest: str) -> str:
    """Return the start of a digest, `sha256:` and twelve digits: it tells plans apart for people."""
    return digest[:DIGEST_WIDTH]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render rows under their head, for the width of stdout where it is a terminal."""
    cells = [tuple(one_line(cell) for cell in row) for row in rows]
    return table_text(head, cells, text_width(sys.stdout))


def picture_width(stream: TextIO | None = None) -> int:
    """Return the columns that a plan as text may take: at most the width of the terminal (stdout, or `stream`)."""
    return min(text_width(stream or sys.stdout) or PICTURE_WIDTH, PICTURE_WIDTH)


def text_width(stream: TextIO) -> int | None:
    """Return the columns of a terminal; `None`: the stream is none, and its lines may have any width."""
    if not stream.isatty():
        return None
    return shutil.get_terminal_size((PICTURE_WIDTH, 24)).columns


def _laid_out(text: str, stream: TextIO) -> str:
    """Return text with its lines broken for a terminal."""
    width = text_width(stream)
    # Escapes take more columns than what they stand for, so they are made first.
    return text if width is None else wrapped(visible(text), width)


def one_line(text: str) -> str:
    """Return the text with every invisible character, line breaks included, as an escape."""
    return visible_line(text)


def seconds(amount: float) -> str:
    """Render a duration: milliseconds below a second."""
    return f"{amount * 1000:.0f} ms" if amount < 1 else f"{amount:.1f} s"


def moment(at: float) -> str:
    """Return a time, given as Unix seconds, as text."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def plural(count: int, noun: str) -> str:
    """Render a count with its noun: `1 step`, `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _write(stream: TextIO, text: str) -> None:
    rendered = visible(text)
    if not _is_unicode(stream):
        rendered = rendered.encode(stream.encoding, ASCII_HANDLER).decode(stream.encoding)
    _put(stream, rendered + "\n")


def _put(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise OutputError(error) from error


def _to_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    # A sign keeps its width, so that pictures and tables stay aligned.
    lacking = error.object[error.start : error.end]
    replaced = (
        ASCII_SIGNS.get(char) or char.encode("ascii", "backslashreplace").decode() for char in lacking
    )
    return "".join(replaced), error.end


codecs.register_error(ASCII_HANDLER, _to_ascii)


def _is_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().replace("-", "").startswith("utf")
