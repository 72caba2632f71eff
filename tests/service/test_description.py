"""`/openapi.json` is what a generator needs: a valid document, whose client works, and which no answer contradicts."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from described import DESCRIBED
from firmplan import Engine
from firmplan.plans import value_problems
from firmplan.service.app import create_app
from openapi_spec_validator import OpenAPIV31SpecValidator
from served import MAIL, PLAN, Server

OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DESCRIBED["paths"].items()
    for method, operation in methods.items()
}
FUZZED_S = 60
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance,unsupported_method,ignored_auth"


def test_the_document_is_valid():
    """Every reference leads somewhere, and every part has the form of OpenAPI 3.1."""
    assert [str(fault) for fault in OpenAPIV31SpecValidator(DESCRIBED).iter_errors()] == []


def test_operations_have_readable_names():
    """Generators name their functions by them."""
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    assert {"submit_run", "submit_task", "get_run", "approve_step", "diff_runs"} <= set(names)
    assert all(len(name) < 20 and name.islower() for name in names)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_takes_and_answers(name):
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    if (body := operation.get("requestBody")) and "application/json" in body["content"]:
        schema = body["content"]["application/json"]["schema"]
        shapes = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
        for shape in shapes:
            reference = shape.get("$ref", "").rpartition("/")[2]
            found = DESCRIBED["components"]["schemas"].get(reference, shape)
            examples = found.get("examples") or [
                example for each in found["properties"].values() for example in each.get("examples", ())
            ]
            assert examples, name
            if reference and "examples" in found:
                for example in examples:
                    assert not list(value_problems(example, {**found, "components": DESCRIBED["components"]}))
    if " /v1" in name:
        assert {"401", "422", "429", "503"} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("keys", "security"), [((), [{"key": ["submit"]}, {}]), (("k" * 20,), [{"key": ["submit"]}])]
)
def test_it_says_whether_a_key_is_needed(keys, security):
    document = create_app(Engine([], store="memory:"), api_keys=keys).openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["paths"]["/v1/runs"]["post"]["security"] == security
    assert document["paths"]["/healthz"]["get"]["security"] == []


CLIENT = '''
import importlib
import json
import sys

url, key = sys.argv[1:]
plan, mail = json.load(sys.stdin)
models, clients = importlib.import_module("firmplan_http.models"), importlib.import_module("firmplan_http.client")


def call(name, *path, client, **options):
    """Call an operation; return its status, its headers and its answer as an object of the client's own."""
    found = importlib.import_module(f"firmplan_http.api.{name}").sync_detailed(*path, client=client, **options)
    return int(found.status_code), found.headers, found.parsed


def wait(run, *, client):
    while True:
        _, _, found = call("runs.get_run", run, client=client)
        if found.status not in ("queued", "running"):
            return found


with clients.AuthenticatedClient(url, token=key) as client, clients.Client(url) as stranger:
    body = models.RunBody.from_dict({"plan": plan, "inputs": {"a": 40}})
    status, headers, accepted = call("runs.submit_run", client=client, body=body, idempotency_key="order-17")
    assert (status, headers["location"]) == (202, f"/v1/runs/{accepted.id}")
    assert call("runs.submit_run", client=client, body=body, idempotency_key="order-17")[2].id == accepted.id
    run = wait(accepted.id, client=client)
    assert (run.status, run.output, run.steps["total"].status) == ("succeeded", 42, "succeeded"), run
    assert accepted.id in [each.id for each in call("runs.list_runs", client=client)[2].runs]

    _, _, waits = call("runs.submit_run", client=client, body=models.RunBody.from_dict({"plan": mail}))
    assert wait(waits.id, client=client).status == "waiting"
    call("steps.approve_step", waits.id, "mail", client=client, body=models.ApproveBody(by="ada"))
    while (sent := wait(waits.id, client=client)).status == "waiting":
        pass
    assert sent.output == "sent to me", sent

    faulty = models.RunBody.from_dict({"plan": {**plan, "output": "${totl}"}})
    status, _, refused = call("runs.submit_run", client=client, body=faulty)
    assert (status, refused.code) == (422, "plan-rejected")
    assert (refused.problems[0].code, refused.problems[0].path) == ("unknown-ref", "$.output")
    status, _, missing = call("runs.get_run", "run_0", client=client)
    assert (status, type(missing), missing.code) == (404, models.RefusalView, "run-not-found")
    assert call("runs.get_run", accepted.id, client=stranger)[2].code == "unauthorized"
print("the client works")
'''


def test_a_generated_client_runs_a_plan_and_sees_errors(http_tools, tmp_path):
    """openapi-python-client makes it without a warning. With a key it submits, gets, lists and approves; a refusal has its code and problems."""
    (tmp_path / "openapi.json").write_text(json.dumps(DESCRIBED))
    (tmp_path / "settings.yaml").write_text("post_hooks: []\npackage_name_override: firmplan_http\n")
    words = ["generate", "--path", "openapi.json", "--meta", "none", "--config", "settings.yaml"]
    made = run(http_tools / "openapi-python-client", *words, "--output-path", "firmplan_http", cwd=tmp_path)
    assert (made.returncode, "WARNING" in made.stdout + made.stderr) == (0, False), made.stdout + made.stderr
    key = "a-key-of-the-tests"
    with Server(tmp_path, FIRMPLAN_API_KEYS=key) as server:
        given = json.dumps([PLAN, MAIL])
        used = run(
            http_tools / "python", "-c", CLIENT, server.url, key, cwd=tmp_path, input=given, timeout=60
        )
    assert used.stdout == "the client works\n", used.stderr


def run(program, *words, **options):
    """Run a program of the HTTP tools."""
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, **options)


HOOKS = '''
import json
import os

import schemathesis

KNOWN = json.loads(os.environ["KNOWN_PARAMETERS"])


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """Let most requests be about something that is there."""
    for name, values in KNOWN.items():
        if path_parameters and name in path_parameters and hash(str(path_parameters[name])) % 4:
            path_parameters[name] = values[hash(str(path_parameters)) % len(values)]
    return path_parameters
'''


@pytest.mark.timeout(300)
def test_no_answer_contradicts_the_description(http_tools, tmp_path):
    """Schemathesis sends what the description allows, and what it forbids: no server error, no undocumented status, header or shape."""
    with Server(tmp_path, "--rate", "100000", "--queue", "100000") as server:
        done, waits, fails = (
            server.post("/v1/runs", {"plan": plan, "inputs": inputs}).json()["id"]
            for plan, inputs in ((PLAN, {"a": 1}), (MAIL, {}), (FAILS, {}))
        )
        server.wait(done)
        server.wait(waits, "waiting")
        server.wait(fails)
        assert server.client.put("/v1/plans/adding", json=PLAN).status_code == 200
        hourly = {"plan": "adding", "every": 3600, "inputs": {"a": 1}}
        assert server.client.put("/v1/schedules/adding", json=hourly).status_code == 200
        known = {
            "run_id": [done, waits, fails],
            "other_id": [done, fails],
            "name": ["adding"],
            "path": ["total", "mail", "no"],
        }
        (tmp_path / "hooks.py").write_text(HOOKS)
        told = run(
            http_tools / "st",
            *("run", f"{server.url}/openapi.json", "--checks", CHECKS),
            *(
                "--request-timeout",
                "60",
            ),  # `verify` starts processes, which takes its time beside other tests
            *("--max-time", str(FUZZED_S), "--seed", os.environ.get("FIRMPLAN_SEED", "1"), "--no-color"),
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
                "SCHEMATHESIS_HOOKS": "hooks",
                "PYTHONPATH": str(tmp_path),
                "KNOWN_PARAMETERS": json.dumps(known),
            },
        )
        assert told.returncode == 0, told.stdout[-8_000:] + told.stderr[-2_000:]
        assert f"Tested: {len(OPERATIONS)}" in told.stdout


FAILS = {"firmplan": 1, "steps": [{"id": "no", "fail": "never"}]}
