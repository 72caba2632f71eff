"""OAuth for MCP servers at an address: the login of a person, the tokens that it gave, and their refresh.

The SDK's client provider speaks the protocol: discovery, registration, PKCE, refresh. This module adds where the tokens are kept (a file
that only its owner reads, or the keyring), the page on loopback to which the person's browser comes back, and what a program without a
person does: it uses and refreshes what `firmplan tools login` has kept, and otherwise says that a login is needed.

- The SDK forgets when a token expires and where it is refreshed, once the process ends. Both are kept here beside the token.
- Two processes must not refresh a token at once, since most servers let a refresh token be used once: a file lock orders them.
- A server names the addresses of its login. Unencrypted ones, and ones on this machine of a server that is elsewhere, are refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import httpx2
from filelock import FileLock
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.shared.auth import (
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from pydantic import AnyUrl, BaseModel, ValidationError
from typing_extensions import override

from ...errors import ConfigError
from ..private_file import private_opener
from ..provider import plain, plain_error
from .listing import Listing, read_listing

Model = TypeVar("Model", bound=BaseModel)

LOGIN_S: Final = 300.0
"""Seconds in which the person has to log in."""
LOCK_S: Final = 30.0
"""Seconds for which another process's refresh is waited for."""
CALLBACK: Final = "/callback"
REQUEST_BYTES_MAX: Final = 16 * 1024
"""Of a request that comes to the page on loopback."""
FOLDER_MODE: Final = 0o700
DONE_PAGE: Final = "<!doctype html><title>firmplan</title><p>The login is done. You can close this page."
FAILED_PAGE: Final = (
    "<!doctype html><title>firmplan</title><p>The login was refused. You can close this page."
)

# The SDK logs each login that cannot be carried out with a traceback; the error that is raised says it, too.
logging.getLogger("mcp.client.auth.oauth2").addHandler(logging.NullHandler())


class OAuthSettings(TypedDict, total=False):
    """What `oauth=` of `Toolset.from_mcp` may say beside `True`.

    Attributes:
        file: The file of the tokens; without it one a server, in the user's folder of settings.
        keyring: `SERVICE/USER` in the system's keyring, in the place of a file.
        client_id: Of a client that is registered already; without it firmplan registers itself.
        client_secret: Its secret, if it has one.
        port: Of the page on loopback; without it a free one.
    """

    file: str | os.PathLike[str]
    keyring: str
    client_id: str
    client_secret: str
    port: int


@dataclass(frozen=True, slots=True)
class OAuth:
    """How a server is logged in to. Arguments: as of `OAuthSettings`."""

    file: str | None = None
    keyring: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    port: int = 0

    @classmethod
    def of(cls, given: object) -> OAuth | None:
        """Read `oauth=`. Raises: ConfigError: it is none."""
        if given is None or given is False:
            return None
        if given is True:
            return cls()
        known = OAuthSettings.__annotations__
        if not isinstance(given, dict) or not set(cast("dict[str, Any]", given)) <= set(known):
            raise ConfigError(
                f"oauth: expected True, or a table with some of {', '.join(known)}, found {given!r}"
            )
        settings = dict(cast("dict[str, Any]", given))
        if "file" in settings:
            settings["file"] = os.fspath(settings["file"])
        if not all(isinstance(settings[name], int if name == "port" else str) for name in settings):
            raise ConfigError("oauth: expected texts, and a number as port")
        made = cls(**settings)
        if made.file and made.keyring:
            raise ConfigError("oauth: expected one of file and keyring, found both")
        if made.keyring is not None and not all(made.keyring.partition("/")):
            raise ConfigError(f"oauth: keyring: expected SERVICE/USER, found {made.keyring!r}")
        if made.client_secret and not made.client_id:
            raise ConfigError("oauth: client_secret is that of a client_id; name it too")
        return made

    @property
    def decides(self) -> str:
        """What may decide a result: another place of tokens is another person's login."""
        return self.file or self.keyring or ""

    def place(self, url: str) -> Tokens:
        """Return where the tokens for a server are kept."""
        if self.keyring is not None:
            return KeyringTokens(self.keyring)
        return FileTokens(Path(self.file) if self.file else _default_file(url))


def _default_file(url: str) -> Path:
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    parts = urlsplit(url)
    name = "".join(char if char.isalnum() or char in ".-" else "_" for char in parts.hostname or "server")
    return config / "firmplan" / "mcp" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}.json"


# --- where tokens are kept


class Tokens(ABC):
    """The tokens for one server, as one JSON document."""

    def read(self) -> dict[str, Any]:
        """Return what is kept; empty: nothing."""
        text = self.text()
        if not text:
            return {}
        with suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, dict):
                return cast("dict[str, Any]", found)
        raise ConfigError(f"{self}: expected tokens as firmplan has written them; log in again")

    def write(self, kept: dict[str, Any]) -> None:
        """Keep this in the place of what was kept."""
        self.keep(json.dumps(kept, indent=1))

    @abstractmethod
    def text(self) -> str:
        """Return the document; empty: there is none."""
        ...

    @abstractmethod
    def keep(self, text: str) -> None:
        """Replace the document."""
        ...

    @abstractmethod
    def remove(self) -> bool:
        """Remove the document; return whether there was one."""
        ...

    @property
    @abstractmethod
    def lock_path(self) -> Path:
        """The file by which processes take turns."""
        ...


class FileTokens(Tokens):
    """Tokens in a file that its owner alone can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @property
    @override
    def lock_path(self) -> Path:
        self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return self._path.with_name(self._path.name + ".lock")

    @override
    def text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self}: the tokens cannot be read: {error}") from error

    @override
    def keep(self, text: str) -> None:
        # A new file takes the old one's place in one step, and is its owner's alone from the beginning.
        made = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            made.unlink(missing_ok=True)
            with open(made, "w", encoding="utf-8", opener=private_opener) as file:  # a `Path` takes no opener
                file.write(text)
            made.replace(self._path)
        except OSError as error:
            raise ConfigError(f"{self}: the tokens cannot be kept: {error}") from error

    @override
    def remove(self) -> bool:
        was_there = self._path.exists()
        self._path.unlink(missing_ok=True)
        return was_there


class KeyringTokens(Tokens):
    """Tokens in the keyring of the system."""

    def __init__(self, entry: str) -> None:
        self._service, _, self._user = entry.partition("/")

    def __str__(self) -> str:
        return f"the keyring's {self._service}/{self._user}"

    @property
    @override
    def lock_path(self) -> Path:
        path = _default_file(f"keyring:{self._service}/{self._user}")
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return path.with_suffix(".lock")

    def _do(self, what: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # what the keyring returns
        try:
            import keyring  # noqa: PLC0415  # an extra
            from keyring.errors import KeyringError  # noqa: PLC0415
        except ModuleNotFoundError:
            raise ConfigError(
                "the package keyring is not installed: pip install 'firmplan[keyring]'"
            ) from None
        try:
            return what(keyring)
        except KeyringError as error:
            raise ConfigError(f"{self} cannot be used: {error}") from None

    @override
    def text(self) -> str:
        return (
            cast("str | None", self._do(lambda keyring: keyring.get_password(self._service, self._user)))
            or ""
        )

    @override
    def keep(self, text: str) -> None:
        self._do(lambda keyring: keyring.set_password(self._service, self._user, text))

    @override
    def remove(self) -> bool:
        was_there = bool(self.text())
        if was_there:
            self._do(lambda keyring: keyring.delete_password(self._service, self._user))
        return was_there


class _Kept:
    """What the SDK keeps, and beside it what it would forget: when the token expires, and where it is refreshed."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.provider: OAuthClientProvider | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return _read(OAuthToken, self.tokens.read().get("tokens"))

    async def set_tokens(self, tokens: OAuthToken) -> None:
        context = cast("OAuthClientProvider", self.provider).context
        resource, server = context.protected_resource_metadata, context.oauth_metadata
        self._change(
            tokens=tokens.model_dump(mode="json"),
            expires_at=context.token_expiry_time,
            authorization_server=None if server is None else server.model_dump(mode="json"),
            resource=None if resource is None else resource.model_dump(mode="json"),
        )

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return _read(OAuthClientInformationFull, self.tokens.read().get("client"))

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._change(client=client_info.model_dump(mode="json"))

    def _change(self, **changes: Any) -> None:  # noqa: ANN401  # JSON
        self.tokens.write({**self.tokens.read(), **changes})


def _read(kind: type[Model], given: object) -> Model | None:
    if given is None:
        return None
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"the tokens cannot be read: {plain(str(error), 200)}; log in again") from error


# --- the provider


class Login(OAuthClientProvider):
    """The SDK's provider with kept tokens.

    Args:
        url: The server.
        oauth: How it is logged in to.
        page: The page to which a person's browser comes back; `None`: nobody is here, and a login that is needed is an error.
        show: Called with the address that the person has to open.
    """

    def __init__(
        self,
        url: str,
        oauth: OAuth,
        page: _Page | None = None,
        show: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._place = oauth.place(url)
        kept = _Kept(self._place)
        self._url = url
        redirect = AnyUrl(page.address if page is not None else f"http://127.0.0.1:1{CALLBACK}")
        if oauth.client_id is not None:
            self._register(oauth, redirect)

        async def redirected(address: str) -> None:
            _expect_safe(address, url)
            if page is None:
                raise _login_needed(url)
            show(address)

        async def called_back() -> AuthorizationCodeResult:
            return await cast("_Page", page).result()

        super().__init__(
            url,
            OAuthClientMetadata(redirect_uris=[redirect], client_name="firmplan"),
            kept,
            redirect_handler=redirected,
            callback_handler=called_back,
        )
        kept.provider = self
        self._known: dict[str, Any] = {}

    def _register(self, oauth: OAuth, redirect: AnyUrl) -> None:
        """Keep the client that is registered already."""
        client = OAuthClientInformationFull(
            client_id=oauth.client_id or "",
            client_secret=oauth.client_secret,
            redirect_uris=[redirect],
            token_endpoint_auth_method="client_secret_post" if oauth.client_secret else "none",  # a method
        )
        kept = self._place.read()
        self._place.write({**kept, "client": client.model_dump(mode="json")})

    @override
    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Authenticate a request with what is kept now; another process may have refreshed it."""
        self._load()
        if self.context.is_token_valid():
            # The SDK's flow lets one request after the other wait for its answer; calls of a plan run concurrently.
            tokens = cast("OAuthToken", self.context.current_tokens)
            request.headers["Authorization"] = f"Bearer {tokens.access_token}"
            response = yield request
            if response.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                return
        refreshes = not self.context.is_token_valid() and self.context.can_refresh_token()
        async with self._turn() if refreshes else nullcontext():
            flow = super().async_auth_flow(request)
            try:
                outgoing = await anext(flow)
                while True:
                    response = yield self._checked(outgoing, request)
                    outgoing = await flow.asend(response)
            except StopAsyncIteration:
                return
            finally:
                await flow.aclose()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Keep other processes from refreshing the token, and take over what one of them has kept meanwhile."""
        lock = FileLock(self._place.lock_path, thread_local=False)
        await asyncio.to_thread(lock.acquire, timeout=LOCK_S)
        try:
            self._load()
            yield
        finally:
            lock.release()

    def _checked(self, outgoing: httpx2.Request, request: httpx2.Request) -> httpx2.Request:
        if outgoing is not request:
            _expect_safe(str(outgoing.url), self._url)
        return outgoing

    def _load(self) -> None:
        """Take over what is kept, if it has changed."""
        kept = self._place.read()
        if kept == self._known:
            return
        self._known, context = kept, self.context
        context.current_tokens = _read(OAuthToken, kept.get("tokens"))
        context.client_info = _read(OAuthClientInformationFull, kept.get("client"))
        context.token_expiry_time = kept.get("expires_at")
        context.oauth_metadata = _read(OAuthMetadata, kept.get("authorization_server"))
        context.protected_resource_metadata = _read(ProtectedResourceMetadata, kept.get("resource"))
        resource = context.protected_resource_metadata
        if resource is not None and resource.authorization_servers:
            context.auth_server_url = str(resource.authorization_servers[0])


def expect_login(url: str, oauth: OAuth) -> None:
    """Return if tokens for a server are kept. Raises: ConfigError: a person has to log in first."""
    if not oauth.place(url).read().get("tokens"):
        raise _login_needed(url)


def _login_needed(url: str) -> ConfigError:
    shown = urlsplit(url)._replace(query="", fragment="").geturl()
    return ConfigError(f"the MCP server {shown} wants a person to log in: firmplan tools login {shown}")


def _expect_safe(address: str, server: str) -> None:
    """Return if an address of a login may be asked. Raises: ConfigError: it is unencrypted, or on this machine though the server is not."""
    parts = urlsplit(address)
    here, there = _is_here(parts.hostname or ""), _is_here(urlsplit(server).hostname or "")
    if here and there:
        return
    if parts.scheme != "https" or here:
        shown = plain(parts._replace(query="", fragment="").geturl(), 200)
        raise ConfigError(
            f"the MCP server {server} names {shown} for its login: expected an https address that is not on this machine"
        )


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified or address.is_link_local


# --- the login of a person


class _Page:
    """The page on loopback to which the browser of a person comes back with the code."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}{CALLBACK}"
        self._result: asyncio.Future[AuthorizationCodeResult] = asyncio.get_running_loop().create_future()

    async def result(self) -> AuthorizationCodeResult:
        """Return what the browser brought. Raises: ConfigError: the login was refused, or nobody came in time."""
        try:
            async with asyncio.timeout(LOGIN_S):
                return await self._result
        except TimeoutError:
            raise ConfigError(f"nobody has logged in within {LOGIN_S:g} s; log in again") from None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with suppress(OSError, asyncio.LimitOverrunError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(LOGIN_S):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status, body = self._answer(head.partition("\r\n")[0])
                data = body.encode()
                headers = (
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/html; charset=utf-8\r\n"
                    f"Content-Length: {len(data)}\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
                )
                writer.write(headers.encode() + data)
                await writer.drain()
        writer.close()

    def _answer(self, line: str) -> tuple[HTTPStatus, str]:
        method, _, rest = line.partition(" ")
        address = urlsplit(rest.rpartition(" ")[0])
        if method != "GET" or address.path != CALLBACK:
            return HTTPStatus.NOT_FOUND, ""
        given = {name: values[0] for name, values in parse_qs(address.query).items()}
        if self._result.done():
            return HTTPStatus.GONE, ""
        if "error" in given:
            why = plain(f"{given['error']} {given.get('error_description', '')}".strip(), 200)
            self._result.set_exception(ConfigError(f"the login was refused: {why}"))
            return HTTPStatus.OK, FAILED_PAGE
        if "code" not in given:
            return HTTPStatus.BAD_REQUEST, ""
        self._result.set_result(
            AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))
        )
        return HTTPStatus.OK, DONE_PAGE


@asynccontextmanager
async def login_page(url: str, oauth: OAuth) -> AsyncGenerator[_Page]:
    """Yield the page on loopback, open as long as the block lasts.

    A client that was registered at an earlier login has the port of that time, since many servers compare it. If that port is taken, the
    client is registered anew.
    """
    place = oauth.place(url)
    kept = place.read()
    client = _read(OAuthClientInformationFull, kept.get("client"))
    known = [urlsplit(str(each)).port for each in (client.redirect_uris or [])] if client else []
    wanted = oauth.port or (known[0] if known else None) or 0
    pages: list[_Page] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pages[0].serve(reader, writer)

    try:
        server = await asyncio.start_server(serve, "127.0.0.1", wanted, limit=REQUEST_BYTES_MAX)
    except OSError as error:
        if oauth.port or oauth.client_id:
            raise ConfigError(f"cannot listen on 127.0.0.1:{wanted} for the login: {error}") from error
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=REQUEST_BYTES_MAX)
    port: int = server.sockets[0].getsockname()[1]
    if client is not None and port not in known and oauth.client_id is None:
        place.write({name: value for name, value in kept.items() if name not in ("client", "tokens")})
    pages.append(_Page(port))
    async with server:
        yield pages[0]


async def log_in(url: str, oauth: OAuth, show: Callable[[str], None]) -> tuple[Listing, bool]:
    """Have a person log in to a server, keep the tokens, and return what the server lists, and whether it asked for a login.

    Args:
        url: The server.
        oauth: Where the tokens are kept, and as which client.
        show: Called with the address that the person has to open in a browser.

    Raises:
        ConfigError: The login was refused or took too long, or the server cannot be reached.
    """
    from mcp import Client  # noqa: PLC0415  # the SDK's client: only for a login

    from .session import Address, innermost  # noqa: PLC0415  # it loads this module

    is_asked = False

    def shown(address: str) -> None:
        nonlocal is_asked
        is_asked = True
        show(address)

    async with login_page(url, oauth) as page:
        target = Address(url, {}, oauth, auth=lambda: Login(url, oauth, page, shown))
        try:
            async with Client(target.connect(), cache=None) as client:
                return await read_listing(client), is_asked
        except BaseException as error:
            if (inner := innermost(error)) is error or not isinstance(inner, Exception):
                raise
            raise (
                inner
                if isinstance(inner, ConfigError)
                else ConfigError(f"the login to {target} failed: {plain_error(inner)}")
            ) from error
