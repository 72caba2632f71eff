"""How much the product weighs: lines, code lines, modules and comments of each folder, of this checkout or of revisions side by side.

    python scripts/weight.py [REVISION ..] [--modules]

The product is what users install: tests, benchmarks, scripts, examples and docs do not count. A code line is a line without blank lines, docstrings and comments. A module with one importer is one
that a single other module of the product imports, the `__init__` of its folder aside. `--modules` lists each module with its code lines and its comment lines per 100 of them, least first.
"""

from __future__ import annotations

import argparse
import ast
import collections
import dataclasses
import io
import subprocess
import tokenize
from pathlib import PurePosixPath

NOT_THE_PRODUCT = ("tests/", "benchmarks/", "scripts/", "examples/", "docs/", "deploy/")
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
PACKAGE = "firmplan"


@dataclasses.dataclass(frozen=True)
class Module:
    """One file: its path, its lines, those of code, its comments on lines of their own, and the modules that it imports."""

    path: str
    lines: int
    code: int
    comments: int
    imports: frozenset[str]

    @property
    def folder(self) -> str:
        """The folder at the top of the repository, or "root"."""
        return self.path.split("/")[0] if "/" in self.path else "root"


def main() -> None:
    """Print the table, one column a revision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revisions", nargs="*", default=["HEAD"])
    parser.add_argument(
        "--modules", action="store_true", help="list the modules of the last revision by their comments"
    )
    asked = parser.parse_args()
    weighed = {revision: weigh(revision) for revision in asked.revisions}
    if asked.modules:
        for each in sorted(weighed[asked.revisions[-1]], key=_density):
            print(f"{_density(each):5.1f} {each.code:6,} {each.path}")
        return
    rows = {revision: facts(modules) for revision, modules in weighed.items()}
    names = list(dict.fromkeys(name for found in rows.values() for name in found))
    print("| | " + " | ".join(rows) + " |\n| --- |" + " ---: |" * len(rows))
    for name in names:
        print(f"| {name} | " + " | ".join(str(found.get(name, "")) for found in rows.values()) + " |")


def weigh(revision: str) -> list[Module]:
    """Return the modules of the product at a revision."""
    listed = _git("ls-tree", "-r", "--name-only", revision).splitlines()
    paths = [path for path in listed if path.endswith(".py") and not path.startswith(NOT_THE_PRODUCT)]
    names = {_name_of(path) for path in paths}
    return [_read(path, _git("show", f"{revision}:{path}"), names) for path in paths]


def facts(modules: list[Module]) -> dict[str, str]:
    """Return the rows of the table: of the whole, then the code lines of each folder."""
    code, comments = (sum(getattr(each, name) for each in modules) for name in ("code", "comments"))
    importers = collections.Counter(name for each in modules if not _is_init(each) for name in each.imports)
    lone = sum(1 for each in modules if not _is_init(each) and importers[_name_of(each.path)] == 1)
    rooms = collections.Counter(
        str(PurePosixPath(each.path).parent) for each in modules if not _is_init(each)
    )
    folders = collections.Counter[str]()
    for each in modules:
        folders[each.folder] += each.code
    return {
        "modules": f"{len(modules):,}",
        "lines": f"{sum(each.lines for each in modules):,}",
        "code lines": f"{code:,}",
        "modules with one importer": f"{lone:,}",
        "modules of fewer than 100 lines": f"{sum(1 for each in modules if each.lines < 100):,}",
        "modules in the largest folder": f"{max(rooms.values()):,}",
        "comment lines per 100 code lines": f"{100 * comments / code:.2f}",
        **{f"code lines in {name}": f"{folders[name]:,}" for name in sorted(folders)},
    }


def _read(path: str, source: str, names: set[str]) -> Module:
    tree = ast.parse(source)
    docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    lines = source.splitlines()
    comments = sum(1 for line in lines if line.lstrip().startswith("#"))
    package = [PACKAGE, *PurePosixPath(path).parts[:-1]]
    imports = frozenset(_imports(tree, package, names) - {_name_of(path)})
    return Module(path, len(lines), len(code - docstrings), comments, imports)


def _imports(tree: ast.Module, package: list[str], names: set[str]) -> set[str]:
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            whole = {f"{module}.{alias.name}" for alias in node.names}
            found |= (whole & names) or {module}
    return found & names


def _name_of(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join([PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _is_init(module: Module) -> bool:
    return module.path.endswith("__init__.py")


def _density(module: Module) -> float:
    return 100 * module.comments / max(module.code, 1)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
