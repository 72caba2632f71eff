"""Laws of kept fingerprints: the kept fingerprint of a tool is the fingerprint that a new walk makes, whatever has changed in the program."""

import importlib.util
import sys
import types
from dataclasses import replace

import pytest
from firmplan.tools.fingerprint.fingerprint import fingerprint_of

SOURCE = '''
import json
import math
import types
from typing import Annotated
from firmplan import tool

RATE = 3
PAIR = (1, ("a", 2.5))
TABLE = {"a": 1}
LIST = [1]


class Page:
    size = 3


def double(x, times=2, *, offset=0):
    """Double."""
    return x * times + offset


def other(x):
    return x + 1


def made(factor):
    def scale(x):
        return x * factor
    return scale


scale = made(4)


@tool(effect="pure")
def plain(x: int) -> Annotated[float, "euros"]:
    return double(x) + RATE + PAIR[0] + scale(x) + math.floor(x) + len(json.dumps(x)) + abs(x)


@tool(effect="pure")
def table(x: int) -> int:
    return TABLE["a"] + LIST[0] + x


@tool(effect="pure")
def paged(x: int) -> int:
    return Page.size + x


@tool(effect="pure", fingerprint_extra={"model": "a"})
def extra(x: int) -> int:
    return x
'''


@pytest.fixture
def module(tmp_path):
    """Return a module of a project, imported from a file."""
    path = tmp_path / "observed_module.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("observed_module", path)
    made = sys.modules["observed_module"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    yield made
    del sys.modules["observed_module"]


def _capture(fn, value):
    fn.__closure__[0].cell_contents = value


CHANGES = {
    "constant": ("plain", lambda m: setattr(m, "RATE", 4)),
    "constant of another type": ("plain", lambda m: setattr(m, "RATE", 3.0)),
    "tuple": ("plain", lambda m: setattr(m, "PAIR", (1, ("a", 2.6)))),
    "function": ("plain", lambda m: setattr(m, "double", m.other)),
    "code": (
        "plain",
        lambda m: setattr(m.double, "__code__", m.double.__code__.replace(co_consts=(None, 5))),
    ),
    "code of another": ("plain", lambda m: setattr(m.double, "__code__", m.other.__code__)),
    "default": ("plain", lambda m: setattr(m.double, "__defaults__", (3,))),
    "keyword default": ("plain", lambda m: m.double.__kwdefaults__.update(offset=1)),
    "attribute of a function": ("plain", lambda m: setattr(m.double, "unit", "euros")),
    "captured variable": ("plain", lambda m: _capture(m.scale, 5)),
    "function of a module": ("plain", lambda m: setattr(m, "math", types.SimpleNamespace(floor=m.other))),
    "builtin": ("plain", lambda m: setattr(m, "abs", m.other)),
    "name that is gone": ("plain", lambda m: delattr(m, "RATE")),
    "value of a dict": ("table", lambda m: m.TABLE.update(a=2)),
    "item of a list": ("table", lambda m: m.LIST.append(2)),
    "attribute of a class": ("paged", lambda m: setattr(m.Page, "size", 4)),
    "extra": ("extra", lambda m: m.extra.fingerprint_extra.update(model="b")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_program_changes_the_kept_fingerprint(module, change):
    name, make = CHANGES[change]
    tool = getattr(module, name)
    before = fingerprint_of(tool)
    assert before.digest is not None
    assert fingerprint_of(tool) == before

    make(module)

    after = fingerprint_of(tool)
    assert after == fingerprint_of(replace(tool))
    assert after != before


def test_the_fingerprint_of_functions_and_constants_is_kept(module):
    assert fingerprint_of(module.plain) is fingerprint_of(module.plain)


@pytest.mark.parametrize("name", ["table", "paged", "extra"])
def test_values_that_can_change_themselves_are_read_each_time(module, name):
    tool = getattr(module, name)

    assert fingerprint_of(tool) is not fingerprint_of(tool)


def test_a_change_that_is_taken_back_gives_the_first_fingerprint(module):
    before = fingerprint_of(module.plain)
    module.RATE = 4
    assert fingerprint_of(module.plain) != before
    module.RATE = 3

    assert fingerprint_of(module.plain) == before
