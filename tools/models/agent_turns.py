"""One turn of an `@agent` tool whose model may call tools: the request of its prompt becomes that of a turn.

The prompt stays as it is: the author's words, worked examples, the question. What is added is how calls are made, and what came of those so far. An endpoint
with tool calls of its own (`Model(tool_calls=True)`) gets tools and calls in its form (`tool_calls.py`), any other in words, with the form of a reply
(`plans/program/compile.py`). Guards and the annotated type decide about the answer, and not about a turn that calls a tool. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ...plans.program.program import AgentTurn, AgentTurns
from ...plans.values import Json, canonical
from .completion import Message
from .marks import DATA_NOTE, Data, mark, mark_spans

if TYPE_CHECKING:
    from .models import ModelRequest

CALLS: str = "calls"
"""The name under which guards find what the calls of tools returned, among the sources of an answer."""


def turn_request(request: ModelRequest, told: AgentTurns) -> ModelRequest:
    """Return the request of a turn.

    Args:
        request: That of the prompt, whose schema is that of the answer.
        told: The tools and the turns so far; its goal and its `returns` say nothing.
    """
    from ...plans.program.compile import instructions_of, reply_schema  # noqa: PLC0415  # only for agents with tools

    *head, question = request.messages
    text, spans = instructions_of(told.tools)
    system = _joined(
        head.pop(0).content if head and head[0].role == "system" else "", mark_spans(text, spans)
    )
    asked = Message("user", "\n\n".join([question.content, "# Calls so far", *(_told(told) or ["none"])]))
    outcomes: list[Json] = [
        call.outcome for turn in told.turns for call in turn.calls if call.name == "result"
    ]
    return replace(
        request,
        messages=(Message("system", system), *head, asked),
        schema=reply_schema([tool.name for tool in told.tools], request.schema),
        turns=replace(told, returns=request.schema),
        opening=request.messages,
        sources={**request.sources, CALLS: outcomes} if outcomes else request.sources,
    )


def answer_in(reply: Json) -> Mapping[str, Json]:
    """Return the answer in a reply, as its only value; empty: the turn calls a tool, or says neither."""
    if not isinstance(reply, dict) or reply.get("call") is not None or reply.get("calls") is not None:
        return {}
    return {"answer": reply["answer"]} if "answer" in reply else {}


def _joined(words: str, rules: str) -> str:
    parts = [words, rules, "" if DATA_NOTE in words else DATA_NOTE]
    return "\n\n".join(part for part in parts if part)


def _told(told: AgentTurns) -> list[str]:
    """Return the turns so far as paragraphs. Each call is marked by itself, so that its paragraph stays the same in later turns."""
    left_out = [f"(the first {told.left_out} calls are left out)"] if told.left_out else []
    return left_out + [text for turn in told.turns for text in _paragraphs(turn)]


def _paragraphs(turn: AgentTurn) -> Iterator[str]:
    if not turn.calls:
        yield turn.note
    for call in turn.calls:
        # The arguments are the model's own words about data that it has read, so they are data, too.
        called = Data("call", f"{call.tool}({canonical(dict(call.args)).decode()})")
        outcome = Data(call.name, call.outcome) if call.name else call.outcome
        yield mark([called, "\n-> failed " if call.name == "error" else "\n-> ", outcome])
