"""The fingerprint of a tool: a digest of everything in its code that can change a result.

The folder follows a function to the functions, classes and constants that it reaches. It fails closed: a gap means that the tool's results
are not reused. It knows no plan and no run. Begin with `fingerprint.py`, then `closure.py` and `resolution.py`.
"""
