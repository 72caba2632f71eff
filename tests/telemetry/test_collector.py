"""Real processes export to a real collector: OTLP over HTTP, decoded."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest
from firmplan.errors import ConfigError
from firmplan.telemetry.providers import exporter_of, set_up
from firmplan.testing import ScriptedModel
from otlp import Collector, attributes
from served import PLAN, TOOLS, Server

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
SLOW = {
    "firmplan": 1,
    "steps": [
        {"id": "begin", "tool": "add", "args": {"a": 1, "b": 1}},
        {"id": "slow", "tool": "nap", "args": {"seconds": 1.5}},
        {"id": "word", "ask": {"prompt": "A word about ${len([slow])}."}},
    ],
    "output": "${word}",
}
CLI_PLAN = {"firmplan": 1, "steps": [{"id": "t", "tool": "add", "args": {"a": 1, "b": 2}}], "output": "${t}"}


def test_a_run_of_two_servers_is_one_trace(tmp_path):
    """Submitted with a `traceparent`, cut off by SIGKILL and finished by the next server: every span has the client's trace, also the requests to models."""
    headers = {"traceparent": PARENT, "X-Request-ID": "req-7"}
    with Collector() as collector, ScriptedModel(["sea"]) as model:
        env = {**collector.env, "FIRMPLAN_MODEL": "m", "FIRMPLAN_BASE_URL": model.base_url}
        with Server(tmp_path, **env) as first:
            run = first.post("/v1/runs", {"plan": SLOW}, headers=headers).json()["id"]
            collector.wait(lambda it: it.named("step begin"))
            first.stop(signal.SIGKILL)
        assert collector.named("invoke_workflow") == []
        with Server(tmp_path, **env) as second:
            done = second.wait(run)
            assert (done["status"], done["output"], done["request_id"]) == ("succeeded", "sea", "req-7")
            assert (second.get("/healthz").status_code, second.get("/metrics").status_code) == (200, 200)
            second.stop(signal.SIGTERM)
        collector.wait(lambda it: it.named("invoke_workflow") and "firmplan.run.duration" in it.metrics)
    of_runs = [span for span in collector.spans if not span.name.startswith(("GET", "POST"))]
    assert {span.trace_id.hex() for span in of_runs} == {TRACE}
    (request,) = collector.named("POST /v1/runs")
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, SPAN)
    (workflow,) = collector.named("invoke_workflow")
    assert workflow.parent_span_id == request.span_id
    assert not any("healthz" in span.name or "metrics" in span.name for span in collector.spans)
    found = attributes(workflow)
    assert (found["firmplan.run.id"], found["firmplan.run.continued"]) == (run, True)
    assert (found["firmplan.run.status"], found["firmplan.request.id"]) == ("succeeded", "req-7")
    (first_step,) = collector.named("step begin")  # it was done before, and is not repeated
    assert first_step.parent_span_id != workflow.span_id
    (chat,) = collector.named("chat m")
    (ask,) = collector.named("ask")
    assert chat.parent_span_id == ask.span_id
    assert attributes(chat)["gen_ai.usage.input_tokens"] > 0
    assert "A word" not in str(collector.spans)
    assert collector.services == {"firmplan"}
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "firmplan.call.duration"} <= set(
        collector.metrics
    )
    assert collector.metrics["firmplan.run.duration"].unit == "s"


def cli(folder, *words, **env):
    """Run `firmplan` in a process of its own, without other variables of OpenTelemetry."""
    (folder / "tools.py").write_text(TOOLS)
    (folder / "plan.json").write_text(json.dumps(CLI_PLAN))
    return subprocess.run(
        [sys.executable, "-m", "firmplan", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin", "HOME": str(folder), **env},
        timeout=60,
    )


def test_a_command_exports_before_it_ends(tmp_path):
    """Spans of `firmplan run` are sent though the process ends at once; with `contents` they have arguments and results."""
    with Collector() as collector:
        done = cli(
            tmp_path,
            "run",
            "plan.json",
            "--tools",
            "tools.py",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_SERVICE_NAME="nightly",
            FIRMPLAN_TELEMETRY="contents",
        )
        assert done.returncode == 0, done.stderr
        assert collector.services == {"nightly"}
    (span,) = collector.named("execute_tool add")
    found = attributes(span)
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"a": 1, "b": 2}
    assert found["gen_ai.tool.call.result"] == "3"


@pytest.mark.parametrize(
    "env",
    [
        {"FIRMPLAN_TELEMETRY": "off"},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_what_is_switched_off_exports_nothing(tmp_path, env):
    """By firmplan's own setting, or by those of OpenTelemetry."""
    with Collector() as collector:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        done = cli(tmp_path, "run", "plan.json", "--tools", "tools.py", **endpoint, **env)
        assert done.returncode == 0, done.stderr
        assert collector.spans == []
        assert collector.metrics == {}


def test_a_collector_that_is_gone_fails_no_run(tmp_path):
    """The command does its work, and ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        done = cli(
            tmp_path,
            "run",
            "plan.json",
            "--tools",
            "tools.py",
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("3")


def test_a_wrong_variable_is_named(tmp_path):
    """It is an error of the command: what was asked for cannot be done."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = cli(tmp_path, "run", "plan.json", "--tools", "tools.py", **endpoint, OTEL_TRACES_EXPORTER="zipkin")
    assert done.returncode == 2
    assert "OTEL_TRACES_EXPORTER: expected one of otlp, console, none, found 'zipkin'" in done.stderr
    with pytest.raises(
        ConfigError, match="OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf or grpc, found 'http'"
    ):
        set_up({**endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http"})
    done = cli(tmp_path, "run", "plan.json", "--tools", "tools.py", FIRMPLAN_TELEMETRY="all")
    assert done.returncode == 2
    assert "telemetry" in done.stderr


def test_an_exporter_that_is_not_installed_is_told_and_fails_no_run(tmp_path):
    """A cluster may set the variables for all of its programs."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    done = cli(tmp_path, "run", "plan.json", "--tools", "tools.py", **env)
    assert done.returncode == 0, done.stderr
    assert "a package is missing" in done.stderr


@pytest.mark.parametrize(
    ("env", "traces", "metrics"),
    [
        ({}, "none", "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "otlp", "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, "otlp", "none"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console", "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_METRICS_EXPORTER": "none"}, "otlp", "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "x", "OTEL_SDK_DISABLED": "TRUE"}, "none", "none"),
    ],
)
def test_the_variables_say_what_is_exported(env, traces, metrics):
    """Nothing without one of them."""
    assert (exporter_of(env, "TRACES"), exporter_of(env, "METRICS")) == (traces, metrics)


def test_a_server_without_telemetry_keeps_the_trace_of_a_request(tmp_path):
    """Its run continues the trace where a server with telemetry takes it over."""
    with Collector() as collector:
        with Server(tmp_path) as first:
            run = first.post(
                "/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}, headers={"traceparent": PARENT}
            ).json()["id"]
            assert first.wait(run)["status"] == "succeeded"
            forked = first.post(
                f"/v1/runs/{run}/fork", {"at": "total"}, headers={"traceparent": "00-zz"}
            ).json()
            assert first.wait(forked["id"])["status"] == "succeeded"
        with Server(tmp_path, **collector.env) as second:
            again = second.post(
                f"/v1/runs/{run}/fork", {"set": {"total": 9}}, headers={"traceparent": PARENT}
            ).json()
            assert second.wait(again["id"])["output"] == 9
            assert second.post(f"/v1/runs/{run}/replay").status_code == 200
        collector.wait(lambda it: it.named("invoke_workflow"))
    (workflow,) = collector.named("invoke_workflow")
    assert workflow.trace_id.hex() == TRACE
    assert attributes(workflow)["firmplan.run.parent"] == run
