"""The request of a call: arguments become an address, headers and a body, as OpenAPI's styles say.

A value never leaves the place that it is for: everything that has a meaning in an address is percent-encoded, and a value that a server
could read as another path is refused. Nothing here reads a secret or opens a connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast
from urllib.parse import quote
from uuid import UUID

from ...errors import ToolError
from ...plans.values import Json, canonical
from ..artifact import Artifact
from ..context import Context
from .operation import Argument, Body, KeyHeader, Operation, Part

Pair: TypeAlias = tuple[str, str]
File: TypeAlias = tuple[str | None, bytes, str]

_UNSAFE_HEADER: Final = re.compile(r"[^\x20-\x7e\xa0-\xff]")


@dataclass(slots=True)
class Request:
    """What is sent, without the credentials.

    Attributes:
        path: The path, percent-encoded, to stand after the server's address.
        query: Names and encoded values.
        files: The parts of a multipart body, by field.
        address: A whole address at the same server, in the place of the path; empty: none.
    """

    method: str
    path: str
    query: list[Pair]
    headers: dict[str, str]
    cookies: list[Pair] = field(default_factory=list[Pair])
    content: bytes | None = None
    files: list[tuple[str, File]] | None = None
    address: str = ""


def make_request(
    operation: Operation,
    arguments: Mapping[str, Json],
    context: Context | None,
    *,
    key_header: KeyHeader | None,
    slashes: frozenset[str] = frozenset(),
) -> Request:
    """Return the request of a call.

    Args:
        operation: What is called.
        arguments: Its arguments, by their names in plans.
        context: Has the bytes of artifacts, and the idempotency key.
        key_header: The header that takes the key; `None`: none.
        slashes: Names of path arguments in which `/` may stand.

    Raises:
        ToolError: A value cannot be sent (`bad-args`), or the bytes of an artifact are not there.
    """
    made = Request(operation.method, operation.path, [], {"Accept": operation.accept})
    fields: dict[str, Json] = {}
    for each in operation.arguments:
        if each.name in arguments:
            value = arguments[each.name]
            if each.place == "body":
                fields[each.sent] = value
            else:
                _write(made, each, value, may_have_slashes=each.name in slashes)
    if operation.body is not None:
        _write_body(made, operation.body, fields, context)
    if key_header is not None and context is not None and context.idempotency_key:
        made.headers[key_header.name] = _key(key_header, context.idempotency_key)
    return made


def _write(made: Request, argument: Argument, value: Json, *, may_have_slashes: bool) -> None:
    """Write an argument that is not of the body."""
    match argument.place:
        case "path":
            written = _path_value(argument, value, may_have_slashes=may_have_slashes)
            made.path = made.path.replace(f"{{{argument.sent}}}", written)
        case "header" if value is not None:
            text = _joined(value, explode=argument.explode, encoded=_text)
            made.headers[argument.sent] = header_value(text, f"the argument '{argument.name}'")
        case "cookie":
            made.cookies += _written(argument, value)
        case "query":
            made.query += _written(argument, value)
        case _:
            pass


def encoded(text: str) -> str:
    """Return a text with everything but letters, digits and `-._~` percent-encoded."""
    return quote(text, safe="")


def query_text(pairs: Iterable[Pair]) -> str:
    """Return pairs as a query; names are encoded here, values are encoded already."""
    return "&".join(f"{quote(name, safe='[]')}={value}" for name, value in pairs)


def header_value(text: str, what: str) -> str:
    """Return a text that can stand in a header.

    Args:
        text: The value.
        what: What it is, for the message; the value is not shown.

    Raises:
        ToolError: It has line breaks, controls, or characters that headers cannot have (`bad-args`).
    """
    if _UNSAFE_HEADER.search(text) or text != text.strip():
        raise ToolError(
            f"{what} cannot be sent in a header: expected printable characters of Latin-1 without spaces at the ends",
            code="bad-args",
        )
    return text


def _key(header: KeyHeader, key: str) -> str:
    bare = key.rpartition(":")[2]
    if header.is_uuid:
        return str(UUID(bytes=bytes.fromhex(bare[:32]), version=4))
    return key if header.length_max is None or len(key) <= header.length_max else bare[: header.length_max]


# Styles: how lists and objects are written (OpenAPI 3.1, "Style Values").


def _text(value: Json) -> str:
    """Return a value as text: a list or an object inside another has no form of its own there, so it is JSON."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        case _:
            return canonical(value).decode()


def _encoded(value: Json) -> str:
    return encoded(_text(value))


def _joined(
    value: Json, *, explode: bool, separator: str = ",", encoded: Callable[[Json], str] = _encoded
) -> str:
    """Return a list as `a,b` and an object as `k,v` or, exploded, `k=v`."""
    if isinstance(value, list):
        return separator.join(map(encoded, value))
    if isinstance(value, dict):
        between = "=" if explode else separator
        return separator.join(f"{encoded(name)}{between}{encoded(each)}" for name, each in value.items())
    return encoded(value)


def _path_value(argument: Argument, value: Json, *, may_have_slashes: bool) -> str:
    _expect_within(argument, value, may_have_slashes=may_have_slashes)
    if argument.is_json:
        return encoded(canonical(value).decode())
    match argument.style:
        case "label":
            return "." + _joined(value, explode=argument.explode, separator="." if argument.explode else ",")
        case "matrix":
            name = encoded(argument.sent)
            if argument.explode and isinstance(value, list):
                return "".join(f";{name}={_encoded(each)}" for each in value)
            if argument.explode and isinstance(value, dict):
                return "".join(f";{encoded(key)}={_encoded(each)}" for key, each in value.items())
            return f";{name}={_joined(value, explode=False)}"
        case _:
            return _joined(value, explode=argument.explode)


def _expect_within(argument: Argument, value: Json, *, may_have_slashes: bool) -> None:
    """Raise `ToolError` for a value that would change the path. Many servers decode `%2F` before they look for the route."""
    text = _joined(value, explode=argument.explode, encoded=_text)
    where = f"the path argument '{argument.name}'"
    if not text:
        raise ToolError(
            f"{where}: expected a value, found an empty one, which would name another path", code="bad-args"
        )
    if not may_have_slashes and re.search(r"[/\\]", text):
        raise ToolError(
            f"{where}: expected no slash, found one, which many servers take for the end of the segment; if this server does not, say "
            f'path_slashes=["{argument.name}"]',
            code="bad-args",
        )
    if any(part in (".", "..") for part in re.split(r"[/\\]", text)):
        raise ToolError(f"{where}: expected no '.' or '..' as a part of a path, found one", code="bad-args")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ToolError(f"{where}: expected no control characters, found one", code="bad-args")


def _written(argument: Argument, value: Json) -> list[Pair]:
    """Return a query or cookie argument as pairs; the values are encoded."""
    if value is None:
        return []
    if argument.is_json:
        return [(argument.sent, encoded(canonical(value).decode()))]
    return _pairs(argument.sent, value, argument.style, explode=argument.explode)


def _pairs(name: str, value: Json, style: str, *, explode: bool) -> list[Pair]:
    if style == "deepObject":
        return list(_deep(name, value))
    if not isinstance(value, list | dict):
        return [(name, _encoded(value))]
    if explode and isinstance(value, list):
        return [(name, _encoded(each)) for each in value]
    if explode and isinstance(value, dict) and style == "form":
        return [(key, _encoded(each)) for key, each in value.items()]
    separator = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(style, ",")
    return [(name, _joined(value, explode=False, separator=separator))] if value else []


def _deep(name: str, value: Json) -> Iterable[Pair]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _deep(f"{name}[{key}]", each)
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _deep(f"{name}[{at}]", each)
    elif value is not None:
        yield name, _encoded(value)


# Bodies.


def _write_body(made: Request, body: Body, fields: Mapping[str, Json], context: Context | None) -> None:
    if not fields and not body.is_required:
        return
    value: Json = fields.get("body") if body.whole else dict(fields)
    if body.whole and "body" not in fields:
        return
    match body.kind:
        case "json":
            made.content = canonical(value)
        case "text":
            made.content = _text(value).encode()
        case "bytes":
            made.content = _bytes(value, context)[1]
        case "form":
            made.content = query_text(_form(body, value)).encode()
        case "multipart":
            made.files = list(_multipart(body, value, context))
            return  # the client writes the header, with the boundary
    made.headers["Content-Type"] = body.media_type


def _form(body: Body, value: Json) -> Iterable[Pair]:
    for name, each in cast("dict[str, Json]", value if isinstance(value, dict) else {}).items():
        part = body.parts.get(name, Part())
        if each is None:
            continue
        if not part.style and isinstance(each, dict):
            # What most servers read: OpenAPI 3.0 leaves it open.
            yield from _deep(name, each)
        else:
            yield from _pairs(name, each, part.style or "form", explode=part.explode)


def _multipart(body: Body, value: Json, context: Context | None) -> Iterable[tuple[str, File]]:
    for name, each in cast("dict[str, Json]", value if isinstance(value, dict) else {}).items():
        part = body.parts.get(name, Part())
        for one in cast("Sequence[Json]", each if isinstance(each, list) else [each]):
            if one is None:
                continue
            if part.is_file:
                artifact, data = _bytes(one, context)
                yield name, (artifact.name or name, data, _media_type(part) or artifact.media_type)
            elif isinstance(one, dict | list) or _media_type(part) == "application/json":
                yield name, (None, canonical(one), "application/json")
            else:
                yield name, (None, _text(one).encode(), _media_type(part) or "text/plain; charset=utf-8")


def _media_type(part: Part) -> str:
    return part.media_type if re.fullmatch(r"[\w.+-]+/[\w.+-]+", part.media_type, re.ASCII) else ""


def _bytes(value: Json, context: Context | None) -> tuple[Artifact, bytes]:
    artifact = Artifact.model_validate(cast("dict[str, Any]", value))
    if context is None:
        raise ToolError(
            "the bytes of an artifact are sent: call the tool in a run, whose store keeps them",
            code="no-blobs",
        )
    return artifact, context.open(artifact)
