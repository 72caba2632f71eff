"""A plan may come from standard input (`-`) and from a pipe (`<(command)`), wherever a plan's file is expected."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

YAML = b"""
firmplan: 1
inputs: {a: {type: integer}}
steps:
  - {id: total, tool: add, args: {a: "${inputs.a}", b: 2}}
output: ${total}
"""


@pytest.fixture
def piped(firmplan, monkeypatch):
    """Run one command line with bytes on standard input."""

    def run(given, *words):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        return firmplan(*words)

    return run


def test_every_command_that_takes_a_plan_reads_it(piped, home):
    """JSON and YAML; the problems name their lines."""
    text = (home / "plan.json").read_bytes()
    for given in (text, YAML):
        assert piped(given, "run", "-", "-t", "tools.py", "-i", "a=1", "--json").document["output"] == 3
    assert piped(YAML, "check", "-", "-t", "tools.py").code == 0
    assert "total" in piped(YAML, "show", "-", "-t", "tools.py").out
    assert piped(YAML, "plans", "save", "adding", "-", "-t", "tools.py").code == 0
    assert piped(b"", "run", "adding", "-t", "tools.py", "-i", "a=4", "--json").document["output"] == 6
    piped(text, "run", "-", "-t", "tools.py", "-i", "a=1", "--run-id", "one")
    words = ("fork", "one", "--plan", "-", "-t", "tools.py", "--json")
    assert piped(YAML.replace(b"b: 2", b"b: 40"), *words).document["output"] == 41
    faulty = piped(YAML.replace(b"tool: add", b"tool: ad"), "check", "-", "-t", "tools.py")
    assert faulty.code == 2
    assert "line 5" in faulty.out


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (b"", "found nothing"),
        (b" \n", "found nothing"),
        (b"\xff\xfe", "UTF-8, but byte 0 of standard input"),
        (b"firmplan: [", "bad-shape"),
    ],
)
def test_what_is_no_plan_is_refused(piped, given, found):
    answer = piped(given, "run", "-", "-t", "tools.py")
    assert answer.code == 2
    assert found in answer.err


def test_a_plan_comes_from_a_pipe(home):
    """Bash's process substitution names a pipe, which can be read once."""
    firmplan = f"{sys.executable} -m firmplan"
    for line in (
        f"{firmplan} run <(cat plan.json) -t tools.py -i a=1 --json | grep '\"output\": 3'",
        f"cat plan.json | {firmplan} run - -t tools.py -i a=1 --json | grep '\"output\": 3'",
        f"{firmplan} check <(cat plan.json) -t tools.py",
        f"{firmplan} show <(cat plan.json) --format json | grep total",
    ):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], check=False, cwd=home, capture_output=True, text=True
        )
        assert done.returncode == 0, done
