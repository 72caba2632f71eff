"""What a person is shown who decides about a call: the call itself, where its arguments come from, and what the same step did last time.

This folder decides nothing and moves no run: it reads journals. It knows neither tools' code nor screens. Begin with `waiting.py`, which makes the
view of a run; `view.py` has its values and their text, the same for Python, the command line and HTTP.
"""
