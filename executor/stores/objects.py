"""Bytes outside the database: objects in an S3-compatible bucket, or files of a folder, through `obstore`.

This is the narrow face of such a place: put, get, list and remove, a part at a time, each whole or not there. It knows no digests and no database:
`object_values.py` does. `obstore` is imported only here, and only where a place is used.

Keys, roles, region and endpoint come from the environment that AWS's own tools read (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
`AWS_REGION`, `AWS_ENDPOINT_URL`, roles of machines and containers). No message holds a key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import ConfigError, StoreError
from ...lazy_imports import late_pattern

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK_BYTES: Final = (
    8 * 1024 * 1024
)  # of an upload: S3 takes 10,000 of them, so 80 GB, and of any but the last at least 5 MiB
UPLOADS_MAX: Final = 2  # chunks of one object that are sent at a time, and are in memory
READ_BYTES: Final = 4 * 1024 * 1024  # of a download that are in memory
TRIES_MAX: Final = 4  # a request that did not get through, beyond the first
TRY_S_MAX: Final = 30.0  # after which no more is tried: the thread that commits journals may be waiting
QUIET_S_MAX: Final = 30.0  # without a byte, after which a request has not got through
CONNECT_S_MAX: Final = 5.0
REQUEST_S_MAX: Final = 6 * 3600.0  # a download of 64 GiB is one request
LISTED: Final = 1_000  # objects of one request

S3: Final = "s3://"
FILE: Final = "file://"
MISSING: Final = "the library obstore is not installed: pip install 'firmplan[s3]'"
_UNFINISHED: Final = late_pattern(r"#\d+$")
"""How the library names a file while it writes it: it is renamed at the end, and lists leave it out."""
_BUCKET: Final = late_pattern(r"s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[^?#\s]*)?")

# The first text that a message holds says what to do.
_CURES: Final = (
    ("NoSuchBucket", "there is no such bucket: make it, or name another"),
    ("/latest/api/token", "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"),
    ("InvalidAccessKeyId", "the bucket's server does not know this key: look at AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL"),
    ("SignatureDoesNotMatch", "look at AWS_SECRET_ACCESS_KEY"),
    ("ExpiredToken", "the session has ended: get new credentials"),
    ("AccessDenied", "let these credentials list, get, put and delete objects there"),
    ("403 Forbidden", "let these credentials list, get, put and delete objects there"),
    ("301 Moved", "the bucket is in another region: set AWS_REGION"),
    ("region", "set AWS_REGION to the bucket's region"),
    ("error sending request", "nothing answers there: look at AWS_ENDPOINT_URL and AWS_REGION, and at firewalls on the way"),
    ("credential", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"),
)  # fmt: skip


class Listed(NamedTuple):
    """One object: its key, when it was written (Unix seconds), and its size."""

    key: str
    written: float
    size: int


class MissingObject(StoreError):  # noqa: N818  # it says what was found
    """There is no object of that key."""


class _OfPieces(Exception):  # noqa: N818  # it never leaves this module
    """Whoever was to yield the pieces of an upload has raised the cause of this."""


class Objects:
    """Objects by key at one place.

    Args:
        name: The place as it is recorded: `s3://bucket/prefix`, `file:///folder`.
        store: The place; `None`: the one that the name says, opened at the first use.

    Raises:
        ConfigError: It is no such place, or `obstore` is not installed.
    """

    def __init__(self, name: str, store: ObjectStore | None = None) -> None:
        self.name = name
        self._root = _folder_of(name) if name.startswith(FILE) else None  # `None`: a bucket
        self._store = store or _opened(name)

    @classmethod
    def at(cls, where: str | Path) -> Objects:
        """Return the place that a setting names: `s3://bucket/prefix`, or a folder. Raises: ConfigError."""
        text = str(where)
        if text.startswith(S3):
            return cls(text.rstrip("/"))
        if "://" in text and not text.startswith(FILE):
            raise ConfigError(
                f"artifacts: expected s3://bucket/prefix or a folder, found {text!r:.200}: this version has no such place"
            )
        if not text:
            raise ConfigError("artifacts: expected s3://bucket/prefix or a folder, found nothing")
        folder = text.removeprefix(FILE) if text.startswith(FILE) else text
        return cls(Path(folder).expanduser().resolve().as_uri())

    async def check(self) -> None:
        """Expect that the place is there and lets us in. Raises: StoreError."""
        async for _ in self.list("check"):
            break

    # --- writing

    def put(self, key: str, data: bytes) -> None:
        """Write an object, durable when it returns. The caller waits, so it has to be on a thread that may. Raises: StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        with self._telling(key):
            obstore.put(self._store, key, data, chunk_size=CHUNK_BYTES, max_concurrency=UPLOADS_MAX)

    async def put_pieces(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Write an object a part at a time. If the pieces raise, there is no object. Raises: StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        faults: list[BaseException] = []

        async def noted() -> AsyncGenerator[bytes]:
            try:
                async for piece in pieces:
                    yield piece
            except BaseException as fault:
                faults.append(fault)
                raise

        with self._telling(key):
            try:
                await obstore.put_async(
                    self._store,
                    key,
                    noted(),
                    use_multipart=True,
                    chunk_size=CHUNK_BYTES,
                    max_concurrency=UPLOADS_MAX,
                )
            except Exception:
                if faults:  # the pieces' own fault, as it was
                    raise _OfPieces from faults[0]
                raise

    async def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no fault. Raises: StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        for at in range(0, len(keys), LISTED):
            try:
                with self._telling(keys[at]):
                    await obstore.delete_async(self._store, list(keys[at : at + LISTED]))
            except MissingObject:  # a folder's files are told; the others of the group may be left
                for key in keys[at : at + LISTED]:
                    with self._telling(key, missing_is_fine=True):
                        await obstore.delete_async(self._store, key)

    async def remove_unfinished(self, folder: str, written_before: float) -> tuple[int, int]:
        """Remove what uploads left whose process died, and that no list shows; return how many, and their size. Raises: StoreError.

        Args:
            folder: What their keys begin with.
            written_before: Unix seconds; a later one may be an upload that is under way.
        """
        # The parts of a bucket's uploads are removed by a rule of the bucket; no request lists them without rights that an engine need not have.
        if self._root is None:
            return 0, 0
        root = self._root / folder
        return await asyncio.to_thread(self._remove_unfinished, root, written_before)

    def _remove_unfinished(self, root: Path, written_before: float) -> tuple[int, int]:
        count = size = 0
        for each in sorted(root.rglob("*")):
            if _UNFINISHED.search(each.name) is None:
                continue
            try:
                found = each.stat()
                if found.st_mtime < written_before:
                    each.unlink()
                    count, size = count + 1, size + found.st_size
            except FileNotFoundError:  # its upload has just ended
                continue
            except OSError as fault:
                raise self._fault(fault) from fault
        return count, size

    # --- reading

    def get_here(self, key: str) -> bytes:
        """Return an object; the caller waits. Raises: MissingObject; StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        with self._telling(key):
            return bytes(obstore.get(self._store, key).bytes())

    async def get(self, key: str) -> bytes:
        """Return an object. Raises: MissingObject; StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        with self._telling(key):
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def stream(self, key: str) -> AsyncGenerator[bytes]:
        """Yield an object, a part at a time. Raises: MissingObject; StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        with self._telling(key):
            found = await obstore.get_async(self._store, key)
            async for piece in found.stream(min_chunk_size=READ_BYTES):
                yield bytes(piece)

    async def list(self, folder: str) -> AsyncGenerator[Listed]:
        """Yield the objects whose keys begin with a folder. Raises: StoreError."""
        import obstore  # noqa: PLC0415  # only where a place is used

        with self._telling(folder):
            # The overloads name pyarrow's types, which need not be there.
            async for some in obstore.list(  # pyright: ignore[reportUnknownMemberType]
                self._store, f"{folder}/", chunk_size=LISTED
            ):
                for each in some:
                    yield Listed(each["path"], each["last_modified"].timestamp(), each["size"])

    @contextmanager
    def _telling(self, key: str, *, missing_is_fine: bool = False) -> Generator[None]:
        """Tell what the library, or the server, says in words of our own."""
        from obstore.exceptions import BaseError  # noqa: PLC0415  # only where a place is used

        try:
            yield
        except _OfPieces as fault:
            raise fault.__cause__ or fault from None
        except StoreError:
            raise
        except FileNotFoundError as fault:
            # A missing bucket is told like a missing object.
            if "NoSuchBucket" in str(fault):
                raise self._fault(fault) from fault
            if not missing_is_fine:
                raise MissingObject(f"there is no object {key} at {self.name} any more") from fault
        except (BaseError, OSError) as fault:
            raise self._fault(fault) from fault

    def _fault(self, fault: Exception) -> StoreError:
        said = str(fault).partition("\n\nDebug source")[0].strip()
        said = re.sub(r"\s+", " ", re.sub(r"<\?xml.*?\?>|<HostId>.*?</HostId>", "", said, flags=re.DOTALL))
        cure = next((cure for text, cure in _CURES if text in str(fault)), None)
        return StoreError(
            f"the artifacts at {self.name} cannot be reached: {said:.600}" + (f": {cure}" if cure else ""),
            temporary=True,
        )


def _opened(name: str) -> ObjectStore:
    try:
        from obstore.store import LocalStore, S3Store  # noqa: PLC0415  # only where a place is used
    except ImportError as fault:
        raise ConfigError(f"artifacts {name}: {MISSING}") from fault
    if name.startswith(FILE):
        folder = _folder_of(name)
        return _told(name, lambda: LocalStore(folder, mkdir=True))
    if not _BUCKET.fullmatch(name):
        raise ConfigError(
            f"artifacts: expected s3://bucket/prefix, found {name!r:.200}; a bucket has 3 to 63 small letters, digits, '.' and '-'"
        )
    bucket, _, prefix = name.removeprefix(S3).partition("/")
    return _told(
        name,
        lambda: S3Store(
            bucket,
            prefix=prefix or None,
            # Endpoints are https unless AWS_ENDPOINT_URL says otherwise, which whoever sets it means.
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
                "read_timeout": timedelta(seconds=QUIET_S_MAX),
                "timeout": timedelta(seconds=REQUEST_S_MAX),
            },
            retry_config={"max_retries": TRIES_MAX, "retry_timeout": timedelta(seconds=TRY_S_MAX)},
        ),
    )


def _folder_of(name: str) -> Path:
    return Path(unquote(urlsplit(name).path))


def _told(name: str, make: Callable[[], ObjectStore]) -> ObjectStore:
    from obstore.exceptions import BaseError  # noqa: PLC0415  # as above

    try:
        return make()
    except (BaseError, OSError, ValueError) as fault:
        said = str(fault).partition("\n\nDebug source")[0]
        raise ConfigError(f"artifacts {name}: {said:.400}") from fault
