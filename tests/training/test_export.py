"""Good runs become fine-tuning sets: the messages are those that models got, nothing leaves that must not, and the card says what is in it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import quote

import firmplan
import pytest
from firmplan import ConfigError, Engine, InputRejected, Planner, RunNotFound, Secret, tool
from firmplan.testing import ScriptedModel
from firmplan.tools import Model
from firmplan.training import Verdicts, export_training
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

TASK = "Say something about Rome"
ASK = {
    "firmplan": 1,
    "inputs": {"city": {"type": "string", "default": "Rome"}},
    "steps": [
        {"id": "n", "tool": "note", "args": {"city": "${inputs.city}"}},
        {
            "id": "say",
            "ask": {
                "prompt": "One sentence about ${inputs.city}: ${n}",
                "system": "You are brief.",
                "returns": {
                    "type": "object",
                    "properties": {"text": {"type": "string"}, "count": {"type": "integer"}},
                    "required": ["text", "count"],
                },
            },
        },
    ],
    "output": "${say.text}",
}
SAID = {"text": "Rome is old.", "count": 3}


@tool(effect="read")
def note(city: str) -> str:
    """A note about a city."""
    return f"{city} has hills."


@tool(effect="read", trust="untrusted")
def page(city: str) -> str:
    """A page of the web."""
    return f"{city} on the web"


@tool(effect="read", private=True, readers=("model",))
def diary(city: str) -> str:
    """A diary that models may read."""
    return f"dear diary, {city}"


def answer(request):
    """Write the plan, or answer the question of the step."""
    return ASK if "You turn a task" in request["messages"][0]["content"] else SAID


def exported(tmp_path, work, *, script=answer, tools=(note,), kind="steps", settings=None, **options):
    """Do some work on an engine with a scripted model, then export; return the lines, the export and the model's requests."""

    async def main():
        async with ScriptedModel(script) as model:
            planner = Planner("m", base_url=model.base_url)
            models = {"default": Model("m", model.base_url)}
            store = tmp_path / "s.db"
            async with Engine(
                tools, store=store, planner=planner, models=models, **(settings or {})
            ) as engine:
                found = await work(engine)
                if callable(options.get("judged")):
                    options["judged"] = options["judged"](found)
                made = await export_training(engine, tmp_path / "set.jsonl", kind=kind, **options)
            return made, model.requests

    made, requests = asyncio.run(main())
    lines = [json.loads(line) for line in made.path.read_text(encoding="utf-8").split("\n") if line]
    return lines, made, requests


def runs(*plans, **inputs):
    """Return work that runs plans, or tasks."""

    async def work(engine):
        return [await engine.run(plan, inputs=inputs or None) for plan in plans]

    return work


def plain(messages):
    """Return roles and texts, without what an endpoint's mode adds."""
    return [(each["role"], each["content"]) for each in messages]


def test_a_planner_learns_from_the_request_that_was_sent(tmp_path):
    """Word for word, and the accepted plan as the answer."""
    (line,), made, requests = exported(tmp_path, runs(TASK), kind="planner")
    *asked, said = line["messages"]
    assert plain(asked) == plain(requests[0]["messages"])
    assert said["role"] == "assistant"
    assert json.loads(said["content"])["steps"] == ASK["steps"]
    assert "task" not in json.loads(said["content"])
    assert (made.examples, made.left_out) == (1, {})


def test_steps_learn_from_the_question_that_was_sent(tmp_path):
    """Word for word, marks around data included; the answer has the order of its schema."""
    (line,), _, requests = exported(tmp_path, runs(ASK))
    *asked, said = line["messages"]
    assert plain(asked) == plain(requests[0]["messages"])
    assert said["content"] == '{"text":"Rome is old.","count":3}'


def test_an_answer_that_was_refused_is_not_learnt(tmp_path):
    """The question is the first one, and the answer is the accepted one."""
    answers = [{"text": "no count"}, SAID]
    (line,), _, requests = exported(tmp_path, runs(ASK), script=answers)
    assert len(requests) == 2
    assert plain(line["messages"][:-1]) == plain(requests[0]["messages"])
    assert json.loads(line["messages"][-1]["content"]) == SAID


def test_drafts_that_were_sent_back_are_not_learnt(tmp_path):
    """The request is the first one, and the plan is the accepted one."""
    bad = {**ASK, "steps": [{"id": "n", "tool": "nope"}], "output": "${n}"}
    (line,), _, requests = exported(tmp_path, runs(TASK), kind="planner", script=[bad, ASK, SAID])
    assert plain(line["messages"][:-1]) == plain(requests[0]["messages"])
    assert json.loads(line["messages"][-1]["content"])["steps"] == ASK["steps"]


# --- which runs are good


def test_only_runs_that_went_well_are_learnt_from(tmp_path):
    """Failures, plans that leave something out, kept replays, runs without a model."""

    async def work(engine):
        good = await engine.run(ASK)
        await engine.replay(good.id, keep=True)
        await engine.run({**ASK, "left_out": ["the mail"]}, inputs={"city": "Oslo"})
        await engine.run({"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": "${x}"})
        failing = {"id": "bad", "set": "${1 / inputs.zero}"}
        await engine.run(
            {"firmplan": 1, "inputs": {"zero": {"type": "integer"}}, "steps": [failing]}, inputs={"zero": 0}
        )

    lines, made, _ = exported(tmp_path, work)
    assert len(lines) == 1
    assert sorted(made.left_out) == [
        "the plan leaves out a part of its task",
        "the run has no model step that succeeded",
        "the run has not succeeded",
        "the run is a kept replay of another",
    ]


def test_plans_that_no_model_wrote_teach_no_planner(tmp_path):
    """Given plans, and saved plans that answered."""

    async def work(engine):
        await engine.run(ASK)
        await engine.save_plan("rome", {**ASK, "task": "Talk about {city}"})
        await engine.run("Talk about Oslo")

    lines, made, _ = exported(tmp_path, work, kind="planner")
    assert lines == []
    assert made.left_out == {"no model wrote the plan for its task: it was given, saved, or filled in": 2}


def test_verdicts_decide_which_runs_are_good(tmp_path):
    """Runs without one, and runs below the threshold, are left out."""

    async def work(engine):
        return [await engine.run(ASK, inputs={"city": city}) for city in ("Rome", "Oslo", "Bonn")]

    lines, made, _ = exported(
        tmp_path, work, judged=lambda found: Verdicts({found[0].id: 0.9, found[1].id: 0.2}), at_least=0.8
    )
    assert ["Rome" in str(line) for line in lines] == [True]
    assert sorted(made.left_out.values()) == [1, 1]
    assert "the caller, at least 0.8" in made.card.read_text()


def test_one_question_has_one_answer(tmp_path):
    """Of the best verdict, then of the newest run: two answers to one question teach nothing."""
    count = iter(range(9))

    async def work(engine):
        return [await engine.run(ASK, reuse="off") for _ in range(3)]

    def script(_):
        return {"text": f"answer {next(count)}", "count": 1}

    (line,), made, _ = exported(tmp_path, work, script=script)
    assert "answer 2" in line["messages"][-1]["content"]
    assert made.left_out == {"its question is that of another example": 2}
    judged = exported(
        tmp_path / "..",
        work,
        script=script,
        judged=lambda found: Verdicts(
            {each.id: score for each, score in zip(found, (0.6, 0.9, 0.7), strict=True)}
        ),
    )
    assert "answer 4" in judged[0][0]["messages"][-1]["content"]


def test_named_runs_are_taken_and_others_are_not(tmp_path):
    """A run that is not there is an error; nothing is written then."""

    async def work(engine):
        found = [await engine.run(ASK, inputs={"city": city}) for city in ("Rome", "Oslo")]
        made = await export_training(engine, tmp_path / "one.jsonl", kind="steps", runs=[found[1].id] * 2)
        with pytest.raises(RunNotFound):
            await export_training(engine, tmp_path / "none.jsonl", kind="steps", runs=["run_x"])
        return made

    exported(tmp_path, work)
    assert "Oslo" in (tmp_path / "one.jsonl").read_text()
    assert "Rome has hills" not in (tmp_path / "one.jsonl").read_text()
    assert not (tmp_path / "none.jsonl").exists()


# --- what may not leave

SECRET = 'pa"ss/wörd 7+'


def spellings():
    """Return the secret as texts of a run may have it."""
    data = SECRET.encode()
    return [
        SECRET,
        json.dumps(SECRET),
        json.dumps({"a": json.dumps(SECRET)}),
        quote(SECRET, safe=""),
        base64.b64encode(b"user:" + data + b"!").decode(),
        base64.urlsafe_b64encode(data).decode(),
    ]


@pytest.mark.parametrize("kind", ["planner", "steps"])
@pytest.mark.parametrize("planted", range(6))
@pytest.mark.parametrize("place", ["input", "result", "answer", "task"])
def test_no_secret_leaves(tmp_path, kind, planted, place):
    """Wherever it stands and however it is spelled, and whatever labels are let in; neither in the set nor in the card."""
    text = spellings()[planted]

    @tool(effect="read", name="note")
    def leaky(city: str) -> str:
        """A note about a city."""
        return text if place == "result" else "hills"

    def script(request):
        if "You turn a task" in request["messages"][0]["content"]:
            return ASK
        return {**SAID, "text": text if place == "answer" else "Rome is old."}

    task = f"{TASK} {text}" if place == "task" else TASK
    work = runs(task, city=text) if place == "input" else runs(task)
    _, made, requests = exported(
        tmp_path,
        work,
        script=script,
        tools=(leaky,),
        kind=kind,
        settings={"secrets": {"K": SECRET}},
        include=("untrusted", "private"),
    )
    for written in (made.path.read_text(), made.card.read_text()):
        for each in spellings():
            assert each not in written
            assert json.dumps(each)[1:-1] not in written
    # The secret did reach a model, so that it could have been in the set.
    assert (
        any(text in str(each["content"]) for request in requests for each in request["messages"])
        or place == "answer"
    )
    assert made.examples == (
        1 if kind == "planner" and place != "task" else 1 if kind == "steps" and place == "task" else 0
    )


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefghijklmnop",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "Authorization: Bearer abcdefghijklmnopqrst",
        "xoxb-123456789012-abcdef",
    ],
)
def test_a_text_with_the_form_of_a_key_does_not_leave(tmp_path, key):
    """Also if nobody has named it a secret."""
    lines, made, _ = exported(tmp_path, runs(ASK, city=f"Rome {key}"))
    assert lines == []
    assert made.left_out == {"it holds a secret, or a text with the form of a key": 1}
    assert key not in made.card.read_text()


def test_keys_of_models_and_of_the_environment_do_not_leave(tmp_path, monkeypatch):
    """Values of variables that are named like secrets, and a key that is handed in as text."""
    monkeypatch.setenv("SHOP_PASSWORD", "correct horse")
    lines, _, _ = exported(tmp_path, runs(ASK, city="correct horse"))
    assert lines == []

    async def work(engine):
        await engine.run(ASK, inputs={"city": "plain-key-of-a-model"})

    async def main():
        async with ScriptedModel(answer) as model:
            models = {"default": Model("m", model.base_url, api_key="plain-key-of-a-model")}
            async with Engine([note], store="memory:", models=models) as engine:
                await work(engine)
                return await export_training(engine, tmp_path / "k.jsonl", kind="steps", runs=None)

    assert asyncio.run(main()).examples == 0


def test_a_secret_that_cannot_be_read_stops_the_export(tmp_path):
    """Nobody could tell whether a text holds it."""
    with pytest.raises(ConfigError, match="nobody can tell"):
        exported(tmp_path, runs(ASK), settings={"secrets": {"K": Secret(file=tmp_path / "none")}})
    assert not (tmp_path / "set.jsonl").exists()


def labelled(name):
    return {**ASK, "steps": [{**ASK["steps"][0], "tool": name}, ASK["steps"][1]]}


@pytest.mark.parametrize(("name", "label"), [("page", "untrusted"), ("diary", "private")])
def test_labelled_data_leaves_only_if_it_is_let_in(tmp_path, name, label):
    """By its own label, not by another one; the card counts the labels."""
    other = {"untrusted": "private", "private": "untrusted"}[label]
    settings = {"flow": "warn"}
    found, made, _ = exported(
        tmp_path, runs(labelled(name)), tools=(page, diary), settings=settings, include=[other]
    )
    assert found == []
    assert made.left_out == {f"it holds {label} data": 1}
    found, made, _ = exported(
        tmp_path, runs(labelled(name)), tools=(page, diary), settings=settings, include=[label]
    )
    assert len(found) == 1
    assert f"| {label} | 1 |" in made.card.read_text()


def test_labels_go_through_inner_plans_and_conditions(tmp_path):
    """A question of an inner plan has the labels of what it is given; beside it, a clean question stays."""
    inner = {
        "inputs": {"text": {"type": "string"}},
        "steps": [{"id": "q", "ask": {"prompt": "What is in ${inputs.text}?"}}],
        "output": "${q}",
    }
    plan = {
        "firmplan": 1,
        "plans": {"asked": inner},
        "steps": [
            {"id": "p", "tool": "page", "args": {"city": "Rome"}},
            {"id": "outside", "plan": "asked", "args": {"text": "${p}"}},
            {"id": "own", "plan": "asked", "args": {"text": "my own words"}},
        ],
        "output": ["${outside}", "${own}"],
    }
    lines, made, _ = exported(tmp_path, runs(plan), script=lambda _: "an answer", tools=(page,))
    assert ["my own words" in str(line) for line in lines] == [True]
    assert made.left_out == {"it holds untrusted data": 1}


def test_an_untrusted_input_is_a_label(tmp_path):
    """Whoever fills it in may be hostile."""
    plan = {**ASK, "inputs": {"city": {"type": "string", "default": "Rome", "x-trust": "untrusted"}}}
    lines, made, _ = exported(tmp_path, runs(plan))
    assert (lines, made.left_out) == ([], {"it holds untrusted data": 1})


def test_a_prompt_that_cannot_be_made_again_is_left_out(tmp_path):
    """The tools are not what the planner saw: another description, another type, or none."""

    @tool(effect="read", name="note")
    def other(city: str) -> str:
        """Another description."""
        return city

    async def main():
        async with ScriptedModel(answer) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine([note], store=tmp_path / "s.db", planner=planner) as engine:
                await engine.run(TASK)
            made = []
            for number, tools in enumerate(([other], [], [note])):
                async with Engine(tools, store=tmp_path / "s.db", planner=planner) as engine:
                    made.append(
                        await export_training(engine, tmp_path / f"{number}.jsonl", kind="planner", runs=None)
                    )
            return made

    changed, missing, same = asyncio.run(main())
    assert (changed.examples, missing.examples, same.examples) == (0, 0, 1)
    assert list(changed.left_out) == [
        "its tools are not what they were, so that the prompt cannot be made again"
    ]


# --- the files


def test_the_set_passes_the_rules_of_the_openai_client(tmp_path):
    """Each message is one of the client's own types, and the rules of its validators hold.

    They are in `openai/lib/_validators.py`, which itself needs pandas: every column is there, no further ones, no empty field, no duplicated row, no row that
    is very long, and not one common completion.
    """

    async def work(engine):
        for city in ("Rome", "Oslo", "Bonn"):
            await engine.run(ASK, inputs={"city": city})

    def script(request):
        return {"text": request["messages"][-1]["content"][-40:], "count": 1}

    lines, made, _ = exported(tmp_path, work, script=script)
    checked = TypeAdapter(ChatCompletionMessageParam)
    rows = []
    for line in lines:
        assert list(line) == ["messages"]
        for message in line["messages"]:
            checked.validate_python(message, extra="forbid")
        assert line["messages"][-1]["role"] == "assistant"
        assert {each["role"] for each in line["messages"][:-1]} <= {"system", "user"}
        *asked, said = line["messages"]
        rows.append((json.dumps(asked), said["content"]))
    assert len(rows) == made.examples == 3
    assert all(prompt and completion for prompt, completion in rows)
    assert len(set(rows)) == len(rows)
    assert len({completion for _, completion in rows}) > 1
    assert all(len(prompt) + len(completion) < 10_000 for prompt, completion in rows)


def test_the_card_says_what_is_in_the_set(tmp_path):
    """Counts, the digest of the file, models, labels, what was left out and why, sources, and the licence."""

    async def work(engine):
        await engine.run(ASK)
        await engine.run(labelled("page"))

    _, made, _ = exported(tmp_path, work, tools=(note, page), licence="CC BY 4.0")
    card = made.card.read_text()
    assert made.card == tmp_path / "set.md"
    assert made.digest == "sha256:" + hashlib.sha256(made.path.read_bytes()).hexdigest()
    for words in (
        "# Data card of set.jsonl",
        "| kind | steps |",
        "| examples | 1 |",
        f"| digest | `{made.digest}` |",
        "| judged by | success alone |",
        "| licence of the data | CC BY 4.0 |",
        "| m | 1 |",
        "| it holds untrusted data | 1 |",
        "Untrusted and private data was left out.",
        ":say: it holds untrusted data",
    ):
        assert words in card
    assert "hills" not in card


def test_the_same_runs_give_the_same_file(tmp_path):
    """Byte for byte, so that its digest names it; only its owner can read it."""
    _, first, _ = exported(tmp_path, runs(ASK, labelled("note")))
    _, again, _ = exported(tmp_path, runs())
    assert first.digest == again.digest
    assert first.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "plans"}, "kind: expected 'planner' or 'steps'"),
        ({"at_least": 2}, "at_least"),
        ({"at_least": True}, "at_least"),
        ({"include": ["secret"]}, "include: expected a label, found 'secret'"),
        ({"include": "private"}, "include: expected a list"),
        ({"judged": "none.jsonl"}, "expected a file of verdicts"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, options, words):
    """Before anything is read or written."""
    with pytest.raises(ConfigError, match=words):
        exported(tmp_path, runs(), **options)


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    """With its path; the card is another file than the set."""
    with pytest.raises(InputRejected, match="cannot be written"):
        exported(tmp_path, runs(), card=tmp_path / "no" / "card.md")
    with pytest.raises(ConfigError, match="card: expected another file"):
        exported(tmp_path, runs(), card=tmp_path / "set.jsonl")


def test_bad_verdicts_are_told_by_line(tmp_path):
    """All together."""
    path = tmp_path / "v.jsonl"
    path.write_text(
        '{"run": "a", "score": 2}\n\nnot\n{"run": "a", "good": true}\n{"run": "a", "sore": 1}\n{"score": 1}'
    )
    with pytest.raises(ConfigError) as caught:
        Verdicts.load(path)
    told = str(caught.value).splitlines()
    assert [line.split("v.jsonl: ")[1].split(":")[0] for line in told] == [
        "line 1",
        "line 3",
        "line 5",
        "line 6",
    ]
    path.write_text(
        '{"run": "a", "score": 0.25}\n{"run": "b", "good": true, "why": "checked", "by": "ann"}\n{"run": "a", "good": false}'
    )
    assert Verdicts.load(path).scores == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(("name", "label"), [("page", "untrusted"), ("diary", "private")])
def test_the_labels_of_a_part_that_was_planned_in_the_run_are_known(tmp_path, name, label):
    """Questions of a `plan_for` step have the labels of what the step was given; nothing is let in because its plan is not the run's."""
    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "p", "tool": name, "args": {"city": "Rome"}},
            {
                "id": "rest",
                "plan_for": "Say it",
                "given": {"text": "${p}"},
                "tools": [],
                "max_steps": 3,
                "returns": {"type": "string"},
            },
        ],
        "output": "${rest}",
    }
    part = {
        "firmplan": 1,
        "inputs": {"text": {"type": "string"}},
        "steps": [{"id": "own", "set": 1}, {"id": "a", "ask": {"prompt": "Repeat ${inputs.text}"}}],
        "output": "${a}",
    }

    def script(request):
        return part if "Say it" in str(request["messages"]) else "said"

    options = {"script": script, "tools": (page, diary), "settings": {"flow": "warn"}}
    lines, made, requests = exported(tmp_path, runs(plan), **options)
    assert len(requests) == 2, made.left_out
    assert (lines, f"it holds {label} data" in made.left_out) == ([], True)


GOLDEN = Path(firmplan.__file__).parent / "tests" / "vectors" / "journals"


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
def test_the_stores_of_every_version_teach(tmp_path, version):
    """Their questions are made again too; no run of theirs is unreadable."""
    shutil.copy(GOLDEN / version / "store.sqlite", tmp_path / "s.db")

    async def main():
        async with Engine([], store=tmp_path / "s.db") as engine:
            return [
                await export_training(
                    engine, tmp_path / "old.jsonl", kind=kind, include=("untrusted", "private")
                )
                for kind in ("planner", "steps")
            ]

    plans, steps = asyncio.run(main())
    assert steps.examples == 2
    assert "the run cannot be rebuilt from its journal" not in {**plans.left_out, **steps.left_out}
