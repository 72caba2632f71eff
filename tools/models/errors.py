"""The error of an endpoint that gives no answer: a stable code, whether the error is temporary, and a remedy.

| code | when | temporary |
| --- | --- | --- |
| `model-unreachable` | nobody listens, or the connection broke | yes |
| `timeout` | no complete answer in time | yes |
| `rate-limited` | 429; not temporary where the quota is used up | yes |
| `model-unavailable` | 408, 409, 5xx, or an answer that is not HTTP of a model; not temporary if the answer does not end, or is a web page | yes |
| `model-auth` | 401, 403 | no |
| `model-unknown` | 404, or a redirect | no |
| `context-exceeded` | the request is longer than the model's context | no |
| `model-rejected` | any other status: the endpoint does not take such requests | no |
| `limit-exceeded` | the caller's own bound on requests or time | no |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...errors import ToolError
from ...lazy_imports import late_pattern
from ...plans.values import Json
from ..remote.web_page import login_fault
from .endpoint import Endpoint

if TYPE_CHECKING:
    from .completion import Usage


ELSEWHERE = frozenset(
    {
        "model-unreachable",
        "timeout",
        "rate-limited",
        "model-unavailable",
        "model-auth",
        "model-unknown",
        "context-exceeded",
    }
)
"""Errors of one endpoint after which another one is asked."""


_ABOUT_CONTEXT = late_pattern(
    r"context_length_exceeded|exceed_context_size|maximum context length|available context size|longer than the model's context|prompt is too long",
    re.IGNORECASE,
)


class ModelError(ToolError):
    """A model call failed.

    Attributes:
        retry_after_s: The pause that the endpoint asked for, if it did.
        usage: The cost of the requests before the failure (a `Usage`); `None`: none was answered.
        broke_off: Whether a part of an answer had come: a stream ended before its answer did.
        guards: The verdicts of guards before the failure, as in `ModelReply`.
    """

    def __init__(
        self, message: str, *, code: str, temporary: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code, temporary=temporary)
        self.retry_after_s = retry_after_s
        self.usage: Usage | None = None
        self.broke_off = False
        self.guards: Mapping[str, Json] = {}


def timed_out(endpoint: Endpoint, timeout_s: float) -> ModelError:
    """Return the error of a request that took too long."""
    return ModelError(
        f"no answer from {endpoint.base_url} within {timeout_s:g} s", code="timeout", temporary=True
    )


def outage(error: BaseException, endpoint: Endpoint, timeout_s: float) -> ModelError:
    """Return the error for an exception of the openai client.

    Args:
        error: The exception.
        endpoint: Whose request it ended.
        timeout_s: The time that the request had.
    """
    import openai  # noqa: PLC0415  # heavy: loaded with the first call

    from .transport import BodyTooLarge, WebPage  # noqa: PLC0415  # loads httpx

    match error:
        case openai.APITimeoutError():
            return timed_out(endpoint, timeout_s)
        # An answer past the bound is not temporary: the endpoint would send as much again.
        # A web page is not temporary either: a login has to come first. Another endpoint may be asked.
        case openai.APIConnectionError(__cause__=(BodyTooLarge() | WebPage()) as cause):
            return ModelError(f"{endpoint.base_url}: {cause}", code="model-unavailable")
        case openai.APIConnectionError():
            why = endpoint.quote(error.__cause__ or error)
            return ModelError(
                f"no connection to the model at {endpoint.base_url} ({why}): is it running, and is its address "
                "(FIRMPLAN_BASE_URL) right?",
                code="model-unreachable",
                temporary=True,
            )
        case openai.APIStatusError():
            return _status(error.status_code, error.response.headers, endpoint.quote(error.message), endpoint)
        case _:
            return ModelError(
                f"{endpoint.base_url} sent something that is no answer of a model: {type(error).__name__}: {endpoint.quote(error)}",
                code="model-unavailable",
                temporary=True,
            )


def _status(  # noqa: PLR0911  # one status, one line
    status: int, headers: Mapping[str, str], said: str, endpoint: Endpoint
) -> ModelError:
    """Return the error for an HTTP status."""
    # OpenAI answers 429 both for a rate, which passes, and for a used-up quota, which does not.
    stays = headers.get("x-should-retry") == "false" or "insufficient_quota" in said
    wait = _retry_after(headers)
    where = f"{endpoint.base_url} answered {status}"
    match status:
        case 401 | 403:
            text = (
                f"{where}: it does not accept the key; set {endpoint.key_source} to one that it does ({said})"
            )
            return ModelError(text, code="model-auth")
        # 400 by llama.cpp's server and vLLM, 413 by others.
        case 400 | 413 if _ABOUT_CONTEXT.search(said):
            text = f"{where}: the request is longer than the context of '{endpoint.name}'; ask about less, or take a model with a longer one ({said})"
            return ModelError(text, code="context-exceeded")
        case 404:
            text = f"{where}: it has no model '{endpoint.name}', or its address lacks '/v1' ({said})"
            return ModelError(text, code="model-unknown")
        case 429:
            text = f"{where}: too many requests ({said})"
            return ModelError(text, code="rate-limited", temporary=not stays, retry_after_s=wait)
        case _ if 300 <= status < 400:
            target = endpoint.quote(headers.get("location", "nowhere"))
            if (login := login_fault(endpoint.base_url, headers.get("location", ""))) is not None:
                return ModelError(f"{where}: {endpoint.quote(login)}", code="model-unknown")
            text = f"{where}: it redirects to {target}; set FIRMPLAN_BASE_URL to the address that answers"
            return ModelError(text, code="model-unknown")
        case _ if status in (408, 409) or status >= 500:
            text = f"{where}: {said}"
            return ModelError(text, code="model-unavailable", temporary=not stays, retry_after_s=wait)
        case _:
            return ModelError(f"{where}: it does not take the request ({said})", code="model-rejected")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause that the endpoint asks for, in seconds. A date is ignored: reading it needs a clock."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if 0 <= wait < float("inf"):
            return wait
    return None
