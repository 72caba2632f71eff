"""One call: prepared from a command of the machine, matched with earlier results, made, and turned into an outcome.

This folder does not know the loop of a run, who owns a run, or how runs are shown: `runs` calls it. Begin with `dispatch.py` (what becomes of a
command), then `caller.py` and `running/invoke.py` (how a call is made) and `reuse.py` (which result stands for it).
"""
