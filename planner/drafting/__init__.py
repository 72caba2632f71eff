"""Plans from a model: prompts, the draft in the answer, its check and its repair, and the choice of tools and examples to show.

The folder knows models, the signatures of tools and the check; it never sees a result of a tool. Begin with `drafting.py`, then
`conversation.py` and `prompt.py`.
"""
