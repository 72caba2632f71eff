"""The fingerprint of a tool: a digest of everything in its code that can change a result.

The folder follows a function to the functions, constants and classes that it reaches, and fails closed: what it cannot follow makes the tool not
reusable. It does not know plans or runs. Begin with `fingerprint.py`, then `closure.py`.
"""
