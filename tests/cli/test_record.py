"""`firmplan record`: a run becomes a regression test."""

from __future__ import annotations

from forked import Program


def pytest_of(folder, *words):
    others = ("cacheprovider", "hypothesispytest", "xdist", "timeout")  # what this project does not use
    with Program(["-m", "pytest", "-q", *(f"-pno:{name}" for name in others), *words], cwd=folder) as done:
        return done.communicate()[0]


def test_a_recorded_run_is_a_test(firmplan, home):
    """`record` writes a bundle, which pytest collects: it passes with the tools that made it, and fails with others."""
    run = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    answer = firmplan(
        "record", run["id"], "-o", "tests/golden/sum.bundle", "--plan", "plan.json", "-t", "tools.py"
    )
    assert answer.code == 0
    assert "pytest --firmplan tests/golden" in answer.out
    case = home / "tests" / "golden" / "sum.golden.yaml"
    assert case.read_text() == "plan: ../../plan.json\nrecording: sum.bundle\ntools:\n- ../../tools.py\n"
    assert "2 passed" in pytest_of(home, "--firmplan")
    (home / "tools.py").write_text((home / "tools.py").read_text().replace("a + b", "a - b"))
    done = pytest_of(home, "--firmplan")
    assert "1 failed, 1 passed" in done
    assert "~ total  output: 42 -> 38" in done


def test_a_recording_needs_a_name_that_pytest_finds(firmplan):
    """Any other name would be a test that nobody runs."""
    run = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    answer = firmplan("record", run["id"], "-o", "sum.json")
    assert answer.code == 2
    assert ".bundle" in answer.err


def test_an_unknown_run_is_a_wrong_command(firmplan, home):
    """Nothing is written for a run that is not there."""
    assert firmplan("record", "run_nowhere", "-o", "x.bundle").code == 2
    assert not (home / "x.bundle").exists()


def test_record_as_json(firmplan):
    """One document with the files."""
    run = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    answer = firmplan("record", run["id"], "-o", "x.bundle", "--json")
    assert answer.document == {"run": run["id"], "bundle": "x.bundle", "case": None}
