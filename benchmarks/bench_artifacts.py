"""Artifacts of any size: how much memory and time 1 GB takes that a tool saves, another reads, and a caller writes to a file.

    python benchmarks/bench_artifacts.py [--megabytes 1024] [--store s.db | postgresql://..]

Aim: less than 100 MB of memory beyond an engine without work. The floor is a copy of the file with `shutil`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

from firmplan import Artifact, Context, Engine, tool

MEMORY_MAX_MB = 100
_BLOCK = os.urandom(1024 * 1024)


@tool(effect="read", version=1)
def make(megabytes: int, *, ctx: Context) -> Artifact:
    """Write a file of different blocks, and save it."""
    path = Path("big.bin")
    with path.open("wb") as file:
        for at in range(megabytes):
            file.write(at.to_bytes(8, "big") + _BLOCK[8:])
    return ctx.save_file(path)


@tool(effect="read", version=1)
def measure(file: Artifact, *, ctx: Context) -> str:
    """Read a file to its end."""
    with ctx.open_file(file) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


PLAN = {
    "firmplan": 1,
    "inputs": {"megabytes": {"type": "integer"}},
    "steps": [
        {"id": "made", "tool": "make", "args": {"megabytes": "${inputs.megabytes}"}},
        {"id": "read", "tool": "measure", "args": {"file": "${made}"}},
    ],
    "output": ["${made.digest}", "${read}"],
}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _measured(megabytes: int, store: str) -> float:
    async with Engine([make, measure], store=store) as engine:
        (await engine.run(PLAN, inputs={"megabytes": 1})).raise_for_status()
        before, began = _peak_mb(), time.perf_counter()
        run = await engine.run(PLAN, inputs={"megabytes": megabytes}, reuse="off")
        run.raise_for_status()
        assert run.output[0] == f"sha256:{run.output[1]}"
        await engine.download_artifact(run.steps["made"].output, "out.bin")
        taken, memory = time.perf_counter() - began, _peak_mb() - before
    began = time.perf_counter()
    shutil.copyfile("big.bin", "copy.bin")
    floor = time.perf_counter() - began
    print(
        f"{megabytes} MB saved, read and written out: {taken:.1f} s (a copy: {floor:.1f} s), {memory:.0f} MB of memory"
    )
    return memory


def main() -> int:
    """Measure; return 1 if it takes too much memory."""
    options = argparse.ArgumentParser()
    options.add_argument("--megabytes", type=int, default=1024)
    options.add_argument("--store", default="s.db")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        memory = asyncio.run(_measured(given.megabytes, given.store))
        os.chdir("/")
    return int(memory > MEMORY_MAX_MB)


if __name__ == "__main__":
    raise SystemExit(main())
