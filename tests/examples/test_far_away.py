"""A recorded run needs nothing but its store: neither the network, nor the tools, nor the folder where it ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import firmplan
import pytest
from firmplan import Engine, Plan, Planner, Toolset
from firmplan.testing import ScriptedModel

FOLDER = Path(firmplan.__file__).parent / "examples" / "licence_audit"

REPLAY = """
import sys

def refuse(event, args):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        raise OSError("the network is blocked")

sys.addaudithook(refuse)
sys.modules["firmplan.demo"] = None
from firmplan import Engine

with Engine([], store=sys.argv[1]) as engine:
    print(engine.replay_sync(sys.argv[2]).digest)
"""


def run_audit(store, concurrency=64):
    """Run the licence audit and return the run."""
    plan, toolset = Plan.load(FOLDER / "plan.yaml"), Toolset.load("firmplan.demo.tools")
    with ScriptedModel(FOLDER / "recording.json") as model:
        planner = Planner("recorded", base_url=model.base_url, api_key="k")
        with Engine(toolset, store=store, planner=planner, max_concurrency=concurrency) as engine:
            return engine.run_sync(plan).raise_for_status()


def test_replay_without_network_and_tools(tmp_path, monkeypatch):
    """With the network blocked and the tools gone, a replay in another process has the recorded digest."""
    monkeypatch.chdir(tmp_path)
    run = run_audit("audit.db")
    (tmp_path / "licences.md").unlink()
    words = [sys.executable, "-c", REPLAY, "audit.db", run.id]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.stdout.strip() == run.digest, done.stderr
    assert not (tmp_path / "licences.md").exists()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_digest_does_not_depend_on_concurrency(concurrency, tmp_path, monkeypatch):
    """One call at a time, or as many as may be: the same digest."""
    monkeypatch.chdir(tmp_path)
    assert run_audit("memory:", concurrency).digest == run_audit("memory:", 64).digest
