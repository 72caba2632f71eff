"""Tools whose code is at a server, made of what a provider says of them: the rules that MCP servers and OpenAPI documents share.

A provider is not trusted. Its words are marked as its words where a model reads them, what decides a result at its server is part of the
fingerprint, and a result that does not fit the type that it promises stands with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, cast

from ...errors import ConfigError, ToolError
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json
from ..context import Context
from ..declaration import ToolOptions
from ..provider import ProvidedTool, Provider, plain, valid_name
from ..tool import Tool, make_tool
from ..types.schemas import SchemaTypes


def make_provided_tool(
    fn: Callable[..., Any],
    provided: ProvidedTool,
    *,
    where: str,
    types: SchemaTypes,
    version: str,
    decides: Mapping[str, object],
    settings: ToolOptions,
) -> Tool:
    """Return a tool that somebody else describes and that is called at a server.

    Args:
        fn: Calls it, by keyword.
        provided: The tool as its provider describes it, all the words of the provider included.
        where: Its name, for messages.
        types: Its types, of the provider's schemas.
        version: The provider's, which stands for the code that nobody here sees.
        decides: What decides a result at the server: for the fingerprint.
        settings: The keywords of `@tool`, `name`, `trust` and `effect` among them.

    Raises:
        ConfigError: A setting is wrong, or has no meaning for such a tool.
    """
    if settings.get("isolation") == "process":
        raise ConfigError(f"{where}: isolation: it runs at its server already; leave it out")
    if settings.get("queue") is not None:
        raise ConfigError(f"{where}: queue: its server carries the calls out already; leave it out")
    provider, said = provided.provider, provided.words
    if settings.get("trust") == "untrusted" and said:
        # The planner reads this text. Marked as a quotation, an instruction in it is less likely to be followed.
        said = f"(in the words of the {provider.kind} '{provider.name}') {said}"
    given: ToolOptions = {"description": said, "version": f"{provider.name} {version}".strip(), **settings}
    extra = {**decides, "extra": settings.get("fingerprint_extra")}
    given["fingerprint_extra"] = cast("Json", extra)
    if given.get("description") != said:  # the user's own description has no words of the provider in it
        provided = ProvidedTool(provider, provided.name, "")
    return make_tool(
        fn,
        source=_source(fn, provider, str(given.get("name"))),
        types=types,
        provided=provided,
        default_results="warn",
        **given,
    )


async def _remote(**arguments: Json) -> Json:
    """Stand for the code of a tool that is elsewhere."""
    return dict(arguments)


def _source(fn: object, provider: Provider, name: str) -> FunctionType:
    """Return a function by which messages can name the tool; its code is not the code of the server."""
    # The fingerprint knows the function by this module's name, so that it stays the same wherever this code stands.
    made = FunctionType(_remote.__code__, {"__name__": type(fn).__module__}, valid_name(name))
    made.__qualname__ = f"{valid_name(provider.name)}.{valid_name(name)}"
    return made


def read_names(key: str, given: object) -> tuple[str, ...]:
    """Return the names that a setting lists. Raises: ConfigError: it is no list of names."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        shown = f"; write [{given!r}]" if isinstance(given, str) else ""
        raise ConfigError(f"{key}: expected a list of names, found {given!r}{shown}")
    found = tuple(cast("Iterable[object]", given))
    if not all(isinstance(each, str) for each in found):
        raise ConfigError(f"{key}: expected a list of names, found {given!r}")
    return cast("tuple[str, ...]", found)


def expect_known(given: Mapping[str, Iterable[str]], known: Sequence[str], owner: str, kind: str) -> None:
    """Check the names in settings against those that a provider has.

    Args:
        given: Setting -> the names in it.
        known: The names that the provider has.
        owner: The provider, for messages.
        kind: What the names are of, such as `tool`.

    Raises:
        ConfigError: The provider has nothing of a name; the message has the nearest one.
    """
    for key, names in given.items():
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known)
                has = listing([plain(each, 60) for each in known])
                raise ConfigError(
                    f"{key}: {owner} has no {kind} {name!r}; it has {has}{f'; {hint}' if hint else ''}"
                )


def keep_answer(context: Context | None, data: bytes, media_type: str | None, name: str) -> Json:
    """Return the artifact of bytes that a server answers with, as JSON.

    Args:
        context: Keeps the bytes.
        data: The bytes.
        media_type: What they are; `None`: the name's ending says it.
        name: A name for people.

    Raises:
        ToolError: There is no store for bytes (code `no-blobs`), or as `Context.save`.
    """
    if context is None:
        raise ToolError(
            "the server answers with bytes; call the tool in a run, whose store keeps them", code="no-blobs"
        )
    return cast("Json", context.save(data, media_type=media_type, name=name).model_dump(mode="json"))
