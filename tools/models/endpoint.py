"""One model at one OpenAI-compatible endpoint, and its settings.

A `Model` may leave things open; `resolve` fills them from the environment when it is used, never at import:
`FIRMPLAN_MODEL`, `FIRMPLAN_BASE_URL`, `OPENAI_API_KEY`. An endpoint on this machine needs no key. Keys are in no `repr`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields, replace
from enum import Enum
from ipaddress import ip_address
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

from ...errors import ConfigError
from ...plans.durations import parse_count, parse_duration, parse_rate
from ...plans.immutable import frozen, immutable
from ...plans.reports.nearest import did_you_mean, listing
from ..declaration import parsed
from ..secret import Secret

OPENAI_URL = "https://api.openai.com/v1"
MODES = ("TOOLS", "JSON_SCHEMA", "JSON", "MD_JSON")
"""How structure may be asked for: a tool call, `response_format` with a schema, any JSON, JSON in a markdown fence."""

AUTO = "AUTO"
"""No mode is set: the first of `MODES` that works (`Modes` in `clients.py`)."""

SCHEMA_FIRST = "SCHEMA_FIRST"
"""No mode is set, and the answer is to be held to its schema while it is decoded: as `AUTO`, from `JSON_SCHEMA` on, and a tool call after it."""

_NO_KEY = "no-key-needed"
KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the key of a model that names no other source."""

KeySource: TypeAlias = "str | Secret | Mapping[str, str] | None"
"""A key, or where it is: `{"env": "VARIABLE"}`, `{"file": ..}`, `{"keyring": "SERVICE/USER"}`, or the same as a `Secret`."""

ModelSpec: TypeAlias = "str | Model | Mapping[str, Any] | Sequence[str | Model | Mapping[str, Any]]"
"""Models as people write them: a name, a `Model`, its fields, or a list of these (fallbacks, in order)."""


@immutable
class Endpoint:
    """One model at one endpoint, with nothing left open."""

    name: str
    base_url: str
    api_key: str = field(repr=False)
    mode: str = AUTO
    max_concurrency: int | None = None
    rate_per_s: float | None = None
    timeout_s: float | None = None
    retries: int | None = None
    key_source: str = KEY_VARIABLE
    tool_calls: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Which model it is, whatever its settings are: limits, and what is learnt of an endpoint, go by it."""
        return self.base_url, self.name

    @property
    def max_tokens_key(self) -> str:
        """The name of the limit on an answer's length: OpenAI's newer models take only the new name, other endpoints only the old one."""
        return (
            "max_completion_tokens" if self.base_url.startswith("https://api.openai.com/") else "max_tokens"
        )

    def quote(self, text: object, characters_max: int = 500) -> str:
        """Return a foreign text on one line, cut short and with the key masked."""
        said = " ".join(str(text).split()).replace(self.api_key, "***")
        return said if len(said) <= characters_max else said[:characters_max] + ".."


@frozen
class Model:
    """One model at one endpoint; settings that are `None` come from the environment when the model is used.

    Attributes:
        name: The model's name at the endpoint; `None`: `FIRMPLAN_MODEL`.
        base_url: The endpoint, with its `/v1`; `None`: `FIRMPLAN_BASE_URL`, else OpenAI's.
        api_key: The key, or where it is: `{"env": "VARIABLE"}`, `{"file": ..}`, `{"keyring": "SERVICE/USER"}` or a `Secret`, read when the model is used;
            `None`: `OPENAI_API_KEY`.
        mode: One of `MODES`, in any case, or an instructor `Mode`; `None`: the first that works.
        max_concurrency: Most requests at a time; `None`: no limit.
        rate: Most requests a second, or `"100/min"`; `None`: no limit.
        timeout: The longest that one request may take, in seconds or such as `"2m"`, unless the step has its own limit; `None`: 60 s.
        retries: How often a request is sent again where the transport fails for the moment; `None`: twice.
        tool_calls: Whether an `agent` step offers its tools in the endpoint's own form, and takes its tool calls; `None`: at OpenAI's own endpoint.
            `firmplan doctor --probe` finds it out. An endpoint that refuses is asked for structured output, as without it.
        fallback: Who is asked if this model cannot answer: a name at the same endpoint, a `Model`, its fields as a mapping, or a list of these.

    Raises:
        ConfigError: A setting is not one.
    """

    name: str | None = None
    base_url: str | None = None
    api_key: KeySource = field(default=None, repr=False)
    mode: str | Enum | None = None
    max_concurrency: int | None = None
    rate: str | float | None = None
    timeout: str | float | None = None
    fallback: ModelSpec | None = None
    retries: int | None = None
    tool_calls: bool | None = None

    def __post_init__(self) -> None:
        for setting, text in (("model", self.name), ("base_url", self.base_url)):
            if text is not None and not isinstance(cast("object", text), str):
                what = "a model's name" if setting == "model" else "an address"
                raise ConfigError(f"{setting}: expected {what} as text, or None, found {text!r}")
        _mode(self.mode)
        _rate(self.rate)
        _timeout(self.timeout)
        if self.fallback is not None:
            read_models("fallback", self.fallback)
        _expect_key(self.api_key)
        if self.tool_calls is not None and not isinstance(cast("object", self.tool_calls), bool):
            raise ConfigError(f"tool_calls: expected true or false, found {self.tool_calls!r}")
        for name, count, least in (
            ("max_concurrency", self.max_concurrency, 1),
            ("retries", self.retries, 0),
        ):
            _ = None if count is None else parsed(name, parse_count, count, least)

    @property
    def timeout_s(self) -> float | None:
        """`timeout` in seconds."""
        return _timeout(self.timeout)

    def resolve(self, environment: Mapping[str, str] | None = None, *, needs_key: bool = True) -> Endpoint:
        """Return the endpoint, the open settings filled from the environment.

        Args:
            environment: `None`: that of the process.
            needs_key: Whether it is to be asked; otherwise it may lack a key.

        Raises:
            ConfigError: No model is named, or no key is set for an endpoint on another machine.
        """
        env = os.environ if environment is None else environment
        name = self.name or env.get("FIRMPLAN_MODEL")
        base_url = (self.base_url or env.get("FIRMPLAN_BASE_URL") or OPENAI_URL).rstrip("/")
        if not name:
            raise ConfigError(
                "no model is configured: set FIRMPLAN_MODEL to a model's name, and OPENAI_API_KEY to a key or "
                "FIRMPLAN_BASE_URL to the address of an OpenAI-compatible server (such as http://127.0.0.1:8080/v1)"
            )
        if urlsplit(base_url).scheme not in ("http", "https"):
            raise ConfigError(f"the model's address must start with http:// or https://, found '{base_url}'")
        try:
            api_key = _read_key(self.api_key, env) if needs_key else _NO_KEY
        except LookupError as missing:
            raise ConfigError(f"no key is set for the model '{name}' at {base_url}: {missing}") from missing
        api_key = api_key or (_NO_KEY if is_loopback(base_url) else "")
        if not api_key:
            raise ConfigError(
                f"no key is set for the model '{name}' at {base_url}: set OPENAI_API_KEY "
                "(to any text, if the endpoint asks for none), or FIRMPLAN_BASE_URL to a server on this machine"
            )
        return Endpoint(
            name,
            base_url,
            api_key,
            _mode(self.mode),
            self.max_concurrency,
            _rate(self.rate),
            self.timeout_s,
            self.retries,
            _key_name(self.api_key),
            base_url == OPENAI_URL if self.tool_calls is None else self.tool_calls,
        )

    def resolve_all(
        self, environment: Mapping[str, str] | None = None, *, needs_key: bool = True
    ) -> tuple[Endpoint, ...]:
        """Return the endpoint and those of its fallbacks, in the order in which they are asked. Raises: ConfigError: as `resolve`."""
        found = [self.resolve(environment, needs_key=needs_key)]
        for each in () if self.fallback is None else read_models("fallback", self.fallback):
            # A name alone is another model at the same endpoint, under the same key.
            is_name = each == Model(each.name)
            here = replace(self, name=each.name, fallback=None) if is_name else each
            found += here.resolve_all(environment, needs_key=needs_key)
        return tuple(found)


def key_variables(models: Iterable[Model]) -> frozenset[str]:
    """Return the environment variables that hold keys of models and their fallbacks, beside `OPENAI_API_KEY`: no plan may use them as secrets."""
    found: set[str] = set()
    for model in models:
        match model.api_key:
            case {"env": str(name)} | Secret(env=str(name)):
                found.add(name)
            case _:
                pass
        if model.fallback is not None:
            found |= key_variables(read_models("fallback", model.fallback))
    return frozenset(found)


def _expect_key(given: object) -> None:
    """Raise `ConfigError` unless this is a key, or a source of one; the message shows no value."""
    match given:
        case None | str() | Secret():
            return
        # Not a `Secret` here: that class refuses variables with keys of models, which no plan may use.
        case {"env": str(name)} if name and len(cast("Mapping[str, object]", given)) == 1:
            return
        case Mapping() if "env" not in given:
            try:
                Secret(**cast("Mapping[str, Any]", given))
            except ConfigError as error:
                raise ConfigError(f"api_key: {error}") from None
            except TypeError:  # another key: it is not shown, since it may be the secret itself
                raise _no_key_source("an object with other keys or values") from None
        case Mapping():
            raise _no_key_source("an object with other keys or values")
        case _:
            raise _no_key_source(type(given).__name__)


def _no_key_source(found: str) -> ConfigError:
    sources = '{"env": "VARIABLE"}, {"file": "PATH"} or {"keyring": "SERVICE/USER"}'
    return ConfigError(f"api_key: expected a key, or where it is ({sources}), found {found}")


def _read_key(given: KeySource, env: Mapping[str, str]) -> str | None:
    """Return a key as it is now; `None`: none is set, and none is named. Raises: LookupError: the source that is named has none."""
    match given:
        case None:
            return env.get(KEY_VARIABLE)
        case str():
            return given or env.get(KEY_VARIABLE)
        case {"env": str(name)} | Secret(env=str(name)):
            if key := env.get(name):
                return key
            raise LookupError(f"the environment variable {name}, which its api_key names, is not set")
        case Secret():
            return given.read()
        case _:
            return Secret(**cast("Mapping[str, Any]", given)).read()


def _key_name(given: KeySource) -> str:
    """Return what a message calls the source of a key."""
    match given:
        case {"env": str(name)} | Secret(env=str(name)):
            return name
        case None | str():
            return KEY_VARIABLE
        case _:
            return "its api_key"


def read_models(where: str, spec: object) -> tuple[Model, ...]:
    """Return the models of a spec, in order: a name, a `Model`, its fields as a mapping, or a list of these. Raises: ConfigError."""
    if isinstance(spec, Model):
        return (spec,)
    if isinstance(spec, str) and spec:
        return (Model(spec),)
    # A list is flattened, so that a fallback may itself be an entry with settings.
    if isinstance(spec, Mapping):
        return (_from_fields(where, cast("Mapping[str, Any]", spec)),)
    if isinstance(spec, list | tuple) and spec:
        return tuple(model for part in cast("Sequence[object]", spec) for model in read_models(where, part))
    raise ConfigError(f"{where}: expected a model's name, a Model, or a list of them, found {spec!r}")


def _from_fields(where: str, given: Mapping[str, Any]) -> Model:
    known = [each.name for each in fields(Model)]
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ConfigError(f"{where}: expected {listing(known)}, found '{unknown[0]}'")
    return Model(**given)


def _timeout(timeout: str | float | None) -> float | None:
    """Return seconds. Raises: ConfigError."""
    if timeout is None:
        return None
    if not (seconds := parsed("timeout", parse_duration, timeout)):
        raise ConfigError(f"timeout: expected a duration above 0, found {timeout!r}")
    return seconds


def is_loopback(base_url: str) -> bool:
    """Whether an endpoint is on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _rate(rate: str | float | None) -> float | None:
    """Return requests a second. Raises: ConfigError."""
    return None if rate is None else parsed("rate", parse_rate, rate)


def _mode(mode: str | Enum | None) -> str:
    """Return the name of a mode. Raises: ConfigError."""
    if mode is None:
        return AUTO
    name = (mode.name if isinstance(mode, Enum) else str(mode)).upper()
    if name not in MODES:
        spelled = [each.lower() for each in MODES]  # as the docs have them
        hint = did_you_mean(name.lower(), spelled)
        raise ConfigError(
            f"mode: expected one of {listing(spelled)}, found '{mode}'" + (f"; {hint}" if hint else "")
        )
    return name


def schema_first(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that is asked with `response_format` and a schema first, unless a mode is set."""
    return replace(endpoint, mode=SCHEMA_FIRST) if endpoint.mode == AUTO else endpoint
