"""Contract, 1 and 3: what is reused in a later run, by effect, and the modes of reuse."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from firmplan import Context, Engine, OutcomeUnknown, Run, ToolError, Toolset, tool
from public import call, once, plan, within

CALLS: list[str] = []


@tool(effect="pure")
def module_counted(x: int) -> int:
    """Compute, and count in a list of the module."""
    CALLS.append(f"module_counted {x}")
    return x * 2


def counters(calls: list[str]) -> dict[str, Any]:  # noqa: C901  # one tool of each effect
    """Return one tool of each effect; each counts its calls in the list."""

    @tool(effect="pure")
    def compute(x: int) -> int:
        """Compute."""
        calls.append("compute")
        return x * 2

    @tool(effect="read")
    def look(x: int) -> int:
        """Look."""
        calls.append("look")
        return x * 2

    @tool(effect="read", reuse_for="forever")
    def look_always(x: int) -> int:
        """Look."""
        calls.append("look_always")
        return x * 2

    @tool(effect="read", reuse_for="1h", resource="a")
    def look_a(x: int) -> int:
        """Look."""
        calls.append("look_a")
        return x * 2

    @tool(effect="model")
    def think(x: int) -> int:
        """Think."""
        calls.append("think")
        return x * 2

    @tool(effect="write", resource="a")
    def put_a(x: int) -> int:
        """Write."""
        calls.append("put_a")
        return x * 2

    @tool(effect="write", resource="b")
    def put_b(x: int) -> int:
        """Write."""
        calls.append("put_b")
        return x * 2

    @tool(effect="write", idempotent=True)
    def put_world(x: int) -> int:
        """Write."""
        calls.append("put_world")
        return x * 2

    @tool(effect="write", resource="a")
    def lose_a(x: int) -> int:
        """Lose."""
        raise OutcomeUnknown("?")

    @tool(effect="write", resource="a")
    def fail_a(x: int) -> int:
        """Fail."""
        raise ToolError("no")

    made = [compute, look, look_always, look_a, think, put_a, put_b, put_world, lose_a, fail_a]
    return {each.name: each for each in made}


class Reuse:
    """A store, tools, and the calls that they saw."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "s.db"
        self.calls: list[str] = []
        self.tools = list(counters(self.calls).values())

    def run(self, name: str, x: int = 1, **options: Any) -> Run:
        return once(self.tools, plan(call("s", name, args={"x": x}), output="${s}"), self.store, **options)

    def is_reused(self, name: str, x: int = 1, **options: Any) -> bool:
        before = len(self.calls)
        run = self.run(name, x, **options)
        assert run.status == "succeeded", run.errors
        assert run.output == x * 2
        assert run.steps["s"].status == "succeeded"
        assert run.steps["s"].reused is (len(self.calls) == before)
        assert run.steps["s"].attempts == len(self.calls) - before
        return run.steps["s"].reused


@pytest.fixture
def reuse(tmp_path: Path) -> Reuse:
    return Reuse(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("compute", True),
        ("look", False),
        ("look_always", True),
        ("look_a", True),
        ("think", True),
        ("put_a", False),
        ("put_world", False),
    ],
)
def test_reuse_in_a_later_run_is_by_effect(reuse: Reuse, name: str, expected: bool):
    """`pure`, `model`: by content key; `read`: inside `reuse_for` (`None`: never); `write`: never."""
    assert reuse.is_reused(name) is False
    assert reuse.is_reused(name) is expected
    assert reuse.is_reused(name, 2) is False


def test_a_pure_tool_that_counts_its_calls_in_a_module_list_is_reused(tmp_path: Path):
    """`pure`: always, by content key: a counter is the tool's own memory."""
    CALLS.clear()
    steps = plan(call("s", "module_counted", args={"x": 4}), output="${s}")
    once([module_counted], steps, tmp_path / "s.db")
    assert once([module_counted], steps, tmp_path / "s.db").steps["s"].reused is True
    assert CALLS == ["module_counted 4"]


def test_equal_calls_in_one_run_are_made_once(reuse: Reuse):
    """Identical calls in flight are joined (single flight); writes never are."""
    steps = plan(
        call("a", "compute", args={"x": 1}),
        call("b", "compute", args={"x": 1}),
        call("c", "put_a", args={"x": 1}),
        call("d", "put_a", args={"x": 1}),
        output=["${a}", "${b}", "${c}", "${d}"],
    )
    run = once(reuse.tools, steps, reuse.store)
    assert run.output == [2, 2, 2, 2]
    assert sorted(reuse.calls) == ["compute", "put_a", "put_a"]


def test_the_step_and_the_plan_are_no_part_of_the_key(reuse: Reuse):
    """.. by content key: tool, fingerprint and arguments."""
    reuse.run("compute", 3)
    steps = plan(
        {"id": "n", "set": 3},
        call("other", "compute", args={"x": "${n}"}),
        call("each", "compute", args={"x": "${item}"}, for_each=[3, 4]),
        output="${other}",
    )
    run = once(reuse.tools, steps, reuse.store)
    assert run.steps["other"].reused is True
    assert run.steps["each[0]"].reused is True
    assert run.steps["each[1]"].reused is False
    assert run.steps["each"].reused is False
    assert run.steps["n"].reused is False


def test_a_parent_is_reused_if_all_its_leaves_were(reuse: Reuse):
    """A parent's status is derived; it is `reused` if all its leaves were; `set` steps never are."""
    steps = plan(
        call("each", "compute", args={"x": "${item}"}, for_each=[1, 2]),
        {"id": "sub", "plan": "inner"},
        {"id": "mixed", "plan": "mixed"},
        call(
            "turns", "compute", args={"x": "${first(prev, 1)}"}, repeat={"until": "${turns >= 4}", "max": 3}
        ),
        plans={
            "inner": {"steps": [call("x", "compute", args={"x": 9})], "output": "${x}"},
            "mixed": {
                "steps": [call("x", "compute", args={"x": 9}), {"id": "y", "set": 1}],
                "output": "${x}",
            },
        },
        output="${each}",
    )
    once(reuse.tools, steps, reuse.store)
    run = once(reuse.tools, steps, reuse.store)
    assert [path for path, step in run.steps.items() if step.reused] == [
        "each",
        "each[0]",
        "each[1]",
        "sub",
        "sub/x",
        "mixed/x",
        "turns",
        "turns#0",
        "turns#1",
    ]


def test_a_conflicting_write_ends_the_reuse_of_a_read(reuse: Reuse):
    """Unless a `write` on a conflicting resource, in any run of the store, .. started after that."""
    reuse.run("look_a")
    assert reuse.is_reused("look_a") is True
    reuse.run("put_b")
    assert reuse.is_reused("look_a") is True
    reuse.run("put_a")
    assert reuse.is_reused("look_a") is False
    assert reuse.is_reused("look_a") is True
    reuse.run("put_world")
    assert reuse.is_reused("look_a") is False


def test_a_read_of_the_world_conflicts_with_every_write(reuse: Reuse):
    """`"world"` conflicts with every resource."""
    reuse.run("look_always")
    assert reuse.is_reused("look_always") is True
    reuse.run("put_b")
    assert reuse.is_reused("look_always") is False


def test_a_failed_write_ends_the_reuse_of_a_read(reuse: Reuse):
    """.. unless a `write` on a conflicting resource .. started after that: each intent raises the epoch."""
    reuse.run("look_a")
    reuse.run("fail_a")
    assert reuse.is_reused("look_a") is False


def test_a_read_beside_an_indeterminate_write_is_not_reused(reuse: Reuse):
    """.. unless a `write` on a conflicting resource, in any run of the store, was in flight or indeterminate .."""
    assert reuse.run("lose_a", run_id="lost").status == "indeterminate"
    assert reuse.is_reused("look_a") is False
    assert reuse.is_reused("look_a") is False

    async def resolve() -> None:
        async with Engine(reuse.tools, store=reuse.store) as engine:
            await engine.resolve("lost", "s", fail="it did nothing")
            await engine.resume("lost")

    within(resolve())
    assert reuse.is_reused("look_a") is False
    assert reuse.is_reused("look_a") is True


def test_reads_and_writes_of_one_run_see_one_another(reuse: Reuse):
    """A read after a write of the same run is a new look."""
    steps = plan(
        call("r1", "look_a", args={"x": 1}),
        call("w", "put_a", args={"x": 1}),
        call("r2", "look_a", args={"x": 1}),
    )
    once(reuse.tools, steps, reuse.store)
    assert reuse.calls == ["look_a", "put_a", "look_a"]
    run = once(reuse.tools, steps, reuse.store)
    assert run.steps["r1"].reused is True
    assert run.steps["r2"].reused is False
    assert reuse.calls == ["look_a", "put_a", "look_a", "put_a", "look_a"]


def test_failures_are_never_reused(tmp_path: Path):
    """Never reused: errors."""
    calls: list[int] = []

    @tool(effect="pure", version="1")
    def fail_once(x: int) -> int:
        """Fail, once."""
        calls.append(x)
        if len(calls) == 1:
            raise ToolError("no")
        return x

    steps = plan(call("s", "fail_once", args={"x": 1}), output="${s}")
    assert once([fail_once], steps, tmp_path / "s.db").status == "failed"
    assert once([fail_once], steps, tmp_path / "s.db").output == 1
    assert once([fail_once], steps, tmp_path / "s.db").steps["s"].reused is True


def test_reuse_off_calls_every_step(reuse: Reuse):
    """`reuse`: `off`: every step is called, and nothing of it is kept."""
    reuse.run("compute")
    assert reuse.is_reused("compute", reuse="off") is False
    assert reuse.is_reused("compute") is True


def test_reuse_refresh_calls_and_keeps(reuse: Reuse):
    """`reuse`: `refresh`: called, and kept for later."""
    reuse.run("look_a")
    reuse.run("put_a")
    assert reuse.is_reused("look_a", reuse="refresh") is False
    assert reuse.is_reused("look_a") is True
    assert reuse.is_reused("look_a", reuse="refresh") is False


def test_reuse_only_calls_nothing_but_writes(reuse: Reuse):
    """`reuse`: `only`: what is not there fails."""
    assert reuse.run("compute", reuse="only").status == "failed"
    assert reuse.calls == []
    reuse.run("compute")
    assert reuse.is_reused("compute", reuse="only") is True


def test_a_changed_tool_is_not_reused(tmp_path: Path):
    """Key: tool name, tool fingerprint, canonical arguments: a changed helper is another key."""
    source = (
        'from firmplan import tool\n\ndef helper(x: int) -> int:\n    return x + 1\n\n\n@tool(effect="pure")\n'
        'def f(x: int) -> int:\n    """Compute."""\n    return helper(x)\n'
    )
    path = tmp_path / "tools.py"
    steps = plan(call("s", "f", args={"x": 1}), output="${s}")

    def run(text: str) -> Run:
        path.write_text(text)
        return once(Toolset.load(str(path)), steps, tmp_path / "s.db")

    assert run(source).output == 2
    again = run(source.replace("return x + 1", "return x + 1  # said"))
    assert (again.output, again.steps["s"].reused) == (2, True)
    changed = run(source.replace("return x + 1", "return x + 2"))
    assert (changed.output, changed.steps["s"].reused) == (3, False)
    back = run(source)
    assert (back.output, back.steps["s"].reused) == (2, True)


def test_early_cutoff(tmp_path: Path):
    """Keys are made from values, so a re-run step with an unchanged value leaves its dependants reusable."""
    calls: list[str] = []

    @tool(effect="read")
    def look() -> int:
        """Look."""
        calls.append("look")
        return 4

    @tool(effect="pure", version="1")
    def compute(x: int) -> int:
        """Compute."""
        calls.append("compute")
        return x

    steps = plan(call("a", "look"), call("b", "compute", args={"x": "${a}"}))
    once([look, compute], steps, tmp_path / "s.db")
    run = once([look, compute], steps, tmp_path / "s.db")
    assert calls == ["look", "compute", "look"]
    assert (run.steps["a"].reused, run.steps["b"].reused) == (False, True)


def test_reused_steps_change_neither_output_nor_digest(reuse: Reuse):
    """`run.digest` covers .. every step's status and output digest; not timing .. (nor whether it was reused)."""
    first, second = reuse.run("compute"), reuse.run("compute")
    assert second.steps["s"].reused is True
    assert first.digest == second.digest


def test_identical_calls_of_two_runs_are_joined(tmp_path: Path):
    """Identical calls in flight are joined (single flight)."""
    calls: list[str] = []

    async def go() -> None:
        started, both, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def seen() -> None:
            both.set()

        async def slow(x: int, *, ctx: Context) -> int:
            calls.append(ctx.run_id)
            started.set()
            await release.wait()
            return x

        made = tool(slow, name="slow", effect="pure", version="1", description="Wait.")
        mark = tool(seen, name="seen", effect="read", resource="b", description="Mark.")
        async with Engine([made, mark], store=tmp_path / "s.db") as engine:
            source = plan(call("s", "slow", args={"x": 1}), output="${s}")
            await engine.submit(source, run_id="one")
            await started.wait()
            source["steps"].append(call("t", "seen"))
            await engine.submit(source, run_id="two")
            await both.wait()
            release.set()
            runs = [await engine.wait("one"), await engine.wait("two")]
        assert [run.output for run in runs] == [1, 1]

    within(go())
    assert len(calls) == 1


PROCESS = '''
import sys
from enum import Enum
from firmplan import Engine, tool

KNOWN = frozenset({"alpha", "beta", "gamma", "delta"})
TABLE = {name: len(name) for name in sorted(KNOWN)}
SEEN = []


class Colour(Enum):
    RED = 1


@tool(effect="pure")
def look_up(name: str, colour: Colour = Colour.RED) -> int:
    """Look up."""
    SEEN.append(name)
    print("called")
    return TABLE[name] if name in KNOWN else -1


plan = {"firmplan": 1, "steps": [{"id": "s", "tool": "look_up", "args": {"name": "beta"}}], "output": "${s}"}
with Engine([look_up], store=sys.argv[1]) as engine:
    run = engine.run_sync(plan).raise_for_status()
    print(run.output, run.steps["s"].reused, run.digest)
'''


def test_results_are_reused_across_processes(tmp_path: Path):
    """`pure`: reuse in a later run: always, by content key, which is the same in every process."""
    (tmp_path / "job.py").write_text(PROCESS)
    outputs = []
    for seed in ("1", "2", "random"):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "job.py"), str(tmp_path / "s.db")],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            timeout=60,
        )
        outputs.append(done.stdout.split())
    assert outputs[0][:3] == ["called", "4", "False"]
    assert outputs[1] == outputs[2] == ["4", "True", outputs[0][3]]


def test_keys_are_made_from_normalised_arguments(tmp_path: Path):
    """Arguments are validated, and so normalised, before the call and before the key is made."""
    calls: list[Any] = []

    @tool(effect="pure")
    def scale(x: float, by: int = 2, more: Any = None) -> float:
        """Scale."""
        calls.append((x, by))
        return x * by

    for args in (
        {"x": 1},
        {"x": 1.0},
        {"x": "${2 / 2}"},
        {"x": 1, "by": 2},
        {"by": 2.0, "x": 1, "more": None},
    ):
        once([scale], plan(call("s", "scale", args=args)), tmp_path / "s.db").raise_for_status()
    assert calls == [(1.0, 2)]
    for more in ({"a": 1, "b": [1]}, {"b": [1], "a": 1}):
        once(
            [scale], plan(call("s", "scale", args={"x": 1, "more": more})), tmp_path / "s.db"
        ).raise_for_status()
    assert len(calls) == 2
    once([scale], plan(call("s", "scale", args={"x": 1, "more": {"a": 1.0, "b": [1]}})), tmp_path / "s.db")
    assert len(calls) == 3


@pytest.mark.parametrize("effect", ["pure", "read", "model"])
def test_a_counter_that_is_returned_shows_reuse(effect: str, tmp_path: Path):
    """Reuse: what a tool itself changes is its own memory, and its effect says what may be made of the result."""
    count = {"n": 0}
    log: list[int] = []
    options = {"reuse_for": "1h"} if effect == "read" else {}

    @tool(effect=effect, **options)
    def tick() -> int:
        """Count."""
        count["n"] += 1
        log.append(count["n"])
        return len(log)

    outputs = [
        once([tick], plan(call("s", "tick"), output="${s}"), tmp_path / "s.db").output for _ in range(3)
    ]
    assert outputs == [1, 1, 1]


def test_values_that_are_closed_over_count(tmp_path: Path):
    """Fingerprint: .. the values it closes over and module constants it reads."""

    def made(factor: int, table: dict[str, int]) -> Any:
        @tool(effect="pure")
        def scale(x: int) -> int:
            """Scale."""
            return x * factor + table["k"]

        return scale

    steps = plan(call("s", "scale", args={"x": 2}), output="${s}")
    found = [
        once([made(factor, {"k": k})], steps, tmp_path / "s.db").output
        for factor, k in [(2, 0), (3, 0), (2, 1), (2, 0)]
    ]
    assert found == [4, 6, 5, 4]
    assert once([made(2, {"k": 0})], steps, tmp_path / "s.db").steps["s"].reused is True


def test_a_tool_that_cannot_be_fingerprinted_is_not_reused_unless_it_has_a_version(tmp_path: Path):
    """What cannot be fingerprinted is not reused, and says which part failed: fail closed."""
    calls: list[int] = []

    def made(**options: Any) -> Any:
        @tool(effect="pure", **options)
        def hidden(x: int) -> int:
            """Evaluate."""
            calls.append(x)
            return eval("x + 1")

        return hidden

    steps = plan(call("s", "hidden", args={"x": 2}), output="${s}")
    for _ in range(2):
        assert once([made()], steps, tmp_path / "s.db").output == 3
    assert len(calls) == 2
    assert made().unseen
    for version in ("1", "1", "2"):
        once([made(version=version)], steps, tmp_path / "s.db")
    assert len(calls) == 4


def test_results_are_of_use_before_their_run_ends(tmp_path: Path):
    """`pure`, `read`: reuse in a later run: a run that goes on for hours keeps nothing from others."""
    calls: list[str] = []

    async def go() -> None:
        release = asyncio.Event()

        async def wait(x: int) -> int:
            calls.append("wait")
            await release.wait()
            return x

        @tool(effect="pure")
        def compute(x: int) -> int:
            """Compute."""
            calls.append("compute")
            return x

        hold = tool(wait, name="hold", effect="read", resource="b", description="Wait.")
        quick = plan(call("c", "compute", args={"x": 1}), output="${c}")
        slow = plan(call("c", "compute", args={"x": 1}), call("h", "hold", args={"x": "${c}"}))
        async with Engine([compute, hold], store=tmp_path / "s.db") as engine:
            await engine.submit(slow, run_id="slow")
            while (await engine.run(quick, reuse="only")).status != "succeeded":
                pass
            assert (await engine.get("slow")).status == "running"
            release.set()
            assert (await engine.wait("slow")).status == "succeeded"

    within(go())
    assert calls.count("compute") == 1
