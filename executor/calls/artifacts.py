"""The bytes of artifacts of one call: those that it may read, and those that it saves.

The bytes that the arguments name are fetched from the store before the call, so that a tool reads them without waiting, on any thread and in any
process: small ones into memory, others (`parts.py`) into files of a folder that belongs to the call. The bytes that the tool saves become durable
together with its result, or not at all; files that it saves are copied into the folder, and into the store a part at a time after the call.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from ...errors import ToolError
from ...lazy_imports import late_pattern
from ...plans.values import digest
from ..limits import ARTIFACT_BYTES_MAX, MIB, check_artifact, check_artifact_file
from ..stores.parts import PART_BYTES, DamagedValue, find_pieces, keep_file, write_file
from ..stores.store import Store

_DIGEST: Final = late_pattern(rb'"digest":"(sha256:[0-9a-f]{64})"')
_NAME: Final = late_pattern(r"sha256:[0-9a-f]{64}")
_NO_FILES: Final[Mapping[str, Path]] = {}


def digests_in(args: bytes) -> list[str]:
    """Return the digests of the artifacts in canonical JSON, each once, in order."""
    return list(dict.fromkeys(found.decode() for found in _DIGEST.findall(args)))


class CallBlobs:
    """The bytes of artifacts that a call may read, and those that it has saved; satisfies `tools.artifact.FileBlobs`.

    Args:
        known: Digest -> the bytes that the arguments name.
        files: Digest -> the file with such bytes.
        folder: Where files of the call are; `None`: in a folder of its own, which goes with this object.

    Attributes:
        known: See `Args`.
        files: See `Args`.
        made: Digest -> the bytes that the call has saved.
        made_files: Digest -> the file with bytes that it has saved.
    """

    __slots__ = ("__weakref__", "_folder", "files", "known", "made", "made_files")

    def __init__(
        self, known: Mapping[str, bytes], files: Mapping[str, Path] = _NO_FILES, folder: str | None = None
    ) -> None:
        self.known = known
        self.files = files
        self.made: dict[str, bytes] = {}
        self.made_files: Mapping[str, Path] = _NO_FILES
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The folder of the call's files; whoever writes the first one makes it."""
        if self._folder is None:
            self._folder = str(Path(tempfile.gettempdir()) / f"firmplan-{secrets.token_hex(8)}")
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return Path(self._folder)

    def file_of(self, name: str) -> Path:
        """Return where the bytes of a digest are, or are to be, as a file of the call."""
        return self.folder / name.removeprefix("sha256:")

    def put(self, data: bytes, /) -> str:
        """Keep bytes for the result, and return their digest. Raises: ToolError: they are too large."""
        check_artifact(len(data))
        name = digest(data)
        self.made[name] = data
        return name

    def get(self, name: str, /) -> bytes:
        """Return bytes.

        Raises:
            KeyError: Neither the arguments name them, nor has this call saved them.
            ToolError: They are more than memory should hold.
        """
        if (path := self._path_of(name)) is None:
            return self.made[name] if name in self.made else self.known[name]
        if (size := path.stat().st_size) > ARTIFACT_BYTES_MAX:
            raise ToolError(
                f"an artifact: expected at most {ARTIFACT_BYTES_MAX // MIB} MiB to have in memory, found {size / MIB:.1f} MiB; read it with ctx.open_file",
                code="limit-exceeded",
            )
        return path.read_bytes()

    def put_file(self, path: str | os.PathLike[str], /) -> tuple[str, int]:
        """Keep the bytes of a file for the result, and return their digest and number. Raises: ToolError: they are too many; OSError."""
        with Path(path).open("rb") as source:
            first = source.read(PART_BYTES + 1)
            if len(first) <= PART_BYTES:
                return self.put(first), len(first)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            # A copy: the tool may remove its file, or write on, before the result is recorded.
            handle, name = tempfile.mkstemp(dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as copy:
                    made, size = _copied(first, source, copy)
                os.replace(name, self.file_of(made))  # noqa: PTH105  # of a text
            except BaseException:
                os.unlink(name)  # noqa: PTH108  # the same
                raise
        self.add_file(made)
        return made, size

    def add_file(self, name: str) -> None:
        """Note that the call has saved bytes as a file of its folder, perhaps in another process. Raises: ValueError: it is no digest."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected a digest, found {name!r:.80}")
        self.made_files = {**self.made_files, name: self.file_of(name)}

    def open_file(self, name: str, /) -> BinaryIO:
        """Return the bytes as an open file. Raises: KeyError: as `get`."""
        path = self._path_of(name)
        return BytesIO(self.get(name)) if path is None else path.open("rb")

    def _path_of(self, name: str) -> Path | None:
        return self.made_files.get(name) or self.files.get(name)


def _copied(first: bytes, source: BinaryIO, copy: BinaryIO) -> tuple[str, int]:
    hashed, size, piece = hashlib.sha256(), 0, first
    while piece:
        size += len(piece)
        check_artifact_file(size)
        hashed.update(piece)
        copy.write(piece)
        piece = source.read(PART_BYTES)
    return f"sha256:{hashed.hexdigest()}", size


async def find_blobs(store: Store, args: bytes) -> CallBlobs:
    """Return the bytes of the artifacts in a call's arguments, as far as the store has them."""
    wanted = digests_in(args)
    known: Mapping[str, bytes] = await store.find_values(wanted) if wanted else {}
    missing = [name for name in wanted if name not in known]
    if not missing:
        return CallBlobs(known)
    files: dict[str, Path] = {}
    blobs = CallBlobs(known, files)
    for name in missing:
        if (pieces := await find_pieces(store, name)) is None:
            continue
        path = blobs.file_of(name)
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, exist_ok=True)
        try:
            await write_file(pieces, path)
        except DamagedValue:
            continue  # as if it were not there: the tool is told so if it opens it
        files[name] = path
    return blobs


async def keep_files(store: Store, blobs: CallBlobs, now: Callable[[], float]) -> None:
    """Write the files that a call has saved to the store.

    Args:
        store: Where they are kept.
        blobs: Those of the call.
        now: The time, since which nothing else need name them yet.

    Raises:
        ToolError: One is not as it was saved.
        StoreError: The store cannot be read or written.
    """
    for name, path in blobs.made_files.items():
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                kept, _ = await keep_file(store, file, now)
        except OSError as fault:
            raise ToolError(
                f"a saved file cannot be read any more: {fault.strerror or fault}", code="no-artifact"
            ) from fault
        if kept != name:
            raise ToolError(
                f"a saved file was changed before its call had ended: expected {name}, found {kept}",
                code="no-artifact",
            )
