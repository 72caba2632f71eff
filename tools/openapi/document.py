"""`Document`: an OpenAPI document of version 3, read from a file, an address or a mapping, with the operations that it lists.

A document may be anyone's. Its size and its depth are bounded, references stay inside it, and nothing in it is fetched. The module knows
what stands where, and nothing of what a schema or a parameter means.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote, urljoin

import orjson

from ...errors import ConfigError
from ...plans.format.source import SourceError
from ...plans.values import Json, NotJson, canonical
from ..provider import is_address, plain, shown_name
from ..remote.web_page import shown_address

DOCUMENT_BYTES_MAX: Final = 64 * 1024 * 1024  # the largest public documents have some 15 MB
YAML_BYTES_MAX: Final = 16 * 1024 * 1024  # YAML is read a hundred times more slowly than JSON
OPERATIONS_MAX: Final = 5_000  # of one document: large public ones have some 1,200
REFERENCES_MAX: Final = 16  # references that lead to references
FETCH_S: Final = 30.0  # until a document at an address has come
METHODS: Final = ("get", "head", "options", "post", "put", "patch", "delete")
KIND: Final = "OpenAPI document"

Object: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Route:
    """Which operation it is.

    Attributes:
        key: Its method and path: `GET /pets/{id}`.
    """

    key: str

    @property
    def method(self) -> str:
        """The HTTP method, in capitals."""
        return self.key.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path with its `{parameters}`."""
        return self.key.partition(" ")[2]


@dataclass(frozen=True, slots=True)
class Listed(Route):
    """An operation where it stands in a document.

    Attributes:
        item: The path item around it.
        operation: The operation object.
    """

    item: Object
    operation: Object

    @property
    def id(self) -> str:
        """Its `operationId`; empty if it has none."""
        found = self.operation.get("operationId")
        return found if isinstance(found, str) else ""


class Document:
    """An OpenAPI document.

    Args:
        root: The whole document.
        place: Where it was found, for people: a file, an address, or empty.

    Raises:
        ConfigError: It is no OpenAPI document of version 3.
    """

    def __init__(self, root: Object, place: str) -> None:
        self.root = root
        self.place = place
        info = as_object(root.get("info"))
        self.title = shown_name(_text(info.get("title"))) or "unnamed"
        self.version = shown_name(_text(info.get("version")))
        self.is_3_0 = _version(root, str(self)) == "3.0"

    def __str__(self) -> str:
        return f"the {KIND} '{self.title}'" + (f" ({self.place})" if self.place else "")

    def at(self, ref: str) -> Json:
        """Return what a reference names.

        Raises:
            ConfigError: It names nothing in this document.
        """
        if not ref.startswith("#"):
            raise ConfigError(
                f"{self}: expected references inside the document, found {plain(ref, 100)!r}; join the files into one document first (a bundler "
                "such as `redocly bundle` does it)"
            )
        found: Json = cast("Json", self.root)
        for part in ref[1:].split("/")[1:] if ref != "#" else ():
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise ConfigError(f"{self}: the reference {plain(ref, 200)!r} leads to nothing")
        if ref[1:2] not in ("", "/"):
            raise ConfigError(f"{self}: the reference {plain(ref, 200)!r} is no path in the document")
        return found

    def follow(self, value: Json, where: str) -> Object:
        """Return an object, or the one that its reference leads to.

        Args:
            value: An object of the document: a parameter, a response, a path item.
            where: Its place, for messages.

        Raises:
            ConfigError: It is no object, or the reference leads to nothing or in a circle.
        """
        found = value
        for _ in range(REFERENCES_MAX):
            if not isinstance(found, Mapping):
                raise ConfigError(f"{self}: {where}: expected an object, found {plain(repr(found), 60)}")
            ref = found.get("$ref")
            if not isinstance(ref, str):
                return found
            found = self.at(ref)
        raise ConfigError(f"{self}: {where}: a reference leads in a circle")

    def operations(self) -> Iterator[Listed]:
        """Yield the operations, in the order of the document.

        Raises:
            ConfigError: There is none, there are too many, or what stands there is none.
        """
        count = 0
        for path, value in as_object(self.root.get("paths")).items():
            if not path.startswith("/"):  # `x-..`
                continue
            item = self.follow(value, f"path {plain(path, 100)!r}")
            for method in METHODS:
                if (operation := item.get(method)) is None:
                    continue
                count += 1
                key = f"{method.upper()} {path}"
                if not isinstance(operation, Mapping):
                    raise ConfigError(f"{self}: {plain(key, 200)}: expected an operation, found no object")
                if count > OPERATIONS_MAX:
                    raise ConfigError(f"{self}: expected at most {OPERATIONS_MAX} operations, found more")
                yield Listed(key, item, operation)
        if not count:
            raise ConfigError(f"{self}: expected operations under `paths`, found none")

    def servers(self) -> list[str]:
        """Return the addresses of the document's own servers, with the defaults of their variables; relative ones as addresses if the document has one."""
        return self.addresses(self.root.get("servers"))

    def addresses(self, servers: Json) -> list[str]:
        """Return the addresses of a list of servers."""
        given = servers if isinstance(servers, list) else []
        return [self._address(as_object(each)) for each in given if isinstance(each, Mapping)]

    def _address(self, server: Object) -> str:
        variables = as_object(server.get("variables"))

        def default(found: re.Match[str]) -> str:
            return _text(as_object(variables.get(found[1])).get("default")) or found[0]

        url = re.sub(r"\{([^{}]*)\}", default, _text(server.get("url")))
        if is_address(self.place):
            return urljoin(self.place, url).rstrip("/")
        return (f"https:{url}" if url.startswith("//") else url).rstrip("/")


def read_document(source: object) -> Document:
    """Return a document.

    Args:
        source: A file's path, an `http(s)://` address, or the document as a mapping.

    Raises:
        ConfigError: There is none, it is too large, no JSON or YAML, or no OpenAPI document of version 3.
    """
    kind = type(source).__name__
    if isinstance(source, Mapping):
        try:
            # Copied, and so known to be JSON of bounded depth without a circle.
            root = orjson.loads(orjson.dumps(dict(cast("Mapping[str, Any]", source))))
        except orjson.JSONEncodeError as fault:
            raise ConfigError(f"expected an {KIND} that is JSON, but {fault}") from fault
        return _document(root, "")
    if isinstance(source, str) and is_address(source):
        return _document(_read(_fetched(source), source), source)
    if not isinstance(source, str | PathLike) or not os.fspath(cast("str", source)):
        raise ConfigError(f"expected an {KIND}: a path, an address or a mapping, found {kind}")
    path = Path(cast("str | PathLike[str]", source))
    try:
        if (size := path.stat().st_size) > DOCUMENT_BYTES_MAX:
            raise _too_large(str(path), size, DOCUMENT_BYTES_MAX)
        data = path.read_bytes()
    except OSError as fault:
        raise ConfigError(
            f"{path}: expected an {KIND}, but the file cannot be read: {fault.strerror}; now in {Path.cwd()}"
        ) from fault
    return _document(_read(data, str(path)), str(path))


def as_object(value: Json) -> Object:
    """Return a value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _document(root: Json, place: str) -> Document:
    if not isinstance(root, Mapping):
        raise ConfigError(
            f"{place or 'the document'}: expected an {KIND}, found {plain(repr(root), 60)}, which is no object"
        )
    return Document(root, place)


def _version(root: Object, where: str) -> str:
    """Return the version in two numbers. Raises: ConfigError: it is none that is read here."""
    if "swagger" in root:
        raise ConfigError(
            f"{where}: expected OpenAPI 3, found Swagger {plain(str(root['swagger']), 20)}; convert the document first (`swagger2openapi` does it)"
        )
    found = _text(root.get("openapi"))
    short = ".".join(found.split(".")[:2])
    # Documents of 3.2 are those of 3.1 with more in them; what is new there is not read.
    if short not in ("3.0", "3.1", "3.2"):
        said = plain(found, 20) if found else "no `openapi` key"
        raise ConfigError(f'{where}: expected `"openapi": "3.0.x"` or `"3.1.x"`, found {said}')
    return short


def _read(data: bytes, place: str) -> Json:
    """Return the value of a JSON or YAML text."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise _too_large(place, len(data), DOCUMENT_BYTES_MAX)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise ConfigError(f"{place}: expected an {KIND} in UTF-8, but {fault}") from fault
    if text.lstrip()[:1] in ("{", "["):
        try:
            # Not the strict parser of plans: documents of others have integers past 64 bits as bounds, and many megabytes.
            return cast("Json", orjson.loads(text))
        except orjson.JSONDecodeError as fault:
            raise ConfigError(f"{place}: expected an {KIND} in JSON, but {fault}") from fault
    if len(data) > YAML_BYTES_MAX:
        raise _too_large(place, len(data), YAML_BYTES_MAX, " in YAML (JSON may be larger)")
    from ...plans.format.yaml_text import parse_yaml  # noqa: PLC0415  # most documents are JSON

    try:
        # Written again, so that what aliases repeat is repeated: each place may then be changed alone.
        return cast("Json", orjson.loads(canonical(parse_yaml(text, is_lenient=True))))
    except (SourceError, NotJson) as fault:
        raise ConfigError(f"{place}: expected an {KIND} in YAML, but {fault}") from fault


def _too_large(place: str, size: int, most: int, kind: str = "") -> ConfigError:
    return ConfigError(
        f"{place}: expected an {KIND} of at most {most // 1024**2} MiB{kind}, found {size / 1024**2:.0f} MiB; leave out what is not needed"
    )


def _fetched(url: str) -> bytes:
    """Return what is at an address. A redirect is not followed: another address is for the user to give."""
    import httpx2  # noqa: PLC0415  # only for documents at an address

    shown = shown_address(url)
    data = bytearray()
    try:
        with httpx2.stream("GET", url, timeout=FETCH_S, follow_redirects=False) as response:
            if response.status_code != 200:
                to = response.headers.get("location")
                hint = f", which leads to {plain(to, 200)}; give that address, if it is right" if to else ""
                raise ConfigError(f"{shown}: expected an {KIND}, found status {response.status_code}{hint}")
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > DOCUMENT_BYTES_MAX:
                    raise _too_large(shown, len(data), DOCUMENT_BYTES_MAX)
    except (httpx2.HTTPError, httpx2.InvalidURL) as fault:
        raise ConfigError(
            f"{shown}: expected an {KIND}, but the address cannot be read: {plain(str(fault), 200) or type(fault).__name__}"
        ) from fault
    return bytes(data)
