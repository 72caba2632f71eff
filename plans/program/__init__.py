"""The program of a plan: what the check and the compiler found out about it, ready to run.

This folder knows no machine and no journal: `executor` runs a program. Begin with `program.py` (the compiled plan and the rule of effect
order), then `compile.py` (from plan to program), `graph.py` (order, cycles, cones) and `stored_program.py` (a program as JSON).
"""
