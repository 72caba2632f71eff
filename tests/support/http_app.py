"""A web application on a port of its own, in a thread of this process."""

from __future__ import annotations

import threading
import time

import uvicorn

PATIENCE_S = 30.0


class Hosted:
    """Serves an ASGI application on loopback until the block ends."""

    def __init__(self, app):
        self.app = app
        self._server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.url = ""

    def __enter__(self):
        self._thread.start()
        end = time.monotonic() + PATIENCE_S
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            assert time.monotonic() < end, "the server did not start in time"
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server did not end"


class Echo:
    """An application that answers each request with what came, or with what a test has set for its path."""

    def __init__(self):
        self.answers = {}
        """Path -> status, headers and body; or a list of these, one for each request."""
        self.seen = []
        """What came, in order."""

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["raw_path"].decode()
        came = {
            "method": scope["method"],
            "path": path,
            "query": scope["query_string"].decode(),
            "headers": {name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
            "body": body.decode("latin-1"),
        }
        self.seen.append(came)
        status, headers, content = self._answer(path, came)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": content})

    def _answer(self, path, came):
        import json

        found = self.answers.get(path)
        if isinstance(found, list):
            found = found.pop(0) if found else None
        if found is None:
            return 200, {"content-type": "application/json"}, json.dumps(came).encode()
        if callable(found):
            found = found(came)
        status, headers, content = found
        if not isinstance(content, bytes):
            headers, content = {"content-type": "application/json", **headers}, json.dumps(content).encode()
        return status, headers, content

    @property
    def last(self):
        """The last request."""
        return self.seen[-1]
