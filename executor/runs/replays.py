"""Replays: a run is computed again from its records, from the store or from a bundle; nothing is called.

A replay is strict: every consequence, the arguments of every call and the digest are computed again and compared. The replay of a
bundle needs neither tools nor a store. Bundles are written and read here; their format is in `bundle.py`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...errors import Diverged, EngineBug, InputRejected
from ...plans.values import canonical
from ...tools.private_file import PRIVATE, mode_of, private_opener
from ..calls.artifacts import digests_in
from ..journal.bundle import Bundle, read_bundle, write_bundle
from ..journal.header import build_machine
from ..journal.records import GENESIS
from ..journal.restore import expect_run, fold, value_names
from ..stores.store import REPLAY, Batch, RunRow, Store, read_values
from .archive import snapshot
from .request import file_of

if TYPE_CHECKING:
    from ..calls.facilities import Clock
    from .archive import Archive
    from .owner import Owner
    from .run import Run

BUNDLE_BYTES_MAX: Final = 4 * 1024**3  # a bundle is read into memory completely


class Replays:
    """Replays and bundles of one store's runs.

    Args:
        store: Has the runs.
        archive: Looks runs up.
        owner: Claims a replay that is kept.
        clock: The time of a kept replay.
    """

    def __init__(self, store: Store, archive: Archive, owner: Owner, clock: Clock) -> None:
        self._store = store
        self._archive = archive
        self._owner = owner
        self._clock = clock

    async def replay(self, run_id: str, *, keep: bool) -> Run:
        """Return a run as its journal says, with every conclusion computed and compared again.

        Args:
            run_id: The run.
            keep: Whether to keep the replay as a run of its own, whose parent is the replayed run.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run has no plan.
            Diverged: The plan language or the machine concludes something else than what was recorded.
            StoreError: The journal was changed outside firmplan.
        """
        row = await self._archive.flushed_row(run_id)
        run = await self._archive.replayed(row)
        if not keep:
            return run
        lines, values, blobs = await self._read(row)
        return await self._keep(row, lines, {**values, **blobs})

    async def replay_bundle(self, path: Path, *, keep: bool) -> Run:
        """Return the run of a bundle, as `replay` does. Raises: InputRejected, Diverged, StoreError."""
        bundle = await load_bundle(path)
        run = replayed(bundle)
        if not keep:
            return run
        row = replace(bundle.row, tenant=bundle.header.tenant)
        return await self._keep(row, bundle.lines, {**bundle.values, **bundle.blobs})

    async def export(self, run_id: str, where: str | os.PathLike[str]) -> Path:
        """Write a run into a bundle and return its path; a file of that name is replaced in one step.

        Raises:
            RunNotFound: There is no such run.
            InputRejected: The run has no plan, or the file cannot be written.
            StoreError: The journal was changed outside firmplan.
        """
        path = _path_of(where)
        row = await self._archive.flushed_row(run_id)
        await self._archive.rebuilt(row)  # a run that does not replay here would not replay elsewhere
        lines, values, blobs = await self._read(row)
        decisions = [line for _, line in await self._store.list_decisions(run_id)]
        data = write_bundle(Bundle(row, lines, values, blobs, decisions))
        await asyncio.to_thread(_write_atomically, path, data)
        return path

    async def _read(self, row: RunRow) -> tuple[Sequence[bytes], Mapping[str, bytes], Mapping[str, bytes]]:
        """Return a run's records up to its row's last one, their values, and the bytes of their artifacts.

        Raises:
            RunNotFound: The run was deleted meanwhile, so that the copy would be incomplete.
            StoreError: A value was changed.
        """
        lines = (await self._store.read_journal(row.id))[: row.last_seq]
        values = await read_values(self._store, value_names(lines))
        blobs = await self._artifacts(row, lines, values)
        await expect_run(self._store, row)
        return lines, values, blobs

    async def _artifacts(
        self, row: RunRow, lines: Sequence[bytes], values: Mapping[str, bytes]
    ) -> Mapping[str, bytes]:
        """Return the bytes of the artifacts in the inputs and values of a run, as far as the store has them."""
        inputs = canonical(row.header["inputs"])
        wanted = {name for data in (inputs, *lines, *values.values()) for name in digests_in(data)}
        return await read_values(self._store, sorted(wanted - set(values)))

    async def _keep(self, row: RunRow, lines: Sequence[bytes], values: Mapping[str, bytes]) -> Run:
        """Keep a replay as a run whose parent is the replayed run."""
        # The records are copied, not written again: the copy has the same chain of digests, and so proves that it is the same run.
        now = self._clock.now()
        name = f"{REPLAY}{secrets.token_hex(8)}"
        copy = replace(
            row, id=name, parent=row.id, created=now, updated=now, digest="", epoch=0, owner=None, last_seq=0
        )
        await self._store.create_run(replace(copy, head=GENESIS))
        claimed = await self._owner.claim(self._store, name)
        if claimed is None:
            raise EngineBug(f"the new run {name} has an owner already")
        batch = Batch(
            run_id=name,
            epoch=claimed.epoch,
            first_seq=1,
            lines=lines,
            head=row.head,
            values=values,
            status=row.status,
            digest=row.digest,
            updated=row.updated,
        )
        (fault,) = await asyncio.to_thread(self._store.append, [batch])
        if fault is not None:
            raise fault
        await self._owner.let_go(self._store, claimed)
        return await self._archive.get(name)


def bundle_path(name: str | os.PathLike[str]) -> Path | None:
    """Return the path of the bundle that a name means; `None`: there is no such file, so the name means a run.

    Raises:
        InputRejected: There is no such file, and the name cannot be the id of a run.
    """
    try:
        path = _path_of(name)
        if path.is_file():
            return path
    except (
        OSError,
        InputRejected,
    ):  # the name of a run can be too long for a file, or have characters that a file's name cannot have
        if isinstance(name, str):
            return None
        raise
    if not isinstance(name, str) or path.parent != Path():
        raise InputRejected(f"there is no bundle {path}; `firmplan export RUN -o {path}` makes one")
    return None


async def load_bundle(path: Path) -> Bundle:
    """Return the bundle in a file. Raises: InputRejected: the file cannot be read, or is no complete bundle."""
    return read_bundle(await asyncio.to_thread(_read_bytes, path), str(path))


def replayed(bundle: Bundle) -> Run:
    """Return the run of a bundle, with every conclusion computed and compared again.

    Raises:
        InputRejected: The run has no plan.
        Diverged: The plan language or the machine concludes something else than what was recorded.
        StoreError: Its records are of another format.
    """
    header = bundle.header
    if header.plan is None:
        raise InputRejected(f"run {bundle.row.id} has no plan: no step of it has started")
    machine = build_machine(header)
    fold(machine, bundle.entries)
    if bundle.row.digest != machine.digest:
        raise Diverged(step="", field="digest", expected=bundle.row.digest, found=machine.digest)
    return snapshot(bundle.row, header, machine)


def _path_of(name: str | os.PathLike[str]) -> Path:
    path = file_of(name)
    try:
        return path.expanduser()
    except RuntimeError:  # the path begins with `~` and the name of an unknown user
        return path


def _read_bytes(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > BUNDLE_BYTES_MAX:
            raise InputRejected(f"{path}: a bundle of {size} bytes; the limit is {BUNDLE_BYTES_MAX}")
        return path.read_bytes()
    except OSError as fault:
        raise InputRejected(f"the bundle {path} cannot be read: {fault.strerror or fault}") from fault


def _write_atomically(path: Path, data: bytes) -> None:
    """Write a temporary file and rename it, so that nobody sees an incomplete bundle."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(beside, "xb", opener=private_opener) as file:  # a `Path` takes no opener
            file.write(data)
            file.flush()
            if (mode := mode_of(path)) != PRIVATE:  # the bundle that is replaced
                beside.chmod(mode)
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as fault:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise InputRejected(f"the bundle {path} cannot be written: {fault.strerror or fault}") from fault
