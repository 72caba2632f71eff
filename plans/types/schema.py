"""JSON Schema as plans use it: read as types, taken along, and held against values.

The face of `reading.py` (schemas as types), `contained.py` (schemas that stand alone) and `literal.py` (values against schemas).
"""

from __future__ import annotations

from .contained import self_contained
from .literal import literal_faults
from .reading import read_schema

__all__ = ["literal_faults", "read_schema", "self_contained"]
