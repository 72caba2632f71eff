"""The transport of answers: streams that are read while the model writes, and the bound on what an endpoint may send.

The words of a streamed answer go to a listener. instructor gets the finished completion only, so that one rule reads and sorts all
answers. Chunks may have any shape: fields that are no part of a completion are ignored. A stream that broke off has an error of its own,
distinct from that of a request without an answer, since it can be sent again in one piece.

A seam: openai and httpx are heavy, and only the first call loads this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import httpx2
import openai
from openai.types.chat import ChatCompletion

from ...plans.values import Json
from ..remote.http_client import BoundedBody
from ..remote.web_page import is_page, page_fault

if TYPE_CHECKING:
    from openai import AsyncOpenAI


_HALF: Final = re.compile("[\ud800-\udbff]$")
"""The first half of a character whose second half is in the next chunk."""


class Listener(Protocol):
    """Hears an answer while the model writes it."""

    def begin(self) -> None:
        """An answer begins. The words heard before are void: that answer broke off."""
        ...

    def hear(self, words: str) -> None:
        """More words have come: of the first tool call's arguments, else of the content."""
        ...


class StreamBroken(Exception):  # noqa: N818  # reads as what it says
    """A stream ended before its answer did; the cause tells how."""


class ListenerFailed(Exception):  # noqa: N818  # the same
    """The listener raised, which is no error of the model; the cause is the exception of the listener."""


def streamed(
    client: AsyncOpenAI, listener: Listener, answer_tool: str | None = None
) -> Callable[..., Awaitable[object]]:
    """Return a `client.chat.completions.create` with a listener to the answer.

    Args:
        client: The client.
        listener: Hears the answer.
        answer_tool: Of a turn of an agent, which may call several tools: the tool by which it answers; empty: it answers with text. `None`: it is none.

    It raises `StreamBroken` where an answer began and did not end, and `ListenerFailed`. An answer in one piece is returned as it is,
    unheard.
    """

    async def create(**options: Any) -> object:  # noqa: ANN401  # openai's own options
        # Before the request and not before its first words: an answer that broke off is void as soon as another
        # one is asked for.
        listener.begin()
        response = await client.chat.completions.with_raw_response.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
        http = response.http_response
        kind = http.headers.get("content-type", "")
        made = StreamedCompletion(answer_tool)
        try:
            # Some servers ignore `stream` and answer in one piece. The answer is good, so it is not asked for
            # again.
            if not kind.startswith("text/event-stream"):
                body = (await http.aread()).decode("utf-8", "replace")
                return _in_one_piece(body) if "json" in kind else body
            async with response.parse() as stream:
                async for chunk in stream:
                    if words := made.add(chunk.to_dict(warnings=False)):
                        _tell(listener, words)
        except ListenerFailed:
            raise
        # openai translates errors of the connection only while it waits for the response; those inside a stream are
        # translated here.
        except httpx2.TransportError as error:
            gone = openai.APIConnectionError(request=http.request)
            gone.__cause__ = error
            raise StreamBroken from gone
        except Exception as error:
            raise StreamBroken from error
        # Without this test an answer that was cut by a lost connection would be read as a complete one: JSON of
        # the last chunks may parse.
        if made.is_open:
            raise StreamBroken from EOFError("the stream ended before the answer did")
        return ChatCompletion.construct(**cast("Any", made.document()))

    return create


def _tell(listener: Listener, words: str) -> None:
    try:
        listener.hear(words)
    except Exception as error:
        raise ListenerFailed from error


def _in_one_piece(body: str) -> object:
    """Return a body as the client returns it of a request without a stream. Raises: ValueError: it is no JSON."""
    document: Json = json.loads(body)
    return ChatCompletion.construct(**cast("Any", document)) if isinstance(document, dict) else body


@dataclass(slots=True)
class _StreamedCall:
    """The parts of one tool call so far."""

    id: object = None
    name: object = None
    arguments: list[str] = field(default_factory=list[str])


class StreamedCompletion:
    """A completion put together from its chunks.

    Args:
        answer_tool: As of `streamed`. Of a turn, all calls are kept, and only the arguments of this tool are words of the answer; otherwise the first call is the answer.
    """

    def __init__(self, answer_tool: str | None = None) -> None:
        self._answer_tool = answer_tool
        self._head: dict[str, object] = {}
        self._said: dict[str, list[str]] = {"content": [], "refusal": [], "arguments": []}
        self._calls: dict[int, _StreamedCall] = {}
        self._finish: object = None
        self._usage: object = None
        self._half = ""

    @property
    def is_open(self) -> bool:
        """Whether words have come, and the answer has not ended."""
        return self._finish is None and any(self._said.values())

    # openai's `ChatCompletionStreamState` does the same for chunks of the documented shape. It raises on others,
    # such as tool calls without an index, which servers for local models send; and it copies the complete message
    # with each chunk.
    def add(self, chunk: Mapping[str, object]) -> str:
        """Take a chunk in; return the words in it that are part of the answer."""
        fields = cast("Mapping[str, Json]", chunk)
        self._head = self._head or {key: fields[key] for key in ("id", "model", "created") if key in fields}
        self._usage = fields.get("usage") or self._usage
        match fields.get("choices"):
            case [{"delta": delta} as choice, *_]:
                self._finish = cast("dict[str, Json]", choice).get("finish_reason") or self._finish
                return self._whole(self._add(delta))
            case _:
                return ""

    def _add(self, delta: Json) -> str:
        if not isinstance(delta, dict):
            return ""
        content = self._note("content", delta.get("content"))
        self._note("refusal", delta.get("refusal"))
        calls = delta.get("tool_calls")
        arguments = [self._add_call(call) for call in calls] if isinstance(calls, list) else []
        if self._answer_tool is not None:
            return content + "".join(arguments)
        return "".join(arguments) if self._calls else content

    def _add_call(self, call: Json) -> str:
        """Take in a part of a tool call, and return the words of the answer in it."""
        match call:
            case {"function": dict(named)}:
                index = self._index_of(cast("dict[str, Json]", call), named)
            case _:
                return ""
        if self._answer_tool is None and index > 0:
            return ""
        known = self._calls.setdefault(index, _StreamedCall())
        known.id = known.id or cast("dict[str, Json]", call).get("id")
        known.name = known.name or named.get("name")
        words = self._note("arguments", named.get("arguments"))
        if words:
            known.arguments.append(words)
        return words if self._answer_tool in (None, known.name) else ""

    def _index_of(self, call: Mapping[str, Json], named: Mapping[str, Json]) -> int:
        """Return the number of the call that a part belongs to; without one it is of the last call, unless it names another tool call."""
        match call.get("index"):
            case int(index):
                return index
            case _ if self._answer_tool is None or not self._calls:
                return 0
            case _:
                return max(self._calls) + bool(named.get("name") and call.get("id"))

    def _note(self, part: str, words: object) -> str:
        if not isinstance(words, str) or not words:
            return ""
        self._said[part].append(words)
        return words

    def _whole(self, words: str) -> str:
        """Return words without half a character at their end; the next chunk brings the other half."""
        words = self._half + words
        self._half = words[-1] if _HALF.search(words) else ""
        return _joined([words[:-1] if self._half else words])

    def document(self) -> dict[str, Json]:
        """Return the completion as an endpoint would have sent it in one piece; without a choice where no chunk had one."""
        message: dict[str, Any] = {"role": "assistant"}
        for part in ("content", "refusal"):
            message[part] = _joined(self._said[part]) or None
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call.id or f"call_{number}",
                    "type": "function",
                    "function": {"name": call.name or "", "arguments": _joined(call.arguments)},
                }
                for number, (_, call) in enumerate(sorted(self._calls.items()), 1)
            ]
        # A stream of empty chunks is no completion, and is treated as an answer of another shape.
        is_answer = self._finish is not None or bool(self._calls) or self.is_open
        choice = {"index": 0, "message": message, "finish_reason": self._finish, "logprobs": None}
        choices = [choice] if is_answer else []
        made = {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage}
        return cast("dict[str, Json]", made)


def _joined(pieces: list[str]) -> str:
    """Return pieces as one text; the two halves of a character that came in two pieces are joined."""
    text = "".join(pieces)
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


# A bound on what an endpoint may send for one answer: no model writes answers of megabytes.

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one response, as it comes over the wire."""

COMPRESSED_BYTES_MAX: Final = 512 * 1024
"""The same of a compressed response, which may hold a thousand times its bytes."""


class BodyTooLarge(httpx2.ReadError):  # reads as what it says
    """An endpoint sent more than an answer can be."""


class WebPage(httpx2.ReadError):  # reads as what it says
    """A web page came where a model was asked: a proxy or a login answers in its place."""


async def expect_no_page(response: httpx2.Response) -> None:
    """Let a response that is a web page end with `WebPage`: a hook of an httpx client, behind `bound_body`."""
    if is_page(response.status_code, response.headers):
        raise WebPage(page_fault(str(response.url), await response.aread()))


async def bound_body(response: httpx2.Response) -> None:
    """Let a response end with `BodyTooLarge` past its bound: a hook of an httpx client."""
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    bytes_max = BODY_BYTES_MAX if is_plain else COMPRESSED_BYTES_MAX
    error = BodyTooLarge(f"it sent more than {bytes_max} bytes for one answer")
    response.stream = BoundedBody(response.stream, bytes_max, error)
