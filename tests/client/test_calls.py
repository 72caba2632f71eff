"""Every call of the client, in a loop and without one, against a real server: what it returns is what the server says."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import pickle
import threading
import time
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import firmplan
import pytest
from firmplan import (
    AsyncClient,
    Client,
    ConfigError,
    Diverged,
    InputRejected,
    Plan,
    PlanRejected,
    RunFailed,
    RunNotFound,
    ServerError,
)
from firmplan.client.calls import Calls
from firmplan.client.refusals import error_of
from firmplan.executor import RunFilter
from pydantic import BaseModel
from served import MAIL, PLAN, TOOLS, Server

FAIL = {
    "firmplan": 1,
    "steps": [{"id": "no", "set": "${1 / inputs.n}"}],
    "inputs": {"n": {"type": "integer"}},
}
NAP = {"firmplan": 1, "steps": [{"id": "nap", "tool": "nap", "args": {"seconds": 2}}], "output": "${nap}"}
LIST = {
    "firmplan": 1,
    "steps": [{"id": "mail", "tool": "send", "for_each": ["a", "b", "c"], "args": {"to": "${item}"}}],
    "output": "${mail}",
}


def told(server, path):
    """Return the server's document of a path, as it is."""
    return server.get(path).json()


def test_a_plan_is_run(client):
    """By its document, by the value, by name and by digest; a task in words is answered by a saved plan."""
    plan = Plan.model_validate(PLAN)
    saved = client.save_plan("addition", plan)
    assert (saved.name, saved.digest, saved.uses.hits) == ("addition", plan.digest, 0)
    for what in (PLAN, plan, "addition", plan.digest):
        assert client.run(what, inputs={"a": 1}).output == 3
    assert client.run(plan_name="addition", inputs={"a": 4}, priority=5).priority == 5
    assert client.submit("addition", inputs={"a": 5}).priority is None
    assert client.run(plan_name="addition", inputs={"a": 4}).output == 6
    assert client.run(plan_digest=plan.digest, inputs={"a": 4, "b": 0}).output == 4
    assert client.run("Add 2 and 40").output == 42
    assert client.run(task="Add 2 and 41").raise_for_status().output == 43


def test_inputs_are_what_pydantic_can_write(client):
    """Models, dates and the like stand as JSON."""

    class Pair(BaseModel):
        left: int
        day: date

    plan = {
        "firmplan": 1,
        "inputs": {"pair": {"type": "object"}},
        "steps": [{"id": "x", "set": "${inputs.pair}"}],
        "output": "${x}",
    }
    run = client.run(plan, inputs={"pair": Pair(left=3, day=date(2026, 3, 1))})
    assert run.output == {"left": 3, "day": "2026-03-01"}
    for value in (object(), float("nan"), "\ud800", _deep()):
        with pytest.raises(InputRejected, match="JSON"):
            client.submit(plan, inputs={"pair": value})


def test_inputs_and_outputs_are_typed(client):
    """A model gives the inputs and takes the output; the server refuses a plan, or a task, whose output cannot be of the type."""

    class Two(BaseModel):
        a: int

    class Sum(BaseModel):
        total: int

    plan = {**PLAN, "output": {"total": PLAN["output"]}}
    run = client.run(plan, inputs=Two(a=1), returns=Sum)
    assert run.value == Sum(total=3)
    for again in (client.wait(run.id, returns=Sum), client.get(run.id, returns=Sum), client.replay(run.id, returns=Sum)):  # fmt: skip
        assert again.value == run.value
    with pytest.raises(PlanRejected, match="expected text, found"):
        client.submit(
            plan, inputs={"a": 1}, returns={"type": "object", "properties": {"total": {"type": "string"}}}
        )
    client.save_plan("addition", PLAN)
    assert client.run("Add 2 and 40", returns=int).value == 42
    with pytest.raises(RunFailed, match="no Sum"):
        _ = client.get(client.run("Add 2 and 40").id, returns=Sum).value


def _deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


def _started(fires):
    """The fires whose run has begun, the newest first: nothing of theirs changes any more."""
    return [fire for fire in fires if fire.state == "started"]


def test_schedules_are_made_changed_and_removed(server, client):
    """Each call returns what the server says; the values are those of an engine."""
    client.save_plan("addition", PLAN)
    options = {"every": "1h", "inputs": {"a": 1}, "priority": 2, "paused": True, "start": 4_000_000_000.5}
    made = client.add_schedule("hourly", "addition", **options)
    assert (made.name, made.every, made.priority, made.revision, made.paused) == ("hourly", 3600, 2, 1, True)
    with pytest.raises(InputRejected) as taken:
        client.add_schedule("hourly", "addition", every=60, inputs={"a": 1})
    assert taken.value.code == "replaced"
    changed = client.add_schedule(
        "hourly", "addition", cron="0 8 * * *", tz="Europe/Rome", inputs={"a": 1}, replaces=1
    )
    assert (changed.every, changed.tz, changed.revision, changed.paused) == (None, "Europe/Rome", 2, False)
    assert client.list_schedules() == [client.get_schedule("hourly")] == [changed]
    assert client.preview_schedule(cron="0 8 * * *", tz="Europe/Rome", count=2) == changed.next_times(
        changed.created, 2
    )
    assert client.pause_schedule("hourly").paused
    assert not client.resume_schedule("hourly").paused
    often = client.add_schedule("hourly", "addition", every=1, inputs={"a": 1}, replaces=-1)
    assert often.revision == 5
    until = time.monotonic() + 30
    while not (fired := _started(client.schedule_fires("hourly"))) and time.monotonic() < until:
        time.sleep(0.1)
    fires = told(server, f"/v1/schedules/hourly/fires?before={fired[0].at + 1}&limit=1")["fires"]
    assert [
        fire.to_dict() for fire in client.schedule_fires("hourly", before=fired[0].at + 1, limit=1)
    ] == fires
    assert fires == [fired[0].to_dict()]
    client.remove_schedule("hourly")
    for call in (client.get_schedule, client.remove_schedule, client.schedule_fires):
        with pytest.raises(InputRejected) as unknown:
            call("hourly")
        assert unknown.value.code == "unknown-schedule"


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ({}, "nothing"),
        ({"what": PLAN, "plan_name": "x"}, "plan_name and plan"),
        ({"what": "two words", "task": "others"}, "task and what (task)"),
        ({"what": 3}, "int"),
        ({"what": PLAN, "stream": True}, "stream"),
        ({"what": PLAN, "idempotency_key": "\u2028"}, "idempotency_key"),
    ],
)
def test_one_thing_is_submitted(client, named, found):
    with pytest.raises(InputRejected) as caught:
        client.submit(**named)
    assert found in str(caught.value)


def test_values_are_those_of_the_server(server, client):
    """A run, its waiting calls, its explanations, a comparison and a verification, as values that write the same document."""
    run = client.run(MAIL)
    assert (run.status, run.steps["mail"].args) == ("waiting", {"to": "me"})
    list(client.events(run.id))  # until all is durable
    assert client.get(run.id).to_dict() == told(server, f"/v1/runs/{run.id}")
    waiting = client.waiting(run.id)
    assert waiting.to_dict() == told(server, f"/v1/runs/{run.id}/waiting")
    assert "send waits for approval" in str(waiting)
    a, b = (client.run(PLAN, inputs={"a": number}) for number in (1, 2))
    assert a.plan.digest == Plan.model_validate(PLAN).digest
    explained = client.explain_all(a.id)
    assert {"run": a.id, "steps": [each.to_dict() for each in explained]} == told(
        server, f"/v1/runs/{a.id}/explain"
    )
    assert str(client.explain(a.id, "total")) == explained[0].sentence
    diff = client.diff(a.id, b.id)
    assert diff.to_dict() == told(server, f"/v1/runs/{a.id}/diff/{b.id}")
    assert diff
    assert "inputs" in str(diff)
    other = client.run({**PLAN, "output": "${total + 1}"}, inputs={"a": 1})
    changed = client.diff(a.id, other.id)
    assert changed.plan.before.apply(changed.plan.to_patch()).digest == other.plan.digest
    verified = client.verify(a.id)
    assert verified.to_dict() == server.post(f"/v1/runs/{a.id}/verify").json()
    assert verified.ok
    assert client.replay(a.id).digest == a.digest
    page = client.list_runs(limit=2)
    assert [each.to_dict() for each in page.runs] == told(server, "/v1/runs?limit=2")["runs"]
    assert [each.to_dict() for each in client.tools()] == told(server, "/v1/tools")["tools"]
    client.save_plan("mail", MAIL)
    assert [each.to_dict() for each in client.plans()] == told(server, "/v1/plans")["plans"]
    report = client.check(MAIL)
    assert report.to_dict() == server.post("/v1/plans:check", MAIL).json()


def test_a_check_finds_every_problem(client):
    """Of a dict and of text; the problems have their places and hints."""
    faulty = {"firmplan": 1, "steps": [{"id": "x", "tool": "ad", "args": {"a": "${y}"}}]}
    for what in (faulty, json.dumps(faulty)):
        report = client.check(what)
        assert not report.ok
        assert [each.code for each in report.problems][:1] == ["unknown-tool"]
        assert "add" in report.problems[0].hint
    assert client.check("steps: [").problems[0].code == "bad-shape"


def test_decisions(client):
    """Approve, deny, resolve and decide; the server goes on by itself."""
    one, two, three = (client.run(MAIL) for _ in range(3))
    client.approve(one.id, "mail", by="ann", attempt=1)
    assert client.wait(one.id).output == "sent to me"
    client.deny(two.id, "mail", by="ann", reason="paid")
    ended = client.wait(two.id)
    assert (ended.status, ended.errors[0].code) == ("failed", "denied")
    with pytest.raises(RunFailed):
        ended.raise_for_status()
    client.approve(three.id, "mail", by="ann", edit={"to": "you"})
    assert client.wait(three.id).output == "sent to you"
    listed = client.run(LIST)
    client.decide(listed.id, {"mail": "approve", "mail[1]": {"deny": True, "reason": "no"}}, by="ann")
    steps = client.wait(listed.id).steps
    assert [steps[f"mail[{place}]"].status for place in range(3)] == ["succeeded", "cancelled", "skipped"]
    with pytest.raises(InputRejected) as caught:
        client.approve(one.id, "mail", by="joe")
    assert caught.value.code == "decided"
    with pytest.raises(InputRejected) as caught:
        client.approve(one.id, "male", by="joe")
    assert caught.value.code == "unknown-step"
    with pytest.raises(InputRejected) as caught:
        client.resolve(one.id, "mail", by="joe", done=None)
    assert "done" not in caught.value.code


def test_a_question_is_answered(client):
    plan = {
        "firmplan": 1,
        "steps": [{"id": "who", "ask_person": "Who?", "returns": {"type": ["string", "null"]}}],
        "output": "${who}",
    }
    for value in ("ann", None):
        run = client.run(plan)
        assert run.status == "waiting"
        client.answer(run.id, "who", value, by="ann")
        assert client.wait(run.id).output == value


def test_runs_made_of_others(client):
    """A fork, a retry, a resume and a cancel."""
    parent = client.run(PLAN, inputs={"a": 1})
    fork = client.fork(parent.id, inputs={"a": 5})
    assert (client.wait(fork.id).output, fork.parent) == (7, parent.id)
    assert client.wait(client.fork(parent.id, set={"total": 9}).id).output == 9
    edited = {**PLAN, "output": "${total * 2}"}
    assert client.wait(client.fork(parent.id, plan=edited, run_id_new=f"edited-{parent.id}").id).output == 6
    failed = client.run(FAIL, inputs={"n": 0})
    assert (failed.status, failed.errors[0].code) == ("failed", "division-by-zero")
    again = client.retry(failed.id)
    assert (client.wait(again.id).status, again.parent) == ("failed", failed.id)
    with pytest.raises(InputRejected, match="retry"):
        client.resume(failed.id)
    with pytest.raises(InputRejected):
        client.retry(parent.id)
    waiting = client.run(MAIL)
    assert client.resume(waiting.id).id == waiting.id
    assert client.cancel(waiting.id).status == "cancelled"
    client.delete(failed.id) if not client.wait(again.id).parent else client.delete(again.id)
    with pytest.raises(RunNotFound):
        client.get(again.id)


def test_events_and_pages(server, client):
    """The journal, from the start and from a place; all runs, page by page."""
    run = client.run(PLAN, inputs={"a": 11})
    events = list(client.events(run.id))
    assert [(each.seq, each.to_dict()) for each in events] == server.events(run.id)
    assert list(client.events(run.id, after=events[-1].seq)) == []
    assert list(client.events(run.id, after=2)) == events[2:]
    assert {each.id for each in client.runs()} >= {run.id}
    assert {each.status for each in client.runs(status="succeeded")} == {"succeeded"}
    where = RunFilter(plan=run.plan.digest, text=run.id.upper(), since=run.created, usd_min=0.0)
    assert [each.id for each in client.runs(where=where)] == [run.id]
    assert list(client.runs(where=where, tenant="other")) == []
    assert client.list_runs(where=RunFilter(until=run.created, text=run.id)).runs == ()
    with pytest.raises(InputRejected, match="status"):
        next(iter(client.runs(status="done")))


def test_a_list_of_events_may_be_left(client):
    """A loop that breaks off closes its connection and leaves the client usable."""
    run = client.submit(NAP)
    for event in client.events(run.id):
        if event.type == "RunStarted":
            break
    assert client.get(run.id).status in ("queued", "running")


def test_a_wait_ends_in_time(client):
    """With an error of its own; the run goes on."""
    run = client.submit(NAP)
    with pytest.raises(TimeoutError, match="goes on"):
        client.wait(run.id, timeout=0.3)
    assert client.wait(run.id, timeout=60).output == 2


def test_files(client, tmp_path):
    """An export replays offline; an artifact has its bytes."""
    run = client.run(PLAN, inputs={"a": 1})
    file = client.export(run.id, tmp_path / "run.bundle")

    async def offline():
        async with firmplan.Engine([], store="memory:") as engine:
            return await engine.replay(file)

    assert asyncio.run(offline()).digest == run.digest
    with pytest.raises(InputRejected, match="cannot write"):
        client.export(run.id, tmp_path / "none" / "run.bundle")
    with pytest.raises(InputRejected) as caught:
        client.artifact(run.id, f"sha256:{'0' * 64}")
    assert caught.value.code == "unknown-artifact"


ARTIFACT_TOOL = '''

@tool(effect="pure")
def picture(size: int, *, ctx: Context) -> Artifact:
    """Draw."""
    return ctx.save(b"\\x89PNG" * size, media_type="image/png", name="a.png")


@tool(effect="pure")
def word(text: str, *, ctx: Context) -> Artifact:
    """Write a text."""
    text[0]
    return ctx.save(text.encode(), media_type="text/plain", name="a.txt")
'''


def test_errors_are_those_of_an_engine(client):
    """By class, with the server's code, problems and hints."""
    with pytest.raises(PlanRejected) as rejected:
        client.submit({"firmplan": 1, "steps": [{"id": "x", "tool": "ad", "args": {}}]})
    assert rejected.value.report.problems[0].code == "unknown-tool"
    assert "add" in rejected.value.report.problems[0].hint
    with pytest.raises(InputRejected) as given:
        client.submit(PLAN, inputs={"a": "one"})
    assert [each.path for each in given.value.problems] == ["$.inputs.a"]
    with pytest.raises(InputRejected) as name:
        client.submit("nosuchplan")
    assert name.value.code == "unknown-plan"
    with pytest.raises(RunNotFound):
        client.get("run_none")
    with pytest.raises(RunNotFound):
        list(client.events("run_none"))
    with pytest.raises(InputRejected):
        client.get("..")
    with pytest.raises(InputRejected) as budget:
        client.submit(PLAN, inputs={"a": 1}, budget={"stepps": 1})
    assert budget.value.problems[0].hint
    assert client.find_plan("nosuchplan") is None
    client.save_plan("taken", PLAN)
    with pytest.raises(InputRejected) as taken:
        client.save_plan("taken", MAIL, replaces="")
    assert taken.value.code == "replaced"


def test_keys(connect, tmp_path):
    """A key is sent; a wrong one, and none, are errors at once."""
    with Server(tmp_path, FIRMPLAN_API_KEYS="first,second") as server:
        assert connect(server.url, key="second").run(PLAN, inputs={"a": 1}).output == 3
        for key in (None, "third"):
            with pytest.raises(ServerError) as caught:
                connect(server.url, key=key).get("run_1")
            assert (caught.value.status, caught.value.code) == (401, "unauthorized")


@pytest.fixture
def stranger():
    """A server that is not firmplan's."""

    class Page(BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(302 if self.path.startswith("/moved") else 200 if "runs" in self.path else 418)
            self.send_header("Content-Type", "text/html")
            self.send_header("Location", "https://other/")
            self.end_headers()
            self.wfile.write(b"<h1>Hello</h1>")

        do_GET = do_POST = answer  # noqa: N815  # the library's names

        def log_message(self, *_):
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def test_another_server_is_none_of_ours(connect, stranger):
    """The message names the address and what came from there."""
    for url, call in (("", "get"), ("/moved", "get"), ("", "find_plan")):
        with pytest.raises(ServerError) as caught:
            getattr(connect(f"{stranger}{url}"), call)("run_1")
        assert caught.value.code == "bad-answer"
        assert "address" in str(caught.value)
        assert stranger in str(caught.value)
    assert "leads to 'https://other/'" in str(_error(connect(f"{stranger}/moved")))


def _error(client):
    with pytest.raises(ServerError) as caught:
        client.get("run_1")
    return caught.value


def test_nobody_there(connect):
    """Without retries the error comes at once; with them, each pause is told."""
    url = "http://127.0.0.1:9"
    assert _error(connect(url, retry_for=0)).code == "unreachable"
    pauses = []
    error = _error(connect(url, retry_for=1.0, on_retry=lambda *told: pauses.append(told)))
    assert error.code == "unreachable"
    assert pauses
    assert sum(seconds for _, seconds in pauses) <= 1.0
    assert {told.code for told, _ in pauses} == {"unreachable"}


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("localhost:8000", {}),
        ("ftp://x", {}),
        ("http://", {}),
        ("http://x?y=1", {}),
        ("http://x", {"key": "a\nb"}),
        ("http://x", {"key": " "}),
        ("http://x", {"timeout": 0}),
        ("http://x", {"retry_for": -1}),
    ],
)
def test_settings_that_cannot_be(kind, url, options):
    with pytest.raises(ConfigError, match="expected"):
        kind(url, **options)


def test_a_path_before_the_routes_belongs_to_the_address(server):
    """As behind a proxy that serves several programs."""
    with Client(f"{server.url}/", retry_for=0) as client:
        assert client.tools()
    with Client(f"{server.url}/firmplan", retry_for=0) as client, pytest.raises(ServerError) as caught:
        client.tools()
    assert "/firmplan/v1/tools" in str(caught.value)


def test_both_clients_have_the_same_calls():
    """Each call of the core is a method of both, with the same parameters."""
    core = {name: each for name, each in vars(Calls).items() if not name.startswith("_")}
    for name, method in core.items():
        twin = getattr(Client, "close" if name == "aclose" else name)
        assert inspect.signature(twin) == inspect.signature(method)
        assert getattr(AsyncClient, name) is method
    assert inspect.signature(Client.__init__) == inspect.signature(AsyncClient.__init__)


def test_the_blocking_client_works_inside_a_running_loop(server):
    """As in a notebook: it waits for no event loop."""

    async def main():
        with Client(server.url) as client:
            run = client.run(PLAN, inputs={"a": 1})
            return [event.seq for event in client.events(run.id)]

    assert asyncio.run(main())


def test_an_error_is_pickled():
    error = ServerError("no", code="queue-full", status=429, retry_after=5.0)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, copy.status, copy.retry_after) == ("no", "queue-full", 429, 5.0)


def test_a_replay_that_differs_names_the_step():
    """The evidence of a 409 is that of an engine's error."""
    body = {
        "code": "diverged",
        "step": "x",
        "field": "output",
        "expected": 1,
        "found": 2,
        "detail": "no",
        "problems": [],
    }
    error = error_of(409, {"content-type": "application/problem+json"}, json.dumps(body).encode(), "http://x")
    assert isinstance(error, Diverged)
    assert (error.step, error.field, error.expected, error.found) == ("x", "output", 1, 2)


def test_an_artifact_has_its_bytes(connect, tmp_path):
    tools = (
        TOOLS.replace("from firmplan import tool", "from firmplan import Artifact, Context, tool")
        + ARTIFACT_TOOL
    )
    plan = {"firmplan": 1, "steps": [{"id": "p", "tool": "picture", "args": {"size": 3}}], "output": "${p}"}
    with Server(tmp_path, tools=tools) as server:
        client = connect(server.url)
        run = client.run(plan)
        assert run.status == "succeeded", run.errors
        data = client.artifact(run.id, run.output)
        assert data == b"\x89PNG" * 3
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == run.output["digest"]
        assert client.artifact(run.id, run.output["digest"]) == data
        assert b"".join(client.stream_artifact(run.id, run.output)) == data
        with pytest.raises(InputRejected, match="a frame, an array or a text, found image/png"):
            client.preview_artifact(run.id, run.output)
        text = client.run({**plan, "steps": [{"id": "p", "tool": "word", "args": {"text": "a\nb"}}]})
        shown = client.preview_artifact(run_id=text.id, artifact=text.output, rows=1)
        assert (shown.kind, shown.rows, shown.rows_total) == ("text", (("a",),), 2)
        failed = client.run({**plan, "steps": [{"id": "p", "tool": "word", "args": {"text": ""}}]})
        assert "in word" in client.tracebacks(failed.id)["p"]
