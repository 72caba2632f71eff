"""The expression language: the text in `${..}` is parsed, typed, written in canonical form and evaluated over JSON.

The folder knows JSON values and types; it does not know steps, tools or runs, and it never hands text to `eval`. Begin with `nodes.py` (all that an
expression can be), then `syntax.py` (text to nodes), `evaluate.py` (nodes to a function) and `infer.py` (nodes to a type).
"""
