"""What an MCP server's answer to a call is worth: a value of the plan, or a failure.

A structured result is the value, as it is. Without one, what was said is: one part is itself, several are a list, none is
null. Text is text, whatever it looks like; pictures, sounds and files are artifacts; a link is an object that names it.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, assert_never, cast
from urllib.parse import urlsplit

from ...errors import ToolError
from ...plans.signature import Effect
from ...plans.values import Json
from ..context import Context
from ..failures import ResultRefused
from .listing import plain

if TYPE_CHECKING:
    from mcp.types import (
        AudioContent,
        CallToolResult,
        EmbeddedResource,
        ImageContent,
        ResourceLink,
        TextContent,
    )

    Part = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource

ERROR_CHARACTERS_MAX: Final = 2_000  # of what a server says of a failure: it may be anything


def value_of(result: CallToolResult, context: Context | None, *, is_structured: bool) -> Json:
    """Return the value of an answer; `is_structured`: the tool promises a structured one.

    Raises:
        ToolError: The call failed, or bytes came that cannot be read or kept.
        ResultRefused: The same of a write, which is done.
    """
    if result.is_error:
        raise ToolError(_said(result) or "the server says that the call failed, and nothing more")
    try:
        return _taken(result, context, is_structured=is_structured)
    except ToolError as fault:
        if context is None or context.effect is not Effect.WRITE:
            raise
        raise ResultRefused(str(fault), code=fault.code) from fault


def _taken(result: CallToolResult, context: Context | None, *, is_structured: bool) -> Json:
    if is_structured or result.structured_content is not None:
        return cast("Json", result.structured_content)
    parts = [_value(part, context) for part in result.content]
    return parts[0] if len(parts) == 1 else parts or None


def _said(result: CallToolResult) -> str:
    texts = [part.text for part in result.content if part.type == "text"]
    return plain(" ".join(texts), ERROR_CHARACTERS_MAX)


def _value(part: Part, context: Context | None) -> Json:
    match part.type:
        case "text":
            return part.text
        case "image" | "audio":
            return _artifact(part.data, part.mime_type, "", context)
        case "resource_link":
            link: dict[str, Json] = {"uri": part.uri, "name": part.name}
            return link | ({"media_type": part.mime_type} if part.mime_type else {})
        case "resource":
            held = part.resource
            if (blob := getattr(held, "blob", None)) is not None:
                return _artifact(blob, held.mime_type, _name(held.uri), context)
            text: dict[str, Json] = {"uri": held.uri, "text": cast("str", getattr(held, "text", ""))}
            return text | ({"media_type": held.mime_type} if held.mime_type else {})
        case _:
            assert_never(part)


def _artifact(data: str, media_type: str | None, name: str, context: Context | None) -> Json:
    if context is None:
        raise ToolError(
            "the server answers with bytes; call the tool in a run, whose store keeps them", code="no-blobs"
        )
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise ToolError(
            f"the server answers with bytes that are not in base64: {fault}", code="bad-result"
        ) from None
    return cast("Json", context.save(content, media_type=media_type, name=name).model_dump(mode="json"))


def _name(uri: str) -> str:
    return PurePosixPath(urlsplit(uri).path).name
