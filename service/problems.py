"""Every error response as `application/problem+json` (RFC 9457): `type title status code detail problems request_id`.

An error's code and message come from the error itself; this module only chooses the HTTP status. Internals do not leak: an error that
is none of firmplan's own classes becomes a 500 that names only its type, and its traceback goes to the server's log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from ..errors import (
    DECIDED,
    OWN_RUN,
    REPLACED,
    UNKNOWN_DELIVERY,
    UNKNOWN_PLAN,
    UNKNOWN_SCHEDULE,
    ConfigError,
    Diverged,
    FirmplanError,
    InputRejected,
    PlanningFailed,
    PlanRejected,
    RunDriven,
    RunNotFound,
    StoreError,
    ToolError,
)
from ..plans import Json, NotJson, Problem, parse, value_problems
from ..plans.reports.nearest import did_you_mean, listing, short
from ..plans.reports.paths import path_of
from ..tools.logbook import current_request

MEDIA_TYPE = "application/problem+json"

STATUS: tuple[tuple[type[FirmplanError], HTTPStatus], ...] = (
    (PlanRejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (PlanningFailed, HTTPStatus.BAD_GATEWAY),
    (InputRejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RunNotFound, HTTPStatus.NOT_FOUND),
    (RunDriven, HTTPStatus.CONFLICT),
    (Diverged, HTTPStatus.CONFLICT),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ToolError, HTTPStatus.BAD_GATEWAY),
)
"""The first match decides; any other error is a 500."""
STATUS_BY_CODE: Final = {
    DECIDED: HTTPStatus.CONFLICT,
    OWN_RUN: HTTPStatus.FORBIDDEN,
    REPLACED: HTTPStatus.PRECONDITION_FAILED,
    UNKNOWN_DELIVERY: HTTPStatus.NOT_FOUND,
    UNKNOWN_PLAN: HTTPStatus.NOT_FOUND,
    UNKNOWN_SCHEDULE: HTTPStatus.NOT_FOUND,
}
"""Codes that decide before the class does."""


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
    if (context := current_request.get()) is not None:
        document["request_id"] = context.id
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
    """Answer a body, query or path that does not have the documented shape, with all its problems."""
    assert isinstance(error, RequestValidationError)
    found = request_problems(request, error)
    detail = "; ".join(f"{each.path}: {each.message}{each.hint and f'; {each.hint}'}" for each in found)
    problems = [each.to_dict() for each in found]
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, CODE, detail, problems)


async def on_firmplan_error(_: Request, error: Exception) -> JSONResponse:
    """Answer an error of firmplan's own classes."""
    assert isinstance(error, FirmplanError)
    status = next(
        (status for kind, status in STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR
    )
    status = STATUS_BY_CODE.get(error.code, status)
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


def bug_response(error: Exception) -> JSONResponse:
    """Return the answer for any other error; the server's log has the traceback, the client only its type."""
    detail = f"the server failed on this request ({type(error).__name__}); its log has the traceback"
    return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)


# --- Requests that do not have the documented shape, in firmplan's own words: expected, found, where, and the nearest name.
#
# The server's description of itself (`/openapi.json`) says what a route takes, so the request is validated against it, by the same
# validation as plans and inputs. Only what a schema cannot say, such as "one of these three", comes from the body's own rule.


CODE: Final = "bad-request"
_UNKNOWN: Final = "unknown-parameter"


def request_problems(request: Request, error: RequestValidationError) -> list[Problem]:
    """Return every problem of a request that the framework refused; at least one."""
    # `openapi()` is computed once and kept by the framework.
    document = request.app.openapi()
    method = "get" if request.method == "HEAD" else request.method.lower()
    operation = document["paths"][request.scope["route"].path_format][method]
    errors: list[dict[str, Any]] = list(error.errors())
    found = [problem for each in errors for problem in _parameter_problems(each, operation, document)]
    if any(each["loc"][0] == "body" for each in errors):
        found += _body_problems(operation, document, error.body)
    # A rule of a model, such as "exactly one of", is not in the schema; then pydantic's message is the rule's own text.
    return found or [_rule_problem(each) for each in errors]


def expect_known_query(request: Request) -> None:
    """Refuse a query that has parameters which its route does not take: a misspelt filter would be ignored.

    Raises:
        RequestValidationError: It has some.
    """
    if not request.query_params:
        return
    document = request.app.openapi()
    known = _query_names(document, request.scope["route"].path_format, request.method)
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise RequestValidationError(
            [
                {
                    "type": _UNKNOWN,
                    "loc": ("query", name),
                    "input": request.query_params[name],
                    "known": known,
                }
                for name in unknown
            ]
        )


def _query_names(document: Mapping[str, Any], path: str, method: str) -> list[str]:
    """Return the query parameters that a route takes."""
    operation = document["paths"].get(path, {}).get("get" if method == "HEAD" else method.lower(), {})
    return [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]


def _parameter_problems(
    error: Mapping[str, Any], operation: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield the problems of one parameter of the query, the headers or the path."""
    place, name = error["loc"][0], str(error["loc"][-1])
    if error.get("type") == _UNKNOWN:
        taken: list[str] = error["known"]
        others = f"no other parameters than {listing(taken)}" if taken else "no parameters"
        yield Problem(
            CODE,
            f"$.{short(name)}",
            f"expected {others}, found {short(name)!r} (in the query)",
            did_you_mean(name, taken),
        )
        return
    for known in operation.get("parameters", ()):
        if known["in"] == place and known["name"].lower() == name.lower():
            value = _read_parameter(str(error["input"]), known["schema"])
            for each in value_problems(value, _with_components(known["schema"], document)):
                where = f"$.{known['name']}{each.inner}"
                yield Problem(CODE, where, f"{each.message} (in the {place})", each.hint)


def _read_parameter(text: str, schema: Mapping[str, Any]) -> Json:
    """Return a parameter's value: text, unless its type is a number and the text is one."""
    if "integer" not in str(schema.get("type", schema.get("anyOf"))):
        return text
    try:
        return parse(text)
    except NotJson:
        return text


def _body_problems(
    operation: Mapping[str, Any], document: Mapping[str, Any], body: object
) -> Iterator[Problem]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if body is None:
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        keys = list(document["components"]["schemas"].get(name, {}).get("properties", ()))
        expected = f" with the keys {listing(keys)}" if keys else ""
        yield Problem(CODE, "$", f"expected a JSON object{expected}, found no body")
        return
    for each in value_problems(cast("Json", body), _with_components(schema, document)):
        yield Problem(CODE, f"${each.inner}", f"{each.message} (in the body)", each.hint)


def _with_components(schema: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "components": document["components"]}


def _rule_problem(error: Mapping[str, Any]) -> Problem:
    """Return the message of a body's own rule as a problem."""
    reason = error.get("ctx", {}).get("error", error["msg"])
    return Problem(CODE, path_of(error["loc"][1:]), f"{reason} (in the {error['loc'][0]})")
