"""`Pages`: how an operation lists by pages, so that its tool returns the whole list.

It is written as a mapping:

    {"by": "link"}                                                        RFC 8288: Link: <..>; rel="next"
    {"by": "page", "argument": "page", "items": "data"}                   pages by number, until one is empty
    {"by": "cursor", "argument": "after", "cursor": "meta.next", "items": "data"}

`items`, `cursor` and `more` are paths in an answer: names and numbers with dots between them, and `-1` is the last item of a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import urljoin

from ...errors import ConfigError, ToolError
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.signature import Effect
from ...plans.values import Json
from .operation import Argument, Operation
from .schemas import DEFINITIONS, Schemas
from .server import Answer

PAGES_MAX: Final = 20  # of one call, unless the setting says more: a list may go on for ever
LINK_CHARACTERS_MAX: Final = 16_384  # of the header that names the next page
By = Literal["link", "page", "cursor"]

_TARGET: Final = re.compile(r"[\s,]*<([^<>]*)>")
_PARAMETER: Final = re.compile(r"""\s*;\s*([^\s=;,"]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?""")


@dataclass(frozen=True, slots=True)
class Pages:
    """How an operation lists by pages.

    Attributes:
        by: Where the next page is said: in the header `Link`, by a number, or by a cursor.
        argument: The argument that takes the number or the cursor; the tool has it no more.
        items: Path of the list in an answer; empty: the answer is the list.
        cursor: Path of the next cursor; the list ends where it is absent, null or empty.
        more: Path of a flag that is false on the last page.
        first: Number of the first page.
        most: Pages of one call; a longer list fails the call.
    """

    by: By
    argument: str = ""
    items: str = ""
    cursor: str = ""
    more: str = ""
    first: int = 1
    most: int = PAGES_MAX

    def after(self, answer: Answer, value: Json, items: list[Json], argument: Json) -> Json:
        """Return the number, cursor or address of the next page; `None`: there is none.

        Args:
            answer: The last answer.
            value: Its value.
            items: Its items.
            argument: The number or the cursor that it was asked with.

        Raises:
            ToolError: The server leads in a circle.
        """
        if self.by == "link":
            return next_link(answer)
        if not items or (self.more and not found_at(value, self.more)):
            return None
        if self.by == "page":
            return cast("int", argument) + 1
        following = found_at(value, self.cursor)
        if following is None or following == "":
            return None
        if following == argument:
            raise ToolError(
                "the server gives the same cursor again; see `cursor` of `pages`", code="bad-result"
            )
        return following

    def items_of(self, value: Json) -> list[Json]:
        """Return the items of an answer. Raises: ToolError: there is no list."""
        found = found_at(value, self.items) if self.items else value
        if isinstance(found, list):
            return found
        at = f"at '{self.items}'" if self.items else "as the answer"
        raise ToolError(
            f"pages: expected a list {at}, found {type(found).__name__}; see `items` of `pages`",
            code="bad-result",
        )


def read_pages(operation: Operation, given: object) -> Pages:
    """Return the pages of an operation.

    Args:
        operation: The operation.
        given: The mapping.

    Raises:
        ConfigError: A key is unknown, missing or of the wrong kind.
    """
    where = f"pages: '{operation.name}'"
    if not isinstance(given, Mapping):
        raise ConfigError(
            f'{where}: expected a mapping such as {{"by": "link"}}, found {type(given).__name__}'
        )
    table = cast("Mapping[str, Any]", given)
    _check_kinds(where, table)
    if operation.effect is not Effect.READ:
        raise ConfigError(f"{where}: expected an operation that reads, found {operation.key}")
    made = Pages(**table)
    if made.by == "link":
        if made.argument or made.cursor:
            raise ConfigError(f"{where}: `argument` and `cursor` belong to the other kinds; leave them out")
        return made
    if made.by == "cursor" and not made.cursor:
        raise ConfigError(f"{where}: expected the path of the next cursor as `cursor`")
    if argument_of(operation, made.argument) is None:
        names = [each.name for each in operation.arguments if each.place == "query"]
        raise ConfigError(
            f"{where}: argument: expected one of its query arguments ({listing(names)}), found {made.argument!r}"
        )
    return made


def _check_kinds(where: str, table: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a key is unknown, or its value is of the wrong kind."""
    known = [each.name for each in fields(Pages)]
    for key, value in table.items():
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise ConfigError(
                f"{where}: unknown key {key!r}; expected {listing(known)}{f'; {hint}' if hint else ''}"
            )
        if key in ("first", "most"):
            least = 0 if key == "first" else 1
            if type(value) is not int or value < least:
                raise ConfigError(f"{where}: {key}: expected a number of at least {least}, found {value!r}")
        elif not isinstance(value, str):
            raise ConfigError(f"{where}: {key}: expected text, found {value!r}")
    if table.get("by") not in get_args(By):
        raise ConfigError(f"{where}: by: expected {listing(list(get_args(By)))}, found {table.get('by')!r}")


def argument_of(operation: Operation, name: str) -> Argument | None:
    """Return a query argument by its name in plans or in the document, or `None`."""
    return next(
        (each for each in operation.arguments if each.place == "query" and name in (each.name, each.sent)),
        None,
    )


def found_at(value: Json, path: str) -> Json:
    """Return what is at a path, or `None`."""
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and re.fullmatch(r"-?\d{1,6}", part, re.ASCII):
            at = int(part)
            value = value[at] if -len(value) <= at < len(value) else None
        else:
            return None
    return value


def next_link(answer: Answer) -> str | None:
    """Return the address of the next page in the header `Link` (RFC 8288), or `None`."""
    text, at = answer.headers.get("link", "")[:LINK_CHARACTERS_MAX], 0
    while (target := _TARGET.match(text, at)) is not None:
        at, relations = target.end(), ""
        while (found := _PARAMETER.match(text, at)) is not None:
            at = found.end()
            if found[1].lower() == "rel" and not relations:
                relations = found[2] or found[3] or ""
        if "next" in relations.lower().split():
            return urljoin(answer.url, str(target[1]))
    return None


def schema_of_items(schemas: Schemas, returns: dict[str, Json] | None, pages: Pages) -> dict[str, Json]:
    """Return the type of the whole list, without definitions, from the type of one answer."""
    known = schemas.definitions(returns, "received") if returns is not None else {}
    found: Json = returns

    def resolved(one: Json) -> Json:
        for _ in range(16):
            if not (isinstance(one, dict) and isinstance(ref := one.get("$ref"), str)):
                return one
            one = known.get(ref.removeprefix(DEFINITIONS))
        return None

    for part in pages.items.split(".") if pages.items else ():
        one = resolved(found)
        properties = one.get("properties") if isinstance(one, dict) else None
        found = properties.get(part) if isinstance(properties, dict) else None
    one = resolved(found)
    items = one.get("items") if isinstance(one, dict) else None
    return {"type": "array", "items": items} if isinstance(items, dict) else {"type": "array"}
