"""The law of wrong reuse: an edit that changes what a tool returns changes its fingerprint, or there is none and it is told why.

The oracle is the tool itself: it is called before and after the edit, and must return different things. Each row is a way in
which Python lets code reach code.
"""

import asyncio
import importlib
import inspect
import itertools
import json
import sys

import pytest
from firmplan.tools import Toolset, lint
from firmplan.tools.fingerprint.fingerprint import fingerprint_of

NUMBERS = itertools.count()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function from source to the tool `f` in it, loaded from a folder of its own; `beside` is the text of module `other`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(json, "of_test", None, raising=False)  # gone after the test
    loaded = []

    def made(source, beside=""):
        number = next(NUMBERS)
        folder = tmp_path / str(number)
        folder.mkdir()
        other = f"other_{number}"
        (folder / f"{other}.py").write_text(beside)
        (folder / "tools.py").write_text(
            f"from firmplan import tool, agent\n{source.replace('other', other)}"
        )
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        loaded.append(other)
        return Toolset.load(folder / "tools.py").get("f")

    yield made
    for name in loaded:
        sys.modules.pop(name, None)


def tool_of(helpers, expression):
    return f'{helpers}\n@tool(effect="pure")\ndef f(x: int) -> object:\n    return {expression}\n'


def outcome(found):
    result = found(1)
    return repr(asyncio.run(result) if inspect.isawaitable(result) else result)


def story(found):
    """What is known of a tool while nothing else is loaded: fingerprint, what is unseen, what it returns."""
    return found.fingerprint, found.unseen, outcome(found)


DESCRIPTOR = "class D:\n    def __init__(s, v): s.v = v\n    def __get__(s, i, o): return s.v\n"
NAMED = (
    "from typing import Annotated\nfrom pydantic import Field, TypeAdapter\ndef fits(kind, value):\n"
    "    try: return repr(TypeAdapter(kind).validate_python(value))\n    except ValueError: return 'no'\n"
)
SEEN = {
    # what a class holds that its text does not say
    "method_set_outside": ("class A: pass\ndef go(self): return 1\nA.go = go", "return 1", "return 2", "A().go()"),
    "method_set_in_a_loop": ("class A: pass\nfor n in ['go']: setattr(A, n, lambda s, v=1: v)", "v=1", "v=2", "A().go()"),
    "special_method_set_outside": ("class A: pass\ndef c(self): return 1\nA.__call__ = c", "return 1", "return 2", "A()()"),
    "cached_method_set_outside": ("from functools import cache\nclass A: pass\nA.go = cache(lambda self: 1)", ": 1", ": 2", "A().go()"),
    "bound_method_set_outside": ("import types\nclass A: pass\nclass B:\n    def go(self): return 1\nA.go = B().go", "return 1", "return 2", "A.go()"),
    "property_set_outside": ("class A: pass\nA.n = property(lambda self: 1)", ": 1", ": 2", "A().n"),
    "descriptor_in_the_body": (f"{DESCRIPTOR}class A:\n    n = D(1)", "D(1)", "D(2)", "A().n"),
    "descriptor_set_outside": (f"{DESCRIPTOR}class A: pass\nA.n = D(1)", "D(1)", "D(2)", "A().n"),
    "class_set_outside": ("class B: R = 1\nclass C: R = 2\nclass A: pass\nA.M = B", "= B", "= C", "A.M.R"),
    "value_of_an_inner_class": ("class A:\n    class B: pass\nA.B.n = 1", "n = 1", "n = 2", "A.B.n"),
    "underscored_attribute": ("class A: pass\nA._rate_ = 1", "= 1", "= 2", "A._rate_"),
    "method_of_an_enum": ("from enum import Enum\nclass E(Enum): A = 1\ndef go(s): return 1\nE.go = go", "return 1", "return 2", "E.A.go()"),
    "attribute_of_a_member": ("from enum import Enum\nclass E(Enum): A = 1\nE.A.rate = 1", "rate = 1", "rate = 2", "E.A.rate"),
    "registered_with_an_abstract_class": ("from abc import ABC\nclass V(ABC): pass\nclass Q: pass\nV.register(Q)", "V.register(Q)", "pass", "isinstance(Q(), V)"),
    "registered_with_a_method": (
        ("from functools import singledispatchmethod\nclass A:\n    @singledispatchmethod\n    def go(s, v): return 0\n"
        "A.__dict__['go'].register(int, lambda s, v: 1)"), "v: 1", "v: 2", "A().go(x)",
    ),
    "partial_method": ("from functools import partialmethod\nR = 1\nclass A:\n    def _go(s, v): return v\n    go = partialmethod(_go, R)", "R = 1", "R = 2", "A().go()"),
    "decorated_method": (
        ("def d(n):\n    def o(fn):\n        def w(*a): return n\n        return w\n    return o\nclass A: pass\n"
        "def go(s): return 0\nA.go = d(1)(go)"), "d(1)", "d(2)", "A().go()",
    ),
    # mutable state and its initial value
    "memory_filled_by_key": ("C = {}\nC['a'] = 1\ndef g(x):\n    C.setdefault('b', 2)\n    return C['a']", "= 1", "= 5", "g(x)"),
    "memory_filled_by_method": ("C = {}\nC.update(a=1)\ndef g(x):\n    C['b'] = 2\n    return C['a']", "a=1", "a=5", "g(x)"),
    "memory_filled_in_a_loop": ("def v(k): return 1\nC = {}\nfor k in 'ab': C[k] = v(k)\ndef g(x):\n    C['z'] = 2\n    return C['a']", "return 1", "return 5", "g(x)"),
    "memory_filled_by_a_call": ("def fill(d): d['a'] = 1\nC = {}\nfill(C)\ndef g(x):\n    C['z'] = 2\n    return C['a']", "= 1", "= 5", "g(x)"),
    "memory_of_several_names": ("A, C = 1, {'a': 1}\ndef g(x):\n    C['z'] = 2\n    return C['a']", "'a': 1", "'a': 5", "g(x)"),
    "memory_that_code_is_registered_in": (
        "C = {}\ndef reg(g):\n    C[g.__name__] = g\n    return g\n@reg\ndef a(x): return 1\ndef g(x):\n    C['z'] = 2\n    return C['a'](x)",
        "return 1", "return 5", "g(x)",
    ),
    "captured_memory": (
        "def make():\n    kept = {'a': 1}\n    def g(x):\n        kept['b'] = x\n        return kept['a']\n    return g\nh = make()", "'a': 1", "'a': 5", "h(x)",
    ),
    # what decorators and wrappers were given
    "wrapper_in_the_text": (
        ("from tenacity import retry, stop_after_attempt, RetryError\nn = [0]\n@retry(stop=stop_after_attempt(2))\ndef g(x):\n"
        "    n[0] += 1\n    if n[0] < 5: raise ValueError\n    return 1\ndef h(x):\n    try: return g(x)\n    except RetryError: return 0"),
        "attempt(2)", "attempt(9)", "h(x)",
    ),
    "wrapped_function": ("from functools import wraps\ndef g(a): return 1\n@wraps(g)\ndef h(a): return h.__wrapped__(a)", "return 1", "return 2", "h(x)"),
    "attribute_found_by_name": ("def g(): return getattr(g, 'table')\ng.table = 1", "table = 1", "table = 2", "g()"),
    "attribute_of_an_alias": ("def g():\n    me = g\n    return me.table\ng.table = 1", "table = 1", "table = 2", "g()"),
    "special_attribute_of_a_function": ("def g(): return g.__table__\ng.__table__ = 1", "__table__ = 1", "__table__ = 2", "g()"),
    # types that stand as values, and what pydantic keeps of them
    "constraint_of_a_named_type": (f"{NAMED}N = Annotated[int, Field(ge=0)]", "ge=0", "ge=5", "fits(N, x)"),
    "constraint_without_a_class": (f"{NAMED}N = Annotated[str, Field(pattern='a')]", "'a'", "'b'", "fits(N, 'a')"),
    "strictness_of_a_named_type": (f"{NAMED}N = Annotated[int, Field(strict=True)]", "True", "False", "fits(N, '1')"),
    "constraint_of_an_adapter": (f"{NAMED}A = TypeAdapter(Annotated[int, Field(ge=0)])\ndef h(x):\n    try: return A.validate_python(x)\n    except ValueError: return 0", "ge=0", "ge=5", "h(x)"),
    "settings_of_an_adapter": (f"{NAMED}A = TypeAdapter(str, config={{'str_to_upper': True}})", "True", "False", "A.validate_python('a')"),
    "field_changed_afterwards": (
        "from pydantic import BaseModel\nclass M(BaseModel):\n    n: int = 1\nM.model_fields['n'].default = 2\nM.model_rebuild(force=True)",
        "default = 2", "default = 3", "M().n",
    ),
    "constraint_of_a_field": (f"{NAMED}from pydantic import BaseModel\nF = Field(ge=0)\nclass M(BaseModel):\n    n: int = F", "ge=0", "ge=5", "fits(M, {'n': x})"),
    "bound_of_a_type_variable": (f"{NAMED}from typing import TypeVar\nN = TypeVar('N', bound=Annotated[int, Field(ge=0)])", "ge=0", "ge=5", "fits(N, x)"),
    "type_that_stands_as_text": (
        f"{NAMED}from typing import Optional\nfrom pydantic import BaseModel\nN = Optional['Q']\nclass Q(BaseModel):\n    n: int = 1\ndef h(x): return TypeAdapter(N).validate_python({{}}).n",
        "= 1", "= 2", "h(x)",
    ),
    "type_that_stands_as_text_in_a_list": (
        f"{NAMED}from pydantic import BaseModel\nN = list['Q']\nclass Q(BaseModel):\n    n: int = 1\ndef h(x): return TypeAdapter(N).validate_python([{{}}])[0].n",
        "= 1", "= 2", "h(x)",
    ),
    "argument_of_a_generic_model": (
        "from typing import Annotated\nfrom pydantic import AfterValidator, RootModel\nN = Annotated[int, AfterValidator(lambda v: v + 1)]\nclass M(RootModel[list[N]]): pass",
        "v + 1", "v + 2", "M([1]).root",
    ),
    "text_below_a_field": (
        "from pydantic import BaseModel, ConfigDict\nclass M(BaseModel):\n    model_config = ConfigDict(use_attribute_docstrings=True)\n    n: int = 1\n    'one'",
        "'one'", "'two'", "M.model_fields['n'].description",
    ),
    "bound_of_a_queue": (
        "from collections import deque\nQ = deque([1, 2], maxlen=3)\ndef h(x):\n    q = Q.copy()\n    q.extend([5, 6])\n    return list(q)",
        "maxlen=3", "maxlen=2", "h(x)",
    ),
    # other tools, other modules
    "prompt_of_an_agent": ("@agent\ndef g(t: str) -> str:\n    'one ${t}'", "one", "two", "g.request_of({'t': 'a'}).messages[-1].content"),
    "set_in_a_standard_module": ("import json\ndef d(v): return 1\njson.of_test = d", "return 1", "return 2", "json.of_test(x)"),
    "default_of_a_context_variable": ("from contextvars import ContextVar\nR = ContextVar('r', default=1)", "=1", "=2", "R.get()"),
    # docstrings that somebody reads
    "schema_of_a_model": ("from pydantic import BaseModel\nclass M(BaseModel):\n    'one'\n    n: int", "one", "two", "M.model_json_schema()['description']"),
    "model_handed_to_a_client": (
        ("from pydantic import BaseModel\nclass M(BaseModel):\n    'one'\n    n: int\n"
        "class Client:\n    def ask(self, form): return getattr(form, '__' + 'doc__')\n"
        "def h(x):\n    client = Client()\n    return client.ask(form=M)"), "one", "two", "h(x)",
    ),
    "function_offered_as_a_tool": (
        ("class Client:\n    def ask(self, tools): return getattr(tools[0], '__' + 'doc__')\ndef search(q):\n    'one'\n"
        "def h(x):\n    client = Client()\n    return client.ask(tools=[search])"), "one", "two", "h(x)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", SEEN)
def test_what_changes_the_result_changes_the_fingerprint(load, way):
    """Whatever the way in which code reaches code: another result is another fingerprint."""
    helpers, old, new, expression = SEEN[way]
    before = story(load(tool_of(helpers, expression)))
    after = story(load(tool_of(helpers.replace(old, new), expression)))
    assert before[1] is after[1] is None
    assert before[0] != after[0]
    assert before[2] != after[2]


OTHER = {
    "attribute": ("import other", "other.R"),
    "all_names": ("from other import *", "R"),
    "either_module": ("try:\n    import nowhere as o\nexcept ImportError:\n    import other as o", "o.R"),
    "attribute_that_is_computed": ("import other", "other.S"),
    "class_that_reads_it": ("import other\nclass A:\n    R = other.R", "A.R"),
}


@pytest.mark.parametrize("way", OTHER)
def test_values_of_other_modules_count(load, way):
    """Star imports, imports in branches and module-level `__getattr__` lead to the same value as plain ones."""
    helpers, expression = OTHER[way]
    beside = "R = {}\ndef __getattr__(name):\n    if name == 'S': return R\n    raise AttributeError(name)\n"
    before, after = (load(tool_of(helpers, expression), beside.format(value)) for value in (1, 2))
    assert before.unseen is after.unseen is None
    assert before.fingerprint != after.fingerprint
    assert outcome(before) != outcome(after)


def test_a_model_of_another_module_is_handed_over_by_its_path(load):
    """`client.ask(form=forms.M)` hands over the class, and with it the docstring."""
    helpers = (
        "import other\nclass Client:\n    def ask(self, form): return getattr(form, '__' + 'doc__')\n"
        "def h(x):\n    client = Client()\n    return client.ask(form=other.M)"
    )
    beside = "from pydantic import BaseModel\nclass M(BaseModel):\n    '{}'\n    n: int\n"
    before, after = (load(tool_of(helpers, "h(x)"), beside.format(word)) for word in ("one", "two"))
    assert before.fingerprint != after.fingerprint
    assert None not in (before.fingerprint, after.fingerprint)
    assert outcome(before) != outcome(after)


TOLD = {
    "alias_of_eval": ("e = eval\nR = 1", "R = 1", "R = 2", "e('R')"),
    "eval_of_a_module": ("import builtins\nR = 1", "R = 1", "R = 2", "builtins.eval('R')"),
    "eval_in_a_table": ("T = {'e': eval}\nR = 1", "R = 1", "R = 2", "T['e']('R')"),
    "docstring_by_inspect": ("import inspect\ndef h(): 'one'", "one", "two", "inspect.getdoc(h)"),
    "source_by_inspect": ("import inspect\ndef h(): pass # one", "# one", "# two", "inspect.getsource(h)"),
    "wrapper_made_by_a_call": (
        ("from tenacity import retry, stop_after_attempt, RetryError\nn = [0]\ndef g(x):\n    n[0] += 1\n    if n[0] < 5: raise ValueError\n"
        "    return 1\nk = retry(stop=stop_after_attempt(2))(g)\ndef h(x):\n    try: return k(x)\n    except RetryError: return 0"),
        "attempt(2)", "attempt(9)", "h(x)",
    ),
    "class_in_a_branch": (
        "FAST = True\nif FAST:\n    class A:\n        def go(self): return 1\nelse:\n    class A:\n        def go(self): return 2",
        "True", "False", "A().go()",
    ),
    "content_of_a_dict_subclass": ("class D(dict): pass\nd = D(a=1)", "a=1", "a=2", "d['a']"),
    "method_made_of_a_text": ("class A: pass\nexec('def go(s): return 1')\nA.go = go", "return 1", "return 2", "A().go()"),
    "memory_of_an_object": ("class B:\n    def __init__(s, n): s.n = n\nb = B(1)\ndef g(x):\n    b.n += 1\n    return b.n", "B(1)", "B(5)", "g(x)"),
    "captured_memory_that_is_filled": (
        "def make():\n    kept = {}\n    kept['a'] = 1\n    def g(x):\n        kept['b'] = x\n        return kept['a']\n    return g\nh = make()",
        "= 1", "= 5", "h(x)",
    ),
    "captured_memory_that_is_handed_over": (
        "def fill(k): k['a'] = 1\ndef make():\n    kept = {}\n    fill(kept)\n    def g(x):\n        kept['b'] = x\n        return kept['a']\n    return g\nh = make()",
        "= 1", "= 5", "h(x)",
    ),
    "captured_memory_that_is_assigned_twice": (
        "def make():\n    kept = 1\n    kept = 2\n    def g(x):\n        nonlocal kept\n        kept += 1\n        return kept\n    return g\nh = make()",
        "= 2", "= 5", "h(x)",
    ),
    "captured_memory_that_is_given": (
        "def make(n):\n    def g(x):\n        nonlocal n\n        n += 1\n        return n\n    return g\nh = make(1)", "make(1)", "make(5)", "h(x)",
    ),
    "dataclass_made_by_a_call": ("from dataclasses import make_dataclass\nQ = make_dataclass('Q', [('a', int, 1)])", "int, 1", "int, 2", "Q().a"),
    "class_made_by_a_call": ("import types\nclass B: n = 1\nQ = types.new_class('Q', (B,))", "n = 1", "n = 2", "Q.n"),
    "pickled_object": ("import pickle\nclass Q:\n    n = 1\nD = pickle.dumps(Q())", "n = 1", "n = 2", "pickle.loads(D).n"),
}  # fmt: skip


@pytest.mark.parametrize("way", TOLD)
def test_what_cannot_be_followed_is_told(load, way):
    """Where the way is hidden there is no fingerprint, so nothing is reused, and lint says so."""
    helpers, old, new, expression = TOLD[way]
    before, after = load(tool_of(helpers, expression)), load(tool_of(helpers.replace(old, new), expression))
    assert outcome(before) != outcome(after)
    assert before.fingerprint is after.fingerprint is None
    assert "not-reusable" in [remark.code for remark in lint([before])]


BY_NAME = {
    "import_module": ("from importlib import import_module", "import_module('other').R"),
    "resolve_name": ("import pkgutil", "pkgutil.resolve_name('other:R')"),
    "resolve_name_inside": (
        "def h():\n    from pkgutil import resolve_name\n    return resolve_name('other:R')",
        "h()",
    ),
    "dunder_import": ("import builtins", "builtins.__import__('other').R"),
    "modules": ("from sys import modules\nimport other", "modules['other'].R"),
    "names_of_a_module": ("import other", "vars(other)['R']"),
    "getter": ("import operator, other", "operator.attrgetter('R')(other)"),
}


@pytest.mark.parametrize("way", BY_NAME)
def test_modules_that_are_looked_up_by_name_are_told(load, way):
    """A module that is found by its name, or handed around whole, is read in ways that no code shows."""
    helpers, expression = BY_NAME[way]
    before, after = (load(tool_of(helpers, expression), f"R = {value}") for value in (1, 2))
    assert outcome(before) != outcome(after)
    assert before.fingerprint is after.fingerprint is None


OUTSIDE = {
    "file_in_a_helper": ("def h():\n    with open(__file__) as file: return file.read()", "h()", "io.open in h"),
    "text_of_a_path": ("from pathlib import Path\nP = Path(__file__)", "P.read_text()", ".read_text"),
    "context_variable": ("from contextvars import ContextVar\nR = ContextVar('r', default=1)", "R.get()", "the context variable 'r'"),
    "settings_of_decimal": ("import decimal", "str(decimal.getcontext().prec)", "decimal.getcontext"),
}  # fmt: skip


@pytest.mark.parametrize("way", OUTSIDE)
def test_what_is_read_of_the_world_is_told(load, way):
    """What no fingerprint looks at is told of a pure tool, also where a helper reads it."""
    helpers, expression, words = OUTSIDE[way]
    told = [
        remark.message for remark in lint([load(tool_of(helpers, expression))]) if remark.code == "impure"
    ]
    assert any(words in message for message in told), told


NOTHING = {
    "docstring_of_a_helper": ("def h(x):\n    'one'\n    return 1", "one", "two", "h(x)"),
    "docstring_of_a_class": ("class A:\n    'one'\n    def go(self):\n        'one'\n        return 1", "one", "two", "A().go()"),
    "docstring_of_a_model": ("from pydantic import BaseModel\nclass M(BaseModel):\n    'one'\n    n: int", "one", "two", "M(n=1).n"),
    "docstring_of_a_decorated_helper": ("from tenacity import retry\n@retry\ndef h(x):\n    'one'\n    return 1", "one", "two", "h(x)"),
    "docstring_of_a_key": ("def k(v):\n    'one'\n    return v", "one", "two", "sorted([2, 1], key=k)"),
    "logger": ("import logging\nlog = logging.getLogger('one')\ndef h(x):\n    log.info('x')\n    return 1", "one", "two", "h(x)"),
    "text_below_an_attribute": ("class A:\n    n = 1\n    'one'", "one", "two", "A.n"),
    "text_between_statements": ("def h(x):\n    n = 1\n    'one'\n    return n", "one", "two n", "h(x)"),
    "comment_among_methods": ("class A:\n    def a(self): return 1\n    def b(self): return 2", "class A:\n", "class A:\n    # b\n", "A().a()"),
}  # fmt: skip


@pytest.mark.parametrize("way", NOTHING)
def test_what_decides_nothing_changes_nothing(load, way):
    """Docstrings that nobody reads, and loggers' names, are no part of what code does."""
    helpers, old, new, expression = NOTHING[way]
    before, after = load(tool_of(helpers, expression)), load(tool_of(helpers.replace(old, new), expression))
    assert helpers.replace(old, new) != helpers
    assert before.fingerprint == after.fingerprint is not None


COMMON = {
    "validator_before": (
        ("from typing import Annotated\nfrom pydantic import BeforeValidator, TypeAdapter\nN = Annotated[int, BeforeValidator(lambda v: v)]\n"
        "def h(x): return TypeAdapter(N).validate_python(x)"), "h(x)",
    ),
    "generic_model_as_base": ("from pydantic import RootModel\nclass M(RootModel[list[int]]): pass", "M([1]).root"),
    "generic_model_as_value": ("from pydantic import RootModel\nM = RootModel[list[int]]", "M([1]).root"),
    "type_that_holds_itself": ("from typing import Union\nJ = Union[dict[str, 'J'], list['J'], int]\ndef h(x: J) -> J: return x", "h(x)"),
    "module_that_may_be_missing": ("def h(x):\n    try:\n        from nowhere_at_all import g\n    except ImportError:\n        return 1\n    return g(x)", "h(x)"),
    "named_tuple": ("from typing import NamedTuple\nclass N(NamedTuple):\n    a: int = 1\n    def go(self): return self.a", "N().go()"),
    "protocol": (
        ("from typing import Protocol, runtime_checkable\n@runtime_checkable\nclass P(Protocol):\n    def go(self): ...\n"
        "class Q:\n    def go(self): return 1"), "isinstance(Q(), P)",
    ),
    "flags": ("from enum import Flag, auto\nclass F(Flag):\n    A = auto()\n    B = auto()", "(F.A | F.B).value"),
    "frozen_slots": ("from dataclasses import dataclass\n@dataclass(frozen=True, slots=True)\nclass D:\n    n: int = 1\nd = D()", "d.n"),
    "model_with_all": (
        ("from pydantic import BaseModel, ConfigDict, PrivateAttr, computed_field, field_validator\nclass M(BaseModel):\n"
        "    model_config = ConfigDict(frozen=True)\n    n: int = 1\n    _p: int = PrivateAttr(default=3)\n    @field_validator('n')\n"
        "    @classmethod\n    def v(cls, x): return x\n    @computed_field\n    @property\n    def c(self) -> int: return 1"), "M().model_dump()",
    ),
    "generic_model": (
        ("from typing import Generic, TypeVar\nfrom pydantic import BaseModel\nT = TypeVar('T')\n"
        "class P(BaseModel, Generic[T]):\n    n: T"), "P[int](n=1).n",
    ),
    "kinds_of_methods": (
        ("from functools import cached_property, lru_cache, total_ordering\n@total_ordering\nclass A:\n    def __lt__(s, o): return True\n"
        "    def __eq__(s, o): return False\n    @cached_property\n    def n(s): return 1\n    @lru_cache\n    def m(s): return 1\n"
        "    @staticmethod\n    def st(): return 1\n    @classmethod\n    def cl(c): return 1"), "A().n + A.st() + A.cl()",
    ),
    "metaclass": ("class M(type):\n    def __new__(m, n, b, d): return super().__new__(m, n, b, d)\nclass A(metaclass=M):\n    n = 1", "A.n"),
    "several_decorators": ("from functools import lru_cache\nfrom tenacity import retry\n@lru_cache\n@retry\ndef h(x): return 1", "h(x)"),
    "validated_call": ("from pydantic import validate_call\n@validate_call\ndef h(x: int): return 1", "h(x)"),
    "tool_that_is_a_method": ("class S:\n    @tool(effect='pure')\n    def price(self, x: int) -> int: return x\ns = S()", "s.price(x)"),
    "decorator_that_is_a_class": ("class D:\n    def __init__(s, fn): s.fn = fn\n    def __call__(s, *a): return s.fn(*a)\n@D\ndef h(x): return 1", "h(x)"),
    "user_dict": ("from collections import UserDict\nclass U(UserDict):\n    def __missing__(s, k): return 1\nu = U()", "u['a']"),
}  # fmt: skip


@pytest.mark.parametrize("way", COMMON)
def test_common_code_is_seen(load, way):
    """Failing closed is no excuse: what people write every day has a fingerprint, the same one each time it is loaded."""
    helpers, expression = COMMON[way]
    before, after = load(tool_of(helpers, expression)), load(tool_of(f"{helpers}  # edited", expression))
    assert before.unseen is None
    assert before.fingerprint == after.fingerprint
    assert outcome(before) == outcome(after)


KEPT = {
    "cache": ("C = {}\ndef h(x):\n    if x not in C: C[x] = 1\n    return C[x]", "h(x)"),
    "captured_cache": ("def make():\n    kept = {}\n    def g(x):\n        if x not in kept: kept[x] = 1\n        return kept[x]\n    return g\nh = make()", "h(x)"),
    "lazy_client": ("K = None\nclass C:\n    n = 1\ndef h(x):\n    global K\n    if K is None: K = C()\n    return K.n", "h(x)"),
}  # fmt: skip


@pytest.mark.parametrize("way", KEPT)
def test_what_code_keeps_for_itself_does_not_show(load, way):
    """A cache with the same initial state in every process leaves the fingerprint as it was before the first call."""
    helpers, expression = KEPT[way]
    found = load(tool_of(helpers, expression))
    before = fingerprint_of(found)
    assert before.digest is not None
    outcome(found)
    assert fingerprint_of(found) == before
