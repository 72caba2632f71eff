"""The algebra of types that the check computes with, read from JSON Schema.

A type stands for a set of JSON values; the folder reads types from schemas, combines them, decides whether one fits another, and shows them. It does not
know plans. Begin with `kinds.py` (the types), `reading.py` (schema to type) and `assign.py` (does it fit?).
"""
