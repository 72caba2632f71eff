"""Steps that kill the process that calls them: called three times, then their run is parked, and no other run dies with them at last."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import poison_child
import pytest
from firmplan import ConfigError, Engine
from forked import Program

CHILD = Path(poison_child.__file__)
LIVES_MAX = 40
IN_A_FILE = pytest.mark.parametrize(
    "store", ["sqlite"], indirect=True
)  # nothing in the test is about the store


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    """A store that several processes may use."""
    return str(tmp_path / "s.db") if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The tools of the children, in this process."""
    monkeypatch.setattr(poison_child, "FOLDER", tmp_path)
    return poison_child.TOOLS


class Supervisor:
    """Starts a process anew when it died, as an operator's does."""

    def __init__(self, folder, store):
        self.folder, self.store = folder, store
        self.processes = []

    def start(self, runs=None):
        what = runs if isinstance(runs, str) else json.dumps(runs or {})
        process = Program([CHILD, self.folder, self.store, what])
        self.processes.append(process)
        return process

    def live(self, runs=None, *, after_death=lambda _: None):
        """Start a process until one ends in order; return how many died, and what the last one said."""
        for died in range(LIVES_MAX):
            said, told = self.start(runs).communicate(timeout=120)
            if self.processes[-1].returncode == 0:
                return died, json.loads(said)
            assert self.processes[-1].returncode == 9, told
            after_death(died + 1)
        raise AssertionError(f"{LIVES_MAX} processes died")

    def close(self):
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def supervisor(tmp_path, store):
    """See `Supervisor`."""
    made = Supervisor(tmp_path, store)
    yield made
    made.close()


def calls(folder):
    """Return how often each call was made."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.rpartition(" ")[0] for line in lines)


@pytest.mark.parametrize(
    ("store", "kind"),
    [
        ("sqlite", "pure"),
        ("sqlite", "read"),
        ("sqlite", "write"),
        ("sqlite", "at_once"),
        pytest.param("postgres", "pure", marks=pytest.mark.postgres),
    ],
    indirect=["store"],
)
def test_a_run_that_kills_its_process_is_parked(tmp_path, store, tools, supervisor, kind):
    """Whatever the effect of its tool: three calls, three deaths; then it says which call was in flight, and waits for a person."""
    died, said = supervisor.live({"p": kind})
    assert (died, said) == (3, {"p": "parked"})
    assert calls(tmp_path)["poison"] == 3
    with Engine(tools, store=store, recover=True) as engine:
        run = engine.wait_sync("p")
        assert (run.status, run.abandoned) == ("parked", False)
        (error,) = run.errors
        assert (error.step, error.code) == ("bite", "parked")
        assert (
            f"3 times in a row without progress of the run; in flight: step 'bite' (tool 'kill_{kind}')"
            in error.message
        )
        (line,) = engine.list_runs_sync(status="parked").runs
        assert line.reason == error.message
        assert engine.run_sync(poison_child.PLANS[kind], run_id="p").status == "parked", (
            "asked for, not resumed"
        )
        assert engine.go_on_sync("p").status == "parked"
        parked = [event.data for event in engine.events_sync("p") if event.type == "RunParked"]
        assert parked == [{"deaths": 3, "calls": [{"step": "bite", "tool": f"kill_{kind}"}]}]
        assert calls(tmp_path)["poison"] == 3, "nobody has called it again"
        (tmp_path / "cured").touch()
        done = engine.resume_sync("p")
        assert (done.status, done.output, done.errors) == ("succeeded", 1, ())
        assert engine.replay_sync("p").digest == done.digest
    assert calls(tmp_path)["poison"] == 4


@IN_A_FILE
def test_a_resumed_run_has_three_deaths_again(tmp_path, supervisor):
    """An explicit resume begins to count anew; each of its processes is another one that dies."""
    supervisor.live({"p": "pure"})
    assert supervisor.start("resume:p").wait(120) == 9
    died, said = supervisor.live()
    assert (died, said) == (2, {"p": "parked"})
    assert calls(tmp_path)["poison"] == 6


def test_innocent_runs_survive_a_poison_run(tmp_path, supervisor):
    """Two deaths hit all runs of the engine; then each of them is driven alone, so that the third one is the poison run's own."""
    (tmp_path / "together").write_text(str(poison_child.INNOCENTS))
    runs = {"p": "pure", **{f"i{n}": f"graze{n}" for n in range(poison_child.INNOCENTS)}}

    def after_death(died):
        if died == 2:
            (tmp_path / "go").touch()

    died, said = supervisor.live(runs, after_death=after_death)
    assert died == 3
    assert said == {"p": "parked", **{f"i{n}": "succeeded" for n in range(poison_child.INNOCENTS)}}
    found = calls(tmp_path)
    assert found["poison"] == 3
    for n in range(poison_child.INNOCENTS):
        assert found[f"innocent i{n}"] == 3, "cut off twice, and made once more"
        assert found[f"done i{n}"] == 1
    assert in_flight_at_last_poison(tmp_path) == set()


def in_flight_at_last_poison(folder):
    """Return the innocents that the process of the last poison call had in flight."""
    lines = [line.split() for line in (folder / "calls").read_text().splitlines()]
    last = max(at for at, words in enumerate(lines) if words[0] == "poison")
    begun = {words[1] for words in lines[:last] if words[0] == "innocent" and words[-1] == lines[last][-1]}
    return begun - {words[1] for words in lines[:last] if words[0] == "done" and words[-1] == lines[last][-1]}


def test_runs_that_come_meanwhile_wait_and_are_not_hit(tmp_path, supervisor):
    """A run that is submitted while another one is driven alone is called once, by whoever comes after."""
    (tmp_path / "together").write_text("0")
    (tmp_path / "go").touch()
    supervisor.start({"p": "pure"}).communicate(timeout=60)
    supervisor.start().communicate(timeout=60)
    died, said = supervisor.live({"p": "pure", "i0": "graze0"})
    assert (died, said) == (1, {"p": "parked", "i0": "succeeded"})
    assert calls(tmp_path) == {"poison": 3, "innocent i0": 1, "done i0": 1}


def test_a_living_neighbour_parks_it(tmp_path, supervisor, store, tools):
    """Deaths of several processes count together: of two engines beside each other both die, and a third parks the run."""
    first, second, third = supervisor.start({"p": "pure"}), None, None
    second, third = supervisor.start(), supervisor.start()
    for process in (first, second, third):
        process.communicate(timeout=120)
    _, said = supervisor.live()
    assert said == {"p": "parked"}
    assert calls(tmp_path)["poison"] == 3
    assert sum(process.returncode == 9 for process in supervisor.processes) == 3


def test_deaths_with_progress_between_park_nothing(tmp_path, supervisor):
    """Each of five steps kills once: no step is taken for poison, since the one before it has returned."""
    died, said = supervisor.live({"t": "twice"})
    assert (died, said) == (5, {"t": "succeeded"})
    assert calls(tmp_path) == {f"once s{n}": 2 for n in range(5)}


@IN_A_FILE
def test_progress_beside_the_call_that_kills_does_not_hide_it(tmp_path, supervisor):
    """Other calls of the run return in each life: the call that is in flight at every death still parks the run, in a few lives."""
    died, said = supervisor.live({"b": "beside"})
    assert said == {"b": "parked"}
    assert died == calls(tmp_path)["poison"]
    assert 3 <= died <= 4, "the first death shows no call for sure"


@IN_A_FILE
def test_an_end_in_order_is_no_death(tmp_path, store, tools):
    """Engines that are closed, again and again, while a call is in flight: the run is never parked."""
    for n in range(5):
        with Engine(tools, store=store, recover=True) as engine:
            if not n:
                engine.submit_sync(poison_child.PLANS["graze0"], run_id="i0")
            until = time.monotonic() + 30
            while calls(tmp_path)["innocent i0"] <= n:
                assert time.monotonic() < until
                time.sleep(0.01)
    (tmp_path / "go").touch()
    with Engine(tools, store=store, recover=True) as engine:
        assert engine.wait_sync("i0").status == "succeeded"
        resumed = [event.data for event in engine.events_sync("i0") if event.type == "RunResumed"]
    assert all("died" not in each and "deaths" not in each for each in resumed)
    assert len(resumed) == 5


@IN_A_FILE
@pytest.mark.parametrize("steps", [1, 2])
def test_calls_that_a_death_cut_off_use_budget(tmp_path, supervisor, steps):
    """A budget of so many steps is used up by so many calls of one step that kills."""
    assert supervisor.start(f"budget:{steps}").wait(120) == 9
    died, said = supervisor.live()
    assert (died, said) == (steps - 1, {"p": "over_budget"})
    assert calls(tmp_path)["poison"] == steps


def test_a_task_whose_planning_kills_is_parked(tmp_path, store, tools, supervisor):
    """Its plan was being made three times; then it waits for a person as any other, and is planned again once it is resumed."""
    died, said = supervisor.live({"t": "task"})
    assert (died, said) == (3, {"t": "parked"})
    assert calls(tmp_path)["poison"] == 3
    with Engine(tools, store=store, recover=True) as engine:
        run = engine.wait_sync("t")
        (error,) = run.errors
        assert (run.status, error.step, error.code) == ("parked", "", "parked")
        assert "3 times in a row without progress of the run; its plan was being made" in error.message
        assert engine.list_runs_sync().runs[0].reason == error.message
    (tmp_path / "cured").touch()
    planner = poison_child.Deadly()
    with Engine(tools, store=store, planner=planner) as engine:
        assert engine.resume_sync("t").status == "failed"
    assert calls(tmp_path)["poison"] == 4


@IN_A_FILE
def test_a_parked_run_is_cancelled_like_any_other(tmp_path, store, tools, supervisor):
    """Nothing is called for it."""
    supervisor.live({"p": "read"})
    with Engine(tools, store=store) as engine:
        assert engine.cancel_sync("p").status == "cancelled"
        assert engine.replay_sync("p").status == "cancelled"
    assert calls(tmp_path)["poison"] == 3


@IN_A_FILE
def test_after_how_many_deaths_is_a_setting(tmp_path, store, tools, supervisor):
    """`Engine(park_after=1)`: the first one parks."""
    assert supervisor.start({"p": "pure"}).wait(120) == 9
    with Engine(tools, store=store, recover=True, park_after=1) as engine:
        assert engine.wait_sync("p").status == "parked"
    assert calls(tmp_path)["poison"] == 1
    for wrong in (0, -1, True, 1.5, "3", None):
        with pytest.raises(ConfigError, match="park_after: expected an integer of at least 1"):
            Engine(tools, store=store, park_after=wrong)
