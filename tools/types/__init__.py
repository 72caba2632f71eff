"""The types of tools: from annotations of Python to JSON Schema, and from JSON to arguments and back.

This folder does not know effects, fingerprints or how a tool is called. Begin with `schemas.py` (the types of a tool), then `annotated.py`
(annotations, through pydantic) and `exact_types.py` (values that need no pydantic).
"""
