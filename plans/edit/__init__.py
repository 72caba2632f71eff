"""Changes of plans: patches, renamed steps and inputs, and the difference between two plans or two values.

The folder knows the plan value and expressions; it does not know runs. Begin with `patch.py` (a plan and operations give a plan) and `diff.py` (two
plans give their changes and a patch).
"""
