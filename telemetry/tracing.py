"""Spans and metrics of what an engine does, by the semantic conventions for generative AI.

    invoke_workflow NAME        the run, as long as one process drives it; a run that is continued elsewhere has one more, in the same trace
      plan                      the planning of a task
        chat MODEL              a request to a model
      step ID                   a step; its items, iterations and inner steps are spans under it
        execute_tool TOOL       one attempt, active while the tool runs; `ask` where the step asks a model itself
          chat MODEL

The names of attributes are those of the conventions, spelled out here: the package of constants moves and renames them. A test compares them. Prompts,
answers, arguments and results are exported only if that is asked for, and messages of errors with them, because they may quote any of these.

Times are those of the journal's events, so that a span begins and ends when its step does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..executor.events import (
    ApprovalAsked,
    ApprovalVoided,
    CallFailed,
    CallLost,
    CallMade,
    CallReused,
    CallStarted,
    CallSucceeded,
    JournalEvent,
    ResolvedDone,
    RetryScheduled,
    RunFinished,
    StepCancelled,
    StepFailed,
    StepIndeterminate,
    StepSkipped,
    StepSucceeded,
)
from ..executor.observer import ObservedCall, ObservedRun
from ..executor.states import FINAL
from ..tools.logbook import RequestContext
from ..tools.models.completion import Completion, Invalid, ModelCall, Refused, TruncatedAnswer
from ..tools.models.errors import ModelError

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE: Final = "firmplan"
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
TOOL: Final = "gen_ai.tool.name"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # the name of an attribute
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"
ERROR: Final = "error.type"
CONTENT_MAX: Final = 65_536
"""Characters of one exported content; the rest is cut off, because backends refuse spans that are too large."""
PROVIDERS: Final = (
    ("openai.azure.com", "azure.ai.openai"),
    ("openai.com", "openai"),
    ("anthropic.com", "anthropic"),
    ("googleapis.com", "gcp.gemini"),
    ("mistral.ai", "mistral_ai"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("x.ai", "x_ai"),
    ("perplexity.ai", "perplexity"),
    ("cohere.com", "cohere"),
)
"""End of an endpoint's host -> its name in the conventions. Another endpoint is named by its host, as the conventions allow."""
DURATIONS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bounds in seconds that the conventions advise for operations of models."""
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Bounds that they advise for tokens."""
_WAITS: Final = {
    ApprovalAsked: "approval asked",
    ApprovalVoided: "approval void: the tool has changed",
    StepIndeterminate: "outcome unknown",
}
"""What a person has to decide -> the name of the span's event."""
LONG: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
"""Bounds in seconds of runs and steps."""

_propagator: Final = TraceContextTextMapPropagator()


class Telemetry:
    """Watches an engine (`Engine(telemetry=..)`) and makes spans and metrics of what it does.

    Args:
        tracer_provider: Where spans go; `None`: to the provider of the process.
        meter_provider: Where metrics go; `None`: to the provider of the process.
        contents: Whether prompts, answers, arguments, results and messages of errors are exported, too.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        contents: bool = False,
    ) -> None:
        self.tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self.has_contents = contents
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)

        def histogram(name: str, unit: str, about: str, bounds: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, about, explicit_bucket_boundaries_advisory=bounds)

        self.requests = histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.", DURATIONS
        )
        self.tokens = histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used.", TOKENS
        )
        self.cost = meter.create_counter(
            "firmplan.model.cost", "USD", "Price of requests to models, where known."
        )
        self.runs = histogram(
            "firmplan.run.duration", "s", "Time from the submission of a run to its end.", LONG
        )
        self.calls = histogram("firmplan.call.duration", "s", "Time of one attempt of a call.", LONG)
        self.waits = histogram("firmplan.call.queue", "s", "Time that a ready call has waited.", DURATIONS)

    def begin_run(self, run: ObservedRun) -> _RunSpans:
        """Begin the span of a run."""
        return _RunSpans(self, run)

    def begin_trace(self, run_id: str, context: RequestContext | None) -> RequestContext | None:
        """Return the place in a trace for a new run: that of the active span, else that of the request, else of a span for the submission."""
        # The active span comes first: where a framework traces requests, it is a child of what the request names.
        if trace.get_current_span().get_span_context().is_valid:
            here = otel_context.get_current()
        elif context is not None and context.traceparent:
            return None
        else:
            # A run outlives the process that takes it, and a span does not. So the run's spans, in whichever process, have this one above them.
            with self.tracer.start_as_current_span(
                "submit", kind=SpanKind.PRODUCER, attributes={"firmplan.run.id": run_id}
            ):
                here = otel_context.get_current()
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, here)
        if not carrier:  # no tracer is installed
            return None
        return replace(
            context or RequestContext(),
            traceparent=carrier["traceparent"],
            tracestate=carrier.get("tracestate", ""),
        )

    def begin_request(self, call: ModelCall) -> _RequestSpan:
        """Begin the span of a request to a model, under the active span."""
        return _RequestSpan(self, call)


class _RunSpans:
    """The spans of one run, as long as this process drives it."""

    stands_around = True

    def __init__(self, telemetry: Telemetry, run: ObservedRun) -> None:
        self._telemetry = telemetry
        self._run = run
        self._span = telemetry.tracer.start_span(
            "invoke_workflow",
            _parent_of(run.context),
            SpanKind.CONSUMER,
            _given(
                {
                    OPERATION: "invoke_workflow",
                    "firmplan.run.id": run.id,
                    "firmplan.run.parent": run.parent,
                    "firmplan.run.continued": run.is_continued,
                    "firmplan.request.id": (run.context.id or None) if run.context is not None else None,
                }
            ),
        )
        self._context = trace.set_span_in_context(self._span, Context())
        self._steps: dict[str, Span] = {}
        self._attempts: dict[str, _Attempt] = {}

    # --- what observers hear

    def note(self, event: JournalEvent, at: float) -> None:
        """Begin, name and end spans."""
        now = _nanoseconds(at)
        match event:
            case CallStarted():
                self._attempt(event.step, event.attempt, now)
            case CallMade() | CallSucceeded():
                if isinstance(event, CallMade):
                    self._attempt(event.step, event.attempt, _nanoseconds(event.started))
                self._end_attempt(event.step, now, "succeeded", result=event.output.data)
            case CallFailed():
                self._end_attempt(event.step, now, "failed", event.code, event.message)
            case CallLost():
                self._end_attempt(event.step, now, "lost", "outcome-unknown", event.why)
            case CallReused():
                self._step(event.step, now).set_attribute("firmplan.step.reused", value=True)
            case RunFinished():
                self._span.set_attribute("firmplan.run.digest", event.digest)
            case _:
                self._note_step(event, now)
        if isinstance(event, CallMade | CallSucceeded | CallReused | ResolvedDone):
            self._note_result(event.step, now)

    def _note_result(self, step: str, now: int) -> None:
        if self._run.has_ended(step):  # after a turn, an agent's step goes on
            self._end_step(step, now, "succeeded")

    def _note_step(self, event: JournalEvent, now: int) -> None:
        match event:
            case RetryScheduled():
                about = {"firmplan.attempt": event.attempt, "firmplan.delay": event.delay_s}
                self._step(event.step, now).add_event("retry scheduled", about, now)
            case ApprovalAsked() | ApprovalVoided() | StepIndeterminate():
                self._step(event.step, now).add_event(_WAITS[type(event)], timestamp=now)
            case StepSucceeded():
                self._end_step(event.step, now, "succeeded")
            case StepFailed():
                self._step(event.step, now)  # a step that failed before its first call is seen, too
                self._end_step(event.step, now, "failed", event.code, event.message)
            case StepSkipped():
                self._end_step(event.step, now, "skipped")
            case StepCancelled():
                self._end_step(event.step, now, "cancelled", str(event.reason))
            case _:
                pass

    def note_wait(self, step: str, seconds: float) -> None:
        """Measure how long a call has waited."""
        self._telemetry.waits.record(max(0.0, seconds), _given({TOOL: self._run.tool_of(step)}))

    @contextmanager
    def around(self, call: ObservedCall) -> Generator[None]:
        """Have the span of an attempt active in the task, and thereby in the thread, that makes the call."""
        attempt = self._attempt(call.step, call.attempt, time.time_ns())
        span = attempt.span
        if call.is_planning:
            span.update_name("plan")
        if call.effect is not None:
            span.set_attribute("firmplan.effect", call.effect)
        if self._telemetry.has_contents and call.args:
            span.set_attribute(ARGUMENTS, _cut(call.args.decode("utf-8", "replace")))
        with _active(span):
            yield

    @contextmanager
    def around_planning(self) -> Generator[None]:
        """Have a span active while the task is planned."""
        span = self._telemetry.tracer.start_span("plan", self._context)
        try:
            with _active(span):
                yield
        except Exception as fault:
            _set_failed(span, getattr(fault, "code", type(fault).__name__))
            raise
        finally:
            span.end()

    def end(self, status: str | None, at: float) -> None:
        """End all spans: of a run that goes on later, those that are open end as they are."""
        now = _nanoseconds(at)
        for step in list(self._attempts):
            self._end_attempt(step, now, "left")
        for step in reversed(list(self._steps)):  # inner steps are entered after what they are in
            self._end_step(step, now, "left")
        run, span = self._run, self._span
        source = run.source or ""
        name = source.removeprefix("saved:") if source.startswith("saved:") else None
        if name is not None:
            span.update_name(f"invoke_workflow {name}")
        span.set_attributes(
            _given(
                {
                    "gen_ai.workflow.name": name or run.plan_digest,
                    "firmplan.plan.digest": run.plan_digest,
                    "firmplan.plan.source": source or None,
                    "firmplan.run.status": status,
                }
            )
        )
        if status == "failed":
            _set_failed(span, "failed")
        span.end()
        if status in FINAL:
            labels = {"firmplan.plan": name or "unsaved", "firmplan.outcome": status}
            self._telemetry.runs.record(max(0.0, at - run.created), labels, self._context)

    # --- steps and attempts

    def _step(self, path: str, now: int) -> Span:
        """Return the open span of a step, or begin it under the span of what it is a part of."""
        span = self._steps.get(path)
        if span is None:
            # The first event of a step may be that of an item or of an inner step, so the spans above it begin with it.
            above = _above(path)
            context = (
                self._context
                if above is None
                else trace.set_span_in_context(self._step(above, now), Context())
            )
            span = self._steps[path] = self._telemetry.tracer.start_span(
                f"step {_name_of(path)}",
                context,
                attributes=_given({"firmplan.step.path": path, "firmplan.tool": self._run.tool_of(path)}),
                start_time=now,
            )
        return span

    def _end_step(self, path: str, now: int, status: str, code: str | None = None, message: str = "") -> None:
        if path in self._attempts:  # the call was stopped
            self._end_attempt(path, now, status)
        span = self._steps.pop(path, None)
        if span is None:
            return
        span.set_attribute("firmplan.step.status", status)
        if status == "failed":
            _set_failed(span, code or status, message if self._telemetry.has_contents else "")
        elif code:
            span.set_attribute("firmplan.step.reason", code)
        span.end(now)

    def _attempt(self, step: str, number: int, now: int) -> _Attempt:
        """Return the open attempt of a step, or begin it: an event may come before or after the call itself."""
        attempt = self._attempts.get(step)
        if attempt is None:
            # A call that never waits is journaled only when it has ended (`CallMade`); its span then begins in the past.
            tool = self._run.tool_of(step)
            of_tool = {OPERATION: "execute_tool", TOOL: tool, "gen_ai.tool.type": "function"} if tool else {}
            span = self._telemetry.tracer.start_span(
                f"execute_tool {tool}" if tool else "ask",
                trace.set_span_in_context(self._step(step, now), Context()),
                attributes=_given(
                    {
                        **of_tool,
                        "gen_ai.tool.call.id": f"{self._run.id}/{step}/{number}" if tool else None,
                        "firmplan.step.path": step,
                        "firmplan.attempt": number,
                    }
                ),
                start_time=now,
            )
            attempt = self._attempts[step] = _Attempt(span, now, tool)
        return attempt

    def _end_attempt(
        self,
        step: str,
        now: int,
        outcome: str,
        code: str | None = None,
        message: str = "",
        *,
        result: bytes = b"",
    ) -> None:
        attempt = self._attempts.pop(step, None)
        if attempt is None:
            return
        span, has_contents = attempt.span, self._telemetry.has_contents
        span.set_attribute("firmplan.outcome", outcome)
        if code is not None:
            _set_failed(span, code, message if has_contents else "")
        if has_contents and result and attempt.tool is not None:
            span.set_attribute(RESULT, _cut(result.decode("utf-8", "replace")))
        # The attempt may have begun by the machine's clock, and the event has the journal's time: no span ends before it begins.
        span.end(max(now, attempt.begun))
        self._telemetry.calls.record(
            max(0, now - attempt.begun) / 1e9,
            _given({TOOL: attempt.tool, "firmplan.outcome": outcome, ERROR: code}),
        )


class _Attempt(NamedTuple):
    """One open attempt: its span, when it began in nanoseconds, and its tool (`None`: the step asks a model)."""

    span: Span
    begun: int
    tool: str | None


class _RequestSpan:
    """The span of one request to a model; it is active until the request has ended."""

    def __init__(self, telemetry: Telemetry, call: ModelCall) -> None:
        endpoint = call.endpoint
        self._telemetry = telemetry
        self._begun = time.perf_counter()
        parts = urlsplit(endpoint.base_url)
        host = parts.hostname or ""
        self._labels: dict[str, str | int] = {
            OPERATION: "chat",
            PROVIDER: next((name for end, name in PROVIDERS if f".{host}".endswith(f".{end}")), host),
            MODEL: endpoint.name,
            "server.address": host,
        }
        if parts.port is not None:
            self._labels["server.port"] = parts.port
        self._span = telemetry.tracer.start_span(
            f"chat {endpoint.name}",
            kind=SpanKind.CLIENT,
            attributes=_given(
                {
                    **self._labels,
                    "gen_ai.request.temperature": call.temperature,
                    "gen_ai.request.max_tokens": call.max_tokens,
                    "gen_ai.request.stream": True if call.listener is not None else None,
                    "gen_ai.output.type": "text" if call.answer.is_text else "json",
                }
            ),
        )
        if telemetry.has_contents:
            messages = [(each.role, each.content) for each in call.messages]
            self._span.set_attribute(INPUT_MESSAGES, _messages(messages))
        self._token = otel_context.attach(trace.set_span_in_context(self._span))

    def answered(self, completion: Completion) -> None:
        """End the span with the usage; an answer that is none of the wanted form is an error of the model."""
        usage, span, telemetry = completion.usage, self._span, self._telemetry
        span.set_attributes(
            _given(
                {
                    INPUT_TOKENS: usage.prompt_tokens,
                    OUTPUT_TOKENS: usage.completion_tokens,
                    CACHED_TOKENS: usage.cached_tokens or None,
                    "firmplan.model.cost": usage.usd,
                }
            )
        )
        if telemetry.has_contents:
            span.set_attribute(OUTPUT_MESSAGES, _messages([("assistant", completion.raw)]))
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            telemetry.tokens.record(count, {**self._labels, TOKEN_TYPE: kind})
        if usage.usd is not None:
            telemetry.cost.add(usage.usd, self._labels)
        self._end(_ANSWER_FAULTS.get(type(completion.outcome)))

    def failed(self, error: BaseException) -> None:
        """End the span with the code of the error."""
        self._end(
            error.code if isinstance(error, ModelError) else type(error).__name__,
            str(error) if self._telemetry.has_contents else "",
        )

    def _end(self, code: str | None, message: str = "") -> None:
        otel_context.detach(self._token)
        if code is not None:
            _set_failed(self._span, code, message)
        self._telemetry.requests.record(
            time.perf_counter() - self._begun,
            _given({**self._labels, ERROR: code}),
            trace.set_span_in_context(self._span),
        )
        self._span.end()


_ANSWER_FAULTS: Final[Mapping[type, str]] = {
    Invalid: "bad-output",
    Refused: "refused",
    TruncatedAnswer: "truncated",
}


@contextmanager
def _active(span: Span) -> Generator[None]:
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


def _parent_of(context: RequestContext | None) -> Context:
    """Return the context that a run's span begins in; never the active one, which may be a request that ends before the run does."""
    if context is None or not context.traceparent:
        return Context()
    carrier = {"traceparent": context.traceparent, "tracestate": context.tracestate}
    return _propagator.extract(carrier, Context())


def _above(path: str) -> str | None:
    """Return the path of what a step, item or iteration is a part of; `None`: the run."""
    outer, slash, last = path.rpartition("/")
    cut = max(last.rfind("["), last.rfind("#"))
    if cut > 0:
        return f"{outer}{slash}{last[:cut]}"
    return outer or None


def _name_of(path: str) -> str:
    """Return the id of the step that a path leads to, without items and iterations: names of spans are few."""
    last = path.rpartition("/")[2]
    return last.partition("[")[0].partition("#")[0]


def _set_failed(span: Span, code: str, message: str = "") -> None:
    span.set_attribute(ERROR, code)
    span.set_status(Status(StatusCode.ERROR, message or code))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _given(
    values: Mapping[str, str | bool | float | Sequence[str] | None],
) -> dict[str, str | bool | float | Sequence[str]]:
    """Return the attributes that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def _messages(messages: Sequence[tuple[str, str]]) -> str:
    """Return messages in the form of the conventions."""
    parts = [{"role": role, "parts": [{"type": "text", "content": _cut(text)}]} for role, text in messages]
    return json.dumps(cast("object", parts), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= CONTENT_MAX else f"{text[:CONTENT_MAX]}... ({len(text)} characters)"
