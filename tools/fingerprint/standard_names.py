"""One name for what the standard library moved from one version of Python to the next.

Code of the standard library counts by name. Python tells where a thing is kept, and that changes: `open` was `io.open` and became
`_io.open`. A name that moved would make every result of a tool that says `open` new with the next Python, so it keeps the
first name we knew. What is not listed here is made anew once, which costs time and never a wrong result.
"""

from __future__ import annotations

from typing import Final

_MOVED_MODULES: Final = {
    "_io": "io",  # 3.12
    "zipfile._path": "zipfile",  # 3.12
    "_decimal": "decimal",  # 3.13
    "pathlib._local": "pathlib",  # 3.13
}
_MOVED_NAMES: Final = {
    "_asyncio.current_task": "asyncio.tasks.current_task",  # 3.12
    "genericpath.islink": "posixpath.islink",  # 3.12
    "genericpath.lexists": "posixpath.lexists",  # 3.13
    "posix._path_normpath": "posixpath.normpath",  # 3.13
    "_thread.lock": "_thread.allocate_lock",  # 3.13: `threading.Lock` became a class
    "re.PatternError": "re.error",  # 3.13
}


def lasting_name(module: str, name: str) -> str:
    """Return the full name of a function or class, the same for each version of Python."""
    full = f"{_MOVED_MODULES.get(module, module)}.{name}"
    return _MOVED_NAMES.get(full, full)
