"""`python -IS stdio_launcher.py SOCKET SCRIPT ARGUMENT..`: have `stdio_fork.py` run a script with this process's streams, folder and environment.

It starts in milliseconds, ends when the script ends, and the script ends with it.
"""

from __future__ import annotations

import json
import os
import socket
import sys

_, address, *words = sys.argv
with socket.socket(socket.AF_UNIX) as server:
    server.connect(address)
    told = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()  # noqa: PTH109  # pathlib takes longer to load
    socket.send_fds(server, [b"\n"], [0, 1, 2])
    server.sendall(told + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # whoever waits for the end of a stream waits for the script alone
        os.dup2(nothing, number)
    server.recv(1)
