"""The commands of `firmplan`: one module a command group, with each command's options beside its work.

A command reads its words and asks the engine; it does not know how an answer looks, nor how an error becomes an exit code. A command line
imports the one module that has its command (`COMMANDS` in `../app.py`). Begin at `run.py`.
"""
