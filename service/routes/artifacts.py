"""The route that takes bytes: an artifact that runs may have as an input."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from ...tools import Artifact
from ..auth import UPLOADS
from ..callers import ScopedRoute
from ..problems import expect_known_query
from .runs import Served

artifact_router = APIRouter(route_class=ScopedRoute, tags=["runs"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "description": "The bytes, of any media type",
        "content": {
            "application/octet-stream": {
                "schema": {"type": "string", "contentMediaType": "application/octet-stream"}
            }
        },
    }
}


@artifact_router.post(
    UPLOADS,
    response_model=Artifact,
    status_code=HTTPStatus.CREATED,
    openapi_extra=_BODY,
    summary="Save bytes as an artifact",
)
async def save_artifact(
    request: Request,
    served: Served,
    name: Annotated[str, Query(max_length=255)] = "",
    media_type: Annotated[str | None, Query(max_length=255)] = None,
) -> Response:
    """Keep the body and answer with the artifact that stands for it. It is kept for 24 hours, and longer as long as a run names it."""
    expect_known_query(request)
    made = await served.engine.save_artifact(request.stream(), media_type=media_type, name=name)
    return JSONResponse(made.model_dump(), HTTPStatus.CREATED)
