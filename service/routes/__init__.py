"""What each path of the HTTP API does: one module a group of paths.

A route reads a request, asks the engine and shapes the answer; it does not know how callers are told apart, nor how errors become
responses. Begin at `runs.py` (runs, plans and tools, and what watches the server).
"""
