"""What Python has and the language does not, each with what to write instead."""

from __future__ import annotations

import ast

REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Tuple: ("tuples are not part of the language", "write a list: [a, b]"),
    ast.Set: ("sets are not part of the language", "write a list: [a, b]; distinct(..) drops what is twice"),
    ast.SetComp: ("set comprehensions are not part of the language", "write: distinct([.. for x in xs])"),
    ast.GeneratorExp: (
        "a generator stands only as the argument of a function",
        "write a list: [.. for x in xs]",
    ),
    ast.Starred: ("'*' does not unpack here", "join lists with +"),
    ast.NamedExpr: ("':=' is not part of the language", "compute the value in a step of its own with 'set'"),
    ast.Lambda: (
        "a lambda stands only as key= of sorted, min and max",
        "write: sorted(xs, key=lambda x: x.field)",
    ),
    ast.Await: ("'await' is not part of the language", ""),
    ast.Yield: ("'yield' is not part of the language", ""),
    ast.YieldFrom: ("'yield' is not part of the language", ""),
    ast.JoinedStr: ("f-strings are not part of the language", 'write text + str(x), or join([..], "")'),
    ast.Slice: ("a slice stands only inside x[..]", ""),
}
METHODS_ELSEWHERE = {
    "items": "items(x)",
    "keys": "keys(x)",
    "values": "values(x)",
    "get": "first(x.field, default)",
    "append": "xs + [x]",
    "extend": "xs + ys",
    "sort": "sorted(xs)",
    "reverse": "reversed(xs)",
    "format": "text + str(x)",
    "map": "[.. for x in xs]",
    "filter": "[x for x in xs if ..]",
    "includes": "x in xs",
    "contains": "x in xs",
    "toString": "str(x)",
    "toLowerCase": ".lower()",
    "toUpperCase": ".upper()",
}
FUNCTIONS_ELSEWHERE = {
    "average": "avg(xs)",
    "coalesce": "first(a, b)",
    "concat": "join(xs), or xs + ys",
    "count": "len(xs)",
    "default": "first(x, default)",
    "dict": "{k: v for k, v in items(x)}",
    "dumps": "str(x)",
    "filter": "[x for x in xs if ..]",
    "format": "text + str(x)",
    "get": "first(x.field, default)",
    "json": "str(x)",
    "length": "len(xs)",
    "list": "[x for x in xs]",
    "map": "[.. for x in xs]",
    "mean": "avg(xs)",
    "next": "xs[0]",
    "pow": "x ** 2",
    "set": "distinct(xs)",
    "size": "len(xs)",
    "string": "str(x)",
    "to_json": "str(x)",
    "tojson": "str(x)",
    "tuple": "[a, b]",
    "unique": "distinct(xs)",
}
