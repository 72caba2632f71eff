"""The page on HTTP has every route, every key of a body, every status, as the server describes itself."""

from __future__ import annotations

import re
from pathlib import Path

import firmplan
from described import DESCRIBED

PAGE = (Path(firmplan.__file__).parent / "docs" / "HTTP.md").read_text(encoding="utf-8")
NAMES = {
    "RUN": "{run_id}",
    "STEP": "{path}",
    "NAME": "{name}",
    "OTHER": "{other_id}",
    "DIGEST": "{digest}",
    "ID": "{delivery_id}",
}


def rows(head):
    lines = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def told_routes():
    """Yield method, path and body of every route in the table."""
    for requests, body, _ in rows("request"):
        for method, path in re.findall(r"`([A-Z]+) (/[^`?]*)", requests):
            yield method, re.sub(rf"\b({'|'.join(NAMES)})\b", lambda found: NAMES[found[0]], path), body


def test_every_route_is_told():
    """The table and the description have the same routes."""
    described = {(method.upper(), path) for path, each in DESCRIBED["paths"].items() for method in each}
    assert {(method, path) for method, path, _ in told_routes()} == described


def test_every_key_of_a_body_is_told():
    """What a route takes stands beside it, and nothing else."""
    schemas = DESCRIBED["components"]["schemas"]
    for method, path, body in told_routes():
        operation = DESCRIBED["paths"][path][method.lower()]
        told = set(re.findall(r"`(\w+)`", body))
        if "requestBody" not in operation:
            assert told == set(), path
            continue
        content = operation["requestBody"]["content"]
        if "application/json" not in content:  # bytes as they are
            assert told == set(), path
            continue
        schema = content["application/json"]["schema"]
        name = next(iter(re.findall(r"'#/components/schemas/(\w+)'", str(schema))), None)
        assert told == (set(schemas[name]["properties"]) if name else {"plan"}), path


def test_every_parameter_of_a_query_is_told():
    for requests, *_ in rows("request"):
        for method, path, query in re.findall(r"`([A-Z]+) (/[^`?]*)\?([^`]*)`", requests):
            described = DESCRIBED["paths"][
                path.replace("RUN", "{run_id}").replace("NAME", "{name}").replace("DIGEST", "{digest}")
            ][method.lower()]["parameters"]
            told = {name.rstrip("=") for name in query.split("&")}
            assert told == {each["name"] for each in described if each["in"] == "query"}


def test_every_status_is_told():
    """Each refusal that a route describes has its row, and the other way round."""
    told = {number for row in rows("status") for number in re.findall(r"\d{3}", row[0])}
    described = {
        number
        for each in DESCRIBED["paths"].values()
        for operation in each.values()
        for number in operation["responses"]
        if number >= "400"
    }
    assert told == described
