"""From an answer that is none of success to firmplan's own error, with the server's code, message and problems."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import Any, Final, cast

from ..errors import (
    OWN_RUN,
    ConfigError,
    Diverged,
    EngineBug,
    FirmplanError,
    InputRejected,
    OutcomeUnknown,
    PlanningFailed,
    PlanRejected,
    RunFailed,
    RunNotFound,
    ServerError,
    StoreError,
    ToolError,
)
from ..plans import CheckReport
from .results import problems_of

PROBLEM: Final = "application/problem+json"
REQUEST_AT_FAULT: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""Statuses of a request whose values do not fit; any other refusal is about the server, the key or the moment."""
OF_A_PERSON: Final = (OWN_RUN, "other-name")
"""Codes of a 403 that are about the person who decides, not about the key."""
NO_ROUTE: Final = "not-found"
"""Code of a path that the server does not have: it is another program, or an older version."""
TRY_AGAIN: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
GATEWAY: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
"""Answers of a proxy whose server is being restarted; with a problem document they are firmplan's own, and final."""
TEXT_MAX: Final = 200
"""Characters of an answer of another program that a message quotes."""

_SAID: Final[Mapping[str, Callable[[str], FirmplanError]]] = {
    kind.code: cast("Callable[[str], FirmplanError]", kind)
    for kind in (PlanningFailed, RunNotFound, StoreError, ConfigError, ToolError, OutcomeUnknown, EngineBug)
}
"""Code -> the error that is made from its message alone."""


def is_temporary(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may be answered later."""
    return status in TRY_AGAIN or (status in GATEWAY and not _is_problem(headers))


def error_of(status: int, headers: Mapping[str, str], body: bytes, url: str) -> FirmplanError:
    """Return the error that an answer stands for.

    Args:
        status: The HTTP status.
        headers: Of the answer; names in any case.
        body: Of the answer.
        url: The server, for messages.
    """
    data = _document(headers, body)
    if data is None:
        said = " ".join(body[: 4 * TEXT_MAX].decode("utf-8", "replace").split())[:TEXT_MAX]
        moved = f" and leads to {headers['location']!r}" if "location" in headers else ""
        return ServerError(
            f"{url} answered {status}{moved}, not as `firmplan serve` does: expected {PROBLEM}, found "
            f"{headers.get('content-type') or 'no content type'}{f': {said}' if said else ''}; is this the server's address?",
            code="bad-answer",
            status=status,
            retry_after=retry_after_of(headers),
        )
    code, message = str(data["code"]), str(data.get("detail") or data.get("title") or status)
    problems = problems_of(data.get("problems") or ())
    if code == PlanRejected.code:
        return PlanRejected(CheckReport(problems))
    if code == Diverged.code:
        evidence = (data.get(name) for name in ("step", "field", "expected", "found"))
        step, name, expected, found = evidence
        return Diverged(step=str(step or ""), field=str(name or ""), expected=expected, found=found)
    if (kind := _SAID.get(code)) is not None:
        return kind(message)
    if code in OF_A_PERSON or (status in REQUEST_AT_FAULT and code not in (NO_ROUTE, RunFailed.code)):
        return InputRejected(message, problems, code=code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and data.get("request_id"):
        message = f"{message} (request {data['request_id']})"  # by which the server's log has it
    return ServerError(message, code=code, status=status, retry_after=retry_after_of(headers))


def _document(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any] | None:
    """Return the problem document; `None`: the answer is not firmplan's."""
    if not _is_problem(headers):
        return None
    try:
        data = json.loads(body)
    except ValueError:
        return None
    return cast("Mapping[str, Any]", data) if isinstance(data, dict) and "code" in data else None


def _is_problem(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == PROBLEM


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `Retry-After`, which is a number of seconds or a date."""
    given = headers.get("retry-after", "").strip()
    if not given:
        return None
    if given.isdecimal():
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time())
    except ValueError:
        return None
