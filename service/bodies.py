"""Request bodies: JSON by firmplan's own strict rules, and the shapes that the routes accept.

The standard parser admits NaN, takes the last of two equal keys and rounds long integers; a plan or an input read
that way would differ from what its author sent. So every body is parsed as values are parsed everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..plans import NotJson, parse
from .problems import Refusal

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRequest(Request):
    """A request whose JSON body is parsed strictly."""

    async def json(self) -> Any:  # noqa: ANN401  # the framework's signature
        """Return the body's value.

        Raises:
            Refusal: 415 for another media type, 422 for what is not JSON.
        """
        try:
            return parse(await self.body())
        except NotJson as error:
            why = str(error).removeprefix("$: ")
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY, "bad-json", f"expected a JSON body, but {why}"
            ) from error


class StrictRoute(APIRoute):
    """A route that hands `StrictRequest` to its handler."""

    def get_route_handler(self) -> Handler:
        """Return the framework's handler behind a strict request."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            media = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
            if await request.body() and media != "application/json" and not media.endswith("+json"):
                raise Refusal(
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "not-json",
                    f"expected a body of 'Content-Type: application/json', found {media!r}",
                )
            return await handle(StrictRequest(request.scope, _again(await request.body())))

        return strict


def _again(body: bytes) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class Body(BaseModel):
    """A JSON object with exactly the documented keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _whole(amount: object) -> object:
    return int(amount) if isinstance(amount, float) and amount.is_integer() else amount


Count = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
"""An integer by JSON Schema's rules, as in plans and inputs: `4.0` is one."""


class Budget(Body):
    """At these amounts a run stops and waits; reused steps cost nothing."""

    steps: Count | None = None
    model_calls: Count | None = None
    tokens: Count | None = None
    usd: Annotated[float, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None

    def amounts(self) -> dict[str, Any]:
        """Return the amounts that are set."""
        return self.model_dump(exclude_none=True)


class TaskBody(Body):
    """A task in words, to be planned and run; with `stream` steps start while the plan is being written."""

    task: Annotated[str, Field(min_length=1, examples=["Compare the weather in Rome and Oslo"])]
    inputs: dict[str, Any] | None = None
    budget: Budget | None = None
    stream: bool = False


class RunBody(Body):
    """A plan to run: as it is, or by the name or digest under which it is saved."""

    plan: dict[str, Any] | None = None
    plan_name: str | None = None
    plan_digest: str | None = None
    inputs: dict[str, Any] | None = None
    budget: Budget | None = None

    @model_validator(mode="after")
    def _one_plan(self) -> RunBody:
        given = [name for name in ("plan", "plan_name", "plan_digest") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of plan, plan_name and plan_digest, found {' and '.join(given) or 'none of them'}"
            )
        return self


class ResumeBody(Body):
    """What may change when a run goes on.

    Attributes:
        take_over: Take the run from another process that drives it and hangs.
    """

    budget: Budget | None = None
    take_over: bool = False


class ForkBody(Body):
    """What differs in the fork from its parent; without anything the fork is the parent again.

    Attributes:
        at: A step to run again, with whatever depends on it.
        set: Path of a step or item -> the value that stands in its place.
        inputs: Inputs that differ from the parent's.
        plan: An edited plan.
        allow_writes: Whether writes in the affected cone go ahead; without it each waits for approval.
        run_id_new: The new run's id: the same fork with the same id is that run, however often it is asked for.
    """

    at: Annotated[str, Field(min_length=1)] | None = None
    set: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    allow_writes: bool = False
    run_id_new: str | None = None


class RetryBody(Body):
    """How a run goes on that failed or was cancelled.

    Attributes:
        run_id_new: The new run's id: the same retry with the same id is that run, however often it is asked for.
        replan: How often, at most, the planner may patch the plan if the new run fails.
    """

    run_id_new: str | None = None
    replan: Count = 0


Attempt = Annotated[
    int | None,
    Field(ge=1, description="The attempt that the decision is about; null: the attempt that waits now."),
    BeforeValidator(_whole),
]


class ApproveBody(Body):
    """Who allows the call; `edit` replaces its arguments."""

    by: Annotated[str, Field(min_length=1)]
    edit: dict[str, Any] | None = None
    attempt: Attempt = None


class DenyBody(Body):
    """Who refuses the call, and why."""

    by: Annotated[str, Field(min_length=1)]
    reason: str = ""
    attempt: Attempt = None


class DecideBody(Body):
    """Who decides, and what about each call.

    Attributes:
        decisions: Path of a leaf, or of a step for all its parts that wait -> `"approve"`, `"deny"`, `"retry"`, or an object that says
            more, with one of `approve` (true; `edit`), `deny` (true; `reason`), `done`, `retry` (true), `fail`, and `attempt`.
    """

    by: Annotated[str, Field(min_length=1)]
    decisions: Annotated[
        dict[str, Literal["approve", "deny", "retry"] | dict[str, Any]],
        Field(min_length=1, examples=[{"pay[0]": "approve", "pay[1]": {"deny": True, "reason": "paid"}}]),
    ]


class ResolveBody(Body):
    """What a person knows of a call whose outcome is unknown: exactly one of `done`, `retry` and `fail`."""

    done: Any = None
    retry: bool = False
    fail: Annotated[str, Field(min_length=1)] | None = None
    by: str = ""
    attempt: Attempt = None

    @model_validator(mode="after")
    def _one_answer(self) -> ResolveBody:
        given = (
            ["done"] * ("done" in self.model_fields_set)
            + ["retry"] * self.retry
            + ["fail"] * (self.fail is not None)
        )
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"expected exactly one of done, retry (true) and fail, found {found}")
        return self
