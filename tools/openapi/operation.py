"""`Operation`: one operation of an OpenAPI document, read: its arguments, what is sent for them, and the type of its result.

Parameters, bodies and responses are parsed by `openapi_pydantic`; their schemas are read by `schemas.py`, since a tool needs them as JSON
Schema. What a document says and firmplan cannot send is `Unsupported`, and costs that operation; what is wrong in itself is a `ConfigError`.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast

from ...errors import ConfigError
from ...plans.signature import Effect
from ...plans.values import Json, NotJson, canonical
from ..provider import CONTEXT, plain
from ..types.schemas import pydantic_problems
from .document import Document, Listed, Object, Route, as_object
from .schemas import SCHEMA_BYTES_MAX, Schemas, Way

if TYPE_CHECKING:
    from openapi_pydantic.v3.v3_1 import MediaType, Parameter, RequestBody
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)

Place: TypeAlias = Literal["path", "query", "header", "cookie", "body"]
BodyKind: TypeAlias = Literal["json", "form", "multipart", "text", "bytes"]

DESCRIPTION_CHARACTERS_MAX: Final = 1_000
ARGUMENTS_MAX: Final = 500  # of one operation: Stripe's largest has some 60
NAME_LENGTH_MAX: Final = 64
COMPOSED_MAX: Final = 8  # parts in parts (`allOf`) whose fields become arguments
KEY_HEADER: Final = "idempotency-key"
PLACES: Final[tuple[Place, ...]] = ("path", "query", "header", "cookie", "body")
EFFECTS: Final[Mapping[str, Effect]] = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS"), Effect.READ),
    **dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), Effect.WRITE),
}
IDEMPOTENT: Final = frozenset({"PUT", "DELETE"})  # RFC 9110, section 9.2.2

_STYLES: Final[Mapping[Place, tuple[str, ...]]] = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
    "body": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
}
# A document decides neither about the connection nor about who calls: RFC 9110, and OpenAPI 3.0.3, "Parameter Object".
_OWN_HEADERS: Final = frozenset({
    "accept", "authorization", "connection", "content-length", "content-type", "cookie", "expect", "host",
    "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade", "accept-encoding", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
})  # fmt: skip
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")
_TEMPLATE: Final = re.compile(r"\{([^{}/]+)\}")
_FREE_PATH: Final = re.compile(
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@%-]|\{[^{}/]+\})*)+(?:\?[A-Za-z0-9._~=&%-]*)?\Z"
)


class Unsupported(Exception):  # noqa: N818  # reads as what it says
    """An operation needs what firmplan does not do; the message says what."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument, and where it is sent.

    Attributes:
        name: In plans.
        sent: In the request.
        style: How lists and objects are written (OpenAPI, "Style Values").
        explode: Whether each item is a parameter of its own.
        is_json: Whether the value is written as JSON.
    """

    name: str
    sent: str
    place: Place
    style: str = "form"
    explode: bool = True
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """How one field of a form is sent.

    Attributes:
        is_file: Whether it is an artifact, or a list of artifacts, whose bytes are sent.
        media_type: Of a part of a multipart body; empty: what follows from the value.
    """

    is_file: bool = False
    media_type: str = ""
    style: str = ""
    explode: bool = True


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request.

    Attributes:
        media_type: As it is sent.
        whole: The argument that is the body; empty: the arguments in the place `body` are its fields.
        is_required: Whether a body is sent also where no argument gives a field.
        parts: Of a form: field -> how it is sent.
    """

    kind: BodyKind
    media_type: str
    whole: str
    is_required: bool
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """The header in which an operation takes an idempotency key: its name, and whether it has to be a UUID or may be only so long."""

    name: str
    is_uuid: bool = False
    length_max: int | None = None


@dataclass(frozen=True, slots=True)
class Operation(Route):
    """One operation.

    Attributes:
        id: Its `operationId`; empty if it has none.
        servers: Its own servers; empty: those of the document.
        security: Alternatives of schemes (name -> scopes), one of which has to be satisfied.
        accept: The header `Accept`.
        parameters: JSON Schema of the arguments, without definitions; so are `returns`.
        returns: JSON Schema of the result; `None`: anything.
    """

    id: str
    tags: tuple[str, ...]
    description: str
    is_deprecated: bool
    servers: tuple[str, ...]
    security: tuple[tuple[str, ...], ...]
    arguments: tuple[Argument, ...]
    body: Body | None
    key_header: KeyHeader | None
    accept: str
    parameters: dict[str, Json]
    returns: dict[str, Json] | None

    @property
    def takes_pages(self) -> bool:
        """Whether a web page may be its answer: the document names such an answer, or none."""
        return any(each in self.accept for each in ("*/*", "text/", "html"))

    @property
    def name(self) -> str:
        """What it is called in `only`, `overrides` and messages: its id, else its key."""
        return self.id or self.key

    @property
    def effect(self) -> Effect:
        """What its method promises (RFC 9110, section 9.2)."""
        return EFFECTS[self.method]

    @property
    def is_idempotent(self) -> bool:
        """Whether a write may be called again: by its method, or since it takes an idempotency key."""
        return self.method in IDEMPOTENT or (self.effect is Effect.WRITE and self.key_header is not None)

    def wire(self) -> dict[str, Json]:
        """Return everything that decides what is sent, as JSON."""
        return cast(
            "dict[str, Json]",
            {
                "operation": self.key,
                "arguments": [asdict(each) for each in self.arguments],
                "body": None if self.body is None else asdict(self.body),
                "key_header": None if self.key_header is None else asdict(self.key_header),
                "accept": self.accept,
                "security": [list(each) for each in self.security],
            },
        )

    def says(self, schemas: Schemas) -> dict[str, Json]:
        """Return everything that the document says of the operation, to be pinned; of its definitions only the digest."""
        return {
            "description": self.description,
            "parameters": self.parameters,
            "returns": self.returns,
            "schemas": [schemas.pin(self.parameters, "sent"), schemas.pin(self.returns, "received")],
            "request": self.wire(),
        }


def read_operation(document: Document, schemas: Schemas, listed: Listed) -> Operation:
    """Return an operation of a document.

    Raises:
        ConfigError: The document is at fault: a reference leads to nothing, a part is not what it has to be.
        Unsupported: It needs what firmplan does not do.
    """
    return _Reader(document, schemas, listed).read()


@dataclass(slots=True)
class _Field:
    """An argument before it has its name."""

    sent: str
    place: Place
    schema: dict[str, Json]
    is_required: bool
    style: str = ""
    explode: bool = True
    is_json: bool = False


class _Reader:
    """Reads one operation."""

    def __init__(self, document: Document, schemas: Schemas, listed: Listed) -> None:
        self._document = document
        self._schemas = schemas
        self._listed = listed
        self._where = f"{document}, {plain(listed.key, 200)}"
        self._key_header: KeyHeader | None = None

    def read(self) -> Operation:
        from openapi_pydantic.v3.v3_1 import Operation as TheirOperation  # noqa: PLC0415  # an extra

        given = self._listed.operation
        said = self._parsed(
            TheirOperation,
            {
                key: given[key]
                for key in ("tags", "summary", "description", "operationId", "deprecated", "security")
                if key in given
            },
            "",
        )
        if not _FREE_PATH.match(self._listed.path) or _has_dots(self._listed.path):
            raise Unsupported("its path is none that can stand in an address")
        fields = self._parameters()
        body, body_fields, whole_schema = self._body()
        fields += body_fields
        if len(fields) > ARGUMENTS_MAX:
            raise Unsupported(f"it has {len(fields)} arguments; expected at most {ARGUMENTS_MAX}")
        arguments = _named(fields)
        parameters = _parameters_schema(zip(arguments, fields, strict=True))
        if body is not None and whole_schema is not None:
            name = arguments[-1].name
            body = Body(body.kind, body.media_type, name, body.is_required, body.parts)
        returns, accept = self._result()
        words = " ".join(each.strip() for each in (said.summary, said.description) if each and each.strip())
        if said.summary and said.description and said.description.strip().startswith(said.summary.strip()):
            words = said.description
        self._expect_usable(parameters, "sent", "arguments")
        return Operation(
            key=self._listed.key,
            id=said.operationId or "",
            tags=tuple(said.tags or ()),
            description=plain(
                f"Deprecated. {words}" if said.deprecated else words, DESCRIPTION_CHARACTERS_MAX
            ),
            is_deprecated=bool(said.deprecated),
            servers=self._servers(),
            security=self._security(),
            arguments=arguments,
            body=body,
            key_header=self._key_header,
            accept=accept,
            parameters=parameters,
            returns=self._usable_result(returns),
        )

    # Parameters.

    def _parameters(self) -> list[_Field]:
        from openapi_pydantic.v3.v3_1 import Parameter  # noqa: PLC0415  # an extra

        found: dict[tuple[str, str], tuple[Parameter, Object]] = {}
        for source in (self._listed.item, self._listed.operation):  # the operation's own win
            given = source.get("parameters")
            for at, each in enumerate(given if isinstance(given, list) else []):
                where = f"parameters[{at}]"
                raw = self._document.follow(each, f"{self._listed.key}, {where}")
                kept = {
                    key: raw[key]
                    for key in ("name", "in", "required", "deprecated", "style", "explode", "description")
                    if raw.get(key) is not None
                }
                parsed = self._parsed(Parameter, kept, where)
                found[parsed.param_in.value, parsed.name] = parsed, raw
        in_path = _TEMPLATE.findall(self._listed.path)
        for name in in_path:
            if ("path", name) not in found:
                # Documents leave it out; what it is says the path.
                parsed = self._parsed(Parameter, {"name": name, "in": "path", "required": True}, name)
                found["path", name] = parsed, {"schema": {"type": "string"}}
        return [
            made
            for (place, name), (parsed, raw) in found.items()
            if (place != "path" or name in in_path)
            and (made := self._parameter(cast("Place", place), parsed, raw)) is not None
        ]

    def _parameter(self, place: Place, parsed: Parameter, raw: Object) -> _Field | None:
        lower = parsed.name.lower()
        schema, is_json = raw.get("schema", {}), False
        content = raw.get("content")
        if isinstance(content, Mapping) and content:
            media_type, media = next(iter(content.items()))
            schema, is_json = as_object(media).get("schema", {}), _is_json(media_type)
        if place == "header" and lower in _OWN_HEADERS:
            return None
        if place == "header" and lower == KEY_HEADER:
            limits = self._schemas.resolved(schema)
            most = limits.get("maxLength")
            self._key_header = KeyHeader(
                parsed.name, limits.get("format") == "uuid", most if isinstance(most, int) else None
            )
            return None
        if place in ("header", "cookie") and not TOKEN.match(parsed.name):
            raise Unsupported(
                f"its {place} parameter {plain(parsed.name, 60)!r} has no name that can be sent"
            )
        style = parsed.style or _STYLES[place][0]
        if style not in _STYLES[place]:
            raise Unsupported(
                f"its {place} parameter '{plain(parsed.name, 60)}' has the style '{plain(style, 30)}'"
            )
        made = self._schemas.converted(schema, "sent")
        if parsed.description and "description" not in made:
            made = {**made, "description": plain(parsed.description, 300)}
        explode = style in ("form", "deepObject") if parsed.explode is None else parsed.explode
        required = place == "path" or parsed.required
        return _Field(parsed.name, place, made, required, style, explode, is_json)

    # The body.

    def _body(self) -> tuple[Body | None, list[_Field], dict[str, Json] | None]:
        """Return the body, its fields, and the schema of the whole where it is one argument (the last field)."""
        from openapi_pydantic.v3.v3_1 import RequestBody  # noqa: PLC0415  # an extra

        given = self._listed.operation.get("requestBody")
        if given is None:
            return None, [], None
        raw = self._document.follow(given, f"{self._listed.key}, requestBody")
        content = {
            media_type: {"encoding": _encoding(as_object(media).get("encoding"))}
            for media_type, media in as_object(raw.get("content")).items()
        }
        parsed = self._parsed(
            RequestBody, {"required": raw.get("required") is True, "content": content}, "requestBody"
        )
        if not content:
            return None, [], None
        media_type = _chosen(list(content), _BODY_ORDER)
        kind = _kind_of(media_type)
        if kind is None:
            raise Unsupported(f"its body is {plain(media_type, 80)}")
        schema = as_object(as_object(raw.get("content")).get(media_type)).get("schema", {})
        sent_as = "application/json" if "*" in media_type else media_type
        if not re.fullmatch(
            r"[\w.+/;= -]{1,200}", sent_as, re.ASCII
        ):  # its parameters are the document's words
            sent_as = media_type.partition(";")[0].strip()
        if kind in ("text", "bytes"):
            whole = {"type": "string"} if kind == "text" else artifact_schema()
            made = _Field("body", "body", cast("dict[str, Json]", whole), parsed.required)
            return Body(kind, sent_as, "", parsed.required), [made], made.schema
        fields = self._fields(schema)
        if fields == {}:
            return (Body(kind, sent_as, "", is_required=True) if parsed.required else None), [], None
        if fields is None:
            whole = self._schemas.converted(schema, "sent")
            made = _Field("body", "body", whole, parsed.required)
            return Body(kind, sent_as, "", parsed.required), [made], whole
        parts = {} if kind == "json" else self._parts(fields, parsed, media_type, kind)
        made_fields: list[_Field] = []
        for name, (each, is_needed) in fields.items():
            converted = self._field_schema(each, parts.get(name))
            made_fields.append(_Field(name, "body", converted, is_needed and parsed.required))
        return Body(kind, sent_as, "", parsed.required, parts), made_fields, None

    def _field_schema(self, schema: Json, part: Part | None) -> dict[str, Json]:
        if part is not None and part.is_file:
            said = self._schemas.resolved(schema).get("description")
            one = artifact_schema()
            if self._schemas.resolved(schema).get("type") == "array":
                one = cast("dict[str, Json]", {"type": "array", "items": one})
            return {**one, "description": plain(said, 300)} if isinstance(said, str) else one
        return self._schemas.converted(schema, "sent")

    def _fields(self, schema: Json, depth: int = 0) -> dict[str, tuple[Json, bool]] | None:
        """Return name -> (schema, whether it is required) of a body that is a plain object; `None`: it is not."""
        one = self._schemas.resolved(schema)
        if depth > COMPOSED_MAX or not isinstance(schema, Mapping) or not _is_plain_object(one):
            return None
        found: dict[str, tuple[Json, bool]] = {}
        required = one.get("required")
        given = required if isinstance(required, list) else []
        needed = {name for name in given if isinstance(name, str)}
        parts = one.get("allOf")
        for part in parts if isinstance(parts, list) else []:
            inner = self._fields(part, depth + 1)
            if inner is None:
                return None
            for name, (each, is_needed) in inner.items():
                if name in found and found[name][0] != each:
                    return None
                found[name] = each, is_needed
        for name, each in as_object(one.get("properties")).items():
            found[name] = each, found.get(name, (None, False))[1]
        shown = {
            name: (each, is_needed or name in needed)
            for name, (each, is_needed) in found.items()
            if not self._schemas.is_marked(self._schemas.converted(each, "sent"), "readOnly")
        }
        # An object of which nothing is said may have any fields; one whose fields are none, or are all the server's, has none to give.
        return shown if depth or "properties" in one or parts else None

    def _parts(
        self, fields: Mapping[str, tuple[Json, bool]], parsed: RequestBody, media_type: str, kind: BodyKind
    ) -> dict[str, Part]:
        media: MediaType = parsed.content[media_type]
        made: dict[str, Part] = {}
        for name, (schema, _) in fields.items():
            encoding = (media.encoding or {}).get(name)
            is_file = kind == "multipart" and self._is_file(schema)
            style = (encoding.style if encoding else None) or ""
            if style and style not in _STYLES["body"]:
                raise Unsupported(
                    f"the field '{plain(name, 60)}' of its body has the style '{plain(style, 30)}'"
                )
            explode = (
                encoding.explode
                if encoding and encoding.explode is not None
                else style in ("", "form", "deepObject")
            )
            content_type = (encoding.contentType if encoding else None) or ""
            made[name] = Part(is_file, content_type.split(",")[0].strip(), style, explode)
        return made

    def _is_file(self, schema: Json) -> bool:
        one = self._schemas.resolved(schema)
        if one.get("type") == "array":
            one = self._schemas.resolved(one.get("items", {}))
        options = one.get("anyOf")
        if isinstance(options, list) and any(map(self._is_file, options)):  # FastAPI: optional files
            return True
        is_text = one.get("type") in ("string", None, ["string"])
        return is_text and (
            one.get("format") == "binary" or ("contentMediaType" in one and "contentEncoding" not in one)
        )

    # The result.

    def _result(self) -> tuple[dict[str, Json] | None, str]:
        """Return the schema of the result, and the header `Accept`."""
        responses = as_object(self._listed.operation.get("responses"))
        good = [code for code in responses if re.fullmatch(r"2(\d\d|XX|xx)", code)]
        if not good and "default" in responses:
            good = ["default"]
        found: list[dict[str, Json] | None] = []
        accepted: list[str] = []
        for code in sorted(good):
            raw = self._document.follow(responses[code], f"{self._listed.key}, response {plain(code, 10)}")
            content = as_object(raw.get("content"))
            if not content or self._listed.method == "HEAD" or code == "204":
                found.append({"type": "null"})
                continue
            media_type = _chosen(list(content), _RESULT_ORDER)
            accepted += [media_type] if _is_json(media_type) else list(content)
            if not _is_json(media_type):
                found.append({"type": "string"} if _is_text(media_type) else artifact_schema())
            elif (schema := as_object(content[media_type]).get("schema")) in (None, {}, True):
                found.append(None)
            else:
                found.append(self._schemas.converted(schema, "received"))
        accept = ", ".join(dict.fromkeys(each.partition(";")[0].strip() for each in accepted)) or "*/*"
        if not re.fullmatch(r"[\w.+*/, -]{1,500}", accept, re.ASCII):
            accept = "*/*"
        if not found or None in found:
            return None, accept
        every = list({canonical(each): each for each in found}.values())
        return every[0] if len(every) == 1 else {"anyOf": cast("Json", every)}, accept

    def _usable_result(self, returns: dict[str, Json] | None) -> dict[str, Json] | None:
        """Return the type of the result; anything, where it cannot be used as a type."""
        if returns is None:
            return None
        try:
            self._expect_usable(returns, "received", "result")
        except Unsupported:
            return None
        return returns

    def _expect_usable(self, schema: dict[str, Json], way: Way, what: str) -> None:
        try:
            size = self._schemas.size(schema, way)
        except NotJson as fault:
            raise Unsupported(f"the type of its {what} is no JSON: {fault}") from fault
        if size > SCHEMA_BYTES_MAX:
            raise Unsupported(f"the type of its {what} has {size} bytes; expected at most {SCHEMA_BYTES_MAX}")

    # The rest.

    def _servers(self) -> tuple[str, ...]:
        for source in (self._listed.operation, self._listed.item):
            if found := self._document.addresses(source.get("servers")):
                return () if found == self._document.servers() else tuple(found)
        return ()

    def _security(self) -> tuple[tuple[str, ...], ...]:
        given = self._listed.operation.get("security", self._document.root.get("security"))
        return tuple(
            tuple(sorted(each))
            for each in (given if isinstance(given, list) else [])
            if isinstance(each, Mapping)
        )

    def _parsed(self, model: type[M], value: Mapping[str, Any], where: str) -> M:
        return parsed_as(model, value, f"{self._where}, {where}" if where else self._where)


def parsed_as(model: type[M], value: Mapping[str, Any], where: str) -> M:
    """Return a part of a document. Raises: ConfigError: it is not what it has to be; `where` is its place, for the message."""
    from pydantic import ValidationError  # noqa: PLC0415  # loaded with the extra

    try:
        return model.model_validate(value)
    except ValidationError as fault:
        raise ConfigError(f"{where}: {'; '.join(pydantic_problems(fault))}") from fault


def _is_plain_object(one: Object) -> bool:
    """Whether a schema is that of an object whose fields are all named, if parts of `allOf` are such objects, too."""
    if one.get("type", "object") not in ("object", ["object"]) or one.get("nullable") is True:
        return False
    if any(key in one for key in ("not", "if", "patternProperties", "oneOf")):
        return False
    # Alternatives that only name required fields are for the server to judge.
    alternatives = one.get("anyOf")
    if isinstance(alternatives, list) and any(set(as_object(each)) - {"required"} for each in alternatives):
        return False
    return not (isinstance(one.get("additionalProperties"), Mapping) and one["additionalProperties"])


def artifact_schema() -> dict[str, Json]:
    """Return the JSON Schema of an artifact."""
    from ..artifact import Artifact  # noqa: PLC0415  # pydantic: only for operations that have bytes

    # Without the text of the class, which is for readers of Python.
    return {key: value for key, value in Artifact.model_json_schema().items() if key != "description"}


def _encoding(given: Json) -> dict[str, Json]:
    keys = ("contentType", "style", "explode")
    return {
        name: {key: each[key] for key in keys if each.get(key) is not None}
        for name, each in as_object(given).items()
        if isinstance(each, Mapping)
    }


def _has_dots(path: str) -> bool:
    return any(part.replace("%2e", ".").replace("%2E", ".") in (".", "..") for part in path.split("/"))


# Media types.


_BODY_ORDER: Final = (
    "application/json",
    "*/*",
    "application/merge-patch+json",
    "+json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
    "application/octet-stream",
)
_RESULT_ORDER: Final = ("application/json", "*/*", "+json", "text/json", "text/plain", "text/")


def _chosen(media_types: Sequence[str], order: Sequence[str]) -> str:
    """Return the media type that firmplan reads or writes best."""
    bare = {each: _bare(each) for each in media_types}
    # One with parameters, such as `;stream=watch`, only where there is no other.
    ranked = sorted(media_types, key=lambda each: ";" in each)
    for wanted in order:
        for each in ranked:
            known = bare[each]
            if (
                known == wanted
                or (wanted[0] == "+" and known.endswith(wanted))
                or (wanted[-1] == "/" and known.startswith(wanted))
            ):
                return each
    return media_types[0]


def _bare(media_type: str) -> str:
    """Return a media type in small letters, without its parameters."""
    return media_type.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    bare = _bare(media_type)
    return bare in ("application/json", "text/json", "*/*", "application/*") or bare.endswith("+json")


def _is_text(media_type: str) -> bool:
    bare = _bare(media_type)
    return (
        bare.startswith("text/")
        or bare in ("application/xml", "application/yaml")
        or bare.endswith(("+xml", "+yaml"))
    )


def _kind_of(media_type: str) -> BodyKind | None:
    bare = _bare(media_type)
    if not re.fullmatch(r"[\w.+*-]+/[\w.+*-]+", bare, re.ASCII):
        return None
    if _is_json(media_type):
        return "json"
    known: dict[str, BodyKind] = {
        "application/x-www-form-urlencoded": "form",
        "multipart/form-data": "multipart",
        "application/octet-stream": "bytes",
    }
    if bare in known:
        return known[bare]
    if bare.startswith("text/"):
        return "text"
    return (
        "bytes"
        if bare.startswith(("image/", "audio/", "video/"))
        or bare in ("application/pdf", "application/zip", "application/gzip")
        else None
    )


# Names.


def identifier(name: str) -> str:
    """Return a name that is an identifier, made from a parameter's: `page[size]` becomes `page_size`."""
    if name.isascii() and name.isidentifier() and len(name) <= NAME_LENGTH_MAX:
        made = name
    else:
        made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")[:NAME_LENGTH_MAX] or "argument"
        made = f"_{made}" if made[0].isdigit() else made
    return f"{made}_" if keyword.iskeyword(made) or made == CONTEXT else made


def _named(fields: Sequence[_Field]) -> tuple[Argument, ...]:
    """Return the arguments with names that are identifiers, each once: a name that needs no change keeps it before one that was made equal to it."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for is_changed in (False, True):
        for at, each in enumerate(fields):
            wanted = identifier(each.sent)
            if (wanted != each.sent) is not is_changed:
                continue
            options = [wanted, f"{wanted}_{each.place}"]
            options += [f"{wanted}_{each.place}_{number}" for number in range(2, len(fields) + 2)]
            names[at] = next(option for option in options if option not in taken)
            taken.add(names[at])
    return tuple(
        Argument(names[at], each.sent, each.place, each.style, each.explode, each.is_json)
        for at, each in enumerate(fields)
    )


def _parameters_schema(pairs: Iterable[tuple[Argument, _Field]]) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    required: list[Json] = []
    for argument, each in pairs:
        schema = dict(each.schema)
        # A default is the server's: sent by us, it would overwrite what a partial update leaves out.
        default = schema.pop("default", None)
        if default is not None and default not in ([], {}, ""):
            note = f"default: {plain(canonical(default).decode(), 100)}"
            said = schema.get("description")
            schema["description"] = f"{said} ({note})" if isinstance(said, str) else note
        schema.pop("readOnly", None)
        schema.pop("writeOnly", None)
        properties[argument.name] = schema
        if each.is_required:
            required.append(argument.name)
    made: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made
