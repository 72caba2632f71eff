"""The metrics of a server: what Prometheus would read, by Prometheus' own parser and its conventions."""

from __future__ import annotations

import asyncio
import json
import math
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from firmplan import ConfigError, Engine, tool
from firmplan.service.metrics import LONG, Metrics, exposed
from firmplan.testing import HttpError, ScriptedModel
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from served import Server

TOOLS = '''
from firmplan import tool

calls = 0


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@tool(effect="read", retries=2)
async def flaky(n: int) -> int:
    """Fail at first."""
    from firmplan import ToolError

    global calls
    calls += 1
    if calls < 2:
        raise ToolError("not yet", temporary=True)
    return n


@tool(effect="pure")
def broken(n: int) -> int:
    """Fail."""
    raise RuntimeError("no")
'''
ADD = {"id": "s", "tool": "add", "args": {"a": "${inputs.a}", "b": 1}}
INPUTS = {"a": {"type": "integer"}}
SAVED = {"firmplan": 1, "inputs": INPUTS, "steps": [ADD], "output": "${s}"}
OTHER = {
    "firmplan": 1,
    "steps": [
        {"id": "f", "tool": "flaky", "args": {"n": 1}},
        {"id": "w", "ask": {"prompt": "Write a word about ${f}."}},
    ],
    "output": "${w}",
}
FAILING = {"firmplan": 1, "steps": [{"id": "b", "tool": "broken", "args": {"n": 1}}], "output": "${b}"}
UNITS = ("_seconds", "_bytes", "_usd", "_tokens", "_requests", "_accepted", "_active", "_driven", "_calls")
EARLIER = {
    "firmplan_start_time_seconds": "gauge",
    "firmplan_http_requests_total": "counter",
    "firmplan_http_request_seconds_total": "counter",
    "firmplan_runs_accepted_total": "counter",
    "firmplan_runs_active": "gauge",
}
"""Metrics that dashboards may have since the first version: they keep name and type."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """The metrics of a server after runs of all kinds, by name: samples as (name, labels) -> value."""
    folder = tmp_path_factory.mktemp("metrics")
    prices = folder / "prices.json"
    line = {"model": "m", "at": "http://127.0.0.1", "input": 1000000, "output": 0}
    prices.write_text(json.dumps({"prices": 1, "models": [line]}))
    with (
        ScriptedModel([HttpError(503), "sea"]) as model,
        Server(
            folder,
            tools=TOOLS,
            FIRMPLAN_MODEL="m",
            FIRMPLAN_BASE_URL=model.base_url,
            FIRMPLAN_PRICES=str(prices),
        ) as server,
    ):
        assert server.url, server.said
        server.client.put("/v1/plans/sums", json=SAVED)
        for number in (1, 1, 2):
            run = server.post("/v1/runs", {"plan_name": "sums", "inputs": {"a": number}}).json()["id"]
            assert server.wait(run)["status"] == "succeeded"
        done = server.wait(server.post("/v1/runs", {"plan": OTHER}).json()["id"])
        assert (done["status"], done["output"]) == ("succeeded", "sea")
        assert server.wait(server.post("/v1/runs", {"plan": FAILING}).json()["id"])["status"] == "failed"
        server.get("/v1/runs/none")
        server.get("/no/such/path")
        server.client.request("BREW", "/v1/tools")
        answer = server.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text


def samples(text):
    """Return (name, labels in order) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def found(text, name, **labels):
    """Return the value of one sample."""
    return samples(text)[name, tuple(sorted(labels.items()))]


def test_the_exposition_follows_the_conventions(scraped):
    """Each family has HELP and TYPE before its samples, names its unit, and a counter ends with `_total`."""
    lines = scraped.splitlines()
    assert scraped.endswith("\n")
    helped, typed = {}, {}
    for line in lines:
        if line.startswith("# HELP "):
            name, words = line.removeprefix("# HELP ").split(" ", 1)
            assert name not in helped
            assert words.endswith(".")
            helped[name] = words
        elif line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name in helped
            typed[name] = kind
        else:
            name = line.partition("{")[0].partition(" ")[0]
            family = next(each for each in reversed(typed) if name.startswith(each))
            assert name.removeprefix(family) in ("", "_bucket", "_sum", "_count")
    assert helped.keys() == typed.keys()
    for name, kind in typed.items():
        assert name.startswith("firmplan_")
        assert name.endswith("_total") == (kind == "counter")
        assert name.removesuffix("_total").endswith(UNITS), name
    assert "_created" not in scraped
    assert {name: typed[name] for name in EARLIER} == EARLIER


def test_histograms_are_cumulative(scraped):
    """Buckets rise to `+Inf`, which is the count."""
    for family in text_string_to_metric_families(scraped):
        if family.type != "histogram":
            continue
        series = {}
        for sample in family.samples:
            key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
            if sample.name.endswith("_bucket"):
                series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                series.setdefault(key, []).append((None, sample.value))
        for points in series.values():
            *buckets, (_, count) = points
            assert buckets == sorted(buckets)
            assert [value for _, value in buckets] == sorted(value for _, value in buckets)
            assert buckets[-1] == (math.inf, count)


def test_runs_count_by_saved_plan_and_outcome(scraped):
    """A plan that is not saved is `unsaved`, so that clients cannot make series."""
    count = "firmplan_run_duration_seconds_count"
    assert found(scraped, count, plan="sums", outcome="succeeded") == 3
    assert found(scraped, count, plan="unsaved", outcome="succeeded") == 1
    assert found(scraped, count, plan="unsaved", outcome="failed") == 1
    assert found(scraped, "firmplan_run_queue_seconds_count") == 5


def test_calls_and_steps_count_by_tool(scraped):
    """A retried step is two calls and one step; a reused result is no step that took time."""
    calls, steps = "firmplan_calls_total", "firmplan_step_duration_seconds_count"
    assert found(scraped, calls, tool="add", outcome="succeeded") == 2
    assert found(scraped, calls, tool="add", outcome="reused") == 1
    assert found(scraped, calls, tool="flaky", outcome="failed") == 1
    assert found(scraped, calls, tool="flaky", outcome="succeeded") == 1
    assert found(scraped, steps, tool="flaky", outcome="succeeded") == 1
    assert found(scraped, steps, tool="add", outcome="succeeded") == 2
    assert found(scraped, steps, tool="broken", outcome="failed") == 1
    assert found(scraped, steps, tool="", outcome="succeeded") == 1
    assert found(scraped, "firmplan_call_queue_seconds_count", tool="flaky") == 2


def test_models_count_by_name_with_tokens_and_cost(scraped):
    """Each request counts, also one that is sent again; the price is that of the table."""
    count = "firmplan_model_request_duration_seconds_count"
    assert found(scraped, count, model="m", outcome="answered") == 1
    assert found(scraped, count, model="m", outcome="model-unavailable") == 1
    tokens = found(scraped, "firmplan_model_tokens_total", model="m", kind="input")
    assert tokens > 0
    assert found(scraped, "firmplan_model_tokens_total", model="m", kind="output") > 0
    assert found(scraped, "firmplan_model_cost_usd_total", model="m") == tokens


def test_requests_count_by_route_template(scraped):
    """Not by path, which has ids; and an invented method or path makes no series of its own."""
    count = "firmplan_http_request_duration_seconds_count"
    assert found(scraped, count, method="GET", route="/v1/runs/{run_id}", status="404") == 1
    assert found(scraped, count, method="POST", route="/v1/runs", status="202") == 5
    assert found(scraped, count, method="GET", route="unrouted", status="404") == 1
    assert {name for name, _ in samples(scraped) if "no/such" in name} == set()
    assert "BREW" not in scraped
    assert "/no/such" not in scraped


def test_runs_under_way_are_counted_past_the_queue(tmp_path):
    """The gauge is about the store: also runs beyond the limit of this server's queue, and those that wait."""
    asking = TOOLS.replace(
        '@tool(effect="pure")\ndef broken', '@tool(effect="write", approval="always")\ndef broken'
    )
    with Server(tmp_path, "--queue", "2", tools=asking) as server:
        for number in range(5):
            step = {"id": "b", "tool": "broken", "args": {"n": number}}
            run = server.post(
                "/v1/runs", {"plan": {"firmplan": 1, "steps": [step], "output": "${b}"}}
            ).json()["id"]
            server.wait(run, "waiting")
        text = server.text_with("/metrics", 'firmplan_runs_active{status="waiting"} 5')
    active = {
        dict(labels)["status"]: value
        for (name, labels), value in samples(text).items()
        if name == "firmplan_runs_active"
    }
    assert active == {
        "queued": 0,
        "running": 0,
        "waiting": 5,
        "indeterminate": 0,
        "over_budget": 0,
        "parked": 0,
    }


def test_two_applications_of_one_process_do_not_share_counters():
    """Each has a registry of its own."""
    from firmplan.service.metrics import Metrics

    first, second = Metrics(), Metrics()
    first.note_accepted("plan")
    assert found(first.text({}), "firmplan_runs_accepted_total", kind="plan") == 1
    assert found(second.text({}), "firmplan_runs_accepted_total", kind="plan") == 0


def test_a_worker_tells_how_many_of_its_slots_are_taken():
    """A run that is driven has one, a run that waits for a person has none; requests and the store's runs are a server's."""
    gate, begun = asyncio.Event(), asyncio.Event()

    @tool(effect="read")
    async def hold() -> int:
        begun.set()
        await gate.wait()
        return 1

    @tool(effect="write", approval="always")
    def pay(n: int) -> int:
        return n

    steps = [{"id": "h", "tool": "hold", "args": {}}, {"id": "p", "tool": "pay", "args": {"n": "${h}"}}]

    async def main():
        metrics = Metrics(slots=3)

        def read(url):
            with urlopen(url, timeout=60) as answer:
                assert answer.headers["content-type"].startswith("text/plain; version=")
                return answer.read().decode()

        with exposed(metrics, "127.0.0.1", 0) as url:
            async with Engine([hold, pay], store="memory:") as engine:
                engine.observe(metrics)
                assert found(read(url), "firmplan_runs_driven") == 0
                run = await engine.submit({"firmplan": 1, "steps": steps, "output": "${p}"})
                await begun.wait()
                assert found(read(url), "firmplan_runs_driven") == 1
                gate.set()
                assert (await engine.wait(run.id)).status == "waiting"
                assert found(read(url), "firmplan_runs_driven") == 0
                await engine.approve(run.id, "p", by="ann")
                assert (await engine.resume(run.id)).output == 1
            text = read(url)
            port = urlsplit(url).port
            said = rf"metrics cannot be served at 127\.0\.0\.1:{port}: .*in use"
            with pytest.raises(ConfigError, match=said), exposed(metrics, "127.0.0.1", port):
                pass
        assert found(text, "firmplan_worker_slots") == 3
        assert found(text, "firmplan_run_duration_seconds_count", plan="unsaved", outcome="succeeded") == 1
        assert "firmplan_http" not in text
        assert "firmplan_runs_active" not in text

    asyncio.run(main())


def test_names_from_plans_and_settings_are_bounded():
    """Beyond the bound they count as `other`, and no new series is made."""
    from firmplan.service.metrics import NAMES_MAX, Metrics

    metrics = Metrics()
    for number in range(NAMES_MAX + 50):
        metrics.note_answer(f'm"{number}\n', "answered", 0.1, None)
    text = metrics.text({"running": 2})
    name = "firmplan_model_request_duration_seconds_count"
    assert found(text, name, model="other", outcome="answered") == 50
    assert sum(1 for sample, _ in samples(text) if sample == name) == NAMES_MAX + 1
    assert found(text, "firmplan_runs_active", status="running") == 2


@given(
    st.lists(st.tuples(st.sampled_from(["x", 'a "quoted" name']), st.sampled_from(LONG) | st.floats(0, 1e6)))
)
def test_a_histogram_is_that_of_the_library(observed):
    """The buckets, counts and sums are those that the library's own histogram has of the same values."""
    registry = CollectorRegistry()
    oracle = Histogram(
        "firmplan_run_duration_seconds", "x", ["plan", "outcome"], registry=registry, buckets=LONG
    )
    own = Metrics()
    for plan, seconds in observed:
        oracle.labels(plan, "succeeded").observe(seconds)
        own.runs.add(plan, "succeeded", seconds=seconds)
    begin = "firmplan_run_duration_seconds_"
    expected = [
        line
        for line in generate_latest(registry).decode().splitlines()
        if line.startswith(begin) and "_created" not in line
    ]
    assert [line for line in own.text({}).splitlines() if line.startswith(begin)] == expected
