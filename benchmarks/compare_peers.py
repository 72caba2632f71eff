"""firmplan beside its peers: the same 500 steps in layers, three parents each, a small typed dict in and out, each as its docs recommend.

    python benchmarks/compare_peers.py [PEER ..] [--rounds 5] [--json FILE]

`make peers` installs each peer into an environment of its own (.venv/peers), from its lock in benchmarks/peers, and runs this script. Figures are
CPU time, of the processes that a peer starts too, as multiples of bare `asyncio.gather` over the same function in the same round of the
same process: medians, least and largest. Beside them stands what each does for its time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench_steps import TYPED, Lane, Options, Sheet, machine, rounds_of
from workloads import gathered

HERE: Final = Path(__file__).parent
STEPS: Final = 500
PEERS: Final = ("langgraph", "dbos", "hamilton", "pydantic_graph", "prefect")
DOES: Final = {
    "firmplan: known plan": (
        "each step, hash-chained",
        "by content, all runs",
        "strict, no call",
        "in and out",
    ),
    "firmplan: new plan": (
        "each step; the plan is checked first",
        "by content, all runs",
        "strict, no call",
        "in and out",
    ),
    "firmplan: all reused": (
        "each step, hash-chained",
        "every step here",
        "strict, no call",
        "when first made",
    ),
    "firmplan: strict replay": ("-", "-", "all conclusions made and compared again", "digests"),
    "firmplan: memory: store": ("no", "by content, this process", "strict, no call", "in and out"),
    "langgraph: graph, in memory": ("no", "no", "no", "no"),
    "langgraph: graph, SQLite checkpointer": (
        "each layer, with the whole state",
        "nodes with a cache policy",
        "from a checkpoint; later nodes are called again",
        "no",
    ),
    "langgraph: tasks, SQLite checkpointer": (
        "each task",
        "tasks with a cache policy",
        "of an interrupted run; finished tasks are not called again",
        "no",
    ),
    "langgraph: graph, SQLite cache": ("each result", "by inputs, not by code; all runs", "no", "no"),
    "langgraph: graph, all from the cache": ("each result", "every step here", "no", "no"),
    "dbos: workflow, SQLite": (
        "each step",
        "within its workflow",
        "of an interrupted or forked workflow: finished steps are not called again",
        "no",
    ),
    "hamilton: driver, in memory": ("no", "no", "no", "no"),
    "hamilton: driver, cache on the disk": ("each result", "by code and inputs, all runs", "no", "no"),
    "hamilton: driver, all from the cache": ("each result", "every step here", "no", "no"),
    "pydantic_graph: graph, in memory": ("no", "no", "no", "no"),
    "prefect: flow of tasks": (
        "states of tasks; results only if asked for",
        "only if asked for",
        "no",
        "of a flow's parameters",
    ),
}
"""Row -> whether it is durable, what it reuses, what it replays, what it validates; as each was used here."""


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment."""
    return HERE.parent / ".venv" / "peers" / peer / "bin" / "python"


async def own_rows(rounds: int) -> list[dict[str, Any]]:
    """Return firmplan's rows."""
    sheet = Sheet("firmplan")
    with tempfile.TemporaryDirectory() as folder:
        lane = Lane(Path(folder), TYPED, STEPS)
        options = Options(rounds, STEPS, large=False, profile="")
        await rounds_of(sheet, lane, lambda: gathered(TYPED, STEPS), STEPS, options)
    number = version("firmplan")
    return [row("firmplan", each.name, number, [each.figure], each.low, each.high) for each in sheet.rows()]


def row(peer: str, name: str, number: str, ratios: list[float], *ends: float) -> dict[str, Any]:
    """Return a row of the table."""
    low, high = ends or (min(ratios), max(ratios))
    does = DOES[f"{peer}: {name}"]
    figure = statistics.median(ratios)
    return {
        "peer": peer,
        "name": name,
        "version": number,
        "figure": figure,
        "low": low,
        "high": high,
        "does": does,
    }


def peer_rows(peer: str, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of a peer, as a process in its environment tells them."""
    # A round of Prefect takes half a minute.
    few = min(rounds, 2) if peer == "prefect" else rounds
    words = [str(python_of(peer)), str(HERE / "peers" / f"run_{peer}.py"), str(few)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{' '.join(words)} told nothing:\n{done.stderr[-2000:]}")
    told = json.loads(lines[-1])
    number = next(iter(told["versions"].values()))
    return [
        row(peer, name, number, [sample["cpu"] / sample["floor"] for sample in samples])
        for name, samples in told["rows"].items()
    ]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", metavar="PEER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.peers or PEERS
    for name in names:
        if name not in PEERS or not python_of(name).exists():
            parser.error(f"{name}: no environment at {python_of(name)}; run `make peers`")
    found: list[dict[str, Any]] = []
    print(
        f"{'':<42}{'version':<9}{'x gather':>9}  {'(least, most)':<17}durable | reuses | replays | validates"
    )
    for name in ("firmplan", *names):
        rows = (
            asyncio.run(own_rows(options.rounds)) if name == "firmplan" else peer_rows(name, options.rounds)
        )
        for each in rows:
            spread = f"({each['low']:.3g}, {each['high']:.3g})"
            title = f"{each['peer']}: {each['name']}"
            print(
                f"{title:<42}{each['version']:<9}{each['figure']:>9.4g}  {spread:<17}{' | '.join(each['does'])}",
                flush=True,
            )
        found += rows
    if options.json:
        if options.peers and options.json.exists():  # the rows of other peers stay
            found = [
                row
                for row in json.loads(options.json.read_text())["rows"]
                if row["peer"] not in {"firmplan", *names}
            ] + found
        document = {"machine": machine(), "rounds": options.rounds, "rows": found}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
