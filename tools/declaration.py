"""The declaration of a tool beside its types: effect, retries, limits, safety. All of it is checked here, once.

Rules: an undeclared effect is `write`; `reuse_for` belongs to reads and `reconcile` to writes; every mistake is a
`ConfigError` that names the tool, the expected value, the value found and a remedy. The module knows no function and no
schema; `allow_untrusted` is checked against the parameters by `tool.py`.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, cast, get_args

from ..errors import ConfigError
from ..lazy_imports import late_pattern
from ..plans.checker.flow.secrecy import MODEL
from ..plans.durations import parse_count, parse_duration, parse_rate
from ..plans.reports.nearest import nearest
from ..plans.signature import Effect
from ..plans.values import Json, NotJson, canonical
from .failures import writable
from .guards.guard import Guard, asks_model, check_guards

Approval: TypeAlias = Literal["always", "untrusted"] | Callable[[dict[str, Json]], bool] | None
RetryOn: TypeAlias = (
    type[BaseException] | Iterable[type[BaseException]] | Callable[[BaseException], bool] | None
)
Trust = Literal["trusted", "untrusted"]
Isolation = Literal["thread", "process", "inline"]
Results = Literal["enforce", "warn", "learn"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
QUEUE = late_pattern(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
RETRIES_MAX = 1000  # more is a loop that was meant to be a `repeat` or a schedule

P = ParamSpec("P")
T = TypeVar("T")


class Undeclared(str):
    """The default of a keyword that was not given: an equal text, and check and lint can tell the difference."""

    __slots__ = ()


UNDECLARED = Undeclared(Effect.WRITE)
UNSTATED = Undeclared("trusted")


class ToolSettings(TypedDict, total=False):
    """The keywords of `@tool` beside the name, as they are written."""

    description: str | None
    effect: str
    idempotent: bool
    reuse_for: str | float | timedelta | None
    version: str | int | None
    timeout: str | float | timedelta | None
    retries: int
    retry_on: RetryOn
    max_concurrency: int | None
    rate: str | float | None
    approval: Approval
    approval_expires: str | float | timedelta | None
    trust: str
    resource: str
    allow_untrusted: Iterable[str]
    harmless: Iterable[str]
    private: bool
    readers: Iterable[str]
    egress: Iterable[str]
    isolation: str
    reconcile: Callable[[str, dict[str, Json]], object] | None
    fingerprint_extra: Json
    guard: Sequence[Guard]
    results: str | None
    example: object
    queue: str | None


class ToolOptions(ToolSettings, total=False):
    """The keywords of `@tool`, as they are written."""

    name: str | None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Declaration:
    """The checked declaration of one tool.

    Attributes:
        name: Matches `NAME`.
        description: The purpose of the tool, for people and planners.
        effect: The kind of change that a call may make in the world.
        is_effect_declared: Whether the author declared the effect.
        idempotent: Whether a `write` may be called again with the same `ctx.idempotency_key`.
        reuse_for_s: How long a `read` may be reused; `None`: never, `inf`: for ever.
        version: Stands for everything that the fingerprint cannot see.
        timeout_s: Of one call; `None`: no limit.
        retries: Further calls after a failed one.
        retry_on: Which failures are worth another call; `None`: temporary ones, timeouts, connection errors.
        max_concurrency: Most calls at a time, over all runs of an engine.
        rate: Most calls a second, over all runs of an engine.
        approval: When a person is asked.
        approval_expires_s: How long that person is waited for, in seconds; then the call is denied. `None`: as long as the engine says.
        trust: Whether the output may steer writes.
        is_trust_declared: Whether the author declared the trust.
        resource: The thing that the effect touches; `"world"` conflicts with every other.
        allow_untrusted: Parameters that may hold untrusted values.
        harmless: Parameters of a `write` whose type is so narrow that an untrusted value can do no harm there, if it is the whole argument.
        private: Whether the output may reach only its readers.
        readers: Who may have the output of a private tool.
        egress: Parameters that name who gets what the call sends.
        isolation: Where a synchronous call runs.
        reconcile: Asked with key and arguments whether a `write` of unknown outcome took place.
        fingerprint_extra: Any JSON that counts as part of the code.
        guard: Conditions on a result (`guards/guard.py`); a result that fails one fails the call.
        results: What becomes of a result that does not fit the declared type, as the author of the tool, or of its toolset, declared it; `None`: see `Tool.result_rule`.
        example: A result such as the tool returns, for planners; `None`: none is given.
        queue: The queue whose workers carry the calls out, where the engine has a backend that has such workers; `None`: the process that drives the run does.
    """

    name: str
    description: str = ""
    effect: Effect = Effect.WRITE
    is_effect_declared: bool = True
    idempotent: bool = False
    reuse_for_s: float | None = None
    version: str | None = None
    timeout_s: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] | Callable[[BaseException], bool] | None = None
    max_concurrency: int | None = None
    rate: float | None = None
    approval: Approval = None
    approval_expires_s: float | None = None
    trust: Trust = "trusted"
    is_trust_declared: bool = True
    resource: str = "world"
    allow_untrusted: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    private: bool = False
    readers: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    isolation: Isolation = "thread"
    reconcile: Callable[[str, dict[str, Json]], object] | None = None
    fingerprint_extra: Json = None
    guard: tuple[Guard, ...] = ()
    results: Results | None = None
    example: Json = None
    queue: str | None = None

    @property
    def asks_approval(self) -> bool:
        """Whether the tool carries an approval of any kind."""
        return self.approval is not None

    @property
    def asks_judge(self) -> bool:
        """Whether a model judges the results."""
        return any(map(asks_model, self.guard))

    @property
    def can_reconcile(self) -> bool:
        """Whether the outcome of an interrupted call can be asked for."""
        return self.reconcile is not None


def read_declaration(where: str, name: str, description: str, options: ToolOptions) -> dict[str, Any]:
    """Return the fields of a `Declaration` from the keywords of `@tool`.

    Args:
        where: How messages name the tool.
        name: The tool's name, if `options` has none.
        description: The tool's description, if `options` has none.
        options: The keywords.

    Raises:
        ConfigError: A keyword that is unknown, or whose value is not one of those it takes.
    """
    # Checked by hand, and not by the signature: options also come from `from_mcp(overrides=..)` and from
    # `**settings`.
    unknown = sorted(set(options) - set(ToolOptions.__annotations__))
    if unknown:
        raise ConfigError(
            f"{where}: unknown setting '{unknown[0]}'{_nearest(unknown[0], ToolOptions.__annotations__)}"
        )
    given = _Given(where, options)
    # The effect is read first: other keywords belong to one effect only.
    effect = Effect(given.one_of("effect", [str(known) for known in Effect], UNDECLARED))
    readers = _names(
        given, "readers", 'names of tools, models, domains or people, such as ("send_mail.body",)'
    )
    fields: dict[str, Any] = {
        "name": _name(where, name if options.get("name") is None else options.get("name")),
        "description": description if options.get("description") is None else given.text("description"),
        "effect": effect,
        "is_effect_declared": not isinstance(options.get("effect", UNDECLARED), Undeclared),
        "idempotent": given.flag("idempotent"),
        "reuse_for_s": _reuse_for(given, effect),
        "version": _version(given),
        "timeout_s": given.above_zero("timeout", parse_duration),
        "retries": given.count("retries", 0, RETRIES_MAX) or 0,
        "retry_on": _retry_on(given),
        "max_concurrency": given.count("max_concurrency", 1, None),
        "rate": given.above_zero("rate", parse_rate),
        "approval": _approval(given),
        "approval_expires_s": given.above_zero("approval_expires", parse_duration),
        "trust": given.one_of("trust", get_args(Trust), UNSTATED),
        "is_trust_declared": not isinstance(options.get("trust", UNSTATED), Undeclared),
        "resource": given.text("resource", "world"),
        "allow_untrusted": _names(given, "allow_untrusted", 'parameter names, such as ("body",)'),
        # Whoever names readers means that nobody else may have the result.
        "private": given.flag("private") or bool(readers),
        "readers": readers,
        "egress": _names(given, "egress", 'parameter names, such as ("url",)'),
        "harmless": _names(given, "harmless", 'parameter names, such as ("urgent",)'),
        "isolation": given.one_of("isolation", get_args(Isolation), "thread"),
        "reconcile": _reconcile(given, effect),
        "fingerprint_extra": options.get("fingerprint_extra"),
        "guard": _guard(given, effect, readers),
        "results": results_of(f"{where}: ", options.get("results")),
        "queue": _queue(given),
    }
    try:
        canonical(fields["fingerprint_extra"])
    except NotJson as error:
        raise given.fault(
            "fingerprint_extra", "JSON", f"{error}; turn it into text or a list first"
        ) from error
    return fields


def results_of(where: str, given: object) -> Results | None:
    """Return what becomes of a result that does not fit its type; `None`: not said. Raises: ConfigError: it is none of the three words."""
    if given is None or given in get_args(Results):
        return cast("Results | None", given)
    raise word_fault(f"{where}results", given, get_args(Results))


def word_fault(where: str, given: object, known: Sequence[str]) -> ConfigError:
    """Return the error for a setting that is none of some words; it has the nearest of them."""
    listed = ", ".join(f'"{each}"' for each in known)
    return ConfigError(f"{where}: expected one of {listed}, found {given!r}{_nearest(given, known)}")


def parsed(where: str, parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a parser makes of a setting. Raises: ConfigError: the parser refuses it; the message has its words."""
    try:
        return parse(*args, **kwargs)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


class _Given:
    """The keywords of one tool. Each method reads one of them, or raises a `ConfigError` that names it."""

    def __init__(self, where: str, options: ToolOptions) -> None:
        self.where = where
        self.options = cast("Mapping[str, object]", options)

    def get(self, key: str) -> object:
        return self.options.get(key)

    def fault(self, key: str, expected: str, found: str) -> ConfigError:
        return ConfigError(f"{self.where}: {key}: expected {expected}, found {found}")

    def one_of(self, key: str, known: Sequence[str], default: str) -> str:
        value = self.options.get(key, default)
        if isinstance(value, str) and value in known:
            return str(value)
        raise word_fault(f"{self.where}: {key}", value, known)

    def flag(self, key: str) -> bool:
        value = self.options.get(key, False)
        if isinstance(value, bool):
            return value
        raise self.fault(key, "True or False", repr(value))

    def text(self, key: str, default: str = "") -> str:
        value = self.options.get(key, default)
        if isinstance(value, str) and (value.strip() or not default) and writable(value) is value:
            return value
        raise self.fault(key, "a text that is not empty" if default else "a text", repr(value))

    def count(self, key: str, low: int, high: int | None) -> int | None:
        value = self.options.get(key)
        return None if value is None else parsed(f"{self.where}: {key}", parse_count, value, low, high)

    def above_zero(self, key: str, parse: Callable[[object], float]) -> float | None:
        value = self.options.get(key)
        if value is None:
            return None
        if (amount := parsed(f"{self.where}: {key}", parse, value)) <= 0:
            raise self.fault(key, "more than zero", f"{value!r}; leave it out for no limit")
        return amount


def _name(where: str, name: object) -> str:
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise ConfigError(
        f"{where}: name: expected a letter or `_`, then up to 127 letters, digits, `_`, `.` or `-`, found {name!r}; "
        'give one with name="..."'
    )


def _queue(given: _Given) -> str | None:
    value = given.get("queue")
    if value is None:
        return None
    if not isinstance(value, str) or not QUEUE.fullmatch(value):
        raise given.fault(
            "queue",
            'the name of a queue, such as "gpu": a letter, a digit or `_`, then up to 127 letters, digits, `_`, `.` or `-`',
            repr(value),
        )
    if given.get("isolation") == "inline":
        raise given.fault(
            "queue",
            'isolation="thread" or "process" beside it',
            'isolation="inline", which is for calls that are too short for a thread: leave one of the two out',
        )
    return value


def _reuse_for(given: _Given, effect: Effect) -> float | None:
    value = given.get("reuse_for")
    if value is None:
        return None
    if effect is not Effect.READ:
        always = (
            "are always reused by content" if effect in (Effect.PURE, Effect.MODEL) else "are never reused"
        )
        raise given.fault(
            "reuse_for",
            'a tool with effect="read"',
            f'effect="{effect}", whose results {always}; leave reuse_for out, or declare the effect "read"',
        )
    # Infinity as a number is refused, so that it stands in no file by accident.
    if value == "forever":
        return math.inf
    try:
        return parse_duration(value) or None
    except ValueError as error:
        raise ConfigError(f'{given.where}: reuse_for: {error}, or "forever"') from error


def _retry_on(given: _Given) -> tuple[type[BaseException], ...] | Callable[[BaseException], bool] | None:
    value = given.get("retry_on")
    if value is None:
        return None
    if isinstance(value, type) and issubclass(value, BaseException):
        return (value,)
    if isinstance(value, Iterable) and not isinstance(value, str):
        kinds = tuple(cast("Iterable[object]", value))
        if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            return cast("tuple[type[BaseException], ...]", kinds)
    # A class is callable too, and a class that is no exception is a mistake.
    elif callable(chosen := given.get("retry_on")) and not isinstance(chosen, type):
        return cast("Callable[[BaseException], bool]", chosen)
    found = f"{given.get('retry_on')!r}"
    raise given.fault("retry_on", "exception classes, or a function from an exception to a bool", found)


def _version(given: _Given) -> str | None:
    value = given.get("version")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise given.fault("version", 'text or a number, such as "2"', repr(value))
    return writable(str(value))


def _approval(given: _Given) -> Approval:
    value = given.get("approval")
    if inspect.iscoroutinefunction(value):
        raise given.fault(
            "approval", "a function that returns a bool", f"the asynchronous {value!r}; make it a plain one"
        )
    if value is None or value in ("always", "untrusted") or (callable(value) and not isinstance(value, type)):
        return cast("Approval", value)
    raise given.fault(
        "approval",
        '"always", "untrusted" or a function from arguments to a bool',
        f"{value!r}; leave it out if nobody is to be asked",
    )


def _names(given: _Given, key: str, expected: str) -> tuple[str, ...]:
    value = given.options.get(key, ())
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Iterable):
        names = tuple(cast("Iterable[object]", value))
        if all(isinstance(name, str) for name in names):
            return tuple(sorted({str(name) for name in names}))
    raise given.fault(key, expected, f"{given.get(key)!r}")


def _reconcile(given: _Given, effect: Effect) -> Callable[[str, dict[str, Json]], object] | None:
    value = given.get("reconcile")
    if value is None:
        return None
    if not callable(value):
        raise given.fault("reconcile", "a function of (key, args)", repr(value))
    if effect is not Effect.WRITE:
        raise given.fault(
            "reconcile",
            'a tool with effect="write"',
            f'effect="{effect}", which changes nothing that could be in doubt; leave reconcile out',
        )
    return cast("Callable[[str, dict[str, Json]], object]", value)


def _guard(given: _Given, effect: Effect, readers: Sequence[str]) -> tuple[Guard, ...]:
    value = given.options.get("guard", ())
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise given.fault("guard", "a list of guards", f"{value!r}; put it in brackets")
    guards = tuple(cast("Sequence[Guard]", value))
    check_guards(given.where, guards)
    # While a judge is asked, a crash would leave the outcome of a write unknown that has long returned.
    if effect is Effect.WRITE and any(map(asks_model, guards)):
        raise given.fault(
            "guard",
            "a guard that asks no model, since the tool is a write",
            "a judge; judge what the write is given, in a step before it",
        )
    if (given.flag("private") or readers) and MODEL not in readers and any(map(asks_model, guards)):
        raise given.fault(
            "guard",
            f"a guard that asks no model, since the result is private and '{MODEL}' is none of its readers",
            "a judge; use another guard, or name the reader",
        )
    return guards


def _nearest(word: object, known: Iterable[str]) -> str:
    found = nearest(str(word), known)
    return f"; did you mean '{found}'?" if found else ""
