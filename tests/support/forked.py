"""Processes that die in a test: each is forked from one that has loaded what they need, so that it starts in milliseconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# A process of tests has one server, which loads these modules when the first child starts; the modules of tests are not on its path.
_CONTEXT.set_forkserver_preload(
    [
        "firmplan.engine",
        "firmplan.executor.calls.worker",
        "firmplan.executor.stores.postgres_store",
        "firmplan.tools.fingerprint.closure",
        "firmplan.tools.models.completion",
        "instructor",
    ]
)
END_S = 60.0  # a child lives for less than a second; a machine under load gets some patience


def start(work: Callable[..., None], *args: Any, **options: Any) -> multiprocessing.process.BaseProcess:
    """Start a process that does some work and ends."""
    child = _CONTEXT.Process(target=work, args=args, kwargs=options)
    child.start()
    return child


def is_killed(child: multiprocessing.process.BaseProcess, *, after_s: float | None = None) -> bool:
    """Wait until a process has ended, or kill it after a time; return whether it was killed. It never fails."""
    if after_s is not None:
        child.join(after_s)
        child.kill()
    child.join(END_S)
    assert child.exitcode in (0, -9)
    return child.exitcode == -9
