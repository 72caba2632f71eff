"""LangGraph: a graph with a node a step, and tasks of the functional API; in memory, with its SQLite checkpointer, and with its SQLite cache."""

from __future__ import annotations

import asyncio
import json
import operator
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import dag
from langgraph.cache.sqlite import SqliteCache
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy
from typing_extensions import TypedDict


class State(TypedDict):
    """The graph's state: the values of the steps so far."""

    n: int
    values: Annotated[dict[int, dag.Item], operator.or_]


def node_of(number: int) -> Callable[[State], Awaitable[dict[str, Any]]]:
    """Return the node of a step."""

    async def node(state: State) -> dict[str, Any]:
        n = number if dag.parents_of(number) else number + state["n"]
        return {"values": {number: await dag.step(*dag.given_to(number, state["values"]), n)}}

    return node


def key_of(number: int) -> Callable[[State], str]:
    """Return what makes a node's key: what it reads. The default key, the pickled state, differs with the order in which the state was put together."""
    return lambda state: json.dumps([number, state["n"], dag.given_to(number, state["values"])])


def graph_of(*, cached: bool = False) -> StateGraph[State]:
    """Return the graph; a node waits for its three parents."""
    builder = StateGraph(State)
    for number in range(dag.STEPS):
        policy = CachePolicy(key_func=key_of(number)) if cached else None
        builder.add_node(f"s{number}", node_of(number), cache_policy=policy)
        parents = dag.parents_of(number)
        builder.add_edge([f"s{parent}" for parent in parents] if parents else START, f"s{number}")
    for number in dag.layers()[-1]:
        builder.add_edge(f"s{number}", END)
    return builder


@task
async def step(a: dag.Item, b: dag.Item, c: dag.Item, n: int) -> dag.Item:
    """Add three items."""
    return dag.added(a, b, c, n)


async def workflow(n: int) -> dag.Item:
    """Run the steps as tasks, layer by layer."""
    values: list[dag.Item] = []
    for numbers in dag.layers():
        values += await asyncio.gather(
            *(step(*dag.given_to(number, values), number + (0 if values else n)) for number in numbers)
        )
    return values[-1]


async def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncSqliteSaver.from_conn_string(f"{folder}/checkpoints.db") as saver:
            in_memory, durable = graph_of().compile(), graph_of().compile(checkpointer=saver)
            kept = graph_of(cached=True).compile(cache=SqliteCache(path=f"{folder}/cache.db"))
            tasks = entrypoint(checkpointer=saver)(workflow)

            async def run_graph(graph: Any, n: int) -> dag.Item:
                config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": 1_000}
                return (await graph.ainvoke({"n": n, "values": {}}, config))["values"][dag.STEPS - 1]

            async def run_tasks(n: int) -> dag.Item:
                return await tasks.ainvoke(n, {"configurable": {"thread_id": uuid.uuid4().hex}})

            await dag.measured(
                {
                    "graph, in memory": lambda n: run_graph(in_memory, n),
                    "graph, SQLite checkpointer": lambda n: run_graph(durable, n),
                    "tasks, SQLite checkpointer": run_tasks,
                    "graph, SQLite cache": lambda n: run_graph(kept, n),
                    "graph, all from the cache": lambda n: run_graph(kept, n),
                },
                ["langgraph", "langgraph-checkpoint-sqlite"],
            )


asyncio.run(main())
