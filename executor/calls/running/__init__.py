"""Runs the code of tools: on the event loop, in threads and in child processes, so that it can be stopped and timed.

This folder knows one call and its outcome. It does not know the machine, reuse, budgets or the other calls of a run. Begin with `invoke.py`
(one call of a tool), then `stoppable.py` (code that does not heed its cancel) and `processes.py` (the pool of child processes).
"""
