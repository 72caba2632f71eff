"""Old plans and runs stay readable when the language grows: a new function takes no name away.

`tests/vectors/names` holds a store and plan files whose steps, inputs, loops and lambda parameters are named like the functions that may come
(`future_functions.py` has the list). Kept for ever, and read here by this version, and by one that has all of these functions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import future_functions
import pytest
from firmplan import StoreError
from firmplan.executor import ToolsetLock
from firmplan.executor.journal.header import Header
from firmplan.plans.expressions.functions import EXPRESSION_VERSION, FUNCTIONS, METHODS, RESERVED_FUNCTIONS

GOLDEN = Path(__file__).parents[1] / "vectors" / "names"
SUPPORT = Path(future_functions.__file__)


def _process(*arguments):
    """Run Python in a process of its own, and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(SUPPORT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _grown(code):
    """Return what code leaves in `found`, in a version of the language that has all these functions."""
    head = "import json, future_functions\nfuture_functions.grow()\n"
    return _process("-c", f"{head}{code}\nprint(json.dumps(found))")


@pytest.fixture(scope="module")
def seen():
    """What this version sees of the golden files."""
    return _process(str(SUPPORT), "look", str(GOLDEN))


def test_plans_and_runs_with_these_names_are_read_for_ever(seen):
    """Digests, outputs and replays are those that were written down."""
    kept = json.loads((GOLDEN / "seen.json").read_text(encoding="utf-8"))
    assert {name: seen[name] for name in future_functions.KEPT} == kept
    assert {status for status, *_ in kept["runs"].values()} == {"succeeded", "waiting"}


def test_a_language_with_these_functions_sees_the_same(seen):
    """Check, digest, spelling, rename, diff, pictures, run, replay and resume: nothing depends on the functions that there are."""
    assert _process(str(SUPPORT), "look-grown", str(GOLDEN)) == seen


def test_before_a_bracket_a_name_is_the_function_and_elsewhere_the_value():
    """`slug(x)` calls the function also where a step, a loop or a lambda has its name: values cannot be called."""
    found = _grown(
        """
from firmplan.plans.expressions.formula import parse_formula
from firmplan.plans.expressions.infer import infer
from firmplan.plans.types.show import type_text
from firmplan.plans.types.types import TEXT, ListType, ObjectType
def run(text, scope):
    formula, faults = parse_formula(text)
    return [formula.evaluate(scope) if not faults else faults[0].message, formula.canonical]
row = {"slug": 4}
found = [
    run("${slug(slug)}", {"slug": "a"}),
    run("${[slug(slug) for slug in slug]}", {"slug": ["a", "b"]}),
    run("${sorted(map, key=lambda date: date(date))}", {"map": ["b", "a"]}),
    run("${ (slug)( slug . slug ) }", {"slug": row}),
    run("${[slug.slug, slug.text.slug()]}", {"slug": {"slug": 4, "text": "t"}}),
    run("${[now(x) for x in now for now in [x]]}", {"now": [1]}),
    run("${len}", {}),
    run("${[1 for len in [1]]}", {}),
    type_text(infer(parse_formula("${slug(slug)}")[0], {"slug": TEXT}).type),
    [[f.code, f.message, f.hint] for f in infer(parse_formula("${slug}")[0], {"inputs": ObjectType({})}).problems],
]
"""
    )
    assert found == [
        ["slug of a", "${slug(slug)}"],
        [["slug of a", "slug of b"], "${[slug(slug) for slug in slug]}"],
        [["a", "b"], "${sorted(map, key=lambda date: date(date))}"],
        ["slug of 4", "${slug(slug.slug)}"],
        [[4, "slug of t"], "${[slug.slug, slug.text.slug()]}"],
        [["now of 1"], "${[now(x) for x in now for now in [x]]}"],
        ["'len' is a function", "${len}"],
        ["'len' is a function, so it cannot be a loop name", "${[1 for len in [1]]}"],
        "text",
        [
            [
                "unknown-ref",
                "'slug' is neither a step nor a name in scope",
                "it is a function, call it: slug(..)",
            ]
        ],
    ]


def test_a_run_has_the_functions_of_the_version_that_it_began_with(tmp_path):
    """A header of version 1 with a later function is refused as version 1 refused it; one of version 2 runs, and replays."""
    found = _grown(
        f"""
from firmplan import Engine, PlanRejected
from firmplan.executor import ToolsetLock
from firmplan.executor.journal.header import Header
from firmplan.executor.journal.header import build_machine
plan = {{"firmplan": 1, "steps": [{{"id": "slug", "set": "a"}}, {{"id": "b", "set": ["${{slug(slug)}} ${{slug.split()}}"]}}], "output": "${{b}}"}}
with Engine([], store={str(tmp_path / "s.db")!r}) as engine:
    run = engine.run_sync(plan, run_id="new")
    found = [run.output, engine.replay_sync("new").digest == run.digest]
stored = Header(run.plan, {{}}, "seed", ToolsetLock(())).to_dict()
found += [stored["expressions"], Header.from_dict(stored).to_dict() == stored]
stored = {{**stored, "expressions": 1}}
old = Header.from_dict(stored)
found.append(old.to_dict() == stored)
try:
    build_machine(old)
except PlanRejected as refused:
    found += [[each.code, each.path, each.message, each.hint] for each in refused.report.problems]
"""
    )
    began = f"it came with version {EXPRESSION_VERSION + 1} of expressions, and this run began with version 1"
    assert found == [
        ['slug of a ["a"]'],
        True,
        EXPRESSION_VERSION + 1,
        True,
        True,
        ["bad-expr", "$.steps[1].set[0]", "there is no function 'slug'", began],
    ]
    stored = {
        **Header(None, {}, "", ToolsetLock(()), task="t").to_dict(),
        "expressions": EXPRESSION_VERSION + 1,
    }
    with pytest.raises(StoreError, match="upgrade firmplan"):
        Header.from_dict(stored)


def test_the_reserved_names_are_those_of_version_1():
    """Written out and frozen: a later function says its version, and reserves nothing."""
    assert {name for name, function in FUNCTIONS.items() if function.since == 1} == RESERVED_FUNCTIONS
    every = [*FUNCTIONS.values(), *METHODS.values()]
    assert max(function.since for function in every) <= EXPRESSION_VERSION
    assert RESERVED_FUNCTIONS.isdisjoint(future_functions.NAMES)
    assert len(set(future_functions.NAMES)) == len(future_functions.NAMES) >= 40
