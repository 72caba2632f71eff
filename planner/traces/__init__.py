"""Plans from traces: what other agents did, read in the formats that they leave, becomes a typed plan.

The folder reads traces and finds where each argument came from; it asks no model, runs nothing and knows no store. Begin with `trace.py` (a trace as a value)
and `learning.py` (from traces to a plan); `reading.py` knows files and formats, `origins.py` explains one value. `firmplan.trace_rehearsal` runs what was learnt.
"""
