"""Files that only their owner can read: stores, bundles, recordings and reports hold what tools returned.

The mode is given when the file is made, so there is no moment in which others can open it, and it does not depend on the umask. A file that
is there already keeps its mode: whoever shares it with a group has decided so. On Windows the mode has no effect, and the folder's rights
decide.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

PRIVATE: Final = 0o600
OTHERS_READ: Final = 0o044
OTHERS_ENTER: Final = 0o011


def private_opener(path: str, flags: int) -> int:
    """Open a file as `open(.., opener=private_opener)` does; a new file is the owner's alone."""
    return os.open(path, flags, PRIVATE)


def write_private(path: Path, data: bytes) -> None:
    """Write a file in place. Raises: OSError."""
    with open(path, "wb", opener=private_opener) as file:  # a `Path` takes no opener
        file.write(data)


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Yield a new file that takes the place of `path` at the end, if nothing is raised: there is either the whole file or what was there before.

    A new file is its owner's alone; one that was there keeps its mode. What is no regular file, such as a pipe, is written to as it is.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.name == "posix":
                os.fchmod(handle, mode_of(path))
            yield file
        os.replace(name, path)  # noqa: PTH105  # of a text
    except BaseException:
        os.unlink(name)  # noqa: PTH108  # the same
        raise


def make_private(path: str | os.PathLike[str]) -> None:
    """Make an empty file unless there is one; another program is about to open it. Whatever prevents that is for the program to report."""
    # Only a new file is opened: closing a descriptor drops this process's POSIX locks on the file, which SQLite relies on. The real path,
    # since `O_EXCL` refuses a link to a file that is not there.
    with suppress(OSError):
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))


def mode_of(path: str | os.PathLike[str]) -> int:
    """Return the mode of a file that is about to be replaced or joined by another one; `PRIVATE` where there is none."""
    try:
        return os.stat(path).st_mode & 0o777  # noqa: PTH116  # may be a `str`
    except OSError:
        return PRIVATE


def is_read_by_others(path: str | os.PathLike[str]) -> bool:
    """Whether the file's group or everybody may read it, as far as the modes of the file and its folder say."""
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120  # may be a `str`
    return os.name == "posix" and bool(mode_of(path) & OTHERS_READ and mode_of(folder) & OTHERS_ENTER)
