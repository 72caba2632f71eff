"""What an endpoint can do: the opt-in check of `firmplan doctor --probe`.

It lists the models, asks one tiny question in each mode, offers two tools, gives their results back, and listens to a stream: at most eight requests, all through the client
that runs use. Each finding is one line; `settings` are the fields of a `Model` that the findings speak for. Nothing is remembered: what a run learns of an endpoint
by itself, it learns again.

An endpoint that nobody reaches, or that does not take the key, is asked nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from ...plans.immutable import immutable
from ...plans.program.program import AgentCall, AgentTurn, AgentTurns
from ...plans.reports.nearest import did_you_mean
from ...plans.values import Json
from .answer import AnswerForm
from .clients import Clients, openai_of
from .completion import (
    Answered,
    Invalid,
    Message,
    ModelCall,
    Refused,
    TruncatedAnswer,
    calls_of,
    complete,
    content_of,
    reasoning_of,
)
from .endpoint import MODES, Endpoint
from .errors import ModelError, outage, timed_out
from .tool_calls import NativeTurn

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ...plans.signature import Signature

TIMEOUT_S: Final = 30.0  # of one request

USUAL_FINISHES: Final = ("stop", "length", "tool_calls", "content_filter", "function_call")
"""Reasons for the end of an answer that OpenAI's documents name."""

CONTEXT_KEYS: Final = (
    ("max_model_len",),  # vLLM
    ("meta", "n_ctx"),  # llama.cpp's server
    ("meta", "n_ctx_train"),
    ("context_length",),
    ("context_window",),
    ("max_context_length",),
)
"""Where lists of models tell the length of a context."""

SLOW_S: Final = 20.0
"""A request of the probe that takes longer makes for a longer time limit in the settings: questions of runs are larger."""

_GONE: Final = ("model-unreachable", "timeout", "model-unavailable", "rate-limited")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a probe; `ok` is `None` where an endpoint may well be without it."""

    what: str
    ok: bool | None
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The findings of a probe.

    Attributes:
        settings: Fields of a `Model` for this endpoint; empty if it cannot be used.
    """

    findings: tuple[Finding, ...]
    settings: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class _Offered:
    """A tool that is offered and never called."""

    name: str
    description: str
    parameters: Mapping[str, Json]
    effect: str = "read"
    is_provided: bool = False


_CITY: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_TOOLS: Final = (
    _Offered("temperature", "The temperature in a city, in degrees Celsius.", _CITY),
    _Offered("wind", "The speed of the wind in a city, in km/h.", _CITY),
)
_RESULT: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {"temperature": {"type": "number"}, "wind": {"type": "number"}},
    "required": ["temperature", "wind"],
    "additionalProperties": False,
}
_GOAL: Final = "Find the temperature and the wind in Oslo. Ask both tools together, in one message."


@dataclass(slots=True)
class _Seen:
    """What the answers so far had in them, whatever was asked.

    Attributes:
        reasoning: Names of the fields with thoughts of the model.
        cached: The most cached tokens of one answer; `None`: no answer tells them.
    """

    answers: int = 0
    with_usage: int = 0
    cached: int | None = None
    finishes: dict[str, None] = field(default_factory=dict[str, None])
    reasoning: dict[str, None] = field(default_factory=dict[str, None])
    null_contents: int = 0
    slowest_s: float = 0.0

    def note(self, document: Json) -> None:
        """Note one completion."""
        match document:
            case {"choices": [{"message": dict(message), **choice}, *_], **rest}:
                finish, usage = choice.get("finish_reason"), rest.get("usage")
                self._note_answer(message, cast("Json", finish), cast("Json", usage))
            case _:
                pass

    def _note_answer(self, message: Mapping[str, Json], finish: Json, usage: Json) -> None:
        self.answers += 1
        self.finishes[str(finish)] = None
        self.null_contents += message.get("content", "") is None
        self.reasoning |= dict.fromkeys(reasoning_of(message))
        match usage:
            case {"prompt_tokens": int(), "prompt_tokens_details": {"cached_tokens": int(cached)}}:
                self.with_usage += 1
                self.cached = max(self.cached or 0, cached)
            case {"prompt_tokens": int()}:
                self.with_usage += 1
            case _:
                pass


class _Pieces:
    """A listener that counts the pieces of an answer."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        """Begin anew."""
        self.count = 0

    def hear(self, words: str) -> None:
        """Count."""
        self.count += bool(words)


async def probe_endpoint(
    endpoint: Endpoint, clients: Clients | None = None, timeout_s: float = TIMEOUT_S
) -> ProbeReport:
    """Return what an endpoint can do; sends at most eight requests, and one for the list of models.

    Args:
        endpoint: Its own mode is not used.
        clients: `None`: clients of its own.
        timeout_s: The longest that one request may take.
    """
    return await _Probing(endpoint, Clients() if clients is None else clients, timeout_s).run()


class _Probing:
    """One probe."""

    def __init__(self, endpoint: Endpoint, clients: Clients, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._clients = clients
        self._timeout_s = timeout_s
        self._findings: list[Finding] = []
        self._seen = _Seen()

    async def run(self) -> ProbeReport:
        if not await self._list():
            return ProbeReport(tuple(self._findings), {})
        modes = await probe(self._endpoint, self._clients, self._timeout_s)
        best = next((each.mode for each in modes if each.works), None)
        self._note_modes(modes, best)
        await self._ask()
        takes_calls = await self._call_tools()
        await self._stream()
        self._note_seen()
        settings: dict[str, Json] = {"name": self._endpoint.name, "base_url": self._endpoint.base_url}
        if best is not None:
            settings["mode"] = best.lower()
        if takes_calls:
            settings["tool_calls"] = True
        if self._seen.slowest_s > SLOW_S:
            settings["timeout"] = "5m"
        return ProbeReport(tuple(self._findings), settings if best is not None else {})

    def _note(self, what: str, ok: bool | None, found: str, advice: str = "") -> None:  # noqa: FBT001  # a finding's fields
        self._findings.append(Finding(what, ok, found, advice))

    async def _list(self) -> bool:
        """Look at the list of models; return whether there is any use in asking further."""
        try:
            document = await self._sent(lambda client: client.models.with_raw_response.list())
        except ModelError as error:
            if error.code in _GONE:
                self._note("reachable", False, error.code, str(error))
                return False
            self._note("reachable", True, self._endpoint.base_url)
            if error.code == "model-auth":
                self._note("key", False, "not accepted", str(error))
                return False
            self._note("model listed", None, f"no list of models ({error.code})")
            return True
        self._note("reachable", True, self._endpoint.base_url)
        self._note("key", True, "accepted, or none is asked for")
        entries = document.get("data") if isinstance(document, dict) else None
        listed = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
        entry = next(
            (each for each in listed if self._endpoint.name in (each.get("id"), each.get("root"))), None
        )
        names = [str(each.get("id")) for each in listed]
        if entry is not None:
            self._note("model listed", True, self._endpoint.name)
        else:
            # Some servers have one model and take any name.
            hint = did_you_mean(self._endpoint.name, names) if names else ""
            found = f"not among {', '.join(names[:5])}" if names else "the list is empty"
            self._note("model listed", None, found, hint)
        told = entry or (listed[0] if len(listed) == 1 else {})
        length = next((tokens for path in CONTEXT_KEYS if isinstance(tokens := _at(told, path), int)), None)
        self._note("context length", None, "not reported" if length is None else f"{length} tokens")
        return True

    def _note_modes(self, modes: tuple[Probe, ...], best: str | None) -> None:
        for each in modes:
            self._note(f"mode {each.mode.lower()}", True if each.works else None, each.found)
        advice = "" if best else "check the address, the key and the model's name, or use another model"
        found = "none works" if best is None else f"a planner uses {best.lower()} here by default"
        self._note("modes", best is not None, found, advice)

    async def _ask(self) -> None:
        """Ask for a text."""
        messages = [{"role": "user", "content": "Answer with the one word: seven"}]
        try:
            document = await self._completed(messages=messages)
        except ModelError as error:
            self._note("text", None, f"{error.code}: {error}")
            return
        text = content_of(document)
        self._note(
            "text", True if text.strip() else None, "answers" if text.strip() else "the answer is empty"
        )

    async def _call_tools(self) -> bool:
        """Offer two tools and give back their results; return whether tool calls work."""
        turns = AgentTurns(_GOAL, (), cast("tuple[Signature, ...]", _TOOLS), _RESULT)
        try:
            document = await self._completed_turn(NativeTurn(turns))
        except ModelError as error:
            self._note("tool calls", None, f"{error.code}: {error}")
            return False
        names = [name for name, _ in calls_of(document)]
        is_called = bool({"temperature", "wind"} & set(names))
        self._note("tool calls", True if is_called else None, ", ".join(names) or "no call came")
        if not is_called:
            return False
        both = {"temperature", "wind"} <= set(names)
        self._note(
            "parallel tool calls", True if both else None, "two in one message" if both else "one a message"
        )
        args: dict[str, Json] = {"city": "Oslo"}
        calls = (AgentCall("temperature", args, "7", "result"), AgentCall("wind", args, "12", "result"))
        later = NativeTurn(replace(turns, turns=(AgentTurn("", calls),)))
        try:
            document = await self._completed_turn(later)
            value = later.read(content_of(document), calls_of(document))
        except (ModelError, ValueError) as error:
            self._note("tool results", None, f"{getattr(error, 'code', 'bad-output')}: {error}")
            return False
        is_answer = isinstance(value, dict) and "answer" in value
        self._note(
            "tool results",
            True if is_answer else None,
            "taken, and the goal is reached" if is_answer else "taken, and more calls came",
        )
        return True

    async def _stream(self) -> None:
        pieces = _Pieces()
        answer = AnswerForm({"type": "string"})
        question = (Message("user", "Count from one to ten in words."),)
        endpoint = replace(
            self._endpoint, mode="JSON"
        )  # a text is asked for in no mode, but the client has one
        call = ModelCall(endpoint, question, answer, self._timeout_s, listener=pieces)
        try:
            completion = await complete(call, self._clients)
        except ModelError as error:
            self._note("streaming", None, f"{error.code}: {error}")
            return
        streams = pieces.count > 0 and isinstance(completion.outcome, Answered)
        usage = ", with usage" if completion.usage.prompt_tokens else ", without usage"
        self._note(
            "streaming",
            True if streams else None,
            f"{pieces.count} pieces{usage}" if streams else "an answer in one piece",
        )

    def _note_seen(self) -> None:
        seen = self._seen
        if not seen.answers:
            return
        self._note(
            "usage",
            True if seen.with_usage == seen.answers else None,
            "reported"
            if seen.with_usage == seen.answers
            else f"reported by {seen.with_usage} of {seen.answers} answers",
            "" if seen.with_usage else "budgets in tokens and usd count nothing here",
        )
        cached = (
            "not reported" if seen.cached is None else f"reported, at most {seen.cached} of one prompt so far"
        )
        self._note("cached tokens", True if seen.cached is not None else None, cached)
        odd = [each for each in seen.finishes if each not in USUAL_FINISHES]
        self._note("finish_reason", None if odd else True, ", ".join(seen.finishes))
        self._note(
            "reasoning",
            None,
            f"in {', '.join(seen.reasoning)}" if seen.reasoning else "not separate from the text",
        )
        if seen.null_contents:
            self._note("null content", None, f"{seen.null_contents} of {seen.answers} answers")

    async def _completed_turn(self, turn: NativeTurn) -> Json:
        """Return the completion of a turn, without the options that the endpoint refuses."""
        while True:
            try:
                return await self._completed(**turn.options())
            except ModelError as error:
                said = str(error)
                if turn.is_parallel and "parallel_tool_calls" in said:
                    turn = replace(turn, is_parallel=False)
                elif turn.is_strict and "strict" in said:
                    turn = replace(turn, is_strict=False)
                else:
                    raise

    async def _completed(self, **options: Any) -> Json:  # noqa: ANN401  # openai's own options
        document = await self._sent(
            lambda client: cast("Any", client.chat.completions.with_raw_response).create(
                model=self._endpoint.name, **options
            )
        )
        self._seen.note(document)
        return document

    async def _sent(self, request: Callable[[AsyncOpenAI], Awaitable[Any]]) -> Json:
        """Return the document that answers a request. Raises: ModelError."""
        began = monotonic()
        async with self._clients.lease(replace(self._endpoint, mode="JSON")) as client:
            try:
                async with asyncio.timeout(self._timeout_s):
                    response = await request(openai_of(client))
                return cast("Json", json.loads(response.http_response.text))
            except TimeoutError:
                raise timed_out(self._endpoint, self._timeout_s) from None
            except ValueError as error:
                raise ModelError(
                    f"{self._endpoint.base_url} answered with invalid JSON", code="model-unavailable"
                ) from error
            except Exception as error:
                raise outage(error, self._endpoint, self._timeout_s) from error
            finally:
                self._seen.slowest_s = max(self._seen.slowest_s, monotonic() - began)


def _at(value: Json, path: tuple[str, ...]) -> Json:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


# The modes: one tiny question in each.


_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "word": {"type": "string"},
        "numbers": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["word", "numbers"],
    "additionalProperties": False,
}
_QUESTION = "Give the word 'seven' and the list of the numbers 7 and 8, in the form that is asked for."


@immutable
class Probe:
    """One mode: whether it works, and the answer if it does not."""

    mode: str
    works: bool
    found: str


async def probe(
    endpoint: Endpoint, clients: Clients | None = None, timeout_s: float = TIMEOUT_S
) -> tuple[Probe, ...]:
    """Return a probe for each of `MODES`, in their order. Sends one request for each.

    Args:
        endpoint: Its own mode is not used.
        clients: `None`: clients of its own.
        timeout_s: The longest that one request may take.
    """
    shared = Clients() if clients is None else clients
    return tuple([await _probe(replace(endpoint, mode=mode), shared, timeout_s) for mode in MODES])


async def _probe(endpoint: Endpoint, clients: Clients, timeout_s: float) -> Probe:
    answer = AnswerForm(_SCHEMA, name="probe", purpose="A word and some numbers.")
    call = ModelCall(endpoint, (Message("user", _QUESTION),), answer, timeout_s)
    try:
        completion = await complete(call, clients)
    except ModelError as error:
        return Probe(endpoint.mode, works=False, found=f"{error.code}: {error}")
    match completion.outcome:
        case Answered():
            return Probe(endpoint.mode, works=True, found="answers in the form that is asked for")
        case Invalid(why):
            return Probe(endpoint.mode, works=False, found=why)
        case Refused(text):
            return Probe(endpoint.mode, works=False, found=f"declines: {endpoint.quote(text)}")
        case TruncatedAnswer():
            return Probe(endpoint.mode, works=False, found="the answer was cut off")
