"""A model endpoint that answers from a script: a real HTTP server on loopback, for tests and for offline demos.

    async with ScriptedModel([{"firmplan": 1, "steps": []}, HttpError(429), "plain text"]) as model:
        planner = Planner(model="scripted", base_url=model.base_url)

It speaks `POST /v1/chat/completions`, plain and streamed, and `GET /v1/models`. Nothing between the caller and the
socket is replaced, so clients, retries, timeouts and parsers are those of production.
`with ScriptedModel(..) as model:` serves from a thread, for code without an event loop, and
`python -m firmplan.testing.scripted_model FILE` serves a recording to other processes.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import math
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast

import h11

from ..tools.background import Background, call
from .replies import (
    Answerer,
    Body,
    Cut,
    Drip,
    Empty,
    Exchange,
    Faulted,
    HttpError,
    Json,
    Paced,
    Raw,
    Refusal,
    Reply,
    Request,
    Script,
    Scripted,
    Sent,
    Slow,
    Text,
    ToolCall,
    ToolCalls,
    Truncated,
    exchanges_of,
    read_recording,
)

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A request past this is refused: it is a bug in the test, and would be held in memory."""

_EXHAUSTED = "the script is exhausted: of its replies ({count}) none is left for request number {number}"
_UNFIT = (
    "the script has no reply that fits request number {number}: of its replies ({count}) those that are left ({left}) are for other "
    "requests; record this one too"
)


Source: TypeAlias = "Sequence[Reply | Exchange] | dict[str, Json] | str | Path | Answerer"
"""Where replies come from: a list, a recording's document or path, or a function of the request."""


class ScriptedModel:
    """A chat-completions endpoint on loopback that answers from a script.

    Args:
        replies: A list of replies (see `replies.py`) answered in order; a recording (a path, or its document); or a
            callable that is handed every request and returns its reply.
        port: Where to listen; 0: any free port.
        seconds_per_chunk: Pause before each chunk of a streamed answer: a model's pace.
        models: The list of models, as a document, or an `HttpError`; `None`: the one model `scripted`.

    Attributes:
        base_url: Where to reach it, such as `http://127.0.0.1:41234/v1`; set once it is entered.
        requests: The body of every chat-completions request so far, in order of arrival.
        headers: The headers of the same requests, names in lower case.
    """

    def __init__(
        self,
        replies: Source = (),
        *,
        port: int = 0,
        seconds_per_chunk: float = 0.0,
        models: Json | HttpError = None,
    ) -> None:
        self._script = Script(_exchanges(replies))
        self._port = port
        self._seconds_per_chunk = seconds_per_chunk
        self._models = models
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._background: Background | None = None
        self.base_url = ""
        self.requests: list[Request] = []
        self.headers: list[dict[str, str]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def __enter__(self) -> Self:
        self._background = Background()
        return call(self._background.loop, self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._background is not None:
            # The model is closed first: connections are tasks of this loop, and a stopped loop would leave them open.
            call(self._background.loop, self.__aexit__(kind, error, trace))
            self._background.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the peer or the server closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            connection = _Connection(reader, writer)
            while await self._serve_one(connection):
                pass
        except (ConnectionError, h11.ProtocolError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()  # the server ends and does not wait for a slow peer
        finally:
            writer.close()
            self._connections.discard(task)

    async def _serve_one(self, connection: _Connection) -> bool:
        """Answer one request; whether the connection can carry another."""
        message = await connection.read_request()
        if message is None:
            return False
        head, body = message
        target = head.target.decode().split("?")[0].rstrip("/")
        match head.method, target.removeprefix("/v1"):
            case b"POST", "/chat/completions":
                await self._complete(connection, head, body)
            case b"GET", "/models":
                if isinstance(self._models, HttpError):
                    refused = self._models
                    text = refused.message or f"scripted status {refused.status}"
                    await connection.send_json(refused.status, _error(text), refused.headers)
                else:
                    usual = {"id": "scripted", "object": "model", "owned_by": "firmplan"}
                    await connection.send_json(200, self._models or {"object": "list", "data": [usual]})
            case _:
                await connection.send_json(404, _error(f"no such path: {head.method.decode()} {target}"))
        return connection.is_reusable()

    async def _complete(self, connection: _Connection, head: h11.Request, body: bytes) -> None:
        try:
            request: Request = json.loads(body)
            assert isinstance(request, dict)
        except (ValueError, AssertionError):
            await connection.send_json(400, _error("the request's body is no JSON object"))
            return
        self.requests.append(request)
        self.headers.append({name.decode(): value.decode("latin-1") for name, value in head.headers})
        reply = self._script.take(request)
        if reply is None:
            left = self._script.left
            form = _UNFIT if left else _EXHAUSTED
            text = form.format(count=self._script.count, number=len(self.requests), left=left)
            # Without the header the openai client would repeat the request, and the mistake in the test would come out as a timeout.
            await connection.send_json(500, _error(text), {"x-should-retry": "false"})
            return
        await self._answer(connection, request, await _settled(reply, request))

    async def _answer(self, connection: _Connection, request: Request, reply: Scripted) -> None:
        """Send a reply in the way that the classes around it say."""
        sent, connection.delivery = await _unwrapped(reply)
        error = connection.delivery.error
        if error is not None and not request.get("stream"):
            sent = HttpError(500, error[1])
        match sent:
            case HttpError(status, message, headers):
                await connection.send_json(status, _error(message or f"scripted status {status}"), headers)
            case Body(text, content_type, code):
                await connection.send(code, text.encode(), {"content-type": content_type})
            case Raw(data):
                await connection.send_raw(data)
            case Drip():
                await connection.send_endlessly(sent)
            case _:
                await self._send_completion(connection, request, completion_of(sent, request))

    async def _send_completion(
        self, connection: _Connection, request: Request, completion: Completion
    ) -> None:
        documents, pace = list(completion.chunks(request)), connection.delivery.pace
        if request.get("stream"):
            await connection.send_stream(self._events(documents, connection.delivery))
            return
        if pace is not None:  # an answer that is not streamed comes once all of its chunks would have come
            for index in range(len(documents)):
                await pace(index / len(documents))
        await connection.send_json(200, completion.body(request))

    async def _events(self, documents: list[dict[str, Json]], delivery: _Delivery) -> AsyncIterator[bytes]:
        """Yield the server-sent events of a stream; a cut connection and an error end it early."""
        count = len(documents)
        # The share is of chunks and not of bytes, so that a test knows which pieces have arrived.
        cut_at = None if delivery.cut_share is None else int(count * delivery.cut_share)
        error_share, message = delivery.error or (math.inf, "")
        for index, document in enumerate(documents):
            if delivery.pace is not None:
                await delivery.pace(index / count)
            await asyncio.sleep(self._seconds_per_chunk)
            if index == cut_at:
                raise ConnectionAbortedError
            if index >= error_share * count:
                yield _event(_error(message))
                return
            yield _event(document)
        yield b"data: [DONE]\n\n"


@dataclass(slots=True)
class _Delivery:
    """How an answer is sent.

    Attributes:
        cut_share: The connection breaks after this share of the answer.
        pace: Awaited before each chunk, with the share of the chunks that have been sent.
        error: A stream ends after this share of its chunks in an error with this message.
    """

    cut_share: float | None = None
    pace: Callable[[float], Awaitable[object]] | None = None
    error: tuple[float, str] | None = None


class _Connection:
    """One HTTP/1.1 connection; h11 keeps the protocol's state."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)
        self.delivery = _Delivery()

    async def read_request(self) -> tuple[h11.Request, bytes] | None:
        """Return the next request and its body; `None` once the peer has left."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    # An empty read tells h11 that the peer has left; the next event then is ConnectionClosed.
                    self._http.receive_data(await self._reader.read(65536))
                case h11.Request() as head:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                case h11.Data(data=data):
                    body += data
                    if len(body) > BODY_BYTES_MAX:
                        return None
                case h11.EndOfMessage():
                    assert head is not None
                    return head, bytes(body)
                case _:
                    return None

    def is_reusable(self) -> bool:
        """Prepare the connection for the next request; whether there can be one."""
        # After a cut or raw answer h11 is in another state, and the connection is closed.
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self.delivery = _Delivery()
        return True

    async def send_json(
        self, status: int, document: object, headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        await self.send(status, body, {"content-type": "application/json", **(headers or {})})

    async def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a complete response, or break the connection after a share of its body."""
        fields = [*headers.items(), ("content-length", str(len(body)))]
        await self._write(h11.Response(status_code=status, headers=fields))
        if (share := self.delivery.cut_share) is not None:
            # The head has declared the complete length, so the client sees a broken transfer and not a short body.
            await self._write(h11.Data(data=body[: int(len(body) * share)]))
            raise ConnectionAbortedError
        await self._write(h11.Data(data=body))
        await self._write(h11.EndOfMessage())

    async def send_raw(self, data: bytes) -> None:
        """Send bytes past the protocol, and close the connection."""
        self._writer.write(data)
        await self._writer.drain()
        self._writer.close()
        raise ConnectionAbortedError

    async def send_endlessly(self, drip: Drip) -> None:
        """Send a body piece by piece until the peer closes the connection."""
        await self._write(h11.Response(status_code=200, headers=[("content-type", "application/json")]))
        while True:
            await self._write(h11.Data(data=drip.piece.encode()))
            await asyncio.sleep(drip.seconds)

    async def send_stream(self, events: AsyncIterator[bytes]) -> None:
        await self._write(h11.Response(status_code=200, headers=[("content-type", "text/event-stream")]))
        async for event in events:
            await self._write(h11.Data(data=event))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()


def _exchanges(replies: Source) -> list[Exchange]:
    if isinstance(replies, str | Path):
        return read_recording(replies)
    if isinstance(replies, dict):
        return exchanges_of(cast("Json", replies))
    if callable(replies):
        return [Exchange(replies, always=True)]
    return [reply if isinstance(reply, Exchange) else Exchange(reply) for reply in replies]


async def _unwrapped(reply: Scripted) -> tuple[Sent, _Delivery]:
    """Return what a reply says, and how it is sent; a slow one after its time."""
    delivery = _Delivery()
    while isinstance(reply, Slow | Cut | Paced | Faulted):
        match reply:
            case Slow(seconds=seconds):
                await asyncio.sleep(seconds)
            case Cut(share=share):
                delivery.cut_share = share
            case Paced(pace=pace):
                delivery.pace = pace
            case Faulted(share=share, message=message):
                delivery.error = share, message
        reply = reply.reply
    return reply, delivery


async def _settled(reply: Reply, request: Request) -> Scripted:
    """Ask a callable for its reply; what it raises is served as a 500 that says so."""
    if not callable(reply):
        return reply
    try:
        answer = reply(request)
        return await answer if inspect.isawaitable(answer) else answer
    except Exception as error:  # noqa: BLE001  # the test's own code: its client gets the message
        return HttpError(
            500, f"the scripted reply raised {type(error).__name__}: {error}", {"x-should-retry": "false"}
        )


def _event(document: dict[str, Json]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def _error(message: str) -> dict[str, Json]:
    return {"error": {"message": message, "type": "scripted", "param": None, "code": None}}


# --- Chat completions: the documents of a reply, complete or as the chunks of a stream. They are deterministic: ids, times and token
# counts are functions of the request and the reply, so that recorded traffic is the same on every machine.


WRAPPER = "answer"
"""The one property that carries a structured answer which is not a JSON object."""

CHARACTERS_A_TOKEN = 4
CHUNK_CHARACTERS = 16
CHUNKS_MAX = 1_000  # of a long text, whose chunks are longer


Message: TypeAlias = "Json | Text | Empty | Refusal | Truncated | ToolCall | ToolCalls"
"""The replies that are messages of a model, not errors of the transport."""


Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model, before it is serialized."""

    content: str | None = None
    calls: tuple[tuple[str, str], ...] = ()
    refusal: str | None = None
    finish: Finish = "stop"
    usage: dict[str, Json] | None = None

    @property
    def text(self) -> str:
        """Everything that the model wrote."""
        return (self.content or "") + "".join(words for _, words in self.calls) + (self.refusal or "")

    def body(self, request: Request) -> dict[str, Json]:
        """Return the `chat.completion` document."""
        message: dict[str, Json] = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        if self.calls:
            message["tool_calls"] = [
                {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": words}}
                for number, (name, words) in enumerate(self.calls, 1)
            ]
        choice: dict[str, Json] = {
            "index": 0,
            "message": message,
            "finish_reason": self.finish,
            "logprobs": None,
        }
        return {**_envelope(request, "chat.completion"), "choices": [choice], "usage": _usage(request, self)}

    def chunks(self, request: Request) -> Iterator[dict[str, Json]]:
        """Yield the `chat.completion.chunk` documents of a stream, a few characters each."""
        head = _envelope(request, "chat.completion.chunk")
        for delta in self._deltas():
            yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]}
        options = request.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield {**head, "choices": [], "usage": _usage(request, self)}

    def _deltas(self) -> Iterator[Json]:
        yield {"role": "assistant", "content": "" if self.content is not None else None}
        for piece in _pieces(self.content or ""):
            yield {"content": piece}
        for piece in _pieces(self.refusal or ""):
            yield {"refusal": piece}
        for index, (name, arguments) in enumerate(self.calls):
            # As real servers do: the name comes once, then pieces of the arguments, which the client joins by their index.
            head: dict[str, Json] = {"index": index, "id": f"call_{index + 1}", "type": "function"}
            yield {"tool_calls": [{**head, "function": {"name": name, "arguments": ""}}]}
            for piece in _pieces(arguments):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def completion_of(reply: Message, request: Request) -> Completion:
    """Return the completion that serves `reply` in the form that `request` asks for."""
    match reply:
        case Text(content):
            completion = Completion(content=content)
        case Empty():
            completion = Completion()
        case Refusal(text):
            completion = Completion(refusal=text)
        case ToolCall(name, arguments):
            completion = Completion(calls=((name, _dump(arguments)),), finish="tool_calls")
        case ToolCalls(calls, content):
            made = tuple((name, _dump(arguments)) for name, arguments in calls)
            completion = Completion(content=content, calls=made, finish="tool_calls")
        case Truncated(whole, share):
            completion = _truncated(completion_of(whole, request), share)
        case {"choices": [{"message": dict(message)} as choice, *_]}:
            document = cast("dict[str, Json]", reply)
            finish = cast("dict[str, Json]", choice).get("finish_reason")
            completion = _recorded(message, finish, document.get("usage"))
        case _:
            completion = _formed(reply, request)
    return completion


def _formed(value: Json, request: Request) -> Completion:
    """Serve a value as a tool call, JSON content or JSON in markdown."""
    if (chosen := _chosen(value, request)) is not None:
        return chosen
    tool = _forced_tool(request)
    if tool is not None:
        arguments = _dump(_wrapped(value, tool.get("parameters")))
        return Completion(calls=((str(tool.get("name")), arguments),), finish="tool_calls")
    match request.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return Completion(content=_dump(_wrapped(value, schema)))
        case _:
            text = _dump(value)
            # instructor's markdown mode is the one that asks for a code block in its last message.
            fenced = not isinstance(value, str) and _asks_for_codeblock(request)
            return Completion(content=f"```json\n{text}\n```" if fenced else text)


def _chosen(value: Json, request: Request) -> Completion | None:
    """Serve the turn of an agent as tool calls; `None`: the value is none, or the request forces a tool."""
    offered = _offered(request)
    if not isinstance(value, dict) or not offered or isinstance(request.get("tool_choice"), dict):
        return None
    said = value.get("reasoning")
    content = said if isinstance(said, str) else None
    answering = next((each for each in offered if each.get("name") == WRAPPER), None)
    match value:
        case {"call": {"tool": str(), "args": _} as call}:
            listed: list[Json] = [call]
        case {"calls": [*listed]}:
            pass
        # Without an `answer` tool the result is the text of the message.
        case {"answer": str(text)} if answering is None:
            return Completion(content=text)
        case {"answer": answer}:
            schema = None if answering is None else answering.get("parameters")
            return Completion(
                content=content, calls=((WRAPPER, _dump(_wrapped(answer, schema))),), finish="tool_calls"
            )
        case _:
            return None
    # Names go over the wire in the form that endpoints take.
    made = tuple(
        (re.sub(r"[^a-zA-Z0-9_-]", "_", str(call.get("tool"))), _dump(call.get("args")))
        for call in listed
        if isinstance(call, dict)
    )
    return Completion(content=content, calls=made, finish="tool_calls")


def _offered(request: Request) -> list[dict[str, Json]]:
    """Return the functions that a request offers."""
    tools = request.get("tools")
    listed = tools if isinstance(tools, list) else []
    functions = [tool.get("function") for tool in listed if isinstance(tool, dict)]
    return [function for function in functions if isinstance(function, dict)]


def _forced_tool(request: Request) -> dict[str, Json] | None:
    """Return the function that the request forces, else its first, else `None`."""
    offered = _offered(request)
    match request.get("tool_choice"):
        case {"function": {"name": name}}:
            return next((function for function in offered if function.get("name") == name), {"name": name})
        case _:
            return offered[0] if offered else None


def _wrapped(value: Json, schema: Json) -> Json:
    """Put a value into the wrapper where the schema asks for one and the value does not have it yet."""
    match schema:
        case {"properties": dict(properties)} if list(properties) == [WRAPPER]:
            has_it = isinstance(value, dict) and list(value) == [WRAPPER]
            return value if has_it else {WRAPPER: value}
        case _:
            return value


def _asks_for_codeblock(request: Request) -> bool:
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and "codeblock" in str(last.get("content"))


def _truncated(whole: Completion, share: float) -> Completion:
    if whole.calls:
        name, arguments = whole.calls[0]
        return Completion(calls=((name, arguments[: int(len(arguments) * share)]),), finish="length")
    content = whole.content or ""
    return Completion(content=content[: int(len(content) * share)], finish="length")


def _recorded(message: dict[str, Json], finish: Json, usage: Json) -> Completion:
    """Return the completion of a reply that is a complete `chat.completion` document."""
    content, refusal = message.get("content"), message.get("refusal")
    counted = usage if isinstance(usage, dict) else None
    listed = message.get("tool_calls")
    calls = tuple(
        (name, arguments)
        for call in (listed if isinstance(listed, list) else [])
        for name, arguments in _named(call)
    )
    text = content if isinstance(content, str) else None
    if calls:
        ended: Finish = "length" if finish == "length" else "tool_calls"
        return Completion(content=text, calls=calls, finish=ended, usage=counted)
    return Completion(
        content=text,
        refusal=refusal if isinstance(refusal, str) else None,
        finish=cast("Finish", finish) if finish in ("length", "content_filter") else "stop",
        usage=counted,
    )


def _named(call: Json) -> Iterator[tuple[str, str]]:
    match call:
        case {"function": {"name": str(name), "arguments": str(arguments)}}:
            yield name, arguments
        case _:
            pass


def _envelope(request: Request, kind: str) -> dict[str, Json]:
    return {
        "id": "chatcmpl-scripted",
        "object": kind,
        "created": 0,
        "model": request.get("model") or "scripted",
    }


def _usage(request: Request, completion: Completion) -> Json:
    if completion.usage is not None:
        return completion.usage
    # The counts have to be plausible and equal on every machine; a real tokenizer would be a dependency and a download.
    prompt = len(json.dumps(request.get("messages"), ensure_ascii=False)) // CHARACTERS_A_TOKEN
    # A model writes the names of the tools that it calls, too.
    written = len(completion.text) + sum(len(name) for name, _ in completion.calls)
    answer = written // CHARACTERS_A_TOKEN + 1
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _pieces(text: str) -> Iterator[str]:
    size = max(CHUNK_CHARACTERS, len(text) // CHUNKS_MAX)
    return (text[start : start + size] for start in range(0, len(text), size))


def _dump(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Serve a recording until interrupted; the first line printed is the base URL."""
    parser = argparse.ArgumentParser(
        prog="python -m firmplan.testing.scripted_model", description=main.__doc__
    )
    parser.add_argument("recording", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with ScriptedModel(arguments.recording, port=arguments.port) as model, suppress(KeyboardInterrupt):
        print(model.base_url, flush=True)  # noqa: T201  # what the command is for
        threading.Event().wait()


if __name__ == "__main__":
    main()
