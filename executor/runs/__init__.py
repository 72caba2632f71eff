"""One run in one store: submitted, driven by one owner at a time, decided about by people, shown and replayed.

This folder does not know how runs are compared or explained (`review`), nor how plans are made: a planner is handed in. Begin with `driver.py`
(the loop of one run), then `execution.py` (the runs of an engine) and `owner.py` (who may drive them).
"""
