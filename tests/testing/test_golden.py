"""`pytest --firmplan`: recorded runs and written expectations as regression tests that touch nothing."""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import firmplan
import httpcore2  # noqa: F401  # the first request would load it inside `pytester`, which forgets it, and the next one once more
import pytest
from firmplan import Artifact, Context, Engine, ToolError, Toolset, agent, tool
from firmplan.errors import InputRejected
from firmplan.executor.review.compare import compare
from firmplan.plans import Plan
from firmplan.testing import ScriptedModel, ScriptedTool
from firmplan.testing.assertions import is_same
from firmplan.testing.golden import Golden, golden_mismatch, read_golden
from firmplan.testing.recorded import read_recorded
from firmplan.testing.rehearsal import Rehearsal
from firmplan.tools import ModelReply, Models, Usage
from hypothesis import given
from hypothesis import strategies as st
from public import call, plan, within
from rig import Rig
from seeds import examples
from small_plans import RECORDER, RECORDING_TOOLS, Recorder, small_plans

pytest_plugins = ["pytester"]


def load_rooms():
    """Import what a run of pytest inside this one would import: it forgets such modules again, and they would be there twice."""
    for room in ("plans", "tools", "executor", "testing"):
        folder = str(Path(firmplan.__file__).parent / room)
        for found in pkgutil.walk_packages([folder], f"firmplan.{room}."):
            importlib.import_module(found.name)
    for name in ("firmplan.cli.config", "yaml", "structlog", "tenacity", "networkx", "jsonschema_rs"):
        importlib.import_module(name)


load_rooms()

TOOLS = '''
from firmplan import tool


@tool(effect="read")
def look(city: str) -> dict[str, float]:
    """Ask the world."""
    raise AssertionError("a golden test asks the world nothing")


@tool(effect="pure")
def warmer(a: dict[str, float], b: dict[str, float]) -> bool:
    """Compare."""
    return a["celsius"] > b["celsius"]


@tool(effect="write", resource="mail", approval="always")
def send(body: str) -> str:
    """Change the world."""
    raise AssertionError("a golden test changes nothing")
'''
WEATHER = plan(
    call("rome", "look", args={"city": "${inputs.a}"}),
    call("oslo", "look", args={"city": "Oslo"}),
    call("is_warmer", "warmer", args={"a": "${rome}", "b": "${oslo}"}),
    {"id": "note", "ask": {"prompt": "One sentence: is it warmer? ${is_warmer}"}},
    call("mail", "send", args={"body": "${note}"}),
    inputs={"a": {"type": "string"}},
    output="${note}",
)
CELSIUS = {"Rome": 21.5, "Oslo": 4.0}


@tool(effect="read")
def look(city: str) -> dict[str, float]:
    """Ask the world."""
    return {"celsius": CELSIUS[city]}


@tool(effect="pure")
def warmer(a: dict[str, float], b: dict[str, float]) -> bool:
    """Compare."""
    return a["celsius"] > b["celsius"]


@tool(effect="write", resource="mail", approval="always")
def send(body: str) -> str:
    """Change the world."""
    return "sent"


def record(path, what, tools, replies=(), *, decide=(), **options):
    """Run a plan, decide as told, write its bundle, and return the run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ScriptedModel(list(replies)) as model:
        spec = {"name": "m", "base_url": model.base_url}
        with Engine(tools, store="memory:", models={"default": spec}, secrets={"KEY": "hidden"}) as engine:
            run = engine.run_sync(what, **options)
            for step, yes in decide:
                if yes:
                    engine.approve_sync(run.id, step, by="ann")
                else:
                    engine.deny_sync(run.id, step, by="ann", reason="no")
                run = engine.resume_sync(run.id)
            engine.export_sync(run.id, path)
    return run


@pytest.fixture
def project(pytester):
    """A project with tools, a plan and one recorded run."""
    (pytester.path / "tools.py").write_text(TOOLS)
    (pytester.path / "plan.json").write_text(json.dumps(WEATHER))
    pytester.makeini("[pytest]\nfirmplan_tools = tools.py\n")
    record(
        pytester.path / "golden" / "weather.bundle",
        WEATHER,
        [look, warmer, send],
        ["Yes, by far."],
        decide=[("mail", True)],
        inputs={"a": "Rome"},
    )
    return pytester


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def said(result):
    return "\n".join(result.outlines)


def test_golden_tests_are_collected_only_when_asked_for(project):
    """Without the flag the files mean nothing to pytest."""
    assert project.runpytest("golden").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    project.runpytest("--firmplan").assert_outcomes(passed=2)


def test_a_recorded_run_calls_nothing_but_pure_tools(project):
    """Reads, writes and prompts are answered from the recording: these tools raise when they are called."""
    result = project.runpytest("--firmplan", "-v")
    result.stdout.fnmatch_lines(["*weather.bundle::replay PASSED*", "*weather.bundle::rehearsal PASSED*"])


def test_a_changed_pure_tool_shows_where_it_leads(project):
    """The first step that differs is named with the reason, and what would be called otherwise with it."""
    edit(project.path / "tools.py", '["celsius"] >', '["celsius"] <')
    result = project.runpytest("--firmplan")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "recorded -> now: * steps differ",
            "first divergence: step 'is_warmer': the tool 'warmer' was changed between the runs",
            "~ is_warmer  output: true -> false*",
            "step 'note': no such prompt was recorded; it differs from one that was (at 'note'): *",
            "calls are missing from the recording: record a new run with `firmplan record RUN -o *weather.bundle`",
        ]
    )


def test_a_comment_in_a_tool_changes_nothing(project):
    """What does not change the outcome does not fail the test."""
    edit(project.path / "tools.py", '"""Compare."""', '"""Compare two cities."""  # by degrees')
    project.runpytest("--firmplan").assert_outcomes(passed=2)


def test_a_plan_is_held_to_a_recording(project):
    """`record --plan` makes a case; an edited plan shows as its difference, and is accepted with the flag."""
    case = project.path / "golden" / "weather.golden.yaml"
    case.write_text("plan: ../plan.json\nrecording: weather.bundle\n")
    project.runpytest("--firmplan").assert_outcomes(passed=2)
    edit(project.path / "plan.json", '"output": "${note}"', '"output": "${note.upper()}"')
    result = project.runpytest("--firmplan")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "~ output  ${note} -> ${note.upper()}",
            'the run\'s output: "Yes, by far." -> "YES, BY FAR."',
            "accept it with `pytest --firmplan --firmplan-update`",
        ],
        consecutive=False,
    )
    result.stdout.no_fnmatch_line("*seconds*")  # a rehearsal takes no time and costs nothing
    result.stdout.no_fnmatch_line("*tokens*")
    project.runpytest("--firmplan-update").assert_outcomes(passed=2)
    project.runpytest("--firmplan").assert_outcomes(passed=2)
    assert read_recorded(str(project.path / "golden" / "weather.bundle")).run.output == "YES, BY FAR."


def test_another_prompt_needs_another_recording(project):
    """A recorded answer is no answer to another prompt: the test fails, and no flag makes it pass."""
    case = project.path / "golden" / "weather.golden.yaml"
    case.write_text("plan: ../plan.json\nrecording: weather.bundle\n")
    edit(project.path / "plan.json", "One sentence", "Two sentences")
    for flag in ("--firmplan", "--firmplan-update"):
        result = project.runpytest(flag)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(
            [
                "~ note.ask.prompt *One sentence*Two sentences*",
                "step 'note': no such prompt was recorded; it differs*One sentence*Two sentences*",
            ]
        )


def test_a_plan_that_no_longer_passes_the_check_says_all_faults(project):
    """The report of the check is the message."""
    case = project.path / "golden" / "weather.golden.yaml"
    case.write_text("plan: ../plan.json\nrecording: weather.bundle\n")
    edit(project.path / "plan.json", "${is_warmer}", "${is_warmed}")
    result = project.runpytest("--firmplan", "golden/weather.golden.yaml")
    result.assert_outcomes(failed=1)
    assert "unknown-ref" in said(result)
    assert "did you mean" in said(result)


def test_a_damaged_recording_is_told_by_its_line(project):
    """A flipped byte is found and located before anything is compared."""
    bundle = project.path / "golden" / "weather.bundle"
    bundle.write_bytes(bundle.read_bytes().replace(b"Yes, by far.", b"Yes, by fat.", 1))
    result = project.runpytest("--firmplan")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*weather.bundle: line * (journal record *) does not match its checksum*"])


def test_without_tools_a_recording_is_only_replayed(project):
    """The rehearsal is skipped, and says what would make it run."""
    project.makeini("[pytest]\n")
    result = project.runpytest("--firmplan", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*no tools are configured: name them in `firmplan_tools`*"])


def test_tools_may_stand_in_firmplan_toml(project):
    """The settings of the command line hold for golden tests too."""
    project.makeini("[pytest]\n")
    (project.path / "firmplan.toml").write_text('tools = "tools.py"\n')
    project.runpytest("--firmplan").assert_outcomes(passed=2)


CASE = """
# what a person wrote stays
plan:
  inputs: {city: {type: string}}
  steps:
    - {id: here, tool: look, args: {city: "${inputs.city}"}}
    - {id: note, ask: {prompt: "Say that it is ${here.celsius} degrees"}}
  output: "${note}"
tools: tools.py
inputs: {city: Rome}
answers:
  look:
    - {args: {city: Oslo}, fails: too cold}
    - {args: {city: Rome}, returns: {celsius: 21.5}}
  ask: It is warm.
"""


def test_a_case_with_written_answers(pytester):
    """A plan is tested against answers that stand in the case; what is expected is filled in by the flag, then held to."""
    (pytester.path / "tools.py").write_text(TOOLS)
    case = pytester.path / "warm.golden.yaml"
    case.write_text(CASE)
    result = pytester.runpytest("--firmplan")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["nothing is expected yet: *"])
    pytester.runpytest("--firmplan-update").assert_outcomes(passed=1)
    assert case.read_text() == CASE + "expect:\n  status: succeeded\n  output: It is warm.\n"
    pytester.runpytest("--firmplan").assert_outcomes(passed=1)
    edit(case, "city: Rome}\nanswers", "city: Oslo}\nanswers")
    result = pytester.runpytest("--firmplan")
    result.stdout.fnmatch_lines(
        ['status: "succeeded" -> "failed"', "step 'here' failed [[]failed[]]: too cold"]
    )


def test_expectations_by_step_and_by_tool(pytester):
    """Steps, errors and numbers of calls are expected by name, and updated without touching the rest of the file."""
    (pytester.path / "tools.py").write_text(TOOLS)
    case = pytester.path / "warm.golden.yaml"
    case.write_text(
        CASE + "expect:\n  steps:\n    here: {output: {celsius: 20.0}, status: succeeded}\n"
        "  calls: {look: 2, ask: 1}\n# the end\nlive: []\n"
    )
    result = pytester.runpytest("--firmplan")
    result.stdout.fnmatch_lines(["step 'here': output.celsius: 20.0 -> 21.5", "calls.look: 2 -> 1"])
    pytester.runpytest("--firmplan-update").assert_outcomes(passed=1)
    assert case.read_text().endswith("  calls:\n    look: 1\n    ask: 1\n# the end\nlive: []\n")
    pytester.runpytest("--firmplan").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plans: x.yaml", "found 'plans'; did you mean 'plan'"),
        ("- 1", "the file: expected object, found [1]"),
        ("inputs: {}", "expected a plan"),
        ("plan: {steps: 3}", "steps"),
        ("recording: nowhere.bundle", "cannot be read"),
        ("plan: nowhere.yaml", "nowhere.yaml"),
        ("a: [", "is no golden test"),
        ("", "the file: expected object, found null"),
        ("tools: [3]", "tools[0]: expected text, found 3"),
        ("inputs: {n: .nan}", "expected a finite number"),
        ("inputs: [1]", "inputs: expected object, found [1]"),
        ("answers: 3", "answers: expected object, found 3"),
        ("expect: {outputs: 1}", "found 'outputs'; did you mean 'output'"),
        ("expect: {steps: {a: {ouput: 1}}}", "expect.steps.a.ouput: expected no other fields than status"),
        ("expect: {steps: [a]}", "expect.steps: expected object, found"),
        ("expect: {steps: {a: 3}}", "expect.steps.a: expected object, found 3"),
    ],
)
def test_a_case_that_is_none_says_why(pytester, text, message):
    """Whatever is wrong with the file, the test fails with one message and no traceback of ours."""
    (pytester.path / "bad.golden.yaml").write_text(text)
    result = pytester.runpytest("--firmplan")
    result.assert_outcomes(failed=1)
    assert message in said(result)
    assert "testing/golden.py" not in said(result)


@pytest.mark.parametrize("word", ["1e3", "2020-01-01", "yes", "0x1F", "null", "12:30"])
def test_texts_that_look_like_values_are_expected_as_texts(pytester, word):
    """A case is read as a plan is, and what the flag writes is read back as it came out."""
    (pytester.path / "tools.py").write_text(TOOLS)
    case = pytester.path / "word.golden.yaml"
    case.write_text(f"plan:\n  steps:\n    - {{id: word, set: '{word}'}}\n  output: ${{word}}\n")
    pytester.runpytest("--firmplan-update").assert_outcomes(passed=1)
    pytester.runpytest("--firmplan").assert_outcomes(passed=1)
    assert read_golden(case).expect == {"status": "succeeded", "output": word}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  look:", "  lok:", "answers: there is no tool 'lok': did you mean 'look'"),
        (
            "city: Rome}, returns",
            "city: Bonn}, returns",
            "no answer is written for this call of 'look' at 'here'",
        ),
        ("returns: {celsius: 21.5}", "returns: warm", "step 'here' failed [bad-result]"),
    ],
)
def test_a_case_that_fails_of_its_answers_says_so(pytester, old, new, message):
    """A run that fails unexpectedly says of what, whatever of it was looked at."""
    (pytester.path / "tools.py").write_text(TOOLS)
    (pytester.path / "warm.golden.yaml").write_text(
        CASE.replace(old, new) + "expect: {output: It is warm.}\n"
    )
    result = pytester.runpytest("--firmplan")
    result.assert_outcomes(failed=1)
    assert message in said(result)


def test_a_case_whose_plan_names_no_tool_says_which_was_meant(pytester):
    """The tools of a case are known to the check, also those that its plan does not name."""
    (pytester.path / "tools.py").write_text(TOOLS)
    (pytester.path / "warm.golden.yaml").write_text(
        "tools: tools.py\nplan: {steps: [{id: a, tool: lok}]}\nexpect: {output: null}\n"
    )
    result = pytester.runpytest("--firmplan")
    assert "did you mean 'look'" in said(result)


def fault_of(path, *tools, update=False):
    return golden_mismatch(read_golden(path), Toolset(list(tools)), update=update)


def test_decisions_are_made_again(tmp_path):
    """Who approved approves again, edits included; who denied denies again."""
    for yes in (True, False):
        path = tmp_path / f"{yes}.bundle"
        run = record(
            path,
            WEATHER,
            [look, warmer, send],
            ["Yes."],
            decide=[("mail", yes)],
            inputs={"a": "Rome"},
        )
        assert run.steps["mail"].status == ("succeeded" if yes else "cancelled")
        assert fault_of(path, look, warmer, send) is None


def test_a_waiting_run_is_rehearsed_as_far_as_it_came(tmp_path):
    """A run that waits for a person waits in the rehearsal too."""
    record(tmp_path / "w.bundle", WEATHER, [look, warmer, send], ["Yes."], inputs={"a": "Rome"})
    assert fault_of(tmp_path / "w.bundle", look, warmer, send) is None


def test_failures_are_rehearsed(tmp_path):
    """A call that failed fails again, with its code, and what handled it handles it again."""
    flaky = ScriptedTool(
        "flaky",
        [ToolError("down", code="down", temporary=True), ToolError("gone", code="gone"), 3],
        effect="read",
        retries=1,
        returns={"type": "integer"},
    )
    what = plan(
        call("a", "flaky", on_error={"value": 7}),
        call("b", "flaky", after=["a"]),
        call("c", "flaky", after=["b"]),
        output="${a}",
    )
    run = record(tmp_path / "f.bundle", what, [flaky])
    assert (run.steps["a"].output, run.steps["b"].output) == (7, 3)
    assert run.status == "failed"
    assert fault_of(tmp_path / "f.bundle", flaky) is None


def test_equal_calls_get_their_answers_in_order(tmp_path):
    """Items with the same arguments, iterations and samples of a prompt each get the answer that they got."""
    count = ScriptedTool("count", [1, 2, 3, 4], effect="read", returns={"type": "integer"})
    what = plan(
        {"id": "many", "tool": "count", "for_each": "${[0, 0]}", "args": {}},
        {"id": "till", "tool": "count", "after": ["many"], "repeat": {"until": "${till > 3}", "max": 5}},
        {"id": "said", "for_each": "${[1, 1, 1]}", "ask": {"prompt": "Say anything"}},
        output="${[many, till, said]}",
    )
    run = record(tmp_path / "e.bundle", what, [count], ["a", "b", "c"])
    assert run.status == "succeeded", run.errors
    assert fault_of(tmp_path / "e.bundle", count) is None


class LastFirst(Models):
    """Answers a prompt with the path of who asks, and those of one step in reverse: the last one asked ends first."""

    def __init__(self, count: int) -> None:
        super().__init__({"default": {"name": "m", "base_url": "http://127.0.0.1:1/v1"}})
        self._ended = [asyncio.Event() for _ in range(count)]
        self._ended[-1].set()
        self._asked = 0

    async def ask(self, request, *, timeout_s=None):
        at, self._asked = self._asked, self._asked + 1
        await self._ended[at].wait()
        if at:
            self._ended[at - 1].set()
        return ModelReply(request.step, Usage(), "m", "")


@pytest.mark.parametrize("name", ["said", "told"])
def test_equal_prompts_get_their_answers_whichever_ended_first(tmp_path, name):
    """Of equal prompts in flight each gets the answer that it got, also where the step has another name by now."""
    said = {"id": "said", "for_each": "${[1, 1, 1]}", "ask": {"prompt": "Say anything"}}
    path = tmp_path / "said.bundle"

    async def recorded():
        async with Rig([], models=LastFirst(3)) as rig:
            run = await rig.run(Plan.model_validate(plan(said, output="${said}")), reuse="off")
            await rig.execution.replays.export(run.id, path)

    asyncio.run(recorded())
    golden = read_recorded(path)
    assert list(golden.ended) == ["said[2]", "said[1]", "said[0]"]
    renamed = Plan.model_validate(plan({**said, "id": name}, output=f"${{{name}}}"))
    now = asyncio.run(Rehearsal(renamed, {}, recorded=golden).run())
    assert now.run.output == golden.run.output == ["said[0]", "said[1]", "said[2]"]


def test_a_renamed_step_is_told_as_renamed(tmp_path):
    """With no step removed or added, and none that differs: the plan alone does."""
    steps = [call("a", "count"), {"id": "b", "set": "${a + 1}"}]
    count = ScriptedTool("count", [1], effect="read", returns={"type": "integer"})
    record(tmp_path / "n.bundle", plan(*steps, output="${b}"), [count])
    golden = read_recorded(tmp_path / "n.bundle")
    now = plan(call("number", "count"), {"id": "b", "set": "${number + 1}"}, output="${b}")
    found = golden_mismatch(
        Golden(tmp_path / "n.bundle", Rehearsal(Plan.model_validate(now), {}, recorded=golden)),
        Toolset([count]),
    )
    assert found.splitlines() == [
        "recorded -> now: 0 of 2 steps differ",
        "plan diff: 1 step changed, 1 step renamed",
        "= number  a -> number",
        "~ b.set   ${a + 1} -> ${number + 1}",
        "accept it with `pytest --firmplan --firmplan-update`",
    ]


def test_secrets_are_not_needed(tmp_path):
    """A call that was given a secret is answered without it: it stands as its name."""

    @tool(effect="read")
    def ask_bank(key: str, account: int) -> int:
        """Needs a key."""
        assert key == "hidden"
        return account * 2

    what = plan(call("b", "ask_bank", args={"key": '${secret("KEY")}', "account": 4}), output="${b}")
    assert record(tmp_path / "s.bundle", what, [ask_bank]).output == 8
    assert fault_of(tmp_path / "s.bundle", ask_bank) is None
    assert b"hidden" not in (tmp_path / "s.bundle").read_bytes()


def test_a_changed_prompt_of_an_agent_shows(tmp_path):
    """An `@agent` tool with another prompt is not the one whose answers were recorded."""

    def classifier(prompt):
        def classify(ticket: str) -> str:
            raise AssertionError

        classify.__doc__ = prompt
        return agent(classify)

    what = plan(call("c", "classify", args={"ticket": "It burns"}), output="${c}")
    old, new = classifier("Decide the queue of ${ticket}"), classifier("Decide how urgent ${ticket} is")
    record(tmp_path / "a.bundle", what, [old], ["fire"])
    assert fault_of(tmp_path / "a.bundle", old) is None
    fault = fault_of(tmp_path / "a.bundle", new)
    assert fault is not None
    assert "the model tool 'classify' is not the one that was recorded" in fault
    assert "how urgent" in fault
    assert fault_of(tmp_path / "a.bundle", new, update=True) is None
    assert fault_of(tmp_path / "a.bundle", new) is None


@tool(effect="read")
def fetch(name: str, *, ctx: Context) -> Artifact:
    """Fetch a letter."""
    return ctx.save(f"dear {name}".encode(), name="letter.txt")


@tool(effect="pure")
def words_of(letter: Artifact, *, ctx: Context) -> list[str]:
    """Read a letter."""
    return ctx.open(letter).decode().split()


@tool(effect="pure")
def answer(letter: Artifact, *, ctx: Context) -> Artifact:
    """Write back."""
    return ctx.save(b"re: " + ctx.open(letter), name="answer.txt")


LETTERS = plan(
    call("letter", "fetch", args={"name": "${inputs.name}"}),
    call("words", "words_of", args={"letter": "${letter}"}),
    call("back", "answer", args={"letter": "${letter}"}),
    inputs={"name": {"type": "string"}},
    output="${[words, back]}",
)


def test_the_bytes_of_artifacts_are_recorded(tmp_path):
    """Tools read in a rehearsal what they read in the run, and a test gets at the bytes; what is written otherwise differs."""
    path = tmp_path / "letters.bundle"
    record(path, LETTERS, [fetch, words_of, answer], inputs={"name": "Ann"})
    assert fault_of(path, fetch, words_of, answer) is None
    recorded = read_recorded(path)
    assert recorded.read_artifact(recorded.run.steps["letter"].output) == b"dear Ann"
    assert recorded.read_artifact(Artifact(**recorded.run.output[1])) == b"re: dear Ann"
    with pytest.raises(InputRejected, match="expected an artifact of the recorded run"):
        recorded.read_artifact({"digest": "sha256:" + "0" * 64})

    @tool(effect="pure", name="answer")
    def curt(letter: Artifact, *, ctx: Context) -> Artifact:
        """Write back, in short."""
        return ctx.save(b"ok", name="answer.txt")

    fault = fault_of(path, fetch, words_of, curt)
    assert fault is not None
    assert "~ back  output.digest: " in fault
    assert fault_of(path, fetch, words_of, curt, update=True) is None
    updated = read_recorded(path)
    assert updated.read_artifact(updated.run.output[1]) == b"ok"
    assert fault_of(path, fetch, words_of, curt) is None


def test_a_case_names_files_as_artifacts(tmp_path):
    """Written answers and inputs may be artifacts: their bytes stand in files beside the case."""
    (tmp_path / "letter.txt").write_bytes(b"dear Bob")
    artifact = Artifact.of_bytes(b"dear Bob").model_dump()
    case = {"plan": LETTERS, "inputs": {"name": "Bob"}, "answers": {"fetch": artifact}}
    expect = {"steps": {"words": {"output": ["dear", "Bob"]}}}
    path = tmp_path / "letters.golden.json"
    path.write_text(json.dumps({**case, "artifacts": ["letter.txt"], "expect": expect}))
    assert fault_of(path, fetch, words_of, answer) is None
    path.write_text(json.dumps({**case, "expect": expect}))
    assert "step 'words' failed [no-artifact]" in str(fault_of(path, fetch, words_of, answer))
    path.write_text(json.dumps({**case, "artifacts": ["nowhere.txt"], "expect": expect}))
    with pytest.raises(InputRejected, match=r"nowhere\.txt cannot be read"):
        read_golden(path)


@pytest.mark.parametrize(
    "changes",
    [{"set": {"n": 9}}, {"at": "n"}, {"set": {"each[1]": 50}}, {"set": {"n": 9}, "allow_writes": False}],
)
def test_a_fork_is_rehearsed_with_what_it_was_given(tmp_path, changes):
    """A value that the fork was given is given again, writes that waited for a person wait; no parent is needed."""
    double = ScriptedTool("double", lambda n: n * 2, effect="pure", returns={"type": "integer"})
    put = ScriptedTool("put", lambda n: n, effect="write", returns={"type": "integer"})
    what = plan(
        call("n", "double", args={"n": 2}),
        call("each", "double", args={"n": "${item + n}"}, for_each="${[1, 2]}"),
        call("m", "put", args={"n": "${n}"}),
        output="${[n, each]}",
    )
    path = tmp_path / "fork.bundle"
    with Engine([double, put], store="memory:") as engine:
        engine.run_sync(what, run_id="one")
        fork = engine.fork_sync("one", **{"allow_writes": True, **changes})
        engine.export_sync(fork.id, path)
    assert fork.status == ("succeeded" if changes.get("allow_writes", True) else "waiting")
    calls = len(put.calls)
    assert fault_of(path, double, put) is None
    assert len(put.calls) == calls


def test_a_changed_argument_of_a_write_is_named(tmp_path):
    """What would be sent otherwise is told by argument, with both values; nothing is sent."""
    path = tmp_path / "w.bundle"
    what = plan(call("n", "double", args={"n": 2}), call("m", "put", args={"n": "${n}"}), output="${m}")

    def double(by):
        return ScriptedTool("double", lambda n: n * by, effect="pure", returns={"type": "integer"})

    put = ScriptedTool("put", lambda n: n, effect="write")
    record(path, what, [double(2), put])
    assert len(put.calls) == 1
    fault = fault_of(path, double(3), put)
    assert fault is not None
    assert (
        "step 'm': no such call of 'put' was recorded; it differs from one that was (at 'm'): n: 4 -> 6"
        in fault
    )
    assert len(put.calls) == 1


@examples(40)
@given(steps=small_plans(), n=st.integers(0, 9))
def test_any_run_rehearsed_is_the_same_run(tmp_path_factory, steps, n):
    """Record any plan's run, rehearse it with the same tools: the digests are equal, and no tool but pure ones is called."""
    path = tmp_path_factory.mktemp("golden") / "run.bundle"

    async def recorded():
        RECORDER.set(Recorder())
        async with Rig(RECORDING_TOOLS) as rig:
            run = await rig.run(Plan.model_validate(steps), inputs={"n": n}, reuse="off")
            await rig.execution.replays.export(run.id, path)

    asyncio.run(recorded())
    golden = read_recorded(path)
    log = Recorder()

    async def rehearsed():
        RECORDER.set(log)
        return await Rehearsal(golden.plan, golden.run.inputs, Toolset(RECORDING_TOOLS), golden).run()

    now = asyncio.run(rehearsed())
    assert now.run.digest == golden.run.digest
    assert {name for _, name, _, _ in log.log} <= {"double"}


def test_the_plugin_loads_nothing_that_is_not_used(tmp_path):
    """A project that has firmplan installed and tests something else pays nothing for the plugin."""
    (tmp_path / "test_x.py").write_text(
        "import sys\ndef test_x():\n"
        "    loaded = {name for name in sys.modules if name.startswith('firmplan')}\n"
        "    light = {'firmplan', 'firmplan.lazy_imports', 'firmplan.testing', 'firmplan.testing.plugin'}\n"
        "    assert loaded <= light, sorted(loaded)\n"
        "    assert not {'pydantic', 'orjson', 'yaml', 'openai'} & set(sys.modules)\n"
    )
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        str(tmp_path),
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_is_same_ignores_prose(tmp_path):
    """A plan's words for people are no difference."""
    one = read_recorded(_written(tmp_path / "a.bundle", "once"))
    other = read_recorded(_written(tmp_path / "b.bundle", "twice"))
    assert is_same(compare(one.recall, other.recall))


def _written(path: Path, task: str) -> Path:
    async def go():
        async with Engine([], store="memory:") as engine:
            run = await engine.run(plan({"id": "a", "set": 1}, output="${a}", task=task))
            return await engine.export(run.id, path)

    return within(go())
