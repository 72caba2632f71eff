"""DBOS: a workflow of steps, with its system database in SQLite."""

from __future__ import annotations

import asyncio
import tempfile

import dag
from dbos import DBOS, DBOSConfig


@DBOS.step()
async def step(a: dag.Item, b: dag.Item, c: dag.Item, n: int) -> dag.Item:
    """Add three items."""
    return dag.added(a, b, c, n)


@DBOS.workflow()
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
    with tempfile.TemporaryDirectory() as folder:
        config: DBOSConfig = {
            "name": "bench",
            "system_database_url": f"sqlite:///{folder}/dbos.db",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
        DBOS(config=config)
        DBOS.launch()
        await dag.measured({"workflow, SQLite": workflow}, ["dbos"])
        DBOS.destroy()


asyncio.run(main())
