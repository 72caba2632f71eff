"""Compiled JSON Schemas: jsonschema-rs behind a cache, loaded only once values are validated."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import orjson

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

VALIDATORS_KEPT = 256
"""Compiled schemas that are kept: a plan uses few, many times."""


@lru_cache(maxsize=VALIDATORS_KEPT)
def find_validator(schema: bytes) -> Draft202012Validator | None:
    """Return the validator of a schema that stands alone, as canonical JSON; `None` if the schema is faulty."""
    from jsonschema_rs import Draft202012Validator, ReferencingError  # noqa: PLC0415  # only once values are validated

    try:
        return Draft202012Validator(schema.decode(), offline=True)
    except (ValueError, ReferencingError):
        return None


_BASE = "https://schema.invalid/"
"""Where a document stands in its registry; nothing is ever fetched."""


@lru_cache(maxsize=VALIDATORS_KEPT)
def find_validator_inside(document: bytes, pointer: str) -> Draft202012Validator | None:
    """Return the validator of a schema inside a document; its references may point anywhere in the document.

    Args:
        document: A schema that stands alone, as canonical JSON.
        pointer: JSON pointer of the schema inside it.

    Returns:
        `None` if the document is faulty.
    """
    from jsonschema_rs import Draft202012Validator, ReferencingError, Registry  # noqa: PLC0415  # only once values are validated

    root = orjson.loads(document)
    root.pop("$schema", None)  # a document is always read as draft 2020-12
    try:
        registry = Registry([(_BASE, root)])
        return Draft202012Validator(
            {"$ref": f"{_BASE}#{quote(pointer, safe='/~')}"}, registry=registry, offline=True
        )
    except (ValueError, ReferencingError):
        return None
