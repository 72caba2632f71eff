"""The log: quiet unless asked, one line for each change of state, bounded, on stderr."""

from __future__ import annotations

import json
import os
import sys
import threading
from types import ModuleType

import pytest
import structlog
from firmplan import ConfigError, Engine
from firmplan.tools import Context, tool
from firmplan.tools.logbook import FIELD_LENGTH_MAX, is_enabled, open_log, read_setting
from rig import one_run, plan_of


@tool(effect="read", version=1, retries=1, timeout=5)
def talk(x: int, *, ctx: Context) -> int:
    """Say something, and fail once."""
    ctx.log.info("talking", x=x, much="y" * 100_000)
    if ctx.attempt == 1:
        raise ConnectionError("cut")
    return x


@tool(effect="write", version=1, resource="box")
def lose() -> int:
    """Leave open what happened."""
    raise ConnectionError("cut")


def _shout(ctx: Context) -> int:
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(ctx.log, level)("now")
    return 1


@tool(effect="read", version=1)
def shout_in_thread(*, ctx: Context) -> int:
    """Say all that can be said."""
    return _shout(ctx)


@tool(effect="read", version=1, isolation="process")
def shout_in_process(*, ctx: Context) -> int:
    """Say all that can be said, in another process."""
    return _shout(ctx)


PLAN = plan_of({"id": "a", "tool": "talk", "args": {"x": 1}}, {"id": "b", "set": "${a + 1}"}, output="${b}")


def lines(capfd):
    """Return the log's lines, as JSON; stdout has none."""
    said = capfd.readouterr()
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def test_a_run_is_quiet(monkeypatch, capfd):
    """Without the setting a run that goes well says nothing."""
    monkeypatch.delenv("FIRMPLAN_LOG", raising=False)
    assert one_run(PLAN, talk).output == 2
    assert capfd.readouterr() == ("", "")


def test_each_change_of_state_is_one_line(monkeypatch, capfd):
    """In order, with run, step and attempt; what a tool says is bound to its call."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json")
    run = one_run(PLAN, talk)
    found = lines(capfd)
    assert {line["run"] for line in found} == {run.id}
    assert [(line["event"], line.get("step"), line.get("attempt")) for line in found] == [
        ("run started", None, None),
        ("call started", "a", 1),
        ("talking", "a", 1),
        ("call failed", "a", 1),
        ("retry scheduled", "a", 2),
        ("call started", "a", 2),
        ("talking", "a", 2),
        ("call succeeded", "a", 2),
        ("step succeeded", "b", None),
        ("run finished", None, None),
    ]
    assert {line["level"] for line in found} == {"info"}
    assert all("timestamp" in line for line in found)


def test_an_unknown_outcome_is_a_warning(monkeypatch, capfd):
    """Shown without being asked for: a person has to look."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json:warning")
    one_run(plan_of({"id": "a", "tool": "lose"}), lose)
    (line,) = lines(capfd)
    assert (line["event"], line["level"], line["step"]) == ("step indeterminate", "warning", "a")
    assert "cut" in line["why"]


@pytest.mark.parametrize("words", ["off", "json off", "console:off"])
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_log_that_is_off_says_nothing(words, isolation, monkeypatch, capfd):
    """Whatever happens, and whatever a tool says: also what is worse than an error."""
    monkeypatch.setenv("FIRMPLAN_LOG", words)
    run = one_run(plan_of({"id": "a", "tool": "lose"}), lose)
    shouted = one_run(
        plan_of({"id": "a", "tool": f"shout_in_{isolation}"}), shout_in_thread, shout_in_process
    )
    assert (run.status, shouted.status) == ("indeterminate", "succeeded")
    assert capfd.readouterr() == ("", "")


def test_fields_are_bounded(monkeypatch, capfd):
    """A line does not grow with what a tool says."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json")
    one_run(PLAN, talk)
    (first, *_) = [line for line in lines(capfd) if line["event"] == "talking"]
    assert len(first["much"]) < FIELD_LENGTH_MAX + 50
    assert "100000 characters" in first["much"]


def test_values_are_not_told(monkeypatch, capfd):
    """Their size is; they stand in the journal."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json")
    one_run(plan_of({"id": "a", "tool": "talk", "args": {"x": 987654321}}), talk)
    (done,) = [line for line in lines(capfd) if line["event"] == "call succeeded"]
    assert done["output"] == "9 bytes"


def test_the_console_form_is_for_people(monkeypatch, capfd):
    """One line an event, the event first."""
    monkeypatch.setenv("FIRMPLAN_LOG", "console")
    one_run(PLAN, talk)
    assert "run finished" in capfd.readouterr().err


@tool(effect="read", version=1, isolation="process")
def trip_apart(x: int) -> int:
    """Fail in a process of its own."""
    return {}[f"price {x}"]


@tool(effect="read", version=1)
def trip(key: str) -> int:
    """Fail, two calls deep, of a value that may be a secret."""
    return stumble(key)


def stumble(key):
    """Fail."""
    return {}[key]


@pytest.mark.parametrize(
    "args", [{"tool": "trip", "args": {"key": "price 3"}}, {"tool": "trip_apart", "args": {"x": 3}}]
)
def test_where_a_tool_failed_is_told_to_whoever_debugs(monkeypatch, capfd, args):
    """File, line and text, from the tool's own code on; nobody else is told."""
    one_run(plan_of({"id": "a", **args}), trip, trip_apart)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FIRMPLAN_LOG", "json:debug")
    one_run(plan_of({"id": "a", **args}), trip, trip_apart)
    (raised,) = [line for line in lines(capfd) if line["event"] == "call raised"]
    assert (raised["step"], raised["attempt"], raised["level"]) == ("a", 1, "debug")
    first, where, *_, last = raised["exception"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert f'File "{__file__}", line ' in where
    assert where.endswith(args["tool"])
    assert last == "KeyError: 'price 3'"


def test_a_traceback_tells_no_secret(monkeypatch, capfd):
    """What stands for it in messages stands for it there."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json:debug")
    secret = "".join(
        f"{number:x}" for number in range(1_500)
    )  # wherever it is cut, some of it would stand at the cut
    plan = plan_of({"id": "a", "tool": "trip", "args": {"key": '${secret("TOKEN")}'}})
    with Engine([trip], store="memory:", secrets={"TOKEN": secret}) as engine:
        assert engine.run_sync(plan).status == "failed"
    told = capfd.readouterr().err
    assert "call raised" in told
    assert "${secret(" in told
    assert not [at for at in range(0, len(secret), 20) if secret[at : at + 20] in told]


def test_a_long_traceback_is_told_from_both_ends(monkeypatch, capfd):
    """Where it was raised, and what was said last."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json:debug")
    one_run(plan_of({"id": "a", "tool": "trip", "args": {"key": "x" * 9_000 + "end"}}), trip)
    (raised,) = [line for line in lines(capfd) if line["event"] == "call raised"]
    assert "in stumble" in raised["exception"]
    assert raised["exception"].endswith("end'")
    assert len(raised["exception"]) < FIELD_LENGTH_MAX


@pytest.mark.parametrize("setting", ["json", "console:debug"])
def test_a_log_that_nobody_reads_stops_no_run(monkeypatch, setting):
    """`firmplan serve 2>&1 | head`: the reader goes, its pipe takes no more lines, and the run goes on without them."""
    monkeypatch.setenv("FIRMPLAN_LOG", setting)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1, closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert one_run(PLAN, talk).output == 2
        os.close(writer)
        assert one_run(PLAN, talk).output == 2
    monkeypatch.setattr(sys, "stderr", None)  # `2>&-`, and programs without a console
    assert one_run(PLAN, talk).output == 2


@pytest.mark.timeout(20)
def test_a_fault_of_a_programs_own_log_reaches_who_waits():
    """The run stops with it, and nobody waits for ever: not even where the log cannot say that it stopped."""

    def fall_over(*_):
        raise RuntimeError("no log today")

    structlog.configure(processors=[fall_over])
    try:
        with pytest.raises(RuntimeError, match="no log today"):
            one_run(PLAN, talk)
    finally:
        structlog.reset_defaults()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ("console", 30)),
        ("json", ("json", 20)),
        ("console", ("console", 20)),
        ("debug", ("console", 10)),
        ("JSON:error", ("json", 40)),
        ("off", ("console", 60)),
    ],
)
def test_the_setting_is_words(words, expected):
    """A form, a level, or both."""
    assert read_setting({"FIRMPLAN_LOG": words}) == expected


def test_a_wrong_word_is_told_at_once(monkeypatch):
    """Expected, found."""
    monkeypatch.setenv("FIRMPLAN_LOG", "loud")
    with pytest.raises(ConfigError, match=r"FIRMPLAN_LOG.*json.*'loud'"):
        Engine([talk], store="memory:").run_sync(PLAN)


def test_a_program_that_set_structlog_up_gets_the_events(monkeypatch, capfd):
    """Its processors, not ours."""
    monkeypatch.delenv("FIRMPLAN_LOG", raising=False)
    with structlog.testing.capture_logs() as found:
        one_run(PLAN, talk)
        open_log(run="r").warning("mine")
    structlog.reset_defaults()
    assert [entry["event"] for entry in found][-2:] == ["run finished", "mine"]
    assert capfd.readouterr() == ("", "")


def test_a_thread_that_is_left_behind_is_told(monkeypatch, capfd):
    """It cannot be stopped: one warning, with step and count."""
    monkeypatch.setenv("FIRMPLAN_LOG", "json:warning")
    gone = threading.Event()

    @tool(effect="read", version=1, timeout=0.05)
    def overrun() -> int:
        """Take too long."""
        gone.wait(20)
        return 1

    one_run(plan_of({"id": "a", "tool": "overrun"}), overrun)
    gone.set()
    (line,) = lines(capfd)
    assert (line["tool"], line["step"], line["all"], line["level"]) == ("overrun", "a", 1, "warning")


def test_a_log_that_another_thread_is_importing_stops_no_call(monkeypatch):
    """The module is there before its names are: then the setting alone decides."""
    monkeypatch.setitem(sys.modules, "structlog", ModuleType("structlog"))
    monkeypatch.setenv("FIRMPLAN_LOG", "debug")
    assert is_enabled("debug")
    monkeypatch.setenv("FIRMPLAN_LOG", "warning")
    assert not is_enabled("debug")
