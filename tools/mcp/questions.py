"""Questions of an MCP server to the person who calls (elicitation): each becomes a question of the step, and its answer goes with the next call.

A question ends the attempt that it comes in. The run waits for a person, also through a restart, and the tool is called again with the
answer. By the protocol of 2026-07-28 this is what the server expects: it answers the call with its question and a state. In a session the
server asks while the call is under way: then it is told that the person has dismissed the question, and asked again later. If the server
does the call all the same, its result stands; if it answers with an error, it has done nothing, and the question is put to a person.

In a session a question does not say which call it belongs to. If several calls are under way when one comes, calls that fail are made
again, each alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ...errors import ToolError
from ...plans.values import Json, NotJson, canonical, digest
from ..failures import QuestionRaised
from ..provider import plain

if TYPE_CHECKING:
    from mcp.client.context import ClientRequestContext
    from mcp.types import ElicitRequestParams, ElicitResult, InputRequiredResult

T = TypeVar("T")

MESSAGE_MAX: Final = 2_000  # characters of a question: it is a stranger's text
SCHEMA_BYTES_MAX: Final = 64 * 1024
STATE_MAX: Final = 256 * 1024  # characters of what the server wants back: it is journaled


@dataclass(eq=False)
class _Flying:
    """A call that is under way in a session."""

    answers: Sequence[Json]
    used: int = 0
    question: QuestionRaised | None = None
    is_mixed: bool = False


class SessionQuestions:
    """The questions of one session.

    Args:
        server: The server, for people.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._flying: list[_Flying] = []
        self._alone: asyncio.Lock | None = None

    async def during(self, send: Callable[[], Awaitable[T]], answers: Sequence[Json]) -> T:
        """Return the result of a call, whose questions are answered from `answers`.

        Raises:
            QuestionRaised: The server asks something else, and without the answer did nothing.
        """
        is_again = False
        while True:
            async with self._alone or nullcontext():
                flying = _Flying(answers)
                self._flying.append(flying)
                try:
                    result = await send()
                finally:
                    self._flying.remove(flying)
            if not getattr(result, "is_error", False):
                return result  # without the answer too, the server has done something
            if flying.question is not None:
                raise flying.question
            if not flying.is_mixed or is_again:
                return result
            is_again = True  # alone this time

    async def ask(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002  # as the SDK calls it
        """Answer a question of the server: with what a person has answered before, else by dismissing it."""
        from mcp.types import ElicitResult  # noqa: PLC0415  # an extra

        if len(self._flying) > 1:
            for each in self._flying:
                each.is_mixed = True
            self._alone = self._alone or asyncio.Lock()
        elif self._flying:
            (flying,) = self._flying
            try:
                raised = _question(self._server, params, None)
            except ToolError:
                return ElicitResult(action="cancel")
            known = flying.answers[flying.used] if flying.used < len(flying.answers) else None
            if isinstance(known, list) and known[0] == raised.asked["resume"]:
                flying.used += 1
                return ElicitResult(action="accept", content=cast("dict[str, Any]", known[1]))
            flying.question = flying.question or raised
        return ElicitResult(action="cancel")


def asked_by(server: str, result: InputRequiredResult) -> QuestionRaised:
    """Return the question in the place of an answer. Raises: ToolError: it asks for something else than a person's words, or for several at once."""
    requests = result.input_requests or {}
    if len(requests) != 1:
        raise ToolError(
            f"the MCP server {server} asks {len(requests)} things at once, of which a person can be asked one"
        )
    ((key, request),) = requests.items()
    if request.method != "elicitation/create":
        raise ToolError(
            f"the MCP server {server} asks for more before it answers ({request.method}), which firmplan does not give: hand over what it "
            "needs as arguments"
        )
    state = result.request_state
    if state is not None and len(state) > STATE_MAX:
        raise ToolError(
            f"the MCP server {server} hands out a state of {len(state)} characters; expected at most {STATE_MAX}"
        )
    return _question(server, request.params, {"key": key, "state": state})


def responses_of(answers: Sequence[Json]) -> dict[str, Any]:
    """Return the fields of a call with the last answer, by the protocol without sessions; empty: there is none."""
    last = answers[-1] if answers else None
    if not isinstance(last, list) or not isinstance(resume := last[0], dict) or "key" not in resume:
        return {}
    response = {"action": "accept", "content": last[1]}
    return {"inputResponses": {str(resume["key"]): response}, "requestState": resume["state"]}


def _question(server: str, params: ElicitRequestParams, resume: Mapping[str, Json] | None) -> QuestionRaised:
    """Return a question. Raises: ToolError: it is none that a person can answer here."""
    if params.mode != "form":
        raise ToolError(
            f"the MCP server {server} wants a person to open an address before it answers, which firmplan does not do"
        )
    try:
        schema = canonical(cast("Json", params.requested_schema))
    except (NotJson, RecursionError) as error:
        raise ToolError(
            f"the MCP server {server} asks for something that is no JSON Schema: {error}"
        ) from error
    if len(schema) > SCHEMA_BYTES_MAX:
        raise ToolError(
            f"the MCP server {server} asks with a schema of {len(schema)} bytes; expected at most {SCHEMA_BYTES_MAX}"
        )
    asked = digest(canonical([params.message, cast("Json", params.requested_schema)]))
    text = f"the MCP server {server} asks: {plain(params.message, MESSAGE_MAX)}"
    returns = cast("dict[str, Json]", params.requested_schema)
    return QuestionRaised(text, returns, dict(resume) if resume is not None else {"asked": asked})
