"""Commands of MCP servers that are forked from one process that has loaded the package `mcp`, where a new interpreter takes a second for it.

For firmplan such a server is one that was started by its command: it has the pipes and the environment that firmplan gives it, and ends with the
process that firmplan started. Its process id is another.
"""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_MODULES = (
    "anyio._backends._asyncio",
    "mcp.server.lowlevel",
    "mcp.server.runner",
    "mcp.server.stdio",
    "mcp.server.subscriptions",
    "mcp.types",
)


def command(script: str | Path, *arguments: object) -> list[str]:
    """Return the command of a server."""
    # Without the site's packages the launcher starts in a third of the time.
    return [
        sys.executable,
        "-IS",
        str(_HERE / "stdio_launcher.py"),
        _address(),
        *map(str, (script, *arguments)),
    ]


@cache
def _address() -> str:
    folder = tempfile.mkdtemp()  # a short path: that of a socket has 100 characters at most
    address = f"{folder}/fork"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, _HERE / "stdio_fork.py", str(listener.fileno()), *_MODULES],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(end)
    return address
