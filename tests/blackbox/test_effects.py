"""Contract, 1: effects: crashes, failures, program order, effect order, retries, `on_error`, skip reasons."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from firmplan import Context, Engine, OutcomeUnknown, Run, ToolError, Toolset, tool
from forked import start_script
from public import call, once, plan, statuses, within

# --- crashes

TOOLS = '''
import os
import signal
from pathlib import Path

from firmplan import Context, tool

HERE = Path(__file__).parent


def note(*words):
    with (HERE / "calls.log").open("a") as log:
        log.write(" ".join(map(str, words)) + "\\n")


def die_once():
    if not (HERE / "died").exists():
        (HERE / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def answer_of_the_world(key, args):
    note("reconcile", key, args["x"])
    return args["x"] * 10 if (HERE / "happened").exists() else None


@tool(effect="pure")
def first(x: int) -> int:
    """Compute."""
    note("first", x)
    return x + 1


@tool(effect="pure")
def pure_dies(x: int, *, ctx: Context) -> int:
    """Compute, and die."""
    note("pure_dies", x, ctx.attempt)
    die_once()
    return x


@tool(effect="read")
def read_dies(x: int, *, ctx: Context) -> int:
    """Look, and die."""
    note("read_dies", x, ctx.attempt)
    die_once()
    return x


@tool(effect="write", idempotent=True)
def put_again(x: int, *, ctx: Context) -> int:
    """Write, and die; may be called again."""
    note("put_again", x, ctx.idempotency_key)
    die_once()
    return x


@tool(effect="write", reconcile=answer_of_the_world)
def put_asked(x: int, *, ctx: Context) -> int:
    """Write, and die; the world can be asked."""
    note("put_asked", x, ctx.idempotency_key)
    die_once()
    return x


@tool(effect="write", resource="bank")
def put_blindly(x: int, *, ctx: Context) -> int:
    """Write, and die; nobody can know."""
    note("put_blindly", x, ctx.idempotency_key)
    die_once()
    return x


@tool(effect="write", resource="bank")
def later_put(x: int) -> int:
    """Write."""
    note("later_put", x)
    return x
'''

CHILD = """
import json, sys
from firmplan import Engine, Toolset
with Engine(Toolset.load(sys.argv[1]), store=sys.argv[2]) as engine:
    engine.run_sync(json.loads(sys.argv[3]), run_id="r")
"""


class Crash:
    """A project in a folder of its own, whose process dies in mid-call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store.db"
        (folder / "tools.py").write_text(TOOLS)
        self.tools = Toolset.load(str(folder / "tools.py"))

    def die(self, *steps: dict[str, Any], **keys: Any) -> None:
        source = json.dumps(plan(*steps, **keys))
        tools = str(self.folder / "tools.py")
        script = self.folder / "child.py"
        script.write_text(CHILD)
        child = start_script(script, tools, self.store, source)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL

    def calls(self) -> list[list[str]]:
        return [line.split() for line in (self.folder / "calls.log").read_text().splitlines()]

    def resume(self) -> Run:
        with Engine(self.tools, store=self.store) as engine:
            return engine.resume_sync("r")


@pytest.fixture
def crash(tmp_path: Path) -> Crash:
    return Crash(tmp_path)


@pytest.mark.parametrize("name", ["pure_dies", "read_dies"])
def test_a_call_that_changes_nothing_is_called_again_after_a_crash(crash: Crash, name: str):
    """`pure`, `read`: after a crash in mid-call: called again."""
    crash.die(call("a", "first", args={"x": 1}), call("b", name, args={"x": "${a}"}), output="${b}")
    run = crash.resume()
    assert (run.status, run.output) == ("succeeded", 2)
    assert [row[0] for row in crash.calls()].count(name) == 2


def test_an_idempotent_write_is_called_again_with_the_same_key(crash: Crash):
    """`write`: `idempotent=True`: called again, same `ctx.idempotency_key`."""
    crash.die(call("a", "first", args={"x": 1}), call("b", "put_again", args={"x": "${a}"}), output="${b}")
    run = crash.resume()
    assert (run.status, run.output) == ("succeeded", 2)
    made = [row for row in crash.calls() if row[0] == "put_again"]
    assert len(made) == 2
    assert made[0] == made[1]
    assert [row[0] for row in crash.calls()].count("first") == 1
    assert run.steps["b"].attempts == 2


def test_a_write_that_can_be_asked_for_is_asked_for(crash: Crash):
    """Else `reconcile(key, args)` is asked: a value says that it took place."""
    crash.die(call("b", "put_asked", args={"x": 4}), output="${b}")
    (crash.folder / "happened").touch()
    run = crash.resume()
    assert (run.status, run.output) == ("succeeded", 40)
    put, asked = crash.calls()
    assert put[:2] == ["put_asked", "4"]
    assert asked == ["reconcile", put[2], "4"]


def test_a_write_that_did_not_take_place_is_called(crash: Crash):
    """Else `reconcile(key, args)` is asked: `None` says that it did not take place."""
    crash.die(call("b", "put_asked", args={"x": 4}), output="${b}")
    run = crash.resume()
    assert (run.status, run.output) == ("succeeded", 4)
    assert [row[0] for row in crash.calls()] == ["put_asked", "reconcile", "put_asked"]


def test_else_the_step_is_indeterminate_and_a_person_decides(crash: Crash):
    """Else the step is `indeterminate` and a person decides."""
    crash.die(
        call("a", "first", args={"x": 1}),
        call("b", "put_blindly", args={"x": "${a}"}),
        call("c", "later_put", args={"x": 1}),
        call("d", "first", args={"x": 7}),
        output="${b}",
    )
    run = crash.resume()
    assert run.status == "indeterminate"
    assert run.steps["b"].status == "indeterminate"
    assert run.output is None
    assert [row[0] for row in crash.calls()].count("put_blindly") == 1
    assert [row[0] for row in crash.calls()].count("later_put") == 0
    assert run.steps["d"].status == "succeeded"
    assert (run.steps["c"].status, run.steps["c"].reason) == ("skipped", "blocked")
    with Engine(crash.tools, store=crash.store) as engine:
        engine.resolve_sync("r", "b", done=12)
        done = engine.resume_sync("r")
    assert (done.status, done.output) == ("succeeded", 12)
    assert [row[0] for row in crash.calls()].count("put_blindly") == 1
    assert [row[0] for row in crash.calls()].count("later_put") == 1


def test_recover_goes_on_with_runs_whose_process_died(crash: Crash):
    """`Engine(recover=True)` goes on with them."""
    crash.die(call("a", "first", args={"x": 1}), call("b", "put_again", args={"x": "${a}"}), output="${b}")
    with Engine(crash.tools, store=crash.store, recover=True) as engine:
        run = engine.wait_sync("r")
    assert (run.status, run.output) == ("succeeded", 2)


def test_run_with_its_run_id_continues_a_run_whose_process_died(crash: Crash):
    """An existing `run_id` with the same plan and inputs is continued or returned."""
    steps = (call("a", "first", args={"x": 1}), call("b", "put_again", args={"x": "${a}"}))
    crash.die(*steps)
    with Engine(crash.tools, store=crash.store) as engine:
        run = engine.run_sync(plan(*steps), run_id="r")
        again = engine.run_sync(plan(*steps), run_id="r")
    assert run.status == "succeeded"
    assert again.digest == run.digest
    assert [row[0] for row in crash.calls()] == ["first", "put_again", "put_again"]


# --- failures of a write


def writer(fail: Any, calls: list[Any], **options: Any) -> Any:
    """Return a write that fails as told, call by call."""
    faults = list(fail)

    @tool(effect="write", **options)
    def put(x: int, *, ctx: Context) -> int:
        """Write."""
        calls.append((x, ctx.attempt, ctx.idempotency_key))
        fault = faults[len(calls) - 1] if len(calls) <= len(faults) else None
        if fault is not None:
            raise fault
        return x

    return put


@pytest.mark.parametrize("fault", [ToolError("no", code="refused"), ValueError("no"), ZeroDivisionError()])
def test_a_write_that_raises_failed_and_did_nothing(fault: Exception, tmp_path: Path):
    """`ToolError` and ordinary exceptions: it failed and did nothing."""
    calls: list[Any] = []
    run = once([writer([fault], calls, retries=3)], plan(call("s", "put", args={"x": 1})), tmp_path / "s.db")
    assert run.status == "failed"
    assert len(calls) == 1
    assert run.errors[0].step == "s"
    assert run.errors[0].temporary is False
    if isinstance(fault, ToolError):
        assert (run.errors[0].code, run.errors[0].message) == ("refused", "no")


@pytest.mark.parametrize(
    "fault", [OutcomeUnknown("?"), TimeoutError("late"), ConnectionError("gone"), ConnectionResetError()]
)
def test_a_write_of_unknown_outcome_is_handled_as_a_crash(fault: Exception, tmp_path: Path):
    """`OutcomeUnknown`, a timeout, a connection error ..: unknown, handled as a crash in mid-call."""
    calls: list[Any] = []
    steps = plan(call("s", "put", args={"x": 1}, on_error="skip"))
    run = once([writer([fault], calls, retries=3)], steps, tmp_path / "s.db")
    assert run.status == "indeterminate"
    assert run.steps["s"].status == "indeterminate"
    assert len(calls) == 1


def test_an_idempotent_write_of_unknown_outcome_is_called_again(tmp_path: Path):
    """.. handled as a crash in mid-call: `idempotent=True`: called again, same `ctx.idempotency_key`."""
    calls: list[Any] = []
    put = writer([ConnectionError("gone"), OutcomeUnknown("?")], calls, idempotent=True)
    run = once([put], plan(call("s", "put", args={"x": 1}), output="${s}"), tmp_path / "s.db")
    assert (run.status, run.output) == ("succeeded", 1)
    assert [attempt for _, attempt, _ in calls] == [1, 2, 3]
    assert len({key for _, _, key in calls}) == 1


def test_a_timeout_leaves_the_outcome_of_a_write_unknown(tmp_path: Path):
    """A timeout .., an abandoned thread: unknown."""
    release = threading.Event()

    @tool(effect="write", timeout=0.05)
    def slow() -> int:
        """Wait."""
        release.wait(30)
        return 1

    @tool(effect="write", timeout=0.05)
    async def slow_too() -> int:
        """Wait."""
        await asyncio.Event().wait()
        return 1

    try:
        assert once([slow], plan(call("s", "slow")), tmp_path / "s.db").status == "indeterminate"
        assert once([slow_too], plan(call("s", "slow_too")), tmp_path / "t.db").status == "indeterminate"
    finally:
        release.set()


def test_a_steps_timeout_is_per_call(tmp_path: Path):
    """`retries`, `timeout`: per call."""

    @tool(effect="read")
    async def slow(*, ctx: Context) -> int:
        """Wait, the first time."""
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return ctx.attempt

    steps = plan(call("s", "slow", timeout=0.05, retries=1), output="${s}")
    assert once([slow], steps, tmp_path / "s.db").output == 2
    run = once([slow], plan(call("s", "slow", timeout=0.05)), tmp_path / "t.db")
    assert run.status == "failed"
    assert run.errors[0].code == "timeout"
    assert run.errors[0].temporary is True


def test_a_write_is_retried_only_after_a_temporary_error(tmp_path: Path):
    """A write that is not idempotent is retried only after `ToolError(temporary=True)`."""
    calls: list[Any] = []
    put = writer([ToolError("busy", temporary=True), ToolError("busy", temporary=True)], calls, retries=2)
    run = once([put], plan(call("s", "put", args={"x": 1}), output="${s}"), tmp_path / "s.db")
    assert run.output == 1
    assert [attempt for _, attempt, _ in calls] == [1, 2, 3]
    assert len({key for _, _, key in calls}) == 1
    assert run.steps["s"].attempts == 3
    second: list[Any] = []
    put = writer([ValueError("no")] * 3, second, retries=2, retry_on=(ValueError,))
    assert once([put], plan(call("s", "put", args={"x": 1})), tmp_path / "t.db").status == "failed"
    assert len(second) == 1


def test_retry_on_defaults_to_temporary_errors_timeouts_and_connections(tmp_path: Path):
    """`retry_on` default: `ToolError(temporary=True)`, timeouts, connection errors."""
    for number, (fault, expected) in enumerate(
        [
            (ToolError("busy", temporary=True), 3),
            (TimeoutError(), 3),
            (ConnectionRefusedError(), 3),
            (ToolError("no"), 1),
            (ValueError("no"), 1),
        ]
    ):
        calls: list[int] = []

        @tool(effect="read", retries=2)
        def look(*, fault: int = 0, ctx: Context) -> int:
            """Look."""
            calls.append(ctx.attempt)  # noqa: B023  # called in this round only
            raise faults[0]  # noqa: B023  # called in this round only

        faults = [fault]
        run = once([look], plan(call("s", "look")), tmp_path / f"{number}.db")
        assert run.status == "failed"
        assert len(calls) == expected, fault


def test_a_steps_retries_override_the_tools(tmp_path: Path):
    """`retries`, `timeout`: per call."""
    calls: list[int] = []

    @tool(effect="read", retries=5)
    def look(*, ctx: Context) -> int:
        """Look."""
        calls.append(ctx.attempt)
        raise ToolError("busy", temporary=True)

    once([look], plan(call("s", "look", retries=0)), tmp_path / "s.db")
    assert calls == [1]
    once([look], plan(call("s", "look", retries=1)), tmp_path / "s.db")
    assert calls == [1, 1, 2]


# --- on_error


@tool(effect="pure")
def half(x: int) -> int:
    """Halve."""
    if x % 2:
        raise ToolError(f"{x} is odd", code="odd")
    return x // 2


@tool(effect="pure")
def echo(x: int) -> int:
    """Return it."""
    return x


def test_on_error_fail_is_the_default(tmp_path: Path):
    """`on_error`: `"fail"`: dependants are skipped with `dependency-failed`, independent steps finish."""
    run = once(
        [half, echo],
        plan(
            call("a", "half", args={"x": 3}),
            call("b", "echo", args={"x": "${a}"}),
            call("c", "echo", args={"x": "${first(a, 1)}"}),
            call("d", "echo", args={"x": 5}),
            {"id": "e", "set": "${b}"},
            output="${d}",
        ),
        tmp_path / "s.db",
    )
    assert run.status == "failed"
    assert run.output is None
    assert statuses(run) == {
        "a": "failed",
        "b": "skipped",
        "c": "skipped",
        "d": "succeeded",
        "e": "skipped",
    }
    assert [run.steps[name].reason for name in "bce"] == ["dependency-failed"] * 3
    assert [(error.step, error.code, error.temporary) for error in run.errors] == [("a", "odd", False)]
    assert run.steps["a"].error is not None


def test_on_error_skip_and_value_handle_failures(tmp_path: Path):
    """`on_error`: `"skip"`, or `{"value": ..}`."""
    run = once(
        [half, echo],
        plan(
            call("a", "half", args={"x": 3}, on_error="skip"),
            call("b", "half", args={"x": 5}, on_error={"value": -1}),
            call("c", "echo", args={"x": "${a}"}),
            call("d", "echo", args={"x": "${first(a, b)}"}),
            {"id": "e", "set": 4},
            call("f", "half", args={"x": 7}, on_error={"value": "${e + b}"}),
            output=["${b}", "${d}", "${f}"],
        ),
        tmp_path / "s.db",
    )
    assert run.status == "succeeded"
    assert run.output == [-1, -1, 3]
    assert run.errors == ()
    assert (run.steps["a"].status, run.steps["c"].status) == ("skipped", "skipped")
    assert run.steps["c"].reason not in ("dependency-failed", "blocked")
    assert run.steps["b"].status == "succeeded"


def test_on_error_is_per_item(tmp_path: Path):
    """`on_error`: per item (`skip` leaves the item out)."""
    run = once(
        [half],
        plan(
            call("a", "half", args={"x": "${item}"}, for_each=[2, 3, 4], on_error="skip"),
            call("b", "half", args={"x": "${item}"}, for_each=[2, 3, 4], on_error={"value": "${item * 100}"}),
            output=["${a}", "${b}"],
        ),
        tmp_path / "s.db",
    )
    assert run.output == [[1, 2], [1, 300, 2]]
    assert run.steps["a[1]"].status == "skipped"
    assert run.steps["b[1]"].status == "succeeded"


def test_on_error_handles_faults_of_expressions(tmp_path: Path):
    """A run-time fault fails the step; `on_error` handles failures, per item."""
    run = once(
        [echo],
        plan(
            call("z", "echo", args={"x": 0}),
            call("a", "echo", args={"x": "${1 // z}"}, on_error={"value": 3}),
            call("b", "echo", args={"x": 1}, when="${1 // z > 1}", on_error="skip"),
            call(
                "c",
                "echo",
                args={"x": "${item}"},
                for_each=[1, 2],
                when="${10 // (item - 2 + z) < 0}",
                on_error="skip",
            ),
            {"id": "d", "set": "${10 // (item + z)}", "for_each": [0, 5], "on_error": {"value": "${index}"}},
            output=["${a}", "${first(b, 2)}", "${c}", "${d}"],
        ),
        tmp_path / "s.db",
    )
    run.raise_for_status()
    assert run.output == [3, 2, [1], [0, 2]]


def test_on_error_handles_no_denial(tmp_path: Path):
    """`on_error` and `retries` handle failures only, never an unknown outcome, a denial ..."""
    calls: list[int] = []

    @tool(effect="write", approval="always", retries=3)
    def pay(x: int) -> int:
        """Pay."""
        calls.append(x)
        return x

    async def go() -> Run:
        async with Engine([pay], store=tmp_path / "s.db") as engine:
            run = await engine.run(plan(call("s", "pay", args={"x": 1}, on_error={"value": 0})), run_id="r")
            assert run.status == "waiting"
            await engine.deny("r", "s", by="me", reason="too much")
            return await engine.resume("r")

    run = within(go())
    assert run.steps["s"].status == "cancelled"
    assert run.status != "succeeded"
    assert calls == []


# --- program order and effect order


def world(log: list[str], gates: dict[str, asyncio.Event] | None = None) -> list[Any]:
    """Return tools that note when they start and end; a gate holds a call back."""

    def made(name: str, effect: str, resource: str) -> Any:
        async def act(n: str, *, ctx: Context) -> str:
            log.append(f"{ctx.step}+")
            if gates is not None and ctx.step in gates:
                await gates[ctx.step].wait()
            if n == "fail":
                log.append(f"{ctx.step}!")
                raise ToolError("no")
            log.append(f"{ctx.step}-")
            return n

        return tool(act, name=name, effect=effect, resource=resource, description="Act.")

    return [
        made("read_a", "read", "a"),
        made("read_b", "read", "b"),
        made("read_world", "read", "world"),
        made("write_a", "write", "a"),
        made("write_b", "write", "b"),
        made("write_world", "write", "world"),
        made("compute", "pure", "world"),
        made("think", "model", "world"),
    ]


def act(step: str, name: str, n: str = "x", **keys: Any) -> dict[str, Any]:
    return call(step, name, args={"n": n}, **keys)


def ended(folder: Path, *steps: dict[str, Any], **keys: Any) -> tuple[Run, list[str]]:
    """Run some steps in the world; return the run, and what happened."""
    log: list[str] = []
    return once(world(log), plan(*steps, **keys), folder / "s.db"), log


def ordered(log: list[str], first: str, then: str) -> bool:
    """Whether one step ended before the other started."""
    return log.index(f"{first}-") < log.index(f"{then}+")


def test_a_write_waits_for_every_earlier_read_and_write_and_a_read_for_writes(tmp_path: Path):
    """On one `resource`, in program order, a `write` waits for every earlier `read` and `write`, and a `read` for .."""
    run, log = ended(
        tmp_path,
        act("r1", "read_a"),
        act("r2", "read_a"),
        act("w1", "write_a"),
        act("r3", "read_a"),
        act("r4", "read_a"),
        act("w2", "write_a"),
    )
    assert run.status == "succeeded"
    assert all(
        ordered(log, a, b)
        for a, b in [("r1", "w1"), ("r2", "w1"), ("w1", "r3"), ("w1", "r4"), ("r3", "w2"), ("r4", "w2")]
    )


def test_reads_between_two_writes_run_together(tmp_path: Path):
    """`pure` and `model` steps and reads between two writes run as soon as their inputs are there."""
    log: list[str] = []

    async def go() -> None:
        gates = {"w1": asyncio.Event(), "r1": asyncio.Event(), "r2": asyncio.Event()}
        async with Engine(world(log, gates), store=tmp_path / "s.db") as engine:
            await engine.submit(
                plan(
                    act("w1", "write_a"),
                    act("r1", "read_a"),
                    act("r2", "read_a"),
                    act("w2", "write_a"),
                    act("p", "compute"),
                    act("m", "think"),
                ),
                run_id="r",
            )
            events = engine.events("r")
            async for _ in events:
                if "m-" in log and "p-" in log:
                    break
            assert {"p-", "m-"} <= set(log)
            assert not {"r1+", "r2+", "w2+"} & set(log)
            gates["w1"].set()
            async for _ in events:
                if "r1+" in log and "r2+" in log:
                    break
            assert "w2+" not in log
            gates["r1"].set()
            gates["r2"].set()
            assert (await engine.wait("r")).status == "succeeded"

    within(go())
    assert log.index("w2+") > max(log.index("r1-"), log.index("r2-"))


def test_resources_do_not_wait_for_one_another(tmp_path: Path):
    """On one `resource` ..: another resource's write does not wait."""
    log: list[str] = []

    async def go() -> None:
        gates = {"w1": asyncio.Event()}
        tools = world(log, gates)

        @tool(effect="write", resource="b")
        async def open_gate(n: str) -> str:
            """Open the gate."""
            gates["w1"].set()
            return n

        async with Engine([*tools, open_gate], store=tmp_path / "s.db") as engine:
            run = await engine.run(plan(act("w1", "write_a"), act("w2", "open_gate")))
            assert run.status == "succeeded"

    within(go())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("write_world", "write_a"),
        ("write_a", "write_world"),
        ("read_world", "write_a"),
        ("write_a", "read_world"),
        ("write_world", "read_b"),
        ("read_b", "write_world"),
    ],
)
def test_world_conflicts_with_every_resource(before: str, after: str, tmp_path: Path):
    """`"world"` conflicts with every resource."""
    _, log = ended(tmp_path, act("s1", before), act("s2", after))
    assert ordered(log, "s1", "s2")


def test_program_order_is_the_list_with_dependencies_first(tmp_path: Path):
    """Program order is the order of the plan's list, each step preceded by its not yet listed dependencies."""
    _, log = ended(
        tmp_path,
        act("last", "write_a", n="${dep}"),
        act("mid", "write_a"),
        act("dep", "write_a"),
        act("early", "write_a", after=["end"]),
        act("end", "write_a"),
    )
    assert [each for each in log if each.endswith("+")] == ["dep+", "last+", "mid+", "end+", "early+"]


def test_program_order_takes_references_before_after(tmp_path: Path):
    """.. its not yet listed dependencies (references, then `after`, in list order)."""
    _, log = ended(
        tmp_path,
        act("s", "write_a", n="${c + b}", after=["a"]),
        act("a", "write_a"),
        act("b", "write_a"),
        act("c", "write_a"),
    )
    assert [each for each in log if each.endswith("+")] == ["b+", "c+", "a+", "s+"]


def test_a_for_each_with_a_write_runs_item_after_item(tmp_path: Path):
    """A `for_each` whose body holds a `write` runs item after item."""
    _, log = ended(tmp_path, act("s", "write_a", n="${item}", for_each=["x", "y", "z"]))
    assert log == ["s[0]+", "s[0]-", "s[1]+", "s[1]-", "s[2]+", "s[2]-"]


def test_a_failed_item_of_a_for_each_of_writes_blocks_the_rest(tmp_path: Path):
    """If an earlier step on a write's resource .. failed .., the write is `skipped` with reason `blocked`."""
    run, log = ended(tmp_path, act("s", "write_a", n="${item}", for_each=["x", "fail", "z"]))
    assert log == ["s[0]+", "s[0]-", "s[1]+", "s[1]!"]
    assert run.status == "failed"
    assert (run.steps["s[2]"].status, run.steps["s[2]"].reason) == ("skipped", "blocked")
    assert [error.step for error in run.errors] == ["s[1]"]


def test_a_plan_step_has_the_effects_of_its_inner_steps(tmp_path: Path):
    """A `plan` step has the effects of its inner steps; sub-plan steps are inlined in place."""
    run, log = ended(
        tmp_path,
        act("w1", "write_a"),
        {"id": "sub", "plan": "inner"},
        act("w2", "write_a"),
        plans={"inner": {"steps": [act("x", "read_b"), act("y", "write_a")], "output": "${y}"}},
    )
    assert run.status == "succeeded"
    assert ordered(log, "w1", "sub/y")
    assert ordered(log, "sub/y", "w2")


@pytest.mark.parametrize("first", ["write_a", "read_a", "write_world", "read_world"])
def test_a_failure_blocks_later_writes_on_the_resource(first: str, tmp_path: Path):
    """These are success edges: if an earlier step on a write's resource .. failed .., the write .. is `skipped` .."""
    run, _ = ended(
        tmp_path,
        act("s1", first, n="fail"),
        act("s2", "write_a"),
        act("s3", "read_a"),
        act("s4", "compute", n="${s2}"),
    )
    assert run.status == "failed"
    assert (run.steps["s2"].status, run.steps["s2"].reason) == ("skipped", "blocked")
    assert run.steps["s3"].status == "succeeded"
    assert (run.steps["s4"].status, run.steps["s4"].reason) == ("skipped", "dependency-failed")
    assert [error.step for error in run.errors] == ["s1"]


def test_a_failure_blocks_a_step_that_names_it_in_after(tmp_path: Path):
    """.. or a step named in `after`, failed ..: the step with `after` is `skipped` with reason `blocked`."""
    run, _ = ended(
        tmp_path,
        act("s1", "compute", n="fail"),
        act("s2", "compute", after=["s1"]),
        act("s3", "compute", after=["s2"]),
    )
    assert [(run.steps[name].status, run.steps[name].reason) for name in ("s2", "s3")] == [
        ("skipped", "blocked")
    ] * 2


def test_handled_failures_and_skips_by_when_do_not_block(tmp_path: Path):
    """Failures handled by `on_error`, and steps skipped by `when`, do not block."""
    run, log = ended(
        tmp_path,
        act("s1", "write_a", n="fail", on_error="skip"),
        act("s2", "write_a", n="fail", on_error={"value": "v"}),
        act("s3", "write_a", when="${1 > 2}"),
        act("s4", "write_a", after=["s1", "s2", "s3"]),
    )
    assert run.status == "succeeded"
    assert run.steps["s4"].status == "succeeded"
    assert run.steps["s3"].status == "skipped"
    assert "s3+" not in log


def test_steps_skipped_because_of_a_failure_block_like_it(tmp_path: Path):
    """Steps skipped because of a failure (`dependency-failed`, `blocked`) block like it."""
    run, _ = ended(
        tmp_path,
        act("s1", "compute", n="fail"),
        act("s2", "write_a", n="${s1}"),
        act("s3", "write_a"),
        act("s4", "write_a"),
    )
    assert [run.steps[name].reason for name in ("s2", "s3", "s4")] == [
        "dependency-failed",
        "blocked",
        "blocked",
    ]


def test_a_skip_does_not_spread_through_after(tmp_path: Path):
    """`after`: a skip does not spread through it."""
    run, _ = ended(tmp_path, act("s1", "compute", when="${False}"), act("s2", "compute", after=["s1"]))
    assert statuses(run) == {"s1": "skipped", "s2": "succeeded"}
    assert run.status == "succeeded"


def test_an_unknown_outcome_blocks_later_writes(tmp_path: Path):
    """.. or is indeterminate, the write .. is `skipped` with reason `blocked`."""
    log: list[str] = []

    @tool(effect="write", resource="a")
    def lose() -> str:
        """Lose."""
        raise OutcomeUnknown("?")

    run = once(
        [*world(log), lose],
        plan(call("s1", "lose"), act("s2", "write_a"), act("s3", "write_b"), act("s4", "compute", n="${s2}")),
        tmp_path / "s.db",
    )
    assert run.status == "indeterminate"
    assert statuses(run)["s1"] == "indeterminate"
    assert (run.steps["s2"].status, run.steps["s2"].reason) == ("skipped", "blocked")
    assert run.steps["s3"].status == "succeeded"
    assert "s2+" not in log


def test_the_outcome_does_not_depend_on_timing(tmp_path: Path):
    """Same plan, inputs, toolset and step outcomes: same run digest, whatever the timing or concurrency."""
    digests = set()
    for concurrency in (1, 2, 64):
        log: list[str] = []
        run = once(
            world(log),
            plan(
                act("s1", "compute", n="fail"),
                act("s2", "write_a", n="${s1}"),
                act("s3", "read_a"),
                act("s4", "compute", n="${item}", for_each=["a", "b", "c"]),
                act("s5", "compute", n="fail"),
                output="${s3}",
            ),
            tmp_path / f"{concurrency}.db",
            max_concurrency=concurrency,
        )
        assert [error.step for error in run.errors] == ["s1", "s5"]
        digests.add(run.digest)
    assert len(digests) == 1


# --- whatever a tool raises


@pytest.mark.parametrize(
    "raised",
    [
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(3),
        StopIteration(),
        GeneratorExit(),
        MemoryError(),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("kind", ["sync", "async", "inline"])
def test_whatever_a_tool_raises_ends_its_call_only(raised: BaseException, kind: str, tmp_path: Path):
    """A run whose steps fail is returned, not raised."""

    def shout(x: int) -> int:
        raise raised

    async def shout_later(x: int) -> int:
        raise raised

    shouting = tool(
        shout_later if kind == "async" else shout,
        name="shout",
        effect="read",
        description="Shout.",
        isolation="inline" if kind == "inline" else "thread",
    )
    run = once(
        [shouting, echo],
        plan(call("s", "shout", args={"x": 1}), call("t", "echo", args={"x": 1}), output="${t}"),
        tmp_path / "s.db",
    )
    assert run.status == "failed"
    assert [error.step for error in run.errors] == ["s"]
    assert run.steps["t"].status == "succeeded"


def test_calls_of_sync_tools_overlap(tmp_path: Path):
    """`pure` and `model` steps and reads between two writes run as soon as their inputs are there."""
    barrier = threading.Barrier(3, timeout=20)

    @tool(effect="read")
    def meet(x: int) -> int:
        """Wait for the others."""
        barrier.wait()
        return x

    steps = plan(call("s", "meet", args={"x": "${item}"}, for_each=[1, 2, 3]), output="${s}")
    assert once([meet], steps, tmp_path / "s.db").output == [1, 2, 3]


def test_a_write_in_flight_ends_before_the_engine_closes(tmp_path: Path):
    """A cancel in mid-call leaves the outcome unknown, so an engine that closes waits for its writes."""
    log: list[str] = []

    async def go() -> Run:
        started = asyncio.Event()

        async def put() -> int:
            log.append("start")
            started.set()
            for _ in range(20):
                await asyncio.sleep(0)
            log.append("end")
            return 5

        made = tool(put, name="put", effect="write", description="Write.")
        source = plan(call("s", "put"), call("t", "echo", args={"x": "${s}"}), output="${t}")
        async with Engine([made, echo], store=tmp_path / "s.db") as engine:
            await engine.submit(source, run_id="r")
            await started.wait()
        assert log == ["start", "end"]
        async with Engine([made, echo], store=tmp_path / "s.db") as engine:
            return await engine.resume("r")

    run = within(go())
    assert (run.status, run.output) == ("succeeded", 5)
    assert log == ["start", "end"]


@pytest.mark.parametrize(
    ("returns", "answer", "expected", "calls"),
    [
        (None, True, None, 1),
        (None, False, None, 2),
        (None, None, None, 2),
        (int, 7, 7, 1),
        (int, False, 5, 2),
        (int, None, 5, 2),
        (bool, False, False, 1),
    ],
)
def test_reconcile_may_say_whether(returns: Any, answer: Any, expected: Any, calls: int):
    """`reconcile(key, args)` says what came of the call: its result, or `None`; or, where that is no result, whether it took place."""
    made: list[int] = []
    asked: list[dict[str, Any]] = []

    def reconcile(key: str, args: dict[str, Any]) -> Any:
        asked.append(args)
        return answer

    def send(x: int) -> Any:
        made.append(x)
        if len(made) == 1:
            raise ConnectionError("lost")
        return {None: None, int: 5, bool: True}[returns]

    send.__annotations__["return"] = returns
    sending = tool(send, effect="write", reconcile=reconcile, description="Send.")
    run = once([sending], plan(call("s", "send", args={"x": 1}), output="${s}"), "memory:")
    assert (run.status, run.output, len(made), asked) == ("succeeded", expected, calls, [{"x": 1}])


def test_reconcile_that_knows_only_that_it_took_place_is_no_result():
    """`True` where something is to be returned: nobody calls again, a person says what it was."""
    made: list[int] = []

    def send(x: int) -> int:
        made.append(x)
        raise ConnectionError("lost")

    sending = tool(send, effect="write", reconcile=lambda key, args: True, description="Send.")
    run = once([sending], plan(call("s", "send", args={"x": 1})), "memory:")
    assert (run.status, made) == ("indeterminate", [1])
    error = run.steps["s"].error
    assert error is not None
    assert "reconcile" in error.message
