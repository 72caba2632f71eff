"""Settings of one command: a flag wins over the environment, that over `firmplan.toml`, that over the default.

`firmplan.toml` is looked for in the current folder and then upwards; relative paths in it are relative to it. The
environment and the folder arrive as data. Every setting remembers where it came from, so that a wrong one can be
found by its message, and `firmplan doctor` can show it.

This module opens no store and imports no tools; it knows only the names and types of settings.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import ConfigError
from ..executor.stores.location import shown

FILE_NAME = "firmplan.toml"
STORE_DEFAULT = "firmplan.db"
COMMAND_LINE = "the command line"
CONCURRENCY_DEFAULT = 64
PARK_AFTER_DEFAULT = 3
LEASE_DEFAULT = 30.0

Flow = Literal["enforce", "warn", "off"]
Text = Annotated[str, Field(min_length=1)]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class PlannerTable(BaseModel):
    """Settings of the planner; `None`: not given. `choose_over` is `false` where a model never chooses among the tools."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    small_model: Text | None = None
    adapt: bool | None = None
    choose_over: Annotated[int, Field(ge=0)] | Literal[False] | None = None
    max_repairs: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def options(self) -> dict[str, Any]:
        """Return the settings that are given, as arguments of a `Planner`."""
        given: dict[str, Any] = {name: value for name, value in self if value is not None}
        return {**given, "choose_over": None} if self.choose_over is False else given


class Layer(BaseModel):
    """The settings of one source: the flags, the environment, or the file; `None`: not given there."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tools: Annotated[list[Text], BeforeValidator(_listed)] | None = None
    store: Text | None = None
    model: Text | None = None
    base_url: Text | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    flow: Flow | None = None
    park_after: Annotated[int, Field(ge=1)] | None = None
    lease: Annotated[float, Field(ge=1, le=3600)] | None = None
    models: dict[str, Any] | None = None
    planner: PlannerTable | None = None


class Settings(BaseModel):
    """The settings of one command, merged from all layers.

    Attributes:
        tools: Files and modules that declare tools, in order.
        store: Path or URL of the store; to be displayed as `store_name`, since a URL may hold a password.
        model: The model's name, if any was set.
        base_url: The endpoint, if any was set.
        concurrency: Most calls in flight at the same time.
        flow: What the engine does about an unsafe flow of data.
        park_after: How many deaths of its process in a row, without progress, park a run.
        lease: Seconds after which others take over the runs of a process that gives no sign of life.
        models: Further model aliases, from the file.
        planner: Arguments of the planner, from the file.
        origin: Setting name -> where its value came from, for people.
    """

    model_config = ConfigDict(frozen=True)

    tools: tuple[str, ...] = ()
    store: str = Field(default=STORE_DEFAULT, repr=False)
    model: str | None = None
    base_url: str | None = None
    concurrency: int = CONCURRENCY_DEFAULT
    flow: Flow = "enforce"
    park_after: int = PARK_AFTER_DEFAULT
    lease: float = LEASE_DEFAULT
    models: Mapping[str, Any] = {}
    planner: Mapping[str, Any] = {}
    origin: Mapping[str, str] = {}

    @property
    def store_name(self) -> str:
        """The store as it may be displayed."""
        return shown(self.store)


def read_settings(flags: Mapping[str, object], env: Mapping[str, str], folder: Path) -> Settings:
    """Merge all layers into one checked `Settings`.

    Args:
        flags: Setting -> value of the command line.
        env: The environment.
        folder: Where the search for `firmplan.toml` begins.

    Raises:
        ConfigError: A setting has the wrong type or an unknown name, or the file cannot be read.
    """
    file = find_file(folder)
    layers = (
        (str(file), _read_file(file) if file else Layer()),
        ("the environment", _layer(_read_environment(env), "the environment")),
        (COMMAND_LINE, _layer(flags, COMMAND_LINE)),
    )
    merged: dict[str, Any] = {}
    origin = dict.fromkeys(Settings.model_fields, "the default")
    for where, layer in layers:
        values = {name: value for name, value in layer if value is not None}
        merged |= values
        origin |= dict.fromkeys(values, where)
    if "planner" in merged:
        merged["planner"] = merged["planner"].options()
    return Settings(**merged, origin=origin)


def read_keys(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the API keys of `FIRMPLAN_API_KEYS`, comma separated."""
    return tuple(key.strip() for key in env.get("FIRMPLAN_API_KEYS", "").split(",") if key.strip())


def find_file(folder: Path) -> Path | None:
    """Return the nearest `firmplan.toml`, from `folder` upwards."""
    return next((f for at in (folder, *folder.parents) if (f := at / FILE_NAME).is_file()), None)


def _read_file(file: Path) -> Layer:
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML, but {error}") from error
    layer = _layer(given, str(file))
    adjusted: dict[str, object] = {}
    if layer.store and "://" not in layer.store and layer.store != "memory:":
        adjusted["store"] = str(file.parent / layer.store)
    if layer.tools:
        adjusted["tools"] = [
            str(file.parent / t) if t.endswith(".py") or "/" in t else t for t in layer.tools
        ]
    return layer.model_copy(update=adjusted)


def _read_environment(env: Mapping[str, str]) -> dict[str, object]:
    given: dict[str, object] = {
        name: env.get(f"FIRMPLAN_{name.upper()}") or None
        for name in ("store", "model", "base_url", "concurrency", "flow", "park_after", "lease")
    }
    given["tools"] = [
        part.strip() for part in env.get("FIRMPLAN_TOOLS", "").split(",") if part.strip()
    ] or None
    for name in ("concurrency", "park_after", "lease"):
        with suppress(ValueError):  # not set, or no number: the error then names the text
            given[name] = json.loads(str(given[name]))
    return given


def _layer(given: Mapping[str, object], where: str) -> Layer:
    try:
        return Layer.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError("; ".join(_problems(given, where)) or f"settings in {where}: {error}") from error


def _problems(given: Mapping[str, object], where: str) -> list[str]:
    """Return the problems of a layer, in the words of problems of plans and inputs."""
    from ..plans import value_problems  # noqa: PLC0415  # most settings fit, and commands are to start quickly

    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "tools" in values:
        values["tools"] = _listed(values["tools"])
    found: list[str] = []
    for fault in value_problems(values, Layer.model_json_schema()):
        table, dot, name = fault.inner.removeprefix(".").rpartition(".")
        fields = PlannerTable.model_fields if table == "planner" else Layer.model_fields
        if name.isidentifier() and name not in fields and table in ("", "planner"):
            hint = fault.hint if fault.hint.startswith("did you") else "known are " + ", ".join(fields)
            found.append(f"unknown setting '{table}{dot}{name}' (in {where}); {hint}")
        else:
            hint = f"; {fault.hint}" if fault.hint else ""
            found.append(f"setting '{table}{dot}{name}' (in {where}): {fault.message}{hint}")
    return found
