"""The web page: one document, and the files that it loads, as `make page` built them from `web/`. They hold no data, and so need no key.

The page talks to this server only, and the browser enforces it: no script and no style but the page's own files, no request to other sites, and no
text that becomes markup (`require-trusted-types-for`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response

from .problems import Refusal

page_router = APIRouter(include_in_schema=False)

_RULES: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "worker-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "firmplan",  # this policy of the page admits the address of its own worker, and nothing else
}
POLICY: Final = "; ".join(f"{name} {value}" for name, value in _RULES.items())
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    # A file keeps its name when firmplan is upgraded: browsers ask each time, and the ETag says that nothing changed.
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    media_type: str
    etag: str


@page_router.head("/")
@page_router.get("/")
async def page(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Answer with the page's document."""
    return _answer(_built()["index.html"], if_none_match)


@page_router.head("/page/{name}")
@page_router.get("/page/{name}")
async def page_file(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Answer with a file that the document loads."""
    found = _built().get(f"page/{name}")
    if found is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "not-found", f"the page has no file {name!r}")
    return _answer(found, if_none_match)


def _answer(file: _File, if_none_match: str | None) -> Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if if_none_match is not None and file.etag in (each.strip() for each in if_none_match.split(",")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.data, media_type=file.media_type, headers=headers)


@cache
def _built() -> dict[str, _File]:
    """Return the built files by their place. All are read at once, so that no name in a request ever becomes a path."""
    built = files(__package__ or "").joinpath("web", "built")
    found = {each.name: each for each in built.iterdir() if each.is_file()}
    found |= {f"page/{each.name}": each for each in built.joinpath("page").iterdir()}
    return {place: _read(each) for place, each in found.items()}


def _read(file: Traversable) -> _File:
    data = file.read_bytes()
    return _File(
        data, _MEDIA_TYPES[file.name.rpartition(".")[2]], f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    )
