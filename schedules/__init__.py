"""Schedules: saved plans that run every so often, or by cron, each time exactly once, however many processes drive the schedules of a store.

`times.py` computes the times of a schedule; `schedule.py` has the values and reads them from what callers give; `table.py` keeps them in the
store; `book.py` makes and changes them; `scheduler.py` claims the times that are due and starts their runs. This folder knows neither planners nor the engine: it is handed
functions that start, look up and cancel runs. Begin with `scheduler.py`.
"""

from .book import ANY_REVISION, ScheduleBook
from .schedule import Fire, Schedule
from .scheduler import Scheduler
from .table import ScheduleTable

__all__ = ["ANY_REVISION", "Fire", "Schedule", "ScheduleBook", "ScheduleTable", "Scheduler"]
