"""A tool in a child process opens its resources there: once a child, and they are closed when the child is not needed any more."""

from __future__ import annotations

import sys

import pytest
from firmplan import Engine, Toolset

SOURCE = """
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from firmplan import Context, resource, tool

HERE = Path(__file__).parent


class Pool:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.uses = 0


@resource
def pool() -> Iterator[Pool]:
    if (HERE / "refuse").exists():
        raise ConnectionError("no database")
    yield Pool()
    (HERE / "closed").write_text(str(os.getpid()))


@resource
def session(pool: Pool, ctx: Context) -> Iterator[str]:
    yield ctx.secret("SHOP_KEY") + ctx.env("SUFFIX", "!")


@tool(effect="read", isolation="process")
def order(session: Annotated[str, session], ctx: Context) -> str:
    ctx.log.warning("ordering", key=session)
    return session


@tool(effect="write", isolation="process")
def use(pool: Pool) -> list[int]:
    pool.uses += 1
    return [pool.pid, os.getpid(), pool.uses]


@tool(effect="read", isolation="process")
def asking(ctx: Context) -> list[int]:
    return [ctx.resource(Pool).pid, os.getpid()]
"""


@pytest.fixture
def tools(tmp_path):
    (tmp_path / "tools.py").write_text(SOURCE)
    return Toolset.load(tmp_path / "tools.py")


def plan_of(*names):
    steps = [
        {"id": f"s{at}", "tool": name, "after": [f"s{at - 1}"] if at else []} for at, name in enumerate(names)
    ]
    return {"firmplan": 1, "steps": steps}


def test_a_child_opens_its_own_and_closes_them(tools, tmp_path):
    """A failure to open is a failure of a write that did nothing; the next call tries again."""
    (tmp_path / "refuse").touch()
    with Engine(tools, store="memory:") as engine:
        (error,) = engine.run_sync(plan_of("use")).errors
        assert (error.code, error.temporary) == ("resource-failed", True)
        assert "'pool' could not be opened: ConnectionError: no database" in error.message
        (tmp_path / "refuse").unlink()
        run = engine.run_sync(plan_of("use", "use", "asking"))
        (one, there, first), (two, _, second), (three, _) = (run.steps[f"s{at}"].output for at in range(3))
        assert one == two == three == there
        assert (first, second) == (1, 2)
        assert not (tmp_path / "closed").exists()
    assert (tmp_path / "closed").read_text() == str(one)


def test_a_resource_of_a_child_reads_secrets_that_are_masked(tools):
    """As one of the engine: with each call that has the resource, also where an earlier call has opened it."""
    with Engine(tools, store="memory:", secrets={"SHOP_KEY": "sesame"}) as engine:
        run = engine.run_sync(plan_of("order", "order"))
        assert [step.output for step in run.steps.values()] == ['${secret("SHOP_KEY")}!'] * 2


def test_nothing_stands_for_a_resource_of_a_child(tools):
    pool_type = sys.modules[tools.get("use").source.__module__].Pool
    with pytest.raises(Exception, match="isolation='process' opens the resource 'pool' in another process"):
        Engine(tools, store="memory:", resources={pool_type: object()})
