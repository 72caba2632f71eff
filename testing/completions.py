"""Chat completions made from scripted replies, whole or as the chunks of a stream.

Deterministic: ids, times and token counts are functions of the request and the reply, so that recorded traffic
is the same on every machine. Knows HTTP only as far as the bodies go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from .replies import Empty, Json, Refusal, Request, Text, ToolCall, Truncated

WRAPPER = "answer"
"""The one property that carries a structured answer which is no JSON object (see `firmplan.tools.models.answer`)."""

CHARACTERS_A_TOKEN = 4
CHUNK_CHARACTERS = 16


Message: TypeAlias = "Json | Text | Empty | Refusal | Truncated | ToolCall"
"""The replies that are messages of a model, and not faults of the transport."""


Finish: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model, before it has the form of the wire."""

    content: str | None = None
    call: tuple[str, str] | None = None
    refusal: str | None = None
    finish: Finish = "stop"
    usage: dict[str, Json] | None = None

    @property
    def text(self) -> str:
        """All that the model wrote."""
        return (self.content or "") + (self.call[1] if self.call else "") + (self.refusal or "")

    def body(self, request: Request) -> dict[str, Json]:
        """Return the `chat.completion` document."""
        message: dict[str, Json] = {"role": "assistant", "content": self.content, "refusal": self.refusal}
        if self.call:
            message["tool_calls"] = [self._tool_call()]
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
        if self.call:
            name, arguments = self.call
            function: Json = {"name": name, "arguments": ""}
            yield {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
            for piece in _pieces(arguments):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}

    def _tool_call(self) -> Json:
        name, arguments = self.call or ("", "")
        return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


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
            completion = Completion(call=(name, _dump(arguments)), finish="tool_calls")
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
    tool = _forced_tool(request)
    if tool is not None:
        return Completion(
            call=(str(tool.get("name")), _dump(_wrapped(value, tool.get("parameters")))), finish="tool_calls"
        )
    match request.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return Completion(content=_dump(_wrapped(value, schema)))
        case _:
            text = _dump(value)
            fenced = not isinstance(value, str) and _asks_for_codeblock(request)
            return Completion(content=f"```json\n{text}\n```" if fenced else text)


def _forced_tool(request: Request) -> dict[str, Json] | None:
    """Return the function that the request forces, else its first, else `None`."""
    tools = request.get("tools")
    functions = (
        [tool["function"] for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    )
    offered = [function for function in functions if isinstance(function, dict)]
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
    if whole.call:
        name, arguments = whole.call
        return Completion(call=(name, arguments[: int(len(arguments) * share)]), finish="length")
    content = whole.content or ""
    return Completion(content=content[: int(len(content) * share)], finish="length")


def _recorded(message: dict[str, Json], finish: Json, usage: Json) -> Completion:
    """Read the message of a whole `chat.completion` document that stands as a reply."""
    content, refusal = message.get("content"), message.get("refusal")
    counted = usage if isinstance(usage, dict) else None
    match message.get("tool_calls"):
        case [{"function": {"name": str(name), "arguments": str(arguments)}}, *_]:
            ended: Finish = "length" if finish == "length" else "tool_calls"
            return Completion(call=(name, arguments), finish=ended, usage=counted)
        case _:
            return Completion(
                content=content if isinstance(content, str) else None,
                refusal=refusal if isinstance(refusal, str) else None,
                finish=cast("Finish", finish) if finish in ("length", "content_filter") else "stop",
                usage=counted,
            )


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
    prompt = len(json.dumps(request.get("messages"), ensure_ascii=False)) // CHARACTERS_A_TOKEN
    answer = len(completion.text) // CHARACTERS_A_TOKEN + 1
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + CHUNK_CHARACTERS] for start in range(0, len(text), CHUNK_CHARACTERS))


def _dump(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
