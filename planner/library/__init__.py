"""Saved plans: a library of them, patterns that match a task's words, learning of templates from good plans, and retrieval by words.

The folder asks no model and runs no check of a plan. Begin with `library.py`, then `pattern.py`; `retrieval.py` serves tools as well.
"""
