"""The edit matrix: what runs again after each kind of edit, and what is reused. The table in docs/REUSE.md is this one.

A small shop is run, one thing in it is edited, and it is run again on the same store by freshly loaded code. Each row says
which steps must run again; every other step must be reused, and `explain` must name what was edited.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from firmplan import Engine, Toolset
from firmplan.testing import MemoryStore, ScriptedModel
from firmplan.tools.fingerprint import origin
from public import call, plan, within

DOCS = Path(__file__).parents[3] / "docs" / "REUSE.md"

FILES = {
    "shop_tools.py": '''
from firmplan import Context, agent, tool
from shop_models import Greeting, Item
from shop_prices import Rounder, charge, parse_price

RATE = 2


def make_adder(amount):
    def add(n):
        return n + amount
    return add


add = make_adder(5)


@tool(effect="pure")
def price(item: Item, factor: int = 1) -> int:
    """Say what an item costs."""
    total = parse_price(item.label) * factor
    return Rounder().up(add(charge(total))) * RATE


@tool(effect="pure")
def measure(word: str) -> int:
    """Measure a word, by a library."""
    import shop_ruler

    return shop_ruler.length(word)


@tool(effect="pure")
def double(n: int) -> int:
    """Double a number."""
    return n * 2


@tool(effect="read", reuse_for="forever", resource="desk")
def where(ctx: Context) -> str:
    """Say where we are."""
    return f"in {ctx.env('SHOP_REGION')}"


@agent(temperature=0)
def greet(name: str) -> Greeting:
    """Greet ${name} kindly."""
''',
    "shop_prices.py": """
from dataclasses import dataclass
from functools import partial, wraps

from shop_text import digits


def traced(fn):
    @wraps(fn)
    def inner(*args):
        return fn(*args)
    return inner


@dataclass(frozen=True)
class Fee:
    amount: int = 0


def plus(fee, times, n):
    return n + fee.amount * times


charge = partial(plus, Fee(), 1)


@traced
def parse_price(label):
    return int(digits(label))


class Coarse:
    step = 10

    def spread(self, n):
        return n + self.step - 1


class Rounder(Coarse):
    def up(self, n):
        return self.spread(n) // self.step * self.step
""",
    "shop_text.py": """
def digits(text):
    kept = [each for each in text if each.isdigit()]
    return "".join(kept) or "0"


def shout(text):
    return text.upper()
""",
    "shop_models.py": """
from pydantic import BaseModel, field_validator


class Item(BaseModel):
    label: str
    note: str = ""


class Greeting(BaseModel):
    text: str

    @field_validator("text")
    def tidied(cls, text):
        return text.strip()
""",
    "site-packages/shop_ruler/__init__.py": """
def length(word):
    return len(word)
""",
    "site-packages/shop_ruler-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shop-ruler\nVersion: 1.0\n",
    "site-packages/shop_ruler-1.0.dist-info/RECORD": "shop_ruler/__init__.py,,\n",
}
PLAN = plan(
    call("cost", "price", args={"item": {"label": "a pen for 12"}}),
    call("twice", "double", args={"n": "${cost}"}),
    call("size", "measure", args={"word": "pen"}),
    call("place", "where"),
    call("hello", "greet", args={"name": "Ann"}),
    {
        "id": "sale",
        "ask": {"prompt": "Praise a pen", "system": "Be brief", "temperature": 0, "max_tokens": 50},
    },
    call("alone", "double", args={"n": 21}),
    output="${[cost, twice, size, place, hello, sale, alone]}",
)


@dataclass(frozen=True)
class Edit:
    """One row: what is edited, which steps run again, and what their explanation says."""

    name: str
    where: str
    old: str
    new: str
    runs: tuple[str, ...] = ()
    told: str = ""


PRICES, TOOLS, TEXT, MODELS = "shop_prices.py", "shop_tools.py", "shop_text.py", "shop_models.py"
EDITS = (
    Edit("nothing, loaded from another folder", TOOLS, "RATE = 2", "RATE = 2"),
    Edit("a comment", TOOLS, "    total = parse", "    # what it costs\n    total = parse"),
    Edit("a comment in a helper", TEXT, "def digits(text):", "# digits only\ndef digits(text):"),
    Edit("a docstring", TOOLS, '"""Say what an item costs."""', '"""Tell the price of an item."""'),
    Edit(
        "formatting",
        TOOLS,
        "parse_price(item.label) * factor",
        "(\n        parse_price( item.label )\n        * factor\n    )",
    ),
    Edit("an unrelated function in the same file", TEXT, "text.upper()", "text.upper() + '!'"),
    Edit("the order of definitions", TEXT, "\ndef digits", "\nunused = 1\n\n\ndef digits"),
    Edit(
        "a declared setting, such as retries or timeout",
        TOOLS,
        '@tool(effect="pure")\ndef price',
        '@tool(effect="pure", retries=2, timeout=30)\ndef price',
    ),
    Edit("the name of a local variable", TOOLS, "total", "amount_due", ("cost",), "its own code changed"),
    Edit(
        "the name of a parameter of a helper", PRICES, "(label)", "(text)", ("cost",), "parse_price changed"
    ),
    Edit(
        "the tool's own code, same result", TOOLS, "* RATE", "* RATE + 0", ("cost",), "its own code changed"
    ),
    Edit(
        "the tool's own code, another result",
        TOOLS,
        "* RATE",
        "* RATE + 1",
        ("cost", "twice"),
        "its own code changed",
    ),
    Edit("a constant that it reads", TOOLS, "RATE = 2", "RATE = 3", ("cost", "twice"), "RATE changed"),
    Edit(
        "a helper in another module",
        PRICES,
        "return int(digits(label))",
        "return int(digits(label)) + 10",
        ("cost", "twice"),
        "the function parse_price changed",
    ),
    Edit("a helper's helper", TEXT, 'or "0"', 'or "1"', ("cost",), "the function digits changed"),
    Edit(
        "a method",
        PRICES,
        "return self.spread(n) // self.step * self.step",
        "return self.spread(n) // self.step * self.step + 1",
        ("cost", "twice"),
        "Rounder changed",
    ),
    Edit(
        "a base class",
        PRICES,
        "return n + self.step - 1",
        "return n + 2 * self.step - 1",
        ("cost", "twice"),
        "Coarse changed",
    ),
    Edit("a default argument", TOOLS, "factor: int = 1", "factor: int = 4", ("cost", "twice"), ""),
    Edit("a closure value", TOOLS, "make_adder(5)", "make_adder(50)", ("cost", "twice"), "amount changed"),
    Edit("an argument of a partial", PRICES, "Fee(), 1)", "Fee(9), 1)", ("cost", "twice"), "charge changed"),
    Edit(
        "a decorator of a helper",
        PRICES,
        "return fn(*args)",
        "return fn(*args) + 10",
        ("cost", "twice"),
        "the function traced.<locals>.inner changed",
    ),
    Edit(
        "the default of a dataclass field",
        PRICES,
        "amount: int = 0",
        "amount: int = 20",
        ("cost", "twice"),
        "Fee changed",
    ),
    Edit("a field of a pydantic model", MODELS, 'note: str = ""', 'note: str = "none"', ("cost",), ""),
    Edit(
        "the version of a dependency",
        "site-packages/shop_ruler-1.0.dist-info/METADATA",
        "Version: 1.0",
        "Version: 2.0",
        ("size",),
        "the package shop-ruler was 1.0, now 2.0",
    ),
    Edit(
        "an environment variable read through `ctx.env`",
        "env",
        "north",
        "south",
        ("place",),
        "the environment variable SHOP_REGION",
    ),
    Edit(
        "a word of an agent's prompt",
        TOOLS,
        "Greet ${name} kindly.",
        "Greet ${name} warmly.",
        ("hello",),
        "the prompt was",
    ),
    Edit(
        "an agent's output schema",
        TOOLS,
        "def greet(name: str) -> Greeting",
        "def greet(name: str) -> list[str]",
        ("hello",),
        "the output schema changed",
    ),
    Edit(
        "a validator of an agent's output type",
        MODELS,
        "text.strip()",
        "text.strip().upper()",
        ("hello",),
        "the class Greeting changed",
    ),
    Edit(
        "an agent's temperature",
        TOOLS,
        "@agent(temperature=0)",
        "@agent(temperature=1)",
        ("hello",),
        "temperature was",
    ),
    Edit(
        "a word of a prompt in the plan",
        "plan",
        "Praise a pen",
        "Praise the pen",
        ("sale",),
        'the prompt was "Praise a pen", now "Praise the pen"',
    ),
    Edit("the system text of a prompt", "plan", "Be brief", "Be long", ("sale",), "the prompt was"),
    Edit(
        "max_tokens of a prompt",
        "plan",
        '"max_tokens": 50',
        '"max_tokens": 60',
        ("sale",),
        "max_tokens was 50, now 60",
    ),
    Edit("the model behind an alias", "model", "m1", "m2", ("hello", "sale"), "the model was"),
    Edit(
        "an argument in the plan",
        "plan",
        '"word": "pen"',
        '"word": "ink pen"',
        ("size",),
        'args.word was "pen", now "ink pen"',
    ),
    Edit("the `why` of a step", "plan", '"id": "alone"', '"id": "alone", "why": "to see"'),
)


class Bench:
    """A folder for each version of the shop, loaded as if by another process."""

    def __init__(self, root, model, monkeypatch):
        self.root = root
        self.model = model
        self.monkeypatch = monkeypatch
        self.store = MemoryStore()

    def load(self, name, edit=None):
        """Write a version of the shop and load its tools."""
        folder = self.root / name
        for path, text in FILES.items():
            if edit is not None and path == edit.where:
                assert edit.old in text
            where = folder / path
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(text if edit is None or path != edit.where else text.replace(edit.old, edit.new))
        for module in [each for each in sys.modules if each.startswith("shop_")]:
            del sys.modules[module]
        kept = [entry for entry in sys.path if str(self.root) not in entry]
        self.monkeypatch.setattr(sys, "path", [*kept, str(folder), str(folder / "site-packages")])
        importlib.invalidate_caches()
        origin._providers.cache_clear()
        origin._version.cache_clear()
        return Toolset.load(folder / "shop_tools.py")

    async def run(self, tools, steps=PLAN, *, model="m1", region="north"):
        """Run the plan with these tools on the one store."""
        self.monkeypatch.setenv("SHOP_REGION", region)
        models = {"default": {"name": model, "base_url": self.model.base_url, "api_key": "k"}}
        async with Engine(tools, store=Kept(self.store), models=models) as engine:
            run = await engine.run(steps)
            assert run.status == "succeeded", run.errors
            told = {path: str(await engine.explain(run.id, path)) for path in run.steps}
            return run, told


class Kept:
    """A store that stays open when an engine closes."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def close(self):
        """Stay open."""


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_exactly_what_must_runs_again(edit, tmp_path, monkeypatch):
    """The steps of the row run again and say why; all others are reused: no wrong reuse, no needless call."""

    async def main():
        async with ScriptedModel(answer_for) as model:
            bench = Bench(tmp_path, model, monkeypatch)
            before, _ = await bench.run(bench.load("one"))
            assert not any(step.reused for step in before.steps.values())
            steps, options = PLAN, {}
            if edit.where == "plan":
                steps = edited_plan(edit)
            elif edit.where in ("model", "env"):
                options = {"model" if edit.where == "model" else "region": edit.new}
            after, told = await bench.run(bench.load("two", edit), steps, **options)
            await bench.store.close()
        ran = tuple(path for path, step in after.steps.items() if not step.reused)
        assert ran == edit.runs, {path: told[path] for path in (*ran, *edit.runs)}
        if edit.runs:
            assert edit.told in told[edit.runs[0]]

    within(main())


def answer_for(request):
    """Answer each request with what its schema wants."""
    text = json.dumps(request)
    return ["Hello"] if '"array"' in text else {"text": "Hello"} if "Greet " in text else "Hello"


def edited_plan(edit):
    """Return the plan with the edit made in its JSON."""
    text = json.dumps(PLAN)
    assert edit.old in text
    return json.loads(text.replace(edit.old, edit.new))


def test_the_table_in_the_docs_is_this_one():
    """Every row of the matrix stands in the docs, with what runs again; the docs have no other row."""
    section = DOCS.read_text(encoding="utf-8").partition("## The edit matrix")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    found = {name: runs for name, runs in rows if name not in ("Edited", "---")}
    assert found == {edit.name: ", ".join(f"`{step}`" for step in edit.runs) or "nothing" for edit in EDITS}
