"""Laws of fingerprints: whatever may change a result changes them, nothing else does, and what cannot be seen is said."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import packages_distributions

import pytest
from firmplan.tools import Toolset, tool
from firmplan.tools.fingerprint import origin
from firmplan.tools.fingerprint.fingerprint import fingerprint_of

HEAD = """
from firmplan import tool, Context
"""


@pytest.fixture
def seen(tmp_path):
    """Return a function from source to the fingerprint of the one tool in it, with a helper module beside it."""
    beside = f"helper_{sha256(str(tmp_path).encode()).hexdigest()[:12]}"

    def made(source, helper=""):
        (tmp_path / f"{beside}.py").write_text(textwrap.dedent(helper))
        sys.modules.pop(beside, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        path = tmp_path / "tools.py"
        source = textwrap.dedent(source).replace("helper_module", beside)
        future = "from __future__ import annotations\n" if "__future__" in source else ""
        path.write_text(future + HEAD + source.replace(future, ""))
        try:
            (only,) = Toolset.load(path)
            assert (only.fingerprint is None) == (only.unseen is not None), only.unseen
        finally:
            sys.dont_write_bytecode = before
        return only

    return made


PLAIN = """
@tool(effect="pure")
def f(x: int) -> int:
    return x * 2 + len(str(x))
"""

SAME = {
    "comment": PLAIN.replace("    return", "    # a comment\n    return"),
    "docstring": PLAIN.replace("    return", '    """What it does."""\n    return'),
    "spacing": PLAIN.replace("x * 2 + len(str(x))", "(\n        x*2 +\n        len( str( x ) )\n    )"),
    "place": "\n\nOTHER = 1\n\ndef other(): pass\n" + PLAIN,
    "settings": PLAIN.replace('effect="pure"', 'effect="pure", timeout=3, retries=2, description="Doubles."'),
}


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_matter_changes_nothing(seen, change):
    """Comments, docstrings, formatting, place in the file and declared settings leave the fingerprint alone."""
    assert seen(SAME[change]).fingerprint == seen(PLAIN).fingerprint


CHANGES = {
    "body": (PLAIN, PLAIN.replace("* 2", "* 3"), "function f"),
    "number_kind": (PLAIN, PLAIN.replace("* 2", "* 2.0"), "function f"),
    "true_for_one": (PLAIN.replace("* 2", "* 1"), PLAIN.replace("* 2", "* True"), "function f"),
    "constant": (
        "RATE = 2\n@tool\ndef f(x: int) -> int:\n    return x * RATE",
        "RATE = 3\n@tool\ndef f(x: int) -> int:\n    return x * RATE",
        "constant RATE",
    ),
    "constant_inside": (
        "T = {'a': [1, {'b': (2, 3)}]}\n@tool\ndef f(x: int) -> int:\n    return T",
        "T = {'a': [1, {'b': (2, 4)}]}\n@tool\ndef f(x: int) -> int:\n    return T",
        "constant T",
    ),
    "default": (
        "D = 1\n@tool\ndef f(x: int = D) -> int:\n    return x",
        "D = 2\n@tool\ndef f(x: int = D) -> int:\n    return x",
        "default x",
    ),
    "helper_of_helper": (
        "def a(x): return b(x)\ndef b(x): return x + 1\n@tool\ndef f(x: int) -> int:\n    return a(x)",
        "def a(x): return b(x)\ndef b(x): return x + 2\n@tool\ndef f(x: int) -> int:\n    return a(x)",
        "function b",
    ),
    "nested_function": (
        "def a(x): return x\n@tool\ndef f(x: int) -> int:\n    def g(y):\n        return a(y)\n    return g(x)",
        "def a(x): return -x\n@tool\ndef f(x: int) -> int:\n    def g(y):\n        return a(y)\n    return g(x)",
        "function a",
    ),
    "lambda": (
        "g = lambda x: x + 1\n@tool\ndef f(x: int) -> int:\n    return g(x)",
        "g = lambda x: x + 2\n@tool\ndef f(x: int) -> int:\n    return g(x)",
        "function <lambda>",
    ),
    "closure": (
        "def make(n):\n    @tool\n    def f(x: int) -> int:\n        return x + n\n    return f\nt = make(1)",
        "def make(n):\n    @tool\n    def f(x: int) -> int:\n        return x + n\n    return f\nt = make(2)",
        "captured n",
    ),
    "class": (
        "class A:\n    def go(self): return 1\n@tool\ndef f(x: int) -> int:\n    return A().go()",
        "class A:\n    def go(self): return 2\n@tool\ndef f(x: int) -> int:\n    return A().go()",
        "class A",
    ),
    "base_class": (
        "class B:\n    def go(self): return 1\nclass A(B): pass\n@tool\ndef f(x: int) -> int:\n    return A().go()",
        "class B:\n    def go(self): return 2\nclass A(B): pass\n@tool\ndef f(x: int) -> int:\n    return A().go()",
        "class B",
    ),
    "class_uses": (
        "def h(): return 1\nclass A:\n    def go(self): return h()\n@tool\ndef f(x: int) -> int:\n    return A().go()",
        "def h(): return 2\nclass A:\n    def go(self): return h()\n@tool\ndef f(x: int) -> int:\n    return A().go()",
        "function h",
    ),
    "argument_class": (
        (
            "from pydantic import BaseModel\nclass A(BaseModel):\n    n: int\n    def go(self): return 1\n"
            "@tool\ndef f(x: A) -> int:\n    return x.go()"
        ),
        (
            "from pydantic import BaseModel\nclass A(BaseModel):\n    n: int\n    def go(self): return 2\n"
            "@tool\ndef f(x: A) -> int:\n    return x.go()"
        ),
        "class A",
    ),
    "quoted_argument_class": (
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    n: int\n"
            "    def go(self): return 1\n@tool\ndef f(x: A) -> int:\n    return x.go()"
        ),
        (
            "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    n: int\n"
            "    def go(self): return 2\n@tool\ndef f(x: A) -> int:\n    return x.go()"
        ),
        "class A",
    ),
    "field_class": (
        (
            "from pydantic import BaseModel\nclass M(BaseModel):\n    n: int\n    def go(self): return 1\n"
            "class A(BaseModel):\n    m: M\n@tool\ndef f(x: A) -> int:\n    return x.m.go()"
        ),
        (
            "from pydantic import BaseModel\nclass M(BaseModel):\n    n: int\n    def go(self): return 2\n"
            "class A(BaseModel):\n    m: M\n@tool\ndef f(x: A) -> int:\n    return x.m.go()"
        ),
        "class M",
    ),
    "validator": (
        (
            "from typing import Annotated\nfrom pydantic import AfterValidator\ndef v(x): return x\n"
            "@tool\ndef f(x: Annotated[int, AfterValidator(v)]) -> int:\n    return x"
        ),
        (
            "from typing import Annotated\nfrom pydantic import AfterValidator\ndef v(x): return x + 1\n"
            "@tool\ndef f(x: Annotated[int, AfterValidator(v)]) -> int:\n    return x"
        ),
        "function v",
    ),
    "schema": (
        "@tool\ndef f(x: int) -> int:\n    return x",
        "@tool\ndef f(x: float) -> int:\n    return x",
        "parameters",
    ),
    "decorated": (
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a) + 1\n    return w\n"
            "@d\ndef h(x): return x\n@tool\ndef f(x: int) -> int:\n    return h(x)"
        ),
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a) + 2\n    return w\n"
            "@d\ndef h(x): return x\n@tool\ndef f(x: int) -> int:\n    return h(x)"
        ),
        "function d.<locals>.w",
    ),
    "inside_decorated": (
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a)\n    return w\n"
            "@d\ndef h(x): return x\n@tool\ndef f(x: int) -> int:\n    return h(x)"
        ),
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(*a): return g(*a)\n    return w\n"
            "@d\ndef h(x): return -x\n@tool\ndef f(x: int) -> int:\n    return h(x)"
        ),
        "function h",
    ),
    "cached": (
        "import functools\n@functools.lru_cache(maxsize=8)\ndef h(x): return x\n@tool\ndef f(x: int) -> int:\n    return h(x)",
        "import functools\n@functools.lru_cache(maxsize=8)\ndef h(x): return -x\n@tool\ndef f(x: int) -> int:\n    return h(x)",
        "function h",
    ),
    "decorated_tool": (
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(x): return g(x) + 1\n    return w\n"
            "@tool\n@d\ndef f(x: int) -> int:\n    return x"
        ),
        (
            "import functools\ndef d(g):\n    @functools.wraps(g)\n    def w(x): return g(x) + 2\n    return w\n"
            "@tool\n@d\ndef f(x: int) -> int:\n    return x"
        ),
        "function d.<locals>.w",
    ),
    "partial": (
        "from functools import partial\ndef g(a, x): return a + x\nh = partial(g, 1)\n@tool\ndef f(x: int) -> int:\n    return h(x)",
        "from functools import partial\ndef g(a, x): return a + x\nh = partial(g, 2)\n@tool\ndef f(x: int) -> int:\n    return h(x)",
        "constant h",
    ),
    "method_of_object": (
        "class A:\n    def __init__(self, n): self.n = n\n    @tool\n    def f(self, x: int) -> int:\n        return x + self.n\nt = A(1).f",
        "class A:\n    def __init__(self, n): self.n = n\n    @tool\n    def f(self, x: int) -> int:\n        return x + self.n\nt = A(2).f",
        "entry",
    ),
    "object_constant": (
        "class A:\n    def __init__(self, n): self.n = n\nc = A(1)\n@tool\ndef f(x: int) -> int:\n    return c.n",
        "class A:\n    def __init__(self, n): self.n = n\nc = A(2)\n@tool\ndef f(x: int) -> int:\n    return c.n",
        "constant c",
    ),
    "enum": (
        "from enum import Enum\nclass E(Enum):\n    A = 1\n@tool\ndef f(x: int) -> int:\n    return E.A.value",
        "from enum import Enum\nclass E(Enum):\n    A = 2\n@tool\ndef f(x: int) -> int:\n    return E.A.value",
        "class E",
    ),
    "namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'a b')\n@tool\ndef f(x: int) -> int:\n    return P(1, 2).a",
        "from collections import namedtuple\nP = namedtuple('P', 'b a')\n@tool\ndef f(x: int) -> int:\n    return P(1, 2).a",
        "class P",
    ),
    "pattern": (
        "import re\nP = re.compile('a')\n@tool\ndef f(x: str) -> bool:\n    return bool(P.match(x))",
        "import re\nP = re.compile('a', re.I)\n@tool\ndef f(x: str) -> bool:\n    return bool(P.match(x))",
        "constant P",
    ),
    "table_of_functions": (
        "def a(x): return 1\nT = {'a': a}\n@tool\ndef f(x: int) -> int:\n    return T['a'](x)",
        "def a(x): return 2\nT = {'a': a}\n@tool\ndef f(x: int) -> int:\n    return T['a'](x)",
        "function a",
    ),
    "shadowed_builtin": (
        "@tool\ndef f(x: str) -> int:\n    return len(x)",
        "def len(x): return 3\n@tool\ndef f(x: str) -> int:\n    return len(x)",
        "function len",
    ),
    "version": (
        PLAIN.replace('"pure"', '"pure", version=1'),
        PLAIN.replace('"pure"', '"pure", version=2'),
        "version",
    ),
    "extra": (
        PLAIN.replace('"pure"', '"pure", fingerprint_extra={"prompt": "a"}'),
        PLAIN.replace('"pure"', '"pure", fingerprint_extra={"prompt": "b"}'),
        "fingerprint_extra",
    ),
    "tool_calls_tool": (
        "from firmplan.tools import make_tool\ndef g(x: int) -> int: return 1\nh = [make_tool(g)]\n@tool\ndef f(x: int) -> int:\n    return h[0](x)",
        "from firmplan.tools import make_tool\ndef g(x: int) -> int: return 2\nh = [make_tool(g)]\n@tool\ndef f(x: int) -> int:\n    return h[0](x)",
        "function g",
    ),
    "single_dispatch": (
        (
            "from functools import singledispatch\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 1\n"
            "@tool\ndef f(x: int) -> int:\n    return g(x)"
        ),
        (
            "from functools import singledispatch\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 2\n"
            "@tool\ndef f(x: int) -> int:\n    return g(x)"
        ),
        "function _",
    ),
    "registry": (
        (
            "class R:\n    known = {}\n    @classmethod\n    def add(cls, g): cls.known[g.__name__] = g; return g\n"
            "@R.add\ndef g(x): return 1\n@tool\ndef f(x: int) -> int:\n    return R.known['g'](x)"
        ),
        (
            "class R:\n    known = {}\n    @classmethod\n    def add(cls, g): cls.known[g.__name__] = g; return g\n"
            "@R.add\ndef g(x): return 2\n@tool\ndef f(x: int) -> int:\n    return R.known['g'](x)"
        ),
        "function g",
    ),
    "attribute_of_function": (
        "def g(x): return g.table[x]\ng.table = {1: 2}\n@tool\ndef f(x: int) -> int:\n    return g(x)",
        "def g(x): return g.table[x]\ng.table = {1: 3}\n@tool\ndef f(x: int) -> int:\n    return g(x)",
        "attribute table",
    ),
    "property": (
        "class A:\n    @property\n    def n(self): return 1\na = A()\n@tool\ndef f(x: int) -> int:\n    return a.n",
        "class A:\n    @property\n    def n(self): return 2\na = A()\n@tool\ndef f(x: int) -> int:\n    return a.n",
        "class A",
    ),
    "metaclass": (
        "class M(type):\n    def __call__(cls): return 1\nclass A(metaclass=M): pass\n@tool\ndef f(x: int) -> int:\n    return A()",
        "class M(type):\n    def __call__(cls): return 2\nclass A(metaclass=M): pass\n@tool\ndef f(x: int) -> int:\n    return A()",
        "class M",
    ),
    "class_in_function": (
        "def make(n):\n    class A:\n        def go(self): return n\n    return A\nB = make(1)\n@tool\ndef f(x: int) -> int:\n    return B().go()",
        "def make(n):\n    class A:\n        def go(self): return n\n    return A\nB = make(2)\n@tool\ndef f(x: int) -> int:\n    return B().go()",
        "captured n",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_the_result_changes_the_fingerprint(seen, change):
    """A change of any code, value, type or version that a tool reaches changes its fingerprint, and the part is named."""
    before, after, part = CHANGES[change]
    old, new = seen(before), seen(after)
    assert old.fingerprint is not None
    assert new.fingerprint is not None
    assert old.fingerprint != new.fingerprint
    changed = {
        name
        for name in {*old.fingerprint_parts, *new.fingerprint_parts}
        if old.fingerprint_parts.get(name) != new.fingerprint_parts.get(name)
    }
    assert part in changed


HELPERS = {
    "from_import": "from helper_module import h\n@tool\ndef f(x: int) -> int:\n    return h(x)",
    "attribute": "import helper_module\n@tool\ndef f(x: int) -> int:\n    return helper_module.h(x)",
    "alias": "import helper_module as hm\n@tool\ndef f(x: int) -> int:\n    return [hm.h(y) for y in [x]]",
    "inside": "@tool\ndef f(x: int) -> int:\n    from helper_module import h as g\n    return g(x)",
    "module_inside": "@tool\ndef f(x: int) -> int:\n    import helper_module\n    return helper_module.h(x)",
    "renamed": "from helper_module import h as renamed\n@tool\ndef f(x: int) -> int:\n    return renamed(x)",
}


@pytest.mark.parametrize("way", HELPERS)
def test_helpers_in_other_modules_count(seen, way):
    """However a project function is imported, its change is seen, and a change beside it is not."""
    helper = "def h(x):\n    return x\n"
    first = seen(HELPERS[way], helper)
    beside = seen(HELPERS[way], helper + "def other(): return 1\n")
    changed = seen(HELPERS[way], helper.replace("return x", "return -x"))
    assert first.fingerprint == beside.fingerprint != changed.fingerprint
    assert "function h" in first.fingerprint_parts


UNSEEN = {
    "eval": ("@tool\ndef f(x: int) -> int:\n    return eval('x')", "eval"),
    "globals": ("@tool\ndef f(x: int) -> int:\n    return globals()['y']", "globals"),
    "import_by_name": (
        "import importlib\n@tool\ndef f(x: int) -> int:\n    return importlib.import_module('a').b",
        "importlib",
    ),
    "state": (
        "import socket\ns = socket.socket()\ns.close()\n@tool\ndef f(x: int) -> int:\n    return s.fileno()",
        "socket",
    ),
    "object_state": (
        "class A: pass\na = A()\na.it = iter([1])\n@tool\ndef f(x: int) -> int:\n    return len(list(a.it))",
        "iterator",
    ),
    "module_value": (
        "import helper_module as h\n@tool\ndef f(x: int) -> int:\n    return getattr(h, 'a' + 'b')",
        "module",
    ),
    "foreign_memory": (
        "import sys\nsetattr(sys.modules[__name__], 'C', [])\n@tool\ndef f(x: int) -> int:\n    C.append(x)\n    return len(C)",
        "'C'",
    ),
    "module_write": (
        "import helper_module\n@tool\ndef f(x: int) -> int:\n    helper_module.n = x\n    return x",
        "changes 'helper_",
    ),
    "undefined": ("@tool\ndef f(x: int) -> int:\n    return nowhere(x)", "nowhere"),
    "made_code": (
        "d = {}\nexec('def h(x): return x', d)\nh = d['h']\n@tool\ndef f(x: int) -> int:\n    return h(x)",
        "no source",
    ),
    "subclasses": (
        "class A: pass\n@tool\ndef f(x: int) -> int:\n    return len(A.__subclasses__())",
        "subclasses",
    ),
    "sys_modules": ("import sys\n@tool\ndef f(x: int) -> int:\n    return sys.modules['a']", "sys"),
    "lazy_object": (
        "class P:\n    def __getattribute__(self, name): raise RuntimeError('unbound')\np = P()\n@tool\ndef f(x: int) -> int:\n    return p.x",
        "unbound",
    ),
    "docstrings": ("@tool\ndef f(x: int) -> str:\n    return f.__doc__", "docstring"),
}


WRITTEN_ONLY = {
    "append": "C = {value}\n@tool\ndef f(x: int) -> int:\n    C.append(x)\n    return x",
    "key": "C = {{'n': {value}}}\n@tool\ndef f(x: int) -> int:\n    C['n'] += 1\n    return x",
    "global": "n = {value}\n@tool\ndef f(x: int) -> int:\n    global n\n    n += 1\n    return x",
    "nonlocal": (
        "def make():\n    n = {value}\n    @tool\n    def f(x: int) -> int:\n"
        "        nonlocal n\n        n += 1\n        return x\n    return f\nt = make()"
    ),
}


@pytest.mark.parametrize("way", WRITTEN_ONLY)
def test_what_is_only_written_to_decides_nothing(seen, way):
    """A counter or a log that a tool writes and never reads is no part of its fingerprint, and hides nothing."""
    source = WRITTEN_ONLY[way]
    values = ("[]", "[1]") if way == "append" else ("0", "1")
    first, second = (seen(source.format(value=value)) for value in values)
    assert first.unseen is None
    assert first.fingerprint == second.fingerprint


MEMORIES = {
    "global": "n = {value}\n@tool\ndef f(x: int) -> int:\n    global n\n    n += 1\n    return n",
    "cache": "C = {{0: {value}}}\n@tool\ndef f(x: int) -> int:\n    C[x] = 1\n    return len(C)",
    "append": "C = [{value}]\n@tool\ndef f(x: int) -> int:\n    C.append(x)\n    return len(C)",
    "next": "C = iter([{value}])\n@tool\ndef f(x: int) -> int:\n    return next(C)",
    "from_a_name": "B = {value}\nC = [B]\n@tool\ndef f(x: int) -> int:\n    C.append(x)\n    return len(C)",
}


@pytest.mark.parametrize("way", MEMORIES)
def test_a_memory_counts_by_how_it_begins(seen, way):
    """What a tool changes while it runs counts as the module's source begins it, never as it stands after some calls."""
    first = seen(MEMORIES[way].format(value="1"))
    assert first.unseen is None
    before = fingerprint_of(first).digest
    with suppress(StopIteration):
        first(7)
        first(7)
    assert fingerprint_of(first).digest == before
    assert seen(MEMORIES[way].format(value="2")).fingerprint != before


def test_an_object_that_code_changes_is_not_fixed(seen):
    """Which of its attributes the code changes is not followed: fail closed."""
    found = seen(
        "class Box:\n    def __init__(self): self.n, self.rate = 0, 2\nbox = Box()\n"
        "@tool\ndef f(x: int) -> int:\n    box.n += 1\n    return x * box.rate"
    )
    assert found.fingerprint is None
    assert "changes 'box' while it runs" in found.unseen


def test_a_method_counts_its_object(tmp_path, monkeypatch):
    """A method that is a tool is hashed with its object as it was when the fingerprint was made."""
    path = tmp_path / "t.py"
    path.write_text(
        f"{HEAD}class Shop:\n    def __init__(self, rate):\n        self.rate, self.calls = rate, []\n"
        "    @tool\n    def price(self, x: int) -> int:\n        self.calls.append(x)\n"
        "        return x * self.rate\ncheap, dear = Shop(2).price, Shop(3).price\n"
    )
    spec = importlib.util.spec_from_file_location("shop_of_test", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shop_of_test", module)
    spec.loader.exec_module(module)
    before = module.cheap.fingerprint
    assert before is not None
    assert module.cheap(4) == 8
    assert module.cheap.fingerprint == before != module.dear.fingerprint


@pytest.mark.parametrize("way", UNSEEN)
def test_what_cannot_be_seen_is_said(seen, way):
    """Where something cannot be seen there is no digest, and a sentence says what; a declared version settles it."""
    source, word = UNSEEN[way]
    found = seen(source)
    assert found.fingerprint is None
    assert word in found.unseen


def test_a_version_settles_what_cannot_be_seen(tmp_path):
    """With `version`, there is a digest, which the version is part of; `unseen` still tells."""
    path = tmp_path / "t.py"
    digests = []
    for version in (1, 1, 2):
        path.write_text(f"{HEAD}@tool(version={version})\ndef f(x: int) -> int:\n    return eval('x')\n")
        (found,) = Toolset.load(path)
        assert "eval" in found.unseen
        digests.append(found.fingerprint)
    assert digests[0] == digests[1] != digests[2]
    assert all(digests)


def test_a_file_edited_since_its_import_is_not_trusted(tmp_path):
    """When the file no longer says what runs, the fingerprint says so instead of telling of code that does not run."""
    path = tmp_path / "t.py"
    path.write_text(f"{HEAD}@tool\ndef f(x: int) -> int:\n    return x + 1\n")
    (found,) = Toolset.load(path)
    path.write_text(f"{HEAD}@tool\ndef f(x: int) -> int:\n    return x + 2\n")
    assert found.fingerprint is None
    assert "another source" in found.unseen


def test_a_class_edited_since_its_import_is_told_apart_from_the_edited_one(tmp_path):
    """A class without methods compiles to nothing that is kept: what its fields have become says which text ran."""
    text = (
        "from dataclasses import dataclass, field\nfrom firmplan import tool\n"
        "@dataclass\nclass Fee:\n    parts: list = field(default_factory=list)\n"
        "@tool(effect='pure')\ndef f() -> list:\n    return Fee().parts\n"
    )
    (tmp_path / "tools.py").write_text(text)
    running = Toolset.load(tmp_path / "tools.py").get("f")
    (tmp_path / "tools.py").write_text(text.replace("=list)", "=dict)"))
    edited = Toolset.load(tmp_path / "tools.py").get("f")
    assert None not in (running.fingerprint, edited.fingerprint)
    assert running.fingerprint != edited.fingerprint


def test_a_changed_signature_is_an_edit_too(tmp_path):
    """Code that compiles to the same instructions but takes its arguments in another way is not what runs."""
    path = tmp_path / "t.py"
    path.write_text(f"{HEAD}@tool\ndef f(x: int, y: int) -> int:\n    return x + y\n")
    (found,) = Toolset.load(path)
    path.write_text(f"{HEAD}@tool\ndef f(x: int, *, y: int) -> int:\n    return x + y\n")
    assert "another source" in found.unseen


def test_lines_moved_since_the_import_do_not_matter(tmp_path):
    """A function that only moved in its file is still found."""
    path = tmp_path / "t.py"
    path.write_text(f"{HEAD}@tool\ndef f(x: int) -> int:\n    return x + 1\n")
    (before,) = Toolset.load(path)
    (again,) = Toolset.load(path)
    path.write_text(f"{HEAD}\n\nA = 1\n\n@tool\ndef f(x: int) -> int:\n    return x + 1\n")
    assert before.fingerprint == again.fingerprint is not None


LAMBDAS = [
    "lambda x: x",
    "lambda x: 5",
    "lambda x: x + 1",
    "lambda x: x if x else -x",
    "lambda x: not x",
    "lambda x: x and 3",
    "lambda x: [y for y in x]",
    "lambda x: f'{x}'",
    "lambda x: (lambda y: y + x)",
    "lambda *a, k=3, **b: (a, k, b)",
    "lambda x: x.y[0](1)",
    "lambda x: None",
]


@pytest.mark.parametrize("text", LAMBDAS)
def test_every_lambda_is_found(seen, text):
    """Lambdas are told apart, also when several stand on one line."""
    source = "T = [lambda z: 0, {0}, lambda z: 1]\n@tool\ndef f(x: int) -> int:\n    return T"
    found = seen(source.format(text))
    assert found.unseen is None
    assert found.fingerprint != seen(source.format("lambda x: 'other'")).fingerprint


def test_code_that_calls_itself_is_seen_once(seen):
    """Recursion, mutual recursion and values that hold themselves end."""
    found = seen(
        """
        L = [1]
        L.append(L)
        class Node:
            def child(self) -> "Node":
                return Node()
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        @tool
        def f(x: int) -> int:
            return f(x - 1) if even(x) else (L, Node())
        """
    )
    assert found.unseen is None
    assert {"function even", "function odd", "function f", "class Node", "constant L"} <= set(
        found.fingerprint_parts
    )


def test_long_chains_of_calls_need_no_deep_stack(seen):
    """Five thousand functions that call each other are walked without recursion."""
    chain = "\n".join(f"def h{n}(x): return h{n + 1}(x)" for n in range(1500)) + "\ndef h1500(x): return x\n"
    found = seen(chain + "@tool\ndef f(x: int) -> int:\n    return h0(x)\n")
    assert found.unseen is None
    assert "function h1500" in found.fingerprint_parts


def test_each_module_is_of_the_distributions_that_python_finds():
    """Nothing is installed of which the shorter way says otherwise than the standard library."""
    found = {
        name: {each.metadata["Name"] for each in of} for name, of in origin._providers.__wrapped__().items()
    }
    assert found == {name: set(of) for name, of in packages_distributions().items()}


def test_installed_packages_count_by_version(seen, monkeypatch):
    """Another version of a distribution that the code uses is another fingerprint; the standard library has none."""
    source = "import json, orjson\n@tool\ndef f(x: str) -> str:\n    return json.dumps(orjson.loads(x))"
    first = seen(source)
    assert "package orjson" in first.fingerprint_parts
    assert not any("json" in name for name in first.fingerprint_parts if name != "package orjson")
    monkeypatch.setattr("firmplan.tools.fingerprint.origin._version", lambda name: "0.0.0")
    second = seen(source)
    assert second.fingerprint != first.fingerprint
    assert second.fingerprint_parts["package orjson"] == "0.0.0"


def test_constants_are_not_told(seen):
    """Parts hold digests: a key in a module constant is not written into any journal."""
    found = seen("KEY = 'sk-very-secret'\n@tool\ndef f(x: int) -> str:\n    return KEY")
    assert "secret" not in repr(found.fingerprint_parts)


SPREAD = """
import json, logging
from enum import Enum
from pathlib import Path
from typing import NewType
from dataclasses import dataclass
from firmplan import tool
NAMES = {"a", "b", "c", "d", "e"}
FROZEN = frozenset({1, "x", (2, 3)})
@dataclass(frozen=True)
class Price:
    amount: int = 3
    tags: frozenset = FROZEN
PRICE = Price()
Id = NewType("Id", int)
log = logging.getLogger(__name__)
class Kind(Enum):
    A = 1
class One: n = 1
class Two: n = 2
class Three: n = 3
class Four: n = 4
class Five: n = 5
def adder(n): return lambda x: x + n
CLASSES = {One, Two, Three, Four, Five}
ADDERS = {adder(1), adder(2), adder(3), adder(4), adder("5")}
def helper(x): return CLASSES, ADDERS, sorted(NAMES), PRICE, Id(3), log, Kind.A, list[Price], Path(__file__).name
@tool
def f(x: int) -> int:
    return helper(x), {"p", "q", "r"}
"""


def test_every_process_and_place_agrees(tmp_path):
    """Hash seeds, folders, addresses and processes do not show in the fingerprint."""
    told = set()
    script = (
        "import sys; from firmplan import Toolset; kept = [type('Kept', (), {}) for _ in range(int(sys.argv[2]))]; "
        "(t,) = Toolset.load(sys.argv[1]); print(t.fingerprint, t.unseen)"
    )
    for seed in ("0", "1", "42", "77"):
        folder = tmp_path / f"place{seed}"
        folder.mkdir()
        (folder / "mine.py").write_text(SPREAD)
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", script, folder / "mine.py", seed],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1
    assert told.pop().startswith("sha256:")


def test_a_fingerprint_is_made_once():
    """After the first time, asking is reading an attribute."""

    @tool
    def f(x: int) -> int:
        return x

    assert f.fingerprint is f.fingerprint
    assert f.fingerprint_parts is f.fingerprint_parts


def test_same_code_under_another_name_is_told_apart_by_its_code_only(seen):
    """Two tools with the same code have the same parts; the name belongs to the key, not to the code."""
    source = '@tool(name="{}")\ndef f(x: int) -> int:\n    return x'
    assert seen(source.format("a")).fingerprint == seen(source.format("b")).fingerprint


def test_moving_code_changes_nothing(tmp_path, monkeypatch):
    """Which file a helper stands in, and what the file is called, does not count."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    helper = (
        "RATE = 2\nclass Page:\n    def size(self): return RATE\ndef h(x):\n    return x * Page().size()\n"
    )
    mine = "from firmplan import tool\n@tool\ndef f(x: int) -> int:\n    return h(x)\n"
    (tmp_path / "all_in_one.py").write_text(helper + mine)
    (tmp_path / "moved_helper_of_test.py").write_text(helper)
    (tmp_path / "other_name.py").write_text("from moved_helper_of_test import h\n" + mine)
    (one,), (two,) = Toolset.load(tmp_path / "all_in_one.py"), Toolset.load(tmp_path / "other_name.py")
    assert one.fingerprint == two.fingerprint is not None


def test_an_agents_guards_count(seen):
    """The code of a guard decides which answers pass, so it is part of an agent's fingerprint; so is the prompt."""
    source = (
        "from firmplan import agent\ndef short(x): return len(x) < 9\n"
        '@agent(guard=[short])\ndef f(text: str) -> str:\n    """Shorten ${text}."""'
    )
    first, second, third = (
        seen(source),
        seen(source.replace("< 9", "< 8")),
        seen(source.replace("Shorten", "Cut")),
    )
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert "function short" in first.fingerprint_parts
