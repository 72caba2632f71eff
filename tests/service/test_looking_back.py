"""Over HTTP a run can be looked at from behind: explained, compared, verified, exported; and plans are saved without losing another's change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from firmplan import Engine
from served import MAIL, PLAN, TOOLS, Server

KEEPING = (
    TOOLS
    + '''
from firmplan import Context
from firmplan.tools import Artifact


@tool(effect="read", resource="report")
def report(page: str, ctx: Context) -> Artifact:
    """Write a report."""
    return ctx.save(f"<script>alert('{page}')</script>".encode(), media_type="text/html", name="réport.html")


@tool(effect="read", resource="word")
def stumble(word: str) -> int:
    """Fail."""
    return int(word)
'''
)
REPORT = {
    "firmplan": 1,
    "steps": [{"id": "made", "tool": "report", "args": {"page": "x"}}],
    "output": {"files": ["${made}"]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("served"), tools=KEEPING) as running:
        yield running


def done(server, plan, **inputs):
    """Return the id of a run that has ended."""
    run = server.post("/v1/runs", {"plan": plan, "inputs": inputs}).json()["id"]
    assert server.wait(run)["status"] == "succeeded"
    return run


def shapes_of(server, name, document):
    """Whether a document has just the keys that the description gives to its shape."""
    described = server.get("/openapi.json").json()["components"]["schemas"][name]
    assert set(described["properties"]) == set(document), name


def test_steps_are_explained(server):
    first, second = done(server, PLAN, a=1001), done(server, PLAN, a=1001)
    told = server.get(f"/v1/runs/{first}/explain").json()
    assert [(each["step"], each["verdict"]) for each in told["steps"]] == [("total", "ran")]
    (reused,) = server.get(f"/v1/runs/{second}/explain", params={"step": "total"}).json()["steps"]
    assert (reused["verdict"], reused["source"]) == ("reused", {"run": first, "step": "total"})
    shapes_of(server, "ExplanationView", reused)
    other = done(server, PLAN, a=1002)
    (changed,) = server.get(f"/v1/runs/{other}/explain?step=total").json()["steps"]
    assert changed["changes"][0]["name"] == "args.a"
    shapes_of(server, "KeyChangeView", changed["changes"][0])
    missing = server.get(f"/v1/runs/{first}/explain?step=totl")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown-step")


def test_runs_are_compared(server):
    one, other = done(server, PLAN, a=1), done(server, PLAN, a=2)
    told = server.get(f"/v1/runs/{one}/diff/{other}").json()
    assert (told["same"], told["first"], told["inputs"][0]["path"]) == (False, "total", "a")
    shapes_of(server, "RunDiffView", told)
    shapes_of(server, "StepDiffView", told["steps"][0])
    shapes_of(server, "DifferenceView", told["inputs"][0])
    assert server.get(f"/v1/runs/{one}/diff/{one}").json()["same"] is True
    assert server.get(f"/v1/runs/{one}/diff/run_0").json()["code"] == "run-not-found"


def test_a_run_is_verified(server):
    told = server.post(f"/v1/runs/{done(server, PLAN, a=5)}/verify").json()
    assert (told["ok"], told["tools"][0]["finding"]) == (True, "deterministic")
    shapes_of(server, "VerificationView", told)
    shapes_of(server, "ToolVerdictView", told["tools"][0])


def test_an_exported_run_replays_elsewhere(server, tmp_path):
    run = done(server, PLAN, a=6)
    answer = server.get(f"/v1/runs/{run}/export")
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{run}.bundle"
    (tmp_path / "run.bundle").write_bytes(answer.content)
    with Engine([], store="memory:") as engine:
        replayed = engine.replay_sync(tmp_path / "run.bundle")
    assert (replayed.output, replayed.digest) == (8, server.get(f"/v1/runs/{run}").json()["digest"])


def test_an_artifact_is_a_file_and_never_a_page(server):
    """Its bytes may come from anybody: no browser runs a script in them with the rights of this server."""
    run = done(server, REPORT)
    made = server.get(f"/v1/runs/{run}").json()["output"]["files"][0]
    answer = server.get(f"/v1/runs/{run}/artifacts/{made['digest']}")
    assert answer.content == b"<script>alert('x')</script>"
    assert (answer.headers["content-type"], made["media_type"]) == ("application/octet-stream", "text/html")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''r%C3%A9port.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    other = done(server, PLAN, a=7)  # another run's artifacts are not this run's
    refused = server.get(f"/v1/runs/{other}/artifacts/{made['digest']}")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown-artifact")
    assert server.get(f"/v1/runs/{run}/artifacts/nope").status_code == 422


def test_the_first_rows_of_an_artifact_are_text(server):
    """Bounded in rows, of the run's own artifacts alone, and JSON whatever the bytes are."""
    run = done(server, REPORT)
    made = server.get(f"/v1/runs/{run}").json()["output"]["files"][0]
    path = f"/v1/runs/{run}/artifacts/{made['digest']}/preview"
    answer = server.get(f"{path}?rows=1")
    told = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert (told["kind"], told["rows"], told["rows_total"]) == ("text", [["<script>alert('x')</script>"]], 1)
    shapes_of(server, "ArtifactPreviewView", told)
    shapes_of(server, "PreviewColumnView", told["columns"][0])
    assert [server.get(f"{path}?rows={rows}").status_code for rows in (0, 101)] == [422, 422]
    other = done(server, PLAN, a=9)
    refused = server.get(f"/v1/runs/{other}/artifacts/{made['digest']}/preview")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown-artifact")


def test_a_large_artifact_has_no_preview(server):
    """A look reads no more than 64 MiB, whatever the store has; the refusal comes before the bytes are read."""
    claimed = {
        "digest": f"sha256:{'0' * 64}",
        "media_type": "text/plain",
        "size": 64 * 1024**2 + 1,
        "name": "",
    }
    plan = {"firmplan": 1, "steps": [{"id": "x", "set": claimed}], "output": "${x}"}
    run = done(server, plan)
    refused = server.get(f"/v1/runs/{run}/artifacts/{claimed['digest']}/preview")
    assert (refused.status_code, refused.json()["code"]) == (422, "limit-exceeded")
    assert "at most 64 MiB" in refused.json()["detail"]


def test_the_frames_of_a_failure_have_a_route_of_their_own(server):
    """No other answer has them: they show code of who runs the server."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "x", "tool": "stumble", "args": {"word": "w"}, "on_error": "skip"}],
    }
    run = done(server, plan)
    told = server.get(f"/v1/runs/{run}/tracebacks").json()
    shapes_of(server, "TracebacksView", told)
    assert "in stumble" in told["tracebacks"]["x"]
    assert "in stumble" not in server.get(f"/v1/runs/{run}").text
    assert server.get("/v1/runs/run_0/tracebacks").status_code == 404


def test_a_plan_is_saved_only_in_the_place_of_the_one_that_was_read(server):
    put = server.client.put
    made = put("/v1/plans/shared", json=PLAN, headers={"If-None-Match": "*"})
    assert made.status_code == 200
    etag = made.headers["etag"]
    assert server.get("/v1/plans/shared").headers["etag"] == etag
    unchanged = server.get("/v1/plans/shared", headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    taken = put("/v1/plans/shared", json=MAIL, headers={"If-None-Match": "*"})
    assert (taken.status_code, taken.json()["code"]) == (412, "replaced")

    def save(number):
        mine = {**MAIL, "output": f"${{mail + '{number}'}}"}
        return put("/v1/plans/shared", json=mine, headers={"If-Match": etag}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(save, range(8))) == [200, *[412] * 7]
    late = put("/v1/plans/shared", json=PLAN, headers={"If-Match": etag}).json()
    assert "read it again" in late["detail"]
    assert put("/v1/plans/shared", json=PLAN).status_code == 200  # without a condition it replaces any


def test_the_tag_of_a_plan_tells_its_prose_apart(server):
    """A plan's digest leaves its task out; a change of the task alone is no change that may be lost or not be seen."""
    put = server.client.put
    made = put("/v1/plans/prose", json=PLAN)
    etag, digest = made.headers["etag"], made.json()["digest"]
    changed = put("/v1/plans/prose", json={**PLAN, "task": "Sum {a} and {b}"}, headers={"If-Match": etag})
    assert (changed.status_code, changed.json()["digest"]) == (200, digest)
    read = server.get("/v1/plans/prose", headers={"If-None-Match": etag})
    assert (read.status_code, read.json()["task"]) == (200, "Sum {a} and {b}")
    assert read.headers["etag"] == changed.headers["etag"] != etag
    lost = put("/v1/plans/prose", json={**PLAN, "task": "Plus {a} and {b}"}, headers={"If-Match": etag})
    assert (lost.status_code, lost.json()["code"]) == (412, "replaced")
    by_digest = put("/v1/plans/prose", json=PLAN, headers={"If-Match": f'"{digest}"'})
    assert (
        by_digest.status_code == 200
    )  # whoever knows the digest alone replaces the plan, whatever its prose


@pytest.mark.parametrize(
    "headers",
    [{"If-Match": "*"}, {"If-Match": "W/x"}, {"If-Match": '"a", "b"'}, {"If-None-Match": '"sha256:0"'}],
)
def test_a_condition_that_is_not_understood_is_refused(server, headers):
    refused = server.client.put("/v1/plans/odd", json=PLAN, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad-request")
    assert server.get("/v1/plans/odd").status_code == 404


def test_an_engine_replaces_a_plan_only_if_it_is_the_expected_one():
    with Engine([], store="memory:") as engine:
        plan = {"firmplan": 1, "steps": [{"id": "x", "set": 1}]}
        saved = engine.save_plan_sync("one", plan, replaces="")
        with pytest.raises(Exception, match="expected to replace no plan, found sha256") as error:
            engine.save_plan_sync("one", plan, replaces="")
        assert error.value.code == "replaced"
        with pytest.raises(Exception, match="found none of that name"):
            engine.save_plan_sync("two", plan, replaces=saved.plan.digest)
        engine.save_plan_sync("one", {**plan, "output": "${x}"}, replaces=saved.plan.digest)


def test_every_get_answers_a_head(server):
    run = done(server, PLAN, a=8)
    for path in (
        "/v1/runs",
        f"/v1/runs/{run}",
        f"/v1/runs/{run}/steps/total",
        "/v1/plans",
        "/v1/tools",
        "/healthz",
        "/",
    ):
        head, whole = server.client.head(path), server.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert server.client.head("/v1/runs/run_0").status_code == 404
    assert server.client.head(f"/v1/runs/{run}/events").status_code == 405


def test_a_misspelt_parameter_is_refused(server):
    refused = server.get("/v1/runs?staus=failed").json()
    assert refused["detail"] == (
        "$.staus: expected no other parameters than status, limit, cursor, tenant, plan, text, since, until, usd_min, found 'staus' (in the query); did you mean 'status'?"
    )
    assert server.client.head("/v1/runs?staus=failed").status_code == 422
    none = server.post("/v1/plans:check?x=1", PLAN).json()
    assert "expected no parameters, found 'x'" in none["detail"]


def test_large_answers_are_compressed_for_who_takes_it(server):
    run = done(server, {"firmplan": 1, "steps": [{"id": "x", "set": "y" * 100_000}], "output": "${x}"})
    small = server.get(f"/v1/runs/{run}", headers={"Accept-Encoding": "gzip"})
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < 5_000
    plain = server.get(f"/v1/runs/{run}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert small.json() == plain.json()
    assert "content-encoding" not in server.get("/v1/tools", headers={"Accept-Encoding": "br"}).headers
