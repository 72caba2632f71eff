"""A ReAct loop to compare plans with: the same task, tools and model, with one request for each turn and native tool calls.

The loop is what people have without plans (Yao and others, ReAct, 2023, in the form that chat APIs have today): the model sees all tools, calls some, sees their results,
and goes on until it answers in words. Nothing is held back for its sake, and nothing is added: the prompt is short, every result goes back in full, and calls of one turn are
made one after the other. The requests go through the same client, limits, prices and recordings as those of the planner. The caller makes the calls of tools.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from ...errors import FirmplanError
from ...plans.values import Json, canonical
from ...tools.models.completion import Usage, usage_of
from ...tools.models.endpoint import MODES, Endpoint
from ...tools.models.errors import ModelError, outage, timed_out
from ...tools.models.limits import RequestBudget, RetryPolicy
from ...tools.models.tool_calls import wire_names
from .expected_calls import MadeCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ...tools.models.clients import Clients
    from ...tools.tool import Tool
    from .task_set import EvalTask

TIMEOUT_S: Final = 60.0
"""The longest that one request may take, unless the model says otherwise: as of a planner's."""

TURNS_MAX: Final = 20
"""Requests of one loop, retries of the transport not counted: a loop that has not ended by then repeats itself."""

PROMPT: Final = (
    "You solve tasks with tools. Call a tool when you need it, read its result, and go on until the task is done. "
    "Then give the answer in words, without a call."
)

CallTool = Callable[[str, Mapping[str, Json]], Awaitable[Json]]
"""Calls a tool and returns its result. Raises: FirmplanError: the call failed; the model reads the message."""


@dataclass(frozen=True, slots=True)
class ReactRun:
    """One loop.

    Attributes:
        text: The answer in words; `None`: there is none.
        calls: The calls that were made, failed ones included.
        turns: The requests that were answered.
        error: Why there is no answer.
    """

    text: str | None
    calls: tuple[MadeCall, ...]
    turns: int
    usage: Usage = field(default_factory=Usage)
    error: str | None = None

    @property
    def output(self) -> Json:
        """The answer: its JSON, if the text is nothing but JSON, else the text."""
        try:
            return cast("Json", json.loads(self.text or "null"))
        except ValueError:
            return self.text


async def react(task: EvalTask, endpoint: Endpoint, clients: Clients, call: CallTool) -> ReactRun:
    """Return how a ReAct loop solves a task. A loop that fails has an `error`; nothing is raised for it.

    Args:
        task: The task, its inputs and its tools.
        endpoint: The model.
        clients: The open clients, with their limits and prices.
        call: Calls a tool.
    """
    loop = _Loop(task, endpoint, clients, call, endpoint.timeout_s or TIMEOUT_S)
    try:
        text = await loop.run()
    except ModelError as fault:
        return loop.ended(None, f"{fault.code}: {fault}")
    return loop.ended(text, None if text is not None else f"no answer in {TURNS_MAX} turns")


def is_in_words(text: str, part: Json) -> bool:
    """Whether an answer in words says a value: a text anywhere and in any case; a number or a truth value as a word of its own; all parts of a list or an object."""
    match part:
        case str():
            return part.casefold() in text.casefold()
        case bool():
            return re.search(rf"\b{'true|yes' if part else 'false|no'}\b", text, re.IGNORECASE) is not None
        case int() | float():
            # `1,234.50` is 1234.5.
            numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
            return any(float(each.replace(",", "")) == part for each in numbers)
        case list():
            return all(is_in_words(text, each) for each in part)
        case dict():
            return all(is_in_words(text, each) for each in part.values())
        case None:
            return True


@dataclass(slots=True)
class _Loop:
    """The state of one loop."""

    task: EvalTask
    endpoint: Endpoint
    clients: Clients
    call: CallTool
    timeout_s: float
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    calls: list[MadeCall] = field(default_factory=list[MadeCall])
    usages: list[Usage] = field(default_factory=list[Usage])

    @property
    def policy(self) -> RetryPolicy:
        """Which failures of the transport are retried."""
        return RetryPolicy.of(self.endpoint)

    def ended(self, text: str | None, error: str | None) -> ReactRun:
        return ReactRun(text, tuple(self.calls), len(self.usages), sum(self.usages, Usage()), error)

    async def run(self) -> str | None:
        """Return the answer; `None`: there is none after the last turn. Raises: ModelError."""
        inputs = f"\n\nInputs: {canonical(dict(self.task.inputs)).decode()}" if self.task.inputs else ""
        self.messages += [
            {"role": "system", "content": PROMPT},
            {"role": "user", "content": f"Task: {self.task.task}{inputs}"},
        ]
        names = wire_names(self.task.tools)
        functions = [_function(name, tool) for name, tool in names.items()]
        budget = RequestBudget(TURNS_MAX * self.policy.tries_max, TURNS_MAX * self.timeout_s)
        # Tools are called natively; the mode is that of structured answers, which no turn asks for.
        async with self.clients.lease(replace(self.endpoint, mode=MODES[0])) as client:
            raw = cast("AsyncOpenAI", client.client)
            for _ in range(TURNS_MAX):
                message = await self._ask(raw, functions, budget)
                made = _calls_in(message)
                if not made:
                    said = message.get("content")
                    return said if isinstance(said, str) else ""
                self.messages.append(
                    {"role": "assistant", "content": message.get("content"), "tool_calls": made}
                )
                for each in made:
                    result = await self._result(each, names)
                    self.messages.append({"role": "tool", "tool_call_id": each["id"], "content": result})
        return None

    async def _ask(
        self, client: AsyncOpenAI, functions: list[dict[str, Any]], budget: RequestBudget
    ) -> Mapping[str, Json]:
        """Return the next message of the model. Raises: ModelError."""
        async for attempt in self.policy.retrying(budget):
            with attempt:
                async with self.clients.limits.acquire(self.endpoint) as waited_s:
                    budget.extend(waited_s)
                    budget.take()
                    return self._message_in(await self._send(client, functions))
        raise AssertionError("tenacity ends by returning or raising")

    def _message_in(self, completion: Mapping[str, Json]) -> Mapping[str, Json]:
        """Return the message of a completion, whose usage is counted. Raises: ModelError: there is none."""
        self.usages.append(usage_of(completion, self.clients.prices.find(self.endpoint)))
        match completion.get("choices"):
            case [{"message": dict(message)}, *_]:
                return message
            case _:
                said = self.endpoint.quote(completion.get("error") or dict(completion))
                raise ModelError(
                    f"{self.endpoint.base_url} sent no chat completion: {said}", code="model-unavailable"
                )

    async def _send(self, client: AsyncOpenAI, functions: list[dict[str, Any]]) -> Mapping[str, Json]:
        """Return a completion as the endpoint sent it. Raises: ModelError."""
        from openai import BaseModel  # noqa: PLC0415  # heavy

        options: dict[str, Any] = {"tools": functions} if functions else {}
        # `create` has overloads for literal messages, and an endpoint may send anything.
        create: Any = client.chat.completions.create
        try:
            async with asyncio.timeout(self.timeout_s):
                completion: object = await create(
                    model=self.endpoint.name, messages=self.messages, timeout=self.timeout_s, **options
                )
        except TimeoutError:
            raise timed_out(self.endpoint, self.timeout_s) from None
        except Exception as error:  # noqa: BLE001  # sorted as for every request
            raise outage(error, self.endpoint, self.timeout_s) from None
        if isinstance(completion, BaseModel):
            return cast("Mapping[str, Json]", completion.to_dict(warnings=False))
        return {"error": str(completion)}

    async def _result(self, call: dict[str, Any], names: Mapping[str, Tool]) -> str:
        """Return the text that the model reads of a call: its result, or what went wrong."""
        function = call["function"]
        tool = names.get(function["name"])
        if tool is None:
            return f"error: there is no tool '{function['name']}'"
        try:
            args: Json = json.loads(function["arguments"] or "{}")
        except ValueError as error:
            return f"error: the arguments are no JSON: {error}"
        if not isinstance(args, dict):
            return "error: the arguments are no object"
        self.calls.append(MadeCall(tool.name, args))
        try:
            result = await self.call(tool.name, args)
        except FirmplanError as fault:
            return f"error: {fault}"
        return result if isinstance(result, str) else canonical(result).decode()


def _function(name: str, tool: Tool) -> dict[str, Any]:
    function = {"name": name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def _calls_in(message: Mapping[str, Json]) -> list[dict[str, Any]]:
    """Return the calls of a message, each with an id: servers for local models leave ids out, and repeat them."""
    found: list[dict[str, Any]] = []
    calls = message.get("tool_calls")
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        match call:
            case {"function": {"name": str(name), **rest}}:
                given = cast("Mapping[str, Json]", call).get("id")
                id_ = (
                    given
                    if isinstance(given, str) and given not in {each["id"] for each in found}
                    else f"call_{number}"
                )
                arguments = rest.get("arguments")
                text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
                function = {"name": name, "arguments": text}
                found.append({"id": id_, "type": "function", "function": function})
            case _:
                pass
    return found
