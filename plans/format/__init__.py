"""The text form of a plan: JSON or YAML to a plan value and back, with the line of every part.

The folder knows spelling and shape; it does not know types, tools or meaning. Begin with `load.py` (files and text) and `shape.py` (JSON value to plan).
"""
