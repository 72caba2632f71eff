"""Compiled JSON Schemas: jsonschema-rs behind a cache, loaded only once values are validated."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

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
