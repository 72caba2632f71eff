"""`Provider`: somebody else who describes tools, such as an MCP server.

Whoever provides tools writes their descriptions, schemas and choices, and a planner reads these. So the words of a provider are data: prompts
quote them, and a store pins them, so that a description that changes later is used only after a person has consented
(`executor/journal/tool_pins.py`). A module that makes tools from another kind of description has to make a `Provider`, nothing more.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

from ..plans.values import Json, canonical

if TYPE_CHECKING:
    from .tool import Tool

CONTEXT: Final = (
    "firmplan_context"  # the keyword of the context, beside which an argument may have any other name
)


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """Who describes tools.

    Attributes:
        kind: The kind, for people: `MCP server`.
        name: How it calls itself, on one line.
        place: Where it is, for people; it holds no secret.
        key: Its identity: whoever has another key is another provider.
        says: Name of a tool there -> everything that it says of the tool and that anybody here reads.
    """

    kind: str
    name: str
    place: str
    key: str
    says: Mapping[str, Mapping[str, Json]]

    def __str__(self) -> str:
        return f"the {self.kind} {quoted(self.name, NAME_CHARACTERS_MAX)} ({self.place})"


@dataclass(frozen=True, slots=True, eq=False)
class ProvidedTool:
    """A tool as its provider describes it.

    Attributes:
        name: Its name there.
        words: The provider's description, if the tool's own contains it; else empty.
    """

    provider: Provider
    name: str
    words: str


NAME_CHARACTERS_MAX = 128
SAID_CHARACTERS_MAX: Final = 500  # of a message of a server about a failure


class Server(Protocol):
    """Where the tools of a provider are called: the attribute `server` of their functions."""

    def hold(self) -> None:
        """Keep connections open until `release` was called as often as `hold`."""
        ...

    async def release(self) -> None:
        """Undo one `hold`; the last release closes the connections."""
        ...


def hold_servers(tools: Iterable[Tool]) -> tuple[Server, ...]:
    """Keep the connections of the tools' servers open until `release_servers`; return the servers, each once."""
    fns = (cast("object", tool.fn) for tool in tools if tool.provided is not None)
    servers = (cast("Server | None", getattr(fn, "server", None)) for fn in fns)
    found = tuple(dict.fromkeys(server for server in servers if server is not None))
    for server in found:
        server.hold()
    return found


async def release_servers(servers: Iterable[Server]) -> None:
    """Release servers; a connection that no engine holds any more is closed when this returns."""
    for server in servers:
        await server.release()


def is_address(source: str) -> bool:
    """Whether a source of tools is an address of HTTP."""
    return source.lower().startswith(("http://", "https://"))


def valid_name(name: str) -> str:
    """Return a tool's name with each character that a plan cannot write replaced by `_`."""
    made = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:NAME_CHARACTERS_MAX]
    return made if re.match(r"[A-Za-z_]", made) else f"_{made}"[:NAME_CHARACTERS_MAX]


def shown_name(text: str) -> str:
    """Return the name of a provider without characters that could end the marks in which prompts show it."""
    return re.sub(r"[^\w .,:;/@+-]", "_", plain(text, NAME_CHARACTERS_MAX))


def plain(text: str, characters_max: int) -> str:
    """Return text on one line, without invisible characters (controls, marks of direction, tags), cut to its bound."""
    # Cut before the characters are looked at: a description of megabytes costs no time. Eight times the bound
    # leaves room for what is removed.
    seen = "".join(" " if char.isspace() else char for char in text[: characters_max * 8])
    kept = "".join(char for char in seen if unicodedata.category(char)[0] != "C")
    line = " ".join(kept.split())
    return line if len(line) <= characters_max else f"{line[: characters_max - 3].rstrip()} .."


def plain_error(error: BaseException) -> str:
    """Return the kind of an error of a connection to a provider, and its words, on one line."""
    text = plain(str(error), SAID_CHARACTERS_MAX)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def quoted(value: Json, most: int) -> str:
    """Return a value that others wrote as JSON on one line, in which every character is visible, and text does not end before its closing quote.

    Args:
        value: Any JSON value. A text is cut inside its quotes.
        most: Most characters, without quotes and escapes.
    """
    if isinstance(value, str):
        cut = value if len(value) <= most else f"{value[:most]}.."
        return visible(json.dumps(cut, ensure_ascii=False))
    text = canonical(value).decode()
    # A number or a list that is cut is no JSON any more, and the dots say so.
    return visible(text if len(text) <= most else f"{text[:most]}..")


def visible(text: str) -> str:
    """Return a text on one line, with escapes for what a reader does not see: controls, marks of direction, tags, line and paragraph separators, lone surrogates."""
    return "".join(each if _is_visible(each) else _escape(each) for each in text)


def _is_visible(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] not in "CZ"


def _escape(char: str) -> str:
    # As JSON escapes it, so that the text is still the same value.
    return json.dumps(char)[1:-1] if ord(char) > 0x7F else f"\\u{ord(char):04x}"
