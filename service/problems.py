"""Every refusal as `application/problem+json` (RFC 9457): `type title status code detail problems`.

An error's code and message come from the error itself; this module only chooses the HTTP status. Nothing that is
ours leaks: an error without a name becomes a 500 that says so, and its traceback goes to the server's log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from ..errors import (
    DECIDED,
    ConfigError,
    Diverged,
    FirmplanError,
    InputRejected,
    PlanningFailed,
    PlanRejected,
    RunNotFound,
    StoreError,
    ToolError,
)
from .misfits import CODE, misfits_of

MEDIA_TYPE = "application/problem+json"

STATUS: tuple[tuple[type[FirmplanError], HTTPStatus], ...] = (
    (PlanRejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (PlanningFailed, HTTPStatus.BAD_GATEWAY),
    (InputRejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RunNotFound, HTTPStatus.NOT_FOUND),
    (Diverged, HTTPStatus.CONFLICT),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ToolError, HTTPStatus.BAD_GATEWAY),
)
"""First match decides; what is not listed is a 500."""


class Refusal(HTTPException):
    """A refusal that the service itself decides on.

    Args:
        status: The HTTP status.
        code: A stable word for programs.
        detail: Expected, found, what to do.
        headers: Further response headers, such as `Retry-After`.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.code = code


def problem_response(
    status: int,
    code: str,
    detail: str,
    problems: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """Return the refusal as a response."""
    document = {
        "type": f"urn:firmplan:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "problems": list(problems),
        **more,
    }
    return JSONResponse(document, status, dict(headers or {}), MEDIA_TYPE)


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a `Refusal`, and the framework's own 404 and 405."""
    assert isinstance(error, HTTPException)
    if isinstance(error, Refusal):
        return problem_response(error.status_code, error.code, error.detail, headers=error.headers)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            detail = f"there is nothing at {request.url.path}; /openapi.json lists every path"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods_at(request)) or headers.get("Allow", "GET")
            detail = f"expected {headers['Allow']} for {request.url.path}, found {request.method}"
        case _:
            detail = str(error.detail)
    return problem_response(error.status_code, code, detail, headers=headers)


def _methods_at(request: Request) -> list[str]:
    """Return the methods that a path takes: the framework names those of its first route only."""
    paths: Mapping[str, Mapping[str, object]] = request.app.openapi()["paths"]
    found = [methods for path, methods in paths.items() if compile_path(path)[0].match(request.url.path)]
    return sorted(method.upper() for methods in found for method in methods)


async def on_bad_request(request: Request, error: Exception) -> JSONResponse:
    """Answer a body, query or path that does not have the documented shape, every fault at once."""
    assert isinstance(error, RequestValidationError)
    faults = misfits_of(request, error)
    detail = "; ".join(f"{fault.path}: {fault.message}{fault.hint and f'; {fault.hint}'}" for fault in faults)
    problems = [fault.to_dict() for fault in faults]
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, CODE, detail, problems)


async def on_firmplan_error(_: Request, error: Exception) -> JSONResponse:
    """Answer an error that firmplan has a name for."""
    assert isinstance(error, FirmplanError)
    status = next(
        (status for kind, status in STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR
    )
    if error.code == DECIDED:
        status = HTTPStatus.CONFLICT
    problems = [problem.to_dict() for problem in error.problems]
    if isinstance(error, Diverged):
        return problem_response(
            status,
            error.code,
            error.message,
            problems,
            step=error.step,
            field=error.field,
            expected=error.expected,
            found=error.found,
        )
    return problem_response(status, error.code, error.message, problems)


async def on_bug(_: Request, error: Exception) -> JSONResponse:
    """Answer an error that nobody foresaw; the server's log has the traceback, the client only its kind."""
    detail = f"the server failed on this request ({type(error).__name__}); its log says more"
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)
