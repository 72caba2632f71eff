"""Routes for those who watch the server: health, counters, and the web page."""

from __future__ import annotations

import secrets
from functools import cache
from http import HTTPStatus
from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from ..errors import StoreError
from .hosting import Hosted, answer
from .metrics import MEDIA_TYPE
from .views import HealthView

router = APIRouter(tags=["watch"])

NONCE = "{{nonce}}"
"""Where the page wants the word that lets its own style and script, and no others, take effect."""


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=HealthView, summary="Is the process alive?")
async def healthz() -> Response:
    """Answer at all: that is the news."""
    return answer({"status": "ok"})


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz", response_model=HealthView, responses={503: {"model": HealthView}}, summary="Can it take work?"
)
async def readyz(hosted: Hosted) -> Response:
    """Answer 200 while the store can be read and the server is not going down, else 503."""
    try:
        await hosted.engine.list_runs(limit=1)
    except StoreError:
        return answer({"status": "unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)
    if hosted.closing.is_set():
        return answer({"status": "unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)
    return answer({"status": "ok"})


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
async def metrics(hosted: Hosted) -> Response:
    """Answer in Prometheus' text format."""
    return Response(hosted.metrics.text(await hosted.intake.active()), media_type=MEDIA_TYPE)


@router.head("/", include_in_schema=False)
@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page() -> Response:
    """Answer with the web page: one file, which loads nothing from anywhere and talks to this server only."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(_page_text().replace(NONCE, nonce), headers=headers)


@cache
def _page_text() -> str:
    return files(__package__ or "").joinpath("page.html").read_text(encoding="utf-8")
