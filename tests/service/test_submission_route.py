"""A submission that skips the framework's machinery has the answer that the framework would give it."""

from __future__ import annotations

import json

import pytest
from firmplan import Engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import PLAN, Server

PLAIN = "application/json"
FRAMEWORK = "application/vnd.other+json"  # a media type that only the framework's way takes
OWN = ("id", "request_id", "created", "updated")

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 3),
    st.just("x"),
    st.just([]),
    st.dictionaries(st.sampled_from(["a", "calls", "steps", "firmplan"]), st.integers(-1, 3), max_size=2),
    st.just(PLAN),
    st.just({"a": 1}),
)
bodies = st.one_of(
    values,
    st.dictionaries(
        st.sampled_from(["plan", "plan_name", "plan_digest", "inputs", "budget", "task", "stream", "plna"]),
        values,
        max_size=4,
    ),
)
RAW = (
    b"",
    b" ",
    b"{",
    b'{"plan": NaN}',
    b'{"plan": {}, "plan": {}}',
    b"\xff",
    b'{"plan": {"firmplan": 1e999}}',
)


def _answer(server, path, content, kind, **headers):
    """Return the answer without what is another one in each answer."""
    found = server.client.post(path, content=content, headers={"content-type": kind, **headers})
    document = {name: value for name, value in found.json().items() if name not in OWN}
    kept = {
        name: value
        for name, value in found.headers.items()
        if name not in ("date", "x-request-id", "location", "content-length")
    }
    return found.status_code, document, kept


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/v1/runs", "/v1/tasks"]), body=bodies)
def test_both_ways_give_one_answer(server, path, body):
    """Whatever the body is: status, headers and document are the same."""
    content = json.dumps(body).encode()
    assert _answer(server, path, content, PLAIN) == _answer(server, path, content, FRAMEWORK)


@pytest.mark.parametrize("content", RAW)
def test_both_ways_refuse_a_body_that_is_no_json(server, content):
    """The words are those of firmplan's parser, and of no other."""
    plain = _answer(server, "/v1/runs", content, PLAIN)
    assert plain == _answer(server, "/v1/runs", content, FRAMEWORK)
    assert plain[0] == 422


def test_both_ways_take_the_same_headers(server):
    """A key that is too long, a parameter that nobody knows and a request id count the same."""
    content = json.dumps({"plan": PLAN, "inputs": {"a": 1}}).encode()
    for path, headers in (
        ("/v1/runs?x=1", {}),
        ("/v1/runs", {"idempotency-key": "k" * 256}),
        ("/v1/runs", {"idempotency-key": ""}),
        ("/v1/runs", {"origin": "http://elsewhere"}),
        ("/v1/runs", {"accept-encoding": "identity"}),
    ):
        plain = _answer(server, path, content, PLAIN, **headers)
        assert plain == _answer(server, path, content, FRAMEWORK, **headers), path
        assert plain == _answer(server, path, content, "Application/JSON ; charset=utf-8", **headers), path


def test_both_ways_find_the_run_of_an_idempotency_key(server):
    """The digest of a request is the same both ways, so that a repeated request is none of another body."""
    plan = {"plan": PLAN, "inputs": {"a": 1, "b": 2}}
    first, again = json.dumps(plan).encode(), json.dumps(plan, sort_keys=True, indent=1).encode()
    ids = {
        server.client.post(
            "/v1/runs", content=content, headers={"content-type": kind, "idempotency-key": "both"}
        ).json()["id"]
        for content in (first, again)
        for kind in (PLAIN, FRAMEWORK)
    }
    assert len(ids) == 1
    other = json.dumps({**plan, "inputs": {"a": 2}}).encode()
    answers = [
        _answer(server, "/v1/runs", other, kind, **{"idempotency-key": "both"}) for kind in (PLAIN, FRAMEWORK)
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 409


def test_both_ways_ask_for_the_scope_before_they_read_the_body(tmp_path):
    """A key that may only read gets the same refusal, whatever its body."""
    with Engine(tools=[], store=tmp_path / "firmplan.db") as engine:
        key = engine.add_key_sync("reader", scopes=["read"])
    with Server(tmp_path) as server:
        headers = {"authorization": f"Bearer {key.text}"}
        answers = [_answer(server, "/v1/runs", b"{", kind, **headers) for kind in (PLAIN, FRAMEWORK)]
    assert answers[0] == answers[1]
    assert answers[0][1]["code"] == "needs-submit"
