"""Request ids, the access log, and a log in which every line is JSON, in real server processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket

import httpx2
import pytest
from forked import Program
from served import PLAN, Server

NOISY = '''
import logging
import threading
import warnings

from firmplan import tool


class Careless:
    def __del__(self):
        raise RuntimeError("in a destructor\\nof two lines")


@tool(effect="read")
def noisy(word: str) -> str:
    """Say something in every way that a library has."""
    warnings.warn("of a library", UserWarning)
    logging.getLogger("some.library").error("lost %s", word, extra={"x": 1})
    logging.getLogger("some.library").error("bad %d format", word)
    try:
        raise ValueError("caught\\nby the library")
    except ValueError:
        logging.getLogger("some.library").exception("and logged")
    broken = threading.Thread(target=lambda: 1 / 0, name="broken")
    broken.start()
    broken.join()
    Careless()
    raise RuntimeError("of the tool \\x1b[31m\\nsecond line")


@tool(effect="read", isolation="process")
def apart() -> int:
    """Say something in a process of its own."""
    warnings.warn("of a child", UserWarning)
    logging.getLogger("child.library").error("of two\\nlines")
    return 1
'''
BROKEN = '''
import asyncio

from firmplan import Engine, tool
from firmplan.service import serve


@tool(effect="pure")
def one() -> int:
    """Return one."""
    return 1


class Broken(Engine):
    async def get(self, run_id):
        raise LookupError("a bug\\nof two lines")

    async def events(self, run_id, after=0):
        if after >= 0:
            raise LookupError("in the middle of an answer")
        yield None

    async def status(self, run_id):
        return "running"


async def main():
    async with Broken([one], store="memory:") as engine:
        await serve(engine, port=0, on_bound=lambda url: print(url, flush=True))


asyncio.run(main())
'''


def lines_of(server):
    """Return what a server said, as documents: each line has to be one."""
    return [json.loads(line) for line in server.said]


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A server that logs JSON, has answered all kinds of requests, and has stopped."""
    with Server(
        tmp_path_factory.mktemp("json"), tools=NOISY, FIRMPLAN_API_KEYS="k1", FIRMPLAN_LOG="json"
    ) as server:
        own = {"Authorization": "Bearer k1"}
        steps = [{"id": "n", "tool": "noisy", "args": {"word": "w\n2"}}, {"id": "c", "tool": "apart"}]
        plan = {"firmplan": 1, "steps": steps}
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as garbage:
            garbage.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            garbage.recv(1000)
        told = {**own, "X-Request-ID": "mine-1"}
        run = server.post("/v1/runs", {"plan": plan}, headers=told)
        server.run_id = run.json()["id"]
        server.events(server.run_id, **own)
        server.shown = server.get(f"/v1/runs/{server.run_id}", headers=own).json()
        server.answers = {
            "run": run,
            "health": server.get("/healthz", headers={"X-Request-ID": "health-1"}),
            "refused": server.get("/v1/runs", headers={"X-Request-ID": "no-key"}),
            "missing": server.get("/v1/runs/none", headers=own),
            "nowhere": server.get("/v1/nowhere/at/all", headers={**own, "X-Request-ID": "no where"}),
            "long": server.get("/v1/tools", headers={**own, "X-Request-ID": "x" * 129}),
            "bad": server.post("/v1/runs", {"plan": 1}, headers=own),
        }
    server.lines = lines_of(server)
    return server


def test_every_line_is_json_whoever_wrote_it(answered):
    """Warnings, loggers of libraries, threads, destructors and tools; a record that does not fit its text is kept."""
    said = {line["event"]: line for line in answered.lines}
    assert any("UserWarning: of a library" in event for event in said)
    assert said["lost w\n2"]["logger"] == "some.library"
    assert "bad %d format" in said
    assert "caught\nby the library" in said["and logged"]["exception"]
    uncaught = [line["exception"] for line in answered.lines if line["event"] == "uncaught exception"]
    assert any("ZeroDivisionError" in trace for trace in uncaught)
    assert any("in a destructor" in trace for trace in uncaught)
    assert any(event.startswith("firmplan serves 2 tools at http://") for event in said)
    assert any("UserWarning: of a child" in event for event in said)
    assert said["of two\nlines"]["logger"] == "child.library"
    assert any(line.get("logger") == "uvicorn.error" for line in answered.lines)
    assert all({"timestamp", "level", "event"} <= set(line) for line in answered.lines)
    assert "\x1b" not in "".join(answered.said)


def test_a_request_id_is_in_answer_log_and_run(answered):
    """A client's own id is kept and reaches the work that the request starts."""
    assert answered.answers["run"].headers["x-request-id"] == "mine-1"
    assert answered.shown["request_id"] == "mine-1"
    of_run = [line for line in answered.lines if line.get("run") == answered.run_id]
    work = [line for line in of_run if line["event"] != "request"]
    assert {"run started", "call failed", "run finished"} <= {line["event"] for line in work}
    assert {line["request_id"] for line in work} == {"mine-1"}


@pytest.mark.parametrize("name", ["missing", "nowhere", "long", "bad"])
def test_a_request_without_a_usable_id_gets_one(answered, name):
    """An id with a space or of more than 128 characters would reach a log; the request gets a new one, and a problem names it."""
    answer = answered.answers[name]
    made = answer.headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{16}", made)
    if answer.status_code >= 400:
        assert answer.json()["request_id"] == made
    assert [line["status"] for line in answered.lines if line.get("request_id") == made] == [
        answer.status_code
    ]


def test_a_refused_request_has_its_id_too(answered):
    """The checks before every route refuse it; the answer and the log have its id all the same."""
    refused = answered.answers["refused"]
    assert (refused.status_code, refused.headers["x-request-id"]) == (401, "no-key")
    assert refused.json()["request_id"] == "no-key"
    assert [line["route"] for line in answered.lines if line.get("request_id") == "no-key"] == ["unrouted"]


def test_the_access_log_names_the_route_not_the_path(answered):
    """A line for each request, with what a search needs; health checks are not among them."""
    requests = [line for line in answered.lines if line["event"] == "request"]
    assert {line["route"] for line in requests} == {
        "/v1/runs", "/v1/runs/{run_id}", "/v1/runs/{run_id}/events", "/v1/tools", "unrouted",
    }  # fmt: skip
    first = next(line for line in requests if line["request_id"] == "mine-1")
    assert (first["method"], first["route"], first["status"]) == ("POST", "/v1/runs", 202)
    assert (first["level"], first["address"]) == ("info", "127.0.0.1")
    assert 0 < first["duration_s"] < 60
    assert "health-1" not in {line.get("request_id") for line in answered.lines}


def test_health_checks_are_logged_at_debug(tmp_path):
    """They are there where someone looks for them."""
    with Server(tmp_path, FIRMPLAN_LOG="json:debug") as server:
        server.get("/healthz", headers={"X-Request-ID": "health-2"})
    found = [line for line in lines_of(server) if line.get("request_id") == "health-2"]
    assert [(line["event"], line["route"], line["level"]) for line in found] == [
        ("request", "/healthz", "debug")
    ]


def test_a_bind_failure_is_json(tmp_path):
    """The last line of a server that could not begin is read by machines, too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with Server(tmp_path, "--port", port, FIRMPLAN_LOG="json") as server:
            assert server.process.wait(20) == 2
    (line,) = lines_of(server)
    assert line["level"] == "error"
    assert f"cannot listen on 127.0.0.1:{port}" in line["event"]


def test_a_wrong_setting_and_a_broken_tools_file_are_json(tmp_path):
    """What fails before the server begins is JSON as well; a wrong FIRMPLAN_LOG asks for nothing."""
    with Server(tmp_path, tools="def broken(:\n", FIRMPLAN_LOG="json") as server:
        assert server.process.wait(20) != 0
    assert [line["level"] for line in lines_of(server)] == ["error"]
    with Server(tmp_path, FIRMPLAN_LOG="jsonn") as server:
        assert server.process.wait(20) == 2
    assert "FIRMPLAN_LOG: expected words" in "".join(server.said)


def test_a_crash_in_a_handler_is_one_line(tmp_path):
    """The client gets a problem with its id, the log one line with the traceback; a crash in mid-answer is logged, too."""
    (tmp_path / "broken.py").write_text(BROKEN)
    env = {name: value for name, value in os.environ.items() if not name.startswith("FIRMPLAN_")}
    with Program(["broken.py"], cwd=tmp_path, env={**env, "FIRMPLAN_LOG": "json"}) as program:
        url = program.stdout.readline().strip()
        with httpx2.Client(base_url=url, timeout=20) as client:
            answer = client.get("/v1/runs/x", headers={"X-Request-ID": "crash-1"})
            with pytest.raises(httpx2.HTTPError):
                client.get("/v1/runs/x/events", headers={"X-Request-ID": "crash-2"})
            counted = client.get("/metrics").text
        program.send_signal(signal.SIGTERM)
        program.wait(20)
        lines = [json.loads(line) for line in program.stderr]
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "crash-1")
    assert answer.json()["request_id"] == "crash-1"
    assert "two lines" not in answer.text
    of_first = [line for line in lines if line.get("request_id") == "crash-1"]
    assert [line["event"] for line in of_first] == ["request failed", "request"]
    assert "a bug\nof two lines" in of_first[0]["exception"]
    assert of_first[1]["status"] == 500
    assert any(
        "in the middle" in line.get("exception", "") for line in lines if line.get("request_id") == "crash-2"
    )
    assert 'firmplan_http_requests_total{method="GET",status="500"} 1.0' in counted


def test_an_untold_server_logs_no_requests(tmp_path):
    """Without FIRMPLAN_LOG only warnings are shown, on lines for people."""
    with Server(tmp_path) as server:
        assert server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).status_code == 202
    assert not any("/v1/runs" in line for line in server.said)
