"""What `firmplan mcp` answers with: one JSON document each, for a program, and a few words, for a model."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..executor import Run
from ..plans.values import Json
from .config import Settings
from .report import STATUS_EXIT, advice, errors_text, summary, waiting_leaves

if TYPE_CHECKING:
    from mcp.types import ContentBlock

Document = dict[str, Any]
ARTIFACT_BYTES_MAX: Final = 8 * 1024 * 1024  # of an answer: a third more as base64, in one line

RUN_SCHEMA: Final[Document] = {
    "type": "object",
    "properties": {
        "run_id": {"type": "string"},
        "status": {
            "enum": [*STATUS_EXIT],
            "description": "running and queued: ask wait_run. waiting, indeterminate, over_budget, parked: a person decides.",
        },
        "output": {"description": "The plan's output; null unless succeeded."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "step": {"type": "string"},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "temporary": {"type": "boolean"},
                },
                "required": ["step", "code", "message"],
            },
        },
        "waits": {
            "type": "array",
            "description": "Calls that a person has to decide about. No tool here decides.",
            "items": {
                "type": "object",
                "properties": {
                    "step": {"type": "string"},
                    "reason": {"type": ["string", "null"]},
                    "args": {"description": "What it would be called with."},
                    "past_write": {"description": "What an earlier run knows of this call, if it made it."},
                },
                "required": ["step", "reason", "args"],
            },
        },
        "advice": {"type": "string", "description": "For a person: the commands that let the run go on."},
        "digest": {"type": "string"},
        "usage": {"type": "object"},
    },
    "required": ["run_id", "status", "output", "errors", "waits"],
}
"""JSON Schema of `run_document`."""


def run_document(run: Run, settings: Settings) -> Document:
    """Return where a run stands: what came of it, or what it waits for."""
    waits: list[Json] = [
        {"step": path, "reason": step.reason, "args": step.args}
        | ({} if step.past_write is None else {"past_write": step.past_write})
        for path, step in waiting_leaves(run)
    ]
    made: Document = {
        "run_id": run.id,
        "status": run.status,
        "output": run.output,
        "errors": [error.to_dict() for error in run.errors],
        "waits": waits,
        "digest": run.digest,
        "usage": dict(run.usage),
    }
    return made | (
        {"advice": advice(run, settings)} if waits or run.status in ("over_budget", "parked") else {}
    )


def run_text(run: Run, settings: Settings) -> str:
    """Return the same in words, without the output, which the document has."""
    parts = [summary(run), errors_text(run)]
    if run.status in ("queued", "running"):
        parts.append(f"It goes on; ask wait_run for {run.id}.")
    elif run.status not in ("succeeded", "failed", "cancelled"):
        parts += ["A person has to decide; tell them:", advice(run, settings)]
    return "\n".join(part for part in parts if part)


def content_of(data: bytes, artifact: Mapping[str, Any]) -> ContentBlock:
    """Return bytes as what they are: a picture, a text, or a file of any kind."""
    from mcp.types import (  # noqa: PLC0415  # an extra
        BlobResourceContents,
        EmbeddedResource,
        ImageContent,
        TextResourceContents,
    )

    media_type, uri = str(artifact.get("media_type", "")), f"firmplan:{artifact['digest']}"
    coded = base64.b64encode(data).decode()
    if media_type.startswith("image/"):
        return ImageContent(type="image", data=coded, mime_type=media_type)
    try:
        text = data.decode() if media_type.startswith("text/") or media_type.endswith("json") else None
    except UnicodeDecodeError:
        text = None
    held: TextResourceContents | BlobResourceContents = (
        BlobResourceContents(uri=uri, blob=coded, mime_type=media_type)
        if text is None
        else TextResourceContents(uri=uri, text=text, mime_type=media_type)
    )
    return EmbeddedResource(type="resource", resource=held)
