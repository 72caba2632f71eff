"""The operations of an OpenAPI document as tools of a plan: `Toolset.from_openapi`.

A document is not trusted: outputs are untrusted until the user declares otherwise, every request goes to the address that the user named, and
the document's words are cut, and marked as its words where a model reads them. What decides about a request (method, path, styles, schemas) is
part of the tool's fingerprint; the secrets of the server are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, Final, cast
from urllib.parse import urlsplit

import orjson

from ...errors import ConfigError, OutcomeUnknown, ToolError
from ...plans.signature import Effect
from ...plans.values import Json, NotJson, canonical, digest
from ..context import Context
from ..declaration import ToolOptions, ToolSettings
from ..failures import ResultRefused
from ..logbook import open_log
from ..provider import CONTEXT, ProvidedTool, Provider, is_address, plain, valid_name
from ..remote.provided import expect_known, keep_answer, make_provided_tool, read_names
from ..remote.web_page import is_page, page_fault
from ..tool import Tool
from ..types.schemas import SchemaTypes
from .auth import Auth, Credentials, Mask, apply, read_auth
from .document import KIND, Document, Listed, read_document
from .operation import KeyHeader, Operation, Unsupported, read_operation
from .pages import Pages, argument_of, read_pages, schema_of_items
from .request import Request, make_request
from .schemas import Schemas
from .server import RESPONSE_BYTES_MAX, Answer, HttpServer, read_base_url

TIMEOUT: Final = "1m"  # of one call, unless said otherwise: a server may never answer
LEFT_OUT_TOLD: Final = 5  # operations that the log names


class OpenApiSettings(ToolSettings, total=False):
    """The keywords of `Toolset.from_openapi` beside the document: which operations and how, then those of `@tool` for all its tools.

    Attributes:
        only: Operations to take, by `operationId` or as `GET /pets/{id}`; by default all.
        tags: Take only operations with one of these tags.
        leave_out: Operations not to take, named as in `only`.
        deprecated: Whether to take deprecated operations that `only` does not name.
        prefix: Stands before every name.
        overrides: An operation, named as in `only` -> keywords of `@tool` for it alone, `name` included.
        pages: An operation, named as in `only` -> how it lists by pages (`pages.py`).
        idempotency_header: The header in which all writes take an idempotency key, where the document does not say it.
        path_slashes: Path arguments (`path`, or `get_file.path`) in which `/` may stand.
    """

    only: Iterable[str] | None
    tags: Iterable[str] | None
    leave_out: Iterable[str]
    deprecated: bool
    prefix: str
    overrides: Mapping[str, ToolOptions] | None
    pages: Mapping[str, Mapping[str, Json]] | None
    idempotency_header: str | None
    path_slashes: Iterable[str]


@dataclass(frozen=True, slots=True)
class _Choice:
    only: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    leave_out: tuple[str, ...]
    takes_deprecated: bool

    def takes(self, listed: Listed) -> bool:
        """Whether an operation is wanted."""
        names = {listed.key, listed.id}
        if names & set(self.leave_out):
            return False
        if self.only is not None and not names & set(self.only):
            return False
        given = listed.operation.get("tags")
        tags = given if isinstance(given, list) else []
        if self.tags is not None and not any(tag in self.tags for tag in tags):
            return False
        return (
            self.takes_deprecated or self.only is not None or listed.operation.get("deprecated") is not True
        )

    def names(self, listed: Listed) -> bool:
        """Whether an operation is wanted by its name."""
        return self.only is not None and bool({listed.key, listed.id} & set(self.only))


@dataclass(frozen=True, eq=False)
class RemoteOperation:
    """Calls one operation of a server: the function of a tool that is elsewhere.

    Attributes:
        server: Where it is called.
        operation: What the document says of it.
        credentials: What is sent with it.
        effect: Of the tool.
        is_idempotent: Whether a write may be sent again.
        key_header: The header that takes the idempotency key.
        pages: How it lists by pages; `None`: an answer is the result.
        slashes: Path arguments in which `/` may stand.
    """

    server: HttpServer
    operation: Operation
    credentials: Credentials
    effect: Effect
    is_idempotent: bool
    key_header: KeyHeader | None
    pages: Pages | None
    slashes: frozenset[str]

    async def __call__(self, /, *, firmplan_context: Context | None = None, **arguments: Json) -> Json:
        """Return the value of the answer for these arguments. Raises: as `HttpServer.send` and `value_of`."""
        if self.pages is not None:
            return await self._listed(self.pages, arguments, firmplan_context)
        _, value = await self._once(self._request(arguments, firmplan_context), firmplan_context)
        return value

    def _request(self, arguments: Mapping[str, Json], context: Context | None) -> Request:
        return make_request(
            self.operation, arguments, context, key_header=self.key_header, slashes=self.slashes
        )

    async def _once(self, request: Request, context: Context | None) -> tuple[Answer, Json]:
        mask = Mask()
        apply(self.credentials.needed(self.operation), request, mask)
        try:
            answer = await self.server.send(
                request, mask, effect=self.effect, is_idempotent=self.is_idempotent
            )
        except ToolError as error:
            if error.code not in ("http-401", "http-403"):
                raise
            missing = self.credentials.missing(self.operation)
            raise ToolError(f"{error}{missing}", code=error.code) from None
        if is_page(answer.status, answer.headers) and not self.operation.takes_pages:
            raise self._page(answer, mask)
        try:
            return answer, _masked(value_of(answer, context), mask)
        except ToolError as error:
            # A write whose answer cannot be used has happened all the same, and must not be repeated.
            if self.effect is not Effect.WRITE:
                raise
            raise ResultRefused(str(error), code=error.code) from error

    def _page(self, answer: Answer, mask: Mask) -> Exception:
        """Return the error for a web page in the place of the server's answer: what a write did, nobody knows."""
        message = f"{self.server}: {mask.text(page_fault(answer.url, answer.body))}"
        if self.effect is Effect.WRITE:
            return OutcomeUnknown(message)
        return ToolError(message, code="bad-result")

    async def _listed(self, pages: Pages, arguments: Mapping[str, Json], context: Context | None) -> Json:
        """Return the items of all pages."""
        given, found, size = dict(arguments), list[Json](), 0
        argument = argument_of(self.operation, pages.argument)
        name = "" if argument is None else argument.name
        if pages.by == "page":
            given[name] = pages.first
        request = self._request(given, context)
        for _ in range(pages.most):
            answer, value = await self._once(request, context)
            items = pages.items_of(value)
            found += items
            size += len(answer.body)
            if size > RESPONSE_BYTES_MAX:
                raise ToolError(
                    f"pages: the list is larger than {RESPONSE_BYTES_MAX} bytes", code="limit-exceeded"
                )
            following = pages.after(answer, value, items, given.get(name))
            if following is None:
                return found
            if pages.by == "link":
                request = replace(request, address=str(following), query=[], cookies=list(request.cookies))
            else:
                given[name] = following
                request = self._request(given, context)
        raise ToolError(
            f"pages: the list has more than {pages.most} pages; narrow what is asked for, or raise `most` of `pages`",
            code="limit-exceeded",
        )


def value_of(answer: Answer, context: Context | None) -> Json:
    """Return the value of an answer: JSON as it is, text as text, other bytes as an artifact, and null for an empty one.

    Args:
        answer: The answer.
        context: Keeps the bytes.

    Raises:
        ToolError: It is no JSON, or there is no store for bytes.
    """
    kind = answer.media_type
    if not answer.body:
        return None
    if kind in ("application/json", "text/json") or kind.endswith("+json"):
        try:
            return cast("Json", orjson.loads(answer.body))
        except orjson.JSONDecodeError as fault:
            raise ToolError(
                f"the server answers with JSON that is none: {fault}", code="bad-result"
            ) from None
    text_kinds = ("application/xml", "application/yaml", "application/javascript", "application/x-ndjson", "")
    if kind.startswith("text/") or kind in text_kinds or kind.endswith(("+xml", "+yaml")):
        try:
            return answer.body.decode(_charset(answer))
        except (UnicodeDecodeError, LookupError):
            pass  # bytes, whatever the header says
    return keep_answer(context, answer.body, kind or None, _file_name(answer))


def _charset(answer: Answer) -> str:
    found = re.search(
        r"charset\s*=\s*\"?([\w.:-]{1,40})", answer.headers.get("content-type", ""), re.IGNORECASE
    )
    return found[1] if found else "utf-8"


def _file_name(answer: Answer) -> str:
    found = re.search(r'filename="?([^";\\/]{1,128})', answer.headers.get("content-disposition", ""))
    return plain(found[1], 128) if found else ""


def _masked(value: Json, mask: Mask) -> Json:
    try:
        data = canonical(value)
    except NotJson as fault:
        raise ToolError(
            f"the server answers with a value that has no canonical form: {fault}", code="bad-result"
        ) from None
    found = mask.data(data)
    return value if found is data or found == data else cast("Json", orjson.loads(found))


# Making tools.


def import_tools(
    document: object, base_url: object, auth: Auth | None, settings: Mapping[str, Any]
) -> list[Tool]:
    """Return the tools of a document, by name.

    Args:
        document: A path, an address, or the document as a mapping.
        base_url: Where the operations are called; `None`: at the first server of the document.
        auth: The credentials (`auth.py`).
        settings: `OpenApiSettings`.

    Raises:
        ConfigError: The extra is not installed, the document cannot be read or used, or a setting is wrong.
    """
    # A wrong address is named before the package is looked for and the document is read.
    place = None if base_url is None else read_base_url(base_url)
    if find_spec("openapi_pydantic") is None:
        raise ConfigError(
            "OpenAPI documents need the package 'openapi-pydantic', which is not installed: pip install 'firmplan[openapi]'"
        )
    found = read_document(document)
    credentials = read_auth(found, auth)
    if place is not None:
        return _Import(found, place, credentials, settings, is_named=True).tools()
    place = _own_place(found, has_auth=bool(credentials))
    return _Import(found, place, credentials, settings, is_named=False).tools()


def _own_place(document: Document, *, has_auth: bool) -> str:
    """Return the first server of a document."""
    servers = document.servers()
    if not servers and is_address(document.place):
        servers = [document.place.removesuffix(urlsplit(document.place).path)]
    wanted = 'expected base_url="https://.."'
    if not servers:
        raise ConfigError(f"{document}: {wanted}, since the document names no server")
    if not is_address(servers[0]):
        raise ConfigError(f"{document}: {wanted}, since the document's server is {plain(servers[0], 100)!r}")
    place = read_base_url(servers[0])
    # Whoever writes the document would decide who gets the key.
    if has_auth and not document.place.startswith(f"{'/'.join(place.split('/')[:3])}/"):
        raise ConfigError(
            f"{document}: {wanted} beside auth: secrets go only to an address that you name, and the document says {place}"
        )
    return place


class _Import:
    """Makes the tools of one document."""

    def __init__(
        self,
        document: Document,
        base_url: str,
        credentials: Credentials,
        settings: Mapping[str, Any],
        *,
        is_named: bool,
    ) -> None:
        rest = dict(settings)
        self._is_named = is_named
        self._document = document
        self._schemas = Schemas(document)
        self._server = HttpServer(base_url)
        self._credentials = credentials
        only, tags = rest.pop("only", None), rest.pop("tags", None)
        self._choice = _Choice(
            None if only is None else read_names("only", only),
            None if tags is None else read_names("tags", tags),
            read_names("leave_out", rest.pop("leave_out", ())),
            bool(rest.pop("deprecated", True)),
        )
        self._prefix = str(rest.pop("prefix", ""))
        self._overrides = cast("Mapping[str, ToolOptions]", rest.pop("overrides", None) or {})
        self._pages = cast("Mapping[str, object]", rest.pop("pages", None) or {})
        self._slashes = read_names("path_slashes", rest.pop("path_slashes", ()))
        self._key_header = _header(rest.pop("idempotency_header", None))
        self._options = cast("ToolOptions", rest)

    def tools(self) -> list[Tool]:
        """Return the tools. Raises: ConfigError."""
        listed = list(self._document.operations())
        self._expect_known(listed)
        count = Counter(each.id for each in listed)
        left_out: dict[str, str] = {}
        # Pins go by name, so a name that two operations have stands for neither.
        read = [
            (each, replace(operation, id="") if count[operation.id] > 1 else operation)
            for each in listed
            if (operation := self._read(each, left_out)) is not None
        ]
        provider = self._provider([operation for _, operation in read])
        read = self._leave_out_others(read, left_out)
        made: dict[str, tuple[Tool, Operation]] = {}
        for each, operation in read:
            if not self._choice.takes(each):
                continue
            tool = self._tool(provider, operation, each)
            if tool.name in made:
                other = made[tool.name][1]
                raise ConfigError(
                    f"{self._document} has two operations that would be called '{tool.name}': {other.key} and {operation.key}; name one with "
                    f'overrides={{{operation.key!r}: {{"name": ".."}}}}'
                )
            made[tool.name] = tool, operation
        self._tell(left_out, is_empty=not made)
        return [made[name][0] for name in sorted(made)]

    def _read(self, listed: Listed, left_out: dict[str, str]) -> Operation | None:
        """Return an operation, or note why it is left out. Raises: ConfigError: it is wanted, and the document is at fault."""
        where = f"{self._document}, {plain(listed.key, 200)}"
        try:
            try:
                operation = read_operation(self._document, self._schemas, listed)
            except RecursionError:
                raise ConfigError(f"{where}: its parts are nested too deeply") from None
            except NotJson as fault:
                raise ConfigError(f"{where}: {fault}") from None
        except Unsupported as fault:
            if self._choice.names(listed):
                raise ConfigError(f"{where}: it cannot be a tool: {fault}") from None
            if self._choice.takes(listed):
                left_out[listed.key] = str(fault)
            return None
        except ConfigError as fault:
            # What is not wanted may be as wrong as it likes.
            if not self._choice.takes(listed):
                return None
            hint = f"; leave the operation out with leave_out=[{listed.id or listed.key!r}]"
            raise ConfigError(f"{fault}{hint}") from fault
        return operation

    def _leave_out_others(
        self, read: list[tuple[Listed, Operation]], left_out: dict[str, str]
    ) -> list[tuple[Listed, Operation]]:
        """Return the operations that are at the address of the user. Raises: ConfigError: one of the others is wanted by name."""
        # Some documents name their server beside each operation.
        count = Counter(operation.servers for _, operation in read)
        home = max(count, key=lambda servers: (count[servers], not servers), default=())
        kept: list[tuple[Listed, Operation]] = []
        for listed, operation in read:
            if operation.servers in ((), home) or self._server.base_url in operation.servers:
                kept.append((listed, operation))
                continue
            why = f"it is at another server, {plain(operation.servers[0], 100)}; make a toolset of its own with that address as base_url"
            if self._choice.names(listed):
                raise ConfigError(
                    f"{self._document}, {plain(listed.key, 200)}: it cannot be a tool here: {why}"
                )
            if self._choice.takes(listed):
                left_out[listed.key] = why
        return kept

    def _tell(self, left_out: Mapping[str, str], *, is_empty: bool) -> None:
        named = "; ".join(f"{plain(key, 100)}: {why}" for key, why in list(left_out.items())[:LEFT_OUT_TOLD])
        if is_empty:
            raise ConfigError(
                f"{self._document}: expected an operation that can be a tool, found none"
                + (f": {named}" if named else "")
            )
        if left_out:
            open_log().warning(
                "operations left out", document=str(self._document), count=len(left_out), why=named
            )

    def _expect_known(self, listed: Iterable[Listed]) -> None:
        """Raise `ConfigError` for a name that the document does not have."""
        known = list(dict.fromkeys(name for each in listed for name in (each.id, each.key) if name))
        given = {
            "only": self._choice.only or (),
            "leave_out": self._choice.leave_out,
            "overrides": tuple(self._overrides),
            "pages": tuple(self._pages),
        }
        expect_known(given, known, str(self._document), "operation")

    def _provider(self, operations: Iterable[Operation]) -> Provider:
        # An address that the document names is a word of the document: another one needs consent, like other words.
        where: dict[str, Json] = {} if self._is_named else {"server": self._server.base_url}
        says: dict[str, Mapping[str, Json]] = {
            each.name: {**each.says(self._schemas), **where} for each in operations
        }
        source = self._document.place
        # A file is told by its name alone, so that a project that is moved keeps its pins.
        name = source if is_address(source) else PurePath(source).name
        place = self._server.base_url if self._is_named else ""
        key = digest(canonical(["openapi", place, name or self._document.title]))
        return Provider(
            KIND, self._document.title, self._server.base_url, key, {**self._schemas.says(), **says}
        )

    def _of(self, table: Mapping[str, Any], operation: Operation, listed: Listed) -> Any:  # noqa: ANN401  # of any table
        """Return what a table says of an operation, by its key or its id; `None`: nothing."""
        return table.get(operation.key, table.get(listed.id) if listed.id else None)

    def _tool(self, provider: Provider, operation: Operation, listed: Listed) -> Tool:
        where = f"{self._document}, {plain(operation.key, 200)}"
        options = cast(
            "ToolOptions", {**self._options, **(self._of(self._overrides, operation, listed) or {})}
        )
        pages = None
        if (given := self._of(self._pages, operation, listed)) is not None:
            pages = read_pages(operation, given)
        name = options.get("name") or valid_name(f"{self._prefix}{listed.id or _made_name(operation)}")
        key_header = operation.key_header or (self._key_header if operation.effect is Effect.WRITE else None)
        settings: ToolOptions = {
            "trust": "untrusted",
            "timeout": TIMEOUT,
            "effect": operation.effect.value,
            **options,
        }
        is_write = settings.get("effect") == "write"
        if is_write:
            settings.setdefault("idempotent", operation.is_idempotent or key_header is not None)
        slashes = self._slashes_of(operation, listed, str(name))
        decides: dict[str, object] = {
            "openapi": operation.wire(),
            "server": self._server.base_url,
            "auth": [each.decides() for each in self._credentials.needed(operation)],
            "pages": None if pages is None else asdict(pages),
            "key_header": None if key_header is None else key_header.name,
            "slashes": sorted(slashes),
        }
        fn = RemoteOperation(
            self._server,
            operation,
            self._credentials,
            effect=Effect(str(settings.get("effect")))
            if settings.get("effect") in set(Effect)
            else Effect.WRITE,
            is_idempotent=bool(settings.get("idempotent")),
            key_header=key_header if is_write else None,
            pages=pages,
            slashes=slashes,
        )
        return make_provided_tool(
            fn,
            ProvidedTool(provider, operation.name, operation.description),
            where=where,
            types=self._types(where, operation, pages),
            version=self._document.version,
            decides=decides,
            settings={**settings, "name": str(name)},
        )

    def _types(self, where: str, operation: Operation, pages: Pages | None) -> SchemaTypes:
        parameters, returns = dict(operation.parameters), operation.returns
        if pages is not None:
            returns = schema_of_items(self._schemas, returns, pages)
            if (argument := argument_of(operation, pages.argument)) is not None:
                properties = cast("dict[str, Json]", parameters["properties"])
                parameters["properties"] = {
                    key: each for key, each in properties.items() if key != argument.name
                }
                needed = cast("list[Json]", parameters.get("required", []))
                parameters["required"] = [each for each in needed if each != argument.name]
        sent = self._schemas.self_contained(parameters, "sent")
        received = None if returns is None else self._schemas.self_contained(returns, "received")
        try:
            return SchemaTypes(where, sent, received, CONTEXT)
        except ConfigError:
            # The type of a result is advice; without one, the result may be anything.
            return SchemaTypes(where, sent, None, CONTEXT)

    def _slashes_of(self, operation: Operation, listed: Listed, name: str) -> frozenset[str]:
        wanted = set(self._slashes)
        return frozenset(
            each.name
            for each in operation.arguments
            if each.place == "path"
            and wanted
            & {each.name, each.sent, *(f"{of}.{each.name}" for of in (listed.id, operation.key, name))}
        )


def _made_name(operation: Operation) -> str:
    """Return a name for an operation without an id: `GET /pets/{id}` becomes `get_pets_id`."""
    return re.sub(r"[^a-z0-9]+", "_", operation.key.lower()).strip("_")


def _header(given: object) -> KeyHeader | None:
    if given is None:
        return None
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", given):
        raise ConfigError(
            f"idempotency_header: expected the name of a header such as Idempotency-Key, found {given!r}"
        )
    return KeyHeader(given)
