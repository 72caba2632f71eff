"""Tools in processes of their own: whatever happens there is the call's outcome, and never ours."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from firmplan.executor.calls.running import processes
from firmplan.tools import Toolset
from rig import Rig, one_run, plan_of, statuses

TOOLS = Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py")


def is_alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def told_of(pid):
    """What the system tells everyone about a process."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))


def wait_until(condition, within_s=10.0):
    """Return whether the condition came to hold."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def rig(**options):
    return Rig(TOOLS, **options)


def harm_plan(tool, how):
    return plan_of(
        {"id": "bad", "tool": tool, "args": {"how": how}},
        {"id": "good", "tool": "sum_slowly", "args": {"xs": [1, 2]}},
        output="${good}",
    )


HARMS = {
    "raise": ("tool-error", "ValueError: no"),
    "tool-error": ("busy", "not now"),
    "exit": ("tool-error", "SystemExit: 3"),
    "os-exit": ("process-died", "exit code 7"),
    "segfault": ("process-died", "signal SIGSEGV"),
    "abort": ("process-died", "signal SIGABRT"),
    "memory": ("tool-error", "MemoryError"),
    "recurse": ("tool-error", "RecursionError"),
    "kill-group": ("process-died", "signal SIGKILL"),
    "close-and-exit": ("process-died", "exit code 5"),
}


@pytest.fixture(scope="module")
def harmed():
    """By tool and harm, the runs that one engine drove through all of them, one after the other."""

    async def main():
        async with rig() as engine:
            return {
                tool: {how: await engine.run(harm_plan(tool, how)) for how in HARMS}
                for tool in ("harm", "harm_write")
            }

    return asyncio.run(main())


@pytest.mark.parametrize("how", HARMS)
def test_what_kills_a_child_is_a_failed_step(how, harmed):
    """The error says how the process ended; other steps are unharmed, and so is the engine."""
    run = harmed["harm"][how]
    (error,) = run.errors
    code, words = HARMS[how]
    assert (error.step, error.code) == ("bad", code)
    assert words in error.message
    assert run.steps["good"].output == 3


@pytest.mark.parametrize("how", HARMS)
def test_a_write_whose_child_died_is_of_unknown_outcome(how, harmed):
    """What was raised says that nothing happened; a dead process says nothing."""
    run = harmed["harm_write"][how]
    is_unknown = HARMS[how][0] == "process-died"
    assert run.status == ("indeterminate" if is_unknown else "failed")
    assert run.steps["bad"].status == ("indeterminate" if is_unknown else "failed")


@pytest.mark.parametrize("how", ["hang", "spin"])
def test_a_call_past_its_timeout_is_killed(how):
    """The work really ends: the process is gone, and the next call gets another."""

    async def main():
        async with rig() as engine:
            run = await engine.run(harm_plan("slow", how))
            (error,) = run.errors
            assert (error.code, error.temporary) == ("timeout", True)
            assert "0.3 s" in error.message
            pids = engine.facilities.processes.pids
            assert len(pids) <= 1, "that of the other step, unless both were called in one"
            run = await engine.run(harm_plan("slow_write", how))
            assert run.status == "indeterminate"

    asyncio.run(main())


def test_the_time_of_a_start_does_not_count(tmp_path):
    """A tool whose module takes long to import is not late for it."""
    tools = tmp_path / "late_tools.py"
    tools.write_text(
        "import os, time\nfrom firmplan import tool\n"
        "if 'FIRMPLAN_WORKER' in os.environ: time.sleep(0.8)\n"
        "@tool(effect='pure', isolation='process', timeout=0.5, version=1)\ndef late() -> int:\n    return 1\n"
    )
    assert one_run(plan_of({"id": "a", "tool": "late"}, output="${a}"), *Toolset.load(tools)).output == 1


def test_an_idempotent_write_goes_on_after_its_child_died(tmp_path):
    """Called again, with the same key."""
    path = tmp_path / "notes"
    run = one_run(
        plan_of({"id": "a", "tool": "note_and_die", "args": {"path": str(path)}}, output="${a}"), *TOOLS
    )
    assert run.output == 2
    (first, key), (second, same) = (line.split() for line in path.read_text().splitlines())
    assert (first, second, key) == ("1", "2", same)


def test_children_are_kept_and_each_call_begins_anew():
    """One process serves many calls; folder and environment are put back, its memory is its own."""
    steps = [{"id": f"s{n}", "tool": "where", "after": [f"s{n - 1}"] if n else []} for n in range(3)]

    async def main():
        async with rig() as engine:
            run = await engine.run(plan_of(*steps))
            found = [run.steps[f"s{n}"].output for n in range(3)]
            assert len({each["pid"] for each in found}) == 1
            assert found[0]["pid"] not in (None, os.getpid())
            assert [each["cwd"] for each in found] == [str(Path.cwd())] * 3
            assert [each["left"] for each in found] == [None] * 3
            assert [each["state"] for each in found] == [[], [1], [1, 1]]

    asyncio.run(main())


def test_a_changed_environment_is_seen(monkeypatch):
    """A kept child does not answer with what was set when it began."""

    async def main():
        async with rig() as engine:
            plan = plan_of({"id": "a", "tool": "look", "args": {"name": "SOME_NAME"}}, output="${a.env}")
            monkeypatch.setenv("SOME_NAME", "one")
            assert (await engine.run(plan)).output == "one"
            monkeypatch.setenv("SOME_NAME", "two")
            assert (await engine.run(plan)).output == "two"

    asyncio.run(main())


def test_what_a_tool_prints_is_no_answer(capfd):
    """Prints go to stderr, also those of processes that it starts, and reading finds nothing."""
    plan = plan_of({"id": "a", "tool": "chatter", "args": {"size": 100_000}}, output="${a}")
    assert one_run(plan, *TOOLS).output == ""
    said = capfd.readouterr()
    assert said.out == ""
    assert "hello" in said.err


@pytest.mark.parametrize("is_child_left", [True, False])
def test_a_tool_that_forks_answers_once(is_child_left):
    """The fork that goes on into our code ends there; one that stays ends with the engine."""

    async def main():
        async with rig() as engine:
            plan = plan_of(
                {"id": "a", "tool": "fork_and_return", "args": {"is_child_left": is_child_left}},
                {"id": "b", "tool": "sum_slowly", "args": {"xs": ["${a}"]}},
                output="${b}",
            )
            run = await engine.run(plan)
            assert run.status == "succeeded"
            return run.output

    forked = asyncio.run(main())
    assert wait_until(lambda: not is_alive(forked))


def test_what_a_tool_started_ends_with_its_child():
    """Processes of a tool do not outlive the engine."""

    async def main():
        async with rig() as engine:
            run = await engine.run(plan_of({"id": "a", "tool": "start_sleeper"}, output="${a}"))
            assert is_alive(run.output)
            return run.output, engine.facilities.processes.pids

    sleeper, pids = asyncio.run(main())
    assert pids
    assert wait_until(lambda: not any(map(is_alive, [sleeper, *pids])))


def test_the_context_is_the_same_in_a_child(monkeypatch):
    """Time and ids are recorded, the generator is seeded by run and step, and a replay needs none of it."""
    monkeypatch.setenv("SOME_NAME", "value")

    async def main():
        async with rig() as engine:
            plan = plan_of({"id": "a", "tool": "look", "args": {"name": "SOME_NAME"}}, output="${a}")
            one, two = await engine.run(plan, seed="s"), await engine.run(plan, seed="s")
            used = [
                event.data["used"]
                async for event in engine.execution.events(one.id)
                if event.type == "CallSucceeded"
            ]
            assert used == [
                {
                    "now": [pytest.approx(one.output["now"], abs=1e-5)],
                    "uuids": [one.output["uuid"]],
                    "random": True,
                    "env": {"SOME_NAME": "value"},
                }
            ]
            assert one.output["random"] == two.output["random"]
            assert one.output["uuid"] != two.output["uuid"]
            assert (one.output["env"], one.output["step"]) == ("value", "a")
            assert (await engine.execution.replays.replay(one.id, keep=False)).digest == one.digest

    asyncio.run(main())


def test_a_secret_reaches_the_child_and_nothing_else(tmp_path):
    """It goes over the pipe: neither the child's environment nor its command line, the store or the log has it."""
    secret = "s3cr3t-0f-the-ch1ld"

    async def main():
        async with rig(store=str(tmp_path / "s.db"), secrets={"TOKEN": secret}) as engine:
            plan = plan_of({"id": "a", "tool": "whisper"}, output="${a}")
            assert (await engine.run(plan)).output == len(secret)
            for pid in engine.facilities.processes.pids:
                assert secret.encode() not in told_of(pid)

    asyncio.run(main())
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_artifacts_pass_between_processes():
    """Bytes made in one child are read in another and in the engine."""
    plan = plan_of(
        {"id": "a", "tool": "make_bytes", "args": {"size": 300_000}},
        {"id": "b", "tool": "twice", "args": {"file": "${a}"}},
        {"id": "n", "tool": "size_of", "args": {"file": "${b}"}},
        output="${n}",
    )
    assert one_run(plan, *TOOLS).output == 600_000


def test_large_values_pass():
    """Tens of megabytes, there and back."""
    plan = plan_of(
        {"id": "a", "tool": "large", "args": {"size": 30_000_000}},
        {"id": "n", "tool": "length", "args": {"text": "${a}"}},
        output="${n}",
    )
    assert one_run(plan, *TOOLS).output == 30_000_000


def test_a_cancel_ends_the_work():
    """The process of a cancelled call is gone; the step is cancelled."""

    async def main():
        async with rig() as engine:
            run_id = await engine.start(plan_of({"id": "a", "tool": "harm", "args": {"how": "hang"}}))
            pool = engine.facilities.processes
            async for event in engine.execution.events(run_id):
                if event.type == "CallStarted":
                    break
            while not pool.pids:  # noqa: ASYNC110  # the pool tells nobody
                await asyncio.sleep(0.01)
            pids = pool.pids
            await engine.decisions.cancel(run_id)
            run = await engine.execution.wait(run_id)
            assert statuses(run) == {"a": "cancelled:cancelled"}
            assert not any(map(is_alive, pids))

    asyncio.run(main())


def test_a_killed_engine_leaves_no_child(tmp_path):
    """Also in mid-call, and also what the child started."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess, sys, time\nfrom firmplan import Engine, tool\n"
        "@tool(effect='read', isolation='process', version=1)\n"
        "def hang() -> int:\n"
        "    '''Hang.'''\n"
        "    sleeper = subprocess.Popen(['sleep', '1000'])\n"
        "    open('pids', 'w').write(f'{os.getpid()} {sleeper.pid} ')\n"
        "    time.sleep(1000)\n"
        "    return 1\n"
        "if __name__ == '__main__':\n"
        "    Engine([hang], store='memory:').run_sync({'firmplan': 1, 'steps': [{'id': 'a', 'tool': 'hang'}]})\n"
    )
    engine = subprocess.Popen([sys.executable, script], cwd=tmp_path)
    pids = tmp_path / "pids"
    assert wait_until(lambda: pids.exists() and pids.read_text().endswith(" "), 30)
    children = [int(pid) for pid in pids.read_text().split()]
    assert all(map(is_alive, children))
    engine.kill()
    engine.wait()
    assert wait_until(lambda: not any(map(is_alive, children)))


SCRIPT = """
from firmplan import Engine, tool

@tool(effect="pure", isolation="process", version=1)
def double(x: int) -> int:
    '''Double.'''
    return 2 * x

def main():
    with Engine([double], store="memory:") as engine:
        run = engine.run_sync({"firmplan": 1, "steps": [{"id": "a", "tool": "double", "args": {"x": 4}}], "output": "${a}"})
        print(run.output, [error.message for error in run.errors])

"""


@pytest.mark.parametrize("is_module", [False, True])
def test_tools_of_a_script_work(tmp_path, is_module):
    """A child loads the script again, as a file or as the module that `python -m` was told."""
    (tmp_path / "script.py").write_text(SCRIPT + 'if __name__ == "__main__":\n    main()\n')
    command = [sys.executable, *(["-m", "script"] if is_module else ["script.py"])]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "8 []\n"


def test_tools_of_a_file_that_was_loaded_again_work():
    """Those of the first load too: a child goes by file and name."""
    first = list(TOOLS)
    Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py")
    plan = plan_of({"id": "a", "tool": "large", "args": {"size": 2}}, output="${a}")
    assert one_run(plan, *first).output == "xx"


def test_a_tool_that_was_typed_in_is_refused():
    """No child finds it again; said when the engine is made."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + "main()"], capture_output=True, text=True, check=False
    )
    assert "top level of a file or module" in done.stderr


def test_a_script_file_without_a_guard_is_told(tmp_path):
    """It would run its plans again in each child: the step fails, and says what to write."""
    (tmp_path / "script.py").write_text(SCRIPT + "main()\n")
    said = subprocess.check_output([sys.executable, "script.py"], cwd=tmp_path, text=True)
    assert said.startswith("None")
    assert 'if __name__ == "__main__"' in said


def test_limits_of_memory_and_cpu(monkeypatch):
    """Set by the environment; past them the call fails and says so."""
    monkeypatch.setenv("FIRMPLAN_PROCESS_MEMORY_MB", "600")
    monkeypatch.setenv("FIRMPLAN_PROCESS_CPU_S", "1")
    plan = plan_of(
        {"id": "m", "tool": "large", "args": {"size": 900_000_000}},
        {"id": "c", "tool": "harm", "args": {"how": "spin"}},
        {"id": "ok", "tool": "large", "args": {"size": 3}},
    )
    run = one_run(plan, *TOOLS)
    by_step = {error.step: error for error in run.errors}
    assert by_step["m"].message == "MemoryError"
    assert by_step["c"].code == "process-died"
    assert "FIRMPLAN_PROCESS_CPU_S" in by_step["c"].message
    assert run.steps["ok"].output == "xxx"


def test_a_child_that_died_while_idle_is_replaced():
    """Nobody notices: the next call gets a new one."""

    async def main():
        async with rig() as engine:
            plan = plan_of({"id": "a", "tool": "large", "args": {"size": 1}}, output="${a}")
            assert (await engine.run(plan)).output == "x"
            (pid,) = engine.facilities.processes.pids
            os.kill(pid, 9)
            assert (await engine.run(plan)).output == "x"
            assert engine.facilities.processes.pids != [pid]

    asyncio.run(main())


def test_many_calls_at_a_time(monkeypatch):
    """Each has a process of its own; a few are kept."""
    monkeypatch.setattr(processes, "IDLE_MAX", 2)

    async def main():
        async with rig() as engine:
            plan = plan_of(
                {"id": "a", "tool": "length", "for_each": "${range(6)}", "args": {"text": "${str(item)}"}},
                output="${sum(a)}",
            )
            run = await engine.run(plan, concurrency_max=5)
            assert run.output == 6
            assert 1 <= len(engine.facilities.processes.pids) <= 2

    asyncio.run(main())


def test_progress_and_times_are_told_from_a_process():
    """As from a thread: seldom enough, the end for certain, and each time on record."""

    async def main():
        async with rig() as running:
            run = await running.run(
                plan_of({"id": "a", "tool": "tell_progress", "args": {"steps": 300}}, output="${a}"), "r"
            )
            assert run.output == 300
            events = [event async for event in running.execution.events("r")]
            told = [event.data for event in events if event.type == "CallProgressed"]
            assert told[0] == {"fraction": 0.0, "note": "at 0"}
            assert told[-1] == {"fraction": 1.0, "note": "done"}
            assert len(told) < 100
            assert len([event for event in events if event.type == "TimeTold"]) == 300

    asyncio.run(main())


def test_a_thread_that_a_call_left_does_not_disturb_the_next():
    """It goes on asking and telling: nothing of it is heard after its call, and the same child answers the next ones."""
    steps = [
        {"id": f"s{n}", "tool": "sum_slowly", "args": {"xs": [n, 2]}, "after": ["left"]} for n in range(5)
    ]

    async def main():
        async with rig() as running:
            run = await running.run(plan_of({"id": "left", "tool": "leave_a_thread"}, *steps), "r")
            assert run.status == "succeeded", run.errors
            events = [(event.type, event.step) async for event in running.execution.events("r")]
            ended = events.index(("CallSucceeded", "left"))
            assert not [each for each in events[ended:] if each[1] == "left"][1:]

    asyncio.run(main())
