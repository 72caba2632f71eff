"""Credentials of a server: which secret is sent where. Values are read at each call, and never leave this folder but in a request.

A credential is written as a mapping, in Python and in `firmplan.toml` alike:

    {"bearer": SECRET}                            Authorization: Bearer ..
    {"basic": SECRET}                             the secret is `user:password`
    {"basic": SECRET, "user": "ann"}              the secret is the password
    {"header": "X-Key", "secret": SECRET}         also `query` and `cookie`
    {"schemes": {"name in the document": SECRET}} as the document says: API key, bearer or basic

A list of these sends all of them. SECRET is a `Secret`, or its fields as a mapping: `{"env": "PETS_KEY"}`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias, cast

from ...errors import ConfigError, ToolError
from ...plans.reports.nearest import listing
from ...plans.values import Json
from ..logbook import masked_text, masked_value
from ..provider import plain
from ..secret import Secret
from .document import Document, as_object
from .operation import TOKEN, Operation, parsed_as
from .request import Request, encoded, header_value

Auth: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Place: TypeAlias = Literal["header", "query", "cookie"]

_PLACES: Final[tuple[Place, ...]] = ("header", "query", "cookie")
_SECRET_FIELDS: Final = frozenset(each.name for each in fields(Secret)) - {"tools"}


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret, and how it is sent.

    Attributes:
        kind: `bearer` and `basic` are forms of the header `Authorization`.
        name: Of the header, parameter or cookie.
        user: For `basic`: the user; `None`: it is part of the secret.
        scheme: The scheme of the document that it satisfies; empty: it is sent with every call.
    """

    kind: Literal["bearer", "basic", "header", "query", "cookie"]
    secret: Secret
    name: str = ""
    user: str | None = None
    scheme: str = ""

    def decides(self) -> Json:
        """Return what may decide a result, without the secret: where it comes from, and where it goes."""
        source = {
            name: str(value)
            for name in sorted(_SECRET_FIELDS)
            if (value := getattr(self.secret, name)) is not None
        }
        return [self.kind, self.name, self.user, self.scheme, cast("Json", source)]

    @property
    def label(self) -> str:
        """The name that stands for the value where it would be written down."""
        return self.secret.env or self.scheme or self.name or self.kind


class Credentials:
    """The credentials of one server.

    Args:
        credentials: All of them.
    """

    def __init__(self, credentials: Sequence[Credential]) -> None:
        self._all = tuple(credentials)

    def __bool__(self) -> bool:
        return bool(self._all)

    def decides(self) -> Json:
        """Return what may decide a result, without the secrets."""
        return [each.decides() for each in self._all]

    def needed(self, operation: Operation) -> tuple[Credential, ...]:
        """Return the credentials that are sent with an operation: those for every call, and those of the first alternative that can be satisfied."""
        always = tuple(each for each in self._all if not each.scheme)
        by_scheme = {each.scheme: each for each in self._all if each.scheme}
        for alternative in operation.security:
            if all(name in by_scheme for name in alternative):
                return always + tuple(by_scheme[name] for name in alternative)
        return always

    def missing(self, operation: Operation) -> str:
        """Return what the operation asks for and `auth` has not, for the message of a server that lets nobody in; empty: nothing."""
        wanted = [" with ".join(map(repr, each)) for each in operation.security if each]
        if self.needed(operation) or not wanted:
            return ""
        shown = plain(" or ".join(wanted), 200)
        return f"; the document asks for {shown}, and `auth` has nothing for it"


def read_auth(document: Document, given: object) -> Credentials:
    """Return the credentials that are written down.

    Args:
        document: Says how its schemes are sent.
        given: The mapping, a list of mappings, or `None`.

    Raises:
        ConfigError: It is none of these; the message shows no value.
    """
    if given is None:
        return Credentials(())
    if isinstance(given, Mapping):
        return Credentials(_read(document, cast("Mapping[str, object]", given)))
    if isinstance(given, list | tuple):
        every = cast("Sequence[object]", given)
        return Credentials([made for each in every for made in _read(document, each)])
    raise _unlike(f"found {_kind(given)}")


def _unlike(found: str) -> ConfigError:
    return ConfigError(
        f'auth: expected a mapping such as {{"bearer": Secret(env="APITOKEN")}} or {{"header": "X-Key", "secret": Secret(..)}}, {found}'
    )


def _read(document: Document, given: object) -> list[Credential]:
    if not isinstance(given, Mapping):
        raise _unlike(f"found a list with {_kind(given)}")
    table = cast("Mapping[str, object]", given)
    keys = set(table)
    if keys == {"bearer"}:
        return [Credential("bearer", _secret("bearer", table["bearer"]))]
    if keys in ({"basic"}, {"basic", "user"}):
        user = table.get("user")
        if user is not None and (not isinstance(user, str) or ":" in user):
            raise ConfigError("auth: user: expected text without ':'")
        return [Credential("basic", _secret("basic", table["basic"]), user=user)]
    for place in _PLACES:
        if keys == {place, "secret"}:
            name = table[place]
            if not isinstance(name, str) or not TOKEN.match(name):
                raise ConfigError(f"auth: {place}: expected a name such as X-Api-Key")
            return [Credential(place, _secret("secret", table["secret"]), name)]
    if keys == {"schemes"} and isinstance(table["schemes"], Mapping):
        schemes = cast("Mapping[str, object]", table["schemes"])
        return [_of_scheme(document, name, secret) for name, secret in schemes.items()]
    raise _unlike(f"found the keys {listing(sorted(map(str, keys)))}")


def _secret(key: str, given: object) -> Secret:
    kind = _kind(given)
    if isinstance(given, Secret):
        return given
    table = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else None
    if table is not None and set(table) <= _SECRET_FIELDS:
        return Secret(**table)
    raise ConfigError(
        f'auth: {key}: expected a Secret, or a mapping such as {{"env": "APITOKEN"}}, found {kind}'
    )


def _kind(given: object) -> str:
    # A text here may be the secret itself, so that it is not shown.
    return "text (not shown)" if isinstance(given, str) else given.__class__.__name__


def _of_scheme(document: Document, name: str, given: object) -> Credential:
    """Return the credential for a scheme of the document."""
    from openapi_pydantic.v3.v3_1 import SecurityScheme  # noqa: PLC0415  # an extra

    known = as_object(as_object(document.root.get("components")).get("securitySchemes"))
    if name not in known:
        raise ConfigError(
            f"auth: schemes: {document} has no security scheme '{name}'; it has {plain(listing(list(known)), 300)}"
        )
    raw = document.follow(known[name], f"security scheme {plain(name, 60)!r}")
    kept = {key: raw[key] for key in ("type", "name", "in", "scheme") if key in raw}
    scheme = parsed_as(SecurityScheme, kept, f"{document}, security scheme {plain(name, 60)!r}")
    secret = _secret(f"schemes.{name}", given)
    kind = scheme.type.lower(), (scheme.scheme or "").lower()
    if kind == ("http", "bearer") or kind[0] in ("oauth2", "openidconnect"):
        return Credential("bearer", secret, scheme=name)
    if kind == ("http", "basic"):
        return Credential("basic", secret, scheme=name)
    place = scheme.security_scheme_in
    if kind[0] == "apikey" and place in _PLACES and TOKEN.match(scheme.name or ""):
        return Credential(place, secret, scheme.name or "", scheme=name)
    raise ConfigError(
        f"auth: schemes: the scheme '{name}' is {plain(' '.join(filter(None, kind)), 60)}, which firmplan does not speak; get a token in your own way, "
        'and hand it over as {"bearer": ..} or {"header": .., "secret": ..}'
    )


class Mask:
    """The secrets of one call, to be masked in everything that comes of it."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def add(self, label: str, value: str) -> None:
        """Add a value, and the label that replaces it."""
        while label in self._values and self._values[label] != value:
            label = f"{label}'"
        self._values[label] = value

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        return masked_text(text, self._values) if self._values else text

    def data(self, canonical: bytes) -> bytes:
        """Return a canonical value without the secrets."""
        return masked_value(canonical, self._values) if self._values else canonical


def apply(credentials: Iterable[Credential], request: Request, mask: Mask) -> None:
    """Add credentials to a request.

    Args:
        credentials: Those that the operation needs.
        request: Is changed.
        mask: Gets the values.

    Raises:
        ToolError: A secret is not there, or cannot be sent (`no-secret`); the message shows no value.
    """
    for each in credentials:
        try:
            value = each.secret.read()
        except LookupError as fault:
            raise ToolError(
                f"the secret of the server ({each.kind}) is not set: {fault.args[0]}", code="no-secret"
            ) from None
        mask.add(each.label, value)
        match each.kind:
            case "bearer":
                request.headers["Authorization"] = f"Bearer {_sent(value, each)}"
            case "basic":
                pair = value if each.user is None else f"{each.user}:{value}"
                if each.user is None and ":" not in pair:
                    pair += ":"  # a key that is the user, without a password
                spelled = base64.b64encode(pair.encode()).decode()
                mask.add(each.label, spelled)
                request.headers["Authorization"] = f"Basic {spelled}"
            case "header":
                request.headers[each.name] = _sent(value, each)
            case "query":
                mask.add(each.label, encoded(value))
                request.query.append((each.name, encoded(value)))
            case "cookie":
                mask.add(each.label, encoded(value))
                request.cookies.append((each.name, encoded(value)))


def _sent(value: str, credential: Credential) -> str:
    return header_value(value, f"the secret of the server ({credential.kind})")
