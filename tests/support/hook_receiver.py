"""A receiver of webhooks behind real HTTP, which answers as it is told and checks signatures by the words of the specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Receiver:
    """Answers each request with the next of `answers`, the last one again and again.

    An answer is a status, `"cut"` (the connection is closed without one), `"slow"` (none comes for two seconds), `"endless"` (200, and a body without
    an end), or a function of the handler.
    """

    def __init__(self, *answers):
        self.answers = list(answers) or [204]
        self.requests = []  # (headers in lower case, body)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver._turn:
                    receiver.requests.append((headers | {":path": self.path}, body))
                    given = receiver.answers
                    answer = given.pop(0) if len(given) > 1 else given[0]
                receiver._answer(self, answer)

        self._turn = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?token=t0p"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def _answer(handler, answer):
        if callable(answer):
            answer(handler)
            return
        if answer == "cut":
            handler.close_connection = True
            handler.connection.close()
            return
        if answer == "slow":
            time.sleep(2)
            handler.close_connection = True
            return
        if answer == "endless":
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            except OSError:
                handler.close_connection = True
            return
        handler.send_response(answer)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def messages(self):
        """The documents that came, each with a proven signature."""
        return [verified(headers, body) for headers, body in self.requests]

    def ids(self):
        """The ids that came, in order."""
        return [headers["webhook-id"] for headers, _ in self.requests]

    def wait(self, count, seconds=20):
        """Return the documents once so many came."""
        until = time.monotonic() + seconds
        while len(self.requests) < count:
            assert time.monotonic() < until, self.requests
            time.sleep(0.02)
        return self.messages()


def verified(headers, body, secret=SECRET):
    """Return the document of a message whose signature is right: standardwebhooks.com, "Signature scheme"."""
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert expected in headers["webhook-signature"].split(" ")
    assert headers["content-type"] == "application/json"
    return json.loads(body)


def settings(folder, receiver, **more):
    """Write a firmplan.toml with one endpoint."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    (folder / "hook.secret").write_text(SECRET + "\n")
    text = f'[webhooks.ops]\nurl = "{receiver.url}"\nsecret = {{file = "hook.secret"}}\n' + "\n".join(lines)
    (folder / "firmplan.toml").write_text(text)
