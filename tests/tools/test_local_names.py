"""Renaming a local variable, and nothing else, leaves a fingerprint as it is; whatever might be told apart changes it."""

from __future__ import annotations

import ast
import re
import textwrap

import pytest
from firmplan.tools.fingerprint.fingerprint import fingerprint_of
from firmplan.tools.fingerprint.syntax import own_names, spelled
from firmplan.tools.toolset import Toolset


def fingerprint(folder, source):
    """Return the fingerprint of the one tool of some source, in which `f` is the tool."""
    path = folder / "tools.py"
    path.write_text(f"from firmplan import tool\n{textwrap.dedent(source)}")
    (only,) = Toolset.load(path)
    return fingerprint_of(only)


def renamed(source, old="old", new="new"):
    return re.sub(rf"\b{old}\b", new, source)


SAME = {
    "assigned": "old = x + 1; return old * 2",
    "changed": "old = x\n    old += 1\n    return old",
    "loop": "total = 0\n    for old in range(x): total += old\n    return total",
    "unpacked": "old, other = x, 1\n    return old + other",
    "comprehension": "return sum(old for old in range(x) if old)",
    "nested_comprehension": "return sum(old for row in [[x]] for old in row)",
    "walrus": "return old if (old := x) else 0",
    "with": "import io\n    with io.StringIO() as old: return len(old.read()) + x",
    "except": "try: return 1 // x\n    except ZeroDivisionError as old: return len(old.args)",
    "f_string": "old = x\n    return len(f'{old!r:>{x}}')",
    "closure": "old = x\n    def inner(): return old\n    return inner()",
    "lambda": "old = x\n    return (lambda: old)()",
    "keyword_value": "old = x\n    return int(str(old), base=10)",
    "deleted": "old = x\n    del old\n    return 1",
    "annotated": "old: int = x\n    return old",
    "in_nested": "def inner():\n        old = x\n        return old\n    return inner()",
}


@pytest.mark.parametrize("case", SAME)
def test_a_local_name_says_nothing(tmp_path, case):
    """However it is bound, and wherever it is used."""
    source = f"@tool(effect='pure')\ndef f(x: int) -> int:\n    {SAME[case]}\n"
    assert "old" in source
    found = fingerprint(tmp_path, source)
    assert found.digest is not None
    assert found == fingerprint(tmp_path, renamed(source))


def test_locals_of_helpers_and_methods_say_nothing_either(tmp_path):
    """The same for all code that a tool reaches."""
    source = """
    class Box:
        size = 2
        def grow(self, by):
            old = self.size + by
            return old

    def helper(x):
        old = Box().grow(x)
        return old

    @tool(effect="pure")
    def f(x: int) -> int:
        return helper(x)
    """
    assert fingerprint(tmp_path, source) == fingerprint(tmp_path, renamed(source))


OTHER = {
    "another_variable": ("a = x; b = 1; return a", "a = x; b = 1; return b"),
    "swapped": ("a, b = x, 1\n    return a - b", "b, a = x, 1\n    return a - b"),
    "joined": ("a = x; b = 2; return a * b", "a = x; a = 2; return a * a"),
    "shadowing_a_parameter": ("a = 1; return x", "x = 1; return x"),
    "a_builtin_taken": ("old = 1; return len([x]) + old", "len = 1; return len + x"),
    "a_global_taken": ("old = 1; return RATE + old", "RATE = 1; return RATE + old if False else RATE"),
    "now_global": ("old = 1; return old", "global old; old = 1; return old"),
    "locals": ("old = x; return len(str(locals()))", "new = x; return len(str(locals()))"),
    "dir": ("old = x; return len(dir())", "longer = x; return len(dir())"),
    "eval": ("old = x; return eval('old')", "new = x; return eval('old')"),
    "word_of_a_text": ("old = x; return look('select old')", "new = x; return look('select old')"),
    "f_string_with_name": ("old = x; return len(f'{old=}')", "new = x; return len(f'{new=}')"),
    "word_of_a_text_outside": ("old = x; return look(QUERY)", "new = x; return look(QUERY)"),
    "a_query": ("old = x; return T().query(x)", "new = x; return T().query(x)"),
    "parameter_of_a_nested_function": (
        "def g(old): return old\n    return g(old=x)",
        "def g(new): return new\n    return g(new=x)",
    ),
    "keyword": ("return int(str(x), base=10)", "return dict(base=x)['base']"),
    "attribute_of_a_local_class": (
        "class A: old = 1\n    return A.old + x",
        "class A: new = 1\n    return A.new + x",
    ),
    "pattern": ("match x:\n        case old: return old", "match x:\n        case new: return new"),
    "import": ("import math as old; return old.floor(x)", "import math as new; return new.floor(x)"),
}


@pytest.mark.parametrize("case", OTHER)
def test_whatever_might_be_told_apart_changes_the_fingerprint(tmp_path, case):
    """Other variables, names that mean something outside, and names that code may look at."""
    head = """
RATE = 2
QUERY = "select * from old"

def look(text):
    return len(text)

class T:
    def query(self, x):
        return x

@tool(effect="pure", version="1")
def f(x: int) -> int:
    """
    one, other = (fingerprint(tmp_path, head.rstrip(" ") + f"    {body}\n") for body in OTHER[case])
    assert one.parts["function f"] != other.parts["function f"]


def names(source):
    (node,) = ast.parse(textwrap.dedent(source)).body
    return own_names(node)


def test_a_head_is_read_where_the_function_stands():
    """Defaults, decorators and annotations mean names outside, also where a local is called like them."""
    source = """
    @mark(a)
    def f(x: b = c) -> d:
        a = b = c = d = e = 1
        return e
    """
    assert names(source) == {"e"}


def test_a_docstring_fixes_no_name():
    """What it says is no part of the code, so that editing it changes nothing."""
    assert names('def f(x):\n    """Return total."""\n    total = x\n    return total') == {"total"}


def test_numbers_stand_for_names_in_the_order_in_which_they_come():
    """Two functions with the same shape have the same text, two with another one have not."""
    one, same, other = (
        spelled(ast.parse(f"def f(x):\n    {body}").body[0], ())
        for body in ("a = x; b = a; return b", "p = x; q = p; return q", "a = x; b = a; return a")
    )
    assert one == same
    assert one != other
