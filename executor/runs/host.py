"""Which machine this is, as far as the locks of processes are concerned.

Processes see each other's locks where one kernel runs them: containers of one machine have the kernel's boot in common, a machine that
was started again has its name in common with what it was. `FIRMPLAN_HOST` names a machine whose name others have as well.
"""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

HOST_ENV: Final = "FIRMPLAN_HOST"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def this_host() -> str:
    """Return what this machine goes by, as part of a file's name: its name and its boot; the boot is empty where neither is known."""
    if given := os.environ.get(HOST_ENV):
        return f"{_plain(given)}~"
    boot = ""
    with suppress(OSError):
        boot = _BOOT.read_text().strip()[:8]
    return f"{_plain(socket.gethostname())}~{boot}"


def is_same_host(one: str, other: str) -> bool:
    """Whether two are one machine."""
    (name, _, boot), (other_name, _, other_boot) = one.partition("~"), other.partition("~")
    return name == other_name or (bool(boot) and boot == other_boot)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)[:64]
