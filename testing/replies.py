"""The replies of a scripted model, good answers and every way in which endpoints misbehave, and recordings of them.

A reply is plain data where plain data is enough: a `str` is the text of the answer, and any other JSON value is a structured answer,
served in the form that the request asks for (tool call, `json_schema`, JSON, JSON in markdown). The turn of an agent (`{"call": {"tool", "args"}}`, `{"calls": [..]}`
or `{"answer": ..}`, with a `reasoning`) is served as tool calls to a request that leaves the choice of a tool open. A callable gets the request and returns a
reply. The classes below are all other replies. `scripted_model.py` serves them.

A script is a list of replies in order, or of exchanges that are found by their request. Its file is what `firmplan traffic` writes (one
exchange a line, after a line `{"recording": 1}`), a list of replies, or

    {"recording": 1, "exchanges": [
      {"match": "words that the request must contain", "reply": {"firmplan": 1, "steps": []}},
      {"request": "sha256:..", "reply": "found by the request's fingerprint"},
      {"refusal": "found by neither: the next in order"},
      {"match": ["all", "of these"], "error": {"status": 429, "headers": {"retry-after": "1"}}}
    ]}

An exchange answers in one of: `reply` (a value, or a complete chat completion), `text` (content as it is), `refusal`, `truncated` (a value
cut in the middle), `error` (`status`, `message`, `headers`), `empty: true`, `body` (an HTTP body as it is, with its `content_type`);
`seconds` delays any of them. It answers one request, or every request that it fits if `always` is true. Of the exchanges that fit, the
first unused one answers. Exchanges with a condition come before those without, so that concurrent requests find their own answers.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ..tools.models.marks import unmarked
from ..tools.models.recorder import request_digest

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Request: TypeAlias = "dict[str, Json]"


@dataclass(frozen=True, slots=True)
class Text:
    """Content as it is, whatever form the request asks for: prose around JSON, markdown, malformed JSON."""

    content: str


@dataclass(frozen=True, slots=True)
class Empty:
    """A message without content and without a tool call."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model declines, in the `refusal` field of its message."""

    text: str = "I'm sorry, I can't help with that."


@dataclass(frozen=True, slots=True)
class Truncated:
    """The answer ends in mid-text with `finish_reason: "length"`; `share` of its characters arrive."""

    reply: Json
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call with this name and these arguments, whatever tools the request offers."""

    name: str
    arguments: Json


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Several tool calls in one message, each with its name and arguments, beside the text of the message."""

    calls: Sequence[tuple[str, Json]]
    content: str | None = None


@dataclass(frozen=True, slots=True)
class HttpError:
    """An HTTP status in place of an answer, with an error body as OpenAI's."""

    status: int
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Body:
    """An HTTP body as it is: a proxy's login page, a JSON document of another shape, an error in a server's own words."""

    body: str
    content_type: str = "application/json"
    status: int = 200


@dataclass(frozen=True, slots=True)
class Slow:
    """`reply`, after so many seconds of silence."""

    reply: Scripted
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """`reply`, with the connection broken after `share` of its bytes (of its chunks in a stream)."""

    reply: Scripted
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Paced:
    """`reply`, where `pace` is awaited before each chunk, with the share of the chunks that have been sent: from 0 to below 1.

    An answer that is not streamed is paced too, and sent once all of its chunks would have been.
    """

    reply: Scripted
    pace: Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Faulted:
    """`reply`, which ends in an error after `share` of its chunks; an answer that is not streamed is a status 500."""

    reply: Scripted
    share: float = 0.5
    message: str = "the server is overloaded"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, including the status line, then a closed connection: malformed HTTP."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Drip:
    """A body that never ends: `piece`, again and again, with `seconds` between."""

    piece: str = " "
    seconds: float = 0.01


Sent: TypeAlias = (
    "Json | Text | Empty | Refusal | Truncated | ToolCall | ToolCalls | HttpError | Body | Raw | Drip"
)
"""Replies that say what is sent."""
Scripted: TypeAlias = "Sent | Slow | Cut | Paced | Faulted"
"""Replies, with those that say how another one is sent."""
Answerer: TypeAlias = "Callable[[Request], Scripted | Awaitable[Scripted]]"
Reply: TypeAlias = "Scripted | Answerer"


FORMAT = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer and the requests that it is for.

    Attributes:
        words: Texts that must all stand in the request's messages, with or without the marks around data.
        fingerprint: The fingerprint that the request must have; `None`: any.
        always: Whether it answers more than one request.
    """

    reply: Reply
    words: tuple[str, ...] = ()
    fingerprint: str | None = None
    always: bool = False

    @property
    def is_conditional(self) -> bool:
        """Whether it depends on the request."""
        return bool(self.words) or self.fingerprint is not None

    def fits(self, request: Request) -> bool:
        """Whether this is an answer to `request`."""
        if self.fingerprint is not None and self.fingerprint != request_digest(request):
            return False
        text = _text(request.get("messages"))
        if all(word in text for word in self.words):
            return True
        # A text that runs from the author's words into a value has marks in between; who writes a recording does not know their number.
        plain = unmarked(text)
        return all(word in text or word in plain for word in self.words)


class Script:
    """The exchanges that are not used yet. Not thread-safe: one server takes from it."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self._left = list(exchanges)
        self.count = len(self._left)

    @property
    def left(self) -> int:
        """Number of exchanges that are not used yet."""
        return len(self._left)

    def take(self, request: Request) -> Reply | None:
        """Return the answer to `request` and mark it as used; `None`: no exchange fits."""
        fitting = [exchange for exchange in self._left if exchange.fits(request)]
        if not fitting:
            return None
        chosen = next((exchange for exchange in fitting if exchange.is_conditional), fitting[0])
        if not chosen.always:
            self._left.remove(chosen)
        return chosen.reply


def read_recording(path: str | Path) -> list[Exchange]:
    """Read a recording from a file. Raises: ValueError that names the file and the faulty entry; OSError."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        head, _, lines = text.partition("\n")
        if head.strip() == '{"recording": 1}':
            # Not `splitlines`, which also splits at characters that JSON texts may hold as they are (U+2028, U+0085).
            entries: Json = [json.loads(line) for line in lines.split("\n") if line.strip()]
            return exchanges_of({"recording": FORMAT, "exchanges": entries})
        document: Json = json.loads(text)
        return exchanges_of(document)
    except ValueError as error:
        raise ValueError(f"{path} is no recording of a model's answers: {error}") from error


def exchanges_of(document: Json) -> list[Exchange]:
    """Return the exchanges of a recording that has been read. Raises: ValueError."""
    match document:
        case list(replies):
            return [Exchange(reply) for reply in replies]
        case {"recording": 1, "exchanges": list(entries)}:
            return [_exchange(entry, index) for index, entry in enumerate(entries)]
        case _:
            raise ValueError(f'expected a list of replies, or {{"recording": {FORMAT}, "exchanges": [..]}}')


def _exchange(entry: Json, index: int) -> Exchange:
    if not isinstance(entry, dict):
        raise ValueError(f"exchanges[{index}]: expected an object, found {type(entry).__name__}")  # noqa: TRY004  # a error of the file
    words, digest, seconds = entry.get("match", []), entry.get("request"), entry.get("seconds", 0)
    reply = _reply(entry, index)
    return Exchange(
        reply=Slow(reply, float(seconds)) if isinstance(seconds, int | float) and seconds else reply,
        words=(words,)
        if isinstance(words, str)
        else tuple(map(str, words if isinstance(words, list) else ())),
        fingerprint=digest if isinstance(digest, str) else None,
        always=entry.get("always") is True,
    )


def _reply(entry: Mapping[str, Json], index: int) -> Scripted:  # noqa: PLR0911  # one case, one line
    match entry:
        case {"reply": value}:
            return value
        case {"text": str(text)}:
            return Text(text)
        case {"refusal": str(text)}:
            return Refusal(text)
        case {"truncated": value}:
            return Truncated(value)
        case {"error": {"status": int(status), **rest}}:
            headers = rest.get("headers")
            fields = (
                {name: str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
            )
            return HttpError(status, str(rest.get("message", "")), fields)
        case {"empty": True}:
            return Empty()
        case {"body": str(text), **rest}:
            return Body(text, str(rest.get("content_type", "application/json")))
        case _:
            raise ValueError(
                f"exchanges[{index}]: expected one of reply, text, refusal, truncated, error, empty, body"
            )


def _text(messages: Json) -> str:
    """Return all text of a request's messages."""
    if not isinstance(messages, list):
        return ""
    return "\n".join(str(message.get("content")) for message in messages if isinstance(message, dict))
