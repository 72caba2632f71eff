"""The HTTP API as a client sees it: every route of the contract, over a real socket."""

from __future__ import annotations

import json
import sqlite3
import urllib.parse
from contextlib import closing

from served import MAIL, PLAN, Server


def test_a_plan_is_accepted_and_run(server):
    """202, a location, and soon the output."""
    answer = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 40}, "priority": 2})
    assert answer.status_code == 202
    run = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/runs/{run}"
    done = server.wait(run)
    assert (done["status"], done["output"]) == ("succeeded", 42)
    assert list(done["steps"]) == ["total"]
    assert (answer.json()["priority"], done["priority"]) == (2, 2)
    for priority in (0, 6, "first", 1.5, True):
        refused = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 40}, "priority": priority})
        assert (refused.status_code, refused.json()["problems"][0]["path"]) == (422, "$.priority")


def test_a_saved_plan_that_was_altered_hides_no_other(tmp_path):
    """The list has the others; asked for by its name it is refused."""
    with Server(tmp_path, "--store", "own.db") as server:
        for name in ("one", "two"):
            assert server.client.put(f"/v1/plans/{name}", json=PLAN).status_code == 200
        with closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as db:
            db.execute("UPDATE plans SET saved=1 WHERE name='one'")
        assert [each["name"] for each in server.get("/v1/plans").json()["plans"]] == ["two"]
        refused = server.get("/v1/plans/one")
        assert refused.status_code >= 400
        assert "the saved plan 'one' is not as it was saved" in refused.json()["detail"]


def test_a_task_is_answered_by_a_saved_plan(server):
    """Saved plans answer tasks without a model."""
    saved = server.client.put("/v1/plans/adder", json=PLAN)
    assert saved.status_code in (200, 201)
    run = server.post("/v1/tasks", {"task": "add 1 and 2"}).json()["id"]
    assert server.wait(run)["output"] == 3
    assert server.get("/v1/plans/adder").json()["task"] == PLAN["task"]
    listed = server.get("/v1/plans").json()["plans"]
    assert [plan["name"] for plan in listed] == ["adder"]
    assert (listed[0]["hits"], listed[0]["false_hits"]) == (1, 0)
    for key in ({"plan_name": "adder"}, {"plan_digest": listed[0]["digest"]}):
        run = server.post("/v1/runs", {**key, "inputs": {"a": 1}}).json()["id"]
        assert server.wait(run)["output"] == 3


def test_a_task_that_cannot_be_planned_fails_its_run(server):
    """The task is accepted; the run says what is missing."""
    run = server.post("/v1/tasks", {"task": "Conquer the world"}).json()["id"]
    done = server.wait(run)
    assert done["status"] == "failed"
    assert done["errors"][0]["code"] == "planning-failed"
    assert "FIRMPLAN_MODEL" in done["errors"][0]["message"]


def test_an_idempotency_key_makes_one_run(server):
    """The same key and body give the same run; another body under the key is a conflict."""
    headers = {"Idempotency-Key": "one"}
    body = {"plan": PLAN, "inputs": {"a": 7}}
    first = server.post("/v1/runs", body, headers=headers)
    again = server.post("/v1/runs", body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    other = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 8}}, headers=headers)
    assert other.status_code == 409


def test_events_are_the_journal_live_and_resume(server):
    """The stream has every event in order, ends with the run, and goes on after `Last-Event-ID`."""
    run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 123}}).json()["id"]
    events = server.events(run)
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    assert events[0][1]["type"] == "RunStarted"
    assert events[-1][1]["type"] == "RunFinished"
    rest = server.events(run, **{"Last-Event-ID": "1"})
    assert rest == events[1:]
    for number in ("x", "-1", "9" * 5_000):  # Python reads no number of so many digits
        refused = server.get(f"/v1/runs/{run}/events", headers={"Last-Event-ID": number})
        assert (refused.status_code, refused.json()["code"]) == (422, "bad-request")


def test_a_replay_has_the_same_digest(server):
    """Replaying over HTTP calls nothing and gives the same digest."""
    run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 5}}).json()["id"]
    done = server.wait(run)
    replayed = server.post(f"/v1/runs/{run}/replay")
    assert replayed.status_code == 200
    assert replayed.json()["digest"] == done["digest"]


def test_a_replay_reads_no_file(server):
    """A name in a request means a run, never a file: not a bundle in the server's folder, and not one that has a run's id."""
    run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 6}}).json()["id"]
    done = server.wait(run)
    (server.folder / run).write_text("no bundle")
    replayed = server.post(f"/v1/runs/{run}/replay")
    assert (replayed.status_code, replayed.json()["digest"]) == (200, done["digest"])
    for name in ("tools.py", ".%2Ftools.py", "..%2Ftools.py", "%2Fetc%2Fpasswd", "~%2Fx"):
        refused = server.post(f"/v1/runs/{name}/replay")
        assert refused.status_code == 404, (name, refused.text)


def test_a_decision_lets_the_run_go_on(server):
    """Approve over HTTP, with an edit; a second approval is a conflict."""
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(run, "waiting")
    answer = server.post(f"/v1/runs/{run}/steps/mail/approve", {"by": "me", "edit": {"to": "you"}})
    assert answer.status_code == 200
    assert server.wait(run)["output"] == "sent to you"
    assert server.post(f"/v1/runs/{run}/steps/mail/approve", {"by": "me"}).status_code == 409
    denied = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(denied, "waiting")
    assert server.post(f"/v1/runs/{denied}/steps/mail/deny", {"by": "me", "reason": "no"}).status_code == 200
    assert server.wait(denied)["errors"][0]["code"] == "denied"


def test_of_decisions_about_an_attempt_one_stands(server):
    """409 with the code `decided` names the one that stands; an attempt that does not wait is no attempt that does."""
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    waiting = server.wait(run, "waiting")["steps"]["mail"]
    at = f"/v1/runs/{run}/steps/mail"
    assert server.post(f"{at}/approve", {"by": "me", "attempt": waiting["attempt"] + 1}).status_code == 422
    assert server.post(f"{at}/approve", {"by": "me", "attempt": 0}).status_code == 422
    assert waiting["attempt"] == 1
    assert server.post(f"{at}/approve", {"by": "ann", "attempt": 1}).status_code == 200
    for body in ({"by": "bob"}, {"by": "bob", "attempt": 1}, {"by": "ann", "edit": {"to": "you"}}):
        refused = server.post(f"{at}/approve", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "decided")
        assert "step 'mail', attempt 1, is decided already: approved by ann at " in refused.json()["detail"]
    assert server.post(f"{at}/approve", {"by": "ann", "attempt": 1}).status_code == 200
    done = server.wait(run)
    assert (done["output"], done["steps"]["mail"]["attempt"]) == ("sent to me", None)


MAILS = {
    "firmplan": 1,
    "steps": [{"id": "mail", "tool": "send", "for_each": ["a", "b", "c"], "args": {"to": "${item}"}}],
    "output": "${mail}",
}


def test_a_list_is_decided_in_one_request(server):
    """All items wait at once; one request decides them, whole or not at all, and the run goes on."""
    run = server.post("/v1/runs", {"plan": MAILS}).json()["id"]
    steps = server.wait(run, "waiting")["steps"]
    assert [steps[f"mail[{n}]"]["args"] for n in range(3)] == [{"to": to} for to in "abc"]
    at = f"/v1/runs/{run}/decide"
    refused = server.post(at, {"by": "ann", "decisions": {"mail[0]": "approve", "mail[7]": "deny"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "input-rejected")
    assert "1 of 2 entries is at fault: 'mail[7]': " in refused.json()["detail"]
    for body in (
        {"decisions": {"mail": "approve"}},
        {"by": "ann"},
        {"by": "ann", "decisions": {}},
        {"by": "ann", "decisions": {"mail": 1}},
    ):
        assert server.post(at, body).status_code == 422
    said = {"mail": "approve", "mail[1]": {"approve": True, "edit": {"to": "you"}, "attempt": 1}}
    assert server.post(at, {"by": "ann", "decisions": said}).status_code == 200
    taken = server.post(at, {"by": "bob", "decisions": {"mail[0]": "deny"}})
    assert (taken.status_code, taken.json()["code"]) == (409, "decided")
    assert "approved by ann at " in taken.json()["detail"]
    assert server.wait(run)["output"] == ["sent to a", "sent to you", "sent to c"]
    assert server.post("/v1/runs/none/decide", {"by": "ann", "decisions": {"a": "deny"}}).status_code == 404


def test_a_run_is_cancelled(server):
    """Nothing new starts after a cancel."""
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(run, "waiting")
    assert server.post(f"/v1/runs/{run}/cancel").status_code == 200
    assert server.wait(run)["status"] == "cancelled"


def test_a_step_has_an_address(server):
    """Paths are percent-encoded."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "each", "tool": "add", "for_each": "${[1, 2]}", "args": {"a": "${item}", "b": 1}}],
        "output": "${each}",
    }
    run = server.post("/v1/runs", {"plan": plan}).json()["id"]
    server.wait(run)
    path = urllib.parse.quote("each[1]", safe="")
    step = server.get(f"/v1/runs/{run}/steps/{path}").json()
    assert (step["path"], step["status"], step["output"]) == ("each[1]", "succeeded", 3)
    assert server.get(f"/v1/runs/{run}/steps/nope").status_code == 404


def test_runs_are_listed_in_pages(server):
    """`limit` and `cursor` walk through all runs, newest first, each once."""
    for number in range(3):
        server.wait(server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": number}}).json()["id"])
    seen, cursor = [], None
    for _ in range(100):
        page = server.get("/v1/runs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [run["id"] for run in page["runs"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) > 2
    assert (
        server.get("/v1/runs", params={"status": "succeeded", "limit": 1}).json()["runs"][0]["status"]
        == "succeeded"
    )


def test_plans_are_checked(server):
    """The report is that of `check`."""
    good = server.post("/v1/plans:check", PLAN).json()
    assert good["ok"]
    bad = server.post("/v1/plans:check", {**PLAN, "steps": [{"id": "x", "tool": "ad", "args": {}}]}).json()
    assert not bad["ok"]
    assert "unknown-tool" in [problem["code"] for problem in bad["problems"]]


def test_tools_health_metrics_page_and_description(server):
    """The rest of the routes."""
    assert [tool["name"] for tool in server.get("/v1/tools").json()["tools"]] == ["add", "nap", "send"]
    assert server.get("/healthz").status_code == 200
    assert server.get("/readyz").status_code == 200
    assert "firmplan_runs" in server.get("/metrics").text
    page = server.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "firmplan" in page.text
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/tasks", "/v1/runs", "/v1/runs/{run_id}", "/v1/tools", "/v1/plans:check"} <= set(paths)


BAD = {
    "not json": ("/v1/runs", b'{"plan": ', 422, "bad-json"),
    "not an object": ("/v1/runs", b"[]", 422, "bad-request"),
    "no plan": ("/v1/runs", b"{}", 422, "bad-request"),
    "unknown key": ("/v1/tasks", b'{"task": "x", "taks": 1}', 422, "bad-request"),
    "no number": ("/v1/runs", b'{"plan_name": "x", "inputs": {"a": NaN}}', 422, "bad-json"),
    "unknown saved plan": ("/v1/runs", b'{"plan_name": "nope"}', 404, None),
}


def test_bad_requests_are_problems(server):
    """Each is `application/problem+json` with code and detail, and the server goes on."""
    for name, (path, body, status, code) in BAD.items():
        answer = server.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", name
        document = answer.json()
        assert document["detail"], name
        assert code is None or document["code"] == code, (name, document)
    assert server.get("/v1/runs/nope").json()["code"] == "run-not-found"
    assert server.get("/v1/nope").status_code == 404
    assert server.client.delete("/v1/runs").status_code == 405


def test_a_faulty_plan_is_refused_with_its_problems(server):
    """422, with every problem of the check."""
    answer = server.post("/v1/runs", {"plan": {**PLAN, "steps": [{"id": "x", "tool": "ad", "args": {}}]}})
    assert answer.status_code == 422
    assert answer.json()["code"] == "plan-rejected"
    assert "$.steps[0].tool" in json.dumps(answer.json()["problems"])
    unfit = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": "one"}})
    assert unfit.status_code == 422
    assert unfit.json()["code"] == "input-rejected"


def test_a_decision_that_does_not_fit_is_422(server):
    """409 says that nothing waits for it; what waits, and is answered with what does not fit, is told so, and goes on waiting."""
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(run, "waiting")
    at = f"/v1/runs/{run}/steps/mail"
    unfit = server.post(f"{at}/approve", {"by": "me", "edit": {"to": 5}})
    assert (unfit.status_code, unfit.json()["code"]) == (422, "input-rejected")
    assert "expected text, found 5" in unfit.json()["detail"]
    assert server.post(f"{at}/deny", {"by": "  "}).status_code == 422
    assert server.post(f"{at}/resolve", {"done": "x"}).status_code == 409
    assert server.get(f"/v1/runs/{run}").json()["status"] == "waiting"


def test_an_idempotency_key_means_the_same_request_however_it_is_written(server):
    """Order of keys and white space are no other request."""
    headers = {"Idempotency-Key": "written", "Content-Type": "application/json"}
    bodies = (
        json.dumps({"plan": PLAN, "inputs": {"a": 9}}),
        json.dumps({"inputs": {"a": 9}, "plan": PLAN}, indent=2),
    )
    answers = [server.client.post("/v1/runs", content=body, headers=headers) for body in bodies]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_text_is_checked(server):
    """A plan's JSON or YAML text may be checked as it stands, so that faults have lines."""
    text = "firmplan: 1\nsteps:\n  - id: x\n    tool: ad\n"
    report = server.post("/v1/plans:check", {"plan": text}).json()
    assert [(each["code"], each["line"]) for each in report["problems"] if each["severity"] == "error"] == [
        ("unknown-tool", 4)
    ]


def test_metrics_count_every_run_that_has_not_ended(server):
    """A run that waits for a larger budget is one of them."""
    run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 4711}, "budget": {"steps": 0}}).json()["id"]
    server.wait(run, "over_budget")
    server.text_with("/metrics", 'firmplan_runs_active{status="over_budget"} 1')


def test_watchers_may_ask_for_the_head_only(server):
    """What balancers ask: the same status, and no body."""
    for path in ("/", "/healthz", "/readyz", "/metrics"):
        answer = server.client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path


def test_a_failed_run_is_retried(server):
    """A new run goes on with it; the same request again is that run. Resume of the failed one is 409 and names retry."""
    run = server.post("/v1/runs", {"plan": MAIL}).json()["id"]
    server.wait(run, "waiting")
    at = f"/v1/runs/{run}"
    refused = server.post(f"{at}/retry")
    assert (refused.status_code, "approve or deny" in refused.json()["detail"]) == (409, True)
    server.post(f"{at}/steps/mail/deny", {"by": "ann"})
    assert server.wait(run)["status"] == "failed"
    ended = server.post(f"{at}/resume")
    assert (ended.status_code, ended.json()["code"]) == (409, "input-rejected")
    assert f"POST {at}/retry" in ended.json()["detail"]
    answers = [server.post(f"{at}/retry", {"run_id_new": "again"}) for _ in range(2)]
    assert [(each.status_code, each.json()["id"], each.json()["parent"]) for each in answers] == [
        (202, "again", run)
    ] * 2
    assert answers[0].headers["location"] == "/v1/runs/again"
    waiting = server.wait("again", "waiting")
    assert waiting["steps"]["mail"]["past_write"]["outcome"] == "denied"
    server.post("/v1/runs/again/steps/mail/approve", {"by": "ann"})
    assert server.wait("again")["output"] == "sent to me"
    assert server.get(at).json()["status"] == "failed"
    assert server.post(f"{at}/retry", {"run_id_new": "a b"}).status_code == 422


def test_a_fork_with_an_id_is_made_once(server):
    """Whoever lost the answer asks again; other changes under that id are refused."""
    run = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 40}}).json()["id"]
    server.wait(run)
    body = {"set": {"total": 7}, "run_id_new": "mine"}
    ids = [server.post(f"/v1/runs/{run}/fork", body).json()["id"] for _ in range(2)]
    assert ids == ["mine", "mine"]
    assert server.wait("mine")["output"] == 7
    other = server.post(f"/v1/runs/{run}/fork", {"set": {"total": 8}, "run_id_new": "mine"})
    assert (other.status_code, "exists already" in other.json()["detail"]) == (422, True)


def test_a_run_says_what_its_plan_leaves_out(server):
    """`left_out` of a run's document is that of its plan; of other runs it is empty."""
    left_out = ["send: nobody is told, since the task names no address"]
    run = server.post("/v1/runs", {"plan": {**PLAN, "left_out": left_out}, "inputs": {"a": 1}}).json()["id"]
    assert server.wait(run)["left_out"] == left_out
    other = server.post("/v1/runs", {"plan": PLAN, "inputs": {"a": 1}}).json()["id"]
    assert server.wait(other)["left_out"] == []
