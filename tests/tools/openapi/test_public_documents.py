"""Excerpts of three large public documents, and what their servers would get.

The files in `excerpts/` are a few operations each, shortened and with descriptions left out, after the documents of GitHub (MIT), Stripe (MIT)
and Kubernetes (Apache-2.0); each names its licence in `info.license`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from firmplan import Secret, Toolset, check
from openapi_calls import call

EXCERPTS = Path(__file__).parent / "excerpts"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("API_KEY", "sk_test_123")


KEY = Secret(env="API_KEY")


def brackets(text):
    return text.replace("%5B", "[").replace("%5D", "]")


def test_github(echo, capsys):
    """Names with slashes, parameters by reference, lists by `Link`, paths with slashes, and an operation at another server."""
    tools = Toolset.from_openapi(
        EXCERPTS / "github.json",
        base_url=echo.url,
        auth={"bearer": KEY},
        path_slashes=["repos/get-content.path"],
        pages={"issues/list-for-repo": {"by": "link"}},
    )
    assert tools.names == ("issues_create", "issues_list-for-repo", "repos_get-content")
    assert "uploads.github.com" in capsys.readouterr().err
    where = {"owner": "octo", "repo": "cat"}

    issue = {"number": 1, "title": "t", "user": None, "reactions": {"+1": 2}}
    echo.answers["/repos/octo/cat/issues"] = [
        (200, {"link": f'<{echo.url}/repos/octo/cat/issues?page=2>; rel="next"'}, [issue]),
        (200, {"link": f'<{echo.url}/repos/octo/cat/issues?page=1>; rel="prev"'}, [issue]),
        (201, {}, issue),
    ]
    run = call(tools, {**where, "state": "all"}, "issues_list-for-repo")
    assert (run.status, run.output) == ("succeeded", [issue, issue])
    assert [each["query"] for each in echo.seen] == ["state=all", "page=2"]
    assert echo.last["headers"]["authorization"] == "Bearer sk_test_123"

    run = call(
        tools,
        {**where, "title": "Broken", "milestone": None, "labels": ["bug", {"name": "ui"}]},
        "issues_create",
    )
    assert run.output == issue
    assert echo.last["body"] == '{"labels":["bug",{"name":"ui"}],"milestone":null,"title":"Broken"}'

    echo.answers["/repos/octo/cat/contents/docs%2Fa%20b.md"] = 200, {}, {"type": "file", "name": "a b.md"}
    assert call(tools, {**where, "path": "docs/a b.md"}, "repos_get-content").output["name"] == "a b.md"

    uploads = Toolset.from_openapi(
        EXCERPTS / "github.json", base_url="https://uploads.github.com", only=["repos/upload-release-asset"]
    )
    assert uploads.get("repos_upload-release-asset").parameters["properties"]["body"]["title"] == "Artifact"


def test_stripe(echo, capsys):
    """Objects and lists in brackets, forms, keys as users, a header for idempotency that no document tells, types that name each other."""
    tools = Toolset.from_openapi(
        EXCERPTS / "stripe.json",
        base_url=echo.url,
        auth={"schemes": {"basicAuth": KEY}},
        idempotency_header="Idempotency-Key",
        pages={
            "GetCharges": {
                "by": "cursor",
                "argument": "starting_after",
                "items": "data",
                "cursor": "data.-1.id",
                "more": "has_more",
            }
        },
    )
    assert tools.names == ("GetCharges", "PostRefunds")
    assert "files.stripe.com" in capsys.readouterr().err
    charges = [{"id": f"ch_{number}", "amount": number} for number in range(3)]
    page = {"object": "list", "url": "/v1/charges"}
    echo.answers["/v1/charges"] = [
        (200, {}, {**page, "data": charges[:2], "has_more": True}),
        (200, {}, {**page, "data": charges[2:], "has_more": False}),
    ]
    run = call(tools, {"created": {"gte": 5}, "expand": ["data.customer"], "limit": 2}, "GetCharges")
    assert (run.status, run.output) == ("succeeded", charges)
    assert brackets(echo.seen[0]["query"]) == "created[gte]=5&expand[0]=data.customer&limit=2"
    assert "starting_after=ch_1" in echo.seen[1]["query"]
    assert echo.last["body"] == ""
    assert echo.last["headers"]["authorization"] == "Basic c2tfdGVzdF8xMjM6"

    echo.answers["/v1/refunds"] = [(500, {}, b""), (200, {}, {"id": "re_1", "amount": 5})]
    args = {"charge": "ch_1", "reason": "duplicate", "expand": ["charge"], "metadata": {"order": "a&b"}}
    run = call(tools, args, "PostRefunds")
    assert run.output == {"id": "re_1", "amount": 5}
    assert echo.last["body"] == "charge=ch_1&reason=duplicate&expand[0]=charge&metadata[order]=a%26b"
    keys = {each["headers"]["idempotency-key"] for each in echo.seen[-2:]}
    assert len(keys) == 1


def test_kubernetes(echo):
    """Several media types, parameters that meet fields, `continue` as an argument, and a token in a header of its own name."""
    tools = Toolset.from_openapi(
        EXCERPTS / "kubernetes.json",
        base_url=echo.url,
        auth={"bearer": KEY},
        tags=["apps_v1"],
        pages={
            "listAppsV1NamespacedDeployment": {
                "by": "cursor",
                "argument": "continue_",
                "items": "items",
                "cursor": "metadata.continue",
            }
        },
    )
    assert len(tools) == 4
    where = {"namespace": "default", "name": "web"}
    path = "/apis/apps/v1/namespaces/default/deployments"
    web = {"metadata": {"name": "web"}}
    echo.answers[path] = [
        (200, {}, {"items": [web], "metadata": {"continue": "c1"}}),
        (200, {}, {"items": [web], "metadata": {}}),
    ]
    assert call(tools, {"namespace": "default"}, "listAppsV1NamespacedDeployment").output == [web, web]
    assert (echo.last["query"], echo.last["headers"]["accept"]) == ("continue=c1", "application/json")

    scale = {**web, "spec": {"replicas": 3}}
    echo.answers[f"{path}/web/scale"] = 200, {}, scale
    run = call(tools, {**where, "body": {"spec": {"replicas": 3}}}, "patchAppsV1NamespacedDeploymentScale")
    assert (run.output, echo.last["method"]) == (scale, "PATCH")
    assert echo.last["headers"]["content-type"] == "application/merge-patch+json"

    delete = tools.get("deleteAppsV1NamespacedDeployment")
    assert {"dryRun", "dryRun_body", "gracePeriodSeconds", "gracePeriodSeconds_body"} < set(
        delete.parameters["properties"]
    )
    run = call(tools, {**where, "dryRun": "All", "dryRun_body": ["All"]}, delete.name)
    assert run.status == "succeeded", run.errors
    assert (echo.last["query"], echo.last["body"]) == ("dryRun=All", '{"dryRun":["All"]}')

    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": "readAppsV1NamespacedDeploymentScale", "args": where}],
        "output": "${a.spec.replicas}",
    }
    assert check(plan, tools).ok
    # The type of `metadata` is named in an `allOf` of one, beside its default.
    misspelt = check({**plan, "output": "${a.metadata.nmae}"}, tools)
    assert "unknown-field" in {each.code for each in misspelt.problems}
