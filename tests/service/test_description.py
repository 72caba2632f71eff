"""`/openapi.json` is what a generator needs: a valid document, whose client works, and which no answer contradicts."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from firmplan import Engine
from firmplan.plans import value_problems
from firmplan.service.app import create_app
from openapi_spec_validator import OpenAPIV31SpecValidator
from served import MAIL, PLAN, Server

DESCRIBED = create_app(Engine([], store="memory:")).openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DESCRIBED["paths"].items()
    for method, operation in methods.items()
}
BIN = Path(sys.executable).parent
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
    if body := operation.get("requestBody"):
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


@pytest.mark.parametrize(("keys", "security"), [((), [{"key": []}, {}]), (("k" * 20,), [{"key": []}])])
def test_it_says_whether_a_key_is_needed(keys, security):
    document = create_app(Engine([], store="memory:"), api_keys=keys).openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["paths"]["/v1/runs"]["post"]["security"] == security
    assert document["paths"]["/healthz"]["get"]["security"] == []


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The package that openapi-python-client makes of the description."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(DESCRIBED))
    (folder / "settings.yaml").write_text("post_hooks: []\npackage_name_override: firmplan_http\n")
    command = [BIN / "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"]
    made = subprocess.run(
        [*command, "--config", "settings.yaml", "--output-path", "firmplan_http"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "WARNING" not in made.stdout + made.stderr, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"firmplan_http.{name}")
    sys.path.remove(str(folder))


def test_a_generated_client_runs_a_plan_and_sees_errors(generated, tmp_path):
    """With a key: submit, get, list, approve; a refusal has its code and its problems, as an object of the client's own."""
    key = "a-key-of-the-tests"
    clients = generated("client")
    with (
        Server(tmp_path, FIRMPLAN_API_KEYS=key) as server,
        clients.AuthenticatedClient(server.url, token=key) as client,
        clients.Client(server.url) as stranger,
    ):
        models = generated("models")
        submit = generated("api.runs.submit_run")
        body = models.RunBody.from_dict({"plan": PLAN, "inputs": {"a": 40}})
        accepted = submit.sync_detailed(client=client, body=body, idempotency_key="order-17")
        assert (accepted.status_code, accepted.headers["location"]) == (202, f"/v1/runs/{accepted.parsed.id}")
        again = submit.sync(client=client, body=body, idempotency_key="order-17")
        assert again.id == accepted.parsed.id
        server.client.headers["authorization"] = f"Bearer {key}"
        server.wait(accepted.parsed.id)
        run = generated("api.runs.get_run").sync(accepted.parsed.id, client=client)
        assert (run.status, run.output, run.steps["total"].status) == ("succeeded", 42, "succeeded")
        assert accepted.parsed.id in [
            each.id for each in generated("api.runs.list_runs").sync(client=client).runs
        ]

        mail = submit.sync(client=client, body=models.RunBody.from_dict({"plan": MAIL}))
        server.wait(mail.id, "waiting")
        approve = generated("api.steps.approve_step").sync
        approve(mail.id, "mail", client=client, body=models.ApproveBody(by="ada"))
        assert server.wait(mail.id)["output"] == "sent to me"

        faulty = models.RunBody.from_dict({"plan": {**PLAN, "output": "${totl}"}})
        refused = submit.sync_detailed(client=client, body=faulty)
        assert (refused.status_code, refused.parsed.code) == (422, "plan-rejected")
        assert (refused.parsed.problems[0].code, refused.parsed.problems[0].path) == (
            "unknown-ref",
            "$.output",
        )
        missing = generated("api.runs.get_run").sync("run_0", client=client)
        assert isinstance(missing, models.RefusalView)
        assert missing.code == "run-not-found"
        assert generated("api.runs.get_run").sync(run.id, client=stranger).code == "unauthorized"


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
def test_no_answer_contradicts_the_description(tmp_path):
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
        known = {
            "run_id": [done, waits, fails],
            "other_id": [done, fails],
            "name": ["adding"],
            "path": ["total", "mail", "no"],
        }
        (tmp_path / "hooks.py").write_text(HOOKS)
        told = subprocess.run(
            [
                BIN / "st",
                *("run", f"{server.url}/openapi.json", "--checks", CHECKS),
                *("--max-time", str(FUZZED_S), "--seed", os.environ.get("FIRMPLAN_SEED", "1"), "--no-color"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
                "SCHEMATHESIS_HOOKS": "hooks",
                "PYTHONPATH": str(tmp_path),
                "KNOWN_PARAMETERS": json.dumps(known),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stdout[-8_000:] + told.stderr[-2_000:]
        assert "Tested: 32" in told.stdout


FAILS = {"firmplan": 1, "steps": [{"id": "no", "fail": "never"}]}
