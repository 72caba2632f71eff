"""What a shell completes: commands, options and choices of the parser, and runs, steps and plans of the store or server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from firmplan.cli import completion
from firmplan.cli.app import app
from served import MAIL, TOOLS, Server
from typer.main import get_command

SEND = {"firmplan": 1, "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}], "output": "${mail}"}


@pytest.fixture
def store(firmplan, home):
    """A store with two runs and a saved plan."""
    (home / "mail.json").write_text(json.dumps(SEND))
    (home / "wide.json").write_text(
        json.dumps({**SEND, "steps": [{"id": "one", "set": 1}, *SEND["steps"]], "output": "${one}"})
    )
    firmplan("run", "mail.json", "-t", "tools.py", "--run-id", "ab-1")
    firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--run-id", "ab-2")
    firmplan("run", "wide.json", "-t", "tools.py", "--run-id", "wide")
    firmplan("plans", "save", "adding", "plan.json", "-t", "tools.py")
    return home


@pytest.fixture
def complete(home, monkeypatch, capsys):
    """Ask as bash does: the words so far, of which the last is completed."""

    def ask(line):
        words = line.split(" ")
        monkeypatch.setenv("_FIRMPLAN_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit) as ended:
            get_command(app).main([], standalone_mode=False)
        monkeypatch.delenv("_FIRMPLAN_COMPLETE")
        said = capsys.readouterr()
        assert (ended.value.code, said.err) == (0, "")
        return said.out.split()

    return ask


def test_words_of_the_parser(complete):
    """Commands, options, choices; and none of typer's own options."""
    assert complete("firmplan ru") == ["run", "runs"]
    assert set(complete("firmplan plans ")) >= {"save", "list", "show", "history"}
    assert complete("firmplan show --fo") == ["--format"]
    assert complete("firmplan show --format m") == ["mermaid"]
    assert complete("firmplan --") == ["--debug", "--version", "--help"]
    assert "--server" in complete("firmplan run --")


def test_words_of_the_store(complete, store):
    """Runs that begin so, steps of the run on the line, saved plans."""
    assert complete("firmplan approve ab") == ["ab-2", "ab-1"]
    assert complete("firmplan approve ab-1 ") == ["mail"]
    assert complete("firmplan explain ab-2 t") == ["total"]
    assert complete("firmplan approve wide ") == ["mail"]  # that waits, and not `one`
    assert complete("firmplan diff ab-1 ab-") == ["ab-2", "ab-1"]
    assert complete("firmplan show a") == ["adding", "ab-2", "ab-1"]
    assert complete("firmplan plans show ") == ["adding"]
    assert complete("firmplan run ") == ["adding"]
    assert complete("firmplan show --store none.db a") == []
    assert not (store / "none.db").exists()


def test_words_of_a_server(complete, home, monkeypatch, tmp_path_factory):
    # A busy machine may take longer than a person at a TAB would wait: that the answer comes is what counts here.
    monkeypatch.setattr(completion, "PATIENCE_S", 60.0)
    with Server(tmp_path_factory.mktemp("served"), tools=TOOLS) as server:
        run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
        assert complete(f"firmplan watch --server {server.url} r") == [run]


@pytest.mark.parametrize(
    "line",
    [
        "firmplan approve --store missing/folder/x.db ",
        "firmplan approve --server http://127.0.0.1:9 ",
        "firmplan approve --server nonsense ",
        "firmplan approve nothere ",
        "firmplan approve --nonsense ",
    ],
)
def test_what_goes_wrong_is_not_told(complete, line):
    """The line that is typed stays as it is: no word, no message."""
    assert complete(line) == []


def test_a_broken_setting_is_not_told(complete, home):
    (home / "firmplan.toml").write_text("stoer = 1\n")
    assert complete("firmplan approve ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(firmplan, home, shell):
    """Each shell has one; it is printed and not installed; where the shell is there, it takes the script."""
    answer = firmplan("completion", shell)
    assert answer.code == 0
    assert f"_FIRMPLAN_COMPLETE=complete_{shell}" in answer.out
    assert firmplan("completion", shell, "--json").document["script"] == answer.out.strip()
    if shutil.which(shell):
        (home / "script").write_text(answer.out)
        done = subprocess.run([shell, "-n", "script"], check=False, cwd=home, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert firmplan("completion", "tcsh").code == 2
    assert "_FIRMPLAN_COMPLETE" not in os.environ


def test_bash_completes_with_the_script(store):
    """The function that the script defines, in a real bash."""
    program = store / "bin" / "firmplan"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m firmplan "$@"\n')
    program.chmod(0o755)
    line = (
        "source <(firmplan completion bash); COMP_WORDS=(firmplan approve ab); COMP_CWORD=2; "
        '_firmplan_completion firmplan; echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", line], check=False, cwd=store, env=env, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("ab-2 ab-1\n", 0), done.stderr
