"""A process that runs a plan and dies at a chosen instant; what its tools did to the world stands in a file.

The instants are ticks: before and after each tool's effect, and before and after each commit of the journal. `kill_at`
is the number of the tick at which the process kills itself with SIGKILL; 0: it lives.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from firmplan.executor import Run, SqliteStore
from firmplan.executor.stores.postgres_store import PostgresStore
from firmplan.plans import Plan
from firmplan.tools import Context, Models, Tool, tool
from firmplan.tools.models.models import Model
from rig import Rig

PLAN = Plan.model_validate(
    {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "steps": [
            {"id": "base", "tool": "work", "args": {"x": "${inputs.n}"}},
            {"id": "seen", "tool": "look", "for_each": "${[base, base + 1]}", "args": {"x": "${item}"}},
            {"id": "keyed", "tool": "put_keyed", "args": {"x": "${sum(seen)}"}},
            {"id": "once", "tool": "put_once", "args": {"x": "${keyed}"}},
            {"id": "asked", "tool": "put_asked", "for_each": "${[1, 2]}", "args": {"x": "${item + once}"}},
            {"id": "after", "tool": "look", "args": {"x": "${sum(asked)}"}},
        ],
        "output": "${after}",
    }
)


def long_plan(blocks: int = 10) -> Plan:
    """Return a plan of six steps a block, of all classes of effects, each block going on from the one before it."""
    steps: list[dict[str, Any]] = []
    last = "inputs.n"
    for b in range(blocks):
        steps += [
            {"id": f"base_{b}", "tool": "work", "args": {"x": f"${{{last}}}"}},
            {"id": f"seen_{b}", "tool": "look", "args": {"x": f"${{base_{b}}}"}},
            {"id": f"named_{b}", "ask": {"prompt": f"Name ${{base_{b}}}"}},
            {"id": f"keyed_{b}", "tool": "put_keyed", "args": {"x": f"${{seen_{b} + len(named_{b})}}"}},
            {"id": f"once_{b}", "tool": "put_once", "args": {"x": f"${{keyed_{b}}}"}},
            {"id": f"asked_{b}", "tool": "put_asked", "args": {"x": f"${{once_{b}}}"}},
        ]
        last = f"asked_{b}"
    return Plan.model_validate(
        {"firmplan": 1, "inputs": {"n": {"type": "integer"}}, "steps": steps, "output": f"${{{last}}}"}
    )


LONG_PLAN = long_plan()


def models_at(base_url: str) -> Models:
    """Return the models that answer prompts."""
    return Models({"default": Model("scripted", base_url=base_url, api_key="none")})


class World:
    """The file in which effects stand, one a line: tool, step, idempotency key."""

    def __init__(self, path: Path, kill_at: int = 0) -> None:
        self.path = path
        self.kill_at = kill_at
        self.ticks = 0
        self.acknowledged = path.with_suffix(".acknowledged")
        self.lived = path.with_suffix(".lived")

    def tick(self) -> None:
        """Count an instant; die if it is the chosen one."""
        self.ticks += 1
        if self.ticks == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, *words: str) -> None:
        """Add a line, in one write."""
        with self.path.open("a") as file:
            file.write(" ".join(words) + "\n")

    def acknowledge(self, batches: Any) -> None:
        """Note what a store has acknowledged: number and head of each flush, and whether it was to outlive a power loss."""
        with self.acknowledged.open("a") as file:
            for batch in batches:
                file.write(
                    f"{batch.first_seq - 1 + len(batch.lines)} {batch.head.hex()} {'synced' if batch.is_synced else ''}\n"
                )

    def lines(self) -> list[list[str]]:
        """Return what was noted, in order."""
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def effects(self, name: str) -> list[tuple[str, str]]:
        """Return (step, key) of every effect that a tool had."""
        return [(line[1], line[2]) for line in self.lines() if line[0] == name]


class Killed:
    """Makes a store whose commits are instants of the world."""

    def __init__(self, where: str, world: World) -> None:
        super().__init__(where)  # type: ignore[call-arg]  # the store's
        self.world = world

    def append(self, batches: Any) -> Any:
        self.world.tick()
        faults = super().append(batches)  # type: ignore[misc]  # the store's
        self.world.acknowledge([batch for batch, fault in zip(batches, faults, strict=True) if fault is None])
        self.world.tick()
        return faults


class KilledStore(Killed, SqliteStore):
    """In a file."""


class KilledPostgres(Killed, PostgresStore):
    """On a server."""


def store_of(where: str, world: World) -> KilledStore | KilledPostgres:
    """Return the store at a path or a URL."""
    return KilledPostgres(where, world) if "://" in where else KilledStore(where, world)


def tools_of(world: World) -> list[Tool]:
    """Return one tool for each row of the table of effects and crashes."""

    def act(name: str, ctx: Context, x: int) -> int:
        world.tick()
        world.note(name, ctx.step, ctx.idempotency_key or "-", str(x))
        world.tick()
        return x + 1

    @tool(effect="pure", version=1)
    def work(x: int, *, ctx: Context) -> int:
        """Compute something."""
        return act("work", ctx, x)

    @tool(effect="read", resource="box", version=1)
    def look(x: int, *, ctx: Context) -> int:
        """Look at something."""
        return act("look", ctx, x)

    @tool(effect="write", resource="box", idempotent=True, version=1)
    async def put_keyed(x: int, *, ctx: Context) -> int:
        """Change something; a repeated key changes it once."""
        return act("put_keyed", ctx, x)

    @tool(effect="write", resource="box", version=1)
    def put_once(x: int, *, ctx: Context) -> int:
        """Change something, each time."""
        return act("put_once", ctx, x)

    def reconcile(key: str, args: dict[str, Any]) -> int | None:
        world.note("reconcile", "-", key, str(args["x"]))
        return args["x"] + 1 if any(key == found for _, found in world.effects("put_asked")) else None

    @tool(effect="write", resource="box", reconcile=reconcile, version=1)
    def put_asked(x: int, *, ctx: Context) -> int:
        """Change something; whether it happened can be asked."""
        return act("put_asked", ctx, x)

    return [work, look, put_keyed, put_once, put_asked]


async def finish(rig: Rig, world: World, run_id: str) -> Run:
    """Resume until the run has ended, deciding as a person who has seen the world would."""
    run = await rig.resume(run_id)
    while run.status == "indeterminate":
        assert run.steps["once"].status == "indeterminate"
        if world.effects("put_once"):
            await rig.decisions.resolve_done(run_id, "once", run.steps["keyed"].output + 1)
        else:
            await rig.decisions.resolve_retry(run_id, "once")
        run = await rig.resume(run_id)
    return run


async def _run(store: str, world: World, run_id: str, base_url: str, *, is_resumed: bool) -> None:
    options = {"models": models_at(base_url)} if base_url else {}
    async with Rig(tools_of(world), store_of(store, world), **options) as rig:
        if is_resumed:
            await rig.resume(run_id)
        else:
            await rig.run(LONG_PLAN if base_url else PLAN, run_id, inputs={"n": 1})


def run_child(
    store: str, effects: str, run_id: str, kill_at: int, base_url: str = "", *, is_resumed: bool = False
) -> None:
    """Run the plan, or with a model's endpoint the long one, and die at the chosen instant; who lives says how many there were."""
    world = World(Path(effects), kill_at)
    asyncio.run(_run(store, world, run_id, base_url, is_resumed=is_resumed))
    world.lived.write_text(str(world.ticks))
