"""Settings of one command: a flag wins over the environment, that over `firmplan.toml`, that over the default.

`firmplan.toml` is looked for in the current folder and then upwards; relative paths in it are relative to it. The
environment and the folder arrive as data. Every setting remembers where it came from, so that a wrong one can be
found by its message, and `firmplan doctor` can show it.

This module opens no store and imports no tools; it knows names and spellings only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import ConfigError
from ..executor.stores.url import shown

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
    """Settings of the planner; `None` where nothing is said. `choose_over` is `false` where tools are never chosen by a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    small_model: Text | None = None
    adapt: bool | None = None
    choose_over: Annotated[int, Field(ge=0)] | Literal[False] | None = None
    max_repairs: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def options(self) -> dict[str, Any]:
        """Return what is said as arguments of a `Planner`."""
        said: dict[str, Any] = {name: value for name, value in self if value is not None}
        return {**said, "choose_over": None} if self.choose_over is False else said


class Layer(BaseModel):
    """What one place says: a flag, a variable or a line of the file each; `None` where it says nothing."""

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


@dataclass(frozen=True, slots=True)
class Settings:
    """What a command works with.

    Attributes:
        tools: Files and modules that declare tools, in order.
        store: Path or URL of the store; to be shown as `store_name`, since a URL may hold a password.
        model: The model's name, if any was set.
        base_url: The endpoint, if any was set.
        concurrency: Most calls in flight at once.
        flow: What an unsafe flow of data does.
        park_after: How many deaths of its process in a row, without progress, park a run.
        lease: Seconds after which others take over the runs of a process that gives no sign of life.
        models: Further model aliases, from the file.
        planner: Arguments of the planner, from the file.
        origin: Setting name -> where its value came from, for people.
    """

    tools: tuple[str, ...]
    store: str = field(repr=False)
    model: str | None
    base_url: str | None
    concurrency: int
    flow: Flow
    park_after: int
    lease: float
    models: Mapping[str, Any]
    planner: Mapping[str, Any]
    origin: Mapping[str, str]

    @property
    def store_name(self) -> str:
        """The store as it may be shown."""
        return shown(self.store)


def read_settings(flags: Mapping[str, object], env: Mapping[str, str], folder: Path) -> Settings:
    """Merge all layers into one checked `Settings`.

    Raises:
        ConfigError: A setting has the wrong type or an unknown name, or the file cannot be read.
    """
    file = find_file(folder)
    layers = (
        (
            "the default",
            Layer(
                store=STORE_DEFAULT,
                concurrency=CONCURRENCY_DEFAULT,
                flow="enforce",
                park_after=PARK_AFTER_DEFAULT,
                lease=LEASE_DEFAULT,
            ),
        ),
        (str(file), _read_file(file) if file else Layer()),
        ("the environment", _layer(_read_environment(env), "the environment")),
        (COMMAND_LINE, _layer(flags, COMMAND_LINE)),
    )
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, layer in layers:
        said = {name: value for name, value in layer if value is not None}
        merged |= said
        origin |= dict.fromkeys(said, where)
    return Settings(
        tools=tuple(merged.get("tools", ())),
        store=merged["store"],
        model=merged.get("model"),
        base_url=merged.get("base_url"),
        concurrency=merged["concurrency"],
        flow=merged["flow"],
        park_after=merged["park_after"],
        lease=merged["lease"],
        models=merged.get("models", {}),
        planner=merged["planner"].options() if "planner" in merged else {},
        origin=origin,
    )


def read_keys(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the API keys of `FIRMPLAN_API_KEYS`, comma separated."""
    return tuple(key.strip() for key in env.get("FIRMPLAN_API_KEYS", "").split(",") if key.strip())


def find_file(folder: Path) -> Path | None:
    """Return the nearest `firmplan.toml`, from `folder` upwards."""
    return next((f for at in (folder, *folder.parents) if (f := at / FILE_NAME).is_file()), None)


def _read_file(file: Path) -> Layer:
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: expected TOML, but {error}") from error
    layer = _layer(said, str(file))
    beside: dict[str, object] = {}
    if layer.store and "://" not in layer.store and layer.store != "memory:":
        beside["store"] = str(file.parent / layer.store)
    if layer.tools:
        beside["tools"] = [str(file.parent / t) if t.endswith(".py") or "/" in t else t for t in layer.tools]
    return layer.model_copy(update=beside)


def _read_environment(env: Mapping[str, str]) -> dict[str, object]:
    said: dict[str, object] = {
        name: env.get(f"FIRMPLAN_{name.upper()}") or None
        for name in ("store", "model", "base_url", "concurrency", "flow", "park_after", "lease")
    }
    said["tools"] = [
        part.strip() for part in env.get("FIRMPLAN_TOOLS", "").split(",") if part.strip()
    ] or None
    for name in ("concurrency", "park_after"):
        if isinstance(count := said[name], str) and count.strip().isdecimal():
            said[name] = int(count)
    if isinstance(lease := said["lease"], str):
        with suppress(ValueError):  # told as the string that it is
            said["lease"] = float(lease)
    return said


def _layer(said: Mapping[str, object], where: str) -> Layer:
    try:
        return Layer.model_validate(dict(said))
    except ValidationError as error:
        raise ConfigError("; ".join(_misfits(said, where)) or f"settings in {where}: {error}") from error


def _misfits(said: Mapping[str, object], where: str) -> list[str]:
    """Return what in a layer does not fit, in the words in which plans and inputs are told."""
    from ..plans import value_problems  # noqa: PLC0415  # most settings fit, and commands are to start quickly

    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if "tools" in given:
        given["tools"] = _listed(given["tools"])
    told: list[str] = []
    for fault in value_problems(given, Layer.model_json_schema()):
        table, dot, name = fault.inner.removeprefix(".").rpartition(".")
        fields = PlannerTable.model_fields if table == "planner" else Layer.model_fields
        if name.isidentifier() and name not in fields and table in ("", "planner"):
            hint = fault.hint if fault.hint.startswith("did you") else "known are " + ", ".join(fields)
            told.append(f"unknown setting '{table}{dot}{name}' (in {where}); {hint}")
        else:
            hint = f"; {fault.hint}" if fault.hint else ""
            told.append(f"setting '{table}{dot}{name}' (in {where}): {fault.message}{hint}")
    return told
