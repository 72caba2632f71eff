"""An answer taken as it is written: its words go to a listener, and in the end it is a completion like any other.

instructor sees the completion only, so that reading and sorting are those of an answer that came at once. Imported with the
first streamed call: openai is heavy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from openai.types.chat import ChatCompletion, ChatCompletionChunk

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class Listener(Protocol):
    """Hears an answer while it is written."""

    def begin(self) -> None:
        """An answer begins; what was heard of an earlier one is void: it broke off."""
        ...

    def hear(self, words: str) -> None:
        """More of it has come: of the first tool call's arguments, else of the content."""
        ...


def streamed(client: AsyncOpenAI, listener: Listener) -> Callable[..., Awaitable[ChatCompletion]]:
    """Return what asks as `client.chat.completions.create` does, with a listener to the answer."""

    async def create(**options: Any) -> ChatCompletion:  # noqa: ANN401  # openai's own options
        listener.begin()
        made = _Made()
        stream = await client.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
        async with stream:
            async for chunk in stream:
                words = made.add(chunk)
                if words:
                    listener.hear(words)
        return made.completion()

    return create


class _Made:
    """A completion put together from its chunks."""

    def __init__(self) -> None:
        self._last: ChatCompletionChunk | None = None
        self._content: list[str] = []
        self._refusal: list[str] = []
        self._arguments: list[str] = []
        self._name: str | None = None
        self._finish: str | None = None
        self._usage: Any = None

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take a chunk in; return the words in it that are part of the answer."""
        self._last = chunk
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        if choice.delta.refusal:
            self._refusal.append(choice.delta.refusal)
        for call in choice.delta.tool_calls or ():
            if call.index == 0 and call.function is not None:
                self._name = call.function.name or self._name
                self._arguments.append(call.function.arguments or "")
                return call.function.arguments or ""
        words = choice.delta.content or ""
        self._content.append(words)
        return "" if self._name is not None else words

    def completion(self) -> ChatCompletion:
        """Return the whole; without a choice where no chunk had one."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._content) or None,
            "refusal": "".join(self._refusal) or None,
        }
        if self._name is not None:
            function = {"name": self._name, "arguments": "".join(self._arguments)}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        said = self._finish is not None or any(message[key] for key in ("content", "refusal")) or self._name
        choice = {"index": 0, "message": message, "finish_reason": self._finish or "stop", "logprobs": None}
        return ChatCompletion.model_construct(
            id=self._last.id if self._last else "",
            model=self._last.model if self._last else "",
            created=self._last.created if self._last else 0,
            object="chat.completion",
            choices=[ChatCompletion.model_validate(_frame(choice)).choices[0]] if said else [],
            usage=self._usage,
        )


def _frame(choice: dict[str, Any]) -> dict[str, Any]:
    return {"id": "", "model": "", "created": 0, "object": "chat.completion", "choices": [choice]}
