"""Settings of one command: a flag wins over the environment, that over `firmplan.toml`, that over the default.

`firmplan.toml` is looked for in the current folder and then upwards; relative paths in it are relative to it. The
environment and the folder arrive as data. Every setting remembers where it came from, so that a wrong one can be
found by its message, and `firmplan doctor` can show it.

This module opens no store and imports no tools; it knows only the names and types of settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)

from ..errors import ConfigError
from ..executor.stores.location import shown
from ..plans.durations import parse_duration
from ..tools.provider import is_address

FILE_NAME = "firmplan.toml"
STORE_DEFAULT = "firmplan.db"
COMMAND_LINE = "the command line"
CONCURRENCY_DEFAULT = 64
SLOTS_DEFAULT = 32
PARK_AFTER_DEFAULT = 3
LEASE_DEFAULT = 30.0
WRITE_GRACE_DEFAULT = 30.0
DRAIN_DEFAULT = 1.0

Flow = Literal["strict", "enforce", "warn", "off"]
Trust = Literal["trusted", "untrusted"]
Results = Literal["enforce", "warn", "learn"]
RateLimits = Literal["shared", "process"]
Traces = Literal["auto", "contents", "off"]
Text = Annotated[str, Field(min_length=1)]


def _duration(text: str | None) -> str | None:
    """Return a duration as it is written. Raises: ValueError: it is none, or zero."""
    if text is not None and parse_duration(text) <= 0:
        raise ValueError(f"expected a duration above zero, found {text!r}")
    return text


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


class _Table(BaseModel):
    """A table of the file, or all settings of one source."""

    # Built at the first use: most commands read few of the tables, and are to start quickly.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class PlannerTable(_Table):
    """Settings of the planner; `None`: not given. `choose_over` is `false` where a model never chooses among the tools."""

    small_model: Text | None = None
    adapt: bool | None = None
    choose_over: Annotated[int, Field(ge=0)] | Literal[False] | None = None
    max_repairs: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    profile: Literal["full", "small"] | None = None

    def options(self) -> dict[str, Any]:
        """Return the settings that are given, as arguments of a `Planner`."""
        given: dict[str, Any] = {name: value for name, value in self if value is not None}
        return {**given, "choose_over": None} if self.choose_over is False else given


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)]
Count = Annotated[int, Field(ge=0)]


class BudgetTable(_Table):
    """Limits of a run; `None`: not given, `false`: no limit."""

    steps: Count | Literal[False] | None = None
    calls: Count | Literal[False] | None = None
    items: Count | Literal[False] | None = None
    model_calls: Count | Literal[False] | None = None
    tokens: Count | Literal[False] | None = None
    usd: Amount | Literal[False] | None = None
    seconds: Amount | Literal[False] | None = None

    def amounts(self, default: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return the limits; those of `default` hold for names that are not given."""
        given = {name: value for name, value in self if value is not None}
        return {name: value for name, value in {**(default or {}), **given}.items() if value is not False}


class ServerBudgetTable(_Table):
    """What a server's runs may spend on models together; `None`: not given."""

    usd: Amount | None = None
    tokens: Count | None = None
    per: Literal["day", "total"] = "day"


SERVER_BUDGET_MAX: Final[Mapping[str, float]] = {
    "steps": 100_000,
    "calls": 200_000,
    "items": 100_000,
    "model_calls": 10_000,
    "seconds": 86_400.0,
}
"""Ceilings of a run on a server whose settings name none: far above honest runs, so that a runaway or hostile plan ends by itself."""


class SecretTable(_Table):
    """One secret of the file: where its value is, and the tools and arguments that may have it."""

    env: Text | None = None
    file: Text | None = None
    keyring: Text | None = None
    tools: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()

    def beside(self, folder: Path) -> SecretTable:
        """Return the table with its file, which is relative to a folder, as a path from there."""
        return self.model_copy(update={"file": str(folder / self.file)}) if self.file else self


class WebhookTable(_Table):
    """One endpoint of the file that is told of runs: the arguments of `Webhook`, which checks them."""

    url: Annotated[Text, Field(repr=False)]
    secret: SecretTable
    previous_secret: SecretTable | None = None
    events: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    tenant: str = ""
    outputs: bool = False
    allow_http: bool = False

    def beside(self, folder: Path) -> WebhookTable:
        """Return the table with its files, which are relative to a folder, as paths from there."""
        old = self.previous_secret
        moved = {
            "secret": self.secret.beside(folder),
            "previous_secret": None if old is None else old.beside(folder),
        }
        return self.model_copy(update=moved)


class OpenApiTable(_Table):
    """One OpenAPI document of the file: the arguments of `Toolset.from_openapi`, which checks those that stand beside these."""

    model_config = ConfigDict(extra="allow")

    document: Text
    base_url: Text | None = None
    auth: Any = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments beside the document."""
        return {name: value for name, value in self if name != "document" and value is not None}

    def beside(self, folder: Path) -> OpenApiTable:
        """Return the table with its paths, which are relative to a folder, as paths from there."""
        document = self.document if is_address(self.document) else str(folder / self.document)
        return self.model_copy(update={"document": document, "auth": _files_beside(self.auth, folder)})


def _files_beside(auth: object, folder: Path) -> object:
    """Return credentials in which files of secrets are paths from a folder."""
    match auth:
        case dict():
            table = cast("dict[str, object]", auth)
            made = {name: _files_beside(each, folder) for name, each in table.items()}
            file = table.get("file")
            return made | {"file": str(folder / file)} if isinstance(file, str) else made
        case list() | tuple():
            return [_files_beside(each, folder) for each in cast("Sequence[object]", auth)]
        case _:
            return auth


class PolicyTable(_Table):
    """One rule of the file about an argument of a tool (`written_policy`)."""

    name: Text
    tool: Text
    arg: Text
    verdict: Literal["allow", "ask", "deny"]
    matches: Text | None = None
    one_of: Annotated[tuple[str | int | float | bool, ...], BeforeValidator(_listed)] | None = None
    above: int | float | None = None
    at_most: int | float | None = None
    known: bool | None = None
    untrusted: bool | None = None


class Settings(_Table):
    """Settings of one command: those of one source, or those that are merged from all sources.

    Attributes:
        tools: Files and modules that declare tools, in order.
        store: Path or URL of the store; to be displayed as `store_name`, since a URL may hold a password.
        artifacts: Where artifacts and large values are kept, in the place of the store.
        backend: Address of what dispatches runs to workers; `None`: the process that submits a run drives it.
        slots: Most runs at a time of a worker.
        server: Address of a server that the runs are at, in the place of a store.
        model: The model's name, if any was set.
        base_url: The endpoint, if any was set.
        concurrency: The most calls in flight.
        flow: What happens where untrusted data reaches a write.
        default_trust: The trust of tools that do not state it.
        results: What becomes of results that do not fit, for tools that do not state it; `None`: as each kind of tool has it.
        park_after: After so many deaths of its process without progress a run is parked.
        telemetry: What is exported where `OTEL_*` variables name an exporter.
        lease: Seconds without a sign of life after which a run's owner loses the run.
        write_grace: Seconds that a stopping process waits for its writes in flight.
        approval_expires: How long a person is waited for whose approval a call needs, such as `24h`; `None`: for ever.
        rate_limits: Whether rates of tools and models hold over all engines on a server's store, or over those of this process.
        drain: Seconds that a server which was told to stop still answers while `/readyz` says 503.
        models: Model aliases, from the file; `model` may name one.
        prices: A file with prices of models.
        planner: Settings of the planner, from the file.
        budget: Limits of runs whose caller sets none.
        budget_max: Ceilings of these limits.
        secrets: Secrets that plans may use, from the file; `"environment"`: every environment variable but own keys.
        policies: Rules about arguments of calls, from the file.
        openapi: OpenAPI documents whose operations are tools, from the file; the names are for messages.
        server_budget: What a server's runs may spend together.
        proxies: Addresses and networks of proxies before the server, whose word counts for where a request comes from.
        webhooks: Endpoints that are told of runs, from the file, by name.
    """

    tools: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    store: Annotated[Text, Field(repr=False)] = STORE_DEFAULT
    artifacts: Text | None = None
    backend: Annotated[Text | None, Field(repr=False)] = None
    slots: Annotated[int, Field(ge=1)] = SLOTS_DEFAULT
    server: Text | None = None
    model: Text | None = None
    base_url: Text | None = None
    concurrency: Annotated[int, Field(ge=1)] = CONCURRENCY_DEFAULT
    flow: Flow = "enforce"
    default_trust: Trust = "trusted"
    results: Results | None = None
    park_after: Annotated[int, Field(ge=1)] = PARK_AFTER_DEFAULT
    lease: Annotated[float, Field(ge=1, le=3600)] = LEASE_DEFAULT
    rate_limits: RateLimits = "shared"
    write_grace: Annotated[float, Field(ge=0, le=3600)] = WRITE_GRACE_DEFAULT
    drain: Annotated[float, Field(ge=0, le=3600)] = DRAIN_DEFAULT
    approval_expires: Annotated[Text | None, AfterValidator(_duration)] = None
    telemetry: Traces = "auto"
    models: Mapping[str, Any] = {}
    prices: Text | None = None
    planner: PlannerTable = PlannerTable()
    budget: BudgetTable = BudgetTable()
    budget_max: BudgetTable = BudgetTable()
    secrets: Literal["environment"] | Mapping[str, SecretTable] = {}
    policies: Annotated[tuple[PolicyTable, ...], BeforeValidator(_listed)] = ()
    openapi: Mapping[str, OpenApiTable] = {}
    server_budget: ServerBudgetTable = ServerBudgetTable()
    proxies: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    webhooks: Mapping[str, WebhookTable] = {}

    _origin: dict[str, str] = PrivateAttr(default_factory=dict[str, str])

    @classmethod
    def merged(cls, sources: Sequence[tuple[str, Settings]]) -> Settings:
        """Return the settings of several sources; a later source wins.

        Args:
            sources: Name of the source, for people -> the settings that it sets.
        """
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for where, settings in sources:
            for name in settings.model_fields_set:
                values[name], origin[name] = getattr(settings, name), where
        made = cls(**values)
        made._origin.update(origin)
        return made

    def origin(self, name: str) -> str:
        """Return the source of a setting, for people."""
        return self._origin.get(name, "the default")

    @property
    def tool_sources(self) -> tuple[str, ...]:
        """Everything that names tools, for people."""
        return (*self.tools, *(each.document for each in self.openapi.values()))

    @property
    def calls_max(self) -> int:
        """The most calls in flight of a worker: a default below `slots` would keep runs waiting for each other."""
        is_given = "concurrency" in self._origin
        return self.concurrency if is_given else max(self.concurrency, self.slots)

    @property
    def store_name(self) -> str:
        """The store as it may be displayed."""
        return shown(self.store)


def read_settings(flags: Mapping[str, object], env: Mapping[str, str], folder: Path) -> Settings:
    """Merge all sources into one checked `Settings`.

    Args:
        flags: Setting -> value of the command line.
        env: The environment.
        folder: Where the search for `firmplan.toml` begins.

    Raises:
        ConfigError: A setting has the wrong type or an unknown name, or the file cannot be read.
    """
    file = find_file(folder)
    sources = [
        (str(file), _read_file(file) if file else Settings()),
        ("the environment", _checked(_read_environment(env), "the environment")),
        (COMMAND_LINE, _checked(flags, COMMAND_LINE)),
    ]
    if {"store", "server"} <= sources[-1][1].model_fields_set:
        raise ConfigError("expected one place for runs, found both --store and --server: leave one out")
    return Settings.merged(
        [(where, _without_weaker_server(at, sources)) for at, (where, _) in enumerate(sources)]
    )


def _without_weaker_server(place: int, sources: Sequence[tuple[str, Settings]]) -> Settings:
    """Return the settings of a source, without its server if a stronger source names a store: both say where runs are."""
    settings = sources[place][1]
    if not any("store" in stronger.model_fields_set for _, stronger in sources[place + 1 :]):
        return settings
    kept = {name: getattr(settings, name) for name in settings.model_fields_set if name != "server"}
    return Settings.model_construct(set(kept), **kept)


def read_keys(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the API keys of `FIRMPLAN_API_KEYS`, comma separated."""
    return tuple(key.strip() for key in env.get("FIRMPLAN_API_KEYS", "").split(",") if key.strip())


def read_server_key(env: Mapping[str, str]) -> str | None:
    """Return the key for the server of `--server`, from `FIRMPLAN_API_KEY`; `None`: none is set. A key in a file would be shared with the file."""
    return env.get("FIRMPLAN_API_KEY", "").strip() or None


def find_file(folder: Path) -> Path | None:
    """Return the nearest `firmplan.toml`, from `folder` upwards."""
    return next((f for at in (folder, *folder.parents) if (f := at / FILE_NAME).is_file()), None)


def _read_file(file: Path) -> Settings:
    import tomllib  # noqa: PLC0415  # most commands find no file, and are to start quickly

    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML, but {error}") from error
    settings = _checked(given, str(file))
    beside: dict[str, object] = {}  # what is relative to the file
    # A file may be found from any folder below it, so its paths cannot be relative to the current folder.
    if "store" in given and "://" not in settings.store and settings.store != "memory:":
        beside["store"] = str(file.parent / settings.store)
    if settings.artifacts is not None and "://" not in settings.artifacts:
        beside["artifacts"] = str(file.parent / settings.artifacts)
    if settings.tools:
        beside["tools"] = tuple(
            str(file.parent / each) if _is_path(each) else each for each in settings.tools
        )
    if settings.prices is not None:
        beside["prices"] = str(file.parent / settings.prices)
    if settings.models:
        beside["models"] = {name: _files_beside(each, file.parent) for name, each in settings.models.items()}
    if settings.webhooks:
        beside["webhooks"] = {name: each.beside(file.parent) for name, each in settings.webhooks.items()}
    if settings.openapi:
        beside["openapi"] = {name: each.beside(file.parent) for name, each in settings.openapi.items()}
    if "secrets" in given and settings.secrets != "environment":
        beside["secrets"] = {name: each.beside(file.parent) for name, each in settings.secrets.items()}
    return settings.model_copy(update=beside)


def _is_path(source: str) -> bool:
    return not is_address(source) and (source.endswith((".py", ".json", ".yaml", ".yml")) or "/" in source)


def _read_environment(env: Mapping[str, str]) -> dict[str, object]:
    given: dict[str, object] = {
        name: env.get(f"FIRMPLAN_{name.upper()}") or None
        for name in (
            "store",
            "artifacts",
            "backend",
            "slots",
            "server",
            "model",
            "base_url",
            "concurrency",
            "flow",
            "default_trust",
            "results",
            "telemetry",
            "rate_limits",
            "park_after",
            "lease",
            "write_grace",
            "drain",
            "approval_expires",
            "prices",
        )
    }
    for name in ("tools", "proxies"):
        listed = env.get(f"FIRMPLAN_{name.upper()}", "").split(",")
        given[name] = [part.strip() for part in listed if part.strip()] or None
    for name in ("budget", "budget_max", "server_budget"):
        if text := env.get(f"FIRMPLAN_{name.upper()}"):
            given[name] = _read_amounts(text)
    for name in ("concurrency", "slots", "park_after", "lease", "write_grace", "drain"):
        # Variables are text; the model is strict, so that `"64"` in the file remains an error.
        with suppress(ValueError):  # not set, or no number: the error then names the text
            given[name] = json.loads(str(given[name]))
    return given


def _read_amounts(text: str) -> object:
    """Return the table that `steps=100,usd=2` writes; a text of another form is returned as it is, for the error to name."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(mark for _, mark, _ in pairs):
        return text
    made: dict[str, object] = {}
    for name, _, amount in pairs:
        made[name.strip()] = amount.strip()
        with suppress(ValueError):
            made[name.strip()] = json.loads(amount)
    return made


def _checked(given: Mapping[str, object], where: str) -> Settings:
    """Return the settings of one source; `None`: not set there. Raises: ConfigError."""
    values = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_problems(values, where)) or f"settings in {where}: {error}") from error


TABLES: Final[Mapping[str, type[BaseModel]]] = {
    "planner": PlannerTable,
    "budget": BudgetTable,
    "budget_max": BudgetTable,
    "server_budget": ServerBudgetTable,
}


def _problems(values: dict[str, Any], where: str) -> list[str]:
    """Return the problems of one source, in the words of problems of plans and inputs."""
    from ..plans import value_problems  # noqa: PLC0415  # most settings fit, and commands are to start quickly

    if isinstance(values.get("tools"), str):
        values["tools"] = [values["tools"]]
    found: list[str] = []
    for problem in value_problems(values, Settings.model_json_schema()):
        table, dot, name = problem.inner.removeprefix(".").rpartition(".")
        fields = TABLES.get(table, Settings).model_fields
        if name.isidentifier() and name not in fields and table in ("", *TABLES):
            hint = problem.hint if problem.hint.startswith("did you") else "known are " + ", ".join(fields)
            found.append(f"unknown setting '{table}{dot}{name}' (in {where}); {hint}")
        else:
            hint = f"; {problem.hint}" if problem.hint else ""
            found.append(f"setting '{table}{dot}{name}' (in {where}): {problem.message}{hint}")
    return found
