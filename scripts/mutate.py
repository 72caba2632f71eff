"""Change the product in small ways and see whether a test fails: `make mutate`; `scripts/mutate.py machine --sample 200` a part of it.

A mutant is one changed place in one function: a comparison moved by one, a constant raised or lowered, a statement, a guard, a `raise` or a
returned value removed, a condition turned around, an operator swapped. A mutant that no test notices has *survived*: nothing holds that
line. Which lines may never survive, `docs/TESTING.md` says.

How it is fast: pytest collects the tests once, and every mutant gets a fork of that process, in which the code of the changed function is
exchanged. A first pass notes which test calls which function; a mutant meets only tests that call its function, those first that killed its
neighbours, then the quickest. So a mutant costs milliseconds to seconds instead of the start of an interpreter and a collection. Why no kept
tool does this, judged from how they work and without a trial: mutmut copies the sources into a folder of its own and finds packages by that
folder, but here the root of the repository is the package; cosmic-ray starts pytest anew for each mutant.

What it does not do: it changes no code outside functions (constants of modules are held by the tests of pages), and none in processes that a
test starts.

Results are lines of JSON in the file of results; a run that is started again goes on behind them, unless the module was changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import hashlib
import json
import os
import select
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from random import Random
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).resolve().parent.parent
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "machine": (
        (
            "machine",
            "budget",
            "ledger",
            "execution_tree",
            "states",
            "policy",
            "skip_rules",
            "fork",
            "limits",
            "lru_cache",
        ),
        ("tests/executor", "tests/blackbox", "tests/sim", "tests/laws", "tests/safety/test_limits.py"),
    ),
    "evaluator": (
        ("evaluate", "operators", "functions", "type_rules"),
        (
            "tests/plans/expressions/test_evaluate.py",
            "tests/plans/expressions/test_evaluate_limits.py",
            "tests/plans/expressions/test_evaluate_laws.py",
            "tests/plans/expressions/test_syntax.py",
            "tests/plans/expressions/test_formula.py",
            "tests/plans/expressions/test_infer.py",
            "tests/plans/checker/test_hostile_plans.py",
            "tests/docs/test_expressions_page.py",
            "tests/blackbox/test_arguments.py",
            "tests/laws/test_machine_oracle.py",
            "tests/safety/test_limits.py",
        ),
    ),
    "stores": (
        (
            "store",
            "garbage",
            "location",
            "postgres_connection",
            "postgres_store",
            "sql_store",
            "sqlite_file",
            "sqlite_store",
        ),
        (
            "tests/contract",
            "tests/blackbox/test_postgres.py",
            "tests/blackbox/test_reuse.py",
            "tests/cli/test_cache.py",
            "tests/cli/test_postgres.py",
            "tests/cli/test_store.py",
            "tests/executor/stores/test_cache.py",
            "tests/executor/journal/test_kept_bytes.py",
            "tests/executor/stores/test_key_filter.py",
            "tests/executor/calls/test_reuse.py",
            "tests/executor/journal/test_tampering.py",
            "tests/planner/library/test_hits.py",
            "tests/safety/test_artifacts.py",
            "tests/safety/test_deleting.py",
            "tests/safety/test_disk_faults.py",
            "tests/safety/test_hosts.py",
            "tests/safety/test_large_values.py",
            "tests/safety/test_leases.py",
            "tests/safety/test_postgres_owners.py",
            "tests/safety/test_read_only.py",
            "tests/safety/test_stored_digests.py",
        ),
    ),
    "journals": (
        (
            "bundle",
            "decision_history",
            "header",
            "journal",
            "records",
            "restore",
            "toolset_lock",
        ),
        (
            "tests/executor/journal/test_bundle.py",
            "tests/executor/journal/test_commits.py",
            "tests/executor/journal/test_decision_history.py",
            "tests/executor/runs/test_decisions.py",
            "tests/executor/journal/test_header.py",
            "tests/executor/journal/test_journal.py",
            "tests/executor/journal/test_kept_bytes.py",
            "tests/executor/test_lru_cache.py",
            "tests/executor/runs/test_recovering.py",
            "tests/executor/runs/test_replay.py",
            "tests/executor/journal/test_restore.py",
            "tests/executor/journal/test_tampering.py",
            "tests/executor/journal/test_toolset_lock.py",
            "tests/executor/review/test_verify.py",
            "tests/laws/test_travelling_runs.py",
            "tests/safety/test_artifacts.py",
            "tests/safety/test_concurrent_decisions.py",
            "tests/safety/test_deleting.py",
            "tests/safety/test_disk_faults.py",
            "tests/safety/test_finished_runs.py",
            "tests/safety/test_future_functions.py",
            "tests/safety/test_golden_journals.py",
            "tests/safety/test_stored_digests.py",
            "tests/safety/test_stopped_writes.py",
        ),
    ),
    "owner": (
        ("owner", "watch", "deaths", "decisions"),
        (
            "tests/blackbox/test_concurrent_callers.py",
            "tests/blackbox/test_decisions.py",
            "tests/contract",
            "tests/executor/runs/test_list_approvals.py",
            "tests/executor/calls/test_ask.py",
            "tests/executor/runs/test_deaths.py",
            "tests/executor/runs/test_decisions.py",
            "tests/executor/calls/test_edit_matrix.py",
            "tests/executor/runs/test_owner.py",
            "tests/executor/runs/test_presence.py",
            "tests/executor/runs/test_recovering.py",
            "tests/executor/runs/test_watch.py",
            "tests/safety/test_hosts.py",
            "tests/safety/test_leases.py",
            "tests/safety/test_postgres_owners.py",
        ),
    ),
    "lease": (
        ("lease",),
        (
            "tests/executor/calls/test_lease.py",
            "tests/executor/runs/test_owner.py",
            "tests/safety/test_stopped_writes.py",
        ),
    ),
}
"""Group -> its modules, and the tests that are collected for it."""
PACKAGES = {
    "machine": "executor",
    "evaluator": "plans.expressions",
    "stores": "executor.stores",
    "journals": "executor.journal",
    "owner": "executor.runs",
    "lease": "executor.calls",
}
ITEM_S_MIN = 15.0  # how long one test may take before its mutant counts as hanging, whatever it took before
TESTS_S_MAX = 8.0  # of tests, by what they took in the first pass, that one mutant meets at most
TESTS_MAX = 300  # tests that one mutant meets at most

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
SWAPPED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
LOGS = {"debug", "info", "warning", "error", "exception"}


# --- which changes there are


@dataclass(frozen=True)
class Mutant:
    """One change: of the `number`-th node of a module (in the order of `ast.walk`), in way `variant`."""

    module: str
    line: int
    function: str
    kind: str
    number: int
    variant: int
    digest: str

    @property
    def id(self) -> str:
        """Name it, in results too; another text of the module makes other mutants."""
        return f"{self.module}:{self.digest}:{self.number}:{self.kind}:{self.variant}"


class Source:
    """A module's text, its tree, and the functions at the top of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = str(ROOT / f"{name.replace('.', '/')}.py")
        self.text = Path(self.file).read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.digest = hashlib.sha256(self.text.encode()).hexdigest()[:8]
        self.tree = ast.parse(self.text)
        self.owners: list[
            tuple[int, int, str]
        ] = []  # first and last line of each outermost function, and its name
        self._find_owners(self.tree, "")

    def _find_owners(self, tree: ast.AST, above: str) -> None:
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                self.owners.append((first, node.end_lineno or first, above + node.name))
            elif isinstance(node, ast.ClassDef):
                self._find_owners(node, f"{above}{node.name}.")
            elif not isinstance(node, ast.expr):
                self._find_owners(node, above)

    def load(self) -> None:
        """Import the module, whose functions know its file by the name that it was imported with."""
        self.file = str(import_module(f"firmplan.{self.name}").__file__)

    def owner_of(self, line: int) -> str:
        """Return the outermost function that a line belongs to."""
        return next((name for first, last, name in self.owners if first <= line <= last), f"line {line}")

    def mutants(self) -> list[Mutant]:
        """Return every change, by line."""
        numbers = {id(node): number for number, node in enumerate(ast.walk(self.tree))}
        found = [
            Mutant(self.name, line, self.owner_of(line), kind, numbers[id(node)], variant, self.digest)
            for node in _inside_functions(self.tree, is_inside=False)
            for kind, variant in _ways(node)
            for line in [_line_of(node)]
        ]
        return sorted(found, key=lambda each: (each.line, each.number, each.kind, each.variant))

    def mutated(self, mutant: Mutant) -> ast.Module:
        """Return the tree with the change made."""
        tree = copy.deepcopy(self.tree)
        node = list(ast.walk(tree))[mutant.number]
        made = _changed(node, mutant.kind, mutant.variant)
        if made is not node:
            _put_in_place(tree, node, made)
        return ast.fix_missing_locations(tree)


def _line_of(node: Any) -> int:  # noqa: ANN401  # each kind has parts of its own
    """Return a node's line; of those that have none, the line of their first part."""
    if isinstance(node, ast.match_case):
        return node.pattern.lineno
    return node.target.lineno if isinstance(node, ast.comprehension) else node.lineno


def _inside_functions(node: ast.AST, *, is_inside: bool) -> Iterator[ast.AST]:
    """Yield the nodes of functions' bodies: no annotations, defaults, asserts, log lines, nor what an f-string spells."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for statement in node.body:
            yield from _inside_functions(statement, is_inside=True)
        return
    if isinstance(node, ast.Assert | ast.JoinedStr) or _is_log(node):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of `zip`: an assertion too
        return
    if is_inside:
        yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "pattern", "type_comment", "keywords"} and not isinstance(
            node, ast.Call
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                inside = is_inside or isinstance(node, ast.Lambda)
                yield from _inside_functions(child, is_inside=inside)


def _is_log(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    call = call.value if isinstance(call, ast.Await) else call
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in LOGS
        and isinstance(call.func.value, ast.Name)
        and "log" in call.func.value.id
    )


def _ways(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield how a node may be changed, as kind and variant."""
    if isinstance(node, ast.stmt):
        yield from _ways_of_statement(node)
    elif isinstance(node, ast.Compare):
        yield from (("comparison", place) for place, each in enumerate(node.ops) if type(each) in COMPARED)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", 0
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from (("constant", 1), ("constant", -1))
    elif (isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPPED) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    ):
        yield "operator", 0
    elif isinstance(node, ast.IfExp) or (isinstance(node, ast.match_case) and node.guard):
        yield "condition", 0
    elif isinstance(node, ast.comprehension):
        yield from (("condition", place) for place in range(len(node.ifs)))


def _ways_of_statement(node: ast.stmt) -> Iterator[tuple[str, int]]:
    match node:
        case ast.Expr(value=ast.Constant()):
            pass
        case ast.Expr() | ast.AugAssign() | ast.Delete() | ast.Break() | ast.Continue():
            yield "statement", 0
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield "statement", 0
        case ast.Raise():
            yield "raise", 0
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield "return", 0
        case ast.If() | ast.While():
            yield "condition", 0
            if isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break):
                yield "guard", 0
        case _:
            pass
    if isinstance(node, ast.AugAssign) and type(node.op) in SWAPPED:
        yield "operator", 0


def _changed(node: Any, kind: str, variant: int) -> ast.AST:  # noqa: ANN401  # each kind has nodes of its own
    """Make a change in a node, or return what takes its place."""
    match kind:
        case "comparison":
            node.ops[variant] = COMPARED[type(node.ops[variant])]()
        case "constant":
            node.value = node.value + variant if variant else not node.value
        case "statement" | "raise":
            return ast.copy_location(ast.Pass(), node)
        case "return":
            node.value = ast.Constant(None)
        case "operator" if isinstance(node, ast.UnaryOp):
            return node.operand
        case "operator":
            node.op = SWAPPED[type(node.op)]()
        case "guard":
            node.test = ast.Constant(value=False)
        case "condition" if isinstance(node, ast.comprehension):
            node.ifs[variant] = ast.UnaryOp(ast.Not(), node.ifs[variant])
        case "condition" if isinstance(node, ast.match_case):
            node.guard = ast.UnaryOp(ast.Not(), node.guard)
        case _:
            node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _put_in_place(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                return
            if isinstance(value, list) and any(each is old for each in value):
                value[:] = [new if each is old else each for each in value]
                return


# --- the change, made in this process


def exchange(source: Source, mutant: Mutant) -> bool:
    """Exchange the code of the function that a mutant changes, wherever it lives; whether there was one to exchange."""
    whole = compile(source.text, source.file, "exec", dont_inherit=True)
    changed = compile(source.mutated(mutant), source.file, "exec", dont_inherit=True)
    pairs = [
        pair for pair in zip(_functions_of(whole), _functions_of(changed), strict=True) if pair[0] != pair[1]
    ]
    live: dict[tuple[str, int], list[FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == source.file:
            live[each.__code__.co_qualname, each.__code__.co_firstlineno].append(each)
    exchanged = False
    while pairs:
        old, new = pairs.pop()
        found = live[old.co_qualname, old.co_firstlineno]
        for function in [each for each in found if each.__code__ == old] or found:
            if len(function.__code__.co_freevars) == len(new.co_freevars):
                function.__code__ = new
                exchanged = True
        pairs += _inner(old, new)
    return exchanged


def _inner(old: CodeType, new: CodeType) -> list[tuple[CodeType, CodeType]]:
    """Pair the changed functions inside a function: those that it has made already live on their own, as in tables of operators."""
    before, after = ([each for each in code.co_consts if isinstance(each, CodeType)] for code in (old, new))
    if len(before) != len(after):
        return []
    return [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]


def _functions_of(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of the outermost functions in a module's code, in the order in which it makes them."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if each.co_flags & 0x2:  # CO_NEWLOCALS: a function; the body of a class has it not
                yield each
            else:
                yield from _functions_of(each)


# --- the tests


class Runner:
    """A plugin of pytest: instead of running what was collected once, it runs parts of it in forks, one for each mutant."""

    def __init__(self, options: argparse.Namespace, sources: Sequence[Source]) -> None:
        self.options = options
        self.sources = {source.name: source for source in sources}
        self.results = Results(options.results)
        self.out = os.fdopen(os.dup(2), "w", buffering=1)  # pytest takes the streams
        self.items: dict[str, pytest.Item] = {}
        self.took: dict[str, float] = {}
        self.callers: dict[tuple[str, str], list[str]] = {}
        self.cost: dict[
            str, float
        ] = {}  # seconds, times the functions that it calls: one that calls few says more of each
        self.killers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Let Hypothesis look for a failure, and not for the smallest one."""
        from hypothesis import Phase, settings  # noqa: PLC0415  # pytest has to see it first

        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", deadline=None, phases=phases, database=None, derandomize=True)

    def pytest_collection(self) -> None:
        """Choose these settings before tests are imported, and after `conftest.py` has chosen its own."""
        from hypothesis import settings  # noqa: PLC0415

        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Note who calls what, then try the mutants."""
        self.items = {item.nodeid: item for item in session.items}
        for source in self.sources.values():
            source.load()
        cluster = self._share_postgres()
        try:
            self._look()
            self._try_all()
        finally:
            if cluster is not None:
                cluster.remove_at_last()
        return True

    def _say(self, text: str) -> None:
        self.out.write(text + "\n")

    def _share_postgres(self) -> Any:  # noqa: ANN401  # of a module that tests bring
        """Start one PostgreSQL server for all forks, instead of one in each that needs it."""
        postgres = import_module("postgres")
        if postgres.find_binaries() is None:
            return None
        cluster = postgres.Cluster()
        cluster.remove_at_last, cluster.remove = cluster.remove, lambda: None
        for module in list(sys.modules.values()):
            if getattr(module, "Cluster", None) is postgres.Cluster and module is not postgres:
                vars(module)["Cluster"] = lambda: cluster
        return cluster

    # the first pass

    def _look(self) -> None:
        """Run every test once, without a change: how long it takes, and which functions it calls. What fails is left out.

        What was seen is kept beside the results, and only tests that are new, or whose calls of these modules nobody has looked at, are
        run again; after large changes, remove that file.
        """
        kept = Path(f"{self.options.results}.calls")
        seen: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        if new := [
            test for test in self.items if not seen.get(test, [0, {}])[1].keys() >= self.sources.keys()
        ]:
            self._say(f"{len(new)} tests are run once, to see which functions each of them calls")
            for told in self._in_fork(new, 120.0, before=None, trace=True):
                if told.get("passed"):
                    called: dict[str, list[str]] = {module: [] for module in self.sources}
                    for module, function in told["called"]:
                        called[module].append(function)
                    seen[told["test"]] = [told["took"], seen.get(told["test"], [0, {}])[1] | called]
                elif "test" in told:
                    self._say(f"left out, since it fails without any change: {told['test']}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(seen), encoding="utf-8")
        callers: dict[tuple[str, str], list[str]] = defaultdict(list)
        for test, (took, called) in seen.items():
            if test in self.items:
                mine = [(module, function) for module in self.sources for function in called.get(module, [])]
                self.took[test], self.cost[test] = took, took * len(mine)
                for place in mine:
                    callers[place].append(test)
        self.callers = dict(callers)

    # the mutants

    def _try_all(self) -> None:
        mutants = [each for source in self.sources.values() for each in source.mutants()]
        if self.options.lines:
            first, _, last = self.options.lines.partition("-")
            mutants = [each for each in mutants if int(first) <= each.line <= int(last or first)]
        if 0 < self.options.sample < len(mutants):
            mutants = Random(self.options.seed).sample(mutants, self.options.sample)  # noqa: S311  # no secret
        left = self.results.survivors
        todo = [
            each
            for each in mutants
            if (each.id in left if self.options.again else each.id not in self.results.known)
        ]
        self._say(
            f"{len(mutants)} mutants, {len(mutants) - len(todo)} of them known from {self.options.results}"
        )
        for number, mutant in enumerate(todo):
            source = self.sources[mutant.module]
            outcome = self._try(source, mutant, number)
            self.results.add(mutant, source.lines[mutant.line - 1].strip(), **outcome)
            if outcome["result"] != "killed":
                self._say(f"{mutant.module}:{mutant.line} {mutant.kind} {outcome['result']}")
            if number % 50 == 49:
                self._say(f"{number + 1} of {len(todo)}")

    def _try(self, source: Source, mutant: Mutant, number: int) -> dict[str, Any]:
        tests = self._meeting(mutant)
        if not tests:
            return {"result": "survived", "tests": 0}
        began = time.monotonic()

        def before() -> None:
            vars(import_module("postgres"))["NUMBERS"] = count(1_000_000 + number * 1000)
            if not exchange(source, mutant):
                raise LookupError(mutant.id)

        for told in self._in_fork(tests, ITEM_S_MIN, before=before):
            if "lost" in told:
                return {"result": "not made", "tests": 0}
            if not told.get("passed"):
                self.killers[mutant.module, mutant.function][told["test"]] += 1
                self.killers[mutant.module, ""][told["test"]] += 1
                took = round(time.monotonic() - began, 2)
                return {"result": "killed", "by": told["test"], "how": told["how"], "seconds": took}
        return {"result": "survived", "tests": len(tests), "seconds": round(time.monotonic() - began, 2)}

    def _meeting(self, mutant: Mutant) -> list[str]:
        """Return the tests that a mutant meets: first those that killed its neighbours, then the quickest and most special."""
        calling = self.callers.get((mutant.module, mutant.function), [])
        near = self.killers[mutant.module, mutant.function]
        far = self.killers[mutant.module, ""]
        chosen: list[str] = []
        room = TESTS_S_MAX
        for test in sorted(calling, key=lambda each: (-near[each], -far[each], self.cost[each], each)):
            room -= self.took[test]
            if (room < 0 and chosen) or len(chosen) == TESTS_MAX:
                break
            chosen.append(test)
        return chosen

    def _in_fork(
        self, tests: list[str], item_s_min: float, before: Callable[[], None] | None, *, trace: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Run tests in a fork until one fails (with `trace`: all of them); yield what it tells of each."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setpgid(0, 0)  # what its tests start ends with it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                self._run_here(tests, writing, before, trace=trace)
            finally:
                os._exit(0)
        os.close(writing)
        try:
            yield from self._told(reading, tests, item_s_min)
        finally:
            os.close(reading)
            try:
                os.killpg(child, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _told(self, reading: int, tests: list[str], item_s_min: float) -> Iterator[dict[str, Any]]:
        rest, done = b"", 0
        while done < len(tests):
            patience = max(item_s_min, 10 * self.took.get(tests[done], 0.0))
            if not select.select([reading], [], [], patience)[0]:
                yield {"test": tests[done], "passed": False, "how": "it did not end"}
                return
            piece = os.read(reading, 1 << 16)
            if not piece:
                yield {"test": tests[done], "passed": False, "how": "the process died"}
                return
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                done += 1
                yield json.loads(line)

    def _run_here(
        self, tests: list[str], writing: int, before: Callable[[], None] | None, *, trace: bool
    ) -> None:
        def tell(**what: object) -> None:
            os.write(writing, json.dumps(what).encode() + b"\n")

        try:
            if before is not None:
                before()
        except LookupError:
            tell(lost=True)
            return
        items = [self.items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            called = _Called(self.sources.values()) if trace else None
            began = time.monotonic()
            reports = self._protocol(item, following)
            took = time.monotonic() - began
            failed = next((report for report in reports if report.failed), None)
            if failed is None:
                tell(
                    test=item.nodeid, passed=True, took=round(took, 4), called=called.end() if called else []
                )
                continue
            if called is not None:
                called.end()
            tell(test=item.nodeid, passed=False, how=failed.when)
            if not trace:
                return

    @staticmethod
    def _protocol(item: pytest.Item, following: pytest.Item | None) -> list[pytest.TestReport]:
        return runtestprotocol(item, nextitem=following, log=False)


class _Called:
    """Notes which functions of the sources are called, on all threads, until `end`."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = {source.file: source for source in sources}
        self._codes: set[CodeType] = set()
        threading.settrace(self._note)
        sys.settrace(self._note)

    def _note(self, frame: FrameType, _event: str, _arg: object) -> None:
        if frame.f_code.co_filename in self._sources:
            self._codes.add(frame.f_code)

    def end(self) -> list[tuple[str, str]]:
        """Return module and function of each."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        found = {
            (source.name, source.owner_of(code.co_firstlineno))
            for code in self._codes
            for source in [self._sources[code.co_filename]]
        }
        return sorted(found)


# --- what came out


class Results:
    """The file of results: one line of JSON for each mutant."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.lines: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                told = json.loads(line)
                self.lines[told["id"]] = told

    @property
    def known(self) -> set[str]:
        """The mutants that were tried."""
        return set(self.lines)

    @property
    def survivors(self) -> set[str]:
        """Those that no test noticed."""
        return {name for name, told in self.lines.items() if told["result"] == "survived"}

    def add(self, mutant: Mutant, text: str, **outcome: object) -> None:
        """Keep what became of a mutant."""
        told = {
            "id": mutant.id,
            "module": mutant.module,
            "line": mutant.line,
            "function": mutant.function,
            "kind": mutant.kind,
            "variant": mutant.variant,
            "text": text,
            **outcome,
        }
        self.lines[mutant.id] = told
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    def report(self, sources: Sequence[Source]) -> str:
        """Return the kill rate of each module, and the survivors with their lines."""
        rows = ["| module | mutants | killed | survived | kill rate |", "| --- | --- | --- | --- | --- |"]
        left: list[str] = []
        total: Counter[str] = Counter()
        for source in sources:
            ids = [each.id for each in source.mutants()]
            told = [self.lines[name] for name in ids if name in self.lines]
            made = Counter(each["result"] for each in told)
            total += made
            if made["killed"] + made["survived"]:
                rows.append(_row(source.name, made))
            left += [
                f"{each['module']}:{each['line']} {each['kind']}"
                + (f" {each['variant']:+d}" if each["kind"] == "constant" and each["variant"] else "")
                + f": {each['text']}"
                for each in told
                if each["result"] == "survived"
            ]
        rows.append(_row("all", total))
        return "\n".join([*rows, "", *left])


def _row(name: str, made: Counter[str]) -> str:
    tried = made["killed"] + made["survived"]
    rate = f"{100 * made['killed'] / tried:.1f} %" if tried else "-"
    return f"| `{name}` | {tried} | {made['killed']} | {made['survived']} | {rate} |"


def sources_of(names: Sequence[str]) -> tuple[list[Source], list[str]]:
    """Return the modules of groups, or of single modules, and the tests that are collected for them."""
    sources: list[Source] = []
    tests: list[str] = []
    for group, (modules, paths) in GROUPS.items():
        for module in modules:
            if not names or group in names or module in names:
                sources.append(Source(f"{PACKAGES[group]}.{module}"))
                tests += [path for path in paths if path not in tests]
    return sources, tests


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does: the fork and the server of PostgreSQL end with this process."""
    raise KeyboardInterrupt


def main() -> int:
    """Try mutants; the exit code is 0 if all were killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"groups ({', '.join(GROUPS)}) or modules of them; all")
    parser.add_argument("--sample", type=int, default=0, help="try that many, chosen by the seed; all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lines", default="", help="only mutants of these lines: 10-20")
    parser.add_argument(
        "--results", default=str(ROOT / ".venv" / "mutants" / "results.jsonl"), help="the file of results"
    )
    parser.add_argument("--tests", nargs="*", help="collect these instead of those that stand in GROUPS")
    parser.add_argument(
        "--again", action="store_true", help="try survivors once more, and no others, since tests were added"
    )
    parser.add_argument("--report", action="store_true", help="only print what the file of results holds")
    options = parser.parse_args()
    sources, tests = sources_of(options.names)
    if not options.report:
        os.nice(10)
        os.chdir(ROOT)
        os.environ.pop("FIRMPLAN_SEED", None)
        sys.dont_write_bytecode = False
        signal.signal(signal.SIGTERM, _interrupt)
        with tempfile.TemporaryDirectory(prefix="firmplan-mutants-") as folder:
            words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "tmp_path_retention_policy=none"]
            runner = Runner(options, sources)
            code = pytest.main(
                [
                    *words,
                    f"--basetemp={folder}/t",
                    *(options.tests or [path for path in tests if Path(path).exists()]),
                ],
                plugins=[runner],
            )
            if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                return int(code)
    results = Results(options.results)
    print(results.report(sources))
    return int(bool(results.survivors))


if __name__ == "__main__":
    sys.exit(main())
