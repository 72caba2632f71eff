"""docs/PERFORMANCE.md says what was measured: its tables and its plot are those of the committed figures."""

import importlib.util
import json
import re
from pathlib import Path

import firmplan
import pytest

ROOT = Path(firmplan.__file__).parent
PAGE = ROOT / "docs" / "PERFORMANCE.md"


def load(name):
    """Import a script of the benchmarks that needs nothing but the standard library."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report():
    """The script that writes the tables."""
    return load("report")


def test_the_page_shows_the_committed_figures(report):
    """A table that was edited by hand, or figures without their table, would tell two stories."""
    page = PAGE.read_text(encoding="utf-8")
    assert report.rendered(page) == (page, report.PLOT.read_text(encoding="utf-8"))


def test_a_gate_that_is_not_reached_is_said_to_be(report):
    """The page may not call a row reached whose median is past its gate."""
    page = PAGE.read_text(encoding="utf-8")
    missed = [
        row["name"]
        for row in report.read(ROOT / "benchmarks" / "figures.json")["rows"]
        if row["gate"] is not None and row["figure"] > row["gate"]
    ]
    lines = [
        line for line in page.splitlines() if line.startswith("| ") and line.endswith("**not reached** |")
    ]
    for name in missed:
        assert any(name in line for line in lines), name


def test_the_recipes_that_the_page_names_are_there():
    """Every `make ..` of the page is a recipe, and every group that it names exists."""
    recipes = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    page = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z-]+)", page)) <= set(recipes)
    groups = (ROOT / "benchmarks" / "bench_steps.py").read_text(encoding="utf-8")
    for words in re.findall(r"bench_steps\.py ([a-z ]+)`", page):
        for word in words.split():
            assert f'"{word}": ' in groups, word


def test_every_peer_has_a_lock_with_hashes():
    """`make peers` installs with --require-hashes: what a peer needs is pinned."""
    peers = ROOT / "benchmarks" / "peers"
    programs = {path.stem.removeprefix("run_") for path in peers.glob("run_*.py")}
    locks = {path.stem for path in peers.glob("*.lock")}
    assert programs == locks
    for lock in locks:
        pins = re.findall(r"^[a-z0-9].*==.*$", (peers / f"{lock}.lock").read_text(), re.MULTILINE)
        assert pins
        assert all(pin.endswith("\\") for pin in pins)


def test_the_figures_of_calls_are_of_a_supported_python():
    """Under another minor version `make bench-guard` compares nothing: CI's has to be one of ours."""
    figures = json.loads((ROOT / "benchmarks" / "calls.json").read_text())
    assert re.fullmatch(r"3\.1[1-9]", figures["python"])
    assert all(counts["python"] > 0 and counts["builtin"] > 0 for counts in figures["calls"].values())
