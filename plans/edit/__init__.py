"""Changes of plans: patches, their operations, renaming of steps, and the difference between two plans.

The folder knows the plan value and expressions; it does not know runs. Begin with `patch.py` (plan and operations to plan) and `diff.py` (two plans to operations).
"""
