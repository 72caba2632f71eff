"""How long loading and checking a large plan takes, how it grows, and what it costs in memory; against the contract's limits.

    python benchmarks/bench_check.py

The plan is layered: each layer has a hundred steps, each step refers to three of the layer before. In `paths` the references are
arguments of a tool (`${s17.total}`), in `formula` they are one expression (`${s17.total + s42.total * 2 - s99.total}`). Measured is
what a user does: `Plan.load` of a JSON file, then `check` with a toolset. Each case runs in new processes, and the median of
their CPU seconds counts (on a machine with nothing else to do these are the seconds that pass); the spread is shown. The
floor, measured in the same process, is what nobody can leave out: `json.loads`, Python's own parser over the expressions, and
the graph in networkx. Exits with 1 if a limit is broken.
"""

from __future__ import annotations

import ast
import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

SMALL, LARGE = 10_000, 100_000
WIDTH = 100
ROUNDS = 3
SECONDS_MAX = 0.5  # load and check of the small plan
GROWTH_MAX = 1.3  # a step of the large plan, against one of the small
MEMORY_MAX = 4096  # bytes a step above the parsed JSON
SHAPES = ("paths", "formula")


def layered(count, shape):
    """Return a layered plan of so many steps as JSON."""
    steps = []
    for position in range(count):
        layer, column = divmod(position, WIDTH)
        if layer == 0:
            names = ["inputs.start"] * 3
        else:
            first = (layer - 1) * WIDTH
            names = [f"s{first + (column + shift) % WIDTH}.total" for shift in (0, 7, 31)]
        step = {"id": f"s{position}"}
        if shape == "paths":
            step |= {"tool": "mix", "args": dict(zip("abc", (f"${{{name}}}" for name in names), strict=True))}
        else:
            step |= {"set": {"total": f"${{{names[0]} + {names[1]} * 2 - {names[2]}}}"}}
        steps.append(step)
    last = "${[" + ", ".join(f"s{position}.total" for position in range(count - WIDTH, count)) + "]}"
    return {"firmplan": 1, "inputs": {"start": {"type": "number"}}, "steps": steps, "output": last}


def toolset():
    """Return the one tool of the plan."""
    from firmplan import Toolset, tool
    from pydantic import BaseModel

    class Mixed(BaseModel):
        total: float

    @tool(effect="pure")
    def mix(a: float, b: float, c: float) -> Mixed:
        """Mix three numbers."""
        return Mixed(total=a + b - c)

    return Toolset([mix])


def floor(text):
    """Return the seconds of what nobody can leave out: parse the JSON, parse the expressions, build the graph."""
    import networkx as nx

    begun = time.process_time()
    plan = json.loads(text)
    parsed = time.process_time()
    edges = []
    for step in plan["steps"]:
        for value in (step.get("args") or step["set"]).values():
            tree = ast.parse(value[2:-1], mode="eval")
            edges += [(node.id, step["id"]) for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = time.process_time()
    nx.DiGraph(edges)
    return parsed - begun, read - parsed, time.process_time() - read


def measured(path):
    """Return what loading and checking of the plan in a file takes, with its floor. Runs in a process of its own."""
    from firmplan import Plan, check

    tools = toolset()
    warm = layered(2 * WIDTH, "formula")
    check(warm, tools)
    begun = time.process_time()
    plan = Plan.load(path)
    loaded = time.process_time()
    report = check(plan, tools)
    done = time.process_time()
    assert not report.problems, str(report)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "load": loaded - begun,
        "check": done - loaded,
        "peak": peak * 1024,
        "floor": floor(path.read_text()),
    }


def memory(path):
    """Return how many bytes the plan and its report hold above the parsed JSON, and above it at their peak."""
    from firmplan import Plan, check

    tools = toolset()
    check(layered(2 * WIDTH, "formula"), tools)
    text = path.read_text()
    gc.collect()
    tracemalloc.start()
    value = json.loads(text)
    size = tracemalloc.get_traced_memory()[0]
    del value, text
    gc.collect()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    plan = Plan.load(path)
    report = check(plan, tools)
    gc.collect()
    held, peak = tracemalloc.get_traced_memory()
    assert report.ok
    return {"json": size, "held": held - before - size, "peak": peak - before - size}


def in_new_process(what, path):
    """Return what a function of this file gives in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, what, str(path)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def main():
    """Print the table; return the exit code."""
    over = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            each = {}
            for count in (SMALL, LARGE):
                path = Path(folder, f"{shape}-{count}.json")
                path.write_text(json.dumps(layered(count, shape)))
                rounds = [in_new_process("measured", path) for _ in range(ROUNDS)]
                each[count] = told(shape, count, rounds)
                held = in_new_process("memory", path)
                print(
                    f"           memory a step above its JSON ({held['json'] / count:.0f} B): "
                    f"held {held['held'] / count:.0f} B, at the peak {held['peak'] / count:.0f} B (limit {MEMORY_MAX})"
                )
                if max(held["held"], held["peak"]) / count > MEMORY_MAX:
                    over.append(f"{shape}, {count} steps: memory")
            growth = each[LARGE] / LARGE / (each[SMALL] / SMALL)
            print(
                f"           a step of {LARGE} costs {growth:.2f} times one of {SMALL} (limit {GROWTH_MAX})"
            )
            if each[SMALL] > SECONDS_MAX:
                over.append(f"{shape}: {each[SMALL]:.2f} s")
            if growth > GROWTH_MAX:
                over.append(f"{shape}: growth {growth:.2f}")
    print("broken: " + "; ".join(over) if over else "all limits are kept")
    return 1 if over else 0


def told(shape, count, rounds):
    """Print one line of the table and return the median seconds of load and check together."""
    whole = sorted(each["load"] + each["check"] for each in rounds)
    middle = statistics.median(whole)
    load, check = (statistics.median(each[part] for each in rounds) for part in ("load", "check"))
    parsed, read, graph = (statistics.median(each["floor"][part] for each in rounds) for part in range(3))
    lowest = parsed + read + graph
    print(
        f"{shape:<8} {count:>7} steps: load {load:.3f} s + check {check:.3f} s = {middle:.3f} s "
        f"({whole[0]:.3f} to {whole[-1]:.3f}; {middle / count * 1e6:.1f} us a step)"
    )
    print(
        f"           floor {lowest:.3f} s (json {parsed:.3f}, ast {read:.3f}, networkx {graph:.3f}): "
        f"{middle / lowest:.2f} times the floor"
    )
    return middle


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps({"measured": measured, "memory": memory}[sys.argv[1]](Path(sys.argv[2]))))
        sys.exit(0)
    sys.exit(main())
