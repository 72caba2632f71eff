"""Where files of tests lie in memory: tests kill processes and never the machine, so nothing has to outlive it, and no commit has to wait for a disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_FOLDER = Path("/dev/shm")
_BYTES_MIN = 4 << 30  # all tests together write a tenth of it; pytest keeps the files of three runs


def memory_folder() -> Path | None:
    """Return a folder of a file system in memory; `None`: there is none, or too little room."""
    is_fit = os.access(_FOLDER, os.W_OK) and shutil.disk_usage(_FOLDER).free >= _BYTES_MIN
    return _FOLDER if is_fit else None
