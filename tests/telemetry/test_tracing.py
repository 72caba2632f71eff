"""Spans and metrics of runs, by the SDK's own exporters in memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from firmplan import ConfigError, Engine, Planner, ToolError, Toolset, tool
from firmplan.executor.observer import ObservedRun
from firmplan.telemetry import Telemetry, tracing
from firmplan.testing import ScriptedModel
from firmplan.tools.logbook import RequestContext, current_request
from firmplan.tools.toolset import load_tools
from http_app import Echo, Hosted
from mcp_http import Served
from openapi_calls import document, operation
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes

SUPPORT = Path(__file__).parents[1] / "support"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
SECRETS = ("prompt-words", "answer-words", "argument-words", "error-words")


class Watched:
    """Telemetry whose spans and metrics are kept in memory."""

    def __init__(self, **options):
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.telemetry = Telemetry(
            tracer_provider=self.tracers, meter_provider=MeterProvider([self._reader]), **options
        )

    @property
    def spans(self):
        """All spans that have ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time)

    def one(self, name):
        """Return the one span of a name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    @property
    def points(self):
        """Name of a metric -> its points."""
        found = {}
        for resource in self._reader.get_metrics_data().resource_metrics:
            for scope in resource.scope_metrics:
                found |= {metric.name: metric.data.data_points for metric in scope.metrics}
        return found

    def tree(self):
        """Return the names of spans under the names of those above them."""
        spans = {span.context.span_id: span for span in self.spans}
        return sorted(
            (
                spans[span.parent.span_id].name if span.parent and span.parent.span_id in spans else "",
                span.name,
            )
            for span in spans.values()
        )


@tool(effect="read", retries=2, trust="trusted")
async def flaky(x: int) -> int:
    """Fail at first."""
    SEEN.append(trace.get_current_span().get_span_context().span_id)
    await asyncio.sleep(0)
    if len(SEEN) == 1:
        raise ToolError("error-words", temporary=True)
    return x


@tool(effect="pure")
def double(x: int) -> int:
    """Double it, in a thread."""
    SEEN.append(trace.get_current_span().get_span_context().span_id)
    return 2 * x


@tool(effect="write", resource="box", approval="always")
def put(x: str) -> str:
    """Put it away."""
    return x


SEEN: list[int] = []
PLAN = {
    "firmplan": 1,
    "plans": {"sub": {"steps": [{"id": "i", "tool": "double", "args": {"x": 4}}], "output": "${i}"}},
    "steps": [
        {"id": "a", "tool": "flaky", "args": {"x": 1}},
        {"id": "l", "for_each": "${[5, 6]}", "tool": "double", "args": {"x": "${item}"}},
        {"id": "s", "plan": "sub"},
        {"id": "w", "ask": {"prompt": "prompt-words ${a}"}},
        {"id": "c", "set": "${l}"},
    ],
    "output": ["${w}", "${c}", "${s}"],
}


def named(span):
    """Return the header that names a span."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


@pytest.fixture(autouse=True)
def unseen():
    """Begin with a tool that has failed for nobody."""
    SEEN.clear()


def run_plan(watched, plan=PLAN, **options):
    """Run a plan beside a model that answers; return the run."""
    with (
        ScriptedModel(["answer-words"]) as model,
        Engine(
            [flaky, double, put],
            store="memory:",
            models={"default": {"name": "m", "base_url": model.base_url}},
            telemetry=watched.telemetry,
        ) as engine,
    ):
        run = engine.run_sync(plan, **options)
        engine.replay_sync(run.id)
        return run


def test_a_run_is_a_tree_of_spans():
    """Steps are under the run, items and inner steps under their step, attempts under the leaf, requests under their attempt. A replay adds nothing."""
    watched = Watched()
    assert run_plan(watched).status == "succeeded"
    assert watched.tree() == sorted(
        [
            ("", "submit"),
            ("submit", "invoke_workflow"),
            *(("invoke_workflow", f"step {name}") for name in "alsw"),
            ("step a", "execute_tool flaky"),
            ("step a", "execute_tool flaky"),
            *[("step l", "step l")] * 2,
            *[("step l", "execute_tool double")] * 2,
            ("step s", "step i"),
            ("step i", "execute_tool double"),
            ("step w", "ask"),
            ("ask", "chat m"),
        ]
    )
    assert len({span.context.trace_id for span in watched.spans}) == 1
    for span in watched.spans:
        assert span.start_time <= span.end_time


def test_attempts_say_how_they_ended():
    """The first one failed with its code and without its message, the second one succeeded; the step succeeded, after a retry."""
    watched = Watched()
    run_plan(watched)
    first, second = (span for span in watched.spans if span.name == "execute_tool flaky")
    assert (first.status.status_code.name, first.attributes["error.type"]) == ("ERROR", "tool-error")
    assert (second.status.status_code.name, second.attributes["firmplan.outcome"]) == ("UNSET", "succeeded")
    assert (first.attributes["firmplan.attempt"], second.attributes["firmplan.attempt"]) == (1, 2)
    step = watched.one("step a")
    assert step.attributes["firmplan.step.status"] == "succeeded"
    assert [event.name for event in step.events] == ["retry scheduled"]


def test_the_span_of_an_attempt_is_active_in_its_tool():
    """On the event loop and in a thread."""
    watched = Watched()
    run_plan(watched)
    made = {span.context.span_id for span in watched.spans if span.name.startswith("execute_tool ")}
    assert set(SEEN) == made


def test_a_tool_of_a_process_continues_the_trace(tmp_path):
    """In the process of the tool its span is the active one, and programs that it starts find it in their environment."""
    (tmp_path / "isolated_tools.py").write_text(
        "import os\n\nfrom firmplan import tool\nfrom opentelemetry import trace\n\n\n"
        '@tool(effect="pure", isolation="process")\ndef where() -> list[str]:\n    """Say where."""\n'
        "    here = trace.get_current_span().get_span_context()\n"
        '    return [f"{here.trace_id:032x}", f"{here.span_id:016x}", os.environ["TRACEPARENT"]]\n'
    )
    watched = Watched()
    tools = load_tools(tmp_path / "isolated_tools.py")
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "where"}], "output": "${a}"}
    with Engine(tools, store="memory:", telemetry=watched.telemetry) as engine:
        run = engine.run_sync(plan)
    assert run.status == "succeeded", run.errors
    span = watched.one("execute_tool where").context
    ids = [f"{span.trace_id:032x}", f"{span.span_id:016x}"]
    assert run.output == [*ids, named(span)]


def test_tools_elsewhere_are_sent_the_trace():
    """A server behind OpenAPI gets the header `traceparent` of the attempt."""
    watched, echo = Watched(), Echo()
    with Hosted(echo) as hosted:
        made = document({"/x": {"get": operation()}})
        plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "call"}], "output": "${a}"}
        tools = Toolset.from_openapi(made, base_url=hosted.url)
        with Engine(tools, store="memory:", telemetry=watched.telemetry) as engine:
            assert engine.run_sync(plan).status == "succeeded"
        with Engine(tools, store="memory:", telemetry="off") as engine:
            assert engine.run_sync(plan).status == "succeeded"
    span = watched.one("execute_tool call").context
    first, second = (each["headers"].get("traceparent") for each in echo.seen)
    assert first == named(span)
    assert second is None


def test_mcp_servers_are_sent_the_trace(tmp_path):
    """In the header of the request, for gateways, and in the message, as the protocol says."""
    watched = Watched()
    server = Served(SUPPORT / "mcp_traced.py", tmp_path)
    try:
        tools = Toolset.from_mcp(server.url)
        plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "trace"}], "output": "${a}"}
        with Engine(tools, store="memory:", telemetry=watched.telemetry) as engine:
            run = engine.run_sync(plan)
    finally:
        server.stop()
    assert run.status == "succeeded", run.errors
    span = watched.one("execute_tool trace").context
    header, message = json.loads(run.output)
    assert [each[3:35] for each in (header, message)] == [f"{span.trace_id:032x}"] * 2
    assert header == named(span)


def test_contents_are_exported_only_where_that_is_asked_for():
    """Prompts, answers, arguments, results and messages of errors: none without, all with `contents`."""
    plan = {**PLAN, "steps": [*PLAN["steps"], {"id": "p", "tool": "put", "args": {"x": "argument-words"}}]}
    for contents in (False, True):
        SEEN.clear()
        watched = Watched(contents=contents)
        with (
            ScriptedModel(["answer-words"]) as model,
            Engine(
                [flaky, double, put],
                store="memory:",
                models={"default": {"name": "m", "base_url": model.base_url}},
                telemetry=watched.telemetry,
            ) as engine,
        ):
            run = engine.run_sync(plan)
            engine.approve_sync(run.id, "p", by="me")
            engine.resume_sync(run.id)
            assert engine.wait_sync(run.id).status == "succeeded"
        exported = "".join(span.to_json() for span in watched.spans)
        assert [words in exported for words in SECRETS] == [contents] * 4
    chat = watched.one("chat m").attributes
    (asked,) = json.loads(chat["gen_ai.input.messages"])
    assert asked == {"role": "user", "parts": [{"type": "text", "content": "prompt-words 1"}]}
    (said,) = json.loads(chat["gen_ai.output.messages"])
    assert (said["role"], said["parts"][0]["content"]) == ("assistant", "answer-words")
    put_span = watched.one("execute_tool put").attributes
    assert json.loads(put_span["gen_ai.tool.call.arguments"]) == {"x": "argument-words"}


def test_requests_to_models_follow_the_conventions():
    """Names of operation, provider, model, tokens and server, and the kind of a client."""
    watched = Watched()
    run_plan(watched)
    span = watched.one("chat m")
    found = dict(span.attributes)
    assert span.kind is trace.SpanKind.CLIENT
    assert {
        name: found[name] for name in ("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.output.type")
    } == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.output.type": "text",
    }
    assert found["gen_ai.provider.name"] == found["server.address"] == "127.0.0.1"
    assert found["gen_ai.usage.input_tokens"] > 0
    assert found["gen_ai.usage.output_tokens"] > 0
    assert found["server.port"] > 0


def test_the_names_of_attributes_are_those_of_the_conventions():
    """Held against the package of constants; so are the names of the two metrics."""
    known = {
        value
        for module in (gen_ai_attributes, error_attributes, server_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    watched = Watched(contents=True)
    run_plan(watched)
    used = {name for span in watched.spans for name in span.attributes}
    assert {name for name in used if not name.startswith("firmplan.")} <= known
    operations = {span.attributes.get("gen_ai.operation.name") for span in watched.spans} - {None}
    assert operations <= {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    providers = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert {name for _, name in tracing.PROVIDERS} <= providers
    assert {name for name in watched.points if name.startswith("gen_ai.")} == {
        gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION,
        gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE,
    }


def test_metrics_count_runs_calls_and_requests():
    """Durations by outcome, tokens by their type."""
    watched = Watched()
    run_plan(watched)
    points = watched.points
    (run,) = points["firmplan.run.duration"]
    assert (run.count, dict(run.attributes)) == (
        1,
        {"firmplan.plan": "unsaved", "firmplan.outcome": "succeeded"},
    )
    calls = {
        (point.attributes.get("gen_ai.tool.name"), point.attributes["firmplan.outcome"]): point.count
        for point in points["firmplan.call.duration"]
    }
    assert calls == {
        ("flaky", "failed"): 1,
        ("flaky", "succeeded"): 1,
        ("double", "succeeded"): 3,
        (None, "succeeded"): 1,
    }
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage"]
    }
    assert tokens["input"] > 0 < tokens["output"]
    (request,) = points["gen_ai.client.operation.duration"]
    assert request.count == 1


def test_a_run_that_waited_goes_on_in_its_trace(tmp_path):
    """Another engine on the store continues it: its part of the run is in the same trace, under the same span."""
    plan = {"firmplan": 1, "steps": [{"id": "p", "tool": "put", "args": {"x": "y"}}], "output": "${p}"}
    first, second = Watched(), Watched()
    with Engine([put], store=tmp_path / "runs.db", telemetry=first.telemetry) as engine:
        run = engine.run_sync(plan)
        assert run.status == "waiting"
    with Engine([put], store=tmp_path / "runs.db", telemetry=second.telemetry) as engine:
        engine.approve_sync(run.id, "p", by="me")
        engine.resume_sync(run.id)
        done = engine.wait_sync(run.id)
    assert (done.status, done.request_id) == ("succeeded", None)
    submit, before = first.one("submit"), first.one("invoke_workflow")
    assert before.attributes["firmplan.run.status"] == "waiting"
    assert [event.name for event in first.one("step p").events] == ["approval asked"]
    after = [span for span in second.spans if span.name == "invoke_workflow"][-1]
    assert after.attributes["firmplan.run.continued"] is True
    assert after.attributes["firmplan.run.status"] == "succeeded"
    for span in (before, after):
        assert (span.context.trace_id, span.parent.span_id) == (
            submit.context.trace_id,
            submit.context.span_id,
        )


def test_a_run_is_in_the_trace_of_the_active_span_or_of_its_request():
    """The active span of the program comes first, then the request's `traceparent`."""
    watched = Watched()
    tracer = watched.tracers.get_tracer("program")
    plan = {"firmplan": 1, "steps": [{"id": "d", "tool": "double", "args": {"x": 1}}], "output": "${d}"}

    async def main():
        async with Engine([double], store="memory:", telemetry=watched.telemetry) as engine:
            with tracer.start_as_current_span("mine"):
                await engine.run(plan)
            token = current_request.set(RequestContext("r1", PARENT, "vendor=1"))
            run = await engine.run({**plan, "task": "another"})
            current_request.reset(token)
            return run.request_id

    assert asyncio.run(main()) == "r1"
    mine = watched.one("mine")
    first, second = (span for span in watched.spans if span.name == "invoke_workflow")
    assert first.parent.span_id == mine.context.span_id
    assert (f"{second.context.trace_id:032x}", f"{second.parent.span_id:016x}") == (TRACE, SPAN)
    assert second.context.trace_state.to_header() == "vendor=1"
    assert second.attributes["firmplan.request.id"] == "r1"
    assert [span.name for span in watched.spans].count("submit") == 0


def test_a_trace_that_is_not_sampled_exports_nothing():
    """The flags of the request's `traceparent` decide, as the sampler has it."""
    watched = Watched()

    async def main():
        async with Engine([double], store="memory:", telemetry=watched.telemetry) as engine:
            current_request.set(RequestContext("r1", PARENT[:-1] + "0"))
            plan = {
                "firmplan": 1,
                "steps": [{"id": "d", "tool": "double", "args": {"x": 1}}],
                "output": "${d}",
            }
            return (await engine.run(plan)).status

    assert asyncio.run(main()) == "succeeded"
    assert watched.spans == []


def test_a_planning_is_a_span_with_its_requests():
    """Under the run that it plans; a planning that fails fails the run's span."""
    plan = {"firmplan": 1, "steps": [{"id": "d", "tool": "double", "args": {"x": 1}}], "output": "${d}"}
    watched = Watched()
    with ScriptedModel([plan, "no plan", "no plan", "no plan", "no plan"]) as model:
        planner = Planner(model="m", base_url=model.base_url)
        with Engine([double], store="memory:", planner=planner, telemetry=watched.telemetry) as engine:
            assert engine.run_sync("Double one").status == "succeeded"
            with pytest.raises(Exception, match="plan"):
                engine.run_sync("Double something else entirely, if you can")
    assert ("invoke_workflow", "plan") in watched.tree()
    assert ("plan", "chat m") in watched.tree()
    good, bad = (span for span in watched.spans if span.name == "invoke_workflow")
    assert good.attributes["firmplan.plan.source"] == "model"
    assert (bad.attributes["firmplan.run.status"], bad.status.status_code.name) == ("failed", "ERROR")


def test_a_planning_of_a_step_is_its_attempt():
    """Requests to the planner's model are under it, and the steps of the sub-plan under the step."""
    sub_plan = {
        "firmplan": 1,
        "inputs": {"x": {"type": "integer"}},
        "steps": [{"id": "d", "tool": "double", "args": {"x": "${inputs.x}"}}],
        "output": "${d}",
    }
    step = {
        "id": "p",
        "plan_for": "Double it",
        "given": {"x": 4},
        "tools": ["double"],
        "returns": {"type": "integer"},
    }
    watched = Watched()
    with ScriptedModel([sub_plan]) as model:
        planner = Planner(model="m", base_url=model.base_url)
        with Engine([double], store="memory:", planner=planner, telemetry=watched.telemetry) as engine:
            run = engine.run_sync({"firmplan": 1, "steps": [step], "output": "${p}"})
    assert (run.status, run.output) == ("succeeded", 8), run.errors
    assert watched.tree() == sorted(
        [
            ("", "submit"),
            ("submit", "invoke_workflow"),
            ("invoke_workflow", "step p"),
            ("step p", "step plan0"),
            ("step plan0", "plan"),
            ("plan", "chat m"),
            ("step p", "step run"),
            ("step run", "step d"),
            ("step d", "execute_tool double"),
        ]
    )


def test_a_reused_result_has_no_attempt():
    """Its step says so."""
    watched = Watched()
    plan = {"firmplan": 1, "steps": [{"id": "d", "tool": "double", "args": {"x": 1}}], "output": "${d}"}
    with Engine([double], store="memory:", telemetry=watched.telemetry) as engine:
        engine.run_sync(plan)
        engine.run_sync({**plan, "output": ["${d}"]})
    steps = [span for span in watched.spans if span.name == "step d"]
    assert [span.attributes.get("firmplan.step.reused") for span in steps] == [None, True]
    assert watched.one("execute_tool double")


def test_the_place_of_a_step_is_read_from_its_path():
    """What it is a part of, and its name without numbers."""
    above = {
        "a": None,
        "a[3]": "a",
        "a#2": "a",
        "a[3]#2": "a[3]",
        "a/b": "a",
        "a[1]/b": "a[1]",
        "a[1]/b#0": "a[1]/b",
    }
    assert {path: tracing._above(path) for path in above} == above
    assert [tracing._name_of(path) for path in above] == ["a", "a", "a", "a", "b", "b", "b"]


def test_a_program_without_a_provider_pays_nothing():
    """Nothing of OpenTelemetry is imported by a run; with a provider of the program, its runs are spans."""
    program = """
import sys
from firmplan import Engine, tool

@tool(effect="pure")
def one() -> int:
    \"\"\"Return one.\"\"\"
    return 1

PLAN = {"firmplan": 1, "steps": [{"id": "a", "tool": "one"}], "output": "${a}"}
with Engine([one], store="memory:") as engine:
    assert engine.run_sync(PLAN).output == 1
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
assert "firmplan.telemetry" not in sys.modules

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

with Engine([one], store="memory:") as engine:
    assert engine.run_sync(PLAN).output == 1
assert "firmplan.telemetry.tracing" not in sys.modules  # loaded by another library, it has no provider
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
for mode, count in (("off", 0), ("auto", 4)):
    with Engine([one], store="memory:", telemetry=mode) as engine:
        assert engine.run_sync(PLAN).output == 1
    assert len(spans.get_finished_spans()) == count, spans.get_finished_spans()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_an_unknown_mode_is_refused():
    """The message names the modes."""
    for mode in ("on", None, True):
        with pytest.raises(ConfigError, match="telemetry: expected one of auto, contents, off"):
            Engine([], store="memory:", telemetry=mode)


def test_a_span_of_a_run_needs_no_request():
    """A run without a context begins a trace of its own, whatever span is active."""
    watched = Watched()
    with watched.tracers.get_tracer("program").start_as_current_span("mine"):
        watched.telemetry.begin_run(ObservedRun("r", 0.0)).end("succeeded", 1.0)
    assert watched.one("invoke_workflow").parent is None


@tool(effect="read", trust="trusted")
def login(key: str, wrong: bool) -> str:
    """Repeat a secret, in the result or in an error."""
    if wrong:
        raise RuntimeError(f"no {key}")
    return f"yes {key}"


def test_secrets_are_in_no_span():
    """Not even with contents: arguments, results and errors have their names."""
    watched = Watched(contents=True)
    args = {"key": "${secret('PIN')}"}
    steps = [
        {"id": name, "tool": "login", "args": {**args, "wrong": name == "b"}, "on_error": "skip"}
        for name in "ab"
    ]
    secrets = {"PIN": "the-secret-value"}
    with Engine([login], store="memory:", secrets=secrets, telemetry=watched.telemetry) as engine:
        engine.run_sync({"firmplan": 1, "steps": steps, "output": "done"})
    exported = "".join(span.to_json() for span in watched.spans)
    assert "yes ${secret" in exported
    assert "no ${secret" in exported
    assert "the-secret-value" not in exported
    given = [
        json.loads(span.attributes["gen_ai.tool.call.arguments"])
        for span in watched.spans
        if span.name == "execute_tool login"
    ]
    assert given == [{"key": '${secret("PIN")}', "wrong": wrong} for wrong in (False, True)]


def test_contents_are_cut_off():
    """A long argument is exported up to the bound, with its length: a backend refuses spans that are too large."""
    watched = Watched(contents=True)
    plan = {
        "firmplan": 1,
        "steps": [{"id": "e", "tool": "echo", "args": {"text": "é" * (tracing.CONTENT_MAX + 10)}}],
        "output": "done",
    }
    with Engine([echo], store="memory:", telemetry=watched.telemetry) as engine:
        assert engine.run_sync(plan).status == "succeeded"
    found = watched.one("execute_tool echo").attributes
    for name in ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"):
        assert len(found[name]) < tracing.CONTENT_MAX + 40
        assert found[name].endswith("characters)")


@tool(effect="pure")
def echo(text: str) -> str:
    """Return it."""
    return text


def test_no_run_is_watched_after_its_end():
    """Whatever its end: nothing of a run stays in memory."""
    watched = Watched()
    plan = {"firmplan": 1, "steps": [{"id": "p", "tool": "put", "args": {"x": "y"}}], "output": "${p}"}
    with Engine([double, put], store="memory:", telemetry=watched.telemetry) as engine:
        waiting = engine.run_sync(plan)
        engine.deny_sync(waiting.id, "p", by="me", reason="no")
        engine.resume_sync(engine.run_sync({**plan, "output": ["${p}"]}).id)
        cancelled = engine.run_sync({**plan, "output": {"x": "${p}"}})
        engine.cancel_sync(cancelled.id)
        engine.run_sync(
            {"firmplan": 1, "steps": [{"id": "d", "tool": "double", "args": {"x": 1}}], "output": 1}
        )
        assert engine._observers._runs == {}
    assert len([span for span in watched.spans if span.name == "invoke_workflow"]) >= 5
