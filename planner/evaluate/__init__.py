"""Measuring of planners: sets of tasks, scores of plans, and the comparison of plans by a model.

The folder calls a planner as any user does, and knows no run: the caller runs plans. Begin with `measuring.py`; `task_set.py` has the format, and
`bias.py` compares tasks whose words are swapped.
"""
