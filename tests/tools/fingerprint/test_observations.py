"""Laws of kept fingerprints: the kept fingerprint of a tool is the fingerprint that a new walk makes, whatever has changed in the program."""

import importlib.util
import sys
import types

import pytest
from firmplan.tools.fingerprint.fingerprint import fingerprint_of

SOURCE = '''
import abc
import json
import math
import types
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, NamedTuple
from typing_extensions import TypedDict
from pydantic import BaseModel, Field
from firmplan import tool

RATE = 3
PAIR = (1, ("a", 2.5))
TABLE = {"a": 1}
LIST = [1]
SEEN: Final[list[float]] = []
LOG = []
COUNT = 0
HANDLERS = {}


class Root:
    depth = 1


class Trunk:
    depth = 1


class Page(Root):
    size = 3

    def scaled(self, times=2):
        return self.size * times

    @property
    def half(self):
        return self.size / 2

    @classmethod
    def made(cls):
        return cls()


class Shape(abc.ABC):
    sides = 4


class Item(TypedDict):
    name: str
    price: float


class Point(NamedTuple):
    x: int
    y: int = 2


@dataclass
class Part:
    name: str
    tags: list = field(default_factory=list)
    weight: float = 1.5


class Model(BaseModel, strict=True):
    name: str
    count: int = 3
    more: list[Item] = Field(default_factory=list, description="Items")


class Bounded(BaseModel):
    count: int = Field(3, ge=1)


class Box:
    held = [1]


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
def chosen(how: Literal["a", "b"]) -> str:
    return how


@tool(effect="pure")
def plain(x: int) -> Annotated[float, "euros"]:
    return double(x) + RATE + PAIR[0] + scale(x) + math.floor(x) + len(json.dumps(x)) + abs(x)


@tool(effect="pure")
def table(x: int) -> int:
    return TABLE["a"] + LIST[0] + x


@tool(effect="pure")
def paged(x: int) -> int:
    return Page.size + x + isinstance(x, Shape)


@tool(effect="pure")
def typed(item: Item, part: Part, model: Model) -> Item:
    return {"name": part.name, "price": item["price"] * model.count}


@tool(effect="pure")
def pointed(x: int) -> Point:
    return Point(x)


@tool(effect="pure")
def bounded(x: Bounded) -> int:
    return x.count


@tool(effect="pure")
def boxed(x: int) -> int:
    return Box.held[0] + x


@tool(effect="pure")
def noted(x: int) -> int:
    LOG.append(x)
    if not SEEN:
        SEEN.append(x)
    HANDLERS.setdefault("last", [x])
    return len(HANDLERS) + x


@tool(effect="pure")
def counted(x: int) -> int:
    global COUNT
    COUNT += 1
    return COUNT + x


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
    "attribute of a base class": ("paged", lambda m: setattr(m.Root, "depth", 2)),
    "new attribute of a class": ("paged", lambda m: setattr(m.Page, "price", 2)),
    "attribute of a class that is gone": ("paged", lambda m: delattr(m.Page, "size")),
    "method": ("paged", lambda m: setattr(m.Page, "scaled", m.other)),
    "code of a method": (
        "paged",
        lambda m: setattr(m.Page.scaled, "__code__", m.other.__code__),
    ),
    "code of a property": (
        "paged",
        lambda m: setattr(m.Page.half.fget, "__code__", m.other.__code__),
    ),
    "base classes": ("paged", lambda m: setattr(m.Page, "__bases__", (m.Trunk,))),
    "registered class": ("paged", lambda m: m.Shape.register(m.Page)),
    "default of a dataclass": (
        "typed",
        lambda m: setattr(m.Part.__dataclass_fields__["weight"], "default", 2.5),
    ),
    "factory of a dataclass": (
        "typed",
        lambda m: setattr(m.Part.__dataclass_fields__["tags"], "default_factory", m.made),
    ),
    "settings of a dataclass": ("typed", lambda m: setattr(m.Part.__dataclass_params__, "frozen", True)),
    "field of a dataclass": ("typed", lambda m: m.Part.__dataclass_fields__.pop("weight")),
    "default of a model": ("typed", lambda m: setattr(m.Model.model_fields["count"], "default", 4)),
    "factory of a model": (
        "typed",
        lambda m: setattr(m.Model.model_fields["more"], "default_factory", m.made),
    ),
    "description of a model": (
        "typed",
        lambda m: setattr(m.Model.model_fields["more"], "description", "Other items"),
    ),
    "type of a model's field": (
        "typed",
        lambda m: setattr(m.Model.model_fields["count"], "annotation", float),
    ),
    "settings of a model": ("typed", lambda m: m.Model.model_config.update(frozen=True)),
    "other settings of a model": (
        "typed",
        lambda m: (m.Model.model_config.clear(), m.Model.model_config.update(frozen=True)),
    ),
    "attribute of a typed dict": ("typed", lambda m: setattr(m.Item, "unit", "euros")),
    "bound of a model": ("bounded", lambda m: m.Bounded.model_fields["count"].metadata.clear()),
    "item of a list of a class": ("boxed", lambda m: m.Box.held.append(2)),
    "function in mutable state": ("noted", lambda m: m.HANDLERS.update(a=m.other)),
    "function in a list in mutable state": ("noted", lambda m: m.HANDLERS.update(a=[1, m.other])),
    "another container with a function": ("noted", lambda m: setattr(m, "HANDLERS", {"a": m.other})),
    "mutable state that is gone": ("noted", lambda m: delattr(m, "SEEN")),
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
    tool.last_fingerprints.clear()
    assert after == fingerprint_of(tool)
    assert after != before


@pytest.mark.parametrize("name", ["plain", "chosen", "paged", "typed"])
def test_the_fingerprint_of_functions_classes_and_constants_is_kept(module, name):
    tool = getattr(module, name)

    assert fingerprint_of(tool) is fingerprint_of(tool)


@pytest.mark.parametrize("name", ["table", "extra", "bounded", "boxed", "pointed", "counted"])
def test_values_that_can_change_themselves_are_read_each_time(module, name):
    tool = getattr(module, name)

    assert fingerprint_of(tool) is not fingerprint_of(tool)


def test_mutable_state_that_calls_change_is_no_reason_to_read_the_code_again(module):
    """The initial state counts, and the code that is registered; not what calls leave."""
    before = fingerprint_of(module.noted)
    assert before.digest is not None
    module.noted.fn(1)
    module.noted.fn(2)

    assert fingerprint_of(module.noted) is before
    module.noted.last_fingerprints.clear()
    assert fingerprint_of(module.noted) == before

    handler = module.other
    module.HANDLERS["handler"] = handler
    after = fingerprint_of(module.noted)
    assert after != before
    module.other.__code__ = module.double.__code__
    assert fingerprint_of(module.noted) != after


def test_a_change_that_is_taken_back_gives_the_first_fingerprint(module):
    before = fingerprint_of(module.plain)
    module.RATE = 4
    assert fingerprint_of(module.plain) != before
    module.RATE = 3

    assert fingerprint_of(module.plain) == before
