"""`@agent`: a typed function whose docstring is a prompt becomes a tool that a model carries out.

    @agent
    def classify(ticket: str) -> Triage:
        \"\"\"Decide the queue and urgency of this support ticket:
        ${ticket}\"\"\"

The docstring's `${parameter}` are filled with the arguments, marked as data; parameters that it does not mention follow
at its end, so that none is lost. The annotation of the result is the form of the answer. The body is never run.

In a plan the engine sends `Tool.request_of(args)`. A direct call asks the models of the environment, waits (or
returns an awaitable, for `async def`) and gives a value of the annotated type.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import wraps
from importlib import import_module
from math import inf
from typing import Any, cast, overload

from typing_extensions import ParamSpec, TypeVar

from ...errors import ConfigError, ToolError
from ...plans.durations import parse_count
from ...plans.immutable import immutable
from ...plans.python_types import adapter_of
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.signature import AgentTools, Effect
from ...plans.values import Json, canonical, parse_canonical
from ..declaration import UNSTATED, parsed
from ..guards.guard import Guard, check_guards
from ..models.completion import Message
from ..models.marks import DATA_NOTE, as_text
from ..models.models import DEFAULT, ModelRequest, Models
from ..models.prompts import Example, PromptTemplate, example_messages, field_of
from ..tool import Tool, make_tool
from ..types.annotated import PythonTypes
from ..types.callables import (
    argument_names,
    caller_locals,
    find_context,
    is_async,
    plain_function,
    read_annotations,
)

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 2

STEPS = 5
"""Turns of an agent with tools, unless it says otherwise: enough to look up, to follow up, and to answer. Each is a request that sends all turns before it again."""
CALLS = 10
"""Calls of tools of such an agent, all turns together."""
STEPS_MAX = 100
"""The most of both that an agent may state: its turns are sent again with each request, and a plan is what longer work is for."""


@immutable
class AgentSettings:
    """The settings of an agent; `None` is not sent.

    Attributes:
        examples: As they were given.
        retries: How often an answer that does not fit is asked for again.
    """

    model: str = DEFAULT
    temperature: float | None = None
    examples: Sequence[object] = ()
    max_tokens: int | None = None
    guard: Sequence[Guard] = ()
    retries: int = RETRIES
    system: str | None = None

    def check(self, where: str) -> None:
        """Raise `ConfigError` unless each setting is one."""
        if not isinstance(cast("object", self.model), str) or not self.model:
            raise ConfigError(f"{where}: model: expected a model's name or alias, found {self.model!r}")
        given: object = self.temperature
        is_number = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < inf
        if given is not None and not is_number:
            raise ConfigError(f"{where}: temperature: expected a number of at least 0, found {given!r}")
        said = cast("object", self.system)
        if said is not None and (not isinstance(said, str) or not said.strip()):
            raise ConfigError(f"{where}: system: expected text, found {said!r}")
        counts = {"retries": (self.retries, 0), "max_tokens": (self.max_tokens, 1)}
        for key, (value, least) in counts.items():
            _ = None if value is None else parsed(f"{where}: {key}", parse_count, value, least)
        lists: dict[str, object] = {"examples": self.examples, "guard": self.guard}
        for key, listed in lists.items():
            if isinstance(listed, str | Mapping) or not isinstance(listed, Sequence):
                raise ConfigError(f"{where}: {key}: expected a list, found {listed!r}; put it in brackets")
        check_guards(where, self.guard)


@overload
def agent(fn: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def agent(
    fn: None = None,
    /,
    *,
    model: str = DEFAULT,
    temperature: float | None = None,
    examples: Sequence[object] = (),
    max_tokens: int | None = None,
    guard: Sequence[Guard] = (),
    retries: int = RETRIES,
    system: str | None = None,
    timeout: str | float | timedelta | None = None,
    tools: Sequence[Tool[..., Any] | str] = (),
    max_steps: int | None = None,
    max_calls: int | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def agent(  # noqa: PLR0913  # the settings of an agent
    fn: Callable[..., Any] | None = None,
    /,
    *,
    model: str = DEFAULT,
    temperature: float | None = None,
    examples: Sequence[object] = (),
    max_tokens: int | None = None,
    guard: Sequence[Guard] = (),
    retries: int = RETRIES,
    system: str | None = None,
    timeout: str | float | timedelta | None = None,
    tools: Sequence[Tool[..., Any] | str] = (),
    max_steps: int | None = None,
    max_calls: int | None = None,
) -> Any:
    """Make a `model` tool of a typed function whose docstring is the prompt: `@agent` or `@agent(model="small")`.

    Args:
        fn: The function; its body is never run.
        model: The name by which the engine's `models` know the model.
        temperature: `None` is not sent; the same of `max_tokens`.
        examples: Worked examples: `{"input": .., "output": ..}` or pairs. An input that is an object with the
            parameters' names fills the prompt as a call does.
        max_tokens: The most that an answer may be long.
        guard: Further conditions on the answer, as data or code: see `guard.py`.
            A function gets the value of the annotated type: the model's instance, not its JSON.
        retries: How often an answer that does not fit its type or a guard is asked for again, with the reason.
        system: What the model is told first, before examples and prompt: who it is, and how it answers. No holes: it is the same in every call.
        timeout: Of one call, all its requests and repetitions together: seconds, or `"30s"`.
        tools: What the model may call before it answers: tools, or names of tools of the toolset. Only tools that read or compute (effect `read` or `pure`).
        max_steps: Of an agent with tools: the most turns of the model; 5 unless said. A turn calls tools or answers.
        max_calls: Of an agent with tools: the most calls of tools, all turns together; 10 unless said.

    Raises:
        ConfigError: The prompt is missing or refers to no parameter of the function, or a setting is not valid.
    """
    settings = AgentSettings(model, temperature, examples, max_tokens, guard, retries, system)

    def made(decorated: Callable[..., Any]) -> Tool:
        return _make(decorated, settings, timeout, _Calling(tools, max_steps, max_calls))

    return made if fn is None else made(fn)


@immutable
class _AgentRequest:
    """Makes the request of an agent from its arguments."""

    where: str
    template: PromptTemplate
    settings: AgentSettings
    head: tuple[Message, ...]
    history: str | None = None

    def request(
        self,
        args: Mapping[str, Json],
        schema: Mapping[str, Json],
        typed: Callable[[Json], object] | None,
        seal: Callable[[Json], Json] | None,
    ) -> ModelRequest:
        """Return the request for one call. What does not change comes first, so that endpoints can cache it.

        Args:
            args: The arguments.
            schema: That of the answer.
            typed: As of `ModelRequest`.
            seal: Validates the answer of an agent whose result has the messages; `None`: the answer is the result.
        """
        asked = self.template.fill(args)
        earlier: list[Json] = []
        before: list[Message] = []
        if self.history is not None and args.get(self.history):
            from .conversation import sent  # noqa: PLC0415  # pydantic, and only agents with a history

            earlier = cast("list[Json]", args[self.history])
            before = sent(f"{self.where}: '{self.history}'", earlier)
        messages = (*self.head, *before, Message("user", asked))
        settings = self.settings
        plain = self.template.fill_plainly(
            {path: as_text(field_of(args, path)) for path in self.template.paths}
        )
        return ModelRequest(
            settings.model,
            messages,
            schema,
            settings.temperature,
            settings.max_tokens,
            tuple(settings.guard),
            settings.retries,
            question="\n".join([*(message.content for message in (*self.head, *before)), plain]),
            sources=args,
            typed=typed,
            finish=None if seal is None else lambda answer: _reply(seal(answer), earlier, plain),
        )


def _reply(answer: Json, earlier: Sequence[Json], asked: str) -> Json:
    """Return an answer with its conversation (`conversation.Reply`)."""
    said: list[Json] = [{"role": "user", "content": asked}, {"role": "assistant", "content": as_text(answer)}]
    return {"output": answer, "messages": [*earlier, *said]}


@immutable
class _Calling:
    """The settings of an agent about the tools that it may call, as they were given."""

    tools: Sequence[Tool[..., Any] | str]
    max_steps: int | None
    max_calls: int | None

    def read(self, where: str, name: str) -> tuple[AgentTools | None, tuple[Tool | str, ...]]:
        """Return the bounds of the agent of this name, and the tools. Raises: ConfigError."""
        limits: dict[str, int] = {}
        for key, value, default in (
            ("max_steps", self.max_steps, STEPS),
            ("max_calls", self.max_calls, CALLS),
        ):
            limits[key] = default if value is None else parsed(f"{where}: {key}", parse_count, value, 1)
            if limits[key] > STEPS_MAX:
                raise ConfigError(
                    f"{where}: {key}: expected at most {STEPS_MAX}, found {value}; longer work is what a plan is for"
                )
        given = cast("object", self.tools)
        if isinstance(given, str | Tool | Mapping) or not isinstance(given, Iterable):
            raise ConfigError(
                f"{where}: tools: expected a list of tools or their names, found {given!r}; put it in brackets"
            )
        found = tuple(cast("Iterable[Tool | str]", given))
        if not found:
            for key, value in (("max_steps", self.max_steps), ("max_calls", self.max_calls)):
                if value is not None:
                    raise ConfigError(
                        f"{where}: {key}: it bounds the calls of tools, but the agent has none; add tools=[..]"
                    )
            return None, ()
        names = check_called(where, found)
        if name in names:
            raise ConfigError(
                f"{where}: tools: '{name}' is the agent itself; an agent calls tools that read or compute"
            )
        return AgentTools(names, **limits), found


def check_called(where: str, tools: Sequence[Tool | str]) -> tuple[str, ...]:
    """Return the names of the tools that an agent may call. Raises: ConfigError: it may not call one, or one stands there twice."""
    names: list[str] = []
    for each in cast("Sequence[object]", tools):
        match each:
            case Tool():
                listed = cast("Tool", each)
                _check_harmless(where, listed)
                name = listed.name
            case str() if each.strip():
                name = each
            case _:
                called = getattr(each, "__name__", None)
                cure = f"decorate {called} with @tool" if called else "decorate a function with @tool"
                raise ConfigError(
                    f"{where}: tools: expected a tool or the name of one, found {each!r}; {cure}"
                )
        if name in names:
            raise ConfigError(f"{where}: tools: '{name}' stands there twice; name each tool once")
        names.append(name)
    return tuple(names)


def _check_harmless(where: str, tool: Tool) -> None:
    """Raise `ConfigError` unless a model may call a tool as it likes, without a plan that a check has read."""
    if tool.effect is Effect.WRITE:
        why = "is a write" if tool.is_effect_declared else "declares no effect, which counts as a write"
        raise ConfigError(
            f"{where}: tools: '{tool.name}' {why}; the model of an agent may only read and compute: make it a step of the plan, "
            "which gets the answer of the agent as an argument"
            + (
                ""
                if tool.is_effect_declared
                else ', or declare effect="read" or "pure" if it changes nothing'
            )
        )
    if tool.effect is Effect.MODEL:
        raise ConfigError(
            f"{where}: tools: '{tool.name}' is an agent; agents do not call agents: make it a step of the plan before this one"
        )
    if tool.private or tool.egress:
        what = (
            "its results are private" if tool.private else "it sends data to whom its arguments name (egress)"
        )
        raise ConfigError(
            f"{where}: tools: '{tool.name}': {what}; the check of a plan sees what an `agent` step sends where, and not what this agent does: "
            "use an `agent` step, or make the tool a step of the plan"
        )
    if tool.needs_instance:
        raise ConfigError(
            f"{where}: tools: '{tool.name}' is a method; hand over the method of an instance, or its name, where the toolset has that"
        )


def _make(
    fn: Callable[..., Any],
    settings: AgentSettings,
    timeout: str | float | timedelta | None,
    calling: _Calling,
) -> Tool:
    """Return the tool."""
    where = f"agent '{getattr(plain_function(fn), '__name__', fn)}'" if callable(fn) else "@agent"
    if not callable(fn) or isinstance(fn, type | Tool):
        raise ConfigError(f"{where}: expected a function whose docstring is the prompt, found {fn!r}")
    settings.check(where)
    history = _history(where, fn)
    template = _template(where, fn, history)
    check_guards(where, settings.guard, template.names)
    bounds, called = calling.read(where, str(getattr(plain_function(fn), "__name__", "")))
    is_untrusted = any(isinstance(each, Tool) and each.trust == "untrusted" for each in called)
    head = _head(where, fn, template, settings, has_history=history is not None)
    made = _AgentRequest(where, template, settings, head, history)

    def request_of(args: dict[str, Json]) -> ModelRequest:
        # A field with a default may be missing in an answer: the result has it.
        types = _answer_types(tool)
        seal = None if types is tool.types else sealed
        return made.request(args, types.answers or {}, typed if settings.guard else None, seal)

    def typed(value: Json) -> object:
        return _instance(tool, value)

    def sealed(value: Json) -> Json:
        return parse_canonical(_answer_types(tool).seal(value))

    direct = _direct(fn, lambda: tool)
    tool = make_tool(
        direct,
        source=fn,
        request_of=request_of,
        influences=(*settings.guard, *_answer_classes(fn, where)),
        agent_tools=bounds,
        called=called,
        # What the model has read of strangers may be in its answer.
        trust="untrusted" if is_untrusted else UNSTATED,
        effect="model",
        timeout=timeout,
        description=_description(template),
        fingerprint_extra=_extra(template, made, bounds),
    )
    _check_paths(where, tool, template)
    _check_answers(where, tool, settings)
    if "types" in tool.__dict__ and tool.injected:
        raise ConfigError(
            f"{where}: parameter '{next(iter(tool.injected))}': expected a value for the prompt, found a resource; the body of an agent is never run: "
            "use the resource in a tool, and give its result to the agent"
        )
    return tool


def _instance(tool: Tool, value: Json) -> object:
    """Return an answer as a value of the annotated type. Raises: ValueError: it does not fit."""
    from pydantic import TypeAdapter  # noqa: PLC0415  # loaded with the tools anyway

    types = _answer_types(tool)
    try:
        sealed = tool.seal(value) if types is tool.types else types.seal(value)
    except ToolError as error:
        raise ValueError(str(error)) from error
    adapter: TypeAdapter[object] = TypeAdapter(types.annotations.returns)
    return adapter.validate_json(sealed)


def _answer_types(tool: Tool) -> PythonTypes:
    """Return the types of what the model is asked for: those of the tool, or of `T` where it returns `Reply[T]`."""
    types = cast("PythonTypes", tool.types)
    if (known := tool.__dict__.get("_answer_types")) is not None:
        return cast("PythonTypes", known)
    returns = types.annotations.returns
    if _has_conversation(returns):
        from .conversation import answer_type_of  # noqa: PLC0415  # pydantic

        asked = answer_type_of(returns)
        if asked is not returns:
            only = replace(types.annotations, parameters=(), returns=asked)
            types = PythonTypes(f"agent '{tool.name}'", tool.name, only)
    tool.__dict__["_answer_types"] = types
    return types


def _has_conversation(annotation: object) -> bool:
    """Whether a type may be one of `conversation.py`, which is not imported for this."""
    module = sys.modules.get(f"{__package__}.conversation")
    return module is not None and annotation is not None


def _answer_classes(fn: Callable[..., Any], where: str) -> tuple[object, ...]:
    """Return the class that `Reply[..]` holds, for the fingerprint: pydantic's generic class hides its code."""
    try:
        returns = read_annotations(fn, where, caller_locals()).returns
    except (NameError, ConfigError):
        return ()
    if not _has_conversation(returns):
        return ()
    from .conversation import answer_type_of  # noqa: PLC0415  # pydantic

    asked = answer_type_of(returns)
    return (
        (asked,)
        if asked is not returns and isinstance(asked, type) and asked.__module__ != "builtins"
        else ()
    )


def _history(where: str, fn: Callable[..., Any]) -> str | None:
    """Return the parameter that holds earlier messages; `None`: there is none. Raises: ConfigError: there are two."""
    if not _has_conversation(fn):
        return None
    from .conversation import is_history  # noqa: PLC0415  # pydantic

    try:
        parameters = read_annotations(fn, where, caller_locals()).parameters
    except ConfigError:
        return None  # said where the tool is made
    except NameError as error:
        if "Message" not in str(plain_function(fn).__annotations__):
            return None  # a type defined further down; no conversation is meant
        raise ConfigError(
            f"{where}: an annotation names '{error.name}', which is not defined yet; define it above an agent that takes messages"
        ) from error
    found = [each.name for each in parameters if is_history(each.annotation)]
    if len(found) > 1:
        raise ConfigError(
            f"{where}: expected one parameter annotated list[Message], found {', '.join(found)}; keep one"
        )
    return found[0] if found else None


def _check_paths(where: str, tool: Tool, template: PromptTemplate) -> None:
    """Raise `ConfigError` if the prompt names a field that the type of its parameter does not have."""
    if all("." not in path for path in template.paths) or "types" not in tool.__dict__:
        return  # a type defined further down cannot be compared yet
    for path in template.paths:
        at: Json = dict(tool.parameters)
        for number, part in enumerate(path.split(".")):
            at = _resolved(at, tool.parameters)
            if not isinstance(at, dict):
                break
            known = at.get("properties")
            if not isinstance(known, dict) or (part not in known and at.get("additionalProperties")):
                break  # nothing is known of its fields
            if part not in known:
                before = ".".join(path.split(".")[:number])
                hint = did_you_mean(part, known, f"'{before}' has {listing(known)}")
                raise ConfigError(
                    f"{where}: the prompt refers to '${{{path}}}': '{before}' has no field '{part}'; {hint}"
                )
            at = known[part]


def _resolved(schema: Json, root: Mapping[str, Json]) -> Json:
    """Return a schema, or the named one that it refers to."""
    while isinstance(schema, dict) and isinstance(name := schema.get("$ref"), str):
        definitions = root.get("$defs")
        schema = definitions.get(name.rpartition("/")[2]) if isinstance(definitions, dict) else None
    return schema


def _template(where: str, fn: Callable[..., Any], history: str | None) -> PromptTemplate:
    """Return the prompt: the docstring, and after it the parameters that it does not mention."""
    # `getdoc` removes the indentation, so that moving the function changes no prompt and no fingerprint.
    text = (inspect.getdoc(plain_function(fn)) or "").strip()
    if not text:
        raise ConfigError(
            f"{where}: expected a docstring, which is the prompt, found none; write what the model is to do, with "
            "${parameter} where an argument goes"
        )
    context = find_context(fn)
    if history is not None and re.search(rf"\$\{{\s*{history}\b", text):
        raise ConfigError(
            f"{where}: the prompt refers to '${{{history}}}', whose messages are sent before the prompt; leave it out"
        )
    known = [name for name in argument_names(fn, where) if name not in (context, history)]
    mentioned = PromptTemplate.read(where, text, known).names
    # A parameter that the prompt forgets would decide nothing, and nobody would notice.
    rest = [f"${{{name}}}" for name in known if name not in mentioned]
    return PromptTemplate.read(where, "\n\n".join([text, *rest]), known)


def _head(
    where: str,
    fn: Callable[..., Any],
    template: PromptTemplate,
    settings: AgentSettings,
    *,
    has_history: bool,
) -> tuple[Message, ...]:
    """Return the messages that are the same in every call."""
    from pydantic_core import to_jsonable_python  # noqa: PLC0415  # loaded with the tools anyway

    parameters = inspect.signature(fn).parameters.values()
    defaults: dict[str, Json] = {
        each.name: to_jsonable_python(each.default, fallback=repr)
        for each in parameters
        if each.default is not each.empty and each.name in template.names
    }
    # The words of the author first: the note about marks is the same for all prompts, and says nothing of the task.
    words = [settings.system] if settings.system is not None else []
    words += [DATA_NOTE] if template.names or has_history else []
    system = (Message("system", "\n\n".join(words)),) if words else ()
    asked = [_asked_as_prompt(each, template, defaults) for each in _examples(where, settings)]
    return (*system, *example_messages(asked))


def _examples(where: str, settings: AgentSettings) -> list[Example]:
    from pydantic_core import to_jsonable_python  # noqa: PLC0415  # loaded with the tools anyway

    return [
        Example.read(f"{where}: examples[{index}]", to_jsonable_python(example, fallback=repr))
        for index, example in enumerate(settings.examples)
    ]


def _asked_as_prompt(example: Example, template: PromptTemplate, defaults: Mapping[str, Json]) -> Example:
    """Return an example whose question is the prompt filled with its input, where the input names the parameters."""
    match example.asked:
        case dict(given) if given and all(name in template.names for name in given):
            values = {**defaults, **given}
            return (
                Example(template.fill(values), example.answer)
                if len(values) >= len(template.names)
                else example
            )
        # With one hole there is no doubt where the input goes.
        case asked if len(template.names) == 1:
            return Example(template.fill({template.names[0]: asked}), example.answer)
        case _:
            return example


def _check_answers(where: str, tool: Tool, settings: AgentSettings) -> None:
    """Raise `ConfigError` if the answer of an example does not fit the annotated type."""
    if not settings.examples or "types" not in tool.__dict__:
        return  # a type defined further down cannot be compared yet
    # A wrong example teaches the model a wrong answer, which would only be refused in the run.
    for index, example in enumerate(_examples(where, settings)):
        try:
            _answer_types(tool).seal(example.answer)
        except ToolError as error:
            raise ConfigError(
                f"{where}: examples[{index}]: its answer does not fit the annotation: {error}"
            ) from None


def _description(template: PromptTemplate) -> str:
    """Return the prompt as a description, with the names of its parameters in the holes."""
    return template.fill_plainly({path: f"<{path}>" for path in template.paths})


def _extra(template: PromptTemplate, made: _AgentRequest, bounds: AgentTools | None) -> Json:
    """Return the parts of the request that decide an answer and are no code: for the fingerprint."""
    calling: dict[str, Json] = {}
    if bounds is not None:
        calling = {"max_steps": bounds.max_steps, "max_calls": bounds.max_calls, "tools": list(bounds.tools)}
    return {
        **calling,
        "prompt": template.text,
        "head": [cast("Json", message.to_dict()) for message in made.head],
        "model": made.settings.model,
        "temperature": made.settings.temperature,
        "max_tokens": made.settings.max_tokens,
    }


def _direct(fn: Callable[..., Any], tool: Callable[[], Tool]) -> Callable[..., Any]:
    """Return the function that a direct call runs: it asks the models of the environment."""

    async def asked(*args: object, **kwargs: object) -> object:
        from pydantic_core import to_jsonable_python  # noqa: PLC0415  # loaded with the tools anyway

        # `bind_partial`: a missing argument is reported by `bind` of the tool, with its name and type.
        bound = inspect.signature(fn).bind_partial(*args, **kwargs)
        context = find_context(fn)
        given = {name: value for name, value in bound.arguments.items() if name not in ("self", context)}
        made = tool()
        if made.called:
            return await _run_alone(made, to_jsonable_python(given))
        assert made.request_of is not None
        values = parse_canonical(made.bind(to_jsonable_python(given)))
        request = made.request_of(cast("dict[str, Json]", values))
        reply = await Models().ask(request)
        annotations = cast("PythonTypes", made.types).annotations
        sealed = made.seal(request.result(reply.value))
        return adapter_of(annotations.returns).validate_json(sealed)

    if is_async(fn):
        return wraps(fn)(asked)

    @wraps(fn)
    def waited(*args: object, **kwargs: object) -> object:
        return _wait(lambda: asyncio.run(asked(*args, **kwargs)))

    return waited


async def _run_alone(agent: Tool, given: Mapping[str, Json]) -> object:
    """Return the answer of an agent with tools: from a run of one step in an engine that keeps nothing, under the rules of every run."""
    # By its name: the engine is built on tools, and not the other way round.
    made = import_module(__name__.rpartition(".tools.")[0] + ".engine")
    step: dict[str, Json] = {
        "id": "answer",
        "tool": agent.name,
        "args": {name: f"${{inputs.{name}}}" for name in given},
    }
    plan: dict[str, Json] = {
        "firmplan": 1,
        "inputs": {name: {} for name in given},
        "steps": [step],
        "output": "${answer}",
    }
    async with made.Engine([agent], store="memory:") as engine:
        run = await engine.run(plan, inputs=dict(given))
    if run.status != "succeeded":
        error = next(iter(run.errors), None)
        if error is None:
            raise ToolError(
                f"agent '{agent.name}' has not answered: its run is {run.status}", code="unfinished"
            )
        raise ToolError(error.message, code=error.code, temporary=error.temporary)
    annotations = cast("PythonTypes", agent.types).annotations
    return adapter_of(annotations.returns).validate_json(canonical(run.output))


def _wait(call: Callable[[], object]) -> object:
    """Make a call that starts an event loop: on a thread of its own where a loop runs already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only there

    with ThreadPoolExecutor(1, thread_name_prefix="firmplan-agent") as thread:
        return thread.submit(call).result()
