"""Wrong requests get their answer in firmplan's words: expected, found, where, and the nearest name."""

from __future__ import annotations

import pytest

# request -> problems as (path, words of message and hint)
MISFITS = {
    "no body": (
        ("POST", "/v1/runs", ""),
        [("$", "plan, plan_name, plan_digest, inputs, budget, deadline, priority, returns, found no body")],
    ),
    "no object": (("POST", "/v1/runs", "[]"), [("$", "expected object, found []")]),
    "no plan": (
        ("POST", "/v1/runs", "{}"),
        [("$", "exactly one of plan, plan_name and plan_digest, found none of them")],
    ),
    "two plans": (
        ("POST", "/v1/runs", '{"plan": {}, "plan_name": "x"}'),
        [("$", "exactly one of plan, plan_name and plan_digest, found plan and plan_name")],
    ),
    "misspelt key": (
        ("POST", "/v1/runs", '{"plna": {}}'),
        [
            (
                "$.plna",
                "plan, plan_name, plan_digest, inputs, budget, deadline, priority, returns, found 'plna'; did you mean 'plan'?",
            )
        ],
    ),
    "misspelt and missing": (
        ("POST", "/v1/tasks", '{"taks": "x"}'),
        [("$.taks", "found 'taks'; did you mean 'task'?"), ("$", "expected the field 'task'")],
    ),
    "wrong type": (("POST", "/v1/tasks", '{"task": 5}'), [("$.task", 'expected text, found 5; write "5"')]),
    "empty text": (
        ("POST", "/v1/tasks", '{"task": ""}'),
        [("$.task", 'expected text of at least 1 character, found ""')],
    ),
    "every fault at once": (
        ("POST", "/v1/tasks", '{"task": "x", "budget": {"step": 1, "usd": "3", "tokens": -1}}'),
        [
            ("$.budget.usd", 'expected number, found "3"'),
            ("$.budget.tokens", "expected a number of at least 0, found -1"),
            (
                "$.budget.step",
                "steps, model_calls, tokens, usd, seconds, found 'step'; did you mean 'steps'?",
            ),
        ],
    ),
    "misspelt status": (
        ("GET", "/v1/runs?status=faild", None),
        [
            (
                "$.status",
                '"parked", "succeeded", "failed", "cancelled", found "faild"; did you mean \'failed\'?',
            )
        ],
    ),
    "limit of no number": (("GET", "/v1/runs?limit=x", None), [("$.limit", 'expected integer, found "x"')]),
    "limit too small": (
        ("GET", "/v1/runs?limit=0", None),
        [("$.limit", "expected a number of at least 1, found 0")],
    ),
    "nobody decides": (
        ("POST", "/v1/runs/x/steps/y/deny", "{}"),
        [("$", "expected the field 'by' (text of at least 1 character), found an empty object")],
    ),
    "two verdicts": (
        ("POST", "/v1/runs/x/steps/y/resolve", '{"done": 1, "retry": true}'),
        [("$", "exactly one of done, retry (true) and fail, found done and retry")],
    ),
    "misspelt option": (
        ("POST", "/v1/runs/x/fork", '{"allow_write": true}'),
        [("$.allow_write", "did you mean 'allow_writes'?")],
    ),
    "wrong budget of a resume": (
        ("POST", "/v1/runs/x/resume", '{"budget": []}'),
        [("$.budget", "expected object, found []")],
    ),
    "no plan to check": (("POST", "/v1/plans:check", "5"), [("$", "expected object, found 5")]),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_told_in_our_words(server, name):
    """Each fault has its place, what was expected and found, the known keys, and the nearest name; all stand in `detail` too."""
    (method, path, body), expected = MISFITS[name]
    answer = server.client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, "bad-request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert [problem["path"] for problem in document["problems"]] == [where for where, _ in expected]
    for problem, (_, words) in zip(document["problems"], expected, strict=True):
        assert problem["message"] in document["detail"]
        told = problem["message"].removesuffix(" (in the body)").removesuffix(" (in the query)")
        told += f"; {problem['hint']}" if problem["hint"] else ""
        assert words in told


def test_no_answer_speaks_the_frameworks_words(server):
    """Nothing of pydantic's or the framework's own texts comes through, nor for a wrong path or method."""
    for (method, path, body), _ in MISFITS.values():
        text = server.client.request(method, path, content=body).text
        for words in ("Input should", "Extra inputs", "Field required", "Value error", "valid dictionary"):
            assert words not in text
    nothing = server.get("/v1/nope").json()
    assert nothing["detail"] == "there is nothing at /v1/nope; /openapi.json lists every path"
    wrong = server.client.delete("/v1/runs")
    assert wrong.json()["code"] == "method-not-allowed"
    assert wrong.json()["detail"] == "expected GET, POST for /v1/runs, found DELETE"
    assert wrong.headers["allow"] == "GET, POST"


def test_an_integral_float_is_an_integer_in_a_budget(server):
    """As everywhere in firmplan, `4.0` fits where an integer is wanted."""
    plan = {"firmplan": 1, "steps": [], "output": 1}
    answer = server.post("/v1/runs", {"plan": plan, "budget": {"steps": 4.0}})
    assert answer.status_code == 202
