"""The server's description of itself, `/openapi.json`: the framework's document, with what the framework does not say.

The framework knows paths, parameters and shapes. This module adds the key that requests carry, the refusals that every route may answer with (described
once) and their headers. Examples stand with the bodies (`schemas.py`). Requests are validated against this document (`problems.py`), so it cannot be wrong about them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from .auth import OPEN_PATHS
from .callers import ADMIN, ANY, SCOPES, SERVER
from .problems import MEDIA_TYPE
from .schemas import RefusalView

REFUSED: Final = {
    "401": "No key, or a wrong one",
    "403": "The key lacks the route's scope (`needs-SCOPE`), or its name may not decide this; or a page of another site sent the request",
    "404": "No such thing",
    "408": "The rest of the body came too slowly",
    "409": "Not in this state, or already taken",
    "412": "The plan is not the one that `If-Match` or `If-None-Match` names",
    "413": "The body is too large",
    "415": "The body's media type is not JSON",
    "421": "The request is for another host",
    "422": "The request, or the plan in it, has faults",
    "429": "Too many requests, or too many runs",
    "500": "The server failed on this request; its log says why",
    "502": "A model or a tool failed while it was asked",
    "503": "The store cannot be read or written",
}
"""Status -> when a route may refuse a request with it."""
_SCHEMAS: Final = "#/components/schemas/"
_KEY: Final = "key"
_HEADERS: Final[Mapping[str, Mapping[str, str]]] = {
    "401": {"WWW-Authenticate": "How to send a key: `Bearer`."},
    "403": {
        "WWW-Authenticate": 'The scope that the key lacks: `Bearer error="insufficient_scope", scope=".."`.'
    },
    "429": {"Retry-After": "Seconds after which the request may be sent again."},
}
"""Status of a refusal -> its headers."""
_REQUEST_ID: Final[Mapping[str, Any]] = {"X-Request-ID": {"$ref": "#/components/headers/RequestId"}}
"""The header of every answer."""
CONDITIONAL_PATHS: Final = ("/v1/plans/{name}", "/v1/schedules/{name}")
"""Paths whose requests may name the ETag of what they change."""


def describe(app: FastAPI, *, needs_key: bool) -> Callable[[], dict[str, Any]]:
    """Return the function that returns the description of an application; it is made once.

    Args:
        app: The application, with all its routes.
        needs_key: Whether requests need a key.
    """

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            _add_components(document)
            for path, operation in _operations(document):
                _add_to_operation(path, operation, needs_key=needs_key)
            app.openapi_schema = document
        return app.openapi_schema

    return described


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation, from which generators name their functions: that of the handler."""
    return route.name


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def _add_components(document: dict[str, Any]) -> None:
    """Add the shape of refusals, the refusals themselves, and the key."""
    components = document.setdefault("components", {})
    refusal = RefusalView.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    shapes = cast("dict[str, Any]", refusal.pop("$defs", {}))
    components["schemas"] = {**components.get("schemas", {}), **shapes, "RefusalView": refusal}
    # These are the framework's own; no route answers with them.
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    components["responses"] = {
        f"Refused{status}": {
            "description": words,
            "headers": {
                **{name: _header(text) for name, text in _HEADERS.get(status, {}).items()},
                **_REQUEST_ID,
            },
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}RefusalView"}}},
        }
        for status, words in REFUSED.items()
    }
    components["headers"] = {
        "RequestId": _header("The id of the request: the one that the client sent, or a new one.")
    }
    components["securitySchemes"] = {
        _KEY: {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of the server: of its store (`firmplan keys add`), which has scopes and perhaps a tenant, or of its settings "
            "(`FIRMPLAN_API_KEYS`), which has every scope. The scope that an operation needs stands in its `security`. A server without keys answers only "
            "on its own machine, and needs none.",
        }
    }


def _add_to_operation(path: str, operation: dict[str, Any], *, needs_key: bool) -> None:
    if path in OPEN_PATHS:
        operation["security"] = []
    else:
        scope = SCOPES.get(operation["operationId"], SERVER)
        needed = {_KEY: [] if scope == ANY else [ADMIN if scope == SERVER else scope]}
        operation["security"] = [needed] if needs_key else [needed, {}]
    answers: dict[str, Any] = operation["responses"]
    if path == "/metrics":
        for status in ("401", "403", "429", "503"):
            answers[status] = {"$ref": f"#/components/responses/Refused{status}"}
    if path.startswith("/v1"):
        for status in REFUSED:
            if status != "412" or path in CONDITIONAL_PATHS:
                answers[status] = {"$ref": f"#/components/responses/Refused{status}"}
    elif "422" in answers:
        del answers["422"]
    for each in answers.values():
        if "$ref" not in each:
            each["headers"] = {**each.get("headers", {}), **_REQUEST_ID}
    operation["responses"] = dict(sorted(answers.items()))


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}
