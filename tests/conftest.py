"""What all tests share: the modules of `tests/support`, and how Hypothesis looks for examples."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from firmplan.executor.review import verify
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "support"))

from in_memory import memory_folder  # only there since the line above
from postgres import MISSING, Cluster, find_binaries
from seeds import SAMPLE_MIN, SWEEP
from temporal import MISSING as NO_TEMPORAL
from temporal import TemporalServer, find_program

TESTS = Path(__file__).parent
LEFT_OUT = pytest.StashKey[str]()
MEMORY_OF_A_PROCESS = 2 * 1024**3  # with its servers and browser; typically 1.2 GB

# How long an example takes says more of what else the machine does than of firmplan, whose speed `benchmarks` measures.
settings.register_profile(
    "firmplan",
    deadline=None,
    derandomize=not os.environ.get(SWEEP),  # a change is judged by the same cases as the one before it
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    print_blob=True,
    max_examples=100 if os.environ.get(SWEEP) else SAMPLE_MIN,
)
settings.load_profile("firmplan")


def pytest_configure(config: pytest.Config) -> None:
    """Know the markers, and put the files of tests into memory."""
    if memory := memory_folder():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
    config.addinivalue_line(
        "markers", "sweep: tried with a sample of its seeds, with all of them by `make sweep`"
    )
    config.addinivalue_line("markers", "postgres: needs PostgreSQL's server, of which it starts one")
    config.addinivalue_line(
        "markers", "temporal: needs Temporal's development server, of which it starts one"
    )


SERVERS = {
    "postgres": ("stores in PostgreSQL", MISSING, find_binaries),
    "temporal": ("Temporal", NO_TEMPORAL, find_program),
}
"""Marker -> what its tests are of, what is missing for them, and what looks for it."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let Python's collector pass over the modules and tests, half a gigabyte that stays: looking through it takes it most of a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each of several processes begin with other rooms: a module of tests is compiled by the first that comes to it, and the others read its bytecode."""
    report = yield
    if collector.path == TESTS and (place := _place_of(collector.config)) is not None:
        sizes = [sum(1 for _ in child.path.rglob("test_*.py")) for child in report.result]
        passed = [sum(sizes[:number]) for number in range(len(sizes))]
        first = next((number for number, files in enumerate(passed) if files >= place * sum(sizes)), 0)
        report.result = [*report.result[first:], *report.result[:first]]
    return report


def _place_of(config: pytest.Config) -> float | None:
    """Return where in the list of files a process begins: 0 at the start, 0.5 in the middle; `None`: it is the only one."""
    told = getattr(config, "workerinput", None)  # pytest-xdist's
    return int(told["workerid"].removeprefix("gw")) / told["workercount"] if told else None


@pytest.hookimpl(tryfirst=True)  # before pytest sorts by fixtures, so that all processes have one order
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Bring the rooms into one order. Leave out what needs a server that is not installed here; in CI it has to be there, and these tests fail without."""
    items.sort(key=_room_of)
    if os.environ.get("CI"):
        return
    told: list[str] = []
    for marker, (what, missing, find) in SERVERS.items():
        without = [item for item in items if item.get_closest_marker(marker) is not None]
        if without and find() is None:
            items[:] = [item for item in items if item not in without]
            config.hook.pytest_deselected(items=without)
            told.append(f"left out {len(without)} tests of {what}: {missing}")
    if told:
        config.stash[LEFT_OUT] = "\n".join(told)
        if (to_controller := getattr(config, "workeroutput", None)) is not None:  # one process of several
            to_controller["left_out"] = config.stash[LEFT_OUT]


def _room_of(item: pytest.Item) -> str:
    parts = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
    return parts[0] if parts else ""


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_auto_num_workers() -> int:
    """Start two processes for each core (`-n auto`), where each has 2 GB: tests wait for servers, browsers and timers a third of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return max(1, min(2 * cores, memory // MEMORY_OF_A_PROCESS) if memory else cores)


@pytest.hookimpl(optionalhook=True)  # the same
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of tests has left out: each leaves out the same, and only this one tells."""
    if told := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and why, where nobody overlooks it."""
    if told := config.stash.get(LEFT_OUT, ""):
        terminalreporter.write_line(told, yellow=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for all tests that need one."""
    made = Cluster(is_brief=True)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """A Temporal server for all tests that need one."""
    made = TemporalServer()
    yield made
    made.remove()


@pytest.fixture
def postgres_url(cluster: Cluster) -> str:
    """A store in PostgreSQL that nobody has used, for one test."""
    return cluster.fresh_url()


@pytest.fixture(scope="session", autouse=True)
def two_passes() -> Iterator[None]:
    """Have `verify` start two processes, the least that it does: by itself it goes on starting more of them for five seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "MORE_S", 0.0)
        yield
