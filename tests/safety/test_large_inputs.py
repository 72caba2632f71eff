"""What callers hand in is held to the limits of results, before anything is stored."""

from __future__ import annotations

import pytest
from firmplan import Engine, InputRejected, tool
from firmplan.executor import limits
from public import call, plan

LARGE = "x" * (100 * limits.MIB)
TAKES = plan(
    call("n", "count", args={"text": "${inputs.text}"}), inputs={"text": {"type": "string"}}, output="${n}"
)
TWO = {**TAKES, "inputs": {"text": {"type": "string"}, "other": {"type": "string"}}}


@tool(effect="write", approval="always", resource="box")
def count(text: str) -> int:
    """Count."""
    return len(text)


@pytest.fixture
def engine(tmp_path):
    with Engine([count], store=tmp_path / "s.db") as made:
        yield made


def test_a_hundred_mebibytes_are_no_input(engine, tmp_path):
    """Of a plan, of a fork, as text or in parts: the message says expected, found and what to do, and nothing is stored."""
    with pytest.raises(
        InputRejected, match=r"input 'text': expected at most 64 MiB of JSON, found 100\.0 MiB"
    ) as told:
        engine.run_sync(TAKES, inputs={"text": LARGE})
    (problem,) = told.value.problems
    assert (problem.code, problem.path) == ("limit-exceeded", "$.inputs.text")
    assert "save_artifact" in problem.hint
    run = engine.run_sync(TAKES, inputs={"text": "a"})
    assert run.status == "waiting"
    with pytest.raises(InputRejected, match="expected at most 64 MiB"):
        engine.fork_sync(run.id, inputs={"text": LARGE})
    assert len(engine.list_runs_sync().runs) == 1
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < limits.MIB


def test_a_task_in_words_takes_no_more(engine):
    """Though no plan says yet what its inputs are."""
    with pytest.raises(
        InputRejected, match=r"input 'text': expected at most 64 MiB of JSON, found 100\.0 MiB"
    ):
        engine.run_sync("count the text", inputs={"text": LARGE})
    assert engine.list_runs_sync().runs == ()


def test_all_inputs_together_have_a_limit(engine, monkeypatch):
    """A run's inputs are stored in one piece."""
    monkeypatch.setattr(limits, "INPUTS_BYTES_MAX", 3000)
    assert engine.run_sync(TWO, inputs={"text": "x" * 1000, "other": "y" * 1000}).status == "waiting"
    for what in (TWO, "count both"):
        with pytest.raises(InputRejected, match="inputs: expected at most 0 MiB of JSON in all"):
            engine.run_sync(what, inputs={"text": "x" * 2000, "other": "y" * 2000})


def test_what_a_person_gives_is_no_larger(engine):
    """Edited arguments, a result that a person tells, and a fork's value for a step."""
    run = engine.run_sync(TAKES, inputs={"text": "a"})
    with pytest.raises(InputRejected, match=r"the edited arguments of step 'n'.*64 MiB"):
        engine.approve_sync(run.id, "n", by="me", edit={"text": LARGE})
    made = plan({"id": "a", "set": "b"}, call("n", "count", args={"text": "${a}"}))
    first = engine.run_sync(made)
    with pytest.raises(InputRejected, match=r"set: the value of 'a'.*64 MiB"):
        engine.fork_sync(first.id, set={"a": LARGE})


def test_what_just_fits_is_taken(engine):
    """The limit is that of results, to the byte."""
    text = "x" * (limits.VALUE_BYTES_MAX - 2)
    assert engine.run_sync(TAKES, inputs={"text": text}).status == "waiting"
    with pytest.raises(InputRejected):
        engine.run_sync(TAKES, inputs={"text": text + "x"})
