"""What a scripted model may answer: good answers, and every way in which endpoints misbehave.

A reply is plain data where plain data says it: a `str` is the text of the answer, and any other JSON value is a
structured answer, served in the form that the request asks for (tool call, `json_schema`, JSON, JSON in
markdown). A callable is handed the request and returns a reply. The classes below say the rest.

This module only describes; `completions.py` turns replies into chat completions, `scripted_model.py` serves them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

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
class HttpError:
    """An HTTP status in place of an answer, with an error body as OpenAI's."""

    status: int
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Body:
    """An HTTP body as it is, with status 200: a proxy's login page, a JSON document of the wrong shape."""

    body: str
    content_type: str = "application/json"


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
    """`reply`, where `pace` is awaited before each chunk, and told the share of the chunks that have been sent: from 0 to below 1.

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
    """Bytes as they are, status line and all, and then a closed connection: what is hardly HTTP."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Drip:
    """A body that never ends: `piece`, again and again, with `seconds` between."""

    piece: str = " "
    seconds: float = 0.01


Scripted: TypeAlias = "Json | Text | Empty | Refusal | Truncated | ToolCall | HttpError | Body | Slow | Cut | Paced | Faulted | Raw | Drip"
Answerer: TypeAlias = "Callable[[Request], Scripted | Awaitable[Scripted]]"
Reply: TypeAlias = "Scripted | Answerer"
