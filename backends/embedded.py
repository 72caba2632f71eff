"""The backend of an engine that names none: the process that submits a run drives it.

It has no queue. The engine claims a run as it stores it, in one transaction, and `enqueue` is for a run that was stored before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from .backend import AcceptedRun, BackendHost, Drive


class EmbeddedBackend:
    """Drives the runs where they are submitted; see `Backend`."""

    drives_here = True

    def __init__(self) -> None:
        self._host: BackendHost | None = None

    async def open(self, host: BackendHost) -> None:
        """See `Backend.open`. Raises: ConfigError: another engine has it already."""
        if self._host is not None and self._host is not host:
            raise ConfigError("backend: an EmbeddedBackend belongs to one engine; make another")
        self._host = host

    async def close(self) -> None:
        """See `Backend.close`."""
        self._host = None

    async def enqueue(self, run: AcceptedRun) -> None:
        """Begin or continue a run here, if nobody drives it."""
        if self._host is not None:
            await self._host.go_on(run.id)

    async def wake(self, run_id: str) -> None:
        """Continue a run that waits for a time here: a decision does not wait for the time. Others go on when they are resumed."""
        if self._host is not None:
            await self._host.rouse(run_id)

    async def cancel(self, run_id: str) -> None:
        """See `wake`: whoever drives the run polls the store for decisions."""
        await self.wake(run_id)

    async def take(self, drive: Drive, *, slots: int) -> None:
        """Refuse to hand out runs. Raises: ConfigError."""
        del drive, slots
        raise ConfigError(
            "this engine has no backend that hands out runs: it drives the runs that are submitted to it. Expected a backend that workers "
            'share, such as Engine(backend="temporal://host:port/namespace?queue=default")'
        )
