"""What the routes share: the engine behind them, and how they reach it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse

from ..engine import Engine
from .intake import Intake
from .metrics import Metrics
from .views import RefusalView


@dataclass(frozen=True, slots=True)
class Hosting:
    """The parts of one served engine.

    Attributes:
        closing: Set when the server goes down; streams end then.
    """

    engine: Engine
    intake: Intake
    metrics: Metrics
    closing: asyncio.Event


def hosting_of(request: Request) -> Hosting:
    """Return the parts behind the app that got the request."""
    hosting: Hosting = request.app.state.hosting
    return hosting


Hosted = Annotated[Hosting, Depends(hosting_of)]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": words,
        "content": {"application/problem+json": {"schema": RefusalView.model_json_schema()}},
    }
    for status, words in (
        (401, "No key, or a wrong one"),
        (403, "A page of another site may not change anything"),
        (404, "No such thing"),
        (409, "Not in this state, or already taken"),
        (413, "The body is too large"),
        (415, "The body is said to be no JSON"),
        (421, "The request is for another host"),
        (422, "The request, or the plan in it, has faults"),
        (429, "Too many requests, or too many runs; see Retry-After"),
        (502, "A model or a tool failed while it was asked"),
        (503, "The store cannot be read or written"),
    )
}
"""The refusals that every route may answer with, for the schema."""


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return JSON that is known to have the route's shape."""
    return JSONResponse(value, status, headers)
