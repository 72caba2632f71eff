"""What tools log is there for the page: by step, without secrets, whatever the log of the server shows, and within bounds."""

from __future__ import annotations

import gc

from firmplan.service import step_logs
from firmplan.service.step_logs import StepLogs
from firmplan.tools.logbook import open_log, step_listeners
from served import TOOLS, Server

TALKING = (
    TOOLS
    + '''
from firmplan import Context


@tool(effect="read", resource="talk")
def talk(word: str, ctx: Context) -> str:
    """Log some lines."""
    ctx.log.debug("too quiet")
    ctx.log.info("said", word=word, numbers=[1, 2])
    ctx.log.warning("louder")
    return word
'''
)


def test_the_lines_of_a_step_are_served(tmp_path):
    """From `info` up, also where the server's own log shows warnings only, which then has no more lines than before."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "say", "for_each": ["a", "b"], "tool": "talk", "args": {"word": "${item}"}}],
        "output": "${say}",
    }
    with Server(tmp_path, tools=TALKING) as server:
        run = server.post("/v1/runs", {"plan": plan}).json()["id"]
        server.wait(run)
        found = server.get(f"/v1/runs/{run}/log", params={"step": "say[1]"}).json()
        lines = [(line["level"], line["message"], line["attempt"], line["fields"]) for line in found["lines"]]
        assert lines == [
            ("info", "said", 1, {"word": "b", "numbers": "[1, 2]"}),
            ("warning", "louder", 1, {}),
        ]
        assert server.get(f"/v1/runs/{run}/log?step=say").json()["lines"] == []
        assert server.get(f"/v1/runs/{run}/log?step=none").status_code == 404
        server.stop(15)
        shown = "".join(server.said)
        assert shown.count("louder") == 2
        assert "said" not in shown


def test_lines_have_bounds_and_no_secrets(monkeypatch, capfd):
    """The oldest lines go first, and the steps that were quiet longest; who listens no more is forgotten."""
    monkeypatch.setattr(step_logs, "LINES_MAX", 3)
    monkeypatch.setattr(step_logs, "STEPS_MAX", 2)
    others = set(step_listeners)  # of servers that other tests have left to the garbage
    logs = StepLogs()
    for step in ("a", "b", "c"):
        log = open_log(lambda: {"KEY": "s3cr3t-value"}, run="r", step=step, attempt=1)
        for number in range(5):
            log.info("a line with s3cr3t-value", number=number)
    assert logs.of("r", "a") == []
    told = logs.of("r", "c")
    assert [line["fields"] for line in told] == [{"number": number} for number in (2, 3, 4)]
    assert "s3cr3t" not in str(told)
    assert capfd.readouterr().err == ""
    assert logs in step_listeners
    del logs
    gc.collect()
    assert set(step_listeners) <= others
