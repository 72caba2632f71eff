"""The check of a plan: every problem that can be found without running it.

Each part of the check adds problems to one list, and no part stops at its first problem. The folder knows the plan value, expressions and types; it does
not know tools, only their signatures. Begin with `checker.py`, which calls the parts in order; `body.py`, `survey.py` and
the labels in `flow/` serve the compiler too.
"""
