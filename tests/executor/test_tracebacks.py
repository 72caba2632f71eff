"""The last frames of a failed call in its tool's own code: kept with the record, shown to who runs the engine, and part of no digest."""

from __future__ import annotations

import json
import re
from pathlib import Path

from firmplan import Context, Engine, ToolError, Toolset, tool
from firmplan.executor.limits import FRAMES_KEPT_MAX
from firmplan.service.routes.runs import event_text
from firmplan.tools.failures import FRAMES_CHARACTERS_MAX, FRAMES_MAX

TOOLS = Toolset.load(Path(__file__).parents[1] / "support" / "child_tools.py")


def stumble(depth: int, word: str) -> int:
    if depth:
        return stumble(depth - 1, word)
    raise ValueError(f"no such word: {word}")


@tool(effect="read")
def look(word: str) -> int:
    """Look a word up."""
    return stumble(1, word)


@tool(effect="read")
async def ask(word: str, *, ctx: Context) -> int:
    """Ask for a word."""
    if word == "unset":
        ctx.secret("NOBODY")
    return json.loads(word)


@tool(effect="read")
def dig(word: str) -> int:
    """Fall deep."""
    return stumble(40, word)


@tool(effect="write")
def send(word: str) -> int:
    """Lose the connection."""
    raise ConnectionError(word)


def run_of(name: str, *, engine: Engine | None = None, **step: object):
    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": name, "args": {"word": "w"}, **step}],
        "output": "${a}",
    }
    if engine is not None:
        return engine.run_sync(plan)
    with Engine([look, ask, dig, send], store="memory:") as made:
        return made.run_sync(plan)


def functions(text: str) -> list[str]:
    return [line.rpartition(" in ")[2] for line in text.splitlines() if line.startswith("  File ")]


def test_an_error_has_the_frames_of_its_tool():
    """From the tool's function to where it was raised, with the lines; frames of firmplan and of Python are left out."""
    (error,) = run_of("look").errors
    assert functions(error.traceback) == ["look", "stumble", "stumble"]
    line = look.fn.__code__.co_firstlineno + 3
    assert re.fullmatch(
        rf'  File "[\w/]*test_tracebacks.py", line {line}, in look', error.traceback.splitlines()[0]
    )
    assert str(Path.cwd()) not in error.traceback, "no folder of this machine"
    assert error.traceback.splitlines()[-1].strip() == 'raise ValueError(f"no such word: {word}")'
    assert functions(run_of("ask").errors[0].traceback) == ["ask"], "json raised it"
    assert functions(run_of("ask", args={"word": "unset"}).errors[0].traceback) == ["ask"], (
        "the context raised it"
    )
    deep = run_of("dig").errors[0].traceback
    assert set(functions(deep)) == {"stumble"}
    assert len(functions(deep)) <= FRAMES_MAX
    waiting = run_of("send")
    assert waiting.status == "indeterminate"
    assert functions(waiting.steps["a"].error.traceback) == ["send"]


def test_a_failure_that_is_let_pass_has_them_too():
    run = run_of("look", on_error="skip")
    assert run.errors == ()
    assert functions(run.steps["a"].error.traceback)[0] == "look"


def test_they_are_in_the_store_and_in_no_answer(tmp_path):
    """Another engine reads them, and a replay has them; JSON of runs and the events of a server leave them out; the digest is that of the failure alone."""
    with Engine([look], store=tmp_path / "s.db") as engine:
        run = run_of("look", engine=engine)
    with Engine([], store=tmp_path / "s.db") as other:
        kept = other.get_sync(run.id)
        assert kept.errors[0].traceback == run.errors[0].traceback
        assert other.replay_sync(run.id).digest == run.digest
        bundle = other.export_sync(run.id, tmp_path / "r.bundle")
        assert other.replay_sync(bundle).errors[0].traceback == run.errors[0].traceback
    assert "traceback" not in json.dumps(run.to_dict())
    assert "stumble" not in repr(run)


def test_a_server_tells_no_code():
    """The record that a client gets of a failed call has its code and its message."""
    with Engine([look], store="memory:") as engine:
        run = run_of("look", engine=engine)
        (failed,) = [event for event in engine.events_sync(run.id) if event.type == "CallFailed"]
    assert "frames" in failed.data
    assert "stumble" not in event_text(failed)
    assert '"code":"tool-error"' in event_text(failed)


@tool(effect="read")
def tell(key: str) -> int:
    """Raise in a line that has a secret."""
    raise ToolError("no")  # hush-hush-hush


def test_secrets_are_masked():
    """Also where the source itself has one."""
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "tell", "args": {"key": '${secret("TOKEN")}'}}]}
    with Engine([tell], store="memory:", secrets={"TOKEN": "hush-hush-hush"}) as engine:
        (error,) = engine.run_sync(plan).errors
    assert functions(error.traceback) == ["tell"]
    assert "hush-hush-hush" not in error.traceback
    assert '${secret("TOKEN")}' in error.traceback


def test_frames_have_limits():
    """So many calls of a run, and so many characters of one."""
    with Engine([look, dig], store="memory:") as engine:
        run = run_of("look", engine=engine, for_each=f"${{range({FRAMES_KEPT_MAX + 10})}}")
        assert sum(bool(error.traceback) for error in run.errors) == FRAMES_KEPT_MAX
    run = run_of("look", args={"word": "w" * 20_000})
    assert len(run.errors[0].traceback) <= FRAMES_CHARACTERS_MAX


def test_a_tool_in_a_process_of_its_own_has_frames():
    with Engine(TOOLS, store="memory:") as engine:
        plan = {
            "firmplan": 1,
            "steps": [{"id": "a", "tool": "harm", "args": {"how": "raise"}}],
            "output": "${a}",
        }
        (error,) = engine.run_sync(plan).errors
    assert functions(error.traceback) == ["harm", "_harm"]
