"""Pins: the words of tool providers as they were when they were first used, or last accepted.

What a provider says of its tools (descriptions, schemas, hints) reaches prompts and decides about calls. The store keeps what it said at the
first use. If it says something else later, nothing is planned with its tools and no run begins or goes on with the changed ones, until a
person has seen the differences and consents (`ToolPins.accept`). A provider that changes its words after it was looked at would otherwise change
what a planner reads. A run that does not use a changed tool goes on: the words of other tools decide nothing about it.

The module does not know who provides tools, nor how they are called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal

from ...errors import ConfigError
from ...plans.edit.differences import differences
from ...plans.immutable import immutable
from ...plans.reports.nearest import listing
from ...plans.values import Json, canonical, parse_canonical
from ...tools import Toolset
from ...tools.logbook import open_log
from ...tools.provider import Provider, quoted

if TYPE_CHECKING:
    from ..stores.store import Store

CHANGES_TOLD: Final = 5  # tools that an error names; the command tells all
DIFFERENCES_TOLD: Final = 20  # places of one tool
VALUE_CHARACTERS_MAX: Final = 400  # of a value before or after
Change = Literal["added", "changed", "removed"]


@immutable
class ToolChange:
    """A tool of which its provider says something else than before.

    Attributes:
        tool: Its name there.
        change: What became of it. A removed tool stops nothing.
        differences: The places that differ, each as a line.
    """

    tool: str
    change: Change
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.change} {quoted(self.tool, 128)}", *(f"  {each}" for each in self.differences)]
        )


@immutable
class ProviderChanges:
    """What a provider says of its tools now, against what is pinned.

    Attributes:
        name: How the provider calls itself.
        place: Where it is.
        tools: The tools that differ, by name.
    """

    name: str
    place: str
    tools: tuple[ToolChange, ...]

    def __bool__(self) -> bool:
        return bool(self.tools)

    def __str__(self) -> str:
        head = f"{quoted(self.name, 128)} ({self.place})"
        if not self.tools:
            return f"{head}: nothing has changed"
        return "\n".join([f"{head}:", *map(str, self.tools)])

    def to_dict(self) -> dict[str, Json]:
        """Return it as JSON."""
        tools: list[Json] = [
            {"tool": each.tool, "change": each.change, "differences": list(each.differences)}
            for each in self.tools
        ]
        return {"server": self.name, "place": self.place, "tools": tools}


class ToolPins:
    """The pins of a store, and the providers of an engine's tools.

    Args:
        store: Keeps the pins.
        tools: The tools of the engine.

    Attributes:
        has_changes: Whether a tool of this engine is not as it is pinned, for all that is known here.
    """

    def __init__(self, store: Store, tools: Toolset) -> None:
        self._store = store
        self._tools = tools
        self._providers = {
            tool.provided.provider.key: tool.provided.provider for tool in tools if tool.provided is not None
        }
        self._changes: dict[str, ProviderChanges] = {}
        self.has_changes = False  # an attribute: every run asks

    async def open(self, at: float) -> None:
        """Pin what new providers say, and compare what known ones say with their pins.

        Args:
            at: Unix seconds.
        """
        for provider in self._providers.values():
            if not self._store.is_read_only and await self._store.pin_tools(
                provider.key, _pins(provider), at
            ):
                open_log().info(
                    "tools pinned", server=provider.name, place=provider.place, tools=len(provider.says)
                )
            if changes := await self._compare(provider):
                named = listing([each.tool for each in changes.tools])
                open_log().warning("tools changed", server=provider.name, place=provider.place, tools=named)

    async def expect(self, names: Iterable[str] | None = None) -> None:
        """Raise if one of these tools is not as it is pinned.

        Args:
            names: The tools that are about to be used; `None`: a planner is about to read all tools.

        Raises:
            ConfigError: It differs; the message has the differences and says how to consent.
        """
        if not self._changes:
            return
        wanted = frozenset(self._tools.names if names is None else names)
        for key, provider in self._providers.items():
            # Somebody may have consented in another process since.
            if key in self._changes and (
                changed := _used(await self._compare(provider), self._tools, key, wanted)
            ):
                raise _error(provider, changed)

    async def find_changes(self) -> list[ProviderChanges]:
        """Return the providers whose tools are not as they are pinned."""
        found = [await self._compare(provider) for provider in self._providers.values()]
        return [each for each in found if each]

    async def accept(self, server: str, at: float, *, dry_run: bool = False) -> ProviderChanges:
        """Pin what a provider says now, and return what has changed.

        Args:
            server: Its name, or where it is.
            at: Unix seconds.
            dry_run: Pin nothing.

        Raises:
            ConfigError: No tool of the engine comes from it, or several have the name.
        """
        provider = self.find(server)
        changes = await self._compare(provider)
        if dry_run:
            return changes
        await self._store.pin_tools(provider.key, _pins(provider), at, replaces=True)
        self._changes.pop(provider.key, None)
        self.has_changes = bool(self._changes)
        open_log().info(
            "tools accepted", server=provider.name, place=provider.place, tools=len(changes.tools)
        )
        return changes

    def find(self, server: str) -> Provider:
        """Return a provider by its name, or by where it is. Raises: ConfigError: there is none, or there are several."""
        known = list(self._providers.values())
        found = [each for each in known if server in (each.name, each.place, each.place.strip("'"), each.key)]
        if len(found) == 1:
            return found[0]
        shown = listing([f"{each.name} ({each.place}, {each.key})" for each in found or known])
        what = f"several are called {server!r}; name one by its digest" if found else f"found {server!r}"
        raise ConfigError(f"expected a server that the tools come from, {what}: there are {shown}")

    async def _compare(self, provider: Provider) -> ProviderChanges:
        pinned = {
            name: parse_canonical(said) for name, said in (await self._store.list_pins(provider.key)).items()
        }
        # A store that takes no writes, and has never seen the provider, has nothing to compare with.
        changes = ProviderChanges(provider.name, provider.place, _changes(provider, pinned) if pinned else ())
        if changes:
            self._changes[provider.key] = changes
        else:
            self._changes.pop(provider.key, None)
        self.has_changes = bool(self._changes)
        return changes


def _pins(provider: Provider) -> dict[str, bytes]:
    return {name: canonical(dict(said)) for name, said in provider.says.items()}


def _changes(provider: Provider, pinned: Mapping[str, Json]) -> tuple[ToolChange, ...]:
    found: list[ToolChange] = []
    for name in sorted({*pinned, *provider.says}):
        now = provider.says.get(name)
        if now is None:
            found.append(ToolChange(name, "removed"))
        elif name not in pinned:
            found.append(ToolChange(name, "added", _lines({}, dict(now))))
        elif canonical(pinned[name]) != canonical(dict(now)):
            found.append(ToolChange(name, "changed", _lines(pinned[name], dict(now))))
    return tuple(found)


def _lines(before: Json, now: Json) -> tuple[str, ...]:
    """Return the places that differ. The values are a stranger's, so they are quoted in full, as far as their bound."""
    found = differences(before, now)
    lines: list[str] = []
    for each in found[:DIFFERENCES_TOLD]:
        old, new = (quoted(value, VALUE_CHARACTERS_MAX) for value in (each.before, each.after))
        shown = {"added": f"+ {new}", "removed": f"- {old}", "changed": f"{old} -> {new}"}[each.kind]
        lines.append(f"{quoted(each.path, 200)[1:-1]}: {shown}" if each.path else shown)
    return (*lines, f"and {len(found) - len(lines)} places more") if len(found) > len(lines) else tuple(lines)


def _used(changes: ProviderChanges, tools: Toolset, key: str, wanted: frozenset[str]) -> list[ToolChange]:
    """Return the changes of tools that are wanted here, by whatever name."""
    names = {
        tool.provided.name
        for tool in tools
        if tool.provided is not None and tool.provided.provider.key == key and tool.name in wanted
    }
    return [each for each in changes.tools if each.tool in names and each.change != "removed"]


def _error(provider: Provider, changed: list[ToolChange]) -> ConfigError:
    told = "\n".join(map(str, changed[:CHANGES_TOLD]))
    more = f"\nand {len(changed) - CHANGES_TOLD} tools more" if len(changed) > CHANGES_TOLD else ""
    return ConfigError(
        f"{provider} says something else of its tools than what was accepted:\n{told}{more}\nTo use them as they are now, look at the differences and "
        f"consent: firmplan tools accept {provider.name!r}"
    )
