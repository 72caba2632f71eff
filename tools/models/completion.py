"""One request to one endpoint, and its outcomes.

The request goes through instructor and the openai client as they are. The completion is sorted into one of four outcomes: an answer, an
invalid answer, a refusal, or a truncated answer. A failure that is not the model's (no endpoint, a wrong key, a limit, an error of the
server) is raised as `ModelError`, with a stable code and whether it is temporary.

`complete` sends one request. `complete_within` sends it again, within a budget, where the transport fails or the mode is refused.
instructor itself does not ask again (`max_retries=0`), and `models.py` does: a retry has to come out of the budget of the conversation
and to count in its usage, guards and judges decide after the schema, and a refusal or a truncated answer must not be retried.
instructor's retries know none of these.

Quotes of an endpoint are cut short, with the key masked.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, cast

from ...lazy_imports import late_pattern
from ...plans.immutable import frozen, immutable, record
from ...plans.values import Json
from ..timeouts import SparingTimeout, stalls
from .answer import AnswerForm, InvalidAnswer, NoJson
from .clients import Clients, Modes, is_about_form, is_about_streams, openai_of
from .endpoint import Endpoint
from .errors import ModelError, outage, timed_out
from .limits import RequestBudget, RetryPolicy
from .prices import Price

if TYPE_CHECKING:
    from instructor import AsyncInstructor

    from .tool_calls import NativeTurn
    from .transport import Listener


_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message with thoughts of a model: of llama.cpp's server and DeepSeek, of vLLM and Ollama, of others."""

_OPEN_THOUGHTS = late_pattern(r"\s*<think>")
_END_OF_THOUGHTS: Final = "</think>"

_CUT_OFF: Final = frozenset({"length", "max_tokens", "max_length", "max_output_tokens"})
"""Values of `finish_reason` that say that an answer was cut off; OpenAI's is the first."""

TOKENS_MAX: Final = 10**12  # of one answer; a larger count is no count


@immutable
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str

    def to_dict(self) -> dict[str, str]:
        """Return the message as it goes over the wire."""
        return {"role": self.role, "content": self.content}


@frozen
class Usage:
    """The cost of model calls.

    Attributes:
        prompt_tokens: As the endpoint counts them; 0 if it does not.
        completion_tokens: Tokens of the answer, counted in the same way.
        usd: The price; `None` where it is not known, also where it is not known of one request among several.
        requests: Requests that were answered.
        cached_tokens: Those of the prompt that the endpoint had seen before, as it counts them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    requests: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        # Requests whose price nobody knows make the price of all unknown: a sum of the others would look like the whole.
        prices = [usage.usd for usage in (self, other) if usage.requests or usage.usd is not None]
        known = [usd for usd in prices if usd is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(known) if known and len(known) == len(prices) else None,
            self.requests + other.requests,
            self.cached_tokens + other.cached_tokens,
        )

    def to_dict(self) -> dict[str, Json]:
        """Return the usage as JSON."""
        return asdict(self)


@record
class UsageMeter:
    """The usage of all answered requests of a block and of the tasks that it starts."""

    usages: list[Usage] = field(default_factory=list[Usage])

    @property
    def usage(self) -> Usage:
        """The sum."""
        return sum(self.usages, Usage())


_meters: ContextVar[tuple[UsageMeter, ...]] = ContextVar("firmplan_usage_meters", default=())


@contextmanager
def metered() -> Generator[UsageMeter]:
    """Count the usage of every request that is answered in the block, whoever sends it: planners, steps and judges."""
    meter = UsageMeter()
    token = _meters.set((*_meters.get(), meter))
    try:
        yield meter
    finally:
        _meters.reset(token)


@immutable
class ModelCall:
    """The content of one request.

    Attributes:
        temperature: `None` is not sent; the same of `max_tokens`.
        timeout_s: The longest time from sending the request to the end of the answer.
        listener: Hears the answer while the model writes; an endpoint that does not stream is asked without it.
        turn: The same question as a turn of an agent in the endpoint's own form of tools; an endpoint that has none is asked without it.
    """

    endpoint: Endpoint
    messages: Sequence[Message]
    answer: AnswerForm
    timeout_s: float
    temperature: float | None = None
    max_tokens: int | None = None
    listener: Listener | None = None
    turn: NativeTurn | None = None


@immutable
class Answered:
    """The model's text is a value of the wanted form."""

    value: Json


@immutable
class Invalid:
    """The model's text is no value of the wanted form; `fault` says why.

    Attributes:
        has_no_json: Whether the text holds no JSON at all, as if the endpoint ignored the mode.
    """

    fault: str
    has_no_json: bool = False


@immutable
class Refused:
    """The model, or the endpoint's filter, declined."""

    text: str


@immutable
class TruncatedAnswer:
    """The answer reached a limit of length before its end."""


Outcome: TypeAlias = Answered | Invalid | Refused | TruncatedAnswer


@immutable
class Completion:
    """The result of one request: its outcome, the model's text as it was, and the cost.

    Attributes:
        is_native: Whether a turn of an agent was asked for in the endpoint's own form of tools.
    """

    outcome: Outcome
    raw: str
    usage: Usage
    is_native: bool = False


async def complete_within(
    budget: RequestBudget, call: ModelCall, clients: Clients, policy: RetryPolicy | None = None
) -> Completion:
    """Send a request; send it again where the transport fails for the moment, or where the endpoint refuses the mode.

    Args:
        budget: Every request is taken from it.
        call: The request.
        clients: The open clients, with their modes and limits.
        policy: Which failures of the transport are retried; `None`: as the model says (`Model.retries`).

    Raises:
        ModelError: As `complete`, and `limit-exceeded` where the budget holds no request.
    """
    endpoint, modes = call.endpoint, clients.modes
    policy = policy or RetryPolicy.of(endpoint)
    # Ends: each round gives up one mode or the stream, and the budget bounds the requests of all.
    while True:
        mode = modes.of(endpoint)
        if not modes.can_stream(endpoint):
            call = replace(call, listener=None)
        call = replace(call, turn=modes.turn_for(endpoint, call.turn))
        try:
            completion = await _send_with_retries(
                budget, replace(call, endpoint=replace(endpoint, mode=mode)), clients, policy
            )
        except ModelError as error:
            call = _without_refused(call, error, modes, mode)
            continue
        if call.turn is not None:
            modes.note_calls(endpoint, completion.outcome)
        # Text without JSON is the only sign of an endpoint that ignores the mode; an answer of a wrong shape is
        # the model's own mistake.
        elif isinstance(completion.outcome, Answered) and not call.answer.is_text:
            modes.prove(endpoint, mode)
        elif isinstance(completion.outcome, Invalid) and completion.outcome.has_no_json:
            modes.give_up(endpoint, mode)
        return completion


def _without_refused(call: ModelCall, error: ModelError, modes: Modes, mode: str) -> ModelCall:
    """Return a request without the form that its endpoint refuses. Raises: ModelError: the refusal is not about the form, or no other form is left."""
    endpoint = call.endpoint
    if call.turn is not None:
        if is_about_form(error) and modes.give_up_calls(endpoint, str(error)):
            return call
        raise error
    if call.listener is not None and is_about_streams(error):
        modes.give_up_streams(endpoint)
    # A text is asked for without any mode, so that its refusal is never about the mode.
    elif call.answer.is_text or not is_about_form(error) or not modes.give_up(endpoint, mode):
        if call.listener is None or not is_about_form(error):
            raise error
        return replace(call, listener=None)  # the last chance: the endpoint may refuse the options of streams
    return call


async def _send_with_retries(
    budget: RequestBudget, call: ModelCall, clients: Clients, policy: RetryPolicy
) -> Completion:
    """Send a request in one mode, with retries of the transport."""
    async for attempt in policy.retrying(budget):
        with attempt:
            # The limits are acquired for each try, so that a request that waits for its retry blocks no other one.
            async with clients.limits.acquire(call.endpoint) as waited_s:
                budget.extend(waited_s)
                budget.take()
                timeout_s = min(call.timeout_s, budget.seconds_left)
                try:
                    return await complete(replace(call, timeout_s=timeout_s), clients)
                except ModelError as error:
                    if error.broke_off:  # then in one piece
                        call = replace(call, listener=None)
                    raise
    raise AssertionError("tenacity ends by returning or raising")


class Asked(Protocol):
    """Watches one request; hears either that it was answered or that it failed, in the task that sent it."""

    def answered(self, completion: Completion, /) -> None:
        """Hear the completion."""

    def failed(self, error: BaseException, /) -> None:
        """Hear why there is none: a `ModelError`, or a cancel."""


class RequestObserver(Protocol):
    """Watches the requests of `Clients` from outside."""

    def begin_request(self, call: ModelCall, /) -> Asked | None:
        """Begin to watch a request that is about to be sent."""


async def complete(call: ModelCall, clients: Clients) -> Completion:
    """Send one request and sort its completion.

    Raises:
        ModelError: The endpoint gave no answer; the codes are in `errors.py`.
    """
    watching = [asked for each in clients.observers if (asked := each.begin_request(call)) is not None]
    if not watching:
        return await _complete(call, clients)
    try:
        completion = await _complete(call, clients)
    except BaseException as error:
        for asked in watching:
            asked.failed(error)
        raise
    for asked in watching:
        asked.answered(completion)
    return completion


async def _complete(call: ModelCall, clients: Clients) -> Completion:
    price = clients.prices.find(call.endpoint)
    # instructor raises where the text does not parse, and the completion is lost with it. The hook keeps it, for its
    # text, its usage and its refusal.
    async with clients.lease(call.endpoint) as client:
        seen: list[Any] = []
        try:
            async with SparingTimeout(call.timeout_s, stalls.get()):
                parsed = await _send(client, call, seen)
        # The client has no timeout of its own: it would be for a phase (connect, read), so that a slow stream never ends by it, and it would
        # count the time in which a tool blocks the event loop.
        except TimeoutError:
            raise timed_out(call.endpoint, call.timeout_s) from None
        except Exception as error:  # noqa: BLE001  # sorted below: errors of the transport are raised, others are outcomes
            fault = _root(error)
            # No completion came, so the error is the transport's. With a completion, instructor has failed to
            # parse it, and that is an outcome of the model.
            if not seen:
                raise _outage(fault, call) from None
            return _completion(call, seen[-1], fault, price)
    return _completion(call, seen[-1] if seen else parsed, parsed, price)


def _outage(fault: BaseException, call: ModelCall) -> BaseException:
    """Return the exception for a request without an answer."""
    if call.listener is None:
        return outage(fault, call.endpoint, call.timeout_s)
    from .transport import ListenerFailed, StreamBroken  # noqa: PLC0415  # loads openai

    # The listener is our own code. Its failure must not look like a failure of the model, which would be retried.
    if isinstance(fault, ListenerFailed):
        return fault.__cause__ or fault
    broke_off = isinstance(fault, StreamBroken)
    failure = outage(fault.__cause__ or fault if broke_off else fault, call.endpoint, call.timeout_s)
    failure.broke_off = broke_off
    return failure


async def _send(client: AsyncInstructor, call: ModelCall, seen: list[Any]) -> object:
    """Send the request through instructor; the completion as it came is put into `seen`."""
    from instructor.core.hooks import Hooks  # noqa: PLC0415  # heavy

    # A hook for each call and not for the client: calls share the client.
    hooks = Hooks()
    hooks.on("completion:response", seen.append)
    options: dict[str, Any] = {"model": call.endpoint.name, "timeout": None, "hooks": hooks}
    if call.temperature is not None:
        options["temperature"] = call.temperature
    if call.max_tokens is not None:
        options[call.endpoint.max_tokens_key] = call.max_tokens
    form = None if call.answer.is_text else _response_model(call.answer)
    # `max_retries=0`: asking again is for `models.py`, which counts requests and keeps the wrong answer in the
    # conversation. instructor's own retries would hide both.
    messages: Any = [message.to_dict() for message in call.messages]
    if call.turn is not None:
        return await _send_turn(client, call.turn, options, seen, call.listener)
    if call.listener is None:
        return await client.create(response_model=form, messages=messages, max_retries=0, **options)
    return await _streaming(client, call.endpoint, call.listener)(
        response_model=form, messages=messages, max_retries=0, **options
    )


async def _send_turn(
    client: AsyncInstructor,
    turn: NativeTurn,
    options: dict[str, Any],
    seen: list[Any],
    listener: Listener | None,
) -> object:
    """Send the turn of an agent; the completion is put into `seen`."""
    inner = openai_of(client)
    # Not through instructor, which would force one tool and parse its arguments: here the model chooses, and its choice is the answer.
    sent = {name: value for name, value in options.items() if name != "hooks"} | turn.options()
    create: Any = inner.chat.completions.create
    if listener is not None:
        from .transport import streamed  # noqa: PLC0415  # loads openai

        create = streamed(inner, listener, turn.answer_tool)
    completion: object = await create(**sent)
    seen.append(completion)
    return completion


def _streaming(client: AsyncInstructor, endpoint: Endpoint, listener: Listener) -> Any:  # noqa: ANN401  # instructor's
    """Return the client's `create` with a listener to the answer."""
    import instructor  # noqa: PLC0415  # heavy

    from .transport import streamed  # noqa: PLC0415  # loads openai

    return instructor.patch(create=streamed(openai_of(client), listener), mode=instructor.Mode[endpoint.mode])


def _response_model(answer: AnswerForm) -> type[Any]:
    """Return the answer as instructor wants it: a model with the answer's own schema and its own reading."""
    from pydantic import BaseModel  # noqa: PLC0415  # with instructor, when a call is made

    # pydantic would validate with its own rules. The two methods that instructor calls are replaced, so that the
    # schema is the answer's own and its text is read by `AnswerForm.read`.
    class Structured(BaseModel):
        value: Any

        @classmethod
        def model_json_schema(cls, *_: object, **__: object) -> dict[str, Any]:
            schema = answer.wire_schema
            return {
                **schema,
                "title": answer.name,
                "description": schema.get("description") or answer.purpose,
            }

        @classmethod
        def model_validate_json(cls, json_data: str | bytes | bytearray, **_: object) -> Structured:
            text = json_data if isinstance(json_data, str) else json_data.decode()
            return cls.model_construct(value=answer.read(text))

    Structured.__name__ = answer.name
    return Structured


def _completion(call: ModelCall, completion: object, parsed: object, price: Price | None) -> Completion:
    """Return a completion with its outcome and its cost."""
    raw = _words(completion) if call.turn is None else _choice(completion)
    return Completion(
        _outcome(call, completion, parsed, raw), raw, usage_of(completion, price), call.turn is not None
    )


def _outcome(call: ModelCall, completion: object, parsed: object, raw: str) -> Outcome:
    refusal = _get(_message(completion), "refusal")
    finish = _get(completion, "choices", 0, "finish_reason")
    if _message(completion) is None:
        return Invalid(
            f"the endpoint sent no chat completion: {call.endpoint.quote(_get(completion, 'error') or completion)}"
        )
    # In this order: a refusal may be truncated too, and the text of a truncated answer may happen to parse.
    if refusal or finish == "content_filter":
        return Refused(str(refusal or "the endpoint's content filter stopped the answer"))
    if str(finish).lower() in _CUT_OFF:
        return TruncatedAnswer()
    try:
        return Answered(_read(call, completion, parsed, raw))
    except InvalidAnswer as error:
        if not raw.strip() and (fields := reasoning_of(_message(completion))):
            return Invalid(
                f"the answer is empty: all words are thoughts (in {', '.join(fields)}); give the answer itself after them"
            )
        return Invalid(str(error), isinstance(error, NoJson))


def _read(call: ModelCall, completion: object, parsed: object, raw: str) -> Json:
    """Return the value in a completion. Raises: InvalidAnswer."""
    if call.turn is not None:
        return call.turn.read(content_of(completion), calls_of(completion))
    # instructor has parsed the answer by `AnswerForm.read` already; in other cases (prose, a bare value) the text
    # is read here.
    if isinstance(value := getattr(parsed, "__dict__", {}), dict) and "value" in value:
        return cast("Json", value["value"])
    return call.answer.read(raw)


def _words(completion: object) -> str:
    """Return the model's text: the arguments of its first tool call, else its content."""
    message = _message(completion)
    for words in (
        # Only the first call counts. Small models repeat a call, and instructor refuses more than one.
        _get(message, "tool_calls", 0, "function", "arguments"),
        _get(message, "function_call", "arguments"),
        content_of(completion),
        _get(message, "refusal"),
    ):
        if words:
            return words if isinstance(words, str) else json.dumps(words, ensure_ascii=False, default=str)
    return ""


def _message(completion: object) -> object:
    return _get(completion, "choices", 0, "message")


def _choice(completion: object) -> str:
    """Return the text of a message and its tool calls, as one text."""
    calls = [
        f"{name}({args if isinstance(args, str) else json.dumps(args)})"
        for name, args in calls_of(completion)
    ]
    return "\n".join(each for each in (content_of(completion), *calls) if each)


def content_of(completion: object) -> str:
    """Return the text of a message."""
    content = _parts(_get(_message(completion), "content"))
    return _without_thoughts(content) if isinstance(content, str) else ""


def reasoning_of(message: object) -> list[str]:
    """Return where a message has thoughts of the model beside its answer: the names of fields, or the tag in its content."""
    found = [name for name in _REASONING if _get(message, name)]
    content = _parts(_get(message, "content"))
    return (
        [*found, "<think> in content"]
        if isinstance(content, str) and _OPEN_THOUGHTS.match(content)
        else found
    )


def _without_thoughts(content: str) -> str:
    """Return a text without the thoughts at its beginning, which servers leave there that do not know a model's form of them."""
    if not _OPEN_THOUGHTS.match(content):
        return content
    # Thoughts that never end are no answer.
    _, end, rest = content.partition(_END_OF_THOUGHTS)
    return rest if end else ""


def calls_of(completion: object) -> list[tuple[str, object]]:
    """Return name and arguments of the tool calls of a message, in their order; also of its one call of the older form."""
    message = _message(completion)
    listed = _get(message, "tool_calls")
    found = cast("list[object]", listed) if isinstance(listed, list) else []
    functions = [_get(each, "function") for each in found]
    functions = functions or [_get(message, "function_call")]
    return [
        (name, _get(function, "arguments"))
        for function in functions
        if isinstance(name := _get(function, "name"), str)
    ]


def _parts(content: object) -> object:
    """Return the text of content that came in parts; other content as it is."""
    if not isinstance(content, list):
        return content
    return "".join(
        text for part in cast("list[object]", content) if isinstance(text := _get(part, "text"), str)
    )


def usage_of(completion: object, price: Price | None) -> Usage:
    """Return the usage of an answered request, and add it to the meters that are open."""

    def count(*path: str) -> int:
        number = _get(completion, "usage", *path)
        # An endpoint may send anything as a count. A count without a bound would overflow the sums of a run.
        return min(number, TOKENS_MAX) if isinstance(number, int) and number >= 0 else 0

    prompt, written = count("prompt_tokens"), count("completion_tokens")
    cached = count("prompt_tokens_details", "cached_tokens")
    usd = None if price is None else price.usd(prompt, written, cached)
    found = Usage(prompt, written, usd, 1, cached)
    for meter in _meters.get():
        meter.usages.append(found)
    return found


def _get(value: object, *path: str | int) -> object:
    """Follow fields and positions through a value of any shape; `None` where there is none."""
    # openai's models check nothing when they are constructed, so any field may be missing or of another type.
    for part in path:
        match part, value:
            case int(), list():
                items = cast("list[object]", value)
                value = items[part] if part < len(items) else None
            case str(), dict():
                value = cast("dict[str, object]", value).get(part)
            case str(), _:
                value = getattr(value, part, None)
            case _:
                return None
    return value


def _root(error: Exception) -> BaseException:
    """Return the exception that instructor wrapped."""
    from instructor.core import InstructorRetryException  # noqa: PLC0415  # heavy

    return error.__cause__ or error if isinstance(error, InstructorRetryException) else error
