"""The record of a run: its header, its events in a chain of digests, and how both are read back.

The journal decides what is durable when, and checks what it reads. It does not know how calls are made, or who drives a run. Begin with
`records.py` (the format), then `journal.py` (writing) and `restore.py` (reading).
"""
