"""A process that runs a plan with large values in a bucket or a folder, and dies at a chosen instant.

The instants are ticks: before and after each upload, before each piece of one, before and after each commit and each change of the store.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from crash_child import Killed, World
from firmplan import Artifact, Context, Engine, Tool, tool
from firmplan.executor import SqliteStore
from firmplan.executor.stores import objects

MIB = 1024 * 1024
FILE_BYTES = 6 * MIB  # two chunks of an upload, the smallest that S3 takes
TEXT_SIZE = MIB + 10

PLAN: dict[str, Any] = {
    "firmplan": 1,
    "steps": [
        {"id": "file", "tool": "make", "args": {"name": "one"}},
        {"id": "long", "tool": "text", "for_each": ["a", "b", "a"], "args": {"letter": "${item}"}},
        {"id": "sent", "tool": "send", "args": {"file": "${file}", "text": "${long[1]}"}},
        {"id": "again", "tool": "make", "args": {"name": "two"}, "after": ["sent"]},
    ],
    "output": "${[file, again, sent, len(long)]}",
}


def tools_of(world: World) -> list[Tool]:
    """Return the tools of the plan; the world sees what `send` does."""

    @tool(effect="pure", version=1)
    def make(name: str, *, ctx: Context) -> Artifact:
        """Save a large file, which has the same bytes under every name."""
        path = world.path.parent / f"{os.getpid()}-{ctx.step}"
        path.write_bytes(bytes(range(256)) * (FILE_BYTES // 256))
        return ctx.save_file(path, name=f"{name}.bin")

    @tool(effect="pure", version=1)
    def text(letter: str) -> str:
        """Return a large text."""
        return letter * TEXT_SIZE

    @tool(effect="write", resource="box", idempotent=True, version=1)
    def send(file: Artifact, text: str, *, ctx: Context) -> int:
        """Send both."""
        world.tick()
        with ctx.open_file(file) as opened:
            size = len(opened.read())
        world.note("send", ctx.step, ctx.idempotency_key or "-", str(size), str(len(text)))
        world.tick()
        return size + len(text)

    return [make, text, send]


class KilledStore(Killed, SqliteStore):
    """A store in a file whose changes are instants, too."""

    async def change(self, work: Any, **options: Any) -> Any:
        self.world.tick()
        found = await super().change(work, **options)
        self.world.tick()
        return found

    def change_here(self, work: Any) -> Any:
        self.world.tick()
        found = super().change_here(work)
        self.world.tick()
        return found


class KilledObjects(objects.Objects):
    """A place whose uploads are instants; `world` is that of the process."""

    world: World

    def put(self, key: str, data: bytes) -> None:
        self.world.tick()
        super().put(key, data)
        self.world.tick()

    async def put_pieces(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        async def ticking() -> AsyncGenerator[bytes]:
            async for piece in pieces:
                self.world.tick()
                yield piece
            self.world.tick()

        await super().put_pieces(key, ticking())
        self.world.tick()


async def _run(store: str, place: str, world: World) -> None:
    made = KilledStore(store, world)
    async with Engine(tools_of(world), store=made, artifacts=place) as engine:
        made.objects.target = KilledObjects.at(place)
        await engine.run(PLAN, run_id="run")


def run_child(store: str, place: str, effects: str, kill_at: int, environment: Mapping[str, str]) -> None:
    """Run the plan and die at the chosen instant; who lives says how many there were."""
    os.environ.update(environment)
    objects.CHUNK_BYTES = 5 * MIB  # type: ignore[misc]  # a process of tests
    KilledObjects.world = world = World(Path(effects), kill_at)
    asyncio.run(_run(store, place, world))
    world.lived.write_text(str(world.ticks))
