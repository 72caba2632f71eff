"""What a stranger reads: runs by what they were about, mistakes by what to do about them."""

from __future__ import annotations

import json


def test_runs_of_a_pattern_are_told_with_their_inputs(firmplan):
    """A plan's task is a pattern; `runs`, `show` and a fork tell what each run was about."""
    run = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--json").document
    assert run["task"] == "Add 40 and 2"
    assert "Add 40 and 2" in firmplan("runs").out
    assert "task: Add 40 and 2" in firmplan("show", run["id"]).out
    fork = firmplan("fork", run["id"], "-i", "b=5", "-t", "tools.py", "--json").document
    assert (fork["task"], fork["output"]) == ("Add 40 and 5", 45)
    assert [each["task"] for each in firmplan("runs", "--json").document["runs"]] == [
        "Add 40 and 5",
        "Add 40 and 2",
    ]


def test_a_filled_task_is_short_and_leaves_other_braces(firmplan, plan_file):
    """Lists are comma separated, long values cut; braces that name no input are text; the plan keeps its pattern."""
    inputs = {"names": {"type": "array", "items": {"type": "string"}}, "text": {"type": "string"}}
    path = plan_file(task="Greet {names} by {text} {else}", inputs=inputs, steps=[], output="${inputs.text}")
    words = ("-i", 'names=["ada", "bob"]', "-i", f"text={'x' * 500}")
    run = firmplan("run", path, *words, "--json").document
    assert run["task"] == f"Greet ada, bob by {'x' * 78}.. {{else}}"
    assert run["plan"]["task"] == "Greet {names} by {text} {else}"


def test_the_same_run_id_is_the_same_work_whatever_its_task_says(firmplan, plan_file):
    """Prose is no part of a plan's digest: a reworded task goes on with the run of that name."""
    first = firmplan("run", "plan.json", "-t", "tools.py", "-i", "a=40", "--run-id", "r", "--json").document
    path = plan_file(task="Sum {a} with {b}")
    again = firmplan("run", path, "-t", "tools.py", "-i", "a=40", "--run-id", "r", "--json")
    assert (again.code, again.document["digest"]) == (0, first["digest"])
    assert (
        json.loads(firmplan("run", path, "-i", "a=41", "--run-id", "r", "-t", "tools.py", "--json").out)[
            "error"
        ]["code"]
        == "input-rejected"
    )


def test_a_task_without_a_model_stores_nothing(firmplan):
    """Nobody can plan it: exit code 2 with what to set, and no run in the store."""
    answer = firmplan("run", "do it all", "-t", "tools.py")
    assert answer.code == 2
    assert "no saved plan answers the task 'do it all'" in answer.err
    assert "FIRMPLAN_MODEL" in answer.err
    assert firmplan("run", "do it all", "--json").document["error"]["code"] == "planning-failed"
    firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py")
    without_tools = firmplan("run", "add 1 and 2")
    assert without_tools.code == 2
    assert "unknown-tool" in without_tools.err
    assert firmplan("runs", "--json").document["runs"] == []


def test_a_task_that_lacks_an_input_stores_nothing(firmplan):
    """The saved plan that answers it says which, with exit code 2; given, it is read by its declared type."""
    firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py")
    answer = firmplan("run", "add {a} and {b}", "-t", "tools.py")
    assert answer.code == 2
    assert "the input 'a' is missing" in answer.err
    assert firmplan("runs", "--json").document["runs"] == []
    assert firmplan("run", "add {a} and {b}", "-t", "tools.py", "-i", "a=5").out == "7\n"


def test_a_task_with_a_model_that_lacks_an_input_is_a_wrong_command(firmplan, monkeypatch):
    """Also where a model could be asked, which it is not."""
    monkeypatch.setenv("FIRMPLAN_MODEL", "some")
    monkeypatch.setenv("FIRMPLAN_BASE_URL", "http://127.0.0.1:9/v1")
    firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py")
    answer = firmplan("run", "add {a} and {b}", "-t", "tools.py")
    assert answer.code == 2
    assert "the input 'a' is missing" in answer.err


def test_inputs_of_a_task_are_read_by_the_saved_plans_types(firmplan, plan_file):
    """`7` is text where the plan that answers the task declares text."""
    path = plan_file(
        task="Repeat {word}", inputs={"word": {"type": "string"}}, steps=[], output="${inputs.word}"
    )
    firmplan("plans", "save", "repeat", path)
    assert firmplan("run", "repeat {word}", "-i", "word=7", "--json").document["output"] == "7"


def test_a_misspelt_name_is_no_task(firmplan, home):
    """A word without spaces that names nothing is told with the nearest file or saved plan; no model is asked, nothing stored."""
    firmplan("plans", "save", "adder", "plan.json", "-t", "tools.py")
    (home / "plans").mkdir()
    (home / "plans" / "weather.yaml").write_text("firmplan: 1\nsteps: []\n")
    nearest = {
        "addr": "adder",
        "plann": "plan.json",
        "plann.json": "plan.json",
        "plan.yaml": "plan.json",
        "plans/wether": "plans/weather.yaml",
        "plans/wether.yml": "plans/weather.yaml",
    }
    for word, meant in nearest.items():
        for command in ("run", "check"):
            answer = firmplan(command, word, "-t", "tools.py")
            assert answer.code == 2, word
            assert f"did you mean '{meant}'?" in answer.err, word
    for command in (("show", "addr"), ("plans", "show", "addr")):
        assert "did you mean 'adder'?" in firmplan(*command).err
    assert "did you mean 'plan.json'?" in firmplan("plans", "save", "x", "plam.json").err
    assert "a task in words, found 'zzz', which is none of them" in firmplan("run", "zzz").err
    assert firmplan("runs", "--json").document["runs"] == []


def test_words_of_other_scripts_are_a_task(firmplan):
    """A task need not have spaces: a name has letters of ASCII only."""
    assert "no saved plan answers the task '比较罗马'" in firmplan("run", "比较罗马").err


def test_a_single_word_that_a_saved_plan_answers_is_a_task(firmplan, plan_file):
    """The pattern goes before the suspicion."""
    firmplan("plans", "save", "x", plan_file(task="Audit", inputs={}, steps=[], output=3))
    assert firmplan("run", "audit").out == "3\n"


def test_steps_are_counted_in_one_way(firmplan, plan_file):
    """`run`, `replay` and `diff` count the steps of the plan's list, each once, however many items it has."""
    steps = [
        {"id": "sums", "tool": "add", "for_each": "${inputs.ns}", "args": {"a": "${item}", "b": 1}},
        {"id": "total", "set": "${sum(sums)}"},
    ]
    path = plan_file(inputs={"ns": {"type": "array", "items": {"type": "integer"}}}, steps=steps, task=None)
    told = firmplan("run", path, "-t", "tools.py", "-i", "ns=[1, 2, 3]", "--run-id", "a")
    assert "succeeded: run a, 2 steps" in told.err
    firmplan("run", path, "-t", "tools.py", "-i", "ns=[1, 2, 4]", "--run-id", "b")
    assert "\n2 steps recomputed, nothing called" in firmplan("replay", "a").out
    assert firmplan("diff", "a", "a").out.startswith("a and a are the same: 2 steps, ")
    assert firmplan("diff", "a", "b").out.startswith("a -> b: 2 of 2 steps differ\n")
    assert "2 of 2 steps differ" in firmplan("diff", "a", "b", "--format", "html").out


def test_a_diff_rounds_for_people_only(firmplan):
    """Seconds are told to three digits, and kept as they are in JSON."""
    for name, number in (("a", 1), ("b", 2)):
        firmplan("run", "plan.json", "-t", "tools.py", "-i", f"a={number}", "--run-id", name)
    last = firmplan("diff", "a", "b").out.strip().splitlines()[-1]
    (told,) = [part.removeprefix("seconds ") for part in last.split("; ") if part.startswith("seconds ")]
    exact = [usage["seconds"] for usage in firmplan("diff", "a", "b", "--json").document["usage"]]
    for text, seconds in zip(told.split(" -> "), exact, strict=True):
        assert len(text.partition("e")[0].replace(".", "").lstrip("0")) <= 5
        assert abs(float(text) - seconds) <= 0.005 * max(seconds, 1)


def test_a_step_that_was_resolved_shows_its_value(firmplan, home, plan_file):
    """Not the doubt that a person has put an end to."""
    (home / "lossy.py").write_text(
        "from firmplan import OutcomeUnknown, tool\n\n\n@tool\ndef lose() -> int:\n"
        '    """Lose the answer."""\n    raise OutcomeUnknown("the line went dead")\n'
    )
    path = plan_file(inputs={}, steps=[{"id": "p", "tool": "lose"}], output="${p}", task=None)
    assert "the line went dead" in firmplan("run", path, "-t", "lossy.py", "--run-id", "r").err
    firmplan("resolve", "r", "p", "--done", "41")
    firmplan("resume", "r", "-t", "lossy.py")
    (row,) = [line for line in firmplan("show", "r").out.splitlines() if line.startswith("p ")]
    assert row.endswith(" 41")


def test_a_long_task_is_cut_in_a_list_only(firmplan, plan_file):
    """A line of `runs` stays one that can be read; `show` and JSON have all."""
    words = "word " * 100
    firmplan("run", plan_file(task=words, inputs={}, steps=[], output=1), "--run-id", "r")
    row = firmplan("runs").out.splitlines()[1]
    assert row.endswith("word wor..")
    assert len(row) < 150
    assert firmplan("runs", "--json").document["runs"][0]["task"] == words
    assert f"task: {words}" in firmplan("show", "r").out
