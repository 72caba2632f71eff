"""The algebra of types that the check computes with, read from JSON Schema.

A type is a set of JSON values with constraints; the folder reads types from schemas, intersects them, decides whether one is assignable to another, and
shows them. It does not know plans, expressions or tools. Begin with `types.py` (the types), then `read.py` (schema to type) and `assignable.py`.
"""
