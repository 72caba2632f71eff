"""`Artifact`: bytes and files as values of a plan: by digest, media type, size and name, while the bytes stay in a store.

A tool takes and gives artifacts as it does other values; `ctx.save(bytes, media_type=..)` makes one, `ctx.open(artifact)`
gets the bytes back. Equal bytes have equal digests. Where bytes live is for whoever provides `Blobs`.
"""

from __future__ import annotations

import hashlib
import mimetypes
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError
from ..plans.values import digest

MEDIA_TYPE = "application/octet-stream"
"""What is known of bytes that nothing else is known of."""


_OF_FILES: Final = frozenset({
    "bytes", "content", "data", "download", "open", "path", "read", "read_bytes", "read_text", "save",
    "to_file", "url", "write",
})  # fmt: skip
"""What people ask an artifact for, who take it for a file."""


class Blobs(Protocol):
    """Where bytes are kept, by digest."""

    def put(self, data: bytes, /) -> str:
        """Keep bytes and return their digest (`sha256:` and 64 hexadecimal digits)."""
        ...

    def get(self, digest: str, /) -> bytes:
        """Return the bytes of a digest.

        Raises:
            KeyError: They are not here.
        """
        ...


class FileBlobs(Blobs, Protocol):
    """A place that also takes and gives files, without holding them in memory."""

    def put_file(self, path: str | PathLike[str], /) -> tuple[str, int]:
        """Keep the bytes of a file, and return their digest and number. Raises: OSError."""
        ...

    def open_file(self, digest: str, /) -> BinaryIO:
        """Return the bytes of a digest as an open file. Raises: KeyError: they are not here."""
        ...


class Artifact(BaseModel):
    """Bytes by name: what flows through a plan in their place.

    Attributes:
        digest: `sha256:` and 64 hexadecimal digits of the bytes.
        media_type: What the bytes are, such as `text/csv`.
        size: Number of bytes.
        name: A name for people, such as `invoice.pdf`; says nothing of where it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    media_type: str = MEDIA_TYPE
    size: Annotated[int, Field(ge=0)]
    name: str = ""

    if not TYPE_CHECKING:  # a type checker has to go on to refuse these names

        def __getattr__(self, name: str) -> object:
            """Refuse methods that files have: the value knows no store, and the refusal says who does."""
            if name in _OF_FILES:
                raise AttributeError(
                    f"an Artifact has no '{name}': it is a value that stands for bytes, and knows no store; in a tool, ctx.open_file(artifact) reads "
                    "it; outside, engine.read_artifact(artifact) and engine.download_artifact(artifact, path) do; ctx.save_file(path) and "
                    "engine.save_artifact(path) make one of a file"
                )
            return super().__getattr__(name)

    @classmethod
    def of_bytes(cls, data: bytes, *, media_type: str | None = None, name: str = "") -> Artifact:
        """Return the artifact of some bytes.

        Args:
            data: The bytes.
            media_type: What they are; `None`: the name's ending says it.
            name: A name for people.
        """
        return cls(
            digest=digest(data), media_type=media_type or media_type_of(name), size=len(data), name=name
        )

    @classmethod
    def of_file(
        cls, path: str | PathLike[str], *, media_type: str | None = None, name: str | None = None
    ) -> Artifact:
        """Return the artifact of a file as it is now; the file is read a part at a time, and kept nowhere.

        Args:
            path: The file.
            media_type: What it holds; `None`: the name's ending says it.
            name: A name for people; `None`: the file's.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            with Path(path).open("rb") as file:
                name_of = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                size = file.tell()
        except OSError as error:
            raise ConfigError(
                f"{Path(path)}: expected a file that can be read, found: {error.strerror or error}; check the path"
            ) from error
        said = Path(path).name if name is None else name
        return cls(digest=name_of, media_type=media_type or media_type_of(said), size=size, name=said)


def media_type_of(name: str) -> str:
    """Return what the ending of a name says of a file."""
    return mimetypes.guess_type(name)[0] or MEDIA_TYPE
