"""A script that serves MCP over HTTP, as a process that listens on a port of its own."""

from __future__ import annotations

import socket
import time

from forked import start_script

PATIENCE_S = 30.0


class Served:
    """A server's script as a process that listens on a port of its own."""

    def __init__(self, *words):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._words = (*words, self.port)
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.start()

    def start(self):
        self._process = start_script(*self._words)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self._process.exitcode is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the server does not listen")

    def stop(self):
        self._process.kill()
        self._process.join()
