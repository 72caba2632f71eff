"""The command line at a server: `--server` and FIRMPLAN_SERVER, in the place of a store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from firmplan import ConfigError
from firmplan.cli.app import app
from firmplan.cli.config import read_settings
from forked import Program
from served import MAIL, PLAN, TOOLS, Server
from typer.main import get_command

QUESTION = {
    "firmplan": 1,
    "steps": [{"id": "who", "ask_person": "Who?", "returns": {"type": "string"}}],
    "output": "${who}",
}
LIST = {
    "firmplan": 1,
    "steps": [{"id": "mail", "tool": "send", "for_each": ["a", "b"], "args": {"to": "${item}"}}],
    "output": "${mail}",
}
FAIL = {"firmplan": 1, "steps": [{"id": "no", "set": "${1 / (1 - 1 * len([2]))}"}], "output": "${no}"}
PICTURE = '''

@tool(effect="pure")
def picture(size: int, *, ctx: Context) -> Artifact:
    """Draw."""
    return ctx.save(b"PNG" * size, media_type="image/png", name="a.png")
'''
TOOLS_HERE = (
    TOOLS.replace("from firmplan import tool", "from firmplan import Artifact, Context, tool") + PICTURE
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("served"), "--rate", "10000", tools=TOOLS_HERE) as running:
        assert running.url, running.said
        yield running


@pytest.fixture
def remote(firmplan, server, home):
    """Run one command line at the server; nothing of it is kept here."""
    for name, plan in (("sum", PLAN), ("mail", MAIL), ("ask", QUESTION), ("list", LIST)):
        (home / f"{name}.json").write_text(json.dumps(plan))

    def run(*words):
        answer = firmplan(*words, "--server", server.url)
        assert not (home / "firmplan.db").exists()
        return answer

    return run


def run_id_in(answer):
    return re.search(r"^run (\S+)$", answer.err, re.MULTILINE)[1]


def test_a_plan_is_run_and_looked_at(remote, server, home):
    """Run, show, runs, explain, diff, verify, replay, export, fork: as on a store, with the answers of the server."""
    ran = remote("run", "sum.json", "-i", "a=1")
    assert (ran.code, ran.out) == (0, "3\n")
    assert "done total" in ran.err
    run = run_id_in(ran)
    assert "total" in remote("show", run).out
    assert remote("show", run, "--json").document["output"] == 3
    assert run in remote("runs").out
    assert run in {each["id"] for each in remote("runs", "--status", "succeeded", "--json").document["runs"]}
    assert "first call of 'add'" in remote("explain", run, "total").out
    assert [each["step"] for each in remote("explain", run, "--json").document["steps"]] == ["total"]
    forked = remote("fork", run, "-i", "a=5")
    assert (forked.code, forked.out) == (0, "7\n")
    other = run_id_in(forked)
    assert "differ" in remote("diff", run, other).out
    assert remote("diff", run, other, "--format", "html").out.startswith("<!doctype html>")
    assert "the same results" in remote("verify", run).out
    assert "the same run" in remote("replay", run).out
    exported = remote("export", run, "-o", "run.bundle")
    assert exported.code == 0
    assert "the same run" in remote("replay", "run.bundle").out
    watched = remote("watch", run)
    assert (watched.code, watched.out) == (0, "3\n")
    assert remote("runs", "delete", run).code == 2  # it has a child
    assert remote("runs", "delete", other).out == "1 run deleted\n"
    assert remote("show", other).code == 2


def test_decisions(remote, server):
    """Approve, deny, decide, answer, cancel, resume: the call is printed first, and the server goes on by itself."""
    waits = remote("run", "mail.json")
    run = run_id_in(waits)
    assert waits.code == 4
    assert f"firmplan approve {run} mail --server {server.url}" in waits.out
    assert f"firmplan watch {run} --server {server.url}" in waits.out
    approved = remote("approve", run, "mail")
    assert 'to: "me"' in approved.out
    assert "the server continues run" in approved.out
    assert remote("watch", run).out == "sent to me\n"
    assert "is decided already" in remote("approve", run, "mail", "--by", "zoe").err
    denied = run_id_in(remote("run", "mail.json"))
    remote("deny", denied, "mail", "--reason", "no")
    assert remote("watch", denied).code == 1
    asked = run_id_in(remote("run", "ask.json"))
    assert "Who?" in remote("answer", asked, "who", '"ann"').out
    assert remote("watch", asked).out == "ann\n"
    listed = run_id_in(remote("run", "list.json"))
    remote("decide", listed, "mail=approve")
    assert json.loads(remote("watch", listed).out) == ["sent to a", "sent to b"]
    cancelled = run_id_in(remote("run", "mail.json"))
    assert remote("cancel", cancelled, "--json").document["status"] == "cancelled"
    retried = remote("retry", cancelled)
    assert retried.code == 4
    assert remote("resolve", run_id_in(retried), "mail", "--retry").code == 2  # no outcome is unknown


def test_artifacts(remote, home):
    """Listed, and written to a file or a pipe; the same on a store."""
    plan = {"firmplan": 1, "steps": [{"id": "p", "tool": "picture", "args": {"size": 2}}], "output": "${p}"}
    (home / "picture.json").write_text(json.dumps(plan))
    run = run_id_in(remote("run", "picture.json"))
    (listed,) = remote("artifacts", "list", run, "--json").document["artifacts"]
    assert (listed["name"], listed["size"]) == ("a.png", 6)
    assert "image/png" in remote("artifacts", "list", run).out
    for words in ((), ("a.png",), (listed["digest"],)):
        assert "6 bytes written" in remote("artifacts", "get", run, *words, "-o", "got.png").out
        assert (home / "got.png").read_bytes() == b"PNGPNG"
    wrong = remote("artifacts", "get", run, "b.png", "-o", "x")
    assert (wrong.code, "a.png (sha256:" in wrong.err) == (2, True)
    assert remote("artifacts", "get", run, "--json").code == 2
    assert "cannot write none/x" in remote("artifacts", "get", run, "-o", "none/x").err


def test_artifacts_of_a_store(home):
    """Also to a pipe, byte by byte."""
    (home / "tools.py").write_text(TOOLS_HERE)
    plan = {"firmplan": 1, "steps": [{"id": "p", "tool": "picture", "args": {"size": 2}}], "output": "${p}"}
    (home / "picture.json").write_text(json.dumps(plan))
    firmplan = f"{sys.executable} -m firmplan"
    line = (
        f"{firmplan} run picture.json -t tools.py --run-id r >&2 && {firmplan} artifacts get r && "
        f"{firmplan} artifacts get r -o file.png >&2"
    )
    done = subprocess.run(["bash", "-c", line], check=False, cwd=home, capture_output=True)
    assert (done.stdout, done.returncode) == (b"PNGPNG", 0), done.stderr
    assert (home / "file.png").read_bytes() == b"PNGPNG"


def test_a_budget_is_raised(remote):
    """The command waits until the server has gone on."""
    held = remote("run", "sum.json", "-i", "a=77", "--budget", "steps=0")
    assert held.code == 4
    run = run_id_in(held)
    assert "--budget NAME=AMOUNT" in held.out
    resumed = remote("resume", run, "--budget", "steps=5")
    assert (resumed.code, resumed.out) == (0, "79\n")
    assert remote("resume", run).code == 0


def test_plans_and_tools(remote, home):
    saved = remote("plans", "save", "addition", "sum.json")
    assert saved.code == 0
    assert "addition" in remote("plans").out
    assert [each["inputs"] for each in remote("plans", "list", "--json").document["plans"]] == [["a", "b"]]
    assert "add(" in remote("plans", "show", "addition").out
    assert remote("run", "addition", "-i", "a=4").out == "6\n"
    assert remote("run", "Add 2 and 40").out == "42\n"
    assert len(remote("plans", "history", "addition", "--json").document["versions"]) == 1
    assert remote("plans", "delete", "addition").code == 0
    assert remote("plans", "restore", "addition", "1").code == 0
    assert remote("plans", "delete", "addition").code == 0
    assert "did you mean" in remote("run", "sun.json").err
    assert "none of them" in remote("run", "nothere").err
    assert remote("check", "sum.json").code == 0
    (home / "bad.json").write_text(json.dumps({**PLAN, "steps": [{"id": "x", "tool": "ad", "args": {}}]}))
    assert "did you mean 'add'" in remote("check", "bad.json").out
    refused = remote("run", "bad.json", "--json")
    assert (refused.code, refused.document["error"]["code"]) == (2, "plan-rejected")
    tools = remote("tools")
    assert "send" in tools.out
    assert "add" in {each["name"] for each in remote("tools", "--json").document["tools"]}


def test_the_setting(firmplan, server, home, monkeypatch):
    """A variable or the file names the server; a store that is named more directly wins."""
    monkeypatch.setenv("FIRMPLAN_SERVER", server.url)
    (home / "sum.json").write_text(json.dumps(PLAN))
    assert firmplan("run", "sum.json", "-i", "a=1").out == "3\n"
    found = firmplan("doctor", "--json").document["findings"]
    assert [each["ok"] for each in found if each["what"] == "server"] == [True]
    assert not (home / "firmplan.db").exists()
    assert firmplan("run", "sum.json", "-t", "tools.py", "-i", "a=1", "-s", "here.db").code == 0
    assert (home / "here.db").exists()
    both = firmplan("runs", "-s", "here.db", "--server", server.url)
    assert (both.code, "leave one out" in both.err) == (2, True)
    local = firmplan("bisect", "a", "b")
    assert local.code == 2
    assert (
        "`firmplan bisect` works on a store of this machine, and the environment names the server"
        in local.err
    )
    assert firmplan("bisect", "a", "b", "-s", "here.db").code == 2
    assert "works on a store" not in firmplan("bisect", "a", "b", "-s", "here.db").err
    assert firmplan("tools", "lint", "-t", "tools.py").code == 0


def test_the_stronger_source_says_where_runs_are(tmp_path):
    (tmp_path / "firmplan.toml").write_text('server = "http://file:1"\nstore = "file.db"\n')
    assert read_settings({}, {}, tmp_path).server == "http://file:1"
    assert read_settings({}, {"FIRMPLAN_STORE": "env.db"}, tmp_path).server is None
    assert read_settings({}, {"FIRMPLAN_SERVER": "http://env:1"}, tmp_path).server == "http://env:1"
    assert read_settings({"store": "flag.db"}, {"FIRMPLAN_SERVER": "http://env:1"}, tmp_path).server is None
    found = read_settings({"server": "http://flag:1"}, {"FIRMPLAN_STORE": "env.db"}, tmp_path)
    assert (found.server, found.origin("server")) == ("http://flag:1", "the command line")
    with pytest.raises(ConfigError, match="leave one out"):
        read_settings({"server": "http://flag:1", "store": "x"}, {}, tmp_path)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("run", "sum.json", "-i", "a=1", "-t", "tools.py"), "--tools is for an engine of this machine"),
        (("run", "sum.json", "-i", "a=1", "--model", "x"), "--model is for an engine"),
        (("run", "sum.json", "-i", "a=1", "--run-id", "x"), "--run-id works on a store of this machine"),
        (("run", "sum.json", "-i", "a=1", "--seed", "1"), "--seed works on a store"),
        (("run", "sum.json", "-i", "a=1", "--no-reuse"), "--no-reuse works on a store"),
        (("replay", "run_1", "--keep"), "--keep works on a store"),
    ],
)
def test_what_a_server_cannot_do_is_said(remote, words, found):
    answer = remote(*words)
    assert answer.code == 2
    assert found in answer.err


def commands(group, above=()):
    for name, command in group.commands.items():
        yield (*above, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))


LOCAL = [
    words
    for words, command in commands(get_command(app))
    if "server" not in {parameter.name for parameter in command.params}
    and getattr(command, "invoke_without_command", True)
]


def test_the_commands_about_runs_and_plans_work_at_a_server():
    """Whatever is about what a server has."""
    assert {" ".join(words) for words in LOCAL} & AT_A_SERVER == set()


AT_A_SERVER = {
    *("run", "watch", "resume", "retry", "fork", "replay", "export", "artifacts list", "artifacts get"),
    *("approve", "deny", "answer", "decide", "resolve", "cancel", "explain", "diff", "verify"),
    *("check", "show", "runs", "runs delete", "tools", "tools list"),
    *("plans", "plans list", "plans save", "plans show", "plans history", "plans restore", "plans delete"),
}


@pytest.mark.parametrize("words", [words for words in LOCAL if words != ("traffic",)], ids=" ".join)
def test_a_local_command_says_that_it_is(firmplan, words):
    answer = firmplan(*words, "--server", "http://127.0.0.1:9")
    assert answer.code == 2
    assert f"'firmplan {' '.join(words)}' works on this machine only: it takes no --server" in answer.err


def test_keys_and_names(firmplan, home, tmp_path_factory, monkeypatch):
    """The key comes from the environment."""
    (home / "sum.json").write_text(json.dumps(PLAN))
    with Server(tmp_path_factory.mktemp("keyed"), FIRMPLAN_API_KEYS="one") as server:
        refused = firmplan("run", "sum.json", "-i", "a=1", "--server", server.url)
        assert (refused.code, "[unauthorized]" in refused.err) == (1, True)
        monkeypatch.setenv("FIRMPLAN_API_KEY", "one")
        assert firmplan("run", "sum.json", "-i", "a=1", "--server", server.url).out == "3\n"


def test_nobody_there_is_said_once(firmplan, monkeypatch):
    monkeypatch.setattr("firmplan.cli.invocation.RETRY_FOR_S", 1.0)
    answer = firmplan("runs", "--server", "http://127.0.0.1:9")
    assert answer.code == 1
    assert answer.err.count("asking again for 1 s") == 1
    assert "error: no answer from http://127.0.0.1:9" in answer.err
    assert "[unreachable]" in answer.err
    wrong = firmplan("runs", "--server", "127.0.0.1:9")
    assert (wrong.code, "expected the address of a server" in wrong.err) == (2, True)


def test_an_interrupt_leaves_the_run_to_the_server(home, server):
    """Ctrl-C ends the command; the message says where the run goes on."""
    nap = {
        "firmplan": 1,
        "steps": [{"id": "nap", "tool": "nap", "args": {"seconds": 1.5}}],
        "output": "${nap}",
    }
    (home / "nap.json").write_text(json.dumps(nap))
    words = ["-m", "firmplan", "run", "nap.json", "--server", server.url]
    env = {name: os.environ[name] for name in ("PATH", "HOME")}
    with Program(words, cwd=home, env=env) as child:
        run = child.stderr.readline().split()[1]
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(30)
        assert child.returncode == 130
    assert f"goes on at {server.url}" in said
    assert f"firmplan watch {run}" in said
    assert server.wait(run)["output"] == 1.5


def test_a_server_that_comes_back_is_followed_on(home, tmp_path_factory):
    """The command says that it asks again, and prints the outcome."""
    folder = tmp_path_factory.mktemp("restarted")
    nap = {"firmplan": 1, "steps": [{"id": "nap", "tool": "nap", "args": {"seconds": 1}}], "output": "${nap}"}
    (home / "nap.json").write_text(json.dumps(nap))
    first = Server(folder)
    port = first.url.rpartition(":")[2]
    words = ["-m", "firmplan", "run", "nap.json", "--server", first.url]
    env = {name: os.environ[name] for name in ("PATH", "HOME")}
    with Program(words, cwd=home, env=env) as child:
        assert child.stderr.readline().startswith("run ")
        first.stop(signal.SIGKILL)
        time.sleep(0.3)
        with Server(folder, "--port", port):
            out, said = child.communicate(60)
    assert (out, child.returncode) == ("1.0\n", 0), said
    assert "asking again" in said
