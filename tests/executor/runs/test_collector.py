"""What is alive when runs begin to move is put aside until none moves: the collector is left as it was found."""

from __future__ import annotations

import gc
import weakref

import pytest
from firmplan import Engine, ToolError, tool
from firmplan.executor.journal import header
from firmplan.executor.machine import Machine
from firmplan.executor.runs import driver
from firmplan.executor.runs.driver import PYTHONS_YOUNG, YOUNG_MAX, heap_frozen
from firmplan.plans import collecting
from firmplan.plans.collecting import PYTHONS_OWN_MAX, Aside, Uncollected, collector_paused


@pytest.fixture(autouse=True)
def nothing_is_aside(monkeypatch):
    """Here a program puts nothing aside by itself, as the whole of the tests does (`conftest.py`)."""
    monkeypatch.setattr(Aside, "_is_of_program", False)
    gc.unfreeze()
    yield
    gc.freeze()


def test_only_the_last_run_to_end_lets_go():
    """Runs overlap."""
    with heap_frozen:
        with heap_frozen:
            assert gc.get_freeze_count() > PYTHONS_OWN_MAX
        assert gc.get_freeze_count() > PYTHONS_OWN_MAX
    assert gc.get_freeze_count() == 0


def test_a_fault_lets_go():
    """However a run ends."""
    with pytest.raises(ValueError, match="x"), heap_frozen:
        raise ValueError("x")
    assert gc.get_freeze_count() == 0


def test_what_the_process_put_aside_stays_aside():
    """A server that froze its objects before it forked keeps them frozen."""
    gc.freeze()
    before = gc.get_freeze_count()
    with heap_frozen:
        pass
    assert gc.get_freeze_count() >= before * 0.9  # some have died meanwhile


def test_what_the_process_put_aside_is_counted_once(monkeypatch):
    """Python counts the objects one by one, which would be most of a small run."""
    counts = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counts.append(1) or PYTHONS_OWN_MAX + 1)
    for _ in range(3):
        with collector_paused():
            pass
        with heap_frozen:
            pass
    assert len(counts) == 1


@pytest.fixture
def thresholds():
    """Those of Python, and in the end those that were set."""
    before = gc.get_threshold()
    gc.set_threshold(PYTHONS_YOUNG[0], 10, 10)
    yield gc.get_threshold()
    gc.set_threshold(*before)


def test_the_collector_looks_more_rarely_while_runs_are_driven(thresholds):
    """Until the last of them has stopped."""
    with heap_frozen:
        with heap_frozen:
            assert gc.get_threshold()[0] == YOUNG_MAX
        assert gc.get_threshold()[0] == YOUNG_MAX
    assert gc.get_threshold() == thresholds


@pytest.mark.usefixtures("thresholds")
def test_thresholds_of_the_program_stay():
    """Whether it set them before a run, or during one."""
    gc.set_threshold(5_000, 20, 30)
    with heap_frozen:
        assert gc.get_threshold() == (5_000, 20, 30)
    gc.set_threshold(0, 10, 10)
    with heap_frozen:
        assert gc.get_threshold()[0] == 0
    gc.set_threshold(PYTHONS_YOUNG[0], 10, 10)
    with heap_frozen:
        gc.set_threshold(1_234, 5, 6)
    assert gc.get_threshold() == (1_234, 5, 6)


class Cycle:
    """Garbage once nobody has it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("thresholds")
def test_garbage_of_many_short_runs_goes(monkeypatch):
    """Putting objects aside makes Python count anew, so that after runs that are short it would never look at all."""
    monkeypatch.setattr(collecting, "UNCOLLECTED_MIN", 5_000)
    fresh = Uncollected()
    monkeypatch.setattr(collecting, "uncollected", fresh)
    monkeypatch.setattr(driver, "uncollected", fresh)
    first = weakref.ref(Cycle())
    for number in range(100):
        made = [Cycle() for _ in range(300)]  # fewer than Python waits for
        del made
        with heap_frozen if number % 2 else collector_paused():
            pass
    assert first() is None


def test_a_run_sees_garbage_collected_and_leaves_the_collector_as_it_was(tmp_path):
    """New cycles go as always, while a run is driven."""

    @tool(effect="pure")
    def litter() -> bool:
        """Make garbage, have it collected, and tell whether it went."""
        cycle: list[object] = [(one := set[int]())]
        cycle.append(cycle)
        gone = weakref.ref(one)
        del cycle, one
        gc.collect()
        return gone() is None

    with Engine([litter], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(
            {"firmplan": 1, "steps": [{"id": "a", "tool": "litter"}], "output": "${a}"}, inputs={}
        )
    assert run.output is True
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("step", "is_aside"),
    [({}, False), ({"for_each": [1]}, True), ({"repeat": {"until": True, "max": 1}}, True)],
)
def test_a_run_of_a_few_calls_puts_nothing_aside(tmp_path, step, is_aside):
    """It has ended before a collection would be felt; a list, or a step that repeats, may be long."""
    counts = []

    @tool(effect="pure", isolation="inline")
    def count() -> int:
        """Count what is aside."""
        counts.append(gc.get_freeze_count())
        return 1

    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "count", **step}, {"id": "b", "set": "${a}"}]}
    with Engine([count], store=tmp_path / "s.db") as engine:
        assert engine.run_sync(plan, inputs={}).status == "succeeded"
    assert [number > PYTHONS_OWN_MAX for number in counts] == [is_aside]


@pytest.mark.parametrize(("steps", "is_on"), [(3, True), (100, False)])
def test_the_tree_of_a_large_plan_is_made_without_a_look(tmp_path, monkeypatch, steps, is_on):
    """Nothing is aside yet, so that each look would be at all objects of the program."""
    found = []

    def made(*args, **options):
        found.append(gc.isenabled())
        return Machine(*args, **options)

    monkeypatch.setattr(header, "Machine", made)
    plan = {"firmplan": 1, "steps": [{"id": f"s{number}", "set": number} for number in range(steps)]}
    with Engine([], store=tmp_path / "s.db") as engine:
        assert engine.run_sync(plan, inputs={}).status == "succeeded"
    assert found == [is_on]
    assert gc.isenabled()


def test_a_run_that_ended_leaves_no_garbage(tmp_path):
    """Its tree is full of circles, and goes without the collector: trees of small runs would never be found by it."""

    @tool(effect="pure")
    def double(n: int) -> int:
        """Double."""
        return 2 * n

    @tool(effect="read", resource="x")
    async def fail(n: int) -> int:
        """Fail."""
        raise ToolError(f"no {n}")

    inner = {
        "inputs": {"n": {"type": "integer"}},
        "steps": [{"id": "i", "tool": "double", "args": {"n": "${inputs.n}"}}],
    }
    plan = {
        "firmplan": 1,
        "inputs": {"n": {"type": "integer"}},
        "plans": {"inner": inner},
        "steps": [
            {"id": "each", "for_each": "${range(5)}", "tool": "double", "args": {"n": "${item + inputs.n}"}},
            {
                "id": "again",
                "repeat": {"until": "${first(prev, 1) >= 8}", "max": 5},
                "tool": "double",
                "args": {"n": "${first(prev, 1)}"},
            },
            {"id": "nested", "for_each": [1, 2], "plan": "inner", "args": {"n": "${item}"}},
        ],
        "output": "${each}",
    }
    plan["steps"].append({"id": "no", "tool": "fail", "args": {"n": 1}, "on_error": "skip", "retries": 1})
    with Engine([double, fail], store=tmp_path / "s.db") as engine:
        for n in range(3):
            assert engine.run_sync(plan, inputs={"n": n}).steps["nested[1]/i"].status == "succeeded"
        gc.collect()
        gc.disable()
        try:
            runs = 20
            for n in range(3, 3 + runs):
                engine.run_sync(plan, inputs={"n": n})
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 2 * runs, "a run leaves hundreds of objects, if its tree is not dissolved"
