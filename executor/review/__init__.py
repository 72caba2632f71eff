"""Looking back at runs: why a step ran, what differs between runs, which tools are not deterministic, what another model would answer.

This folder does not move runs: it reads journals, and what it calls again (`verify`, `shadow`) is not recorded. Begin with `review.py`, which lists
the questions; each answer is a report, a value that prints as text and as JSON.
"""
