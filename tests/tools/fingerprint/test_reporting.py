"""What a tool reports to OpenTelemetry decides no result of it."""

from __future__ import annotations

from firmplan import Engine, tool
from firmplan.tools.fingerprint.lint import lint
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider

TRACER = trace.get_tracer("of.a.tool")
LISTENED = TracerProvider().get_tracer("of.a.tool")
COUNTER = metrics.get_meter("of.a.tool").create_counter("calls")


@tool(effect="pure")
def traced(x: int) -> int:
    """Report to nobody."""
    with TRACER.start_as_current_span("mine"):
        COUNTER.add(1)
        trace.get_current_span().set_attribute("x", x)
        return x


@tool(effect="pure")
def listened(x: int) -> int:
    """Report to a provider of the program."""
    with LISTENED.start_as_current_span("mine"):
        return x


def test_results_of_a_tool_that_reports_are_reused():
    """Its code can be seen in full, whoever listens."""
    for each in (traced, listened):
        plan = {"firmplan": 1, "steps": [{"id": "a", "tool": each.name, "args": {"x": 1}}], "output": "${a}"}
        with Engine([each], store="memory:") as engine:
            engine.run_sync(plan)
            assert engine.run_sync({**plan, "output": ["${a}"]}).steps["a"].reused


def test_reporting_brings_nothing_in():
    """Such a tool need not state its trust, though the library requires one for networks."""
    assert {remark.code for remark in lint([traced, listened])} & {"unstated-trust", "trust"} == set()
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "traced", "args": {"x": 1}}], "output": "${a}"}
    with Engine([traced], store="memory:") as engine:
        assert [problem.code for problem in engine.check_plan_sync(plan).problems] == []
