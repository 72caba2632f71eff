"""`Tool`: one thing that a step may do, and `@tool`, which makes one of a Python function.

A tool has a declaration (`Declaration`), types (`Types`) and a function. It is immutable, and calling it
calls the function. The engine calls it in three steps: `bind` makes canonical bytes of the arguments, `invoke` calls the
function with values parsed from them, and `seal` makes canonical bytes of the result. So a tool that changes its arguments or its
result later cannot change stored values.

A mistake in a declaration is a `ConfigError` at the declaration. Only an annotation that names a class defined further down is
resolved later: when the types are first used, at the latest by the `Toolset`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import WRAPPER_ASSIGNMENTS, cached_property
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, Generic, cast, overload

from typing_extensions import ParamSpec, TypeVar, Unpack

from ..errors import ConfigError, ToolError
from ..plans.reports.nearest import did_you_mean, listing
from ..plans.signature import DEFAULT_MODEL, AgentTools, Effect, is_narrow
from ..plans.values import Json, NotJson, canonical, parse_canonical
from .context import Context
from .declaration import (
    UNDECLARED,
    UNSTATED,
    Approval,
    Declaration,
    Results,
    RetryOn,
    ToolOptions,
    ToolSettings,
    read_declaration,
)
from .failures import ResultRefused, is_interruption
from .guards.guard import Guard, check_guards
from .resources import Resource, find_resource, in_scope, key_of, mentioned_in, with_needs
from .types.annotated import PythonTypes
from .types.callables import (
    argument_names,
    caller_locals,
    check_by_keyword,
    find_context,
    find_resources,
    is_async,
    is_method,
    local_resources,
    plain_function,
    read_annotations,
)
from .types.schemas import SchemaTypes, Types, fault_of, is_loose

if TYPE_CHECKING:
    from ..plans.types.learnt import LearntType
    from .fingerprint.fingerprint import Fingerprint
    from .fingerprint.observations import Observations
    from .provider import ProvidedTool

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)
Q = ParamSpec("Q")
S = TypeVar("S")

_FINGERPRINTS: Final = ("_fingerprint", "fingerprint", "last_fingerprints")
"""What a tool has computed of its code: a copy that does something else forgets them."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Tool(Declaration, Generic[P, R]):
    """One thing that a step may do.

    Attributes:
        fn: What is called; takes its arguments by name.
        source: The function whose annotations are the types and whose code is the fingerprint.
        read_types: Makes `types`.
        request_of: For a model tool: from arguments to the request that is sent instead of calling `fn`.
        influences: Further values and functions that decide a result, such as an agent's guards: for the fingerprint.
        provided: The tool as somebody else describes it; `None`: its author is the user.
        default_results: What becomes of a result that does not fit the declared type where neither the tool, nor its toolset, nor the engine says it.
        learnt: What its results looked like, for planners; `None`: none came, or nobody has looked.
        replaced_resources: Resources for which an engine has others, each with what stands for it.
        agent_tools: Of an agent whose model may call tools before it answers: which, and how often; `None`: it is none.
        called: Those tools, as far as they are known: a name stands for the tool of that name in the toolset.
    """

    fn: Callable[P, R]
    source: Callable[..., Any]
    read_types: Callable[[], Types]
    request_of: Callable[[dict[str, Json]], Any] | None = None
    influences: tuple[object, ...] = ()
    provided: ProvidedTool | None = None
    default_results: Results = "enforce"
    learnt: LearntType | None = None
    replaced_resources: tuple[tuple[Resource[Any], object], ...] = ()
    agent_tools: AgentTools | None = None
    called: tuple[Tool | str, ...] = ()

    def __post_init__(self) -> None:
        """Take on the function's name, module and docstring, as a decorated function does."""
        for key in WRAPPER_ASSIGNMENTS:
            if hasattr(self.source, key):
                self.__dict__[key] = getattr(self.source, key)
        # The dataclass is frozen. The attributes of functions are set past it, as `functools.wraps` would.
        self.__dict__["__wrapped__"] = self.fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as if it had never been made a tool."""
        return self.fn(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Tool[..., R]:
        """Bind a tool that is a method to its instance, as functions do."""
        # Dataclass fields and class attributes may hold tools; only a method gets its instance.
        if instance is None or not self.needs_instance:
            return self
        return replace(self, fn=MethodType(self.fn, instance), source=MethodType(self.source, instance))

    @cached_property
    def types(self) -> Types:
        """The tool's types. Raises `ConfigError` if an annotation names what does not exist."""
        try:
            return self.read_types()
        except NameError as error:
            raise ConfigError(
                f"{_where(self.name, self.source)}: an annotation names '{error.name}', which is not defined in "
                f"{self.source.__module__}; import it outside `if TYPE_CHECKING`, or define it at module level"
            ) from error

    @property
    def parameters(self) -> dict[str, Json]:
        """JSON Schema of an object, one property for each argument, self-contained."""
        return self.types.parameters

    @property
    def returns(self) -> dict[str, Json] | None:
        """JSON Schema of the result, self-contained; `None`: anything, also where the declared type is not relied on (`results="learn"`)."""
        return None if self.result_rule == "learn" else self.types.returns

    @cached_property
    def result_rule(self) -> Results:
        """What becomes of a result that does not fit the declared type: it is refused, it stands with a warning, or the declared type is not relied on."""
        # A model's answer that does not fit is asked for again, so that it never stands.
        if self.request_of is not None:
            return "enforce"
        return self.results or self.default_results

    @cached_property
    def is_learnt(self) -> bool:
        """Whether planners are told what results looked like: the declared type is missing, tells little, or is somebody's description."""
        if self.request_of is not None:
            return False
        return self.result_rule != "enforce" or is_loose(self.types.returns)

    @cached_property
    def asked_models(self) -> Sequence[str]:
        """The names of the models that a call may ask: its own, if it is an agent, and those of its judges."""
        own: list[str] = []
        match self.fingerprint_extra:
            case {"model": str(name)} if self.request_of is not None:
                own = [name]
            case _:
                pass
        if not (own or self.asks_judge):
            return ()
        from .models.judges import judges_in  # noqa: PLC0415  # most tools ask no model

        guards = [*(each for each in self.influences if own), *self.guard]
        default = own[0] if own else DEFAULT_MODEL
        judges = [each.model or default for each in judges_in(cast("Sequence[Guard]", guards))]
        return tuple(dict.fromkeys([*own, *judges]))

    def with_learnt(self, learnt: LearntType) -> Tool[P, R]:
        """Return the tool with what its results looked like. Everything that was computed of it stays."""
        return self._changed(learnt=learnt)

    def _changed(self, *forgotten: str, **fields: object) -> Tool[P, R]:
        """Return a copy with other fields; what was computed of the tool stays, but for the attributes named here."""
        # A copy, and not `replace`: a class that extends this one is made in another way.
        made = copy(self)
        made.__dict__.update(fields)
        for computed in forgotten:
            made.__dict__.pop(computed, None)
        return made

    @property
    def differing_results(self) -> Results | None:
        """What becomes of a result that does not fit, where a tool of this kind does otherwise by default; `None`: as by default."""
        # `learn` and `warn` let the same results stand.
        is_strict = self.result_rule == "enforce"
        return None if is_strict is (self.default_results == "enforce") else self.result_rule

    @cached_property
    def is_async(self) -> bool:
        """Whether `invoke` returns an awaitable."""
        return is_async(self.fn)

    @cached_property
    def wants_context(self) -> bool:
        """Whether the function takes a `Context`."""
        return self.types.context is not None

    @cached_property
    def injected(self) -> Mapping[str, Resource[Any]]:
        """The resources that the function takes, by parameter."""
        return self.types.resources

    @cached_property
    def is_on_loop(self) -> bool:
        """Whether calls run on the event loop: the function is asynchronous, or declared to be quick."""
        return self.is_async or self.isolation == "inline"

    @cached_property
    def opens(self) -> tuple[Resource[Any], ...]:
        """The resources that calls may open, what is needed first: those of parameters, those that the code names for `ctx.resource`, and what they need."""
        named = mentioned_in(self.source, self._scope) if self.types.context is not None else ()
        return with_needs([*self.types.resources.values(), *named])

    def find_resource(self, wanted: object) -> Resource[Any]:
        """Return the resource that the tool means: one that is named, or the one that gives a type. Raises: ConfigError."""
        where = f"tool '{self.name}': ctx.resource"
        found = find_resource(wanted, self._scope, where)
        if found is None:
            known = listing([each.name for each in self._scope]) if self._scope else "none"
            raise ConfigError(
                f"{where}: no resource gives {wanted!r}; its module has {known}: import the one that is meant, or name it"
            )
        return found

    @property
    def _scope(self) -> tuple[Resource[Any], ...]:
        """The resources that a type may mean in the tool's code."""
        return tuple(
            dict.fromkeys(
                [
                    *in_scope(plain_function(self.source), {}),
                    *self.types.local,
                    *self.types.resources.values(),
                ]
            )
        )

    def with_replaced_resources(self, replaced: Mapping[Any, object]) -> Tool[P, R]:
        """Return the tool where others stand for some of its resources; itself if it opens none of them.

        Its results are not those of the resources that it declares, so its fingerprint is another, and where a mere value stands for one it has none.
        """
        found = [(each, replaced[key]) for each in self.opens if (key := key_of(each, replaced)) is not None]
        if not found:
            return self
        if self.isolation == "process":
            raise ConfigError(
                f"tool '{self.name}': isolation='process' opens the resource '{found[0][0].name}' in another process, where nothing can stand for it; "
                "use isolation='thread' in this test"
            )
        return self._changed(*_FINGERPRINTS, replaced_resources=tuple(found))

    @cached_property
    def needs_context(self) -> bool:
        """Whether a call needs a `Context`: for the function, for its resources, or for the bytes of frames and the like."""
        return self.wants_context or bool(self.types.resources or self.types.codecs)

    @property
    def needs_instance(self) -> bool:
        """Whether this is a method that was not reached through an instance."""
        return is_method(self.fn)

    def bind(self, args: Mapping[str, Json]) -> bytes:
        """Return the arguments, validated and normalised, as canonical JSON.

        Raises:
            ToolError: An argument is missing, unknown or does not fit (code `bad-args`); the message names it.
        """
        try:
            return self.types.bind(args)
        except Exception as error:  # noqa: BLE001  # validators are other people's code; the same below
            raise fault_of(self.name, error, "bad-args") from None

    def bind_canonical(self, args: bytes, value: Json = None) -> bytes:
        """Return arguments that are canonical JSON already, validated and normalised; `value` as for `invoke`. Raises: ToolError: as `bind`."""
        try:
            return self.types.bind_canonical(args, value)
        except Exception as error:  # noqa: BLE001
            raise fault_of(self.name, error, "bad-args") from None

    def invoke(self, args: bytes, ctx: Context | None, value: Json = None) -> object:
        """Call the function with bound arguments; return its result, for async functions an awaitable.

        Args:
            args: As `bind` returned them.
            ctx: For a tool that `needs_context`.
            value: The arguments as they are parsed, where they are large; `None`: they are parsed here.
        """
        if self.types.codecs:
            return self._invoke_with_codecs(args, ctx)
        # The function gets values of its own for each call, parsed anew: it may change them.
        given = self.types.unpack(args, value)
        if self.types.context is not None:
            given[self.types.context] = ctx
        if self.types.resources:
            given.update((ctx or Context()).take(self.types.resources))
        fn: Any = self.fn  # no cast, which is a call
        return fn(**given)

    def _invoke_with_codecs(self, args: bytes, ctx: Context | None) -> object:
        """Call the function with values made of the bytes of the call; return its result with descriptions in the place of such values."""
        types, bytes_of = cast("PythonTypes", self.types), ctx if ctx is not None else Context()

        def decode() -> dict[str, Any]:
            try:
                given = types.decode(args, bytes_of)
            except Exception as error:  # noqa: BLE001  # codecs are other people's code; the same below
                raise fault_of(self.name, error, "bad-args") from None
            return given if types.context is None else {**given, types.context: ctx}

        def encode(result: object) -> object:
            try:
                return types.encode(result, bytes_of)
            except Exception as error:  # noqa: BLE001
                if self.result_rule != "enforce":
                    return result  # `accept` says what does not fit
                fault = fault_of(self.name, error, "bad-result")
                raise ResultRefused(str(fault), code=fault.code) from None

        fn = cast("Callable[..., Any]", self.fn)

        async def call() -> object:
            # Large frames take their time, and the event loop has others to serve.
            given = await asyncio.to_thread(decode)
            result = await fn(**given)
            return await asyncio.to_thread(encode, result)

        async def follow(result: Awaitable[object]) -> object:
            return await asyncio.to_thread(encode, await result)

        if self.is_async:
            return call()
        result = fn(**decode())
        return follow(cast("Awaitable[object]", result)) if inspect.isawaitable(result) else encode(result)

    def seal(self, result: object, known: bytes | None = None) -> bytes:
        """Return a result, validated against its type, as canonical JSON.

        Args:
            result: The result.
            known: Its canonical bytes, if they are known; the same object is returned if it is valid.

        Raises:
            ToolError: It does not fit (code `bad-result`); the message names path, expected and found.
        """
        try:
            return self.types.seal(result, known)
        except Exception as error:  # noqa: BLE001
            raise fault_of(self.name, error, "bad-result") from None

    def accept(self, result: object, known: bytes | None = None) -> tuple[bytes, Sequence[str]]:
        """Return a result as canonical JSON, and a sentence for each place in it that does not fit its type where such a result stands (`result_rule`).

        Args:
            result: The result.
            known: As for `seal`.

        Raises:
            ToolError: It is refused (code `bad-result`): it does not fit a type that is enforced, or is not JSON.
        """
        if self.result_rule == "enforce":
            return self.seal(result, known), ()
        try:
            data, faults = self.types.accept(result, known)
        except Exception as error:  # noqa: BLE001
            raise fault_of(self.name, error, "bad-result") from None
        return data, () if self.result_rule == "learn" else faults

    def is_worth_retrying(self, error: BaseException) -> bool:
        """Whether `retry_on` covers a failure. The engine decides whether another call is safe, and counts `retries`."""
        match self.retry_on:
            case None:
                return is_interruption(error) or (isinstance(error, ToolError) and error.temporary)
            case tuple():
                return isinstance(error, self.retry_on)
            case chosen:
                return bool(chosen(error))

    @cached_property
    def fingerprint(self) -> str | None:
        """Digest of all code, types and versions that decide what a call does; `None`: see `unseen`."""
        return self._fingerprint.digest

    @property
    def fingerprint_parts(self) -> Mapping[str, str]:
        """The parts of the fingerprint, by name: the parts that differ between two fingerprints name what changed."""
        return self._fingerprint.parts

    @property
    def unseen(self) -> str | None:
        """Why there is no fingerprint, as a sentence; then results are not reused unless a `version` is declared."""
        return self._fingerprint.unseen

    @property
    def reach(self) -> Mapping[str, str]:
        """The networks, files and processes that the tool's code uses, as far as its fingerprint sees: name -> kind."""
        return self._fingerprint.reach

    @property
    def is_provided(self) -> bool:
        """Whether somebody else describes it, so that its words are data in prompts."""
        return self.provided is not None

    @property
    def unstated_reach(self) -> str | None:
        """Where results of unstated trust come from, in words; `None`: trust is stated, or they come from nowhere outside."""
        # A pure tool promises that its results follow from its arguments, and so do their labels; lint compares the promise with the code.
        # What a model answers has the labels of its prompt.
        is_settled = self.is_trust_declared or self.trust == "untrusted"
        if is_settled or self.effect in (Effect.PURE, Effect.MODEL) or self.returns == {"type": "null"}:
            return None
        where = {"network": "reaches the network", "files": "reads files", "processes": "starts processes"}
        return next((f"{where[kind]} ({name})" for name, kind in self.reach.items()), None)

    @cached_property
    def untrusted_unless_stated(self) -> Tool[P, R]:
        """The tool where unstated trust means untrusted; itself if its trust is stated, or if nothing from outside is in its results."""
        # What a model answers has the labels of its prompt. A pure tool's results have those of its arguments, if its code keeps the promise.
        is_closed = self.effect is Effect.PURE and self.unseen is None and not self.reach
        if self.is_trust_declared or self.trust == "untrusted" or self.effect is Effect.MODEL or is_closed:
            return self
        made = replace(self, trust="untrusted")
        # The code is the same, so that it is read once.
        made.__dict__["types"] = self.types
        made.__dict__["last_fingerprints"] = self.last_fingerprints
        return made

    def with_default_results(self, results: Results | None) -> Tool[P, R]:
        """Return the tool with this `results` if it states none; itself if that changes nothing."""
        if results is None or self.results is not None or self.request_of is not None:
            return self
        return self._changed("result_rule", "is_learnt", *_FINGERPRINTS, results=results)

    def with_called(self, tools: Mapping[str, Tool]) -> Tool[P, R]:
        """Return the agent with the tools of these names as those that its model may call; itself if that changes nothing. Raises: ConfigError: it may not call one."""
        called = tuple(tools.get(each if isinstance(each, str) else each.name, each) for each in self.called)
        if all(one is other for one, other in zip(called, self.called, strict=True)):
            return self
        from .agents.agent import check_called  # noqa: PLC0415  # agents are tools

        check_called(f"agent '{self.name}'", called)
        # What the model has read of strangers may be in its answer.
        reads_strangers = any(isinstance(each, Tool) and each.trust == "untrusted" for each in called)
        trust = "untrusted" if reads_strangers else self.trust
        return self._changed(*_FINGERPRINTS, called=called, trust=trust)

    @cached_property
    def last_fingerprints(self) -> dict[str, tuple[Fingerprint, Observations]]:
        """The last fingerprints by kind, each with what its walk looked at (`fingerprint_of`)."""
        # Kept by the tool and not in a table of all tools: observations lead back to the tool, and would keep it alive.
        return {}

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        from .fingerprint.fingerprint import fingerprint_of  # noqa: PLC0415  # reads source files: only when asked

        return fingerprint_of(self)

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, effect={str(self.effect)!r})"

    @classmethod
    def from_callable(
        cls,
        fn: Callable[..., Any],
        *,
        name: str,
        parameters: Mapping[str, Json],
        returns: Mapping[str, Json] | None = None,
        **options: Unpack[ToolSettings],
    ) -> Tool:
        """Make a tool of a function without usable annotations; it is called by keyword.

        Args:
            fn: Any callable that takes the schema's properties as keywords.
            name: The tool's name.
            parameters: JSON Schema of an object: one property for each argument.
            returns: JSON Schema of the result; `None`: anything.
            options: As for `@tool`.

        Raises:
            ConfigError: A schema is not one, or does not match the function; or as for `@tool`.
        """
        where = _where(name, fn)
        local = caller_locals()
        resources = find_resources(fn, where, local)
        types = SchemaTypes(where, parameters, returns, find_context(fn), resources, local_resources(local))
        check_by_keyword(fn, where, types.parameters, resources)
        # Annotations are checked together with the code. A schema beside a function is somebody's description of it, and may be wrong.
        return make_tool(fn, types=types, name=name, default_results="warn", **options)


@overload
def tool(fn: Callable[Q, S], /, **options: Unpack[ToolOptions]) -> Tool[Q, S]: ...
@overload
def tool(fn: None = None, /, **options: Unpack[ToolOptions]) -> Callable[[Callable[Q, S]], Tool[Q, S]]: ...
def tool(  # noqa: PLR0913  # the contract's keywords, one for each thing that can be said of a tool
    fn: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: str = UNDECLARED,
    idempotent: bool = False,
    reuse_for: str | float | timedelta | None = None,
    version: str | int | None = None,
    timeout: str | float | timedelta | None = None,
    retries: int = 0,
    retry_on: RetryOn = None,
    max_concurrency: int | None = None,
    rate: str | float | None = None,
    approval: Approval = None,
    trust: str = UNSTATED,
    resource: str = "world",
    allow_untrusted: Iterable[str] = (),
    isolation: str = "thread",
    reconcile: Callable[[str, dict[str, Json]], object] | None = None,
    fingerprint_extra: Json = None,
    harmless: Iterable[str] = (),
    approval_expires: str | float | timedelta | None = None,
    private: bool = False,
    readers: Iterable[str] = (),
    egress: Iterable[str] = (),
    guard: Sequence[Guard] = (),
    results: str | None = None,
    example: object = None,
    queue: str | None = None,
) -> Any:
    """Make a tool of a typed function: `@tool` or `@tool(effect="read", ..)`.

    Its types come from the annotations, its description from the docstring. A direct call works as before.

    Args:
        fn: The function.
        name: By default the function's.
        description: By default the docstring.
        effect: `pure`, `read`, `model` or `write`: what a call may do to the world.
        idempotent: A `write` that may be called again with the same `ctx.idempotency_key`.
        reuse_for: How long the result of a `read` may be reused: `"1h"`, seconds, or `"forever"`.
        version: Settles what the fingerprint cannot see; change it when that changes.
        timeout: Of one call: seconds, or `"30s"`.
        retries: Further calls after a failed one.
        retry_on: Exception classes, or a function from an exception to a bool; by default
            `ToolError(temporary=True)`, timeouts and connection errors.
        max_concurrency: Most calls at a time.
        rate: Most calls a second, or `"100/min"`.
        approval: `"always"`, `"untrusted"`, or a function from arguments to a bool: when a person is asked.
        approval_expires: How long that person is waited for: `"24h"`, or seconds; then the call is denied. Not given: as long as the engine says.
        trust: `"untrusted"` if outputs come from outside and may not steer writes; not given: `"trusted"`, unless `default_trust` says otherwise.
        resource: What the effect touches; `"world"` conflicts with every other.
        allow_untrusted: Parameters that may hold untrusted values.
        harmless: Parameters of a `write` of a narrow type (a boolean, a number in a range, a date, options) in which an untrusted value can do no
            harm, if it is the whole argument.
        private: The output may reach only its readers.
        readers: Who may have the output of a private tool: `"send_mail"`, `"send_mail.body"`, `"crm_*"`, `"model"`, a model, a domain, a person's
            address. Whoever names readers makes the tool private.
        egress: Parameters that name who gets what the call sends: a URL, a recipient.
        isolation: Where a synchronous call runs: `"thread"`, `"process"` or `"inline"`.
        reconcile: Called with idempotency key and arguments to learn what a `write` returned; `None`: it did not take place.
        fingerprint_extra: Any JSON that counts as part of the code: a prompt file's text, a model's name.
        guard: Conditions on a result, as data or code (`guards/guard.py`). A result that fails one fails the call with `guard-refused`.
        results: What becomes of a result that does not fit the declared type. `"enforce"`: the call fails. `"warn"`: the result stands, and the run
            has a warning. `"learn"`: the declared type is not relied on. Not given: what the toolset or the engine says, else `"enforce"` for
            annotated functions and `"warn"` for types that are given as schemas.
        example: A result such as the tool returns, for planners: of use where the type says little.
        queue: With a backend that hands out runs: the queue whose workers (`firmplan worker --queue NAME`) make the calls. Without one, the process that drives
            the run makes them. It says where a call runs, not what it does: results and keys are the same.

    Raises:
        ConfigError: The declaration is at fault: which part, expected, found, what to do.
    """
    # The keywords, as `ToolOptions` names them; nothing else is local yet.
    options = cast("ToolOptions", {key: value for key, value in locals().items() if key != "fn"})
    if fn is not None:
        return make_tool(fn, **options)

    def decorate(decorated: Callable[..., Any]) -> Tool:
        return make_tool(decorated, **options)

    return decorate


def make_tool(  # noqa: PLR0913  # the parts of a tool that are no keywords of `@tool`
    fn: Callable[..., Any],
    *,
    source: Callable[..., Any] | None = None,
    types: Types | None = None,
    request_of: Callable[[dict[str, Json]], Any] | None = None,
    influences: Iterable[object] = (),
    provided: ProvidedTool | None = None,
    default_results: Results = "enforce",
    agent_tools: AgentTools | None = None,
    called: tuple[Tool | str, ...] = (),
    **options: Unpack[ToolOptions],
) -> Tool:
    """Make a tool: what `@tool`, `@agent` and `Tool.from_callable` share.

    Args:
        fn: What is called.
        source: What is read for name, description, types and fingerprint; by default `fn`.
        types: The types, if they are not to come from annotations.
        request_of: See `Tool`.
        influences: See `Tool`.
        provided: See `Tool`.
        default_results: See `Tool`.
        agent_tools: See `Tool`.
        called: See `Tool`.
        options: The keywords of `@tool`.

    Raises:
        ConfigError: The declaration is at fault.
    """
    # Name, docstring, types and fingerprint come from `source`, which differs from `fn` where a wrapper is called, as
    # for agents.
    source = source or fn
    _check_function(fn)
    given = options.get("name")
    name = str(getattr(plain_function(source), "__name__", "")) if given is None else given
    where = _where(name, source)
    settings = read_declaration(where, name, inspect.getdoc(plain_function(source)) or "", options)
    names = (
        argument_names(source, where)
        if types is None
        else tuple(cast("dict[str, Json]", types.parameters["properties"]))
    )
    for key in ("allow_untrusted", "egress", "harmless"):
        _check_parameters(where, key, settings[key], names)
    check_guards(where, settings["guard"], names)
    made = Tool(
        **settings,
        fn=fn,
        source=source,
        read_types=_annotated_types(source, where, name) if types is None else lambda: types,
        request_of=request_of,
        # A guard that is added or changed changes the fingerprint, so that no earlier result gets past it.
        influences=(*influences, *settings["guard"]),
        provided=provided,
        default_results=default_results,
        agent_tools=agent_tools,
        called=called,
    )
    with suppress(NameError):  # a class defined further down: read again when the types are used
        made.__dict__["types"] = made.read_types()
        _check_narrow(where, made)
        check_resources(where, made)
    if (example := options.get("example")) is not None:
        made.__dict__["example"] = _example(where, made, example)
    return made


def _example(where: str, tool: Tool, given: object) -> Json:
    """Return an example of a result as JSON. Raises: ConfigError: the tool could not return it."""
    try:
        # A type that names a class defined further down is read later: then the example has to be JSON as it is.
        text = tool.accept(given)[0] if "types" in tool.__dict__ else canonical(given)
    except (ToolError, NotJson) as fault:
        raise ConfigError(
            f"{where}: example: expected a result that the tool may return, found {given!r}: {fault}"
        ) from fault
    return parse_canonical(text)


def _annotated_types(source: Callable[..., Any], where: str, name: str) -> Callable[[], Types]:
    local = caller_locals()
    return lambda: PythonTypes(where, name, read_annotations(source, where, local))


def _check_function(fn: object) -> None:
    if isinstance(fn, Tool):
        raise ConfigError(f"tool '{fn.name}': expected a function, found a tool already; use @tool once")
    if isinstance(fn, classmethod | staticmethod):
        raise ConfigError(
            f"expected a function, found {fn!r}; write @tool below @staticmethod, and use plain methods instead of class methods"
        )
    if not callable(fn) or isinstance(fn, type):
        raise ConfigError(
            f"@tool: expected a function, found {fn!r}; write a function that returns what is needed"
        )
    plain = plain_function(fn)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise ConfigError(
            f"{_where(plain.__name__, fn)}: expected one result, found a generator; return a list"
        )


def _check_parameters(where: str, key: str, given: Iterable[str], names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ConfigError(
                f"{where}: {key}: expected parameters of the tool ({listing(names)}), found '{name}'"
                + (f"; {hint}" if hint else "")
            )


def check_resources(where: str, tool: Tool) -> None:
    """Raise `ConfigError` if a tool cannot be given its resources."""
    resources = with_needs(tool.injected.values())
    for each in resources:
        if tool.isolation == "process" and each.is_async:
            raise ConfigError(
                f"{where}: isolation='process' expects resources that are plain generators or context managers, found the asynchronous "
                f"'{each.name}': the process has no event loop that stays; use isolation='thread', or an async tool"
            )


def _check_narrow(where: str, tool: Tool) -> None:
    """Raise `ConfigError` if a parameter that is marked harmless may have any value."""
    for name in tool.harmless:
        if not is_narrow(tool.parameters, name):
            raise ConfigError(
                f"{where}: harmless: expected a parameter of a narrow type (a boolean, a number with both bounds, a date or time, options), "
                f"found '{name}'; give its type bounds, or use allow_untrusted if every value is harmless"
            )


def _where(name: str, fn: Callable[..., Any]) -> str:
    """Return the name of a tool for messages, with file and line."""
    code = getattr(inspect.unwrap(plain_function(fn)), "__code__", None)
    return f"tool '{name}'" if code is None else f"tool '{name}' ({code.co_filename}:{code.co_firstlineno})"
