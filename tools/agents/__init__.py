"""Tools that a language model carries out: `@agent`, and the conversations that go in and come out.

This folder does not know endpoints or retries: `tools/models` asks the models. Begin with `agent.py`.
"""
