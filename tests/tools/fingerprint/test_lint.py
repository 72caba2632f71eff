"""Laws of lint: each remark has a code, a tool, what was seen and what to do; a well-declared tool gets none."""

import random
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from firmplan import Context, Tool, Toolset, tool
from firmplan.tools import lint


def codes(fn, **options) -> list[str]:
    return [remark.code for remark in lint([tool(fn, **options)])]


def plain(x: int) -> int:
    """Return the number unchanged."""
    return x


READ = {"effect": "read", "reuse_for": "1h", "resource": "web", "timeout": 5}
WRITE = {"effect": "write", "resource": "mail", "timeout": 5, "reconcile": lambda key, args: None}


@pytest.mark.parametrize("options", [{"effect": "pure"}, READ, WRITE])
def test_a_well_declared_tool_gets_no_remark(options):
    """Nothing is said where nothing is wrong."""
    assert codes(plain, **options) == []


def test_remarks_say_what_was_seen_and_what_to_do():
    """A remark reads as a sentence with the tool's name and a stable code."""
    (remark,) = lint([tool(plain, effect="read", resource="web", timeout=1)])
    assert (remark.code, remark.tool) == ("no-reuse", "plain")
    assert str(remark) == (
        'plain: a read without reuse_for is called again in every run [no-reuse]; say how old a result may be: reuse_for="1h"'
    )


def test_everything_forgotten_is_told_at_once():
    """A bare `@tool` without a docstring gets a remark for each thing that was left out, in one order."""

    def bare(x: Any) -> Any:
        return x

    assert codes(bare) == [
        "no-description",
        "undeclared-effect",
        "unsafe-after-crash",
        "no-timeout",
        "untyped-result",
        "untyped-argument",
    ]
    assert codes(plain, effect="write") == ["no-resource", "unsafe-after-crash", "no-timeout"]


def test_idempotence_needs_the_key():
    """A write that says it is idempotent but cannot see its key is asked how."""

    def keyed(x: int, *, ctx: Context) -> int:
        """Pay with the key."""
        return x

    options = {"effect": "write", "idempotent": True, "resource": "bank", "timeout": 5}
    assert codes(plain, **options) == ["key-not-used"]
    assert codes(keyed, **options) == []


def test_names_and_arguments_have_a_measure():
    """Overlong names and very many arguments are told."""
    many = Tool.from_callable(
        lambda **_: 1,
        name="n" * 41,
        description="Takes a great deal.",
        parameters={"properties": {f"a{n}": {"type": "integer"} for n in range(11)}},
        returns={"type": "integer"},
        effect="pure",
        version="1",
    )
    assert [remark.code for remark in lint([many])] == ["long-name", "many-arguments"]


def clock(x: int) -> float:
    """Ask the clock."""
    return time.time() + datetime.now().timestamp()  # noqa: DTZ005  # what lint looks for


def dice(x: int) -> float:
    """Throw dice."""
    return random.random()


def file(x: str) -> str:
    """Read a file."""
    with open(x) as found:  # noqa: PTH123  # what lint looks for
        return found.read()


def network(x: str) -> str:
    """Fetch a page."""
    import urllib.request

    return urllib.request.urlopen(x).read().decode()


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (clock, ["datetime.datetime.now", "time.time"]),
        (dice, ["random.random"]),
        (file, ["open"]),
        (network, ["urllib.request.urlopen"]),
    ],
)
def test_pure_tools_that_reach_out_are_told(fn, words):
    """Clocks, dice, files and networks in a pure tool are named; in a read they are nobody's business."""
    remarks = [remark for remark in lint([tool(fn, effect="pure")]) if remark.code == "impure"]
    assert len(remarks) == len(words)
    for remark, word in zip(remarks, words, strict=True):
        assert word in remark.message
    assert "impure" not in codes(fn, **READ)


def test_what_only_looks_like_reaching_out_is_not_told():
    """Intervals, dates from texts, paths, addresses and seeded generators follow from the arguments."""

    def harmless(x: str) -> str:
        """Compute with dates, paths and addresses."""
        import os.path
        from urllib.parse import urlparse

        rolled = random.Random(3).random()
        then = datetime.fromisoformat(x) + timedelta(days=rolled)
        return os.path.join(urlparse(x).path, then.isoformat())  # noqa: PTH118  # what lint looks for

    assert "impure" not in codes(harmless, effect="pure")


def test_tools_that_can_never_be_reused_are_told():
    """A tool whose code cannot be seen in full is told, with the reason."""

    def dynamic(x: str) -> int:
        """Evaluate a text."""
        return eval(x)

    (remark,) = lint([tool(dynamic, effect="pure")])
    assert remark.code == "not-reusable"
    assert "eval" in remark.message
    assert codes(dynamic, effect="pure", version="1") == []


def test_remarks_come_by_tool_name():
    """The order is the same for lists and toolsets."""
    b, a = tool(plain, name="b"), tool(plain, name="a")
    assert lint([b, a]) == lint(Toolset([a, b]))
    assert [remark.tool for remark in lint([b, a])] == ["a"] * 3 + ["b"] * 3


def test_a_read_whose_argument_looks_like_an_address_says_where_it_sends():
    def page(url: str) -> str:
        """Read a page of the web."""
        return url

    def found(**options):
        return [
            each.code for each in lint([tool(page, effect="read", **options)]) if each.code == "no-egress"
        ]

    assert found() == ["no-egress"]
    assert found(egress=("url",)) == found(allow_untrusted=("url",)) == []
