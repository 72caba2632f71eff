"""Saved plans: found by a task's words, filled in by pattern, learnt from good plans, and counted by use.

The folder asks no model. Begin with `library.py` and `pattern.py`.
"""
