"""What a client does when connections are cut, answers are lost, the server is busy, or dies between a request and its answer."""

from __future__ import annotations

import signal
import socket
import threading

import pytest
from cutting_proxy import CuttingProxy
from firmplan import InputRejected, Plan, RunNotFound, ServerError
from served import MAIL, PLAN, TOOLS, Server

SLOW = {
    "firmplan": 1,
    "steps": [
        {"id": "one", "tool": "nap", "args": {"seconds": 0.3}},
        {"id": "two", "tool": "nap", "args": {"seconds": 0.3}, "after": ["one"]},
        {"id": "both", "tool": "add", "args": {"a": "${len([one, two])}", "b": 1}},
    ],
    "output": "${both}",
}
MANY = {
    "firmplan": 1,
    "inputs": {"n": {"type": "integer"}},
    "steps": [
        {"id": "each", "tool": "add", "for_each": "${range(inputs.n)}", "args": {"a": "${item}", "b": 1}}
    ],
    "output": "${sum(each)}",
}
TWICE = '''

tries = []


@tool(effect="write", approval="always", resource="post", retries=2)
def post(to: str) -> str:
    """Post something."""
    tries.append(to)
    if len(tries) == 1:
        from firmplan import ToolError

        raise ToolError("busy", temporary=True)
    return f"posted to {to}"
'''


@pytest.fixture
def proxy(server):
    """A proxy before the module's server."""
    with CuttingProxy(server.url) as made:
        yield made


@pytest.fixture
def through(connect, proxy):
    """A client whose connections are cut."""
    return connect(proxy.url)


def runs_of(server):
    """Return the ids of all runs, by the server itself."""
    return [run["id"] for run in server.get("/v1/runs?limit=500").json()["runs"]]


@pytest.mark.parametrize("cut_after", [300, 700, 2_500])
def test_a_cut_stream_has_no_gap_and_repeats_nothing(server, proxy, through, cut_after):
    """The stream goes on after the last event that was handed on, however often it is cut."""
    run = through.run(MANY, inputs={"n": 12})
    expected = server.events(run.id)
    assert len(expected) > 12
    before = proxy.connections
    largest = max(len(str(event)) for _, event in expected)
    proxy.cut_after = cut_after + largest  # one event comes through at least
    proxy.cut()
    assert [(each.seq, each.to_dict()) for each in through.events(run.id)] == expected
    assert proxy.connections > before + 1


def test_a_live_stream_goes_on_after_a_cut(server, proxy, through):
    """While the run moves; `wait` as well."""
    run = through.submit(SLOW)
    found = []
    for event in through.events(run.id):
        found.append(event.seq)
        proxy.cut()
    assert found == [seq for seq, _ in server.events(run.id)]
    threading.Timer(0.2, proxy.cut).start()
    assert through.run(SLOW, idempotency_key=run.id).output == 3


def test_a_stream_that_brings_nothing_ends_with_an_error(connect, proxy):
    """The client gives up after `retry_for` seconds without one event."""
    run = connect(proxy.target).run(PLAN, inputs={"a": 1})
    proxy.cut_after = 0
    pauses = []
    client = connect(proxy.url, retry_for=1.0, on_retry=lambda *told: pauses.append(told))
    with pytest.raises(ServerError) as caught:
        list(client.events(run.id))
    assert caught.value.code == "unreachable"
    assert pauses


def test_a_lost_answer_about_a_schedule_is_no_error(proxy, through, client):
    """A repeated request finds that the schedule is as it asked for; a schedule of somebody else stays an error."""
    client.save_plan("addition", PLAN)
    proxy.lost_method = b"PUT"
    for replaces, cron in ((None, "0 8 * * *"), (1, "0 9 * * *")):
        proxy.lose = 1
        made = through.add_schedule("daily", "addition", cron=cron, inputs={"a": 1}, replaces=replaces)
        assert (proxy.lose, made) == (0, client.get_schedule("daily"))
    proxy.lose = 1
    with pytest.raises(InputRejected, match="found revision 2"):
        through.add_schedule("daily", "addition", cron="0 7 * * *", inputs={"a": 1}, replaces=1)
    proxy.lose, proxy.lost_method = 1, b"DELETE"
    through.remove_schedule("daily")
    assert (proxy.lose, client.list_schedules()) == (0, [])


def test_a_lost_answer_makes_one_run(server, proxy, through):
    """Of a submission, a fork and a retry: the request is repeated, and the server knows it."""
    before = len(runs_of(server))
    proxy.lose = 2
    run = through.submit(PLAN, inputs={"a": 1})
    assert proxy.lose == 0
    assert len(runs_of(server)) == before + 1
    through.wait(run.id)
    proxy.lose = 1
    fork = through.fork(run.id, inputs={"a": 2})
    assert through.wait(fork.id).output == 4
    failed = through.run({**PLAN, "output": "${1 / (total - total)}"}, inputs={"a": 1})
    assert failed.status == "failed"
    proxy.lose = 1
    retried = through.retry(failed.id)
    through.wait(retried.id)
    assert proxy.lose == 0
    assert len(runs_of(server)) == before + 4


def test_a_lost_answer_of_a_decision(server, proxy, through):
    """A repeated decision returns the run; a list that is approved at one stroke as well."""
    run = through.run(MAIL)
    proxy.lose = 1
    through.approve(run.id, "mail", by="ann")
    assert through.wait(run.id).output == "sent to me"
    listed = {**MAIL, "steps": [{**MAIL["steps"][0], "for_each": ["a", "b"], "args": {"to": "${item}"}}]}
    for words in (
        {"mail": "approve"},
        {"mail": {"approve": True}, "mail[1]": {"deny": True, "reason": "no"}},
    ):
        run = through.run(listed)
        proxy.lose = 1
        through.decide(run.id, words, by="ann")
        assert proxy.lose == 0
        assert through.wait(run.id).steps["mail[0]"].status == "succeeded"
    run = through.run(MAIL)
    proxy.lose = 2
    assert through.cancel(run.id).status == "cancelled"


def test_a_repeated_approval_is_never_about_a_later_attempt(connect, tmp_path):
    """The answer is lost after the call failed and waits again: the second attempt is still nobody's decision."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "post", "tool": "post", "args": {"to": "me"}}],
        "output": "${post}",
    }
    with Server(tmp_path, tools=TOOLS + TWICE) as server, CuttingProxy(server.url) as proxy:
        direct, client = connect(server.url), connect(proxy.url)
        run = client.run(plan)

        def until_it_waits_again():
            for _ in range(400):
                found = server.get(f"/v1/runs/{run.id}/steps/post").json()
                if found["attempt"] == 2 or found["status"] == "succeeded":
                    return
                threading.Event().wait(0.02)

        proxy.on_lost = until_it_waits_again
        proxy.lose = 1
        client.approve(run.id, "post", by="ann")
        asked = direct.wait(run.id)
        types = [event.type for event in direct.events(run.id)]
        assert types.count("Approved") == 1, (asked.status, types)


def test_a_lost_answer_of_what_is_saved_and_deleted(server, proxy, through):
    """The plan is there, and the run is gone: neither is an error of the repetition, but both are of another call."""
    plan = Plan.model_validate({**PLAN, "description": "saved once"})
    proxy.lost_method = b"PUT"
    proxy.lose = 1
    name = f"once-{proxy.url.rpartition(':')[2]}"
    assert through.save_plan(name, plan, replaces="").digest == plan.digest
    assert proxy.lose == 0
    with pytest.raises(InputRejected) as caught:
        through.save_plan(name, plan, replaces="")
    assert caught.value.code == "replaced"
    proxy.lose = 1
    with pytest.raises(InputRejected):
        through.save_plan(name, {**PLAN, "description": "another"}, replaces="")
    run = through.run(PLAN, inputs={"a": 1})
    proxy.lost_method = b"DELETE"
    proxy.lose = 1
    through.delete(run.id)
    assert proxy.lose == 0
    with pytest.raises(RunNotFound):
        through.delete(run.id)


def test_a_server_that_is_killed_after_it_stored_the_run(connect, tmp_path):
    """SIGKILL between the request and its answer: the repetition reaches the next server, and there is one run, which ends."""
    first = Server(tmp_path)
    others = []
    with CuttingProxy(first.url) as proxy:

        def die_and_return():
            first.stop(signal.SIGKILL)
            others.append(Server(tmp_path))
            proxy.target = others[0].url

        proxy.on_lost = die_and_return
        proxy.lose = 1
        client = connect(proxy.url, retry_for=60.0)
        run = client.run(SLOW)
        try:
            assert (run.status, run.output) == ("succeeded", 3)
            assert runs_of(others[0]) == [run.id]
        finally:
            others[0].stop(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_wait_outlives_a_restart(connect, tmp_path, number):
    """The server goes down while its run is followed, and comes back at the same address."""
    first = Server(tmp_path)
    with CuttingProxy(first.url) as proxy:
        client = connect(proxy.url, retry_for=60.0)
        run = client.submit(
            {**SLOW, "steps": [{"id": "x", "tool": "nap", "args": {"seconds": 1}}], "output": "${x}"}
        )
        found = []

        def restart():
            first.stop(number)
            second = Server(tmp_path)
            proxy.target = second.url
            found.append(second)

        restarting = threading.Timer(0.3, restart)
        restarting.start()
        try:
            ended = client.wait(run.id)
            assert ended.output == 1
        finally:
            restarting.join()
            found[0].stop(signal.SIGTERM)


def test_a_busy_server_is_asked_again_when_it_says(connect, tmp_path):
    """429 with `Retry-After`: of a rate, and of a full queue."""
    with Server(tmp_path, "--rate", "2", "--queue", "1") as server:
        pauses = []
        client = connect(
            server.url,
            on_retry=lambda error, seconds: pauses.append((error.code, error.retry_after, seconds)),
        )
        for _ in range(400):
            client.tools()
            if pauses:
                break
        assert {code for code, _, _ in pauses} == {"rate-limited"}
        assert all(seconds >= asked for _, asked, seconds in pauses)
        impatient = connect(server.url, retry_for=0)
        with pytest.raises(ServerError) as caught:
            [impatient.tools() for _ in range(400)]
        assert (caught.value.status, caught.value.code) == (429, "rate-limited")
        assert caught.value.retry_after is not None


def test_a_full_queue_takes_the_run_later(connect, tmp_path):
    with Server(tmp_path, "--queue", "1") as server:
        pauses = []
        client = connect(server.url, on_retry=lambda error, seconds: pauses.append(error.code))
        nap = {"firmplan": 1, "steps": [{"id": "x", "tool": "nap", "args": {"seconds": 1}}], "output": "${x}"}
        client.submit(nap)
        assert client.run(PLAN, inputs={"a": 1}).output == 3
        assert "queue-full" in pauses


def test_a_proxy_whose_server_is_gone_is_asked_again(connect, server):
    """502 and 504 of a gateway, and 503 of anybody, are no answer of firmplan's: the request is repeated."""
    answers = [b"502 Bad Gateway", b"504 Gateway Timeout", b"503 Service Unavailable"]
    body = b'{"tools": []}'
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        for status in [*answers, b"200 OK"]:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                said = body if status.startswith(b"200") else b"<h1>sorry</h1>"
                connection.sendall(
                    b"HTTP/1.1 "
                    + status
                    + b"\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: "
                    + str(len(said)).encode()
                    + b"\r\n\r\n"
                    + said
                )

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    assert connect(f"http://127.0.0.1:{listening.getsockname()[1]}").tools() == []
    serving.join()
    listening.close()


def test_a_server_that_hangs_is_given_up(connect):
    """A connection that is taken and never answered ends after `timeout` seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2, retry_for=0)
        with pytest.raises(ServerError) as caught:
            client.tools()
        assert caught.value.code == "unreachable"
