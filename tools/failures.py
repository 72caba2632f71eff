"""The exceptions of other people's code: their texts, and whether a call that raised one may have been heard.

After a timeout or a connection error another call is worth trying, and nobody knows whether a `write` took effect. Libraries for HTTP
have classes of their own for these, outside Python's `ConnectionError` and `TimeoutError`. They are known by name, so that none of the
libraries is imported.

Texts are made safe: the `__str__` of an exception may raise, and may return something that is no text.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path
from traceback import FrameSummary, StackSummary, extract_tb, format_list, walk_tb
from typing import Final

from ..errors import OutcomeUnknown, ToolError
from ..plans.values import Json

TRACE_MAX: Final = 1_900  # characters of a traceback; a field of the log has 2,000
_ROOT: Final = Path(__file__).parent.parent
_CALLERS: Final = tuple(
    f"{_ROOT / folder}{os.sep}" for folder in ("executor", "tools")
)  # frames that call tools are no part of a tool's traceback
FRAMES_MAX: Final = 5  # frames of a failed call that the journal keeps: the last ones in the tool's own code
FRAMES_CHARACTERS_MAX: Final = 2_000  # characters of these frames together
_PATHS: Final = sysconfig.get_paths()
_INSTALLED: Final = tuple(f"{_PATHS[each]}{os.sep}" for each in ("purelib", "platlib"))
_OWN: Final = tuple(f"{_ROOT / each}{os.sep}" for each in ("executor", "tools", "plans"))  # firmplan's code
_PYTHON: Final = (*(f"{_PATHS[each]}{os.sep}" for each in ("stdlib", "platstdlib")), "<frozen")
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
)  # subclasses of these that carry an answer: the call was heard

QUESTION: Final = "question"  # code of a call whose question cannot be asked
REFUSED: Final = "done, result refused: the call took effect, but "


class ResultRefused(ToolError):  # noqa: N818  # named as PlanRejected is
    """The call of a write took effect, but its result is refused. No other failure of a tool means this."""


class QuestionRaised(ToolError):  # noqa: N818  # as above
    """The call did nothing yet: who makes it wants to know something of a person first. The run waits, and the call is made again with the answer.

    Args:
        text: The question, for people.
        returns: JSON Schema of the answer.
        resume: What the tool needs to go on, as JSON; it is journaled, and comes back beside the answer (`Context.answers`).
    """

    def __init__(self, text: str, returns: Mapping[str, Json], resume: Json) -> None:
        super().__init__(f"a question that nobody answered: {text}", code=QUESTION)
        self.asked: dict[str, Json] = {"question": text, "returns": dict(returns), "resume": resume}


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
    """Return a text that UTF-8 can encode: a lone surrogate (half a character, a byte of a file's name) becomes an escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def recorded(value: str | None) -> str | None:
    """Return the value of an environment variable as a journal has it."""
    return None if value is None else writable(value)


def text_of(given: object) -> str:
    """Return the text of an error, or of a part of it, safe to store; empty where `__str__` raises."""
    try:
        return writable(str(given))
    except BaseException:  # noqa: BLE001  # the `__str__` of an error can do what it likes
        return ""


def code_of(error: OutcomeUnknown | ToolError) -> str:
    """Return the code of an error that a tool raised, as text; an error without one has the code of its class."""
    return text_of(error.code)[:CODE_MAX] or (
        ToolError.code if isinstance(error, ToolError) else OutcomeUnknown.code
    )


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error from the tool's own code on; empty if none of that code is in it."""
    frames = dropwhile(lambda frame: frame.filename.startswith(_CALLERS), extract_tb(error.__traceback__))
    lines = "".join(format_list(list(frames)))
    if not lines:
        return ""
    return writable(f"Traceback (most recent call last):\n{lines}{described(error)}")


def frames_of(error: BaseException) -> str:
    """Return the last frames of an error in the tool's own code, as Python prints them, for the journal; empty if none of that code is in it.

    Frames of firmplan, of the standard library and of installed packages are left out: what raised in them is said by the error's own text, and the
    line of the tool that called them is the one to mend. A tool that is in an installed package has the frames of packages.
    """
    every = [(each, each[0].f_code.co_filename) for each in walk_tb(error.__traceback__)]
    # What is installed is often below the folder of the standard library, so it is looked at first.
    installed = [each for each, file in every if file.startswith(_INSTALLED) and not file.startswith(_OWN)]
    others = (*_INSTALLED, *_OWN, *_PYTHON)
    own = [each for each, file in every if not file.startswith(others)] or installed
    # Source lines are looked up for these frames alone: in a list of failing items this is on the way of each.
    stack = StackSummary.extract(iter(own[-FRAMES_MAX:]))
    lines = [each.rstrip() for each in format_list([_from_root(each) for each in stack])]
    while len(lines) > 1 and sum(map(len, lines)) > FRAMES_CHARACTERS_MAX:
        del lines[0]
    return writable("\n".join(lines))[:FRAMES_CHARACTERS_MAX]


def _from_root(frame: FrameSummary) -> FrameSummary:
    """Return a frame with the path of its file from the folder that it is imported from, or from the current one: a record names no folders of a machine."""
    roots = (*(os.path.abspath(each) for each in sys.path), str(Path.cwd()))  # noqa: PTH100  # quicker, and no link is followed
    inside = [root for root in roots if frame.filename.startswith(f"{root.rstrip(os.sep)}{os.sep}")]
    if not inside:
        return frame
    shown = os.path.relpath(frame.filename, max(inside, key=len))
    return FrameSummary(shown, frame.lineno, frame.name, lookup_line=False, line=frame.line)


def shortened(trace: str) -> str:
    """Return a traceback that fits the log: the beginning and the end of a long one."""
    half = TRACE_MAX // 2
    return trace if len(trace) <= TRACE_MAX else f"{trace[:half]}\n..\n{trace[-half:]}"


def described(error: BaseException) -> str:
    """Return an error as its class and its text."""
    kind, text = writable(type(error).__name__), text_of(error)
    return f"{kind}: {text}" if text else kind
