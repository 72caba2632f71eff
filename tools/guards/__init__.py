"""Guards: conditions on a model's answer and on a tool's result, as data or as code.

The folder decides about one value and asks no model: judges are asked by `tools/models`. Begin with `guard.py`; the other modules hold one
kind of guard each.
"""
