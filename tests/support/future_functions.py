"""Plans that use the names of likely future functions for all that a plan can name, and a language that has these functions.

`python tests/support/future_functions.py write FOLDER` writes golden files once: `store.sqlite`, `plan.json`, `plan.yaml` and `seen.json`, what
this version sees in them. `.. look FOLDER` prints what it sees now, `.. look-grown FOLDER` what a version with a function of each name
sees: `tests/safety/test_future_functions.py` compares them. Each is a process of its own, since a table of functions is for good.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from firmplan.plans.expressions import function_types as signatures
from firmplan.plans.expressions import functions
from firmplan.plans.expressions import functions as methods

NAMES = [
    "slug",
    "split",
    "map",
    "filter",
    "date",
    "now",
    "zip_longest",
    "upper",
    "lower",
    "title",
    "replace",
    "format",
    "strip",
    "count",
    "find",
    "contains",
    "startswith",
    "endswith",
    "unique",
    "group_by",
    "sort_by",
    "chunk",
    "take",
    "drop",
    "last",
    "nth",
    "merge",
    "pick",
    "omit",
    "get",
    "floor",
    "ceil",
    "sqrt",
    "pow",
    "median",
    "mean",
    "product",
    "match",
    "search",
    "today",
    "time",
    "parse_date",
    "json",
    "dumps",
    "loads",
    "hash",
    "uuid",
    "pad",
    "set",
    "dict",
    "list",
    "tuple",
    "type",
    "next",
    "reduce",
]
"""Functions that this language, or one like it, is most likely to get; no name may be added to a golden plan, or taken away."""

NEXT = functions.EXPRESSION_VERSION + 1
"""The version of the language that has them."""

KEPT = ("digests", "runs", "replayed", "saved", "resumed", "anew")
"""What is seen and may never change."""


def grow() -> None:
    """Give the language a function of each name, and a method: the next version. To be called before any plan is read."""
    assert "firmplan.executor" not in sys.modules

    def function(name: str) -> functions.Function:
        def apply(frame: Any, *values: Any) -> str:
            return f"{name} of {' and '.join(functions.text_of(frame, value) for value in values)}"

        return functions.Function(f"{name}(x, ..) -> text", 1, None, apply, since=NEXT)

    for name in NAMES:
        functions.FUNCTIONS[name] = function(name)
        signatures.FUNCTION_TYPES[name] = signatures.FUNCTION_TYPES["str"]  # type: ignore[index]  # a test's own language
        if name not in methods.METHODS:
            methods.METHODS[name] = replace(function(name), least=0)
            signatures.METHOD_TYPES[name] = signatures.FUNCTION_TYPES["str"]  # type: ignore[index]  # the same
    for module in [module for name, module in sys.modules.items() if name.startswith("firmplan.")]:
        if hasattr(module, "EXPRESSION_VERSION"):
            module.EXPRESSION_VERSION = NEXT  # type: ignore[attr-defined]  # the same


def _steps(name: str, other: str) -> list[dict[str, Any]]:
    """Return steps in which a name stands wherever an expression can have one."""
    loops = [
        f"[{name}.n for {name} in {other}.rows if {name}.n > 1]",
        f"[{other} for {other}, {name} in [[1, 2], [3, 4]] if {name}]",
        f"{{{name}: {other} for {other}, {name} in enumerate(keys(inputs.{name}))}}",
        f"sorted({other}.rows, key=lambda {name}: -{name}.n)[0].{name}",
        f"sum({name} * {other} for {name} in [1, 2] for {other} in [{name}, {name} + 1])",
    ]
    uses = [
        name,
        f"{name}.n",
        f'{name}["n"]',
        f"({name}).rows[0].{name}",
        f"first({name}, None)",
        f"{name} == {name}",
    ]
    return [
        {"id": name, "set": {"n": f"${{{len(name)} + index}}", name: "${item}", "rows": [{"n": "${index}", name: 1}]},
         "for_each": [name], "when": "${index < 1}"},
        {"id": f"of_{name}", "set": {name: [f"${{{use.replace(name, f'{name}[0]', 1)}}}" for use in uses[1:4]]}},
        {"id": f"to_{name}", "set": f"{name} ${{{name}}} ${{ {name}  [ -1 ] . n }} $${{{name}}}", "after": [name]},
        {"id": f"loops_{name}", "set": {str(at): f"${{{loop}}}".replace(f"{other}.rows", f"{name}[0].rows")
                                        for at, loop in enumerate(loops)}},
        {"id": f"whole_{name}", "set": {"a": f"${{{uses[0]}}}", "b": f"${{{uses[4]}}}", "c": f"${{{uses[5]}}}"}},
    ]  # fmt: skip


def big_plan() -> dict[str, Any]:
    """Return the golden plan."""
    inner = {
        "inputs": {name: {"type": "integer"} for name in NAMES[:3]},
        "steps": [{"id": NAMES[4], "set": f"${{{' + '.join(f'inputs.{name}' for name in NAMES[:3])}}}"}],
        "output": f"${{{NAMES[4]}}}",
    }
    steps = [
        step
        for name, other in zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True)
        for step in _steps(name, other)
    ]
    return {
        "firmplan": 1,
        "task": "Name everything like a function that may come",
        "inputs": {
            name: {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name], "default": {name: at}}
            for at, name in enumerate(NAMES)
        },
        "plans": {NAMES[0]: inner},
        "steps": [*steps, {"id": "inner", "plan": NAMES[0], "args": {name: at for at, name in enumerate(NAMES[:3])}}],
        "output": {name: f"${{[{name}, inputs.{name}.{name}, of_{name}, loops_{name}]}}" for name in NAMES},
    }  # fmt: skip


def small_plan() -> dict[str, Any]:
    """Return a plan that calls tools, repeats, falls back and waits for a person, with such names."""
    return {
        "firmplan": 1,
        "inputs": {"slug": {"type": "integer", "default": 2}},
        "steps": [
            {"id": "slug", "tool": "double", "args": {"x": "${inputs.slug}"}},
            {"id": "map", "tool": "double", "for_each": "${range(slug)}", "when": "${item != 1}", "args": {"x": "${item}"}},
            {"id": "now", "tool": "double", "args": {"x": "${first(prev, slug)}"}, "repeat": {"until": "${now > 20}", "max": 5}},
            {"id": "filter", "tool": "broken", "on_error": {"value": "${slug}"}},
            {"id": "date", "set": "${now}", "when": "${slug > 100}"},
            {"id": "format", "tool": "double", "args": {"x": "${first(date, now)}"}},
            {"id": "replace", "tool": "pay", "args": {"amount": "${sum(map) + filter}"}, "after": ["slug"]},
        ],
        "output": {"replace": "${replace}", "map": "${[now for now in map if now]}", "format": "${str(format)}"},
    }  # fmt: skip


def tools_of(calls: list[str]) -> list[Any]:
    """Return the tools of the small plan; they note their calls."""
    from firmplan import ToolError, tool  # after `grow`

    @tool(effect="pure", version=1)
    def double(x: int) -> int:
        """Double."""
        calls.append("double")
        return 2 * x

    @tool(effect="pure", version=1)
    def broken() -> int:
        """Fail."""
        raise ToolError("broken")

    @tool(effect="write", approval="always", version=1)
    def pay(amount: int) -> int:
        """Pay, if a person says so."""
        calls.append("pay")
        return amount

    return [double, broken, pay]


async def _write(folder: Path) -> None:
    from firmplan import Engine, Plan  # after `grow`

    plan = Plan.model_validate(big_plan())
    plan.save(folder / "plan.json")
    plan.save(folder / "plan.yaml")
    async with Engine(tools_of([]), store=folder / "store.sqlite") as engine:
        await engine.run(plan, run_id="names")
        for run_id in ("small", "waiting"):
            await engine.run(small_plan(), run_id=run_id)
        await engine.approve("small", "replace", by="me")
        await engine.resume("small")
        await engine.save_plan("names", plan)
    db = sqlite3.connect(folder / "store.sqlite", isolation_level=None)
    for statement in ("PRAGMA journal_mode=DELETE", "DELETE FROM calls", "DELETE FROM codes", "VACUUM"):
        db.execute(statement)
    db.close()


async def _look(folder: Path) -> dict[str, Any]:
    """Return all that can be seen of the golden files: by every reader of plans and runs."""
    from firmplan import Engine, Plan, check  # after `grow`

    plan, other = Plan.load(folder / "plan.json"), Plan.load(folder / "plan.yaml")
    report = check(plan, tools_of([]))
    renamed = plan.apply(
        [{"op": "rename", "step": "slug", "to": "slugs"}, {"op": "rename", "input": "map", "to": "maps"}]
    )
    back = renamed.apply(
        [{"op": "rename", "step": "slugs", "to": "slug"}, {"op": "rename", "input": "maps", "to": "map"}]
    )
    found: dict[str, Any] = {
        "digests": [plan.digest, other.digest, back.digest],
        "text": [plan.to_json(), renamed.to_json()],
        "canonical": {step.id: {name: each.formula.canonical for name, each in step.templates.items()} for step in plan.steps},
        "report": [[str(problem) for problem in report.problems], {name: report.types[name] for name in sorted(report.types)}],
        "diff": [str(plan.diff(renamed)), str(plan.diff(back))],
        "pictures": [plan.render(form) for form in ("text", "mermaid")],
    }  # fmt: skip
    calls: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store.sqlite"
        shutil.copy(folder / "store.sqlite", store)
        async with Engine([], store=store) as engine:
            page = await engine.list_runs(limit=10)
            runs = [await engine.get(each.id) for each in page.runs]
            found["runs"] = {run.id: [run.status, run.output, run.digest, [*run.steps]] for run in runs}
            found["replayed"] = {run.id: (await engine.replay(run.id)).digest for run in runs}
            saved = await engine.find_plan("names")
            found["saved"] = saved and saved.digest
        async with Engine(tools_of(calls), store=store) as engine:
            await engine.approve("waiting", "replace", by="me")
            resumed = await engine.resume("waiting")
            anew = await engine.run(plan, run_id="anew")
            found["resumed"] = [
                resumed.status,
                resumed.output,
                resumed.digest,
                (await engine.replay("waiting")).digest,
            ]
            found["anew"] = [anew.status, anew.digest, (await engine.replay("anew")).digest]
    found["calls"] = calls
    return found


def main() -> None:
    """See the module."""
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "look-grown":
        grow()
    if command == "write":
        folder.mkdir(parents=True)
        asyncio.run(_write(folder))
        seen = asyncio.run(_look(folder))
        kept = {name: seen[name] for name in KEPT}
        (folder / "seen.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    else:
        sys.stdout.write(json.dumps(asyncio.run(_look(folder))))


if __name__ == "__main__":
    main()
