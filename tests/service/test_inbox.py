"""`GET /v1/waiting`: everything that waits for a person, over all runs, also in runs that still work on other steps."""

from __future__ import annotations

import pytest
from served import MAIL, PLAN, TOOLS, Server

WHO = {
    "firmplan": 1,
    "task": "Ask",
    "steps": [{"id": "who", "ask_person": "Who?", "returns": {"type": "string"}}],
    "output": "${who}",
}
BUSY = {
    "firmplan": 1,
    "steps": [
        {"id": "slow", "tool": "nap", "args": {"seconds": 20}},
        {"id": "mail", "tool": "send", "args": {"to": "me"}},
    ],
}
LOSING = (
    TOOLS
    + '''
from firmplan import OutcomeUnknown


@tool(effect="write", resource="void")
def lose(n: int) -> int:
    """Nobody knows what became of it."""
    raise OutcomeUnknown("no answer")
'''
)


@pytest.fixture
def server(tmp_path_factory):
    """A server with an empty store."""
    with Server(tmp_path_factory.mktemp("served"), tools=LOSING) as running:
        yield running


def submit(server, plan, state, **more):
    run = server.post("/v1/runs", {"plan": plan, **more}).json()["id"]
    server.wait(run, state)
    return run


def inbox(server, **query):
    answer = server.get("/v1/waiting", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_everything_that_waits_is_there_and_nothing_else(server):
    """An approval, a question, an unknown outcome, a used-up budget; also a call in a run that works on another step meanwhile."""
    gone = {"firmplan": 1, "steps": [{"id": "gone", "tool": "lose", "args": {"n": 7}}]}
    runs = [
        submit(server, MAIL, "waiting"),
        submit(server, WHO, "waiting"),
        submit(server, gone, "indeterminate"),
        submit(server, PLAN, "over_budget", inputs={"a": 1}, budget={"calls": 0}),
    ]
    submit(server, PLAN, "succeeded", inputs={"a": 1})
    busy = server.post("/v1/runs", {"plan": BUSY}).json()["id"]
    while server.get(f"/v1/runs/{busy}/waiting").json()["calls"] == []:
        assert server.get(f"/v1/runs/{busy}").json()["status"] in ("queued", "running")
    document = inbox(server)
    assert [each["run"]["id"] for each in document["runs"]] == [busy, *reversed(runs)]
    assert [
        [(call["step"], call["attempt"], call["about"]) for call in each["calls"]]
        for each in document["runs"]
    ] == [
        [("mail", 1, "call")],
        [],
        [("gone", 1, "outcome")],
        [("who", 1, "question")],
        [("mail", 1, "call")],
    ]
    assert document["cursor"] is None
    assert document["runs"][0]["run"]["status"] == "running"
    # What is decided is gone.
    server.post(f"/v1/runs/{busy}/steps/mail/deny", {"by": "ann"})
    server.post(f"/v1/runs/{runs[1]}/steps/who/answer", {"by": "ann", "value": "bob"})
    server.wait(runs[1])
    assert [each["run"]["id"] for each in inbox(server)["runs"]] == [runs[3], runs[2], runs[0]]
    server.post(f"/v1/runs/{busy}/cancel")
    assert server.client.head("/v1/waiting").status_code == 200


def test_pages_follow_each_other_without_a_gap(server):
    """Five runs of two statuses, two a page: each comes once, newest first; bad queries are refused."""
    runs = [submit(server, MAIL if place % 2 else WHO, "waiting") for place in range(5)]
    seen, cursor = [], None
    while True:
        page = inbox(server, limit=2, **({"cursor": cursor} if cursor else {}))
        assert len(page["runs"]) <= 2
        seen += [each["run"]["id"] for each in page["runs"]]
        if (cursor := page["cursor"]) is None:
            break
    assert seen == runs[::-1]
    for query in ({"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"status": "waiting"}):
        assert server.get("/v1/waiting", params=query).status_code == 422
