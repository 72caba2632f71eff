"""What all clients of HTTP share: the settings of TLS, and a bound on the body of a response.

A seam: httpx is heavy, and only the first call of a model or of a server at an address loads this module.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import cache

import httpx2


@cache
def tls() -> ssl.SSLContext:
    """Return the one TLS context of this process: reading the certificates takes 20 to 100 ms."""
    return httpx2.create_ssl_context()


class BoundedBody(httpx2.AsyncByteStream):
    """Another stream, which ends with an error past its bound: a server that never stops must not fill the memory.

    Args:
        inner: The stream.
        bytes_max: The most that it may hold.
        error: What is raised past it.
    """

    def __init__(self, inner: object, bytes_max: int, error: Exception) -> None:
        assert isinstance(inner, httpx2.AsyncByteStream)
        self._inner = inner
        self._bytes_max = bytes_max
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._bytes_max
        async for chunk in self._inner:
            left -= len(chunk)
            if left < 0:
                raise self._error
            yield chunk

    async def aclose(self) -> None:
        """Close the inner stream."""
        await self._inner.aclose()
