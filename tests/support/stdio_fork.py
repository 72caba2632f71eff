"""`python stdio_fork.py DESCRIPTOR MODULE..`: import modules, and run each script of which a launcher tells over a listening socket in a fork.

It ends when its stdin ends.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from threading import Thread


def main() -> None:
    """Serve launchers."""
    _, descriptor, *modules = sys.argv
    listener = socket.socket(fileno=int(descriptor))
    for module in modules:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a fork has ended
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if listener not in ready:
            return
        launcher, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            break
        launcher.close()
    _become(launcher)


def _become(launcher: socket.socket) -> None:
    """Run the launcher's script in this process, as `python` would."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(launcher, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    said = b""
    while not said.endswith(b"\n"):
        said += launcher.recv(65536)
    words, folder, environment = json.loads(said)
    Thread(target=_end_with, args=(launcher,), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115  # open as long as this process
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = words
    sys.path[0] = str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")


def _end_with(launcher: socket.socket) -> None:
    launcher.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


main()
