"""Models by alias, and the conversation that gets one valid answer from them.

    models = Models({"default": ["gpt-5-mini", Model("qwen", base_url="http://127.0.0.1:8080/v1")]})
    reply = await models.ask(request, timeout_s=60)

- An alias stands for one endpoint or several. The next endpoint is asked where one cannot answer, not where its answer is invalid.
- An answer that does not fit its schema or a guard is asked for again, with the reason, at most `retries` times.
- A refusal and a truncated answer are errors of their own, which are never reused and never repaired.
- Without a mapping, `default` is `FIRMPLAN_MODEL`, and any other alias is itself a model's name at that endpoint.

Knows nothing of steps, journals and reuse: `key_parts` returns what decides an answer, and the executor makes reuse keys of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from typing import TYPE_CHECKING, TypeAlias, cast
from uuid import uuid4

from ...errors import ConfigError, ToolError
from ...plans.expressions.data_spans import NO_DATA, PromptData
from ...plans.format.property_order import arranged
from ...plans.immutable import frozen, immutable, record
from ...plans.program.program import AgentTurns
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json, NotJson, canonical, digest, parse
from ..failures import writable
from ..guards.guard import Guard, Question, Refusal, check_guards, find_refusal, is_data, name_of
from ..secret import SECRET_CHARACTERS_MIN
from .agent_turns import answer_in
from .answer import AnswerForm
from .clients import Clients
from .completion import (
    Answered,
    Completion,
    Invalid,
    Message,
    ModelCall,
    Refused,
    TruncatedAnswer,
    Usage,
    complete_within,
)
from .endpoint import Endpoint, Model, ModelSpec, key_variables, read_models
from .errors import ELSEWHERE, ModelError
from .judges import JUDGED_MAX, judge_of, judges_in
from .limits import RequestBudget
from .marks import ANSWER_THIS, DATA_NOTE, Data, cut_spans, has_words_outside, mark, mark_spans, sections_of
from .prices import PricesSource
from .prompts import Example, example_messages
from .tool_calls import NativeTurn

if TYPE_CHECKING:
    from .transport import Listener

__all__ = ["Message", "Model", "ModelError", "ModelReply", "ModelRequest", "Models", "Usage", "ask_request"]

DEFAULT = "default"
TIMEOUT_S = 60.0
"""A request's time where the caller sets none."""

REQUESTS_MAX = 12
"""Requests for one answer, transport retries and fallbacks included: the bound on what one step can cost."""

_LARGE_ANSWER = 20_000
"""Characters of an answer whose guards run on a thread, so that they do not hold the event loop."""

_PROCESS = uuid4().hex

Spec: TypeAlias = ModelSpec


@frozen
class ModelRequest:
    """A request to a model, before its alias is resolved.

    Attributes:
        alias: The name by which `Models` knows the model.
        schema: Self-contained JSON Schema of the answer.
        temperature: `None` is not sent; the same of `max_tokens`.
        guard: Further conditions on the answer (see `guard.py`).
        retries: How often an answer that does not fit is asked for again.
        step: Path of the leaf that asks, for a caller that has to tell equal requests apart; it decides no answer.
        question: The messages as one text without marks around data, for guards that compare the answer with it; `None`: the messages as they are.
        sources: The texts that an answer may quote, by name; they stand in the messages too.
        typed: Makes the value that guards which are functions get (`guard.py`, `Question`); it decides no answer.
        turns: Of a turn of an agent: the same question in parts, for endpoints with tool calls.
        opening: Of a turn of an `@agent` tool: the messages of its prompt, which stand before the turns in that form.
        finish: Makes the result of the call from the answer; `None`: the answer is the result. Raises: ToolError.
    """

    alias: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Json]
    temperature: float | None = None
    max_tokens: int | None = None
    guard: tuple[Guard, ...] = ()
    retries: int = 2
    step: str = ""
    question: str | None = None
    sources: Mapping[str, Json] = field(default_factory=dict[str, Json])
    turns: AgentTurns | None = None
    typed: Callable[[Json], object] | None = None
    opening: tuple[Message, ...] = ()
    finish: Callable[[Json], Json] | None = None

    def result(self, answer: Json) -> Json:
        """Return the result of the call that an answer gives. Raises: ToolError: it does not fit."""
        return answer if self.finish is None else self.finish(answer)


@frozen
class ModelReply:
    """A valid answer, the cost of all requests for it, and the model that gave it.

    Attributes:
        guards: The verdicts of the guards: name -> how many answers `held` and were `refused`, and `why` the last one was.
    """

    value: Json
    usage: Usage
    model: str
    base_url: str
    guards: Mapping[str, Json] = field(default_factory=dict[str, Json])


@immutable
class Judgement:
    """The verdict of judges on a value.

    Attributes:
        refusal: The verdict of the judge that refuses it; `None`: none does.
        guards: As in `ModelReply`.
    """

    refusal: Refusal | None
    usage: Usage
    guards: Mapping[str, Json]


class Models:
    """The models that a run may use, by alias.

    Args:
        models: Alias -> a model's name, a `Model`, its fields as a mapping, or a list of these (fallbacks, in order).
            `None`: the settings of the environment, read when a model is used.
        prices: The prices of tokens: a table, or its file (see `prices.py`); `None`: `FIRMPLAN_PRICES`, then ours.

    Raises:
        ConfigError: An entry is none of these.
    """

    def __init__(
        self, models: Models | Mapping[str, Spec] | None = None, *, prices: PricesSource = None
    ) -> None:
        self._aliases: dict[str, tuple[Model, ...]] = {}
        if isinstance(models, Models):
            self._aliases = models.aliases
            prices = models.own_prices if prices is None else prices
        elif models is not None:
            if not isinstance(cast("object", models), Mapping):
                one = repr(models) if isinstance(models, str | Model) else '"gpt-5-mini"'
                raise ConfigError(
                    f'models: expected models by alias, found {models!r:.60}; write {{"default": {one}}}'
                )
            self._aliases = {alias: read_models(f"models: '{alias}'", spec) for alias, spec in models.items()}
        self.own_prices: PricesSource = prices
        self._clients = Clients(prices)

    @property
    def clients(self) -> Clients:
        """The open clients, with their limits and prices; a planner of the same engine shares them."""
        return self._clients

    @property
    def aliases(self) -> dict[str, tuple[Model, ...]]:
        """The mapped aliases, each with its models in the order in which they are asked."""
        return dict(self._aliases)

    @property
    def key_variables(self) -> frozenset[str]:
        """The environment variables that hold keys of these models, beside `OPENAI_API_KEY`: no plan may use them as secrets."""
        return key_variables(model for models in self._aliases.values() for model in models)

    def secret_keys(self) -> dict[str, str]:
        """Return the keys of the models that can be asked, each under a name for messages: what is to leave this program must hold none of them."""
        found: dict[str, str] = {}
        for alias in dict.fromkeys((*self._aliases, DEFAULT)):
            with suppress(ConfigError):  # a model without a key has none to keep
                for number, endpoint in enumerate(self.resolve(alias)):
                    if len(endpoint.api_key) >= SECRET_CHARACTERS_MIN:
                        found[f"the key of the model '{alias}' ({number})"] = endpoint.api_key
        return found

    def resolve(self, alias: str = DEFAULT, *, needs_key: bool = True) -> tuple[Endpoint, ...]:
        """Return the endpoints that an alias stands for, in the order in which they are asked.

        Args:
            alias: The alias.
            needs_key: Whether they are to be asked; otherwise they may lack a key.

        Raises:
            ConfigError: The alias is unknown, or a setting is missing; the message says what to set.
        """
        if alias in self._aliases:
            return tuple(
                endpoint
                for model in self._aliases[alias]
                for endpoint in model.resolve_all(needs_key=needs_key)
            )
        if alias == DEFAULT:
            return (Model().resolve(needs_key=needs_key),)
        if self._aliases:
            hint = did_you_mean(alias, self._aliases, f"known are {listing(sorted(self._aliases))}")
            raise ConfigError(f"no model is called '{alias}': {hint}")
        return (Model(alias).resolve(needs_key=needs_key),)

    def is_named(self, alias: str) -> bool:
        """Whether an alias stands for a model here, or for one that the environment may configure."""
        return alias == DEFAULT or not self._aliases or alias in self._aliases

    def expect_priced(self, asked: Mapping[str, str]) -> None:
        """Check that the price of each model is known, fallbacks included: a budget in dollars over one without a price would not hold.

        Args:
            asked: Alias -> who asks it, for the message. An alias that stands for no model is passed over: its call says so.

        Raises:
            InputRejected: `unpriced-model`.
            ConfigError: The table of prices cannot be read.
        """
        prices = self._clients.prices
        for alias, whose in asked.items():
            with suppress(ConfigError):
                prices.expect_all(self.resolve(alias), whose)

    def key_parts(self, request: ModelRequest) -> dict[str, Json]:
        """Return what decides the answer to a request, as JSON: resolved models, parameters, messages, schema.

        Raises:
            ConfigError: As `resolve`.
        """
        # Stored answers stand without a key.
        endpoints = self.resolve(request.alias, needs_key=False)
        # Not whether an endpoint has refused the form so far, which only this process knows: an answer in either form answers the question.
        turn = _turn_of(request) if any(endpoint.tool_calls for endpoint in endpoints) else None
        return {
            "models": [f"{endpoint.name} at {endpoint.base_url}" for endpoint in endpoints],
            **({} if turn is None else {"turn": turn.key()}),
            "messages": [cast("Json", message.to_dict()) for message in request.messages],
            "schema": dict(request.schema),
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "guard": [_named(guard) for guard in request.guard],
            **self._judged_by(request),
        }

    def _judged_by(self, request: ModelRequest) -> dict[str, Json]:
        """Return the judges of the answer, as JSON; nothing where there is none."""
        judges = judges_in(request.guard)
        endpoints = [
            each for judge in judges for each in self.resolve(judge.model or request.alias, needs_key=False)
        ]
        return {"judges": [f"{each.name} at {each.base_url}" for each in endpoints]} if judges else {}

    async def ask(
        self, request: ModelRequest, *, timeout_s: float | None = None, listener: Listener | None = None
    ) -> ModelReply:
        """Return a valid answer to a request.

        Args:
            request: The request.
            timeout_s: Time for the whole conversation; `None`: the time of the model (`Model.timeout`), else `TIMEOUT_S`, for each request.
            listener: Hears the answers while they are written, those that do not stand too; judges are not heard.

        Raises:
            ModelError: `no-model` (a setting is missing), `refused`, `truncated`, `bad-output` (no valid answer after
                all retries), or one of the codes in `errors.py`.
        """
        endpoints = self._asked(request.alias)
        tally = _Tally.start(timeout_s, endpoints)
        try:
            return await self._first_of(endpoints, request, tally, listener)
        except ModelError as error:
            tally.settle(error)
            raise

    async def judge(
        self,
        value: Json,
        guards: Sequence[Guard],
        question: str,
        *,
        timeout_s: float | None = None,
        alias: str = DEFAULT,
    ) -> Judgement:
        """Return the verdict of the judges among guards on a value that no model of this conversation wrote, such as the result of a tool.

        Args:
            value: The value.
            guards: The guards; those that ask no model are passed over.
            question: The question that the value answers.
            timeout_s: Time for all judges; `None`: as of `ask`.
            alias: The model of a judge that names none.

        Raises:
            ModelError: A judge cannot be asked; the codes of `ask`.
        """
        size = len(canonical(value))
        for judge in judges_in(guards)[:1] if size > JUDGED_MAX else ():
            why = f"it has {size} bytes, more than the {JUDGED_MAX} that a judge is asked about"
            return Judgement(Refusal(judge.guard, why, why), Usage(), {})
        tally = _Tally.start(timeout_s)
        request = ModelRequest(alias, (), {}, guard=tuple(guards))
        try:
            refusal = await self._find_against(value, request, Question(question), tally)
        except ModelError as error:
            tally.settle(error)
            raise
        return Judgement(refusal, tally.usage, tally.verdicts())

    def _asked(self, alias: str) -> tuple[Endpoint, ...]:
        """Return the endpoints of a request. Raises: ModelError (`no-model`)."""
        try:
            # A broken price table is found before the first request, and not after the money is spent.
            assert self._clients.prices is not None
            return self.resolve(alias)
        except ConfigError as error:
            raise ModelError(str(error), code="no-model") from error

    async def _first_of(
        self,
        endpoints: Sequence[Endpoint],
        request: ModelRequest,
        tally: _Tally,
        listener: Listener | None = None,
    ) -> ModelReply:
        """Return the answer of the first endpoint that can give one."""
        # Only errors that another endpoint need not share move on. The last endpoint's error is the one that is
        # raised.
        for endpoint in endpoints[:-1]:
            try:
                return await self._converse(endpoint, request, tally, listener)
            except ModelError as error:
                if error.code not in ELSEWHERE:
                    raise
        return await self._converse(endpoints[-1], request, tally, listener)

    async def _converse(
        self, endpoint: Endpoint, request: ModelRequest, tally: _Tally, listener: Listener | None
    ) -> ModelReply:
        """Ask one endpoint until its answer is valid, at most `retries` times again."""
        answer = AnswerForm(request.schema)
        timeout_s = tally.timeout_s or endpoint.timeout_s or TIMEOUT_S
        call = ModelCall(
            endpoint,
            request.messages,
            answer,
            timeout_s,
            request.temperature,
            request.max_tokens,
            listener=listener,
            turn=_turn_of(request) if endpoint.tool_calls else None,
        )
        plain = request.question
        question = Question(
            _text_of(request.messages) if plain is None else plain, request.sources, request.typed
        )
        said = ""
        # Fails for good only with `bad-output`: transport errors are raised by `complete_within` and move on to
        # the next endpoint.
        for _ in range(request.retries + 1):
            completion = await complete_within(tally.budget, call, self._clients)
            # Usage is added before the answer is judged: a refused answer costs as much as a valid one.
            tally.usage += completion.usage
            # Guards that are data or code cost nothing, so that judges, which cost a request each, come last.
            outcome = _sorted(completion, request)
            said = outcome.fault if isinstance(outcome, Invalid) else ""
            if isinstance(outcome, Answered):
                value = outcome.value
                if request.turns is not None and not completion.is_native:
                    value = _without_calls(value)
                refusal = await self._judged(value, request, question, tally, len(completion.raw))
                if refusal is None:
                    return ModelReply(value, tally.usage, endpoint.name, endpoint.base_url, tally.verdicts())
                outcome = Invalid(refusal.detail)
                # The error reaches records and the prompts of other models, so it has the words of the answer only where a guard's code says them.
                said = refusal.why or refusal.detail
            # The wrong answer stays in the conversation, with the reason: a model that does not see its answer
            # repeats it.
            is_marked = any(DATA_NOTE in each.content for each in request.messages if each.role == "system")
            plea = _plea(outcome.fault, is_marked=is_marked)
            again = _again(completion.raw, plea)
            call = replace(call, messages=(*call.messages, *again))
            if call.turn is not None:
                call = replace(call, turn=replace(call.turn, added=(*call.turn.added, *again)))
        text = f"the model '{endpoint.name}' gave no valid answer in {request.retries + 1} tries; the last fault: {said}"
        raise ModelError(text, code="bad-output")

    async def _judged(
        self, value: Json, request: ModelRequest, question: Question, tally: _Tally, size: int
    ) -> Refusal | None:
        """Return the verdict of the first guard that refuses an answer; `None` if none does, or if a turn of an agent gives no answer yet."""
        if request.turns is not None and request.guard:
            if not (given := answer_in(value)):
                return None
            value = given["answer"]
        refusal = await _find_refusal(value, request.guard, question, size)
        tally.note_guards([guard for guard in request.guard if judge_of(guard) is None], refusal)
        return refusal or await self._find_against(value, request, question, tally)

    async def _find_against(
        self, value: Json, request: ModelRequest, question: Question, tally: _Tally
    ) -> Refusal | None:
        """Return the verdict of the first judge that refuses an answer; `None` if none does. All requests come out of one budget."""
        for guard in request.guard:
            judge = judge_of(guard)
            # A judge asks a model too, and may ask one of another alias. It never has judges of its own, so that
            # this ends.
            if judge is None:
                continue
            messages = judge.messages(value, question.text)
            wanted = ModelRequest(judge.model or request.alias, messages, judge.schema, retries=1)
            reply = await self._first_of(self._asked(wanted.alias), wanted, tally)
            refusal = judge.refusal(cast("Mapping[str, Json]", reply.value))
            tally.note_guards([guard], refusal)
            if refusal is not None:
                return refusal
        return None


@record
class _Tally:
    """The budget of a conversation, its cost and the verdicts of guards so far.

    Attributes:
        timeout_s: The longest that one request may take; `None`: as its model says.
        held: Guard -> the number of answers that it let pass.
        refused: Guard -> the number of answers that it refused, and the last reason.
    """

    budget: RequestBudget
    timeout_s: float | None
    usage: Usage = field(default_factory=Usage)
    held: Counter[str] = field(default_factory=Counter[str])
    refused: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])

    @classmethod
    def start(cls, timeout_s: float | None, endpoints: Sequence[Endpoint] = ()) -> _Tally:
        """Return the tally of a conversation that begins: one budget for all endpoints and judges, so that fallbacks do not multiply the cost."""
        slowest_s = max((endpoint.timeout_s or TIMEOUT_S for endpoint in endpoints), default=TIMEOUT_S)
        return cls(RequestBudget(REQUESTS_MAX, timeout_s or slowest_s * REQUESTS_MAX), timeout_s)

    def settle(self, error: ModelError) -> None:
        """Tell an error what the conversation has cost, and what the guards said."""
        error.usage = self.usage if self.usage.requests else None
        error.guards = self.verdicts()

    def note_guards(self, guards: Sequence[Guard], refusal: Refusal | None) -> None:
        """Note the verdicts on one answer: of the guards that were asked, up to the one that refuses."""
        for guard in guards:
            name = name_of(guard)
            if refusal is not None and name == refusal.guard:
                count, _ = self.refused.get(name, (0, ""))
                self.refused[name] = count + 1, refusal.why
                return
            self.held[name] += 1

    def verdicts(self) -> dict[str, Json]:
        """Return the verdicts as `ModelReply.guards` has them, sorted by name; empty without guards."""
        found: dict[str, Json] = {}
        for name in sorted({*self.held, *self.refused}):
            refused, why = self.refused.get(name, (0, ""))
            counts: dict[str, Json] = {"held": self.held[name], "refused": refused}
            found[name] = {**counts, "why": why} if why else counts
        return found


def ask_request(  # noqa: PLR0913  # the keys of an `ask` step
    prompt: str,
    *,
    system: str | None = None,
    examples: Sequence[Json] = (),
    returns: Mapping[str, Json] | None = None,
    model: str = DEFAULT,
    temperature: float | None = None,
    max_tokens: int | None = None,
    guard: Sequence[Guard] = (),
    data: PromptData = NO_DATA,
) -> ModelRequest:
    """Return the request of an `ask` step. The parts that never change come first, so that endpoints can cache them.

    Data stands between marks (`marks.py`), and the system message says so; a prompt without data is sent as it is.

    Args:
        prompt: The question.
        system: The system message; `None`: none.
        examples: Worked examples: `{"input": .., "output": ..}` or pairs.
        returns: JSON Schema of the answer; `None`: text.
        model: The alias.
        temperature: `None` is not sent; the same of `max_tokens`.
        max_tokens: The most tokens of an answer.
        guard: Further conditions on the answer (`guard.py`).
        data: The parts of prompt, system message and examples that are data.

    Raises:
        ConfigError: A guard or an example is not one.
    """
    check_guards("ask", guard)
    schema: Mapping[str, Json] = {"type": "string"} if returns is None else returns
    read = [Example.read(f"ask: examples[{index}]", example) for index, example in enumerate(examples)]
    # The answers of examples get the order of the schema's fields: models copy the order, and reasoning that
    # comes first is written first.
    pairs = [replace(each, answer=arranged(each.answer, schema)) for each in read]
    head = (Message("system", system),) if system else ()
    plain = (*head, *example_messages(pairs), Message("user", prompt))
    # What expressions put into the prompt is the source; a prompt without data is its own.
    filled = [
        source
        for part in (cut_spans(prompt, data.prompt) if data else ())
        if isinstance(part, Data)
        for source in _as_sources(part.text)
    ]
    request = ModelRequest(
        model,
        plain,
        schema,
        temperature,
        max_tokens,
        tuple(guard),
        sources={"prompt": cast("Json", filled or prompt)},
    )
    if not data:
        return request
    messages = _marked(prompt, system or "", pairs, data)
    return replace(request, messages=messages, question=_text_of(plain))


def _as_sources(text: str) -> list[Json]:
    """Return the texts that a value in a prompt may be quoted from: itself, and of JSON the texts inside, which are escaped there."""
    if text[:1] in ("{", "["):
        with suppress(NotJson):
            return [text, parse(text)]
    return [text]


def _marked(prompt: str, system: str, examples: Sequence[Example], data: PromptData) -> tuple[Message, ...]:
    """Return the messages of a prompt that holds data, with marks around it."""
    instructions = "\n\n".join(part for part in (mark_spans(system, data.system), DATA_NOTE) if part)
    own = [each for index, each in enumerate(examples) if index not in data.examples]
    parts: list[str | Data] = []
    # An example that holds data is shown beside the prompt and not as a turn of the conversation: in an answer of the assistant no mark would
    # keep foreign words apart, and the model would copy the marks.
    shown: list[Json] = [{"input": examples[at].asked, "output": examples[at].answer} for at in data.examples]
    if shown:
        parts += ["Worked examples: ", Data.of("examples", shown), "\n\n"]
    if not (has_words_outside(prompt, data.prompt) or has_words_outside(system, data.system)):
        parts.append(f"{ANSWER_THIS}\n")
    first, *later = sections_of(prompt, data)
    asked = "".join([mark([*parts, *first]), *map(mark, later)])
    return (Message("system", instructions), *example_messages(own), Message("user", asked))


def _text_of(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)


async def _find_refusal(
    value: Json, guards: Sequence[Guard], question: Question, size: int
) -> Refusal | None:
    """Return the verdict of the first guard, judges aside, that refuses an answer of this size. Raises: ModelError (`guard-failed`)."""
    if not guards:
        return None
    try:
        if size > _LARGE_ANSWER:
            return await asyncio.to_thread(find_refusal, value, guards, question)
        return find_refusal(value, guards, question)
    except ToolError as broken:
        raise ModelError(str(broken), code=broken.code) from broken


def _sorted(completion: Completion, request: ModelRequest) -> Answered | Invalid:
    """Return a completion that is an answer, valid or not. Raises: ModelError (`refused`, `truncated`)."""
    match completion.outcome:
        case Answered() | Invalid():
            return completion.outcome
        case Refused(text):
            raise ModelError(f"the model declined to answer: {text[:500]}", code="refused")
        case TruncatedAnswer():
            limit = "" if request.max_tokens is None else f" (max_tokens is {request.max_tokens})"
            raise ModelError(f"the model's answer was cut off before its end{limit}", code="truncated")


def _plea(fault: str, *, is_marked: bool) -> str:
    """Return the words that ask for an answer once more; the fault quotes the answer, which may quote the data of a marked prompt."""
    why: str | Data = Data("fault", fault) if is_marked else fault
    return mark(["That answer does not do: ", why, "\nAnswer again, whole, with that put right."])


def _without_calls(value: Json) -> Json:
    """Return the reply of an agent's model in structured output: several calls come in native tool calls alone, where each is looked at."""
    return (
        {name: each for name, each in value.items() if name != "calls"} if isinstance(value, dict) else value
    )


def _turn_of(request: ModelRequest) -> NativeTurn | None:
    return None if request.turns is None else NativeTurn(request.turns, opening=request.opening)


def _again(raw: str, plea: str) -> tuple[Message, ...]:
    """Return the messages that ask for an answer once more."""
    return (*((Message("assistant", writable(raw)),) if raw.strip() else ()), Message("user", plea))


def _named(guard: Guard) -> Json:
    """Return a guard as JSON for the reuse key: data as it is, a callable as its name and the digest of its code.

    A guard whose code cannot be seen in full gets a name that no other process gives, so that no answer is reused under it.
    """
    if is_data(guard):
        if "personal_data" not in guard:
            return dict(guard)
        from ..guards.personal_data import package_versions  # noqa: PLC0415  # needs an extra: only for this guard

        return {**guard, "packages": dict(package_versions())}
    from ..fingerprint.closure import close_over  # noqa: PLC0415  # reads source files: only for guards that are code

    seen = close_over(guard, {})
    name = f"{getattr(guard, '__module__', '')}.{getattr(guard, '__qualname__', type(guard).__name__)}"
    parts: dict[str, Json] = {**seen.parts, **seen.versions}
    return {
        "guard": name,
        "code": digest(canonical(parts)),
        "unseen": f"{_PROCESS} {id(guard)}" if seen.unseen else "",
    }
