"""Documents: what becomes a tool, and what is said of documents that are wrong, hostile or too large."""

from __future__ import annotations

import json

import pytest
from firmplan import ConfigError, Toolset, check
from firmplan.tools.openapi import document as openapi_document
from openapi_calls import call, document, operation

URL = "https://api.example.org"


def load(made, **settings):
    return Toolset.from_openapi(made, **{"base_url": URL, **settings})


def one(path="/x", method="get", components=None, **parts):
    """The tool of a document with one operation."""
    made = document({path: {method: operation(**parts)}}, components=components or {})
    (tool,) = load(made)
    return tool


# What becomes a tool.


def test_effects_come_from_methods():
    """As RFC 9110 says of them; each can be said otherwise."""
    methods = ("get", "head", "options", "post", "put", "patch", "delete", "trace")
    made = document({"/x": {method: operation(operationId=method) for method in methods}})
    found = {tool.name: (str(tool.effect), tool.idempotent) for tool in load(made)}
    assert found == {
        "get": ("read", False),
        "head": ("read", False),
        "options": ("read", False),
        "post": ("write", False),
        "put": ("write", True),
        "patch": ("write", False),
        "delete": ("write", True),
    }
    overrides = {
        "post": {"effect": "read", "reuse_for": "1h"},
        "PUT /x": {"idempotent": False},
        "get": {"name": "look"},
    }
    tools = load(made, overrides=overrides)
    assert str(tools.get("post").effect) == "read"
    assert not tools.get("put").idempotent
    assert "look" in tools.names


def test_tools_are_as_untrusted_as_their_authors():
    """Untrusted unless the user says otherwise, like an MCP server's; the words are marked as the document's."""
    made = document({"/x": {"get": operation(summary="Reads  \u202eall.\n", description="More.")}})
    (tool,) = load(made)
    assert (tool.trust, tool.is_trust_declared, tool.timeout_s) == ("untrusted", True, 60.0)
    assert tool.description == "(in the words of the OpenAPI document 'Shop') Reads all. More."
    (trusted,) = load(made, trust="trusted", timeout="5s", resource="shop")
    assert (trusted.trust, trusted.description, trusted.resource) == ("trusted", "Reads all. More.", "shop")


CHOICE = document(
    {
        "/a": {
            "get": operation(operationId="a", tags=["x"]),
            "post": operation(operationId="b", tags=["y", "x"]),
        },
        "/b/{id}": {"get": {"responses": {}}},
        "/c": {"get": operation(operationId="old", deprecated=True, summary="Was.")},
    }
)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["a", "b", "get_b_id", "old"]),
        ({"only": ["a", "GET /b/{id}"]}, ["a", "get_b_id"]),
        ({"tags": ["y"]}, ["b"]),
        ({"only": ["a"], "tags": ["x", "y"]}, ["a"]),
        ({"leave_out": ["a", "GET /b/{id}"]}, ["b", "old"]),
        ({"deprecated": False}, ["a", "b", "get_b_id"]),
        ({"deprecated": False, "only": ["old"]}, ["old"]),
        ({"prefix": "shop.", "only": ["a"]}, ["shop.a"]),
    ],
)
def test_a_choice_of_operations(settings, names):
    assert list(load(CHOICE, **settings).names) == names


def test_deprecated_operations_say_so():
    assert load(CHOICE).get("old").description.endswith("Deprecated. Was.")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"only": ["aa"]}, "only: the OpenAPI document 'Shop' has no operation 'aa'"),
        ({"only": "a"}, "write ['a']"),
        ({"tags": [1]}, "tags: expected a list of names"),
        ({"leave_out": ["GET /zz"]}, "leave_out: "),
        ({"overrides": {"B": {}}}, "did you mean 'b'"),
        ({"pages": {"z": {}}}, "pages: "),
        ({"tags": ["none"]}, "found none"),
        ({"onyl": ["a"]}, "unknown setting 'onyl'"),
        ({"isolation": "process"}, "isolation"),
        ({"queue": "gpu"}, "queue: its server"),
        ({"idempotency_header": "a\r\nb"}, "idempotency_header"),
        ({"base_url": "ftp://x"}, "base_url: expected"),
        ({"base_url": "https://x?a=1"}, "base_url: expected"),
        ({"base_url": "https://{host}/"}, "base_url: expected"),
        ({"base_url": 5}, "base_url: expected"),
    ],
)
def test_settings_that_are_wrong(settings, told):
    with pytest.raises(ConfigError) as raised:
        load(CHOICE, **settings)
    assert told in str(raised.value)


def test_results_are_of_the_types_of_success():
    """Several of them are alternatives; what errors look like is no result."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "w": {"writeOnly": True}},
        "required": ["a", "w"],
    }
    made = {"content": {"application/json": {"schema": schema}}}
    found = {**schema, "required": ["a"], "properties": {"a": {"type": "integer"}, "w": {"writeOnly": True}}}
    assert one(responses={"200": made, "404": {}, "default": {}}).returns == found
    assert one(responses={"200": made, "204": {}}).returns == {"anyOf": [found, {"type": "null"}]}
    assert one(responses={"default": made}).returns == found
    assert one(responses={"2XX": made}).returns == found
    assert one(responses={"201": {}}).returns == {"type": "null"}
    assert one(method="head", responses={"200": made}).returns == {"type": "null"}
    assert one(responses={"200": {"content": {"text/csv": {}}}}).returns == {"type": "string"}
    assert one(responses={"200": {"content": {"image/png": {}}}}).returns["title"] == "Artifact"
    assert one(responses={"200": {"content": {"application/json": {}}}}).returns is None
    assert one(responses={"404": made}).returns is None
    preferred = {"text/html": {}, "application/json;v=2": {}, "application/json": {"schema": schema}}
    assert one(responses={"200": {"content": preferred}}).returns == found


def test_schemas_of_3_0_become_json_schema():
    """`nullable`, exclusive bounds that are flags, `example`; words of others are left out."""
    given = {
        "type": "object",
        "discriminator": {"propertyName": "k"},
        "x-own": 1,
        "properties": {
            "n": {"type": "string", "nullable": True, "example": "a", "enum": ["a"]},
            "m": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 2**64 - 1},
            "r": {"nullable": True, "allOf": [{"$ref": "#/components/schemas/R"}]},
            "example": {"type": "file", "pattern": "(?<!a", "default": [2**64 - 1, True]},
            "o": {"oneOf": [{"type": "string"}, {"type": "integer"}], "title": ""},
        },
    }
    components = {"schemas": {"R": {"type": "boolean", "xml": {}}, "Q": given}}
    made = document(
        {"/x": {"get": operation(responses={"200": {"content": {"application/json": {"schema": given}}}})}},
        components=components,
    )
    (tool,) = load({**made, "openapi": "3.0.3"})
    assert tool.returns == {
        "type": "object",
        "properties": {
            "n": {"type": ["string", "null"], "enum": ["a", None]},
            "m": {"type": "integer", "exclusiveMinimum": 0, "maximum": float(2**64 - 1)},
            "r": {"anyOf": [{"$ref": "#/$defs/R"}, {"type": "null"}]},
            "example": {"default": [float(2**64 - 1), True]},
            "o": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "$defs": {"R": {"type": "boolean"}},
    }


TREE = {
    "schemas": {
        "Tree": {
            "type": "object",
            "properties": {"kids": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}},
        },
        "A": {"$ref": "#/components/schemas/B"},
        "B": {"$ref": "#/components/schemas/A"},
        "Parent": {"oneOf": [{"$ref": "#/components/schemas/Child"}]},
        "Child": {"allOf": [{"$ref": "#/components/schemas/Parent"}, {"type": "object"}]},
        "a b/c~d": {"type": "integer"},
    }
}


def to(name):
    return {"$ref": f"#/components/schemas/{name}"}


def test_types_may_hold_themselves():
    """Recursive ones stay; one that is defined by itself says nothing, and keeps no validator busy."""
    body = {"content": {"application/json": {"schema": to("Tree")}}, "required": True}
    tool = one("/x", "post", TREE, requestBody=body)
    assert tool.bind({"kids": [{"kids": []}]})
    made = document(
        {"/x": {"post": operation(parameters=[{"name": "p", "in": "query", "schema": to("Parent")}])}},
        components=TREE,
    )
    (tool,) = load(made)
    assert tool.bind({"p": {"any": 1}})
    for plan in ({"p": {"a": 1}}, {"p": 5}):
        step = {"id": "a", "tool": "call", "args": plan}
        assert check({"firmplan": 1, "steps": [step]}, [tool]).ok


def test_names_of_types_are_told_apart():
    """Whatever stands in a pointer."""
    refs = [to("a b~1c~0d"), to("a%20b~1c~0d"), {"$ref": "#/components/schemas/Tree/properties/kids"}]
    parameters = [{"name": f"p{at}", "in": "query", "schema": ref} for at, ref in enumerate(refs)]
    tool = one(components=TREE, parameters=parameters)
    assert len(tool.parameters["$defs"]) == 4
    assert tool.bind({"p0": 1, "p1": 2, "p2": [{}]})


def test_a_result_of_many_types_keeps_those_near_its_root():
    """The rest may be anything: a tool of a large document does not carry the whole of it."""
    wide = {
        f"T{n}": {"type": "object", "properties": {f"f{n}_{m}": to(f"T{n + 1}") for m in range(50)}}
        for n in range(60)
    }
    components = {"schemas": {**wide, "T60": {"type": "integer"}}}
    tool = one(
        components=components, responses={"200": {"content": {"application/json": {"schema": to("T0")}}}}
    )
    known = tool.returns["$defs"]
    assert known["T0"] == wide_of(wide["T0"])
    assert {} in known.values()
    assert len(json.dumps(tool.returns)) < 100_000


def wide_of(schema):
    return json.loads(json.dumps(schema).replace("#/components/schemas/", "#/$defs/"))


def test_servers_of_the_document():
    """The first, with the defaults of its variables; a relative one needs the address of the document."""
    paths = {"/x": {"get": operation()}}
    variables = {"v": {"default": "v2"}}
    made = document(
        paths, servers=[{"url": "https://a.example/{v}/", "variables": variables}, {"url": "https://b"}]
    )
    (tool,) = Toolset.from_openapi(made)
    assert tool.fn.server.base_url == "https://a.example/v2"
    for servers in ([], [{"url": "/api"}], [{"url": "https://{host}/"}], [{"url": 5}], None):
        with pytest.raises(ConfigError, match="base_url"):
            Toolset.from_openapi(document(paths, servers=servers))


def test_an_operation_at_another_server_is_left_out(capsys):
    """The address is the user's. Such operations are a toolset of their own."""
    paths = {
        "/x": {"get": operation(operationId="a")},
        "/y": {"get": operation(operationId="b", servers=[{"url": "https://files.example.org"}])},
        "/z": {"get": operation(operationId="c", servers=[{"url": URL}])},
    }
    made = document(paths, servers=[{"url": URL}])
    assert load(made).names == ("a", "c")
    assert "operations left out" in capsys.readouterr().err
    assert "b" in load(made, base_url="https://files.example.org", only=["b"]).names
    with pytest.raises(ConfigError, match="at another server"):
        load(made, only=["b"])


def test_a_document_that_names_its_server_with_each_operation():
    """Twilio's do: there that server is the document's."""
    paths = {
        f"/{name}": {"get": operation(operationId=name), "servers": [{"url": "https://a"}]} for name in "xy"
    }
    assert load(document(paths, servers=[{"url": "/"}])).names == ("x", "y")


# Where a document comes from.


def test_files_in_json_and_yaml(tmp_path):
    """YAML as people write it: keys that are numbers, anchors, bounds past 64 bits."""
    (tmp_path / "shop.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(CHOICE).encode())
    assert len(load(tmp_path / "shop.json")) == 4
    (tmp_path / "shop.yaml").write_text(
        """
openapi: 3.0.3
info: {title: Shop, version: 1.0}
paths:
  /x:
    get:
      operationId: call
      parameters: [&p {name: p, in: query, schema: {type: integer, maximum: 18446744073709551615}}]
      responses:
        200: {description: It is., content: {application/json: {schema: {type: integer}}}}
  /y:
    get:
      operationId: other
      parameters: [*p]
      responses: {204: {description: None.}}
"""
    )
    tools = load(tmp_path / "shop.yaml")
    assert tools.get("call").returns == {"type": "integer"}
    assert list(tools.get("other").parameters["properties"]) == ["p"]


BOMB = [("a", "x," * 9), *((name, f"*{before}," * 9) for before, name in zip("abcde", "bcdef", strict=True))]
"""Names and lists, each nine times as large as the one before."""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no object"),
        ("[]", "no object"),
        ("just words", "no object"),
        ("{", "in JSON, but"),
        ('{"openapi": "3.1.0", "paths": {}}', "expected operations under `paths`, found none"),
        ('{"swagger": "2.0"}', "expected OpenAPI 3, found Swagger 2.0; convert the document first"),
        ('{"openapi": "4.0.0"}', "found 4.0.0"),
        ('{"paths": {}}', "no `openapi` key"),
        ("a: b: c", "in YAML, but not YAML"),
        ("a: !!python/object:os.system x", "expected plain YAML"),
        ("{" * 3_000, "in JSON, but"),
        ('{"a":' * 100_000, "in JSON, but"),
        ("- " * 100_000 + "a", "nested deeper"),
        ("\n".join(f"{name}: &{name} [{value}]" for name, value in BOMB), "aliases repeat"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_document(tmp_path, text, told):
    """The message names the file, what is expected, and what to do."""
    file = tmp_path / "shop.txt"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert told in str(raised.value)
    assert "shop.txt" in str(raised.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (5, "found int"),
        ("", "a path, an address or a mapping"),
        ("no-such-file.json", "cannot be read"),
        (b"{}", "found bytes"),
        ({"openapi": object()}, "expected an OpenAPI document that is JSON"),
    ],
)
def test_what_is_no_document(given, told):
    with pytest.raises(ConfigError) as raised:
        load(given)
    assert told in str(raised.value)


def test_a_mapping_that_holds_itself():
    made = document({"/x": {"get": operation()}})
    made["paths"]["/x"]["get"]["self"] = made
    with pytest.raises(ConfigError, match="Recursion limit"):
        load(made)


def test_documents_have_bounds(tmp_path, monkeypatch):
    """A file is not read, and an answer no further than to its bound; YAML has a smaller one."""
    file = tmp_path / "shop.yaml"
    file.write_text("openapi: 3.1.0\n" + "# words\n" * 200)
    monkeypatch.setattr(openapi_document, "YAML_BYTES_MAX", 1_000)
    with pytest.raises(ConfigError, match="in YAML"):
        load(file)
    monkeypatch.setattr(openapi_document, "DOCUMENT_BYTES_MAX", 1_000)
    with pytest.raises(ConfigError, match="at most 0 MiB"):
        load(file)
    monkeypatch.setattr(openapi_document, "OPERATIONS_MAX", 3)
    with pytest.raises(ConfigError, match="at most 3 operations"):
        load(CHOICE)


def test_a_document_of_twenty_megabytes(tmp_path):
    """It is read in seconds, whatever is chosen; one that took minutes would run into the time limit of a test."""
    words = "long description " * 2_000
    paths = {
        f"/p{n}/{{id}}": {
            "get": operation(
                operationId=f"get{n}",
                description=words,
                parameters=[{"name": "q", "in": "query", "description": words}],
            )
        }
        for n in range(300)
    }
    file = tmp_path / "large.json"
    file.write_text(json.dumps(document(paths)))
    assert file.stat().st_size > 20_000_000
    assert len(load(file)) == 300
    assert load(file, only=["get7"]).names == ("get7",)


def test_a_document_at_an_address(echo):
    """Its server is where it is, if it names none; a redirect is for the user to follow."""
    echo.answers["/v1/openapi.json"] = 200, {}, document({"/x": {"get": operation()}})
    echo.answers["/old.json"] = 301, {"Location": "https://evil.example/"}, b""
    echo.answers["/none.json"] = 404, {}, b""
    echo.answers["/relative.json"] = (
        200,
        {},
        document({"/x": {"get": operation()}}, servers=[{"url": "api/"}]),
    )
    tools = Toolset.from_openapi(f"{echo.url}/v1/openapi.json")
    assert call(tools).output["path"] == "/x"
    assert call(Toolset.from_openapi(f"{echo.url}/relative.json")).output["path"] == "/api/x"
    with pytest.raises(ConfigError, match=r"status 301, which leads to https://evil\.example/"):
        load(f"{echo.url}/old.json")
    with pytest.raises(ConfigError, match="status 404"):
        load(f"{echo.url}/none.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        load("http://127.0.0.1:9/openapi.json")


# Documents that are wrong.


REF = {"name": "p", "in": "query", "schema": {"$ref": "#/components/schemas/Nothing"}}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"parameters": [REF]}, "'#/components/schemas/Nothing' leads to nothing"),
        ({"parameters": [{"$ref": "#/components/parameters/No"}]}, "leads to nothing"),
        ({"parameters": [{"$ref": "other.yaml#/P"}]}, "join the files into one document first"),
        ({"parameters": [{"$ref": "#anchor"}]}, "is no path in the document"),
        ({"parameters": [{"name": "p", "in": "query", "schema": to("A")}]}, "a reference leads in a circle"),
        ({"parameters": [{"in": "query"}]}, "parameters[0]: $.name"),
        ({"parameters": [{"name": "p", "in": "sky"}]}, "$.in"),
        ({"parameters": [5]}, "expected an object, found 5"),
        ({"requestBody": 5}, "expected an object, found 5"),
        ({"requestBody": {"content": {"application/json": {"schema": to("No")}}}}, "leads to nothing"),
        ({"responses": {"200": {"$ref": "#/components/responses/No"}}}, "leads to nothing"),
        ({"operationId": 5}, "operationId"),
        ({"tags": "x"}, "tags"),
    ],
)  # fmt: skip
def test_a_document_that_is_at_fault(parts, told):
    """The message has the operation, and says how to do without it."""
    made = document(
        {"/x": {"get": operation(**parts)}, "/y": {"get": operation(operationId="other")}}, components=TREE
    )
    with pytest.raises(ConfigError) as raised:
        load(made)
    assert told in str(raised.value)
    assert "leave_out=[" in str(raised.value)
    assert load(made, leave_out=["GET /x"]).names == ("other",)
    assert load(made, only=["other"]).names == ("other",)


def test_operations_of_one_name():
    """Both are named, and how to tell them apart."""
    made = document({"/x": {"get": operation(), "post": operation()}})
    with pytest.raises(
        ConfigError, match=r"called 'call': GET /x and POST /x; name one with overrides=\{'POST /x'"
    ):
        load(made)
    assert load(made, overrides={"POST /x": {"name": "add"}}).names == ("add", "call")


@pytest.mark.parametrize(
    ("path", "parts", "told"),
    [
        ("/x", {"requestBody": {"content": {"application/xml": {}}}}, "its body is application/xml"),
        ("/x", {"parameters": [{"name": "p", "in": "query", "style": "odd"}]}, "has the style 'odd'"),
        ("/x", {"parameters": [{"name": "X\r\nHost", "in": "header"}]}, "no name that can be sent"),
        ("/x", {"parameters": [{"name": "a; admin=1", "in": "cookie"}]}, "no name that can be sent"),
        ("/../admin", {}, "its path is none"),
        ("/a/%2e%2e/b", {}, "its path is none"),
        ("/a b", {}, "its path is none"),
        ("/x#y", {}, "its path is none"),
        ("/{a}{", {}, "its path is none"),
        ("/x\\y", {}, "its path is none"),
    ],
)
def test_what_firmplan_does_not_do_costs_the_operation_alone(capsys, path, parts, told):
    """The log names it; asked for by name it is an error."""
    made = document({path: {"post": operation(**parts)}, "/y": {"get": operation(operationId="other")}})
    assert load(made).names == ("other",)
    assert told in capsys.readouterr().err
    with pytest.raises(ConfigError) as raised:
        load(made, only=["call"])
    assert told in str(raised.value)
    with pytest.raises(ConfigError, match="found none"):
        load(made, leave_out=["other"])


def test_a_path_never_leaves_the_server(echo):
    """Whatever a document writes after the address."""
    for path in ("/@evil.example/", "//evil.example/x", "/:80@evil/", "/.evil.example"):
        tools = Toolset.from_openapi(document({path: {"get": operation()}}), base_url=echo.url)
        assert call(tools).output["headers"]["host"] == echo.url.removeprefix("http://")


def test_parameters_of_the_path_item_are_those_of_its_operations():
    """The operation's own win, and the path says what nobody declares."""
    item = {
        "parameters": [
            {"name": "q", "in": "query", "schema": {"type": "string"}},
            {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
        ],
        "get": operation(parameters=[{"name": "q", "in": "query", "schema": {"type": "integer"}}]),
    }
    (tool,) = load(document({"/x/{id}/{other}": item}))
    assert tool.parameters["properties"] == {
        "q": {"type": "integer"},
        "id": {"type": "integer"},
        "other": {"type": "string"},
    }
    assert tool.parameters["required"] == ["id", "other"]


def test_many_patterns_that_cannot_be_read_are_no_demand():
    """Another language's regular expressions."""
    parameters = [
        {"name": "p", "in": "query", "schema": {"type": "string", "pattern": "(?<name>a)(?#x)[[:alpha:]"}}
    ]
    assert one(parameters=parameters).bind({"p": "anything"})
