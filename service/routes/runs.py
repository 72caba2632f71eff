"""The routes of runs and their steps, what watches the server, and what all routes share.

A handler answers with the engine's own documents (`to_dict`); `schemas.py` describes them. Request bodies are parsed as plans and inputs
are parsed everywhere else: the standard parser accepts NaN, takes the last of two equal keys and rounds long integers, so that a plan
would differ from what its author sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Annotated, Any, Final, get_type_hints

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from ...engine import Engine
from ...errors import DECIDED, OWN_RUN, InputRejected, StoreError
from ...executor import Event, Run, RunFilter
from ...executor.lru_cache import IdentityCache
from ...executor.runs.run import run_json
from ...executor.states import RunStatus
from ...plans import Json, NotJson, Plan, canonical, parse, value_problems
from ..auth import heads_of
from ..callers import LOOK_S, SCOPES, Caller, ScopedRoute, caller_of
from ..metrics import MEDIA_TYPE, Metrics
from ..problems import Refusal, expect_known_query
from ..run_queue import RunQueue, Submission
from ..schemas import (
    AnswerBody,
    ApproveBody,
    DecideBody,
    DenyBody,
    ForkBody,
    HealthView,
    NamedStepView,
    ResolveBody,
    ResumeBody,
    RetryBody,
    RunBody,
    RunPageView,
    RunView,
    TaskAnswerBody,
    TaskBody,
    WaitingView,
)
from ..step_logs import StepLogs

KEY_LENGTH_MAX = 255
"""Characters of an idempotency key."""


class StrictRequest(Request):
    """A request whose JSON body is parsed by firmplan's rules, once."""

    _value: Any = ...  # `null` is a value

    async def json(self) -> Any:  # noqa: ANN401  # the framework's signature
        """Return the body's value. Raises: Refusal: 422, the body is not JSON."""
        if self._value is ...:
            try:
                self._value = parse(await self.body())
            except NotJson as error:
                why = str(error).removeprefix("$: ")
                raise Refusal(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "bad-json", f"expected a JSON body, but {why}"
                ) from error
        return self._value


class StrictRoute(ScopedRoute):
    """A route that hands a `StrictRequest` to its handler, and refuses bodies of other media types and unknown parameters of the query."""

    @override
    def inner_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler behind a strict request."""
        handle = super().inner_handler()

        async def strict(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            expect_known_query(request)
            media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
            if await strict_request.body() and media != "application/json" and not media.endswith("+json"):
                raise Refusal(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "not-json",
                    f"expected a body of 'Content-Type: application/json', found {media!r}",
                )
            return await handle(strict_request)

        return strict


class SubmissionRoute(StrictRoute):
    """A route for submissions, which most requests of a busy server are.

    A plain request goes straight to the handler: what the framework does before and after it (stacks, dependencies, a second look at the headers) costs as much
    as the acceptance itself. Any other request, and any request with a fault in its body, takes the framework's way and gets its answer.
    """

    @cached_property
    def _body(self) -> type[BaseModel]:
        found: type[BaseModel] = get_type_hints(self.endpoint)["body"]
        return found

    @override
    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not _is_plain(scope):
            await super().handle(scope, receive, send)
            return
        request = StrictRequest(scope, receive)
        caller_of(request).expect(SCOPES[self.name])
        content = await request.body()
        try:
            body = self._body.model_validate(await request.json() if content else None)
        except (Refusal, ValidationError):
            await super().handle(scope, _repeated(content, receive), send)
            return
        key = heads_of(scope).get("idempotency-key")
        response: Response = await self.endpoint(body, request, request.app.state.served, key)
        await response(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    """Whether a submission has just a JSON body, and perhaps a key that may be one: nothing else decides its answer."""
    heads = heads_of(scope)
    kind, key = heads.get("content-type", ""), heads.get("idempotency-key", "")
    return (
        scope["method"] == "POST"
        and not scope["query_string"]
        and kind.partition(";")[0].strip().lower() == "application/json"
        and len(key) <= KEY_LENGTH_MAX
    )


def _repeated(content: bytes, receive: Receive) -> Receive:
    """Return what receives a body again that was read, and then what comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """One served engine and its parts.

    Attributes:
        closing: Set when the server goes down, so that event streams end.
        draining: Set when the server is about to go down.
    """

    engine: Engine
    queue: RunQueue
    metrics: Metrics
    closing: asyncio.Event
    draining: asyncio.Event
    logs: StepLogs = field(default_factory=StepLogs)


# The framework calls a dependency that is no coroutine in a thread, which costs more than everything that these do.


async def _served_engine(request: Request) -> ServedEngine:
    """Return the engine behind the application that got the request."""
    served: ServedEngine = request.app.state.served
    return served


Served = Annotated[ServedEngine, Depends(_served_engine)]


async def _asking(request: Request) -> Caller:
    return caller_of(request)


Asking = Annotated[Caller, Depends(_asking)]


def _decider(
    caller: Caller,
    body: AnswerBody | TaskAnswerBody | ApproveBody | DenyBody | DecideBody | ResolveBody,
) -> str:
    """Return the name with which a decision is recorded: that of the key, or the one in the body where the key has no name.

    Raises:
        Refusal: The body names another person than the key.
        RequestValidationError: Nobody is named.
    """
    if caller.name is not None and body.by not in (None, "", caller.name):
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            "other-name",
            f"by: expected {caller.name!r}, the name of the key of this request, or no 'by', found {body.by!r}",
        )
    if name := caller.name or body.by:
        return name
    # In the words of every other faulty body; the schema cannot say it, because a key with a name needs no 'by'.
    given = body.model_dump(exclude_unset=True)
    why = "; ".join(each.message for each in value_problems(given, _NAMED))
    raise RequestValidationError([{"loc": ("body",), "msg": why, "ctx": {"error": why}}], body=given)


_NAMED: Mapping[str, Json] = {
    "type": "object",
    "properties": {"by": {"type": "string", "minLength": 1}},
    "required": ["by"],
}


class _Document(JSONResponse):
    """An answer in JSON, written several times as fast as by the standard library."""

    def render(self, content: object) -> bytes:
        """Return the bytes of a document."""
        try:
            return orjson.dumps(content)
        except (
            orjson.JSONEncodeError
        ):  # a part that is no exact type of JSON; the standard library takes some of these
            return super().render(content)


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a document as it is; it has the route's shape already."""
    return _Document(value, status, headers)


def with_etag(words: str) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer that has an ETag."""
    return {200: {"headers": {"ETag": {"description": words, "schema": {"type": "string"}}}}}


def replaced_tag(
    if_match: str | None, if_none_match: str | None, kind: str, tag: re.Pattern[str], example: str
) -> str | None:
    """Return the ETag, without its quotes, of what a request may replace; empty: nothing may stand there; `None`: anything may.

    Args:
        if_match: The header.
        if_none_match: The header.
        kind: What is replaced, for messages.
        tag: The form of its ETags, with a group for what stands between the quotes.
        example: Such an ETag.

    Raises:
        Refusal: 422, a header is none that this server understands.
    """
    if if_none_match is not None:
        if if_none_match.strip() == "*" and if_match is None:
            return ""
        expected = f"If-None-Match: expected *, alone, to save a {kind} only if none has the name"
    elif if_match is None:
        return None
    elif (found := tag.fullmatch(if_match.strip())) is not None:
        return found[1]
    else:
        expected = (
            f"If-Match: expected the ETag of the {kind} that is to be replaced, such as {example}, in quotes"
        )
    given = if_match if if_none_match is None else if_none_match
    raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-request", f"{expected}; found {given!r}")


def answer_heads(router: APIRouter) -> None:
    """Let the routes of a router that answer GET answer HEAD, too: the server leaves the body out. An event stream has no end, and so no head."""
    for route in list(router.routes):
        if isinstance(route, APIRoute) and route.methods == {"GET"} and route.name != "get_events":
            path = route.path.removeprefix(router.prefix)
            router.add_api_route(path, route.endpoint, methods=["HEAD"], include_in_schema=False)


# --- Runs: accept, list, follow and move them.


GONE_WRONG = ("failed", "cancelled")
ENDED = ("succeeded", *GONE_WRONG)

submission_router = APIRouter(prefix="/v1", route_class=SubmissionRoute, tags=["runs"])
run_router = APIRouter(prefix="/v1", route_class=StrictRoute, tags=["runs"])

WITH_LOCATION: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The path of the run.", "schema": {"type": "string"}}}}
}
IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=KEY_LENGTH_MAX,
        description="The same key with the same request gives the same run, for ever.",
    ),
]


@submission_router.post(
    "/tasks",
    status_code=202,
    response_model=RunView,
    responses=WITH_LOCATION,
    summary="Plan and run a task in words",
)
async def submit_task(
    body: TaskBody, request: Request, served: Served, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer with the queued run, which is durable before the answer; planning and running continue in the background."""
    return await _accept(request, served, body.task, body, idempotency_key, stream=body.stream)


@submission_router.post(
    "/runs", status_code=202, response_model=RunView, responses=WITH_LOCATION, summary="Run a plan"
)
async def submit_run(
    body: RunBody, request: Request, served: Served, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer with the queued run, which is durable before the answer; a plan with faults is refused."""
    plan: Plan | dict[str, Any] | None = body.plan
    if plan is None:
        caller = caller_of(request)
        plan = await get_plan_of(caller, served, body.plan_name or body.plan_digest or "")
        if body.plan_name:  # another server may have saved it
            served.metrics.name_plan(plan.digest, caller.plan(body.plan_name))
    return await _accept(request, served, plan, body, idempotency_key)


async def get_plan_of(caller: Caller, served: ServedEngine, name: str) -> Plan:
    """Return a saved plan by its name or digest. Raises: Refusal: 404, there is none."""
    plan = await served.engine.find_plan(caller.plan(name))
    if plan is None:
        raise Refusal(
            HTTPStatus.NOT_FOUND, "unknown-plan", f"no plan is saved as {name!r}; see GET /v1/plans"
        )
    return plan


async def _filter(
    served: Served,
    caller: Asking,
    plan: Annotated[
        str | None, Query(description="The digest of their plan, or the name of a saved plan.")
    ] = None,
    text: Annotated[str | None, Query(description="A part of their task or of their id.")] = None,
    since: Annotated[float | None, Query(description="Made at this time or later, in Unix seconds.")] = None,
    until: Annotated[float | None, Query(description="Made before this time.")] = None,
    usd_min: Annotated[
        float | None, Query(description="They have cost at least this, in US dollars.")
    ] = None,
) -> RunFilter:
    """Return which runs a request wants."""
    # A name has no colon, and a digest has one.
    saved = await served.engine.find_plan(caller.plan(plan)) if plan and ":" not in plan else None
    return RunFilter(plan if saved is None else saved.digest, text, since, until, usd_min)


@run_router.get("/runs", response_model=RunPageView, summary="List runs, newest first")
async def list_runs(
    served: Served,
    caller: Asking,
    where: Annotated[RunFilter, Depends(_filter)],
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: str | None = None,
    tenant: Annotated[
        str | None, Query(description="Only runs of this tenant; a key of a tenant sees no others.")
    ] = None,
) -> Response:
    """Answer with one page; its `cursor` leads to the next."""
    if caller.tenant and tenant not in (None, caller.tenant):
        return answer({"runs": [], "cursor": None})
    page = await served.engine.list_runs(
        status=status, limit=limit, cursor=cursor, tenant=caller.tenant or tenant or "", where=where
    )
    return answer({"runs": [run.to_dict() for run in page.runs], "cursor": page.cursor})


@run_router.get("/runs/{run_id}", response_model=RunView, summary="Get a run with its steps")
async def get_run(run_id: str, served: Served) -> Response:
    """Answer with the run as it stands."""
    return _run(await served.engine.get(run_id))


@run_router.get(
    "/runs/{run_id}/waiting", response_model=WaitingView, summary="Get the calls that wait for a person"
)
async def get_waiting(run_id: str, served: Served) -> Response:
    """Answer with everything that a person needs who decides: arguments, from where they are, and what the same step did last time."""
    return answer((await served.engine.waiting(run_id)).to_dict())


@run_router.delete("/runs/{run_id}", status_code=204, summary="Delete a run that has ended")
async def delete_run(run_id: str, served: Served) -> Response:
    """Delete a run and the bytes that only it needed, and answer with 204; 409 if the run has not ended, or has children."""
    try:
        await served.engine.delete(run_id)
    except InputRejected as error:
        raise _conflict(error) from error
    return Response(status_code=HTTPStatus.NO_CONTENT)


@run_router.get(
    "/runs/{run_id}/events",
    summary="Follow a run's journal",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: id, event, data (JSON)",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The run has ended, and the client has seen everything"},
    },
)
async def get_events(
    run_id: str,
    served: Served,
    caller: Asking,
    last_event_id: Annotated[str | None, Header(description="Continue after this event.")] = None,
    after: Annotated[
        int | None, Query(ge=0, description="The same, for clients that cannot set headers.")
    ] = None,
) -> Response:
    """Answer with a stream that ends when the run has ended or waits and nothing more comes."""
    # `get` would read the complete journal before the first event is sent.
    status = await served.engine.status(run_id)
    seen = _seen(last_event_id, after)
    if status in ENDED and seen and await _is_last(served, run_id, seen):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    events = served.engine.events(run_id, after=seen)
    stream = event_stream(events, served.closing, caller.is_valid)
    return StreamingResponse(stream, media_type="text/event-stream", headers=UNBUFFERED)


@run_router.post("/runs/{run_id}/replay", response_model=RunView, summary="Replay a run strictly")
async def replay_run(run_id: str, served: Served) -> Response:
    """Answer with the replayed run, or 409 with the first step and field that differ; nothing is called or stored."""
    return _run(await served.engine.replay_run(run_id))


@run_router.post("/runs/{run_id}/resume", status_code=202, response_model=RunView, summary="Continue a run")
async def resume_run(run_id: str, served: Served, body: ResumeBody | None = None) -> Response:
    """Answer with the run as it stands; it continues in the background."""
    run = await served.engine.get(run_id)
    budget = body.budget.amounts() if body and body.budget else None
    if budget is not None:
        served.engine.budget_for(
            budget
        )  # a budget past a ceiling is refused in this answer, not in the background
    await served.queue.check_budget()
    take_over = body is not None and body.take_over
    if run.status in GONE_WRONG:  # an ended run does not continue, unless a patch of its plan was recorded
        # The resume that followed a decision is the one that returns the end of the run.
        await served.queue.settle(run_id)
        try:
            run = await served.engine.resume(run_id, budget=budget)
        except InputRejected as error:
            raise _conflict(error) from error
        return _run(run, HTTPStatus.ACCEPTED)
    served.queue.drive(run_id, served.engine.resume(run_id, budget=budget, take_over=take_over))
    return _run(run, HTTPStatus.ACCEPTED)


@run_router.post(
    "/runs/{run_id}/fork",
    status_code=202,
    response_model=RunView,
    responses=WITH_LOCATION,
    summary="Fork a run",
)
async def fork_run(run_id: str, served: Served, caller: Asking, body: ForkBody | None = None) -> Response:
    """Answer with the new run, which is durable before the answer; the affected steps run in the background."""
    options = body or ForkBody()
    await served.engine.get(run_id)
    await served.queue.check_queue()
    # The fields of the body are the options of the engine, by their names.
    fork = await served.engine.submit_fork(run_id, **dict(options), submitter=caller.submitter)
    served.queue.adopt(fork.id)
    return _submitted(fork)


@run_router.post(
    "/runs/{run_id}/retry",
    status_code=202,
    response_model=RunView,
    responses=WITH_LOCATION,
    summary="Continue a failed or cancelled run as a new run",
)
async def retry_run(run_id: str, served: Served, caller: Asking, body: RetryBody | None = None) -> Response:
    """Answer with the new run, which is durable before the answer; its calls are made in the background. 409: the run has neither failed nor been cancelled."""
    options = body or RetryBody()
    run = await served.engine.get(run_id)
    await served.queue.check_queue()
    try:
        retried = await served.engine.submit_retry(run_id, **dict(options), submitter=caller.submitter)
    except InputRejected as error:
        if run.status in GONE_WRONG:
            raise
        raise _conflict(error) from error
    served.queue.adopt(retried.id)
    return _submitted(retried)


@run_router.post(
    "/runs/{run_id}/decide", response_model=RunView, summary="Decide about several calls together"
)
async def decide_run(run_id: str, body: DecideBody, served: Served, caller: Asking) -> Response:
    """Record all decisions, or none if a decision is not valid; the run goes on."""
    run = await served.engine.decide(run_id, body.decisions, by=_decider(caller, body))
    served.queue.drive(run_id, served.engine.resume(run_id))
    return _run(run)


@run_router.post(
    "/runs/{run_id}/answer", response_model=RunView, summary="Answer the question of the planner"
)
async def answer_run(run_id: str, body: TaskAnswerBody, served: Served, caller: Asking) -> Response:
    """Record the answer to the run's `question`; the task is planned on."""
    run = await served.engine.answer(run_id, None, body.value, by=_decider(caller, body))
    served.queue.drive(run_id, served.engine.resume(run_id))
    return _run(run)


@run_router.post("/runs/{run_id}/cancel", response_model=RunView, summary="Stop a run")
async def cancel_run(run_id: str, served: Served) -> Response:
    """Record that the run is to stop: no further calls start."""
    return _run(await served.engine.cancel(run_id))


async def _accept(
    request: Request,
    served: ServedEngine,
    what: Plan | dict[str, Any] | str,
    body: TaskBody | RunBody,
    key: str | None,
    *,
    stream: bool = False,
) -> Response:
    caller = caller_of(request)
    digest = ""
    if key:
        # The digest is of the canonical body: a client may serialize a repeated request with its keys in another order.
        canonical_body = canonical(await request.json())
        digest = hashlib.sha256(request.url.path.encode() + b"\n" + canonical_body).hexdigest()
    options = {
        "inputs": body.inputs,
        "budget": body.budget.amounts() if body.budget else None,
        "stream": stream,
        "submitter": caller.submitter,
        "deadline": body.deadline,
        "returns": body.returns,
        "priority": body.priority,
    }
    own_key = f"{caller.id}\n{key}" if key else None
    return _submitted(await served.queue.accept(Submission(what, own_key, digest, options)))


_WRITTEN: Final = IdentityCache[Plan, orjson.Fragment](32)
"""Plans as JSON: a plan that is submitted again and again is one object, and written once."""


def _submitted(run: Run) -> Response:
    headers = {"Location": f"/v1/runs/{run.id}"}
    try:
        content = orjson.dumps(run_json(run, _WRITTEN.get(run.plan, _written) if run.plan else None))
    except orjson.JSONEncodeError:
        return answer(run.to_dict(), HTTPStatus.ACCEPTED, headers)
    return Response(content, HTTPStatus.ACCEPTED, headers, "application/json")


def _written(plan: Plan) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(plan.to_dict()))


def _conflict(error: InputRejected) -> Refusal:
    return Refusal(HTTPStatus.CONFLICT, error.code, error.message)


def _run(run: Run, status: int = HTTPStatus.OK) -> Response:
    return answer(run.to_dict(), status)


def _seen(last_event_id: str | None, after: int | None) -> int:
    if last_event_id is None or not last_event_id.strip():
        return after or 0
    number = last_event_id.strip()
    if number.isdecimal() and len(number) <= EVENT_DIGITS_MAX:
        return int(number)
    raise Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "bad-request",
        f"Last-Event-ID: expected the number of an event, found {last_event_id!r:.80}",
    )


async def _is_last(served: ServedEngine, run_id: str, seen: int) -> bool:
    async for _ in served.engine.events(run_id, after=seen):
        return False
    return True


answer_heads(run_router)


# --- A run's journal as server-sent events: `id` is the event's number, `event` its type, `data` the complete event.
#
# The stream ends where the engine's own iterator ends: when the run has ended, or waits and no further events come. A client that
# returns with `Last-Event-ID` misses no event and gets none twice. A client that has seen the end of an ended run gets 204, which
# tells a browser to stop asking.


KEEPALIVE_S = 15.0
"""Seconds between comment lines, which keep proxies from closing a quiet stream and detect clients that have left."""
EVENT_DIGITS_MAX = 18
"""Digits of an event's number: a longer text is no number of an event, and beyond thousands of digits none that Python reads."""
UNBUFFERED: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers of a stream, which no proxy may hold back."""
RETRY_MS = 1_000
"""Milliseconds until a browser reconnects after the stream has ended."""


async def event_stream(
    events: AsyncIterator[Event],
    closing: asyncio.Event,
    is_valid: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncIterator[str]:
    """Yield the text of the stream until the events end, the server closes, or the key of the client is not valid any more."""
    yield f"retry: {RETRY_MS}\n\n"
    turn_s = KEEPALIVE_S if is_valid is None else min(KEEPALIVE_S, LOOK_S)
    said = time.monotonic()
    stop = asyncio.ensure_future(closing.wait())
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while not closing.is_set():
            await asyncio.wait((stop, coming), timeout=turn_s, return_when=asyncio.FIRST_COMPLETED)
            if is_valid is not None and not await is_valid():
                return
            if not coming.done():
                if time.monotonic() - said >= KEEPALIVE_S:
                    said = time.monotonic()
                    yield ": still here\n\n"
                continue
            said = time.monotonic()
            event = coming.result()
            if event is None:
                return
            yield event_text(event)
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        for task in (stop, coming):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def event_text(event: Event) -> str:
    """Return one event in the wire format; JSON holds no raw line breaks, so one `data` line is enough."""
    told = event.to_dict()
    if (
        "frames" in event.data
    ):  # they show code of who runs the server: `firmplan show --traceback` on its store has them
        told["data"] = {name: value for name, value in event.data.items() if name != "frames"}
    data = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n"


# --- Steps: look at one step of a run, and decide what only a person can decide.
#
# A step's path may hold `/`, `[`, `]` and `#`; in a URL it is percent-encoded (`spots%5B0%5D`, `outer%2Finner`). The server decodes
# the URL before it chooses the route, so the path has to match greedily.


step_router = APIRouter(prefix="/v1/runs/{run_id}/steps", route_class=StrictRoute, tags=["steps"])


@step_router.get("/{path:path}", response_model=NamedStepView, summary="Get a step, item or iteration")
async def get_step(run_id: str, path: str, served: Served) -> Response:
    """Answer with the step as it stands."""
    run = await get_run_with(served, run_id, path)
    return answer({"run": run.id, "path": path, **run.steps[path].to_dict()})


@step_router.post("/{path:path}/approve", response_model=RunView, summary="Allow a call that waits")
async def approve_step(run_id: str, path: str, body: ApproveBody, served: Served, caller: Asking) -> Response:
    """Record the approval, which is for exactly the arguments that were displayed; the run goes on."""
    by = _decider(caller, body)
    decision = served.engine.approve(run_id, path, by=by, edit=body.edit, attempt=body.attempt)
    return await _decided(served, run_id, path, "waiting", decision)


@step_router.post("/{path:path}/answer", response_model=RunView, summary="Answer the question of a step")
async def answer_step(run_id: str, path: str, body: AnswerBody, served: Served, caller: Asking) -> Response:
    """Record the answer, which has the type that the step's `returns` says; the run goes on."""
    by = _decider(caller, body)
    decision = served.engine.answer(run_id, path, body.value, by=by, attempt=body.attempt)
    return await _decided(served, run_id, path, "waiting", decision)


@step_router.post("/{path:path}/deny", response_model=RunView, summary="Refuse a call that waits")
async def deny_step(run_id: str, path: str, body: DenyBody, served: Served, caller: Asking) -> Response:
    """Record the denial; what depends on the call is cancelled, and the run goes on."""
    by = _decider(caller, body)
    decision = served.engine.deny(run_id, path, by=by, reason=body.reason, attempt=body.attempt)
    return await _decided(served, run_id, path, "waiting", decision)


@step_router.post("/{path:path}/resolve", response_model=RunView, summary="Settle a call of unknown outcome")
async def resolve_step(run_id: str, path: str, body: ResolveBody, served: Served, caller: Asking) -> Response:
    """Record the outcome of the call: it is done, may be made again, or failed; the run goes on."""
    verdict: dict[str, Any] = (
        {"done": body.done}
        if "done" in body.model_fields_set
        else {"retry": True}
        if body.retry
        else {"fail": body.fail}
    )
    by = _decider(caller, body) if caller.name is not None else body.by
    decision = served.engine.resolve(run_id, path, by=by, attempt=body.attempt, **verdict)
    return await _decided(served, run_id, path, "indeterminate", decision)


async def _decided(
    served: ServedEngine, run_id: str, path: str, status: str, decision: Awaitable[Run]
) -> Response:
    """Answer with the run after a decision about a step of that status, and continue the run.

    Raises:
        Refusal: 404 for an unknown step, 409 if nothing waits for such a decision or another decision stands.
        InputRejected: The step waits for a decision, but this decision is not valid.
    """
    try:
        run = await decision
    except InputRejected as error:
        current = await get_run_with(served, run_id, path)
        if error.code == OWN_RUN or (current.steps[path].status == status and error.code != DECIDED):
            raise
        raise _conflict(error) from error
    served.queue.drive(run_id, served.engine.resume(run_id))
    return answer(run.to_dict())


async def get_run_with(served: ServedEngine, run_id: str, path: str) -> Run:
    """Return a run that has a step of that path. Raises: Refusal: 404, it has none."""
    run = await served.engine.get(run_id)
    if path not in run.steps:
        known = ", ".join(list(run.steps)[:10]) or "none yet"
        raise Refusal(
            HTTPStatus.NOT_FOUND, "unknown-step", f"run {run.id} has no step {path!r}; its steps are {known}"
        )
    return run


answer_heads(step_router)


# --- Watching: health and counters.


watch_router = APIRouter(route_class=ScopedRoute, tags=["watch"])


@watch_router.head("/healthz", include_in_schema=False)
@watch_router.get("/healthz", response_model=HealthView, summary="Is the process alive?")
async def healthz() -> Response:
    """Answer 200: the process is alive."""
    return answer({"status": "ok"})


@watch_router.head("/readyz", include_in_schema=False)
@watch_router.get(
    "/readyz", response_model=HealthView, responses={503: {"model": HealthView}}, summary="Can it take work?"
)
async def readyz(served: Served) -> Response:
    """Answer 200 while the store can be read and the server is not about to go down, else 503."""
    try:
        await served.engine.list_runs(limit=1)
    except StoreError:
        return answer({"status": "unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)
    if served.draining.is_set() or served.closing.is_set():
        return answer({"status": "unavailable"}, HTTPStatus.SERVICE_UNAVAILABLE)
    return answer({"status": "ok"})


@watch_router.head("/metrics", include_in_schema=False)
@watch_router.get("/metrics", summary="Counters for Prometheus", response_class=Response)
async def metrics(served: Served) -> Response:
    """Answer in Prometheus' text format."""
    return Response(served.metrics.text(await served.queue.active()), media_type=MEDIA_TYPE)
