"""The main job by the command line: check, show, run, replay, list, decide; exit codes and `--json`."""

from __future__ import annotations

import json
import re

from firmplan.cli.commands.host import EXTRAS


def test_a_run_prints_its_output_and_nothing_else_on_stdout(firmplan):
    """`run` answers with the plan's output; progress goes to stderr."""
    answer = firmplan("run", "plan.json", "--tools", "tools.py", "--input", "a=40")
    assert (answer.code, answer.out) == (0, "42\n")
    assert "done total" in answer.err


def test_json_is_one_document(firmplan):
    """`--json` prints one document on stdout, and nothing on stderr."""
    answer = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json")
    assert answer.document["output"] == 42
    assert answer.document["steps"]["total"]["status"] == "succeeded"
    assert answer.err == ""


def test_settings_come_from_the_environment_and_the_file(firmplan, home, monkeypatch):
    """Tools and store may stand in `firmplan.toml` or in the environment, which wins."""
    (home / "firmplan.toml").write_text('tools = "tools.py"\nstore = "file.db"\n')
    assert firmplan("run", "plan.json", "-i", "a=1").code == 0
    assert (home / "file.db").exists()
    monkeypatch.setenv("FIRMPLAN_STORE", "env.db")
    assert firmplan("run", "plan.json", "-i", "a=1").code == 0
    assert (home / "env.db").exists()


def test_inputs_are_read_by_their_declared_type(firmplan, plan_file):
    """`7` is text where text is declared, and a number where a number is."""
    path = plan_file(
        inputs={"a": {"type": "string"}}, steps=[{"id": "same", "set": "${inputs.a}"}], output="${same}"
    )
    answer = firmplan("run", path, "-i", "a=7", "--json")
    assert answer.document["output"] == "7"


def test_a_second_run_reuses_and_a_replay_calls_nothing(firmplan, home):
    """What was computed is reused; a replay needs no tools at all, and shows two equal digests."""
    first = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    second = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    assert second["steps"]["total"]["reused"]
    assert second["digest"] == first["digest"]
    (home / "tools.py").unlink()
    answer = firmplan("replay", first["id"])
    assert answer.code == 0
    assert answer.out.count(first["digest"]) == 2
    assert firmplan("replay", first["id"], "--json").document["digest"] == first["digest"]


def test_a_failed_run_is_exit_code_1(firmplan, plan_file):
    """The failed step is named with its message."""
    path = plan_file(inputs={}, steps=[{"id": "odd", "tool": "half", "args": {"n": 3}}], output=None)
    answer = firmplan("run", path, "-t", "tools.py")
    assert answer.code == 1
    assert "odd" in answer.err
    assert "3 is odd" in answer.err
    assert "Traceback" not in answer.err


LOST = '''
from firmplan import OutcomeUnknown, tool


@tool(effect="write", resource="box")
def lose() -> int:
    """Write, and nobody knows."""
    raise OutcomeUnknown("no answer")
'''


def test_a_waiting_run_is_exit_code_4_and_goes_on_after_approval(firmplan, plan_file):
    """What a person has to do is told; `approve` and `resume` finish the run."""
    path = plan_file(
        inputs={}, steps=[{"id": "mail", "tool": "send", "args": {"to": "me"}}], output="${mail}"
    )
    answer = firmplan("run", path, "-t", "tools.py", "--json")
    assert answer.code == 4
    run = answer.document["id"]
    told = firmplan("show", run)
    assert f"firmplan approve {run} mail" in told.out
    unfit = firmplan("approve", run, "mail", "--by", "me", "--edit", '{"to": 3}')
    assert (unfit.code, "step 'mail' do not fit: to: expected text, found 3" in unfit.err) == (2, True)
    assert firmplan("approve", run, "mail", "--by", "me", "--edit", '{"to": "you"}').code == 0
    done = firmplan("resume", run, "-t", "tools.py")
    assert (done.code, done.out) == (0, "sent to you\n")
    second = firmplan("approve", run, "mail", "--by", "me", "--json")
    assert (second.code, second.document["error"]["code"]) == (2, "decided")


def test_a_list_of_calls_is_shown_and_decided_as_one(firmplan, plan_file):
    """`run` and `show` list every item with the commands for all or some; `decide` takes words and JSON, whole or not at all."""
    path = plan_file(
        inputs={},
        steps=[{"id": "m", "tool": "send", "for_each": ["a", "b", "c"], "args": {"to": "${item}"}}],
        output="${m}",
    )
    firmplan("run", path, "-t", "tools.py", "--run-id", "r")
    shown = firmplan("show", "r").out
    assert "step 'm': 3 calls wait for approval" in shown
    for number, to in enumerate("abc"):
        assert f'  m[{number}]   called with {{"to": "{to}"}}' in shown
    assert "  firmplan decide r m=approve\n" in shown
    assert "  firmplan decide r 'm[0]=approve' 'm[1]=deny'\n" in shown
    for wrong in ("m[0]", "m[0]=perhaps", 'm[0]={"deny": 1}', "m[5]=approve"):
        refused = firmplan("decide", "r", wrong, "--by", "me")
        assert refused.code == 2
        assert "m[0]" in refused.err or "m[5]" in refused.err
    assert firmplan("decide", "r", "m[0]=approve", "m[0]=deny").code == 2
    said = ('m[1]={"approve": true, "edit": {"to": "you"}}', "m=approve")
    decided = firmplan("decide", "r", *said, "--by", "me")
    assert decided.code == 0
    assert "decided; unless a server drives run r, continue it with" in decided.out
    assert firmplan("decide", "r", "m=deny", "--by", "you").code == 2
    assert firmplan("resume", "r", "-t", "tools.py", "--json").document["output"] == [
        "sent to a",
        "sent to you",
        "sent to c",
    ]


def test_a_decision_may_name_the_attempt(firmplan, plan_file, tmp_path):
    """A line that is typed again when another attempt waits decides nothing; it says what stands."""
    (tmp_path / "lost.py").write_text(LOST)
    path = plan_file(inputs={}, steps=[{"id": "m", "tool": "lose", "args": {}}], output="${m}")
    firmplan("run", path, "-t", "lost.py", "--run-id", "r")
    line = ("resolve", "r", "m", "--retry", "--attempt", "1", "--by", "ann")
    assert firmplan(*line).code == 0
    assert "attempt 2: it is unknown" in firmplan("resume", "r", "-t", "lost.py").out
    assert firmplan(*line).code == 0  # the same decision of the same person
    late = firmplan("resolve", "r", "m", "--fail", "no", "--attempt", "1", "--by", "bob")
    assert late.code == 2
    assert "attempt 1, is decided already: resolved to be called again by ann at " in late.err
    assert firmplan("show", "r", "--format", "json").document["steps"]["m"]["attempt"] == 2
    assert firmplan("resolve", "r", "m", "--done", "7", "--attempt", "2").code == 0
    assert firmplan("resume", "r", "-t", "lost.py").out == "7\n"


def test_a_denied_run_fails(firmplan, plan_file):
    """A denial is a person's no: the run fails with the code `denied`."""
    path = plan_file(
        inputs={}, steps=[{"id": "mail", "tool": "send", "args": {"to": "me"}}], output="${mail}"
    )
    run = firmplan("run", path, "-t", "tools.py", "--json").document["id"]
    assert firmplan("deny", run, "mail", "--reason", "no").code == 0
    document = firmplan("resume", run, "-t", "tools.py", "--json").document
    assert [error["code"] for error in document["errors"]] == ["denied"]


def test_check_names_every_fault_and_is_exit_code_2(firmplan, plan_file):
    """`check` tells all faults at once, with places, lines and nearest names."""
    steps = [{"id": "x", "tool": "ad", "args": {}}, {"id": "y", "set": "${z + 1}"}]
    path = plan_file(steps=steps, output="${x}")
    answer = firmplan("check", path, "-t", "tools.py")
    assert answer.code == 2
    assert "did you mean 'add'" in answer.out
    assert "$.steps[1].set" in answer.out
    document = firmplan("check", path, "-t", "tools.py", "--json").document
    assert {problem["code"] for problem in document["problems"]} >= {"unknown-tool", "unknown-ref"}
    assert firmplan("check", "plan.json", "-t", "tools.py").code == 0


def test_show_draws_plans(firmplan):
    """A plan is shown as text, Mermaid, SVG, JSON and YAML."""
    assert "total" in firmplan("show", "plan.json").out
    assert firmplan("show", "plan.json", "--format", "mermaid").out.startswith(("flowchart", "graph"))
    assert firmplan("show", "plan.json", "--format", "svg").out.startswith("<svg")
    assert json.loads(firmplan("show", "plan.json", "--format", "json").out)["firmplan"] == 1


def test_saved_plans_answer_tasks_without_a_model(firmplan):
    """A saved plan whose task is a pattern answers matching words; its inputs are filled from them."""
    assert firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py").code == 0
    assert "adder" in firmplan("plans").out
    answer = firmplan("run", "add 20 and 22", "-t", "tools.py")
    assert (answer.code, answer.out) == (0, "42\n")
    assert firmplan("run", "adder", "-t", "tools.py", "-i", "a=1", "--json").document["output"] == 3
    assert firmplan("plan", "Add 1 and 2", "-t", "tools.py", "-o", "out.json").code == 0


def test_runs_are_listed(firmplan):
    """`runs` lists newest first, by status if wanted."""
    for number in (1, 2):
        firmplan("run", "plan.json", "-t", "tools.py", "-i", f"a={number}")
    document = firmplan("runs", "--json").document
    assert [run["status"] for run in document["runs"]] == ["succeeded", "succeeded"]
    assert firmplan("runs", "--status", "failed", "--json").document["runs"] == []


def test_tools_are_listed_and_linted(firmplan):
    """`tools` lists name and effect; `tools lint` names weak spots."""
    assert "pure" in firmplan("tools", "-t", "tools.py").out
    assert firmplan("tools", "lint", "-t", "tools.py").code == 0


def test_doctor_tells_what_is_missing(firmplan):
    """`doctor` says which settings are missing, and is content without a model."""
    answer = firmplan("doctor", "-t", "tools.py")
    assert answer.code == 0
    assert "add" in answer.out
    assert "FIRMPLAN_MODEL" in answer.err


RESOURCES = """
from collections.abc import AsyncIterator, Iterator
from firmplan import Context, resource, tool


class Shop: ...
class Mail: ...
class Till: ...


@resource
async def shop(ctx: Context) -> AsyncIterator[Shop]:
    ctx.secret("SHOP_KEY")
    yield Shop()


@resource
def mail(shop: Shop) -> Iterator[Mail]:
    raise ConnectionError("no such host: mail")
    yield


@resource
def till() -> Iterator[Till]:
    yield Till()
    raise OSError("it is jammed")


@tool(effect="read")
def look(shop: Shop, till: Till) -> int:
    return 1


@tool(effect="write")
def send(mail: Mail) -> int:
    return 1
"""


def test_doctor_opens_and_closes_the_resources_of_the_tools(firmplan, home):
    """Each with its kind and the time that it takes; one that does not open, or does not close, is a fault with its reason."""
    (home / "shop.py").write_text(RESOURCES)
    (home / "firmplan.toml").write_text('tools = ["shop.py"]\n[secrets.SHOP_KEY]\nfile = "key"\n')
    (home / "key").write_text("sesame")
    answer = firmplan("doctor", "--json")
    found = {
        each["what"]: each for each in answer.document["findings"] if each["what"].startswith("resource")
    }
    assert answer.code == 1
    assert list(found) == ["resource shop", "resource till", "resource mail"]
    assert found["resource shop"]["ok"] is True
    assert re.fullmatch(
        r"async generator, opened in \d+ ms, closed in \d+ ms", found["resource shop"]["found"]
    )
    assert (found["resource till"]["ok"], found["resource till"]["advice"]) == (
        False,
        "OSError: it is jammed",
    )
    assert re.fullmatch(r"generator, does not open \(\d+ ms\)", found["resource mail"]["found"])
    assert "could not be opened: ConnectionError: no such host: mail" in found["resource mail"]["advice"]
    (home / "key").unlink()
    answer = firmplan("doctor", "-t", "shop.py")
    assert "resource shop" in answer.out
    assert "asks for the secret 'SHOP_KEY', which is not set" in answer.err
    assert "resource" not in firmplan("doctor", "-t", "tools.py").out


def test_doctor_says_how_to_get_what_is_not_installed(firmplan, monkeypatch):
    """An extra that is missing is no fault, and the line says what brings it."""
    monkeypatch.setitem(EXTRAS, "server", "no-such-package")
    answer = firmplan("doctor", "-t", "tools.py")
    assert answer.code == 0
    assert "not installed; to add it: pip install 'firmplan[server]'" in answer.out


def test_a_skipped_step_says_why_in_words(firmplan, plan_file):
    """What the run shows while it moves is for people; the word of the contract stands in its document."""
    path = plan_file(
        steps=[
            {"id": "odd", "tool": "half", "args": {"n": 3}},
            {"id": "next", "set": "${odd}"},
            {"id": "never", "set": 1, "when": "${inputs.b > 5}"},
        ],
        output=None,
    )
    run = firmplan("run", path, "--tools", "tools.py", "-i", "a=1")
    assert "skip next  it refers to a step that went wrong" in run.err
    assert "skip never  its condition is false" in run.err


def test_what_tools_print_is_no_part_of_the_document(firmplan, home, plan_file):
    """`--json` prints one JSON document on stdout and nothing else there."""
    (home / "loud.py").write_text(
        'from firmplan import Context, tool\n\n\n@tool(effect="read")\ndef shout(*, ctx: Context) -> int:\n'
        '    """Shout."""\n    print("HEY")\n    ctx.log.warning("ho")\n    return 1\n'
    )
    path = plan_file(steps=[{"id": "s", "tool": "shout"}], inputs={}, output="${s}")
    done = firmplan("run", path, "--tools", "loud.py", "--json")
    assert (done.code, done.document["output"]) == (0, 1)
    assert "HEY" in done.err
    assert firmplan("run", path, "--tools", "loud.py").out.endswith("1\n")


def test_decisions_are_shown_with_who_made_them(firmplan, plan_file):
    """`show` says who allowed a call and what they changed, or who refused it and why."""
    steps = [{"id": "mail", "tool": "send", "args": {"to": "me"}}]
    path = plan_file(inputs={}, steps=steps, output="${mail}")
    run = firmplan("run", path, "-t", "tools.py", "--json").document["id"]
    firmplan("approve", run, "mail", "--by", "ann", "--edit", '{"to": "you"}')
    firmplan("resume", run, "-t", "tools.py")
    assert 'mail: approved by ann, called with {"to": "you"}' in firmplan("show", run).out
    denied = firmplan("run", path, "-t", "tools.py", "--json").document["id"]
    firmplan("deny", denied, "mail", "--by", "bob", "--reason", "too late")
    assert "mail: denied by bob: too late" in firmplan("show", denied).out
