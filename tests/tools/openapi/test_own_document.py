"""An application of FastAPI whose own document is read back: its operations as tools of plans, in a real engine."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import Cookie, FastAPI, File, Form, Header, HTTPException, Query, Response, UploadFile
from firmplan import ConfigError, Engine, Toolset, check, tool
from http_app import Hosted
from openapi_calls import call
from pydantic import BaseModel, Field


class NewPet(BaseModel):
    name: str
    tag: str | None = None
    size: int = Field(3, ge=1, le=9)


class Pet(NewPet):
    id: int
    friends: list[Pet] = []


app = FastAPI(title="Pets", version="1.2")
app.state.pets = {}
app.state.keys = {}


@app.get("/pets", operation_id="list_pets")
def list_pets(
    tag: Annotated[list[str] | None, Query()] = None,
    limit: int = 10,
    page: int = 1,
) -> list[Pet]:
    """All pets, or those with a tag."""
    found = [pet for pet in app.state.pets.values() if not tag or pet.tag in tag]
    return found[(page - 1) * limit : page * limit]


@app.get("/pets/{pet_id}", operation_id="get_pet")
def get_pet(pet_id: int) -> Pet:
    if pet_id not in app.state.pets:
        raise HTTPException(404, f"no pet {pet_id}")
    return app.state.pets[pet_id]


@app.post("/pets", operation_id="add_pet", status_code=201)
def add_pet(pet: NewPet, idempotency_key: Annotated[str | None, Header()] = None) -> Pet:
    if idempotency_key in app.state.keys:
        return app.state.keys[idempotency_key]
    made = Pet(**pet.model_dump(), id=len(app.state.pets) + 1)
    app.state.pets[made.id] = app.state.keys[idempotency_key] = made
    return made


@app.put("/pets/{pet_id}", operation_id="change_pet")
def change_pet(pet_id: int, pet: NewPet) -> Pet:
    app.state.pets[pet_id] = Pet(**pet.model_dump(), id=pet_id)
    return app.state.pets[pet_id]


@app.delete("/pets/{pet_id}", operation_id="remove_pet", status_code=204)
def remove_pet(pet_id: int) -> None:
    app.state.pets.pop(pet_id, None)


@app.post("/pets/{pet_id}/photo", operation_id="add_photo")
def add_photo(
    pet_id: int, photo: Annotated[UploadFile, File()], note: Annotated[str, Form()] = ""
) -> dict[str, str]:
    return {
        "name": photo.filename or "",
        "text": photo.file.read().decode(),
        "note": note,
        "pet": str(pet_id),
    }


@app.get(
    "/pets/{pet_id}/photo",
    operation_id="get_photo",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}},
)
def get_photo(pet_id: int) -> Response:
    return Response(bytes([137, 80, pet_id]), media_type="image/png")


@app.get("/echo/{name}", operation_id="echo")
def echo(
    name: str,
    x_trace_id: Annotated[str, Header()] = "",
    session: Annotated[str, Cookie()] = "",
) -> dict[str, str]:
    return {"name": name, "trace": x_trace_id, "session": session}


@app.get("/echo/{name}/secret", operation_id="secret")
def secret(name: str) -> str:
    return f"the secret of {name}"


@pytest.fixture(scope="module")
def url():
    with Hosted(app) as hosted:
        yield hosted.url


@pytest.fixture
def tools(url):
    app.state.pets.clear()
    app.state.keys.clear()
    return Toolset.from_openapi(f"{url}/openapi.json")


def test_what_the_document_says_of_the_tools(tools):
    """Types, effects, defaults; recursive types; the key is no argument."""
    assert tools.names == (
        "add_pet",
        "add_photo",
        "change_pet",
        "echo",
        "get_pet",
        "get_photo",
        "list_pets",
        "remove_pet",
        "secret",
    )
    add = tools.get("add_pet")
    assert (str(add.effect), add.idempotent, tools.get("add_photo").idempotent) == ("write", True, False)
    assert set(add.parameters["properties"]) == {"name", "tag", "size"}
    assert add.parameters["required"] == ["name"]
    assert add.returns["$defs"]["Pet"]["properties"]["friends"]["items"] == {"$ref": "#/$defs/Pet"}
    assert tools.get("remove_pet").returns == {"type": "null"}


def test_a_plan_over_the_application(tools):
    """Writes and reads in order, items, results that flow on, and what an application refuses."""
    plan = {
        "firmplan": 1,
        "steps": [
            {
                "id": "made",
                "for_each": ["Rex", "Bo"],
                "tool": "add_pet",
                "args": {"name": "${item}", "tag": "dog"},
            },
            {"id": "changed", "tool": "change_pet", "args": {"pet_id": 1, "name": "Max"}, "after": ["made"]},
            {"id": "dogs", "tool": "list_pets", "args": {"tag": ["dog"]}, "after": ["changed"]},
            {"id": "gone", "tool": "remove_pet", "args": {"pet_id": 1}, "after": ["dogs"]},
            {"id": "left", "tool": "list_pets", "after": ["gone"]},
        ],
        "output": {
            "dogs": "${[d.name for d in dogs]}",
            "left": "${[p.name for p in left]}",
            "gone": "${gone}",
        },
    }
    with Engine(tools=tools, store="memory:") as engine:
        run = engine.run_sync(plan)
        assert run.status == "succeeded", run.errors
        assert run.output == {"dogs": ["Bo"], "left": ["Bo"], "gone": None}
        assert engine.replay_sync(run.id).digest == run.digest
        assert len(app.state.keys) == 2
        missing = engine.run_sync(
            {"firmplan": 1, "steps": [{"id": "a", "tool": "get_pet", "args": {"pet_id": 9}}]}
        )
    assert missing.errors[0].code == "http-404"
    assert "no pet 9" in missing.errors[0].message


def test_plans_are_checked_against_the_document(tools):
    """Names, types and bounds of arguments, and the fields of results."""

    def codes(step, output="${a}"):
        plan = {"firmplan": 1, "steps": [{"id": "a", **step}], "output": output}
        return {problem.code for problem in check(plan, tools).problems}

    assert codes({"tool": "get_pet", "args": {"pet_id": "x"}}) == {"bad-literal"}
    assert codes({"tool": "add_pet", "args": {"name": "x", "size": 10}}) == {"bad-literal"}
    assert codes({"tool": "add_pet", "args": {"nam": "x"}}) == {"missing-arg", "unknown-arg"}
    assert codes({"tool": "get_pet", "args": {"pet_id": 1}}, "${a.nmae}") == {"unknown-field"}
    assert codes({"tool": "get_pet", "args": {"pet_id": 1}}, "${a.name}") == set()


def test_what_an_application_says_reaches_no_write_without_leave(tools):
    """Results are untrusted, like those of MCP servers."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "pet", "tool": "get_pet", "args": {"pet_id": 1}},
            {"id": "send", "tool": "add_pet", "args": {"name": "${pet.name}"}},
        ],
    }
    assert [each.code for each in check(plan, tools).problems if each.severity == "error"] == ["unsafe-flow"]
    trusting = Toolset.from_openapi(
        app.openapi(), base_url="http://127.0.0.1:9", overrides={"add_pet": {"allow_untrusted": ["name"]}}
    )
    assert check(plan, trusting).ok


def test_files_both_ways(tools):
    """A photo that comes is an artifact, and one that is sent has its name and its bytes."""
    plan = {
        "firmplan": 1,
        "inputs": {"photo": {"type": "object"}},
        "steps": [
            {
                "id": "up",
                "tool": "add_photo",
                "args": {"pet_id": 7, "photo": "${inputs.photo}", "note": "a & b"},
            },
            {"id": "down", "tool": "get_photo", "args": {"pet_id": 7}},
        ],
        "output": ["${up}", "${down}"],
    }
    with Engine(tools=tools, store="memory:") as engine:
        photo = engine.save_artifact_sync("grin é".encode(), name="cat.txt").model_dump(mode="json")
        up, down = engine.run_sync(plan, inputs={"photo": photo}).output
        assert engine.read_artifact_sync(down) == bytes([137, 80, 7])
    assert up == {"name": "cat.txt", "text": "grin é", "note": "a & b", "pet": "7"}
    assert down["media_type"] == "image/png"


def test_headers_cookies_and_odd_names_arrive(tools):
    run = call(tools, {"name": "a b?&%é", "x_trace_id": "t-1", "session": "s;1"}, "echo")
    assert run.output == {"name": "a b?&%é", "trace": "t-1", "session": "s%3B1"}


def test_a_value_reaches_no_other_route(tools):
    """Starlette decodes `%2F` before it looks for the route: `x/secret` would be another operation."""
    assert call(tools, {"name": "x"}, "secret").output == "the secret of x"
    assert call(tools, {"name": "x/secret"}, "echo").errors[0].code == "bad-args"


def test_all_pages_of_a_list(url, tools):
    for number in range(7):
        assert call(tools, {"name": f"p{number}"}, "add_pet").status == "succeeded"
    paged = Toolset.from_openapi(
        f"{url}/openapi.json", only=["list_pets"], pages={"list_pets": {"by": "page", "argument": "page"}}
    )
    assert [pet["name"] for pet in call(paged, {"limit": 3}, "list_pets").output] == [
        f"p{n}" for n in range(7)
    ]
    assert "page" not in paged.get("list_pets").parameters["properties"]


def test_two_sources_of_one_name(tools):
    """The message says how to tell them apart."""

    @tool(effect="pure")
    def echo(name: str) -> str:
        """Say it."""
        return name

    with pytest.raises(ConfigError, match=r'from_openapi\(\.\., prefix="\.\."\)'):
        Toolset([*tools, echo])


def test_a_type_of_a_result_is_advice(url):
    """What does not fit stands with a warning, also of a write, unless the user wants it enforced."""
    made = app.openapi()
    for method, path in (("get", "/pets"), ("post", "/pets")):
        made = {**made, "paths": {**made["paths"]}}
        made["paths"][path] = {**made["paths"][path], method: {**made["paths"][path][method]}}
        wrong = {"content": {"application/json": {"schema": {"type": "string"}}}}
        made["paths"][path][method]["responses"] = {"200": wrong}
    tools = Toolset.from_openapi(made, base_url=url)
    for name, args in (("list_pets", {}), ("add_pet", {"name": "Rex"})):
        run = call(tools, args, name)
        assert run.status == "succeeded"
        (warning,) = run.warnings
        assert "expected text" in str(warning) or "string" in str(warning)
        (strict,) = Toolset.from_openapi(made, base_url=url, only=[name], results="enforce")
        (error,) = call([strict], args, name).errors
        assert (error.code, error.took_effect) == ("bad-result", name == "add_pet")
