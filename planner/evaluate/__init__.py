"""Measuring planners: sets of tasks, scores of plans, comparison of two models.

The folder calls a planner as any user would. Begin with `task_set.py` and `measuring.py`.
"""
