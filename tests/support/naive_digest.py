"""The digest of a plan once more, from what `docs/DIGEST.md` says alone: plain dicts, Python's own parser, nothing of firmplan."""

from __future__ import annotations

import ast
import hashlib
import json
from typing import Any

OPERATORS = {
    ast.Add: ("+", 5), ast.Sub: ("-", 5), ast.Mult: ("*", 6), ast.Div: ("/", 6), ast.FloorDiv: ("//", 6), ast.Mod: ("%", 6),
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in", ast.NotIn: "not in",
    ast.Is: "is", ast.IsNot: "is not", ast.USub: "-", ast.UAdd: "+",
}  # fmt: skip
ATOM = 9


def digest(plan: dict[str, Any]) -> str:
    """Return the digest of a valid plan."""
    return "sha256:" + hashlib.sha256(canonical_text(plan).encode()).hexdigest()


def canonical_text(plan: dict[str, Any]) -> str:
    """Return the canonical form of a valid plan."""
    form = {"firmplan": 1, **_body(plan)}
    form["plans"] = {name: _body(inner) for name, inner in plan.get("plans", {}).items()}
    return json.dumps(
        _plain(form), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value + 0.0 if isinstance(value, float) else value


def _body(body: dict[str, Any]) -> dict[str, Any]:
    steps = [_step(step) for step in body["steps"]]
    filled = {name: body.get(name, {}) for name in ("inputs", "types")}
    declared = {} if body.get("returns") is None else {"returns": body["returns"]}
    return {**filled, **declared, "steps": steps, "output": _template(body.get("output"))}


def _step(step: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in step.items() if key != "why"}
    made.setdefault("after", [])
    made.setdefault("on_error", "fail")
    if "tool" in step or "plan" in step:
        made["args"] = _template(step.get("args", {}))
    for key in ("set", "when", "for_each"):
        if key in step:
            made[key] = _template(step[key])
    for key in ("repeat", "retries", "timeout"):
        if made.get(key, 0) is None:
            del made[key]
    if isinstance(made["on_error"], dict):
        made["on_error"] = {"value": _template(made["on_error"]["value"])}
    if "repeat" in made:
        made["repeat"] = {**made["repeat"], "until": _template(made["repeat"]["until"])}
    if "ask" in step:
        made["ask"] = {
            "returns": {"type": "string"},
            "guard": [],
            **_some(step["ask"], "prompt", "system", "examples"),
        }
    if "agent" in step:
        defaults = {"tools": [], "returns": {"type": "string"}, "max_steps": 10, "budget": {}}
        made["agent"] = {**defaults, **_some(step["agent"], "goal")}
    return made


def _some(given: dict[str, Any], *templates: str) -> dict[str, Any]:
    kept = {key: value for key, value in given.items() if value is not None}
    return {key: _template(value) if key in templates else value for key, value in kept.items()}


def _template(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _template(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_template(part) for part in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    made, at = "", 0
    while at < len(text):
        if text.startswith("$${", at):
            made, at = made + "$${", at + 3
        elif text.startswith("${", at):
            tree, at = _hole(text, at + 2)
            made += "${" + spell(tree) + "}"
        else:
            made, at = made + text[at], at + 1
    return made


def _hole(text: str, start: int) -> tuple[ast.expr, int]:
    """Return the first that parses of what ends at a brace, and where it ends."""
    end = start
    while True:
        end = text.index("}", end)
        inside = text[start:end].strip(" \t\f\r\n").replace("\n", " ").replace("\r", " ")
        try:
            return ast.parse(inside, mode="eval").body, end + 1
        except SyntaxError:
            end += 1


def spell(tree: ast.expr) -> str:
    """Return the canonical spelling of an expression."""
    return _spelled(tree)[0]


def _at(tree: ast.expr, least: int) -> str:
    text, binds = _spelled(tree)
    return text if binds >= least else f"({text})"


def _base(tree: ast.expr) -> str:
    is_number = isinstance(tree, ast.Constant) and type(tree.value) in (int, float)
    return f"({spell(tree)})" if is_number else _at(tree, ATOM)


def _spelled(tree: Any) -> tuple[str, int]:  # noqa: C901, PLR0911, PLR0912  # one case for each kind
    match tree:
        case ast.Constant(value=str() as value):
            return json.dumps(value, ensure_ascii=False), ATOM
        case ast.Constant(value=value):
            return repr(value), ATOM
        case ast.Name(id=name):
            return name, ATOM
        case ast.Attribute():
            return f"{_base(tree.value)}.{tree.attr}", ATOM
        case ast.Subscript(slice=ast.Slice() as cut):
            low, high, step = (
                "" if part is None else spell(part) for part in (cut.lower, cut.upper, cut.step)
            )
            return f"{_base(tree.value)}[{low}:{high}{':' + step if step else ''}]", ATOM
        case ast.Subscript():
            return f"{_base(tree.value)}[{spell(tree.slice)}]", ATOM
        case ast.UnaryOp(op=ast.Not()):
            return f"not {_at(tree.operand, 3)}", 3
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=9223372036854775808)):
            return "-9223372036854775808", 7
        case ast.UnaryOp():
            return OPERATORS[type(tree.op)] + _at(tree.operand, 7), 7
        case ast.BinOp(op=ast.Pow()):
            return f"{_at(tree.left, ATOM)} ** {_at(tree.right, 7)}", 8
        case ast.BinOp():
            operator, binds = OPERATORS[type(tree.op)]
            return f"{_at(tree.left, binds)} {operator} {_at(tree.right, binds + 1)}", binds
        case ast.Compare():
            rest = [
                f" {OPERATORS[type(op)]} {_at(part, 5)}"
                for op, part in zip(tree.ops, tree.comparators, strict=True)
            ]
            return _at(tree.left, 5) + "".join(rest), 4
        case ast.BoolOp():
            word, binds = ("and", 2) if isinstance(tree.op, ast.And) else ("or", 1)
            return f" {word} ".join(_at(part, binds + 1) for part in tree.values), binds
        case ast.IfExp():
            return f"{_at(tree.body, 1)} if {_at(tree.test, 1)} else {spell(tree.orelse)}", 0
        case ast.List():
            return "[" + ", ".join(map(spell, tree.elts)) + "]", ATOM
        case ast.Dict():
            pairs = zip(tree.keys, tree.values, strict=True)
            return "{" + ", ".join(f"{spell(key)}: {spell(value)}" for key, value in pairs) + "}", ATOM
        case ast.ListComp():
            return f"[{spell(tree.elt)}{_clauses(tree)}]", ATOM
        case ast.DictComp():
            return f"{{{spell(tree.key)}: {spell(tree.value)}{_clauses(tree)}}}", ATOM
        case ast.GeneratorExp():
            return f"({spell(tree.elt)}{_clauses(tree)})", ATOM
        case ast.Lambda():
            return f"lambda {tree.args.args[0].arg}: {spell(tree.body)}", 0
        case ast.Call():
            words = [*map(spell, tree.args), *(f"{word.arg}={spell(word.value)}" for word in tree.keywords)]
            alone = len(words) == 1 and tree.args and isinstance(tree.args[0], ast.GeneratorExp)
            return f"{_base(tree.func)}({words[0][1:-1] if alone else ', '.join(words)})", ATOM
        case _:
            raise AssertionError(ast.dump(tree))


def _clauses(tree: Any) -> str:
    made = ""
    for clause in tree.generators:
        names = clause.target.elts if isinstance(clause.target, ast.Tuple) else [clause.target]
        made += f" for {', '.join(map(spell, names))} in {_at(clause.iter, 1)}"
        made += "".join(f" if {_at(condition, 1)}" for condition in clause.ifs)
    return made
