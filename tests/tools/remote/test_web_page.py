"""A proxy, or the login of a network, that answers in the place of a model, an MCP server or an API is told as what it is."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from firmplan import ConfigError, Engine, Model, Toolset
from firmplan.tools.remote.web_page import is_page, login_fault, page_fault

PAGE = b"<!doctype html><html><head><TITLE>\n Sign in &ndash; Corp\x1b[2J Proxy </TITLE></head><body>key=hush</body></html>"
TOLD = r"it answered with a web page titled 'Sign in \u2013 Corp\\x1b\[2J Proxy', from http://127\.0\.0\.1:\d+/\S*, and not as an API: probably a proxy"


@contextmanager
def login(*, redirects: bool = False):
    """Serve a login page wherever one asks, or lead there."""

    class Login(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            body = b"" if redirects else PAGE
            self.send_response(302 if redirects else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if redirects:
                self.send_header("Location", "https://sso.corp.example/login?from=secret")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_such_a_page():
    html = {"content-type": "Text/HTML; charset=utf-8"}
    assert is_page(200, html)
    assert is_page(407, html)
    assert not is_page(404, html), "the server's own, about a wrong path"
    assert not is_page(502, html), "of a server that is down"
    assert not is_page(200, {"content-type": "application/json"})
    assert "without a title, from http://h/x, and" in page_fault("http://me:word@h/x?key=hush", b"<p>")
    assert login_fault("http://h/v1", "/v2") is None
    told = login_fault("http://h/v1", "/login?to=hush") or ""
    assert told.startswith("it redirects to http://h/login, which looks like a login page: probably a proxy")


def test_in_the_place_of_a_model():
    """One request, no repair: the page is no draft of a model."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "ask": {"prompt": "hi"}}], "output": "${a}"}
    for redirects, told in (
        (False, TOLD),
        (True, r"redirects to https://sso\.corp\.example/login, which looks like"),
    ):
        with login(redirects=redirects) as url:
            model = Model("m", base_url=f"{url}/v1", api_key="the-key-of-models")
            with Engine([], store="memory:", models={"default": model}) as engine:
                run = engine.run_sync(plan)
        (error,) = run.errors
        assert re.search(told, error.message), error.message
        assert not error.temporary
        assert "hush" not in error.message


def test_in_the_place_of_an_mcp_server():
    for redirects, told in ((False, TOLD), (True, "looks like a login page")):
        with login(redirects=redirects) as url, pytest.raises(ConfigError, match=told):
            Toolset.from_mcp(f"{url}/mcp")


def test_in_the_place_of_an_api():
    """A read fails; a write may have been done before the page came. An operation whose document names HTML gets the page."""
    said = {
        "200": {
            "description": "",
            "content": {
                "application/json": {"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
            },
        }
    }
    page = {"200": {"description": "", "content": {"text/html": {}}}}
    paths = {
        "/n": {
            "get": {"operationId": "look", "responses": said},
            "post": {"operationId": "send", "responses": said},
        },
        "/page": {"get": {"operationId": "page", "responses": page}},
    }
    document = {"openapi": "3.1.0", "info": {"title": "N", "version": "1"}, "paths": paths}
    with (
        login() as url,
        Engine(Toolset.from_openapi(document, base_url=url), store="memory:", flow="off") as engine,
    ):

        def called(name):
            return engine.run_sync(
                {"firmplan": 1, "steps": [{"id": "a", "tool": name, "args": {}}], "output": "${a}"}
            )

        (error,) = called("look").errors
        assert error.code == "bad-result"
        assert re.search(TOLD, error.message)
        assert called("send").status == "indeterminate"
        assert "<TITLE>" in called("page").output
