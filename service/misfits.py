"""What in a request does not fit, in firmplan's own words: expected, found, where, and the nearest name.

The server's description of itself (`/openapi.json`) says what a route takes, so what was sent is held to that, by the same
validation that plans and inputs go through. Only what a schema cannot say, such as "one of these three", comes from the body's
own rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from ..plans import Json, NotJson, Problem, parse, value_problems
from ..plans.nearest import listing
from ..plans.paths import path_of

CODE: Final = "bad-request"


def misfits_of(request: Request, error: RequestValidationError) -> list[Problem]:
    """Return every fault of a request that the framework refused; at least one."""
    described = request.app.openapi()
    operation = described["paths"][request.scope["route"].path_format][request.method.lower()]
    raw: list[dict[str, Any]] = list(error.errors())
    found = list(_of_parameters(operation, described, raw))
    if any(fault["loc"][0] == "body" for fault in raw):
        found += _of_body(operation, described, error.body)
    return found or [_own_words(fault) for fault in raw]


def _of_parameters(
    operation: Mapping[str, Any], described: Mapping[str, Any], raw: list[dict[str, Any]]
) -> Iterator[Problem]:
    """Yield the faults of the query, the headers and the path."""
    for fault in raw:
        place, name = fault["loc"][0], str(fault["loc"][-1])
        known = next(
            (
                each
                for each in operation.get("parameters", ())
                if each["in"] == place and each["name"].lower() == name.lower()
            ),
            None,
        )
        if known is not None:
            value = _read(str(fault["input"]), known["schema"])
            for each in value_problems(value, _alone(known["schema"], described)):
                where = f"$.{known['name']}{each.inner}"
                yield Problem(CODE, where, f"{each.message} (in the {place})", each.hint)


def _read(text: str, schema: Mapping[str, Any]) -> Json:
    """Return a parameter's value as its type reads it: text, unless a number is wanted and one is there."""
    if "integer" not in str(schema.get("type", schema.get("anyOf"))):
        return text
    try:
        return parse(text)
    except NotJson:
        return text


def _of_body(operation: Mapping[str, Any], described: Mapping[str, Any], body: object) -> Iterator[Problem]:
    """Yield the faults of the body's shape."""
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if body is None:
        keys = _keys(schema, described)
        wanted = f" with the keys {listing(keys)}" if keys else ""
        yield Problem(CODE, "$", f"expected a JSON object{wanted}, found no body")
        return
    for fault in value_problems(cast("Json", body), _alone(schema, described)):
        yield Problem(CODE, f"${fault.inner}", f"{fault.message} (in the body)", fault.hint)


def _keys(schema: Mapping[str, Any], described: Mapping[str, Any]) -> list[str]:
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    return list(described["components"]["schemas"].get(name, {}).get("properties", ()))


def _alone(schema: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of the description with what it refers to."""
    return {**schema, "components": described["components"]}


def _own_words(fault: Mapping[str, Any]) -> Problem:
    """Return what a body's own rule says."""
    reason = fault.get("ctx", {}).get("error", fault["msg"])
    return Problem(CODE, path_of(fault["loc"][1:]), f"{reason} (in the {fault['loc'][0]})")
