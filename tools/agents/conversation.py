"""Conversations of agents: earlier messages that go in, and the messages so far that come out.

    @agent
    def chat(history: list[Message], question: str) -> Reply[str]:
        \"\"\"${question}\"\"\"

A parameter annotated `list[Message]` holds what was said before. The model gets it as turns of the conversation, between worked examples and prompt, and not as a
part of the prompt. An agent that returns `Reply[T]` is asked for a `T`, and its result has the answer and all messages: those that went in, the prompt and the
answer. They are values like any other: recorded, validated, bounded, and a part of the key by which answers are reused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from ...errors import ToolError
from ...plans.values import Json
from ..models.completion import Message as Sent
from ..models.marks import Data, mark

T = TypeVar("T", default=str)

MESSAGES_MAX: Final = 200
"""Earlier messages of one call: each is sent again with every request."""
CHARACTERS_MAX: Final = 400_000
"""Characters of them, about as many as the largest models read."""


class Message(BaseModel):
    """One message of a conversation.

    Attributes:
        role: Whose it is: of the `user` who asks, or of the `assistant`, which is the model. What an agent is told first is its own (`system`).
        content: The text; an answer that is no text is JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: str


class Reply(BaseModel, Generic[T]):
    """An answer with its conversation.

    Attributes:
        output: The answer.
        messages: What went in, the prompt and the answer: what the next call takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: T
    messages: list[Message]


def is_history(annotation: object) -> bool:
    """Whether a parameter of this type holds earlier messages."""
    return get_origin(annotation) in (list, Sequence) and get_args(annotation) == (Message,)


def answer_type_of(returns: Any) -> Any:  # noqa: ANN401  # any annotation
    """Return what a model is asked for by an agent with this result."""
    generic: Mapping[str, Any] = getattr(returns, "__pydantic_generic_metadata__", {})
    if returns is Reply:
        return str
    return generic["args"][0] if generic.get("origin") is Reply and generic["args"] else returns


def sent(where: str, history: Sequence[Json]) -> list[Sent]:
    """Return earlier messages as they are sent. Those of users are data, as what stands in prompts; those of the model are its own words.

    Raises:
        ToolError: They are too many, or too long (code `bad-args`).
    """
    given = cast("Sequence[Mapping[str, str]]", history)
    size = sum(len(each["content"]) for each in given)
    if len(given) > MESSAGES_MAX or size > CHARACTERS_MAX:
        raise ToolError(
            f"{where}: expected at most {MESSAGES_MAX} messages with {CHARACTERS_MAX} characters in all, found {len(given)} with {size}; "
            "hand over the last ones, such as ${chat.messages[-20:]}",
            code="bad-args",
        )
    return [
        Sent("assistant", each["content"])
        if each["role"] == "assistant"
        else Sent("user", mark([Data("message", each["content"])]))
        for each in given
    ]
