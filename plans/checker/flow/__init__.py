"""Information flow: where data from untrusted tools, and private data, goes in a plan, and where it may not go.

The folder knows bodies, templates and signatures of tools; it does not know types, runs or approvals. Begin with `labels.py` (how labels spread), then
`sinks.py` (what is judged by them); `survey.py` outside labels all bodies of a plan.
"""
