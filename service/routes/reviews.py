"""The routes that look back at a run: why a step ran, what differs between two runs, whether tools are deterministic, the run as a file, its artifacts."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse

from ...executor.limits import MIB
from ...executor.runs.run import artifacts_in
from ...executor.stores.parts import pieces_of_file
from ..problems import Refusal
from ..schemas import (
    ArtifactPreviewView,
    CallDetailsView,
    ExplanationsView,
    PlanGraphView,
    RunDiffView,
    StepLogView,
    TracebacksView,
    VerificationView,
)
from .runs import Served, StrictRoute, answer, answer_heads, get_run_with

if TYPE_CHECKING:
    from ...executor import Run
    from ...plans import Json

review_router = APIRouter(prefix="/v1/runs", route_class=StrictRoute, tags=["review"])

StepPath = Annotated[str, Query(description="The path of the step.")]
ArtifactDigest = Annotated[str, InPath(pattern="^sha256:[0-9a-f]{64}$")]
FILE_TYPE = "application/octet-stream"
"""The media type of all files: a run's document says what an artifact is."""
PREVIEW_ROWS_MAX: Final = 100
"""Rows of a preview that a request may ask for."""
PREVIEW_BYTES_MAX: Final = 64 * MIB
"""Bytes of an artifact whose first rows are shown: a look at a page reads no more than that into memory."""
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes",
        "content": {FILE_TYPE: {"schema": {"type": "string", "contentMediaType": FILE_TYPE}}},
        "headers": {
            "Content-Disposition": {"description": "The file's name.", "schema": {"type": "string"}},
        },
    }
}
_UNTRUSTED_FILE = {
    # The bytes may come from anybody: no browser may show them as a page of this server.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@review_router.get("/{run_id}/log", response_model=StepLogView, summary="Get what a step logged")
async def get_log(run_id: str, served: Served, step: StepPath) -> Response:
    """Answer with the last lines that the step logged in this process (`ctx.log`); they are not stored."""
    await get_run_with(served, run_id, step)
    return answer({"run": run_id, "step": step, "lines": served.logs.of(run_id, step)})


@review_router.get("/{run_id}/graph", response_model=PlanGraphView, summary="Get the graph of a run's plan")
async def get_graph(run_id: str, served: Served) -> Response:
    """Answer with the steps of the plan, what each does and waits for, and the plans that they run."""
    return answer(await served.engine.run_graph(run_id))


@review_router.get("/{run_id}/call", response_model=CallDetailsView, summary="Get what a step called")
async def get_call(run_id: str, served: Served, step: StepPath) -> Response:
    """Answer with every argument of the call, complete, and where its untrusted data is from."""
    await get_run_with(served, run_id, step)
    return answer((await served.engine.call_details(run_id, step)).to_dict())


@review_router.get(
    "/{run_id}/explain", response_model=ExplanationsView, summary="Say why steps ran or were reused"
)
async def explain_run(
    run_id: str,
    served: Served,
    step: Annotated[str | None, Query(description="The path of one step; without it, all steps.")] = None,
) -> Response:
    """Answer with the reasons in the order of the run's steps, and what differs from the nearest earlier calls."""
    if step is None:
        found = await served.engine.explain_all(run_id)
    else:
        await get_run_with(served, run_id, step)
        found = [await served.engine.explain(run_id, step)]
    return answer({"run": run_id, "steps": [each.to_dict() for each in found]})


@review_router.get(
    "/{run_id}/diff/{other_id}", response_model=RunDiffView, summary="Compare a run with another"
)
async def diff_runs(run_id: str, other_id: str, served: Served) -> Response:
    """Answer with what differs between the runs, by step, and why."""
    return answer((await served.engine.diff(run_id, other_id)).to_dict())


@review_router.post(
    "/{run_id}/verify", response_model=VerificationView, summary="Call a run's pure tools again, and compare"
)
async def verify_run(run_id: str, served: Served) -> Response:
    """Answer with a verdict for each pure tool of the run; nothing is stored."""
    return answer((await served.engine.verify(run_id)).to_dict())


@review_router.get(
    "/{run_id}/export",
    response_class=Response,
    responses=_FILE,
    summary="Get a run as a file that replays anywhere",
)
async def export_run(run_id: str, served: Served) -> Response:
    """Answer with the run's bundle: `firmplan replay FILE` needs neither the tools nor the store."""
    folder = tempfile.TemporaryDirectory(prefix="firmplan-")
    try:
        file = await served.engine.export(run_id, Path(folder.name) / "run.bundle")
        headers = {**_file_headers(f"{run_id}.bundle"), "Content-Length": str(file.stat().st_size)}
        source = file.open("rb")
    finally:
        # The file is read on after it has no name any more.
        folder.cleanup()

    async def pieces() -> AsyncIterator[bytes]:
        with source:
            async for piece in pieces_of_file(source):
                yield piece

    return StreamingResponse(pieces(), media_type=FILE_TYPE, headers=headers)


@review_router.get(
    "/{run_id}/artifacts/{digest}",
    response_class=Response,
    responses=_FILE,
    summary="Get the bytes of an artifact",
)
async def get_artifact(run_id: str, digest: ArtifactDigest, served: Served) -> Response:
    """Answer with the bytes of an artifact in the run's inputs, output or steps."""
    found = _expect_artifact(await served.engine.get(run_id), digest)
    pieces = served.engine.stream_artifact(found)
    first, name, size = await anext(pieces, b""), str(found["name"] or digest), int(str(found["size"]))
    if len(first) >= size:
        return Response(first, media_type=FILE_TYPE, headers=_file_headers(name))

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    # With its length, so that a client sees where an answer was cut that could not go on: bytes that were changed are not sent to the end.
    headers = {**_file_headers(name), "Content-Length": str(size)}
    return StreamingResponse(rest(), media_type=FILE_TYPE, headers=headers)


@review_router.get(
    "/{run_id}/artifacts/{digest}/preview",
    response_model=ArtifactPreviewView,
    summary="Get the first rows of an artifact",
)
async def preview_artifact(
    run_id: str,
    digest: ArtifactDigest,
    served: Served,
    rows: Annotated[int, Query(ge=1, le=PREVIEW_ROWS_MAX, description="How many rows.")] = 10,
) -> Response:
    """Answer with the first rows of a frame, an array or a text in the run's inputs, output or steps."""
    found = _expect_artifact(await served.engine.get(run_id), digest)
    if int(str(found["size"])) > PREVIEW_BYTES_MAX:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "limit-exceeded",
            f"a preview: expected an artifact of at most {PREVIEW_BYTES_MAX // MIB} MiB, found {int(str(found['size'])) / MIB:.1f} MiB; get its bytes",
        )
    return answer((await served.engine.preview_artifact(found, rows=rows)).to_dict())


@review_router.get(
    "/{run_id}/tracebacks",
    response_model=TracebacksView,
    summary="Get the last frames of the failed calls of a run",
)
async def get_tracebacks(run_id: str, served: Served) -> Response:
    """Answer with the frames of each failure in the code of its tool, which are in no other answer: they show code of who runs the server."""
    return answer({"run": run_id, "tracebacks": (await served.engine.get(run_id)).tracebacks()})


def _expect_artifact(run: Run, digest: str) -> dict[str, Json]:
    """Return an artifact of a run. Raises: Refusal: the run has none of the digest."""
    found = next((each for each in artifacts_in(run) if each["digest"] == digest), None)
    if found is None:
        raise Refusal(
            HTTPStatus.NOT_FOUND,
            "unknown-artifact",
            f"run {run.id} has no artifact {digest}: expected one of its inputs, its output or the outputs of its steps",
        )
    return found


def _file_headers(name: str) -> dict[str, str]:
    named = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return {**_UNTRUSTED_FILE, "Content-Disposition": named}


answer_heads(review_router)
