"""Prefect: a flow of asynchronous tasks, with the server that it starts for itself, whose CPU counts."""

from __future__ import annotations

import asyncio
import os
import tempfile

FOLDER = tempfile.TemporaryDirectory()
os.environ |= {
    "PREFECT_HOME": FOLDER.name,
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}

import dag  # noqa: E402  # the settings above are read at import
from prefect import flow, task  # noqa: E402  # the same


@task
async def step(a: dag.Item, b: dag.Item, c: dag.Item, n: int) -> dag.Item:
    """Add three items."""
    return dag.added(a, b, c, n)


@flow
async def workflow(n: int) -> dag.Item:
    """Run the steps, layer by layer."""
    values: list[dag.Item] = []
    for numbers in dag.layers():
        values += await asyncio.gather(
            *(step(*dag.given_to(number, values), number + (0 if values else n)) for number in numbers)
        )
    return values[-1]


async def main() -> None:
    """Measure."""
    await dag.measured({"flow of tasks": workflow}, ["prefect"])


asyncio.run(main())
