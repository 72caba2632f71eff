"""Calls that start while the plan is still being written are judged like all calls: policies and rules come first."""

from __future__ import annotations

import asyncio

import pytest
from firmplan import Engine, Planner, Policy, tool
from firmplan.testing import Paced, ScriptedModel

FETCH = {"id": "got", "tool": "fetch", "args": {"url": "https://example.org/a"}}
PAGE, SITES = {"id": "page", "tool": "read_page"}, {"id": "sites", "tool": "list_sites"}
MORE = [{"id": f"s{number}", "set": f"text number {number}"} for number in range(12)]


def asks(value, labels):
    del value, labels
    return "ask"


def denies(value, labels):
    del value, labels
    return "deny"


# Name -> the steps, the policies, and whether the call may be made before the plan is complete.
CALLS = {
    "a call that nobody judges": ([FETCH], (), True),
    "a policy about another tool": ([FETCH], (Policy("no", "send", "*", denies),), True),
    "a policy that denies": ([FETCH], (Policy("no", "fetch", "url", denies),), False),
    "a policy that asks": ([FETCH], (Policy("ask", "fet*", "*", asks),), False),
    "a policy that denies what has an untrusted address": (
        [PAGE, FETCH | {"args": {"url": "https://example.org/${page}"}}],
        (Policy("no", "fetch", "url", denies),),
        False,
    ),
    "an address that a rule admits": ([PAGE, SITES, FETCH | {"args": {"url": "${sites[page]}"}}], (), False),
}


def fetched_early(steps, policies):
    """Return whether `fetch` was called before the model had written the whole plan, and the run."""
    calls, early = [], []

    @tool(effect="read", trust="untrusted", resource="web", isolation="inline")
    def read_page() -> int:
        """Read a page."""
        calls.append("read_page")
        return 1

    @tool(effect="read", resource="sites", isolation="inline")
    def list_sites() -> list[str]:
        """List the sites."""
        return ["https://example.org/a", "https://example.org/b"]

    @tool(effect="read", trust="untrusted", resource="web", egress=("url",), isolation="inline")
    def fetch(url: str) -> str:
        """Fetch a page."""
        calls.append("fetch")
        return url

    async def pace(share):
        del share
        for _ in range(20):
            await asyncio.sleep(0)
        early[:] = calls

    async def main():
        plan = {"firmplan": 1, "steps": [*steps, *MORE], "output": "${got}"}
        async with ScriptedModel([Paced(plan, pace)]) as model:
            planner = Planner("m", base_url=model.base_url)
            async with Engine(
                [read_page, list_sites, fetch], store="memory:", planner=planner, policies=policies
            ) as engine:
                return await engine.run("Do it", stream=True)

    run = asyncio.run(main())
    return "fetch" in early, calls, run


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_judged_waits_for_the_run(name):
    """The check of a partial plan only warns of what a policy decides, so the run asks the policy before anything is sent."""
    steps, policies, may_be_early = CALLS[name]
    is_early, calls, run = fetched_early(steps, policies)
    assert is_early == may_be_early
    if any(policy.rule is denies and policy.tool == "fetch" for policy in policies):
        assert "fetch" not in calls
        assert run.status == "failed"
    elif policies and policies[0].rule is asks:
        assert "fetch" not in calls
        assert run.status == "waiting"
    else:
        assert run.status == "succeeded"
