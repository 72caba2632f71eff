"""What is wrong with a plan or a value, and how a reader is told: codes, problems, places, nearest names.

This folder knows no rule of the check. Begin with `problems.py` (the result of a check) and `codes.py` (each code with its meaning and an
example).
"""
