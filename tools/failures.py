"""What somebody else's exceptions mean: what they say, and whether the other side may not have heard, or may not have been heard.

Timeouts and connection errors are worth another call, and leave it open whether a `write` happened. Libraries for HTTP
have their own classes for them, outside Python's `ConnectionError` and `TimeoutError`; they are known by name, so
that none of them is imported.
"""

from __future__ import annotations

import os
from itertools import dropwhile
from pathlib import Path
from traceback import extract_tb, format_list
from typing import Final

from ..errors import OutcomeUnknown, ToolError

TRACE_MAX: Final = 1_900  # characters of a traceback; a field of the log has 2,000
_ROOT: Final = Path(__file__).parent.parent
_CALLERS: Final = tuple(
    f"{_ROOT / room}{os.sep}" for room in ("executor", "tools")
)  # what calls tools: no part of theirs
CODE_MAX: Final = 128  # characters of an error's code

_BY_NAME = frozenset(
    {
        ("httpx", "TransportError"),
        ("httpx2", "TransportError"),
        ("httpcore", "NetworkError"),
        ("httpcore", "TimeoutException"),
        ("requests", "ConnectionError"),
        ("requests", "Timeout"),
        ("urllib3", "TimeoutError"),
        ("urllib3", "ProtocolError"),
        ("urllib3", "NewConnectionError"),
        ("urllib", "URLError"),
        ("aiohttp", "ClientConnectionError"),
        ("openai", "APIConnectionError"),
        ("anthropic", "APIConnectionError"),
        ("botocore", "HTTPClientError"),
        ("redis", "ConnectionError"),
        ("redis", "TimeoutError"),
        ("grpc", "FutureTimeoutError"),
    }
)
_ANSWERED = frozenset(
    {("urllib", "HTTPError")}
)  # subclasses of the above that carry an answer: the call was heard

REFUSED: Final = "done, result refused: the call took effect, but "


class ResultRefused(ToolError):  # noqa: N818  # named as PlanRejected is
    """The call of a write took effect, but its result is refused. No other failure of a tool means this."""


def refused(message: str) -> str:
    """Return the message of a write that took effect and whose result is refused."""
    return message if message.startswith(REFUSED) else f"{REFUSED}{message}"


def is_interruption(error: BaseException) -> bool:
    """Whether a failure is a timeout or a connection error."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    names = {(str(kind.__module__).partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(names & _BY_NAME) and not names & _ANSWERED


def writable(text: str) -> str:
    """Return a text that can be written down: what is no character (half of one, a byte of a file's name) is spelled out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def recorded(value: str | None) -> str | None:
    """Return the value of an environment variable as a journal has it."""
    return None if value is None else writable(value)


def said(given: object) -> str:
    """Return what an error, or a part of it, says, such that it can be written down; empty where asking it fails."""
    try:
        return writable(str(given))
    except BaseException:  # noqa: BLE001  # the `__str__` of an error can do what it likes
        return ""


def code_of(error: OutcomeUnknown | ToolError) -> str:
    """Return the code of an error that a tool raised, as text whatever it was made of; that of its kind if it has none."""
    return said(error.code)[:CODE_MAX] or (
        ToolError.code if isinstance(error, ToolError) else OutcomeUnknown.code
    )


def trace_of(error: BaseException) -> str:
    """Return where an error was raised, as Python shows it, from the tool's own code on; empty if that is not in it."""
    frames = dropwhile(lambda frame: frame.filename.startswith(_CALLERS), extract_tb(error.__traceback__))
    lines = "".join(format_list(list(frames)))
    if not lines:
        return ""
    return writable(f"Traceback (most recent call last):\n{lines}{described(error)}")


def shortened(trace: str) -> str:
    """Return a traceback as the log takes it: of a long one where it begins and where it ends."""
    half = TRACE_MAX // 2
    return trace if len(trace) <= TRACE_MAX else f"{trace[:half]}\n..\n{trace[-half:]}"


def described(error: BaseException) -> str:
    """Return an error as its kind and what it says."""
    kind, text = writable(type(error).__name__), said(error)
    return f"{kind}: {text}" if text else kind
