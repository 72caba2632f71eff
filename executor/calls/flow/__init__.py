"""The information flow at run time: whether this call may have these arguments.

This folder decides about values and their labels. It makes no call and knows no store. Begin with `flow_policy.py` (untrusted data that
reaches a write), then `secrecy_policy.py` (private data and its readers) and `policies.py` (rules about the arguments of calls).
"""
