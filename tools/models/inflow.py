"""A bound on what an endpoint may send for one answer, so that one that never stops costs no memory.

No model writes answers of megabytes; a compressed body may hold a thousand times its bytes, and has a bound of its own.
Imported with the first call: httpx is heavy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

BODY_BYTES_MAX = 16 * 1024 * 1024
"""Of one response, as it comes over the wire."""

COMPRESSED_BYTES_MAX = 512 * 1024
"""The same where it is compressed: unpacked at most about a thousand times as much."""


class BodyTooLarge(httpx2.ReadError):  # reads as what it says
    """An endpoint sent more than an answer can be."""


async def bound_body(response: httpx2.Response) -> None:
    """Have a response end with `BodyTooLarge` past its bound: a hook of an httpx client."""
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream, BODY_BYTES_MAX if is_plain else COMPRESSED_BYTES_MAX)


class _Bounded(httpx2.AsyncByteStream):
    """Another stream, up to a bound."""

    def __init__(self, inner: httpx2.AsyncByteStream, bytes_max: int) -> None:
        self._inner = inner
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._bytes_max
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise BodyTooLarge(f"it sent more than {self._bytes_max} bytes for one answer")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
