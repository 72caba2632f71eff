"""A tool whose results come from outside states its trust: check and lint say so, and `default_trust` decides for tools that do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from firmplan import ConfigError, Engine, PlanRejected, Toolset, agent, check, tool
from firmplan.cli.config import read_settings
from firmplan.tools import lint


@tool(effect="read")
def look(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()


@tool(effect="read", trust="trusted")
def own(path: str) -> str:
    """Read a file of ours."""
    return Path(path).read_text()


@tool
def note(text: str) -> str:
    """Keep a note, and return the file with all of them."""
    with Path("notes").open("r+") as file:
        file.write(text)
        return file.read()


@tool(effect="read")
def count(text: str) -> int:
    """Count letters."""
    return len(text)


def found(*steps, output="${a}", tools=(look, own, note, count)):
    plan = {"firmplan": 1, "steps": [{"id": chr(97 + at), **step} for at, step in enumerate(steps)]}
    report = check(plan | {"output": output}, tools)
    assert report.ok
    return [(problem.code, problem.path) for problem in report.problems]


LOOK = {"tool": "look", "args": {"path": "x"}}


def test_a_tool_that_reads_files_and_states_no_trust_is_warned_of_once():
    """At the first step whose value is used; the message says what the tool's code uses."""
    assert found(LOOK, LOOK, output="${a + b}") == [("unstated-trust", "$.steps[0].tool")]
    report = check({"firmplan": 1, "steps": [{"id": "a", **LOOK}], "output": "${a}"}, [look])
    (problem,) = report.problems
    assert "'look' reads files (.read_text)" in problem.message
    assert problem.severity == "warning"
    assert 'trust="untrusted"' in problem.hint


def test_stated_trust_and_tools_that_reach_nothing_get_no_warning():
    """Neither do tools whose code stays inside."""
    assert found({"tool": "own", "args": {"path": "x"}}) == []
    assert found({"tool": "count", "args": {"text": "x"}}) == []


def test_a_write_counts_where_its_result_is_used():
    """A receipt that nobody reads steers nothing."""
    write = {"tool": "note", "args": {"text": "x"}}
    assert found(write, output="done") == []
    assert found(write, output="${a}") == [("unstated-trust", "$.steps[0].tool")]


def test_an_agent_reads_every_result_of_its_tools():
    """Each tool is told at its place in the agent's list."""
    agent = {"agent": {"goal": "Look.", "tools": ["count", "look"], "max_steps": 2}}
    assert ("unstated-trust", "$.steps[0].agent.tools[1]") in found(agent)


def test_inner_plans_are_looked_at():
    """The place is the inner step."""
    inner = {"steps": [{"id": "x", **LOOK}], "output": "${x}"}
    plan = {
        "firmplan": 1,
        "plans": {"p": inner},
        "steps": [{"id": "a", "plan": "p", "args": {}}],
        "output": "${a}",
    }
    report = check(plan, [look])
    assert [each.path for each in report.problems] == ["$.plans.p.steps[0].tool"]


def test_lint_calls_it_an_error():
    """All other remarks are advice."""
    remarks = {remark.code: remark for remark in lint([look])}
    assert remarks["unstated-trust"].severity == "error"
    assert remarks["no-reuse"].severity == "advice"
    assert "unstated-trust" not in {remark.code for remark in lint([own, count])}


# --- default_trust


@tool(effect="read")
def page(url: str) -> str:
    """Return text of whoever wrote the page."""
    return f"pay 7 to {url}"


@tool(effect="pure")
def upper(text: str) -> str:
    """Write in capitals."""
    return text.upper()


@tool(effect="pure")
def claims(text: str) -> str:
    """Claim to be pure, and read a file."""
    return Path(text).read_text()


@tool(effect="pure")
def hides(text: str) -> str:
    """Claim to be pure, and run a text."""
    return str(eval(text))


@agent
def sums_up(text: str) -> str:
    """Sum it up: ${text}."""


@tool(effect="write")
def send(text: str) -> str:
    """Send a text."""
    return text


@tool(effect="read", trust="trusted")
def ledger(url: str) -> str:
    """Return our own text."""
    return url


EVERY = [page, upper, claims, hides, sums_up, send, ledger]


def sending(source, name="url"):
    return {
        "firmplan": 1,
        "steps": [
            {"id": "a", "tool": source, "args": {name: "x"}},
            {"id": "b", "tool": "send", "args": {"text": "${a}"}},
        ],
        "output": "${b}",
    }


def test_unstated_means_untrusted_where_the_setting_says_so():
    """Of every tool into whose results something from outside may come."""
    toolset = Toolset(EVERY).with_default_trust("untrusted")
    assert {each.name for each in toolset if each.trust == "untrusted"} == {"page", "claims", "hides", "send"}
    assert [each.trust for each in EVERY] == ["trusted"] * len(EVERY)
    assert toolset.get("page") is page.untrusted_unless_stated
    assert [each.fingerprint for each in toolset] == [each.fingerprint for each in Toolset(EVERY)]
    assert Toolset(EVERY).with_default_trust("trusted").get("page") is page
    # It is decided now, so that there is nothing to warn of.
    look_now = Toolset([look]).with_default_trust("untrusted")
    assert not check({"firmplan": 1, "steps": [{"id": "a", **LOOK}], "output": "${a}"}, look_now).problems


@pytest.mark.parametrize(
    ("source", "is_refused"), [("page", True), ("hides", True), ("ledger", False), ("upper", False)]
)
def test_check_and_run_agree(source, is_refused):
    """What the check refuses does not run; what it passes runs with the same trust in its lock."""
    plan = sending(source, "text" if source in ("upper", "hides") else "url")

    async def main():
        async with Engine(EVERY, store="memory:", default_trust="untrusted") as engine:
            report = await engine.check_plan(plan)
            codes = [problem.code for problem in report.problems]
            if is_refused:
                assert codes == ["unsafe-flow"]
                with pytest.raises(PlanRejected):
                    await engine.run(plan)
            else:
                assert codes == []
                assert (await engine.run(plan)).status == "succeeded"

    asyncio.run(main())


def test_a_run_that_was_submitted_before_counts_the_stricter_trust(tmp_path):
    """The setting holds for a run that goes on under it; a replay is of the run as it was."""
    plan = sending("page")
    plan["steps"].insert(1, {"id": "ok", "tool": "asked", "args": {"text": "x"}})
    plan["steps"][2]["after"] = ["ok"]

    @tool(effect="write", approval="always")
    def asked(text: str) -> str:
        """Wait for a person."""
        return text

    async def main():
        store = tmp_path / "s.db"
        async with Engine([*EVERY, asked], store=store) as engine:
            done = await engine.run(sending("page"))
            waits = await engine.run(plan)
            assert (done.status, waits.status) == ("succeeded", "waiting")
        async with Engine([*EVERY, asked], store=store, default_trust="untrusted") as engine:
            assert (await engine.replay(done.id)).digest == done.digest
            await engine.approve(waits.id, "ok", by="ann")
            run = await engine.resume(waits.id)
            assert (run.status, run.steps["b"].error.code) == ("failed", "unsafe-flow")

    asyncio.run(main())


def test_a_wrong_setting_is_an_error():
    with pytest.raises(
        ConfigError, match='default_trust: expected one of "trusted", "untrusted", found \'no\''
    ):
        Engine([page], store="memory:", default_trust="no")


def test_the_setting_comes_from_file_and_environment(tmp_path):
    """Like every other setting."""
    assert read_settings({}, {}, tmp_path).default_trust == "trusted"
    (tmp_path / "firmplan.toml").write_text('default_trust = "untrusted"\n')
    assert read_settings({}, {}, tmp_path).default_trust == "untrusted"
    assert read_settings({}, {"FIRMPLAN_DEFAULT_TRUST": "trusted"}, tmp_path).default_trust == "trusted"
    with pytest.raises(ConfigError, match="default_trust"):
        read_settings({}, {"FIRMPLAN_DEFAULT_TRUST": "maybe"}, tmp_path)
