"""Looking back by the command line: export, replay of a bundle, fork, diff, explain, verify, the tree of runs."""

from __future__ import annotations

import json

import pytest
from firmplan.testing import ScriptedModel

RUN = ("run", "plan.json", "-t", "tools.py", "--json", "-i")


@pytest.fixture
def ran(firmplan):
    """Run the plan with an input and return the run's id."""

    def run(a=40):
        return firmplan(*RUN, f"a={a}").document["id"]

    return run


def test_a_run_travels_in_a_file(firmplan, ran, home, monkeypatch):
    """Exported here, replayed in a folder without store and tools; the store is not even made."""
    run = ran()
    answer = firmplan("export", run, "-o", "run.bundle")
    assert (answer.code, "firmplan replay run.bundle" in answer.out) == (0, True)
    assert firmplan("export", run, "-o", "again.bundle", "--json").document["bundle"] == "again.bundle"
    away = home / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    told = firmplan("replay", "../run.bundle")
    assert (told.code, "nothing called: the same run" in told.out) == (0, True)
    assert firmplan("replay", "../run.bundle", "--json").document["output"] == 42
    assert list(away.iterdir()) == []
    kept = firmplan("replay", "../run.bundle", "--keep", "--json").document
    assert kept["parent"] == run
    assert (away / "firmplan.db").exists()


def test_a_tampered_bundle_is_told_with_its_line(firmplan, ran, home):
    """Exit code 2, and the place."""
    firmplan("export", ran(), "-o", "run.bundle")
    data = (home / "run.bundle").read_bytes()
    (home / "run.bundle").write_bytes(data.replace(b'"$json":42', b'"$json":43'))
    answer = firmplan("replay", "run.bundle")
    assert answer.code == 2
    assert "journal record" in answer.err
    assert "does not match its checksum" in answer.err


def test_replay_of_nothing_is_exit_code_2(firmplan):
    """Neither a file nor a run of that name."""
    assert firmplan("replay", "none").code == 2
    assert firmplan("replay", "./none.bundle").code == 2


def test_a_fork_runs_and_stands_under_its_parent(firmplan, ran):
    """A value is given, the run goes on to its end, and the tree shows whose child it is."""
    run = ran()
    fork = firmplan("fork", run, "--set", "total=7", "-t", "tools.py", "--json").document
    assert (fork["status"], fork["output"], fork["parent"]) == ("succeeded", 7, run)
    other = firmplan("fork", run, "--input", "a=1", "-t", "tools.py")
    assert (other.code, other.out) == (0, "3\n")
    tree = firmplan("runs", "--tree").out.splitlines()
    assert tree[1].startswith(run)
    assert tree[2].startswith(f"  {fork['id']}")
    document = firmplan("runs", "--tree", "--json").document
    assert [root["id"] for root in document["runs"]] == [run]
    assert fork["id"] in [child["id"] for child in document["runs"][0]["children"]]


def test_a_fork_with_an_edited_plan_and_at_a_step(firmplan, ran, plan_file):
    """A file is the edited plan; `--at` asks for a step."""
    run = ran()
    edited = plan_file(output="${total + 1}")
    assert firmplan("fork", run, "--plan", edited, "-t", "tools.py").out == "43\n"
    again = firmplan("fork", run, "--at", "total", "-t", "tools.py", "--json").document
    assert again["steps"]["total"]["reused"] is False


def test_a_fork_that_reaches_a_write_waits(firmplan, plan_file):
    """Exit code 4, with the commands that let it go on; `--allow-writes` asks only where the tool does."""
    path = plan_file(
        inputs={"to": {"type": "string"}},
        steps=[{"id": "mail", "tool": "send", "args": {"to": "${inputs.to}"}}],
        output="${mail}",
    )
    run = firmplan("run", path, "-t", "tools.py", "-i", "to=me", "--json").document["id"]
    firmplan("approve", run, "mail")
    assert firmplan("resume", run, "-t", "tools.py").code == 0
    fork = firmplan("fork", run, "-i", "to=you", "-t", "tools.py")
    assert fork.code == 4
    assert "firmplan approve" in fork.out
    assert firmplan("fork", run, "-t", "tools.py").code == 0


def test_a_question_of_the_planner_is_answered_on_the_command_line(firmplan, plan_file, monkeypatch):
    """The run waits, says how to answer, and is planned on."""
    asks = {"firmplan": 1, "steps": [], "question": {"text": "Which city?", "returns": {"type": "string"}}}
    plan = {"firmplan": 1, "steps": [{"id": "c", "set": "Rome"}], "output": "${c}"}
    with ScriptedModel([json.dumps(asks), json.dumps(plan)]) as model:
        monkeypatch.setenv("FIRMPLAN_BASE_URL", model.base_url)
        monkeypatch.setenv("FIRMPLAN_MODEL", "scripted")
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        waits = firmplan("run", "name the city", "-t", "tools.py")
        assert waits.code == 4
        assert "the planner asks before it plans: Which city?" in waits.out
        run = firmplan("runs", "--json").document["runs"][0]["id"]
        assert f"firmplan answer {run} - JSON" in waits.out
        assert firmplan("answer", run, "-", "3").code == 2
        assert firmplan("answer", run, "-", '"Rome"', "--by", "joe").code == 0
        assert firmplan("resume", run, "-t", "tools.py").out == "Rome\n"


def test_a_question_is_answered_on_the_command_line(firmplan, plan_file):
    """The run says how to answer, and the answer has to fit."""
    path = plan_file(
        inputs={},
        steps=[{"id": "n", "ask_person": "How many?", "returns": {"type": "integer"}}],
        output="${n}",
    )
    waits = firmplan("run", path, "-t", "tools.py")
    assert waits.code == 4
    assert "step 'n' waits for an answer" in waits.out
    assert "How many?" in waits.out
    run = firmplan("runs", "--json").document["runs"][0]["id"]
    assert f"firmplan answer {run} n JSON" in waits.out
    assert firmplan("answer", run, "n", '"many"').code == 2
    assert firmplan("answer", run, "n", "many").code == 2
    assert firmplan("answer", run, "n", "3", "--by", "joe").code == 0
    assert firmplan("resume", run, "-t", "tools.py").out == "3\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "total"), "expected STEP=JSON"),
        (("--set", "total=seven"), "expected JSON"),
        (("--set", "total=1", "--set", "total=2"), "given twice"),
        (("--set", "nope=1"), "no step 'nope'"),
        (("--at", "tota"), "did you mean 'total'"),
        (("--input", "c=1"), "no such input"),
    ],
)
def test_a_wrong_fork_is_exit_code_2(firmplan, ran, words, told):
    """Each mistake has its message, and no run is made."""
    run = ran()
    answer = firmplan("fork", run, *words, "-t", "tools.py")
    assert answer.code == 2
    assert told in answer.err
    assert len(firmplan("runs", "--json").document["runs"]) == 1


def test_two_runs_are_compared(firmplan, ran):
    """The first divergence, with its reason; as JSON the same."""
    one, other = ran(40), ran(41)
    answer = firmplan("diff", one, other)
    assert answer.code == 0
    assert "first divergence: step 'total': it depends on an input that differs" in answer.out
    document = firmplan("diff", one, other, "--json").document
    assert (document["first"], document["same"]) == ("total", False)
    assert firmplan("diff", one, one, "--json").document["same"]
    assert firmplan("diff", one, "nope").code == 2


def test_a_comparison_is_written_as_text_json_and_html(firmplan, ran, tmp_path):
    """To stdout, or to a file and then nothing to stdout; a place that cannot be written is told."""
    one, other = ran(40), ran(41)
    text = firmplan("diff", one, other).out
    page = firmplan("diff", one, other, "--format", "html").out
    assert page.startswith("<!doctype html>")
    assert (
        firmplan("diff", one, other, "--format", "json").document
        == firmplan("diff", one, other, "--json").document
    )
    for form, start in (("html", page), ("text", text), ("json", "{")):
        file = tmp_path / f"made.{form}"
        answer = firmplan("diff", one, other, "-f", form, "-o", str(file))
        assert (answer.code, answer.out) == (0, "")
        assert file.read_text().startswith(start)
    refused = firmplan("diff", one, other, "-o", str(tmp_path / "nowhere" / "x"))
    assert (refused.code, "cannot be written" in refused.err) == (2, True)


def test_a_step_is_explained(firmplan, ran):
    """One sentence a step; all of them without a step's name."""
    one, other = ran(40), ran(41)
    answer = firmplan("explain", other, "total")
    assert answer.out == f"step 'total' ran because args.a was 40, now 41 (compared with run {one})\n"
    assert firmplan("explain", other).out == answer.out
    assert firmplan("explain", other, "total", "--json").document["because"] == "changed"
    assert firmplan("explain", other, "--json").document["steps"][0]["step"] == "total"
    assert "did you mean 'total'" in firmplan("explain", other, "totl").err


def test_a_run_is_verified(firmplan, ran, home, plan_file):
    """Exit code 0 where everything is deterministic, 3 where a tool is not."""
    answer = firmplan("verify", ran(), "-t", "tools.py")
    assert (answer.code, answer.out) == (0, "'add': 1 call again, the same results\n")
    (home / "odd.py").write_text(
        "import os\nfrom firmplan import tool\n@tool(effect='pure', version='1')\n"
        "def pid(n: int) -> int:\n    '''Say which process.'''\n    return os.getpid()\n"
    )
    path = plan_file(inputs={}, steps=[{"id": "p", "tool": "pid", "args": {"n": 1}}], output="${p}")
    run = firmplan("run", path, "-t", "odd.py", "--json").document["id"]
    answer = firmplan("verify", run, "-t", "odd.py")
    assert answer.code == 3
    assert "'pid' is not deterministic: step 'p' came out differently" in answer.out
    assert json.loads(firmplan("verify", run, "-t", "odd.py", "--json").out)["ok"] is False


def test_a_failed_run_is_retried_with_the_mended_tool(firmplan, plan_file, home):
    """`resume` names the command; the new run takes what succeeded from the old one, and the same command again is the same run."""
    path = plan_file(
        task="Halve a sum",
        inputs={},
        steps=[
            {"id": "odd", "tool": "add", "args": {"a": 1, "b": 2}},
            {"id": "cut", "tool": "half", "args": {"n": "${odd}"}},
        ],
        output="${cut}",
    )
    failed = firmplan("run", path, "-t", "tools.py", "--json")
    run = failed.document["id"]
    told = firmplan("resume", run, "-t", "tools.py")
    assert (failed.code, told.code) == (1, 2)
    assert f"`firmplan retry {run}`" in told.err
    tools = home / "tools.py"
    tools.write_text(tools.read_text().replace("if n % 2:", "if n < 0:"))
    again = firmplan("retry", run, "--run-id", "again", "-t", "tools.py")
    assert (again.code, again.out) == (0, "1\n")
    document = firmplan("retry", run, "--run-id", "again", "-t", "tools.py", "--json").document
    assert (document["id"], document["parent"], document["steps"]["odd"]["reused"]) == ("again", run, True)
    assert "again" in firmplan("runs", "--tree").out
    wrong = firmplan("retry", "again", "-t", "tools.py")
    assert (wrong.code, "fork it to repeat a part of it" in wrong.err) == (2, True)


def test_what_waits_says_what_an_earlier_run_knows(firmplan, plan_file):
    """A person denied the call in the run that is retried: whoever is asked again reads that."""
    mail = {"id": "mail", "tool": "send", "args": {"to": "me"}}
    path = plan_file(task="Mail me", inputs={}, steps=[mail], output="${mail}")
    run = firmplan("run", path, "-t", "tools.py", "--json").document["id"]
    firmplan("deny", run, "mail", "--by", "ann")
    ended = firmplan("resume", run, "-t", "tools.py")
    assert (ended.code, f"firmplan retry {run} --tools tools.py" in ended.err) == (1, True)
    again = firmplan("retry", run, "-t", "tools.py")
    assert again.code == 4
    assert f"a person denied it in run {run}" in again.out


def test_a_fork_with_an_id_is_made_once(firmplan, ran):
    """`--run-id`: the same fork again is that run, and another one is refused."""
    run = ran()
    first = firmplan("fork", run, "--set", "total=7", "--run-id", "mine", "-t", "tools.py", "--json").document
    second = firmplan(
        "fork", run, "--set", "total=7", "--run-id", "mine", "-t", "tools.py", "--json"
    ).document
    assert (first["id"], second["id"], second["output"]) == ("mine", "mine", 7)
    other = firmplan("fork", run, "--set", "total=8", "--run-id", "mine", "-t", "tools.py")
    assert (other.code, "exists already" in other.err) == (2, True)
