"""What would be sent for a task, without sending it: the rendered prompt, its schema, and about how many tokens that is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...plans.values import Json, canonical
from ...tools.models.completion import Message
from ..order import Order
from .adapting import question_of
from .choice import choose_tools
from .choosing import candidates, choice_answer, is_choice_due
from .form import Form, plan_answer
from .nearest import nearest_plans
from .prompt import choosing_messages, planning_messages

_PIECE = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+|_+|\n+")
_LETTERS_A_TOKEN = 7
_DIGITS_A_TOKEN = 3
_MARKS_A_TOKEN = 2
MESSAGE_TOKENS = 4
"""What the frame of one message costs."""


@dataclass(frozen=True, slots=True)
class SmallRequest:
    """A request beside the plan that is not sent: its messages, and the JSON Schema of its answer."""

    messages: tuple[Message, ...]
    schema: dict[str, Json]

    @property
    def tokens(self) -> int:
        """About how many tokens messages and schema are."""
        return _tokens_of_all(self.messages) + tokens_of(canonical(self.schema).decode())

    def to_dict(self) -> dict[str, Json]:
        """Return the request as JSON."""
        return {"messages": _told(self.messages), "schema": self.schema, "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class Preview:
    """A planning that is not done.

    Attributes:
        answered_by: The source of the saved plan that answers the task, so that nothing would be sent; else `None`.
        filling: The small request that would come first, where a saved plan is near: whether it fits, and its inputs.
        choice: The small request that would choose tools, where there are many; else `None`.
        messages: The request's for the plan; where tools are chosen first, with those that words point to in their place.
        schema: The JSON Schema that the draft would be asked for by.
        form: How far the schema spells the tools out: `typed`, `named` or `plain`.
        tools: Names of the tools shown.
        examples: Names of the saved plans shown.
        model: The model that would be asked, and where; `None`: none is configured.
    """

    answered_by: str | None
    messages: tuple[Message, ...]
    schema: dict[str, Json]
    form: Form
    tools: tuple[str, ...]
    examples: tuple[str, ...]
    model: str | None
    choice: SmallRequest | None = None
    filling: SmallRequest | None = None

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens the messages are: no tokeniser is asked, and 10 % either way is usual."""
        return _tokens_of_all(self.messages)

    @property
    def schema_tokens(self) -> int:
        """About how many the schema is."""
        return tokens_of(canonical(self.schema).decode())

    def to_dict(self) -> dict[str, Json]:
        """Return the preview as JSON."""
        return {
            "answered_by": self.answered_by,
            "model": self.model,
            "filling": None if self.filling is None else self.filling.to_dict(),
            "choice": None if self.choice is None else self.choice.to_dict(),
            "messages": _told(self.messages),
            "schema": self.schema,
            "form": self.form,
            "tools": list(self.tools),
            "examples": list(self.examples),
            "tokens": {"prompt": self.prompt_tokens, "schema": self.schema_tokens},
        }


def preview_of(
    order: Order, answered_by: str | None, model: str | None, *, adapts: bool, choose_over: int | None
) -> Preview:
    """Return what would be sent for an order."""
    question = question_of(order) if adapts else None
    filling = None if question is None else SmallRequest(question.messages, question.answer.wire_schema)
    choice = None
    if is_choice_due(order.tools, choose_over):
        listed = candidates(order.task, order.tools)
        choice = SmallRequest(choosing_messages(order.task, listed), choice_answer(listed).wire_schema)
    shown = choose_tools(order.task, order.tools)
    examples = nearest_plans(order)
    answer, form = plan_answer(shown)
    return Preview(
        answered_by,
        planning_messages(order.task, shown, order.inputs, examples, len(order.tools)),
        answer.wire_schema,
        form,
        tuple(tool.name for tool in shown),
        tuple(each.name for each in examples),
        model,
        choice,
        filling,
    )


def _told(messages: tuple[Message, ...]) -> Json:
    return [{"role": each.role, "content": each.content} for each in messages]


def _tokens_of_all(messages: tuple[Message, ...]) -> int:
    return sum(tokens_of(message.content) + MESSAGE_TOKENS for message in messages)


def tokens_of(text: str) -> int:
    """Return about how many tokens a text is, as common tokenisers cut it: words, runs of digits and of marks."""
    tokens = 0
    for piece in _PIECE.findall(text):
        size = (
            _LETTERS_A_TOKEN
            if piece[0].isalpha()
            else _DIGITS_A_TOKEN
            if piece[0].isdigit()
            else _MARKS_A_TOKEN
        )
        scale = 1 if piece.isascii() else 2
        tokens += -(-len(piece) * scale // size)
    return tokens
