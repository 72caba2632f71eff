"""Which exceptions mean that the other side may not have heard, or may not have been heard.

Timeouts and connection errors are worth another call, and leave it open whether a `write` happened. Libraries for HTTP
have their own classes for them, outside Python's `ConnectionError` and `TimeoutError`; they are known by name, so
that none of them is imported.
"""

from __future__ import annotations

_BY_NAME = frozenset(
    {
        ("httpx", "TransportError"),
        ("httpx2", "TransportError"),
        ("httpcore", "NetworkError"),
        ("httpcore", "TimeoutException"),
        ("requests", "ConnectionError"),
        ("requests", "Timeout"),
        ("urllib3", "TimeoutError"),
        ("urllib3", "ProtocolError"),
        ("urllib3", "NewConnectionError"),
        ("urllib", "URLError"),
        ("aiohttp", "ClientConnectionError"),
        ("openai", "APIConnectionError"),
        ("anthropic", "APIConnectionError"),
        ("botocore", "HTTPClientError"),
        ("redis", "ConnectionError"),
        ("redis", "TimeoutError"),
        ("grpc", "FutureTimeoutError"),
    }
)
_ANSWERED = frozenset(
    {("urllib", "HTTPError")}
)  # subclasses of the above that carry an answer: the call was heard


def is_interruption(error: BaseException) -> bool:
    """Whether a failure is a timeout or a connection error."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    return bool(names & _BY_NAME) and not names & _ANSWERED
