"""The command line `firmplan`: the commands (`commands/`), and what every command works with.

It knows the engine and the service, and nothing of how they work inside; only `report.py` and `screen.py` decide how an answer looks.
Begin at `app.py` (the group of all commands), `command.py` (how a command is declared) and `invocation.py` (what a command works with).
"""

from ..plans.collecting import collector_paused

with collector_paused():  # what imports make stays
    from .app import app, main

__all__ = ["app", "main"]
