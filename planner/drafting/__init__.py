"""How a plan is got from a model: prompts, the draft in the answer, the check, and the repair of drafts.

The folder knows models, signatures of tools and the check; it sees no result of a tool. Begin with `drafting.py` and `conversation.py`.
"""
