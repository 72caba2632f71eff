"""What is sent for the arguments of a call: addresses, headers and bodies, as they arrive at a real server."""

from __future__ import annotations

import pytest
from firmplan import Artifact, Engine, Toolset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_calls import call, document, operation


def parameter(place="query", schema=None, name="p", **more):
    return {"name": name, "in": place, "required": place == "path", "schema": schema or {}, **more}


LIST = ["a b", "c,d"]
OBJECT = {"R": 100, "G": True}


@pytest.mark.parametrize(
    ("style", "value", "query"),
    [
        ({}, "a&b=c#d+é", "p=a%26b%3Dc%23d%2B%C3%A9"),
        ({}, 1.0, "p=1"),
        ({}, True, "p=true"),
        ({}, None, ""),
        ({}, LIST, "p=a%20b&p=c%2Cd"),
        ({}, [], ""),
        ({"explode": False}, LIST, "p=a%20b,c%2Cd"),
        ({}, OBJECT, "G=true&R=100"),
        ({"explode": False}, OBJECT, "p=G,true,R,100"),
        ({"style": "spaceDelimited", "explode": False}, LIST, "p=a%20b%20c%2Cd"),
        ({"style": "pipeDelimited", "explode": False}, LIST, "p=a%20b%7Cc%2Cd"),
        ({"style": "pipeDelimited", "explode": True}, LIST, "p=a%20b&p=c%2Cd"),
        ({"style": "deepObject", "explode": True}, OBJECT, "p[G]=true&p[R]=100"),
        ({"style": "deepObject"}, {"a": {"b": [1, {"c": 2}]}}, "p[a][b][0]=1&p[a][b][1][c]=2"),
        ({"allowReserved": True}, "a&b=/", "p=a%26b%3D%2F"),
    ],
)
def test_query_styles(called, style, value, query):
    """As OpenAPI's table of styles says; no value becomes a parameter of its own that it is not."""
    came = called({"p": value}, parameters=[parameter(**style)])
    assert came["query"].replace("%5B", "[").replace("%5D", "]") == query


@pytest.mark.parametrize(
    ("style", "value", "path"),
    [
        ({}, "a b", "/x/a%20b/y"),
        ({}, LIST, "/x/a%20b,c%2Cd/y"),
        ({}, OBJECT, "/x/G,true,R,100/y"),
        ({"explode": True}, OBJECT, "/x/G=true,R=100/y"),
        ({"style": "label"}, LIST, "/x/.a%20b,c%2Cd/y"),
        ({"style": "label", "explode": True}, LIST, "/x/.a%20b.c%2Cd/y"),
        ({"style": "matrix"}, 5, "/x/;p=5/y"),
        ({"style": "matrix"}, LIST, "/x/;p=a%20b,c%2Cd/y"),
        ({"style": "matrix", "explode": True}, LIST, "/x/;p=a%20b;p=c%2Cd/y"),
        ({"style": "matrix", "explode": True}, OBJECT, "/x/;G=true;R=100/y"),
    ],
)
def test_path_styles(called, style, value, path):
    """As OpenAPI's table of styles says."""
    came = called({"p": value}, path="/x/{p}/y", parameters=[parameter("path", **style)])
    assert came["path"] == path


@pytest.mark.parametrize(
    "value", ["..", ".", "a/b", "../admin", "a\\b", "..\\x", "", "a\n", ["a", "b/c"], {"k": "/"}]
)
def test_a_value_never_leaves_its_segment(echo, value):
    """Servers that decode `%2F` before they look for the route would take it for another path; nothing is sent."""
    tools = Toolset.from_openapi(
        document({"/x/{p}/y": {"get": operation(parameters=[parameter("path")])}}), base_url=echo.url
    )
    (error,) = call(tools, {"p": value}).errors
    assert error.code == "bad-args"
    assert "path argument 'p'" in error.message
    assert echo.seen == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_one_segment(echo, value):
    """Whatever comes at the server: the segments before and after are as the document has them, and the value is whole."""
    from urllib.parse import unquote

    tools = Toolset.from_openapi(
        document({"/x/{p}/y": {"get": operation(parameters=[parameter("path")])}}), base_url=echo.url
    )
    run = call(tools, {"p": value})
    if run.status == "succeeded":
        start, x, segment, y = run.output["path"].split("/")
        assert (start, x, y) == ("", "x", "y")
        assert unquote(segment) == value
    else:
        assert run.errors[0].code == "bad-args"


def test_slashes_stand_where_the_user_says_so(called, echo):
    """Encoded, and never as a step up."""
    settings = {"path_slashes": ["call.p"]}
    came = called({"p": "src/a b.py"}, path="/files/{p}", parameters=[parameter("path")], settings=settings)
    assert came["path"] == "/files/src%2Fa%20b.py"
    made = document({"/files/{p}": {"get": operation(parameters=[parameter("path")])}})
    (error,) = call(Toolset.from_openapi(made, base_url=echo.url, **settings), {"p": "a/../b"}).errors
    assert error.code == "bad-args"


def test_headers_and_cookies(called):
    """A list is joined; a name that is no identifier has an alias."""
    came = called(
        {"X_Tags": ["a", "b"], "session": "s 1", "theme": None},
        parameters=[
            parameter("header", name="X-Tags"),
            parameter("cookie", name="session"),
            parameter("cookie", name="theme"),
        ],
    )
    assert came["headers"]["x-tags"] == "a,b"
    assert came["headers"]["cookie"] == "session=s%201"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\x00", "€", " a"])
def test_no_value_makes_a_header_of_its_own(echo, value):
    """Nothing is sent."""
    made = document({"/x": {"get": operation(parameters=[parameter("header", name="X-Tag")])}})
    (error,) = call(Toolset.from_openapi(made, base_url=echo.url), {"X_Tag": value}).errors
    assert (error.code, echo.seen) == ("bad-args", [])


def test_a_document_decides_neither_about_the_connection_nor_about_who_calls(echo):
    """Its headers `Host`, `Authorization` and the like are no arguments."""
    names = ["Host", "Authorization", "Content-Length", "Cookie", "Accept", "X-Forwarded-For", "X-Own"]
    made = document({"/x": {"get": operation(parameters=[parameter("header", name=each) for each in names])}})
    (tool,) = Toolset.from_openapi(made, base_url=echo.url)
    assert list(tool.parameters["properties"]) == ["X_Own"]


def body(schema, media_type="application/json", *, required=True, **more):
    return {"required": required, "content": {media_type: {"schema": schema, **more}}}


NOTE = {
    "type": "object",
    "required": ["id", "text"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "text": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "pinned": {"type": "boolean", "default": False},
        "by": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
}


def test_fields_of_a_json_body_are_arguments(called, echo):
    """What only the server writes is none, and a default of the server is not sent: it would overwrite what is there."""
    came = called({"text": "a", "tags": ["x"]}, method="post", requestBody=body(NOTE))
    assert (came["headers"]["content-type"], came["body"]) == (
        "application/json",
        '{"tags":["x"],"text":"a"}',
    )
    made = document({"/x": {"post": operation(requestBody=body(NOTE))}})
    (tool,) = Toolset.from_openapi(made, base_url=echo.url)
    assert list(tool.parameters["properties"]) == ["by", "pinned", "tags", "text"]
    assert tool.parameters["required"] == ["text"]
    assert tool.parameters["properties"]["pinned"] == {"type": "boolean", "description": "default: false"}


@pytest.mark.parametrize(
    ("schema", "value", "sent"),
    [
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], "[1,2]"),
        ({"oneOf": [{"type": "string"}, {"type": "object", "properties": {"a": {}}}]}, "x", '"x"'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"k": 1}, '{"k":1}'),
        ({"type": "object"}, {"k": [1]}, '{"k":[1]}'),
        ({}, None, "null"),
    ],
)
def test_another_json_body_is_one_argument(called, schema, value, sent):
    assert called({"body": value}, method="put", requestBody=body(schema))["body"] == sent


def test_a_body_that_is_not_needed_is_not_sent(called):
    """Neither where no argument is of it, nor where it has no fields."""
    came = called({}, method="post", requestBody=body(NOTE, required=False))
    assert ("content-type" in came["headers"], came["body"]) == (False, "")
    empty = {"type": "object", "properties": {}}
    assert (
        called({}, requestBody=body(empty, "application/x-www-form-urlencoded", required=False))["body"] == ""
    )
    assert called({}, method="post", requestBody=body(empty))["body"] == "{}"


def test_parts_of_all_of_are_fields(called):
    """Also by reference, with what each part requires."""
    base = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    schema = {"allOf": [base, {"properties": {"b": {"type": "string"}}}]}
    assert called({"a": 1, "b": "x"}, method="post", requestBody=body(schema))["body"] == '{"a":1,"b":"x"}'


def test_form_bodies(called):
    """With the styles that `encoding` names, and brackets for objects where it names none."""
    came = called(
        {"text": "a b&c", "tags": ["x", "y"], "by": {"name": "Ann"}, "pinned": True},
        method="post",
        requestBody=body(
            NOTE,
            "application/x-www-form-urlencoded",
            encoding={"tags": {"style": "deepObject", "explode": True}},
        ),
    )
    assert came["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert sorted(came["body"].split("&")) == [
        "by[name]=Ann",
        "pinned=true",
        "tags[0]=x",
        "tags[1]=y",
        "text=a%20b%26c",
    ]


def test_multipart_bodies_have_files_and_fields(echo):
    """A file is an artifact, whose bytes come from the store."""
    schema = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "more": {
                "type": "array",
                "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            },
            "note": {"type": "string"},
            "meta": {"type": "object"},
        },
    }
    made = document({"/x": {"post": operation(requestBody=body(schema, "multipart/form-data"))}})
    plan = {
        "firmplan": 1,
        "inputs": {"file": {"type": "object"}},
        "steps": [
            {
                "id": "a",
                "tool": "call",
                "args": {
                    "file": "${inputs.file}",
                    "more": ["${inputs.file}"],
                    "note": "hi",
                    "meta": {"k": 1},
                },
            }
        ],
        "output": "${a}",
    }
    with Engine(tools=Toolset.from_openapi(made, base_url=echo.url), store="memory:", flow="warn") as engine:
        artifact = engine.save_artifact_sync(b"\x00\xff bytes", media_type="image/png", name="cat.png")
        assert isinstance(artifact, Artifact)
        run = engine.run_sync(plan, inputs={"file": artifact.model_dump(mode="json")})
    assert run.status == "succeeded", run.errors
    came = run.output
    assert came["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert came["body"].count('filename="cat.png"') == 2
    assert "\r\nContent-Type: image/png\r\n\r\n\x00ÿ bytes\r\n" in came["body"]
    assert 'name="note"\r\n' in came["body"]
    assert '{"k":1}' in came["body"]


def test_text_and_bytes_are_bodies(called, echo):
    assert called({"body": "# é"}, method="post", requestBody=body({}, "text/markdown"))["body"] == "# Ã©"
    made = document({"/x": {"put": operation(requestBody=body({}, "application/octet-stream"))}})
    (tool,) = Toolset.from_openapi(made, base_url=echo.url)
    assert tool.parameters["properties"]["body"]["title"] == "Artifact"


def test_names_that_meet_are_told_apart(called, echo):
    """An argument that is an identifier keeps its name; aliases give way, and each goes to its own place."""
    parts = {
        "parameters": [
            parameter("path", name="id"),
            parameter("query", name="$filter"),
            parameter("query", name="filter"),
            parameter("query", name="page[size]"),
            parameter("query", name="class"),
            parameter("query", name="2nd"),
            parameter("query", name="é"),
        ],
        "requestBody": body({"type": "object", "properties": {"id": {}, "filter": {}}}),
    }
    made = document({"/x/{id}": {"post": operation(**parts)}})
    (tool,) = Toolset.from_openapi(made, base_url=echo.url)
    names = {
        "id",
        "filter_query",
        "filter",
        "page_size",
        "class_",
        "_2nd",
        "argument",
        "id_body",
        "filter_body",
    }
    assert set(tool.parameters["properties"]) == names
    came = called(
        {
            "id": 1,
            "filter_query": 2,
            "filter": 3,
            "page_size": 4,
            "class_": 5,
            "_2nd": 6,
            "id_body": 7,
            "filter_body": 8,
        },
        path="/x/{id}",
        method="post",
        **parts,
    )
    assert came["path"] == "/x/1"
    query = came["query"].replace("%5B", "[").replace("%5D", "]").split("&")
    assert set(query) == {"%24filter=2", "filter=3", "page[size]=4", "class=5", "2nd=6"}
    assert came["body"] == '{"filter":8,"id":7}'


@pytest.mark.parametrize(
    ("schema", "check"),
    [
        ({"type": "string"}, lambda key: len(key) == 64),
        ({"type": "string", "format": "uuid"}, lambda key: len(key) == 36 and key[14] == "4"),
        ({"type": "string", "maxLength": 40}, lambda key: len(key) == 40),
    ],
)
def test_an_idempotency_key_is_the_calls_own(called, echo, schema, check):
    """It is no argument, and makes the write one that may be sent again."""
    parts = {"parameters": [parameter("header", schema, name="Idempotency-Key")]}
    came = called({}, method="post", **parts)
    assert check(came["headers"]["idempotency-key"])
    (tool,) = Toolset.from_openapi(document({"/x": {"post": operation(**parts)}}), base_url=echo.url)
    assert (tool.idempotent, tool.parameters["properties"]) == (True, {})


def test_a_header_for_keys_that_no_document_tells(called):
    """As Stripe's: said by the user, for writes."""
    settings = {"idempotency_header": "Idempotency-Key"}
    assert len(called({}, method="post", settings=settings)["headers"]["idempotency-key"]) == 64
    assert "idempotency-key" not in called({}, method="get", settings=settings)["headers"]


def test_json_in_a_parameter(called):
    """As `content` says."""
    coded = {"name": "where", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}
    assert called({"where": {"a": [1]}}, parameters=[coded])["query"] == "where=%7B%22a%22%3A%5B1%5D%7D"


def test_a_path_may_have_a_fixed_query(called):
    came = called({"p": 1}, path="/x?beta=true", parameters=[parameter()])
    assert (came["path"], came["query"]) == ("/x", "beta=true&p=1")


def test_a_media_type_writes_no_header(called):
    """Its parameters are the document's words."""
    given = "application/json; a=b\r\nX-Admin: 1"
    came = called({"body": [1]}, method="post", requestBody=body({"type": "array"}, given))
    assert (came["headers"]["content-type"], "x-admin" in came["headers"]) == ("application/json", False)
