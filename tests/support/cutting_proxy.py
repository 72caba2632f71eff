"""A TCP proxy that cuts connections: before a request, in the middle of an answer, or after the server has answered."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

WAIT_S = 20.0
CHUNK = 65_536


class CuttingProxy:
    """Passes bytes on between clients and one server, and cuts as it is told.

    Args:
        url: The server's address.

    Attributes:
        url: The proxy's address.
        cut_after: Bytes after which the connection of a stream of events is cut; `None`: never.
        lose: How many of the next answers to requests of `lost_method` are lost: the server gives them, and no byte reaches the client.
        lost_method: The method of those requests.
        on_lost: Called after the server has answered such a request, before the client's connection is cut.
        connections: The number of connections so far.
    """

    def __init__(self, url: str) -> None:
        self.target = url
        self.cut_after: int | None = None
        self.lose = 0
        self.lost_method = b"POST"
        self.on_lost: Callable[[], None] = lambda: None
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection that is open now."""
        for each in list(self._open):
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        address = urlsplit(self.target)
        try:
            server = socket.create_connection((address.hostname, address.port), timeout=WAIT_S)
        except OSError:
            _end(client)
            return
        server.settimeout(None)
        self._open |= {client, server}
        losing, streaming = threading.Event(), threading.Event()
        upward = threading.Thread(target=self._pass_up, args=(client, server, losing, streaming), daemon=True)
        upward.start()
        passed = 0
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                if losing.is_set():
                    # The server has answered, so it has done what it was asked to do.
                    self.on_lost()
                    break
                if self.cut_after is not None and streaming.is_set():
                    data = data[: max(0, self.cut_after - passed)]
                    passed += len(data)
                client.sendall(data)
                if self.cut_after is not None and passed >= self.cut_after and streaming.is_set():
                    break
        for each in (client, server):
            _end(each)
        self._open -= {client, server}

    def _pass_up(
        self,
        client: socket.socket,
        server: socket.socket,
        losing: threading.Event,
        streaming: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                if b"/events HTTP/" in data.partition(b"\r\n")[0]:
                    streaming.set()
                # A request that a client sends in one piece begins with its method.
                if self.lose and data.startswith(self.lost_method):
                    self.lose -= 1
                    losing.set()
                server.sendall(data)
        _end(server)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
