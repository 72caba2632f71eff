"""What becomes of a call that the server does not answer with success: typed errors, and for a write what is known of its effect."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import time
from email.utils import formatdate

import pytest
from firmplan import Engine, Toolset
from firmplan.tools.openapi import server as openapi_server
from http_app import Echo, Hosted
from openapi_calls import call, document, operation

PATHS = {f"/{method}": {method: operation(operationId=method)} for method in ("get", "post", "put", "delete")}


@pytest.fixture
def tools(echo):
    """A tool for each method."""
    return Toolset.from_openapi(document(PATHS), base_url=echo.url)


def outcome(tools, echo, name, status, headers=None, content=b"", **step):
    """Return status, code, whether it is temporary, and the message of a call that is answered so."""
    echo.answers[f"/{name}"] = status, headers or {}, content
    run = call(tools, name=name, **step)
    view = run.steps["a"]
    error = run.errors[0] if run.errors else None
    return (view.status, error.code if error else None, error.temporary if error else None), (
        error.message if error else str(view.error)
    )


@pytest.mark.parametrize(
    ("status", "headers", "read", "write"),
    [
        (400, {}, ("failed", "http-400", False), ("failed", "http-400", False)),
        (404, {}, ("failed", "http-404", False), ("failed", "http-404", False)),
        (408, {}, ("failed", "http-408", True), ("failed", "http-408", True)),
        (409, {}, ("failed", "http-409", False), ("failed", "http-409", False)),
        (422, {}, ("failed", "http-422", False), ("failed", "http-422", False)),
        (425, {}, ("failed", "http-425", True), ("failed", "http-425", True)),
        (429, {}, ("failed", "rate-limited", True), ("failed", "rate-limited", True)),
        (500, {}, ("failed", "http-500", True), ("indeterminate", None, None)),
        (501, {}, ("failed", "http-501", False), ("failed", "http-501", False)),
        (502, {}, ("failed", "http-502", True), ("indeterminate", None, None)),
        (503, {}, ("failed", "http-503", True), ("indeterminate", None, None)),
        (503, {"Retry-After": "0"}, ("failed", "http-503", True), ("failed", "http-503", True)),
        (504, {}, ("failed", "http-504", True), ("indeterminate", None, None)),
        (304, {}, ("failed", "http-304", False), ("failed", "http-304", False)),
    ],
)
def test_what_a_status_means(tools, echo, status, headers, read, write):
    """A refused call did nothing; where a server failed on the way, nobody knows what a write has done."""
    assert outcome(tools, echo, "get", status, headers)[0] == read
    assert outcome(tools, echo, "post", status, headers)[0] == write


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"message": "no such pet"}, "no such pet"),
        ({"detail": "gone", "title": "Not here"}, "Not here: gone"),
        ({"error": {"message": "bad key", "type": "auth"}}, "bad key"),
        ({"errors": [1]}, '{"errors": [1]}'),
        ([1, 2], "[1, 2]"),
        (b"plain words\n\x00 and more", "plain words and more"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_servers_words_are_told(tools, echo, content, told):
    """On one line, without invisible characters, and bounded."""
    _, message = outcome(tools, echo, "get", 404, {}, content)
    assert message == f"GET /get: 404 Not Found: {told}"


def test_words_of_a_server_are_bounded(tools, echo):
    _, message = outcome(tools, echo, "get", 400, {}, {"message": "long " * 5_000})
    assert len(message) < 600
    assert (
        outcome(tools, echo, "get", 400, {"content-type": "text/html"}, b"<html>")[1]
        == "GET /get: 400 Bad Request"
    )


def test_a_call_is_made_again_where_the_tool_says_so(echo):
    """As with other tools: a temporary failure of a read, and of a write that surely did nothing."""
    tools = Toolset.from_openapi(document(PATHS), base_url=echo.url, retries=3)
    for name in ("get", "post"):
        echo.answers[f"/{name}"] = [(429, {}, b""), (503, {"Retry-After": "0"}, b""), (200, {}, b"done")]
        run = call(tools, name=name)
        assert (run.output, run.steps["a"].attempts) == ("done", 3)


def test_an_idempotent_write_of_unknown_outcome_is_sent_again(tools, echo):
    """By its method, without a person; another write waits."""
    for name in ("put", "delete"):
        echo.answers[f"/{name}"] = [(500, {}, b""), (200, {}, b"done")]
        assert call(tools, name=name).output == "done"
    echo.answers["/post"] = [(500, {}, b""), (200, {}, b"done")]
    assert call(tools, name="post").status == "indeterminate"


def test_nothing_is_sent_before_the_time_that_the_server_named(tools, echo):
    """The next call waits, whatever operation it is of."""
    echo.answers["/get"] = [(429, {"Retry-After": "1"}, b"")]
    began = time.monotonic()
    assert call(tools, name="get").status == "failed"
    assert call(tools, name="delete").status == "succeeded"
    assert time.monotonic() - began >= 0.9


def test_a_long_pause_is_told_and_not_waited_for(tools, echo):
    """As a date, too. The call did nothing."""
    echo.answers["/get"] = 429, {"Retry-After": formatdate(time.time() + 3_600, usegmt=True)}, b""
    (_, _, _), message = outcome(tools, echo, "get", 429, {"Retry-After": "3600"})
    assert "it asks to try again after 3600 s" in message
    sent = len(echo.seen)
    (error,) = call(tools, name="post").errors
    assert (error.code, error.temporary, len(echo.seen)) == ("rate-limited", True, sent)


def test_a_pause_that_is_none_is_not_heeded():
    """A header of anything."""
    for given in ("", "soon", "-1", "1e9", "9" * 30, "\u0661"):
        answer = openapi_server.Answer(429, "", {"retry-after": given}, b"")
        assert openapi_server.retry_after_s(answer) is None
    past = openapi_server.Answer(429, "", {"retry-after": formatdate(0)}, b"")
    assert openapi_server.retry_after_s(past) == 0


def test_a_timed_out_write_is_unknown_and_a_read_fails():
    """The server has the request, and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tools = Toolset.from_openapi(
            document(PATHS), base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout="300ms"
        )
        read, write = call(tools, name="get"), call(tools, name="post")
    assert (read.errors[0].code, read.errors[0].temporary) == ("timeout", True)
    assert (write.status, write.steps["a"].status) == ("indeterminate", "indeterminate")


def broken(answers):
    """Serve connections that end in the middle, one by one; return the server's socket."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        for answer in answers:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"no HTTP\r\n\r\n"]
)
def test_a_connection_that_breaks(answer):
    """Of a write nobody knows what became; a read fails for now."""
    with broken([answer, answer]) as server:
        tools = Toolset.from_openapi(document(PATHS), base_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        (error,) = call(tools, name="get").errors
        assert (error.code, error.temporary) == ("connection-error", True)
        assert call(tools, name="post").status == "indeterminate"


def test_a_server_that_is_not_there_did_nothing():
    """Nothing was sent, also of a write: it may be tried again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        tools = Toolset.from_openapi(document(PATHS), base_url=url)
        for name in ("get", "post"):
            (error,) = call(tools, name=name).errors
            assert (error.code, error.temporary) == ("unreachable", True)
            assert f"{url} cannot be reached" in error.message


def test_redirects_are_followed_on_the_same_server_only(tools, echo):
    """With the method where the status keeps it; where a write may have happened before, nobody knows."""
    with Hosted(Echo()) as other:
        elsewhere = f"{other.url}/stolen"
        for status in (301, 302, 303, 307, 308):
            assert outcome(tools, echo, "get", status, {"Location": "/moved"})[0][0] == "succeeded"
            assert echo.last["path"] == "/moved"
            found, message = outcome(tools, echo, "get", status, {"Location": elsewhere})
            assert found == ("failed", "redirected", False)
            assert "is not followed" in message
            assert elsewhere in message
        for status, here, there in (
            (301, "indeterminate", "indeterminate"),
            (302, "indeterminate", "indeterminate"),
            (303, "succeeded", "failed"),
            (307, "succeeded", "failed"),
            (308, "succeeded", "failed"),
        ):
            assert outcome(tools, echo, "post", status, {"Location": "/moved"})[0][0] == here
            assert outcome(tools, echo, "post", status, {"Location": elsewhere})[0][0] == there
        assert other.app.seen == []
    assert [each["method"] for each in echo.seen if each["path"] == "/moved"][-3:] == ["GET", "POST", "POST"]


def test_a_write_whose_result_is_elsewhere_is_done(echo):
    """`See other` means that it took effect, so that it is not repeated."""
    tools = Toolset.from_openapi(document(PATHS), base_url=echo.url, retries=3)
    for location in ("http://127.0.0.1:1/result", "/gone"):
        echo.answers["/post"] = 303, {"Location": location}, b""
        echo.answers["/gone"] = 404, {}, b""
        (error,) = call(tools, name="post").errors
        assert error.took_effect
    assert [each["path"] for each in echo.seen] == ["/post", "/post", "/gone"]


def test_redirects_in_a_circle_end(tools, echo):
    assert outcome(tools, echo, "get", 302, {"Location": "/get"})[0][1] == "redirected"
    assert len(echo.seen) == openapi_server.REDIRECTS_MAX + 1


@pytest.mark.parametrize(
    ("headers", "content", "value"),
    [
        ({}, b"", None),
        ({"content-type": "application/json"}, b"", None),
        ({"content-type": "application/problem+json; charset=utf-8"}, b'{"a":1}', {"a": 1}),
        ({"content-type": "text/plain; charset=latin-1"}, b"\xe9", "é"),
        ({"content-type": "application/xml"}, b"<a/>", "<a/>"),
        ({}, b'{"a":1}', '{"a":1}'),
    ],
)
def test_values_of_answers(tools, echo, headers, content, value):
    """JSON where the server says JSON, else text."""
    echo.answers["/get"] = 200, headers, content
    assert call(tools, name="get").output == value


def test_bytes_are_artifacts(tools, echo):
    """With media type and the name that the server gives."""
    echo.answers["/get"] = (
        200,
        {"content-type": "image/png", "content-disposition": 'attachment; filename="cat.png"'},
        b"\x89PNG\xff",
    )
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "get"}], "output": "${a}"}
    with Engine(tools=tools, store="memory:") as engine:
        found = engine.run_sync(plan).output
        data = engine.read_artifact_sync(found)
    assert (found["media_type"], found["name"], found["size"]) == ("image/png", "cat.png", 5)
    assert data == b"\x89PNG\xff"


@pytest.mark.parametrize("content", [b"{not json", b"[NaN]", b'"\\ud800"', b"\xff"])
def test_an_answer_that_is_no_json(tools, echo, content):
    """A read fails; a write has taken effect."""
    headers = {"content-type": "application/json"}
    assert outcome(tools, echo, "get", 200, headers, content)[0] == ("failed", "bad-result", False)
    echo.answers["/post"] = 200, headers, content
    (error,) = call(tools, name="post").errors
    assert (error.code, error.took_effect) == ("bad-result", True)


def test_a_compressed_answer_is_bounded_as_it_is_read(tools, echo, monkeypatch):
    """What counts is the size after it was unpacked."""
    monkeypatch.setattr(openapi_server, "RESPONSE_BYTES_MAX", 1_000_000)
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    assert outcome(tools, echo, "get", 200, headers, gzip.compress(b"a" * 999_999))[0][0] == "succeeded"
    bomb = gzip.compress(b"a" * 50_000_000)
    assert outcome(tools, echo, "get", 200, headers, bomb)[0] == ("failed", "limit-exceeded", False)
    echo.answers["/post"] = 200, headers, bomb
    assert call(tools, name="post").errors[0].took_effect


def test_cookies_of_an_answer_reach_no_other_call(tools, echo):
    """No call depends on another."""
    echo.answers["/get"] = [(200, {"set-cookie": "session=1; Path=/"}, b"")]
    with Engine(tools=tools, store="memory:") as engine:
        for _ in range(2):
            engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "tool": "get"}]})
    assert "cookie" not in echo.last["headers"]


def test_reads_share_connections_and_close_them(tools, echo):
    """Many at once, and none is open after the engine."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "for_each": "${range(30)}", "tool": "get"}],
        "output": "${len(a)}",
    }
    (server,) = {tool.fn.server for tool in tools}
    with Engine(tools=tools, store="memory:") as engine:
        assert engine.run_sync(plan).output == 30
        assert len(server._held) == 1
    assert len(server._held) == 0


def test_the_client_logs_no_address_of_ours(tools, echo, caplog):
    """A key may stand in it."""
    with caplog.at_level(logging.DEBUG):
        assert call(tools, name="get").status == "succeeded"
    assert "/get" not in "".join(record.getMessage() for record in caplog.records if "http" in record.name)
